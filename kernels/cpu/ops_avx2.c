/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/ops_avx2.c: the AVX2 level (AVX2, FMA, F16C).
 *
 * One row block is unpacked to bytes once (unpack_avx2.c), then multiplied with every column: with
 * one column that is a matrix-vector product which reads each row once in file order, with many it
 * is the prefill form, and both are the same code, so the same bits. Inside a block everything is
 * exact: |w| * sign(a, w) by maddubs (|w| <= 128, |a| <= 127: pairs stay within 16 bits), group
 * scales by madd, sums in 32 bits. Per block one float step, blocks in order, as the reference.
 */
#include <immintrin.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/cpu.h"

#define AHEAD 2048 /* bytes fetched ahead of the row block that is read */
#define GROUP 8	   /* columns whose sums stay in registers or L1 over a row */

static size_t act_bytes(enum act_kind kind, size_t n)
{
	switch (kind) {
	case ACT_Q8_0:
		return align_up(n / 32 * sizeof(struct act32), 64);
	case ACT_Q8_K:
		return align_up(n / 256 * sizeof(struct act256), 64);
	default:
		return align_up(n * sizeof(float), 64);
	}
}

static void act_quantize_part(enum act_kind kind, const float *x, size_t n, void *dst, size_t first,
			      size_t count)
{
	switch (kind) {
	case ACT_Q8_0:
		for (size_t b = first / 32; b < (first + count) / 32; b++)
			avx2_quantize32(x + 32 * b, (struct act32 *)dst + b);
		return;
	case ACT_Q8_K:
		for (size_t b = first / 256; b < (first + count) / 256; b++)
			avx2_quantize256(x + 256 * b, (struct act256 *)dst + b);
		return;
	default:
		memcpy((float *)dst + first, x + first, count * sizeof(float));
		return;
	}
}

static void act_quantize(enum act_kind kind, const float *x, size_t n, void *dst)
{
	act_quantize_part(kind, x, n, dst, 0, n);
}

static inline int sum_int(__m256i v)
{
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
	return _mm_cvtsi128_si32(s);
}

static inline __m256i dot_pairs(__m256i w, __m256i a)
{
	return _mm256_maddubs_epi16(_mm256_sign_epi8(w, w), _mm256_sign_epi8(a, w));
}

static inline float dot32(const struct block32 *b, const struct act32 *a, float sum)
{
	__m256i w = _mm256_load_si256((const __m256i *)b->q);
	__m256i x = _mm256_loadu_si256((const __m256i *)a->q);
	__m256i pairs = _mm256_madd_epi16(dot_pairs(w, x), _mm256_set1_epi16(1));

	sum = _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(b->scale * a->d),
					 _mm_set_ss((float)sum_int(pairs)), _mm_set_ss(sum)));
	return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(b->min * a->d), _mm_set_ss((float)a->sum),
					  _mm_set_ss(sum)));
}

static inline float dot256(const struct unpacked256 *b, const struct act256 *a, float sum)
{
	__m256i dot = _mm256_setzero_si256(), mins;

	for (int k = 0; k < 8; k++) {
		__m256i w = _mm256_load_si256((const __m256i *)b->q + k);
		__m256i x = _mm256_loadu_si256((const __m256i *)a->q + k);
		__m256i scale = _mm256_load_si256((const __m256i *)b->scale + k);

		dot = _mm256_add_epi32(dot, _mm256_madd_epi16(dot_pairs(w, x), scale));
	}
	sum = _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(b->d * a->d), _mm_set_ss((float)sum_int(dot)),
					 _mm_set_ss(sum)));
	if (!b->has_min)
		return sum;
	mins = _mm256_madd_epi16(_mm256_load_si256((const __m256i *)b->min),
				 _mm256_loadu_si256((const __m256i *)a->sum));
	return _mm_cvtss_f32(_mm_fnmadd_ss(_mm_set_ss(b->dmin * a->d),
					   _mm_set_ss((float)sum_int(mins)), _mm_set_ss(sum)));
}

static void row_blocks32(const struct matmul *m, const struct quant_format *f, const uint8_t *row,
			 size_t c0, size_t n_cols, float *sums)
{
	for (size_t i = 0; i < m->n; i += 32, row += f->bytes) {
		struct block32 b __attribute__((aligned(32)));

		_mm_prefetch((const char *)row + AHEAD, _MM_HINT_T0);
		avx2_unpack32(m->type, row, &b);
		for (size_t c = 0; c < n_cols; c++)
			sums[c] = dot32(&b, (const struct act32 *)m->x[c0 + c] + i / 32, sums[c]);
	}
}

