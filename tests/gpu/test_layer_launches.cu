/* SPDX-License-Identifier: MIT */
/*
 * Description: how many kernels a layer of decode takes with its experts in the device's memory: at most 15, with
 * DeltaNet or attention as its mixer (no shared expert, one format for gate and up).
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
#define MOST	15

static void ok(const char *what, int rc)
{
	check_equal(what, 0, rc, 0);
}

/* Zeros of Q8_0 are zeros: any matrix of D columns. */
struct layer {
	device_array<uint8_t> w, slots_memory, act, mid;
	device_array<float> ones, x, y, in, a, b, q, alpha, beta, o, state, conv, hidden, partial;
	device_array<float> mapped, logits, weights, to_weights, to_x;
	device_array<uint32_t> ids, to_ids, word, slots, count, place, start, slot, pos, len, table;
	device_array<struct cuda_expert_entry> list;
	device_array<uint8_t> pool, scratch;
	size_t row = quant_row_bytes(QUANT_Q8_0, D);

	layer()
	    : w(std::vector<uint8_t>(1024 * 272, 0)),
	      slots_memory(std::vector<uint8_t>(3 * D * 272, 0)), act(cuda_act_bytes(D)),
	      mid(cuda_act_bytes(D)), ones(std::vector<float>(16 * D, 1.0f)),
	      x(random_floats(D, 1.0f)), y(D), in(D), a(4 * D), b(4 * D), q(D), alpha(HEADS),
	      beta(HEADS), o(D), state(std::vector<float>(HEADS * DIM * DIM, 0.0f)),
	      conv(std::vector<float>(3 * 3 * D, 0.0f)), hidden(USED * D), partial(USED * D),
	      mapped(USED * D), logits(EXPERTS), weights(USED), to_weights(USED), to_x(D),
	      ids(USED), to_ids(USED), word(1), slots(std::vector<uint32_t>(EXPERTS, 0)), count(1),
	      place(USED), start(std::vector<uint32_t>{ 0, 1 }), slot(std::vector<uint32_t>{ 0 }),
	      pos(std::vector<uint32_t>{ 0 }), len(std::vector<uint32_t>{ 1 }),
	      table(std::vector<uint32_t>{ 0 }), list(USED),
	      pool(cuda_kv_page_bytes(CUDA_KV_F16, HEADS, DIM)),
	      scratch(cuda_attend_decode_scratch(1, HEADS, DIM, 64, 256))
	{
	}

	struct cuda_product product(const void *in_rows, size_t rows, float *to)
	{
		struct cuda_product p = {};

		p.type = QUANT_Q8_0;
		p.w = w.p;
		p.row_bytes = row;
		p.n = D;
		p.rows = rows;
		p.x = in_rows;
		p.cols = 1;
		p.y = to;
		p.ldy = rows;
		return p;
	}

	void norm(bool first)
	{
		ok("norm", cuda_rmsnorm(NULL, x.p, first ? NULL : y.p, ones.p, D, 1, 1e-6f, in.p,
					{ CUDA_IN_Q8_0, act.p }));
	}

	void deltanet()
	{
		const struct cuda_delta_shape s = { HEADS, HEADS, DIM, false };
		const struct cuda_delta_batch batch = { 1, 1, 1, start.p, slot.p };
		const struct cuda_delta step = {
			s, batch, b.p, alpha.p, beta.p, state.p, o.p, NULL
		};
		const struct cuda_product p[] = { product(act.p, 3 * D, a.p),
						  product(act.p, D, q.p),
						  product(act.p, HEADS, alpha.p),
						  product(act.p, HEADS, beta.p) };

		ok("qkv, z, alpha, beta", cuda_matvec_many(NULL, p, 4));
		ok("conv", cuda_delta_conv(NULL, &s, &batch, a.p, ones.p, conv.p, b.p));
		ok("prepare",
		   cuda_delta_prepare(NULL, &s, 1, b.p, alpha.p, beta.p, ones.p, ones.p, alpha.p));
		ok("step", cuda_delta_step(NULL, &step));
		ok("out", cuda_delta_out(NULL, o.p, q.p, ones.p, 1, HEADS, DIM, 1e-6f, NULL,
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
		ok("q, k, v", cuda_matvec_many(NULL, p, 3));
		ok("heads", cuda_qkv_rope_store(NULL, &h));
		ok("attention", cuda_attend_decode(NULL, &t));
	}

	void experts()
	{
		struct cuda_router r = {};
		struct cuda_publish p = {};
		struct cuda_resolve h = {};
		struct cuda_expert_group g = {};

		r.x = in.p;
		r.w = ones.p;
		r.d = D;
		r.experts = EXPERTS;
		r.tokens = 1;
		r.k = USED;
		r.norm = true;
		r.scale = 1.0f;
		r.ids = ids.p;
		r.weights = weights.p;
		r.logits = logits.p;
		p = {
			ids.p,	  weights.p,	in.p,	1,	D, USED,
			to_ids.p, to_weights.p, to_x.p, word.p, 1
		};
		h = { ids.p, 1,	      EXPERTS,	   USED,   slots.p, slots_memory.p, 0,
		      0,     D * row, 2 * D * row, list.p, count.p, place.p };
		g.gate_type = g.up_type = g.down_type = QUANT_Q8_0;
		g.gate_row_bytes = g.up_row_bytes = g.down_row_bytes = row;
		g.d = g.f = D;
		g.entries = list.p;
		g.n_entries = USED;
		g.count = count.p;
		g.k = USED;
		g.x = act.p;
		g.hidden = hidden.p;
		g.partial = partial.p;
		ok("router", cuda_router(NULL, &r));
		ok("publish", cuda_publish(NULL, &p));
		ok("resolve", cuda_expert_resolve(NULL, &h));
		ok("gate_up", cuda_expert_gate_up(NULL, &g));
		ok("down", cuda_expert_down(NULL, &g));
		ok("reduce", cuda_expert_reduce_two(NULL, partial.p, mapped.p, place.p, weights.p,
						    1, USED, D, false, y.p));
	}

	/* A whole layer; returns its launches. */
	unsigned run(bool recurrent)
	{
		const uint64_t before = cuda_launches();
		struct cuda_product out;

		norm(true);
		if (recurrent)
			deltanet();
		else
			attention();
		out = product(mid.p, D, y.p);
		ok("output", cuda_matvec(NULL, &out));
		norm(false);
		experts();
		return (unsigned)(cuda_launches() - before);
	}
};

int main(void)
{
	struct layer l;

	for (int recurrent = 0; recurrent < 2; recurrent++) {
		const unsigned n = l.run(recurrent);

		printf("%s: %u launches\n", recurrent ? "DeltaNet" : "attention", n);
		check_equal("launches", (size_t)recurrent, n <= MOST, 1);
	}
	check_equal("published", 0, l.word.get()[0], 1);
	check_equal("all resident", 0, l.count.get()[0], USED);
	return values_report("layer_launches");
}
