/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/include/real.h: float intrinsics for the CPU: bits, conversions, operations with a
 * named rounding, fast functions. Included by device.h.
 *
 * Conversions to integers saturate and give 0 for NaN, as on the device.
 */
#ifndef SLUICE_EMU_REAL_H
#define SLUICE_EMU_REAL_H

template <class T, class F> static inline T emu_bits(F f)
{
	T t;

	static_assert(sizeof(T) == sizeof(F), "as many bits");
	memcpy((void *)&t, &f, sizeof(t));
	return t;
}
static inline float __int_as_float(int v)
{
	return emu_bits<float>(v);
}
static inline float __uint_as_float(unsigned v)
{
	return emu_bits<float>(v);
}
static inline int __float_as_int(float v)
{
	return emu_bits<int>(v);
}
static inline unsigned __float_as_uint(float v)
{
	return emu_bits<unsigned>(v);
}

/* the sum, product, ... of two floats is exact enough in double for one rounding to nearest */
static inline float __fadd_rn(float a, float b)
{
	return a + b;
}
static inline float __fsub_rn(float a, float b)
{
	return a - b;
}
static inline float __fmul_rn(float a, float b)
{
	return a * b;
}
static inline float __fdiv_rn(float a, float b)
{
	return a / b;
}
static inline float __fmaf_rn(float a, float b, float c)
{
	return fmaf(a, b, c);
}
static inline float __fsqrt_rn(float a)
{
	return sqrtf(a);
}
static inline float __frcp_rn(float a)
{
	return 1.0f / a;
}
static inline float __frsqrt_rn(float a)
{
	return (float)(1.0 / sqrt((double)a));
}
static inline float rsqrtf(float a)
{
	return (float)(1.0 / sqrt((double)a));
}
static inline float __fdividef(float a, float b)
{
	return a / b;
}
static inline float __saturatef(float a)
{
	return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f;
}

/* libm has functions of these names for itself */
#define __expf	 emu_expf
#define __exp10f emu_exp10f
#define __logf	 emu_logf
#define __log2f	 emu_log2f
#define __powf	 emu_powf
#define __sinf	 emu_sinf
#define __cosf	 emu_cosf
#define __tanhf	 emu_tanhf

static inline float emu_expf(float a)
{
	return (float)exp((double)a);
}
static inline float emu_exp10f(float a)
{
	return (float)pow(10.0, (double)a);
}
static inline float emu_logf(float a)
{
	return (float)log((double)a);
}
static inline float emu_log2f(float a)
{
	return (float)log2((double)a);
}
static inline float emu_powf(float a, float b)
{
	return (float)pow((double)a, (double)b);
}
static inline float emu_sinf(float a)
{
	return (float)sin((double)a);
}
static inline float emu_cosf(float a)
{
	return (float)cos((double)a);
}
static inline float emu_tanhf(float a)
{
	return (float)tanh((double)a);
}

static inline int emu_to_int(double v)
{
	return v != v ? 0 : v >= 2147483647.0 ? INT32_MAX : v <= -2147483648.0 ? INT32_MIN : (int)v;
}
static inline unsigned emu_to_uint(double v)
{
	return v >= 4294967295.0 ? UINT32_MAX : v > 0.0 ? (unsigned)v : 0;
}
static inline int __float2int_rn(float v)
{
	return emu_to_int(rint((double)v));
}
static inline int __float2int_rz(float v)
{
	return emu_to_int(v);
}
static inline int __float2int_rd(float v)
{
	return emu_to_int(floor((double)v));
}
static inline int __float2int_ru(float v)
{
	return emu_to_int(ceil((double)v));
}
static inline unsigned __float2uint_rn(float v)
{
	return emu_to_uint(rint((double)v));
}
static inline unsigned __float2uint_rz(float v)
{
	return emu_to_uint(v);
}
static inline float __int2float_rn(int v)
{
	return (float)v;
}
static inline float __uint2float_rn(unsigned v)
{
	return (float)v;
}

#endif
