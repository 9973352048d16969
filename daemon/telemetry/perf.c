/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/perf.c: the memory controllers' counters through perf_event_open(2).
 *
 * Needs CAP_PERFMON (or CAP_SYS_ADMIN, or a low kernel.perf_event_paranoid); without it says so and
 * leaves the values unknown. All counters or none: a part would look like less traffic. A counter
 * that cannot be read stays in the sample, marked lost, and is opened again a second later.
 * Called by telemetry.c, one thread.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/num.h"
#include "telemetry/perf.h"
#include "telemetry/telemetry.h"

#define REOPEN_NS 1000000000u

struct slot {
	struct pmu_counter counter;
	int fd; /* -1: lost */
	uint32_t generation;
};

struct perf {
	const struct telemetry_perf_ops *ops;
	struct slot slots[TELEMETRY_MAX_COUNTERS];
	uint32_t n;
	uint64_t tried_ns;
};

static int real_open(void *arg, const struct pmu_counter *c)
{
	struct perf_event_attr attr = {
		.type = c->type,
		.size = sizeof(attr),
		.config = c->config,
		.config1 = c->config1,
		.config2 = c->config2,
		.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
	};
	long fd = syscall(SYS_perf_event_open, &attr, -1, (int)c->cpu, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

static int real_read(void *arg, int fd, struct perf_value *ret)
{
	uint64_t words[3];
	ssize_t n = read(fd, words, sizeof(words));

	if (n < 0)
		return -errno;
	if (n != (ssize_t)sizeof(words))
		return -EIO; /* 0: the event is in an error state */
	*ret = (struct perf_value){ words[0], words[1], words[2] };
	return 0;
}

static void real_close(void *arg, int fd)
{
	close(fd);
}

static const struct telemetry_perf_ops real_ops = { real_open, real_read, real_close, NULL };

static void perf_close(void *state)
{
	struct perf *p = state;

	if (!p)
		return;
	for (uint32_t i = 0; i < p->n; i++)
		if (p->slots[i].fd >= 0)
			p->ops->close(p->ops->arg, p->slots[i].fd);
	free(p);
}

static int say_why(struct err *err, int rc, const char *name)
{
	if (rc == -EACCES || rc == -EPERM)
		return err_set(err, rc,
			       "no permission to read the memory controllers (%s): memory "
			       "bandwidth is unknown; grant CAP_PERFMON, set "
			       "kernel.perf_event_paranoid, or load sluice.ko",
			       name);
	return err_set(err, rc, "cannot open the counter %s: %s; memory bandwidth is unknown", name,
		       strerror(-rc));
}

static int perf_open(const struct telemetry_config *config, void **ret_state, struct err *err)
{
	struct pmu_counter *found = calloc(TELEMETRY_MAX_COUNTERS, sizeof(*found));
	struct perf *p = calloc(1, sizeof(*p));
	struct fs fs = { -1 };
	int rc = -ENOMEM, n;

	if (!p || !found)
		goto out;
	p->ops = config->perf ? config->perf : &real_ops;
	rc = fs_open(&fs, config->root);
	if (rc)
		goto out;
	n = pmu_find(&fs, found, TELEMETRY_MAX_COUNTERS, err);
	rc = n > 0 ? 0 : n < 0 ? n : -ENOENT;
	for (int i = 0; i < n && !rc; i++) {
		struct slot *s = &p->slots[i];

		s->counter = found[i];
		s->fd = p->ops->open(p->ops->arg, &s->counter);
		if (s->fd < 0)
			rc = say_why(err, s->fd, s->counter.name);
		p->n++;
	}
out:
	fs_close(&fs);
	free(found);
	if (rc) {
		perf_close(p);
		return rc;
	}
	*ret_state = p;
	return 0;
}

static void reopen_lost(struct perf *p, uint64_t now)
{
	if (p->tried_ns && now - p->tried_ns < REOPEN_NS)
		return;
	p->tried_ns = now;
	for (uint32_t i = 0; i < p->n; i++) {
		struct slot *s = &p->slots[i];

		if (s->fd >= 0)
			continue;
		s->fd = p->ops->open(p->ops->arg, &s->counter);
		s->generation += s->fd >= 0; /* it begins at zero again */
	}
}

static int perf_sample(void *state, uint64_t now, struct telemetry_sample *sample)
{
	struct perf *p = state;

	reopen_lost(p, now);
	for (uint32_t i = 0; i < p->n; i++) {
		struct telemetry_counter *c = telemetry_counter_add(sample);
		struct slot *s = &p->slots[i];
		struct perf_value v = { 0 };

		if (!c)
			return -ENOSPC;
		if (s->fd >= 0 && p->ops->read(p->ops->arg, s->fd, &v)) {
			p->ops->close(p->ops->arg, s->fd);
			s->fd = -1;
			p->tried_ns = now;
		}
		*c = (struct telemetry_counter){
			.key = i,
			.generation = s->generation,
			.lost = s->fd < 0,
			.source = TELEMETRY_PERF,
			.kind = s->counter.kind,
			.socket = s->counter.socket,
			.bytes_per_count = s->counter.bytes_per_count,
			.count = v.count,
			.enabled_ns = v.enabled_ns,
			.running_ns = v.running_ns,
			.updated_ns = now,
		};
	}
	return 0;
}

const struct telemetry_ops telemetry_perf_source_ops = {
	.source = TELEMETRY_PERF,
	.open = perf_open,
	.sample = perf_sample,
	.close = perf_close,
};
