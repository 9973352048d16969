/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/iq1_rows_vbmi.c: rows of IQ1_S and IQ1_M in file order at the AVX-512 level where the CPU has
 * VBMI, up to eight columns (whole numbers only, see avx512_tile.h). Layouts: scalar_iq.c. Any thread;
 * reads exactly the bytes of the blocks.
 *
 * An entry of the grid is sixteen bits, two for each value; the indices of two super-blocks are 64, a
 * register of bytes. vpermi2b takes 64 bytes by index at once from 128, and leaves an index as it is where a
 * mask says so, for the next 128: that makes the lower bytes of the entries with sixteen of them. The upper
 * ones ascend with the index, and three are enough (struct uppers_iq1). Four super-blocks are looked up
 * while the four before are multiplied, a part after each table: both are long chains, and want different
 * units of a core. Two bits at four places of each byte are the weights plus one; the second place's
 * products are brought to the first's by a shift, and the third and fourth are had by shifting the bytes.
 */
#include "kernels/cpu/avx512_row.h"
#include "kernels/cpu/grids.h"
#include "kernels/cpu/vbmi.h"

/*
 * Activations of two super-blocks. q[k], q[4 + k]: values k, 4 + k of all eights in turn (IQ1_S); the same,
 * the two interleaved in each lane, eight of each, then the other eight (IQ1_M).
 */
struct act_iq1 {
	int8_t q[8][64];
	/* in the upper halves: sums of what a lane of products adds up; IQ1_M: sums of its two eights too */
	int32_t sum[2][16];
	int16_t sum8[2][32];
};

_Static_assert(sizeof(struct act_iq1) <= 2 * AVX512_PACKED_BYTES, "room in scratch");

/* One super-block to the @half'th half: IQ1_S's order. */
static void pack_half(const struct act_k *x, int half, struct act_iq1 *a)
{
	/* values 2l, 2l + 1 of the eights of sub-blocks i, i + 4 to lane l */
	const __m512i by_value = _mm512_set_epi8(
		63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29,
		21, 13, 5, 60, 52, 44, 36, 28, 20, 12, 4, 59, 51, 43, 35, 27, 19, 11, 3, 58, 50, 42,
		34, 26, 18, 10, 2, 57, 49, 41, 33, 25, 17, 9, 1, 56, 48, 40, 32, 24, 16, 8, 0);
	int8_t lane[4][4][16] __attribute__((aligned(64)));
	__m512i t[4];

	for (int i = 0; i < 4; i++)
		t[i] = _mm512_permutexvar_epi8(by_value, _mm512_load_si512(x->q6 + 64 * i));
	transpose_lanes(t);
	for (int i = 0; i < 4; i++)
		_mm512_store_si512(lane[i], t[i]);
	for (int k = 0; k < 8; k++)
		for (int i = 0; i < 2; i++)
			memcpy(a->q[k] + 32 * half + 16 * i, lane[k % 2 * 2 + i][k / 2], 16);
}

static void pack_pair(const struct act_k *x, int n, struct act_iq1 *a)
{
	memset(a, 0, sizeof(*a));
	for (int i = 0; i < n; i++)
		pack_half(x + i, i, a);
}

void vbmi_pack_iq1_s(const void *from, size_t blocks, void *to)
{
	const struct act_k *x = from;
	struct act_iq1 *a = to;

	for (size_t b = 0; b < blocks; b += 2, x += 2, a++) {
		pack_pair(x, b + 1 < blocks ? 2 : 1, a);
		for (size_t i = 0; i < 16 && b + i / 8 < blocks; i++)
			a->sum[0][i] = (x[i / 8].sum32[i % 8] >> 3) * 65536;
	}
}

