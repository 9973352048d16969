/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_b_avx512.h: one column of formats with blocks of 32, of some two, at the AVX-512 level, for
 * rows_b_avx512.c and, where the CPU has VBMI, rows_b_vbmi.c. Any thread.
 *
 * Four rows are read side by side, four blocks of each at a time, which stand in the four 128-bit lanes, their
 * first and second halves in two registers. Rows meet where the words of a lane are added up: of that comes a
 * register with four rows of a block in each lane, whose floats are added block by block as quant.h demands.
 * Loads are what this is short of: four blocks of a row are two or three registers as they lie in the file, and
 * weights, scales and fifth bits are taken out of them by word, with VBMI by byte. Memory is asked for in file order.
 *
 * Signed formats are multiplied plus 8, 16 or 128, which the sums of the activations take away.
 */
#ifndef SLUICE_KERNELS_CPU_ROWS_B_AVX512_H
#define SLUICE_KERNELS_CPU_ROWS_B_AVX512_H

#include "kernels/cpu/avx512_row.h"

#include "base/num.h"

#define SIDE   4 /* rows, and blocks of each */
#define B_COLS 2 /* at most */

enum b_form { FORM_NIBBLE, FORM_TABLE, FORM_FIVE, FORM_EIGHT };

/* what the kernels for one format differ in; constants after inlining */
struct b_format {
	enum b_form form;
	size_t bytes, qs, qh; /* of a block, and where the fields are */
	bool min, fp4;
	float offset;	/* of weights; with minima 1 */
	__m512i values; /* FORM_TABLE */
};

/* activations of four blocks: q as in struct act_b, each block's numbers in a lane; sum is times the offset */
struct four_act {
	int8_t q[128];
	float d[16], sum[16];
};

/* four blocks of a row: first and second halves, and what scales are taken from */
struct four {
	__m512i q[2], front;
};

/* where the second register of four blocks begins */
FORCE_INLINE size_t second_at(const struct b_format *f)
{
	if (f->form == FORM_EIGHT)
		return 64;
	return SIDE * f->bytes - (f->bytes > 20 ? 32 : 16);
}

/* the number of the word at byte @at in both registers */
FORCE_INLINE short word_in(const struct b_format *f, size_t at)
{
	return (short)(at < 64 ? at / 2 : 32 + (at - second_at(f)) / 2);
}

FORCE_INLINE __m512i second_register(const struct b_format *f, const uint8_t *w)
{
	__m512i v;

	w += second_at(f);
	if (f->form == FORM_EIGHT)
		return load_once(w);
	v = f->bytes > 20 ? _mm512_zextsi256_si512(_mm256_loadu_si256((const void *)w))
			  : _mm512_zextsi128_si512(_mm_loadu_si128((const void *)w));
	__asm__("" : "+v"(v));
	return v;
}

#define WORD(i, o) word_in(f, (i)*f->bytes + (o))
#define EIGHT(i, o)                                                                \
	WORD(i, (o) + 14), WORD(i, (o) + 12), WORD(i, (o) + 10), WORD(i, (o) + 8), \
		WORD(i, (o) + 6), WORD(i, (o) + 4), WORD(i, (o) + 2), WORD(i, o)

/* sixteen bytes of each block, at @at of it */
FORCE_INLINE __m512i by_word(const struct b_format *f, __m512i a, __m512i b, size_t at)
{
	const __m512i which =
		_mm512_set_epi16(EIGHT(3, at), EIGHT(2, at), EIGHT(1, at), EIGHT(0, at));

	return _mm512_permutex2var_epi16(a, which, b);
}

#ifdef __AVX512VBMI__
#define BYTE(i, o) \
	(char)((i)*f->bytes + (o) < 64 ? (i)*f->bytes + (o) : 64 + (i)*f->bytes + (o)-second_at(f))
#define FOUR_BYTES(i, o) BYTE(i, (o) + 3), BYTE(i, (o) + 2), BYTE(i, (o) + 1), BYTE(i, o)
#define SIXTEEN(i, o) \
	FOUR_BYTES(i, (o) + 12), FOUR_BYTES(i, (o) + 8), FOUR_BYTES(i, (o) + 4), FOUR_BYTES(i, o)

