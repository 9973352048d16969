/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/iq3_rows_vbmi.c: rows of IQ3 in file order at the AVX-512 level where the CPU has VBMI, one
 * column (whole numbers only, see avx512_tile.h; more: few_iq_vbmi.c). Layouts: scalar_iq.c. Any thread; reads
 * exactly the bytes of the blocks.
 *
 * The 64 indices of a super-block are a register of bytes, and an entry of the packed tables (grids.h) is
 * two, of two weights each: the low and the high ones are looked up by themselves (vbmi_rows.h). A sign
 * stands beside its weight's three bits, so that a nibble is a weight, as in iq_rows_avx512.c. The bytes
 * stay in the order of the indices: a word of a product is four of them, sixteen weights, and the
 * activations are laid out so (struct act_iq3, in a call's scratch).
 */
#include "kernels/cpu/vbmi_rows.h"
#include "kernels/cpu/vbmi.h"

/* 256 activations: values 0, 2, 1, 3 of all indices */
struct act_iq3 {
	int8_t q[4][64];
	int32_t offset[16]; /* -IQ_OFFSET * sums of 16 */
};

_Static_assert(sizeof(struct act_iq3) <= AVX512_PACKED_BYTES, "room in scratch");

void vbmi_pack_iq3(const void *from, size_t blocks, void *to)
{
	static const int value[4] = { 0, 2, 1, 3 };
	const struct act_k *x = from;
	struct act_iq3 *a = to;

	for (size_t b = 0; b < blocks; b++, x++, a++) {
		for (int i = 0; i < 4; i++) {
			/* sub-blocks i, i + 4 */
			const __m512i v = _mm512_load_si512(x->q6 + 64 * i);

			for (int k = 0; k < 4; k++) {
				const __m128i w = _mm512_cvtepi32_epi8(
					_mm512_srli_epi32(v, 8 * (unsigned)value[k]));

				_mm_storel_epi64((void *)(a->q[k] + 8 * i), w);
				_mm_storel_epi64((void *)(a->q[k] + 32 + 8 * i),
						 _mm_unpackhi_epi64(w, w));
			}
		}
		_mm512_store_si512(a->offset, _mm512_slli_epi32(_mm512_load_si512(x->by16), 2));
	}
}

FORCE_INLINE void xxs_block(const uint8_t *w, struct iq *v)
{
	const __m512i table = _mm512_broadcast_i32x4(
		_mm_setr_epi8(PLUS(4), PLUS(12), PLUS(20), PLUS(28), PLUS(36), PLUS(44), PLUS(52),
			      PLUS(62), MINUS(4), MINUS(12), MINUS(20), MINUS(28), MINUS(36),
			      MINUS(44), MINUS(52), MINUS(62)));
	/* seven signs for two indices each */
	const __m512i sevens_at = _mm512_set1_epi64(0x15150e0e07070000);
	const __m512i rest = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const void *)(w + 66)));
	const __m512i seven = _mm512_multishift_epi64_epi8(sevens_at, rest);
	struct indices at = { .low = _mm512_loadu_si512(w + 2) };

	eighth_bit(&at);
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		const __mmask64 odd = 0xaaaaaaaaaaaaaaaa;
		__m512i s = signs_of(i, seven);

		s = _mm512_mask_add_epi8(s, odd, s, s);
		permute_nibbles(
			or_bits(of_256(bytes_iq3_xxs[i], &at), s, _mm512_set1_epi8((char)0x88)),
			table, &v->q[2 * i], &v->q[2 * i + 1]);
	}
	v->scale = odd_scales(_mm512_srli_epi32(_mm512_shuffle_epi32(rest, _MM_PERM_CCAA), 27));
}

FORCE_INLINE struct indices s_indices(const uint8_t *w)
{
	struct indices at = { .low = _mm512_loadu_si512(w + 2) };

	eighth_bit(&at);
	at.b8 = _load_mask64((void *)(uintptr_t)(w + 66));
	return at;
}

/* signs of each index at bits 0 to 3 */
FORCE_INLINE __m512i s_signs(const uint8_t *w)
{
	const __m512i fours_at = _mm512_set1_epi64(0x1c1814100c080400);

	return _mm512_multishift_epi64_epi8(
		fours_at, _mm512_cvtepu32_epi64(_mm256_loadu_si256((const void *)(w + 74))));
}

/* @n super-blocks at w[..]: a table is loaded once for two */
FORCE_INLINE void s_blocks(const uint8_t *const *w, int n, struct iq *v)
{
	const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(
		PLUS(1), PLUS(3), PLUS(5), PLUS(7), PLUS(9), PLUS(11), PLUS(13), PLUS(15), MINUS(1),
		MINUS(3), MINUS(5), MINUS(7), MINUS(9), MINUS(11), MINUS(13), MINUS(15)));
	/* bits 0 and 2, bits 1 and 3 to bits 3 and 7 */
	const __m512i spread[2] = {
		_mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 0, 8, -128, -120, -128, -120, 0, 8, 0, 8,
						     -128, -120, -128, -120)),
		_mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 8, 8, 0, 0, 8, 8, -128, -128, -120, -120,
						     -128, -128, -120, -120)),
	};
	struct indices at[2];
	__m512i signs[2];
	const uint8_t *t = bytes_iq3_s[0];

	/* or the compiler loads all before the row, and keeps most of it on the stack */
	__asm__("" : "+r"(t));
