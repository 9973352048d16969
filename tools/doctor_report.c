/* SPDX-License-Identifier: MIT */
/*
 * tools/doctor_report.c: what `sluice doctor` found, as text and as JSON, which `sluice bench --peaks` reads. One
 * thread.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "tools/doctor.h"
#include "tools/input.h"
#include "tools/plan.h"

static void print_fit(const struct doctor_fit *fit)
{
	const struct memory_plan *p = &fit->plan.memory;
	char a[32], b[32], c[32];

	printf("model      %s (%s)\n", fit->name, fit->arch);
	printf("  dense    %s always in memory; %s of weights are read for one token\n",
	       size_format(a, sizeof(a), p->dense_bytes),
	       size_format(b, sizeof(b), fit->active_bytes));
	if (p->scratch_bytes)
		printf("  beside   %s of cache and state for %u sequences of %u tokens, %s of "
		       "buffers (%s for forms of answers)\n",
		       size_format(a, sizeof(a), p->kv_bytes + p->state_bytes), p->n_parallel,
		       p->n_ctx, size_format(b, sizeof(b), p->scratch_bytes),
		       size_format(c, sizeof(c), p->form_bytes));
	if (p->budget_all_bytes)
		printf("  experts  %s in all, at least %s; memory is left for %s, %.0f %%\n",
		       size_format(a, sizeof(a), p->budget_all_bytes),
		       size_format(b, sizeof(b), p->budget_least_bytes),
		       size_format(c, sizeof(c), p->budget_bytes), fit->plan.experts_share * 100);
	if (fit->plan.has_device)
		printf("  device   %s of a GPU's memory: %s of weights and buffers, slots for %s of "
		       "experts\n",
		       size_format(a, sizeof(a), fit->plan.tiers[PLAN_DEVICE].bytes),
		       size_format(b, sizeof(b),
				   fit->plan.tiers[PLAN_DEVICE].bytes -
					   fit->plan.device.slots_bytes),
		       size_format(c, sizeof(c), fit->plan.device.slots_bytes));
	else if (fit->plan.device_note.text[0])
		printf("  device   none: %s\n", fit->plan.device_note.text);
	if (fit->plan.tokens_per_s > 0)
		printf("  speed    memory and disk allow at most %.1f tok/s with evenly used experts"
		       "\n",
		       fit->plan.tokens_per_s);
}

static const char *tell_bytes(char *buf, size_t len, uint64_t bytes)
{
	return bytes == LIMITS_UNKNOWN ? "unknown" : size_format(buf, len, bytes);
}

void doctor_print(const struct doctor_facts *f)
{
	const struct limits *l = &f->limits;
	char a[32], b[32];

	printf("kernel     %s\n", f->kernel);
	printf("cpu        %s, %u cores, level %s%s%s\n", f->cpu, f->n_cores, f->level,
	       f->governor[0] ? ", governor " : "", f->governor);
	printf("memory     %s, %s free, %s %s\n", tell_bytes(a, sizeof(a), l->machine_bytes),
	       tell_bytes(b, sizeof(b), l->available_bytes),
	       strpbrk(f->nodes, ",-") ? "NUMA nodes" : "NUMA node", f->nodes[0] ? f->nodes : "0");
	printf("limits     a process here may take %s more of %s (%s), %u CPUs (%s)\n",
	       tell_bytes(a, sizeof(a), l->room_bytes), tell_bytes(b, sizeof(b), l->limit_bytes),
	       l->memory_from, l->cpus, l->cpus_from);
	printf("pages      %" PRIu64 " of %" PRIu64 " huge pages of %s free; transparent: %s\n",
	       l->huge_free, l->huge_total, size_format(a, sizeof(a), LIMITS_HUGE_PAGE),
	       f->thp[0] ? f->thp : "none");
	printf("locking    %s%s\n",
	       f->memlock == UINT64_MAX ? "no limit" : size_format(a, sizeof(a), f->memlock),
	       f->may_lock ? " (CAP_IPC_LOCK: no limit)" : "");
	printf("io_uring   %s\n", f->io_uring);
	machine_print(&f->machine);
	if (f->mem_gbs > 0)
		printf("reads      memory %.1f GB/s on %u cores; %.0f billion multiply-adds of bytes "
		       "a second\n",
		       f->mem_gbs, f->n_cores, f->gmadds);
	if (f->disk_measured)
		printf("reads      disk %.2f GB/s (%s, random 1 MiB, %s read)\n", f->disk.gbs,
		       f->disk.io, size_format(a, sizeof(a), f->disk.bytes));
	if (f->model_given)
		print_fit(&f->fit);
	puts(f->n_advice ? "\nto change:" : "\nnothing to change");
	for (unsigned i = 0; i < f->n_advice; i++) {
		printf("- %s\n", f->advice[i].problem);
		if (f->advice[i].command[0])
			printf("    %s\n", f->advice[i].command);
	}
}

static void put_int(json_t *o, const char *name, uint64_t value)
{
	json_object_set_new(
		o, name, value == LIMITS_UNKNOWN ? json_null() : json_integer((json_int_t)value));
}

/* Named as in `sluice status --json`. */
static json_t *limits_json(const struct limits *l)
{
	json_t *o = json_object();

	put_int(o, "memory_bytes", l->limit_bytes);
	put_int(o, "memory_free_bytes", l->room_bytes);
	input_put_text(o, "memory_from", l->memory_from);
	put_int(o, "cpus", l->cpus);
	input_put_text(o, "cpus_from", l->cpus_from);
	return o;
}

