/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/blocks.cuh: block formats as 32 small integers, two scales and two minima.
 *
 * Every format of models.md 1.4 falls into runs of 32 weights: weight i = s[i / 16] * q_i - m[i / 16]
 * with q_i in int8. That one shape serves all integer products: eight dp4a against the activations'
 * int8, the minima against their sums of 16. Products of one run are exact integers; float begins
 * with the scales.
 *
 * Loads: rows may be aligned to 2 bytes only (MXFP4: 1), so ALIGN says what a load of four bytes may
 * be made of. Blocks of 144, 176, 136 and 84 bytes keep an alignment of 4 when the row has it.
 * Included by .cu files after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_BLOCKS_CUH
#define SLUICE_KERNELS_CUDA_BLOCKS_CUH

#include "kernels/cuda/ops.h"
#include "kernels/quant.h"

/* 32 weights: q[w] holds weights 4 w to 4 w + 3, the first in the lowest byte. */
struct run32 {
	int q[8];
	float s[2], m[2];
};

template <int ALIGN> static __device__ __forceinline__ uint32_t block_u32(const uint8_t *p)
{
	if (ALIGN >= 4)
		return *(const uint32_t *)p;
	if (ALIGN == 2)
		return ((const uint16_t *)p)[0] | (uint32_t)((const uint16_t *)p)[1] << 16;
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static __device__ __forceinline__ float block_half(const uint8_t *p)
{
	return __half2float(*(const __half *)p);
}

/* Four bytes of which each is x - y, all of them between -128 and 127. */
static __device__ __forceinline__ int bytes_minus(uint32_t x, uint32_t y)
{
	return (int)(((x | 0x80808080u) - y) ^ ((x ^ ~y) & 0x80808080u));
}

/* Bits @bit of the four bytes of @x, each moved to bit 4 of its byte. */
static __device__ __forceinline__ uint32_t fifth_bits(uint32_t x, int bit)
{
	return (x >> bit & 0x01010101u) << 4;
}

/* Four consecutive bits of @bits, bit 0 to byte 0's bit 4 and so on. */
static __device__ __forceinline__ uint32_t spread_fifth(uint32_t bits)
{
	return ((bits & 1) << 4) | ((bits & 2) << 11) | ((bits & 4) << 18) | ((bits & 8) << 25);
}

/* Bytes of the 16-entry table (lo: entries 0-7, hi: 8-15) at the four nibbles of @x's bytes. */
static __device__ __forceinline__ int table_bytes(uint32_t x, uint64_t lo, uint64_t hi)
{
	uint32_t r = 0;

	for (int k = 0; k < 4; k++) {
		const uint32_t i = x >> 8 * k & 15;

		r |= (uint32_t)((i < 8 ? lo : hi) >> 8 * (i & 7) & 255) << 8 * k;
	}
	return (int)r;
}

#define IQ4_LO 0xf6eaddcfbfad9881ull /* -127 -104 -83 -65 -49 -35 -22 -10 */
#define IQ4_HI 0x7159453526190d01ull /* 1 13 25 38 53 69 89 113 */
#define FP4_LO 0x0c08060403020100ull /* 0 1 2 3 4 6 8 12 */
#define FP4_HI 0xf4f8fafcfdfeff00ull /* the same, negative */

/* Low nibbles of 16 bytes are weights 0-15, high ones 16-31. */
template <int ALIGN>
static __device__ __forceinline__ void nibbles32(const uint8_t *qs, uint32_t ret[8])
{
	for (int w = 0; w < 4; w++) {
		const uint32_t x = block_u32<ALIGN>(qs + 4 * w);

		ret[w] = x & 0x0f0f0f0fu;
		ret[w + 4] = x >> 4 & 0x0f0f0f0fu;
	}
}

/* Q4_K and Q5_K: six-bit scale and minimum of run j out of twelve bytes. */
static __device__ __forceinline__ void k_scale_min(const uint8_t *s, int j, int *scale, int *min)
{
	if (j < 4) {
		*scale = s[j] & 63;
		*min = s[j + 4] & 63;
	} else {
		*scale = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
		*min = s[j + 4] >> 4 | s[j] >> 6 << 4;
	}
}

/* Blocks of 32 weights. */
template <int TYPE, int ALIGN>
static __device__ __forceinline__ void run_small(const uint8_t *b, struct run32 *r)
{
	const int head = TYPE == QUANT_MXFP4 ? 1 : 2;
	uint32_t x[8];

	r->m[0] = r->m[1] = 0.0f;
	if (TYPE == QUANT_MXFP4) {
		const uint32_t e = b[0];

		/* 2^(e - 128), subnormal below e = 2 */
		r->s[0] = __int_as_float((int)(e < 2 ? 0x00200000u << e : (e - 1) << 23));
	} else {
		r->s[0] = block_half(b);
	}
	r->s[1] = r->s[0];
	if (TYPE == QUANT_Q8_0) {
		for (int w = 0; w < 8; w++)
			r->q[w] = (int)block_u32<ALIGN>(b + 2 + 4 * w);
		return;
	}
	if (TYPE == QUANT_Q4_1 || TYPE == QUANT_Q5_1)
		r->m[0] = r->m[1] = -block_half(b + 2);
	if (TYPE == QUANT_Q4_0 || TYPE == QUANT_IQ4_NL || TYPE == QUANT_MXFP4)
		nibbles32<ALIGN>(b + head, x);
	else
		nibbles32<ALIGN>(b + (TYPE == QUANT_Q4_1 ? 4 : TYPE == QUANT_Q5_0 ? 6 : 8), x);
	if (TYPE == QUANT_Q5_0 || TYPE == QUANT_Q5_1) {
		const uint32_t high = block_u32<ALIGN>(b + (TYPE == QUANT_Q5_0 ? 2 : 4));

		for (int w = 0; w < 8; w++)
			x[w] |= spread_fifth(high >> 4 * w);
	}
	for (int w = 0; w < 8; w++) {
		if (TYPE == QUANT_IQ4_NL)
			r->q[w] = table_bytes(x[w], IQ4_LO, IQ4_HI);
		else if (TYPE == QUANT_MXFP4)
			r->q[w] = table_bytes(x[w], FP4_LO, FP4_HI);
		else if (TYPE == QUANT_Q4_0)
			r->q[w] = bytes_minus(x[w], 0x08080808u);
		else if (TYPE == QUANT_Q5_0)
			r->q[w] = bytes_minus(x[w], 0x10101010u);
		else
			r->q[w] = (int)x[w];
	}
}

/* Q4_K, Q5_K: runs 2 c and 2 c + 1 are the low and the high nibbles of chunk c's 32 bytes. */
template <int TYPE, int ALIGN>
static __device__ __forceinline__ void run_k45(const uint8_t *b, int j, struct run32 *r)
{
	const uint8_t *qs = b + (TYPE == QUANT_Q4_K ? 16 : 48) + 32 * (j / 2);
	int scale, min;

	k_scale_min(b + 4, j, &scale, &min);
	r->s[0] = r->s[1] = block_half(b) * (float)scale;
	r->m[0] = r->m[1] = block_half(b + 2) * (float)min;
	for (int w = 0; w < 8; w++) {
		uint32_t x = block_u32<ALIGN>(qs + 4 * w) >> 4 * (j & 1) & 0x0f0f0f0fu;

		if (TYPE == QUANT_Q5_K)
			x |= fifth_bits(block_u32<ALIGN>(b + 16 + 4 * w), j);
		r->q[w] = (int)x;
	}
}

/* Q3_K: six-bit scale of sub-block k of 16 out of twelve bytes. */
static __device__ __forceinline__ int q3_scale(const uint8_t *s, int k)
{
	const int low = k < 8 ? s[k] & 15 : s[k - 8] >> 4;

	return (low | (s[8 + k % 4] >> 2 * (k / 4) & 3) << 4) - 32;
}

/* Q2_K, Q3_K, Q6_K: run j is quarter j % 4 of half j / 4, with two sub-blocks of 16. */
template <int TYPE, int ALIGN>
static __device__ __forceinline__ void run_k236(const uint8_t *b, int j, struct run32 *r)
{
	const int half = j / 4, part = j % 4, shift = 2 * part;

	r->m[0] = r->m[1] = 0.0f;
	for (int k = 0; k < 2; k++) {
		const int sub = 2 * j + k;

		if (TYPE == QUANT_Q2_K) {
			r->s[k] = block_half(b + 80) * (float)(b[sub] & 15);
			r->m[k] = block_half(b + 82) * (float)(b[sub] >> 4);
		} else if (TYPE == QUANT_Q3_K) {
			r->s[k] = block_half(b + 108) * (float)q3_scale(b + 96, sub);
		} else {
			r->s[k] = block_half(b + 208) * (float)(int8_t)b[192 + sub];
		}
	}
	for (int w = 0; w < 8; w++) {
		uint32_t x;

		if (TYPE == QUANT_Q6_K) {
			x = block_u32<ALIGN>(b + 64 * half + 32 * (part & 1) + 4 * w);
			x = x >> (part < 2 ? 0 : 4) & 0x0f0f0f0fu;
			x |= (block_u32<ALIGN>(b + 128 + 32 * half + 4 * w) >> shift & 0x03030303u)
			     << 4;
			r->q[w] = bytes_minus(x, 0x20202020u);
		} else if (TYPE == QUANT_Q3_K) {
			x = block_u32<ALIGN>(b + 32 + 32 * half + 4 * w) >> shift & 0x03030303u;
			x |= (block_u32<ALIGN>(b + 4 * w) >> j & 0x01010101u) << 2;
			r->q[w] = bytes_minus(x, 0x04040404u);
		} else {
			x = block_u32<ALIGN>(b + 16 + 32 * half + 4 * w) >> shift & 0x03030303u;
			r->q[w] = (int)x;
		}
	}
}

template <int ALIGN>
static __device__ __forceinline__ void run_iq4_xs(const uint8_t *b, int j, struct run32 *r)
{
	const int high = *(const uint16_t *)(b + 2) >> 2 * j & 3;
	const int scale = (b[4 + j / 2] >> 4 * (j & 1) & 15) | high << 4;
	uint32_t x[8];

	r->m[0] = r->m[1] = 0.0f;
	r->s[0] = r->s[1] = block_half(b) * (float)(scale - 32);
	nibbles32<ALIGN>(b + 8 + 16 * j, x);
	for (int w = 0; w < 8; w++)
		r->q[w] = table_bytes(x[w], IQ4_LO, IQ4_HI);
}

/* Bytes and runs of a block. */
template <int TYPE> struct block_shape {
	static constexpr int bytes = TYPE == QUANT_Q4_0	    ? 18
				     : TYPE == QUANT_Q4_1   ? 20
				     : TYPE == QUANT_Q5_0   ? 22
				     : TYPE == QUANT_Q5_1   ? 24
				     : TYPE == QUANT_Q8_0   ? 34
				     : TYPE == QUANT_Q2_K   ? 84
				     : TYPE == QUANT_Q3_K   ? 110
				     : TYPE == QUANT_Q4_K   ? 144
				     : TYPE == QUANT_Q5_K   ? 176
				     : TYPE == QUANT_Q6_K   ? 210
				     : TYPE == QUANT_IQ4_NL ? 18
				     : TYPE == QUANT_IQ4_XS ? 136
							    : 17;
	static constexpr bool big = TYPE == QUANT_Q2_K || TYPE == QUANT_Q3_K ||
				    TYPE == QUANT_Q4_K || TYPE == QUANT_Q5_K ||
				    TYPE == QUANT_Q6_K || TYPE == QUANT_IQ4_XS;
	static constexpr int runs = big ? 8 : 1;
};

/* Run @i of the row at @row: weights [32 i, 32 i + 32). */
template <int TYPE, int ALIGN>
static __device__ __forceinline__ void load_run(const uint8_t *row, size_t i, struct run32 *r)
{
	const int j = (int)(i % block_shape<TYPE>::runs);
	const uint8_t *b = row + i / block_shape<TYPE>::runs * block_shape<TYPE>::bytes;

	if (TYPE == QUANT_Q4_K || TYPE == QUANT_Q5_K)
		run_k45<TYPE, ALIGN>(b, j, r);
	else if (TYPE == QUANT_Q2_K || TYPE == QUANT_Q3_K || TYPE == QUANT_Q6_K)
		run_k236<TYPE, ALIGN>(b, j, r);
	else if (TYPE == QUANT_IQ4_XS)
		run_iq4_xs<ALIGN>(b, j, r);
	else
		run_small<TYPE, ALIGN>(b, r);
}

/* One int8 row of the activations (ops.h). */
struct act_in {
	const int8_t *q;
	const float *d;
	const int16_t *s;
};

static __device__ __forceinline__ struct act_in act_in_at(const void *act, size_t n, size_t row)
{
	const uint8_t *base = (const uint8_t *)act + row * cuda_act_bytes(n);
	struct act_in a;

	a.q = (const int8_t *)base;
	a.d = (const float *)(base + n);
	a.s = (const int16_t *)(base + n + n / 32 * 4);
	return a;
}

/* acc + run . activations [32 i, 32 i + 32): exact in int, then the scales in one order. */
template <int TYPE>
static __device__ __forceinline__ float run_dot(const struct run32 *r, const struct act_in &a,
						size_t i, float acc)
{
	const int4 x0 = *(const int4 *)(a.q + 32 * i), x1 = *(const int4 *)(a.q + 32 * i + 16);
	constexpr bool minima = TYPE == QUANT_Q4_1 || TYPE == QUANT_Q5_1 || TYPE == QUANT_Q2_K ||
				TYPE == QUANT_Q4_K || TYPE == QUANT_Q5_K;
	int lo = __dp4a(r->q[0], x0.x, 0), hi = __dp4a(r->q[4], x1.x, 0);
	float sum;

	lo = __dp4a(r->q[3], x0.w, __dp4a(r->q[2], x0.z, __dp4a(r->q[1], x0.y, lo)));
	hi = __dp4a(r->q[7], x1.w, __dp4a(r->q[6], x1.z, __dp4a(r->q[5], x1.y, hi)));
	sum = fmaf(r->s[0], (float)lo, r->s[1] * (float)hi);
	if (minima)
		sum -= fmaf(r->m[0], (float)a.s[2 * i], r->m[1] * (float)a.s[2 * i + 1]);
	return fmaf(a.d[i], sum, acc);
}

#endif
