/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema_object.c: objects: the properties in the order in which they are declared,
 * those that are required and those that may be left out, then others where additionalProperties says
 * so in words (true, or a schema).
 *
 *	keys(i)	one of the properties from i on, up to the first that is required, and rest behind it
 *	rest(i)	the end, where nothing from i on is required; or a comma and keys(i)
 *
 * The name of another property is any that is not declared: it leaves the tree of declared names
 * somewhere. (Names are spelled in one way up to escapes beyond ASCII, so that this can be told.)
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/schema_impl.h"

struct property {
	const char *name;
	struct json_object *schema; /* NULL: as additionalProperties has it */
	bool required;
};

struct object {
	struct property *props;
	size_t n, n_declared;
	const char **taken; /* names that others may not have */
	size_t n_taken;
	struct json_object *others; /* schema of additionalProperties; NULL: none */
	bool any_other;
	bool impossible; /* a property is required and has the schema false */
	uint32_t min, max;
	bool counts; /* beside declared properties */
};

#define MAX_COUNTED 100

static bool is_false(struct json_object *o)
{
	return json_object_is_type(o, json_type_boolean) && !json_object_get_boolean(o);
}

static ir_node sep(struct schema *s)
{
	return IR_SEQ_OF(s->ir, ir_string(s->ir, ","), schema_shared(s, SHARED_SPACE));
}

static ir_node closing(struct schema *s)
{
	return IR_SEQ_OF(s->ir, schema_shared(s, SHARED_SPACE), ir_string(s->ir, "}"));
}

static ir_node colon(struct schema *s)
{
	return IR_SEQ_OF(s->ir, ir_string(s->ir, ":"), ir_rep(s->ir, ir_string(s->ir, " "), 0, 1));
}

/* ---- what the schema says ---- */

static int read_required(struct schema *s, struct json_object *list, struct object *x,
			 struct names *known)
{
	if (!list)
		return 0;
	if (!json_object_is_type(list, json_type_array))
		return schema_error(s, -EINVAL, "required must be an array of names");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		const char *name = json_object_get_string(v);
		struct name *e;

		if (!json_object_is_type(v, json_type_string))
			return schema_error(s, -EINVAL, "required must be an array of names");
		e = names_find(known, name, strlen(name));
		if (!e) { /* not declared: behind the others */
			e = names_add(known, name, strlen(name), (uint32_t)x->n);
			if (!e)
				return -ENOMEM;
			x->props[x->n] = (struct property){ .name = name };
			x->taken[x->n_taken++] = name;
			x->n++;
		}
		if (e->value == UINT32_MAX)
			x->impossible = true;
		else
			x->props[e->value].required = true;
	}
	return 0;
}

static int read_properties(struct schema *s, struct json_object *o, struct object *x)
{
	struct json_object *props = schema_get(o, "properties"), *list = schema_get(o, "required");
	struct names known = { 0 };
	size_t room = 1;
	int rc = 0;

	if (props && !json_object_is_type(props, json_type_object))
		return schema_error(s, -EINVAL, "properties must be an object of schemas");
	room += props ? (size_t)json_object_object_length(props) : 0;
	room += json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	x->props = calloc(room, sizeof(*x->props));
	x->taken = calloc(room, sizeof(*x->taken));
	if (!x->props || !x->taken)
		return -ENOMEM;
	if (props) {
		json_object_object_foreach(props, k, v)
		{
			bool none = is_false(v);

			x->taken[x->n_taken++] = k;
			if (!names_add(&known, k, strlen(k), none ? UINT32_MAX : (uint32_t)x->n))
				rc = -ENOMEM;
			if (!none)
				x->props[x->n++] = (struct property){ .name = k, .schema = v };
			if (!v)
				rc = schema_error(s, -EINVAL,
						  "a schema must be an object, true or false");
		}
	}
	x->n_declared = x->n_taken;
	rc = rc ? rc : read_required(s, list, x, &known);
	names_done(&known);
	return rc;
}

/*
 * Whether chain() has to count. Declared names come once each, others may come again, so that two of them need not
 * be two properties.
 */
static int check_counts(struct schema *s, struct object *x)
{
	size_t required = 0;
	bool open = x->others || x->any_other, few, many;
	int rc = 0;

	for (size_t i = 0; i < x->n; i++)
		required += x->props[i].required;
	few = x->min > required;
	many = x->n_taken && x->max != IR_UNBOUNDED && (open || x->max < x->n);
	if (few && x->min > 1 && (open || !x->n_taken))
		rc = schema_cannot(s, "minProperties", "above 1, of names that are not declared");
	else if ((few || many) && x->n > MAX_COUNTED)
		rc = schema_cannot(s, few ? "minProperties" : "maxProperties",
				   "beside so many properties");
	else
		x->counts = x->n_taken && (few || many);
	if (few && !x->counts && (x->n_taken || x->min > 1))
		x->min = 0;
	return rc;
}

/* ---- names of other properties ---- */

#define MAX_NAME 2000 /* characters of a declared name beside others */

