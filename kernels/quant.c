/* SPDX-License-Identifier: MIT */
/*
 * kernels/quant.c: the table of block formats (see quant.h). Formats with ACT_NONE are known so that
 * a file that holds them is measured and refused by name; nothing here or in cpu/ computes with
 * them. An id that is missing has been withdrawn from ggml or is not known to us. Constant data, any
 * thread.
 */
#include "kernels/quant.h"

#include <stddef.h>

static const struct quant_format formats[] = {
	{ QUANT_F32, "F32", 1, 4, ACT_F32 },
	{ QUANT_F16, "F16", 1, 2, ACT_F32 },
	{ QUANT_Q4_0, "Q4_0", 32, 18, ACT_Q8_0 },
	{ QUANT_Q4_1, "Q4_1", 32, 20, ACT_Q8_0 },
	{ QUANT_Q5_0, "Q5_0", 32, 22, ACT_Q8_0 },
	{ QUANT_Q5_1, "Q5_1", 32, 24, ACT_Q8_0 },
	{ QUANT_Q8_0, "Q8_0", 32, 34, ACT_Q8_0 },
	{ 9, "Q8_1", 32, 36, ACT_NONE },
	{ QUANT_Q2_K, "Q2_K", 256, 84, ACT_Q8_K },
	{ QUANT_Q3_K, "Q3_K", 256, 110, ACT_Q8_K },
	{ QUANT_Q4_K, "Q4_K", 256, 144, ACT_Q8_K },
	{ QUANT_Q5_K, "Q5_K", 256, 176, ACT_Q8_K },
	{ QUANT_Q6_K, "Q6_K", 256, 210, ACT_Q8_K },
	{ 15, "Q8_K", 256, 292, ACT_NONE },
	{ 16, "IQ2_XXS", 256, 66, ACT_NONE },
	{ 17, "IQ2_XS", 256, 74, ACT_NONE },
	{ 18, "IQ3_XXS", 256, 98, ACT_NONE },
	{ 19, "IQ1_S", 256, 50, ACT_NONE },
	{ QUANT_IQ4_NL, "IQ4_NL", 32, 18, ACT_Q8_0 },
	{ 21, "IQ3_S", 256, 110, ACT_NONE },
	{ 22, "IQ2_S", 256, 82, ACT_NONE },
	{ QUANT_IQ4_XS, "IQ4_XS", 256, 136, ACT_Q8_K },
	{ 24, "I8", 1, 1, ACT_NONE },
	{ 25, "I16", 1, 2, ACT_NONE },
	{ 26, "I32", 1, 4, ACT_NONE },
	{ 27, "I64", 1, 8, ACT_NONE },
	{ 28, "F64", 1, 8, ACT_NONE },
	{ 29, "IQ1_M", 256, 56, ACT_NONE },
	{ QUANT_BF16, "BF16", 1, 2, ACT_F32 },
	{ 34, "TQ1_0", 256, 54, ACT_NONE },
	{ 35, "TQ2_0", 256, 66, ACT_NONE },
	{ QUANT_MXFP4, "MXFP4", 32, 17, ACT_Q8_0 },
	{ 40, "NVFP4", 64, 36, ACT_NONE },
	{ 41, "Q1_0", 128, 18, ACT_NONE },
	{ 42, "Q2_0", 64, 18, ACT_NONE },
};

const struct quant_format *quant_format(uint32_t id)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (formats[i].id == id)
			return &formats[i];
	return NULL;
}

const char *quant_name(uint32_t id)
{
	const struct quant_format *f = quant_format(id);

	return f ? f->name : "unknown";
}

uint64_t quant_row_bytes(uint32_t id, uint64_t n)
{
	const struct quant_format *f = quant_format(id);

	if (!f || n % f->block)
		return 0;
	return n / f->block * f->bytes;
}
