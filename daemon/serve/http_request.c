/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_request.c: a request from its first header to its end, as libmicrohttpd calls for it: its
 * route, its body, and whose turn it is then. One that waits, for the worker or for the engine, is suspended;
 * whoever has something for it resumes it. Main thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "serve/http_private.h"

void http_resume(struct http_request *r)
{
	if (!r->suspended)
		return;
	r->suspended = false;
	r->taken_ns = now_ns();
	r->http->resumed = true;
	MHD_resume_connection(r->c);
}

static void suspend(struct http_request *r)
{
	r->suspended = true;
	MHD_suspend_connection(r->c);
}

/* @prefix and 24 letters that nobody guesses. */
void http_request_name(struct http_request *r, const char *prefix)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEF";
	uint8_t random[24];
	size_t n = strlen(prefix);

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		memset(random, 0, sizeof(random));
	snprintf(r->name, sizeof(r->name), "%s", prefix);
	for (size_t i = 0; i < sizeof(random) && n + i + 1 < sizeof(r->name); i++) {
		r->name[n + i] = letters[random[i] % 32];
		r->name[n + i + 1] = '\0';
	}
}

/* The client's own, if it is one, else a new one. */
static void choose_id(struct http_request *r)
{
	const char *id = MHD_lookup_connection_value(r->c, MHD_HEADER_KIND, "X-Request-Id");
	static const char good[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

	if (id && *id && strlen(id) < sizeof(r->id) && strspn(id, good) == strlen(id)) {
		snprintf(r->id, sizeof(r->id), "%s", id);
		return;
	}
	http_request_name(r, "req-");
	snprintf(r->id, sizeof(r->id), "%s", r->name);
}

/* Where the path begins: what is asked of a proxy, "http://host/path", is said whole (RFC 9112, 3.2.2). */
static const char *path_of(const char *url)
{
	size_t scheme = !strncasecmp(url, "http://", 7)	   ? 7
			: !strncasecmp(url, "https://", 8) ? 8
							   : 0;
	const char *path = strchr(url + scheme, '/');

	return !scheme ? url : path ? path : "/";
}

static void find_route(struct http_request *r, const char *url, const char *method)
{
	const char *prefix = r->peer->owner ? NULL : r->http->config.api_prefix, *allow = NULL;
	size_t n = prefix ? strlen(prefix) : 0;

	url = path_of(url);
	if (!strcmp(method, "HEAD")) {
		r->head = true;
		method = "GET";
	}
	if (!n || (!strncmp(url, prefix, n) && url[n] == '/'))
		r->route = http_route_find(method, url + n, &allow);
	if (r->route && r->route->bare)
		http_slots_path(url + n, &r->slot);
	if (r->route && r->route->named)
		info_model_is(r->http, url + n + strlen(r->route->path), &r->fault);
	if (r->route || !strcmp(method, "OPTIONS"))
		return;
	if (allow) {
		fault_set(&r->fault, 405, "%.20s is not how this path is asked: use %s", method,
			  allow);
		r->fault.allow = allow;
		return;
	}
	fault_set(&r->fault, 404, "there is no %.20s %.200s here (docs/http.md lists the paths)",
		  method, url);
}

static struct http_request *create(struct http *h, struct MHD_Connection *c, const char *url,
				   const char *method)
{
	struct http_request *r = calloc(1, sizeof(*r));
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct fault unknown;

	if (!r || !info || !info->socket_context) {
		free(r);
		return NULL;
	}
	r->http = h;
	r->c = c;
	r->peer = info->socket_context;
	r->peer->request = r;
	r->since_ns = r->put_ns = r->taken_ns = now_ns();
	r->created = time(NULL);
	r->next = h->requests;
	h->requests = r;
	h->n_requests++;
	session_init(&r->session, h->serve);
	choose_id(r);
	find_route(r, url, method);
	unknown = r->fault;
	r->fault.status = 0;
	if (http_guard(r, method) && unknown.status)
		r->fault = unknown;
	if (!r->fault.status && unknown.status)
		r->fault = unknown;
	if (!r->fault.status && h->quiet)
		fault_set(&r->fault, 503, "the daemon is stopping");
	return r;
}

void http_let_go(struct http *h, struct http_call *c)
{
	if (!c)
		return;
	h->body_bytes -= c->held;
	c->held = 0;
}

void http_abandon(struct http_request *r)
{
	atomic_store_explicit(&r->working->unwanted, true, memory_order_relaxed);
	atomic_store_explicit(&r->working->cut, true, memory_order_relaxed);
	r->working->owner = NULL;
	r->working = NULL;
}

void http_request_completed(void *arg, struct MHD_Connection *c, void **slot,
			    enum MHD_RequestTerminationCode why)
{
	struct http_request *r = *slot, **link;
	struct http *h = arg;

	if (!r)
		return;
	*slot = NULL;
	for (link = &h->requests; *link != r; link = &(*link)->next)
		continue;
	*link = r->next;
	if (r->peer) {
		r->peer->request = NULL;
		r->peer->since_ns = now_ns();
		r->peer->served = true;
	}
	log_line(LOG_DBG, "http request", "id=%s path=%s ms=%.1f", r->id,
		 r->route ? r->route->path : "none", (double)(now_ns() - r->since_ns) / 1e6);
	session_end(&r->session);
	http_slots_leave(r);
	if (r->working)
		http_abandon(r);
	http_run_end(r);
	http_let_go(h, r->call);
	http_work_free(h, r->call);
	h->body_bytes -= r->body.n;
	buf_done(&r->body);
	buf_done(&r->out);
	free(r);
}

/* ---- what the library calls ---- */

/* More came than may: the library lets nobody answer in the middle of a body. */
static enum MHD_Result cut_off(struct http_request *r, const struct fault *f, const char *phrase)
{
	struct buf b = { 0 }, all = { 0 };

	http_fault_body(&b, f, r->route ? r->route->envelope : ENVELOPE_OPENAI);
	buf_fmt(&all,
		"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"
		"Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
		f->status, phrase, b.n, b.data ? b.data : "");
	if (!all.failed && send(r->peer->fd, all.data, all.n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		r->close = true;
	buf_done(&b);
	buf_done(&all);
	return MHD_NO;
}

/*
 * Small bodies of what is refused are read, so that the client gets to read why. One that waits to be
 * asked for its body is told at once.
 */
static bool worth_reading(const struct http_request *r)
{
	const char *expect = MHD_lookup_connection_value(r->c, MHD_HEADER_KIND, "Expect");

	return !r->close && r->drop >= 0 && r->drop <= 256 << 10 &&
	       (!expect || strcasecmp(expect, "100-continue") != 0);
}

static enum MHD_Result on_headers(struct http_request *r)
{
	if (r->fault.status && !worth_reading(r)) {
		r->close = true;
		return http_reply_fault(r, &r->fault);
	}
	return MHD_YES;
}

/*
 * Bodies of all clients together are bounded: the largest that is still being received goes, so that
 * those who send much keep nobody out. False: that is @r's own.
 */
static bool make_body_room(struct http_request *r, size_t bytes)
{
	struct http *h = r->http;

	while (h->body_bytes + bytes > HTTP_ALL_BODIES) {
		struct http_request *largest = r;

		for (struct http_request *q = h->requests; q; q = q->next)
			if (q->state == HTTP_BODY && q->body.n > largest->body.n)
				largest = q;
		if (largest == r)
			return false;
		h->body_bytes -= largest->body.n;
		buf_done(&largest->body);
		http_peer_drop(largest->peer);
	}
	return true;
}

static enum MHD_Result take_body(struct http_request *r, const char *data, size_t *n)
{
	size_t bytes = *n;
	struct fault f;

	*n = 0;
	if (r->peer->vanished)
		return MHD_NO;
	if (r->fault.status)
		return MHD_YES;
	if (r->body.n + bytes > HTTP_MAX_BODY) {
		fault_set(&f, 413, "the body may have %d MiB", HTTP_MAX_BODY >> 20);
		return cut_off(r, &f, "Content Too Large");
	}
	if (!make_body_room(r, bytes)) {
		fault_set(&f, 503, "too many large requests at once: try again later");
		return cut_off(r, &f, "Service Unavailable");
	}
	buf_put(&r->body, data, bytes);
	if (r->body.failed)
		return MHD_NO;
	r->http->body_bytes += bytes;
	return MHD_YES;
}

/* The body is whole. */
static enum MHD_Result begin(struct http_request *r)
{
	struct http_call *call;

	if (r->fault.status)
		return http_reply_fault(r, &r->fault);
	if (!r->route)
		return http_reply_options(r);
	if (r->route->answer) {
		r->route->answer(r);
		return r->state == HTTP_STREAM ? MHD_YES : MHD_NO;
	}
	call = calloc(1, sizeof(*call));
	if (!call)
		return MHD_NO;
	call->owner = r;
	call->http = r->http;
	call->route = r->route;
	call->tenant = r->tenant;
	if (r->route->bare)
		http_slots_ask(r, call);
	call->since_ns = now_ns();
	call->body = r->body;
	call->held = r->body.n;
	r->body = (struct buf){ 0 };
	r->working = call;
	r->state = HTTP_WORK;
	suspend(r);
	http_work_put(r->http, call);
	return MHD_YES;
}

enum MHD_Result http_request_access(void *arg, struct MHD_Connection *c, const char *url,
				    const char *method, const char *version, const char *data,
				    size_t *n, void **slot)
{
	struct http_request *r = *slot;

	if (!r) {
		*slot = r = create(arg, c, url, method);
		return r ? on_headers(r) : MHD_NO;
	}
	if (*n)
		return take_body(r, data, n);
	if (r->peer->vanished)
		return MHD_NO;
	if (r->state == HTTP_BODY)
		return begin(r);
	if (r->state == HTTP_READY)
		return http_run_answer(r);
	return MHD_YES; /* nothing yet */
}
