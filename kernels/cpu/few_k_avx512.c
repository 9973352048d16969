/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_k_avx512.c: two to eight columns of super-blocks, and one of short rows, at the AVX-512
 * level: the walk over rows, and Q4_K, Q5_K and IQ4_XS. Called by ops_avx512.c through avx512_matmul_few_k(), any thread.
 * The form is drawn in few_k_avx512.h. Sums of 32 products of Q5_K and IQ4_XS have 18 and 20 bits, so
 * scales are multiplied by vpmulld, which is no slower here than vpdpwssd.
 */
#include "kernels/cpu/few_k_avx512.h"

#include "base/num.h"

/* sub-block @j times its scale, added to @s */
FORCE_INLINE void scaled(int cols, const __m512i q[8], const struct act_k *const *x, int j,
			 __m512i scale, __m512i *s)
{
	__m512i dot[ROW_COLS];

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		dot[c] = _mm512_setzero_si512();
	few_dots(cols, q, x, j, dot);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_add_epi32(s[c], _mm512_mullo_epi32(dot[c], scale));
}

FORCE_INLINE void q4_k(int cols, const uint8_t *w, size_t stride, const struct act_k *const *x,
		       __m512 *y, const char *ahead)
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f);
	__m512i s[ROW_COLS];
	struct head45 t;

	head45(w, stride, &t);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_setzero_si512();
#pragma GCC unroll 1
	for (int chunk = 0; chunk < 4; chunk++) {
		__m512i q[8], v[8];

		few_ask_nearer(ahead, QUANT_Q4_K_BYTES, (size_t)chunk, 4);
		transpose32(w + 16 + 32 * chunk, stride, q);
#pragma GCC unroll 2
		for (unsigned half = 0; half < 2; half++) {
#pragma GCC unroll 8
			for (int k = 0; k < 8; k++)
				v[k] = _mm512_and_si512(half ? _mm512_srli_epi32(q[k], 4) : q[k],
							low4);
			scaled(cols, v, x, 2 * chunk + (int)half, t.scale[2 * chunk + (int)half],
			       s);
		}
	}
	finish45(cols, &t, x, s, y);
}

FORCE_INLINE void q5_k(int cols, const uint8_t *w, size_t stride, const struct act_k *const *x,
		       __m512 *y, const char *ahead)
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f), low5 = _mm512_set1_epi32(0x1f1f1f1f);
	__m512i s[ROW_COLS], high[8];
	struct head45 t;

	head45(w, stride, &t);
	transpose32(w + 16, stride, high);
	/* bits 2c and 2c + 1 of a byte belong to chunk c: they are rotated to bit 4 */
#pragma GCC unroll 8
	for (int k = 0; k < 8; k++)
		high[k] = _mm512_rol_epi32(high[k], 4);
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_setzero_si512();
#pragma GCC unroll 1
	for (int chunk = 0; chunk < 4; chunk++) {
		__m512i q[8], v[8];

		few_ask_nearer(ahead, QUANT_Q5_K_BYTES, (size_t)chunk, 4);
		transpose32(w + 48 + 32 * chunk, stride, q);
#pragma GCC unroll 8
		for (int k = 0; k < 8; k++)
			v[k] = _mm512_and_si512(select_bits(low4, q[k], high[k]), low5);
		scaled(cols, v, x, 2 * chunk, t.scale[2 * chunk], s);
#pragma GCC unroll 8
		for (int k = 0; k < 8; k++) {
			v[k] = select_bits(low4, _mm512_srli_epi32(q[k], 4),
					   _mm512_srli_epi32(high[k], 1));
			v[k] = _mm512_and_si512(v[k], low5);
			high[k] = _mm512_ror_epi32(high[k], 2);
		}
		scaled(cols, v, x, 2 * chunk + 1, t.scale[2 * chunk + 1], s);
	}
	finish45(cols, &t, x, s, y);
}

/* eight 6-bit scales less 32 and the super-block's own */
FORCE_INLINE __m512 head_iq4(const uint8_t *w, size_t stride, __m512i scale[8])
{
	const __m512i low4 = _mm512_set1_epi32(15), two = _mm512_set1_epi32(0x30);
	__m512i h[4];

	/* a super-block has more than the 16 bytes */
	transpose16(w, stride, h);
#pragma GCC unroll 8
	for (unsigned j = 0; j < 8; j++) {
		const __m512i a = _mm512_srli_epi32(h[1], 4 * j);
		/* bits 16 + 2j, at 4 */
		const __m512i b = _mm512_and_si512(_mm512_srli_epi32(h[0], 12 + 2 * j), two);

		scale[j] = _mm512_sub_epi32(_mm512_ternarylogic_epi32(a, low4, b, 0xea),
					    _mm512_set1_epi32(32));
	}
	return half_low(h[0]);
}

