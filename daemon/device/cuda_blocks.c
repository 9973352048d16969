/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda_blocks.c: blocks of a layer on the device, as strings of launches on one stream. See
 * cuda.h; memory is cuda.c's. Engine thread.
 *
 * Prompts have the bits of decode: products of block formats are tiled from nine tokens on (the same bits by the
 * law), attention takes blocks of tokens over the parts of decode, DeltaNet goes through a run token by token in
 * one launch with the state in registers, products of floats are groups of eight columns in one launch. So
 * nothing here knows how a prompt was cut. What waits to be added to the stream (y) is added by the next norm.
 */
#include "device/cuda.h"

#include <errno.h>
#include <string.h>

#include "base/num.h"

const struct cuda_act cuda_no_act = { CUDA_IN_NONE, NULL };

/* An operation's return: 0, or a sentence that names it. */
int cuda_did(int rc, const char *what, struct err *err)
{
	return rc ? err_set(err, -EIO, "the device refused %s: %s", what, strerror(-rc)) : 0;
}

/* Which of a row's int8 forms: -1 where floats are taken. */
static int form_index(uint32_t type)
{
	const enum cuda_input form = cuda_matvec_input(type);

	return form == CUDA_IN_Q8_0 ? 0 : form == CUDA_IN_Q8_K ? 1 : -1;
}

static const enum cuda_input forms[DEVICE_FORMS] = { CUDA_IN_Q8_0, CUDA_IN_Q8_K };

/* @r holds rows of @n new floats: no int8 form is made yet. */
void cuda_fresh(struct cuda_rows *r, size_t n)
{
	r->n = n;
	r->made[0] = r->made[1] = false;
}

int cuda_form(struct cuda_device *d, struct cuda_rows *r, uint32_t type, size_t tokens,
	      const void **ret, struct err *err)
{
	const int k = form_index(type);
	int rc = 0;

	if (k >= 0 && !r->made[k])
		rc = cuda_act_quantize(d->stream, forms[k], r->f, r->n, r->n, tokens, r->act[k]);
	if (k >= 0)
		r->made[k] = true;
	*ret = k < 0 ? (const void *)r->f : r->act[k];
	return cuda_did(rc, "a form of activations", err);
}

/* Where an operation may leave the form of @r that weights of @type take. */
static struct cuda_act act_for(struct cuda_rows *r, uint32_t type)
{
	const int k = form_index(type);

	if (k < 0)
		return cuda_no_act;
	r->made[k] = true;
	return (struct cuda_act){ forms[k], r->act[k] };
}

/* The bits do not depend on how many columns there are. */
int cuda_one_product(struct cuda_device *d, const struct cuda_weight *w, struct cuda_rows *x,
		     size_t tokens, float *y, size_t ldy, struct err *err)
{
	const int k = form_index(w->type);
	struct cuda_product p = { .type = w->type,
				  .w = w->p,
				  .row_bytes = w->row_bytes,
				  .n = w->n,
				  .rows = w->rows,
				  .cols = tokens,
				  .ldy = ldy };
	int rc = 0;

	if (!w->p || w->n != x->n)
		return err_set(err, -EINVAL,
			       "a weight of the device is missing or has another size");
	rc = cuda_form(d, x, w->type, tokens, &p.x, err);
	if (rc)
		return rc;
	p.y = y;
	rc = k < 0 || tokens <= CUDA_FEW ? cuda_matvec(d->stream, &p) : cuda_gemm(d->stream, &p);
	return cuda_did(rc, "a product", err);
}

/* A product of several with the step's input. */
struct part {
	const struct cuda_weight *w;
	float *y;
};

/* All of @parts with the step's input: one launch where there are few tokens. */
static int products(struct cuda_device *d, const struct part *parts, unsigned count,
		    struct err *err)
{
	struct cuda_product p[CUDA_MANY] = { 0 };
	int rc = 0;

	if (d->n_tokens > CUDA_FEW) {
		for (unsigned i = 0; i < count && !rc; i++)
			rc = cuda_one_product(d, parts[i].w, &d->in, d->n_tokens, parts[i].y,
					      parts[i].w->rows, err);
		return rc;
	}
	for (unsigned i = 0; i < count && !rc; i++) {
		const struct cuda_weight *w = parts[i].w;
		const void *x;

		if (!w->p || w->n != d->in.n)
			return err_set(err, -EINVAL,
				       "a weight of the device is missing or has another size");
		rc = cuda_form(d, &d->in, w->type, d->n_tokens, &x, err);
		if (rc)
			return rc;
		p[i] = (struct cuda_product){ .type = w->type,
					      .w = w->p,
					      .row_bytes = w->row_bytes,
					      .n = w->n,
					      .rows = w->rows,
					      .x = x,
					      .cols = d->n_tokens,
					      .y = parts[i].y,
					      .ldy = w->rows };
	}
	return cuda_did(rc ? rc : cuda_matvec_many(d->stream, p, count), "products", err);
}

