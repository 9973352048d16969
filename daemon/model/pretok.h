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

/* One name of each split of tokenizer.ggml.pre, as option tables want them. */
#define PRETOK_CHOICES "gpt-2|qwen2|qwen35|glm4|gpt-4o|minimax-m2|deepseek-v3"

#define PRETOK_PATTERNS 3 /* expressions of one split, at most */

/*
 * @name: as in tokenizer.ggml.pre ("gpt-2", "qwen2", "qwen35", "glm4", "gpt-4o", "deepseek-v3" and
 * other names of the same splits), or "gemma4" for the lines of that tokenizer model.
 * 0, -ENOENT (a name that we do not know), or -errno.
 */
int pretok_create(const char *name, struct pretok **ret);
void pretok_destroy(struct pretok *p); /* NULL is fine */

/*
 * The bytes of the first pre-token of @text: at least 1, at most @len (@len >= 1). A byte that is
 * not UTF-8 counts as a symbol. Time is linear in @text over all calls that split it.
 */
size_t pretok_next(const struct pretok *p, const char *text, size_t len);

/* The names that pretok_create() knows, for a sentence, in @buf, which is returned. */
char *pretok_names(char *buf, size_t size);

/*
 * The definition, for PCRE2 with UTF and UCP: expression @i, or NULL where there are no more. Each
 * splits the pieces of those before it, into its matches and what lies between them, as if every
 * piece were a text of its own. What pretok_next() does equals that, by test.
 */
const char *pretok_pattern(const struct pretok *p, unsigned i);

#endif
