/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT */
/*
 * Every difference between the kernels that sluice.ko is built for (6.1 and later). No other file
 * of the module looks at LINUX_VERSION_CODE.
 */
#ifndef SLUICE_KMOD_COMPAT_H
#define SLUICE_KMOD_COMPAT_H

#include <linux/mm.h>
#include <linux/pm_runtime.h>
#include <linux/version.h>

/* 6.3: vm_flags became read-only, changed through helpers. */
static inline void compat_vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	vma->vm_flags &= ~flags;
#else
	vm_flags_clear(vma, flags);
#endif
}

/*
 * 6.9: lost its second argument (count the device in although nobody uses it now).
 * 1: active, a reference is held; 0: not active; -EINVAL: runtime PM is off for this device.
 */
static inline int compat_pm_get_if_active(struct device *dev)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
	return pm_runtime_get_if_active(dev, true);
#else
	return pm_runtime_get_if_active(dev);
#endif
}

#endif /* SLUICE_KMOD_COMPAT_H */
