/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_k2_avx512.c: one to eight columns of super-blocks whose weights have two bits and more
 * at the AVX-512 level: Q2_K, Q3_K and TQ2_0. Any thread. The form is drawn in few_k_avx512.h.
 *
 * A weight of Q2_K times its sub-block's scale is 0..45, one of Q3_K -124..128: with an offset a byte. So
 * the scales are multiplied in once, not for each column (from five columns on), by a look-up: a
 * lane of 128 bits holds four rows, whose four products each are the sixteen bytes that vpshufb chooses
 * from. The offset is taken away by the sum of all activations.
 *
 * Bytes hold four weights, 32 apart. Two of them are looked at where they are (bits 0, 1 and 2, 3), the
 * others moved down by four together; where the row stands in the index and where the weight differs.
 */
#include "kernels/cpu/few_k_avx512.h"

/* 4 * row, row: of a lane's four rows */
FORCE_INLINE __m512i row_high(void)
{
	return _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
}

FORCE_INLINE __m512i row_low(void)
{
	return _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x01010101, 0x02020202, 0x03030303));
}

/* the products of a sub-block, [4 * row + weight] in every lane, for weights at bits 2, 3: [4 * weight + row] */
FORCE_INLINE __m512i turned(__m512i table)
{
	const __m128i turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);

	return _mm512_shuffle_epi8(table, _mm512_broadcast_i32x4(turn));
}

/* weights @k of 32 at bits 2s of @q -> their products with the scale */
FORCE_INLINE __m512i looked_up(__m512i table, __m512i q, int s)
{
	const __m512i v = s < 2 ? q : _mm512_srli_epi32(q, 4);
	const __m512i bits = _mm512_set1_epi32(s % 2 ? 0x0c0c0c0c : 0x03030303);

	return _mm512_shuffle_epi8(
		table, _mm512_ternarylogic_epi32(v, bits, s % 2 ? row_low() : row_high(), 0xea));
}

/* the tables of sixteen sub-blocks: @sc[i]: scales 4i.. as bytes; plus @offset, bytes 0..3 */
FORCE_INLINE void tables(const __m512i sc[4], uint32_t offset, __m512i table[16])
{
	const __m512i times = _mm512_set1_epi32(0x03020100);

#pragma GCC unroll 16
	for (int g = 0; g < 16; g++) {
		__m512i t = _mm512_mullo_epi32(few_byte(sc[g / 4], g % 4), times);

		if (offset)
			t = _mm512_add_epi8(t, _mm512_set1_epi32((int)offset));
		table[g] = g / 2 % 2 ? turned(t) : t;
	}
}

/* what Q2_K has at both ends: @sc[i]: scales 4i.. as bytes, @min[i]: minima 2i, 2i + 1 as int16 */
struct ends2 {
	__m512i d; /* and dmin, as they are stored */
	__m512i sc[4], min[8];
};

FORCE_INLINE void ends2(const uint8_t *w, size_t stride, struct ends2 *t)
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f);
	__m512i h[4], end[4];

	transpose16(w, stride, h);
	transpose16(w + 68, stride, end); /* of which the last four bytes are d and dmin */
	t->d = end[3];
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		const __m512i m = _mm512_and_si512(_mm512_srli_epi32(h[i], 4), low4);

		t->sc[i] = _mm512_and_si512(h[i], low4);
		t->min[2 * i] = few_two_bytes(m, 0);
		t->min[2 * i + 1] = few_two_bytes(m, 1);
	}
}

FORCE_INLINE void finish2(int cols, const struct ends2 *t, const struct act_k *const *x,
			  const __m512i *s, __m512 *y)
{
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		y[c] = few_finish(y[c], half_low(t->d), half_high(t->d), t->min, 8, x[c], s[c]);
}

/* half @half of sub-block @j, sixteen weights of every row, times all columns and its scale, added to @s */
FORCE_INLINE void add_half(int cols, const __m512i q[4], const struct act_k *const *x, int j,
			   int half, __m512i scale, __m512i *s)
{
	__m512i dot[ROW_COLS];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		dot[c] = _mm512_setzero_si512();
#pragma GCC unroll 4
	for (int k = 0; k < 4; k++)
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			dot[c] = few_add(dot[c], q[k], x[c], j, 4 * half + k);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_dpwssd_epi32(s[c], dot[c], scale);
}

