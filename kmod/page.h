/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT */
/*
 * The writer's half of the telemetry page: where the arrays lie, and how a sample is published so
 * that no reader takes half of one. Shared by the module and by tests/unit/kmod, which runs this
 * very code against the reader of uapi/sluice_telemetry.h in user space: no kernel call here.
 * One writer at a time (the module holds its lock); readers take no lock.
 *
 *	seq = odd		relaxed
 *	words of the body	each a release store: not visible before the odd number
 *	seq = even		release store: not visible before the words
 */
#ifndef SLUICE_KMOD_PAGE_H
#define SLUICE_KMOD_PAGE_H

#include "uapi/sluice_telemetry.h"

#ifdef __KERNEL__
#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/stddef.h>
#include <asm/barrier.h>
/* Pairs with the acquire loads of sluice_page_copy(). */
#define page_store_release(at, value) smp_store_release(at, value)
#define page_store_relaxed(at, value) WRITE_ONCE(*(at), value)
#else
#include <assert.h>
#define page_store_release(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
#define page_store_relaxed(at, value) __atomic_store_n(at, value, __ATOMIC_RELAXED)
#endif

static_assert(sizeof(struct sluice_page) == 208, "the head grows by appending only");
static_assert(sizeof(struct sluice_node) == 192, "entries are multiples of 8 bytes");
static_assert(sizeof(struct sluice_pci) == 120, "entries are multiples of 8 bytes");
static_assert(sizeof(struct sluice_pmu) == 120, "entries are multiples of 8 bytes");
static_assert(offsetof(struct sluice_page, seq) == 56, "seq and flags share one word");
static_assert(offsetof(struct sluice_page, flags) == 60, "seq and flags share one word");

/*
 * Fill in the constant head for `node_nr` nodes (at most SLUICE_MAX_NODES): arrays behind the
 * head in the order PCI, PMU, nodes, each aligned to 64 bytes; page_bytes rounded up to
 * `page_size` (a power of two). Writes the head only; returns nothing, cannot fail.
 */
static inline void page_layout(struct sluice_page *head, __u32 node_nr, __u32 page_size)
{
	__u32 at = (sizeof(*head) + 63) & ~63u;

	head->magic = SLUICE_PAGE_MAGIC;
	head->abi_version = SLUICE_ABI_VERSION;
	head->head_bytes = sizeof(*head);
	head->pci_offset = at;
	head->pci_stride = sizeof(struct sluice_pci);
	head->pci_nr = SLUICE_MAX_PCI;
	at = (at + head->pci_stride * head->pci_nr + 63) & ~63u;
	head->pmu_offset = at;
	head->pmu_stride = sizeof(struct sluice_pmu);
	head->pmu_nr = SLUICE_MAX_PMU;
	at = (at + head->pmu_stride * head->pmu_nr + 63) & ~63u;
	head->node_offset = at;
	head->node_stride = sizeof(struct sluice_node);
	head->node_nr = node_nr;
	at += head->node_stride * head->node_nr;
	head->page_bytes = (at + page_size - 1) & ~(page_size - 1);
}

/* First entry of each array of a page or of its shadow. */
static inline struct sluice_pci *page_pci(struct sluice_page *head)
{
	return (struct sluice_pci *)((char *)head + head->pci_offset);
}

static inline struct sluice_pmu *page_pmu(struct sluice_page *head)
{
	return (struct sluice_pmu *)((char *)head + head->pmu_offset);
}

static inline struct sluice_node *page_node(struct sluice_page *head)
{
	return (struct sluice_node *)((char *)head + head->node_offset);
}

/*
 * Copy everything behind seq from `shadow` (the writer's own, same layout) to `page` inside one odd
 * window. The window is this copy and nothing else: the caller switches preemption off around
 * it, so that a reader never spins on a writer that is not running. Single writer.
 */
static inline void page_publish(struct sluice_page *page, const struct sluice_page *shadow)
{
	const __u32 first = (offsetof(struct sluice_page, flags) + sizeof(__u32)) / sizeof(__u64);
	const __u32 words = shadow->page_bytes / sizeof(__u64);
	const __u64 *from = (const __u64 *)shadow;
	__u64 *to = (__u64 *)page;
	const __u32 seq = page->seq;
	__u32 i;

	page_store_relaxed(&page->seq, seq + 1);
	page_store_release(&page->flags, shadow->flags);
	for (i = first; i < words; i++)
		page_store_release(&to[i], from[i]);
	page_store_release(&page->seq, seq + 2);
}

#endif /* SLUICE_KMOD_PAGE_H */
