/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/attend_avx512.h: attention over one block of the KV cache with whole numbers of 16
 * bits, for AVX-512 VNNI, which multiplies and adds twice as many of them in an instruction as floats.
 *
 * Included by float_avx512.c after float_soften.h. Numbers that are multiplied share a unit:
 *   queries   MOST at most; one unit for 32 dimensions of a row (attend_query(), once a query)
 *   keys      f16: a power of two for 32 dimensions of a position, so that the largest of them has
 *             14 bits and those above an eighth of it are exact; q8_0: as they are stored
 *   weights   of softmax, times the units of their positions' values: MOST at most, one unit for a
 *             row and block
 *   values    as keys, one unit for all dimensions of a position
 * Sums of 4 dimensions (keys) or 4 positions (values) are exact in 32 bits; these are added up as
 * floats, in order. A unit depends on nothing but what shares it, a sum on its row and its positions:
 * so a row's bits do not depend on how many rows come together, nor on positions that it does not
 * see. What is not finite makes its unit NaN. The block is taken in parts that stay in the first
 * cache, turned into pairs of numbers once for all rows.
 *
 * A number is off by half of its unit at most: a query or weight by 1/65534 of the largest that it
 * shares the unit with, a key or value by 1/16384, an eighth of what storing the largest as f16 may
 * cost. Measured (docs/performance.md): scores are off by a tenth of what storing keys as f16 costs,
 * results by a fifth.
 */
#ifndef SLUICE_KERNELS_CPU_ATTEND_AVX512_H
#define SLUICE_KERNELS_CPU_ATTEND_AVX512_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/float_impl.h"

#define GROUP	       32	/* dimensions of queries and keys that share a unit */
#define CHUNK	       4	/* dimensions or positions that are added up as whole numbers */
#define MOST	       32767.0f /* times 2^14 - 8, the most of keys and values, times CHUNK: < 2^31 */
#define SMALLEST       1e-30f /* numbers below count as 0: their unit's inverse has to be finite */
#define PART_VECTORS   2
#define PART_LANES     (PART_VECTORS * VL)
#define PART_DIMS      256 /* of keys, in a part */
#define PART_ROWS      128 /* rows that go through a part together, at most */
#define PART_ROWS_TILE 6   /* rows of a register tile, at most */

/* A query in the place of its floats: numbers of all dimensions, then the unit of each GROUP. */
static const int16_t *query_numbers(const struct attend_args *a, size_t row)
{
	return (const int16_t *)(a->q + row * a->head_dim);
}

/* The exponents of positive f16, one in each lane: 1 to 31. */
static inline __m512i exponents(__m512i halves)
{
	return _mm512_max_epi32(_mm512_srli_epi32(halves, 10), _mm512_set1_epi32(1));
}

/* 2^(exponent - @below), NaN for exponent 31, which is no number's */
static inline vf units_of(__m512i exponent, int below)
{
	__m512i bits =
		_mm512_slli_epi32(_mm512_add_epi32(exponent, _mm512_set1_epi32(127 - below)), 23);
	__mmask16 none = _mm512_cmpeq_epi32_mask(exponent, _mm512_set1_epi32(31));

	return _mm512_mask_mov_ps(_mm512_castsi512_ps(bits), none, _mm512_set1_ps(NAN));
}

/* What, added to a float, leaves its number of units of 2^(exponent - @below) in the lowest 16 bits. */
static inline vf rounders_of(__m512i exponent, int below)
{
	__m512i bits = _mm512_slli_epi32(
		_mm512_add_epi32(exponent, _mm512_set1_epi32(127 - below + 23)), 23);

	return _mm512_castsi512_ps(_mm512_or_si512(bits, _mm512_set1_epi32(1 << 22)));
}

/* Pairs of numbers from the lowest 16 bits of @even and @odd. */
static inline __m512i pairs_of(vf even, vf odd)
{
	return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_castps_si512(even),
				       _mm512_slli_epi32(_mm512_castps_si512(odd), 16));
}

