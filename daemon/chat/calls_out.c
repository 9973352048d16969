/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls_out.c: what is given out: deltas, whose texts lie in one buffer until the next call of
 * calls_feed(), and ids for calls that have none. See calls_impl.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "chat/calls_impl.h"

static struct out_delta *delta_add(struct calls *c, enum calls_kind kind)
{
	if (c->n_deltas == c->cap_deltas) {
		size_t cap = c->cap_deltas ? 2 * c->cap_deltas : 16;
		struct out_delta *p = realloc(c->deltas, cap * sizeof(*p));

		if (!p)
			return NULL;
		c->deltas = p;
		c->cap_deltas = cap;
	}
	c->deltas[c->n_deltas] = (struct out_delta){ .kind = kind };
	return &c->deltas[c->n_deltas++];
}

static int out_text(struct calls *c, const char *text, size_t n, struct span *ret)
{
	*ret = (struct span){ c->out.n, n };
	return bytes_add(&c->out, text, n) || bytes_add(&c->out, "", 1) ? -ENOMEM : 0;
}

static int put_text(struct calls *c, enum calls_kind kind, const char *text, size_t n)
{
	struct out_delta *last = c->n_deltas ? &c->deltas[c->n_deltas - 1] : NULL;
	struct out_delta *d;

	if (last && last->kind == kind && last->text.at + last->text.n + 1 == c->out.n) {
		c->out.n--; /* goes on */
		last->text.n += n;
		return bytes_add(&c->out, text, n) || bytes_add(&c->out, "", 1) ? -ENOMEM : 0;
	}
	d = delta_add(c, kind);
	return d ? out_text(c, text, n, &d->text) : -ENOMEM;
}

int calls_put_text(struct calls *c, enum calls_kind kind, const char *text, size_t n)
{
	int rc = 0;

	if (kind == CALLS_CONTENT && c->json_or_calls && !c->any[kind]) {
		size_t at = skip_space(text, n, 0);

		c->calls_only |= at < n && text[at] == '<';
	}
	if (!n || (kind == CALLS_CONTENT && c->calls_only))
		return 0;
	if (kind == CALLS_CONTENT && c->joint)
		rc = put_text(c, kind, "\n", 1);
	if (kind == CALLS_CONTENT)
		c->joint = false;
	c->any[kind] = true;
	return rc ? rc : put_text(c, kind, text, n);
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

int calls_put_call(struct calls *c, const char *name, size_t name_n, const char *id, size_t id_n,
		   const char *arguments, size_t arguments_n)
{
	uint64_t a = mix(c->id_seed + 0x9e3779b97f4a7c15u * (c->n_calls + 1)), b = mix(a + 1);
	unsigned call = c->n_calls++;
	struct out_delta *d = delta_add(c, CALLS_BEGIN);
	char made[32];

	if (!id_n) {
		id_n = (size_t)snprintf(made, sizeof(made), "call_%016llx%08llx",
					(unsigned long long)a, (unsigned long long)(b >> 32));
		id = made;
	}
	if (!d)
		return -ENOMEM;
	d->call = call;
	if (out_text(c, id, id_n, &d->id) || out_text(c, name, name_n, &d->name))
		return -ENOMEM;
	d = delta_add(c, CALLS_ARGUMENTS);
	if (!d || out_text(c, arguments, arguments_n, &d->text))
		return -ENOMEM;
	d->call = call;
	d = delta_add(c, CALLS_END);
	if (!d)
		return -ENOMEM;
	d->call = call;
	return 0;
}

int calls_deltas(struct calls *c, const struct calls_delta **ret, size_t *ret_n)
{
	if (c->n_deltas > c->cap_given) {
		struct calls_delta *p = realloc(c->given, c->cap_deltas * sizeof(*p));

		if (!p)
			return -ENOMEM;
		c->given = p;
		c->cap_given = c->cap_deltas;
	}
	for (size_t i = 0; i < c->n_deltas; i++) {
		const struct out_delta *d = &c->deltas[i];
		bool begins = d->kind == CALLS_BEGIN, texts = !begins && d->kind != CALLS_END;

		c->given[i] = (struct calls_delta){
			.kind = d->kind,
			.call = d->call,
			.text = texts ? c->out.p + d->text.at : NULL,
			.n = texts ? d->text.n : 0,
			.id = begins ? c->out.p + d->id.at : NULL,
			.name = begins ? c->out.p + d->name.at : NULL,
			.name_n = begins ? d->name.n : 0,
		};
	}
	*ret = c->given;
	*ret_n = c->n_deltas;
	return 0;
}
