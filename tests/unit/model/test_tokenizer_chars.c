/* SPDX-License-Identifier: MIT */
/*
 * Description: vocabularies of characters (gemma4's tokenizer model): spaces, line breaks, bytes
 * without a token, the beginning of prompts, and merges that equal a plain reading of their rule.
 */
#include "test_tokenizer.h"

#define SP     "\xe2\x96\x81" /* U+2581, a space */
#define E_A    "\xc3\xa9"     /* e with acute */
#define DAY    "\xe6\x97\xa5" /* a Chinese character */
#define SMILEY "\xf0\x9f\x98\x80"

static const char *const texts[] = { "<bos>", "<eos>", "a",    "b",  SP,     E_A, SP "a",
				     "ab",    SP "ab", E_A SP, "\n", "\n\n", "cd" };
enum { BOS, EOS, A, B, SPACE, E, SPACE_A, AB, SPACE_AB, E_SPACE, LF, LF_LF, CD, N_TEXTS };
#define BYTE(b) (N_TEXTS + (uint32_t)(b))

static const int32_t types[] = { 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
static const char *const merges[] = { SP " a", "a b", SP "a b", E_A " " SP, "\n \n", "a " E_A };
static const struct vocab base = {
	.model = "gemma4",
	.eos = EOS,
	.unk = -1,
	.tokens = texts,
	.n_tokens = N_TEXTS,
	.types = types,
	.n_types = N_TEXTS,
	.merges = merges,
	.n_merges = 6,
	.named_bytes = true,
	.keys = { { "tokenizer.ggml.bos_token_id", GGUF_U32, { .u32 = BOS } } }
};

static void pieces(void **state)
{
	struct tokenizer *t = make_tokenizer(&base);

	assert_encodes(t, "ab ab", false, IDS(AB, SPACE_AB));
	assert_encodes(t, " a", false, IDS(SPACE_A));
	assert_encodes(t, SP "a", false, IDS(SPACE_A));	     /* the text cannot tell them apart */
	assert_encodes(t, E_A " a", false, IDS(E, SPACE_A)); /* rank before place */
	assert_encodes(t, E_A " b", false, IDS(E_SPACE, B));
	/* runs of line breaks are cut out, and taken whole where there is a token of them */
	assert_encodes(t, "a\nb", false, IDS(A, LF, B));
	assert_encodes(t, "\n\n", false, IDS(LF_LF));
	assert_encodes(t, "a\n\n\na", false, IDS(A, LF_LF, LF, A));
	assert_encodes(t, "", false, NULL, 0);
	tokenizer_destroy(t);
}

static void bytes_without_a_token(void **state)
{
	static const char mixed[] = "ab " E_A DAY SMILEY "\n\n\n \t<bos>";
	struct tokenizer *t = make_tokenizer(&base);

	assert_encodes(t, "c", false, IDS(BYTE('c')));
	assert_encodes(t, "cd", false, IDS(BYTE('c'), BYTE('d'))); /* no merge makes that token */
	assert_encodes(t, "a" DAY "b", false, IDS(A, BYTE(0xe6), BYTE(0x97), BYTE(0xa5), B));
	assert_encodes(t, SMILEY, false, IDS(BYTE(0xf0), BYTE(0x9f), BYTE(0x98), BYTE(0x80)));
	assert_encodes(t,
		       "\xff\xe6\x97"
		       "a",
		       false, IDS(BYTE(0xff), BYTE(0xe6), BYTE(0x97), A));
	/* a merge to a text that no token has */
	assert_encodes(t, "a" E_A, false, IDS(BYTE('a'), BYTE(0xc3), BYTE(0xa9)));
	/* the name of a byte is text like any other */
	assert_encodes(t, "<0x41>", true,
		       IDS(BYTE('<'), BYTE('0'), BYTE('x'), BYTE('4'), BYTE('1'), BYTE('>')));
	assert_round_trip(t, mixed, strlen(mixed), true);
	assert_round_trip(t, "\xff\xfe\x80 \xe6\x97", 6, false);
	tokenizer_destroy(t);
}

static void detokenized(void **state)
{
	struct tokenizer *t = make_tokenizer(&base);
	const char *bytes;

	assert_int_equal(tokenizer_piece(t, SPACE_AB, false, &bytes), 3);
	assert_memory_equal(bytes, " ab", 3);
	assert_int_equal(tokenizer_piece(t, E_SPACE, false, &bytes), 3);
	assert_memory_equal(bytes, E_A " ", 3);
	for (unsigned byte = 0; byte < 256; byte++) {
		assert_int_equal(tokenizer_piece(t, BYTE(byte), false, &bytes), 1);
		assert_int_equal((uint8_t)*bytes, byte);
	}
	tokenizer_destroy(t);
}

static void beginning_of_prompts(void **state)
{
	struct vocab v = base;
	struct tokenizer *t = make_tokenizer(&v);
	uint32_t *ids = NULL;

	assert_null(tokenizer_note(t, 0));
	assert_int_equal(tokenizer_encode_prompt(t, "ab", 2, false, &ids), 2);
	assert_int_equal(ids[0], BOS);
	free(ids);
	tokenizer_destroy(t);
	v.keys[1] =
		(struct vocab_key){ "tokenizer.ggml.add_bos_token", GGUF_BOOL, { .truth = false } };
	t = make_tokenizer(&v);
	assert_non_null(strstr(tokenizer_note(t, 0), "taken for true"));
	assert_int_equal(tokenizer_encode_prompt(t, "ab", 2, false, &ids), 2);
	assert_int_equal(ids[0], BOS);
	free(ids);
	tokenizer_destroy(t);
}

static void refuse(const struct vocab *v, const char *pre, const char *words)
{
	struct gguf *g = make_gguf(v);
	struct tokenizer *t = NULL;
	struct err err = { 0 };

	assert_true(tokenizer_create(g, pre, &t, &err) < 0);
	if (!strstr(err.text, words) || !strstr(err.text, "/tmp/"))
		fail_msg("\"%s\" does not say \"%s\" and the file", err.text, words);
	gguf_destroy(g);
}

static void refused(void **state)
{
	static const char *const odd[] = { "<bos>", "<0x4>", "<0xG1>", "<0x411>" };
	static const int32_t odd_types[] = { 3, 1, 1, 1 };
	struct vocab v = base;
	int32_t one[4];

	refuse(&v, "qwen2", "cut at line breaks alone");
	v.tokens = odd;
	v.n_tokens = v.n_types = 4;
	v.eos = -1;
	v.types = one;
	for (unsigned i = 1; i < 4; i++) {
		memcpy(one, odd_types, sizeof(one));
		one[i] = 6;
		refuse(&v, NULL, "not one of <0x00> to <0xFF>");
	}
	v = base;
	v.merges = NULL;
	refuse(&v, NULL, "tokenizer.ggml.merges");
}

/* Without tokens of bytes: the unknown token stands in, else the text cannot be written. */
static void no_byte_tokens(void **state)
{
	struct vocab v = base;
	struct tokenizer *t;
	uint32_t *ids = NULL;

	v.named_bytes = false;
	t = make_tokenizer(&v);
	assert_encodes(t, "ab", false, IDS(AB));
	assert_int_equal(tokenizer_encode(t, "abz", 3, false, &ids), -EILSEQ);
	tokenizer_destroy(t);
	v.unk = CD;
	t = make_tokenizer(&v);
	assert_encodes(t, "abz", false, IDS(AB, CD));
	tokenizer_destroy(t);
}

/* ---- merges against their rule, read plainly ---- */

#define N_LETTERS 4
static const char *const letters[N_LETTERS] = { "a", SP, E_A, DAY };

struct rule {
	char text[40][40]; /* tokens: the letters, then what each merge makes */
	char left[40][40], right[40][40];
	unsigned n_merges;
};

static void random_rule(struct rule *r, uint64_t *seed)
{
	unsigned n = N_LETTERS;

	memset(r, 0, sizeof(*r));
	for (unsigned i = 0; i < N_LETTERS; i++)
		strcpy(r->text[i], letters[i]);
	while (r->n_merges < 24 && next_random(seed) % 40) {
		const char *a = r->text[next_random(seed) % n], *b = r->text[next_random(seed) % n];
		char both[80];
		bool known = false;

		snprintf(both, sizeof(both), "%s%s", a, b);
		for (unsigned i = 0; i < n; i++)
			known |= !strcmp(r->text[i], both);
		if (known || strlen(both) > 20)
			continue;
		strcpy(r->left[r->n_merges], a);
		strcpy(r->right[r->n_merges++], b);
		snprintf(r->text[n++], sizeof(r->text[0]), "%.39s", both);
	}
}

/* Merge after merge over the whole list: the lowest rank, the leftmost of equals. */
static size_t plain_merges(const struct rule *r, char part[][40], size_t n, uint32_t *ids)
{
	for (;;) {
		unsigned best = r->n_merges;
		size_t where = 0, at;

		for (size_t i = 0; i + 1 < n; i++)
			for (unsigned m = 0; m < best; m++)
				if (!strcmp(part[i], r->left[m]) &&
				    !strcmp(part[i + 1], r->right[m])) {
					best = m;
					where = i;
				}
		if (best == r->n_merges)
			break;
		at = strlen(part[where]);
		memcpy(part[where] + at, part[where + 1], 40 - at);
		memmove(part[where + 1], part[where + 2], (n - where - 2) * sizeof(part[0]));
		n--;
	}
	for (size_t i = 0; i < n; i++)
		for (uint32_t id = 0; id < N_LETTERS + r->n_merges; id++)
			if (!strcmp(part[i], r->text[id]))
				ids[i] = id;
	return n;
}

static void merges_by_rule(void **state)
{
	uint64_t seed = 12;

	for (unsigned round = 0; round < 60; round++) {
		static struct rule r;
		static char pair[40][90];
		const char *tokens[40], *merge[40];
		int32_t type[40];
		struct vocab v = { .model = "gemma4",
				   .tokens = tokens,
				   .types = type,
				   .eos = -1,
				   .unk = -1,
				   .merges = merge,
				   .named_bytes = true };
		struct tokenizer *t;

		random_rule(&r, &seed);
		v.n_merges = r.n_merges;
		v.n_tokens = v.n_types = N_LETTERS + r.n_merges;
		for (unsigned i = 0; i < v.n_tokens; i++) {
			tokens[i] = r.text[i];
			type[i] = 1;
			snprintf(pair[i], sizeof(pair[i]), "%s %s", r.left[i], r.right[i]);
			merge[i] = pair[i];
		}
		t = make_tokenizer(&v);
		for (unsigned k = 0; k < 200; k++) {
			static char part[64][40];
			uint32_t want[64];
			char text[256] = "";
			size_t n = 1 + next_random(&seed) % 40;

			for (size_t i = 0; i < n; i++) {
				const char *letter = letters[next_random(&seed) % N_LETTERS];

				strcpy(part[i], letter);
				strcat(text, !strcmp(letter, SP) ? " " : letter);
			}
			n = plain_merges(&r, part, n, want);
			assert_encodes(t, text, false, want, n);
		}
		tokenizer_destroy(t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces),	  cmocka_unit_test(bytes_without_a_token),
		cmocka_unit_test(detokenized),	  cmocka_unit_test(beginning_of_prompts),
		cmocka_unit_test(refused),	  cmocka_unit_test(no_byte_tokens),
		cmocka_unit_test(merges_by_rule),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
