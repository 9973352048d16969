/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_call.c: arguments, and the functions that every template has: range, dict,
 * namespace, cycler, joiner, raise_exception, strftime_now. lipsum is refused. See jinja.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "chat/jinja_run.h"

#define MAX_RANGE 100000 /* Jinja2's sandbox */

struct jstr *jarg_str(struct jinja *j, const struct jv *v, const char *what)
{
	if (v->type == J_UNDEF)
		jv_fail_undefined(j, v);
	if (v->type != J_STR)
		jinja_fail(j, -EINVAL, "%s must be a text, not a value of type %s", what,
			   jv_type_name(v));
	return v->s;
}

jint jarg_int(struct jinja *j, const struct jv *v, const char *what)
{
	if (v->type == J_UNDEF)
		jv_fail_undefined(j, v);
	if (v->type != J_INT && v->type != J_BOOL)
		jinja_fail(j, -EINVAL, "%s must be an integer, not a value of type %s", what,
			   jv_type_name(v));
	return jv_as_int(v);
}

/* The next name of a spec: its length; moves past it and what separates it. */
static size_t next_name(const char **spec, const char **ret_name, bool *optional)
{
	size_t n;

	if (**spec == '/') {
		*optional = true;
		(*spec)++;
	}
	n = strcspn(*spec, ",/");
	*ret_name = *spec;
	*spec += n;
	if (**spec == ',')
		(*spec)++;
	return n;
}

void jargs_bind(struct jinja *j, const struct jargs *a, const char *what, const char *spec,
		struct jv *out)
{
	size_t used = 0, i = 0;
	bool optional = false;
	const char *name;

	for (; *spec; i++) {
		size_t n = next_name(&spec, &name, &optional);

		if (!n && !*spec)
			break;
		out[i] = JV_MISSING;
		if (i < a->n)
			out[i] = a->v[i];
		for (size_t k = 0; k < a->n_kw; k++) {
			const struct jstr *key = a->kw[k].name;

			if (*name == '-' || key->n != n || memcmp(key->p, name, n))
				continue;
			if (i < a->n)
				jinja_fail(j, -EINVAL, "%s: '%.*s' is given twice", what, (int)n,
					   name);
			out[i] = a->kw[k].value;
			used++;
		}
		if (out[i].type == J_MISSING && !optional)
			jinja_fail(j, -EINVAL, "%s: an argument is missing", what);
	}
	if (a->n > i)
		jinja_fail(j, -EINVAL, "%s: takes %zu arguments, not %zu", what, i, a->n);
	if (a->n_kw > used)
		jinja_fail(j, -EINVAL, "%s: an argument has a name that is not known", what);
}

/* ---- functions ---- */

static struct jv call_range(struct jinja *j, const struct jargs *a)
{
	struct jrange *r = jinja_alloc(j, sizeof(*r));
	struct jv arg[3];
	jint n;

	jargs_bind(j, a, "range", "-/-,-", arg);
	r->stop = jarg_int(j, &arg[0], "a bound of range()");
	r->step = 1;
	if (arg[1].type != J_MISSING) {
		r->start = r->stop;
		r->stop = jarg_int(j, &arg[1], "a bound of range()");
	}
	if (arg[2].type != J_MISSING)
		r->step = jarg_int(j, &arg[2], "the step of range()");
	if (!r->step)
		jinja_fail(j, -EINVAL, "range(): the step is 0");
	if (r->start > INT64_MAX || r->start < INT64_MIN || r->stop > INT64_MAX ||
	    r->stop < INT64_MIN || r->step > INT64_MAX || r->step < INT64_MIN)
		jinja_fail(j, -EINVAL, "range(): a number is too large");
	n = r->step > 0 ? (r->stop - r->start + r->step - 1) / r->step
			: (r->start - r->stop - r->step - 1) / -r->step;
	if (n > MAX_RANGE)
		jinja_fail(j, -EINVAL, "range(): more than %d numbers", MAX_RANGE);
	r->n = n > 0 ? (size_t)n : 0;
	return (struct jv){ .type = J_RANGE, .range = r };
}

/* dict() and namespace(): a dict or pairs, then keywords. */
static struct jdict *make_dict(struct jinja *j, const struct jargs *a)
{
	struct jdict *d = jdict_new(j);
	struct jcursor c;
	struct jv item;

