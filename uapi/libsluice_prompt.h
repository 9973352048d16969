/* SPDX-License-Identifier: MIT */
/* uapi/libsluice_prompt.h: prompts as a request's payload has them. Not a public header. Any thread. */
#ifndef SLUICE_LIBSLUICE_PROMPT_H
#define SLUICE_LIBSLUICE_PROMPT_H

#include <stddef.h>
#include <stdint.h>

#include "sluice.h"

/* The two parts of a prompt's payload, borrowed from it, and the request's flags. */
struct sluice__parts {
	const void *a, *b;
	size_t a_bytes, b_bytes;
	uint32_t flags;
};

/*
 * The caller's prompt as a struct of this library; its texts are borrowed. -EINVAL, -EOPNOTSUPP or -E2BIG and a
 * sentence: it is none that can be sent.
 */
int sluice__take_prompt(const struct sluice_prompt *prompt, struct sluice_prompt *ret,
			struct sluice_fault *fault);
struct sluice__parts sluice__split_prompt(const struct sluice_prompt *p);

#endif
