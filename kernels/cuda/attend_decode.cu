/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/attend_decode.cu: attention of one new token per sequence over a long context, and of the tokens
 * of a prompt with the same bits.
 *
 * Bound by the bytes of the pages, so everything serves the stream: a block takes one part of the
 * context, one KV head and up to 16 of its query heads; those are the 16 rows of mma.sync, so each
 * byte is read once for all of them (16 heads of f32 FMAs would be slower than memory on every
 * target). Four warps take a quarter of each page and never wait for each other: a lane copies
 * with cp.async exactly the bytes it needs as operands and reads them back itself, so shared memory
 * is a longer register file: no barriers in the loop, no bank conflicts. Which dimension is
 * which k of the product is free, so a lane's operands are neighbours in memory: K rows are read
 * in pieces of 64 bytes, V rows of 128 (q8_0: half of it, in whole sectors). While a warp multiplies K its V is
 * on the way and the other way round: 8 to 16 KiB a warp, 64 KiB a block of dim 256, two blocks an
 * SM where shared memory allows (80 KiB each at f16, 51 KiB at q8_0), which is more than
 * bandwidth times latency of any target (H200: about 25 KiB an SM). Parts should be so many that
 * parts * kv heads * sequences is near two blocks an SM; launches of one page still work.
 *
 * Of neighbouring tokens of one sequence a block takes as many as their heads fit into its 16 rows (group of
 * 8: two, of 4: four): K and V are read once for them. Rows of a product know nothing of each other, and what
 * lies beyond a row's own end has the probability 0, which adds nothing: a token has the bits that it has alone.
 *
 * Accuracy: the query and the probabilities enter as two halves each (22 bits), so an f16 page gives
 * f32 attention within about 2^-21 plus the sums; a q8_0 page has one more rounding (attend.cuh).
 * Probabilities are kept times 2^14 (the factor cancels) to stay clear of subnormal halves.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/act.cuh"
#include "kernels/cuda/attend.cuh"
#include "kernels/cuda/attend_decode.cuh"
#include "kernels/cuda/gate.cuh"
#include "kernels/cuda/warp.cuh"

struct dec_args {
	struct cuda_attend a;
	size_t group, parts;   /* query heads of a KV head; parts of the longest sequence */
	unsigned tokens_block; /* tokens of a block: neighbours of one sequence */
};

/* The rows of a block: @heads query heads from @head on, of each of @tokens tokens from @first on. */
struct dec_rows {
	size_t first, head;
	unsigned tokens, heads;
};

static __device__ __forceinline__ unsigned rows_count(const struct dec_rows &b)
{
	return b.tokens * b.heads;
}

/* The token of row @row, counted from the first; rows beyond the last are the last token's. */
static __device__ __forceinline__ unsigned row_token(const struct dec_rows &b, unsigned row)
{
	const unsigned token = row / b.heads;

	return token < b.tokens ? token : b.tokens - 1;
}

static __device__ __forceinline__ uint32_t row_end(const struct dec_args &x,
						   const struct dec_rows &b, unsigned row)
{
	return x.a.len[b.first + row_token(b, row)];
}

/* The head of row @row of the block among all heads of all tokens; row < rows_count(). */
static __device__ __forceinline__ size_t row_head(const struct dec_args &x,
						  const struct dec_rows &b, unsigned row)
{
	return (b.first + row / b.heads) * x.a.heads + b.head + row % b.heads;
}

/* The block's queries as operands, hi and lo: eight dimensions of a row to each lane and piece. */
template <int dim>
static __device__ void load_query(const struct dec_args &x, const struct dec_rows &rows,
				  uint8_t *shared, int bytes)
{
	for (int i = threadIdx.x; i < dim / 32 * 2 * WARP_SIZE; i += DEC_WARPS * WARP_SIZE) {
		const int lane = i % WARP_SIZE, row = lane / 4 + i / WARP_SIZE % 2 * 8;
		const bool on = row < (int)rows_count(rows);
		const float *from = x.a.q + (on ? row_head(x, rows, row) : 0) * dim +
				    i / (2 * WARP_SIZE) * 32 + lane % 4 * 8;
		uint32_t hi[4], lo[4];

#pragma unroll
		for (int j = 0; j < 4; j++) {
			const float a = on ? from[2 * j] : 0.0f;
			const float b = on ? from[2 * j + 1] : 0.0f;

			hi[j] = half_pair(a, b);
			lo[j] = half_pair(half_rest(a), half_rest(b));
		}
		((uint4 *)shared)[i] = make_uint4(hi[0], hi[1], hi[2], hi[3]);
		((uint4 *)(shared + bytes))[i] = make_uint4(lo[0], lo[1], lo[2], lo[3]);
	}
}

