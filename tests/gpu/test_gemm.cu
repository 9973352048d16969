/* SPDX-License-Identifier: MIT */
/*
 * Description: tiled products of every format, dense and grouped by expert. Block formats and all products
 * of experts have the bits of every CPU level; dense ones of floats are compared with sums in double of the
 * same activations. A result's bits do not depend on its place in a tile, on the other columns or on alignment.
 *
 * Bound of dense floats: products of f16 or bf16 are exact in f32, sums of n / 16 tensor steps rounded (and
 * truncated inside, 2^-23 each); F32 n additions.
 */
#include "tests/gpu/blocks_ref.h"
#include "tests/gpu/law_ref.h"

#include <errno.h>

/* The columns in the form that @type wants, and what they are worth. */
struct columns {
	device_array<uint8_t> bytes;
	std::vector<double> value;
	size_t row_bytes;

	columns(enum cuda_input form, const std::vector<float> &x, size_t n)
	    : bytes(x.size() / n * (cuda_act_bytes(n < 32 ? 32 : n) + 4 * n)),
	      value(x.begin(), x.end()), row_bytes(0)
	{
		const size_t rows = x.size() / n;
		std::vector<uint8_t> raw(x.size() * 4);

		if (form == CUDA_IN_Q8_0 || form == CUDA_IN_Q8_K) {
			device_array<float> dx(x);

			row_bytes = cuda_act_bytes(n);
			check_equal("quantize", n,
				    cuda_act_quantize(NULL, form, dx.p, n, n, rows, bytes.p), 0);
			return;
		}
		row_bytes = n * (form == CUDA_IN_F32 ? 4 : 2);
		for (size_t i = 0; i < x.size(); i++) {
			uint16_t h = half_of(x[i]);
			uint32_t bits;

			memcpy(&bits, &x[i], 4);
			if (form == CUDA_IN_F32) {
				memcpy(raw.data() + 4 * i, &x[i], 4);
				continue;
			}
			value[i] = half_value(h);
			if (form == CUDA_IN_BF16) {
				float f;

				bits &= 0xffff0000u;
				h = (uint16_t)(bits >> 16);
				memcpy(&f, &bits, 4);
				value[i] = f;
			}
			memcpy(raw.data() + 2 * i, &h, 2);
		}
		raw.resize(bytes.n);
		bytes.put(raw);
	}
};

static double terms(uint32_t type, size_t n)
{
	return type == QUANT_F32 ? 4 + (double)n : 4 + n / 4.0;
}

static void check_value(const struct block_layout *l, const uint8_t *row, const double *x, size_t n,
			float got, size_t place)
{
	std::vector<float> amplitude;
	const std::vector<float> w = row_values(l, row, n, &amplitude);
	double sum = 0, size = 0;

	for (size_t i = 0; i < n; i++) {
		sum += (double)w[i] * x[i];
		size += (double)amplitude[i] * fabs(x[i]);
	}
	check_near(quant_name(l->type), place, got, sum, terms(l->type, n) * 0x1p-24 * size);
}

static std::vector<float> dense(struct cuda_product p)
{
	device_array<float> y(p.cols * p.ldy);

	p.y = y.p;
	check_equal("gemm", p.type, cuda_gemm(NULL, &p), 0);
	return y.get();
}

static void check_dense(const struct block_layout *l, size_t n, size_t rows, size_t cols)
{
	const size_t row_bytes = quant_row_bytes(l->type, n);
	const std::vector<uint8_t> w = random_rows(l, rows, n, row_bytes);
	const std::vector<float> floats = random_floats(cols * n, 1.0f);
	const struct columns x(cuda_gemm_input(l->type), floats, n);
	device_array<uint8_t> dw(w);
	struct cuda_product p = {};

	p.type = l->type;
	p.w = dw.p;
	p.row_bytes = row_bytes;
	p.n = n;
	p.rows = rows;
	p.x = x.bytes.p;
	p.cols = cols;
	p.ldy = rows + 1;
	const std::vector<float> y = dense(p);
	if (!is_float(l->type))
		check_product(l->type, w.data(), row_bytes, n, rows, floats, y.data(), p.ldy);
	for (size_t c = 0; c < cols && is_float(l->type); c++)
		for (size_t r = 0; r < rows; r++)
			check_value(l, w.data() + r * row_bytes, x.value.data() + c * n, n,
				    y[c * p.ldy + r], r);
	/* the same bytes where nothing wide can be loaded */
	std::vector<uint8_t> shifted(l->type == QUANT_F32 ? 4 : l->type == QUANT_MXFP4 ? 1 : 2);
	const size_t shift = shifted.size();

	shifted.insert(shifted.end(), w.begin(), w.end());
	device_array<uint8_t> ds(shifted);
	p.w = ds.p + shift;
	const std::vector<float> z = dense(p);
	for (size_t c = 0; c < cols; c++)
		check_bits("shifted", z.data() + c * p.ldy, y.data() + c * p.ldy, rows);
	/* the last row and column alone: the first of a tile now */
	p.w = dw.p + (rows - 1) * row_bytes;
	p.x = x.bytes.p + (cols - 1) * x.row_bytes;
	p.rows = p.cols = 1;
	check_bits("alone", dense(p).data(), y.data() + (cols - 1) * p.ldy + rows - 1, 1);
}

