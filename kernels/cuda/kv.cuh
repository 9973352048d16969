/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/kv.cuh: where a position of the KV cache lies in its page (ops.h, "KV pages").
 *
 * Shared by the operation that stores keys and values and those that attend. Checks of what came
 * from outside are in kv_check; the page table itself is trusted. Included after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_KV_CUH
#define SLUICE_KERNELS_CUDA_KV_CUH

#include "kernels/cuda/ops.h"

#include <errno.h>
#include <float.h>

/* One KV head of one page: the addresses of its four arrays. */
struct kv_head {
	uint8_t *k, *v;	   /* [64][dim] of half or int8 */
	__half *k_d, *v_d; /* [64][dim / 32], q8_0 only */
};

/* KV head @head of the page that holds positions [64 @index, ...) of page table row @row. */
static __device__ __forceinline__ struct kv_head kv_head_at(const struct cuda_kv_cache &kv,
							    size_t row, size_t index, size_t head)
{
	const size_t page = kv.table[row * kv.table_stride + index];
	const size_t wide = kv.type == CUDA_KV_F16 ? 2 : 1;
	uint8_t *base = (uint8_t *)kv.pool + page * cuda_kv_page_bytes(kv.type, kv.heads, kv.dim) +
			head * cuda_kv_page_bytes(kv.type, 1, kv.dim);
	struct kv_head h;

	h.k = base;
	h.v = base + CUDA_KV_PAGE * kv.dim * wide;
	h.k_d = (__half *)(base + 2 * CUDA_KV_PAGE * kv.dim);
	h.v_d = h.k_d + CUDA_KV_PAGE * (kv.dim / 32);
	return h;
}

/* Rounded to nearest even, held to the largest half; NaN where x is not finite. */
static __device__ __forceinline__ __half half_saturated(float x)
{
	const float held = x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x;

	return __float2half_rn(fabsf(x) <= FLT_MAX ? held : NAN);
}

/* -EINVAL for a cache that no operation takes, else 0. */
static inline int kv_check(const struct cuda_kv_cache *kv)
{
	if (kv->type != CUDA_KV_F16 && kv->type != CUDA_KV_Q8_0)
		return -EINVAL;
	if (kv->dim != 64 && kv->dim != 128 && kv->dim != 256)
		return -EINVAL;
	if (kv->heads == 0 || kv->heads > 65535 || kv->table_stride == 0)
		return -EINVAL;
	if (!kv->pool || !kv->table || (uintptr_t)kv->pool % 16)
		return -EINVAL;
	return 0;
}

#endif
