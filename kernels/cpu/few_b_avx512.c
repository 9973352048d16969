/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_b_avx512.c: two to eight columns of formats with blocks of 32 at the AVX-512 level.
 * Called by ops_avx512.c through avx512_matmul_few_b(), any thread.
 *
 * Sixteen rows are read side by side, a block of each at a time: sixteen bytes of sixteen rows are
 * turned in registers until a register holds four weights of every row, and vpdpbusd multiplies it
 * with four activations of a column, broadcast. So a block's sums come out with rows in the lanes,
 * nothing is added across lanes, and one multiplication of scales and one fma join sixteen rows'
 * block to their floats, in the order that quant.h demands. What a block starts with (scale,
 * minimum, fifth bits) is put together from loads that insert: collected by stores ahead it took a
 * clock a block and row, more than the products of a column. Memory is asked for in file order.
 *
 * Signed formats are multiplied as q + offset, which the sum of the activations takes away.
 */
#include "kernels/cpu/avx512_row.h"

#define FEW_ROWS 16
#include "kernels/cpu/few_b.h"

/* what the formats differ in; constants after inlining */
struct b_format {
	enum b_form form;
	size_t bytes, qs; /* of a block, and where its values begin */
	size_t head;	  /* bytes at its front that are read: 2, 4 or 8 */
	bool min;	  /* w = d q + min; else d (q - offset) */
	unsigned shift;	  /* offset = 128 >> shift */
	bool fp4;	  /* the scale is that of MXFP4 */
	__m512i (*table)(void);
};

typedef void (*step_fn)(const struct place *p, const char *ahead, const struct act_b *const *x,
			__m512 *y);

/* scales, minima and fifth bits (bit i: weight i) of a block of every row */
struct front {
	__m512 d, min;
	__m512i high;
};

/* the two bytes at @w of each of eight rows */
FORCE_INLINE __m128i two_bytes(const uint8_t *w, size_t stride)
{
	__m128i v = _mm_setzero_si128();
	uint16_t two;

#define INSERT(i)                                  \
	memcpy(&two, w + (i)*stride, sizeof(two)); \
	v = _mm_insert_epi16(v, two, i)
	INSERT(0);
	INSERT(1);
	INSERT(2);
	INSERT(3);
	INSERT(4);
	INSERT(5);
	INSERT(6);
	INSERT(7);
#undef INSERT
	return v;
}

/* the four bytes at @w of each of four rows; @at: which of four times four */
FORCE_INLINE __m128i four_bytes(const uint8_t *w, size_t stride, size_t at)
{
	w += 4 * at * stride;
	return _mm_setr_epi32((int)word_at(w), (int)word_at(w + stride),
			      (int)word_at(w + 2 * stride), (int)word_at(w + 3 * stride));
}

/* the eight bytes at @w of each of two rows; @at: which of four times two */
FORCE_INLINE __m128i eight_bytes(const uint8_t *w, size_t stride, size_t at)
{
	const __m128i first = _mm_loadl_epi64((const void *)(w += 2 * at * stride));

	return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(first), (const void *)(w + stride)));
}

FORCE_INLINE struct front front(const struct b_format *f, const uint8_t *w, size_t stride)
{
	const __m512i even =
		_mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
	struct front t = { .min = _mm512_setzero_ps(), .high = _mm512_setzero_si512() };
	__m512i word;

	if (f->head == 2) {
		const __m256i half =
			_mm256_set_m128i(two_bytes(w + 8 * stride, stride), two_bytes(w, stride));

		t.d = f->fp4 ? fp4_scale(_mm512_cvtepu16_epi32(half)) : _mm512_cvtph_ps(half);
		return t;
	}
	if (f->head == 4) {
		word = join_lanes(four_bytes(w, stride, 0), four_bytes(w, stride, 1),
				  four_bytes(w, stride, 2), four_bytes(w, stride, 3));
	} else {
		const uint8_t *v = w + 8 * stride;
		const __m512i a = join_lanes(eight_bytes(w, stride, 0), eight_bytes(w, stride, 1),
					     eight_bytes(w, stride, 2), eight_bytes(w, stride, 3));
		const __m512i b = join_lanes(eight_bytes(v, stride, 0), eight_bytes(v, stride, 1),
					     eight_bytes(v, stride, 2), eight_bytes(v, stride, 3));
		const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));

		word = _mm512_permutex2var_epi32(a, even, b);
		t.high = _mm512_permutex2var_epi32(a, odd, b);
		if (!f->min)
			t.high = _mm512_or_si512(_mm512_srli_epi32(word, 16),
						 _mm512_slli_epi32(t.high, 16));
	}
	t.d = half_low(word);
	if (f->min)
		t.min = half_high(word);
	return t;
}

