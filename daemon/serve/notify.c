/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/notify.c: tells the service manager where we are, see sd_notify(3): that we load and how
 * far, that we are ready, and, where the unit has WatchdogSec=, that we live. We live while this loop
 * turns and the engine, if it has work, gets on with it. And has it keep memory for the process after us, see
 * FileDescriptorStoreMax= in systemd.service(5).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/size.h"
#include "engine/engine.h"
#include "serve/notify.h"
#include "serve/private.h"

#if defined(__has_include) && __has_include(<systemd/sd-daemon.h>)
#include <systemd/sd-daemon.h>

void notify_manager(const char *state)
{
	sd_notify(0, state); /* no manager is no fault */
}

static uint64_t watchdog_us(void)
{
	uint64_t us = 0;

	return sd_watchdog_enabled(0, &us) > 0 ? us : 0;
}

static int store(const char *state, int fd)
{
	int rc = sd_pid_notify_with_fds(0, 0, state, &fd, 1);

	return rc < 0 ? rc : 0;
}

#define BARRIER_US 10000000 /* the manager is busy where it takes longer */

static void wait_for_manager(void)
{
	sd_notify_barrier(0, BARRIER_US); /* one that does not know it is not waited for */
}
#else
void notify_manager(const char *state)
{
}

static uint64_t watchdog_us(void)
{
	return 0;
}

static int store(const char *state, int fd)
{
	return -ENOTSUP;
}

static void wait_for_manager(void)
{
}
#endif

bool notify_store_offered(void)
{
	const char *most = getenv("FDSTORE");

	return getenv("NOTIFY_SOCKET") && most && atoi(most) >= WARM_NR;
}

void notify_forget(void *arg)
{
	char state[96];

	for (int m = 0; m < WARM_NR; m++) {
		snprintf(state, sizeof(state), "FDSTOREREMOVE=1\nFDNAME=%s",
			 warm_name((enum warm_memory)m));
		notify_manager(state);
	}
	wait_for_manager();
}

int notify_keep(const int fd[WARM_NR])
{
	char state[96];
	int rc = 0;

	if (!getenv("NOTIFY_SOCKET"))
		return -ENOTCONN;
	for (int m = 0; m < WARM_NR && !rc; m++) {
		if (fd[m] < 0)
			continue;
		snprintf(state, sizeof(state), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s",
			 warm_name((enum warm_memory)m));
		rc = store(state, fd[m]);
	}
	return rc;
}

#define LOADING_NS ((uint64_t)5 * 1000000000) /* between reports while loading */
#define EXTEND_US  "60000000"		      /* what each of them asks for */

void liveness_init(struct liveness *l, uint64_t now)
{
	l->watchdog_ns = watchdog_us() * 1000;
	l->moved_ns = l->next_ns = now;
}

/* Only loading that gets on with it asks for more time. */
static void report_loading(const struct engine_status *e, bool moved)
{
	char state[160], done[32], all[32];

	snprintf(state, sizeof(state), "STATUS=loading, %s of %s\n%s",
		 size_format(done, sizeof(done), e->load_bytes),
		 size_format(all, sizeof(all), e->load_bytes_total),
		 moved ? "EXTEND_TIMEOUT_USEC=" EXTEND_US : "");
	notify_manager(state);
}

void liveness_look(struct liveness *l, const struct engine *engine, uint64_t now)
{
	struct engine_status e;
	uint64_t progress;
	bool loading, moved;

	if (now < l->next_ns)
		return;
	engine_get_status(engine, &e);
	progress = engine_progress(engine);
	loading = e.state == ENGINE_STARTING;
	moved = progress != l->progress;
	l->progress = progress;
	if (moved || (!loading && !e.active))
		l->moved_ns = now;
	if (loading)
		report_loading(&e, moved);
	if (l->watchdog_ns && now - l->moved_ns < l->watchdog_ns)
		notify_manager("WATCHDOG=1");
	l->next_ns = now + (loading && (!l->watchdog_ns || l->watchdog_ns > 2 * LOADING_NS)
				    ? LOADING_NS
			    : l->watchdog_ns ? l->watchdog_ns / 3
					     : UINT64_MAX - now);
}

int liveness_deadline_ms(const struct liveness *l, uint64_t now)
{
	if (l->next_ns == UINT64_MAX)
		return -1;
	return l->next_ns <= now ? 0 : (int)((l->next_ns - now) / 1000000 + 1);
}
