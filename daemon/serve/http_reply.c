/* SPDX-License-Identifier: MIT */
/* daemon/serve/http_reply.c: answers and refusals, with the headers that all of them carry. Main thread,
 * but for the functions on struct fault and struct buf, which have no state. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "serve/http_private.h"

#define PIECE 32768 /* of a long answer */

/* ---- faults ---- */

static const struct {
	int status;
	const char *openai, *anthropic;
} types[] = {
	{ 400, "invalid_request_error", "invalid_request_error" },
	{ 401, "authentication_error", "authentication_error" },
	{ 403, "permission_error", "permission_error" },
	{ 404, "not_found_error", "not_found_error" },
	{ 405, "invalid_request_error", "invalid_request_error" },
	{ 408, "timeout_error", "invalid_request_error" },
	{ 413, "invalid_request_error", "request_too_large" },
	{ 415, "invalid_request_error", "invalid_request_error" },
	{ 429, "rate_limit_error", "rate_limit_error" },
	{ 431, "invalid_request_error", "invalid_request_error" },
	{ 500, "server_error", "api_error" },
	{ 501, "not_supported_error", "invalid_request_error" },
	{ 503, "unavailable_error", "overloaded_error" },
};

static const char *type_of(int status, enum http_envelope envelope)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (types[i].status == status)
			return envelope == ENVELOPE_ANTHROPIC ? types[i].anthropic
							      : types[i].openai;
	return "server_error";
}

bool fault_set(struct fault *f, int status, const char *fmt, ...)
{
	va_list args;

	*f = (struct fault){ .status = status };
	va_start(args, fmt);
	vsnprintf(f->err.text, sizeof(f->err.text), fmt, args);
	va_end(args);
	return false;
}

bool fault_param(struct fault *f, const char *param, const char *fmt, ...)
{
	va_list args;

	*f = (struct fault){ .status = 400 };
	snprintf(f->param, sizeof(f->param), "%s", param);
	va_start(args, fmt);
	vsnprintf(f->err.text, sizeof(f->err.text), fmt, args);
	va_end(args);
	return false;
}

void fault_of_code(struct fault *f, int code, const char *sentence)
{
	int status = 400;

	switch (code) {
	case SLUICE_E_BUSY:
	case SLUICE_E_LIMIT:
		status = 429;
		break;
	case SLUICE_E_SHUTDOWN:
		status = 503;
		break;
	case SLUICE_E_NO_MEMORY:
	case SLUICE_E_INTERNAL:
	case SLUICE_E_IO:
		status = 500;
		break;
	default:
		break;
	}
	fault_set(f, status, "%s", sentence && *sentence ? sentence : ask_error_text(code));
}

void http_fault_body(struct buf *b, const struct fault *f, enum http_envelope envelope)
{
	const char *type = f->type ? f->type : type_of(f->status, envelope);

	if (envelope == ENVELOPE_ANTHROPIC) {
		buf_fmt(b, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":",
			type_of(f->status, envelope));
		buf_json_text(b, f->err.text);
		buf_text(b, "}}");
		return;
	}
	buf_text(b, "{\"error\":{\"message\":");
	buf_json_text(b, f->err.text);
	buf_fmt(b, ",\"type\":\"%s\",\"code\":", type);
	buf_json_text(b, f->code);
	buf_text(b, ",\"param\":");
	buf_json_text(b, f->param[0] ? f->param : NULL);
	if (f->n_ctx)
		buf_fmt(b, ",\"n_prompt_tokens\":%u,\"n_ctx\":%u", f->n_prompt_tokens, f->n_ctx);
	buf_text(b, "}}");
}

/* ---- responses ---- */

static void add(struct MHD_Response *m, const char *name, const char *value)
{
	MHD_add_response_header(m, name, value);
}

static enum MHD_Result send_off(struct http_request *r, int status, struct MHD_Response *m)
{
	enum MHD_Result ok;

