/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/embed.cu: rows of the embedding table, dequantised exactly.
 *
 * One weight a thread, the row's blocks read through the caches: a token reads a few KiB, once a
 * step, so only the launch costs. Exact means: the float operations of docs/models.md 1.4 one by one, each
 * rounded (no contraction: -fmad=false), bit for bit what the CPU makes of the same bytes. Fields
 * are read byte by byte where a format aligns them to nothing; F32 tables are 4-aligned.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/quant.cuh"

#include <errno.h>

#define EMBED_THREADS 128

struct embed_args {
	uint32_t type;
	const uint8_t *table;
	size_t row_bytes, n, vocab;
	const uint32_t *ids;
	float *out;
	unsigned block, bytes; /* of the format */
};

static __device__ __forceinline__ float embed_half(const uint8_t *p)
{
	const uint16_t bits = (uint16_t)(p[0] | p[1] << 8);
	__half h;

	memcpy((void *)&h, &bits, sizeof(h));
	return __half2float(h);
}

static __device__ __forceinline__ float embed_bits(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static __device__ __forceinline__ int iq4_value(int nibble)
{
	const int8_t values[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
				    1,	  13,	25,  38,  53,  69,  89,	 113 };

	return values[nibble];
}

/* twice the E2M1 value */
static __device__ __forceinline__ int mxfp4_value(int nibble)
{
	const int8_t values[8] = { 0, 1, 2, 3, 4, 6, 8, 12 };

	return nibble & 8 ? -values[nibble & 7] : values[nibble & 7];
}

/* Weight i of 32 whose bytes are q: low nibbles first, then high ones. */
static __device__ __forceinline__ int nibble32(const uint8_t *q, int i)
{
	return i < 16 ? q[i] & 15 : q[i - 16] >> 4;
}

/* Blocks of 32 */
static __device__ float embed_small(uint32_t type, const uint8_t *b, int i)
{
	const float d = embed_half(b);
	const int fifth_5_0 = b[2 + i / 8] >> i % 8 & 1;

	switch (type) {
	case QUANT_Q4_0:
		return d * (float)(nibble32(b + 2, i) - 8);
	case QUANT_Q4_1:
		return d * (float)nibble32(b + 4, i) + embed_half(b + 2);
	case QUANT_Q5_0:
		return d * (float)((nibble32(b + 6, i) | fifth_5_0 << 4) - 16);
	case QUANT_Q5_1:
		return d * (float)(nibble32(b + 8, i) | (b[4 + i / 8] >> i % 8 & 1) << 4) +
		       embed_half(b + 2);
	case QUANT_Q8_0:
		return d * (float)(int8_t)b[2 + i];
	case QUANT_IQ4_NL:
		return d * (float)iq4_value(nibble32(b + 2, i));
	default: /* MXFP4: 2^(e - 128), subnormal below e = 2 */
		return embed_bits(b[0] < 2 ? 0x00200000u << b[0] : (uint32_t)(b[0] - 1) << 23) *
		       (float)mxfp4_value(nibble32(b + 1, i));
	}
}

/* Q4_K and Q5_K: scale and minimum of sub-block j out of twelve bytes */
static __device__ __forceinline__ void k_scales(const uint8_t *s, int j, int *scale, int *min)
{
	if (j < 4) {
		*scale = s[j] & 63;
		*min = s[j + 4] & 63;
		return;
	}
	*scale = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
	*min = s[j + 4] >> 4 | s[j] >> 6 << 4;
}

/* Q2_K and Q3_K: two bits of weight i (halves of 128, four shifts, 32 bytes) */
static __device__ __forceinline__ int two_bits(const uint8_t *qs, int i)
{
	return qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
}

static __device__ float embed_q3_k(const uint8_t *b, int i)
{
	const uint8_t *scales = b + 96;
	const int j = i / 16, low = j < 8 ? scales[j] & 15 : scales[j - 8] >> 4;
	const int scale = low | (scales[8 + j % 4] >> j / 4 * 2 & 3) << 4;
	const int high = b[i % 32] >> i / 32 & 1;

	return embed_half(b + 108) * (float)(scale - 32) *
	       (float)(two_bits(b + 32, i) - (high ? 0 : 4));
}

static __device__ float embed_q6_k(const uint8_t *b, int i)
{
	const int side = i / 128, part = i % 128 / 32, l = i % 32;
	const int byte = b[64 * side + part % 2 * 32 + l];
	const int low = part < 2 ? byte & 15 : byte >> 4;
	const int high = b[128 + 32 * side + l] >> 2 * part & 3;

	return embed_half(b + 208) * (float)(int8_t)b[192 + i / 16] *
	       (float)((low | high << 4) - 32);
}

static __device__ float embed_iq4_xs(const uint8_t *b, int i)
{
	const int j = i / 32, low = b[4 + j / 2] >> j % 2 * 4 & 15;
	const int scale = low | ((b[2] | b[3] << 8) >> 2 * j & 3) << 4;

	return embed_half(b) * (float)(scale - 32) *
	       (float)iq4_value(nibble32(b + 8 + 16 * j, i % 32));
}

/* Blocks of 256 */
static __device__ float embed_big(uint32_t type, const uint8_t *b, int i)
{
	int scale, min, q;

	switch (type) {
	case QUANT_Q2_K:
		return embed_half(b + 80) * (float)(b[i / 16] & 15) * (float)two_bits(b + 16, i) -
		       embed_half(b + 82) * (float)(b[i / 16] >> 4);
	case QUANT_Q3_K:
		return embed_q3_k(b, i);
	case QUANT_Q6_K:
		return embed_q6_k(b, i);
	case QUANT_IQ4_XS:
		return embed_iq4_xs(b, i);
	default: /* Q4_K, Q5_K: 64 weights of 32 bytes, low nibbles then high */
		k_scales(b + 4, i / 32, &scale, &min);
		q = b[(type == QUANT_Q4_K ? 16 : 48) + i / 64 * 32 + i % 32];
		q = i / 32 % 2 ? q >> 4 : q & 15;
		if (type == QUANT_Q5_K)
			q |= (b[16 + i % 32] >> i / 32 & 1) << 4;
		return embed_half(b) * (float)scale * (float)q - embed_half(b + 2) * (float)min;
	}
}

static __device__ float embed_weight(const struct embed_args &a, const uint8_t *row, size_t i)
{
	const uint8_t *b = row + i / a.block * a.bytes;

	if (a.type == QUANT_F32)
		return *(const float *)b;
	if (a.type == QUANT_F16)
		return embed_half(b);
	if (a.type == QUANT_BF16)
		return embed_bits((uint32_t)(b[0] | b[1] << 8) << 16);
	return a.block == 32 ? embed_small(a.type, b, (int)(i % 32))
			     : embed_big(a.type, b, (int)(i % 256));
}

static __global__ void embed_kernel(struct embed_args a)
{
	const size_t i = (size_t)blockIdx.y * EMBED_THREADS + threadIdx.x;
	const uint32_t id = a.ids[blockIdx.x];

	if (i < a.n)
		a.out[blockIdx.x * a.n + i] =
			id < a.vocab ? embed_weight(a, a.table + id * a.row_bytes, i) : 0.0f;
}

int cuda_embed(cuda_stream stream, uint32_t type, const void *table, size_t row_bytes, size_t n,
	       size_t vocab, const uint32_t *ids, size_t tokens, float *out)
{
	const struct quant_shape shape = quant_shape(type);
	struct embed_args a = {
		type,	    (const uint8_t *)table, row_bytes, n, vocab, ids, out, shape.block,
		shape.bytes
	};

	if (shape.act == ACT_NONE)
		return -ENOTSUP;
	if (n == 0 || n % a.block || n > (size_t)65535 * EMBED_THREADS || tokens > INT32_MAX)
		return -EINVAL;
	if (tokens == 0)
		return 0;
	if (!table || !ids || !out || row_bytes < n / a.block * a.bytes)
		return -EINVAL;
	if (type == QUANT_F32 && ((uintptr_t)table % 4 || row_bytes % 4))
		return -EINVAL;
	CUDA_LAUNCH(embed_kernel,
		    dim3((unsigned)tokens, (unsigned)((n + EMBED_THREADS - 1) / EMBED_THREADS)),
		    EMBED_THREADS, 0, stream, a);
	return CUDA_LAUNCHED();
}
