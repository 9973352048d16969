/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/waiting.c: the queue of requests that wait for a place.
 */
#include <errno.h>

#include "engine/engine_private.h"

bool request_is_cancelled(struct request *r)
{
	return atomic_load_explicit(&r->cancel, memory_order_relaxed);
}

bool request_is_over_time(const struct request *r, uint64_t now)
{
	return r->max_ns && now - r->submitted_ns > r->max_ns;
}

void engine_finish_request(struct engine *e, struct request *r, const struct request_result *result)
{
	turns_leave(&e->turns, r->turn);
	r->ops->done(r, result);
}

void waiting_take_inbox(struct engine *e)
{
	struct request *r = atomic_exchange_explicit(&e->inbox, NULL, memory_order_acquire);
	struct request *oldest = NULL;

	while (r) {
		struct request *next = r->next;

		r->next = oldest;
		oldest = r;
		r = next;
	}
	*e->queue_tail = oldest;
	for (; *e->queue_tail; e->queue_tail = &(*e->queue_tail)->next) {
		(*e->queue_tail)->turn = turns_enter(&e->turns, (*e->queue_tail)->client);
		(*e->queue_tail)->came = e->n_came++;
	}
}

struct request *waiting_take(struct engine *e, struct request **at)
{
	struct request *r = *at;

	*at = r->next;
	if (!r->next)
		e->queue_tail = at;
	atomic_fetch_sub(&e->n_waiting, 1);
	return r;
}

struct request **waiting_next(struct engine *e, uint32_t i)
{
	struct request **best = NULL;

	for (struct request **at = &e->queue_head; *at; at = &(*at)->next) {
		if ((*at)->place && (*at)->place != i + 1)
			continue;
		if (!best ||
		    turns_before(&e->turns, (*at)->turn, (*at)->came, (*best)->turn, (*best)->came))
			best = at;
	}
	return best;
}

void waiting_end(struct engine *e, int error, const char *why)
{
	struct request *r;

	waiting_take_inbox(e);
	while (e->queue_head) {
		struct request_result result = { .stop = STOP_CANCELLED };

		r = waiting_take(e, &e->queue_head);
		if (!request_is_cancelled(r)) {
			result.stop = STOP_ERROR;
			result.error = err_set(&result.err, error, "%s", why);
		}
		engine_finish_request(e, r, &result);
	}
}

void waiting_drop(struct engine *e, uint64_t now)
{
	struct request **at = &e->queue_head;

	while (*at) {
		struct request_result result = { .stop = STOP_CANCELLED };

		if (!request_is_cancelled(*at) && !request_is_over_time(*at, now)) {
			at = &(*at)->next;
			continue;
		}
		if (!request_is_cancelled(*at)) {
			result.stop = STOP_ERROR;
			result.error =
				err_set(&result.err, -ETIME,
					"the request was not begun in the %llu ms that it may take",
					(unsigned long long)((*at)->max_ns / 1000000));
		}
		engine_finish_request(e, waiting_take(e, at), &result);
	}
}
