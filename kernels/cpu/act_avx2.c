/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/act_avx2.c: activation vectors of the AVX2 level: int8 values in their order, scales
 * and the sums that minima and offsets need (layouts: avx2_level.h). The int8 values and scales
 * equal those of the scalar level, bit for bit, for any input. Any thread; pieces of one vector
 * may be written by several.
 */
#include <assert.h>
#include <math.h>

#include "base/num.h"
#include "kernels/cpu/avx2_level.h"

size_t avx2_act_bytes(enum act_kind kind, size_t n)
{
	switch (kind) {
	case ACT_Q8_0:
		return align_up(div_ceil(n, 256) * sizeof(struct act_group), 64);
	case ACT_Q8_K:
		return div_ceil(n, 256) * sizeof(struct act_super);
	default:
		return align_up(n * sizeof(float), 64);
	}
}

static inline __m256 magnitude(__m256 x)
{
	return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

/*
 * The bits of the largest |x|. As whole numbers they are ordered as the magnitudes are, with
 * infinity and the NaNs on top: what is not finite shows in the same maximum, at no cost.
 */
static inline uint32_t largest(const float *x, int n)
{
	__m256i m = _mm256_setzero_si256();
	__m128i v;

	for (int i = 0; i < n; i += 8)
		m = _mm256_max_epi32(_mm256_castps_si256(magnitude(_mm256_loadu_ps(x + i))), m);
	v = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
	v = _mm_max_epi32(v, _mm_shuffle_epi32(v, 0x4e));
	return (uint32_t)_mm_cvtsi128_si32(_mm_max_epi32(v, _mm_shuffle_epi32(v, 0xb1)));
}

/* The first element whose magnitude is @most, with its sign. */
static inline float first_of(const float *x, float most)
{
	for (int i = 0; i < 256; i += 8) {
		__m256 hit = _mm256_cmp_ps(magnitude(_mm256_loadu_ps(x + i)), _mm256_set1_ps(most),
					   _CMP_EQ_OQ);
		int mask = _mm256_movemask_ps(hit);

		if (mask)
			return x[i + __builtin_ctz((unsigned)mask)];
	}
	return 0;
}

/* to [-127, 127]; 0 times a reciprocal that overflows: -127 */
static inline __m256 clamp(__m256 x)
{
	return _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-127)), _mm256_set1_ps(127));
}

/* to the nearest integer, halves away from zero */
static inline __m256 round_away(__m256 x)
{
	__m256 a = magnitude(x);
	__m256 t = _mm256_round_ps(a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
	__m256 up = _mm256_cmp_ps(_mm256_sub_ps(a, t), _mm256_set1_ps(0.5f), _CMP_GE_OQ);

	t = _mm256_add_ps(t, _mm256_and_ps(up, _mm256_set1_ps(1)));
	return _mm256_or_ps(t, _mm256_and_ps(x, _mm256_set1_ps(-0.0f)));
}

/* 32 words in [-128, 127] -> bytes in their order */
static inline __m256i bytes_of(const __m256i w[4])
{
	__m256i v =
		_mm256_packs_epi16(_mm256_packs_epi32(w[0], w[1]), _mm256_packs_epi32(w[2], w[3]));

	return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static int add_words(__m256i v)
{
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

static void quantize_super(const float *x, struct act_super *a)
{
	const uint32_t most = largest(x, 256);
	const bool finite = most < F32_INFINITE;
	const float at = most && finite ? first_of(x, f32_from_bits(most)) : 0;
	const float inverse = at != 0 ? -127.0f / at : 0;

	if (at == 0 || isinf(inverse)) {
		memset(a, 0, sizeof(*a));
		a->d = finite ? 0 : NAN;
		return;
	}
	a->d = 1.0f / inverse;
	memset(a->pad, 0, sizeof(a->pad));
	a->total = 0;
	for (int j = 0; j < 8; j++) {
		__m256i w[4];

		for (int i = 0; i < 4; i++) {
			__m256 v = _mm256_loadu_ps(x + 32 * j + 8 * i);

			/* converts to nearest even, as rint does */
			v = clamp(_mm256_mul_ps(v, _mm256_set1_ps(inverse)));
			w[i] = _mm256_cvtps_epi32(v);
		}
		_mm256_storeu_si256((__m256i *)(a->q + 32 * j), bytes_of(w));
		a->sum[2 * j] = (int16_t)add_words(_mm256_add_epi32(w[0], w[1]));
		a->sum[2 * j + 1] = (int16_t)add_words(_mm256_add_epi32(w[2], w[3]));
		a->sum32[j] = (int16_t)(a->sum[2 * j] + a->sum[2 * j + 1]);
		a->total += a->sum32[j];
	}
}

/* see struct act_group */
static void less_sixteen(__m256i q, int16_t to[2])
{
	const __m256i minus = _mm256_sub_epi8(_mm256_setzero_si256(), q);
	const __m256i v = _mm256_maddubs_epi16(_mm256_set1_epi8(16), minus);
	__m128i s = _mm_add_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	int both;

	s = _mm_add_epi16(s, _mm_shuffle_epi32(s, 0x4e));
	both = _mm_cvtsi128_si32(_mm_add_epi16(s, _mm_shuffle_epi32(s, 0xb1)));
	memcpy(to, &both, sizeof(both));
}

static void quantize_block(const float *x, struct act_group *a, unsigned j)
{
	const uint32_t most = largest(x, 32);
	const float d = f32_from_bits(most) / 127.0f, inverse = d > 0 ? 1.0f / d : 0;
	__m256i w[4], sum;

	if (most >= F32_INFINITE) {
		memset(a->q[j], 0, sizeof(a->q[j]));
		a->d[j] = NAN;
		a->sum[j] = 0;
		memset(a->less16[j], 0, sizeof(a->less16[j]));
		return;
	}
	for (int i = 0; i < 4; i++) {
		__m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(inverse));

		w[i] = _mm256_cvtps_epi32(clamp(round_away(v)));
	}
	_mm256_storeu_si256((__m256i *)a->q[j], bytes_of(w));
	less_sixteen(bytes_of(w), a->less16[j]);
	sum = _mm256_add_epi32(_mm256_add_epi32(w[0], w[1]), _mm256_add_epi32(w[2], w[3]));
	a->d[j] = d;
	a->sum[j] = (float)add_words(sum);
}

void avx2_act_quantize_part(enum act_kind kind, const float *x, size_t n, void *dst, size_t first,
			    size_t count)
{
	const size_t end = first + count;

	if (kind == ACT_F32) {
		memcpy((float *)dst + first, x + first, count * sizeof(float));
		return;
	}
	assert(kind == ACT_Q8_0 || kind == ACT_Q8_K);
	for (size_t i = first; i < end; i += 256) {
		if (kind == ACT_Q8_K) {
			quantize_super(x + i, (struct act_super *)dst + i / 256);
			continue;
		}

		struct act_group *g = (struct act_group *)dst + i / 256;
		const unsigned blocks = (unsigned)(u64_min(end - i, 256) / 32);

		if (blocks < 8)
			memset(g, 0, sizeof(*g));
		for (unsigned j = 0; j < blocks; j++)
			quantize_block(x + i + 32 * j, g, j);
	}
}

void avx2_act_quantize(enum act_kind kind, const float *x, size_t n, void *dst)
{
	avx2_act_quantize_part(kind, x, n, dst, 0, n);
}
