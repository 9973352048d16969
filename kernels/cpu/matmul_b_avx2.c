/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_b_avx2.c: the formats with 32 weights per block (Q4_0 .. Q8_0, IQ4_NL, MXFP4)
 * at the AVX2 level: how eight blocks are unpacked. What is done with the result is in
 * avx2_level.h. Layouts: docs/models.md 1.4. Exactly the bytes of the blocks that exist are
 * read. Called through the table of ops_avx2.c, any thread.
 */
#include "kernels/cpu/avx2_level.h"

DOT_STEPS(group, GROUP_SIGNED)
DOT_STEPS(group, GROUP_MIN)

/* the half at @offset of each block; 0 for blocks that do not exist */
FORCE_INLINE __m256 halves(const uint8_t *w, unsigned blocks, size_t bytes, size_t offset)
{
	__m128i v = _mm_setzero_si128();
	uint16_t h[8] = { 0 };

#pragma GCC unroll 8
	for (unsigned i = 0; i < 8; i++)
		if (i < blocks)
			memcpy(&h[i], w + i * bytes + offset, sizeof(h[i]));
	v = _mm_setr_epi16((short)h[0], (short)h[1], (short)h[2], (short)h[3], (short)h[4],
			   (short)h[5], (short)h[6], (short)h[7]);
	return _mm256_cvtph_ps(v);
}

/* bit j of @bits -> bit 4 of byte j */
FORCE_INLINE __m256i fifth_bits(const uint8_t *bits)
{
	const __m256i byte =
		_mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
	int32_t u;

	memcpy(&u, bits, sizeof(u));

	__m256i v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(u), byte), bit);

	return _mm256_and_si256(_mm256_cmpeq_epi8(v, bit), _mm256_set1_epi8(16));
}

/* w = d q + min: the integers of one block */
FORCE_INLINE __m256i values(uint32_t type, const uint8_t *w)
{
	switch (type) {
	case QUANT_Q4_0:
		return _mm256_sub_epi8(nibbles(load16(w + 2)), _mm256_set1_epi8(8));
	case QUANT_Q4_1:
		return nibbles(load16(w + 4));
	case QUANT_Q5_0:
		return _mm256_sub_epi8(_mm256_or_si256(nibbles(load16(w + 6)), fifth_bits(w + 2)),
				       _mm256_set1_epi8(16));
	case QUANT_Q5_1:
		return _mm256_or_si256(nibbles(load16(w + 8)), fifth_bits(w + 4));
	case QUANT_IQ4_NL:
		return _mm256_shuffle_epi8(iq4_values(), nibbles(load16(w + 2)));
	case QUANT_MXFP4:
		/* twice the value, so that all are integers; the scale is halved for it */
		return _mm256_shuffle_epi8(
			_mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1,
								  -2, -3, -4, -6, -8, -12)),
			nibbles(load16(w + 1)));
	default: /* QUANT_Q8_0 */
		return load32(w + 2);
	}
}

FORCE_INLINE void unpack_values(uint32_t type, const uint8_t *w, unsigned blocks, size_t bytes,
				struct group *g)
{
#pragma GCC unroll 8
	for (unsigned i = 0; i < 8; i++)
		g->q[i] = i < blocks ? values(type, w + i * bytes) : _mm256_setzero_si256();
	g->min = _mm256_setzero_ps();
}

#define UNPACK_SIGNED(T, t)                                                              \
	FORCE_INLINE void unpack_##t(const uint8_t *w, unsigned blocks, struct group *g) \
	{                                                                                \
		unpack_values(QUANT_##T, w, blocks, QUANT_##T##_BYTES, g);               \
		g->d = halves(w, blocks, QUANT_##T##_BYTES, 0);                          \
	}
#define UNPACK_MIN(T, t)                                                                 \
	FORCE_INLINE void unpack_##t(const uint8_t *w, unsigned blocks, struct group *g) \
	{                                                                                \
		unpack_values(QUANT_##T, w, blocks, QUANT_##T##_BYTES, g);               \
		g->d = halves(w, blocks, QUANT_##T##_BYTES, 0);                          \
		g->min = halves(w, blocks, QUANT_##T##_BYTES, 2);                        \
	}
UNPACK_SIGNED(Q4_0, q4_0)
UNPACK_SIGNED(Q5_0, q5_0)
UNPACK_SIGNED(Q8_0, q8_0)
UNPACK_SIGNED(IQ4_NL, iq4_nl)
UNPACK_MIN(Q4_1, q4_1)
UNPACK_MIN(Q5_1, q5_1)

/* d = 2^(e - 128); e = 0 and 1 are subnormal */
FORCE_INLINE void unpack_mxfp4(const uint8_t *w, unsigned blocks, struct group *g)
{
	const __m256i two = _mm256_set1_epi32(2), tiny = _mm256_set1_epi32(0x200000);
	uint8_t b[8] = { 0 };

	unpack_values(QUANT_MXFP4, w, blocks, QUANT_MXFP4_BYTES, g);
#pragma GCC unroll 8
	for (unsigned i = 0; i < 8; i++)
		if (i < blocks)
			b[i] = w[i * QUANT_MXFP4_BYTES];

	__m256i e = _mm256_setr_epi32(b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]);
	__m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);

	g->d = _mm256_castsi256_ps(
		_mm256_blendv_epi8(normal, _mm256_sllv_epi32(tiny, e), _mm256_cmpgt_epi32(two, e)));
}

GROUP_FORMAT(Q4_0, q4_0, GROUP_SIGNED)
GROUP_FORMAT(Q4_1, q4_1, GROUP_MIN)
GROUP_FORMAT(Q5_0, q5_0, GROUP_SIGNED)
GROUP_FORMAT(Q5_1, q5_1, GROUP_MIN)
GROUP_FORMAT(Q8_0, q8_0, GROUP_SIGNED)
GROUP_FORMAT(IQ4_NL, iq4_nl, GROUP_SIGNED)
GROUP_FORMAT(MXFP4, mxfp4, GROUP_SIGNED)
