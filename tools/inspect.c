/* SPDX-License-Identifier: MIT */
/*
 * tools/inspect.c: `sluice inspect`: what a model file holds, without loading a weight.
 *
 * Opens and validates exactly as the daemon does, then prints architecture, kinds of layers,
 * tensors by type, the geometry of the experts and the bytes that a token costs; --json gives the
 * same as one object. Refuses what model_open() refuses, with its sentence. One thread.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/opts.h"
#include "base/size.h"
#include "kernels/quant.h"
#include "model/gguf.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "tools/input.h"
#include "tools/plan.h"
#include "tools/verbs.h"

#define MAX_TYPES 64

struct args {
	const char *model;
	bool json, help;
};

static const struct opt options[] = {
	{ "--model", "-m", OPT_TEXT, offsetof(struct args, model), "FILE",
	  .help = "The GGUF file, of a split model the first part; or FILE without this option." },
	{ "--json", NULL, OPT_FLAG, offsetof(struct args, json), .help = "One JSON object." },
	{ "--help", "-h", OPT_FLAG, offsetof(struct args, help), .help = "This text." },
};

struct by_type {
	uint32_t type;
	uint64_t count, bytes;
};

/* Layers whose experts are made alike: same sizes, same types. */
struct expert_class {
	uint64_t bytes, slot_bytes;
	uint32_t n_layers, example; /* one of them */
};

struct summary {
	const struct model *m;
	struct by_type types[MAX_TYPES];
	unsigned n_types;
	struct expert_class *classes; /* at most n_layers */
	unsigned n_classes;
	uint32_t n_recurrent;
	uint64_t bytes_per_token;	   /* weights read for one token: routed and dense */
	const struct tokenizer *tokenizer; /* NULL: the file has none, and no_tokenizer says why */
	const char *no_tokenizer;
	struct memory_plan sizes; /* those that depend on no option */
};

static int compare_bytes(const void *a, const void *b)
{
	const struct by_type *x = a, *y = b;

	return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static void count_types(struct summary *s)
{
	const struct gguf *g = s->m->gguf;

	for (uint64_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor(g, i);
		unsigned k = 0;

		while (k < s->n_types && s->types[k].type != t->type)
			k++;
		if (k == MAX_TYPES)
			continue; /* more than quant.c has names for */
		if (k == s->n_types)
			s->types[s->n_types++].type = t->type;
		s->types[k].count++;
		s->types[k].bytes += t->bytes;
	}
	qsort(s->types, s->n_types, sizeof(s->types[0]), compare_bytes);
}

static uint64_t slot_bytes(const struct memory_plan *p, uint32_t layer)
{
	uint32_t k = p->class_of_layer[layer];

	return k < p->n_classes ? p->classes[k].slot_bytes : 0;
}

static bool alike(const struct expert_layout *a, const struct expert_layout *b)
{
	bool same = a->bytes == b->bytes && a->n_parts == b->n_parts;

	for (unsigned i = 0; i < EXPERT_MATRIX_NR; i++)
		same &= a->matrix[i].type == b->matrix[i].type;
	return same;
}

static int summarise(const struct model *m, struct summary *s)
{
	*s = (struct summary){ .m = m };
	s->classes = calloc(m->n_layers, sizeof(*s->classes));
	if (!s->classes || memory_sizes(m, plan_read_align(m), &s->sizes, NULL))
		return -1;
	count_types(s);
	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct layer *l = &m->layers[i];
		unsigned k = 0;

		s->n_recurrent += layer_has(l, BLOCK_DELTANET);
		if (!l->experts.n_parts)
			continue;
		while (k < s->n_classes &&
		       !alike(&l->experts, &m->layers[s->classes[k].example].experts))
			k++;
		if (k == s->n_classes)
			s->classes[s->n_classes++] =
				(struct expert_class){ .bytes = l->experts.bytes,
						       .slot_bytes = slot_bytes(&s->sizes, i),
						       .example = i };
		s->classes[k].n_layers++;
	}
	s->bytes_per_token = m->routed_bytes_per_token + model_dense_bytes_per_token(m);
	return 0;
}

