/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/quant.cuh: sizes of blocks where a compiler needs them, from the one table in quant.h.
 * Constant expressions, host and device. Included by .cu files after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_QUANT_CUH
#define SLUICE_KERNELS_CUDA_QUANT_CUH

#include "kernels/cuda/ops.h"
#include "kernels/quant.h"

struct quant_shape {
	unsigned block, bytes; /* weights and bytes of a block; 0 where the id is unknown */
	enum act_kind act;     /* ACT_NONE: nothing computes with it here */
};

/* Formats that only the CPU computes with: those whose values come from tables, and ternary ones. */
static constexpr CUDA_BOTH bool quant_cpu_alone(uint32_t type)
{
	return (type >= QUANT_IQ2_XXS && type <= QUANT_IQ1_S) || type == QUANT_IQ3_S ||
	       type == QUANT_IQ2_S || type == QUANT_IQ1_M || type == QUANT_TQ1_0 ||
	       type == QUANT_TQ2_0;
}

#define QUANT_CASE_(name, id, block, bytes, act) \
	case id:                                 \
		return { block, bytes, quant_cpu_alone(id) ? ACT_NONE : act };

static constexpr CUDA_BOTH struct quant_shape quant_shape(uint32_t type)
{
	switch (type) {
		QUANT_FORMATS(QUANT_CASE_)
	}
	return { 0, 0, ACT_NONE };
}

#endif
