/* SPDX-License-Identifier: MIT */
/* daemon/engine/ffn_create.c: the memory of struct ffn (see ffn.h), all of it taken at start. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "engine/ffn_private.h"

/* The widest of the dense triples (dense FFN, shared expert). */
static size_t dense_width(const struct model *m)
{
	return u64_max(m->n_ff, m->n_ff_shared);
}

static void *take(size_t count, size_t size)
{
	return aligned_alloc(64, align_up(count * size + 1, 64));
}

static int forms_init(struct act_forms *a, const struct cpu_ops *ops, size_t n, size_t cols)
{
	int rc = 0;

	for (int kind = ACT_F32; kind < ACT_NR && !rc; kind++)
		rc = actbuf_init(&a->form[kind], ops, n, cols);
	return rc;
}

static void forms_fini(struct act_forms *a)
{
	for (int kind = ACT_F32; kind < ACT_NR; kind++)
		actbuf_fini(&a->form[kind]);
}

/* Is run @i of the split to be worked on by @tid before all others? */
static bool is_own(const struct ffn *f, uint32_t i, unsigned tid)
{
	if (f->c.split.node[i] < 0) /* a split of rows without nodes: deal them like cards */
		return tid % f->c.split.n == i;
	return f->c.split.node[i] == team_node(f->c.team, tid);
}

static bool is_nobodys(const struct ffn *f, uint32_t i)
{
	for (unsigned tid = 0; tid < team_size(f->c.team); tid++)
		if (is_own(f, i, tid))
			return false;
	return true;
}

static void deal_runs(struct ffn *f, unsigned tid)
{
	struct own *own = &f->own[tid];

	for (uint32_t i = 0; i < f->c.split.n; i++)
		if (is_own(f, i, tid))
			own->runs[own->n_runs++] = i;
	for (uint32_t i = 0; i < f->c.split.n; i++)
		if (is_nobodys(f, i))
			own->runs[own->n_runs++] = i;
}

static int take_mixture(struct ffn *f)
{
	size_t tokens = f->c.max_tokens, ranks = f->n_ranks, used = f->n_used;
	bool ok;

	f->max_hidden = (uint32_t)u64_max(SMALL_ENTRIES, tokens);
	f->router_logits = take(tokens * f->n_expert, sizeof(float));
	f->ids = take(tokens * used, sizeof(uint32_t));
	f->weights = take(tokens * ranks, sizeof(float));
	f->entries = take(tokens * used, sizeof(struct entry));
	f->work = take(f->n_expert, sizeof(struct expert_work));
	f->list = take(f->n_expert, sizeof(uint32_t));
	f->list_counts = take(f->n_expert, sizeof(uint32_t));
	f->place = take(f->n_expert, sizeof(uint32_t));
	f->handed = take(f->n_expert, sizeof(uint32_t));
	f->slot = take(f->n_expert, sizeof(uint32_t));
	f->failed = take(f->n_expert, sizeof(int));
	f->hidden_gate = take(f->max_hidden * f->max_ff, sizeof(float));
	f->hidden_up = take(f->max_hidden * f->max_ff, sizeof(float));
	f->own = calloc(team_size(f->c.team), sizeof(*f->own));
	ok = f->router_logits && f->ids && f->weights && f->entries && f->work && f->list &&
	     f->list_counts && f->place && f->handed && f->slot && f->failed && f->hidden_gate &&
	     f->hidden_up && f->own;
	if (!ok || forms_init(&f->hidden, f->c.ops, f->max_ff, f->max_hidden))
		return -ENOMEM;
	for (unsigned i = 0; i < team_size(f->c.team); i++) {
		struct own *own = &f->own[i];

		deal_runs(f, i);
		own->gate = take(tokens * f->max_ff, sizeof(float));
		own->up = take(tokens * f->max_ff, sizeof(float));
		if (!own->gate || !own->up || actbuf_init(&own->act, f->c.ops, f->max_ff, tokens))
			return -ENOMEM;
	}
	return 0;
}

int ffn_create(const struct ffn_config *config, struct ffn **ret)
{
	const struct model *m = config->model;
	struct ffn *f = aligned_alloc(64, align_up(sizeof(*f), 64));
	size_t tokens = config->max_tokens, width = dense_width(m);

	if (!f)
		return -ENOMEM;
	memset(f, 0, sizeof(*f));
	f->c = *config;
	if (!f->c.split.n)
		f->c.split = node_split_one();
	f->n_used = m->n_expert_used;
	f->n_expert = m->n_expert;
	f->n_ranks = m->n_expert_used + (m->n_ff_shared > 0 || !m->n_expert);
	f->n_embd = m->n_embd;
	f->max_ff = m->n_ff_expert;
	f->partial = take(tokens * f->n_ranks * f->n_embd, sizeof(float));
	if (!f->partial || forms_init(&f->in, f->c.ops, f->n_embd, tokens))
		goto out_fail;
	if (width) {
		f->dense_gate = take(tokens * width, sizeof(float));
		f->dense_up = take(tokens * width, sizeof(float));
		if (!f->dense_gate || !f->dense_up ||
		    actbuf_init(&f->dense_act, f->c.ops, width, tokens))
			goto out_fail;
	}
	if (m->n_expert && take_mixture(f))
		goto out_fail;
	*ret = f;
	return 0;
out_fail:
	ffn_destroy(f);
	return -ENOMEM;
}

void ffn_get_locality(const struct ffn *f, uint64_t *ret_local, uint64_t *ret_remote)
{
	*ret_local = *ret_remote = 0;
	for (unsigned i = 0; f->own && i < team_size(f->c.team); i++) {
		*ret_local += atomic_load_explicit(&f->own[i].local_bytes, memory_order_relaxed);
		*ret_remote += atomic_load_explicit(&f->own[i].remote_bytes, memory_order_relaxed);
	}
}

void ffn_destroy(struct ffn *f)
{
	if (!f)
		return;
	for (unsigned i = 0; f->own && i < team_size(f->c.team); i++) {
		free(f->own[i].gate);
		free(f->own[i].up);
		actbuf_fini(&f->own[i].act);
	}
	free(f->own);
	forms_fini(&f->in);
	forms_fini(&f->hidden);
	actbuf_fini(&f->dense_act);
	free(f->dense_gate);
	free(f->dense_up);
	free(f->hidden_gate);
	free(f->hidden_up);
	free(f->partial);
	free(f->router_logits);
	free(f->ids);
	free(f->weights);
	free(f->entries);
	free(f->work);
	free(f->list);
	free(f->list_counts);
	free(f->place);
	free(f->handed);
	free(f->slot);
	free(f->failed);
	free(f);
}
