/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/payload.h: payloads in memfds, both ways.
 *
 * What a client hands over is checked to be a memfd that nobody can change or shrink any more, of
 * exactly the size announced, and is copied out with pread(): never mapped, so no SIGBUS.
 */
#ifndef SLUICE_SERVE_PAYLOAD_H
#define SLUICE_SERVE_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Copies @bytes out of @fd (which stays the caller's). Returns 0 and a malloc'd buffer with one NUL
 * behind it, or an enum sluice_error_code and a sentence.
 */
int payload_read(int fd, uint64_t bytes, uint8_t **ret, struct err *err);

/* A memfd with these bytes, sealed. The descriptor, or -errno. */
int payload_make(const void *data, uint64_t bytes);

/* The two halves of payload_make() for data that comes in pieces. */
int payload_open(void);
int payload_append(int fd, const void *data, size_t bytes);
int payload_seal(int fd);

#endif
