/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/cpu.h: arithmetic on quantised weights, in three levels picked at run time.
 *
 * A level is a const table of functions. Products follow the law of kernels/quant.h: all levels give
 * the same bits, and y[c][r] depends only on row r and column c, never on how many rows or columns
 * were asked for together, on the split of rows over threads, or on alignment. That is what makes
 * prefill in chunks, decode, batches of sequences and any thread count agree bit for bit. (The float
 * functions of fops.h may differ between levels in the last bits, but for enum glu.)
 * Built with -ffp-contract=off: a fused multiply-add is always written as one.
 *
 * All functions are reentrant, allocate nothing, and never read outside the ranges stated (weights
 * lie unaligned, directly before unmapped memory in the worst case).
 */
#ifndef SLUICE_KERNELS_CPU_CPU_H
#define SLUICE_KERNELS_CPU_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/quant.h"

/* For what its caller's constants make another function of. */
#define FORCE_INLINE static inline __attribute__((always_inline))

enum cpu_level { CPU_SCALAR, CPU_AVX2, CPU_AVX512, CPU_LEVEL_NR };

/*
 * One product Y = W X for a range of rows and any number of columns (tokens).
 * W: rows of @n weights of format @type, row r at @w + r * @row_bytes, any alignment.
 * X: column c at @x[c]: the output of act_quantize for quant_format(type)->act, 64-byte aligned
 *    (ACT_F32: plain float[n], 64-byte aligned).
 * Y: y[c][r] is written for r in [row0, row1), nothing else.
 */
struct matmul {
	uint32_t type;
	const void *w;
	size_t row_bytes;
	size_t n; /* multiple of the format's block */
	size_t row0, row1;
	const void *const *x;
	float *const *y;
	size_t cols;
	void *scratch; /* one thread's own, matmul_scratch_bytes(n) bytes, 64-byte aligned */
	/*
	 * What this thread is likely to read after the last row, to be asked for in time; NULL: not known. Any
	 * address, mapped or not. A hint for speed, for few columns.
	 */
	const void *next;
};

/* Bytes before their use that products ask the memory for weights, at every level that does. */
#define MATMUL_AHEAD 12288

struct cpu_ops {
	enum cpu_level level;
	const char *name; /* "scalar", "avx2", "avx512" */

	/* n weights of @type (a multiple of its block) -> float; exact per docs/models.md 1.4 */
	void (*dequantize)(uint32_t type, const void *src, float *dst, size_t n);

	/* bytes of one activation vector of @n values in @kind, a multiple of 64 */
	size_t (*act_bytes)(enum act_kind kind, size_t n);

	/*
	 * Quantises @n floats (a multiple of 32; of 256 for ACT_Q8_K) to @dst (64-byte aligned,
	 * act_bytes long). The layout belongs to the level: what one level wrote only that level
	 * reads. ACT_F32 copies. The vector may be quantised in pieces by several threads:
	 * act_quantize_part does elements [first, first + count), both multiples of 256 (the last
	 * piece may be shorter), of a vector of n; the bytes equal those of the whole call.
	 */
	void (*act_quantize)(enum act_kind kind, const float *x, size_t n, void *dst);
	void (*act_quantize_part)(enum act_kind kind, const float *x, size_t n, void *dst,
				  size_t first, size_t count);

	/* see struct matmul; every format whose act is not ACT_NONE */
	void (*matmul)(const struct matmul *m);
	size_t (*matmul_scratch_bytes)(size_t n);
	/*
	 * Rows are unpacked in tiles of this many when cols is large: split work between threads at
	 * multiples of it (a hint for speed; any split gives the same bits).
	 */
	unsigned row_tile;
};

extern const struct cpu_ops cpu_ops_scalar;
#if defined(__x86_64__)
extern const struct cpu_ops cpu_ops_avx2;
extern const struct cpu_ops cpu_ops_avx512; /* F, BW, DQ, VL, VNNI */
#endif

/* What this CPU and its operating system can run (cpuid, xgetbv). */
bool cpu_level_available(enum cpu_level level);

/* The table of @level; NULL where this CPU cannot run it. */
const struct cpu_ops *cpu_ops_get(enum cpu_level level);

/* The fastest level available here. */
const struct cpu_ops *cpu_ops_best(void);

/* "auto" | "scalar" | "avx2" | "avx512" -> 0 and a table; -EINVAL unknown; -ENOTSUP not here. */
int cpu_ops_parse(const char *name, const struct cpu_ops **ret_ops);

#endif
