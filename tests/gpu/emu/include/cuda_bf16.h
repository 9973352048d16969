/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/include/cuda_bf16.h: bfloat16 for the CPU: conversions round to nearest even, NaN
 * becomes 0x7fff as on the device; arithmetic is done in double and rounded once.
 */
#ifndef SLUICE_EMU_CUDA_BF16_H
#define SLUICE_EMU_CUDA_BF16_H

#include <cuda_fp16.h>

static inline uint16_t emu_bf16_from_float(float f)
{
	const uint32_t bits = emu_bits<uint32_t>(f);

	if ((bits & 0x7fffffff) > 0x7f800000)
		return 0x7fff;
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

struct __nv_bfloat16_raw {
	unsigned short x;
};

struct alignas(2) __nv_bfloat16 {
	uint16_t bits;

	__nv_bfloat16() = default;
	__nv_bfloat16(float f) : bits(emu_bf16_from_float(f))
	{
	}
	__nv_bfloat16(double d) : bits(emu_bf16_from_float(emu_round_odd(d)))
	{
	}
	__nv_bfloat16(const __nv_bfloat16_raw &r) : bits(r.x)
	{
	}
	operator float() const
	{
		return emu_bits<float>((uint32_t)bits << 16);
	}
};

struct alignas(4) __nv_bfloat162 {
	__nv_bfloat16 x, y;

	__nv_bfloat162() = default;
	__nv_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) : x(a), y(b)
	{
	}
};
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

static inline __nv_bfloat16 __float2bfloat16(float f)
{
	return __nv_bfloat16(f);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
	return __nv_bfloat16(f);
}
static inline float __bfloat162float(__nv_bfloat16 b)
{
	return (float)b;
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b)
{
	return b.bits;
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v)
{
	return __nv_bfloat16(__nv_bfloat16_raw{ v });
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b)
{
	return __nv_bfloat162(__nv_bfloat16(a), __nv_bfloat16(b));
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b)
{
	return __nv_bfloat162(a, b);
}
static inline float2 __bfloat1622float2(__nv_bfloat162 b)
{
	return make_float2((float)b.x, (float)b.y);
}
static inline float __low2float(__nv_bfloat162 b)
{
	return (float)b.x;
}
static inline float __high2float(__nv_bfloat162 b)
{
	return (float)b.y;
}

#endif
