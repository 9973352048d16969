/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/layer.h: whole layers of decode as the device launches them, for one token, at the shapes of
 * published models: the experts before with the norm, the mixer, the norm, the router, the hand-off, the hits
 * and the shared expert. Weights are random; nothing here checks what comes out.
 *
 * Formats as in a Q4_K_M file: Q4_K, down Q6_K, the shared expert Q8_0. Used by layer.cu (times of layers) and
 * handoff.cu (what lies between them). One stream at a time.
 */
#ifndef SLUICE_TESTS_BENCH_GPU_LAYER_H
#define SLUICE_TESTS_BENCH_GPU_LAYER_H

#include "tests/bench/gpu/bench.h"

#include <algorithm>

struct layer_rig {
	/* @layers of them, each with weights of its own; @resident: of a hundred experts lie in slots */
	layer_rig(const struct model &m, int layers, unsigned resident, size_t context);

	/* Layer @i, with DeltaNet (where the model has it) or attention, on @s: 0 or the first error. */
	int put(cuda_stream s, int i, bool recurrent);
	/* Its experts alone: gate, up, down of the hits, and the shared expert. */
	int put_experts(cuda_stream s, int i);

	/* Bytes of weights that layer @i reads, its experts' alone, and hits of its last run. */
	double bytes(int i, bool recurrent);
	double expert_bytes(int i);
	unsigned hits(int i);

	struct model m;
	size_t ranks;
	/* the host's, mapped: where layer i's publish arrives, and rows that the host computes */
	uint32_t *word, *to_ids;
	float *to_weights, *to_x, *mapped;

      private:
	struct cuda_product product(uint32_t type, const uint8_t *w, size_t n, size_t rows,
				    const void *x, float *y);
	int mixer_delta(cuda_stream s, int i);
	int mixer_attention(cuda_stream s, int i);

	size_t qk, values, channels, width, q_rows, kv_rows, mixer_bytes, layer_bytes, slots,
		slot_bytes;
	size_t context_, expert_row, down_row, shared_row, shared_down_row;
	uint8_t *weights_, *slot_memory;
	float *x, *in, *a, *b, *q, *o, *y, *alpha, *beta, *conv, *state, *ones, *router_w, *logits;
	float *router_weights, *hidden, *shared_hidden, *partial, *inv_freq;
	void *act, *super, *mid, *pool, *scratch;
	uint32_t *ids, *table, *slot_of, *count, *place, *start, *zero, *pos, *len;
	struct cuda_expert_entry *list;
};

/* How many of a hundred experts are resident in turn: none, half, all; in the dry run half. */
static inline std::vector<unsigned> residencies(void)
{
	return is_small() ? std::vector<unsigned>{ 50 } : std::vector<unsigned>{ 0, 50, 100 };
}

/* Layer @i of the rig as a graph, ready to be launched. */
cudaGraphExec_t record(const std::function<int(cuda_stream)> &put);

#endif
