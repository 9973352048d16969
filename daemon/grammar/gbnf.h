/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/gbnf.h: a GBNF grammar as a node of a larger one. One thread at a time.
 */
#ifndef SLUICE_GRAMMAR_GBNF_H
#define SLUICE_GRAMMAR_GBNF_H

#include "base/err.h"
#include "grammar/ir.h"

/* *ret is the rule root. Errors as grammar_gbnf() has them. */
int gbnf_node(struct ir *ir, const char *text, size_t n, ir_node *ret, struct err *err);

#endif
