/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda_step.c: a step on the device. See device.h; blocks are in cuda_blocks.c. Engine thread.
 *
 * A launch of a layer is: the sum of the experts of the layer before, norm, mixer, norm, router, then what
 * the host needs (publish: ids, weights and the experts' input into mapped memory, and last a word), then
 * what is left for the device: which of the chosen experts have slots (resolve), those, and the shared
 * expert. The host looks at the word, computes the others meanwhile and writes their rows into mapped
 * memory; the launch of the next layer reads them: the order of the stream is the way back, and nothing on
 * the device waits for the host. The word of a layer says that the sum of the one before was made, so the
 * rows may be written anew.
 */
#include "device/cuda.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/num.h"

#define LOOKS 256 /* at the word, between two questions to the runtime */

static int copy(struct cuda_device *d, void *to, const void *from, size_t bytes,
		enum cudaMemcpyKind kind, struct err *err)
{
	return cuda_said(cudaMemcpyAsync(to, from, bytes, kind, d->stream), "a copy", err);
}

float *cuda_input(struct device *base)
{
	return cuda_of(base)->in_x;
}

/* Positions, places and lengths of all tokens; the runs. */
static void fill_index(struct cuda_device *d, const struct device_run *runs, uint32_t n_runs)
{
	uint32_t *pos = d->host_index, *seq = pos + d->base.c.max_tokens,
		 *len = seq + d->base.c.max_tokens;
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
static int reset_state(struct cuda_device *d, uint32_t seq, struct err *err)
{
	const struct model *m = d->base.c.model;
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

int cuda_step_begin(struct device *base, const struct device_run *runs, uint32_t n_runs,
		    uint32_t n_tokens, struct err *err)
{
	struct cuda_device *d = cuda_of(base);
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
	d->routed = DEVICE_NO_LAYER;
	fill_index(d, runs, n_runs);
	rc = copy(d, d->index, d->host_index, (cuda_slot_at(d) + d->base.c.n_seq) * 4,
		  cudaMemcpyHostToDevice, err);
	rc = rc ? rc
		: copy(d, d->x, d->in_x, (size_t)n_tokens * d->base.c.model->n_embd * sizeof(float),
		       cudaMemcpyHostToDevice, err);
	for (uint32_t i = 0; i < n_runs && !rc; i++)
		if (runs[i].pos == 0)
			rc = reset_state(d, runs[i].seq, err);
	return rc;
}

/* What waits at the begin of a layer: the sum of the experts of the one before, into y. */
static int join_experts(struct cuda_device *d, struct err *err)
{
	const struct model *m = d->base.c.model;
	const struct cuda_weight *w;
	const size_t n = m->n_embd;
	int rc;

	if (d->routed == DEVICE_NO_LAYER)
		return 0;
	w = d->layers[d->routed].w;
	d->routed = DEVICE_NO_LAYER;
	if (d->slot_table)
		rc = cuda_expert_reduce_two(d->stream, d->partial, d->rows.device, d->place,
					    d->router_weights, d->n_tokens, m->n_expert_used, n,
					    false, d->y);
	else
		rc = cuda_expert_reduce(d->stream, d->rows.device, NULL, d->router_weights,
					d->n_tokens, m->n_expert_used, n, false, d->y);
	rc = cuda_did(rc, "the sum of the experts", err);
	if (!rc && w[ROLE_SHARED_GATE].p)
		rc = cuda_did(cuda_shared_gate(d->stream, d->in.f, w[ROLE_SHARED_GATE_INP].p,
					       d->shared, d->n_tokens, n, d->y),
			      "the shared expert", err);
	d->waiting = true;
	return rc;
}

static int choose(struct cuda_device *d, uint32_t layer, struct err *err)
{
	static const enum cuda_gating gating[GATING_NR] = {
		[GATING_SOFTMAX] = CUDA_GATE_SOFTMAX,
		[GATING_SIGMOID] = CUDA_GATE_SIGMOID,
		[GATING_CHOSEN] = CUDA_GATE_SOFTMAX_TOPK,
	};
	const struct model *m = d->base.c.model;
	const struct cuda_weight *w = d->layers[layer].w;
	const struct cuda_router r = { .gating = gating[m->router.gating],
				       .x = d->in.f,
				       .w = w[ROLE_ROUTER].p,
				       .bias = w[ROLE_ROUTER_BIAS].p,
				       .select_bias = w[ROLE_CHOICE_BIAS].p,
				       .d = m->n_embd,
				       .experts = m->n_expert,
				       .tokens = d->n_tokens,
				       .k = m->n_expert_used,
				       .norm = m->router.renorm,
				       .scale = m->router.scale,
				       .ids = d->router_ids,
				       .weights = d->router_weights,
				       .logits = d->router_logits };
	const struct cuda_publish p = { .ids = d->router_ids,
					.weights = d->router_weights,
					.x = d->in.f,
					.tokens = d->n_tokens,
					.d = m->n_embd,
					.k = m->n_expert_used,
					.to_ids = d->to_ids.device,
					.to_weights = d->to_weights.device,
					.to_x = d->to_x.device,
					.word = d->word.device,
					.value = ++d->word_value };
	int rc = cuda_did(cuda_router(d->stream, &r), "the router", err);

	return rc ? rc : cuda_did(cuda_publish(d->stream, &p), "the router's choice", err);
}

/* Those of the chosen experts that lie in slots. */
static int hits(struct cuda_device *d, uint32_t layer, struct err *err)
{
	const struct model *m = d->base.c.model;
	const struct expert_layout *x = &m->layers[layer].experts;
	const uint32_t cls = d->base.plan.class_of_layer[layer];
	struct device_slot slot;
	struct cuda_resolve r = { .ids = d->router_ids,
				  .tokens = d->n_tokens,
				  .experts = m->n_expert,
				  .k = m->n_expert_used,
				  .slots = d->slot_table + (size_t)layer * m->n_expert,
				  .base = d->class_base[cls],
				  .slot_bytes = d->base.plan.classes[cls].slot_bytes,
				  .list = d->list,
				  .count = d->list_n,
				  .place = d->place };
	struct cuda_expert_group g = { .gate_type = x->matrix[EXPERT_GATE].type,
				       .up_type = x->matrix[EXPERT_UP].type,
				       .down_type = x->matrix[EXPERT_DOWN].type,
				       .gate_row_bytes = x->matrix[EXPERT_GATE].row_bytes,
				       .up_row_bytes = x->matrix[EXPERT_UP].row_bytes,
				       .down_row_bytes = x->matrix[EXPERT_DOWN].row_bytes,
				       .d = m->n_embd,
				       .f = m->n_ff_expert,
				       .glu = CUDA_GLU_SILU,
				       .entries = d->list,
				       .n_entries = (size_t)d->n_tokens * m->n_expert_used,
				       .count = d->list_n,
				       .k = m->n_expert_used,
				       .hidden = d->group_hidden,
				       .partial = d->partial };
	int rc;

	device_slot_layout(&m->layers[layer], &slot);
	r.gate_at = slot.at[EXPERT_GATE];
	r.up_at = slot.at[EXPERT_UP];
	r.down_at = slot.at[EXPERT_DOWN];
	rc = cuda_did(cuda_expert_resolve(d->stream, &r), "the slots", err);
	rc = rc ? rc : cuda_form(d, &d->in, g.gate_type, d->n_tokens, &g.x, err);
	rc = rc ? rc : cuda_did(cuda_expert_gate_up(d->stream, &g), "experts", err);
	return rc ? rc : cuda_did(cuda_expert_down(d->stream, &g), "experts", err);
}

static int experts(struct cuda_device *d, uint32_t layer, struct err *err)
{
	const struct cuda_weight *w = d->layers[layer].w;
	int rc = choose(d, layer, err);

	if (!rc && d->slot_table)
		rc = hits(d, layer, err);
	if (!rc && w[ROLE_SHARED_GATE].p)
		rc = cuda_triple(d, &w[ROLE_SHARED_GATE], &w[ROLE_SHARED_UP], &w[ROLE_SHARED_DOWN],
				 d->shared, err);
	d->routed = layer;
	d->has_experts = true;
	return rc;
}

/* The first matrix that a block multiplies with. */
static const struct cuda_weight *first_of(const struct cuda_layer *l, enum block_kind kind)
{
	return &l->w[kind == BLOCK_ATTENTION  ? ROLE_WQ
		     : kind == BLOCK_DELTANET ? ROLE_SSM_QKV
		     : kind == BLOCK_DENSE    ? ROLE_FFN_GATE
					      : ROLE_SHARED_GATE];
}

int cuda_launch(struct device *base, uint32_t layer, struct err *err)
{
	struct cuda_device *d = cuda_of(base);
	const struct layer *m = &d->base.c.model->layers[layer];
	const struct cuda_layer *l = &d->layers[layer];
	const struct cuda_weight *w = l->w;
	int rc;

	d->launched_ns = now_ns();
	d->has_experts = false;
	rc = join_experts(d, err);
	for (uint32_t k = 0; k < m->n_blocks && !rc; k++) {
		const enum block_kind kind = m->blocks[k].kind;

		rc = cuda_normed_input(d, &w[m->blocks[k].norm], first_of(l, kind), err);
		if (rc)
			return rc;
		d->waiting = kind != BLOCK_MOE;
		if (kind == BLOCK_ATTENTION)
			rc = cuda_attention(d, layer, err);
		else if (kind == BLOCK_DELTANET)
			rc = cuda_deltanet(d, layer, err);
		else if (kind == BLOCK_DENSE)
			rc = cuda_triple(d, &w[ROLE_FFN_GATE], &w[ROLE_FFN_UP], &w[ROLE_FFN_DOWN],
					 d->y, err);
		else
			rc = experts(d, layer, err);
	}
	return rc;
}

/* Until the layer's word is there; the runtime is asked now and then whether it can still come. */
static int wait_word(struct cuda_device *d, struct err *err)
{
	const _Atomic uint32_t *word = d->word.host;

	for (;;) {
		cudaError_t e;

		for (int i = 0; i < LOOKS; i++) {
			if (atomic_load_explicit(word, memory_order_acquire) == d->word_value)
				return 0;
			cpu_relax();
		}
		e = cudaStreamQuery(d->stream);
		if (e == cudaErrorNotReady)
			continue;
		if (e == cudaSuccess &&
		    atomic_load_explicit(word, memory_order_acquire) == d->word_value)
			return 0;
		return e ? cuda_said(e, "the router", err)
			 : err_set(err, -EIO, "the router: the layer ended without a word");
	}
}

int cuda_route(struct device *base, struct device_route *ret, struct err *err)
{
	struct cuda_device *d = cuda_of(base);
	int rc;

	*ret = (struct device_route){ 0 };
	if (!d->has_experts)
		return 0;
	rc = wait_word(d, err);
	if (rc)
		return rc;
	*ret = (struct device_route){ .ids = d->to_ids.host,
				      .weights = d->to_weights.host,
				      .ld = d->base.c.model->n_expert_used,
				      .x = d->to_x.host,
				      .partial = d->rows.host,
				      .ranks = d->base.c.model->n_expert_used };
	atomic_fetch_add_explicit(&d->layers_done, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&d->handoff_ns, now_ns() - d->launched_ns, memory_order_relaxed);
	return 0;
}

int cuda_step_end(struct device *base, const uint32_t *rows, uint32_t n, const float **ret_logits,
		  struct err *err)
{
	struct cuda_device *d = cuda_of(base);
	const size_t e = d->base.c.model->n_embd, vocab = d->base.c.model->n_vocab;
	int rc = 0;

	if (!d->normed && n)
		rc = join_experts(d, err);
	if (!rc && !d->normed && n)
		rc = cuda_normed_input(d, &d->w[ROLE_OUTPUT_NORM], &d->w[ROLE_OUTPUT_NORM], err);
	d->normed = true;
	cuda_fresh(&d->head, e);
	for (uint32_t i = 0; i < n && !rc; i++)
		rc = copy(d, d->head.f + i * e, d->in.f + rows[i] * e, e * sizeof(float),
			  cudaMemcpyDeviceToDevice, err);
	if (!rc && n)
		rc = cuda_one_product(d, &d->w[ROLE_OUTPUT], &d->head, n, d->d_logits, err);
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

void cuda_step_drop(struct device *base)
{
	cudaStreamSynchronize(cuda_of(base)->stream); /* what it says has been told */
}
