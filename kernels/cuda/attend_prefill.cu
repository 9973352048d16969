/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/attend_prefill.cu: attention of a chunk of new tokens of one sequence.
 *
 * A block takes 64 tokens of one query head, a warp 16 of them; K and V come a page at a time into
 * shared memory, each while the other is multiplied (cp.async for f16 pages; q8_0 pages are turned to
 * halves on the way). Which dimension is which k of the product is free, so operands are read 16 bytes
 * a lane from rows as they lie; the rows' pieces are permuted by a xor so that no two lanes of a
 * quarter warp meet in a bank. 96 KiB a block at dim 256, one block an SM of 100 KiB, two where there is
 * more. Blocks of late tokens, which have most to do, start first.
 *
 * Pages are taken from position 0 on whatever the chunk is, and a page beyond a row's position adds
 * exact zeros: a row has the same bits in any chunk.
 *
 * Accuracy: query, probabilities and q8_0 values are rounded to half (2^-11 relative each); sums in
 * f32. Probabilities are kept times 2^14 (the factor cancels) to stay clear of subnormal halves.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/attend.cuh"
#include "kernels/cuda/gate.cuh"
#include "kernels/cuda/warp.cuh"

#define PRE_WARPS   4
#define PRE_THREADS (PRE_WARPS * WARP_SIZE)
#define PRE_ROWS    (16 * PRE_WARPS)
#define PRE_ONE	    16384.0f

struct pre_args {
	struct cuda_attend a;
	size_t first, tokens;
};

/* Bytes of shared memory: queries as operands, one page of K, one of V */
template <int dim> struct pre_layout {
	static const int page = CUDA_KV_PAGE * dim * 2;
	static const int query = PRE_ROWS * dim * 2;
	static const int total = query + 2 * page;
};

/* Where piece @chunk (8 halves) of row @row lies; K is read by neighbouring rows, V by every second */
template <int dim, bool is_v> static __device__ __forceinline__ int piece_at(int row, int chunk)
{
	return row * (dim / 8) + (chunk ^ (is_v ? (row / 2 & 3) << 1 : (row & 1) << 2));
}

/* Asks for (f16) or brings (q8_0) one page; positions from @len on become zeros. All threads. */
template <bool q8, int dim, bool is_v>
static __device__ __forceinline__ void load_page(const struct cuda_kv_cache &kv, size_t row,
						 size_t head, uint32_t page, uint32_t len,
						 uint4 *to)
{
	const struct kv_head from = kv_head_at(kv, row, page, head);
	const uint8_t *at = is_v ? from.v : from.k;
	const __half *d = is_v ? from.v_d : from.k_d;
	const int pieces = dim / 8;

#pragma unroll 4 /* more would spill beside 128 sums a lane */
	for (int i = 0; i < CUDA_KV_PAGE * pieces / PRE_THREADS; i++) {
		const int j = i * PRE_THREADS + threadIdx.x, r = j / pieces, c = j % pieces;
		const bool on = page * CUDA_KV_PAGE + r < len;
		uint4 v = make_uint4(0, 0, 0, 0);

		if (!q8)
			ptx_cp_async_16(to + piece_at<dim, is_v>(r, c), at + (size_t)j * 16,
					on ? 16 : 0);
		else if (on)
			v = half8_scaled(((const uint2 *)at)[j],
					 half_bits(d[r * (dim / 32) + c / 4]));
		if (q8)
			to[piece_at<dim, is_v>(r, c)] = v;
	}
}

/* A warp's 16 queries as operands: eight dimensions of rows lane / 4 and lane / 4 + 8 to a lane. */
template <int dim>
static __device__ void load_query(const struct pre_args &x, size_t token, size_t head, int lane,
				  uint4 *to)
{
#pragma unroll 1
	for (int i = 0; i < dim / 16; i++) {
		const size_t row = token + lane / 4 + i % 2 * 8;
		const float *q = x.a.q + (row * x.a.heads + head) * dim + i / 2 * 32 + lane % 4 * 8;
		uint32_t h[4] = { 0, 0, 0, 0 };

		if (row < x.tokens)
#pragma unroll
			for (int j = 0; j < 4; j++)
				h[j] = half_pair(q[2 * j], q[2 * j + 1]);
		to[i * WARP_SIZE + lane] = make_uint4(h[0], h[1], h[2], h[3]);
	}
}

