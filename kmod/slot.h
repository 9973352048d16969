/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT */
/*
 * Who holds which slot of a fixed array: watched PCI functions and PMU counters belong to the open
 * file that asked for them. Knows owners by address only, allocates nothing, touches no hardware;
 * compiles in user space, where tests/unit/kmod tries its bounds. The caller holds a lock.
 */
#ifndef SLUICE_KMOD_SLOT_H
#define SLUICE_KMOD_SLOT_H

#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/stddef.h>
#include <linux/types.h>
#else
#include <errno.h>
#include <stddef.h>
#include <linux/types.h>
#endif

#define SLOT_TABLE_MAX 32

struct slot_table {
	__u32 nr;			   /* slots, at most SLOT_TABLE_MAX */
	__u32 quota;			   /* slots that one owner may hold */
	const void *owner[SLOT_TABLE_MAX]; /* NULL: free */
};

/* Slots that `owner` holds; NULL counts the free ones. */
static inline __u32 slot_count(const struct slot_table *table, const void *owner)
{
	__u32 i, count = 0;

	for (i = 0; i < table->nr; i++)
		count += table->owner[i] == owner;
	return count;
}

/* Give `owner` a slot. 0 and *ret_slot; -EDQUOT: owner's quota; -ENOSPC: none is free. */
static inline int slot_take(struct slot_table *table, const void *owner, __u32 *ret_slot)
{
	__u32 i;

	if (slot_count(table, owner) >= table->quota)
		return -EDQUOT;
	for (i = 0; i < table->nr; i++) {
		if (table->owner[i])
			continue;
		table->owner[i] = owner;
		*ret_slot = i;
		return 0;
	}
	return -ENOSPC;
}

/* May `owner` give `slot` back? 0; -EINVAL: no such slot; -ENOENT: free; -EPERM: another's. */
static inline int slot_check(const struct slot_table *table, const void *owner, __u32 slot)
{
	if (slot >= table->nr)
		return -EINVAL;
	if (!table->owner[slot])
		return -ENOENT;
	return table->owner[slot] == owner ? 0 : -EPERM;
}

/* Free a slot that slot_check() let pass. */
static inline void slot_drop(struct slot_table *table, __u32 slot)
{
	table->owner[slot] = NULL;
}

#endif /* SLUICE_KMOD_SLOT_H */
