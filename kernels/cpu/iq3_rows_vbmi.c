/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/iq3_rows_vbmi.c: rows of IQ3 in file order at the AVX-512 level where the CPU has VBMI, up to
 * eight columns (whole numbers only, see avx512_tile.h). Layouts: scalar_iq.c. Any thread; reads exactly
 * the bytes of the blocks.
 *
 * The 64 indices of a super-block are a register of bytes, and an entry of the packed tables (grids.h) is
 * two, of two weights each: the low and the high ones are looked up by themselves (vbmi_rows.h). A sign
 * stands beside its weight's three bits, so that a nibble is a weight, as in iq_rows_avx512.c. The bytes
 * stay in the order of the indices: a word of a product is four of them, sixteen weights, and the
 * activations are laid out so (struct act_iq3, in a call's scratch).
 */
#include "kernels/cpu/vbmi_rows.h"
#include "kernels/cpu/vbmi.h"

/* 256 activations: values 0, 2, 1, 3 of all indices */
struct act_iq3 {
	int8_t q[4][64];
	int32_t offset[16]; /* -IQ_OFFSET * sums of 16 */
};

_Static_assert(sizeof(struct act_iq3) <= AVX512_PACKED_BYTES, "room in scratch");

void vbmi_pack_iq3(const void *from, size_t blocks, void *to)
{
	static const int value[4] = { 0, 2, 1, 3 };
	const struct act_k *x = from;
	struct act_iq3 *a = to;

	for (size_t b = 0; b < blocks; b++, x++, a++) {
		for (int i = 0; i < 4; i++) {
			/* sub-blocks i, i + 4 */
			const __m512i v = _mm512_load_si512(x->q6 + 64 * i);

			for (int k = 0; k < 4; k++) {
				const __m128i w = _mm512_cvtepi32_epi8(
					_mm512_srli_epi32(v, 8 * (unsigned)value[k]));

				_mm_storel_epi64((void *)(a->q[k] + 8 * i), w);
				_mm_storel_epi64((void *)(a->q[k] + 32 + 8 * i),
						 _mm_unpackhi_epi64(w, w));
			}
		}
		_mm512_store_si512(a->offset, _mm512_slli_epi32(_mm512_load_si512(x->by16), 2));
	}
}

/* a | (b & mask) */
FORCE_INLINE __m512i or_bits(__m512i a, __m512i b, __m512i mask)
{
	return _mm512_ternarylogic_epi32(a, b, mask, 0xf8);
}

FORCE_INLINE void xxs_block(const uint8_t *w, struct iq *v)
{
	const __m512i table = _mm512_broadcast_i32x4(
		_mm_setr_epi8(PLUS(4), PLUS(12), PLUS(20), PLUS(28), PLUS(36), PLUS(44), PLUS(52),
			      PLUS(62), MINUS(4), MINUS(12), MINUS(20), MINUS(28), MINUS(36),
			      MINUS(44), MINUS(52), MINUS(62)));
	/* seven signs for two indices each */
	const __m512i sevens_at = _mm512_set1_epi64(0x15150e0e07070000);
	const __m512i rest = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const void *)(w + 66)));
	const __m512i seven = _mm512_multishift_epi64_epi8(sevens_at, rest);
	struct indices at = { .low = _mm512_loadu_si512(w + 2) };

	eighth_bit(&at);
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		const __mmask64 odd = 0xaaaaaaaaaaaaaaaa;
		__m512i s = signs_of(i, seven);

		s = _mm512_mask_add_epi8(s, odd, s, s);
		by_nibbles(or_bits(of_256(bytes_iq3_xxs[i], &at), s, _mm512_set1_epi8((char)0x88)),
			   table, &v->q[2 * i], &v->q[2 * i + 1]);
	}
	v->scale = odd_scales(_mm512_srli_epi32(_mm512_shuffle_epi32(rest, _MM_PERM_CCAA), 27));
}

