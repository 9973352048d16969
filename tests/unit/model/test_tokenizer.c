/* SPDX-License-Identifier: MIT */
/*
 * Description: the tokenizer on real vocabularies: every case with both pre-tokenizers, the
 * prompts of the fixtures, round trips, pieces, ends of generation, the chat form.
 */
#include "test_tokenizer.h"

#include <jansson.h>

static json_t *load_json(const char *name)
{
	json_error_t error;
	json_t *j = json_load_file(fixture_path(name), JSON_ALLOW_NUL, &error);

	if (!j)
		fail_msg("%s: %s", name, error.text);
	return j;
}

static void assert_json_ids(const uint32_t *ids, ssize_t n, const json_t *want, const char *what)
{
	uint32_t *all = calloc(json_array_size(want) + 1, sizeof(*all));

	assert_non_null(all);
	for (size_t i = 0; i < json_array_size(want); i++)
		all[i] = (uint32_t)json_integer_value(json_array_get(want, i));
	assert_ids(ids, n, all, json_array_size(want), what);
	free(all);
}

static void check_cases(const char *file, const char *pre)
{
	const bool bundled = !strcmp(file, BUNDLED);
	struct tokenizer *t = open_tokenizer(fixture_path(file), pre);
	json_t *cases = load_json(bundled ? "tokenizer/demo-cases.json" : "tokenizer/cases.json");

	assert_true(json_array_size(cases) >= (bundled ? 200 : 69));
	for (size_t i = 0; i < json_array_size(cases); i++) {
		const json_t *c = json_array_get(cases, i), *text = json_object_get(c, "text");
		uint32_t *ids = NULL;
		ssize_t n = tokenizer_encode(t, json_string_value(text), json_string_length(text),
					     true, &ids);

		assert_json_ids(ids, n, json_object_get(c, pre), json_string_value(text));
		free(ids);
		assert_round_trip(t, json_string_value(text), json_string_length(text), true);
		assert_round_trip(t, json_string_value(text), json_string_length(text), false);
	}
	json_decref(cases);
	tokenizer_destroy(t);
}

static void cases_qwen2(void **state)
{
	check_cases(*state, "qwen2");
}

static void cases_qwen35(void **state)
{
	check_cases(*state, "qwen35");
}

/* With the file's own split and control tokens taken as text. */
static void cases_plain(void **state)
{
	struct tokenizer *t = open_tokenizer(fixture_path(BUNDLED), NULL);
	json_t *cases = load_json("tokenizer/demo-cases.json");

	for (size_t i = 0; i < json_array_size(cases); i++) {
		const json_t *c = json_array_get(cases, i), *text = json_object_get(c, "text");
		uint32_t *ids = NULL;
		ssize_t n = tokenizer_encode(t, json_string_value(text), json_string_length(text),
					     false, &ids);

		assert_json_ids(ids, n, json_object_get(c, "plain"), json_string_value(text));
		free(ids);
	}
	json_decref(cases);
	tokenizer_destroy(t);
}

/* The two splits differ on marks, and a file's own is used unless another is named. */
static void own_split(void **state)
{
	const bool bundled = !strcmp(*state, BUNDLED);
	struct tokenizer *own = open_tokenizer(fixture_path(*state), NULL);
	struct tokenizer *forced =
		open_tokenizer(fixture_path(*state), bundled ? "qwen2" : "qwen35");
	/* a mark before what only one of them takes for a suffix; Thai words where merges are long */
	const char *text =
		bundled ? "\xe0\xb8\x94\xe0\xb8\xb5's"
			: "\xe0\xb9\x84\xe0\xb8\x97\xe0\xb8\xa2\xe0\xb9\x81\xe0\xb8\xa5\xe0\xb8\x99\xe0\xb8\x94\xe0\xb9\x8c"
			  " \xe0\xb8\xaa\xe0\xb8\xa7\xe0\xb8\xb1\xe0\xb8\xaa\xe0\xb8\x94\xe0\xb8\xb5";
	uint32_t *a = NULL, *b = NULL;
	ssize_t n = tokenizer_encode(own, text, strlen(text), false, &a);
	ssize_t m = tokenizer_encode(forced, text, strlen(text), false, &b);

	assert_true(n > 0 && m > 0);
	assert_true(n != m || memcmp(a, b, (size_t)n * sizeof(*a)));
	free(a);
	free(b);
	tokenizer_destroy(own);
	tokenizer_destroy(forced);
}