void vbmi_pack_iq1_m(const void *from, size_t blocks, void *to)
{
	const struct act_k *x = from;
	struct act_iq1 *a = to;

	for (size_t b = 0; b < blocks; b += 2, x += 2, a++) {
		pack_pair(x, b + 1 < blocks ? 2 : 1, a);
		for (int k = 0; k < 4; k++) {
			const __m512i v = _mm512_load_si512(a->q[k]);
			const __m512i w = _mm512_load_si512(a->q[4 + k]);

			_mm512_store_si512(a->q[k], _mm512_unpacklo_epi8(v, w));
			_mm512_store_si512(a->q[4 + k], _mm512_unpackhi_epi8(v, w));
		}
		for (size_t i = 0; i < 4 && b + i / 2 < blocks; i++) {
			const __m512i v = _mm512_load_si512(x[i / 2].by8 + 16 * (i % 2));
			const __m256i eights = _mm512_cvtepi32_epi16(
				_mm512_sub_epi32(_mm512_setzero_si512(), _mm512_srai_epi32(v, 5)));

			_mm_store_si128((void *)(a->sum8[0] + 8 * i),
					_mm256_castsi256_si128(eights));
			_mm_store_si128((void *)(a->sum8[1] + 8 * i),
					_mm256_extracti128_si256(eights, 1));
		}
		for (int i = 0; i < 2; i++) {
			const __m512i both = _mm512_madd_epi16(_mm512_load_si512(a->sum8[i]),
							       _mm512_set1_epi16(1));

			_mm512_store_si512(a->sum[i], _mm512_slli_epi32(both, 16));
		}
	}
}

/* 64 indices: the lower eight bits; the upper three at bits 4 to 6 (what else is there is not looked at) */
struct indices {
	__m512i low, high;
};

/* 64 entries: the lower four, the upper four values */
struct entries {
	__m512i low, high;
	__m512i factor; /* IQ1_S: of a word each, for vpmaddwd: products, sums of activations */
};

FORCE_INLINE __m512i table(const uint8_t *from, int i)
{
	return _mm512_loadu_si512(from + 64 * i);
}

/* What IQ1_M makes of two super-blocks when it multiplies them: words for vpdpwssd. */
struct factors {
	__m512i first;	/* for products and the sums of their activations */
	__m512i eights; /* for sums of eights */
};

FORCE_INLINE __m256i both(const uint8_t *w, const uint8_t *v)
{
	return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)w)),
				       _mm_loadu_si128((const void *)v), 1);
}

/* 8 s, and -7 s or -9 s above it: s = 2 i + 1 for the lower three bits i, the direction in the fourth */
#define S(i)	   (2 * ((i)&7) + 1)
#define FACTOR(i)  ((int)(8 * S(i) + (unsigned)(((i)&8 ? -9 : -7) * S(i)) * 65536))
#define TWICE_S(i) (S(i) * 0x10001)
#define SIXTEEN(F)                                                                               \
	{                                                                                        \
		F(0), F(1), F(2), F(3), F(4), F(5), F(6), F(7), F(8), F(9), F(10), F(11), F(12), \
			F(13), F(14), F(15)                                                      \
	}

static const int32_t factors[16] __attribute__((aligned(64))) = SIXTEEN(FACTOR);
static const int32_t twice[16] __attribute__((aligned(64))) = SIXTEEN(TWICE_S);

FORCE_INLINE void indices_s(const uint8_t *w, const uint8_t *v, struct indices *at, __m512i *factor)
{
	/* three bits from 0, 3, 6, 9, 16, .. on to bits 4 to 6 */
	const __m512i from = _mm512_set1_epi64(0x15120f0c05023f3c);
	const __m512i top = _mm512_set1_epi64(0x0000001c0000000c);
	const __m512i four = _mm512_cvtepu32_epi64(both(w + 34, v + 34));

	at->low = load_halves(w + 2, v + 2);
	at->high = _mm512_multishift_epi64_epi8(from, four);
	*factor = _mm512_permutexvar_epi32(_mm512_multishift_epi64_epi8(top, four),
					   _mm512_load_si512(factors));
}

/* nibbles to bits 4 to 7 */
FORCE_INLINE __m512i nibbles(const uint8_t *w, const uint8_t *v)
{
	const __m512i from = _mm512_set1_epi64(0x1814100c0804003c);

	return _mm512_multishift_epi64_epi8(from, _mm512_cvtepu32_epi64(both(w + 32, v + 32)));
}

FORCE_INLINE void indices_m(const uint8_t *w, const uint8_t *v, struct indices *at)
{
	at->low = load_halves(w, v);
	at->high = nibbles(w, v);
}

