// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT
/*
 * Links of watched PCI functions. Holds a reference on each; lets go of it when the bus says that
 * the device leaves, after which the slot stays GONE until its owner frees it. Never wakes a
 * device, never writes to config space. Called with the sampler's lock held; the notifier takes
 * it.
 */
#include <linux/device.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>

#include "sluice.h"
#include "compat.h"

#define DEVSTA_ERRORS \
	(PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED | PCI_EXP_DEVSTA_URD)

/* 0 = not known. The kernel's own table of these is for GPL-only modules of the core. */
static u32 speed_mts(enum pci_bus_speed speed)
{
	switch (speed) {
	case PCIE_SPEED_2_5GT:
		return 2500;
	case PCIE_SPEED_5_0GT:
		return 5000;
	case PCIE_SPEED_8_0GT:
		return 8000;
	case PCIE_SPEED_16_0GT:
		return 16000;
	case PCIE_SPEED_32_0GT:
		return 32000;
	case PCIE_SPEED_64_0GT:
		return 64000;
	default:
		return 0;
	}
}

/* Current Link Speed field of the link status register. */
static u32 link_mts(u16 lnksta)
{
	static const u32 table[] = { 0, 2500, 5000, 8000, 16000, 32000, 64000 };
	u32 index = lnksta & PCI_EXP_LNKSTA_CLS;

	return index < ARRAY_SIZE(table) ? table[index] : 0;
}

static u32 known_min(u32 a, u32 b)
{
	return a && b ? min(a, b) : a + b;
}

/* Is the function's link the one below it? Its other end is not looked up: it comes and goes. */
static bool has_link_below(struct pci_dev *pdev)
{
	int type = pci_pcie_type(pdev);

	return type == PCI_EXP_TYPE_ROOT_PORT || type == PCI_EXP_TYPE_DOWNSTREAM;
}

/* What both ends of the function's own link can do: constant, read once. */
static void fill_maximum(struct pci_dev *pdev, struct sluice_pci *out)
{
	struct pci_dev *port = pci_upstream_bridge(pdev);
	u32 speed = 0, width = 0;

	out->max_speed_mts = speed_mts(pcie_get_speed_cap(pdev));
	out->max_width = pcie_get_width_cap(pdev);
	if (out->max_width == PCIE_LNK_WIDTH_UNKNOWN)
		out->max_width = 0;
	if (port && pci_is_pcie(port) && !has_link_below(pdev)) {
		speed = speed_mts(pcie_get_speed_cap(port));
		width = pcie_get_width_cap(port);
		if (width == PCIE_LNK_WIDTH_UNKNOWN)
			width = 0;
	}
	out->max_speed_mts = known_min(out->max_speed_mts, speed);
	out->max_width = known_min(out->max_width, width);
}

/* The narrowest link between the function and the root: one register read for each step. */
static void fill_limit(struct pci_dev *pdev, struct sluice_pci *out)
{
	enum pci_bus_speed speed = PCI_SPEED_UNKNOWN;
	enum pcie_link_width width = PCIE_LNK_WIDTH_UNKNOWN;
	struct pci_dev *limit = NULL;

	out->limit_mbps = pcie_bandwidth_available(pdev, &limit, &speed, &width);
	out->limit_speed_mts = speed_mts(speed);
	out->limit_width = width == PCIE_LNK_WIDTH_UNKNOWN ? 0 : width;
	if (!limit || !out->limit_speed_mts || !out->limit_width) {
		out->limit_mbps = 0;
		out->limit_speed_mts = 0;
		out->limit_width = 0;
		return;
	}
	out->limit_domain = pci_domain_nr(limit->bus);
	out->limit_bus = limit->bus->number;
	out->limit_devfn = limit->devfn;
	/* the port above speaks of the function's own link: the other end of it */
	if (limit != pdev && limit != pci_upstream_bridge(pdev))
		out->flags |= SLUICE_PCI_LIMIT_ABOVE;
}

static void fill_link(struct pci_dev *pdev, struct sluice_pci *out)
{
	u16 lnksta = 0;

	out->flags &= ~(SLUICE_PCI_LIMIT_ABOVE | SLUICE_PCI_BELOW_MAXIMUM);
	pcie_capability_read_word(pdev, PCI_EXP_LNKSTA, &lnksta);
	out->cur_speed_mts = link_mts(lnksta);
	out->cur_width = (lnksta & PCI_EXP_LNKSTA_NLW) >> PCI_EXP_LNKSTA_NLW_SHIFT;
	if (!out->cur_speed_mts || !out->cur_width) {
		out->cur_speed_mts = 0;
		out->cur_width = 0;
	} else if (!has_link_below(pdev) &&
		   (out->cur_speed_mts < out->max_speed_mts || out->cur_width < out->max_width)) {
		out->flags |= SLUICE_PCI_BELOW_MAXIMUM;
	}
	fill_limit(pdev, out);
}

static u16 read_errors(struct pci_dev *pdev)
{
	u16 devsta = 0;

	pcie_capability_read_word(pdev, PCI_EXP_DEVSTA, &devsta);
	/* all ones: the device does not answer any more */
	return devsta == 0xffff ? 0 : devsta & DEVSTA_ERRORS;
}

