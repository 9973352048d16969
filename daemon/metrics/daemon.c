/* SPDX-License-Identifier: MIT */
/* daemon/metrics/daemon.c: the series of the daemon, out of its status; see metrics.h. */
#include <inttypes.h>

#include "base/num.h"
#include "metrics/metrics.h"

static const struct metric series[] = {
#define ROW(name, type, help, field, factor)                                    \
	{                                                                       \
		name, type, help, offsetof(struct sluice_status_info, field),   \
			sizeof(((struct sluice_status_info *)0)->field), factor \
	}
#define C(name, help, field, factor) ROW(name, METRIC_COUNTER, help, field, factor)
#define G(name, help, field, factor) ROW(name, METRIC_GAUGE, help, field, factor)
	C("sluice_tokens_generated_total", "Tokens generated", tokens_generated, 1),
	C("sluice_tokens_prefilled_total", "Prompt tokens read in", tokens_prefilled, 1),
	C("sluice_steps_total", "Steps of the engine", steps, 1),
	C("sluice_expert_hits_total", "Uses of experts that were in memory", hits, 1),
	C("sluice_expert_misses_total", "Uses of experts that were not", misses, 1),
	C("sluice_disk_read_bytes_total", "Expert bytes read from disk", bytes_read, 1),
	C("sluice_disk_busy_seconds_total", "Time with a read in flight", read_busy_ns, 1e-9),
	C("sluice_stall_seconds_total", "Time that computing waited for reads", stall_ns, 1e-9),
	C("sluice_draft_steps_total", "Steps of decoding sequences that could draft", spec.steps,
	  1),
	C("sluice_draft_columns_total", "Columns of these: last tokens and drafts", spec.columns,
	  1),
	C("sluice_draft_tokens_total", "Tokens that came out of these", spec.tokens, 1),
	C("sluice_draft_plain_seconds_total", "What these tokens would have taken without drafts",
	  spec.plain_ns, 1e-9),
	C("sluice_draft_step_seconds_total", "What the steps took", spec.step_ns, 1e-9),
	C("sluice_draft_dropped_uses_total", "Uses of experts by drafts alone that were wrong",
	  dropped_uses, 1),
	C("sluice_predicted_reads_total", "Reads of experts ahead of the layers that may use them",
	  predict.reads, 1),
	C("sluice_predicted_useful_total", "Of these: in memory when they were asked for",
	  predict.useful, 1),
	C("sluice_predicted_late_total", "Of these: still under way when they were asked for",
	  predict.late, 1),
	C("sluice_predicted_wasted_total", "Of these: not asked for", predict.wasted, 1),
	C("sluice_predicted_wasted_bytes_total", "Bytes of those that were not asked for",
	  predict.wasted_bytes, 1),
	C("sluice_predict_uses_total", "Uses of experts by layers that had been guessed at",
	  predict.uses, 1),
	C("sluice_predict_foreseen_total", "Of these: guessed", predict.foreseen, 1),
	G("sluice_predict_on", "1 while experts are guessed", predict.on, 1),
	G("sluice_predict_gain",
	  "Speed with guesses over that without, when last compared; 0: not yet", predict.gain_ppm,
	  1e-6),
	C("sluice_local_bytes_total", "Expert bytes multiplied on the node that holds them",
	  local_bytes, 1),
	C("sluice_remote_bytes_total", "Expert bytes multiplied on another node", remote_bytes, 1),
	C("sluice_pauses_total", "Sequences that gave their memory to others for a while", pauses,
	  1),
	G("sluice_budget_bytes", "Bytes of expert slots", budget_bytes, 1),
	G("sluice_resident_bytes", "Bytes of experts in memory", resident_bytes, 1),
	G("sluice_dense_bytes", "Bytes of dense weights", dense_bytes, 1),
	C("sluice_prompt_tokens_reused_total", "Prompt tokens taken from earlier requests",
	  tokens_reused, 1),
	C("sluice_prefix_lookups_total", "Prompts that might begin as earlier ones did",
	  prefix_lookups, 1),
	C("sluice_prefix_hits_total", "Prompts that did", prefix_found, 1),
	G("sluice_prefix_pages", "Pages of tokens that are kept for them", prefix_pages, 1),
	G("sluice_prefix_states", "Copies of recurrent states that are kept for them",
	  prefix_points, 1),
	C("sluice_fills_total", "Experts read before they were asked for", fills, 1),
	G("sluice_reads_inflight", "Reads of weights in flight", reads_in_flight, 1),
	G("sluice_prefix_bytes", "Bytes kept for what earlier requests have read", prefix_bytes, 1),
	G("sluice_kv_bytes", "Most bytes of the KV cache", kv_bytes, 1),
	G("sluice_state_bytes", "Most bytes of the recurrent states", state_bytes, 1),
	G("sluice_scratch_bytes", "Bytes of activations, logits and stacks", scratch_bytes, 1),
	C("sluice_forms_compiled_total", "Forms that answers are held to, compiled", forms.compiled,
	  1),
	C("sluice_forms_reused_total", "Forms that an earlier request had had", forms.found, 1),
	C("sluice_masks_total", "Masks of tokens for them", forms.masks, 1),
	C("sluice_masks_reused_total", "Masks that were known", forms.masks_cached, 1),
	G("sluice_forms_kept", "Forms that are kept", forms.forms, 1),
	G("sluice_forms_bytes", "Bytes of these, with what is known of their masks", forms.bytes,
	  1),
	G("sluice_warm_kept", "1 where memory outlives the daemon", warm.kept, 1),
	G("sluice_warm_start", "1 where the daemon took over memory of one before it", warm.warm,
	  1),
	G("sluice_warm_experts", "Experts that were in it", warm.experts, 1),
	G("sluice_warm_expert_bytes", "Bytes of these", warm.expert_bytes, 1),
	G("sluice_warm_dense_bytes", "Bytes of dense weights that were in it", warm.dense_bytes, 1),
	G("sluice_experts", "Experts of the model", experts_total, 1),
	G("sluice_experts_resident", "Experts in memory", experts_resident, 1),
	G("sluice_filling", "1 while experts come in before they are asked for", filling, 1),
	G("sluice_requests_active", "Requests being decoded", active, 1),
	G("sluice_requests_waiting", "Requests waiting for a place", waiting, 1),
	G("sluice_connections", "Clients", connections, 1),
	G("sluice_uptime_seconds", "Since the daemon started", uptime_ns, 1e-9),
#undef G
#undef C
#undef ROW
};

