/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda_step.c: a step on the device: blocks of a layer as strings of launches on one stream.
 * See device.h; memory is cuda.c's. Engine thread.
 *
 * Prompts take the forms of decode: attention a token at a time (a launch takes CUDA_ATTEND_ROWS of them),
 * DeltaNet token by token, products of floats eight columns at a time; products of block formats are tiled
 * from nine tokens on, with the same bits by the law. So nothing here knows how a prompt was cut. What
 * waits to be added to the stream (y) is added by the next norm.
 */
#include "device/cuda.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/num.h"

static const struct cuda_act no_act = { CUDA_IN_NONE, NULL };

/* An operation's return: 0, or a sentence that names it. */
static int did(int rc, const char *what, struct err *err)
{
	return rc ? err_set(err, -EIO, "the device refused %s: %s", what, strerror(-rc)) : 0;
}

static int copy(struct device *d, void *to, const void *from, size_t bytes,
		enum cudaMemcpyKind kind, struct err *err)
{
	return cuda_said(cudaMemcpyAsync(to, from, bytes, kind, d->stream), "a copy", err);
}

/* Which of a row's int8 forms: -1 where floats are taken. */
static int form_index(uint32_t type)
{
	const enum cuda_input form = cuda_matvec_input(type);

	return form == CUDA_IN_Q8_0 ? 0 : form == CUDA_IN_Q8_K ? 1 : -1;
}

static const enum cuda_input forms[CUDA_FORMS] = { CUDA_IN_Q8_0, CUDA_IN_Q8_K };

/* @r holds rows of @n new floats: no int8 form is made yet. */
static void fresh(struct cuda_rows *r, size_t n)
{
	r->n = n;
	r->made[0] = r->made[1] = false;
}

/* Where an operation may leave the form of @r that @w takes. */
static struct cuda_act act_for(struct cuda_rows *r, const struct cuda_weight *w)
{
	const int k = form_index(w->type);

	if (k < 0)
		return no_act;
	r->made[k] = true;
	return (struct cuda_act){ forms[k], r->act[k] };
}

/* y [tokens][w.rows] = W x, y rows @ldy apart; floats always eight columns at a time */
static int product(struct device *d, const struct cuda_weight *w, struct cuda_rows *x,
		   size_t tokens, float *y, struct err *err)
{
	const int k = form_index(w->type);
	struct cuda_product p = { .type = w->type,
				  .w = w->p,
				  .row_bytes = w->row_bytes,
				  .n = w->n,
				  .rows = w->rows,
				  .cols = tokens,
				  .ldy = w->rows };
	int rc = 0;

	if (!w->p || w->n != x->n)
		return err_set(err, -EINVAL,
			       "a weight of the device is missing or has another size");
	if (k < 0) {
		for (size_t at = 0; at < tokens && !rc; at += CUDA_FEW) {
			p.x = x->f + at * w->n;
			p.cols = u64_min(CUDA_FEW, tokens - at);
			p.y = y + at * w->rows;
			rc = cuda_matvec(d->stream, &p);
		}
		return did(rc, "a product", err);
	}
	if (!x->made[k])
		rc = cuda_act_quantize(d->stream, forms[k], x->f, w->n, w->n, tokens, x->act[k]);
	x->made[k] = true;
	p.x = x->act[k];
	p.y = y;
	if (!rc)
		rc = tokens <= CUDA_FEW ? cuda_matvec(d->stream, &p) : cuda_gemm(d->stream, &p);
	return did(rc, "a product", err);
}

/* A product of several with the step's input. */
struct part {
	const struct cuda_weight *w;
	float *y;
};

