/* SPDX-License-Identifier: MIT */
/*
 * tools/plan.c: `sluice plan`: what sluiced would take of memory for a model and options, on this
 * machine or one described in a file, without loading a weight.
 *
 * The numbers are plan_make()'s, which the daemon goes by. Refuses what the daemon would refuse, with
 * its sentence. One thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/opts.h"
#include "base/size.h"
#include "model/tokenizer.h"
#include "tools/doctor_machine.h"
#include "tools/input.h"
#include "tools/plan.h"
#include "tools/verbs.h"

struct args {
	const char *model, *draft_model, *machine, *cpu;
	struct {
		uint64_t bytes;
		uint32_t percent;
	} host_budget;
	uint32_t threads, ctx, parallel, batch, kv_type, spec;
	uint64_t kv_budget, prefix_cache, device_budget;
	int numa;
	bool json, help;
};

#define AT(field) offsetof(struct args, field)

static int parse_budget(const char *text, void *field, struct err *err)
{
	struct args *a = (struct args *)((char *)field - AT(host_budget));

	return size_parse_share(text, &a->host_budget.bytes, &a->host_budget.percent, err);
}

static int parse_numa(const char *text, void *field, struct err *err)
{
	return plan_parse_numa(text, field, err);
}

static int parse_prefix(const char *text, void *field, struct err *err)
{
	return plan_parse_prefix(text, field, err);
}

static const struct opt options[] = {
	{ "--model", "-m", OPT_TEXT, AT(model), "FILE",
	  .help = "The GGUF file, of a split model the first part; or FILE without this option." },
	{ "--machine", NULL, OPT_TEXT, AT(machine), "FILE",
	  .help = "Plan for the machine of this file, as sluice doctor --json wrote it; also "
		  "written by hand: memory_bytes, vram_bytes, vram_piece_bytes, cores, "
		  "mem_read_gbs, disk_read_gbs. "
		  "Default: this machine." },
	{ "--host-budget", NULL, OPT_CUSTOM, AT(host_budget), "SIZE|PERCENT%",
	  .parse = parse_budget, .help = "As of sluiced, like those that follow." },
	{ "--threads", "-t", OPT_U32, AT(threads), "N", 0, 1024, .def = "0",
	  .help = "Compute threads; 0: one per core." },
	{ "--ctx", "-c", OPT_U32, AT(ctx), "N", 0, PLAN_MOST_CTX, .def = "0",
	  .help = "Context of each sequence in tokens; 0: the model's, at most 16384, less where "
		  "memory is short." },
	{ "--parallel", NULL, OPT_U32, AT(parallel), "N", 0, 256, .def = "0",
	  .help = "Sequences decoded together; 0: 4, less where memory is short." },
	{ "--batch", NULL, OPT_U32, AT(batch), "N", 0, 65536, .def = "0",
	  .help = "Most tokens in one step while prompts are read in; 0: 512, with a GPU "
		  "2048, but no more than the context." },
	{ "--kv-type", NULL, OPT_CHOICE, AT(kv_type), "TYPE", .choices = "f16|q8_0", .def = "f16",
	  .help = "Precision of the KV cache." },
	{ "--prefix-cache", NULL, OPT_CUSTOM, AT(prefix_cache), "SIZE|auto|off",
	  .parse = parse_prefix, .def = "auto",
	  .help = "Memory for what earlier requests have read." },
	{ "--kv-budget", NULL, OPT_SIZE, AT(kv_budget), "SIZE", 0, 0, .def = "0",
	  .help = "Memory for keys and values of all sequences; 0: all may be full." },
	{ "--device-budget", NULL, OPT_SIZE, AT(device_budget), "SIZE", 0, 0, .def = "0",
	  .help = "Memory of a GPU for --device cuda; 0: the machine's, if it has one." },
	{ "--cpu", NULL, OPT_TEXT, AT(cpu), "auto|scalar|avx2|avx512", .def = "auto",
	  .help = "Instruction set, whose scratch differs." },
	{ "--numa", NULL, OPT_CUSTOM, AT(numa), "auto|off|split:N", .parse = parse_numa,
	  .def = "auto", .help = "How experts are cut over NUMA nodes." },
	{ "--spec", NULL, OPT_CHOICE, AT(spec), "KIND", .choices = "auto|off|ngram|mtp",
	  .def = "auto", .help = "With off and ngram no prediction head is taken." },
	{ "--draft-model", NULL, OPT_TEXT, AT(draft_model), "FILE",
	  .help = "A prediction head of the model in a file of its own." },
	{ "--json", NULL, OPT_FLAG, AT(json), .help = "One JSON object." },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This text." },
};

/* ---- telling ---- */

