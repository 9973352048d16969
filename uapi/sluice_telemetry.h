/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT */
/*
 * The contract between sluice.ko and user space: the telemetry page behind /dev/sluice and its five
 * ioctls. Included by the module, by daemon/telemetry and by any other program; compiles alone in
 * C11, C++17 and the kernel. No code but the inline reader at the end.
 *
 *	fd = open("/dev/sluice", O_RDONLY | O_CLOEXEC);		takes one sample at once
 *	info.size = sizeof(info); ioctl(fd, SLUICE_GET_INFO, &info);
 *	page = mmap(NULL, info.page_bytes, PROT_READ, MAP_SHARED, fd, 0);
 *	sluice_page_copy(page, copy, info.page_bytes, 1000);	or pread(fd, copy, page_bytes, 0)
 *
 * Growth: fields are appended, never moved; a reader finds the arrays through the offsets and
 * strides of the head, so an entry may grow under an old reader. A new meaning is a new ioctl.
 * All values are raw (bytes, counts, nanoseconds): rates are made by the reader from two copies.
 */
#ifndef SLUICE_TELEMETRY_H
#define SLUICE_TELEMETRY_H

#include <linux/ioctl.h>
#include <linux/types.h>
#ifndef __KERNEL__
#include <errno.h>
#include <stddef.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_DEVICE_PATH "/dev/sluice"

/*
 * Raised when a reader written for an older page or ioctl would misread a newer one. Never lowered.
 * Appended fields and new ioctls do not raise it: sizes, strides and ENOTTY tell of those.
 */
#define SLUICE_ABI_VERSION 1u

/* "SLUICE1\0" read as a little-endian number */
#define SLUICE_PAGE_MAGIC 0x0031454349554c53ull

/* Upper bounds of the arrays. The counts in the head say how many entries there are. */
#define SLUICE_MAX_NODES 64u
#define SLUICE_MAX_PCI	 32u
#define SLUICE_MAX_PMU	 32u

/* How many slots one open file may hold; who needs more opens the device again. */
#define SLUICE_QUOTA_PCI 16u
#define SLUICE_QUOTA_PMU 24u

/* Limits of the sampling period, milliseconds. */
#define SLUICE_PERIOD_MIN_MS 10u
#define SLUICE_PERIOD_MAX_MS 10000u

/* struct sluice_page.flags */
#define SLUICE_PAGE_NODES     0x1u  /* the node entries hold values of the last sample */
#define SLUICE_PAGE_PCI	      0x2u  /* this build of the module can watch PCI functions */
#define SLUICE_PAGE_PMU	      0x4u  /* this build of the module can watch PMU counters */
#define SLUICE_PAGE_TRUNCATED 0x8u  /* the machine has more possible nodes than entries */
#define SLUICE_PAGE_STRESS    0x10u /* module parameter stress: samples without pause */

/*
 * Head of the page, at offset 0. The first part is written once, before the device exists; the
 * second part and the arrays change with every sample, guarded by seq: odd while the module
 * writes, and different after each sample (it wraps). Entries lie at offset + index * stride.
 */
struct sluice_page {
	/* constant while the module is loaded */
	__u64 magic;	   /* SLUICE_PAGE_MAGIC */
	__u32 abi_version; /* SLUICE_ABI_VERSION of the module */
	__u32 page_bytes;  /* length of the mapping and of read(), a multiple of the page size */
	__u32 head_bytes;  /* sizeof(struct sluice_page) of the module */
	__u32 node_offset; /* bytes from the start of the page */
	__u32 node_stride; /* bytes from one entry to the next, >= sizeof of an older header */
	__u32 node_nr;	   /* entries: one for each possible node, at most SLUICE_MAX_NODES */
	__u32 pci_offset;  /* bytes */
	__u32 pci_stride;  /* bytes */
	__u32 pci_nr;	   /* entries, in use or not */
	__u32 pmu_offset;  /* bytes */
	__u32 pmu_stride;  /* bytes */
	__u32 pmu_nr;	   /* entries, in use or not */

	/* changes with each sample */
	__u32 seq;	  /* odd: being written */
	__u32 flags;	  /* SLUICE_PAGE_* */
	__u64 period_ns;  /* period in force, nanoseconds */
	__u64 updated_ns; /* CLOCK_MONOTONIC at the start of the last sample, nanoseconds */
	__u64 sample_nr;  /* samples since the module was loaded */
	__u64 overrun_nr; /* samples that began more than a whole period late */

