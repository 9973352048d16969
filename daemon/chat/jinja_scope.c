/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_scope.c: which names a scope hides from its beginning.
 *
 * Jinja2 decides before it renders where a name lives. A name that a scope sets before it reads it,
 * and that no scope around it knows, is a variable of that scope from the start: what is nested in it
 * and runs before the assignment finds it undefined, also where the caller gave a variable of that
 * name. Lookup at run time (jinja_eval.c) gives everything else of those rules; the names found here
 * are put into the scope, undefined, when it begins. Called once, after parsing. See jinja.h.
 */
#include "chat/jinja_syntax.h"

enum origin { NOT_KNOWN, HERE, OUTSIDE }; /* HERE: undefined until it is set */

struct known {
	const struct jstr *name;
	enum origin origin;
	bool stored;
};

/* What Jinja2 calls the symbols of a frame. */
struct symbols {
	struct symbols *parent;
	struct known *v;
	size_t n, cap;
};

static struct known *find(struct jinja *j, struct symbols *s, const struct jstr *name)
{
	jinja_charge(j, s->n / 16);
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].name == name)
			return &s->v[i];
	return NULL;
}

static bool known_outside(struct jinja *j, struct symbols *s, const struct jstr *name)
{
	for (s = s->parent; s; s = s->parent)
		if (find(j, s, name))
			return true;
	return false;
}

static struct known *add(struct jinja *j, struct symbols *s, const struct jstr *name,
			 enum origin origin)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 8;

		s->v = jinja_grow(j, s->v, s->cap * sizeof(*s->v), cap * sizeof(*s->v));
		s->cap = cap;
	}
	s->v[s->n] = (struct known){ name, origin, false };
	return &s->v[s->n++];
}

static void load(struct jinja *j, struct symbols *s, const struct jstr *name)
{
	if (!find(j, s, name) && !known_outside(j, s, name))
		add(j, s, name, OUTSIDE);
}

static void store(struct jinja *j, struct symbols *s, const struct jstr *name)
{
	struct known *k = find(j, s, name);

	if (!k)
		k = add(j, s, name, known_outside(j, s, name) ? OUTSIDE : HERE);
	k->stored = true;
}

/* A parameter, or the item of a loop: has its value when the scope begins. */
static void declare(struct jinja *j, struct symbols *s, const struct jnode *target)
{
	struct known *k;

	if (target->op == N_TUPLE) {
		for (unsigned i = 0; i < target->n; i++)
			declare(j, s, target->kid[i]);
		return;
	}
	k = find(j, s, target->name);
	k = k ? k : add(j, s, target->name, OUTSIDE);
	k->origin = OUTSIDE;
	k->stored = true;
}

static void visit(struct jinja *j, struct symbols *s, const struct jnode *n);

static void visit_target(struct jinja *j, struct symbols *s, const struct jnode *n)
{
	if (n->op == N_NAME)
		store(j, s, n->name);
	else if (n->op == N_NSREF)
		load(j, s, n->name);
	for (unsigned i = 0; n->op == N_TUPLE && i < n->n; i++)
		visit_target(j, s, n->kid[i]);
}

static struct symbols copy_of(struct jinja *j, const struct symbols *s)
{
	struct symbols copy = *s;

	jinja_charge(j, s->n);
	copy.v = jinja_alloc(j, s->n * sizeof(*s->v) + 1);
	if (s->n)
		memcpy(copy.v, s->v, s->n * sizeof(*s->v));
	copy.cap = s->n;
	return copy;
}

/*
 * After a condition: a name that only some of the three branches (then, all elif, else) set is looked
 * up outside where they do not; one that all of them set keeps what the last says.
 */
static void merge(struct jinja *j, struct symbols *s, struct symbols branch[3])
{
	struct symbols before = copy_of(j, s);

	for (unsigned b = 0; b < 3; b++)
		for (size_t i = 0; i < branch[b].n; i++) {
			const struct known *from = &branch[b].v[i];
			struct known *to = find(j, s, from->name);

			to = to ? to : add(j, s, from->name, from->origin);
			to->origin = from->origin;
			to->stored |= from->stored;
		}
	for (size_t i = 0; i < s->n; i++) {
		const struct known *was = find(j, &before, s->v[i].name);
		unsigned stored = 0;

		if (!s->v[i].stored || (was && was->stored))
			continue;
		for (unsigned b = 0; b < 3; b++) {
			const struct known *k = find(j, &branch[b], s->v[i].name);

			stored += k && k->stored;
		}
		if (stored < 3)
			s->v[i].origin = OUTSIDE;
	}
}

