/* SPDX-License-Identifier: MIT */
/*
 * tools/chat_talk.c: see chat.h. A conversation is json-c's objects, as the request has them; a saved
 * one is a JSON object {"system", "thinking", "params", "messages"}, which anybody may have written.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "base/ranges.h"
#include "base/write_all.h"
#include "tools/chat.h"
#include "tools/input.h"
#include "tools/json_input.h"

static const char *const thinking_names[] = { "auto", "on", "off" };

/* What docs/http.md has that is a number, within the daemon's own ranges. */
static const struct {
	const char *name;
	bool whole;
	double min, max; /* alike: any */
} params[] = { { "top_k", true, RANGE_COUNT_MIN, RANGE_COUNT_MAX },
	       { "max_tokens", true, RANGE_COUNT_MIN, RANGE_COUNT_MAX },
	       { "repeat_last_n", true, RANGE_COUNT_MIN, RANGE_COUNT_MAX },
	       { "seed", true, 0, 0 },
#define ROW(name, min, max) { #name, false, min, max },
	       RANGES_FLOAT(ROW)
#undef ROW
};

#define PARAM_NAMES                                                                           \
	"temperature, top_k, top_p, min_p, seed, max_tokens, repeat_penalty, repeat_last_n, " \
	"frequency_penalty, presence_penalty, typical_p, top_n_sigma, xtc_probability, "      \
	"xtc_threshold, dry_multiplier"

const char *talk_param_names(void)
{
	return PARAM_NAMES;
}

int talk_init(struct talk *t)
{
	*t = (struct talk){ .messages = json_object_new_array(),
			    .params = json_object_new_object() };
	return t->messages && t->params ? 0 : -ENOMEM;
}

void talk_done(struct talk *t)
{
	json_object_put(t->messages);
	json_object_put(t->params);
	free(t->system);
	*t = (struct talk){ 0 };
}

void talk_clear(struct talk *t)
{
	json_object_array_del_idx(t->messages, 0, json_object_array_length(t->messages));
}

int talk_set_system(struct talk *t, const char *text)
{
	char *copy = text && *text ? strdup(text) : NULL;

	if (text && *text && !copy)
		return -ENOMEM;
	free(t->system);
	t->system = copy;
	return 0;
}

static int bad_param(const char *text, const char *why, struct err *err)
{
	return err_set(err, -EINVAL, "%.80s: %s", text, why);
}

/* As JSON has them (RFC 8259, 6), what .5, +1, 1. and 007 are not. */
static bool is_json_number(const char *text)
{
	static const char digits[] = "0123456789";
	const char *whole = text + (*text == '-');
	size_t n = strspn(whole, digits);
	const char *rest = whole + n;

	if (!n || (*whole == '0' && n > 1))
		return false;
	if (*rest == '.') {
		n = strspn(rest + 1, digits);
		rest += n + 1;
	}
	if (n && (*rest == 'e' || *rest == 'E')) {
		rest += rest[1] == '-' || rest[1] == '+' ? 2 : 1;
		n = strspn(rest, digits);
		rest += n;
	}
	return n && !*rest;
}

int talk_set_param(struct talk *t, const char *text, struct err *err)
{
	const char *value = strchr(text, '=');
	size_t n = value ? (size_t)(value - text) : strlen(text), i = 0;
	struct json_object *number;
	double x;
	char *end;

	while (i < ARRAY_LEN(params) &&
	       (strlen(params[i].name) != n || strncmp(params[i].name, text, n) != 0))
		i++;
	if (i == ARRAY_LEN(params))
		return bad_param(text, "there is no such parameter; there are " PARAM_NAMES, err);
	if (!value)
		return bad_param(text, "NAME=VALUE sets it, NAME= takes that back", err);
	value++;
	if (!*value) {
		json_object_object_del(t->params, params[i].name);
		return 0;
	}
	x = strtod(value, &end);
	if (*end || end == value || !isfinite(x) || strpbrk(value, "xX "))
		return bad_param(text, "that is no number", err);
	errno = 0;
	number = params[i].whole	 ? json_object_new_int64(strtoll(value, &end, 10))
		 : is_json_number(value) ? json_object_new_double_s(x, value)
					 : json_object_new_double(x);
	if (!number || (params[i].whole && (*end || errno))) {
		json_object_put(number);
		return bad_param(text, "that is no whole number", err);
	}
	if (params[i].min < params[i].max && !(x >= params[i].min && x <= params[i].max)) {
		json_object_put(number);
		return err_set(err, -EINVAL, "%.80s: it must lie between %.10g and %.10g", text,
			       params[i].min, params[i].max);
	}
	json_object_object_add(t->params, params[i].name, number);
	return 0;
}

void talk_add(struct talk *t, const char *role, const char *content, const char *reasoning)
{
	struct json_object *m = json_object_new_object();

	json_object_object_add(m, "role", json_object_new_string(role));
	json_object_object_add(m, "content", json_object_new_string(content));
	if (reasoning && *reasoning)
		json_object_object_add(m, "reasoning_content", json_object_new_string(reasoning));
	json_object_array_add(t->messages, m);
}

void talk_drop_last(struct talk *t)
{
	size_t n = talk_turns(t);

	if (n)
		json_object_array_del_idx(t->messages, n - 1, 1);
}

size_t talk_turns(const struct talk *t)
{
	return json_object_array_length(t->messages);
}

static struct json_object *copy_of(struct json_object *o)
{
	struct json_object *copy = NULL;