/* Of a device, where there is one. */
static const struct metric device_series[] = {
#define ROW(name, type, help, field, factor)                                           \
	{                                                                              \
		name, type, help, offsetof(struct sluice_status_info, device.field),   \
			sizeof(((struct sluice_status_info *)0)->device.field), factor \
	}
	ROW("sluice_device_memory_bytes", METRIC_GAUGE, "Bytes taken of the device's memory",
	    vram_bytes, 1),
	ROW("sluice_device_slots", METRIC_GAUGE, "Slots for experts in the device's memory", slots,
	    1),
	ROW("sluice_device_experts_resident", METRIC_GAUGE, "Experts that lie in one", resident, 1),
	ROW("sluice_device_hits_total", METRIC_COUNTER,
	    "Uses of experts that lay in the device's memory", hits, 1),
	ROW("sluice_device_misses_total", METRIC_COUNTER, "Uses of experts that did not", misses,
	    1),
	ROW("sluice_device_fills_total", METRIC_COUNTER, "Experts brought into the device's memory",
	    fills, 1),
	ROW("sluice_device_fill_bytes_total", METRIC_COUNTER, "Bytes of these", fill_bytes, 1),
	ROW("sluice_device_launches_total", METRIC_COUNTER, "Kernels launched", launches, 1),
	ROW("sluice_device_layers_total", METRIC_COUNTER,
	    "Layers with experts that it went through", layers, 1),
	ROW("sluice_device_handoff_seconds_total", METRIC_COUNTER,
	    "What launching these and waiting for their routes took", handoff_ns, 1e-9),
#undef ROW
#define ROW(name, type, help, field, factor)                                                 \
	{                                                                                    \
		name, type, help, offsetof(struct sluice_status_info, device_fills.field),   \
			sizeof(((struct sluice_status_info *)0)->device_fills.field), factor \
	}
	ROW("sluice_device_link_bytes_total", METRIC_COUNTER,
	    "Bytes of fills that the link carried", link_bytes, 1),
	ROW("sluice_device_link_busy_seconds_total", METRIC_COUNTER, "Time that copying these took",
	    link_ns, 1e-9),
	ROW("sluice_device_fill_stops_total", METRIC_COUNTER,
	    "Times that fills were stopped for not paying", stops, 1),
#undef ROW
#define ROW(name, type, help, field, factor)                                               \
	{                                                                                  \
		name, type, help, offsetof(struct sluice_status_info, device_use.field),   \
			sizeof(((struct sluice_status_info *)0)->device_use.field), factor \
	}
	ROW("sluice_device_overlap_seconds_total", METRIC_COUNTER,
	    "Time in which the device was at hits and the host at misses, of one layer a step",
	    both_ns, 1e-9),
	ROW("sluice_device_experts_seconds_total", METRIC_COUNTER,
	    "Time in which either was, of the same layers", either_ns, 1e-9),
	ROW("sluice_device_link_free_bytes_per_second", METRIC_GAUGE,
	    "What the link carries beside others' use of it; 0: not known yet", link_free, 1),
#undef ROW
};

