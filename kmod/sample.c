// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT
/*
 * When a sample is taken and how it gets onto the page. One delayed work, queued only while someone
 * has the device open; open() and WATCH_* take a sample of their own. A sample is put together in
 * the shadow under the lock (it may sleep: counters on other CPUs) and then copied to the page
 * with preemption off, which is the only time a reader finds seq odd.
 */
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/poll.h>
#include <linux/preempt.h>
#include <linux/vmalloc.h>

#include "sluice.h"

static u64 lap(u64 *mark)
{
	u64 now = ktime_get_ns();
	u64 spent = now - *mark;

	*mark = now;
	return spent;
}

void sampler_publish(struct sampler *s)
{
	lockdep_assert_held(&s->lock);
	preempt_disable();
	page_publish(s->page, s->shadow);
	preempt_enable();
}

void sampler_take(struct sampler *s)
{
	struct sluice_page *head = s->shadow;
	u64 mark = ktime_get_ns();

	lockdep_assert_held(&s->lock);
	head->updated_ns = mark;
	head->period_ns = (u64)sampler_period_ms(s) * NSEC_PER_MSEC;
	head->open_nr = s->client_nr;
	head->sample_nr++;
	node_sample(s);
	head->node_cost_ns = lap(&mark);
	pci_sample(s);
	head->pci_cost_ns = lap(&mark);
	pmu_sample(s);
	head->pmu_cost_ns = lap(&mark);
	head->cost_total_ns += mark - head->updated_ns;
	sampler_publish(s);
	/* on the page with the next sample */
	head->publish_cost_ns = lap(&mark);
	head->cost_total_ns += head->publish_cost_ns;
	wake_up_interruptible_poll(&s->wait, EPOLLIN | EPOLLRDNORM);
}

u32 sampler_period_ms(const struct sampler *s)
{
	const struct client *c;
	u32 period = list_empty(&s->clients) ? s->default_ms : SLUICE_PERIOD_MAX_MS;

	list_for_each_entry(c, &s->clients, link)
		period = min(period, c->period_ms ? c->period_ms : s->default_ms);
	return period;
}

void sampler_schedule(struct sampler *s)
{
	u64 now = ktime_get_ns();
	u64 period = (u64)sampler_period_ms(s) * NSEC_PER_MSEC;
	unsigned long delay = 0;

	lockdep_assert_held(&s->lock);
	if (!s->client_nr) {
		/* If it runs already it waits for the lock, then finds nobody. */
		cancel_delayed_work(&s->work);
		return;
	}
	s->due_ns = s->shadow->updated_ns + period;
	if (!s->stress && s->due_ns > now)
		delay = max(1UL, nsecs_to_jiffies(s->due_ns - now));
	mod_delayed_work(s->wq, &s->work, delay);
}

static void sample_work(struct work_struct *work)
{
	struct sampler *s = container_of(to_delayed_work(work), struct sampler, work);
	u64 period;

	mutex_lock(&s->lock);
	if (s->client_nr) {
		period = (u64)sampler_period_ms(s) * NSEC_PER_MSEC;
		if (!s->stress && ktime_get_ns() > s->due_ns + period)
			s->shadow->overrun_nr++;
		sampler_take(s);
		sampler_schedule(s);
	}
	mutex_unlock(&s->lock);
}

int sampler_init(struct sampler *s, u32 period_ms, bool stress)
{
	struct sluice_page head = {};
	bool truncated;
	u32 i;

	mutex_init(&s->lock);
	INIT_LIST_HEAD(&s->clients);
	init_waitqueue_head(&s->wait);
	INIT_DELAYED_WORK(&s->work, sample_work);
	s->default_ms = clamp(period_ms, SLUICE_PERIOD_MIN_MS, SLUICE_PERIOD_MAX_MS);
	s->stress = stress;
	s->pci_slots.nr = SLUICE_MAX_PCI;
	s->pci_slots.quota = SLUICE_QUOTA_PCI;
	s->pmu_slots.nr = SLUICE_MAX_PMU;
	s->pmu_slots.quota = SLUICE_QUOTA_PMU;

	page_layout(&head, node_list(s, &truncated), PAGE_SIZE);
	head.flags = SLUICE_PAGE_NODES | SLUICE_PAGE_PCI | SLUICE_PAGE_PMU;
	head.flags |= truncated ? SLUICE_PAGE_TRUNCATED : 0;
	head.flags |= stress ? SLUICE_PAGE_STRESS : 0;

	s->page = vmalloc_user(head.page_bytes);
	s->shadow = vzalloc(head.page_bytes);
	s->wq = alloc_workqueue("sluice", WQ_UNBOUND | WQ_FREEZABLE, 1);
	if (!s->page || !s->shadow || !s->wq)
		return -ENOMEM;
	*s->page = head;
	*s->shadow = head;
	for (i = 0; i < head.node_nr; i++) {
		page_node(s->shadow)[i].node = s->node_ids[i];
		page_node(s->page)[i].node = s->node_ids[i];
	}
	return 0;
}

void sampler_fini(struct sampler *s)
{
	if (s->wq) {
		cancel_delayed_work_sync(&s->work);
		destroy_workqueue(s->wq);
	}
	vfree(s->shadow);
	vfree(s->page);
}
