/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_info.c: questions about the daemon: health, models, props, slots, metrics. Each
 * is answered at once from what is at hand, whatever the engine does. Main thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/version.h"
#include "chat/template.h"
#include "metrics/metrics.h"
#include "serve/http_private.h"
#include "telemetry/sampler.h"

void info_health(struct http_request *r)
{
	struct fault f;
	struct buf b = { 0 };

	if (r->http->quiet) {
		fault_set(&f, 503, "the daemon is stopping");
		http_reply_fault(r, &f);
	} else if (!r->http->serve->ready) {
		fault_set(&f, 503, "Loading model");
		f.code = "model_loading";
		http_reply_fault(r, &f);
	} else {
		buf_text(&b, "{\"status\":\"ok\"}");
		http_reply_json(r, &b);
	}
}

static void put_model(struct buf *b, const struct http *h)
{
	const struct model *m = h->serve->config.model;
	uint32_t n_ctx = engine_n_ctx(h->serve->config.engine);

	buf_text(b, "{\"id\":");
	buf_json_text(b, h->model);
	buf_fmt(b,
		",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"sluice\","
		"\"max_model_len\":%u,\"architecture\":{\"input_modalities\":[\"text\"],"
		"\"output_modalities\":[\"text\"]},\"meta\":{\"n_ctx\":%u,\"n_ctx_train\":%u,\"n_vocab\":%u,"
		"\"n_embd\":%u,\"n_params\":%llu,\"size\":%llu}}",
		(long long)h->started, n_ctx, n_ctx, m->n_ctx_train, m->n_vocab, m->n_embd,
		(unsigned long long)m->n_params, (unsigned long long)m->file_bytes);
}

void info_models(struct http_request *r)
{
	struct buf b = { 0 };

	buf_text(&b, "{\"object\":\"list\",\"data\":[");
	put_model(&b, r->http);
	buf_text(&b, "]}");
	http_reply_json(r, &b);
}

void info_one_model(struct http_request *r)
{
	struct buf b = { 0 };

	put_model(&b, r->http);
	http_reply_json(r, &b);
}

bool info_model_is(const struct http *h, const char *id, struct fault *f)
{
	if (!strcmp(id, h->model))
		return true;
	fault_set(f, 404, "there is no model %.100s here, only %.100s", id, h->model);
	f->type = "invalid_request_error"; /* as OpenAI words it */
	f->code = "model_not_found";
	snprintf(f->param, sizeof(f->param), "model");
	return false;
}