/* One warp's share of positions [from, end): 16 of every page. K of the next page is asked for as
 * soon as this one's is used, V likewise; each step waits for the older of the two copies. */
template <bool q8, int dim>
static __device__ __forceinline__ void stream(const struct dec_work &w, const uint8_t *query,
					      uint32_t from, uint32_t end, struct dec_soft *st,
					      float o[][4])
{
	for (uint32_t pos = from; pos < end; pos += CUDA_KV_PAGE) {
		const uint32_t next = pos + CUDA_KV_PAGE;
		float s[2][4], fade[2];
		uint32_t hi[4], lo[4];

		ptx_cp_async_wait<1>();
		__syncwarp();
		scores<q8, dim>(w, query, s);
		__syncwarp();
		if (next < end)
			copy_k<q8, dim>(w, next);
		ptx_cp_async_commit();
		if (soften(st, s, pos, w.ends, w.lane, hi, lo, fade)) {
#pragma unroll
			for (int j = 0; j < dim / 8; j++) {
				o[j][0] *= fade[0];
				o[j][1] *= fade[0];
				o[j][2] *= fade[1];
				o[j][3] *= fade[1];
			}
		}
		ptx_cp_async_wait<1>();
		__syncwarp();
		values<q8, dim>(w, hi, lo, o);
		__syncwarp();
		if (next < end)
			copy_v<q8, dim>(w, next);
		ptx_cp_async_commit();
	}
	ptx_cp_async_wait<0>();
}

/* The block's maximum and sum of each row of this lane out of the warps' own, in warp order. */
static __device__ __forceinline__ void join_sums(const float *sums, int row, float *m, float *l)
{
	*m = -INFINITY;
	*l = 0.0f;
	for (int i = 0; i < DEC_WARPS; i++)
		*m = fmaxf(*m, sums[(i * DEC_HEADS + row) * 2]);
	for (int i = 0; i < DEC_WARPS; i++)
		*l = fmaf(sums[(i * DEC_HEADS + row) * 2 + 1],
			  expf(sums[(i * DEC_HEADS + row) * 2] - *m), *l);
}

/* Adds the warps' outputs in warp order at @buffer, as they lie in registers. All threads. */
template <int dim>
static __device__ __forceinline__ void join_outputs(float o[][4], const float fade[2], int warp,
						    int lane, float *buffer)
{
	for (int i = 0; i < DEC_WARPS; i++) {
		if (i == warp) {
#pragma unroll
			for (int j = 0; j < dim / 8; j++)
#pragma unroll
				for (int r = 0; r < 4; r++) {
					float *at = buffer + (4 * j + r) * WARP_SIZE + lane;

					*at = fmaf(o[j][r], fade[r / 2], i ? *at : 0.0f);
				}
		}
		__syncthreads();
	}
}

/* Where part @p of query head @h of sequence @s lies in the scratch memory: dim values, m, l */
static __device__ __forceinline__ float *part_at(const struct dec_args &x, size_t s, size_t p,
						 size_t h)
{
	return (float *)x.a.scratch + ((s * x.parts + p) * x.a.heads + h) * (x.a.kv.dim + 4);
}

/* The same of row @row of a block, for the block's part. */
static __device__ __forceinline__ float *part_of(const struct dec_args &x, const struct dec_rows &b,
						 unsigned row)
{
	return part_at(x, b.first + row / b.heads, blockIdx.x, b.head + row % b.heads);
}

