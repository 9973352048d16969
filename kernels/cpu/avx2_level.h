/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_level.h: what the AVX2 level's files share; nothing outside includes it.
 *
 * Every format is brought into one of two forms, 256 weights at a time and in the order of the
 * row: struct super (256-formats) or struct group (eight 32-blocks). From there on there is one
 * definition of what a block's whole numbers are, super_sums() and group_sums(), used alike where
 * a row is streamed (few columns) and where unpacked rows lie in scratch (many columns). Eight
 * vectors of partial sums become one vector of eight sums (sum_eight); then eight rows stand in the
 * eight lanes, and each takes its blocks one after the other as the law in quant.h says.
 *
 * Inside a super-block and a block everything is whole numbers and exact. vpmaddubsw adds two
 * products in 16 bits: unsigned weights are below 64 and |activations| at most 127, signed ones are
 * multiplied as |w| * (sign of w times a), so no pair exceeds 128 * 127 * 2 and nothing saturates.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_LEVEL_H
#define SLUICE_KERNELS_CPU_AVX2_LEVEL_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define FORCE_INLINE   static inline __attribute__((always_inline))
#define AVX2_COLS      4    /* columns that one pass over a row multiplies, at most */
#define AVX2_ROWS      8    /* rows that stand in lanes */
#define NEAR_BYTES     8192 /* of eight rows: see struct reading */
#define PREFETCH_AHEAD 4096 /* bytes before use; running past the weights is harmless */

/* ACT_Q8_K: one per 256 values, in their order; sums of the int8 values per 16. */
struct act_super {
	int8_t q[256];
	int16_t sum[16];
	float d;
	float pad[7];
};

/* ACT_Q8_0: one per eight blocks; a vector's last one may be partly used, the rest is zero. */
struct act_group {
	int8_t q[8][32];
	float d[8];
	float sum[8]; /* of q: whole numbers */
};

/*
 * 256 weights with scales per 16:
 *   SUPER_MIN     w = d * scale * q - dmin * min, q unsigned
 *   SUPER_OFFSET  w = d * (scale * q - min), q unsigned: min is the constant that makes q signed
 *   SUPER_SIGNED  w = d * scale * q, q signed
 */
enum super_form { SUPER_MIN, SUPER_OFFSET, SUPER_SIGNED };

struct super {
	__m256i q[8];
	__m256i scale, min; /* 16 int16 */
	float d, dmin;
};

/* Eight 32-blocks: GROUP_SIGNED w = d * q, q signed; GROUP_MIN w = d * q + min, q unsigned. */
enum group_form { GROUP_SIGNED, GROUP_MIN };

struct group {
	__m256i q[8];
	__m256 d, min;
};

union unpacked {
	struct super super;
	struct group group;
};

typedef void (*super_unpack_fn)(const uint8_t *w, struct super *s);
typedef void (*group_unpack_fn)(const uint8_t *w, unsigned blocks, struct group *g);

/* 256 weights of AVX2_ROWS rows, unpacked; what is missing of rows and blocks is zero. */
struct piece {
	union unpacked w[AVX2_ROWS];
	__m256 d[8], min[8]; /* of each block (super-block: [0]); rows in lanes */
};

/*
 * One format. rows: @rows <= AVX2_ROWS rows from @row on times columns [col, col + cols), cols at
 * most AVX2_COLS, streamed. unpack: @blocks blocks (super-blocks: one) of one row. dot: acc[c] +=
 * the pieces of step @step times column c; lanes are rows.
 */
struct avx2_format {
	uint32_t type;
	uint16_t block, bytes; /* as in quant.h */
	void (*rows)(const struct matmul *m, size_t row, size_t rows, size_t col, int cols);
	void (*unpack)(const uint8_t *w, unsigned blocks, union unpacked *to);
	void (*dot)(const struct piece *p, unsigned blocks, const void *const *x, int cols,
		    size_t step, __m256 *acc);
};

extern const struct avx2_format avx2_q4_k, avx2_q5_k, avx2_q6_k, avx2_q2_k, avx2_q3_k, avx2_iq4_xs;
extern const struct avx2_format avx2_q4_0, avx2_q4_1, avx2_q5_0, avx2_q5_1, avx2_q8_0, avx2_iq4_nl,
	avx2_mxfp4;

