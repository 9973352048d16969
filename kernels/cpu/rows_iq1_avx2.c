/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_iq1_avx2.c: rows of IQ1_S and IQ1_M in file order at the AVX2 level, up to eight columns.
 * Layouts: scalar_iq.c. Called through matmul_iq_avx2.c, any thread; reads exactly the bytes of the blocks.
 *
 * An index stands for eight weights of two bits in a word of words_iq1 (4 KiB instead of the 16 of bytes, and
 * half as many insertions). Words lie side by side, a register has 128 weights, and two bits of all words
 * are taken at a time: activations are laid out for that in a call's scratch. What a word's products
 * add up to fits 16 bits, and the eighth that its weights are moved by comes as a multiple of its
 * activations' sum; a lane of 32 bits is sixteen weights, which have one scale. Indices of eight
 * super-blocks are put together before the first is looked up.
 *
 * From four columns on the eighths are in the weights (eight times two bits, and two more where they go up), so that
 * a column has nothing to do with them, and columns lie side by side (avx2_beside.h).
 */
#include "base/num.h"
#include "kernels/cpu/avx2_beside.h"
#include "kernels/cpu/avx2_fields.h"
#include "kernels/cpu/avx2_rows.h"
#include "kernels/cpu/grids.h"

/* 256 activations, halves of 128: q[h][k], word g: values k and k + 4 of the half's g'th eight */
struct act_words {
	int8_t q[2][4][32];
	int16_t sum[2][16]; /* of each eight */
};

/* What is known of a super-block before look-ups, 16 words of eight weights a half. */
struct words {
	uint16_t index[32];
	__m256i scale[2];
	__m256i move[2]; /* by direction() */
	uint16_t d;
};

static void lay_out(const struct act_super *x, struct act_words *to)
{
	/* two eights: by pairs that are four apart */
	const __m256i pairs = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
	const __m256i ones = _mm256_set1_epi8(1);

	for (int h = 0; h < 2; h++) {
		__m256i v[4], t[4], sum = _mm256_setzero_si256();

		/* sixteens i and i + 4 of the half in the halves of v[i] */
		for (int i = 0; i < 4; i++) {
			const int8_t *q = x->q + 128 * h + 16 * i;

			v[i] = _mm256_shuffle_epi8(_mm256_set_m128i(load16(q + 64), load16(q)),
						   pairs);
		}
		t[0] = _mm256_unpacklo_epi32(v[0], v[1]);
		t[1] = _mm256_unpackhi_epi32(v[0], v[1]);
		t[2] = _mm256_unpacklo_epi32(v[2], v[3]);
		t[3] = _mm256_unpackhi_epi32(v[2], v[3]);
		v[0] = _mm256_unpacklo_epi64(t[0], t[2]);
		v[1] = _mm256_unpackhi_epi64(t[0], t[2]);
		v[2] = _mm256_unpacklo_epi64(t[1], t[3]);
		v[3] = _mm256_unpackhi_epi64(t[1], t[3]);
		for (int k = 0; k < 4; k++) {
			_mm256_store_si256((__m256i *)to->q[h][k], v[k]);
			sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(ones, v[k]));
		}
		_mm256_store_si256((__m256i *)to->sum[h], sum);
	}
}

/* low bytes of 16 indices, with bits 8 to 10 of the words of @high */
FORCE_INLINE void put_indices(const uint8_t *low, __m256i high, uint16_t *to)
{
	high = _mm256_and_si256(high, _mm256_set1_epi16(0x700));
	_mm256_storeu_si256((__m256i *)to,
			    _mm256_or_si256(_mm256_cvtepu8_epi16(load16(low)), high));
}

/*
 * Where a half's weights go: @down, words, is -1 or 0. Returns what is added to their eights: -8 for values that begin
 * at 0, and 1 or -1; @beside: bytes to be added to a weight's eights, 2 where up, so that 9 less is left.
 */
FORCE_INLINE __m256i direction(__m256i down, bool beside)
{
	if (beside)
		return _mm256_andnot_si256(down, _mm256_set1_epi8(2));
	return _mm256_add_epi16(_mm256_set1_epi16(-7), _mm256_slli_epi16(down, 1));
}

