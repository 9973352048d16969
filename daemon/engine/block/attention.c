/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/attention.c: softmax attention over the KV cache: order of work and buffers.
 *
 * Gated or not, with or without biases, sinks, windows and norms of queries and keys, as the layer
 * and its weights say. Stages, a barrier between them:
 *   q, k, v projections; norm and rotate heads, write the cache | attend; gate and quantise |
 *   output projection
 * Where norms go over whole rows, they and the rotation have stages of their own; so has what comes after
 * attend where the heads of a KV head are no whole blocks of a quantised form.
 * In the attend stage a (token, KV head) walks the cache in segments and blocks of absolute
 * positions, whoever computes it. It reads the step's own tokens back from the cache at its
 * precision. Same order, same bits.
 */
#include "engine/block/attention.h"

#include <assert.h>
#include <errno.h>
#include <math.h>

#include "base/num.h"

#define SLOTS_PER_THREAD 8 /* parts of a long context in flight; more only costs memory */
#define MIN_SLOTS	 64

static struct partial carve_partial(struct carver *c, size_t rows, size_t values)
{
	struct partial p;

	p.m = carve_floats(c, rows);
	p.l = carve_floats(c, rows);
	p.acc = carve_floats(c, values);
	return p;
}

/* The largest of each size over the layers that have the block. */
struct sizes {
	size_t q, k, v, query, out, n_head, values, dim, group, group_values;
};

static struct sizes largest(const struct model *m, enum block_kind kind)
{
	size_t latent_q = m->latent.plain_dim, latent_out = m->latent.out_dim;
	bool latent = kind == BLOCK_LATENT;
	struct sizes z = { 0 };

	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct attention_spec *s = &m->layers[i].attention;
		size_t n = s->n_head, query = n * s->head_dim, values = n * s->value_dim, group;

		if (!layer_has(&m->layers[i], kind))
			continue;
		group = n / s->n_head_kv;
		z.q = u64_max(z.q, latent     ? n * (latent_q + s->rope.n_rot)
				   : s->gated ? 2 * query
					      : query);
		z.k = u64_max(z.k, (size_t)s->n_head_kv * s->head_dim);
		z.v = u64_max(z.v, latent ? 0 : (size_t)s->n_head_kv * s->value_dim);
		z.query = u64_max(z.query, u64_max(query, values));
		z.out = u64_max(z.out, latent ? n * latent_out : values);
		z.n_head = u64_max(z.n_head, n);
		z.values = u64_max(z.values, values);
		z.dim = u64_max(z.dim, s->value_dim);
		z.group = u64_max(z.group, group);
		z.group_values = u64_max(z.group_values, group * s->value_dim);
	}
	return z;
}

/* Angles of every kind of rotation in the model; they survive from layer to layer of a step. */
static void carve_angles(struct carver *kept, struct attention_buffers *b, const struct model *m,
			 enum block_kind kind)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ROPES_MAX; i++)
		b->angles[i] = (struct angles){ 0 };
	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct rope_spec *spec = &m->layers[i].attention.rope;
		struct angles *g = &b->angles[n];

		if (!layer_has(&m->layers[i], kind) || heads_angles_of(b, spec))
			continue;
		assert(n < ROPES_MAX);
		n++;
		g->spec = *spec;
		g->frequency = carve(kept, spec->n_rot / 2, sizeof(*g->frequency));
		g->cosine = carve_floats(kept, (size_t)b->max_tokens * (spec->n_rot / 2));
		g->sine = carve_floats(kept, (size_t)b->max_tokens * (spec->n_rot / 2));
		g->of = carve(kept, b->max_tokens, sizeof(*g->of));
		if (kept->base)
			rope_frequencies(spec, g->frequency);
	}
}

void attention_carve(const struct block_config *c, enum block_kind kind,
		     struct attention_buffers *b, struct carver *kept, struct carver *shared)
{
	const struct sizes z = largest(c->model, kind);
	size_t tokens = c->max_tokens, tile_rows = u64_max(TILE_ROWS, z.group);

	b->max_tokens = c->max_tokens;
	b->n_threads = c->n_threads;
	b->n_slots = (uint32_t)u64_max(MIN_SLOTS, (uint64_t)c->n_threads * SLOTS_PER_THREAD);
	carve_angles(kept, b, c->model, kind);
	b->q_done = carve(kept, z.n_head, sizeof(*b->q_done));
	b->k_done = carve(kept, z.n_head, sizeof(*b->k_done));
	b->v_done = carve(kept, z.n_head, sizeof(*b->v_done));
	b->slots = carve(kept, b->n_slots, sizeof(*b->slots));
	b->tiles = carve(kept, b->n_threads, sizeof(*b->tiles));

