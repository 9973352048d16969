/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/plan.c: how the memory of a device is divided: buffers of a step, dense weights, blocks kept for
 * a sequence that begins, and slots for experts in what is left. Pure arithmetic on the model and the options;
 * cuda.c takes its memory by the same numbers. Any thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/size.h"
#include "device/device_private.h"
#include "kernels/cuda/ops.h"

#define SLOT_ALIGN  256
#define MARGIN_MOST (256ull << 20) /* left to others without a budget */
#define MARGIN_PART 16		   /* of small devices, one part in so many */
#define BLOCK_MOST  (256ull << 20)
#define BLOCK_LEAST 4096ull
#define BLOCK_PARTS 64	 /* memory that goes to and fro is at least so many blocks */
#define KEPT	    4096 /* positions of a sequence that begins, for which there is always memory */

static size_t floats(size_t n)
{
	return align_up(n * sizeof(float), SLOT_ALIGN);
}

size_t device_rows_bytes(size_t rows, size_t n)
{
	return floats(rows * n) +
	       DEVICE_FORMS * align_up(rows * cuda_act_bytes(align_up(n, 256)), SLOT_ALIGN);
}

size_t device_index_n(const struct device_config *c)
{
	return 3 * (size_t)c->max_tokens + 2 * (size_t)c->n_seq + 2;
}

size_t device_page_bytes(const struct device_config *c, uint32_t layer)
{
	const struct layer *l = &c->model->layers[layer];
	const size_t both = (l->attention.head_dim + (size_t)l->attention.value_dim) / 2;

	if (!layer_has(l, BLOCK_ATTENTION) && !layer_has(l, BLOCK_LATENT))
		return 0;
	return cuda_kv_page_bytes(c->kv_q8 ? CUDA_KV_Q8_0 : CUDA_KV_F16, l->attention.n_head_kv,
				  both);
}

static size_t delta_channels(const struct model *m)
{
	return (2 * (size_t)m->ssm_k_heads + m->ssm_v_heads) * m->ssm_head_dim;
}

size_t device_state_bytes(const struct device_config *c, uint32_t layer, size_t *ret_window)
{
	const struct model *m = c->model;

	*ret_window = 0;
	if (!layer_has(&m->layers[layer], BLOCK_DELTANET))
		return 0;
	*ret_window = align_up(3 * delta_channels(m) * sizeof(float), SLOT_ALIGN);
	return *ret_window +
	       (size_t)m->ssm_v_heads * m->ssm_head_dim * m->ssm_head_dim * sizeof(float);
}

/* Of decode all tokens over whole contexts; of prompts as many as keep a device busy. */
size_t device_attend_pairs(const struct device_config *c)
{
	const size_t parts = div_ceil(align_up(c->n_ctx, CUDA_KV_PAGE), DEVICE_PART);

	return u64_max(u64_min(DEVICE_FEW, c->max_tokens) * parts,
		       u64_min(c->max_tokens * parts, DEVICE_PAIRS));
}

/* The largest of each size that blocks work with. */
static void find_widths(const struct model *m, struct device_sizes *z)
{
	size_t kv = 0, q = 0, width = 0, ff = 0;

	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct layer *l = &m->layers[i];
		const struct weight *w = l->w;

		ff = u64_max(ff, u64_max(w[ROLE_FFN_UP].n_out, w[ROLE_SHARED_UP].n_out));
		z->heads = u64_max(z->heads, l->attention.n_head);
		if (layer_has(l, BLOCK_ATTENTION)) {
			q = u64_max(q, w[ROLE_WQ].n_out);
			kv = u64_max(kv, w[ROLE_WK].n_out);
			width = u64_max(width, (size_t)l->attention.n_head * l->attention.head_dim);
		}
		if (layer_has(l, BLOCK_DELTANET))
			z->values = (size_t)m->ssm_v_heads * m->ssm_head_dim;
	}
	z->hidden = ff;
	z->mid = u64_max(width, z->values);
	z->wide = u64_max(u64_max(q, delta_channels(m)), ff);
	z->second = u64_max(u64_max(2 * kv, delta_channels(m)), u64_max(ff, z->values));
}

uint32_t device_ranks(const struct model *m)
{
	for (uint32_t i = 0; i < m->n_layers; i++)
		if (m->layers[i].w[ROLE_SHARED_UP].n_runs)
			return m->n_expert_used + 1;
	return m->n_expert_used;
}

#define PROMPT_ROWS 512 /* pairs of a group of experts, or all tokens of a step with one expert */

