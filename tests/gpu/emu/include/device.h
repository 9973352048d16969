/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/include/device.h: the functions of kernels, for the CPU: barriers and warp
 * collectives (emu.cpp does them), atomics, and arithmetic with the rounding that the CUDA C++ guide
 * states; __expf and other approximations are the exact function here, rounded once, which is inside
 * of their stated error. Included by cuda_runtime.h only.
 */
#ifndef SLUICE_EMU_DEVICE_H
#define SLUICE_EMU_DEVICE_H

#define EMU_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* ---- barriers, fences ---- */
static inline void __syncthreads(EMU_SITE)
{
	emu_barrier(false, "__syncthreads", file, line);
}
static inline int __syncthreads_count(int vote, EMU_SITE)
{
	return (int)emu_barrier(vote != 0, "__syncthreads_count", file, line);
}
static inline int __syncthreads_or(int vote, EMU_SITE)
{
	return emu_barrier(vote != 0, "__syncthreads_or", file, line) != 0;
}
static inline int __syncthreads_and(int vote, EMU_SITE)
{
	return emu_barrier(vote == 0, "__syncthreads_and", file, line) == 0;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, EMU_SITE)
{
	emu_collective(mask, NULL, NULL, true, "__syncwarp", file, line);
}
static inline void __threadfence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}
static inline void __threadfence_block(void)
{
}
static inline void __threadfence_system(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}
static inline void __nanosleep(unsigned)
{
}

/* ---- warp collectives ---- */
template <class T>
static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32, EMU_SITE)
{
	return emu_shfl_any(mask, v, EMU_SHFL_IDX, from, width, "__shfl_sync", file, line);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, EMU_SITE)
{
	return emu_shfl_any(mask, v, EMU_SHFL_UP, (int)by, width, "__shfl_up_sync", file, line);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, EMU_SITE)
{
	return emu_shfl_any(mask, v, EMU_SHFL_DOWN, (int)by, width, "__shfl_down_sync", file, line);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T v, int by, int width = 32, EMU_SITE)
{
	return emu_shfl_any(mask, v, EMU_SHFL_XOR, by, width, "__shfl_xor_sync", file, line);
}
static inline unsigned __ballot_sync(unsigned mask, int vote, EMU_SITE)
{
	return emu_ballot(mask, vote != 0, "__ballot_sync", file, line);
}
static inline int __any_sync(unsigned mask, int vote, EMU_SITE)
{
	return emu_ballot(mask, vote != 0, "__any_sync", file, line) != 0;
}
static inline int __all_sync(unsigned mask, int vote, EMU_SITE)
{
	return emu_ballot(mask, vote == 0, "__all_sync", file, line) == 0;
}
static inline unsigned __activemask(void)
{
	return emu_alive();
}
template <class T> static inline unsigned __match_any_sync(unsigned mask, T v, EMU_SITE)
{
	uint64_t bits = 0;

	memcpy(&bits, &v, sizeof(T));
	return emu_match(mask, bits, file, line);
}
static inline unsigned __reduce_add_sync(unsigned mask, unsigned v, EMU_SITE)
{
	return emu_reduce(mask, v, EMU_R_ADD, file, line);
}
static inline int __reduce_add_sync(unsigned mask, int v, EMU_SITE)
{
	return (int)emu_reduce(mask, (unsigned)v, EMU_R_ADD, file, line);
}
static inline unsigned __reduce_min_sync(unsigned mask, unsigned v, EMU_SITE)
{
	return emu_reduce(mask, v, EMU_R_MIN, file, line);
}
static inline int __reduce_min_sync(unsigned mask, int v, EMU_SITE)
{
	return (int)emu_reduce(mask, (unsigned)v, EMU_R_SMIN, file, line);
}
static inline unsigned __reduce_max_sync(unsigned mask, unsigned v, EMU_SITE)
{
	return emu_reduce(mask, v, EMU_R_MAX, file, line);
}
static inline int __reduce_max_sync(unsigned mask, int v, EMU_SITE)
{
	return (int)emu_reduce(mask, (unsigned)v, EMU_R_SMAX, file, line);
}
static inline unsigned __reduce_and_sync(unsigned mask, unsigned v, EMU_SITE)
{
	return emu_reduce(mask, v, EMU_R_AND, file, line);
}
static inline unsigned __reduce_or_sync(unsigned mask, unsigned v, EMU_SITE)
{
	return emu_reduce(mask, v, EMU_R_OR, file, line);
}
static inline unsigned __reduce_xor_sync(unsigned mask, unsigned v, EMU_SITE)
{
	return emu_reduce(mask, v, EMU_R_XOR, file, line);
}

/* ---- atomics: int, unsigned, unsigned long long, float, double ---- */
template <class T> static inline T emu_atomic_any(enum emu_atomic_op op, T *at, T v, T compare)
{
	uint64_t a = 0, b = 0;
	T old;

	memcpy(&a, &v, sizeof(T));
	memcpy(&b, &compare, sizeof(T));
	a = emu_atomic(op, at, sizeof(T), a, b);
	memcpy(&old, &a, sizeof(T));
	return old;
}
template <class T> static inline T atomicAdd(T *at, std::common_type_t<T> v)
{
	return emu_atomic_any(std::is_same<T, float>::value    ? EMU_FADD
			      : std::is_same<T, double>::value ? EMU_DADD
							       : EMU_ADD,
			      at, v, v);
}
template <class T> static inline T atomicSub(T *at, std::common_type_t<T> v)
{
	return emu_atomic_any(EMU_ADD, at, (T)(0 - v), v);
}
template <class T> static inline T atomicMin(T *at, std::common_type_t<T> v)
{
	return emu_atomic_any(std::is_signed<T>::value ? EMU_SMIN : EMU_MIN, at, v, v);
}
template <class T> static inline T atomicMax(T *at, std::common_type_t<T> v)
{
	return emu_atomic_any(std::is_signed<T>::value ? EMU_SMAX : EMU_MAX, at, v, v);
}
template <class T> static inline T atomicExch(T *at, std::common_type_t<T> v)
{
	return emu_atomic_any(EMU_EXCH, at, v, v);
}
template <class T>
static inline T atomicCAS(T *at, std::common_type_t<T> compare, std::common_type_t<T> v)
{
	return emu_atomic_any(EMU_CAS, at, v, compare);
}
template <class T> static inline T atomicAnd(T *at, std::common_type_t<T> v)
{
	return emu_atomic_any(EMU_AND, at, v, v);
}
template <class T> static inline T atomicOr(T *at, std::common_type_t<T> v)
{
	return emu_atomic_any(EMU_OR, at, v, v);
}
template <class T> static inline T atomicXor(T *at, std::common_type_t<T> v)
{
	return emu_atomic_any(EMU_XOR, at, v, v);
}

/* ---- loads and stores with a hint ---- */
#define EMU_LOAD(name)                                      \
	template <class T> static inline T name(const T *p) \
	{                                                   \
		return *p;                                  \
	}
EMU_LOAD(__ldg)
EMU_LOAD(__ldcs)
EMU_LOAD(__ldca)
EMU_LOAD(__ldcg)
EMU_LOAD(__ldlu)
EMU_LOAD(__ldcv)
#undef EMU_LOAD
#define EMU_STORE(name)                                                           \
	template <class T> static inline void name(T *p, std::common_type_t<T> v) \
	{                                                                         \
		*p = v;                                                           \
	}
EMU_STORE(__stcs)
EMU_STORE(__stcg)
EMU_STORE(__stwb)
EMU_STORE(__stwt)
#undef EMU_STORE

#include "integer.h"
#include "real.h"

#endif
