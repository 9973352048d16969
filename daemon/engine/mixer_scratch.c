/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/mixer_scratch.c: memory of the mixers, and the form of their in- and outputs. See
 * mixer_private.h. Created by the decoder before it is ready; nothing here allocates later.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "engine/mixer_private.h"

#define SLOTS_PER_THREAD 8 /* parts of a long context in flight; more only costs memory */
#define MIN_SLOTS	 64

/* Hands out pieces of one range; with base NULL it only counts. */
struct carver {
	uint8_t *base;
	size_t used;
};

static void *carve(struct carver *c, size_t count, size_t size)
{
	void *at = c->base ? c->base + c->used : NULL;

	c->used += align_up(count * size, 64);
	return at;
}

static float *carve_floats(struct carver *c, size_t count)
{
	return carve(c, count, sizeof(float));
}

static struct partial carve_partial(struct carver *c, size_t rows, size_t head_dim)
{
	struct partial p;

	p.m = carve_floats(c, rows);
	p.l = carve_floats(c, rows);
	p.acc = carve_floats(c, rows * head_dim);
	return p;
}

static void carve_attention(struct carver *c, struct mixer_scratch *s, const struct model *m)
{
	struct attention_buffers *b = &s->attention;
	size_t tokens = s->max_tokens, dims = (size_t)m->attention.n_head * m->attention.head_dim;
	size_t dims_kv = (size_t)m->attention.n_head_kv * m->attention.head_dim;
	size_t group = m->attention.n_head_kv ? m->attention.n_head / m->attention.n_head_kv : 1;

	b->q = carve_floats(c, tokens * 2 * dims);
	b->k = carve_floats(c, tokens * dims_kv);
	b->v = carve_floats(c, tokens * dims_kv);
	b->query = carve_floats(c, tokens * dims);
	b->total = carve_partial(c, tokens * m->attention.n_head, m->attention.head_dim);
	for (uint32_t i = 0; i < s->n_slots; i++) {
		struct partial p = carve_partial(c, group, m->attention.head_dim);

		if (c->base)
			b->slots[i] = p;
	}
	for (unsigned i = 0; i < s->n_threads; i++) {
		struct partial p =
			carve_partial(c, u64_max(TILE_ROWS, group), m->attention.head_dim);

		if (c->base)
			b->tiles[i] = p;
	}
}

static void carve_delta(struct carver *c, struct mixer_scratch *s, const struct model *m)
{
	struct delta_buffers *b = &s->delta;
	size_t tokens = s->max_tokens, values = (size_t)m->ssm_v_heads * m->ssm_head_dim;
	size_t channels = 2 * (size_t)m->ssm_k_heads * m->ssm_head_dim + values;

	b->u = carve_floats(c, tokens * channels);
	b->c = carve_floats(c, tokens * channels);
	b->z = carve_floats(c, tokens * values);
	b->o = carve_floats(c, tokens * values);
	b->beta = carve_floats(c, tokens * m->ssm_v_heads);
	b->decay = carve_floats(c, tokens * m->ssm_v_heads);
	b->kq = carve_floats(c, tokens * m->ssm_k_heads);
}

/* Lays everything out; returns the bytes it takes. */
static size_t lay_out(struct mixer_scratch *s, const struct model *m, uint8_t *base)
{
	struct carver kept = { .base = base }, shared;
	size_t end;

	/* what must survive from layer to layer */
	s->attention.cosine = carve_floats(&kept, (size_t)s->max_tokens * s->rope.half);
	s->attention.sine = carve_floats(&kept, (size_t)s->max_tokens * s->rope.half);
	s->attention.angle_of = carve(&kept, s->max_tokens, sizeof(uint32_t));
	s->delta.zeros = carve_floats(&kept, (2 * (size_t)m->ssm_k_heads + m->ssm_v_heads) *
						     m->ssm_head_dim);
	/* the tables of pointers too: DeltaNet layers write over what follows */
	s->attention.slots = carve(&kept, s->n_slots, sizeof(*s->attention.slots));
	s->attention.tiles = carve(&kept, s->n_threads, sizeof(*s->attention.tiles));
	/* what only lives inside a layer: one or the other */
	shared = kept;
	carve_attention(&shared, s, m);
	end = shared.used;
	shared = kept;
	carve_delta(&shared, s, m);
	return u64_max(end, shared.used);
}

