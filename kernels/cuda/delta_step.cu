/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/delta_step.cu: the gated delta rule token by token, S in registers.
 *
 * Decode is bound by reading and writing S once (64 KiB a head of dim 128), so S passes through
 * registers and nothing else: a block takes 32 value columns of one head of one sequence, each of
 * its 128 threads dim / 16 rows of four columns. A warp's load is four rows of 128 bytes; all of
 * a block's 16 KiB are asked for before the first is used. 64 heads give 256 blocks a sequence, 32
 * give 128: near one an SM at least, for a single sequence. In longer runs k, q, v and the gates
 * of the next token are fetched while the present one is worked on.
 *
 * Per token (struct delta_args of kernels/cpu/fops.h has the same form): from the old S r = S^T k
 * and p = S^T q in one pass; change = beta (v - decay r); o = decay p + change (k.q); S <- decay S +
 * k change^T. One exchange between warps and one barrier a token; its buffers alternate, and k and
 * v are taken to registers before the barrier, so a fast warp never overwrites what a slow one reads.
 *
 * Accuracy: sums of dim products in a fixed order of at most 8 + 2 + 3 additions a path. The order
 * does not depend on the run: any cut of a prompt gives the same bits.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/delta.cuh"
#include "kernels/cuda/warp.cuh"

#define STEP_THREADS 128
#define STEP_WARPS   (STEP_THREADS / WARP_SIZE)
#define STEP_COLUMNS 32 /* value columns of a block */

/* What one token brings: k, q, the block's part of v, decay and beta. */
template <int dim> struct alignas(16) step_token {
	float kq[2 * dim], v[STEP_COLUMNS], decay, beta; /* k, then q */
};

/* Parts of r, p and k.q of each warp. */
struct alignas(16) step_sums {
	float r[STEP_WARPS][STEP_COLUMNS], p[STEP_WARPS][STEP_COLUMNS], kq[STEP_WARPS];
};

/* A thread's share of the next token on its way to shared memory. */
template <int dim> struct step_fetch {
	float kq[dim / 64], v;
};

template <int dim>
static __device__ __forceinline__ step_fetch<dim>
step_load(const struct cuda_delta &a, size_t token, unsigned v_head, unsigned column)
{
	const float *row = a.qkv + token * delta_channels(a.shape);
	const size_t k_all = a.shape.k_heads * dim;
	const float *q = row + delta_key_head(a.shape, v_head) * dim;
	const int tid = threadIdx.x;
	struct step_fetch<dim> f;

#pragma unroll
	for (int i = 0; i < dim / 64; i++) {
		const int at = tid + i * STEP_THREADS;

		f.kq[i] = at < dim ? q[k_all + at] : q[at - dim];
	}
	f.v = 0.0f;
	if (tid < STEP_COLUMNS)
		f.v = row[2 * k_all + (size_t)v_head * dim + column + tid];
	else if (tid == STEP_COLUMNS)
		f.v = expf(a.decay[token * a.shape.v_heads + v_head]);
	else if (tid == STEP_COLUMNS + 1)
		f.v = a.beta[token * a.shape.v_heads + v_head];
	return f;
}

template <int dim>
static __device__ __forceinline__ void step_put(struct step_token<dim> *to,
						const struct step_fetch<dim> &f)
{
	const int tid = threadIdx.x;

#pragma unroll
	for (int i = 0; i < dim / 64; i++)
		to->kq[tid + i * STEP_THREADS] = f.kq[i];
	if (tid < STEP_COLUMNS)
		to->v[tid] = f.v;
	else if (tid == STEP_COLUMNS)
		to->decay = f.v;
	else if (tid == STEP_COLUMNS + 1)
		to->beta = f.v;
}

static __device__ __forceinline__ void fma4(float4 *sum, float4 x, float a)
{
	sum->x = fmaf(x.x, a, sum->x);
	sum->y = fmaf(x.y, a, sum->y);
	sum->z = fmaf(x.z, a, sum->z);
	sum->w = fmaf(x.w, a, sum->w);
}

/* The sum over the four row groups of a warp: lanes 8 apart. */
static __device__ __forceinline__ float rows_sum(float v)
{
	v += __shfl_xor_sync(WARP_ALL, v, 8);
	return v + __shfl_xor_sync(WARP_ALL, v, 16);
}

static __device__ __forceinline__ float4 rows_sum4(float4 v)
{
	return make_float4(rows_sum(v.x), rows_sum(v.y), rows_sum(v.z), rows_sum(v.w));
}

/* Parts over this thread's rows, joined over the warp, left in @sums. */
template <int rows>
static __device__ __forceinline__ void step_read(const float4 *s, const float *k, const float *q,
						 struct step_sums *sums)
{
	const int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
	float4 r = make_float4(0.0f, 0.0f, 0.0f, 0.0f), p = r;
	float kq = 0.0f;

#pragma unroll
	for (int i = 0; i < rows; i++) {
		fma4(&r, s[i], k[i]);
		fma4(&p, s[i], q[i]);
		kq = fmaf(k[i], q[i], kq);
	}
	r = rows_sum4(r);
	p = rows_sum4(p);
	kq = rows_sum(kq);
	if (lane < 8) {
		*(float4 *)&sums->r[warp][lane * 4] = r;
		*(float4 *)&sums->p[warp][lane * 4] = p;
	}
	if (lane == 0)
		sums->kq[warp] = kq;
}

