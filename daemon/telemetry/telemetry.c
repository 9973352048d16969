/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/telemetry.c: asks the sources in order of trust, puts their samples together,
 * and makes a snapshot with rates of this sample and the one before. Remembers what was said and
 * how fast each link has been seen. See telemetry.h. One thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "telemetry/nvml.h"
#include "telemetry/telemetry.h"

#define MAX_SOURCES  8
#define RETRY_NS     30000000000u /* a module may be loaded, a GPU driver may come up */
#define BUSY_PERCENT 50		  /* a GPU that does so much does not save power on its link */

struct source {
	const struct telemetry_ops *ops;
	void *state;
	bool open, tried;
	bool for_counters; /* opened only where no better source has memory counters */
	uint64_t tried_ns;
};

struct seen_link {
	char bdf[16];
};

struct telemetry {
	struct telemetry_config config;
	struct source sources[MAX_SOURCES];
	uint32_t n_sources;
	struct telemetry_sample *now, *before, *scratch;
	bool have_before;
	struct seen_link full[TELEMETRY_MAX_PCI]; /* links seen at their maximum */
	uint32_t n_full;
	char notes[TELEMETRY_MAX_NOTES][sizeof(((struct err *)0)->text)];
	unsigned n_notes;
};

static uint64_t clock_now(const struct telemetry *t)
{
	return t->config.clock ? t->config.clock(t->config.clock_arg) : now_ns();
}

static void note(struct telemetry *t, const char *text)
{
	if (!*text || t->n_notes == TELEMETRY_MAX_NOTES)
		return;
	for (unsigned i = 0; i < t->n_notes; i++)
		if (!strcmp(t->notes[i], text))
			return;
	snprintf(t->notes[t->n_notes++], sizeof(t->notes[0]), "%s", text);
}

const char *telemetry_note(const struct telemetry *t, unsigned i)
{
	return i < t->n_notes ? t->notes[i] : NULL;
}

static void add_source(struct telemetry *t, const struct telemetry_ops *ops, bool for_counters)
{
	if (t->n_sources < MAX_SOURCES)
		t->sources[t->n_sources++] =
			(struct source){ .ops = ops, .for_counters = for_counters };
}

static int open_source(struct telemetry *t, struct source *s, uint64_t now, struct err *err)
{
	int rc;

	if (s->tried && now - s->tried_ns < RETRY_NS)
		return -EAGAIN;
	s->tried = true;
	s->tried_ns = now;
	rc = s->ops->open(&t->config, &s->state, err);
	s->open = !rc;
	if (rc)
		note(t, err->text);
	return rc;
}

int telemetry_create(const struct telemetry_config *config, struct telemetry **ret, struct err *err)
{
	struct telemetry *t = calloc(1, sizeof(*t));
	int rc = -ENOMEM;

	if (!t)
		return err_set(err, rc, "no memory for telemetry");
	t->config = *config;
	t->now = malloc(sizeof(*t->now));
	t->before = malloc(sizeof(*t->before));
	t->scratch = malloc(sizeof(*t->scratch));
	if (!t->now || !t->before || !t->scratch) {
		err_set(err, rc, "no memory for telemetry");
		goto out_fail;
	}
	if (config->script) {
		add_source(t, &telemetry_scripted_ops, false);
		rc = open_source(t, &t->sources[0], clock_now(t), err);
		if (rc)
			goto out_fail;
		*ret = t;
		return 0;
	}
	if (!config->no_module)
		add_source(t, &telemetry_module_ops, false);
	if (!config->no_perf)
		add_source(t, &telemetry_perf_source_ops, true);
	add_source(t, &telemetry_sysfs_ops, false);
	if (!config->root || !*config->root) /* a recorded tree is not this machine */
		add_source(t, &telemetry_nvml_ops, false);
	for (uint32_t i = 0; i < config->n_extra; i++)
		add_source(t, config->extra[i], false);
	*ret = t;
	return 0;
out_fail:
	telemetry_destroy(t);
	return rc;
}

void telemetry_destroy(struct telemetry *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; i < t->n_sources; i++)
		if (t->sources[i].open)
			t->sources[i].ops->close(t->sources[i].state);
	free(t->now);
	free(t->before);
	free(t->scratch);
	free(t);
}

/* Asks every source; returns how many answered. */
static unsigned take_sample(struct telemetry *t, uint64_t now)
{
	unsigned answered = 0;

	telemetry_sample_init(t->now);
	for (uint32_t i = 0; i < t->n_sources; i++) {
		struct source *s = &t->sources[i];
		struct err err = { 0 };

		if (!s->open && s->for_counters && t->now->n_counters)
			continue;
		if (!s->open && open_source(t, s, now, &err))
			continue;
		telemetry_sample_init(t->scratch);
		if (s->ops->sample(s->state, now, t->scratch))
			continue;
		telemetry_merge(t->now, t->scratch);
		answered++;
	}
	t->now->state.updated_ns = now;
	return answered;
}

static void give_peaks(const struct telemetry *t, struct telemetry_snapshot *s)
{
	for (uint32_t i = 0; i < t->config.n_peaks; i++)
		for (uint32_t k = 0; k < s->n_nodes; k++)
			if (s->nodes[k].id == t->config.peaks[i].node) {
				s->nodes[k].peak_bytes_per_s = t->config.peaks[i].bytes_per_s;
				telemetry_mark(s, TELEMETRY_GROUP_PEAK, &s->nodes[k].peak,
					       TELEMETRY_GIVEN, s->updated_ns);
			}
}

static bool was_full(struct telemetry *t, const struct telemetry_pci *p)
{
	for (uint32_t i = 0; i < t->n_full; i++)
		if (!strcmp(t->full[i].bdf, p->bdf))
			return true;
	if (p->below == TELEMETRY_NO && t->n_full < ARRAY_LEN(t->full))
		memcpy(t->full[t->n_full++].bdf, p->bdf, sizeof(p->bdf));
	return false;
}

static bool is_busy(const struct telemetry_snapshot *s, const char *bdf)
{
	for (uint32_t i = 0; i < s->n_gpus; i++)
		if (!strcmp(s->gpus[i].bdf, bdf))
			return s->gpus[i].busy_percent != TELEMETRY_UNKNOWN &&
			       s->gpus[i].busy_percent >= BUSY_PERCENT;
	return false;
}

/* A slow link of a GPU: idle, or really slow? It was fast before, or the GPU works now. */
static void judge_idle_links(struct telemetry *t, struct telemetry_snapshot *s)
{
	for (uint32_t i = 0; i < s->n_pci; i++) {
		struct telemetry_pci *p = &s->pci[i];
		bool full = was_full(t, p);

		if (p->may_idle != TELEMETRY_YES)
			continue;
		if (is_busy(s, p->bdf)) {
			p->may_idle = TELEMETRY_NO;
			p->degraded = TELEMETRY_YES;
		} else if (full) {
			p->degraded = TELEMETRY_NO;
		}
	}
}

int telemetry_read(struct telemetry *t, struct telemetry_snapshot *ret)
{
	uint64_t began = clock_now(t);
	struct telemetry_sample *swap = t->before;
	unsigned answered;

	t->before = t->now;
	t->now = swap;
	answered = take_sample(t, began);
	telemetry_rates(t->have_before ? t->before : NULL, t->now, ret);
	t->have_before = true;
	give_peaks(t, ret);
	judge_idle_links(t, ret);
	telemetry_regroup(ret);
	ret->cost_ns = clock_now(t) - began;
	return answered ? 0 : -EIO;
}
