/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/emu.c: a device that is slots alone, in this machine's memory, for studies of policies.
 *
 * The memory is laid out as that of a GPU of the size would be, so that as many experts have slots; what
 * lies in them is multiplied by the CPU. The link carries one fill after the other at its rate: a fill is done
 * when it could have carried it, and copied when that is asked for, so that no thread that comes late makes
 * fills late. Only slots that were filled take memory. See device.h; the engine's thread.
 */
#include <errno.h>
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

	struct emu_fill {
		struct device_fill fill;
		uint64_t at_ns; /* when the link has carried it */
	} ring[DEVICE_FILLS];
	uint64_t asked, done; /* fills so far */
	uint64_t free_ns;     /* when the link has carried all of them */
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

static void copy_fill(struct emu *e, const struct device_fill *f)
{
	uint8_t *to = (uint8_t *)(uintptr_t)emu_slot_at(&e->base, f->layer, f->slot);

	for (uint32_t i = 0; i < f->n; i++)
		memcpy(to + f->piece[i].at, f->piece[i].from, f->piece[i].bytes);
}

static void emu_close(struct device *d)
{
	struct emu *e = emu_of(d);

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
	struct emu_fill *f = &e->ring[e->asked % DEVICE_FILLS];
	uint64_t bytes = 0, ns;

	if (e->asked - e->done == DEVICE_FILLS)
		return err_set(err, -EBUSY, "more than %d fills at once", DEVICE_FILLS);
	for (uint32_t i = 0; i < fill->n; i++)
		bytes += fill->piece[i].bytes;
	ns = (uint64_t)((double)bytes / (double)e->link * 1e9);
	e->free_ns = u64_max(e->free_ns, now_ns()) + ns;
	f->fill = *fill;
	f->at_ns = e->free_ns;
	e->asked++;
	device_link_carried(&d->link, bytes, ns);
	return 0;
}

static int emu_fills_done(struct device *d, uint64_t *ret_n, struct err *err)
{
	struct emu *e = emu_of(d);
	const uint64_t now = now_ns();

	for (; e->done < e->asked && e->ring[e->done % DEVICE_FILLS].at_ns <= now; e->done++)
		copy_fill(e, &e->ring[e->done % DEVICE_FILLS].fill);
	*ret_n = e->done;
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
	e->base.link.rate = e->link;
	room = config->budget_bytes ? u64_min(config->budget_bytes, e->vram) : e->vram;
	rc = rc ? rc : device_plan_make(config, room, &e->base.plan, err);
	rc = rc ? rc : take_memory(e, err);
	if (rc) {
		emu_close(&e->base);
		return rc;
	}
	*ret = &e->base;
	return 0;
}
