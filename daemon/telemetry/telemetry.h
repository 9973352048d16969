/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/telemetry.h: what the machine can bear now, as one snapshot.
 *
 * Sources (kernel module, perf, sysfs, NVML, a script for tests) stand behind one ops table. Each
 * fills what it knows of a sample and leaves what a better source has filled before it: module >
 * perf > sysfs. Two samples make a snapshot with rates. Every value may be unknown, which is never
 * the same as 0: TELEMETRY_UNKNOWN in an unsigned field, -1 in a node number.
 *
 * Owns the open files and the sample before. Refuses to write anywhere, to need a privilege, to
 * wake a sleeping device and to trust what a file says. Called by the sampler thread
 * (telemetry/sampler.h), `sluice telemetry` and doctor; a struct telemetry belongs to one thread.
 */
#ifndef SLUICE_TELEMETRY_TELEMETRY_H
#define SLUICE_TELEMETRY_TELEMETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/nodes.h"

#define TELEMETRY_UNKNOWN UINT64_MAX

#define TELEMETRY_MAX_SOCKETS	 16
#define TELEMETRY_MAX_PCI	 64
#define TELEMETRY_MAX_DISKS	 64
#define TELEMETRY_MAX_GPUS	 16
#define TELEMETRY_MAX_HUGE_SIZES 4
#define TELEMETRY_MAX_COUNTERS	 256
#define TELEMETRY_MAX_NOTES	 16

/* Where a value comes from. Better sources have smaller numbers. */
#define TELEMETRY_SOURCES(X) \
	X(NONE, "none")      \
	X(MODULE, "module")  \
	X(PERF, "perf")      \
	X(SYSFS, "sysfs")    \
	X(NVML, "nvml")      \
	X(GIVEN, "given")    \
	X(SCRIPT, "script")

enum telemetry_source {
#define X(id, text) TELEMETRY_##id,
	TELEMETRY_SOURCES(X)
#undef X
		TELEMETRY_SOURCE_NR
};

/* Kinds of data that are read together. NONE as a group's source: nothing of it is known. */
#define TELEMETRY_GROUPS(X)              \
	X(MEMORY, "memory")              \
	X(HUGEPAGES, "hugepages")        \
	X(DISTANCE, "distance")          \
	X(NUMASTAT, "numastat")          \
	X(BANDWIDTH, "memory_bandwidth") \
	X(PEAK, "memory_bandwidth_peak") \
	X(PCI, "pci")                    \
	X(DISK, "disks")                 \
	X(GPU, "gpus")                   \
	X(PRESSURE, "pressure")

enum telemetry_group {
#define X(id, text) TELEMETRY_GROUP_##id,
	TELEMETRY_GROUPS(X)
#undef X
		TELEMETRY_GROUP_NR
};

/* Of one datum: who read it and when (CLOCK_MONOTONIC, 0 with NONE). Age = snapshot - this. */
struct telemetry_origin {
	enum telemetry_source source;
	uint64_t updated_ns;
};

/* Huge pages of one size on one node, in pages of that size. */
struct telemetry_huge {
	uint64_t page_bytes, total, free, surplus;
};

/* Bytes per second now. total is known where read and write are, or where one counter has both. */
struct telemetry_rate {
	uint64_t read_bytes_per_s, write_bytes_per_s, total_bytes_per_s;
	struct telemetry_origin origin;
};

struct telemetry_node {
	int id;
	int socket; /* physical package, -1: no CPU or not known */
	uint32_t n_cpus;
	uint64_t total_bytes, free_bytes, file_bytes, anon_bytes;
	uint32_t n_huge;
	struct telemetry_huge huge[TELEMETRY_MAX_HUGE_SIZES];
	uint8_t distance[NODES_KNOWN]; /* [id of the other node]; 10 = local, 0 = unknown */
	uint64_t numa_hit, numa_miss, other_node; /* pages since boot */
	struct telemetry_rate rate;
	/* What its memory can deliver: measured and given by the caller, else HMAT. */
	uint64_t peak_bytes_per_s;
	uint64_t read_latency_ns, write_latency_ns; /* HMAT, from its nearest CPUs */
	struct telemetry_origin memory, hugepages, distances, numastat, peak;
};

/* A package whose memory controllers are counted together: the finest that is known where a
 * socket has several nodes (sub-NUMA clustering, NPS2 and NPS4). */
struct telemetry_socket {
	int id;
	uint64_t nodes; /* bit n: node n has CPUs here */
	struct telemetry_rate rate;
};

enum telemetry_answer { TELEMETRY_NO, TELEMETRY_YES, TELEMETRY_MAYBE /* unknown */ };

