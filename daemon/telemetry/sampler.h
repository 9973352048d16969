/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/sampler.h: one thread that takes a snapshot ten times a second, and this process's
 * limits (base/limits.h) once a second, and publishes them.
 *
 * Owns the struct telemetry. Readers (serve, metrics, the engine's policy input) take a whole
 * snapshot at any time from any thread: they neither lock nor wait for a sample, and a slow file in
 * /sys delays nobody but the sampler. Created by main, destroyed after its readers.
 */
#ifndef SLUICE_TELEMETRY_SAMPLER_H
#define SLUICE_TELEMETRY_SAMPLER_H

#include "base/limits.h"
#include "telemetry/telemetry.h"

#define SAMPLER_PERIOD_MS 100

struct telemetry_sampler_config {
	struct telemetry_config telemetry; /* its texts are borrowed for the sampler's life */
	uint32_t
		period_ms; /* at least, between two samples; 0: no thread, see telemetry_sampler_step() */
};

struct telemetry_sampler;

/* Takes the first sample before it returns. 0 or -errno with a sentence. */
int telemetry_sampler_create(const struct telemetry_sampler_config *config,
			     struct telemetry_sampler **ret, struct err *err);

/* Ends the thread, within the time of one sample. Takes NULL. */
void telemetry_sampler_destroy(struct telemetry_sampler *s);

/* Takes and publishes one sample now: without a thread only, from one thread. */
void telemetry_sampler_step(struct telemetry_sampler *s);

/* The latest snapshot, whole. 0, or -EAGAIN in the improbable case that it was replaced twice while
 * being copied, several times over. About 60 KiB are copied. Any thread, no lock, no system call. */
int telemetry_sampler_get(const struct telemetry_sampler *s, struct telemetry_snapshot *ret);

/* This process's limits as of a second ago at most, by the same rules: about 1 KiB. CPUs are the sampler's. */
int telemetry_sampler_limits(const struct telemetry_sampler *s, struct limits *ret);

/* Samples published so far: a reader that has seen this number need not copy again. Any thread. */
uint64_t telemetry_sampler_count(const struct telemetry_sampler *s);

/* As telemetry_note(), from any thread. The text lives as long as the sampler. */
const char *telemetry_sampler_note(const struct telemetry_sampler *s, unsigned i);

#endif