static void put_caps(struct buf *b, const struct chat_template *t)
{
	const struct chat_caps *c = chat_template_caps(t);
	const struct {
		const char *name;
		bool is;
	} all[] = {
		{ "supports_system_role", c->system },
		{ "supports_tools", c->tools },
		{ "supports_tool_calls", c->tool_calls },
		{ "supports_parallel_tool_calls", c->parallel_tool_calls },
		{ "supports_tool_responses", c->tool_responses },
		{ "supports_string_content", c->string_content },
		{ "supports_typed_content", c->typed_content },
		{ "supports_object_arguments", c->object_arguments },
		{ "supports_enable_thinking", c->thinking_switch },
		{ "supports_reasoning_effort", c->reasoning_effort },
		{ "supports_preserve_reasoning", c->preserve_reasoning },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		buf_fmt(b, "%s\"%s\":%s", i ? "," : "", all[i].name, all[i].is ? "true" : "false");
}

void info_props(struct http_request *r)
{
	const struct http *h = r->http;
	const struct chat_template *chat = h->serve->config.chat;
	struct engine_status e;
	struct buf b = { 0 };
	size_t n;

	engine_get_status(h->serve->config.engine, &e);
	buf_fmt(&b, "{\"default_generation_settings\":{\"n_ctx\":%u,\"params\":{", e.n_ctx);
	put_sampling_defaults(&b, &h->defaults);
	buf_fmt(&b, ",\"n_predict\":-1}},\"total_slots\":%u,\"model_alias\":", e.n_parallel);
	buf_json_text(&b, h->model);
	buf_text(&b, ",\"model_path\":");
	buf_json_text(&b, h->serve->config.model_path);
	buf_text(&b, ",\"modalities\":{\"vision\":false,\"audio\":false},\"chat_template\":");
	buf_json_text(&b, chat ? chat_template_source(chat, &n) : "");
	buf_text(&b, ",\"chat_template_caps\":{");
	if (chat)
		put_caps(&b, chat);
	buf_text(&b, "},\"build_info\":");
	buf_json_text(&b, sluice_version);
	buf_text(&b, ",\"is_sleeping\":false}");
	http_reply_json(r, &b);
}

static const char *word(bool is)
{
	return is ? "true" : "false";
}

/* ?fail_on_no_slot=1, by which balancers ask: with every place taken the status is 503. */
static bool slots_suffice(struct http_request *r, bool any_free)
{
	const char *ask =
		MHD_lookup_connection_value(r->c, MHD_GET_ARGUMENT_KIND, "fail_on_no_slot");
	struct fault f;

	if (any_free || !ask || !*ask || !strcmp(ask, "0"))
		return true;
	fault_set(&f, 503, "no slot available");
	http_reply_fault(r, &f);
	return false;
}

/* Places for sequences and how far they are, without what is in them. */
void info_slots(struct http_request *r)
{
	const struct engine *engine = r->http->serve->config.engine;
	struct engine_status e;
	struct buf b = { 0 };
	bool any_free = false;

	engine_get_status(engine, &e);
	buf_text(&b, "[");
	for (uint32_t i = 0; i < e.n_parallel; i++) {
		struct engine_place p;

		engine_get_place(engine, i, &p);
		any_free |= !p.busy;
		buf_fmt(&b,
			"%s{\"id\":%u,\"id_task\":%d,\"n_ctx\":%u,\"speculative\":%s,"
			"\"is_processing\":%s,\"is_paused\":%s,\"n_prompt_tokens\":%u,"
			"\"n_prompt_tokens_processed\":%u,\"n_prompt_tokens_cache\":%u,",
			i ? "," : "", i, (int)p.number - 1, e.n_ctx, word(e.spec_mode != SPEC_OFF),
			word(p.busy), word(p.paused), p.n_prompt,
			p.n_read - (p.n_cached < p.n_read ? p.n_cached : p.n_read), p.n_cached);
		buf_fmt(&b,
			"\"next_token\":[{\"has_next_token\":%s,\"n_remain\":%u,\"n_decoded\":%u}]}",
			word(p.busy && p.n_generated < p.max_tokens),
			p.n_generated < p.max_tokens ? p.max_tokens - p.n_generated : 0,
			p.n_generated);
	}
	buf_text(&b, "]");
	if (slots_suffice(r, any_free))
		http_reply_json(r, &b);
	else
		buf_done(&b);
}

/* How often each expert was used, by layer: what the page draws. */
void info_experts(struct http_request *r)
{
	const struct serve_config *s = &r->http->serve->config;
	uint32_t *uses = calloc(s->model->n_expert + 1, sizeof(*uses));
	struct buf b = { 0 };
	bool any = false;

	b.failed = !uses;
	buf_fmt(&b, "{\"n_expert\":%u,\"n_expert_used\":%u,\"layers\":[", s->model->n_expert,
		s->model->n_expert_used);
	for (uint32_t i = 0; uses && i < s->model->n_layers; i++) {
		if (!engine_get_uses(s->engine, i, uses))
			continue;
		buf_fmt(&b, "%s{\"layer\":%u,\"uses\":[", any ? "," : "", i);
		for (uint32_t k = 0; k < s->model->n_expert; k++)
			buf_fmt(&b, k ? ",%u" : "%u", uses[k]);
		buf_text(&b, "]}");
		any = true;
	}
	buf_text(&b, "]}");
	free(uses);
	http_reply_json(r, &b);
}

static void print_http(FILE *out, const struct http *h)
{
	unsigned open = 0;

	for (const struct http_request *r = h->requests; r; r = r->next)
		open += r->session.n_jobs != 0;
	metric_print_head(out, "sluice_http_connections", METRIC_GAUGE, "HTTP connections");
	fprintf(out, "sluice_http_connections %u\n", h->n_peers);
	metric_print_head(out, "sluice_http_generations", METRIC_GAUGE,
			  "HTTP requests that generate or wait for it");
	fprintf(out, "sluice_http_generations %u\n", open);
	metric_print_head(out, "sluice_http_requests_total", METRIC_COUNTER, "HTTP requests");
	fprintf(out, "sluice_http_requests_total %llu\n", (unsigned long long)h->n_requests);
	metric_print_head(out, "sluice_http_refused_total", METRIC_COUNTER,
			  "HTTP requests that were answered with an error");
	fprintf(out, "sluice_http_refused_total %llu\n", (unsigned long long)h->n_refused);
}

void info_metrics(struct http_request *r)
{
	const struct serve *s = r->http->serve;
	struct sluice_status_info *status = malloc(sizeof(*status));
	struct telemetry_snapshot *machine = malloc(sizeof(*machine));
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);
	struct buf b = { 0 };
	struct limits limits;

	if (status && machine && out) {
		info_status(s, status, NULL, 0);
		metrics_print_daemon(out, status);
		print_http(out, r->http);
		loop_time_print(out, &s->loop_time);
		if (s->config.sampler && !telemetry_sampler_get(s->config.sampler, machine) &&
		    !telemetry_sampler_limits(s->config.sampler, &limits))
			metrics_print_machine(out, machine, &limits);
	}
	if (out && !fclose(out))
		buf_put(&b, text, n);
	b.failed |= !b.n;
	free(text);
	free(status);
	free(machine);
	http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", &b);
}
