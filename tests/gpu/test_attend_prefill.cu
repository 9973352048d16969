/* SPDX-License-Identifier: MIT */
/*
 * Description: attention of prefill against double over the same pages, against itself in other
 * chunks (the same bits) and against decode of the same positions (bounds: attend_ref.h).
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/attend_ref.h"

#include <errno.h>

struct shape {
	enum cuda_kv type;
	size_t dim, heads, kv_heads;
	bool gated;
	size_t first, tokens;
};

struct inputs {
	std::vector<float> q, gate; /* of positions first + i */
	size_t ldg, g_step;
};

#define ROW 1 /* the page table row that is attended over, of two */

static struct cuda_attend arguments(const struct shape &s, const struct inputs &in)
{
	struct cuda_attend a = {};

	a.ldg = in.ldg;
	a.g_step = in.g_step;
	a.heads = s.heads;
	return a;
}

static std::vector<float> run(const struct shape &s, const struct inputs &in, const kv_pages &kv,
			      size_t from, size_t to)
{
	const size_t row = s.heads * s.dim;
	device_array<float> q(in.q), gate(in.gate), out((to - from) * row);
	device_array<uint32_t> seq(std::vector<uint32_t>(1, ROW)), table(kv.table);
	device_array<uint8_t> pool(kv.pool);
	struct cuda_attend a = arguments(s, in);

	a.q = q.p + from * row;
	a.gate = s.gated ? gate.p + from * in.ldg : NULL;
	a.kv = kv.on(pool, table);
	a.seq = seq.p;
	a.out = out.p;
	check_equal("attend_prefill", s.dim,
		    cuda_attend_prefill(NULL, &a, s.first + from, to - from), 0);
	return out.get();
}

/* Decode of token @i, told how long its context is */
static std::vector<float> run_decode(const struct shape &s, const struct inputs &in,
				     const kv_pages &kv, size_t i)
{
	const size_t row = s.heads * s.dim, length = s.first + i + 1;
	device_array<float> q(in.q), gate(in.gate), out(row);
	device_array<uint32_t> seq(std::vector<uint32_t>(1, ROW)), table(kv.table);
	device_array<uint32_t> len(std::vector<uint32_t>(1, (uint32_t)length));
	device_array<uint8_t> pool(kv.pool);
	device_array<uint8_t> scratch(cuda_attend_decode_scratch(1, s.heads, s.dim, length, 64));
	struct cuda_attend a = arguments(s, in);

	a.q = q.p + i * row;
	a.gate = s.gated ? gate.p + i * in.ldg : NULL;
	a.kv = kv.on(pool, table);
	a.seq = seq.p;
	a.out = out.p;
	a.sequences = 1;
	a.len = len.p;
	a.max_len = length;
	a.part = 64;
	a.scratch = scratch.p;
	check_equal("attend_decode", s.dim, cuda_attend_decode(NULL, &a), 0);
	return out.get();
}

static void check_token(const struct shape &s, const struct inputs &in, const kv_pages &kv,
			size_t i, const float *got)
{
	const size_t row = s.heads * s.dim, group = s.heads / s.kv_heads;
	const bool sampled = i % 7 == 0 || i + 1 == s.tokens;
	const std::vector<float> decoded = sampled ? run_decode(s, in, kv, i)
						   : std::vector<float>();
	std::vector<double> want, bound, want_decode, bound_decode;

	for (size_t h = 0; h < s.heads; h++) {
		const float *q = &in.q[i * row + h * s.dim];
		const float *gate = s.gated ? &in.gate[i * in.ldg + h * in.g_step] : NULL;

		attend_reference(kv, ROW, h / group, q, s.first + i + 1, gate,
				 prefill_error(s.type), &want, &bound);
		for (size_t d = 0; d < s.dim; d++)
			check_near("attention", d, got[h * s.dim + d], want[d], bound[d]);
		if (!sampled)
			continue;
		attend_reference(kv, ROW, h / group, q, s.first + i + 1, gate, decode_error(s.type),
				 &want_decode, &bound_decode);
		for (size_t d = 0; d < s.dim; d++)
			check_near("as decode", d, got[h * s.dim + d], decoded[h * s.dim + d],
				   bound[d] + bound_decode[d]);
	}
}

