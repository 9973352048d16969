/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/regex.h: regular expressions as nodes: --regex, and `pattern` of JSON schemas, whose
 * texts are spelled as JSON strings are. One thread at a time.
 */
#ifndef SLUICE_GRAMMAR_REGEX_H
#define SLUICE_GRAMMAR_REGEX_H

#include "base/err.h"
#include "grammar/text.h"

struct regex_options {
	chars_fn chars; /* how a character is spelled */
	/*
	 * The expression may be found anywhere in the text, as JSON Schema has it; else it is the
	 * whole text.
	 */
	bool search;
	bool ecma; /* . leaves out all of ECMA-262's line ends, not the line feed alone */
};

/*
 * 0 and a node; -EINVAL and a sentence: no expression; -ENOTSUP and one that names what cannot be held:
 * look-around, references, word boundaries, anchors within; -E2BIG; -ENOMEM.
 */
int regex_node(struct ir *ir, const char *text, size_t n, const struct regex_options *o,
	       ir_node *ret, struct err *err);

#endif
