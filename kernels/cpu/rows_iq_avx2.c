/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_iq_avx2.c: rows of IQ2 and IQ3_S in file order at the AVX2 level, up to four columns.
 * Layouts: scalar_iq.c. Called through matmul_iq_avx2.c, any thread; reads exactly the bytes of the blocks.
 *
 * A core looks for work among some 64 vector operations, and to put signs, scales and indices together is a
 * long chain of them; so that is done for eight super-blocks before the first is looked up (struct
 * parts). What is left is eight short chains for each super-block, of 32 weights: values from the
 * tables, signs from bits, products. (IQ3_XXS has no long chain, and lost by it.)
 */
#include "kernels/cpu/avx2_rows.h"
#include "kernels/cpu/iq_avx.h"

#define AHEAD 8 /* super-blocks */

/* A super-block but for its values: sign bits, scales of 16 weights, indices. */
struct parts {
	uint32_t sign[8];
	int16_t scale[16];
	uint16_t index[64];
	uint16_t d;
};

FORCE_INLINE void put_scales(struct parts *v, __m256i scale)
{
	_mm256_storeu_si256((__m256i *)v->scale, scale);
}

FORCE_INLINE void put_signs(struct parts *v, __m256i sign)
{
	_mm256_storeu_si256((__m256i *)v->sign, sign);
}

/* sixteen bytes as indices */
FORCE_INLINE void put_indices(__m128i bytes, uint16_t *to)
{
	_mm256_storeu_si256((__m256i *)to, _mm256_cvtepu8_epi16(bytes));
}

/* 0x88: the even words of two vectors, 0xdd: the odd ones */
#define every_other(a, b, which)                                                                  \
	_mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(                           \
					 _mm256_castsi256_ps(a), _mm256_castsi256_ps(b), which)), \
				 0xd8)

FORCE_INLINE void parts_iq2_xxs(const uint8_t *w, struct parts *v)
{
	/* words: indices, rest, indices, rest, ... */
	const __m256i a = iq_load(w + 2), b = iq_load(w + 34);
	const __m256i even = every_other(a, b, 0x88), rest = every_other(a, b, 0xdd);

	put_indices(_mm256_castsi256_si128(even), v->index);
	put_indices(_mm256_extracti128_si256(even, 1), v->index + 16);
	put_scales(v, iq_top_scales(rest));
	put_signs(v, iq_four_sevens(rest));
}

FORCE_INLINE void parts_iq2_xs(const uint8_t *w, struct parts *v)
{
	const __m256i a = iq_load(w + 2), b = iq_load(w + 34), nine = _mm256_set1_epi16(511);
	const __m256i seven = _mm256_packus_epi16(_mm256_srli_epi16(a, 9), _mm256_srli_epi16(b, 9));

	put_scales(v, iq_nibble_scales(w + 66));
	put_signs(v, iq_eighth(_mm256_permute4x64_epi64(seven, 0xd8)));
	_mm256_storeu_si256((__m256i *)v->index, _mm256_and_si256(a, nine));
	_mm256_storeu_si256((__m256i *)(v->index + 16), _mm256_and_si256(b, nine));
}

FORCE_INLINE void parts_iq2_s(const uint8_t *w, struct parts *v)
{
	put_scales(v, iq_nibble_scales(w + 74));
	put_signs(v, iq_load(w + 34));
	iq_indices(w + 2, iq_two_bits(w + 66), v->index);
	iq_indices(w + 18, iq_two_bits(w + 70), v->index + 16);
}

FORCE_INLINE void parts_iq3_s(const uint8_t *w, struct parts *v)
{
	put_scales(v, iq3_s_scales(w + 106));
	put_signs(v, iq_load(w + 74));
#pragma GCC unroll 4
	for (int k = 0; k < 4; k++)
		iq_indices(w + 2 + 16 * k, iq_one_bit(w + 66 + 2 * k), v->index + 16 * k);
}

FORCE_INLINE __m128i two_eights(const uint64_t *grid, unsigned a, unsigned b)
{
	const __m128i low = _mm_loadl_epi64((const __m128i *)(grid + a));

	return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(low), (const void *)(grid + b)));
}

FORCE_INLINE __m256i eights(const uint64_t *grid, unsigned a, unsigned b, unsigned c, unsigned d)
{
	return _mm256_set_m128i(two_eights(grid, c, d), two_eights(grid, a, b));
}

/* values of 32 weights */
FORCE_INLINE __m256i values_iq2_xxs(const struct parts *v, int s)
{
	const uint16_t *i = v->index + 4 * s;

	return eights(grid_iq2_xxs, i[0], i[1], i[2], i[3]);
}

FORCE_INLINE __m256i values_iq2_xs(const struct parts *v, int s)
{
	const uint16_t *i = v->index + 4 * s;

	return eights(grid_iq2_xs, i[0], i[1], i[2], i[3]);
}

FORCE_INLINE __m256i values_iq2_s(const struct parts *v, int s)
{
	const uint16_t *i = v->index + 4 * s;

	return eights(grid_iq2_s, i[0], i[1], i[2], i[3]);
}

