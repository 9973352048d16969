/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/blocks_ref.h: random rows of every weight format and what they are worth.
 *
 * Weights are dequantised by the CPU's scalar level, which has a proof of its own; the size of the
 * minimum's part, which bounds of products need, is what a block without quants is worth.
 */
#ifndef SLUICE_TESTS_GPU_BLOCKS_REF_H
#define SLUICE_TESTS_GPU_BLOCKS_REF_H

#include "tests/gpu/values.h"

extern "C" {
#include "kernels/cpu/cpu.h"
}
#include "kernels/cuda/ops.h"
#include "kernels/quant.h"

struct block_layout {
	uint32_t type;
	int half[2];	/* where halves lie, -1: none */
	int quants, to; /* bytes of quants of formats with a minimum, 0: no minimum */
};

static const struct block_layout block_layouts[] = {
	{ QUANT_F32, { -1, -1 }, 0, 0 },    { QUANT_F16, { -1, -1 }, 0, 0 },
	{ QUANT_BF16, { -1, -1 }, 0, 0 },   { QUANT_Q4_0, { 0, -1 }, 0, 0 },
	{ QUANT_Q4_1, { 0, 2 }, 4, 20 },    { QUANT_Q5_0, { 0, -1 }, 0, 0 },
	{ QUANT_Q5_1, { 0, 2 }, 4, 24 },    { QUANT_Q8_0, { 0, -1 }, 0, 0 },
	{ QUANT_Q2_K, { 80, 82 }, 16, 80 }, { QUANT_Q3_K, { 108, -1 }, 0, 0 },
	{ QUANT_Q4_K, { 0, 2 }, 16, 144 },  { QUANT_Q5_K, { 0, 2 }, 16, 176 },
	{ QUANT_Q6_K, { 208, -1 }, 0, 0 },  { QUANT_IQ4_NL, { 0, -1 }, 0, 0 },
	{ QUANT_IQ4_XS, { 0, -1 }, 0, 0 },  { QUANT_MXFP4, { -1, -1 }, 0, 0 },
};

/* @rows rows of @n weights, @row_bytes apart, the bytes between them random too */
static inline std::vector<uint8_t> random_rows(const struct block_layout *l, size_t rows, size_t n,
					       size_t row_bytes)
{
	const struct quant_format *f = quant_format(l->type);
	std::vector<uint8_t> w(rows * row_bytes);

	for (uint8_t &b : w)
		b = (uint8_t)random_u32();
	for (size_t r = 0; r < rows; r++)
		for (size_t i = 0; i < n / f->block; i++) {
			uint8_t *b = w.data() + r * row_bytes + i * f->bytes;
			const float x = random_float(1.0f);
			const uint16_t h = half_of(x);
			uint32_t bits;

			memcpy(&bits, &x, 4);
			for (int k = 0; k < 2 && l->half[k] >= 0; k++) {
				const uint16_t d = half_of(random_float(0.01f));

				memcpy(b + l->half[k], &d, 2);
			}
			if (l->type == QUANT_F32)
				memcpy(b, &x, 4);
			else if (l->type == QUANT_F16)
				memcpy(b, &h, 2);
			else if (l->type == QUANT_BF16)
				memcpy(b, (uint8_t *)&bits + 2, 2);
			else if (l->type == QUANT_MXFP4)
				b[0] = (uint8_t)(random_u32() % 16 + 115);
		}
	return w;
}

/* Weights of a row and, in @amplitude, |s q| + |m| of each or more. */
static inline std::vector<float> row_values(const struct block_layout *l, const uint8_t *row,
					    size_t n, std::vector<float> *amplitude)
{
	const struct quant_format *f = quant_format(l->type);
	std::vector<uint8_t> empty(row, row + n / f->block * f->bytes);
	std::vector<float> w(n), m(n, 0.0f);

	cpu_ops_scalar.dequantize(l->type, row, w.data(), n);
	if (l->to) {
		for (size_t i = 0; i < n / f->block; i++)
			memset(empty.data() + i * f->bytes + l->quants, 0,
			       (size_t)(l->to - l->quants));
		cpu_ops_scalar.dequantize(l->type, empty.data(), m.data(), n);
	}
	amplitude->resize(n);
	for (size_t i = 0; i < n; i++)
		(*amplitude)[i] = fabsf(w[i]) + 2 * fabsf(m[i]);
	return w;
}

#endif