FORCE_INLINE void s_block(const uint8_t *w, struct iq *v)
{
	const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(
		PLUS(1), PLUS(3), PLUS(5), PLUS(7), PLUS(9), PLUS(11), PLUS(13), PLUS(15), MINUS(1),
		MINUS(3), MINUS(5), MINUS(7), MINUS(9), MINUS(11), MINUS(13), MINUS(15)));
	/* bits 0 and 2, bits 1 and 3 to bits 3 and 7 */
	const __m512i spread[2] = {
		_mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 0, 8, -128, -120, -128, -120, 0, 8, 0, 8,
						     -128, -120, -128, -120)),
		_mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 8, 8, 0, 0, 8, 8, -128, -128, -120, -120,
						     -128, -128, -120, -120)),
	};
	const __m512i fours_at = _mm512_set1_epi64(0x1c1814100c080400);
	const __m512i signs = _mm512_and_si512(
		_mm512_multishift_epi64_epi8(fours_at, _mm512_cvtepu32_epi64(_mm256_loadu_si256(
							       (const void *)(w + 74)))),
		_mm512_set1_epi8(15));
	struct indices at = { .low = _mm512_loadu_si512(w + 2) };

	eighth_bit(&at);
	at.b8 = _load_mask64((void *)(uintptr_t)(w + 66));
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++)
		by_nibbles(_mm512_or_si512(of_512(bytes_iq3_s[i], &at),
					   _mm512_shuffle_epi8(spread[i], signs)),
			   table, &v->q[2 * i], &v->q[2 * i + 1]);
	/* a nibble for two lanes */
	v->scale = odd_scales(_mm512_rolv_epi32(
		_mm512_set1_epi32((int)word_at(w + 106)),
		_mm512_setr_epi32(1, 1, 29, 29, 25, 25, 21, 21, 17, 17, 13, 13, 9, 9, 5, 5)));
}

typedef void (*block_fn)(const uint8_t *w, struct iq *v);

/* @count super-blocks, at most four, times @cols columns; @cols, @block and @bytes are constants here. */
FORCE_INLINE void one(const uint8_t *w, const void *const *x, int cols, size_t at, size_t i,
		      const struct row_sums *out, block_fn block, __m512i s[][4])
{
	uint16_t d;
	struct iq v;

	block(w, &v);
	memcpy(&d, w, sizeof(d));
	out->d[at + i] = d;
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		const struct act_iq3 *a = (const struct act_iq3 *)x[c] + at + i;
		__m512i y = _mm512_load_si512(a->offset), z = _mm512_setzero_si512();

#pragma GCC unroll 2
		for (int k = 0; k < 4; k += 2) {
			y = _mm512_dpbusd_epi32(y, v.q[k], _mm512_load_si512(a->q[k]));
			z = _mm512_dpbusd_epi32(z, v.q[k + 1], _mm512_load_si512(a->q[k + 1]));
		}
		s[c][i] = _mm512_mullo_epi32(_mm512_add_epi32(y, z), v.scale);
	}
}

/* A row times @cols columns; @cols, @block and @bytes are constants here. */
FORCE_INLINE void row(const uint8_t *w, const void *const *x, int cols, size_t blocks,
		      const struct row_sums *out, block_fn block, size_t bytes)
{
	for (size_t at = 0; at < blocks; at += 4, w += 4 * bytes) {
		__m512i s[ROW_COLS][4];

		prefetch_ahead(w, 4 * bytes);
		if (blocks - at >= 4) {
#pragma GCC unroll 4
			for (size_t i = 0; i < 4; i++)
				one(w + i * bytes, x, cols, at, i, out, block, s);
		} else {
#pragma GCC unroll 8
			for (int c = 0; c < cols; c++)
				s[c][1] = s[c][2] = s[c][3] = _mm512_setzero_si512();
#pragma GCC unroll 1
			for (size_t i = 0; i < blocks - at; i++)
				one(w + i * bytes, x, cols, at, i, out, block, s);
		}
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			store_sums(out[c].sum + at, s[c]);
	}
}

#define ROW(name, block, bytes, cols)                                                    \
	static void name##_##cols(const uint8_t *w, const void *const *x, size_t blocks, \
				  const struct row_sums *out)                            \
	{                                                                                \
		row(w, x, cols, blocks, out, block, bytes);                              \
	}
#define ROWS(T, t, block)                   \
	ROW(t, block, QUANT_##T##_BYTES, 1) \
	ROW(t, block, QUANT_##T##_BYTES, 2) \
	ROW(t, block, QUANT_##T##_BYTES, 3) \
	ROW(t, block, QUANT_##T##_BYTES, 4) \
	ROW(t, block, QUANT_##T##_BYTES, 6) \
	ROW(t, block, QUANT_##T##_BYTES, 8) \
	const row_fn vbmi_row_##t[ROW_COLS] = ROW_FUNCTIONS(t);

ROWS(IQ3_XXS, iq3_xxs, xxs_block)
ROWS(IQ3_S, iq3_s, s_block)
