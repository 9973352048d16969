/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/expert_group.cu: the experts of a few tokens, any list of them in one launch.
 *
 * Decode of a mixture is bound by reading the chosen experts' weights once: 10 experts of 7 MiB a
 * layer. gate_up: a warp takes two hidden rows of one entry, gate and up side by side (their loads
 * are in flight together and share x), and leaves them as floats; two formats take two launches.
 * down: a block brings its entry's hidden row into the int8 form in shared memory (a super-block of
 * Q8_K is 256 hidden rows, more than a block of gate_up has; every block does it again, a twentieth
 * of its work), then a warp takes four rows at a time. 10 entries of 1024 hidden rows are 640 blocks,
 * of 4096 output rows 640. How many entries there are may be known to the device alone: the grid is
 * for the most, and blocks beyond leave at once. Whether rows are 16-aligned is seen on the device, once a
 * block. An entry's bits depend on itself alone and are those of every CPU level (kernels/quant.h).
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/act.cuh"
#include "kernels/cuda/law.cuh"
#include "kernels/cuda/rows.cuh"

#define GROUP_WARPS   8
#define GROUP_ROWS    4 /* of a warp at a time: two of gate and two of up, or four of one */
#define DOWN_STEPS    2 /* times GROUP_ROWS: rows of a warp of down */
#define GROUP_ENTRIES 65535
#define GROUP_HIDDEN  32768 /* what shared memory of every target holds in the int8 form */

enum gate_part { PART_BOTH, PART_GATE, PART_UP };

struct group_args {
	size_t gate_row_bytes, up_row_bytes, down_row_bytes, d, f;
	const struct cuda_expert_entry *entries;
	const uint32_t *count; /* NULL: as many as the grid has */
	unsigned k;
	enum cuda_glu glu;
	enum cuda_input form; /* of hidden, for down */
	const void *x;
	float *hidden, *partial;
};

/* Rows of a matrix of @TYPE times token @token of x: row r's product in lane r. */
template <int TYPE>
static __device__ __forceinline__ float group_dots(const uint8_t *const rows[GROUP_ROWS],
						   bool aligned, size_t n, const void *in,
						   struct row_terms<TYPE, GROUP_ROWS> *t)
{
	constexpr bool gains = gains_wide(TYPE);

	if (gains && aligned) /* the same for the whole block */
		return row_dots < TYPE, gains ? 16 : 2, GROUP_ROWS, 1 > (rows, n, in, 1, t);
	return row_dots<TYPE, 2, GROUP_ROWS, 1>(rows, n, in, 1, t);
}

template <int TYPE, int PART>
static __global__ void __launch_bounds__(GROUP_WARPS *WARP_SIZE)
	gate_up_kernel(const struct group_args a)
{
	using terms = row_terms<TYPE, GROUP_ROWS>;
	CUDA_SHARED(terms, t, GROUP_WARPS);
	constexpr int hidden_rows = PART == PART_BOTH ? GROUP_ROWS / 2 : GROUP_ROWS;
	const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
	const size_t first = (blockIdx.x * (size_t)GROUP_WARPS + warp) * hidden_rows;
	const size_t stride = IS_FLOAT(TYPE) ? a.d * sizeof(float) : cuda_act_bytes(a.d);
	const uint8_t *rows[GROUP_ROWS];
	float v, up;

	if ((a.count && blockIdx.y >= *a.count) || first >= a.f)
		return;
	const struct cuda_expert_entry e = a.entries[blockIdx.y];
	const bool aligned = aligned16(PART == PART_UP ? e.up : e.gate,
				       PART == PART_UP ? a.up_row_bytes : a.gate_row_bytes) &&
			     (PART != PART_BOTH || aligned16(e.up, a.up_row_bytes));
	float *to = a.hidden + blockIdx.y * a.f + first;

#pragma unroll
	for (int i = 0; i < GROUP_ROWS; i++) {
		const bool of_up = PART == PART_UP || (PART == PART_BOTH && i % 2);
		const size_t r = first + (PART == PART_BOTH ? i / 2 : i);
		const size_t row = r < a.f ? r : first; /* computed twice */

		rows[i] = of_up ? (const uint8_t *)e.up + row * a.up_row_bytes
				: (const uint8_t *)e.gate + row * a.gate_row_bytes;
	}
	v = group_dots<TYPE>(rows, aligned, a.d, (const uint8_t *)a.x + e.token * stride, &t[warp]);
	if (PART == PART_BOTH) {
		up = __shfl_down_sync(WARP_ALL, v, 1);
		if (lane < GROUP_ROWS && lane % 2 == 0 && first + lane / 2 < a.f)
			to[lane / 2] = law_glu(a.glu, v, up);
	} else if (lane < GROUP_ROWS && first + lane < a.f) {
		to[lane] = PART == PART_GATE ? v : law_glu(a.glu, to[lane], v);
	}
}