/*
 * Weights of four blocks, whose bytes are in @a and @b, by table. A byte is looked up as it stands: the bits above a nibble
 * choose one of four equal lanes, or are not looked at.
 */
FORCE_INLINE void from_table(const struct b_format *f, __m512i a, __m512i b, __m512i q[2])
{
	const __m512i which = _mm512_set_epi8(SIXTEEN(3, f->qs), SIXTEEN(2, f->qs),
					      SIXTEEN(1, f->qs), SIXTEEN(0, f->qs));
	const __m512i v = _mm512_permutex2var_epi8(a, which, b);

	q[0] = _mm512_permutexvar_epi8(v, f->values);
	q[1] = _mm512_permutexvar_epi8(_mm512_srli_epi16(v, 4), f->values);
}
#endif

/* of each block, in its lane: fifth bits, scale and minimum, fifth bits again */
FORCE_INLINE __m512i high_and_front(const struct b_format *f, __m512i a, __m512i b)
{
#define HIGH(i)	 WORD(i, f->qh + 2), WORD(i, f->qh)
#define BLOCK(i) 0, 0, HIGH(i), WORD(i, f->min ? 2 : 0), WORD(i, 0), HIGH(i)
	const __m512i which = _mm512_set_epi16(BLOCK(3), BLOCK(2), BLOCK(1), BLOCK(0));
#undef BLOCK
#undef HIGH

	return _mm512_permutex2var_epi16(a, which, b);
}

#ifdef __AVX512VBMI__
/* nibbles @q and, for the fifth bits, those of @high from bit @first on of each block */
FORCE_INLINE __m512i with_fifth(__m512i q, __m512i high, int first)
{
	/* each to bit 4 of its byte */
	const __m128i at =
		_mm_add_epi8(_mm_setr_epi8(-4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
			     _mm_set1_epi8((char)first));
	const __m512i bits = _mm512_multishift_epi64_epi8(_mm512_broadcast_i32x4(at), high);

	return _mm512_and_si512(select_bits(_mm512_set1_epi8(15), q, bits), _mm512_set1_epi8(31));
}
#endif

/* where load() leaves the scale (@k: 0) or the minimum (1) of block @i in four.front: a word */
FORCE_INLINE short front_word(const struct b_format *f, int i, int k)
{
	if (f->form == FORM_FIVE)
		return (short)(8 * i + 2 + k);
	if (f->form == FORM_EIGHT)
		return (short)i;
	return (short)(((size_t)i * f->bytes + 2 * (size_t)k) / 2);
}

FORCE_INLINE struct four load(const struct b_format *f, const uint8_t *w)
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f), sixteen = _mm512_set1_epi8(16);
	const __m512i a = load_once(w);
	struct four t = { .front = a };

	if (f->form == FORM_EIGHT) {
		const __m512i b = second_register(f, w), sign = _mm512_set1_epi8((char)0x80);
		const __m128i last = _mm_loadu_si128((const void *)(w + 3 * f->bytes + 18));
		const __m512i which = _mm512_castsi128_si512(
			_mm_setr_epi16(WORD(0, 0), WORD(1, 0), WORD(2, 0), WORD(3, 0), 0, 0, 0, 0));

		t.q[0] = _mm512_xor_si512(by_word(f, a, b, 2), sign);
		t.q[1] = _mm512_xor_si512(_mm512_inserti32x4(by_word(f, a, b, 18), last, 3), sign);
		t.front = _mm512_permutex2var_epi16(a, which, b);
		return t;
	}
#ifdef __AVX512VBMI__
	if (f->form == FORM_TABLE) {
		from_table(f, a, second_register(f, w), t.q);
		return t;
	}
#endif
	if (f->bytes % 2) {
		t.q[0] = load_quarters(w + f->qs, f->bytes);
	} else {
		const __m512i b = second_register(f, w);

		t.q[0] = by_word(f, a, b, f->qs);
		if (f->form == FORM_FIVE)
			t.front = high_and_front(f, a, b);
	}