	if (a->n > 1)
		jinja_fail(j, -EINVAL, "dict() and namespace() take one value and keywords");
	if (a->n && a->v[0].type == J_DICT) {
		for (size_t i = 0; i < a->v[0].d->n; i++)
			jdict_set(j, d, a->v[0].d->v[i].key, a->v[0].d->v[i].value);
	} else if (a->n) {
		jcursor_init(j, &c, &a->v[0]);
		while (jcursor_next(j, &c, &item)) {
			struct jlist *pair = jv_to_list(j, &item);

			if (pair->n != 2)
				jinja_fail(j, -EINVAL, "dict(): an item is no pair");
			jdict_set(j, d, pair->v[0], pair->v[1]);
		}
	}
	for (size_t i = 0; i < a->n_kw; i++)
		jdict_set(j, d, jv_str((struct jstr *)a->kw[i].name), a->kw[i].value);
	return d;
}

static struct jv call_dict(struct jinja *j, const struct jargs *a)
{
	return jv_dict(make_dict(j, a));
}

static struct jv call_namespace(struct jinja *j, const struct jargs *a)
{
	for (size_t i = 0; i < a->n_kw; i++)
		if (a->kw[i].name->n && a->kw[i].name->p[0] == '_')
			jinja_fail(j, -EINVAL, "an attribute that begins with _ cannot be set");
	return (struct jv){ .type = J_NAMESPACE, .d = make_dict(j, a) };
}

static struct jv call_cycler(struct jinja *j, const struct jargs *a)
{
	struct jcycler *c = jinja_alloc(j, sizeof(*c));

	if (!a->n || a->n_kw)
		jinja_fail(j, -EINVAL, "cycler() takes what it goes through");
	c->items = jlist_new(j, a->n);
	for (size_t i = 0; i < a->n; i++)
		jlist_add(j, c->items, a->v[i]);
	return (struct jv){ .type = J_CYCLER, .cycler = c };
}

static struct jv call_joiner(struct jinja *j, const struct jargs *a)
{
	struct jjoiner *n = jinja_alloc(j, sizeof(*n));

	jargs_bind(j, a, "joiner", "/sep", &n->sep);
	if (n->sep.type == J_MISSING)
		n->sep = jv_text(j, ", ");
	return (struct jv){ .type = J_JOINER, .joiner = n };
}

static struct jv call_raise(struct jinja *j, const struct jargs *a)
{
	struct jv message;
	struct jstr *s;

	jargs_bind(j, a, "raise_exception", "message", &message);
	s = message.type == J_NONE ? jv_text(j, "None").s : jv_to_str(j, &message);
	j->raised = true;
	jinja_fail(j, -EINVAL, "%.*s",
		   (int)(s->n < sizeof(j->err.text) ? s->n : sizeof(j->err.text)), s->p);
}

static struct jv call_strftime(struct jinja *j, const struct jargs *a)
{
	char format[512], out[4096];
	struct jv arg;
	size_t n;

	jargs_bind(j, a, "strftime_now", "format", &arg);
	jarg_str(j, &arg, "a format of dates");
	if (arg.s->n + 2 > sizeof(format) || memchr(arg.s->p, '\0', arg.s->n))
		jinja_fail(j, -EINVAL, "strftime_now(): the format is too long");
	if (arg.s->n)
		memcpy(format, arg.s->p, arg.s->n);
	memcpy(format + arg.s->n, " ", 2); /* so that an empty result is told from a failure */
	for (char *p = strchr(format, '%'); p; p = strchr(p, '%')) {
		if (p[1] == 'z' || p[1] == 'Z') /* the clock has no zone */
			memmove(p, p + 2, strlen(p + 2) + 1);
		else
			p += p[1] ? 2 : 1;
	}
	n = strftime(out, sizeof(out), format, j->now);
	if (!n)
		jinja_fail(j, -EINVAL, "strftime_now(): the date is too long");
	return jv_str(jstr_copy(j, out, n - 1, true));
}

static struct jv call_lipsum(struct jinja *j, const struct jargs *a)
{
	jinja_fail(j, -EINVAL, "lipsum() is not supported");
}

const struct jglobal *jinja_global(const struct jstr *name)
{
	static const struct jglobal all[] = {
		{ "range", call_range },	   { "dict", call_dict },
		{ "namespace", call_namespace },   { "cycler", call_cycler },
		{ "joiner", call_joiner },	   { "raise_exception", call_raise },
		{ "strftime_now", call_strftime }, { "lipsum", call_lipsum },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (jstr_is(name, all[i].name))
			return &all[i];
	return NULL;
}
