// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT
/*
 * sluice.ko: publishes what NUMA nodes, PCIe links and memory controllers are doing on one
 * read-only page, /dev/sluice, for a daemon without privileges. This file: parameters, init, exit.
 * Uses exported symbols only; nothing runs while nobody has the device open.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "sluice.h"

static unsigned int period_ms = 100;
module_param(period_ms, uint, 0444);
MODULE_PARM_DESC(period_ms, "sampling period while open, milliseconds (default 100, floor 10)");

static bool stress;
module_param(stress, bool, 0444);
MODULE_PARM_DESC(stress, "for tests: sample without pause while the device is open");

struct sampler sluice;

static struct miscdevice sluice_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "sluice",
	.fops = &sluice_fops,
	.mode = 0440,
};

static int __init sluice_init(void)
{
	int rc = sampler_init(&sluice, period_ms, stress);

	if (rc)
		goto out_sampler;
	rc = pmu_watch_init();
	if (rc)
		goto out_sampler;
	rc = pci_watch_init();
	if (rc)
		goto out_pmu;
	/* last: from here on it can be opened */
	rc = misc_register(&sluice_device);
	if (rc)
		goto out_pci;
	return 0;
out_pci:
	pci_watch_fini();
out_pmu:
	pmu_watch_fini();
out_sampler:
	sampler_fini(&sluice);
	return rc;
}

/* Runs only when no file is open and nothing is mapped: both hold a reference on the module. */
static void __exit sluice_exit(void)
{
	misc_deregister(&sluice_device);
	pci_watch_fini();
	pmu_watch_fini();
	sampler_fini(&sluice);
}

module_init(sluice_init);
module_exit(sluice_exit);

MODULE_LICENSE("Dual MIT/GPL");
MODULE_AUTHOR("The Sluice authors");
MODULE_DESCRIPTION("Telemetry of NUMA nodes, PCIe links and memory controllers on one page");
MODULE_VERSION(SLUICE_MODULE_VERSION);
