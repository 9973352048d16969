/* SPDX-License-Identifier: MIT */
/*
 * Description: the expert group equals every CPU level bit for bit, in every format and in two at once, with
 * all activations, at any alignment, whatever else is in the list and however many of it count; the shared
 * expert beside it does too, in formats and of a size of its own, with the list or without one.
 */
#include "tests/gpu/blocks_ref.h"
#include "tests/gpu/law_ref.h"

#include <errno.h>

/* Random rows, @shift bytes after an aligned address: 2 shuts the wide loads out */
static std::vector<uint8_t> shifted_rows(const struct block_layout *l, size_t rows, size_t n,
					 size_t shift)
{
	const std::vector<uint8_t> w = random_rows(l, rows, n, quant_row_bytes(l->type, n));
	std::vector<uint8_t> all(shift);

	all.insert(all.end(), w.begin(), w.end());
	return all;
}

/* One expert's three matrices on the device. */
struct expert {
	device_array<uint8_t> gate, up, down;
	size_t shift;

	expert(const struct block_layout *l, const struct block_layout *lu,
	       const struct block_layout *ld, size_t d, size_t f, size_t at)
	    : gate(shifted_rows(l, f, d, at)), up(shifted_rows(lu, f, d, at)),
	      down(shifted_rows(ld, d, f, at)), shift(at)
	{
	}
};

/* What a run of the group is given. */
struct group_case {
	const struct block_layout *gate, *up, *down;
	size_t d, f, shift;
	enum cuda_glu glu;
};

/* Results of a list of entries; @count: how many of them count, when not all. */
static std::vector<float> run(const struct group_case &c,
			      const std::vector<struct cuda_expert_entry> &list, unsigned k,
			      size_t tokens, const void *x, const uint32_t *count)
{
	device_array<struct cuda_expert_entry> entries(list);
	device_array<float> partial(std::vector<float>(tokens * k * c.d, -1.0f));
	device_array<float> hidden(list.size() * c.f);
	struct cuda_expert_group g = {};

	g.gate_type = c.gate->type;
	g.up_type = c.up->type;
	g.down_type = c.down->type;
	g.gate_row_bytes = quant_row_bytes(g.gate_type, c.d);
	g.up_row_bytes = quant_row_bytes(g.up_type, c.d);
	g.down_row_bytes = quant_row_bytes(g.down_type, c.f);
	g.d = c.d;
	g.f = c.f;
	g.glu = c.glu;
	g.entries = entries.p;
	g.n_entries = list.size();
	g.count = count;
	g.k = k;
	g.x = x;
	g.hidden = hidden.p;
	g.partial = partial.p;
	check_equal("gate_up", g.gate_type, cuda_expert_gate_up(NULL, &g), 0);
	check_equal("down", g.down_type, cuda_expert_down(NULL, &g), 0);
	return partial.get();
}

/* One expert's result for one token, by one level of the CPU */
static std::vector<float> by_cpu(const struct cpu_ops *ops, const struct group_case &c,
				 const struct expert &e, const std::vector<float> &x)
{
	static const enum glu kinds[] = { GLU_SILU, GLU_CLAMPED, GLU_GELU };
	const std::vector<uint8_t> gate = e.gate.get(), up = e.up.get(), down = e.down.get();
	const std::vector<float> g = law_product(ops, c.gate->type, gate.data() + c.shift,
						 quant_row_bytes(c.gate->type, c.d), c.d, c.f, x);
	const std::vector<float> u = law_product(ops, c.up->type, up.data() + c.shift,
						 quant_row_bytes(c.up->type, c.d), c.d, c.f, x);
	std::vector<float> h(c.f);

	float_ops_get(ops->level)->glu(kinds[c.glu], g.data(), u.data(), h.data(), c.f);
	return law_product(ops, c.down->type, down.data() + c.shift,
			   quant_row_bytes(c.down->type, c.f), c.f, c.d, h);
}

