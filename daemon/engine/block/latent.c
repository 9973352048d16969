/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/latent.c: latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values of
 * all heads are products of one short vector per token, and that vector is all the cache holds.
 *
 * The products are moved to the query's side: a head's query goes through its k_b into the space of
 * the vector, attention runs there as with one KV head, and what comes out goes through v_b. Formulas:
 * docs/models.md 2.4. Stages, a barrier between them:
 *   q_a (or q) and kv_a | (norm and quantise | q_b) | norm the vector, write the cache, queries through
 *   k_b | attend | results through v_b | quantise | output projection
 */
#include <assert.h>
#include <string.h>

#include "base/num.h"
#include "engine/block/attention.h"

struct latent_buffers {
	struct attention_buffers attention; /* first: attend() finds it */
	float *q_a;			    /* [token][q_rank] */
	struct actbuf q_a_act;
	float *result; /* [token][head][out_dim] */
	/* each thread's own: columns of one head */
	struct actbuf *own;
};

static struct latent_buffers *buffers_of(const struct block_args *a)
{
	return a->buffers;
}

static void lay_out(const struct block_config *c, void *buffers, struct carver *kept,
		    struct carver *shared)
{
	const struct latent_spec *s = &c->model->latent;
	struct latent_buffers *b = buffers;
	size_t tokens = c->max_tokens;

	attention_carve(c, BLOCK_LATENT, &b->attention, kept, shared);
	b->own = carve(kept, c->n_threads, sizeof(*b->own));
	b->q_a = carve_floats(shared, tokens * s->q_rank);
	if (s->q_rank)
		actbuf_carve(&b->q_a_act, shared, c->ops, s->q_rank, tokens);
	b->result = carve_floats(shared, tokens * c->model->attention.n_head * s->out_dim);
	for (unsigned i = 0; i < c->n_threads; i++) {
		struct actbuf own;

		actbuf_carve(&own, shared, c->ops, u64_max(s->plain_dim, s->kv_rank), tokens);
		if (kept->base)
			b->own[i] = own;
	}
}

static void project(const struct block_args *a, unsigned tid, enum role role,
		    const struct actbuf *in, float *y)
{
	const struct wmat *w = &a->weights->w[role];

	linear(w, NULL, in, a->batch->n_tokens, y, w->n_out, a->team, tid, &a->lanes[tid]);
}

/* q = q_b norm(q_a x), or what LATENT_Q gave; ends with a barrier. */
static void finish_queries(const struct block_args *a, unsigned tid)
{
	const enum act_kind kind = a->weights->w[ROLE_LATENT_Q_B].act;
	struct latent_buffers *b = buffers_of(a);
	struct actbuf *act = &b->q_a_act;
	size_t first, end, rank = a->model->latent.q_rank;

	if (!rank)
		return;
	if (team_once(a->team, tid))
		actbuf_describe(act, kind, rank, a->batch->n_tokens);
	while (team_take_range(a->team, tid, a->batch->n_tokens, 1, &first, &end))
		for (size_t t = first; t < end; t++) {
			float *x = b->q_a + t * rank;

			a->fops->rmsnorm(x, layer_floats(a->weights, ROLE_LATENT_Q_A_NORM), rank,
					 a->model->rms_eps, x);
			a->ops->act_quantize(kind, x, rank,
					     act->data + t * a->ops->act_bytes(kind, rank));
		}
	team_barrier(a->team, tid);
	project(a, tid, ROLE_LATENT_Q_B, &b->q_a_act, b->attention.q);
	team_barrier(a->team, tid);
}

/* The vector of a column, normed, and the rotated part of its key: both into the cache. */
static void write_cache(const struct block_args *a, unsigned tid, size_t column)
{
	const struct attention_spec *s = &a->layer->attention;
	const struct batch_run *run = run_of(a->batch, (uint32_t)column);
	uint32_t position = run->pos + (uint32_t)column - run->first;
	size_t rank = a->model->latent.kv_rank;
	const float *src = buffers_of(a)->attention.k + column * s->head_dim;
	float *k = a->lanes[tid].tmp;
	void *k_block, *v_block;

	assert(a->lanes[tid].tmp_floats >= s->head_dim && s->head_dim == rank + s->rope.n_rot);
	a->fops->rmsnorm(src, layer_floats(a->weights, ROLE_LATENT_KV_A_NORM), rank,
			 a->model->rms_eps, k);
	memcpy(k + rank, src + rank, s->rope.n_rot * sizeof(*k));
	heads_turn(a, column, k + rank);
	seq_kv(run->seq, a->layer_index, 0, position / KV_BLOCK, &k_block, &v_block);
	a->fops->kv_store_k(seq_kv_type(run->seq), s->head_dim, position % KV_BLOCK, k, k_block);
	a->fops->kv_store_v(seq_kv_type(run->seq), rank, position % KV_BLOCK, k, v_block);
}

/*
 * The rows of one head of @role times a vector per column: column c at x + c * ldx, result at
 * y + c * ldy. By one thread.
 */
