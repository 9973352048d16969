/* SPDX-License-Identifier: MIT */
/* daemon/engine/prefix_tree.c: see prefix_tree.h. What is forgotten first is in prefix_value.c. */
#include "engine/prefix_tree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/prefix_private.h"

int prefix_tree_create(const struct prefix_config *config, struct prefix_tree **ret)
{
	struct prefix_tree *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->c = *config;
	*ret = t;
	return 0;
}

void prefix_drop_point(struct prefix_tree *t, struct prefix_node *n, struct prefix_point *p)
{
	struct prefix_point **at = &n->points;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	for (uint32_t i = 0; i < t->c.state_pages; i++)
		page_drop(t->c.pages, p->pages[i]);
	t->n_points--;
	free(p);
}

void prefix_drop_node(struct prefix_tree *t, struct prefix_node *n)
{
	struct prefix_node **at = n->parent ? &n->parent->child : &n->root->child;

	assert(!n->child);
	while (n->points)
		prefix_drop_point(t, n, n->points);
	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	if (n->list_next)
		n->list_next->list_before = n->list_before;
	if (n->list_before)
		n->list_before->list_next = n->list_next;
	else
		t->nodes = n->list_next;
	if (n->page != PAGE_NONE)
		page_drop(t->c.pages, n->page);
	t->n_nodes--;
	free(n);
}

void prefix_tree_destroy(struct prefix_tree *t)
{
	struct prefix_root *next;

	if (!t)
		return;
	while (t->nodes) { /* leaves, from wherever the list begins */
		struct prefix_node *n = t->nodes;

		while (n->child)
			n = n->child;
		prefix_drop_node(t, n);
	}
	for (struct prefix_root *r = t->roots; r; r = next) {
		next = r->next;
		free(r);
	}
	free(t);
}

static struct prefix_root *find_root(struct prefix_tree *t, uint64_t tenant, bool make)
{
	struct prefix_root *r = t->roots;

	while (r && r->tenant != tenant)
		r = r->next;
	if (r || !make)
		return r;
	r = calloc(1, sizeof(*r));
	if (r) {
		r->tenant = tenant;
		r->next = t->roots;
		t->roots = r;
	}
	return r;
}

/* ---- looking up ---- */

/* How far what is asked for has been gone through: @off bytes into token @at. */
struct cursor {
	const uint32_t *ids;
	uint32_t n, at;
	size_t off;
	bool exact;
};

/* The same text with other cuts: the bytes of @token are those that follow. */
static bool same_text(const struct prefix_tree *t, struct cursor *c, uint32_t token)
{
	const char *want, *have;
	size_t n, m, part;

	if (t->c.piece(t->c.arg, token, &want, &n) || !n)
		return false;
	while (n) {
		if (c->at == c->n || t->c.piece(t->c.arg, c->ids[c->at], &have, &m) || !m)
			return false;
		part = m - c->off < n ? m - c->off : n;
		if (memcmp(have + c->off, want, part) != 0)
			return false;
		want += part;
		n -= part;
		c->off += part;
		if (c->off == m) {
			c->off = 0;
			c->at++;
		}
	}
	return true;
}

static bool go_on(const struct prefix_tree *t, struct cursor *c, uint32_t token)
{
	if (!c->off && c->at < c->n && c->ids[c->at] == token) {
		c->at++;
		return true;
	}
	return !c->exact && same_text(t, c, token);
}

static struct prefix_point *point_at(const struct prefix_node *n, uint32_t at)
{
	struct prefix_point *p = n->points;

	while (p && p->at != at)
		p = p->next;
	return p;
}

/* Goes through a node as far as it holds what is asked for; true: all of it does, and it is full. */
static bool go_through(struct prefix_tree *t, struct prefix_node *n, struct cursor *c,
		       struct prefix_match *best)
{
	for (uint32_t i = 0; i < n->n; i++) {
		struct prefix_point *p = NULL;

		if (!go_on(t, c, n->tokens[i]))
			return false;
		if (c->off || c->at >= c->n) /* within a token asked for, or none would be left */
			continue;
		best->fork = c->at > best->fork ? c->at : best->fork;
		if (t->c.state_pages && !(p = point_at(n, i + 1)))
			continue;
		if (c->at < best->n_asked)
			continue;
		best->node = n;
		best->point = p;
		best->n = n->depth * KV_BLOCK + i + 1;
		best->n_asked = c->at;
	}
	return n->n == KV_BLOCK;
}

