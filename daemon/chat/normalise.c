/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/normalise.c: what people and programs send, in the one shape that templates expect.
 *
 * The interpreter is exact and templates differ in what they take; so it is here, before it, that
 * requests are made alike. The rules are written down in docs/templates.md. What is right already
 * goes through as it is. Refused with the place and the reason: what is no message. Tools and calls of
 * them are in normalise_tools.c. See template.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "chat/normalise.h"
#include "chat/template.h"

/* What is put before a system message that does not lead the conversation. */
#define LATE_SYSTEM "[system message]\n"

struct text {
	char *p;
	size_t n, cap;
	bool failed;
};

struct work {
	struct norm n;
	struct json_object *out; /* messages so far */
	struct text lead; /* system texts before the first other message, which may be many */
	bool leads;	  /* there are such, and no message has them yet */
};

const char *norm_text(struct json_object *o)
{
	return json_object_is_type(o, json_type_string) ? json_object_get_string(o) : NULL;
}

int norm_no_memory(struct norm *w)
{
	return err_set(w->err, -ENOMEM, "out of memory for the messages of a chat");
}

int norm_put(struct norm *w, struct json_object *o, const char *key, struct json_object *v)
{
	if (!v || json_object_object_add(o, key, v)) {
		json_object_put(v);
		return norm_no_memory(w);
	}
	return 0;
}

struct json_object *norm_copy(struct json_object *o)
{
	struct json_object *copy = json_object_new_object();

	json_object_object_foreach(o, key, value)
	{
		if (copy && value && json_object_object_add(copy, key, json_object_get(value))) {
			json_object_put(value);
			json_object_put(copy);
			copy = NULL;
		}
	}
	return copy;
}

/* A copy of @s that is not NULL, or NULL: no memory. */
static struct json_object *new_text(const char *s, size_t n)
{
	return json_object_new_string_len(s, (int)n);
}

/* ---- text that grows ---- */

static void add(struct text *t, const char *p, size_t n)
{
	if (t->failed || n > INT32_MAX / 2 || t->n > INT32_MAX / 2) {
		t->failed = true;
		return;
	}
	if (t->n + n + 1 > t->cap) {
		size_t cap = 2 * (t->n + n + 1);
		char *more = realloc(t->p, cap);

		if (!more) {
			t->failed = true;
			return;
		}
		t->p = more;
		t->cap = cap;
	}
	memcpy(t->p + t->n, p, n);
	t->n += n;
	t->p[t->n] = '\0';
}

static struct json_object *take(struct text *t)
{
	struct json_object *o = t->failed ? NULL : new_text(t->p ? t->p : "", t->n);

	free(t->p);
	*t = (struct text){ 0 };
	return o;
}

/* ---- content ---- */

/* One part of a content list: its text is added. */
static int add_part(struct work *w, struct text *t, struct json_object *part, size_t i)
{
	const char *type = json_object_is_type(part, json_type_object)
				   ? norm_text(jsonc_member(part, "type"))
				   : NULL;
	struct json_object *s = part;

	if (type &&
	    (!strcmp(type, "text") || !strcmp(type, "input_text") || !strcmp(type, "output_text")))
		s = jsonc_member(part, "text");
	else if (type && !strcmp(type, "refusal"))
		s = jsonc_member(part, "refusal");
	else if (type)
		return err_set(w->n.err, -EINVAL,
			       "messages[%zu].content[%zu]: a part of type '%.60s'; only text is "
			       "understood",
			       w->n.at, i, type);
	if (!norm_text(s))
		return err_set(w->n.err, -EINVAL,
			       "messages[%zu].content[%zu]: neither a text nor a part with one",
			       w->n.at, i);
	if (i)
		add(t, "\n", 1);
	add(t, norm_text(s), (size_t)json_object_get_string_len(s));
	return 0;
}