/* All of @parts with the step's input: one launch where there are few tokens. */
static int products(struct device *d, const struct part *parts, unsigned count, struct err *err)
{
	struct cuda_product p[CUDA_MANY] = { 0 };
	int rc = 0;

	if (d->n_tokens > CUDA_FEW) {
		for (unsigned i = 0; i < count && !rc; i++)
			rc = product(d, parts[i].w, &d->in, d->n_tokens, parts[i].y, err);
		return rc;
	}
	for (unsigned i = 0; i < count && !rc; i++) {
		const struct cuda_weight *w = parts[i].w;
		const int k = form_index(w->type);

		if (!w->p || w->n != d->in.n)
			return err_set(err, -EINVAL,
				       "a weight of the device is missing or has another size");
		if (k >= 0 && !d->in.made[k])
			rc = cuda_act_quantize(d->stream, forms[k], d->in.f, w->n, w->n,
					       d->n_tokens, d->in.act[k]);
		if (k >= 0)
			d->in.made[k] = true;
		p[i] = (struct cuda_product){ .type = w->type,
					      .w = w->p,
					      .row_bytes = w->row_bytes,
					      .n = w->n,
					      .rows = w->rows,
					      .x = k < 0 ? (const void *)d->in.f : d->in.act[k],
					      .cols = d->n_tokens,
					      .y = parts[i].y,
					      .ldy = w->rows };
	}
	return did(rc ? rc : cuda_matvec_many(d->stream, p, count), "products", err);
}

/* in = RMS(x + what waits; @norm), with the form that @first takes. */
static int normed_input(struct device *d, const struct cuda_weight *norm,
			const struct cuda_weight *first, struct err *err)
{
	const size_t n = d->c.model->n_embd;
	int rc;

	if (!norm->p)
		return err_set(err, -EINVAL, "a norm of the device is missing");
	fresh(&d->in, n);
	rc = cuda_rmsnorm(d->stream, d->x, d->waiting ? d->y : NULL, norm->p, n, d->n_tokens,
			  d->c.model->rms_eps, d->in.f, act_for(&d->in, first));
	d->waiting = false;
	return did(rc, "a norm", err);
}

float *device_input(struct device *d)
{
	return d->in_x;
}

/* Positions, places and lengths of all tokens; the runs. */
static void fill_index(struct device *d, const struct device_run *runs, uint32_t n_runs)
{
	uint32_t *pos = d->host_index, *seq = pos + d->c.max_tokens, *len = seq + d->c.max_tokens;
	uint32_t *start = d->host_index + cuda_start_at(d), *slot = d->host_index + cuda_slot_at(d);

	d->max_run = d->max_len = 0;
	for (uint32_t i = 0; i < n_runs; i++) {
		const struct device_run *r = &runs[i];

		start[i] = r->first;
		slot[i] = r->seq;
		for (uint32_t k = 0; k < r->count; k++) {
			pos[r->first + k] = r->pos + k;
			seq[r->first + k] = r->seq;
			len[r->first + k] = r->pos + k + 1;
		}
		d->max_run = r->count > d->max_run ? r->count : d->max_run;
		d->max_len = r->pos + r->count > d->max_len ? r->pos + r->count : d->max_len;
	}
	start[n_runs] = d->n_tokens;
}

/* The recurrent state of a sequence that begins. */
static int reset_state(struct device *d, uint32_t seq, struct err *err)
{
	const struct model *m = d->c.model;
	const size_t window = 3 * (2 * d->delta.k_heads + d->delta.v_heads) * d->delta.dim;
	const size_t state = d->delta.v_heads * d->delta.dim * d->delta.dim;
	int rc = 0;

	for (uint32_t i = 0; i < m->n_layers && !rc; i++) {
		const struct cuda_layer *l = &d->layers[i];

		if (!l->state)
			continue;
		rc = cuda_said(cudaMemsetAsync(l->conv + seq * window, 0, window * sizeof(float),
					       d->stream),
			       "a state", err);
		rc = rc ? rc
			: cuda_said(cudaMemsetAsync(l->state + seq * state, 0,
						    state * sizeof(float), d->stream),
				    "a state", err);
	}
	return rc;
}

