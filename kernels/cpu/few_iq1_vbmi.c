/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_iq1_vbmi.c: one to eight columns of IQ1_S and IQ1_M at the AVX-512 level where the CPU has
 * VBMI. Any thread. The form is drawn in few_iq_vbmi.h, layouts in scalar_iq.c.
 *
 * An entry of the grid is sixteen bits, two for each value. vpermi2b takes 64 bytes by index at once from
 * 128, and leaves an index as it is where a mask says so, for the next 128: that makes the lower bytes of 64
 * entries with sixteen of them. The upper ones ascend with the index, and three are enough (struct
 * uppers_iq1). Two bits are a value plus one, and are multiplied as they are; a word's direction and scale,
 * and what the ones add up to, are one vpdpwssd for 32 weights of IQ1_S. In IQ1_M, with a direction for
 * eight weights, a nibble is a value and its direction, and is looked up.
 */
#include "kernels/cpu/few_iq_vbmi.h"
#include "kernels/cpu/vbmi.h"

#define WORDS_1S(at)                                                                    \
	SAME(at, 8, 0), SAME(at, 8, 1), SAME(at, 8, 2), SAME(at, 8, 3), SAME(at, 8, 4), \
		SAME(at, 8, 5), SAME(at, 8, 6), SAME(at, 8, 7)
/* of two indices values @v and v + 4 */
#define FOURTH(at, v) (at) + (v), (at) + (v) + 8, (at) + (v) + 4, (at) + (v) + 12
#define WORDS_1M(at)  FOURTH(at, 0), FOURTH(at, 2), FOURTH(at, 1), FOURTH(at, 3)

/*
 * IQ1_S: a word in which products of 32 weights begin: the sum of their activations above, and what keeps the
 * lower half from going below zero, which would be borrowed from the upper one.
 */
#define ABOVE_ZERO 8192

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

FEW_PACK(iq1_m, true, WORDS_1M(0), WORDS_1M(16), WORDS_1M(32), WORDS_1M(48))

/* Of every row: four indices a word; their upper seven bits; the entries' lower and upper four values. */
struct entries {
	__m512i at[8], upper[8], low[8], high[8];
};

FORCE_INLINE __m512i table(const uint8_t *from)
{
	return _mm512_loadu_si512(from);
}

/* the lower values of two registers of indices: a table is loaded once for both */
FORCE_INLINE void two_low(const __m512i *at, const __m512i *upper, __m512i *low)
{
	const uint8_t *t = packed_iq1_low;
	__mmask64 b7[2], not7[2], b8[2];
	__m512i r[2][4];

	/* or the compiler loads them all before the row, and keeps most of them on the stack */
	__asm__("" : "+r"(t));
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		b7[i] = _mm512_movepi8_mask(at[i]);
		not7[i] = _knot_mask64(b7[i]);
		b8[i] = _mm512_test_epi8_mask(upper[i], _mm512_set1_epi8(16));
	}
#pragma GCC unroll 4
	for (int g = 0; g < 4; g++, t += 512) {
		__m512i v[8];

#pragma GCC unroll 8
		for (int k = 0; k < 8; k++)
			v[k] = table(t + 64 * k);
		/* or some are loaded for each of the two */
		__asm__("" : "+v"(v[0]), "+v"(v[1]), "+v"(v[2]), "+v"(v[3]));
		__asm__("" : "+v"(v[4]), "+v"(v[5]), "+v"(v[6]), "+v"(v[7]));
#pragma GCC unroll 2
		for (int i = 0; i < 2; i++) {
			__m512i a = _mm512_mask2_permutex2var_epi8(v[0], at[i], not7[i], v[1]);
			__m512i b = _mm512_mask2_permutex2var_epi8(v[4], at[i], not7[i], v[5]);

			a = _mm512_mask2_permutex2var_epi8(v[2], a, b7[i], v[3]);
			b = _mm512_mask2_permutex2var_epi8(v[6], b, b7[i], v[7]);
			r[i][g] = _mm512_mask_blend_epi8(b8[i], a, b);
		}
	}
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		const __mmask64 b9 = _mm512_test_epi8_mask(upper[i], _mm512_set1_epi8(32));
		const __mmask64 b10 = _mm512_test_epi8_mask(upper[i], _mm512_set1_epi8(64));

		low[i] = _mm512_mask_blend_epi8(b10, _mm512_mask_blend_epi8(b9, r[i][0], r[i][1]),
						_mm512_mask_blend_epi8(b9, r[i][2], r[i][3]));
	}
}

FORCE_INLINE void look_up_low(struct entries *e)
{
#pragma GCC unroll 1
	for (int j = 0; j < 8; j += 2)
		two_low(e->at + j, e->upper + j, e->low + j);
}

