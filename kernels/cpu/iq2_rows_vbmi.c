/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/iq2_rows_vbmi.c: rows of IQ2 in file order at the AVX-512 level where the CPU has VBMI, one
 * column (whole numbers only, see avx512_tile.h; more: few_iq_vbmi.c). Layouts: scalar_iq.c. Any thread; reads
 * exactly the bytes of the blocks.
 *
 * As iq_rows_avx512.c, but the indices of two super-blocks are looked up together, 64 bytes: eight of the
 * first and eight of the second in each lane. vpermi2b gives a byte of each from 128, the low and the high
 * bytes of the packed entries by themselves, and leaves an index as it is where a mask says so, for the
 * next 128. With a scale for 16 weights, low and high bytes are put together again.
 */
#include "kernels/cpu/iq_rows.h"
#include "kernels/cpu/vbmi.h"
#include "kernels/cpu/vbmi_rows.h"

/* Two super-blocks: weights plus IQ_OFFSET in the order of act_iq.q, a scale per lane. */
struct pair {
	__m512i q[8], scale[2];
};

/* each super-block by itself, in the order of act_iq.q; @t: low bytes, high bytes */
FORCE_INLINE void put_together(const __m512i t[2], __m512i table, __m512i *low, __m512i *high)
{
	permute_nibbles(_mm512_unpacklo_epi8(t[0], t[1]), table, &low[0], &high[0]);
	permute_nibbles(_mm512_unpackhi_epi8(t[0], t[1]), table, &low[4], &high[4]);
}

/* 32 bytes of each, by eights */
FORCE_INLINE __m512i by_eights(const uint8_t *w, const uint8_t *v)
{
	const __m512i turn = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
	const __m256i a = _mm256_loadu_si256((const void *)w);
	const __m256i b = _mm256_loadu_si256((const void *)v);

	return _mm512_permutex2var_epi64(_mm512_castsi256_si512(a), turn,
					 _mm512_castsi256_si512(b));
}

/* indices of two super-blocks, and signs: of IQ2_XS seven bits for eight weights, of IQ2_S eight */
struct begun {
	struct indices at;
	__m512i signs;
};

