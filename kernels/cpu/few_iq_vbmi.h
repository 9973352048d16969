/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_iq_vbmi.h: what few columns of IQ1, IQ2 and IQ3 (few_iq1_vbmi.c, few_iq_vbmi.c) share
 * at the AVX-512 level where the CPU has VBMI. Any thread. The form is drawn in few_k_avx512.h.
 *
 * A word of every row is four indices, which vpermi2b looks up for all sixteen; so the four weights of a
 * word are the same value of four indices, and where a scale is for two indices, two values of two.
 * Activations are laid out so (struct act_few, in a call's scratch). As in file order a nibble is a weight and
 * its sign (of IQ2_XXS and IQ2_XS six bits are two), and becomes a weight plus IQ_OFFSET by one more look-up; four
 * sub-blocks are brought so far, for the sake of the tables, and then multiplied one by one.
 */
#ifndef SLUICE_KERNELS_CPU_FEW_IQ_VBMI_H
#define SLUICE_KERNELS_CPU_FEW_IQ_VBMI_H

#include "kernels/cpu/few_k_avx512.h"
#include "kernels/cpu/iq_rows.h"

/* 256 activations: those of sub-block j at 32j; in it, register m of nibbles meets four at 8m with its low ones, four behind with its high ones */
struct act_few {
	int8_t q[256];
	int32_t offset[16]; /* -IQ_OFFSET * sums of what has one scale */
	float d;
};

_Static_assert(sizeof(struct act_few) <= AVX512_PACKED_BYTES, "room in scratch");

/* Sub-blocks in the order @order of the 32 values, twice. */
static inline void few_pack(const struct act_k *x, size_t blocks, uint8_t *to, const uint8_t *order,
			    bool by16)
{
	const __m512i turn = _mm512_load_si512(order);

	for (size_t b = 0; b < blocks; b++, x++, to += AVX512_PACKED_BYTES) {
		struct act_few *a = (void *)to;

		for (int i = 0; i < 4; i++) {
			/* sub-blocks i, i + 4 */
			const __m512i v =
				_mm512_permutexvar_epi8(turn, _mm512_load_si512(x->q6 + 64 * i));

			_mm256_store_si256((void *)(a->q + 32 * i), _mm512_castsi512_si256(v));
			_mm256_store_si256((void *)(a->q + 32 * i + 128),
					   _mm512_extracti64x4_epi64(v, 1));
		}
		if (by16)
			_mm512_store_si512(a->offset,
					   _mm512_slli_epi32(_mm512_load_si512(x->by16), 2));
		else
			for (int j = 0; j < 8; j++)
				a->offset[j] = x->by32[j] * (IQ_OFFSET / 8);
		a->d = x->d;
	}
}

/* a word of the values @v of four indices, @n values each, from @at on; both sub-blocks */
#define SAME(at, n, v) (at) + (v), (at) + (n) + (v), (at) + 2 * (n) + (v), (at) + 3 * (n) + (v)

/* avx512_few_pack_@name(): the order of two sub-blocks */
#define FEW_PACK(name, by16, ...)                                                              \
	void avx512_few_pack_##name(const void *x, size_t blocks, void *to)                    \
	{                                                                                      \
		static const uint8_t order[64] __attribute__((aligned(64))) = { __VA_ARGS__ }; \
                                                                                               \
		few_pack(x, blocks, to, order, by16);                                          \
	}

/* Four sub-blocks of every row: nibbles in the order of act_few.q, and scales: of 32 weights, or of 16. */
struct four {
	__m512i t[4][4], scale[8];
};

/*
 * What the two values of a byte become: nibbles by one table, @high being the same one, the upper after a shift; or both by what
 * vpermb looks at, six bits, by a table each.
 */
struct values {
	__m512i low, high;
	bool nibbles;
};

/* @dot and the products of both values of register @m of sub-block @j; those of the upper one to @more */
FORCE_INLINE void nibbles(int cols, __m512i t, const struct values *v, int j, int m,
			  const struct act_few *const *x, __m512i *dot, __m512i *more)
{
	const __m512i low = _mm512_permutexvar_epi8(t, v->low);
	const __m512i high =
		_mm512_permutexvar_epi8(v->nibbles ? _mm512_srli_epi16(t, 4) : t, v->high);

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		dot[c] = few_add_at(dot[c], low, x[c]->q + 32 * j + 8 * m);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		more[c] = few_add_at(more[c], high, x[c]->q + 32 * j + 8 * m + 4);
}

/* registers @m of sub-block @j, @n of them with one scale, times all columns, added to @s */
FORCE_INLINE void scaled(int cols, const __m512i *t, const struct values *v, int j, int m, int n,
			 __m512i scale, const struct act_few *const *x, __m512i *s)
{
	/* only three columns of IQ2_S gain by sums of their own for the upper values, which are added then */
	const bool apart = cols == 3 && n == 2 && v->nibbles;
	__m512i dot[ROW_COLS], more[ROW_COLS];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		dot[c] = _mm512_set1_epi32(x[c]->offset[n == 4 ? j : 2 * j + m / 2]);
		more[c] = _mm512_setzero_si512();
	}
#pragma GCC unroll 4
	for (int k = m; k < m + n; k++)
		nibbles(cols, t[k], &v[k], j, k, x, dot, apart ? more : dot);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		if (apart)
			dot[c] = _mm512_add_epi32(dot[c], more[c]);
		s[c] = _mm512_add_epi32(s[c], _mm512_mullo_epi32(dot[c], scale));
		few_now(&s[c]);
	}
}

/* Four sub-blocks from @first on times all columns, added to @s; @by16: a scale is for 16 weights. */
FORCE_INLINE void multiply_four(int cols, const struct four *f, bool by16, const struct values v[4],
				int first, const struct act_few *const *x, __m512i *s,
				const char *ahead, size_t bytes)
{
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		few_ask(ahead, bytes, (size_t)(first + i), 8);
		if (by16) {
			scaled(cols, f->t[i], v, first + i, 0, 2, f->scale[2 * i], x, s);
			scaled(cols, f->t[i], v, first + i, 2, 2, f->scale[2 * i + 1], x, s);
		} else {
			scaled(cols, f->t[i], v, first + i, 0, 4, f->scale[i], x, s);
		}
	}
}

/* the first two bytes of every row's super-block */
FORCE_INLINE __m512 half_at(const uint8_t *w, size_t stride)
{
	__m128i d[2];

#pragma GCC unroll 2
	for (int i = 0; i < 2; i++, w += 8 * stride) {
		d[i] = _mm_loadu_si16(w);
#define ROW_AT(r) d[i] = _mm_insert_epi16(d[i], *(const uint16_t *)(w + (r)*stride), r)
		ROW_AT(1);
		ROW_AT(2);
		ROW_AT(3);
		ROW_AT(4);
		ROW_AT(5);
		ROW_AT(6);
		ROW_AT(7);
#undef ROW_AT
	}
	return _mm512_cvtph_ps(_mm256_set_m128i(d[1], d[0]));
}

FORCE_INLINE void floats(int cols, __m512 d, float factor, const struct act_few *const *x,
			 const __m512i *s, __m512 *y)
{
	d = _mm512_mul_ps(d, _mm512_set1_ps(factor));
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		y[c] = add_scaled(y[c], d, _mm512_set1_ps(x[c]->d), s[c]);
}

#endif
