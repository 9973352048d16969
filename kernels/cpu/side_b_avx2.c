/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/side_b_avx2.c: one column of formats with blocks of 32 at the AVX2 level. Called through the
 * formats' row functions (matmul_b_avx2.c), any thread.
 *
 * Eight blocks of a row are turned in registers until a register holds four weights of each, and
 * multiplied with activations that a call lays out alike in its scratch: the sums of eight blocks come out
 * in eight lanes, and nothing is added across lanes. Four rows are read side by side, so that their
 * floats, which are added block by block as quant.h demands, wait for each other less. Memory is asked for
 * in file order.
 */
#include "kernels/cpu/avx2_b.h"

#define SIDE 4 /* rows that are read side by side */

/* 256 activations: vector k, word j: values 4k .. 4k+3 of block j; of those in_parts() two, low and upper ones */
struct side_act {
	int8_t q[8][32];
};

/*
 * What stands at the front of eight blocks @n bytes apart, side by side. Loads begin the earlier the later the
 * block, so that each front comes to lie in a lane of its own, and nothing is moved but by blending.
 */
FORCE_INLINE __m128i eight_halves(const uint8_t *w, size_t n)
{
	__m128i v[4];

#define HALF(i) load16(w + (i) * (n - 2))
	v[0] = _mm_blend_epi16(HALF(0), HALF(1), 0x02);
	v[1] = _mm_blend_epi16(HALF(2), HALF(3), 0x08);
	v[2] = _mm_blend_epi16(HALF(4), HALF(5), 0x20);
	v[3] = _mm_blend_epi16(HALF(6), HALF(7), 0x80);
#undef HALF
	return _mm_blend_epi16(_mm_blend_epi16(v[0], v[1], 0x0c), _mm_blend_epi16(v[2], v[3], 0xc0),
			       0xf0);
}

FORCE_INLINE __m128i four_words(const uint8_t *w, size_t n)
{
#define WORD(i) load16(w + (i) * (n - 4))
	return _mm_blend_epi32(_mm_blend_epi32(WORD(0), WORD(1), 0x2),
			       _mm_blend_epi32(WORD(2), WORD(3), 0x8), 0xc);
#undef WORD
}

/* the first eight bytes of two blocks */
FORCE_INLINE __m128 two_doubles(const uint8_t *w, size_t n)
{
	const __m128i first = _mm_loadl_epi64((const __m128i *)w);

	return _mm_loadh_pi(_mm_castsi128_ps(first), (const void *)(w + n));
}

FORCE_INLINE struct front front(const struct b_format *f, const uint8_t *w)
{
	struct front t = { .min = _mm256_setzero_ps(), .high = _mm256_setzero_si256() };
	const size_t n = f->bytes;
	__m256i word;

	if (f->head == 2 && !f->fp4) {
		t.d = _mm256_cvtph_ps(eight_halves(w, n));
		return t;
	}
	if (f->head == 8) {
		const __m256 a = _mm256_set_m128(two_doubles(w + 4 * n, n), two_doubles(w, n));
		const __m256 b =
			_mm256_set_m128(two_doubles(w + 6 * n, n), two_doubles(w + 2 * n, n));

		word = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88));
		t.high = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd));
		if (f->group != GROUP_MIN)
			t.high = _mm256_or_si256(_mm256_srli_epi32(word, 16),
						 _mm256_slli_epi32(t.high, 16));
	} else {
		word = _mm256_set_m128i(four_words(w + 4 * n, n), four_words(w, n));
	}
	if (f->fp4)
		t.d = fp4_scales(word);
	else
		two_halves(word, &t.d, &t.min);
	return t;
}

