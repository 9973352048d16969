/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/shadow.cpp: the race flavour: every load and store of a kernel, seen.
 *
 * The compiler's -fsanitize=thread calls a function at each access; these are ours, the library of
 * ThreadSanitizer is not linked. For shared memory each byte remembers its last writer and three
 * readers. Two accesses, one of them a write, need a __syncthreads between them, or inside a warp a
 * __syncwarp that both lanes took part in (vector clocks); shuffles and votes order nothing. Bytes
 * nobody wrote in this block must not be read, nor those of a cp.async before it is waited for.
 * Everything outside the arena of this worker is ignored.
 */
#include "block.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct mark {
	uint32_t epoch,
		clock; /* barriers of the worker so far; the lane's own clock; epoch 0: none */
	uint16_t thread;
	bool atomic;
};

struct byte_shadow {
	struct mark writer, reader[3]; /* the last, the last of another thread, of another warp */
	uint32_t written;	       /* the block that wrote it, 0: none */
	bool pending;
};

struct emu_shadow {
	struct byte_shadow byte[EMU_ARENA];
	uint32_t epoch, block;
	uint32_t clock[EMU_WARPS][EMU_WARP][EMU_WARP]; /* [warp][lane][what it knows of lane] */
};

static void clocks_reset(struct emu_shadow *s)
{
	memset(s->clock, 0, sizeof(s->clock));
	for (auto &warp : s->clock)
		for (int lane = 0; lane < EMU_WARP; lane++)
			warp[lane][lane] = 1;
}

void emu_shadow_block(struct emu_worker *w)
{
	if (!w->shadow)
		w->shadow = (struct emu_shadow *)calloc(1, sizeof(*w->shadow));
	if (!w->shadow)
		emu_fail("no memory", "for the shadow");
	w->shadow->epoch++;
	w->shadow->block++;
	for (auto &b : w->shadow->byte)
		b.pending = false;
	clocks_reset(w->shadow);
}

void emu_shadow_barrier(struct emu_worker *w)
{
	w->shadow->epoch++;
	clocks_reset(w->shadow);
}

void emu_shadow_free(struct emu_worker *w)
{
	free(w->shadow);
	w->shadow = NULL;
}

void emu_shadow_syncwarp(struct emu_worker *w, unsigned warp, uint32_t mask)
{
	uint32_t(*clock)[EMU_WARP] = w->shadow->clock[warp];
	uint32_t all[EMU_WARP] = { 0 };

	for (int lane = 0; lane < EMU_WARP; lane++)
		for (int i = 0; mask >> lane & 1 && i < EMU_WARP; i++)
			all[i] = clock[lane][i] > all[i] ? clock[lane][i] : all[i];
	for (int lane = 0; lane < EMU_WARP; lane++)
		if (mask >> lane & 1) {
			memcpy(clock[lane], all, sizeof(all));
			clock[lane][lane]++;
		}
}

/* Whether access @m can happen at the same time as one of thread @f now */
static bool concurrent(const struct emu_shadow *s, const struct mark *m, const struct emu_fiber *f)
{
	if (m->epoch != s->epoch || m->thread == f->self.index)
		return false;
	if (m->thread / EMU_WARP != f->self.index / EMU_WARP)
		return true;
	return m->clock > s->clock[f->self.index / EMU_WARP][f->self.lane][m->thread % EMU_WARP];
}

/* Where the code of @pc was written, through binutils; reports are rare and are the last thing. */
static void print_source(const void *pc)
{
	char command[160];

	fflush(stderr);
	snprintf(command, sizeof(command),
		 "addr2line -s -i -e /proc/%d/exe %p 2>/dev/null | sed 's/^/    at /' >&2",
		 (int)getpid(), pc);
	if (system(command))
		fprintf(stderr, "    at %p\n", pc);
}

__attribute__((noreturn)) static void report(const struct emu_worker *w, struct emu_fiber *f,
					     const void *at, size_t bytes, enum emu_access access,
					     const char *kind, const struct mark *other,
					     const char *did, const void *pc)
{
	static const char *const names[] = { "read", "write", "atomic", "cp.async", "cp.async" };
	char with[128] = "";
	size_t offset;
	const char *piece = emu_piece_name(w, at, &offset);

	emu_now = &f->self;
	if (other) {
		const struct uint3 t = w->fiber[other->thread].self.thread;

		snprintf(with, sizeof(with), " of thread (%u,%u,%u)", t.x, t.y, t.z);
	}
	print_source(pc);
	emu_fail(kind, "%s of %zu bytes at %s + %zu: %s%s", names[access], bytes,
		 piece ? piece : "no array", offset, did, with);
}

