/* SPDX-License-Identifier: MIT */
/*
 * tools/status.c: `sluice status`: what the daemon does and has, for people or as JSON. Asks one
 * question; does not wait for the model. One thread.
 */
#include "tools/status.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/size.h"
#include "tools/client.h"
#include "tools/device_shown.h"
#include "tools/input.h"
#include "tools/drafts.h"
#include "tools/verbs.h"

struct args {
	struct client_args client;
	bool json, help;
};

static const struct opt options[] = {
	CLIENT_OPTIONS(struct args, "0"),
	{ "--json", NULL, OPT_FLAG, offsetof(struct args, json), .help = "One JSON object." },
	{ "--help", "-h", OPT_FLAG, offsetof(struct args, help), .help = "This text." },
};

static const char *state_name(uint32_t state)
{
	static const char *const names[] = { "starting", "ready", "failed" };

	return state < ARRAY_LEN(names) ? names[state] : "unknown";
}

/* One entry a line of @text. */
static json_t *lines_json(const char *text)
{
	json_t *array = json_array();

	while (*text) {
		size_t n = strcspn(text, "\n");

		json_array_append_new(array, input_json_text(text, n));
		text += n + (text[n] == '\n');
	}
	return array;
}

struct number {
	const char *name;
	uint64_t value;
};

static void set_numbers(json_t *o, const struct number *numbers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		json_object_set_new(o, numbers[i].name, json_integer((json_int_t)numbers[i].value));
}

/* "memory=sysfs disks=none" -> {"memory": "sysfs", "disks": null} */
static json_t *sources_json(const char *text)
{
	json_t *o = json_object();
	char copy[sizeof(((struct sluice_status_info *)0)->telemetry)], *rest = copy, *word;

	snprintf(copy, sizeof(copy), "%s", text);
	while ((word = strsep(&rest, " ")) != NULL) {
		char *source = strchr(word, '=');

		if (!source)
			continue;
		*source++ = '\0';
		json_object_set_new(o, word,
				    strcmp(source, "none") ? json_string(source) : json_null());
	}
	return o;
}

static json_t *nodes_json(const struct sluice_status_info *s)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < s->n_nodes && i < SLUICE_STATUS_NODES; i++) {
		const struct sluice_status_node *n = &s->nodes[i];

		json_array_append_new(array,
				      json_pack("{s:i, s:i, s:f, s:I}", "node", n->node, "workers",
						(int)n->workers, "share", n->share_ppm / 1e6,
						"arena_bytes", (json_int_t)n->arena_bytes));
	}
	return array;
}

/* null where the kernel, or an older daemon, does not say. */
static json_t *known_json(uint64_t value)
{
	return value && value != UINT64_MAX ? json_integer((json_int_t)value) : json_null();
}

static json_t *limits_json(const struct sluice_status_info *s)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "memory_bytes",
			 known_json(s->memory_limit_bytes), "memory_free_bytes",
			 known_json(s->memory_room_bytes), "memory_from",
			 input_json_text(s->memory_from, strlen(s->memory_from)), "cpus",
			 known_json(s->cpus), "cpus_from",
			 input_json_text(s->cpus_from, strlen(s->cpus_from)));
}

static json_t *slots_json(const struct sluice_status_info *s)
{
	json_t *all = json_array();

	for (uint32_t i = 0; i < s->n_slots && i < SLUICE_STATUS_SLOTS; i++)
		json_array_append_new(all, json_pack("{s:I, s:I, s:I}", "slot_bytes",
						     (json_int_t)s->slots[i].slot_bytes, "slots",
						     (json_int_t)s->slots[i].slots, "experts",
						     (json_int_t)s->slots[i].experts));
	return all;
}

static const char *spec_name(uint32_t mode)
{
	static const char *const names[] = { "unknown", "auto", "off", "ngram", "mtp" };

	return mode < ARRAY_LEN(names) ? names[mode] : "unknown";
}

/* Means over the steps of one sequence alone, by their columns; those that there were. */
static json_t *columns_json(const struct sluice_status_info *s)
{
	json_t *all = json_array();

	for (unsigned i = 0; i < SLUICE_COLUMNS; i++) {
		const struct sluice_column_cost *c = &s->columns[i];
		double n = (double)c->steps;

		if (c->steps)
			json_array_append_new(all,
					      json_pack("{s:i, s:I, s:f, s:f, s:f}", "columns",
							(int)i + 1, "steps", (json_int_t)c->steps,
							"step_ms", (double)c->step_ns / n / 1e6,
							"expert_ms", (double)c->expert_ns / n / 1e6,
							"experts", (double)c->experts / n));
	}
	return all;
}

