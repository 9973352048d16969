/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_b_avx2.c: the formats with 32 weights per block (Q4_0 .. Q8_0, IQ4_NL, MXFP4) at the AVX2
 * level: which functions have which columns. Up to three columns of Q8_0 are streamed here, the others by
 * side_b_avx2.c, and more by few_b_avx2.c. Layouts: docs/models.md 1.4. Exactly the bytes of the blocks that
 * exist are read. Called through the table of ops_avx2.c, any thread.
 */
#include "kernels/cpu/avx2_rows.h"

FORCE_INLINE __m256i values_q8_0(const uint8_t *w)
{
	return load32(w + 2);
}

/* of up to eight blocks; 0 for blocks that do not exist */
FORCE_INLINE void scales_q8_0(const uint8_t *w, unsigned blocks, __m256 *d, __m256 *min)
{
	uint16_t half[8] = { 0 };

#pragma GCC unroll 8
	for (unsigned i = 0; i < 8; i++)
		if (i < blocks)
			memcpy(&half[i], w + i * QUANT_Q8_0_BYTES, sizeof(half[i]));
	*d = _mm256_cvtph_ps(load16(half));
	*min = _mm256_setzero_ps();
}

GROUP_TURNED(Q4_0, q4_0, 2)
GROUP_TURNED(Q4_1, q4_1, 2)
GROUP_TURNED(Q5_0, q5_0, 3)
GROUP_TURNED(Q5_1, q5_1, 2)
GROUP_TURNED(IQ4_NL, iq4_nl, 3)
GROUP_TURNED(MXFP4, mxfp4, 2)
GROUP_BYTES(Q8_0, q8_0)
