/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/forms.c: see forms.h. A task is held by the session that asked and by the thread; whoever
 * lets go last frees it.
 */
#include "serve/forms.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/jsonc.h"
#include "base/turns.h"
#include "base/utf8.h"
#include "chat/calls.h"
#include "chat/template.h"
#include "grammar/form_cache.h"
#include "grammar/grammar.h"
#include "grammar/stop.h"
#include "grammar/vocab.h"
#include "serve/private.h"

#define JSON_DEPTH 1000
#define MAX_BYTES  (64u << 20) /* of forms that wait or are being compiled */

struct form_task {
	struct form_task *next;
	struct forms *forms;
	_Atomic unsigned holders;
	_Atomic bool cut, done;
	struct form_text what;
	struct constraint *constraint;
	struct err err;
	int rc;
	char *text; /* what.n bytes and a NUL; NULL: compiled */
};

struct forms {
	struct serve *serve;
	pthread_mutex_t vocab_lock; /* held while it is made */
	struct vocab *vocab;
	struct form_cache *cache;
	pthread_mutex_t lock;
	pthread_cond_t come;
	pthread_t thread;
	bool running, stop;
	struct form_task *first, **last; /* to do */
	size_t bytes;			 /* theirs, and of what is being compiled */
	struct form_task *now;
};

int forms_create(struct serve *s, size_t kept_bytes, struct forms **ret)
{
	struct forms *f = calloc(1, sizeof(*f));

	if (!f || form_cache_create(kept_bytes, &f->cache)) {
		free(f);
		return -ENOMEM;
	}
	f->serve = s;
	f->last = &f->first;
	pthread_mutex_init(&f->vocab_lock, NULL);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->come, NULL);
	*ret = f;
	return 0;
}

static void let_go(struct form_task *t)
{
	/* the last one sees what the other did before it let go */
	if (atomic_fetch_sub_explicit(&t->holders, 1, memory_order_acq_rel) != 1)
		return;
	constraint_put(t->constraint);
	free(t->text);
	free(t);
}

void forms_destroy(struct forms *f)
{
	struct form_task *t;

	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	if (f->now)
		forms_cut(f->now);
	pthread_cond_signal(&f->come);
	pthread_mutex_unlock(&f->lock);
	if (f->running)
		pthread_join(f->thread, NULL);
	while ((t = f->first)) {
		f->first = t->next;
		let_go(t);
	}
	form_cache_destroy(f->cache);
	vocab_destroy(f->vocab);
	pthread_cond_destroy(&f->come);
	pthread_mutex_destroy(&f->lock);
	pthread_mutex_destroy(&f->vocab_lock);
	free(f);
}

/* Of the daemon's model; @f holds it. 0, -ENOMEM, or as @stop says. */
static int vocab_of(struct forms *f, const struct grammar_stop *stop, struct vocab **ret)
{
	int rc = 0;

	pthread_mutex_lock(&f->vocab_lock);
	if (!f->vocab)
		rc = vocab_of_tokenizer(f->serve->config.tokenizer, stop, &f->vocab);
	*ret = f->vocab;
	pthread_mutex_unlock(&f->vocab_lock);
	return rc;
}

int forms_compile(struct forms *f, uint64_t tenant, const struct constraint_ask *ask,
		  struct constraint **ret, struct err *err)
{
	struct vocab *v = NULL;
	int rc = vocab_of(f, ask->stop, &v);

	return rc ? rc : form_cache_get(f->cache, tenant, ask, v, ret, err);
}

int forms_matcher(struct forms *f, const struct constraint *c, struct matcher **ret)
{
	return form_cache_matcher(f->cache, c, ret);
}

void forms_give_back(struct forms *f, const struct constraint *c, struct matcher *m)
{
	form_cache_give_back(f->cache, c, m);
}

void forms_get_counts(struct forms *f, struct form_cache_counts *ret)
{
	form_cache_get_counts(f->cache, ret);
}

/* ---- what comes before ---- */

/* Does the prompt end, but for white space, with these words? */
static bool ends_with(const char *text, size_t n, const char *words)
{
	size_t len = strlen(words);

	while (n && strchr(" \n\r\t", text[n - 1]) && text[n - 1])
		n--;
	return n >= len && !memcmp(text + n - len, words, len);
}

enum before forms_before(const struct chat_template *chat, const char *prompt, size_t n)
{
	size_t len = 0;
	const char *source = chat ? chat_template_source(chat, &len) : NULL;
	bool told;

	if (source && calls_format_of(source, len, &told) == CALLS_HARMONY && told)
		return BEFORE_CHANNELS;
	if (ends_with(prompt, n, "<think>"))
		return BEFORE_THINKING;
	if (!source || ends_with(prompt, n, "</think>") || !memmem(source, len, "</think>", 8))
		return BEFORE_NOTHING;
	return BEFORE_MAY_THINK;
}

/* ---- the thread ---- */