static inline __m512i abs_halves(const uint8_t *p)
{
	return _mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi16(0x7fff));
}

/* Queries into numbers, in place: see fops.h. */
static void attend_query(float *q, size_t rows, size_t head_dim)
{
	const __m512i sign = _mm512_set1_epi32(0x7fffffff);
	float units[KV_MAX_HEAD_DIM / GROUP + 1];

	for (size_t r = 0; r < rows; r++, q += head_dim) {
		int16_t *out = (int16_t *)q;

		for (size_t d = 0; d < head_dim; d += GROUP) {
			const size_t left = head_dim - d;
			vf x[2] = { vf_load_n(q + d, left),
				    left > VL ? vf_load_n(q + d + VL, left - VL) : vf_zero() };
			__m512i most =
				_mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(x[0]), sign),
						 _mm512_and_si512(_mm512_castps_si512(x[1]), sign));
			int bits = _mm512_reduce_max_epi32(most);
			float largest, inverse;

			memcpy(&largest, &bits, sizeof(largest));
			inverse = MOST / largest;
			units[d / GROUP] = largest / MOST;
			if (!isfinite(largest) || largest < SMALLEST) {
				inverse = 0.0f;
				units[d / GROUP] = isfinite(largest) ? 0.0f : NAN;
			}
			/* behind what has been read */
			for (size_t v = 0; v < 2 && v * VL < left; v++) {
				__m512i n = _mm512_cvtps_epi32(vf_mul(x[v], vf_set1(inverse)));

				_mm256_storeu_si256((__m256i *)(out + d + v * VL),
						    _mm512_cvtepi32_epi16(n));
			}
		}
		memcpy(out + head_dim, units, (head_dim + GROUP - 1) / GROUP * sizeof(*units));
	}
}

/*
 * A part of the block: pairs of neighbours (dimensions of keys, positions of values) for PART_LANES
 * positions or dimensions, and what is brought into the second cache while rows pass over it: the part
 * that comes next, for making it waits for its memory. @step bytes a pair and tile of rows.
 */
struct part {
	int32_t pairs[PART_DIMS / 2][PART_LANES] __attribute__((aligned(64)));
	float unit[PART_DIMS / GROUP][PART_LANES]; /* of keys */
	const uint8_t *ahead;
	size_t step;
};

/* @bytes from @at on, while @rows rows pass over @n pairs; NULL: nothing */
static void fetch_during(struct part *p, const void *at, size_t bytes, size_t rows, size_t n)
{
	const size_t steps = (rows + PART_ROWS_TILE - 1) / PART_ROWS_TILE * n;

	p->ahead = at ? at : (const uint8_t *)p->pairs;
	p->step = at ? (bytes + steps - 1) / steps : 0;
}

/* @n dimensions of 16 positions -> every second vector of out and one of @unit. */
static void take_keys_f16(const uint8_t *k, size_t n, int32_t (*out)[PART_LANES], float *unit)
{
	__m512i most = _mm512_setzero_si512(), exponent;
	vf rounder;

	for (size_t i = 0; i < n; i += 2)
		most = _mm512_max_epu16(most, abs_halves(k + i * KV_TILE * 2));
	exponent = exponents(_mm512_cvtepu16_epi32(_mm256_max_epu16(
		_mm512_castsi512_si256(most), _mm512_extracti64x4_epi64(most, 1))));
	rounder = rounders_of(exponent, 28);
	vf_store(unit, units_of(exponent, 28));
	for (size_t i = 0; i < n; i += 2, k += 4 * KV_TILE)
		_mm512_store_si512(out[i / 2],
				   pairs_of(vf_add(vf_load_half(k), rounder),
					    vf_add(vf_load_half(k + 2 * KV_TILE), rounder)));
}

