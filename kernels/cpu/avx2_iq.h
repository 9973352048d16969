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

#endif
