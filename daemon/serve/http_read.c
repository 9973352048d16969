/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_read.c: JSON requests: fields with their types and bounds, and what all kinds of
 * generation have in common. On the worker's thread; everything here is untrusted. Unknown fields
 * are ignored and named in the log at level debug.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/num.h"
#include "base/ranges.h"
#include "base/utf8.h"
#include "serve/http_private.h"
#include "serve/prompt.h"

#define DEPTH 128 /* of arrays and objects within each other */

struct json_object *get(struct json_object *o, const char *key)
{
	return jsonc_member(o, key);
}

bool read_bool(struct json_object *o, const char *key, bool *ret, struct fault *f)
{
	struct json_object *v = get(o, key);

	if (!v)
		return true;
	if (!json_object_is_type(v, json_type_boolean))
		return fault_param(f, key, "%s must be true or false", key);
	*ret = json_object_get_boolean(v);
	return true;
}

static bool is_number(struct json_object *v)
{
	return json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double);
}

bool read_int(struct json_object *o, const char *key, int64_t min, int64_t max, int64_t *ret,
	      struct fault *f)
{
	struct json_object *v = get(o, key);
	double d = v && is_number(v) ? json_object_get_double(v) : 0.5;

	if (!v)
		return true;
	if (d != floor(d))
		return fault_param(f, key, "%s must be a whole number", key);
	if (d < (double)min || d > (double)max)
		return fault_param(f, key, "%s must lie between %lld and %lld", key, (long long)min,
				   (long long)max);
	*ret = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : (int64_t)d;
	return true;
}

bool read_float(struct json_object *o, const char *key, double min, double max, float *ret,
		struct fault *f)
{
	struct json_object *v = get(o, key);
	double d;

	if (!v)
		return true;
	if (!is_number(v))
		return fault_param(f, key, "%s must be a number", key);
	d = json_object_get_double(v);
	if (!(d >= min && d <= max))
		return fault_param(f, key, "%s must lie between %g and %g", key, min, max);
	*ret = (float)d;
	return true;
}

bool read_text(struct json_object *o, const char *key, const char **ret, struct fault *f)
{
	struct json_object *v = get(o, key);

	if (!v)
		return true;
	if (!json_object_is_type(v, json_type_string))
		return fault_param(f, key, "%s must be a string", key);
	*ret = json_object_get_string(v);
	return true;
}

/* ---- the body ---- */

/* json-c takes NaN and Infinity, which JSON does not have; 1e999 is none of a number's values. */
static bool is_finite(struct json_object *v)
{
	if (json_object_is_type(v, json_type_double))
		return isfinite(json_object_get_double(v));
	if (json_object_is_type(v, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(v); i++)
			if (!is_finite(json_object_array_get_idx(v, i)))
				return false;
	}
	if (json_object_is_type(v, json_type_object)) {
		json_object_object_foreach(v, key, item)
		{
			(void)key;
			if (!is_finite(item))
				return false;
		}
	}
	return true;
}

bool read_json_text(struct http_call *c, const char *text, size_t n, const char *what,
		    struct json_object **ret)
{
	size_t values = jsonc_values(text, n), at;
	const char *why;
	int rc;

	if (values > HTTP_MAX_VALUES)
		return fault_set(&c->fault, 413, "%s: the JSON may have %d values", what,
				 HTTP_MAX_VALUES);
	c->values += values;
	rc = jsonc_parse(text, n, DEPTH, ret, &at, &why);
	if (rc == -ENOMEM)
		return fault_set(&c->fault, 500, "out of memory");
	if (rc)
		return fault_set(&c->fault, 400, "%s is not valid JSON: %s, near byte %zu", what,
				 why, at);
	if (!json_object_is_type(*ret, json_type_object))
		return fault_set(&c->fault, 400, "%s must be a JSON object", what);
	return is_finite(*ret) ||
	       fault_set(&c->fault, 400, "%s has a number that is not finite", what);
}

