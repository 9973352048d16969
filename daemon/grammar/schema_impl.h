/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema_impl.h: the insides of the JSON schema compiler, shared by its files.
 *
 *	schema.c	schemas by keyword: arms, types; the list of what is left to do
 *	schema_flat.c	references and allOf
 *	schema_merge.c	two schemas that both have to hold, as one
 *	schema_object.c	objects: properties in their order, then others
 *	schema_array.c	arrays
 *	schema_string.c	strings: lengths, patterns, formats
 *	schema_number.c	numbers between bounds, by their digits
 *	schema_both.c	several keywords of one string or number at once
 *	schema_value.c	values as they are: const and enum
 *	schema_fits.c	which values of an enum the keywords beside it leave
 *
 * Each schema becomes a rule, made from a list: nothing recurses along references or nesting. Every
 * function returns 0 or -errno with a sentence in s->err, as grammar.h has it.
 */
#ifndef SLUICE_GRAMMAR_SCHEMA_IMPL_H
#define SLUICE_GRAMMAR_SCHEMA_IMPL_H

#include "base/err.h"
#include "base/jsonc.h"
#include "grammar/grammar.h"
#include "grammar/names.h"
#include "grammar/text.h"

#define SCHEMA_MAX_RULES 50000
#define SCHEMA_MAX_MADE	 20000	 /* schemas that come of merging others */
#define SCHEMA_MAX_WORK	 2000000 /* members copied and values compared by merging */

/* Rules that all schemas share, made when first asked for. */
enum shared {
	SHARED_SPACE,
	SHARED_STRING,
	SHARED_TAIL,
	SHARED_NUMBER,
	SHARED_INTEGER,
	SHARED_ANY,
	SHARED_OBJECT,
	SHARED_ARRAY,
	SHARED_NR
};

struct schema {
	struct ir *ir;
	struct json_object *root;
	struct schema_options o;
	struct err *err;
	struct names rules; /* address of a schema -> its rule */
	struct {
		struct json_object *schema;
		uint32_t rule;
		unsigned depth;
	} * todo;
	size_t n_todo, room_todo, n_rules;
	struct json_object *made;   /* an array: holds what was merged until the end */
	uint32_t shared[SHARED_NR]; /* + 1 */
	uint64_t work;		    /* of merging, so far */
	unsigned depth;		    /* of the schema that is being compiled */
};

/* A sentence, and @code. */
int schema_error(struct schema *s, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The keyword cannot be held: -ENOTSUP where that counts, else 0. */
int schema_cannot(struct schema *s, const char *keyword, const char *why);

/* Merging costs @n more; false: too much, and the arena's error is set. */
bool schema_spend(struct schema *s, uint64_t n);

/* The member, or NULL where it is absent (null is a value here). */
struct json_object *schema_get(struct json_object *o, const char *key);
/* There is such a member, null or not. */
bool schema_has(struct json_object *o, const char *key);
/* A size: absent leaves *ret. -EINVAL: it is no integer from 0 on. */
int schema_size(struct schema *s, struct json_object *o, const char *key, uint32_t *ret);
/* Held until the end; takes @o over. NULL: no memory, or too many. */
struct json_object *schema_keep(struct schema *s, struct json_object *o);

/*
 * Makes @v the member @key of @o, or an array's last element (@key NULL); takes @v over, of which NULL is null. Without
 * memory, now or when @o was made (NULL), s->ir's error is set.
 */
void schema_put(struct schema *s, struct json_object *o, const char *key, struct json_object *v);

/* @o that was just made; without memory NULL, and s->ir's error is set. */
struct json_object *schema_made(struct schema *s, struct json_object *o);
/* A number as it is written. Without memory "0", and s->ir's error is set. */
const char *schema_digits(struct schema *s, struct json_object *v);

/* A reference to the rule of @schema, which is compiled later. */
int schema_ref(struct schema *s, struct json_object *schema, ir_node *ret);
ir_node schema_shared(struct schema *s, enum shared what);

/* ---- schema_flat.c ---- */

/* What the text @ref of a $ref names, in s->root. Borrowed. */
int schema_resolve(struct schema *s, struct json_object *ref, struct json_object **ret);
/* Nothing stands beside the reference, or the arms, that would have to hold as well. */
bool schema_is_bare(struct json_object *o);
/* A copy of @o without a member, which is kept; shares the others. NULL: s->ir's error is set. */
struct json_object *schema_without(struct schema *s, struct json_object *o, const char *key);
/* Without $ref and allOf: *ret is @schema itself or a merged one that is kept. @hops: 0 for callers. */
int schema_flat(struct schema *s, struct json_object *schema, unsigned hops,
		struct json_object **ret);
/* schema_merge.c: both at once; *ret is kept. NULL with 0: they exclude each other. */
int schema_merge(struct schema *s, struct json_object *a, struct json_object *b,
		 struct json_object **ret);
/* No instance fits both: found by types, constants and a property that tells them apart. */
bool schema_disjoint(struct schema *s, struct json_object *a, struct json_object *b);

/* Nodes of one type; @o is flat. */
int schema_object(struct schema *s, struct json_object *o, ir_node *ret);
int schema_array(struct schema *s, struct json_object *o, ir_node *ret);
int schema_string(struct schema *s, struct json_object *o, ir_node *ret);
int schema_number(struct schema *s, struct json_object *o, bool integer, ir_node *ret);

/* ---- schema_both.c ---- */

/* What one keyword says of a value: make() builds the node in the arena of the schema that it is handed. */
struct schema_part {
	int (*make)(struct schema *s, const void *arg, ir_node *ret);
	const void *arg;
};

/* The part alone, as a program, which the caller destroys. NULL with 0: nothing fits it. */
int schema_part_program(struct schema *s, const struct schema_part *part, struct program **ret);
/* All @n parts (2 or 3) at once. *ret_large: that has too many states, and *ret is nothing. */
int schema_both(struct schema *s, const struct schema_part *parts, size_t n, ir_node *ret,
		bool *ret_large);

/* ---- values that are named ---- */

/* schema.c: those of enum or const that the rest of the flat @o allows; the caller's. NULL with 0: there is neither. */
int schema_values(struct schema *s, struct json_object *o, struct json_object **ret);
/* schema_fits.c: of @list those that the keywords of their types in @o allow; the caller's. */
int schema_fits(struct schema *s, struct json_object *o, struct json_object *list,
		struct json_object **ret);
/* schema_number.c: whether a number is within the bounds of @o and one of its multiples. */
int schema_number_fits(struct schema *s, struct json_object *o, struct json_object *value,
		       bool *ret);
/* They are one number, however they are written. */
bool schema_number_same(struct schema *s, struct json_object *a, struct json_object *b);

/* schema_value.c */
ir_node schema_value(struct schema *s, struct json_object *value, unsigned depth);
/* A string as JSON has it, with its quotes. */
ir_node schema_text(struct schema *s, const char *text, size_t n);

#endif
