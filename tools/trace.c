/* SPDX-License-Identifier: MIT */
/*
 * tools/trace.c: `sluice trace`: routing traces read, converted, counted, replayed.
 *
 *	sluice trace convert IN OUT	any known format to route_trace v1 (docs/trace.md)
 *	sluice trace list IN OUT	experts by use, most used first: for --policy static:OUT
 *	sluice trace stats FILE		what a trace holds and how uneven its routing is
 *	sluice trace sim FILE		hit rates of the policies side by side
 *
 * IN and FILE may be - for standard input, OUT - for standard output. Works on files alone, with the
 * daemon's own policies. One thread.
 */
#include "tools/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/num.h"
#include "base/opts.h"
#include "base/size.h"
#include "tools/input.h"
#include "tools/verbs.h"

#define AT(field) offsetof(struct trace_args, field)

static int parse_predict(const char *text, void *field, struct err *err)
{
	struct predict_choice *c = field;
	struct err daemons = { 0 }; /* of its forms, one with a file */

	if (!strcmp(text, "prompts")) { /* what auto does with many tokens */
		*c = (struct predict_choice){ .mode = PREDICT_AUTO };
		return 0;
	}
	if (predict_parse(text, c, &daemons))
		return err_set(
			err, -EINVAL,
			"\"%.80s\" is not off, prompts or oracle:R with a share R from 0 to 1",
			text);
	if (c->mode != PREDICT_OFF && (c->mode != PREDICT_ORACLE || c->path))
		return err_set(err, -EINVAL, "a trace knows no router: off, prompts or oracle:R");
	return 0;
}

/* "US,CPU,LINK[,MEMORY]": microseconds, and sizes a second. */
static int parse_device_time(const char *text, void *field, struct err *err)
{
	struct layer_rates *r = field;
	double *const rates[] = { &r->cpu, &r->link, &r->memory };
	char *end, part[32];
	double us = strtod(text, &end);
	unsigned n = 0;

	for (; end != text && *end == ',' && n < ARRAY_LEN(rates); n++) {
		const size_t len = strcspn(end + 1, ",");
		uint64_t bytes;

		if (len >= sizeof(part))
			break;
		memcpy(part, end + 1, len);
		part[len] = '\0';
		if (size_parse(part, &bytes) || !bytes)
			break;
		*rates[n] = (double)bytes;
		end += 1 + len;
	}
	if (*end || n < 2 || !(us >= 0 && us <= 1e9))
		return err_set(err, -EINVAL,
			       "microseconds before a layer's experts and bytes a second of the "
			       "CPU and the link, such as 160,120G,25G, not '%s'",
			       text);
	r->fixed_ns = us * 1e3;
	return 0;
}

static const struct opt options[] = {
	{ "--policy", "-p", OPT_TEXT, AT(policy), "NAMES", .given = AT(policy_given),
	  .help = "sim: policies, separated by commas; default lru,lfu,belady "
		  "(belady replays this very trace: the bound)" },
	{ "--slots", "-s", OPT_U32, AT(slots), "N", 1, UINT32_MAX, .excludes = "--share",
	  .given = AT(slots_given), .help = "sim: experts that fit in memory" },
	{ "--budget", NULL, OPT_SIZE, AT(budget), "SIZE", 1, 0x1p62, .given = AT(budget_given),
	  .excludes = "--slots|--share",
	  .help = "sim: bytes of experts in memory, divided as the daemon's --host-budget; the "
		  "trace must say slot_bytes" },
	{ "--share", NULL, OPT_TEXT, AT(share), "P,..", .given = AT(share_given),
	  .help = "sim: the same as percent of all experts, several separated by commas; "
		  "default 6,12,25,50" },
	{ "--device-fills", NULL, OPT_FLOAT, AT(device_fills), "R", 0.001, 1000,
	  .given = AT(device_given), .excludes = "--predict",
	  .help = "sim: the slots are a device's: a miss takes none, and R experts a layer may come in for "
		  "each token, in the step after" },
	{ "--device-time", NULL, OPT_CUSTOM, AT(device), "US,CPU,LINK[,MEMORY]",
	  .parse = parse_device_time, .given = AT(time_given),
	  .help = "sim: with --device-fills, how long a layer takes before its experts and what CPU, link and "
		  "memory carry a second: fills take time, and stop where they do not pay" },
	{ "--fill", NULL, OPT_FLAG, AT(fill),
	  .help = "sim: slots are full before the first token, as after the daemon's background fill" },
	{ "--predict", NULL, OPT_CUSTOM, AT(predict), "off|prompts|oracle:R",
	  .parse = parse_predict, .def = "off", .given = AT(predict_given),
	  .help = "sim: of a layer's experts the share R is read ahead of it; prompts: in steps of many tokens "
		  "those that are missing, as the daemon does it" },
	{ "--json", NULL, OPT_FLAG, AT(json), .help = "stats, sim: one JSON object" },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "this text" },
};

double *trace_count_uses(const struct route_trace *t)
{
	double *uses = calloc((size_t)t->n_layers * t->n_expert, sizeof(*uses));

	if (!uses)
		return NULL;
	for (size_t i = 0; i < t->n_rows; i++)
		for (uint32_t k = 0; k < t->rows[i].n; k++)
			uses[t->rows[i].layer * t->n_expert +
			     t->uses[t->rows[i].first + k].expert]++;
	for (size_t i = 0; i < t->n_frequencies; i++) {
		const struct trace_frequency *f = &t->frequencies[i];

		uses[f->layer * t->n_expert + f->expert] += (double)f->uses_per_token;
	}
	return uses;
}