static void prompts_of_moe(void **state)
{
	static const char *const files[] = { "moe/moe-q4_k_m", "dense/dense-q4_k_m",
					     "qwen3moe/qwen3moe-q2_k" };

	for (size_t k = 0; k < ARRAY_LEN(files); k++) {
		char name[128];
		struct tokenizer *t;
		json_t *j, *greedy;

		snprintf(name, sizeof(name), "%s.json", files[k]);
		j = load_json(name);
		snprintf(name, sizeof(name), "%s.gguf", files[k]);
		t = open_tokenizer(fixture_path(name), NULL);
		greedy = json_object_get(j, "greedy");
		assert_true(json_array_size(greedy) > 0);
		for (size_t i = 0; i < json_array_size(greedy); i++) {
			const json_t *c = json_array_get(greedy, i);
			const char *text = json_string_value(json_object_get(c, "text"));
			uint32_t *ids = NULL;
			ssize_t n = tokenizer_encode(t, text, strlen(text), true, &ids);

			assert_json_ids(ids, n, json_object_get(c, "prompt"), text);
			free(ids);
		}
		json_decref(j);
		tokenizer_destroy(t);
	}
}

/* What the fixture's template renders for one user turn is what chat_encode() gives. */
static void chat_of_moe(void **state)
{
	static const char head[] = "<|im_start|>user\n",
			  tail[] = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
	struct gguf *g = open_gguf(fixture_path(BUNDLED));
	struct tokenizer *t = open_tokenizer(fixture_path(BUNDLED), NULL);
	json_t *j = load_json("moe/moe-q4_k_m.json");
	const json_t *greedy = json_object_get(j, "greedy");
	unsigned checked = 0;

	for (size_t i = 0; i < json_array_size(greedy); i++) {
		const json_t *c = json_array_get(greedy, i);
		const char *text = json_string_value(json_object_get(c, "text"));
		size_t len = strlen(text), frame = strlen(head) + strlen(tail);
		struct err err = { 0 };
		uint32_t *ids = NULL;
		char question[256];
		ssize_t n;

		if (strncmp(text, head, strlen(head)) || len < frame ||
		    strcmp(text + len - strlen(tail), tail))
			continue;
		/* white space around it is trimmed, as the template does */
		n = snprintf(question, sizeof(question), " \n\xe3\x80\x80%.*s\t \n",
			     (int)(len - frame), text + strlen(head));
		n = chat_encode(g, t,
				&(struct chat_turn){ .user = question, .user_len = (size_t)n },
				&ids, &err);
		assert_json_ids(ids, n, json_object_get(c, "prompt"), text);
		free(ids);
		checked++;
	}
	assert_true(checked > 1);
	json_decref(j);
	tokenizer_destroy(t);
	gguf_destroy(g);
}

static void assert_chat_text(const struct gguf *g, const struct tokenizer *t, const char *system,
			     const char *user, bool special, const char *want)
{
	struct err err = { 0 };
	uint32_t *ids = NULL, *plain = NULL;
	const struct chat_turn turn = { .system = system,
					.system_len = system ? strlen(system) : 0,
					.user = user,
					.user_len = strlen(user),
					.special = special };
	ssize_t n = chat_encode(g, t, &turn, &ids, &err);
	ssize_t m = tokenizer_encode(t, want, strlen(want), true, &plain);

	assert_true(m > 0);
	assert_ids(ids, n, plain, (size_t)m, want);
	free(ids);
	free(plain);
}

