/* SPDX-License-Identifier: MIT */
/* daemon/engine/block/moe_buffers.c: the memory of struct moe (see moe.h). */
#include <string.h>

#include "engine/block/moe.h"
#include "base/num.h"
#include "policy/predict.h"

/* Is run @i of the split to be worked on by @tid before all others? */
static bool is_own(const struct moe *f, uint32_t i, unsigned tid)
{
	if (f->c.split.node[i] < 0) /* a split of rows without nodes: deal them like cards */
		return tid % f->c.split.n == i;
	return f->c.split.node[i] == team_node(f->c.team, tid);
}

static bool is_nobodys(const struct moe *f, uint32_t i)
{
	for (unsigned tid = 0; tid < team_size(f->c.team); tid++)
		if (is_own(f, i, tid))
			return false;
	return true;
}

static void deal_runs(struct moe *f, unsigned tid)
{
	struct own *own = &f->own[tid];

	for (uint32_t i = 0; i < f->c.split.n; i++)
		if (is_own(f, i, tid))
			own->runs[own->n_runs++] = i;
	for (uint32_t i = 0; i < f->c.split.n; i++)
		if (is_nobodys(f, i))
			own->runs[own->n_runs++] = i;
	/* who is not waited for leaves its rows to all */
	for (uint32_t i = 0; i < f->c.split.n && !team_has_nodes(f->c.team); i++)
		if (!is_own(f, i, tid) && !is_nobodys(f, i))
			own->runs[own->n_runs++] = i;
}

static void carve_forms(struct act_forms *a, struct carver *c, const struct cpu_ops *ops, size_t n,
			size_t cols)
{
	for (int kind = ACT_F32; kind < ACT_NR; kind++)
		actbuf_carve(&a->form[kind], c, ops, n, cols);
}

/* Each thread's own; what counts bytes is kept, as are the runs. */
static void carve_own(struct moe *f, struct carver *kept, struct carver *shared)
{
	const struct block_config *c = &f->c;

	f->own = carve(kept, c->n_threads, sizeof(*f->own));
	for (unsigned i = 0; i < c->n_threads; i++) {
		struct own own = { 0 };

		own.gate = carve_floats(shared, c->max_tokens * f->max_ff);
		own.up = carve_floats(shared, c->max_tokens * f->max_ff);
		actbuf_carve(&own.act, shared, c->ops, f->max_ff, c->max_tokens);
		if (!kept->base)
			continue;
		f->own[i].gate = own.gate;
		f->own[i].up = own.up;
		f->own[i].act = own.act;
		deal_runs(f, i);
	}
}

static void carve_plan(struct moe *f, struct carver *kept, struct carver *c)
{
	size_t tokens = f->c.max_tokens, used = f->n_used;

	f->router_logits = carve_floats(c, tokens * f->n_expert);
	f->ids = carve(c, tokens * used, sizeof(*f->ids));
	f->weights = carve_floats(c, tokens * f->n_ranks);
	f->entries = carve(c, tokens * used, sizeof(*f->entries));
	f->work = carve(c, f->n_expert, sizeof(*f->work));
	f->list = carve(c, f->n_expert, sizeof(*f->list));
	f->list_counts = carve(c, f->n_expert, sizeof(*f->list_counts));
	f->place = carve(c, f->n_expert, sizeof(*f->place));
	f->drafted = carve(c, tokens, sizeof(*f->drafted));
	f->only_drafts = carve(c, f->n_expert, sizeof(*f->only_drafts));
	f->handed = carve(c, f->n_expert, sizeof(*f->handed));
	for (unsigned i = 0; i < ARRAY_LEN(f->rounds); i++) {
		f->rounds[i].ready = carve(c, f->n_expert, sizeof(*f->rounds[i].ready));
		f->rounds[i].slot = carve(c, f->n_expert, sizeof(*f->rounds[i].slot));
		f->rounds[i].up_done = carve(kept, f->n_expert, sizeof(*f->rounds[i].up_done));
	}
	f->failed = carve(c, f->n_expert, sizeof(*f->failed));
}

static void carve_ahead(struct moe *f, struct carver *c)
{
	size_t tokens = u64_min(f->c.max_tokens, PREDICT_TOKENS);

	f->ahead_tokens = (uint32_t)tokens;
	f->ahead_in = carve_floats(c, tokens * f->n_embd);
	actbuf_carve(&f->ahead_act, c, f->c.ops, f->n_embd, tokens);
	f->ahead_logits = carve_floats(c, tokens * f->n_expert);
	f->ahead_weights = carve_floats(c, f->n_expert);
	f->ahead_ids =
		carve(c, tokens * predict_ranks_of(f->n_used, f->n_expert), sizeof(*f->ahead_ids));
}

static bool has_role(const struct model *m, enum role role)
{
	for (uint32_t i = 0; i < m->n_layers; i++)
		if (m->layers[i].w[role].n_runs)
			return true;
	return false;
}

void moe_lay_out(const struct block_config *c, void *buffers, struct carver *kept,
		 struct carver *shared)
{
	const struct model *m = c->model;
	struct moe *f = buffers;
	size_t tokens = c->max_tokens;

	memset(f, 0, sizeof(*f));
	f->c = *c;
	f->n_used = m->n_expert_used;
	f->n_expert = m->n_expert;
	f->n_ranks = m->n_expert_used + (m->n_ff_shared > 0);
	f->n_embd = m->n_embd;
	f->max_ff = m->n_ff_expert;
	f->max_hidden = (uint32_t)u64_max(SMALL_ENTRIES, tokens);
	carve_own(f, kept, shared);
	f->joined = carve(kept, m->n_layers, sizeof(*f->joined));
	carve_plan(f, kept, shared);
	if (has_role(m, ROLE_ROUTER_SCALE)) { /* made while the block before may still work */
		f->router_in = carve_floats(kept, tokens * f->n_embd);
		actbuf_carve(&f->router_act, kept, c->ops, f->n_embd, tokens);
	}
	carve_ahead(f, shared);
	f->partial = carve_floats(shared, tokens * f->n_ranks * f->n_embd);
	f->hidden_gate = carve_floats(shared, f->max_hidden * f->max_ff);
	f->hidden_up = carve_floats(shared, f->max_hidden * f->max_ff);
	carve_forms(&f->hidden, shared, c->ops, f->max_ff, f->max_hidden);
	if (m->n_ff_shared)
		triple_carve(&f->shared, kept, shared, c, m->n_ff_shared);
}

void moe_get_locality(const struct moe *f, uint64_t *ret_local, uint64_t *ret_remote)
{
	*ret_local = *ret_remote = 0;
	for (unsigned i = 0; i < f->c.n_threads; i++) {
		*ret_local += atomic_load_explicit(&f->own[i].local_bytes, memory_order_relaxed);
		*ret_remote += atomic_load_explicit(&f->own[i].remote_bytes, memory_order_relaxed);
	}
}
