/* SPDX-License-Identifier: MIT */
/*
 * tools/doctor.c: `sluice doctor`: measures what bounds the speed here (memory, disk), looks at what
 * the daemon would like to have (huge pages, io_uring, locked memory, CPU level), and says what to
 * change with the exact command. With a model it also says how that would fit. Changes nothing. One
 * thread beside those that measure.
 */
#include <errno.h>
#include <inttypes.h>
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
#include "tools/doctor.h"
#include "tools/input.h"
#include "tools/memread.h"
#include "tools/plan.h"
#include "tools/verbs.h"

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

static void read_cpu(struct doctor_facts *f)
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
static void probe_io_uring(struct doctor_facts *f)
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

static void look(struct doctor_facts *f, const char *root)
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

static int measure_memory(struct doctor_facts *f, float seconds, struct err *err)
{
	/* well beyond any cache, and never most of what is free */
	uint64_t each = u64_min((uint64_t)256 << 20, f->room / 4 / f->n_cores);

	int rc = memread_measure(f->cpus, f->n_cores, each, (double)seconds, &f->mem_gbs, err);

	return rc ? rc
		  : memread_multiply(f->cpus, f->n_cores, (double)seconds / 4, &f->gmadds, err);
}

/* What the daemon would do with this model here: the rates are known by now. */
static int fit_model(struct doctor_facts *f, const char *path, struct err *err)
{
	struct plan_options o = { .ops = cpu_ops_best() };
	struct doctor_fit *fit = &f->fit;
	struct model *m;
	struct tokenizer *t = NULL;
	int rc = model_open(path, &m, err);

	if (rc)
		return rc;
	snprintf(fit->name, sizeof(fit->name), "%s", m->name);
	snprintf(fit->arch, sizeof(fit->arch), "%s", m->arch_name);
	fit->active_bytes = m->routed_bytes_per_token + model_dense_bytes_per_token(m);
	f->plan_machine.align = plan_read_align(m);
	f->read_align = f->plan_machine.align;
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

static void advise(struct doctor_facts *f, const char *command, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void advise(struct doctor_facts *f, const char *command, const char *fmt, ...)
{
	struct doctor_advice *a;
	va_list ap;

	if (f->n_advice == DOCTOR_MAX_ADVICE)
		return;
	a = &f->advice[f->n_advice++];
	va_start(ap, fmt);
	vsnprintf(a->problem, sizeof(a->problem), fmt, ap);
	va_end(ap);
	snprintf(a->command, sizeof(a->command), "%s", command);
}

/* How many huge pages are worth having depends on the model: nothing is said without one. */
static void advise_pages(struct doctor_facts *f)
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

static void advise_all(struct doctor_facts *f)
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

static int examine(struct doctor_facts *f, const struct args *args, struct err *err)
{
	const char *disk = args->disk ? args->disk : args->model;
	int rc = 0;

	f->read_align = LIMITS_UNKNOWN;
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
		f->read_align = rc ? LIMITS_UNKNOWN : f->disk.align;
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
	static struct doctor_facts facts;
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
		return doctor_print_json(&facts) ? EXIT_FAILED : EXIT_OK;
	doctor_print(&facts);
	return EXIT_OK;
}