static json_t *number(uint64_t n)
{
	return n == LIMITS_UNKNOWN ? json_null() : json_integer((json_int_t)n);
}

static json_t *tiers_json(const struct plan *p)
{
	json_t *all = json_object();

	for (int i = 0; i < PLAN_TIERS; i++) {
		const struct plan_tier *t = &p->tiers[i];
		json_t *o = json_object();

		json_object_set_new(o, "capacity_bytes", number(t->capacity_bytes));
		json_object_set_new(o, "bytes", number(t->bytes));
		json_object_set_new(o, "bytes_per_token", number(t->bytes_per_token));
		json_object_set_new(o, "read_bytes_per_s",
				    t->bytes_per_s > 0 ? json_real(t->bytes_per_s) : json_null());
		json_object_set_new(all, t->name, o);
	}
	return all;
}

static json_t *contexts_json(const struct plan *p)
{
	json_t *all = json_array();

	for (uint32_t i = 0; i < p->n_contexts; i++)
		json_array_append_new(all, json_pack("{s:I, s:I}", "parallel",
						     (json_int_t)p->contexts[i].n_parallel, "ctx",
						     (json_int_t)p->contexts[i].n_ctx));
	return all;
}

static json_t *nodes_json(const struct node_split *s)
{
	json_t *all = json_array();

	for (uint32_t i = 0; s->n > 1 && i < s->n; i++)
		json_array_append_new(all, json_pack("{s:i, s:f}", "node", (int)s->node[i], "share",
						     (double)s->share[i] / NODES_SHARE));
	return all;
}

static json_t *to_json(const struct model *m, const struct plan *p,
		       const struct plan_machine *machine)
{
	json_t *o = json_object();

	input_put_text(o, "name", m->name);
	input_put_text(o, "arch", m->arch_name);
	json_object_set_new(o, "threads", number(p->memory.threads));
	json_object_set_new(o, "ctx", number(p->memory.n_ctx));
	json_object_set_new(o, "ctx_trained", number(m->n_ctx_train));
	json_object_set_new(o, "parallel", number(p->memory.n_parallel));
	json_object_set_new(o, "batch", number(p->memory.n_batch));
	plan_put_memory(o, &p->memory);
	json_object_set_new(o, "experts_share", json_real(p->experts_share));
	json_object_set_new(o, "system_bytes", number(p->memory.margin_bytes));
	json_object_set_new(o, "memory_free_bytes", number(machine->limits.room_bytes));
	json_object_set_new(o, "vram_bytes", number(machine->vram_bytes));
	json_object_set_new(o, "read_align_bytes", number(machine->align));
	json_object_set_new(o, "nodes", nodes_json(&p->memory.split));
	json_object_set_new(o, "tiers", tiers_json(p));
	json_object_set_new(o, "device", plan_device_json(p));
	if (p->device_note.text[0])
		json_object_set_new(
			o, "device_note",
			input_json_text(p->device_note.text, strlen(p->device_note.text)));
	json_object_set_new(o, "largest_contexts", contexts_json(p));
	json_object_set_new(o, "bound_tokens_per_second",
			    p->tokens_per_s > 0 ? json_real(p->tokens_per_s) : json_null());
	return o;
}