/* The form of the layer's input that a weight of a mixer takes; ACT_NONE: it does not read it. */
static enum act_kind input_form(const struct model *m, const struct weight *w, enum role role)
{
	const struct role_info *r = &role_info[role];

	if (!w->n_runs || r->kind != ROLE_MATRIX || w->n_in != m->n_embd ||
	    (r->owner != OWNER_ATTENTION && r->owner != OWNER_DELTANET))
		return ACT_NONE;
	return quant_format(w->type)->act;
}

static int create_actbufs(struct mixer_scratch *s, const struct model *m)
{
	bool used[ACT_NR] = { false };
	size_t widest = u64_max((size_t)m->attention.n_head * m->attention.head_dim,
				(size_t)m->ssm_v_heads * m->ssm_head_dim);
	int rc = 0;

	for (uint32_t i = 0; i < m->n_layers; i++)
		for (unsigned role = 0; role < ROLE_NR; role++)
			used[input_form(m, &m->layers[i].w[role], role)] = true;
	for (int kind = ACT_NONE + 1; kind < ACT_NR && !rc; kind++)
		if (used[kind])
			rc = actbuf_init(&s->in[kind], s->ops, m->n_embd, s->max_tokens);
	if (!rc)
		rc = actbuf_init(&s->out, s->ops, widest, s->max_tokens);
	return rc;
}

int mixer_scratch_create(const struct model *m, const struct cpu_ops *ops, uint32_t max_tokens,
			 unsigned n_threads, struct mixer_scratch **ret, struct err *err)
{
	struct mixer_scratch *s = calloc(1, sizeof(*s));
	size_t bytes;

	if (!s)
		goto out_fail;
	s->ops = ops;
	s->max_tokens = max_tokens;
	s->n_threads = n_threads;
	s->n_slots = (uint32_t)u64_max(MIN_SLOTS, (uint64_t)n_threads * SLOTS_PER_THREAD);
	if (rope_init(&s->rope, &m->attention.rope) || create_actbufs(s, m))
		goto out_fail;
	bytes = lay_out(s, m, NULL);
	s->memory = aligned_alloc(64, align_up(bytes, 64));
	if (!s->memory)
		goto out_fail;
	memset(s->memory, 0, bytes);
	lay_out(s, m, s->memory);
	*ret = s;
	return 0;
out_fail:
	mixer_scratch_destroy(s);
	return err_set(err, -ENOMEM, "no memory for the mixers' buffers");
}

void mixer_scratch_destroy(struct mixer_scratch *s)
{
	if (!s)
		return;
	for (int kind = 0; kind < ACT_NR; kind++)
		actbuf_fini(&s->in[kind]);
	actbuf_fini(&s->out);
	rope_fini(&s->rope);
	free(s->memory);
	free(s);
}

void mixer_input(const struct mixer_args *a, unsigned tid, enum act_kind kind, unsigned *done)
{
	if (*done & 1u << kind)
		return;
	*done |= 1u << kind;
	actbuf_quantize(&a->scratch->in[kind], a->team, tid, kind, a->x, a->model->n_embd,
			a->model->n_embd, a->batch->n_tokens);
}

void mixer_output(const struct mixer_args *a, unsigned tid, const struct wmat *w, size_t unit,
		  float *(*make)(const struct mixer_args *a, unsigned tid, size_t column,
				 size_t first, size_t end))
{
	struct actbuf *out = &a->scratch->out;
	size_t n = w->n_in, columns = a->batch->n_tokens, stride = a->ops->act_bytes(w->act, n);
	size_t per_column, first, end;

	/* pieces that hold whole units and whole blocks of every quantised form */
	while (unit % 256 && unit < n)
		unit *= 2;
	unit = u64_min(unit, n);
	per_column = div_ceil(n, unit);
	if (tid == 0) {
		out->kind = w->act;
		out->n = n;
		out->stride = stride;
		for (size_t c = 0; c < columns; c++)
			out->x[c] = out->data + c * stride;
	}
	team_share(columns * per_column, 1, tid, team_size(a->team), &first, &end);
	for (size_t i = first; i < end; i++) {
		size_t column = i / per_column, from = i % per_column * unit;
		size_t to = u64_min(from + unit, n);
		const float *x = make(a, tid, column, from, to);

		a->ops->act_quantize_part(w->act, x, n, out->data + column * stride, from,
					  to - from);
	}
	team_barrier(a->team);
	linear(w, out, columns, a->y, a->model->n_embd, a->team, tid, &a->lanes[tid]);
}
