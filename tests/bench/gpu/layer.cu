/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/layer.cu: layers of decode (layer.h) and their times: launches and microseconds of a layer, and
 * of its experts alone as a share of what reading reaches.
 */
#include "tests/bench/gpu/layer.h"

#define DELTA_DIM 128

cudaGraphExec_t record(const std::function<int(cuda_stream)> &put)
{
	cudaStream_t s;
	cudaGraph_t g;
	cudaGraphExec_t exec;

	must(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cudaStreamCreate");
	must(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), "capture");
	must(put(s), "a launch");
	must(cudaStreamEndCapture(s, &g), "capture");
	must(cudaGraphInstantiate(&exec, g, 0), "cudaGraphInstantiate");
	cudaGraphDestroy(g);
	cudaStreamDestroy(s);
	return exec;
}

/* One value of @v in memory of the device */
static uint32_t *device_word(uint32_t v)
{
	return device_copy(std::vector<uint32_t>(1, v));
}

static float *device_floats(size_t n)
{
	return device_copy(std::vector<float>(n, 0.0f));
}

layer_rig::layer_rig(const struct model &shape, int layers, unsigned resident, size_t context)
    : m(shape), ranks(shape.used + 1), qk(2 * shape.k_heads * DELTA_DIM),
      values(shape.v_heads * DELTA_DIM), channels(qk + values), width(shape.heads * shape.dim),
      q_rows(2 * width), kv_rows(shape.kv_heads * shape.dim), context_(context),
      expert_row(quant_row_bytes(QUANT_Q4_K, shape.d)),
      down_row(quant_row_bytes(QUANT_Q6_K, shape.f)),
      shared_row(quant_row_bytes(QUANT_Q8_0, shape.d)),
      shared_down_row(quant_row_bytes(QUANT_Q8_0, shape.f))
{
	const size_t d = m.d, delta = m.k_heads ? (channels + values + 2 * m.v_heads) : 0;
	const size_t in_rows = std::max(delta, q_rows + 2 * kv_rows);
	const size_t out = quant_row_bytes(QUANT_Q4_K, std::max(values, width)) * d;
	const size_t most = std::max(std::max(channels, q_rows), std::max(values, 2 * kv_rows));
	std::vector<uint32_t> where(m.experts, UINT32_MAX);

	slot_bytes = 2 * expert_row * m.f + down_row * d;
	slots = 2 * m.used;
	for (size_t e = 0; e < m.experts; e++)
		if (random_below(100) < resident)
			where[e] = (uint32_t)(e % slots);
	mixer_bytes = in_rows * expert_row + out;
	layer_bytes = mixer_bytes + 2 * shared_row * m.f + shared_down_row * d;
	weights_ = random_weights(layer_bytes * layers);
	slot_memory = random_weights(slot_bytes * slots * layers);
	router_w = random_floats((m.experts + 1) * d * layers);
	x = random_floats(d);
	ones = device_copy(std::vector<float>(std::max(4 * channels, d), 1.0f));
	in = device_floats(d);
	a = device_floats(most);
	b = device_floats(most);
	q = device_floats(std::max(width, values));
	o = device_floats(std::max(width, values));
	y = device_floats(d);
	alpha = device_floats(m.v_heads + 1);
	beta = device_floats(m.v_heads + 1);
	conv = device_floats(3 * channels);
	state = device_floats(m.v_heads * DELTA_DIM * DELTA_DIM);
	logits = device_floats(m.experts + 1);
	router_weights = device_floats(ranks);
	hidden = device_floats(m.used * m.f);
	shared_hidden = device_floats(m.f);
	partial = device_floats(ranks * d);
	inv_freq = device_copy(std::vector<float>(m.rot / 2, 0.01f));
	act = device_bytes(cuda_act_bytes(d));
	super = device_bytes(cuda_act_bytes(d));
	mid = device_bytes(cuda_act_bytes(std::max(width, values)));
	const size_t pages = context / CUDA_KV_PAGE + 1;
	std::vector<uint32_t> order(pages);

	for (size_t i = 0; i < pages; i++)
		order[i] = (uint32_t)i;
	table = device_copy(order);
	const size_t pool_bytes = pages * cuda_kv_page_bytes(CUDA_KV_F16, m.kv_heads, m.dim);

	pool = device_bytes(pool_bytes);
	must(cudaMemset(pool, 0, pool_bytes), "cudaMemset");
	scratch = device_bytes(cuda_attend_decode_scratch(1, m.heads, m.dim, context + 64, 256));
	ids = (uint32_t *)device_bytes(m.used * 4);
	slot_of = device_copy(where);
	count = device_copy(std::vector<uint32_t>(layers, 0));
	place = device_copy(std::vector<uint32_t>(ranks, 0));
	start = device_copy(std::vector<uint32_t>{ 0, 1 });
	zero = device_word(0);
	pos = device_word((uint32_t)context);
	len = device_word((uint32_t)context + 1);
	list = (struct cuda_expert_entry *)device_bytes(m.used * sizeof(*list));
	word = (uint32_t *)mapped_bytes(layers * 64);
	to_ids = (uint32_t *)mapped_bytes(m.used * 4);
	to_weights = (float *)mapped_bytes(ranks * 4);
	to_x = (float *)mapped_bytes(d * 4);
	mapped = (float *)mapped_bytes(ranks * d * 4);
}