	if (!m)
		return MHD_NO;
	add(m, "X-Request-Id", r->id);
	add(m, "X-Content-Type-Options", "nosniff");
	if (r->page) {
		add(m, "Content-Security-Policy",
		    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
		add(m, "Referrer-Policy", "no-referrer");
		add(m, "Cache-Control", "no-cache");
	}
	if (r->http->config.cors_origins)
		add(m, "Vary", "Origin");
	if (r->origin[0]) {
		add(m, "Access-Control-Allow-Origin", r->origin);
		add(m, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
	}
	if (r->close || r->http->quiet)
		add(m, "Connection", "close");
	ok = MHD_queue_response(r->c, (unsigned)status, m);
	MHD_destroy_response(m);
	r->state = HTTP_STREAM;
	return ok;
}

/* An answer that is sent piece by piece, so that who takes it slowly is told from who takes nothing. */
struct whole {
	struct http_request *r;
	struct buf body;
};

static ssize_t read_whole(void *arg, uint64_t at, char *data, size_t room)
{
	struct whole *w = arg;
	size_t n = at < w->body.n ? w->body.n - (size_t)at : 0;

	if (w->r->peer->vanished)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (!n)
		return MHD_CONTENT_READER_END_OF_STREAM;
	n = n < room ? n : room;
	memcpy(data, w->body.data + at, n);
	w->r->taken_ns = now_ns();
	return (ssize_t)n;
}

static void free_whole(void *arg)
{
	struct whole *w = arg;

	buf_done(&w->body);
	free(w);
}

/* Takes @body over. NULL: no memory. */
static struct MHD_Response *response_of(struct http_request *r, struct buf *body)
{
	struct whole *w = body->n > PIECE ? malloc(sizeof(*w)) : NULL;
	struct MHD_Response *m;

	if (w) {
		*w = (struct whole){ r, *body };
		*body = (struct buf){ 0 };
		m = MHD_create_response_from_callback(w->body.n, PIECE, read_whole, w, free_whole);
		if (!m)
			free_whole(w);
		return m;
	}
	m = MHD_create_response_from_buffer(body->n, body->data, MHD_RESPMEM_MUST_COPY);
	buf_done(body);
	return m;
}

static enum MHD_Result send_text(struct http_request *r, int status, const char *type,
				 struct buf *body, const struct fault *f)
{
	struct MHD_Response *m;

	if (body->failed) {
		buf_done(body);
		buf_text(body,
			 "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\","
			 "\"code\":null,\"param\":null}}");
		status = 500;
	}
	m = response_of(r, body);
	if (!m)
		return MHD_NO;
	add(m, "Content-Type", type);
	if (f && (f->status == 429 || f->status == 503))
		add(m, "Retry-After", f->status == 429 ? "2" : "1");
	if (f && f->status == 401)
		add(m, "WWW-Authenticate", "Bearer");
	if (f && f->status == 405)
		add(m, "Allow", f->allow);
	if (strstr(type, "json"))
		add(m, "Cache-Control", "no-store");
	return send_off(r, status, m);
}

enum MHD_Result http_reply(struct http_request *r, int status, const char *type, struct buf *body)
{
	return send_text(r, status, type, body, NULL);
}

enum MHD_Result http_reply_json(struct http_request *r, struct buf *body)
{
	return http_reply(r, 200, "application/json; charset=utf-8", body);
}

enum MHD_Result http_reply_fault(struct http_request *r, const struct fault *f)
{
	struct buf b = { 0 };

	http_fault_body(&b, f, r->route ? r->route->envelope : ENVELOPE_OPENAI);
	r->http->n_refused++;
	return send_text(r, f->status, "application/json; charset=utf-8", &b, f);
}

enum MHD_Result http_reply_stream(struct http_request *r, MHD_ContentReaderCallback read)
{
	struct MHD_Response *m =
		MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read, r, NULL);

	if (!m)
		return MHD_NO;
	add(m, "Content-Type", "text/event-stream; charset=utf-8");
	add(m, "Cache-Control", "no-cache");
	add(m, "X-Accel-Buffering", "no");
	return send_off(r, 200, m);
}

/* Whatever a page of an allowed origin wants to send: SDKs have headers of their own (x-stainless-...). */
static void allow_headers(struct http_request *r, struct MHD_Response *m)
{
	const char *asked = MHD_lookup_connection_value(r->c, MHD_HEADER_KIND,
							"Access-Control-Request-Headers");

	add(m, "Access-Control-Allow-Headers",
	    asked ? asked : "Authorization, Content-Type, X-Api-Key, X-Request-Id");
}

enum MHD_Result http_reply_options(struct http_request *r)
{
	struct MHD_Response *m = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);

	if (!m)
		return MHD_NO;
	add(m, "Allow", "GET, HEAD, POST, OPTIONS");
	if (r->origin[0]) {
		add(m, "Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
		allow_headers(r, m);
		add(m, "Access-Control-Max-Age", "600");
	}
	return send_off(r, 204, m);
}
