/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/pair_k_avx2.c: few columns of super-blocks at the AVX2 level, Q2_K to Q6_K: how pairs of them are
 * unpacked and multiplied. How rows are walked is in avx2_pair.h. Called through the formats' row functions
 * (matmul_k_avx2.c), any thread.
 *
 * Registers hold weights of two super-blocks as mix() lays them: two registers that lie behind each other have the
 * same scales in the same lanes, so their products are added in 16 bits, at most 4 * 63 * 127, and scales are
 * spread and multiplied half as often. Where fields of bits are multiplied without being shifted down their sums
 * are so many times too large, and go down when all are added up.
 */
#include "kernels/cpu/avx2_pair.h"

/* bits of bytes @by down; what comes from other bytes is not theirs */
FORCE_INLINE __m256i shifted(__m256i v, int by)
{
	return by < 0 ? _mm256_slli_epi16(v, -by) : by > 0 ? _mm256_srli_epi16(v, by) : v;
}

/* bits of @mask of every byte, shifted @by down */
FORCE_INLINE __m256i bits(__m256i v, int by, int mask)
{
	return _mm256_and_si256(shifted(v, by), _mm256_set1_epi8((char)mask));
}

/* sum[c] += values 32j.. of both, @q, times column c's and the scales */
FORCE_INLINE void add_products(__m256i *sum, int j, const __m256i *q, __m256i scale,
			       const struct pair_act *const *x, int cols)
{
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++) {
		const __m256i s = _mm256_add_epi16(_mm256_maddubs_epi16(q[0], x[c]->q[2 * j]),
						   _mm256_maddubs_epi16(q[1], x[c]->q[2 * j + 1]));

		sum[c] = add_here(sum[c], _mm256_madd_epi16(s, scale));
	}
}

/* sum[c] = scales, or minima, of sixteens times column c's sums */
FORCE_INLINE void times_sums(__m256i *sum, const __m256i *scale, const struct pair_act *const *x,
			     int cols)
{
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		sum[c] = _mm256_add_epi32(_mm256_madd_epi16(scale[0], x[c]->sum16[0]),
					  _mm256_madd_epi16(scale[1], x[c]->sum16[1]));
}

/* to->sum less an offset of 2^@bit of each weight: begins with what it takes */
FORCE_INLINE void begin_below(struct pair_sum *to, const __m256i *scale, int bit,
			      const struct pair_act *const *x, int cols)
{
	times_sums(to->sum, scale, x, cols);
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		to->sum[c] = _mm256_sub_epi32(_mm256_setzero_si256(),
					      _mm256_slli_epi32(to->sum[c], bit));
}

FORCE_INLINE void begin(__m256i *sum, int cols)
{
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		sum[c] = _mm256_setzero_si256();
}

/* sum[c] += high[c], which is 2^@bit times too large */
FORCE_INLINE void add_high(__m256i *sum, const __m256i *high, int bit, int cols)
{
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		sum[c] = _mm256_add_epi32(sum[c], _mm256_srai_epi32(high[c], bit));
}

/* bytes @first of the lower and @second of the upper eight in each half, as four int16 each */
FORCE_INLINE __m256i byte_scale(__m256i scales, int first, int second)
{
	const char a = (char)first, b = (char)second;
	const __m128i which = _mm_setr_epi8(a, -128, a, -128, a, -128, a, -128, b, -128, b, -128, b,
					    -128, b, -128);

	return _mm256_shuffle_epi8(scales, _mm256_broadcastsi128_si256(which));
}

/* int16 @j of four of each super-block in each half */
FORCE_INLINE __m256i word_scale(__m256i scales, int j)
{
	const char a = (char)(2 * j), b = (char)(2 * j + 1), c = (char)(2 * j + 8),
		   d = (char)(2 * j + 9);
	const __m128i which = _mm_setr_epi8(a, b, a, b, a, b, a, b, c, d, c, d, c, d, c, d);

	return _mm256_shuffle_epi8(scales, _mm256_broadcastsi128_si256(which));
}

/*
 * Q4_K, Q5_K: eight scales of the first and of the second in each half; to->head and to->min, which is in order
 * already.
 */
