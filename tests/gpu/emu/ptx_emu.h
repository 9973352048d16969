/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/ptx_emu.h: kernels/cuda/ptx.h for the CPU. Collectives of the whole warp whose last
 * lane computes for all (ptx_emu.cpp); copies wait in a queue of their thread (emu_copy.cpp).
 * The comments of ptx.h are those of these functions.
 */
#ifndef SLUICE_TESTS_GPU_PTX_EMU_H
#define SLUICE_TESTS_GPU_PTX_EMU_H

#include <cuda_runtime.h>

enum emu_mma { EMU_MMA_S8, EMU_MMA_S8_K16, EMU_MMA_F16, EMU_MMA_BF16 };
void emu_mma(enum emu_mma kind, void *d, const uint32_t *a, const uint32_t *b, const char *file,
	     int line);
void emu_ldmatrix(uint32_t *r, const void *row, int matrices, bool trans, const char *file,
		  int line);

static inline uint4 ptx_weight_16(const void *p)
{
	return *(const uint4 *)p;
}
static inline uint32_t ptx_weight_4(const void *p)
{
	return *(const uint32_t *)p;
}
static inline uint16_t ptx_weight_2(const void *p)
{
	return *(const uint16_t *)p;
}
static inline uint8_t ptx_weight_1(const void *p)
{
	return *(const uint8_t *)p;
}
void ptx_release_system(uint32_t *word, uint32_t value);

static inline void ptx_mma_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2], EMU_SITE)
{
	emu_mma(EMU_MMA_S8, d, a, b, file, line);
}
static inline void ptx_mma_s8_k16(int32_t d[4], const uint32_t a[2], uint32_t b, EMU_SITE)
{
	emu_mma(EMU_MMA_S8_K16, d, a, &b, file, line);
}
static inline void ptx_mma_s8_float(float d[4], const uint32_t a[4], const uint32_t b[2], EMU_SITE)
{
	for (int i = 0; i < 4; i++)
		d[i] = PTX_INT_FLOAT;
	emu_mma(EMU_MMA_S8, d, a, b, file, line); /* adds to the bits */
}
static inline void ptx_mma_s8_k16_float(float d[4], const uint32_t a[2], uint32_t b, EMU_SITE)
{
	for (int i = 0; i < 4; i++)
		d[i] = PTX_INT_FLOAT;
	emu_mma(EMU_MMA_S8_K16, d, a, &b, file, line);
}
static inline void ptx_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2], EMU_SITE)
{
	emu_mma(EMU_MMA_F16, d, a, b, file, line);
}
static inline void ptx_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], EMU_SITE)
{
	emu_mma(EMU_MMA_BF16, d, a, b, file, line);
}
static inline void ptx_ldmatrix_x1(uint32_t r[1], const void *row, EMU_SITE)
{
	emu_ldmatrix(r, row, 1, false, file, line);
}
static inline void ptx_ldmatrix_x2(uint32_t r[2], const void *row, EMU_SITE)
{
	emu_ldmatrix(r, row, 2, false, file, line);
}
static inline void ptx_ldmatrix_x4(uint32_t r[4], const void *row, EMU_SITE)
{
	emu_ldmatrix(r, row, 4, false, file, line);
}
static inline void ptx_ldmatrix_x2_trans(uint32_t r[2], const void *row, EMU_SITE)
{
	emu_ldmatrix(r, row, 2, true, file, line);
}
static inline void ptx_ldmatrix_x4_trans(uint32_t r[4], const void *row, EMU_SITE)
{
	emu_ldmatrix(r, row, 4, true, file, line);
}
static inline void ptx_cp_async_16(void *to, const void *from, uint32_t take = 16)
{
	emu_copy(to, from, 16, take);
}
static inline void ptx_cp_async_8(void *to, const void *from, uint32_t take = 8)
{
	emu_copy(to, from, 8, take);
}
static inline void ptx_cp_async_4(void *to, const void *from, uint32_t take = 4)
{
	emu_copy(to, from, 4, take);
}
static inline void ptx_cp_async_commit(void)
{
	emu_copy_commit();
}
template <int left> static inline void ptx_cp_async_wait(void)
{
	emu_copy_wait(left);
}

#endif
