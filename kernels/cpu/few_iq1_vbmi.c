/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_iq1_vbmi.c: one to eight columns of IQ1_S and IQ1_M at the AVX-512 level where the CPU has
 * VBMI. Any thread. The form is drawn in few_iq_vbmi.h, layouts in scalar_iq.c.
 *
 * An entry of the grid is sixteen bits, two for each value. vpermi2b takes 64 bytes by index at once from
 * 128, and leaves an index as it is where a mask says so, for the next 128: that makes the lower bytes of 64
 * entries with sixteen of them. The upper ones ascend with the index, and three are enough (struct
 * uppers_iq1). Two bits are a value plus one. Of IQ1_S they are multiplied as they are; a word's direction and
 * scale, and what the ones add up to, are one vpdpwssd for 32 weights. Of IQ1_M, with a direction for eight
 * weights, a weight plus nine is its two bits at bits 3 and 4, and at bit 1 whether it is moved up.
 *
 * Looking up keeps other units busy than multiplying, and a core looks less far ahead than either takes: two
 * sub-blocks are looked up while the two before are multiplied.
 */
#include "kernels/cpu/few_iq_vbmi.h"
#include "kernels/cpu/vbmi.h"

#define WORDS_1S(at)                                                                    \
	SAME(at, 8, 0), SAME(at, 8, 1), SAME(at, 8, 2), SAME(at, 8, 3), SAME(at, 8, 4), \
		SAME(at, 8, 5), SAME(at, 8, 6), SAME(at, 8, 7)
/* of two indices values @v and v + 4; v + 4 and v */
#define FOURTH(at, v) (at) + (v), (at) + (v) + 8, (at) + (v) + 4, (at) + (v) + 12
#define TURNED(at, v) (at) + (v) + 4, (at) + (v) + 12, (at) + (v), (at) + (v) + 8
#define WORDS_1M(at)                                                                      \
	FOURTH(at, 0), FOURTH(at, 1), FOURTH(at, 2), FOURTH(at, 3), TURNED((at) + 16, 0), \
		TURNED((at) + 16, 1), TURNED((at) + 16, 2), TURNED((at) + 16, 3)

/*
 * IQ1_S: a word in which products of 32 weights begin: the sum of their activations above, and what keeps the
 * lower half from going below zero, which would be borrowed from the upper one.
 */
#define ABOVE_ZERO 8192
/* of IQ1_M: eight times a value of 0 to 2, and 2 where it is moved up, less this is the weight */
#define OFFSET_1M  9

void avx512_few_pack_iq1_s(const void *x, size_t blocks, void *to)
{
	static const uint8_t order[64] __attribute__((aligned(64))) = { WORDS_1S(0), WORDS_1S(32) };
	const struct act_k *from = x;

	few_pack(from, blocks, to, order, false);
	for (size_t b = 0; b < blocks; b++) {
		struct act_few *a = (void *)((uint8_t *)to + b * AVX512_PACKED_BYTES);

		for (int j = 0; j < 8; j++)
			a->offset[j] = (from[b].sum32[j] >> 3) * 65536 + ABOVE_ZERO;
	}
}

void avx512_few_pack_iq1_m(const void *x, size_t blocks, void *to)
{
	static const uint8_t order[64] __attribute__((aligned(64))) = { WORDS_1M(0), WORDS_1M(32) };
	const struct act_k *from = x;

	few_pack(from, blocks, to, order, true);
	for (size_t b = 0; b < blocks; b++) {
		struct act_few *a = (void *)((uint8_t *)to + b * AVX512_PACKED_BYTES);

		for (int g = 0; g < 16; g++)
			a->offset[g] = from[b].by16[g] / 16 * OFFSET_1M;
	}
}

/* Two sub-blocks of every row, a word of four indices each: bits of the indices, and what is known of the entries so far. */
struct entries {
	__m512i at[2], upper[2], low[2], high[2];
	__mmask64 b7[2], not7[2], b8[2];
	__m512i of_256[2], of_512[2], of_1024[2];
};

