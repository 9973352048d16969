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
 * minimum, fifth bits) is collected eight blocks ahead by plain loads, which also brings the bytes
 * into the first cache level; memory is asked for in file order.
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
	size_t head;	  /* bytes at its front that are collected: 2, 4 or 8 */
	bool min;	  /* w = d q + min; else d (q - offset) */
	unsigned shift;	  /* offset = 128 >> shift */
	bool fp4;	  /* the scale is that of MXFP4 */
	__m512i (*table)(void);
};

typedef void (*collect_fn)(const struct place *p, union heads *to);
typedef void (*step_fn)(const struct place *p, const union heads *h, const struct act_b *const *x,
			__m512 *y);

/* scales, minima and fifth bits (bit i: weight i) of block @j of every row */
struct front {
	__m512 d, min;
	__m512i high;
};

static inline __attribute__((always_inline)) struct front front(const struct b_format *f,
								const union heads *h, unsigned j)
{
	const __m512i even =
		_mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
	struct front t = { .min = _mm512_setzero_ps(), .high = _mm512_setzero_si512() };
	__m512i word;

	if (f->head == 2) {
		const __m256i half = _mm256_loadu_si256((const void *)h->two[j]);

		t.d = f->fp4 ? fp4_scale(_mm512_cvtepu16_epi32(half)) : _mm512_cvtph_ps(half);
		return t;
	}
	if (f->head == 4) {
		word = _mm512_loadu_si512(h->four[j]);
	} else {
		const __m512i a = _mm512_loadu_si512(h->eight[j]);
		const __m512i b = _mm512_loadu_si512(h->eight[j] + 8);
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
static inline __attribute__((always_inline)) void add_fifth(__m512i q[8], __m512i high)
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
static inline __attribute__((always_inline)) void values(const struct b_format *f, const uint8_t *w,
							 size_t stride, __m512i high, __m512i q[8])
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

/* four activations to every row */
static inline __m512i four_of(const int8_t *v, int k)
{
	int32_t four;

	memcpy(&four, v + ACT_B_WORD(0, k), 4);
	return _mm512_set1_epi32(four);
}

/* block @j of every row times that of a column: whole numbers */
static inline __attribute__((always_inline)) __m512i
dot(const struct b_format *f, const __m512i q[8], const struct act_b *x, unsigned j)
{
	const int8_t *v = x->q + 128 * (j / 4) + 16 * (j % 4);
	__m512i a = _mm512_setzero_si512(), b = _mm512_setzero_si512();

	if (!f->min)
		a = _mm512_set1_epi32(x->by32[j]);
	if (!f->min && f->shift)
		a = _mm512_srai_epi32(a, f->shift);
#pragma GCC unroll 4
	for (int k = 0; k < 4; k++) {
		a = _mm512_dpbusd_epi32(a, q[k], four_of(v, k));
		b = _mm512_dpbusd_epi32(b, q[k + 4], four_of(v, k + 4));
	}
	return _mm512_add_epi32(a, b);
}

/* y[c] += up to eight blocks of every row times column c */
static inline __attribute__((always_inline)) void step(const struct b_format *f, int cols,
						       const struct place *p, const union heads *h,
						       const struct act_b *const *x, __m512 *y)
{
	const uint8_t *w = p->w;
	__m512 sum[ROW_COLS];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		sum[c] = y[c];
#pragma GCC unroll 1
	for (unsigned j = 0; j < p->blocks; j++, w += f->bytes) {
		const struct front t = front(f, h, j);
		__m512i q[8];

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

/* The rows of a product that are walked together, and what comes after them. */
struct walk {
	struct rows rows;
	const uint8_t *ahead;
	size_t bytes;
};

/* what lies as far behind in the file as the step takes of all rows */
static inline void ask_ahead(const struct walk *k, size_t s)
{
	const size_t bytes = FEW_ROWS * STEP * k->bytes;
	const char *at = (const char *)k->ahead + s * bytes;

	for (size_t i = 0; i < bytes; i += 64)
		_mm_prefetch(at + i, _MM_HINT_T1);
}

/* y[c]: sixteen rows times column c */
static void walk(const struct walk *k, collect_fn gather, step_fn multiply,
		 const struct act_b *const *x, size_t cols, __m512 *y)
{
	const size_t steps = div_ceil(k->rows.blocks, STEP);
	union heads heads[2];
	struct place p = place_of(&k->rows, 0, k->bytes);

	gather(&p, &heads[0]);
	for (size_t s = 0; s < steps; s++) {
		const struct act_b *at[ROW_COLS];

		ask_ahead(k, s);
		for (size_t c = 0; c < cols; c++)
			at[c] = x[c] + s;
		if (s + 1 < steps && k->rows.n == FEW_ROWS) {
			const struct place next = place_of(&k->rows, s + 1, k->bytes);

			gather(&next, &heads[(s + 1) % 2]);
			multiply(&p, &heads[s % 2], at, y);
			p = next;
		} else {
			multiply(&p, &heads[s % 2], at, y);
			if (s + 1 == steps)
				break;
			p = place_of(&k->rows, s + 1, k->bytes);
			gather(&p, &heads[(s + 1) % 2]);
		}
	}
}

struct few_b {
	collect_fn collect;
	step_fn step[ROW_COLS]; /* [cols - 1] */
};

#define STEP_COLS(name, cols)                                                  \
	static void name##_##cols(const struct place *p, const union heads *h, \
				  const struct act_b *const *x, __m512 *y)     \
	{                                                                      \
		step(&name##_format, cols, p, h, x, y);                        \
	}
#define FEW_FUNCTIONS(name)                                                                \
	{                                                                                  \
		NULL, name##_2, name##_3, name##_4, name##_6, name##_6, name##_8, name##_8 \
	}
#define FEW_B(name, ...)                                                   \
	static const struct b_format name##_format = { __VA_ARGS__ };      \
	static void name##_collect(const struct place *p, union heads *to) \
	{                                                                  \
		collect(name##_format.head, name##_format.bytes, p, to);   \
	}                                                                  \
	STEP_COLS(name, 2)                                                 \
	STEP_COLS(name, 3)                                                 \
	STEP_COLS(name, 4)                                                 \
	STEP_COLS(name, 6)                                                 \
	STEP_COLS(name, 8)                                                 \
	const struct few_b avx512_few_##name = { name##_collect, FEW_FUNCTIONS(name) };

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
	const size_t group = FEW_ROWS * m->row_bytes;
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
		k.ahead = k.rows.w + u64_max(group, ROW_AHEAD);
		k.rows.n = u64_min(FEW_ROWS, m->row1 - row);
		for (size_t c = 0; c < width; c++)
			y[c] = _mm512_setzero_ps();
		walk(&k, few->collect, few->step[cols - 1], x, width, y);
		for (size_t c = 0; c < cols; c++)
			_mm512_mask_storeu_ps(m->y[c] + row, (__mmask16)((1u << k.rows.n) - 1),
					      y[c]);
	}
}