/* of the lanes' first (@i: 0) or second eights */
FORCE_INLINE struct factors factors_m(const uint8_t *w, const uint8_t *v, int i)
{
	const __m512i each = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
	const __m512i by = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 3, 6, 9));
	const __m512i eight = _mm512_set1_epi32((int)0xfff80008);
	const __m128i s = _mm_unpacklo_epi64(_mm_loadl_epi64((const void *)(w + 48)),
					     _mm_loadl_epi64((const void *)(v + 48)));
	const __m512i scales = _mm512_permutexvar_epi32(each, _mm512_castsi128_si512(s));
	const __m512i high = nibbles(w, v);
	const __m512i which =
		_mm512_srlv_epi32(scales, _mm512_add_epi32(by, _mm512_set1_epi32(16 * i)));
	const __m512i m = _mm512_permutexvar_epi32(which, _mm512_load_si512(twice));
	const __m512i top = i ? _mm512_unpackhi_epi8(high, high) : _mm512_unpacklo_epi8(high, high);

	return (struct factors){ _mm512_mullo_epi16(m, eight),
				 _mm512_mask_sub_epi16(m, _mm512_movepi16_mask(top),
						       _mm512_setzero_si512(), m) };
}

/* the lower halves of words as they are, above them @sum */
FORCE_INLINE __m512i with_sum(__m512i s, const int32_t *sum)
{
	return _mm512_or_si512(_mm512_and_si512(s, _mm512_set1_epi32(0xffff)),
			       _mm512_load_si512(sum));
}

/* four values of each entry times activations: of the second place four times as much, to b */
FORCE_INLINE void dots(__m512i v, const int8_t (*x)[64], __m512i *a, __m512i *b)
{
	const __m512i one = _mm512_set1_epi8(3), four = _mm512_set1_epi8(12);
	const __m512i w = _mm512_srli_epi16(v, 4);

	*a = _mm512_dpbusd_epi32(*a, _mm512_and_si512(v, one), _mm512_load_si512(x[0]));
	*b = _mm512_dpbusd_epi32(*b, _mm512_and_si512(v, four), _mm512_load_si512(x[1]));
	*a = _mm512_dpbusd_epi32(*a, _mm512_and_si512(w, one), _mm512_load_si512(x[2]));
	*b = _mm512_dpbusd_epi32(*b, _mm512_and_si512(w, four), _mm512_load_si512(x[3]));
}

/* sums of the halves of @s, of @r */
FORCE_INLINE void store_halves(int32_t *to, __m512i s, __m512i r)
{
	const __m512i t =
		_mm512_add_epi32(_mm512_unpacklo_epi32(s, r), _mm512_unpackhi_epi32(s, r));
	const __m256i a = _mm512_castsi512_si256(t), b = _mm512_extracti64x4_epi64(t, 1);
	const __m256i c =
		_mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
	const __m128i sums =
		_mm_add_epi32(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1));

	/* of blocks 0, 2, 1, 3 */
	_mm_storeu_si128((void *)to, _mm_shuffle_epi32(sums, 0xd8));
}

FORCE_INLINE uint16_t scale_at(const uint8_t *w, bool m)
{
	uint64_t four;
	uint16_t d;

	if (m) {
		memcpy(&four, w + 48, sizeof(four));
		return (uint16_t)_pext_u64(four, 0xf000f000f000f000);
	}
	memcpy(&d, w, sizeof(d));
	return d;
}

/* Where the super-blocks of two pairs are, of which @left are there: the first of a pair for one that is not. */
struct places {
	const uint8_t *w[2], *v[2];
};

FORCE_INLINE struct places places(const uint8_t *w, size_t left, size_t bytes)
{
	struct places p;

#pragma GCC unroll 2
	for (size_t i = 0; i < 2; i++) {
		p.w[i] = 2 * i < left ? w + 2 * i * bytes : w;
		p.v[i] = 2 * i + 1 < left ? p.w[i] + bytes : p.w[i];
	}
	return p;
}

/* Up to four super-blocks that have been looked up; @cols and @m are constants. */
struct work {
	struct places p;
	struct entries e[2];
	const void *const *x;
	size_t at;
	int cols;
	bool m;
	__m512i a[ROW_COLS], b[ROW_COLS]; /* IQ1_S: products of a pair; IQ1_M: a: sums */
	__m512i sum[ROW_COLS][2];
};

