/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/heads.c: from the projections to what attention works on: norms, rotation,
 * scale, and keys and values into the cache. See attention.h; formulas: docs/models.md 2.4.
 */
#include <assert.h>
#include <string.h>

#include "engine/block/attention.h"

static bool same_rope(const struct rope_spec *x, const struct rope_spec *y)
{
	return x->kind == y->kind && x->n_rot == y->n_rot && x->base == y->base &&
	       x->scale == y->scale && x->by_table == y->by_table &&
	       x->yarn_factor == y->yarn_factor && x->yarn_context == y->yarn_context &&
	       x->yarn_fast == y->yarn_fast && x->yarn_slow == y->yarn_slow &&
	       x->yarn_exact == y->yarn_exact && x->yarn_magnitude == y->yarn_magnitude;
}

struct angles *heads_angles_of(struct attention_buffers *b, const struct rope_spec *spec)
{
	for (unsigned i = 0; i < ROPES_MAX; i++)
		if (spec->n_rot && same_rope(&b->angles[i].spec, spec))
			return &b->angles[i];
	return NULL;
}

void heads_angles(const struct block_args *a, size_t column)
{
	struct angles *g = heads_angles_of(attention_buffers(a), &a->layer->attention.rope);
	const struct batch_run *run = run_of(a->batch, (uint32_t)column);
	uint32_t position = run->pos + (uint32_t)column - run->first;
	size_t half = g->spec.n_rot / 2;
	const float *by = NULL;

	if (g->of[column] == position + 1)
		return;
	if (g->spec.by_table)
		by = layer_floats(a->model_weights, ROLE_ROPE_FREQS);
	g->of[column] = position + 1;
	rope_angles(&g->spec, g->frequency, by, position, g->cosine + column * half,
		    g->sine + column * half);
}

void heads_norm_rows(const struct block_args *a, unsigned tid)
{
	const struct attention_spec *s = &a->layer->attention;
	struct attention_buffers *b = attention_buffers(a);
	size_t q = (size_t)s->n_head * s->head_dim, kv = (size_t)s->n_head_kv * s->head_dim;
	size_t first, end;

	assert(!s->gated);
	while (team_take_range(a->team, tid, a->batch->n_tokens, 1, &first, &end))
		for (size_t c = first; c < end; c++) {
			a->fops->rmsnorm(b->q + c * q, layer_floats(a->weights, ROLE_Q_NORM), q,
					 a->model->rms_eps, b->q + c * q);
			a->fops->rmsnorm(b->k + c * kv, layer_floats(a->weights, ROLE_K_NORM), kv,
					 a->model->rms_eps, b->k + c * kv);
		}
}

void heads_turn(const struct block_args *a, size_t column, float *x)
{
	const struct angles *g = heads_angles_of(attention_buffers(a), &a->layer->attention.rope);
	size_t half = g->spec.n_rot / 2;

	if (g->spec.kind == ROPE_PAIRS)
		rope_pairs(x, g->cosine + column * half, g->sine + column * half, half);
	else
		a->fops->rope(x, g->cosine + column * half, g->sine + column * half, half);
}

/* out = a head of Q or K, normed and rotated for its column. */
static void turn_head(const struct block_args *a, const float *src, enum role norm, size_t column,
		      float *out)
{
	const struct attention_spec *s = &a->layer->attention;

	if (s->qk_norm == QK_NORM_HEAD)
		a->fops->rmsnorm(src, layer_floats(a->weights, norm), s->head_dim,
				 a->model->rms_eps, out);
	else
		memcpy(out, src, s->head_dim * sizeof(*out));
	heads_turn(a, column, out);
}

void heads_query(const struct block_args *a, size_t column, uint32_t head)
{
	const struct attention_spec *s = &a->layer->attention;
	struct attention_buffers *b = attention_buffers(a);
	size_t dims = s->head_dim, stride = dims * (s->gated ? 2 : 1);
	size_t row = row_of(a, head / group_of(a), column) + head % group_of(a);
	float *q = b->query + row * dims;

	turn_head(a, b->q + (column * s->n_head + head) * stride, ROLE_Q_NORM, column, q);
	a->fops->scale(s->scale, q, q, dims);
	a->fops->attend_query(q, 1, dims);
}

void heads_key(const struct block_args *a, unsigned tid, size_t column, uint32_t head)
{
	const struct attention_spec *s = &a->layer->attention;
	const struct batch_run *run = run_of(a->batch, (uint32_t)column);
	uint32_t position = run->pos + (uint32_t)column - run->first;
	float *k = a->lanes[tid].tmp;
	void *k_block, *v_block;

	assert(a->lanes[tid].tmp_floats >= s->head_dim);
	turn_head(a, attention_buffers(a)->k + (column * s->n_head_kv + head) * s->head_dim,
		  ROLE_K_NORM, column, k);
	seq_kv(run->seq, a->layer_index, head, position / KV_BLOCK, &k_block, &v_block);
	a->fops->kv_store_k(seq_kv_type(run->seq), s->head_dim, position % KV_BLOCK, k, k_block);
}

/* Without WV the values are the keys before norm and rotation. */
void heads_value(const struct block_args *a, unsigned tid, size_t column, uint32_t head)
{
	const struct attention_spec *s = &a->layer->attention;
	const struct batch_run *run = run_of(a->batch, (uint32_t)column);
	uint32_t position = run->pos + (uint32_t)column - run->first;
	const float *from = a->weights->w[ROLE_WV].data ? attention_buffers(a)->v
							: attention_buffers(a)->k;
	const float *value = from + (column * s->n_head_kv + head) * s->value_dim;
	float *v = a->lanes[tid].tmp;
	void *k_block, *v_block;

	assert(a->lanes[tid].tmp_floats >= s->value_dim);
	if (s->v_norm) {
		a->fops->rmsnorm(value, NULL, s->value_dim, a->model->rms_eps, v);
		value = v;
	}
	seq_kv(run->seq, a->layer_index, head, position / KV_BLOCK, &k_block, &v_block);
	a->fops->kv_store_v(seq_kv_type(run->seq), s->value_dim, position % KV_BLOCK, value,
			    v_block);
}

void heads_prepare(const struct block_args *a, unsigned tid)
{
	const struct attention_spec *s = &a->layer->attention;
	uint32_t n_q = s->n_head, n = n_q + s->n_head_kv;
	size_t first, end;

	while (team_take_range(a->team, tid, (size_t)a->batch->n_tokens * n, 1, &first, &end))
		for (size_t i = first; i < end; i++) {
			uint32_t head = (uint32_t)(i % n);

			if (head < n_q) {
				heads_query(a, i / n, head);
				continue;
			}
			heads_key(a, tid, i / n, head - n_q);
			heads_value(a, tid, i / n, head - n_q);
		}
}
