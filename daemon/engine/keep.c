/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/keep.c: a warm start: expert slots and dense weights that a process before this one left in memory
 * (store/warm.h), where a service manager holds them; and memory that a process after this one can take.
 *
 * All or nothing: table, experts and dense weights are of use together, for the same files of the same model in the
 * same places. Anything else is a cold start with a sentence: whoever holds the old memory lets go of it first,
 * since there may not be room for both. While engine_create() runs, on its thread.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/num.h"
#include "engine/engine_private.h"
#include "model/identity.h"

static void close_handed(struct keep *k)
{
	for (int m = 0; m < WARM_NR; m++) {
		if (k->given.fd[m] >= 0)
			close(k->given.fd[m]);
		k->given.fd[m] = -1;
	}
}

/* What was handed over is of no use: gone, here and with whoever else holds it. */
static void turn_cold(struct keep *k)
{
	bool handed = k->given.handed;

	warm_destroy(k->warm);
	k->warm = NULL;
	k->taken = false;
	for (int m = 0; m < WARM_NR; m++) {
		arena_destroy(k->arena[m]);
		k->arena[m] = NULL;
	}
	close_handed(k);
	if (handed && k->given.let_go)
		k->given.let_go(k->given.arg);
	k->given.let_go = NULL; /* once */
}

/* Memory that is held already is room for what will lie in it again. */
static void add_held(struct engine *e)
{
	struct limits *l = &e->limits;

	for (int m = WARM_EXPERTS; m < WARM_NR; m++) {
		bool huge = false;
		uint64_t bytes = warm_held_bytes(e->keep.given.fd[m], &huge);

		if (huge) {
			l->huge_free += bytes / LIMITS_HUGE_PAGE;
			if (l->huge_room_bytes != LIMITS_UNKNOWN)
				l->huge_room_bytes += bytes;
		} else if (l->room_bytes != LIMITS_UNKNOWN) {
			l->room_bytes += bytes;
			/* the group of a process before this one may have been charged for it */
			if (l->limit_bytes != LIMITS_UNKNOWN)
				l->room_bytes = u64_min(l->room_bytes, l->limit_bytes);
		}
	}
}

/* Is what was handed over about this model? Its budget then, too. */
static int look_at_handed(struct engine *e, uint64_t *ret_budget, struct err *err)
{
	struct keep *k = &e->keep;
	struct warm_shape was;
	int rc;

	if (k->given.wrong)
		return err_set(err, -EINVAL, "%s", k->given.wrong);
	if (k->given.fd[WARM_TABLE] < 0)
		return err_set(err, -EINVAL, "its table is missing");
	rc = warm_peek(k->given.fd[WARM_TABLE], &was, err);
	if (rc)
		return rc;
	if (was.model != k->shape.model || was.files != k->shape.files) {
		struct warm_shape is = was;

		is.model = k->shape.model;
		is.files = k->shape.files;
		return warm_compare(&was, &is, err);
	}
	if ((was.experts_bytes && k->given.fd[WARM_EXPERTS] < 0) ||
	    (was.dense_bytes && k->given.fd[WARM_DENSE] < 0))
		return err_set(err, -EINVAL, "a part of it is missing");
	*ret_budget = was.budget_bytes;
	return 0;
}

void keep_init(struct engine *e)
{
	static const struct engine_keep none = { .fd = { -1, -1, -1 } };

	e->keep.given = e->config.keep ? *e->config.keep : none;
	e->config.keep = NULL;
}

int keep_begin(struct engine *e, struct err *err)
{
	struct keep *k = &e->keep;
	uint64_t budget = 0;
	int rc;

	if (k->given.keep == ARENA_OWN) {
		if (k->given.handed)
			err_set(&k->why, -EINVAL, "it is not wanted (--warm-restart)");
		turn_cold(k);
		return 0;
	}
	k->shape.files = warm_files(e->model->gguf);
	rc = model_identity(e->model->gguf, &e->stop, &k->shape.model, err);
	if (rc || !k->given.handed)
		return rc;
	if (look_at_handed(e, &budget, &k->why)) {
		turn_cold(k);
		limits_read(NULL, &e->limits); /* there may be more than a moment ago */
		return 0;
	}
	add_held(e);
	if (!e->config.host_budget && !e->config.budget_percent && budget) {
		e->config.host_budget = budget;
		k->budget_assumed = true;
	}
	return 0;
}

bool keep_failed(struct engine *e, const struct err *why)
{
	struct keep *k = &e->keep;

	if (!k->budget_assumed)
		return false;
	err_set(&k->why, -ENOSPC, "its budget does not fit any more: %.300s", why->text);
	turn_cold(k);
	limits_read(NULL, &e->limits);
	e->config.host_budget = 0;
	k->budget_assumed = false;
	return true;
}

/* What this process will put where. */
static int make_shape(struct engine *e, struct err *err)
{
	struct warm_shape *s = &e->keep.shape;
	struct residency_layout experts = { 0 };
	struct weights_layout dense;
	int rc = weights_get_layout(e->model, reader_align(e->reader), &dense);

	if (!rc && e->model->n_expert)
		rc = residency_layout(e->model, reader_align(e->reader), e->plan.expert_bytes,
				      &e->split, &experts, err);
	if (rc)
		return err_set(err, rc, "no memory for the layout");
	s->layout = hash64(&dense.hash, sizeof(dense.hash), experts.hash);
	s->budget_bytes = experts.slot_bytes_total;
	s->n_slots = experts.n_slots;
	s->n_parts = dense.n_parts;
	s->experts_bytes =
		e->model->n_expert ? residency_arena_bytes(e->plan.expert_bytes, &e->split) : 0;
	s->dense_bytes = dense.bytes;
	s->n_nodes = e->split.n;
	s->align = reader_align(e->reader);
	return 0;
}