	b->q = carve_floats(shared, tokens * z.q);
	b->k = carve_floats(shared, tokens * z.k);
	b->v = carve_floats(shared, tokens * z.v);
	b->query = carve_floats(shared, tokens * z.query);
	b->total = carve_partial(shared, tokens * z.n_head, tokens * z.values);
	actbuf_carve(&b->out, shared, c->ops, z.out, tokens);
	for (uint32_t i = 0; i < b->n_slots; i++) {
		struct partial p = carve_partial(shared, z.group, z.group_values);

		if (kept->base)
			b->slots[i] = p;
	}
	/*
	 * Twice the room that a tile takes: a processor that walks over its rows fetches ahead of itself,
	 * far behind the last, lines that the next thread would then have to take back to write them.
	 */
	for (unsigned i = 0; i < b->n_threads; i++) {
		struct partial p = carve_partial(shared, tile_rows, 2 * tile_rows * z.dim);

		if (kept->base)
			b->tiles[i] = p;
	}
}

int attention_remembers(const struct model *m, const struct layer *l, enum kv_type type,
			struct kv_need *ret, struct err *err)
{
	const struct attention_spec *a = &l->attention;
	const uint32_t dims[] = { a->head_dim, a->value_dim };

	for (unsigned i = 0; i < ARRAY_LEN(dims); i++)
		if (dims[i] % kv_granule(type) || dims[i] > KV_MAX_HEAD_DIM)
			return err_set(err, -ENOTSUP,
				       "a KV cache of type %s needs attention heads of a multiple "
				       "of %zu up to %d dimensions, this model has %u",
				       type == KV_F16 ? "f16" : "q8_0", kv_granule(type),
				       KV_MAX_HEAD_DIM, dims[i]);
	if (!a->n_head_kv || a->n_head % a->n_head_kv)
		return err_set(err, -ENOTSUP, "%u attention heads do not share %u KV heads evenly",
			       a->n_head, a->n_head_kv);
	ret->k_bytes = kv_block_bytes(type, a->head_dim);
	ret->v_bytes = kv_block_bytes(type, a->value_dim);
	ret->n_heads = a->n_head_kv;
	return 0;
}

static void lay_out(const struct block_config *c, void *buffers, struct carver *kept,
		    struct carver *shared)
{
	attention_carve(c, BLOCK_ATTENTION, buffers, kept, shared);
}

/* acc and l are relative to m, so that both are scaled where the sink is the largest. */
float attention_divisor(const struct block_args *a, size_t row, size_t head)
{
	const struct attention_buffers *b = attention_buffers(a);
	const float *sinks = layer_floats(a->weights, ROLE_SINKS);
	float m = b->total.m[row], highest;

	if (!sinks)
		return b->total.l[row];
	if (!isfinite(sinks[head])) /* minus infinity would pass for no sink */
		return NAN;
	highest = sinks[head] > m ? sinks[head] : m;
	return b->total.l[row] + expf(sinks[head] - highest) / expf(m - highest);
}

/* acc / l, times the gate where there is one: heads [first, end) / head_dim of a column */
static float *finish_heads(const struct block_args *a, unsigned tid, size_t column, size_t first,
			   size_t end)
{
	const struct attention_spec *s = &a->layer->attention;
	const struct attention_buffers *b = attention_buffers(a);
	size_t dims = s->value_dim;
	float *out = a->lanes[tid].tmp;

	for (size_t head = first / dims; head * dims < end; head++) {
		size_t row = row_of(a, (uint32_t)head / group_of(a), column) + head % group_of(a);
		float *o = out + head * dims;

		a->fops->scale(1.0f / attention_divisor(a, row, head), b->total.acc + row * dims, o,
			       dims);
		if (s->gated)
			a->fops->sigmoid_mul(o, b->q + ((column * s->n_head + head) * 2 + 1) * dims,
					     o, dims);
	}
	return out;
}

/* One of the three input projections; a weight that is not there has no result. */
static void project(const struct block_args *a, unsigned tid, enum role role, enum role bias,
		    enum role then, const struct groups *groups, float *y)
{
	const struct wmat *w = &a->weights->w[role];
	const struct wmat *next = then == ROLE_NONE ? NULL : &a->weights->w[then];

