/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/attend_numbers.h: how queries, keys, values and weights of attention become whole numbers of
 * 16 bits; attend_whole.h, which includes it, says what shares a unit and multiplies them. Written in the
 * names of whole_avx2.h and whole_avx512.h: the same numbers and units on both.
 */
#ifndef SLUICE_KERNELS_CPU_ATTEND_NUMBERS_H
#define SLUICE_KERNELS_CPU_ATTEND_NUMBERS_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/float_impl.h"
#include "kernels/cpu/float_soften.h"

#define GROUP	     32	      /* dimensions of queries and keys that share a unit */
#define CHUNK	     4	      /* dimensions or positions that are added up as whole numbers */
#define MOST	     32767.0f /* times 2^14 - 8, the most of keys and values, times CHUNK: < 2^31 */
#define SMALLEST     1e-30f   /* numbers below count as 0: their unit's inverse has to be finite */
#define PER_TILE     (KV_TILE / VL) /* vectors in 16 lanes */
#define PART_VECTORS (PART_TILES * PER_TILE)
#define PART_LANES   (PART_VECTORS * VL)
#define PART_DIMS    256 /* of keys, in a part */

/* A query in the place of its floats: numbers of all dimensions, then the unit of each GROUP. */
static const int16_t *query_numbers(const struct attend_args *a, size_t row)
{
	return (const int16_t *)(a->q + row * a->head_dim);
}

/* Queries into numbers, in place: see fops.h. */
static void attend_query(float *q, size_t rows, size_t head_dim)
{
	float units[KV_MAX_HEAD_DIM / GROUP + 1];

	for (size_t r = 0; r < rows; r++, q += head_dim) {
		int16_t *out = (int16_t *)q;

		for (size_t d = 0; d < head_dim; d += GROUP) {
			const size_t n = head_dim - d < GROUP ? head_dim - d : GROUP;
			vf x[GROUP / VL];
			vi most = vi_zero();
			float largest, inverse;
			int32_t bits;

			for (size_t i = 0; i < n; i += VL) {
				x[i / VL] = vf_load(q + d + i);
				most = vi_larger_abs(most, x[i / VL]);
			}
			bits = vi_highest(most);
			memcpy(&largest, &bits, sizeof(largest));
			inverse = MOST / largest;
			units[d / GROUP] = largest / MOST;
			if (!isfinite(largest) || largest < SMALLEST) {
				inverse = 0.0f;
				units[d / GROUP] = isfinite(largest) ? 0.0f : NAN;
			}
			/* behind what has been read */
			for (size_t i = 0; i < n; i += VL)
				store_numbers(out + d + i, vf_mul(x[i / VL], vf_set1(inverse)));
		}
		memcpy(out + head_dim, units, (head_dim + GROUP - 1) / GROUP * sizeof(*units));
	}
}

/*
 * A part of the block: pairs of neighbours (dimensions of keys, positions of values) for PART_LANES
 * positions or dimensions, and what is brought into the second cache meanwhile: the part that comes next,
 * for making it waits for its memory. @step bytes each time that it is asked for.
 */
struct part {
	int32_t pairs[PART_DIMS / 2][PART_LANES] __attribute__((aligned(64)));
	float unit[PART_DIMS / GROUP][PART_LANES]; /* of keys */
	const uint8_t *ahead;
	size_t step;
};

ALWAYS void ask(struct part *p)
{
	_mm_prefetch((const char *)p->ahead, _MM_HINT_T1);
	p->ahead += p->step;
}

/* @n dimensions of 16 positions -> lanes of out and of one of @unit. */
static void take_keys_f16(const uint8_t *k, size_t n, struct part *p, int32_t (*out)[PART_LANES],
			  float *unit)
{
	uint16_t most[KV_TILE];
	vf rounder[PER_TILE];

	largest_lanes(k, n, most);
	for (unsigned v = 0; v < PER_TILE; v++) {
		vi exponent = exponents(most + v * VL);

		rounder[v] = rounders_of(exponent, 28);
		vf_store(unit + v * VL, units_of(exponent, 28));
	}
#pragma GCC unroll 4
	for (size_t i = n / 2; i; i--, k += 4 * KV_TILE, out++) {
		ask(p);
		for (unsigned v = 0; v < PER_TILE; v++) {
			vf even = vf_add(vf_load_half(k + v * VL * 2), rounder[v]);
			vf odd = vf_add(vf_load_half(k + (KV_TILE + v * VL) * 2), rounder[v]);

			vi_store(*out + v * VL, pairs_of(even, odd));
		}
	}
}

static void take_keys_q8_0(const uint8_t *k, struct part *p, int32_t (*out)[PART_LANES],
			   float *unit)
{
	for (unsigned v = 0; v < PER_TILE; v++)
		vf_store(unit + v * VL, vf_load_half(k + v * VL * 2));
	k += 2 * KV_TILE;
	for (size_t i = 0; i < KV_Q8; i += 2, k += 2 * KV_TILE) {
		ask(p);
		pairs_of_bytes(k, out[i / 2]);
	}
}

/* Keys of the positions from @tile on, dimensions [d, end). */
static void take_keys(const struct attend_args *a, size_t tile, size_t d, size_t end,
		      struct part *p)
{
	const size_t tile_bytes = kv_block_bytes(a->type, a->head_dim) / KV_TILES;

