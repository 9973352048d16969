/* SPDX-License-Identifier: MIT */
/*
 * Description: DeltaNet in chunks of 64 on a GPU: values, equal to the step form, shut gates, tails.
 *
 * Values against the recurrence in double; the bound follows the chunked arithmetic with the actual
 * inverse of each chunk (delta_ref.h), so it is as tight as the numbers allow. The double form of
 * the chunk is checked against the recurrence too: the bound then belongs to the right formulas.
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

/* Reference and bounds of one chunk of one head, and what the GPU gave for it in both forms. */
static void compare_chunk(const struct ref_head &h, size_t first, size_t n, struct ref_state *chunk,
			  struct ref_state *step, const float *by_chunk, const float *by_step,
			  size_t ld)
{
	const size_t dim = h.dim;
	std::vector<double> form(n * dim), bound(n * dim), error(dim), out(dim), step_bound(dim);

	ref_chunk_bounds(h, first, n, *chunk, form.data(), bound.data(), &error);
	for (size_t i = 0; i < n; i++) {
		ref_step(h, step, first + i, out.data(), step_bound.data());
		for (size_t j = 0; j < dim; j++) {
			const double b = bound[i * dim + j] * 1.001, c = step_bound[j] * 1.001;
			const float x = by_chunk[i * ld + j], y = by_step[i * ld + j];

			MUST(fabs(form[i * dim + j] - out[j]) <= 1e-11);
			MUST(fabs(x - out[j]) <= b);
			MUST(fabs((double)x - y) <= b + c);
		}
	}
	chunk->s = step->s;
	chunk->error = error;
}

static void compare_head(const delta_rig &before, const delta_rig &chunked,
			 const delta_rig &stepped, size_t s, size_t v)
{
	const size_t dim = before.shape.dim, at = before.state_at(s, v);
	const size_t run = before.start[s + 1] - before.start[s], ld = before.shape.v_heads * dim;
	const struct ref_head h = head_of(before, s, v);
	struct ref_state chunk(&before.state[at], dim), step = chunk;

	for (size_t t = 0; t < run; t += REF_CHUNK) {
		const size_t row = (before.start[s] + t) * ld + v * dim;

		compare_chunk(h, t, run - t < REF_CHUNK ? run - t : REF_CHUNK, &chunk, &step,
			      &chunked.out[row], &stepped.out[row], ld);
	}
	for (size_t j = 0; j < dim; j++) {
		double sum = 0.0;

		for (size_t i = 0; i < dim; i++) {
			const double d = chunked.state[at + i * dim + j] - step.s[i * dim + j];

			sum += d * d;
		}
		MUST(sqrt(sum) <= chunk.error[j] * 1.001 + REF_TINY);
	}
}

static void values(struct cuda_delta_shape shape, std::vector<uint32_t> runs, enum rig_gates gates)
{
	delta_rig before(shape, runs, gates, 11 + gates), chunked = before, stepped = before;
	const size_t each = shape.v_heads * shape.dim * shape.dim;

	MUST(chunked.run(true) == 0 && stepped.run(false) == 0);
	for (size_t s = 0; s < runs.size(); s++)
		for (size_t v = 0; v < shape.v_heads; v++)
			compare_head(before, chunked, stepped, s, v);
	for (size_t i = 0; i < each; i++) /* nobody's slot */
		MUST(chunked.state[i] == before.state[i]);
}