	/* cost of the last sample's parts, nanoseconds of wall time */
	__u64 node_cost_ns;
	__u64 pci_cost_ns;
	__u64 pmu_cost_ns;
	__u64 publish_cost_ns; /* of the sample before: the copy into the page, seq odd meanwhile */
	__u64 cost_total_ns;   /* all parts since the module was loaded */

	/* operations of the last sample, counts */
	__u32 node_ops;	   /* nodes summed up */
	__u32 pci_ops;	   /* functions whose link was read */
	__u32 pmu_ops;	   /* counters read */
	__u32 pmu_created; /* counters created anew after their CPU came back */
	__u32 open_nr;	   /* open files at the time of the sample */
	__u32 reserved0;   /* zero */
	__u64 reserved[6]; /* zero; future fields come here */
};

/* struct sluice_node.flags */
#define SLUICE_NODE_ONLINE     0x1u /* the byte values hold; else they are zero */
#define SLUICE_NODE_HAS_CPU    0x2u
#define SLUICE_NODE_HAS_MEMORY 0x4u

#define SLUICE_DISTANCE_UNKNOWN 0u

/*
 * One NUMA node. The values are those of /sys/devices/system/node/nodeN/meminfo, in bytes; like
 * those they may lag by what a CPU has not folded in yet (tens of pages). A distance is ACPI's
 * (SLIT) to the node of the entry with that index, 10 = local, SLUICE_DISTANCE_UNKNOWN if either
 * is offline.
 */
struct sluice_node {
	__u32 node;			 /* node number, constant */
	__u32 flags;			 /* SLUICE_NODE_* */
	__u64 updated_ns;		 /* updated_ns of the head when these values were read */
	__u64 total_bytes;		 /* MemTotal: managed by the page allocator */
	__u64 free_bytes;		 /* MemFree */
	__u64 file_bytes;		 /* FilePages: page cache with shmem */
	__u64 anon_bytes;		 /* AnonPages: mapped anonymous memory */
	__u64 shmem_bytes;		 /* Shmem */
	__u64 dirty_bytes;		 /* Dirty */
	__u64 writeback_bytes;		 /* Writeback */
	__u64 slab_reclaimable_bytes;	 /* SReclaimable */
	__u64 slab_unreclaimable_bytes;	 /* SUnreclaim */
	__u64 anon_thp_bytes;		 /* AnonHugePages; hugetlb pools are in sysfs only */
	__u64 shmem_thp_bytes;		 /* ShmemHugePages */
	__u64 file_thp_bytes;		 /* FileHugePages */
	__u64 reserved[2];		 /* zero */
	__u8 distance[SLUICE_MAX_NODES]; /* by entry index */
};

/*
 * A slot's life. Only the owner's UNWATCH or close() frees it.
 *
 *	       WATCH_*              device asleep / wakes
 *	FREE ----------> OK <-----------------------------> ASLEEP	(PCI)
 *	  ^              |  removed
 *	  |              +-----------> GONE				(PCI, for good)
 *	  |              |  CPU offline, or the counter cannot be made
 *	  |              +-----------> LOST --> OK, generation + 1	(PMU, when the CPU is back)
 *	  +-- UNWATCH, close() -- from every state
 *
 * On the page: WATCH_* and UNWATCH at once, close() with the next sample.
 */
#define SLUICE_SLOT_FREE   0u /* every other field of the entry is zero, save generation */
#define SLUICE_SLOT_OK	   1u
#define SLUICE_SLOT_GONE   2u /* last values kept */
#define SLUICE_SLOT_ASLEEP 3u /* last values kept; the device is not woken for a sample */
#define SLUICE_SLOT_LOST   4u /* last values kept */

/*
 * struct sluice_pci.flags. BELOW_MAXIMUM: the own link trained below what both its ends can do,
 * which is normal for an idle GPU (judge under load); never set for a root or downstream port:
 * look at what is plugged into it.
 */
#define SLUICE_PCI_EXPRESS	 0x1u /* a PCI Express function; else no link values */
#define SLUICE_PCI_LIMIT_ABOVE	 0x2u /* the narrowest link is not the function's own */
#define SLUICE_PCI_BELOW_MAXIMUM 0x4u

