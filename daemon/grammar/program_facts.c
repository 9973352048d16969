/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/program_facts.c: which nodes can be empty, which can be completed at all, and
 * whether a rule can begin with itself. Each fact spreads from node to node once, so a grammar of
 * any shape takes linear time; nothing recurses. See program.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/program.h"
#include "grammar/stop.h"

/* Who uses a node: users[at[i]..at[i+1]). */
struct users {
	uint32_t *at;
	ir_node *users;
};

/* Children of a node (of a REF: the rule's node), by index; false behind the last. */
static bool child(const struct ir *ir, ir_node node, uint32_t i, ir_node *ret)
{
	const struct ir_item *n = &ir->nodes[node];

	switch (n->kind) {
	case IR_SEQ:
	case IR_ALT:
		if (i >= n->n)
			return false;
		*ret = ir->children[n->at + i];
		return true;
	case IR_REP:
		*ret = n->at;
		return i == 0;
	case IR_REF:
		*ret = ir->rules[n->at];
		return i == 0;
	default:
		return false;
	}
}

static int users_init(const struct ir *ir, struct users *u)
{
	ir_node c;
	size_t n = 0;

	u->at = calloc(ir->n_nodes + 2, sizeof(*u->at));
	u->users = NULL;
	if (!u->at)
		return -ENOMEM;
	for (ir_node i = 0; i < ir->n_nodes; i++)
		for (uint32_t k = 0; child(ir, i, k, &c); k++, n++)
			u->at[c + 2]++;
	u->users = calloc(n + 1, sizeof(*u->users));
	if (!u->users)
		return -ENOMEM;
	for (size_t i = 2; i < ir->n_nodes + 2; i++)
		u->at[i] += u->at[i - 1];
	for (ir_node i = 0; i < ir->n_nodes; i++)
		for (uint32_t k = 0; child(ir, i, k, &c); k++)
			u->users[u->at[c + 1]++] = i;
	return 0;
}

static void users_fini(struct users *u)
{
	free(u->at);
	free(u->users);
}

/* True of the node whatever its children are? */
static bool holds_at_once(const struct ir_item *n, bool productive)
{
	switch (n->kind) {
	case IR_EMPTY:
		return true;
	case IR_BYTES:
	case IR_TEXT:
	case IR_CHARS:
		return productive;
	case IR_REP:
		return n->min == 0;
	default:
		return false;
	}
}

/* Spreads one fact: of a SEQ it holds where it does of all children, else where of one. */
static int spread(const struct ir *ir, const struct users *u, bool productive, uint8_t *fact)
{
	uint32_t *missing = calloc(ir->n_nodes, sizeof(*missing));
	ir_node *todo = calloc(ir->n_nodes, sizeof(*todo));
	uint32_t rounds = 0;
	size_t n = 0;
	int rc = 0;

	if (!missing || !todo) {
		free(missing);
		free(todo);
		return -ENOMEM;
	}
	for (ir_node i = 0; i < ir->n_nodes; i++) {
		missing[i] = ir->nodes[i].kind == IR_SEQ ? ir->nodes[i].n : 1;
		if (holds_at_once(&ir->nodes[i], productive)) {
			fact[i] = 1;
			todo[n++] = i;
		}
	}
	while (n && !rc) {
		ir_node c = todo[--n];

		rc = stop_look(ir->stop, &rounds);
		for (uint32_t k = u->at[c]; k < u->at[c + 1]; k++) {
			ir_node user = u->users[k];

			if (fact[user] || --missing[user])
				continue;
			fact[user] = 1;
			todo[n++] = user;
		}
	}
	free(missing);
	free(todo);
	return rc;
}

int ir_facts_init(const struct ir *ir, struct ir_facts *ret)
{
	struct users u;
	int rc = users_init(ir, &u);

	ret->nullable = calloc(ir->n_nodes, 1);
	ret->productive = calloc(ir->n_nodes, 1);
	if (!rc && (!ret->nullable || !ret->productive))
		rc = -ENOMEM;
	if (!rc)
		rc = spread(ir, &u, false, ret->nullable);
	if (!rc)
		rc = spread(ir, &u, true, ret->productive);
	users_fini(&u);
	if (rc)
		ir_facts_fini(ret);
	return rc;
}

void ir_facts_fini(struct ir_facts *f)
{
	free(f->nullable);
	free(f->productive);
	*f = (struct ir_facts){ 0 };
}

/* Child @i of @node where it can stand at the very beginning of it. */
static bool left_child(const struct ir *ir, const struct ir_facts *f, ir_node node, uint32_t i,
		       ir_node *ret)
{
	ir_node before;

	if (!child(ir, node, i, ret))
		return false;
	if (ir->nodes[node].kind != IR_SEQ || !i)
		return true;
	/* asked in order: the earlier ones were looked at when it was their turn */
	return child(ir, node, i - 1, &before) && f->nullable[before];
}

struct visit {
	ir_node node;
	uint32_t next;
};

static const char *rule_name(const struct ir *ir, const struct visit *path, size_t n, ir_node back)
{
	for (size_t i = n; i-- > 0;) {
		const struct ir_item *at = &ir->nodes[path[i].node];

		if (at->kind == IR_REF && ir->names[at->at])
			return ir->names[at->at];
		if (path[i].node == back)
			break;
	}
	return "(without a name)";
}

int ir_check_left(const struct ir *ir, const struct ir_facts *f, struct err *err)
{
	uint8_t *state = calloc(ir->n_nodes, 1); /* 1: on the path, 2: done */
	struct visit *path = calloc(ir->n_nodes + 1, sizeof(*path));
	uint32_t rounds = 0;
	int rc = state && path ? 0 : -ENOMEM;

	for (size_t r = 0; r < ir->n_rules && !rc; r++) {
		size_t n = 0;

		if (state[ir->rules[r]])
			continue;
		state[ir->rules[r]] = 1;
		path[n++] = (struct visit){ ir->rules[r], 0 };
		while (n && !rc) {
			struct visit *v = &path[n - 1];
			ir_node c;

			if (!left_child(ir, f, v->node, v->next, &c)) {
				state[v->node] = 2;
				n--;
				continue;
			}
			v->next++;
			rc = stop_look(ir->stop, &rounds);
			if (rc)
				break;
			if (state[c] == 1) {
				rc = err_set(err, -EINVAL, "rule %s can begin with itself",
					     rule_name(ir, path, n, c));
			} else if (!state[c]) {
				state[c] = 1;
				path[n++] = (struct visit){ c, 0 };
			}
		}
	}
	free(state);
	free(path);
	return rc;
}
