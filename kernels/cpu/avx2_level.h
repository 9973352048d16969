/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_level.h: what the AVX2 level's files share; nothing outside includes it.
 *
 * Super-blocks are unpacked to struct super, in the order of the row, and multiplied one at a time
 * (avx2_rows.h, avx2_few.h) or turned first, so that rows stand in the lanes (avx2_many.h); K and some other
 * formats have files of their own for a few columns (avx2_pair.h, avx2_k.h), as blocks of 32 do for all. What all share are the activations. Each
 * row takes its blocks one after the other as the law in quant.h says.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_LEVEL_H
#define SLUICE_KERNELS_CPU_AVX2_LEVEL_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define AVX2_COLS      4 /* columns that one pass over turned rows multiplies, at most */
#define AVX2_FEW       8 /* columns that one pass over streamed rows multiplies, at most */
#define AVX2_ALONE     4 /* up to so many columns may have rows in the lanes */
#define AVX2_ROWS      8 /* rows that stand in lanes */
#define PAIR_COLS      4 /* columns that pairs of super-blocks meet, at most */
#define MANY_VECTORS   2 /* of AVX2_ROWS rows, that many columns pass over together */
#define PREFETCH_AHEAD MATMUL_AHEAD /* bytes before use; running past the weights is harmless */

/* ACT_Q8_K: one per 256 values, in their order; sums of the int8 values per 16. */
struct act_super {
	int8_t q[256];
	int16_t sum[16];
	int16_t sum32[8]; /* the same per 32 */
	float d;
	int32_t total; /* the sum of all */
	float pad[2];
};

/* ACT_Q8_0: one per eight blocks; a vector's last one may be partly used, the rest is zero. */
struct act_group {
	int8_t q[8][32];
	float d[8];
	float sum[8]; /* of q: whole numbers */
	/* -16 times the sums of a block's values 4k and 4k + 1, and of 4k + 2 and 4k + 3 */
	int16_t less16[8][2];
};

/*
 * 256 weights with scales per 16:
 *   SUPER_MIN     w = d * scale * q - dmin * min, q unsigned: turned only
 *   SUPER_OFFSET  w = d * (scale * q - min), q unsigned: min is the constant that makes q signed
 *   SUPER_SIGNED  w = d * scale * q, q signed
 *   SUPER_SIGNS   w = d * scale * sign * q, q unsigned: streamed only, signs of 1 and -1 apart
 *   SUPER_TERNARY w = d * (q - 1), q below 4: streamed only
 */
enum super_form { SUPER_MIN, SUPER_OFFSET, SUPER_SIGNED, SUPER_SIGNS, SUPER_TERNARY };

struct super {
	__m256i q[8];
	__m256i scale, min; /* 16 int16 */
	__m128i min32;	    /* min once per 32, where they are per 32 */
	uint32_t head;	    /* d as it is stored, where rows are streamed */
	float d, dmin;
};

/*
 * What is known of a format of super-blocks: constants where it is inlined. each: weights per scale and
 * minimum, 16 or 32; factor: a power of two that d is to be multiplied with.
 */
struct super_kind {
	enum super_form form;
	float factor;
	size_t bytes;
};

typedef void (*super_unpack_fn)(const uint8_t *w, struct super *s, __m256i *sign);

struct lanes; /* avx2_many.h */

/*
 * One format. rows: @rows rows from @row on times columns [col, col + cols), cols at most AVX2_FEW, streamed.
 * More columns: unpack, of one super-block, and many (avx2_many.h), where each @min_each weights have a
 * minimum; NULL: streamed as well.
 */
struct avx2_format {
	uint32_t type;
	uint16_t bytes; /* of a block or super-block */
	void (*rows)(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
	void (*unpack)(const uint8_t *w, struct super *to);
	void (*many)(const struct lanes *t, const struct act_super *const *x, int cols, size_t b,
		     __m256 (*acc)[MANY_VECTORS]);
	int min_each;
};

/* The table row of a format whose rows are streamed for all columns. */
#define STREAMED(T, t)                                                \
	const struct avx2_format avx2_##t = {                         \
		QUANT_##T, QUANT_##T##_BYTES, rows_##t, NULL, NULL, 0 \
	};