FORCE_INLINE __m256i scales_of_32(const uint8_t *a, const uint8_t *b,
				  const struct pair_act *const *x, int cols, struct pair_sum *to)
{
	const __m256i down = _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0, 0, 4));
	const __m256i low = _mm256_broadcastsi128_si256(
		_mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f));
	const __m256i up =
		_mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x30303030, 0, 0x30303030));
	const __m256i h = two16(a, b); /* d and dmin; scales; minima; four bits more of each */
	__m256i v = _mm256_shuffle_epi32(h, _MM_SHUFFLE(3, 2, 3, 1)), top, min;

	top = _mm256_shuffle_epi32(h, _MM_SHUFFLE(2, 2, 1, 1));
	v = _mm256_and_si256(_mm256_srlv_epi32(v, down), low);
	v = _mm256_or_si256(v, _mm256_and_si256(_mm256_srli_epi32(top, 2), up));
	min = _mm256_unpackhi_epi8(v, _mm256_setzero_si256());
	to->head = h;
#pragma GCC unroll 4
	for (int c = 0; c < cols; c++)
		to->min[c] = _mm256_madd_epi16(min, x[c]->sum32);
	return _mm256_permute4x64_epi64(v, 0x88);
}

FORCE_INLINE void pair_q4_k(const uint8_t *a, const uint8_t *b, const struct pair_act *const *x,
			    int cols, struct pair_sum *to)
{
	const __m256i scale = scales_of_32(a, b, x, cols, to);

	begin(to->sum, cols);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		__m256i v[2], q[2];

		mix(a + 16 + 32 * i, b + 16 + 32 * i, v);
#pragma GCC unroll 2
		for (int odd = 0; odd < 2; odd++) {
			const int j = 2 * i + odd;

			q[0] = bits(v[0], 4 * odd, 15);
			q[1] = bits(v[1], 4 * odd, 15);
			add_products(to->sum, j, q, byte_scale(scale, j, j + 8), x, cols);
		}
	}
}

/* of a byte of @v the nibble of an even or odd sub-block, with its fifth bit, 4 or 5 of @high; odd ones twice */
FORCE_INLINE __m256i five_bits(__m256i v, __m256i high, int odd)
{
	return _mm256_or_si256(odd ? bits(v, 3, 0x1e) : bits(v, 0, 15),
			       bits(high, 0, odd ? 32 : 16));
}

FORCE_INLINE void pair_q5_k(const uint8_t *a, const uint8_t *b, const struct pair_act *const *x,
			    int cols, struct pair_sum *to)
{
	const __m256i scale = scales_of_32(a, b, x, cols, to);
	__m256i high[2], twice[PAIR_COLS];

	begin(to->sum, cols);
	begin(twice, cols);
	mix(a + 16, b + 16, high);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		const __m256i h[2] = { shifted(high[0], 2 * i - 4), shifted(high[1], 2 * i - 4) };
		__m256i v[2], q[2];

		mix(a + 48 + 32 * i, b + 48 + 32 * i, v);
#pragma GCC unroll 2
		for (int odd = 0; odd < 2; odd++) {
			const int j = 2 * i + odd;

			q[0] = five_bits(v[0], h[0], odd);
			q[1] = five_bits(v[1], h[1], odd);
			add_products(odd ? twice : to->sum, j, q, byte_scale(scale, j, j + 8), x,
				     cols);
		}
	}
	add_high(to->sum, twice, 1, cols);
}

/* sixteen bytes of each: those of even sixteens in the lower half, four of the first, four of the second, ... */
FORCE_INLINE __m256i by_parity(__m256i v)
{
	const __m256i parts = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));

	return _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(v, parts),
					   _mm256_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7));
}

/* the same as int16, of sixteens 8k.. in s[k], from bytes and what stands above them */
FORCE_INLINE void widen(__m256i v, __m256i above, __m256i s[2])
{
	s[0] = _mm256_unpacklo_epi8(v, above);
	s[1] = _mm256_unpackhi_epi8(v, above);
}

FORCE_INLINE void widen_signed(__m256i v, __m256i s[2])
{
	widen(v, _mm256_cmpgt_epi8(_mm256_setzero_si256(), v), s);
}

