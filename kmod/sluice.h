/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT */
/*
 * What the files of sluice.ko share: the one sampler and who may touch it.
 *
 *	main.c		parameters, init and exit
 *	fops.c		open, release, read, poll, mmap of /dev/sluice
 *	ioctl.c		the five ioctls
 *	sample.c	when a sample is taken, and how it is published
 *	node.c, pci.c, pmu.c	what a sample consists of
 *
 * Locks, in order: the bus notifier's, sampler.lock, then those of perf, PM and the CPU hotplug.
 * The lock is never held while user memory is touched, so no user can hold up a sample.
 */
#ifndef SLUICE_KMOD_SLUICE_H
#define SLUICE_KMOD_SLUICE_H

#include <linux/fs.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "page.h"
#include "slot.h"

struct pci_dev;
struct perf_event;

#define SLUICE_MODULE_VERSION "0.1.0"
#define SLUICE_ABI_OLDEST     1u
#define SLUICE_MAX_OPEN	      1024u

/* One open file. Guarded by sampler.lock, save read_nr: the file's readers may race on it. */
struct client {
	struct list_head link;
	u32 period_ms; /* its wish, 0 = none */
	u64 read_nr;   /* sample_nr that read() took last, for poll() */
};

/* A watched PCI function; the values are in the shadow's entry of the same index. */
struct pci_watch {
	struct pci_dev *pdev; /* a reference, NULL when free or gone */
	bool known;	      /* its constant part has been read: not before it was awake */
	u16 errors_at_start;
};

/* A watched counter. */
struct pmu_watch {
	struct perf_event *event; /* NULL while lost */
	u32 cpu;		  /* where it was asked for */
	u32 event_cpu;		  /* where the driver put it */
	u32 hotplug_nr;		  /* of event_cpu when the event came there */
	u32 given;		  /* generation when the slot was given out */
};

/* The module's state: one for the one device. All guarded by lock unless said otherwise. */
struct sampler {
	struct mutex lock;		/* guards all that is not constant */
	struct sluice_page *page;	/* mapped by users; written by page_publish() only */
	struct sluice_page *shadow;	/* the next sample is put together here */
	u32 node_ids[SLUICE_MAX_NODES]; /* constant after init */
	struct slot_table pci_slots;
	struct slot_table pmu_slots;
	struct pci_watch pci[SLUICE_MAX_PCI];
	struct pmu_watch pmu[SLUICE_MAX_PMU];
	struct list_head clients;
	u32 client_nr;
	u32 default_ms; /* constant after init */
	bool stress;	/* constant after init */
	u64 due_ns;	/* when the queued sample should begin */
	struct workqueue_struct *wq;
	struct delayed_work work;
	wait_queue_head_t wait; /* poll() */
};

extern struct sampler sluice;

/* ---- sample.c ---- */

/* Page, shadow, work queue. 0 or -ENOMEM; sampler_fini() accepts a half-made sampler. */
int sampler_init(struct sampler *s, u32 period_ms, bool stress);
void sampler_fini(struct sampler *s);

/* Take one sample now and publish it. The caller holds the lock and may sleep. */
void sampler_take(struct sampler *s);

/* Publish the shadow as it is: a slot has come or gone, no new sample. Locked. */
void sampler_publish(struct sampler *s);

/* The period in force, milliseconds: the smallest wish. The caller holds the lock. */
u32 sampler_period_ms(const struct sampler *s);

/* Queue the next sample by the period in force; none while nobody has the device open. Locked. */
void sampler_schedule(struct sampler *s);

/* ---- node.c: memory of each node. No state but the shadow. ---- */

/* Node numbers into s->node_ids; returns how many. *ret_truncated: there are more than fit. */
u32 node_list(struct sampler *s, bool *ret_truncated);
/* Fill the node entries of the shadow. Locked. */
void node_sample(struct sampler *s);

/* ---- pci.c: links of watched functions ---- */

/* Register with the PCI bus for removals; undo. */
int pci_watch_init(void);
void pci_watch_fini(void);
/* Start watching for `owner`. 0 and *slot; -ENODEV, -EDQUOT, -ENOSPC. Locked. */
int pci_watch_add(struct sampler *s, const void *owner, const struct sluice_watch_pci *arg,
		  u32 *slot);
/* Stop watching a slot that is in use; the caller publishes. Locked. */
void pci_watch_del(struct sampler *s, u32 slot);
/* Read the links of all slots into the shadow. Locked. */
void pci_sample(struct sampler *s);

/* ---- pmu.c: counters ---- */

/* Register with the CPU hotplug; undo. */
int pmu_watch_init(void);
void pmu_watch_fini(void);
/* Start counting for `owner`. 0 and *slot; errors as in the ABI header. Locked. */
int pmu_watch_add(struct sampler *s, const void *owner, const struct sluice_watch_pmu *arg,
		  u32 *slot);
void pmu_watch_del(struct sampler *s, u32 slot);
/* Read all counters into the shadow, make lost ones anew. Locked. */
void pmu_sample(struct sampler *s);

/* ---- fops.c, ioctl.c ---- */

extern const struct file_operations sluice_fops;
long sluice_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

#endif /* SLUICE_KMOD_SLUICE_H */
