/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_logprobs.c: log-probabilities of tokens, as chats, completions, llama.cpp's server and
 * vLLM word them. A token's text may be part of a character: bytes are its true ones. Reading on the
 * worker's thread, wording on the main thread.
 */
#include <math.h>
#include <string.h>

#include "base/utf8.h"
#include "serve/http_private.h"

#define NEVER -9999.0 /* what stands for minus infinity, which JSON does not have */

bool read_logprobs(struct http_call *c)
{
	struct json_object *v = get(c->json, "logprobs");
	bool wanted = false;
	int64_t n = -1;

	if (json_object_is_type(v, json_type_int)) { /* completions: how many */
		if (!read_int(c->json, "logprobs", 0, LOGPROBS_MAX, &n, &c->fault))
			return false;
	} else if (!read_bool(c->json, "logprobs", &wanted, &c->fault)) {
		return false;
	}
	if (wanted)
		n = 0;
	if (get(c->json, "top_logprobs") && n < 0)
		return fault_param(&c->fault, "top_logprobs", "top_logprobs needs logprobs");
	if (!read_int(c->json, "top_logprobs", 0, LOGPROBS_MAX, &n, &c->fault) ||
	    !read_int(c->json, "n_probs", 0, LOGPROBS_MAX, &n, &c->fault))
		return false;
	if (get(c->json, "n_probs") && !n)
		n = -1;
	c->gen.n_logprobs = c->gen.ask.n_logprobs = (uint32_t)(n + 1);
	return true;
}

bool read_prompt_logprobs(struct http_call *c)
{
	static const char name[] = "prompt_logprobs";
	struct generation *g = &c->gen;
	int64_t n = -1;

	if (!read_int(c->json, name, 0, LOGPROBS_MAX, &n, &c->fault))
		return false;
	if (n >= 0 && g->stream)
		return fault_param(&c->fault, name, "%s: a stream has none", name);
	g->n_prompt_logprobs = (uint32_t)(n + 1);
	if (g->ask.n_logprobs < g->n_prompt_logprobs)
		g->ask.n_logprobs = g->n_prompt_logprobs;
	return true;
}

bool check_prompt_logprobs(struct http_call *c)
{
	struct generation *g = &c->gen;
	uint64_t n = 0;

	if (!g->n_prompt_logprobs && !(g->echo && g->n_logprobs))
		return true;
	for (unsigned i = 0; i < g->n_prompts; i++)
		n += (uint64_t)g->prompts[i].n * g->ask.n_logprobs * g->n;
	if (n > HTTP_MAX_ECHOED)
		return fault_param(&c->fault, g->n_prompt_logprobs ? "prompt_logprobs" : "logprobs",
				   "%llu log-probabilities of prompts in one answer, at most %d",
				   (unsigned long long)n, HTTP_MAX_ECHOED);
	g->ask.want_prompt_logprobs = true;
	return true;
}

static double value_of(float logprob)
{
	return isfinite(logprob) ? (double)logprob : NEVER;
}

/* "token":..., "logprob":..., "bytes":[...] */
static void put_entry(struct buf *b, const struct tokenizer *t, uint32_t id, float logprob,
		      bool with_id)
{
	const char *bytes;
	size_t n = tokenizer_piece(t, id, true, &bytes);

	if (with_id)
		buf_fmt(b, "\"id\":%u,", id);
	buf_text(b, "\"token\":");
	buf_json(b, bytes, n);
	buf_fmt(b, ",\"logprob\":%.9g,\"bytes\":[", value_of(logprob));
	for (size_t i = 0; i < n; i++)
		buf_fmt(b, "%s%u", i ? "," : "", (unsigned)(uint8_t)bytes[i]);
	buf_text(b, "]");
}

static void take_usual(struct buf *b, const struct tokenizer *t, uint32_t id,
		       const struct token_logprobs *l, uint32_t top, bool with_id)
{
	buf_text(b, b->n ? ",{" : "{");
	put_entry(b, t, id, l->logprob, with_id);
	buf_text(b, ",\"top_logprobs\":[");
	for (uint32_t i = 0; i < l->n && i < top; i++) {
		buf_text(b, i ? ",{" : "{");
		put_entry(b, t, l->ids[i], l->logprobs[i], with_id);
		buf_text(b, "}");
	}
	buf_text(b, "]}");
}

/* A token in OpenAI's older form: one that is no whole characters is "bytes:\\xe2\\x80" there. */
static void put_legacy_token(struct buf *b, const char *bytes, size_t n)
{
	if (utf8_valid(bytes, n) == n) {
		buf_json(b, bytes, n);
		return;
	}
	buf_text(b, "\"bytes:");
	for (size_t i = 0; i < n; i++)
		buf_fmt(b, "\\\\x%02x", (unsigned)(uint8_t)bytes[i]);
	buf_text(b, "\"");
}

/*
 * The likeliest @top and the token itself, least likely then: a map by text, so of several tokens with one text the
 * likeliest is there.
 */
static void put_legacy_top(struct buf *b, const struct tokenizer *t, uint32_t id,
			   const struct token_logprobs *l, uint32_t top)
{
	struct {
		const char *bytes;
		size_t n;
	} seen[LOGPROBS_MAX + 1];
	uint32_t n_seen = 0, n = l->n < top ? l->n : top;
	bool is_in = false;

	for (uint32_t i = 0; i < n; i++)
		is_in |= l->ids[i] == id;
	buf_text(b, "{");
	for (uint32_t i = 0; i < n + !is_in; i++) {
		const char *bytes;
		size_t len = tokenizer_piece(t, i < n ? l->ids[i] : id, true, &bytes);
		uint32_t k = 0;

		while (k < n_seen && (seen[k].n != len || memcmp(seen[k].bytes, bytes, len) != 0))
			k++;
		if (k < n_seen)
			continue;
		buf_text(b, n_seen ? "," : "");
		put_legacy_token(b, bytes, len);
		buf_fmt(b, ":%.9g", value_of(i < n ? l->logprobs[i] : l->logprob));
		seen[n_seen].bytes = bytes;
		seen[n_seen++].n = len;
	}
	buf_text(b, "}");
}

