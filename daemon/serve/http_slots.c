/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_slots.c: POST /slots/ID?action=save|restore|erase, as llama.cpp's server words it: what a
 * slot's newest request left goes to a file of the directory that was named at the start, and back
 * (engine/saved.h). A client that goes away does not stop it. Main thread, but for on_done() and the
 * reading of the body.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/saved.h"
#include "serve/http_private.h"

struct http_saved {
	struct http_saved *next;
	struct http *http;
	struct http_request *owner; /* NULL: nobody waits for it any more */
	struct saved_ask ask;
	_Atomic bool done;
};

bool http_slots_path(const char *path, uint32_t *ret_slot)
{
	static const char prefix[] = "/slots/";
	size_t n = strlen(prefix), digits;

	if (strncmp(path, prefix, n))
		return false;
	digits = strspn(path + n, "0123456789");
	if (!digits || digits > 9 || path[n + digits])
		return false;
	*ret_slot = (uint32_t)strtoul(path + n, NULL, 10);
	return true;
}

void http_slots_ask(struct http_request *r, struct http_call *call)
{
	static const char *const names[] = {
		[SLOT_SAVE] = "save", [SLOT_RESTORE] = "restore", [SLOT_ERASE] = "erase"
	};
	const char *action = MHD_lookup_connection_value(r->c, MHD_GET_ARGUMENT_KIND, "action");

	call->slot = r->slot;
	for (unsigned i = SLOT_SAVE; action && i <= SLOT_ERASE; i++)
		if (!strcmp(action, names[i]))
			call->slot_action = i;
}

bool slots_work(struct http_call *c)
{
	const char *name = NULL;

	if (!c->slot_action)
		return fault_param(&c->fault, "action",
				   "/slots/ID is asked with ?action=save, restore or erase");
	if (c->slot_action == SLOT_ERASE)
		return true;
	if (!read_text(c->json, "filename", &name, &c->fault))
		return false;
	if (!name || !saved_name_ok(name) ||
	    strlen(name) != (size_t)json_object_get_string_len(get(c->json, "filename")))
		return fault_param(
			&c->fault, "filename",
			"filename is needed: letters, digits and . _ - only, at most %d, "
			"no dot at the beginning",
			SAVED_NAME_MAX);
	return true;
}

/* Engine thread. */
static void on_done(struct saved_ask *a)
{
	struct http_saved *s = a->arg;
	struct serve *serve = s->http->serve;

	/* pairs with the acquire in http_slots_pump(): it may be freed right after this */
	atomic_store_explicit(&s->done, true, memory_order_release);
	serve_wake(serve);
}

static void fault_of(struct fault *f, int error, const char *why)
{
	fault_set(f,
		  error == -ENOENT	? 404
		  : error == -EBUSY	? 429
		  : error == -ENOTSUP	? 501
		  : error == -ESHUTDOWN ? 503
		  : error == -EINVAL || error == -EACCES || error == -E2BIG || error == -EBADMSG ||
				  error == -ELOOP
			  ? 400
			  : 500,
		  "%s", why);
}

void http_slots_start(struct http_request *r)
{
	const struct http_call *c = r->call;
	struct http_saved *s = calloc(1, sizeof(*s));
	const char *name = json_object_get_string(get(c->json, "filename"));
	struct err err = { 0 };
	int rc = -ENOMEM;

	if (s) {
		s->http = r->http;
		s->ask.kind = c->slot_action == SLOT_SAVE      ? SAVED_SAVE
			      : c->slot_action == SLOT_RESTORE ? SAVED_RESTORE
							       : SAVED_ERASE;
		s->ask.place = c->slot;
		s->ask.tenant = r->tenant;
		s->ask.owner = r->tenant; /* of the key's text: the same after a restart */
		snprintf(s->ask.name, sizeof(s->ask.name), "%s", name ? name : "");
		s->ask.done = on_done;
		s->ask.arg = s;
		rc = engine_saved(r->http->serve->config.engine, &s->ask, &err);
	}
	if (rc) {
		free(s);
		fault_of(&r->fault, rc, err.text[0] ? err.text : "out of memory");
		if (rc == -EINVAL) /* slots_work() has looked at the name */
			snprintf(r->fault.param, sizeof(r->fault.param), "id_slot");
		http_run_ready(r);
		return;
	}
	s->owner = r;
	r->saved = s;
	s->next = r->http->saved;
	r->http->saved = s;
}

static void put_answer(struct buf *b, const struct saved_ask *a)
{
	static const struct {
		const char *tokens, *bytes, *time;
	} words[] = { [SAVED_SAVE] = { "n_saved", "n_written", "save_ms" },
		      [SAVED_RESTORE] = { "n_restored", "n_read", "restore_ms" } };

	buf_fmt(b, "{\"id_slot\":%u,", a->place);
	if (a->kind == SAVED_ERASE) {
		buf_fmt(b, "\"n_erased\":%u}", a->n_tokens);
		return;
	}
	buf_text(b, "\"filename\":");
	buf_json_text(b, a->name);
	buf_fmt(b, ",\"%s\":%u,\"%s\":%llu,\"timings\":{\"%s\":%.3f}}", words[a->kind].tokens,
		a->n_tokens, words[a->kind].bytes, (unsigned long long)a->bytes,
		words[a->kind].time, (double)a->ns / 1e6);
}

static void answer(struct http_request *r, const struct saved_ask *a)
{
	r->saved = NULL;
	if (a->error)
		fault_of(&r->fault, a->error, a->err.text);
	else
		put_answer(&r->call->answer, a);
	http_run_ready(r);
}

void http_slots_pump(struct http *h)
{
	struct http_saved **link = &h->saved, *s;

	while ((s = *link)) {
		if (!atomic_load_explicit(&s->done, memory_order_acquire)) {
			link = &s->next;
			continue;
		}
		*link = s->next;
		if (s->owner)
			answer(s->owner, &s->ask);
		free(s);
	}
}

void http_slots_leave(struct http_request *r)
{
	if (r->saved)
		r->saved->owner = NULL;
}
