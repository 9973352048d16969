/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_iq_avx2.c: rows of IQ2 and IQ3 in file order at the AVX2 level, up to four columns.
 * Layouts: scalar_iq.c. Called through matmul_iq_avx2.c, any thread; reads exactly the bytes of the blocks.
 *
 * A core looks for work among some 64 vector operations, and to put signs, scales and indices together is a
 * long chain of them; so that is done for eight super-blocks before the first is looked up (struct
 * parts). What is left is eight short chains for each super-block, of 32 weights: values from the
 * tables, signs from bits, products.
 *
 * The 32 weights are not neighbours: a lane has those of one scale, first some, then the next in the same
 * lane, so that products of two or four chains are added in 16 bits before the scale is multiplied with.
 * Activations are laid out so in a call's scratch.
 *
 * IQ3 has 64 look-ups, which load, and so takes their indices from words of four (avx2_fields.h).
 */
#include "base/num.h"
#include "kernels/cpu/avx2_fields.h"
#include "kernels/cpu/avx2_rows.h"
#include "kernels/cpu/iq_avx.h"

#define AHEAD 8 /* super-blocks */

/* A super-block but for its values. */
struct parts {
	uint8_t sign[32];
	union {
		uint8_t sixteens[16]; /* IQ2: of each 16 weights */
		int16_t pairs[16];    /* IQ3: of each 32 weights, twice */
	} scale;
	union {
		uint16_t index[64];
		uint8_t byte[64]; /* IQ3_XXS: the same in bytes */
	};
};

/* 256 activations as the weights of eight chains lie. */
struct act_turned {
	int8_t q[8][32];
};

FORCE_INLINE void put32(void *to, __m256i v)
{
	_mm256_storeu_si256((__m256i *)to, v);
}

/* 16 nibbles s of scales: 2s + 1 */
FORCE_INLINE void put_nibble_scales(struct parts *v, const uint8_t *p)
{
	const __m128i n = _mm_loadl_epi64((const __m128i *)p), nibble = _mm_set1_epi8(15);
	const __m128i s = _mm_unpacklo_epi8(_mm_and_si128(n, nibble),
					    _mm_and_si128(_mm_srli_epi16(n, 4), nibble));

	_mm_storeu_si128((__m128i *)v->scale.sixteens,
			 _mm_sub_epi8(_mm_add_epi8(s, s), _mm_set1_epi8(-1)));
}

/* 0x88: the even words of two vectors, 0xdd: the odd ones */
#define every_other(a, b, which)                                                                  \
	_mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(                           \
					 _mm256_castsi256_ps(a), _mm256_castsi256_ps(b), which)), \
				 0xd8)

FORCE_INLINE void parts_iq2_xxs(const uint8_t *w, struct parts *v)
{
	/* words: indices, rest, indices, rest, ... */
	const __m256i a = load32(w + 2), b = load32(w + 34);
	const __m256i even = every_other(a, b, 0x88), rest = every_other(a, b, 0xdd);
	const __m256i s = _mm256_or_si256(_mm256_slli_epi32(_mm256_srli_epi32(rest, 28), 1),
					  _mm256_set1_epi32(1));
	const __m256i twice = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 0, 4, 4, 8, 8, 12, 12, 0, 0, 0, 0, 0, 0, 0, 0));

	put32(v->index, _mm256_cvtepu8_epi16(_mm256_castsi256_si128(even)));
	put32(v->index + 16, _mm256_cvtepu8_epi16(_mm256_extracti128_si256(even, 1)));
	put32(v->sign, iq_four_sevens(rest));
	_mm_storeu_si128((__m128i *)v->scale.sixteens,
			 _mm256_castsi256_si128(
				 _mm256_permute4x64_epi64(_mm256_shuffle_epi8(s, twice), 0xd8)));
}

FORCE_INLINE void parts_iq2_xs(const uint8_t *w, struct parts *v)
{
	const __m256i a = load32(w + 2), b = load32(w + 34), nine = _mm256_set1_epi16(511);
	const __m256i seven = _mm256_packus_epi16(_mm256_srli_epi16(a, 9), _mm256_srli_epi16(b, 9));

	put_nibble_scales(v, w + 66);
	put32(v->sign, iq_eighth(_mm256_permute4x64_epi64(seven, 0xd8)));
	put32(v->index, _mm256_and_si256(a, nine));
	put32(v->index + 16, _mm256_and_si256(b, nine));
}

