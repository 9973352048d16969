/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/program_pool.h: instructions and sets of bytes of a program that is being made, each once:
 * BYTES with the same set and the same sequel are one instruction. Private to program.c. One thread.
 *
 * The first failure stays in `error` (-ENOMEM, -E2BIG: a limit, or what stop_look() says) and all that is
 * asked for afterwards is PC_FAIL, which the caller throws away.
 */
#ifndef SLUICE_GRAMMAR_PROGRAM_POOL_H
#define SLUICE_GRAMMAR_PROGRAM_POOL_H

#include "grammar/program.h"

struct pool_table { /* open addressing; values + 1, 0: free */
	uint32_t *slots;
	uint32_t n, room;
};

struct pool {
	struct program *p; /* the caller's from the end on */
	const struct grammar_stop *stop;
	uint32_t room_code, room_sets, room_bounds;
	struct pool_table codes, sets;
	int error;
	uint32_t rounds;
};

/* An empty program. 0 or -ENOMEM. */
int pool_init(struct pool *o, const struct grammar_stop *stop);
/* Lets go of all but o->p. */
void pool_fini(struct pool *o);

/* A new instruction. */
uint32_t pool_code(struct pool *o, enum op op, uint32_t a, uint32_t b, uint32_t x);
/* The number of new bounds, for a LOOP. */
uint32_t pool_bounds(struct pool *o, uint32_t min, uint32_t max);
/* Takes a byte of @set, or from @lo to @hi, then goes to @next. PC_FAIL where that is. */
uint32_t pool_bytes(struct pool *o, const struct ir_set *set, uint32_t next);
uint32_t pool_range(struct pool *o, unsigned lo, unsigned hi, uint32_t next);
/* Both; one of them alone where the other is PC_FAIL or the same. */
uint32_t pool_split(struct pool *o, uint32_t a, uint32_t b);

/* When all instructions are made: classes of bytes, the largest bound, arrays without room. 0 or -errno. */
int pool_end(struct pool *o);

#endif
