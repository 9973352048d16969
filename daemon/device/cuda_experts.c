/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda_experts.c: the experts of a layer on the device: the router, what the host is told of its
 * choice (handoff), those of the chosen that lie in slots, and the shared expert as the last rank of each
 * token. See cuda.h; called from cuda_step.c. Engine thread.
 *
 * Nothing is added up here: each (token, rank) gets a row, of the device's or of the host's, and the next norm
 * adds them in rank order. Few tokens take the kernels of the group, the shared expert among them; of more
 * tokens the host is told by copies, the shared expert is a product of matrices, and the chosen are up to the
 * host (cuda_prompt.c). By the law of kernels/quant.h the bits are the same.
 */
#include "device/cuda.h"

#include <errno.h>
#include <string.h>

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
				       .shared = cuda_shared(d, layer) != NULL,
				       .shared_gate = w[ROLE_SHARED_GATE_INP].p,
				       .ids = d->router_ids,
				       .weights = d->router_weights,
				       .logits = d->router_logits };

	return cuda_did(cuda_router(d->stream, &r), "the router", err);
}

static struct cuda_resolve resolve_of(const struct cuda_device *d, uint32_t layer)
{
	const struct model *m = d->base.c.model;
	struct cuda_resolve r = { .ids = d->router_ids,
				  .tokens = d->n_tokens,
				  .experts = m->n_expert,
				  .k = m->n_expert_used,
				  .ranks = cuda_ranks(d, layer),
				  .list = d->list,
				  .count = d->list_n,
				  .place = d->place };
	struct device_slot slot;

	if (!d->slot_table)
		return r;
	device_slot_layout(&m->layers[layer], &slot);
	r.slots = d->slot_table + (size_t)layer * m->n_expert;
	r.base = d->class_base[d->base.plan.class_of_layer[layer]];
	r.slot_bytes = d->base.plan.classes[d->base.plan.class_of_layer[layer]].slot_bytes;
	r.gate_at = slot.at[EXPERT_GATE];
	r.up_at = slot.at[EXPERT_UP];
	r.down_at = slot.at[EXPERT_DOWN];
	return r;
}

static int to_host(struct cuda_device *d, void *to, const void *from, size_t bytes, struct err *err)
{
	return cuda_said(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, d->stream),
			 "the router's choice", err);
}

/* The host is told what was chosen, and the list of hits is made. */
static int hand_off(struct cuda_device *d, uint32_t layer, struct err *err)
{
	const struct model *m = d->base.c.model;
	const struct cuda_resolve r = resolve_of(d, layer);
	struct cuda_publish p = { .ids = d->router_ids,
				  .weights = d->router_weights,
				  .x = d->in.f,
				  .tokens = d->n_tokens,
				  .d = m->n_embd,
				  .k = m->n_expert_used,
				  .ranks = r.ranks,
				  .to_ids = d->to_ids.device,
				  .to_weights = d->to_weights.device,
				  .to_x = d->to_x.device,
				  .word = d->word.device,
				  .value = layer + 1,
				  .tick = d->index + cuda_tick_at(d) };
	const size_t n = d->n_tokens;
	int rc;

	if (n <= CUDA_FEW)
		return cuda_did(cuda_handoff(d->stream, &p, &r), "the router's choice", err);
	/* one block of threads would take long for what an engine of copies carries beside it */
	rc = to_host(d, d->to_ids.host, d->router_ids, n * p.k * 4, err);
	rc = rc ? rc : to_host(d, d->to_weights.host, d->router_weights, n * p.ranks * 4, err);
	rc = rc ? rc : to_host(d, d->to_x.host, d->in.f, n * p.d * 4, err);
	p.tokens = 0; /* the word alone */
	rc = rc ? rc : cuda_did(cuda_publish(d->stream, &p), "the router's choice", err);
	if (rc || cuda_is_prompt(d)) /* the host says where rows are */
		return rc;
	return rc ? rc : cuda_did(cuda_expert_resolve(d->stream, &r), "the slots", err);
}

