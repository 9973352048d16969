/* SPDX-License-Identifier: MIT */
/*
 * tools/doctor.c: `sluice doctor`: measures what bounds the speed here (memory, disk), looks at what
 * the daemon would like to have (huge pages, io_uring, locked memory, CPU level), and says what to
 * change with the exact command. With a model it also says how that would fit. Changes nothing. One
 * thread beside those that measure.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <liburing.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <linux/capability.h>

#include "base/limits.h"
#include "base/num.h"
#include "base/opts.h"
#include "base/size.h"
#include "kernels/cpu/cpu.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "tools/client.h"
#include "tools/diskread.h"
#include "tools/doctor_machine.h"
#include "tools/input.h"
#include "tools/memread.h"
#include "tools/plan.h"
#include "tools/verbs.h"

#define MAX_ADVICE     16
#define MEMLOCK_ENOUGH ((uint64_t)1 << 30) /* fixed buffers pay from about here */

struct args {
	struct client_args client;
	const char *disk, *model, *root;
	float seconds;
	bool no_memory, json, help;
};

#define AT(field) offsetof(struct args, field)

static const struct opt options[] = {
	{ "--model", "-m", OPT_TEXT, AT(model), "FILE",
	  .help = "Say how this model would fit, and measure the disk that it is on." },
	{ "--disk", NULL, OPT_TEXT, AT(disk), "PATH",
	  .help = "Measure the disk of this GGUF file, or of this directory with a test file of "
		  "512 MiB." },
	CLIENT_OPTIONS(struct args, "0"),
	{ "--root", NULL, OPT_TEXT, AT(root), "DIR",
	  .help = "Look at the memory, groups, nodes and links of this copy of /sys and /proc "
		  "instead (tests)." },
	{ "--seconds", NULL, OPT_FLOAT, AT(seconds), "X", 0.1, 60, .def = "1",
	  .help = "How long each measurement takes." },
	{ "--no-memory", NULL, OPT_FLAG, AT(no_memory), .help = "Do not measure the memory." },
	{ "--json", NULL, OPT_FLAG, AT(json),
	  .help = "One JSON object; sluice bench --peaks reads it." },
	{ "--help", "-h", OPT_FLAG, AT(help), .help = "This text." },
};

/* What is the matter, what it costs, the command. */
struct advice {
	char problem[256], command[256];
};

struct fit {
	char name[128], arch[32];
	uint64_t active_bytes;
	struct plan plan;   /* with the daemon's defaults */
	struct err refused; /* why it would not start; where memory is short: sizes alone */
};

struct facts {
	char kernel[96], cpu[128], level[16], nodes[64], governor[32], thp[64], io_uring[128];
	unsigned cpus[MEMREAD_MAX_CORES], n_cores;
	struct limits limits; /* of a process such as this one */
	uint64_t room;	      /* limits.room_bytes, or what to go by where that is unknown */
	uint64_t memlock;
	bool uring_switched_off; /* by the sysctl */
	bool may_lock;		 /* CAP_IPC_LOCK: the limit does not count */
	double mem_gbs, gmadds;
	bool disk_measured, model_given;
	struct diskread disk;
	struct fit fit;
	struct machine machine;
	struct plan_machine plan_machine; /* this machine, as it is planned for */
	struct advice advice[MAX_ADVICE];
	unsigned n_advice;
};

/* First line of a file, "" where it cannot be read. */
static void read_line(const char *path, char *buf, size_t len)
{
	FILE *f = fopen(path, "re");

	buf[0] = '\0';
	if (!f)
		return;
	if (!fgets(buf, (int)len, f))
		buf[0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	fclose(f);
}

static void read_cpu(struct facts *f)
{
	memread_cpu_name(f->cpu, sizeof(f->cpu));
	snprintf(f->level, sizeof(f->level), "%s", cpu_ops_best()->name);
	/* under a quota more threads only wait for each other, and measure that */
	f->n_cores = memread_cores(f->cpus, ARRAY_LEN(f->cpus));
	f->n_cores = (unsigned)u64_min(f->n_cores, f->limits.cpus);
}

static bool has_capability(unsigned which)
{
	char line[128];
	FILE *file = fopen("/proc/self/status", "re");
	uint64_t mask = 0;

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "CapEff:", 7))
			mask = strtoull(line + 7, NULL, 16);
	if (file)
		fclose(file);
	return mask >> which & 1;
}

