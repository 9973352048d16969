/* SPDX-License-Identifier: MIT */
/*
 * kernels/quant.c: look-ups in the table of block formats (see quant.h). Constant data, any thread.
 */
#include "kernels/quant.h"

#include <stddef.h>

#define ROW(name, id, block, bytes, act) { id, #name, block, bytes, act },

static const struct quant_format formats[] = { QUANT_FORMATS(ROW) };

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
