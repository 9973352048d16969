/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_iq.h: values of iq_avx.h as super-blocks of the AVX2 level, and a format's functions from
 * them. Included by matmul_iq_avx2.c and matmul_tq_avx2.c, which are compiled differently.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_IQ_H
#define SLUICE_KERNELS_CPU_AVX2_IQ_H

#include "kernels/cpu/avx2_rows.h"
#include "kernels/cpu/iq_avx.h"

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

#define IQ_UNPACK(T, t, form)                                                          \
	FORCE_INLINE void unpack_##t(const uint8_t *w, struct super *s, __m256i *sign) \
	{                                                                              \
		struct iq v;                                                           \
                                                                                       \
		t##_values(w, &v);                                                     \
		to_super(&v, form, iq_factor(QUANT_##T), s, sign);                     \
	}
/* many columns: signs go into an offset */
#define IQ_TABLE(T, t, form)                                                         \
	static void unpack_to_##t(const uint8_t *w, struct super *to)                \
	{                                                                            \
		__m256i sign[8];                                                     \
                                                                                     \
		unpack_##t(w, to, sign);                                             \
		if (form == IQ_SIGNS)                                                \
			super_unsign(to, sign);                                      \
	}                                                                            \
	const struct avx2_format avx2_##t = { QUANT_##T,                             \
					      QUANT_##T##_BYTES,                     \
					      rows_##t,                              \
					      unpack_to_##t,                         \
					      form == IQ_SIGNS ? avx2_many_offset127 \
							       : avx2_many_offset31, \
					      16 };
#define IQ_ROWS(T, t, unpack, streamed) \
	SUPER_ROWS(t, unpack, streamed, iq_factor(QUANT_##T), QUANT_##T##_BYTES)

#endif
