/* SPDX-License-Identifier: MIT */
/*
 * Description: vocabularies and texts made to hurt: malformed keys are refused with file and key,
 * merges and special tokens equal a plain reading of their rules, and time stays linear.
 */
#include "test_tokenizer.h"

#include <time.h>

static const char *const two_merges[] = { "a b", "ab c" };

static void assert_refused(const struct vocab *v, const char *pre, const char *key,
			   const char *reason)
{
	struct gguf *g = make_gguf(v);
	struct tokenizer *t = NULL;
	struct err err = { 0 };
	int rc = tokenizer_create(g, pre, &t, &err);

	if (rc >= 0)
		fail_msg("accepted, though it should be refused: %s %s", key, reason);
	assert_null(t);
	if (!strstr(err.text, key) || !strstr(err.text, reason) || !strstr(err.text, "/tmp/"))
		fail_msg("\"%s\" does not say file, %s and %s", err.text, key, reason);
	gguf_destroy(g);
}

static const char *const abc[] = { "a", "b", "c", "ab", "abc" };
static const int32_t plain[] = { 1, 1, 1, 1, 1 };
static const struct vocab good = { VOCAB_DEFAULTS, .tokens = abc, .n_tokens = 5,
				   .types = plain, .n_types = 5,  .merges = two_merges,
				   .n_merges = 2 };

static void malformed(void **state)
{
	static char long_text[70000], long_control[600];
	static const char *const long_tokens[] = { long_text };
	static const char *const control_tokens[] = { long_control };
	static const char *const no_space[] = { "ab" };
	static const char *const leading[] = { " b" };
	static const char *const trailing[] = { "b " };
	static const char *const empty[] = { "" };
	static const int32_t strange[] = { 1, 1, 7, 1, 1 }, negative[] = { 1, -1, 1, 1, 1 };
	static const int32_t control[] = { 3 };
	struct vocab v;

	memset(long_text, 'x', sizeof(long_text) - 1);
	memset(long_control, 'x', sizeof(long_control) - 1);
	v = good, v.model = NULL;
	assert_refused(&v, NULL, "tokenizer.ggml.model", "missing");
	v = good, v.model = "llama";
	assert_refused(&v, NULL, "tokenizer.ggml.model", "not supported");
	v = good, v.pre = NULL;
	assert_refused(&v, NULL, "tokenizer.ggml.pre", "missing");
	v = good, v.pre = "llama-bpe";
	assert_refused(&v, NULL, "tokenizer.ggml.pre", "llama-bpe");
	assert_refused(&good, "nonsense", "tokenizer.ggml.pre", "nonsense");
	v = good, v.pre = "a-name-that-is-longer-than-any-that-we-know-of-and-then-some-more";
	assert_refused(&v, NULL, "tokenizer.ggml.pre", "not known");
	v = good, v.tokens = NULL;
	assert_refused(&v, NULL, "tokenizer.ggml.tokens", "missing");
	v = good, v.n_tokens = v.n_types = 0;
	v.bytes = false, v.types = plain;
	assert_refused(&v, NULL, "tokenizer.ggml.tokens", "no tokens");
	v = good, v.tokens_as_int = true;
	assert_refused(&v, NULL, "tokenizer.ggml.tokens", "strings");
	v = good, v.tokens = long_tokens, v.n_tokens = v.n_types = 1;
	assert_refused(&v, NULL, "tokenizer.ggml.tokens[0]", "longer");
	v.tokens = control_tokens, v.types = control;
	assert_refused(&v, NULL, "tokenizer.ggml.tokens[0]", "longer");
	v = good, v.types = NULL, v.n_types = 0;
	assert_refused(&v, NULL, "tokenizer.ggml.token_type", "missing");
	v = good, v.n_types = 4;
	assert_refused(&v, NULL, "tokenizer.ggml.token_type", "number");
	v = good, v.types = strange;
	assert_refused(&v, NULL, "tokenizer.ggml.token_type[2]", "type");
	v = good, v.types = negative;
	assert_refused(&v, NULL, "tokenizer.ggml.token_type[1]", "type");
	v = good, v.merges = NULL;
	assert_refused(&v, NULL, "tokenizer.ggml.merges", "missing");
	v = good, v.n_merges = 1, v.merges = no_space;
	assert_refused(&v, NULL, "tokenizer.ggml.merges[0]", "space");
	v.merges = leading;
	assert_refused(&v, NULL, "tokenizer.ggml.merges[0]", "space");
	v.merges = trailing;
	assert_refused(&v, NULL, "tokenizer.ggml.merges[0]", "space");
	v.merges = empty;
	assert_refused(&v, NULL, "tokenizer.ggml.merges[0]", "space");
}