/* Four experts: 140 entries (more than a tile), none, 3 and one whose weights are elsewhere. */
static void check_grouped(const struct block_layout *l, size_t n, size_t rows)
{
	static const std::vector<uint32_t> offsets = { 0, 140, 140, 143, 145 };
	const size_t entries = 145, tokens = 20, row_bytes = quant_row_bytes(l->type, n);
	const std::vector<uint8_t> w = random_rows(l, 3 * rows, n, row_bytes);
	const std::vector<float> floats = random_floats(tokens * n, 1.0f);
	const struct columns x(cuda_matvec_input(l->type), floats, n);
	std::vector<uint32_t> gather(entries);
	device_array<uint8_t> dw(w);
	device_array<float> y(std::vector<float>(entries * rows, -1.0f));
	std::vector<const void *> experts = { dw.p, dw.p + rows * row_bytes,
					      dw.p + 2 * rows * row_bytes, NULL };
	device_array<const void *> de(experts);
	struct cuda_grouped g = {};

	for (size_t i = 0; i < entries; i++)
		gather[i] = (uint32_t)(i * 7 % tokens);
	device_array<uint32_t> dg(gather), doff(offsets);
	g.type = l->type;
	g.w = de.p;
	g.row_bytes = row_bytes;
	g.n = n;
	g.rows = rows;
	g.experts = 4;
	g.offsets = doff.p;
	g.gather = dg.p;
	g.entries = entries;
	g.x = x.bytes.p;
	g.y = y.p;
	g.ldy = rows;
	check_equal("grouped", l->type, cuda_gemm_grouped(NULL, &g), 0);
	const std::vector<float> got = y.get();
	for (size_t i = 0; i < entries; i++) {
		const size_t e = i < 140 ? 0 : 2;
		const std::vector<float> one(floats.begin() + (long)(gather[i] * n),
					     floats.begin() + (long)(gather[i] * n + n));

		for (size_t r = 0; r < rows && i >= 143; r++)
			check_equal("not written", i, got[i * rows + r] == -1.0f, 1);
		if (i < 2 || (i >= 126 && i < 143))
			check_product(l->type, w.data() + e * rows * row_bytes, row_bytes, n, rows,
				      one, got.data() + i * rows, rows);
	}
	/* the same token and expert at another place of the list, in another tile */
	check_bits("place", got.data() + 8 * rows, got.data() + 128 * rows, rows);
	g.entries = 0;
	check_equal("no entries", 0, cuda_gemm_grouped(NULL, &g), 0);
}

static void check_refusals(void)
{
	device_array<uint8_t> w(4096);
	device_array<float> y(64);
	struct cuda_product p = {}, q;

	p.type = QUANT_Q4_K;
	p.w = p.x = w.p;
	p.row_bytes = 144;
	p.n = 256;
	p.rows = p.cols = 1;
	p.y = y.p;
	p.ldy = 1;
	q = p;
	q.n = 100;
	check_equal("n", 0, cuda_gemm(NULL, &q), -EINVAL);
	q = p;
	q.ldy = 0;
	check_equal("ldy", 0, cuda_gemm(NULL, &q), -EINVAL);
	q = p;
	q.x = NULL;
	check_equal("x", 0, cuda_gemm(NULL, &q), -EINVAL);
	q = p;
	q.type = 16;
	check_equal("type", 0, cuda_gemm(NULL, &q), -ENOTSUP);
	q = p;
	q.cols = 0;
	check_equal("no columns", 0, cuda_gemm(NULL, &q), 0);
	check_equal("input", 0, cuda_gemm_input(QUANT_F16), CUDA_IN_F16);
	check_equal("input", 0, cuda_gemm_input(QUANT_Q8_0), CUDA_IN_Q8_0);
}

int main(int argc, char **argv)
{
	for (const struct block_layout &l : block_layouts) {
		check_dense(&l, 256, 17, 5);
		if (l.type == QUANT_Q4_K || l.type == QUANT_Q6_K || l.type == QUANT_F16)
			check_dense(&l, 256, 130, 131);
		if (l.type == QUANT_Q8_0 || l.type == QUANT_MXFP4)
			check_dense(&l, 96, 3, 2); /* a step that is not full */
		if (l.type == QUANT_BF16 || l.type == QUANT_F32)
			check_dense(&l, 37, 5, 9);
		check_grouped(&l, 512, 18);
		if (is_float(l.type))
			check_grouped(&l, 43, 5);
		if (option_all(argc, argv)) {
			check_dense(&l, 4096, 130, 134);
			check_grouped(&l, 1024, 65);
		}
	}
	check_refusals();
	return values_report("gemm");
}