/*
 * Up to four columns: multiplying each sub-block's sum by its scale costs less there than the look-ups.
 * Weights at bits 2, 3 stay where they are, four times as much: 4 * 3 * 127 * 16 are still 16 bits.
 */
FORCE_INLINE void q2_k_scaled(int cols, const uint8_t *w, size_t stride,
			      const struct act_k *const *x, __m512 *y, const char *ahead)
{
	__m512i s[2][ROW_COLS];
	struct ends2 t;

	ends2(w, stride, &t);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[0][c] = s[1][c] = _mm512_setzero_si512();
#pragma GCC unroll 1
	for (int n = 0; n < 2; n++) {
		__m512i q[8];

		transpose32(w + 16 + 32 * n, stride, q);
#pragma GCC unroll 8
		for (int g = 0; g < 8; g++) {
			const int i = g / 2;
			const __m512i bits = _mm512_set1_epi32(i % 2 ? 0x0c0c0c0c : 0x03030303);
			const __m512i scale = few_byte(t.sc[2 * n + g / 4], g % 4);
			__m512i v[4];

			if (g % 2 == 0)
				few_ask_twice(ahead, QUANT_Q2_K_BYTES, (size_t)(4 * n + i), 8);
#pragma GCC unroll 4
			for (int k = 0; k < 4; k++) {
				const __m512i b = q[4 * (g % 2) + k];

				v[k] = _mm512_and_si512(i < 2 ? b : _mm512_srli_epi32(b, 4), bits);
			}
			add_half(cols, v, x, 4 * n + i, g % 2, scale, s[i % 2]);
		}
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[0][c] = _mm512_add_epi32(s[0][c], _mm512_srai_epi32(s[1][c], 2));
	finish2(cols, &t, x, s[0], y);
}

/*
 * Word @k of sub-block @j times all columns, added to @s, before the next one is unpacked: eight sums and eight
 * words are more than the compiler keeps in registers.
 */
FORCE_INLINE void add_now(int cols, __m512i q, const struct act_k *const *x, int j, int k,
			  __m512i *s)
{
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = few_add(s[c], q, x[c], j, k);
	few_now(&s[0]);
}

/* the same by look-ups */
FORCE_INLINE void q2_k_looked_up(int cols, const uint8_t *w, size_t stride,
				 const struct act_k *const *x, __m512 *y, const char *ahead)
{
	__m512i s[ROW_COLS], table[16];
	struct ends2 t;

	ends2(w, stride, &t);
	tables(t.sc, 0, table);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_setzero_si512();
#pragma GCC unroll 1
	for (int n = 0; n < 2; n++) {
		__m512i q[8];

		transpose32(w + 16 + 32 * n, stride, q);
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++) {
			__m512i v[8];

			few_ask_twice(ahead, QUANT_Q2_K_BYTES, (size_t)(4 * n + i), 8);
#pragma GCC unroll 8
			for (int k = 0; k < 8; k++) {
				v[k] = looked_up(table[8 * n + 2 * i + k / 4], q[k], i);
				if (cols > 6)
					add_now(cols, v[k], x, 4 * n + i, k, s);
			}
			if (cols <= 6)
				few_dots(cols, v, x, 4 * n + i, s);
		}
	}
	finish2(cols, &t, x, s, y);
}

FORCE_INLINE void q2_k(int cols, const uint8_t *w, size_t stride, const struct act_k *const *x,
		       __m512 *y, const char *ahead)
{
	if (cols <= 4)
		q2_k_scaled(cols, w, stride, x, y, ahead);
	else
		q2_k_looked_up(cols, w, stride, x, y, ahead);
}

/* sixteen 6-bit scales, four to a register, from the three words they are packed in */
FORCE_INLINE void q3_scales(const __m512i s[3], __m512i sc[4])
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f), up2 = _mm512_set1_epi32(0x30303030);

