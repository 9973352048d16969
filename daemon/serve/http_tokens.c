/* SPDX-License-Identifier: MIT */
/* daemon/serve/http_tokens.c: /tokenize and /detokenize, with the fields of llama.cpp's server. On the
 * worker's thread. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "serve/http_private.h"
#include "serve/prompt.h"

static void put_piece(struct buf *b, const struct tokenizer *t, uint32_t id)
{
	const char *bytes;
	size_t n = tokenizer_piece(t, id, true, &bytes);

	buf_fmt(b, "{\"id\":%u,\"piece\":", id);
	if (utf8_valid(bytes, n) < n) { /* begins or ends within a character */
		buf_text(b, "[");
		for (size_t i = 0; i < n; i++)
			buf_fmt(b, "%s%u", i ? "," : "", (unsigned)(uint8_t)bytes[i]);
		buf_text(b, "]");
	} else {
		buf_json(b, bytes, n);
	}
	buf_text(b, "}");
}

bool tokenize_work(struct http_call *c)
{
	struct json_object *content = get(c->json, "content");
	const struct tokenizer *t = c->http->serve->config.tokenizer;
	bool special = true, around = false, pieces = false;
	uint32_t *ids = NULL;
	ssize_t n;

	if (!json_object_is_type(content, json_type_string))
		return fault_param(&c->fault, "content", "content must be a string");
	if (!read_bool(c->json, "parse_special", &special, &c->fault) ||
	    !read_bool(c->json, "add_special", &around, &c->fault) ||
	    !read_bool(c->json, "with_pieces", &pieces, &c->fault))
		return false;
	n = (around ? tokenizer_encode_prompt
		    : tokenizer_encode)(t, json_object_get_string(content),
					(size_t)json_object_get_string_len(content), special, &ids);
	if (n < 0)
		return fault_set(&c->fault, n == -12 ? 500 : 400,
				 "the text cannot be tokenised: %s", strerror((int)-n));
	buf_text(&c->answer, "{\"tokens\":[");
	for (ssize_t i = 0; i < n; i++) {
		buf_text(&c->answer, i ? "," : "");
		if (pieces)
			put_piece(&c->answer, t, ids[i]);
		else
			buf_fmt(&c->answer, "%u", ids[i]);
	}
	buf_text(&c->answer, "]}");
	free(ids);
	return true;
}

bool detokenize_work(struct http_call *c)
{
	struct json_object *list = get(c->json, "tokens");
	uint32_t n_vocab = c->http->serve->config.model->n_vocab, *ids;
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	size_t bytes = 0;
	char *text = NULL;
	int code;

	if (!json_object_is_type(list, json_type_array))
		return fault_param(&c->fault, "tokens", "tokens must be a list of token ids");
	ids = malloc((n + 1) * sizeof(*ids));
	if (!ids)
		return fault_set(&c->fault, 500, "out of memory");
	for (size_t i = 0; i < n; i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		int64_t id = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;

		if (id < 0 || id >= n_vocab) {
			free(ids);
			return fault_param(&c->fault, "tokens",
					   "tokens: entry %zu is no token id below %u", i, n_vocab);
		}
		ids[i] = (uint32_t)id;
	}
	code = prompt_decode(c->http->serve, ids, (uint32_t)n, true, &text, &bytes);
	free(ids);
	if (code)
		return fault_set(&c->fault, 500, "out of memory");
	buf_text(&c->answer, "{\"content\":");
	buf_json(&c->answer, text, bytes);
	buf_text(&c->answer, "}");
	free(text);
	return true;
}
