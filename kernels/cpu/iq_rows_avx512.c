/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/iq_rows_avx512.c: rows of IQ2 and IQ3 in file order at the AVX-512 level, up to eight columns
 * (whole numbers only, see avx512_tile.h). Layouts: scalar_iq.c. Any thread; reads exactly the bytes of
 * the blocks.
 *
 * Nothing is looked up in memory one by one: the tables of packed values (grids.h) lie in registers, and
 * vpermw takes 32 words by index at once, from 64 of them; larger tables are several, chosen by the upper
 * bits of the index. A word is eight weights (IQ3: four). Signs are brought beside the magnitudes as bits,
 * so that a nibble of a byte is a weight, and vpshufb makes it the weight plus IQ_OFFSET, unsigned, as
 * vpdpbusd wants it. Weights come out by twos of each eight, and so the activations are laid out
 * (struct act_iq, in a call's scratch): a lane is sixteen weights, which have one scale, in all four
 * products.
 */
#include "kernels/cpu/avx512_row.h"
#include "kernels/cpu/grids.h"
#include "kernels/cpu/iq_rows.h"

_Static_assert(sizeof(struct act_iq) <= AVX512_PACKED_BYTES, "room in scratch");

void avx512_pack_iq(const void *from, size_t blocks, void *to)
{
	const struct act_k *x = from;
	struct act_iq *a = to;

	for (size_t b = 0; b < blocks; b++, x++, a++) {
		for (int i = 0; i < 4; i++) {
			/* eights 4i.. and 16 + 4i.. */
			__m512i v = _mm512_load_si512(x->q6 + 64 * i);

			for (int k = 0; k < 4; k++) {
				const __m128i w = _mm512_cvtepi64_epi16(
					_mm512_srli_epi64(v, 16 * (unsigned)k));

				_mm_storel_epi64((void *)(a->q[k] + 8 * i), w);
				_mm_storel_epi64((void *)(a->q[k] + 32 + 8 * i),
						 _mm_unpackhi_epi64(w, w));
			}
		}
		_mm512_store_si512(a->offset, _mm512_slli_epi32(_mm512_load_si512(x->by16), 2));
	}
}

/* words [32k, 32k + 32) of a table */
FORCE_INLINE __m512i words(const uint16_t *table, int k)
{
	return _mm512_loadu_si512(table + 32 * k);
}

FORCE_INLINE __mmask32 bit_of(__m512i v, int bit)
{
	return _mm512_test_epi16_mask(v, _mm512_set1_epi16((short)(1 << bit)));
}

FORCE_INLINE __m512i choose(__mmask32 second, __m512i a, __m512i b)
{
	return _mm512_mask_blend_epi16(second, a, b);
}

/* Entries of a table of 64, 128, 256, 512 words by the low bits of @i; bits 6, 7, 8 as masks. */
FORCE_INLINE __m512i of_64(const uint16_t *t, __m512i i)
{
	return _mm512_permutex2var_epi16(words(t, 0), i, words(t, 1));
}

FORCE_INLINE __m512i of_128(const uint16_t *t, __m512i i, __mmask32 b6)
{
	return choose(b6, of_64(t, i), of_64(t + 64, i));
}

FORCE_INLINE __m512i of_256(const uint16_t *t, __m512i i, __mmask32 b6, __mmask32 b7)
{
	return choose(b7, of_128(t, i, b6), of_128(t + 128, i, b6));
}

FORCE_INLINE __m512i of_512(const uint16_t *t, __m512i i, __mmask32 b6, __mmask32 b7, __mmask32 b8)
{
	return choose(b8, of_256(t, i, b6, b7), of_256(t + 256, i, b6, b7));
}

static const uint16_t sevens[128] __attribute__((aligned(64))) = {
	SIGNS16(0),  SIGNS16(16), SIGNS16(32), SIGNS16(48),
	SIGNS16(64), SIGNS16(80), SIGNS16(96), SIGNS16(112),
};

FORCE_INLINE __m512i signs_of(__m512i seven)
{
	return of_128(sevens, seven, bit_of(seven, 6));
}

/* qwords whose words 0 and 1 (from @first bytes on) are four sevens -> a word each, whose low bits are one */
FORCE_INLINE __m512i four_sevens(__m512i v, int first)
{
	const __m128i bytes = _mm_setr_epi8(0, 1, 0, 1, 1, 2, 2, 3, 8, 9, 8, 9, 9, 10, 10, 11);
	const __m512i which =
		_mm512_broadcast_i32x4(_mm_add_epi8(bytes, _mm_set1_epi8((char)first)));

	return _mm512_srlv_epi16(_mm512_shuffle_epi8(v, which),
				 _mm512_set1_epi64(0x0005000600070000));
}

/* @r: packed_iq2_xxs, packed_iq2_xs */
FORCE_INLINE void iq2_weights(__m512i r, __m512i signs, struct iq *v)
{
	const __m512i two = _mm512_set1_epi8(0x33);

	by_nibbles(select_bits(two, r, signs), iq2_sign3(), &v->q[0], &v->q[1]);
	by_nibbles(select_bits(two, _mm512_srli_epi16(r, 2), signs), iq2_sign2(), &v->q[2],
		   &v->q[3]);
}

FORCE_INLINE void iq2_xxs_block(const uint8_t *w, struct iq *v)
{
	const __m512i all = _mm512_loadu_si512(w + 2);
	const __m512i bytes = _mm512_broadcast_i32x4(
		_mm_setr_epi8(0, -1, 1, -1, 2, -1, 3, -1, 8, -1, 9, -1, 10, -1, 11, -1));
	const __m512i i = _mm512_shuffle_epi8(all, bytes);
	const __m512i rest = _mm512_shuffle_epi32(all, _MM_PERM_DDBB);

	v->scale = odd_scales(_mm512_srli_epi32(rest, 27));
	iq2_weights(of_256(packed_iq2_xxs, i, bit_of(i, 6), bit_of(i, 7)),
		    signs_of(four_sevens(all, 4)), v);
}

FORCE_INLINE void iq2_xs_block(const uint8_t *w, struct iq *v)
{
	const __m512i all = _mm512_loadu_si512(w + 2);

	v->scale = nibble_scales(w + 66);
	iq2_weights(of_512(packed_iq2_xs, all, bit_of(all, 6), bit_of(all, 7), bit_of(all, 8)),
		    signs_of(_mm512_srli_epi16(all, 9)), v);
}

/* 32 bytes of eight signs -> words: even ones at even bits of the low byte, odd ones of the high */
FORCE_INLINE __m512i even_odd(const uint8_t *w)
{
	const __m512i s = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)w));

	return _mm512_or_si512(s, _mm512_slli_epi16(s, 7));
}