void metrics_print_up(FILE *out, bool up)
{
	metric_print_head(out, "sluice_up", METRIC_GAUGE, "1 when the daemon answers requests");
	fprintf(out, "sluice_up %d\n", up);
}

/* What does not fit a number stands in labels of a series that is always 1. */
static void print_build(FILE *out, const struct sluice_status_info *s)
{
	const struct {
		const char *label, *text;
	} labels[] = { { "version", s->version },
		       { "cpu", s->cpu },
		       { "io", s->io },
		       { "arena", s->arena },
		       { "policy", s->policy } };

	metric_print_head(out, "sluice_build_info", METRIC_GAUGE,
			  "The daemon's version and what it runs with");
	fputs("sluice_build_info", out);
	for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
		fprintf(out, "%c%s=", i ? ',' : '{', labels[i].label);
		metric_print_label(out, labels[i].text);
	}
	fputs("} 1\n", out);
}

/* Nodes that rows were only cut for have no number and are left out. */
static void print_nodes(FILE *out, const struct sluice_status_info *s)
{
	if (!s->n_nodes)
		return;
	metric_print_head(out, "sluice_arena_bytes", METRIC_GAUGE,
			  "Expert memory by NUMA node, from samples of pages");
	for (uint32_t i = 0; i < s->n_nodes && i < SLUICE_STATUS_NODES; i++)
		if (s->nodes[i].node >= 0)
			fprintf(out, "sluice_arena_bytes{node=\"%d\"} %" PRIu64 "\n",
				s->nodes[i].node, s->nodes[i].arena_bytes);
}

/* What experts came from, by where they lie; the totals without a label are the host's and the disk's. */
static void print_tiers(FILE *out, const struct sluice_status_info *s)
{
	const struct sluice_status_device *d = s->device.name[0] ? &s->device : NULL;
	const struct {
		const char *name, *help;
		const char *tier[2]; /* the host's, the device's */
		uint64_t value[2];
	} all[] = {
		{ "sluice_tier_hits_total",
		  "Uses of experts that lay in a tier",
		  { "host", "device" },
		  { s->hits, s->device.hits } },
		{ "sluice_tier_misses_total",
		  "Uses of experts that were looked for in a tier and did not lie there",
		  { "host", "device" },
		  { s->misses, s->device.misses } },
		{ "sluice_tier_read_bytes_total",
		  "Bytes of experts that were read from a tier into the next faster one",
		  { "disk", "host" },
		  { s->bytes_read, s->device.fill_bytes } },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		metric_print_head(out, all[i].name, METRIC_COUNTER, all[i].help);
		for (unsigned k = 0; k < (d ? 2 : 1); k++)
			fprintf(out, "%s{tier=\"%s\"} %" PRIu64 "\n", all[i].name, all[i].tier[k],
				all[i].value[k]);
	}
}

