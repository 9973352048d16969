/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda.c: the device over the CUDA runtime: opening, buffers, weights. See device.h; a step is
 * in cuda_step.c, memory that comes and goes in cuda_memory.c.
 *
 * Buffers are taken at open, so that a step never asks for any. Kernels are loaded with
 * the context (CUDA_MODULE_LOADING=EAGER): a lazy load may wait for the device in the middle of a step.
 */
#include "device/cuda.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/size.h"
#include "kernels/quant.h"

#define DRIVER_LEAST 13000 /* CUDA 13: r580 or newer */

int cuda_said(cudaError_t e, const char *what, struct err *err)
{
	return e == cudaSuccess ? 0
				: err_set(err, e == cudaErrorMemoryAllocation ? -ENOMEM : -EIO,
					  "%s: %s", what, cudaGetErrorString(e));
}

int cuda_take(struct cuda_device *d, void *ret, size_t bytes, const char *what, struct err *err)
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
	d->memory_bytes += align_up(bytes, 256); /* as the plan counts, and the runtime gives */
	memcpy(ret, &p, sizeof(p));
	return 0;
}

int cuda_pin(void *ret, size_t bytes, struct err *err)
{
	void *p = NULL;
	int rc = cuda_said(cudaMallocHost(&p, bytes ? bytes : 1), "pinned memory", err);

	if (!rc)
		memcpy(ret, &p, sizeof(p));
	return rc;
}

static int map(struct cuda_mapped *m, size_t bytes, struct err *err)
{
	int rc = cuda_said(cudaHostAlloc(&m->host, bytes ? bytes : 1, cudaHostAllocMapped),
			   "mapped memory", err);

	return rc ? rc
		  : cuda_said(cudaHostGetDevicePointer(&m->device, m->host, 0), "mapped memory",
			      err);
}

int cuda_take_rows(struct cuda_device *d, struct cuda_rows *r, size_t rows, size_t n,
		   struct err *err)
{
	int rc = cuda_take(d, &r->f, rows * n * sizeof(float), "activations", err);

	r->n = n;
	for (int i = 0; i < DEVICE_FORMS && !rc; i++)
		rc = cuda_take(d, &r->act[i], rows * cuda_act_bytes(align_up(n, 256)),
			       "activations", err);
	return rc;
}

static int take_scratch(struct cuda_device *d, const struct device_sizes *z, struct err *err)
{
	const struct model *m = d->base.c.model;
	const size_t t = z->tokens;
	int rc = cuda_take(d, &d->x, z->stream, "the residual stream", err);

	if (cuda_attend_decode_scratch(device_attend_pairs(&d->base.c), z->heads,
				       m->attention.head_dim, DEVICE_PART, DEVICE_PART) > z->attend)
		return err_set(err, -ENOTSUP, "attention needs more memory than was planned");
	rc = rc ? rc : cuda_take(d, &d->y, z->stream, "activations", err);
	rc = rc ? rc : cuda_take_rows(d, &d->in, t, z->embd, err);
	rc = rc ? rc : cuda_take_rows(d, &d->mid, t, z->mid, err);
	rc = rc ? rc : cuda_take_rows(d, &d->hidden, t, z->hidden, err);
	rc = rc ? rc : cuda_take_rows(d, &d->head, d->base.c.max_logits, z->embd, err);
	rc = rc ? rc : cuda_take(d, &d->a, z->a, "activations", err);
	rc = rc ? rc : cuda_take(d, &d->b, z->b, "activations", err);
	rc = rc ? rc : cuda_take(d, &d->q, z->q, "activations", err);
	rc = rc ? rc : cuda_take(d, &d->alpha, t * m->ssm_v_heads * 4, "activations", err);
	rc = rc ? rc : cuda_take(d, &d->beta, t * m->ssm_v_heads * 4, "activations", err);
	rc = rc ? rc : cuda_take(d, &d->router_logits, z->router_logits, "the router", err);
	rc = rc ? rc : cuda_take(d, &d->router_weights, z->router_weights, "the router", err);
	rc = rc ? rc : cuda_take(d, &d->router_ids, z->router_ids, "the router", err);
	rc = rc ? rc : cuda_take(d, &d->d_logits, z->logits, "logits", err);
	if (m->n_expert) {
		rc = rc ? rc : cuda_take(d, &d->partial, z->partial, "experts", err);
		rc = rc ? rc : cuda_take(d, &d->group_hidden, z->group_hidden, "experts", err);
		rc = rc ? rc : cuda_take(d, &d->list, z->list, "experts", err);
		rc = rc ? rc : cuda_take(d, &d->list_n, 4, "experts", err);
		rc = rc ? rc : cuda_take(d, &d->place, z->place, "experts", err);
	}
	rc = rc ? rc : cuda_take(d, &d->index, z->index, "positions", err);
	return rc ? rc : cuda_take(d, &d->scratch, z->attend, "attention", err);
}