FORCE_INLINE void parts_iq2_s(const uint8_t *w, struct parts *v)
{
	put_nibble_scales(v, w + 74);
	put32(v->sign, load32(w + 34));
	iq_indices(w + 2, iq_two_bits(w + 66), v->index);
	iq_indices(w + 18, iq_two_bits(w + 70), v->index + 16);
}

FORCE_INLINE void parts_iq3_xxs(const uint8_t *w, struct parts *v)
{
	const __m256i rest = load32(w + 66);

	put32(v->scale.pairs, iq_top_scales(rest));
	put32(v->sign, iq_four_sevens(rest));
	put32(v->byte, load32(w + 2));
	put32(v->byte + 32, load32(w + 34));
}

FORCE_INLINE void parts_iq3_s(const uint8_t *w, struct parts *v)
{
	put32(v->scale.pairs, iq3_s_scales(w + 106));
	put32(v->sign, load32(w + 74));
	iq_nine_bits(w + 2, w + 66, v->index);
	iq_nine_bits(w + 34, w + 70, v->index + 32);
}

FORCE_INLINE __m128i two_eights(const uint64_t *grid, unsigned a, unsigned b)
{
	const __m128i low = _mm_loadl_epi64((const __m128i *)(grid + a));

	return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(low), (const void *)(grid + b)));
}

/* a lane of 64 bits is an eight of each second index: sixteen weights have a scale */
FORCE_INLINE __m256i eights_of(const uint64_t *grid, const uint16_t *i)
{
	return _mm256_set_m128i(two_eights(grid, i[4], i[6]), two_eights(grid, i[0], i[2]));
}

/* indices @at to @at + 3 */
FORCE_INLINE void four_indices(const struct parts *v, int at, bool bytes, const struct fields *f,
			       uint64_t i[4])
{
	if (bytes)
		four_bytes(v->byte + at, f, i);
	else
		four_words(v->index + at, f, i);
}

/* @q[k], lane of 32 bits j: the four of index 8j + @first + k: 32 weights have a scale */
FORCE_INLINE void fours_of(const uint32_t *grid, const struct parts *v, int first, bool bytes,
			   const struct fields *f, __m256i q[4])
{
	__m128i half[2][4];

#pragma GCC unroll 2
	for (int h = 0; h < 2; h++) {
		const int at = 32 * h + first;
		uint64_t a[4], b[4];

		four_indices(v, at, bytes, f, a);
		four_indices(v, at + 8, bytes, f, b);
#pragma GCC unroll 4
		for (int k = 0; k < 4; k++)
			half[h][k] = _mm_insert_epi32(_mm_cvtsi32_si128((int)grid[a[k]]),
						      (int)grid[b[k]], 1);
		four_indices(v, at + 16, bytes, f, a);
#pragma GCC unroll 4
		for (int k = 0; k < 4; k++)
			half[h][k] = _mm_insert_epi32(half[h][k], (int)grid[a[k]], 2);
		four_indices(v, at + 24, bytes, f, a);
#pragma GCC unroll 4
		for (int k = 0; k < 4; k++)
			half[h][k] = _mm_insert_epi32(half[h][k], (int)grid[a[k]], 3);
	}
#pragma GCC unroll 4
	for (int k = 0; k < 4; k++)
		q[k] = _mm256_set_m128i(half[1][k], half[0][k]);
}

/* q[2t + k], lane j: eight 8t + 2j + k */
static void lay_out_eights(const struct act_super *x, struct act_turned *to)
{
	for (int t = 0; t < 4; t++) {
		const __m256i a = load32(x->q + 64 * t), b = load32(x->q + 64 * t + 32);

		put32(to->q[2 * t], _mm256_permute4x64_epi64(_mm256_unpacklo_epi64(a, b), 0xd8));
		put32(to->q[2 * t + 1],
		      _mm256_permute4x64_epi64(_mm256_unpackhi_epi64(a, b), 0xd8));
	}
}

/* q[k], lane j: four 8j + k */
static void lay_out_fours(const struct act_super *x, struct act_turned *to)
{
	__m256i v[8];

	for (int j = 0; j < 8; j++)
		v[j] = load32(x->q + 32 * j);
	transpose8(v);
	for (int k = 0; k < 8; k++)
		put32(to->q[k], v[k]);
}

/* bytes of @which one of @signs -> -1 where their bit of @bit is set */
FORCE_INLINE __m256i below_zero(__m256i signs, __m256i which, __m256i bit)
{
	return _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(signs, which), bit), bit);
}

/* pairs of products, each turned where @below */
FORCE_INLINE __m256i products(__m256i q, __m256i below, const int8_t *x)
{
	return _mm256_maddubs_epi16(q, _mm256_sub_epi8(_mm256_xor_si256(load32(x), below), below));
}

