/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_b_avx2.c: five to eight columns (Q8_0: four to eight) of formats with blocks of 32 at the
 * AVX2 level. Called through the formats' row functions (matmul_b_avx2.c), any thread.
 *
 * Eight rows are read side by side, a block of each at a time, and turned in registers until a register
 * holds four weights of every row; every column multiplies it with four of its activations, broadcast.
 * A block's sums come out with rows in the lanes: nothing is added across lanes, and one multiplication
 * of scales and one fma join eight rows' block to their floats, in the order that quant.h demands. What a
 * block starts with (scale, minimum, fifth bits) is collected eight blocks ahead by plain loads, which
 * also brings the bytes into the first cache level; memory is asked for in file order.
 *
 * Sums of two products are at most 2 * 15 * 127 (four bits), 2 * 31 * 127 (five): eight, or four, of them fit 16
 * bits, and eight of weights of -16 to 15, once what stands for 16 more is gone. Signed weights to 127 leave no room
 * for two. Columns pass over half a block at a time, so that its weights stay in registers.
 */
#include "kernels/cpu/avx2_b.h"

FORCE_INLINE struct front front(const struct b_format *f, const union heads *h, unsigned j, int set)
{
	struct front t = { .min = _mm256_setzero_ps(), .high = _mm256_setzero_si256() };
	__m256i word;

	if (f->head == 2) {
		const __m128i half = load16(h->two[j] + 8 * set);

		t.d = f->fp4 ? fp4_scales(_mm256_cvtepu16_epi32(half)) : _mm256_cvtph_ps(half);
		return t;
	}
	if (f->head == 4) {
		word = load32(h->four[j] + 8 * set);
	} else {
		const __m256i a = load32(h->eight[j] + 8 * set),
			      b = load32(h->eight[j] + 8 * set + 4);

		word = words_of(a, b, false);
		t.high = words_of(a, b, true);
		if (f->group != GROUP_MIN)
			t.high = _mm256_or_si256(_mm256_srli_epi32(word, 16),
						 _mm256_slli_epi32(t.high, 16));
	}
	two_halves(word, &t.d, &t.min);
	return t;
}

/*
 * Of weights below 32 up to SETS times eight rows are walked together, so that what is read of a column serves
 * more than one product. Of whole bytes eight: unsigned ones stand in two parts of four bits, whose products add up
 * in 16 bits; signed ones as they are, and as magnitudes.
 */
#define SETS 2

/* 32 weights of rows, by set (see above); k: weights 4k .. 4k+3 of eight rows */
struct block {
	__m256i q[SETS][8];
};

/* What a block's products wait for: its scales and minima, its sums by column (of half a block, as they come). */
struct waiting {
	__m256 d[SETS], min[SETS];
	__m256i sum[AVX2_FEW][SETS];
};

/* weights 4k .. of eight rows times a column's, four k, in 16 bits */
FORCE_INLINE __m256i four_words(const __m256i q[4], const __m256i four[4])
{
	__m256i s = _mm256_maddubs_epi16(q[0], four[0]);

#pragma GCC unroll 3
	for (int i = 1; i < 4; i++)
		s = _mm256_add_epi16(s, _mm256_maddubs_epi16(q[i], four[i]));
	return s;
}

/* the same of bytes, in 32 bits */
FORCE_INLINE __m256i four_bytes(const __m256i q[4], const __m256i size[4], const __m256i four[4])
{
	const __m256i ones = _mm256_set1_epi16(1);
	__m256i s = _mm256_setzero_si256();

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		__m256i a = _mm256_maddubs_epi16(size[i], _mm256_sign_epi8(four[i], q[i]));

		a = _mm256_madd_epi16(a, ones);
		s = i ? _mm256_add_epi32(s, a) : a;
	}
	return s;
}

/*
 * Half a block of @sets sets times a column to @sum, half 1 with what half 0 left there. Eight products of
 * weights below 16 fit 16 bits, four of those below 32, and eight of GROUP_16 with @less16.
 */
