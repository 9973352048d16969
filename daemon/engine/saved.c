/* SPDX-License-Identifier: MIT */
/* daemon/engine/saved.c: see saved.h. */
#include "engine/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/version.h"
#include "engine/engine_private.h"
#include "engine/reuse.h"
#include "model/identity.h"

#define ASKS_MAX 16 /* that have not ended: each may hold pages and lists as long as the context */

enum stage {
	STAGE_NEW,   /* engine thread: waits for the place */
	STAGE_WRITE, /* file thread */
	STAGE_HEAD,  /* file thread */
	STAGE_TAKE,  /* engine thread: pages for what HEAD told */
	STAGE_FILL,  /* file thread */
	STAGE_ADD,   /* engine thread */
	STAGE_OVER,  /* engine thread: lets go */
};

struct saver {
	int dir;
	_Atomic unsigned n_asks;	   /* begun and not ended */
	_Atomic(struct saved_ask *) inbox; /* new ones, and those that come from the file thread */
	uint32_t n_held;		   /* engine thread: pages that all of them hold */
	struct saved_ask *waiting; /* engine thread: for their places, the first to come first */

	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t come;
	struct saved_ask *queue, **queue_end;
	bool end;
	_Atomic bool stop; /* gives up the file that is being written or read */

	/* file thread */
	bool known; /* the model's identity */
	uint64_t model;
};

static void to_engine(struct engine *e, struct saved_ask *a)
{
	struct saver *s = e->saver;
	struct saved_ask *head = atomic_load_explicit(&s->inbox, memory_order_relaxed);

	do
		a->next = head;
	while (!atomic_compare_exchange_weak_explicit(&s->inbox, &head, a, memory_order_release,
						      memory_order_relaxed));
	engine_wake(e);
}

static void to_files(struct engine *e, struct saved_ask *a, enum stage stage)
{
	struct saver *s = e->saver;

	a->stage = stage;
	a->next = NULL;
	pthread_mutex_lock(&s->lock);
	*s->queue_end = a;
	s->queue_end = &a->next;
	pthread_cond_signal(&s->come);
	pthread_mutex_unlock(&s->lock);
}

int engine_saved(struct engine *e, struct saved_ask *a, struct err *err)
{
	if (!e->saver)
		return err_set(
			err, -ENOTSUP,
			"sequences are not saved here: sluiced --slot-save-path DIR says where");
	if (a->place >= e->config.n_parallel)
		return err_set(err, -EINVAL,
			       "there is no slot %u: they are 0 to %u (sluiced --parallel)",
			       a->place, e->config.n_parallel - 1);
	if (a->kind != SAVED_ERASE && !saved_name_ok(a->name))
		return err_set(
			err, -EINVAL,
			"a file's name has letters, digits and . _ - only, at most %d, and does "
			"not begin with a dot",
			SAVED_NAME_MAX);
	if (atomic_load(&e->stop) || atomic_load(&e->state) == ENGINE_FAILED)
		return err_set(err, -ESHUTDOWN, "the engine has stopped");
	if (atomic_fetch_add(&e->saver->n_asks, 1) >= ASKS_MAX) {
		atomic_fetch_sub(&e->saver->n_asks, 1);
		return err_set(err, -EBUSY,
			       "%d sequences are being saved and restored: try again later",
			       ASKS_MAX);
	}
	a->error = 0;
	err_clear(&a->err);
	a->n_tokens = 0;
	a->bytes = 0;
	a->stage = STAGE_NEW;
	a->file = (struct saved_file){ .fd = -1 };
	a->text = (struct saved_text){ 0 };
	a->n_pages = a->n_held = a->n_parts = a->n_counted = a->skipped = 0;
	a->ids = a->pages = NULL;
	a->points = NULL;
	a->parts = NULL;
	a->tail = NULL;
	a->began_ns = now_ns();
	to_engine(e, a);
	return 0;
}

/* ---- the thread of files ---- */