/* 64 bytes of a table. The compiler would load some of them again for each use, and store others. */
FORCE_INLINE __m512i table(const uint8_t *from)
{
	const uint8_t(*line)[64] = (const void *)from;
	__m512i v;

	__asm__("vmovdqa64 %1, %0" : "=v"(v) : "m"(*line));
	return v;
}

/* whether bit @bit is set, of each byte */
FORCE_INLINE __mmask64 has_bit(__m512i v, unsigned bit)
{
	return _mm512_test_epi8_mask(v, _mm512_set1_epi8((char)(1u << bit)));
}

/* @high: three bits of indices at bits 4 to 6 of each byte */
FORCE_INLINE void begin(struct entries *e, __m512i at0, __m512i at1, __m512i high0, __m512i high1)
{
	const __m512i four = _mm512_set1_epi8(15), zero = _mm512_setzero_si512();

	e->at[0] = at0;
	e->at[1] = at1;
	e->upper[0] = select_bits(four, _mm512_srli_epi16(at0, 4), high0);
	e->upper[1] = select_bits(four, _mm512_srli_epi16(at1, 4), high1);
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		e->b7[i] = _mm512_cmplt_epi8_mask(e->at[i], zero);
		e->not7[i] = _mm512_cmpge_epi8_mask(e->at[i], zero);
		e->b8[i] = has_bit(e->upper[i], 4);
	}
}

/* the upper values: of sixteen neighbours the first ones', the last ones' */
FORCE_INLINE void look_up_high(struct entries *e)
{
	const struct uppers_iq1 *u = &packed_iq1_high;
	const __m512i first[2] = { table(u->first), table(u->first + 64) };
	const __m512i last[2] = { table(u->last), table(u->last + 64) };
	const __m512i count[2] = { table(u->count), table(u->count + 64) };

#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		const __mmask64 is_last = _mm512_cmpge_epu8_mask(
			_mm512_and_si512(e->at[i], _mm512_set1_epi8(15)),
			_mm512_permutex2var_epi8(count[0], e->upper[i], count[1]));

		e->high[i] = _mm512_mask_blend_epi8(
			is_last, _mm512_permutex2var_epi8(first[0], e->upper[i], first[1]),
			_mm512_permutex2var_epi8(last[0], e->upper[i], last[1]));
	}
}

/* the @n'th eighth of the table of lower values, for two registers of indices: it is loaded once for both */
FORCE_INLINE void look_up_low(struct entries *e, int n)
{
	const uint8_t *t = packed_iq1_low + 256 * n;
	const __m512i v[4] = { table(t), table(t + 64), table(t + 128), table(t + 192) };

#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		__m512i r = _mm512_mask2_permutex2var_epi8(v[0], e->at[i], e->not7[i], v[1]);

		r = _mm512_mask2_permutex2var_epi8(v[2], r, e->b7[i], v[3]);
		if (n % 2 == 0) {
			e->of_256[i] = r;
			continue;
		}
		r = _mm512_mask_blend_epi8(e->b8[i], e->of_256[i], r);
		if (n % 4 == 1) {
			e->of_512[i] = r;
			continue;
		}
		r = _mm512_mask_blend_epi8(has_bit(e->upper[i], 5), e->of_512[i], r);
		if (n == 3)
			e->of_1024[i] = r;
		else
			e->low[i] =
				_mm512_mask_blend_epi8(has_bit(e->upper[i], 6), e->of_1024[i], r);
	}
}

/* 8 s, and -7 s or -9 s above it: s = 2 i + 1 for the lower three bits i, the direction in the fourth */
#define S(i)	  (2 * ((i)&7) + 1)
#define FACTOR(i) ((int)(8 * S(i) + (unsigned)(((i)&8 ? -9 : -7) * S(i)) * 65536))
#define EIGHT(i)                                                                       \
	FACTOR(i), FACTOR((i) + 1), FACTOR((i) + 2), FACTOR((i) + 3), FACTOR((i) + 4), \
		FACTOR((i) + 5), FACTOR((i) + 6), FACTOR((i) + 7)