/*
 * A PCI function of interest: display, accelerator, storage, network. speed in 10^6 transfers per
 * second and lane (16000 = Gen4), width in lanes. max_* is the smaller maximum of the link's two
 * ends. bandwidth: of the narrowest link from here to the root as it is now, one way, net of the
 * line code; max_bandwidth: the same if every link on the way ran at its maximum.
 */
struct telemetry_pci {
	char bdf[16]; /* "0000:01:00.0" */
	int node;
	uint32_t class_code; /* base << 16 | sub << 8 | interface; 0 = unknown */
	uint64_t speed_mts, width, max_speed_mts, max_width;
	uint64_t bandwidth_bytes_per_s, max_bandwidth_bytes_per_s;
	char limit_bdf[16];   /* lower end of the narrowest link now, "" unknown */
	bool far_end_unknown; /* the port above is not visible (a guest): max_* is this end's */
	enum telemetry_answer below;	/* own link below max_speed or max_width now */
	enum telemetry_answer may_idle; /* YES: only the speed is below, and it is a GPU */
	enum telemetry_answer degraded; /* below for good; MAYBE while may_idle is YES and
					   * the link was never seen at its maximum */
	enum telemetry_answer asleep;	/* in a low-power state: values are the last known */
	uint64_t aer_correctable, aer_fatal, aer_nonfatal; /* errors since boot */
	struct telemetry_origin origin;
};

struct telemetry_disk {
	char name[32];
	int node;
	uint64_t read_bytes; /* since boot */
	uint64_t read_bytes_per_s, inflight;
	struct telemetry_origin origin;
};

/* One GPU as its driver's library sees it. Filled by the NVML source only. */
struct telemetry_gpu {
	char name[64], uuid[64], bdf[16];
	uint64_t memory_total_bytes, memory_free_bytes;
	uint64_t link_gen, link_width, max_link_gen, max_link_width;
	uint64_t rx_bytes_per_s, tx_bytes_per_s; /* PCIe, host to device and back */
	uint64_t sm_clock_mhz, max_sm_clock_mhz, memory_clock_mhz, max_memory_clock_mhz;
	uint64_t busy_percent, temperature_c, power_mw, power_limit_mw;
	uint64_t throttle_bits; /* as NVML numbers them; 0 = runs freely or idle */
	enum telemetry_answer throttled;
	char throttle_text[96]; /* the reasons in words, "" none or unknown */
	struct telemetry_origin origin;
};

/* Pressure stall: share of the last 10 s in hundredths of a percent, and total stall time. */
struct telemetry_stall {
	uint64_t some_avg10, full_avg10, some_total_us, full_total_us;
};

struct telemetry_pressure {
	struct telemetry_stall cpu, memory, io;
};

struct telemetry_snapshot {
	uint64_t updated_ns;  /* CLOCK_MONOTONIC of the sample */
	uint64_t interval_ns; /* time over which rates were taken; UNKNOWN: no sample before */
	uint64_t cost_ns;     /* what taking this sample took */
	bool truncated;	      /* the machine has more of something than fits */
	struct telemetry_origin groups[TELEMETRY_GROUP_NR];
	uint32_t n_nodes, n_sockets, n_pci, n_disks, n_gpus;
	struct telemetry_node nodes[NODES_KNOWN]; /* ascending id */
	struct telemetry_socket sockets[TELEMETRY_MAX_SOCKETS];
	struct telemetry_pci pci[TELEMETRY_MAX_PCI];
	struct telemetry_disk disks[TELEMETRY_MAX_DISKS];
	struct telemetry_gpu gpus[TELEMETRY_MAX_GPUS];
	struct telemetry_pressure pressure;
};

enum telemetry_kind { TELEMETRY_READ, TELEMETRY_WRITE, TELEMETRY_TOTAL };

/*
 * One hardware counter of a memory controller, raw. Two samples of the same key, generation and
 * source make bytes: (count2 - count1) * bytes_per_count * d(enabled) / d(running).
 */
struct telemetry_counter {
	uint64_t key;	     /* which counter, stable while the source is open */
	uint32_t generation; /* another one: it began again at zero */
	bool lost;	     /* it exists but could not be read this time */
	enum telemetry_source source;
	enum telemetry_kind kind;
	int socket; /* -1 unknown: then it counts nowhere */
	uint64_t bytes_per_count;
	uint64_t count, enabled_ns, running_ns, updated_ns;
};

/* What the sources fill: a snapshot without rates, and raw counters. */
struct telemetry_sample {
	struct telemetry_snapshot state;
	uint32_t n_counters;
	struct telemetry_counter counters[TELEMETRY_MAX_COUNTERS];
};

/* A peak that was measured on this machine (sluice doctor --json), node by node. */
struct telemetry_peak {
	int node;
	uint64_t bytes_per_s;
};

struct telemetry_perf_ops; /* telemetry/perf.h: perf_event_open behind a seam */
struct telemetry_ops;