/* the upper values: of sixteen neighbours the first ones', the last ones' */
FORCE_INLINE void look_up_high(struct entries *e)
{
	const struct uppers_iq1 *u = &packed_iq1_high;
	const __m512i fifteen = _mm512_set1_epi8(15);
	__m512i v[6] = { table(u->first),     table(u->first + 64), table(u->last),
			 table(u->last + 64), table(u->count),	    table(u->count + 64) };

	__asm__("" : "+v"(v[0]), "+v"(v[1]), "+v"(v[2]), "+v"(v[3]), "+v"(v[4]), "+v"(v[5]));
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++) {
		const __m512i count = _mm512_permutex2var_epi8(v[4], e->upper[j], v[5]);
		const __mmask64 last =
			_mm512_cmpge_epu8_mask(_mm512_and_si512(e->at[j], fifteen), count);

		e->high[j] = _mm512_mask_blend_epi8(
			last, _mm512_permutex2var_epi8(v[0], e->upper[j], v[1]),
			_mm512_permutex2var_epi8(v[2], e->upper[j], v[3]));
	}
}

/* the upper seven bits of indices; @high: three of them at bits 4 to 6 of each byte */
FORCE_INLINE void uppers(struct entries *e, const __m512i high[8])
{
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++)
		e->upper[j] =
			select_bits(_mm512_set1_epi8(15), _mm512_srli_epi16(e->at[j], 4), high[j]);
}

/* nibbles of a sub-block whose direction is @down (bits 3 and 7) -> [values 0 2, 4 6, 1 3, 5 7] */
FORCE_INLINE void nibbles_of(__m512i low, __m512i high, __m512i down, __m512i t[4])
{
	const __m512i two = _mm512_set1_epi8(0x33);

	t[0] = select_bits(two, low, down);
	t[1] = select_bits(two, high, down);
	t[2] = select_bits(two, _mm512_srli_epi16(low, 2), down);
	t[3] = select_bits(two, _mm512_srli_epi16(high, 2), down);
}

/* bytes of registers of lower and upper values put together: of indices 0 and 1, of 2 and 3 */
FORCE_INLINE void by_pairs(__m512i low, __m512i high, __m512i *first, __m512i *second)
{
	const __m512i mask = _mm512_set1_epi32(0x0000ffff);

	*first = select_bits(mask, low, _mm512_slli_epi32(high, 16));
	*second = select_bits(mask, _mm512_srli_epi32(low, 16), high);
}

/* 2s + 1 for the three bits of every word from @bit on */
FORCE_INLINE __m512i scale_at(__m512i v, unsigned bit)
{
	v = _mm512_rolv_epi32(v, _mm512_set1_epi32((int)((33 - bit) & 31)));
	return _mm512_ternarylogic_epi32(v, _mm512_set1_epi32(14), _mm512_set1_epi32(1), 0xea);
}

FORCE_INLINE __m512i weights(void)
{
	return _mm512_broadcast_i32x4(_mm_setr_epi8(PLUS(-7), PLUS(1), PLUS(9), 0, PLUS(-7),
						    PLUS(1), PLUS(9), 0, PLUS(-9), PLUS(-1),
						    PLUS(7), 0, PLUS(-9), PLUS(-1), PLUS(7), 0));
}

/* 8 s, and -7 s or -9 s above it: s = 2 i + 1 for the lower three bits i, the direction in the fourth */
#define S(i)	  (2 * ((i)&7) + 1)
#define FACTOR(i) ((int)(8 * S(i) + (unsigned)(((i)&8 ? -9 : -7) * S(i)) * 65536))
#define EIGHT(i)                                                                       \
	FACTOR(i), FACTOR((i) + 1), FACTOR((i) + 2), FACTOR((i) + 3), FACTOR((i) + 4), \
		FACTOR((i) + 5), FACTOR((i) + 6), FACTOR((i) + 7)

static const int32_t factors[16] __attribute__((aligned(64))) = { EIGHT(0), EIGHT(8) };

/*
 * Four values of 32 indices of a sub-block, two bits each, times all columns: @x[c] on, added to @dot; of few
 * columns those of the second and fourth value, four times as much, to @more.
 */
FORCE_INLINE void four_values(int cols, __m512i v, const struct act_few *const *x, int at,
			      __m512i *dot, __m512i *more)
{
	const __m512i one = _mm512_set1_epi8(3), four = _mm512_set1_epi8(12);

#pragma GCC unroll 4
	for (unsigned k = 0; k < 4; k++) {
		const bool stays = cols < 4 && k % 2;
		const unsigned shift = stays ? 2 * k - 2 : 2 * k;
		const __m512i w = _mm512_and_si512(shift ? _mm512_srli_epi16(v, shift) : v,
						   stays ? four : one);

#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			__m512i *to = stays ? more : dot;

			to[c] = few_add_at(to[c], w, x[c]->q + at + 4 * k);
		}
	}
}