/* What a vocabulary may do without harm. */
static void tolerated(void **state)
{
	/* "ab" twice (the last counts), a merge twice (the first counts), merges through absent texts */
	static const char *const tokens[] = { "a", "b", "c", "d", "ab", "ab", "abcd", "", "bc" };
	static const int32_t types[] = { 1, 1, 1, 1, 1, 1, 1, 1, 5 };
	static const char *const merges[] = { "a b", "c d", "ab cd", "a b", "q r", "d d" };
	struct vocab v = { VOCAB_DEFAULTS, .tokens = tokens, .n_tokens = 9, .types = types,
			   .n_types = 9,   .merges = merges, .n_merges = 6 };
	struct tokenizer *t = make_tokenizer(&v);
	uint32_t *ids = NULL;

	assert_encodes(t, "ab", false, IDS(5));
	assert_encodes(t, "abcd", false, IDS(6));  /* through cd, which is no token */
	assert_encodes(t, "cd", false, IDS(2, 3)); /* and falls back to bytes alone */
	assert_encodes(t, "add", false, IDS(0, 3, 3));
	assert_encodes(t, "cda", false, IDS(2, 3, 0));
	/* a byte without a token is not dropped in silence */
	assert_int_equal(tokenizer_encode(t, "az", 2, false, &ids), -EILSEQ);
	assert_int_equal(tokenizer_encode(t, "a", 1ull << 31, false, &ids), -EFBIG);
	tokenizer_destroy(t);
	v.unk = 3;
	t = make_tokenizer(&v);
	assert_encodes(t, "az", false, IDS(0, 3));
	tokenizer_destroy(t);
	tokenizer_destroy(NULL);
}

/* Merges cannot make a control, user-defined or unused token out of plain text. */
static void no_control_by_merging(void **state)
{
	static const char *const tokens[] = { "a", "b", "c", "ab", "bc", "ca" };
	static const int32_t types[] = { 1, 1, 1, 3, 4, 5 };
	static const char *const merges[] = { "a b", "b c", "c a" };
	const struct vocab v = { VOCAB_DEFAULTS, .tokens = tokens, .n_tokens = 6, .types = types,
				 .n_types = 6,	 .merges = merges, .n_merges = 3 };
	struct tokenizer *t = make_tokenizer(&v);

	assert_encodes(t, "ab", false, IDS(0, 1));
	assert_encodes(t, "ab", true, IDS(3));
	assert_encodes(t, "bc", false, IDS(4)); /* user-defined: found in the text */
	assert_encodes(t, "ca", true, IDS(2, 0));
	tokenizer_destroy(t);
}

/* ---- merges against their rule, read plainly ---- */

#define LETTERS 3

struct rule {
	char text[40][12]; /* tokens: the letters, then what each merge makes */
	char merge[40][24];
	unsigned cut[40]; /* length of the left part of merge m */
	unsigned n_merges;
};

static void random_rule(struct rule *r, uint64_t *seed)
{
	unsigned n = LETTERS;

	for (unsigned i = 0; i < LETTERS; i++)
		snprintf(r->text[i], sizeof(r->text[i]), "%c", 'a' + i);
	r->n_merges = 0;
	while (r->n_merges < 24) {
		char a[12], b[12], both[32];
		bool known = false;

		memcpy(a, r->text[next_random(seed) % n], sizeof(a));
		memcpy(b, r->text[next_random(seed) % n], sizeof(b));
		snprintf(both, sizeof(both), "%s%s", a, b);
		for (unsigned i = 0; i < n; i++)
			known |= !strcmp(r->text[i], both);
		if (known || strlen(both) > 8) {
			if (next_random(seed) % 16 == 0)
				break;
			continue;
		}
		snprintf(r->merge[r->n_merges], sizeof(r->merge[0]), "%.8s %.8s", a, b);
		r->cut[r->n_merges++] = (unsigned)strlen(a);
		snprintf(r->text[n++], sizeof(r->text[0]), "%.11s", both);
	}
	/* ranks in any order: a merge may come before those that make its parts */
	for (unsigned i = r->n_merges; i > 1; i--) {
		unsigned k = next_random(seed) % i, cut = r->cut[k];
		char swap[24];

		memcpy(swap, r->merge[k], sizeof(swap));
		memcpy(r->merge[k], r->merge[i - 1], sizeof(swap));
		memcpy(r->merge[i - 1], swap, sizeof(swap));
		r->cut[k] = r->cut[i - 1];
		r->cut[i - 1] = cut;
	}
}