/* All texts and arrays are borrowed for the life of the struct telemetry. Zero is a good default. */
struct telemetry_config {
	const char *root;   /* prefix of /sys, /proc and /dev; NULL or "": none */
	const char *script; /* only this file: see script_line.h */
	bool no_module, no_perf;
	const struct telemetry_perf_ops *perf; /* NULL: the system call */
	uint64_t (*clock)(void *arg);	       /* ns; NULL: now_ns() */
	void *clock_arg;
	const struct telemetry_peak *peaks;
	uint32_t n_peaks;
	const struct telemetry_ops *const *extra; /* more sources, asked after the built-in ones */
	uint32_t n_extra;
};

/*
 * A source. open() returns 0 or -errno; where it says why, the sentence becomes a note, once.
 * sample() fills @sample, which comes initialised and empty, with what it knows; telemetry.c puts
 * the sources' samples together. It returns 0 or -errno: its values are then left out, and it is
 * asked again next time. close() takes what open() made. None may block for long.
 */
struct telemetry_ops {
	enum telemetry_source source;
	int (*open)(const struct telemetry_config *config, void **ret_state, struct err *err);
	int (*sample)(void *state, uint64_t now, struct telemetry_sample *sample);
	void (*close)(void *state);
};

extern const struct telemetry_ops telemetry_module_ops, telemetry_perf_source_ops,
	telemetry_sysfs_ops, telemetry_scripted_ops;

struct telemetry;

/* Opens every source that this machine has. 0, -ENOMEM, or what a script's reader says. */
int telemetry_create(const struct telemetry_config *config, struct telemetry **ret,
		     struct err *err);

/* Takes NULL. */
void telemetry_destroy(struct telemetry *t);

/* Takes a sample and makes @ret of it and the one before (rates unknown the first time). 0; -EIO
 * when no source answered: @ret then says unknown everywhere. */
int telemetry_read(struct telemetry *t, struct telemetry_snapshot *ret);

/* Sentence @i about what is read in a lesser way and why, or NULL past the last. Borrowed; notes
 * are only ever appended. The edge prints each once. */
const char *telemetry_note(const struct telemetry *t, unsigned i);

/* ---- pure parts, used by sources, tests and readers of snapshots; any thread ---- */

/* Everything unknown, no entries. */
void telemetry_sample_init(struct telemetry_sample *s);

/* Finds or adds (ids stay ascending). NULL when full or the id is out of range: truncated is set. */
struct telemetry_node *telemetry_node_at(struct telemetry_snapshot *s, int id);
struct telemetry_pci *telemetry_pci_at(struct telemetry_snapshot *s, const char *bdf);
struct telemetry_disk *telemetry_disk_at(struct telemetry_snapshot *s, const char *name);
struct telemetry_gpu *telemetry_gpu_add(struct telemetry_snapshot *s);
struct telemetry_counter *telemetry_counter_add(struct telemetry_sample *s);

/* The node of that id or NULL. */
const struct telemetry_node *telemetry_find_node(const struct telemetry_snapshot *s, int id);

/* Notes in a group and one datum's origin who filled it (the group keeps its best source). */
void telemetry_mark(struct telemetry_snapshot *s, enum telemetry_group group,
		    struct telemetry_origin *origin, enum telemetry_source source, uint64_t at);

/*
 * The rates between two samples, into @ret (a copy of @now->state with them). A counter that went
 * back, changed generation or source, was lost or never ran makes its node's rate unknown, not
 * smaller. @before may be NULL. Nodes get a rate where they are the only one of their socket.
 */
void telemetry_rates(const struct telemetry_sample *before, const struct telemetry_sample *now,
		     struct telemetry_snapshot *ret);

/* Net bytes per second one way of a link, or UNKNOWN. */
uint64_t telemetry_link_bytes_per_s(uint64_t speed_mts, uint64_t width);

/* Sets below, may_idle and degraded from the speeds and widths in @p. */
void telemetry_judge_link(struct telemetry_pci *p);

/* Rate over peak of node @id in thousandths, or UNKNOWN; may exceed 1000. */
uint64_t telemetry_node_load(const struct telemetry_snapshot *s, int id);

/* Age of a datum in @s, ns; UNKNOWN if it has no source. */
uint64_t telemetry_age_ns(const struct telemetry_snapshot *s, const struct telemetry_origin *o);

/* Puts into @into what @from knows and @into does not, datum by datum. Counters of a socket are
 * taken from one source only, so that nothing is counted twice. */
void telemetry_merge(struct telemetry_sample *into, const struct telemetry_sample *from);

/* The groups' sources anew, from the entries. */
void telemetry_regroup(struct telemetry_snapshot *s);

const char *telemetry_source_name(enum telemetry_source source);
const char *telemetry_group_name(enum telemetry_group group);

#endif
