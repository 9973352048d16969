/* SPDX-License-Identifier: MIT */
/* Description: stop strings are found, and nothing of them is shown, however the text is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "serve/stops.h"

static const struct stop_text words[] = { { "STOP", 4 }, { "\n\nUser:", 7 }, { "STEP BY", 7 } };

/* What is shown of @text that comes in pieces of @cut bytes. */
static const char *shown(const char *text, size_t cut, const char **ret_hit)
{
	static char all[256];
	static char hit[64];
	struct stops *s = stops_create(words, 3, 64);
	size_t n = 0, len = strlen(text);
	const char *part;

	assert_non_null(s);
	for (size_t at = 0; at < len; at += cut) {
		size_t got = stops_push(s, text + at, at + cut < len ? cut : len - at, &part);

		memcpy(all + n, part, got);
		n += got;
	}
	len = stops_flush(s, &part);
	memcpy(all + n, part, len);
	all[n + len] = '\0';
	*ret_hit = NULL;
	if (stops_hit(s))
		*ret_hit = strcpy(hit, stops_hit(s));
	stops_destroy(s);
	return all;
}

static void every_cut(void **state)
{
	const char *hit;

	for (size_t cut = 1; cut < 40; cut++) {
		assert_string_equal(shown("go on and STOP here", cut, &hit), "go on and ");
		assert_string_equal(hit, "STOP");
		assert_string_equal(shown("an answer\n\nUser: more", cut, &hit), "an answer");
		assert_string_equal(hit, "\n\nUser:");
		assert_string_equal(shown("no STO, no \n\nUse", cut, &hit), "no STO, no \n\nUse");
		assert_null(hit);
		assert_string_equal(shown("SSTSTOP", cut, &hit), "SST");
		assert_string_equal(shown("STEP B STEP BY", cut, &hit), "STEP B ");
	}
}

static void held_back_no_longer_than_needed(void **state)
{
	struct stops *s = stops_create(words, 3, 64);
	const char *part;

	assert_int_equal(stops_push(s, "abc ST", 6, &part), 4);
	assert_int_equal(stops_push(s, "ART", 3, &part), 5);
	assert_memory_equal(part, "START", 5);
	assert_int_equal(stops_flush(s, &part), 0);
	stops_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cut),
		cmocka_unit_test(held_back_no_longer_than_needed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
