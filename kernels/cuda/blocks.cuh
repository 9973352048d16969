/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/blocks.cuh: block formats as slices: 32 weights that one lane unpacks from what it loads.
 *
 * A slice is two halves of 16 neighbouring weights each, at 16 at[0] and 16 at[1] of the row: those that
 * share bytes in the format (low and high nibbles, two of four bit pairs), so that lanes with
 * neighbouring slices load neighbouring bytes and no byte of quants twice. Weight k of half h is
 * d scale[h] (q - BIAS) - dmin min[h], q in int8, scale and min whole numbers (1 in blocks of 32, whose
 * minimum is dmin with its sign turned): eight dp4a serve all formats, BIAS and minima are products with
 * the activations' sums of 16. All of a slice is one whole sum (slice_dot); floats begin with the
 * block, by the law of kernels/quant.h.
 *
 * Loads: ALIGN 16 (Q4_K, Q5_K: blocks of 144 and 176 bytes in 16-aligned rows) takes a uint4, ALIGN 2 words
 * of four bytes where they happen to lie and halves at the two ends, never a byte outside the piece.
 * Layouts: docs/models.md 1.4. Included by .cu files after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_BLOCKS_CUH
#define SLUICE_KERNELS_CUDA_BLOCKS_CUH

#include "kernels/cuda/ops.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/quant.cuh"

/* q[w] holds weights 4 w to 4 w + 3 of half 0, q[4 + w] those of half 1, the first in the lowest byte. */
struct slice {
	uint32_t q[8];
	float d, dmin;
	int scale[2], min[2];
	uint32_t at[2];
};

/* What is known of a format when compiling. */
template <int TYPE> struct block_shape {
	static constexpr int bytes = quant_shape((uint32_t)TYPE).bytes;
	static constexpr bool big = quant_shape((uint32_t)TYPE).block == 256;
	static constexpr int slices = big ? 8 : 1;
	static constexpr bool minima = TYPE == QUANT_Q4_1 || TYPE == QUANT_Q5_1 ||
				       TYPE == QUANT_Q2_K || TYPE == QUANT_Q4_K ||
				       TYPE == QUANT_Q5_K;
	static constexpr int bias = TYPE == QUANT_Q4_0	 ? 8
				    : TYPE == QUANT_Q5_0 ? 16
				    : TYPE == QUANT_Q3_K ? 4
				    : TYPE == QUANT_Q6_K ? 32
							 : 0;
	/* both halves are one run of 32 with one scale */
	static constexpr bool one = !big || TYPE == QUANT_IQ4_XS;
};

/* Formats whose rows are read 16 bytes at a time where they are aligned to it. */
static constexpr CUDA_BOTH bool gains_wide(uint32_t type)
{
	return type == QUANT_F16 || type == QUANT_BF16 || type == QUANT_Q4_K || type == QUANT_Q5_K;
}

/*
 * N words of 4 bytes at @p. ALIGN 2: @p may lie between two words; then words [1, N) of the aligned
 * ones and the halves at both ends are put together.
 */
template <int ALIGN, int N>
static __device__ __forceinline__ void block_words(const uint8_t *p, uint32_t ret[N])
{
	if (ALIGN >= 16) {
#pragma unroll
		for (int k = 0; k < N; k += 4) {
			const uint4 v = ptx_weight_16(p + 4 * k);

			ret[k] = v.x;
			ret[k + 1] = v.y;
			ret[k + 2] = v.z;
			ret[k + 3] = v.w;
		}
	} else {
		const unsigned off = (unsigned)(uintptr_t)p & 2;
		const uint32_t *words = (const uint32_t *)(p - off);
		const uint32_t sel = off ? 0x5432 : 0x3210;
		uint32_t v[N + 1];

		v[0] = ptx_weight_2(p) | (uint32_t)ptx_weight_2(p + 2 - off) << 16;
#pragma unroll
		for (int k = 1; k < N; k++)
			v[k] = ptx_weight_4(words + k);
		v[N] = ptx_weight_2(p + 4 * N - 2);
#pragma unroll
		for (int k = 0; k < N; k++)
			ret[k] = __byte_perm(v[k], v[k + 1], sel);
	}
}

