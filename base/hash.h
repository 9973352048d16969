/* SPDX-License-Identifier: MIT */
/*
 * base/hash.h: a checksum of bytes: XXH64, after its specification
 * (github.com/Cyan4973/xxHash, doc/xxhash_spec.md). Finds what a disk or a copy spoilt, and tells
 * files apart; it keeps out nobody who wants to deceive. Any thread.
 */
#ifndef SLUICE_BASE_HASH_H
#define SLUICE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Of @n bytes. Pieces of a whole are chained: the hash of one is the @seed of the next. */
uint64_t hash64(const void *data, size_t n, uint64_t seed);

#endif
