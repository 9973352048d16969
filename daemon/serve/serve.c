/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/serve.c: the loop of the main thread, and the life of a struct serve.
 *
 * Five kinds of events: a client connects, a client speaks or takes, the engine has something for a
 * client (one eventfd for all), the engine's state changed, a signal. Deadlines are the timeout of
 * epoll_wait(). See serve.h.
 */
#include "serve/serve.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "base/turns.h"
#include "serve/forms.h"
#include "serve/private.h"

#define MAX_EVENTS	   32
#define NOTICES_WINDOW_NS  10000000000u
#define NOTICES_PER_WINDOW 10
#define LINGER_NS	   2000000000u /* for clients to take the end of their requests */
#define LINGER_LOOK_MS	   50
#define COME_FIRST	   10 /* steps of nice(2) */

static_assert((int)SLUICE_STATE_READY == (int)ENGINE_READY, "uapi");
static_assert((int)SLUICE_STATE_FAILED == (int)ENGINE_FAILED, "uapi");

void serve_wake(struct serve *s)
{
	uint64_t one = 1;

	/* One write per look of the main thread; pairs with the exchange in take_wake(). */
	if (atomic_exchange_explicit(&s->wake_pending, true, memory_order_acq_rel))
		return;
	loop_time_woken(&s->loop_time);
	if (write(s->wake_fd, &one, sizeof(one)) < 0)
		return; /* only when it is set already */
}

void serve_stop(struct serve *s)
{
	atomic_store_explicit(&s->stop, true, memory_order_release);
	serve_wake(s);
}

void serve_attach(struct serve *s, struct attachment *a)
{
	s->attached = a;
}

void serve_notice(struct serve *s, const char *msg, const struct conn *c, const char *cause)
{
	uint64_t now = now_ns();

	if (now - s->notices_ns > NOTICES_WINDOW_NS) {
		s->notices_ns = now;
		s->n_notices = 0;
	}
	if (s->n_notices++ >= NOTICES_PER_WINDOW)
		return;
	if (c)
		log_line(LOG_NOTICE, msg, "uid=%u cause=\"%s\"", (unsigned)c->uid, cause);
	else
		log_line(LOG_NOTICE, msg, "cause=\"%s\"", cause);
}

static int watch(struct serve *s, int fd, enum source source)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &s->sources[source] };

	s->sources[source] = source;
	return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static int watch_signals(struct serve *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return -errno;
	return watch(s, s->signal_fd, SOURCE_SIGNAL);
}

static int open_loop(struct serve *s, struct err *err)
{
	int rc;

	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->epoll_fd < 0 || s->wake_fd < 0)
		return err_set(err, -errno, "cannot make the event loop: %s", strerror(errno));
	rc = watch(s, s->wake_fd, SOURCE_WAKE);
	if (!rc)
		rc = watch(s, engine_state_fd(s->config.engine), SOURCE_ENGINE);
	if (!rc && s->config.signals)
		rc = watch_signals(s);
	return rc ? err_set(err, rc, "cannot make the event loop: %s", strerror(-rc)) : 0;
}

int serve_create(const struct serve_config *config, struct serve **ret, struct err *err)
{
	struct serve *s = calloc(1, sizeof(*s));
	struct engine_status status;
	int rc = -ENOMEM;

	if (!s)
		return err_set(err, rc, "out of memory");
	s->config = *config;
	if (!s->config.stall_ms)
		s->config.stall_ms = SERVE_STALL_MS;
	if (!s->config.hello_ms)
		s->config.hello_ms = SERVE_HELLO_MS;
	if (!s->config.logits_pending)
		s->config.logits_pending = SERVE_LOGITS_PENDING;
	s->epoll_fd = s->listen_fd = s->signal_fd = s->wake_fd = s->reserve_fd = -1;
	s->started_ns = now_ns();
	s->nice = getpriority(PRIO_PROCESS, 0);
	liveness_init(&s->liveness, s->started_ns);
	s->text_room = detok_bound(config->tokenizer) + 16;
	s->packet = malloc(SLUICE_MSG_MAX);
	s->built = malloc(SLUICE_MSG_MAX);
	s->text = malloc(s->text_room);
	if (!s->packet || !s->built || !s->text) {
		err_set(err, rc, "out of memory");
		goto out;
	}
	rc = open_loop(s, err);
	engine_get_status(config->engine, &status);
	if (!rc && forms_create(s, status.form_bytes, &s->forms))
		rc = err_set(err, -ENOMEM, "out of memory");
	if (!rc)
		rc = listen_open(s, err);
	if (rc)
		goto out;
	*ret = s;
	return 0;
out:
	serve_destroy(s);
	return rc;
}

