/* SPDX-License-Identifier: MIT */
/*
 * Description: how many kernels a layer of decode takes with its experts in the device's memory and a shared
 * expert beside them: at most 15, with DeltaNet or attention as its mixer; and that a layer can be recorded once
 * and launched again, with the same result and another tick.
 *
 * Counted by cuda_launches(); what the numbers come to is other tests' work, here they only have to be there.
 */
#include "kernels/cuda/ops.h"
#include "kernels/quant.h"
#include "tests/gpu/kv_pages.h"

#include <errno.h>

#define D	256
#define DIM	128
#define HEADS	2 /* values of a mixer: 256 */
#define EXPERTS 16
#define USED	4
#define RANKS	(USED + 1)
#define MOST	15

static void ok(const char *what, int rc)
{
	check_equal(what, 0, rc, 0);
}

/* A row of D values in the format that needs most bytes here. */
#define ROW_MOST (D * 2)

/* Zeros of any format are zeros: any matrix of D columns. */
struct layer {
	device_array<uint8_t> w, slots_memory, act, super, mid;
	device_array<float> ones, x, in, a, b, q, alpha, beta, o, y, state, conv, hidden, partial;
	device_array<float> shared_hidden, mapped, logits, weights, to_weights, to_x;
	device_array<uint32_t> ids, to_ids, word, tick, slots, count, place, start, slot, pos, len,
		table;
	device_array<struct cuda_expert_entry> list;
	device_array<uint8_t> pool, scratch;
	cudaStream_t stream = NULL;

	layer()
	    : w(std::vector<uint8_t>(1024 * ROW_MOST, 0)),
	      slots_memory(std::vector<uint8_t>(3 * D * ROW_MOST, 0)), act(cuda_act_bytes(D)),
	      super(cuda_act_bytes(D)), mid(cuda_act_bytes(D)),
	      ones(std::vector<float>(16 * D, 1.0f)), x(random_floats(D, 1.0f)), in(D), a(4 * D),
	      b(4 * D), q(D), alpha(HEADS), beta(HEADS), o(D), y(D),
	      state(std::vector<float>(HEADS * DIM * DIM, 0.0f)),
	      conv(std::vector<float>(3 * 3 * D, 0.0f)), hidden(USED * D),
	      partial(std::vector<float>(RANKS * D, 0.0f)), shared_hidden(D),
	      mapped(std::vector<float>(RANKS * D, 0.0f)), logits(EXPERTS + 1),
	      weights(std::vector<float>(RANKS, 0.0f)), to_weights(RANKS), to_x(D), ids(USED),
	      to_ids(USED), word(1), tick(std::vector<uint32_t>{ 0 }),
	      slots(std::vector<uint32_t>(EXPERTS, 0)), count(1),
	      place(std::vector<uint32_t>(RANKS, 0)), start(std::vector<uint32_t>{ 0, 1 }),
	      slot(std::vector<uint32_t>{ 0 }), pos(std::vector<uint32_t>{ 0 }),
	      len(std::vector<uint32_t>{ 1 }), table(std::vector<uint32_t>{ 0 }), list(USED),
	      pool(cuda_kv_page_bytes(CUDA_KV_F16, HEADS, DIM)),
	      scratch(cuda_attend_decode_scratch(1, HEADS, DIM, 64, 256))
	{
	}

	struct cuda_product product(const void *in_rows, size_t rows, float *to)
	{
		struct cuda_product p = {};

		p.type = QUANT_Q8_0;
		p.w = w.p;
		p.row_bytes = quant_row_bytes(QUANT_Q8_0, D);
		p.n = D;
		p.rows = rows;
		p.x = in_rows;
		p.cols = 1;
		p.y = to;
		p.ldy = rows;
		return p;
	}

