/* SPDX-License-Identifier: MIT */
/*
 * Description: hits become a list in the order of the entries and misses mapped rows, whatever is resident; the
 * reduction over both has the bits of the one over one source; what is published is there before its word.
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <errno.h>

/* @extra: ranks without an expert of the list; @percent 0: no table at all */
static void check_resolve(size_t tokens, unsigned k, size_t experts, unsigned percent,
			  unsigned extra)
{
	const size_t n = tokens * k, d = 37, ranks = k + extra, rows_n = tokens * ranks;
	std::vector<uint32_t> ids(n), slots(experts, UINT32_MAX), want;
	std::vector<uint8_t> base(1000 * experts);
	uint32_t next = 0;

	for (size_t e = 0; e < experts; e++)
		if (random_u32() % 100 < percent)
			slots[e] = next++;
	for (uint32_t &id : ids)
		id = random_u32() % (uint32_t)experts;
	device_array<uint32_t> d_ids(ids), d_slots(slots), count(1), place(rows_n);
	device_array<uint8_t> d_base(base);
	device_array<struct cuda_expert_entry> list(n);
	struct cuda_resolve r = {};

	r.ids = d_ids.p;
	r.tokens = tokens;
	r.experts = experts;
	r.k = k;
	r.ranks = extra ? (unsigned)ranks : 0;
	r.slots = percent ? d_slots.p : NULL;
	r.base = percent ? d_base.p : NULL;
	r.slot_bytes = 1000;
	r.gate_at = 16;
	r.up_at = 100;
	r.down_at = 500;
	r.list = list.p;
	r.count = count.p;
	r.place = place.p;
	check_equal("resolve", n, cuda_expert_resolve(NULL, &r), 0);
	const std::vector<struct cuda_expert_entry> got = list.get();
	const std::vector<uint32_t> where = place.get();
	size_t hits = 0;

	for (size_t i = 0; i < rows_n; i++) {
		const size_t token = i / ranks, rank = i % ranks;
		const uint32_t slot = rank < k ? slots[ids[token * k + rank]] : 0;

		check_equal("place", i, where[i], i + (slot == UINT32_MAX ? CUDA_MAPPED : 0));
		if (slot == UINT32_MAX || rank >= k)
			continue;
		const struct cuda_expert_entry &e = got[hits++];

		check_equal("token", i, e.token, token);
		check_equal("rank", i, e.rank, rank);
		check_equal("gate", i, (const uint8_t *)e.gate - d_base.p, slot * 1000 + 16);
		check_equal("up", i, (const uint8_t *)e.up - d_base.p, slot * 1000 + 100);
		check_equal("down", i, (const uint8_t *)e.down - d_base.p, slot * 1000 + 500);
	}
	check_equal("count", 0, count.get()[0], (long long)hits);

	/* rows of misses at the host's side, hits' at the device's: as if all were in one place */
	const std::vector<float> rows = random_floats(rows_n * d, 1.0f),
				 weights = random_floats(rows_n, 1.0f);
	std::vector<float> near(rows), far(rows);

	for (size_t i = 0; i < rows_n * d; i++)
		(where[i / d] & CUDA_MAPPED ? near[i] : far[i]) = NAN;
	device_array<float> all(rows), a(near), b(far), w(weights), y(tokens * d), z(tokens * d);
	check_equal(
		"reduce", 0,
		cuda_expert_reduce(NULL, all.p, NULL, w.p, tokens, (unsigned)ranks, d, false, y.p),
		0);
	check_equal("reduce two", 0,
		    cuda_expert_reduce_two(NULL, a.p, b.p, place.p, w.p, tokens, (unsigned)ranks, d,
					   false, z.p),
		    0);
	check_bits("two sources", z.get().data(), y.get().data(), tokens * d);
}

/* Alone, and beside the table's look-up with a rank more and a tick. */
static void check_publish(size_t tokens, unsigned k, size_t d, bool both)
{
	const size_t ranks = k + both;
	const std::vector<float> x = random_floats(tokens * d, 1.0f),
				 w = random_floats(tokens * ranks, 1.0f);
	std::vector<uint32_t> ids(tokens * k);

	for (uint32_t &id : ids)
		id = random_u32();
	device_array<float> dx(x), dw(w), to_x(tokens * d), to_w(tokens * ranks);
	device_array<uint32_t> di(ids), to_i(tokens * k), word(1), count(1), place(tokens * ranks);
	device_array<uint32_t> tick(std::vector<uint32_t>{ 1000 });
	device_array<struct cuda_expert_entry> list(tokens * k);
	struct cuda_publish p = {};
	struct cuda_resolve r = {};

	p.ids = di.p;
	p.weights = dw.p;
	p.x = dx.p;
	p.tokens = tokens;
	p.d = d;
	p.k = k;
	p.to_ids = to_i.p;
	p.to_weights = to_w.p;
	p.to_x = to_x.p;
	p.word = word.p;
	p.value = 77;
	if (both) {
		p.ranks = r.ranks = (unsigned)ranks;
		p.tick = tick.p;
		r.ids = di.p;
		r.tokens = tokens;
		r.k = k;
		r.experts = 8;
		r.list = list.p;
		r.count = count.p;
		r.place = place.p;
		check_equal("handoff", d, cuda_handoff(NULL, &p, &r), 0);
		check_equal("no hits", 0, count.get()[0], 0);
		check_equal("place", 0, place.get()[k], k);
		check_equal("place", 0, place.get()[0], CUDA_MAPPED);
		r.place = NULL;
		check_equal("no places", 0, cuda_handoff(NULL, &p, &r), -EINVAL);
	} else {
		check_equal("publish", d, cuda_publish(NULL, &p), 0);
	}
	check_bits("x", to_x.get().data(), x.data(), tokens * d);
	check_bits("weights", to_w.get().data(), w.data(), tokens * ranks);
	check_bits("ids", to_i.get().data(), ids.data(), tokens * k);
	check_equal("word", 0, word.get()[0], both ? 1077 : 77);
	p.word = NULL;
	check_equal("no word", 0, cuda_publish(NULL, &p), -EINVAL);
}

int main(void)
{
	struct cuda_resolve r = {};

	check_resolve(1, 8, 128, 50, 0);
	check_resolve(3, 10, 512, 10, 1);
	check_resolve(2, 4, 16, 0, 0);
	check_resolve(110, 10, 64, 60, 1); /* more than a block has threads */
	check_resolve(1, 1, 1, 100, 1);
	check_publish(1, 8, 2048, false);
	check_publish(7, 10, 4097, false);
	check_publish(2, 4, 256, true);
	check_equal("no tokens", 0, cuda_expert_resolve(NULL, &r), 0);
	r.tokens = 1;
	check_equal("nothing", 0, cuda_expert_resolve(NULL, &r), -EINVAL);
	return values_report("expert_resolve");
}