template <bool q8, int dim>
static __global__ void __launch_bounds__(DEC_WARPS *WARP_SIZE, 2) decode_kernel(struct dec_args x)
{
	using lay = dec_layout<q8, dim>;
	CUDA_SHARED_DYNAMIC(uint8_t, shared);
	const size_t first = (size_t)blockIdx.z * x.tokens_block;
	const size_t tiles = (x.group + DEC_HEADS - 1) / DEC_HEADS;
	const size_t from_head = blockIdx.y % tiles * DEC_HEADS, kv = blockIdx.y / tiles;
	const struct dec_rows rows = {
		first, kv * x.group + from_head,
		(unsigned)(x.a.sequences - first < x.tokens_block ? x.a.sequences - first
								  : x.tokens_block),
		(unsigned)(x.group - from_head < DEC_HEADS ? x.group - from_head : DEC_HEADS)
	};
	const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
	const uint32_t len = x.a.len[first + rows.tokens - 1];
	const uint32_t start = (uint32_t)(blockIdx.x * x.a.part);
	const uint32_t end = len - start < x.a.part ? len : (uint32_t)(start + x.a.part);
	const uint32_t from = start + warp * DEC_TILE;
	struct dec_work w = { x.a.kv,
			      x.a.seq ? x.a.seq[first] : first,
			      kv,
			      len,
			      { row_end(x, rows, lane / 4), row_end(x, rows, lane / 4 + 8) },
			      lane,
			      shared + 2 * lay::query + warp * lay::warp };
	struct dec_soft st = { { -INFINITY, -INFINITY }, { 0.0f, 0.0f } };
	float *sums = (float *)(shared + lay::sums), *buffer = (float *)(shared + 2 * lay::query);
	float o[dim / 8][4], fade[2];

	if (start >= len)
		return;
	if (from < end)
		copy_k<q8, dim>(w, from);
	ptx_cp_async_commit();
	if (from < end)
		copy_v<q8, dim>(w, from);
	ptx_cp_async_commit();
	load_query<dim>(x, rows, shared, lay::query);
#pragma unroll
	for (int j = 0; j < dim / 8; j++)
		o[j][0] = o[j][1] = o[j][2] = o[j][3] = 0.0f;
	__syncthreads();
	stream<q8, dim>(w, shared, from, end, &st, o);
	for (int r = 0; r < 2; r++) {
		st.l[r] = warp_sum_width(st.l[r], 4);
		if (lane % 4 == 0) {
			sums[(warp * DEC_HEADS + lane / 4 + 8 * r) * 2] = st.m[r];
			sums[(warp * DEC_HEADS + lane / 4 + 8 * r) * 2 + 1] = st.l[r];
		}
	}
	__syncthreads();
	for (int r = 0; r < 2; r++) {
		float m, l;

		join_sums(sums, lane / 4 + 8 * r, &m, &l);
		fade[r] = expf(st.m[r] - m);
	}
	join_outputs<dim>(o, fade, warp, lane, buffer);
	/* a token that ends before this part has none */
	for (int i = threadIdx.x; i < (int)rows_count(rows) * dim; i += DEC_WARPS * WARP_SIZE) {
		const int row = i / dim, d = i % dim, j = d / 64 * 8 + d % 8, n = d % 64 / 8;

		if (start < row_end(x, rows, row))
			part_of(x, rows, row)[d] =
				buffer[(4 * j + row / 8 * 2 + n % 2) * WARP_SIZE + row % 8 * 4 +
				       n / 2];
	}
	if (threadIdx.x < rows_count(rows) && start < row_end(x, rows, threadIdx.x)) {
		float *at = part_of(x, rows, threadIdx.x) + dim;

		join_sums(sums, threadIdx.x, at, at + 1);
	}
}

#define JOIN_THREADS 512
#define JOIN_BATCH   256 /* parts whose factors are kept at a time */

/*
 * The parts of head @h: four dimensions a thread, so that JOIN_THREADS / (dim / 4) parts are read at a
 * time; their sums are added in a fixed order at the end, to @out. len 0 gives zeros.
 */
template <int dim>
static __device__ void join_head(const struct dec_args &x, size_t h, float *fade, float *shared,
				 float4 *sums, float *out)
{
	const int lanes = dim / 4, groups = JOIN_THREADS / lanes;
	const int d = threadIdx.x % lanes, group = threadIdx.x / lanes;
	const size_t s = blockIdx.y;
	const size_t parts = (x.a.len[s] + x.a.part - 1) / x.a.part;
	float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
	float m = -INFINITY, l = 0.0f;

	for (size_t p = threadIdx.x; p < parts; p += JOIN_THREADS)
		m = fmaxf(m, part_at(x, s, p, h)[dim]);
	m = block_max(m, shared);
	for (size_t base = 0; base < parts; base += JOIN_BATCH) {
		const int count = parts - base < JOIN_BATCH ? (int)(parts - base) : JOIN_BATCH;

		__syncthreads();
		if ((int)threadIdx.x < count) {
			const float *part = part_at(x, s, base + threadIdx.x, h);

			fade[threadIdx.x] = expf(part[dim] - m);
			l = fmaf(part[dim + 1], fade[threadIdx.x], l);
		}
		__syncthreads();
#pragma unroll 4
		for (int p = group; p < count; p += groups) {
			const float4 v = ((const float4 *)part_at(x, s, base + p, h))[d];

			sum.x = fmaf(v.x, fade[p], sum.x);
			sum.y = fmaf(v.y, fade[p], sum.y);
			sum.z = fmaf(v.z, fade[p], sum.z);
			sum.w = fmaf(v.w, fade[p], sum.w);
		}
	}
	l = block_sum(l, shared);
	sums[threadIdx.x] = sum;
	__syncthreads();
	for (int i = threadIdx.x; i < dim; i += JOIN_THREADS) {
		const float *from = (const float *)sums + i;
		float v = 0.0f;

		for (int g = 0; g < groups; g++)
			v += from[g * dim];
		v = parts ? v / l : 0.0f;
		if (x.a.gate)
			v *= gate_sigmoid(x.a.gate[s * x.a.ldg + h * x.a.g_step + i]);
		x.a.out[(s * x.a.heads + h) * dim + i] = v;
		out[i] = v;
	}
	__syncthreads(); /* out is there, the rest is free */
}