/* sum[c]: partial sums of a super-block times that of column c */
typedef void (*multiply_fn)(const struct parts *v, const struct act_turned *x, size_t stride,
			    int cols, const struct fields *f, __m256i *sum);

FORCE_INLINE void multiply_eights(const struct parts *v, const uint64_t *grid,
				  const struct act_turned *x, size_t stride, int cols,
				  const struct fields *f, __m256i *sum)
{
	const __m256i byte =
		_mm256_setr_epi64x(0, 0x0202020202020202, 0x0404040404040404, 0x0606060606060606);
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
	const __m256i four =
		_mm256_setr_epi64x((long long)0x8000800080008000, (long long)0x8001800180018001,
				   (long long)0x8002800280028002, (long long)0x8003800380038003);
	const __m256i scales = _mm256_broadcastsi128_si256(load16(v->scale.sixteens));

#pragma GCC unroll 4
	for (int t = 0; t < 4; t++) {
		const __m256i signs = _mm256_broadcastsi128_si256(load16(v->sign + t / 2 * 16));
		const __m256i scale = _mm256_shuffle_epi8(
			scales, _mm256_add_epi8(four, _mm256_set1_epi16((short)(4 * t))));
		__m256i s[AVX2_ALONE];

#pragma GCC unroll 2
		for (int k = 0; k < 2; k++) {
			const __m256i which =
				_mm256_add_epi8(byte, _mm256_set1_epi8((char)(t % 2 * 8 + k)));
			const __m256i q = eights_of(grid, v->index + 8 * t + k);
			const __m256i below = below_zero(signs, which, bit);

#pragma GCC unroll 4
			for (int c = 0; c < cols; c++) {
				const __m256i a =
					products(q, below, x[(size_t)c * stride].q[2 * t + k]);

				s[c] = k ? _mm256_add_epi16(s[c], a) : a;
			}
		}
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			const __m256i a = _mm256_madd_epi16(s[c], scale);

			sum[c] = t ? _mm256_add_epi32(sum[c], a) : a;
		}
	}
}

/* @run: chains that are added in 16 bits (of IQ3_S all would fit, but wait longer for each other); @bytes: indices are */
FORCE_INLINE void multiply_fours(const struct parts *v, const uint32_t *grid, int run, bool bytes,
				 const struct act_turned *x, size_t stride, int cols,
				 const struct fields *f, __m256i *sum)
{
	const __m256i byte = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
	const __m256i signs = load32(v->sign), scale = load32(v->scale.pairs);
	__m256i s[AVX2_ALONE], q[4];

#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
		const __m256i bit = _mm256_set1_epi32(k % 2 ? (int)0x80402010 : 0x08040201);
		const __m256i which = _mm256_add_epi8(byte, _mm256_set1_epi8((char)(k / 2)));
		const __m256i below = below_zero(signs, which, bit);

		if (k % 4 == 0)
			fours_of(grid, v, k, bytes, f, q);
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			const __m256i a = products(q[k % 4], below, x[(size_t)c * stride].q[k]);

			s[c] = k % run ? _mm256_add_epi16(s[c], a) : a;
			if (k % run != run - 1)
				continue;
			s[c] = _mm256_madd_epi16(s[c], scale);
			sum[c] = k >= run ? _mm256_add_epi32(sum[c], s[c]) : s[c];
		}
	}
}

#define MULTIPLY(t, multiply, ...)                                                        \
	FORCE_INLINE void multiply_##t(const struct parts *v, const struct act_turned *x, \
				       size_t stride, int cols, const struct fields *f,   \
				       __m256i *sum)                                      \
	{                                                                                 \
		multiply(v, __VA_ARGS__, x, stride, cols, f, sum);                        \
	}

MULTIPLY(iq2_xxs, multiply_eights, grid_iq2_xxs)
MULTIPLY(iq2_xs, multiply_eights, grid_iq2_xs)
MULTIPLY(iq2_s, multiply_eights, grid_iq2_s)
MULTIPLY(iq3_xxs, multiply_fours, grid_iq3_xxs, 2, true)
MULTIPLY(iq3_s, multiply_fours, grid_iq3_s, 4, false)

/* A format's steps: constants where they are inlined. */
struct iq_kind {
	void (*lay_out)(const struct act_super *x, struct act_turned *to);
	void (*parts)(const uint8_t *w, struct parts *v);
	multiply_fn multiply;
	struct super_kind super;
	bool bytes; /* indices of IQ3 are */
};