FORCE_INLINE void words_iq1_s(const uint8_t *w, bool beside, struct words *v)
{
	/* eight words: 4 x 3 high bits, 3 of scale, a direction; each stands for four indices */
	const __m256i h = _mm256_broadcastsi128_si256(load16(w + 34));
	const __m256i up =
		_mm256_setr_epi16(256, 32, 4, 1, 256, 32, 4, 1, 256, 32, 4, 1, 256, 32, 4, 1);
	const __m256i four = _mm256_setr_epi64x(0x0100010001000100, 0x0302030203020302,
						0x0504050405040504, 0x0706070607060706);

	memcpy(&v->d, w, sizeof(v->d));
#pragma GCC unroll 2
	for (int k = 0; k < 2; k++) {
		const __m256i e = _mm256_shuffle_epi8(
			h, _mm256_add_epi8(four, _mm256_set1_epi8((char)(8 * k))));
		/* bits 0, 3 and 6 to bit 8 by a product, 9 by a shift */
		const __m256i high = _mm256_blend_epi16(_mm256_mullo_epi16(e, up),
							_mm256_srli_epi16(e, 1), 0x88);
		const __m256i s = _mm256_and_si256(_mm256_srli_epi16(e, 11), _mm256_set1_epi16(14));

		put_indices(w + 2 + 16 * k, high, v->index + 16 * k);
		v->scale[k] = _mm256_or_si256(s, _mm256_set1_epi16(1));
		v->move[k] = direction(_mm256_srai_epi16(e, 15), beside);
	}
}

FORCE_INLINE void words_iq1_m(const uint8_t *w, bool beside, struct words *v)
{
	/* four words: 4 x 3 bits of scale, a nibble of d */
	const __m256i e = _mm256_cvtepu16_epi64(_mm_loadl_epi64((const __m128i *)(w + 48)));
	const __m256i four =
		_mm256_shuffle_epi8(e, _mm256_broadcastsi128_si256(_mm_setr_epi8(
					       0, 1, 0, 1, 0, 1, 0, 1, 8, 9, 8, 9, 8, 9, 8, 9)));
	/* bits 0, 3, 6, 9 to bit 9, then down to bit 1 */
	const __m256i up =
		_mm256_setr_epi16(512, 64, 8, 1, 512, 64, 8, 1, 512, 64, 8, 1, 512, 64, 8, 1);
	__m256i s = _mm256_srli_epi16(_mm256_mullo_epi16(four, up), 8);
	uint64_t h;

	memcpy(&h, w + 48, sizeof(h));
	v->d = (uint16_t)((h >> 12 & 0xf) | (h >> 24 & 0xf0) | (h >> 36 & 0xf00) |
			  (h >> 48 & 0xf000));
	s = _mm256_or_si256(_mm256_and_si256(s, _mm256_set1_epi16(14)), _mm256_set1_epi16(1));
#pragma GCC unroll 2
	for (int k = 0; k < 2; k++) {
		/* nibbles, one on top of the low byte of each index: three high bits, a direction */
		const __m128i b = _mm_loadl_epi64((const __m128i *)(w + 32 + 8 * k));
		const __m256i n = _mm256_slli_epi16(
			_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(b, _mm_srli_epi16(b, 4))), 8);
		const __m256i t = _mm256_cvtepu16_epi32(k ? _mm256_extracti128_si256(s, 1)
							  : _mm256_castsi256_si128(s));

		put_indices(w + 16 * k, n, v->index + 16 * k);
		v->scale[k] = _mm256_or_si256(t, _mm256_slli_epi32(t, 16));
		v->move[k] = direction(_mm256_srai_epi16(_mm256_slli_epi16(n, 4), 15), beside);
	}
}

FORCE_INLINE __m128i word_and_next(uint64_t i)
{
	int32_t u;

	memcpy(&u, words_iq1 + i, sizeof(u));
	return _mm_cvtsi32_si128(u);
}

FORCE_INLINE __m128i eight_words_of(const uint16_t *p, const struct fields *f)
{
	uint64_t i[8];

	four_words(p, f, i);
	four_words(p + 4, f, i + 4);
	/* two chains of insertions, the latter in its place already */
	__m128i a = word_and_next(i[0]), b = word_and_next(i[4]);

	a = _mm_insert_epi16(a, words_iq1[i[1]], 1);
	b = _mm_insert_epi16(b, words_iq1[i[5]], 1);
	a = _mm_insert_epi16(a, words_iq1[i[2]], 2);
	b = _mm_insert_epi16(b, words_iq1[i[6]], 2);
	a = _mm_insert_epi16(a, words_iq1[i[3]], 3);
	b = _mm_insert_epi16(b, words_iq1[i[7]], 3);
	return _mm_unpacklo_epi64(a, b);
}