int device_step_begin(struct device *d, const struct device_run *runs, uint32_t n_runs,
		      uint32_t n_tokens, struct err *err)
{
	int rc;

	for (uint32_t i = 0; i < n_runs; i++) {
		const struct device_run *r = &runs[i];

		if (r->pos && r->pos != d->lengths[r->seq])
			return err_set(err, -EINVAL,
				       "a sequence goes on at position %u, the device has %u of it",
				       r->pos, d->lengths[r->seq]);
		d->lengths[r->seq] = r->pos + r->count;
	}
	d->n_tokens = n_tokens;
	d->n_runs = n_runs;
	d->waiting = d->normed = false;
	fill_index(d, runs, n_runs);
	rc = copy(d, d->index, d->host_index, (cuda_slot_at(d) + d->c.n_seq) * 4,
		  cudaMemcpyHostToDevice, err);
	rc = rc ? rc
		: copy(d, d->x, d->in_x, (size_t)n_tokens * d->c.model->n_embd * sizeof(float),
		       cudaMemcpyHostToDevice, err);
	for (uint32_t i = 0; i < n_runs && !rc; i++)
		if (runs[i].pos == 0)
			rc = reset_state(d, runs[i].seq, err);
	return rc;
}

static struct cuda_kv_cache cache_of(const struct device *d, uint32_t layer)
{
	const struct attention_spec *s = &d->c.model->layers[layer].attention;

	return (struct cuda_kv_cache){ .type = d->c.kv_q8 ? CUDA_KV_Q8_0 : CUDA_KV_F16,
				       .pool = d->layers[layer].pool,
				       .table = d->table,
				       .table_stride = d->pages,
				       .heads = s->n_head_kv,
				       .dim = s->head_dim };
}

/* Queries and keys normed and turned, keys and values to the cache: d->q. */
static int prepare_heads(struct device *d, uint32_t layer, const float *k, const float *v,
			 struct err *err)
{
	const struct attention_spec *s = &d->c.model->layers[layer].attention;
	const struct cuda_weight *w = d->layers[layer].w;
	const struct cuda_qkv a = { .q = d->a,
				    .k = k,
				    .v = v,
				    .ldq = w[ROLE_WQ].rows,
				    .q_step = w[ROLE_WQ].rows / s->n_head,
				    .ldkv = w[ROLE_WK].rows,
				    .wq = w[ROLE_Q_NORM].p,
				    .wk = w[ROLE_K_NORM].p,
				    .eps = d->c.model->rms_eps,
				    .pos = d->index,
				    .seq = d->index + d->c.max_tokens,
				    .tokens = d->n_tokens,
				    .heads = s->n_head,
				    .rot = s->rope.n_rot,
				    .inv_freq = d->rope,
				    .mscale = 1.0f,
				    .scale = s->scale,
				    .q_out = d->q,
				    .kv = cache_of(d, layer) };

	return did(cuda_qkv_rope_store(d->stream, &a), "the heads of a layer", err);
}

/* The result's int8 form comes with the join where a super-block has whole heads. */
static int attend(struct device *d, uint32_t layer, struct err *err)
{
	const struct attention_spec *s = &d->c.model->layers[layer].attention;
	const struct cuda_act act = (size_t)s->n_head * s->head_dim % 256
					    ? no_act
					    : act_for(&d->mid, &d->layers[layer].w[ROLE_WO]);
	const size_t dim = s->head_dim, width = s->n_head * dim;
	const size_t ldq = d->layers[layer].w[ROLE_WQ].rows;
	struct cuda_attend a = { .ldg = ldq,
				 .g_step = ldq / s->n_head,
				 .kv = cache_of(d, layer),
				 .heads = s->n_head,
				 .max_len = d->max_len,
				 .part = CUDA_ATTEND_PART,
				 .scratch = d->scratch };
	int rc = 0;

	for (size_t t = 0; t < d->n_tokens && !rc; t += CUDA_ATTEND_ROWS) {
		a.q = d->q + t * width;
		a.gate = s->gated ? d->a + t * ldq + dim : NULL;
		a.sequences = u64_min(CUDA_ATTEND_ROWS, d->n_tokens - t);
		a.seq = d->index + d->c.max_tokens + t;
		a.len = d->index + 2 * d->c.max_tokens + t;
		a.out = d->mid.f + t * width;
		a.act.form = act.form;
		a.act.rows = act.rows ? (uint8_t *)act.rows + t * cuda_act_bytes(width) : NULL;
		rc = cuda_attend_decode(d->stream, &a);
	}
	return did(rc, "attention", err);
}

