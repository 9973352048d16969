/* SPDX-License-Identifier: MIT */
/*
 * Description: the streaming detokeniser: byte-exact for valid text, whole characters at every
 * step, U+FFFD for what is no character, nothing consumed where the room is too small.
 */
#include "test_tokenizer.h"

#include "base/utf8.h"

/* A vocabulary of the 256 bytes (ids 3..258), two pieces that cut characters, a control token. */
static const char *const tokens[] = { "<|end|>", "\xc3\xa6\xc4\xb9", "<think>" };
static const int32_t types[] = { 3, 1, 4 };
static const char *const merges[] = { "a b" };
static const struct vocab small = {
	VOCAB_DEFAULTS, .tokens = tokens, .n_tokens = 3, .types = types,
	.n_types = 3,	.merges = merges, .n_merges = 1, .bytes = true
};

#define BYTE(b) ((uint32_t)(b) + 3)

/* Pushes ids, flushes, and compares; every single answer must be whole characters. */
static void assert_text(const struct tokenizer *t, const uint32_t *ids, size_t n, bool special,
			const char *want, size_t n_want)
{
	size_t bound = detok_bound(t), at = 0;
	char *buf = malloc(bound);
	struct detok d;

	assert_non_null(buf);
	detok_init(&d, t, special);
	for (size_t i = 0; i <= n; i++) {
		ssize_t k = i < n ? detok_push(&d, ids[i], buf, bound)
				  : detok_flush(&d, buf, bound);

		assert_true(k >= 0 && (size_t)k <= n_want - at);
		assert_memory_equal(buf, want + at, (size_t)k);
		for (size_t c = 0, size; c < (size_t)k; c += size) {
			uint32_t cp;

			size = utf8_decode((const uint8_t *)buf + c, (size_t)k - c, &cp);
			assert_true(size > 0);
		}
		at += (size_t)k;
	}
	assert_int_equal(at, n_want);
	assert_int_equal(d.n_tail, 0);
	free(buf);
}

static void assert_bytes(const struct tokenizer *t, const char *in, const char *want)
{
	uint32_t ids[64] = { 0 };
	size_t n = strlen(in);

	for (size_t i = 0; i < n; i++)
		ids[i] = BYTE((uint8_t)in[i]);
	assert_text(t, ids, n, false, want, strlen(want));
}

static void valid_text(void **state)
{
	struct tokenizer *t = make_tokenizer(&small);

	assert_bytes(t, "", "");
	assert_bytes(t, "plain", "plain");
	assert_bytes(t, "\xc3\xa9\xe6\x97\xa5\xf0\x9f\x91\xa9.",
		     "\xc3\xa9\xe6\x97\xa5\xf0\x9f\x91\xa9.");
	assert_bytes(t, "\xf4\x8f\xbf\xbf\xee\x80\x80\xed\x9f\xbf",
		     "\xf4\x8f\xbf\xbf\xee\x80\x80\xed\x9f\xbf");
	tokenizer_destroy(t);
}

#define R "\xef\xbf\xbd"

/* One U+FFFD for each longest valid beginning: what Python's errors="replace" gives. */
static void invalid_bytes(void **state)
{
	struct tokenizer *t = make_tokenizer(&small);

	assert_bytes(t, "\xff", R);
	assert_bytes(t, "a\x80z", "a" R "z");
	assert_bytes(t, "\xe6\x97", R);	     /* cut at the end */
	assert_bytes(t, "\xe6\x97x", R "x"); /* cut by another character */
	assert_bytes(t, "\xe6\xe6\x97\xa5", R "\xe6\x97\xa5");
	assert_bytes(t, "\xc0\xaf", R R); /* overlong */
	assert_bytes(t, "\xe0\x80\xaf", R R R);
	assert_bytes(t, "\xed\xa0\x80", R R R);	      /* surrogate */
	assert_bytes(t, "\xf4\x90\x80\x80", R R R R); /* above U+10FFFF */
	assert_bytes(t, "\xf0\x9f\x91\xff", R R);
	assert_bytes(t,
		     "\xf5"
		     "a",
		     R "a");
	tokenizer_destroy(t);
}