#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++) {
		const __m512i a = _mm512_srli_epi32(s[i % 2], 4 * (i / 2));
		const __m512i b = i < 2 ? _mm512_slli_epi32(s[2], 4 - 2 * i)
					: _mm512_srli_epi32(s[2], 2 * i - 4);

		sc[i] = _mm512_ternarylogic_epi32(a, low4, _mm512_and_si512(b, up2), 0xea);
	}
}

/* what a weight without its third bit has less: four times the scale, which is @sc less 32 */
FORCE_INLINE __m512i q3_less(__m512i sc, int j)
{
	const __m128i each = _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
	const __m512i bytes = _mm512_shuffle_epi8(
		sc, _mm512_broadcast_i32x4(_mm_add_epi8(each, _mm_set1_epi8((char)j))));

	return _mm512_xor_si512(_mm512_slli_epi32(bytes, 2), _mm512_set1_epi8((char)0x80));
}

/* d, and scales by q3_scales() */
FORCE_INLINE __m512 q3_end(const uint8_t *w, size_t stride, __m512i sc[4])
{
	__m512i h[4];

	transpose16(w + 94, stride, h); /* two bytes of weights, twelve of scales, d */
	const __m512 d = half_high(h[3]);

	/* words 2 bytes on */
#pragma GCC unroll 3
	for (int i = 0; i < 3; i++)
		h[i] = _mm512_or_si512(_mm512_srli_epi32(h[i], 16),
				       _mm512_slli_epi32(h[i + 1], 16));
	q3_scales(h, sc);
	return d;
}

/* byte @j of every word, 256 times, as (int16, 0): with its sign */
FORCE_INLINE __m512i few_byte_256(__m512i bytes, int j)
{
	const __m128i first =
		_mm_setr_epi8(-1, 0, -1, -1, -1, 4, -1, -1, -1, 8, -1, -1, -1, 12, -1, -1);

	return _mm512_shuffle_epi8(
		bytes, _mm512_broadcast_i32x4(_mm_add_epi8(first, _mm_set1_epi32(j << 8))));
}

/*
 * Up to four columns, as q2_k_scaled(). A weight is 0..7 less four, which the sums of 16 activations take away;
 * whole numbers are 256 times as large, since scales are the upper bytes of words. They may run past 2^31 and
 * back on the way: 32 * 4 * 127 * 256 * 256, what they end in at most, does not.
 */
