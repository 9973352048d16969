/* SPDX-License-Identifier: MIT */
/* Description: log lines whose values want to be something else: escapes, quotes, cuts, formats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdint.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logfmt.h"
#include "base/num.h"

static char line[4096];

/* "value=" and @text through %s, without and with quotes in the format. */
static const char *bare(const char *text)
{
	struct logfmt l;

	logfmt_init(&l, line, sizeof(line));
	logfmt_printf(&l, "v=%s", text);
	line[logfmt_end(&l)] = '\0';
	return line;
}

static const char *quoted(const char *text)
{
	struct logfmt l;

	logfmt_init(&l, line, sizeof(line));
	logfmt_printf(&l, "v=\"%s\" n=%u", text, 7u);
	line[logfmt_end(&l)] = '\0';
	return line;
}

static void values(void **state)
{
	assert_string_equal(bare("/models/a.gguf"), "v=/models/a.gguf");
	assert_string_equal(bare("gr\xc3\xbc\xc3\x9f"), "v=gr\xc3\xbc\xc3\x9f");
	assert_string_equal(bare(""), "v=\"\"");
	assert_string_equal(bare("two words"), "v=\"two words\"");
	assert_string_equal(bare("a=b"), "v=\"a=b\"");
	assert_string_equal(quoted("two words"), "v=\"two words\" n=7");
	assert_string_equal(bare("new\nlevel=error msg=\"x\".gguf"),
			    "v=\"new\\nlevel=error msg=\\\"x\\\".gguf\"");
	assert_string_equal(quoted("new\nlevel=error msg=\"x\".gguf"),
			    "v=\"new\\nlevel=error msg=\\\"x\\\".gguf\" n=7");
	assert_string_equal(quoted("back\\slash\"quote"), "v=\"back\\\\slash\\\"quote\" n=7");
	assert_string_equal(quoted("\t\r\n"), "v=\"\\t\\r\\n\" n=7");
	assert_string_equal(bare("\x1b[31mred\x7f"), "v=\"\\u001b[31mred\\u007f\"");
	assert_string_equal(bare("\xc2\x85"), "v=\"\\u0085\"");		     /* next line */
	assert_string_equal(bare("\xc2\x9b"), "v=\"\\u009b\"");		     /* ESC [ in one */
	assert_string_equal(bare("a\xe2\x80\xa8z"), "v=\"a\\u2028z\"");	     /* line separator */
	assert_string_equal(bare("\xf0\x9f\x98\x80"), "v=\xf0\x9f\x98\x80"); /* above 16 bits */
}

#define BAD "\xef\xbf\xbd"

static void not_utf8(void **state)
{
	assert_string_equal(bare("\xff"), "v=\"" BAD "\"");
	assert_string_equal(bare("a\x80z"), "v=\"a" BAD "z\"");	    /* continues nothing */
	assert_string_equal(bare("\xc3"), "v=\"" BAD "\"");	    /* ends too early */
	assert_string_equal(bare("\xc3\n"), "v=\"" BAD "\\n\"");    /* ... and hides nothing */
	assert_string_equal(bare("\xc0\x8a"), "v=\"" BAD BAD "\""); /* a long newline */
	assert_string_equal(bare("\xe0\x80\x8a"), "v=\"" BAD BAD BAD "\""); /* a longer one */
	assert_string_equal(bare("\xed\xa0\x80"), "v=\"" BAD BAD BAD "\""); /* surrogate */
	assert_string_equal(bare("\xf4\x90\x80\x80"), "v=\"" BAD BAD BAD BAD "\"");
	assert_string_equal(bare("\xf5\x80\x80\x80"), "v=\"" BAD BAD BAD BAD "\"");
}

