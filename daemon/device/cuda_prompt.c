/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda_prompt.c: the experts of a prompt on the device: the host says which of them it computes
 * for which tokens (device_multiply), experts that lie in slots and others that pass through a ring of slots
 * and are multiplied in groups as they land. See device.h; the threads of a step, one at a time.
 *
 * A ring slot is overwritten when the group that read it is done (an event that the stream of fills waits
 * for), a group is multiplied when its last expert has landed (an event that the stream of steps waits for):
 * the host waits for neither. Rows of results lie one after the other in the order in which pairs came; where
 * each (token, rank) has its row the host writes down, and the device is told at the end of the layer. What
 * the host writes for the device in one layer was read when the word of the next one comes.
 *
 * Below how many tokens an expert is better left to the CPU is found out: when the host comes to wait for what
 * was sent and all of it has arrived, more is sent; when it has to wait, less. No bit depends on it.
 */
#include "device/cuda.h"

#include <errno.h>
#include <string.h>

#include "base/num.h"

#define RING	    DEVICE_RING
#define FIRST_LEAST 32	 /* tokens, before anything was measured */
#define LEAST_MOST  4096 /* above that nothing is sent */

static size_t group_f(const struct cuda_device *d)
{
	return d->base.c.model->n_ff_expert;
}

int cuda_take_prompt(struct cuda_device *d, const struct device_sizes *z, struct err *err)
{
	struct cuda_prompt *p = &d->prompt;
	int rc = cuda_take(d, &p->gate, z->prompt_floats, "prompts", err);

	rc = rc ? rc : cuda_take(d, &p->up, z->prompt_floats, "prompts", err);
	rc = rc ? rc : cuda_take_rows(d, &p->hidden, z->prompt_rows, group_f(d), err);
	rc = rc ? rc : cuda_take(d, &p->args, z->prompt_args, "prompts", err);
	rc = rc ? rc
		: cuda_take(d, &p->ring, RING * d->base.plan.ring_slot, "a ring of slots", err);
	rc = rc ? rc : cuda_pin(&p->host_args, z->prompt_args, err);
	rc = rc ? rc : cuda_pin(&p->host_place, z->place, err);
	for (int i = 0; i < RING && !rc; i++)
		rc = cuda_said(cudaEventCreateWithFlags(&p->freed[i], cudaEventDisableTiming),
			       "an event", err);
	rc = rc ? rc
		: cuda_said(cudaEventCreateWithFlags(&p->landed, cudaEventDisableTiming),
			    "an event", err);
	p->most = z->prompt_rows;
	p->least = d->base.c.send_from ? d->base.c.send_from : FIRST_LEAST;
	return rc;
}

void cuda_free_prompt(struct cuda_device *d)
{
	struct cuda_prompt *p = &d->prompt;

	for (int i = 0; i < RING; i++)
		if (p->freed[i])
			cudaEventDestroy(p->freed[i]);
	if (p->landed)
		cudaEventDestroy(p->landed);
	cudaFreeHost(p->host_args);
	cudaFreeHost(p->host_place);
}

/* After the layer's word: what the host writes from here on nobody reads any more for the layer before. */
void cuda_prompt_begin(struct cuda_device *d)
{
	struct cuda_prompt *p = &d->prompt;
	const uint32_t used = d->base.c.model->n_expert_used, ranks = cuda_ranks(d, d->launched);

	for (uint32_t t = 0; t < d->n_tokens; t++) {
		for (uint32_t r = 0; r < used; r++)
			p->host_place[t * ranks + r] = CUDA_MAPPED + t * ranks + r;
		if (ranks > used) /* the shared expert's rows come first */
			p->host_place[t * ranks + used] = t;
	}
	p->n_rows = ranks > used ? d->n_tokens : 0;
	p->args_at = 0;
	p->n_experts = p->n_entries = p->n_sent_group = 0;
	p->open = true;
}