/* True: registers may be read; *ret_put says whether compat_pm_get_if_active() took a reference. */
static bool is_awake(struct pci_dev *pdev, bool *ret_put)
{
	int rc = compat_pm_get_if_active(&pdev->dev);

	*ret_put = rc > 0;
	if (rc >= 0)
		return rc > 0;
	/* runtime PM off: on unless somebody put it to sleep by other means */
	return pdev->current_state == PCI_D0 || pdev->current_state == PCI_UNKNOWN;
}

/* Registers read: 1 or, when it is asleep, 0. */
static u32 sample_slot(struct sampler *s, u32 slot)
{
	struct sluice_pci *out = &page_pci(s->shadow)[slot];
	struct pci_watch *p = &s->pci[slot];
	bool put;

	if (!is_awake(p->pdev, &put)) {
		out->state = SLUICE_SLOT_ASLEEP;
		return 0;
	}
	out->state = SLUICE_SLOT_OK;
	out->updated_ns = s->shadow->updated_ns;
	if (out->flags & SLUICE_PCI_EXPRESS) {
		out->error_bits = read_errors(p->pdev);
		if (!p->known) {
			fill_maximum(p->pdev, out);
			p->errors_at_start = out->error_bits;
			p->known = true;
		}
		out->error_bits_new |= out->error_bits & ~p->errors_at_start;
		fill_link(p->pdev, out);
	}
	if (put)
		pm_runtime_put(&p->pdev->dev);
	return 1;
}

void pci_sample(struct sampler *s)
{
	u32 i;

	s->shadow->pci_ops = 0;
	for (i = 0; i < s->pci_slots.nr; i++)
		if (s->pci[i].pdev)
			s->shadow->pci_ops += sample_slot(s, i);
}

static void fill_identity(struct pci_dev *pdev, struct sluice_pci *out)
{
	out->domain = pci_domain_nr(pdev->bus);
	out->bus = pdev->bus->number;
	out->devfn = pdev->devfn;
	out->flags = pci_is_pcie(pdev) ? SLUICE_PCI_EXPRESS : 0;
	out->node = dev_to_node(&pdev->dev);
	out->class_code = pdev->class;
	out->vendor = pdev->vendor;
	out->device = pdev->device;
	out->limit_domain = out->domain;
	out->limit_bus = out->bus;
	out->limit_devfn = out->devfn;
}

int pci_watch_add(struct sampler *s, const void *owner, const struct sluice_watch_pci *arg,
		  u32 *slot)
{
	struct sluice_pci *out;
	struct pci_dev *pdev;
	u32 generation;
	int rc;

	if (arg->domain > INT_MAX)
		return -ENODEV;
	pdev = pci_get_domain_bus_and_slot(arg->domain, arg->bus, arg->devfn);
	if (!pdev)
		return -ENODEV;
	rc = slot_take(&s->pci_slots, owner, slot);
	if (rc)
		goto out_put;
	out = &page_pci(s->shadow)[*slot];
	generation = out->generation + 1;
	memset(out, 0, sizeof(*out));
	out->generation = generation;
	fill_identity(pdev, out);
	s->pci[*slot] = (struct pci_watch){ .pdev = pdev };
	sample_slot(s, *slot);
	return 0;
out_put:
	pci_dev_put(pdev);
	return rc;
}

void pci_watch_del(struct sampler *s, u32 slot)
{
	struct sluice_pci *out = &page_pci(s->shadow)[slot];
	u32 generation = out->generation;

	pci_dev_put(s->pci[slot].pdev);
	s->pci[slot].pdev = NULL;
	slot_drop(&s->pci_slots, slot);
	memset(out, 0, sizeof(*out));
	out->generation = generation;
}

/*
 * Runs in the context that removes the device: once before its driver is unbound, once when no
 * look-up finds it any more. The second catches a watch that was put on it in between.
 */
static int bus_event(struct notifier_block *nb, unsigned long action, void *data)
{
	struct device *dev = data;
	u32 i;

	if (action != BUS_NOTIFY_DEL_DEVICE && action != BUS_NOTIFY_REMOVED_DEVICE)
		return NOTIFY_DONE;
	mutex_lock(&sluice.lock);
	for (i = 0; i < sluice.pci_slots.nr; i++) {
		if (!sluice.pci[i].pdev || &sluice.pci[i].pdev->dev != dev)
			continue;
		page_pci(sluice.shadow)[i].state = SLUICE_SLOT_GONE;
		pci_dev_put(sluice.pci[i].pdev);
		sluice.pci[i].pdev = NULL;
	}
	mutex_unlock(&sluice.lock);
	return NOTIFY_OK;
}

static struct notifier_block bus_nb = { .notifier_call = bus_event };

int pci_watch_init(void)
{
	return bus_register_notifier(&pci_bus_type, &bus_nb);
}

void pci_watch_fini(void)
{
	bus_unregister_notifier(&pci_bus_type, &bus_nb);
}
