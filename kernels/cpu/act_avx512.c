/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/act_avx512.c: activation vectors of the AVX-512 level: int8 values in the orders
 * that avx512_tile.h draws, the scale, and the sums of neighbours that the tile kernels start
 * from. Any thread; pieces of one vector may be written by several.
 *
 * The int8 values and scales equal those of the scalar level, bit for bit.
 */
#include "kernels/cpu/avx512_tile.h"

#include <math.h>

#include "base/num.h"

static inline size_t groups(size_t n)
{
	return div_ceil(n, TILE_DEPTH);
}

size_t avx512_act_bytes(enum act_kind kind, size_t n)
{
	switch (kind) {
	case ACT_F32:
		return align_up(n * sizeof(float), 64);
	case ACT_Q8_0:
		return groups(n) * sizeof(struct act_b);
	case ACT_Q8_K:
		return groups(n) * sizeof(struct act_k);
	default:
		return 0;
	}
}

/* sums of neighbours: 32 words -> 16 */
static inline __m512i fold(__m512i a, __m512i b)
{
	const __m512i even =
		_mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
	const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));

	return _mm512_add_epi32(_mm512_permutex2var_epi32(a, even, b),
				_mm512_permutex2var_epi32(a, odd, b));
}

/* sums of 8 neighbours of 256 bytes */
static inline void sums_of_8(const __m128i q[16], __m512i s[2])
{
	const __m512i ones = _mm512_set1_epi8(1);
	__m512i four[4];

	for (int i = 0; i < 4; i++)
		four[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones,
					      _mm512_loadu_si512(q + 4 * i));
	s[0] = fold(four[0], four[1]);
	s[1] = fold(four[2], four[3]);
}

static inline __m512i times(__m512i v, int factor)
{
	return _mm512_mullo_epi32(v, _mm512_set1_epi32(factor));
}

/* to -127..127; 0 times a reciprocal that overflows: -127, as in the reference */
static inline __m512 clamp(__m512 x)
{
	return _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-127)), _mm512_set1_ps(127));
}

/*
 * The bits of |x|. As whole numbers they are ordered as the magnitudes are, with infinity and the
 * NaNs on top: what is not finite shows in the same maximum, at no cost.
 */
static inline __m512i magnitude(__m512 x)
{
	return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

/* The first element of greatest magnitude, with its sign; NaN where one is not finite. */
static inline float extreme(const float *x)
{
	__m512i m = _mm512_setzero_si512();
	uint32_t bits;
	float max;

	for (int i = 0; i < 16; i++)
		m = _mm512_max_epi32(magnitude(_mm512_loadu_ps(x + 16 * i)), m);
	bits = (uint32_t)_mm512_reduce_max_epi32(m);
	if (bits >= F32_INFINITE)
		return NAN;
	max = f32_from_bits(bits);
	for (int i = 0; i < 16; i++) {
		__mmask16 hit = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(x + 16 * i)),
						   _mm512_set1_ps(max), _CMP_EQ_OQ);

		if (hit)
			return x[16 * i + __builtin_ctz(hit)];
	}
	return 0;
}

static void quantize_k(const float *x, struct act_k *a)
{
	const float top = extreme(x), inv = -127.0f / top;
	__m512i eight[2], sixteen, thirtytwo;

	/* so small that its reciprocal overflows: zero */
	if (top == 0 || !isfinite(inv)) {
		memset(a, 0, sizeof(*a));
		a->d = isnan(top) ? NAN : 0;
		return;
	}

	a->pad = 0;

	const __m512 scale = _mm512_set1_ps(inv);
	__m128i q[16]; /* pieces of 16 in natural order: sub-block i / 2, half a or b */

	a->d = 1 / inv;
	for (int i = 0; i < 16; i++) {
		/* the current rounding mode, to nearest even: what rint does */
		__m512i v = _mm512_cvtps_epi32(
			clamp(_mm512_mul_ps(scale, _mm512_loadu_ps(x + 16 * i))));
		const int j = i / 2, half = i % 2;

		q[i] = _mm512_cvtepi32_epi8(v);
		_mm_store_si128((void *)(a->q + ACT_K_WORD(j, 4 * half)), q[i]);
		_mm_store_si128((void *)(a->q6 + 64 * (j % 4) + 32 * (j / 4) + 16 * half), q[i]);
	}
	sums_of_8(q, eight);
	sixteen = fold(eight[0], eight[1]);
	thirtytwo = fold(sixteen, sixteen); /* in the low half, and again in the high one */
	_mm512_store_si512(a->by8, times(eight[0], -32));
	_mm512_store_si512(a->by8 + 16, times(eight[1], -32));
	sixteen = times(sixteen, -16);
	_mm512_store_si512(a->by16, sixteen);
	_mm512_store_si512(a->twice16, _mm512_add_epi32(sixteen, sixteen));
	_mm256_store_si256((void *)a->sum16, _mm512_cvtepi32_epi16(sixteen));
	/* both halves of the register are the same eight */
	a->by1 = -_mm512_reduce_add_epi32(thirtytwo) / 2;
	a->by124 = 124 * a->by1;
	_mm256_store_si256((void *)a->by128, _mm512_castsi512_si256(times(thirtytwo, -128)));
	thirtytwo = times(thirtytwo, 8);
	_mm_store_si128((void *)a->sum32, _mm256_castsi256_si128(_mm512_cvtepi32_epi16(thirtytwo)));
	_mm256_store_si256((void *)a->by32, _mm512_castsi512_si256(times(thirtytwo, -1)));
}

