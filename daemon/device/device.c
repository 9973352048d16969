/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/device.c: names of devices, and what of a model the device can compute. Pure; any thread.
 */
#include "device/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/ops.h"
#include "kernels/quant.h"

int device_check_name(const char *name, struct err *err)
{
	char *end;

	if (!strcmp(name, "none") || !strcmp(name, "cuda"))
		return 0;
	if (!strncmp(name, "cuda:", 5) && name[5] >= '0' && name[5] <= '9' &&
	    strtoul(name + 5, &end, 10) < 64 && !*end)
		return 0;
	return err_set(err, -EINVAL, "%s is no device: none, cuda or cuda:N", name);
}

static int attention_fits(const struct layer *l, uint32_t i, struct err *err)
{
	static const enum role not_here[] = { ROLE_WQ_BIAS, ROLE_WK_BIAS, ROLE_WV_BIAS,
					      ROLE_WO_BIAS, ROLE_SINKS };
	const struct attention_spec *a = &l->attention;

	if (a->head_dim != a->value_dim ||
	    (a->head_dim != 64 && a->head_dim != 128 && a->head_dim != 256))
		return err_set(
			err, -ENOTSUP,
			"layer %u: attention heads of %u and %u dimensions, the device takes "
			"64, 128 or 256",
			i, a->head_dim, a->value_dim);
	if (a->window || a->v_norm || a->qk_norm == QK_NORM_ROW)
		return err_set(
			err, -ENOTSUP,
			"layer %u: a window, norms of values or of whole rows of queries are "
			"not computed on the device",
			i);
	if (a->rope.kind != ROPE_NEOX || a->rope.by_table || a->rope.yarn_factor > 0)
		return err_set(err, -ENOTSUP,
			       "layer %u: its rotation is not computed on the device", i);
	for (unsigned k = 0; k < sizeof(not_here) / sizeof(not_here[0]); k++)
		if (l->w[not_here[k]].n_runs)
			return err_set(err, -ENOTSUP, "layer %u: %s is not computed on the device",
				       i, l->w[not_here[k]].name);
	return 0;
}

static int experts_fit(const struct model *m, const struct layer *l, uint32_t i, struct err *err)
{
	if (m->n_expert > 1024 || m->n_expert_used > 32)
		return err_set(err, -ENOTSUP,
			       "%u experts of which %u are used, the device takes 1024 and 32",
			       m->n_expert, m->n_expert_used);
	if (l->w[ROLE_ROUTER].type != QUANT_F32)
		return err_set(err, -ENOTSUP, "layer %u: its router is %s, the device takes F32", i,
			       quant_name(l->w[ROLE_ROUTER].type));
	if (m->router.n_groups > 1 || l->w[ROLE_ROUTER_SCALE].n_runs ||
	    l->w[ROLE_DOWN_EXPS_SCALE].n_runs)
		return err_set(
			err, -ENOTSUP,
			"layer %u: groups of experts and scales of the router are not computed "
			"on the device",
			i);
	return 0;
}

static int layer_fits(const struct model *m, const struct layer *l, uint32_t i, struct err *err)
{
	int rc = 0;

	for (uint32_t k = 0; k < l->n_blocks && !rc; k++) {
		const struct layer_block *b = &l->blocks[k];

		if (b->kind == BLOCK_LATENT || b->open || b->post_norm != ROLE_NONE ||
		    b->sum_norm != ROLE_NONE || l->w[ROLE_LAYER_SCALE].n_runs)
			return err_set(err, -ENOTSUP,
				       "layer %u of a %s model is not computed on the device", i,
				       m->arch_name);
		if (b->kind == BLOCK_ATTENTION)
			rc = attention_fits(l, i, err);
		if (b->kind == BLOCK_MOE)
			rc = experts_fit(m, l, i, err);
		if (b->kind == BLOCK_DENSE && !l->w[ROLE_FFN_GATE].n_runs)
			rc = err_set(err, -ENOTSUP, "layer %u: a triple without a gate", i);
	}
	if (!rc && layer_has(l, BLOCK_MOE) && l->w[ROLE_SHARED_UP].n_runs &&
	    !l->w[ROLE_SHARED_GATE].n_runs)
		rc = err_set(err, -ENOTSUP, "layer %u: a shared expert without a gate", i);
	return rc;
}

int device_supports(const struct model *m, struct err *err)
{
	int rc = 0;

	if (m->n_embd % 32 || m->n_embd > 16384)
		return err_set(err, -ENOTSUP, "rows of %u values, the device takes up to 16384",
			       m->n_embd);
	if (m->logit_softcap > 0 || m->activation != ACTIVATION_SILU)
		return err_set(
			err, -ENOTSUP,
			"soft-capped logits and other activations than SiLU are not computed "
			"on the device");
	for (uint32_t i = 0; i < m->n_layers && !rc; i++) {
		rc = layer_fits(m, &m->layers[i], i, err);
		if (!rc && layer_has(&m->layers[i], BLOCK_DELTANET) &&
		    (m->ssm_conv_kernel != 4 || (m->ssm_head_dim != 64 && m->ssm_head_dim != 128)))
			rc = err_set(
				err, -ENOTSUP,
				"DeltaNet heads of %u dimensions with a convolution of %u taps, "
				"the device takes 64 or 128 and 4",
				m->ssm_head_dim, m->ssm_conv_kernel);
	}
	return rc;
}

#ifndef SLUICE_CUDA
/* A build without the kernels: the name is known, the device is not. */
struct device {
	int unused;
};

int device_open(const struct device_config *config, struct device **ret, struct err *err)
{
	return err_set(err, -ENOTSUP,
		       "this sluiced was built without CUDA kernels (see docs/gpu.md)");
}

void device_close(struct device *d)
{
}

void device_get_info(const struct device *d, struct device_info *ret)
{
	memset(ret, 0, sizeof(*ret));
}

int device_load(struct device *d, uint32_t layer, enum role role, const struct device_matrix *w,
		struct err *err)
{
	return -ENODEV;
}

float *device_input(struct device *d)
{
	return NULL;
}

int device_step_begin(struct device *d, const struct device_run *runs, uint32_t n_runs,
		      uint32_t n_tokens, struct err *err)
{
	return -ENODEV;
}

int device_route(struct device *d, uint32_t layer, struct device_route *ret, struct err *err)
{
	return -ENODEV;
}

int device_misses_done(struct device *d, uint32_t layer, struct err *err)
{
	return -ENODEV;
}

int device_step_end(struct device *d, const uint32_t *rows, uint32_t n, const float **ret_logits,
		    struct err *err)
{
	return -ENODEV;
}
#endif
