/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/kv_pages.h: a KV cache in pages on the host: the layout of kernels/cuda/ops.h written
 * down a second time, for tests of what stores into it and what attends over it.
 *
 * Page tables are shuffled, and all that nobody stored is 0xff: NaN where a kernel believes it.
 */
#ifndef SLUICE_TESTS_GPU_KV_PAGES_H
#define SLUICE_TESTS_GPU_KV_PAGES_H

#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

#include <algorithm>

struct kv_pages {
	enum cuda_kv type;
	size_t heads, dim, sequences, stride;
	std::vector<uint8_t> pool;
	std::vector<uint32_t> table;

	/* pages for @positions of every sequence, in random order, with some that nobody has */
	kv_pages(enum cuda_kv t, size_t h, size_t d, size_t n, size_t positions)
	    : type(t), heads(h), dim(d), sequences(n), stride((positions + 63) / 64),
	      pool((n * stride + 3) * cuda_kv_page_bytes(t, h, d), 0xff)
	{
		std::vector<uint32_t> pages(n * stride + 3);

		for (size_t i = 0; i < pages.size(); i++)
			pages[i] = (uint32_t)i;
		for (size_t i = pages.size(); i > 1; i--)
			std::swap(pages[i - 1], pages[random_u32() % i]);
		table.assign(pages.begin(), pages.begin() + (long)(n * stride));
	}

	/* offset in the pool of value @i of position @pos, K or V */
	size_t at(size_t seq, size_t pos, size_t head, size_t i, bool v) const
	{
		const size_t wide = type == CUDA_KV_F16 ? 2 : 1;

		return table[seq * stride + pos / 64] * cuda_kv_page_bytes(type, heads, dim) +
		       head * cuda_kv_page_bytes(type, 1, dim) +
		       ((v ? 64 : 0) + pos % 64) * dim * wide + i * wide;
	}

	/* offset of the scale of block @b (q8_0) */
	size_t scale_at(size_t seq, size_t pos, size_t head, size_t b, bool v) const
	{
		return table[seq * stride + pos / 64] * cuda_kv_page_bytes(type, heads, dim) +
		       head * cuda_kv_page_bytes(type, 1, dim) + 128 * dim +
		       (((v ? 64 : 0) + pos % 64) * (dim / 32) + b) * 2;
	}

	uint16_t half_at(size_t offset) const
	{
		uint16_t h;

		memcpy(&h, pool.data() + offset, 2);
		return h;
	}

	double get(size_t seq, size_t pos, size_t head, size_t i, bool v) const
	{
		if (type == CUDA_KV_F16)
			return half_value(half_at(at(seq, pos, head, i, v)));
		return (int8_t)pool[at(seq, pos, head, i, v)] *
		       half_value(half_at(scale_at(seq, pos, head, i / 32, v)));
	}

	/* stores the @dim floats of one head */
	void put(size_t seq, size_t pos, size_t head, bool v, const float *x)
	{
		for (size_t i = 0; i < dim && type == CUDA_KV_F16; i++) {
			const uint16_t h = half_of(x[i]);

			memcpy(&pool[at(seq, pos, head, i, v)], &h, 2);
		}
		for (size_t b = 0; b < dim / 32 && type == CUDA_KV_Q8_0; b++) {
			float big = 0.0f;
			uint16_t d;

			for (size_t i = 32 * b; i < 32 * b + 32; i++)
				big = fmaxf(big, fabsf(x[i]));
			d = half_of(big / 127.0f);
			memcpy(&pool[scale_at(seq, pos, head, b, v)], &d, 2);
			for (size_t i = 32 * b; i < 32 * b + 32; i++) {
				const float scale = (float)half_value(d);
				const float q = scale > 0 ? rintf(x[i] / scale) : 0;

				pool[at(seq, pos, head, i, v)] =
					(uint8_t)(int8_t)fminf(fmaxf(q, -127), 127);
			}
		}
	}

	/* random keys and values at positions [0, len) of @seq */
	void fill(size_t seq, size_t len, float scale)
	{
		for (size_t pos = 0; pos < len; pos++)
			for (size_t h = 0; h < heads; h++) {
				put(seq, pos, h, false, random_floats(dim, scale).data());
				put(seq, pos, h, true, random_floats(dim, scale).data());
			}
	}

	struct cuda_kv_cache on(const device_array<uint8_t> &p,
				const device_array<uint32_t> &t) const
	{
		return cuda_kv_cache{ type, p.p, t.p, stride, heads, dim };
	}
};

#endif
