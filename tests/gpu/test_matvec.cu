/* SPDX-License-Identifier: MIT */
/*
 * Description: weights of every format times one to eight columns have the bits of every CPU level (the law
 * in kernels/quant.h); a column's bits do not depend on the others, on the rows of the launch or on alignment.
 */
#include "tests/gpu/blocks_ref.h"
#include "tests/gpu/law_ref.h"

#include <errno.h>
#include <memory>

static std::vector<float> product(const struct cuda_product *p)
{
	device_array<float> y(p->cols * p->ldy);
	struct cuda_product q = *p;

	q.y = y.p;
	check_equal("matvec", p->type, cuda_matvec(NULL, &q), 0);
	return y.get();
}

static void check_case(const struct block_layout *l, size_t n, size_t rows, size_t cols,
		       size_t shift, size_t gap)
{
	const size_t row_bytes = quant_row_bytes(l->type, n) + gap;
	const std::vector<uint8_t> w = random_rows(l, rows, n, row_bytes);
	const std::vector<float> x = random_floats(cols * n, 1.0f);
	std::vector<uint8_t> shifted(shift);
	device_array<uint8_t> dact(cols * cuda_act_bytes(n));
	device_array<float> dx(x);
	struct cuda_product p = {};

	shifted.insert(shifted.end(), w.begin(), w.end());
	device_array<uint8_t> dw(shifted);
	p.type = l->type;
	p.w = dw.p + shift;
	p.row_bytes = row_bytes;
	p.n = n;
	p.rows = rows;
	p.cols = cols;
	p.ldy = rows + 3;
	p.x = dx.p;
	if (!is_float(l->type)) {
		check_equal("quantize", n,
			    cuda_act_quantize(NULL, cuda_matvec_input(l->type), dx.p, n, n, cols,
					      dact.p),
			    0);
		p.x = dact.p;
	}
	const std::vector<float> y = product(&p);
	check_product(l->type, w.data(), row_bytes, n, rows, x, y.data(), p.ldy);
	for (size_t c = 0; c < cols; c++) { /* each column, and the last row, alone */
		struct cuda_product one = p;

		one.cols = 1;
		one.x = (const uint8_t *)p.x + c * (is_float(l->type) ? n * 4 : cuda_act_bytes(n));
		const std::vector<float> alone = product(&one);
		check_bits("column alone", alone.data(), y.data() + c * p.ldy, rows);
		one.w = (const uint8_t *)p.w + (rows - 1) * row_bytes;
		one.rows = 1;
		check_bits("row alone", product(&one).data(), y.data() + c * p.ldy + rows - 1, 1);
	}
}

static void check_refusals(void)
{
	device_array<uint8_t> w(4096);
	device_array<float> y(64);
	struct cuda_product p = {};

	p.type = QUANT_Q4_K;
	p.w = w.p;
	p.row_bytes = 144;
	p.n = 256;
	p.rows = 2;
	p.x = w.p;
	p.cols = 1;
	p.y = y.p;
	p.ldy = 2;
	struct cuda_product q = p;
	q.n = 128;
	check_equal("n", 0, cuda_matvec(NULL, &q), -EINVAL);
	q = p;
	q.cols = 9;
	check_equal("cols", 0, cuda_matvec(NULL, &q), -EINVAL);
	q = p;
	q.row_bytes = 143;
	check_equal("row_bytes", 0, cuda_matvec(NULL, &q), -EINVAL);
	q = p;
	q.cols = 2;
	q.ldy = 1;
	check_equal("ldy", 0, cuda_matvec(NULL, &q), -EINVAL);
	q = p;
	q.w = NULL;
	check_equal("w", 0, cuda_matvec(NULL, &q), -EINVAL);
	q = p;
	q.type = 16; /* IQ2_XXS */
	check_equal("type", 0, cuda_matvec(NULL, &q), -ENOTSUP);
	q = p;
	q.rows = 0;
	check_equal("no rows", 0, cuda_matvec(NULL, &q), 0);
	check_equal("input", 0, cuda_matvec_input(QUANT_Q6_K), CUDA_IN_Q8_K);
	check_equal("input", 0, cuda_matvec_input(QUANT_MXFP4), CUDA_IN_Q8_0);
	check_equal("input", 0, cuda_matvec_input(QUANT_BF16), CUDA_IN_F32);
	check_equal("input", 0, cuda_matvec_input(QUANT_F32), CUDA_IN_F32);
	check_equal("input", 0, cuda_matvec_input(99), CUDA_IN_NONE);
}