FORCE_INLINE struct begun begin_xs(const uint8_t *w, const uint8_t *v)
{
	const __m512i apart = _mm512_broadcast_i32x4(
		_mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
	const __m512i a = _mm512_shuffle_epi8(_mm512_loadu_si512(w + 2), apart);
	const __m512i b = _mm512_shuffle_epi8(_mm512_loadu_si512(v + 2), apart);
	const __m512i rest = _mm512_unpackhi_epi64(a, b);
	struct begun r = { .at.low = _mm512_unpacklo_epi64(a, b),
			   .signs = _mm512_srli_epi16(rest, 1) };

	eighth_bit(&r.at);
	r.at.b8 = _mm512_test_epi8_mask(rest, _mm512_set1_epi8(1));
	return r;
}

FORCE_INLINE struct begun begin_s(const uint8_t *w, const uint8_t *v)
{
	/* two bits each of 16 in a lane, to bits 4 and 5 */
	const __m512i from = _mm512_setr_epi64(
		0x0a08060402003e3c, 0x0a08060402003e3c, 0x1a18161412100e0c, 0x1a18161412100e0c,
		0x2a28262422201e1c, 0x2a28262422201e1c, 0x3a38363432302e2c, 0x3a38363432302e2c);
	const __m512i high = _mm512_multishift_epi64_epi8(
		from, _mm512_broadcast_i32x4(
			      _mm_unpacklo_epi64(_mm_loadl_epi64((const void *)(w + 66)),
						 _mm_loadl_epi64((const void *)(v + 66)))));
	struct begun b = { .at.low = by_eights(w + 2, v + 2), .signs = by_eights(w + 34, v + 34) };

	eighth_bit(&b.at);
	b.at.b8 = _mm512_test_epi8_mask(high, _mm512_set1_epi8(16));
	b.at.b9 = _mm512_test_epi8_mask(high, _mm512_set1_epi8(32));
	return b;
}

/* of a table of 512 or 1024 bytes those of @n times 64 entries: it is loaded once for all */
FORCE_INLINE void look_up(const uint8_t *t, int entries, const struct begun *b, int n, __m512i *r)
{
	__m512i part[2][4];

	/* or the compiler loads all before the row, and keeps most of it on the stack */
	__asm__("" : "+r"(t));
#pragma GCC unroll 4
	for (int g = 0; g < entries / 256; g++, t += 256) {
		__m512i v[4] = { _mm512_loadu_si512(t), _mm512_loadu_si512(t + 64),
				 _mm512_loadu_si512(t + 128), _mm512_loadu_si512(t + 192) };

		/* or some are loaded for each of the two */
		__asm__("" : "+v"(v[0]), "+v"(v[1]), "+v"(v[2]), "+v"(v[3]));
#pragma GCC unroll 2
		for (int i = 0; i < n; i++) {
			part[i][g] = _mm512_mask2_permutex2var_epi8(v[0], b[i].at.low, b[i].at.not7,
								    v[1]);
			part[i][g] =
				_mm512_mask2_permutex2var_epi8(v[2], part[i][g], b[i].at.b7, v[3]);
		}
	}
#pragma GCC unroll 2
	for (int i = 0; i < n; i++) {
		r[i] = _mm512_mask_blend_epi8(b[i].at.b8, part[i][0], part[i][1]);
		if (entries > 512)
			r[i] = _mm512_mask_blend_epi8(
				b[i].at.b9, r[i],
				_mm512_mask_blend_epi8(b[i].at.b8, part[i][2], part[i][3]));
	}
}

/* @n pairs, one behind the other; w[i], v[i] */
FORCE_INLINE void read_xs(const uint8_t *const *w, const uint8_t *const *v, int n, struct pair *p)
{
	const __m512i two = _mm512_set1_epi8(0x33);
	struct begun b[2];
	__m512i r[2][2];

#pragma GCC unroll 2
	for (int i = 0; i < n; i++)
		b[i] = begin_xs(w[i], v[i]);
	look_up(bytes_iq2_xs[0], 512, b, n, r[0]);
	look_up(bytes_iq2_xs[1], 512, b, n, r[1]);
#pragma GCC unroll 2
	for (int i = 0; i < n; i++) {
		__m512i t[2], u[2];

#pragma GCC unroll 2
		for (int k = 0; k < 2; k++) {
			const __m512i s = signs_of(k, b[i].signs);

			t[k] = select_bits(two, r[k][i], s);
			u[k] = select_bits(two, _mm512_srli_epi16(r[k][i], 2), s);
		}
		put_together(t, iq2_sign3(), &p[i].q[0], &p[i].q[1]);
		put_together(u, iq2_sign2(), &p[i].q[2], &p[i].q[3]);
		p[i].scale[0] = shifted_scales(w[i] + 66);
		p[i].scale[1] = shifted_scales(v[i] + 66);
	}
}

FORCE_INLINE void read_s(const uint8_t *const *w, const uint8_t *const *v, int n, struct pair *p)
{
	const __m512i two = _mm512_set1_epi8(0x33);
	struct begun b[2];
	__m512i r[2][2];

#pragma GCC unroll 2
	for (int i = 0; i < n; i++)
		b[i] = begin_s(w[i], v[i]);
	look_up(bytes_iq2_s[0], 1024, b, n, r[0]);
	look_up(bytes_iq2_s[1], 1024, b, n, r[1]);
#pragma GCC unroll 2
	for (int i = 0; i < n; i++) {
		const __m512i low = r[0][i], high = r[1][i], s = b[i].signs;
		const __m512i t[2] = { select_bits(two, low, s),
				       select_bits(two, high, _mm512_srli_epi16(s, 1)) };
		const __m512i u[2] = {
			select_bits(two, _mm512_srli_epi16(low, 2), _mm512_slli_epi16(s, 2)),
			select_bits(two, _mm512_srli_epi16(high, 2), _mm512_slli_epi16(s, 1))
		};

		put_together(t, iq2_sign2(), &p[i].q[1], &p[i].q[3]);
		put_together(u, iq2_sign2(), &p[i].q[0], &p[i].q[2]);
		p[i].scale[0] = shifted_scales(w[i] + 74);
		p[i].scale[1] = shifted_scales(v[i] + 74);
	}
}

/* sums of 16 words times their scales */
FORCE_INLINE __m512i multiply(const __m512i *q, __m512i scale, const int8_t (*x)[64],
			      const int32_t *offset)
{
	__m512i y = _mm512_load_si512(offset), z = _mm512_setzero_si512();

#pragma GCC unroll 2
	for (int k = 0; k < 4; k += 2) {
		y = _mm512_dpbusd_epi32(y, q[k], _mm512_load_si512(x[k]));
		z = _mm512_dpbusd_epi32(z, q[k + 1], _mm512_load_si512(x[k + 1]));
	}
	return _mm512_mullo_epi32(_mm512_add_epi32(y, z), scale);
}

FORCE_INLINE uint16_t half_bits(const uint8_t *w)
{
	uint16_t d;

	memcpy(&d, w, sizeof(d));
	return d;
}

typedef void (*read_fn)(const uint8_t *const *w, const uint8_t *const *v, int n, struct pair *p);

/* @n pairs of super-blocks, @count in all; @n, @read and @bytes are constants here */
FORCE_INLINE void pairs(const uint8_t *w, int n, size_t count, const struct act_iq *x, size_t at,
			const struct row_sums *out, read_fn read, size_t bytes)
{
	const uint8_t *first[2], *second[2];
	struct pair p[2];
	__m512i s[4] = { 0 };

#pragma GCC unroll 2
	for (int i = 0; i < n; i++) {
		first[i] = w + 2 * (size_t)i * bytes;
		second[i] = 2 * (size_t)i + 1 < count ? first[i] + bytes : first[i];
	}
#pragma GCC unroll 4
	for (int i = 0; i < 2 * n; i++)
		if ((size_t)i < count)
			out->d[at + (size_t)i] = half_bits(w + (size_t)i * bytes);
	read(first, second, n, p);
	/* what comes of one that is not there nobody reads */
#pragma GCC unroll 4
	for (int i = 0; i < 2 * n; i++) {
		const struct act_iq *a = x + at + ((size_t)i < count ? i : 0);

		s[i] = multiply(p[i / 2].q + i % 2 * 4, p[i / 2].scale[i % 2], a->q, a->offset);
	}
	store_sums(out->sum + at, s);
}

/* A row: two pairs together, for the sake of the tables. @read and @bytes are constants here. */
FORCE_INLINE void row(const uint8_t *w, const struct act_iq *x, size_t blocks,
		      const struct row_sums *out, read_fn read, size_t bytes)
{
	for (size_t at = 0; at < blocks; at += 4, w += 4 * bytes) {
		const size_t count = blocks - at;

		prefetch_ahead(w, out->ahead, 4 * bytes);
		if (count >= 4)
			pairs(w, 2, 4, x, at, out, read, bytes);
		else if (count == 3)
			pairs(w, 2, 3, x, at, out, read, bytes);
		else
			pairs(w, 1, count, x, at, out, read, bytes);
	}
}

#define ROW(T, t, read)                                                          \
	static void t##_1(const uint8_t *w, const void *const *x, size_t blocks, \
			  const struct row_sums *out)                            \
	{                                                                        \
		row(w, x[0], blocks, out, read, QUANT_##T##_BYTES);              \
	}                                                                        \
	const row_fn vbmi_row_##t[ROW_COLS] = { t##_1 };

ROW(IQ2_XS, iq2_xs, read_xs)
ROW(IQ2_S, iq2_s, read_s)
