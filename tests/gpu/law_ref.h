/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/law_ref.h: what the law of kernels/quant.h gives on the CPU, for tests of kernels that
 * promise the same bits: int8 rows by the scalar rules, products and activations by every level that
 * this machine has. A NaN equals a NaN.
 */
#ifndef SLUICE_TESTS_GPU_LAW_REF_H
#define SLUICE_TESTS_GPU_LAW_REF_H

#include "tests/gpu/values.h"

extern "C" {
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/fops.h"
#include "kernels/cpu/scalar.h"
}
#include "kernels/cuda/ops.h"
#include "kernels/quant.h"

static inline bool is_float(uint32_t type)
{
	return type == QUANT_F32 || type == QUANT_F16 || type == QUANT_BF16;
}

static inline void check_law(const char *what, const float *got, const float *want, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		values_checks++;
		if (memcmp(got + i, want + i, 4) && !(isnan(got[i]) && isnan(want[i])) &&
		    values_fault(what, i))
			fprintf(stderr, "%a where the law gives %a\n", got[i], want[i]);
	}
}

/* Rows of @n floats to @form as ops.h lays them out; padding is 0. */
static inline std::vector<uint8_t> law_act(enum cuda_input form, const std::vector<float> &x,
					   size_t n)
{
	const size_t rows = x.size() / n, each = form == CUDA_IN_Q8_K ? 256 : 32;
	std::vector<uint8_t> act(rows * cuda_act_bytes(n));

	for (size_t at = 0; at < x.size(); at += each) {
		uint8_t *row = act.data() + at / n * cuda_act_bytes(n);
		const size_t i = at % n;
		struct act256 k;
		struct act32 b;

		if (each == 256)
			scalar_quantize256(x.data() + at, &k);
		else
			scalar_quantize32(x.data() + at, &b);
		memcpy(row + i, each == 256 ? k.q : b.q, each);
		for (size_t j = 0; j < each; j += 16) {
			int16_t s = 0;

			for (size_t m = j; m < j + 16; m++)
				s = (int16_t)(s + (int8_t)row[i + m]);
			memcpy(row + n + n / 32 * 4 + (i + j) / 16 * 2, &s, 2);
			memcpy(row + n + (i + j) / 32 * 4, each == 256 ? &k.d : &b.d, 4);
		}
	}
	return act;
}

/* The int8 rows @act of @x, all but the padding */
static inline void check_act(const char *what, enum cuda_input form, const std::vector<float> &x,
			     size_t n, const std::vector<uint8_t> &act)
{
	const std::vector<uint8_t> want = law_act(form, x, n);
	const size_t d = n, s = n + n / 32 * 4;

	for (size_t at = 0; at < act.size(); at += cuda_act_bytes(n)) {
		check_bits(what, act.data() + at, want.data() + at, n);
		check_law(what, (const float *)(act.data() + at + d),
			  (const float *)(want.data() + at + d), n / 32);
		check_bits(what, act.data() + at + s, want.data() + at + s, n / 16 * 2);
	}
}

/* y[c * rows + r] = row r . x[c] by @ops */
static inline std::vector<float> law_product(const struct cpu_ops *ops, uint32_t type,
					     const uint8_t *w, size_t row_bytes, size_t n,
					     size_t rows, const std::vector<float> &x)
{
	const enum act_kind kind = quant_format(type)->act;
	const size_t cols = x.size() / n, bytes = ops->act_bytes(kind, n);
	const size_t scratch = (ops->matmul_scratch_bytes(n) + 63) / 64 * 64;
	uint8_t *const mem = (uint8_t *)aligned_alloc(64, cols * bytes + scratch);
	std::vector<float> y(rows * cols);
	std::vector<const void *> in(cols);
	std::vector<float *> out(cols);
	struct matmul m = {};

	for (size_t c = 0; c < cols; c++) {
		ops->act_quantize(kind, x.data() + c * n, n, mem + c * bytes);
		in[c] = mem + c * bytes;
		out[c] = y.data() + c * rows;
	}
	m.type = type;
	m.w = w;
	m.row_bytes = row_bytes;
	m.n = n;
	m.row1 = rows;
	m.x = in.data();
	m.y = out.data();
	m.cols = cols;
	m.scratch = mem + cols * bytes;
	ops->matmul(&m);
	free(mem);
	return y;
}

/* Every level here against @y, column c at y + c * ldy */
static inline void check_product(uint32_t type, const uint8_t *w, size_t row_bytes, size_t n,
				 size_t rows, const std::vector<float> &x, const float *y,
				 size_t ldy)
{
	for (int l = 0; l < CPU_LEVEL_NR; l++) {
		const struct cpu_ops *ops = cpu_ops_get((enum cpu_level)l);

		if (!ops)
			continue;
		const std::vector<float> want = law_product(ops, type, w, row_bytes, n, rows, x);
		for (size_t c = 0; c < x.size() / n; c++)
			check_law(quant_name(type), y + c * ldy, want.data() + c * rows, rows);
	}
}

#endif
