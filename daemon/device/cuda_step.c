/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda_step.c: a step on the device. See device.h; blocks are in cuda_blocks.c. Engine thread.
 *
 * A launch of a layer (one graph where the step is of decode, cuda_graph.c) is: the sum of the experts of the
 * layer before with norm, mixer, norm, router, then what the host needs (ids, weights and the experts' input
 * into mapped memory, and last a word) and, beside it, which of the chosen experts have slots; these and the
 * shared expert (cuda_experts.c). The host looks at the word, computes the others meanwhile and writes their
 * rows into mapped memory; the launch of the next layer reads them: the order of the stream is the way back,
 * and nothing on the device waits for the host. The word of a layer says that the sum of the one before was
 * made, so the rows may be written anew.
 */
#include "device/cuda.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/num.h"

#define LOOKS	 256	/* at the word, between two questions to the runtime */
#define LOOKS_NS 100000 /* what these count for at the most: who lost its core was not waiting */

static int copy(struct cuda_device *d, void *to, const void *from, size_t bytes,
		enum cudaMemcpyKind kind, struct err *err)
{
	return cuda_said(cudaMemcpyAsync(to, from, bytes, kind, d->stream), "a copy", err);
}

/* ---- how much hits and misses run at the same time ---- */

static void watch_begin(struct cuda_device *d)
{
	struct cuda_watch *w = &d->watch;

	w->layer = w->done && d->n_tokens <= CUDA_FEW ? w->turn++ % d->base.c.model->n_layers
						      : DEVICE_NO_LAYER;
	w->word_ns = w->misses_ns = 0;
}

/* Into the stream, around the layer's launch. What cannot be had is not looked at: no error. */
static void watch_mark(struct cuda_device *d, cudaEvent_t event)
{
	if (d->watch.layer != d->launched || !cudaEventRecord(event, d->stream))
		return;
	cudaGetLastError();
	d->watch.layer = DEVICE_NO_LAYER;
}

/* The host is through with the layer launched last. */
static void watch_misses(struct cuda_device *d)
{
	struct cuda_watch *w = &d->watch;

	if (w->word_ns && !w->misses_ns)
		w->misses_ns = now_ns() - w->word_ns;
}

/*
 * The step is over, and its events have come: what of the device's time lay behind the word are hits and the shared
 * expert.
 */
static void watch_end(struct cuda_device *d)
{
	struct cuda_watch *w = &d->watch;
	uint64_t ns;
	float ms = 0;

	if (w->layer == DEVICE_NO_LAYER || !w->misses_ns)
		return;
	w->layer = DEVICE_NO_LAYER;
	if (cudaEventElapsedTime(&ms, w->begun, w->done)) {
		cudaGetLastError();
		return;
	}
	ns = (uint64_t)((double)ms * 1e6);
	ns = ns > w->handoff_ns ? ns - w->handoff_ns : 0;
	atomic_fetch_add_explicit(&w->both_ns, u64_min(ns, w->misses_ns), memory_order_relaxed);
	atomic_fetch_add_explicit(&w->either_ns, u64_max(ns, w->misses_ns), memory_order_relaxed);
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
		slot[i] = r->seq * d->n_delta; /* a sequence has all layers' states side by side */
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
	d->normed = d->prompt.open = false;
	watch_begin(d);
	d->between = (struct cuda_between){ .routed = DEVICE_NO_LAYER };
	d->tick +=
		base->c.model->n_layers + 1; /* no word of another step is taken for this one's */
	d->host_index[cuda_tick_at(d)] = d->tick;
	fill_index(d, runs, n_runs);
	rc = copy(d, d->index, d->host_index, device_index_n(&base->c) * 4, cudaMemcpyHostToDevice,
		  err);
	rc = rc ? rc
		: copy(d, d->x, d->in_x, (size_t)n_tokens * d->base.c.model->n_embd * sizeof(float),
		       cudaMemcpyHostToDevice, err);
	rc = rc ? rc : cuda_send_pages(d, err);
	for (uint32_t i = 0; i < n_runs && !rc; i++)
		if (runs[i].pos == 0)
			rc = cuda_reset_state(d, runs[i].seq, err);
	return rc;
}

