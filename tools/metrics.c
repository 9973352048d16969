/* SPDX-License-Identifier: MIT */
/*
 * tools/metrics.c: `sluice metrics`: the daemon's counters and this machine's telemetry as Prometheus
 * text, for node_exporter's textfile collector or whoever scrapes a command; what is in it is the
 * table of daemon/metrics. A daemon that does not answer is sluice_up 0 beside the machine's series,
 * so that whoever watches the file sees it go. One thread.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "metrics/metrics.h"
#include "tools/client.h"
#include "tools/input.h"
#include "tools/status.h"
#include "tools/telemetry.h"
#include "tools/verbs.h"

struct args {
	struct client_args client;
	const char *output, *root;
	float interval;
	bool json, help;
};

#define AT(field) offsetof(struct args, field)

static const struct opt options[] = {
	CLIENT_OPTIONS(struct args, "0"),
	{ "--output", "-o", OPT_TEXT, AT(output), "FILE",
	  .help = "Write there, at once and whole (a new file is renamed over it); else, or for -, "
		  "standard output." },
	{ "--interval", NULL, OPT_FLOAT, AT(interval), "X", 0.02, 60, .def = "0.2",
	  .help = "Seconds between the two samples that rates are made of." },
	{ "--root", NULL, OPT_TEXT, AT(root), "DIR",
	  .help = "Read DIR/sys and DIR/proc: a recorded machine, for tests." },
	{ "--json", NULL, OPT_FLAG, AT(json),
	  .help = "One JSON object instead: what status --json and telemetry --json print." },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This text." },
};

/*
 * Connects: 0, or the exit status. A daemon that nobody named (no option, no variable) may be absent:
 * then *ret is NULL and the machine is what there is to tell.
 */
static int open_daemon(const struct args *args, struct sluice **ret)
{
	const char *variable = getenv("SLUICE_SOCKET"); /* empty counts as unset, as in libsluice */

	if (args->client.socket || (variable && *variable) || args->client.wait_seconds)
		return client_open("metrics", &args->client, ret);
	if (sluice_connect(NULL, ret, NULL))
		*ret = NULL;
	return EXIT_OK;
}

struct answer {
	bool up; /* the rest holds what the daemon said */
	struct sluice_status_info status;
	char fallbacks[4096], path[4096];
};

/* 0 or the exit status. */
static int ask_daemon(const struct args *args, struct answer *ret)
{
	struct sluice_model_info model = { .struct_size = sizeof(model) };
	struct sluice_fault fault = { 0 };
	struct sluice *s = NULL;
	int rc = open_daemon(args, &s);

	if (rc || !s)
		return rc;
	if (sluice_get_status(s, &ret->status, ret->fallbacks, sizeof(ret->fallbacks), &fault) ||
	    sluice_get_model(s, &model, ret->path, sizeof(ret->path), &fault))
		rc = client_fail("metrics", &fault);
	ret->up = !rc;
	sluice_close(s);
	return rc;
}

static int read_machine(const struct args *args, struct telemetry_snapshot *ret, struct err *err)
{
	struct telemetry_config config = { .root = args->root };
	struct timespec pause = { .tv_sec = (time_t)args->interval };
	struct telemetry *t;
	int rc = telemetry_create(&config, &t, err);

	if (rc)
		return rc;
	pause.tv_nsec = (long)((args->interval - (float)pause.tv_sec) * 1e9f);
	rc = telemetry_read(t, ret);
	if (!rc && !nanosleep(&pause, NULL))
		rc = telemetry_read(t, ret);
	telemetry_destroy(t);
	return rc ? err_set(err, rc, "nothing can be read of %s",
			    args->root ? args->root : "this machine")
		  : 0;
}

static void print_json(FILE *out, const struct answer *daemon,
		       const struct telemetry_snapshot *machine)
{
	bool up = daemon->up && daemon->status.state == SLUICE_STATE_READY;
	json_t *status = daemon->up
				 ? status_to_json(&daemon->status, daemon->fallbacks, daemon->path)
				 : json_null();
	json_t *o = json_pack("{s:b, s:o, s:o}", "up", (int)up, "daemon", status, "machine",
			      telemetry_to_json(machine, NULL));

	if (!o || json_dumpf(o, out, JSON_INDENT(2)))
		fprintf(stderr, "sluice metrics: no memory for the JSON\n");
	putc('\n', out);
	json_decref(o);
}

static void print_all(FILE *out, const struct args *args, const struct answer *daemon,
		      const struct telemetry_snapshot *machine)
{
	struct limits limits;

	if (args->json) {
		print_json(out, daemon, machine);
		return;
	}
	if (daemon->up)
		metrics_print_daemon(out, &daemon->status);
	else
		metrics_print_up(out, false);
	limits_read(args->root, &limits);
	metrics_print_machine(out, machine, &limits);
}

/* A new file is renamed over the old one; what is no file (a device, a pipe) is written to. */
static int write_file(const struct args *args, const struct answer *daemon,
		      const struct telemetry_snapshot *machine, struct err *err)
{
	bool special = input_is_special(args->output), failed;
	char part[4096];
	FILE *out;
	int n;

	n = special ? snprintf(part, sizeof(part), "%s", args->output)
		    : snprintf(part, sizeof(part), "%s.%d", args->output, (int)getpid());
	if (n >= (int)sizeof(part))
		return err_set(err, -ENAMETOOLONG, "%s: the name is too long", args->output);
	out = fopen(part, "we");
	if (!out)
		return err_set(err, -errno, "%s: %s", part, strerror(errno));
	print_all(out, args, daemon, machine);
	failed = ferror(out) != 0;
	failed |= fclose(out);
	if (!failed && !special)
		failed = rename(part, args->output);
	if (!failed)
		return 0;
	err_set(err, -EIO, "%s: %s", args->output, strerror(errno));
	if (!special)
		unlink(part);
	return -EIO;
}

int verb_metrics(int argc, char **argv)
{
	static struct telemetry_snapshot machine;
	static struct answer daemon;
	struct args args = { 0 };
	struct err err = { 0 };
	int rc = input_args("[--socket PATH] [--output FILE] [--json]", options, ARRAY_LEN(options),
			    argc, argv, &args, &args.help, NULL);
	bool to_stdout;

	if (rc >= 0)
		return rc;
	daemon.status.struct_size = sizeof(daemon.status);
	rc = ask_daemon(&args, &daemon);
	to_stdout = !args.output || !strcmp(args.output, "-");
	if (read_machine(&args, &machine, &err) ||
	    (!to_stdout && write_file(&args, &daemon, &machine, &err))) {
		fprintf(stderr, "sluice metrics: %s\n", err.text);
		return EXIT_FAILED;
	}
	if (to_stdout)
		print_all(stdout, &args, &daemon, &machine); /* main() says what failed there */
	return rc;
}
