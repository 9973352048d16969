/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/blocks.c: the table of blocks, their memory, and the form of their in- and
 * outputs. See block.h.
 *
 * One range of memory serves all kinds: what survives a layer lies side by side, the rest on top of
 * each other, since only one block computes at a time. Created by the decoder before it is ready;
 * nothing here allocates later.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "engine/block/block.h"
#include "engine/block/moe.h"

const struct block_ops *const block_table[BLOCK_NR] = {
	[BLOCK_ATTENTION] = &block_attention,
	[BLOCK_LATENT] = &block_latent,
	[BLOCK_DELTANET] = &block_deltanet,
	[BLOCK_DENSE] = &block_dense,
	[BLOCK_MOE] = &block_moe,
};

struct blocks {
	struct block_config c;
	struct actbuf in[ACT_NR];
	void *buffers[BLOCK_NR]; /* NULL: no layer has the kind */
	void *memory;
};

static bool model_has(const struct model *m, enum block_kind kind)
{
	for (uint32_t i = 0; i < m->n_layers; i++)
		if (layer_has(&m->layers[i], kind))
			return true;
	return false;
}

/* The forms that weights which read the input (n_in of the stream's width) want it in. */
static void input_forms(const struct model *m, bool used[ACT_NR])
{
	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct layer *l = &m->layers[i];

		for (unsigned role = 0; role < ROLE_NR; role++) {
			const struct weight *w = &l->w[role];

			if (w->n_runs && role_info[role].kind == ROLE_MATRIX &&
			    w->n_in == m->n_embd)
				used[quant_format(w->type)->act] = true;
		}
		for (unsigned k = 0; l->experts.n_parts && k < EXPERT_MATRIX_NR; k++)
			if (l->experts.matrix[k].n_out)
				used[quant_format(l->experts.matrix[k].type)->act] = true;
	}
}

/* Lays everything out; returns the bytes it takes. */
static size_t lay_out(struct blocks *b, uint8_t *base)
{
	struct carver kept = { .base = base }, counted, shared;
	bool used[ACT_NR] = { false };
	size_t start, end;

	input_forms(b->c.model, used);
	for (int kind = ACT_NONE + 1; kind < ACT_NR; kind++)
		if (used[kind])
			actbuf_carve(&b->in[kind], &kept, b->c.ops, b->c.model->n_embd,
				     b->c.max_tokens);
	/* what is shared begins behind all that is kept */
	counted = (struct carver){ .used = kept.used };
	for (int k = 0; k < BLOCK_NR; k++) {
		shared = (struct carver){ 0 };
		if (b->buffers[k])
			block_table[k]->lay_out(&b->c, b->buffers[k], &counted, &shared);
	}
	start = end = counted.used;
	for (int k = 0; k < BLOCK_NR; k++) {
		shared = (struct carver){ .base = base, .used = start };
		if (b->buffers[k])
			block_table[k]->lay_out(&b->c, b->buffers[k], &kept, &shared);
		end = u64_max(end, shared.used);
	}
	return end;
}

static struct blocks *blocks_new(const struct block_config *config)
{
	struct blocks *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->c = *config;
	if (!b->c.split.n)
		b->c.split = node_split_one();
	for (int k = 0; k < BLOCK_NR; k++) {
		if (!model_has(config->model, (enum block_kind)k))
			continue;
		b->buffers[k] = aligned_alloc(64, align_up(block_table[k]->buffers_size, 64));
		if (!b->buffers[k]) {
			blocks_destroy(b);
			return NULL;
		}
		memset(b->buffers[k], 0, block_table[k]->buffers_size);
	}
	return b;
}

int blocks_create(const struct block_config *config, struct blocks **ret, struct err *err)
{
	struct blocks *b = blocks_new(config);
	size_t bytes;

	if (!b)
		goto out_fail;
	bytes = align_up(lay_out(b, NULL), 64);
	b->memory = calloc(1, bytes + 64); /* zero, and where threads first write it */
	if (!b->memory)
		goto out_fail;
	lay_out(b, (uint8_t *)align_up((uintptr_t)b->memory, 64));
	*ret = b;
	return 0;
out_fail:
	blocks_destroy(b);
	return err_set(err, -ENOMEM, "no memory for the buffers of a step");
}