/*
 * One watched PCI function. Zero in a link field: not known. limit_* is the narrowest link on the
 * way to the root and the function that says so: a root or downstream port speaks of the link
 * below it. error_bits are PCI_EXP_DEVSTA bits 0-3 (correctable, non-fatal, fatal, unsupported
 * request); the module never clears them; counts are in sysfs aer_dev_* only.
 */
struct sluice_pci {
	__u32 state;	  /* SLUICE_SLOT_* */
	__u32 generation; /* raised each time the slot is given out */
	__u64 updated_ns; /* updated_ns of the head when these values were read */
	__u32 domain;	  /* PCI domain (segment) */
	__u8 bus;
	__u8 devfn;	  /* device << 3 | function */
	__u16 flags;	  /* SLUICE_PCI_* */
	__s32 node;	  /* NUMA node, -1 = not known */
	__u32 class_code; /* base class << 16 | subclass << 8 | interface */
	__u16 vendor;
	__u16 device;
	__u32 cur_speed_mts; /* own link now, megatransfers per second a lane: 2500 .. 64000 */
	__u32 cur_width;     /* own link now, lanes */
	__u32 max_speed_mts; /* smaller maximum of the link's two ends (of a port: its own) */
	__u32 max_width;  /* smaller maximum of the link's two ends, lanes (of a port: its own) */
	__u32 limit_mbps; /* 10^6 bit/s one way, net of the line code */
	__u32 limit_speed_mts; /* megatransfers per second a lane */
	__u32 limit_width;     /* lanes */
	__u32 limit_domain;
	__u8 limit_bus;
	__u8 limit_devfn;
	__u16 error_bits;     /* set now */
	__u16 error_bits_new; /* seen set, and were clear when the slot was given out */
	__u16 reserved0;      /* zero */
	__u32 reserved1;      /* zero */
	__u64 reserved[5];    /* zero */
};

/* What a counter counts: said by who watches, published as it was said. */
#define SLUICE_PMU_OTHER 0u
#define SLUICE_PMU_READ	 1u /* bytes read from memory */
#define SLUICE_PMU_WRITE 2u /* bytes written to memory */
#define SLUICE_PMU_TOTAL 3u /* reads and writes in one counter */

/*
 * One watched PMU counter. Between two copies of the same generation:
 *	bytes = (count2 - count1) * bytes_per_count * (enabled2 - enabled1) / (running2 - running1)
 * running < enabled means that the counter shared the hardware with others. A new generation
 * starts again at zero.
 */
struct sluice_pmu {
	__u32 state;	  /* SLUICE_SLOT_* */
	__u32 generation; /* raised when the slot is given out and when the counter is made anew */
	__u64 updated_ns; /* updated_ns of the head when these values were read */
	__u32 type;	  /* perf_event_attr.type */
	__u32 cpu;	  /* the CPU it is read on */
	__s32 node;	  /* NUMA node of that CPU, -1 = not known */
	__u32 kind;	  /* SLUICE_PMU_* */
	__u64 config;	  /* perf_event_attr.config */
	__u64 config1;
	__u64 config2;
	__u64 bytes_per_count; /* as given, 0 = not a count of bytes */
	__u64 count;	       /* raw, monotonic within a generation */
	__u64 enabled_ns;      /* nanoseconds the counter was wanted */
	__u64 running_ns;      /* nanoseconds it counted */
	__u64 reserved[4];     /* zero */
};

/*
 * ioctls. Each structure begins with its size in bytes as the caller knows it and a flags word.
 * The caller may be older or newer than the module: missing fields count as zero, more bytes must
 * be zero. Results go into the same structure, as far as the caller's size reaches. The number of
 * an ioctl does not hold the size and never changes.
 *
 *	ENOTTY		no such ioctl in this module
 *	EFAULT		the structure cannot be read or written; nothing has been changed
 *	E2BIG		the structure is longer than the module's and not zero beyond it (a newer
 *			program asks for something that this module does not know), or > 4096
 *	EINVAL		size smaller than the first version of the structure (GET_INFO: smaller
 *			than up to page_bytes), a reserved field that is not zero, or a value
 *			that can never be right
 *	EOPNOTSUPP	a flag or a value that is well-formed but not supported by this module
 *	EPERM		the caller lacks the capability, or the slot belongs to another open file
 *	ENOENT		WATCH_PMU: no such PMU, or it has no such event; UNWATCH: slot not in use
 *	ENODEV		WATCH_PCI: no such function
 *	ENXIO		WATCH_PMU: that CPU is not online
 *	EDQUOT		this open file holds its quota of slots
 *	ENOSPC		all slots are taken
 *	ENOMEM		no memory
 *	EINTR		a signal came while waiting for a sample to end; nothing has been changed
 *	WATCH_PMU may also return what the PMU's driver says of the event (EBUSY, EACCES ...).
 *
 * open():  EACCES by file mode (0440, group sluice), or if opened for writing; EMFILE: more
 *	    than 1024 open files.
 * mmap():  EPERM for PROT_WRITE on a private mapping, EACCES on a shared one or for a later
 *	    mprotect(PROT_WRITE), EINVAL for an offset that is not 0 or a length other than
 *	    page_bytes (rounded up to pages).
 * read():  page_bytes at offset 0 into a buffer with room for all, 0 at the end, else EINVAL.
 * poll():  POLLIN from a new sample until read() takes it; with a mapping use EPOLLET.
 * write(): EBADF or EINVAL.
 */