/* s[n] += queries times keys 8 n ... of the page */
template <int dim>
static __device__ __forceinline__ void pre_scores(const uint4 *query, const uint4 *page, int lane,
						  float s[8][4])
{
	const int g = lane / 4, t = lane % 4;

#pragma unroll
	for (int n = 0; n < 8; n++)
		s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
#pragma unroll
	for (int c = 0; c < dim / 32; c++) {
		const uint4 up = query[2 * c * WARP_SIZE + lane];
		const uint4 low = query[(2 * c + 1) * WARP_SIZE + lane];
		const uint32_t a0[4] = { up.x, low.x, up.y, low.y };
		const uint32_t a1[4] = { up.z, low.z, up.w, low.w };

#pragma unroll
		for (int n = 0; n < 8; n++) {
			const uint4 k = page[piece_at<dim, false>(8 * n + g, 4 * c + t)];
			const uint32_t b0[2] = { k.x, k.y }, b1[2] = { k.z, k.w };

			ptx_mma_f16(s[n], a0, b0);
			ptx_mma_f16(s[n], a1, b1);
		}
	}
}

/* The running softmax of rows lane / 4 and lane / 4 + 8, whose positions are @row[2]. */
struct pre_soft {
	float m[2], l[2];
	uint32_t row[2];
};

/* Scores of page positions @pos ... -> probabilities in place; fade: what earlier sums shrink by */
static __device__ __forceinline__ void pre_soften(struct pre_soft *st, float s[8][4], uint32_t pos,
						  int lane, float fade[2])
{
#pragma unroll
	for (int r = 0; r < 2; r++) {
		float big = st->m[r];

#pragma unroll
		for (int i = 0; i < 16; i++) {
			const uint32_t at = pos + i / 2 * 8 + lane % 4 * 2 + i % 2;
			float *v = &s[i / 2][2 * r + i % 2];

			*v = at <= st->row[r] ? *v : -INFINITY;
			big = fmaxf(big, *v);
		}
		big = warp_max_width(big, 4);
		fade[r] = expf(st->m[r] - big);
		st->m[r] = big;
		st->l[r] *= fade[r];
#pragma unroll
		for (int i = 0; i < 16; i++) {
			float *v = &s[i / 2][2 * r + i % 2];

			*v = expf(*v - big) * PRE_ONE;
			st->l[r] += *v;
		}
	}
}

/* o += P V: 16 positions at a time; operands of V are made of two rows each. o[8 e + j] is dimension
 * 64 e + 8 column + j. */
template <int dim>
static __device__ __forceinline__ void pre_values(const float s[8][4], const uint4 *page, int lane,
						  float o[][4])
{
	const int g = lane / 4, t = lane % 4;

#pragma unroll
	for (int k = 0; k < 4; k++) {
		const uint32_t p[4] = { half_pair(s[2 * k][0], s[2 * k][1]),
					half_pair(s[2 * k][2], s[2 * k][3]),
					half_pair(s[2 * k + 1][0], s[2 * k + 1][1]),
					half_pair(s[2 * k + 1][2], s[2 * k + 1][3]) };

#pragma unroll
		for (int e = 0; e < dim / 64; e++) {
			uint32_t v[4][4];

#pragma unroll
			for (int i = 0; i < 4; i++) {
				const int row = 16 * k + 2 * t + i % 2 + i / 2 * 8;
				const uint4 x = page[piece_at<dim, true>(row, 8 * e + g)];

				put_eight(v[i], x);
			}
#pragma unroll
			for (int j = 0; j < 8; j++) {
				uint32_t b[2];

				dimension_of(v, j, b);
				ptx_mma_f16(o[8 * e + j], p, b);
			}
		}
	}
}

/* Rows of a lane to memory, divided by their sums and gated. */
template <int dim>
static __device__ __forceinline__ void
pre_store(const struct pre_args &x, const struct pre_soft *st, size_t head, int lane, float o[][4])
{
#pragma unroll
	for (int r = 0; r < 2; r++) {
		const size_t row = st->row[r] - x.first;
		const float l = warp_sum_width(st->l[r], 4);
		float *out = x.a.out + (row * x.a.heads + head) * dim;
		const float *gate = x.a.gate ? x.a.gate + row * x.a.ldg + head * x.a.g_step : NULL;

		if (row >= x.tokens)
			continue;
#pragma unroll
		for (int i = 0; i < dim / 4; i++) {
			const int j = i % 8, c = i / 8 % 2, e = i / 16;
			const int d = 64 * e + 8 * (lane % 4 * 2 + c) + j;
			float v = o[8 * e + j][2 * r + c] / l;

			if (gate)
				v *= gate_sigmoid(gate[d]);
			out[d] = v;
		}
	}
}