uint64_t blocks_scratch_bytes(const struct block_config *config)
{
	struct blocks *b = blocks_new(config);
	uint64_t bytes = b ? lay_out(b, NULL) : 0;

	blocks_destroy(b);
	return bytes;
}

void blocks_destroy(struct blocks *b)
{
	if (!b)
		return;
	for (int k = 0; k < BLOCK_NR; k++)
		free(b->buffers[k]);
	free(b->memory);
	free(b);
}

static struct block_args filled(struct blocks *b, enum block_kind kind,
				const struct block_args *args)
{
	struct block_args a = *args;

	a.model = b->c.model;
	a.ops = b->c.ops;
	a.fops = b->c.fops;
	a.team = b->c.team;
	a.in = b->in;
	a.buffers = b->buffers[kind];
	return a;
}

void block_take_in(struct blocks *b, enum block_kind kind, const struct block_args *args,
		   unsigned tid, size_t token)
{
	struct block_args a = filled(b, kind, args);

	block_table[kind]->input(&a, tid, token);
}

void block_take_all(struct blocks *b, enum block_kind kind, const struct block_args *args,
		    unsigned tid)
{
	size_t first, end;

	while (team_take_range(b->c.team, tid, args->batch->n_tokens, 1, &first, &end))
		for (size_t t = first; t < end; t++)
			block_take_in(b, kind, args, tid, t);
	team_barrier(b->c.team, tid);
}

void block_forward(struct blocks *b, enum block_kind kind, const struct block_args *args,
		   unsigned tid)
{
	struct block_args a = filled(b, kind, args);

	block_table[kind]->forward(&a, tid);
}

void block_replay(struct blocks *b, enum block_kind kind, const struct block_args *args,
		  unsigned tid)
{
	struct block_args a = filled(b, kind, args);

	block_table[kind]->replay(&a, tid);
}

void blocks_get_locality(const struct blocks *b, uint64_t *ret_local, uint64_t *ret_remote)
{
	*ret_local = *ret_remote = 0;
	if (b->buffers[BLOCK_MOE])
		moe_get_locality(b->buffers[BLOCK_MOE], ret_local, ret_remote);
}

void block_input(const struct block_args *a, enum act_kind kind, size_t t, unsigned *done)
{
	struct actbuf *in = &a->in[kind];
	size_t n = a->model->n_embd;

	if (*done & 1u << kind)
		return;
	*done |= 1u << kind;
	if (t == 0)
		actbuf_describe(in, kind, n, a->batch->n_tokens);
	a->ops->act_quantize(kind, a->x + t * n, n, in->data + t * a->ops->act_bytes(kind, n));
}

size_t block_piece(size_t n, size_t unit)
{
	while (unit % 256 && unit < n)
		unit *= 2;
	return u64_min(unit, n);
}

void block_make(const struct block_args *a, unsigned tid, struct actbuf *out, const struct wmat *w,
		size_t column, size_t first, size_t end, block_make_fn make)
{
	const float *x = make(a, tid, column, first, end);

	a->ops->act_quantize_part(w->act, x, w->n_in,
				  out->data + column * a->ops->act_bytes(w->act, w->n_in), first,
				  end - first);
}

void block_make_all(const struct block_args *a, unsigned tid, struct actbuf *out,
		    const struct wmat *w, size_t unit, block_make_fn make)
{
	size_t piece = block_piece(w->n_in, unit), per_column = div_ceil(w->n_in, piece);
	size_t first, end;

	if (team_once(a->team, tid))
		actbuf_describe(out, w->act, w->n_in, a->batch->n_tokens);
	while (team_take_range(a->team, tid, a->batch->n_tokens * per_column, 1, &first, &end))
		for (size_t i = first; i < end; i++) {
			size_t from = i % per_column * piece;

			block_make(a, tid, out, w, i / per_column, from,
				   u64_min(from + piece, w->n_in), make);
		}
}

void block_output(const struct block_args *a, unsigned tid, const struct actbuf *out,
		  const struct wmat *w, const float *bias)
{
	linear_then(w, NULL, a->end, bias, out, a->batch->n_tokens, a->y, a->model->n_embd, a->team,
		    tid, &a->lanes[tid]);
}

void blocks_get_routed(const struct blocks *b, uint64_t *ret_ns, uint64_t *ret_experts)
{
	const struct moe *f = b->buffers[BLOCK_MOE];

	*ret_ns = f ? f->routed_ns : 0;
	*ret_experts = f ? f->n_routed : 0;
}
