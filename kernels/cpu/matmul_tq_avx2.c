/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_tq_avx2.c: the ternary formats at the AVX2 level. What is done with their values is in
 * avx2_sums.h, avx2_few.h and many_k_avx2.c (TQ1_0). Called through the table of
 * ops_avx2.c, any thread.
 */
#include "kernels/cpu/avx2_iq.h"

IQ_UNPACK(TQ2_0, tq2_0, IQ_TERNARY)
SUPER_ROWS(tq2_0, unpack_tq2_0, SUPER_TERNARY, 32, 1, QUANT_TQ2_0_BYTES)
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

IQ_ROWS(TQ1_0, tq1_0, digits_tq1_0, SUPER_TERNARY, 32)
IQ_TABLE(TQ1_0, tq1_0, IQ_TERNARY)
