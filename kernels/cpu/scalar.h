/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/scalar.h: the reference form of every block format, shared by the scalar level's
 * files and by tests. A block is unpacked into small integers and its scales; everything else
 * (dequantising, products) is written once on top of that.
 * Formats: docs/models.md 1.4, after the GGUF specification and ggml's block layouts.
 */
#ifndef SLUICE_KERNELS_CPU_SCALAR_H
#define SLUICE_KERNELS_CPU_SCALAR_H

#include <stddef.h>
#include <stdint.h>

/* w[i] = scale * q[i] + min: a block of 32 weights. */
struct block32 {
	float scale, min;
	int8_t q[32];
};

/* w[i] = d * scale[i / 16] * q[i] - dmin * min[i / 16]: a superblock of 256 weights. */
struct block256 {
	float d, dmin;
	int16_t scale[16], min[16];
	int8_t q[256];
};

/* One block of the 32- or 256-formats; @type must be one of them. */
void scalar_unpack32(uint32_t type, const uint8_t *src, struct block32 *b);
void scalar_unpack256(uint32_t type, const uint8_t *src, struct block256 *b);

/* scalar_iq.c: of those, IQ1_*, IQ2_*, IQ3_* and TQ*; scalar_unpack256() calls it. */
void scalar_unpack_iq(uint32_t type, const uint8_t *src, struct block256 *b);

/* Activation blocks of the scalar level. x[i] = d * q[i]; sums over all 32, or over each 16. */
struct act32 {
	float d;
	int32_t sum;
	int8_t q[32];
};

struct act256 {
	float d;
	int16_t sum[16];
	int8_t q[256];
};

/*
 * The quantisation rules, the same integers and scales on every level:
 * 32: d = max|x| / 127, q = round half away from zero of x * (1 / d); all zero: d = 0.
 * 256: m = the x of largest |x| (the first of equals), q = min(127, rint(x * (-127 / m))),
 *      d = 1 / (-127 / m).
 * A block that holds an infinity or a NaN gets d = NaN, and all its integers are 0: int8 cannot
 * carry such a value, the scale can, so that every product of the block is NaN.
 */
void scalar_quantize32(const float *x, struct act32 *a);
void scalar_quantize256(const float *x, struct act256 *a);

void scalar_dequantize(uint32_t type, const void *src, float *dst, size_t n);

#endif