/* y += product */
static void check_add(void)
{
	const struct block_layout *l = &block_layouts[0];
	const std::vector<uint8_t> w = random_rows(l, 5, 40, 160);
	device_array<float> x(random_floats(40, 1.0f)), y(random_floats(5, 1.0f));
	device_array<uint8_t> dw(w);
	struct cuda_product p = {};

	p.type = QUANT_F32;
	p.w = dw.p;
	p.row_bytes = 160;
	p.n = 40;
	p.rows = 5;
	p.x = x.p;
	p.cols = 1;
	p.ldy = 5;
	std::vector<float> want = y.get();
	const std::vector<float> fresh = product(&p);
	for (size_t i = 0; i < 5; i++)
		want[i] += fresh[i];
	p.y = y.p;
	p.add = true;
	check_equal("add", 0, cuda_matvec(NULL, &p), 0);
	check_bits("add", y.get().data(), want.data(), 5);
}

/* Four matrices of other formats and sizes in one launch: the bits of four launches. */
static void check_many(const uint32_t types[CUDA_MANY], size_t cols)
{
	static const size_t rows[CUDA_MANY] = { 70, 5, 33, 1 },
			    n[CUDA_MANY] = { 256, 512, 256, 768 };
	std::vector<std::unique_ptr<device_array<uint8_t>>> w, act;
	std::vector<std::unique_ptr<device_array<float>>> x, y;
	struct cuda_product p[CUDA_MANY] = {};

	for (size_t i = 0; i < CUDA_MANY; i++) {
		const enum cuda_input form = cuda_matvec_input(types[i]);
		const struct block_layout *l = block_layouts;

		while (l->type != types[i])
			l++;
		p[i].row_bytes = quant_row_bytes(types[i], n[i]);
		w.emplace_back(
			new device_array<uint8_t>(random_rows(l, rows[i], n[i], p[i].row_bytes)));
		x.emplace_back(new device_array<float>(random_floats(cols * n[i], 1.0f)));
		act.emplace_back(new device_array<uint8_t>(cols * cuda_act_bytes(n[i])));
		y.emplace_back(new device_array<float>(cols * rows[i]));
		p[i].type = types[i];
		p[i].w = w[i]->p;
		p[i].n = n[i];
		p[i].rows = rows[i];
		p[i].cols = cols;
		p[i].ldy = rows[i];
		p[i].x = x[i]->p;
		p[i].y = y[i]->p;
		if (form == CUDA_IN_F32)
			continue;
		p[i].x = act[i]->p;
		check_equal("quantize", i,
			    cuda_act_quantize(NULL, form, x[i]->p, n[i], n[i], cols, act[i]->p), 0);
	}
	check_equal("many", cols, cuda_matvec_many(NULL, p, CUDA_MANY), 0);
	for (size_t i = 0; i < CUDA_MANY; i++)
		check_bits("many", y[i]->get().data(), product(&p[i]).data(), cols * rows[i]);
	p[1].cols++;
	check_equal("columns", 0, cuda_matvec_many(NULL, p, CUDA_MANY), -EINVAL);
	check_equal("one", 0, cuda_matvec_many(NULL, p, 1), 0);
	check_equal("none", 0, cuda_matvec_many(NULL, p, 0), 0);
	check_equal("too many", 0, cuda_matvec_many(NULL, p, CUDA_MANY + 1), -EINVAL);
}

int main(int argc, char **argv)
{
	const uint32_t mixed[] = { QUANT_Q4_K, QUANT_F32, QUANT_Q8_0, QUANT_Q6_K };
	const uint32_t others[] = { QUANT_Q5_1, QUANT_IQ4_XS, QUANT_BF16, QUANT_Q5_K };

	for (size_t cols : { 1, 3, 8 }) {
		check_many(mixed, cols);
		check_many(others, cols);
	}
	for (const struct block_layout &l : block_layouts) {
		const size_t unit = l.type == QUANT_F32 ? 4 : 2;

		check_case(&l, 256, 1, 1, 0, 0);
		check_case(&l, 768, 9, 3, unit, unit);
		check_case(&l, 512, 9, 8, 16, 0);
		check_case(&l, 1280, 6, 1, 0, 0); /* a chunk that is not full */
		if (is_float(l.type)) {
			check_case(&l, 37, 3, 2, 0, unit);
			check_case(&l, 40, 9, 19, 0, 0); /* groups of eight columns */
		}
		if (option_all(argc, argv)) {
			check_case(&l, 4096, 64, 8, 0, 0);
			check_case(&l, 17408, 5, 1, 0, 0);
		}
	}
	check_add();
	check_refusals();
	return values_report("matvec");
}
