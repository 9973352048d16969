/* SPDX-License-Identifier: MIT */
/*
 * Description: layers whose experts lie in slots or not, with slots filled by another stream and given to others
 * at every step: the bits are those of no slots at all, in every order of the streams; and each wait that
 * is left out, each table and piece that is wrong, shows as other bits.
 *
 * The pattern of a step on the device, without a daemon: a table is copied at the step's begin, both sides go by
 * it; victims leave the table there, their slots are overwritten after the event of the step before, and are
 * in the table again at a step's begin after the copies' own event. A short run takes 8 orders, --all 100.
 */
#include "tests/gpu/blocks_ref.h"
#include "tests/gpu/law_ref.h"

#define D	64
#define F	96
#define EXPERTS 10
#define USED	3
#define RANKS	(USED + 1)
#define SLOTS	12
#define LAYERS	2
#define STEPS	6
#define TYPE	QUANT_Q8_0
#define SHARED	QUANT_Q5_1

enum fault {
	FAULT_NONE,
	FAULT_NO_WAIT,	   /* a slot is overwritten while the step before may still read it */
	FAULT_EARLY_TABLE, /* a slot is used before its copies are known to be there */
	FAULT_STALE_TABLE, /* the device goes by the table of a step before */
	FAULT_WRONG_PIECE, /* up and gate are exchanged */
	FAULT_EARLY_ROWS,  /* the reduction is launched before the host's rows are there */
	FAULT_NR
};
static const char *const fault_names[FAULT_NR] = { "none",	  "no wait",	 "early table",
						   "stale table", "wrong piece", "early rows" };

#ifndef __CUDACC__
void emu_runtime_seed(uint64_t seed);
#else
static void emu_runtime_seed(uint64_t)
{
}
#endif

template <class T> struct pinned_array {
	T *p = NULL;
	size_t n;

	explicit pinned_array(size_t count) : n(count)
	{
		values_cuda(cudaMallocHost((void **)&p, n * sizeof(T)), "pinned memory");
	}
	pinned_array(const pinned_array &) = delete;
	~pinned_array()
	{
		cudaFreeHost(p);
	}
};

/* What stays the same over all runs: weights, inputs, the host's expert rows. */
struct world {
	size_t row = quant_row_bytes(TYPE, D), down_row = quant_row_bytes(TYPE, F);
	size_t matrix = row * F, expert = 2 * matrix + down_row * D;
	std::vector<uint8_t> host[LAYERS]; /* [EXPERTS][gate, up, down] */
	std::vector<uint8_t> shared;
	std::vector<float> x[STEPS][LAYERS], router_w;

	world()
	{
		const struct block_layout *l = NULL, *s = NULL;

		for (const struct block_layout &b : block_layouts) {
			l = b.type == TYPE ? &b : l;
			s = b.type == SHARED ? &b : s;
		}
		for (std::vector<uint8_t> &h : host)
			for (int e = 0; e < EXPERTS; e++)
				for (int m = 0; m < 3; m++) {
					const std::vector<uint8_t> w =
						m < 2 ? random_rows(l, F, D, row)
						      : random_rows(l, D, F, down_row);

					h.insert(h.end(), w.begin(), w.end());
				}
		for (int m = 0; m < 3; m++) {
			const size_t n = m < 2 ? D : F;
			const std::vector<uint8_t> w =
				random_rows(s, m < 2 ? F : D, n, quant_row_bytes(SHARED, n));

			shared.insert(shared.end(), w.begin(), w.end());
		}
		router_w = random_floats((EXPERTS + 1) * D, 0.5f);
		for (auto &step : x)
			for (std::vector<float> &v : step)
				v = random_floats(D, 1.0f);
	}

