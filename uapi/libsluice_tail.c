/* SPDX-License-Identifier: MIT */
/*
 * uapi/libsluice_tail.c: what travels behind the prompt of a GENERATE: a draft, biases, texts that end a
 * repetition, the text of a form. See libsluice_wire.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libsluice_wire.h"

int sluice__join_tail(const struct sluice_settings *how, const void **prompt, size_t *prompt_bytes,
		      struct sluice_ask_generate *g, void **owned)
{
	size_t draft = how->draft ? how->n_draft : 0, texts = how->dry_breakers_bytes;
	size_t bias = how->bias ? how->n_bias : 0, padded = (texts + 3) / 4 * 4, bytes;
	size_t form = how->form && how->form_text ? how->form_bytes : 0;
	uint8_t *all;

	if (how->reserved || form > SLUICE_FORM_MAX || !how->form != !form)
		return -EDOM;
	if (bias > SLUICE_BIAS_MAX || padded > SLUICE_BREAKERS_MAX ||
	    (texts && (!how->dry_breakers || how->dry_breakers[texts - 1])))
		return -EINVAL;
	if (draft > SLUICE_PAYLOAD_MAX / sizeof(uint32_t))
		draft = SLUICE_PAYLOAD_MAX /
			sizeof(uint32_t); /* refused as a draft that is too long */
	bytes = draft * sizeof(uint32_t) + bias * sizeof(struct sluice_bias) + padded +
		(form + 3) / 4 * 4;
	if (!bytes || *prompt_bytes > SLUICE_PAYLOAD_MAX)
		return 0; /* a prompt that is too long is refused as ever */
	all = calloc(1, *prompt_bytes + bytes);
	if (!all)
		return -ENOMEM;
	if (*prompt_bytes)
		memcpy(all, *prompt, *prompt_bytes);
	*prompt = *owned = all;
	all += *prompt_bytes;
	if (draft)
		memcpy(all, how->draft, draft * sizeof(uint32_t));
	all += draft * sizeof(uint32_t);
	if (bias)
		memcpy(all, how->bias, bias * sizeof(struct sluice_bias));
	all += bias * sizeof(struct sluice_bias);
	if (texts)
		memcpy(all, how->dry_breakers, texts);
	if (form)
		memcpy(all + padded, how->form_text, form);
	*prompt_bytes += bytes;
	g->payload_bytes += bytes;
	g->n_draft = (uint32_t)draft;
	g->n_bias = (uint32_t)bias;
	g->breaker_bytes = (uint32_t)padded;
	g->form = how->form;
	g->form_bytes = (uint32_t)form;
	return 0;
}
