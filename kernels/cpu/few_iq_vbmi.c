/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_iq_vbmi.c: two to eight columns of IQ2 and IQ3, and one of IQ2_XXS and of short rows, at the
 * AVX-512 level where the CPU has VBMI. Any thread. The form is drawn in few_iq_vbmi.h, layouts in scalar_iq.c, how vpermi2b
 * looks up in vbmi_rows.h.
 */
#include "kernels/cpu/few_iq_vbmi.h"
#include "kernels/cpu/vbmi.h"
#include "kernels/cpu/vbmi_rows.h"

/* of two indices the values @v, v + 1: the first's, the second's; the first values, the second ones */
#define PAIR(at, v)   (at) + (v), (at) + (v) + 1, (at) + (v) + 8, (at) + (v) + 9
#define TURNED(at, v) (at) + (v), (at) + (v) + 8, (at) + (v) + 1, (at) + (v) + 9
#define WORDS_XXS(at)                                                                   \
	SAME(at, 8, 0), SAME(at, 8, 4), SAME(at, 8, 1), SAME(at, 8, 5), SAME(at, 8, 2), \
		SAME(at, 8, 6), SAME(at, 8, 3), SAME(at, 8, 7)
#define WORDS_3(at)  SAME(at, 4, 0), SAME(at, 4, 2), SAME(at, 4, 1), SAME(at, 4, 3)
#define WORDS_XS(at) PAIR(at, 0), PAIR(at, 4), PAIR(at, 2), PAIR(at, 6)
#define WORDS_S(at)  TURNED(at, 2), TURNED(at, 6), TURNED(at, 0), TURNED(at, 4)
FEW_PACK(iq2_xxs, false, WORDS_XXS(0), WORDS_XXS(32))
FEW_PACK(iq2_xs, true, WORDS_XS(0), WORDS_XS(16), WORDS_XS(32), WORDS_XS(48))
FEW_PACK(iq2_s, true, WORDS_S(0), WORDS_S(16), WORDS_S(32), WORDS_S(48))
FEW_PACK(iq3, false, WORDS_3(0), WORDS_3(16), WORDS_3(32), WORDS_3(48))

/*
 * IQ2_XXS and IQ2_XS: two values of a byte and their signs in six bits, which is what vpermb looks at, so that neither is
 * shifted. Values 0 and 4 (1 and 5) at bits 0 and 2, their signs at 4 and 5; values 2 and 6 (3 and 7) at bits 2 and 4, their
 * signs at 0 and 1.
 */
#define SIX(n)                                                                                 \
	(AT(n, 0, 4) | AT(n, 1, 12) | AT(n, 2, 0) | AT(n, 3, 8) | AT(n, 4, 5) | AT(n, 5, 13) | \
	 AT(n, 6, 1) | ODD(n) << 9)
#define SIX0(n)	     (SIX(n) & 255)
#define SIX1(n)	     (SIX(n) >> 8)
#define MAGNITUDE(i) ((i) == 0 ? 8 : (i) == 1 ? 25 : (i) == 2 ? 43 : 0)
#define WEIGHT(n, value, sign) \
	(IQ_OFFSET + ((n) >> (sign)&1 ? -MAGNITUDE((n) >> (value)&3) : MAGNITUDE((n) >> (value)&3)))
#define VALUE_0(n) WEIGHT(n, 0, 4)
#define VALUE_4(n) WEIGHT(n, 2, 5)
#define VALUE_2(n) WEIGHT(n, 2, 0)
#define VALUE_6(n) WEIGHT(n, 4, 1)

static const uint8_t sixes[2][128] __attribute__((aligned(64))) = { TO128(SIX0), TO128(SIX1) };
static const uint8_t weights[4][64] __attribute__((aligned(64))) = {
	{ TO64(VALUE_0, 0) }, { TO64(VALUE_4, 0) }, { TO64(VALUE_2, 0) }, { TO64(VALUE_6, 0) }
};

/* a table of 256 bytes, in registers */
struct bytes256 {
	__m512i v[4];
};

FORCE_INLINE struct bytes256 load_256(const uint8_t *t)
{
	struct bytes256 b = { { _mm512_loadu_si512(t), _mm512_loadu_si512(t + 64),
				_mm512_loadu_si512(t + 128), _mm512_loadu_si512(t + 192) } };

	/* or the compiler loads them again for each use */
	__asm__("" : "+v"(b.v[0]), "+v"(b.v[1]), "+v"(b.v[2]), "+v"(b.v[3]));
	return b;
}

