/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/caps.h: a chat template from within, for the files that make one; and what it can do,
 * asked of itself.
 */
#ifndef SLUICE_CHAT_CAPS_H
#define SLUICE_CHAT_CAPS_H

#include "chat/template.h"

struct chat_template {
	struct template *usual, *tool_use; /* the second one where a file has it: with tools */
	char *source;
	size_t len;
	char *bos, *eos; /* NULL: none */
	struct chat_caps caps;
};

/* Renders small conversations with @c; what fails to render is something that it cannot do. */
void chat_caps_probe(const struct chat_template *c, struct chat_caps *ret);

#endif
