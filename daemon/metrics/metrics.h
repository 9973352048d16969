/* SPDX-License-Identifier: MIT */
/*
 * daemon/metrics/metrics.h: what can be watched, as Prometheus text (format 0.0.4).
 *
 * One table for whoever prints it: `sluice metrics` for node_exporter's textfile collector, the
 * daemon for those who scrape it. Base units in the names (_bytes, _seconds, _total), prefix
 * sluice_, bounded labels (node, device, disk, source), never one per expert. A value that is not
 * known is left out. Tables: daemon.c (of the daemon's status), machine.c (of the machine).
 * Functions write to a stream and keep nothing; errors are the stream's. Any thread.
 */
#ifndef SLUICE_METRICS_METRICS_H
#define SLUICE_METRICS_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/limits.h"
#include "telemetry/telemetry.h"
#include "uapi/sluice_status.h"

/* Whether the daemon answers: all that is known of one that does not. */
void metrics_print_up(FILE *out, bool up);

/* All series of a daemon that answers, sluice_up among them. */
void metrics_print_daemon(FILE *out, const struct sluice_status_info *status);

/* All series of the machine. @limits: of the process that prints. */
void metrics_print_machine(FILE *out, const struct telemetry_snapshot *machine,
			   const struct limits *limits);

/* ---- for the tables ---- */

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* A series: a field of an entry, times a factor that makes it a base unit. */
struct metric {
	const char *name;
	enum metric_type type;
	const char *help;
	size_t offset;
	size_t bytes; /* of the field: 8 (UINT64_MAX: not known) or 4 */
	double factor;
};

/* The entries that the series of a table are taken from: one without a label, or many with one. */
struct metric_entries {
	const void *base;
	size_t stride;
	uint32_t n;
	const char *label;					/* its name; NULL: none */
	void (*name)(char *ret, size_t len, const void *entry); /* its value */
};

/* The two lines before a series' values. */
void metric_print_head(FILE *out, const char *name, enum metric_type type, const char *help);

/* A label's value in quotes: backslash, quote and newline escaped. */
void metric_print_label(FILE *out, const char *text);

/*
 * A histogram's buckets, each with those below it, its sum and its count. In seconds; @unit: of its
 * bounds and its sum in nanoseconds, 1, or 1e-3 for a fine one (base/histogram.h).
 */
void metric_print_histogram(FILE *out, const char *name, const char *help,
			    const struct sluice_histogram *h, double unit);

/* Each series over all entries that know it. */
void metric_print(FILE *out, const struct metric *rows, size_t n_rows,
		  const struct metric_entries *entries);

#endif
