/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_sink.c: what a model writes in a chat, taken apart into reasoning, content and
 * calls (chat/calls.h), kept with the choice, and handed to the form of a stream. Main thread.
 */
#include <stdlib.h>
#include <string.h>

#include "serve/http_private.h"

bool sink_start(struct http_request *r, struct choice *c)
{
	const struct generation *g = &r->call->gen;
	enum form form = g->wish.form;
	const struct calls_options o = { .format = g->calls_format,
					 .tools = g->tools,
					 .calls_only = g->wish.force,
					 .json_or_calls = form == FORM_OBJECT ||
							  form == FORM_SCHEMA,
					 .thinking_start = g->thinking_open };

	return !calls_create(&o, &c->calls, NULL);
}

/* The block ends; @b may be NULL. */
static void close_block(struct http_request *r, struct choice *c, struct block *b)
{
	if (!b || b->closed)
		return;
	b->closed = true;
	if (r->call->gen.stream && r->route->form->close)
		r->route->form->close(r, c, b);
}

static struct block *last_block(struct choice *c)
{
	return c->n_blocks ? &c->blocks[c->n_blocks - 1] : NULL;
}

/* Closes the one before it. NULL: no memory. */
static struct block *open_block(struct http_request *r, struct choice *c,
				const struct calls_delta *d)
{
	struct block *all, *b;

	close_block(r, c, last_block(c));
	all = realloc(c->blocks, (c->n_blocks + 1) * sizeof(*all));
	if (!all)
		return NULL;
	c->blocks = all;
	b = &all[c->n_blocks++];
	*b = (struct block){ .kind = d->kind };
	if (d->kind == CALLS_BEGIN) {
		c->n_calls++;
		b->id = strdup(d->id);
		b->name = strndup(d->name, d->name_n);
		if (!b->id || !b->name)
			return NULL;
	}
	if (r->call->gen.stream && r->route->form->open)
		r->route->form->open(r, c, b);
	return b;
}

/* False: there is no memory for it. */
static bool take_one(struct http_request *r, struct choice *c, const struct calls_delta *d)
{
	struct block *b = last_block(c);

	if (d->kind == CALLS_END) {
		close_block(r, c, b);
		return true;
	}
	if (d->kind == CALLS_BEGIN ||
	    (d->kind != CALLS_ARGUMENTS && (!b || b->closed || b->kind != d->kind)))
		b = open_block(r, c, d);
	if (!b)
		return false;
	if (d->kind != CALLS_BEGIN)
		buf_put(&b->text, d->text, d->n);
	if (r->call->gen.stream && r->route->form->delta)
		r->route->form->delta(r, c, d);
	return !b->text.failed;
}

static void take(struct http_request *r, struct choice *c, const struct calls_delta *d, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (d[i].kind >= CALLS_BEGIN && r->call->gen.one_call && d[i].call > 0)
			continue;
		if (!take_one(r, c, &d[i])) {
			fault_set(&r->fault, 500, "out of memory");
			return;
		}
	}
}

void sink_piece(struct http_request *r, struct choice *c, const char *text, size_t n)
{
	const struct calls_delta *d;
	size_t n_deltas;

	if (!n)
		return;
	if (calls_feed(c->calls, text, n, &d, &n_deltas))
		fault_set(&r->fault, 500, "out of memory");
	else
		take(r, c, d, n_deltas);
}

void sink_finish(struct http_request *r, struct choice *c)
{
	const struct calls_delta *d;
	size_t n;

	if (calls_finish(c->calls, &d, &n)) {
		fault_set(&r->fault, 500, "out of memory");
		return;
	}
	take(r, c, d, n);
	close_block(r, c, last_block(c));
	if (c->n_calls && c->finish == FINISH_STOP)
		c->finish = FINISH_TOOLS;
}

void sink_done(struct choice *c)
{
	calls_destroy(c->calls);
	c->calls = NULL;
	for (unsigned i = 0; i < c->n_blocks; i++) {
		free(c->blocks[i].id);
		free(c->blocks[i].name);
		buf_done(&c->blocks[i].text);
	}
	free(c->blocks);
	c->blocks = NULL;
	c->n_blocks = 0;
}

void sink_join(const struct choice *c, enum calls_kind kind, struct buf *ret)
{
	for (unsigned i = 0; i < c->n_blocks; i++)
		if (c->blocks[i].kind == kind)
			buf_put(ret, c->blocks[i].text.data, c->blocks[i].text.n);
}