/* Hidden row @h in the int8 form, to @act in shared memory. */
static __device__ __forceinline__ void hidden_act(const struct group_args &a, const float *h,
						  void *act)
{
	const size_t warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;

	for (size_t first = warp * ACT_WARP; first < a.f; first += GROUP_WARPS * ACT_WARP) {
		float4 v[2];

#pragma unroll
		for (int k = 0; k < 2; k++) {
			const size_t i = first + 128 * k + 4 * lane;

			v[k] = i < a.f ? *(const float4 *)(h + i)
				       : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
		}
		act_store(a.form, act_row_at(act, a.f, 0), a.f, first, v, true);
	}
}

template <int TYPE>
static __global__ void __launch_bounds__(GROUP_WARPS *WARP_SIZE)
	down_kernel(const struct group_args a)
{
	using terms = row_terms<TYPE, GROUP_ROWS>;
	CUDA_SHARED(terms, t, GROUP_WARPS);
	CUDA_SHARED_DYNAMIC(uint8_t, act);
	const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
	const float *h = a.hidden + blockIdx.y * a.f;

	if (a.count && blockIdx.y >= *a.count) /* the same for the whole block */
		return;
	const struct cuda_expert_entry e = a.entries[blockIdx.y];
	const bool aligned = aligned16(e.down, a.down_row_bytes);
	float *to = a.partial + ((size_t)e.token * a.k + e.rank) * a.d;

	if (!IS_FLOAT(TYPE)) {
		hidden_act(a, h, act);
		__syncthreads();
	}
	for (int s = 0; s < DOWN_STEPS; s++) {
		const size_t first =
			((blockIdx.x * (size_t)DOWN_STEPS + s) * GROUP_WARPS + warp) * GROUP_ROWS;
		const uint8_t *rows[GROUP_ROWS];
		float v;

		if (first >= a.d)
			return;
#pragma unroll
		for (int i = 0; i < GROUP_ROWS; i++)
			rows[i] = (const uint8_t *)e.down +
				  (first + i < a.d ? first + i : first) * a.down_row_bytes;
		v = group_dots<TYPE>(rows, aligned, a.f,
				     IS_FLOAT(TYPE) ? (const void *)h : (const void *)act,
				     &t[warp]);
		if (lane < GROUP_ROWS && first + lane < a.d)
			to[first + lane] = v;
	}
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
	a.count = g->count;
	a.k = g->k;
	a.glu = g->glu;
	a.form = cuda_matvec_input(g->down_type);
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

	if (gate == CUDA_IN_NONE || up != gate || cuda_matvec_input(g->down_type) == CUDA_IN_NONE ||
	    g->glu > CUDA_GLU_GELU)
		return -ENOTSUP;
	if (!g->entries || !g->x || !g->hidden || !aligned16(g->hidden) || !g->k ||
	    g->n_entries > GROUP_ENTRIES || !fits(g->gate_type, g->d, g->gate_row_bytes) ||
	    !fits(g->up_type, g->d, g->up_row_bytes) ||
	    !fits(g->down_type, g->f, g->down_row_bytes) || g->d > 0x7fffffff ||
	    g->f > GROUP_HIDDEN)
		return -EINVAL;
	return 0;
}

static dim3 group_grid(const struct cuda_expert_group *g, size_t rows, size_t each)
{
	return dim3((unsigned)((rows + each - 1) / each), (unsigned)g->n_entries);
}

template <int PART>
static void gate_up_launch(cuda_stream stream, const struct cuda_expert_group *g, uint32_t type)
{
	const unsigned each = GROUP_WARPS * (PART == PART_BOTH ? GROUP_ROWS / 2 : GROUP_ROWS);
	const dim3 grid = group_grid(g, g->f, each);

#define GATE_UP_CALL(T, A) \
	CUDA_LAUNCH((gate_up_kernel<T, PART>), grid, GROUP_WARPS *WARP_SIZE, 0, stream, pack(g))
	ROWS_ALL(type, GATE_UP_CALL)
#undef GATE_UP_CALL
}

extern "C" int cuda_expert_gate_up(cuda_stream stream, const struct cuda_expert_group *g)
{
	int rc;

	if (!g->n_entries)
		return 0;
	rc = check_group(g);
	if (rc)
		return rc;
	if (g->gate_type == g->up_type) {
		gate_up_launch<PART_BOTH>(stream, g, g->gate_type);
	} else {
		gate_up_launch<PART_GATE>(stream, g, g->gate_type);
		gate_up_launch<PART_UP>(stream, g, g->up_type);
	}
	return CUDA_LAUNCHED();
}

extern "C" int cuda_expert_down(cuda_stream stream, const struct cuda_expert_group *g)
{
	const dim3 grid = group_grid(g, g->d, (size_t)GROUP_WARPS * GROUP_ROWS * DOWN_STEPS);
	const size_t shared = IS_FLOAT(g->down_type) ? 0 : cuda_act_bytes(g->f);
	int rc;

	if (!g->n_entries)
		return 0;
	rc = check_group(g);
	if (rc || !g->partial)
		return rc ? rc : -EINVAL;
#define DOWN_CALL(T, A) \
	CUDA_LAUNCH((down_kernel<T>), grid, GROUP_WARPS *WARP_SIZE, shared, stream, pack(g))
	ROWS_ALL(g->down_type, DOWN_CALL)
#undef DOWN_CALL
	return CUDA_LAUNCHED();
}
