// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT
/*
 * Counters of uncore PMUs, made in the kernel for those who may (perfmon_capable). Lets in only
 * PMUs that count for no task, and the software CPU clock so that tests have one: core, kprobe and
 * breakpoint events stay with perf_event_open(). Called with the sampler's lock held.
 *
 * A counter stays dead after its CPU went away and came back. The hotplug callbacks only count,
 * since making or releasing an event there could deadlock on the hotplug lock; the sampler acts on
 * it.
 */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/err.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>
#include <linux/topology.h>

#include "sluice.h"

/*
 * Comings and goings of each CPU: odd from the moment it begins to go until it is all there again.
 * Written by hotplug callbacks, which are serialised.
 */
static DEFINE_PER_CPU(u32, hotplug_nr);
static int hotplug_state;

static u32 hotplug_read(u32 cpu)
{
	return READ_ONCE(per_cpu(hotplug_nr, cpu));
}

static int cpu_goes(unsigned int cpu)
{
	WRITE_ONCE(per_cpu(hotplug_nr, cpu), per_cpu(hotplug_nr, cpu) | 1);
	return 0;
}

/* A CPU that was away when the module was loaded comes without having gone. */
static int cpu_came(unsigned int cpu)
{
	WRITE_ONCE(per_cpu(hotplug_nr, cpu), (per_cpu(hotplug_nr, cpu) | 1) + 1);
	return 0;
}

static bool is_cpu_there(u32 cpu)
{
	return cpu_online(cpu) && !(hotplug_read(cpu) & 1);
}

static bool is_cpu_clock(const struct perf_event_attr *attr)
{
	return attr->type == PERF_TYPE_SOFTWARE && attr->config == PERF_COUNT_SW_CPU_CLOCK &&
	       !attr->config1 && !attr->config2;
}

/* A running counter for the entry, or ERR_PTR. */
static struct perf_event *make_event(const struct sluice_pmu *entry)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = entry->type,
		.config = entry->config,
		.config1 = entry->config1,
		.config2 = entry->config2,
		.disabled = 1,
	};
	struct perf_event *event;

	/* Numbers below PERF_TYPE_MAX are fixed: software, core, tracepoint, breakpoint. */
	if (attr.type < PERF_TYPE_MAX && !is_cpu_clock(&attr))
		return ERR_PTR(-EOPNOTSUPP);
	event = perf_event_create_kernel_counter(&attr, entry->cpu, NULL, NULL, NULL);
	if (IS_ERR(event))
		return event;
	if (event->pmu->task_ctx_nr != perf_invalid_context && !is_cpu_clock(&attr)) {
		perf_event_release_kernel(event);
		return ERR_PTR(-EOPNOTSUPP);
	}
	perf_event_enable(event);
	return event;
}

static void drop_event(struct pmu_watch *p)
{
	if (p->event)
		perf_event_release_kernel(p->event);
	p->event = NULL;
}

/*
 * Note where the driver put the event. `before` is how often p->cpu had come and gone before the
 * event was made: if that changed meanwhile the next sample sees it.
 */
static void adopt(struct pmu_watch *p, struct perf_event *event, u32 before)
{
	p->event = event;
	p->event_cpu = READ_ONCE(event->cpu);
	p->hotplug_nr = p->event_cpu == p->cpu ? before : hotplug_read(p->event_cpu);
}

/*
 * Has the counter died with its CPU? A driver may move it to another CPU while its own goes (uncore
 * drivers do), so it is given up only when that is gone, or gone and back.
 */
static bool is_dead(struct pmu_watch *p)
{
	u32 nr;

	if (READ_ONCE(p->event->cpu) != p->event_cpu)
		adopt(p, p->event, hotplug_read(p->cpu));
	if (!cpu_online(p->event_cpu))
		return true;
	nr = hotplug_read(p->event_cpu);
	return !(nr & 1) && nr != p->hotplug_nr;
}

/* Make the counter anew if its CPU is there. 0 with a new generation, or why not. */
static int revive(struct sampler *s, u32 slot)
{
	struct sluice_pmu *out = &page_pmu(s->shadow)[slot];
	struct pmu_watch *p = &s->pmu[slot];
	u32 before = hotplug_read(p->cpu);
	struct perf_event *event;

	if (!is_cpu_there(p->cpu))
		return -ENXIO;
	event = make_event(out);
	if (IS_ERR(event))
		return PTR_ERR(event);
	adopt(p, event, before);
	out->generation++;
	s->shadow->pmu_created++;
	return 0;
}

/* Counters read: 1 or, while it is lost, 0. */
static u32 sample_slot(struct sampler *s, u32 slot)
{
	struct sluice_pmu *out = &page_pmu(s->shadow)[slot];
	struct pmu_watch *p = &s->pmu[slot];

	if (p->event && is_dead(p))
		drop_event(p);
	if (!p->event && revive(s, slot)) {
		out->state = SLUICE_SLOT_LOST;
		return 0;
	}
	out->count = perf_event_read_value(p->event, &out->enabled_ns, &out->running_ns);
	out->state = SLUICE_SLOT_OK;
	out->updated_ns = s->shadow->updated_ns;
	return 1;
}

void pmu_sample(struct sampler *s)
{
	u32 i;

	s->shadow->pmu_ops = 0;
	s->shadow->pmu_created = 0;
	for (i = 0; i < s->pmu_slots.nr; i++)
		if (s->pmu_slots.owner[i])
			s->shadow->pmu_ops += sample_slot(s, i);
}

int pmu_watch_add(struct sampler *s, const void *owner, const struct sluice_watch_pmu *arg,
		  u32 *slot)
{
	struct sluice_pmu entry = {
		.state = SLUICE_SLOT_OK,
		.type = arg->type,
		.cpu = arg->cpu,
		.kind = arg->kind,
		.config = arg->config,
		.config1 = arg->config1,
		.config2 = arg->config2,
		.bytes_per_count = arg->bytes_per_count,
	};
	struct perf_event *event;
	u32 before;
	int rc;

	if (arg->cpu >= nr_cpu_ids || !cpu_possible(arg->cpu))
		return -EINVAL;
	if (!is_cpu_there(arg->cpu))
		return -ENXIO;
	rc = slot_take(&s->pmu_slots, owner, slot);
	if (rc)
		return rc;
	before = hotplug_read(arg->cpu);
	event = make_event(&entry);
	if (IS_ERR(event)) {
		slot_drop(&s->pmu_slots, *slot);
		rc = PTR_ERR(event);
		return rc == -ENODEV ? -ENXIO : rc;
	}
	entry.node = cpu_to_node(arg->cpu);
	entry.generation = page_pmu(s->shadow)[*slot].generation + 1;
	page_pmu(s->shadow)[*slot] = entry;
	s->pmu[*slot].cpu = arg->cpu;
	s->pmu[*slot].given = entry.generation;
	adopt(&s->pmu[*slot], event, before);
	sample_slot(s, *slot);
	return 0;
}

void pmu_watch_del(struct sampler *s, u32 slot)
{
	struct sluice_pmu *out = &page_pmu(s->shadow)[slot];
	u32 generation = out->generation;

	drop_event(&s->pmu[slot]);
	slot_drop(&s->pmu_slots, slot);
	memset(out, 0, sizeof(*out));
	out->generation = generation;
}

int pmu_watch_init(void)
{
	int rc =
		cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "sluice:online", cpu_came, cpu_goes);

	if (rc < 0)
		return rc;
	hotplug_state = rc;
	return 0;
}

void pmu_watch_fini(void)
{
	cpuhp_remove_state_nocalls(hotplug_state);
}
