/* SPDX-License-Identifier: MIT */
/*
 * Description: the expert group equals, bit for bit, cuda_matvec and cuda_silu_mul (which are compared
 * with double elsewhere) expert by expert, in every format and in two at once, at any alignment, whatever
 * else is in the list.
 */
#include "tests/gpu/blocks_ref.h"

#include <errno.h>

static bool is_float(uint32_t type)
{
	return type == QUANT_F32 || type == QUANT_F16 || type == QUANT_BF16;
}

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

static std::vector<float> matvec(uint32_t type, const void *w, size_t n, size_t rows, const void *x)
{
	device_array<float> y(rows);
	struct cuda_product p = {};

	p.type = type;
	p.w = w;
	p.row_bytes = quant_row_bytes(type, n);
	p.n = n;
	p.rows = rows;
	p.x = x;
	p.cols = 1;
	p.y = y.p;
	p.ldy = rows;
	check_equal("matvec", type, cuda_matvec(NULL, &p), 0);
	return y.get();
}

/* Results of a list of entries, expert e of entry i being list[i] % 3. */
static std::vector<float> run(const struct block_layout *l, const struct block_layout *lu,
			      const struct block_layout *ld, size_t d, size_t f,
			      const std::vector<struct cuda_expert_entry> &list, unsigned k,
			      size_t tokens, const void *x)
{
	device_array<struct cuda_expert_entry> entries(list);
	device_array<float> partial(std::vector<float>(tokens * k * d, -1.0f));
	device_array<uint8_t> hidden(list.size() *
				     (is_float(ld->type) ? f * 4 : cuda_act_bytes(f)));
	struct cuda_expert_group g = {};

	g.gate_type = l->type;
	g.up_type = lu->type;
	g.down_type = ld->type;
	g.gate_row_bytes = quant_row_bytes(l->type, d);
	g.up_row_bytes = quant_row_bytes(lu->type, d);
	g.down_row_bytes = quant_row_bytes(ld->type, f);
	g.d = d;
	g.f = f;
	g.entries = entries.p;
	g.n_entries = list.size();
	g.k = k;
	g.x = x;
	g.hidden = hidden.p;
	g.partial = partial.p;
	check_equal("gate_up", l->type, cuda_expert_gate_up(NULL, &g), 0);
	check_equal("down", ld->type, cuda_expert_down(NULL, &g), 0);
	return partial.get();
}

/* @full: three entries, and each of them alone too */
static void check_pair(const struct block_layout *l, const struct block_layout *lu,
		       const struct block_layout *ld, size_t d, size_t f, size_t shift, bool full)
{
	const size_t tokens = 2;
	const unsigned k = 2;
	const expert a(l, lu, ld, d, f, shift), b(l, lu, ld, d, f, shift);
	const expert *const experts[] = { &a, &b };
	device_array<float> x(random_floats(tokens * d, 1.0f)), h(f);
	device_array<uint8_t> act(tokens * cuda_act_bytes(d)), hact(cuda_act_bytes(f));
	const void *in = is_float(l->type) ? (const void *)x.p : act.p;
	std::vector<struct cuda_expert_entry> list;

	if (!is_float(l->type))
		check_equal("quantize", d, cuda_act_quantize(NULL, x.p, d, d, tokens, act.p), 0);
	for (unsigned i = 0; i < (full ? 3 : 1);
	     i++) { /* token 1, rank 1 is left to someone else */
		struct cuda_expert_entry e = {};

		e.gate = experts[i % 2]->gate.p + shift;
		e.up = experts[i % 2]->up.p + shift;
		e.down = experts[i % 2]->down.p + shift;
		e.token = i / k;
		e.rank = i % k;
		list.push_back(e);
	}
	const std::vector<float> all = run(l, lu, ld, d, f, list, k, tokens, in);
	for (size_t i = 0; i < d; i++)
		check_equal("left out", i, all[3 * d + i] == -1.0f, 1);
	for (const struct cuda_expert_entry &e : list) {
		const void *row = (const uint8_t *)in +
				  e.token * (is_float(l->type) ? d * 4 : cuda_act_bytes(d));
		device_array<float> g(matvec(l->type, e.gate, d, f, row)),
			u(matvec(lu->type, e.up, d, f, row));

		check_equal("silu", f,
			    cuda_silu_mul(NULL, g.p, u.p, f, f, 1, h.p,
					  is_float(ld->type) ? NULL : hact.p),
			    0);
		const std::vector<float> y =
			matvec(ld->type, e.down, f, d, is_float(ld->type) ? (void *)h.p : hact.p);
		check_bits(quant_name(l->type), y.data(), all.data() + (e.token * k + e.rank) * d,
			   d);
		if (!full)
			continue;
		const std::vector<float> alone = run(l, lu, ld, d, f, { e }, k, tokens, in);
		check_bits("alone", alone.data() + (e.token * k + e.rank) * d,
			   all.data() + (e.token * k + e.rank) * d, d);
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
	g.x = g.hidden = m.p;
	check_equal("partial", 0, cuda_expert_down(NULL, &g), -EINVAL);
	bad = g;
	bad.d = 128;
	check_equal("d", 0, cuda_expert_gate_up(NULL, &bad), -EINVAL);
	bad = g;
	bad.n_entries = 65536;
	check_equal("entries", 0, cuda_expert_gate_up(NULL, &bad), -EINVAL);
	bad = g;
	bad.gate_type = 16;
	check_equal("type", 0, cuda_expert_gate_up(NULL, &bad), -ENOTSUP);
	bad = g;
	bad.up_type = QUANT_F16; /* takes floats where gate takes int8 */
	bad.up_row_bytes = 512;
	check_equal("pair", 0, cuda_expert_gate_up(NULL, &bad), -ENOTSUP);
}

int main(int argc, char **argv)
{
	const struct block_layout *q6 = NULL;

	for (const struct block_layout &l : block_layouts)
		if (l.type == QUANT_Q6_K)
			q6 = &l;
	for (const struct block_layout &l : block_layouts) {
		const size_t shift = l.type == QUANT_F32 ? 4 : 2;

		check_pair(&l, &l, &l, 256, 256, 0, option_all(argc, argv));
		if (l.type == QUANT_Q4_K || option_all(argc, argv))
			check_pair(&l, &l, &l, 256, 256, shift, false);
		if (l.type == QUANT_Q4_K) {
			check_pair(&l, &l, q6, 256, 256, 0, true);
			check_pair(&l, &l, &block_layouts[1], 256, 72, 0,
				   false);			   /* halves below: any width */
			check_pair(&l, q6, q6, 256, 256, 0, true); /* two formats */
			if (option_all(argc, argv))
				check_pair(&l, &l, q6, 4096, 1024, 0, true);
		}
	}
	check_refusals();
	return values_report("expert_group");
}
