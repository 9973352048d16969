/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/pair_b_avx2.c: two to four columns of formats with blocks of 32 at the AVX2 level: drafts, mostly.
 * Called through the formats' row functions (matmul_b_avx2.c), any thread.
 *
 * As in few_b_avx2.c rows stand in the lanes, but columns are written out: a register of weights meets all
 * of them as soon as it is unpacked, and sums stay in registers until the block ends. What limits these kernels
 * is how many instructions a core takes in, four a clock; so scales are inserted into a register straight from
 * memory, and up to three columns sixteen rows share what is broadcast of a column. The bounds of sums are those of
 * few_b_avx2.c.
 */
#include "kernels/cpu/avx2_b.h"

#define PAIR_COLS 4 /* columns, at most */
#define SETS	  2 /* of eight rows that are walked together, at most */

FORCE_INLINE int half_bits(const uint8_t *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof(h));
	return h;
}

/* the halves at the front of eight blocks @n bytes apart, in two chains that do not wait for each other */
FORCE_INLINE __m128i eight_halves(const uint8_t *w, size_t n)
{
	__m128i a = _mm_cvtsi32_si128(half_bits(w)), b = _mm_cvtsi32_si128(half_bits(w + 4 * n));

	a = _mm_insert_epi16(a, half_bits(w + n), 1);
	b = _mm_insert_epi16(b, half_bits(w + 5 * n), 1);
	a = _mm_insert_epi16(a, half_bits(w + 2 * n), 2);
	b = _mm_insert_epi16(b, half_bits(w + 6 * n), 2);
	a = _mm_insert_epi16(a, half_bits(w + 3 * n), 3);
	b = _mm_insert_epi16(b, half_bits(w + 7 * n), 3);
	return _mm_unpacklo_epi64(a, b);
}

FORCE_INLINE struct front front(const struct b_format *f, const uint8_t *w, size_t stride)
{
	struct front t = { .min = _mm256_setzero_ps(), .high = _mm256_setzero_si256() };
	__m256i word[4];

	if (f->head == 2) {
		const __m128i half = eight_halves(w, stride);

		t.d = f->fp4 ? fp4_scales(_mm256_cvtepu16_epi32(half)) : _mm256_cvtph_ps(half);
		return t;
	}
	turn16(w, stride, word);
	if (f->head == 8) {
		t.high = word[1];
		if (f->group != GROUP_MIN)
			t.high = _mm256_or_si256(_mm256_srli_epi32(word[0], 16),
						 _mm256_slli_epi32(t.high, 16));
	}
	two_halves(word[0], &t.d, &t.min);
	return t;
}

/* 16 to those of weights 4k .. 4k+3 whose bit in @high is set */
FORCE_INLINE __m256i fifth(__m256i high, int k)
{
	const __m256i bit = _mm256_set1_epi32((int)0x80402010u);
	const __m256i first = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
	const __m256i which = _mm256_add_epi8(first, _mm256_set1_epi8((char)(k / 2)));
	__m256i b = _mm256_shuffle_epi8(high, which);

	if (k % 2 == 0)
		b = _mm256_slli_epi16(b, 4);
	return _mm256_min_epu8(_mm256_and_si256(b, bit), _mm256_set1_epi8(16));
}

/* weights 4k .. 4k+3 of eight rows, whole bytes in parts of four bits */
FORCE_INLINE void weights(const struct b_format *f, const __m256i t[4], __m256i high, int k,
			  __m256i q[2])
{
	const __m256i low4 = _mm256_set1_epi8(15);
	const __m256i table = _mm256_broadcastsi128_si256(load16(f->table));

	q[0] = _mm256_and_si256(k < 4 ? t[k] : _mm256_srli_epi16(t[k - 4], 4), low4);
	if (f->form == FORM_FIVE)
		q[0] = _mm256_or_si256(q[0], fifth(high, k));
	if (in_parts(f)) {
		q[1] = _mm256_shuffle_epi8(twice_upper(table), q[0]);
		q[0] = _mm256_shuffle_epi8(_mm256_and_si256(table, low4), q[0]);
	} else if (f->form == FORM_TABLE) {
		q[0] = _mm256_shuffle_epi8(table, q[0]);
	}
}

/*
 * sum + q * four; it stays where it is: the compiler, left alone, adds up in a tree whose leaves do not fit
 * the registers
 */
FORCE_INLINE __m256i add_product(__m256i sum, __m256i q, __m256i four)
{
	sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(q, four));
	__asm__("" : "+x"(sum));
	return sum;
}

/* What a block's weights add up to with each column; part: in 16 bits, the second is of a table's upper parts. */
struct sums {
	__m256i part[2][PAIR_COLS][SETS], whole[PAIR_COLS][SETS];
};

/* part 0, of some of the weights, to the whole */
FORCE_INLINE void gather(struct sums *s, int c, int r, bool first)
{
	const __m256i some = _mm256_madd_epi16(s->part[0][c][r], _mm256_set1_epi16(1));

	s->whole[c][r] = first ? some : _mm256_add_epi32(s->whole[c][r], some);
}

/* weights 4k .. 4k+3 of set @r times all columns */
FORCE_INLINE void multiply(const struct b_format *f, const __m256i q[2], const __m256i *four,
			   const __m256i *start, int cols, int k, int r, struct sums *s)
{
	/* products that fit 16 bits in the end: of Q5_1's weights four, else eight */
	const int most = f->form == FORM_FIVE && f->group == GROUP_MIN ? 4 : 8;

#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		__m256i *low = &s->part[0][c][r], *up = &s->part[1][c][r];

		if (in_parts(f))
			*up = add_product(k ? *up : start[c], q[1], four[c]);
		if (k % most == 0 && f->group != GROUP_16)
			*low = _mm256_maddubs_epi16(q[0], four[c]);
		else
			*low = add_product(k % most ? *low : start[c], q[0], four[c]);
		if (k % most == most - 1)
			gather(s, c, r, k < most);
	}
}

