/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/grids.h: the tables of values that indices of IQ1, IQ2 and IQ3 blocks point into; the
 * first value is the lowest byte. Constant data, read by every level, any thread. What the tables are
 * and where they come from is said in grids_iq*.c.
 */
#ifndef SLUICE_KERNELS_CPU_GRIDS_H
#define SLUICE_KERNELS_CPU_GRIDS_H

#include <stdint.h>

/* magnitudes 8, 25, 43: eighths of what is multiplied with d */
extern const uint64_t grid_iq2_xxs[256], grid_iq2_xs[512], grid_iq2_s[1024];
/* magnitudes 4, 12, .. 52, 62: quarters */
extern const uint32_t grid_iq3_xxs[256];
/* magnitudes 1, 3, .. 15 */
extern const uint32_t grid_iq3_s[512];
/* signed -8, 0, 8: eighths */
extern const uint64_t grid_iq1[2048];

/*
 * The same, by number instead of by magnitude, in words for vpermw (iq_rows_avx512.c). IQ2: eight times
 * two bits, in each nibble of a byte two values, IQ3: four times three bits, in each nibble one; the even
 * values in the low byte, the odd ones in the same places of the high one. IQ2_XXS, IQ2_XS: values 0, 4,
 * 2, 6 from the lowest bits on; IQ2_S: 2, 0, 6, 4; IQ3: 0, 2.
 */
extern const uint16_t packed_iq2_xxs[256], packed_iq2_xs[512], packed_iq2_s[1024];
extern const uint16_t packed_iq3_xxs[256], packed_iq3_s[512];
/* IQ1: eight times two bits, 0, 1, 2 for -8, 0, 8; the first value lowest; a word more may be read */
extern const uint16_t words_iq1[2048 + 1];

/* Seven signs and the eighth, which makes the number of negative ones even. */
static inline uint32_t grid_signs(uint32_t seven)
{
	return seven | (uint32_t)__builtin_parity(seven) << 7;
}

#endif