/* One column by a branch, which gcc would make a selection that takes longer; more by that (measured). */
FORCE_INLINE const struct act_turned *next_turned(const struct act_turned *x,
						  const struct act_turned *begin,
						  const struct act_turned *end, int cols)
{
	if (++x != end)
		return x;
	if (cols == 1)
		__asm__ volatile("" : "+r"(begin));
	return begin;
}

/* @count super-blocks from @w on, one behind the other; columns of @x one behind the other too */
FORCE_INLINE void iq_numbers(const uint8_t *w, const uint8_t *ahead, size_t count, size_t blocks,
			     const struct iq_kind *f, const struct act_turned *x, int cols,
			     const struct numbers *o)
{
	const struct act_turned *const begin = x, *const end = x + blocks;
	const size_t bytes = f->super.bytes;
	__m256i sum[AVX2_ALONE][AHEAD];
	const struct fields at = fields_of(f->bytes);
	struct parts v[AHEAD];

	for (int c = 0; c < cols; c++)
		for (int i = 0; i < AHEAD; i++)
			sum[c][i] = _mm256_setzero_si256();
#pragma GCC unroll 1
	for (size_t first = 0; first < count; first += AHEAD) {
		const size_t some = count - first < AHEAD ? count - first : AHEAD;

#pragma GCC unroll 1
		for (size_t b = 0; b < some; b++, w += bytes, ahead += bytes) {
			uint16_t d;

			prefetch_from(ahead, bytes);
			memcpy(&d, w, sizeof(d));
			o->head[first + b] = d;
			f->parts(w, &v[b]);
		}
#pragma GCC unroll 1
		for (size_t b = 0; b < some; b++) {
			__m256i s[AVX2_ALONE];

			f->multiply(&v[b], x, blocks, cols, &at, s);
			x = next_turned(x, begin, end, cols);
#pragma GCC unroll 4
			for (int c = 0; c < cols; c++)
				sum[c][b] = s[c];
		}
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++)
			_mm256_storeu_ps(o->whole[c] + first, eight_sums(sum[c]));
	}
}

FORCE_INLINE void iq_rows(const struct matmul *m, size_t row, size_t rows, size_t col, int cols,
			  struct iq_kind f)
{
	const size_t blocks = m->n / 256, end = row + rows;
	const size_t lead = align_up(avx2_numbers_bytes(blocks), 64);
	/* rows that do not lie one behind the other: each by itself */
	const size_t some = m->row_bytes == blocks * f.super.bytes ? AVX2_ROWS : 1;
	struct act_turned *const x = (struct act_turned *)((char *)m->scratch + lead);
	struct numbers o;

	numbers_init(&o, m->scratch, blocks);
	for (size_t i = 0; i < (size_t)cols * blocks; i++)
		f.lay_out((const struct act_super *)m->x[col + i / blocks] + i % blocks, &x[i]);
	for (; row < end; row += some) {
		const size_t n = end - row < some ? end - row : some;
		const uint8_t *w = (const uint8_t *)m->w + row * m->row_bytes;

		iq_numbers(w, rows_ahead(m, w, n), n * blocks, blocks, &f, x, cols, &o);
		for (int c = 0; c < cols; c++)
			store_rows(m->y[col + (size_t)c] + row,
				   super_finish(&o, blocks, n, &f.super, m->x[col + (size_t)c], c),
				   n);
	}
}

#define ROWS_IQ(T, t, lay_out)                                                                    \
	void avx2_rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, int cols) \
	{                                                                                         \
		const struct iq_kind f = { lay_out,                                               \
					   parts_##t,                                             \
					   multiply_##t,                                          \
					   { SUPER_SIGNS, iq_factor(QUANT_##T),                   \
					     QUANT_##T##_BYTES },                                 \
					   QUANT_##T == QUANT_IQ3_XXS };                          \
                                                                                                  \
		if (cols == 1)                                                                    \
			iq_rows(m, row, rows, col, 1, f);                                         \
		else if (cols == 2)                                                               \
			iq_rows(m, row, rows, col, 2, f);                                         \
		else if (cols == 3)                                                               \
			iq_rows(m, row, rows, col, 3, f);                                         \
		else                                                                              \
			iq_rows(m, row, rows, col, 4, f);                                         \
	}

ROWS_IQ(IQ2_XXS, iq2_xxs, lay_out_eights)
ROWS_IQ(IQ2_XS, iq2_xs, lay_out_eights)
ROWS_IQ(IQ2_S, iq2_s, lay_out_eights)
ROWS_IQ(IQ3_XXS, iq3_xxs, lay_out_fours)
ROWS_IQ(IQ3_S, iq3_s, lay_out_fours)