static void tokens_that_cut(void **state)
{
	struct tokenizer *t = make_tokenizer(&small);

	/* token 1 is e6 97: two thirds of a character */
	assert_text(t, IDS(1, BYTE(0xa5)), false, "\xe6\x97\xa5", 3);
	assert_text(t, IDS(1, 1, BYTE(0xa5)), false, R "\xe6\x97\xa5", 6);
	/* a control token is silent unless asked for, a user-defined one is text */
	assert_text(t, IDS(1, 0, BYTE(0xa5), 2), false, "\xe6\x97\xa5<think>", 10);
	assert_text(t, IDS(1, 0, BYTE('a')), true, R "<|end|>a", 11);
	assert_text(t, IDS(BYTE('a'), 4000000000u, BYTE('b')), true, "ab", 2);
	tokenizer_destroy(t);
}

static void no_room(void **state)
{
	struct tokenizer *t = make_tokenizer(&small);
	struct detok d;
	char buf[8];

	detok_init(&d, t, false);
	assert_int_equal(detok_push(&d, BYTE('a'), buf, 0), -ENOSPC);
	assert_int_equal(detok_push(&d, BYTE('a'), buf, 1), 1);
	assert_int_equal(detok_push(&d, 1, buf, 0), 0); /* waits */
	assert_int_equal(detok_push(&d, BYTE(0xa5), buf, 2), -ENOSPC);
	assert_int_equal(detok_push(&d, BYTE(0xa5), buf, 3), 3);
	assert_memory_equal(buf, "\xe6\x97\xa5", 3);
	assert_int_equal(detok_push(&d, 2, buf, 6), -ENOSPC);
	assert_int_equal(detok_push(&d, 1, buf, 0), 0);
	assert_int_equal(detok_push(&d, BYTE('b'), buf, 3), -ENOSPC);
	assert_int_equal(detok_flush(&d, buf, 2), -ENOSPC);
	assert_int_equal(detok_flush(&d, buf, 3), 3);
	assert_int_equal(detok_flush(&d, buf, 0), 0);
	tokenizer_destroy(t);
}

/* Random ids of the real vocabulary: the stream equals the replacement of all bytes at once. */
static void random_ids(void **state)
{
	struct tokenizer *t = open_tokenizer(fixture_path(*state), NULL);
	size_t bound = detok_bound(t);
	char *all = malloc(64 * bound), *want = malloc(64 * bound);
	uint64_t seed = 3;
	uint32_t ids[24];

	assert_non_null(all);
	assert_non_null(want);
	for (unsigned round = 0; round < 20000; round++) {
		size_t n = 0, n_want = 0, size;

		for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
			const char *bytes;

			/* mostly the single bytes, so that characters are cut often */
			ids[i] = next_random(&seed) %
				 (next_random(&seed) % 4 ? 256 : tokenizer_n_vocab(t));
			size = tokenizer_piece(t, ids[i], true, &bytes);
			memcpy(all + n, bytes, size);
			n += size;
		}
		for (size_t i = 0; i < n; i += size) {
			const uint8_t *s = (const uint8_t *)all + i;
			uint32_t cp;

			size = utf8_decode(s, n - i, &cp);
			if (size) {
				memcpy(want + n_want, s, size);
				n_want += size;
				continue;
			}
			for (size = 1; size < utf8_length(s[0]) && i + size < n; size++)
				if (!utf8_continues(s[0], (unsigned)size, s[size]))
					break;
			memcpy(want + n_want, R, 3);
			n_want += 3;
		}
		assert_text(t, ids, ARRAY_LEN(ids), true, want, n_want);
	}
	free(all);
	free(want);
	tokenizer_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(valid_text),	      cmocka_unit_test(invalid_bytes),
		cmocka_unit_test(tokens_that_cut),    cmocka_unit_test(no_room),
		VOCABULARY_TEST(random_ids, BUNDLED), VOCABULARY_TEST(random_ids, PUBLISHED),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