/* Of all requests: as `sluice generate --json` has it of one, and what the daemon does by default. */
static json_t *speculation_json(const struct sluice_status_info *s)
{
	json_t *o = drafts_json(&s->spec);

	json_object_set_new(o, "mode", json_string(spec_name(s->spec_mode)));
	json_object_set_new(o, "bytes", json_integer((json_int_t)s->spec_bytes));
	json_object_set_new(o, "dropped_uses", json_integer((json_int_t)s->dropped_uses));
	json_object_set_new(o, "columns", columns_json(s));
	return o;
}

static const char *predict_name(uint32_t mode)
{
	static const char *const names[] = { "unknown", "auto", "off", "router", "oracle" };

	return mode < ARRAY_LEN(names) ? names[mode] : "unknown";
}

static json_t *prediction_json(const struct sluice_predict_counts *p)
{
	return json_pack("{s:s, s:b, s:I, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:o}", "mode",
			 predict_name(p->mode), "on", (int)p->on, "steps", (json_int_t)p->steps,
			 "uses", (json_int_t)p->uses, "foreseen", (json_int_t)p->foreseen, "recall",
			 p->uses ? json_real((double)p->foreseen / (double)p->uses) : json_null(),
			 "reads", (json_int_t)p->reads, "useful", (json_int_t)p->useful, "late",
			 (json_int_t)p->late, "wasted", (json_int_t)p->wasted, "wasted_bytes",
			 (json_int_t)p->wasted_bytes, "gain",
			 p->gain_ppm ? json_real((double)p->gain_ppm / 1e6) : json_null());
}

static json_t *device_json(const struct sluice_status_info *s)
{
	struct device_seen d;

	device_seen_take(s, &d);
	return device_seen_json(&d);
}

static json_t *warm_json(const struct sluice_status_warm *w)
{
	json_t *o = json_pack("{s:b,s:b,s:b}", "kept", (int)w->kept, "handed", (int)w->handed,
			      "warm", (int)w->warm);

	json_object_set_new(o, "experts", json_integer((json_int_t)w->experts));
	json_object_set_new(o, "expert_bytes", json_integer((json_int_t)w->expert_bytes));
	json_object_set_new(o, "dense_bytes", json_integer((json_int_t)w->dense_bytes));
	json_object_set_new(o, "starts", json_integer((json_int_t)w->starts));
	input_put_text(o, "why", w->why);
	return o;
}

static json_t *forms_json(const struct sluice_status_forms *f)
{
	const struct number numbers[] = {
		{ "compiled", f->compiled }, { "found", f->found },
		{ "masks", f->masks },	     { "masks_cached", f->masks_cached },
		{ "forms", f->forms },	     { "matchers", f->matchers },
		{ "bytes", f->bytes },
	};
	json_t *o = json_object();

	set_numbers(o, numbers, ARRAY_LEN(numbers));
	return o;
}

/* What is one number each: settings, bytes, counters. */
static void set_counts(json_t *o, const struct sluice_status_info *s)
{
	const struct number numbers[] = {
		{ "threads", s->threads },
		{ "ctx", s->n_ctx },
		{ "parallel", s->n_parallel },
		{ "batch", s->n_batch },
		{ "active", s->active },
		{ "waiting", s->waiting },
		{ "connections", s->connections },
		{ "load_bytes", s->load_bytes },
		{ "load_bytes_total", s->load_bytes_total },
		{ "budget_bytes", s->budget_bytes },
		{ "resident_bytes", s->resident_bytes },
		{ "dense_bytes", s->dense_bytes },
		{ "kv_bytes", s->kv_bytes },
		{ "prefix_bytes", s->prefix_bytes },
		{ "tokens_reused", s->tokens_reused },
		{ "pauses", s->pauses },
		{ "prefix_lookups", s->prefix_lookups },
		{ "prefix_found", s->prefix_found },
		{ "prefix_pages", s->prefix_pages },
		{ "prefix_points", s->prefix_points },
		{ "fills", s->fills },
		{ "reads_in_flight", s->reads_in_flight },
		{ "dense_memory_bytes", s->dense_memory_bytes },
		{ "state_bytes", s->state_bytes },
		{ "scratch_bytes", s->scratch_bytes },
		{ "form_bytes", s->form_bytes },
		{ "budget_least_bytes", s->budget_least_bytes },
		{ "budget_all_bytes", s->budget_all_bytes },
		{ "experts_total", s->experts_total },
		{ "experts_resident", s->experts_resident },
		{ "hits", s->hits },
		{ "misses", s->misses },
		{ "bytes_read", s->bytes_read },
		{ "tokens_generated", s->tokens_generated },
		{ "tokens_prefilled", s->tokens_prefilled },
		{ "steps", s->steps },
	};

	set_numbers(o, numbers, ARRAY_LEN(numbers));
}