/* 16 to those of the 32 weights of every row whose bit is set */
FORCE_INLINE void add_fifth(__m512i q[8], __m512i high)
{
	const __m512i low = _mm512_set1_epi32(0x08040201), up = _mm512_set1_epi32((int)0x80402010u);
	const __m512i first = _mm512_broadcast_i32x4(
		_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
	const __m512i sixteen = _mm512_set1_epi8(16);

#pragma GCC unroll 4
	for (int p = 0; p < 4; p++) {
		const __m512i t = _mm512_shuffle_epi8(
			high, _mm512_add_epi8(first, _mm512_set1_epi8((char)p)));

		q[2 * p] = _mm512_mask_add_epi8(q[2 * p], _mm512_test_epi8_mask(t, low), q[2 * p],
						sixteen);
		q[2 * p + 1] = _mm512_mask_add_epi8(q[2 * p + 1], _mm512_test_epi8_mask(t, up),
						    q[2 * p + 1], sixteen);
	}
}

/* q[k]: weights 4k..4k+3 of a block at @w of every row, unsigned */
FORCE_INLINE void values(const struct b_format *f, const uint8_t *w, size_t stride, __m512i high,
			 __m512i q[8])
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f);
	__m512i t[4];

	if (f->form == FORM_EIGHT) {
		transpose32(w + f->qs, stride, q);
#pragma GCC unroll 8
		for (int k = 0; k < 8; k++)
			q[k] = _mm512_xor_si512(q[k], _mm512_set1_epi8((char)0x80));
		return;
	}
	transpose16(w + f->qs, stride, t);
#pragma GCC unroll 4
	for (int k = 0; k < 4; k++) {
		q[k] = _mm512_and_si512(t[k], low4);
		q[k + 4] = _mm512_and_si512(_mm512_srli_epi16(t[k], 4), low4);
	}
	if (f->form == FORM_FIVE)
		add_fifth(q, high);
	if (f->form == FORM_TABLE) {
#pragma GCC unroll 8
		for (int k = 0; k < 8; k++)
			q[k] = _mm512_shuffle_epi8(f->table(), q[k]);
	}
}

/* @s plus @q times four activations of every row, which gcc 12 would load to a register apart */
FORCE_INLINE __m512i times_four(__m512i s, __m512i q, const int8_t *v, int k)
{
	const int8_t(*four)[4] = (const void *)(v + ACT_B_WORD(0, k));

	__asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(s) : "v"(q), "m"(*four));
	return s;
}

/* block @j of every row times that of a column: whole numbers */
FORCE_INLINE __m512i dot(const struct b_format *f, const __m512i q[8], const struct act_b *x,
			 unsigned j)
{
	const int8_t *v = x->q + 128 * (j / 4) + 16 * (j % 4);
	__m512i a = _mm512_setzero_si512(), b = _mm512_setzero_si512();

	if (!f->min)
		a = _mm512_set1_epi32(x->by32[j]);
	if (!f->min && f->shift)
		a = _mm512_srai_epi32(a, f->shift);
#pragma GCC unroll 4
	for (int k = 0; k < 4; k++) {
		a = times_four(a, q[k], v, k);
		b = times_four(b, q[k + 4], v, k + 4);
	}
	return _mm512_add_epi32(a, b);
}

/*
 * Whether memory is asked for by each block, and each line twice, for some requests never bring their line (see
 * run_prefetch()). Up to three columns are faster with a step's lines asked for at once.
 */
FORCE_INLINE bool asks_by_block(size_t bytes, size_t cols)
{
	return cols > (bytes == QUANT_Q8_0_BYTES ? 2 : 3);
}

FORCE_INLINE void ask(const char *at, size_t bytes)
{
#pragma GCC unroll 16
	for (size_t i = 0; i < bytes; i += 64) {
		_mm_prefetch(at + i, _MM_HINT_T1);
		_mm_prefetch(at + i - ASK_NEARER, _MM_HINT_T1);
	}
}

/* y[c] += up to eight blocks of every row times column c; as many bytes at @ahead are asked for */
FORCE_INLINE void step(const struct b_format *f, int cols, const struct place *p, const char *ahead,
		       const struct act_b *const *x, __m512 *y)
{
	const size_t bytes = FEW_ROWS * f->bytes; /* of a block of all rows */
	const uint8_t *w = p->w;
	__m512 sum[ROW_COLS];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		sum[c] = y[c];
#pragma GCC unroll 1
	for (unsigned j = 0; j < p->blocks; j++, w += f->bytes) {
		const struct front t = front(f, w, p->stride);
		__m512i q[8];

		if (asks_by_block(f->bytes, (size_t)cols))
			ask(ahead + j * bytes, bytes);
		values(f, w, p->stride, t.high, q);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			const __m512 dx = _mm512_set1_ps(x[c]->d[j]);

			sum[c] = add_scaled(sum[c], t.d, dx, dot(f, q, x[c], j));
			if (f->min)
				sum[c] = _mm512_fmadd_ps(_mm512_mul_ps(t.min, dx),
							 _mm512_set1_ps(x[c]->sum[j]), sum[c]);
		}
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		y[c] = sum[c];
}

