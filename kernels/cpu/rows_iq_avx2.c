/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/rows_iq_avx2.c: rows of IQ2 and IQ3 in file order at the AVX2 level, up to eight columns.
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
#include "kernels/cpu/avx2_beside.h"
#include "kernels/cpu/avx2_parts.h"
#include "kernels/cpu/avx2_rows.h"

/* 256 activations as the weights of eight chains lie. */
struct act_turned {
	int8_t q[8][32];
};

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

/* signs of the weights of eights_of() for step @t, @k */
FORCE_INLINE __m256i below_eights(const struct parts *v, int t, int k)
{
	const __m256i byte =
		_mm256_setr_epi64x(0, 0x0202020202020202, 0x0404040404040404, 0x0606060606060606);
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
	const __m256i signs = _mm256_broadcastsi128_si256(load16(v->sign + t / 2 * 16));

	return below_zero(signs, _mm256_add_epi8(byte, _mm256_set1_epi8((char)(t % 2 * 8 + k))),
			  bit);
}

/* their scales, of @scales by sixteen weights */
FORCE_INLINE __m256i scale_of_eights(__m256i scales, int t)
{
	const __m256i four =
		_mm256_setr_epi64x((long long)0x8000800080008000, (long long)0x8001800180018001,
				   (long long)0x8002800280028002, (long long)0x8003800380038003);

	return _mm256_shuffle_epi8(scales,
				   _mm256_add_epi8(four, _mm256_set1_epi16((short)(4 * t))));
}

/* signs of the weights of fours_of(), index 8j + @k */
FORCE_INLINE __m256i below_fours(const struct parts *v, int k)
{
	const __m256i byte = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
	const __m256i bit = _mm256_set1_epi32(k % 2 ? (int)0x80402010 : 0x08040201);

	return below_zero(load32(v->sign), _mm256_add_epi8(byte, _mm256_set1_epi8((char)(k / 2))),
			  bit);
}

/* sum[c]: partial sums of a super-block times that of column c */
typedef void (*multiply_fn)(const struct parts *v, const struct act_turned *x, size_t stride,
			    int cols, const struct fields *f, __m256i *sum);