json_t *status_to_json(const struct sluice_status_info *s, const char *fallbacks, const char *path)
{
	json_t *o =
		json_pack("{s:s, s:b}", "state", state_name(s->state), "filling", (int)s->filling);

	input_put_text(o, "model", s->model);
	input_put_text(o, "model_path", path);
	input_put_text(o, "arch", s->arch);
	set_counts(o, s);
	json_object_set_new(o, "stall_seconds", json_real((double)s->stall_ns / 1e9));
	json_object_set_new(o, "read_busy_seconds", json_real((double)s->read_busy_ns / 1e9));
	json_object_set_new(o, "speculation", speculation_json(s));
	json_object_set_new(o, "prediction", prediction_json(&s->predict));
	json_object_set_new(o, "limits", limits_json(s));
	json_object_set_new(o, "slots", slots_json(s));
	json_object_set_new(o, "reasons", lines_json(s->reasons));
	json_object_set_new(o, "nodes", nodes_json(s));
	json_object_set_new(o, "device", device_json(s));
	json_object_set_new(o, "warm", warm_json(&s->warm));
	json_object_set_new(o, "forms", forms_json(&s->forms));
	json_object_set_new(o, "telemetry",
			    json_pack("{s:o}", "sources", sources_json(s->telemetry)));
	json_object_set_new(o, "local_bytes", json_integer((json_int_t)s->local_bytes));
	json_object_set_new(o, "remote_bytes", json_integer((json_int_t)s->remote_bytes));
	json_object_set_new(o, "uptime_seconds", json_real((double)s->uptime_ns / 1e9));
	input_put_text(o, "cpu", s->cpu);
	input_put_text(o, "io", s->io);
	input_put_text(o, "arena", s->arena);
	input_put_text(o, "kv_type", s->kv);
	input_put_text(o, "policy", s->policy);
	input_put_text(o, "version", s->version);
	json_object_set_new(o, "fallbacks", lines_json(fallbacks));
	if (s->state == SLUICE_STATE_FAILED)
		input_put_text(o, "failure", s->failure);
	return o;
}

static void print_warm(const struct sluice_status_warm *w)
{
	char a[32], b[32];

	if (w->warm)
		printf("start      warm: %" PRIu64
		       " experts (%s) and %s of dense weights were in memory\n",
		       w->experts, size_format(a, sizeof(a), w->expert_bytes),
		       size_format(b, sizeof(b), w->dense_bytes));
	else if (w->handed)
		printf("start      cold, although memory was handed over: %s\n", w->why);
	if (w->kept)
		printf("restart    warm, where the service manager keeps the memory\n");
}

static void print_experts(const struct sluice_status_info *s)
{
	char a[32], b[32], c[32];
	uint64_t uses = s->hits + s->misses;

	if (!s->experts_total) {
		printf("experts    none (a dense model)\n");
		return;
	}
	printf("experts    %" PRIu64 " of %" PRIu64 " in memory: %s of a budget of %s%s\n",
	       s->experts_resident, s->experts_total, size_format(a, sizeof(a), s->resident_bytes),
	       size_format(b, sizeof(b), s->budget_bytes), s->filling ? ", filling" : "");
	printf("uses       %" PRIu64 ", hit rate %.2f %%, %s read, %.2f s stalled\n", uses,
	       uses ? 100.0 * (double)s->hits / (double)uses : 100.0,
	       size_format(c, sizeof(c), s->bytes_read), (double)s->stall_ns / 1e9);
}

static void print_device(const struct sluice_status_info *s)
{
	struct device_seen d;

	device_seen_take(s, &d);
	device_seen_print("device", &d);
}

static void print_limits(const struct sluice_status_info *s)
{
	char a[32], b[32];

	if (!s->memory_from[0])
		return; /* an older daemon */
	printf("limits     memory %s, %s free at start (%s), %u CPUs (%s)\n",
	       s->memory_limit_bytes == UINT64_MAX
		       ? "unknown"
		       : size_format(a, sizeof(a), s->memory_limit_bytes),
	       s->memory_room_bytes == UINT64_MAX ? "unknown"
						  : size_format(b, sizeof(b), s->memory_room_bytes),
	       s->memory_from, s->cpus, s->cpus_from);
}

/* One line for each of the sentences. */
static void print_lines(const char *name, const char *sentences)
{
	while (*sentences) {
		size_t n = strcspn(sentences, "\n");

		printf("%-10s %.*s\n", name, (int)n, sentences);
		sentences += n + (sentences[n] == '\n');
	}
}

/* Recall and gain are told where something was guessed and compared: reads for prompts are neither. */
static void print_ahead(const struct sluice_predict_counts *p)
{
	printf("ahead      %s%s: %" PRIu64 " experts read before they were asked for, %" PRIu64
	       " in time, %" PRIu64 " late, %" PRIu64 " not needed",
	       predict_name(p->mode), p->on ? "" : " (not now)", p->reads, p->useful, p->late,
	       p->wasted);
	if (p->uses)
		printf("; recall %.1f %%", 100.0 * (double)p->foreseen / (double)p->uses);
	if (p->gain_ppm)
		printf("; gain %.2f", (double)p->gain_ppm / 1e6);
	putchar('\n');
}

