/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx512_tile.h: what the AVX-512 level's files share; nothing outside includes it.
 *
 * Three forms, one result. Many columns (prefill): 256 weights of 32 rows are unpacked to a tile in
 * which a row is a 32-bit lane, and every column multiplies the tile with vpdpbusd, four
 * activation bytes broadcast to all rows. Up to eight columns (decode): rows are read in file
 * order, as fast as memory gives them, and what a lane holds is a piece of a row; in most formats that
 * is for one column or two, and more have rows in the lanes without a tile (few_b_avx512.c,
 * few_k_avx512.h). All compute the same whole numbers, which no order of additions can change: per
 * super-block the sum of scale times product and the sum of minimum times activation, per 32-block the
 * sum of products. From there on a row is a lane in all, and floats are added block by block in the order
 * of the row.
 *
 * vpdpbusd multiplies unsigned with signed bytes, so signed weights carry an offset, which the
 * activation vector's sums take away again.
 */
#ifndef SLUICE_KERNELS_CPU_AVX512_TILE_H
#define SLUICE_KERNELS_CPU_AVX512_TILE_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define TILE_ROWS  32
#define TILE_DEPTH 256 /* weights of a row in a tile */
#define TILE_COLS  8   /* columns that one kernel call multiplies, at most */
#define ROW_COLS   8   /* up to so many columns rows are read in file order */
#define BLOCK_COLS 128 /* columns that share one unpacking, at most */
#define AVX512_PACKED_BYTES \
	384		  /* of a super-block's activations as pack() lays them out, at most */
#define ROW_BYTES_MAX 288 /* of TILE_DEPTH weights of any block format: Q8_0 has 272 */

/*
 * ACT_Q8_K: one per 256 values. Sums are of the int8 values. Sub-block j is values 32j..32j+31,
 * its halves ja and jb; the orders are those in which the weights of a 64-byte load come out:
 *
 *	q:  0a 2a 4a 6a, 0b 2b 4b 6b, 1a 3a 5a 7a, 1b 3b 5b 7b	(Q4_K, Q5_K, IQ4_XS, all tiles)
 *	q6: 0a 0b 4a 4b, 1a 1b 5a 5b, 2a 2b 6a 6b, 3a 3b 7a 7b	(Q6_K, Q2_K, Q3_K)
 */
struct act_k {
	int8_t q[256];
	int32_t by32[8];  /* -8 * sums of 32 */
	int16_t sum32[8]; /* 8 * sums of 32 */
	float d;
	int32_t by1, by124; /* -1, -124 * the sum of all */
	float pad;
	int32_t by16[16];  /* -16 * sums of 16 */
	int16_t sum16[16]; /* the same */
	int32_t by128[8];  /* -128 * sums of 32 */
	int32_t by8[32];   /* -32 * sums of 8 */
	int8_t q6[256];
	int32_t twice16[16]; /* -32 * sums of 16 */
};

/*
 * ACT_Q8_0: one per 8 blocks of 32; a vector's last one may be partly used, the rest is zero.
 *
 *	q: 0a 1a 2a 3a, 0b 1b 2b 3b, 4a 5a 6a 7a, 4b 5b 6b 7b
 */
struct act_b {
	int8_t q[256];
	int32_t by32[8]; /* -128 * sums */
	float d[8];
	float sum[8]; /* sums, whole numbers: Q4_1, Q5_1 */
	float pad[8];
};

/*
 * w = d * scale * q - dmin * minimum. Of which power of two sum32 and sum16 are multiples, and so
 * the sums with minima: exact to take away again. sum16 has the sign turned as well.
 */
#define AVX512_MIN_8  3
#define AVX512_MIN_16 4

/* where four values begin in q: word 0..7 of sub-block j */
#define ACT_K_WORD(j, word) (128 * ((j)&1) + 16 * ((j) >> 1) + 64 * ((word) >> 2) + 4 * ((word)&3))
#define ACT_B_WORD(j, word) (128 * ((j) >> 2) + 16 * ((j)&3) + 64 * ((word) >> 2) + 4 * ((word)&3))

/* 256 weights of 32 rows; [..][h][..]: rows 16h..16h+15, row r in lane r % 16. 64-byte aligned. */
struct tile {
	uint8_t w[TILE_DEPTH / 4][2][64]; /* [k/4][h]: bytes k..k+3 of 16 rows */
	int32_t scale[16][2][16];	  /* super-blocks: of each sub-block, as (int16, 0) */
	int32_t pair[4][2][16];		  /* Q4_K, Q5_K: of sub-blocks 2i, 2i + 1 as int16 */
	int32_t min[8][2][16];		  /* minima of sub-blocks 2i, 2i + 1 as int16 */
	float d[8][2][16];		  /* super-blocks: [0]; 32-blocks: one each */
	float shift[8][2][16];		  /* dmin; Q4_1, Q5_1: the minimum */
};

