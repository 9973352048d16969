/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema_array.c: arrays: prefixItems, items, minItems, maxItems. How many may follow
 * is a counter. uniqueItems is held where there is at most one, and where items are a few values that are
 * named: which of them have been is then the state.
 */
#include <errno.h>
#include <stdlib.h>

#include "grammar/schema_impl.h"

#define MAX_SUBSETS 1024 /* of values that have been: ten values, more where few may be chosen */
#define MAX_VALUES  32

struct array {
	struct json_object *first; /* prefixItems, or NULL */
	size_t n_first;
	struct json_object *rest; /* of the others; NULL: any */
	uint32_t min, max;
	bool unique;
};

static int read(struct schema *s, struct json_object *o, struct array *a)
{
	struct json_object *items = schema_get(o, "items");
	int rc;

	*a = (struct array){ .first = schema_get(o, "prefixItems"), .max = IR_UNBOUNDED };
	if (a->first && !json_object_is_type(a->first, json_type_array))
		return schema_error(s, -EINVAL, "prefixItems must be an array of schemas");
	/* older drafts: items may be the list, and additionalItems what follows */
	if (json_object_is_type(items, json_type_array)) {
		a->first = a->first ? a->first : items;
		a->rest = schema_get(o, "additionalItems");
	} else {
		a->rest = items;
	}
	a->n_first = a->first ? json_object_array_length(a->first) : 0;
	rc = schema_size(s, o, "minItems", &a->min);
	rc = rc ? rc : schema_size(s, o, "maxItems", &a->max);
	a->unique = json_object_get_boolean(schema_get(o, "uniqueItems")) && a->max > 1;
	return rc;
}

static ir_node separated(struct schema *s, ir_node item)
{
	return IR_SEQ_OF(s->ir, ir_string(s->ir, ","), schema_shared(s, SHARED_SPACE), item);
}

/* Behind @i >= 1 items: more of them, then the end. */
static ir_node behind(struct schema *s, const struct array *a, size_t i, ir_node item)
{
	ir_node close = IR_SEQ_OF(s->ir, schema_shared(s, SHARED_SPACE), ir_string(s->ir, "]"));
	uint32_t min = a->min > i ? a->min - (uint32_t)i : 0;
	uint32_t max = a->max == IR_UNBOUNDED ? a->max : a->max - (uint32_t)i;

	if (item == ir_fail())
		return min ? ir_fail() : close;
	return IR_SEQ_OF(s->ir, ir_rep(s->ir, separated(s, item), min, max), close);
}

/* ---- uniqueItems ---- */

struct unique {
	struct schema *s;
	const struct array *a;
	ir_node item[MAX_VALUES];
	unsigned n;
	struct {
		uint32_t used, rule;
	} subsets[MAX_SUBSETS];
	unsigned n_subsets;
};

/* Scalars of @list, each once. False: there are lists or objects, or too many. */
static bool read_values(struct unique *u, struct json_object *list)
{
	struct json_object *known[MAX_VALUES];

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		json_type type = json_object_get_type(v);
		bool number = type == json_type_int || type == json_type_double, again = false;

		if (type == json_type_array || type == json_type_object)
			return false;
		for (unsigned k = 0; k < u->n; k++) {
			json_type other = json_object_get_type(known[k]);

			if (number && (other == json_type_int || other == json_type_double))
				again |= schema_number_same(u->s, known[k], v);
			else
				again |= json_object_equal(known[k], v);
		}
		if (again)
			continue;
		if (u->n == MAX_VALUES)
			return false;
		known[u->n] = v;
		u->item[u->n++] = schema_value(u->s, v, 0);
	}
	return true;
}

/* The rule of what follows once these have been; MAX_SUBSETS are not passed: see count_subsets(). */
static uint32_t subset(struct unique *u, uint32_t used)
{
	for (unsigned i = 0; i < u->n_subsets; i++)
		if (u->subsets[i].used == used)
			return u->subsets[i].rule;
	u->subsets[u->n_subsets].used = used;
	u->subsets[u->n_subsets].rule = ir_rule(u->s->ir, NULL, 0);
	return u->subsets[u->n_subsets++].rule;
}

