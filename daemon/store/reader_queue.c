/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/reader_queue.c: requests that wait, by class, and how they are cut into pieces (see reader.h).
 * Submitting is a push to a list that nobody locks; r->cut guards the queues that it is sorted into. What is
 * submitted, withdrawn and moved ahead comes from any thread, pieces are taken by the backend's.
 */
#include "store/reader.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "store/reader_backend.h"

#define AHEAD_MOST 4 /* pieces of READ_PREDICTED in flight: about what a disk's rate needs */

/* The aligned range of a request, and how it is cut. */
static uint64_t request_start(const struct reader *r, const struct reader_request *q)
{
	return align_down(q->offset, r->align);
}

static uint64_t request_room(const struct reader *r, const struct reader_request *q)
{
	return reader_room(q->offset, q->bytes, r->align);
}

static bool valid_request(const struct reader *r, const struct reader_request *q)
{
	uint64_t end;

	if (q->file >= r->n_files || u64_add_overflow(q->offset, q->bytes, &end) ||
	    end > INT64_MAX - READER_MAX_ALIGN)
		return false;
	if (!q->bytes)
		return true;
	/* our own slots: a wrong place would spoil the neighbour's bytes */
	assert(((uintptr_t)q->dest - q->offset % r->align) % r->align == 0);
	return div_ceil(request_room(r, q), r->request_bytes) <= UINT32_MAX;
}

static void push_request(struct reader *r, struct reader_request *q)
{
	struct reader_request *head = atomic_load_explicit(&r->inbox, memory_order_relaxed);

	/* release to take_inbox(); seq_cst against the backend's flag that it is about to sleep */
	do
		q->next = head;
	while (!atomic_compare_exchange_weak_explicit(&r->inbox, &head, q, memory_order_seq_cst,
						      memory_order_relaxed));
}

void reader_submit(struct reader *r, struct reader_request *const *requests, unsigned n)
{
	bool any = false;

	for (unsigned i = 0; i < n; i++) {
		struct reader_request *q = requests[i];
		bool valid = valid_request(r, q);

		if (!valid || !q->bytes) {
			q->done(q, valid ? 0 : -EINVAL);
			continue;
		}
		atomic_store_explicit(&q->result, 0, memory_order_relaxed);
		atomic_store_explicit(&q->pieces_left,
				      (uint32_t)div_ceil(request_room(r, q), r->request_bytes),
				      memory_order_relaxed);
		q->submitted_ns = now_ns();
		q->cut_done = 0;
		push_request(r, q);
		any = true;
	}
	if (any)
		r->ops->wake(r, r->state);
	if (atomic_load(&r->cancelled)) /* it may have missed what was pushed above */
		reader_cancel_queued(r);
}

static void append(struct reader_queue *queue, struct reader_request *q)
{
	q->next = NULL;
	*queue->tail = q;
	queue->tail = &q->next;
}

/* Caller holds r->cut. Moves what was submitted behind what is queued, oldest first. */
static void take_inbox(struct reader *r)
{
	struct reader_request *q = atomic_exchange(&r->inbox, NULL), *oldest = NULL;

	while (q) {
		struct reader_request *next = q->next;

		q->next = oldest;
		oldest = q;
		q = next;
	}
	while (oldest) {
		q = oldest;
		oldest = q->next;
		append(&r->queue[q->cls], q);
	}
}

/* What is in flight cannot be overtaken by what somebody waits for: of guesses there is only so much. */
static bool may_begin(const struct reader *r, int cls)
{
	return cls != READ_PREDICTED || atomic_load(&r->ahead) < AHEAD_MOST ||
	       atomic_load(&r->stop) || atomic_load(&r->cancelled);
}

/* Caller holds r->cut. The queue to take from, or NULL. */
static struct reader_queue *first_queue(struct reader *r)
{
	if (atomic_load_explicit(&r->inbox, memory_order_relaxed))
		take_inbox(r);
	for (int i = 0; i < READ_CLASS_NR; i++)
		if (r->queue[i].head)
			return may_begin(r, i) ? &r->queue[i] : NULL;
	return NULL;
}

