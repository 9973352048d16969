/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/small.cu: norms, embedding, DeltaNet and what is done with logits.
 */
#include "tests/bench/gpu/bench.h"

#include <algorithm>

/* A line for an operation that moves @bytes; a share only where it is enough to fill the GPU. */
static void line(const char *op, const struct model &m, const std::string &detail, double bytes,
		 int count, const std::function<int(cuda_stream, int)> &launch)
{
	const double us = time_launches(count, launch);

	report({ op, m.name, detail, us, bytes, 0.0, bytes > 32e6 ? machine_peaks().read : 0.0, 0.0,
		 0.0 });
	release_all();
}

static void norms(const struct model &m, size_t tokens)
{
	const std::string detail = std::to_string(tokens) + " tokens";
	const size_t n = tokens * m.d;

	if (wanted("rmsnorm")) {
		float *res = random_floats(n), *x = random_floats(n), *w = random_floats(m.d);
		float *out = (float *)device_bytes(n * 4);
		void *act = device_bytes(tokens * cuda_act_bytes(m.d));

		line("rmsnorm", m, detail + ", residual, int8", 16.0 * n + 1.25 * n, 16,
		     [=](cuda_stream s, int) {
			     return cuda_rmsnorm(s, res, x, w, m.d, tokens, 1e-6f, out,
						 { CUDA_IN_Q8_K, act });
		     });
	}
	if (wanted("glu_mul")) {
		const size_t all = tokens * m.f;
		float *g = random_floats(all), *u = random_floats(all);
		void *act = device_bytes(tokens * cuda_act_bytes(m.f));

		line("glu_mul", m, detail, 9.25 * all, 16, [=](cuda_stream s, int) {
			return cuda_glu_mul(s, CUDA_GLU_SILU, g, u, m.f, m.f, tokens, NULL,
					    { CUDA_IN_Q8_K, act });
		});
	}
	if (wanted("convert")) {
		float *x = random_floats(n);
		void *out = device_bytes(n * 2);

		line("convert", m, detail + ", f32 to bf16", 6.0 * n, 16, [=](cuda_stream s, int) {
			return cuda_convert(s, CUDA_F32, x, CUDA_BF16, out, n);
		});
	}
	if (wanted("shared_gate") && m.experts) {
		float *x = random_floats(n), *w = random_floats(m.d), *sh = random_floats(n);
		float *y = random_floats(n);

		line("shared_gate", m, detail, 16.0 * n, 16, [=](cuda_stream s, int) {
			return cuda_shared_gate(s, x, w, sh, tokens, m.d, y);
		});
	}
	if (wanted("gate_mul")) {
		const size_t all = tokens * m.heads * m.dim;
		float *x = random_floats(all), *g = random_floats(2 * all);

		line("gate_mul", m, detail, 12.0 * all, 16, [=](cuda_stream s, int) {
			return cuda_gate_mul(s, x, g, m.heads * 2 * m.dim, 2 * m.dim, tokens,
					     m.heads, m.dim);
		});
	}
	if (wanted("embed")) {
		const size_t row = quant_row_bytes(QUANT_Q4_K, m.d), rows = 16 * tokens;
		uint8_t *table = random_weights(row * rows);
		float *out = (float *)device_bytes(n * 4);
		std::vector<uint32_t> list(tokens);

		for (size_t i = 0; i < tokens; i++)
			list[i] = (uint32_t)(i * 7919 % rows);
		const uint32_t *ids = device_copy(list);

		line("embed", m, detail + ", Q4_K", (double)tokens * (row + 4 * m.d), 16,
		     [=](cuda_stream s, int) {
			     return cuda_embed(s, QUANT_Q4_K, table, row, m.d, rows, ids, tokens,
					       out);
		     });
	}
}