/* The 17 bytes of an MXFP4 block at any address: the exponent and four words. */
static __device__ __forceinline__ uint32_t mxfp4_words(const uint8_t *p, uint32_t ret[4])
{
	const unsigned off = (unsigned)(uintptr_t)p & 3;
	const uint32_t *words = (const uint32_t *)(p - off);
	uint32_t end[5], v[5];

#pragma unroll
	for (int k = 0; k < 5; k++)
		/* 4 - off bytes before the first whole word, off + 1 after it */
		end[k] = ptx_weight_1(p + k + (k >= 4 - (int)off ? 12 : 0));
	v[0] = (end[0] | end[1] << 8 | end[2] << 16 | end[3] << 24) << 8 * off;
	v[4] = (end[1] | end[2] << 8 | end[3] << 16 | end[4] << 24) >> 8 * (3 - off);
#pragma unroll
	for (int k = 1; k < 4; k++)
		v[k] = ptx_weight_4(words + k);
#pragma unroll
	for (int k = 0; k < 4; k++)
		ret[k] = __byte_perm(v[k], v[k + 1], 0x4321 + 0x1111 * off);
	return end[0];
}

static __device__ __forceinline__ float bits_half(uint32_t bits)
{
	const uint16_t low = (uint16_t)bits;
	__half h;

	memcpy((void *)&h, &low, sizeof(h));
	return __half2float(h);
}

static __device__ __forceinline__ float block_half(const uint8_t *p)
{
	return bits_half(ptx_weight_2(p));
}

/* Four bytes of which each is x - y, all of them between -128 and 127. */
static __device__ __forceinline__ uint32_t bytes_minus(uint32_t x, uint32_t y)
{
	return ((x | 0x80808080u) - y) ^ ((x ^ ~y) & 0x80808080u);
}

/* Bit @bit of each byte of @x to bit @to of the byte. */
static __device__ __forceinline__ uint32_t move_bits(uint32_t x, int bit, uint32_t mask, int to)
{
	return (x >> bit & mask) << to;
}

/* Four consecutive bits of @bits, bit 0 to byte 0's bit 4 and so on. */
static __device__ __forceinline__ uint32_t spread_fifth(uint32_t bits)
{
	return ((bits & 1) << 4) | ((bits & 2) << 11) | ((bits & 4) << 18) | ((bits & 8) << 25);
}

/*
 * The eight nibbles of @x looked up in a table of 16 bytes (t[0]: entries 0-3, ...): low nibbles of the
 * four bytes to *low, high ones to *high. A byte permutation picks among eight; bit 3 picks among two.
 */
static __device__ __forceinline__ void table_bytes(uint32_t x, const uint32_t t[4], uint32_t *low,
						   uint32_t *high)
{
	const uint32_t pick = x & 0x77777777u, half = 0x32103210u | (x & 0x88888888u) >> 1;
	const uint32_t a =
		__byte_perm(__byte_perm(t[0], t[1], pick), __byte_perm(t[2], t[3], pick), half);
	const uint32_t b = __byte_perm(__byte_perm(t[0], t[1], pick >> 16),
				       __byte_perm(t[2], t[3], pick >> 16), half >> 16);

	*low = __byte_perm(a, b, 0x6420);
	*high = __byte_perm(a, b, 0x7531);
}

/* -127 -104 -83 -65 | -49 -35 -22 -10 | 1 13 25 38 | 53 69 89 113; twice the E2M1 values */
template <int TYPE>
static __device__ __forceinline__ void table_slice(const uint32_t x[4], uint32_t q[8])
{
	const uint32_t iq4[4] = { 0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u };
	const uint32_t fp4[4] = { 0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu };

#pragma unroll
	for (int w = 0; w < 4; w++)
		table_bytes(x[w], TYPE == QUANT_MXFP4 ? fp4 : iq4, &q[w], &q[w + 4]);
}