	/* The experts of the layer before, the stream, the norm: one launch. */
	void begin()
	{
		const struct cuda_expert_sum s = { partial.p, mapped.p, place.p, weights.p, RANKS };

		ok("experts and norm", cuda_expert_reduce_norm(stream, &s, x.p, ones.p, D, 1, 1e-6f,
							       in.p, { CUDA_IN_Q8_0, act.p }));
	}

	void deltanet()
	{
		const struct cuda_delta_shape s = { HEADS, HEADS, DIM, false };
		const struct cuda_delta_batch batch = { 1, 1, 1, start.p, slot.p, 0 };
		const struct cuda_delta step = {
			s, batch, b.p, alpha.p, beta.p, state.p, o.p, NULL
		};
		const struct cuda_product p[] = { product(act.p, 3 * D, a.p),
						  product(act.p, D, q.p),
						  product(act.p, HEADS, alpha.p),
						  product(act.p, HEADS, beta.p) };

		ok("qkv, z, alpha, beta", cuda_matvec_many(stream, p, 4));
		ok("conv", cuda_delta_conv(stream, &s, &batch, a.p, ones.p, conv.p, b.p));
		ok("prepare", cuda_delta_prepare(stream, &s, 1, b.p, alpha.p, beta.p, ones.p,
						 ones.p, alpha.p));
		ok("step", cuda_delta_step(stream, &step));
		ok("out", cuda_delta_out(stream, o.p, q.p, ones.p, 1, HEADS, DIM, 1e-6f, NULL,
					 { CUDA_IN_Q8_0, mid.p }));
	}

	void attention()
	{
		const struct cuda_product p[] = { product(act.p, D, a.p), product(act.p, D, b.p),
						  product(act.p, D, b.p + D) };
		struct cuda_qkv h = {};
		struct cuda_attend t = {};

		h.q = a.p;
		h.k = b.p;
		h.v = b.p + D;
		h.ldq = h.ldkv = D;
		h.q_step = DIM;
		h.eps = 1e-6f;
		h.pos = pos.p;
		h.seq = slot.p;
		h.tokens = 1;
		h.heads = HEADS;
		h.rot = DIM;
		h.inv_freq = ones.p;
		h.mscale = h.scale = 1.0f;
		h.q_out = q.p;
		h.kv = { CUDA_KV_F16, pool.p, table.p, 1, HEADS, DIM };
		t.q = q.p;
		t.kv = h.kv;
		t.heads = HEADS;
		t.sequences = 1;
		t.len = len.p;
		t.max_len = 1;
		t.part = 256;
		t.scratch = scratch.p;
		t.out = o.p;
		t.act = { CUDA_IN_Q8_0, mid.p };
		ok("q, k, v", cuda_matvec_many(stream, p, 3));
		ok("heads", cuda_qkv_rope_store(stream, &h));
		ok("attention", cuda_attend_decode(stream, &t));
	}

