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
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "base/size.h"
#include "engine/engine.h"
#include "serve/manager.h"
#include "serve/notify.h"
#include "serve/private.h"

#define MANAGER_MS 10000 /* before we serve: the manager is busy where it takes longer */

bool notify_store_offered(void)
{
	const char *most = getenv("FDSTORE");

	return getenv("NOTIFY_SOCKET") && most && atoi(most) >= WARM_NR;
}

void notify_forget(void *arg)
{
	char state[96];
	int rc = 0;

	for (int m = 0; m < WARM_NR && !rc; m++) {
		snprintf(state, sizeof(state), "FDSTOREREMOVE=1\nFDNAME=%s",
			 warm_name((enum warm_memory)m));
		rc = manager_send(state, -1, MANAGER_MS);
	}
	if (!rc) /* one that does not know barriers is not waited for: it closes what it does not know */
		rc = manager_barrier(MANAGER_MS);
	if (rc && rc != -ENOTCONN)
		log_line(LOG_WARN, "what the service manager keeps",
			 "cause=\"it was not let go of: %s\" note=ignoring", strerror(-rc));
}

int notify_keep(const int fd[WARM_NR])
{
	char state[96];
	int rc = 0;

	for (int m = 0; m < WARM_NR && !rc; m++) {
		if (fd[m] < 0)
			continue;
		snprintf(state, sizeof(state), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s",
			 warm_name((enum warm_memory)m));
		rc = manager_send(state, fd[m], MANAGER_MS);
	}
	return rc;
}

#define LOADING_NS ((uint64_t)5 * 1000000000) /* between reports while loading */
#define EXTEND_US  "60000000"		      /* what each of them asks for */

#define LATE_NS ((uint64_t)200 * 1000000) /* between tries of what was not taken */

static uint64_t watchdog_us(void)
{
	const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (!us || (pid && strtoll(pid, NULL, 10) != getpid()))
		return 0;
	return strtoull(us, NULL, 10);
}

void liveness_init(struct liveness *l, uint64_t now)
{
	l->watchdog_ns = watchdog_us() * 1000;
	l->moved_ns = l->next_ns = now;
}

/* False: the manager does not read. Whatever else is wrong will not be better later. */
static bool say(struct liveness *l, const char *state)
{
	bool deaf = manager_send(state, -1, 0) == -EAGAIN;

	if (deaf && !l->deaf)
		log_line(LOG_WARN, "the service manager does not read",
			 "note=\"dropping notices but those of our state, ignoring\"");
	l->deaf = deaf;
	return !deaf;
}

/* What the manager did not take before, in order. */
static void say_late(struct liveness *l)
{
	while (l->n_late && say(l, l->late[0])) {
		l->n_late--;
		memmove(l->late[0], l->late[1], l->n_late * sizeof(l->late[0]));
	}
}

void liveness_tell(struct liveness *l, const char *state)
{
	say_late(l);
	if (!l->n_late && say(l, state))
		return;
	if (l->n_late == LIVENESS_LATE) { /* the oldest: what we are now counts */
		l->n_late--;
		memmove(l->late[0], l->late[1], l->n_late * sizeof(l->late[0]));
	}
	snprintf(l->late[l->n_late++], sizeof(l->late[0]), "%s", state);
}

/* Only loading that gets on with it asks for more time. */
static void report_loading(struct liveness *l, const struct engine_status *e, bool moved)
{
	char state[160], done[32], all[32];

	snprintf(state, sizeof(state), "STATUS=loading, %s of %s\n%s",
		 size_format(done, sizeof(done), e->load_bytes),
		 size_format(all, sizeof(all), e->load_bytes_total),
		 moved ? "EXTEND_TIMEOUT_USEC=" EXTEND_US : "");
	say(l, state);
}

void liveness_look(struct liveness *l, const struct engine *engine, uint64_t now)
{
	struct engine_status e;
	uint64_t progress;
	bool loading, moved;

	if (l->n_late && now >= l->late_ns) {
		say_late(l);
		l->late_ns = now + LATE_NS;
	}
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
		report_loading(l, &e, moved);
	if (l->watchdog_ns && now - l->moved_ns < l->watchdog_ns)
		say(l, "WATCHDOG=1");
	l->next_ns = now + (loading && (!l->watchdog_ns || l->watchdog_ns > 2 * LOADING_NS)
				    ? LOADING_NS
			    : l->watchdog_ns ? l->watchdog_ns / 3
					     : UINT64_MAX - now);
}

int liveness_deadline_ms(const struct liveness *l, uint64_t now)
{
	uint64_t next = l->n_late ? u64_min(l->next_ns, l->late_ns) : l->next_ns;

	if (next == UINT64_MAX)
		return -1;
	return next <= now ? 0 : (int)((next - now) / 1000000 + 1);
}
