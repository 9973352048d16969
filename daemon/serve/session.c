/* SPDX-License-Identifier: MIT */
/* daemon/serve/session.c: see session.h. One function per kind of ask, one table. */
#include "serve/session.h"

#include <stdlib.h>

#include "base/num.h"
#include "serve/job.h"
#include "serve/private.h"
#include "serve/prompt.h"

void session_init(struct session *s, struct serve *serve)
{
	*s = (struct session){ .serve = serve };
}

void session_end(struct session *s)
{
	struct job *j;

	while ((j = s->jobs)) {
		s->jobs = j->next;
		atomic_store_explicit(&j->req.cancel, true, memory_order_relaxed);
		j->next = s->serve->orphans;
		s->serve->orphans = j;
	}
	s->turn = NULL;
	s->n_jobs = 0;
}

/* ---- GENERATE and SCORE ---- */

int session_check(const struct session *s, uint64_t id, struct err *err)
{
	for (const struct job *j = s->jobs; j; j = j->next)
		if (j->id == id)
			return err_set(err, SLUICE_E_DUPLICATE_ID, "request %llu is still open",
				       (unsigned long long)id);
	if (s->n_jobs >= SERVE_MAX_REQUESTS)
		return err_set(err, SLUICE_E_BUSY, "a connection may have %d open requests",
			       SERVE_MAX_REQUESTS);
	return 0;
}

static int on_request(struct session *s, const struct ask *ask, struct event *ret, struct err *err)
{
	uint32_t *ids = NULL, n = 0;
	struct job *j;
	int code = session_check(s, ask->id, err);

	if (!code)
		code = prompt_encode(s->serve, ask, &ids, &n, err);
	if (!code)
		code = job_create(s->serve, ask, ids, n, &j, err); /* takes ids over */
	if (code)
		return code;
	j->next = s->jobs;
	s->jobs = j;
	s->n_jobs++;
	ret->kind = EVENT_ACCEPTED;
	ret->u.accepted.n_prompt = j->req.n_tokens;
	ret->u.accepted.max_tokens = j->req.max_tokens;
	ret->u.accepted.n_ctx = engine_n_ctx(s->serve->config.engine);
	return 0;
}

static void cancel(struct session *s, uint64_t id)
{
	for (struct job *j = s->jobs; j; j = j->next)
		if (j->id == id)
			atomic_store_explicit(&j->req.cancel, true, memory_order_relaxed);
}

/* ---- questions ---- */

static int on_model(struct session *s, const struct ask *ask, struct event *ret, struct err *err)
{
	info_model(s->serve, &s->serve->model_info);
	ret->kind = EVENT_MODEL;
	ret->u.model.info = &s->serve->model_info;
	ret->u.model.path = s->serve->config.model_path;
	return 0;
}

static int on_status(struct session *s, const struct ask *ask, struct event *ret, struct err *err)
{
	struct serve *serve = s->serve;

	info_status(serve, &serve->status_info, serve->notes, sizeof(serve->notes));
	ret->kind = EVENT_STATUS;
	ret->u.status.info = &serve->status_info;
	ret->u.status.notes = serve->notes;
	return 0;
}

static int on_tokenize(struct session *s, const struct ask *ask, struct event *ret, struct err *err)
{
	uint32_t *ids = NULL, n = 0;
	int code = prompt_encode(s->serve, ask, &ids, &n, err);

	if (code)
		return code;
	ret->kind = EVENT_IDS;
	ret->u.ids.values = ret->owned = ids;
	ret->u.ids.n = n;
	return 0;
}

static int on_detokenize(struct session *s, const struct ask *ask, struct event *ret,
			 struct err *err)
{
	uint32_t *ids = NULL, n = 0;
	char *text = NULL;
	size_t bytes = 0;
	int code = prompt_encode(s->serve, ask, &ids, &n, err);

	if (!code)
		code = prompt_decode(s->serve, ids, n, ask->raw, &text, &bytes);
	free(ids);
	if (code)
		return code;
	ret->kind = EVENT_TEXT;
	ret->u.text.text = ret->owned = text;
	ret->u.text.bytes = bytes;
	return 0;
}

/* Each fills *ret, or returns an enum sluice_error_code and perhaps a sentence. */
static int (*const handlers[])(struct session *s, const struct ask *ask, struct event *ret,
			       struct err *err) = {
	[ASK_GENERATE] = on_request, [ASK_SCORE] = on_request,	   [ASK_MODEL] = on_model,
	[ASK_STATUS] = on_status,    [ASK_TOKENIZE] = on_tokenize, [ASK_DETOKENIZE] = on_detokenize,
};

bool session_ask(struct session *s, const struct ask *ask, struct event *ret)
{
	struct err err = { 0 };
	int code;

	if (ask->kind == ASK_CANCEL) {
		cancel(s, ask->id);
		return false;
	}
	*ret = (struct event){ .id = ask->id };
	code = handlers[ask->kind](s, ask, ret, &err);
	if (code)
		event_refuse(ret, ask->id, code, &err);
	return true;
}

/* ---- what comes back later ---- */

bool session_next(struct session *s, struct event *ret)
{
	struct job *first = s->turn ? s->turn : s->jobs, *j = first;

	if (!j)
		return false;
	do {
		s->turn = j->next; /* NULL: the first again */
		if (job_next(j, ret))
			return true;
		j = j->next ? j->next : s->jobs;
	} while (j != first);
	return false;
}

void session_reap(struct session *s)
{
	struct job **link = &s->jobs, *j;

	while ((j = *link)) {
		if (!job_is_over(j)) {
			link = &j->next;
			continue;
		}
		if (s->turn == j)
			s->turn = j->next;
		*link = j->next;
		s->n_jobs--;
		job_destroy(j);
	}
}

void session_reap_orphans(struct serve *s)
{
	struct job **link = &s->orphans, *j;

	while ((j = *link)) {
		if (!job_is_let_go(j)) {
			link = &j->next;
			continue;
		}
		*link = j->next;
		job_destroy(j);
	}
}