static const int32_t factors[16] __attribute__((aligned(64))) = { EIGHT(0), EIGHT(8) };

/* Sums of a sub-block, or of half of one, for all columns. */
struct dots {
	__m512i dot[ROW_COLS], more[ROW_COLS];
};

/*
 * Four weights of IQ1_S of every row: value @n of the four indices of a word of @e's sub-block @i, times all
 * columns; behind the last one @s. Of one column those of the second and fourth value of a byte, four times as
 * much, have a sum of their own.
 */
FORCE_INLINE void values_1s(int cols, const struct entries *e, int i, int n, int j, __m512i factor,
			    const struct act_few *const *x, struct dots *d, __m512i *s)
{
	const unsigned k = (unsigned)n % 4;
	const bool stays = cols == 1 && k % 2;
	const unsigned shift = stays ? 2 * k - 2 : 2 * k;
	const __m512i v = n < 4 ? e->low[i] : e->high[i];
	const __m512i w = _mm512_and_si512(shift ? _mm512_srli_epi16(v, shift) : v,
					   _mm512_set1_epi8(stays ? 12 : 3));

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		__m512i *to = stays ? d->more : d->dot;

		if (n == 0) {
			d->dot[c] = _mm512_set1_epi32(x[c]->offset[j]);
			d->more[c] = _mm512_setzero_si512();
		}
		to[c] = few_add_at(to[c], w, x[c]->q + 32 * j + 4 * n);
	}
	if (n < 7)
		return;
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		if (cols == 1)
			d->dot[c] = _mm512_add_epi32(d->dot[c], _mm512_srai_epi32(d->more[c], 2));
		s[c] = _mm512_dpwssd_epi32(s[c], d->dot[c], factor);
		few_now(&s[c]);
	}
}

FORCE_INLINE __m512i factor_1s(const __m512i four[4], int j)
{
	return _mm512_permutexvar_epi32(
		_mm512_srli_epi32(four[j / 2], (unsigned)(12 + 16 * (j % 2))),
		_mm512_load_si512(factors));
}

FORCE_INLINE void iq1_s(int cols, const uint8_t *w, size_t stride, const struct act_k *const *a,
			__m512 *y, const char *ahead)
{
	/* three bits from 0, 3, 6, 9 on to bits 4 to 6; from 16 .. */
	const __m512i from[2] = { _mm512_set1_epi64(0x25221f1c05023f3c),
				  _mm512_set1_epi64(0x35322f2c15120f0c) };
	const struct act_few *const *x = (const void *)a;
	const __m512 d = half_at(w, stride);
	__m512i s[ROW_COLS], at[8], four[4], all = _mm512_setzero_si512();
	struct entries e = { 0 }, next = { 0 };
	struct dots sum;

	transpose32(w + 2, stride, at);
	transpose16(w + 34, stride, four);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_setzero_si512();
#pragma GCC unroll 5
	for (int p = 0; p < 5; p++) {
		const int j = 2 * p - 2;
		__m512i factor[2];

		if (p > 0) {
			factor[0] = factor_1s(four, j);
			factor[1] = factor_1s(four, j + 1);
			all = _mm512_add_epi16(all, _mm512_add_epi16(factor[0], factor[1]));
		}
		if (p < 4) {
			begin(&next, at[2 * p], at[2 * p + 1],
			      _mm512_multishift_epi64_epi8(from[0], four[p]),
			      _mm512_multishift_epi64_epi8(from[1], four[p]));
			look_up_high(&next);
		}
#pragma GCC unroll 8
		for (int n = 0; n < 8; n++) {
			if (p < 4)
				look_up_low(&next, n);
			if (p > 0) {
				if (n % 4 == 0)
					few_ask(ahead, QUANT_IQ1_S_BYTES, (size_t)(j + n / 4), 8);
				values_1s(cols, &e, n / 4, 2 * n % 8, j + n / 4, factor[n / 4], x,
					  &sum, s);
				values_1s(cols, &e, n / 4, 2 * n % 8 + 1, j + n / 4, factor[n / 4],
					  x, &sum, s);
			}
		}
		e = next;
	}
	/* of all lower halves what is above zero */
	all = _mm512_srli_epi32(_mm512_slli_epi32(all, 16), 3);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_sub_epi32(s[c], all);
	floats(cols, d, 0.125f, x, s, y);
}