/* Low nibbles of 16 bytes are half 0, high ones half 1. */
static __device__ __forceinline__ void nibbles(const uint32_t x[4], uint32_t q[8])
{
#pragma unroll
	for (int w = 0; w < 4; w++) {
		q[w] = x[w] & 0x0f0f0f0fu;
		q[w + 4] = x[w] >> 4 & 0x0f0f0f0fu;
	}
}

/* Blocks of 32 weights. */
template <int TYPE>
static __device__ __forceinline__ void slice_small(const uint8_t *b, struct slice *r)
{
	constexpr bool fifth = TYPE == QUANT_Q5_0 || TYPE == QUANT_Q5_1;
	constexpr int head = TYPE == QUANT_Q4_1	  ? 4
			     : TYPE == QUANT_Q5_0 ? 6
			     : TYPE == QUANT_Q5_1 ? 8
						  : 2;
	uint32_t x[4];

	if (TYPE == QUANT_MXFP4) {
		const uint32_t e = mxfp4_words(b, x);

		/* 2^(e - 128), subnormal below e = 2 */
		r->d = __int_as_float((int)(e < 2 ? 0x00200000u << e : (e - 1) << 23));
	} else {
		r->d = block_half(b);
	}
	r->scale[0] = r->scale[1] = 1;
	if (block_shape<TYPE>::minima) {
		r->dmin = -block_half(b + 2);
		r->min[0] = r->min[1] = 1;
	}
	if constexpr (TYPE == QUANT_Q8_0) {
		block_words<2, 8>(b + 2, r->q);
		return;
	}
	if (TYPE != QUANT_MXFP4)
		block_words<2, 4>(b + head, x);
	if (TYPE == QUANT_IQ4_NL || TYPE == QUANT_MXFP4)
		table_slice<TYPE>(x, r->q);
	else
		nibbles(x, r->q);
	if (fifth) {
		const uint32_t high = ptx_weight_2(b + head - 4) |
				      (uint32_t)ptx_weight_2(b + head - 2) << 16;

#pragma unroll
		for (int w = 0; w < 8; w++)
			r->q[w] |= spread_fifth(high >> 4 * w);
	}
}

/* Q4_K and Q5_K: six-bit scale and minimum of run @j out of three words. */
static __device__ __forceinline__ void k_scale_min(const uint32_t s[3], int j, int *scale, int *min)
{
	const int shift = 8 * (j & 3);
	const uint32_t a = s[0] >> shift, b = s[1] >> shift, c = s[2] >> shift;

	*scale = (int)(j < 4 ? a & 63 : (c & 15) | (a >> 6 & 3) << 4);
	*min = (int)(j < 4 ? b & 63 : (c >> 4 & 15) | (b >> 6 & 3) << 4);
}

/* Q4_K, Q5_K: slice j is 16 bytes of quants: half of run 2c in low nibbles, of run 2c + 1 in high ones. */
template <int TYPE, int ALIGN>
static __device__ __forceinline__ void slice_k45(const uint8_t *b, int j, struct slice *r)
{
	const int c = j / 2, h = j % 2;
	uint32_t head[4], x[4];

	block_words<ALIGN, 4>(b, head);
	block_words<ALIGN, 4>(b + (TYPE == QUANT_Q4_K ? 16 : 48) + 16 * j, x);
	nibbles(x, r->q);
	if (TYPE == QUANT_Q5_K) {
		block_words<ALIGN, 4>(b + 16 + 16 * h, x);
#pragma unroll
		for (int w = 0; w < 4; w++) {
			r->q[w] |= move_bits(x[w], 2 * c, 0x01010101u, 4);
			r->q[w + 4] |= move_bits(x[w], 2 * c + 1, 0x01010101u, 4);
		}
	}
#pragma unroll
	for (int k = 0; k < 2; k++)
		k_scale_min(head + 1, 2 * c + k, &r->scale[k], &r->min[k]);
	r->d = bits_half(head[0]);
	r->dmin = bits_half(head[0] >> 16);
	r->at[0] = (uint32_t)(4 * c + h);
	r->at[1] = r->at[0] + 2;
}