static int attention(struct device *d, uint32_t layer, struct err *err)
{
	const struct attention_spec *s = &d->c.model->layers[layer].attention;
	const struct cuda_weight *w = d->layers[layer].w;
	float *k = d->b, *v = d->b + (size_t)d->c.max_tokens * w[ROLE_WK].rows;
	const struct part parts[] = { { &w[ROLE_WQ], d->a },
				      { &w[ROLE_WK], k },
				      { &w[ROLE_WV], v } };
	int rc = products(d, parts, 3, err);

	fresh(&d->mid, (size_t)s->n_head * s->head_dim);
	rc = rc ? rc : prepare_heads(d, layer, k, v, err);
	rc = rc ? rc : attend(d, layer, err);
	return rc ? rc : product(d, &w[ROLE_WO], &d->mid, d->n_tokens, d->y, err);
}

static int deltanet(struct device *d, uint32_t layer, struct err *err)
{
	const struct cuda_layer *l = &d->layers[layer];
	const struct cuda_delta_shape *s = &d->delta;
	const struct cuda_delta_batch batch = { .sequences = d->n_runs,
						.tokens = d->n_tokens,
						.max_run = d->max_run,
						.start = d->index + cuda_start_at(d),
						.slot = d->index + cuda_slot_at(d) };
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
	fresh(&d->mid, s->v_heads * s->dim);
	rc = rc ? rc
		: cuda_delta_out(d->stream, d->mid.f, d->q, l->w[ROLE_SSM_NORM].p, n, s->v_heads,
				 s->dim, d->c.model->rms_eps, d->mid.f,
				 act_for(&d->mid, &l->w[ROLE_SSM_OUT]));
	rc = did(rc, "DeltaNet", err);
	return rc ? rc : product(d, &l->w[ROLE_SSM_OUT], &d->mid, n, d->y, err);
}

/* y = down(silu(gate in) * up in) */
static int triple(struct device *d, const struct cuda_weight *gate, const struct cuda_weight *up,
		  const struct cuda_weight *down, float *y, struct err *err)
{
	const size_t n = d->n_tokens;
	const struct part parts[] = { { gate, d->a }, { up, d->b } };
	int rc = products(d, parts, 2, err);

	if (rc)
		return rc;
	fresh(&d->hidden, up->rows);
	rc = did(cuda_glu_mul(d->stream, CUDA_GLU_SILU, d->a, d->b, up->rows, up->rows, n,
			      d->hidden.f, act_for(&d->hidden, down)),
		 "an activation", err);
	return rc ? rc : product(d, down, &d->hidden, n, y, err);
}

/* The router, its choice and the experts' input to the host; the shared expert meanwhile. */
static int route(struct device *d, uint32_t layer, struct device_route *ret, struct err *err)
{
	static const enum cuda_gating gating[GATING_NR] = {
		[GATING_SOFTMAX] = CUDA_GATE_SOFTMAX,
		[GATING_SIGMOID] = CUDA_GATE_SIGMOID,
		[GATING_CHOSEN] = CUDA_GATE_SOFTMAX_TOPK,
	};
	const struct model *m = d->c.model;
	const struct cuda_weight *w = d->layers[layer].w;
	const size_t n = d->n_tokens, chosen = n * m->n_expert_used;
	const struct cuda_router r = { .gating = gating[m->router.gating],
				       .x = d->in.f,
				       .w = w[ROLE_ROUTER].p,
				       .bias = w[ROLE_ROUTER_BIAS].p,
				       .select_bias = w[ROLE_CHOICE_BIAS].p,
				       .d = m->n_embd,
				       .experts = m->n_expert,
				       .tokens = n,
				       .k = m->n_expert_used,
				       .norm = m->router.renorm,
				       .scale = m->router.scale,
				       .ids = d->router_ids,
				       .weights = d->router_weights,
				       .logits = d->router_logits };
	int rc = did(cuda_router(d->stream, &r), "the router", err);

	rc = rc ? rc : copy(d, d->ids, d->router_ids, chosen * 4, cudaMemcpyDeviceToHost, err);
	rc = rc ? rc
		: copy(d, d->weights, d->router_weights, chosen * 4, cudaMemcpyDeviceToHost, err);
	rc = rc ? rc
		: copy(d, d->out_x, d->in.f, n * m->n_embd * sizeof(float), cudaMemcpyDeviceToHost,
		       err);
	rc = rc ? rc : cuda_said(cudaEventRecord(d->ready, d->stream), "an event", err);
	if (!rc && w[ROLE_SHARED_GATE].p)
		rc = triple(d, &w[ROLE_SHARED_GATE], &w[ROLE_SHARED_UP], &w[ROLE_SHARED_DOWN],
			    d->shared, err);
	rc = rc ? rc : cuda_said(cudaEventSynchronize(d->ready), "the router", err);
	if (rc)
		return rc;
	*ret = (struct device_route){ d->ids, d->weights, d->out_x, d->sum };
	return 0;
}

