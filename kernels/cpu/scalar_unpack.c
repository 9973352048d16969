/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/scalar_unpack.c: bytes of a block -> integers and scales (see scalar.h), one function
 * per format: the readable definition that the other levels are tested against. Reads exactly the
 * bytes of the block; refuses nothing: the caller names a format that exists. Any thread.
 */
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/scalar.h"
#include "kernels/quant.h"

static const int8_t iq4_values[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
				       1,    13,   25,	38,  53,  69,  89,  113 };
/* twice the E2M1 value, so that all are integers; the scale below is halved for it */
static const int8_t mxfp4_values[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

static float half_at(const uint8_t *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof(h));
	return f32_from_f16(h);
}

/* Low nibbles are elements 0..15, high nibbles 16..31. */
static void nibbles32(const uint8_t *qs, int8_t *q)
{
	for (int j = 0; j < 16; j++) {
		q[j] = (int8_t)(qs[j] & 15);
		q[j + 16] = (int8_t)(qs[j] >> 4);
	}
}

static void add_fifth_bits(const uint8_t *qh, int8_t *q)
{
	for (int j = 0; j < 32; j++)
		q[j] = (int8_t)(q[j] | ((qh[j / 8] >> (j % 8)) & 1) << 4);
}

static void offset32(int8_t *q, int by)
{
	for (int j = 0; j < 32; j++)
		q[j] = (int8_t)(q[j] - by);
}

static void lookup(const int8_t *table, int8_t *q, int n)
{
	for (int j = 0; j < n; j++)
		q[j] = table[q[j]];
}

void scalar_unpack32(uint32_t type, const uint8_t *src, struct block32 *b)
{
	b->min = 0;
	switch (type) {
	case QUANT_Q4_0:
		b->scale = half_at(src);
		nibbles32(src + 2, b->q);
		offset32(b->q, 8);
		return;
	case QUANT_Q4_1:
		b->scale = half_at(src);
		b->min = half_at(src + 2);
		nibbles32(src + 4, b->q);
		return;
	case QUANT_Q5_0:
		b->scale = half_at(src);
		nibbles32(src + 6, b->q);
		add_fifth_bits(src + 2, b->q);
		offset32(b->q, 16);
		return;
	case QUANT_Q5_1:
		b->scale = half_at(src);
		b->min = half_at(src + 2);
		nibbles32(src + 8, b->q);
		add_fifth_bits(src + 4, b->q);
		return;
	case QUANT_Q8_0:
		b->scale = half_at(src);
		memcpy(b->q, src + 2, 32);
		return;
	case QUANT_IQ4_NL:
		b->scale = half_at(src);
		nibbles32(src + 2, b->q);
		lookup(iq4_values, b->q, 32);
		return;
	default: /* QUANT_MXFP4: E8M0 scale */
		b->scale = ldexpf(1.0f, src[0] - 128);
		nibbles32(src + 1, b->q);
		lookup(mxfp4_values, b->q, 32);
		return;
	}
}

/* Q2_K and Q3_K: per half of 128, four shifts, each over 32 bytes; two groups of 16 a shift. */
static void two_bits(const uint8_t *qs, int8_t *q)
{
	for (int i = 0; i < 256; i++) {
		int half = i / 128, shift = i % 128 / 32 * 2;

		q[i] = (int8_t)((qs[half * 32 + i % 32] >> shift) & 3);
	}
}

static void unpack_q2_k(const uint8_t *src, struct block256 *b)
{
	for (int g = 0; g < 16; g++) {
		b->scale[g] = src[g] & 15;
		b->min[g] = src[g] >> 4;
	}
	two_bits(src + 16, b->q);
	b->d = half_at(src + 80);
	b->dmin = half_at(src + 82);
}