static void remember_reader(struct byte_shadow *b, const struct mark *m)
{
	if (b->reader[0].epoch == m->epoch && b->reader[0].thread != m->thread) {
		if (b->reader[0].thread / EMU_WARP != m->thread / EMU_WARP)
			b->reader[2] = b->reader[0];
		b->reader[1] = b->reader[0];
	}
	b->reader[0] = *m;
}

void emu_shadow_access(struct emu_worker *w, struct emu_fiber *f, const void *at, size_t bytes,
		       enum emu_access access, const void *pc)
{
	struct emu_shadow *s = w->shadow;
	const size_t first = (size_t)((const uint8_t *)at - w->arena);
	const struct mark me = { s->epoch,
				 s->clock[f->self.index / EMU_WARP][f->self.lane][f->self.lane],
				 (uint16_t)f->self.index, access == EMU_ATOMIC };

	if ((const uint8_t *)at < w->arena || first + bytes > EMU_ARENA)
		return;
	for (size_t i = first; i < first + bytes; i++) {
		struct byte_shadow *b = &s->byte[i];

		if (i == first || i + 1 == first + bytes) {
			size_t offset;

			if (!emu_piece_name(w, w->arena + i, &offset))
				report(w, f, at, bytes, access, "out of shared memory", NULL,
				       "outside of every array", pc);
		}
		if (b->pending && access != EMU_COPY_END)
			report(w, f, at, bytes, access, "shared memory race", NULL,
			       "a cp.async to it is under way", pc);
		if (concurrent(s, &b->writer, f) && !(me.atomic && b->writer.atomic))
			report(w, f, at, bytes, access, "shared memory race", &b->writer,
			       "no barrier since the write", pc);
		if (access == EMU_READ) {
			if (b->written != s->block)
				report(w, f, at, bytes, access, "uninitialised shared memory", NULL,
				       "nobody wrote it in this block", pc);
			remember_reader(b, &me);
			continue;
		}
		if (access == EMU_ATOMIC && b->written != s->block)
			report(w, f, at, bytes, access, "uninitialised shared memory", NULL,
			       "nobody wrote it in this block", pc);
		for (const struct mark &r : b->reader)
			if (concurrent(s, &r, f))
				report(w, f, at, bytes, access, "shared memory race", &r,
				       "no barrier since the read", pc);
		b->writer = me;
		b->written = s->block;
		b->pending = access == EMU_COPY_START;
	}
}

static void seen(const void *at, size_t bytes, enum emu_access access, const void *pc)
{
	struct emu_worker *w = emu_worker;

	if (!emu_now || (const uint8_t *)at < w->arena ||
	    (const uint8_t *)at >= w->arena + EMU_ARENA)
		return;
	emu_shadow_access(w, w->now, at, bytes, access, pc);
}

/* ---- what the compiler calls ---- */
#define PC __builtin_return_address(0)
#define SEEN(n)                                 \
	void __tsan_read##n(void *p)            \
	{                                       \
		seen(p, n, EMU_READ, PC);       \
	}                                       \
	void __tsan_write##n(void *p)           \
	{                                       \
		seen(p, n, EMU_WRITE, PC);      \
	}                                       \
	void __tsan_unaligned_read##n(void *p)  \
	{                                       \
		seen(p, n, EMU_READ, PC);       \
	}                                       \
	void __tsan_unaligned_write##n(void *p) \
	{                                       \
		seen(p, n, EMU_WRITE, PC);      \
	}                                       \
	void __tsan_volatile_read##n(void *p)   \
	{                                       \
		seen(p, n, EMU_READ, PC);       \
	}                                       \
	void __tsan_volatile_write##n(void *p)  \
	{                                       \
		seen(p, n, EMU_WRITE, PC);      \
	}

extern "C" {
SEEN(1)
SEEN(2)
SEEN(4)
SEEN(8)
SEEN(16)
void __tsan_read_range(void *p, size_t n)
{
	seen(p, n, EMU_READ, PC);
}
void __tsan_write_range(void *p, size_t n)
{
	seen(p, n, EMU_WRITE, PC);
}
void __tsan_init(void)
{
}
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit(void)
{
}
void __tsan_vptr_update(void *, void *)
{
}
void __tsan_vptr_read(void *)
{
}
void __tsan_atomic_thread_fence(int)
{
}
/* guards of static variables in tests; the count of launches */
char __tsan_atomic8_load(const volatile char *p, int)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}
uint64_t __tsan_atomic64_load(const volatile uint64_t *p, int)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}
uint64_t __tsan_atomic64_fetch_add(volatile uint64_t *p, uint64_t v, int)
{
	return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);
}
}