static json_t *text(const char *s)
{
	json_t *j = json_string(s);

	return j ? j : json_string("?"); /* a path need not be UTF-8 */
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *types_json(const struct summary *s)
{
	json_t *all = json_object();

	for (unsigned i = 0; i < s->n_types; i++)
		json_object_set_new(all, quant_name(s->types[i].type),
				    json_pack("{s:o, s:o}", "count", number(s->types[i].count),
					      "bytes", number(s->types[i].bytes)));
	return all;
}

static const char *const matrix_names[EXPERT_MATRIX_NR] = { "gate", "up", "down" };

static json_t *class_json(const struct summary *s, const struct expert_class *c)
{
	const struct expert_layout *x = &s->m->layers[c->example].experts;
	json_t *j = json_object(), *layers = json_array();

	json_object_set_new(j, "expert_bytes", number(c->bytes));
	json_object_set_new(j, "slot_bytes", number(c->slot_bytes));
	json_object_set_new(j, "reads", number(x->n_parts));
	for (unsigned i = 0; i < EXPERT_MATRIX_NR; i++)
		if (x->matrix[i].n_out)
			json_object_set_new(j, matrix_names[i],
					    json_pack("{s:s, s:o, s:o}", "type",
						      quant_name(x->matrix[i].type), "n_in",
						      number(x->matrix[i].n_in), "n_out",
						      number(x->matrix[i].n_out)));
	for (uint32_t i = 0; i < s->m->n_layers; i++)
		if (alike(&s->m->layers[i].experts, x))
			json_array_append_new(layers, number(i));
	json_object_set_new(j, "layers", layers);
	return j;
}

static json_t *files_json(const struct gguf *g)
{
	json_t *all = json_array();

	for (uint32_t i = 0; i < gguf_n_files(g); i++)
		json_array_append_new(all,
				      json_pack("{s:o, s:o}", "path", text(gguf_file(g, i)->path),
						"bytes", number(gguf_file(g, i)->bytes)));
	return all;
}

/* How many positions a layer's attention sees; 0: all. */
static json_t *windows_json(const struct model *m)
{
	json_t *all = json_array();

	for (uint32_t i = 0; i < m->n_layers; i++)
		json_array_append_new(all, number(m->layers[i].attention.window));
	return all;
}

static uint32_t n_windows(const struct model *m)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->n_layers; i++)
		n += m->layers[i].attention.window > 0;
	return n;
}

static json_t *schedule_json(const struct model *m)
{
	json_t *all = json_array();

	for (uint32_t i = 0; i < m->n_layers; i++)
		json_array_append_new(all, json_string(layer_has(&m->layers[i], BLOCK_DELTANET)
							       ? "recurrent"
							       : "attention"));
	return all;
}

/* What is unusual about the file: sentence @i, or NULL where there are no more. */
static const char *note(const struct summary *s, unsigned i)
{
	if (s->tokenizer)
		return tokenizer_note(s->tokenizer, i);
	return i ? NULL : s->no_tokenizer;
}

static json_t *notes_json(const struct summary *s)
{
	json_t *all = json_array();

	for (unsigned i = 0; note(s, i); i++)
		json_array_append_new(all, text(note(s, i)));
	return all;
}

static void add_numbers(json_t *j, const struct summary *s)
{
	const struct model *m = s->m;
	const struct {
		const char *key;
		uint64_t value;
	} all[] = {
		{ "layers", m->n_layers },
		{ "embedding", m->n_embd },
		{ "vocab", m->n_vocab },
		{ "context", m->n_ctx_train },
		{ "heads", m->attention.n_head },
		{ "heads_kv", m->attention.n_head_kv },
		{ "head_dim", m->attention.head_dim },
		{ "rotated_dims", m->attention.rope.n_rot },
		{ "experts", m->n_expert },
		{ "experts_used", m->n_expert_used },
		{ "expert_width", m->n_ff_expert },
		{ "shared_width", m->n_ff_shared },
		{ "dense_width", m->n_ff },
		{ "expert_bytes_total", m->expert_bytes_total },
		{ "dense_bytes", s->sizes.dense_bytes },
		{ "dense_memory_bytes", s->sizes.dense_memory_bytes },
		{ "routed_bytes_per_token", m->routed_bytes_per_token },
		{ "bytes_per_token", s->bytes_per_token },
		{ "budget_least_bytes", s->sizes.budget_least_bytes },
		{ "budget_all_bytes", s->sizes.budget_all_bytes },
		{ "tensors", gguf_n_tensors(m->gguf) },
		{ "params", m->n_params },
		{ "file_bytes", m->file_bytes },
		{ "gguf_version", gguf_version(m->gguf) },
	};

	for (unsigned i = 0; i < ARRAY_LEN(all); i++)
		json_object_set_new(j, all[i].key, number(all[i].value));
}

