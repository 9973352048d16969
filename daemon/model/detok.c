/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/detok.c: ids to text while they come, whole UTF-8 characters only.
 *
 * Tokens end anywhere, also inside a character; what is incomplete waits in the struct. Bytes that
 * can be no character become U+FFFD, one for each longest valid beginning, as browsers do it, so
 * what comes out is always valid UTF-8, cut only between characters. No allocation; the caller
 * owns the struct and is its only thread.
 */
#include <errno.h>
#include <string.h>

#include "base/utf8.h"
#include "model/tokenizer_impl.h"

#define REPLACEMENT	  "\xef\xbf\xbd" /* U+FFFD */
#define REPLACEMENT_BYTES 3

struct sink {
	char *buf;
	size_t n, cap;
};

static bool put(struct sink *out, const void *bytes, size_t n)
{
	if (n > out->cap - out->n)
		return false;
	memcpy(out->buf + out->n, bytes, n);
	out->n += n;
	return true;
}

/* One more byte. False: no room. */
static bool feed(struct detok *d, uint8_t byte, struct sink *out)
{
	if (d->n_tail && !utf8_continues(d->tail[0], d->n_tail, byte)) {
		d->n_tail = 0;
		if (!put(out, REPLACEMENT, REPLACEMENT_BYTES))
			return false;
	}
	if (!d->n_tail && !utf8_length(byte))
		return put(out, REPLACEMENT, REPLACEMENT_BYTES);
	d->tail[d->n_tail++] = byte;
	if (d->n_tail < utf8_length(d->tail[0]))
		return true;
	if (!put(out, d->tail, d->n_tail))
		return false;
	d->n_tail = 0;
	return true;
}

void detok_init(struct detok *d, const struct tokenizer *t, bool special)
{
	*d = (struct detok){ .t = t, .special = special };
}

ssize_t detok_push(struct detok *d, uint32_t id, char *buf, size_t len)
{
	struct detok next = *d; /* kept only if everything fits */
	struct sink out = { buf, 0, len };
	const char *bytes;
	size_t n = tokenizer_piece(d->t, id, d->special, &bytes);

	for (size_t i = 0; i < n; i++)
		if (!feed(&next, (uint8_t)bytes[i], &out))
			return -ENOSPC;
	*d = next;
	return (ssize_t)out.n;
}

ssize_t detok_flush(struct detok *d, char *buf, size_t len)
{
	struct sink out = { buf, 0, len };

	if (d->n_tail && !put(&out, REPLACEMENT, REPLACEMENT_BYTES))
		return -ENOSPC;
	d->n_tail = 0;
	return (ssize_t)out.n;
}

size_t detok_bound(const struct tokenizer *t)
{
	/* every byte may turn out invalid, and so may the character that waited */
	return REPLACEMENT_BYTES * ((size_t)t->longest + 1);
}
