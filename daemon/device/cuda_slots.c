/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda_slots.c: experts in the device's memory: slots, the table of who lies where, fills.
 * See device.h. Engine thread.
 *
 * Fills run on a stream of their own. They need not wait for steps: a slot is filled only when the last
 * step that could read it is over (device_step_end() waits), and is in the table only when its event was
 * seen. Copies come from where the host keeps the experts, registered in pieces so that no single call pins
 * for long; where that is refused they pass through a ring of pinned memory, and without that they are
 * waited for: the same bytes in all three ways.
 */
#include "device/cuda.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#ifndef REGISTER_PIECE /* less for tests, whose models have a few MiB */
#define REGISTER_PIECE (1ull << 30)
#endif
#define RING_MOST (256ull << 20)

static uint64_t largest_slot(const struct cuda_device *d)
{
	uint64_t n = 0;

	for (uint32_t k = 0; k < d->base.plan.n_classes; k++)
		n = u64_max(n, d->base.plan.classes[k].slot_bytes);
	return n;
}

int cuda_take_slots(struct cuda_device *d, struct err *err)
{
	const struct model *m = d->base.c.model;
	const struct device_plan *p = &d->base.plan;
	struct device_sizes z;
	int rc = 0;

	if (!p->n_classes)
		return 0;
	device_sizes(&d->base.c, true, &z);
	d->class_base = calloc(p->n_classes, sizeof(*d->class_base));
	if (!d->class_base)
		return err_set(err, -ENOMEM, "no memory for the device");
	for (uint32_t k = 0; k < p->n_classes; k++)
		d->class_base[k] = cuda_slots_at(d, k);
	rc = rc ? rc : cuda_take_prompt(d, &z, err);
	rc = rc ? rc : cuda_pin(&d->host_table, z.slot_table, err);
	for (uint32_t i = 0; i < DEVICE_FILLS && !rc; i++) {
		rc = cuda_said(cudaEventCreate(&d->fill_begun[i]), "an event", err);
		rc = rc ? rc : cuda_said(cudaEventCreate(&d->fill_done[i]), "an event", err);
	}
	rc = rc ? rc : cuda_said(cudaEventCreate(&d->watch.begun), "an event", err);
	rc = rc ? rc : cuda_said(cudaEventCreate(&d->watch.done), "an event", err);
	rc = rc ? rc : cuda_take(d, &d->slot_table, z.slot_table, "the table of slots", err);
	d->base.fills = 1;
	d->way = CUDA_WAITING;
	if (!rc)
		memset(d->host_table, 0xff, (size_t)m->n_layers * m->n_expert * 4);
	return rc ? rc : cuda_publish_table(&d->base, err);
}

void cuda_free_slots(struct cuda_device *d)
{
	for (uint32_t i = 0; i < DEVICE_FILLS; i++) {
		if (d->fill_begun[i])
			cudaEventDestroy(d->fill_begun[i]);
		if (d->fill_done[i])
			cudaEventDestroy(d->fill_done[i]);
	}
	if (d->watch.begun)
		cudaEventDestroy(d->watch.begun);
	if (d->watch.done)
		cudaEventDestroy(d->watch.done);
	for (uint64_t at = 0; d->way == CUDA_REGISTERED && at < d->host_bytes; at += REGISTER_PIECE)
		cudaHostUnregister((void *)(uintptr_t)(d->host_base + at));
	cudaFreeHost(d->ring);
	cudaFreeHost(d->host_table);
}

/* All pieces, or none. */
static int register_pieces(const uint8_t *base, uint64_t bytes, struct err *err)
{
	uint64_t at = 0;
	int rc = 0;

	while (at < bytes && !rc) {
		rc = cuda_said(cudaHostRegister((void *)(uintptr_t)(base + at),
						u64_min(REGISTER_PIECE, bytes - at),
						cudaHostRegisterDefault),
			       "registering the experts' memory", err);
		at += rc ? 0 : REGISTER_PIECE;
	}
	while (rc && at) {
		at -= REGISTER_PIECE;
		cudaHostUnregister((void *)(uintptr_t)(base + at));
	}
	return rc;
}

void cuda_register_host(struct device *base, const void *memory, uint64_t bytes, struct err *note)
{
	struct cuda_device *d = cuda_of(base);
	uint64_t slots;

	d->ring_slot = largest_slot(d);
	if (!d->ring_slot)
		return;
	d->base.fills = DEVICE_FILLS;
	if (!register_pieces(memory, bytes, note)) {
		d->host_base = memory;
		d->host_bytes = bytes;
		d->way = CUDA_REGISTERED;
		return;
	}
	slots = u64_min(DEVICE_FILLS, RING_MOST / d->ring_slot);
	d->way = CUDA_RING;
	if (slots && !cuda_pin(&d->ring, slots * d->ring_slot, NULL)) {
		d->base.fills = (uint32_t)slots;
		err_prefix(note, -EIO, "fills of the device pass through %llu MiB of pinned memory",
			   (unsigned long long)(slots * d->ring_slot >> 20));
		return;
	}
	d->ring = NULL;
	d->way = CUDA_WAITING;
	d->base.fills = 1;
	err_prefix(note, -EIO, "fills of the device are waited for");
}