/* "yes", or why not. */
static void probe_io_uring(struct facts *f)
{
	struct io_uring ring;
	char setting[16];
	int rc = io_uring_queue_init(4, &ring, 0);

	if (!rc) {
		io_uring_queue_exit(&ring);
		snprintf(f->io_uring, sizeof(f->io_uring), "yes");
		return;
	}
	read_line("/proc/sys/kernel/io_uring_disabled", setting, sizeof(setting));
	f->uring_switched_off = setting[0] && strcmp(setting, "0") != 0;
	snprintf(f->io_uring, sizeof(f->io_uring), "no: %s%s%s", strerror(-rc),
		 setting[0] ? ", kernel.io_uring_disabled = " : "", setting);
}

static void look(struct facts *f, const char *root)
{
	struct rlimit limit = { 0 };
	struct utsname system;

	if (!uname(&system))
		snprintf(f->kernel, sizeof(f->kernel), "%.30s %.60s", system.sysname,
			 system.release);
	plan_machine_here(root, NULL, &f->plan_machine);
	f->limits = f->plan_machine.limits;
	f->room = f->limits.room_bytes == LIMITS_UNKNOWN ? limits_assume_bytes()
							 : f->limits.room_bytes;
	read_cpu(f);
	read_line("/sys/devices/system/node/has_memory", f->nodes, sizeof(f->nodes));
	read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", f->governor,
		  sizeof(f->governor));
	read_line("/sys/kernel/mm/transparent_hugepage/enabled", f->thp, sizeof(f->thp));
	getrlimit(RLIMIT_MEMLOCK, &limit);
	f->memlock = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)limit.rlim_cur;
	f->may_lock = has_capability(CAP_IPC_LOCK);
	probe_io_uring(f);
}

/* ---- measuring ---- */

static int measure_memory(struct facts *f, float seconds, struct err *err)
{
	/* well beyond any cache, and never most of what is free */
	uint64_t each = u64_min((uint64_t)256 << 20, f->room / 4 / f->n_cores);

	int rc = memread_measure(f->cpus, f->n_cores, each, (double)seconds, &f->mem_gbs, err);

	return rc ? rc
		  : memread_multiply(f->cpus, f->n_cores, (double)seconds / 4, &f->gmadds, err);
}

/* What the daemon would do with this model here: the rates are known by now. */
static int fit_model(struct facts *f, const char *path, struct err *err)
{
	struct plan_options o = { .ops = cpu_ops_best() };
	struct fit *fit = &f->fit;
	struct model *m;
	struct tokenizer *t = NULL;
	int rc = model_open(path, &m, err);

	if (rc)
		return rc;
	snprintf(fit->name, sizeof(fit->name), "%s", m->name);
	snprintf(fit->arch, sizeof(fit->arch), "%s", m->arch_name);
	fit->active_bytes = m->routed_bytes_per_token + model_dense_bytes_per_token(m);
	f->plan_machine.align = plan_read_align(m);
	f->plan_machine.memory_bytes_per_s = f->mem_gbs * 1e9;
	f->plan_machine.disk_bytes_per_s = f->disk_measured ? f->disk.gbs * 1e9 : 0;
	rc = plan_make(m, &o, &f->plan_machine, &fit->plan, &fit->refused);
	if (rc)
		rc = memory_sizes(m, f->plan_machine.align, &fit->plan.memory, err);
	else if (!tokenizer_create(m->gguf, NULL, &t, &fit->refused))
		tokenizer_destroy(t);
	model_destroy(m);
	f->model_given = !rc;
	return rc;
}

/* ---- advice ---- */