/* Sends what the sessions have and frees the requests that are through. */
static void pump(struct serve *s)
{
	for (struct conn *c = s->conns; c; c = c->next) {
		if (c->session.n_jobs && !c->dead && !c->out)
			conn_pump(c);
		session_reap(&c->session);
	}
	session_reap_orphans(s);
}

static void take_wake(struct serve *s)
{
	uint64_t count;

	if (read(s->wake_fd, &count, sizeof(count)) < 0)
		return;
	loop_time_looks(&s->loop_time);
	/* Before looking at the jobs: what comes after this writes the eventfd again. */
	atomic_exchange_explicit(&s->wake_pending, false, memory_order_acq_rel);
}

static int take_state(struct serve *s, struct err *err)
{
	struct engine_status e;
	uint64_t count;

	if (read(engine_state_fd(s->config.engine), &count, sizeof(count)) < 0)
		return 0;
	engine_get_status(s->config.engine, &e);
	if (e.state == ENGINE_FAILED && !s->stopping) /* then it is the loading that was cut */
		return err_set(err, -EIO, "%s", e.failure[0] ? e.failure : "the engine failed");
	if (e.state == ENGINE_READY && !s->ready) {
		s->liveness.next_ns = 0; /* from now on at the watchdog's pace */
		s->ready = true;
		log_line(LOG_NOTICE, "ready", "socket=%s load_seconds=%.2f dense_bytes=%llu",
			 s->config.socket_path, (double)(now_ns() - s->started_ns) / 1e9,
			 (unsigned long long)e.dense_bytes);
		liveness_tell(&s->liveness, "READY=1\nSTATUS=ready");
	}
	return 0;
}

/* See sd_notify(3): the manager waits for READY=1 behind the time of RELOADING=1. */
static void reload(struct serve *s)
{
	char state[64];

	if (!s->config.reload) {
		log_line(LOG_NOTICE, "nothing to reload", NULL);
		return;
	}
	snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%llu",
		 (unsigned long long)now_ns() / 1000);
	liveness_tell(&s->liveness, state);
	s->config.reload(s->config.reload_arg);
	liveness_tell(&s->liveness, "READY=1");
}

void serve_set_limits(struct serve *s, uint32_t request_tokens, uint64_t request_ns)
{
	s->config.request_tokens = request_tokens;
	s->config.request_ns = request_ns;
}