/* A block has one head, or with an int8 form the heads of 256 values: a super-block of it. */
template <int dim> static __global__ void join_kernel(struct dec_args x)
{
	CUDA_SHARED(float, fade, JOIN_BATCH);
	CUDA_SHARED(float, shared, WARPS_MAX);
	CUDA_SHARED(float4, sums, JOIN_THREADS);
	CUDA_SHARED(float, out, ACT_WARP);
	const int heads = x.a.act.rows ? ACT_WARP / dim : 1;
	const size_t width = x.a.heads * dim;
	float4 v[2];

	for (int i = 0; i < heads; i++)
		join_head<dim>(x, blockIdx.x * (size_t)heads + i, fade, shared, sums,
			       out + i * dim);
	if (!x.a.act.rows || threadIdx.x >= WARP_SIZE)
		return;
	v[0] = ((const float4 *)out)[threadIdx.x];
	v[1] = ((const float4 *)out)[WARP_SIZE + threadIdx.x];
	act_store(x.a.act.form, act_row_at(x.a.act.rows, width, blockIdx.y), width,
		  blockIdx.x * (size_t)ACT_WARP, v, true);
}

static size_t part_count(size_t max_len, size_t part)
{
	return (max_len + part - 1) / part;
}

size_t cuda_attend_decode_scratch(size_t sequences, size_t heads, size_t dim, size_t max_len,
				  size_t part)
{
	if (part == 0)
		return 0;
	return (sequences * part_count(max_len, part) * heads * (dim + 4) * sizeof(float) + 255) /
	       256 * 256;
}

static int decode_check(const struct cuda_attend *a)
{
	if (kv_check(&a->kv))
		return -EINVAL;
	if (!a->q || !a->len || !a->out || (a->max_len && !a->scratch))
		return -EINVAL;
	if (a->heads == 0 || a->heads % a->kv.heads || a->heads > 65535 || a->sequences > 65535)
		return -EINVAL;
	if (a->part == 0 || a->part % CUDA_KV_PAGE || a->max_len > INT32_MAX || a->part > INT32_MAX)
		return -EINVAL;
	if (a->max_len > a->kv.table_stride * CUDA_KV_PAGE || (uintptr_t)a->scratch % 16)
		return -EINVAL;
	if (a->act.rows && (a->heads * a->kv.dim % ACT_WARP || !aligned16(a->act.rows) ||
			    !cuda_act_fits(a->act.form, a->heads * a->kv.dim)))
		return -EINVAL;
	if (a->gate && (a->g_step < a->kv.dim || a->ldg < (a->heads - 1) * a->g_step + a->kv.dim))
		return -EINVAL;
	return 0;
}

template <bool q8, int dim> static int decode_launch(cuda_stream stream, const struct dec_args &x)
{
	const size_t tiles = (x.group + DEC_HEADS - 1) / DEC_HEADS;
	const dim3 grid((unsigned)x.parts, (unsigned)(x.a.kv.heads * tiles),
			(unsigned)((x.a.sequences + x.tokens_block - 1) / x.tokens_block));

	if (x.parts)
		CUDA_LAUNCH((decode_kernel<q8, dim>), grid, DEC_WARPS * WARP_SIZE,
			    (dec_layout<q8, dim>::total), stream, x);
	const size_t heads = x.a.act.rows ? ACT_WARP / dim : 1; /* of a block */

	CUDA_LAUNCH(join_kernel<dim>, dim3((unsigned)(x.a.heads / heads), (unsigned)x.a.sequences),
		    JOIN_THREADS, 0, stream, x);
	return CUDA_LAUNCHED();
}

int cuda_attend_decode(cuda_stream stream, const struct cuda_attend *a)
{
	struct dec_args x;

	if (!a || (a->sequences && decode_check(a)))
		return -EINVAL;
	if (a->sequences == 0)
		return 0;
	x.a = *a;
	x.group = a->heads / a->kv.heads;
	x.parts = part_count(a->max_len, a->part);
	x.tokens_block = a->one_run && x.group <= DEC_HEADS / 2 ? DEC_HEADS / x.group : 1;
	if (a->kv.type == CUDA_KV_F16)
		return a->kv.dim == 64	  ? decode_launch<false, 64>(stream, x)
		       : a->kv.dim == 128 ? decode_launch<false, 128>(stream, x)
					  : decode_launch<false, 256>(stream, x);
	return a->kv.dim == 64	  ? decode_launch<true, 64>(stream, x)
	       : a->kv.dim == 128 ? decode_launch<true, 128>(stream, x)
				  : decode_launch<true, 256>(stream, x);
}
