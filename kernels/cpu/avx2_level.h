/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_level.h: what the AVX2 level's files share; nothing outside includes it.
 *
 * Every format is brought into one of two forms, 256 weights at a time and in the order of the
 * row: struct super (256-formats) or struct group (eight 32-blocks). From there on there is one
 * definition of the product, super_dot() and group_dot(), used alike where a row is streamed
 * (few columns) and where unpacked rows lie in scratch (many columns). A (row, column) has eight
 * float lanes which take one fused multiply-add per super-block or block, in the order of the row,
 * and one tree at the end: so both ways give the same bits by construction.
 *
 * Inside a super-block and a block everything is whole numbers and exact. vpmaddubsw adds two
 * products in 16 bits: unsigned weights are below 64 and |activations| at most 127, signed ones are
 * multiplied as |w| * (sign of w times a), so no pair exceeds 128 * 127 * 2 and nothing saturates.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_LEVEL_H
#define SLUICE_KERNELS_CPU_AVX2_LEVEL_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define FORCE_INLINE   static inline __attribute__((always_inline))
#define AVX2_COLS      4    /* columns that one pass over a row multiplies, at most */
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
	float sum[8]; /* d * sum of q */
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

/*
 * One format. rows: rows [m->row0, m->row1) times columns [col, col + cols), cols at most
 * AVX2_COLS, streamed. unpack: @blocks blocks (super-blocks: one) into one piece.
 * dot: acc[c * stride] += @steps pieces times column c from step @first on.
 */
struct avx2_format {
	uint32_t type;
	uint16_t block, bytes; /* as in quant.h */
	void (*rows)(const struct matmul *m, size_t col, int cols);
	void (*unpack)(const uint8_t *w, unsigned blocks, union unpacked *to);
	void (*dot)(const union unpacked *from, size_t steps, const void *const *x, int cols,
		    size_t first, __m256 *acc, size_t stride);
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

/* the fixed tree over the eight lanes of a (row, column) */
FORCE_INLINE float add_lanes(__m256 v)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
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

/* acc[c] += super-block @s times super-block @b of column c */
FORCE_INLINE void super_dot(const struct super *s, enum super_form form,
			    const struct act_super *const *x, int cols, size_t b, __m256 *acc)
{
	/* 16-bit scales 2k and 2k + 1 of eight, spread over the lower and the upper half */
	const __m256i first = _mm256_set_m128i(_mm_set1_epi16(0x0302), _mm_set1_epi16(0x0100));
	const __m256i halves[2] = { _mm256_permute4x64_epi64(s->scale, 0x44),
				    _mm256_permute4x64_epi64(s->scale, 0xee) };
	__m256i sum[AVX2_COLS];

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
		__m256i mins = _mm256_madd_epi16(s->min, load32(x[c][b].sum));
		float dx = x[c][b].d;

		if (form == SUPER_OFFSET)
			sum[c] = _mm256_sub_epi32(sum[c], mins);
		acc[c] = _mm256_fmadd_ps(_mm256_set1_ps(s->d * dx), _mm256_cvtepi32_ps(sum[c]),
					 acc[c]);
		if (form == SUPER_MIN)
			acc[c] = _mm256_fnmadd_ps(_mm256_set1_ps(s->dmin * dx),
						  _mm256_cvtepi32_ps(mins), acc[c]);
	}
}

/* acc[c] += eight blocks @g times group @b of column c; blocks that do not exist are zero in both */
FORCE_INLINE void group_dot(const struct group *g, enum group_form form,
			    const struct act_group *const *x, int cols, size_t b, __m256 *acc)
{
	const __m256i ones = _mm256_set1_epi16(1);
	__m256 scale[AVX2_COLS];

#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		scale[c] = _mm256_mul_ps(g->d, _mm256_loadu_ps(x[c][b].d));
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++) {
		__m256i q = form == GROUP_SIGNED ? _mm256_abs_epi8(g->q[j]) : g->q[j];

#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			__m256 d = _mm256_permutevar8x32_ps(scale[c], _mm256_set1_epi32(j));
			__m256i a = load32(x[c][b].q[j]);

			if (form == GROUP_SIGNED)
				a = _mm256_sign_epi8(a, g->q[j]);
			a = _mm256_madd_epi16(_mm256_maddubs_epi16(q, a), ones);
			acc[c] = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(a), acc[c]);
		}
	}
	if (form != GROUP_MIN)
		return;
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		acc[c] = _mm256_fmadd_ps(g->min, _mm256_loadu_ps(x[c][b].sum), acc[c]);
}

/* Rows in file order, each once, for @cols columns; @unpack and @cols are constants here. */
FORCE_INLINE void super_rows(const struct matmul *m, size_t col, int cols, super_unpack_fn unpack,
			     enum super_form form, size_t bytes)
{
	const struct act_super *x[AVX2_COLS] = { NULL };
	const size_t blocks = m->n / 256;