/* 2s + 1 for the three bits of every word from @bit on */
FORCE_INLINE __m512i scale_at(__m512i v, unsigned bit)
{
	v = _mm512_rolv_epi32(v, _mm512_set1_epi32((int)((33 - bit) & 31)));
	return _mm512_ternarylogic_epi32(v, _mm512_set1_epi32(14), _mm512_set1_epi32(1), 0xea);
}

/* d: the upper four bits of the four words of scales */
FORCE_INLINE __m512 scattered_d(const __m512i scale[2])
{
	const __m512i a = _mm512_and_si512(scale[0], _mm512_set1_epi32((int)0xf000f000));
	const __m512i b = _mm512_and_si512(scale[1], _mm512_set1_epi32((int)0xf000f000));
	const __m512i low = _mm512_or_si512(_mm512_srli_epi32(a, 12), _mm512_srli_epi32(a, 24));
	const __m512i high = _mm512_or_si512(_mm512_srli_epi32(b, 4), _mm512_srli_epi32(b, 16));

	return half_low(_mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi32(0xff)),
					_mm512_and_si512(high, _mm512_set1_epi32(0xff00))));
}

/* scales of halves g - 1 and @g, an odd one, of a super-block, side by side */
FORCE_INLINE __m512i scale_pair(const __m512i rest[4], int g)
{
	const long long first = 16 * (g / 4 % 2) + 3 * (g % 4) - 4, second = first + 3;
	const __m512i from = _mm512_set1_epi64((first & 63) | second << 16 | (first + 32) << 32 |
					       ((second + 32) & 63) << 48);
	const __m512i v = _mm512_multishift_epi64_epi8(from, rest[2 + g / 8]);

	return _mm512_ternarylogic_epi32(v, _mm512_set1_epi32(0x000e000e),
					 _mm512_set1_epi32(0x00010001), 0xea);
}

/*
 * What belongs to two indices of each word: eight values of each, a direction, a scale. Of one column a sub-block's
 * halves are scaled together, the second one has both scales, and the sum of the first.
 */
struct half_1m {
	__m512i v, up, scale, before;
	struct dots sum;
};

/* half @n of sub-block @j, the @i'th of @e, for @cols columns; of the half before @h is left */
FORCE_INLINE void begin_1m(struct half_1m *h, const struct entries *e, int i, int j, int n,
			   const __m512i four[4], const __m512i rest[4], int cols)
{
	/* the direction of two indices to bit 1, twice */
	const long long first = n ? 0x0e0a0e0a : 0x06020602, odd = j % 2 ? 0x10101010 : 0;
	const __m512i from =
		_mm512_set1_epi64((first + odd) << 32 | 0x2020202000000000 | (first + odd));
	const __m512i half = _mm512_set1_epi32(0x0000ffff);
	const int g = 2 * j + n;

	/* their lower values and their upper ones; of indices 2 and 3 the upper ones first */
	h->v = n ? select_bits(half, _mm512_rol_epi32(e->high[i], 16), e->low[i])
		 : select_bits(half, e->low[i], _mm512_rol_epi32(e->high[i], 16));
	h->up = _mm512_andnot_si512(_mm512_multishift_epi64_epi8(from, four[j / 2]),
				    _mm512_set1_epi8(2));
	if (cols > 1)
		h->scale = scale_at(rest[2 + g / 8], (unsigned)(16 * (g / 4 % 2) + 3 * (g % 4)));
	else if (n)
		h->scale = scale_pair(rest, g);
}