/* Buffers of a group of a prompt's experts, and what is told of all groups of a layer. */
static void find_prompt(const struct model *m, struct device_sizes *z, size_t pairs)
{
	z->prompt_rows = u64_max(z->tokens, PROMPT_ROWS);
	z->prompt_floats = floats(z->prompt_rows * m->n_ff_expert);
	z->prompt_args =
		align_up(pairs * 4 + (size_t)m->n_expert * (DEVICE_GROUP_HEAD + 64), SLOT_ALIGN);
}

void device_sizes(const struct device_config *c, bool slots, struct device_sizes *ret)
{
	const struct model *m = c->model;
	const size_t t = c->max_tokens, used = t * m->n_expert_used, ranks = t * device_ranks(m);
	struct device_sizes z = { .tokens = t, .embd = m->n_embd };
	size_t few;

	find_widths(m, &z);
	z.stream = floats(t * z.embd);
	z.a = floats(t * z.wide);
	z.b = floats(t * z.second);
	z.q = floats(t * z.mid);
	z.router_logits = floats(t * (m->n_expert + 1));
	z.router_weights = floats(ranks);
	z.router_ids = floats(used);
	z.logits = floats((size_t)c->max_logits * m->n_vocab);
	z.index = floats(device_index_n(c));
	z.pages = floats(c->n_seq * div_ceil(c->n_ctx, CUDA_KV_PAGE));
	z.rope = floats(m->attention.rope.n_rot / 2 + 1);
	z.attend = align_up(device_attend_pairs(c) * z.heads * ((size_t)m->attention.head_dim + 4) *
				    sizeof(float),
			    SLOT_ALIGN);
	if (m->n_expert) {
		z.rows = z.partial = floats(ranks * z.embd);
		few = (t < DEVICE_FEW ? t : DEVICE_FEW) * m->n_expert_used;
		z.group_hidden = slots ? floats(few * m->n_ff_expert) : 0;
		z.list = align_up(few * sizeof(struct cuda_expert_entry), SLOT_ALIGN);
		z.place = floats(ranks);
		z.slot_table = slots ? floats((size_t)m->n_layers * m->n_expert) : 0;
	}
	if (slots && m->n_expert)
		find_prompt(m, &z, used);
	z.scratch = 2 * z.stream + device_rows_bytes(t, z.embd) + device_rows_bytes(t, z.mid) +
		    device_rows_bytes(t, z.hidden) + device_rows_bytes(c->max_logits, z.embd) +
		    z.a + z.b + z.q + 2 * floats(t * m->ssm_v_heads) + z.router_logits +
		    z.router_weights + z.router_ids + z.logits + z.index + z.pages + z.rope +
		    z.attend + 2 * z.prompt_floats + z.prompt_args +
		    device_rows_bytes(z.prompt_rows, m->n_ff_expert) + z.partial + z.group_hidden +
		    (z.list ? z.list + SLOT_ALIGN : 0) + z.place + z.slot_table;
	z.pinned = 2 * z.stream + z.router_weights + z.router_ids + z.index + z.logits + z.rows +
		   z.slot_table + (z.prompt_args ? z.prompt_args + z.place : 0);
	*ret = z;
}

/* What device_load() takes: all but the embedding's rows, unless the output matrix is the same. */
static uint64_t dense_bytes(const struct model *m)
{
	uint64_t sum = 0;

	for (int role = 0; role < ROLE_NR; role++) {
		const bool floats_ = role_info[role].kind == ROLE_FLOATS;
		const struct weight *w = &m->w[role];

		if (w->n_runs && role != ROLE_TOKEN_EMBD)
			sum += align_up(floats_ ? w->n_in * w->n_out * sizeof(float)
						: weight_bytes(w),
					SLOT_ALIGN);
		for (uint32_t i = 0; i < m->n_layers; i++) {
			w = &m->layers[i].w[role];
			if (w->n_runs)
				sum += align_up(floats_ ? w->n_in * w->n_out * sizeof(float)
							: weight_bytes(w),
						SLOT_ALIGN);
		}
	}
	return sum;
}

void device_slot_layout(const struct layer *l, struct device_slot *ret)
{
	const struct expert_layout *x = &l->experts;
	uint64_t at = 0;

	for (int k = 0; k < EXPERT_MATRIX_NR; k++) {
		ret->at[k] = at;
		at += align_up(x->matrix[k].n_out * x->matrix[k].row_bytes, SLOT_ALIGN);
	}
	ret->bytes = at;
}