/* Those of up to @max of @n. */
static uint64_t count_subsets(unsigned n, uint32_t max)
{
	uint64_t sum = 0, of = 1;

	for (unsigned k = 0; k <= n && k <= max; k++) {
		sum += of;
		of = of * (n - k) / (k + 1);
	}
	return sum;
}

static ir_node behind_subset(struct unique *u, uint32_t used)
{
	struct ir *ir = u->s->ir;
	unsigned have = (unsigned)__builtin_popcount(used);
	ir_node parts[MAX_VALUES + 1] = { 0 };

	for (unsigned i = 0; i < u->n && have < u->a->max; i++)
		if (!(used >> i & 1)) {
			ir_node next =
				IR_SEQ_OF(ir, u->item[i], ir_ref(ir, subset(u, used | 1u << i)));

			parts[i] = have ? separated(u->s, next) : next;
		}
	if (have >= u->a->min)
		parts[u->n] = IR_SEQ_OF(ir, have ? schema_shared(u->s, SHARED_SPACE) : ir_empty(),
					ir_string(ir, "]"));
	return ir_alt(ir, parts, u->n + 1);
}

/* *ret_held false: it is not held. */
static int unique(struct schema *s, const struct array *a, ir_node *ret, bool *ret_held)
{
	struct json_object *items = a->rest, *list = NULL;
	struct unique *u;
	int rc = 0;

	*ret_held = false;
	if (a->n_first || !json_object_is_type(items, json_type_object))
		return 0;
	rc = schema_flat(s, items, 0, &items);
	if (!rc && items && !schema_has(items, "anyOf") && !schema_has(items, "oneOf"))
		rc = schema_values(s, items, &list);
	if (rc || !list)
		return rc;
	u = calloc(1, sizeof(*u));
	if (!u) {
		json_object_put(list);
		return -ENOMEM;
	}
	u->s = s;
	u->a = a;
	*ret_held = read_values(u, list) && count_subsets(u->n, a->max) <= MAX_SUBSETS;
	if (*ret_held) {
		*ret = IR_SEQ_OF(s->ir, ir_string(s->ir, "["), schema_shared(s, SHARED_SPACE),
				 ir_ref(s->ir, subset(u, 0)));
		for (unsigned i = 0; i < u->n_subsets && ir_goes_on(s->ir); i++)
			ir_rule_set(s->ir, u->subsets[i].rule,
				    behind_subset(u, u->subsets[i].used));
	}
	free(u);
	json_object_put(list);
	return ir_error(s->ir);
}

int schema_array(struct schema *s, struct json_object *o, ir_node *ret)
{
	struct array a;
	ir_node item, node, close;
	int rc = read(s, o, &a);

	if (rc)
		return rc;
	*ret = ir_fail();
	if (a.max < a.min)
		return 0;
	if (a.unique) {
		bool held;

		rc = unique(s, &a, ret, &held);
		if (!rc && !held)
			rc = schema_cannot(s, "uniqueItems",
					   "but of a few values of an enum, or of one item");
		if (rc || held)
			return rc;
	}
	if (a.rest)
		rc = schema_ref(s, a.rest, &item);
	else
		item = schema_shared(s, SHARED_ANY);
	if (rc)
		return rc;
	/* from the end: what follows i items; at the front without a comma */
	if (a.n_first > a.max)
		a.n_first = a.max;
	if (!a.n_first)
		node = a.max ? IR_SEQ_OF(s->ir, item, behind(s, &a, 1, item)) : ir_fail();
	else
		node = behind(s, &a, a.n_first, item);
	for (size_t i = a.n_first; i-- > 0;) {
		close = IR_SEQ_OF(s->ir, schema_shared(s, SHARED_SPACE), ir_string(s->ir, "]"));
		rc = schema_ref(s, json_object_array_get_idx(a.first, i), &item);
		if (rc)
			return rc;
		node = IR_SEQ_OF(s->ir, i ? separated(s, item) : item, node);
		if (i && i >= a.min)
			node = IR_ALT_OF(s->ir, node, close);
	}
	if (!a.min)
		node = IR_ALT_OF(s->ir, node, ir_string(s->ir, "]"));
	*ret = IR_SEQ_OF(s->ir, ir_string(s->ir, "["), schema_shared(s, SHARED_SPACE), node);
	return 0;
}