FORCE_INLINE void iq4_xs(int cols, const uint8_t *w, size_t stride, const struct act_k *const *x,
			 __m512 *y, const char *ahead)
{
	const __m512i low4 = _mm512_set1_epi32(0x0f0f0f0f), values = avx512_iq4_values();
	__m512i s[ROW_COLS], scale[8];
	const __m512 d = head_iq4(w, stride, scale);

#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		s[c] = _mm512_setzero_si512();
#pragma GCC unroll 1
	for (int chunk = 0; chunk < 4; chunk++) {
		__m512i q[8], v[8];

		few_ask_nearer(ahead, QUANT_IQ4_XS_BYTES, (size_t)chunk, 4);
		transpose32(w + 8 + 32 * chunk, stride, q);
#pragma GCC unroll 2
		for (int half = 0; half < 2; half++) {
			const int j = 2 * chunk + half;
			__m512i dot[ROW_COLS];

#pragma GCC unroll 4
			for (int k = 0; k < 4; k++) {
				const __m512i a = q[4 * half + k];
				const __m512i b = _mm512_srli_epi32(a, 4);

				v[k] = _mm512_shuffle_epi8(values, _mm512_and_si512(a, low4));
				v[k + 4] = _mm512_shuffle_epi8(values, _mm512_and_si512(b, low4));
			}
#pragma GCC unroll 8
			for (int c = 0; c < cols; c++)
				dot[c] = _mm512_set1_epi32(x[c]->by128[j]);
			few_dots(cols, v, x, j, dot);
#pragma GCC unroll 8
			for (int c = 0; c < cols; c++)
				s[c] = _mm512_add_epi32(s[c], _mm512_mullo_epi32(dot[c], scale[j]));
		}
	}
#pragma GCC unroll 8
	for (int c = 0; c < cols; c++)
		y[c] = add_scaled(y[c], d, _mm512_set1_ps(x[c]->d), s[c]);
}

FEW_K_ONE(q4_k)
FEW_K_ONE(q5_k)
FEW_K_ONE(iq4_xs)

/*
 * All rows begin at once, but are asked for in file order: so much farther ahead than the next sixteen, or the
 * last of them would be asked for right before their first super-blocks are read.
 */
#define FEW_AHEAD 6144

/* Rows that are walked together. */
struct walk {
	const uint8_t *w;
	size_t row_bytes, bytes, n; /* n <= FEW_ROWS */
	size_t act_bytes;	    /* of a super-block's activations */
	uint8_t *spare;		    /* FEW_ROWS super-blocks, for fewer rows */
	const char *ahead;	    /* what is asked for meanwhile */
};

/* y[c]: sixteen rows times column c */
static void walk(const struct walk *k, few_k_fn multiply, const void *const *x, size_t cols,
		 size_t blocks, __m512 *y)
{
	for (size_t b = 0; b < blocks; b++) {
		const struct act_k *at[ROW_COLS];
		const uint8_t *w = k->w + b * k->bytes;
		/* as many bytes as a super-block of all rows has */
		const char *ahead = k->ahead + b * FEW_ROWS * k->bytes;

		for (size_t c = 0; c < cols; c++)
			at[c] = (const void *)((const char *)x[c] + b * k->act_bytes);
		if (k->n == FEW_ROWS) {
			multiply(w, k->row_bytes, at, y, ahead);
			continue;
		}
		/* the last of fewer rows stands for those that are not there */
		for (size_t r = 0; r < FEW_ROWS; r++)
			memcpy(k->spare + r * ROW_BYTES_MAX,
			       w + u64_min(r, k->n - 1) * k->row_bytes, k->bytes);
		multiply(k->spare, ROW_BYTES_MAX, at, y, ahead);
	}
}

void avx512_matmul_few_k(const struct tile_format *f, const struct matmul *m)
{
	/* five and seven columns are multiplied as six and eight: the last stands for the spare one */
	const size_t cols = m->cols, width = cols > 4 ? (cols + 1) & ~(size_t)1 : cols;
	struct walk k = { .row_bytes = m->row_bytes,
			  .bytes = f->bytes,
			  .act_bytes = f->few_pack ? AVX512_PACKED_BYTES : sizeof(struct act_k),
			  .spare = m->scratch };
	const uint8_t *end = (const uint8_t *)m->w + m->row1 * m->row_bytes;
	const size_t far = u64_max(FEW_ROWS * m->row_bytes + FEW_AHEAD, ROW_AHEAD);
	const void *x[ROW_COLS];
	/* behind the spare rows */
	uint8_t *packed = (uint8_t *)m->scratch + FEW_ROWS * ROW_BYTES_MAX;

	for (size_t c = 0; c < width; c++) {
		x[c] = c < cols ? m->x[c] : x[cols - 1];
		if (f->few_pack && c < cols) {
			f->few_pack(x[c], m->n / 256, packed);
			x[c] = packed;
			packed += AVX512_PACKED_BYTES * (m->n / 256);
		}
	}
	for (size_t row = m->row0; row < m->row1; row += FEW_ROWS) {
		__m512 y[ROW_COLS];

		k.w = (const uint8_t *)m->w + row * m->row_bytes;
		k.n = u64_min(FEW_ROWS, m->row1 - row);
		k.ahead = asked_for(k.w, far, end, m->next);
		for (size_t c = 0; c < width; c++)
			y[c] = _mm512_setzero_ps();
		walk(&k, f->few_k[cols - 1], x, width, m->n / 256, y);
		for (size_t c = 0; c < cols; c++)
			_mm512_mask_storeu_ps(m->y[c] + row, (__mmask16)((1u << k.n) - 1), y[c]);
	}
}
