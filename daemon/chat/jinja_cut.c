/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_cut.c: methods that cut texts into lists and tuples, by Python's str. See jinja.h.
 */
#include <errno.h>

#include "chat/jinja_run.h"

static void add_part(struct jinja *j, struct jlist *l, const struct jstr *s, size_t from, size_t to)
{
	jlist_add(j, l, jv_str(jstr_slice(j, s, from, to)));
}

static bool is_space_at(const struct jstr *s, size_t at, unsigned *n)
{
	return unicode_is(unicode_at(s->p, at, s->n, n), CLASS_SPACE);
}

static void split_space(struct jinja *j, struct jlist *l, const struct jstr *s, jint most)
{
	size_t at = 0, from;
	unsigned n;

	for (;;) {
		while (at < s->n && is_space_at(s, at, &n))
			at += n;
		if (at == s->n)
			return;
		if (!most--) {
			add_part(j, l, s, at, s->n);
			return;
		}
		from = at;
		while (at < s->n && !is_space_at(s, at, &n))
			at += n;
		add_part(j, l, s, from, at);
	}
}

static void reverse(struct jlist *l)
{
	for (size_t i = 0; i < l->n / 2; i++) {
		struct jv v = l->v[i];

		l->v[i] = l->v[l->n - 1 - i];
		l->v[l->n - 1 - i] = v;
	}
}

static void rsplit_space(struct jinja *j, struct jlist *l, const struct jstr *s, jint most)
{
	size_t at = s->n, end;
	unsigned n;

	for (;;) {
		while (at > 0 && is_space_at(s, jstr_char_before(s, at), &n))
			at = jstr_char_before(s, at);
		if (!at)
			break;
		if (!most--) {
			add_part(j, l, s, 0, at);
			break;
		}
		end = at;
		while (at > 0 && !is_space_at(s, jstr_char_before(s, at), &n))
			at = jstr_char_before(s, at);
		add_part(j, l, s, at, end);
	}
	reverse(l);
}

static void split_text(struct jinja *j, struct jlist *l, const struct jstr *s,
		       const struct jstr *sep, jint most, bool right)
{
	size_t from = 0, to = s->n, at;

	while (most-- && (at = jstr_find(j, s, sep, from, to, right)) != SIZE_MAX) {
		if (right) {
			add_part(j, l, s, at + sep->n, to);
			to = at;
		} else {
			add_part(j, l, s, from, at);
			from = at + sep->n;
		}
	}
	add_part(j, l, s, from, to);
	if (right)
		reverse(l);
}

static struct jv split(struct jinja *j, struct jv self, const struct jargs *a, bool right)
{
	struct jlist *l = jlist_new(j, 0);
	jint most = -1;
	struct jv arg[2];

	jargs_bind(j, a, "split", "/sep,maxsplit", arg);
	if (arg[1].type != J_MISSING)
		most = jarg_int(j, &arg[1], "maxsplit");
	most = most < 0 ? -1 : most;
	if (arg[0].type == J_MISSING || arg[0].type == J_NONE) {
		if (right)
			rsplit_space(j, l, self.s, most);
		else
			split_space(j, l, self.s, most);
		return jv_list(l);
	}
	if (!jarg_str(j, &arg[0], "a separator")->n)
		jinja_fail(j, -EINVAL, "split(): the separator is empty");
	split_text(j, l, self.s, arg[0].s, most, right);
	return jv_list(l);
}

METHOD(split)
{
	return split(j, self, a, false);
}

METHOD(rsplit)
{
	return split(j, self, a, true);
}

/* Length of the line end at @at, or 0. */
static size_t line_end(const struct jstr *s, size_t at)
{
	unsigned n;
	uint32_t cp = unicode_at(s->p, at, s->n, &n);

	if (cp == '\r' && at + 1 < s->n && s->p[at + 1] == '\n')
		return 2;
	return (cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
			       cp == 0x2029
		       ? n
		       : 0;
}

METHOD(splitlines)
{
	struct jlist *l = jlist_new(j, 0);
	size_t from = 0, n;
	struct jv keep;

	jargs_bind(j, a, "splitlines", "/keepends", &keep);
	for (size_t i = 0; i < self.s->n;) {
		n = line_end(self.s, i);
		if (!n) {
			i++;
			continue;
		}
		add_part(j, l, self.s, from, jv_truth(j, &keep) ? i + n : i);
		i += n;
		from = i;
	}
	if (from < self.s->n)
		add_part(j, l, self.s, from, self.s->n);
	return jv_list(l);
}

static struct jv partition(struct jinja *j, struct jv self, const struct jargs *a, bool right)
{
	struct jlist *l = jlist_new(j, 3);
	struct jstr *s = self.s;
	struct jv arg;
	size_t at;

	jargs_bind(j, a, "partition", "-", &arg);
	if (!jarg_str(j, &arg, "a separator")->n)
		jinja_fail(j, -EINVAL, "partition(): the separator is empty");
	at = jstr_find(j, s, arg.s, 0, s->n, right);
	if (at == SIZE_MAX) {
		add_part(j, l, s, 0, right ? 0 : s->n);
		add_part(j, l, s, 0, 0);
		add_part(j, l, s, right ? 0 : s->n, s->n);
		return jv_tuple(l);
	}
	add_part(j, l, s, 0, at);
	add_part(j, l, s, at, at + arg.s->n);
	add_part(j, l, s, at + arg.s->n, s->n);
	return jv_tuple(l);
}

METHOD(partition)
{
	return partition(j, self, a, false);
}

METHOD(rpartition)
{
	return partition(j, self, a, true);
}

const struct jmethod_row *jstr_cutting(const struct jstr *name)
{
	static const struct jmethod_row rows[] = {
		METHOD_ROW(split),     METHOD_ROW(rsplit),     METHOD_ROW(splitlines),
		METHOD_ROW(partition), METHOD_ROW(rpartition),
	};

	return jmethod_named(rows, sizeof(rows) / sizeof(rows[0]), name);
}
