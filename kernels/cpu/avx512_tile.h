/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx512_tile.h: what the AVX-512 level's files share; nothing outside includes it.
 *
 * One form serves decode and prefill. Sixteen rows stand in the sixteen 32-bit lanes of a register:
 * 256 weights of 16 rows are transposed while they are unpacked to unsigned bytes (struct tile, two
 * such halves), then every column multiplies the tile with vpdpbusd, four activation bytes
 * broadcast to all rows. No sum ever crosses lanes, so a column's result cannot depend on its
 * neighbours, and one column goes the same way as five hundred.
 *
 * Signed weights are stored with an offset (vpdpbusd takes unsigned times signed); the activation
 * vector carries -offset * (sums of its bytes), and accumulators start from those.
 */
#ifndef SLUICE_KERNELS_CPU_AVX512_TILE_H
#define SLUICE_KERNELS_CPU_AVX512_TILE_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define TILE_ROWS     32
#define TILE_DEPTH    256 /* weights of a row in a tile */
#define TILE_COLS     8	  /* columns that one kernel call multiplies, at most */
#define BLOCK_COLS    128 /* columns that share one unpacking, at most */
#define ROW_BYTES_MAX 288 /* of TILE_DEPTH weights of any block format: Q8_0 has 272 */

/* ACT_Q8_K: one per 256 values. Sums are of q, in units of q. */
struct act_k {
	int8_t q[256];
	int32_t by32[8]; /* -8 * sums of 32: Q4_K */
	float sum32[8];	 /* d * sums of 32 */
	float d;
	float pad[7];
	int32_t wide[8];  /* -128 * sums of 32: IQ4_XS */
	int32_t by16[16]; /* -16 * sums of 16: Q3_K, Q5_K */
	int32_t by8[32];  /* -32 * sums of 8: Q6_K */
	float sum16[16];  /* d * sums of 16: Q2_K */
};

/* ACT_Q8_0: one per 8 blocks of 32; a vector's last one may be partly used, the rest is zero. */
struct act_b {
	int8_t q[256];
	int32_t by32[8]; /* -128 * sums */
	float d[8];
	float sum[8]; /* d * sums: Q4_1, Q5_1 */
	float pad[8];
};

/* 256 weights of 32 rows; [..][h][..]: rows 16h..16h+15, row r in lane r % 16. 64-byte aligned. */
struct tile {
	uint8_t w[TILE_DEPTH / 4][2][64]; /* [k/4][h]: bytes k..k+3 of 16 rows */
	int32_t scale[16][2][16];	  /* super-blocks: of each sub-block, as (int16, 0) pairs */
	float shift[16][2][16];		  /* factor of the activation sums, scales included */
	float d[8][2][16];		  /* super-blocks: [0]; 32-blocks: one each */
};

/* What unpacks @blocks blocks (super-blocks: always one) of 16 rows, @stride bytes apart. */
typedef void (*unpack_fn)(struct tile *t, int half, const uint8_t *w, size_t stride,
			  unsigned blocks);

/*
 * acc[c][row] += tile times column c, for up to TILE_COLS columns; the activations are at
 * x[c] + @offset. @prefetch: 8 lines from here on are brought in along the way.
 */
typedef void (*kernel_fn)(const struct tile *t, const void *const *x, size_t offset,
			  float (*acc)[TILE_ROWS], unsigned blocks, const char *prefetch);

struct tile_format {
	uint32_t type;
	uint16_t block, bytes; /* as in quant.h */
	uint16_t act_bytes;    /* of TILE_DEPTH activations */
	unpack_fn unpack;
	const kernel_fn *kernel; /* [cols - 1] */
};

/* tile products: kernels_k_avx512.c, kernels_b_avx512.c; [cols - 1] */
extern const kernel_fn avx512_kernel_q4_k[TILE_COLS], avx512_kernel_q5_k[TILE_COLS];
extern const kernel_fn avx512_kernel_q6_k[TILE_COLS], avx512_kernel_q2_k[TILE_COLS];
extern const kernel_fn avx512_kernel_q3_k[TILE_COLS], avx512_kernel_iq4_xs[TILE_COLS];
extern const kernel_fn avx512_kernel_block[TILE_COLS], avx512_kernel_block_min[TILE_COLS];

