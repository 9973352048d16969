/* SPDX-License-Identifier: MIT */
/*
 * Description: keys of single tokens: ids that name none are a note and not a refusal, prompts get
 * their beginning and end once, and tokens that must be control tokens are, whatever their type.
 */
#include "test_tokenizer.h"

#define KEY(name) "tokenizer.ggml." name

static const char *const texts[] = { "<|im_start|>", "<|im_end|>", "<s>", "</s>",
				     "<think>",	     "</think>",   "ab" };
static const char *const merges[] = { "a b", "\xc4\x8a \xc4\x8a" };
enum { IM_START, IM_END, BOS, EOS, THINK, THINK_END, AB, N_TEXTS };
#define BYTE(b) (N_TEXTS + (uint32_t)(b))

static const int32_t usual[] = { 3, 3, 3, 3, 4, 4, 1 };
static const struct vocab base = { VOCAB_DEFAULTS, .tokens = texts,    .n_tokens = N_TEXTS,
				   .types = usual, .n_types = N_TEXTS, .merges = merges,
				   .n_merges = 2,  .bytes = true };

/* The one note that holds @words; fails where there is none, or another one. */
static const char *find_note(const struct tokenizer *t, const char *words)
{
	const char *found = NULL;

	for (unsigned i = 0; tokenizer_note(t, i); i++)
		if (strstr(tokenizer_note(t, i), words)) {
			assert_null(found);
			found = tokenizer_note(t, i);
		}
	if (!found)
		fail_msg("no note says \"%s\"", words);
	return found;
}

static void assert_prompt(const struct tokenizer *t, const char *text, bool special,
			  const uint32_t *want, size_t n_want)
{
	uint32_t *ids = NULL;
	ssize_t n = tokenizer_encode_prompt(t, text, strlen(text), special, &ids);

	assert_ids(ids, n, want, n_want, text);
	free(ids);
}

static void ids_that_name_none(void **state)
{
	static const char *const keys[] = { KEY("eos_token_id"),     KEY("eot_token_id"),
					    KEY("eom_token_id"),     KEY("fim_pad_token_id"),
					    KEY("fim_rep_token_id"), KEY("fim_sep_token_id"),
					    KEY("bos_token_id"),     KEY("unknown_token_id") };
	static const struct vocab_key values[] = {
		{ NULL, GGUF_U32, { .u32 = N_TEXTS + 256 } },
		{ NULL, GGUF_U32, { .u32 = UINT32_MAX } },
		{ NULL, GGUF_I32, { .i32 = -1 } },
		{ NULL, GGUF_F32, { .f32 = 1.0f } },
	};

	for (size_t k = 0; k < ARRAY_LEN(keys); k++)
		for (size_t i = 0; i < ARRAY_LEN(values); i++) {
			struct vocab v = base;
			struct tokenizer *t;

			v.keys[0] = values[i];
			v.keys[0].name = keys[k];
			t = make_tokenizer(&v);
			assert_non_null(strstr(find_note(t, keys[k]), "ignoring"));
			assert_null(tokenizer_note(t, 1));
			assert_prompt(t, "ab", false, IDS(AB));
			assert_true(tokenizer_is_eog(t, IM_END));
			assert_false(tokenizer_is_eog(t, N_TEXTS + 256));
			tokenizer_destroy(t);
		}
}

static void no_end_is_known(void **state)
{
	static const char *const letters[] = { "a", "b", "ab" };
	static const int32_t types[] = { 1, 1, 1 };
	struct vocab v = { VOCAB_DEFAULTS, .tokens = letters, .n_tokens = 3, .types = types,
			   .n_types = 3,   .merges = merges,  .n_merges = 1 };
	struct tokenizer *t = make_tokenizer(&v);

	find_note(t, "answers end only at their length");
	tokenizer_destroy(t);
	v.eos = 2; /* a letter or a merged text may end an answer too */
	t = make_tokenizer(&v);
	assert_true(tokenizer_is_eog(t, 2));
	tokenizer_destroy(t);
	v.eos = 0;
	t = make_tokenizer(&v);
	assert_null(tokenizer_note(t, 0)); /* and stays the only way to write its byte */
	assert_prompt(t, "ab", false, IDS(2));
	assert_prompt(t, "aa", false, IDS(0, 0));
	tokenizer_destroy(t);
}

static void around_prompts(void **state)
{
	struct vocab v = base;
	struct tokenizer *t;

	v.eos = EOS;
	v.keys[0] = (struct vocab_key){ KEY("bos_token_id"), GGUF_U32, { .u32 = BOS } };
	t = make_tokenizer(&v); /* the id alone asks for nothing */
	assert_prompt(t, "ab", true, IDS(AB));
	assert_null(tokenizer_note(t, 0));
	tokenizer_destroy(t);
	v.keys[1] = (struct vocab_key){ KEY("add_bos_token"), GGUF_BOOL, { .truth = true } };
	t = make_tokenizer(&v);
	assert_prompt(t, "ab", true, IDS(BOS, AB));
	assert_prompt(t, "", false, IDS(BOS));
	assert_prompt(t, "<s>ab", true, IDS(BOS, AB)); /* the text writes it itself */
	assert_prompt(t, "<s>", true, IDS(BOS));
	assert_prompt(t, "<s>", false, IDS(BOS, BYTE('<'), BYTE('s'), BYTE('>')));
	assert_encodes(t, "ab", true, IDS(AB)); /* a piece of a prompt */
	tokenizer_destroy(t);
	v.keys[2] = (struct vocab_key){ KEY("add_eos_token"), GGUF_BOOL, { .truth = true } };
	t = make_tokenizer(&v);
	assert_prompt(t, "ab", true, IDS(BOS, AB, EOS));
	assert_prompt(t, "<s>ab</s>", true, IDS(BOS, AB, EOS));
	assert_prompt(t, "", true, IDS(BOS, EOS));
	tokenizer_destroy(t);
	v.keys[1].truth = false;
	t = make_tokenizer(&v);
	assert_prompt(t, "ab", true, IDS(AB, EOS));
	tokenizer_destroy(t);
}

