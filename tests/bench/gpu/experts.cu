/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/experts.cu: what a mixture's layer does: router, expert group (decode), sorted and
 * grouped products (prefill).
 */
#include "tests/bench/gpu/bench.h"

#include <algorithm>
#include <numeric>

struct expert_types {
	uint32_t gate, down;
	const char *name;
};

/* One layer's expert group of one token after the other: each with experts of its own in memory */
static void group(const struct model &m, const struct expert_types &t)
{
	const size_t gate_row = quant_row_bytes(t.gate, m.d),
		     down_row = quant_row_bytes(t.down, m.f);
	const size_t gate = gate_row * m.f, down = down_row * m.d, all = 2 * gate + down;
	const int count = copies_of(all * m.used);
	uint8_t *w = random_weights(all * m.used * count);
	std::vector<struct cuda_expert_entry> entries;
	float *x = random_floats(m.d), *weights = random_floats(m.used);
	float *partial = (float *)device_bytes(m.used * m.d * 4);
	float *y = (float *)device_bytes(m.d * 4);
	struct cuda_expert_group g = {};
	double us, reduced;
	void *act = device_bytes(cuda_act_bytes(m.d));

	for (int i = 0; i < count; i++)
		for (size_t r = 0; r < m.used; r++) {
			const uint8_t *e = w + (i * m.used + r) * all;

			entries.push_back({ e, e + gate, e + 2 * gate, 0, (uint32_t)r });
		}
	must(cuda_act_quantize(NULL, cuda_matvec_input(t.gate), x, m.d, m.d, 1, act),
	     "cuda_act_quantize");
	g.gate_type = g.up_type = t.gate;
	g.down_type = t.down;
	g.gate_row_bytes = g.up_row_bytes = gate_row;
	g.down_row_bytes = down_row;
	g.d = m.d;
	g.f = m.f;
	g.n_entries = m.used;
	g.k = (unsigned)m.used;
	g.x = act;
	g.hidden = (float *)device_bytes(m.used * m.f * 4);
	g.partial = partial;
	const struct cuda_expert_entry *at = device_copy(entries);
	const auto launch = [&](cuda_stream s, int i) {
		g.entries = at + i * m.used;
		must(cuda_expert_gate_up(s, &g), "cuda_expert_gate_up");
		return cuda_expert_down(s, &g);
	};

	us = time_launches(count, launch);
	reduced = time_launches(count, [&](cuda_stream s, int i) {
		must(launch(s, i), "cuda_expert_down");
		return cuda_expert_reduce(s, partial, NULL, weights, 1, (unsigned)m.used, m.d, true,
					  y);
	});
	report({ "expert_group", m.name, std::string(t.name) + ", 1 token", us,
		 (double)all * m.used, 0.0, machine_peaks().read, 0.0, 0.0 });
	report({ "expert_group", m.name, std::string(t.name) + ", 1 token, with reduce", reduced,
		 (double)all * m.used, 0.0, machine_peaks().read, 0.0, 0.0 });
	us = time_launches(count, [&](cuda_stream s, int i) {
		g.entries = at + i * m.used;
		return cuda_expert_gate_up(s, &g);
	});
	report({ "expert_gate_up", m.name, t.name, us, 2.0 * gate * m.used, 0.0,
		 machine_peaks().read, 0.0, 0.0 });
	us = time_launches(count, [&](cuda_stream s, int i) {
		g.entries = at + i * m.used;
		return cuda_expert_down(s, &g);
	});
	report({ "expert_down", m.name, t.name, us, (double)down * m.used, 0.0,
		 machine_peaks().read, 0.0, 0.0 });
	release_all();
}

/* Ids of @tokens tokens, each @used different experts out of all, as good as random */
static std::vector<uint32_t> random_ids(const struct model &m, size_t tokens)
{
	std::vector<uint32_t> ids;

	for (size_t t = 0; t < tokens; t++) {
		const size_t first = ids.size();

		while (ids.size() - first < m.used) {
			const uint32_t e = random_below((uint32_t)m.experts);

			if (std::find(ids.begin() + (long)first, ids.end(), e) == ids.end())
				ids.push_back(e);
		}
	}
	return ids;
}