static void print_memory(const struct plan *p)
{
	const struct memory_plan *m = &p->memory;
	const struct {
		const char *name, *what;
		uint64_t bytes;
	} rows[] = {
		{ "dense", "dense weights, padded for direct reads", m->dense_memory_bytes },
		{ "cache", "keys and values of all sequences", m->kv_bytes },
		{ "prefixes", "for what earlier requests have read", m->prefix_bytes },
		{ "state", "recurrent state of all sequences", m->state_bytes },
		{ "scratch", "activations, logits, stacks", m->scratch_bytes },
		{ "experts", "slots", m->budget_bytes },
		{ "sum", "in host memory", p->tiers[PLAN_HOST].bytes },
	};
	char a[32], b[32];

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		printf("%-10s %20" PRIu64 "  %12s  %s\n", rows[i].name, rows[i].bytes,
		       size_format(a, sizeof(a), rows[i].bytes), rows[i].what);
	printf("  forms    %" PRIu64 " of scratch (%s) keep forms of answers compiled\n",
	       m->form_bytes, size_format(a, sizeof(a), m->form_bytes));
	for (uint32_t i = 0; i < m->n_classes; i++)
		printf("  slots    %" PRIu64 " of %" PRIu64 " bytes (%s) for %" PRIu64 " experts\n",
		       m->classes[i].slots, m->classes[i].slot_bytes,
		       size_format(a, sizeof(a), m->classes[i].slot_bytes), m->classes[i].experts);
	if (m->n_classes)
		printf("budget     %.1f %% of all experts; least %s, all %s\n",
		       p->experts_share * 100, size_format(a, sizeof(a), m->budget_least_bytes),
		       size_format(b, sizeof(b), m->budget_all_bytes));
	for (uint32_t i = 0; m->split.n > 1 && i < m->split.n; i++)
		printf("node %-5d %.1f %% of every expert's rows\n", m->split.node[i],
		       100.0 * m->split.share[i] / NODES_SHARE);
}

/* What lies in a GPU's memory with --device cuda. */
static void print_device(const struct plan *p)
{
	const struct device_plan *d = &p->device;
	const struct {
		const char *what;
		uint64_t bytes;
	} rows[] = {
		{ "dense weights", d->dense_bytes },
		{ "kept for keys and values", d->kv_bytes },
		{ "kept for recurrent state", d->state_bytes },
		{ "activations, logits, tables", d->scratch_bytes },
		{ "slots of experts", d->slots_bytes },
	};
	char a[32];

	if (p->device_note.text[0])
		printf("device     none of it is used: %s\n", p->device_note.text);
	for (unsigned i = 0; i < ARRAY_LEN(rows) && p->has_device; i++)
		printf("%-10s %20" PRIu64 "  %12s  %s\n", i ? "" : "device", rows[i].bytes,
		       size_format(a, sizeof(a), rows[i].bytes), rows[i].what);
	for (uint32_t i = 0; i < d->n_classes && p->has_device; i++)
		printf("  slots    %" PRIu64 " of %" PRIu64 " bytes for %" PRIu64 " experts\n",
		       d->classes[i].slots, d->classes[i].slot_bytes, d->classes[i].experts);
}

static void print_tiers(const struct plan *p)
{
	char a[32];

	for (int i = 0; i < PLAN_TIERS; i++) {
		const struct plan_tier *t = &p->tiers[i];

		if (i == PLAN_DEVICE && !t->capacity_bytes)
			continue;
		printf("%-10s %s read for one token", t->name,
		       size_format(a, sizeof(a), t->bytes_per_token));
		if (t->bytes_per_s > 0)
			printf(" at %.2f GB/s", t->bytes_per_s / 1e9);
		puts(i == PLAN_DEVICE ? " (with --device none)" : "");
	}
	if (p->tokens_per_s > 0)
		printf("speed      memory and disk allow at most %.1f tok/s with evenly used experts"
		       "\n",
		       p->tokens_per_s);
}

static void print_text(const struct model *m, const struct plan *p)
{
	printf("model      %s (%s)\n", m->name, m->arch_name);
	printf("options    --ctx %u --parallel %u --batch %u --threads %u\n", p->memory.n_ctx,
	       p->memory.n_parallel, p->memory.n_batch, p->memory.threads);
	if (p->memory.n_ctx > m->n_ctx_train)
		printf("warning    %s (%u tokens)\n", MEMORY_BEYOND_TRAINING, m->n_ctx_train);
	print_memory(p);
	print_device(p);
	print_tiers(p);
	for (uint32_t i = 0; i < p->n_contexts; i++) {
		const struct plan_context *c = &p->contexts[i];

		printf("contexts   %u sequence%s of at most %u tokens%s\n", c->n_parallel,
		       c->n_parallel == 1 ? "" : "s", c->n_ctx,
		       c->n_ctx == PLAN_MOST_CTX ? " (as far as --ctx goes)" : "");
	}
	for (unsigned i = 0; i < p->memory.n_reasons; i++)
		printf("because    %s\n", p->memory.reasons[i]);
}

