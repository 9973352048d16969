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

/*
 * A block of slots becomes spare. 0; -ENOSPC: slots have none; -EBUSY: fills of them end first; -EIO and a
 * sentence: they do not end, or the device does not let go.
 */
static int take_from_slots(struct engine *e, struct err *err)
{
	uint32_t slots = 0, cls = device_victim(e->device, &slots);
	int rc;

	if (!e->vram || cls == DEVICE_NO_CLASS)
		return -ENOSPC;
	rc = vram_withdraw(e->vram, cls, slots);
	if (rc == -EIO)
		return err_set(err, rc, "the device's memory: fills of its slots do not end");
	if (rc)
		return rc;
	rc = device_shrink(e->device, cls, err);
	if (rc)
		vram_grew(e->vram, cls); /* as before */
	return rc;
}

bool engine_device_alone(const struct engine *e, const struct active *a)
{
	for (uint32_t i = 0; i < e->config.n_parallel; i++)
		if (&e->active[i] != a && e->active[i].request && e->active[i].on_device)
			return false;
	return has_memory(e);
}

/* @a ends before the next step, for what @err says or, with -ENOSPC, for want of memory for @len positions. */
static enum device_memory end(struct engine *e, struct active *a, uint32_t len, int rc,
			      const struct err *err)
{
	const uint32_t most = device_most_positions(e->device, seq_number(a->seq));

	a->device_short = e->is_short = true;
	if (rc != -ENOSPC && !e->memory_failed) {
		e->short_note = *err;
		e->memory_failed = true;
	}
	a->short_error = e->memory_failed ? -EIO : rc;
	if (e->memory_failed) /* one sentence a step: the driver's first */
		a->short_note = e->short_note;
	else if (len > most)
		err_set(&a->short_note, rc,
			"the device's memory does not hold %u positions of a sequence, but %u at the "
			"most: raise --device-budget, end what others have of it, or ask for less",
			len, most);
	else
		err_set(&a->short_note, rc,
			"the device's memory does not hold %u positions of a sequence as it lies: "
			"raise --device-budget, or end what others have of it",
			len);
	return DEVICE_ENDS;
}

enum device_memory engine_device_hold(struct engine *e, struct active *a, uint32_t n)
{
	const uint32_t seq = seq_number(a->seq), len = seq_len(a->seq) + n;
	struct err err = { { 0 } };
	int rc, slots_rc = 0;

	if (!has_memory(e))
		return DEVICE_HAS;
	/* nobody reads the beginning of what has no room for its end */
	if (!seq_len(a->seq) && a->n_ids > device_most_positions(e->device, seq))
		return end(e, a, a->n_ids, -ENOSPC, NULL);
	do {
		rc = device_hold(e->device, seq, len, &err);
		slots_rc = rc == -ENOSPC ? take_from_slots(e, &err) : 0;
	} while (rc == -ENOSPC && !slots_rc);
	if (!rc) {
		a->on_device = true;
		a->anew = a->anew && engine_device_alone(e, a);
		return DEVICE_HAS;
	}
	if (slots_rc == -EBUSY)
		return DEVICE_WAITS;
	if (rc != -ENOSPC && rc != -EAGAIN)
		return end(e, a, len, rc, &err);
	if (len > device_most_positions(e->device, seq))
		return end(e, a, len, -ENOSPC, NULL);
	if (!engine_device_alone(e, a))
		return DEVICE_LACKS;
	if (slots_rc == -EIO)
		return end(e, a, len, slots_rc, &err);
	/* what it has lies badly among what others had: from the beginning, where it has not just been there */
	if (!seq_len(a->seq) || a->anew)
		return end(e, a, len, -ENOSPC, NULL);
	a->anew = true;
	return DEVICE_LACKS;
}

void engine_device_let(struct engine *e, struct active *a)
{
	a->on_device = false;
	if (has_memory(e))
		device_let(e->device, seq_number(a->seq));
}

/* Who runs will have all of its prompt: two that each fit now but not to their ends would read much twice. */
bool engine_device_could_seat(const struct engine *e, uint32_t n)
{
	uint64_t positions = 0;
	uint32_t n_others = 0;

	if (!has_memory(e))
		return true;
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		const struct active *a = &e->active[i];

		if (!a->request || a->paused)
			continue;
		positions += a->n_ids + 1;
		n_others++;
	}
	return device_could_hold(e->device, n, n_others, positions);
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
	if (!e->vram || vram_holds_back(e->vram)) /* what they gave up waits for the rest of it */
		return;
	while ((cls = device_grow(e->device, now)) != DEVICE_NO_CLASS)
		vram_grew(e->vram, cls);
}