static void print_drafts(FILE *out, const struct sluice_status_info *s)
{
	static const char *const sources[] = { [SLUICE_DRAFT_GIVEN] = "given",
					       [SLUICE_DRAFT_NGRAM] = "ngram",
					       [SLUICE_DRAFT_MTP] = "mtp" };

	metric_print_head(out, "sluice_drafted_tokens_total", METRIC_COUNTER,
			  "Tokens drafted, by what drafted them");
	for (size_t i = 0; i < ARRAY_LEN(sources); i++)
		fprintf(out, "sluice_drafted_tokens_total{source=\"%s\"} %" PRIu64 "\n", sources[i],
			s->spec.drafted[i]);
	metric_print_head(out, "sluice_accepted_tokens_total", METRIC_COUNTER,
			  "Drafted tokens that were right");
	for (size_t i = 0; i < ARRAY_LEN(sources); i++)
		fprintf(out, "sluice_accepted_tokens_total{source=\"%s\"} %" PRIu64 "\n",
			sources[i], s->spec.accepted[i]);
}

static void print_requests(FILE *out, const struct sluice_status_info *s)
{
	static const struct {
		const char *name, *help;
	} latencies[] = {
		[SLUICE_LATENCY_QUEUE] = { "sluice_queue_seconds",
					   "From a request to its place among those computed" },
		[SLUICE_LATENCY_FIRST] = { "sluice_first_token_seconds",
					   "From a request to the first token of its answer (TTFT)" },
		[SLUICE_LATENCY_TOKEN] = { "sluice_inter_token_seconds",
					   "From one token of an answer to the next (ITL)" },
		[SLUICE_LATENCY_WHOLE] = { "sluice_request_seconds", "From a request to its end" },
	};
	static const char *const stops[] = { [SLUICE_STOP_EOG] = "stop",
					     [SLUICE_STOP_LENGTH] = "length",
					     [SLUICE_STOP_CANCELLED] = "cancelled",
					     [SLUICE_STOP_ERROR] = "error" };

	metric_print_head(out, "sluice_requests_total", METRIC_COUNTER,
			  "Requests that ended, by how");
	for (size_t i = 0; i < ARRAY_LEN(stops); i++)
		fprintf(out, "sluice_requests_total{reason=\"%s\"} %" PRIu64 "\n", stops[i],
			s->ended[i]);
	for (size_t i = 0; i < ARRAY_LEN(latencies); i++)
		metric_print_histogram(out, latencies[i].name, latencies[i].help, &s->latency[i],
				       1);
}

static void print_reads(FILE *out, const struct sluice_status_info *s)
{
	metric_print_histogram(out, "sluice_disk_read_seconds",
			       "From the start of one read of weights to its end", &s->reads, 1e-3);
	metric_print_histogram(out, "sluice_stall_wait_seconds",
			       "Each wait in which computing had nothing to do but reads",
			       &s->stalls, 1e-3);
}

void metrics_print_daemon(FILE *out, const struct sluice_status_info *status)
{
	const struct metric_entries one = { .base = status, .n = 1 };

	print_build(out, status);
	metrics_print_up(out, status->state == SLUICE_STATE_READY);
	metric_print(out, series, ARRAY_LEN(series), &one);
	if (status->device.name[0])
		metric_print(out, device_series, ARRAY_LEN(device_series), &one);
	print_nodes(out, status);
	print_tiers(out, status);
	print_drafts(out, status);
	print_requests(out, status);
	print_reads(out, status);
}