	/* Expert @e of @layer for @v, as a worker of the host computes it */
	std::vector<float> by_host(int layer, uint32_t e, const std::vector<float> &v) const
	{
		const struct cpu_ops *ops = cpu_ops_get((enum cpu_level)0);
		const uint8_t *w = host[layer].data() + e * expert;
		const std::vector<float> g = law_product(ops, TYPE, w, row, D, F, v);
		const std::vector<float> u = law_product(ops, TYPE, w + matrix, row, D, F, v);
		std::vector<float> h(F);

		float_ops_get(ops->level)->glu(GLU_SILU, g.data(), u.data(), h.data(), F);
		return law_product(ops, TYPE, w + 2 * matrix, down_row, F, D, h);
	}
};

/* One run over all steps. */
struct run {
	const struct world &w;
	const enum fault fault;
	const bool use_slots;
	cudaStream_t s, fill;
	cudaEvent_t step_done[STEPS], filled;
	device_array<float> x, res, in, ones, router_w, logits, weights, hidden, shared_hidden,
		partial;
	device_array<uint8_t> act, slots, shared;
	device_array<uint32_t> ids, table, count, place;
	device_array<struct cuda_expert_entry> list;
	pinned_array<float> host_x, to_weights, to_x, rows, out;
	pinned_array<uint32_t> to_ids, word, tables;
	pinned_array<uint8_t> arena;
	std::vector<uint32_t> now; /* the host's table [LAYERS][EXPERTS] */
	std::vector<std::pair<size_t, uint32_t>> arriving;
	bool issued = false;

	run(const struct world &from, enum fault f, bool with)
	    : w(from), fault(f), use_slots(with), x(D), res(std::vector<float>(D, 0.0f)), in(D),
	      ones(std::vector<float>(D, 1.0f)), router_w(from.router_w), logits(EXPERTS + 1),
	      weights(RANKS), hidden(USED * F), shared_hidden(F), partial(RANKS * D),
	      act(cuda_act_bytes(D)), slots(SLOTS * from.expert), shared(from.shared), ids(USED),
	      table(LAYERS * EXPERTS), count(1), place(RANKS), list(USED),
	      host_x(STEPS * LAYERS * D), to_weights(RANKS), to_x(D), rows(RANKS * D),
	      out(STEPS * LAYERS * D), to_ids(USED), word(1), tables(STEPS * LAYERS * EXPERTS),
	      arena(LAYERS * EXPERTS * from.expert), now(LAYERS * EXPERTS, UINT32_MAX)
	{
		values_cuda(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "stream");
		values_cuda(cudaStreamCreateWithFlags(&fill, cudaStreamNonBlocking), "stream");
		for (cudaEvent_t &e : step_done)
			values_cuda(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "event");
		values_cuda(cudaEventCreateWithFlags(&filled, cudaEventDisableTiming), "event");
		for (int l = 0; l < LAYERS; l++)
			memcpy(arena.p + l * EXPERTS * w.expert, w.host[l].data(),
			       EXPERTS * w.expert);
	}

	~run()
	{
		cudaStreamDestroy(s);
		cudaStreamDestroy(fill);
		for (cudaEvent_t e : step_done)
			cudaEventDestroy(e);
		cudaEventDestroy(filled);
	}

	static void ok(const char *what, int rc)
	{
		check_equal(what, 0, rc, 0);
	}

	/* Who came, who goes; the device's table of the step. */
	void begin(int step)
	{
		uint32_t *mine = tables.p + step * LAYERS * EXPERTS;

		for (uint32_t n = random_u32() % 64; n;
		     n--) /* the copies go on meanwhile, or not */
			cudaStreamQuery(fill);
		if (!arriving.empty() &&
		    (fault == FAULT_EARLY_TABLE || cudaEventQuery(filled) == cudaSuccess)) {
			for (const auto &a : arriving)
				now[a.first] = a.second;
			arriving.clear();
			issued = false;
		}
		if (arriving.empty() && use_slots)
			for (uint32_t slot = 0; slot < SLOTS; slot++)
				if (random_u32() % 2)
					refill(slot);
		memcpy(mine, now.data(), now.size() * 4);
		if (fault != FAULT_STALE_TABLE || step % 2 == 0)
			values_cuda(cudaMemcpyAsync(table.p, mine, now.size() * 4,
						    cudaMemcpyHostToDevice, s),
				    "table");
	}