int cuda_publish_table(struct device *base, struct err *err)
{
	struct cuda_device *d = cuda_of(base);
	const size_t bytes = (size_t)base->c.model->n_layers * base->c.model->n_expert * 4;

	if (!d->slot_table)
		return 0;
	memcpy(d->host_table, base->table, bytes);
	return cuda_said(cudaMemcpyAsync(d->slot_table, d->host_table, bytes,
					 cudaMemcpyHostToDevice, d->stream),
			 "the table of slots", err);
}

/* One copy; two where it lies across two registered pieces. */
int cuda_send(struct cuda_device *d, uint8_t *to, const uint8_t *from, uint64_t bytes,
	      struct err *err)
{
	int rc = 0;

	while (bytes && !rc) {
		uint64_t n = bytes;

		if (d->way == CUDA_REGISTERED)
			n = u64_min(bytes, REGISTER_PIECE - (uint64_t)(from - d->host_base) %
								    REGISTER_PIECE);
		rc = cuda_said(cudaMemcpyAsync(to, from, n, cudaMemcpyHostToDevice, d->fill_stream),
			       "a copy of an expert", err);
		to += n;
		from += n;
		bytes -= n;
	}
	return rc;
}

static int copy_piece(struct cuda_device *d, uint8_t *to, const uint8_t *from, uint64_t bytes,
		      struct err *err)
{
	return d->way == CUDA_WAITING
		       ? cuda_said(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "a fill",
				   err)
		       : cuda_send(d, to, from, bytes, err);
}

/* Its pieces to @to, on the stream of fills, between two events. */
static int send_fill(struct cuda_device *d, uint8_t *to, const uint8_t *ring,
		     const struct device_fill *fill, struct err *err)
{
	const uint32_t at = d->fills_asked % DEVICE_FILLS;
	int rc = cuda_said(cudaEventRecord(d->fill_begun[at], d->fill_stream), "a fill", err);

	d->fill_bytes[at] = 0;
	for (uint32_t i = 0; i < fill->n && !rc; i++) {
		const uint8_t *from = ring ? ring + fill->piece[i].at : fill->piece[i].from;

		rc = copy_piece(d, to + fill->piece[i].at, from, fill->piece[i].bytes, err);
		d->fill_bytes[at] += fill->piece[i].bytes;
	}
	return rc ? rc
		  : cuda_said(cudaEventRecord(d->fill_done[at], d->fill_stream), "a fill", err);
}

int cuda_fill(struct device *base, const struct device_fill *fill, struct err *err)
{
	struct cuda_device *d = cuda_of(base);
	const uint32_t cls = base->plan.class_of_layer[fill->layer];
	uint8_t *to = d->class_base[cls] + fill->slot * base->plan.classes[cls].slot_bytes;
	uint8_t *ring = d->ring ? d->ring + d->fills_asked % base->fills * d->ring_slot : NULL;
	int rc;

	if (d->fills_asked - d->fills_done >= base->fills)
		return err_set(err, -EBUSY, "more than %u fills at once", base->fills);
	for (uint32_t i = 0; i < fill->n && ring; i++)
		memcpy(ring + fill->piece[i].at, fill->piece[i].from, fill->piece[i].bytes);
	rc = send_fill(d, to, ring, fill, err);
	d->fills_asked += rc == 0;
	return rc;
}

/* The link's rate is that of the copies: when somebody looks at them says nothing of it. */
static void measure(struct cuda_device *d, uint32_t at)
{
	float ms = 0;

	if (cudaEventElapsedTime(&ms, d->fill_begun[at], d->fill_done[at]))
		cudaGetLastError(); /* it stays unmeasured: the fill is done */
	else if (ms > 0)
		device_link_carried(&d->base.link, d->fill_bytes[at], (uint64_t)((double)ms * 1e6));
}

int cuda_fills_done(struct device *base, uint64_t *ret_n, struct err *err)
{
	struct cuda_device *d = cuda_of(base);

	while (d->fills_done < d->fills_asked) {
		const uint32_t at = d->fills_done % DEVICE_FILLS;
		cudaError_t e = cudaEventQuery(d->fill_done[at]);

		if (e == cudaErrorNotReady)
			break;
		if (e)
			return cuda_said(e, "a fill", err);
		measure(d, at);
		d->fills_done++;
	}
	*ret_n = d->fills_done;
	return 0;
}
