/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/ops_scalar.c: the reference level. What a format means is unpacked in one place
 * (scalar_unpack.c); here are dequantising, activation quantising and the product, each once.
 *
 * Product of a quantised row: everything inside a block is exact integer arithmetic, one float
 * step per block, blocks in order; a column never sees its neighbours.
 */
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/scalar.h"

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

/* The bits of |x|: ordered as the magnitudes are, above them infinity and then the NaNs. */
static uint32_t magnitude(float x)
{
	return f32_bits(x) & 0x7fffffff;
}

void scalar_quantize32(const float *x, struct act32 *a)
{
	uint32_t bits = 0;
	float most, inverse;

	for (int i = 0; i < 32; i++)
		bits = magnitude(x[i]) > bits ? magnitude(x[i]) : bits;
	if (bits >= F32_INFINITE) {
		memset(a, 0, sizeof(*a));
		a->d = NAN;
		return;
	}
	most = f32_from_bits(bits);
	a->d = most / 127.0f;
	inverse = a->d > 0 ? 1.0f / a->d : 0.0f;
	a->sum = 0;
	for (int i = 0; i < 32; i++) {
		float q = roundf(x[i] * inverse);

		/* the reciprocal of a subnormal scale can overflow */
		a->q[i] = (int8_t)fminf(fmaxf(q, -127.0f), 127.0f);
		a->sum += a->q[i];
	}
}

void scalar_quantize256(const float *x, struct act256 *a)
{
	float at = 0, inverse;
	uint32_t most = 0;

	for (int i = 0; i < 256; i++)
		if (magnitude(x[i]) > most) {
			most = magnitude(x[i]);
			at = x[i];
		}
	if (most >= F32_INFINITE) {
		memset(a, 0, sizeof(*a));
		a->d = NAN;
		return;
	}
	inverse = at != 0 ? -127.0f / at : 0.0f;
	if (at == 0 || isinf(inverse)) {
		memset(a, 0, sizeof(*a));
		return;
	}
	a->d = 1.0f / inverse;
	for (int g = 0; g < 16; g++) {
		int sum = 0;

		for (int i = 16 * g; i < 16 * g + 16; i++) {
			float q = rintf(x[i] * inverse);

			a->q[i] = (int8_t)fminf(fmaxf(q, -127.0f), 127.0f);
			sum += a->q[i];
		}
		a->sum[g] = (int16_t)sum;
	}
}

