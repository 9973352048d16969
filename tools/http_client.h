/* SPDX-License-Identifier: MIT */
/*
 * tools/http_client.h: HTTP to the daemon, for verbs whose question the native protocol has no message
 * for. By default over the native socket, which hands out connections for it (sluice_open_http()), so
 * that these verbs find the daemon as all others do; else over TCP or a Unix socket (--http). No TLS: a
 * reverse proxy's work. Sockets do not block; the caller polls. One thread.
 */
#ifndef SLUICE_TOOLS_HTTP_CLIENT_H
#define SLUICE_TOOLS_HTTP_CLIENT_H

#include "tools/client.h"
#include "tools/http_reply.h"

/* Options that these verbs share; embedded in their args as "http". */
struct http_args {
	const char *address;  /* NULL: over the native socket */
	const char *key_file; /* NULL: SLUICE_API_KEY, else none */
};

#define HTTP_OPTIONS(type)                                                                      \
	{ "--http",                                                                             \
	  NULL,                                                                                 \
	  OPT_TEXT,                                                                             \
	  offsetof(type, http.address),                                                         \
	  "URL|unix:PATH",                                                                      \
	  .excludes = "--socket",                                                               \
	  .help = "Ask there instead of over the native socket: http://HOST:PORT, with a path " \
		  "where the daemon has --api-prefix." },                                       \
	{                                                                                       \
		"--api-key-file", NULL, OPT_TEXT, offsetof(type, http.key_file), "FILE",        \
			.help = "Its first line is the key; else that of SLUICE_API_KEY. The "  \
				"native socket needs none."                                     \
	}

/* Where to ask, and as whom. */
struct http_target {
	enum { HTTP_NATIVE, HTTP_UNIX, HTTP_TCP } kind;
	struct sluice *native;
	char host[256], port[8]; /* TCP */
	char prefix[256];	 /* "", "/path" */
	char path[108];		 /* of a Unix socket */
	char key[256];		 /* empty: none */
	char name[512];		 /* for messages */
};

/* Reads "http://host:port/prefix" or "unix:PATH": 0, or -EINVAL and a sentence. */
int http_target_parse(const char *text, struct http_target *ret, struct err *err);

/*
 * Where @args say, connected and ready to answer: waits as client_open() and client_ready() do. 0, or
 * the exit status after a sentence. Closed by http_target_close().
 */
int http_target_open(const char *verb, const struct client_args *client,
		     const struct http_args *args, struct http_target *ret);
void http_target_close(struct http_target *t);

/* The same again, for a daemon that went: waits for the next one. Connections must be closed. */
int http_target_wait(const char *verb, const struct client_args *client, struct http_target *t);

/* A connection, and the one request that is open on it. Zero but for fd -1 at first. */
struct http_conn {
	const struct http_target *target;
	int fd;
	bool used; /* had an answer: it may have ended meanwhile */
	struct bytes out;
	size_t sent;
	struct http_reply reply;
};

void http_conn_init(struct http_conn *c, const struct http_target *t);
void http_conn_close(struct http_conn *c); /* ends its request, too; it can be used again */
void http_conn_done(struct http_conn *c);  /* and frees it */

/* Begins a request with a JSON body (@body NULL: GET). 0, or -errno and a sentence. */
int http_conn_ask(struct http_conn *c, const char *path, const char *body, size_t n,
		  struct err *err);

/* What to poll c->fd for. */
short http_conn_events(const struct http_conn *c);

/*
 * Sends and receives what can be now. 1: c->reply is whole; 0: not yet; -errno and a sentence: the
 * connection is closed.
 */
int http_conn_step(struct http_conn *c, struct err *err);

/* Asks and waits for the whole answer. 0, -EINTR after Ctrl-C, or -errno and a sentence. */
int http_conn_get(struct http_conn *c, const char *path, const char *body, size_t n,
		  struct err *err);

/* The sentence of an answer that is no 200, fit to be shown: error.message of its JSON, else its status. */
void http_reply_error(const struct http_reply *r, struct err *err);

#endif
