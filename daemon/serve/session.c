/* SPDX-License-Identifier: MIT */
/* daemon/serve/session.c: see session.h. One function per kind of ask, one table. */
#include "serve/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "serve/forms.h"
#include "serve/job.h"
#include "serve/private.h"
#include "serve/prompt.h"

/* A GENERATE that waits for its form. */
struct pending {
	struct pending *next;
	struct ask ask; /* what it points to is the pending's own; the prompt is in ids */
	uint32_t *ids, n;
	struct form_task *task;
	void *owned[3];
};

void session_init(struct session *s, struct serve *serve)
{
	*s = (struct session){ .serve = serve };
}

static void pending_free(struct pending *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < ARRAY_LEN(p->owned); i++)
		free(p->owned[i]);
	free(p->ids);
	free(p);
}

void session_drop_forms(struct session *s)
{
	struct pending *p;

	while ((p = s->pending)) {
		s->pending = p->next;
		s->n_jobs--;
		forms_drop(p->task);
		pending_free(p);
	}
}

/* The open request at *link goes to the orphans. */
static void orphan(struct session *s, struct job **link)
{
	struct job *j = *link;

	*link = j->next;
	if (s->turn == j)
		s->turn = j->next;
	s->n_jobs--;
	atomic_store_explicit(&j->req.cancel, true, memory_order_relaxed);
	j->next = s->serve->orphans;
	s->serve->orphans = j;
}

void session_abandon(struct session *s, uint64_t id)
{
	struct job **link = &s->jobs;

	while (*link && (*link)->id != id)
		link = &(*link)->next;
	if (*link)
		orphan(s, link);
}

void session_end(struct session *s)
{
	session_drop_forms(s);
	while (s->jobs)
		orphan(s, &s->jobs);
}

/* ---- GENERATE and SCORE ---- */

int session_check(const struct session *s, uint64_t id, struct err *err)
{
	bool open = false;

	for (const struct job *j = s->jobs; j; j = j->next)
		open |= j->id == id;
	for (const struct pending *p = s->pending; p; p = p->next)
		open |= p->ask.id == id;
	if (open)
		return err_set(err, SLUICE_E_DUPLICATE_ID, "request %llu is still open",
			       (unsigned long long)id);
	if (s->n_jobs >= SERVE_MAX_REQUESTS)
		return err_set(err, SLUICE_E_BUSY, "a connection may have %d open requests",
			       SERVE_MAX_REQUESTS);
	return 0;
}

/* Takes @ids over. */
static int begin(struct session *s, const struct ask *ask, uint32_t *ids, uint32_t n,
		 struct event *ret, struct err *err)
{
	struct job *j;
	int code = job_create(s->serve, ask, ids, n, &j, err);

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

/* The answer of an ask whose form is being compiled: none yet. */
#define LATER (-1)

static bool copy_to(const void **from, size_t bytes, void **owned)
{
	if (!*from || !bytes)
		return true;
	*owned = malloc(bytes);
	if (*owned)
		memcpy(*owned, *from, bytes);
	*from = *owned;
	return *owned;
}

/* The thought that the prompt begins with the answer, or that its template lets come. */
static enum before before_of(const struct serve *s, const struct ask *ask, const uint32_t *ids,
			     uint32_t n)
{
	uint32_t last = n < 8 ? n : 8;
	enum before before = BEFORE_NOTHING;
	size_t bytes = 0;
	char *text = NULL;

	if (!ask->chat || prompt_decode(s, ids + n - last, last, true, &text, &bytes))
		return before;
	before = forms_before(s->config.chat, text, bytes);
	free(text);
	return before;
}

static int submit_form(struct session *s, const struct ask *ask, uint32_t *ids, uint32_t n,
		       struct err *err)
{
	struct pending *p = calloc(1, sizeof(*p));
	int rc = -ENOMEM;
	size_t map = ask->sampling.dry_breaks ? (s->serve->config.model->n_vocab + 7) / 8 : 0;
	const struct form_text what = { .form = ask->form,
					.strict = ask->form_strict,
					.text = (const char *)ask->form_text,
					.n = ask->form_bytes,
					.before = before_of(s->serve, ask, ids, n),
					.tenant = ask->tenant };