static struct arena_config config_of(const struct engine *e, enum warm_memory m)
{
	const struct keep *k = &e->keep;

	return (struct arena_config){
		.bytes = m == WARM_EXPERTS ? k->shape.experts_bytes : k->shape.dense_bytes,
		.interleave = m == WARM_EXPERTS && e->split.n == 1,
		.keep = k->given.keep,
	};
}

/* One of the arenas out of what was handed over, if the model needs it. */
static int take(struct engine *e, enum warm_memory m, struct err *err)
{
	struct arena_config c = config_of(e, m);
	struct keep *k = &e->keep;
	int rc;

	if (!c.bytes)
		return 0;
	rc = arena_take(&c, k->given.fd[m], &k->arena[m], err);
	if (!rc)
		k->given.fd[m] = -1; /* the arena's */
	return rc ? err_prefix(err, rc, "%s", warm_name(m)) : 0;
}

static int take_all(struct engine *e, struct err *err)
{
	struct keep *k = &e->keep;
	struct warm_shape was;
	int rc = warm_peek(k->given.fd[WARM_TABLE], &was, err);

	if (!rc) /* before megabytes are mapped, and to say what is different */
		rc = warm_compare(&was, &k->shape, err);
	if (!rc)
		rc = take(e, WARM_EXPERTS, err);
	if (!rc)
		rc = take(e, WARM_DENSE, err);
	if (!rc)
		rc = warm_take(k->given.fd[WARM_TABLE], &k->shape, k->arena[WARM_EXPERTS],
			       k->arena[WARM_DENSE], &k->warm, err);
	if (!rc)
		k->given.fd[WARM_TABLE] = -1;
	return rc;
}

/* New memory that outlives us, or none where that cannot be had: noted. */
static int make_new(struct engine *e, struct err *err)
{
	struct keep *k = &e->keep;
	int rc = 0;

	for (int m = WARM_EXPERTS; m < WARM_NR && !rc; m++) {
		struct arena_config c = config_of(e, (enum warm_memory)m);

		if (c.bytes)
			rc = arena_create(&c, &k->arena[m], err);
	}
	if (rc)
		return rc;
	for (int m = WARM_EXPERTS; m < WARM_NR; m++)
		if (k->arena[m] && arena_fd(k->arena[m]) < 0) {
			if (m == WARM_DENSE) /* that of experts is told of with theirs */
				engine_add_fallback(e, arena_fallback(k->arena[m]));
			return 0;
		}
	rc = warm_create(&k->shape, k->arena[WARM_EXPERTS], k->arena[WARM_DENSE], &k->warm,
			 &k->why);
	if (rc)
		engine_add_fallback(e, k->why.text);
	return 0;
}

int keep_memory(struct engine *e, struct err *err)
{
	struct keep *k = &e->keep;
	int rc;

	if (k->given.keep == ARENA_OWN)
		return 0;
	rc = make_shape(e, err);
	if (rc)
		return rc;
	if (k->given.fd[WARM_TABLE] >= 0) {
		if (!take_all(e, &k->why)) {
			k->taken = true;
			close_handed(k); /* what this model has no use for */
			return 0;
		}
		turn_cold(k);
	}
	return make_new(e, err);
}

int keep_experts(struct engine *e, struct err *err)
{
	struct residency_stats stats;
	struct keep *k = &e->keep;

	if (!k->warm)
		return 0;
	if (residency_keep(e->residency, k->warm, e->arena, k->taken, &k->why)) {
		residency_destroy(e->residency);
		e->residency = NULL;
		arena_destroy(e->arena);
		e->arena = NULL;
		turn_cold(k);
		return make_new(e, err) ? -ENOMEM : -ESTALE;
	}
	residency_get_stats(e->residency, &stats);
	k->experts = stats.experts_resident;
	k->expert_bytes = stats.resident_bytes;
	return 0;
}

struct arena *keep_arena(struct engine *e, enum warm_memory m)
{
	struct arena *a = e->keep.arena[m];

	e->keep.arena[m] = NULL;
	return a;
}

void keep_end(struct engine *e)
{
	struct keep *k = &e->keep;

	for (int m = 0; m < WARM_NR; m++)
		arena_destroy(k->arena[m]);
	warm_destroy(k->warm);
	close_handed(k);
}

bool engine_get_kept(const struct engine *e, int ret_fd[WARM_NR])
{
	const struct keep *k = &e->keep;

	if (!k->warm || k->taken)
		return false;
	ret_fd[WARM_TABLE] = warm_fd(k->warm);
	ret_fd[WARM_EXPERTS] = arena_fd(e->arena);
	ret_fd[WARM_DENSE] = arena_fd(e->weights->arena);
	return true;
}

void keep_get_status(const struct engine *e, struct engine_warm *ret)
{
	const struct keep *k = &e->keep;

	*ret = (struct engine_warm){ .kept = k->warm != NULL,
				     .handed = k->given.handed,
				     .warm = k->taken,
				     .experts = k->experts,
				     .expert_bytes = k->expert_bytes,
				     .dense_bytes = atomic_load(&e->weights->bytes_kept),
				     .starts = k->warm ? warm_starts(k->warm) : 0,
				     .why = k->taken ? NULL : k->why.text };
}
