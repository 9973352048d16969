/* SPDX-License-Identifier: MIT */
/* daemon/model/bytes.c: how many bytes of a model a layer has and a token reads, see model.h. */
#include "model/model.h"

uint64_t model_layer_dense_bytes(const struct model *m, uint32_t layer)
{
	uint64_t bytes = 0;

	for (unsigned role = 0; role < ROLE_NR; role++)
		bytes += weight_bytes(&m->layers[layer].w[role]);
	return bytes;
}

uint64_t model_dense_bytes_per_token(const struct model *m)
{
	const struct weight *table = &m->w[ROLE_TOKEN_EMBD];

	return model_is_tied(m) ? m->dense_bytes
				: m->dense_bytes - (weight_bytes(table) - table->row_bytes);
}
