/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/expert_group.cu: the experts of a few tokens, any list of them in one launch.
 *
 * Decode of a mixture is bound by reading the chosen experts' weights once: 10 experts of 7 MiB a
 * layer. gate_up: a block takes 32 hidden rows of one entry, sixteen warps with two rows each, gate
 * and up side by side (their loads are in flight together and share x), and writes them as one group
 * of the int8 form: no launch between gate_up and down. down: a warp takes two rows, a block sixteen.
 * 10 entries of 1024 hidden rows are 320 blocks, of 4096 output rows 2560. Whether rows are 16-aligned
 * is seen on the device, once a block. An entry's bits depend on itself alone, and equal cuda_matvec's.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/swiglu.cuh"

#define GATE_WARPS    16
#define DOWN_WARPS    8
#define GROUP_ROWS    32 /* hidden rows of a block: one scale of the int8 form */
#define GROUP_ENTRIES 65535

struct group_args {
	uint32_t gate_type, up_type;
	size_t gate_row_bytes, up_row_bytes, down_row_bytes, d, f;
	const struct cuda_expert_entry *entries;
	unsigned k;
	const void *x;
	void *hidden;
	bool hidden_int8;
	float *partial;
};

/* Rows of a matrix of @TYPE times token @token of x, in every lane. */
template <int TYPE, int ROWS>
static __device__ __forceinline__ void group_dots(const uint8_t *const rows[ROWS], bool aligned,
						  size_t n, const void *x, size_t token,
						  float ret[ROWS])
{
	constexpr bool gains = gains_wide(TYPE);
	const size_t stride = IS_FLOAT(TYPE) ? n * sizeof(float) : cuda_act_bytes(n);
	const uint8_t *in = (const uint8_t *)x + token * stride;
	float acc[ROWS][1];

	if (gains && aligned) /* the same for the whole block */
		row_dots<TYPE, gains ? 16 : 2, ROWS, 1>(rows, n, in, 1, acc);
	else
		row_dots<TYPE, 2, ROWS, 1>(rows, n, in, 1, acc);
#pragma unroll
	for (int r = 0; r < ROWS; r++)
		ret[r] = acc[r][0];
}

/* Any type, known when running only. */
static __device__ float any_dot(uint32_t type, const uint8_t *row, size_t n, const void *x,
				size_t token)
{
	const uint8_t *rows[1] = { row };
	float ret[1] = { 0.0f };

#define ANY_CALL(T, A) group_dots<T, 1>(rows, false, n, x, token, ret)
	ROWS_ALL(type, ANY_CALL)
#undef ANY_CALL
	return ret[0];
}

/* The block's 32 hidden rows, one a lane of the first warp, to their place. */
static __device__ __forceinline__ void store_hidden(const struct group_args &a, size_t first,
						    float v)
{
	const int lane = threadIdx.x;

	if (a.hidden_int8) {
		uint8_t *base = (uint8_t *)a.hidden + blockIdx.y * cuda_act_bytes(a.f);
		float scale;
		const int q = warp_quantize(v, &scale);
		const int sum = warp_sum_int_width(q, 16);

		((int8_t *)base)[first + lane] = (int8_t)q;
		if (lane == 0)
			((float *)(base + a.f))[first / 32] = scale;
		if (lane % 16 == 0)
			((int16_t *)(base + a.f + a.f / 32 * 4))[first / 16 + lane / 16] =
				(int16_t)sum;
	} else if (first + lane < a.f) {
		((float *)a.hidden)[blockIdx.y * a.f + first + lane] = v;
	}
}