#define SLUICE_IOC_TYPE 0xEF

#define SLUICE_GET_INFO	  _IO(SLUICE_IOC_TYPE, 0) /* struct sluice_get_info */
#define SLUICE_WATCH_PCI  _IO(SLUICE_IOC_TYPE, 1) /* struct sluice_watch_pci */
#define SLUICE_WATCH_PMU  _IO(SLUICE_IOC_TYPE, 2) /* struct sluice_watch_pmu */
#define SLUICE_UNWATCH	  _IO(SLUICE_IOC_TYPE, 3) /* struct sluice_unwatch */
#define SLUICE_SET_PERIOD _IO(SLUICE_IOC_TYPE, 4) /* struct sluice_set_period */

/* struct sluice_get_info.features */
#define SLUICE_FEATURE_PCI    0x1u
#define SLUICE_FEATURE_PMU    0x2u
#define SLUICE_FEATURE_STRESS 0x4u /* loaded with stress=1: not for production */

/*
 * Who are you? The handshake goes both ways: the caller says which SLUICE_ABI_VERSION it was
 * compiled with (0: does not say) and gets EOPNOTSUPP if the module no longer serves it; the module
 * says its own, and the caller leaves if that is older than it can read.
 */
struct sluice_get_info {
	__u32 size;		 /* in: bytes */
	__u32 flags;		 /* in: zero */
	__u32 caller_abi;	 /* in: SLUICE_ABI_VERSION of the caller, or 0 */
	__u32 abi_version;	 /* out: of the module */
	__u32 abi_oldest;	 /* out: oldest caller the module serves */
	__u32 features;		 /* out: SLUICE_FEATURE_* */
	__u32 page_bytes;	 /* out: length for mmap and read */
	__u32 period_ms;	 /* out: in force now, milliseconds */
	__u32 period_default_ms; /* out: module parameter period_ms */
	__u32 node_nr;		 /* out: entries on the page */
	__u32 pci_nr;		 /* out: slots on the page */
	__u32 pmu_nr;		 /* out: slots on the page */
	__u32 pci_free;		 /* out: slots not given out */
	__u32 pmu_free;		 /* out: slots not given out */
	__u32 pci_quota;	 /* out: slots one open file may hold */
	__u32 pmu_quota;	 /* out: slots one open file may hold */
	__u8 module_version[32]; /* out: text, ends with a zero byte */
};

/* Watch a PCI function. The slot, read once, is on the page before this returns: no new sample. */
struct sluice_watch_pci {
	__u32 size;	  /* in: bytes */
	__u32 flags;	  /* in: zero */
	__u32 domain;	  /* in */
	__u8 bus;	  /* in */
	__u8 devfn;	  /* in: device << 3 | function */
	__u16 reserved;	  /* in: zero */
	__u32 slot;	  /* out: index of the entry */
	__u32 generation; /* out */
};

/*
 * Watch a PMU counter. Needs CAP_PERFMON (or CAP_SYS_ADMIN). Type, event and CPU come from
 * /sys/bus/event_source/devices: a module cannot look a PMU up by name. Let in are counters that
 * belong to no task (uncore: memory controllers, fabric) and, for tests, PERF_TYPE_SOFTWARE
 * with PERF_COUNT_SW_CPU_CLOCK; all others get EOPNOTSUPP.
 */