/* Merge after merge over the whole list: the lowest rank, the leftmost of equals. */
static size_t plain_merges(const struct rule *r, const char *text, size_t len, uint32_t *ids)
{
	unsigned part[64]; /* lengths */
	size_t n = len, at;

	for (size_t i = 0; i < len; i++)
		part[i] = 1;
	for (;;) {
		unsigned best = r->n_merges;
		size_t where = 0;

		at = 0;
		for (size_t i = 0; i + 1 < n; at += part[i++])
			for (unsigned m = 0; m < best; m++)
				if (part[i] == r->cut[m] &&
				    part[i] + part[i + 1] == strlen(r->merge[m]) - 1 &&
				    !memcmp(text + at, r->merge[m], part[i]) &&
				    !memcmp(text + at + part[i], r->merge[m] + part[i] + 1,
					    part[i + 1])) {
					best = m;
					where = i;
				}
		if (best == r->n_merges)
			break;
		part[where] += part[where + 1];
		memmove(part + where + 1, part + where + 2, (n - where - 2) * sizeof(part[0]));
		n--;
	}
	at = 0;
	for (size_t i = 0; i < n; at += part[i++])
		for (uint32_t id = 0; id < LETTERS + r->n_merges; id++)
			if (strlen(r->text[id]) == part[i] &&
			    !memcmp(r->text[id], text + at, part[i]))
				ids[i] = id;
	return n;
}

static void merges_by_rule(void **state)
{
	uint64_t seed = 11;

	for (unsigned round = 0; round < 60; round++) {
		static struct rule r;
		const char *tokens[40], *merges[40];
		int32_t types[40];
		struct vocab v = { VOCAB_DEFAULTS, .tokens = tokens, .types = types,
				   .merges = merges };
		struct tokenizer *t;

		random_rule(&r, &seed);
		v.n_merges = r.n_merges;
		v.n_tokens = v.n_types = LETTERS + r.n_merges;
		for (unsigned i = 0; i < v.n_tokens; i++) {
			tokens[i] = r.text[i];
			types[i] = 1;
			merges[i] = r.merge[i];
		}
		t = make_tokenizer(&v);
		for (unsigned k = 0; k < 200; k++) {
			uint32_t want[64];
			char text[64] = "";
			size_t n = 1 + next_random(&seed) % 60;

			for (size_t i = 0; i < n; i++)
				text[i] = (char)('a' + next_random(&seed) % LETTERS);
			assert_encodes(t, text, false, want, plain_merges(&r, text, n, want));
		}
		tokenizer_destroy(t);
	}
}

/* ---- special tokens against their rule, read plainly ---- */

/* Token after token, longest first; each takes its first place in what is left, again and again. */
static void plain_specials(const char *const *tokens, uint32_t n_tokens, const char *text,
			   int32_t *owner)
{
	size_t len = strlen(text);

	for (size_t size = len; size; size--)
		for (size_t at = 0; at + size <= len; at++)
			for (uint32_t id = 0; id < n_tokens; id++) {
				bool is_free = true;

				if (strlen(tokens[id]) != size ||
				    memcmp(tokens[id], text + at, size))
					continue;
				for (size_t i = 0; i < size; i++)
					is_free &= owner[at + i] < 0;
				for (size_t i = 0; is_free && i < size; i++)
					owner[at + i] = i ? INT32_MAX : (int32_t)id;
			}
}

