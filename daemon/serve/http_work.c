/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_work.c: the thread that reads bodies: JSON, templates, tokens.
 *
 * One thread, first come first served. A call belongs to it from http_work_put() until
 * http_work_take() returns it; whoever asked may have gone by then. What it reads beside the call is
 * constant. put and take: main thread.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "serve/http_private.h"

void http_call_destroy(struct http_call *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->gen.n_prompts; i++) {
		free(c->gen.prompts[i].ids);
		free(c->gen.prompts[i].text);
	}
	free(c->gen.rendered);
	free(c->gen.bias);
	free(c->gen.dry_breaks);
	constraint_put(c->gen.ask.constraint);
	json_object_put(c->gen.tools);
	buf_done(&c->body);
	buf_done(&c->answer);
	json_object_put(c->json);
	free(c);
}

/* Many values take the time of many tokens to be let go of. */
static bool is_large(const struct http *h, const struct http_call *c)
{
	return c && h->work.running && c->values > HTTP_FEW_VALUES;
}

void http_work_free(struct http *h, struct http_call *c)
{
	if (!is_large(h, c)) {
		http_call_destroy(c);
		return;
	}
	c->over = true;
	c->owner = NULL;
	http_work_put(h, c);
}

void http_work_free_json(struct http *h, struct http_call *c)
{
	struct http_call *rest = is_large(h, c) ? calloc(1, sizeof(*rest)) : NULL;

	if (rest) {
		rest->json = c->json;
		rest->values = c->values;
		http_work_free(h, rest);
	} else {
		json_object_put(c->json);
	}
	c->json = NULL;
}

static void work(struct http_call *c)
{
	if (atomic_load_explicit(&c->unwanted, memory_order_relaxed))
		fault_set(&c->fault, 503, "the client has gone");
	else if (!read_json(c) || !c->route->work(c))
		if (!c->fault.status)
			fault_set(&c->fault, 500, "out of memory");
	if (c->answer.failed)
		fault_set(&c->fault, 500, "out of memory");
	buf_done(&c->body);
}

static void *run(void *arg)
{
	struct http *h = arg;
	struct http_work *w = &h->work;

	serve_come_first();
	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct http_call *c;

		while (!w->first && !w->stop)
			pthread_cond_wait(&w->come, &w->lock);
		if (w->stop)
			break;
		c = w->first;
		w->first = c->next;
		if (!w->first)
			w->last = &w->first;
		pthread_mutex_unlock(&w->lock);
		if (c->over) {
			http_call_destroy(c);
			pthread_mutex_lock(&w->lock);
			continue;
		}
		work(c);
		pthread_mutex_lock(&w->lock);
		c->next = w->done;
		w->done = c;
		serve_wake(h->serve);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

int http_work_start(struct http *h, struct err *err)
{
	struct http_work *w = &h->work;
	int rc;

	w->last = &w->first;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->come, NULL);
	rc = pthread_create(&w->thread, NULL, run, h);
	if (rc)
		return err_set(err, -rc, "cannot start a thread: %s", strerror(rc));
	w->running = true;
	return 0;
}

static void destroy_list(struct http_call *c)
{
	while (c) {
		struct http_call *next = c->next;

		if (c->owner)
			c->owner->working = NULL;
		http_call_destroy(c);
		c = next;
	}
}

void http_work_stop(struct http *h)
{
	struct http_work *w = &h->work;

	if (!w->running)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->come);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	w->running = false;
	destroy_list(w->first);
	destroy_list(w->done);
	w->first = w->done = NULL;
	pthread_cond_destroy(&w->come);
	pthread_mutex_destroy(&w->lock);
}

void http_work_put(struct http *h, struct http_call *c)
{
	struct http_work *w = &h->work;

	c->next = NULL;
	pthread_mutex_lock(&w->lock);
	*w->last = c;
	w->last = &c->next;
	pthread_cond_signal(&w->come);
	pthread_mutex_unlock(&w->lock);
}

struct http_call *http_work_take(struct http *h)
{
	struct http_work *w = &h->work;
	struct http_call *c;

	if (!w->running)
		return NULL;
	pthread_mutex_lock(&w->lock);
	c = w->done;
	w->done = NULL;
	pthread_mutex_unlock(&w->lock);
	return c;
}