static void logits(const struct model &m, size_t rows)
{
	const std::string detail = std::to_string(rows) + " x " + std::to_string(m.vocab);
	const double bytes = 4.0 * rows * m.vocab;
	const int count = copies_of((size_t)bytes);
	const size_t each = rows * m.vocab;

	if (wanted("argmax")) {
		float *x = random_floats(each * count);
		uint32_t *ids = (uint32_t *)device_bytes(rows * 4);

		line("argmax", m, detail, bytes, count, [=](cuda_stream s, int i) {
			return cuda_argmax(s, x + i * each, m.vocab, m.vocab, rows, ids);
		});
	}
	if (wanted("topk")) {
		float *x = random_floats(each * count), *v = random_floats(rows * 64);
		uint32_t *ids = (uint32_t *)device_bytes(rows * 64 * 4);
		void *scratch = device_bytes(cuda_topk_scratch(m.vocab, rows, 64) + 256);

		line("topk", m, detail + ", k 64", bytes, count, [=](cuda_stream s, int i) {
			return cuda_topk(s, x + i * each, m.vocab, m.vocab, rows, 64, ids, v,
					 scratch);
		});
	}
	if (wanted("log_softmax")) {
		float *x = random_floats(each * count), *lse = random_floats(rows);

		line("log_softmax", m, detail + ", lse only", bytes, count,
		     [=](cuda_stream s, int i) {
			     return cuda_log_softmax(s, x + i * each, m.vocab, m.vocab, rows, NULL,
						     lse);
		     });
	}
}

/* @sequences runs of @run tokens */
static void delta(const struct model &m, size_t sequences, size_t run)
{
	const struct cuda_delta_shape shape = { m.k_heads, m.v_heads, 128, false };
	const size_t channels = (2 * m.k_heads + m.v_heads) * 128, tokens = sequences * run;
	const size_t state = m.v_heads * 128 * 128;
	const double state_bytes = 8.0 * state * sequences;
	const int count = run == 1 ? copies_of((size_t)(state_bytes / 2)) : 2;
	const std::string detail =
		std::to_string(sequences) + " x " + std::to_string(run) + " tokens";
	std::vector<uint32_t> start, slot;

	for (size_t i = 0; i <= sequences; i++)
		start.push_back((uint32_t)(i * run));
	for (size_t i = 0; i < sequences; i++)
		slot.push_back((uint32_t)i);
	struct cuda_delta_batch b = { sequences,	 tokens, run, device_copy(start),
				      device_copy(slot), 0 };
	float *x = random_floats(tokens * channels), *w = random_floats(channels * 4);
	float *conv = random_floats(3 * channels * sequences);
	float *qkv = (float *)device_bytes(tokens * channels * 4);
	float *gate = random_floats(tokens * m.v_heads), *beta = random_floats(tokens * m.v_heads);
	float *a = random_floats(m.v_heads), *dt = random_floats(m.v_heads);
	float *z = random_floats(tokens * m.v_heads * 128), *wn = random_floats(128);
	float *s = random_floats(state * sequences * count);
	float *out = (float *)device_bytes(tokens * m.v_heads * 128 * 4);
	struct cuda_delta d = { shape, b, qkv, gate, beta, s, out, NULL };
	const double act = 4.0 * tokens * (channels + 128.0 * m.v_heads);
	const auto show = [&](const char *op, double bytes, int n,
			      const std::function<int(cuda_stream, int)> &launch) {
		const double us = time_launches(n, launch);

		report({ op, m.name, detail, us, bytes, 0.0,
			 bytes > 32e6 ? machine_peaks().copy : 0.0, 0.0, 0.0 });
	};

	d.scratch = device_bytes(cuda_delta_chunk_scratch(&shape, sequences, tokens) + 256);
	show("delta_conv", 8.0 * tokens * channels, 8,
	     [&](cuda_stream st, int) { return cuda_delta_conv(st, &shape, &b, x, w, conv, qkv); });
	show("delta_prepare", 8.0 * tokens * m.k_heads * 256, 1, [&](cuda_stream st, int) {
		return cuda_delta_prepare(st, &shape, tokens, qkv, gate, beta, a, dt, gate);
	});
	if (run == 1)
		show("delta_step", state_bytes + act, count, [&](cuda_stream st, int i) {
			d.state = s + i * state * sequences;
			return cuda_delta_step(st, &d);
		});
	else
		show("delta_chunk", state_bytes + act, 2,
		     [&](cuda_stream st, int) { return cuda_delta_chunk(st, &d); });
	show("delta_out", 12.0 * tokens * m.v_heads * 128, 8, [&](cuda_stream st, int) {
		return cuda_delta_out(st, out, z, wn, tokens, m.v_heads, 128, 1e-6f, out,
				      { CUDA_IN_NONE, NULL });
	});
	release_all();
}

void bench_small(void)
{
	for (const struct model &m : models) {
		norms(m, 1);
		norms(m, sized(2048));
		logits(m, 1);
		logits(m, 8);
		if (wanted("delta") && m.k_heads) {
			delta(m, 1, 1);
			delta(m, 4, 1);
			delta(m, 1, std::max<size_t>(2, sized(2048)));
		}
	}
}