/* The format of the first weights that a block multiplies with: the norm makes their form. */
static uint32_t first_of(const struct cuda_device *d, uint32_t layer, enum block_kind kind)
{
	const struct expert_layout *x = &d->base.c.model->layers[layer].experts;
	const struct cuda_weight *w = d->layers[layer].w;

	if (kind == BLOCK_MOE)
		return d->slot_table ? x->matrix[EXPERT_GATE].type : w[ROLE_SHARED_GATE].type;
	return w[kind == BLOCK_ATTENTION  ? ROLE_WQ
		 : kind == BLOCK_DELTANET ? ROLE_SSM_QKV
					  : ROLE_FFN_GATE]
		.type;
}

int cuda_put_layer(struct cuda_device *d, uint32_t layer, struct err *err)
{
	const struct layer *m = &d->base.c.model->layers[layer];
	const struct cuda_weight *w = d->layers[layer].w;
	int rc = 0;

	d->between.has_experts = false;
	for (uint32_t k = 0; k < m->n_blocks && !rc; k++) {
		const enum block_kind kind = m->blocks[k].kind;

		rc = cuda_normed_input(d, &w[m->blocks[k].norm], first_of(d, layer, kind), err);
		if (rc)
			return rc;
		d->between.waiting = kind != BLOCK_MOE;
		if (kind == BLOCK_ATTENTION)
			rc = cuda_attention(d, layer, err);
		else if (kind == BLOCK_DELTANET)
			rc = cuda_deltanet(d, layer, err);
		else if (kind == BLOCK_DENSE)
			rc = cuda_triple(d, &w[ROLE_FFN_GATE], &w[ROLE_FFN_UP], &w[ROLE_FFN_DOWN],
					 d->y, w[ROLE_FFN_DOWN].rows, err);
		else
			rc = cuda_experts(d, layer, err);
	}
	return rc;
}

int cuda_launch(struct device *base, uint32_t layer, struct err *err)
{
	struct cuda_device *d = cuda_of(base);

	int rc;

	watch_misses(d);
	rc = cuda_prompt_end(d, err);
	d->launched_ns = now_ns();
	d->launched = layer;
	if (rc)
		return rc;
	watch_mark(d, d->watch.begun);
	rc = cuda_launch_layer(d, layer, err);
	watch_mark(d, d->watch.done);
	return rc;
}

/*
 * What a device is given to answer: a second, and what a long layer takes. Time in calls does not count: over
 * the fake runtime it is they that compute.
 */
static uint64_t patience_ns(const struct cuda_device *d)
{
	return 1000000000ull + d->n_tokens * 1000000ull;
}

static int fall_silent(struct cuda_device *d, struct err *err)
{
	d->lost = d->silent = true;
	return err_set(err, -EIO, "the device does not answer");
}

/* Until the layer's word is there; the runtime is asked now and then whether it can still come. */
static int wait_word(struct cuda_device *d, struct err *err)
{
	const _Atomic uint32_t *word = d->word.host;
	const uint32_t value = d->tick + d->launched + 1;
	uint64_t waited = 0;

	while (waited < patience_ns(d)) {
		const uint64_t began = now_ns();
		cudaError_t e;

		for (int i = 0; i < LOOKS; i++) {
			if (atomic_load_explicit(word, memory_order_acquire) == value)
				return 0;
			cpu_relax();
		}
		waited += u64_min(now_ns() - began, LOOKS_NS);
		e = cudaStreamQuery(d->stream);
		if (e == cudaErrorNotReady)
			continue;
		if (e == cudaSuccess && atomic_load_explicit(word, memory_order_acquire) == value)
			return 0;
		return e ? cuda_said(e, "the router", err)
			 : err_set(err, -EIO, "the router: the layer ended without a word");
	}
	return fall_silent(d, err);
}

