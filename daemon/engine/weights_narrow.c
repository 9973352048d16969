/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/weights_narrow.c: dense matrices in F32 that hold nothing but values of BF16 become BF16 (weights.h).
 *
 * A value of BF16 is the upper half of the same one in F32, so this is exact, and told by the lower halves alone.
 */
#include "engine/weights.h"

#include <string.h>

#include "base/num.h"
#include "kernels/quant.h"
#include "store/warm.h"

#define AT_ONCE 1024 /* values */

static bool all_bf16(const uint8_t *data, uint64_t n)
{
	uint32_t v[AT_ONCE], low = 0;

	for (uint64_t i = 0; i < n && !low; i += AT_ONCE) {
		const size_t some = u64_min(n - i, AT_ONCE);

		memcpy(v, data + i * sizeof(*v), some * sizeof(*v));
		for (size_t j = 0; j < some; j++)
			low |= v[j] & 0xffff;
	}
	return !low;
}

/* @n values of F32 at @data as BF16, in place */
static void to_bf16(uint8_t *data, uint64_t n)
{
	uint32_t v[AT_ONCE];
	uint16_t half[AT_ONCE];

	for (uint64_t i = 0; i < n; i += AT_ONCE) {
		const size_t some = u64_min(n - i, AT_ONCE);

		memcpy(v, data + i * sizeof(*v), some * sizeof(*v));
		for (size_t j = 0; j < some; j++)
			half[j] = (uint16_t)(v[j] >> 16);
		memcpy(data + i * sizeof(*half), half, some * sizeof(*half));
	}
}

/* Bytes less to read. */
static uint64_t narrow(struct weights *w, uint32_t part, struct wmat *m)
{
	const uint64_t n = (uint64_t)m->n_in * m->n_out;
	uint8_t *base = arena_base(w->arena);

	if (m->type != QUANT_F32 || !all_bf16(m->data, n))
		return 0;
	/* before the first byte changes: who finds this memory after a kill shall read the file */
	if (w->warm)
		warm_set_part(w->warm, part, false);
	to_bf16(base + (m->data - base), n);
	m->type = QUANT_BF16;
	m->row_bytes = m->n_in * sizeof(uint16_t);
	m->act = quant_format(QUANT_BF16)->act;
	return n * sizeof(uint16_t);
}

/* @part counts weights in the order in which weights.c walks over them. */
static uint64_t narrow_roles(struct weights *w, const struct weight *src, struct wmat *dst,
			     enum role skip, uint32_t *part)
{
	uint64_t bytes = 0;

	for (unsigned role = 0; role < ROLE_NR; role++) {
		if (role == skip || !src[role].n_runs)
			continue;
		if (role_info[role].kind == ROLE_MATRIX)
			bytes += narrow(w, *part, &dst[role]);
		++*part;
	}
	return bytes;
}

uint64_t weights_narrow(struct weights *w, const struct model *m)
{
	const bool tied = model_is_tied(m);
	uint32_t part = 0;
	uint64_t bytes;

	/* rows would leave the node whose thread multiplies them */
	if (w->team)
		return 0;
	bytes = narrow_roles(w, m->w, w->model.w, tied ? ROLE_OUTPUT : ROLE_NR, &part);
	if (tied)
		w->model.w[ROLE_OUTPUT] = w->model.w[ROLE_TOKEN_EMBD];
	for (uint32_t i = 0; i < m->n_layers; i++)
		bytes += narrow_roles(w, m->layers[i].w, w->layers[i].w, ROLE_NR, &part);
	return bytes;
}