static void row_blocks256(const struct matmul *m, const struct quant_format *f, const uint8_t *row,
			  size_t c0, size_t n_cols, float *sums)
{
	for (size_t i = 0; i < m->n; i += 256, row += f->bytes) {
		struct unpacked256 b;

		for (uint32_t line = 0; line < f->bytes; line += 64)
			_mm_prefetch((const char *)row + AHEAD + line, _MM_HINT_T0);
		avx2_unpack256(m->type, row, &b);
		for (size_t c = 0; c < n_cols; c++)
			sums[c] =
				dot256(&b, (const struct act256 *)m->x[c0 + c] + i / 256, sums[c]);
	}
}

static __m256 float_weights(uint32_t type, const uint8_t *row, size_t i)
{
	__m128i h;

	if (type == QUANT_F32)
		return _mm256_loadu_ps((const float *)(row + 4 * i));
	h = _mm_loadu_si128((const __m128i *)(row + 2 * i));
	if (type == QUANT_F16)
		return _mm256_cvtph_ps(h);
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* The last n % 8 weights, zeros behind them. */
static __m256 float_tail(uint32_t type, const uint8_t *row, size_t i, size_t n, const float *x,
			 __m256 *ret_x)
{
	uint8_t w[32] = { 0 };
	float t[8] = { 0 };

	memcpy(w, row + i * (type == QUANT_F32 ? 4 : 2), (n - i) * (type == QUANT_F32 ? 4 : 2));
	memcpy(t, x + i, (n - i) * sizeof(float));
	*ret_x = _mm256_loadu_ps(t);
	return float_weights(type, w, 0);
}

static float float_dot(uint32_t type, const uint8_t *row, const float *x, size_t n)
{
	__m256 s[4] = { _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
			_mm256_setzero_ps() };
	__m256 tail;
	__m128 t;
	size_t i = 0;

	for (; i + 32 <= n; i += 32)
		for (int k = 0; k < 4; k++)
			s[k] = _mm256_fmadd_ps(float_weights(type, row, i + 8 * k),
					       _mm256_loadu_ps(x + i + 8 * k), s[k]);
	for (; i + 8 <= n; i += 8)
		s[0] = _mm256_fmadd_ps(float_weights(type, row, i), _mm256_loadu_ps(x + i), s[0]);
	if (i < n) {
		__m256 w = float_tail(type, row, i, n, x, &tail);

		s[1] = _mm256_fmadd_ps(w, tail, s[1]);
	}
	s[0] = _mm256_add_ps(_mm256_add_ps(s[0], s[2]), _mm256_add_ps(s[1], s[3]));
	t = _mm_add_ps(_mm256_castps256_ps128(s[0]), _mm256_extractf128_ps(s[0], 1));
	t = _mm_add_ps(t, _mm_movehl_ps(t, t));
	return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}

static void matmul(const struct matmul *m)
{
	const struct quant_format *f = quant_format(m->type);

	for (size_t r = m->row0; r < m->row1; r++) {
		const uint8_t *row = (const uint8_t *)m->w + r * m->row_bytes;

		for (size_t c0 = 0; c0 < m->cols; c0 += GROUP) {
			size_t n_cols = u64_min(GROUP, m->cols - c0);
			float sums[GROUP] = { 0 };

			if (f->block == 256)
				row_blocks256(m, f, row, c0, n_cols, sums);
			else if (f->block == 32)
				row_blocks32(m, f, row, c0, n_cols, sums);
			for (size_t c = 0; c < n_cols; c++)
				m->y[c0 + c][r] =
					f->block > 1 ? sums[c]
						     : float_dot(m->type, row, m->x[c0 + c], m->n);
		}
	}
}

static size_t matmul_scratch_bytes(size_t n)
{
	return 64;
}

const struct cpu_ops cpu_ops_avx2 = {
	.level = CPU_AVX2,
	.name = "avx2",
	.dequantize = scalar_dequantize,
	.act_bytes = act_bytes,
	.act_quantize = act_quantize,
	.act_quantize_part = act_quantize_part,
	.matmul = matmul,
	.matmul_scratch_bytes = matmul_scratch_bytes,
	.row_tile = 16,
};