static int print_json(const struct summary *s)
{
	const struct model *m = s->m;
	json_t *j = json_object(), *classes = json_array();

	json_object_set_new(j, "arch", text(m->arch_name));
	json_object_set_new(j, "name", text(m->name));
	add_numbers(j, s);
	json_object_set_new(j, "prediction_head", json_boolean(m->head != NULL));
	json_object_set_new(j, "prediction_head_note",
			    m->head_note[0] ? text(m->head_note) : json_null());
	json_object_set_new(j, "rope_base", json_real((double)m->attention.rope.base));
	json_object_set_new(j, "tied_embeddings",
			    json_boolean(!gguf_find(m->gguf, "output.weight")));
	json_object_set_new(j, "tensors_by_type", types_json(s));
	for (unsigned i = 0; i < s->n_classes; i++)
		json_array_append_new(classes, class_json(s, &s->classes[i]));
	json_object_set_new(j, "expert_classes", classes);
	json_object_set_new(j, "slots",
			    plan_slots_json(s->sizes.classes, s->sizes.n_classes, false));
	json_object_set_new(j, "layer_schedule", schedule_json(m));
	if (n_windows(m))
		json_object_set_new(j, "layer_windows", windows_json(m));
	json_object_set_new(j, "files", files_json(m->gguf));
	json_object_set_new(j, "notes", notes_json(s));
	return input_print_json(j, true) ? EXIT_FAILED : EXIT_OK;
}

static void print_experts(const struct summary *s)
{
	const struct model *m = s->m;
	char a[32], b[32], c[32];

	printf("experts       %u per layer, %u used", m->n_expert, m->n_expert_used);
	if (m->n_ff_shared)
		printf(", one shared of width %u", m->n_ff_shared);
	printf("; %s in all\n", size_format(a, sizeof(a), m->expert_bytes_total));
	for (unsigned i = 0; i < s->n_classes; i++) {
		const struct expert_class *k = &s->classes[i];
		const struct expert_layout *x = &m->layers[k->example].experts;

		printf("  %3u layers  %s each, slot of %s, %u reads:", k->n_layers,
		       size_format(a, sizeof(a), k->bytes),
		       size_format(b, sizeof(b), k->slot_bytes), x->n_parts);
		for (unsigned w = 0; w < EXPERT_MATRIX_NR; w++)
			if (x->matrix[w].n_out)
				printf(" %s %" PRIu64 "x%" PRIu64 " %s", matrix_names[w],
				       x->matrix[w].n_out, x->matrix[w].n_in,
				       quant_name(x->matrix[w].type));
		putchar('\n');
	}
	printf("host budget   least %s, every expert %s\n",
	       size_format(a, sizeof(a), s->sizes.budget_least_bytes),
	       size_format(b, sizeof(b), s->sizes.budget_all_bytes));
	printf("routed        %s per token\n",
	       size_format(c, sizeof(c), m->routed_bytes_per_token));
}