/* A use: of the way to where it ends, and of the point there. */
static void use(struct prefix_tree *t, const struct prefix_match *m)
{
	for (struct prefix_node *n = m->node; n; n = n->parent) {
		n->used = t->now;
		n->hits++;
		for (struct prefix_point *p = n->points; p; p = p->next)
			if (p->kind == PREFIX_SYSTEM)
				p->used = t->now;
	}
	if (m->point) {
		m->point->used = t->now;
		m->point->hits++;
	}
}

void prefix_find(struct prefix_tree *t, uint64_t tenant, const uint32_t *ids, uint32_t n,
		 bool exact, struct prefix_match *ret)
{
	struct prefix_root *root = find_root(t, tenant, false);
	struct prefix_node *level = root ? root->child : NULL;
	struct cursor c = { .ids = ids, .n = n, .exact = exact }, next;

	*ret = (struct prefix_match){ 0 };
	t->now++;
	while (level) {
		struct prefix_node *down = NULL;

		for (struct prefix_node *k = level; k; k = k->next) {
			struct cursor here = c;

			/* of several that fit whole the one that was used last */
			if (go_through(t, k, &here, ret) && (!down || k->used > down->used)) {
				down = k;
				next = here;
			}
		}
		if (!down)
			break;
		level = down->child;
		c = next;
	}
	use(t, ret);
}

void prefix_get(const struct prefix_match *m, uint32_t *ids, uint32_t *pages)
{
	uint32_t end = m->n;

	for (const struct prefix_node *n = m->node; n && end; n = n->parent) {
		uint32_t first = n->depth * KV_BLOCK;

		if (ids)
			memcpy(ids + first, n->tokens, (end - first) * sizeof(*ids));
		if (pages)
			pages[n->depth] = n->page;
		end = first;
	}
}

const uint32_t *prefix_state(const struct prefix_match *m)
{
	return m->point->pages;
}

/* ---- adding ---- */

static bool begins_with(const struct prefix_node *n, const uint32_t *ids, uint32_t count)
{
	uint32_t both = n->n < count ? n->n : count;

	return !memcmp(n->tokens, ids, both * sizeof(*ids));
}

/* The node of a level for @count tokens: one that holds them or a part of them, or NULL. */
static struct prefix_node *node_for(struct prefix_node *level, const uint32_t *ids, uint32_t count)
{
	struct prefix_node *part = NULL;

	for (struct prefix_node *k = level; k; k = k->next) {
		if (!begins_with(k, ids, count))
			continue;
		if (k->n >= count)
			return k;
		part = k;
	}
	return part;
}

static struct prefix_node *new_node(struct prefix_tree *t, struct prefix_root *root,
				    struct prefix_node *parent)
{
	struct prefix_node *n = calloc(1, sizeof(*n)), **level;

	if (!n)
		return NULL;
	n->root = root;
	n->parent = parent;
	n->depth = parent ? parent->depth + 1 : 0;
	n->page = PAGE_NONE;
	level = parent ? &parent->child : &root->child;
	n->next = *level;
	*level = n;
	n->list_next = t->nodes;
	if (t->nodes)
		t->nodes->list_before = n;
	t->nodes = n;
	t->n_nodes++;
	return n;
}

/* @n becomes a node of @count tokens in @page, more than it had. */
static void grow(struct prefix_tree *t, struct prefix_node *n, const uint32_t *ids, uint32_t count,
		 uint32_t page)
{
	memcpy(n->tokens, ids, count * sizeof(*ids));
	n->n = count;
	if (!t->c.has_cache || page == n->page)
		return;
	/* the same keys and values up to where it ended: the longer page serves for both */
	page_hold(t->c.pages, page);
	if (n->page != PAGE_NONE)
		page_drop(t->c.pages, n->page);
	n->page = page;
}

int prefix_add(struct prefix_tree *t, uint64_t tenant, const uint32_t *ids, uint32_t n,
	       const uint32_t *pages, bool known)
{
	struct prefix_root *root = find_root(t, tenant, true);
	struct prefix_node *node = NULL, *found;

	if (!root)
		return -ENOMEM;
	for (uint32_t at = 0; at < n; at += KV_BLOCK) {
		uint32_t count = n - at < KV_BLOCK ? n - at : KV_BLOCK;

		found = node_for(node ? node->child : root->child, ids + at, count);
		if (!found)
			found = new_node(t, root, node);
		if (!found)
			return -ENOMEM;
		if (found->n < count)
			grow(t, found, ids + at, count, t->c.has_cache ? pages[at / KV_BLOCK] : 0);
		found->used = t->now;
		found->hits += known && !found->hits;
		node = found;
	}
	return 0;
}