bool read_json(struct http_call *c)
{
	size_t valid = utf8_valid(c->body.data, c->body.n);

	/* json-c lets surrogates, overlong forms and what lies above U+10FFFF pass */
	if (valid < c->body.n)
		return fault_set(&c->fault, 400, "the body is not valid UTF-8, at byte %zu", valid);
	if (!c->body.n && c->route->bare) {
		c->json = json_object_new_object();
		return c->json || fault_set(&c->fault, 500, "out of memory");
	}
	return read_json_text(c, c->body.data, c->body.n, "the body", &c->json);
}

/* ---- prompts ---- */

bool read_too_long(struct http_call *c, uint32_t n)
{
	uint32_t n_ctx = engine_n_ctx(c->http->serve->config.engine);

	fault_set(&c->fault, 400,
		  "the request (%u tokens) exceeds the available context size (%u tokens): this "
		  "model's maximum context length is %u tokens",
		  n, n_ctx, n_ctx);
	c->fault.type = "exceed_context_size_error";
	c->fault.code = "context_length_exceeded";
	c->fault.n_prompt_tokens = n;
	c->fault.n_ctx = n_ctx;
	return false;
}

bool read_prompt_ids(struct http_call *c, uint32_t *ids, uint32_t n)
{
	struct generation *g = &c->gen;
	uint32_t n_ctx = engine_n_ctx(c->http->serve->config.engine);

	if (g->n_prompts == HTTP_MAX_CHOICES) {
		free(ids);
		return fault_param(&c->fault, "prompt", "at most %d prompts in one request",
				   HTTP_MAX_CHOICES);
	}
	g->prompts[g->n_prompts++] = (struct http_prompt){ .ids = ids, .n = n };
	if (!n)
		return fault_param(&c->fault, "prompt", "the prompt is empty");
	if (!g->counting && n + (g->ask.max_tokens ? 1 : 0) > n_ctx)
		return read_too_long(c, n);
	return true;
}

/* An ask's text or ids as a prompt. */
static bool encode(struct http_call *c, const struct ask *ask, uint32_t **ids, uint32_t *n)
{
	struct serve *s = c->http->serve;
	struct err err = { 0 };
	int code = prompt_encode(s, ask, ids, n, &err);

	if (!code)
		return true;
	if (code == SLUICE_E_TOO_LONG)
		return read_too_long(c, engine_n_ctx(s->config.engine) + 1); /* at least */
	fault_of_code(&c->fault, code, err.text);
	return false;
}

bool read_prompt_text(struct http_call *c, const char *text, size_t n, bool special)
{
	struct ask ask = {
		.kind = ASK_TOKENIZE, .data = (const uint8_t *)text, .bytes = n, .special = special
	};
	uint32_t *ids = NULL, count = 0;

	return encode(c, &ask, &ids, &count) && read_prompt_ids(c, ids, count);
}

/* ---- what all kinds of generation have in common ---- */

static bool add_stop(struct http_call *c, struct json_object *v)
{
	struct generation *g = &c->gen;
	size_t n = json_object_is_type(v, json_type_string) ? (size_t)json_object_get_string_len(v)
							    : STOPS_BYTES_MAX + 1;

	if (!n)
		return true;
	if (n > STOPS_BYTES_MAX || g->ask.n_stops == STOPS_MAX)
		return fault_param(&c->fault, "stop",
				   "stop must be strings of at most %d bytes, at most %d of them",
				   STOPS_BYTES_MAX, STOPS_MAX);
	g->stops[g->ask.n_stops++] = (struct stop_text){ json_object_get_string(v), n };
	return true;
}

static bool read_stops(struct http_call *c)
{
	struct json_object *v = get(c->json, "stop");

	if (!v)
		v = get(c->json, "stop_sequences"); /* Anthropic's name */
	if (!v)
		return true;
	if (!json_object_is_type(v, json_type_array))
		return add_stop(c, v);
	for (size_t i = 0; i < json_object_array_length(v); i++)
		if (!add_stop(c, json_object_array_get_idx(v, i)))
			return false;
	return true;
}

