/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/idle.c: what the engine thread does beside steps: expert slots are filled from disk, a little
 * while a step runs and as policy allows while there is none; the arena is registered with the ring once it is
 * there; a trace that cannot go on is told of. Engine thread.
 */
#include "base/clock.h"
#include "base/futex.h"
#include "base/num.h"
#include "engine/engine_private.h"
#include "engine/numa.h"
#include "engine/saved.h"

#define FILLS_BUSY   1 /* background reads beside a running step: demand must not wait for them */
#define FILLS_IDLE   16
#define BANDWIDTH_NS 100000000	/* how often the memory's load is looked at again */
#define MEMORY_NS    1000000000 /* ... and who wants the memory of a device */
#define DEVICE_NS    1000000	/* ... and whether fills of a device's slots have ended */

/* Registers the arena with the ring once its pages are there. */
static void register_memory(struct engine *e)
{
	if (e->memory_registered || !e->arena ||
	    arena_prefaulted_bytes(e->arena) < arena_bytes(e->arena))
		return;
	e->memory_registered = true;
	if (reader_register_memory(e->reader, arena_base(e->arena), arena_bytes(e->arena),
				   &e->register_note))
		engine_add_fallback(e, e->register_note.text);
}

/* A trace that could not go on (a full disk, say) is said once and missed by nobody else. */
void engine_check_trace(struct engine *e)
{
	if (!e->trace || e->trace_note.text[0])
		return;
	if (trace_error(e->trace, &e->trace_note))
		engine_add_fallback(e, e->trace_note.text);
}

static void fill(struct engine *e, unsigned in_flight)
{
	if (!e->supply || e->config.no_fill)
		return;
	atomic_store(&e->filling, supply_fill(e->supply, in_flight, now_ns()));
}

/* Filling ahead of need gives way to other users of the memory: how far is policy's. */
static unsigned idle_fills(struct engine *e)
{
	struct bandwidth_node nodes[NODES_KNOWN];
	uint64_t now;
	uint32_t n;

	if (!e->config.bandwidth)
		return FILLS_IDLE;
	now = now_ns();
	if (!e->fill_depth || now - e->fill_depth_ns > BANDWIDTH_NS) {
		n = nodes_describe(&e->config, e->team, nodes);
		e->fill_depth = placement_fill_depth(nodes, n, FILLS_IDLE);
		e->fill_depth_ns = now;
	}
	return e->fill_depth;
}

void engine_idle(struct engine *e)
{
	_Atomic uint32_t *word = e->residency ? residency_event_word(e->residency) : &e->own_event;
	uint32_t seen = atomic_load_explicit(word, memory_order_acquire);
	uint64_t wait, budget;

	e->was_idle = true;
	register_memory(e);
	fill(e, idle_fills(e));
	engine_device_boundary(e, 0, NULL); /* what is wrong with the device says the next step */
	if (atomic_load(&e->inbox) || saved_wakes(e) || atomic_load(&e->stop) || e->is_short) {
		e->is_short = false;
		return;
	}
	/* the arena's prefault tells nobody when it ends: look again now and then until then */
	wait = e->arena && !e->memory_registered ? 50000000 : 0;
	budget = e->supply ? supply_fill_wait_ns(e->supply, now_ns()) : 0;
	if (budget)
		wait = u64_min(wait ? wait : UINT64_MAX, budget + 1);
	if (e->device_dense &&
	    !e->device_lost) /* what others want of its memory, and what may be had */
		wait = u64_min(wait ? wait : UINT64_MAX, MEMORY_NS);
	if (engine_device_busy(e))
		wait = u64_min(wait ? wait : UINT64_MAX, DEVICE_NS);
	team_rests(e->team, 0, true); /* nobody waits for this thread */
	if (e->arena)
		arena_set_busy(e->arena, false);
	futex_wait(word, seen, wait);
	if (e->arena)
		arena_set_busy(e->arena, true);
	team_rests(e->team, 0, false);
}

void engine_fill(struct engine *e)
{
	uint64_t now = now_ns(), spent = reader_fill_cpu_ns(e->reader);

	if (e->was_idle) {
		e->was_idle = false;
		fill_pace_begin(&e->fill_pace, now, spent);
		if (e->supply)
			supply_withdraw_fills(e->supply);
	}
	if (fill_pace_may(&e->fill_pace, now, spent))
		fill(e, FILLS_BUSY);
}