static void chat_forms(void **state)
{
	struct gguf *g = open_gguf(fixture_path(BUNDLED));
	struct tokenizer *t = open_tokenizer(fixture_path(BUNDLED), NULL);
	const uint32_t start = (uint32_t)tokenizer_special_id(t, "<|im_start|>");
	struct err err = { 0 };
	uint32_t *ids = NULL;
	unsigned starts = 0;
	ssize_t n;

	assert_chat_text(g, t, " Be brief. ", "Hi", false,
			 "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
			 "<|im_start|>assistant\n<think>\n\n</think>\n\n");
	assert_chat_text(g, t, NULL, "a<|im_end|>b", true,
			 "<|im_start|>user\na<|im_end|>b<|im_end|>\n"
			 "<|im_start|>assistant\n<think>\n\n</think>\n\n");
	assert_chat_text(g, t, NULL, "", false,
			 "<|im_start|>user\n<|im_end|>\n"
			 "<|im_start|>assistant\n<think>\n\n</think>\n\n");
	/* control tokens that people write stay text */
	n = chat_encode(g, t, &(struct chat_turn){ .user = "<|im_start|>system", .user_len = 18 },
			&ids, &err);
	for (ssize_t i = 0; i < n; i++)
		starts += ids[i] == start;
	assert_int_equal(starts, 2);
	free(ids);
	tokenizer_destroy(t);
	gguf_destroy(g);
}

/* Templates that do not trim, that cannot switch thinking off, and a file without one. */
static void chat_templates(void **state)
{
	static const char *const tokens[] = { "<|im_start|>", "<|im_end|>", "<think>", "</think>" };
	static const int32_t types[] = { 3, 3, 4, 4 };
	static const char *const merges[] = { "\xc4\x8a \xc4\x8a" };
	static const struct {
		const char *template, *want;
	} all[] = {
		{ NULL, "<|im_start|>user\n\n x <|im_end|>\n<|im_start|>assistant\n" },
		{ "{{ m.content|trim }}",
		  "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n" },
		{ "{{ tool | trim }}{{ '\\n' + message.content + '<|im_end|>' }}",
		  "<|im_start|>user\n\n x <|im_end|>\n<|im_start|>assistant\n" },
		{ "{{- '<think>\\n\\n</think>\\n\\n' }}",
		  "<|im_start|>user\n\n x <|im_end|>\n<|im_start|>assistant\n"
		  "<think>\n\n</think>\n\n" },
	};
	struct vocab v = { VOCAB_DEFAULTS, .tokens = tokens, .n_tokens = 4, .types = types,
			   .n_types = 4,   .merges = merges, .n_merges = 1, .bytes = true };

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct tokenizer *t;
		struct gguf *g;

		v.template = all[i].template;
		g = make_gguf(&v);
		t = make_tokenizer(&v);
		assert_chat_text(g, t, NULL, "\n x ", false, all[i].want);
		tokenizer_destroy(t);
		gguf_destroy(g);
	}
}

static void chat_refused(void **state)
{
	static const char *const tokens[] = { "<|im_start|>" };
	static const int32_t types[] = { 3 };
	static const char *const merges[] = { "a b" };
	const struct vocab v = { VOCAB_DEFAULTS, .tokens = tokens, .n_tokens = 1, .types = types,
				 .n_types = 1,	 .merges = merges, .n_merges = 1, .bytes = true };
	const struct chat_turn x = { .user = "x", .user_len = 1 };
	struct gguf *g = make_gguf(&v);
	struct tokenizer *t = make_tokenizer(&v);
	struct err err = { 0 };
	uint32_t *ids = NULL;

	assert_int_equal(chat_encode(g, t, &x, &ids, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "ChatML"));
	tokenizer_destroy(t);
	gguf_destroy(g);
}