/* What unpacks @blocks blocks (super-blocks: always one) of 16 rows, @stride bytes apart. */
typedef void (*unpack_fn)(struct tile *t, int half, const uint8_t *w, size_t stride,
			  unsigned blocks);

/* One tile times up to TILE_COLS columns: acc[c][row] += tile row * column c. */
struct tile_product {
	const struct tile *tile;
	const void *const *x; /* column c's activations for this tile are at x[c] + offset */
	size_t offset;
	float (*acc)[TILE_ROWS];
	unsigned blocks;
	/* brought in along the way: 8 * lines lines of weights, the columns of the next product */
	const char *weights_ahead;
	unsigned lines_ahead;
	const void *const *x_ahead;
	size_t offset_ahead;
	unsigned cols_ahead;
};

typedef void (*kernel_fn)(const struct tile_product *p);

/* Where a row's whole numbers go, one per block in file order; room for a multiple of 16. */
struct row_sums {
	int32_t *sum;
	int32_t *min; /* super-blocks with minima only */
	uint32_t *d;  /* the block's own scale as it is stored, the minimum's in the high half */
	uintptr_t
		ahead; /* of the first column: memory so far behind this is asked for, modulo 2^64 */
};

/* One row of @blocks blocks at @w times a few columns; d is written for the first only. */
typedef void (*row_fn)(const uint8_t *w, const void *const *x, size_t blocks,
		       const struct row_sums *out);

/*
 * The same for @count super-blocks of rows of @blocks that lie behind each other without gaps; of formats
 * with minima d takes the sixteen bytes in front of each.
 */
typedef void (*run_fn)(const uint8_t *w, const void *const *x, size_t blocks, size_t count,
		       const struct row_sums *out);

/* A whole product of few columns, see struct matmul. */
typedef void (*product_fn)(const struct matmul *m);

/* Activations of @blocks super-blocks as a format's row functions want them, to a call's scratch. */
typedef void (*pack_fn)(const void *x, size_t blocks, void *to);

/* A super-block of sixteen rows times a few columns, rows in the lanes; memory at @ahead is asked for. See few_k_avx512.h. */
typedef void (*few_k_fn)(const uint8_t *w, size_t stride, const struct act_k *const *x, __m512 *y,
			 const char *ahead);

struct tile_format {
	uint32_t type;
	uint16_t block, bytes; /* as in quant.h */
	uint16_t act_bytes;    /* of TILE_DEPTH activations */
	unpack_fn unpack;
	const kernel_fn *kernel;   /* [cols - 1] */
	const row_fn *row;	   /* [cols - 1]; NULL: tiles are faster */
	pack_fn pack;		   /* NULL: rows read the activations as they are */
	int min_shift;		   /* super-blocks: AVX512_MIN_* of a row's min sums; 0: none */
	bool min;		   /* 32-blocks: Q4_1, Q5_1 */
	float factor;		   /* super-blocks: a power of two that goes to d */
	const struct few_b *few;   /* 32-blocks: for columns that product has no function for */
	const few_k_fn *few_k;	   /* super-blocks: [cols - 1]; NULL: rows in file order */
	pack_fn few_pack;	   /* NULL: few_k reads the activations as they are */
	const run_fn *run;	   /* super-blocks: [cols - 1]; in place of row */
	const product_fn *product; /* 32-blocks: [cols - 1]; in place of row */
	/* super-blocks: one column of rows of up to so many weights by few_k, too; as all where row has nothing */
	uint16_t short_row;
};

/* tile products: kernels_k_avx512.c, kernels_b_avx512.c; [cols - 1] */
extern const kernel_fn avx512_kernel_q4_k[TILE_COLS], avx512_kernel_q5_k[TILE_COLS];
extern const kernel_fn avx512_kernel_q6_k[TILE_COLS], avx512_kernel_q2_k[TILE_COLS];
extern const kernel_fn avx512_kernel_q3_k[TILE_COLS], avx512_kernel_iq4_xs[TILE_COLS];
extern const kernel_fn avx512_kernel_iq[TILE_COLS];
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

/* iq_avx512.c */
void avx512_unpack_iq2_xxs(struct tile *, int half, const uint8_t *w, size_t stride,
			   unsigned blocks);
void avx512_unpack_iq2_xs(struct tile *, int half, const uint8_t *w, size_t stride,
			  unsigned blocks);
