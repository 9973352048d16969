/* SPDX-License-Identifier: MIT */
/*
 * tools/telemetry.c: `sluice telemetry`: the load of memory, NUMA nodes, links and disks, and the
 * source of each value. Reads this machine itself, without the daemon and without a privilege;
 * two samples make the rates. Changes nothing. One thread.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "base/opts.h"
#include "telemetry/peaks.h"
#include "tools/input.h"
#include "tools/telemetry.h"
#include "tools/verbs.h"

struct args {
	bool watch, json, no_module, no_perf, help;
	const char *peaks, *root, *script;
	float interval;
	uint32_t count;
};

#define AT(field) offsetof(struct args, field)

static const struct opt options[] = {
	{ "--watch", "-w", OPT_FLAG, AT(watch), .help = "Again and again, until interrupted." },
	{ "--json", NULL, OPT_FLAG, AT(json),
	  .help = "One JSON object; with --watch one a line. Unknown values are null." },
	{ "--interval", NULL, OPT_FLOAT, AT(interval), "X", 0.01, 3600, .def = "0.5",
	  .help = "Seconds between two samples: rates are taken over this time." },
	{ "--count", "-n", OPT_U32, AT(count), "N", 0, 1e9, .def = "0", .needs = "--watch",
	  .help = "End a watch after N snapshots; 0: never." },
	{ "--no-module", NULL, OPT_FLAG, AT(no_module), .help = "Do not ask sluice.ko." },
	{ "--no-perf", NULL, OPT_FLAG, AT(no_perf), .help = "Do not open performance counters." },
	{ "--peaks", NULL, OPT_TEXT, AT(peaks), "FILE",
	  .help = "What sluice doctor --json measured here: bandwidth is shown as a share of it." },
	{ "--root", NULL, OPT_TEXT, AT(root), "DIR",
	  .help = "Read DIR/sys, DIR/proc and DIR/dev: a recorded machine, for tests." },
	{ "--script", NULL, OPT_TEXT, AT(script), "FILE",
	  .excludes = "--root|--no-module|--no-perf",
	  .help = "Take the samples from a script, for tests." },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This text." },
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
	interrupted = 1;
}

/* False when interrupted. */
static bool pause_for(float seconds)
{
	struct timespec left = { .tv_sec = (time_t)seconds };

	left.tv_nsec = (long)((seconds - (float)left.tv_sec) * 1e9f);
	return !nanosleep(&left, NULL) && !interrupted;
}

static int show(const struct args *args, const struct telemetry_snapshot *s,
		const struct telemetry *t)
{
	if (args->json)
		return input_print_json(telemetry_to_json(s, t), !args->watch) ? EXIT_FAILED
									       : EXIT_OK;
	if (args->watch && isatty(STDOUT_FILENO))
		fputs("\033[H\033[J", stdout);
	telemetry_print(stdout, s);
	for (unsigned i = 0; telemetry_note(t, i); i++)
		printf("%snote: %s\n", i ? "" : "\n", telemetry_note(t, i));
	return input_flush() ? EXIT_FAILED : EXIT_OK;
}

static int run(const struct args *args, struct telemetry *t, struct telemetry_snapshot *s)
{
	int rc = EXIT_OK;

	if (telemetry_read(t, s)) {
		fprintf(stderr, "sluice telemetry: nothing can be read of %s\n",
			args->root ? args->root : "this machine");
		return EXIT_FAILED;
	}
	for (uint32_t n = 1; rc == EXIT_OK && pause_for(args->interval); n++) {
		telemetry_read(t, s);
		rc = show(args, s, t);
		if (!args->watch || n == args->count)
			break;
	}
	return rc;
}

/* Opens the sources that the arguments ask for. 0, or a sentence in @err. */
static int open_telemetry(const struct args *args, struct telemetry_peak *peaks,
			  struct telemetry **ret, struct err *err)
{
	struct telemetry_config config = {
		.root = args->root,
		.script = args->script,
		.no_module = args->no_module,
		.no_perf = args->no_perf,
		.peaks = peaks,
	};

	if (args->peaks) {
		int n = telemetry_load_peaks(args->peaks, peaks, NODES_KNOWN, err);

		if (n < 0)
			return err_prefix(err, n, "--peaks");
		config.n_peaks = (uint32_t)n;
	}
	return telemetry_create(&config, ret, err);
}

int verb_telemetry(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_interrupt };
	struct telemetry_peak peaks[NODES_KNOWN];
	struct telemetry_snapshot *snapshot;
	struct telemetry *t = NULL;
	struct args args = { 0 };
	struct err err = { 0 };
	int rc = input_args("[--watch] [--json]", options, ARRAY_LEN(options), argc, argv, &args,
			    &args.help, NULL);

	if (rc >= 0)
		return rc;
	snapshot = malloc(sizeof(*snapshot));
	if (!snapshot || open_telemetry(&args, peaks, &t, &err)) {
		fprintf(stderr, "sluice telemetry: %s\n", snapshot ? err.text : "no memory");
		free(snapshot);
		return EXIT_FAILED;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	rc = run(&args, t, snapshot);
	telemetry_destroy(t);
	free(snapshot);
	return rc;
}
