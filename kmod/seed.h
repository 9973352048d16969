/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT */
/*
 * Seeded bugs: `make kmod SEED=uaf|lock|leak` builds a module with one of them, so that the test
 * rig can show that it would see such a bug. Never in a module that is installed: without SEED
 * every function here is empty or does what it is named for.
 */
#ifndef SLUICE_KMOD_SEED_H
#define SLUICE_KMOD_SEED_H

#include <linux/mutex.h>
#include <linux/slab.h>

struct client;

#ifdef SLUICE_SEED_LEAK
/* 128 bytes that nobody remembers: kmemleak. */
static inline void seed_leak(void)
{
	void *lost = kmalloc(128, GFP_KERNEL);

	barrier_data(lost);
}
#else
static inline void seed_leak(void)
{
}
#endif

/* kfree(), with SEED=uaf followed by a look at the memory just freed: KASAN. */
static inline void seed_free(void *memory)
{
	kfree(memory);
#ifdef SLUICE_SEED_UAF
	READ_ONCE(*(const u32 *)memory);
#endif
}

#ifdef SLUICE_SEED_LOCK
/* SET_PERIOD takes seed_mutex, then the sampler's lock; GET_INFO the other way: lockdep. */
static DEFINE_MUTEX(seed_mutex);

static inline void seed_lock_outer(bool wanted)
{
	if (wanted)
		mutex_lock(&seed_mutex);
}

static inline void seed_unlock_outer(bool wanted)
{
	if (wanted)
		mutex_unlock(&seed_mutex);
}

static inline void seed_lock_inner(void)
{
	mutex_lock(&seed_mutex);
	mutex_unlock(&seed_mutex);
}
#else
static inline void seed_lock_outer(bool wanted)
{
}

static inline void seed_unlock_outer(bool wanted)
{
}

static inline void seed_lock_inner(void)
{
}
#endif

#endif /* SLUICE_KMOD_SEED_H */
