/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda.c: the device over the CUDA runtime: opening, memory, weights. See device.h; a step is
 * in cuda_step.c.
 *
 * All memory but the weights' is taken at open, so that a step never asks for any. Kernels are loaded with
 * the context (CUDA_MODULE_LOADING=EAGER): a lazy load may wait for the device in the middle of a step.
 */
#include "device/cuda.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "kernels/quant.h"

#define DRIVER_LEAST 13000 /* CUDA 13: r580 or newer */

int cuda_said(cudaError_t e, const char *what, struct err *err)
{
	return e == cudaSuccess ? 0
				: err_set(err, e == cudaErrorMemoryAllocation ? -ENOMEM : -EIO,
					  "%s: %s", what, cudaGetErrorString(e));
}

/* @bytes of the device, freed with it. */
static int take(struct device *d, void *ret, size_t bytes, const char *what, struct err *err)
{
	void *p = NULL;
	int rc;

	if (d->n_owned == d->room_owned) {
		size_t room = d->room_owned ? 2 * d->room_owned : 64;
		void **owned = realloc(d->owned, room * sizeof(*owned));

		if (!owned)
			return err_set(err, -ENOMEM, "no memory for the device");
		d->owned = owned;
		d->room_owned = room;
	}
	rc = cuda_said(cudaMalloc(&p, bytes ? bytes : 1), "the device's memory", err);
	if (rc)
		return err_prefix(err, rc, "%llu bytes for %s after %llu",
				  (unsigned long long)bytes, what,
				  (unsigned long long)d->memory_bytes);
	d->owned[d->n_owned++] = p;
	d->memory_bytes += bytes;
	memcpy(ret, &p, sizeof(p));
	return 0;
}

static int pin(void *ret, size_t bytes, struct err *err)
{
	void *p = NULL;
	int rc = cuda_said(cudaMallocHost(&p, bytes ? bytes : 1), "pinned memory", err);

	if (!rc)
		memcpy(ret, &p, sizeof(p));
	return rc;
}

static int take_rows(struct device *d, struct cuda_rows *r, size_t rows, size_t n, struct err *err)
{
	int rc = take(d, &r->f, rows * n * sizeof(float), "activations", err);

	r->n = n;
	for (int i = 0; i < CUDA_FORMS && !rc; i++)
		rc = take(d, &r->act[i], rows * cuda_act_bytes(align_up(n, 256)), "activations",
			  err);
	return rc;
}

/* The largest of each size that blocks work with. */
struct sizes {
	size_t q, kv, width, channels, values, heads, ff;
};

static struct sizes sizes_of(const struct model *m)
{
	struct sizes z = { 0 };

	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct layer *l = &m->layers[i];
		const struct weight *w = l->w;

		z.ff = u64_max(z.ff, u64_max(w[ROLE_FFN_UP].n_out, w[ROLE_SHARED_UP].n_out));
		if (layer_has(l, BLOCK_ATTENTION)) {
			z.q = u64_max(z.q, w[ROLE_WQ].n_out);
			z.kv = u64_max(z.kv, w[ROLE_WK].n_out);
			z.width = u64_max(z.width,
					  (size_t)l->attention.n_head * l->attention.head_dim);
			z.heads = u64_max(z.heads, l->attention.n_head);
		}
		if (layer_has(l, BLOCK_DELTANET)) {
			z.channels = w[ROLE_SSM_QKV].n_out;
			z.values = (size_t)m->ssm_v_heads * m->ssm_head_dim;
		}
	}
	return z;
}

static int take_scratch(struct device *d, struct err *err)
{
	const struct model *m = d->c.model;
	const struct sizes z = sizes_of(m);
	const size_t t = d->c.max_tokens, e = m->n_embd, f = sizeof(float);
	const size_t scratch =
		cuda_attend_decode_scratch(CUDA_ATTEND_ROWS, z.heads, m->attention.head_dim,
					   align_up(d->c.n_ctx, 64), CUDA_ATTEND_PART);
	const size_t wide = u64_max(u64_max(z.q, z.channels), z.ff);
	const size_t second = u64_max(u64_max(2 * z.kv, z.channels), u64_max(z.ff, z.values));
	int rc = take(d, &d->x, t * e * f, "the residual stream", err);

	rc = rc ? rc : take(d, &d->y, t * e * f, "activations", err);
	rc = rc ? rc : take(d, &d->shared, t * e * f, "activations", err);
	rc = rc ? rc : take_rows(d, &d->in, t, e, err);
	rc = rc ? rc : take_rows(d, &d->mid, t, u64_max(z.width, z.values), err);
	rc = rc ? rc : take_rows(d, &d->hidden, t, z.ff, err);
	rc = rc ? rc : take_rows(d, &d->head, d->c.max_logits, e, err);
	rc = rc ? rc : take(d, &d->a, t * wide * f, "activations", err);
	rc = rc ? rc : take(d, &d->b, t * second * f, "activations", err);
	rc = rc ? rc : take(d, &d->q, t * u64_max(z.width, z.values) * f, "activations", err);
	rc = rc ? rc : take(d, &d->alpha, t * m->ssm_v_heads * f, "activations", err);
	rc = rc ? rc : take(d, &d->beta, t * m->ssm_v_heads * f, "activations", err);
	rc = rc ? rc : take(d, &d->router_logits, t * m->n_expert * f, "the router", err);
	rc = rc ? rc : take(d, &d->router_weights, t * m->n_expert_used * f, "the router", err);
	rc = rc ? rc : take(d, &d->router_ids, t * m->n_expert_used * 4, "the router", err);
	rc = rc ? rc
		: take(d, &d->d_logits, (size_t)d->c.max_logits * m->n_vocab * f, "logits", err);
	rc = rc ? rc : take(d, &d->index, (cuda_slot_at(d) + d->c.n_seq) * 4, "positions", err);
	return rc ? rc : take(d, &d->scratch, scratch, "attention", err);
}