static int shape_of(struct engine *e, const struct saved_ask *a, struct saved_shape *ret,
		    struct err *err)
{
	struct saver *s = e->saver;
	int rc = s->known ? 0 : model_identity(e->model->gguf, &s->stop, &s->model, err);

	s->known = !rc;
	*ret = (struct saved_shape){ .model = s->model,
				     .owner = e->config.prefix_share ? 0 : a->owner,
				     .page_bytes = e->plan.kv_bytes ? seq_page_bytes(e->seqs) : 0,
				     .state_bytes = seq_state_bytes(e->seqs),
				     .kv_type = e->config.kv_type,
				     .n_ctx = e->config.n_ctx,
				     .n_vocab = e->model->n_vocab,
				     .level = e->config.ops->name,
				     .program = sluice_version };
	return rc;
}

static void work(struct engine *e, struct saved_ask *a)
{
	struct saver *s = e->saver;
	struct saved_shape shape;

	a->error = shape_of(e, a, &shape, &a->err);
	if (a->error)
		;
	else if (a->stage == STAGE_WRITE)
		a->error = saved_write(s->dir, a->name, &shape, &a->text, a->parts, a->n_parts,
				       &s->stop, &a->bytes, &a->err);
	else if (a->stage == STAGE_HEAD)
		a->error = saved_open(s->dir, a->name, &shape, &a->file, &a->err);
	else
		a->error = saved_read(&a->file, a->parts, a->n_parts, &s->stop, &a->err);
	a->stage = a->error || a->stage == STAGE_WRITE ? STAGE_OVER
		   : a->stage == STAGE_HEAD	       ? STAGE_TAKE
						       : STAGE_ADD;
}

