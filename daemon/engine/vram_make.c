/* SPDX-License-Identifier: MIT */
/* daemon/engine/vram_make.c: the making of what vram.h describes: policy, promoter, control and their books. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "engine/vram_private.h"
#include "trace/policy_input.h"

static uint32_t free_slots(void *ctx, uint32_t cls)
{
	const struct vram *v = ctx;

	return residency_free_slots(v->c.residency, TIER_DEVICE, cls);
}

/* A host copy is at hand, and pinning it leaves demand slots to work with. */
static bool may_come(void *ctx, uint32_t id)
{
	const struct vram *v = ctx;
	const uint32_t cls = residency_class_of(v->c.residency, vram_layer_of(v, id));

	return residency_state(v->c.residency, TIER_HOST, id) == COPY_PRESENT &&
	       residency_state(v->c.residency, TIER_DEVICE, id) == COPY_ABSENT &&
	       v->host_pins[cls] < residency_class_slots(v->c.residency, cls) / 2;
}

static bool may_go(void *ctx, uint32_t id)
{
	const struct vram *v = ctx;

	return residency_state(v->c.residency, TIER_DEVICE, id) == COPY_PRESENT &&
	       !residency_pinned(v->c.residency, TIER_DEVICE, id);
}

static int make_policy(struct vram *v, struct err *err)
{
	const struct model *m = v->c.model;
	const bool hit = !strcmp(v->c.policy, "hit"), fetch = !strcmp(v->c.policy, "fetch");
	struct policy_geometry g = { .n_layers = m->n_layers,
				     .n_expert = m->n_expert,
				     .n_expert_used = m->n_expert_used,
				     .n_classes = v->plan->n_classes };
	uint32_t *class_of = calloc(m->n_layers, sizeof(*class_of));
	uint32_t *slots = calloc(g.n_classes + 1, sizeof(*slots));
	int rc = -ENOMEM;

	for (uint32_t i = 0; class_of && i < m->n_layers; i++)
		class_of[i] = v->plan->class_of_layer[i] < g.n_classes ? v->plan->class_of_layer[i]
								       : POLICY_NO_CLASS;
	/* books for as many as there may ever be */
	for (uint32_t k = 0; slots && k < g.n_classes; k++)
		slots[k] = (uint32_t)v->plan->classes[k].experts;
	g.class_of_layer = class_of;
	g.class_slots = slots;
	if (class_of && slots)
		rc = residency_add_device(v->c.residency, v->plan->class_of_layer, g.n_classes,
					  slots);
	for (uint32_t k = 0; !rc && k < g.n_classes; k++) {
		slots[k] = v->class_slots[k] = device_slots(v->c.device, k);
		rc = residency_device_limit(v->c.residency, k, slots[k]);
	}
	if (!rc)
		rc = policy_open(hit	 ? "lfu"
				 : fetch ? "lru"
					 : v->c.policy,
				 &g, &v->ops, &v->policy, err);
	free(class_of);
	free(slots);
	return rc;
}

static void make_promoter(struct vram *v)
{
	const struct model *m = v->c.model;
	const bool hit = !strcmp(v->c.policy, "hit"), fetch = !strcmp(v->c.policy, "fetch");
	struct promoter_config p = { .ops = v->ops,
				     .policy = v->policy,
				     .n_classes = v->plan->n_classes,
				     .class_bytes = v->class_bytes,
				     .free_slots = free_slots,
				     .filter = { may_come, may_go, v },
				     .only_free = hit };
	double bytes = 0;

	for (uint32_t i = 0; i < m->n_layers; i++) {
		const uint32_t cls = v->plan->class_of_layer[i];

		/* what the link carries: an expert, without the padding of its slot */
		if (cls < p.n_classes)
			v->class_bytes[cls] =
				u64_max(v->class_bytes[cls], m->layers[i].experts.bytes);
		bytes += (double)m->layers[i].experts.bytes * v->c.experts_per_layer;
		v->layers += m->layers[i].experts.bytes > 0;
	}
	if (!hit && !fetch) {
		p.bytes_per_s = v->c.bytes_per_s;
		p.bytes_per_token = v->token_bytes = bytes > 0 ? (uint64_t)bytes + 1 : 0;
	}
	promoter_init(&v->promoter, &p);
}

/* As supply calls the policy: this is the vram that vram_policy() gave it. */
static void used(struct policy *p, uint64_t step, uint32_t layer, const uint32_t *ids,
		 const uint32_t *counts, uint32_t n)
{
	struct vram *v = (struct vram *)(void *)p;

	for (uint32_t i = 0; i < n && v->decodes; i++)
		fill_control_used(&v->control, ids[i],
				  (double)v->c.model->layers[layer].experts.bytes,
				  vram_resident(v, ids[i]));
	v->ops->used(v->policy, step, layer, ids, counts, n);
}

static int make_control(struct vram *v, struct err *err)
{
	const struct model *m = v->c.model;

	v->controlled = !strcmp(v->c.policy, "vram");
	v->told = (struct policy_ops){ .name = v->ops->name, .help = v->ops->help, .used = used };
	if (fill_control_init(&v->control, m->n_layers * m->n_expert))
		return err_set(err, -ENOMEM, "no memory for the device's experts");
	return 0;
}

int vram_create(const struct vram_config *config, struct vram **ret, struct err *err)
{
	struct vram *v = calloc(1, sizeof(*v));
	int rc = -ENOMEM;

	if (!v)
		return err_set(err, rc, "no memory for the device's experts");
	v->c = *config;
	v->plan = device_get_plan(config->device);
	v->table = device_table(config->device);
	v->class_bytes = calloc(v->plan->n_classes + 1, sizeof(*v->class_bytes));
	v->host_pins = calloc(residency_n_classes(config->residency) + 1, sizeof(*v->host_pins));
	v->class_slots = calloc(v->plan->n_classes + 1, sizeof(*v->class_slots));
	if (v->class_bytes && v->host_pins && v->class_slots)
		rc = make_policy(v, err);
	if (rc) {
		vram_destroy(v);
		return err_set(err, rc, "no memory for the device's experts");
	}
	rc = make_control(v, err);
	if (rc) {
		vram_destroy(v);
		return rc;
	}
	make_promoter(v);
	vram_set_most_fills(v);
	*ret = v;
	return 0;
}

void vram_destroy(struct vram *v)
{
	if (!v)
		return;
	if (v->policy)
		v->ops->destroy(v->policy);
	fill_control_fini(&v->control);
	free(v->class_bytes);
	free(v->class_slots);
	free(v->host_pins);
	free(v);
}

const struct policy_ops *vram_policy_ops(const struct vram *v)
{
	return &v->told;
}

struct policy *vram_policy(struct vram *v)
{
	return (struct policy *)(void *)v; /* of the ops that are told: see used() */
}