/* The group's three products; gate and up take one form (device_slots_fit). */
static int group_products(struct cuda_device *d, const struct cuda_group_args *at, struct err *err)
{
	struct cuda_prompt *p = &d->prompt;
	const struct expert_layout *x = &d->base.c.model->layers[d->launched].experts;
	const size_t f = group_f(d), n = d->base.c.model->n_embd;
	float *to[] = { [EXPERT_GATE] = p->gate,
			[EXPERT_UP] = p->up,
			[EXPERT_DOWN] = d->partial + p->n_rows * n };
	int rc = 0;

	for (int k = 0; k < EXPERT_MATRIX_NR && !rc; k++) {
		struct cuda_grouped g = { .type = x->matrix[k].type,
					  .w = at->w[k],
					  .row_bytes = x->matrix[k].row_bytes,
					  .n = x->matrix[k].n_in,
					  .rows = x->matrix[k].n_out,
					  .experts = p->n_experts,
					  .offsets = at->offsets,
					  .entries = p->n_entries,
					  .y = to[k],
					  .ldy = x->matrix[k].n_out };

		if (k == EXPERT_DOWN) {
			cuda_fresh(&p->hidden, f);
			rc = cuda_did(cuda_glu_mul(d->stream, CUDA_GLU_SILU, p->gate, p->up, f, f,
						   p->n_entries, p->hidden.f, cuda_no_act),
				      "an activation", err);
			rc = rc ? rc : cuda_form(d, &p->hidden, g.type, p->n_entries, &g.x, err);
		} else {
			g.gather = at->gather;
			rc = cuda_form(d, &d->in, g.type, d->n_tokens, &g.x, err);
		}
		rc = rc ? rc : cuda_did(cuda_gemm_grouped(d->stream, &g), "experts", err);
	}
	return rc;
}

/* What the products read beside weights: pointers, offsets, tokens; the latter are in place already. */
static struct cuda_group_args put_args(struct cuda_device *d)
{
	struct cuda_prompt *p = &d->prompt;
	uint8_t *host = p->host_args + p->args_at, *device = p->args + p->args_at;
	struct cuda_group_args at;

	for (int k = 0; k < EXPERT_MATRIX_NR; k++) {
		memcpy(host + k * sizeof(p->w[k]), p->w[k], sizeof(p->w[k]));
		at.w[k] = (const void *const *)(device + k * sizeof(p->w[k]));
	}
	memcpy(host + sizeof(p->w), p->offsets, sizeof(p->offsets));
	at.offsets = (const uint32_t *)(device + sizeof(p->w));
	at.gather = (const uint32_t *)(device + CUDA_PROMPT_HEAD);
	return at;
}

/* Multiplies what was collected. */
static int flush(struct cuda_device *d, struct err *err)
{
	struct cuda_prompt *p = &d->prompt;
	const size_t bytes = CUDA_PROMPT_HEAD + p->n_entries * sizeof(uint32_t);
	struct cuda_group_args at;
	int rc;

	if (!p->n_experts)
		return 0;
	p->offsets[p->n_experts] = p->n_entries;
	at = put_args(d);
	rc = cuda_said(cudaMemcpyAsync(p->args + p->args_at, p->host_args + p->args_at, bytes,
				       cudaMemcpyHostToDevice, d->stream),
		       "a group of experts", err);
	if (!rc && p->n_sent_group)
		rc = cuda_said(cudaStreamWaitEvent(d->stream, p->landed, 0), "a group of experts",
			       err);
	rc = rc ? rc : group_products(d, &at, err);
	for (uint32_t i = 0; i < p->n_sent_group && !rc; i++)
		rc = cuda_said(cudaEventRecord(p->freed[(p->n_sent - 1 - i) % RING], d->stream),
			       "a group of experts", err);
	p->n_rows += p->n_entries;
	p->args_at += align_up(bytes, 64);
	p->n_experts = p->n_entries = p->n_sent_group = 0;
	return rc;
}

/* To the next slot of the ring, behind the group that read what lies there. */
static int send(struct cuda_device *d, const struct device_fill *from, const uint8_t **ret,
		struct err *err)
{
	struct cuda_prompt *p = &d->prompt;
	const uint32_t at = p->n_sent % RING;
	uint8_t *to = p->ring + at * d->base.plan.ring_slot;
	int rc = 0;

