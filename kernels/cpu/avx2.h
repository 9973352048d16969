/* SPDX-License-Identifier: MIT */
/* kernels/cpu/avx2.h: what the files of the AVX2 level share. Nobody else includes it. */
#ifndef SLUICE_KERNELS_CPU_AVX2_H
#define SLUICE_KERNELS_CPU_AVX2_H

#include <stdbool.h>

#include "kernels/cpu/scalar.h"

/* A superblock as the products want it: scales and minima of groups spread over 16-bit lanes. */
struct unpacked256 {
	int8_t q[256] __attribute__((aligned(32)));
	int16_t scale[8][16] __attribute__((aligned(32))); /* of the 16 pairs of each 32 bytes */
	int16_t min[16] __attribute__((aligned(32)));	   /* of each group of 16 */
	float d, dmin;
	bool has_min;
};

/* The same values as scalar_unpack32 and scalar_unpack256. */
void avx2_unpack32(uint32_t type, const uint8_t *src, struct block32 *b);
void avx2_unpack256(uint32_t type, const uint8_t *src, struct unpacked256 *b);

/* The same integers and scales as scalar_quantize32 and scalar_quantize256. */
void avx2_quantize32(const float *x, struct act32 *a);
void avx2_quantize256(const float *x, struct act256 *a);

#endif
