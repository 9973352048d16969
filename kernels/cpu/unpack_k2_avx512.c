/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/unpack_k2_avx512.c: super-blocks of 16 rows -> half a tile, for Q2_K, Q3_K and
 * IQ4_XS. Layouts: docs/models.md 1.4. Reads exactly the 16 super-blocks; any thread.
 */
#include "kernels/cpu/avx512_tile.h"

void avx512_unpack_q2_k(struct tile *t, int half, const uint8_t *w, size_t stride, unsigned blocks)
{
	const __m512i low2 = _mm512_set1_epi32(0x03030303), low4 = _mm512_set1_epi32(15);
	const __m512i ends = gather_rows(w + 80, stride);
	__m512i sc[4];

	_mm512_store_ps(t->d[0][half], half_low(ends));
	_mm512_store_ps(t->shift[0][half], half_high(ends));
	transpose16(w, stride, sc);
	for (int j = 0; j < 16; j++) {
		__m512i byte = _mm512_srli_epi32(sc[j / 4], 8 * (j % 4));

		_mm512_store_si512(t->scale[j][half], _mm512_and_si512(byte, low4));
	}
	for (int i = 0; i < 8; i++) {
		/* the high nibbles of bytes 2i and 2i + 1 */
		__m512i two = _mm512_srli_epi32(sc[i / 2], 16 * (i % 2) + 4);
		__m512i b =
			_mm512_slli_epi32(_mm512_and_si512(_mm512_srli_epi32(two, 8), low4), 16);

		_mm512_store_si512(t->min[i][half],
				   _mm512_or_si512(_mm512_and_si512(two, low4), b));
	}
	for (int n = 0; n < 2; n++) {
		__m512i q[8];

		transpose32(w + 16 + 32 * n, stride, q);
		for (int k = 0; k < 8; k++)
			for (int s = 0; s < 4; s++)
				_mm512_store_si512(
					t->w[32 * n + 8 * s + k][half],
					_mm512_and_si512(_mm512_srli_epi32(q[k], 2 * s), low2));
	}
}

/* Sixteen 6-bit scales less 32, as (int16, 0); @s: the three words they are packed in. */
static inline void unpack_q3_scales(struct tile *t, int half, const __m512i s[3])
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f), low2 = _mm512_set1_epi32(0x03030303);

	for (int i = 0; i < 4; i++) {
		__m512i a = _mm512_and_si512(_mm512_srli_epi32(s[i % 2], 4 * (i / 2)), low4);
		__m512i b = _mm512_and_si512(_mm512_srli_epi32(s[2], 2 * i), low2);

		a = _mm512_or_si512(a, _mm512_slli_epi32(b, 4));
		for (int j = 0; j < 4; j++) {
			__m512i v = _mm512_and_si512(_mm512_srli_epi32(a, 8 * j),
						     _mm512_set1_epi32(255));

			v = _mm512_sub_epi32(v, _mm512_set1_epi32(32));
			_mm512_store_si512(t->scale[4 * i + j][half],
					   _mm512_and_si512(v, _mm512_set1_epi32(0xffff)));
		}
	}
}

void avx512_unpack_q3_k(struct tile *t, int half, const uint8_t *w, size_t stride, unsigned blocks)
{
	const __m512i low2 = _mm512_set1_epi32(0x03030303), bit = _mm512_set1_epi32(0x04040404);
	const __m512i twelve = _mm512_set1_epi32(0x0c0c0c0c);
	const __m512i s[3] = { gather_rows(w + 96, stride), gather_rows(w + 100, stride),
			       gather_rows(w + 104, stride) };
	__m512i high[8];

	_mm512_store_ps(t->d[0][half], half_high(gather_rows(w + 106, stride)));
	unpack_q3_scales(t, half, s);
	transpose32(w, stride, high);
	for (int k = 0; k < 8; k++)
		high[k] = _mm512_rol_epi32(high[k], 2);
	for (int n = 0; n < 2; n++) {
		__m512i q[8];

		transpose32(w + 32 + 32 * n, stride, q);
		for (int i = 0; i < 4; i++)
			for (int k = 0; k < 8; k++) {
				__m512i v = _mm512_and_si512(_mm512_srli_epi32(q[k], 2 * i), low2);

				v = _mm512_or_si512(v, _mm512_and_si512(high[k], bit));
				_mm512_store_si512(t->w[32 * n + 8 * i + k][half],
						   _mm512_add_epi8(v, twelve));
				high[k] = _mm512_ror_epi32(high[k], 1);
			}
	}
}

void avx512_unpack_iq4_xs(struct tile *t, int half, const uint8_t *w, size_t stride,
			  unsigned blocks)
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f);
	const __m512i values = avx512_iq4_values();
	const __m512i head = gather_rows(w, stride), low = gather_rows(w + 4, stride);

	_mm512_store_ps(t->d[0][half], half_low(head));
	for (int j = 0; j < 8; j++) {
		__m512i a = _mm512_and_si512(_mm512_srli_epi32(low, 4 * j), _mm512_set1_epi32(15));
		__m512i b =
			_mm512_and_si512(_mm512_srli_epi32(head, 16 + 2 * j), _mm512_set1_epi32(3));

		a = _mm512_or_si512(a, _mm512_slli_epi32(b, 4));
		_mm512_store_si512(t->scale[j][half], _mm512_sub_epi32(a, _mm512_set1_epi32(32)));
	}
	for (int i = 0; i < 4; i++) {
		__m512i q[8];

		transpose32(w + 8 + 32 * i, stride, q);
		for (int k = 0; k < 8; k++) {
			const int word = 16 * i + 8 * (k / 4) + k % 4;
			__m512i a = _mm512_and_si512(q[k], low4);
			__m512i b = _mm512_and_si512(_mm512_srli_epi32(q[k], 4), low4);

			_mm512_store_si512(t->w[word][half], _mm512_shuffle_epi8(values, a));
			_mm512_store_si512(t->w[word + 4][half], _mm512_shuffle_epi8(values, b));
		}
	}
}