	for (size_t t = 0; t < PART_TILES; t++) {
		const uint8_t *k = (const uint8_t *)a->k + (tile + t) * tile_bytes;

		for (size_t g = d; g < end; g += GROUP) {
			int32_t(*out)[PART_LANES] =
				(int32_t(*)[PART_LANES])(p->pairs[(g - d) / 2] + t * KV_TILE);
			float *unit = p->unit[(g - d) / GROUP] + t * KV_TILE;

			if (a->type == KV_F16)
				take_keys_f16(k + g * KV_TILE * 2,
					      end - g < GROUP ? end - g : GROUP, p, out, unit);
			else
				take_keys_q8_0(k + g / KV_Q8 * KV_Q8_K_BYTES, p, out, unit);
		}
	}
}

/* Units and rounders of a block's positions, and which of them are no numbers. */
struct positions {
	float unit[KV_BLOCK], rounder[KV_BLOCK];
	uint64_t none;
};

static void measure_values(const struct attend_args *a, struct positions *p)
{
	const size_t dims = attend_value_dim(a), n = sizeof(vi) / (KV_TILE * 2);
	const uint8_t *v = a->v;
	const int below = a->type == KV_F16 ? 28 : 21; /* q8_0: from the scales, 127 times which */
	uint16_t most[KV_BLOCK];

	for (size_t j = 0; a->type == KV_F16 && j < KV_BLOCK; j += 4 * n) {
		vi all[4] = { vi_zero(), vi_zero(), vi_zero(), vi_zero() };

		for (size_t t = 0; t < dims / KV_TILE; t++)
			for (size_t i = 0; i < 4; i++)
				all[i] = vi_larger_halves(
					all[i], vi_abs_halves(v + (t * KV_BLOCK + j + i * n) *
									  KV_TILE * 2));
		for (size_t i = 0; i < 4; i++)
			largest_halves(all[i], most + j + i * n);
	}
	for (size_t j = 0; a->type == KV_Q8_0 && j < KV_BLOCK; j += 2 * VL) {
		vi all = vi_zero();

		for (size_t g = 0; g < dims / KV_Q8; g++)
			all = vi_larger_halves(all, vi_abs_halves(v + g * KV_Q8_V_BYTES + j * 2));
		memcpy(most + j, &all, sizeof(all));
	}
	p->none = 0;
	for (size_t j = 0; j < KV_BLOCK; j += VL) {
		vi exponent = exponents(most + j);

		vf_store(p->unit + j, units_of(exponent, below));
		vf_store(p->rounder + j, rounders_of(exponent, below));
		p->none |= (uint64_t)vf_none(vf_load(p->unit + j)) << j;
	}
}

/* Values of dimensions from 16 * @tile on, @n_tiles of them, all positions. */
static void take_values(const struct attend_args *a, const struct positions *positions, size_t tile,
			size_t n_tiles, struct part *p)
{
	const size_t half = KV_Q8 / KV_TILE;

	for (size_t v = 0; v < n_tiles * PER_TILE; v++) {
		const size_t t = tile + v / PER_TILE, lane = v % PER_TILE * VL;
		const uint8_t *at = a->v;
		float scale[KV_BLOCK];

		if (a->type == KV_F16) {
			at += t * KV_BLOCK * KV_TILE * 2 + lane * 2;
#pragma GCC unroll 4
			for (size_t j = 0; j < KV_BLOCK; j += 2, at += 4 * KV_TILE) {
				vf even = vf_set1(positions->rounder[j]),
				   odd = vf_set1(positions->rounder[j + 1]);

				ask(p);
				even = vf_add(vf_load_half(at), even);
				odd = vf_add(vf_load_half(at + 2 * KV_TILE), odd);
				vi_store(p->pairs[j / 2] + v * VL, pairs_of(even, odd));
			}
			continue;
		}
		at += t / half * KV_Q8_V_BYTES;
		for (size_t j = 0; j < KV_BLOCK; j += VL)
			vf_store(scale + j, vf_load_half(at + j * 2));
		at += KV_BLOCK * 2 + t % half * KV_TILE + lane;
		for (size_t j = 0; j < KV_BLOCK; j += 2, at += 2 * KV_Q8) {
			vf even = vf_set1(positions->rounder[j]),
			   odd = vf_set1(positions->rounder[j + 1]);

			ask(p);
			even = vf_fma(vf_set1(scale[j]), vf_load_int8(at), even);
			odd = vf_fma(vf_set1(scale[j + 1]), vf_load_int8(at + KV_Q8), odd);
			vi_store(p->pairs[j / 2] + v * VL, pairs_of(even, odd));
		}
	}
}

/* Weights of a row: numbers for every position of the block, 0 for those that it does not see. */
struct weights {
	int16_t number[KV_BLOCK];
};

/* Softmax's weights of a row, times units of its positions -> numbers; @l: their sum, NaN if one is. */
static void weigh(const struct attend_args *a, const struct positions *positions, const float *s,
		  float l, struct weights *w, float *ret_unit)
{
	const uint64_t seen = (~0ULL >> (KV_BLOCK - a->n_valid)) & (~0ULL << a->first);
	vf x[KV_BLOCK / VL], most = vf_zero();
	float largest, inverse;

	for (unsigned v = 0; v < KV_BLOCK / VL; v++) {
		x[v] = vf_where(seen >> v * VL,
				vf_mul(vf_load(s + v * VL), vf_load(positions->unit + v * VL)));
		most = vf_max(most, x[v]);
	}
	largest = vf_highest(most);
	inverse = MOST / largest;
	*ret_unit = largest / MOST;
	if (!(largest >= SMALLEST))
		*ret_unit = inverse = 0.0f;
	if ((positions->none & seen) || isnan(l)) {
		*ret_unit = NAN;
		inverse = 0.0f;
	}
	for (unsigned v = 0; v < KV_BLOCK / VL; v++)
		store_numbers(w->number + v * VL, vf_mul(x[v], vf_set1(inverse)));
}

#endif
