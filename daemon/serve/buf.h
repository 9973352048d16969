/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/buf.h: a text that grows, and JSON written into it. Out of memory sets @failed and
 * drops what comes later, so that a row of writes is checked once. Owned by whoever declares it,
 * zero at first; any one thread.
 */
#ifndef SLUICE_SERVE_BUF_H
#define SLUICE_SERVE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *data; /* NUL-terminated behind its n bytes where n > 0 */
	size_t n, room;
	bool failed;
};

void buf_done(struct buf *b); /* frees and clears */
void buf_put(struct buf *b, const void *data, size_t n);
void buf_text(struct buf *b, const char *text);
void buf_fmt(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string in quotes. Bytes that are not UTF-8 become U+FFFD. */
void buf_json(struct buf *b, const char *text, size_t n);
void buf_json_text(struct buf *b, const char *text); /* NULL: null */

#endif
