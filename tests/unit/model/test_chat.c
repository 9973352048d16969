/* SPDX-License-Identifier: MIT */
/*
 * Description: how a chat's answer begins, with and without a thought, for the ways in which templates
 * write it. The templates are made here; only their generation parts follow published ones in form.
 */
#include "test_tokenizer.h"

static const char *const texts[] = { "<|im_start|>", "<|im_end|>", "<think>", "</think>", "ab" };
static const char *const merges[] = { "a b" };
static const int32_t types[] = { 3, 3, 4, 4, 1 };

#define TURNS                                                                       \
	"{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content +  " \
	"'<|im_end|>\\n' }}{% endfor %}"
#define ASKS "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
#define OFF  "{%- if enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
#define END  "{%- endif %}"

#define HEAD "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n"

/* The three answers' beginnings behind HEAD; NULL: refused. */
static const struct {
	const char *what, *template, *usual, *thought, *no_thought;
} cases[] = {
	{ "no template", NULL, "", NULL, NULL },
	{ "a template that knows no thought", TURNS ASKS END, "", NULL, NULL },
	{ "the model opens its thought", TURNS ASKS OFF END END, "<think>\n\n</think>\n\n", "",
	  "<think>\n\n</think>\n\n" },
	{ "the template opens it", TURNS ASKS OFF "{%- else %}{{- '<think>\\n' }}" END END,
	  "<think>\n\n</think>\n\n", "<think>\n", "<think>\n\n</think>\n\n" },
	{ "line breaks as they are",
	  TURNS ASKS "{{ '<think>\n\n</think>\n\n' if no else '<think>\n' }}",
	  "<think>\n\n</think>\n\n", "<think>\n", "<think>\n\n</think>\n\n" },
	{ "always",
	  TURNS "{%- if add_generation_prompt %}"
		"{{- '<|im_start|>assistant\\n<think>\\n' }}" END,
	  "<think>\n", "<think>\n", NULL },
	{ "closed at once",
	  TURNS ASKS "{{- '<think>\\n' }}{%- if not enable_thinking %}"
		     "{{- '</think>' }}" END END,
	  "<think>\n</think>", "<think>\n", "<think>\n</think>" },
	{ "thoughts of earlier turns alone",
	  "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n<think>\\n' + m.thought + "
	  "'\\n</think>\\n' + m.content }}{% endfor %}" ASKS END,
	  "", NULL, NULL },
	{ "asked for more than once, the last counts",
	  "{%- if add_generation_prompt %}{%- set x = '<think>\\n' %}" END TURNS ASKS END, "", NULL,
	  NULL },
	{ "a tag at the very end", TURNS ASKS "<think>", "", NULL, NULL },
};

static void expect(const struct gguf *g, const struct tokenizer *t, enum chat_thinking thinking,
		   const char *begin, const char *what)
{
	const struct chat_turn turn = { .user = "u", .user_len = 1, .thinking = thinking };
	uint32_t *ids = NULL, *want = NULL;
	struct err err = { 0 };
	char text[128];
	ssize_t n = chat_encode(g, t, &turn, &ids, &err), m;

	if (!begin) {
		assert_int_equal(n, -ENOTSUP);
		assert_non_null(strstr(err.text, "--no-think"));
		return;
	}
	snprintf(text, sizeof(text), HEAD "%s", begin);
	m = tokenizer_encode(t, text, strlen(text), true, &want);
	assert_true(m > 0);
	assert_ids(ids, n, want, (size_t)m, what);
	free(ids);
	free(want);
}

static void thinking(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct vocab v = { VOCAB_DEFAULTS,
					 .tokens = texts,
					 .n_tokens = ARRAY_LEN(texts),
					 .types = types,
					 .n_types = ARRAY_LEN(types),
					 .merges = merges,
					 .n_merges = 1,
					 .bytes = true,
					 .template = cases[i].template };
		struct gguf *g = make_gguf(&v);
		struct tokenizer *t = make_tokenizer(&v);

		expect(g, t, CHAT_THINK_AS_USUAL, cases[i].usual, cases[i].what);
		expect(g, t, CHAT_THINK, cases[i].thought, cases[i].what);
		expect(g, t, CHAT_NO_THINK, cases[i].no_thought, cases[i].what);
		tokenizer_destroy(t);
		gguf_destroy(g);
	}
}

/* The published templates that lie beside the project, where they do. */
static void published(void **state)
{
	static const struct {
		const char *file, *usual, *thought, *no_thought;
	} all[] = {
		{ "Qwen-Qwen2.5-7B-Instruct.jinja", "", NULL, NULL },
		{ "Qwen3-Coder.jinja", "", NULL, NULL },
		{ "Qwen-Qwen3-0.6B.jinja", "<think>\n\n</think>\n\n", "",
		  "<think>\n\n</think>\n\n" },
		{ "Qwen3.5-4B.jinja", "<think>\n\n</think>\n\n", "<think>\n",
		  "<think>\n\n</think>\n\n" },
		{ "Qwen-QwQ-32B.jinja", "<think>\n</think>", "<think>\n", "<think>\n</think>" },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		static char text[1 << 16];
		struct vocab v = { VOCAB_DEFAULTS,
				   .tokens = texts,
				   .n_tokens = ARRAY_LEN(texts),
				   .types = types,
				   .n_types = ARRAY_LEN(types),
				   .merges = merges,
				   .n_merges = 1,
				   .bytes = true,
				   .template = text };
		struct tokenizer *t;
		struct gguf *g;
		char path[DATA_PATH], below[64];
		FILE *f;

		snprintf(below, sizeof(below), "templates/%s", all[i].file);
		f = fopen(fixture(below, path), "re");
		assert_non_null(f);
		text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
		fclose(f);
		g = make_gguf(&v);
		t = make_tokenizer(&v);
		expect(g, t, CHAT_THINK_AS_USUAL, all[i].usual, all[i].file);
		expect(g, t, CHAT_THINK, all[i].thought, all[i].file);
		expect(g, t, CHAT_NO_THINK, all[i].no_thought, all[i].file);
		tokenizer_destroy(t);
		gguf_destroy(g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(thinking),
		cmocka_unit_test(published),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
