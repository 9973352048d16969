/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/attention.cu: attention over pages (decode and prefill) and what writes them.
 */
#include "tests/bench/gpu/bench.h"

#include <algorithm>
#include <math.h>
#include <stdio.h>

/* Pages of @sequences contexts of @len positions, in random order */
static struct cuda_kv_cache cache(const struct model &m, enum cuda_kv type, size_t sequences,
				  size_t len)
{
	const size_t stride = (len + CUDA_KV_PAGE - 1) / CUDA_KV_PAGE, pages = sequences * stride;
	std::vector<uint32_t> table(pages);
	struct cuda_kv_cache kv = {};

	for (size_t i = 0; i < pages; i++)
		table[i] = (uint32_t)i;
	for (size_t i = pages; i > 1; i--)
		std::swap(table[i - 1], table[random_below((uint32_t)i)]);
	kv.type = type;
	kv.heads = m.kv_heads;
	kv.dim = m.dim;
	kv.pool = random_weights(pages * cuda_kv_page_bytes(type, m.kv_heads, m.dim));
	kv.table = device_copy(table);
	kv.table_stride = stride;
	return kv;
}

static void decode(const struct model &m, enum cuda_kv type, size_t sequences, size_t len)
{
	const double bytes =
		(double)sequences * ((len + 63) / 64) * cuda_kv_page_bytes(type, m.kv_heads, m.dim);
	const int count = copies_of((size_t)bytes);
	struct cuda_attend a = {};
	cudaDeviceProp prop;
	char detail[96];
	double us;

	must(cudaGetDeviceProperties(&prop, 0), "cudaGetDeviceProperties");
	a.kv = cache(m, type, sequences * count, len);
	a.heads = m.heads;
	a.sequences = sequences;
	a.max_len = len;
	/* about two blocks a multiprocessor, and no more: a part is read by one block */
	const size_t parts = std::max<size_t>(1, 2 * (size_t)prop.multiProcessorCount /
							 (m.kv_heads * sequences));
	a.part = std::max<size_t>(64, (len + parts - 1) / parts / 64 * 64 + 64);
	a.q = random_floats(sequences * m.heads * m.dim);
	a.len = device_copy(std::vector<uint32_t>(sequences, (uint32_t)len));
	a.scratch =
		device_bytes(cuda_attend_decode_scratch(sequences, m.heads, m.dim, len, a.part));
	a.out = (float *)device_bytes(sequences * m.heads * m.dim * 4);
	const uint32_t *table = a.kv.table;

	us = time_launches(count, [&](cuda_stream s, int i) {
		a.kv.table = table + i * sequences * a.kv.table_stride;
		return cuda_attend_decode(s, &a);
	});
	snprintf(detail, sizeof(detail), "%s, %zu x %zu, part %zu",
		 type == CUDA_KV_F16 ? "f16" : "q8_0", sequences, len, a.part);
	report({ "attend_decode", m.name, detail, us, bytes,
		 4.0 * sequences * len * m.heads * m.dim, machine_peaks().read, 0.0, 0.0 });
	release_all();
}

static void prefill(const struct model &m, enum cuda_kv type, size_t first, size_t tokens)
{
	const double seen = (double)tokens * first + 0.5 * tokens * (tokens + 1);
	struct cuda_attend a = {};
	char detail[96];
	double us;

	a.kv = cache(m, type, 1, first + tokens);
	a.heads = m.heads;
	a.q = random_floats(tokens * m.heads * m.dim);
	a.out = (float *)device_bytes(tokens * m.heads * m.dim * 4);
	us = time_launches(
		2, [&](cuda_stream s, int) { return cuda_attend_prefill(s, &a, first, tokens); });
	snprintf(detail, sizeof(detail), "%s, %zu tokens at %zu",
		 type == CUDA_KV_F16 ? "f16" : "q8_0", tokens, first);
	report({ "attend_prefill", m.name, detail, us, 0.0, 4.0 * seen * m.heads * m.dim, 0.0,
		 machine_peaks().half, 0.0 });
	release_all();
}

static void store(const struct model &m, size_t tokens)
{
	std::vector<uint32_t> pos(tokens);
	std::vector<float> freq;
	struct cuda_qkv a = {};
	double us;

	for (size_t i = 0; i < tokens; i++)
		pos[i] = (uint32_t)i;
	for (unsigned j = 0; j < m.rot / 2; j++)
		freq.push_back(powf(1e7f, -2.0f * (float)j / (float)m.rot));
	a.q = random_floats(tokens * m.heads * 2 * m.dim);
	a.k = random_floats(tokens * m.kv_heads * m.dim);
	a.v = random_floats(tokens * m.kv_heads * m.dim);
	a.q_step = 2 * m.dim;
	a.ldq = m.heads * 2 * m.dim;
	a.ldkv = m.kv_heads * m.dim;
	a.wq = random_floats(m.dim);
	a.wk = random_floats(m.dim);
	a.eps = 1e-6f;
	a.pos = device_copy(pos);
	a.seq = device_copy(std::vector<uint32_t>(tokens, 0));
	a.tokens = tokens;
	a.heads = m.heads;
	a.rot = m.rot;
	a.inv_freq = device_copy(freq);
	a.mscale = a.scale = 1.0f;
	a.q_out = (float *)device_bytes(tokens * m.heads * m.dim * 4);
	a.kv = cache(m, CUDA_KV_F16, 1, tokens);
	us = time_launches(8, [&](cuda_stream s, int) { return cuda_qkv_rope_store(s, &a); });
	report({ "qkv_rope_store", m.name, std::to_string(tokens) + " tokens", us,
		 4.0 * tokens * m.dim * (2.0 * m.heads + 3.0 * m.kv_heads), 0.0,
		 tokens > 1 ? machine_peaks().read : 0.0, 0.0, 0.0 });
	release_all();
}

void bench_attention(void)
{
	for (const struct model &m : models) {
		for (const enum cuda_kv type : { CUDA_KV_F16, CUDA_KV_Q8_0 }) {
			if (wanted("attend_decode")) {
				decode(m, type, 1, sized(32768));
				decode(m, type, 4, sized(32768));
				decode(m, type, 1, sized(200000));
				decode(m, type, 1, sized(2048));
			}
			if (wanted("attend_prefill")) {
				prefill(m, type, 0, sized(2048));
				prefill(m, type, sized(30720), sized(2048));
			}
		}
		if (wanted("qkv_rope_store")) {
			store(m, 1);
			store(m, sized(2048));
		}
	}
}
