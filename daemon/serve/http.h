/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http.h: the HTTP server beside the native socket, as main() sees it (docs/http.md).
 *
 * Sockets, limits and deadlines are ours, HTTP itself is libmicrohttpd's, what clients may ask is
 * session.c's as for every transport. Bodies are parsed, templates rendered and prompts tokenised on
 * a thread of its own (http_work.c), so that a large one holds up nobody. Main thread.
 */
#ifndef SLUICE_SERVE_HTTP_H
#define SLUICE_SERVE_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct serve;
struct http;

enum { HTTP_ADDRESSES = 8 };

struct http_addresses {
	unsigned n;
	const char *text[HTTP_ADDRESSES]; /* "unix:PATH", "HOST:PORT" or "systemd" */
};

enum { HTTP_REASONING_CONTENT, HTTP_REASONING, HTTP_REASONING_BOTH };

struct http_config {
	struct http_addresses addresses;
	const char *api_key_file;  /* NULL: no keys */
	const char *api_prefix;	   /* NULL or "/path" */
	const char *alias;	   /* NULL: the model file's name */
	const char *cors_origins;  /* NULL, or origins with commas; "*": every one */
	const char *allowed_hosts; /* NULL, or names with commas that Host may say */
	bool no_auth;		   /* addresses that others can reach, without keys */
	bool strip_images;	   /* image and audio parts become a note */
	uint32_t queue;		   /* requests that may wait for a sequence */
	uint32_t sse_ping_s, drain_s;
	uint32_t reasoning_field; /* HTTP_REASONING_... */
};

/*
 * Opens the addresses and joins the loop of @s, whose config must outlive it. 0, or -errno and a
 * sentence.
 */
int http_create(struct serve *s, const struct http_config *config, struct http **ret,
		struct err *err);

/*
 * Takes the numbers of @config that may change while we run (queue, sse_ping_s, drain_s) and reads the
 * file of keys again; where that fails the old keys stay: -errno and a sentence. Main thread.
 */
int http_reload(struct http *h, const struct http_config *config, struct err *err);

/* After engine_destroy() and before serve_destroy(): sends what is left, closes. NULL is fine. */
void http_destroy(struct http *h);

#endif
