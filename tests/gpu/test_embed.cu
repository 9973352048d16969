/* SPDX-License-Identifier: MIT */
/*
 * Description: embedding rows of every format, bit for bit what gguf-py makes of the same blocks.
 *
 * The fixture's 64 rows of 256 weights are the table; float formats are made here. Rows are also
 * taken as 32 rows of 512 with a gap between them, off every alignment that the format allows.
 */
#include "kernels/cuda/ops.h"
#include "kernels/quant.h"
#include "tests/gpu/fixture.h"
#include "tests/gpu/values.h"

#include <errno.h>
#include <string>

static std::vector<uint8_t> read_file(const char *name, const char *suffix)
{
	const std::string path = gpu_fixture(std::string("quants/") + name + suffix);
	std::vector<uint8_t> bytes;
	FILE *f = fopen(path.c_str(), "rbe");
	uint8_t piece[4096];
	size_t n;

	if (!f) {
		fprintf(stderr, "%s: cannot be read\n", path.c_str());
		exit(1);
	}
	while ((n = fread(piece, 1, sizeof(piece), f)) > 0)
		bytes.insert(bytes.end(), piece, piece + n);
	fclose(f);
	return bytes;
}

static std::vector<float> floats_of(const std::vector<uint8_t> &bytes)
{
	std::vector<float> v(bytes.size() / 4);

	memcpy(v.data(), bytes.data(), v.size() * 4);
	return v;
}

/* @want: all weights of the table in order; rows of @n, @gap bytes after each, @shift before */
static void check_table(uint32_t type, const std::vector<uint8_t> &blocks,
			const std::vector<float> &want, size_t n, size_t gap, size_t shift)
{
	const size_t rows = want.size() / n, bytes = blocks.size() / rows;
	std::vector<uint8_t> table(shift, 0xff);
	std::vector<uint32_t> ids;
	std::vector<float> got, one;

	for (size_t r = 0; r < rows; r++) {
		table.insert(table.end(), blocks.begin() + (long)(r * bytes),
			     blocks.begin() + (long)(r * bytes + bytes));
		table.insert(table.end(), gap, 0xff);
	}
	for (size_t r = 0; r < rows; r++)
		ids.push_back((uint32_t)((r * 37 + 5) % rows));
	ids.push_back((uint32_t)rows); /* beyond the vocabulary */
	ids.push_back(UINT32_MAX);
	device_array<uint8_t> dt(table);
	device_array<uint32_t> di(ids);
	device_array<float> out(ids.size() * n), single(n);
	check_equal(
		"embed", type,
		cuda_embed(NULL, type, dt.p + shift, bytes + gap, n, rows, di.p, ids.size(), out.p),
		0);
	got = out.get();
	for (size_t t = 0; t < ids.size(); t++) {
		const std::vector<float> zeros(n, 0.0f);

		check_bits("row", &got[t * n], ids[t] < rows ? &want[ids[t] * n] : zeros.data(), n);
	}
	cuda_embed(NULL, type, dt.p + shift, bytes + gap, n, rows, di.p + 3, 1, single.p);
	one = single.get();
	check_bits("row alone", one.data(), &got[3 * n], n);
}

static void check_floats(void)
{
	const std::vector<float> f = random_floats(96 * 7, 100.0f);
	std::vector<uint8_t> f32(f.size() * 4), f16, bf16;
	std::vector<float> as_f16, as_bf16;

	memcpy(f32.data(), f.data(), f32.size());
	for (float x : f) {
		const uint16_t h = half_of(x);
		uint32_t bits;
		float cut;

		f16.push_back((uint8_t)h);
		f16.push_back((uint8_t)(h >> 8));
		as_f16.push_back((float)half_value(h));
		memcpy(&bits, &x, 4);
		bf16.push_back((uint8_t)(bits >> 16));
		bf16.push_back((uint8_t)(bits >> 24));
		bits &= 0xffff0000u;
		memcpy(&cut, &bits, 4);
		as_bf16.push_back(cut);
	}
	check_table(QUANT_F32, f32, f, 7, 4, 4);
	check_table(QUANT_F16, f16, as_f16, 21, 2, 2);
	check_table(QUANT_BF16, bf16, as_bf16, 96, 0, 2);
}

static void check_refusals(void)
{
	device_array<float> x(256);
	device_array<uint32_t> ids(1);

	check_equal("type 99", 0, cuda_embed(NULL, 99, x.p, 1024, 256, 1, ids.p, 1, x.p), -ENOTSUP);
	check_equal("Q8_K", 0, cuda_embed(NULL, 15, x.p, 1024, 256, 1, ids.p, 1, x.p), -ENOTSUP);
	check_equal("half a block", 0,
		    cuda_embed(NULL, QUANT_Q4_K, x.p, 144, 128, 1, ids.p, 1, x.p), -EINVAL);
	check_equal("short rows", 0, cuda_embed(NULL, QUANT_Q4_K, x.p, 143, 256, 1, ids.p, 1, x.p),
		    -EINVAL);
	check_equal("no table", 0, cuda_embed(NULL, QUANT_Q4_K, NULL, 144, 256, 1, ids.p, 1, x.p),
		    -EINVAL);
	check_equal("F32 off", 0,
		    cuda_embed(NULL, QUANT_F32, (uint8_t *)x.p + 2, 64, 16, 1, ids.p, 1, x.p),
		    -EINVAL);
	check_equal("no tokens", 0, cuda_embed(NULL, QUANT_Q4_K, NULL, 144, 256, 1, NULL, 0, NULL),
		    0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		uint32_t type;
	} formats[] = {
		{ "Q4_0", QUANT_Q4_0 },	  { "Q4_1", QUANT_Q4_1 },     { "Q5_0", QUANT_Q5_0 },
		{ "Q5_1", QUANT_Q5_1 },	  { "Q8_0", QUANT_Q8_0 },     { "Q2_K", QUANT_Q2_K },
		{ "Q3_K", QUANT_Q3_K },	  { "Q4_K", QUANT_Q4_K },     { "Q5_K", QUANT_Q5_K },
		{ "Q6_K", QUANT_Q6_K },	  { "IQ4_NL", QUANT_IQ4_NL }, { "IQ4_XS", QUANT_IQ4_XS },
		{ "MXFP4", QUANT_MXFP4 },
	};

	for (const auto &f : formats) {
		const std::vector<uint8_t> blocks = read_file(f.name, ".blocks");
		const std::vector<float> want = floats_of(read_file(f.name, ".f32"));
		const bool bytes = f.type == QUANT_MXFP4; /* aligned to nothing */

		check_equal("64 rows of 256", f.type, (long long)want.size(), 64 * 256);
		check_table(f.type, blocks, want, 256, 0, 0);
		if (option_all(argc, argv) || f.type % 2 == 0 || bytes)
			check_table(f.type, blocks, want, 512, bytes ? 1 : 2, bytes ? 3 : 2);
	}
	check_floats();
	check_refusals();
	return values_report("embed");
}