FORCE_INLINE void iq2_s_block(const uint8_t *w, struct iq *v)
{
	const __m128i eight = _mm_loadl_epi64((const void *)(w + 66));
	const __m512i each =
		_mm512_set_epi64((long long)0x8007800780078007, (long long)0x8006800680068006,
				 (long long)0x8005800580058005, (long long)0x8004800480048004,
				 (long long)0x8003800380038003, (long long)0x8002800280028002,
				 (long long)0x8001800180018001, (long long)0x8000800080008000);
	const __m512i up = _mm512_set1_epi64(0x0000000200040006), two = _mm512_set1_epi8(0x33);
	const __m512i i = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)(w + 2)));
	/* two bits each to bits 6 and 7 */
	const __m512i high =
		_mm512_sllv_epi16(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(eight), each), up);
	const __mmask32 b6 = bit_of(i, 6), b7 = bit_of(i, 7);
	const __m512i s = even_odd(w + 34);
	const __m512i r = choose(bit_of(high, 7), of_512(packed_iq2_s, i, b6, b7, bit_of(high, 6)),
				 of_512(packed_iq2_s + 512, i, b6, b7, bit_of(high, 6)));

	v->scale = nibble_scales(w + 74);
	by_nibbles(select_bits(two, r, s), iq2_sign2(), &v->q[1], &v->q[3]);
	by_nibbles(select_bits(two, _mm512_srli_epi16(r, 2), _mm512_slli_epi16(s, 2)), iq2_sign2(),
		   &v->q[0], &v->q[2]);
}

FORCE_INLINE void iq3_xxs_block(const uint8_t *w, struct iq *v)
{
	const __m512i table = _mm512_broadcast_i32x4(
		_mm_setr_epi8(PLUS(4), PLUS(12), PLUS(20), PLUS(28), PLUS(36), PLUS(44), PLUS(52),
			      PLUS(62), MINUS(4), MINUS(12), MINUS(20), MINUS(28), MINUS(36),
			      MINUS(44), MINUS(52), MINUS(62)));
	const __m512i top = _mm512_set1_epi8((char)0x88);
	const __m512i even = _mm512_loadu_si512(w + 2), odd = _mm512_srli_epi16(even, 8);
	const __m512i rest = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const void *)(w + 66)));
	const __m512i s = signs_of(four_sevens(rest, 0));
	__m512i a = of_256(packed_iq3_xxs, even, bit_of(even, 6), bit_of(even, 7));
	__m512i b = of_256(packed_iq3_xxs, odd, bit_of(odd, 6), bit_of(odd, 7));

	v->scale = odd_scales(_mm512_srli_epi32(_mm512_shuffle_epi32(rest, _MM_PERM_CCAA), 27));
	by_nibbles(or_bits(a, s, top), table, &v->q[0], &v->q[1]);
	by_nibbles(or_bits(b, _mm512_slli_epi16(s, 1), top), table, &v->q[2], &v->q[3]);
}