static void take_keys_q8_0(const uint8_t *k, int32_t (*out)[PART_LANES], float *unit)
{
	/* words 0 and 16, 1 and 17, .. side by side */
	const __m512i lanes =
		_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	const __m512i order = _mm512_or_si512(
		lanes, _mm512_slli_epi32(_mm512_add_epi32(lanes, _mm512_set1_epi32(16)), 16));

	vf_store(unit, vf_load_half(k));
	k += 2 * KV_TILE;
	for (size_t i = 0; i < KV_Q8; i += 2, k += 2 * KV_TILE)
		_mm512_store_si512(
			out[i / 2],
			_mm512_permutexvar_epi16(order, _mm512_cvtepi8_epi16(_mm256_loadu_si256(
								(const __m256i *)k))));
}

/* Keys of the positions from @tile on, dimensions [d, end). */
static void take_keys(const struct attend_args *a, size_t tile, size_t d, size_t end,
		      struct part *p)
{
	const size_t tile_bytes = kv_block_bytes(a->type, a->head_dim) / KV_TILES;

	for (size_t v = 0; v < PART_VECTORS; v++) {
		const uint8_t *k = (const uint8_t *)a->k + (tile + v) * tile_bytes;

		for (size_t g = d; g < end; g += GROUP) {
			int32_t(*out)[PART_LANES] =
				(int32_t(*)[PART_LANES])(p->pairs[(g - d) / 2] + v * VL);
			float *unit = p->unit[(g - d) / GROUP] + v * VL;

			if (a->type == KV_F16)
				take_keys_f16(k + g * KV_TILE * 2,
					      end - g < GROUP ? end - g : GROUP, out, unit);
			else
				take_keys_q8_0(k + g / KV_Q8 * KV_Q8_K_BYTES, out, unit);
		}
	}
}

/* Units and rounders of a block's positions, and which of them are no numbers. */
struct positions {
	float unit[KV_BLOCK], rounder[KV_BLOCK];
	uint64_t none;
};

/* The largest of 16 halves. */
static inline uint16_t largest_half(__m256i x)
{
	__m128i most = _mm_max_epu16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));

	most = _mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi16(-1)));
	return (uint16_t)~_mm_extract_epi16(most, 0);
}

static void measure_values(const struct attend_args *a, struct positions *p)
{
	const size_t dims = attend_value_dim(a);
	const uint8_t *v = a->v;
	const int below = a->type == KV_F16 ? 28 : 21; /* q8_0: from the scales, 127 times which */
	uint16_t most[KV_BLOCK];

	for (size_t j = 0; a->type == KV_F16 && j < KV_BLOCK; j += 2) {
		__m512i two = _mm512_setzero_si512();

		for (size_t t = 0; t < dims / KV_TILE; t++)
			two = _mm512_max_epu16(two,
					       abs_halves(v + (t * KV_BLOCK + j) * KV_TILE * 2));
		most[j] = largest_half(_mm512_castsi512_si256(two));
		most[j + 1] = largest_half(_mm512_extracti64x4_epi64(two, 1));
	}
	for (size_t j = 0; a->type == KV_Q8_0 && j < KV_BLOCK; j += 2 * VL) {
		__m512i all = _mm512_setzero_si512();

		for (size_t g = 0; g < dims / KV_Q8; g++)
			all = _mm512_max_epu16(all, abs_halves(v + g * KV_Q8_V_BYTES + j * 2));
		_mm512_storeu_si512(most + j, all);
	}
	p->none = 0;
	for (size_t j = 0; j < KV_BLOCK; j += VL) {
		__m512i exponent = exponents(
			_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(most + j))));
		__mmask16 none = _mm512_cmpeq_epi32_mask(exponent, _mm512_set1_epi32(31));

		vf_store(p->unit + j, units_of(exponent, below));
		vf_store(p->rounder + j, rounders_of(exponent, below));
		p->none |= (uint64_t)none << j;
	}
}