FORCE_INLINE void multiply_half(const struct b_format *f, __m256i (*q)[4], int sets, int half,
				const __m256i four[4], __m256i less16, __m256i *sum)
{
	const __m256i ones = _mm256_set1_epi16(1), eight = _mm256_set1_epi16(8);
	const bool parts = in_parts(f), narrow = f->group >= GROUP_8;
	const int some = parts ? SETS : sets;
	__m256i s[SETS];

	if (f->form == FORM_EIGHT) {
		s[0] = four_bytes(q[0], q[1], four);
		sum[0] = half ? _mm256_add_epi32(s[0], sum[0]) : s[0];
		return;
	}
#pragma GCC unroll 2
	for (int r = 0; r < some; r++) {
		s[r] = four_words(q[r], four);
		if (!half && (f->group == GROUP_16 || (parts && r)))
			s[r] = _mm256_add_epi16(s[r], less16);
		if (half && narrow)
			s[r] = _mm256_add_epi16(s[r], sum[r]);
		if (half || !narrow)
			s[r] = _mm256_madd_epi16(s[r], parts && r ? eight : ones);
		if (half && !narrow)
			s[r] = _mm256_add_epi32(s[r], sum[r]);
	}
	sum[0] = half && parts ? _mm256_add_epi32(s[0], s[1]) : s[0];
	if (sets == 2 || (parts && !half))
		sum[1] = s[1];
}

/*
 * Half a block times all columns to @k; @before: what stands there of the block before is added to the rows
 * first. (Floats wait long for each other; so they are mixed with what does not.)
 */
FORCE_INLINE void half_block(const struct b_format *f, const struct block *v, int sets, int half,
			     bool before, const struct act_group *const *x, unsigned j, int cols,
			     struct waiting *k, __m256 (*y)[SETS])
{
	const int some = in_parts(f) || f->group == GROUP_SIGNED ? SETS : sets;
	__m256i q[SETS][4];

#pragma GCC unroll 2
	for (int r = 0; r < some; r++)
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++)
			q[r][i] = v->q[r][4 * half + i];
#pragma GCC unroll 1
	for (int c = 0; c < cols; c++) {
		const struct act_group *a = x[c];
		__m256i four[4];

		if (before) {
#pragma GCC unroll 2
			for (int r = 0; r < sets; r++)
				y[c][r] = add_block(f, k->d[r], k->min[r], k->sum[c][r],
						    a->d[j - 1], a->sum[j - 1], y[c][r]);
		}
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++)
			four[i] = four_of(a->q[j], 4 * half + i);
		multiply_half(f, q, sets, half, four, two_of(a->less16[j], 0), k->sum[c]);
	}
}

/* a block's weights of set @r to @v */
FORCE_INLINE void set_values(const struct b_format *f, const __m256i turned[8], __m256i high, int r,
			     struct block *v)
{
	const __m256i low4 = _mm256_set1_epi8(15);
	const __m256i table = _mm256_broadcastsi128_si256(load16(f->table));
	const __m256i low = _mm256_and_si256(table, low4);
	const __m256i up = twice_upper(table);

	if (!in_parts(f))
		values(f, turned, high, v->q[r]);
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++) {
		if (in_parts(f)) {
			__m256i n = i < 4 ? turned[i] : _mm256_srli_epi16(turned[i - 4], 4);

			n = _mm256_and_si256(n, low4);
			v->q[0][i] = _mm256_shuffle_epi8(low, n);
			v->q[1][i] = _mm256_shuffle_epi8(up, n);
		} else if (f->form == FORM_EIGHT) {
			v->q[1][i] = _mm256_abs_epi8(v->q[0][i]);
		}
	}
}

/*
 * y[c] += up to eight blocks of every row times group @b of column c. As many bytes from @ahead on are asked
 * for, a block's with each block: a core holds so few of such requests that those of a step wait for each other.
 */
