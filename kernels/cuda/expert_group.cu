/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/expert_group.cu: the experts of a few tokens, any list of them in one launch.
 *
 * Decode of a mixture is bound by reading the chosen experts' weights once: 10 experts of 7 MiB a
 * layer. gate_up: a block takes 32 hidden rows of one entry, eight warps with four rows each of gate
 * and of up (a warp's two rows are read one after the other, so eight streams a block), and writes
 * them as one group of the int8 form: no launch between gate_up and down. down: a warp a row, eight
 * rows a block. The grid is entries x row tiles: 10 entries of 1024 hidden rows are 320 blocks, of
 * 4096 output rows 5120. An entry's bits depend on itself alone, and equal those of cuda_matvec.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/swiglu.cuh"

#define GROUP_WARPS   8
#define GROUP_ROWS    32 /* hidden rows of a block: one scale of the int8 form */
#define GROUP_ENTRIES 65535

struct group_args {
	size_t gate_row_bytes, up_row_bytes, down_row_bytes, d, f;
	const struct cuda_expert_entry *entries;
	unsigned k;
	const void *x;
	void *hidden;
	float *partial;
};

/* Row @row of a matrix of @TYPE times token @token of x, in every lane. */
template <int TYPE>
static __device__ __forceinline__ float group_dot(const void *w, size_t row_bytes, size_t row,
						  size_t n, const void *x, size_t token)
{
	constexpr int align = TYPE == QUANT_MXFP4 ? 1 : 2;
	const size_t stride = IS_FLOAT(TYPE) ? n * sizeof(float) : cuda_act_bytes(n);
	float acc[1];

	row_dot<TYPE, align, 1>((const uint8_t *)w + row * row_bytes, n,
				(const uint8_t *)x + token * stride, 1, acc);
	return acc[0];
}

template <int GATE, int UP, bool INT8>
static __global__ void __launch_bounds__(GROUP_WARPS *WARP_SIZE)
	gate_up_kernel(const struct group_args a)
{
	CUDA_SHARED(float, tile, GROUP_ROWS);
	const struct cuda_expert_entry e = a.entries[blockIdx.y];
	const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
	const size_t first = blockIdx.x * (size_t)GROUP_ROWS;

	for (int r = warp; r < GROUP_ROWS; r += GROUP_WARPS) {
		float h = 0.0f;

		if (first + r < a.f) { /* the same for all lanes */
			const float g = group_dot<GATE>(e.gate, a.gate_row_bytes, first + r, a.d,
							a.x, e.token);
			const float u =
				group_dot<UP>(e.up, a.up_row_bytes, first + r, a.d, a.x, e.token);

			h = swiglu(g, u);
		}
		if (lane == 0)
			tile[r] = h;
	}
	__syncthreads();
	if (warp)
		return;
	if (INT8) {
		uint8_t *base = (uint8_t *)a.hidden + blockIdx.y * cuda_act_bytes(a.f);
		float scale;
		const int q = warp_quantize(tile[lane], &scale);
		const int sum = warp_sum_int_width(q, 16);

		((int8_t *)base)[first + lane] = (int8_t)q;
		if (lane == 0)
			((float *)(base + a.f))[first / 32] = scale;
		if (lane % 16 == 0)
			((int16_t *)(base + a.f + a.f / 32 * 4))[first / 16 + lane / 16] =
				(int16_t)sum;
	} else if (first + lane < a.f) {
		((float *)a.hidden)[blockIdx.y * a.f + first + lane] = tile[lane];
	}
}

template <int DOWN>
static __global__ void __launch_bounds__(GROUP_WARPS *WARP_SIZE)
	down_kernel(const struct group_args a)
{
	const struct cuda_expert_entry e = a.entries[blockIdx.y];
	const size_t row = blockIdx.x * (size_t)GROUP_WARPS + threadIdx.x / WARP_SIZE;
	float v;

	if (row >= a.d)
		return;
	v = group_dot<DOWN>(e.down, a.down_row_bytes, row, a.f, a.hidden, blockIdx.y);
	if (threadIdx.x % WARP_SIZE == 0)
		a.partial[((size_t)e.token * a.k + e.rank) * a.d + row] = v;
}

static struct group_args pack(const struct cuda_expert_group *g)
{
	struct group_args a = {};

	a.gate_row_bytes = g->gate_row_bytes;
	a.up_row_bytes = g->up_row_bytes;
	a.down_row_bytes = g->down_row_bytes;
	a.d = g->d;
	a.f = g->f;
	a.entries = g->entries;
	a.k = g->k;
	a.x = g->x;
	a.hidden = g->hidden;
	a.partial = g->partial;
	return a;
}

static bool fits(uint32_t type, size_t n, size_t row_bytes)
{
	const uint64_t bytes = quant_row_bytes(type, n);

	return bytes && row_bytes >= bytes;
}

/* 0, or why this group cannot be computed. */
static int check_group(const struct cuda_expert_group *g)
{
	const enum cuda_input up = cuda_matvec_input(g->up_type);
	const enum cuda_input gate = cuda_matvec_input(g->gate_type);

	if (gate == CUDA_IN_NONE || up != gate || cuda_matvec_input(g->down_type) == CUDA_IN_NONE)
		return -ENOTSUP;
	if (!g->entries || !g->x || !g->hidden || !g->k || g->n_entries > GROUP_ENTRIES ||
	    !fits(g->gate_type, g->d, g->gate_row_bytes) ||
	    !fits(g->up_type, g->d, g->up_row_bytes) ||
	    !fits(g->down_type, g->f, g->down_row_bytes) || g->d > 0x7fffffff || g->f > 0x7fffffff)
		return -EINVAL;
	return 0;
}

template <int GATE, int UP>
static void launch_gate_up(cuda_stream stream, const struct cuda_expert_group *g)
{
	const dim3 grid((unsigned)((g->f + GROUP_ROWS - 1) / GROUP_ROWS), (unsigned)g->n_entries);

	if (cuda_matvec_input(g->down_type) == CUDA_IN_ACT)
		CUDA_LAUNCH((gate_up_kernel<GATE, UP, true>), grid, GROUP_WARPS * WARP_SIZE, 0,
			    stream, pack(g));
	else
		CUDA_LAUNCH((gate_up_kernel<GATE, UP, false>), grid, GROUP_WARPS * WARP_SIZE, 0,
			    stream, pack(g));
}

extern "C" int cuda_expert_gate_up(cuda_stream stream, const struct cuda_expert_group *g)
{
	int rc;

	if (!g->n_entries)
		return 0;
	rc = check_group(g);
	if (rc)
		return rc;
	/* converters write both in one format; another pair is refused, not computed slowly */
	if (g->gate_type != g->up_type)
		return -ENOTSUP;
#define GATE_UP_CALL(T, A) launch_gate_up<T, T>(stream, g)
	switch (g->gate_type) {
		ROWS_ALL(GATE_UP_CALL)
	}
#undef GATE_UP_CALL
	return CUDA_LAUNCHED();
}

extern "C" int cuda_expert_down(cuda_stream stream, const struct cuda_expert_group *g)
{
	const dim3 grid((unsigned)((g->d + GROUP_WARPS - 1) / GROUP_WARPS), (unsigned)g->n_entries);
	int rc;

	if (!g->n_entries)
		return 0;
	rc = check_group(g);
	if (rc || !g->partial)
		return rc ? rc : -EINVAL;
#define DOWN_CALL(T, A) \
	CUDA_LAUNCH((down_kernel<T>), grid, GROUP_WARPS *WARP_SIZE, 0, stream, pack(g))
	switch (g->down_type) {
		ROWS_ALL(DOWN_CALL)
	}
#undef DOWN_CALL
	return CUDA_LAUNCHED();
}
