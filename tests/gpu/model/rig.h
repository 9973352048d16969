/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/model/rig.h: a dense model's weights on the device and its forward pass as a string of
 * launchers, for test_dense_model.cu. Test-only: one sequence, memory taken as it goes, no speed.
 *
 * The model file is read through daemon/model, used as a library. Chunks of more than eight tokens
 * take the tiled products, prefill attention and chunked DeltaNet; shorter ones the forms of decode.
 */
#ifndef SLUICE_TESTS_GPU_MODEL_RIG_H
#define SLUICE_TESTS_GPU_MODEL_RIG_H

#include "kernels/cuda/ops.h"
#include "tests/gpu/kv_pages.h"

extern "C" {
#include "daemon/model/gguf.h"
#include "daemon/model/model.h"
#include "kernels/quant.h"
}

#include <errno.h>
#include <memory>
#include <unistd.h>

#define RIG_FEW	 8  /* columns of a matvec */
#define RIG_PART 64 /* positions of a part in decode */

static inline void rig_ok(const char *what, int r)
{
	if (r == 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	exit(1);
}

/* A matrix or a vector of the file, as it lies there */
struct rig_weight {
	uint32_t type = 0;
	size_t n = 0, rows = 0, row_bytes = 0;
	std::unique_ptr<device_array<uint8_t>> bytes;

	void load(const struct model *m, const struct weight &w)
	{
		std::vector<uint8_t> all;

		for (uint32_t i = 0; i < w.n_runs; i++) {
			const struct weight_run &run = w.runs[i];
			std::vector<uint8_t> v(run.rows * w.row_bytes);

			if (pread(gguf_file(m->gguf, run.file)->fd, v.data(), v.size(),
				  (off_t)run.offset) != (ssize_t)v.size())
				rig_ok(w.name, -EIO);
			all.insert(all.end(), v.begin(), v.end());
		}
		type = w.type;
		n = w.n_in;
		rows = w.n_out;
		row_bytes = w.row_bytes;
		bytes.reset(new device_array<uint8_t>(all));
	}

	const float *floats() const /* vectors are F32 in these files */
	{
		if (type != QUANT_F32)
			rig_ok("a vector that is not F32", -EINVAL);
		return (const float *)bytes->p;
	}
};

/* Rows of activations, and their int8 form as the product at hand wants it */
struct rig_rows {
	device_array<float> f;
	device_array<uint8_t> act;

	rig_rows(size_t tokens, size_t n) : f(tokens * n), act(tokens * cuda_act_bytes(n))
	{
	}
};

static const struct cuda_act rig_no_act = { CUDA_IN_NONE, NULL };

struct rig_layer {
	struct rig_weight attn_norm, ffn_norm, wq, wk, wv, wo, q_norm, k_norm;
	struct rig_weight qkv, z, conv, dt, a, beta, alpha, norm, out, gate, up, down;
	std::unique_ptr<device_array<float>> conv_state, state;
	std::unique_ptr<device_array<uint8_t>> pool;
};

struct rig {
	struct model *m = NULL;
	struct rig_weight embd, output_norm, output;
	std::vector<struct rig_layer> layers;
	struct cuda_delta_shape shape = {};
	enum cuda_kv kv_type = CUDA_KV_F16;
	std::unique_ptr<device_array<uint32_t>> table, zero;
	std::unique_ptr<device_array<float>> freq;
	size_t pages = 0;

	/* @path for up to @positions; the cache in pages of @kv in shuffled order */
	rig(const char *path, size_t positions, enum cuda_kv kv) : kv_type(kv)
	{
		struct err e = {};
		int r = model_open(path, &m, &e);

		if (r) {
			fprintf(stderr, "%s\n", e.text);
			exit(1);
		}
		shape = { m->ssm_k_heads, m->ssm_v_heads, m->ssm_head_dim, !m->ssm_v_tiled };
		embd.load(m, m->w[ROLE_TOKEN_EMBD]);
		output_norm.load(m, m->w[ROLE_OUTPUT_NORM]);
		output.load(m, m->w[ROLE_OUTPUT]);
		layers.resize(m->n_layers);
		const kv_pages shuffled(kv, m->attention.n_head_kv, m->attention.head_dim, 1,
					positions);
		table.reset(new device_array<uint32_t>(shuffled.table));
		zero.reset(new device_array<uint32_t>(std::vector<uint32_t>(positions, 0)));
		pages = shuffled.stride;
		for (uint32_t i = 0; i < m->n_layers; i++)
			load_layer(m->layers[i], &layers[i], shuffled.pool);
		std::vector<float> f;
		for (uint32_t j = 0; j < m->attention.rope.n_rot / 2; j++)
			f.push_back((float)(m->attention.rope.scale *
					    pow(m->attention.rope.base,
						-2.0 * j / m->attention.rope.n_rot)));
		freq.reset(new device_array<float>(f));
	}
	~rig()
	{
		model_destroy(m);
	}

	void load_layer(const struct layer &from, struct rig_layer *l,
			const std::vector<uint8_t> &pool)
	{
		const size_t channels = (2 * shape.k_heads + shape.v_heads) * shape.dim;

		l->attn_norm.load(m, from.w[ROLE_ATTN_NORM]);
		l->ffn_norm.load(m, from.w[ROLE_FFN_NORM]);
		l->gate.load(m, from.w[ROLE_FFN_GATE]);
		l->up.load(m, from.w[ROLE_FFN_UP]);
		l->down.load(m, from.w[ROLE_FFN_DOWN]);
		if (layer_has(&from, BLOCK_ATTENTION)) {
			l->wq.load(m, from.w[ROLE_WQ]);
			l->wk.load(m, from.w[ROLE_WK]);
			l->wv.load(m, from.w[ROLE_WV]);
			l->wo.load(m, from.w[ROLE_WO]);
			l->q_norm.load(m, from.w[ROLE_Q_NORM]);
			l->k_norm.load(m, from.w[ROLE_K_NORM]);
			l->pool.reset(new device_array<uint8_t>(pool));
			return;
		}
		l->qkv.load(m, from.w[ROLE_SSM_QKV]);
		l->z.load(m, from.w[ROLE_SSM_Z]);
		l->conv.load(m, from.w[ROLE_SSM_CONV]);
		l->dt.load(m, from.w[ROLE_SSM_DT]);
		l->a.load(m, from.w[ROLE_SSM_A]);
		l->beta.load(m, from.w[ROLE_SSM_BETA]);
		l->alpha.load(m, from.w[ROLE_SSM_ALPHA]);
		l->norm.load(m, from.w[ROLE_SSM_NORM]);
		l->out.load(m, from.w[ROLE_SSM_OUT]);
		l->conv_state.reset(
			new device_array<float>(std::vector<float>(3 * channels, 0.0f)));
		l->state.reset(new device_array<float>(
			std::vector<float>(shape.v_heads * shape.dim * shape.dim, 0.0f)));
	}

	/* y [tokens][w.rows] = W x */
	void product(const struct rig_weight &w, const struct rig_rows &x, size_t tokens,
		     device_array<float> &y)
	{
		const bool few = tokens <= RIG_FEW;
		const enum cuda_input form = few ? cuda_matvec_input(w.type)
						 : cuda_gemm_input(w.type);
		struct cuda_product p = {};

		p.type = w.type;
		p.w = w.bytes->p;
		p.row_bytes = w.row_bytes;
		p.n = w.n;
		p.rows = w.rows;
		p.x = x.f.p;
		if (form == CUDA_IN_Q8_0 || form == CUDA_IN_Q8_K) {
			rig_ok("quantize",
			       cuda_act_quantize(NULL, form, x.f.p, w.n, w.n, tokens, x.act.p));
			p.x = x.act.p;
		}
		p.cols = tokens;
		p.y = y.p;
		p.ldy = w.rows;
		if (form == CUDA_IN_F16 || form == CUDA_IN_BF16)
			rig_ok("half rows: not in this file", -ENOTSUP);
		rig_ok("product", few ? cuda_matvec(NULL, &p) : cuda_gemm(NULL, &p));
	}

	/* out [tokens][d] of the attention layer @l, tokens at positions @first ... */
	void attention(struct rig_layer &l, const struct rig_rows &x, size_t first, size_t tokens,
		       device_array<float> &out)
	{
		const size_t dim = m->attention.head_dim, heads = m->attention.n_head,
			     width = heads * dim;
		const size_t step = l.wq.rows / heads, part = RIG_PART, len = first + tokens;
		device_array<float> q(tokens * l.wq.rows), k(tokens * l.wk.rows);
		device_array<float> v(tokens * l.wv.rows), turned(tokens * width);
		device_array<uint8_t> scratch(cuda_attend_decode_scratch(1, heads, dim, len, part));
		struct rig_rows mixed(tokens, width);
		std::vector<uint32_t> at(tokens);
		struct cuda_qkv a = {};
		struct cuda_attend b = {};

		product(l.wq, x, tokens, q);
		product(l.wk, x, tokens, k);
		product(l.wv, x, tokens, v);
		for (size_t t = 0; t < tokens; t++)
			at[t] = (uint32_t)(first + t);
		device_array<uint32_t> pos(at);
		a.q = q.p;
		a.k = k.p;
		a.v = v.p;
		a.ldq = l.wq.rows;
		a.q_step = step;
		a.ldkv = l.wk.rows;
		a.wq = l.q_norm.floats();
		a.wk = l.k_norm.floats();
		a.eps = m->rms_eps;
		a.pos = pos.p;
		a.seq = zero->p;
		a.tokens = tokens;
		a.heads = heads;
		a.rot = m->attention.rope.n_rot;
		a.inv_freq = freq->p;
		a.mscale = 1.0f;
		a.scale = m->attention.scale;
		a.q_out = turned.p;
		a.kv = { kv_type, l.pool->p, table->p, pages, m->attention.n_head_kv, dim };
		rig_ok("qkv", cuda_qkv_rope_store(NULL, &a));
		b.kv = a.kv;
		b.heads = heads;
		b.sequences = 1;
		b.seq = zero->p;
		b.part = part;
		b.scratch = scratch.p;
		b.ldg = a.ldq;
		b.g_step = step;
		if (tokens > RIG_FEW) {
			b.q = turned.p;
			b.out = mixed.f.p;
			rig_ok("prefill", cuda_attend_prefill(NULL, &b, first, tokens));
			if (step > dim)
				rig_ok("gate", cuda_gate_mul(NULL, mixed.f.p, q.p + dim, b.ldg,
							     step, tokens, heads, dim));
		}
		for (size_t t = 0; t < tokens && tokens <= RIG_FEW; t++) {
			device_array<uint32_t> length(std::vector<uint32_t>(1, at[t] + 1));

			b.q = turned.p + t * width;
			b.out = mixed.f.p + t * width;
			b.gate = step > dim ? q.p + t * b.ldg + dim : NULL;
			b.len = length.p;
			b.max_len = at[t] + 1;
			rig_ok("decode", cuda_attend_decode(NULL, &b));
			values_cuda(cudaDeviceSynchronize(), "decode");
		}
		product(l.wo, mixed, tokens, out);
	}

	void delta(struct rig_layer &l, const struct rig_rows &x, size_t tokens,
		   device_array<float> &out)
	{
		const size_t width = shape.v_heads * shape.dim;
		const std::vector<uint32_t> ends = { 0, (uint32_t)tokens };
		device_array<float> u(tokens * l.qkv.rows), z(tokens * width),
			c(tokens * l.qkv.rows);
		device_array<float> alpha(tokens * shape.v_heads), beta(tokens * shape.v_heads);
		device_array<float> o(tokens * width);
		device_array<uint8_t> scratch(cuda_delta_chunk_scratch(&shape, 1, tokens));
		device_array<uint32_t> start(ends);
		struct rig_rows gated(tokens, width);
		const struct cuda_delta_batch batch = { 1, tokens, tokens, start.p, zero->p, 0 };
		struct cuda_delta d = { shape,	batch,	    c.p, alpha.p,
					beta.p, l.state->p, o.p, scratch.p };

		product(l.qkv, x, tokens, u);
		product(l.z, x, tokens, z);
		product(l.alpha, x, tokens, alpha);
		product(l.beta, x, tokens, beta);
		rig_ok("conv", cuda_delta_conv(NULL, &shape, &batch, u.p, l.conv.floats(),
					       l.conv_state->p, c.p));
		rig_ok("prepare", cuda_delta_prepare(NULL, &shape, tokens, c.p, alpha.p, beta.p,
						     l.a.floats(), l.dt.floats(), alpha.p));
		rig_ok("delta",
		       tokens > RIG_FEW ? cuda_delta_chunk(NULL, &d) : cuda_delta_step(NULL, &d));
		rig_ok("delta_out",
		       cuda_delta_out(NULL, o.p, z.p, l.norm.floats(), tokens, shape.v_heads,
				      shape.dim, m->rms_eps, gated.f.p, rig_no_act));
		product(l.out, gated, tokens, out);
	}

	/* Log-probabilities [tokens][vocab] of @ids at positions @first ... */
	std::vector<float> run(const std::vector<uint32_t> &ids, size_t first)
	{
		const size_t tokens = ids.size(), d = m->n_embd, f = m->n_ff;
		device_array<float> x(tokens * d), y(tokens * d), logits(tokens * m->n_vocab);
		device_array<float> gate(tokens * f), up(tokens * f);
		device_array<uint32_t> device_ids(ids);
		struct rig_rows in(tokens, d), hidden(tokens, f);
		const float *add = NULL;

		rig_ok("embed", cuda_embed(NULL, embd.type, embd.bytes->p, embd.row_bytes, d,
					   embd.rows, device_ids.p, tokens, x.p));
		for (size_t i = 0; i < layers.size(); i++) {
			struct rig_layer &l = layers[i];

			rig_ok("norm", cuda_rmsnorm(NULL, x.p, add, l.attn_norm.floats(), d, tokens,
						    m->rms_eps, in.f.p, rig_no_act));
			if (l.pool)
				attention(l, in, first, tokens, y);
			else
				delta(l, in, tokens, y);
			rig_ok("norm", cuda_rmsnorm(NULL, x.p, y.p, l.ffn_norm.floats(), d, tokens,
						    m->rms_eps, in.f.p, rig_no_act));
			product(l.gate, in, tokens, gate);
			product(l.up, in, tokens, up);
			rig_ok("silu", cuda_glu_mul(NULL, CUDA_GLU_SILU, gate.p, up.p, f, f, tokens,
						    hidden.f.p, rig_no_act));
			product(l.down, hidden, tokens, y);
			add = y.p;
		}
		rig_ok("norm", cuda_rmsnorm(NULL, x.p, add, output_norm.floats(), d, tokens,
					    m->rms_eps, in.f.p, rig_no_act));
		product(output, in, tokens, logits);
		rig_ok("log_softmax", cuda_log_softmax(NULL, logits.p, m->n_vocab, m->n_vocab,
						       tokens, logits.p, NULL));
		return logits.get();
	}
};

#endif