template <bool q8, int dim>
static __global__ void __launch_bounds__(PRE_THREADS) prefill_kernel(struct pre_args x)
{
	using lay = pre_layout<dim>;
	CUDA_SHARED_DYNAMIC(uint8_t, shared);
	uint4 *k_page = (uint4 *)(shared + lay::query);
	uint4 *v_page = (uint4 *)(shared + lay::query + lay::page);
	const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
	uint4 *query = (uint4 *)shared + warp * (lay::query / PRE_WARPS / 16);
	const size_t head = blockIdx.y, kv = head / (x.a.heads / x.a.kv.heads);
	const size_t row = x.a.seq ? x.a.seq[0] : 0;
	const size_t block = (size_t)(gridDim.x - 1 - blockIdx.x) * PRE_ROWS;
	const size_t token = block + warp * 16;
	const uint32_t len = (uint32_t)(x.first + x.tokens);
	const uint32_t last = (uint32_t)(x.first + block + PRE_ROWS);
	const uint32_t pages = ((last < len ? last : len) - 1) / CUDA_KV_PAGE + 1;
	struct pre_soft st;
	float o[dim / 8][4];

	for (int r = 0; r < 2; r++) {
		st.m[r] = -INFINITY;
		st.l[r] = 0.0f;
		st.row[r] = (uint32_t)(x.first + token + lane / 4 + 8 * r);
	}
#pragma unroll
	for (int j = 0; j < dim / 8; j++)
		o[j][0] = o[j][1] = o[j][2] = o[j][3] = 0.0f;
	load_query<dim>(x, token, head, lane, query);
	load_page<q8, dim, false>(x.a.kv, row, kv, 0, len, k_page);
	ptx_cp_async_commit();
	for (uint32_t p = 0; p < pages; p++) {
		/* the same for the warp: some row of it sees some position of the page */
		const bool busy = p * CUDA_KV_PAGE <= x.first + token + 15;
		float s[8][4], fade[2] = { 1.0f, 1.0f };

		load_page<q8, dim, true>(x.a.kv, row, kv, p, len, v_page);
		ptx_cp_async_commit();
		ptx_cp_async_wait<1>();
		__syncthreads();
		if (busy)
			pre_scores<dim>(query, k_page, lane, s);
		__syncthreads();
		if (p + 1 < pages)
			load_page<q8, dim, false>(x.a.kv, row, kv, p + 1, len, k_page);
		ptx_cp_async_commit();
		if (busy) {
			pre_soften(&st, s, p * CUDA_KV_PAGE, lane, fade);
#pragma unroll
			for (int j = 0; j < dim / 8; j++) {
				o[j][0] *= fade[0];
				o[j][1] *= fade[0];
				o[j][2] *= fade[1];
				o[j][3] *= fade[1];
			}
		}
		ptx_cp_async_wait<1>();
		__syncthreads();
		if (busy)
			pre_values<dim>(s, v_page, lane, o);
		__syncthreads();
	}
	ptx_cp_async_wait<0>();
	pre_store<dim>(x, &st, head, lane, o);
}

static int prefill_check(const struct cuda_attend *a, size_t first, size_t tokens)
{
	if (kv_check(&a->kv))
		return -EINVAL;
	if (!a->q || !a->out || a->heads == 0 || a->heads % a->kv.heads || a->heads > 65535)
		return -EINVAL;
	if (first > INT32_MAX || tokens > INT32_MAX ||
	    first + tokens > a->kv.table_stride * CUDA_KV_PAGE || first + tokens > INT32_MAX)
		return -EINVAL;
	if (a->gate && (a->g_step < a->kv.dim || a->ldg < (a->heads - 1) * a->g_step + a->kv.dim))
		return -EINVAL;
	return 0;
}

template <bool q8, int dim> static int prefill_launch(cuda_stream stream, const struct pre_args &x)
{
	const dim3 grid((unsigned)((x.tokens + PRE_ROWS - 1) / PRE_ROWS), (unsigned)x.a.heads);

	CUDA_LAUNCH((prefill_kernel<q8, dim>), grid, PRE_THREADS, pre_layout<dim>::total, stream,
		    x);
	return CUDA_LAUNCHED();
}

int cuda_attend_prefill(cuda_stream stream, const struct cuda_attend *a, size_t first,
			size_t tokens)
{
	struct pre_args x;

	if (!a || (tokens && prefill_check(a, first, tokens)))
		return -EINVAL;
	if (tokens == 0)
		return 0;
	x.a = *a;
	x.first = first;
	x.tokens = tokens;
	if (a->kv.type == CUDA_KV_F16)
		return a->kv.dim == 64	  ? prefill_launch<false, 64>(stream, x)
		       : a->kv.dim == 128 ? prefill_launch<false, 128>(stream, x)
					  : prefill_launch<false, 256>(stream, x);
	return a->kv.dim == 64	  ? prefill_launch<true, 64>(stream, x)
	       : a->kv.dim == 128 ? prefill_launch<true, 128>(stream, x)
				  : prefill_launch<true, 256>(stream, x);
}