static void unpack_q3_k(const uint8_t *src, struct block256 *b)
{
	const uint8_t *hmask = src, *scales = src + 96;

	two_bits(src + 32, b->q);
	for (int i = 0; i < 256; i++) {
		int bit = i / 128 * 4 + i % 128 / 32;

		if (!((hmask[i % 32] >> bit) & 1))
			b->q[i] = (int8_t)(b->q[i] - 4);
	}
	for (int g = 0; g < 16; g++) {
		int low = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4;
		int high = (scales[8 + g % 4] >> (2 * (g / 4))) & 3;

		b->scale[g] = (int16_t)((low | high << 4) - 32);
		b->min[g] = 0;
	}
	b->d = half_at(src + 108);
	b->dmin = 0;
}

/* Q4_K and Q5_K: twelve bytes hold eight 6-bit scales and eight 6-bit minima. */
static void scales_k4(const uint8_t *s, struct block256 *b)
{
	for (int j = 0; j < 8; j++) {
		int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
		int min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;

		b->scale[2 * j] = b->scale[2 * j + 1] = (int16_t)scale;
		b->min[2 * j] = b->min[2 * j + 1] = (int16_t)min;
	}
}

/* Four chunks of 64: low nibbles of 32 bytes, then their high nibbles. */
static void nibbles256(const uint8_t *qs, int8_t *q)
{
	for (int i = 0; i < 256; i++) {
		uint8_t byte = qs[i / 64 * 32 + i % 32];

		q[i] = (int8_t)(i % 64 < 32 ? byte & 15 : byte >> 4);
	}
}

static void unpack_q4_k(const uint8_t *src, struct block256 *b)
{
	b->d = half_at(src);
	b->dmin = half_at(src + 2);
	scales_k4(src + 4, b);
	nibbles256(src + 16, b->q);
}

static void unpack_q5_k(const uint8_t *src, struct block256 *b)
{
	const uint8_t *qh = src + 16;

	b->d = half_at(src);
	b->dmin = half_at(src + 2);
	scales_k4(src + 4, b);
	nibbles256(src + 48, b->q);
	for (int i = 0; i < 256; i++)
		b->q[i] = (int8_t)(b->q[i] | ((qh[i % 32] >> (i / 32)) & 1) << 4);
}

static void unpack_q6_k(const uint8_t *src, struct block256 *b)
{
	for (int i = 0; i < 256; i++) {
		int half = i / 128, quarter = i % 128 / 32, l = i % 32;
		uint8_t low = src[64 * half + l + 32 * (quarter & 1)];
		uint8_t high = src[128 + 32 * half + l];
		int nibble = quarter < 2 ? low & 15 : low >> 4;

		b->q[i] = (int8_t)((nibble | ((high >> (2 * quarter)) & 3) << 4) - 32);
	}
	for (int g = 0; g < 16; g++) {
		b->scale[g] = (int8_t)src[192 + g];
		b->min[g] = 0;
	}
	b->d = half_at(src + 208);
	b->dmin = 0;
}

static void unpack_iq4_xs(const uint8_t *src, struct block256 *b)
{
	int high = src[2] | src[3] << 8;

	b->d = half_at(src);
	b->dmin = 0;
	for (int s = 0; s < 8; s++) {
		int low = (src[4 + s / 2] >> (4 * (s & 1))) & 15;
		int16_t scale = (int16_t)((low | ((high >> (2 * s)) & 3) << 4) - 32);

		b->scale[2 * s] = b->scale[2 * s + 1] = scale;
		b->min[2 * s] = b->min[2 * s + 1] = 0;
		nibbles32(src + 8 + 16 * s, b->q + 32 * s);
	}
	lookup(iq4_values, b->q, 256);
}

void scalar_unpack256(uint32_t type, const uint8_t *src, struct block256 *b)
{
	switch (type) {
	case QUANT_Q2_K:
		unpack_q2_k(src, b);
		return;
	case QUANT_Q3_K:
		unpack_q3_k(src, b);
		return;
	case QUANT_Q4_K:
		unpack_q4_k(src, b);
		return;
	case QUANT_Q5_K:
		unpack_q5_k(src, b);
		return;
	case QUANT_Q6_K:
		unpack_q6_k(src, b);
		return;
	case QUANT_IQ4_XS:
		unpack_iq4_xs(src, b);
		return;
	default:
		scalar_unpack_iq(type, src, b);
		return;
	}
}