/* bits 0, 2, 4, .. */
FORCE_INLINE __mmask32 every_other(uint64_t bits)
{
	return (__mmask32)_pext_u64(bits, 0x5555555555555555);
}

FORCE_INLINE void iq3_s_block(const uint8_t *w, struct iq *v)
{
	const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(
		PLUS(1), PLUS(3), PLUS(5), PLUS(7), PLUS(9), PLUS(11), PLUS(13), PLUS(15), MINUS(1),
		MINUS(3), MINUS(5), MINUS(7), MINUS(9), MINUS(11), MINUS(13), MINUS(15)));
	/* bits 0 and 2 to bits 3 and 7 */
	const __m512i spread = _mm512_broadcast_i32x4(_mm_setr_epi8(
		0, 8, 0, 8, -128, -120, -128, -120, 0, 8, 0, 8, -128, -120, -128, -120));
	const __m512i even = _mm512_loadu_si512(w + 2), odd = _mm512_srli_epi16(even, 8);
	__m512i low, high;
	uint64_t ninth;

	memcpy(&ninth, w + 66, sizeof(ninth));
	by_nibbles(even_odd(w + 74), spread, &low, &high);

	const __m512i a =
		of_512(packed_iq3_s, even, bit_of(even, 6), bit_of(even, 7), every_other(ninth));
	const __m512i b =
		of_512(packed_iq3_s, odd, bit_of(odd, 6), bit_of(odd, 7), every_other(ninth >> 1));

	/* a nibble for two lanes */
	v->scale = odd_scales(_mm512_rolv_epi32(
		_mm512_set1_epi32((int)word_at(w + 106)),
		_mm512_setr_epi32(1, 1, 29, 29, 25, 25, 21, 21, 17, 17, 13, 13, 9, 9, 5, 5)));
	by_nibbles(_mm512_or_si512(a, low), table, &v->q[0], &v->q[1]);
	by_nibbles(_mm512_or_si512(b, high), table, &v->q[2], &v->q[3]);
}

typedef void (*block_fn)(const uint8_t *w, struct iq *v);

/* A row times @cols columns; @cols, @block and @bytes are constants here. */
FORCE_INLINE void row(const uint8_t *w, const void *const *x, int cols, size_t blocks,
		      const struct row_sums *out, block_fn block, size_t bytes)
{
	const struct act_iq *a[ROW_COLS];
	__m512i s[ROW_COLS][4];

	for (int c = 0; c < cols; c++) {
		a[c] = x[c];
		s[c][1] = s[c][2] = s[c][3] = _mm512_setzero_si512();
	}
	for (size_t at = 0; at < blocks; at += 4) {
		const size_t count = blocks - at < 4 ? blocks - at : 4;

		prefetch_ahead(w, out->ahead, 4 * bytes);
#pragma GCC unroll 1
		for (size_t i = 0; i < count; i++, w += bytes) {
			uint16_t d;
			struct iq v;

			block(w, &v);
			memcpy(&d, w, sizeof(d));
			out->d[at + i] = d;
#pragma GCC unroll 8
			for (int c = 0; c < cols; c++) {
				const struct act_iq *p = a[c] + at + i;
				__m512i y = _mm512_load_si512(p->offset);

#pragma GCC unroll 4
				for (int k = 0; k < 4; k++)
					y = _mm512_dpbusd_epi32(y, v.q[k],
								_mm512_load_si512(p->q[k]));
				s[c][i] = _mm512_mullo_epi32(y, v.scale);
			}
		}
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			store_sums(out[c].sum + at, s[c]);
	}
}

#define ROW(t, bytes, cols)                                                           \
	static void t##_##cols(const uint8_t *w, const void *const *x, size_t blocks, \
			       const struct row_sums *out)                            \
	{                                                                             \
		row(w, x, cols, blocks, out, t##_block, bytes);                       \
	}
#define ROWS(T, t)                   \
	ROW(t, QUANT_##T##_BYTES, 1) \
	ROW(t, QUANT_##T##_BYTES, 2) \
	ROW(t, QUANT_##T##_BYTES, 3) \
	ROW(t, QUANT_##T##_BYTES, 4) \
	ROW(t, QUANT_##T##_BYTES, 6) \
	ROW(t, QUANT_##T##_BYTES, 8) \
	const row_fn avx512_row_##t[ROW_COLS] = ROW_FUNCTIONS(t);

ROWS(IQ2_XXS, iq2_xxs)
ROWS(IQ2_XS, iq2_xs)
ROWS(IQ2_S, iq2_s)
ROWS(IQ3_XXS, iq3_xxs)
ROWS(IQ3_S, iq3_s)
