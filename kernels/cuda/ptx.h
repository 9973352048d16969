/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/ptx.h: the PTX instructions that CUDA C++ has no word for: tensor core products, matrix
 * loads, asynchronous copies, loads of weights and a release to the host, for sm_80 and later.
 *
 * On the CPU (tests/gpu/emu/ptx_emu.h) the same functions are exact: integer products wrap, float products
 * are summed in double and rounded once; copies arrive when they are waited for. All 32 lanes of
 * a warp must call mma and ldmatrix together. Fragments (PTX ISA, "matrix fragments for mma"), with
 * g = lane / 4, t = lane % 4, elements of a register from its low bits on:
 *   m16n8k32 s8:       a[0] row g, k 4t..4t+3; a[1] row g+8; a[2], a[3] the same, k+16
 *                      b[0] column g, k 4t..4t+3; b[1] k+16
 *   m16n8k16 s8:       a[0], a[1] and b[0] of the above
 *   m16n8k16 f16/bf16: a[0] row g, k 2t, 2t+1; a[1] row g+8; a[2], a[3] the same, k+8
 *                      b[0] column g, k 2t, 2t+1; b[1] k+8
 *   d in all:          d[0], d[1] row g, columns 2t, 2t+1; d[2], d[3] row g+8
 * ptx_mma_s8_float and _k16_float give the integer sum as a float plus PTX_INT_FLOAT, exactly, for sums
 * below 2^22: the accumulator starts as the bits of that float, so no conversion is needed.
 * Included by .cu files after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_PTX_H
#define SLUICE_KERNELS_CUDA_PTX_H

#include "kernels/cuda/launch.h"

#define PTX_INT_FLOAT	   12582912.0f /* 1.5 * 2^23 */
#define PTX_INT_FLOAT_BITS 0x4b400000

#ifndef __CUDACC__
#include "tests/gpu/emu/ptx_emu.h"
#else

/* The address that instructions on shared memory want. */
static __device__ __forceinline__ uint32_t ptx_shared(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

/*
 * Weights: memory that nothing writes while the kernel runs, by the read-only path. The compiler takes it by
 * itself only for pointers that came as arguments, and an expert's lie in a list. Sixteen bytes at a time every
 * byte is read by one instruction alone, so the first cache is left to the activations; narrower loads of
 * neighbouring lanes share sectors with the next instruction's and keep it. Aligned to their size.
 */
static __device__ __forceinline__ uint4 ptx_weight_16(const void *p)
{
	uint4 v;

	asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
	    : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
	    : "l"(p));
	return v;
}
static __device__ __forceinline__ uint32_t ptx_weight_4(const void *p)
{
	uint32_t v;

	asm("ld.global.nc.u32 %0, [%1];" : "=r"(v) : "l"(p));
	return v;
}
static __device__ __forceinline__ uint16_t ptx_weight_2(const void *p)
{
	uint16_t v;

	asm("ld.global.nc.u16 %0, [%1];" : "=h"(v) : "l"(p));
	return v;
}
static __device__ __forceinline__ uint8_t ptx_weight_1(const void *p)
{
	uint16_t v;

	asm("ld.global.nc.u8 %0, [%1];" : "=h"(v) : "l"(p));
	return (uint8_t)v;
}

/* @value to @word of the host's memory, after all that this thread knows of: what it wrote, and what the
 * block wrote before a barrier. */
