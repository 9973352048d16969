/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/on_device.c: the engine's device: opened for its model and options, filled with the dense
 * weights. What it does in a step is asked for by step.c. engine_create(), then the engine thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "device/device.h"
#include "engine/engine_private.h"
#include "engine/rope.h"

int engine_create_device(struct engine *e, struct err *err)
{
	const struct engine_config *c = &e->config;
	struct device_config config = { .model = e->model,
					.name = c->device,
					.kv_q8 = c->kv_type == KV_Q8_0,
					.n_seq = c->n_parallel,
					.n_ctx = c->n_ctx,
					.max_tokens = c->n_batch,
					.max_logits = e->plan.max_logits };
	double *rope;
	int rc;

	if (device_is_none(c->device))
		return 0;
	rope = calloc(e->model->attention.rope.n_rot / 2 + 1, sizeof(*rope));
	if (!rope)
		return err_set(err, -ENOMEM, "no memory for the device");
	rope_frequencies(&e->model->attention.rope, rope);
	config.rope = rope;
	rc = device_open(&config, &e->device, err);
	free(rope);
	if (!rc && c->spec > SPEC_OFF)
		engine_add_fallback(
			e, "--device: its state cannot be taken back, so nothing is drafted");
	return rc ? err_prefix(err, rc, "--device %s", c->device) : 0;
}

/* The dense weights of a layer, or those outside, to the device. */
static int load_device_weights(struct engine *e, uint32_t layer, const struct layer_weights *w)
{
	int rc = 0;

	for (int role = 0; role < ROLE_NR && !rc; role++) {
		const struct device_matrix m = { .type = w->w[role].type,
						 .n_in = w->w[role].n_in,
						 .n_out = w->w[role].n_out,
						 .row_bytes = w->w[role].row_bytes,
						 .data = w->w[role].data };

		rc = device_load(e->device, layer, (enum role)role, &m, &e->failure);
	}
	return rc;
}

int engine_load_device(struct engine *e)
{
	int rc = load_device_weights(e, DEVICE_NO_LAYER, &e->weights->model);

	for (uint32_t i = 0; i < e->model->n_layers && !rc; i++)
		rc = load_device_weights(e, i, &e->weights->layers[i]);
	return rc;
}
