/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/pretok.h: splitting text into pre-tokens, the pieces that merges never cross.
 *
 * The split of each kind is defined by a regular expression, but matched by hand in one pass,
 * because an engine that backtracks needs quadratic time on long runs of white space. Unicode
 * classes come from PCRE2's tables. Constant after pretok_create(); any thread.
 */
#ifndef SLUICE_MODEL_PRETOK_H
#define SLUICE_MODEL_PRETOK_H

#include <stddef.h>

struct pretok;

/*
 * @name: as in tokenizer.ggml.pre: "gpt-2", "qwen2", "qwen35", or another name of the same split.
 * 0, -ENOENT (a name that we do not know), or -errno.
 */
int pretok_create(const char *name, struct pretok **ret);
void pretok_destroy(struct pretok *p); /* NULL is fine */

/*
 * The bytes of the first pre-token of @text: at least 1, at most @len (@len >= 1). A byte that is
 * not UTF-8 counts as a symbol. Time is linear in @text over all calls that split it.
 */
size_t pretok_next(const struct pretok *p, const char *text, size_t len);

/* The definition, for PCRE2 with UTF and UCP. What pretok_next() does equals it, by test. */
const char *pretok_pattern(const struct pretok *p);

#endif