static void act_quantize_part(enum act_kind kind, const float *x, size_t n, void *dst, size_t first,
			      size_t count)
{
	switch (kind) {
	case ACT_Q8_0:
		for (size_t b = first / 32; b < (first + count) / 32; b++)
			scalar_quantize32(x + 32 * b, (struct act32 *)dst + b);
		return;
	case ACT_Q8_K:
		for (size_t b = first / 256; b < (first + count) / 256; b++)
			scalar_quantize256(x + 256 * b, (struct act256 *)dst + b);
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

static float float_weight(uint32_t type, const uint8_t *row, size_t i)
{
	uint16_t h;
	float f;

	if (type == QUANT_F32) {
		memcpy(&f, row + 4 * i, sizeof(f));
		return f;
	}
	memcpy(&h, row + 2 * i, sizeof(h));
	return type == QUANT_F16 ? f32_from_f16(h) : f32_from_bf16(h);
}

static void dequantize256(const struct block256 *b, float *dst)
{
	for (int i = 0; i < 256; i++) {
		/* the products of scales are rounded first, as the formats' writers do */
		float scale = b->d * b->scale[i / 16];
		float min = b->dmin * b->min[i / 16];

		dst[i] = scale * b->q[i] - min;
	}
}

void scalar_dequantize(uint32_t type, const void *src, float *dst, size_t n)
{
	const struct quant_format *f = quant_format(type);
	const uint8_t *at = src;

	for (size_t i = 0; i < n && f->block == 1; i++)
		dst[i] = float_weight(type, src, i);
	for (size_t i = 0; i < n && f->block == 32; i += 32, at += f->bytes) {
		struct block32 b;

		scalar_unpack32(type, at, &b);
		for (int j = 0; j < 32; j++) {
			dst[i + j] = b.scale * b.q[j];
			if (type == QUANT_Q4_1 || type == QUANT_Q5_1) /* -0 + 0 would lose a sign */
				dst[i + j] += b.min;
		}
	}
	for (size_t i = 0; i < n && f->block == 256; i += 256, at += f->bytes) {
		struct block256 b;

		scalar_unpack256(type, at, &b);
		dequantize256(&b, dst + i);
	}
}

static float dot32(const struct block32 *b, const struct act32 *a, float sum)
{
	int dot = 0;

	for (int j = 0; j < 32; j++)
		dot += b->q[j] * a->q[j];
	sum = fmaf(b->scale * a->d, (float)dot, sum);
	return fmaf(b->min * a->d, (float)a->sum, sum);
}

static float dot256(const struct block256 *b, const struct act256 *a, float sum)
{
	int dot = 0, mins = 0;

	for (int g = 0; g < 16; g++) {
		int part = 0;

		for (int i = 16 * g; i < 16 * g + 16; i++)
			part += b->q[i] * a->q[i];
		dot += b->scale[g] * part;
		mins += b->min[g] * a->sum[g];
	}
	sum = fmaf(b->d * a->d, (float)dot, sum);
	return fmaf(-(b->dmin * a->d), (float)mins, sum);
}

/* Blocks outside, columns inside: a block is unpacked once for all columns. */
static void row_times_columns(const struct matmul *m, const struct quant_format *f,
			      const uint8_t *row, size_t r)
{
	for (size_t c = 0; c < m->cols; c++)
		m->y[c][r] = 0;
	for (size_t i = 0; i < m->n; i += f->block, row += f->bytes) {
		struct block32 b32;
		struct block256 b256;

		if (f->block == 32) {
			scalar_unpack32(m->type, row, &b32);
			for (size_t c = 0; c < m->cols; c++)
				m->y[c][r] = dot32(&b32, (const struct act32 *)m->x[c] + i / 32,
						   m->y[c][r]);
		} else {
			scalar_unpack256(m->type, row, &b256);
			for (size_t c = 0; c < m->cols; c++)
				m->y[c][r] = dot256(&b256, (const struct act256 *)m->x[c] + i / 256,
						    m->y[c][r]);
		}
	}
}

static float float_dot(uint32_t type, const uint8_t *row, const float *x, size_t n)
{
	float sum[16] = { 0 };

	for (size_t i = 0; i < n; i++)
		sum[i % 16] = fmaf(float_weight(type, row, i), x[i], sum[i % 16]);
	for (size_t half = 8; half; half /= 2)
		for (size_t i = 0; i < half; i++)
			sum[i] += sum[i + half];
	return sum[0];
}

static void matmul(const struct matmul *m)
{
	const struct quant_format *f = quant_format(m->type);

	for (size_t r = m->row0; r < m->row1; r++) {
		const uint8_t *row = (const uint8_t *)m->w + r * m->row_bytes;

		if (f->block > 1) {
			row_times_columns(m, f, row, r);
			continue;
		}
		for (size_t c = 0; c < m->cols; c++)
			m->y[c][r] = float_dot(m->type, row, m->x[c], m->n);
	}
}

static size_t matmul_scratch_bytes(size_t n)
{
	return 64;
}

const struct cpu_ops cpu_ops_scalar = {
	.level = CPU_SCALAR,
	.name = "scalar",
	.dequantize = scalar_dequantize,
	.act_bytes = act_bytes,
	.act_quantize = act_quantize,
	.act_quantize_part = act_quantize_part,
	.matmul = matmul,
	.matmul_scratch_bytes = matmul_scratch_bytes,
	.row_tile = 16,
};
