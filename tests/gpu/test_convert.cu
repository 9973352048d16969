/* SPDX-License-Identifier: MIT */
/*
 * Description: conversion of floats: all halves and bfloats, all borders of rounding, odd places.
 *
 * The references work on the bits with integers alone. Where a value is exact or rounded once there
 * is one right answer, so all bits are compared; of a NaN only that it is one.
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <errno.h>

#define GUARD 8 /* values behind the result that must stay */

static uint32_t bits_of_half(uint16_t h)
{
	const uint32_t sign = (uint32_t)(h & 0x8000) << 16, m = h & 1023;
	uint32_t e = h >> 10 & 31, f = m;

	if (e == 31)
		return sign | 0x7f800000 | m << 13;
	if (e == 0 && m == 0)
		return sign;
	if (e != 0)
		return sign | (e + 112) << 23 | m << 13;
	for (e = 113; f < 1024; e--)
		f *= 2;
	return sign | e << 23 | (f - 1024) << 13;
}

static uint16_t half_of_bits(uint32_t b)
{
	const uint16_t sign = (uint16_t)(b >> 16 & 0x8000);
	const uint32_t a = b & 0x7fffffff, m = (a & 0x7fffff) | 0x800000, e = a >> 23;
	uint32_t cut, whole, rest;

	if (a >= 0x7f800000) /* infinities too: saturated they would look right */
		return 0x7fff;
	if (a >= 0x477fe000) /* 65504 */
		return sign | 0x7bff;
	if (e < 101) /* below 2^-26 */
		return sign;
	cut = e >= 113 ? 13 : 126 - e;
	whole = e >= 113 ? (a - (112u << 23)) >> 13 : m >> cut;
	rest = m & ((1u << cut) - 1);
	if (rest > 1u << (cut - 1) || (rest == 1u << (cut - 1) && whole & 1))
		whole++;
	return sign | (uint16_t)whole;
}

static uint16_t bfloat_of_bits(uint32_t b)
{
	if ((b & 0x7fffffff) > 0x7f800000)
		return 0x7fff;
	return (uint16_t)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}

static bool nan_of(enum cuda_float kind, uint32_t bits)
{
	const uint32_t infinite = kind == CUDA_F32   ? 0x7f800000
				  : kind == CUDA_F16 ? 0x7c00
						     : 0x7f80;

	return (bits & (kind == CUDA_F32 ? 0x7fffffff : 0x7fff)) > infinite;
}

static uint32_t want_of(enum cuda_float from, enum cuda_float to, uint32_t bits)
{
	if (to == CUDA_F16)
		return half_of_bits(bits);
	if (to == CUDA_BF16)
		return bfloat_of_bits(bits);
	if (from == CUDA_F16)
		return bits_of_half((uint16_t)bits);
	return from == CUDA_BF16 ? bits << 16 : bits;
}

/* @in and @out values of the arrays are left free in front, so that pointers are aligned or not */
template <class From, class To>
static void check(enum cuda_float from, enum cuda_float to, const std::vector<From> &x, size_t in,
		  size_t out)
{
	const To mark = (To)0x5aa5;
	const size_t count = x.size();
	std::vector<From> shifted(in, 0);
	std::vector<To> got;
	device_array<To> y(std::vector<To>(out + count + GUARD, mark));

	shifted.insert(shifted.end(), x.begin(), x.end());
	device_array<From> dx(shifted);

	check_equal("convert", count, cuda_convert(NULL, from, dx.p + in, to, y.p + out, count), 0);
	got = y.get();
	for (size_t i = 0; i < out; i++)
		check_equal("in front", i, got[i], mark);
	for (size_t i = out + count; i < got.size(); i++)
		check_equal("behind", i, got[i], mark);
	for (size_t i = 0; i < count; i++) {
		if (nan_of(from, x[i]) || nan_of(to, want_of(from, to, x[i])))
			check_equal("NaN", x[i], nan_of(to, got[out + i]), true);
		else
			check_equal("bits of", x[i], got[out + i], want_of(from, to, x[i]));
	}
}

template <class T> static std::vector<T> random_bits(size_t n)
{
	std::vector<T> v(n);

	for (T &x : v)
		x = (T)random_u32();
	return v;
}

/* Every half and the middle between it and the next one up, with the floats beside both */
static std::vector<uint32_t> half_borders(void)
{
	std::vector<uint32_t> v;

	for (uint32_t h = 0; h < 0x7c00; h++) {
		const uint32_t at = bits_of_half((uint16_t)h);
		/* 65520 is the middle above the largest: there it is held, not rounded */
		const uint32_t next = h == 0x7bff ? 0x47800000 : bits_of_half((uint16_t)(h + 1));
		const double sum =
			0.5 * ldexp((at & 0x7fffff) | (at ? 0x800000 : 0), (int)(at >> 23) - 150) +
			0.5 * ldexp((next & 0x7fffff) | 0x800000, (int)(next >> 23) - 150);
		const float middle = (float)sum;
		uint32_t m;

		memcpy(&m, &middle, sizeof(m));
		for (uint32_t sign : { 0u, 0x80000000u })
			for (uint32_t b : { at, at + 1, at ? at - 1 : at, m - 1, m, m + 1 })
				v.push_back(b | sign);
	}
	return v;
}

