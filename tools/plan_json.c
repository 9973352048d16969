/* SPDX-License-Identifier: MIT */
/* tools/plan_json.c: the names under which every verb tells the bytes of a plan. See plan.h. */
#include <jansson.h>
#include <string.h>

#include "base/num.h"
#include "tools/input.h"
#include "tools/plan.h"

json_t *plan_slots_json(const struct slot_share *shares, uint32_t n, bool with_slots)
{
	json_t *all = json_array();

	for (uint32_t i = 0; i < n; i++) {
		json_t *o = json_object();

		json_object_set_new(o, "slot_bytes",
				    json_integer((json_int_t)shares[i].slot_bytes));
		if (with_slots)
			json_object_set_new(o, "slots", json_integer((json_int_t)shares[i].slots));
		json_object_set_new(o, "experts", json_integer((json_int_t)shares[i].experts));
		json_array_append_new(all, o);
	}
	return all;
}

void plan_put_memory(json_t *o, const struct memory_plan *p)
{
	const struct {
		const char *key;
		uint64_t value;
	} all[] = {
		{ "dense_bytes", p->dense_bytes },
		{ "dense_memory_bytes", p->dense_memory_bytes },
		{ "kv_bytes", p->kv_bytes },
		{ "prefix_bytes", p->prefix_bytes },
		{ "state_bytes", p->state_bytes },
		{ "scratch_bytes", p->scratch_bytes },
		{ "form_bytes", p->form_bytes },
		{ "budget_bytes", p->budget_bytes },
		{ "budget_least_bytes", p->budget_least_bytes },
		{ "budget_all_bytes", p->budget_all_bytes },
	};
	json_t *reasons = json_array();

	for (unsigned i = 0; i < ARRAY_LEN(all); i++)
		json_object_set_new(o, all[i].key, json_integer((json_int_t)all[i].value));
	json_object_set_new(o, "slots", plan_slots_json(p->classes, p->n_classes, true));
	for (unsigned i = 0; i < p->n_reasons; i++)
		json_array_append_new(reasons,
				      input_json_text(p->reasons[i], strlen(p->reasons[i])));
	json_object_set_new(o, "reasons", reasons);
}

json_t *plan_device_json(const struct plan *p)
{
	const struct device_plan *d = &p->device;

	if (!p->has_device)
		return json_null();
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "bytes",
			 (json_int_t)p->tiers[PLAN_DEVICE].bytes, "dense_bytes",
			 (json_int_t)d->dense_bytes, "kv_bytes", (json_int_t)d->kv_bytes,
			 "state_bytes", (json_int_t)d->state_bytes, "scratch_bytes",
			 (json_int_t)d->scratch_bytes, "slots_bytes", (json_int_t)d->slots_bytes,
			 "pinned_bytes", (json_int_t)d->pinned_bytes, "slots",
			 plan_slots_json(d->classes, d->n_classes, true));
}
