/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/chat_form.h: the fixed chat forms that families use, as data for chat.c.
 *
 * A form is what the family's published templates write around one user turn. Constant; any thread.
 */
#ifndef SLUICE_MODEL_CHAT_FORM_H
#define SLUICE_MODEL_CHAT_FORM_H

#include <stdbool.h>

/* Around what somebody says: @label and @tail are text that is encoded together with it. */
struct chat_around {
	const char *open, *label, *tail, *close;
};

struct chat_form {
	const char *name; /* for messages */
	/* control tokens that a vocabulary must have for it; up to NULL */
	const char *needs[4];
	const char *begin; /* before everything */
	struct chat_around system, user;
	const char *answer; /* what comes before the model's first token */
	bool trims;	    /* white space around what is said is left out */

	/* trims and the thoughts are read off the file's template instead, as ChatML's */
	bool by_template;
	/* follows answer where there is to be a thought, and where not; NULL: no such form */
	const char *thought, *no_thought;
	/* where there is to be a thought: begins the system turn; where not: ends what is said */
	const char *think_system, *no_think_user;
};

extern const struct chat_form chat_chatml, chat_glm, chat_minimax, chat_gemma, chat_harmony,
	chat_deepseek, chat_kimi;

#endif