extern const struct avx2_format avx2_q4_k, avx2_q5_k, avx2_q6_k, avx2_q2_k, avx2_q3_k, avx2_iq4_xs;
extern const struct avx2_format avx2_q4_0, avx2_q4_1, avx2_q5_0, avx2_q5_1, avx2_q8_0, avx2_iq4_nl,
	avx2_mxfp4;
extern const struct avx2_format avx2_iq2_xxs, avx2_iq2_xs, avx2_iq2_s, avx2_iq3_xxs, avx2_iq3_s,
	avx2_iq1_s, avx2_iq1_m, avx2_tq1_0, avx2_tq2_0;

/* act_avx2.c: see struct cpu_ops */
size_t avx2_act_bytes(enum act_kind kind, size_t n);
void avx2_act_quantize(enum act_kind kind, const float *x, size_t n, void *dst);
void avx2_act_quantize_part(enum act_kind kind, const float *x, size_t n, void *dst, size_t first,
			    size_t count);

/*
 * What the super-blocks of eight rows add up to, as streaming keeps it in a call's scratch (struct
 * numbers in avx2_rows.h): floats in each of its arrays, of which eight may be stored at once and
 * loaded at once from any row's end; bytes of all.
 */
static inline size_t avx2_numbers_floats(size_t blocks)
{
	return AVX2_ROWS * blocks + 8;
}

static inline size_t avx2_numbers_bytes(size_t blocks)
{
	return (1 + AVX2_ALONE) * avx2_numbers_floats(blocks) * sizeof(float);
}

/*
 * Up to AVX2_FEW columns side by side, 256 values of each: what a pass over streamed rows reads of
 * them, one behind the other, in a call's scratch. Columns that are not there are zero.
 */
struct few_super {
	int8_t q[AVX2_FEW][256];
	int32_t pair[8][AVX2_FEW]; /* sums of 16, two int16 each */
	float d[AVX2_FEW];
	int32_t total[AVX2_FEW]; /* as in struct act_super */
};

/* Bytes of 256 activations of a column that a format lays out its own way (avx2_laid.h), and columns, at most. */
#define AVX2_LAID      544
#define AVX2_LAID_COLS 2

/* Vectors of a column's activations of eight super-blocks as avx2_eight.h lays them: of words, one of sums. */
#define EIGHT_VECTORS 65

/* In rows of @blocks super-blocks, one behind the other: at how many of them do eights begin? */
static inline size_t avx2_eight_phases(size_t blocks)
{
	size_t n = blocks;

	for (int i = 0; i < 3 && n % 2 == 0; i++)
		n /= 2;
	return n;
}

/* whether layouts of activations for all of these are not many times as large as a row */
static inline bool avx2_eight_small(size_t blocks)
{
	return blocks <= 4 || blocks % 4 == 0 || blocks == 6;
}

/*
 * Whether rows of @m, of super-blocks of @bytes, are walked with @cols columns as avx2_eight.h does: they have no
 * gaps, and in narrow ones laying more columns costs more than it gains.
 */
static inline bool avx2_eight_fits(const struct matmul *m, size_t bytes, int cols)
{
	const size_t blocks = m->n / 256;

	return avx2_eight_small(blocks) && m->row_bytes == blocks * bytes &&
	       (cols <= 4 || blocks >= 8);
}

/* of scratch for it, for rows of @blocks super-blocks */
static inline size_t avx2_eight_bytes(size_t blocks)
{
	if (!avx2_eight_small(blocks))
		return 0;
	return avx2_eight_phases(blocks) * AVX2_FEW * EIGHT_VECTORS * sizeof(__m256i) +
	       (1 + AVX2_FEW) * avx2_numbers_floats(blocks) * sizeof(float);
}