static void print_text(const struct sluice_status_info *s, const char *fallbacks, const char *path)
{
	char a[32], b[32];

	printf("state      %s", state_name(s->state));
	if (s->state == SLUICE_STATE_STARTING)
		printf(", %s of %s loaded", size_format(a, sizeof(a), s->load_bytes),
		       size_format(b, sizeof(b), s->load_bytes_total));
	if (s->state == SLUICE_STATE_FAILED)
		printf(": %s", s->failure);
	printf("\nmodel      %s (%s), %s\n", s->model, s->arch, path);
	print_experts(s);
	printf("dense      %s, KV cache up to %s (%s)\n", size_format(a, sizeof(a), s->dense_bytes),
	       size_format(b, sizeof(b), s->kv_bytes), s->kv);
	if (s->prefix_bytes || s->tokens_reused)
		printf("prefixes   %" PRIu64 " prompt tokens reused, %s beside the KV cache\n",
		       s->tokens_reused, size_format(a, sizeof(a), s->prefix_bytes));
	if (s->scratch_bytes) /* 0: an older daemon */
		printf("buffers    %s, recurrent state %s\n",
		       size_format(a, sizeof(a), s->scratch_bytes),
		       size_format(b, sizeof(b), s->state_bytes));
	printf("tokens     %" PRIu64 " generated, %" PRIu64 " read in, %" PRIu64 " steps\n",
	       s->tokens_generated, s->tokens_prefilled, s->steps);
	if (s->spec_mode) /* 0: an older daemon */
		printf("drafts     %s: %" PRIu64 " of %" PRIu64
		       " tokens were right, %.2f columns a "
		       "step, gain %.2f\n",
		       spec_name(s->spec_mode), drafts_accepted(&s->spec), drafts_drafted(&s->spec),
		       s->spec.steps ? (double)s->spec.columns / (double)s->spec.steps : 1,
		       drafts_gain(&s->spec));
	printf("requests   %u active, %u waiting, %u connection%s\n", s->active, s->waiting,
	       s->connections, s->connections == 1 ? "" : "s");
	printf("context    %u tokens each of %u sequence%s\n", s->n_ctx, s->n_parallel,
	       s->n_parallel == 1 ? "" : "s");
	printf("machine    %u thread%s, cpu %s, io %s, arena %s, policy %s\n", s->threads,
	       s->threads == 1 ? "" : "s", s->cpu, s->io, s->arena, s->policy);
	if (s->predict.reads)
		print_ahead(&s->predict);
	print_device(s);
	print_warm(&s->warm);
	print_limits(s);
	for (uint32_t i = 0; i < s->n_nodes && i < SLUICE_STATUS_NODES; i++)
		printf("node %-5d %.1f %% of every expert, %s there, %u threads\n",
		       s->nodes[i].node, s->nodes[i].share_ppm / 1e4,
		       size_format(a, sizeof(a), s->nodes[i].arena_bytes), s->nodes[i].workers);
	if (s->local_bytes + s->remote_bytes)
		printf("locality   %.2f %% of expert bytes multiplied on their node\n",
		       100.0 * (double)s->local_bytes / (double)(s->local_bytes + s->remote_bytes));
	printf("daemon     sluiced %s, up %.0f s\n", s->version, (double)s->uptime_ns / 1e9);
	print_lines("because", s->reasons);
	print_lines("fallback", fallbacks);
}

int verb_status(int argc, char **argv)
{
	char fallbacks[4096], path[4096];
	struct args args = { 0 };
	struct sluice_status_info status = { .struct_size = sizeof(status) };
	struct sluice_model_info model = { .struct_size = sizeof(model) };
	struct sluice_fault fault = { 0 };
	struct sluice *s;
	int rc = input_args("[--json]", options, ARRAY_LEN(options), argc, argv, &args, &args.help,
			    NULL);

	if (rc >= 0)
		return rc;
	rc = client_open("status", &args.client, &s);
	if (rc)
		return rc;
	if (sluice_get_status(s, &status, fallbacks, sizeof(fallbacks), &fault) ||
	    sluice_get_model(s, &model, path, sizeof(path), &fault))
		rc = client_fail("status", &fault);
	sluice_close(s);
	if (rc)
		return rc;
	if (args.json)
		return input_print_json(status_to_json(&status, fallbacks, path), true)
			       ? EXIT_FAILED
			       : EXIT_OK;
	print_text(&status, fallbacks, path);
	return EXIT_OK;
}
