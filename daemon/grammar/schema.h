/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema.h: a JSON schema as a node of a larger grammar. One thread at a time.
 */
#ifndef SLUICE_GRAMMAR_SCHEMA_H
#define SLUICE_GRAMMAR_SCHEMA_H

#include "base/err.h"
#include "grammar/grammar.h"
#include "grammar/ir.h"

/* *ret is the instances of @schema as JSON. Errors as grammar_schema() has them. */
int schema_node(struct ir *ir, struct json_object *schema, const struct schema_options *o,
		ir_node *ret, struct err *err);

#endif
