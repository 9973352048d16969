/* SPDX-License-Identifier: MIT */
/*
 * tools/http_reply.h: an HTTP/1.1 answer (RFC 9112) out of bytes as they come: status, the headers that
 * verbs look at, and the body with its chunks joined. Untrusted: sizes are bounded, what is no answer is
 * a sentence. Pure; one thread.
 */
#ifndef SLUICE_TOOLS_HTTP_REPLY_H
#define SLUICE_TOOLS_HTTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define HTTP_REPLY_HEAD_MAX (64u << 10)
#define HTTP_REPLY_BODY_MAX (256u << 20)

/* Bytes that grow; zero at first. */
struct bytes {
	char *data; /* a NUL behind its n bytes; NULL before the first */
	size_t n, room;
};

int bytes_put(struct bytes *b, const void *data, size_t n); /* 0 or -ENOMEM */
void bytes_drop(struct bytes *b, size_t n);		    /* the first @n of them */
void bytes_done(struct bytes *b);			    /* frees and clears */

struct http_reply {
	/* what came */
	unsigned status;
	char request_id[80];	/* X-Request-Id; empty: none */
	unsigned retry_after_s; /* 0: not said */
	bool closes;		/* no other request on this connection */
	bool is_stream;		/* text/event-stream */
	struct bytes body;	/* the reader of a stream drops what it has seen */
	bool any, whole;	/* a byte of it came; all of it did */
	/* the parser's own */
	enum { REPLY_HEAD, REPLY_LENGTH, REPLY_CHUNK, REPLY_DATA, REPLY_CRLF, REPLY_TRAILER } at;
	struct bytes line; /* the head, or a line between chunks, as far as it came */
	uint64_t left;	   /* bytes of the body or the chunk */
	uint64_t total;	   /* bytes of the body so far */
};

/* Makes @r ready for the next answer, keeping memory. */
void http_reply_begin(struct http_reply *r);
void http_reply_done(struct http_reply *r);

/*
 * Takes @n bytes; *ret_used of them belong to this answer (fewer only where r->whole). 0, or -EPROTO,
 * -EFBIG, -ENOMEM and a sentence.
 */
int http_reply_feed(struct http_reply *r, const char *data, size_t n, size_t *ret_used,
		    struct err *err);

/* The connection's end: 0 where the answer is whole by it, else -EPIPE and a sentence. */
int http_reply_eof(struct http_reply *r, struct err *err);

#endif