/* The experts of the layer before, both sides' rows in rank order. */
static struct cuda_expert_sum sum_of(const struct cuda_device *d)
{
	return (struct cuda_expert_sum){ .partial = d->partial,
					 .mapped = d->rows.device,
					 .place = d->place,
					 .weights = d->router_weights,
					 .k = cuda_ranks(d, d->between.routed) };
}

int cuda_normed_input(struct cuda_device *d, const struct cuda_weight *norm, uint32_t first,
		      struct err *err)
{
	const size_t n = d->base.c.model->n_embd;
	const float eps = d->base.c.model->rms_eps;
	int rc;

	if (!norm->p)
		return err_set(err, -EINVAL, "a norm of the device is missing");
	cuda_fresh(&d->in, n);
	if (d->between.routed != DEVICE_NO_LAYER) {
		const struct cuda_expert_sum sum = sum_of(d);

		rc = cuda_expert_reduce_norm(d->stream, &sum, d->x, norm->p, n, d->n_tokens, eps,
					     d->in.f, act_for(&d->in, first));
	} else {
		rc = cuda_rmsnorm(d->stream, d->x, d->between.waiting ? d->y : NULL, norm->p, n,
				  d->n_tokens, eps, d->in.f, act_for(&d->in, first));
	}
	d->between.waiting = false;
	d->between.routed = DEVICE_NO_LAYER;
	return cuda_did(rc, "a norm", err);
}

static struct cuda_kv_cache cache_of(const struct cuda_device *d, uint32_t layer)
{
	const struct attention_spec *s = &d->base.c.model->layers[layer].attention;

	return (struct cuda_kv_cache){ .type = d->base.c.kv_q8 ? CUDA_KV_Q8_0 : CUDA_KV_F16,
				       .pool = d->layers[layer].pool,
				       .table = d->table,
				       .table_stride = d->pages,
				       .heads = s->n_head_kv,
				       .dim = s->head_dim };
}

/* Queries and keys normed and turned, keys and values to the cache: d->q. */
static int prepare_heads(struct cuda_device *d, uint32_t layer, const float *k, const float *v,
			 struct err *err)
{
	const struct attention_spec *s = &d->base.c.model->layers[layer].attention;
	const struct cuda_weight *w = d->layers[layer].w;
	const struct cuda_qkv a = { .q = d->a,
				    .k = k,
				    .v = v,
				    .ldq = w[ROLE_WQ].rows,
				    .q_step = w[ROLE_WQ].rows / s->n_head,
				    .ldkv = w[ROLE_WK].rows,
				    .wq = w[ROLE_Q_NORM].p,
				    .wk = w[ROLE_K_NORM].p,
				    .eps = d->base.c.model->rms_eps,
				    .pos = d->index,
				    .seq = d->index + d->base.c.max_tokens,
				    .tokens = d->n_tokens,
				    .heads = s->n_head,
				    .rot = s->rope.n_rot,
				    .inv_freq = d->rope,
				    .mscale = 1.0f,
				    .scale = s->scale,
				    .q_out = d->q,
				    .kv = cache_of(d, layer) };

	return cuda_did(cuda_qkv_rope_store(d->stream, &a), "the heads of a layer", err);
}

/* How many rows of attention one launch may have, each over @len positions at the most. */
static size_t attend_rows(const struct cuda_device *d, size_t len)
{
	const size_t parts = (len + DEVICE_PART - 1) / DEVICE_PART;

	return u64_max(1, device_attend_pairs(&d->base.c) / parts);
}

/* Rows [@first, @first + @count) of the step, in launches that the scratch memory holds. */
static int attend_some(struct cuda_device *d, const struct cuda_attend *all, size_t first,
		       size_t count)
{
	const size_t width = all->heads * all->kv.dim, most = attend_rows(d, all->max_len);
	struct cuda_attend a = *all;
	int rc = 0;

	for (size_t t = first; t < first + count && !rc; t += most) {
		a.q = all->q + t * width;
		a.gate = all->gate ? all->gate + t * all->ldg : NULL;
		a.sequences = u64_min(most, first + count - t);
		a.seq = all->seq + t;
		a.len = all->len + t;
		a.out = all->out + t * width;
		a.act.rows = all->act.rows ? (uint8_t *)all->act.rows + t * cuda_act_bytes(width)
					   : NULL;
		rc = cuda_attend_decode(d->stream, &a);
	}
	return rc;
}

/* Runs of one token together; longer ones each for itself, for as many positions as it has. */
static int attend_runs(struct cuda_device *d, struct cuda_attend *a)
{
	const uint32_t *start = d->host_index + cuda_start_at(d);
	const uint32_t *len = d->host_index + 2 * (size_t)d->base.c.max_tokens;
	uint32_t end;
	int rc = 0;

	for (uint32_t i = 0; i < d->n_runs && !rc; i = end) {
		for (end = i + 1; end < d->n_runs && start[end] - start[i] == end - i &&
				  start[end + 1] - start[end] == 1;)
			end++;
		a->one_run = start[i + 1] - start[i] > 1;
		a->max_len = a->one_run ? len[start[i + 1] - 1] : cuda_most_len(d);
		rc = attend_some(d, a, start[i], start[end] - start[i]);
	}
	return rc;
}