/* y[c] += a block of @sets times eight rows times block @j of a group of column c */
FORCE_INLINE void block(const struct b_format *f, const uint8_t *w, size_t stride, int sets,
			const struct act_group *const *x, unsigned j, int cols, __m256 (*y)[SETS])
{
	const __m256i eight = _mm256_set1_epi16(8);
	struct front h[SETS];
	__m256i t[SETS][4], start[PAIR_COLS];
	struct sums s;

#pragma GCC unroll 2
	for (int r = 0; r < sets; r++, w += AVX2_ROWS * stride) {
		h[r] = front(f, w, stride);
		turn16(w + f->qs, stride, t[r]);
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		start[c] = two_of(x[c]->less16[j], 0);
#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
		__m256i four[PAIR_COLS];

#pragma GCC unroll 4
		for (int c = 0; c < cols; c++)
			four[c] = four_of(x[c]->q[j], k);
#pragma GCC unroll 2
		for (int r = 0; r < sets; r++) {
			__m256i q[2];

			weights(f, t[r], h[r].high, k, q);
			multiply(f, q, four, start, cols, k, r, &s);
		}
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
#pragma GCC unroll 2
		for (int r = 0; r < sets; r++) {
			__m256i whole = s.whole[c][r];

			if (in_parts(f))
				whole = _mm256_add_epi32(whole,
							 _mm256_madd_epi16(s.part[1][c][r], eight));
			y[c][r] = add_block(f, h[r].d, h[r].min, whole, x[c]->d[j], x[c]->sum[j],
					    y[c][r]);
		}
	}
}

/*
 * y[c] += up to eight blocks of the rows times group @b of column c. As many bytes from @ahead on are asked for, a
 * block's with each block.
 */
FORCE_INLINE void step(const struct b_format *f, const struct place *p, int sets,
		       const uint8_t *ahead, const struct act_group *const *x, size_t b, int cols,
		       __m256 (*y)[SETS])
{
	const size_t bytes = (size_t)sets * AVX2_ROWS * f->bytes;
	const struct act_group *at[PAIR_COLS];
	const uint8_t *w = p->w;

#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		at[c] = x[c] + b;
#pragma GCC unroll 1
	for (unsigned j = 0; j < p->blocks; j++, w += f->bytes, ahead += bytes) {
#pragma GCC unroll 8
		for (size_t i = 0; i < bytes; i += 64)
			_mm_prefetch((const char *)ahead + i, _MM_HINT_T1);
		block(f, w, p->stride, sets, at, j, cols, y);
	}
}

/* @n <= 8 times @sets rows from @row on */
FORCE_INLINE void pair_rows(const struct b_format *f, const struct matmul *m, size_t row, size_t n,
			    int sets, const struct act_group *const *x, size_t col, int cols)
{
	const size_t most = (size_t)sets * AVX2_ROWS, bytes = STEP * most * f->bytes;
	__m256 y[PAIR_COLS][SETS];
	uint8_t spare[SETS * AVX2_ROWS][PIECE];
	const struct rows k = rows_from(m, row, n, most, spare[0]);
	/* in file order, as memory likes it best: the rows after these, or what comes later */
	const uint8_t *ahead = rows_ahead(m, k.w, most);

#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
#pragma GCC unroll 2
		for (int r = 0; r < sets; r++)
			y[c][r] = _mm256_setzero_ps();
#pragma GCC unroll 1
	for (size_t b = 0; b < div_ceil(k.blocks, STEP); b++, ahead += bytes) {
		const struct place p = place_of(&k, b, f->bytes);

		step(f, &p, sets, ahead, x, b, cols, y);
	}
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
#pragma GCC unroll 2
		for (size_t r = 0; r < (size_t)sets; r++)
			if (n > AVX2_ROWS * r)
				store_rows(m->y[col + (size_t)c] + row + AVX2_ROWS * r, y[c][r],
					   n - AVX2_ROWS * r);
}

FORCE_INLINE void pair(const struct b_format *f, const struct matmul *m, size_t row, size_t rows,
		       size_t col, int cols)
{
	/* more sums than six and the weights do not fit the registers */
	const size_t sets = cols + (in_parts(f) ? 1 : 0) <= 3 ? SETS : 1;
	const struct act_group *x[PAIR_COLS] = { NULL };
	const size_t end = row + rows, most = sets * AVX2_ROWS;

#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		x[c] = m->x[col + (size_t)c];
	for (; row + AVX2_ROWS < end && sets == SETS; row += most)
		pair_rows(f, m, row, u64_min(most, end - row), SETS, x, col, cols);
	for (; row < end; row += AVX2_ROWS)
		pair_rows(f, m, row, u64_min(AVX2_ROWS, end - row), 1, x, col, cols);
}

#define PAIR(name, ...)                                                                    \
	void avx2_pair_##name(const struct matmul *m, size_t row, size_t rows, size_t col, \
			      int cols)                                                    \
	{                                                                                  \
		static const struct b_format f = { __VA_ARGS__ };                          \
                                                                                           \
		if (cols == 2)                                                             \
			pair(&f, m, row, rows, col, 2);                                    \
		else if (cols == 3)                                                        \
			pair(&f, m, row, rows, col, 3);                                    \
		else                                                                       \
			pair(&f, m, row, rows, col, 4);                                    \
	}

B_TURNED(PAIR)
