/* SPDX-License-Identifier: MIT */
/*
 * Description: the hand-made split equals its regular expression, run by PCRE2: on random text made
 * of the characters that matter, on every code point in a few surroundings, and on known cases.
 */
#include "base/opts.h"
#include "test_tokenizer.h"

#include "base/utf8.h"
#include "tests/unit/model/split_oracle.h"

#define TEXT_MOST 640

static void check_split(const struct oracle *o, const char *text, size_t len)
{
	bool ends[TEXT_MOST + 1] = { false };
	size_t at = 0;

	assert_true(len <= TEXT_MOST);
	oracle_cut(o, 0, text, len, ends);
	while (at < len) {
		size_t n = pretok_next(o->p, text + at, len - at), want = 1;

		while (!ends[at + want])
			want++;
		if (n != want) {
			for (size_t i = 0; i < len; i++)
				fprintf(stderr, "%02x%s", (uint8_t)text[i],
					i + 1 == at ? "|" : " ");
			fail_msg("\nat %zu: %zu bytes, %s takes %zu", at, n,
				 pretok_pattern(o->p, 0), want);
		}
		at += n;
	}
}

static const char *const kinds[] = { "gpt-2",  "qwen2",	      "qwen35", "glm4",
				     "gpt-4o", "deepseek-v3", "gemma4" };

/* Characters of every class that the expressions tell apart, the odd ones more than once. */
static const uint32_t alphabet[] = {
	' ',	 ' ',	 ' ',	 '\n',	 '\n',	 '\r',	   '\t',    0x0b,   0x85,   0xa0,   0x1680,
	0x180e,	 0x2003, 0x2028, 0x200b, 0x202f, 0x3000,   0xfeff,  '\'',   '\'',   '\'',   's',
	'S',	 't',	 'r',	 'R',	 'e',	 'E',	   'v',	    'm',    'l',    'L',    'd',
	'x',	 0x17f,	 0xe9,	 0x212a, 0x4e00, 0x10400,  '1',	    '2',    0xb2,   0x2167, 0x660,
	0x1d7ce, 0x301,	 0x301,	 0x93f,	 0xe31,	 0x20dd,   0x1f44d, 0x200d, '.',    '!',    '_',
	'/',	 'A',	 'B',	 'a',	 0x1c5,	 0x2b0,	   0x16a0,  0x3042, 0x30fb, 0x3099, 0x3040,
	0x30ff,	 0x9fa5, 0x9fa6, 0x4dff, '3',	 '4',	   '5',	    0x1,    0x200d, '<',    '=',
	0x2014,	 0xe000, 0x0,	 0x7f,	 0x378,	 0x10ffff,
};

static void random_text(void **state)
{
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		struct oracle o;
		uint64_t seed = 7;

		oracle_init(&o, kinds[k]);
		for (unsigned round = 0; round < 60000; round++) {
			unsigned n = 1 + next_random(&seed) % 14;
			uint8_t text[64];
			size_t len = 0;

			while (n--)
				len += utf8_encode(
					alphabet[next_random(&seed) % ARRAY_LEN(alphabet)],
					text + len);
			check_split(&o, (const char *)text, len);
		}
		oracle_fini(&o);
	}
}

/* Every code point alone, after a space, before a letter, between letters and doubled. */
static void every_code_point(void **state)
{
	static const char *const forms[][2] = { { " ", "a" }, { "a", "\xcc\x81" }, { "'", "\n" } };

	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		struct oracle o;

		oracle_init(&o, kinds[k]);
		for (uint32_t cp = 0; cp < 0x110000; cp += cp < 0x3000 || cp >= 0x1f000 ? 1 : 3) {
			if ((cp >= 0xd800 && cp < 0xe000) || (cp > 0x20000 && cp % 251))
				continue;
			for (size_t f = 0; f < ARRAY_LEN(forms); f++) {
				uint8_t text[16], one[4];
				unsigned n = utf8_encode(cp, one);
				size_t len = 1;

				text[0] = (uint8_t)forms[f][0][0];
				for (unsigned twice = 0; twice < 2; twice++) {
					memcpy(text + len, one, n);
					len += n;
				}
				memcpy(text + len, forms[f][1], strlen(forms[f][1]));
				len += strlen(forms[f][1]);
				check_split(&o, (const char *)text, len);
			}
		}
		oracle_fini(&o);
	}
}