static void eog_and_pieces(void **state)
{
	struct tokenizer *t = open_tokenizer(fixture_path(*state), NULL);
	const bool bundled = !strcmp(*state, BUNDLED);
	const uint32_t end = bundled ? 2036 : 151643, start = end + 1, n = bundled ? 2048 : 151669;
	const uint32_t think = bundled ? 2046 : 151667;
	const char *bytes;

	assert_int_equal(tokenizer_n_vocab(t), n);
	assert_true(tokenizer_is_eog(t, end));	     /* <|endoftext|> */
	assert_true(tokenizer_is_eog(t, start + 1)); /* <|im_end|>, eos */
	assert_false(tokenizer_is_eog(t, start));
	assert_false(tokenizer_is_eog(t, 0));
	assert_int_equal(tokenizer_special_id(t, "<|endoftext|>"), end);
	assert_int_equal(tokenizer_special_id(t, "<|im_start|>"), start);
	assert_int_equal(tokenizer_special_id(t, "<think>"), think);
	assert_int_equal(tokenizer_special_id(t, "<|im_start"), -1);
	assert_int_equal(tokenizer_special_id(t, "<|im_start|>x"), -1);
	assert_int_equal(tokenizer_special_id(t, ""), -1);
	assert_int_equal(tokenizer_special_id(t, "the"), -1);
	assert_int_equal(tokenizer_piece(t, start, false, &bytes), 0);
	assert_int_equal(tokenizer_piece(t, start, true, &bytes), 12);
	assert_memory_equal(bytes, "<|im_start|>", 12);
	assert_int_equal(tokenizer_piece(t, think, false, &bytes), 7); /* user-defined */
	assert_int_equal(tokenizer_piece(t, n, true, &bytes), 0);
	assert_int_equal(tokenizer_piece(t, UINT32_MAX, true, &bytes), 0);
	tokenizer_destroy(t);
}

/* Control tokens in text are text unless asked for; user-defined ones are always tokens. */
static void control_in_text(void **state)
{
	struct tokenizer *t = open_tokenizer(fixture_path(*state), NULL);
	const uint32_t start = (uint32_t)tokenizer_special_id(t, "<|im_start|>");
	const uint32_t think = (uint32_t)tokenizer_special_id(t, "<think>");
	static const char text[] = "<|im_start|><think>";
	uint32_t *ids = NULL;
	ssize_t n = tokenizer_encode(t, text, strlen(text), false, &ids);

	assert_true(n > 2);
	for (ssize_t i = 0; i < n; i++)
		assert_true(ids[i] < start - 1 || ids[i] == think);
	assert_int_equal(ids[n - 1], think);
	free(ids);
	assert_encodes(t, text, true, IDS(start, think));
	n = tokenizer_encode(t, "", 0, true, &ids);
	assert_int_equal(n, 0);
	assert_non_null(ids);
	free(ids);
	tokenizer_destroy(t);
}

/* Of control tokens written twice only those inside a trusted span are tokens. */
static void control_in_spans(void **state)
{
	struct tokenizer *t = open_tokenizer(fixture_path(*state), NULL);
	const uint32_t start = (uint32_t)tokenizer_special_id(t, "<|im_start|>");
	static const char text[] = "<|im_start|>a<|im_start|>";
	const struct text_span cut[] = { { 0, 11 }, { 11, 12 } };
	struct text_span span = { 0, 12 };
	uint32_t *ids = NULL, *plain = NULL;
	ssize_t n, n_plain;

	n_plain = tokenizer_encode(t, text, strlen(text), false, &plain);
	n = tokenizer_encode_spans(t, text, strlen(text), &span, 1, &ids);
	assert_true(n > 1 && ids[0] == start && ids[n - 1] != start);
	free(ids);
	span = (struct text_span){ 13, 25 };
	n = tokenizer_encode_spans(t, text, strlen(text), &span, 1, &ids);
	assert_true(n > 1 && ids[0] != start && ids[n - 1] == start);
	free(ids);
	n = tokenizer_encode_spans(t, text, strlen(text), cut, 2, &ids); /* half a token is none */
	assert_ids(ids, n, plain, (size_t)n_plain, text);
	free(ids);
	span = (struct text_span){ 0, sizeof(text) - 1 };
	n = tokenizer_encode_spans(t, text, strlen(text), &span, 1, &ids);
	assert_true(n == 3 && ids[0] == start && ids[2] == start);
	free(ids);
	free(plain);
	tokenizer_destroy(t);
}

