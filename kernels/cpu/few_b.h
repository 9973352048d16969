/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_b.h: what few_b_avx2.c and few_b_avx512.c share: how the rows of formats with blocks of 32
 * are walked side by side, FEW_ROWS of them at most (each level says how many before it includes this). Any
 * thread.
 */
#ifndef SLUICE_KERNELS_CPU_FEW_B_H
#define SLUICE_KERNELS_CPU_FEW_B_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/cpu.h"

#define STEP 8 /* blocks: those of a group of activations */

enum b_form { FORM_NIBBLE, FORM_TABLE, FORM_FIVE, FORM_EIGHT };

/* The fronts of a step's blocks, rows side by side; as many bytes of each as the format says. */
union heads {
	uint16_t two[STEP][FEW_ROWS];
	uint32_t four[STEP][FEW_ROWS];
	uint64_t eight[STEP][FEW_ROWS];
};

/* Where a step's weights are: row r at w + r * stride, or fewer blocks of each. */
struct place {
	const uint8_t *w;
	size_t stride;
	unsigned blocks;
	size_t rows; /* that are walked together */
};

FORCE_INLINE void collect_block(size_t head, const uint8_t *w, unsigned j, size_t r,
				union heads *to)
{
	if (head == 2)
		memcpy(&to->two[j][r], w, 2);
	else if (head == 4)
		memcpy(&to->four[j][r], w, 4);
	else
		memcpy(&to->eight[j][r], w, 8);
}

/* The first @head bytes, 2, 4 or 8, of blocks of @bytes; both are constants after inlining. */
FORCE_INLINE void collect(size_t head, size_t bytes, const struct place *p, union heads *to)
{
	const uint8_t *w = p->w;

#pragma GCC unroll 1
	for (size_t r = 0; r < p->rows; r++, w += p->stride) {
		if (p->blocks == STEP) {
#pragma GCC unroll 8
			for (unsigned j = 0; j < STEP; j++)
				collect_block(head, w + j * bytes, j, r, to);
			continue;
		}
#pragma GCC unroll 1
		for (unsigned j = 0; j < p->blocks; j++)
			collect_block(head, w + j * bytes, j, r, to);
	}
}

/* Rows that are walked together. */
struct rows {
	const uint8_t *w;
	size_t row_bytes, n, most, blocks; /* n <= most <= FEW_ROWS */
	uint8_t *spare;			   /* FEW_ROWS times spare_bytes, for fewer rows */
	size_t spare_bytes;		   /* a step of a row, at least */
};

/* Where step @s lies: of fewer rows than @most in a copy, the last of them again in place of the rest. */
FORCE_INLINE struct place place_of(const struct rows *k, size_t s, size_t bytes)
{
	struct place p = { k->w + s * STEP * bytes, k->row_bytes,
			   (unsigned)u64_min(STEP, k->blocks - s * STEP), k->most };

	if (k->n < k->most) {
		for (size_t r = 0; r < k->most; r++)
			memcpy(k->spare + r * k->spare_bytes,
			       p.w + u64_min(r, k->n - 1) * k->row_bytes, p.blocks * bytes);
		p.w = k->spare;
		p.stride = k->spare_bytes;
	}
	return p;
}

#endif