static void print_layers(const struct summary *s)
{
	const struct model *m = s->m;

	printf("layers        %u", m->n_layers);
	if (s->n_recurrent) {
		printf(" (%u recurrent, %u attention: ", s->n_recurrent,
		       m->n_layers - s->n_recurrent);
		for (uint32_t i = 0; i < m->n_layers; i++)
			putchar(layer_has(&m->layers[i], BLOCK_DELTANET) ? 'r' : 'A');
		putchar(')');
	}
	if (n_windows(m)) {
		printf(" (%u with a window of %u, %u without: ", n_windows(m), m->attention.window,
		       m->n_layers - n_windows(m));
		for (uint32_t i = 0; i < m->n_layers; i++)
			putchar(m->layers[i].attention.window ? 'w' : 'A');
		putchar(')');
	}
	printf("\nwidth         %u, %u heads of %u, %u of keys and values, %u dims rotated\n",
	       m->n_embd, m->attention.n_head, m->attention.head_dim, m->attention.n_head_kv,
	       m->attention.rope.n_rot);
	if (m->latent.kv_rank)
		printf("latent        keys and values of a token are one vector of %u\n",
		       m->latent.kv_rank);
	if (s->n_recurrent)
		printf("recurrent     %u key and %u value heads of %u, convolution over %u\n",
		       m->ssm_k_heads, m->ssm_v_heads, m->ssm_head_dim, m->ssm_conv_kernel);
}

static void print_text(const struct summary *s)
{
	const struct model *m = s->m;
	char a[32];

	printf("model         %s\n", m->name);
	for (uint32_t i = 0; i < gguf_n_files(m->gguf); i++)
		printf("file          %s (%s)\n", gguf_file(m->gguf, i)->path,
		       size_format(a, sizeof(a), gguf_file(m->gguf, i)->bytes));
	printf("architecture  %s, GGUF version %u, %.3f billion parameters\n", m->arch_name,
	       gguf_version(m->gguf), (double)m->n_params / 1e9);
	print_layers(s);
	if (m->head || m->head_note[0])
		printf("prediction    %s\n", m->head ? "a whole head (MTP)" : m->head_note);
	printf("vocabulary    %u tokens%s\n", m->n_vocab,
	       gguf_find(m->gguf, "output.weight") ? "" : ", embedding used for the output too");
	printf("context       %u tokens in training\n", m->n_ctx_train);
	printf("tensors       %" PRIu64 "\n", gguf_n_tensors(m->gguf));
	for (unsigned i = 0; i < s->n_types; i++)
		printf("  %-10s  %5" PRIu64 "  %12s\n", quant_name(s->types[i].type),
		       s->types[i].count, size_format(a, sizeof(a), s->types[i].bytes));
	printf("dense         %s\n", size_format(a, sizeof(a), m->dense_bytes));
	if (m->n_expert)
		print_experts(s);
	else
		printf("experts       0\n");
	printf("one token     reads %s of weights\n",
	       size_format(a, sizeof(a), s->bytes_per_token));
	for (unsigned i = 0; note(s, i); i++)
		printf("note          %s\n", note(s, i));
}

static int inspect(const char *path, bool json)
{
	struct err err = { 0 }, no_tokenizer = { 0 };
	struct tokenizer *t = NULL;
	struct model *m = NULL;
	struct summary s;
	int rc = EXIT_OK;

	if (model_open(path, &m, &err)) {
		fprintf(stderr, "sluice inspect: %s\n", err.text);
		return EXIT_FAILED;
	}
	tokenizer_create(m->gguf, NULL, &t, &no_tokenizer);
	if (summarise(m, &s)) {
		fprintf(stderr, "sluice inspect: out of memory\n");
		rc = EXIT_FAILED;
	}
	s.tokenizer = t;
	s.no_tokenizer = no_tokenizer.text;
	if (!rc && json)
		rc = print_json(&s);
	else if (!rc)
		print_text(&s);
	free(s.classes);
	memory_plan_fini(&s.sizes);
	tokenizer_destroy(t);
	model_destroy(m);
	return rc;
}

int verb_inspect(int argc, char **argv)
{
	struct args args = { 0 };
	const char *word;
	int rc = input_args("FILE [--json]", options, ARRAY_LEN(options), argc, argv, &args,
			    &args.help, &word);

	if (rc >= 0)
		return rc;
	if (!word == !args.model) {
		fprintf(stderr, "sluice inspect: one FILE is needed\n");
		return EXIT_USAGE;
	}
	return inspect(word ? word : args.model, args.json);
}