/* OpenAI's older form: four lists. @l NULL: nothing is before this token, so it has no probability. */
static void take_legacy(struct choice *c, const struct tokenizer *t, uint32_t id,
			const struct token_logprobs *l, uint32_t top)
{
	const char *comma = c->legacy[0].n ? "," : "", *bytes;
	size_t n = tokenizer_piece(t, id, true, &bytes);

	for (unsigned i = 0; i < 4; i++)
		buf_text(&c->legacy[i], comma);
	put_legacy_token(&c->legacy[0], bytes, n);
	if (l)
		buf_fmt(&c->legacy[1], "%.9g", value_of(l->logprob));
	else
		buf_text(&c->legacy[1], "null");
	if (l)
		put_legacy_top(&c->legacy[2], t, id, l, top);
	else
		buf_text(&c->legacy[2], "null");
	buf_fmt(&c->legacy[3], "%zu", c->n_chars);
	for (size_t i = 0; i < n; i++)
		c->n_chars += ((uint8_t)bytes[i] & 0xc0) != 0x80;
}

static void put_ranked(struct buf *b, const struct tokenizer *t, uint32_t id, float logprob,
		       uint32_t rank)
{
	const char *bytes;
	size_t n = tokenizer_piece(t, id, true, &bytes);

	buf_fmt(b, "\"%u\":{\"logprob\":%.9g,\"rank\":%u,\"decoded_token\":", id, value_of(logprob),
		rank);
	buf_json(b, bytes, n);
	buf_text(b, "}");
}

/* vLLM's form: the token itself, then the @top likeliest, by id. @l as above. */
static void take_ranked(struct buf *b, const struct tokenizer *t, uint32_t id,
			const struct token_logprobs *l, uint32_t top)
{
	buf_text(b, b->n ? "," : "");
	if (!l) {
		buf_text(b, "null");
		return;
	}
	buf_text(b, "{");
	put_ranked(b, t, id, l->logprob, l->rank);
	for (uint32_t i = 0; i < l->n && i < top; i++) {
		if (l->ids[i] == id)
			continue;
		buf_text(b, ",");
		put_ranked(b, t, l->ids[i], l->logprobs[i], i + 1);
	}
	buf_text(b, "}");
}

void take_prompt_logprobs(struct http_request *r, struct choice *c, const struct event *e)
{
	const struct tokenizer *t = r->http->serve->config.tokenizer;
	const struct token_logprobs *l = e->u.prompt_token.logprobs;
	const struct generation *g = &r->call->gen;
	uint32_t id = e->u.prompt_token.token;

	if (g->echo && g->n_logprobs)
		take_legacy(c, t, id, l, g->n_logprobs - 1);
	if (g->n_prompt_logprobs)
		take_ranked(&c->prompt_logprobs, t, id, l, g->n_prompt_logprobs - 1);
}

void take_logprobs(struct http_request *r, struct choice *c, const struct event *e)
{
	const struct tokenizer *t = r->http->serve->config.tokenizer;
	const struct token_logprobs *l = e->u.token.logprobs;
	const struct generation *g = &r->call->gen;
	uint32_t id = e->u.token.token, top = g->n_logprobs - 1;

	if (!l || !g->n_logprobs)
		return;
	if (g->chat || g->native)
		take_usual(&c->logprobs, t, id, l, top, g->native);
	else
		take_legacy(c, t, id, l, top);
}

static void put_legacy(struct http_request *r, struct choice *c)
{
	static const char *const names[] = { "{\"tokens\":[", "],\"token_logprobs\":[",
					     "],\"top_logprobs\":[", "],\"text_offset\":[" };

	for (unsigned i = 0; i < 4; i++) {
		buf_text(&r->out, names[i]);
		buf_put(&r->out, c->legacy[i].data, c->legacy[i].n);
		c->legacy[i].n = 0;
	}
	buf_text(&r->out, "]}");
}

/* The value of a choice's "logprobs"; for llama.cpp's server a member, or nothing. Once for each. */
void put_logprobs(struct http_request *r, struct choice *c)
{
	const struct generation *g = &r->call->gen;

	if (g->native) {
		if (!c->logprobs.n)
			return;
		buf_text(&r->out, ",\"completion_probabilities\":[");
	} else if (c->legacy[0].n) {
		put_legacy(r, c);
		return;
	} else if (!c->logprobs.n) {
		buf_text(&r->out, "null");
		return;
	} else {
		buf_text(&r->out, "{\"content\":[");
	}
	buf_put(&r->out, c->logprobs.data, c->logprobs.n);
	buf_text(&r->out, g->native ? "]" : "],\"refusal\":null}");
	c->logprobs.n = 0;
}

void put_prompt_logprobs(struct http_request *r, struct choice *c)
{
	if (!r->call->gen.n_prompt_logprobs)
		return;
	buf_text(&r->out, ",\"prompt_logprobs\":[");
	buf_put(&r->out, c->prompt_logprobs.data, c->prompt_logprobs.n);
	buf_text(&r->out, "]");
}