/* Q3_K: six-bit scale of sub-block k of 16 out of twelve bytes. */
static __device__ __forceinline__ int q3_scale(const uint8_t *s, int k)
{
	const int low = k < 8 ? ptx_weight_1(s + k) & 15 : ptx_weight_1(s + k - 8) >> 4;

	return (low | (ptx_weight_1(s + 8 + k % 4) >> 2 * (k / 4) & 3) << 4) - 32;
}

/* Q2_K, Q3_K: slice j is two of the four bit pairs of 16 bytes. */
template <int TYPE>
static __device__ __forceinline__ void slice_k23(const uint8_t *b, int j, struct slice *r)
{
	const int half = j / 4, pair = j / 2 % 2, h = j % 2;
	uint32_t x[4], high[4];

	block_words<2, 4>(b + (TYPE == QUANT_Q2_K ? 16 : 32) + 32 * half + 16 * h, x);
	if (TYPE == QUANT_Q3_K)
		block_words<2, 4>(b + 16 * h, high);
#pragma unroll
	for (int k = 0; k < 2; k++) {
		const int sub = 8 * half + 4 * pair + h + 2 * k;

#pragma unroll
		for (int w = 0; w < 4; w++) {
			r->q[4 * k + w] = x[w] >> (4 * pair + 2 * k) & 0x03030303u;
			if (TYPE == QUANT_Q3_K)
				r->q[4 * k + w] |=
					move_bits(high[w], 4 * half + 2 * pair + k, 0x01010101u, 2);
		}
		if (TYPE == QUANT_Q2_K) {
			const uint8_t both = ptx_weight_1(b + sub);

			r->scale[k] = both & 15;
			r->min[k] = both >> 4;
		} else {
			r->scale[k] = q3_scale(b + 96, sub);
		}
		r->at[k] = (uint32_t)sub;
	}
	r->d = block_half(b + (TYPE == QUANT_Q2_K ? 80 : 108));
	if (TYPE == QUANT_Q2_K)
		r->dmin = block_half(b + 82);
}

/* Q6_K: 16 bytes of low bits, both nibbles (64 weights apart), and the two bit pairs that go with them. */
static __device__ __forceinline__ void slice_q6(const uint8_t *b, int j, struct slice *r)
{
	const int half = j / 4, l = j % 4;
	uint32_t x[4], high[4];

	block_words<2, 4>(b + 64 * half + 16 * l, x);
	block_words<2, 4>(b + 128 + 32 * half + 16 * (l % 2), high);
	nibbles(x, r->q);
#pragma unroll
	for (int w = 0; w < 4; w++) {
		r->q[w] |= move_bits(high[w], l / 2 * 2, 0x03030303u, 4);
		r->q[w + 4] |= move_bits(high[w], l / 2 * 2 + 4, 0x03030303u, 4);
	}
#pragma unroll
	for (int k = 0; k < 2; k++) {
		r->at[k] = (uint32_t)(8 * half + l + 4 * k);
		r->scale[k] = (int8_t)ptx_weight_1(b + 192 + r->at[k]);
	}
	r->d = block_half(b + 208);
}

/*
 * Q6_K for tiles of 64 weights: slice h of quarter @part: one nibble of 32 bytes. Low bits are read
 * twice, from the first cache the second time.
 */
static __device__ __forceinline__ void slice_q6_tile(const uint8_t *b, int part, int h,
						     struct slice *r)
{
	const int half = part / 2, high = part % 2;
	uint32_t x[4], pairs[4];

	block_words<2, 4>(b + 128 + 32 * half + 16 * h, pairs);
#pragma unroll
	for (int k = 0; k < 2; k++) {
		block_words<2, 4>(b + 64 * half + 32 * k + 16 * h, x);
#pragma unroll
		for (int w = 0; w < 4; w++)
			r->q[4 * k + w] = (x[w] >> 4 * high & 0x0f0f0f0fu) |
					  move_bits(pairs[w], 4 * high + 2 * k, 0x03030303u, 4);
		r->at[k] = (uint32_t)(4 * part + h + 2 * k);
		r->scale[k] = (int8_t)ptx_weight_1(b + 192 + r->at[k]);
	}
	r->d = block_half(b + 208);
}