static int fail(const char *what, const char *path, int rc)
{
	fprintf(stderr, "sluice trace: %s %s: %s\n", what, path, strerror(-rc));
	return EXIT_FAILED;
}

/*
 * Writes what @fn writes into @path ("-": stdout, whose errors are main()'s). No half-written file
 * is left behind; what is no file (a device, a pipe) is never removed.
 */
static int write_to(const char *path, const struct route_trace *t,
		    int (*fn)(const struct route_trace *t, FILE *f))
{
	struct stat st;
	bool is_file;
	FILE *f;
	int rc;

	if (strcmp(path, "-") == 0) {
		rc = fn(t, stdout);
		if (rc == -ENOMEM)
			return fail("cannot write", path, rc);
		input_output_failed(-rc);
		return EXIT_OK;
	}
	f = fopen(path, "we");
	if (!f)
		return fail("cannot create", path, -errno);
	is_file = !fstat(fileno(f), &st) && S_ISREG(st.st_mode);
	rc = fn(t, f);
	if (fclose(f) && !rc)
		rc = -errno;
	if (!rc)
		return EXIT_OK;
	if (is_file)
		remove(path);
	return fail("cannot write", path, rc);
}

struct listed {
	uint32_t id;
	double uses;
};

static int by_uses(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;

	if (x->uses != y->uses)
		return x->uses < y->uses ? 1 : -1;
	return x->id < y->id ? -1 : 1;
}

static int write_list(const struct route_trace *t, FILE *f)
{
	uint32_t n = t->n_layers * t->n_expert;
	struct listed *list = calloc(n, sizeof(*list));
	double *uses = trace_count_uses(t);

	if (!list || !uses) {
		free(list);
		free(uses);
		return -ENOMEM;
	}
	for (uint32_t id = 0; id < n; id++)
		list[id] = (struct listed){ id, uses[id] };
	qsort(list, n, sizeof(*list), by_uses);
	fprintf(f, "# layer expert, most used first; for --policy static:FILE\n");
	for (uint32_t i = 0; i < n && list[i].uses > 0; i++)
		fprintf(f, "%u %u\n", list[i].id / t->n_expert, list[i].id % t->n_expert);
	free(list);
	free(uses);
	return ferror(f) ? -EIO : 0;
}

static int usage(void)
{
	fputs("usage: sluice trace convert IN OUT     (- is standard input or output)\n"
	      "       sluice trace list IN OUT\n"
	      "       sluice trace stats FILE [--json]\n"
	      "       sluice trace sim FILE [--policy NAMES] [--slots N | --share P,..] [--json]\n"
	      "IN and FILE may be route_trace v1, a .route.csv, a .jsonl with layers, a .freq table.\n\n",
	      stdout);
	opts_help(stdout, options, ARRAY_LEN(options));
	return EXIT_OK;
}

/* Options that the sub-command @what would not look at: 0, or a sentence. */
static int check_options(const struct trace_args *args, const char *what, struct err *err)
{
	bool sim = !strcmp(what, "sim"), prints = sim || !strcmp(what, "stats");
	const char *name = args->policy_given	 ? "--policy"
			   : args->slots_given	 ? "--slots"
			   : args->share_given	 ? "--share"
			   : args->budget_given	 ? "--budget"
			   : args->fill		 ? "--fill"
			   : args->predict_given ? "--predict"
			   : args->device_given	 ? "--device-fills"
			   : args->time_given	 ? "--device-time"
						 : NULL;

	if (name && !sim)
		return err_set(err, -EINVAL, "%s is for sim, it has no effect on %s", name, what);
	if (args->time_given && !args->device_given)
		return err_set(err, -EINVAL, "--device-time is for --device-fills");
	if (args->json && !prints)
		return err_set(err, -EINVAL, "--json is for stats and sim, it has no effect on %s",
			       what);
	return 0;
}

static int refuse(const char *why)
{
	fprintf(stderr, "sluice trace: %s\nsluice help trace lists the options\n", why);
	return EXIT_USAGE;
}

int verb_trace(int argc, char **argv)
{
	struct trace_args args = { 0 };
	struct route_trace *t;
	struct err err = { 0 };
	const char *what, *path;
	int n_words, status;

	if (opts_parse(options, ARRAY_LEN(options), argc, argv, &args, &n_words, &err))
		return refuse(err.text);
	if (args.help)
		return usage();
	what = n_words > 0 ? argv[1] : "";
	if (n_words != (strcmp(what, "convert") == 0 || strcmp(what, "list") == 0 ? 3 : 2) ||
	    opts_choice("convert|list|stats|sim", what) < 0)
		return refuse("convert IN OUT, list IN OUT, stats FILE or sim FILE is needed");
	if (check_options(&args, what, &err))
		return refuse(err.text);
	path = strcmp(argv[2], "-") ? argv[2] : TRACE_STDIN;
	if (trace_read(path, &t, &err)) {
		fprintf(stderr, "sluice trace: %s\n", err.text);
		return EXIT_FAILED;
	}
	if (strcmp(what, "convert") == 0)
		status = write_to(argv[3], t, trace_write);
	else if (strcmp(what, "list") == 0)
		status = write_to(argv[3], t, write_list);
	else if (strcmp(what, "stats") == 0)
		status = trace_stats(t, path, &args);
	else
		status = trace_sim(t, path, &args);
	route_trace_destroy(t);
	return status;
}