struct cuda_product layer_rig::product(uint32_t type, const uint8_t *w, size_t n, size_t rows,
				       const void *from, float *to)
{
	struct cuda_product p = {};

	p.type = type;
	p.w = w;
	p.row_bytes = quant_row_bytes(type, n);
	p.n = n;
	p.rows = rows;
	p.x = from;
	p.cols = 1;
	p.y = to;
	p.ldy = rows;
	return p;
}

int layer_rig::mixer_delta(cuda_stream s, int i)
{
	const uint8_t *w = weights_ + i * layer_bytes;
	const struct cuda_delta_shape shape = { m.k_heads, m.v_heads, DELTA_DIM, false };
	const struct cuda_delta_batch batch = { 1, 1, 1, start, zero, 0 };
	const struct cuda_delta step = { shape, batch, b, alpha, beta, state, o, NULL };
	const struct cuda_product p[] = {
		product(QUANT_Q4_K, w, m.d, channels, super, a),
		product(QUANT_Q4_K, w + channels * expert_row, m.d, values, super, q),
		product(QUANT_Q4_K, w + (channels + values) * expert_row, m.d, m.v_heads, super,
			alpha),
		product(QUANT_Q4_K, w + (channels + values + m.v_heads) * expert_row, m.d,
			m.v_heads, super, beta)
	};
	int rc = cuda_matvec_many(s, p, 4);

	rc = rc ? rc : cuda_delta_conv(s, &shape, &batch, a, ones, conv, b);
	rc = rc ? rc : cuda_delta_prepare(s, &shape, 1, b, alpha, beta, ones, ones, alpha);
	rc = rc ? rc : cuda_delta_step(s, &step);
	return rc ? rc
		  : cuda_delta_out(s, o, q, ones, 1, m.v_heads, DELTA_DIM, 1e-6f, NULL,
				   { CUDA_IN_Q8_K, mid });
}

int layer_rig::mixer_attention(cuda_stream s, int i)
{
	const uint8_t *w = weights_ + i * layer_bytes;
	const struct cuda_product p[] = { product(QUANT_Q4_K, w, m.d, q_rows, super, a),
					  product(QUANT_Q4_K, w + q_rows * expert_row, m.d, kv_rows,
						  super, b),
					  product(QUANT_Q4_K, w + (q_rows + kv_rows) * expert_row,
						  m.d, kv_rows, super, b + kv_rows) };
	struct cuda_qkv h = {};
	struct cuda_attend t = {};
	int rc = cuda_matvec_many(s, p, 3);

	h.q = a;
	h.k = b;
	h.v = b + kv_rows;
	h.ldq = q_rows;
	h.q_step = 2 * m.dim;
	h.ldkv = kv_rows;
	h.eps = 1e-6f;
	h.pos = pos;
	h.seq = zero;
	h.tokens = 1;
	h.heads = m.heads;
	h.rot = m.rot;
	h.inv_freq = inv_freq;
	h.mscale = h.scale = 1.0f;
	h.q_out = q;
	h.kv = { CUDA_KV_F16, pool, table, context_ / CUDA_KV_PAGE + 1, m.kv_heads, m.dim };
	t.q = q;
	t.gate = a + m.dim;
	t.ldg = q_rows;
	t.g_step = 2 * m.dim;
	t.kv = h.kv;
	t.heads = m.heads;
	t.sequences = 1;
	t.len = len;
	t.max_len = context_ + 1;
	t.part = 256;
	t.scratch = scratch;
	t.out = o;
	t.act = { CUDA_IN_Q8_K, mid };
	rc = rc ? rc : cuda_qkv_rope_store(s, &h);
	return rc ? rc : cuda_attend_decode(s, &t);
}

int layer_rig::put_experts(cuda_stream s, int i)
{
	const uint8_t *w = weights_ + i * layer_bytes + mixer_bytes;
	const struct cuda_expert_shared sh = { QUANT_Q8_0,
					       QUANT_Q8_0,
					       QUANT_Q8_0,
					       shared_row,
					       shared_row,
					       shared_down_row,
					       m.f,
					       w,
					       w + shared_row * m.f,
					       w + 2 * shared_row * m.f,
					       1,
					       act,
					       shared_hidden };
	struct cuda_expert_group g = {};
	int rc;

	g.gate_type = g.up_type = QUANT_Q4_K;
	g.down_type = QUANT_Q6_K;
	g.gate_row_bytes = g.up_row_bytes = expert_row;
	g.down_row_bytes = down_row;
	g.d = m.d;
	g.f = m.f;
	g.entries = list;
	g.n_entries = m.used;
	g.count = count + i;
	g.k = (unsigned)ranks;
	g.x = super;
	g.hidden = hidden;
	g.partial = partial;
	g.shared = &sh;
	rc = cuda_expert_gate_up(s, &g);
	return rc ? rc : cuda_expert_down(s, &g);
}

