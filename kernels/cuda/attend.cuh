/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/attend.cuh: what decode and prefill attention share: pairs of halves in registers
 * and the way from a q8_0 page to them.
 *
 * A value of a q8_0 page enters the tensor cores as half(q d): one rounding, 2^-11 relative, the
 * error that an f16 page has from the start. Included after launch.h and ptx.h.
 */
#ifndef SLUICE_KERNELS_CUDA_ATTEND_CUH
#define SLUICE_KERNELS_CUDA_ATTEND_CUH

#include "kernels/cuda/kv.cuh"

#include <stdint.h>
#include <string.h>

/* The bits of a half, and two halves in one register, the first in the low half. */
static __device__ __forceinline__ uint32_t half_bits(__half h)
{
	uint16_t bits;

	memcpy(&bits, &h, sizeof(bits));
	return bits;
}

static __device__ __forceinline__ uint32_t half_pair(float low, float high)
{
	return half_bits(half_saturated(low)) | half_bits(half_saturated(high)) << 16;
}

/* The part of x that half_saturated(x) leaves out: hi + lo has 22 bits of x. */
static __device__ __forceinline__ float half_rest(float x)
{
	return x - __half2float(half_saturated(x));
}

static __device__ __forceinline__ uint32_t half2_bits(__half2 h)
{
	uint32_t bits;

	memcpy(&bits, &h, sizeof(bits));
	return bits;
}

static __device__ __forceinline__ __half2 half2_from(uint32_t bits)
{
	__half2 h;

	memcpy(&h, &bits, sizeof(h));
	return h;
}

/*
 * Two bytes of @bytes, chosen by @pick (0x4140 for the lower two, 0x4342 for the upper), times the
 * halves of @d. Bytes hold q + 128: 0x64 above such a byte is the half 1024 + q + 128, exactly.
 */
static __device__ __forceinline__ uint32_t half2_scaled(uint32_t bytes, unsigned pick, uint32_t d)
{
	const uint32_t big = __byte_perm(bytes, 0x64646464u, pick);
	const __half2 q = __hsub2(half2_from(big), half2_from(0x64806480u)); /* - 1152 */

	return half2_bits(__hmul2(q, half2_from(d)));
}

/* Eight neighbouring values of one q8_0 block (bytes as stored) times the half @d. */
static __device__ __forceinline__ uint4 half8_scaled(uint2 q, uint32_t d)
{
	const uint32_t both = d | d << 16, x = q.x ^ 0x80808080u, y = q.y ^ 0x80808080u;

	return make_uint4(half2_scaled(x, 0x4140, both), half2_scaled(x, 0x4342, both),
			  half2_scaled(y, 0x4140, both), half2_scaled(y, 0x4342, both));
}

static __device__ __forceinline__ void put_eight(uint32_t v[4], uint4 x)
{
	v[0] = x.x;
	v[1] = x.y;
	v[2] = x.z;
	v[3] = x.w;
}

/* Dimension @j of four positions' eights @v: B of a product over those positions. */
static __device__ __forceinline__ void dimension_of(const uint32_t v[4][4], int j, uint32_t b[2])
{
	const unsigned pick = j % 2 ? 0x7632 : 0x5410;

	b[0] = __byte_perm(v[0][j / 2], v[1][j / 2], pick);
	b[1] = __byte_perm(v[2][j / 2], v[3][j / 2], pick);
}

#endif