/* The first matrix that a block multiplies with. */
static const struct cuda_weight *first_of(const struct cuda_layer *l, enum block_kind kind)
{
	return &l->w[kind == BLOCK_ATTENTION  ? ROLE_WQ
		     : kind == BLOCK_DELTANET ? ROLE_SSM_QKV
		     : kind == BLOCK_DENSE    ? ROLE_FFN_GATE
					      : ROLE_SHARED_GATE];
}

int device_route(struct device *d, uint32_t layer, struct device_route *ret, struct err *err)
{
	const struct layer *m = &d->c.model->layers[layer];
	const struct cuda_layer *l = &d->layers[layer];
	const struct cuda_weight *w = l->w;
	int rc = 0;

	*ret = (struct device_route){ 0 };
	for (uint32_t k = 0; k < m->n_blocks && !rc; k++) {
		const enum block_kind kind = m->blocks[k].kind;

		rc = normed_input(d, &w[m->blocks[k].norm], first_of(l, kind), err);
		if (rc)
			return rc;
		d->waiting = kind != BLOCK_MOE;
		if (kind == BLOCK_ATTENTION)
			rc = attention(d, layer, err);
		else if (kind == BLOCK_DELTANET)
			rc = deltanet(d, layer, err);
		else if (kind == BLOCK_DENSE)
			rc = triple(d, &w[ROLE_FFN_GATE], &w[ROLE_FFN_UP], &w[ROLE_FFN_DOWN], d->y,
				    err);
		else
			rc = route(d, layer, ret, err);
	}
	return rc;
}

int device_misses_done(struct device *d, uint32_t layer, struct err *err)
{
	const struct cuda_weight *w = d->layers[layer].w;
	const size_t n = d->c.model->n_embd;
	int rc =
		copy(d, d->y, d->sum, d->n_tokens * n * sizeof(float), cudaMemcpyHostToDevice, err);

	if (!rc && w[ROLE_SHARED_GATE].p)
		rc = did(cuda_shared_gate(d->stream, d->in.f, w[ROLE_SHARED_GATE_INP].p, d->shared,
					  d->n_tokens, n, d->y),
			 "the shared expert", err);
	d->waiting = true;
	return rc;
}

int device_step_end(struct device *d, const uint32_t *rows, uint32_t n, const float **ret_logits,
		    struct err *err)
{
	const size_t e = d->c.model->n_embd, vocab = d->c.model->n_vocab;
	int rc = 0;

	if (!d->normed && n)
		rc = normed_input(d, &d->w[ROLE_OUTPUT_NORM], &d->w[ROLE_OUTPUT_NORM], err);
	d->normed = true;
	fresh(&d->head, e);
	for (uint32_t i = 0; i < n && !rc; i++)
		rc = copy(d, d->head.f + i * e, d->in.f + rows[i] * e, e * sizeof(float),
			  cudaMemcpyDeviceToDevice, err);
	if (!rc && n)
		rc = product(d, &d->w[ROLE_OUTPUT], &d->head, n, d->d_logits, err);
	if (!rc && n)
		rc = copy(d, d->logits, d->d_logits, n * vocab * sizeof(float),
			  cudaMemcpyDeviceToHost, err);
	rc = rc ? rc : cuda_said(cudaStreamSynchronize(d->stream), "a step", err);
	if (rc)
		return rc;
	if (n)
		*ret_logits = d->logits;
	else
		atomic_fetch_add_explicit(&d->steps, 1, memory_order_relaxed);
	atomic_store_explicit(&d->launches, cuda_launches(), memory_order_relaxed);
	return 0;
}
