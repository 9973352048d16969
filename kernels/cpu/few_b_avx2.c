/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_b_avx2.c: two to eight columns of formats with blocks of 32 at the AVX2 level. Called
 * through the formats' row functions (GROUP_ROWS in avx2_rows.h), any thread.
 *
 * Eight rows are read side by side, a block of each at a time, and turned in registers until a register
 * holds four weights of every row; every column multiplies it with four of its activations, broadcast.
 * A block's sums come out with rows in the lanes: nothing is added across lanes, and one multiplication
 * of scales and one fma join eight rows' block to their floats, in the order that quant.h demands. What a
 * block starts with (scale, minimum, fifth bits) is collected eight blocks ahead by plain loads, which
 * also brings the bytes into the first cache level; memory is asked for in file order.
 *
 * Sums of two products are at most 2 * 15 * 127 (four bits), 2 * 31 * 127 (five; MXFP4 is below 25): eight,
 * or four, of them fit 16 bits. Signed weights to 127 leave no room for two.
 */
#include "kernels/cpu/avx2_b.h"

FORCE_INLINE struct front front(const struct b_format *f, const union heads *h, unsigned j)
{
	struct front t = { .min = _mm256_setzero_ps(), .high = _mm256_setzero_si256() };
	__m256i word;

	if (f->head == 2) {
		const __m128i half = load16(h->two[j]);

		t.d = f->fp4 ? fp4_scales(_mm256_cvtepu16_epi32(half)) : _mm256_cvtph_ps(half);
		return t;
	}
	if (f->head == 4) {
		word = load32(h->four[j]);
	} else {
		const __m256i a = load32(h->eight[j]), b = load32(h->eight[j] + 4);

		word = words_of(a, b, false);
		t.high = words_of(a, b, true);
		if (f->group != GROUP_MIN)
			t.high = _mm256_or_si256(_mm256_srli_epi32(word, 16),
						 _mm256_slli_epi32(t.high, 16));
	}
	two_halves(word, &t.d, &t.min);
	return t;
}

FORCE_INLINE __m256i four_of(const int8_t *v, int k)
{
	int32_t four;

	memcpy(&four, v + 4 * k, 4);
	return _mm256_set1_epi32(four);
}

/* a block of every row times that of a column, whole numbers; @size: |q| */
FORCE_INLINE __m256i dot(enum group_form form, const __m256i q[8], const __m256i size[8],
			 const int8_t *v)
{
	const __m256i ones = _mm256_set1_epi16(1);
	/* 16-bit sums that are added before they become 32 bits */
	const int most = form == GROUP_SIGNED ? 1 : form == GROUP_8 ? 8 : 4;
	__m256i sum = _mm256_setzero_si256();

#pragma GCC unroll 8
	for (int k = 0; k < 8; k += most) {
		__m256i s = _mm256_setzero_si256();

#pragma GCC unroll 8
		for (int i = k; i < k + most; i++) {
			__m256i a = four_of(v, i);

			if (form == GROUP_SIGNED)
				a = _mm256_sign_epi8(a, q[i]);
			a = _mm256_maddubs_epi16(size[i], a);
			s = i == k ? a : _mm256_add_epi16(s, a);
		}
		s = _mm256_madd_epi16(s, ones);
		sum = k ? _mm256_add_epi32(sum, s) : s;
	}
	return sum;
}

/* y[c] += up to eight blocks of every row times group @b of column c */
FORCE_INLINE void step(const struct b_format *f, const struct place *p, const union heads *h,
		       const struct act_group *const *x, size_t b, int cols, __m256 *y)
{
	const uint8_t *w = p->w;

#pragma GCC unroll 1
	for (unsigned j = 0; j < p->blocks; j++, w += f->bytes) {
		const struct front t = front(f, h, j);
		__m256i turned[8], q[8], size[8];

		turn_values(f, w, p->stride, turned);
		values(f, turned, t.high, q);
#pragma GCC unroll 8
		for (int k = 0; k < 8; k++)
			size[k] = f->group == GROUP_SIGNED ? _mm256_abs_epi8(q[k]) : q[k];
#pragma GCC unroll 1
		for (int c = 0; c < cols; c++) {
			const struct act_group *a = x[c] + b;
			const __m256 sums = _mm256_broadcast_ss(&a->sum[j]);
			__m256 sum = _mm256_cvtepi32_ps(dot(f->group, q, size, a->q[j]));

			/* below 2^24 all of it: exact */
			if (f->group >= GROUP_8)
				sum = _mm256_fnmadd_ps(_mm256_set1_ps((float)f->group), sums, sum);
			y[c] = add_scaled(y[c], t.d, a->d[j], sum);
			if (f->group == GROUP_MIN)
				y[c] = _mm256_fmadd_ps(
					_mm256_mul_ps(t.min, _mm256_broadcast_ss(&a->d[j])), sums,
					y[c]);
		}
	}
}

/* y[c]: the rows times column c; @ahead: what comes after them */
FORCE_INLINE void walk(const struct b_format *f, const struct rows *k, const uint8_t *ahead,
		       const struct act_group *const *x, int cols, __m256 *y)
{
	const size_t steps = div_ceil(k->blocks, STEP), bytes = AVX2_ROWS * STEP * f->bytes;
	union heads heads[2];

#pragma GCC unroll 1
	for (size_t s = 0; s <= steps; s++) {
		/* fronts of this step, products of the one before: stores have time to arrive */
		if (s < steps) {
			const struct place p = place_of(k, s, f->bytes);

			collect(f->head, f->bytes, &p, &heads[s % 2]);
			if (k->n < AVX2_ROWS)
				step(f, &p, &heads[s % 2], x, s, cols, y);
		}
		if (!s || k->n < AVX2_ROWS)
			continue;
		for (size_t i = 0; i < bytes; i += 64)
			_mm_prefetch((const char *)ahead + (s - 1) * bytes + i, _MM_HINT_T1);

		const struct place p = place_of(k, s - 1, f->bytes);

		step(f, &p, &heads[(s - 1) % 2], x, s - 1, cols, y);
	}
}

FORCE_INLINE void few(const struct b_format *f, const struct matmul *m, size_t row, size_t rows,
		      size_t col, int cols)
{
	const size_t end = row + rows, group = AVX2_ROWS * m->row_bytes;
	const struct act_group *x[AVX2_FEW] = { NULL };
	uint8_t spare[AVX2_ROWS][PIECE];
	struct rows k = { .row_bytes = m->row_bytes,
			  .blocks = m->n / 32,
			  .spare = spare[0],
			  .spare_bytes = PIECE };

	for (int c = 0; c < cols; c++)
		x[c] = m->x[col + (size_t)c];
	for (; row < end; row += AVX2_ROWS) {
		__m256 y[AVX2_FEW];

		k.w = (const uint8_t *)m->w + row * m->row_bytes;
		k.n = u64_min(AVX2_ROWS, end - row);
		for (int c = 0; c < cols; c++)
			y[c] = _mm256_setzero_ps();
		walk(f, &k, k.w + u64_max(group, PREFETCH_AHEAD), x, cols, y);
		for (int c = 0; c < cols; c++)
			store_rows(m->y[col + (size_t)c] + row, y[c], k.n);
	}
}

#define FEW(name, ...)                                                                    \
	void avx2_few_##name(const struct matmul *m, size_t row, size_t rows, size_t col, \
			     int cols)                                                    \
	{                                                                                 \
		static const struct b_format f = { __VA_ARGS__ };                         \
                                                                                          \
		few(&f, m, row, rows, col, cols);                                         \
	}

B_FORMATS(FEW)
