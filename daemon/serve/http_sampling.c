/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_sampling.c: how a request wants its tokens chosen, under the names of llama.cpp's
 * server, OpenAI and vLLM. What it does not say is the file's own default (keys general.sampling.* of
 * GGUF), else that of llama.cpp's server. On the worker's thread; sampling_defaults() at the start.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/num.h"
#include "base/ranges.h"
#include "model/gguf.h"
#include "serve/http_private.h"
#include "serve/prompt.h"

#define BREAKERS_MAX 64
#define BIASES_MAX   1024
#define TEXT_MAX     256 /* bytes of a breaker or a bias's text: a thread reads all clients' bodies */

/* Texts that end a repetition where a request names none. */
static const char *const usual_breakers[] = { "\n", ":", "\"", "*" };

static void from_file(const struct gguf *g, const char *name, double min, double max, float *ret)
{
	char key[64];
	float value;

	snprintf(key, sizeof(key), "general.sampling.%s", name);
	if (g && !gguf_f32(g, key, &value, NULL) && value >= min && value <= max)
		*ret = value;
}

void sampling_defaults(const struct gguf *g, struct sampling *ret)
{
	uint32_t top_k;

	*ret = (struct sampling){ .temperature = 0.8f,
				  .top_k = 40,
				  .top_p = 0.95f,
				  .min_p = 0.05f,
				  .repeat_penalty = 1,
				  .penalty_last_n = 64,
				  .typical_p = 1,
				  .xtc_threshold = 0.1f,
				  .dry_base = 1.75f,
				  .dry_allowed_length = 2,
				  .dry_last_n = -1 };
	from_file(g, "temp", 0, 100, &ret->temperature);
	from_file(g, "top_p", 0, 1, &ret->top_p);
	from_file(g, "min_p", 0, 1, &ret->min_p);
	from_file(g, "penalty_repeat", 0, 100, &ret->repeat_penalty);
	from_file(g, "xtc_probability", 0, 1, &ret->xtc_probability);
	from_file(g, "xtc_threshold", 0, 1, &ret->xtc_threshold);
	if (g && !gguf_u32(g, "general.sampling.top_k", &top_k, NULL) && top_k <= INT32_MAX)
		ret->top_k = top_k;
}

void put_sampling(struct buf *b, const struct sampling *s)
{
	buf_fmt(b,
		"\"temperature\":%g,\"top_k\":%u,\"top_p\":%g,\"min_p\":%g,\"seed\":%llu,"
		"\"repeat_penalty\":%g,\"repeat_last_n\":%d,\"frequency_penalty\":%g,"
		"\"presence_penalty\":%g,\"min_tokens\":%u,\"typical_p\":%g,\"top_n_sigma\":%g,"
		"\"xtc_probability\":%g,\"xtc_threshold\":%g,\"dry_multiplier\":%g,"
		"\"dry_base\":%g,\"dry_allowed_length\":%u,\"dry_penalty_last_n\":%d",
		(double)s->temperature, s->top_k, (double)s->top_p, (double)s->min_p,
		(unsigned long long)s->seed, (double)s->repeat_penalty, (int)s->penalty_last_n,
		(double)s->frequency_penalty, (double)s->presence_penalty, s->min_tokens,
		(double)s->typical_p, (double)s->top_n_sigma, (double)s->xtc_probability,
		(double)s->xtc_threshold, (double)s->dry_multiplier, (double)s->dry_base,
		s->dry_allowed_length, (int)s->dry_last_n);
}

void put_sampling_defaults(struct buf *b, const struct sampling *s)
{
	put_sampling(b, s);
	buf_text(b, ",\"dry_sequence_breakers\":[");
	for (size_t i = 0; i < ARRAY_LEN(usual_breakers); i++) {
		buf_text(b, i ? "," : "");
		buf_json_text(b, usual_breakers[i]);
	}
	buf_text(b, "],\"logit_bias\":[]");
}

/* From -2^63 to 2^64 - 1; 42.0 is 42, as clients of which all numbers are doubles write it. */
static bool seed_value(struct json_object *v, uint64_t *ret)
{
	double d = json_object_get_double(v);

	if (json_object_is_type(v, json_type_double)) {
		if (jsonc_digits(v) || d != floor(d) || d < -0x1p63 || d >= 0x1p64)
			return false;
		*ret = d < 0 ? (uint64_t)(int64_t)d : (uint64_t)d;
		return true;
	}
	*ret = json_object_get_int64(v) < 0 ? (uint64_t)json_object_get_int64(v)
					    : json_object_get_uint64(v);
	return json_object_is_type(v, json_type_int);
}

/* One that no client's number is too short for, so that what an answer shows can be asked again. */
static uint64_t fresh_seed(uint64_t otherwise)
{
	uint32_t seed;

	return getrandom(&seed, sizeof(seed), 0) == sizeof(seed) ? seed : (uint32_t)otherwise;
}