void avx512_unpack_iq2_s(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_iq3_xxs(struct tile *, int half, const uint8_t *w, size_t stride,
			   unsigned blocks);
void avx512_unpack_iq3_s(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_iq1_s(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_iq1_m(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_tq1_0(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
void avx512_unpack_tq2_0(struct tile *, int half, const uint8_t *w, size_t stride, unsigned blocks);
extern const row_fn avx512_row_iq2_xxs[ROW_COLS], avx512_row_iq2_xs[ROW_COLS],
	avx512_row_iq2_s[ROW_COLS], avx512_row_iq3_xxs[ROW_COLS], avx512_row_iq3_s[ROW_COLS],
	avx512_row_iq1_s[ROW_COLS], avx512_row_iq1_m[ROW_COLS], avx512_row_tq1_0[ROW_COLS];

/* iq_rows_avx512.c, tq_rows_avx512.c */
void avx512_pack_iq(const void *x, size_t blocks, void *to);
void avx512_pack_tq(const void *x, size_t blocks, void *to);

/* rows: rows_k_avx512.c, rows_k2_avx512.c, rows_b_avx512.c; [cols - 1] */
extern const run_fn avx512_run_q4_k[ROW_COLS], avx512_run_q5_k[ROW_COLS], avx512_run_q6_k[ROW_COLS];
extern const row_fn avx512_row_iq4_xs[ROW_COLS];
extern const product_fn avx512_product_q4_0[ROW_COLS], avx512_product_q4_1[ROW_COLS];
extern const product_fn avx512_product_q5_0[ROW_COLS], avx512_product_q5_1[ROW_COLS];
extern const product_fn avx512_product_q8_0[ROW_COLS], avx512_product_iq4_nl[ROW_COLS];
extern const product_fn avx512_product_mxfp4[ROW_COLS];
/* rows_b_vbmi.c */
extern const product_fn vbmi_product_q5_0[ROW_COLS], vbmi_product_q5_1[ROW_COLS];
extern const product_fn vbmi_product_iq4_nl[ROW_COLS], vbmi_product_mxfp4[ROW_COLS];

/* few_b_avx512.c: sixteen rows of 32-blocks side by side, and the product of 2..ROW_COLS columns */
extern const struct few_b avx512_few_q4_0, avx512_few_q4_1, avx512_few_q5_0, avx512_few_q5_1,
	avx512_few_q8_0, avx512_few_iq4_nl, avx512_few_mxfp4;
void avx512_matmul_few_b(const struct tile_format *f, const struct matmul *m);

/* few_k_avx512.c, few_k2_avx512.c, few_k6_avx512.c: the same of super-blocks; [cols - 1] */
extern const few_k_fn avx512_few_q4_k[ROW_COLS], avx512_few_q5_k[ROW_COLS];
extern const few_k_fn avx512_few_q2_k[ROW_COLS], avx512_few_q3_k[ROW_COLS];
extern const few_k_fn avx512_few_iq4_xs[ROW_COLS], avx512_few_tq2_0[ROW_COLS];
extern const few_k_fn avx512_few_q6_k[ROW_COLS];
extern const few_k_fn avx512_few_tq1_0[ROW_COLS]; /* few_tq_vbmi.h */
/* few_iq1_vbmi.c, few_iq_vbmi.c */
extern const few_k_fn avx512_few_iq1_s[ROW_COLS], avx512_few_iq1_m[ROW_COLS];
extern const few_k_fn avx512_few_iq2_xxs[ROW_COLS], avx512_few_iq2_xs[ROW_COLS];
extern const few_k_fn avx512_few_iq2_s[ROW_COLS], avx512_few_iq3_xxs[ROW_COLS];
extern const few_k_fn avx512_few_iq3_s[ROW_COLS];
void avx512_few_pack_iq1_s(const void *x, size_t blocks, void *to);
void avx512_few_pack_iq1_m(const void *x, size_t blocks, void *to);
void avx512_few_pack_iq2_xxs(const void *x, size_t blocks, void *to);
void avx512_few_pack_iq2_xs(const void *x, size_t blocks, void *to);
void avx512_few_pack_iq2_s(const void *x, size_t blocks, void *to);
void avx512_few_pack_iq3(const void *x, size_t blocks, void *to);
void avx512_matmul_few_k(const struct tile_format *f, const struct matmul *m);

/* act_avx512.c: see struct cpu_ops */
size_t avx512_act_bytes(enum act_kind kind, size_t n);
void avx512_act_quantize(enum act_kind kind, const float *x, size_t n, void *dst);
void avx512_act_quantize_part(enum act_kind kind, const float *x, size_t n, void *dst, size_t first,
			      size_t count);

/* rows_avx512.c: a product of at most ROW_COLS columns; the scratch it needs for rows of @n */
void avx512_matmul_rows(const struct tile_format *f, const struct matmul *m);
size_t avx512_rows_scratch_bytes(size_t n);

/* matmul_float_avx512.c: F32, F16, BF16 rows with f32 activations */
void avx512_matmul_float(const struct matmul *m);

/*
 * Four registers of 32-bit words, transposed inside each 128-bit lane: t[i] word k <-> t[k] word i
 */
static inline void transpose_lanes(__m512i t[4])
{
	__m512i a = _mm512_unpacklo_epi32(t[0], t[1]), b = _mm512_unpackhi_epi32(t[0], t[1]);
	__m512i c = _mm512_unpacklo_epi32(t[2], t[3]), d = _mm512_unpackhi_epi32(t[2], t[3]);

	t[0] = _mm512_unpacklo_epi64(a, c);
	t[1] = _mm512_unpackhi_epi64(a, c);
	t[2] = _mm512_unpacklo_epi64(b, d);
	t[3] = _mm512_unpackhi_epi64(b, d);
}

static inline __m512i join_lanes(__m128i a, __m128i b, __m128i c, __m128i d)
{
	return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_set_m128i(b, a)),
				  _mm256_set_m128i(d, c), 1);
}

/*
 * 16 bytes at each of four places, a lane each. Inserted into halves: a load of 16 bytes takes half a clock
 * on Zen 4, one that broadcasts them to a whole register by a mask takes one.
 */
static inline __m512i load_quarters(const uint8_t *w, size_t step)
{
	return join_lanes(_mm_loadu_si128((const void *)w),
			  _mm_loadu_si128((const void *)(w + step)),
			  _mm_loadu_si128((const void *)(w + 2 * step)),
			  _mm_loadu_si128((const void *)(w + 3 * step)));
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

/* twice the values of MXFP4, plus 128, in every 128-bit lane */
static inline __m512i avx512_fp4_values(void)
{
	const __m128i v = _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

	return _mm512_broadcast_i32x4(_mm_add_epi8(v, _mm_set1_epi8(-128)));
}

/* the low bytes e of words -> 2^(e - 128); e = 0 and 1 are subnormal */
static inline __m512 fp4_scale(__m512i word)
{
	const __m512i e = _mm512_and_si512(word, _mm512_set1_epi32(255));
	const __m512i d = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
	const __mmask16 tiny = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));

	return _mm512_castsi512_ps(_mm512_mask_sllv_epi32(d, tiny, _mm512_set1_epi32(0x200000), e));
}

/* the @step'th eighth of the weights to be brought in */
static inline void prefetch_weights(const struct tile_product *p, unsigned step)
{
	const char *w = p->weights_ahead + (size_t)64 * p->lines_ahead * step;

	for (unsigned i = 0; i < p->lines_ahead; i++)
		_mm_prefetch(w + 64 * i, _MM_HINT_T0);
}

/* the first @lines lines of column @c of the next product, if it has so many */
static inline void prefetch_column(const struct tile_product *p, unsigned c, unsigned lines)
{
	const char *x;

	if (c >= p->cols_ahead)
		return;
	x = (const char *)p->x_ahead[c] + p->offset_ahead;
	for (unsigned i = 0; i < lines; i++)
		_mm_prefetch(x + 64 * i, _MM_HINT_T0);
}

/* y + (d * dx) * whole: how a block's sum joins a row, in both forms */
static inline __m512 add_scaled(__m512 y, __m512 d, __m512 dx, __m512i whole)
{
	return _mm512_fmadd_ps(_mm512_mul_ps(d, dx), _mm512_cvtepi32_ps(whole), y);
}

/* a row's sums with minima, as they come: y - (dmin * dx) * sum */
static inline __m512 take_minima(__m512 y, __m512 dmin, __m512 dx, __m512i sum, int min_shift)
{
	const __m512 whole = _mm512_cvtepi32_ps(_mm512_srai_epi32(sum, (unsigned)min_shift));
	const __m512 d = _mm512_mul_ps(dmin, dx);

	return min_shift == AVX512_MIN_8 ? _mm512_fnmadd_ps(d, whole, y)
					 : _mm512_fmadd_ps(d, whole, y);
}

/* (a & mask) | (b & ~mask) */
static inline __m512i select_bits(__m512i mask, __m512i a, __m512i b)
{
	return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}

#endif
