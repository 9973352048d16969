/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/delta_chunk.cu: gated DeltaNet over prompts, 64 tokens at a time: the part that
 * carries S from chunk to chunk, and the launcher of both parts (delta_chunk_solve.cu is the other).
 *
 * With T, qk and G of the first part, a chunk is five products (docs/models.md 2.4, with the triangular
 * system already solved):
 *   R = beta (V - e^G (K S))   U = T R   O = e^G (Q S) + P U, P_im = qk_im e^(G_i - G_m), m <= i
 *   S <- e^(G_last) S + (e^(G_last - G_m) K)^T U
 * A block keeps 32 value columns of S of one head in shared memory for the whole run: 64 heads of
 * dim 128 are 256 blocks. f32 fused multiply-adds out of shared memory, 4 x 4 outputs a thread:
 * 128 of them for 12 loads of 16 bytes where K and Q meet the same S, upper triangles left out by
 * 16 rows. Rows of K, Q, T, qk are padded by 4 floats: no bank conflicts. They come by cp.async (a
 * short last chunk gets zeros, and beta = 0, g = 0); the next chunk's Q flies during the update
 * of S. 75 KiB a block of dim 128: three an SM on sm_90, two on sm_80, one on sm_86 to sm_120.
 *
 * Accuracy: all sums f32; the differences G_i - G_m are exact to 2^-24 of themselves, and every
 * exponent is masked before exp, so none is positive.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/delta_chunk.cuh"

#define RUN_THREADS 128
#define RUN_COLUMNS 32
#define RUN_PART    64 /* columns of a tile in x: half of Q, all of T or qk */
#define RUN_LD	    (RUN_PART + 4)

/* The block's shared memory; everything a multiple of 16 bytes. */
template <int dim> struct run_shared {
	float k[CHUNK][dim + 4];
	float x[CHUNK][RUN_LD];
	float s[dim][RUN_COLUMNS];
	float u[CHUNK][RUN_COLUMNS];
	float high[CHUNK], low[CHUNK], beta[CHUNK];
};

/* What a block works on. */
struct run_work {
	struct chunk_place p;
	unsigned v_head, k_head, column;
	size_t ld; /* of qkv */
};

/* Thread's rows are ty + 16 r, its columns tx .. tx + 3. */
struct run_tile {
	float4 v[4];
};

static __device__ __forceinline__ int run_tx(void)
{
	return threadIdx.x % 8 * 4;
}

static __device__ __forceinline__ int run_ty(void)
{
	return threadIdx.x / 8;
}

/* 64 rows of @columns floats to rows of @ld_to floats, zeros behind row @n; not waited for. */
template <int columns>
static __device__ __forceinline__ void run_copy(float *to, int ld_to, const float *from,
						size_t ld_from, uint32_t n)
{
	const int pieces = columns / 4;

#pragma unroll 4
	for (int i = threadIdx.x; i < CHUNK * pieces; i += RUN_THREADS) {
		const uint32_t row = i / pieces, at = i % pieces * 4;

		ptx_cp_async_16(to + row * ld_to + at, from + (row < n ? row : 0) * ld_from + at,
				row < n ? 16 : 0);
	}
}

/* Q's dimensions [64 h, 64 h + 64) of the chunk. */
template <int dim>
static __device__ __forceinline__ void
run_copy_q(const struct cuda_delta &a, const struct run_work &w, struct run_shared<dim> *m, int h)
{
	const float *q = a.qkv + w.p.first * w.ld + (size_t)w.k_head * dim + h * RUN_PART;

	run_copy<RUN_PART>(m->x[0], RUN_LD, q, w.ld, w.p.n);
	ptx_cp_async_commit();
}

