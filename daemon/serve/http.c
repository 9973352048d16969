/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http.c: the HTTP server as a part of the loop.
 *
 * libmicrohttpd has no thread and no socket of its own here: we accept, its epoll descriptor is in
 * ours, and MHD_run() is called after each batch of events. Main thread.
 */
#include "serve/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "serve/http_private.h"

#define ROUNDS 8 /* of looking for more to do, before others get their turn */

/* The daemon stops: it waits for no form. */
static void cut_forms(struct http *h)
{
	for (struct http_request *r = h->requests; r; r = r->next)
		if (r->working)
			atomic_store_explicit(&r->working->cut, true, memory_order_relaxed);
}

static void on_connection(void *arg, struct MHD_Connection *c, void **slot,
			  enum MHD_ConnectionNotificationCode what)
{
	struct http *h = arg;
	struct peer *p = *slot, **link;

	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);

		for (p = h->peers; info && p && (p->fd != info->connect_fd || p->c); p = p->next)
			continue;
		*slot = p;
		if (p)
			p->c = c;
		return;
	}
	for (link = &h->peers; p && *link; link = &(*link)->next) {
		if (*link != p)
			continue;
		*link = p->next;
		h->n_peers--;
		if (p->request)
			p->request->peer = NULL;
		free(p);
		return;
	}
}

static void on_log(void *arg, const char *fmt, va_list args)
{
	char text[256];

	vsnprintf(text, sizeof(text), fmt, args);
	text[strcspn(text, "\r\n")] = '\0';
	log_line(LOG_DBG, "libmicrohttpd", "note=\"%s\"", text);
}

/* ---- in the loop ---- */

static void take_work(struct http *h)
{
	struct http_call *c = http_work_take(h), *next;

	for (; c; c = next) {
		struct http_request *r = c->owner;

		next = c->next;
		if (!r) {
			http_let_go(h, c);
			http_work_free(h, c);
			continue;
		}
		r->working = NULL;
		r->call = c;
		http_run_start(r);
		if (c->route->form == &responses_form) /* repeats fields in its answer */
			continue;
		http_let_go(h, c);
		http_work_free_json(h, c);
	}
}

/* Those for whom the worker had no time. */
static void expire_work(struct http *h)
{
	uint64_t now = now_ns();

	for (struct http_request *r = h->requests; r; r = r->next) {
		if (!r->working || now - r->working->since_ns < (uint64_t)HTTP_WORK_MS * 1000000u)
			continue;
		http_abandon(r);
		fault_set(&r->fault, 503, "reading the request took longer than %d s",
			  HTTP_WORK_MS / 1000);
		r->state = HTTP_READY;
		http_resume(r);
	}
}

static void pump(struct attachment *a)
{
	struct http *h = (struct http *)a;

	for (int i = 0; i < ROUNDS; i++) {
		h->resumed = false;
		MHD_run(h->mhd);
		take_work(h);
		http_slots_pump(h);
		for (struct http_request *r = h->requests; r; r = r->next)
			http_run_pump(r);
		if (!h->resumed)
			break;
	}
	http_peers_expire(h);
	expire_work(h);
}

