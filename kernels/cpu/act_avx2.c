/* SPDX-License-Identifier: MIT */
/* kernels/cpu/act_avx2.c: activations to 8 bits, the rules of scalar.h eight at a time. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/avx2.h"

static inline __m256 magnitude(__m256 x)
{
	return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

static float largest(__m256 v)
{
	__m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	m = _mm_max_ps(m, _mm_movehl_ps(m, m));
	return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/* 32 values in four vectors of 32-bit integers -> 32 bytes in order. */
static __m256i pack32(const __m256i v[4])
{
	__m256i low = _mm256_packs_epi32(v[0], v[1]), high = _mm256_packs_epi32(v[2], v[3]);
	const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);

	return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
}

void avx2_quantize32(const float *x, struct act32 *a)
{
	/* half away from zero: add the float below one half with x's sign, then cut */
	const __m256 half = _mm256_set1_ps(0x1.fffffep-2f), sign = _mm256_set1_ps(-0.0f);
	const __m256 most = _mm256_set1_ps(127.0f), least = _mm256_set1_ps(-127.0f);
	__m256 m = _mm256_setzero_ps(), inverse;
	__m256i q[4], bytes, sums;

	for (int k = 0; k < 4; k++)
		m = _mm256_max_ps(m, magnitude(_mm256_loadu_ps(x + 8 * k)));
	a->d = largest(m) / 127.0f;
	inverse = _mm256_set1_ps(a->d > 0 ? 1.0f / a->d : 0.0f);
	for (int k = 0; k < 4; k++) {
		__m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + 8 * k), inverse);

		v = _mm256_add_ps(v, _mm256_or_ps(half, _mm256_and_ps(v, sign)));
		v = _mm256_min_ps(_mm256_max_ps(v, least), most);
		q[k] = _mm256_cvttps_epi32(v);
	}
	bytes = pack32(q);
	_mm256_storeu_si256((__m256i *)a->q, bytes);
	sums = _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
	{
		int32_t s[8];

		_mm256_storeu_si256((__m256i *)s, sums);
		a->sum = s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
	}
}

/* The x of largest magnitude, the first of equals; 0 where all are 0. */
static float extreme(const float *x)
{
	__m256 m = _mm256_setzero_ps(), all;
	float most;

	for (int i = 0; i < 256; i += 8)
		m = _mm256_max_ps(m, magnitude(_mm256_loadu_ps(x + i)));
	most = largest(m);
	all = _mm256_set1_ps(most);
	for (int i = 0; i < 256; i += 8) {
		__m256 equal = _mm256_cmp_ps(magnitude(_mm256_loadu_ps(x + i)), all, _CMP_EQ_OQ);
		int mask = _mm256_movemask_ps(equal);

		if (mask)
			return x[i + __builtin_ctz((unsigned)mask)];
	}
	return 0;
}

void avx2_quantize256(const float *x, struct act256 *a)
{
	const __m256 most = _mm256_set1_ps(127.0f), least = _mm256_set1_ps(-127.0f);
	const __m256i ones8 = _mm256_set1_epi8(1), ones16 = _mm256_set1_epi16(1);
	float at = extreme(x), inverse = at != 0 ? -127.0f / at : 0.0f;

	if (at == 0 || isinf(inverse)) {
		memset(a, 0, sizeof(*a));
		return;
	}
	a->d = 1.0f / inverse;
	for (int i = 0; i < 256; i += 32) {
		__m256i q[4], bytes, pairs;
		int32_t s[8];

		for (int k = 0; k < 4; k++) {
			__m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i + 8 * k),
						 _mm256_set1_ps(inverse));

			v = _mm256_min_ps(_mm256_max_ps(v, least), most);
			q[k] = _mm256_cvtps_epi32(v); /* to nearest even, as rint */
		}
		bytes = pack32(q);
		_mm256_storeu_si256((__m256i *)(a->q + i), bytes);
		pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(ones8, bytes), ones16);
		_mm256_storeu_si256((__m256i *)s, pairs);
		a->sum[i / 16] = (int16_t)(s[0] + s[1] + s[2] + s[3]);
		a->sum[i / 16 + 1] = (int16_t)(s[4] + s[5] + s[6] + s[7]);
	}
}
