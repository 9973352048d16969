/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/emu.h: what the shim's CUDA headers are made of: a block of threads as fibers.
 *
 * emu.cpp runs the blocks of a launch, on SLUICE_EMU_THREADS workers (default: the CPUs here, at
 * most 2); within a block one fiber runs at a time, until it waits or ends. A fault of the kernel
 * (divergent barrier, mask, race, ...) is reported on stderr and ends the program with status 1.
 * Included by tests/gpu/emu/include only. See README.md there.
 */
#ifndef SLUICE_TESTS_GPU_EMU_H
#define SLUICE_TESTS_GPU_EMU_H

#include <functional>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tuple>
#include <type_traits>
#include <utility>

#define EMU_WARP 32

struct uint3 {
	unsigned x, y, z;
};

struct dim3 {
	unsigned x, y, z;
	constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c)
	{
	}
};

/* What kernels may know of the thread that runs; one per fiber. */
struct emu_self {
	struct uint3 thread, block;
	struct dim3 threads, blocks;
	unsigned index, lane; /* in the block, in the warp */
};

/* The thread that runs on this worker; NULL outside of a kernel. */
extern __thread struct emu_self *emu_now;

/* ---- launches ---- */

/* Runs @body(@arg) once per thread of the grid, which emu_refuses() does not. */
void emu_run(const char *kernel, struct dim3 grid, struct dim3 block, size_t shared,
	     void (*body)(void *arg), void *arg);

/* Whether launches of this size can be; 0 or CUDA's number of the error. */
int emu_refuses(struct dim3 grid, struct dim3 block, size_t shared);

/*
 * Puts @run at the end of @stream (runtime.cpp); NULL: runs it now. @launch: counts as a launch and may be
 * made to fail. 0 or CUDA's number of the error.
 */
int emu_enqueue(void *stream, std::function<void()> run, bool launch);

template <class... P, class... A>
static inline int emu_launch(const char *name, struct dim3 grid, struct dim3 block, size_t shared,
			     void *stream, void (*kernel)(P...), A &&...args)
{
	struct call {
		void (*kernel)(P...);
		std::tuple<P...> args;

		static void run(void *self)
		{
			std::apply(((call *)self)->kernel, ((call *)self)->args);
		}
	} c = { kernel, std::tuple<P...>(std::forward<A>(args)...) };
	const int rc = emu_refuses(grid, block, shared);

	return rc ? rc
		  : emu_enqueue(
			    stream,
			    [=]() mutable { emu_run(name, grid, block, shared, call::run, &c); },
			    true);
}

/* ---- shared memory ---- */

/* @bytes that are the same for all threads of the block, one piece per @key; 16-aligned. */
void *emu_shared_static(const void *key, size_t bytes, const char *name);
void *emu_shared_dynamic(void);

/* ---- waiting for others ---- */

/* All threads of the block wait here; returns how many of them gave @vote. */
unsigned emu_barrier(bool vote, const char *what, const char *file, int line);

/*
 * The lanes of @mask wait for each other. The last one calls @finish once with everyone's @arg
 * (NULL for lanes outside the mask); @sync: memory is ordered between them too.
 */
typedef void emu_finish(void *const *args, uint32_t mask, unsigned lane);
void emu_collective(uint32_t mask, void *arg, emu_finish *finish, bool sync, const char *what,
		    const char *file, int line);

/* The lanes of the running warp that have not ended. */
uint32_t emu_alive(void);

/* ---- memory ---- */

enum emu_atomic_op {
	EMU_ADD,
	EMU_MIN,
	EMU_MAX,
	EMU_SMIN,
	EMU_SMAX,
	EMU_EXCH,
	EMU_CAS,
	EMU_AND,
	EMU_OR,
	EMU_XOR,
	EMU_FADD,
	EMU_DADD
};
uint64_t emu_atomic(enum emu_atomic_op op, void *at, unsigned bytes, uint64_t value,
		    uint64_t compare);

/* cp.async: @take bytes of @from, then zeros to @bytes, arrive at @to when waited for. */
void emu_copy(void *to, const void *from, unsigned bytes, unsigned take);
void emu_copy_commit(void);
void emu_copy_wait(unsigned groups); /* until at most so many groups are under way */

/* Lane @lane of the running warp reads [@at, @at + @bytes): for collectives that read memory. */
void emu_reads(unsigned lane, const void *at, size_t bytes);

/* Ends the program with a report: kernel, block, thread, then the sentence. */
void emu_fail(const char *kind, const char *format, ...)
	__attribute__((format(printf, 2, 3), noreturn));

/* ---- collectives by value, at most 8 bytes ---- */

enum emu_shfl_mode { EMU_SHFL_IDX, EMU_SHFL_UP, EMU_SHFL_DOWN, EMU_SHFL_XOR };
uint64_t emu_shfl(uint32_t mask, uint64_t value, enum emu_shfl_mode mode, int by, int width,
		  const char *what, const char *file, int line);
uint32_t emu_ballot(uint32_t mask, bool vote, const char *what, const char *file, int line);
enum emu_reduce_op {
	EMU_R_ADD,
	EMU_R_MIN,
	EMU_R_MAX,
	EMU_R_SMIN,
	EMU_R_SMAX,
	EMU_R_AND,
	EMU_R_OR,
	EMU_R_XOR
};
uint32_t emu_reduce(uint32_t mask, uint32_t value, enum emu_reduce_op op, const char *file,
		    int line);
uint32_t emu_match(uint32_t mask, uint64_t value, const char *file, int line);

template <class T>
static inline T emu_shfl_any(uint32_t mask, T v, enum emu_shfl_mode mode, int by, int width,
			     const char *what, const char *file, int line)
{
	uint64_t bits = 0;

	static_assert(sizeof(T) <= 8, "a shuffle moves 8 bytes at most");
	memcpy(&bits, &v, sizeof(T));
	bits = emu_shfl(mask, bits, mode, by, width, what, file, line);
	memcpy((void *)&v, &bits, sizeof(T));
	return v;
}

#endif
