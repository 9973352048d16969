/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/pmu.c: finds the counters of the memory controllers. See pmu.h.
 *
 * Intel describes its own events in sysfs (events/NAME, NAME.scale, NAME.unit); AMD does not, so a
 * table below has one row per CPU family. What a row says comes from the vendor's published event
 * lists; a family without a row is not guessed at.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "telemetry/pmu.h"
#include "telemetry/sysfs.h"

#define PMU_DIR	    "sys/bus/event_source/devices"
#define MAX_PMUS    128
#define MAX_CPUMASK 64
#define MIB	    1048576.0

/* Which PMUs, tried in this order; the first family that has any is the one that is used. */
struct family {
	const char *prefix;		 /* of the PMU's name */
	bool numbered;			 /* digits must follow, else nothing may */
	const char *read[3], *write[3];	 /* events/ names: all that exist are added up */
	const struct table_event *table; /* where events/ does not exist */
};

struct table_event {
	const char *vendor;
	unsigned family, model_first, model_last;
	enum telemetry_kind kind;
	const char *terms; /* NULL: the end */
};

#define DRAM_BYTES 64

/* Zen 4 and later: one PMU per memory controller (kernel 6.11 and later). */
static const struct table_event umc_table[] = {
	{ "AuthenticAMD", 0x19, 0x10, 0x1f, TELEMETRY_READ, "event=0x0a,rdwrmask=1" },
	{ "AuthenticAMD", 0x19, 0x10, 0x1f, TELEMETRY_WRITE, "event=0x0a,rdwrmask=2" },
	{ "AuthenticAMD", 0x19, 0x60, 0xaf, TELEMETRY_READ, "event=0x0a,rdwrmask=1" },
	{ "AuthenticAMD", 0x19, 0x60, 0xaf, TELEMETRY_WRITE, "event=0x0a,rdwrmask=2" },
	{ "AuthenticAMD", 0x1a, 0x00, 0xff, TELEMETRY_READ, "event=0x0a,rdwrmask=1" },
	{ "AuthenticAMD", 0x1a, 0x00, 0xff, TELEMETRY_WRITE, "event=0x0a,rdwrmask=2" },
	{ 0 },
};

#define DF_CHANNELS(family, first, last)                                                            \
	{ "AuthenticAMD", family, first, last, TELEMETRY_TOTAL, "event=0x07,umask=0x38" },          \
		{ "AuthenticAMD", family, first, last, TELEMETRY_TOTAL, "event=0x47,umask=0x38" },  \
		{ "AuthenticAMD", family, first, last, TELEMETRY_TOTAL, "event=0x87,umask=0x38" },  \
		{ "AuthenticAMD", family, first, last, TELEMETRY_TOTAL, "event=0xc7,umask=0x38" },  \
		{ "AuthenticAMD", family, first, last, TELEMETRY_TOTAL, "event=0x107,umask=0x38" }, \
		{ "AuthenticAMD", family, first, last, TELEMETRY_TOTAL, "event=0x147,umask=0x38" }, \
		{ "AuthenticAMD", family, first, last, TELEMETRY_TOTAL, "event=0x187,umask=0x38" }, \
	{                                                                                           \
		"AuthenticAMD", family, first, last, TELEMETRY_TOTAL, "event=0x1c7,umask=0x38"      \
	}

/* Zen 2 and Zen 3 servers: the fabric counts requests with data at each of eight channels, reads
 * and writes together; with four counters in hardware the kernel lets them take turns. */
static const struct table_event df_table[] = {
	DF_CHANNELS(0x17, 0x30, 0x3f),
	DF_CHANNELS(0x19, 0x00, 0x0f),
	{ 0 },
};

static const struct family families[] = {
	{ "uncore_imc_",
	  true,
	  { "cas_count_read", "cas_count_read_sch0", "cas_count_read_sch1" },
	  { "cas_count_write", "cas_count_write_sch0", "cas_count_write_sch1" },
	  NULL },
	{ "uncore_imc_free_running_",
	  true,
	  { "data_read", "read" },
	  { "data_write", "write" },
	  NULL },
	{ "uncore_imc", false, { "data_reads" }, { "data_writes" }, NULL },
	{ "amd_umc_", true, { 0 }, { 0 }, umc_table },
	{ "amd_df", false, { 0 }, { 0 }, df_table },
};

/* "config:0-7,32-35": puts @value's bits where they belong. */
static int place_bits(const char *format, uint64_t value, uint64_t config[3])
{
	unsigned word = 0;
	const char *at;

	if (!strncmp(format, "config1:", 8))
		word = 1;
	else if (!strncmp(format, "config2:", 8))
		word = 2;
	else if (strncmp(format, "config:", 7))
		return -EINVAL;
	for (at = strchr(format, ':') + 1;;) {
		unsigned long first, last;
		char *end;

		first = last = strtoul(at, &end, 10);
		if (end == at)
			return -EINVAL;
		at = end;
		if (*at == '-') {
			last = strtoul(at + 1, &end, 10);
			if (end == at + 1)
				return -EINVAL;
			at = end;
		}
		if (last < first || last > 63)
			return -EINVAL;
		for (unsigned long bit = first; bit <= last; bit++, value >>= 1)
			config[word] |= (value & 1) << bit;
		if (*at != ',')
			break;
		at++;
	}
	return value ? -EINVAL : 0; /* what is left did not fit */
}