/* eight blocks' whole sums with the column; GROUP_8, GROUP_16: two to a lane, still to be added */
FORCE_INLINE __m256i dot(const struct b_format *f, const __m256i q[8], const struct side_act *x)
{
	/* 16-bit sums that are added before they become 32 bits */
	const int most = f->group >= GROUP_8 ? 8 : 4;
	const int vectors = in_parts(f) ? 16 : 8;
	__m256i sum = _mm256_setzero_si256();

#pragma GCC unroll 4
	for (int k = 0; k < vectors; k += most) {
		__m256i s = _mm256_setzero_si256();

#pragma GCC unroll 8
		for (int i = k; i < k + most; i++) {
			const __m256i a = _mm256_maddubs_epi16(q[i % 8], load32(x[i / 8].q[i % 8]));

			s = i == k ? a : _mm256_add_epi16(s, a);
		}
		if (f->group >= GROUP_8 && !in_parts(f))
			return s;
		s = _mm256_madd_epi16(s, _mm256_set1_epi16(k < 8 ? 1 : 16));
		sum = k ? _mm256_add_epi32(sum, s) : s;
	}
	return sum;
}

/* Eight blocks of SIDE rows, as the rows' turns leave them. */
struct side {
	__m256i sum[SIDE]; /* lanes: blocks */
	__m256 d[SIDE], min[SIDE];
};

/* The same by row: what is to be added to the rows' floats, block j in place_of_block(j). */
struct __attribute__((aligned(32))) chain { /* by_row() stores two at once */
	__m128 scale[8], sum[8], min[8];
};

/* what is read of eight blocks of a row */
struct turned {
	struct front front;
	__m256i t[8];
};

FORCE_INLINE void turn_row(const struct b_format *f, const uint8_t *w, struct turned *to)
{
	/* or the compiler keeps the address of every block */
	__asm__("" : "+r"(w));
	to->front = front(f, w);
	turn_values(f, w, f->bytes, to->t);
}

/* eight blocks of one row */
FORCE_INLINE void multiply_row(const struct b_format *f, const struct turned *row,
			       const struct side_act *x, struct side *s, int r)
{
	__m256i q[8];

	s->d[r] = row->front.d;
	s->min[r] = row->front.min;
	values(f, row->t, row->front.high, q);
	s->sum[r] = dot(f, q, x);
}

/* the four rows of each block together: what was by block */
FORCE_INLINE void by_row(__m256 v[SIDE], __m128 *to)
{
	transpose4(v);
#pragma GCC unroll 4
	for (int i = 0; i < SIDE; i++)
		_mm256_store_ps((float *)(to + 2 * i), v[i]);
}

/* where by_row() puts block j */
FORCE_INLINE int place_of_block(int j)
{
	return j % 4 * 2 + j / 4;
}

FORCE_INLINE void link_rows(const struct b_format *f, const struct side *s,
			    const struct act_group *x, struct chain *to)
{
	const __m256 dx = _mm256_load_ps(x->d);
	__m256 sum[SIDE], v[SIDE];

#pragma GCC unroll 4
	for (int r = 0; r < SIDE; r++) {
		__m256i whole = s->sum[r];

		if (f->group == GROUP_16)
			whole = _mm256_add_epi16(whole, load32(x->less16));
		if (f->group == GROUP_8 || f->group == GROUP_16)
			whole = _mm256_madd_epi16(whole, _mm256_set1_epi16(1));
		sum[r] = _mm256_cvtepi32_ps(whole);
		/* below 2^24 all of it: exact */
		if (f->group == GROUP_8 || in_parts(f))
			sum[r] = _mm256_fnmadd_ps(_mm256_set1_ps((float)f->group),
						  _mm256_load_ps(x->sum), sum[r]);
	}
	by_row(sum, to->sum);
#pragma GCC unroll 4
	for (int r = 0; r < SIDE; r++)
		v[r] = _mm256_mul_ps(s->d[r], dx);
	by_row(v, to->scale);
	if (f->group != GROUP_MIN)
		return;
#pragma GCC unroll 4
	for (int r = 0; r < SIDE; r++)
		v[r] = _mm256_mul_ps(s->min[r], dx);
	by_row(v, to->min);
}

/* y += blocks 2r and 2r + 1 */
FORCE_INLINE __m128 add_two(const struct b_format *f, const struct chain *k,
			    const struct act_group *x, int r, __m128 y)
{
#pragma GCC unroll 2
	for (int j = 2 * r; j < 2 * r + 2; j++) {
		const int at = place_of_block(j);

		y = _mm_fmadd_ps(k->scale[at], k->sum[at], y);
		if (f->group == GROUP_MIN)
			y = _mm_fmadd_ps(k->min[at], _mm_set1_ps(x->sum[j]), y);
	}
	return y;
}