static int take_pinned(struct cuda_device *d, const struct device_sizes *z, struct err *err)
{
	int rc = cuda_pin(&d->in_x, z->stream, err);

	rc = rc ? rc : cuda_pin(&d->host_index, z->index, err);
	rc = rc ? rc : cuda_pin(&d->logits, z->logits, err);
	rc = rc ? rc : map(&d->word, 64, err);
	rc = rc ? rc : map(&d->to_ids, z->router_ids, err);
	rc = rc ? rc : map(&d->to_weights, z->router_weights, err);
	rc = rc ? rc : map(&d->to_x, z->stream, err);
	rc = rc ? rc : map(&d->rows, z->rows, err);
	if (!rc)
		memset(d->word.host, 0, 64);
	return rc;
}

static int take_rope(struct cuda_device *d, struct err *err)
{
	const size_t half = d->base.c.model->attention.rope.n_rot / 2;
	float *f = malloc((half + 1) * sizeof(*f));
	int rc = f ? cuda_take(d, &d->rope, half * sizeof(*f), "frequencies", err) : -ENOMEM;

	for (size_t i = 0; i < half && !rc; i++)
		f[i] = d->base.c.rope ? (float)d->base.c.rope[i] : 0.0f;
	if (!rc)
		rc = cuda_said(cudaMemcpy(d->rope, f, half * sizeof(*f), cudaMemcpyHostToDevice),
			       "frequencies", err);
	free(f);
	return rc;
}

/* GPUs that the runtime sees, and a driver that it can use. */
static int count_gpus(int *ret, struct err *err)
{
	int driver = 0, rc = cuda_said(cudaDriverGetVersion(&driver), "the driver", err);

	if (!rc && driver < DRIVER_LEAST)
		rc = err_set(err, -ENODEV,
			     driver ? "the NVIDIA driver is older than r580, which CUDA 13 needs"
				    : "there is no NVIDIA driver here");
	return rc ? rc : cuda_said(cudaGetDeviceCount(ret), "looking for a GPU", err);
}

int cuda_find(struct err *err)
{
	int count = 0, rc = count_gpus(&count, err);

	return rc || count ? rc : err_set(err, -ENODEV, "there is no GPU here");
}

static int open_device(struct cuda_device *d, struct err *err)
{
	const char *name = d->base.c.name;
	struct cudaDeviceProp p;
	int count = 0, rc;

	d->number = name[4] == ':' ? atoi(name + 5) : 0;
	setenv("CUDA_MODULE_LOADING", "EAGER", 1);
	rc = count_gpus(&count, err);
	if (!rc && d->number >= count)
		rc = err_set(err, -ENODEV, "there is no GPU %d here, %d in all", d->number, count);
	rc = rc ? rc : cuda_said(cudaSetDevice(d->number), "the GPU", err);
	rc = rc ? rc : cuda_said(cudaGetDeviceProperties(&p, d->number), "the GPU", err);
	if (!rc) {
		snprintf(d->name, sizeof(d->name), "%.127s", p.name);
		snprintf(d->bdf, sizeof(d->bdf), "%04x:%02x:%02x.0",
			 (unsigned)p.pciDomainID & 0xffff, (unsigned)p.pciBusID & 0xff,
			 (unsigned)p.pciDeviceID & 0x1f);
	}
	rc = rc ? rc
		: cuda_said(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking),
			    "a stream", err);
	return rc ? rc
		  : cuda_said(cudaStreamCreateWithFlags(&d->fill_stream, cudaStreamNonBlocking),
			      "a stream", err);
}

/* What may be taken: the budget, which must be free; without one what is free but for a margin. */
static int find_room(const struct cuda_device *d, uint64_t *ret, struct err *err)
{
	const uint64_t budget = d->base.c.budget_bytes;
	char asked[32], there[32];
	size_t free_bytes = 0, all = 0;
	int rc = cuda_said(cudaMemGetInfo(&free_bytes, &all), "the device's memory", err);

	if (rc)
		return rc;
	if (budget > free_bytes)
		return err_set(
			err, -ENOSPC,
			"--device-budget: %s of the device's memory are more than is free: %s",
			size_format(asked, sizeof(asked), budget),
			size_format(there, sizeof(there), free_bytes));
	*ret = budget ? budget : device_default_room(free_bytes);
	return 0;
}

static int take_all(struct cuda_device *d, struct err *err)
{
	struct device_sizes z;
	uint64_t room = 0;
	int rc = cuda_find_driver(d, err);

	rc = rc ? rc : find_room(d, &room, err);
	rc = rc ? rc : device_plan_make(&d->base.c, room, &d->base.plan, err);
	if (rc)
		return rc;
	device_sizes(&d->base.c, d->base.plan.n_classes > 0, &z);
	rc = take_scratch(d, &z, err);
	rc = rc ? rc : take_pinned(d, &z, err);
	rc = rc ? rc : take_rope(d, err);
	rc = rc ? rc : cuda_take_memory(d, err);
	return rc ? rc : cuda_take_slots(d, err);
}