/* @full: three entries, each of them alone too, and fewer than the list has */
static void check_group(const struct group_case &c, bool full)
{
	const size_t tokens = 2, d = c.d;
	const unsigned k = 2;
	const expert a(c.gate, c.up, c.down, d, c.f, c.shift),
		b(c.gate, c.up, c.down, d, c.f, c.shift);
	const expert *const experts[] = { &a, &b };
	const std::vector<float> floats = random_floats(tokens * d, 1.0f);
	const enum cuda_input form = cuda_matvec_input(c.gate->type);
	device_array<float> x(floats);
	device_array<uint8_t> act(tokens * cuda_act_bytes(d));
	device_array<uint32_t> count(std::vector<uint32_t>{ 1 });
	const void *in = form == CUDA_IN_F32 ? (const void *)x.p : act.p;
	std::vector<struct cuda_expert_entry> list;

	if (form != CUDA_IN_F32)
		check_equal("quantize", d, cuda_act_quantize(NULL, form, x.p, d, d, tokens, act.p),
			    0);
	for (unsigned i = 0; i < (full ? 3 : 1); i++) {
		struct cuda_expert_entry e = {}; /* token 1, rank 1 is left to someone else */

		e.gate = experts[i % 2]->gate.p + c.shift;
		e.up = experts[i % 2]->up.p + c.shift;
		e.down = experts[i % 2]->down.p + c.shift;
		e.token = i / k;
		e.rank = i % k;
		list.push_back(e);
	}
	const std::vector<float> all = run(c, list, k, tokens, in, NULL);
	for (size_t i = 0; i < d; i++)
		check_equal("left out", i, all[3 * d + i] == -1.0f, 1);
	for (size_t i = 0; i < list.size(); i++) {
		const struct cuda_expert_entry &e = list[i];
		const float *got = all.data() + (e.token * k + e.rank) * d;
		const std::vector<float> mine(floats.begin() + (long)(e.token * d),
					      floats.begin() + (long)(e.token * d + d));

		for (int l = 0; l < CPU_LEVEL_NR; l++) {
			const struct cpu_ops *ops = cpu_ops_get((enum cpu_level)l);

			if (ops)
				check_law(quant_name(c.gate->type), got,
					  by_cpu(ops, c, *experts[i % 2], mine).data(), d);
		}
		if (!full)
			continue;
		const std::vector<float> alone = run(c, { e }, k, tokens, in, NULL);
		check_bits("alone", alone.data() + (e.token * k + e.rank) * d, got, d);
	}
	const std::vector<float> first = run(c, list, k, tokens, in, count.p);
	check_bits("first alone", first.data(), all.data(), d);
	for (size_t i = d; i < first.size(); i++)
		check_equal("not counted", i, first[i] == -1.0f, 1);
}

/* The rows of one kind of input for matrices of @type. */
struct input {
	device_array<float> x;
	device_array<uint8_t> act;
	const void *p;

	input(const std::vector<float> &floats, size_t d, uint32_t type)
	    : x(floats), act(floats.size() / d * cuda_act_bytes(d)), p(x.p)
	{
		const enum cuda_input form = cuda_matvec_input(type);

		if (form == CUDA_IN_F32)
			return;
		p = act.p;
		check_equal("quantize", d,
			    cuda_act_quantize(NULL, form, x.p, d, d, floats.size() / d, act.p), 0);
	}
};

/* Partial rows of the list @g has, of the shared expert @s, or of both; rows of neither are -1. */
static std::vector<float> with_shared(struct cuda_expert_group g,
				      const struct cuda_expert_shared *s, size_t rows)
{
	device_array<float> partial(std::vector<float>(rows * g.d, -1.0f));
	const uint64_t before = cuda_launches();

	g.shared = s;
	g.partial = partial.p;
	check_equal("gate_up", g.gate_type, cuda_expert_gate_up(NULL, &g), 0);
	check_equal("down", g.down_type, cuda_expert_down(NULL, &g), 0);
	check_equal("launches", 0, (long long)(cuda_launches() - before), 2);
	return partial.get();
}