/* Values of dimensions from 16 * @tile on, @n_tiles of them, all positions. */
static void take_values(const struct attend_args *a, const struct positions *positions, size_t tile,
			size_t n_tiles, struct part *p)
{
	const size_t half = KV_Q8 / KV_TILE;

	for (size_t v = 0; v < n_tiles; v++) {
		const size_t t = tile + v;
		const uint8_t *at = a->v;
		float scale[KV_BLOCK];

		if (a->type == KV_F16) {
			at += t * KV_BLOCK * KV_TILE * 2;
			for (size_t j = 0; j < KV_BLOCK; j += 2, at += 4 * KV_TILE) {
				vf even = vf_set1(positions->rounder[j]),
				   odd = vf_set1(positions->rounder[j + 1]);

				even = vf_add(vf_load_half(at), even);
				odd = vf_add(vf_load_half(at + 2 * KV_TILE), odd);
				_mm512_store_si512(p->pairs[j / 2] + v * VL, pairs_of(even, odd));
			}
			continue;
		}
		at += t / half * KV_Q8_V_BYTES;
		for (size_t j = 0; j < KV_BLOCK; j += VL)
			vf_store(scale + j, vf_load_half(at + j * 2));
		at += KV_BLOCK * 2 + t % half * KV_TILE;
		for (size_t j = 0; j < KV_BLOCK; j += 2, at += 2 * KV_Q8) {
			vf even = vf_set1(positions->rounder[j]),
			   odd = vf_set1(positions->rounder[j + 1]);

			even = vf_fma(vf_set1(scale[j]), vf_load_int8(at), even);
			odd = vf_fma(vf_set1(scale[j + 1]), vf_load_int8(at + KV_Q8), odd);
			_mm512_store_si512(p->pairs[j / 2] + v * VL, pairs_of(even, odd));
		}
	}
}

/*
 * total += @n_rows rows of a CHUNK of numbers x, @ld apart, times the part's pairs from @first on.
 */
ALWAYS void add_chunk(const unsigned n_rows, const unsigned n_vectors, const int16_t *x, size_t ld,
		      struct part *p, size_t first, vf (*total)[PART_VECTORS])
{
	const int32_t(*pairs)[PART_LANES] = (const int32_t(*)[PART_LANES])p->pairs + first;
	__m512i sum[PART_ROWS_TILE][PART_VECTORS], value[PART_VECTORS];

	for (unsigned i = 0; i < CHUNK / 2; i++) {
		_mm_prefetch((const char *)p->ahead, _MM_HINT_T1);
		p->ahead += p->step;
		for (unsigned v = 0; v < n_vectors; v++)
			value[v] = _mm512_load_si512(pairs[i] + v * VL);
		for (unsigned r = 0; r < n_rows; r++) {
			int32_t pair;
			__m512i factor;

			memcpy(&pair, x + r * ld + 2 * i, sizeof(pair));
			factor = _mm512_set1_epi32(pair);
			for (unsigned v = 0; v < n_vectors; v++)
				sum[r][v] = i ? _mm512_dpwssd_epi32(sum[r][v], factor, value[v])
					      : _mm512_madd_epi16(factor, value[v]);
		}
	}
	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < n_vectors; v++)
			total[r][v] = vf_add(total[r][v], _mm512_cvtepi32_ps(sum[r][v]));
}

/* s[r] goes on (@d > 0) or begins with @n dimensions from @d on */
ALWAYS void score_rows(const struct attend_args *a, const unsigned n_rows, size_t row,
		       struct part *p, size_t d, size_t n, float (*s)[KV_BLOCK])
{
	const size_t ld = 2 * a->head_dim; /* as numbers of 16 bits */
	const int16_t *q = query_numbers(a, row);
	const float *units = (const float *)(q + a->head_dim) + d / GROUP;
	vf score[PART_ROWS_TILE][PART_VECTORS], total[PART_ROWS_TILE][PART_VECTORS];

	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < PART_VECTORS; v++)
			score[r][v] = d ? vf_load(s[r] + v * VL) : vf_zero();
	for (size_t g = 0; g < n; g += GROUP) {
		const float *unit = p->unit[g / GROUP];
		const size_t end = n - g < GROUP ? n : g + GROUP;

		for (unsigned r = 0; r < n_rows; r++)
			for (unsigned v = 0; v < PART_VECTORS; v++)
				total[r][v] = vf_zero();
		for (size_t i = g; i < end; i += CHUNK)
			add_chunk(n_rows, PART_VECTORS, q + d + i, ld, p, i / 2, total);
		for (unsigned r = 0; r < n_rows; r++) {
			vf x = vf_set1(units[r * a->head_dim + g / GROUP]);

			for (unsigned v = 0; v < PART_VECTORS; v++)
				score[r][v] = vf_fma(total[r][v], vf_mul(x, vf_load(unit + v * VL)),
						     score[r][v]);
		}
	}
	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < PART_VECTORS; v++)
			vf_store(s[r] + v * VL, score[r][v]);
}

