/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/tokenizer_special.c: finding control and user-defined tokens in text.
 *
 * The rule is the reference's: the longest token first, everywhere in the text, then the next
 * shorter one in what is left. Here the text is walked once: at each byte that begins some token
 * the longest match is looked up in the sorted list; only where matches overlap is the rule of
 * lengths worked out. The length of a token is bounded (SPECIAL_MAX_BYTES), so time is linear in
 * the text whatever the vocabulary says. Stripping of white space beside a token (LSTRIP, RSTRIP)
 * does not exist here: GGUF has no field for it. Called by tokenizer.c. Any thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_impl.h"

static int compare_special(const void *a, const void *b)
{
	const struct special *x = a, *y = b;
	int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);

	if (order)
		return order;
	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static bool same_text(const struct special *a, const struct special *b)
{
	return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

/* Of equal texts keeps the last control and the last user-defined token, in order of id. */
static uint32_t drop_duplicates(struct special *v, uint32_t n)
{
	uint32_t kept = 0, end;

	for (uint32_t i = 0; i < n; i = end) {
		uint32_t last[2] = { NO_ID, NO_ID };

		for (end = i; end < n && same_text(&v[i], &v[end]); end++)
			last[v[end].control] = end;
		for (uint32_t k = i; k < end; k++)
			if (k == last[0] || k == last[1])
				v[kept++] = v[k];
	}
	return kept;
}

void specials_index(struct specials *s)
{
	uint32_t at = 0;

	if (s->n)
		qsort(s->v, s->n, sizeof(s->v[0]), compare_special);
	s->n = drop_duplicates(s->v, s->n);
	for (unsigned b = 0; b < 256; b++) {
		s->first[b] = at;
		while (at < s->n && (uint8_t)s->v[at].text[0] == b) {
			s->starts[1][b] = true;
			s->starts[0][b] |= !s->v[at].control;
			at++;
		}
	}
	s->first[256] = at;
}

/* In v[lo..hi), sorted and alike in their first @d bytes: the first whose byte d is >= @byte. */
static uint32_t lower_bound(const struct special *v, uint32_t lo, uint32_t hi, uint32_t d,
			    unsigned byte)
{
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if ((uint8_t)v[mid].text[d] < byte)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const struct special *specials_match(const struct specials *s, const char *text, size_t len,
				     size_t control)
{
	const struct special *v = s->v, *best = NULL;
	uint32_t lo, hi, d = 1;

	if (!len || !s->n)
		return NULL;
	lo = s->first[(uint8_t)text[0]];
	hi = s->first[(uint8_t)text[0] + 1];
	for (;; d++) {
		unsigned byte;

		for (; lo < hi && v[lo].len == d; lo++)
			if (d <= control || !v[lo].control)
				best = &v[lo];
		if (lo == hi || d == len)
			return best;
		byte = (uint8_t)text[d];
		lo = lower_bound(v, lo, hi, d, byte);
		if (byte < 255)
			hi = lower_bound(v, lo, hi, d, byte + 1);
	}
}

struct hit_list {
	struct special_hit *v;
	size_t n, cap;
};

static int append(struct hit_list *hits, uint32_t pos, const struct special *found)
{
	if (hits->n == hits->cap) {
		size_t cap = hits->cap ? 2 * hits->cap : 64;
		struct special_hit *v = realloc(hits->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		hits->v = v;
		hits->cap = cap;
	}
	hits->v[hits->n++] = (struct special_hit){ pos, found->len, found->id };
	return 0;
}

struct overlap {
	const struct specials *s;
	const char *text;
	const struct text_span *trusted; /* where control tokens may lie */
	size_t n_trusted;
	uint32_t base;	/* position of taken[0] */
	uint8_t *taken; /* per byte of the cluster: belongs to an accepted token */
};

/* How many bytes from @pos on may belong to a control token. */
static size_t control_bytes(const struct overlap *o, size_t pos)
{
	size_t lo = 0, hi = o->n_trusted;

	while (lo < hi) { /* the first span that ends behind @pos */
		size_t mid = lo + (hi - lo) / 2;

		if (o->trusted[mid].end <= pos)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == o->n_trusted || o->trusted[lo].begin > pos)
		return 0;
	return o->trusted[lo].end - pos;
}

/* The next shorter match that ends before the taken byte after @h->pos. False: there is none. */
static bool shorten(const struct overlap *o, struct special_hit *h)
{
	const uint8_t *from = o->taken + (h->pos - o->base);
	const uint8_t *taken = memchr(from, 1, h->len);
	const struct special *found = specials_match(o->s, o->text + h->pos, (size_t)(taken - from),
						     control_bytes(o, h->pos));

	if (!found)
		return false;
	h->len = found->len;
	h->id = found->id;
	return true;
}

static int compare_pos(const void *a, const void *b)
{
	const struct special_hit *x = a, *y = b;

	return x->pos < y->pos ? -1 : x->pos > y->pos;
}

/*
 * @v[0..n): matches that overlap, in order of position, with @span bytes from the first to the end
 * of the last. Length by length, longest first, those that still fit are accepted: a match whose
 * first byte is taken is gone, one whose end is taken gets its next shorter form. (What is taken
 * already is at least as long, so it covers the last byte if it covers any but the first.)
 * Leaves the accepted ones in front and returns their number, or -ENOMEM.
 */
static ssize_t resolve(struct overlap *o, struct special_hit *v, size_t n, size_t span)
{
	struct special_hit *open = malloc(n * sizeof(*open));
	size_t accepted = 0, n_open = n;
	uint32_t longest = 0;

	o->taken = calloc(span, 1);
	if (!o->taken || !open) {
		free(o->taken);
		free(open);
		return -ENOMEM;
	}
	o->base = v[0].pos;
	memcpy(open, v, n * sizeof(*open));
	for (size_t i = 0; i < n; i++)
		longest = v[i].len > longest ? v[i].len : longest;
	while (n_open) {
		uint32_t length = longest;
		size_t kept = 0;

		longest = 0;
		for (size_t i = 0; i < n_open; i++) {
			struct special_hit h = open[i];
			uint8_t *taken = o->taken + (h.pos - o->base);

			if (*taken)
				continue;
			if (h.len == length && !taken[h.len - 1]) {
				memset(taken, 1, h.len);
				v[accepted++] = h;
				continue;
			}
			if (h.len == length && !shorten(o, &h))
				continue;
			longest = h.len > longest ? h.len : longest;
			open[kept++] = h;
		}
		n_open = kept;
	}
	qsort(v, accepted, sizeof(*v), compare_pos);
	free(o->taken);
	free(open);
	return (ssize_t)accepted;
}

/* Of the matches of a whole text keeps those that the rule accepts. 0 or -ENOMEM. */
static int settle(struct overlap *o, struct hit_list *hits)
{
	size_t kept = 0, end;

	for (size_t i = 0; i < hits->n; i = end) {
		struct special_hit *first = &hits->v[i];
		size_t stop = (size_t)first->pos + first->len;
		ssize_t n = 1;

		for (end = i + 1; end < hits->n && hits->v[end].pos < stop; end++)
			if ((size_t)hits->v[end].pos + hits->v[end].len > stop)
				stop = (size_t)hits->v[end].pos + hits->v[end].len;
		if (end > i + 1)
			n = resolve(o, first, end - i, stop - first->pos);
		if (n < 0)
			return (int)n;
		memmove(&hits->v[kept], first, (size_t)n * sizeof(*first));
		kept += (size_t)n;
	}
	hits->n = kept;
	return 0;
}

int specials_scan(const struct specials *s, const char *text, size_t len,
		  const struct text_span *trusted, size_t n_trusted, struct special_hit **ret,
		  size_t *ret_n)
{
	struct overlap overlap = { s, text, trusted, n_trusted, 0, NULL };
	struct hit_list hits = { 0 };
	size_t span = 0;
	int rc = 0;

	for (size_t i = 0; i < len && !rc; i++) {
		const struct special *found;
		size_t control;

		while (span < n_trusted && trusted[span].end <= i)
			span++;
		control = span < n_trusted && trusted[span].begin <= i ? trusted[span].end - i : 0;
		if (!s->starts[control > 0][(uint8_t)text[i]])
			continue;
		found = specials_match(s, text + i, len - i, control);
		if (found)
			rc = append(&hits, (uint32_t)i, found);
	}
	if (!rc)
		rc = settle(&overlap, &hits);
	if (rc) {
		free(hits.v);
		return rc;
	}
	*ret = hits.v;
	*ret_n = hits.n;
	return 0;
}
