/* SPDX-License-Identifier: MIT */
/* daemon/metrics/print.c: a table of series as text, see metrics.h. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/histogram.h"
#include "metrics/metrics.h"

void metric_print_head(FILE *out, const char *name, enum metric_type type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
		type == METRIC_COUNTER ? "counter"
		: type == METRIC_GAUGE ? "gauge"
				       : "histogram");
}

void metric_print_label(FILE *out, const char *text)
{
	putc('"', out);
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			putc('\\', out);
		if (*text == '\n')
			fputs("\\n", out);
		else
			putc(*text, out);
	}
	putc('"', out);
}

static bool take_value(const struct metric *m, const void *entry, double *ret)
{
	const uint8_t *at = (const uint8_t *)entry + m->offset;
	uint64_t wide;
	uint32_t narrow;

	if (m->bytes == sizeof(narrow)) {
		memcpy(&narrow, at, sizeof(narrow));
		*ret = (double)narrow * m->factor;
		return true;
	}
	memcpy(&wide, at, sizeof(wide));
	*ret = (double)wide * m->factor;
	return wide != UINT64_MAX;
}

static void print_series(FILE *out, const struct metric *m, const struct metric_entries *e)
{
	/* a fraction of a unit has the factor's rounding in its last digits; counts are exact */
	int digits = m->factor < 1 ? 15 : 17;
	bool any = false;

	for (uint32_t i = 0; i < e->n; i++) {
		const void *entry = (const uint8_t *)e->base + i * e->stride;
		char text[64];
		double value;

		if (!take_value(m, entry, &value))
			continue;
		if (!any)
			metric_print_head(out, m->name, m->type, m->help);
		any = true;
		fputs(m->name, out);
		if (e->label) {
			e->name(text, sizeof(text), entry);
			fprintf(out, "{%s=", e->label);
			metric_print_label(out, text);
			putc('}', out);
		}
		fprintf(out, " %.*g\n", digits, value);
	}
}

void metric_print(FILE *out, const struct metric *rows, size_t n_rows,
		  const struct metric_entries *entries)
{
	for (size_t i = 0; i < n_rows; i++)
		print_series(out, &rows[i], entries);
}

void metric_print_histogram(FILE *out, const char *name, const char *help,
			    const struct sluice_histogram *h, double unit)
{
	uint64_t n = 0;

	static_assert(SLUICE_BUCKETS == HISTOGRAM_BUCKETS, "uapi");
	metric_print_head(out, name, METRIC_HISTOGRAM, help);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		n += h->counts[i];
		if (i < HISTOGRAM_BOUNDS)
			fprintf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
				(double)histogram_bounds[i] * 1e-9 * unit, n);
		else
			fprintf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, n);
	}
	fprintf(out, "%s_sum %.15g\n%s_count %" PRIu64 "\n", name, (double)h->sum_ns * 1e-9 * unit,
		name, n);
}
