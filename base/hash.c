/* SPDX-License-Identifier: MIT */
/* base/hash.c: see hash.h. Numbers are read in the machine's order, which is little-endian. */
#include "base/hash.h"

#include <string.h>

#define P1 0x9e3779b185ebca87u
#define P2 0xc2b2ae3d27d4eb4fu
#define P3 0x165667b19e3779f9u
#define P4 0x85ebca77c2b2ae63u
#define P5 0x27d4eb2f165667c5u

static uint64_t turned(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static uint64_t word(const uint8_t *at)
{
	uint64_t w;

	memcpy(&w, at, sizeof(w));
	return w;
}

static uint64_t mixed(uint64_t sum, uint64_t w)
{
	return turned(sum + w * P2, 31) * P1;
}

static uint64_t joined(uint64_t h, uint64_t sum)
{
	return (h ^ mixed(0, sum)) * P1 + P4;
}

/* The whole stripes of 32 bytes, four sums side by side. */
static uint64_t stripes(const uint8_t *at, size_t n, uint64_t seed)
{
	uint64_t s[4] = { seed + P1 + P2, seed + P2, seed, seed - P1 }, h;

	for (; n >= 32; n -= 32, at += 32)
		for (unsigned i = 0; i < 4; i++)
			s[i] = mixed(s[i], word(at + 8 * i));
	h = turned(s[0], 1) + turned(s[1], 7) + turned(s[2], 12) + turned(s[3], 18);
	for (unsigned i = 0; i < 4; i++)
		h = joined(h, s[i]);
	return h;
}

uint64_t hash64(const void *data, size_t n, uint64_t seed)
{
	const uint8_t *at = data;
	uint64_t h = n >= 32 ? stripes(at, n, seed) : seed + P5;
	size_t left = n % 32;
	uint32_t half;

	at += n - left;
	h += n;
	for (; left >= 8; left -= 8, at += 8)
		h = turned(h ^ mixed(0, word(at)), 27) * P1 + P4;
	if (left >= 4) {
		memcpy(&half, at, sizeof(half));
		h = turned(h ^ half * P1, 23) * P2 + P3;
		left -= 4;
		at += 4;
	}
	for (; left; left--, at++)
		h = turned(h ^ *at * P5, 11) * P1;
	h = (h ^ h >> 33) * P2;
	h = (h ^ h >> 29) * P3;
	return h ^ h >> 32;
}
