/* SPDX-License-Identifier: MIT */
/*
 * Description: attention of decode against double over the same pages (bounds: attend_ref.h).
 *
 * Sequences of very different lengths share a pool with shuffled tables; what nobody stored is NaN. Tokens of one
 * sequence have the same bits in blocks of several (a prompt) as alone, however they are cut.
 */
#include "tests/gpu/law_ref.h"
#include "kernels/cuda/ops.h"
#include "tests/gpu/attend_ref.h"

#include <errno.h>

struct shape {
	enum cuda_kv type;
	size_t dim, heads, kv_heads, part;
	bool gated, rows; /* rows: page table rows given */
	std::vector<uint32_t> len;
	bool one_run = false;
};

struct inputs {
	std::vector<float> q, gate;
	std::vector<uint32_t> seq;
	size_t ldg, g_step;
};

static std::vector<float> run(const struct shape &s, const struct inputs &in, const kv_pages &kv,
			      size_t from, size_t to, size_t max_len)
{
	const size_t row = s.heads * s.dim, count = to - from;
	const size_t bytes = cuda_attend_decode_scratch(count, s.heads, s.dim, max_len, s.part);
	device_array<float> q(in.q), gate(in.gate), out(count * row);
	device_array<uint32_t> seq(in.seq), len(s.len), table(kv.table);
	device_array<uint8_t> pool(kv.pool), scratch(bytes);
	struct cuda_attend a = {};

	a.q = q.p + from * row;
	a.gate = s.gated ? gate.p + from * in.ldg : NULL;
	a.ldg = in.ldg;
	a.g_step = in.g_step;
	a.kv = kv.on(pool, table);
	a.heads = s.heads;
	a.sequences = count;
	a.seq = s.rows || from ? seq.p + from : NULL;
	a.one_run = s.one_run;
	a.len = len.p + from;
	a.max_len = max_len;
	a.part = s.part;
	a.scratch = scratch.p;
	a.out = out.p;
	device_array<uint8_t> act(count * cuda_act_bytes(s.heads * s.dim));

	if (s.heads * s.dim % 256 == 0)
		a.act = { s.gated ? CUDA_IN_Q8_0 : CUDA_IN_Q8_K, act.p };
	check_equal("attend_decode", s.dim, cuda_attend_decode(NULL, &a), 0);
	if (a.act.rows) { /* the same floats alone, and the form is theirs */
		device_array<float> alone(out.n);

		check_act("act", a.act.form, out.get(), s.heads * s.dim, act.get());
		a.act.rows = NULL;
		a.out = alone.p;
		check_equal("attend_decode", s.dim, cuda_attend_decode(NULL, &a), 0);
		check_bits("without act", alone.get().data(), out.get().data(), out.n);
	}
	return out.get();
}

static void check_shape(const struct shape &s)
{
	const size_t n = s.len.size(), row = s.heads * s.dim, group = s.heads / s.kv_heads;
	const uint32_t longest = *std::max_element(s.len.begin(), s.len.end());
	kv_pages kv(s.type, s.kv_heads, s.dim, n, longest + 64);
	struct inputs in;
	std::vector<double> want, bound;
	std::vector<float> got;

	in.q = random_floats(n * row, 1.5f / sqrtf((float)s.dim));
	in.g_step = 2 * s.dim;
	in.ldg = s.heads * in.g_step + 7;
	in.gate = random_floats(n * in.ldg, 3.0f);
	for (size_t i = 0; i < n; i++) {
		in.seq.push_back((uint32_t)(s.rows ? n - 1 - i : i));
		kv.fill(in.seq[i], s.len[i], 1.0f);
	}
	got = run(s, in, kv, 0, n, longest);
	for (size_t i = 0; i < n; i++)
		for (size_t h = 0; h < s.heads; h++) {
			attend_reference(kv, in.seq[i], h / group, &in.q[i * row + h * s.dim],
					 s.len[i],
					 s.gated ? &in.gate[i * in.ldg + h * in.g_step] : NULL,
					 decode_error(s.type), &want, &bound);
			for (size_t d = 0; d < s.dim; d++)
				check_near("attention", d, got[i * row + h * s.dim + d], want[d],
					   bound[d]);
		}
	for (size_t i = 0; i < n; i++) { /* alone, told of a longer context: the same bits */
		const std::vector<float> one = run(s, in, kv, i, i + 1, s.len[i] + 64);

		check_bits("sequence alone", one.data(), &got[i * row], row);
	}
}