/* K and the gates of the chunk; x was asked for before. */
template <int dim>
static __device__ __forceinline__ void
run_copy_k(const struct cuda_delta &a, const struct run_work &w, struct run_shared<dim> *m)
{
	const float *k = a.qkv + w.p.first * w.ld + (a.shape.k_heads + w.k_head) * dim;
	const float *g = chunk_values(a, w.p.slot, w.v_head) + CHUNK_TILE;
	const uint32_t i = threadIdx.x;

	run_copy<dim>(m->k[0], dim + 4, k, w.ld, w.p.n);
	ptx_cp_async_commit();
	if (i < CHUNK) {
		m->high[i] = g[i];
		m->low[i] = g[CHUNK + i];
		m->beta[i] = 0.0f;
		if (i < w.p.n)
			m->beta[i] = a.beta[(w.p.first + i) * a.shape.v_heads + w.v_head];
	}
}

/* Everything asked for has come, for all threads. */
static __device__ __forceinline__ void run_arrived(void)
{
	ptx_cp_async_wait<0>();
	__syncthreads();
}

/* ks += K S and qs += Q S over the 64 dimensions that lie in x. */
template <int dim>
static __device__ __forceinline__ void run_read(const struct run_shared<dim> *m, int h,
						struct run_tile *ks, struct run_tile *qs)
{
	const int tx = run_tx(), ty = run_ty();

#pragma unroll 2
	for (int d = 0; d < RUN_PART; d += 4) {
		float4 s[4];

#pragma unroll
		for (int e = 0; e < 4; e++)
			s[e] = *(const float4 *)&m->s[h * RUN_PART + d + e][tx];
#pragma unroll
		for (int r = 0; r < 4; r++) {
			const float4 k = *(const float4 *)&m->k[ty + 16 * r][h * RUN_PART + d];
			const float4 q = *(const float4 *)&m->x[ty + 16 * r][d];

			chunk_fma4(&ks->v[r], s[0], k.x);
			chunk_fma4(&qs->v[r], s[0], q.x);
			chunk_fma4(&ks->v[r], s[1], k.y);
			chunk_fma4(&qs->v[r], s[1], q.y);
			chunk_fma4(&ks->v[r], s[2], k.z);
			chunk_fma4(&qs->v[r], s[2], q.z);
			chunk_fma4(&ks->v[r], s[3], k.w);
			chunk_fma4(&qs->v[r], s[3], q.w);
		}
	}
}

/* sum += X u with X (in x) lower triangular; what lies above its 16 x 16 blocks is not touched. */
template <int dim>
static __device__ __forceinline__ void run_lower(const struct run_shared<dim> *m,
						 struct run_tile *sum)
{
	const int tx = run_tx(), ty = run_ty();

#pragma unroll
	for (int block = 0; block < 4; block++)
#pragma unroll 2
		for (int i = 16 * block; i < 16 * block + 16; i += 4) {
			float4 u[4];

#pragma unroll
			for (int e = 0; e < 4; e++)
				u[e] = *(const float4 *)&m->u[i + e][tx];
#pragma unroll
			for (int r = block; r < 4; r++) {
				const float4 x = *(const float4 *)&m->x[ty + 16 * r][i];

				chunk_fma4(&sum->v[r], u[0], x.x);
				chunk_fma4(&sum->v[r], u[1], x.y);
				chunk_fma4(&sum->v[r], u[2], x.z);
				chunk_fma4(&sum->v[r], u[3], x.w);
			}
		}
}

static __device__ __forceinline__ float4 scaled(float4 v, float a)
{
	return make_float4(v.x * a, v.y * a, v.z * a, v.w * a);
}

/* u <- beta (V - e^G K S) */
template <int dim>
static __device__ __forceinline__ void
run_residual(const struct cuda_delta &a, const struct run_work &w, struct run_shared<dim> *m,
	     const struct run_tile *ks)
{
	const float *v = a.qkv + w.p.first * w.ld + 2 * a.shape.k_heads * dim +
			 (size_t)w.v_head * dim + w.column + run_tx();

#pragma unroll
	for (int r = 0; r < 4; r++) {
		const uint32_t row = run_ty() + 16 * r;
		float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);

		if (row < w.p.n) {
			x = *(const float4 *)(v + row * w.ld);
			chunk_fma4(&x, ks->v[r], -expf(m->high[row]));
		}
		*(float4 *)&m->u[row][run_tx()] = scaled(x, m->beta[row]);
	}
}

