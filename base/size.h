/* SPDX-License-Identifier: MIT */
/*
 * base/size.h: sizes as people write them. K, M, G, T and KiB, MiB, GiB, TiB are all powers of
 * 1024. Pure functions, any thread.
 */
#ifndef SLUICE_BASE_SIZE_H
#define SLUICE_BASE_SIZE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * "8G", "1.5GiB", "4096", "512 MiB" -> bytes. Returns 0, -EINVAL (not a size, negative, trailing
 * text) or -ERANGE (does not fit 64 bits). *ret_bytes is set on success only.
 */
int size_parse(const char *text, uint64_t *ret_bytes);

/*
 * "12G", or "50%" of something: exactly one of *ret_bytes and *ret_percent (1..100) is then not 0.
 * 0, or -EINVAL and a sentence; they are set on success only.
 */
int size_parse_share(const char *text, uint64_t *ret_bytes, uint32_t *ret_percent, struct err *err);

/* "217.97 GiB"; writes at most @len bytes with the NUL and returns @buf. 32 bytes always fit. */
char *size_format(char *buf, size_t len, uint64_t bytes);

#endif