/* Weights of a row: numbers for every position of the block, 0 for those that it does not see. */
struct weights {
	int16_t number[KV_BLOCK];
};

/* acc = acc * correction + unit * sum of numbers, for @n_vectors vectors of dimensions */
ALWAYS void value_rows(const struct attend_args *a, const unsigned n_rows, const unsigned n_vectors,
		       size_t row, size_t tile, struct part *p, const struct weights *w,
		       const float *unit, const float *correction)
{
	const size_t dims = attend_value_dim(a);
	float *acc = a->acc + row * dims + tile * KV_TILE;
	vf total[PART_ROWS_TILE][PART_VECTORS];

	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < n_vectors; v++)
			total[r][v] = vf_zero();
	for (size_t j = a->first / CHUNK * CHUNK; j < a->n_valid; j += CHUNK)
		add_chunk(n_rows, n_vectors, w[0].number + j, KV_BLOCK, p, j / 2, total);
	for (unsigned r = 0; r < n_rows; r++)
		for (unsigned v = 0; v < n_vectors; v++) {
			float *to = acc + r * dims + v * VL;

			vf_store(to, vf_fma(total[r][v], vf_set1(unit[r]),
					    vf_mul(vf_load(to), vf_set1(correction[r]))));
		}
}

/* One function per number of rows: kept apart, so that the compiler gives each loop all registers. */
struct shape {
	unsigned n_rows;
	void (*score)(const struct attend_args *a, size_t row, struct part *p, size_t d, size_t n,
		      float (*s)[KV_BLOCK]);
	void (*value[PART_VECTORS])(const struct attend_args *a, size_t row, size_t tile,
				    struct part *p, const struct weights *w, const float *unit,
				    const float *correction); /* of so many vectors, less one */
};

#define SHAPES(X) X(6) X(4) X(2) X(1)
#define VALUE(rows, vectors)                                                                       \
	static void value_##rows##_##vectors(const struct attend_args *a, size_t row, size_t tile, \
					     struct part *p, const struct weights *w,              \
					     const float *unit, const float *correction)           \
	{                                                                                          \
		value_rows(a, rows, vectors, row, tile, p, w, unit, correction);                   \
	}
#define SHAPE(rows)                                                                       \
	static void score_##rows(const struct attend_args *a, size_t row, struct part *p, \
				 size_t d, size_t n, float(*s)[KV_BLOCK])                 \
	{                                                                                 \
		score_rows(a, rows, row, p, d, n, s);                                     \
	}                                                                                 \
	VALUE(rows, 1)                                                                    \
	VALUE(rows, 2)
#define SHAPE_ENTRY(rows) { rows, score_##rows, { value_##rows##_1, value_##rows##_2 } },

SHAPES(SHAPE)

/* most rows first, one row last */
static const struct shape shapes[] = { SHAPES(SHAPE_ENTRY) };

static const struct shape *shape_of(size_t rows)
{
	const struct shape *shape = shapes;

	/* eight go as four and four: two alone are few chains */
	while (shape->n_rows > rows || (rows == 8 && shape->n_rows == 6))
		shape++;
	return shape;
}