static void frame_without_a_token(void **state)
{
	struct vocab v = base;
	struct tokenizer *t;
	struct err err = { 0 };
	struct gguf *g;

	v.keys[0] = (struct vocab_key){ KEY("add_bos_token"), GGUF_BOOL, { .truth = true } };
	v.keys[1] = (struct vocab_key){ KEY("add_eos_token"), GGUF_BOOL, { .truth = true } };
	v.eos = 100000;
	t = make_tokenizer(&v);
	find_note(t, "add_bos_token is true, but the file names no such token");
	find_note(t, "add_eos_token is true, but the file names no such token");
	assert_prompt(t, "ab", true, IDS(AB));
	tokenizer_destroy(t);
	v.keys[0].type = GGUF_U32; /* this one is used, so it must be what it is said to be */
	g = make_gguf(&v);
	assert_int_equal(tokenizer_create(g, NULL, &t, &err), -EINVAL);
	assert_non_null(
		strstr(err.text, "key tokenizer.ggml.add_bos_token has type u32, not bool"));
	gguf_destroy(g);
}

static void around_chats(void **state)
{
	struct chat_turn turn = { .system = "s\0t", .system_len = 3, .user = "u", .user_len = 1 };
	struct vocab v = base;
	uint32_t *ids = NULL, *plain = NULL;
	struct err err = { 0 };
	struct tokenizer *t;
	struct gguf *g;
	ssize_t n, m;

	v.keys[0] = (struct vocab_key){ KEY("bos_token_id"), GGUF_U32, { .u32 = BOS } };
	v.keys[1] = (struct vocab_key){ KEY("add_bos_token"), GGUF_BOOL, { .truth = true } };
	g = make_gguf(&v);
	t = make_tokenizer(&v);
	n = chat_encode(g, t, &turn, &ids, &err);
	m = tokenizer_encode(
		t,
		"<s><|im_start|>system\ns\0t<|im_end|>\n<|im_start|>user\nu<|im_end|>\n"
		"<|im_start|>assistant\n",
		87, true, &plain);
	assert_true(m > 0);
	assert_ids(ids, n, plain, (size_t)m, "a chat with <s>");
	free(ids);
	free(plain);
	tokenizer_destroy(t);
	/* where the beginning of prompts is the beginning of a turn, it is not doubled */
	v.keys[0].u32 = IM_START;
	gguf_destroy(g);
	g = make_gguf(&v);
	t = make_tokenizer(&v);
	turn.system = NULL;
	n = chat_encode(g, t, &turn, &ids, &err);
	assert_true(n > 2);
	assert_int_equal(ids[0], IM_START);
	assert_int_not_equal(ids[1], IM_START);
	free(ids);
	tokenizer_destroy(t);
	gguf_destroy(g);
}

static void types_put_right(void **state)
{
	static const int32_t odd[][N_TEXTS] = { { 1, 1, 1, 1, 1, 1, 1 }, { 4, 4, 4, 4, 1, 1, 1 } };

	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		struct vocab v = base;
		struct tokenizer *t;
		const char *bytes, *said;
		uint32_t *ids = NULL;

		v.types = odd[i];
		v.eos = EOS;
		v.keys[0] = (struct vocab_key){ KEY("bos_token_id"), GGUF_U32, { .u32 = BOS } };
		v.keys[1] =
			(struct vocab_key){ KEY("add_bos_token"), GGUF_BOOL, { .truth = true } };
		t = make_tokenizer(&v);
		said = find_note(t, "the file calls these tokens plain text");
		for (unsigned k = 0; k < AB; k++)
			if (!strstr(said, texts[k]))
				fail_msg("\"%s\" does not name %s", said, texts[k]);
		assert_null(tokenizer_note(t, 1));
		assert_true(tokenizer_is_eog(t, EOS) && tokenizer_is_eog(t, IM_END));
		assert_encodes(t, "<|im_start|>ab<|im_end|></s>", true,
			       IDS(IM_START, AB, IM_END, EOS));
		/* in text that is not to be parsed they are text */
		assert_true(tokenizer_encode(t, "<|im_end|>", 10, false, &ids) == 10);
		free(ids);
		assert_int_equal(tokenizer_piece(t, IM_END, false, &bytes), 0);
		assert_int_equal(tokenizer_piece(t, IM_END, true, &bytes), 10);
		/* thoughts are shown, and written by the chat form */
		assert_encodes(t, "<think>", false, IDS(THINK));
		assert_int_equal(tokenizer_piece(t, THINK, false, &bytes), 7);
		assert_round_trip(t, "a<|im_end|><think>ab</think>", 28, true);
		tokenizer_destroy(t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_that_name_none), cmocka_unit_test(no_end_is_known),
		cmocka_unit_test(around_prompts),     cmocka_unit_test(frame_without_a_token),
		cmocka_unit_test(around_chats),	      cmocka_unit_test(types_put_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
