/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_tq_avx2.c: the ternary formats at the AVX2 level. What is done with their values is in
 * avx2_sums.h, avx2_few.h and many_k_avx2.c (TQ1_0), with one column of TQ1_0 here, with more in eight_tq_avx2.c.
 * Called through the table of ops_avx2.c, any thread.
 */
#include "kernels/cpu/avx2_iq.h"
#include "kernels/cpu/avx2_laid.h"

IQ_UNPACK(TQ2_0, tq2_0, IQ_TERNARY)
SUPER_ROWS(streamed_tq2_0, unpack_tq2_0, SUPER_TERNARY, 1, QUANT_TQ2_0_BYTES)

static void rows_tq2_0(const struct matmul *m, size_t row, size_t rows, size_t col, int cols)
{
	if (cols >= 4 && avx2_eight_fits(m, QUANT_TQ2_0_BYTES, cols))
		avx2_eight_tq2_0(m, row, rows, col, cols);
	else
		rows_streamed_tq2_0(m, row, rows, col, cols);
}

STREAMED(TQ2_0, tq2_0)

/* A byte less 128 is s: its digit is 0 where s is below -42, 2 where it is above 42, and 3 s is that of the next. */
FORCE_INLINE __m256i digit_of(__m256i s)
{
	const __m256i some = _mm256_cmpgt_epi8(s, _mm256_set1_epi8(-43));
	const __m256i two = _mm256_cmpgt_epi8(s, _mm256_set1_epi8(42));

	return _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_add_epi8(some, two));
}

FORCE_INLINE void digits_tq1_0(const uint8_t *w, struct super *s, __m256i *sign)
{
	__m256i bytes[8];

	tq1_0_bytes(w, _mm256_set1_epi8(-128), bytes);
	s->head = iq_half(w + 52);
	s->d = _cvtsh_ss(iq_half(w + 52));
	s->dmin = 0;
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		s->q[i] = digit_of(bytes[i]);
	s->scale = s->min = _mm256_setzero_si256();
}

IQ_UNPACK(TQ1_0, tq1_0, IQ_TERNARY)

/*
 * One column of TQ1_0. Of a byte v that holds five digits, h(i) = 3^i v / 256, rounded down, is the number that the
 * first i of them make, and digit i is h(i + 1) - 3 h(i). So digits need not be taken apart: their sum with
 * activations a is that of h(i) with a(i - 1) - 3 a(i), which are words.
 */
struct powers_act {
	int16_t main[5][2][16]; /* of bytes 0 to 31, even and odd ones, by power */
	int16_t few[5][16];	/* of the 16 bytes behind */
	int16_t last[16];	/* of the last four, with powers 1 to 4 */
	int32_t start[8];	/* what is taken away: 1 of each digit */
};

/* words of @a less three times those of @next, which follow in the same bytes */
FORCE_INLINE void less_thrice(__m256i a, __m256i next, int16_t *to)
{
	next = _mm256_mullo_epi16(next, _mm256_set1_epi16(3));
	_mm256_store_si256((__m256i *)to, _mm256_sub_epi16(a, next));
}

FORCE_INLINE void lay_powers(const struct act_super *x, void *laid)
{
	const __m128i last = load16(x->q + 240);
	struct powers_act *to = laid;

	for (int i = 0; i < 5; i++) {
		__m256i a = load32(x->q + 32 * i),
			few = _mm256_cvtepi8_epi16(load16(x->q + 160 + 16 * i));
		__m256i next = _mm256_setzero_si256(), then = next;

		if (i < 4) {
			next = load32(x->q + 32 * i + 32);
			then = _mm256_cvtepi8_epi16(load16(x->q + 176 + 16 * i));
		}
		less_thrice(few, then, to->few[i]);
		less_thrice(_mm256_srai_epi16(a, 8), _mm256_srai_epi16(next, 8), to->main[i][1]);
		a = _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8);
		next = _mm256_srai_epi16(_mm256_slli_epi16(next, 8), 8);
		less_thrice(a, next, to->main[i][0]);
	}
	less_thrice(_mm256_cvtepi8_epi16(last), _mm256_cvtepi8_epi16(_mm_srli_si128(last, 4)),
		    to->last);
	memset(to->start, 0, sizeof(to->start));
	to->start[0] = -x->total;
}

/* bytes in the upper halves of words */
FORCE_INLINE void turn_powers(const uint8_t *w, struct laid *to)
{
	const __m256i place = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(-1, 0, -1, 1, -1, 2, -1, 3, -1, 0, -1, 1, -1, 2, -1, 3));
	const __m256i v = load32(w);
	int32_t last;

	memcpy(&last, w + 48, 4);
	to->head = iq_half(w + 52);
	to->v[0] = _mm256_slli_epi16(v, 8);
	to->v[1] = _mm256_and_si256(v, _mm256_set1_epi16(-256));
	to->v[2] = _mm256_slli_epi16(_mm256_cvtepu8_epi16(load16(w + 32)), 8);
	to->v[3] = _mm256_shuffle_epi8(_mm256_set1_epi32(last), place);
}

/* s + h of bytes, times words @x */
FORCE_INLINE __m256i add_power(__m256i s, __m256i bytes, __m256i power, const int16_t *x)
{
	return _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_mulhi_epu16(bytes, power), load32(x)));
}

FORCE_INLINE __m256i sum_powers(const struct laid *w, const void *laid)
{
	const __m256i powers =
		_mm256_setr_epi16(3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27, 81, 81, 81, 81);
	const struct powers_act *x = laid;
	__m256i a = load32(x->start), b = _mm256_setzero_si256(), c = b;

	a = add_power(a, w->v[3], powers, x->last);
#pragma GCC unroll 5
	for (int i = 0, three = 3; i < 5; i++, three *= 3) {
		const __m256i power = _mm256_set1_epi16((short)three);

		a = add_power(a, w->v[0], power, x->main[i][0]);
		b = add_power(b, w->v[1], power, x->main[i][1]);
		c = add_power(c, w->v[2], power, x->few[i]);
	}
	return _mm256_add_epi32(_mm256_add_epi32(a, b), c);
}

static void one_tq1_0(const struct matmul *m, size_t row, size_t rows, size_t col)
{
	const struct laid_kind k = {
		lay_powers, turn_powers,
		sum_powers, sizeof(struct powers_act),
		1,	    { SUPER_TERNARY, iq_factor(QUANT_TQ1_0), QUANT_TQ1_0_BYTES }
	};

	laid_rows(m, row, rows, col, k);
}

IQ_ROWS(TQ1_0, more_tq1_0, digits_tq1_0, SUPER_TERNARY)

static void rows_tq1_0(const struct matmul *m, size_t row, size_t rows, size_t col, int cols)
{
	if (cols == 1)
		one_tq1_0(m, row, rows, col);
	else if (avx2_eight_fits(m, QUANT_TQ1_0_BYTES, cols))
		avx2_eight_tq1_0(m, row, rows, col, cols);
	else
		rows_more_tq1_0(m, row, rows, col, cols);
}

IQ_TABLE(TQ1_0, tq1_0, IQ_TERNARY)