/* value @k and the fourth behind it of half @g, times all columns; behind the last one @s */
FORCE_INLINE void values_1m(int cols, struct half_1m *h, int k, int g,
			    const struct act_few *const *x, __m512i *s)
{
	const __m512i at[4] = { _mm512_slli_epi16(h->v, 3), _mm512_add_epi8(h->v, h->v),
				_mm512_srli_epi16(h->v, 1), _mm512_srli_epi16(h->v, 3) };
	/* 8 times the value, and 2 where it is moved up */
	const __m512i w = _mm512_ternarylogic_epi32(at[k], _mm512_set1_epi8(24), h->up, 0xea);

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		if (k == 0)
			h->sum.dot[c] = _mm512_set1_epi32(x[c]->offset[g]);
		h->sum.dot[c] = few_add_at(h->sum.dot[c], w, x[c]->q + 16 * g + 4 * k);
	}
	if (k < 3)
		return;
	/* sums fit sixteen bits */
	if (cols == 1 && g % 2 == 0) {
		h->before = h->sum.dot[0];
		return;
	}
	if (cols == 1)
		h->sum.dot[0] = select_bits(_mm512_set1_epi32(0x0000ffff), h->before,
					    _mm512_slli_epi32(h->sum.dot[0], 16));
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		s[c] = _mm512_dpwssd_epi32(s[c], h->sum.dot[c], h->scale);
		few_now(&s[c]);
	}
}

FORCE_INLINE void iq1_m(int cols, const uint8_t *w, size_t stride, const struct act_k *const *a,
			__m512 *y, const char *ahead)
{
	/* nibbles to bits 4 to 7: from 0 on, from 16 on */
	const __m512i from[2] = { _mm512_set1_epi64(0x2824201c0804003c),
				  _mm512_set1_epi64(0x3834302c1814100c) };
	const struct act_few *const *x = (const void *)a;
	__m512i s[ROW_COLS], at[8], four[4], rest[4];
	struct entries e = { 0 }, next = { 0 };
	struct half_1m h;

	transpose32(w, stride, at);
	transpose16(w + 32, stride, four);
	transpose16(w + 40, stride, rest);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_setzero_si512();
#pragma GCC unroll 5
	for (int p = 0; p < 5; p++) {
		const int j = 2 * p - 2;

		if (p < 4) {
			begin(&next, at[2 * p], at[2 * p + 1],
			      _mm512_multishift_epi64_epi8(from[0], four[p]),
			      _mm512_multishift_epi64_epi8(from[1], four[p]));
			look_up_high(&next);
		}
#pragma GCC unroll 4
		for (int n = 0; n < 4; n++) {
			if (p < 4)
				look_up_low(&next, 2 * n);
			if (p > 0) {
				if (n % 2 == 0)
					few_ask(ahead, QUANT_IQ1_M_BYTES, (size_t)(j + n / 2), 8);
				begin_1m(&h, &e, n / 2, j + n / 2, n % 2, four, rest, cols);
				values_1m(cols, &h, 0, 2 * j + n, x, s);
				values_1m(cols, &h, 1, 2 * j + n, x, s);
			}
			if (p < 4)
				look_up_low(&next, 2 * n + 1);
			if (p > 0) {
				values_1m(cols, &h, 2, 2 * j + n, x, s);
				values_1m(cols, &h, 3, 2 * j + n, x, s);
			}
		}
		e = next;
	}
	floats(cols, scattered_d(rest + 2), 0.125f, x, s, y);
}

FEW_K_ONE(iq1_s)
FEW_K_ONE(iq1_m)
