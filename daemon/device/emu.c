/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/emu.c: a device that is slots alone, in this machine's memory, for studies of policies.
 *
 * The memory is laid out as that of a GPU of the size would be, so that as many experts have slots; what
 * lies in them is multiplied by the CPU. Fills are copied by a thread of their own, one after the other, at
 * the rate of the link: a fill is done when the link could have carried it. Only slots that were filled
 * take memory. See device.h; the engine's thread but for that one.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/size.h"
#include "device/device_private.h"

struct emu {
	struct device base;
	uint64_t vram, link;
	uint8_t *memory;
	uint64_t bytes;
	uint8_t **class_base;

	pthread_t thread;
	bool started, sync; /* sync: both below are initialised */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
	struct device_fill ring[DEVICE_FILLS];
	uint64_t asked; /* fills so far; under the lock */
	_Atomic uint64_t done;
};

static struct emu *emu_of(const struct device *d)
{
	return (struct emu *)(uintptr_t)d;
}

static const uint8_t *emu_slot_at(const struct device *d, uint32_t layer, uint32_t slot)
{
	const struct emu *e = emu_of(d);
	const uint32_t cls = d->plan.class_of_layer[layer];

	return e->class_base[cls] + slot * d->plan.classes[cls].slot_bytes;
}

/* Waits until @at or the end; the lock is held. */
static void wait_until(struct emu *e, uint64_t at)
{
	struct timespec t = { .tv_sec = (time_t)(at / 1000000000),
			      .tv_nsec = (long)(at % 1000000000) };

	while (!e->stop && now_ns() < at)
		pthread_cond_timedwait(&e->wake, &e->lock, &t);
}

static uint64_t copy_fill(struct emu *e, const struct device_fill *f)
{
	uint8_t *to = (uint8_t *)(uintptr_t)emu_slot_at(&e->base, f->layer, f->slot);
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < f->n; i++) {
		memcpy(to + f->piece[i].at, f->piece[i].from, f->piece[i].bytes);
		bytes += f->piece[i].bytes;
	}
	return bytes;
}

static void *link_main(void *arg)
{
	struct emu *e = arg;
	uint64_t free_at = 0; /* when the link has carried all so far */

	pthread_setname_np(pthread_self(), "sluice-emu");
	pthread_mutex_lock(&e->lock);
	while (!e->stop) {
		const uint64_t n = atomic_load_explicit(&e->done, memory_order_relaxed);
		struct device_fill f;
		uint64_t bytes;

		if (n == e->asked) {
			pthread_cond_wait(&e->wake, &e->lock);
			continue;
		}
		f = e->ring[n % DEVICE_FILLS];
		pthread_mutex_unlock(&e->lock);
		free_at = u64_max(free_at, now_ns());
		bytes = copy_fill(e, &f);
		free_at += (uint64_t)((double)bytes / (double)e->link * 1e9);
		pthread_mutex_lock(&e->lock);
		wait_until(e, free_at);
		atomic_store_explicit(&e->done, n + 1, memory_order_release);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

static void emu_close(struct device *d)
{
	struct emu *e = emu_of(d);

	if (e->started) {
		pthread_mutex_lock(&e->lock);
		e->stop = true;
		pthread_cond_broadcast(&e->wake);
		pthread_mutex_unlock(&e->lock);
		pthread_join(e->thread, NULL);
	}
	if (e->sync) {
		pthread_cond_destroy(&e->wake);
		pthread_mutex_destroy(&e->lock);
	}
	if (e->memory)
		munmap(e->memory, e->bytes);
	device_plan_fini(&d->plan);
	free(e->class_base);
	free(d->table);
	free(e);
}

static void emu_get_info(const struct device *d, struct device_info *ret)
{
	const struct emu *e = emu_of(d);
	char vram[32], link[32];

	*ret = (struct device_info){ .memory_bytes = d->plan.slots_bytes };
	snprintf(ret->name, sizeof(ret->name), "emulated, %s at %s/s",
		 size_format(vram, sizeof(vram), e->vram),
		 size_format(link, sizeof(link), e->link));
}

static int emu_load(struct device *d, uint32_t layer, enum role role, const struct device_matrix *w,
		    struct err *err)
{
	return 0; /* the host computes with its own */
}

static void emu_register_host(struct device *d, const void *base, uint64_t bytes, struct err *note)
{
}

static int emu_publish(struct device *d, struct err *err)
{
	return 0; /* the host is who reads the table */
}

static int emu_fill(struct device *d, const struct device_fill *fill, struct err *err)
{
	struct emu *e = emu_of(d);
	int rc = 0;

	pthread_mutex_lock(&e->lock);
	if (e->asked - atomic_load(&e->done) == DEVICE_FILLS)
		rc = err_set(err, -EBUSY, "more than %d fills at once", DEVICE_FILLS);
	else
		e->ring[e->asked++ % DEVICE_FILLS] = *fill;
	pthread_cond_signal(&e->wake);
	pthread_mutex_unlock(&e->lock);
	return rc;
}

static int emu_fills_done(struct device *d, uint64_t *ret_n, struct err *err)
{
	*ret_n = atomic_load_explicit(&emu_of(d)->done, memory_order_acquire);
	return 0;
}

static const struct device_ops emu_ops = { .close = emu_close,
					   .get_info = emu_get_info,
					   .load = emu_load,
					   .register_host = emu_register_host,
					   .publish = emu_publish,
					   .fill = emu_fill,
					   .fills_done = emu_fills_done,
					   .slot_at = emu_slot_at };

/* Address space for all slots; pages come with the first fill of each. */
static int take_memory(struct emu *e, struct err *err)
{
	const struct device_plan *p = &e->base.plan;
	uint8_t *at;

	e->bytes = u64_max(p->slots_bytes, 1);
	at = mmap(NULL, e->bytes, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return err_set(err, -ENOMEM, "no address space for the emulated device's slots");
	e->memory = at;
	e->class_base = calloc(p->n_classes + 1, sizeof(*e->class_base));
	e->base.table = device_new_table(e->base.c.model);
	if (!e->class_base || !e->base.table)
		return err_set(err, -ENOMEM, "no memory for the device");
	for (uint32_t k = 0; k < p->n_classes; k++) {
		e->class_base[k] = at;
		at += p->classes[k].slots * p->classes[k].slot_bytes;
	}
	return 0;
}

static int start_thread(struct emu *e, struct err *err)
{
	pthread_condattr_t attr;
	int rc;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->wake, &attr);
	pthread_condattr_destroy(&attr);
	e->sync = true;
	rc = pthread_create(&e->thread, NULL, link_main, e);
	e->started = rc == 0;
	return rc ? err_set(err, -rc, "cannot start the emulated link: %s", strerror(rc)) : 0;
}

int emu_open(const struct device_config *config, struct device **ret, struct err *err)
{
	struct emu *e = calloc(1, sizeof(*e));
	uint64_t room;
	int rc;

	if (!e)
		return err_set(err, -ENOMEM, "no memory for the device");
	e->base.ops = &emu_ops;
	e->base.c = *config;
	e->base.fills = DEVICE_FILLS;
	rc = device_emu_sizes(config->name, &e->vram, &e->link, err);
	room = config->budget_bytes ? u64_min(config->budget_bytes, e->vram) : e->vram;
	rc = rc ? rc : device_plan_make(config, room, &e->base.plan, err);
	rc = rc ? rc : take_memory(e, err);
	rc = rc ? rc : start_thread(e, err);
	if (rc) {
		emu_close(&e->base);
		return rc;
	}
	*ret = &e->base;
	return 0;
}