/* Until @event has come, or with NULL all that the stream of steps was given is done. */
static int wait_for(struct cuda_device *d, cudaEvent_t event, bool *ret_waited, struct err *err)
{
	uint64_t waited = 0;

	while (waited < patience_ns(d)) {
		const cudaError_t e = event ? cudaEventQuery(event) : cudaStreamQuery(d->stream);
		const uint64_t began = now_ns();

		if (e != cudaErrorNotReady)
			return cuda_said(e, "a step", err);
		*ret_waited = true;
		for (int i = 0; i < LOOKS; i++)
			cpu_relax();
		waited += u64_min(now_ns() - began, LOOKS_NS);
	}
	return fall_silent(d, err);
}

int cuda_wait_event(struct cuda_device *d, cudaEvent_t event, bool *ret_waited, struct err *err)
{
	return wait_for(d, event, ret_waited, err);
}

static int wait_stream(struct cuda_device *d, struct err *err)
{
	bool waited;

	return wait_for(d, NULL, &waited, err);
}

int cuda_route(struct device *base, struct device_route *ret, struct err *err)
{
	struct cuda_device *d = cuda_of(base);
	uint64_t now;
	int rc;

	*ret = (struct device_route){ 0 };
	if (!d->between.has_experts)
		return 0;
	rc = wait_word(d, err);
	if (rc)
		return rc;
	*ret = (struct device_route){ .ids = d->to_ids.host,
				      .weights = d->to_weights.host,
				      .ld = cuda_ranks(d, d->launched),
				      .x = d->to_x.host,
				      .partial = d->rows.host,
				      .ranks = cuda_ranks(d, d->launched),
				      .multiplies = cuda_is_prompt(d),
				      .send_from = d->prompt.least };
	if (ret->multiplies)
		cuda_prompt_begin(d);
	atomic_fetch_add_explicit(&d->layers_done, 1, memory_order_relaxed);
	now = now_ns();
	atomic_fetch_add_explicit(&d->handoff_ns, now - d->launched_ns, memory_order_relaxed);
	if (d->watch.layer == d->launched) {
		d->watch.word_ns = now;
		d->watch.handoff_ns = now - d->launched_ns;
	}
	return 0;
}

int cuda_step_end(struct device *base, const uint32_t *rows, uint32_t n, const float **ret_logits,
		  struct err *err)
{
	struct cuda_device *d = cuda_of(base);
	const size_t e = d->base.c.model->n_embd, vocab = d->base.c.model->n_vocab;
	int rc = 0;

	watch_misses(d);
	if (!d->normed && n)
		rc = cuda_prompt_end(d, err);
	if (!rc && !d->normed && n)
		rc = cuda_normed_input(d, &d->w[ROLE_OUTPUT_NORM], d->w[ROLE_OUTPUT_NORM].type,
				       err);
	d->normed = true;
	cuda_fresh(&d->head, e);
	for (uint32_t i = 0; i < n && !rc; i++)
		rc = copy(d, d->head.f + i * e, d->in.f + rows[i] * e, e * sizeof(float),
			  cudaMemcpyDeviceToDevice, err);
	if (!rc && n)
		rc = cuda_one_product(d, &d->w[ROLE_OUTPUT], &d->head, n, d->d_logits, vocab, err);
	if (!rc && n)
		rc = copy(d, d->logits, d->d_logits, n * vocab * sizeof(float),
			  cudaMemcpyDeviceToHost, err);
	rc = rc ? rc : wait_stream(d, err);
	if (rc)
		return rc;
	watch_end(d);
	if (n)
		*ret_logits = d->logits;
	else
		atomic_fetch_add_explicit(&d->steps, 1, memory_order_relaxed);
	atomic_store_explicit(&d->launches, cuda_launches() + (uint64_t)d->replayed,
			      memory_order_relaxed);
	return 0;
}

void cuda_step_drop(struct device *base)
{
	struct cuda_device *d = cuda_of(base);

	/* what went wrong has been told; a device that is well again after one failure goes on */
	if (!d->lost && wait_stream(d, NULL))
		d->lost = true;
}

bool cuda_is_lost(const struct device *base)
{
	return cuda_of(base)->lost;
}