FORCE_INLINE __m512i in_256(const struct bytes256 *b, __m512i v, __mmask64 b7)
{
	const __m512i r = _mm512_mask2_permutex2var_epi8(b->v[0], v, _knot_mask64(b7), b->v[1]);

	return _mm512_mask2_permutex2var_epi8(b->v[2], r, b7, b->v[3]);
}

/* the same by a selection, which takes less where it is one of three: knotq takes a clock, a selection half of one */
FORCE_INLINE __m512i select_256(const struct bytes256 *b, __m512i v, __mmask64 b7)
{
	return _mm512_mask_blend_epi8(b7, _mm512_permutex2var_epi8(b->v[0], v, b->v[1]),
				      _mm512_permutex2var_epi8(b->v[2], v, b->v[3]));
}

/* seven signs and the eighth: SIGNS() or SIX(), low bytes and high bytes */
struct sign_tables {
	__m512i v[2][2];
};

FORCE_INLINE struct sign_tables load_signs(const uint8_t t[2][128])
{
	struct sign_tables s = { { { _mm512_load_si512(t[0]), _mm512_load_si512(t[0] + 64) },
				   { _mm512_load_si512(t[1]), _mm512_load_si512(t[1] + 64) } } };

	__asm__("" : "+v"(s.v[0][0]), "+v"(s.v[0][1]), "+v"(s.v[1][0]), "+v"(s.v[1][1]));
	return s;
}

FORCE_INLINE void read_xxs(const uint8_t *w, size_t stride, int chunk, struct four *f)
{
	const __m512i sevens_at = _mm512_set1_epi64(0x352e2720150e0700);
	const __m512i four = _mm512_set1_epi8(0x0f), mid = _mm512_set1_epi8(0x3c);
	__m512i q[8];

	transpose32(w + 2 + 32 * chunk, stride, q);
	const struct bytes256 b[2] = { load_256(bytes_iq2_xxs[0]), load_256(bytes_iq2_xxs[1]) };
	const struct sign_tables signs = load_signs(sixes);

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		const __m512i at = q[2 * i], rest = q[2 * i + 1];
		const __mmask64 b7 = _mm512_movepi8_mask(at);
		const __m512i seven = _mm512_multishift_epi64_epi8(sevens_at, rest);

#pragma GCC unroll 2
		for (int h = 0; h < 2; h++) {
			const __m512i r = in_256(&b[h], at, b7);
			const __m512i s =
				_mm512_permutex2var_epi8(signs.v[h][0], seven, signs.v[h][1]);

			f->t[i][h] = select_bits(four, r, s);
			f->t[i][2 + h] = select_bits(mid, _mm512_srli_epi16(r, 2), s);
		}
		f->scale[i] = odd_scales(_mm512_srli_epi32(rest, 27));
	}
}

/* 2s + 1 for the nibble @i of every word */
FORCE_INLINE __m512i nibble_scale(__m512i v, int i)
{
	return odd_scales(_mm512_rolv_epi32(v, _mm512_set1_epi32((1 - 4 * i) & 31)));
}

/* high bits of indices, and scales: a word for four sub-blocks; of IQ3_S one word of scales for all */
struct rest {
	__m512i high[2], scale[2];
};

/* bytes of registers of low and high bytes put together: of indices 0 and 1, of 2 and 3 */
FORCE_INLINE void by_pairs(__m512i low, __m512i high, unsigned shift, __m512i *first,
			   __m512i *second)
{
	const __m512i mask = _mm512_set1_epi32(shift == 8 ? 0x00ff00ff : 0x0000ffff);

	*first = select_bits(mask, low, _mm512_slli_epi32(high, shift));
	*second = select_bits(mask, _mm512_srli_epi32(low, shift), high);
}

/* Indices 0, 2, 1, 3 of a sub-block. */
FORCE_INLINE void read_xs(const uint8_t *w, size_t stride, int chunk, const struct rest *rest,
			  struct four *f)
{
	const __m512i low = _mm512_set1_epi32(0x00ff00ff);
	const __m512i four = _mm512_set1_epi8(0x0f), mid = _mm512_set1_epi8(0x3c);
	const struct sign_tables signs = load_signs(sixes);
	__m512i q[8], r[4][2];
	__m512i at[4], other[4];

