/* SPDX-License-Identifier: MIT */
/*
 * Description: the instructions of kernels/cuda/ptx.h one by one: products of matrices against plain
 * sums (integers exactly; halves within the roundings of 16 additions), which lane holds what, matrix
 * loads and asynchronous copies of every size and length.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "tests/gpu/values.h"

/* ---- mma: A is 16 rows of K bytes, B 8 columns of K bytes, D 16 x 8 ---- */

enum kind { S8, S8_K16, S8_FLOAT, S8_K16_FLOAT, F16, BF16, KINDS };

/* Word i of the 16 bytes-wide pieces of a row: bytes [16 i + 4 t, ...). */
static __device__ uint32_t piece_word(const uint8_t *row, int piece, int t)
{
	return *(const uint32_t *)(row + 16 * piece + 4 * t);
}

static __global__ void mma_kernel(int kind, const uint8_t *a, const uint8_t *b, const float *start,
				  float *out)
{
	const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
	const int bytes = kind == S8_K16 || kind == S8_K16_FLOAT ? 16 : 32;
	const uint8_t *low = a + g * bytes, *high = a + (g + 8) * bytes, *col = b + g * bytes;
	const int last = bytes / 16 - 1;
	const uint32_t ra[4] = { piece_word(low, 0, t), piece_word(high, 0, t),
				 piece_word(low, last, t), piece_word(high, last, t) };
	const uint32_t rb[2] = { piece_word(col, 0, t), piece_word(col, last, t) };
	float f[4];
	int32_t d[4];

	for (int e = 0; e < 4; e++) {
		f[e] = start[(g + e / 2 * 8) * 8 + 2 * t + e % 2];
		d[e] = (int32_t)f[e];
	}
	if (kind == S8)
		ptx_mma_s8(d, ra, rb);
	else if (kind == S8_K16)
		ptx_mma_s8_k16(d, ra, rb[0]);
	else if (kind == S8_FLOAT)
		ptx_mma_s8_float(f, ra, rb);
	else if (kind == S8_K16_FLOAT)
		ptx_mma_s8_k16_float(f, ra, rb[0]);
	else if (kind == F16)
		ptx_mma_f16(f, ra, rb);
	else
		ptx_mma_bf16(f, ra, rb);
	for (int e = 0; e < 4; e++)
		out[(g + e / 2 * 8) * 8 + 2 * t + e % 2] =
			kind == S8 || kind == S8_K16 ? (float)d[e] : f[e];
}

static double element(int kind, const uint8_t *row, int k)
{
	uint16_t bits;
	uint32_t wide;
	float f;

	if (kind < F16)
		return (int8_t)row[k];
	memcpy(&bits, row + 2 * k, 2);
	if (kind == F16)
		return half_value(bits);
	wide = (uint32_t)bits << 16;
	memcpy(&f, &wide, 4);
	return f;
}

static std::vector<uint8_t> random_operand(int kind, size_t rows, size_t bytes, bool extreme)
{
	std::vector<uint8_t> v(rows * bytes);

	for (size_t i = 0; i < v.size(); i++)
		v[i] = extreme ? 0x80 : (uint8_t)random_u32();
	for (size_t i = 0; kind >= F16 && i < v.size() / 2; i++) {
		const float x = random_float(1.0f);
		uint16_t h = half_of(x);

		if (kind == BF16) {
			uint32_t bits;

			memcpy(&bits, &x, 4);
			h = (uint16_t)(bits >> 16);
		}
		memcpy(v.data() + 2 * i, &h, 2);
	}
	return v;
}

static void check_mma(int kind, bool extreme)
{
	const size_t bytes = kind == S8_K16 || kind == S8_K16_FLOAT ? 16 : 32;
	const int k = (int)(kind >= F16 ? bytes / 2 : bytes);
	const std::vector<uint8_t> a = random_operand(kind, 16, bytes, extreme);
	const std::vector<uint8_t> b = random_operand(kind, 8, bytes, extreme);
	std::vector<float> start(128);
	device_array<uint8_t> da(a), db(b);
	device_array<float> out(128);

	for (float &x : start)
		x = kind < F16 ? (float)(random_u32() % 1000) : random_float(1.0f);
	device_array<float> ds(start);
	CUDA_LAUNCH(mma_kernel, 1, 32, 0, NULL, kind, da.p, db.p, ds.p, out.p);
	const std::vector<float> got = out.get();
	for (int r = 0; r < 16; r++)
		for (int c = 0; c < 8; c++) {
			const bool fresh = kind == S8_FLOAT || kind == S8_K16_FLOAT;
			double sum = fresh ? (double)PTX_INT_FLOAT : start[(size_t)r * 8 + c];
			double size = fabs(sum);

			for (int i = 0; i < k; i++) {
				const double x = element(kind, a.data() + r * bytes, i) *
						 element(kind, b.data() + c * bytes, i);

				sum += x;
				size += fabs(x);
			}
			/* hardware may truncate each of the 16 additions */
			check_near("mma", (size_t)(kind * 1000 + r * 8 + c), got[(size_t)r * 8 + c],
				   sum, kind < F16 ? 0.0 : 17 * 0x1p-23 * size);
		}
}