	/* The router, what the host is told, and the hits with the shared expert. */
	void experts(bool two_formats)
	{
		const uint32_t type = two_formats ? QUANT_Q4_K : QUANT_Q8_0;
		const size_t row = quant_row_bytes(type, D), row8 = quant_row_bytes(QUANT_Q8_0, D);
		struct cuda_router r = {};
		struct cuda_expert_group g = {};
		const struct cuda_publish p = {
			ids.p,	  weights.p,	in.p,	1,	D, USED,  RANKS,
			to_ids.p, to_weights.p, to_x.p, word.p, 7, tick.p
		};
		const struct cuda_resolve h = { ids.p,	 1,	  EXPERTS,	  USED,
						RANKS,	 slots.p, slots_memory.p, 0,
						0,	 D * row, 2 * D * row,	  list.p,
						count.p, place.p };
		const struct cuda_expert_shared s = {
			QUANT_Q8_0, QUANT_Q8_0, QUANT_Q8_0, row8, row8,	 row8,		 D,
			w.p,	    w.p,	w.p,	    1,	  act.p, shared_hidden.p
		};

		r.x = in.p;
		r.w = ones.p;
		r.d = D;
		r.experts = EXPERTS;
		r.tokens = 1;
		r.k = USED;
		r.norm = true;
		r.scale = 1.0f;
		r.shared = true;
		r.shared_gate = ones.p;
		r.ids = ids.p;
		r.weights = weights.p;
		r.logits = logits.p;
		g.gate_type = g.down_type = type;
		g.up_type = two_formats ? (uint32_t)QUANT_Q6_K : type;
		g.gate_row_bytes = g.down_row_bytes = row;
		g.up_row_bytes = quant_row_bytes(g.up_type, D);
		g.d = g.f = D;
		g.entries = list.p;
		g.n_entries = USED;
		g.count = count.p;
		g.k = RANKS;
		g.x = two_formats ? super.p : act.p;
		g.hidden = hidden.p;
		g.partial = partial.p;
		g.shared = &s;
		ok("router", cuda_router(stream, &r));
		ok("handoff", cuda_handoff(stream, &p, &h));
		/* experts of super-blocks beside a shared one of blocks of 32: the second form */
		if (two_formats)
			ok("form", cuda_act_quantize(stream, CUDA_IN_Q8_K, in.p, D, D, 1, super.p));
		ok("gate_up", cuda_expert_gate_up(stream, &g));
		ok("down", cuda_expert_down(stream, &g));
	}

	/* A whole layer; returns its launches. */
	unsigned run(bool recurrent, bool two_formats)
	{
		const uint64_t before = cuda_launches();
		struct cuda_product out;

		begin();
		if (recurrent)
			deltanet();
		else
			attention();
		out = product(mid.p, D, y.p);
		ok("output", cuda_matvec(stream, &out));
		ok("norm", cuda_rmsnorm(stream, x.p, y.p, ones.p, D, 1, 1e-6f, in.p,
					{ CUDA_IN_Q8_0, act.p }));
		experts(two_formats);
		return (unsigned)(cuda_launches() - before);
	}
};

/* The layer as a recorded list: launched when asked, as often as asked. */
static void check_graph(struct layer &l)
{
	cudaGraphExec_t exec;
	cudaGraph_t graph;

	values_cuda(cudaStreamCreateWithFlags(&l.stream, cudaStreamNonBlocking), "stream");
	l.word.put({ 0 });
	values_cuda(cudaStreamBeginCapture(l.stream, cudaStreamCaptureModeThreadLocal), "capture");
	l.run(true, true);
	values_cuda(cudaStreamEndCapture(l.stream, &graph), "capture");
	values_cuda(cudaGraphInstantiate(&exec, graph, 0), "graph");
	check_equal("recorded only", 0, l.word.get()[0], 0);
	for (uint32_t i = 0; i < 3; i++) {
		l.tick.put({ 10 * i });
		values_cuda(cudaGraphLaunch(exec, l.stream), "graph");
		values_cuda(cudaStreamSynchronize(l.stream), "graph");
		check_equal("tick", i, l.word.get()[0], 7 + 10 * i);
	}
	cudaGraphExecDestroy(exec);
	cudaGraphDestroy(graph);
	cudaStreamDestroy(l.stream);
	l.stream = NULL;
}

int main(void)
{
	struct layer l;

	for (int c = 0; c < 4; c++) {
		const unsigned n = l.run(c & 1, c & 2);

		printf("%s, %s: %u launches\n", c & 1 ? "DeltaNet" : "attention",
		       c & 2 ? "three formats" : "one format", n);
		check_equal("launches", (size_t)c, n <= MOST, 1);
	}
	check_equal("published", 0, l.word.get()[0], 7);
	check_equal("all resident", 0, l.count.get()[0], USED);
	check_equal("its own rank", 0, l.place.get()[USED], USED);
	check_near("its gate", 0, l.weights.get()[USED],
		   1 / (1 + exp(-(double)l.logits.get()[EXPERTS])), 1e-6);
	check_graph(l);
	return values_report("layer_launches");
}
