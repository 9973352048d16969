/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_mem.c: the arena of one rendering, its limits, and text that knows its origin.
 *
 * Everything a template makes lives in the arena until the rendering ends; the limit of bytes bounds
 * it. Text that is all of one origin carries one bit; only where origins mix does it carry a mark
 * for each byte. See jinja.h.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "chat/jinja.h"

#define CHUNK_BYTES (64u << 10)
#define ALIGN	    16u

struct jchunk {
	struct jchunk *next;
	size_t used, size;
	_Alignas(16) char data[];
};

void jinja_init(struct jinja *j, const struct template_limits *limits)
{
	memset(j, 0, sizeof(*j));
	j->max_steps = limits && limits->steps ? limits->steps : 20000000;
	j->max_bytes = limits && limits->bytes ? limits->bytes : 256u << 20;
	j->max_depth = limits && limits->depth ? limits->depth : 1000;
}

void jinja_fini(struct jinja *j)
{
	struct jchunk *c = j->chunks;

	while (c) {
		struct jchunk *next = c->next;

		free(c);
		c = next;
	}
	j->chunks = NULL;
}

void jinja_fail(struct jinja *j, int code, const char *fmt, ...)
{
	va_list ap;
	int n = 0;

	if (j->line && !j->raised)
		n = snprintf(j->err.text, sizeof(j->err.text),
			     "line %u of the chat template: ", j->line);
	va_start(ap, fmt);
	vsnprintf(j->err.text + n, sizeof(j->err.text) - (size_t)n, fmt, ap);
	va_end(ap);
	for (char *p = j->err.text; *p; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	j->code = code;
	longjmp(j->on_fail, 1);
}

void jinja_charge(struct jinja *j, size_t n)
{
	j->steps += n;
	if (j->steps > j->max_steps)
		jinja_fail(j, -E2BIG, "it takes more than %llu steps",
			   (unsigned long long)j->max_steps);
}

void jinja_enter(struct jinja *j)
{
	jinja_charge(j, 1);
	if (++j->depth > j->max_depth)
		jinja_fail(j, -E2BIG, "it is nested more than %u levels deep", j->max_depth);
}

static void *chunk_take(struct jinja *j, size_t n)
{
	size_t size = n > CHUNK_BYTES ? n : CHUNK_BYTES;
	struct jchunk *c;

	if (size > j->max_bytes - j->bytes)
		jinja_fail(j, -E2BIG, "it takes more than %zu bytes of memory", j->max_bytes);
	c = malloc(sizeof(*c) + size);
	if (!c)
		jinja_fail(j, -ENOMEM, "out of memory");
	j->bytes += size;
	c->size = size;
	c->used = n;
	if (j->chunks && n > CHUNK_BYTES / 2 && j->chunks->size - j->chunks->used > n) {
		c->next = j->chunks->next; /* the chunk in use stays in front */
		j->chunks->next = c;
	} else {
		c->next = j->chunks;
		j->chunks = c;
	}
	return c->data;
}

static void *take(struct jinja *j, size_t n)
{
	struct jchunk *c = j->chunks;
	void *p;

	if (n > j->max_bytes)
		jinja_fail(j, -E2BIG, "it takes more than %zu bytes of memory", j->max_bytes);
	n = (n + ALIGN - 1) / ALIGN * ALIGN;
	if (!c || c->size - c->used < n)
		return chunk_take(j, n);
	p = c->data + c->used;
	c->used += n;
	return p;
}

void *jinja_alloc(struct jinja *j, size_t n)
{
	return memset(take(j, n), 0, n);
}

void *jinja_grow(struct jinja *j, void *p, size_t n, size_t more)
{
	struct jchunk *c = j->chunks;
	size_t had = (n + ALIGN - 1) / ALIGN * ALIGN, want;
	void *q;

	if (more > j->max_bytes)
		jinja_fail(j, -E2BIG, "it takes more than %zu bytes of memory", j->max_bytes);
	want = (more + ALIGN - 1) / ALIGN * ALIGN;
	if (p && c && (char *)p + had == c->data + c->used && want - had <= c->size - c->used) {
		c->used += want - had; /* the last block of the chunk grows where it lies */
		return p;
	}
	q = take(j, more);
	if (n)
		memcpy(q, p, n);
	return q;
}

/* ---- text ---- */

struct jstr *jstr_new(struct jinja *j, const char *p, size_t n, bool trusted)
{
	struct jstr *s = jinja_alloc(j, sizeof(*s));

	s->p = p;
	s->n = n;
	s->chars = SIZE_MAX;
	s->trusted = trusted;
	return s;
}

struct jstr *jstr_copy(struct jinja *j, const char *p, size_t n, bool trusted)
{
	char *copy = take(j, n + 1);

	if (n)
		memcpy(copy, p, n);
	copy[n] = '\0';
	return jstr_new(j, copy, n, trusted);
}

struct jstr *jstr_slice(struct jinja *j, const struct jstr *s, size_t from, size_t to)
{
	struct jstr *r = jstr_new(j, s->p + from, to - from, s->trusted);

	r->mark = s->mark ? s->mark + from : NULL;
	r->safe = s->safe;
	if (s->chars == s->n)
		r->chars = r->n;
	return r;
}

size_t jstr_chars(struct jstr *s)
{
	size_t n = 0;

	if (s->chars != SIZE_MAX)
		return s->chars;
	for (size_t i = 0; i < s->n; i++)
		n += ((uint8_t)s->p[i] & 0xc0) != 0x80;
	s->chars = n;
	return n;
}

size_t jstr_offset(struct jstr *s, size_t i)
{
	size_t at = 0;

	if (jstr_chars(s) == s->n)
		return i;
	for (; i && at < s->n; i--)
		at += utf8_length((uint8_t)s->p[at]);
	return at;
}

size_t jstr_char_before(const struct jstr *s, size_t at)
{
	do
		at--;
	while (at > 0 && ((uint8_t)s->p[at] & 0xc0) == 0x80);
	return at;
}

size_t jstr_find(struct jinja *j, const struct jstr *s, const struct jstr *sub, size_t from,
		 size_t to, bool last)
{
	const char *p;

	jinja_charge(j, (to - from) / 64);
	if (sub->n > to - from)
		return SIZE_MAX;
	if (!sub->n)
		return last ? to : from;
	if (!last) {
		p = memmem(s->p + from, to - from, sub->p, sub->n);
		return p ? (size_t)(p - s->p) : SIZE_MAX;
	}
	for (size_t at = to - sub->n + 1; at-- > from;) {
		jinja_charge(j, (at & 63) == 0);
		if (s->p[at] != sub->p[0])
			continue;
		jinja_charge(j, sub->n / 64);
		if (!memcmp(s->p + at, sub->p, sub->n))
			return at;
	}
	return SIZE_MAX;
}

bool jstr_is(const struct jstr *s, const char *text)
{
	return strlen(text) == s->n && !memcmp(s->p, text, s->n);
}

bool jstr_same(const struct jstr *a, const struct jstr *b)
{
	return a == b || (a->n == b->n && (!a->n || !memcmp(a->p, b->p, a->n)));
}

bool jstr_trusted_at(const struct jstr *s, size_t i)
{
	return s->mark ? s->mark[i] : s->trusted;
}

struct jv jv_text(struct jinja *j, const char *text)
{
	return jv_str(jstr_new(j, text, strlen(text), true));
}

void jbuf_init(struct jbuf *b, struct jinja *j)
{
	*b = (struct jbuf){ .j = j };
}

static void jbuf_room(struct jbuf *b, size_t n)
{
	size_t cap = b->cap ? b->cap : 64;

	if (n > b->j->max_bytes)
		jinja_fail(b->j, -E2BIG, "it takes more than %zu bytes of memory", b->j->max_bytes);
	if (b->n + n <= b->cap)
		return;
	while (cap < b->n + n)
		cap *= 2;
	b->p = jinja_grow(b->j, b->p, b->cap, cap);
	if (b->mark)
		b->mark = jinja_grow(b->j, b->mark, b->cap, cap);
	b->cap = cap;
}

/* From now on a mark for each byte. */
static void jbuf_mix(struct jbuf *b)
{
	b->mark = take(b->j, b->cap);
	memset(b->mark, b->trusted, b->n);
}

static void jbuf_put(struct jbuf *b, const char *p, const uint8_t *mark, size_t n, bool trusted)
{
	if (!n)
		return;
	jinja_charge(b->j, n / 64);
	jbuf_room(b, n);
	if (!b->n && !mark && !b->mark)
		b->trusted = trusted;
	if (!b->mark && (mark || b->trusted != trusted))
		jbuf_mix(b);
	memcpy(b->p + b->n, p, n);
	if (b->mark && mark)
		memcpy(b->mark + b->n, mark, n);
	else if (b->mark)
		memset(b->mark + b->n, trusted, n);
	b->n += n;
}

void jbuf_add(struct jbuf *b, const char *p, size_t n, bool trusted)
{
	jbuf_put(b, p, NULL, n, trusted);
}

void jbuf_text(struct jbuf *b, const char *text)
{
	jbuf_put(b, text, NULL, strlen(text), true);
}

void jbuf_str(struct jbuf *b, const struct jstr *s)
{
	jbuf_put(b, s->p, s->mark, s->n, s->trusted);
}

void jbuf_bytes(struct jbuf *b, const struct jstr *s, size_t from, size_t to)
{
	jbuf_put(b, s->p + from, s->mark ? s->mark + from : NULL, to - from, s->trusted);
}

void jbuf_char(struct jbuf *b, uint32_t cp, bool trusted)
{
	uint8_t bytes[4];

	jbuf_put(b, (char *)bytes, NULL, utf8_encode(cp, bytes), trusted);
}

struct jstr *jbuf_done(struct jbuf *b)
{
	struct jstr *s = jstr_new(b->j, b->n ? b->p : "", b->n, b->n ? b->trusted : true);

	s->mark = b->mark;
	return s;
}
