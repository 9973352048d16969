/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema_array.c: arrays: prefixItems, items, minItems, maxItems. How many may follow
 * is a counter. uniqueItems is held where there is at most one.
 */
#include <errno.h>

#include "grammar/schema_impl.h"

struct array {
	struct json_object *first; /* prefixItems, or NULL */
	size_t n_first;
	struct json_object *rest; /* of the others; NULL: any */
	uint32_t min, max;
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
	if (!rc && json_object_get_boolean(schema_get(o, "uniqueItems")) && a->max > 1)
		rc = schema_cannot(s, "uniqueItems", NULL);
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