/* Slots of one size each, in the order of layers. */
static int find_classes(const struct model *m, struct device_plan *p)
{
	p->classes = calloc((size_t)m->n_layers + 1, sizeof(*p->classes));
	p->class_of_layer = calloc((size_t)m->n_layers + 1, sizeof(*p->class_of_layer));
	if (!p->classes || !p->class_of_layer)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->n_layers; i++) {
		struct device_slot slot;
		uint32_t k = 0;

		p->class_of_layer[i] = UINT32_MAX;
		if (!m->layers[i].experts.n_parts)
			continue;
		device_slot_layout(&m->layers[i], &slot);
		while (k < p->n_classes && p->classes[k].slot_bytes != slot.bytes)
			k++;
		if (k == p->n_classes)
			p->classes[p->n_classes++].slot_bytes = slot.bytes;
		p->classes[k].experts += m->n_expert;
		p->class_of_layer[i] = k;
	}
	return 0;
}

/* @of_one: of a sequence with the whole context. */
static int refuse(const struct device_plan *p, uint64_t room, uint64_t fixed, uint64_t of_one,
		  struct err *err)
{
	char a[32], b[32], c[32], d[32], e[32];

	return err_set(err, -ENOSPC,
		       "the device's %s do not hold the model's %s: %s of dense weights, %s of KV "
		       "cache and state of a sequence, %s of buffers: lower --ctx, --parallel or "
		       "--batch",
		       size_format(a, sizeof(a), room), size_format(b, sizeof(b), fixed + of_one),
		       size_format(c, sizeof(c), p->dense_bytes), size_format(d, sizeof(d), of_one),
		       size_format(e, sizeof(e), fixed - p->dense_bytes));
}

/* What sequences remember: pages and states of all layers side by side. */
static void find_items(const struct device_config *c, struct device_plan *p)
{
	for (uint32_t i = 0; i < c->model->n_layers; i++) {
		size_t window;

		p->one_state += device_state_bytes(c, i, &window);
		p->page_bytes += device_page_bytes(c, i);
	}
	p->n_pages = (uint32_t)div_ceil(c->n_ctx, CUDA_KV_PAGE);
}

int device_blocks_init(const struct device_config *c, const struct device_plan *p,
		       const struct blocks_ops *ops, void *ctx, struct blocks *ret)
{
	const uint32_t n = DEVICE_REGION_SLOTS + p->n_classes;
	struct blocks_region *r = calloc(n, sizeof(*r));
	int rc = -ENOMEM;

	if ((uint64_t)p->n_pages * c->n_seq > DEVICE_MOST_PAGES)
		rc = -EOVERFLOW;
	else if (r) {
		r[DEVICE_REGION_PAGES].item_bytes = p->page_bytes;
		r[DEVICE_REGION_PAGES].items = p->n_pages * c->n_seq;
		r[DEVICE_REGION_STATES].item_bytes = p->one_state;
		r[DEVICE_REGION_STATES].items = c->n_seq;
		for (uint32_t k = 0; k < p->n_classes; k++) {
			r[DEVICE_REGION_SLOTS + k].item_bytes = p->classes[k].slot_bytes;
			r[DEVICE_REGION_SLOTS + k].items = (uint32_t)p->classes[k].experts;
			r[DEVICE_REGION_SLOTS + k].slots = true;
		}
		rc = blocks_init(ret, p->block_bytes, r, n, p->kept_blocks, ops, ctx);
	}
	free(r);
	return rc;
}

/* Memory that is only counted. */
static int count_take(void *ctx, struct err *err)
{
	return 0;
}

static int count_map(void *ctx, uint32_t at, struct err *err)
{
	return 0;
}

/* Slots as there are at start: what blocks.c gives them of the blocks that there are. */
static int count_slots(const struct device_config *c, struct device_plan *p)
{
	static const struct blocks_ops ops = { .take = count_take, .map = count_map };
	struct blocks b;
	int rc = device_blocks_init(c, p, &ops, NULL, &b);

	if (rc)
		return rc;
	blocks_limit(&b, p->n_blocks);
	while (blocks_grow(&b, 0) != BLOCKS_NONE)
		;
	for (uint32_t k = 0; k < p->n_classes; k++)
		p->classes[k].slots = blocks_slots(&b, DEVICE_REGION_SLOTS + k);
	p->slots_bytes = blocks_of_slots(&b) * p->block_bytes;
	blocks_fini(&b);
	return 0;
}