	if (w->data)
		linear_then(w, next, groups, layer_floats(a->weights, bias), &a->in[w->act],
			    a->batch->n_tokens, y, w->n_out, a->team, tid, &a->lanes[tid]);
}

static void finish_query(const void *args, unsigned tid, size_t head)
{
	const struct block_args *a = args;

	for (size_t c = 0; c < a->batch->n_tokens; c++)
		heads_query(a, c, (uint32_t)head);
}

static void finish_key(const void *args, unsigned tid, size_t head)
{
	const struct block_args *a = args;

	for (size_t c = 0; c < a->batch->n_tokens; c++) {
		heads_key(a, tid, c, (uint32_t)head);
		if (!a->weights->w[ROLE_WV].data)
			heads_value(a, tid, c, (uint32_t)head);
	}
}

static void finish_value(const void *args, unsigned tid, size_t head)
{
	const struct block_args *a = args;

	for (size_t c = 0; c < a->batch->n_tokens; c++)
		heads_value(a, tid, c, (uint32_t)head);
}

/* q, k and v as attention works on them, k and v in the cache. */
static void make_heads(const struct block_args *a, unsigned tid)
{
	const struct attention_spec *s = &a->layer->attention;
	struct attention_buffers *b = attention_buffers(a);
	const bool by_head = s->qk_norm != QK_NORM_ROW;
	const struct groups q = { b->q_done, s->head_dim * (s->gated ? 2 : 1), 1, finish_query, a };
	const struct groups k = { b->k_done, s->head_dim, 1, finish_key, a };
	const struct groups v = { b->v_done, s->value_dim, 1, finish_value, a };

	project(a, tid, ROLE_WQ, ROLE_WQ_BIAS, ROLE_WK, by_head ? &q : NULL, b->q);
	project(a, tid, ROLE_WK, ROLE_WK_BIAS, ROLE_WV, by_head ? &k : NULL, b->k);
	project(a, tid, ROLE_WV, ROLE_WV_BIAS, ROLE_NONE, by_head ? &v : NULL, b->v);
	if (by_head)
		return;
	team_barrier(a->team, tid);
	heads_norm_rows(a, tid);
	team_barrier(a->team, tid);
	heads_prepare(a, tid);
}

/* The heads of a KV head, in the form that the last product takes. */
static void finish_group(const struct block_args *a, unsigned tid, size_t column, uint32_t head)
{
	size_t n = group_of(a) * a->layer->attention.value_dim;

	block_make(a, tid, &attention_buffers(a)->out, &a->weights->w[ROLE_WO], column, head * n,
		   (head + 1) * n, finish_heads);
}

static void input(const struct block_args *a, unsigned tid, size_t t)
{
	const struct wmat *w = a->weights->w;
	unsigned done = 0;

	block_input(a, w[ROLE_WQ].act, t, &done);
	block_input(a, w[ROLE_WK].act, t, &done);
	if (w[ROLE_WV].data)
		block_input(a, w[ROLE_WV].act, t, &done);
	heads_angles(a, t);
}

static void forward(const struct block_args *a, unsigned tid)
{
	const struct attention_spec *s = &a->layer->attention;
	const struct wmat *wo = &a->weights->w[ROLE_WO];
	struct attention_buffers *b = attention_buffers(a);
	size_t group = group_of(a) * s->value_dim;
	bool whole = block_piece(wo->n_in, group) == group;

	assert(a->batch->n_tokens <= b->max_tokens && team_size(a->team) <= b->n_threads);
	if (team_once(a->team, tid))
		actbuf_describe(&b->out, wo->act, wo->n_in, a->batch->n_tokens);
	make_heads(a, tid);
	team_barrier(a->team, tid);
	attend(a, tid, whole ? finish_group : NULL);
	team_barrier(a->team, tid);
	if (!whole) {
		block_make_all(a, tid, &b->out, wo, s->value_dim, finish_heads);
		team_barrier(a->team, tid);
	}
	block_output(a, tid, &b->out, wo, layer_floats(a->weights, ROLE_WO_BIAS));
}

const struct block_ops block_attention = {
	.name = "attention",
	.owner = OWNER_ATTENTION,
	.buffers_size = sizeof(struct attention_buffers),
	.lay_out = lay_out,
	.remembers = attention_remembers,
	.input = input,
	.forward = forward,
};
