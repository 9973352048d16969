/* SPDX-License-Identifier: MIT */
/*
 * tools/trace_sim.c: `sluice trace sim`: the daemon's own policies on a recorded trace.
 *
 * One row per policy, one column per budget: hits over all uses of distinct experts per layer and
 * step, as `sluice status` counts them, generated tokens apart from the prompt. One thread.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "trace/sim.h"
#include "tools/plan.h"
#include "tools/trace.h"
#include "tools/verbs.h"

#define MAX_BUDGETS  16
#define MAX_POLICIES 16

struct table {
	const struct route_trace *t;
	const char *path;
	uint32_t slots[MAX_BUDGETS]; /* 0: by bytes */
	uint64_t budgets[MAX_BUDGETS];
	unsigned n_budgets;
	char *policies[MAX_POLICIES]; /* point into names */
	unsigned n_policies;
	char *names;
	struct sim_result results[MAX_POLICIES][MAX_BUDGETS];
};

static int take_budgets(struct table *tab, const struct trace_args *args)
{
	const char *at = args->share ? args->share : "6,12,25,50";
	uint64_t least_bytes, all_bytes;
	uint32_t least, all;

	sim_slots(tab->t, &least, &all);
	sim_bytes(tab->t, &least_bytes, &all_bytes);
	if (args->budget) {
		tab->budgets[tab->n_budgets++] = args->budget;
		return 0;
	}
	if (args->slots) {
		tab->slots[tab->n_budgets++] = args->slots;
		return 0;
	}
	for (;;) {
		char *end;
		double share = strtod(at, &end);

		if (*end == '%')
			end++;
		if (end == at || !(share > 0 && share <= 100) || (*end && *end != ',') ||
		    tab->n_budgets == MAX_BUDGETS) {
			fprintf(stderr,
				"sluice trace: --share takes percents up to 100, at most %d, not '%s'\n",
				MAX_BUDGETS, args->share);
			return -1;
		}
		/* a percentage is the daemon's where the trace says how large slots are */
		tab->budgets[tab->n_budgets] =
			u64_max(least_bytes, (uint64_t)((double)all_bytes * share / 100));
		tab->slots[tab->n_budgets++] =
			all_bytes ? 0
				  : (uint32_t)u64_max(least, (uint64_t)(share / 100 * all + 0.5));
		if (!*end)
			return 0;
		at = end + 1;
	}
}

