/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/topk.cu: the k largest logits of each row, in two launches.
 *
 * 1. A block per slice of a row (2048 values for k <= 64, else 4096, held in registers: one read of
 *    the row) selects the k largest of its slice. A row of 248320 is 122 or 61 blocks, 151936 is 75
 *    or 38, so one row is spread over most of a GPU.
 * 2. A block per row selects the k largest of those (122 * 20 or 61 * 256 candidates, read again in
 *    every pass, but from the first cache) and puts each at its rank.
 * A value and its place make one 64-bit key, larger for the larger value, then for the lower index:
 * no two are equal, so a selection by digits of 8 bits from the top is exact, ties included, and what
 * order the atomics leave candidates in does not matter. Mostly two to four of the eight passes are
 * needed. The atomics of a pass add one to bins of shared memory, which the hardware gathers.
 * Comparisons only: nothing is rounded.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"

#define TOPK_LARGEST  256
#define TOPK_BINS     256
#define TOPK_FEW      64 /* up to so many, slices are short */
#define SLICE_THREADS 256
#define MERGE_THREADS 1024
#define RANK_LANES    (MERGE_THREADS / TOPK_LARGEST) /* threads that rank one winner */

/* Where a selection stands: of the keys that begin as @prefix (the bits in @mask), @need are wanted. */
struct topk_state {
	uint64_t prefix, mask;
	uint32_t need, found; /* found: how many begin so */
};

static __device__ __forceinline__ float topk_value(float x)
{
	return isnan(x) ? -INFINITY : x;
}

/* Larger for a larger value, then for a lower index; never 0, which stands for no value. */
static __device__ __forceinline__ uint64_t topk_key(float x, uint32_t index)
{
	const float v = topk_value(x);
	const uint32_t bits = v == 0.0f ? 0 : __float_as_uint(v); /* -0 is equal to 0 */
	const uint32_t ordered = bits & 0x80000000 ? ~bits : bits | 0x80000000;

	return (uint64_t)ordered << 32 | (uint32_t)~index;
}

/* Before the first pass; ends with a barrier. */
static __device__ __forceinline__ void topk_begin(uint32_t *bins, uint32_t *taken)
{
	for (uint32_t i = threadIdx.x; i < TOPK_BINS; i += blockDim.x)
		bins[i] = 0;
	if (threadIdx.x == 0)
		*taken = 0;
	__syncthreads();
}

static __device__ __forceinline__ void topk_count(uint32_t *bins, const struct topk_state &s,
						  int shift, uint64_t key)
{
	if ((key & s.mask) == s.prefix)
		atomicAdd(&bins[key >> shift & (TOPK_BINS - 1)], 1u);
}

/*
 * After all keys are counted: the digit of the key that is @need-th from the top joins the prefix of
 * *s, and the bins are empty again. Lane l of the first warp has the 8 bins below 256 - 8 l, so that
 * a sum over lanes counts from the largest digit; the one lane whose bin it is tells all others
 * through @shared. All threads call.
 */
static __device__ __forceinline__ void topk_digit(uint32_t *bins, struct topk_state *shared,
						  int shift, struct topk_state *s)
{
	__syncthreads();
	if (threadIdx.x < WARP_SIZE) {
		const uint32_t base = TOPK_BINS - 8 * (threadIdx.x + 1);
		uint32_t n[8], sum = 0, above;

#pragma unroll
		for (int i = 0; i < 8; i++) {
			n[i] = bins[base + i];
			sum += n[i];
			bins[base + i] = 0;
		}
		above = sum;
		for (uint32_t m = 1; m < WARP_SIZE; m *= 2) {
			const uint32_t v = __shfl_up_sync(WARP_ALL, above, m);

			above += threadIdx.x >= m ? v : 0;
		}
		above -= sum;
#pragma unroll
		for (int i = 7; i >= 0; i--) {
			if (above < s->need && s->need - above <= n[i])
				*shared = { s->prefix | (uint64_t)(base + i) << shift,
					    s->mask | (uint64_t)(TOPK_BINS - 1) << shift,
					    s->need - above, n[i] };
			above += n[i];
		}
	}
	__syncthreads();
	*s = *shared;
}