/* sum[c]: partial sums of a super-block times that of column c */
FORCE_INLINE void multiply(const struct words *v, const struct act_words *const *x, int cols,
			   size_t b, const struct fields *f, __m256i *sum)
{
#pragma GCC unroll 2
	for (int h = 0; h < 2; h++) {
		const __m256i r = _mm256_set_m128i(eight_words_of(v->index + 16 * h + 8, f),
						   eight_words_of(v->index + 16 * h, f));
		__m256i q[4];

#pragma GCC unroll 4
		for (int k = 0; k < 4; k++)
			q[k] = _mm256_and_si256(_mm256_srli_epi16(r, 2 * k), _mm256_set1_epi8(3));
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			const struct act_words *a = x[c] + b;
			__m256i s[4];

#pragma GCC unroll 4
			for (int k = 0; k < 4; k++)
				s[k] = _mm256_maddubs_epi16(q[k], load32(a->q[h][k]));
			s[0] = _mm256_add_epi16(_mm256_add_epi16(s[0], s[1]),
						_mm256_add_epi16(s[2], s[3]));
			/* eight times, and what all eight weights are moved by: below 2^15 */
			s[0] = _mm256_add_epi16(_mm256_slli_epi16(s[0], 3),
						_mm256_mullo_epi16(v->move[h], load32(a->sum[h])));
			s[0] = _mm256_madd_epi16(s[0], v->scale[h]);
			sum[c] = h ? _mm256_add_epi32(sum[c], s[0]) : s[0];
		}
	}
}

typedef void (*words_fn)(const uint8_t *w, bool beside, struct words *v);

FORCE_INLINE void row_numbers(const struct matmul *m, const uint8_t *w, size_t rows, size_t blocks,
			      words_fn words, const struct super_kind *k,
			      const struct act_words *const *x, int cols, struct pool *p,
			      const struct numbers *o)
{
	const struct fields f = fields_of(false);
	const size_t count = rows * blocks;
	struct words v[AHEAD];
	size_t i = 0;

#pragma GCC unroll 1
	for (size_t r = 0; r < rows; r++, w += m->row_bytes) {
		const uint8_t *ahead = rows_ahead(m, w, 1);

#pragma GCC unroll 1
		for (size_t first = 0; first < blocks; first += AHEAD) {
			const size_t some = blocks - first < AHEAD ? blocks - first : AHEAD;
			const uint8_t *at = w + first * k->bytes;

#pragma GCC unroll 1
			for (size_t b = 0; b < some; b++, at += k->bytes, ahead += k->bytes) {
				prefetch_from(ahead, k->bytes);
				words(at, false, &v[b]);
			}
#pragma GCC unroll 1
			for (size_t b = 0; b < some; b++) {
				__m256i sum[AVX2_ALONE];

				multiply(&v[b], x, cols, first + b, &f, sum);
				o->head[i] = v[b].d;
#pragma GCC unroll 4
				for (int c = 0; c < cols; c++)
					p->sum[c][i % 8] = sum[c];
				if (++i % 8 == 0 || i == count)
					pool_add(p, cols, (i - 1) & ~(size_t)7, o);
			}
		}
	}
}

FORCE_INLINE void rows_of(const struct matmul *m, size_t row, size_t rows, size_t col, int cols,
			  words_fn words, size_t bytes)
{
	const struct super_kind k = { SUPER_OFFSET, 0.125f, bytes };
	const size_t blocks = m->n / 256, end = row + rows;
	const size_t lead = align_up(avx2_numbers_bytes(blocks), 64);
	const struct act_words *x[AVX2_ALONE] = { NULL };
	struct act_words *to = (struct act_words *)((char *)m->scratch + lead);
	struct numbers o;
	struct pool p;

	numbers_init(&o, m->scratch, blocks);
	for (int c = 0; c < cols; c++, to += blocks) {
		for (size_t b = 0; b < blocks; b++)
			lay_out((const struct act_super *)m->x[col + (size_t)c] + b, &to[b]);
		x[c] = to;
		for (int i = 0; i < 8; i++)
			p.sum[c][i] = _mm256_setzero_si256();
	}
	for (; row < end; row += AVX2_ROWS) {
		const size_t n = end - row < AVX2_ROWS ? end - row : AVX2_ROWS;
		const uint8_t *w = (const uint8_t *)m->w + row * m->row_bytes;

		row_numbers(m, w, n, blocks, words, &k, x, cols, &p, &o);
		for (int c = 0; c < cols; c++)
			store_rows(m->y[col + (size_t)c] + row,
				   super_finish(&o, blocks, n, &k, m->x[col + (size_t)c], c), n);
	}
}

/* to->sum: -9 times the sums of sixteens, of the first half and of the second in turn */
static void lay_beside(const struct act_super *x, struct beside *to, int c)
{
	const __m256i nine = _mm256_set1_epi16(-9);
	struct act_words a;
	__m256i sum[2];

	lay_out(x, &a);
	memcpy(to->q[c], a.q, sizeof(to->q[c]));
	for (int h = 0; h < 2; h++)
		sum[h] = _mm256_madd_epi16(load32(a.sum[h]), nine);
	_mm256_storeu_si256((__m256i *)to->sum[c],
			    _mm256_blend_epi16(sum[0], _mm256_slli_epi32(sum[1], 16), 0xaa));
	to->d[c] = x->d;
}