	transpose32(w + 2 + 32 * chunk, stride, q);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		at[i] = select_bits(low, q[2 * i], _mm512_slli_epi32(q[2 * i + 1], 8));
		other[i] = select_bits(low, _mm512_srli_epi32(q[2 * i], 8), q[2 * i + 1]);
	}
#pragma GCC unroll 2
	for (int h = 0; h < 2; h++) {
		const struct bytes256 a = load_256(bytes_iq2_xs[h]);
		const struct bytes256 b = load_256(bytes_iq2_xs[h] + 256);

#pragma GCC unroll 4
		for (int i = 0; i < 4; i++) {
			const __mmask64 b7 = _mm512_movepi8_mask(at[i]);
			const __mmask64 b8 = _mm512_test_epi8_mask(other[i], _mm512_set1_epi8(1));

			r[i][h] = _mm512_mask_blend_epi8(b8, select_256(&a, at[i], b7),
							 select_256(&b, at[i], b7));
		}
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		const __m512i seven = _mm512_srli_epi16(other[i], 1);
		__m512i t[2], u[2];

#pragma GCC unroll 2
		for (int h = 0; h < 2; h++) {
			const __m512i s =
				_mm512_permutex2var_epi8(signs.v[h][0], seven, signs.v[h][1]);

			t[h] = select_bits(four, r[i][h], s);
			u[h] = select_bits(mid, _mm512_srli_epi16(r[i][h], 2), s);
		}
		by_pairs(t[0], t[1], 8, &f->t[i][0], &f->t[i][2]);
		by_pairs(u[0], u[1], 8, &f->t[i][1], &f->t[i][3]);
		f->scale[2 * i] = nibble_scale(rest->scale[chunk], 2 * i);
		f->scale[2 * i + 1] = nibble_scale(rest->scale[chunk], 2 * i + 1);
	}
}

/* byte @i of every word, four times */
FORCE_INLINE __m512i four_times(__m512i v, int i)
{
	const __m128i each = _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);

	return _mm512_shuffle_epi8(
		v, _mm512_broadcast_i32x4(_mm_add_epi8(each, _mm_set1_epi8((char)i))));
}

/* of 1024 entries, low or high bytes, those of two registers of indices: a table is loaded once for both */
FORCE_INLINE void two_of_1024(const uint8_t *t, const __m512i *at, const __mmask64 b7[2],
			      const __mmask64 b8[2], const __mmask64 b9[2], __m512i r[2])
{
	__m512i part[2][4];

	/* or the compiler loads all before the row, and keeps most of it on the stack */
	__asm__("" : "+r"(t));
#pragma GCC unroll 4
	for (int g = 0; g < 4; g++, t += 256) {
		const struct bytes256 v = load_256(t);

#pragma GCC unroll 2
		for (int i = 0; i < 2; i++)
			part[i][g] = select_256(&v, at[i], b7[i]);
	}
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++)
		r[i] = _mm512_mask_blend_epi8(
			b9[i], _mm512_mask_blend_epi8(b8[i], part[i][0], part[i][1]),
			_mm512_mask_blend_epi8(b8[i], part[i][2], part[i][3]));
}

/* both of four registers; @high: bits 8 and 9 of index k of the i'th at bits 8i + 2k of every word */
FORCE_INLINE void in_1024(const __m512i at[4], __m512i high, __m512i r[2][4])
{
#pragma GCC unroll 2
	for (int n = 0; n < 4; n += 2) {
		__mmask64 b7[2], b8[2], b9[2];

#pragma GCC unroll 2
		for (int i = 0; i < 2; i++) {
			const __m512i h = four_times(high, n + i);

			b7[i] = _mm512_movepi8_mask(at[n + i]);
			b8[i] = _mm512_test_epi8_mask(h, _mm512_set1_epi32(0x40100401));
			b9[i] = _mm512_test_epi8_mask(h, _mm512_set1_epi32((int)0x80200802));
		}
		two_of_1024(bytes_iq2_s[0], at + n, b7, b8, b9, r[0] + n);
		two_of_1024(bytes_iq2_s[1], at + n, b7, b8, b9, r[1] + n);
	}
}