/* Random bytes and random valid text both come back, with and without control tokens. */
static void round_trips(void **state)
{
	struct tokenizer *t = open_tokenizer(fixture_path(*state), NULL);
	static const char *const parts[] = { "<|im_end|>",
					     "<think>",
					     " ",
					     "\n",
					     "\r\n",
					     "word",
					     "1",
					     "'s",
					     "\xc3\xa9",
					     "\xe6\x97\xa5",
					     "\xf0\x9f\x91\xa9",
					     "\xcc\x81",
					     "\xff",
					     "\xc3",
					     "\xe6\x97" };
	uint64_t seed = 1;
	char text[512];

	for (unsigned round = 0; round < 2000; round++) {
		size_t n = 0;

		while (n + 16 < sizeof(text) && next_random(&seed) % 24) {
			const char *part = parts[next_random(&seed) % ARRAY_LEN(parts)];

			if (next_random(&seed) % 4 == 0) {
				text[n++] = (char)next_random(&seed);
				continue;
			}
			memcpy(text + n, part, strlen(part));
			n += strlen(part);
		}
		assert_round_trip(t, text, n, true);
		assert_round_trip(t, text, n, false);
	}
	tokenizer_destroy(t);
}

/* A call that uses the table of words seen gives the ids of calls that do not. */
static void long_text_as_short(void **state)
{
	struct tokenizer *t = open_tokenizer(fixture_path(*state), NULL);
	static const char line[] =
		"Sphinx of black quartz, judge my vow; it's 1234 \xe6\x97\xa5!\n";
	size_t len = sizeof(line) - 1, repeat = 4000;
	uint32_t *one = NULL, *many = NULL;
	char *text = malloc(len * repeat);
	ssize_t n, m;

	assert_non_null(text);
	for (size_t i = 0; i < repeat; i++)
		memcpy(text + i * len, line, len);
	n = tokenizer_encode(t, line, len, false, &one);
	m = tokenizer_encode(t, text, len * repeat, false, &many);
	assert_true(n > 0);
	assert_int_equal(m, n * (ssize_t)repeat);
	for (ssize_t i = 0; i < m; i++)
		assert_int_equal(many[i], one[i % n]);
	free(text);
	free(one);
	free(many);
	tokenizer_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		VOCABULARY_TEST(cases_qwen2, BUNDLED),
		VOCABULARY_TEST(cases_qwen2, PUBLISHED),
		VOCABULARY_TEST(cases_qwen35, BUNDLED),
		VOCABULARY_TEST(cases_qwen35, PUBLISHED),
		VOCABULARY_TEST(own_split, BUNDLED),
		VOCABULARY_TEST(own_split, PUBLISHED),
		VOCABULARY_TEST(eog_and_pieces, BUNDLED),
		VOCABULARY_TEST(eog_and_pieces, PUBLISHED),
		VOCABULARY_TEST(control_in_text, BUNDLED),
		VOCABULARY_TEST(control_in_spans, BUNDLED),
		VOCABULARY_TEST(control_in_text, PUBLISHED),
		VOCABULARY_TEST(round_trips, BUNDLED),
		VOCABULARY_TEST(round_trips, PUBLISHED),
		VOCABULARY_TEST(long_text_as_short, BUNDLED),
		VOCABULARY_TEST(long_text_as_short, PUBLISHED),
		cmocka_unit_test(cases_plain),
		cmocka_unit_test(prompts_of_moe),
		cmocka_unit_test(chat_of_moe),
		cmocka_unit_test(chat_forms),
		cmocka_unit_test(chat_templates),
		cmocka_unit_test(chat_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