FORCE_INLINE __m256i values_iq3_s(const struct parts *v, int s)
{
	return iq_fours(grid_iq3_s, v->index + 8 * s);
}

typedef void (*parts_fn)(const uint8_t *w, struct parts *v);
typedef __m256i (*values_fn)(const struct parts *v, int s);

/* sum[c]: partial sums of a super-block times that of column c */
FORCE_INLINE void multiply(const struct parts *v, values_fn values,
			   const struct act_super *const *x, int cols, size_t b, __m256i *sum)
{
	__m256i half[2];

	half[0] = _mm256_broadcastsi128_si256(load16(v->scale));
	half[1] = _mm256_broadcastsi128_si256(load16(v->scale + 8));
#pragma GCC unroll 8
	for (int s = 0; s < 8; s++) {
		const __m256i q = values(v, s), sign = iq_signs(&v->sign[s]);
		const __m256i scale = scale_at(half, s);

#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			__m256i a = _mm256_sign_epi8(load32(x[c][b].q + 32 * s), sign);

			a = _mm256_madd_epi16(_mm256_maddubs_epi16(q, a), scale);
			sum[c] = s ? _mm256_add_epi32(sum[c], a) : a;
		}
	}
}

FORCE_INLINE void row_numbers(const struct matmul *m, const uint8_t *w, size_t rows, size_t blocks,
			      parts_fn parts, values_fn values, const struct super_kind *k,
			      const struct act_super *const *x, int cols, struct pool *p,
			      const struct numbers *o)
{
	const size_t count = rows * blocks;
	struct parts v[AHEAD];
	size_t i = 0;

#pragma GCC unroll 1
	for (size_t r = 0; r < rows; r++, w += m->row_bytes) {
		const uint8_t *ahead = rows_ahead(m, w, 1);

#pragma GCC unroll 1
		for (size_t first = 0; first < blocks; first += AHEAD) {
			const size_t some = blocks - first < AHEAD ? blocks - first : AHEAD;
			const uint8_t *at = w + first * k->bytes;

#pragma GCC unroll 1
			for (size_t b = 0; b < some; b++, at += k->bytes, ahead += k->bytes) {
				prefetch_from(ahead, k->bytes);
				memcpy(&v[b].d, at, sizeof(v[b].d));
				parts(at, &v[b]);
			}
#pragma GCC unroll 1
			for (size_t b = 0; b < some; b++) {
				__m256i sum[AVX2_ALONE];

				multiply(&v[b], values, x, cols, first + b, sum);
				o->head[i] = v[b].d;
#pragma GCC unroll 4
				for (int c = 0; c < cols; c++)
					p->sum[c][i % 8] = sum[c];
				if (++i % 8 == 0 || i == count)
					pool_add(p, k, cols, (i - 1) & ~(size_t)7, o);
			}
		}
	}
}

FORCE_INLINE void rows_of(const struct matmul *m, size_t row, size_t rows, size_t col, int cols,
			  parts_fn parts, values_fn values, struct super_kind k)
{
	const size_t blocks = m->n / 256, end = row + rows;
	const struct act_super *x[AVX2_ALONE] = { NULL };
	struct numbers o;
	struct pool p;

	numbers_init(&o, m->scratch, blocks);
	for (int c = 0; c < cols; c++) {
		x[c] = m->x[col + (size_t)c];
		for (int i = 0; i < 8; i++)
			p.sum[c][i] = _mm256_setzero_si256();
	}
	for (; row < end; row += AVX2_ROWS) {
		const size_t n = end - row < AVX2_ROWS ? end - row : AVX2_ROWS;
		const uint8_t *w = (const uint8_t *)m->w + row * m->row_bytes;

		row_numbers(m, w, n, blocks, parts, values, &k, x, cols, &p, &o);
		for (int c = 0; c < cols; c++)
			store_rows(m->y[col + (size_t)c] + row,
				   super_finish(&o, blocks, n, &k, x[c], c), n);
	}
}

#define ROWS_IQ(T, t, each)                                                                       \
	void avx2_rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, int cols) \
	{                                                                                         \
		const struct super_kind k = { SUPER_SIGNS, each, iq_factor(QUANT_##T),            \
					      QUANT_##T##_BYTES };                                \
                                                                                                  \
		if (cols == 1)                                                                    \
			rows_of(m, row, rows, col, 1, parts_##t, values_##t, k);                  \
		else if (cols == 2)                                                               \
			rows_of(m, row, rows, col, 2, parts_##t, values_##t, k);                  \
		else if (cols == 3)                                                               \
			rows_of(m, row, rows, col, 3, parts_##t, values_##t, k);                  \
		else                                                                              \
			rows_of(m, row, rows, col, 4, parts_##t, values_##t, k);                  \
	}

ROWS_IQ(IQ2_XXS, iq2_xxs, 32)
ROWS_IQ(IQ2_XS, iq2_xs, 16)
ROWS_IQ(IQ2_S, iq2_s, 16)
ROWS_IQ(IQ3_S, iq3_s, 32)