/* unpackers: unpack_k_avx512.c, unpack_k2_avx512.c, unpack_b_avx512.c */
void avx512_unpack_q2_k(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_q3_k(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_q4_k(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_q5_k(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_q6_k(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_iq4_xs(struct tile *, int half, const uint8_t *w, size_t stride,
			  unsigned blocks);
void avx512_unpack_q4_0(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_q4_1(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_q5_0(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_q5_1(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_q8_0(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_iq4_nl(struct tile *, int half, const uint8_t *w, size_t stride,
			  unsigned blocks);
void avx512_unpack_mxfp4(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);

/* act_avx512.c: see struct cpu_ops */
size_t avx512_act_bytes(enum act_kind kind, size_t n);
void avx512_act_quantize(enum act_kind kind, const float *x, size_t n, void *dst);
void avx512_act_quantize_part(enum act_kind kind, const float *x, size_t n, void *dst, size_t first,
			      size_t count);

/* matmul_float_avx512.c: F32, F16, BF16 rows with f32 activations */
void avx512_matmul_float(const struct matmul *m);

/* Four registers of 32-bit words, transposed inside each 128-bit lane: t[i] word k <-> t[k] word i */
static inline void transpose_lanes(__m512i t[4])
{
	__m512i a = _mm512_unpacklo_epi32(t[0], t[1]), b = _mm512_unpackhi_epi32(t[0], t[1]);
	__m512i c = _mm512_unpacklo_epi32(t[2], t[3]), d = _mm512_unpackhi_epi32(t[2], t[3]);

	t[0] = _mm512_unpacklo_epi64(a, c);
	t[1] = _mm512_unpackhi_epi64(a, c);
	t[2] = _mm512_unpacklo_epi64(b, d);
	t[3] = _mm512_unpackhi_epi64(b, d);
}

static inline __m512i load_quarters(const uint8_t *w, size_t step)
{
	__m512i z = _mm512_castsi128_si512(_mm_loadu_si128((const void *)w));

	z = _mm512_inserti32x4(z, _mm_loadu_si128((const void *)(w + step)), 1);
	z = _mm512_inserti32x4(z, _mm_loadu_si128((const void *)(w + 2 * step)), 2);
	return _mm512_inserti32x4(z, _mm_loadu_si128((const void *)(w + 3 * step)), 3);
}

/* 16 bytes of each of 16 rows -> t[k]: word k of every row */
static inline void transpose16(const uint8_t *w, size_t stride, __m512i t[4])
{
	for (int i = 0; i < 4; i++)
		t[i] = load_quarters(w + i * stride, 4 * stride);
	transpose_lanes(t);
}

static inline __m512i load_halves(const uint8_t *w, const uint8_t *v)
{
	__m512i z = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)w));

	return _mm512_inserti64x4(z, _mm256_loadu_si256((const void *)v), 1);
}

/* 32 bytes of each of 16 rows -> t[k]: word k of every row */
static inline void transpose32(const uint8_t *w, size_t stride, __m512i t[8])
{
	__m512i a[4], b[4];

	for (int i = 0; i < 4; i++) {
		a[i] = load_halves(w + i * stride, w + (i + 4) * stride);
		b[i] = load_halves(w + (i + 8) * stride, w + (i + 12) * stride);
	}
	transpose_lanes(a);
	transpose_lanes(b);
	for (int i = 0; i < 4; i++) {
		t[i] = _mm512_shuffle_i32x4(a[i], b[i], _MM_SHUFFLE(2, 0, 2, 0));
		t[i + 4] = _mm512_shuffle_i32x4(a[i], b[i], _MM_SHUFFLE(3, 1, 3, 1));
	}
}

/* the 32-bit word at @w of each of 16 rows (15 * stride < 2^31) */
static inline __m512i gather_rows(const uint8_t *w, size_t stride)
{
	const __m512i lane =
		_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

	return _mm512_i32gather_epi32(_mm512_mullo_epi32(lane, _mm512_set1_epi32((int)stride)), w,
				      1);
}

/* the low, the high halves of 32-bit words as binary16 -> binary32 */
static inline __m512 half_low(__m512i v)
{
	return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
}

static inline __m512 half_high(__m512i v)
{
	return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(v, 16)));
}

/* the values of IQ4_NL and IQ4_XS, plus 128, in every 128-bit lane */
static inline __m512i avx512_iq4_values(void)
{
	const __m128i v = _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53,
					69, 89, 113);

	return _mm512_broadcast_i32x4(_mm_add_epi8(v, _mm_set1_epi8(-128)));
}

/* (a & mask) | (b & ~mask) */
static inline __m512i select_bits(__m512i mask, __m512i a, __m512i b)
{
	return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}

#endif