/* Of the tests and bodies of @n from @at on; @all: with what follows as elif and else. */
static void visit_if(struct jinja *j, struct symbols *s, const struct jnode *n, unsigned at,
		     bool all)
{
	unsigned tests = n->flag ? n->n - 1 : n->n;
	struct symbols branch[3];

	visit(j, s, n->kid[at]);
	for (unsigned b = 0; b < 3; b++)
		branch[b] = copy_of(j, s);
	visit(j, &branch[0], n->kid[at + 1]);
	for (unsigned i = at + 2; all && i + 1 < tests; i += 2)
		visit_if(j, &branch[1], n, i, false);
	if (all && n->flag)
		visit(j, &branch[2], n->kid[n->n - 1]);
	merge(j, s, branch);
}

static void visit_all(struct jinja *j, struct symbols *s, const struct jnode *n)
{
	for (unsigned i = 0; i < n->n; i++)
		visit(j, s, n->kid[i]);
}

static void visit(struct jinja *j, struct symbols *s, const struct jnode *n)
{
	if (!n)
		return;
	jinja_enter(j);
	switch ((enum jop)n->op) {
	case N_NAME:
		load(j, s, n->name);
		break;
	case N_IF:
		visit_if(j, s, n, 0, true);
		break;
	case N_MACRO:
		store(j, s, n->name);
		break;
	case N_SET:
		visit(j, s, n->kid[1]);
		visit_target(j, s, n->kid[0]);
		break;
	case N_SET_BLOCK:
		visit_target(j, s, n->kid[0]);
		break;
	case N_FOR:
		visit(j, s, n->kid[1]);
		break;
	case N_CALL:
	case N_FILTER_BLOCK:
		visit(j, s, n->kid[0]);
		break;
	case N_WITH:
		for (unsigned i = 2; i < n->n; i += 2)
			visit(j, s, n->kid[i]);
		break;
	case N_BLOCK:
	case N_SCOPE:
		break;
	default:
		visit_all(j, s, n);
	}
	j->depth--;
}

/* ---- the scopes within each other ---- */

static void scopes_in(struct jinja *j, struct jnode *n, struct symbols *s);

static const struct jstr **hidden_of(struct jinja *j, const struct symbols *s)
{
	const struct jstr **names;
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		n += s->v[i].origin == HERE;
	if (!n)
		return NULL;
	names = jinja_alloc(j, (n + 1) * sizeof(*names));
	n = 0;
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].origin == HERE)
			names[n++] = s->v[i].name;
	return names;
}

/* A scope of @body, whose parameters @s has already. */
static const struct jstr **one_scope(struct jinja *j, struct jnode *body, struct symbols *s)
{
	visit(j, s, body);
	scopes_in(j, body, s);
	return hidden_of(j, s);
}

static void for_scopes(struct jinja *j, struct jnode *n, struct symbols *outer)
{
	struct symbols body = { .parent = outer }, other = { .parent = outer };
	const struct jnode loop = { .op = N_NAME, .name = jinja_intern(j, "loop", 4) };

	declare(j, &body, n->kid[0]);
	declare(j, &body, &loop);
	n->hidden = one_scope(j, n->kid[3], &body);
	if (n->kid[4])
		n->hidden_else = one_scope(j, n->kid[4], &other);
}

static void macro_scope(struct jinja *j, struct jnode *n, unsigned body, struct symbols *outer)
{
	struct symbols s = { .parent = outer };

	for (unsigned i = body + 1; i < n->n; i++) {
		declare(j, &s, n->kid[i]);
		visit_all(j, &s, n->kid[i]); /* defaults */
	}
	n->hidden = one_scope(j, n->kid[body], &s);
}

static void scopes_in(struct jinja *j, struct jnode *n, struct symbols *s)
{
	struct symbols inner = { .parent = s };

	if (!n)
		return;
	jinja_enter(j);
	switch ((enum jop)n->op) {
	case N_BODY:
	case N_IF:
		for (unsigned i = 0; i < n->n; i++)
			scopes_in(j, n->kid[i], s);
		break;
	case N_FOR:
		for_scopes(j, n, s);
		break;
	case N_MACRO:
		macro_scope(j, n, 0, s);
		break;
	case N_CALL:
		macro_scope(j, n, 1, s);
		break;
	case N_WITH:
		for (unsigned i = 1; i < n->n; i += 2)
			declare(j, &inner, n->kid[i]);
		n->hidden = one_scope(j, n->kid[0], &inner);
		break;
	case N_SET_BLOCK:
		n->hidden = one_scope(j, n->kid[2], &inner);
		break;
	case N_FILTER_BLOCK:
		n->hidden = one_scope(j, n->kid[1], &inner);
		break;
	case N_BLOCK:
		inner.parent = n->flag ? s : NULL;
		n->hidden = one_scope(j, n->kid[0], &inner);
		break;
	case N_SCOPE:
		n->hidden = one_scope(j, n->kid[0], &inner);
		break;
	default:
		break;
	}
	j->depth--;
}

void jinja_scopes(struct jinja *j, struct jnode *root)
{
	struct symbols s = { 0 };

	root->hidden = one_scope(j, root, &s);
}
