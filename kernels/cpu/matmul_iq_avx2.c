/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/matmul_iq_avx2.c: IQ1, IQ2, IQ3 and the ternary formats at the AVX2 level: their values
 * (iq_avx.h) as super-blocks. What is done with the result is in avx2_level.h. Called through the
 * table of ops_avx2.c, any thread.
 */
#include "kernels/cpu/avx2_rows.h"
#include "kernels/cpu/iq_avx.h"

DOT(super, SUPER_SIGNED)
DOT(super, SUPER_OFFSET)

FORCE_INLINE void to_super(const struct iq *v, enum iq_form form, float factor, struct super *s,
			   __m256i *sign)
{
	s->head = v->d;
	s->d = _cvtsh_ss(v->d) * factor;
	s->dmin = 0;
	s->scale = v->scale;
	s->min = _mm256_setzero_si256();
	if (form == IQ_MOVED)
		s->min = _mm256_mullo_epi16(v->scale, _mm256_set1_epi16(IQ_MOVE));
	if (form == IQ_TERNARY)
		s->min = v->scale;
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++) {
		s->q[i] = v->q[i];
		if (form == IQ_SIGNS)
			sign[i] = v->sign[i];
	}
}

#define IQ_UNPACK(T, t, form)                                                            \
	FORCE_INLINE void unpack_##t(const uint8_t *w, struct super *s, __m256i *sign)   \
	{                                                                                \
		struct iq v;                                                             \
                                                                                         \
		t##_values(w, &v);                                                       \
		to_super(&v, form, iq_factor(QUANT_##T), s, sign);                       \
	}                                                                                \
	static void unpack_to_##t(const uint8_t *w, unsigned blocks, union unpacked *to) \
	{                                                                                \
		__m256i sign[8];                                                         \
                                                                                         \
		unpack_##t(w, &to->super, sign);                                         \
		for (int i = 0; i < 8 && form == IQ_SIGNS; i++)                          \
			to->super.q[i] = _mm256_sign_epi8(to->super.q[i], sign[i]);      \
	}
#define IQ_TABLE(T, t, stored)                                                             \
	const struct avx2_format avx2_##t = { QUANT_##T, 256,		QUANT_##T##_BYTES, \
					      rows_##t,	 unpack_to_##t, super_##stored };
#define IQ_ROWS(T, t, unpack, streamed, stored, each)                                  \
	SUPER_ROWS(t, unpack, streamed, each, iq_factor(QUANT_##T), QUANT_##T##_BYTES) \
	IQ_TABLE(T, t, stored)
#define IQ_FORMAT(T, t, form, streamed, stored, each) \
	IQ_UNPACK(T, t, form)                         \
	IQ_ROWS(T, t, unpack_##t, streamed, stored, each)

/* up to four columns as rows_iq_avx2.c or rows_iq1_avx2.c has them */
#define OWN_FORMAT(T, t, form, streamed, stored, each)                                    \
	IQ_UNPACK(T, t, form)                                                             \
	static void rows_##t(const struct matmul *m, size_t row, size_t rows, size_t col, \
			     int cols)                                                    \
	{                                                                                 \
		const struct super_kind k = { streamed, each, iq_factor(QUANT_##T),       \
					      QUANT_##T##_BYTES };                        \
                                                                                          \
		if (cols <= AVX2_ALONE)                                                   \
			avx2_rows_##t(m, row, rows, col, cols);                           \
		else if (cols <= 6)                                                       \
			few_super_rows(m, row, rows, col, cols, 6, unpack_##t, k);        \
		else                                                                      \
			few_super_rows(m, row, rows, col, cols, 8, unpack_##t, k);        \
	}                                                                                 \
	IQ_TABLE(T, t, stored)

OWN_FORMAT(IQ2_XXS, iq2_xxs, IQ_SIGNS, SUPER_SIGNS, SUPER_SIGNED, 32)
OWN_FORMAT(IQ2_XS, iq2_xs, IQ_SIGNS, SUPER_SIGNS, SUPER_SIGNED, 16)
OWN_FORMAT(IQ2_S, iq2_s, IQ_SIGNS, SUPER_SIGNS, SUPER_SIGNED, 16)
OWN_FORMAT(IQ3_S, iq3_s, IQ_SIGNS, SUPER_SIGNS, SUPER_SIGNED, 32)
IQ_FORMAT(IQ3_XXS, iq3_xxs, IQ_SIGNS, SUPER_SIGNS, SUPER_SIGNED, 32)
OWN_FORMAT(IQ1_S, iq1_s, IQ_MOVED, SUPER_OFFSET, SUPER_OFFSET, 32)
OWN_FORMAT(IQ1_M, iq1_m, IQ_MOVED, SUPER_OFFSET, SUPER_OFFSET, 16)

IQ_UNPACK(TQ2_0, tq2_0, IQ_TERNARY)
SUPER_ROWS_FEW(tq2_0, unpack_tq2_0, SUPER_OFFSET, 32, 2, 1, QUANT_TQ2_0_BYTES)
IQ_TABLE(TQ2_0, tq2_0, SUPER_OFFSET)

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
IQ_ROWS(TQ1_0, tq1_0, turns_tq1_0, SUPER_TURNS, SUPER_OFFSET, 32)
