/* SPDX-License-Identifier: MIT */
/*
 * base/num.h: checked sizes, alignment, half floats. Inline only, no state, any thread.
 */
#ifndef SLUICE_BASE_NUM_H
#define SLUICE_BASE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* True when the product or sum does not fit; *ret is then undefined. */
static inline bool u64_mul_overflow(uint64_t a, uint64_t b, uint64_t *ret)
{
	return __builtin_mul_overflow(a, b, ret);
}

static inline bool u64_add_overflow(uint64_t a, uint64_t b, uint64_t *ret)
{
	return __builtin_add_overflow(a, b, ret);
}

/* @align is a power of two. */
static inline uint64_t align_up(uint64_t x, uint64_t align)
{
	return (x + align - 1) & ~(align - 1);
}

static inline uint64_t align_down(uint64_t x, uint64_t align)
{
	return x & ~(align - 1);
}

static inline bool is_pow2(uint64_t x)
{
	return x && !(x & (x - 1));
}

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t u64_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline uint64_t div_ceil(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

static inline float f32_from_bits(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

static inline uint32_t f32_bits(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof(u));
	return u;
}

/* 0 to 15; -1: no hexadecimal digit. */
static inline int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Of the bits of |x|: infinity, and above it the NaNs. Below it are the finite numbers. */
#define F32_INFINITE 0x7f800000u

static inline float f32_from_bf16(uint16_t h)
{
	return f32_from_bits((uint32_t)h << 16);
}

/* IEEE 754 binary16 -> binary32, exact, subnormals and infinities included. */
static inline float f32_from_f16(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	uint32_t exponent = (h >> 10) & 31, mantissa = h & 1023;

	if (exponent == 31)
		return f32_from_bits(sign | 0x7f800000 | mantissa << 13);
	if (exponent)
		return f32_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
	/* zero or subnormal: mantissa * 2^-24 is exact in binary32 */
	return f32_from_bits(sign | f32_bits((float)mantissa * 0x1p-24f));
}

/* binary32 -> binary16, round to nearest even: the bits that vcvtps2ph gives. NaN stays NaN. */
static inline uint16_t f16_from_f32(float f)
{
	uint32_t u = f32_bits(f), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;

	if (a > 0x7f800000)
		return (uint16_t)(sign | 0x7e00 | ((a >> 13) & 0x3ff));
	if (a >= 0x477ff000) /* rounds to 65536 or more */
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000) { /* below 2^-14: subnormal, let the FPU round at bit 2^-24 */
		float x = f32_from_bits(a) + 0.5f;

		return (uint16_t)(sign | (f32_bits(x) - 0x3f000000));
	}
	a += 0xc8000fff + ((a >> 13) & 1);
	return (uint16_t)(sign | (a >> 13));
}

#endif
