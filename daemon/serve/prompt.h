/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/prompt.h: the text or the ids of an ask, and the model's tokens. Untrusted: every id
 * is checked against the vocabulary, a text that cannot fit the context is not tokenised. Errors are
 * enum sluice_error_code with a sentence. Any thread: nothing here changes.
 */
#ifndef SLUICE_SERVE_PROMPT_H
#define SLUICE_SERVE_PROMPT_H

#include "serve/ask.h"

struct serve;

/* The tokens that @ask stands for: 0, and *ret (malloc'd) with *ret_n ids. */
int prompt_encode(const struct serve *s, const struct ask *ask, uint32_t **ret, uint32_t *ret_n,
		  struct err *err);

/* Where a next prompt may begin to differ, in bytes of a text. */
struct text_mark {
	uint64_t at;
	enum mark_kind kind;
};

/*
 * Marks of a text (ascending) as marks of the @n tokens that prompt_encode() made of it; @ret has room
 * for @n_marks. Those within a token are left out. Returns how many there are. Any thread.
 */
uint32_t prompt_marks(const struct serve *s, const char *text, uint64_t bytes, const uint32_t *ids,
		      uint32_t n, const struct text_mark *marks, uint32_t n_marks,
		      struct prompt_mark *ret);

/*
 * The tokens in which one of @texts stands, as struct sampling.dry_breaks has them (malloc'd): 0 or an
 * error code. Goes through the whole vocabulary.
 */
int prompt_breaks(const struct serve *s, const char *const *texts, size_t n, uint8_t **ret);

/* The text of @ids: 0, and *ret (malloc'd, no NUL) with *ret_bytes bytes. */
int prompt_decode(const struct serve *s, const uint32_t *ids, uint32_t n, bool raw, char **ret,
		  size_t *ret_bytes);

#endif