/* A size of blocks by which what can be used of @left bytes is many of them. */
static uint64_t choose_block(const struct device_config *c, const struct device_plan *p,
			     uint64_t left)
{
	const uint64_t of_sequences = c->n_seq * (p->n_pages * p->page_bytes + p->one_state);
	const uint64_t use = of_sequences + divide_all_bytes(p->classes, p->n_classes);
	uint64_t block = BLOCK_MOST;

	while (block > BLOCK_LEAST && block > u64_min(left, use) / BLOCK_PARTS)
		block /= 2;
	return u64_max(block, c->block_least);
}

/* Blocks that the state of one of the places takes, where the most: only the first begins with a block. */
static uint64_t state_blocks(const struct device_config *c, const struct device_plan *p)
{
	uint64_t most = 0;

	for (uint64_t i = 0; i < c->n_seq; i++)
		most = u64_max(most, div_ceil((i + 1) * p->one_state, p->block_bytes) -
					     i * p->one_state / p->block_bytes);
	return most;
}

/* Sequences and slots in blocks: @left bytes of them. @fixed: what the others take, for the sentence. */
static int plan_blocks(const struct device_config *c, struct device_plan *p, uint64_t left,
		       uint64_t fixed, struct err *err)
{
	const uint64_t block = p->block_bytes = choose_block(c, p, left);
	const uint32_t first = (uint32_t)div_ceil(u64_min(c->n_ctx, KEPT), CUDA_KV_PAGE);
	const uint64_t pages = blocks_for(block, p->page_bytes, first);
	const uint64_t states = state_blocks(c, p);
	/* items of one among several may lie across blocks */
	const uint64_t one = blocks_for(block, p->page_bytes, p->n_pages) +
			     blocks_for(block, p->one_state, 1) + (c->n_seq > 1 ? 2 : 0);
	int rc;

	if (left / block < one)
		return refuse(p, fixed + left, fixed, one * block, err);
	p->n_blocks = (uint32_t)u64_min(left / block, UINT32_MAX / 2);
	p->kept_blocks = (uint32_t)(pages + states);
	p->kv_bytes = pages * block;
	p->state_bytes = states * block;
	rc = count_slots(c, p);
	return rc == -EOVERFLOW
		       ? err_set(err, -ENOTSUP,
				 "--ctx and --parallel are more than a device has numbers for")
		       : rc;
}

uint32_t device_most_tokens(const struct model *m)
{
	return DEVICE_MOST_PAIRS / (uint32_t)u64_max(1, device_ranks(m));
}

int device_plan_make(const struct device_config *config, uint64_t room, struct device_plan *ret,
		     struct err *err)
{
	const struct model *m = config->model;
	struct device_plan p = { 0 };
	struct device_sizes z;
	uint64_t fixed;
	int rc = 0;

	if (config->max_tokens > device_most_tokens(m))
		return err_set(err, -ENOTSUP,
			       "steps of %u tokens with %u experts each are more than the device "
			       "takes: --batch %u at the most",
			       config->max_tokens, device_ranks(m), device_most_tokens(m));
	device_sizes(config, !config->no_slots && m->n_expert, &z);
	p.dense_bytes = dense_bytes(m);
	p.scratch_bytes = z.scratch;
	p.pinned_bytes = z.pinned;
	find_items(config, &p);
	if (!config->no_slots)
		rc = find_classes(m, &p);
	for (uint32_t k = 0; k < p.n_classes; k++)
		p.ring_slot = u64_max(p.ring_slot, p.classes[k].slot_bytes);
	p.scratch_bytes += DEVICE_RING * p.ring_slot;
	fixed = p.dense_bytes + p.scratch_bytes;
	if (!rc && room < fixed)
		rc = refuse(&p, room, fixed, p.n_pages * p.page_bytes + p.one_state, err);
	rc = rc ? rc : plan_blocks(config, &p, room - fixed, fixed, err);
	if (rc) {
		device_plan_fini(&p);
		return rc == -ENOMEM ? err_set(err, rc, "no memory for the plan of the device")
				     : rc;
	}
	*ret = p;
	return 0;
}

uint64_t device_default_room(uint64_t free_bytes)
{
	return free_bytes - u64_min(free_bytes / MARGIN_PART, MARGIN_MOST);
}

void device_plan_fini(struct device_plan *p)
{
	free(p->classes);
	free(p->class_of_layer);
	p->classes = NULL;
	p->class_of_layer = NULL;
	p->n_classes = 0;
}

uint32_t *device_new_table(const struct model *m)
{
	const size_t n = (size_t)m->n_layers * m->n_expert + 1;
	uint32_t *table = calloc(n, sizeof(*table));

	for (size_t i = 0; table && i < n; i++)
		table[i] = DEVICE_NO_SLOT;
	return table;
}