static void head_product(const struct block_args *a, unsigned tid, enum role role, size_t head,
			 size_t rows, const float *x, size_t ldx, float *y, size_t ldy)
{
	const struct wmat *w = &a->weights->w[role];
	struct actbuf *act = &buffers_of(a)->own[tid];
	size_t stride = a->ops->act_bytes(w->act, w->n_in), cols = a->batch->n_tokens;
	struct lane *lane = &a->lanes[tid];
	struct matmul m = { .type = w->type,
			    .w = w->data + head * rows * w->row_bytes,
			    .row_bytes = w->row_bytes,
			    .n = w->n_in,
			    .row0 = 0,
			    .row1 = rows,
			    .x = act->x,
			    .y = lane->y,
			    .cols = cols,
			    .scratch = lane->scratch };

	for (size_t c = 0; c < cols; c++) {
		act->x[c] = act->data + c * stride;
		a->ops->act_quantize(w->act, x + c * ldx, w->n_in, act->data + c * stride);
		lane->y[c] = y + c * ldy;
	}
	a->ops->matmul(&m);
}

/* Heads of the query: through k_b, the rotated part beside it, scaled. */
static void make_queries(const struct block_args *a, unsigned tid)
{
	const struct attention_spec *s = &a->layer->attention;
	const struct latent_spec *c = &a->model->latent;
	struct attention_buffers *b = attention_buffers(a);
	size_t width = c->plain_dim + s->rope.n_rot, ld = s->n_head * width;
	size_t row = (size_t)s->n_head * s->head_dim;

	for (size_t h; team_take(a->team, tid, s->n_head, &h);) {
		const float *src = b->q + h * width;
		float *query = b->query + h * s->head_dim;

		head_product(a, tid, ROLE_LATENT_K_B, h, c->kv_rank, src, ld, query, row);
		for (size_t t = 0; t < a->batch->n_tokens; t++) {
			float *q = query + t * row;

			memcpy(q + c->kv_rank, src + t * ld + c->plain_dim,
			       s->rope.n_rot * sizeof(*q));
			heads_turn(a, t, q + c->kv_rank);
			a->fops->scale(s->scale, q, q, s->head_dim);
			a->fops->attend_query(q, 1, s->head_dim);
		}
	}
}

/* Heads of the result: acc / l through v_b. */
static void make_results(const struct block_args *a, unsigned tid)
{
	const struct attention_spec *s = &a->layer->attention;
	const struct latent_spec *c = &a->model->latent;
	struct latent_buffers *b = buffers_of(a);
	size_t n_head = s->n_head, rank = c->kv_rank;
	float *values = b->attention.total.acc;

	for (size_t h; team_take(a->team, tid, n_head, &h);) {
		for (size_t t = 0; t < a->batch->n_tokens; t++) {
			size_t r = row_of(a, 0, t) + h;

			a->fops->scale(1.0f / attention_divisor(a, r, h), values + r * rank,
				       values + r * rank, rank);
		}
		head_product(a, tid, ROLE_LATENT_V_B, h, c->out_dim, values + h * rank,
			     n_head * rank, b->result + h * c->out_dim, n_head * c->out_dim);
	}
}

static float *result_of(const struct block_args *a, unsigned tid, size_t column, size_t first,
			size_t end)
{
	return buffers_of(a)->result +
	       column * a->layer->attention.n_head * a->model->latent.out_dim;
}

static enum role first_query(const struct block_args *a)
{
	return a->model->latent.q_rank ? ROLE_LATENT_Q_A : ROLE_LATENT_Q;
}

static void input(const struct block_args *a, unsigned tid, size_t t)
{
	unsigned done = 0;

	block_input(a, a->weights->w[first_query(a)].act, t, &done);
	block_input(a, a->weights->w[ROLE_LATENT_KV_A].act, t, &done);
	heads_angles(a, t);
}

static void forward(const struct block_args *a, unsigned tid)
{
	const struct wmat *w = a->weights->w;
	struct latent_buffers *b = buffers_of(a);
	enum role q = first_query(a);
	size_t first, end;

	assert(a->batch->n_tokens <= b->attention.max_tokens);
	project(a, tid, q, &a->in[w[q].act], q == ROLE_LATENT_Q ? b->attention.q : b->q_a);
	project(a, tid, ROLE_LATENT_KV_A, &a->in[w[ROLE_LATENT_KV_A].act], b->attention.k);
	team_barrier(a->team, tid);
	finish_queries(a, tid);
	while (team_take_range(a->team, tid, a->batch->n_tokens, 1, &first, &end))
		for (size_t c = first; c < end; c++)
			write_cache(a, tid, c);
	make_queries(a, tid);
	team_barrier(a->team, tid);
	attend(a, tid, NULL);
	team_barrier(a->team, tid);
	make_results(a, tid);
	team_barrier(a->team, tid);
	block_make_all(a, tid, &b->attention.out, &w[ROLE_LATENT_O], a->model->latent.out_dim,
		       result_of);
	team_barrier(a->team, tid);
	block_output(a, tid, &b->attention.out, &w[ROLE_LATENT_O], NULL);
}

const struct block_ops block_latent = {
	.name = "latent",
	.owner = OWNER_LATENT,
	.buffers_size = sizeof(struct latent_buffers),
	.lay_out = lay_out,
	.remembers = attention_remembers,
	.input = input,
	.forward = forward,
};