	/* @slot leaves whoever has it for an expert that has none. */
	void refill(uint32_t slot)
	{
		const size_t i = random_u32() % now.size();

		for (const auto &a : arriving)
			if (a.first == i)
				return;
		if (now[i] != UINT32_MAX)
			return;
		for (uint32_t &at : now)
			at = at == slot ? UINT32_MAX : at;
		arriving.push_back({ i, slot });
	}

	/* The copies of the step's newcomers, behind the step before. */
	void issue(int step)
	{
		if (arriving.empty() || issued)
			return;
		issued = true;
		if (step && fault != FAULT_NO_WAIT)
			values_cuda(cudaStreamWaitEvent(fill, step_done[step - 1], 0), "wait");
		for (const auto &a : arriving)
			for (size_t m = 0; m < 3; m++) {
				const size_t bytes = m < 2 ? w.matrix : w.down_row * D;
				const size_t to = fault == FAULT_WRONG_PIECE && m < 2 ? 1 - m : m;

				values_cuda(cudaMemcpyAsync(
						    slots.p + a.second * w.expert + to * w.matrix,
						    arena.p + a.first * w.expert + m * w.matrix,
						    bytes, cudaMemcpyHostToDevice, fill),
					    "fill");
			}
		values_cuda(cudaEventRecord(filled, fill), "event");
	}

	void launch(int step, int layer)
	{
		const size_t at = (step * LAYERS + layer) * D;
		const size_t shared_row = quant_row_bytes(SHARED, D);
		const size_t shared_down = quant_row_bytes(SHARED, F);
		const struct cuda_expert_shared sh = { SHARED,
						       SHARED,
						       SHARED,
						       shared_row,
						       shared_row,
						       shared_down,
						       F,
						       shared.p,
						       shared.p + shared_row * F,
						       shared.p + 2 * shared_row * F,
						       1,
						       act.p,
						       shared_hidden.p };
		struct cuda_router r = {};
		struct cuda_publish p = { ids.p,  weights.p, x.p,
					  1,	  D,	     USED,
					  RANKS,  to_ids.p,  to_weights.p,
					  to_x.p, word.p,    (uint32_t)(at / D + 1),
					  NULL };
		struct cuda_resolve h = { ids.p,
					  1,
					  EXPERTS,
					  USED,
					  RANKS,
					  use_slots ? table.p + layer * EXPERTS : NULL,
					  slots.p,
					  w.expert,
					  0,
					  w.matrix,
					  2 * w.matrix,
					  list.p,
					  count.p,
					  place.p };
		struct cuda_expert_group g = {};

		memcpy(host_x.p + at, w.x[step][layer].data(), D * 4);
		values_cuda(cudaMemcpyAsync(x.p, host_x.p + at, D * 4, cudaMemcpyHostToDevice, s),
			    "input");
		ok("quantize", cuda_act_quantize(s, CUDA_IN_Q8_0, x.p, D, D, 1, act.p));
		r.x = x.p;
		r.w = router_w.p;
		r.d = D;
		r.experts = EXPERTS;
		r.tokens = 1;
		r.k = USED;
		r.norm = r.shared = true;
		r.scale = 1.0f;
		r.shared_gate = router_w.p + EXPERTS * D;
		r.ids = ids.p;
		r.weights = weights.p;
		r.logits = logits.p;
		ok("router", cuda_router(s, &r));
		ok("handoff", cuda_handoff(s, &p, &h));
		g.gate_type = g.up_type = g.down_type = TYPE;
		g.gate_row_bytes = g.up_row_bytes = w.row;
		g.down_row_bytes = w.down_row;
		g.d = D;
		g.f = F;
		g.entries = list.p;
		g.n_entries = USED;
		g.count = count.p;
		g.k = RANKS;
		g.x = act.p;
		g.hidden = hidden.p;
		g.partial = partial.p;
		g.shared = &sh;
		ok("gate_up", cuda_expert_gate_up(s, &g));
		ok("down", cuda_expert_down(s, &g));
	}