static int encode_term(const struct fs *fs, const char *dir, char *term, uint64_t config[3])
{
	char *equals = strchr(term, '='), format[128];
	uint64_t value = 1;

	if (equals) {
		*equals = '\0';
		if (!text_u64(equals + 1, &value))
			return -EINVAL;
	}
	if (!*term || strchr(term, '/') || term[0] == '.')
		return -EINVAL;
	if (fs_text(fs, format, sizeof(format), "%s/format/%s", dir, term) > 0)
		return place_bits(format, value, config);
	if (!strcmp(term, "config"))
		config[0] |= value;
	else if (!strcmp(term, "config1"))
		config[1] |= value;
	else if (!strcmp(term, "config2"))
		config[2] |= value;
	else
		return -EINVAL;
	return 0;
}

int pmu_encode(const struct fs *fs, const char *dir, const char *terms, uint64_t config[3])
{
	char text[256];

	memset(config, 0, 3 * sizeof(config[0]));
	if (strlen(terms) >= sizeof(text))
		return -EINVAL;
	snprintf(text, sizeof(text), "%s", terms);
	text[strcspn(text, "\n")] = '\0';
	for (char *at = text, *next; *at; at = next) {
		int rc;

		next = at + strcspn(at, ",");
		if (*next)
			*next++ = '\0';
		rc = encode_term(fs, dir, at, config);
		if (rc)
			return rc;
	}
	return *text ? 0 : -EINVAL;
}

uint64_t pmu_bytes_per_count(const char *scale, const char *unit)
{
	char *end;
	double bytes = strtod(scale, &end);
	size_t len = strcspn(unit, "\n");

	if (end == scale || (*end && *end != '\n') || !isfinite(bytes))
		return 0;
	if (len == 3 && !strncmp(unit, "MiB", 3))
		bytes *= MIB;
	else if (len == 3 && !strncmp(unit, "KiB", 3))
		bytes *= 1024;
	else if (!(len == 1 && unit[0] == 'B') && !(len == 5 && !strncmp(unit, "Bytes", 5)))
		return 0;
	if (!(bytes >= 1 && bytes <= 65536))
		return 0;
	/* 6.1e-5 MiB is written for 64 bytes: within a hundredth of a whole number */
	if (fabs(bytes - round(bytes)) > 0.01 * bytes)
		return 0;
	return (uint64_t)round(bytes);
}

struct finder {
	const struct fs *fs;
	const struct family *family;
	struct pmu_counter *ret;
	uint32_t room, n;
	bool seen, bad, many;
	char names[MAX_PMUS][32];
	uint32_t n_names;
};

static bool collect_name(void *arg, const char *name)
{
	struct finder *f = arg;
	size_t prefix = strlen(f->family->prefix), len = strlen(name);

	if (strncmp(name, f->family->prefix, prefix) || len >= sizeof(f->names[0]))
		return true;
	if (f->family->numbered
		    ? len == prefix || strspn(name + prefix, "0123456789") != len - prefix
		    : len != prefix)
		return true;
	if (f->n_names == MAX_PMUS) {
		f->many = true;
		return false;
	}
	memcpy(f->names[f->n_names++], name, len + 1);
	return true;
}

static int by_name(const void *a, const void *b)
{
	size_t x = strlen(a), y = strlen(b);

	return x != y ? (x > y) - (x < y) : strcmp(a, b);
}

/* One event on every CPU of the PMU's mask: there is one for each socket (or die). */
static void add_counters(struct finder *f, const struct pmu_counter *model, const char *cpumask)
{
	uint64_t bits[FS_MAX_CPUS / 64];
	int count = text_list(cpumask, bits, ARRAY_LEN(bits));

	if (count <= 0 || count > MAX_CPUMASK) {
		f->bad = true;
		return;
	}
	for (unsigned cpu = 0; cpu < FS_MAX_CPUS; cpu++) {
		struct pmu_counter *c = &f->ret[f->n];

		if (!(bits[cpu / 64] >> (cpu % 64) & 1))
			continue;
		if (f->n == f->room) {
			f->many = true;
			return;
		}
		*c = *model;
		c->cpu = cpu;
		c->socket = sysfs_cpu_socket(f->fs, cpu);
		f->bad |= c->socket < 0;
		f->n++;
	}
}

static void add_sysfs_event(struct finder *f, const char *pmu, const char *event,
			    struct pmu_counter *model, const char *cpumask)
{
	char dir[64], terms[256], scale[64] = "", unit[64] = "";
	uint64_t config[3];