static bool read_seed(struct http_call *c)
{
	struct json_object *seed = get(c->json, "seed");
	uint64_t *s = &c->gen.ask.sampling.seed;

	if (seed && !seed_value(seed, s))
		return fault_param(&c->fault, "seed",
				   "seed must be a whole number of 64 bits, -1 for a new one");
	if (!seed || json_object_get_double(seed) == -1.0)
		*s = fresh_seed(c->since_ns);
	return true;
}

/* ---- logit_bias ---- */

static bool bias_value(struct json_object *v, float *ret)
{
	if (json_object_is_type(v, json_type_boolean) && !json_object_get_boolean(v)) {
		*ret = -INFINITY;
		return true;
	}
	if (!json_object_is_type(v, json_type_int) && !json_object_is_type(v, json_type_double))
		return false;
	*ret = (float)json_object_get_double(v);
	return *ret >= -1000 && *ret <= 1000;
}

/* One entry; the last of a token counts. */
static bool add_bias(struct http_call *c, int64_t id, float value)
{
	struct sampling *s = &c->gen.ask.sampling;
	struct logit_bias *bias = c->gen.bias;

	if (id < 0 || id >= c->http->serve->config.model->n_vocab)
		return false;
	for (uint32_t i = 0; i < s->n_bias; i++)
		if (bias[i].id == (uint32_t)id) {
			bias[i].bias = value;
			return true;
		}
	if (s->n_bias == BIASES_MAX)
		return false;
	bias[s->n_bias++] = (struct logit_bias){ (uint32_t)id, value };
	return true;
}

/* The tokens of a text, each with the value. */
static bool add_bias_text(struct http_call *c, const char *text, size_t bytes, float value)
{
	uint32_t *ids;
	ssize_t n = bytes <= TEXT_MAX ? tokenizer_encode(c->http->serve->config.tokenizer, text,
							 bytes, true, &ids)
				      : -E2BIG;
	bool ok = n >= 0;

	for (ssize_t i = 0; ok && i < n; i++)
		ok = add_bias(c, ids[i], value);
	if (n >= 0)
		free(ids);
	return ok;
}

static bool add_bias_pair(struct http_call *c, struct json_object *pair)
{
	struct json_object *key;
	float value;

	if (!json_object_is_type(pair, json_type_array) || json_object_array_length(pair) != 2 ||
	    !bias_value(json_object_array_get_idx(pair, 1), &value))
		return false;
	key = json_object_array_get_idx(pair, 0);
	if (json_object_is_type(key, json_type_string))
		return add_bias_text(c, json_object_get_string(key),
				     (size_t)json_object_get_string_len(key), value);
	return json_object_is_type(key, json_type_int) &&
	       add_bias(c, json_object_get_int64(key), value);
}

static bool read_bias_map(struct http_call *c, struct json_object *map)
{
	json_object_object_foreach(map, key, item)
	{
		char *end;
		long long id = strtoll(key, &end, 10);
		float value;

		if (!*key || !bias_value(item, &value))
			return false;
		if (*end ? !add_bias_text(c, key, strlen(key), value) : !add_bias(c, id, value))
			return false;
	}
	return true;
}

static bool read_bias(struct http_call *c)
{
	struct json_object *v = get(c->json, "logit_bias");
	bool map = json_object_is_type(v, json_type_object);
	bool list = json_object_is_type(v, json_type_array);
	size_t n = map	  ? (size_t)json_object_object_length(v)
		   : list ? json_object_array_length(v)
			  : 0;
	bool ok = (map || list) && n <= BIASES_MAX;

	if (!v)
		return true;
	c->gen.bias = malloc(BIASES_MAX * sizeof(*c->gen.bias));
	if (!c->gen.bias)
		return fault_set(&c->fault, 500, "out of memory");
	c->gen.ask.sampling.bias = c->gen.bias;
	if (ok && map)
		ok = read_bias_map(c, v);
	for (size_t i = 0; ok && list && i < n; i++)
		ok = add_bias_pair(c, json_object_array_get_idx(v, i));
	return ok ||
	       fault_param(&c->fault, "logit_bias",
			   "logit_bias must be {\"ID or text\": BIAS} or [[ID or text, BIAS]], ids "
			   "below %u, texts of at most %d bytes, biases of -1000 to 1000 or false, "
			   "at most %d of them, and of tokens",
			   c->http->serve->config.model->n_vocab, TEXT_MAX, BIASES_MAX);
}

/* ---- DRY ---- */

static bool mark_breakers(struct http_call *c, const char *const *texts, size_t n)
{
	if (prompt_breaks(c->http->serve, texts, n, &c->gen.dry_breaks))
		return fault_set(&c->fault, 500, "out of memory");
	c->gen.ask.sampling.dry_breaks = c->gen.dry_breaks;
	return true;
}

/* They are looked for in tokens up to their first zero byte. */
static bool is_breaker(struct json_object *o)
{
	size_t n = json_object_is_type(o, json_type_string) ? (size_t)json_object_get_string_len(o)
							    : 0;

	return n && n <= TEXT_MAX && strlen(json_object_get_string(o)) == n;
}

