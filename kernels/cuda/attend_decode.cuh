/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/attend_decode.cuh: what one warp of attend_decode.cu does with 16 positions: K and V into its
 * part of shared memory, scores, running softmax, values. Its head says why they lie as they do.
 */
#ifndef SLUICE_KERNELS_CUDA_ATTEND_DECODE_CUH
#define SLUICE_KERNELS_CUDA_ATTEND_DECODE_CUH

#include "kernels/cuda/attend.cuh"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/warp.cuh"

#define DEC_WARPS 4
#define DEC_HEADS 16 /* rows of a block: query heads, of one token or more */
#define DEC_TILE  16 /* positions of a warp and step */
#define DEC_ONE	  16384.0f

/* Byte offsets into the block's shared memory; pieces of 8 dimensions are the unit of copying. */
template <bool q8, int dim> struct dec_layout {
	static const int piece = q8 ? 8 : 16;
	static const int pieces = dim / 16; /* of a lane and stage, K or V */
	static const int stage = pieces * WARP_SIZE * piece;
	static const int scales = q8 ? dim : 0;
	static const int query = dim / 32 * 2 * WARP_SIZE * 16; /* hi, and as much for lo */
	static const int warp = 2 * (stage + scales);
	static const int sums = 2 * query + DEC_WARPS * warp;
	static const int total = sums + DEC_WARPS * DEC_HEADS * 2 * 4;
};

/* What a warp knows of its work. */
struct dec_work {
	struct cuda_kv_cache kv;
	size_t row, head; /* of the page table; KV head */
	uint32_t len;	  /* positions of the sequence, for the last of the block's tokens */
	uint32_t ends[2]; /* for the tokens of the lane's two rows */
	int lane;
	uint8_t *ring; /* K stage, V stage, K scales, V scales */
};

/* One piece of position @pos, or zeros beyond the end: what lies there may never have been written */
template <int piece>
static __device__ __forceinline__ void copy_piece(uint8_t *to, const uint8_t *from, bool on)
{
	if (piece == 16)
		ptx_cp_async_16(to, from, on ? 16 : 0);
	else
		ptx_cp_async_8(to, from, on ? 8 : 0);
}

/* The scales of 16 positions (they are neighbours): @at the page's array, @pos the first position */
template <int dim>
static __device__ __forceinline__ void copy_scales(const struct dec_work &w, uint8_t *to,
						   const __half *at, uint32_t pos)
{
	const int bytes = dim / 16; /* of a position */
	const uint32_t valid = pos < w.len ? (w.len - pos) * bytes : 0;
	const uint32_t mine = (uint32_t)w.lane * 16;

	if (w.lane < dim / 16)
		ptx_cp_async_16(to + mine, (const uint8_t *)at + pos % CUDA_KV_PAGE * bytes + mine,
				valid <= mine	    ? 0
				: valid - mine < 16 ? valid - mine
						    : 16);
}

template <bool q8, int dim>
static __device__ __forceinline__ void copy_k(const struct dec_work &w, uint32_t pos)
{
	using lay = dec_layout<q8, dim>;
	const struct kv_head page = kv_head_at(w.kv, w.row, pos / CUDA_KV_PAGE, w.head);
	const int g = w.lane / 4, t = w.lane % 4;
	const uint8_t *from = page.k + ((pos % CUDA_KV_PAGE + g) * dim + 8 * t) * (lay::piece / 8);
	uint8_t *to = w.ring + w.lane * lay::piece;

#pragma unroll
	for (int n = 0; n < 2; n++)
#pragma unroll
		for (int c = 0; c < dim / 32; c++)
			copy_piece<lay::piece>(to + (n * (dim / 32) + c) * WARP_SIZE * lay::piece,
					       from + (8 * n * dim + 32 * c) * (lay::piece / 8),
					       pos + 8 * n + g < w.len);
	if (q8)
		copy_scales<dim>(w, w.ring + 2 * lay::stage, page.k_d, pos);
}

/* Position of a tile that operand register i of lane column t belongs to */
static __device__ __forceinline__ int v_position(int t, int i)
{
	return 2 * t + i % 2 + i / 2 * 8;
}

template <bool q8, int dim>
static __device__ __forceinline__ void copy_v(const struct dec_work &w, uint32_t pos)
{
	using lay = dec_layout<q8, dim>;
	const struct kv_head page = kv_head_at(w.kv, w.row, pos / CUDA_KV_PAGE, w.head);
	const int g = w.lane / 4, t = w.lane % 4;
	uint8_t *to = w.ring + lay::stage + w.lane * lay::piece;

#pragma unroll
	for (int i = 0; i < 4; i++)
#pragma unroll
		for (int e = 0; e < dim / 64; e++)
			copy_piece<lay::piece>(
				to + (i * (dim / 64) + e) * WARP_SIZE * lay::piece,
				page.v + ((pos % CUDA_KV_PAGE + v_position(t, i)) * dim + 64 * e +
					  8 * g) *
						 (lay::piece / 8),
				pos + v_position(t, i) < w.len);
	if (q8)
		copy_scales<dim>(w, w.ring + 2 * lay::stage + lay::scales, page.v_d, pos);
}