/* Part 0, 1: the first pair's lower, upper values (IQ1_M: its lanes' first, second eights); 2, 3: the second's */
FORCE_INLINE void work_on(struct work *k, int part)
{
	const int i = part / 2, half = part % 2;
	const __m512i zero = _mm512_setzero_si512(), low = k->e[i].low, high = k->e[i].high;
	struct factors f = { zero, zero };
	__m512i v = half ? high : low;

	if (k->m) {
		f = factors_m(k->p.w[i], k->p.v[i], half);
		v = half ? _mm512_unpackhi_epi8(low, high) : _mm512_unpacklo_epi8(low, high);
	}
#pragma GCC unroll 8
	for (int c = 0; c < k->cols; c++) {
		const struct act_iq1 *x = (const struct act_iq1 *)k->x[c] + k->at / 2 + i;
		__m512i a = half && !k->m ? k->a[c] : zero, b = half && !k->m ? k->b[c] : zero;

		dots(v, x->q + 4 * half, &a, &b);
		if (!k->m && !half) {
			k->a[c] = a;
			k->b[c] = b;
			continue;
		}
		a = _mm512_add_epi32(a, _mm512_srai_epi32(b, 2));
		if (k->m) {
			__m512i s = half ? k->a[c] : zero;

			s = _mm512_dpwssd_epi32(s, with_sum(a, x->sum[half]), f.first);
			s = _mm512_dpwssd_epi32(s, _mm512_load_si512(x->sum8[half]), f.eights);
			k->a[c] = k->sum[c][i] = s;
		} else {
			k->sum[c][i] = _mm512_madd_epi16(with_sum(a, x->sum[0]), k->e[i].factor);
		}
	}
}

FORCE_INLINE void work_ends(const struct work *k, const struct row_sums *out)
{
#pragma GCC unroll 8
	for (int c = 0; c < k->cols; c++)
		store_halves(out[c].sum + k->at, k->sum[c][0], k->sum[c][1]);
}

/* Two times 64 entries: a table is loaded once for both; @k: worked on in between, NULL: nothing */
FORCE_INLINE void look_up(const struct indices *at, struct entries *to, struct work *k)
{
	const uint8_t *t = packed_iq1_low;
	const struct uppers_iq1 *u = &packed_iq1_high;
	const __m512i fifteen = _mm512_set1_epi8(15);
	__mmask64 b7[2], not7[2], b8[2];
	__m512i r[2][4], sixteen[2];

	/* or the compiler loads them all before the row, and keeps most of them on the stack */
	__asm__("" : "+r"(t), "+r"(u));
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		b7[i] = _mm512_movepi8_mask(at[i].low);
		not7[i] = _knot_mask64(b7[i]);
		b8[i] = _mm512_test_epi8_mask(at[i].high, _mm512_set1_epi8(16));
	}