FORCE_INLINE void pair_q6_k(const uint8_t *a, const uint8_t *b, const struct pair_act *const *x,
			    int cols, struct pair_sum *to)
{
	__m256i scale[2];

	widen_signed(by_parity(two16(a + 192, b + 192)), scale);
	begin_below(to, scale, 5, x, cols);
	to->head = two16(a + 194, b + 194);
#pragma GCC unroll 2
	for (int n = 0; n < 2; n++) {
		__m256i v[2][2], high[2], q[2];

		mix(a + 64 * n, b + 64 * n, v[0]);
		mix(a + 64 * n + 32, b + 64 * n + 32, v[1]);
		mix(a + 128 + 32 * n, b + 128 + 32 * n, high);
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++) {
#pragma GCC unroll 2
			for (int k = 0; k < 2; k++)
				q[k] = _mm256_or_si256(bits(v[i % 2][k], i / 2 * 4, 15),
						       bits(high[k], 2 * i - 4, 0x30));
			add_products(to->sum, 4 * n + i, q, word_scale(scale[n], i), x, cols);
		}
	}
}

FORCE_INLINE void pair_q2_k(const uint8_t *a, const uint8_t *b, const struct pair_act *const *x,
			    int cols, struct pair_sum *to)
{
	const __m256i both = by_parity(two16(a, b)), scale = bits(both, 0, 15);
	__m256i min[2], high[PAIR_COLS];

	widen(bits(both, 4, 15), _mm256_setzero_si256(), min);
	times_sums(to->min, min, x, cols);
	to->head = two16(a + 68, b + 68);
	begin(to->sum, cols);
	begin(high, cols);
#pragma GCC unroll 2
	for (int n = 0; n < 2; n++) {
		__m256i v[2], q[2];

		mix(a + 16 + 32 * n, b + 16 + 32 * n, v);
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++) {
			/* odd ones are four times as large */
			q[0] = bits(v[0], i / 2 * 4, i % 2 ? 12 : 3);
			q[1] = bits(v[1], i / 2 * 4, i % 2 ? 12 : 3);
			add_products(i % 2 ? high : to->sum, 4 * n + i, q,
				     byte_scale(scale, 8 * n + i, 8 * n + i + 4), x, cols);
		}
	}
	add_high(to->sum, high, 2, cols);
}

/* sixteen 6-bit scales of each, less 32: bytes in order, from the twelve behind two others */
FORCE_INLINE __m256i scales_q3(__m256i h)
{
	const __m256i abab = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5, 6, 7, 8, 9));
	const __m256i cccc = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13));
	const __m256i down = _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0, 4, 4));
	const __m256i up = _mm256_broadcastsi128_si256(_mm_setr_epi32(6, 4, 2, 0));
	const __m256i low = _mm256_srlv_epi32(_mm256_shuffle_epi8(h, abab), down);
	const __m256i high = _mm256_sllv_epi32(_mm256_shuffle_epi8(h, cccc), up);

	return _mm256_sub_epi8(
		_mm256_or_si256(bits(low, 0, 15), _mm256_and_si256(_mm256_srli_epi32(high, 2),
								   _mm256_set1_epi8(0x30))),
		_mm256_set1_epi8(32));
}

FORCE_INLINE void pair_q3_k(const uint8_t *a, const uint8_t *b, const struct pair_act *const *x,
			    int cols, struct pair_sum *to)
{
	__m256i scale[2], top[2], high[PAIR_COLS];

	to->head = two16(a + 94, b + 94);
	widen_signed(by_parity(scales_q3(to->head)), scale);
	begin_below(to, scale, 2, x, cols);
	begin(high, cols);
	mix(a, b, top);
#pragma GCC unroll 2
	for (int n = 0; n < 2; n++) {
		__m256i v[2], q[2];

		mix(a + 32 + 32 * n, b + 32 + 32 * n, v);
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++) {
			const int odd = i % 2, j = 4 * n + i;

			/* odd ones are four times as large */
#pragma GCC unroll 2
			for (int k = 0; k < 2; k++)
				q[k] = _mm256_or_si256(bits(v[k], i / 2 * 4, odd ? 12 : 3),
						       bits(top[k], j - 2 - 2 * odd, odd ? 16 : 4));
			add_products(odd ? high : to->sum, j, q, word_scale(scale[n], i), x, cols);
		}
	}
	add_high(to->sum, high, 2, cols);
}

PAIR(Q2_K, q2_k, PAIR_MIN16)
PAIR(Q3_K, q3_k, PAIR_OFFSET)
PAIR(Q4_K, q4_k, PAIR_MIN32)
PAIR(Q5_K, q5_k, PAIR_MIN32)
PAIR(Q6_K, q6_k, PAIR_OFFSET)

size_t avx2_pair_bytes(size_t blocks)
{
	return PAIR_COLS * blocks * sizeof(struct pair_act) +
	       (1 + 2 * PAIR_COLS) * PAIR_SLOTS * sizeof(__m128i);
}
