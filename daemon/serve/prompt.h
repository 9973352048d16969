/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/prompt.h: the text or the ids of an ask, and the model's tokens. Untrusted: every id
 * is checked against the vocabulary, a text that cannot fit the context is not tokenised. Errors are
 * enum sluice_error_code with a sentence. Main thread.
 */
#ifndef SLUICE_SERVE_PROMPT_H
#define SLUICE_SERVE_PROMPT_H

#include "serve/ask.h"

struct serve;

/* The tokens that @ask stands for: 0, and *ret (malloc'd) with *ret_n ids. */
int prompt_encode(const struct serve *s, const struct ask *ask, uint32_t **ret, uint32_t *ret_n,
		  struct err *err);

/* The text of @ids: 0, and *ret (malloc'd, no NUL) with *ret_bytes bytes. */
int prompt_decode(const struct serve *s, const uint32_t *ids, uint32_t n, bool raw, char **ret,
		  size_t *ret_bytes);

#endif
