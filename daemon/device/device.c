/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/device.c: names of devices, what of a model a GPU can compute, and which kind takes a call.
 */
#include "device/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "device/device_private.h"
#include "kernels/cuda/ops.h"
#include "kernels/quant.h"

#define EMU_LINK (25ull << 30) /* bytes per second: PCIe 4.0 x16 as it is measured */

/* "SIZE" up to a comma or the end, behind @key; false: it does not stand at *@at. */
static bool take_size(const char **at, const char *key, uint64_t *ret)
{
	char text[32];
	size_t n = strlen(key), len;

	if (strncmp(*at, key, n) != 0)
		return false;
	len = strcspn(*at + n, ",");
	if (len >= sizeof(text))
		return false;
	memcpy(text, *at + n, len);
	text[len] = '\0';
	if (size_parse(text, ret) || !*ret)
		return false;
	*at += n + len;
	*at += **at == ',' && (*at)[1];
	return true;
}

int device_emu_sizes(const char *name, uint64_t *ret_vram, uint64_t *ret_link, struct err *err)
{
	const char *at = name + (strncmp(name, "emu:", 4) ? 0 : 4);
	uint64_t vram = 0, link = 0;

	for (int i = 0; i < 2 && at > name && *at; i++) {
		if (!vram && take_size(&at, "vram=", &vram))
			continue;
		if (link || !take_size(&at, "link=", &link))
			break;
	}
	if (!vram || *at)
		return err_set(
			err, -EINVAL,
			"%s is no device: emu:vram=SIZE,link=SIZE with the memory and the bytes "
			"per second of its link",
			name);
	*ret_vram = vram;
	*ret_link = link ? link : EMU_LINK;
	return 0;
}

int device_check_name(const char *name, struct err *err)
{
	uint64_t vram, link;
	char *end;

	if (!strcmp(name, "auto") || !strcmp(name, "none") || !strcmp(name, "cuda"))
		return 0;
	if (!strncmp(name, "cuda:", 5) && name[5] >= '0' && name[5] <= '9' &&
	    strtoul(name + 5, &end, 10) < 64 && !*end)
		return 0;
	if (!strncmp(name, "emu:", 4))
		return device_emu_sizes(name, &vram, &link, err);
	return err_set(err, -EINVAL,
		       "%s is no device: auto, none, cuda, cuda:N or emu:vram=SIZE,link=SIZE",
		       name);
}

/* Formats that kernels/cuda multiplies with. */
static bool has_product(uint32_t type)
{
	static const uint32_t cpu_alone[] = { QUANT_IQ2_XXS, QUANT_IQ2_XS, QUANT_IQ3_XXS,
					      QUANT_IQ1_S,   QUANT_IQ3_S,  QUANT_IQ2_S,
					      QUANT_IQ1_M,   QUANT_TQ1_0,  QUANT_TQ2_0 };
	const struct quant_format *f = quant_format(type);

	for (unsigned k = 0; k < sizeof(cpu_alone) / sizeof(cpu_alone[0]); k++)
		if (type == cpu_alone[k])
			return false;
	return f && f->act != ACT_NONE;
}

/* The weights that products take. */
static int formats_fit(const struct weight w[ROLE_NR], struct err *err)
{
	for (int role = 0; role < ROLE_NR; role++)
		if (w[role].n_runs && role_info[role].kind != ROLE_FLOATS &&
		    role != ROLE_TOKEN_EMBD && !has_product(w[role].type))
			return err_set(err, -ENOTSUP,
				       "%s: %s weights are not multiplied on the device",
				       w[role].name, quant_name(w[role].type));
	return 0;
}

