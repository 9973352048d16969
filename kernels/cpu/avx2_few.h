/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_few.h: five to eight columns of super-blocks at the AVX2 level: rows are streamed in file
 * order, each block is unpacked once, and columns stand in the lanes. Included through avx2_rows.h.
 *
 * What costs besides the products is adding up lanes: eight vectors of partial sums become one of eight
 * sums. Here these are a block's sums with eight columns, so that they join the rows' floats at once,
 * block by block as the law in quant.h says, and nothing is kept. The columns lie side by side in scratch
 * (struct few_super), which costs as much as half a row. Four columns are faster in avx2_rows.h.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_FEW_H
#define SLUICE_KERNELS_CPU_AVX2_FEW_H

#include "kernels/cpu/avx2_sums.h"

/* The lanes of @v to row @row of each of @cols columns. */
FORCE_INLINE void store_columns(const struct matmul *m, size_t row, size_t col, int cols, __m256 v)
{
	float y[8];

	_mm256_storeu_ps(y, v);
	for (int c = 0; c < cols; c++)
		m->y[col + (size_t)c][row] = y[c];
}

/* q of signs and values becomes unsigned, 64 more, for an offset: signs cost once, not in each column */
FORCE_INLINE void super_unsign(struct super *s, const __m256i *sign)
{
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++)
		s->q[j] = _mm256_add_epi8(_mm256_sign_epi8(s->q[j], sign[j]), _mm256_set1_epi8(64));
	s->min = _mm256_slli_epi16(s->scale, 6);
}

/* sums of min times activations: lanes are columns, eight of them */
FORCE_INLINE __m256i min_columns(const struct super *s, const struct few_super *x)
{
	__m256i sum = _mm256_setzero_si256(), half[2];

	halves_twice(s->min, half);
#define MIN_PAIR(i)                                                                         \
	sum = _mm256_add_epi32(                                                             \
		sum, _mm256_madd_epi16(_mm256_shuffle_epi32(half[(i) / 4], (i) % 4 * 0x55), \
				       load32(x->pair[i])))
	MIN_PAIR(0);
	MIN_PAIR(1);
	MIN_PAIR(2);
	MIN_PAIR(3);
	MIN_PAIR(4);
	MIN_PAIR(5);
	MIN_PAIR(6);
	MIN_PAIR(7);
#undef MIN_PAIR
	return sum;
}

/* What a super-block gives to the columns' floats. */
struct given {
	__m256i mins; /* what is taken from their sums */
	float d;
};

/*
 * One super-block's products with @cols columns, constant here, to @sum. A vector of weights meets all
 * columns before the next is unpacked: only sums stay in registers, and unpacking hides in between.
 */
FORCE_INLINE struct given few_super_block(const uint8_t *w, super_unpack_fn unpack,
					  const struct super_kind *k, const struct few_super *x,
					  int cols, __m256i *sum)
{
	__m256i sign[8], half[2];
	struct given g;
	struct super s;

	prefetch_ahead(w, k->bytes);
	unpack(w, &s, sign);
	if (k->form == SUPER_SIGNS)
		super_unsign(&s, sign);
	halves_twice(s.scale, half);
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++) {
		const bool is_signed = k->form == SUPER_SIGNED;
		const __m256i q = is_signed ? _mm256_abs_epi8(s.q[j]) : s.q[j];
		const __m256i below = _mm256_cmpgt_epi8(_mm256_setzero_si256(), s.q[j]);
		const __m256i scale = scale_at(half, j);

#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			__m256i a = load32(x->q[c] + 32 * j);

			if (k->form == SUPER_TERNARY) {
				a = _mm256_maddubs_epi16(q, a);
				sum[c] = j ? _mm256_add_epi16(sum[c], a) : a;
				continue;
			}
			if (is_signed)
				a = _mm256_sub_epi8(_mm256_xor_si256(a, below), below);
			a = _mm256_madd_epi16(_mm256_maddubs_epi16(q, a), scale);
			sum[c] = j ? add_here(sum[c], a) : a;
		}
	}
	g.d = s.d;
	if (k->form == SUPER_TERNARY) {
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			sum[c] = _mm256_madd_epi16(sum[c], _mm256_set1_epi16(1));
	}
	/* with a scale per 32 too it stands there per 16 */
	g.mins = k->form == SUPER_SIGNED || k->form == SUPER_TERNARY ? _mm256_setzero_si256()
								     : min_columns(&s, x);
	return g;
}

/* y + d * (sum of a super-block) */
FORCE_INLINE __m256 few_super_add(__m256 y, __m256i sum, const struct given *r,
				  enum super_form form, const struct few_super *x)
{
	const __m256 dx = _mm256_loadu_ps(x->d);

	if (form == SUPER_TERNARY)
		sum = _mm256_sub_epi32(sum, load32(x->total));
	if (form == SUPER_OFFSET || form == SUPER_SIGNS)
		sum = _mm256_sub_epi32(sum, r->mins);
	return _mm256_fmadd_ps(_mm256_mul_ps(_mm256_broadcast_ss(&r->d), dx),
			       _mm256_cvtepi32_ps(sum), y);
}

/* eight_sums() as whole numbers */
FORCE_INLINE __m256i eight_words(const __m256i *v)
{
	return sum_halves(sum_four(sum_pair(v[0], v[1]), sum_pair(v[2], v[3])),
			  sum_four(sum_pair(v[4], v[5]), sum_pair(v[6], v[7])));
}

FORCE_INLINE __m256 few_super_row(const uint8_t *w, size_t blocks, super_unpack_fn unpack,
				  const struct super_kind *k, const struct few_super *x, int cols)
{
	__m256 y = _mm256_setzero_ps();
	__m256i v[8];

#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		v[i] = _mm256_setzero_si256();
#pragma GCC unroll 1
	for (size_t b = 0; b < blocks; b++, w += k->bytes, x++) {
		const struct given g = few_super_block(w, unpack, k, x, cols, v);

		y = few_super_add(y, eight_words(v), &g, k->form, x);
	}
	return y;
}

/* Five to eight columns, which lie in scratch; @most, constant, are multiplied and @cols stored. */
FORCE_INLINE void few_super_rows(const struct matmul *m, size_t row, size_t rows, size_t col,
				 int cols, int most, super_unpack_fn unpack, struct super_kind k)
{
	const size_t end = row + rows;

	avx2_pack_super(m, col, cols);
	for (; row < end; row++)
		store_columns(m, row, col, cols,
			      few_super_row((const uint8_t *)m->w + row * m->row_bytes, m->n / 256,
					    unpack, &k, m->scratch, most));
}

#endif
