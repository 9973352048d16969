/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/unpack_avx2.c: blocks to bytes with AVX2 (see avx2.h): the formats of published
 * mixtures by hand, the rest through the reference.
 */
#include <immintrin.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/avx2.h"
#include "kernels/quant.h"

static inline float half_at(const uint8_t *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof(h));
	return _cvtsh_ss(h);
}

/* 16 bytes -> 32 nibbles: the low ones first, then the high ones. */
static inline __m256i nibbles(const uint8_t *qs)
{
	__m128i v = _mm_loadu_si128((const __m128i *)qs);
	__m256i both = _mm256_set_m128i(_mm_srli_epi16(v, 4), v);

	return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* 32 bits -> 32 bytes that are @set where the bit is 1, else 0. */
static inline __m256i spread_bits(const uint8_t *qh, int8_t set)
{
	const __m256i which =
		_mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
	uint32_t bits;
	__m256i v;

	memcpy(&bits, qh, sizeof(bits));
	v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), which), bit);
	return _mm256_and_si256(_mm256_cmpeq_epi8(v, bit), _mm256_set1_epi8(set));
}

static inline void store(struct block32 *b, __m256i q)
{
	_mm256_storeu_si256((__m256i *)b->q, q);
}

void avx2_unpack32(uint32_t type, const uint8_t *src, struct block32 *b)
{
	static const int8_t iq4_values[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
					       1,    13,   25,	38,  53,  69,  89,  113 };
	__m256i table, high;

	b->min = 0;
	switch (type) {
	case QUANT_Q8_0:
		b->scale = half_at(src);
		store(b, _mm256_loadu_si256((const __m256i *)(src + 2)));
		return;
	case QUANT_Q4_0:
		b->scale = half_at(src);
		store(b, _mm256_sub_epi8(nibbles(src + 2), _mm256_set1_epi8(8)));
		return;
	case QUANT_Q4_1:
		b->scale = half_at(src);
		b->min = half_at(src + 2);
		store(b, nibbles(src + 4));
		return;
	case QUANT_Q5_0:
		b->scale = half_at(src);
		high = _mm256_or_si256(nibbles(src + 6), spread_bits(src + 2, 16));
		store(b, _mm256_sub_epi8(high, _mm256_set1_epi8(16)));
		return;
	case QUANT_Q5_1:
		b->scale = half_at(src);
		b->min = half_at(src + 2);
		store(b, _mm256_or_si256(nibbles(src + 8), spread_bits(src + 4, 16)));
		return;
	case QUANT_IQ4_NL:
		b->scale = half_at(src);
		table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)iq4_values));
		store(b, _mm256_shuffle_epi8(table, nibbles(src + 2)));
		return;
	default:
		scalar_unpack32(type, src, b);
		return;
	}
}

/* Eight 6-bit scales and minima (Q4_K, Q5_K), spread as the products want them. */
static void scales_k4(const uint8_t *s, struct unpacked256 *b)
{
	uint32_t a, m, c;
	uint64_t scales, mins;
	uint8_t byte[16];

	memcpy(&a, s, 4);
	memcpy(&m, s + 4, 4);
	memcpy(&c, s + 8, 4);
	scales = (a & 0x3f3f3f3f) | (uint64_t)((c & 0x0f0f0f0f) | ((a >> 2) & 0x30303030)) << 32;
	mins = (m & 0x3f3f3f3f) | (uint64_t)(((c >> 4) & 0x0f0f0f0f) | ((m >> 2) & 0x30303030))
					  << 32;
	memcpy(byte, &scales, 8);
	memcpy(byte + 8, &mins, 8);
	for (int j = 0; j < 8; j++)
		_mm256_store_si256((__m256i *)b->scale[j], _mm256_set1_epi16(byte[j]));
	{
		/* each minimum twice: it belongs to two groups of 16 */
		__m128i v = _mm_loadl_epi64((const __m128i *)(byte + 8));

		_mm256_store_si256((__m256i *)b->min,
				   _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(v, v)));
	}
}