/* A sorted list's names that go on from @at with the same character stand together. */
static ir_node other_names(struct schema *s, const char **names, size_t n, size_t at,
			   unsigned depth)
{
	struct ir_chars_set go_on = { 0 };
	struct ir_list parts = { 0 };
	bool whole = n && !names[0][at], ok = true;
	ir_node node;

	if (depth > MAX_NAME || !n) {
		if (n)
			ir_set_error(s->ir, -E2BIG);
		return schema_shared(s, SHARED_TAIL);
	}
	if (!whole)
		ir_push(s->ir, &parts, ir_string(s->ir, "\""));
	for (size_t i = whole, k; i < n && ok; i = k) {
		uint32_t c = 0, d = 0;
		unsigned len = text_char(names[i] + at, strlen(names[i] + at), &c);
		struct ir_range one = { c, c };
		const struct ir_chars_set set = { .ranges = &one, .n = 1 };

		for (k = i + 1; k < n; k++)
			if (!text_char(names[k] + at, strlen(names[k] + at), &d) || d != c)
				break;
		ok = ir_set_add(&go_on, c, c);
		ir_push(s->ir, &parts,
			IR_SEQ_OF(
				s->ir, json_chars(s->ir, &set),
				other_names(s, names + i, k - i, at + (len ? len : 1), depth + 1)));
	}
	ir_set_sort(&go_on);
	ok = ok && ir_set_invert(&go_on);
	if (!ok)
		ir_set_error(s->ir, -E2BIG);
	ir_push(s->ir, &parts,
		IR_SEQ_OF(s->ir, json_chars(s->ir, &go_on), schema_shared(s, SHARED_TAIL)));
	ir_set_done(&go_on);
	node = ir_alt(s->ir, parts.nodes, parts.n);
	ir_list_done(&parts);
	if (depth % 32 == 31) { /* long names are no deep code */
		uint32_t rule = ir_rule(s->ir, NULL, 0);

		ir_rule_set(s->ir, rule, node);
		node = ir_ref(s->ir, rule);
	}
	return node;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static ir_node other_name(struct schema *s, struct object *x)
{
	uint32_t rule;

	if (!x->n_taken)
		return schema_shared(s, SHARED_STRING);
	qsort(x->taken, x->n_taken, sizeof(*x->taken), by_text);
	/* a rule of its own: the ends of all its branches are one piece of code */
	rule = ir_rule(s->ir, NULL, 0);
	ir_rule_set(s->ir, rule,
		    IR_SEQ_OF(s->ir, ir_string(s->ir, "\""),
			      other_names(s, x->taken, x->n_taken, 0, 0)));
	return ir_ref(s->ir, rule);
}

/* The one pattern of names, where nothing else says what names there are. */
static int pattern_pair(struct schema *s, struct json_object *patterns, ir_node *ret)
{
	struct json_object *key_schema = json_object_new_object();
	ir_node key, value;
	int rc = 0;

	json_object_object_foreach(patterns, k, v)
	{
		schema_put(s, key_schema, "pattern", schema_made(s, json_object_new_string(k)));
		rc = rc ? rc : schema_ref(s, v, &value);
	}
	rc = rc ? rc : schema_string(s, key_schema, &key);
	json_object_put(key_schema);
	if (!rc)
		*ret = IR_SEQ_OF(s->ir, key, colon(s), value);
	return rc;
}

static int other_pair(struct schema *s, struct json_object *o, struct object *x, ir_node *ret)
{
	struct json_object *names = schema_get(o, "propertyNames");
	struct json_object *patterns = schema_get(o, "patternProperties");
	ir_node key, value = schema_shared(s, SHARED_ANY);
	int rc = 0;

	*ret = ir_fail();
	if (patterns && json_object_is_type(patterns, json_type_object) &&
	    json_object_object_length(patterns)) {
		if (json_object_object_length(patterns) == 1 && !x->n_taken && !names &&
		    is_false(schema_get(o, "additionalProperties")))
			return pattern_pair(s, patterns, ret);
		rc = schema_cannot(s, "patternProperties",
				   "but for one pattern beside additionalProperties: false");
		if (rc)
			return rc;
	}
	if (!x->others && !x->any_other)
		return 0;
	if (x->others)
		rc = schema_ref(s, x->others, &value);
	if (!rc && names && !x->n_taken) {
		rc = schema_flat(s, names, 0, &names);
		if (rc || !names)
			return rc;
		if (json_object_is_type(names, json_type_object))
			rc = schema_string(s, names, &key);
		else
			key = schema_shared(s, SHARED_STRING);
	} else {
		if (!rc && names)
			rc = schema_cannot(s, "propertyNames", "beside properties");
		key = other_name(s, x);
	}
	if (!rc)
		*ret = IR_SEQ_OF(s->ir, key, colon(s), value);
	return rc;
}

/* ---- the object ---- */

/* Where @have properties stand already and no declared one can follow: others, in any number, and the end. */
static ir_node others_behind(struct schema *s, const struct object *x, ir_node other, uint32_t have)
{
	uint32_t min = x->counts && x->min > have ? x->min - have : 0;
	uint32_t max = x->counts && x->max != IR_UNBOUNDED ? x->max - have : IR_UNBOUNDED;

	if (x->counts && x->max < have)
		return ir_fail();
	return IR_SEQ_OF(s->ir, ir_rep(s->ir, IR_SEQ_OF(s->ir, sep(s), other), min, max),
			 closing(s));
}

static int value_of(struct schema *s, const struct object *x, const struct property *p,
		    ir_node *ret)
{
	if (p->schema || x->others)
		return schema_ref(s, p->schema ? p->schema : x->others, ret);
	*ret = x->any_other ? schema_shared(s, SHARED_ANY) : ir_fail();
	return 0;
}

/* What stands on several ways is a rule. */
static ir_node shared_rule(struct schema *s, ir_node node)
{
	uint32_t rule = ir_rule(s->ir, NULL, 0);

	ir_rule_set(s->ir, rule, node);
	return ir_ref(s->ir, rule);
}

/*
 * Declared ones from the last to the first; *ret: what follows the opening brace. keys(i) and rest(i) are made
 * for each number of properties that may stand before them, where that counts.
 */
static int chain(struct schema *s, struct object *x, ir_node other, ir_node *ret)
{
	struct ir *ir = s->ir;
	ir_node rest[MAX_COUNTED + 2], keys[MAX_COUNTED + 2], pair, value, name;
	size_t most = x->counts ? x->n : 0;
	bool may_end = true;
	int rc;

	for (uint32_t k = 0; k <= most; k++) {
		rest[k] = others_behind(s, x, other, k);
		keys[k] = IR_SEQ_OF(ir, other, others_behind(s, x, other, k + x->counts));
	}
	for (size_t i = x->n; i-- > 0;) {
		const struct property *p = &x->props[i];

		rc = value_of(s, x, p, &value);
		if (rc)
			return rc;
		name = IR_SEQ_OF(ir, schema_text(s, p->name, strlen(p->name)), colon(s), value);
		for (size_t k = 0; k <= most; k++)
			rest[k] = shared_rule(s, rest[k]);
		may_end &= !p->required;
		for (size_t k = 0; k <= (x->counts ? i : 0); k++) {
			pair = IR_SEQ_OF(ir, name, rest[k + x->counts]);
			keys[k] = shared_rule(s, p->required ? pair : IR_ALT_OF(ir, pair, keys[k]));
		}
		most = x->counts ? i : 0;
		for (size_t k = 0; k <= most; k++) {
			bool end = may_end && (!x->counts || (k >= x->min && k <= x->max));

			rest[k] = IR_SEQ_OF(ir, sep(s), keys[k]);
			if (end)
				rest[k] = IR_ALT_OF(ir, rest[k], closing(s));
		}
	}
	if (may_end && !x->min)
		keys[0] = IR_ALT_OF(ir, keys[0], ir_string(ir, "}"));
	*ret = keys[0];
	return 0;
}

static ir_node counted(struct schema *s, const struct object *x, ir_node other)
{
	struct ir *ir = s->ir;
	ir_node more, some;
	uint32_t max = x->max == IR_UNBOUNDED ? x->max : x->max - 1;

	if (!x->max || other == ir_fail())
		return x->min ? ir_fail() : ir_string(ir, "}");
	more = ir_rep(ir, IR_SEQ_OF(ir, sep(s), other), x->min > 1 ? x->min - 1 : 0, max);
	some = IR_SEQ_OF(ir, other, more, closing(s));
	return x->min ? some : IR_ALT_OF(ir, some, ir_string(ir, "}"));
}

static int make(struct schema *s, struct json_object *o, struct object *x, ir_node *ret)
{
	struct json_object *more = schema_get(o, "additionalProperties");
	ir_node other = ir_fail(), node = ir_fail();
	bool said = json_object_object_get_ex(o, "additionalProperties", NULL);
	int rc;

	x->max = IR_UNBOUNDED;
	rc = schema_size(s, o, "minProperties", &x->min);
	rc = rc ? rc : schema_size(s, o, "maxProperties", &x->max);
	rc = rc ? rc : read_properties(s, o, x);
	if (rc)
		return rc;
	if (said && !more)
		return schema_error(s, -EINVAL, "additionalProperties must be a schema");
	if (json_object_is_type(more, json_type_object))
		x->others = more;
	else
		/* nothing said: a map where no property is declared, else those that are */
		x->any_other = said ? json_object_get_boolean(more) : !x->n_declared;
	rc = check_counts(s, x);
	rc = rc ? rc : other_pair(s, o, x, &other);
	if (rc)
		return rc;
	if (x->impossible) {
		*ret = ir_fail();
		return 0;
	}
	if (x->n_taken) {
		if (!said) /* a name that is required but not declared is of any kind */
			x->any_other = true;
		rc = chain(s, x, other, &node);
	} else {
		node = counted(s, x, other);
	}
	*ret = IR_SEQ_OF(s->ir, ir_string(s->ir, "{"), schema_shared(s, SHARED_SPACE), node);
	return rc;
}

int schema_object(struct schema *s, struct json_object *o, ir_node *ret)
{
	struct object x = { 0 };
	int rc = make(s, o, &x, ret);

	free(x.props);
	free(x.taken);
	return rc;
}
