/* SPDX-License-Identifier: MIT */
/*
 * tools/metrics.c: `sluice metrics`: the daemon's counters and this machine's telemetry as Prometheus
 * text (format 0.0.4), for node_exporter's textfile collector or whoever scrapes a command. Base
 * units in the names; bounded labels (node, device, source), never one per expert. A value that is
 * not known is left out. A daemon that does not answer is sluice_up 0 beside the
 * machine's series, so that whoever watches the file sees it go. One thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/num.h"
#include "telemetry/telemetry.h"
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

/* ---- the daemon ---- */

enum metric_type { COUNTER, GAUGE };

/* One series of the daemon: a field of its status, times a factor that makes it a base unit. */
static const struct {
	const char *name;
	enum metric_type type;
	const char *help;
	size_t offset;
	bool wide; /* 64 bits, else 32 */
	double factor;
} series[] = {
#define F(field) offsetof(struct sluice_status_info, field)
	{ "sluice_tokens_generated_total", COUNTER, "Tokens generated", F(tokens_generated), 1, 1 },
	{ "sluice_tokens_prefilled_total", COUNTER, "Prompt tokens read in", F(tokens_prefilled), 1,
	  1 },
	{ "sluice_steps_total", COUNTER, "Steps of the engine", F(steps), 1, 1 },
	{ "sluice_expert_hits_total", COUNTER, "Uses of experts that were in memory", F(hits), 1,
	  1 },
	{ "sluice_expert_misses_total", COUNTER, "Uses of experts that were not", F(misses), 1, 1 },
	{ "sluice_disk_read_bytes_total", COUNTER, "Expert bytes read from disk", F(bytes_read), 1,
	  1 },
	{ "sluice_disk_busy_seconds_total", COUNTER, "Time with a read in flight", F(read_busy_ns),
	  1, 1e-9 },
	{ "sluice_stall_seconds_total", COUNTER, "Time that computing waited for reads",
	  F(stall_ns), 1, 1e-9 },
	{ "sluice_local_bytes_total", COUNTER,
	  "Expert bytes multiplied on the node that holds them", F(local_bytes), 1, 1 },
	{ "sluice_remote_bytes_total", COUNTER, "Expert bytes multiplied on another node",
	  F(remote_bytes), 1, 1 },
	{ "sluice_budget_bytes", GAUGE, "Bytes of expert slots", F(budget_bytes), 1, 1 },
	{ "sluice_resident_bytes", GAUGE, "Bytes of experts in memory", F(resident_bytes), 1, 1 },
	{ "sluice_dense_bytes", GAUGE, "Bytes of dense weights", F(dense_bytes), 1, 1 },
	{ "sluice_kv_bytes", GAUGE, "Most bytes of the KV cache and the states", F(kv_bytes), 1,
	  1 },
	{ "sluice_experts", GAUGE, "Experts of the model", F(experts_total), 1, 1 },
	{ "sluice_experts_resident", GAUGE, "Experts in memory", F(experts_resident), 1, 1 },
	{ "sluice_filling", GAUGE, "1 while experts come in before they are asked for", F(filling),
	  0, 1 },
	{ "sluice_requests_active", GAUGE, "Requests being decoded", F(active), 0, 1 },
	{ "sluice_requests_waiting", GAUGE, "Requests waiting for a place", F(waiting), 0, 1 },
	{ "sluice_connections", GAUGE, "Clients", F(connections), 0, 1 },
	{ "sluice_uptime_seconds", GAUGE, "Since the daemon started", F(uptime_ns), 1, 1e-9 },
#undef F
};

static void head(FILE *out, const char *name, enum metric_type type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
		type == COUNTER ? "counter" : "gauge");
}

/* A label's value: backslash, quote and newline escaped. */
static void print_label(FILE *out, const char *text)
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

static void print_up(FILE *out, bool up)
{
	head(out, "sluice_up", GAUGE, "1 when the daemon answers requests");
	fprintf(out, "sluice_up %d\n", up);
}