static void unpack_q4_k(const uint8_t *src, struct unpacked256 *b)
{
	const __m256i low = _mm256_set1_epi8(15);

	b->d = half_at(src);
	b->dmin = half_at(src + 2);
	scales_k4(src + 4, b);
	for (int c = 0; c < 4; c++) {
		__m256i v = _mm256_loadu_si256((const __m256i *)(src + 16 + 32 * c));

		_mm256_store_si256((__m256i *)b->q + 2 * c, _mm256_and_si256(v, low));
		_mm256_store_si256((__m256i *)b->q + 2 * c + 1,
				   _mm256_and_si256(_mm256_srli_epi16(v, 4), low));
	}
}

static void unpack_q5_k(const uint8_t *src, struct unpacked256 *b)
{
	__m256i high = _mm256_loadu_si256((const __m256i *)(src + 16));
	const __m256i one = _mm256_set1_epi8(1);

	unpack_q4_k(src, b); /* d, dmin and scales lie alike; the nibbles are written again */
	for (int k = 0; k < 8; k++) {
		__m256i v = _mm256_loadu_si256((const __m256i *)(src + 48 + k / 2 * 32));
		__m256i bit = _mm256_and_si256(_mm256_srli_epi16(high, k), one);

		v = _mm256_and_si256(k & 1 ? _mm256_srli_epi16(v, 4) : v, _mm256_set1_epi8(15));
		_mm256_store_si256((__m256i *)b->q + k,
				   _mm256_or_si256(v, _mm256_slli_epi16(bit, 4)));
	}
}

/* Sixteen scales, one per group of 16, spread over the pairs. */
static void spread_scales(const int16_t *scale, struct unpacked256 *b)
{
	for (int k = 0; k < 8; k++)
		_mm256_store_si256((__m256i *)b->scale[k],
				   _mm256_set_m128i(_mm_set1_epi16(scale[2 * k + 1]),
						    _mm_set1_epi16(scale[2 * k])));
}

static void unpack_q6_k(const uint8_t *src, struct unpacked256 *b)
{
	const __m256i low = _mm256_set1_epi8(15), two = _mm256_set1_epi8(0x30);
	int16_t scale[16];

	b->d = half_at(src + 208);
	b->dmin = 0;
	for (int half = 0; half < 2; half++) {
		__m256i h = _mm256_loadu_si256((const __m256i *)(src + 128 + 32 * half));

		for (int k = 0; k < 4; k++) {
			__m256i v = _mm256_loadu_si256(
				(const __m256i *)(src + 64 * half + 32 * (k & 1)));
			__m256i bits = k < 2 ? _mm256_slli_epi16(h, 4 - 2 * k)
					     : _mm256_srli_epi16(h, 2 * k - 4);

			v = _mm256_and_si256(k < 2 ? v : _mm256_srli_epi16(v, 4), low);
			v = _mm256_or_si256(v, _mm256_and_si256(bits, two));
			_mm256_store_si256((__m256i *)b->q + 4 * half + k,
					   _mm256_sub_epi8(v, _mm256_set1_epi8(32)));
		}
	}
	for (int g = 0; g < 16; g++)
		scale[g] = (int8_t)src[192 + g];
	spread_scales(scale, b);
}

/* Through the reference: right, and fast enough for formats that few files use throughout. */
static void unpack_other(uint32_t type, const uint8_t *src, struct unpacked256 *b)
{
	struct block256 s;

	scalar_unpack256(type, src, &s);
	b->d = s.d;
	b->dmin = s.dmin;
	memcpy(b->q, s.q, sizeof(b->q));
	memcpy(b->min, s.min, sizeof(b->min));
	spread_scales(s.scale, b);
}

void avx2_unpack256(uint32_t type, const uint8_t *src, struct unpacked256 *b)
{
	b->has_min = type == QUANT_Q2_K || type == QUANT_Q4_K || type == QUANT_Q5_K;
	switch (type) {
	case QUANT_Q4_K:
		unpack_q4_k(src, b);
		return;
	case QUANT_Q5_K:
		unpack_q5_k(src, b);
		return;
	case QUANT_Q6_K:
		unpack_q6_k(src, b);
		return;
	default:
		unpack_other(type, src, b);
		return;
	}
}