/* sum[c]: partial sums of a super-block times columns side by side, whose directions are in the weights */
FORCE_INLINE void multiply_beside(const struct words *v, const struct beside *x, int cols,
				  const struct fields *f, __m256i *sum)
{
	const __m256i scales = _mm256_blend_epi16(v->scale[0], v->scale[1], 0xaa);

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		sum[c] = _mm256_madd_epi16(scales, load32(x->sum[c]));
#pragma GCC unroll 2
	for (int h = 0; h < 2; h++) {
		const __m256i r = _mm256_set_m128i(eight_words_of(v->index + 16 * h + 8, f),
						   eight_words_of(v->index + 16 * h, f));
		const __m256i eights = _mm256_set1_epi8(24);
		__m256i q[4];

		q[0] = _mm256_and_si256(_mm256_slli_epi16(r, 3), eights);
		q[1] = _mm256_and_si256(_mm256_slli_epi16(r, 1), eights);
		q[2] = _mm256_and_si256(_mm256_srli_epi16(r, 1), eights);
		q[3] = _mm256_and_si256(_mm256_srli_epi16(r, 3), eights);
#pragma GCC unroll 4
		for (int k = 0; k < 4; k++)
			q[k] = _mm256_or_si256(q[k], v->move[h]);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			__m256i s[4];

#pragma GCC unroll 4
			for (int k = 0; k < 4; k++)
				s[k] = _mm256_maddubs_epi16(q[k], load32(x->q[c][4 * h + k]));
			/* at most 8 * 18 * 127 */
			s[0] = _mm256_add_epi16(_mm256_add_epi16(s[0], s[1]),
						_mm256_add_epi16(s[2], s[3]));
			sum[c] = add_here(sum[c], _mm256_madd_epi16(s[0], v->scale[h]));
		}
	}
}

FORCE_INLINE __m256 add_beside(const uint8_t *w, const uint8_t *ahead, size_t n, words_fn words,
			       size_t bytes, const struct beside *x, int cols, __m256 y)
{
	const struct fields f = fields_of(false);
	struct words v[AHEAD];

#pragma GCC unroll 1
	for (size_t b = 0; b < n; b++, w += bytes, ahead += bytes) {
		prefetch_from(ahead, bytes);
		words(w, true, &v[b]);
	}
#pragma GCC unroll 1
	for (size_t b = 0; b < n; b++, x++) {
		__m256i sum[AVX2_FEW];

		multiply_beside(&v[b], x, cols, &f, sum);
		y = beside_add(y, _cvtsh_ss(v[b].d) * 0.125f, sum, cols, x);
	}
	return y;
}

/* functions of their own: in one gcc keeps what they share and spills what they multiply */
#define BESIDE(t, most, bytes)                                                         \
	static __attribute__((noinline)) void beside_##t##_##most(                     \
		const struct matmul *m, size_t row, size_t rows, size_t col, int cols) \
	{                                                                              \
		const struct beside_kind k = { bytes, lay_beside, add_##t };           \
                                                                                       \
		beside_rows(m, row, rows, col, cols, most, k);                         \
	}

#define ROWS_IQ1(t, bytes)                                                                        \
	FORCE_INLINE __m256 add_##t(const uint8_t *w, const uint8_t *ahead, size_t n,             \
				    const struct beside *x, int cols, __m256 y)                   \
	{                                                                                         \
		return add_beside(w, ahead, n, words_##t, bytes, x, cols, y);                     \
	}                                                                                         \
	BESIDE(t, 4, bytes)                                                                       \
	BESIDE(t, 6, bytes)                                                                       \
	BESIDE(t, 8, bytes)                                                                       \
	void avx2_rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, int cols) \
	{                                                                                         \
		if (cols == 1)                                                                    \
			rows_of(m, row, rows, col, 1, words_##t, bytes);                          \
		else if (cols == 2)                                                               \
			rows_of(m, row, rows, col, 2, words_##t, bytes);                          \
		else if (cols == 3)                                                               \
			rows_of(m, row, rows, col, 3, words_##t, bytes);                          \
		else if (cols == 4)                                                               \
			beside_##t##_4(m, row, rows, col, cols);                                  \
		else if (cols <= 6)                                                               \
			beside_##t##_6(m, row, rows, col, cols);                                  \
		else                                                                              \
			beside_##t##_8(m, row, rows, col, cols);                                  \
	}

ROWS_IQ1(iq1_s, QUANT_IQ1_S_BYTES)
ROWS_IQ1(iq1_m, QUANT_IQ1_M_BYTES)