static void grouped(const struct model &m, const struct expert_types &t, size_t tokens)
{
	const size_t entries = tokens * m.used, row = quant_row_bytes(t.gate, m.d);
	uint8_t *w = random_weights(row * m.f * m.experts);
	std::vector<const void *> experts;
	uint32_t *ids = device_copy(random_ids(m, tokens));
	uint32_t *offsets = (uint32_t *)device_bytes((m.experts + 1) * 4);
	uint32_t *lists = (uint32_t *)device_bytes(3 * entries * 4);
	float *x = random_floats(tokens * m.d);
	void *act = device_bytes(tokens * cuda_act_bytes(m.d));
	struct cuda_grouped g = {};
	double us;

	for (size_t e = 0; e < m.experts; e++)
		experts.push_back(w + e * row * m.f);
	must(cuda_act_quantize(NULL, cuda_matvec_input(t.gate), x, m.d, m.d, tokens, act),
	     "cuda_act_quantize");
	us = time_launches(8, [&](cuda_stream s, int) {
		return cuda_expert_sort(s, ids, entries, (unsigned)m.used, m.experts, offsets,
					lists, lists + entries, lists + 2 * entries);
	});
	if (wanted("expert_sort"))
		report({ "expert_sort", m.name, std::to_string(tokens) + " tokens", us,
			 16.0 * entries, 0.0, 0.0, 0.0, 0.0 });
	g.type = t.gate;
	g.w = device_copy(experts);
	g.row_bytes = row;
	g.n = m.d;
	g.rows = m.f;
	g.experts = m.experts;
	g.offsets = offsets;
	g.gather = lists + 2 * entries;
	g.entries = entries;
	g.x = act;
	g.ldy = m.f;
	g.y = (float *)device_bytes(entries * m.f * 4);
	us = time_launches(4, [&](cuda_stream s, int) { return cuda_gemm_grouped(s, &g); });
	if (wanted("gemm_grouped"))
		report({ "gemm_grouped", m.name,
			 std::string(t.name) + " gate, " + std::to_string(tokens) + " tokens", us,
			 (double)row * m.f * m.experts, 2.0 * m.f * m.d * entries,
			 machine_peaks().read, machine_peaks().int8, 0.0 });
	release_all();
}

static void router(const struct model &m, size_t tokens)
{
	const int count = 16;
	float *w = random_floats(m.experts * m.d * count);
	struct cuda_router r = {};
	double us;

	r.x = random_floats(tokens * m.d);
	r.d = m.d;
	r.experts = m.experts;
	r.tokens = tokens;
	r.k = (unsigned)m.used;
	r.norm = true;
	r.scale = 1.0f;
	r.ids = (uint32_t *)device_bytes(tokens * m.used * 4);
	r.weights = (float *)device_bytes(tokens * m.used * 4);
	r.logits = (float *)device_bytes(tokens * m.experts * 4);
	us = time_launches(count, [&](cuda_stream s, int i) {
		r.w = w + i * m.experts * m.d;
		return cuda_router(s, &r);
	});
	report({ "router", m.name, std::to_string(tokens) + " tokens", us,
		 (double)m.experts * m.d * 4, 2.0 * m.experts * m.d * tokens,
		 tokens == 1 ? machine_peaks().read : 0.0, tokens > 1 ? machine_peaks().fma32 : 0.0,
		 0.0 });
	release_all();
}

void bench_experts(void)
{
	for (const struct model &m : models) {
		if (!m.experts)
			continue;
		if (wanted("expert_group")) {
			group(m, { QUANT_Q4_K, QUANT_Q6_K, "Q4_K, Q6_K down" });
			group(m, { QUANT_Q4_K, QUANT_Q4_K, "Q4_K, Q4_K down" });
		}
		if (wanted("gemm_grouped") || wanted("expert_sort")) {
			grouped(m, { QUANT_Q4_K, QUANT_Q6_K, "Q4_K" }, sized(512));
			grouped(m, { QUANT_Q4_K, QUANT_Q6_K, "Q4_K" }, sized(2048));
		}
		if (wanted("router")) {
			router(m, 1);
			router(m, sized(2048));
		}
	}
}