/* few_b_avx2.c: @rows rows from @row on times columns [col, col + cols), at most AVX2_FEW */
void avx2_few_q4_0(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_few_q4_1(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_few_q5_0(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_few_q5_1(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_few_q8_0(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_few_iq4_nl(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_few_mxfp4(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);

/* pair_b_avx2.c: the same, two to four columns */
void avx2_pair_q4_0(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_pair_q4_1(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_pair_q5_0(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_pair_q5_1(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_pair_iq4_nl(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_pair_mxfp4(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);

/* side_b_avx2.c: column @col alone */
void avx2_side_q4_0(const struct matmul *m, size_t row, size_t rows, size_t col);
void avx2_side_q4_1(const struct matmul *m, size_t row, size_t rows, size_t col);
void avx2_side_q5_0(const struct matmul *m, size_t row, size_t rows, size_t col);
void avx2_side_q5_1(const struct matmul *m, size_t row, size_t rows, size_t col);
void avx2_side_iq4_nl(const struct matmul *m, size_t row, size_t rows, size_t col);
void avx2_side_mxfp4(const struct matmul *m, size_t row, size_t rows, size_t col);
/* side_xs_avx2.c: columns [col, col + cols), at most AVX2_LAID_COLS */
void avx2_side_iq4_xs(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);

/* rows_iq_avx2.c, rows_iq1_avx2.c: columns [col, col + cols), at most AVX2_FEW */
void avx2_rows_iq2_xxs(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_rows_iq2_xs(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_rows_iq2_s(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_rows_iq3_xxs(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_rows_iq3_s(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_rows_iq1_s(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_rows_iq1_m(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);

/* few_k_avx2.c, few_xs_avx2.c: the same of super-blocks */
void avx2_few_q2_k(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_few_q3_k(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_few_q4_k(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_few_q5_k(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_few_iq4_xs(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);

/* pair_k_avx2.c: the same, at most PAIR_COLS; avx2_pair_bytes: of scratch, for rows of @blocks super-blocks */
void avx2_pair_q2_k(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_pair_q3_k(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_pair_q4_k(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_pair_q5_k(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_pair_q6_k(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
size_t avx2_pair_bytes(size_t blocks);

/* eight_tq_avx2.c: the same where avx2_eight_fits(), two to AVX2_FEW columns, of TQ2_0 four */
void avx2_eight_tq1_0(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
void avx2_eight_tq2_0(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);

/* few_avx2.c: columns [col, col + cols) of a product to its scratch */
void avx2_pack_super(const struct matmul *m, size_t col, int cols);

/* matmul_float_avx2.c: rows of F32, F16, BF16 times f32 activations */
void avx2_matmul_float(const struct matmul *m);

/* the fixed tree over the eight lanes of a (row, column) of the float formats */
FORCE_INLINE float add_lanes(__m256 v)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* lane 0: the even, the odd lanes of a and b crossed and added: a step towards a sum of lanes */
FORCE_INLINE __m256i sum_pair(__m256i a, __m256i b)
{
	return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}

/* in each half: the sums of a half of the vectors behind two sum_pair() */
FORCE_INLINE __m256i sum_four(__m256i ab, __m256i cd)
{
	return _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
}

/* lane i: the sum of the eight lanes of vector i, four vectors behind each sum_four() */
FORCE_INLINE __m256i sum_halves(__m256i first, __m256i second)
{
	return _mm256_add_epi32(_mm256_permute2x128_si256(first, second, 0x20),
				_mm256_permute2x128_si256(first, second, 0x31));
}

/* lane i: the sum of the eight lanes of v[i], as a float */
FORCE_INLINE __m256 eight_sums(const __m256i *v)
{
	return _mm256_cvtepi32_ps(sum_halves(sum_four(sum_pair(v[0], v[1]), sum_pair(v[2], v[3])),
					     sum_four(sum_pair(v[4], v[5]), sum_pair(v[6], v[7]))));
}

/* v[i] lane k <-> v[k] lane i */
FORCE_INLINE void transpose8(__m256i v[8])
{
	__m256i t[8], u[8];

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		t[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
		t[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
	}
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		u[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
		u[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
		u[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
		u[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		v[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
		v[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
	}
}

/* y + (d * dx) * whole: how a block's sum joins the rows in the lanes */
FORCE_INLINE __m256 add_scaled(__m256 y, __m256 d, float dx, __m256 whole)
{
	return _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(dx)), whole, y);
}

/* y - (dmin * dx) * whole */
FORCE_INLINE __m256 take_scaled(__m256 y, __m256 dmin, float dx, __m256 whole)
{
	return _mm256_fnmadd_ps(_mm256_mul_ps(dmin, _mm256_set1_ps(dx)), whole, y);
}

FORCE_INLINE float half_at(const uint8_t *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof(h));
	return _cvtsh_ss(h);
}

FORCE_INLINE __m256i load32(const void *p)
{
	return _mm256_loadu_si256((const __m256i *)p);
}

/* the low and the high halves of words as binary16 -> binary32 */
FORCE_INLINE void two_halves(__m256i word, __m256 *low, __m256 *high)
{
	const __m256i both = _mm256_permute4x64_epi64(
		_mm256_packus_epi32(_mm256_and_si256(word, _mm256_set1_epi32(0xffff)),
				    _mm256_srli_epi32(word, 16)),
		0xd8);

	*low = _mm256_cvtph_ps(_mm256_castsi256_si128(both));
	*high = _mm256_cvtph_ps(_mm256_extracti128_si256(both, 1));
}

/* the low bytes e of words -> 2^(e - 128); e = 0 and 1 are subnormal */
FORCE_INLINE __m256 fp4_scales(__m256i word)
{
	const __m256i two = _mm256_set1_epi32(2), tiny = _mm256_set1_epi32(0x200000);
	const __m256i e = _mm256_and_si256(word, _mm256_set1_epi32(255));
	const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);

	return _mm256_castsi256_ps(
		_mm256_blendv_epi8(normal, _mm256_sllv_epi32(tiny, e), _mm256_cmpgt_epi32(two, e)));
}

FORCE_INLINE __m128i load16(const void *p)
{
	return _mm_loadu_si128((const __m128i *)p);
}

/* a[i] word k <-> a[k] word i, inside each half */
FORCE_INLINE void transpose4(__m256 a[4])
{
	__m256 t[4];

	t[0] = _mm256_unpacklo_ps(a[0], a[1]);
	t[1] = _mm256_unpacklo_ps(a[2], a[3]);
	t[2] = _mm256_unpackhi_ps(a[0], a[1]);
	t[3] = _mm256_unpackhi_ps(a[2], a[3]);
	a[0] = _mm256_shuffle_ps(t[0], t[1], 0x44);
	a[1] = _mm256_shuffle_ps(t[0], t[1], 0xee);
	a[2] = _mm256_shuffle_ps(t[2], t[3], 0x44);
	a[3] = _mm256_shuffle_ps(t[2], t[3], 0xee);
}

/* 16 bytes of each of eight rows -> t[k]: word k of every row */
FORCE_INLINE void turn16(const uint8_t *w, size_t stride, __m256i t[4])
{
	__m256i v[4], a, b, c, d;

#pragma GCC unroll 4
	for (size_t i = 0; i < 4; i++)
		v[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(load16(w + i * stride)),
					       load16(w + (i + 4) * stride), 1);
	a = _mm256_unpacklo_epi32(v[0], v[1]);
	b = _mm256_unpackhi_epi32(v[0], v[1]);
	c = _mm256_unpacklo_epi32(v[2], v[3]);
	d = _mm256_unpackhi_epi32(v[2], v[3]);
	t[0] = _mm256_unpacklo_epi64(a, c);
	t[1] = _mm256_unpackhi_epi64(a, c);
	t[2] = _mm256_unpacklo_epi64(b, d);
	t[3] = _mm256_unpackhi_epi64(b, d);
}

/* activations 4k to 4k + 3 of @v to every row in the lanes */
FORCE_INLINE __m256i four_of(const int8_t *v, int k)
{
	int32_t four;

	memcpy(&four, v + 4 * k, 4);
	return _mm256_set1_epi32(four);
}

/* @sums 2i and 2i + 1 of activations to every row in the lanes */
FORCE_INLINE __m256i two_of(const int16_t *sums, int i)
{
	int32_t two;

	memcpy(&two, sums + 2 * i, 4);
	return _mm256_set1_epi32(two);
}

FORCE_INLINE void prefetch_from(const uint8_t *at, size_t bytes)
{
#pragma GCC unroll 8
	for (size_t i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)at + i, _MM_HINT_T1);
}

FORCE_INLINE void prefetch_ahead(const uint8_t *w, size_t bytes)
{
	prefetch_from(w + PREFETCH_AHEAD, bytes);
}

/*
 * What is asked for while @rows rows of the product are read from @w on: what lies behind them, PREFETCH_AHEAD
 * at least, and where that is past the last row, as far in what the caller reads next.
 */
FORCE_INLINE const uint8_t *rows_ahead(const struct matmul *m, const uint8_t *w, size_t rows)
{
	const size_t left = (size_t)((const uint8_t *)m->w + m->row1 * m->row_bytes - w);
	const size_t bytes = rows * m->row_bytes;
	const size_t far = bytes > PREFETCH_AHEAD ? bytes : PREFETCH_AHEAD;

	return m->next && left <= far ? (const uint8_t *)m->next + (far - left) : w + far;
}

/*
 * Activations as 16 * up + low, of -8 to 8 and -8 to 7. Products of unsigned bytes with such parts need no signs, and
 * eight sums of two, of at most 2 * 255 * 8, fit 16 bits.
 */
FORCE_INLINE void two_parts(__m256i v, int8_t *low, int8_t *up)
{
	/* (v + 128 + 8) >> 4, in bytes */
	const __m256i moved = _mm256_xor_si256(v, _mm256_set1_epi8(-128));
	const __m256i half = _mm256_avg_epu8(moved, _mm256_set1_epi8(7));
	const __m256i whole = _mm256_and_si256(_mm256_srli_epi16(half, 3), _mm256_set1_epi8(31));
	const __m256i u = _mm256_sub_epi8(whole, _mm256_set1_epi8(8));
	const __m256i taken = _mm256_and_si256(_mm256_slli_epi16(u, 4), _mm256_set1_epi8(-16));

	_mm256_store_si256((__m256i *)low, _mm256_sub_epi8(v, taken));
	_mm256_store_si256((__m256i *)up, u);
}

/* 16 bytes of nibbles -> their 16 low halves, then their 16 high halves */
FORCE_INLINE __m256i nibbles(const uint8_t *p)
{
	const __m256i v = _mm256_broadcastsi128_si256(load16(p));

	return _mm256_and_si256(_mm256_srlv_epi64(v, _mm256_setr_epi64x(0, 0, 4, 4)),
				_mm256_set1_epi8(15));
}

/* the values of IQ4_NL and IQ4_XS in both halves */
FORCE_INLINE __m256i iq4_values(void)
{
	return _mm256_broadcastsi128_si256(_mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10,
							 1, 13, 25, 38, 53, 69, 89, 113));
}

/*
 * a + b, now: left alone, the compiler turns a chain of integer additions into a tree, whose leaves
 * do not fit the registers.
 */
FORCE_INLINE __m256i add_here(__m256i a, __m256i b)
{
	a = _mm256_add_epi32(a, b);
	__asm__("" : "+x"(a));
	return a;
}

/* 16 int16, the lower eight twice, the upper eight twice */
FORCE_INLINE void halves_twice(__m256i v, __m256i half[2])
{
	half[0] = _mm256_permute4x64_epi64(v, 0x44);
	half[1] = _mm256_permute4x64_epi64(v, 0xee);
}

/* from the scales' halves: those of weights 32j.., as they stand beside their products */
FORCE_INLINE __m256i scale_at(const __m256i half[2], int j)
{
	/* 16-bit scales 2k and 2k + 1 of eight, spread over the lower and the upper half */
	const __m256i first = _mm256_set_m128i(_mm_set1_epi16(0x0302), _mm_set1_epi16(0x0100));
	const __m256i which = _mm256_add_epi8(first, _mm256_set1_epi8((char)(j % 4 * 4)));

	return _mm256_shuffle_epi8(half[j / 4], which);
}

/* Lanes [0, rows) of @v to rows of the result. */
FORCE_INLINE void store_rows(float *y, __m256 v, size_t rows)
{
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

	_mm256_maskstore_ps(y, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)rows), lane), v);
}

#endif
