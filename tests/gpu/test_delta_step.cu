/* SPDX-License-Identifier: MIT */
/*
 * Description: DeltaNet token by token on a GPU: values, cuts of a run, slots, head orders, refusals.
 *
 * Values against delta_ref.h, whose bound follows S through the run. Everything else is about bits.
 */
#include "tests/gpu/delta_rig.h"
#include "tests/gpu/delta_ref.h"

static struct ref_head head_of(const delta_rig &r, size_t sequence, size_t v)
{
	const size_t dim = r.shape.dim, first = r.start[sequence];
	const float *row = r.qkv.data() + first * r.channels();
	struct ref_head h = {};

	h.dim = dim;
	h.q = row + r.key_head(v) * dim;
	h.k = row + (r.shape.k_heads + r.key_head(v)) * dim;
	h.v = row + (2 * r.shape.k_heads + v) * dim;
	h.ld = r.channels();
	h.decay = r.decay.data() + first * r.shape.v_heads + v;
	h.beta = r.beta.data() + first * r.shape.v_heads + v;
	h.ld_gate = r.shape.v_heads;
	return h;
}

/* Every value of one head, output and state. */
static void compare_head(const delta_rig &before, const delta_rig &after, size_t s, size_t v)
{
	const size_t dim = before.shape.dim, at = before.state_at(s, v);
	const struct ref_head h = head_of(before, s, v);
	struct ref_state state(&before.state[at], dim);
	std::vector<double> out(dim), bound(dim);

	for (size_t t = 0; t < before.start[s + 1] - before.start[s]; t++) {
		const size_t row = ((before.start[s] + t) * before.shape.v_heads + v) * dim;

		ref_step(h, &state, t, out.data(), bound.data());
		for (size_t j = 0; j < dim; j++)
			MUST(fabs(after.out[row + j] - out[j]) <= bound[j] * 1.001);
	}
	for (size_t j = 0; j < dim; j++) {
		double sum = 0.0;

		for (size_t i = 0; i < dim; i++) {
			const double d = after.state[at + i * dim + j] - state.s[i * dim + j];

			sum += d * d;
		}
		MUST(sqrt(sum) <= state.error[j] * 1.001 + REF_TINY);
	}
}

static void values(struct cuda_delta_shape shape, std::vector<uint32_t> runs, enum rig_gates gates)
{
	delta_rig before(shape, runs, gates, 7 + gates), after = before;
	const size_t each = shape.v_heads * shape.dim * shape.dim;

	MUST(after.run(false) == 0);
	for (size_t s = 0; s < runs.size(); s++)
		for (size_t v = 0; v < shape.v_heads; v++)
			compare_head(before, after, s, v);
	for (size_t i = 0; i < each; i++) /* nobody's slot */
		MUST(after.state[i] == before.state[i]);
}

/* A run of ten is runs of three and seven, and the same beside other sequences. */
static void cuts(struct cuda_delta_shape shape)
{
	delta_rig whole(shape, { 10 }, RIG_USUAL, 3), a = whole, b = whole;
	const size_t row = whole.channels(), heads = shape.v_heads, wide = heads * shape.dim;

	a.start = { 0, 3 };
	b.start = { 0, 7 };
	a.max_run = 3;
	b.max_run = 7;
	b.qkv.erase(b.qkv.begin(), b.qkv.begin() + 3 * row);
	b.decay.erase(b.decay.begin(), b.decay.begin() + 3 * heads);
	b.beta.erase(b.beta.begin(), b.beta.begin() + 3 * heads);
	MUST(whole.run(false) == 0 && a.run(false) == 0);
	b.state = a.state;
	MUST(b.run(false) == 0);
	MUST(memcmp(b.state.data(), whole.state.data(), b.state.size() * 4) == 0);
	MUST(memcmp(a.out.data(), whole.out.data(), 3 * wide * 4) == 0);
	MUST(memcmp(b.out.data(), whole.out.data() + 3 * wide, 7 * wide * 4) == 0);
}

/* Sequence 1 of three alone gives the bits it has among them. */
static void company(struct cuda_delta_shape shape)
{
	delta_rig all(shape, { 2, 4, 1 }, RIG_USUAL, 5), one = all;
	const size_t row = all.channels(), heads = shape.v_heads, wide = heads * shape.dim;

	one.start = { 0, 4 };
	one.slot = { all.slot[1] };
	one.max_run = 4;
	one.qkv.erase(one.qkv.begin(), one.qkv.begin() + 2 * row);
	one.decay.erase(one.decay.begin(), one.decay.begin() + 2 * heads);
	one.beta.erase(one.beta.begin(), one.beta.begin() + 2 * heads);
	MUST(all.run(false) == 0 && one.run(false) == 0);
	MUST(memcmp(one.out.data(), all.out.data() + 2 * wide, 4 * wide * 4) == 0);
	MUST(memcmp(&one.state[all.state_at(1, 0)], &all.state[all.state_at(1, 0)],
		    wide * shape.dim * 4) == 0);
}

static void refusals(void)
{
	delta_rig r({ 1, 2, 64, false }, { 1 }, RIG_USUAL, 1), odd = r;
	struct cuda_delta d = {};

	odd.shape.dim = 96;
	MUST(odd.run(false) == -EINVAL);
	odd = r;
	odd.shape.k_heads = 3;
	MUST(odd.run(false) == -EINVAL);
	odd = r;
	odd.max_run = 0;
	MUST(odd.run(false) == -EINVAL);
	odd.max_run = 2; /* longer than all tokens together */
	MUST(odd.run(false) == -EINVAL);
	MUST(cuda_delta_step(NULL, NULL) == -EINVAL);
	d.shape = r.shape;
	MUST(cuda_delta_step(NULL, &d) == 0); /* no tokens: nothing to do */
	d.batch.tokens = d.batch.sequences = d.batch.max_run = 1;
	MUST(cuda_delta_step(NULL, &d) == -EINVAL);
}

int main(int argc, char **argv)
{
	const bool all = argc > 1 && !strcmp(argv[1], "--all");

	values({ 1, 2, 64, false }, { 1 }, RIG_USUAL);
	values({ 2, 4, 128, false }, { 1, 0, 3 }, RIG_USUAL);
	values({ 2, 4, 64, true }, { 5, 1 }, RIG_MIXED);
	values({ 1, 1, 64, true }, { 20 }, RIG_OPEN);
	values({ 1, 1, 64, false }, { 20 }, RIG_SHUT);
	values({ 1, 1, 64, false }, { all ? 2000u : 200u }, RIG_USUAL);
	cuts({ 1, 2, 64, false });
	cuts({ 1, 1, 128, true });
	company({ 1, 2, 64, false });
	rig_apart(delta_rig({ 1, 2, 64, false }, { 2, 1 }, RIG_USUAL, 7), 384, false);
	refusals();
	if (all) { /* 397B, 35B, qwen3next */
		values({ 16, 64, 128, false }, { 1, 2 }, RIG_USUAL);
		values({ 16, 32, 128, false }, { 1, 1, 1, 4 }, RIG_MIXED);
		values({ 16, 32, 128, true }, { 3 }, RIG_USUAL);
	}
	return 0;
}