/* The content of a message as one text, a new object. */
static int flat_content(struct work *w, struct json_object *content, bool tool,
			struct json_object **ret)
{
	struct text t = { 0 };
	size_t n = json_object_is_type(content, json_type_array) ? json_object_array_length(content)
								 : 0;
	const char *json;
	int rc = 0;

	if (norm_text(content)) {
		*ret = json_object_get(content);
		return 0;
	}
	if (json_object_is_type(content, json_type_array)) {
		for (size_t i = 0; i < n && !rc; i++)
			rc = add_part(w, &t, json_object_array_get_idx(content, i), i);
	} else if (content && tool) { /* what a tool says may be any JSON */
		json = json_object_to_json_string_ext(
			content, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
		add(&t, json, strlen(json));
	} else if (content) {
		rc = err_set(w->n.err, -EINVAL, "messages[%zu].content: neither a text nor a list",
			     w->n.at);
	}
	if (rc) {
		free(t.p);
		return rc;
	}
	*ret = take(&t);
	return *ret ? 0 : norm_no_memory(&w->n);
}

/*
 * Claude Code begins its system text with a line "x-anthropic-billing-header: ...; cch=1a2b3;" whose
 * mark differs in each request; one zero for each of its characters makes prefixes alike again.
 */
static int steady_mark(struct work *w, struct json_object **content)
{
	static const char header[] = "x-anthropic-billing-header:", mark[] = "cch=";
	const char *text = json_object_get_string(*content), *line, *end, *p;
	size_t n = (size_t)json_object_get_string_len(*content);
	struct json_object *o;
	char *copy;

	line = memmem(text, n, header, sizeof(header) - 1);
	if (!line || (line > text && line[-1] != '\n'))
		return 0;
	end = memchr(line, '\n', n - (size_t)(line - text));
	end = end ? end : text + n;
	p = memmem(line, (size_t)(end - line), mark, sizeof(mark) - 1);
	if (!p)
		return 0;
	copy = malloc(n + 1);
	if (!copy)
		return norm_no_memory(&w->n);
	memcpy(copy, text, n + 1);
	for (char *c = copy + (p - text) + sizeof(mark) - 1;
	     c < copy + (end - text) && *c != ';' && *c != ' ' && *c != '\r'; c++)
		*c = '0';
	o = new_text(copy, n);
	free(copy);
	if (!o)
		return norm_no_memory(&w->n);
	json_object_put(*content);
	*content = o;
	return 0;
}

/* ---- system messages ---- */

/* One more leading system text, which is let go of. */
static void lead_system(struct work *w, struct json_object *content)
{
	if (w->leads)
		add(&w->lead, "\n\n", 2);
	add(&w->lead, json_object_get_string(content), (size_t)json_object_get_string_len(content));
	w->leads = true;
	json_object_put(content);
}

/* All of them as the first message. */
static int put_lead(struct work *w)
{
	struct json_object *m;
	int rc;

	if (!w->leads)
		return 0;
	w->leads = false;
	m = json_object_new_object();
	rc = m ? norm_put(&w->n, m, "role", json_object_new_string("system"))
	       : norm_no_memory(&w->n);
	if (!rc)
		rc = norm_put(&w->n, m, "content", take(&w->lead));
	if (!rc && !json_object_array_add(w->out, m))
		return 0;
	json_object_put(m);
	return rc ? rc : norm_no_memory(&w->n);
}

/* The text of a later one, marked: a turn of the user's in its place. */
static int mark_system(struct work *w, struct json_object **content)
{
	struct text t = { 0 };
	struct json_object *o;

	add(&t, LATE_SYSTEM, sizeof(LATE_SYSTEM) - 1);
	add(&t, json_object_get_string(*content), (size_t)json_object_get_string_len(*content));
	o = take(&t);
	if (!o)
		return norm_no_memory(&w->n);
	json_object_put(*content);
	*content = o;
	return 0;
}

/* What an assistant thought, under both names that templates use. */
static int take_reasoning(struct work *w, struct json_object *m)
{
	static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
	struct json_object *found = NULL;
	int rc;

	for (size_t i = 0; i < 3 && !found; i++)
		found = jsonc_member(m, names[i]);
	if (!found)
		return 0;
	if (!norm_text(found))
		return err_set(w->n.err, -EINVAL, "messages[%zu]: reasoning that is no text",
			       w->n.at);
	json_object_get(found); /* put() may let go of the one in @m */
	rc = norm_put(&w->n, m, "reasoning_content", json_object_get(found));
	if (!rc)
		rc = norm_put(&w->n, m, "thinking", json_object_get(found));
	json_object_put(found);
	return rc;
}

/* ---- messages ---- */

static bool is(const char *a, const char *b)
{
	return !strcmp(a, b);
}

/* Makes @content that of a copy of @message, and the rest of it what templates expect. */
static int add_message(struct work *w, struct json_object *message, const char *role,
		       struct json_object *content)
{
	struct json_object *m = norm_copy(message);
	int rc = m ? norm_put(&w->n, m, "role", json_object_new_string(role))
		   : norm_no_memory(&w->n);

