/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_infill.c: /infill: what stands between a text before and one after, with the fields of
 * llama.cpp's server, for models that were trained for it. The tokens around the texts are those that
 * the file names (tokenizer.ggml.fim_*_token_id), or those of a family that the vocabulary has; what
 * comes with the request never becomes one of them. Worker.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "model/gguf.h"
#include "serve/http_private.h"

enum { PRE, SUF, MID, REPO, FILE_SEP, MARKS }; /* the last two may be missing */

static const char *const keys[MARKS] = { "tokenizer.ggml.fim_pre_token_id",
					 "tokenizer.ggml.fim_suf_token_id",
					 "tokenizer.ggml.fim_mid_token_id",
					 "tokenizer.ggml.fim_rep_token_id",
					 "tokenizer.ggml.fim_sep_token_id" };

/* Of Qwen, GLM, StarCoder and Granite, DeepSeek: as their model cards have them. */
static const char *const families[][MARKS] = {
	{ "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>" },
	{ "<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>", NULL, NULL },
	{ "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<reponame>", "<filename>" },
	{ "<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>",
	  "<\uff5cfim\u2581end\uff5c>", NULL, NULL },
};

/* The prompt's text, and which of its bytes are ours. */
struct infill {
	int64_t ids[MARKS]; /* -1: there is none */
	const struct tokenizer *t;
	struct buf text;
	struct text_span *spans;
	size_t n_spans, room;
	bool failed;
};

static bool is_whole(const int64_t *ids)
{
	return ids[PRE] >= 0 && ids[SUF] >= 0 && ids[MID] >= 0;
}

static bool find_marks(struct infill *f, const struct gguf *g)
{
	uint32_t n = tokenizer_n_vocab(f->t), id;

	for (unsigned i = 0; i < MARKS; i++)
		f->ids[i] = g && !gguf_u32(g, keys[i], &id, NULL) && id < n ? (int64_t)id : -1;
	for (size_t k = 0; !is_whole(f->ids) && k < ARRAY_LEN(families); k++)
		for (unsigned i = 0; i < MARKS; i++)
			f->ids[i] = families[k][i] ? tokenizer_special_id(f->t, families[k][i])
						   : -1;
	return is_whole(f->ids);
}

static void put_mark(struct infill *f, unsigned mark)
{
	const char *bytes;
	size_t n = tokenizer_piece(f->t, (uint32_t)f->ids[mark], true, &bytes);
	struct text_span *more;

	if (f->n_spans == f->room) {
		f->room = f->room * 2 + 8;
		more = realloc(f->spans, f->room * sizeof(*more));
		f->failed |= !more;
		if (!more)
			return;
		f->spans = more;
	}
	f->spans[f->n_spans++] = (struct text_span){ f->text.n, f->text.n + n };
	buf_put(&f->text, bytes, n);
}

static void put_text(struct infill *f, struct json_object *text)
{
	if (text)
		buf_put(&f->text, json_object_get_string(text),
			(size_t)json_object_get_string_len(text));
}

/* A text, or nothing. */
static bool read_string(struct http_call *c, struct json_object *o, const char *key,
			struct json_object **ret)
{
	*ret = get(o, key);
	return !*ret || json_object_is_type(*ret, json_type_string) ||
	       fault_param(&c->fault, key, "%s must be a string", key);
}

/* Other files of the project come before: with tokens of their own, or as they are. */
static bool put_extra(struct http_call *c, struct infill *f)
{
	struct json_object *extra = get(c->json, "input_extra"), *name, *text;
	bool marked = f->ids[REPO] >= 0 && f->ids[FILE_SEP] >= 0;

	if (extra && !json_object_is_type(extra, json_type_array))
		return fault_param(&c->fault, "input_extra", "input_extra must be a list");
	if (marked && extra) {
		put_mark(f, REPO);
		buf_text(&f->text, "myproject\n");
	}
	for (size_t i = 0; extra && i < json_object_array_length(extra); i++) {
		struct json_object *one = json_object_array_get_idx(extra, i);

		if (!json_object_is_type(one, json_type_object) || !get(one, "text") ||
		    !read_string(c, one, "filename", &name) || !read_string(c, one, "text", &text))
			return fault_param(&c->fault, "input_extra",
					   "input_extra[%zu] must have a text, and may have a "
					   "filename",
					   i);
		if (marked) {
			put_mark(f, FILE_SEP);
			put_text(f, name);
			buf_text(&f->text, name ? "\n" : "tmp\n");
		}
		put_text(f, text);
		buf_text(&f->text, "\n");
	}
	if (marked && extra) {
		put_mark(f, FILE_SEP);
		buf_text(&f->text, "filename\n");
	}
	return true;
}

static bool put_prompt(struct http_call *c, struct infill *f)
{
	struct json_object *before, *after, *prompt;

	if (!get(c->json, "input_prefix") && !get(c->json, "input_suffix"))
		return fault_param(&c->fault, "input_prefix",
				   "input_prefix or input_suffix is needed: the text around");
	if (!read_string(c, c->json, "input_prefix", &before) ||
	    !read_string(c, c->json, "input_suffix", &after) ||
	    !read_string(c, c->json, "prompt", &prompt) || !put_extra(c, f))
		return false;
	put_mark(f, PRE);
	put_text(f, before);
	put_mark(f, SUF);
	put_text(f, after);
	put_mark(f, MID);
	put_text(f, prompt);
	return true;
}

static bool take_ids(struct http_call *c, struct infill *f)
{
	struct generation *g = &c->gen;
	uint32_t *ids = NULL;
	ssize_t n;

	if (f->failed || f->text.failed)
		return fault_set(&c->fault, 500, "out of memory");
	n = tokenizer_encode_spans(f->t, f->text.data, f->text.n, f->spans, f->n_spans, &ids);
	if (n < 0)
		return fault_set(&c->fault, n == -ENOMEM ? 500 : 400,
				 "the text cannot be tokenised: %s", strerror((int)-n));
	g->rendered_bytes = f->text.n;
	g->rendered = f->text.data;
	f->text = (struct buf){ 0 };
	g->ask.respell = true;
	return read_prompt_ids(c, ids, (uint32_t)n);
}

bool infill_work(struct http_call *c)
{
	struct infill f = { .t = c->http->serve->config.tokenizer };
	bool ok;

	c->gen.native = true;
	if (!find_marks(&f, c->http->serve->config.model->gguf))
		return fault_set(&c->fault, 501,
				 "the model has no tokens for filling in the middle");
	ok = read_generation(c) &&
	     read_bool(c->json, "return_tokens", &c->gen.return_tokens, &c->fault) &&
	     put_prompt(c, &f) && take_ids(c, &f) && form_build(c, true);
	buf_done(&f.text);
	free(f.spans);
	return ok;
}
