/* SPDX-License-Identifier: MIT */
/*
 * tests/fuzz/fuzz_gguf.c: libFuzzer target: any bytes as a model file.
 *
 * The input is the header; a hole behind it stands for the weights, so that inputs stay small and
 * still reach the checks of tensors. What opens must keep its promises: every tensor, weight and
 * expert lies inside its file, every key can be shown. The input is tried as a whole model, as the file of its
 * own prediction head, and as that of two seeds, which lie below the folder that this runs in. Built by make fuzz (clang).
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/gguf.h"
#include "model/model.h"

#define HOLE_BYTES (32u << 20)
#define SEEDS	   "tests/fuzz/seeds/gguf/"

/* Of the families that have prediction heads: a file with a head alone is one only beside its model. */
static const char *const main_seeds[] = { SEEDS "mtp", SEEDS "glm4moe" };
#define N_MAINS (sizeof(main_seeds) / sizeof(main_seeds[0]))
static struct model *mains[N_MAINS];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_container(const struct gguf *g)
{
	enum gguf_type type;
	struct gguf_str s;
	uint64_t n, sum = 0;
	char text[80];

	for (uint64_t i = 0; i < gguf_n_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor(g, i);
		const struct gguf_file *f = gguf_file(g, t->file);

		assert(t->offset >= f->data_offset && t->offset + t->bytes <= f->bytes);
		assert(gguf_find(g, t->name) == t);
	}
	for (uint64_t i = 0; i < gguf_n_keys(g); i++) {
		const char *key = gguf_key_name(g, i);

		assert(gguf_has(g, key));
		gguf_key_text(g, i, text, sizeof(text));
		if (gguf_array(g, key, &type, &n, NULL))
			continue;
		for (uint64_t k = 0; k < n && type == GGUF_STRING; k++) {
			assert(!gguf_array_str(g, key, k, &s));
			for (uint64_t c = 0; c < s.len; c++)
				sum += (uint8_t)s.data[c];
		}
	}
	assert(sum < UINT64_MAX);
}

static void check_weight(const struct model *m, const struct weight *w)
{
	uint64_t rows = 0;

	for (uint32_t i = 0; i < w->n_runs; i++) {
		rows += w->runs[i].rows;
		assert(w->runs[i].offset + w->runs[i].rows * w->row_bytes <=
		       gguf_file(m->gguf, w->runs[i].file)->bytes);
	}
	assert(rows == w->n_out);
}

static void check_layer(const struct model *m, const struct layer *l)
{
	const struct expert_layout *x = &l->experts;

	assert(l->n_blocks && l->n_blocks <= LAYER_MAX_BLOCKS && !l->blocks[l->n_blocks - 1].open);
	for (uint32_t i = 0; i < l->n_blocks; i++)
		assert(l->w[l->blocks[i].norm].n_runs);
	assert(l->attention.n_head && l->attention.n_head % l->attention.n_head_kv == 0);
	for (unsigned role = 0; role < ROLE_NR; role++)
		check_weight(m, &l->w[role]);
	for (uint32_t i = 0; i < x->n_parts; i++)
		assert(x->part[i].offset + x->part[i].bytes * m->n_expert <=
		       gguf_file(m->gguf, x->part[i].file)->bytes);
	for (unsigned i = 0; x->n_parts && i < EXPERT_MATRIX_NR; i++)
		assert(x->matrix[i].offset + x->matrix[i].n_out * x->matrix[i].row_bytes <=
		       x->part[x->matrix[i].part].bytes);
}

static void check_head(const struct model *m)
{
	const struct model *h = m->head;

	if (!h)
		return;
	assert(h->n_layers == 1 && h->w[ROLE_MTP_PROJ].n_out == m->n_embd &&
	       h->w[ROLE_MTP_EMBD_NORM].n_runs && h->w[ROLE_MTP_HIDDEN_NORM].n_runs);
	check_layer(m, h->layers);
	for (unsigned role = 0; role < ROLE_NR; role++)
		check_weight(m, &h->w[role]);
}

/* A file in memory with the header @data and a hole behind it; its name goes to @path. */
static int make_file(const void *data, size_t len, char path[64])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || write(fd, data, len) != (ssize_t)len || ftruncate(fd, len + HOLE_BYTES))
		abort();
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static char data[1 << 16];
	char path[64];
	int fd;

	for (unsigned i = 0; i < N_MAINS; i++) {
		FILE *f = fopen(main_seeds[i], "rb");
		size_t len = f ? fread(data, 1, sizeof(data), f) : 0;

		if (!len || len == sizeof(data)) {
			fprintf(stderr, "no whole seed in %s\n", main_seeds[i]);
			abort();
		}
		fclose(f);
		fd = make_file(data, len, path);
		if (model_open(path, &mains[i], NULL) || !mains[i]->head)
			abort();
		close(fd);
	}
	return 0;
}

static void try_head(const char *path, const struct model *main)
{
	struct err err = { 0 };
	struct model *m;

	if (model_open_head(path, main, &m, &err)) {
		assert(err.text[0]);
		return;
	}
	assert(m->head && m->n_embd == main->n_embd && m->n_layers == main->n_layers);
	check_head(m);
	model_destroy(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct err err = { 0 };
	struct model *m;
	struct gguf *g;
	char path[64];
	int fd = make_file(data, len, path);

	if (!gguf_open(path, &g, &err)) {
		check_container(g);
		gguf_destroy(g);
		if (!model_open(path, &m, &err)) {
			assert(m->n_layers && m->attention.n_head && m->attention.n_head_kv &&
			       m->n_vocab);
			check_weight(m, &m->w[ROLE_OUTPUT]);
			for (uint32_t i = 0; i < m->n_layers; i++)
				check_layer(m, &m->layers[i]);
			check_head(m);
			try_head(path, m);
			model_destroy(m);
		} else {
			assert(err.text[0]);
		}
		for (unsigned i = 0; i < N_MAINS; i++)
			try_head(path, mains[i]);
	} else {
		assert(err.text[0]);
	}
	close(fd);
	return 0;
}