#ifdef __AVX512VBMI__
	if (f->form == FORM_FIVE) {
		t.q[1] = with_fifth(_mm512_srli_epi16(t.q[0], 4), t.front, 16);
		t.q[0] = with_fifth(t.q[0], t.front, 0);
		return t;
	}
#endif
	t.q[1] = _mm512_and_si512(_mm512_srli_epi16(t.q[0], 4), low4);
	t.q[0] = _mm512_and_si512(t.q[0], low4);
	if (f->form == FORM_TABLE) {
		t.q[0] = _mm512_shuffle_epi8(f->values, t.q[0]);
		t.q[1] = _mm512_shuffle_epi8(f->values, t.q[1]);
	}
	if (f->form == FORM_FIVE) {
		/* not by a mask from memory: storing and loading it takes 5 cycles for 256 weights */
		const __m512i bit = _mm512_set1_epi64((long long)0x8040201008040201ull);
		const __m512i lo = _mm512_broadcast_i32x4(
			_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
		const __m512i up = _mm512_add_epi8(lo, _mm512_set1_epi8(2));

		t.q[0] = _mm512_mask_add_epi8(
			t.q[0], _mm512_test_epi8_mask(_mm512_shuffle_epi8(t.front, lo), bit),
			t.q[0], sixteen);
		t.q[1] = _mm512_mask_add_epi8(
			t.q[1], _mm512_test_epi8_mask(_mm512_shuffle_epi8(t.front, up), bit),
			t.q[1], sixteen);
	}
	return t;
}

/* bytes e as words -> 2^(e - 128), the upper halves of floats */
FORCE_INLINE __m256i fp4_upper(__m256i e)
{
	const __m256i two = _mm256_set1_epi16(2), one = _mm256_set1_epi16(1);
	const __m256i d = _mm256_slli_epi16(_mm256_sub_epi16(e, one), 7);

	return _mm256_mask_sllv_epi16(d, _mm256_cmplt_epi16_mask(e, two), _mm256_set1_epi16(0x20),
				      e);
}

/* scales and minima of four blocks (a lane each) of four rows (words of it) */
FORCE_INLINE void scales(const struct b_format *f, const struct four t[SIDE], __m512 *d,
			 __m512 *min)
{
#define AT(i, k, r) (short)(32 * (r) + front_word(f, i, k))
#define ROWS(i, k)  AT(i, k, 1), AT(i, k, 0), AT(i, k, 1), AT(i, k, 0)
	const __m512i which = _mm512_set_epi16(ROWS(3, 1), ROWS(2, 1), ROWS(1, 1), ROWS(0, 1),
					       ROWS(3, 0), ROWS(2, 0), ROWS(1, 0), ROWS(0, 0));
	const __m512i v = _mm512_mask_blend_epi32(
		0xaaaa, _mm512_permutex2var_epi16(t[0].front, which, t[1].front),
		_mm512_permutex2var_epi16(t[2].front, which, t[3].front));
	__m256i low = _mm512_castsi512_si256(v);
#undef AT
#undef ROWS

	if (f->fp4) {
		/* of odd blocks the upper bytes of words */
		low = _mm256_srlv_epi16(
			low, _mm256_setr_epi16(0, 0, 0, 0, 8, 8, 8, 8, 0, 0, 0, 0, 8, 8, 8, 8));
		low = fp4_upper(_mm256_and_si256(low, _mm256_set1_epi16(255)));
		*d = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(low), 16));
		return;
	}
	*d = _mm512_cvtph_ps(low);
	if (f->min)
		*min = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(v, 1));
}

FORCE_INLINE __m512i multiply(const __m512i q[2], const struct four_act *x)
{
	__m512i s = _mm512_setzero_si512();

	s = _mm512_dpbusd_epi32(s, q[0], _mm512_load_si512(x->q));
	return _mm512_dpbusd_epi32(s, q[1], _mm512_load_si512(x->q + 64));
}