static struct cuda_expert_group group_of(const struct cuda_device *d, uint32_t layer)
{
	const struct model *m = d->base.c.model;
	const struct expert_layout *x = &m->layers[layer].experts;

	return (struct cuda_expert_group){
		.gate_type = x->matrix[EXPERT_GATE].type,
		.up_type = x->matrix[EXPERT_UP].type,
		.down_type = x->matrix[EXPERT_DOWN].type,
		.gate_row_bytes = x->matrix[EXPERT_GATE].row_bytes,
		.up_row_bytes = x->matrix[EXPERT_UP].row_bytes,
		.down_row_bytes = x->matrix[EXPERT_DOWN].row_bytes,
		.d = m->n_embd,
		.f = m->n_ff_expert,
		.glu = CUDA_GLU_SILU,
		.entries = d->list,
		.n_entries = d->slot_table ? (size_t)d->n_tokens * m->n_expert_used : 0,
		.count = d->list_n,
		.k = cuda_ranks(d, layer),
		.hidden = d->group_hidden,
		.partial = d->partial
	};
}

/* Whether the kernels of the group take the shared expert of few tokens: gate and up have one input form. */
static bool shared_joins(const struct cuda_device *d, const struct cuda_weight *w)
{
	return w && d->n_tokens <= CUDA_FEW && w[ROLE_SHARED_UP].rows <= 32768 &&
	       cuda_matvec_input(w[ROLE_SHARED_GATE].type) ==
		       cuda_matvec_input(w[ROLE_SHARED_UP].type);
}

static struct cuda_expert_shared shared_of(const struct cuda_device *d, const struct cuda_weight *w)
{
	const struct cuda_weight *gate = &w[ROLE_SHARED_GATE], *up = &w[ROLE_SHARED_UP],
				 *down = &w[ROLE_SHARED_DOWN];

	return (struct cuda_expert_shared){ .gate_type = gate->type,
					    .up_type = up->type,
					    .down_type = down->type,
					    .gate_row_bytes = gate->row_bytes,
					    .up_row_bytes = up->row_bytes,
					    .down_row_bytes = down->row_bytes,
					    .f = up->rows,
					    .gate = gate->p,
					    .up = up->p,
					    .down = down->p,
					    .tokens = d->n_tokens,
					    .hidden = d->hidden.f };
}

/* The hits, and of few tokens the shared expert. */
static int group(struct cuda_device *d, uint32_t layer, const struct cuda_weight *w,
		 struct err *err)
{
	struct cuda_expert_group g = group_of(d, layer);
	struct cuda_expert_shared s;
	int rc = 0;

	if (g.n_entries)
		rc = cuda_form(d, &d->in, g.gate_type, d->n_tokens, &g.x, err);
	if (w) {
		s = shared_of(d, w);
		g.shared = &s;
		rc = rc ? rc : cuda_form(d, &d->in, s.gate_type, d->n_tokens, &s.x, err);
	}
	rc = rc ? rc : cuda_did(cuda_expert_gate_up(d->stream, &g), "experts", err);
	return rc ? rc : cuda_did(cuda_expert_down(d->stream, &g), "experts", err);
}

int cuda_experts(struct cuda_device *d, uint32_t layer, struct err *err)
{
	const struct cuda_weight *w = cuda_shared(d, layer);
	const size_t n = d->base.c.model->n_embd, ranks = cuda_ranks(d, layer);
	const bool joins = shared_joins(d, w);
	int rc = choose(d, layer, err);

	rc = rc ? rc : hand_off(d, layer, err);
	if (!rc && (joins || (d->slot_table && !cuda_is_prompt(d))))
		rc = group(d, layer, joins ? w : NULL, err);
	if (!rc && w && !joins)
		rc = cuda_triple(d, &w[ROLE_SHARED_GATE], &w[ROLE_SHARED_UP], &w[ROLE_SHARED_DOWN],
				 cuda_is_prompt(d) ? d->partial : d->partial + (ranks - 1) * n,
				 cuda_is_prompt(d) ? n : ranks * n, err);
	d->between.routed = layer;
	d->between.has_experts = true;
	return rc;
}