static void take_signal(struct serve *s)
{
	struct signalfd_siginfo info;

	if (read(s->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP) {
		reload(s);
		return;
	}
	log_line(LOG_NOTICE, "stopping", "signal=%u", info.ssi_signo);
	s->stopping = true;
}

static int take_event(struct serve *s, const struct epoll_event *ev, struct err *err)
{
	switch (*(enum source *)ev->data.ptr) {
	case SOURCE_LISTEN:
		listen_accept(s);
		return 0;
	case SOURCE_SIGNAL:
		take_signal(s);
		return 0;
	case SOURCE_WAKE:
		take_wake(s);
		return 0;
	case SOURCE_ENGINE:
		return take_state(s, err);
	case SOURCE_CONN:
		conn_event(ev->data.ptr, ev->events);
		return 0;
	case SOURCE_OTHER:
		((struct source_fd *)ev->data.ptr)->event(ev->data.ptr, ev->events);
		return 0;
	}
	return 0;
}

/* One batch of events, at most @timeout_ms away (-1: when one comes). */
static int turn(struct serve *s, int timeout_ms, struct err *err)
{
	struct epoll_event events[MAX_EVENTS];
	int n = epoll_wait(s->epoll_fd, events, MAX_EVENTS, timeout_ms);

	if (n < 0 && errno != EINTR)
		return err_set(err, -errno, "epoll_wait: %s", strerror(errno));
	loop_time_begin(&s->loop_time);
	for (int i = 0; i < n; i++) {
		int rc = take_event(s, &events[i], err);

		if (rc)
			return rc;
	}
	liveness_look(&s->liveness, s->config.engine, now_ns());
	pump(s);
	if (s->attached)
		s->attached->pump(s->attached);
	conn_sweep(s, true);
	loop_time_end(&s->loop_time);
	return 0;
}

/* The loop's next deadline in ms, -1: none. */
static int next_deadline_ms(const struct serve *s)
{
	const int all[] = { conn_deadline_ms(s), liveness_deadline_ms(&s->liveness, now_ns()),
			    s->attached ? s->attached->timeout_ms(s->attached) : -1 };
	int ms = -1;

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i] >= 0 && (ms < 0 || all[i] < ms))
			ms = all[i];
	return ms;
}

/* Does a client still wait for the end of a request, or for what was queued for it? */
static bool owes(const struct serve *s)
{
	for (const struct conn *c = s->conns; c; c = c->next)
		if (!c->dead && (c->session.n_jobs || c->out))
			return true;
	return s->attached && s->attached->busy(s->attached);
}

/* What an attachment has begun may go on for a while, before the engine ends everything. */
static int drain(struct serve *s, struct err *err)
{
	struct attachment *a = s->attached;
	uint64_t end = now_ns() + (uint64_t)(a ? a->drain_ms : 0) * 1000000u;
	int rc = 0;

	if (a)
		a->quiet(a);
	while (!rc && a && a->busy(a) && now_ns() < end)
		rc = turn(s, LINGER_LOOK_MS, err);
	return rc;
}

/* The engine ends every request within a layer: clients hear of it now, not after the last read. */
static int linger(struct serve *s, struct err *err)
{
	uint64_t end = now_ns() + LINGER_NS;
	int rc = 0;

	engine_stop(s->config.engine);
	for (struct conn *c = s->conns; c; c = c->next)
		session_cut_forms(&c->session);
	while (!rc && owes(s) && now_ns() < end)
		rc = turn(s, LINGER_LOOK_MS, err);
	return rc;
}

void serve_come_first(void)
{
	errno = 0;
	if (setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) - COME_FIRST))
		log_line(LOG_DBG, "the loop has no priority", "cause=\"%s\"", strerror(errno));
	/* without it who computes is let finish its slice, however high we are */
	turns_short(true);
}

int serve_run(struct serve *s, struct err *err)
{
	int rc;

	serve_come_first();
	while (!s->stopping) {
		rc = turn(s, next_deadline_ms(s), err);

		if (rc)
			return rc;
		/* pairs with the release in serve_stop() */
		if (atomic_load_explicit(&s->stop, memory_order_acquire))
			s->stopping = true;
	}
	liveness_tell(&s->liveness, "STOPPING=1");
	listen_close(s); /* reads in flight may take a while: newcomers shall not wait for that */
	rc = drain(s, err);
	return rc ? rc : linger(s, err);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void serve_destroy(struct serve *s)
{
	if (!s)
		return;
	listen_close(s);
	for (struct conn *c = s->conns; c; c = c->next)
		session_drop_forms(&c->session); /* the engine is gone: none may begin */
	pump(s);
	for (struct conn *c = s->conns; c; c = c->next)
		conn_drop(c);
	conn_sweep(s, false);
	session_reap_orphans(s); /* the engine is gone: none of them is held any more */
	forms_destroy(s->forms);
	close_fd(s->reserve_fd);
	close_fd(s->signal_fd);
	close_fd(s->wake_fd);
	close_fd(s->epoll_fd);
	free(s->text);
	free(s->built);
	free(s->packet);
	free(s);
}