/* The rows of a product that are walked together, and what comes after them in the file: what is asked for. */
struct walk {
	struct rows rows;
	const char *ahead;
	size_t bytes;
};

/* what a step takes of all rows, as far behind in the file */
static inline void ask_at_once(const char *at, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 64)
		_mm_prefetch(at + i, _MM_HINT_T1);
}

/* y[c]: sixteen rows times column c */
static void walk(const struct walk *k, step_fn multiply, const struct act_b *const *x, size_t cols,
		 __m512 *y)
{
	const size_t steps = div_ceil(k->rows.blocks, STEP);

	for (size_t s = 0; s < steps; s++) {
		const struct place p = place_of(&k->rows, s, k->bytes);
		const size_t bytes = FEW_ROWS * STEP * k->bytes;
		const char *ahead = k->ahead + s * bytes;
		const struct act_b *at[ROW_COLS];

		if (!asks_by_block(k->bytes, cols))
			ask_at_once(ahead, bytes);
		for (size_t c = 0; c < cols; c++)
			at[c] = x[c] + s;
		multiply(&p, ahead, at, y);
	}
}

struct few_b {
	step_fn step[ROW_COLS]; /* [cols - 1] */
};

#define STEP_COLS(name, cols)                                               \
	static void name##_##cols(const struct place *p, const char *ahead, \
				  const struct act_b *const *x, __m512 *y)  \
	{                                                                   \
		step(&name##_format, cols, p, ahead, x, y);                 \
	}
#define FEW_FUNCTIONS(name)                                                                \
	{                                                                                  \
		NULL, name##_2, name##_3, name##_4, name##_6, name##_6, name##_8, name##_8 \
	}
#define FEW_B(name, ...)                                              \
	static const struct b_format name##_format = { __VA_ARGS__ }; \
	STEP_COLS(name, 2)                                            \
	STEP_COLS(name, 3)                                            \
	STEP_COLS(name, 4)                                            \
	STEP_COLS(name, 6)                                            \
	STEP_COLS(name, 8)                                            \
	const struct few_b avx512_few_##name = { FEW_FUNCTIONS(name) };

FEW_B(q4_0, .form = FORM_NIBBLE, .bytes = QUANT_Q4_0_BYTES, .qs = 2, .head = 2, .shift = 4)
FEW_B(q4_1, .form = FORM_NIBBLE, .bytes = QUANT_Q4_1_BYTES, .qs = 4, .head = 4, .min = true)
FEW_B(q5_0, .form = FORM_FIVE, .bytes = QUANT_Q5_0_BYTES, .qs = 6, .head = 8, .shift = 3)
FEW_B(q5_1, .form = FORM_FIVE, .bytes = QUANT_Q5_1_BYTES, .qs = 8, .head = 8, .min = true)
FEW_B(q8_0, .form = FORM_EIGHT, .bytes = QUANT_Q8_0_BYTES, .qs = 2, .head = 2)
FEW_B(iq4_nl, .form = FORM_TABLE, .bytes = QUANT_IQ4_NL_BYTES, .qs = 2, .head = 2,
      .table = avx512_iq4_values)
FEW_B(mxfp4, .form = FORM_TABLE, .bytes = QUANT_MXFP4_BYTES, .qs = 1, .head = 2, .fp4 = true,
      .table = avx512_fp4_values)

void avx512_matmul_few_b(const struct tile_format *f, const struct matmul *m)
{
	const struct few_b *few = f->few;
	/* five and seven columns are multiplied as six and eight: the last stands for the spare one */
	const size_t cols = m->cols, width = cols > 4 ? (cols + 1) & ~(size_t)1 : cols;
	const uint8_t *end = (const uint8_t *)m->w + m->row1 * m->row_bytes;
	const size_t far = u64_max(FEW_ROWS * m->row_bytes, ROW_AHEAD);
	const struct act_b *x[ROW_COLS];
	struct walk k = { .rows = { .row_bytes = m->row_bytes,
				    .blocks = m->n / 32,
				    .spare = m->scratch,
				    .spare_bytes = ROW_BYTES_MAX },
			  .bytes = f->bytes };

	for (size_t c = 0; c < width; c++)
		x[c] = m->x[c < cols ? c : cols - 1];
	for (size_t row = m->row0; row < m->row1; row += FEW_ROWS) {
		__m512 y[ROW_COLS];

		k.rows.w = (const uint8_t *)m->w + row * m->row_bytes;
		k.ahead = asked_for(k.rows.w, far, end, m->next);
		k.rows.n = u64_min(FEW_ROWS, m->row1 - row);
		k.rows.most = FEW_ROWS;
		for (size_t c = 0; c < width; c++)
			y[c] = _mm512_setzero_ps();
		walk(&k, few->step[cols - 1], x, width, y);
		for (size_t c = 0; c < cols; c++)
			_mm512_mask_storeu_ps(m->y[c] + row, (__mmask16)((1u << k.rows.n) - 1),
					      y[c]);
	}
}
