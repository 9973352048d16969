/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/notify.c: tells the service manager where we are, see sd_notify(3): that we load and how
 * far, that we are ready, and, where the unit has WatchdogSec=, that we live. We live while this loop
 * turns and the engine, if it has work, gets on with it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/size.h"
#include "engine/engine.h"
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
#else
void notify_manager(const char *state)
{
}

static uint64_t watchdog_us(void)
{
	return 0;
}
#endif

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
