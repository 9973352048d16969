/* SPDX-License-Identifier: MIT */
/* daemon/chat/caps.h: what a chat template can do, asked of itself. For chat_template.c. */
#ifndef SLUICE_CHAT_CAPS_H
#define SLUICE_CHAT_CAPS_H

#include "chat/template.h"

/* Renders small conversations with @c; what fails to render is something that it cannot do. */
void chat_caps_probe(const struct chat_template *c, struct chat_caps *ret);

#endif
