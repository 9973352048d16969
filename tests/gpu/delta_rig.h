/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/delta_rig.h: random batches of gated DeltaNet, and device memory that frees itself.
 *
 * A rig holds the inputs of one launch on the host; run() puts them on the device, launches the
 * form asked for and brings output and state back. Used by test_delta_*.cu only.
 */
#ifndef SLUICE_TESTS_GPU_DELTA_RIG_H
#define SLUICE_TESTS_GPU_DELTA_RIG_H

#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <vector>

#define MUST(what)                                                                         \
	do {                                                                               \
		if (!(what)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
			exit(1);                                                           \
		}                                                                          \
	} while (0)

/* A copy of a host vector on the device. */
template <class T> struct on_device {
	T *at = NULL;
	size_t count;

	explicit on_device(const std::vector<T> &from) : count(from.size())
	{
		MUST(cudaMalloc((void **)&at, count * sizeof(T) + 16) == cudaSuccess);
		MUST(cudaMemcpy(at, from.data(), count * sizeof(T), cudaMemcpyHostToDevice) ==
		     cudaSuccess);
	}
	on_device(const on_device &) = delete;
	~on_device()
	{
		cudaFree(at);
	}
	std::vector<T> back() const
	{
		std::vector<T> to(count);

		MUST(cudaDeviceSynchronize() == cudaSuccess);
		MUST(cudaMemcpy(to.data(), at, count * sizeof(T), cudaMemcpyDeviceToHost) ==
		     cudaSuccess);
		return to;
	}
};

/* Numbers that look random and are the same everywhere. */
struct rig_random {
	uint64_t x;

	explicit rig_random(uint64_t seed) : x(seed * 0x9e3779b97f4a7c15ull + 1)
	{
	}
	uint32_t bits()
	{
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		return (uint32_t)(x >> 33);
	}
	/* in [low, high) */
	float in(float low, float high)
	{
		return low + (high - low) * ((float)bits() / 2147483648.0f);
	}
	std::vector<float> many(size_t n, float low, float high)
	{
		std::vector<float> v(n);

		for (float &f : v)
			f = in(low, high);
		return v;
	}
};

enum rig_gates { RIG_USUAL, RIG_OPEN, RIG_SHUT, RIG_MIXED };

struct delta_rig {
	struct cuda_delta_shape shape;
	std::vector<uint32_t> start, slot;
	size_t max_run = 0, slots = 0, stride = 0;
	std::vector<float> qkv, decay, beta, state, out;

	/* @runs tokens of each sequence; slots are given from the top down, with one left free */
	delta_rig(struct cuda_delta_shape s, const std::vector<uint32_t> &runs,
		  enum rig_gates gates, uint64_t seed)
	    : shape(s), start(1, 0u)
	{
		rig_random r(seed);

		for (uint32_t n : runs) {
			start.push_back(start.back() + n);
			max_run = n > max_run ? n : max_run;
			slot.push_back((uint32_t)(runs.size() - slot.size()));
		}
		slots = runs.size() + 1;
		state = r.many(slots * s.v_heads * s.dim * s.dim, -0.3f, 0.3f);
		qkv = r.many(tokens() * channels(), -1.0f, 1.0f);
		for (size_t t = 0; t < tokens(); t++)
			for (size_t h = 0; h < 2 * s.k_heads; h++)
				unit(&qkv[t * channels() + h * s.dim], h < s.k_heads);
		for (size_t i = 0; i < tokens() * s.v_heads; i++)
			gate(&r, gates);
		out.assign(tokens() * s.v_heads * s.dim, NAN);
	}
	size_t tokens() const
	{
		return start.back();
	}
	size_t channels() const
	{
		return (2 * shape.k_heads + shape.v_heads) * shape.dim;
	}
	size_t key_head(size_t v) const
	{
		return shape.grouped ? v / (shape.v_heads / shape.k_heads) : v % shape.k_heads;
	}
	size_t state_at(size_t sequence, size_t v) const
	{
		return (slot[sequence] * shape.v_heads + v) * shape.dim * shape.dim;
	}
	/* Launches; @out and @state become what came back. */
	int run(bool chunked)
	{
		on_device<float> x(qkv), g(decay), b(beta), s(state), o(out);
		on_device<uint32_t> from(start), where(slot);
		const size_t bytes = cuda_delta_chunk_scratch(&shape, slot.size(), tokens());
		on_device<float> scratch(std::vector<float>(chunked ? bytes / 4 : 1, NAN));
		struct cuda_delta d = {};
		int ret;

		d.shape = shape;
		d.batch.sequences = slot.size();
		d.batch.tokens = tokens();
		d.batch.max_run = max_run;
		d.batch.start = from.at;
		d.batch.slot = where.at;
		d.batch.stride = stride;
		d.qkv = x.at;
		d.decay = g.at;
		d.beta = b.at;
		d.state = s.at;
		d.out = o.at;
		d.scratch = scratch.at;
		ret = chunked ? cuda_delta_chunk(NULL, &d) : cuda_delta_step(NULL, &d);
		out = o.back();
		state = s.back();
		return ret;
	}

      private:
	void unit(float *x, bool query)
	{
		double sum = 0.0;

		for (size_t i = 0; i < shape.dim; i++)
			sum += (double)x[i] * x[i];
		for (size_t i = 0; i < shape.dim; i++)
			x[i] = (float)(x[i] / sqrt(sum * (1 + 1e-6) * (query ? shape.dim : 1)));
	}
	void gate(rig_random *r, enum rig_gates gates)
	{
		const uint32_t kind = gates == RIG_MIXED ? r->bits() % 3 : (uint32_t)gates;

		decay.push_back(kind == RIG_OPEN   ? 0.0f
				: kind == RIG_SHUT ? -80.0f + r->in(-0.5f, 0.5f)
						   : -r->in(0.0f, 0.2f));
		beta.push_back(kind == RIG_OPEN	  ? 1.0f
			       : kind == RIG_SHUT ? (float)(r->bits() % 2)
						  : r->in(0.0f, 1.0f));
	}
};

/* States with @more floats between them, as a batch's stride says: the same bits, and nothing between is touched. */
static inline void rig_apart(const delta_rig &rig, size_t more, bool chunked)
{
	const size_t own = rig.shape.v_heads * rig.shape.dim * rig.shape.dim;
	delta_rig near = rig, far = rig;

	far.stride = own + more;
	far.state.assign(far.slots * far.stride, 7.0f);
	for (size_t i = 0; i < far.slots; i++)
		std::copy(&near.state[i * own], &near.state[i * own] + own,
			  &far.state[i * far.stride]);
	MUST(near.run(chunked) == 0 && far.run(chunked) == 0);
	MUST(far.out == near.out);
	for (size_t i = 0; i < far.state.size(); i++)
		MUST(far.state[i] == (i % far.stride < own
					      ? near.state[i / far.stride * own + i % far.stride]
					      : 7.0f));
	far.stride = own - 4;
	MUST(far.run(chunked) == -EINVAL);
	far.stride = own + 2; /* not 16-aligned */
	MUST(far.run(chunked) == -EINVAL);
}

#endif
