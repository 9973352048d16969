/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_b_avx512.c: one row times one vector for formats with blocks of 32, in file
 * order: whole numbers only, see avx512_tile.h. Any thread. For one column (Q8_0: two), where memory
 * decides and likes file order best; more columns are multiplied by few_b_avx512.c.
 *
 * Four blocks stand in the four 128-bit lanes, their first and second halves in two registers.
 * Signed formats are multiplied as they are stored, or plus 128 (Q8_0 and those with a table); who adds the
 * floats up takes the offset away.
 */
#include "kernels/cpu/avx512_row.h"

enum b_form { FORM_NIBBLE, FORM_TABLE, FORM_FIVE, FORM_EIGHT };

/*
 * The fifth bits of four blocks' first, second halves. They go to masks through memory: a mask from a
 * general register takes almost two clocks on Zen 4, and putting it together there a dozen operations.
 */
static inline __attribute__((always_inline)) void fifth_bits(const uint8_t *w, size_t bytes,
							     int count, __mmask64 to[2])
{
	const __m128i halves = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
	__mmask64 bits[2] __attribute__((aligned(16)));
	uint32_t h[4] = { 0 };

#pragma GCC unroll 4
	for (int i = 0; i < count; i++)
		memcpy(&h[i], w + bytes * (size_t)i, 4);
	_mm_store_si128((void *)bits,
			_mm_shuffle_epi8(_mm_setr_epi32((int)h[0], (int)h[1], (int)h[2], (int)h[3]),
					 halves));
	__asm__("" : "+m"(bits));
	to[0] = _load_mask64(&bits[0]);
	to[1] = _load_mask64(&bits[1]);
}

/* load_some(), halves first: putting sixteen bytes into a half takes half of what it takes into a whole */
static inline __attribute__((always_inline)) __m512i load_four(const uint8_t *w, size_t step,
							       int count)
{
	__m256i low = _mm256_zextsi128_si256(_mm_loadu_si128((const void *)w));
	__m256i high = _mm256_setzero_si256();

	if (count > 1)
		low = _mm256_inserti128_si256(low, _mm_loadu_si128((const void *)(w + step)), 1);
	if (count > 2)
		high = _mm256_zextsi128_si256(_mm_loadu_si128((const void *)(w + 2 * step)));
	if (count > 3)
		high = _mm256_inserti128_si256(high, _mm_loadu_si128((const void *)(w + 3 * step)),
					       1);
	return count > 2 ? _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1)
			 : _mm512_zextsi256_si512(low);
}

/* what the kernels for one format differ in; constants after inlining */
struct b_format {
	enum b_form form;
	size_t bytes, qs, qh; /* of a block, and where the fields are */
	bool min;
	__m512i values; /* FORM_TABLE */
};

/* @count <= 4 blocks from @w on: the values of their first and second halves */
static inline __attribute__((always_inline)) void values(const struct b_format *f, const uint8_t *w,
							 int count, __m512i q[2])
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f);
	__m512i a = load_four(w + f->qs, f->bytes, count), b;

	if (f->form == FORM_EIGHT) {
		b = load_four(w + f->qs + 16, f->bytes, count);
	} else {
		b = _mm512_and_si512(_mm512_srli_epi16(a, 4), low4);
		a = _mm512_and_si512(a, low4);
	}
	if (f->form == FORM_TABLE) {
		a = _mm512_shuffle_epi8(f->values, a);
		b = _mm512_shuffle_epi8(f->values, b);
	}
	if (f->form == FORM_FIVE) {
		const __m512i sixteen = _mm512_set1_epi8(16);
		__mmask64 bits[2];

		fifth_bits(w + f->qh, f->bytes, count, bits);
		a = _mm512_mask_add_epi8(a, bits[0], a, sixteen);
		b = _mm512_mask_add_epi8(b, bits[1], b, sixteen);
	}
	if (f->form == FORM_EIGHT) {
		const __m512i sign = _mm512_set1_epi8((char)0x80);

		a = _mm512_xor_si512(a, sign);
		b = _mm512_xor_si512(b, sign);
	}
	q[0] = a;
	q[1] = b;
}

/* blocks b..b+3 (a multiple of four): sums of four products */
static inline __m512i multiply(const __m512i q[2], const struct act_b *x, size_t b)
{
	const int8_t *v = x[b / 8].q + 128 * (b / 4 % 2);
	__m512i s = _mm512_setzero_si512();

	s = _mm512_dpbusd_epi32(s, q[0], _mm512_load_si512(v));
	return _mm512_dpbusd_epi32(s, q[1], _mm512_load_si512(v + 64));
}

/* Scales of four blocks, or scales and minima of two, in one word for finish_b(): a quarter of the stores. */
static inline __attribute__((always_inline)) uint64_t fronts(const struct b_format *f,
							     const uint8_t *w, int count)
{
	uint64_t v = 0;

#pragma GCC unroll 4
	for (int i = 0; i < count; i++, w += f->bytes) {
		uint32_t two;
		uint16_t one;

		if (f->min) {
			memcpy(&two, w, sizeof(two));
			v |= (uint64_t)two << 32 * i;
		} else {
			memcpy(&one, w, sizeof(one));
			v |= (uint64_t)one << 16 * i;
		}
	}
	return v;
}

/* those of @count blocks from block b on, a multiple of four */
static inline __attribute__((always_inline)) void
store_fronts(const struct b_format *f, const uint8_t *w, size_t b, int count, uint32_t *d)
{
	const int each = f->min ? 2 : 4;

#pragma GCC unroll 8
	for (int i = 0; i < count; i += each) {
		const uint64_t v =
			fronts(f, w + f->bytes * (size_t)i, count - i < each ? count - i : each);

		memcpy(d + 32 * ((b + (size_t)i) / (size_t)each), &v, sizeof(v));
	}
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

	prefetch_ahead(w, out->ahead, 16 * f->bytes);
	store_fronts(f, w, b, 16, out->d);
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
						      const struct row_sums *to)
{
	struct row_sums out[ROW_COLS];
	size_t b = 0;

	/* copies: for all the compiler knows, what is stored might be @to */
	for (int c = 0; c < cols; c++)
		out[c] = to[c];
	for (; b + 16 <= blocks; b += 16, w += 16 * f->bytes)
		sixteen(f, w, x, cols, b, out);
	for (; b < blocks; b += 4, w += 4 * f->bytes) {
		__m512i q[2];

		prefetch_ahead(w, out->ahead, 4 * f->bytes);
		store_fronts(f, w, b, blocks - b < 4 ? (int)(blocks - b) : 4, out->d);
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

ROW_B(q8_0, .form = FORM_EIGHT, .bytes = QUANT_Q8_0_BYTES, .qs = 2)
ROW_B_COLS(q8_0, 2)
ROW_B(q4_0, .form = FORM_NIBBLE, .bytes = QUANT_Q4_0_BYTES, .qs = 2)
ROW_B(q4_1, .form = FORM_NIBBLE, .bytes = QUANT_Q4_1_BYTES, .qs = 4, .min = true)
ROW_B(q5_0, .form = FORM_FIVE, .bytes = QUANT_Q5_0_BYTES, .qs = 6, .qh = 2)
ROW_B(q5_1, .form = FORM_FIVE, .bytes = QUANT_Q5_1_BYTES, .qs = 8, .qh = 4, .min = true)
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