/* word i of lane L: the sum of lane L of s[i], which are four words */
FORCE_INLINE __m512i add_four(const struct b_format *f, const __m512i s[4])
{
	const __m512i one = _mm512_set1_epi16(1);
	__m512 va, vb;
	__m512i a, b;

	if (f->form != FORM_NIBBLE && f->form != FORM_FIVE)
		return add_words(s);
	/* below 2^15: 8 * 31 * 127 at most */
	a = _mm512_madd_epi16(_mm512_packs_epi32(s[0], s[1]), one);
	b = _mm512_madd_epi16(_mm512_packs_epi32(s[2], s[3]), one);
	if (f->form == FORM_NIBBLE) /* 16 * 15 * 127 */
		return _mm512_madd_epi16(_mm512_packs_epi32(a, b), one);
	va = _mm512_castsi512_ps(a);
	vb = _mm512_castsi512_ps(b);
	return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(va, vb, 0x88)),
				_mm512_castps_si512(_mm512_shuffle_ps(va, vb, 0xdd)));
}

FORCE_INLINE __m128 lane(__m512 v, int i)
{
	const __m256 half = i / 2 ? _mm512_extractf32x8_ps(v, 1) : _mm512_castps512_ps256(v);

	return i % 2 ? _mm256_extractf128_ps(half, 1) : _mm256_castps256_ps128(half);
}

/* @y and blocks @first .. 3 of four, whose sums are @whole */
FORCE_INLINE __m128 add_blocks(const struct b_format *f, __m128 y, __m512i whole, __m512 d,
			       __m512 min, const struct four_act *x, int first)
{
	const __m512 dx = _mm512_load_ps(x->d);
	__m512 sum = _mm512_cvtepi32_ps(whole);

	d = _mm512_mul_ps(d, dx);
	if (f->min)
		min = _mm512_mul_ps(min, dx);
	else /* below 2^24 all of it: exact */
		sum = _mm512_sub_ps(sum, _mm512_load_ps(x->sum));
#pragma GCC unroll 4
	for (int i = 0; i < SIDE; i++) {
		if (i < first)
			continue;
		y = _mm_fmadd_ps(lane(d, i), lane(sum, i), y);
		if (f->min)
			y = _mm_fmadd_ps(lane(min, i), _mm_load_ps(x->sum + 4 * i), y);
	}
	return y;
}

/* y[c] += four blocks of four rows times those of each column, blocks before @first left out */
FORCE_INLINE void step(const struct b_format *f, const uint8_t *w, const size_t off[SIDE],
		       const struct four_act *const *x, int cols, size_t g, int first, __m128 *y)
{
	__m512i s[B_COLS][SIDE];
	struct four t[SIDE];
	__m512 d, min = _mm512_setzero_ps();

#pragma GCC unroll 4
	for (int r = 0; r < SIDE; r++) {
		t[r] = load(f, w + off[r]);
#pragma GCC unroll 2
		for (int c = 0; c < cols; c++)
			s[c][r] = multiply(t[r].q, x[c] + g);
	}
	scales(f, t, &d, &min);
#pragma GCC unroll 2
	for (int c = 0; c < cols; c++)
		y[c] = add_blocks(f, y[c], add_four(f, s[c]), d, min, x[c] + g, first);
}

/* blocks b..b+3 of a column, sums of them times @offset; those that are not there are zero */
static void lay_out(float offset, const struct act_b *x, size_t b, size_t blocks,
		    struct four_act *to)
{
	memset(to, 0, sizeof(*to));
	for (size_t i = 0; i < SIDE && b + i < blocks; i++) {
		const struct act_b *v = &x[(b + i) / 8];
		const unsigned j = (b + i) % 8;
		const float sum = offset * v->sum[j];

		memcpy(to->q + 16 * i, v->q + ACT_B_WORD(j, 0), 16);
		memcpy(to->q + 64 + 16 * i, v->q + ACT_B_WORD(j, 4), 16);
		_mm_store_ps(to->d + 4 * i, _mm_set1_ps(v->d[j]));
		_mm_store_ps(to->sum + 4 * i, _mm_set1_ps(sum));
	}
}