static int take_pinned(struct device *d, struct err *err)
{
	const struct model *m = d->c.model;
	const size_t t = d->c.max_tokens, e = m->n_embd, f = sizeof(float);
	int rc = pin(&d->in_x, t * e * f, err);

	rc = rc ? rc : pin(&d->out_x, t * e * f, err);
	rc = rc ? rc : pin(&d->sum, t * e * f, err);
	rc = rc ? rc : pin(&d->weights, t * m->n_expert_used * f, err);
	rc = rc ? rc : pin(&d->ids, t * m->n_expert_used * 4, err);
	rc = rc ? rc : pin(&d->host_index, (cuda_slot_at(d) + d->c.n_seq) * 4, err);
	return rc ? rc : pin(&d->logits, (size_t)d->c.max_logits * m->n_vocab * f, err);
}

/* What the layers remember, and the tables of pages: page i of sequence s is s * pages + i. */
static int take_memory(struct device *d, struct err *err)
{
	const struct model *m = d->c.model;
	const size_t n = d->c.n_seq, channels = sizes_of(m).channels;
	const size_t state = (size_t)m->ssm_v_heads * m->ssm_head_dim * m->ssm_head_dim;
	const enum cuda_kv kv = d->c.kv_q8 ? CUDA_KV_Q8_0 : CUDA_KV_F16;
	uint32_t *table;
	int rc = 0;

	d->pages = div_ceil(d->c.n_ctx, CUDA_KV_PAGE);
	for (uint32_t i = 0; i < m->n_layers && !rc; i++) {
		const struct attention_spec *a = &m->layers[i].attention;
		struct cuda_layer *l = &d->layers[i];

		if (layer_has(&m->layers[i], BLOCK_ATTENTION)) {
			rc = take(d, &l->pool,
				  n * d->pages * cuda_kv_page_bytes(kv, a->n_head_kv, a->head_dim),
				  "the KV cache", err);
		} else if (layer_has(&m->layers[i], BLOCK_DELTANET)) {
			rc = take(d, &l->conv, n * 3 * channels * sizeof(float), "states", err);
			rc = rc ? rc : take(d, &l->state, n * state * sizeof(float), "states", err);
		}
	}
	rc = rc ? rc : take(d, &d->table, n * d->pages * 4, "tables of pages", err);
	table = rc ? NULL : malloc(n * d->pages * 4);
	if (!table)
		return rc ? rc : err_set(err, -ENOMEM, "no memory for tables of pages");
	for (size_t i = 0; i < n * d->pages; i++)
		table[i] = (uint32_t)i;
	rc = cuda_said(cudaMemcpy(d->table, table, n * d->pages * 4, cudaMemcpyHostToDevice),
		       "tables of pages", err);
	free(table);
	return rc;
}

static int take_rope(struct device *d, struct err *err)
{
	const size_t half = d->c.model->attention.rope.n_rot / 2;
	float *f = malloc((half + 1) * sizeof(*f));
	int rc = f ? take(d, &d->rope, half * sizeof(*f), "frequencies", err) : -ENOMEM;

	for (size_t i = 0; i < half && !rc; i++)
		f[i] = d->c.rope ? (float)d->c.rope[i] : 0.0f;
	if (!rc)
		rc = cuda_said(cudaMemcpy(d->rope, f, half * sizeof(*f), cudaMemcpyHostToDevice),
			       "frequencies", err);
	free(f);
	return rc;
}