FORCE_INLINE void read_s(const uint8_t *w, size_t stride, int chunk, const struct rest *rest,
			 struct four *f)
{
	const __m512i two = _mm512_set1_epi8(0x33);
	__m512i at[4], sign[4], r[2][4];

	transpose16(w + 2 + 16 * chunk, stride, at);
	transpose16(w + 34 + 16 * chunk, stride, sign);
	in_1024(at, rest->high[chunk], r);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		const __m512i low = r[0][i], high = r[1][i], s = sign[i];
		const __m512i twice = _mm512_add_epi8(s, s);
		const __m512i t0 = select_bits(two, low, s);
		const __m512i t1 = select_bits(two, high, _mm512_srli_epi16(s, 1));
		const __m512i u0 =
			select_bits(two, _mm512_srli_epi16(low, 2), _mm512_add_epi8(twice, twice));
		const __m512i u1 = select_bits(two, _mm512_srli_epi16(high, 2), twice);

		by_pairs(t0, t1, 16, &f->t[i][0], &f->t[i][2]);
		by_pairs(u0, u1, 16, &f->t[i][1], &f->t[i][3]);
		f->scale[2 * i] = nibble_scale(rest->scale[chunk], 2 * i);
		f->scale[2 * i + 1] = nibble_scale(rest->scale[chunk], 2 * i + 1);
	}
}

FORCE_INLINE void read_3_xxs(const uint8_t *w, size_t stride, int chunk, struct four *f)
{
	/* seven signs for two indices each, of which the second's are one lower */
	const __m512i sevens_at[2] = { _mm512_set1_epi64(0x2727202007070000),
				       _mm512_set1_epi64(0x35352e2e15150e0e) };
	const __m512i sign = _mm512_set1_epi8((char)0x88);
	const __mmask64 odd = 0xaaaaaaaaaaaaaaaa;
	const struct bytes256 b[2] = { load_256(bytes_iq3_xxs[0]), load_256(bytes_iq3_xxs[1]) };
	const struct sign_tables signs = load_signs(sevens);
	__m512i q[8], rest[4];

	transpose32(w + 2 + 32 * chunk, stride, q);
	transpose16(w + 66 + 16 * chunk, stride, rest);
#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
		const __mmask64 b7 = _mm512_movepi8_mask(q[k]);
		const __m512i seven = _mm512_multishift_epi64_epi8(sevens_at[k % 2], rest[k / 2]);

#pragma GCC unroll 2
		for (int h = 0; h < 2; h++) {
			__m512i s = _mm512_permutex2var_epi8(signs.v[h][0], seven, signs.v[h][1]);

			s = _mm512_mask_add_epi8(s, odd, s, s);
			f->t[k / 2][2 * (k % 2) + h] = or_bits(in_256(&b[h], q[k], b7), s, sign);
		}
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		f->scale[i] = odd_scales(_mm512_srli_epi32(rest[i], 27));
}

FORCE_INLINE void read_3_s(const uint8_t *w, size_t stride, int chunk, const struct rest *rest,
			   struct four *f)
{
	const __m512i fours_at[2] = { _mm512_set1_epi64(0x2c2824200c080400),
				      _mm512_set1_epi64(0x3c3834301c181410) };
	const __m512i ninth[2] = { _mm512_set1_epi32(0x08040201),
				   _mm512_set1_epi32((int)0x80402010) };
	/* bits 0 and 2, bits 1 and 3 to bits 3 and 7 */
	const __m512i spread[2] = {
		_mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 0, 8, -128, -120, -128, -120, 0, 8, 0, 8,
						     -128, -120, -128, -120)),
		_mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 8, 8, 0, 0, 8, 8, -128, -128, -120, -120,
						     -128, -128, -120, -120)),
	};
	__m512i q[8], sign[4];

	transpose32(w + 2 + 32 * chunk, stride, q);
	transpose16(w + 74 + 16 * chunk, stride, sign);
#pragma GCC unroll 2
	for (int h = 0; h < 2; h++) {
		const struct bytes256 a = load_256(bytes_iq3_s[h]);
		const struct bytes256 b = load_256(bytes_iq3_s[h] + 256);

#pragma GCC unroll 8
		for (int k = 0; k < 8; k++) {
			const __mmask64 b7 = _mm512_movepi8_mask(q[k]);
			const __mmask64 b8 = _mm512_test_epi8_mask(
				four_times(rest->high[chunk], k / 2), ninth[k % 2]);
			const __m512i v = _mm512_mask_blend_epi8(b8, select_256(&a, q[k], b7),
								 select_256(&b, q[k], b7));
			const __m512i s =
				_mm512_multishift_epi64_epi8(fours_at[k % 2], sign[k / 2]);

			f->t[k / 2][2 * (k % 2) + h] =
				_mm512_or_si512(v, _mm512_permutexvar_epi8(s, spread[h]));
		}
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		f->scale[i] = nibble_scale(rest->scale[0], i + 4 * chunk);
}