/* Experts as @c says, a shared one as @z says, of two tokens; one of the two ranks before it counts. */
static void check_shared(const struct group_case &c, const struct group_case &z)
{
	const size_t tokens = 2, d = c.d;
	const unsigned k = 3;
	const expert e(c.gate, c.up, c.down, d, c.f, c.shift);
	const expert m(z.gate, z.up, z.down, d, z.f, z.shift);
	const std::vector<float> floats = random_floats(tokens * d, 1.0f);
	const input in(floats, d, c.gate->type), shared_in(floats, d, z.gate->type);
	device_array<float> hidden(2 * c.f), shared_hidden(tokens * z.f);
	device_array<uint32_t> count(std::vector<uint32_t>{ 1 });
	std::vector<struct cuda_expert_entry> list(2);
	struct cuda_expert_group g = {};
	struct cuda_expert_shared s = {};

	list[0] = { e.gate.p + c.shift, e.up.p + c.shift, e.down.p + c.shift, 1, 1 };
	list[1] = list[0];
	device_array<struct cuda_expert_entry> entries(list);
	g.gate_type = c.gate->type;
	g.up_type = c.up->type;
	g.down_type = c.down->type;
	g.gate_row_bytes = quant_row_bytes(g.gate_type, d);
	g.up_row_bytes = quant_row_bytes(g.up_type, d);
	g.down_row_bytes = quant_row_bytes(g.down_type, c.f);
	g.d = d;
	g.f = c.f;
	g.glu = c.glu;
	g.entries = entries.p;
	g.n_entries = 2;
	g.count = count.p;
	g.k = k;
	g.x = in.p;
	g.hidden = hidden.p;
	s.gate_type = z.gate->type;
	s.up_type = z.up->type;
	s.down_type = z.down->type;
	s.gate_row_bytes = quant_row_bytes(s.gate_type, d);
	s.up_row_bytes = quant_row_bytes(s.up_type, d);
	s.down_row_bytes = quant_row_bytes(s.down_type, z.f);
	s.f = z.f;
	s.gate = m.gate.p + z.shift;
	s.up = m.up.p + z.shift;
	s.down = m.down.p + z.shift;
	s.tokens = tokens;
	s.x = shared_in.p;
	s.hidden = shared_hidden.p;
	const std::vector<float> both = with_shared(g, &s, tokens * k);
	const std::vector<float> experts = with_shared(g, NULL, tokens * k);
	g.n_entries = 0;
	const std::vector<float> alone = with_shared(g, &s, tokens * k);
	for (size_t row = 0; row < tokens * k; row++) {
		const bool shared = row % k == k - 1;
		const std::vector<float> mine(floats.begin() + (long)(row / k * d),
					      floats.begin() + (long)(row / k * d + d));

		check_bits("beside it", &both[row * d],
			   shared ? &alone[row * d] : &experts[row * d], d);
		for (size_t i = 0; i < d && !shared; i++)
			check_equal("not there", row * d + i, alone[row * d + i] == -1.0f, 1);
		for (int l = 0; l < CPU_LEVEL_NR && shared; l++) {
			const struct cpu_ops *ops = cpu_ops_get((enum cpu_level)l);

			if (ops)
				check_law(quant_name(z.gate->type), &both[row * d],
					  by_cpu(ops, z, m, mine).data(), d);
		}
	}
}