	void reduce(int step, int layer)
	{
		const size_t at = (step * LAYERS + layer) * D;
		const struct cuda_expert_sum sum = { partial.p, rows.p, place.p, weights.p, RANKS };

		ok("reduce", cuda_expert_reduce_norm(s, &sum, res.p, ones.p, D, 1, 1e-6f, in.p,
						     { CUDA_IN_NONE, NULL }));
		values_cuda(cudaMemcpyAsync(out.p + at, in.p, D * 4, cudaMemcpyDeviceToHost, s),
			    "output");
	}

	/* What the host computes: all that the step's table does not have. */
	void misses(int step, int layer)
	{
		const uint32_t *mine = tables.p + (step * LAYERS + layer) * EXPERTS;
		const std::vector<float> v(to_x.p, to_x.p + D);

		for (size_t i = 0; i < rows.n; i++)
			rows.p[i] = NAN;
		for (size_t r = 0; r < USED; r++)
			if (mine[to_ids.p[r]] == UINT32_MAX) {
				const std::vector<float> y = w.by_host(layer, to_ids.p[r], v);

				memcpy(rows.p + r * D, y.data(), D * 4);
			}
	}

	std::vector<float> all()
	{
		word.p[0] = 0;
		for (int step = 0; step < STEPS; step++) {
			begin(step);
			for (int layer = 0; layer < LAYERS; layer++) {
				launch(step, layer);
				if (layer == 0)
					issue(step);
				while (*(volatile uint32_t *)word.p !=
				       (uint32_t)(step * LAYERS + layer + 1))
					cudaStreamQuery(s);
				if (fault == FAULT_EARLY_ROWS)
					reduce(step, layer);
				misses(step, layer);
				if (fault != FAULT_EARLY_ROWS)
					reduce(step, layer);
			}
			values_cuda(cudaEventRecord(step_done[step], s), "event");
		}
		values_cuda(cudaStreamSynchronize(s), "stream");
		values_cuda(cudaStreamSynchronize(fill), "stream");
		return std::vector<float>(out.p, out.p + out.n);
	}
};

/* Whether fills @fills in order @order (0: as late as can be) give the bits @want. */
static bool same(const struct world &w, enum fault fault, uint64_t fills, uint64_t order,
		 const std::vector<float> &want)
{
	values_state = fills * 1000003 + 1;
	emu_runtime_seed(order);
	struct run r(w, fault, true);
	const std::vector<float> got = r.all();

	return !memcmp(got.data(), want.data(), want.size() * sizeof(float));
}

int main(int argc, char **argv)
{
	const uint64_t orders = option_all(argc, argv) ? 100 : 8;
	const struct world w;
	std::vector<float> want;

	emu_runtime_seed(0);
	{
		struct run r(w, FAULT_NONE, false);

		want = r.all();
	}
	for (float v : want)
		check_equal("a number", 0, isfinite(v), 1);
	for (uint64_t seed = 0; seed < orders; seed++)
		check_equal("order", seed, same(w, FAULT_NONE, seed, seed, want), 1);
#ifndef __CUDACC__ /* what real time shows only by chance */
	for (int f = FAULT_NONE + 1; f < FAULT_NR; f++) {
		uint64_t seed = f == FAULT_NO_WAIT ? 30 : 0; /* seldom seen: begins where it is */

		while (seed < 40 && same(w, (enum fault)f, seed, seed % 2 ? seed : 0, want))
			seed++;
		printf("%s: other bits with fills %llu\n", fault_names[f],
		       (unsigned long long)seed);
		check_equal(fault_names[f], 0, seed < 40, 1);
	}
#endif
	return values_report("hits");
}