static int sooner(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

static int timeout_ms(struct attachment *a)
{
	const struct http *h = (struct http *)a;
	MHD_UNSIGNED_LONG_LONG ms;
	int next = http_peers_timeout_ms(h);

	if (h->resumed)
		return 0;
	if (MHD_get_timeout(h->mhd, &ms) == MHD_YES)
		next = sooner(next, ms > 10000 ? 10000 : (int)ms);
	for (const struct http_request *r = h->requests; r; r = r->next)
		if (r->state == HTTP_WORK || r->state == HTTP_STREAM)
			next = sooner(next, 500); /* deadlines of the worker, pings */
	return next;
}

static void quiet(struct attachment *a)
{
	struct http *h = (struct http *)a;

	h->quiet = true;
	cut_forms(h);
	http_listen_close(h);
}

static bool busy(const struct attachment *a)
{
	const struct http *h = (const struct http *)a;

	for (const struct http_request *r = h->requests; r; r = r->next)
		if (r->state != HTTP_BODY)
			return true;
	return false;
}

static void mhd_event(struct source_fd *f, uint32_t events)
{
	/* pump() runs after every batch */
}

/* "%00" stays as it is: a path or a word that ended there would be another one. */
static size_t unescape(void *arg, struct MHD_Connection *c, char *s)
{
	return strstr(s, "%00") ? strlen(s) : MHD_http_unescape(s);
}

/* ---- create and destroy ---- */

static int start_library(struct http *h, struct err *err)
{
	const union MHD_DaemonInfo *info;
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &h->mhd_source };

	errno = 0;
	h->mhd = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
			MHD_USE_ERROR_LOG,
		0, NULL, NULL, http_request_access, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, h,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_MAX_PEERS + 128,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_POOL_BYTES,
		MHD_OPTION_NOTIFY_COMPLETED, http_request_completed, h,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_UNESCAPE_CALLBACK,
		unescape, h, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	if (!h->mhd)
		return err_set(err, -EIO, "libmicrohttpd does not start%s%s", errno ? ": " : "",
			       errno ? strerror(errno) : "");
	info = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	h->mhd_source = (struct source_fd){ SOURCE_OTHER, mhd_event };
	if (!info || epoll_ctl(h->serve->epoll_fd, EPOLL_CTL_ADD, info->epoll_fd, &ev))
		return err_set(err, -EIO, "libmicrohttpd has no epoll descriptor");
	return 0;
}

/* What clients see as the model's name: --alias, else the file's without its ending. */
static int name_model(struct http *h)
{
	const char *path = h->serve->config.model_path, *name = strrchr(path, '/');
	size_t n;

	if (h->config.alias)
		return (h->model = strdup(h->config.alias)) ? 0 : -ENOMEM;
	name = name ? name + 1 : path;
	n = strlen(name);
	if (n > 5 && !strcmp(name + n - 5, ".gguf"))
		n -= 5;
	h->model = strndup(name, n);
	return h->model ? 0 : -ENOMEM;
}

int http_create(struct serve *s, const struct http_config *config, struct http **ret,
		struct err *err)
{
	struct http *h = calloc(1, sizeof(*h));
	int rc;

	if (!h)
		return err_set(err, -ENOMEM, "out of memory");
	h->serve = s;
	h->config = *config;
	h->started = time(NULL);
	h->attachment = (struct attachment){ .pump = pump,
					     .timeout_ms = timeout_ms,
					     .quiet = quiet,
					     .busy = busy,
					     .adopt = http_adopt,
					     .drain_ms = config->drain_s * 1000 };
	sampling_defaults(s->config.model->gguf, &h->defaults);
	rc = name_model(h);
	if (!rc)
		rc = http_keys_load(h, err);
	if (!rc)
		rc = start_library(h, err);
	if (!rc)
		rc = http_work_start(h, err);
	if (!rc)
		rc = http_listen_open(h, err);
	if (rc) {
		http_destroy(h);
		return rc;
	}
	serve_attach(s, &h->attachment);
	*ret = h;
	return 0;
}

int http_reload(struct http *h, const struct http_config *config, struct err *err)
{
	h->config.queue = config->queue;
	h->config.sse_ping_s = config->sse_ping_s;
	h->config.drain_s = config->drain_s;
	h->attachment.drain_ms = config->drain_s * 1000;
	return http_keys_load(h, err);
}

void http_destroy(struct http *h)
{
	if (!h)
		return;
	http_listen_close(h);
	cut_forms(h);
	http_work_stop(h);
	if (h->mhd) {
		h->quiet = true;
		pump(&h->attachment); /* what the engine's end left for clients */
		for (struct http_request *r = h->requests; r; r = r->next)
			http_resume(r);
		MHD_run(h->mhd);
		MHD_stop_daemon(h->mhd);
	}
	serve_attach(h->serve, NULL);
	free(h->model);
	free(h);
}
