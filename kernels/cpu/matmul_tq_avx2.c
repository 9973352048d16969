/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_tq_avx2.c: the ternary formats at the AVX2 level. What is done with their values is in
 * avx2_sums.h, avx2_few.h, few_k_avx2.c (TQ2_0) and many_k_avx2.c (TQ1_0). Called through the table of
 * ops_avx2.c, any thread.
 */
#include "kernels/cpu/avx2_iq.h"

IQ_UNPACK(TQ2_0, tq2_0, IQ_TERNARY)
SUPER_ROWS_FEW(tq2_0, unpack_tq2_0, SUPER_OFFSET, 32, 1, 1, QUANT_TQ2_0_BYTES)
STREAMED(TQ2_0, tq2_0)

/*
 * A byte less 128 is s: its digit less one is above 0 where s is above 42, below where it is below -42, and
 * 3 s is that of the next digit.
 */
FORCE_INLINE __m256i turn_of(__m256i s)
{
	const __m256i high = _mm256_set1_epi8(42), low = _mm256_set1_epi8(-42);

	return _mm256_sub_epi8(s, _mm256_min_epi8(_mm256_max_epi8(s, low), high));
}

FORCE_INLINE void turns_tq1_0(const uint8_t *w, struct super *s, __m256i *sign)
{
	__m256i bytes[8];

	tq1_0_bytes(w, _mm256_set1_epi8(-128), bytes);
	s->head = iq_half(w + 52);
	s->d = _cvtsh_ss(iq_half(w + 52));
	s->dmin = 0;
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		s->q[i] = turn_of(bytes[i]);
	s->scale = s->min = _mm256_setzero_si256();
}

IQ_UNPACK(TQ1_0, tq1_0, IQ_TERNARY)
IQ_ROWS(TQ1_0, tq1_0, turns_tq1_0, SUPER_TURNS, 32)
IQ_TABLE(TQ1_0, tq1_0, IQ_TERNARY)