static __device__ __forceinline__ void slice_iq4_xs(const uint8_t *b, int j, struct slice *r)
{
	const int high = ptx_weight_2(b + 2) >> 2 * j & 3;
	const int scale = (ptx_weight_1(b + 4 + j / 2) >> 4 * (j & 1) & 15) | high << 4;
	uint32_t x[4];

	r->d = block_half(b);
	r->scale[0] = r->scale[1] = scale - 32;
	block_words<2, 4>(b + 8 + 16 * j, x);
	table_slice<QUANT_IQ4_XS>(x, r->q);
}

/* Slice @i of the row at @row; TILE: such that slices 2 k and 2 k + 1 are weights [64 k, 64 k + 64) of
 * big blocks, as slices of all but Q6_K are anyway. */
template <int TYPE, int ALIGN, bool TILE = false>
static __device__ __forceinline__ void load_slice(const uint8_t *row, size_t i, struct slice *r)
{
	const int j = (int)(i % block_shape<TYPE>::slices);
	const uint8_t *b = row + i / block_shape<TYPE>::slices * block_shape<TYPE>::bytes;

	if constexpr (TYPE == QUANT_Q4_K || TYPE == QUANT_Q5_K)
		slice_k45<TYPE, ALIGN>(b, j, r);
	else if constexpr (TYPE == QUANT_Q2_K || TYPE == QUANT_Q3_K)
		slice_k23<TYPE>(b, j, r);
	else if constexpr (TYPE == QUANT_Q6_K && TILE)
		slice_q6_tile(b, j / 2, j % 2, r);
	else if constexpr (TYPE == QUANT_Q6_K)
		slice_q6(b, j, r);
	else if constexpr (TYPE == QUANT_IQ4_XS)
		slice_iq4_xs(b, j, r);
	else
		slice_small<TYPE>(b, r);
	if (block_shape<TYPE>::one) {
		r->at[0] = (uint32_t)(2 * i);
		r->at[1] = r->at[0] + 1;
	} else {
		r->at[0] += (uint32_t)(i / 8 * 16);
		r->at[1] += (uint32_t)(i / 8 * 16);
	}
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

/* The activations that a slice meets. */
struct act_slice {
	int4 x[2];
	int s[2];
	float d;
};

template <int TYPE>
static __device__ __forceinline__ void load_act(const struct act_in &a, const uint32_t at[2],
						struct act_slice *r)
{
#pragma unroll
	for (int k = 0; k < 2; k++) {
		r->x[k] = *(const int4 *)(a.q + 16 * (size_t)at[k]);
		r->s[k] = block_shape<TYPE>::minima || block_shape<TYPE>::bias ? a.s[at[k]] : 0;
	}
	r->d = a.d[at[0] / 2]; /* of a super-block all eight are the same */
}

static __device__ __forceinline__ int half_dot(const uint32_t q[4], const int4 &x)
{
	return __dp4a((int)q[3], x.w,
		      __dp4a((int)q[2], x.z, __dp4a((int)q[1], x.y, __dp4a((int)q[0], x.x, 0))));
}

/* What a slice brings to its block's sums: of scale * (q - BIAS) * a, and of min * a. */
template <int TYPE>
static __device__ __forceinline__ void slice_dot(const struct slice &r, const struct act_slice &a,
						 int *sum, int *min)
{
	using shape = block_shape<TYPE>;

	if constexpr (shape::one) {
		const int all = a.s[0] + a.s[1];

		*sum = half_dot(r.q, a.x[0]) + half_dot(r.q + 4, a.x[1]) - shape::bias * all;
		if (shape::big)
			*sum *= r.scale[0];
		*min = shape::minima ? all : 0;
	} else {
		*sum = *min = 0;
#pragma unroll
		for (int k = 0; k < 2; k++) {
			*sum += r.scale[k] * (half_dot(r.q + 4 * k, a.x[k]) - shape::bias * a.s[k]);
			if (shape::minima)
				*min += r.min[k] * a.s[k];
		}
	}
}

#endif
