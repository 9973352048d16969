/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/saved.c: asks to save and to restore on their way between the engine's thread and that of
 * files. What they hold and take is in saved_pages.c. See saved.h.
 */
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
#include "engine/saved_private.h"
#include "model/identity.h"

#define ASKS_MAX 16 /* that have not ended: each may hold pages and lists as long as the context */

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

void saved_to_files(struct engine *e, struct saved_ask *a, enum saved_stage stage)
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

void saved_finish(struct engine *e, struct saved_ask *a)
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

void saved_fail(struct engine *e, struct saved_ask *a, int error, const char *why)
{
	a->error = err_set(&a->err, error, "%s", why);
	saved_finish(e, a);
}

static void begin(struct engine *e, struct saved_ask *a)
{
	if (a->kind == SAVED_SAVE)
		saved_hold(e, a);
	else if (a->kind == SAVED_ERASE)
		saved_forget(e, a);
	else
		saved_to_files(e, a, STAGE_HEAD);
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
			saved_take(e, a);
		else if (a->stage == STAGE_ADD)
			saved_add(e, a);
		else
			saved_finish(e, a);
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
				saved_finish(e, a);
			else
				saved_fail(e, a, -ESHUTDOWN, "the daemon is stopping");
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
