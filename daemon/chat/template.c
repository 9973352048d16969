/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/template.c: a template compiled, and rendered with variables. The one place where a
 * failure of the interpreter (jinja_fail) lands. See template.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/jsonc.h"
#include "base/utf8.h"
#include "chat/jinja_run.h"

#define MAX_SOURCE (4u << 20)

struct template
{
	struct jinja j; /* what it was compiled with: its arena holds tokens and nodes */
	const struct jnode *root;
};

static int check_utf8(const char *source, size_t len, struct err *err)
{
	unsigned line = 1;
	uint32_t cp;

	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_decode((const uint8_t *)source + i, len - i, &cp);
		if (!n)
			return err_set(err, -EINVAL,
				       "line %u of the chat template: not valid UTF-8", line);
		line += cp == '\n';
	}
	return 0;
}

static void compile(struct template *t, const char *source, size_t len)
{
	struct jnode *root;

	jinja_lex(&t->j, source, len);
	root = jinja_parse(&t->j);
	jinja_scopes(&t->j, root);
	t->root = root;
	t->j.tokens = NULL;
}

int template_compile(const char *source, size_t len, struct template **ret, struct err *err)
{
	struct template *t;
	int rc;

	if (len > MAX_SOURCE)
		return err_set(err, -EFBIG, "the chat template has %zu bytes; at most %u are read",
			       len, MAX_SOURCE);
	rc = check_utf8(source, len, err);
	if (rc)
		return rc;
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(err, -ENOMEM, "out of memory for the chat template");
	jinja_init(&t->j, NULL);
	if (!setjmp(t->j.on_fail)) {
		compile(t, source, len);
		*ret = t;
		return 0;
	}
	rc = err_set(err, t->j.code, "%s", t->j.err.text);
	template_destroy(t);
	return rc;
}

void template_destroy(struct template *t)
{
	if (!t)
		return;
	jinja_fini(&t->j);
	free(t);
}

/* ---- rendering ---- */

static bool is_trusted(const struct template_options *o, const char *name)
{
	for (unsigned i = 0; o && o->trusted && o->trusted[i]; i++)
		if (!strcmp(o->trusted[i], name))
			return true;
	return false;
}

/* A name as the program interned it. */
static const struct jstr *known(struct jinja *j, const struct jinja *program, const char *name)
{
	struct jv *found = program->names ? jdict_text(j, program->names, name) : NULL;

	return found ? found->s : NULL;
}

/* Those that the program mentions: no other can be asked for, and a client may send many and large ones. */
static void take_vars(struct jinja *j, const struct jinja *program, struct json_object *vars,
		      const struct template_options *o)
{
	j->vars = jdict_new(j);
	if (!vars)
		return;
	json_object_object_foreach(vars, key, value) if (known(j, program, key))
		jdict_set(j, j->vars, jv_str(jstr_new(j, key, strlen(key), false)),
			  jv_from_json(j, value, is_trusted(o, key)));
}

/* The spans of trusted bytes of @s. 0 or -ENOMEM. */
static int take_spans(const struct jstr *s, struct rendered *r)
{
	size_t n = 0;

	if (!s->mark) {
		r->trusted = malloc(sizeof(*r->trusted));
		if (!r->trusted)
			return -ENOMEM;
		r->trusted[0] = (struct text_span){ 0, s->n };
		r->n_trusted = s->trusted && s->n;
		return 0;
	}
	for (size_t i = 0; i < s->n; i++)
		n += s->mark[i] && (!i || !s->mark[i - 1]);
	r->trusted = malloc((n + 1) * sizeof(*r->trusted));
	if (!r->trusted)
		return -ENOMEM;
	for (size_t i = 0; i < s->n; i++) {
		if (!s->mark[i])
			continue;
		if (!i || !s->mark[i - 1])
			r->trusted[r->n_trusted++].begin = i;
		r->trusted[r->n_trusted - 1].end = i + 1;
	}
	return 0;
}

static int take_text(struct jinja *j, const struct jstr *s, struct rendered *ret)
{
	struct rendered r = { .n = s->n };

	r.text = malloc(s->n + 1);
	if (!r.text || take_spans(s, &r)) {
		rendered_done(&r);
		return err_set(&j->err, -ENOMEM, "out of memory for the text of a chat");
	}
	if (s->n)
		memcpy(r.text, s->p, s->n);
	r.text[s->n] = '\0';
	*ret = r;
	return 0;
}

static void run(struct jinja *j, const struct template *t, struct json_object *vars,
		const struct template_options *o, struct jbuf *out)
{
	take_vars(j, &t->j, vars, o);
	j->program = &t->j;
	j->root = t->root;
	j->loop = known(j, &t->j, "loop");
	j->caller = known(j, &t->j, "caller");
	j->varargs = known(j, &t->j, "varargs");
	j->kwargs = known(j, &t->j, "kwargs");
	j->top = scope_new(j, NULL, t->root->hidden);
	jbuf_init(out, j);
	j->out = out;
	jinja_exec(j, t->root, j->top);
}

int template_render(const struct template *t, struct json_object *vars,
		    const struct template_options *o, struct rendered *ret,
		    struct template_error *err)
{
	struct jinja *j = malloc(sizeof(*j));
	struct jbuf out;
	struct tm now;
	time_t clock = time(NULL);
	int rc;

	if (!j)
		return err_set(&err->err, -ENOMEM, "out of memory for the text of a chat");
	jinja_init(j, o ? &o->limits : NULL);
	localtime_r(&clock, &now);
	j->now = o && o->now ? o->now : &now;
	if (!setjmp(j->on_fail)) {
		run(j, t, vars, o, &out);
		rc = take_text(j, jbuf_done(j->out), ret);
	} else {
		rc = j->code;
	}
	if (rc) {
		err_set(&err->err, rc, "%s", j->err.text);
		err->raised = j->raised;
	}
	jinja_fini(j);
	free(j);
	return rc;
}