/* Piece @i of this lane as eight halves; @d is the address of its scale (q8_0). */
template <bool q8>
static __device__ __forceinline__ uint4 read_piece(const uint8_t *stage, int i, int lane,
						   const uint8_t *d)
{
	if (!q8)
		return ((const uint4 *)stage)[i * WARP_SIZE + lane];
	return half8_scaled(((const uint2 *)stage)[i * WARP_SIZE + lane], *(const uint16_t *)d);
}

/* Scores of 16 heads and 16 positions: s[n] are positions 8 n + ... of the product's layout. */
template <bool q8, int dim>
static __device__ __forceinline__ void scores(const struct dec_work &w, const uint8_t *query,
					      float s[2][4])
{
	using lay = dec_layout<q8, dim>;
	const uint8_t *d = w.ring + 2 * lay::stage + w.lane / 4 * (dim / 16);

#pragma unroll
	for (int i = 0; i < 4; i++)
		s[0][i] = s[1][i] = 0.0f;
#pragma unroll
	for (int c = 0; c < dim / 32; c++) {
#pragma unroll
		for (int n = 0; n < 2; n++) {
			const uint4 k = read_piece<q8>(w.ring, n * (dim / 32) + c, w.lane,
						       d + n * 8 * (dim / 16) + 2 * c);
			const uint32_t b0[2] = { k.x, k.y }, b1[2] = { k.z, k.w };

#pragma unroll
			for (int part = 0; part < 2; part++) {
				const uint4 *q = (const uint4 *)(query + part * lay::query) +
						 c * 2 * WARP_SIZE + w.lane;
				const uint4 up = q[0], low = q[WARP_SIZE];
				const uint32_t a0[4] = { up.x, low.x, up.y, low.y };
				const uint32_t a1[4] = { up.z, low.z, up.w, low.w };

				ptx_mma_f16(s[n], a0, b0);
				ptx_mma_f16(s[n], a1, b1);
			}
		}
	}
}

/* The running softmax of two rows of a lane: lane / 4 and lane / 4 + 8. */
struct dec_soft {
	float m[2], l[2];
};

/*
 * Scores -> probabilities as operands (hi, lo); positions from a row's end on have none. Returns whether
 * some maximum of the warp has grown; then what was summed must be multiplied by @fade. A row that has seen no
 * position yet keeps its zeros.
 */
static __device__ __forceinline__ bool soften(struct dec_soft *st, float s[2][4], uint32_t pos,
					      const uint32_t ends[2], int lane, uint32_t hi[4],
					      uint32_t lo[4], float fade[2])
{
	bool grown = false;

#pragma unroll
	for (int r = 0; r < 2; r++) {
		float p[4], big = st->m[r], base;

#pragma unroll
		for (int i = 0; i < 4; i++) {
			const uint32_t at = pos + i / 2 * 8 + lane % 4 * 2 + i % 2;

			p[i] = at < ends[r] ? s[i / 2][2 * r + i % 2] : -INFINITY;
			big = fmaxf(big, p[i]);
		}
		big = warp_max_width(big, 4);
		base = big == -INFINITY ? 0.0f : big;
		fade[r] = expf(st->m[r] - base);
		grown |= big != st->m[r];
		st->m[r] = big;
		st->l[r] *= fade[r];
#pragma unroll
		for (int i = 0; i < 4; i++) {
			p[i] = expf(p[i] - base) * DEC_ONE;
			st->l[r] += p[i];
		}
#pragma unroll
		for (int n = 0; n < 2; n++) {
			hi[2 * n + r] = half_pair(p[2 * n], p[2 * n + 1]);
			lo[2 * n + r] = half_pair(half_rest(p[2 * n]), half_rest(p[2 * n + 1]));
		}
	}
	return __any_sync(WARP_ALL, grown);
}

/* o += P V; o[8 e + j] is dimension 64 e + 8 column + j. */
template <bool q8, int dim>
static __device__ __forceinline__ void values(const struct dec_work &w, const uint32_t hi[4],
					      const uint32_t lo[4], float o[][4])
{
	using lay = dec_layout<q8, dim>;
	const int g = w.lane / 4, t = w.lane % 4;
	const uint8_t *d = w.ring + 2 * lay::stage + lay::scales + g / 4 * 2;

#pragma unroll
	for (int e = 0; e < dim / 64; e++) {
		uint32_t v[4][4];

#pragma unroll
		for (int i = 0; i < 4; i++) {
			const uint4 x = read_piece<q8>(w.ring + lay::stage, i * (dim / 64) + e,
						       w.lane,
						       d + v_position(t, i) * (dim / 16) + 4 * e);

			put_eight(v[i], x);
		}
#pragma unroll
		for (int j = 0; j < 8; j++) {
			uint32_t b[2];

			dimension_of(v, j, b);
			ptx_mma_f16(o[8 * e + j], hi, b);
			ptx_mma_f16(o[8 * e + j], lo, b);
		}
	}
}

#endif