/* The keys of slice blockIdx.x of row blockIdx.y that its k largest can be among, and zeros. */
template <int VALUES>
static __global__ void __launch_bounds__(SLICE_THREADS)
	topk_slice_kernel(const float *logits, size_t ld, uint32_t n, uint32_t k, uint64_t *keys)
{
	CUDA_SHARED(uint32_t, bins, TOPK_BINS);
	CUDA_SHARED(struct topk_state, shared, 1);
	CUDA_SHARED(uint32_t, taken, 1);
	const float *row = logits + blockIdx.y * ld;
	const uint32_t first = blockIdx.x * (SLICE_THREADS * VALUES);
	const uint32_t want = min(k, n - first);
	uint64_t *out = keys + ((size_t)blockIdx.y * gridDim.x + blockIdx.x) * k;
	struct topk_state s = { 0, 0, want, UINT32_MAX };
	uint64_t key[VALUES];

#pragma unroll
	for (int j = 0; j < VALUES; j++) {
		const uint32_t i = first + j * SLICE_THREADS + threadIdx.x;

		key[j] = i < n ? topk_key(row[i], i) : 0;
	}
	topk_begin(bins, taken);
	for (int shift = 56; shift >= 0 && s.found != s.need; shift -= 8) {
#pragma unroll
		for (int j = 0; j < VALUES; j++)
			topk_count(bins, s, shift, key[j]);
		topk_digit(bins, shared, shift, &s);
	}
#pragma unroll
	for (int j = 0; j < VALUES; j++)
		if (key[j] != 0 && key[j] >= s.prefix)
			out[atomicAdd(&taken[0], 1u)] = key[j];
	for (uint32_t i = want + threadIdx.x; i < k; i += SLICE_THREADS)
		out[i] = 0;
}

static __global__ void __launch_bounds__(MERGE_THREADS)
	topk_merge_kernel(const float *logits, size_t ld, const uint64_t *keys, uint32_t count,
			  uint32_t k, uint32_t *ids, float *values)
{
	CUDA_SHARED(uint32_t, bins, TOPK_BINS);
	CUDA_SHARED(struct topk_state, shared, 1);
	CUDA_SHARED(uint32_t, taken, 1);
	CUDA_SHARED(uint64_t, top, TOPK_LARGEST);
	const uint64_t *in = keys + (size_t)blockIdx.x * count;
	const uint32_t winner = threadIdx.x / RANK_LANES;
	struct topk_state s = { 0, 0, k, UINT32_MAX };
	uint64_t mine;
	int rank = 0;

	topk_begin(bins, taken);
	for (int shift = 56; shift >= 0 && s.found != s.need; shift -= 8) {
#pragma unroll 4
		for (uint32_t i = threadIdx.x; i < count; i += MERGE_THREADS)
			topk_count(bins, s, shift, in[i]);
		topk_digit(bins, shared, shift, &s);
	}
#pragma unroll 4
	for (uint32_t i = threadIdx.x; i < count; i += MERGE_THREADS) {
		const uint64_t key = in[i];

		if (key != 0 && key >= s.prefix)
			top[atomicAdd(&taken[0], 1u)] = key;
	}
	__syncthreads();

	/* no two keys are equal: as many lie before one as are larger */
	mine = top[min(winner, k - 1)];
	for (uint32_t i = threadIdx.x % RANK_LANES; i < k; i += RANK_LANES)
		rank += top[i] > mine;
	rank = warp_sum_int_width(rank, RANK_LANES);
	if (winner < k && threadIdx.x % RANK_LANES == 0) {
		const uint32_t index = ~(uint32_t)mine;
		const size_t to = (size_t)blockIdx.x * k + rank;

		ids[to] = index;
		values[to] = topk_value(logits[blockIdx.x * ld + index]);
	}
}

static bool topk_takes(size_t n, size_t rows, unsigned k)
{
	return k > 0 && k <= TOPK_LARGEST && k <= n && n <= INT32_MAX && rows <= UINT16_MAX;
}

static size_t topk_parts(size_t n, unsigned k)
{
	const size_t slice = SLICE_THREADS * (k <= TOPK_FEW ? 8 : 16);

	return (n + slice - 1) / slice;
}

size_t cuda_topk_scratch(size_t n, size_t rows, unsigned k)
{
	if (!topk_takes(n, rows, k))
		return 0;
	return rows * topk_parts(n, k) * k * sizeof(uint64_t);
}

int cuda_topk(cuda_stream stream, const float *logits, size_t ld, size_t n, size_t rows, unsigned k,
	      uint32_t *ids, float *values, void *scratch)
{
	const size_t parts = topk_parts(n, k);
	const dim3 grid((unsigned)parts, (unsigned)rows);
	uint64_t *keys = (uint64_t *)scratch;

	if (!topk_takes(n, rows, k) || ld < n)
		return -EINVAL;
	if (rows == 0)
		return 0;
	if (!logits || !ids || !values || !scratch || (uintptr_t)scratch % sizeof(uint64_t))
		return -EINVAL;
	if (k <= TOPK_FEW)
		CUDA_LAUNCH(topk_slice_kernel<8>, grid, SLICE_THREADS, 0, stream, logits, ld,
			    (uint32_t)n, (uint32_t)k, keys);
	else
		CUDA_LAUNCH(topk_slice_kernel<16>, grid, SLICE_THREADS, 0, stream, logits, ld,
			    (uint32_t)n, (uint32_t)k, keys);
	CUDA_LAUNCH(topk_merge_kernel, (unsigned)rows, MERGE_THREADS, 0, stream, logits, ld, keys,
		    (uint32_t)(parts * k), (uint32_t)k, ids, values);
	return CUDA_LAUNCHED();
}