/* s of @rows rows from @row on */
static void score_all(const struct attend_args *a, size_t row, size_t rows, struct part *p,
		      float (*s)[KV_BLOCK])
{
	const size_t bytes = kv_block_bytes(a->type, a->head_dim) / KV_TILES * PART_VECTORS;
	size_t tile = a->first / KV_TILE / PART_VECTORS * PART_VECTORS;
	const struct shape *shape;

	for (; tile * KV_TILE < a->n_valid; tile += PART_VECTORS) {
		const uint8_t *next = (const uint8_t *)a->k + (tile / PART_VECTORS + 1) * bytes;

		if ((tile + PART_VECTORS) * KV_TILE >= a->n_valid)
			next = a->v;
		for (size_t d = 0, end; d < a->head_dim; d = end) {
			end = d + PART_DIMS < a->head_dim ? d + PART_DIMS : a->head_dim;
			take_keys(a, tile, d, end, p);
			fetch_during(p, next, bytes * (end - d) / a->head_dim, rows, (end - d) / 2);
			for (size_t r = 0; r < rows; r += shape->n_rows) {
				shape = shape_of(rows - r);
				shape->score(a, row + r, p, d, end - d,
					     (float(*)[KV_BLOCK])(s[r] + tile * KV_TILE));
			}
			next = p->ahead;
		}
	}
}

/* Softmax's weights of a row, times units of its positions -> numbers; @l: their sum, NaN if one is. */
static void weigh(const struct attend_args *a, const struct positions *positions, const float *s,
		  float l, struct weights *w, float *ret_unit)
{
	const uint64_t seen = (~0ULL >> (KV_BLOCK - a->n_valid)) & (~0ULL << a->first);
	vf x[KV_BLOCK / VL], most = vf_zero();
	float largest, inverse;

	for (unsigned v = 0; v < KV_BLOCK / VL; v++) {
		x[v] = _mm512_maskz_mul_ps((__mmask16)(seen >> v * VL), vf_load(s + v * VL),
					   vf_load(positions->unit + v * VL));
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
		_mm256_storeu_si256(
			(__m256i *)(w->number + v * VL),
			_mm512_cvtepi32_epi16(_mm512_cvtps_epi32(vf_mul(x[v], vf_set1(inverse)))));
}

/* @rows rows from @row on, at most PART_ROWS */
static void attend_part(const struct attend_args *a, size_t row, size_t rows)
{
	const size_t n_dim_tiles = attend_value_dim(a) / KV_TILE;
	const size_t bytes = kv_block_bytes(a->type, KV_Q8) * PART_VECTORS * KV_TILE / KV_Q8;
	float s[PART_ROWS][KV_BLOCK] __attribute__((aligned(64)));
	float correction[PART_ROWS], unit[PART_ROWS];
	struct weights weights[PART_ROWS];
	struct positions positions;
	const struct shape *shape;
	struct part part;

	score_all(a, row, rows, &part, s);
	for (size_t r = 0; r < rows; r += SOFTEN_ROWS)
		soften(a, rows - r < SOFTEN_ROWS ? (unsigned)(rows - r) : SOFTEN_ROWS, row + r,
		       s + r, correction + r);
	measure_values(a, &positions);
	for (size_t r = 0; r < rows; r++)
		weigh(a, &positions, s[r], a->l[row + r], &weights[r], &unit[r]);
	for (size_t tile = 0, n; tile < n_dim_tiles; tile += n) {
		const uint8_t *next = (const uint8_t *)a->v + (tile / PART_VECTORS + 1) * bytes;

		n = n_dim_tiles - tile < PART_VECTORS ? n_dim_tiles - tile : PART_VECTORS;
		take_values(a, &positions, tile, n, &part);
		fetch_during(&part, tile + 2 * PART_VECTORS <= n_dim_tiles ? next : a->next_k,
			     bytes, rows, KV_BLOCK / 2);
		for (size_t r = 0; r < rows; r += shape->n_rows) {
			shape = shape_of(rows - r);
			shape->value[n - 1](a, row + r, tile, &part, weights + r, unit + r,
					    correction + r);
		}
	}
}

static void attend(const struct attend_args *a)
{
	for (size_t row = 0, rows; row < a->rows; row += rows) {
		rows = a->rows - row < PART_ROWS ? a->rows - row : PART_ROWS;
		attend_part(a, row, rows);
	}
}

#endif