static void specials_by_rule(void **state)
{
	static const char *const sets[][6] = {
		{ "aaaa", "aaa", "aa", "ab", "ba", "bab" },
		{ "abc", "bcab", "ca", "cabc", "a", "bb" },
		{ "ab", "bc", "cd", "abcd", "bcd", "dda" },
		{ "aab", "abab", "ba", "bbb", "abb", "bbbba" },
	};
	static const char *const merges[] = { "x y" };
	uint64_t seed = 5;

	for (size_t s = 0; s < ARRAY_LEN(sets); s++) {
		const int32_t types[6] = { 3, 4, 3, 4, 4, 3 };
		const struct vocab v = { VOCAB_DEFAULTS, .tokens = sets[s], .n_tokens = 6,
					 .types = types, .n_types = 6,	    .merges = merges,
					 .n_merges = 1,	 .bytes = true };
		struct tokenizer *t = make_tokenizer(&v);

		for (unsigned round = 0; round < 20000; round++) {
			char text[24] = "";
			int32_t owner[24];
			uint32_t want[24];
			size_t n = 1 + next_random(&seed) % 22, k = 0;

			for (size_t i = 0; i < n; i++)
				text[i] = (char)('a' + next_random(&seed) % 4);
			memset(owner, 0xff, sizeof(owner));
			plain_specials(sets[s], 6, text, owner);
			for (size_t i = 0; i < n; i++)
				if (owner[i] != INT32_MAX)
					want[k++] = owner[i] < 0 ? 6u + (uint8_t)text[i]
								 : (uint32_t)owner[i];
			assert_encodes(t, text, true, want, k);
		}
		tokenizer_destroy(t);
	}
}

/* ---- time ---- */

/* Of this thread's own time, so that other work on the machine does not count. */
static double seconds(const struct tokenizer *t, const char *text, size_t len)
{
	struct timespec start, end;
	uint32_t *ids = NULL;
	ssize_t n;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
	n = tokenizer_encode(t, text, len, true, &ids);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	assert_true(n > 0);
	free(ids);
	return (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
}

/*
 * A text 16 times as long: linear but for a log factor and the caches takes 16 to 40 times as
 * long, quadratic 256 times.
 */
#define STEP  16
#define LIMIT 110

static void assert_linear(const struct tokenizer *t, const char *unit, size_t bytes)
{
	size_t n_unit = strlen(unit), len = bytes / n_unit * n_unit;
	size_t part = len / STEP / n_unit * n_unit;
	char *text = malloc(len);
	double small = 1e9, large = 1e9, again;

	assert_non_null(text);
	for (size_t i = 0; i < len; i++)
		text[i] = unit[i % n_unit];
	for (unsigned try = 0; try < 6 && (!try || large > small * LIMIT); try++) {
		again = seconds(t, text, part);
		small = again < small ? again : small;
		again = seconds(t, text, len);
		large = again < large ? again : large;
	}
	if (large > small * LIMIT)
		fail_msg("\"%.20s\": %.4f s for %zu bytes, %.4f s for %zu", unit, small, part,
			 large, len);
	free(text);
}

static void linear_in_text(void **state)
{
	static const char *const units[] = {
		"x",	      " ",	    "\n",   " \n",	    "=",	 "ab",
		"'",	      "'s",	    "\xff", "\xe6\x97\xa5", "\t ",	 "1",
		"<|im_start", "<|im_end|>", "<",    "x\xcc\x81",    "  \xc2\xa0"
	};
	struct tokenizer *t = open_tokenizer(fixture_path(*state), NULL);

	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		assert_linear(t, units[i], 1 << 19);
	tokenizer_destroy(t);
}

/* Thousands of special tokens that begin alike, overlap, and nearly match everywhere. */
static void linear_with_specials(void **state)
{
	enum { N = 4000 };
	static char texts[N][200];
	static const char *tokens[N];
	static int32_t types[N];
	static const char *const merges[] = { "a a" };
	const struct vocab v = { VOCAB_DEFAULTS, .tokens = tokens, .n_tokens = N, .types = types,
				 .n_types = N,	 .merges = merges, .n_merges = 1, .bytes = true };
	struct tokenizer *t;

	for (unsigned i = 0; i < N; i++) {
		unsigned n = 2 + i % 150;

		memset(texts[i], 'a', n);
		snprintf(texts[i] + n, 40, "%s%u", i % 3 ? "b" : "", i / 150);
		if (i < 150)
			texts[i][n] = '\0'; /* runs of a alone */
		tokens[i] = texts[i];
		types[i] = i % 2 ? 3 : 4;
	}
	t = make_tokenizer(&v);
	assert_linear(t, "a", 1 << 18);
	assert_linear(t, "aaaaaaaaaaaaaaaaaaaaaaaab", 1 << 18);
	assert_linear(t, "ab1", 1 << 18);
	tokenizer_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(malformed),
		cmocka_unit_test(tolerated),
		cmocka_unit_test(no_control_by_merging),
		cmocka_unit_test(merges_by_rule),
		cmocka_unit_test(specials_by_rule),
		VOCABULARY_TEST(linear_in_text, BUNDLED),
		VOCABULARY_TEST(linear_in_text, PUBLISHED),
		cmocka_unit_test(linear_with_specials),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