FORCE_INLINE void step(const struct b_format *f, const struct place *p, const union heads *h,
		       int sets, const uint8_t *ahead, const struct act_group *const *x, size_t b,
		       int cols, __m256 (*y)[SETS])
{
	const struct act_group *at[AVX2_FEW];
	const uint8_t *w = p->w;
	struct waiting k;

	for (int c = 0; c < cols; c++)
		at[c] = x[c] + b;
	for (int r = 0; r < sets; r++)
		k.d[r] = k.min[r] = _mm256_setzero_ps();
#pragma GCC unroll 1
	for (unsigned j = 0; j < p->blocks; j++, w += f->bytes) {
		__m256 d[SETS], min[SETS];
		struct block v;

		for (size_t i = 0; i < p->rows * f->bytes; i += 64)
			_mm_prefetch((const char *)ahead + i, _MM_HINT_T1);
		ahead += p->rows * f->bytes;
#pragma GCC unroll 2
		for (int r = 0; r < sets; r++) {
			const struct front t = front(f, h, j, r);
			__m256i turned[8];

			d[r] = t.d;
			min[r] = t.min;
			turn_values(f, w + (size_t)r * 8 * p->stride, p->stride, turned);
			set_values(f, turned, t.high, r, &v);
		}
		if (!j)
			half_block(f, &v, sets, 0, false, at, j, cols, &k, y);
		else
			half_block(f, &v, sets, 0, true, at, j, cols, &k, y);
		half_block(f, &v, sets, 1, false, at, j, cols, &k, y);
#pragma GCC unroll 2
		for (int r = 0; r < sets; r++) {
			k.d[r] = d[r];
			k.min[r] = min[r];
		}
	}
#pragma GCC unroll 1
	for (int c = 0; c < cols; c++) {
		const unsigned j = p->blocks - 1;

#pragma GCC unroll 2
		for (int r = 0; r < sets; r++)
			y[c][r] = add_block(f, k.d[r], k.min[r], k.sum[c][r], at[c]->d[j],
					    at[c]->sum[j], y[c][r]);
	}
}

/* y[c]: the rows times column c; @ahead: what comes after them */
FORCE_INLINE void walk(const struct b_format *f, const struct rows *k, int sets,
		       const uint8_t *ahead, const struct act_group *const *x, int cols,
		       __m256 (*y)[SETS])
{
	const size_t steps = div_ceil(k->blocks, STEP), bytes = k->most * STEP * f->bytes;
	union heads heads[2];

#pragma GCC unroll 1
	for (size_t s = 0; s <= steps; s++) {
		/* fronts of this step, products of the one before: stores have time to arrive */
		if (s < steps) {
			const struct place p = place_of(k, s, f->bytes);

			collect(f->head, f->bytes, &p, &heads[s % 2]);
			if (k->n < k->most)
				step(f, &p, &heads[s % 2], sets, p.w, x, s, cols, y);
		}
		if (!s || k->n < k->most)
			continue;

		const struct place p = place_of(k, s - 1, f->bytes);

		step(f, &p, &heads[(s - 1) % 2], sets, ahead + (s - 1) * bytes, x, s - 1, cols, y);
	}
}

/* @n <= 8 times @sets rows from @row on */
FORCE_INLINE void few_rows(const struct b_format *f, const struct matmul *m, size_t row, size_t n,
			   int sets, const struct act_group *const *x, size_t col, int cols)
{
	const size_t most = (size_t)sets * AVX2_ROWS;
	__m256 y[AVX2_FEW][SETS];
	uint8_t spare[SETS * AVX2_ROWS][PIECE];
	const struct rows k = rows_from(m, row, n, most, spare[0]);

	for (int c = 0; c < cols; c++)
		for (int r = 0; r < sets; r++)
			y[c][r] = _mm256_setzero_ps();
	walk(f, &k, sets, rows_ahead(m, k.w, most), x, cols, y);
	for (int c = 0; c < cols; c++)
		for (size_t r = 0; r < (size_t)sets; r++)
			if (n > 8 * r)
				store_rows(m->y[col + (size_t)c] + row + 8 * r, y[c][r], n - 8 * r);
}

FORCE_INLINE void few(const struct b_format *f, const struct matmul *m, size_t row, size_t rows,
		      size_t col, int cols)
{
	const struct act_group *x[AVX2_FEW] = { NULL };
	const size_t end = row + rows;

	for (int c = 0; c < cols; c++)
		x[c] = m->x[col + (size_t)c];
	if (!in_parts(f) && f->group != GROUP_SIGNED) {
		for (; row + AVX2_ROWS < end; row += SETS * AVX2_ROWS)
			few_rows(f, m, row, u64_min(SETS * AVX2_ROWS, end - row), SETS, x, col,
				 cols);
	}
	for (; row < end; row += AVX2_ROWS)
		few_rows(f, m, row, u64_min(AVX2_ROWS, end - row), 1, x, col, cols);
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