	if (!p) {
		free(ids);
		return SLUICE_E_NO_MEMORY;
	}
	p->ask = *ask;
	p->ask.data = p->ask.form_text = NULL;
	p->ids = ids;
	p->n = n;
	if (copy_to((const void **)&p->ask.draft, ask->n_draft * sizeof(uint32_t), &p->owned[0]) &&
	    copy_to((const void **)&p->ask.sampling.bias,
		    ask->sampling.n_bias * sizeof(*ask->sampling.bias), &p->owned[1]) &&
	    copy_to((const void **)&p->ask.sampling.dry_breaks, map, &p->owned[2]))
		rc = forms_begin(s->serve->forms, &what, &p->task, err);
	if (rc) {
		pending_free(p);
		return rc == -EBUSY ? SLUICE_E_BUSY : SLUICE_E_NO_MEMORY;
	}
	p->next = s->pending;
	s->pending = p;
	s->n_jobs++;
	return LATER;
}

static int on_request(struct session *s, const struct ask *ask, struct event *ret, struct err *err)
{
	uint32_t *ids = NULL, n = 0;
	int code = session_check(s, ask->id, err);

	if (!code)
		code = prompt_encode(s->serve, ask, &ids, &n, err);
	if (code)
		return code;
	if (ask->kind == ASK_GENERATE && ask->form != FORM_FREE)
		return submit_form(s, ask, ids, n, err);
	return begin(s, ask, ids, n, ret, err);
}

static int form_code(int rc)
{
	return rc == -ENOTSUP	  ? SLUICE_E_UNSUPPORTED
	       : rc == -ENOMEM	  ? SLUICE_E_NO_MEMORY
	       : rc == -ECANCELED ? SLUICE_E_SHUTDOWN
	       : rc == -E2BIG	  ? SLUICE_E_TOO_LARGE
				  : SLUICE_E_INVALID;
}

/* A request whose form is there begins, or is refused; false: none is. */
static bool next_pending(struct session *s, struct event *ret)
{
	struct pending **link = &s->pending, *p;
	struct err err = { 0 };
	int code;

	while ((p = *link) && !forms_is_done(p->task))
		link = &p->next;
	if (!p)
		return false;
	*link = p->next;
	s->n_jobs--;
	*ret = (struct event){ .id = p->ask.id };
	code = forms_take(p->task, &p->ask.constraint, &err);
	if (code && !p->ask.cancelled) {
		if (code == -ECANCELED)
			err_clear(&err);
		code = form_code(code);
	} else {
		code = begin(s, &p->ask, p->ids, p->n, ret, &err);
		p->ids = NULL;
	}
	if (code)
		event_refuse(ret, p->ask.id, code, &err);
	constraint_put(p->ask.constraint);
	pending_free(p);
	return true;
}

static void cancel(struct session *s, uint64_t id)
{
	for (struct job *j = s->jobs; j; j = j->next)
		if (j->id == id)
			atomic_store_explicit(&j->req.cancel, true, memory_order_relaxed);
	for (struct pending *p = s->pending; p; p = p->next)
		if (p->ask.id == id) {
			p->ask.cancelled = true;
			forms_cut(p->task);
		}
}

void session_cut_forms(struct session *s)
{
	for (struct pending *p = s->pending; p; p = p->next)
		forms_cut(p->task);
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
	if (code == LATER)
		return false;
	if (code)
		event_refuse(ret, ask->id, code, &err);
	return true;
}

/* ---- what comes back later ---- */

bool session_next(struct session *s, struct event *ret)
{
	struct job *first = s->turn ? s->turn : s->jobs, *j = first;

	if (next_pending(s, ret))
		return true;
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
