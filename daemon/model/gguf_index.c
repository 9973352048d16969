/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/gguf_index.c: text of an untrusted file: is it UTF-8, how is it shown in a message,
 * and where in a list is a name.
 *
 * The index is an open-addressed table hashed with SipHash-2-4 under a random key: with a fixed
 * hash a file could hold a million names that fall on one slot and make opening quadratic.
 * Used by the GGUF reader only. Built once, then constant, any thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/num.h"
#include "base/utf8.h"
#include "model/gguf_impl.h"

static inline uint64_t rotl(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_round(v);
	sip_round(v);
	v[0] ^= word;
}

static uint64_t sip_hash(const uint64_t key[2], const char *data, size_t len)
{
	uint64_t v[4] = { key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
			  key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573 };
	uint64_t word;
	size_t i;

	for (i = 0; i + 8 <= len; i += 8) {
		memcpy(&word, data + i, 8);
		sip_word(v, word);
	}
	word = 0;
	memcpy(&word, data + i, len - i);
	sip_word(v, word | (uint64_t)len << 56);
	v[2] ^= 0xff;
	for (i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static const char *name_at(const struct gguf_index *index, uint64_t i)
{
	const char *name;

	memcpy(&name, index->base + i * index->stride, sizeof(name));
	return name;
}

/* The slot of @name, or the free one where it would go. */
static uint64_t slot_of(const struct gguf_index *index, const char *name)
{
	uint64_t at = sip_hash(index->key, name, strlen(name)) & index->mask;

	while (index->slots[at] && strcmp(name_at(index, index->slots[at] - 1), name))
		at = (at + 1) & index->mask;
	return at;
}

int gguf_index_build(struct gguf_index *index, const void *base, size_t stride, uint64_t n,
		     uint64_t *ret_twice)
{
	uint64_t size = 16;

	while (size < 2 * n)
		size *= 2;
	if (n >= UINT32_MAX)
		return -ENOMEM;
	/* Too early in boot for random bits: the index is slower to defend, not wrong. */
	if (getrandom(index->key, sizeof(index->key), GRND_NONBLOCK) < 0)
		index->key[0] = index->key[1] = (uint64_t)(uintptr_t)index;
	index->slots = calloc(size, sizeof(*index->slots));
	if (!index->slots)
		return -ENOMEM;
	index->mask = size - 1;
	index->base = base;
	index->stride = stride;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = slot_of(index, name_at(index, i));

		if (index->slots[at]) {
			if (ret_twice)
				*ret_twice = i;
			return -EEXIST;
		}
		index->slots[at] = (uint32_t)i + 1;
	}
	return 0;
}

void gguf_index_fini(struct gguf_index *index)
{
	free(index->slots);
	index->slots = NULL;
}

uint64_t gguf_index_find(const struct gguf_index *index, const char *name)
{
	uint32_t slot = index->slots[slot_of(index, name)];

	return slot ? slot - 1 : UINT64_MAX;
}

/* Bytes of the UTF-8 character at @p (at most @len bytes), 0 where it is none. */
static unsigned utf8_bytes(const uint8_t *p, uint64_t len)
{
	uint32_t cp;

	return utf8_decode(p, len, &cp);
}

bool gguf_utf8_ok(const void *data, uint64_t len)
{
	const uint8_t *p = data;
	unsigned n;

	for (; len; p += n, len -= n) {
		n = utf8_bytes(p, len);
		if (!n)
			return false;
	}
	return true;
}

uint64_t gguf_printable(char *buf, size_t size, const void *data, uint64_t len)
{
	const uint8_t *p = data, *end = p + len;
	size_t used = 0;

	while (p < end) {
		unsigned n = utf8_bytes(p, (uint64_t)(end - p));
		/* control characters, 0x80-0x9f too, and bytes that are no character */
		bool hidden = n == 0 || (n == 1 && (*p < 32 || *p == 127)) ||
			      (n == 2 && *p == 0xc2 && p[1] < 0xa0);
		unsigned more = hidden ? 1 : n;

		if (used + more >= size)
			break;
		if (hidden)
			buf[used] = '?';
		else
			memcpy(buf + used, p, n);
		used += more;
		p += n ? n : 1;
	}
	buf[used] = '\0';
	return len - (uint64_t)(end - p);
}

char *gguf_quote(char buf[64], const void *data, uint64_t len)
{
	if (gguf_printable(buf, 61, data, len) < len)
		strcpy(buf + strlen(buf), "...");
	return buf;
}
