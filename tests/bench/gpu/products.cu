/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/products.cu: matrix-vector and tiled products by themselves, int8 quantisation.
 */
#include "tests/bench/gpu/bench.h"

#include <stdio.h>

static const std::vector<uint32_t> formats = {
	QUANT_Q4_K,   QUANT_Q5_K,   QUANT_Q6_K,	 QUANT_Q8_0, QUANT_BF16, QUANT_F16,
	QUANT_Q2_K,   QUANT_Q3_K,   QUANT_Q4_0,	 QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1,
	QUANT_IQ4_NL, QUANT_IQ4_XS, QUANT_MXFP4, QUANT_F32,
};

/* Columns in the form of @input, as the quantiser or nobody made them */
static void *columns(enum cuda_input input, size_t n, size_t cols)
{
	float *x = random_floats(n * cols);
	void *act;

	if (input == CUDA_IN_F32)
		return x;
	if (input != CUDA_IN_Q8_0 && input != CUDA_IN_Q8_K)
		return random_weights(n * cols * 2);
	act = device_bytes(cols * cuda_act_bytes(n));
	must(cuda_act_quantize(NULL, input, x, n, n, cols, act), "cuda_act_quantize");
	return act;
}

/* A product of rows x n weights, wherever they lie, and @cols columns made for it */
static struct cuda_product product(uint32_t type, enum cuda_input input, size_t rows, size_t n,
				   size_t cols)
{
	struct cuda_product p = {};

	p.type = type;
	p.row_bytes = quant_row_bytes(type, n);
	p.n = n;
	p.rows = rows;
	p.x = columns(input, n, cols);
	p.cols = cols;
	p.ldy = rows;
	p.y = (float *)device_bytes(rows * cols * 4);
	return p;
}

static std::string shape(const struct cuda_product &p, const char *what)
{
	char detail[96];

	snprintf(detail, sizeof(detail), "%s %s %zux%zu, %zu col", quant_name(p.type), what, p.rows,
		 p.n, p.cols);
	return detail;
}

static void matvec(const struct model &m, uint32_t type, const char *what, size_t rows, size_t n,
		   size_t cols)
{
	struct cuda_product p = product(type, cuda_matvec_input(type), rows, n, cols);
	const size_t bytes = rows * p.row_bytes;
	const int count = copies_of(bytes);
	uint8_t *w = random_weights(bytes * count);
	double us;

	us = time_launches(count, [&](cuda_stream s, int i) {
		p.w = w + i * bytes;
		return cuda_matvec(s, &p);
	});
	report({ "matvec", m.name, shape(p, what), us, (double)bytes, 2.0 * rows * n * cols,
		 machine_peaks().read, 0.0, 0.0 });
	release_all();
}

static void gemm(const struct model &m, uint32_t type, const char *what, size_t rows, size_t n,
		 size_t cols)
{
	const enum cuda_input input = cuda_gemm_input(type);
	const bool integer = input == CUDA_IN_Q8_0 || input == CUDA_IN_Q8_K;
	struct cuda_product p = product(type, cuda_gemm_input(type), rows, n, cols);
	double us, other;

	p.w = random_weights(rows * p.row_bytes);
	us = time_launches(4, [&](cuda_stream s, int) { return cuda_gemm(s, &p); });
	other = integer ? cublas_int8(rows, cols, n) : cublas_bf16(rows, cols, n);
	report({ "gemm", m.name, shape(p, what), us, 0.0, 2.0 * rows * n * cols, 0.0,
		 integer ? machine_peaks().int8 : machine_peaks().half, other });
	release_all();
}

static void quantize(const struct model &m, size_t rows)
{
	float *x = random_floats(m.d * rows);
	void *act = device_bytes(rows * cuda_act_bytes(m.d));
	const double us = time_launches(16, [&](cuda_stream s, int) {
		return cuda_act_quantize(s, CUDA_IN_Q8_K, x, m.d, m.d, rows, act);
	});

	report({ "act_quantize", m.name, std::to_string(rows) + " tokens", us,
		 (double)rows * (m.d * 4 + cuda_act_bytes(m.d)), 0.0, 0.0, 0.0, 0.0 });
	release_all();
}

void bench_products(void)
{
	for (const struct model &m : models) {
		const size_t q = m.heads * m.dim * (m.k_heads ? 2 : 1); /* gate beside the query */

		if (wanted("matvec"))
			for (size_t i = 0; i < (&m == &models[0] ? formats.size() : 3); i++)
				matvec(m, formats[i], "wq", q, m.d, 1);
		if (wanted("matvec")) {
			for (size_t cols = 2; cols <= 8; cols *= 2)
				matvec(m, QUANT_Q4_K, "wq", q, m.d, cols);
			matvec(m, QUANT_Q6_K, "wo", m.d, m.heads * m.dim, 1);
			matvec(m, QUANT_Q6_K, "head", m.vocab, m.d, 1);
		}
		if (wanted("gemm")) {
			gemm(m, QUANT_Q4_K, "wq", q, m.d, sized(2048));
			gemm(m, QUANT_Q4_K, "wq", q, m.d, sized(512));
			gemm(m, QUANT_Q6_K, "wo", m.d, m.heads * m.dim, sized(2048));
			gemm(m, QUANT_BF16, "wq", q, m.d, sized(2048));
		}
		if (wanted("gemm") && &m == &models[0])
			for (const uint32_t type : formats)
				if (type != QUANT_F32)
					gemm(m, type, "wo", m.d, m.d, sized(4096));
		if (wanted("act_quantize")) {
			quantize(m, 1);
			quantize(m, sized(2048));
		}
	}
}