/* The result's int8 form comes with the join where a super-block has whole heads. */
static int attend(struct cuda_device *d, uint32_t layer, struct err *err)
{
	const struct attention_spec *s = &d->base.c.model->layers[layer].attention;
	const struct cuda_act act = (size_t)s->n_head * s->head_dim % 256
					    ? cuda_no_act
					    : act_for(&d->mid, d->layers[layer].w[ROLE_WO].type);
	const size_t ldq = d->layers[layer].w[ROLE_WQ].rows;
	struct cuda_attend a = { .q = d->q,
				 .gate = s->gated ? d->a + s->head_dim : NULL,
				 .ldg = ldq,
				 .g_step = ldq / s->n_head,
				 .kv = cache_of(d, layer),
				 .heads = s->n_head,
				 .seq = d->index + d->base.c.max_tokens,
				 .len = d->index + 2 * d->base.c.max_tokens,
				 .part = DEVICE_PART,
				 .scratch = d->scratch,
				 .out = d->mid.f,
				 .act = act };

	return cuda_did(attend_runs(d, &a), "attention", err);
}

int cuda_attention(struct cuda_device *d, uint32_t layer, struct err *err)
{
	const struct attention_spec *s = &d->base.c.model->layers[layer].attention;
	const struct cuda_weight *w = d->layers[layer].w;
	float *k = d->b, *v = d->b + (size_t)d->base.c.max_tokens * w[ROLE_WK].rows;
	const struct part parts[] = { { &w[ROLE_WQ], d->a },
				      { &w[ROLE_WK], k },
				      { &w[ROLE_WV], v } };
	int rc = products(d, parts, 3, err);

	cuda_fresh(&d->mid, (size_t)s->n_head * s->head_dim);
	rc = rc ? rc : prepare_heads(d, layer, k, v, err);
	rc = rc ? rc : attend(d, layer, err);
	return rc ? rc
		  : cuda_one_product(d, &w[ROLE_WO], &d->mid, d->n_tokens, d->y, w[ROLE_WO].rows,
				     err);
}

int cuda_deltanet(struct cuda_device *d, uint32_t layer, struct err *err)
{
	const struct cuda_layer *l = &d->layers[layer];
	const struct cuda_delta_shape *s = &d->delta;
	const struct cuda_delta_batch batch = { .sequences = d->n_runs,
						.tokens = d->n_tokens,
						.max_run = d->max_run,
						.start = d->index + cuda_start_at(d),
						.slot = d->index + cuda_slot_at(d),
						.stride = d->state_floats };
	const struct cuda_delta step = { .shape = *s,
					 .batch = batch,
					 .qkv = d->b,
					 .decay = d->alpha,
					 .beta = d->beta,
					 .state = l->state,
					 .out = d->mid.f };
	const size_t n = d->n_tokens;
	const struct part parts[] = { { &l->w[ROLE_SSM_QKV], d->a },
				      { &l->w[ROLE_SSM_Z], d->q },
				      { &l->w[ROLE_SSM_ALPHA], d->alpha },
				      { &l->w[ROLE_SSM_BETA], d->beta } };
	int rc = products(d, parts, 4, err);

	if (rc)
		return rc;
	rc = cuda_delta_conv(d->stream, s, &batch, d->a, l->w[ROLE_SSM_CONV].p, l->conv, d->b);
	rc = rc ? rc
		: cuda_delta_prepare(d->stream, s, n, d->b, d->alpha, d->beta, l->w[ROLE_SSM_A].p,
				     l->w[ROLE_SSM_DT].p, d->alpha);
	rc = rc ? rc : cuda_delta_step(d->stream, &step);
	cuda_fresh(&d->mid, s->v_heads * s->dim);
	rc = rc ? rc
		: cuda_delta_out(d->stream, d->mid.f, d->q, l->w[ROLE_SSM_NORM].p, n, s->v_heads,
				 s->dim, d->base.c.model->rms_eps, d->mid.f,
				 act_for(&d->mid, l->w[ROLE_SSM_OUT].type));
	rc = cuda_did(rc, "DeltaNet", err);
	return rc ? rc
		  : cuda_one_product(d, &l->w[ROLE_SSM_OUT], &d->mid, n, d->y,
				     l->w[ROLE_SSM_OUT].rows, err);
}

/* y = down(silu(gate in) * up in) */
int cuda_triple(struct cuda_device *d, const struct cuda_weight *gate, const struct cuda_weight *up,
		const struct cuda_weight *down, float *y, size_t ldy, struct err *err)
{
	const size_t n = d->n_tokens;
	const struct part parts[] = { { gate, d->a }, { up, d->b } };
	int rc = products(d, parts, 2, err);

	if (rc)
		return rc;
	cuda_fresh(&d->hidden, up->rows);
	rc = cuda_did(cuda_glu_mul(d->stream, CUDA_GLU_SILU, d->a, d->b, up->rows, up->rows, n,
				   d->hidden.f, act_for(&d->hidden, down->type)),
		      "an activation", err);
	return rc ? rc : cuda_one_product(d, down, &d->hidden, n, y, ldy, err);
}