static void check_shape(const struct shape &s)
{
	const size_t row = s.heads * s.dim, cut = s.tokens / 3;
	kv_pages kv(s.type, s.kv_heads, s.dim, 2, s.first + s.tokens);
	struct inputs in;
	std::vector<float> got, part;

	kv.fill(ROW, s.first + s.tokens, 1.0f);
	in.q = random_floats(s.tokens * row, 1.5f / sqrtf((float)s.dim));
	in.g_step = 2 * s.dim;
	in.ldg = s.heads * in.g_step;
	in.gate = random_floats(s.tokens * in.ldg, 3.0f);
	got = run(s, in, kv, 0, s.tokens);
	for (size_t i = 0; i<s.tokens; i += s.tokens> 200 ? 37 : 1)
		check_token(s, in, kv, i, &got[i * row]);
	if (cut == 0)
		return;
	part = run(s, in, kv, 0, cut);
	check_bits("first chunk", part.data(), got.data(), cut * row);
	part = run(s, in, kv, cut, s.tokens);
	check_bits("second chunk", part.data(), &got[cut * row], (s.tokens - cut) * row);
}

static void check_refusals(void)
{
	device_array<float> f(4096);
	device_array<uint32_t> u(16);
	device_array<uint8_t> pool(cuda_kv_page_bytes(CUDA_KV_F16, 1, 64));
	struct cuda_attend a = {}, b;

	check_equal("no tokens", 0, cuda_attend_prefill(NULL, &a, 5, 0), 0);
	check_equal("NULL", 0, cuda_attend_prefill(NULL, NULL, 0, 1), -EINVAL);
	a.q = f.p;
	a.out = f.p;
	a.kv = cuda_kv_cache{ CUDA_KV_F16, pool.p, u.p, 1, 1, 64 };
	a.heads = 1;
#define REFUSES(what, first, tokens, change)                                                 \
	do {                                                                                 \
		b = a;                                                                       \
		change;                                                                      \
		check_equal(what, 0, cuda_attend_prefill(NULL, &b, first, tokens), -EINVAL); \
	} while (0)
	REFUSES("beyond the table", 60, 5, (void)0);
	REFUSES("huge", SIZE_MAX, 2, (void)0);
	REFUSES("no query", 0, 1, b.q = NULL);
	REFUSES("dim 32", 0, 1, b.kv.dim = 32);
	REFUSES("heads of no group", 0, 1, (b.heads = 3, b.kv.heads = 2));
	REFUSES("gate's row", 0, 1, (b.gate = f.p, b.ldg = 32, b.g_step = 64));
#undef REFUSES
}

int main(int argc, char **argv)
{
	static const struct shape small[] = {
		{ CUDA_KV_F16, 64, 1, 1, false, 0, 1 },
		{ CUDA_KV_F16, 64, 2, 1, true, 30, 71 },
		{ CUDA_KV_Q8_0, 64, 2, 2, false, 0, 66 },
		{ CUDA_KV_F16, 256, 2, 1, true, 59, 19 },
		{ CUDA_KV_Q8_0, 128, 2, 2, false, 61, 17 },
		{ CUDA_KV_Q8_0, 256, 1, 1, true, 0, 9 },
	};
	static const struct shape published[] = {
		{ CUDA_KV_F16, 256, 32, 2, true, 200, 129 },
		{ CUDA_KV_Q8_0, 256, 24, 4, true, 63, 65 },
		{ CUDA_KV_F16, 128, 32, 4, false, 0, 300 },
	};

	for (const struct shape &s : small)
		check_shape(s);
	if (option_all(argc, argv))
		for (const struct shape &s : published)
			check_shape(s);
	check_refusals();
	return values_report("attend_prefill");
}
