// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT
/*
 * The file operations of /dev/sluice, save ioctl. Each open file owns its slots and its period wish
 * and loses them in release(). The page is mapped read-only for good: VM_MAYWRITE is taken away.
 * A mapping keeps the file, and so the module, alive.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "sluice.h"
#include "compat.h"
#include "seed.h"

/* Take a sample, unless the last one is from this very moment and the sampler runs anyway. */
static void sample_for_open(struct sampler *s)
{
	u64 age = ktime_get_ns() - s->shadow->updated_ns;

	if (s->client_nr == 1 || age > (u64)SLUICE_PERIOD_MIN_MS * NSEC_PER_MSEC)
		sampler_take(s);
}

static int sluice_open(struct inode *inode, struct file *file)
{
	struct sampler *s = &sluice;
	struct client *c;
	int rc;

	if (file->f_mode & FMODE_WRITE)
		return -EACCES;
	c = kzalloc(sizeof(*c), GFP_KERNEL_ACCOUNT);
	if (!c)
		return -ENOMEM;
	rc = mutex_lock_interruptible(&s->lock);
	if (rc)
		goto out_free;
	if (s->client_nr == SLUICE_MAX_OPEN) {
		rc = -EMFILE;
		goto out_unlock;
	}
	list_add(&c->link, &s->clients);
	s->client_nr++;
	sample_for_open(s);
	sampler_schedule(s);
	mutex_unlock(&s->lock);
	seed_leak();
	file->private_data = c;
	return 0;
out_unlock:
	mutex_unlock(&s->lock);
out_free:
	kfree(c);
	return rc;
}

static int sluice_release(struct inode *inode, struct file *file)
{
	struct client *c = file->private_data;
	struct sampler *s = &sluice;
	u32 i;

	mutex_lock(&s->lock);
	for (i = 0; i < s->pci_slots.nr; i++)
		if (s->pci_slots.owner[i] == c)
			pci_watch_del(s, i);
	for (i = 0; i < s->pmu_slots.nr; i++)
		if (s->pmu_slots.owner[i] == c)
			pmu_watch_del(s, i);
	list_del(&c->link);
	s->client_nr--;
	sampler_schedule(s);
	mutex_unlock(&s->lock);
	seed_free(c);
	return 0;
}

/*
 * A whole consistent page, or nothing. Goes through a buffer of its own: the lock must not be held
 * while user memory is touched, which may be as slow as its owner likes.
 */
static ssize_t sluice_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	struct client *c = file->private_data;
	struct sampler *s = &sluice;
	size_t bytes = s->shadow->page_bytes;
	ssize_t rc;
	void *copy;

	if (*ppos >= bytes)
		return 0;
	if (*ppos || count < bytes)
		return -EINVAL;
	copy = kvmalloc(bytes, GFP_KERNEL_ACCOUNT);
	if (!copy)
		return -ENOMEM;
	rc = mutex_lock_interruptible(&s->lock);
	if (rc)
		goto out;
	memcpy(copy, s->page, bytes);
	mutex_unlock(&s->lock);
	rc = -EFAULT;
	if (copy_to_user(buf, copy, bytes))
		goto out;
	WRITE_ONCE(c->read_nr, ((struct sluice_page *)copy)->sample_nr);
	*ppos += bytes;
	rc = bytes;
out:
	kvfree(copy);
	return rc;
}

static __poll_t sluice_poll(struct file *file, struct poll_table_struct *wait)
{
	struct client *c = file->private_data;

	poll_wait(file, &sluice.wait, wait);
	if (READ_ONCE(sluice.page->sample_nr) != READ_ONCE(c->read_nr))
		return EPOLLIN | EPOLLRDNORM;
	return 0;
}

static int sluice_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_flags & VM_WRITE)
		return -EPERM;
	if (vma->vm_pgoff || vma->vm_end - vma->vm_start != sluice.shadow->page_bytes)
		return -EINVAL;
	compat_vm_flags_clear(vma, VM_MAYWRITE);
	return remap_vmalloc_range(vma, sluice.page, 0);
}

const struct file_operations sluice_fops = {
	.owner = THIS_MODULE,
	.open = sluice_open,
	.release = sluice_release,
	.llseek = default_llseek,
	.read = sluice_read,
	.poll = sluice_poll,
	.mmap = sluice_mmap,
	.unlocked_ioctl = sluice_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