static json_t *fit_json(const struct doctor_fit *fit)
{
	json_t *o = json_object();

	input_put_text(o, "name", fit->name);
	input_put_text(o, "arch", fit->arch);
	plan_put_memory(o, &fit->plan.memory);
	put_int(o, "experts_bytes", fit->plan.memory.budget_all_bytes);
	put_int(o, "least_bytes", fit->plan.memory.budget_least_bytes);
	put_int(o, "active_bytes_per_token", fit->active_bytes);
	json_object_set_new(o, "experts_share", json_real(fit->plan.experts_share));
	json_object_set_new(o, "device", plan_device_json(&fit->plan));
	if (fit->plan.tokens_per_s > 0)
		json_object_set_new(o, "bound_tokens_per_second",
				    json_real(fit->plan.tokens_per_s));
	return o;
}

static json_t *advice_json(const struct doctor_advice *a)
{
	json_t *o = json_object();

	input_put_text(o, "problem", a->problem);
	input_put_text(o, "command", a->command);
	return o;
}

static json_t *to_json(const struct doctor_facts *f)
{
	json_t *o = json_object(), *list = json_array();

	input_put_text(o, "kernel", f->kernel);
	input_put_text(o, "cpu", f->cpu);
	input_put_text(o, "cpu_level", f->level);
	put_int(o, "cores", f->n_cores);
	input_put_text(o, "governor", f->governor);
	input_put_text(o, "numa_nodes", f->nodes);
	put_int(o, "memory_bytes", f->limits.machine_bytes);
	put_int(o, "memory_free_bytes", f->limits.available_bytes);
	json_object_set_new(o, "limits", limits_json(&f->limits));
	put_int(o, "hugepages_total", f->limits.huge_total);
	put_int(o, "hugepages_free", f->limits.huge_free);
	put_int(o, "hugepage_bytes", LIMITS_HUGE_PAGE);
	put_int(o, "hugepages_room_bytes", f->limits.huge_room_bytes);
	put_int(o, "vram_bytes", f->plan_machine.vram_bytes);
	put_int(o, "read_align_bytes", f->read_align);
	input_put_text(o, "transparent_hugepages", f->thp);
	if (f->memlock == UINT64_MAX || f->may_lock)
		json_object_set_new(o, "memlock_bytes", json_null());
	else
		put_int(o, "memlock_bytes", f->memlock);
	input_put_text(o, "io_uring", f->io_uring);
	if (f->mem_gbs > 0)
		json_object_set_new(o, "mem_read_gbs", json_real(f->mem_gbs));
	if (f->gmadds > 0)
		json_object_set_new(o, "byte_gmadds", json_real(f->gmadds));
	if (f->disk_measured) {
		json_object_set_new(o, "disk_read_gbs", json_real(f->disk.gbs));
		input_put_text(o, "disk_io", f->disk.io);
	}
	if (f->model_given)
		json_object_set_new(o, "model", fit_json(&f->fit));
	for (unsigned i = 0; i < f->n_advice; i++)
		json_array_append_new(list, advice_json(&f->advice[i]));
	machine_json(&f->machine, o);
	json_object_set_new(o, "advice", list);
	return o;
}

int doctor_print_json(const struct doctor_facts *f)
{
	return input_print_json(to_json(f), true);
}