/* The node in which the first @n of @ids end; they are there. */
static struct prefix_node *end_of(struct prefix_tree *t, uint64_t tenant, const uint32_t *ids,
				  uint32_t n)
{
	struct prefix_root *root = find_root(t, tenant, false);
	struct prefix_node *node = NULL;

	for (uint32_t at = 0; at < n && root; at += KV_BLOCK) {
		uint32_t count = n - at < KV_BLOCK ? n - at : KV_BLOCK;

		node = node_for(node ? node->child : root->child, ids + at, count);
		if (!node || node->n < count)
			return NULL;
	}
	return node;
}

/* Points of @kind before this one are no longer the newest. */
static void outdate(struct prefix_node *node, uint32_t at, enum prefix_kind kind)
{
	if (kind <= PREFIX_FORK || kind == PREFIX_SYSTEM)
		return;
	for (struct prefix_node *n = node; n; n = n->parent)
		for (struct prefix_point *p = n->points; p; p = p->next)
			if (p->kind == kind && (n != node || p->at < at)) {
				p->kind = PREFIX_OLD;
				p->hits = 0;
			}
}

/*
 * The point where the first @n of @ids end: one that is there, or a new one without pages (*ret_new).
 * -ENOSPC: a new one would find no room.
 */
static int make_point(struct prefix_tree *t, uint64_t tenant, const uint32_t *ids, uint32_t n,
		      enum prefix_kind kind, bool room, struct prefix_point **ret, bool *ret_new)
{
	struct prefix_node *node = end_of(t, tenant, ids, n);
	struct prefix_point *p;
	uint32_t at = n - (n - 1) / KV_BLOCK * KV_BLOCK;

	if (!node)
		return -ENOMEM;
	outdate(node, at, kind);
	p = point_at(node, at);
	*ret_new = !p;
	if (p) {
		p->kind = kind > p->kind ? kind : p->kind;
		p->used = t->now;
		*ret = p;
		return 0;
	}
	if (!room)
		return -ENOSPC;
	p = calloc(1, sizeof(*p) + t->c.state_pages * sizeof(*p->pages));
	if (!p)
		return -ENOMEM;
	p->at = at;
	p->kind = kind;
	p->used = t->now;
	p->next = node->points;
	node->points = p;
	t->n_points++;
	*ret = p;
	return 0;
}

int prefix_add_point(struct prefix_tree *t, uint64_t tenant, const uint32_t *ids, uint32_t n,
		     enum prefix_kind kind, bool known, const uint32_t **ret_pages)
{
	bool room = t->c.pages->n_free >= t->c.state_pages, new;
	struct prefix_point *p;
	int rc = make_point(t, tenant, ids, n, kind, room, &p, &new);

	*ret_pages = NULL;
	if (rc || !new)
		return rc;
	for (uint32_t i = 0; i < t->c.state_pages; i++)
		p->pages[i] = page_take(t->c.pages);
	p->hits = known;
	*ret_pages = p->pages;
	return 0;
}

int prefix_adopt_point(struct prefix_tree *t, uint64_t tenant, const uint32_t *ids, uint32_t n,
		       enum prefix_kind kind, const uint32_t *pages)
{
	struct prefix_point *p = NULL;
	bool new = false;
	int rc = make_point(t, tenant, ids, n, kind, true, &p, &new);

	for (uint32_t i = 0; i < t->c.state_pages; i++)
		if (!rc && new)
			p->pages[i] = pages[i];
		else
			page_drop(t->c.pages, pages[i]);
	if (!rc && new)
		p->hits = 1;
	return rc;
}

uint32_t prefix_points(const struct prefix_match *m, struct prefix_on_way *ret, uint32_t max)
{
	uint32_t n = 0;

	for (const struct prefix_node *node = m->node; node; node = node->parent)
		for (uint32_t at = KV_BLOCK; at && n < max; at--) {
			const struct prefix_point *p = point_at(node, at);

			if (!p || node->depth * KV_BLOCK + at > m->n)
				continue;
			n++;
			ret[max - n] = (struct prefix_on_way){ node->depth * KV_BLOCK + at, p->kind,
							       p->pages };
		}
	memmove(ret, ret + max - n, n * sizeof(*ret));
	return n;
}

uint32_t prefix_forget(struct prefix_tree *t, const struct prefix_match *m)
{
	struct prefix_node *n = m->node, *parent;
	uint32_t left = m->n;

	if (n && n->n > m->n - n->depth * KV_BLOCK) /* another goes on in the same page */
		return 0;
	for (; n && !n->child; n = parent) {
		parent = n->parent;
		left = n->depth * KV_BLOCK;
		prefix_drop_node(t, n);
	}
	return m->n - left;
}

void prefix_count(const struct prefix_tree *t, uint32_t *ret_nodes, uint32_t *ret_points)
{
	*ret_nodes = t->n_nodes;
	*ret_points = t->n_points;
}