FORCE_INLINE void q3_k_scaled(int cols, const uint8_t *w, size_t stride,
			      const struct act_k *const *x, __m512 *y, const char *ahead)
{
	const __m512i low2 = _mm512_set1_epi8(3), low3 = _mm512_set1_epi8(7);
	__m512i s[ROW_COLS], high[8], sc[4];
	const __m512 d = q3_end(w, stride, sc);

	/* four times sixteen of scales that are 32 too large */
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_set1_epi32(-512 * x[c]->by1);
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++) {
		const __m512i pair = few_two_bytes(sc[i / 2], i % 2);

#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			s[c] = few_add_pair(s[c], pair, x[c]->sum16, i);
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_slli_epi32(s[c], 6);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		sc[i] = _mm512_sub_epi8(sc[i], _mm512_set1_epi8(32));
	transpose32(w, stride, high);
	/* bit i to bit 2 + i */
#pragma GCC unroll 8
	for (int k = 0; k < 8; k++)
		high[k] = _mm512_rol_epi32(high[k], 2);
#pragma GCC unroll 1
	for (int n = 0; n < 2; n++) {
		__m512i q[8];

		transpose32(w + 32 + 32 * n, stride, q);
#pragma GCC unroll 8
		for (int g = 0; g < 8; g++) {
			const unsigned i = (unsigned)g / 2;
			__m512i v[4];

			if (g % 2 == 0)
				few_ask_twice(ahead, QUANT_Q3_K_BYTES, (size_t)(4 * n) + i, 8);
#pragma GCC unroll 4
			for (int k = 0; k < 4; k++) {
				const int at = 4 * (g % 2) + k;

				v[k] = select_bits(low2, _mm512_srli_epi32(q[at], 2 * i),
						   _mm512_srli_epi32(high[at], i));
				v[k] = _mm512_and_si512(v[k], low3);
			}
			add_half(cols, v, x, 4 * n + (int)i, g % 2,
				 few_byte_256(sc[2 * n + g / 4], g % 4), s);
		}
#pragma GCC unroll 8
		for (int k = 0; k < 8; k++)
			high[k] = _mm512_ror_epi32(high[k], 4);
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		y[c] = add_scaled(y[c], d, _mm512_set1_ps(x[c]->d), _mm512_srai_epi32(s[c], 8));
}

FORCE_INLINE void q3_k_looked_up(int cols, const uint8_t *w, size_t stride,
				 const struct act_k *const *x, __m512 *y, const char *ahead)
{
	__m512i s[ROW_COLS], high[8], sc[4], table[16], less[16];
	const __m512 d = q3_end(w, stride, sc);

	/* (sc - 32) * q + 124 */
	tables(sc, 0x1c3c5c7c, table);
#pragma GCC unroll 16
	for (int g = 0; g < 16; g++)
		less[g] = q3_less(sc[g / 4], g % 4);
	transpose32(w, stride, high);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_set1_epi32(x[c]->by124);
#pragma GCC unroll 1
	for (int n = 0; n < 2; n++) {
		__m512i q[8];

		transpose32(w + 32 + 32 * n, stride, q);
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++) {
			const __m512i bit = _mm512_set1_epi8((char)(1 << i));
			__m512i v[8];

			few_ask_twice(ahead, QUANT_Q3_K_BYTES, (size_t)(4 * n + i), 8);
#pragma GCC unroll 8
			for (int k = 0; k < 8; k++) {
				const int g = 8 * n + 2 * i + k / 4;

				v[k] = looked_up(table[g], q[k], i);
				v[k] = _mm512_mask_sub_epi8(
					v[k], _mm512_testn_epi8_mask(high[k], bit), v[k], less[g]);
			}
			few_dots(cols, v, x, 4 * n + i, s);
		}
#pragma GCC unroll 8
		for (int k = 0; k < 8; k++)
			high[k] = _mm512_srli_epi32(high[k], 4);
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		y[c] = add_scaled(y[c], d, _mm512_set1_ps(x[c]->d), s[c]);
}

FORCE_INLINE void q3_k(int cols, const uint8_t *w, size_t stride, const struct act_k *const *x,
		       __m512 *y, const char *ahead)
{
	if (cols <= 4)
		q3_k_scaled(cols, w, stride, x, y, ahead);
	else
		q3_k_looked_up(cols, w, stride, x, y, ahead);
}

FORCE_INLINE void tq2_0(int cols, const uint8_t *w, size_t stride, const struct act_k *const *x,
			__m512 *y, const char *ahead)
{
	/* of weights at bits 0, 1 and 2, 3: these four times as much */
	__m512i s[2][ROW_COLS], ends[4];

	transpose16(w + 50, stride, ends); /* the last two bytes are d */
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		s[0][c] = _mm512_set1_epi32(x[c]->by1);
		s[1][c] = _mm512_setzero_si512();
	}
#pragma GCC unroll 1
	for (int n = 0; n < 2; n++) {
		__m512i q[8];

		transpose32(w + 32 * n, stride, q);
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++) {
			const __m512i bits = _mm512_set1_epi32(i % 2 ? 0x0c0c0c0c : 0x03030303);
			__m512i v[8];

			few_ask_twice(ahead, QUANT_TQ2_0_BYTES, (size_t)(4 * n + i), 8);
#pragma GCC unroll 8
			for (int k = 0; k < 8; k++)
				v[k] = _mm512_and_si512(i < 2 ? q[k] : _mm512_srli_epi32(q[k], 4),
							bits);
			few_dots(cols, v, x, 4 * n + i, s[i % 2]);
		}
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		y[c] = add_scaled(y[c], half_high(ends[3]), _mm512_set1_ps(x[c]->d),
				  _mm512_add_epi32(s[0][c], _mm512_srai_epi32(s[1][c], 2)));
}

FEW_K_ONE(q2_k)
FEW_K_ONE(q3_k)
FEW_K_ONE(tq2_0)