int layer_rig::put(cuda_stream s, int i, bool recurrent)
{
	const size_t out_n = recurrent ? values : width;
	const uint8_t *out_w = weights_ + i * layer_bytes + mixer_bytes -
			       quant_row_bytes(QUANT_Q4_K, std::max(values, width)) * m.d;
	const struct cuda_expert_sum sum = { partial, mapped, place, router_weights,
					     (unsigned)ranks };
	struct cuda_product out = product(QUANT_Q4_K, out_w, out_n, m.d, mid, y);
	struct cuda_router r = {};
	struct cuda_publish p = {};
	struct cuda_resolve h = {};
	int rc = cuda_expert_reduce_norm(s, &sum, x, ones, m.d, 1, 1e-6f, in,
					 { CUDA_IN_Q8_K, super });

	rc = rc ? rc : recurrent ? mixer_delta(s, i) : mixer_attention(s, i);
	rc = rc ? rc : cuda_matvec(s, &out);
	rc = rc ? rc : cuda_rmsnorm(s, x, y, ones, m.d, 1, 1e-6f, in, { CUDA_IN_Q8_K, super });
	r.x = in;
	r.w = router_w + i * (m.experts + 1) * m.d;
	r.d = m.d;
	r.experts = m.experts;
	r.tokens = 1;
	r.k = (unsigned)m.used;
	r.norm = true;
	r.scale = 1.0f;
	r.shared = true;
	r.shared_gate = r.w + m.experts * m.d;
	r.ids = ids;
	r.weights = router_weights;
	r.logits = logits;
	rc = rc ? rc : cuda_router(s, &r);
	p.ids = ids;
	p.weights = router_weights;
	p.x = in;
	p.tokens = 1;
	p.d = m.d;
	p.k = h.k = (unsigned)m.used;
	p.ranks = h.ranks = (unsigned)ranks;
	p.to_ids = to_ids;
	p.to_weights = to_weights;
	p.to_x = to_x;
	p.word = word + 16 * i; /* a cache line each */
	p.value = 1;
	h.ids = ids;
	h.tokens = 1;
	h.experts = m.experts;
	h.slots = slot_of;
	h.base = slot_memory + i * slots * slot_bytes;
	h.slot_bytes = slot_bytes;
	h.up_at = expert_row * m.f;
	h.down_at = 2 * expert_row * m.f;
	h.list = list;
	h.count = count + i;
	h.place = place;
	rc = rc ? rc : cuda_handoff(s, &p, &h);
	rc = rc ? rc : cuda_act_quantize(s, CUDA_IN_Q8_0, in, m.d, m.d, 1, act);
	return rc ? rc : put_experts(s, i);
}

unsigned layer_rig::hits(int i)
{
	uint32_t n;

	must(cudaMemcpy(&n, count + i, 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
	return n;
}

double layer_rig::expert_bytes(int i)
{
	return 2.0 * shared_row * m.f + (double)shared_down_row * m.d +
	       (double)hits(i) * slot_bytes;
}

double layer_rig::bytes(int i, bool recurrent)
{
	const size_t rows = recurrent ? channels + values + 2 * m.v_heads : q_rows + 2 * kv_rows;
	const size_t out = quant_row_bytes(QUANT_Q4_K, recurrent ? values : width) * m.d;

	return (double)rows * expert_row + out + 4.0 * m.experts * m.d + expert_bytes(i);
}

/* Layers in a row, each with weights of its own; then their experts alone. */
static void layer_times(struct layer_rig &rig, const char *name, int layers, bool recurrent)
{
	const uint64_t before = cuda_launches();
	double us, bytes = 0.0, experts = 0.0, hits = 0.0;
	char detail[96];

	must(rig.put(NULL, 0, recurrent), "a layer");
	const unsigned launches = (unsigned)(cuda_launches() - before);

	us = time_launches(layers, [&](cuda_stream s, int i) { return rig.put(s, i, recurrent); });
	for (int i = 0; i < layers; i++) {
		bytes += rig.bytes(i, recurrent) / layers;
		experts += rig.expert_bytes(i) / layers;
		hits += (double)rig.hits(i) / layers;
	}
	snprintf(detail, sizeof(detail), "%s, %u launches, %.1f hits",
		 recurrent ? "DeltaNet" : "attention", launches, hits);
	report({ "layer", name, detail, us, bytes, 0.0, machine_peaks().read, 0.0, 0.0 });
	us = time_launches(layers, [&](cuda_stream s, int i) { return rig.put_experts(s, i); });
	snprintf(detail, sizeof(detail), "%.1f hits and the shared expert, 2 launches", hits);
	report({ "layer_experts", name, detail, us, experts, 0.0, machine_peaks().read, 0.0, 0.0 });
}

void bench_layers(void)
{
	for (const struct model &m : models) {
		if (!m.experts || !wanted("layer"))
			continue;
		for (unsigned resident : residencies()) {
			const int layers = copies_of((size_t)96 << 20);
			struct layer_rig rig(m, layers, resident, sized(4096));

			if (m.k_heads)
				layer_times(rig, m.name, layers, true);
			layer_times(rig, m.name, layers, false);
			release_all();
		}
	}
}
