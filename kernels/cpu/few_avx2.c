/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/few_avx2.c: columns laid side by side for a pass over streamed rows (avx2_few.h). Called by
 * the formats' row functions, any thread, into the call's scratch.
 */
#include "kernels/cpu/avx2_level.h"

static void pack_sums(struct few_super *to, const struct act_super *const *x, int cols, size_t b)
{
	__m256i v[8];

	for (int c = 0; c < AVX2_FEW; c++)
		v[c] = c < cols ? load32(x[c][b].sum) : _mm256_setzero_si256();
	transpose8(v);
	for (int i = 0; i < 8; i++)
		_mm256_storeu_si256((__m256i *)to->pair[i], v[i]);
}

void avx2_pack_super(const struct matmul *m, size_t col, int cols)
{
	const struct act_super *x[AVX2_FEW];
	struct few_super *to = m->scratch;

	for (int c = 0; c < cols; c++)
		x[c] = m->x[col + (size_t)c];
	for (size_t b = 0; b < m->n / 256; b++, to++) {
		for (int c = 0; c < AVX2_FEW; c++)
			to->d[c] = c < cols ? x[c][b].d : 0;
		for (int c = 0; c < AVX2_FEW; c++)
			to->total[c] = c < cols ? x[c][b].total : 0;
		for (int c = 0; c < AVX2_FEW; c++) {
			if (c < cols)
				memcpy(to->q[c], x[c][b].q, sizeof(to->q[c]));
			else
				memset(to->q[c], 0, sizeof(to->q[c]));
		}
		pack_sums(to, x, cols, b);
	}
}