/* act_avx2.c: see struct cpu_ops */
size_t avx2_act_bytes(enum act_kind kind, size_t n);
void avx2_act_quantize(enum act_kind kind, const float *x, size_t n, void *dst);
void avx2_act_quantize_part(enum act_kind kind, const float *x, size_t n, void *dst, size_t first,
			    size_t count);

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

/* lane i: the sum of the eight lanes of v[i] */
FORCE_INLINE __m256i sum_eight(const __m256i *v)
{
	return sum_halves(sum_four(sum_pair(v[0], v[1]), sum_pair(v[2], v[3])),
			  sum_four(sum_pair(v[4], v[5]), sum_pair(v[6], v[7])));
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
FORCE_INLINE __m256 add_scaled(__m256 y, __m256 d, float dx, __m256i whole)
{
	return _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(dx)), _mm256_cvtepi32_ps(whole), y);
}

/* y - (dmin * dx) * whole */
FORCE_INLINE __m256 take_scaled(__m256 y, __m256 dmin, float dx, __m256i whole)
{
	return _mm256_fnmadd_ps(_mm256_mul_ps(dmin, _mm256_set1_ps(dx)), _mm256_cvtepi32_ps(whole),
				y);
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

FORCE_INLINE __m128i load16(const void *p)
{
	return _mm_loadu_si128((const __m128i *)p);
}

FORCE_INLINE void prefetch_ahead(const uint8_t *w, size_t bytes)
{
#pragma GCC unroll 8
	for (size_t i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)w + PREFETCH_AHEAD + i, _MM_HINT_T0);
}

/* 16 bytes of nibbles -> their 16 low halves, then their 16 high halves */
FORCE_INLINE __m256i nibbles(__m128i v)
{
	return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), _mm256_set1_epi8(15));
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

/* sum[c], mins[c]: partial sums of super-block @s times super-block @b of column c */
FORCE_INLINE void super_sums(const struct super *s, enum super_form form,
			     const struct act_super *const *x, int cols, size_t b, __m256i *sum,
			     __m256i *mins)
{
	/* 16-bit scales 2k and 2k + 1 of eight, spread over the lower and the upper half */
	const __m256i first = _mm256_set_m128i(_mm_set1_epi16(0x0302), _mm_set1_epi16(0x0100));
	const __m256i halves[2] = { _mm256_permute4x64_epi64(s->scale, 0x44),
				    _mm256_permute4x64_epi64(s->scale, 0xee) };

#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		sum[c] = _mm256_setzero_si256();
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++) {
		__m256i which = _mm256_add_epi8(first, _mm256_set1_epi8((char)(j % 4 * 4)));
		__m256i scale = _mm256_shuffle_epi8(halves[j / 4], which);
		__m256i q = form == SUPER_SIGNED ? _mm256_abs_epi8(s->q[j]) : s->q[j];

#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			__m256i a = load32(x[c][b].q + 32 * j);

			if (form == SUPER_SIGNED)
				a = _mm256_sign_epi8(a, s->q[j]);
			a = _mm256_madd_epi16(_mm256_maddubs_epi16(q, a), scale);
			sum[c] = add_here(sum[c], a);
		}
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		mins[c] = _mm256_madd_epi16(s->min, load32(x[c][b].sum));
		if (form == SUPER_OFFSET)
			sum[c] = _mm256_sub_epi32(sum[c], mins[c]);
	}
}

/* Partial sums of blocks @j and @j + 1 of @g times those of column c: a sum_pair() each. */
FORCE_INLINE void group_pair(const struct group *g, enum group_form form,
			     const struct act_group *const *x, int cols, size_t b, int j,
			     __m256i *pair)
{
	const __m256i ones = _mm256_set1_epi16(1);
	__m256i q[2];

#pragma GCC unroll 2
	for (int i = 0; i < 2; i++)
		q[i] = form == GROUP_SIGNED ? _mm256_abs_epi8(g->q[j + i]) : g->q[j + i];
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		__m256i a[2];

#pragma GCC unroll 2
		for (int i = 0; i < 2; i++) {
			a[i] = load32(x[c][b].q[j + i]);
			if (form == GROUP_SIGNED)
				a[i] = _mm256_sign_epi8(a[i], g->q[j + i]);
			a[i] = _mm256_madd_epi16(_mm256_maddubs_epi16(q[i], a[i]), ones);
		}
		pair[c] = sum_pair(a[0], a[1]);
	}
}

