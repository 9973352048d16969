/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/include/cuda_fp16.h: half for the CPU, in software: conversions round to nearest
 * even, subnormals kept, NaN becomes 0x7fff as on the device; arithmetic is done in float or double and
 * rounded once (the exact result of +, -, * and fma of halves fits in a double).
 */
#ifndef SLUICE_EMU_CUDA_FP16_H
#define SLUICE_EMU_CUDA_FP16_H

#include <cuda_runtime.h>

static inline float emu_half_to_float(uint16_t h)
{
	const uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;

	if (rest >= 0x0f800000) /* infinite, NaN */
		return emu_bits<float>(sign | rest | 0x7f800000u);
	return emu_bits<float>(sign | emu_bits<uint32_t>(emu_bits<float>(rest) * 0x1p112f));
}

static inline uint16_t emu_half_from_float(float f)
{
	const uint32_t bits = emu_bits<uint32_t>(f), a = bits & 0x7fffffff;
	const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);

	if (a > 0x7f800000)
		return 0x7fff;
	if (a >= 0x477ff000) /* 65520: half way to what would be the next */
		return sign | 0x7c00;
	if (a < 0x38800000) /* below the normal halves: units of 2^-24 */
		return sign | (uint16_t)rintf(emu_bits<float>(a) * 0x1p24f);
	return sign | (uint16_t)((a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13);
}

/* A double rounded once: first to odd in a float, which keeps what the second rounding must know. */
static inline float emu_round_odd(double d)
{
	const float f = (float)d;
	const uint32_t bits = emu_bits<uint32_t>(f);

	if ((double)f == d || d != d || (bits & 0x7fffffff) >= 0x7f800000 || bits & 1)
		return f;
	return fabs((double)f) < fabs(d) ? emu_bits<float>(bits + 1) : emu_bits<float>(bits - 1);
}

struct __half_raw {
	unsigned short x;
};

struct alignas(2) __half {
	uint16_t bits;

	__half() = default;
	__half(float f) : bits(emu_half_from_float(f))
	{
	}
	__half(double d) : bits(emu_half_from_float(emu_round_odd(d)))
	{
	}
	__half(int i) : bits(emu_half_from_float(emu_round_odd(i)))
	{
	}
	__half(const __half_raw &r) : bits(r.x)
	{
	}
	operator float() const
	{
		return emu_half_to_float(bits);
	}
	operator __half_raw() const
	{
		return __half_raw{ bits };
	}
};

struct alignas(4) __half2 {
	__half x, y;

	__half2() = default;
	__half2(__half a, __half b) : x(a), y(b)
	{
	}
};
typedef __half half;
typedef __half2 half2;

static inline __half __float2half(float f)
{
	return __half(f);
}
static inline __half __float2half_rn(float f)
{
	return __half(f);
}
static inline __half __double2half(double d)
{
	return __half(d);
}
static inline float __half2float(__half h)
{
	return (float)h;
}
static inline __half __int2half_rn(int i)
{
	return __half(i);
}
static inline __half __ushort_as_half(unsigned short v)
{
	return __half(__half_raw{ v });
}
static inline unsigned short __half_as_ushort(__half h)
{
	return h.bits;
}
static inline short __half_as_short(__half h)
{
	return (short)h.bits;
}
static inline __half2 __halves2half2(__half a, __half b)
{
	return __half2(a, b);
}
static inline __half2 make_half2(__half a, __half b)
{
	return __half2(a, b);
}
static inline __half2 __half2half2(__half a)
{
	return __half2(a, a);
}
static inline __half2 __float2half2_rn(float f)
{
	return __half2(__half(f), __half(f));
}
static inline __half2 __floats2half2_rn(float a, float b)
{
	return __half2(__half(a), __half(b));
}
static inline __half2 __float22half2_rn(float2 f)
{
	return __floats2half2_rn(f.x, f.y);
}
static inline float2 __half22float2(__half2 h)
{
	return make_float2((float)h.x, (float)h.y);
}
static inline __half __low2half(__half2 h)
{
	return h.x;
}
static inline __half __high2half(__half2 h)
{
	return h.y;
}
static inline float __low2float(__half2 h)
{
	return (float)h.x;
}
static inline float __high2float(__half2 h)
{
	return (float)h.y;
}
static inline bool __hisnan(__half h)
{
	return (h.bits & 0x7fff) > 0x7c00;
}

#define EMU_HALF_OP(name, expression)                           \
	static inline __half name(__half a, __half b)           \
	{                                                       \
		const double x = (float)a, y = (float)b;        \
                                                                \
		return __half((double)(expression));            \
	}                                                       \
	static inline __half2 name##2(__half2 a, __half2 b)     \
	{                                                       \
		return __half2(name(a.x, b.x), name(a.y, b.y)); \
	}
EMU_HALF_OP(__hadd, x + y)
EMU_HALF_OP(__hsub, x - y)
EMU_HALF_OP(__hmul, x *y)
EMU_HALF_OP(__hmax, fmax(x, y))
EMU_HALF_OP(__hmin, fmin(x, y))
#undef EMU_HALF_OP
static inline __half __hdiv(__half a, __half b)
{
	return __half((double)(float)a / (double)(float)b);
}
static inline __half __hfma(__half a, __half b, __half c)
{
	return __half((double)(float)a * (double)(float)b + (double)(float)c);
}
static inline __half2 __hfma2(__half2 a, __half2 b, __half2 c)
{
	return __half2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
static inline __half __hneg(__half a)
{
	return __half(__half_raw{ (unsigned short)(a.bits ^ 0x8000) });
}
static inline __half2 __hneg2(__half2 a)
{
	return __half2(__hneg(a.x), __hneg(a.y));
}
static inline __half __habs(__half a)
{
	return __half(__half_raw{ (unsigned short)(a.bits & 0x7fff) });
}
static inline __half2 __habs2(__half2 a)
{
	return __half2(__habs(a.x), __habs(a.y));
}
static inline __half2 operator+(__half2 a, __half2 b)
{
	return __hadd2(a, b);
}
static inline __half2 operator-(__half2 a, __half2 b)
{
	return __hsub2(a, b);
}
static inline __half2 operator*(__half2 a, __half2 b)
{
	return __hmul2(a, b);
}
static inline __half operator+(__half a, __half b)
{
	return __hadd(a, b);
}
static inline __half operator-(__half a, __half b)
{
	return __hsub(a, b);
}
static inline __half operator*(__half a, __half b)
{
	return __hmul(a, b);
}
static inline __half operator/(__half a, __half b)
{
	return __hdiv(a, b);
}

#endif