/* Tokens of one sequence, the first of which sees @first positions: together, cut anywhere, and one by one. */
static void check_run(struct shape s, uint32_t first, size_t n)
{
	const size_t row = s.heads * s.dim;
	kv_pages kv(s.type, s.kv_heads, s.dim, 2, first + n + 64);
	struct inputs in;
	std::vector<float> alone, got;

	in.q = random_floats(n * row, 1.5f / sqrtf((float)s.dim));
	in.g_step = s.dim;
	in.ldg = s.heads * s.dim;
	in.gate = random_floats(n * in.ldg, 3.0f);
	for (uint32_t i = 0; i < n; i++) {
		in.seq.push_back(1);
		s.len.push_back(first + i);
	}
	kv.fill(1, first + (uint32_t)n - 1, 1.0f);
	s.rows = true;
	for (size_t i = 0; i < n; i++) {
		const std::vector<float> one = run(s, in, kv, i, i + 1, s.len[i]);

		alone.insert(alone.end(), one.begin(), one.end());
	}
	s.one_run = true;
	got = run(s, in, kv, 0, n, s.len.back());
	check_bits("a run", got.data(), alone.data(), n * row);
	for (size_t cut : { n / 3, n - 1 }) {
		got = run(s, in, kv, cut, n, s.len.back());
		check_bits("a run's rest", got.data(), &alone[cut * row], (n - cut) * row);
	}
}

static void check_refusals(void)
{
	device_array<float> f(64 * 64);
	device_array<uint32_t> u(16);
	device_array<uint8_t> pool(cuda_kv_page_bytes(CUDA_KV_F16, 1, 64));
	struct cuda_attend a = {}, b;

	check_equal("no sequences", 0, cuda_attend_decode(NULL, &a), 0);
	check_equal("NULL", 0, cuda_attend_decode(NULL, NULL), -EINVAL);
	check_equal("scratch", 0, cuda_attend_decode_scratch(1, 1, 64, 64, 64) % 256, 0);
	a.q = f.p;
	a.out = f.p;
	a.kv = cuda_kv_cache{ CUDA_KV_F16, pool.p, u.p, 1, 1, 64 };
	a.heads = a.sequences = 1;
	a.len = u.p;
	a.max_len = a.part = 64;
	a.scratch = f.p;
#define REFUSES(what, change)                                                \
	do {                                                                 \
		b = a;                                                       \
		change;                                                      \
		check_equal(what, 0, cuda_attend_decode(NULL, &b), -EINVAL); \
	} while (0)
	REFUSES("dim 80", b.kv.dim = 80);
	REFUSES("part 0", b.part = 0);
	REFUSES("part 65", b.part = 65);
	REFUSES("heads of no group", (b.heads = 3, b.kv.heads = 2));
	REFUSES("longer than the table", b.max_len = 65);
	REFUSES("no scratch", b.scratch = NULL);
	REFUSES("no lengths", b.len = NULL);
	REFUSES("gate's step", (b.gate = f.p, b.ldg = 64, b.g_step = 32));
	REFUSES("act of no super-block", b.act = (cuda_act{ CUDA_IN_Q8_0, f.p }));
#undef REFUSES
}

int main(int argc, char **argv)
{
	const struct shape small[] = {
		{ CUDA_KV_F16, 64, 3, 1, 64, false, false, { 1 } },
		{ CUDA_KV_F16, 256, 4, 2, 64, true, false, { 0, 1, 77, 200 } },
		{ CUDA_KV_Q8_0, 256, 4, 2, 128, true, true, { 191, 0, 64, 3 } },
		{ CUDA_KV_Q8_0, 128, 8, 1, 64, false, true, { 65, 130 } },
		{ CUDA_KV_F16, 128, 20, 1, 128, false, false, { 140, 5 } },
		{ CUDA_KV_Q8_0, 64, 16, 1, 64, true, false, { 63, 66 } },
		{ CUDA_KV_F16, 64, 2, 2, 64, false, true, { 0 } },
		{ CUDA_KV_F16, 64, 8, 2, 64, false, false, { 0, 70 } },
	};
	const struct shape published[] = {
		{ CUDA_KV_F16, 256, 32, 2, 256, true, false, { 1000, 333, 2048 } },
		{ CUDA_KV_Q8_0, 256, 24, 4, 256, true, true, { 700, 1500 } },
		{ CUDA_KV_F16, 128, 64, 4, 512, false, false, { 1100 } },
		{ CUDA_KV_F16, 64, 4, 1, 64, false, false, { 20000 } },
	};

	for (const struct shape &s : small)
		check_shape(s);
	/* over the ends of tiles, pages and parts; groups of 1 to 20 heads */
	check_run({ CUDA_KV_F16, 64, 8, 1, 64, true, true, {}, false }, 1, 37);
	check_run({ CUDA_KV_F16, 256, 8, 2, 128, false, true, {}, false }, 121, 9);
	check_run({ CUDA_KV_Q8_0, 128, 4, 2, 64, true, true, {}, false }, 57, 18);
	check_run({ CUDA_KV_Q8_0, 64, 3, 1, 64, false, true, {}, false }, 60, 8);
	check_run({ CUDA_KV_F16, 64, 4, 4, 64, false, true, {}, false }, 44, 40);
	check_run({ CUDA_KV_F16, 64, 20, 1, 64, false, true, {}, false }, 14, 4);
	if (option_all(argc, argv)) {
		check_run({ CUDA_KV_F16, 256, 16, 2, 256, true, true, {}, false }, 500, 24);
		check_run({ CUDA_KV_Q8_0, 256, 16, 2, 256, true, true, {}, false }, 250, 24);
		for (const struct shape &s : published)
			check_shape(s);
	}
	check_refusals();
	return values_report("attend_decode");
}
