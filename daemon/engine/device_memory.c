/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/device_memory.c: who has the device's memory: sequences take what they need of the slots', which
 * have it meanwhile, and all of it follows a budget that may change and what other programs leave. Decides who
 * asks and who waits; blocks are the device's (device/blocks.h), experts in slots vram.c's. Engine thread,
 * between two steps.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/size.h"
#include "device/device.h"
#include "engine/engine_private.h"

/* A device that computes sequences, and can be asked. */
static bool has_memory(const struct engine *e)
{
	return e->device_dense && !e->device_lost && !device_is_lost(e->device);
}

/* A block of slots becomes spare. 0; -ENOSPC: slots have none; -EIO and a sentence: the device does not let go. */
static int take_from_slots(struct engine *e, struct err *err)
{
	uint32_t slots = 0, cls = device_victim(e->device, &slots);
	int rc;

	if (!e->vram || cls == DEVICE_NO_CLASS)
		return -ENOSPC;
	rc = vram_withdraw(e->vram, cls, slots);
	if (rc)
		rc = err_set(err, -EIO, "the device's memory: fills of its slots do not end");
	else
		rc = device_shrink(e->device, cls, err);
	if (rc)
		vram_grew(e->vram, cls); /* as before */
	return rc;
}

bool engine_device_alone(const struct engine *e, const struct active *a)
{
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		const struct active *o = &e->active[i];

		if (o != a && o->request && seq_len(o->seq))
			return false;
	}
	return has_memory(e);
}

bool engine_device_hold(struct engine *e, struct active *a, uint32_t n)
{
	const uint32_t len = seq_len(a->seq) + n;
	struct err err = { { 0 } };
	int rc, slots_rc = 0;

	if (!has_memory(e))
		return true;
	do {
		rc = device_hold(e->device, seq_number(a->seq), len, &err);
		slots_rc = rc == -ENOSPC ? take_from_slots(e, &err) : 0;
	} while (rc == -ENOSPC && !slots_rc);
	if (!rc)
		return true;
	/* it waits for others, or begins anew where what it has lies badly */
	if (rc == -ENOSPC && device_could_hold(e->device, len, true) &&
	    (seq_len(a->seq) || !engine_device_alone(e, a)))
		return false;
	rc = slots_rc ? slots_rc : rc;
	a->device_short = e->is_short = true;
	if (e->memory_failed)
		return false; /* one sentence a step: the driver's first */
	e->short_error = rc;
	e->memory_failed = rc != -ENOSPC;
	if (rc == -ENOSPC)
		err_set(&e->short_note, rc,
			"the device's memory does not hold %u positions of a sequence: others have "
			"taken it, or --device-budget was lowered",
			len);
	else
		e->short_note = err;
	return false;
}

void engine_device_let(struct engine *e, const struct active *a)
{
	if (has_memory(e))
		device_let(e->device, seq_number(a->seq));
}

bool engine_device_could_seat(const struct engine *e, uint32_t n)
{
	return !has_memory(e) || device_could_hold(e->device, n, false);
}

void engine_set_device_budget(struct engine *e, uint64_t bytes)
{
	atomic_store(&e->device_budget, bytes);
	engine_wake(e);
}

void engine_device_memory(struct engine *e)
{
	const uint64_t now = now_ns();
	uint64_t budget;
	uint32_t cls;

	if (!has_memory(e))
		return;
	budget = atomic_load(&e->device_budget);
	if (budget != e->config.device_budget) {
		e->config.device_budget = budget;
		device_set_budget(e->device, budget);
	}
	while (device_trim(e->device, now) && !take_from_slots(e, NULL))
		;
	while (e->vram && (cls = device_grow(e->device, now)) != DEVICE_NO_CLASS)
		vram_grew(e->vram, cls);
}
