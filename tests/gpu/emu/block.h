/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/block.h: one worker and the block that it runs, for the files of the shim alone.
 *
 * A worker is an operating system thread with 1024 fiber stacks and an arena of shared memory;
 * everything here belongs to it and is touched by it alone.
 */
#ifndef SLUICE_TESTS_GPU_EMU_BLOCK_H
#define SLUICE_TESTS_GPU_EMU_BLOCK_H

#include "emu.h"

#include <deque>
#include <vector>

#define EMU_THREADS    1024
#define EMU_WARPS      (EMU_THREADS / EMU_WARP)
#define EMU_SHARED_MAX 101376 /* 99 KiB: the least that a block may ask for of sm_80 ... sm_120 */
#define EMU_GAP	       64     /* poisoned bytes between pieces of shared memory */
#define EMU_PIECES     64
#define EMU_ARENA      (EMU_SHARED_MAX + (EMU_PIECES + 2) * (EMU_GAP + 16))

enum emu_state { EMU_READY, EMU_AT_WARP, EMU_AT_BLOCK, EMU_DONE };

/* One copy under way (cp.async); group: how many commits of the thread came before */
struct emu_pending {
	uint8_t *to;
	const uint8_t *from;
	unsigned bytes, take, group;
};

struct emu_fiber {
	struct emu_self self; /* first: emu_now points here */
	enum emu_state state;
	void *sp;   /* where it stopped */
	void *fake; /* what the sanitizer knows of it */
	/* what it waits for */
	const char *what, *file;
	int line;
	uint32_t mask;
	void *arg;
	emu_finish *finish;
	bool sync, vote;
	unsigned votes; /* result of the barrier */
	/* copies under way */
	std::deque<struct emu_pending> copies;
	unsigned groups;
};

struct emu_piece {
	const void *key;
	const char *name;
	size_t at, bytes;
};

struct emu_launch_args {
	const char *kernel;
	struct dim3 grid, block;
	size_t shared;
	void (*body)(void *arg);
	void *arg;
};

struct emu_worker {
	const struct emu_launch_args *launch;
	uint8_t *stacks;
	uint8_t *arena;
	size_t arena_used, shared_used;
	struct emu_piece piece[EMU_PIECES];
	unsigned pieces;
	uint8_t *dynamic;
	struct emu_fiber fiber[EMU_THREADS];
	unsigned threads;
	struct emu_fiber *now;
	uint32_t ready[EMU_WARPS]; /* lanes that can run */
	uint32_t ready_warps;
	unsigned at_block, done;
	void *sp, *fake; /* the worker's own stack while fibers run */
	const void *bottom;
	size_t size;
	struct emu_shadow *shadow; /* of the race flavour, else NULL */
};

extern __thread struct emu_worker *emu_worker;

/* ---- what the race flavour hears (shadow.cpp); nothing in the others ---- */
void emu_shadow_block(struct emu_worker *w); /* a block begins */
void emu_shadow_barrier(struct emu_worker *w);
void emu_shadow_syncwarp(struct emu_worker *w, unsigned warp, uint32_t mask);
void emu_shadow_free(struct emu_worker *w);
enum emu_access { EMU_READ, EMU_WRITE, EMU_ATOMIC, EMU_COPY_START, EMU_COPY_END };
void emu_shadow_access(struct emu_worker *w, struct emu_fiber *f, const void *at, size_t bytes,
		       enum emu_access access, const void *pc);

/* The piece of shared memory that holds @at: its name and the offset in it. */
const char *emu_piece_name(const struct emu_worker *w, const void *at, size_t *ret_offset);

#endif