static int parse_schema(struct form_task *t, struct json_object **ret)
{
	size_t valid = utf8_valid(t->text, t->what.n), at;
	const char *why;
	int rc;

	if (valid < t->what.n)
		return err_set(&t->err, -EINVAL, "the schema is not valid UTF-8, at byte %zu",
			       valid);
	rc = jsonc_parse(t->text, t->what.n, JSON_DEPTH, ret, &at, &why);
	return rc ? err_set(&t->err, rc, "the schema is no JSON: %s, near byte %zu", why, at) : 0;
}

static void compile(struct forms *f, struct form_task *t)
{
	struct grammar_stop stop = { &t->cut, now_ns() + GRAMMAR_MAX_NS };
	struct constraint_ask ask = { .form = t->what.form,
				      .strict = t->what.strict,
				      .text = t->text,
				      .n = t->what.n,
				      .before = t->what.before,
				      .call_form = CALL_UNKNOWN,
				      .stop = &stop };

	t->rc = stop_now(&stop);
	if (!t->rc && ask.form == FORM_SCHEMA)
		t->rc = parse_schema(t, &ask.schema);
	if (!t->rc)
		t->rc = forms_compile(f, t->what.tenant, &ask, &t->constraint, &t->err);
	grammar_say(t->rc, &t->err);
	json_object_put(ask.schema);
}

static void *run(void *arg)
{
	struct forms *f = arg;

	/* the loop, which it was started from, may come before those that compute; this need not */
	setpriority(PRIO_PROCESS, 0, f->serve->nice);
	turns_short(false);
	pthread_mutex_lock(&f->lock);
	for (;;) {
		struct form_task *t;

		while (!f->first && !f->stop)
			pthread_cond_wait(&f->come, &f->lock);
		if (f->stop)
			break;
		t = f->now = f->first;
		f->first = t->next;
		if (!f->first)
			f->last = &f->first;
		pthread_mutex_unlock(&f->lock);
		compile(f, t);
		free(t->text);
		t->text = NULL;
		pthread_mutex_lock(&f->lock);
		f->now = NULL;
		f->bytes -= t->what.n;
		/* pairs with the acquire in forms_is_done() */
		atomic_store_explicit(&t->done, true, memory_order_release);
		let_go(t);
		serve_wake(f->serve);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* Room for @n bytes more? Only this thread makes them more. */
static bool has_room(struct forms *f, size_t n)
{
	bool room;

	pthread_mutex_lock(&f->lock);
	room = n <= MAX_BYTES && f->bytes <= MAX_BYTES - n;
	pthread_mutex_unlock(&f->lock);
	return room;
}

int forms_begin(struct forms *f, const struct form_text *what, struct form_task **ret,
		struct err *err)
{
	struct form_task *t;
	int rc;

	if (!has_room(f, what->n))
		return err_set(err, -EBUSY, "forms of %u MiB wait to be compiled: try again later",
			       MAX_BYTES >> 20);
	t = calloc(1, sizeof(*t));
	rc = t && (t->text = malloc(what->n + 1)) ? 0 : ENOMEM;
	if (!rc && !f->running)
		rc = pthread_create(&f->thread, NULL, run, f);
	if (rc) {
		free(t ? t->text : NULL);
		free(t);
		return -rc;
	}
	f->running = true;
	t->forms = f;
	t->what = *what;
	memcpy(t->text, what->text, what->n);
	t->text[what->n] = '\0';
	atomic_init(&t->holders, 2);
	pthread_mutex_lock(&f->lock);
	f->bytes += what->n;
	*f->last = t;
	f->last = &t->next;
	pthread_cond_signal(&f->come);
	pthread_mutex_unlock(&f->lock);
	*ret = t;
	return 0;
}

void forms_cut(struct form_task *t)
{
	atomic_store_explicit(&t->cut, true, memory_order_relaxed);
}

bool forms_is_done(const struct form_task *t)
{
	return atomic_load_explicit(&t->done, memory_order_acquire);
}

int forms_take(struct form_task *t, struct constraint **ret, struct err *err)
{
	int rc = t->rc;

	if (!rc)
		*ret = constraint_hold(t->constraint);
	else
		*err = t->err;
	let_go(t);
	return rc;
}

/* True: it waited, and the thread will not see it. */
static bool take_out(struct form_task *t)
{
	struct forms *f = t->forms;
	struct form_task **link = &f->first;
	bool found;

	pthread_mutex_lock(&f->lock);
	while (*link && *link != t)
		link = &(*link)->next;
	found = *link;
	if (found) {
		*link = t->next;
		if (f->last == &t->next)
			f->last = link;
		f->bytes -= t->what.n;
	}
	pthread_mutex_unlock(&f->lock);
	return found;
}

void forms_drop(struct form_task *t)
{
	forms_cut(t);
	if (take_out(t))
		let_go(t); /* for the thread */
	let_go(t);
}