static void print_daemon(FILE *out, const struct sluice_status_info *s)
{
	head(out, "sluice_build_info", GAUGE, "The daemon's version and what it runs with");
	fputs("sluice_build_info{version=", out);
	print_label(out, s->version);
	fprintf(out, ",cpu=\"%s\",io=\"%s\",arena=\"%s\",policy=", s->cpu, s->io, s->arena);
	print_label(out, s->policy);
	fputs("} 1\n", out);
	print_up(out, s->state == SLUICE_STATE_READY);
	for (size_t i = 0; i < ARRAY_LEN(series); i++) {
		const uint8_t *at = (const uint8_t *)s + series[i].offset;
		uint64_t wide;
		uint32_t narrow;

		memcpy(&narrow, at, sizeof(narrow));
		wide = narrow;
		if (series[i].wide)
			memcpy(&wide, at, sizeof(wide));
		head(out, series[i].name, series[i].type, series[i].help);
		fprintf(out, "%s %.*g\n", series[i].name, series[i].factor < 1 ? 15 : 17,
			(double)wide * series[i].factor);
	}
	if (!s->n_nodes)
		return;
	head(out, "sluice_arena_bytes", GAUGE, "Expert memory by NUMA node, from samples of pages");
	for (uint32_t i = 0; i < s->n_nodes && i < SLUICE_STATUS_NODES; i++)
		if (s->nodes[i].node >= 0)
			fprintf(out, "sluice_arena_bytes{node=\"%d\"} %" PRIu64 "\n",
				s->nodes[i].node, s->nodes[i].arena_bytes);
}

/* ---- the machine ---- */

static void print_sources(FILE *out, const struct telemetry_snapshot *t)
{
	head(out, "sluice_telemetry_source", GAUGE, "1: who measures this kind of value");
	for (int g = 0; g < TELEMETRY_GROUP_NR; g++)
		fprintf(out, "sluice_telemetry_source{group=\"%s\",source=\"%s\"} 1\n",
			telemetry_group_name(g), telemetry_source_name(t->groups[g].source));
}

/* One gauge over an array of equal structs: those whose field is known. */
struct column {
	const char *name, *help, *label;
	size_t offset; /* of the uint64_t field */
	double factor;
};

static void print_column(FILE *out, const struct column *c, const void *base, size_t stride,
			 uint32_t n, void (*label)(char *ret, size_t len, const void *entry))
{
	bool any = false;

	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *entry = (const uint8_t *)base + i * stride;
		char text[64];
		uint64_t value;

		memcpy(&value, entry + c->offset, sizeof(value));
		if (value == TELEMETRY_UNKNOWN)
			continue;
		if (!any)
			head(out, c->name, GAUGE, c->help);
		any = true;
		label(text, sizeof(text), entry);
		fprintf(out, "%s{%s=", c->name, c->label);
		print_label(out, text);
		fprintf(out, "} %.17g\n", (double)value * c->factor);
	}
}

static void label_node(char *ret, size_t len, const void *entry)
{
	snprintf(ret, len, "%d", ((const struct telemetry_node *)entry)->id);
}

static void label_pci(char *ret, size_t len, const void *entry)
{
	snprintf(ret, len, "%s", ((const struct telemetry_pci *)entry)->bdf);
}

static void label_disk(char *ret, size_t len, const void *entry)
{
	snprintf(ret, len, "%s", ((const struct telemetry_disk *)entry)->name);
}

static void label_gpu(char *ret, size_t len, const void *entry)
{
	snprintf(ret, len, "%s", ((const struct telemetry_gpu *)entry)->bdf);
}

static const struct column node_columns[] = {
#define C(name, help, field)                                                  \
	{                                                                     \
		name, help, "node", offsetof(struct telemetry_node, field), 1 \
	}
	C("sluice_node_memory_bytes", "Memory of a NUMA node", total_bytes),
	C("sluice_node_free_bytes", "Free memory of a NUMA node", free_bytes),
	C("sluice_node_read_bytes_per_second", "Read from a node's memory", rate.read_bytes_per_s),
	C("sluice_node_write_bytes_per_second", "Written to a node's memory",
	  rate.write_bytes_per_s),
	C("sluice_node_total_bytes_per_second", "Both", rate.total_bytes_per_s),
	C("sluice_node_peak_bytes_per_second", "What a node's memory can deliver",
	  peak_bytes_per_s),
#undef C
};

static const struct column pci_columns[] = {
#define C(name, help, field, factor)                                                \
	{                                                                           \
		name, help, "device", offsetof(struct telemetry_pci, field), factor \
	}
	C("sluice_link_transfers_per_second", "A PCIe link's speed now, per lane", speed_mts, 1e6),
	C("sluice_link_max_transfers_per_second", "What both ends can do", max_speed_mts, 1e6),
	C("sluice_link_lanes", "A PCIe link's width now", width, 1),
	C("sluice_link_max_lanes", "What both ends can do", max_width, 1),
	C("sluice_link_bytes_per_second", "The narrowest link to the root, one way",
	  bandwidth_bytes_per_s, 1),
#undef C
};

