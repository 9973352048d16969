/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema.h: a JSON schema as a node of a larger grammar. One thread at a time.
 */
#ifndef SLUICE_GRAMMAR_SCHEMA_H
#define SLUICE_GRAMMAR_SCHEMA_H

#include <stdbool.h>

#include "base/err.h"
#include "grammar/grammar.h"
#include "grammar/ir.h"

/*
 * *ret is the instances of @schema as JSON; its references lead into @root. Errors as grammar_schema()
 * has them.
 */
int schema_node(struct ir *ir, struct json_object *root, struct json_object *schema,
		const struct schema_options *o, ir_node *ret, struct err *err);

/* What a schema that is a reference leads to in the end, else @schema itself. 0 or -EINVAL. */
int schema_target(struct json_object *root, struct json_object *schema, struct json_object **ret,
		  struct err *err);

/* Is @name in the list "required" of an object's schema? */
bool schema_requires(struct json_object *o, const char *name);

#endif