/*
 * Eight blocks of SIDE rows to @k. The blocks before, which are there already, are added to the rows in
 * between: each addition waits for the one before.
 */
FORCE_INLINE __m128 step(const struct b_format *f, const uint8_t *const *w, const uint8_t *ahead,
			 const struct side_act *t, const struct act_group *x, size_t b,
			 struct chain *k, __m128 y)
{
	struct turned row[2];
	struct side s;

	turn_row(f, w[0], &row[0]);
#pragma GCC unroll 4
	for (int r = 0; r < SIDE; r++, ahead += 8 * f->bytes) {
#pragma GCC unroll 8
		for (size_t i = 0; i < 8 * f->bytes; i += 64)
			_mm_prefetch((const char *)ahead + i, _MM_HINT_T1);
		if (r + 1 < SIDE)
			turn_row(f, w[r + 1], &row[(r + 1) % 2]);
		multiply_row(f, &row[r % 2], &t[in_parts(f) ? 2 * b : b], &s, r);
		if (b)
			y = add_two(f, k, &x[b - 1], r, y);
		__asm__ volatile("" ::: "memory");
	}
	link_rows(f, &s, &x[b], k);
	return y;
}

FORCE_INLINE void lay_out(const struct b_format *f, const struct act_group *x, size_t groups,
			  struct side_act *to)
{
	for (size_t g = 0; g < groups; g++) {
		__m256i v[8];

		for (int j = 0; j < 8; j++)
			v[j] = load32(x[g].q[j]);
		transpose8(v);
		for (int k = 0; k < 8; k++) {
			if (in_parts(f))
				two_parts(v[k], to[2 * g].q[k], to[2 * g + 1].q[k]);
			else
				_mm256_store_si256((__m256i *)to[g].q[k], v[k]);
		}
	}
}

FORCE_INLINE void side(const struct b_format *f, const struct matmul *m, size_t row, size_t rows,
		       size_t col)
{
	const size_t blocks = m->n / 32, whole = blocks / 8, end = row + rows;
	const struct act_group *x = m->x[col];
	struct side_act *t = m->scratch;

	lay_out(f, x, div_ceil(blocks, 8), t);
	for (; row < end; row += SIDE) {
		const uint8_t *w[SIDE], *next = (const uint8_t *)m->w + row * m->row_bytes;
		const size_t n = row + SIDE <= end ? SIDE : end - row;
		__m128 y = _mm_setzero_ps();
		struct chain k;

		/* in file order, as memory likes it best: the rows after these, or what comes later */
		next = rows_ahead(m, next, SIDE);
		for (size_t r = 0; r < SIDE; r++)
			w[r] = (const uint8_t *)m->w + (row + (r < n ? r : n - 1)) * m->row_bytes;
#pragma GCC unroll 1
		for (size_t b = 0; b < whole; b++) {
			y = step(f, w, next, t, x, b, &k, y);
			next += SIDE * 8 * f->bytes;
#pragma GCC unroll 4
			for (size_t r = 0; r < SIDE; r++)
				w[r] += 8 * f->bytes;
		}
		if (blocks % 8) {
			uint8_t spare[SIDE][PIECE] = { { 0 } };

			for (size_t r = 0; r < SIDE; r++) {
				memcpy(spare[r], w[r], blocks % 8 * f->bytes);
				w[r] = spare[r];
			}
			y = step(f, w, next, t, x, whole, &k, y);
		}
#pragma GCC unroll 4
		for (int r = 0; r < SIDE; r++)
			y = add_two(f, &k, &x[div_ceil(blocks, 8) - 1], r, y);
		store_rows(m->y[col] + row, _mm256_zextps128_ps256(y), n);
	}
}

#define SIDE_B(name, ...)                                                                  \
	void avx2_side_##name(const struct matmul *m, size_t row, size_t rows, size_t col) \
	{                                                                                  \
		static const struct b_format f = { __VA_ARGS__ };                          \
                                                                                           \
		side(&f, m, row, rows, col);                                               \
	}

B_TURNED(SIDE_B)