	if (rc)
		json_object_put(content);
	else
		rc = norm_put(&w->n, m, "content", content);
	if (!rc && is(role, "assistant"))
		rc = norm_calls(&w->n, m);
	if (!rc && is(role, "assistant"))
		rc = take_reasoning(w, m);
	if (!rc && !json_object_array_add(w->out, m))
		return 0;
	json_object_put(m);
	return rc ? rc : norm_no_memory(&w->n);
}

static int take_message(struct work *w, struct json_object *message, bool *leading)
{
	const char *role = json_object_is_type(message, json_type_object)
				   ? norm_text(jsonc_member(message, "role"))
				   : NULL;
	struct json_object *content = NULL;
	bool system;
	int rc;

	if (!role)
		return err_set(w->n.err, -EINVAL, "messages[%zu]: no object with a role", w->n.at);
	if (is(role, "function")) /* what tool was called once */
		role = "tool";
	system = is(role, "system") || is(role, "developer");
	if (!system && !is(role, "user") && !is(role, "assistant") && !is(role, "tool"))
		return err_set(w->n.err, -EINVAL,
			       "messages[%zu].role: '%.40s' is none of system, developer, user, "
			       "assistant, tool",
			       w->n.at, role);
	rc = flat_content(w, jsonc_member(message, "content"), is(role, "tool"), &content);
	if (rc)
		return rc;
	if (system)
		rc = steady_mark(w, &content);
	if (!rc && system && *leading) {
		lead_system(w, content);
		return 0;
	}
	if (!rc)
		rc = put_lead(w);
	*leading = false;
	if (!rc && system) {
		rc = mark_system(w, &content);
		role = "user";
	}
	if (rc) {
		json_object_put(content);
		return rc;
	}
	return add_message(w, message, role, content);
}

static int take_messages(struct work *w, struct json_object *messages)
{
	size_t n;
	bool leading = true;
	int rc = 0;

	if (!json_object_is_type(messages, json_type_array))
		return err_set(w->n.err, -EINVAL, "messages: no list");
	n = json_object_array_length(messages);
	if (!n)
		return err_set(w->n.err, -EINVAL, "messages: an empty list");
	for (w->n.at = 0; w->n.at < n && !rc; w->n.at++)
		rc = take_message(w, json_object_array_get_idx(messages, w->n.at), &leading);
	return rc ? rc : put_lead(w);
}

int chat_normalise(struct json_object *messages, struct json_object *tools,
		   struct json_object **ret_messages, struct json_object **ret_tools,
		   struct err *err)
{
	struct work w = { .out = json_object_new_array(), .n.err = err };
	int rc = w.out ? take_messages(&w, messages) : norm_no_memory(&w.n);

	if (!rc)
		rc = norm_tools(&w.n, tools, ret_tools);
	free(w.lead.p);
	if (rc)
		json_object_put(w.out);
	else
		*ret_messages = w.out;
	return rc;
}
