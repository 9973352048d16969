/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/chat_marks.c: the places of a rendered conversation at which a later one may differ.
 *
 * A template does not say where a message ends in its text. So the beginning of the conversation is
 * rendered by itself, and the text that both have in common ends there. A place that is found so is
 * always one of the text; where a template writes the beginning otherwise, it is only less useful.
 * See template.h.
 */
#include <errno.h>
#include <string.h>

#include "base/jsonc.h"
#include "chat/template.h"

#define USERS \
	3 /* the latest messages of the user; earlier ones were marked when they were the latest */

struct work {
	const struct chat_template *c;
	const struct chat_input *in; /* as normalised */
	const struct template_options *o;
	const struct rendered *whole;
	struct chat_mark *marks;
	size_t n;
};

/* Kept in order; at one place the first kind stays. */
static void put(struct work *w, size_t at, enum chat_mark_kind kind)
{
	size_t i = w->n;

	if (!at || w->n == CHAT_MARKS)
		return;
	while (i && w->marks[i - 1].at > at)
		i--;
	if (i && w->marks[i - 1].at == at)
		return;
	memmove(&w->marks[i + 1], &w->marks[i], (w->n - i) * sizeof(*w->marks));
	w->marks[i] = (struct chat_mark){ at, kind };
	w->n++;
}

/* A mark where the text of @messages without a beginning of the answer leaves the whole one. */
static void mark(struct work *w, struct json_object *messages, enum chat_mark_kind kind)
{
	struct chat_input in = *w->in;
	struct template_error err = { 0 };
	struct rendered r;
	size_t at = 0;

	in.messages = messages;
	in.add_generation_prompt = false;
	in.continue_final = false;
	if (chat_render(w->c, &in, w->o, &r, &err))
		return; /* a beginning that the template refuses has no mark */
	while (at < r.n && at < w->whole->n && r.text[at] == w->whole->text[at])
		at++;
	while (at && at < w->whole->n && ((uint8_t)w->whole->text[at] & 0xc0) == 0x80)
		at--; /* not within a character */
	rendered_done(&r);
	put(w, at, kind);
}

/* The first @n messages, and @extra (taken over) behind them; NULL: no memory. */
static struct json_object *first_of(struct json_object *messages, size_t n,
				    struct json_object *extra)
{
	struct json_object *all = json_object_new_array();
	bool failed = !all;

	for (size_t i = 0; i < n && !failed; i++) {
		struct json_object *m = json_object_get(json_object_array_get_idx(messages, i));

		failed = json_object_array_add(all, m);
		if (failed)
			json_object_put(m);
	}
	if (!failed && extra) {
		failed = json_object_array_add(all, extra);
		extra = failed ? extra : NULL;
	}
	json_object_put(extra);
	if (!failed)
		return all;
	json_object_put(all);
	return NULL;
}

static bool is_role(struct json_object *messages, size_t i, const char *role)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(json_object_array_get_idx(messages, i), "role", &v);
	return json_object_is_type(v, json_type_string) && !strcmp(json_object_get_string(v), role);
}

/* Behind system text and tools: where a user's message begins that no other begins like. */
static void mark_system(struct work *w, struct json_object *messages)
{
	struct json_object *user =
		json_tokener_parse("{\"role\":\"user\",\"content\":\"\\u0001\"}");
	struct json_object *some = first_of(messages, is_role(messages, 0, "system"), user);

	if (some)
		mark(w, some, CHAT_MARK_SYSTEM);
	json_object_put(some);
}

static void mark_users(struct work *w, struct json_object *messages)
{
	size_t n = json_object_array_length(messages);

	for (unsigned found = 0; n && found < USERS; n--) {
		struct json_object *some;

		if (!is_role(messages, n - 1, "user"))
			continue;
		found++;
		some = first_of(messages, n, NULL);
		if (some)
			mark(w, some, CHAT_MARK_USER);
		json_object_put(some);
	}
}

size_t chat_marks(const struct chat_template *c, const struct chat_input *in,
		  const struct template_options *o, const struct rendered *r,
		  struct chat_mark ret[CHAT_MARKS])
{
	struct json_object *messages = NULL, *tools = NULL;
	struct chat_input mine = *in;
	struct work w = { c, &mine, o, r, ret, 0 };
	struct err err = { 0 };

	if (in->raw) {
		messages = json_object_get(in->messages);
		tools = json_object_get(in->tools);
	} else if (chat_normalise(in->messages, in->tools, &messages, &tools, &err)) {
		return 0;
	}
	mine.messages = messages;
	mine.tools = tools;
	mine.raw = true; /* it has been normalised */
	if (json_object_is_type(messages, json_type_array) && json_object_array_length(messages)) {
		mark_system(&w, messages);
		mark_users(&w, messages);
		if (in->add_generation_prompt && !in->continue_final)
			mark(&w, messages, CHAT_MARK_PROMPT);
	}
	json_object_put(messages);
	json_object_put(tools);
	return w.n;
}