/* Caller holds r->cut. */
static void unlink_request(struct reader_queue *queue, struct reader_request **at)
{
	struct reader_request *q = *at;

	*at = q->next;
	if (queue->tail == &q->next)
		queue->tail = at;
}

/* Caller holds r->cut. Takes @q out of the queues, if it is in one of the classes from @first on. */
static bool take_out(struct reader *r, struct reader_request *q, int first)
{
	for (int c = first; c < READ_CLASS_NR; c++) {
		struct reader_queue *from = &r->queue[c];
		struct reader_request **at = &from->head;

		while (*at && *at != q)
			at = &(*at)->next;
		if (!*at)
			continue;
		unlink_request(from, at);
		return true;
	}
	return false;
}

void reader_withdraw(struct reader *r, struct reader_request *const *requests, unsigned n)
{
	struct reader_request *out = NULL;

	pthread_mutex_lock(&r->cut);
	take_inbox(r);
	for (unsigned i = 0; i < n; i++) {
		struct reader_request *q = requests[i];

		if (!take_out(r, q, 0))
			continue;
		if (q->cut_done) { /* its begun part goes on, so the rest must */
			append(&r->queue[q->cls], q);
			continue;
		}
		q->next = out;
		out = q;
	}
	pthread_mutex_unlock(&r->cut);
	while (out) {
		struct reader_request *q = out;

		out = q->next;
		q->done(q, -ECANCELED);
	}
}

void reader_promote(struct reader *r, struct reader_request *const *requests, unsigned n,
		    enum read_class cls)
{
	bool moved = false;

	pthread_mutex_lock(&r->cut);
	take_inbox(r);
	for (unsigned i = 0; i < n; i++) {
		struct reader_request *q = requests[i];

		if (!take_out(r, q, (int)cls + 1))
			continue;
		q->cls = (uint8_t)cls;
		append(&r->queue[cls], q);
		moved = true;
	}
	pthread_mutex_unlock(&r->cut);
	if (moved) /* it may begin where it had to wait before */
		r->ops->wake(r, r->state);
}

bool reader_has_work(struct reader *r)
{
	bool any;

	if (atomic_load(&r->inbox))
		return true;
	pthread_mutex_lock(&r->cut);
	any = first_queue(r) != NULL;
	pthread_mutex_unlock(&r->cut);
	return any;
}

bool reader_take_piece(struct reader *r, struct read_piece *p)
{
	struct reader_queue *queue;
	struct reader_request *q;
	uint64_t start, room, lead, end;

	pthread_mutex_lock(&r->cut);
	queue = first_queue(r);
	if (!queue) {
		pthread_mutex_unlock(&r->cut);
		return false;
	}
	q = queue->head;
	start = request_start(r, q);
	room = request_room(r, q);
	lead = q->offset - start;
	memset(p, 0, sizeof(*p));
	p->request = q;
	p->file = q->file;
	p->offset = start + q->cut_done;
	p->bytes = u64_min(r->request_bytes, room - q->cut_done);
	p->dest = q->dest - lead + q->cut_done;
	end = u64_min(p->offset + p->bytes, q->offset + q->bytes);
	p->wanted = end - p->offset;
	p->cls = q->cls;
	if (p->cls == READ_PREDICTED)
		atomic_fetch_add(&r->ahead, 1);
	q->cut_done += p->bytes;
	if (q->cut_done >= room)
		unlink_request(queue, &queue->head);
	pthread_mutex_unlock(&r->cut);
	atomic_fetch_add_explicit(&r->pieces, 1, memory_order_relaxed);
	p->began_ns = now_ns();
	if (atomic_fetch_add_explicit(&r->in_flight, 1, memory_order_relaxed) == 0)
		atomic_store_explicit(&r->busy_since, p->began_ns, memory_order_relaxed);
	return true;
}