#pragma GCC unroll 8
	for (int g = 0; g < 4; g++, t += 512) {
		__m512i v[8] = { table(t, 0), table(t, 1), table(t, 2), table(t, 3),
				 table(t, 4), table(t, 5), table(t, 6), table(t, 7) };

		/* or some are loaded for each of the two */
		__asm__("" : "+v"(v[0]), "+v"(v[1]), "+v"(v[2]), "+v"(v[3]));
		__asm__("" : "+v"(v[4]), "+v"(v[5]), "+v"(v[6]), "+v"(v[7]));
#pragma GCC unroll 2
		for (int i = 0; i < 2; i++) {
			__m512i a = _mm512_mask2_permutex2var_epi8(v[0], at[i].low, not7[i], v[1]);
			__m512i b = _mm512_mask2_permutex2var_epi8(v[4], at[i].low, not7[i], v[5]);

			a = _mm512_mask2_permutex2var_epi8(v[2], a, b7[i], v[3]);
			b = _mm512_mask2_permutex2var_epi8(v[6], b, b7[i], v[7]);
			r[i][g] = _mm512_mask_blend_epi8(b8[i], a, b);
		}
		if (k)
			work_on(k, g);
	}
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		const __mmask64 b9 = _mm512_test_epi8_mask(at[i].high, _mm512_set1_epi8(32));
		const __mmask64 b10 = _mm512_test_epi8_mask(at[i].high, _mm512_set1_epi8(64));

		to[i].low = _mm512_mask_blend_epi8(b10,
						   _mm512_mask_blend_epi8(b9, r[i][0], r[i][1]),
						   _mm512_mask_blend_epi8(b9, r[i][2], r[i][3]));
		sixteen[i] = select_bits(fifteen, _mm512_srli_epi16(at[i].low, 4), at[i].high);
	}
	const __m512i v[6] = { table(u->first, 0), table(u->first, 1), table(u->last, 0),
			       table(u->last, 1),  table(u->count, 0), table(u->count, 1) };
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		const __m512i count = _mm512_permutex2var_epi8(v[4], sixteen[i], v[5]);
		const __mmask64 last =
			_mm512_cmpge_epu8_mask(_mm512_and_si512(at[i].low, fifteen), count);

		to[i].high = _mm512_mask_blend_epi8(
			last, _mm512_permutex2var_epi8(v[0], sixteen[i], v[1]),
			_mm512_permutex2var_epi8(v[2], sixteen[i], v[3]));
	}
}

/* Scales and entries of up to four super-blocks, @left >= 1, from block @at on. */
FORCE_INLINE void read_four(const uint8_t *w, size_t left, size_t at, size_t bytes, bool m,
			    const struct row_sums *out, struct places *p, struct entries to[2],
			    struct work *k)
{
	struct indices i[2];

	*p = places(w, left, bytes);
	prefetch_ahead(w, 4 * bytes);
	out->d[at] = scale_at(p->w[0], m);
	out->d[at + 1] = scale_at(p->v[0], m);
	out->d[at + 2] = scale_at(p->w[1], m);
	out->d[at + 3] = scale_at(p->v[1], m);
#pragma GCC unroll 2
	for (int n = 0; n < 2; n++) {
		if (m)
			indices_m(p->w[n], p->v[n], &i[n]);
		else
			indices_s(p->w[n], p->v[n], &i[n], &to[n].factor);
	}
	look_up(i, to, k);
}

/* A row times @cols columns; @cols, @m and @bytes are constants here. */
FORCE_INLINE void row(const uint8_t *w, const void *const *x, int cols, size_t blocks,
		      const struct row_sums *out, bool m, size_t bytes)
{
	struct work k = { .x = x, .cols = cols, .m = m };

	read_four(w, blocks, 0, bytes, m, out, &k.p, k.e, NULL);
	for (; k.at + 4 < blocks; k.at += 4) {
		struct entries next[2];
		struct places p;

		w += 4 * bytes;
		read_four(w, blocks - k.at - 4, k.at + 4, bytes, m, out, &p, next, &k);
		work_ends(&k, out);
		k.p = p;
		k.e[0] = next[0];
		k.e[1] = next[1];
	}
	work_on(&k, 0);
	work_on(&k, 1);
	if (blocks - k.at > 2) {
		work_on(&k, 2);
		work_on(&k, 3);
	} else {
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			k.sum[c][1] = k.sum[c][0];
	}
	work_ends(&k, out);
}

#define ROW(t, m, bytes, cols)                                                        \
	static void t##_##cols(const uint8_t *w, const void *const *x, size_t blocks, \
			       const struct row_sums *out)                            \
	{                                                                             \
		row(w, x, cols, blocks, out, m, bytes);                               \
	}
#define ROWS(T, t, m)                   \
	ROW(t, m, QUANT_##T##_BYTES, 1) \
	ROW(t, m, QUANT_##T##_BYTES, 2) \
	ROW(t, m, QUANT_##T##_BYTES, 3) \
	ROW(t, m, QUANT_##T##_BYTES, 4) \
	ROW(t, m, QUANT_##T##_BYTES, 6) \
	ROW(t, m, QUANT_##T##_BYTES, 8) \
	const row_fn vbmi_row_##t[ROW_COLS] = ROW_FUNCTIONS(t);

ROWS(IQ1_S, iq1_s, false)
ROWS(IQ1_M, iq1_m, true)
