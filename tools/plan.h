/* SPDX-License-Identifier: MIT */
/*
 * tools/plan.h: plans as JSON and as text, for the verbs that show one, and machines out of files.
 * One thread.
 */
#ifndef SLUICE_TOOLS_PLAN_H
#define SLUICE_TOOLS_PLAN_H

#include <jansson.h>

#include "plan/plan.h"

/* Adds dense_bytes, kv_bytes, state_bytes, scratch_bytes, the budgets, slots and reasons to @o. */
void plan_put_memory(json_t *o, const struct memory_plan *p);

/* The size classes; @with_slots: their numbers of slots too, which depend on the budget. */
json_t *plan_slots_json(const struct slot_share *shares, uint32_t n, bool with_slots);

/* What lies in a GPU's memory; null without one, or where it cannot compute the model. */
json_t *plan_device_json(const struct plan *p);

/* The level named @name; its sizes alone are asked for, so this CPU need not run it. 0 or -EINVAL. */
int plan_cpu_level(const char *name, const struct cpu_ops **ret_ops);

/*
 * A machine as `sluice doctor --json` writes it, into *ret (which keeps its alignment where the file
 * says none) and, where the file names its CPU level, *ret_ops. Fields that are missing are unknown.
 * 0 or -errno and a sentence that names file and field.
 */
int plan_machine_file(const char *path, struct plan_machine *ret, const struct cpu_ops **ret_ops,
		      struct err *err);

#endif