struct sluice_watch_pmu {
	__u32 size;	       /* in: bytes */
	__u32 flags;	       /* in: zero */
	__u32 type;	       /* in: perf_event_attr.type */
	__u32 cpu;	       /* in: a CPU of the PMU's cpumask */
	__u64 config;	       /* in */
	__u64 config1;	       /* in */
	__u64 config2;	       /* in */
	__u64 bytes_per_count; /* in: published as given */
	__u32 kind;	       /* in: SLUICE_PMU_* */
	__u32 reserved;	       /* in: zero */
	__u32 slot;	       /* out: index of the entry */
	__u32 generation;      /* out */
};

/* struct sluice_unwatch.what */
#define SLUICE_UNWATCH_PCI 1u
#define SLUICE_UNWATCH_PMU 2u

/* Give a slot back. close() does it for all slots of the open file. */
struct sluice_unwatch {
	__u32 size;  /* in: bytes */
	__u32 flags; /* in: zero */
	__u32 what;  /* in: SLUICE_UNWATCH_* */
	__u32 slot;  /* in */
};

/*
 * Ask for a sampling period. Each open file has one wish, the smallest of all wins; a file that
 * never asked counts with the module parameter. Below the parameter CAP_SYS_ADMIN is needed.
 * The wish is clamped to SLUICE_PERIOD_MIN_MS .. SLUICE_PERIOD_MAX_MS; 0 takes it back.
 */
struct sluice_set_period {
	__u32 size;	 /* in: bytes */
	__u32 flags;	 /* in: zero */
	__u32 period_ms; /* in: the wish; out: what is in force, milliseconds */
	__u32 reserved;	 /* in: zero */
};

#ifndef __KERNEL__

/* Acquire load: what is read after it in program order is not read before it. */
static inline __u32 sluice_load_seq(const void *page)
{
	const char *at = (const char *)page + offsetof(struct sluice_page, seq);

	return __atomic_load_n((const __u32 *)(const void *)at, __ATOMIC_ACQUIRE);
}

/*
 * Copy `bytes` (a multiple of 8, at least the head) of a mapped page, all of one sample. `page` and
 * `copy` are aligned to 8 bytes. At most `tries` attempts, each a bounded copy: never waits.
 * Returns 0; -EAGAIN when the module was writing every time (then use pread(): it waits for the
 * writer); -EINVAL for a wrong `bytes`. The copy's seq is even. Any thread; no system call.
 */
static inline int sluice_page_copy(const void *page, void *copy, size_t bytes, unsigned int tries)
{
	const __u64 *from = (const __u64 *)page;
	__u64 *to = (__u64 *)copy;
	size_t i, words = bytes / sizeof(__u64);

	if (bytes % sizeof(__u64) || bytes < sizeof(struct sluice_page))
		return -EINVAL;
	while (tries--) {
		__u32 before = sluice_load_seq(page);

		if (before & 1u)
			continue;
		/* Each load acquires, so the second look at seq cannot move up before it. */
		for (i = 0; i < words; i++)
			to[i] = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);
		if (sluice_load_seq(page) == before)
			return 0;
	}
	return -EAGAIN;
}

/* Address of entry `index` in a copy (or NULL past the count). The head is taken from the copy. */
static inline const void *sluice_page_entry(const void *copy, __u32 offset, __u32 stride, __u32 nr,
					    __u32 index)
{
	const struct sluice_page *head = (const struct sluice_page *)copy;

	if (index >= nr || (__u64)offset + (__u64)stride * nr > head->page_bytes)
		return NULL;
	return (const char *)copy + offset + (size_t)stride * index;
}

static inline const struct sluice_node *sluice_page_node(const void *copy, __u32 index)
{
	const struct sluice_page *h = (const struct sluice_page *)copy;

	return (const struct sluice_node *)sluice_page_entry(copy, h->node_offset, h->node_stride,
							     h->node_nr, index);
}

static inline const struct sluice_pci *sluice_page_pci(const void *copy, __u32 slot)
{
	const struct sluice_page *h = (const struct sluice_page *)copy;

	return (const struct sluice_pci *)sluice_page_entry(copy, h->pci_offset, h->pci_stride,
							    h->pci_nr, slot);
}

static inline const struct sluice_pmu *sluice_page_pmu(const void *copy, __u32 slot)
{
	const struct sluice_page *h = (const struct sluice_page *)copy;

	return (const struct sluice_pmu *)sluice_page_entry(copy, h->pmu_offset, h->pmu_stride,
							    h->pmu_nr, slot);
}

#endif /* !__KERNEL__ */

#ifdef __cplusplus
}
#endif

#endif /* SLUICE_TELEMETRY_H */
