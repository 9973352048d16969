/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/scalar_iq.c: super-blocks of IQ1, IQ2, IQ3 and the ternary formats -> integers and
 * scales (see scalar.h): the readable definition that the other levels are tested against. Every
 * scale that these formats write as a fraction is made whole, and d takes the power of two: exact.
 * Reads exactly the bytes of the block; any thread.
 */
#include <stdbool.h>

#include "base/num.h"
#include "kernels/cpu/grids.h"
#include "kernels/cpu/scalar.h"
#include "kernels/quant.h"

static uint32_t half_word(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t word(const uint8_t *p)
{
	return half_word(p) | half_word(p + 2) << 16;
}

static float half_at(const uint8_t *p)
{
	return f32_from_f16((uint16_t)half_word(p));
}

/* @n values from a table's entry, negative where a sign bit is set */
static void signed_values(uint64_t values, uint32_t signs, int8_t *q, int n)
{
	for (int i = 0; i < n; i++) {
		int v = (int)(values >> 8 * i & 255);

		q[i] = (int8_t)(signs >> i & 1 ? -v : v);
	}
}

/* 2s + 1 for the four bits of 16 groups, low nibble first */
static void odd_nibbles(const uint8_t *scales, struct block256 *b)
{
	for (int g = 0; g < 16; g++)
		b->scale[g] = (int16_t)(2 * (scales[g / 2] >> 4 * (g % 2) & 15) + 1);
}

/* Per 32 weights: four indices of eight, then four times seven signs and a scale of four bits. */
static void unpack_iq2_xxs(const uint8_t *src, struct block256 *b)
{
	b->d = half_at(src) * 0.125f;
	for (int s = 0; s < 8; s++) {
		const uint8_t *index = src + 2 + 8 * s;
		const uint32_t rest = word(index + 4);

		b->scale[2 * s] = b->scale[2 * s + 1] = (int16_t)(2 * (rest >> 28) + 1);
		for (int k = 0; k < 4; k++)
			signed_values(grid_iq2_xxs[index[k]], grid_signs(rest >> 7 * k & 127),
				      b->q + 32 * s + 8 * k, 8);
	}
}

/* Per 8 weights: an index of nine bits and seven signs; then the scales of 16 weights each. */
static void unpack_iq2_xs(const uint8_t *src, struct block256 *b)
{
	b->d = half_at(src) * 0.125f;
	odd_nibbles(src + 66, b);
	for (int k = 0; k < 32; k++) {
		const uint32_t v = half_word(src + 2 + 2 * k);

		signed_values(grid_iq2_xs[v & 511], grid_signs(v >> 9), b->q + 8 * k, 8);
	}
}

/* Indices' low bytes, signs, indices' two high bits, scales. */
static void unpack_iq2_s(const uint8_t *src, struct block256 *b)
{
	b->d = half_at(src) * 0.125f;
	odd_nibbles(src + 74, b);
	for (int k = 0; k < 32; k++) {
		const uint32_t high = src[66 + k / 4] >> 2 * (k % 4) & 3;

		signed_values(grid_iq2_s[src[2 + k] | high << 8], src[34 + k], b->q + 8 * k, 8);
	}
}

/* 64 indices of four weights; per 32 weights four times seven signs and a scale of four bits. */
static void unpack_iq3_xxs(const uint8_t *src, struct block256 *b)
{
	b->d = half_at(src) * 0.25f;
	for (int s = 0; s < 8; s++) {
		const uint32_t rest = word(src + 66 + 4 * s);

		b->scale[2 * s] = b->scale[2 * s + 1] = (int16_t)(2 * (rest >> 28) + 1);
		for (int k = 0; k < 8; k++)
			signed_values(grid_iq3_xxs[src[2 + 8 * s + k]],
				      grid_signs(rest >> 7 * (k / 2) & 127) >> 4 * (k % 2),
				      b->q + 32 * s + 4 * k, 4);
	}
}

/* Indices' low bytes, their ninth bits, signs, scales of 32 weights each. */
static void unpack_iq3_s(const uint8_t *src, struct block256 *b)
{
	b->d = half_at(src);
	for (int g = 0; g < 16; g++)
		b->scale[g] = (int16_t)(2 * (src[106 + g / 4] >> 4 * (g / 2 % 2) & 15) + 1);
	for (int k = 0; k < 64; k++) {
		const uint32_t high = src[66 + k / 8] >> (k % 8) & 1;

		signed_values(grid_iq3_s[src[2 + k] | high << 8], src[74 + k / 2] >> 4 * (k % 2),
			      b->q + 4 * k, 4);
	}
}

/* Eight values of -1, 0, 1, all moved by an eighth up or down: in eighths. */
static void moved_values(uint32_t index, bool down, int8_t *q)
{
	for (int i = 0; i < 8; i++)
		q[i] = (int8_t)((int8_t)(grid_iq1[index] >> 8 * i) + (down ? -1 : 1));
}

/* Indices' low bytes; per 32 weights four times three high bits, a scale of three, a direction. */
static void unpack_iq1_s(const uint8_t *src, struct block256 *b)
{
	b->d = half_at(src) * 0.125f;
	for (int k = 0; k < 32; k++) {
		const uint32_t h = half_word(src + 34 + k / 4 * 2);

		b->scale[k / 2] = (int16_t)(2 * (h >> 12 & 7) + 1);
		moved_values(src[k + 2] | (h >> 3 * (k % 4) & 7) << 8, h >> 15, b->q + 8 * k);
	}
}

/*
 * Indices' low bytes; per 8 weights three high bits and a direction; scales of three bits per 16
 * weights, four to a word of 16 bits, whose top nibbles are the half d.
 */
static void unpack_iq1_m(const uint8_t *src, struct block256 *b)
{
	uint32_t d = 0;

	for (int i = 0; i < 4; i++)
		d |= half_word(src + 48 + 2 * i) >> 12 << 4 * i;
	b->d = f32_from_f16((uint16_t)d) * 0.125f;
	for (int g = 0; g < 16; g++)
		b->scale[g] =
			(int16_t)(2 * (half_word(src + 48 + g / 4 * 2) >> 3 * (g % 4) & 7) + 1);
	for (int k = 0; k < 32; k++) {
		const uint32_t h = (uint32_t)src[32 + k / 2] >> 4 * (k % 2);

		moved_values(src[k] | (h & 7) << 8, h & 8, b->q + 8 * k);
	}
}

/* The n'th of a byte's digits to base three, less one: the byte is a fraction of 256. */
static int8_t digit(uint8_t byte, int n)
{
	static const uint8_t power[] = { 1, 3, 9, 27, 81 };

	return (int8_t)(((uint8_t)(byte * power[n]) * 3 >> 8) - 1);
}

/* 32 bytes of five digits, 16 of five, 4 of four; a digit's place goes before the byte's. */
static void unpack_tq1_0(const uint8_t *src, struct block256 *b)
{
	b->d = half_at(src + 52);
	for (int i = 0; i < 160; i++)
		b->q[i] = digit(src[i % 32], i / 32);
	for (int i = 0; i < 80; i++)
		b->q[160 + i] = digit(src[32 + i % 16], i / 16);
	for (int i = 0; i < 16; i++)
		b->q[240 + i] = digit(src[48 + i % 4], i / 4);
}

static void unpack_tq2_0(const uint8_t *src, struct block256 *b)
{
	b->d = half_at(src + 64);
	for (int i = 0; i < 256; i++)
		b->q[i] = (int8_t)((src[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3) - 1);
}

void scalar_unpack_iq(uint32_t type, const uint8_t *src, struct block256 *b)
{
	b->dmin = 0;
	for (int g = 0; g < 16; g++) {
		b->scale[g] = 1;
		b->min[g] = 0;
	}
	switch (type) {
	case QUANT_IQ2_XXS:
		unpack_iq2_xxs(src, b);
		return;
	case QUANT_IQ2_XS:
		unpack_iq2_xs(src, b);
		return;
	case QUANT_IQ2_S:
		unpack_iq2_s(src, b);
		return;
	case QUANT_IQ3_XXS:
		unpack_iq3_xxs(src, b);
		return;
	case QUANT_IQ3_S:
		unpack_iq3_s(src, b);
		return;
	case QUANT_IQ1_S:
		unpack_iq1_s(src, b);
		return;
	case QUANT_IQ1_M:
		unpack_iq1_m(src, b);
		return;
	case QUANT_TQ1_0:
		unpack_tq1_0(src, b);
		return;
	default:
		unpack_tq2_0(src, b);
		return;
	}
}
