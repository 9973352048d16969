/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/unpack_k_avx512.c: super-blocks of 16 rows -> half a tile, for Q4_K, Q5_K and Q6_K,
 * the formats that published files are made of. Layouts: docs/models.md 1.4. Reads exactly the 16
 * super-blocks; any thread.
 *
 * Words are transposed while they are still packed: a 32-bit word of a row holds bytes of four
 * neighbouring weights, and masks and shifts do not care which row a lane belongs to.
 */
#include "kernels/cpu/avx512_tile.h"

/* Byte j of every word, as (int16, 0), to the tile's scales from @first on. */
static inline void store_scales(struct tile *t, int half, int first, __m512i bytes)
{
	for (int j = 0; j < 4; j++)
		_mm512_store_si512(
			t->scale[first + j][half],
			_mm512_and_si512(_mm512_srli_epi32(bytes, 8 * j), _mm512_set1_epi32(255)));
}

/* Bytes 0, 1 and 2, 3 of every word as pairs of int16. */
static inline void store_pairs(int32_t (*to)[2][16], int half, __m512i bytes)
{
	const __m512i low = _mm512_set1_epi32(0xff);

	for (int i = 0; i < 2; i++, bytes = _mm512_srli_epi32(bytes, 16)) {
		__m512i high =
			_mm512_and_si512(_mm512_slli_epi32(bytes, 8), _mm512_set1_epi32(0xff0000));

		_mm512_store_si512(to[i][half],
				   _mm512_or_si512(_mm512_and_si512(bytes, low), high));
	}
}

/*
 * The 16 bytes in front of Q4_K and Q5_K: d, dmin, eight 6-bit scales, eight 6-bit minima. The
 * kernel sums q less an offset and adds scale * (8 * sums) back, @times as often as 8 goes into
 * it.
 */
static inline void unpack_header(struct tile *t, int half, const uint8_t *w, size_t stride,
				 int times)
{
	const __m512i low6 = _mm512_set1_epi32(0x3f3f3f3f), low4 = _mm512_set1_epi32(0x0f0f0f0f);
	__m512i h[4], sc[2], m[2];

	transpose16(w, stride, h);
	_mm512_store_ps(t->d[0][half], half_low(h[0]));
	_mm512_store_ps(t->shift[0][half], half_high(h[0]));
	sc[0] = _mm512_and_si512(h[1], low6);
	sc[1] = select_bits(low4, h[3], _mm512_srli_epi32(h[1], 2));
	sc[1] = _mm512_and_si512(sc[1], low6);
	m[0] = _mm512_and_si512(h[2], low6);
	m[1] = select_bits(low4, _mm512_srli_epi32(h[3], 4), _mm512_srli_epi32(h[2], 2));
	m[1] = _mm512_and_si512(m[1], low6);
	for (int i = 0; i < 2; i++) {
		store_scales(t, half, 4 * i, sc[i]);
		store_pairs(t->pair + 2 * i, half,
			    times == 2 ? _mm512_slli_epi32(sc[i], 1) : sc[i]);
		store_pairs(t->min + 2 * i, half, m[i]);
	}
}

void avx512_unpack_q4_k(struct tile *t, int half, const uint8_t *w, size_t stride, unsigned blocks)
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f);

	unpack_header(t, half, w, stride, 1);
#pragma GCC unroll 1
	for (int chunk = 0; chunk < 4; chunk++) {
		__m512i q[8];

		transpose32(w + 16 + 32 * chunk, stride, q);
		for (int k = 0; k < 8; k++) {
			_mm512_store_si512(t->w[16 * chunk + k][half],
					   _mm512_and_si512(q[k], low4));
			_mm512_store_si512(t->w[16 * chunk + 8 + k][half],
					   _mm512_and_si512(_mm512_srli_epi32(q[k], 4), low4));
		}
	}
}

void avx512_unpack_q5_k(struct tile *t, int half, const uint8_t *w, size_t stride, unsigned blocks)
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f), low5 = _mm512_set1_epi32(0x1f1f1f1f);
	__m512i high[8];

	unpack_header(t, half, w, stride, 2);
	transpose32(w + 16, stride, high);
	/* bits 2c and 2c + 1 of a byte belong to chunk c: they are rotated to bit 4 */
	for (int k = 0; k < 8; k++)
		high[k] = _mm512_rol_epi32(high[k], 4);
#pragma GCC unroll 1
	for (int chunk = 0; chunk < 4; chunk++) {
		__m512i q[8];

		transpose32(w + 48 + 32 * chunk, stride, q);
		for (int k = 0; k < 8; k++) {
			__m512i a = select_bits(low4, q[k], high[k]);
			__m512i b = select_bits(low4, _mm512_srli_epi32(q[k], 4),
						_mm512_srli_epi32(high[k], 1));

			_mm512_store_si512(t->w[16 * chunk + k][half], _mm512_and_si512(a, low5));
			_mm512_store_si512(t->w[16 * chunk + 8 + k][half],
					   _mm512_and_si512(b, low5));
			high[k] = _mm512_ror_epi32(high[k], 2);
		}
	}
}

/* 128 weights of Q6_K: 64 bytes of low bits, 32 of high bits */
static inline void unpack_q6_half(uint8_t (*out)[2][64], int half, const uint8_t *ql,
				  const uint8_t *qh, size_t stride)
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f), low6 = _mm512_set1_epi32(0x3f3f3f3f);
	__m512i a[8], b[8], h[8];

	transpose32(qh, stride, h);
	transpose32(ql, stride, a);
	transpose32(ql + 32, stride, b);
	for (int k = 0; k < 8; k++) {
		const __m512i v[4] = {
			select_bits(low4, a[k], _mm512_slli_epi32(h[k], 4)),
			select_bits(low4, b[k], _mm512_slli_epi32(h[k], 2)),
			select_bits(low4, _mm512_srli_epi32(a[k], 4), h[k]),
			select_bits(low4, _mm512_srli_epi32(b[k], 4), _mm512_srli_epi32(h[k], 2)),
		};

		for (int i = 0; i < 4; i++)
			_mm512_store_si512(out[8 * i + k][half], _mm512_and_si512(v[i], low6));
	}
}

void avx512_unpack_q6_k(struct tile *t, int half, const uint8_t *w, size_t stride, unsigned blocks)
{
	__m512i sc[4];

	/* d is the last field: the word that ends with it stays inside the block */
	_mm512_store_ps(t->d[0][half], half_high(gather_rows(w + 206, stride)));
	transpose16(w + 192, stride, sc);
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 4; j++) {
			__m512i top = _mm512_slli_epi32(sc[i], 24 - 8 * j);

			_mm512_store_si512(t->scale[4 * i + j][half],
					   _mm512_srli_epi32(_mm512_srai_epi32(top, 8), 16));
		}
	for (int n = 0; n < 2; n++)
		unpack_q6_half(t->w + 32 * n, half, w + 64 * n, w + 128 + 32 * n, stride);
}