static void advise(struct facts *f, const char *command, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void advise(struct facts *f, const char *command, const char *fmt, ...)
{
	struct advice *a;
	va_list ap;

	if (f->n_advice == MAX_ADVICE)
		return;
	a = &f->advice[f->n_advice++];
	va_start(ap, fmt);
	vsnprintf(a->problem, sizeof(a->problem), fmt, ap);
	va_end(ap);
	snprintf(a->command, sizeof(a->command), "%s", command);
}

/* How many huge pages are worth having depends on the model: nothing is said without one. */
static void advise_pages(struct facts *f)
{
	const struct limits *l = &f->limits;
	uint64_t want = f->model_given ? f->fit.plan.memory.budget_bytes : 0;
	char command[128], size[32];

	if (l->huge_pool && limits_huge_bytes(l) < want) {
		uint64_t pages = l->huge_total - l->huge_free + want / LIMITS_HUGE_PAGE + 1;

		snprintf(command, sizeof(command), "sudo sysctl -w vm.nr_hugepages=%" PRIu64,
			 pages);
		if (l->huge_room_bytes < want)
			snprintf(command, sizeof(command), "raise the hugetlb limit of the cgroup");
		advise(f, command,
		       "fewer free huge pages than the experts could use (%s); the daemon falls "
		       "back to transparent ones",
		       size_format(size, sizeof(size), want));
	}
	if (strstr(f->thp, "[never]"))
		advise(f, "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
		       "transparent huge pages are off: every expert costs many TLB misses");
}

static void take_advice(void *arg, const char *command, const char *problem)
{
	advise(arg, command, "%s", problem);
}

static void advise_all(struct facts *f)
{
	char size[32];

	if (!strcmp(f->level, "scalar"))
		advise(f, "", "this processor has neither AVX2 nor AVX-512: decoding will be slow");
	advise_pages(f);
	machine_advise(&f->machine, f->model_given ? f->fit.plan.memory.budget_bytes : 0,
		       take_advice, f);
	if (f->memlock < MEMLOCK_ENOUGH && !f->may_lock)
		advise(f,
		       "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited before sluiced",
		       "only %s may be locked: the ring's buffers cannot be registered",
		       size_format(size, sizeof(size), f->memlock));
	if (strcmp(f->io_uring, "yes")) /* else seccomp, a container or the kernel forbids it */
		advise(f, f->uring_switched_off ? "sudo sysctl -w kernel.io_uring_disabled=0" : "",
		       "io_uring cannot be had (%s): reads go through threads", f->io_uring + 4);
	if (f->disk_measured && f->disk.fallback[0])
		advise(f, "", "reading falls back: %s", f->disk.fallback);
	if (f->model_given && f->fit.refused.text[0])
		advise(f, "", "sluiced would not start with this model: %.200s",
		       f->fit.refused.text);
}

/* ---- telling ---- */

static void print_fit(const struct fit *fit)
{
	const struct memory_plan *p = &fit->plan.memory;
	char a[32], b[32], c[32];

	printf("model      %s (%s)\n", fit->name, fit->arch);
	printf("  dense    %s always in memory; %s of weights are read for one token\n",
	       size_format(a, sizeof(a), p->dense_bytes),
	       size_format(b, sizeof(b), fit->active_bytes));
	if (p->scratch_bytes)
		printf("  beside   %s of cache and state for %u sequences of %u tokens, %s of "
		       "buffers (%s for forms of answers)\n",
		       size_format(a, sizeof(a), p->kv_bytes + p->state_bytes), p->n_parallel,
		       p->n_ctx, size_format(b, sizeof(b), p->scratch_bytes),
		       size_format(c, sizeof(c), p->form_bytes));
	if (p->budget_all_bytes)
		printf("  experts  %s in all, at least %s; memory is left for %s, %.0f %%\n",
		       size_format(a, sizeof(a), p->budget_all_bytes),
		       size_format(b, sizeof(b), p->budget_least_bytes),
		       size_format(c, sizeof(c), p->budget_bytes), fit->plan.experts_share * 100);
	if (fit->plan.has_device)
		printf("  device   %s of a GPU's memory: %s of weights and buffers, slots for %s of "
		       "experts\n",
		       size_format(a, sizeof(a), fit->plan.tiers[PLAN_DEVICE].bytes),
		       size_format(b, sizeof(b),
				   fit->plan.tiers[PLAN_DEVICE].bytes -
					   fit->plan.device.slots_bytes),
		       size_format(c, sizeof(c), fit->plan.device.slots_bytes));
	else if (fit->plan.device_note.text[0])
		printf("  device   none: %s\n", fit->plan.device_note.text);
	if (fit->plan.tokens_per_s > 0)
		printf("  speed    memory and disk allow at most %.1f tok/s with evenly used experts"
		       "\n",
		       fit->plan.tokens_per_s);
}

static const char *tell_bytes(char *buf, size_t len, uint64_t bytes)
{
	return bytes == LIMITS_UNKNOWN ? "unknown" : size_format(buf, len, bytes);
}

static void print_text(const struct facts *f)
{
	const struct limits *l = &f->limits;
	char a[32], b[32];

	printf("kernel     %s\n", f->kernel);
	printf("cpu        %s, %u cores, level %s%s%s\n", f->cpu, f->n_cores, f->level,
	       f->governor[0] ? ", governor " : "", f->governor);
	printf("memory     %s, %s free, %s %s\n", tell_bytes(a, sizeof(a), l->machine_bytes),
	       tell_bytes(b, sizeof(b), l->available_bytes),
	       strpbrk(f->nodes, ",-") ? "NUMA nodes" : "NUMA node", f->nodes[0] ? f->nodes : "0");
	printf("limits     a process here may take %s more of %s (%s), %u CPUs (%s)\n",
	       tell_bytes(a, sizeof(a), l->room_bytes), tell_bytes(b, sizeof(b), l->limit_bytes),
	       l->memory_from, l->cpus, l->cpus_from);
	printf("pages      %" PRIu64 " of %" PRIu64 " huge pages of %s free; transparent: %s\n",
	       l->huge_free, l->huge_total, size_format(a, sizeof(a), LIMITS_HUGE_PAGE),
	       f->thp[0] ? f->thp : "none");
	printf("locking    %s%s\n",
	       f->memlock == UINT64_MAX ? "no limit" : size_format(a, sizeof(a), f->memlock),
	       f->may_lock ? " (CAP_IPC_LOCK: no limit)" : "");
	printf("io_uring   %s\n", f->io_uring);
	machine_print(&f->machine);
	if (f->mem_gbs > 0)
		printf("reads      memory %.1f GB/s on %u cores; %.0f billion multiply-adds of bytes "
		       "a second\n",
		       f->mem_gbs, f->n_cores, f->gmadds);
	if (f->disk_measured)
		printf("reads      disk %.2f GB/s (%s, random 1 MiB, %s read)\n", f->disk.gbs,
		       f->disk.io, size_format(a, sizeof(a), f->disk.bytes));
	if (f->model_given)
		print_fit(&f->fit);
	puts(f->n_advice ? "\nto change:" : "\nnothing to change");
	for (unsigned i = 0; i < f->n_advice; i++) {
		printf("- %s\n", f->advice[i].problem);
		if (f->advice[i].command[0])
			printf("    %s\n", f->advice[i].command);
	}
}

static void put_text(json_t *o, const char *name, const char *text)
{
	json_object_set_new(o, name, input_json_text(text, strlen(text)));
}

static void put_int(json_t *o, const char *name, uint64_t value)
{
	json_object_set_new(
		o, name, value == LIMITS_UNKNOWN ? json_null() : json_integer((json_int_t)value));
}

/* Named as in `sluice status --json`. */
static json_t *limits_json(const struct limits *l)
{
	json_t *o = json_object();

	put_int(o, "memory_bytes", l->limit_bytes);
	put_int(o, "memory_free_bytes", l->room_bytes);
	put_text(o, "memory_from", l->memory_from);
	put_int(o, "cpus", l->cpus);
	put_text(o, "cpus_from", l->cpus_from);
	return o;
}

static json_t *fit_json(const struct fit *fit)
{
	json_t *o = json_object();

	put_text(o, "name", fit->name);
	put_text(o, "arch", fit->arch);
	plan_put_memory(o, &fit->plan.memory);
	put_int(o, "experts_bytes", fit->plan.memory.budget_all_bytes);
	put_int(o, "least_bytes", fit->plan.memory.budget_least_bytes);
	put_int(o, "active_bytes_per_token", fit->active_bytes);
	json_object_set_new(o, "experts_share", json_real(fit->plan.experts_share));
	json_object_set_new(o, "device", plan_device_json(&fit->plan));
	if (fit->plan.tokens_per_s > 0)
		json_object_set_new(o, "bound_tokens_per_second",
				    json_real(fit->plan.tokens_per_s));
	return o;
}

static json_t *to_json(const struct facts *f)
{
	json_t *o = json_object(), *list = json_array();

	put_text(o, "kernel", f->kernel);
	put_text(o, "cpu", f->cpu);
	put_text(o, "cpu_level", f->level);
	put_int(o, "cores", f->n_cores);
	put_text(o, "governor", f->governor);
	put_text(o, "numa_nodes", f->nodes);
	put_int(o, "memory_bytes", f->limits.machine_bytes);
	put_int(o, "memory_free_bytes", f->limits.available_bytes);
	json_object_set_new(o, "limits", limits_json(&f->limits));
	put_int(o, "hugepages_total", f->limits.huge_total);
	put_int(o, "hugepages_free", f->limits.huge_free);
	put_int(o, "hugepage_bytes", LIMITS_HUGE_PAGE);
	put_int(o, "hugepages_room_bytes", f->limits.huge_room_bytes);
	put_int(o, "vram_bytes", f->plan_machine.vram_bytes);
	put_int(o, "read_align_bytes", f->plan_machine.align);
	put_text(o, "transparent_hugepages", f->thp);
	if (f->memlock == UINT64_MAX || f->may_lock)
		json_object_set_new(o, "memlock_bytes", json_null());
	else
		put_int(o, "memlock_bytes", f->memlock);
	put_text(o, "io_uring", f->io_uring);
	if (f->mem_gbs > 0)
		json_object_set_new(o, "mem_read_gbs", json_real(f->mem_gbs));
	if (f->gmadds > 0)
		json_object_set_new(o, "byte_gmadds", json_real(f->gmadds));
	if (f->disk_measured) {
		json_object_set_new(o, "disk_read_gbs", json_real(f->disk.gbs));
		put_text(o, "disk_io", f->disk.io);
	}
	if (f->model_given)
		json_object_set_new(o, "model", fit_json(&f->fit));
	for (unsigned i = 0; i < f->n_advice; i++)
		json_array_append_new(list, json_pack("{s:s, s:s}", "problem", f->advice[i].problem,
						      "command", f->advice[i].command));
	machine_json(&f->machine, o);
	json_object_set_new(o, "advice", list);
	return o;
}

static int examine(struct facts *f, const struct args *args, struct err *err)
{
	const char *disk = args->disk ? args->disk : args->model;
	int rc = 0;

	look(f, args->root);
	rc = machine_look(args->root, &f->machine, err);
	if (!rc)
		plan_machine_nodes(&f->machine.now, &f->plan_machine);
	if (!rc && !args->no_memory)
		rc = measure_memory(f, args->seconds, err);
	if (!rc && !args->no_memory && !args->root)
		rc = machine_measure_nodes(&f->machine, f->cpus, f->n_cores, (double)args->seconds,
					   err);
	if (!rc && disk) {
		rc = diskread_measure(disk, (double)args->seconds, &f->disk, err);
		f->disk_measured = !rc;
	}
	if (!rc && args->model)
		rc = fit_model(f, args->model, err);
	if (rc)
		return rc;
	advise_all(f);
	return 0;
}

/* Where a running daemon's memory is. 0 or the exit status after a sentence. */
static int ask_daemon(struct machine *m, const struct client_args *client)
{
	struct sluice_fault fault = { 0 };
	char fallbacks[4096];
	struct sluice *s;
	int rc = client_open("doctor", client, &s);

	if (rc)
		return rc;
	m->daemon.struct_size = sizeof(m->daemon);
	if (sluice_get_status(s, &m->daemon, fallbacks, sizeof(fallbacks), &fault))
		rc = client_fail("doctor", &fault);
	m->daemon_asked = !rc;
	sluice_close(s);
	return rc;
}

int verb_doctor(int argc, char **argv)
{
	static struct facts facts;
	struct args args = { 0 };
	struct err err = { 0 };
	int rc = input_args("[--model FILE] [--disk PATH] [--socket PATH] [--json]", options,
			    ARRAY_LEN(options), argc, argv, &args, &args.help, NULL);

	if (rc >= 0)
		return rc;
	if (args.client.socket || args.client.wait_given) {
		rc = ask_daemon(&facts.machine, &args.client);
		if (rc)
			return rc;
	}
	if (examine(&facts, &args, &err)) {
		fprintf(stderr, "sluice doctor: %s\n", err.text);
		return EXIT_FAILED;
	}
	if (args.json)
		return input_print_json(to_json(&facts), true) ? EXIT_FAILED : EXIT_OK;
	print_text(&facts);
	return EXIT_OK;
}