/* to the nearest integer, halves away from zero, as roundf; clamped */
static inline __m512i round_away(__m512 x)
{
	const __m512 a = _mm512_abs_ps(x), sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0f));
	__m512 f = _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
	__mmask16 up = _mm512_cmp_ps_mask(_mm512_sub_ps(a, f), _mm512_set1_ps(0.5f), _CMP_GE_OQ);

	f = _mm512_mask_add_ps(f, up, f, _mm512_set1_ps(1));
	return _mm512_cvtps_epi32(clamp(_mm512_or_ps(f, sign)));
}

static void not_finite(struct act_b *a, unsigned block)
{
	_mm_store_si128((void *)(a->q + ACT_B_WORD(block, 0)), _mm_setzero_si128());
	_mm_store_si128((void *)(a->q + ACT_B_WORD(block, 4)), _mm_setzero_si128());
	a->by32[block] = 0;
	a->d[block] = NAN;
	a->sum[block] = 0;
}

static void quantize_block(const float *x, struct act_b *a, unsigned block)
{
	const __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16);
	const __m512i most = _mm512_max_epi32(magnitude(x0), magnitude(x1));
	const uint32_t max = (uint32_t)_mm512_reduce_max_epi32(most);
	const float d = f32_from_bits(max) / 127, inv = d > 0 ? 1 / d : 0;

	if (max >= F32_INFINITE) {
		not_finite(a, block);
		return;
	}

	const __m512i q0 = round_away(_mm512_mul_ps(x0, _mm512_set1_ps(inv)));
	const __m512i q1 = round_away(_mm512_mul_ps(x1, _mm512_set1_ps(inv)));
	const int sum = _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1));

	_mm_store_si128((void *)(a->q + ACT_B_WORD(block, 0)), _mm512_cvtepi32_epi8(q0));
	_mm_store_si128((void *)(a->q + ACT_B_WORD(block, 4)), _mm512_cvtepi32_epi8(q1));
	a->d[block] = d;
	a->by32[block] = -128 * sum;
	a->sum[block] = (float)sum;
}

/* @count: a multiple of 32, at most 256 */
static void quantize_b(const float *x, size_t count, struct act_b *a)
{
	if (count < TILE_DEPTH)
		memset(a, 0, sizeof(*a));
	memset(a->pad, 0, sizeof(a->pad));
	for (unsigned i = 0; i < count / 32; i++)
		quantize_block(x + 32 * i, a, i);
}

void avx512_act_quantize_part(enum act_kind kind, const float *x, size_t n, void *dst, size_t first,
			      size_t count)
{
	struct act_k *k = dst;
	struct act_b *b = dst;
	float *f = dst;

	switch (kind) {
	case ACT_Q8_K:
		for (size_t i = first; i < first + count; i += TILE_DEPTH)
			quantize_k(x + i, k + i / TILE_DEPTH);
		break;
	case ACT_Q8_0:
		for (size_t i = first; i < first + count; i += TILE_DEPTH)
			quantize_b(x + i, u64_min(first + count - i, TILE_DEPTH),
				   b + i / TILE_DEPTH);
		break;
	case ACT_F32:
		memcpy(f + first, x + first, count * sizeof(float));
		break;
	default:
		break;
	}
}

void avx512_act_quantize(enum act_kind kind, const float *x, size_t n, void *dst)
{
	avx512_act_quantize_part(kind, x, n, dst, 0, n);
}
