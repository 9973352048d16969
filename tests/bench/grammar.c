/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/grammar.c: what masks cost: the trie of a vocabulary, compiling schemas, and masks over
 * all tokens at each byte of texts that fit, each schema with a new matcher. Times are of the process's
 * own CPU time, so that a busy machine does not count.
 *
 * usage: grammar MODEL.gguf CASES.json
 *
 * CASES.json: an array of {schema, valid: [...]}, such as fixtures/schemas/cases.json of SHARED.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/jsonc.h"
#include "grammar/grammar.h"
#include "grammar/matcher.h"
#include "grammar/program.h"
#include "grammar/vocab.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

struct times {
	double *us;
	size_t n, room;
};

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void add(struct times *t, double us)
{
	if (t->n == t->room) {
		t->room = t->room ? 2 * t->room : 1024;
		t->us = realloc(t->us, t->room * sizeof(*t->us));
	}
	t->us[t->n++] = us;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void print(const char *what, struct times *t)
{
	if (!t->n)
		return;
	qsort(t->us, t->n, sizeof(*t->us), by_value);
	printf("%-24s n %6zu  p50 %8.1f us  p99 %8.1f us  most %8.1f us\n", what, t->n,
	       t->us[t->n / 2], t->us[t->n * 99 / 100], t->us[t->n - 1]);
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	char *text;
	long n;

	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	text = malloc((size_t)n + 1);
	text[fread(text, 1, (size_t)n, f)] = '\0';
	fclose(f);
	return text;
}

static struct vocab *open_vocab(const char *path)
{
	struct tokenizer *t;
	struct vocab *v = NULL;
	struct err err = { 0 };
	struct gguf *g;
	double began;

	if (gguf_open(path, &g, &err) || tokenizer_create(g, NULL, &t, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return NULL;
	}
	began = now_us();
	if (vocab_of_tokenizer(t, NULL, &v))
		return NULL;
	printf("trie of %u tokens: %.1f ms\n", vocab_n(v), (now_us() - began) / 1e3);
	return v;
}

/* A mask at each byte; where the state is one that was met, it costs a look-up and a copy. */
static void walk(struct matcher *m, const char *text, struct times *all, struct times *cold)
{
	struct matcher_counts before, after;
	const uint64_t *bits;

	matcher_begin(m);
	for (size_t i = 0, n = strlen(text); i <= n; i++) {
		double began = now_us(), us;

		matcher_get_counts(m, &before);
		if (matcher_mask(m, &bits))
			return;
		us = now_us() - began;
		matcher_get_counts(m, &after);
		add(all, us);
		if (after.masks_cached == before.masks_cached)
			add(cold, us);
		if (matcher_bytes(m, text + i, i < n) != (i < n))
			return;
	}
}

int main(int argc, char **argv)
{
	const struct schema_options o = { .strict = false };
	struct times all = { 0 }, cold = { 0 }, compiled = { 0 };
	struct json_object *rows, *schema, *valid;
	char *text = argc == 3 ? read_file(argv[2]) : NULL;
	struct vocab *v = argc == 3 ? open_vocab(argv[1]) : NULL;

	rows = text ? json_tokener_parse_ex(json_tokener_new_ex(2000), text, (int)strlen(text) + 1)
		    : NULL;
	if (!v || !rows) {
		fprintf(stderr, "usage: grammar MODEL.gguf CASES.json\n");
		return 2;
	}
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		struct err err = { 0 };
		struct program *p;
		struct matcher *m;
		double began = now_us();

		if (!json_object_object_get_ex(row, "schema", &schema) ||
		    !json_object_object_get_ex(row, "valid", &valid) ||
		    grammar_schema(schema, &o, &p, &err))
			continue;
		add(&compiled, now_us() - began);
		if (matcher_create(p, v, &m))
			return 1;
		for (size_t k = 0; k < json_object_array_length(valid); k++)
			walk(m,
			     json_object_to_json_string_ext(json_object_array_get_idx(valid, k),
							    JSON_C_TO_STRING_PLAIN),
			     &all, &cold);
		matcher_destroy(m);
		program_destroy(p);
	}
	print("compile a schema", &compiled);
	print("mask", &all);
	print("mask, first of its state", &cold);
	return 0;
}