/* x holds qk -> P; each thread turns the pieces that it copied itself, so its own wait is enough. */
template <int dim> static __device__ __forceinline__ void run_mask(struct run_shared<dim> *m)
{
	for (int i = threadIdx.x; i < CHUNK * RUN_PART / 4; i += RUN_THREADS) {
		const int row = i / (RUN_PART / 4), at = i % (RUN_PART / 4) * 4;

#pragma unroll
		for (int e = 0; e < 4; e++) {
			float *x = &m->x[row][at + e];

			*x = at + e <= row ? *x * chunk_decay(m->high, m->low, row, at + e) : 0.0f;
		}
	}
}

/* S <- e^(G_last) S + K^T u, u carrying e^(G_last - G_m) already */
template <int dim> static __device__ __forceinline__ void run_update(struct run_shared<dim> *m)
{
	const int tx = run_tx(), ty = run_ty();
	const float decay = expf(m->high[CHUNK - 1]);

#pragma unroll
	for (int h = 0; h < dim; h += RUN_PART) {
		const int d = h + 4 * ty;
		float4 s[4];

#pragma unroll
		for (int e = 0; e < 4; e++)
			s[e] = scaled(*(const float4 *)&m->s[d + e][tx], decay);
#pragma unroll 4
		for (int i = 0; i < CHUNK; i++) {
			const float4 u = *(const float4 *)&m->u[i][tx];
			const float4 k = *(const float4 *)&m->k[i][d];

			chunk_fma4(&s[0], u, k.x);
			chunk_fma4(&s[1], u, k.y);
			chunk_fma4(&s[2], u, k.z);
			chunk_fma4(&s[3], u, k.w);
		}
#pragma unroll
		for (int e = 0; e < 4; e++)
			*(float4 *)&m->s[d + e][tx] = s[e];
	}
}

static __device__ __forceinline__ struct run_tile zero_tile(void)
{
	struct run_tile t;

#pragma unroll
	for (int r = 0; r < 4; r++)
		t.v[r] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
	return t;
}

/* u <- rows of @t, times the decay from the row to the chunk's end where @to_end */
template <int dim>
static __device__ __forceinline__ void run_put_u(struct run_shared<dim> *m,
						 const struct run_tile &t, bool to_end)
{
#pragma unroll
	for (int r = 0; r < 4; r++) {
		const int row = run_ty() + 16 * r;
		float f = 1.0f;

		if (to_end)
			f = chunk_decay(m->high, m->low, CHUNK - 1, row);
		*(float4 *)&m->u[row][run_tx()] = scaled(t.v[r], f);
	}
}

/* From the parts of Q S to the output of the chunk: o = e^G (Q S) + P u, rows of the run only. */
template <int dim>
static __device__ __forceinline__ void
run_output(const struct cuda_delta &a, const struct run_work &w, const struct run_shared<dim> *m,
	   struct run_tile *qs)
{
	const size_t row_floats = a.shape.v_heads * dim;
	float *out = a.out + w.p.first * row_floats + (size_t)w.v_head * dim + w.column + run_tx();

#pragma unroll
	for (int r = 0; r < 4; r++)
		qs->v[r] = scaled(qs->v[r], expf(m->high[run_ty() + 16 * r]));
	run_lower<dim>(m, qs);
#pragma unroll
	for (int r = 0; r < 4; r++) {
		const uint32_t row = run_ty() + 16 * r;

		if (row < w.p.n)
			*(float4 *)(out + row * row_floats) = qs->v[r];
	}
}

/* One chunk; on entry the first part of Q is on its way to x and nobody reads x, k or u. */
template <int dim>
static __device__ __forceinline__ void
run_chunk(const struct cuda_delta &a, const struct run_work &w, const struct run_work &next,
	  struct run_shared<dim> *m)
{
	const float *tiles = chunk_values(a, w.p.slot, w.v_head);
	const float *qk = chunk_keys(a, w.p.slot, w.k_head) + CHUNK_TILE;
	struct run_tile ks = zero_tile(), qs = zero_tile(), u = zero_tile();