/* Cut at a multiple of 64 with the state carried, and beside others: the same bits. */
static void bits(struct cuda_delta_shape shape)
{
	delta_rig all(shape, { 3, 70 }, RIG_MIXED, 13), a = all, b = all;
	const size_t row = all.channels(), heads = shape.v_heads, wide = heads * shape.dim;

	a.start = { 0, 64 };
	b.start = { 0, 6 };
	a.slot = b.slot = { all.slot[1] };
	a.max_run = 64;
	b.max_run = 6;
	a.qkv.erase(a.qkv.begin(), a.qkv.begin() + 3 * row);
	a.decay.erase(a.decay.begin(), a.decay.begin() + 3 * heads);
	a.beta.erase(a.beta.begin(), a.beta.begin() + 3 * heads);
	b.qkv.erase(b.qkv.begin(), b.qkv.begin() + 67 * row);
	b.decay.erase(b.decay.begin(), b.decay.begin() + 67 * heads);
	b.beta.erase(b.beta.begin(), b.beta.begin() + 67 * heads);
	MUST(all.run(true) == 0 && a.run(true) == 0);
	b.state = a.state;
	MUST(b.run(true) == 0);
	MUST(memcmp(a.out.data(), &all.out[3 * wide], 64 * wide * 4) == 0);
	MUST(memcmp(b.out.data(), &all.out[67 * wide], 6 * wide * 4) == 0);
	MUST(memcmp(&b.state[all.state_at(1, 0)], &all.state[all.state_at(1, 0)],
		    wide * shape.dim * 4) == 0);
}

/*
 * Behind a place where the gates are shut G is in the thousands; the small decays after it must
 * not lose their digits. The bound does not grow with G, so values() would see it; this says so.
 */
static void after_shut(void)
{
	delta_rig before({ 1, 1, 64, false }, { 64 }, RIG_USUAL, 17), chunked = before,
								      stepped = before;

	for (size_t t = 0; t < 64; t++)
		before.decay[t] = t < 40 ? -80.3f : -0.01f;
	chunked.decay = stepped.decay = before.decay;
	MUST(chunked.run(true) == 0 && stepped.run(false) == 0);
	compare_head(before, chunked, stepped, 0, 0);
}

/* Zero gates leave S alone, whatever k and v are. */
static void nothing_written(void)
{
	delta_rig before({ 1, 2, 64, true }, { 66 }, RIG_OPEN, 19), after = before;

	after.beta.assign(after.beta.size(), 0.0f);
	MUST(after.run(true) == 0);
	MUST(after.state == before.state);
}

static void refusals(void)
{
	delta_rig r({ 1, 2, 64, false }, { 1 }, RIG_USUAL, 1), odd = r;
	struct cuda_delta d = {};

	odd.shape.dim = 32;
	MUST(odd.run(true) == -EINVAL);
	MUST(cuda_delta_chunk(NULL, NULL) == -EINVAL);
	d.shape = r.shape;
	MUST(cuda_delta_chunk(NULL, &d) == 0); /* no tokens */
	d.batch.tokens = d.batch.sequences = d.batch.max_run = 1;
	MUST(cuda_delta_chunk(NULL, &d) == -EINVAL);
	MUST(cuda_delta_chunk_scratch(&r.shape, 1, 1) % 256 == 0);
}

int main(int argc, char **argv)
{
	const bool all = argc > 1 && !strcmp(argv[1], "--all");

	values({ 1, 2, 64, false }, { 1 }, RIG_USUAL);
	values({ 1, 1, 128, false }, { 65 }, RIG_USUAL);
	values({ 2, 4, 64, true }, { 5, 0, 64, 67 }, RIG_MIXED);
	values({ 1, 1, 64, true }, { 130 }, RIG_OPEN);
	values({ 1, 1, 64, false }, { 70 }, RIG_SHUT);
	values({ 1, 1, 64, false }, { all ? 2000u : 320u }, RIG_USUAL);
	bits({ 1, 2, 64, false });
	after_shut();
	nothing_written();
	rig_apart(delta_rig({ 1, 2, 64, false }, { 66, 3 }, RIG_USUAL, 7), 384, true);
	refusals();
	if (all) { /* 397B, qwen3next */
		values({ 16, 64, 128, false }, { 100 }, RIG_USUAL);
		values({ 16, 32, 128, true }, { 70, 3 }, RIG_MIXED);
	}
	return 0;
}