/* Sums over the warps, change and output of this thread's four columns, then S. */
template <int rows>
static __device__ __forceinline__ float4 step_write(float4 *s, const float *k, float4 v,
						    float decay, float beta,
						    const struct step_sums *sums, int column)
{
	float4 r = *(const float4 *)&sums->r[0][column], p = *(const float4 *)&sums->p[0][column];
	float4 change, o;
	float kq = sums->kq[0];

#pragma unroll
	for (int w = 1; w < STEP_WARPS; w++) {
		fma4(&r, *(const float4 *)&sums->r[w][column], 1.0f);
		fma4(&p, *(const float4 *)&sums->p[w][column], 1.0f);
		kq += sums->kq[w];
	}
	change = make_float4(beta * fmaf(-decay, r.x, v.x), beta * fmaf(-decay, r.y, v.y),
			     beta * fmaf(-decay, r.z, v.z), beta * fmaf(-decay, r.w, v.w));
	o = make_float4(decay * p.x, decay * p.y, decay * p.z, decay * p.w);
	fma4(&o, change, kq);
#pragma unroll
	for (int i = 0; i < rows; i++) {
		float4 n =
			make_float4(decay * s[i].x, decay * s[i].y, decay * s[i].z, decay * s[i].w);

		fma4(&n, change, k[i]);
		s[i] = n;
	}
	return o;
}

/* Four neighbouring floats of shared memory at a time into registers. */
template <int rows> static __device__ __forceinline__ void take(const float *from, float *to)
{
#pragma unroll
	for (int i = 0; i < rows; i += 4) {
		const float4 x = *(const float4 *)(from + i);

		to[i] = x.x;
		to[i + 1] = x.y;
		to[i + 2] = x.z;
		to[i + 3] = x.w;
	}
}

template <int dim>
static __device__ __forceinline__ void
step_run(const struct cuda_delta &a, float4 *s, struct step_token<dim> *token,
	 struct step_sums *sums, unsigned v_head, unsigned column)
{
	const int rows = dim / 16, tid = threadIdx.x;
	const int mine = tid % 8 * 4, row = tid / 8 * rows;
	const size_t first = a.batch.start[blockIdx.z], end = a.batch.start[blockIdx.z + 1];
	float *out = a.out + (size_t)v_head * dim + column + mine;
	struct step_fetch<dim> next = step_load<dim>(a, first, v_head, column);

	step_put<dim>(&token[0], next);
	__syncthreads();
	for (size_t t = first; t < end; t++) {
		const struct step_token<dim> *now = &token[(t - first) % 2];
		struct step_sums *part = &sums[(t - first) % 2];
		const float decay = now->decay, beta = now->beta;
		const float4 v = *(const float4 *)&now->v[mine];
		float k[rows], q[rows];
		float4 o;

		if (t + 1 < end)
			next = step_load<dim>(a, t + 1, v_head, column);
		take<rows>(now->kq + row, k);
		take<rows>(now->kq + dim + row, q);
		step_read<rows>(s, k, q, part);
		if (t + 1 < end)
			step_put<dim>(&token[(t + 1 - first) % 2], next);
		__syncthreads();
		o = step_write<rows>(s, k, v, decay, beta, part, mine);
		if (tid < 8)
			*(float4 *)(out + t * a.shape.v_heads * dim) = o;
	}
}

template <int dim>
static __global__ void __launch_bounds__(STEP_THREADS) step_kernel(struct cuda_delta a)
{
	CUDA_SHARED(struct step_token<dim>, token, 2);
	CUDA_SHARED(struct step_sums, sums, 2);
	const int rows = dim / 16;
	const unsigned column = blockIdx.x * STEP_COLUMNS, v_head = blockIdx.y;
	float *state = a.state + a.batch.slot[blockIdx.z] * a.batch.stride +
		       ((size_t)v_head * dim + threadIdx.x / 8 * rows) * dim + column +
		       threadIdx.x % 8 * 4;
	float4 s[rows];

	if (a.batch.start[blockIdx.z] >= a.batch.start[blockIdx.z + 1])
		return;
#pragma unroll
	for (int i = 0; i < rows; i++)
		s[i] = *(const float4 *)(state + i * dim);
	step_run<dim>(a, s, token, sums, v_head, column);
#pragma unroll
	for (int i = 0; i < rows; i++)
		*(float4 *)(state + i * dim) = s[i];
}

int cuda_delta_step(cuda_stream stream, const struct cuda_delta *d)
{
	struct cuda_delta a;

	if (!d || delta_check_shape(&d->shape) || delta_check_batch(&d->batch))
		return -EINVAL;
	if (d->batch.tokens == 0)
		return 0;
	if (!d->qkv || !d->decay || !d->beta || !d->state || !d->out)
		return -EINVAL;
	a = *d;
	a.batch.stride = delta_state_stride(d);
	if (!aligned16(d->state) || !aligned16(d->out) || !a.batch.stride)
		return -EINVAL;

	const dim3 grid((unsigned)(d->shape.dim / STEP_COLUMNS), (unsigned)d->shape.v_heads,
			(unsigned)d->batch.sequences);

	if (d->shape.dim == 64)
		CUDA_LAUNCH(step_kernel<64>, grid, STEP_THREADS, 0, stream, a);
	else
		CUDA_LAUNCH(step_kernel<128>, grid, STEP_THREADS, 0, stream, a);
	return CUDA_LAUNCHED();
}