static void check_refusals(void)
{
	device_array<uint8_t> m(8192);
	device_array<struct cuda_expert_entry> e(1);
	struct cuda_expert_group g = {}, bad;

	check_equal("no entries", 0, cuda_expert_gate_up(NULL, &g), 0);
	check_equal("no entries", 0, cuda_expert_down(NULL, &g), 0);
	g.gate_type = g.up_type = g.down_type = QUANT_Q4_K;
	g.gate_row_bytes = g.up_row_bytes = g.down_row_bytes = 144;
	g.d = g.f = 256;
	g.entries = e.p;
	g.n_entries = 1;
	g.k = 1;
	g.x = m.p;
	g.hidden = (float *)m.p;
	check_equal("partial", 0, cuda_expert_down(NULL, &g), -EINVAL);
	bad = g;
	bad.d = 128;
	check_equal("d", 0, cuda_expert_gate_up(NULL, &bad), -EINVAL);
	bad = g;
	bad.n_entries = 65536;
	check_equal("entries", 0, cuda_expert_gate_up(NULL, &bad), -EINVAL);
	bad = g;
	bad.hidden = (float *)(m.p + 4);
	check_equal("hidden", 0, cuda_expert_gate_up(NULL, &bad), -EINVAL);
	bad = g;
	bad.f = 33024;
	bad.down_row_bytes = 33024;
	check_equal("f", 0, cuda_expert_gate_up(NULL, &bad), -EINVAL);
	bad = g;
	bad.glu = (enum cuda_glu)3;
	check_equal("glu", 0, cuda_expert_gate_up(NULL, &bad), -ENOTSUP);
	bad = g;
	bad.gate_type = 16;
	check_equal("type", 0, cuda_expert_gate_up(NULL, &bad), -ENOTSUP);
	bad = g;
	bad.up_type = QUANT_F16; /* takes floats where gate takes int8 */
	bad.up_row_bytes = 512;
	check_equal("pair", 0, cuda_expert_gate_up(NULL, &bad), -ENOTSUP);
	struct cuda_expert_shared s = { QUANT_Q4_K, QUANT_Q4_K, QUANT_Q4_K, 144, 144, 144,     256,
					m.p,	    m.p,	NULL,	    1,	 m.p, g.hidden };

	bad = g;
	bad.shared = &s;
	check_equal("no down", 0, cuda_expert_gate_up(NULL, &bad), -EINVAL);
	s.down = m.p;
	s.tokens = 65535;
	check_equal("tokens", 0, cuda_expert_gate_up(NULL, &bad), -EINVAL);
	s.tokens = 1;
	s.f = 255;
	check_equal("f of the shared one", 0, cuda_expert_gate_up(NULL, &bad), -EINVAL);
	s.f = 256;
	s.up_type = QUANT_BF16;
	s.up_row_bytes = 512;
	check_equal("pair of the shared one", 0, cuda_expert_gate_up(NULL, &bad), -ENOTSUP);
}

int main(int argc, char **argv)
{
	const struct block_layout *q6 = NULL, *q8 = NULL, *q5 = NULL;
	const bool all = option_all(argc, argv);

	for (const struct block_layout &l : block_layouts) {
		q6 = l.type == QUANT_Q6_K ? &l : q6;
		q8 = l.type == QUANT_Q8_0 ? &l : q8;
		q5 = l.type == QUANT_Q5_1 ? &l : q5;
	}
	for (const struct block_layout &l : block_layouts) {
		const size_t shift = l.type == QUANT_F32 ? 4 : l.type == QUANT_MXFP4 ? 1 : 2;

		check_group({ &l, &l, &l, 256, 256, 0, CUDA_GLU_SILU }, all);
		check_group({ &l, &l, &l, 256, 256, shift, CUDA_GLU_GELU }, false);
		if (quant_format(l.type)->block < 256)
			check_group({ &l, &l, &l, 96, 160, 0, CUDA_GLU_CLAMPED }, false);
		if (l.type == QUANT_Q4_K) {
			check_group({ &l, &l, q6, 256, 512, 0, CUDA_GLU_CLAMPED }, true);
			check_group({ &l, &l, q8, 256, 288, 2, CUDA_GLU_SILU }, true);
			/* halves below: any width */
			check_group({ &l, &l, &block_layouts[1], 256, 72, 0, CUDA_GLU_SILU },
				    false);
			/* two formats */
			check_group({ &l, q6, q6, 256, 256, 0, CUDA_GLU_SILU }, true);
			check_group({ q8, q5, &l, 288, 256, 0, CUDA_GLU_GELU }, false);
			if (all)
				check_group({ &l, &l, q6, 4096, 1024, 0, CUDA_GLU_SILU }, true);
			check_shared({ &l, &l, &l, 256, 256, 0, CUDA_GLU_SILU },
				     { &l, &l, &l, 256, 512, 0, CUDA_GLU_SILU });
			check_shared({ &l, &l, q6, 256, 256, 0, CUDA_GLU_SILU },
				     { q8, q8, q8, 256, 96, 2, CUDA_GLU_SILU });
			check_shared({ &l, q6, &l, 256, 512, 2, CUDA_GLU_CLAMPED },
				     { &block_layouts[1], &block_layouts[2], &block_layouts[0], 256,
				       160, 0, CUDA_GLU_CLAMPED });
		}
		/* every format in the kernel for all of them */
		check_shared(
			{ q8, q8, q8, 256, 32, 0, CUDA_GLU_SILU },
			{ &l, &l, l.type == QUANT_Q8_0 ? q5 : &l, 256, 256, shift, CUDA_GLU_SILU });
	}
	check_refusals();
	return values_report("expert_group");
}