int device_slots_fit(const struct model *m, struct err *err)
{
	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct expert_layout *x = &m->layers[i].experts;
		const uint32_t gate = x->matrix[EXPERT_GATE].type, up = x->matrix[EXPERT_UP].type;

		if (!x->n_parts)
			continue;
		for (int k = 0; k < EXPERT_MATRIX_NR; k++)
			if (!x->matrix[k].n_out || !has_product(x->matrix[k].type))
				return err_set(
					err, -ENOTSUP,
					"layer %u: experts in %s without a product on the device",
					i, quant_name(x->matrix[k].type));
		if (quant_format(gate)->act != quant_format(up)->act || m->n_ff_expert > 32768)
			return err_set(err, -ENOTSUP,
				       "layer %u: experts whose gates are %s beside %s, or of %u "
				       "values inside, are not computed on the device",
				       i, quant_name(gate), quant_name(up), m->n_ff_expert);
	}
	return 0;
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

/* Pages of all layers lie in one array: they are of one size. */
static int pages_fit(const struct model *m, struct err *err)
{
	const struct attention_spec *first = NULL;

	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct attention_spec *a = &m->layers[i].attention;

		if (!layer_has(&m->layers[i], BLOCK_ATTENTION))
			continue;
		if (first && (a->n_head_kv != first->n_head_kv || a->head_dim != first->head_dim))
			return err_set(err, -ENOTSUP,
				       "layer %u: %u heads of keys of %u dimensions where others "
				       "have %u of %u: the device takes one size",
				       i, a->n_head_kv, a->head_dim, first->n_head_kv,
				       first->head_dim);
		first = a;
	}
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
	rc = formats_fit(m->w, err);
	rc = rc ? rc : pages_fit(m, err);
	for (uint32_t i = 0; i < m->n_layers && !rc; i++) {
		rc = layer_fits(m, &m->layers[i], i, err);
		rc = rc ? rc : formats_fit(m->layers[i].w, err);
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

/* ---- which kind takes a call ---- */

#ifndef SLUICE_CUDA
/* A build without the kernels: the name is known, the device is not. */
int cuda_find(struct err *err)
{
	return err_set(err, -ENOTSUP,
		       "this sluiced was built without CUDA kernels (see docs/gpu.md)");
}

int cuda_open(const struct device_config *config, struct device **ret, struct err *err)
{
	return cuda_find(err);
}
#endif

int device_find(struct err *err)
{
	return cuda_find(err);
}

int device_open(const struct device_config *config, struct device **ret, struct err *err)
{
	if (!device_is_dense(config->name))
		return emu_open(config, ret, err);
	return cuda_open(config, ret, err);
}

void device_close(struct device *d)
{
	if (d)
		d->ops->close(d);
}

void device_get_info(const struct device *d, struct device_info *ret)
{
	d->ops->get_info(d, ret);
	ret->link_bytes = atomic_load_explicit(&d->link.bytes, memory_order_relaxed);
	ret->link_ns = atomic_load_explicit(&d->link.ns, memory_order_relaxed);
	ret->link_rate = atomic_load_explicit(&d->link.rate, memory_order_relaxed);
}

const struct device_plan *device_get_plan(const struct device *d)
{
	return &d->plan;
}

int device_load(struct device *d, uint32_t layer, enum role role, const struct device_matrix *w,
		struct err *err)
{
	return d->ops->load(d, layer, role, w, err);
}

void device_register_host(struct device *d, const void *base, uint64_t bytes, struct err *note)
{
	d->ops->register_host(d, base, bytes, note);
}

uint32_t *device_table(struct device *d)
{
	return d->table;
}

int device_publish(struct device *d, struct err *err)
{
	return d->ops->publish(d, err);
}

uint32_t device_fills(const struct device *d)
{
	return d->fills;
}

int device_fill(struct device *d, const struct device_fill *fill, struct err *err)
{
	return d->ops->fill(d, fill, err);
}

#define LINK_FORGETS 64 /* copies, in which a best one loses most of its weight */

/* Who else uses the link slows single copies, which says nothing of what it can do: the best of late counts. */
void device_link_carried(struct device_link *link, uint64_t bytes, uint64_t ns)
{
	const double best = (double)atomic_load_explicit(&link->rate, memory_order_relaxed);
	const double rate = ns ? (double)bytes / (double)ns * 1e9 : 0;

	if (!ns)
		return;
	atomic_fetch_add_explicit(&link->bytes, bytes, memory_order_relaxed);
	atomic_fetch_add_explicit(&link->ns, ns, memory_order_relaxed);
	atomic_store_explicit(&link->rate,
			      (uint64_t)(rate > best ? rate : best + (rate - best) / LINK_FORGETS),
			      memory_order_relaxed);
}

int device_fills_done(struct device *d, uint64_t *ret_n, struct err *err)
{
	return d->ops->fills_done(d, ret_n, err);
}

uint32_t device_slots(const struct device *d, uint32_t cls)
{
	return d->ops->slots ? d->ops->slots(d, cls) : (uint32_t)d->plan.classes[cls].slots;
}

int device_hold(struct device *d, uint32_t seq, uint32_t len, struct err *err)
{
	return d->ops->hold ? d->ops->hold(d, seq, len, err) : 0;
}

void device_let(struct device *d, uint32_t seq)
{
	if (d->ops->let)
		d->ops->let(d, seq);
}

bool device_could_hold(const struct device *d, uint32_t len, uint32_t n, uint64_t positions)
{
	return !d->ops->could_hold || d->ops->could_hold(d, len, n, positions);
}

uint32_t device_most_positions(const struct device *d, uint32_t seq)
{
	return d->ops->most_positions ? d->ops->most_positions(d, seq) : d->c.n_ctx;
}

uint32_t device_victim(const struct device *d, uint32_t *ret_slots)
{
	return d->ops->victim ? d->ops->victim(d, ret_slots) : DEVICE_NO_CLASS;
}

int device_shrink(struct device *d, uint32_t cls, struct err *err)
{
	return d->ops->shrink(d, cls, err);
}

uint32_t device_grow(struct device *d, uint64_t now_ns)
{
	return d->ops->grow ? d->ops->grow(d, now_ns) : DEVICE_NO_CLASS;
}

bool device_trim(struct device *d, uint64_t now_ns)
{
	return d->ops->trim && d->ops->trim(d, now_ns);
}

void device_set_budget(struct device *d, uint64_t bytes)
{
	if (d->ops->set_budget)
		d->ops->set_budget(d, bytes);
}

const uint8_t *device_slot_at(const struct device *d, uint32_t layer, uint32_t slot)
{
	return d->ops->slot_at ? d->ops->slot_at(d, layer, slot) : NULL;
}

float *device_input(struct device *d)
{
	return d->ops->input(d);
}

int device_step_begin(struct device *d, const struct device_run *runs, uint32_t n_runs,
		      uint32_t n_tokens, struct err *err)
{
	return d->ops->step_begin(d, runs, n_runs, n_tokens, err);
}

int device_launch(struct device *d, uint32_t layer, struct err *err)
{
	return d->ops->launch(d, layer, err);
}

int device_route(struct device *d, struct device_route *ret, struct err *err)
{
	return d->ops->route(d, ret, err);
}

int device_step_end(struct device *d, const uint32_t *rows, uint32_t n, const float **ret_logits,
		    struct err *err)
{
	return d->ops->step_end(d, rows, n, ret_logits, err);
}

void device_step_drop(struct device *d)
{
	d->ops->step_drop(d);
}

bool device_is_lost(const struct device *d)
{
	return d->ops->is_lost && d->ops->is_lost(d);
}

int device_multiply(struct device *d, const struct device_fill *from,
		    const struct device_pair *pairs, uint32_t n, struct err *err)
{
	return d->ops->multiply(d, from, pairs, n, err);
}

int device_sent(struct device *d, struct err *err)
{
	return d->ops->sent(d, err);
}