static __device__ __forceinline__ void ptx_release_system(uint32_t *word, uint32_t value)
{
	asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

/* d += a b: signed bytes, 32 of them */
static __device__ __forceinline__ void ptx_mma_s8(int32_t d[4], const uint32_t a[4],
						  const uint32_t b[2])
{
	asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
	    "{%8,%9}, {%0,%1,%2,%3};"
	    : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* ... 16 of them */
static __device__ __forceinline__ void ptx_mma_s8_k16(int32_t d[4], const uint32_t a[2], uint32_t b)
{
	asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
	    "{%0,%1,%2,%3};"
	    : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(b));
}

/* d = PTX_INT_FLOAT + a b, 32 or 16 signed bytes */
static __device__ __forceinline__ void ptx_mma_s8_float(float d[4], const uint32_t a[4],
							const uint32_t b[2])
{
	int32_t r[4];

	asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
	    "{%8,%9}, {%10,%10,%10,%10};"
	    : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]),
	      "r"(PTX_INT_FLOAT_BITS));
	for (int i = 0; i < 4; i++)
		d[i] = __int_as_float(r[i]);
}
static __device__ __forceinline__ void ptx_mma_s8_k16_float(float d[4], const uint32_t a[2],
							    uint32_t b)
{
	int32_t r[4];

	asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
	    "{%7,%7,%7,%7};"
	    : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
	    : "r"(a[0]), "r"(a[1]), "r"(b), "r"(PTX_INT_FLOAT_BITS));
	for (int i = 0; i < 4; i++)
		d[i] = __int_as_float(r[i]);
}

/* d += a b: 16 halves */
static __device__ __forceinline__ void ptx_mma_f16(float d[4], const uint32_t a[4],
						   const uint32_t b[2])
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
	    "{%8,%9}, {%0,%1,%2,%3};"
	    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* d += a b: 16 bfloat16 */
static __device__ __forceinline__ void ptx_mma_bf16(float d[4], const uint32_t a[4],
						    const uint32_t b[2])
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
	    "{%8,%9}, {%0,%1,%2,%3};"
	    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/*
 * Matrices of 8 rows of 16 bytes from shared memory: lanes 8 i ... 8 i + 7 give the rows of matrix i
 * (16-aligned; other lanes' @row is not read), r[i] is 4 bytes of it: row lane / 4, bytes
 * 4 (lane % 4)... _trans: of halves, rows 2t and 2t+1 of column g instead.
 */
static __device__ __forceinline__ void ptx_ldmatrix_x1(uint32_t r[1], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
		     : "=r"(r[0])
		     : "r"(ptx_shared(row))
		     : "memory");
}
static __device__ __forceinline__ void ptx_ldmatrix_x2(uint32_t r[2], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
		     : "=r"(r[0]), "=r"(r[1])
		     : "r"(ptx_shared(row))
		     : "memory");
}
static __device__ __forceinline__ void ptx_ldmatrix_x4(uint32_t r[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(ptx_shared(row))
		     : "memory");
}
static __device__ __forceinline__ void ptx_ldmatrix_x2_trans(uint32_t r[2], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
		     : "=r"(r[0]), "=r"(r[1])
		     : "r"(ptx_shared(row))
		     : "memory");
}
static __device__ __forceinline__ void ptx_ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(ptx_shared(row))
		     : "memory");
}

/*
 * Copies of 16, 8 or 4 bytes from global to shared memory, both aligned to that size; @take bytes are
 * read, the rest becomes zeros (@from must be a valid pointer all the same only where @take > 0).
 * The bytes are there for this thread after ptx_cp_async_wait, for others after a barrier too.
 */
static __device__ __forceinline__ void ptx_cp_async_16(void *to, const void *from,
						       uint32_t take = 16)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(ptx_shared(to)),
		     "l"(from), "r"(take)
		     : "memory");
}
static __device__ __forceinline__ void ptx_cp_async_8(void *to, const void *from, uint32_t take = 8)
{
	asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(ptx_shared(to)),
		     "l"(from), "r"(take)
		     : "memory");
}
static __device__ __forceinline__ void ptx_cp_async_4(void *to, const void *from, uint32_t take = 4)
{
	asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(ptx_shared(to)),
		     "l"(from), "r"(take)
		     : "memory");
}

/* Ends a group of copies; a group may be empty. */
static __device__ __forceinline__ void ptx_cp_async_commit(void)
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most @left groups, the newest, are under way. */
template <int left> static __device__ __forceinline__ void ptx_cp_async_wait(void)
{
	asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}

#endif
#endif