#pragma GCC unroll 2
	for (int i = 0; i < n; i++) {
		at[i] = s_indices(w[i]);
		signs[i] = s_signs(w[i]);
	}
#pragma GCC unroll 2
	for (int k = 0; k < 2; k++, t += 512) {
		__m512i r[2][2];

#pragma GCC unroll 2
		for (int g = 0; g < 2; g++) {
			__m512i u[4] = { _mm512_loadu_si512(t + 256 * g),
					 _mm512_loadu_si512(t + 256 * g + 64),
					 _mm512_loadu_si512(t + 256 * g + 128),
					 _mm512_loadu_si512(t + 256 * g + 192) };

			__asm__("" : "+v"(u[0]), "+v"(u[1]), "+v"(u[2]), "+v"(u[3]));
#pragma GCC unroll 2
			for (int i = 0; i < n; i++) {
				r[i][g] = _mm512_mask2_permutex2var_epi8(u[0], at[i].low,
									 at[i].not7, u[1]);
				r[i][g] = _mm512_mask2_permutex2var_epi8(u[2], r[i][g], at[i].b7,
									 u[3]);
			}
		}
#pragma GCC unroll 2
		for (int i = 0; i < n; i++)
			permute_nibbles(
				_mm512_or_si512(_mm512_mask_blend_epi8(at[i].b8, r[i][0], r[i][1]),
						_mm512_permutexvar_epi8(signs[i], spread[k])),
				table, &v[i].q[2 * k], &v[i].q[2 * k + 1]);
	}
	/* a nibble for two lanes */
#pragma GCC unroll 2
	for (int i = 0; i < n; i++)
		v[i].scale = odd_scales(
			_mm512_rolv_epi32(_mm512_set1_epi32((int)word_at(w[i] + 106)),
					  _mm512_setr_epi32(1, 1, 29, 29, 25, 25, 21, 21, 17, 17,
							    13, 13, 9, 9, 5, 5)));
}

FORCE_INLINE void xxs_blocks(const uint8_t *const *w, int n, struct iq *v)
{
#pragma GCC unroll 2
	for (int i = 0; i < n; i++)
		xxs_block(w[i], &v[i]);
}

typedef void (*blocks_fn)(const uint8_t *const *w, int n, struct iq *v);

/* @n super-blocks from the @i'th of four on times @cols columns; @n, @cols, @blocks, @bytes are constants here */
FORCE_INLINE void some(const uint8_t *w, int n, const void *const *x, int cols, size_t at, size_t i,
		       const struct row_sums *out, blocks_fn blocks, size_t bytes, __m512i s[][4])
{
	const uint8_t *each[2];
	struct iq v[2];

#pragma GCC unroll 2
	for (int k = 0; k < n; k++) {
		uint16_t d;

		each[k] = w + (i + (size_t)k) * bytes;
		memcpy(&d, each[k], sizeof(d));
		out->d[at + i + (size_t)k] = d;
	}
	blocks(each, n, v);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++) {
		const struct act_iq3 *a = (const struct act_iq3 *)x[c] + at + i;

#pragma GCC unroll 2
		for (int k = 0; k < n; k++, a++) {
			__m512i y = _mm512_load_si512(a->offset), z = _mm512_setzero_si512();

#pragma GCC unroll 2
			for (int j = 0; j < 4; j += 2) {
				y = _mm512_dpbusd_epi32(y, v[k].q[j], _mm512_load_si512(a->q[j]));
				z = _mm512_dpbusd_epi32(z, v[k].q[j + 1],
							_mm512_load_si512(a->q[j + 1]));
			}
			s[c][i + (size_t)k] =
				_mm512_mullo_epi32(_mm512_add_epi32(y, z), v[k].scale);
		}
	}
}

/* A row times @cols columns; @cols, @read and @bytes are constants here. */
FORCE_INLINE void row(const uint8_t *w, const void *const *x, int cols, size_t blocks,
		      const struct row_sums *out, blocks_fn read, size_t bytes)
{
	for (size_t at = 0; at < blocks; at += 4, w += 4 * bytes) {
		__m512i s[ROW_COLS][4];

		prefetch_ahead(w, out->ahead, 4 * bytes);
		if (blocks - at >= 4) {
			some(w, 2, x, cols, at, 0, out, read, bytes, s);
			some(w, 2, x, cols, at, 2, out, read, bytes, s);
		} else {
#pragma GCC unroll 8
			for (int c = 0; c < cols; c++)
				s[c][1] = s[c][2] = s[c][3] = _mm512_setzero_si512();
#pragma GCC unroll 1
			for (size_t i = 0; i < blocks - at; i++)
				some(w, 1, x, cols, at, i, out, read, bytes, s);
		}
#pragma GCC unroll 8
		for (int c = 0; c < cols; c++)
			store_sums(out[c].sum + at, s[c]);
	}
}

#define ROW(name, block, bytes, cols)                                                    \
	static void name##_##cols(const uint8_t *w, const void *const *x, size_t blocks, \
				  const struct row_sums *out)                            \
	{                                                                                \
		row(w, x, cols, blocks, out, block, bytes);                              \
	}
#define ROWS(T, t, block)                   \
	ROW(t, block, QUANT_##T##_BYTES, 1) \
	const row_fn vbmi_row_##t[ROW_COLS] = { t##_1 };

ROWS(IQ3_XXS, iq3_xxs, xxs_blocks)
ROWS(IQ3_S, iq3_s, s_blocks)
