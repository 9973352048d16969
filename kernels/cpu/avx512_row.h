/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx512_row.h: what the row products of the AVX-512 level share.
 *
 * A row is read once, front to back; memory is asked for ROW_AHEAD bytes before it is used, which
 * runs into the rows that follow, behind the last ones into what the caller says comes next (a prefetch
 * never faults), and into the second cache level: asked for in the first, Q8_0 from memory took 1.6 times
 * as long on Zen 4, Q4_K and Q6_K 1.3 times. Each super-block asks for its part: four at once cost 3 to 6 %
 * from memory. Four super-blocks are multiplied before their lanes are added up together: that costs a quarter of
 * doing it one by one.
 */
#ifndef SLUICE_KERNELS_CPU_AVX512_ROW_H
#define SLUICE_KERNELS_CPU_AVX512_ROW_H

#include "kernels/cpu/avx512_tile.h"

#define ROW_AHEAD  MATMUL_AHEAD
#define ASK_NEARER 1152 /* bytes: where a line is asked for again */

/*
 * What is asked for while the rows at @w are read, the last of which end at @end: what lies @far behind them,
 * and where that is past the end, as far in @next (NULL: past the end).
 */
static inline const char *asked_for(const uint8_t *w, size_t far, const uint8_t *end,
				    const void *next)
{
	const size_t left = (size_t)(end - w);

	return next && left <= far ? (const char *)next + (far - left) : (const char *)w + far;
}

/* @ahead: of the row, see struct row_sums */
static inline __attribute__((always_inline)) void prefetch_ahead(const uint8_t *w, uintptr_t ahead,
								 size_t bytes)
{
	const char *at = (const char *)((uintptr_t)w + ahead);

#pragma GCC unroll 16
	for (size_t i = 0; i < bytes; i += 64)
		_mm_prefetch(at + i, _MM_HINT_T1);
}

FORCE_INLINE uint32_t word_at(const uint8_t *w)
{
	uint32_t u;

	memcpy(&u, w, sizeof(u));
	return u;
}

/*
 * 64 bytes to a register. The compiler cannot look through it; it would load them again for each operation
 * they are used in, two clocks where they cross a line.
 */
FORCE_INLINE __m512i load_once(const uint8_t *w)
{
	__m512i v = _mm512_loadu_si512(w);

	__asm__("" : "+v"(v));
	return v;
}

/* lane L of the result: sums of lane L of s[0], s[1], s[2], s[3] */
static inline __m512i add_words(const __m512i s[4])
{
	__m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(s[0], s[1]),
				     _mm512_unpackhi_epi32(s[0], s[1]));
	__m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(s[2], s[3]),
				     _mm512_unpackhi_epi32(s[2], s[3]));

	return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* the four lanes added up */
static inline __m128i add_lanes(__m512i s)
{
	__m256i a = _mm256_add_epi32(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));

	return _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
}

/* sums of s[0], s[1], s[2], s[3] */
static inline void store_sums(int32_t *to, const __m512i s[4])
{
	_mm_storeu_si128((void *)to, add_lanes(add_words(s)));
}

/* of 1..ROW_COLS columns; five and seven have one more, see rows_avx512.c */
#define ROW_FUNCTIONS(name)                                                                    \
	{                                                                                      \
		name##_1, name##_2, name##_3, name##_4, name##_6, name##_6, name##_8, name##_8 \
	}

/* Row functions for 1..ROW_COLS columns from @group, which does @count <= 4 super-blocks. */
#define ROW_K_COLS(name, group, bytes, cols)                                             \
	static void name##_##cols(const uint8_t *w, const void *const *x, size_t blocks, \
				  const struct row_sums *out)                            \
	{                                                                                \
		const struct act_k *a[ROW_COLS] = { 0 };                                 \
		size_t b = 0;                                                            \
                                                                                         \
		for (int c = 0; c < (cols); c++)                                         \
			a[c] = x[c];                                                     \
		for (; b + 4 <= blocks; b += 4)                                          \
			group(w + b * (bytes), a, cols, b, 4, out);                      \
		if (blocks - b == 3)                                                     \
			group(w + b * (bytes), a, cols, b, 3, out);                      \
		else if (blocks - b == 2)                                                \
			group(w + b * (bytes), a, cols, b, 2, out);                      \
		else if (blocks - b == 1)                                                \
			group(w + b * (bytes), a, cols, b, 1, out);                      \
	}
#define ROW_K(name, group, bytes)         \
	ROW_K_COLS(name, group, bytes, 1) \
	ROW_K_COLS(name, group, bytes, 2) \
	ROW_K_COLS(name, group, bytes, 3) \
	ROW_K_COLS(name, group, bytes, 4) \
	ROW_K_COLS(name, group, bytes, 6) \
	ROW_K_COLS(name, group, bytes, 8) \
	const row_fn avx512_row_##name[ROW_COLS] = ROW_FUNCTIONS(name);