/* TYPE -1: gate and up in formats of their own */
template <int TYPE>
static __global__ void __launch_bounds__(GATE_WARPS *WARP_SIZE)
	gate_up_kernel(const struct group_args a)
{
	CUDA_SHARED(float, tile, GROUP_ROWS);
	const struct cuda_expert_entry e = a.entries[blockIdx.y];
	const bool aligned = aligned16(e.gate, a.gate_row_bytes) && aligned16(e.up, a.up_row_bytes);
	const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
	const size_t first = blockIdx.x * (size_t)GROUP_ROWS;

	for (int r = warp; r < GROUP_ROWS; r += GATE_WARPS) {
		const uint8_t *rows[2] = { (const uint8_t *)e.gate + (first + r) * a.gate_row_bytes,
					   (const uint8_t *)e.up + (first + r) * a.up_row_bytes };
		float v[2] = { 0.0f, 0.0f };

		if (first + r < a.f) { /* the same for all lanes */
			if constexpr (TYPE >= 0) {
				group_dots<TYPE, 2>(rows, aligned, a.d, a.x, e.token, v);
			} else {
#pragma unroll 1
				for (int m = 0; m < 2; m++)
					v[m] = any_dot(m ? a.up_type : a.gate_type, rows[m], a.d,
						       a.x, e.token);
			}
		}
		if (lane == 0)
			tile[r] = swiglu(v[0], v[1]);
	}
	__syncthreads();
	if (warp == 0)
		store_hidden(a, first, tile[lane]);
}

template <int TYPE>
static __global__ void __launch_bounds__(DOWN_WARPS *WARP_SIZE)
	down_kernel(const struct group_args a)
{
	const struct cuda_expert_entry e = a.entries[blockIdx.y];
	const size_t first = (blockIdx.x * (size_t)DOWN_WARPS + threadIdx.x / WARP_SIZE) * 2;
	const uint8_t *w = (const uint8_t *)e.down, *rows[2];
	float *to = a.partial + ((size_t)e.token * a.k + e.rank) * a.d + first;
	float v[2];

	if (first >= a.d)
		return;
	rows[0] = w + first * a.down_row_bytes;
	rows[1] = first + 1 < a.d ? rows[0] + a.down_row_bytes : rows[0];
	group_dots<TYPE, 2>(rows, aligned16(w, a.down_row_bytes), a.f, a.hidden, blockIdx.y, v);
	if (threadIdx.x % WARP_SIZE)
		return;
	to[0] = v[0];
	if (first + 1 < a.d)
		to[1] = v[1];
}

static struct group_args pack(const struct cuda_expert_group *g)
{
	struct group_args a = {};

	a.gate_type = g->gate_type;
	a.up_type = g->up_type;
	a.gate_row_bytes = g->gate_row_bytes;
	a.up_row_bytes = g->up_row_bytes;
	a.down_row_bytes = g->down_row_bytes;
	a.d = g->d;
	a.f = g->f;
	a.entries = g->entries;
	a.k = g->k;
	a.x = g->x;
	a.hidden = g->hidden;
	a.hidden_int8 = cuda_matvec_input(g->down_type) == CUDA_IN_ACT;
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

extern "C" int cuda_expert_gate_up(cuda_stream stream, const struct cuda_expert_group *g)
{
	const dim3 grid((unsigned)((g->f + GROUP_ROWS - 1) / GROUP_ROWS), (unsigned)g->n_entries);
	int rc;

	if (!g->n_entries)
		return 0;
	rc = check_group(g);
	if (rc)
		return rc;
#define GATE_UP_CALL(T, A) \
	CUDA_LAUNCH((gate_up_kernel<T>), grid, GATE_WARPS *WARP_SIZE, 0, stream, pack(g))
	if (g->gate_type != g->up_type) {
		GATE_UP_CALL(-1, 2);
		return CUDA_LAUNCHED();
	}
	ROWS_ALL(g->gate_type, GATE_UP_CALL)
#undef GATE_UP_CALL
	return CUDA_LAUNCHED();
}

extern "C" int cuda_expert_down(cuda_stream stream, const struct cuda_expert_group *g)
{
	const unsigned each = 2 * DOWN_WARPS;
	const dim3 grid((unsigned)((g->d + each - 1) / each), (unsigned)g->n_entries);
	int rc;

	if (!g->n_entries)
		return 0;
	rc = check_group(g);
	if (rc || !g->partial)
		return rc ? rc : -EINVAL;
#define DOWN_CALL(T, A) \
	CUDA_LAUNCH((down_kernel<T>), grid, DOWN_WARPS *WARP_SIZE, 0, stream, pack(g))
	ROWS_ALL(g->down_type, DOWN_CALL)
#undef DOWN_CALL
	return CUDA_LAUNCHED();
}