/* Every bfloat, the middles and the floats beside both; NaN and infinities among them */
static std::vector<uint32_t> bfloat_borders(void)
{
	std::vector<uint32_t> v;

	for (uint32_t b = 0; b < 0x10000; b++)
		for (uint32_t low : { 0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu })
			v.push_back(b << 16 | low);
	return v;
}

static void check_all_patterns(void)
{
	std::vector<uint16_t> patterns(65536);
	const std::vector<uint32_t> bits = random_bits<uint32_t>(100000);
	const std::vector<uint32_t> edges = { 0,	  0x80000000, 1,	  0x80000001,
					      0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
					      0x7f800001, 0x7fc00000, 0xffffffff, 0x477fefff,
					      0x477ff000, 0x477fffff, 0x47800000, 0xc7800000,
					      0x33000000, 0x33000001, 0x32ffffff, 0x387fffff };

	for (size_t i = 0; i < patterns.size(); i++)
		patterns[i] = (uint16_t)i;
	check<uint16_t, uint32_t>(CUDA_F16, CUDA_F32, patterns, 0, 0);
	check<uint16_t, uint32_t>(CUDA_BF16, CUDA_F32, patterns, 0, 0);
	for (const std::vector<uint32_t> &v : { bits, edges, half_borders() })
		check<uint32_t, uint16_t>(CUDA_F32, CUDA_F16, v, 0, 0);
	for (const std::vector<uint32_t> &v : { bits, edges, bfloat_borders() })
		check<uint32_t, uint16_t>(CUDA_F32, CUDA_BF16, v, 0, 0);
	check<uint32_t, uint32_t>(CUDA_F32, CUDA_F32, edges, 0, 0);
}

/* Counts around four and a block; whole, half and no alignment of either side */
static void check_places(void)
{
	for (size_t n : { 1, 3, 4, 5, 8, 1023, 1024, 1027, 4100 })
		for (size_t in : { 0, 1, 4 })
			for (size_t out : { 0, 3 }) {
				const std::vector<uint32_t> w = random_bits<uint32_t>(n);
				const std::vector<uint16_t> h = random_bits<uint16_t>(n);

				check<uint32_t, uint32_t>(CUDA_F32, CUDA_F32, w, in, out);
				check<uint32_t, uint16_t>(CUDA_F32, CUDA_F16, w, in, out);
				check<uint32_t, uint16_t>(CUDA_F32, CUDA_BF16, w, in, out);
				check<uint16_t, uint32_t>(CUDA_F16, CUDA_F32, h, in, out);
				check<uint16_t, uint32_t>(CUDA_BF16, CUDA_F32, h, in, out);
			}
}

static void check_refusals(void)
{
	device_array<uint32_t> a(8), b(8);
	char *odd = (char *)b.p + 1;
	const enum cuda_float none = (enum cuda_float)3;

	check_equal("f16 to f16", 0, cuda_convert(NULL, CUDA_F16, a.p, CUDA_F16, b.p, 4), -EINVAL);
	check_equal("bf16 to f16", 0, cuda_convert(NULL, CUDA_BF16, a.p, CUDA_F16, b.p, 4),
		    -EINVAL);
	check_equal("f16 to bf16", 0, cuda_convert(NULL, CUDA_F16, a.p, CUDA_BF16, b.p, 4),
		    -EINVAL);
	check_equal("from none", 0, cuda_convert(NULL, none, a.p, CUDA_F32, b.p, 4), -EINVAL);
	check_equal("to none", 0, cuda_convert(NULL, CUDA_F32, a.p, none, b.p, 4), -EINVAL);
	check_equal("no kind, no values", 0, cuda_convert(NULL, none, a.p, CUDA_F32, b.p, 0),
		    -EINVAL);
	check_equal("no x", 0, cuda_convert(NULL, CUDA_F32, NULL, CUDA_F16, b.p, 4), -EINVAL);
	check_equal("no out", 0, cuda_convert(NULL, CUDA_F32, a.p, CUDA_F16, NULL, 4), -EINVAL);
	check_equal("odd out", 0, cuda_convert(NULL, CUDA_F32, a.p, CUDA_F16, odd, 4), -EINVAL);
	check_equal("odd x", 0, cuda_convert(NULL, CUDA_F16, odd, CUDA_F32, a.p, 4), -EINVAL);
	check_equal("half a float", 0, cuda_convert(NULL, CUDA_F32, odd + 1, CUDA_F16, a.p, 4),
		    -EINVAL);
	check_equal("too many", 0, cuda_convert(NULL, CUDA_F32, a.p, CUDA_F16, b.p, SIZE_MAX),
		    -EINVAL);
	check_equal("none", 0, cuda_convert(NULL, CUDA_F32, NULL, CUDA_F16, NULL, 0), 0);
}

/* A prefill of 2048 tokens of the widest published rows, places at the far end included */
static void check_large(void)
{
	check<uint32_t, uint16_t>(CUDA_F32, CUDA_F16, random_bits<uint32_t>(2048 * 5120 + 3), 0, 0);
	check<uint16_t, uint32_t>(CUDA_BF16, CUDA_F32, random_bits<uint16_t>(2048 * 5120 + 3), 0,
				  0);
}

int main(int argc, char **argv)
{
	check_all_patterns();
	check_places();
	check_refusals();
	if (option_all(argc, argv))
		check_large();
	return values_report("convert");
}