FORCE_INLINE void multiply_eights(const struct parts *v, const uint64_t *grid,
				  const struct act_turned *x, size_t stride, int cols,
				  const struct fields *f, __m256i *sum)
{
	const __m256i scales = _mm256_broadcastsi128_si256(load16(v->scale.sixteens));

#pragma GCC unroll 4
	for (int t = 0; t < 4; t++) {
		const __m256i scale = scale_of_eights(scales, t);
		__m256i s[AVX2_ALONE];

#pragma GCC unroll 2
		for (int k = 0; k < 2; k++) {
			const __m256i q = eights_of(grid, v->index + 8 * t + k);
			const __m256i below = below_eights(v, t, k);

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
	const __m256i scale = load32(v->scale.pairs);
	__m256i s[AVX2_ALONE], q[4];

#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
		const __m256i below = below_fours(v, k);

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

#define IQ2_MOST 43 /* of their values */

/*
 * Five columns and more (avx2_beside.h): signs are put into the weights, once, which are then unsigned, @most more than
 * they are. What that adds is taken away by the sums of sixteens.
 */
FORCE_INLINE __m256i with_signs(__m256i q, __m256i below, int most)
{
	const __m256i more = _mm256_sub_epi8(_mm256_set1_epi8((char)most), below);

	return _mm256_add_epi8(_mm256_xor_si256(q, below), more);
}

/* sum[c] += @run vectors of weights, whose products fit 16 bits, times values from @k on of column c, and their scale */
FORCE_INLINE void add_run(const __m256i *q, int run, __m256i scale, const struct beside *x, int k,
			  int cols, __m256i *sum)
{
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		__m256i s = _mm256_maddubs_epi16(q[0], load32(x->q[c][k]));

#pragma GCC unroll 4
		for (int i = 1; i < run; i++)
			s = _mm256_add_epi16(s, _mm256_maddubs_epi16(q[i], load32(x->q[c][k + i])));
		sum[c] = add_here(sum[c], _mm256_madd_epi16(s, scale));
	}
}

/* sum[c]: what @most more in all weights adds, taken away; @scales: 16, in the order of the row */
FORCE_INLINE void begin_sums(__m256i scales, int most, const struct beside *x, int cols,
			     __m256i *sum)
{
	const __m256i less = _mm256_mullo_epi16(scales, _mm256_set1_epi16((short)-most));

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		sum[c] = _mm256_madd_epi16(less, load32(x->sum[c]));
}

/* sum[c]: partial sums of a super-block times column c of those side by side */
FORCE_INLINE void beside_eights(const struct parts *v, const uint64_t *grid, const struct fields *f,
				const struct beside *x, int cols, __m256i *sum)
{
	const __m128i sixteens = load16(v->scale.sixteens);
	const __m256i scales = _mm256_broadcastsi128_si256(sixteens);

	__m256i q[8];

	(void)f; /* indices are loaded one by one */
	begin_sums(_mm256_cvtepu8_epi16(sixteens), IQ2_MOST, x, cols, sum);
#pragma GCC unroll 8
	for (int k = 0; k < 8; k++)
		q[k] = with_signs(eights_of(grid, v->index + 8 * (k / 2) + k % 2),
				  below_eights(v, k / 2, k % 2), IQ2_MOST);
	/* all look-ups first, products behind (amid each other 1.03) */
	__asm__("" : "+m"(q));
#pragma GCC unroll 8
	for (int k = 0; k < 8; k++)
		add_run(&q[k], 1, scale_of_eights(scales, k / 2), x, k, cols, sum);
}

/* @n <= AHEAD super-blocks of a row, and d of each */
FORCE_INLINE void parts_ahead(const uint8_t *w, const uint8_t *ahead, size_t n, size_t bytes,
			      void (*parts)(const uint8_t *w, struct parts *v), float factor,
			      struct parts *v, float *d)
{
#pragma GCC unroll 1
	for (size_t b = 0; b < n; b++, w += bytes, ahead += bytes) {
		prefetch_from(ahead, bytes);
		d[b] = half_at(w) * factor;
		parts(w, &v[b]);
	}
}

FORCE_INLINE void lay_beside(const struct act_super *x, const struct act_turned *turned,
			     struct beside *to, int c)
{
	memcpy(to->q[c], turned->q, sizeof(to->q[c]));
	memcpy(to->sum[c], x->sum, sizeof(to->sum[c]));
	to->d[c] = x->d;
}

static void beside_lay_out_eights(const struct act_super *x, struct beside *to, int c)
{
	struct act_turned t;

	lay_out_eights(x, &t);
	lay_beside(x, &t, to, c);
}

static void beside_lay_out_fours(const struct act_super *x, struct beside *to, int c)
{
	struct act_turned t;

	lay_out_fours(x, &t);
	lay_beside(x, &t, to, c);
}

/* the same of fours; @run, @most: see add_run() and with_signs() */
FORCE_INLINE void beside_fours(const struct parts *v, const uint32_t *grid, int run, int most,
			       bool bytes, const struct fields *f, const struct beside *x, int cols,
			       __m256i *sum)
{
	const __m256i scale = load32(v->scale.pairs);
	__m256i q[4];

	begin_sums(scale, most, x, cols, sum);
#pragma GCC unroll 2
	for (int k = 0; k < 8; k += 4) {
		fours_of(grid, v, k, bytes, f, q);
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++)
			q[i] = with_signs(q[i], below_fours(v, k + i), most);
#pragma GCC unroll 4
		for (int i = 0; i < 4; i += run)
			add_run(q + i, run, scale, x, k + i, cols, sum);
	}
}

#define BESIDE(T, t, lay_out, most)                                                            \
	static __attribute__((noinline)) void beside_##t##_##most(                             \
		const struct matmul *m, size_t row, size_t rows, size_t col, int cols)         \
	{                                                                                      \
		const struct beside_kind k = { QUANT_##T##_BYTES, beside_##lay_out, add_##t }; \
                                                                                               \
		beside_rows(m, row, rows, col, cols, most, k);                                 \
	}

#define ROWS_IQ(T, t, lay_out, sums, ...)                                                         \
	FORCE_INLINE __m256 add_##t(const uint8_t *w, const uint8_t *ahead, size_t n,             \
				    const struct beside *x, int cols, __m256 y)                   \
	{                                                                                         \
		const struct fields f = fields_of(QUANT_##T == QUANT_IQ3_XXS);                    \
		struct parts v[AHEAD];                                                            \
		float d[AHEAD];                                                                   \
                                                                                                  \
		parts_ahead(w, ahead, n, QUANT_##T##_BYTES, parts_##t, iq_factor(QUANT_##T), v,   \
			    d);                                                                   \
		_Pragma("GCC unroll 1") for (size_t b = 0; b < n; b++, x++)                       \
		{                                                                                 \
			__m256i sum[AVX2_FEW];                                                    \
                                                                                                  \
			sums(&v[b], __VA_ARGS__, &f, x, cols, sum);                               \
			y = beside_add(y, d[b], sum, cols, x);                                    \
		}                                                                                 \
		return y;                                                                         \
	}                                                                                         \
	BESIDE(T, t, lay_out, 6)                                                                  \
	BESIDE(T, t, lay_out, 8)                                                                  \
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
		else if (cols == 4)                                                               \
			iq_rows(m, row, rows, col, 4, f);                                         \
		else if (cols <= 6)                                                               \
			beside_##t##_6(m, row, rows, col, cols);                                  \
		else                                                                              \
			beside_##t##_8(m, row, rows, col, cols);                                  \
	}

ROWS_IQ(IQ2_XXS, iq2_xxs, lay_out_eights, beside_eights, grid_iq2_xxs)
ROWS_IQ(IQ2_XS, iq2_xs, lay_out_eights, beside_eights, grid_iq2_xs)
ROWS_IQ(IQ2_S, iq2_s, lay_out_eights, beside_eights, grid_iq2_s)
ROWS_IQ(IQ3_XXS, iq3_xxs, lay_out_fours, beside_fours, grid_iq3_xxs, 1, 62, true)
ROWS_IQ(IQ3_S, iq3_s, lay_out_fours, beside_fours, grid_iq3_s, 4, 15, false)
