// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT
/*
 * The five ioctls: one table of number, sizes and handler. A caller's structure is copied in before
 * the lock is taken and copied out after it is released; a result that cannot be delivered is
 * undone. The meaning of every errno stands in uapi/sluice_telemetry.h.
 */
#include <linux/capability.h>
#include <linux/compiler.h>
#include <linux/fs.h>
#include <linux/minmax.h>
#include <linux/nospec.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "sluice.h"
#include "seed.h"

/* Longer structures than this are refused unread. */
#define MAX_STRUCT_BYTES 4096

union sluice_arg {
	struct {
		__u32 size;
		__u32 flags;
	};
	struct sluice_get_info get_info;
	struct sluice_watch_pci watch_pci;
	struct sluice_watch_pmu watch_pmu;
	struct sluice_unwatch unwatch;
	struct sluice_set_period set_period;
};

/* Run with the lock held. `undo` frees what `run` gave out when it cannot be told to the caller. */
struct sluice_op {
	u32 min_bytes;
	u32 bytes;
	int (*run)(struct sampler *s, struct client *c, union sluice_arg *arg);
	void (*undo)(struct sampler *s, struct client *c, const union sluice_arg *arg);
};

static int get_info(struct sampler *s, struct client *c, union sluice_arg *arg)
{
	struct sluice_get_info *info = &arg->get_info;

	if (info->caller_abi && info->caller_abi < SLUICE_ABI_OLDEST)
		return -EOPNOTSUPP;
	seed_lock_inner();
	info->abi_version = SLUICE_ABI_VERSION;
	info->abi_oldest = SLUICE_ABI_OLDEST;
	info->features = SLUICE_FEATURE_PCI | SLUICE_FEATURE_PMU;
	info->features |= s->stress ? SLUICE_FEATURE_STRESS : 0;
	info->page_bytes = s->shadow->page_bytes;
	info->period_ms = sampler_period_ms(s);
	info->period_default_ms = s->default_ms;
	info->node_nr = s->shadow->node_nr;
	info->pci_nr = s->pci_slots.nr;
	info->pmu_nr = s->pmu_slots.nr;
	info->pci_free = slot_count(&s->pci_slots, NULL);
	info->pmu_free = slot_count(&s->pmu_slots, NULL);
	info->pci_quota = s->pci_slots.quota;
	info->pmu_quota = s->pmu_slots.quota;
	memset(info->module_version, 0, sizeof(info->module_version));
	strscpy((char *)info->module_version, SLUICE_MODULE_VERSION, sizeof(info->module_version));
	return 0;
}

static int watch_pci(struct sampler *s, struct client *c, union sluice_arg *arg)
{
	u32 slot;
	int rc;

	if (arg->watch_pci.reserved)
		return -EINVAL;
	rc = pci_watch_add(s, c, &arg->watch_pci, &slot);
	if (rc)
		return rc;
	sampler_publish(s);
	arg->watch_pci.slot = slot;
	arg->watch_pci.generation = page_pci(s->shadow)[slot].generation;
	return 0;
}

static void watch_pci_undo(struct sampler *s, struct client *c, const union sluice_arg *arg)
{
	const u32 slot = arg->watch_pci.slot;

	/* another thread with the same file may have been quicker, and have it for itself */
	if (!slot_check(&s->pci_slots, c, slot) &&
	    page_pci(s->shadow)[slot].generation == arg->watch_pci.generation)
		pci_watch_del(s, slot);
}

static int watch_pmu(struct sampler *s, struct client *c, union sluice_arg *arg)
{
	u32 slot;
	int rc;

	if (!perfmon_capable())
		return -EPERM;
	if (arg->watch_pmu.reserved)
		return -EINVAL;
	if (arg->watch_pmu.kind > SLUICE_PMU_TOTAL)
		return -EOPNOTSUPP;
	rc = pmu_watch_add(s, c, &arg->watch_pmu, &slot);
	if (rc)
		return rc;
	sampler_publish(s);
	arg->watch_pmu.slot = slot;
	arg->watch_pmu.generation = page_pmu(s->shadow)[slot].generation;
	return 0;
}

static void watch_pmu_undo(struct sampler *s, struct client *c, const union sluice_arg *arg)
{
	const u32 slot = arg->watch_pmu.slot;

	if (!slot_check(&s->pmu_slots, c, slot) && s->pmu[slot].given == arg->watch_pmu.generation)
		pmu_watch_del(s, slot);
}

/*
 * slot_check() for a number that came from outside: the processor must not look past the table
 * either while it guesses how the bounds check ends.
 */
static int slot_check_user(const struct slot_table *table, const struct client *c, u32 *slot)
{
	if (*slot >= table->nr)
		return -EINVAL;
	*slot = array_index_nospec(*slot, SLOT_TABLE_MAX);
	return slot_check(table, c, *slot);
}

