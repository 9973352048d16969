/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/vbmi.h: what the AVX-512 level has besides for CPUs with VBMI (Ice Lake, Zen 4), for
 * ops_avx512.c, and how tests do without it. Any thread.
 */
#ifndef SLUICE_KERNELS_CPU_VBMI_H
#define SLUICE_KERNELS_CPU_VBMI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct row_sums;

/* For tests: multiply as on a CPU without VBMI (the bits are the same). Set while no product runs. */
extern bool cpu_avx512_without_vbmi;

/* iq2_rows_vbmi.c: as avx512_row_*; they take what avx512_pack_iq() packs */
typedef void (*vbmi_row_fn)(const uint8_t *w, const void *const *x, size_t blocks,
			    const struct row_sums *out);
extern const vbmi_row_fn vbmi_row_iq2_xs[8], vbmi_row_iq2_s[8];

/* iq3_rows_vbmi.c */
extern const vbmi_row_fn vbmi_row_iq3_xxs[8], vbmi_row_iq3_s[8];
void vbmi_pack_iq3(const void *x, size_t blocks, void *to);

/*
 * IQ1 for vpermi2b (few_iq1_vbmi.c): two bits a value, less one; values 0 to 3 of each entry, and values 4
 * to 7 of sixteen neighbours: @first for @count of them, @last for the rest.
 */
extern const uint8_t packed_iq1_low[2048];
struct uppers_iq1 {
	uint8_t first[128], last[128], count[128];
};
extern const struct uppers_iq1 packed_iq1_high;

/* packed_iq2_*, packed_iq3_* of grids.h: low bytes, high bytes (iq2_rows_vbmi.c, iq3_rows_vbmi.c, few_iq_vbmi.c) */
extern const uint8_t bytes_iq2_xxs[2][256], bytes_iq2_xs[2][512], bytes_iq2_s[2][1024];
extern const uint8_t bytes_iq3_xxs[2][256], bytes_iq3_s[2][512];

#endif
