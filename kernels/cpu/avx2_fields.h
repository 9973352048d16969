/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_fields.h: four indices of eight or sixteen bits out of one word at the AVX2 level, an
 * instruction each. Included by avx2_parts.h and rows_iq1_avx2.c; pure, any thread.
 *
 * A core loads two vectors and three words a clock at most, so that an index loaded by itself costs as much as
 * what it looks up. By assembly, since gcc copies, shifts and masks for each index.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_FIELDS_H
#define SLUICE_KERNELS_CPU_AVX2_FIELDS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* Where a word's second and third field are, as bextr takes it: their bits, above the first one's place. */
struct fields {
	uint64_t second, third;
};

/* Fields of 8 bits (@bytes) or 16, in registers: made once, before a loop. */
FORCE_INLINE struct fields fields_of(bool bytes)
{
	const uint64_t bits = bytes ? 8 : 16;
	struct fields f = { bits << 8 | bits, bits << 8 | 2 * bits };

	__asm__("" : "+r"(f.second), "+r"(f.third));
	return f;
}

FORCE_INLINE uint64_t field(uint64_t v, uint64_t where)
{
	uint64_t r;

	__asm__("bextr %2, %1, %0" : "=r"(r) : "r"(v), "r"(where) : "cc");
	return r;
}

/* The four bytes at @p -> @i; @f: fields_of(true). */
FORCE_INLINE void four_bytes(const uint8_t *p, const struct fields *f, uint64_t i[4])
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	i[0] = (uint8_t)v;
	i[1] = field(v, f->second);
	i[2] = field(v, f->third);
	i[3] = v >> 24;
}

/* The four words at @p -> @i; @f: fields_of(false). */
FORCE_INLINE void four_words(const uint16_t *p, const struct fields *f, uint64_t i[4])
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	i[0] = (uint16_t)v;
	i[1] = field(v, f->second);
	i[2] = field(v, f->third);
	i[3] = v >> 48;
}

#endif