enum form { XXS2, XS2, S2, XXS3, S3 };

/* a super-block of sixteen rows; @form and @cols are constants here */
FORCE_INLINE void super_block(enum form form, int cols, size_t bytes, float factor,
			      const uint8_t *w, size_t stride, const struct act_k *const *a,
			      __m512 *y, const char *ahead)
{
	const struct act_few *const *x = (const void *)a;
	const bool by16 = form == XS2 || form == S2;
	const __m512i xxs3 = _mm512_broadcast_i32x4(
		_mm_setr_epi8(PLUS(4), PLUS(12), PLUS(20), PLUS(28), PLUS(36), PLUS(44), PLUS(52),
			      PLUS(62), MINUS(4), MINUS(12), MINUS(20), MINUS(28), MINUS(36),
			      MINUS(44), MINUS(52), MINUS(62)));
	const __m512i s3 = _mm512_broadcast_i32x4(_mm_setr_epi8(
		PLUS(1), PLUS(3), PLUS(5), PLUS(7), PLUS(9), PLUS(11), PLUS(13), PLUS(15), MINUS(1),
		MINUS(3), MINUS(5), MINUS(7), MINUS(9), MINUS(11), MINUS(13), MINUS(15)));
	struct values v[4];
	const __m512 d = half_at(w, stride);
	__m512i s[ROW_COLS];
	struct rest rest;

#pragma GCC unroll 4
	for (int m = 0; m < 4; m++) {
		const bool second = form == XXS2 ? m > 1 : m % 2;

		v[m].nibbles = form != XXS2 && form != XS2;
		v[m].low = form == XXS3 ? xxs3
			   : form == S3 ? s3
			   : form == S2 ? iq2_sign2()
					: _mm512_load_si512(weights[second ? 2 : 0]);
		v[m].high = v[m].nibbles ? v[m].low : _mm512_load_si512(weights[second ? 3 : 1]);
	}
	if (form == XS2 || form == S2 || form == S3) {
		__m512i t[4];

		transpose16(w + (form == XS2 ? 58 : 66), stride, t);
		rest.high[0] = t[0];
		rest.high[1] = t[1];
		rest.scale[0] = t[2];
		rest.scale[1] = t[3];
	}
	if (form == S3) {
		__m512i t[4];

		transpose16(w + 94, stride, t);
		rest.scale[0] = t[3];
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_setzero_si512();
#pragma GCC unroll 1
	for (int chunk = 0; chunk < 2; chunk++) {
		struct four f;

		if (form == XXS2)
			read_xxs(w, stride, chunk, &f);
		else if (form == XS2)
			read_xs(w, stride, chunk, &rest, &f);
		else if (form == S2)
			read_s(w, stride, chunk, &rest, &f);
		else if (form == XXS3)
			read_3_xxs(w, stride, chunk, &f);
		else
			read_3_s(w, stride, chunk, &rest, &f);
		multiply_four(cols, &f, by16, v, 4 * chunk, x, s, ahead, bytes);
	}
	floats(cols, d, factor, x, s, y);
}

#define FORM(T, t, form, factor)                                                            \
	FORCE_INLINE void t(int cols, const uint8_t *w, size_t stride,                      \
			    const struct act_k *const *x, __m512 *y, const char *ahead)     \
	{                                                                                   \
		super_block(form, cols, QUANT_##T##_BYTES, factor, w, stride, x, y, ahead); \
	}                                                                                   \
	FEW_K_ONE(t)
FORM(IQ2_XXS, iq2_xxs, XXS2, 0.125f)
FORM(IQ2_XS, iq2_xs, XS2, 0.125f)
FORM(IQ2_S, iq2_s, S2, 0.125f)
FORM(IQ3_XXS, iq3_xxs, XXS3, 0.25f)
FORM(IQ3_S, iq3_s, S3, 1)