static int unwatch(struct sampler *s, struct client *c, union sluice_arg *arg)
{
	u32 slot = arg->unwatch.slot;
	int rc;

	switch (arg->unwatch.what) {
	case SLUICE_UNWATCH_PCI:
		rc = slot_check_user(&s->pci_slots, c, &slot);
		if (rc)
			return rc;
		pci_watch_del(s, slot);
		break;
	case SLUICE_UNWATCH_PMU:
		rc = slot_check_user(&s->pmu_slots, c, &slot);
		if (rc)
			return rc;
		pmu_watch_del(s, slot);
		break;
	default:
		return -EINVAL;
	}
	sampler_publish(s);
	return 0;
}

static int set_period(struct sampler *s, struct client *c, union sluice_arg *arg)
{
	u32 wish = arg->set_period.period_ms;

	if (arg->set_period.reserved)
		return -EINVAL;
	if (wish)
		wish = clamp(wish, SLUICE_PERIOD_MIN_MS, SLUICE_PERIOD_MAX_MS);
	if (wish && wish < s->default_ms && !capable(CAP_SYS_ADMIN))
		return -EPERM;
	c->period_ms = wish;
	sampler_schedule(s);
	arg->set_period.period_ms = sampler_period_ms(s);
	return 0;
}

#define ARG_BYTES(type) sizeof(struct type)

static const struct sluice_op ops[] = {
	[_IOC_NR(SLUICE_GET_INFO)] = {
		.min_bytes = offsetofend(struct sluice_get_info, page_bytes),
		.bytes = ARG_BYTES(sluice_get_info),
		.run = get_info,
	},
	[_IOC_NR(SLUICE_WATCH_PCI)] = {
		.min_bytes = ARG_BYTES(sluice_watch_pci),
		.bytes = ARG_BYTES(sluice_watch_pci),
		.run = watch_pci,
		.undo = watch_pci_undo,
	},
	[_IOC_NR(SLUICE_WATCH_PMU)] = {
		.min_bytes = ARG_BYTES(sluice_watch_pmu),
		.bytes = ARG_BYTES(sluice_watch_pmu),
		.run = watch_pmu,
		.undo = watch_pmu_undo,
	},
	[_IOC_NR(SLUICE_UNWATCH)] = {
		.min_bytes = ARG_BYTES(sluice_unwatch),
		.bytes = ARG_BYTES(sluice_unwatch),
		.run = unwatch,
	},
	[_IOC_NR(SLUICE_SET_PERIOD)] = {
		.min_bytes = ARG_BYTES(sluice_set_period),
		.bytes = ARG_BYTES(sluice_set_period),
		.run = set_period,
	},
};

/* NULL: no such ioctl. Compared as a whole: a number with a size or a direction is another one. */
static const struct sluice_op *find_op(unsigned int cmd)
{
	u32 nr = _IOC_NR(cmd);

	if (cmd != _IO(SLUICE_IOC_TYPE, nr) || nr >= ARRAY_SIZE(ops))
		return NULL;
	/* a guess past the table would jump through what lies behind it */
	return &ops[array_index_nospec(nr, ARRAY_SIZE(ops))];
}

static int copy_in(const struct sluice_op *op, union sluice_arg *arg, const void __user *user,
		   u32 *ret_size)
{
	u32 size;
	int rc;

	if (get_user(size, (const u32 __user *)user))
		return -EFAULT;
	if (size < op->min_bytes)
		return -EINVAL;
	if (size > MAX_STRUCT_BYTES)
		return -E2BIG;
	memset(arg, 0, sizeof(*arg));
	rc = copy_struct_from_user(arg, op->bytes, user, size);
	if (rc)
		return rc;
	/* another thread may have changed it meanwhile: the first look counts */
	arg->size = size;
	if (arg->flags)
		return -EOPNOTSUPP;
	*ret_size = size;
	return 0;
}

long sluice_ioctl(struct file *file, unsigned int cmd, unsigned long user)
{
	const struct sluice_op *op = find_op(cmd);
	struct client *c = file->private_data;
	struct sampler *s = &sluice;
	union sluice_arg arg;
	u32 size;
	int rc;

	if (!op)
		return -ENOTTY;
	rc = copy_in(op, &arg, (const void __user *)user, &size);
	if (rc)
		return rc;
	seed_lock_outer(op->run == set_period);
	rc = mutex_lock_interruptible(&s->lock);
	if (!rc) {
		rc = op->run(s, c, &arg);
		mutex_unlock(&s->lock);
	}
	seed_unlock_outer(op->run == set_period);
	if (rc)
		return rc;
	if (!copy_to_user((void __user *)user, &arg, min(size, op->bytes)))
		return 0;
	if (op->undo) {
		mutex_lock(&s->lock);
		op->undo(s, c, &arg);
		mutex_unlock(&s->lock);
	}
	return -EFAULT;
}