	run_copy_k<dim>(a, w, m);
	run_arrived();
	run_read<dim>(m, 0, &ks, &qs);
	if (dim > RUN_PART) {
		__syncthreads();
		run_copy_q<dim>(a, w, m, 1);
		run_arrived();
		run_read<dim>(m, 1, &ks, &qs);
	}
	__syncthreads();
	run_copy<RUN_PART>(m->x[0], RUN_LD, tiles, CHUNK, CHUNK);
	ptx_cp_async_commit();
	run_residual<dim>(a, w, m, &ks);
	run_arrived();
	run_lower<dim>(m, &u);
	__syncthreads();
	run_copy<RUN_PART>(m->x[0], RUN_LD, qk, CHUNK, CHUNK);
	ptx_cp_async_commit();
	run_put_u<dim>(m, u, false);
	ptx_cp_async_wait<0>();
	run_mask<dim>(m);
	__syncthreads();
	run_output<dim>(a, w, m, &qs);
	__syncthreads();
	if (next.p.n)
		run_copy_q<dim>(a, next, m, 0);
	run_put_u<dim>(m, u, true);
	__syncthreads();
	run_update<dim>(m);
	__syncthreads();
}

template <int dim>
static __global__ void __launch_bounds__(RUN_THREADS) chunk_run_kernel(struct cuda_delta a)
{
	CUDA_SHARED_DYNAMIC(uint8_t, shared);
	struct run_shared<dim> *m = (struct run_shared<dim> *)shared;
	struct run_work w = { chunk_at(a.batch, blockIdx.z, 0), blockIdx.y,
			      delta_key_head(a.shape, blockIdx.y), blockIdx.x * RUN_COLUMNS,
			      delta_channels(a.shape) };
	float *state = a.state + a.batch.slot[blockIdx.z] * a.batch.stride +
		       (size_t)w.v_head * dim * dim + w.column + run_tx();

	if (w.p.n == 0)
		return;
	run_copy_q<dim>(a, w, m, 0);
	for (int d = run_ty(); d < dim; d += RUN_THREADS / 8)
		*(float4 *)&m->s[d][run_tx()] = *(const float4 *)(state + d * dim);
	for (uint32_t c = 0; w.p.n; c++) {
		struct run_work next = w;

		next.p = chunk_at(a.batch, blockIdx.z, c + 1);
		run_chunk<dim>(a, w, next, m);
		w = next;
	}
	for (int d = run_ty(); d < dim; d += RUN_THREADS / 8)
		*(float4 *)(state + d * dim) = *(const float4 *)&m->s[d][run_tx()];
}

size_t cuda_delta_chunk_scratch(const struct cuda_delta_shape *s, size_t sequences, size_t tokens)
{
	const size_t bytes = chunk_slots(sequences, tokens) * chunk_stride(*s) * sizeof(float);

	return (bytes + 255) / 256 * 256;
}

int cuda_delta_chunk(cuda_stream stream, const struct cuda_delta *d)
{
	struct cuda_delta a;
	int ret;

	if (!d || delta_check_shape(&d->shape) || delta_check_batch(&d->batch))
		return -EINVAL;
	if (d->batch.tokens == 0)
		return 0;
	if (!d->qkv || !d->decay || !d->beta || !d->state || !d->out || !d->scratch)
		return -EINVAL;
	a = *d;
	a.batch.stride = delta_state_stride(d);
	if (!a.batch.stride || !aligned16(d->qkv) || !aligned16(d->state) || !aligned16(d->out) ||
	    !aligned16(d->scratch))
		return -EINVAL;

	const dim3 grid((unsigned)(d->shape.dim / RUN_COLUMNS), (unsigned)d->shape.v_heads,
			(unsigned)d->batch.sequences);

	ret = chunk_solve_launch(stream, *d);
	if (ret)
		return ret;
	if (d->shape.dim == 64)
		CUDA_LAUNCH(chunk_run_kernel<64>, grid, RUN_THREADS, sizeof(struct run_shared<64>),
			    stream, a);
	else
		CUDA_LAUNCH(chunk_run_kernel<128>, grid, RUN_THREADS,
			    sizeof(struct run_shared<128>), stream, a);
	return CUDA_LAUNCHED();
}