/* sum[c] lane j: block j of @g times that of group @b of column c, as a whole number */
FORCE_INLINE void group_sums(const struct group *g, enum group_form form,
			     const struct act_group *const *x, int cols, size_t b, __m256i *sum)
{
	__m256i half[2][AVX2_COLS];

#pragma GCC unroll 2
	for (int h = 0; h < 2; h++) {
		__m256i first[AVX2_COLS], second[AVX2_COLS];

		group_pair(g, form, x, cols, b, 4 * h, first);
		group_pair(g, form, x, cols, b, 4 * h + 2, second);
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++)
			half[h][c] = sum_four(first[c], second[c]);
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		sum[c] = sum_halves(half[0][c], half[1][c]);
}

/* Partial sums of a super-block of eight rows, for every column. */
struct octet {
	__m256i sum[AVX2_COLS][AVX2_ROWS], mins[AVX2_COLS][AVX2_ROWS];
};

FORCE_INLINE void octet_row(struct octet *o, int r, const struct super *s, enum super_form form,
			    const struct act_super *const *x, int cols, size_t b)
{
	__m256i sum[AVX2_COLS], mins[AVX2_COLS];

	super_sums(s, form, x, cols, b, sum, mins);
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		o->sum[c][r] = sum[c];
		if (form == SUPER_MIN)
			o->mins[c][r] = mins[c];
	}
}

/* acc[c] += the super-block, rows in lanes */
FORCE_INLINE void octet_add(const struct octet *o, enum super_form form, __m256 d, __m256 dmin,
			    const struct act_super *const *x, int cols, size_t b, __m256 *acc)
{
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		acc[c] = add_scaled(acc[c], d, x[c][b].d, sum_eight(o->sum[c]));
		if (form == SUPER_MIN)
			acc[c] = take_scaled(acc[c], dmin, x[c][b].d, sum_eight(o->mins[c]));
	}
}

/* acc[c] += up to eight blocks of eight rows, whose sums lie in @sum by row, scales by block */
FORCE_INLINE void blocks_add(__m256i (*sum)[AVX2_ROWS], enum group_form form, unsigned blocks,
			     const __m256 *d, const __m256 *min, const struct act_group *const *x,
			     int cols, size_t b, __m256 *acc)
{
	__m256 y[AVX2_COLS];

#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		transpose8(sum[c]);
		y[c] = acc[c];
	}
	/* columns inside: a block's sum waits for the one before */
#pragma GCC unroll 2
	for (unsigned j = 0; j < blocks; j++) {
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			const __m256 dx = _mm256_set1_ps(x[c][b].d[j]);

			y[c] = add_scaled(y[c], d[j], x[c][b].d[j], sum[c][j]);
			if (form == GROUP_MIN)
				y[c] = _mm256_fmadd_ps(_mm256_mul_ps(min[j], dx),
						       _mm256_set1_ps(x[c][b].sum[j]), y[c]);
		}
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		acc[c] = y[c];
}

/* Lanes [0, rows) of @v to rows of the result. */
FORCE_INLINE void store_rows(float *y, __m256 v, size_t rows)
{
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

	_mm256_maskstore_ps(y, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)rows), lane), v);
}

/*
 * Eight rows read side by side. Meanwhile the next eight are asked for in file order, as memory likes
 * it best, as far as the call has some. Rows that are not there repeat the last one.
 */
struct reading {
	const uint8_t *w[AVX2_ROWS];
	const uint8_t *next, *end;
	bool first_level; /* eight rows are few bytes: they fit the first cache level */
};

FORCE_INLINE void reading_init(struct reading *s, const struct matmul *m, size_t row, size_t rows)
{
	s->next = (const uint8_t *)m->w + (row + rows) * m->row_bytes;
	s->first_level = AVX2_ROWS * m->row_bytes <= NEAR_BYTES;
	s->end = (const uint8_t *)m->w + m->row1 * m->row_bytes;
	for (size_t r = 0; r < AVX2_ROWS; r++)
		s->w[r] = (const uint8_t *)m->w + (row + (r < rows ? r : rows - 1)) * m->row_bytes;
}

/* @bytes of row @r from @at on; as many of the next rows are asked for */
FORCE_INLINE const uint8_t *reading_take(struct reading *s, int r, size_t at, size_t bytes)
{
	const uint8_t *next = s->next;

	s->next = next + bytes;
	if (next >= s->end)
		return s->w[r] + at;
	if (s->first_level) {
#pragma GCC unroll 8
		for (size_t i = 0; i < bytes; i += 64)
			_mm_prefetch((const char *)next + i, _MM_HINT_T0);
	} else {
#pragma GCC unroll 8
		for (size_t i = 0; i < bytes; i += 64)
			_mm_prefetch((const char *)next + i, _MM_HINT_T1);
	}
	return s->w[r] + at;
}