static void formats(void **state)
{
	char expected[256];
	struct logfmt l;

	logfmt_init(&l, line, sizeof(line));
	logfmt_printf(&l, "%d %i %u %x %5u|%-5u|%05d %lu %llu %zu %lld %.2f %g %c %% %hhu %*d %.*f",
		      -1, 2, 3u, 0xabu, 4u, 5u, 6, 7ul, 18446744073709551615ull, (size_t)9,
		      -10000000000ll, 1.005, 1e300, 'x', 250, 4, 12, 3, 2.0);
	line[logfmt_end(&l)] = '\0';
	snprintf(expected, sizeof(expected),
		 "%d %i %u %x %5u|%-5u|%05d %lu %llu %zu %lld %.2f %g %c %% %hhu %*d %.*f", -1, 2,
		 3u, 0xabu, 4u, 5u, 6, 7ul, 18446744073709551615ull, (size_t)9, -10000000000ll,
		 1.005, 1e300, 'x', 250, 4, 12, 3, 2.0);
	assert_string_equal(line, expected);
	/* a precision counts bytes of the text, before it is escaped, and cuts no character in two
	 * without saying so */
	logfmt_init(&l, line, sizeof(line));
	logfmt_printf(&l, "a=%.3s b=%.*s c=%.1s", "abcdef", 2, "\n\nxx", "\xc3\xbc");
	line[logfmt_end(&l)] = '\0';
	assert_string_equal(line, "a=abc b=\"\\n\\n\" c=\"" BAD "\"");
	/* one that does not end: printf() would read on */
	{
		const char open[3] = { 'a', 'b', 'c' };

		logfmt_init(&l, line, sizeof(line));
		logfmt_printf(&l, "%.3s %.0s.", open, open);
		line[logfmt_end(&l)] = '\0';
		assert_string_equal(line, "abc \"\".");
	}
}

/* The texts below have no quotes of their own. */
static unsigned quotes_of(const char *text)
{
	unsigned n = 0;

	for (; *text; text++)
		n += *text == '"';
	return n;
}

/* Lines that do not fit: whole characters, "..." and closed quotes, never beyond the room. */
static void cuts(void **state)
{
	static const char *const texts[] = { "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
					     "x\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n",
					     "\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc",
					     "x\x01\x02\x03\x04\x05\x06\x07\x08\x0e\x0f\x10\x11" };

	for (size_t room = LOGFMT_RESERVE + 1; room < 64; room++)
		for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
			struct logfmt l;
			size_t n;

			memset(line, '#', sizeof(line));
			logfmt_init(&l, line, room);
			logfmt_printf(&l, "value=\"%s\" after=%d", texts[i], 5);
			n = logfmt_end(&l);
			assert_true(n <= room);
			assert_int_equal(line[room], '#');
			line[n] = '\0';
			if (strstr(line, "after=5"))
				continue;
			assert_non_null(strstr(line, "..."));
			assert_int_equal(quotes_of(line) % 2, 0);
			assert_null(strchr(line, '\n'));
		}
}

/* Reads back what a strict reader of logfmt would: the value at @at, or the test fails. */
static size_t unquote(const char *at, unsigned char *ret)
{
	size_t n = 0;

	assert_int_equal(*at++, '"');
	while (*at != '"') {
		unsigned code;

		assert_true((unsigned char)*at >= ' ' && *at != 0x7f);
		if (*at != '\\') {
			ret[n++] = (unsigned char)*at++;
			continue;
		}
		at++;
		if (*at == 'u') {
			assert_int_equal(sscanf(at + 1, "%4x", &code), 1);
			assert_true(code < 0x80); /* the test's values have no others */
			ret[n++] = (unsigned char)code;
			at += 5;
			continue;
		}
		ret[n++] = *at == 'n'	? '\n'
			   : *at == 't' ? '\t'
			   : *at == 'r' ? '\r'
					: (unsigned char)*at;
		assert_non_null(strchr("ntr\"\\", *at));
		at++;
	}
	assert_string_equal(at, "\" n=7");
	return n;
}

/* Whatever ASCII a value has comes back from the line as it was. */
static void round_trip(void **state)
{
	unsigned char back[256];
	char text[64];

	srand(7);
	for (int i = 0; i < 20000; i++) {
		size_t len = (size_t)rand() % sizeof(text);

		for (size_t k = 0; k < len; k++)
			text[k] = (char)(1 + rand() % 126);
		text[len < sizeof(text) ? len : sizeof(text) - 1] = '\0';
		quoted(text);
		assert_int_equal(unquote(line + 2, back), strlen(text));
		assert_memory_equal(back, text, strlen(text));
	}
	/* any bytes at all: one line of valid UTF-8 that a reader understands */
	for (int i = 0; i < 20000; i++) {
		for (size_t k = 0; k + 1 < sizeof(text); k++)
			text[k] = (char)(1 + rand() % 255);
		text[sizeof(text) - 1] = '\0';
		quoted(text);
		for (const char *p = line; *p; p++)
			assert_true((unsigned char)*p >= ' ' && *p != 0x7f);
		assert_int_equal(mbstowcs(NULL, line, 0) == (size_t)-1, 0);
		assert_non_null(strstr(line, "\" n=7"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values), cmocka_unit_test(not_utf8),	cmocka_unit_test(formats),
		cmocka_unit_test(cuts),	  cmocka_unit_test(round_trip),
	};

	setlocale(LC_CTYPE, "C.UTF-8"); /* for mbstowcs() */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