static int take_policies(struct table *tab, const struct trace_args *args)
{
	const struct policy_ops *ops;
	struct err err = { 0 };
	const char *arg;
	char *save = NULL;

	tab->names = strdup(args->policy ? args->policy : "lru,lfu,belady");
	if (!tab->names)
		return -1;
	for (char *p = strtok_r(tab->names, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
		if (tab->n_policies == MAX_POLICIES) {
			fprintf(stderr, "sluice trace: at most %d policies\n", MAX_POLICIES);
			return -1;
		}
		if (!strcmp(p, "belady") && !strcmp(tab->path, TRACE_STDIN)) {
			fprintf(stderr, "sluice trace: belady reads the trace a second time: name "
					"a file instead of -, or --policy lru,lfu\n");
			return -1;
		}
		if (strcmp(p, "belady") && policy_find(p, &ops, &arg, &err)) {
			fprintf(stderr, "sluice trace: --policy: %s\n", err.text);
			return -1;
		}
		tab->policies[tab->n_policies++] = p;
	}
	if (!tab->n_policies)
		fprintf(stderr, "sluice trace: --policy names no policy\n");
	return tab->n_policies ? 0 : -1;
}

static int run(struct table *tab, unsigned p, unsigned b, const struct trace_args *args)
{
	struct sim_options o = {
		.policy = tab->policies[p],
		.slots = tab->slots[b],
		.budget = tab->budgets[b],
		.fill = args->fill,
		.device_fills = (double)args->device_fills,
		.device = args->device,
		.device_control = args->time_given,
		.predict = args->predict.mode == PREDICT_ORACLE ? args->predict.share : 0,
		.predict_prompts = args->predict_given && args->predict.mode == PREDICT_AUTO
	};
	struct err err = { 0 };
	char *own = NULL;
	int rc;

	if (strcmp(o.policy, "belady") == 0) {
		if (asprintf(&own, "belady:%s", tab->path) < 0)
			return -1;
		o.policy = own;
	}
	rc = sim_run(tab->t, &o, &tab->results[p][b], &err);
	if (rc)
		fprintf(stderr, "sluice trace: %s\n", err.text);
	free(own);
	return rc;
}

static void print_table(const struct table *tab, const char *title, bool decode)
{
	uint32_t least, all;
	int width = 12;

	for (unsigned p = 0; p < tab->n_policies; p++) /* whole: files' names tell lists apart */
		width = (int)u64_max((uint64_t)width, strlen(tab->policies[p]));
	sim_slots(tab->t, &least, &all);
	printf("%-*s", width, title);
	for (unsigned b = 0; b < tab->n_budgets; b++)
		printf(" %7u (%4.1f %%)", tab->results[0][b].slots,
		       100.0 * tab->results[0][b].slots / all);
	putchar('\n');
	for (unsigned p = 0; p < tab->n_policies; p++) {
		printf("%-*s", width, tab->policies[p]);
		for (unsigned b = 0; b < tab->n_budgets; b++) {
			const struct sim_result *r = &tab->results[p][b];

			printf(" %14.2f %%", 100 * sim_hit_rate(decode ? &r->decode : &r->all));
		}
		putchar('\n');
	}
}

static json_t *counts_json(const struct sim_counts *c)
{
	return json_pack("{s:f,s:I,s:I,s:I,s:I}", "hit_ratio", sim_hit_rate(c), "hits",
			 (json_int_t)c->hits, "misses", (json_int_t)c->misses, "miss_bytes",
			 (json_int_t)c->miss_bytes, "steps", (json_int_t)c->steps);
}

/* null without a model of time */
static json_t *time_json(const struct sim_result *r)
{
	if (r->decode_ns <= 0)
		return json_null();
	return json_pack("{s:f,s:I,s:b,s:f}", "tokens_per_second",
			 (double)r->decode.steps / r->decode_ns * 1e9, "stops",
			 (json_int_t)r->stops, "fills_on", (int)r->fills_on, "fill_gain",
			 r->fill_gain);
}

static json_t *predicted_json(const struct sim_predicted *p)
{
	return json_pack("{s:I,s:I,s:I}", "reads", (json_int_t)p->reads, "useful",
			 (json_int_t)p->useful, "wasted", (json_int_t)p->wasted);
}

/* Sizes are null where the trace does not say them: 1 is what such slots are divided by. */
static json_t *classes_json(const struct sim_result *r)
{
	json_t *all = plan_slots_json(
		r->classes, r->n_classes < SIM_CLASSES ? r->n_classes : SIM_CLASSES, true);
	json_t *one;
	size_t i;

	if (!r->budget_bytes)
		json_array_foreach(all, i, one) json_object_set_new(one, "slot_bytes", json_null());
	return all;
}

static int print_json(const struct table *tab)
{
	json_t *rows = json_array();

	for (unsigned p = 0; p < tab->n_policies; p++)
		for (unsigned b = 0; b < tab->n_budgets; b++) {
			const struct sim_result *r = &tab->results[p][b];

			json_array_append_new(
				rows,
				json_pack(
					"{s:s,s:I,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:o}",
					"policy", tab->policies[p], "slots", (json_int_t)r->slots,
					"budget_bytes",
					r->budget_bytes ? json_integer((json_int_t)r->budget_bytes)
							: json_null(),
					"slot_classes", classes_json(r), "classes",
					(json_int_t)r->n_classes, "evictions",
					(json_int_t)r->evictions, "waves", (json_int_t)r->waves,
					"fills", (json_int_t)r->fills, "fill_bytes",
					(json_int_t)r->fill_bytes, "allowed_bytes",
					(json_int_t)r->allowed_bytes, "all", counts_json(&r->all),
					"decode", counts_json(&r->decode), "predicted",
					predicted_json(&r->predicted), "device_time",
					time_json(r)));
		}
	json_dumpf(rows, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(rows);
	return EXIT_OK; /* main() says what stdout refused */
}

int trace_sim(const struct route_trace *t, const char *path, const struct trace_args *args)
{
	struct table *tab = calloc(1, sizeof(*tab));
	int status = EXIT_USAGE;

	if (!tab)
		return EXIT_FAILED;
	tab->t = t;
	tab->path = path;
	if (take_budgets(tab, args) || take_policies(tab, args))
		goto out;
	status = EXIT_FAILED;
	for (unsigned p = 0; p < tab->n_policies; p++)
		for (unsigned b = 0; b < tab->n_budgets; b++)
			if (run(tab, p, b, args))
				goto out;
	status = EXIT_OK;
	if (args->json) {
		status = print_json(tab);
		goto out;
	}
	print_table(tab, "all", false);
	if (tab->results[0][0].decode.steps &&
	    tab->results[0][0].decode.steps < tab->results[0][0].all.steps) {
		putchar('\n');
		print_table(tab, "generated", true);
	}
out:
	free(tab->names);
	free(tab);
	return status;
}