static void *file_thread(void *arg)
{
	struct engine *e = arg;
	struct saver *s = e->saver;
	struct saved_ask *a;

	pthread_setname_np(pthread_self(), "sluice-saved");
	pthread_mutex_lock(&s->lock);
	for (;;) {
		while (!s->queue && !s->end)
			pthread_cond_wait(&s->come, &s->lock);
		if (s->end)
			break;
		a = s->queue;
		s->queue = a->next;
		if (!s->queue)
			s->queue_end = &s->queue;
		pthread_mutex_unlock(&s->lock);
		work(e, a);
		to_engine(e, a);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* ---- the engine's side ---- */

static uint64_t tenant_of(const struct engine *e, const struct saved_ask *a)
{
	return e->config.prefix_share ? 0 : a->tenant;
}

static const char no_room[] =
	"there is no room: those who compute have the pages (sluiced --prefix-cache)";

/* Lets go of everything and says what came of it. */
static void finish(struct engine *e, struct saved_ask *a)
{
	for (uint32_t i = 0; i < a->n_held; i++)
		page_drop(seq_pool_pages(e->seqs), a->pages[i]);
	e->saver->n_held -= a->n_counted;
	if (a->kind == SAVED_RESTORE && !a->error)
		a->bytes = a->file.data + a->file.data_bytes + sizeof(uint64_t);
	saved_close(&a->file);
	free(a->ids);
	free(a->points);
	free(a->pages);
	free(a->parts);
	free(a->tail);
	a->ns = now_ns() - a->began_ns;
	atomic_fetch_sub(&e->saver->n_asks, 1);
	a->done(a);
}

static void fail(struct engine *e, struct saved_ask *a, int error, const char *why)
{
	a->error = err_set(&a->err, error, "%s", why);
	finish(e, a);
}

/* Room for what @a->text has. False: no memory. */
static bool take_lists(struct engine *e, struct saved_ask *a)
{
	uint64_t states = (uint64_t)a->text.n_points * seq_state_pages(e->seqs);

	a->n_pages = e->plan.kv_bytes ? (uint32_t)div_ceil(a->text.n, KV_BLOCK) : 0;
	a->pages = calloc(a->n_pages + states + 1, sizeof(*a->pages));
	a->parts = calloc(a->n_pages + states + 1, sizeof(*a->parts));
	return a->pages && a->parts;
}

static void add_page(struct engine *e, struct saved_ask *a)
{
	void *memory = seq_page_memory(e->seqs, a->pages[a->n_parts]);

	a->parts[a->n_parts++] = (struct iovec){ memory, seq_page_bytes(e->seqs) };
}

/* A state's pages, the last of which it may not fill; @to: for all of them, or NULL. */
static void add_state(struct engine *e, struct saved_ask *a, void *to)
{
	uint64_t left = seq_state_bytes(e->seqs);

	for (uint32_t i = 0; i < seq_state_pages(e->seqs); i++) {
		uint64_t n = u64_min(left, seq_page_bytes(e->seqs));

		if (!to)
			add_page(e, a);
		else
			a->parts[a->n_parts++].iov_base = to;
		a->parts[a->n_parts - 1].iov_len = n;
		left -= n;
	}
}

/* The last page may be written on by others behind the last position: a copy is still. */
static bool copy_tail(struct saved_ask *a)
{
	struct iovec *last = a->n_pages ? &a->parts[a->n_pages - 1] : NULL;

	if (!last || a->text.n % KV_BLOCK == 0)
		return true;
	a->tail = malloc(last->iov_len);
	if (!a->tail)
		return false;
	memcpy(a->tail, last->iov_base, last->iov_len);
	last->iov_base = a->tail;
	return true;
}

/*
 * Are there @n pages for @a besides those that others hold already? Together they leave as many as the
 * context has, for a sequence that is alone; one that is the only one may have what there is, since the pool may
 * hold no more than one context, and who computes waits for one file at most. Counted until @a ends.
 */
static bool count_pages(struct engine *e, struct saved_ask *a, uint64_t n)
{
	struct saver *s = e->saver;
	uint64_t alone = e->plan.kv_bytes ? div_ceil(e->config.n_ctx, KV_BLOCK) : 0;

	if (s->n_held && s->n_held + n + alone > seq_pool_pages(e->seqs)->n)
		return false;
	s->n_held += (uint32_t)n;
	a->n_counted = (uint32_t)n;
	return true;
}

static void hold(struct engine *e, struct saved_ask *a, const struct prefix_match *m,
		 const struct prefix_on_way *way)
{
	uint32_t states = seq_state_pages(e->seqs);

	prefix_get(m, a->ids, a->n_pages ? a->pages : NULL);
	for (uint32_t i = 0; i < a->n_pages; i++)
		add_page(e, a);
	for (uint32_t i = 0; i < a->text.n_points; i++) {
		memcpy(a->pages + a->n_parts, way[i].pages, states * sizeof(*a->pages));
		a->points[i] = (struct saved_point){ way[i].at, way[i].kind };
		add_state(e, a, NULL);
	}
	for (a->n_held = 0; a->n_held < a->n_parts; a->n_held++)
		page_hold(seq_pool_pages(e->seqs), a->pages[a->n_held]);
}

/* What is kept of a place's newest sequence; false: nothing. */
static bool find_kept(struct engine *e, const struct saved_ask *a, struct prefix_match *ret)
{
	const struct active *place = &e->active[a->place];

	if (!place->n_ids || place->tenant != tenant_of(e, a))
		return false;
	/* one token is always left: one more than there are is asked for */
	place->ids[place->n_ids] = 0;
	prefix_find(e->prefixes, place->tenant, place->ids, place->n_ids + 1, true, ret);
	return ret->n > 0;
}

/* Says why nothing is kept of a place that requests may have used. */
static void fail_kept(struct engine *e, struct saved_ask *a)
{
	const struct active *place = &e->active[a->place];

	if (place->n_ids && place->tenant == tenant_of(e, a) && place->n_ids < REUSE_LEAST)
		err_set(&a->err, -ENOENT,
			"this slot's sequence has %u tokens: fewer than %d are not kept",
			place->n_ids, REUSE_LEAST);
	fail(e, a, -ENOENT, "nothing is kept of this slot's sequence");
}

static void save(struct engine *e, struct saved_ask *a)
{
	struct prefix_on_way way[SAVED_POINTS_MAX];
	struct prefix_match m;

	if (!find_kept(e, a, &m)) {
		fail_kept(e, a);
		return;
	}
	a->text.n_points = m.point ? prefix_points(&m, way, SAVED_POINTS_MAX) : 0;
	a->text.n = a->n_tokens = m.n;
	a->text.ids = a->ids = calloc(m.n, sizeof(*a->ids));
	a->text.points = a->points = calloc(a->text.n_points + 1, sizeof(*a->points));
	if (!a->ids || !a->points || !take_lists(e, a)) {
		fail(e, a, -ENOMEM, "no memory");
		return;
	}
	if (!count_pages(e, a,
			 a->n_pages + (uint64_t)a->text.n_points * seq_state_pages(e->seqs))) {
		fail(e, a, -ENOSPC, no_room);
		return;
	}
	hold(e, a, &m, way);
	if (copy_tail(a))
		to_files(e, a, STAGE_WRITE);
	else
		fail(e, a, -ENOMEM, "no memory");
}

static void erase(struct engine *e, struct saved_ask *a)
{
	struct active *place = &e->active[a->place];
	struct prefix_match m;

	if (find_kept(e, a, &m))
		a->n_tokens = prefix_forget(e->prefixes, &m);
	if (place->tenant == tenant_of(e, a))
		place->n_ids = 0;
	finish(e, a);
}

/*
 * Pages for what a file holds: all that is not used gives way, since somebody asked for it. The last
 * point is worth most. Nothing gives way in vain. False: there is no room for one.
 */
static bool make_room(struct engine *e, struct saved_ask *a)
{
	uint32_t states = seq_state_pages(e->seqs);
	uint64_t most = seq_pool_pages(e->seqs)->n_free + prefix_can_free(e->prefixes);

	for (a->skipped = 0;; a->skipped++) {
		uint64_t n = a->n_pages + (uint64_t)(a->text.n_points - a->skipped) * states;

		if (n <= most && count_pages(e, a, n))
			return reuse_make_free(e, (uint32_t)n);
		if (a->skipped + 1 >= a->text.n_points)
			return false;
	}
}

static void take_pages(struct engine *e, struct saved_ask *a, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		a->pages[a->n_held++] = seq_take_page(e->seqs);
}

static void take(struct engine *e, struct saved_ask *a)
{
	a->text = a->file.text;
	if (!take_lists(e, a) || !(a->tail = malloc(seq_page_bytes(e->seqs)))) {
		fail(e, a, -ENOMEM, "no memory");
		return;
	}
	if (!make_room(e, a)) {
		fail(e, a, -ENOSPC, no_room);
		return;
	}
	take_pages(e, a, a->n_pages);
	for (uint32_t i = 0; i < a->n_pages; i++)
		add_page(e, a);
	for (uint32_t i = 0; i < a->text.n_points; i++) {
		if (i >= a->skipped)
			take_pages(e, a, seq_state_pages(e->seqs));
		/* pages are listed as they are held: those of skipped ones have no place there */
		add_state(e, a, a->tail);
	}
	for (uint32_t i = a->n_pages, at = a->n_parts - (a->n_held - a->n_pages); i < a->n_held;
	     i++, at++)
		a->parts[at].iov_base = seq_page_memory(e->seqs, a->pages[i]);
	to_files(e, a, STAGE_FILL);
}

static enum prefix_kind kind_of(const struct saved_point *p)
{
	return p->kind <= PREFIX_SYSTEM ? (enum prefix_kind)p->kind : PREFIX_OLD;
}

static void add(struct engine *e, struct saved_ask *a)
{
	struct active *place = &e->active[a->place];
	uint64_t tenant = tenant_of(e, a);
	uint32_t states = seq_state_pages(e->seqs);
	int rc = prefix_add(e->prefixes, tenant, a->text.ids, a->text.n, a->pages, true);

	a->n_held = a->n_pages; /* the others are taken over */
	for (uint32_t i = a->skipped, at = a->n_pages; i < a->text.n_points; i++, at += states) {
		const struct saved_point *p = &a->text.points[i];
		int failed = prefix_adopt_point(e->prefixes, tenant, a->text.ids, p->at, kind_of(p),
						a->pages + at);

		rc = rc ? rc : failed;
	}
	if (rc) {
		fail(e, a, rc, "no memory");
		return;
	}
	if (!place->request) {
		memcpy(place->ids, a->text.ids, a->text.n * sizeof(*place->ids));
		place->n_ids = a->text.n;
		place->tenant = tenant;
	}
	a->n_tokens = a->text.n;
	finish(e, a);
}

static void begin(struct engine *e, struct saved_ask *a)
{
	if (a->kind == SAVED_SAVE)
		save(e, a);
	else if (a->kind == SAVED_ERASE)
		erase(e, a);
	else
		to_files(e, a, STAGE_HEAD);
}

static void take_inbox(struct saver *s)
{
	struct saved_ask *a = atomic_exchange_explicit(&s->inbox, NULL, memory_order_acquire);
	struct saved_ask *older = NULL, *next, **end = &s->waiting;

	for (; a; a = next) {
		next = a->next;
		a->next = older;
		older = a;
	}
	while (*end)
		end = &(*end)->next;
	*end = older;
}

void saved_turn(struct engine *e)
{
	struct saver *s = e->saver;
	struct saved_ask **link, *a;

	if (!s)
		return;
	if (atomic_load_explicit(&s->inbox, memory_order_relaxed))
		take_inbox(s);
	for (link = &s->waiting; (a = *link);) {
		if (a->stage == STAGE_NEW && e->active[a->place].request) {
			link = &a->next;
			continue;
		}
		*link = a->next;
		if (a->stage == STAGE_NEW)
			begin(e, a);
		else if (a->stage == STAGE_TAKE)
			take(e, a);
		else if (a->stage == STAGE_ADD)
			add(e, a);
		else
			finish(e, a);
	}
}

bool saved_wakes(const struct engine *e)
{
	return e->saver && atomic_load(&e->saver->inbox);
}

/* ---- life ---- */

int saved_create(struct engine *e, struct err *err)
{
	const char *path = e->config.save_path;
	struct saver *s;
	int rc;

	if (!path)
		return 0;
	if (!e->prefixes)
		return err_set(
			err, -EINVAL,
			"--slot-save-path needs a prefix cache, which is off or on a device");
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->queue_end = &s->queue;
	s->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0) {
		rc = err_set(err, -errno, "--slot-save-path %s: %s", path, strerror(errno));
		free(s);
		return rc;
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->come, NULL);
	e->saver = s;
	rc = pthread_create(&s->thread, NULL, file_thread, e);
	s->started = !rc;
	return rc ? err_set(err, -rc, "cannot start a thread: %s", strerror(rc)) : 0;
}

static void join(struct saver *s)
{
	if (!s->started)
		return;
	atomic_store(&s->stop, true);
	pthread_mutex_lock(&s->lock);
	s->end = true;
	pthread_cond_signal(&s->come);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	s->started = false;
}

void saved_end(struct engine *e)
{
	struct saver *s = e->saver;
	struct saved_ask *a, *all;

	if (!s)
		return;
	join(s);
	take_inbox(s);
	all = s->queue;
	s->queue = NULL;
	s->queue_end = &s->queue;
	for (unsigned round = 0; round < 2; round++) {
		for (; (a = all);) {
			all = a->next;
			if (a->stage == STAGE_OVER)
				finish(e, a);
			else
				fail(e, a, -ESHUTDOWN, "the daemon is stopping");
		}
		all = s->waiting;
		s->waiting = NULL;
	}
}

void saved_destroy(struct engine *e)
{
	struct saver *s = e->saver;

	if (!s)
		return;
	saved_end(e); /* where the engine was never started */
	close(s->dir);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->come);
	free(s);
	e->saver = NULL;
}