	json_object_deep_copy(o, &copy, NULL);
	return copy;
}

/* The system text is the first message. */
static struct json_object *all_messages(const struct talk *t)
{
	struct json_object *all = json_object_new_array(), *m = json_object_new_object();

	if (t->system) {
		json_object_object_add(m, "role", json_object_new_string("system"));
		json_object_object_add(m, "content", json_object_new_string(t->system));
		json_object_array_add(all, m);
	} else {
		json_object_put(m);
	}
	for (size_t i = 0; i < talk_turns(t); i++)
		json_object_array_add(all, copy_of(json_object_array_get_idx(t->messages, i)));
	return all;
}

char *talk_request(const struct talk *t)
{
	struct json_object *o = copy_of(t->params), *options = json_object_new_object();
	struct json_object *kwargs;

	json_object_object_add(o, "messages", all_messages(t));
	json_object_object_add(o, "stream", json_object_new_boolean(true));
	json_object_object_add(options, "include_usage", json_object_new_boolean(true));
	json_object_object_add(o, "stream_options", options);
	json_object_object_add(o, "return_progress", json_object_new_boolean(true));
	if (t->thinking != TALK_THINK_AS_USUAL) {
		kwargs = json_object_new_object();
		json_object_object_add(kwargs, "enable_thinking",
				       json_object_new_boolean(t->thinking == TALK_THINK));
		json_object_object_add(o, "chat_template_kwargs", kwargs);
	}
	return jsonc_take_text(o);
}

/* ---- files ---- */

/* Beside @path, then over it: for its owner alone, as prompts are. */
static int replace(const char *path, const char *text, struct err *err)
{
	char *beside = NULL;
	int fd = -1, rc;

	if (input_is_special(path))
		return err_set(err, -EINVAL, "%s: is no file", path);
	if (asprintf(&beside, "%s.XXXXXX", path) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	fd = mkostemp(beside, O_CLOEXEC);
	rc = fd < 0 ? -errno : write_all(fd, text, strlen(text));
	if (!rc && fsync(fd))
		rc = -errno;
	if (fd >= 0 && close(fd) && !rc)
		rc = -errno;
	if (!rc && rename(beside, path))
		rc = -errno;
	if (rc && fd >= 0)
		unlink(beside);
	free(beside);
	return rc ? err_set(err, rc, "%s: %s", path, strerror(-rc)) : 0;
}

int talk_save(const struct talk *t, const char *path, struct err *err)
{
	struct json_object *o = json_object_new_object();
	char *text;
	int rc;

	json_object_object_add(o, "system", t->system ? json_object_new_string(t->system) : NULL);
	json_object_object_add(o, "thinking", json_object_new_string(thinking_names[t->thinking]));
	json_object_object_add(o, "params", copy_of(t->params));
	json_object_object_add(o, "messages", copy_of(t->messages));
	text = jsonc_take_text(o);
	rc = text ? replace(path, text, err) : err_set(err, -ENOMEM, "out of memory");
	free(text);
	return rc;
}

static const char *string_in(struct json_object *o, const char *key)
{
	struct json_object *v = jsonc_member(o, key);

	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

/* A saved turn has a role of ours and a text. */
static int take_message(struct talk *t, struct json_object *m)
{
	const char *role = string_in(m, "role"), *content = string_in(m, "content");

	if (!role || !content || (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0))
		return -EINVAL;
	talk_add(t, role, content, string_in(m, "reasoning_content"));
	return 0;
}

static int take_param(struct talk *t, const char *name, struct json_object *value, struct err *err)
{
	char text[128];

	if (snprintf(text, sizeof(text), "%s=%s", name, json_object_to_json_string(value)) >=
	    (int)sizeof(text))
		return -EINVAL;
	return talk_set_param(t, text, err);
}

static int take_saved(struct talk *t, struct json_object *o, struct err *err)
{
	struct json_object *messages = jsonc_member(o, "messages"),
			   *saved = jsonc_member(o, "params");
	const char *thinking = string_in(o, "thinking");
	int rc = talk_set_system(t, string_in(o, "system"));

	if (!json_object_is_type(messages, json_type_array))
		return -EINVAL;
	for (size_t i = 0; !rc && i < json_object_array_length(messages); i++)
		rc = take_message(t, json_object_array_get_idx(messages, i));
	if (json_object_is_type(saved, json_type_object)) {
		json_object_object_foreach(saved, name, value)
		{
			if (!rc)
				rc = take_param(t, name, value, err);
		}
	}
	for (unsigned i = 0; thinking && i < ARRAY_LEN(thinking_names); i++)
		if (!strcmp(thinking, thinking_names[i]))
			t->thinking = (enum talk_thinking)i;
	return rc;
}

int talk_load(struct talk *t, const char *path, struct err *err)
{
	struct json_object *o = NULL;
	struct talk loaded;
	struct err why = { 0 };
	char *text = NULL;
	size_t n = 0;
	int rc = input_file(path, &text, &n, err);

	if (rc)
		return rc;
	rc = input_json_object(text, n, &o, err);
	if (!rc)
		rc = talk_init(&loaded);
	if (!rc) {
		rc = take_saved(&loaded, o, &why);
		if (rc) {
			talk_done(&loaded);
		} else {
			talk_done(t);
			*t = loaded;
		}
	}
	json_object_put(o);
	free(text);
	if (!rc)
		return 0;
	err_set(err, rc, "%s", why.text[0] ? why.text : "this is no conversation that /save wrote");
	return err_prefix(err, rc, "%s", path);
}