/* The least of the names that say how long the answer may be; -1: as long as there is room. */
static bool read_length(struct http_call *c)
{
	static const char *const names[] = { "max_tokens", "max_completion_tokens",
					     "max_output_tokens", "n_predict" };
	int64_t n = -1;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		int64_t one = -1;

		if (!read_int(c->json, names[i], RANGE_COUNT_MIN, RANGE_COUNT_MAX, &one, &c->fault))
			return false;
		if (one >= 0 && (n < 0 || one < n))
			n = one;
	}
	c->gen.ask.max_tokens = n < 0 ? INT32_MAX : (uint32_t)n;
	return true;
}

/* What drafts tokens for this request: enum spec_mode by its name in `sluiced --spec`. */
static bool read_spec(struct http_call *c)
{
	static const char *const names[] = {
		[SPEC_AUTO] = "auto", [SPEC_OFF] = "off", [SPEC_NGRAM] = "ngram", [SPEC_MTP] = "mtp"
	};
	const char *name = NULL;

	if (!get(c->json, "spec"))
		return true;
	if (!read_text(c->json, "spec", &name, &c->fault))
		return false;
	for (unsigned i = SPEC_AUTO; i < ARRAY_LEN(names); i++)
		if (!strcmp(name, names[i])) {
			c->gen.ask.spec = (enum spec_mode)i;
			return true;
		}
	return fault_param(&c->fault, "spec", "spec must be auto, off, ngram or mtp");
}

static void log_unknown(struct http_call *c)
{
	static const char known[] =
		" model messages prompt stream stream_options max_tokens max_completion_tokens "
		"n_predict max_output_tokens n n_cmpl stop stop_sequences temperature top_k top_p min_p seed "
		"logprobs top_logprobs n_probs prompt_logprobs ignore_eos response_format grammar regex json_schema tools "
		"tool_choice parallel_tool_calls chat_template_kwargs enable_thinking "
		"preserve_thinking reasoning_effort reasoning thinking continue_final_message "
		"add_generation_prompt timings_per_token return_progress return_tokens cache_prompt "
		"id_slot echo suffix best_of user metadata system input instructions store "
		"frequency_penalty presence_penalty repeat_penalty repeat_last_n logit_bias min_tokens "
		"typical_p top_n_sigma xtc_probability xtc_threshold dry_multiplier dry_base "
		"dry_allowed_length dry_penalty_last_n dry_sequence_breakers t_max_predict_ms "
		"spec guided_json guided_regex guided_choice guided_grammar structured_outputs "
		"previous_response_id include text truncation ";
	char name[70];
	unsigned left = 100;

	json_object_object_foreach(c->json, key, value)
	{
		(void)value;
		if (!left)
			return;
		if (strlen(key) < 64) {
			snprintf(name, sizeof(name), " %s ", key);
			if (strstr(known, name))
				continue;
		}
		log_line(LOG_DBG, "http field ignored", "name=\"%.80s\"", key);
		left--;
	}
}

static bool read_stream(struct http_call *c)
{
	struct json_object *options = get(c->json, "stream_options");

	if (!read_bool(c->json, "stream", &c->gen.stream, &c->fault))
		return false;
	if (options && (!json_object_is_type(options, json_type_object) ||
			!read_bool(options, "include_usage", &c->gen.include_usage, &c->fault)))
		return fault_param(&c->fault, "stream_options",
				   "stream_options must be an object with include_usage");
	return true;
}

/* In the order of docs/http.md: of several bad fields the first one there is named. */
bool read_generation(struct http_call *c)
{
	struct generation *g = &c->gen;
	struct json_object *o = c->json;
	struct fault *f = &c->fault;
	int64_t n = 1, ms = 0, slot = -1;
	bool reuse = true;

	log_unknown(c);
	if (!read_length(c) || !read_int(o, "n_cmpl", 1, HTTP_MAX_CHOICES, &n, f) ||
	    !read_int(o, "n", 1, HTTP_MAX_CHOICES, &n, f) || !read_sampling(c) ||
	    !read_logprobs(c) || !read_stops(c) || !read_stream(c) ||
	    !read_bool(o, "ignore_eos", &g->ask.ignore_eog, f) ||
	    !read_bool(o, "timings_per_token", &g->timings_per_token, f) ||
	    !read_bool(o, "return_progress", &g->return_progress, f) ||
	    !read_int(o, "t_max_predict_ms", 0, INT32_MAX, &ms, f) || !read_spec(c) ||
	    !read_bool(o, "cache_prompt", &reuse, f) ||
	    !read_int(o, "id_slot", -1, INT32_MAX, &slot, f) || !form_read(c))
		return false;
	g->n = (unsigned)n;
	g->ask.no_reuse = !reuse;
	g->ask.place = (uint32_t)(slot + 1);
	g->ask.max_ms = (uint64_t)ms;
	return true;
}

