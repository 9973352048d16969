/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/unpack_b_avx512.c: up to eight blocks of 32 of 16 rows -> half a tile, for Q4_0,
 * Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL and MXFP4. Layouts: docs/models.md 1.4. Reads exactly the blocks
 * named; any thread. Signed formats leave as q + 128 (see kernels_b_avx512.c).
 */
#include "kernels/cpu/avx512_tile.h"

/* 16 bytes of nibbles, low ones the first half of the block -> eight words of unpacked values */
static inline void unpack_nibbles(const uint8_t *w, size_t stride, __m512i out[8])
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f);
	__m512i q[4];

	transpose16(w, stride, q);
	for (int k = 0; k < 4; k++) {
		out[k] = _mm512_and_si512(q[k], low4);
		out[k + 4] = _mm512_and_si512(_mm512_srli_epi32(q[k], 4), low4);
	}
}

/* the same through a table of sixteen bytes */
static inline void unpack_table(struct tile *t, int half, unsigned block, const uint8_t *w,
				size_t stride, __m512i values)
{
	__m512i q[8];

	unpack_nibbles(w, stride, q);
	for (int k = 0; k < 8; k++)
		_mm512_store_si512(t->w[8 * block + k][half], _mm512_shuffle_epi8(values, q[k]));
}

/* nibbles with a fifth bit each from the word @high (bit j: weight j of the block), plus @add */
static inline void unpack_five(struct tile *t, int half, unsigned block, const uint8_t *w,
			       size_t stride, __m512i high, int8_t add)
{
	const __m512i spread = _mm512_set1_epi32(0x204081), ones = _mm512_set1_epi32(0x01010101);
	__m512i q[8];

	unpack_nibbles(w, stride, q);
	for (int k = 0; k < 8; k++) {
		__m512i four =
			_mm512_and_si512(_mm512_srli_epi32(high, 4 * k), _mm512_set1_epi32(15));
		/* bit i of four neighbours goes to byte i */
		__m512i bits = _mm512_and_si512(_mm512_mullo_epi32(four, spread), ones);
		__m512i v = _mm512_or_si512(q[k], _mm512_slli_epi32(bits, 4));

		_mm512_store_si512(t->w[8 * block + k][half],
				   _mm512_add_epi8(v, _mm512_set1_epi8(add)));
	}
}

void avx512_unpack_q4_0(struct tile *t, int half, const uint8_t *w, size_t stride, unsigned blocks)
{
	const __m512i values = _mm512_broadcast_i32x4(
		_mm_add_epi8(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
			     _mm_set1_epi8(120)));

	for (unsigned b = 0; b < blocks; b++, w += 18) {
		_mm512_store_ps(t->d[b][half], half_low(gather_rows(w, stride)));
		unpack_table(t, half, b, w + 2, stride, values);
	}
}

void avx512_unpack_q4_1(struct tile *t, int half, const uint8_t *w, size_t stride, unsigned blocks)
{
	for (unsigned b = 0; b < blocks; b++, w += 20) {
		__m512i head = gather_rows(w, stride), q[8];

		_mm512_store_ps(t->d[b][half], half_low(head));
		_mm512_store_ps(t->shift[b][half], half_high(head));
		unpack_nibbles(w + 4, stride, q);
		for (int k = 0; k < 8; k++)
			_mm512_store_si512(t->w[8 * b + k][half], q[k]);
	}
}

void avx512_unpack_q5_0(struct tile *t, int half, const uint8_t *w, size_t stride, unsigned blocks)
{
	for (unsigned b = 0; b < blocks; b++, w += 22) {
		_mm512_store_ps(t->d[b][half], half_low(gather_rows(w, stride)));
		unpack_five(t, half, b, w + 6, stride, gather_rows(w + 2, stride), 128 - 16);
	}
}

void avx512_unpack_q5_1(struct tile *t, int half, const uint8_t *w, size_t stride, unsigned blocks)
{
	for (unsigned b = 0; b < blocks; b++, w += 24) {
		__m512i head = gather_rows(w, stride);

		_mm512_store_ps(t->d[b][half], half_low(head));
		_mm512_store_ps(t->shift[b][half], half_high(head));
		unpack_five(t, half, b, w + 8, stride, gather_rows(w + 4, stride), 0);
	}
}

void avx512_unpack_q8_0(struct tile *t, int half, const uint8_t *w, size_t stride, unsigned blocks)
{
	const __m512i flip = _mm512_set1_epi8((char)0x80);

	for (unsigned b = 0; b < blocks; b++, w += 34) {
		__m512i q[8];

		_mm512_store_ps(t->d[b][half], half_low(gather_rows(w, stride)));
		transpose32(w + 2, stride, q);
		for (int k = 0; k < 8; k++)
			_mm512_store_si512(t->w[8 * b + k][half], _mm512_xor_si512(q[k], flip));
	}
}

void avx512_unpack_iq4_nl(struct tile *t, int half, const uint8_t *w, size_t stride,
			  unsigned blocks)
{
	const __m512i values = avx512_iq4_values();

	for (unsigned b = 0; b < blocks; b++, w += 18) {
		_mm512_store_ps(t->d[b][half], half_low(gather_rows(w, stride)));
		unpack_table(t, half, b, w + 2, stride, values);
	}
}

void avx512_unpack_mxfp4(struct tile *t, int half, const uint8_t *w, size_t stride, unsigned blocks)
{
	const __m512i values = avx512_fp4_values();

	for (unsigned b = 0; b < blocks; b++, w += 17) {
		_mm512_store_ps(t->d[b][half], fp4_scale(gather_rows(w, stride)));
		unpack_table(t, half, b, w + 1, stride, values);
	}
}
