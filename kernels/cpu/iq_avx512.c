/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/iq_avx512.c: IQ1, IQ2, IQ3 and the ternary formats at the AVX-512 level: half tiles, and
 * rows of IQ1 in file order (whole numbers only, see avx512_tile.h), both from the values of iq_avx.h;
 * rows of IQ2, IQ3 and TQ1_0: iq_rows_avx512.c, tq_rows_avx512.c; TQ2_0: few_k2_avx512.c. Any thread.
 *
 * Rows: as in rows_k2_avx512.c; four products of values below 64 fit 16 bits, with an offset, which the
 * sums of 16 activations take away. Tiles hold signed values plus 64.
 */
#include "kernels/cpu/avx512_row.h"
#include "kernels/cpu/iq_avx.h"

#define TILE_OFFSET 64 /* of FORM_IQ in kernels_k_avx512.c */

/* sub-blocks v and v + 4 of each register, as in act_k.q6 */
static inline __m512i both(__m256i a, __m256i b)
{
	return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}

/* what an offset takes away: scale * -(offset * sums of 16), pairs added */
static inline __m256i start(__m256i scale, const struct act_k *x)
{
	__m256i s = _mm256_setzero_si256();

	/* sum16 is a multiple of 16 */
	s = _mm256_dpwssd_epi32(s, scale, _mm256_load_si256((const void *)x->sum16));
	s = _mm256_srai_epi32(s, 4);
	return _mm256_add_epi32(_mm256_slli_epi32(s, 3), s);
}

static inline __attribute__((always_inline)) __m512i multiply(const struct iq *v,
							      const struct act_k *x)
{
	const __m512i each = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 8, 8, 8, 8, 9, 9, 9, 9);
	const __m512i scales = _mm512_cvtepu16_epi32(v->scale), zero = _mm512_setzero_si512();
	__m512i s = _mm512_zextsi256_si512(start(v->scale, x));

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		const __m512i which = _mm512_add_epi32(each, _mm512_set1_epi32(2 * i));
		__m512i a = _mm512_load_si512(x->q6 + 64 * i);
		a = _mm512_dpbusd_epi32(zero, both(v->q[i], v->q[i + 4]), a);
		s = _mm512_dpwssd_epi32(s, a, _mm512_permutexvar_epi32(which, scales));
	}
	return s;
}

typedef void (*values_fn)(const uint8_t *w, struct iq *v);

static inline __attribute__((always_inline)) void
group(const uint8_t *w, const struct act_k *const *x, int cols, size_t at, int count,
      const struct row_sums *out, values_fn values, size_t bytes)
{
	const __m512i zero = _mm512_setzero_si512();
	__m512i s[ROW_COLS][4];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c][0] = s[c][1] = s[c][2] = s[c][3] = zero;
	prefetch_ahead(w, out->ahead, bytes * (size_t)count);
#pragma GCC unroll 4
	for (int i = 0; i < count; i++, at++, w += bytes) {
		struct iq v;

		values(w, &v);
		out->d[at] = v.d;
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			s[c][i] = multiply(&v, x[c] + at);
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		store_sums(out[c].sum + at - count, s[c]);
}

/* 256 signed values and the scales of a row, for half a tile */
struct unpacked_row {
	int8_t q[256];
	int16_t scale[16];
	float d;
};

static inline __attribute__((always_inline)) void unpack_row(const uint8_t *w, values_fn values,
							     enum iq_form form, float factor,
							     struct unpacked_row *r)
{
	const int less = form == IQ_MOVED ? IQ_MOVE : form == IQ_TERNARY ? 1 : 0;
	const __m256i up = _mm256_set1_epi8((char)(TILE_OFFSET - less));
	struct iq v;

	values(w, &v);
	r->d = _cvtsh_ss(v.d) * factor;
	_mm256_storeu_si256((__m256i *)r->scale, v.scale);
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++) {
		__m256i q = form == IQ_SIGNS ? _mm256_sign_epi8(v.q[i], v.sign[i]) : v.q[i];

		_mm256_storeu_si256((__m256i *)r->q + i, _mm256_add_epi8(q, up));
	}
}

/* sixteen unpacked rows -> half a tile */
static void fill_half(struct tile *t, int half, const struct unpacked_row rows[16])
{
	for (int i = 0; i < 16; i++) {
		__m512i q[4];

		transpose16((const uint8_t *)rows[0].q + 16 * i, sizeof(rows[0]), q);
		for (int k = 0; k < 4; k++)
			_mm512_store_si512(t->w[4 * i + k][half], q[k]);
	}
	for (int r = 0; r < 16; r++) {
		t->d[0][half][r] = rows[r].d;
		for (int j = 0; j < 16; j++)
			t->scale[j][half][r] = rows[r].scale[j];
	}
}

#define IQ_UNPACK(T, t, form)                                                                      \
	void avx512_unpack_##t(struct tile *tile, int half, const uint8_t *w, size_t stride,       \
			       unsigned blocks)                                                    \
	{                                                                                          \
		struct unpacked_row rows[16];                                                      \
                                                                                                   \
		for (int r = 0; r < 16; r++)                                                       \
			unpack_row(w + (size_t)r * stride, t##_values, form, iq_factor(QUANT_##T), \
				   &rows[r]);                                                      \
		fill_half(tile, half, rows);                                                       \
	}
#define IQ1(T, t)                                                                               \
	static inline __attribute__((always_inline)) void group_##t(                            \
		const uint8_t *w, const struct act_k *const *x, int cols, size_t at, int count, \
		const struct row_sums *out)                                                     \
	{                                                                                       \
		group(w, x, cols, at, count, out, t##_values, QUANT_##T##_BYTES);               \
	}                                                                                       \
	ROW_K_FOUR(t, group_##t, QUANT_##T##_BYTES) IQ_UNPACK(T, t, IQ_MOVED)

IQ_UNPACK(IQ2_XXS, iq2_xxs, IQ_SIGNS)
IQ_UNPACK(IQ2_XS, iq2_xs, IQ_SIGNS)
IQ_UNPACK(IQ2_S, iq2_s, IQ_SIGNS)
IQ_UNPACK(IQ3_XXS, iq3_xxs, IQ_SIGNS)
IQ_UNPACK(IQ3_S, iq3_s, IQ_SIGNS)
IQ1(IQ1_S, iq1_s)
IQ1(IQ1_M, iq1_m)
IQ_UNPACK(TQ1_0, tq1_0, IQ_TERNARY)
IQ_UNPACK(TQ2_0, tq2_0, IQ_TERNARY)