	snprintf(dir, sizeof(dir), PMU_DIR "/%s", pmu);
	if (fs_text(f->fs, terms, sizeof(terms), "%s/events/%s", dir, event) <= 0)
		return;
	fs_text(f->fs, scale, sizeof(scale), "%s/events/%s.scale", dir, event);
	fs_text(f->fs, unit, sizeof(unit), "%s/events/%s.unit", dir, event);
	model->bytes_per_count = pmu_bytes_per_count(scale, unit);
	if (!model->bytes_per_count || pmu_encode(f->fs, dir, terms, config)) {
		f->bad = true;
		return;
	}
	model->config = config[0];
	model->config1 = config[1];
	model->config2 = config[2];
	snprintf(model->name, sizeof(model->name), "%s/%s", pmu, event);
	f->seen = true;
	add_counters(f, model, cpumask);
}

/* "vendor_id : GenuineIntel" of the first processor. */
static void read_cpu(const struct fs *fs, char vendor[16], unsigned *ret_family,
		     unsigned *ret_model)
{
	char text[4096];
	const char *at;

	vendor[0] = '\0';
	*ret_family = *ret_model = 0;
	if (fs_text(fs, text, sizeof(text), "proc/cpuinfo") <= 0)
		return;
	at = strstr(text, "vendor_id");
	if (at)
		sscanf(at, "vendor_id : %15s", vendor);
	at = strstr(text, "cpu family");
	if (at)
		sscanf(at, "cpu family : %9u", ret_family);
	at = strstr(text, "model\t");
	if (at)
		sscanf(at, "model : %9u", ret_model);
}

static void add_table_events(struct finder *f, const char *pmu, struct pmu_counter *model,
			     const char *cpumask)
{
	char dir[64], vendor[16];
	unsigned family, cpu_model;

	snprintf(dir, sizeof(dir), PMU_DIR "/%s", pmu);
	read_cpu(f->fs, vendor, &family, &cpu_model);
	for (const struct table_event *e = f->family->table; e->terms; e++) {
		uint64_t config[3];

		if (strcmp(e->vendor, vendor) || e->family != family ||
		    cpu_model < e->model_first || cpu_model > e->model_last)
			continue;
		if (pmu_encode(f->fs, dir, e->terms, config)) {
			f->bad = true;
			return;
		}
		model->kind = e->kind;
		model->bytes_per_count = DRAM_BYTES;
		model->config = config[0];
		model->config1 = config[1];
		model->config2 = config[2];
		snprintf(model->name, sizeof(model->name), "%s/%s", pmu, e->terms);
		f->seen = true;
		add_counters(f, model, cpumask);
	}
}

static void add_pmu(struct finder *f, const char *pmu)
{
	uint64_t type = fs_u64(f->fs, PMU_DIR "/%s/type", pmu);
	struct pmu_counter model = { .type = (uint32_t)type };
	char cpumask[256];

	if (type > INT32_MAX ||
	    fs_text(f->fs, cpumask, sizeof(cpumask), PMU_DIR "/%s/cpumask", pmu) <= 0) {
		f->bad = true;
		return;
	}
	if (f->family->table) {
		add_table_events(f, pmu, &model, cpumask);
		return;
	}
	model.kind = TELEMETRY_READ;
	for (size_t i = 0; i < ARRAY_LEN(f->family->read) && f->family->read[i]; i++)
		add_sysfs_event(f, pmu, f->family->read[i], &model, cpumask);
	model.kind = TELEMETRY_WRITE;
	for (size_t i = 0; i < ARRAY_LEN(f->family->write) && f->family->write[i]; i++)
		add_sysfs_event(f, pmu, f->family->write[i], &model, cpumask);
}

int pmu_find(const struct fs *fs, struct pmu_counter *ret, uint32_t room, struct err *why)
{
	struct finder f = { .fs = fs, .ret = ret, .room = room };
	bool any = false;

	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		f.family = &families[i];
		f.n = f.n_names = 0;
		f.seen = f.bad = f.many = false;
		if (fs_list(fs, PMU_DIR, collect_name, &f) || !f.n_names)
			continue;
		any = true;
		qsort(f.names, f.n_names, sizeof(f.names[0]), by_name);
		for (uint32_t k = 0; k < f.n_names && !f.bad && !f.many; k++)
			add_pmu(&f, f.names[k]);
		if (f.many)
			return err_set(why, -E2BIG,
				       "more memory-controller counters than can be kept: memory "
				       "bandwidth is unknown");
		if (f.seen && !f.bad)
			return (int)f.n;
	}
	if (any)
		err_set(why, -ENOENT,
			"this kernel's or processor's memory-controller counters are not known to "
			"us: memory bandwidth is unknown");
	else
		err_set(why, -ENOENT,
			"the kernel shows no memory-controller counters (a virtual machine, or a "
			"missing module such as intel_uncore): memory bandwidth is unknown");
	return 0;
}