/* For up to four columns alone: more are faster in tiles. */
#define ROW_K_FOUR(name, group, bytes)    \
	ROW_K_COLS(name, group, bytes, 1) \
	ROW_K_COLS(name, group, bytes, 2) \
	ROW_K_COLS(name, group, bytes, 3) \
	ROW_K_COLS(name, group, bytes, 4) \
	const row_fn avx512_row_##name[ROW_COLS] = { name##_1, name##_2, name##_3, name##_4 };

/* Where a group of super-blocks is in a run of rows, see run_fn. */
struct run_at {
	size_t block;	 /* of the run */
	size_t act, end; /* bytes from the row's first activations; of all of them */
};

FORCE_INLINE const struct act_k *run_act(const struct act_k *x, struct run_at at)
{
	return (const void *)((const char *)x + at.act);
}

/* at.act of the next super-block: behind a row's last one the next row begins */
FORCE_INLINE size_t run_next(struct run_at at)
{
	const size_t next = at.act + sizeof(struct act_k);

	return next == at.end ? 0 : next;
}

/* s[0]: the sums of two super-blocks, two words of each lane for either; s[1]: of the next two */
FORCE_INLINE void store_pairs(int32_t *to, const __m512i s[2])
{
	const __m512 a = _mm512_castsi512_ps(s[0]), b = _mm512_castsi512_ps(s[1]);
	const __m512 even = _mm512_shuffle_ps(a, b, 0x88), odd = _mm512_shuffle_ps(a, b, 0xdd);

	_mm_storeu_si128((void *)to, add_lanes(_mm512_add_epi32(_mm512_castps_si512(even),
								_mm512_castps_si512(odd))));
}

/*
 * Memory for piece @i, of @bytes, of what is read at @w, each line three times, a little nearer each time: of requests that
 * are made as fast as by these kernels some in a hundred never bring their line, and one that is missing costs
 * more than a hundred requests.
 */
FORCE_INLINE void run_prefetch(const uint8_t *w, uintptr_t ahead, size_t i, size_t bytes)
{
	const char *at = (const char *)((uintptr_t)w + ahead);

#pragma GCC unroll 16
	for (size_t k = (i * bytes + 63) / 64; 64 * k < (i + 1) * bytes; k++) {
		_mm_prefetch(at + 64 * k, _MM_HINT_T1);
		_mm_prefetch(at + 64 * k - ASK_NEARER, _MM_HINT_T1);
		_mm_prefetch(at + 64 * k - 2 * ASK_NEARER, _MM_HINT_T1);
	}
}

/* Functions for runs of rows from @group, which does @count <= 4 super-blocks and returns run_at.act behind them. */
#define RUN_K_COLS(name, group, bytes, cols)                                                 \
	static void name##_run_##cols(const uint8_t *w, const void *const *x, size_t blocks, \
				      size_t count, const struct row_sums *out)              \
	{                                                                                    \
		struct run_at at = { .end = blocks * sizeof(struct act_k) };                 \
		struct row_sums to[cols];                                                    \
		const struct act_k *a[ROW_COLS] = { 0 };                                     \
                                                                                             \
		for (int c = 0; c < (cols); c++) {                                           \
			a[c] = x[c];                                                         \
			to[c] = out[c];                                                      \
		}                                                                            \
		for (; at.block + 4 <= count; at.block += 4, w += 4 * (bytes))               \
			at.act = group(w, a, cols, at, 4, to);                               \
		if (count - at.block == 3)                                                   \
			group(w, a, cols, at, 3, to);                                        \
		else if (count - at.block == 2)                                              \
			group(w, a, cols, at, 2, to);                                        \
		else if (count - at.block == 1)                                              \
			group(w, a, cols, at, 1, to);                                        \
	}
#define RUN_K_FOUR(name, group, bytes)                                                         \
	RUN_K_COLS(name, group, bytes, 1)                                                      \
	RUN_K_COLS(name, group, bytes, 2)                                                      \
	RUN_K_COLS(name, group, bytes, 3)                                                      \
	RUN_K_COLS(name, group, bytes, 4)                                                      \
	const run_fn avx512_run_##name[ROW_COLS] = { name##_run_1, name##_run_2, name##_run_3, \
						     name##_run_4 };
#define RUN_K_ONE(name, group, bytes)     \
	RUN_K_COLS(name, group, bytes, 1) \
	const run_fn avx512_run_##name[ROW_COLS] = { name##_run_1 };

/* For one column alone: more are faster by few_k_avx512.h. */
#define ROW_K_ONE(name, group, bytes)     \
	ROW_K_COLS(name, group, bytes, 1) \
	const row_fn avx512_row_##name[ROW_COLS] = { name##_1 };

#endif