static void cuda_get_info(const struct device *base, struct device_info *ret)
{
	const struct cuda_device *d = cuda_of(base);

	memset(ret, 0, sizeof(*ret));
	memcpy(ret->name, d->name, sizeof(ret->name));
	memcpy(ret->bdf, d->bdf, sizeof(ret->bdf));
	ret->memory_bytes = d->memory_bytes + cuda_blocks_bytes(d);
	ret->dense_bytes = d->dense_bytes;
	ret->steps = atomic_load_explicit(&d->steps, memory_order_relaxed);
	ret->launches = atomic_load_explicit(&d->launches, memory_order_relaxed);
	ret->layers = atomic_load_explicit(&d->layers_done, memory_order_relaxed);
	ret->handoff_ns = atomic_load_explicit(&d->handoff_ns, memory_order_relaxed);
	ret->both_ns = atomic_load_explicit(&d->watch.both_ns, memory_order_relaxed);
	ret->either_ns = atomic_load_explicit(&d->watch.either_ns, memory_order_relaxed);
}

static int cuda_load(struct device *base, uint32_t layer, enum role role,
		     const struct device_matrix *w, struct err *err)
{
	struct cuda_device *d = cuda_of(base);
	struct cuda_weight *to = layer == DEVICE_NO_LAYER ? &d->w[role] : &d->layers[layer].w[role];
	const size_t bytes = w->row_bytes * w->n_out;
	int rc;

	if (!w->data || to->p || (layer == DEVICE_NO_LAYER && role == ROLE_TOKEN_EMBD))
		return 0; /* rows of the embedding are read on the host */
	if (cuda_matvec_input(w->type) == CUDA_IN_NONE)
		return err_set(err, -ENOTSUP, "%s weights are not multiplied on the device",
			       quant_name(w->type));
	/* the engine's thread is not the one that opened the device */
	rc = cuda_said(cudaSetDevice(d->number), "the GPU", err);
	rc = rc ? rc : cuda_take(d, &to->p, bytes, "weights", err);
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

static void free_mapped(const struct cuda_mapped *m)
{
	cudaFreeHost(m->host);
}

/* Everything that the runtime gave: it would wait for a device that is silent. */
static void give_back(struct cuda_device *d)
{
	cuda_free_graphs(d);
	if (d->stream)
		cudaStreamDestroy(d->stream);
	if (d->fill_stream)
		cudaStreamDestroy(d->fill_stream);
	cuda_free_slots(d);
	cuda_free_prompt(d);
	cuda_free_memory(d);
	for (size_t i = 0; i < d->n_owned; i++)
		cudaFree(d->owned[i]);
	cudaFreeHost(d->in_x);
	cudaFreeHost(d->host_index);
	cudaFreeHost(d->logits);
	free_mapped(&d->word);
	free_mapped(&d->to_ids);
	free_mapped(&d->to_weights);
	free_mapped(&d->to_x);
	free_mapped(&d->rows);
}

static void cuda_close(struct device *base)
{
	struct cuda_device *d = cuda_of(base);

	if (!d->silent)
		give_back(d);
	cuda_forget_memory(d);
	device_plan_fini(&d->base.plan);
	free(d->class_base);
	free(d->owned);
	free(d->layers);
	free(d->lengths);
	free(d->base.table);
	free(d);
}

static const struct device_ops cuda_device_ops = {
	.close = cuda_close,
	.get_info = cuda_get_info,
	.load = cuda_load,
	.register_host = cuda_register_host,
	.publish = cuda_publish_table,
	.fill = cuda_fill,
	.fills_done = cuda_fills_done,
	.input = cuda_input,
	.step_begin = cuda_step_begin,
	.launch = cuda_launch,
	.route = cuda_route,
	.step_end = cuda_step_end,
	.step_drop = cuda_step_drop,
	.is_lost = cuda_is_lost,
	.multiply = cuda_multiply,
	.sent = cuda_sent,
	.slots = cuda_slots,
	.hold = cuda_hold,
	.let = cuda_let,
	.could_hold = cuda_could_hold,
	.most_positions = cuda_most_positions,
	.victim = cuda_victim,
	.shrink = cuda_shrink,
	.grow = cuda_grow,
	.trim = cuda_trim,
	.set_budget = cuda_set_budget,
};

int cuda_open(const struct device_config *config, struct device **ret, struct err *err)
{
	const struct model *m = config->model;
	struct cuda_device *d;
	int rc = device_supports(m, err);

	if (rc)
		return rc;
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(err, -ENOMEM, "no memory for the device");
	d->base.ops = &cuda_device_ops;
	d->base.c = *config;
	d->layers = calloc(m->n_layers, sizeof(*d->layers));
	d->lengths = calloc(config->n_seq, sizeof(*d->lengths));
	d->base.table = device_new_table(m);
	d->between.routed = DEVICE_NO_LAYER;
	d->delta = (struct cuda_delta_shape){ m->ssm_k_heads, m->ssm_v_heads, m->ssm_head_dim,
					      !m->ssm_v_tiled };
	rc = d->layers && d->lengths && d->base.table
		     ? open_device(d, err)
		     : err_set(err, -ENOMEM, "no memory for the device");
	rc = rc ? rc : take_all(d, err);
	if (rc) {
		cuda_close(&d->base);
		return rc;
	}
	*ret = &d->base;
	return 0;
}
