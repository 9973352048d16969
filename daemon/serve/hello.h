/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/hello.h: what the log says when the daemon is built: what it runs on and with, and what
 * the operator should know that is not as usual (docs/service.md, Lines of the log).
 */
#ifndef SLUICE_SERVE_HELLO_H
#define SLUICE_SERVE_HELLO_H

#include "engine/engine.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "serve/options.h"

/* Says it, a line at a time. All are borrowed for the call; cannot fail. Main thread, before the loop runs. */
void hello_say(const struct options *o, const struct model *model,
	       const struct tokenizer *tokenizer, const struct engine *engine);

#endif