static bool read_breakers(struct http_call *c)
{
	struct json_object *v = get(c->json, "dry_sequence_breakers");
	const char *texts[BREAKERS_MAX];
	size_t n;

	if (!c->gen.ask.sampling.dry_multiplier)
		return true;
	if (!v)
		return mark_breakers(c, usual_breakers, ARRAY_LEN(usual_breakers));
	n = json_object_is_type(v, json_type_array) ? json_object_array_length(v)
						    : BREAKERS_MAX + 1;
	for (size_t i = 0; i < n && n <= BREAKERS_MAX; i++) {
		struct json_object *one = json_object_array_get_idx(v, i);

		if (!is_breaker(one))
			n = BREAKERS_MAX + 1;
		else
			texts[i] = json_object_get_string(one);
	}
	if (n > BREAKERS_MAX)
		return fault_param(&c->fault, "dry_sequence_breakers",
				   "dry_sequence_breakers must be a list of at most %d texts of 1 "
				   "to %d bytes, none of them zero",
				   BREAKERS_MAX, TEXT_MAX);
	return mark_breakers(c, texts, n);
}

/* ---- all of them ---- */

/* A number: a float or a whole one, by which of the two it has a place for. */
struct number {
	const char *name;
	double min, max;
	float *real;
	int64_t *whole;
};

#define ROW(name, min, max) static const double range_##name[] = { min, max };
RANGES_FLOAT(ROW)
#undef ROW

static bool read_numbers(struct http_call *c, const struct number *all, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct number *v = &all[i];

		if (v->real ? !read_float(c->json, v->name, v->min, v->max, v->real, &c->fault)
			    : !read_int(c->json, v->name, (int64_t)v->min, (int64_t)v->max,
					v->whole, &c->fault))
			return false;
	}
	return true;
}

#define REAL(name)                                                      \
	{                                                               \
#name, range_##name[0], range_##name[1], &s->name, NULL \
	}
#define WHOLE(name, min, max, ret)         \
	{                                  \
#name, min, max, NULL, ret \
	}

/* temperature, top_k, ... */
static bool read_usual(struct http_call *c)
{
	struct sampling *s = &c->gen.ask.sampling;
	int64_t top_k = s->top_k;
	const struct number all[] = { REAL(temperature),
				      WHOLE(top_k, RANGE_COUNT_MIN, RANGE_COUNT_MAX, &top_k),
				      REAL(top_p), REAL(min_p) };

	if (!read_numbers(c, all, ARRAY_LEN(all)))
		return false;
	s->top_k = top_k < 0 ? 0 : (uint32_t)top_k;
	return read_seed(c);
}

static bool read_penalties(struct http_call *c)
{
	struct sampling *s = &c->gen.ask.sampling;
	float other = s->repeat_penalty; /* under vLLM's name */
	int64_t last_n = s->penalty_last_n;
	const struct number all[] = { REAL(repeat_penalty),
				      { "repetition_penalty", range_repeat_penalty[0],
					range_repeat_penalty[1], &other, NULL },
				      WHOLE(repeat_last_n, RANGE_COUNT_MIN, RANGE_COUNT_MAX,
					    &last_n),
				      REAL(frequency_penalty),
				      REAL(presence_penalty) };

	if (!read_numbers(c, all, ARRAY_LEN(all)))
		return false;
	if (!get(c->json, "repeat_penalty"))
		s->repeat_penalty = other;
	if (last_n) {
		s->penalty_last_n = (int32_t)last_n;
	} else { /* no tokens are looked at */
		s->repeat_penalty = 1;
		s->frequency_penalty = s->presence_penalty = 0;
	}
	return true;
}

static bool read_rare(struct http_call *c)
{
	struct sampling *s = &c->gen.ask.sampling;
	int64_t last = s->dry_last_n, allowed = s->dry_allowed_length;
	const struct number all[] = { REAL(typical_p),
				      REAL(top_n_sigma),
				      REAL(xtc_probability),
				      REAL(xtc_threshold),
				      REAL(dry_multiplier),
				      { "dry_base", 0, 100, &s->dry_base, NULL },
				      WHOLE(dry_allowed_length, 0, INT32_MAX, &allowed),
				      WHOLE(dry_penalty_last_n, -1, INT32_MAX, &last) };

	if (!read_numbers(c, all, ARRAY_LEN(all)))
		return false;
	s->dry_last_n = (int32_t)last;
	s->dry_allowed_length = (uint32_t)allowed;
	return read_breakers(c);
}

bool read_sampling(struct http_call *c)
{
	int64_t min_tokens = 0;

	c->gen.ask.sampling = c->http->defaults;
	if (!read_usual(c) || !read_penalties(c) || !read_bias(c) ||
	    !read_int(c->json, "min_tokens", 0, INT32_MAX, &min_tokens, &c->fault))
		return false;
	c->gen.ask.sampling.min_tokens = (uint32_t)min_tokens;
	return read_rare(c);
}
