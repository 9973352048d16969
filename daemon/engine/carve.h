/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/carve.h: laying buffers out in one range of memory.
 *
 * The same function lays out twice: with base NULL it only adds up, so that the bytes a part needs
 * are known before memory is taken; with base it hands out places. The memory is the caller's.
 */
#ifndef SLUICE_ENGINE_CARVE_H
#define SLUICE_ENGINE_CARVE_H

#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

struct carver {
	uint8_t *base; /* 64-byte aligned; NULL: count only */
	size_t used;
};

/* Room for @count things of @size bytes, 64-byte aligned; NULL where it only counts. */
static inline void *carve(struct carver *c, size_t count, size_t size)
{
	void *at = c->base ? c->base + c->used : NULL;

	c->used += align_up(count * size, 64);
	return at;
}

static inline float *carve_floats(struct carver *c, size_t count)
{
	return (float *)carve(c, count, sizeof(float));
}

#endif