static const struct column disk_columns[] = {
#define C(name, help, field)                                                  \
	{                                                                     \
		name, help, "disk", offsetof(struct telemetry_disk, field), 1 \
	}
	C("sluice_disk_read_bytes_per_second", "Read from a disk by anyone", read_bytes_per_s),
	C("sluice_disk_inflight_requests", "A disk's requests in flight", inflight),
#undef C
};

static const struct column gpu_columns[] = {
#define C(name, help, field, factor)                                                \
	{                                                                           \
		name, help, "device", offsetof(struct telemetry_gpu, field), factor \
	}
	C("sluice_gpu_memory_bytes", "Memory of a GPU", memory_total_bytes, 1),
	C("sluice_gpu_free_bytes", "Free memory of a GPU", memory_free_bytes, 1),
	C("sluice_gpu_receive_bytes_per_second", "Over PCIe to a GPU", rx_bytes_per_s, 1),
	C("sluice_gpu_send_bytes_per_second", "Over PCIe from a GPU", tx_bytes_per_s, 1),
	C("sluice_gpu_clock_hertz", "A GPU's clock", sm_clock_mhz, 1e6),
	C("sluice_gpu_temperature_celsius", "A GPU's temperature", temperature_c, 1),
	C("sluice_gpu_power_watts", "A GPU's power", power_mw, 1e-3),
	C("sluice_gpu_throttle_reasons", "NVML's bits of why clocks are low", throttle_bits, 1),
#undef C
};

/* Of the whole, which is not always the sum of the nodes; and of this process (base/limits.h). */
static void print_memory(FILE *out, const char *root)
{
	const struct {
		const char *name, *help;
		size_t offset;
	} rows[] = {
		{ "sluice_machine_memory_bytes", "Memory of the machine",
		  offsetof(struct limits, machine_bytes) },
		{ "sluice_machine_available_bytes", "Of it, what programs may still take",
		  offsetof(struct limits, available_bytes) },
		{ "sluice_limit_bytes", "Memory limit of this command's control groups, or machine",
		  offsetof(struct limits, limit_bytes) },
		{ "sluice_room_bytes", "Memory that this command may still take",
		  offsetof(struct limits, room_bytes) },
	};
	struct limits limits;

	limits_read(root, &limits);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t value;

		memcpy(&value, (const uint8_t *)&limits + rows[i].offset, sizeof(value));
		if (value == LIMITS_UNKNOWN)
			continue;
		head(out, rows[i].name, GAUGE, rows[i].help);
		fprintf(out, "%s %" PRIu64 "\n", rows[i].name, value);
	}
}

static void print_machine(FILE *out, const struct telemetry_snapshot *t, const char *root)
{
	print_sources(out, t);
	print_memory(out, root);
	for (size_t i = 0; i < ARRAY_LEN(node_columns); i++)
		print_column(out, &node_columns[i], t->nodes, sizeof(t->nodes[0]), t->n_nodes,
			     label_node);
	for (size_t i = 0; i < ARRAY_LEN(pci_columns); i++)
		print_column(out, &pci_columns[i], t->pci, sizeof(t->pci[0]), t->n_pci, label_pci);
	for (size_t i = 0; i < ARRAY_LEN(disk_columns); i++)
		print_column(out, &disk_columns[i], t->disks, sizeof(t->disks[0]), t->n_disks,
			     label_disk);
	for (size_t i = 0; i < ARRAY_LEN(gpu_columns); i++)
		print_column(out, &gpu_columns[i], t->gpus, sizeof(t->gpus[0]), t->n_gpus,
			     label_gpu);
}

/* ---- the verb ---- */

/*
 * Connects: 0, or the exit status. A daemon that nobody named (no option, no variable) may be absent:
 * then *ret is NULL and the machine is what there is to tell.
 */
static int open_daemon(const struct args *args, struct sluice **ret)
{
	bool named = args->client.socket || getenv("SLUICE_SOCKET") || args->client.wait_seconds;

	if (named)
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
	return rc ? err_set(err, rc, "nothing can be read of this machine") : 0;
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
	if (args->json) {
		print_json(out, daemon, machine);
		return;
	}
	if (daemon->up)
		print_daemon(out, &daemon->status);
	else
		print_up(out, false);
	print_machine(out, machine, args->root);
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