/* Long runs, short enough for an engine that backtracks. */
static void runs(void **state)
{
	static const char *const ends[] = { "", "x", "\n", "\nx", ".", "1", "\n \n", " \n  x" };
	static const char fill[] = { ' ', '\n', '\t', '.', 'a', '1' };
	char text[600];

	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		struct oracle o;

		oracle_init(&o, kinds[k]);
		for (size_t f = 0; f < ARRAY_LEN(fill); f++)
			for (size_t e = 0; e < ARRAY_LEN(ends); e++) {
				memset(text, fill[f], 500);
				strcpy(text + 500, ends[e]);
				check_split(&o, text, strlen(text));
			}
		oracle_fini(&o);
	}
}

/* The pieces, joined by bars. */
static void assert_pieces(const char *kind, const char *text, const char *want)
{
	struct pretok *p = NULL;
	size_t len = strlen(text), at = 0, k = 0;
	char got[256];

	assert_int_equal(pretok_create(kind, &p), 0);
	while (at < len) {
		size_t n = pretok_next(p, text + at, len - at);

		assert_true(n && n <= len - at && k + n + 2 < sizeof(got));
		memcpy(got + k, text + at, n);
		k += n;
		got[k++] = '|';
		at += n;
	}
	got[k] = '\0';
	assert_string_equal(got, want);
	pretok_destroy(p);
}

static void known_pieces(void **state)
{
	assert_pieces("qwen2", "I'VE  got 12\n\n x", "I|'VE| | got| |1|2|\n\n| x|");
	assert_pieces("gpt-2", "I'VE  got 12\n\n x", "I|'|VE| | got| 12|\n\n| x|");
	assert_pieces("qwen2", "'\xc5\xbf' a", "'\xc5\xbf|'| a|"); /* U+017F is an s */
	assert_pieces("gpt-2", "it'\xc5\xbf", "it|'|\xc5\xbf|");   /* but case counts here */
	assert_pieces("qwen2", "\xe1\xa0\x8e.", "\xe1\xa0\x8e.|"); /* U+180E is no space */
	assert_pieces("qwen2", " \xe1\xa0\x8e", " \xe1\xa0\x8e|");
	assert_pieces("qwen2", "e\xcc\x81x", "e|\xcc\x81x|"); /* a mark leads */
	assert_pieces("qwen35", "e\xcc\x81x", "e\xcc\x81x|"); /* a mark belongs */
	assert_pieces("glm4", "it's 12345.6", "it|'s| |123|45|.|6|");
	assert_pieces("gpt-4o", "HTTPServer's fooBar CAN'T", "HTTPServer's| foo|Bar| CAN'T|");
	assert_pieces("gpt-4o", "a!\n/\n b 1234", "a|!\n/\n| b| |123|4|");
	assert_pieces("gpt-4o",
		      "\xe6\x97\xa5"
		      "AB c",
		      "\xe6\x97\xa5|AB| c|");
	assert_pieces("deepseek-v3", "a  12 #tag ok.\n", "a|  |12| #|tag| ok|.\n|");
	assert_pieces("deepseek-v3", "x\xe6\x97\xa5y \xe3\x83\xbb",
		      "x|\xe6\x97\xa5|y| |\xe3\x83\xbb|");
	assert_pieces("gemma4", "a  b\n\n c", "a  b|\n\n| c|");
	assert_pieces("qwen2", "\xff\xfe.a", "\xff\xfe.|a|"); /* bytes that are symbols */
}

static void names(void **state)
{
	static const char *const known[] = {
		"gpt-2",      "phi-2",	"qwen2",   "deepseek-r1-qwen", "stablelm2",
		"megrez",     "qwen35", "glm4",	   "chatglm-bpe",      "gpt-4o",
		"minimax-m2", "llama4", "kanana2", "deepseek-v3",      "hunyuan-dense"
	};
	static const char *const unknown[] = { "", "qwen", "qwen3", "llama-bpe", "gpt2", "QWEN2" };
	struct pretok *p = NULL;
	char all[400];

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		assert_int_equal(pretok_create(known[i], &p), 0);
		pretok_destroy(p);
	}
	for (uint32_t i = 0; opts_choice_text(PRETOK_CHOICES, i, all, sizeof(all))[0]; i++) {
		assert_int_equal(opts_choice(PRETOK_CHOICES, all), i);
		assert_int_equal(pretok_create(all, &p), 0);
		pretok_destroy(p);
	}
	for (size_t i = 0; i < ARRAY_LEN(unknown); i++)
		assert_int_equal(pretok_create(unknown[i], &p), -ENOENT);
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (!strstr(pretok_names(all, sizeof(all)), known[i]))
			fail_msg("\"%s\" does not name %s", all, known[i]);
	pretok_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_text), cmocka_unit_test(every_code_point),
		cmocka_unit_test(runs),	       cmocka_unit_test(known_pieces),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