FORCE_INLINE void iq1_s(int cols, const uint8_t *w, size_t stride, const struct act_k *const *a,
			__m512 *y, const char *ahead)
{
	/* three bits from 0, 3, 6, 9 on to bits 4 to 6; from 16 .. */
	const __m512i from[2] = { _mm512_set1_epi64(0x25221f1c05023f3c),
				  _mm512_set1_epi64(0x35322f2c15120f0c) };
	const struct act_few *const *x = (const void *)a;
	const __m512 d = half_at(w, stride);
	__m512i s[ROW_COLS], four[4], high[8], factor[8], all = _mm512_setzero_si512();
	struct entries e;

	transpose32(w + 2, stride, e.at);
	transpose16(w + 34, stride, four);
#pragma GCC unroll 8
	for (unsigned j = 0; j < 8; j++) {
		high[j] = _mm512_multishift_epi64_epi8(from[j % 2], four[j / 2]);
		factor[j] =
			_mm512_permutexvar_epi32(_mm512_srli_epi32(four[j / 2], 12 + 16 * (j % 2)),
						 _mm512_load_si512(factors));
		all = _mm512_add_epi16(all, factor[j]);
	}
	uppers(&e, high);
	look_up_high(&e);
	look_up_low(&e);
	/* of all lower halves what is above zero */
	all = _mm512_srli_epi32(_mm512_slli_epi32(all, 16), 3);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_sub_epi32(_mm512_setzero_si512(), all);
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++) {
		__m512i dot[ROW_COLS], more[ROW_COLS];

		few_ask(ahead, QUANT_IQ1_S_BYTES, (size_t)j, 8);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			dot[c] = _mm512_set1_epi32(x[c]->offset[j]);
			more[c] = _mm512_setzero_si512();
		}
		four_values(cols, e.low[j], x, 32 * j, dot, more);
		four_values(cols, e.high[j], x, 32 * j + 16, dot, more);
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++) {
			s[c] = _mm512_dpwssd_epi32(s[c], dot[c], factor[j]);
			if (cols < 4)
				s[c] = _mm512_dpwssd_epi32(
					s[c], more[c],
					_mm512_maskz_srli_epi16(0x55555555, factor[j], 2));
			few_now(&s[c]);
		}
	}
	floats(cols, d, 0.125f, x, s, y);
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

FORCE_INLINE void iq1_m(int cols, const uint8_t *w, size_t stride, const struct act_k *const *a,
			__m512 *y, const char *ahead)
{
	/* nibbles to bits 4 to 7: from 0 on, from 16 on */
	const __m512i from[2] = { _mm512_set1_epi64(0x2824201c0804003c),
				  _mm512_set1_epi64(0x3834302c1814100c) };
	const struct act_few *const *x = (const void *)a;
	const __m512i t = weights(), table[4] = { t, t, t, t };
	__m512i s[ROW_COLS], four[4], rest[4], high[8];
	struct entries e;

	transpose32(w, stride, e.at);
	transpose16(w + 32, stride, four);
	transpose16(w + 40, stride, rest);
#pragma GCC unroll 8
	for (int j = 0; j < 8; j++)
		high[j] = _mm512_multishift_epi64_epi8(from[j % 2], four[j / 2]);
	uppers(&e, high);
	look_up_high(&e);
	look_up_low(&e);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_setzero_si512();
#pragma GCC unroll 2
	for (int chunk = 0; chunk < 2; chunk++) {
		struct four f;

#pragma GCC unroll 4
		for (int i = 0; i < 4; i++) {
			const int j = 4 * chunk + i;
			const __m512i down = select_bits(_mm512_set1_epi8(15),
							 _mm512_srli_epi16(high[j], 4), high[j]);
			__m512i n[4];

			nibbles_of(e.low[j], e.high[j], down, n);
			by_pairs(n[0], n[1], &f.t[i][0], &f.t[i][2]);
			by_pairs(n[2], n[3], &f.t[i][1], &f.t[i][3]);
#pragma GCC unroll 2
			for (int k = 0; k < 2; k++) {
				const int g = 2 * j + k;

				f.scale[2 * i + k] =
					scale_at(rest[2 + g / 8],
						 (unsigned)(16 * (g / 4 % 2) + 3 * (g % 4)));
			}
		}
		multiply_four(cols, &f, true, table, 4 * chunk, x, s, ahead, QUANT_IQ1_M_BYTES);
	}
	floats(cols, scattered_d(rest + 2), 0.125f, x, s, y);
}

FEW_K_ONE(iq1_s)
FEW_K_ONE(iq1_m)