/* ---- ldmatrix: 32 rows of 16 bytes, 48 bytes apart ---- */

static __global__ void load_kernel(int form, const uint8_t *rows, uint32_t *out)
{
	CUDA_SHARED(uint8_t, tile, 32 * 48);
	const int lane = threadIdx.x;
	uint32_t r[4] = { 0, 0, 0, 0 };

	for (int i = 0; i < 16; i++)
		tile[lane * 48 + i] = rows[lane * 16 + i];
	__syncthreads();
	if (form == 0)
		ptx_ldmatrix_x1(r, tile + lane * 48);
	else if (form == 1)
		ptx_ldmatrix_x2(r, tile + lane * 48);
	else if (form == 2)
		ptx_ldmatrix_x4(r, tile + lane * 48);
	else if (form == 3)
		ptx_ldmatrix_x2_trans(r, tile + lane * 48);
	else
		ptx_ldmatrix_x4_trans(r, tile + lane * 48);
	for (int i = 0; i < 4; i++)
		out[lane * 4 + i] = r[i];
}

static void check_ldmatrix(int form)
{
	static const int matrices[] = { 1, 2, 4, 2, 4 };
	std::vector<uint8_t> rows(512);

	for (uint8_t &b : rows)
		b = (uint8_t)random_u32();
	device_array<uint8_t> dr(rows);
	device_array<uint32_t> out(128);
	CUDA_LAUNCH(load_kernel, 1, 32, 0, NULL, form, dr.p, out.p);
	const std::vector<uint32_t> got = out.get();
	for (int lane = 0; lane < 32; lane++)
		for (int m = 0; m < 4; m++) {
			const uint8_t *base = rows.data() + 128 * m; /* rows 8 m ... */
			const int g = lane / 4, t = lane % 4;
			uint32_t want = 0;
			uint16_t low, high;

			if (m < matrices[form] && form < 3) {
				memcpy(&want, base + 16 * g + 4 * t, 4);
			} else if (m < matrices[form]) {
				memcpy(&low, base + 16 * (2 * t) + 2 * g, 2);
				memcpy(&high, base + 16 * (2 * t + 1) + 2 * g, 2);
				want = low | (uint32_t)high << 16;
			}
			check_equal("ldmatrix", (size_t)(form * 1000 + lane * 4 + m),
				    got[(size_t)(lane * 4 + m)], want);
		}
}

/* ---- cp.async: lane i takes i bytes at most ---- */

static __global__ void copy_kernel(int size, const uint8_t *from, uint8_t *out)
{
	CUDA_SHARED(uint8_t, ring, 2 * 32 * 16);
	const int lane = threadIdx.x;
	const uint32_t take = (uint32_t)(lane < size ? lane : size);

	for (int i = 0; i < 32; i++)
		ring[lane * 32 + i] = 0xee;
	__syncthreads();
	for (int turn = 0; turn < 2; turn++) {
		uint8_t *to = ring + (turn * 32 + lane) * 16;
		const uint8_t *at = from + lane * 16;

		if (size == 16)
			ptx_cp_async_16(to, at, turn ? take : 16);
		else if (size == 8)
			ptx_cp_async_8(to, at, turn ? take : 8);
		else
			ptx_cp_async_4(to, at, turn ? take : 4);
		ptx_cp_async_commit();
	}
	ptx_cp_async_wait<1>();
	__syncthreads();
	for (int i = 0; i < 16; i++) /* the first group: of another lane */
		out[lane * 16 + i] = ring[(lane ^ 5) * 16 + i];
	ptx_cp_async_wait<0>();
	__syncthreads();
	for (int i = 0; i < 16; i++)
		out[512 + lane * 16 + i] = ring[512 + (lane ^ 5) * 16 + i];
}

static void check_copy(int size)
{
	std::vector<uint8_t> from(512);

	for (uint8_t &b : from)
		b = (uint8_t)(random_u32() | 1);
	device_array<uint8_t> df(from), out(1024);
	CUDA_LAUNCH(copy_kernel, 1, 32, 0, NULL, size, df.p, out.p);
	const std::vector<uint8_t> got = out.get();
	for (int turn = 0; turn < 2; turn++)
		for (int lane = 0; lane < 32; lane++)
			for (int i = 0; i < 16; i++) {
				const int whose = lane ^ 5;
				const int take = turn && whose < size ? whose : size;
				const int want = i >= size  ? 0xee
						 : i < take ? from[(size_t)(whose * 16 + i)]
							    : 0;

				check_equal("cp.async", (size_t)(size * 10000 + lane * 16 + i),
					    got[(size_t)(turn * 512 + lane * 16 + i)], want);
			}
}

int main(void)
{
	for (int kind = 0; kind < KINDS; kind++)
		for (int i = 0; i < 3; i++)
			check_mma(kind, i == 2 && kind < F16);
	for (int form = 0; form < 5; form++)
		check_ldmatrix(form);
	for (const int size : { 4, 8, 16 })
		check_copy(size);
	return values_report("ptx");
}