/* ---- planning ---- */

/* This machine, its nodes as the daemon sees them. */
static int look_here(const struct model *m, struct plan_machine *ret, struct err *err)
{
	struct machine *now = calloc(1, sizeof(*now));
	int rc;

	if (!now)
		return err_set(err, -ENOMEM, "out of memory");
	plan_machine_here(NULL, m, ret);
	rc = machine_look(NULL, now, err);
	if (!rc)
		plan_machine_nodes(&now->now, ret);
	free(now);
	return rc;
}

static int take_machine(const struct args *args, const struct model *m, struct plan_machine *ret,
			const struct cpu_ops **ret_ops, struct err *err)
{
	int rc;

	*ret_ops = cpu_ops_best();
	if (!args->machine)
		rc = look_here(m, ret, err);
	else {
		ret->align = plan_read_align(m);
		rc = plan_machine_file(args->machine, ret, ret_ops, err);
	}
	if (rc || !strcmp(args->cpu, "auto"))
		return rc;
	rc = plan_cpu_level(args->cpu, ret_ops);
	return rc ? err_set(err, rc, "--cpu: %s is not auto, scalar, avx2 or avx512", args->cpu)
		  : 0;
}

/* Its memory is in no plan; but without one the daemon does not start. */
static int check_tokenizer(const struct model *m, struct err *err)
{
	struct tokenizer *t = NULL;
	int rc = tokenizer_create(m->gguf, NULL, &t, err);

	tokenizer_destroy(t);
	return rc;
}

static int make(const struct args *args, struct err *err)
{
	struct plan_machine *machine = calloc(1, sizeof(*machine));
	struct plan_options o = { .threads = args->threads,
				  .n_ctx = args->ctx,
				  .n_parallel = args->parallel,
				  .n_batch = args->batch,
				  .kv_type = (enum kv_type)args->kv_type,
				  .kv_budget = args->kv_budget,
				  .prefix_cache = args->prefix_cache,
				  .host_budget = args->host_budget.bytes,
				  .device_budget = args->device_budget,
				  .budget_percent = args->host_budget.percent,
				  .numa = args->numa,
				  .spec = (enum spec_mode)(SPEC_AUTO + args->spec) };
	struct model *m = NULL, *draft = NULL;
	struct plan p;
	int rc = machine ? model_open(args->model, &m, err)
			 : err_set(err, -ENOMEM, "out of memory");

	if (!rc && args->draft_model) {
		rc = model_open_head(args->draft_model, m, &draft, err);
		if (rc)
			err_prefix(err, rc, "--draft-model");
		else
			o.head = draft->head;
	}
	if (!rc)
		rc = check_tokenizer(m, err);
	if (!rc)
		rc = take_machine(args, m, machine, &o.ops, err);
	if (!rc)
		rc = plan_make(m, &o, machine, &p, err);
	if (rc)
		goto out;
	if (args->json)
		rc = input_print_json(to_json(m, &p, machine), true);
	else
		print_text(m, &p);
	plan_fini(&p);
out:
	model_destroy(draft);
	model_destroy(m);
	free(machine);
	return rc;
}

int verb_plan(int argc, char **argv)
{
	struct args args = { 0 };
	struct err err = { 0 };
	const char *word;
	int rc = input_args("FILE [--machine FILE] [--ctx N] [--parallel N] [--host-budget SIZE] "
			    "[--json]",
			    options, ARRAY_LEN(options), argc, argv, &args, &args.help, &word);

	if (rc >= 0)
		return rc;
	if (!word == !args.model) {
		fprintf(stderr, "sluice plan: one FILE is needed\n");
		return EXIT_USAGE;
	}
	if (word)
		args.model = word;
	if (!make(&args, &err))
		return EXIT_OK;
	if (err.text[0])
		fprintf(stderr, "sluice plan: %s\n", err.text);
	return EXIT_FAILED;
}
