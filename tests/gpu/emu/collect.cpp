/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/collect.cpp: shuffles, votes, reductions over a warp, and atomics.
 *
 * The last lane of a collective computes for all. A shuffle from a lane that the mask does not name
 * has no defined value on the hardware and is reported. Atomics use the CPU's compare-and-swap, since
 * two workers may meet on global memory.
 */
#include "block.h"

struct shfl_arg {
	uint64_t in, out;
	enum emu_shfl_mode mode;
	int by, width;
};

/* The lane that @lane reads, its own where the guide says so. */
static int shfl_from(int lane, const struct shfl_arg *a)
{
	const int first = lane / a->width * a->width, in = lane % a->width;
	int from = lane;

	if (a->mode == EMU_SHFL_IDX)
		from = first + (int)((unsigned)a->by % (unsigned)a->width);
	else if (a->mode == EMU_SHFL_UP)
		from = in - a->by >= 0 ? lane - a->by : lane;
	else if (a->mode == EMU_SHFL_DOWN)
		from = in + a->by < a->width ? lane + a->by : lane;
	else if ((lane ^ a->by) < first + a->width && (lane ^ a->by) < EMU_WARP)
		from = lane ^ a->by;
	return from;
}

static void finish_shfl(void *const *args, uint32_t mask, unsigned last)
{
	(void)last;
	for (int lane = 0; lane < EMU_WARP; lane++) {
		struct shfl_arg *a = (struct shfl_arg *)args[lane];
		int from;

		if (!a)
			continue;
		from = shfl_from(lane, a);
		if (!args[from])
			emu_fail("warp mask", "lane %d shuffles from lane %d, not in mask %08x",
				 lane, from, mask);
		a->out = ((const struct shfl_arg *)args[from])->in;
	}
}

uint64_t emu_shfl(uint32_t mask, uint64_t value, enum emu_shfl_mode mode, int by, int width,
		  const char *what, const char *file, int line)
{
	struct shfl_arg a = { value, 0, mode, by, width };

	if (width < 1 || width > EMU_WARP || (width & (width - 1)))
		emu_fail("shuffle", "%s with width %d, %s:%d", what, width, file, line);
	emu_collective(mask, &a, finish_shfl, false, what, file, line);
	return a.out;
}

struct vote_arg {
	uint64_t in;
	uint32_t out;
	enum emu_reduce_op op;
};

static void finish_ballot(void *const *args, uint32_t, unsigned)
{
	uint32_t votes = 0;

	for (int lane = 0; lane < EMU_WARP; lane++)
		if (args[lane] && ((struct vote_arg *)args[lane])->in)
			votes |= 1u << lane;
	for (int lane = 0; lane < EMU_WARP; lane++)
		if (args[lane])
			((struct vote_arg *)args[lane])->out = votes;
}

uint32_t emu_ballot(uint32_t mask, bool vote, const char *what, const char *file, int line)
{
	struct vote_arg a = { vote, 0, EMU_R_ADD };

	emu_collective(mask, &a, finish_ballot, false, what, file, line);
	return a.out;
}

static void finish_match(void *const *args, uint32_t, unsigned)
{
	for (int lane = 0; lane < EMU_WARP; lane++)
		for (int i = 0; args[lane] && i < EMU_WARP; i++)
			if (args[i] &&
			    ((struct vote_arg *)args[i])->in == ((struct vote_arg *)args[lane])->in)
				((struct vote_arg *)args[lane])->out |= 1u << i;
}

uint32_t emu_match(uint32_t mask, uint64_t value, const char *file, int line)
{
	struct vote_arg a = { value, 0, EMU_R_ADD };

	emu_collective(mask, &a, finish_match, false, "__match_any_sync", file, line);
	return a.out;
}

static uint32_t reduce(enum emu_reduce_op op, uint32_t a, uint32_t b)
{
	switch (op) {
	case EMU_R_ADD:
		return a + b;
	case EMU_R_MIN:
		return a < b ? a : b;
	case EMU_R_MAX:
		return a > b ? a : b;
	case EMU_R_SMIN:
		return (int32_t)a < (int32_t)b ? a : b;
	case EMU_R_SMAX:
		return (int32_t)a > (int32_t)b ? a : b;
	case EMU_R_AND:
		return a & b;
	case EMU_R_OR:
		return a | b;
	case EMU_R_XOR:
		return a ^ b;
	}
	return 0;
}

static void finish_reduce(void *const *args, uint32_t, unsigned last)
{
	const enum emu_reduce_op op = ((struct vote_arg *)args[last])->op;
	bool first = true;
	uint32_t v = 0;

	for (int lane = 0; lane < EMU_WARP; lane++) {
		if (!args[lane])
			continue;
		v = first ? (uint32_t)((struct vote_arg *)args[lane])->in
			  : reduce(op, v, (uint32_t)((struct vote_arg *)args[lane])->in);
		first = false;
	}
	for (int lane = 0; lane < EMU_WARP; lane++)
		if (args[lane])
			((struct vote_arg *)args[lane])->out = v;
}

uint32_t emu_reduce(uint32_t mask, uint32_t value, enum emu_reduce_op op, const char *file,
		    int line)
{
	struct vote_arg a = { value, 0, op };

	emu_collective(mask, &a, finish_reduce, false, "__reduce_sync", file, line);
	return a.out;
}

/* ---- atomics ---- */

template <class T, class F> static F as_float(T v)
{
	F f;

	memcpy(&f, &v, sizeof(f));
	return f;
}

/* What the memory holds after @op on @old. */
template <class T, class S, class F>
static T atomic_result(enum emu_atomic_op op, T old, T value, T compare)
{
	F sum;
	T bits;

	switch (op) {
	case EMU_ADD:
		return old + value;
	case EMU_MIN:
		return old < value ? old : value;
	case EMU_MAX:
		return old > value ? old : value;
	case EMU_SMIN:
		return (S)old < (S)value ? old : value;
	case EMU_SMAX:
		return (S)old > (S)value ? old : value;
	case EMU_EXCH:
		return value;
	case EMU_CAS:
		return old == compare ? value : old;
	case EMU_AND:
		return old & value;
	case EMU_OR:
		return old | value;
	case EMU_XOR:
		return old ^ value;
	case EMU_FADD:
	case EMU_DADD:
		sum = as_float<T, F>(old) + as_float<T, F>(value);
		memcpy(&bits, &sum, sizeof(bits));
		return bits;
	}
	return old;
}

template <class T, class S, class F>
static T atomic_do(enum emu_atomic_op op, T *at, T value, T compare)
{
	T old = __atomic_load_n(at, __ATOMIC_SEQ_CST);

	while (!__atomic_compare_exchange_n(at, &old,
					    atomic_result<T, S, F>(op, old, value, compare), false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	return old;
}

uint64_t emu_atomic(enum emu_atomic_op op, void *at, unsigned bytes, uint64_t value,
		    uint64_t compare)
{
	if ((uintptr_t)at % bytes)
		emu_fail("misaligned access", "atomic of %u bytes at %p", bytes, at);
	emu_shadow_access(emu_worker, emu_worker->now, at, bytes, EMU_ATOMIC,
			  __builtin_return_address(0));
	if (bytes == 4)
		return atomic_do<uint32_t, int32_t, float>(op, (uint32_t *)at, (uint32_t)value,
							   (uint32_t)compare);
	return atomic_do<uint64_t, int64_t, double>(op, (uint64_t *)at, value, compare);
}