/* the halves at @offset of eight rows' blocks */
FORCE_INLINE __m256 row_halves(const struct reading *s, size_t at)
{
	uint16_t h[AVX2_ROWS];

#pragma GCC unroll 8
	for (int r = 0; r < AVX2_ROWS; r++)
		memcpy(&h[r], s->w[r] + at, sizeof(h[r]));
	return _mm256_cvtph_ps(_mm_setr_epi16((short)h[0], (short)h[1], (short)h[2], (short)h[3],
					      (short)h[4], (short)h[5], (short)h[6], (short)h[7]));
}

/* Eight rows, each read once, for @cols columns; @unpack and @cols are constants here. */
FORCE_INLINE void super_rows(const struct matmul *m, size_t row, size_t rows, size_t col, int cols,
			     super_unpack_fn unpack, enum super_form form, size_t bytes,
			     size_t d_at)
{
	const struct act_super *x[AVX2_COLS] = { NULL };
	__m256 acc[AVX2_COLS];
	struct reading s;
	struct octet o;

	for (int c = 0; c < cols; c++) {
		x[c] = m->x[col + (size_t)c];
		acc[c] = _mm256_setzero_ps();
	}
	reading_init(&s, m, row, rows);
#pragma GCC unroll 1
	for (size_t b = 0; b < m->n / 256; b++) {
		const size_t at = b * bytes;
		__m256 d = row_halves(&s, at + d_at), dmin = d;

		if (form == SUPER_MIN)
			dmin = row_halves(&s, at + d_at + 2);
#pragma GCC unroll 1
		for (int r = 0; r < AVX2_ROWS; r++) {
			struct super v;

			unpack(reading_take(&s, r, at, bytes), &v);
			octet_row(&o, r, &v, form, x, cols, b);
		}
		octet_add(&o, form, d, dmin, x, cols, b, acc);
	}
	for (int c = 0; c < cols; c++)
		store_rows(m->y[col + (size_t)c] + row, acc[c], rows);
}

FORCE_INLINE void group_step(struct reading *s, size_t at, unsigned blocks, group_unpack_fn unpack,
			     enum group_form form, size_t bytes, const struct act_group *const *x,
			     int cols, size_t b, __m256 *acc)
{
	__m256i sum[AVX2_COLS][AVX2_ROWS], d[AVX2_ROWS], min[AVX2_ROWS];

#pragma GCC unroll 1
	for (int r = 0; r < AVX2_ROWS; r++) {
		__m256i row[AVX2_COLS];
		struct group g;

		unpack(reading_take(s, r, at, 8 * bytes), blocks, &g);
		group_sums(&g, form, x, cols, b, row);
		d[r] = _mm256_castps_si256(g.d);
		min[r] = _mm256_castps_si256(g.min);
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++)
			sum[c][r] = row[c];
	}
	transpose8(d);
	if (form == GROUP_MIN)
		transpose8(min);
	blocks_add(sum, form, blocks, (const __m256 *)d, (const __m256 *)min, x, cols, b, acc);
}

FORCE_INLINE void group_rows(const struct matmul *m, size_t row, size_t rows, size_t col, int cols,
			     group_unpack_fn unpack, enum group_form form, size_t bytes)
{
	const struct act_group *x[AVX2_COLS] = { NULL };
	const size_t blocks = m->n / 32, whole = blocks / 8;
	__m256 acc[AVX2_COLS];
	struct reading s;

	for (int c = 0; c < cols; c++) {
		x[c] = m->x[col + (size_t)c];
		acc[c] = _mm256_setzero_ps();
	}
	reading_init(&s, m, row, rows);
#pragma GCC unroll 1
	for (size_t b = 0; b < whole; b++)
		group_step(&s, 8 * b * bytes, 8, unpack, form, bytes, x, cols, b, acc);
	if (blocks % 8)
		group_step(&s, 8 * whole * bytes, (unsigned)(blocks % 8), unpack, form, bytes, x,
			   cols, whole, acc);
	for (int c = 0; c < cols; c++)
		store_rows(m->y[col + (size_t)c] + row, acc[c], rows);
}