	if (p->n_sent >= RING)
		rc = cuda_said(cudaStreamWaitEvent(d->fill_stream, p->freed[at], 0), "the ring",
			       err);
	for (uint32_t i = 0; i < from->n && !rc; i++)
		rc = cuda_send(d, to + from->piece[i].at, from->piece[i].from, from->piece[i].bytes,
			       err);
	rc = rc ? rc : cuda_said(cudaEventRecord(p->landed, d->fill_stream), "the ring", err);
	p->n_sent += rc == 0;
	p->n_sent_group += rc == 0;
	*ret = to;
	return rc;
}

/* The runtime keeps a current device for each thread; these two calls are any thread's. */
static int use_device(const struct cuda_device *d, struct err *err)
{
	static _Thread_local int current = -1;
	int rc = 0;

	if (current != d->number)
		rc = cuda_said(cudaSetDevice(d->number), "the GPU", err);
	if (!rc)
		current = d->number;
	return rc;
}

int cuda_multiply(struct device *base, const struct device_fill *from,
		  const struct device_pair *pairs, uint32_t n, struct err *err)
{
	struct cuda_device *d = cuda_of(base);
	struct cuda_prompt *p = &d->prompt;
	const uint32_t cls = base->plan.class_of_layer[from->layer];
	const uint32_t ranks = cuda_ranks(d, from->layer);
	const uint8_t *w =
		from->slot == DEVICE_NO_SLOT
			? NULL
			: d->class_base[cls] + from->slot * base->plan.classes[cls].slot_bytes;
	struct device_slot slot;
	uint32_t *gather;
	int rc = use_device(d, err);

	if (!rc && (p->n_experts == CUDA_GROUP || p->n_entries + n > p->most))
		rc = flush(d, err);
	if (!rc && !w)
		rc = send(d, from, &w, err);
	if (rc)
		return rc;
	device_slot_layout(&base->c.model->layers[from->layer], &slot);
	for (int k = 0; k < EXPERT_MATRIX_NR; k++)
		p->w[k][p->n_experts] = w + slot.at[k];
	p->offsets[p->n_experts++] = p->n_entries;
	gather = (uint32_t *)(p->host_args + p->args_at + CUDA_PROMPT_HEAD);
	for (uint32_t i = 0; i < n; i++) {
		gather[p->n_entries] = pairs[i].token;
		p->host_place[pairs[i].token * ranks + pairs[i].rank] = p->n_rows + p->n_entries++;
	}
	return 0;
}

/* The layer's last group, and where each row is: before what adds them up. */
int cuda_prompt_end(struct cuda_device *d, struct err *err)
{
	struct cuda_prompt *p = &d->prompt;
	int rc;

	if (!p->open)
		return 0;
	p->open = false;
	rc = flush(d, err);
	return rc ? rc
		  : cuda_said(cudaMemcpyAsync(d->place, p->host_place,
					      (size_t)d->n_tokens * cuda_ranks(d, d->launched) * 4,
					      cudaMemcpyHostToDevice, d->stream),
			      "places of rows", err);
}

/* @waited: the link was busy when the host had nothing more to do. */
static void learn(struct cuda_device *d, bool waited)
{
	struct cuda_prompt *p = &d->prompt;

	if (d->base.c.send_from)
		return;
	p->least = waited ? (uint32_t)u64_min(p->least + p->least / 4 + 1, LEAST_MOST)
			  : p->least - p->least / 8;
	p->least = p->least ? p->least : 1;
}

int cuda_sent(struct device *base, struct err *err)
{
	struct cuda_device *d = cuda_of(base);
	struct cuda_prompt *p = &d->prompt;
	bool waited = false;
	int rc;

	if (p->n_awaited == p->n_sent)
		return 0;
	rc = use_device(d, err);
	rc = rc ? rc : cuda_wait_event(d, p->landed, &waited, err);
	p->n_awaited = p->n_sent;
	if (!rc)
		learn(d, waited);
	return rc;
}