/* Ids that a client writes, alone or between texts. */
static bool add_mixed(struct http_call *c, struct json_object *list)
{
	size_t n = json_object_array_length(list), used = 0, room = n + 16;
	uint32_t *all = malloc(room * sizeof(*all)),
		 n_vocab = c->http->serve->config.model->n_vocab;

	for (size_t i = 0; all && i < n; i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		uint32_t one, *ids = &one, count = 1, *bigger;

		if (json_object_is_type(v, json_type_string)) {
			struct ask ask = { .kind = ASK_TOKENIZE,
					   .data = (const uint8_t *)json_object_get_string(v),
					   .bytes = (uint64_t)json_object_get_string_len(v),
					   .special = true };

			if (!encode(c, &ask, &ids, &count))
				goto out;
		} else if (json_object_is_type(v, json_type_int) && json_object_get_int64(v) >= 0 &&
			   json_object_get_int64(v) < n_vocab) {
			one = (uint32_t)json_object_get_int64(v);
		} else {
			fault_param(&c->fault, "prompt",
				    "prompt: entry %zu is no token id below %u and no text", i,
				    n_vocab);
			goto out;
		}
		if (used + count + n > room) {
			room = used + count + n;
			bigger = realloc(all, room * sizeof(*all));
			if (!bigger) {
				if (ids != &one)
					free(ids);
				goto out;
			}
			all = bigger;
		}
		memcpy(all + used, ids, count * sizeof(*ids));
		used += count;
		if (ids != &one)
			free(ids);
	}
	return all && read_prompt_ids(c, all, (uint32_t)used);
out:
	free(all);
	return false;
}

static unsigned kinds_in(struct json_object *list)
{
	unsigned kinds = 0;

	for (size_t i = 0; i < json_object_array_length(list); i++)
		kinds |= 1u << json_object_get_type(json_object_array_get_idx(list, i));
	return kinds;
}

/* A string; ids; ids and strings (one prompt); strings or lists of ids (a prompt each). */
bool read_prompts(struct http_call *c)
{
	struct json_object *p = get(c->json, "prompt");
	unsigned kinds;

	/* text stands for itself, in whatever tokens it was read or written before */
	if (json_object_is_type(p, json_type_string)) {
		c->gen.ask.respell = true;
		return read_prompt_text(c, json_object_get_string(p),
					(size_t)json_object_get_string_len(p), true);
	}
	if (!json_object_is_type(p, json_type_array) || !json_object_array_length(p))
		return fault_param(&c->fault, "prompt",
				   "prompt is needed: a string, a list of token ids, or a list of "
				   "prompts");
	kinds = kinds_in(p);
	if (kinds & 1u << json_type_int)
		return add_mixed(c, p);
	for (size_t i = 0; i < json_object_array_length(p); i++) {
		struct json_object *v = json_object_array_get_idx(p, i);
		bool ok;

		if (json_object_is_type(v, json_type_array))
			ok = add_mixed(c, v);
		else if (json_object_is_type(v, json_type_string))
			ok = read_prompt_text(c, json_object_get_string(v),
					      (size_t)json_object_get_string_len(v), true);
		else
			ok = fault_param(&c->fault, "prompt", "prompt: entry %zu is no prompt", i);
		if (!ok)
			return false;
	}
	if (c->gen.n_prompts * c->gen.n > HTTP_MAX_CHOICES)
		return fault_param(&c->fault, "n", "at most %d answers in one request",
				   HTTP_MAX_CHOICES);
	return true;
}