static int open_device(struct device *d, struct err *err)
{
	const int number = d->c.name[4] == ':' ? atoi(d->c.name + 5) : 0;
	struct cudaDeviceProp p;
	int count = 0, driver = 0, rc;

	setenv("CUDA_MODULE_LOADING", "EAGER", 1);
	rc = cuda_said(cudaDriverGetVersion(&driver), "the driver", err);
	if (!rc && driver < DRIVER_LEAST)
		rc = err_set(err, -ENODEV,
			     driver ? "the NVIDIA driver is older than r580, which CUDA 13 needs"
				    : "there is no NVIDIA driver here");
	rc = rc ? rc : cuda_said(cudaGetDeviceCount(&count), "looking for a GPU", err);
	if (!rc && number >= count)
		rc = err_set(err, -ENODEV, "there is no GPU %d here, %d in all", number, count);
	rc = rc ? rc : cuda_said(cudaSetDevice(number), "the GPU", err);
	rc = rc ? rc : cuda_said(cudaGetDeviceProperties(&p, number), "the GPU", err);
	if (!rc)
		snprintf(d->name, sizeof(d->name), "%.127s", p.name);
	rc = rc ? rc
		: cuda_said(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking),
			    "a stream", err);
	return rc ? rc
		  : cuda_said(cudaEventCreateWithFlags(&d->ready, cudaEventDisableTiming),
			      "an event", err);
}

int device_open(const struct device_config *config, struct device **ret, struct err *err)
{
	const struct model *m = config->model;
	struct device *d;
	int rc = device_supports(m, err);

	if (rc)
		return rc;
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(err, -ENOMEM, "no memory for the device");
	d->c = *config;
	d->layers = calloc(m->n_layers, sizeof(*d->layers));
	d->lengths = calloc(config->n_seq, sizeof(*d->lengths));
	if (!d->layers || !d->lengths) {
		device_close(d);
		return err_set(err, -ENOMEM, "no memory for the device");
	}
	d->delta = (struct cuda_delta_shape){ m->ssm_k_heads, m->ssm_v_heads, m->ssm_head_dim,
					      !m->ssm_v_tiled };
	rc = open_device(d, err);
	rc = rc ? rc : take_scratch(d, err);
	rc = rc ? rc : take_pinned(d, err);
	rc = rc ? rc : take_memory(d, err);
	rc = rc ? rc : take_rope(d, err);
	if (rc) {
		device_close(d);
		return rc;
	}
	*ret = d;
	return 0;
}

void device_close(struct device *d)
{
	if (!d)
		return;
	if (d->stream)
		cudaStreamDestroy(d->stream);
	if (d->ready)
		cudaEventDestroy(d->ready);
	for (size_t i = 0; i < d->n_owned; i++)
		cudaFree(d->owned[i]);
	cudaFreeHost(d->in_x);
	cudaFreeHost(d->out_x);
	cudaFreeHost(d->sum);
	cudaFreeHost(d->weights);
	cudaFreeHost(d->ids);
	cudaFreeHost(d->host_index);
	cudaFreeHost(d->logits);
	free(d->owned);
	free(d->layers);
	free(d->lengths);
	free(d);
}

void device_get_info(const struct device *d, struct device_info *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->name, d->name, sizeof(ret->name));
	ret->memory_bytes = d->memory_bytes;
	ret->dense_bytes = d->dense_bytes;
	ret->steps = atomic_load_explicit(&d->steps, memory_order_relaxed);
	ret->launches = atomic_load_explicit(&d->launches, memory_order_relaxed);
}

int device_load(struct device *d, uint32_t layer, enum role role, const struct device_matrix *w,
		struct err *err)
{
	struct cuda_weight *to = layer == DEVICE_NO_LAYER ? &d->w[role] : &d->layers[layer].w[role];
	const size_t bytes = w->row_bytes * w->n_out;
	int rc;

	if (!w->data || to->p || (layer == DEVICE_NO_LAYER && role == ROLE_TOKEN_EMBD))
		return 0; /* rows of the embedding are read on the host */
	if (cuda_matvec_input(w->type) == CUDA_IN_NONE)
		return err_set(err, -ENOTSUP, "%s weights are not multiplied on the device",
			       quant_name(w->type));
	rc = cudaSetDevice(d->c.name[4] == ':' ? atoi(d->c.name + 5) : 0);
	rc = cuda_said((cudaError_t)rc, "the GPU", err);
	rc = rc ? rc : take(d, &to->p, bytes, "weights", err);
	rc = rc ? rc
		: cuda_said(cudaMemcpy(to->p, w->data, bytes, cudaMemcpyHostToDevice), "weights",
			    err);
	if (rc)
		return rc;
	to->type = w->type;
	to->n = w->n_in;
	to->rows = w->n_out;
	to->row_bytes = w->row_bytes;
	d->dense_bytes += bytes;
	return 0;
}