	for (int c = 0; c < cols; c++)
		x[c] = m->x[col + (size_t)c];
	for (size_t r = m->row0; r < m->row1; r++) {
		const uint8_t *w = (const uint8_t *)m->w + r * m->row_bytes;
		__m256 acc[AVX2_COLS];

		for (int c = 0; c < cols; c++)
			acc[c] = _mm256_setzero_ps();
#pragma GCC unroll 1
		for (size_t b = 0; b < blocks; b++, w += bytes) {
			struct super s;

			prefetch_ahead(w, bytes);
			unpack(w, &s);
			super_dot(&s, form, x, cols, b, acc);
		}
		for (int c = 0; c < cols; c++)
			m->y[col + (size_t)c][r] = add_lanes(acc[c]);
	}
}

FORCE_INLINE void group_rows(const struct matmul *m, size_t col, int cols, group_unpack_fn unpack,
			     enum group_form form, size_t bytes)
{
	const struct act_group *x[AVX2_COLS] = { NULL };
	const size_t blocks = m->n / 32, whole = blocks / 8;

	for (int c = 0; c < cols; c++)
		x[c] = m->x[col + (size_t)c];
	for (size_t r = m->row0; r < m->row1; r++) {
		const uint8_t *w = (const uint8_t *)m->w + r * m->row_bytes;
		struct group g;
		__m256 acc[AVX2_COLS];

		for (int c = 0; c < cols; c++)
			acc[c] = _mm256_setzero_ps();
#pragma GCC unroll 1
		for (size_t b = 0; b < whole; b++, w += 8 * bytes) {
			prefetch_ahead(w, 8 * bytes);
			unpack(w, 8, &g);
			group_dot(&g, form, x, cols, b, acc);
		}
		if (blocks % 8) {
			unpack(w, (unsigned)(blocks % 8), &g);
			group_dot(&g, form, x, cols, whole, acc);
		}
		for (int c = 0; c < cols; c++)
			m->y[col + (size_t)c][r] = add_lanes(acc[c]);
	}
}

/* @dot for each number of columns; @steps unpacked pieces lie one after the other. */
#define DOT_STEPS(kind, form)                                                                     \
	FORCE_INLINE void kind##_steps_##form(const union unpacked *from, size_t steps,           \
					      const struct act_##kind *const *x, int cols,        \
					      size_t first, __m256 *to, size_t stride)            \
	{                                                                                         \
		__m256 acc[AVX2_COLS];                                                            \
                                                                                                  \
		for (int c = 0; c < cols; c++)                                                    \
			acc[c] = to[(size_t)c * stride];                                          \
		for (size_t i = 0; i < steps; i++)                                                \
			kind##_dot(&from[i].kind, form, x, cols, first + i, acc);                 \
		for (int c = 0; c < cols; c++)                                                    \
			to[(size_t)c * stride] = acc[c];                                          \
	}                                                                                         \
                                                                                                  \
	static void kind##_##form(const union unpacked *from, size_t steps, const void *const *x, \
				  int cols, size_t first, __m256 *acc, size_t stride)             \
	{                                                                                         \
		const struct act_##kind *col[AVX2_COLS];                                          \
                                                                                                  \
		for (int c = 0; c < cols; c++)                                                    \
			col[c] = x[c];                                                            \
		switch (cols) {                                                                   \
		case 1:                                                                           \
			kind##_steps_##form(from, steps, col, 1, first, acc, stride);             \
			return;                                                                   \
		case 2:                                                                           \
			kind##_steps_##form(from, steps, col, 2, first, acc, stride);             \
			return;                                                                   \
		case 3:                                                                           \
			kind##_steps_##form(from, steps, col, 3, first, acc, stride);             \
			return;                                                                   \
		default:                                                                          \
			kind##_steps_##form(from, steps, col, 4, first, acc, stride);             \
			return;                                                                   \
		}                                                                                 \
	}

/* The table row of format @t from its inline unpack_@t. */
#define ROWS_FUNCTION(kind, t, form, size)                                 \
	static void rows_##t(const struct matmul *m, size_t col, int cols) \
	{                                                                  \
		switch (cols) {                                            \
		case 1:                                                    \
			kind##_rows(m, col, 1, unpack_##t, form, size);    \
			return;                                            \
		case 2:                                                    \
			kind##_rows(m, col, 2, unpack_##t, form, size);    \
			return;                                            \
		case 3:                                                    \
			kind##_rows(m, col, 3, unpack_##t, form, size);    \
			return;                                            \
		default:                                                   \
			kind##_rows(m, col, 4, unpack_##t, form, size);    \
			return;                                            \
		}                                                          \
	}

#define SUPER_FORMAT(T, t, form)                                                           \
	ROWS_FUNCTION(super, t, form, QUANT_##T##_BYTES)                                   \
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
