/* SPDX-License-Identifier: MIT */
/* daemon/serve/loop_time.c: see loop_time.h. */
#include "serve/loop_time.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "metrics/metrics.h"

static uint64_t cpu_ns(void)
{
	struct timespec t = { 0 };

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void loop_time_begin(struct loop_time *t)
{
	t->began_cpu_ns = cpu_ns();
	t->began_ns = now_ns();
}

void loop_time_end(struct loop_time *t)
{
	uint64_t ns = now_ns() - t->began_ns;

	histogram_observe_fine(&t->passes, ns);
	if (ns <= t->longest_ns)
		return;
	t->longest_ns = ns;
	t->longest_cpu_ns = cpu_ns() - t->began_cpu_ns;
}

void loop_time_woken(struct loop_time *t)
{
	atomic_store_explicit(&t->woken_ns, now_ns(), memory_order_relaxed);
}

void loop_time_looks(struct loop_time *t)
{
	uint64_t at = atomic_exchange_explicit(&t->woken_ns, 0, memory_order_relaxed);
	uint64_t now = now_ns();

	if (at && now > at)
		histogram_observe_fine(&t->wakes, now - at);
}

static void print_histogram(FILE *out, const char *name, const char *help,
			    const struct histogram *h)
{
	struct histogram_values v;
	struct sluice_histogram as;

	histogram_read(h, &v);
	memcpy(as.counts, v.counts, sizeof(as.counts));
	as.sum_ns = v.sum_ns;
	metric_print_histogram(out, name, help, &as, 1.0 / HISTOGRAM_FINE);
}

void loop_time_print(FILE *out, const struct loop_time *t)
{
	print_histogram(out, "sluice_loop_pass_seconds",
			"One pass of the loop that serves all clients", &t->passes);
	print_histogram(out, "sluice_loop_wake_seconds",
			"From the engine's call to the loop's look at what it has", &t->wakes);
	metric_print_head(out, "sluice_loop_pass_longest_seconds", METRIC_GAUGE,
			  "The longest pass of that loop");
	fprintf(out, "sluice_loop_pass_longest_seconds %.9f\n", (double)t->longest_ns / 1e9);
	metric_print_head(out, "sluice_loop_pass_longest_cpu_seconds", METRIC_GAUGE,
			  "What it computed in that one; the rest others had the processor");
	fprintf(out, "sluice_loop_pass_longest_cpu_seconds %.9f\n",
		(double)t->longest_cpu_ns / 1e9);
}