FORCE_INLINE void product(const struct b_format *f, const struct matmul *m, int cols)
{
	const size_t blocks = m->n / 32, whole = blocks / SIDE, rest = blocks % SIDE;
	const uint8_t *w = (const uint8_t *)m->w + m->row0 * m->row_bytes;
	const uint8_t *end = (const uint8_t *)m->w + m->row1 * m->row_bytes;
	const size_t far = u64_max(SIDE * m->row_bytes, ROW_AHEAD);
	/* the last blocks, some of them again; of fewer than four a copy */
	const size_t tail = blocks < SIDE ? 0 : blocks - SIDE;
	const struct four_act *x[B_COLS];
	struct four_act *to = m->scratch;

	for (int c = 0; c < cols; c++) {
		x[c] = to;
		for (size_t g = 0; g < whole; g++)
			lay_out(f->offset, m->x[c], SIDE * g, blocks, to++);
		if (rest)
			lay_out(f->offset, m->x[c], tail, blocks, to++);
	}
	for (size_t row = m->row0; row < m->row1; row += SIDE, w += SIDE * m->row_bytes) {
		const size_t rows = u64_min(SIDE, m->row1 - row);
		const uint8_t *next = (const uint8_t *)asked_for(w, far, end, m->next);
		const uint8_t *at = w;
		size_t off[SIDE];
		__m128 y[B_COLS];

		for (size_t r = 0; r < SIDE; r++)
			off[r] = u64_min(r, rows - 1) * m->row_bytes;
		for (int c = 0; c < cols; c++)
			y[c] = _mm_setzero_ps();
#pragma GCC unroll 1
		for (size_t g = 0; g < whole; g++, at += SIDE * f->bytes) {
			run_prefetch(next, 0, 0, SIDE * SIDE * f->bytes);
			next += SIDE * SIDE * f->bytes;
			step(f, at, off, x, cols, g, 0, y);
		}
		if (rest && whole) {
			run_prefetch(next, 0, 0, SIDE * SIDE * f->bytes);
			step(f, w + tail * f->bytes, off, x, cols, whole, (int)(SIDE - rest), y);
		} else if (rest) {
			uint8_t spare[SIDE][SIDE * QUANT_Q8_0_BYTES] = { { 0 } };
			const size_t spare_off[SIDE] = { 0, sizeof(spare[0]), 2 * sizeof(spare[0]),
							 3 * sizeof(spare[0]) };

			for (size_t r = 0; r < SIDE; r++)
				memcpy(spare[r], w + off[r], rest * f->bytes);
			step(f, spare[0], spare_off, x, cols, 0, 0, y);
		}
		for (int c = 0; c < cols; c++)
			_mm_mask_storeu_ps(m->y[c] + row, (__mmask8)((1u << rows) - 1), y[c]);
	}
}

#define ROW_B_COLS(name, cols)                             \
	static void name##_##cols(const struct matmul *m)  \
	{                                                  \
		const struct b_format f = name##_format(); \
                                                           \
		product(&f, m, cols);                      \
	}
#define ROW_B(name, ...)                                  \
	static inline struct b_format name##_format(void) \
	{                                                 \
		return (struct b_format){ __VA_ARGS__ };  \
	}                                                 \
	ROW_B_COLS(name, 1)

/* Those that CPUs with VBMI take apart otherwise: both files have them. */
ROW_B(q5_0, .form = FORM_FIVE, .bytes = QUANT_Q5_0_BYTES, .qs = 6, .qh = 2, .offset = 16)
ROW_B(q5_1, .form = FORM_FIVE, .bytes = QUANT_Q5_1_BYTES, .qs = 8, .qh = 4, .min = true,
      .offset = 1)
ROW_B(iq4_nl, .form = FORM_TABLE, .bytes = QUANT_IQ4_NL_BYTES, .qs = 2, .offset = 128,
      .values = avx512_iq4_values())
ROW_B(mxfp4, .form = FORM_TABLE, .bytes = QUANT_MXFP4_BYTES, .qs = 1, .offset = 128, .fp4 = true,
      .values = avx512_fp4_values())

#endif
