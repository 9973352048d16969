/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_b_avx512.c: one row times one vector for formats with blocks of 32, in file
 * order: whole numbers only, see avx512_tile.h. Any thread. For one column (Q8_0: two), where memory
 * decides and likes file order best; more columns are multiplied by few_b_avx512.c.
 *
 * Four blocks stand in the four 128-bit lanes, their first and second halves in two registers.
 * Signed formats are multiplied as q + 128; who adds the floats up takes the offset away.
 */
#include "kernels/cpu/avx512_row.h"

enum b_form { FORM_NIBBLE, FORM_TABLE, FORM_FIVE, FORM_EIGHT };

/* @add, in bytes of four blocks' first (@half 0) or second halves whose fifth bit is set */
static inline __m512i fifth_bits(__m512i q, const uint8_t *w, size_t bytes, int count, int half)
{
	uint64_t mask = 0;

	for (int i = 0; i < count; i++) {
		uint16_t bits;

		memcpy(&bits, w + bytes * (size_t)i + 2 * half, 2);
		mask |= (uint64_t)bits << 16 * i;
	}
	return _mm512_mask_add_epi8(q, mask, q, _mm512_set1_epi8(16));
}

/* what the kernels for one format differ in; constants after inlining */
struct b_format {
	enum b_form form;
	size_t bytes, qs, qh; /* of a block, and where the fields are */
	int add;	      /* to every value */
	__m512i values;	      /* FORM_TABLE */
};

/* @count <= 4 blocks from @w on: the values of their first and second halves */
static inline __attribute__((always_inline)) void values(const struct b_format *f, const uint8_t *w,
							 int count, __m512i q[2])
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f);
	const __m512i add = _mm512_set1_epi8((char)f->add);
	__m512i a = load_some(w + f->qs, f->bytes, count), b;

	if (f->form == FORM_EIGHT) {
		b = load_some(w + f->qs + 16, f->bytes, count);
	} else {
		b = _mm512_and_si512(_mm512_srli_epi16(a, 4), low4);
		a = _mm512_and_si512(a, low4);
	}
	if (f->form == FORM_TABLE) {
		a = _mm512_shuffle_epi8(f->values, a);
		b = _mm512_shuffle_epi8(f->values, b);
	}
	if (f->form == FORM_FIVE) {
		a = fifth_bits(a, w + f->qh, f->bytes, count, 0);
		b = fifth_bits(b, w + f->qh, f->bytes, count, 1);
	}
	q[0] = f->add ? _mm512_add_epi8(a, add) : a;
	q[1] = f->add ? _mm512_add_epi8(b, add) : b;
}

/* blocks b..b+3 (a multiple of four): sums of four products */
static inline __m512i multiply(const __m512i q[2], const struct act_b *x, size_t b)
{
	const int8_t *v = x[b / 8].q + 128 * (b / 4 % 2);
	__m512i s = _mm512_setzero_si512();

	s = _mm512_dpbusd_epi32(s, q[0], _mm512_load_si512(v));
	return _mm512_dpbusd_epi32(s, q[1], _mm512_load_si512(v + 64));
}

/* blocks b..b+15 */
static inline __attribute__((always_inline)) void sixteen(const struct b_format *f,
							  const uint8_t *w, const void *const *x,
							  int cols, size_t b,
							  const struct row_sums *out)
{
	/* word i of lane L is the sum of block 4i + L */
	const __m512i order =
		_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	__m512i s[ROW_COLS][4];

	prefetch_ahead(w, 16 * f->bytes);
	for (size_t i = 0; i < 16; i++)
		memcpy(&out->d[b + i], w + f->bytes * i, 4);
#pragma GCC unroll 4
	for (size_t i = 0; i < 4; i++) {
		__m512i q[2];

		values(f, w + 4 * i * f->bytes, 4, q);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			s[c][i] = multiply(q, x[c], b + 4 * i);
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		_mm512_storeu_si512(out[c].sum + b,
				    _mm512_permutexvar_epi32(order, add_words(s[c])));
}

static inline __attribute__((always_inline)) void row(const struct b_format *f, const uint8_t *w,
						      const void *const *x, int cols, size_t blocks,
						      const struct row_sums *out)
{
	size_t b = 0;

	for (; b + 16 <= blocks; b += 16, w += 16 * f->bytes)
		sixteen(f, w, x, cols, b, out);
	for (; b < blocks; b += 4, w += 4 * f->bytes) {
		__m512i q[2];

		prefetch_ahead(w, 4 * f->bytes);
		for (size_t i = 0; i < 4 && b + i < blocks; i++)
			memcpy(&out->d[b + i], w + f->bytes * i, 4);
		values(f, w, blocks - b < 4 ? (int)(blocks - b) : 4, q);
		for (int c = 0; c < cols; c++)
			store_lane_sums(out[c].sum + b, multiply(q, x[c], b));
	}
}

#define ROW_B_COLS(name, cols)                                                           \
	static void name##_##cols(const uint8_t *w, const void *const *x, size_t blocks, \
				  const struct row_sums *out)                            \
	{                                                                                \
		const struct b_format f = name##_format();                               \
                                                                                         \
		row(&f, w, x, cols, blocks, out);                                        \
	}
#define ROW_B(name, ...)                                  \
	static inline struct b_format name##_format(void) \
	{                                                 \
		return (struct b_format){ __VA_ARGS__ };  \
	}                                                 \
	ROW_B_COLS(name, 1)

ROW_B(q8_0, .form = FORM_EIGHT, .bytes = QUANT_Q8_0_BYTES, .qs = 2, .add = 128)
ROW_B_COLS(q8_0, 2)
ROW_B(q4_0, .form = FORM_NIBBLE, .bytes = QUANT_Q4_0_BYTES, .qs = 2, .add = 120)
ROW_B(q4_1, .form = FORM_NIBBLE, .bytes = QUANT_Q4_1_BYTES, .qs = 4)
ROW_B(q5_0, .form = FORM_FIVE, .bytes = QUANT_Q5_0_BYTES, .qs = 6, .qh = 2, .add = 112)
ROW_B(q5_1, .form = FORM_FIVE, .bytes = QUANT_Q5_1_BYTES, .qs = 8, .qh = 4)
ROW_B(iq4_nl, .form = FORM_TABLE, .bytes = QUANT_IQ4_NL_BYTES, .qs = 2,
      .values = avx512_iq4_values())
ROW_B(mxfp4, .form = FORM_TABLE, .bytes = QUANT_MXFP4_BYTES, .qs = 1, .values = avx512_fp4_values())

#define ALONE(name) const row_fn avx512_row_##name[ROW_COLS] = { name##_1 };

const row_fn avx512_row_q8_0[ROW_COLS] = { q8_0_1, q8_0_2 };
ALONE(q4_0)
ALONE(q4_1)
ALONE(q5_0)
ALONE(q5_1)
ALONE(iq4_nl)
ALONE(mxfp4)