/* acc[c] += one super-block of eight unpacked rows times super-block @b of column c */
FORCE_INLINE void super_piece(const struct piece *p, enum super_form form, unsigned blocks,
			      const struct act_super *const *x, int cols, size_t b, __m256 *acc)
{
	struct octet o;

	(void)blocks;
#pragma GCC unroll 1
	for (int r = 0; r < AVX2_ROWS; r++)
		octet_row(&o, r, &p->w[r].super, form, x, cols, b);
	octet_add(&o, form, p->d[0], p->min[0], x, cols, b, acc);
}

/* acc[c] += up to eight blocks of eight unpacked rows times group @b of column c */
FORCE_INLINE void group_piece(const struct piece *p, enum group_form form, unsigned blocks,
			      const struct act_group *const *x, int cols, size_t b, __m256 *acc)
{
	__m256i sum[AVX2_COLS][AVX2_ROWS];

#pragma GCC unroll 1
	for (int r = 0; r < AVX2_ROWS; r++) {
		__m256i row[AVX2_COLS];

		group_sums(&p->w[r].group, form, x, cols, b, row);
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++)
			sum[c][r] = row[c];
	}
	blocks_add(sum, form, blocks, p->d, p->min, x, cols, b, acc);
}

/* A format's functions for each number of columns. */
#define DOT(kind, form)                                                                         \
	static void kind##_##form(const struct piece *p, unsigned blocks, const void *const *x, \
				  int cols, size_t step, __m256 *acc)                           \
	{                                                                                       \
		const struct act_##kind *col[AVX2_COLS] = { NULL };                             \
                                                                                                \
		for (int c = 0; c < cols; c++)                                                  \
			col[c] = x[c];                                                          \
		switch (cols) {                                                                 \
		case 1:                                                                         \
			kind##_piece(p, form, blocks, col, 1, step, acc);                       \
			return;                                                                 \
		case 2:                                                                         \
			kind##_piece(p, form, blocks, col, 2, step, acc);                       \
			return;                                                                 \
		case 3:                                                                         \
			kind##_piece(p, form, blocks, col, 3, step, acc);                       \
			return;                                                                 \
		default:                                                                        \
			kind##_piece(p, form, blocks, col, 4, step, acc);                       \
			return;                                                                 \
		}                                                                               \
	}

#define ROWS_FUNCTION(kind, t, ...)                                                       \
	static void rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, \
			     int cols)                                                    \
	{                                                                                 \
		switch (cols) {                                                           \
		case 1:                                                                   \
			kind##_rows(m, row, rows, col, 1, unpack_##t, __VA_ARGS__);       \
			return;                                                           \
		case 2:                                                                   \
			kind##_rows(m, row, rows, col, 2, unpack_##t, __VA_ARGS__);       \
			return;                                                           \
		case 3:                                                                   \
			kind##_rows(m, row, rows, col, 3, unpack_##t, __VA_ARGS__);       \
			return;                                                           \
		default:                                                                  \
			kind##_rows(m, row, rows, col, 4, unpack_##t, __VA_ARGS__);       \
			return;                                                           \
		}                                                                         \
	}

/* The table row of format @t from its inline unpack_@t; @d_at: where d lies, and dmin behind it. */
#define SUPER_FORMAT(T, t, form, d_at)                                                     \
	ROWS_FUNCTION(super, t, form, QUANT_##T##_BYTES, d_at)                             \
	static void unpack_to_##t(const uint8_t *w, unsigned blocks, union unpacked *to)   \
	{                                                                                  \
		unpack_##t(w, &to->super);                                                 \
	}                                                                                  \
	const struct avx2_format avx2_##t = { QUANT_##T, 256,		QUANT_##T##_BYTES, \
					      rows_##t,	 unpack_to_##t, super_##form };

#define GROUP_FORMAT(T, t, form)                                                         \
	ROWS_FUNCTION(group, t, form, QUANT_##T##_BYTES)                                 \
	static void unpack_to_##t(const uint8_t *w, unsigned blocks, union unpacked *to) \
	{                                                                                \
		unpack_##t(w, blocks, &to->group);                                       \
	}                                                                                \
	const struct avx2_format avx2_##t = { QUANT_##T,	 32,                     \
					      QUANT_##T##_BYTES, rows_##t,               \
					      unpack_to_##t,	 group_##form };

#endif
