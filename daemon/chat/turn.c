/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/turn.c: one user turn by the model's own template: what the native socket and
 * `sluice tokenize --chat` ask for. See template.h.
 */
#include <errno.h>
#include <string.h>

#include "base/jsonc.h"
#include "base/utf8.h"
#include "chat/template.h"

static bool is_utf8(const char *text, size_t len)
{
	uint32_t cp;

	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_decode((const uint8_t *)text + i, len - i, &cp);
		if (!n)
			return false;
	}
	return true;
}

static int set(struct json_object *o, const char *key, struct json_object *v)
{
	if (v && !json_object_object_add(o, key, v))
		return 0;
	json_object_put(v);
	return -ENOMEM;
}

static int add_message(struct json_object *all, const char *role, const char *text, size_t len)
{
	struct json_object *m = json_object_new_object();
	int rc = m && len <= INT32_MAX ? 0 : -ENOMEM;

	if (!rc)
		rc = set(m, "role", json_object_new_string(role));
	if (!rc)
		rc = set(m, "content", json_object_new_string_len(len ? text : "", (int)len));
	if (!rc && !json_object_array_add(all, m))
		return 0;
	json_object_put(m);
	return -ENOMEM;
}

/* The variables, with the switch of thinking; a new object, or NULL. */
static struct json_object *make_kwargs(const struct chat_template *c, struct json_object *given,
				       enum chat_thinking thinking)
{
	static const char *const names[] = { "enable_thinking", "thinking" };
	bool usual = thinking == CHAT_THINK_AS_USUAL;
	struct json_object *o = NULL;

	if (given ? json_object_deep_copy(given, &o, NULL) : !(o = json_object_new_object()))
		return NULL;
	if (usual && (json_object_object_get_ex(o, names[0], NULL) ||
		      json_object_object_get_ex(o, names[1], NULL)))
		return o; /* who started the daemon has said how it is to be */
	for (size_t i = 0; i < 2 && chat_template_caps(c)->thinking_switch; i++)
		if (set(o, names[i], json_object_new_boolean(thinking == CHAT_THINK))) {
			json_object_put(o);
			return NULL;
		}
	return o;
}

/* Whether what was rendered ends with the beginning of a thought. */
static bool opens_thought(const struct rendered *r)
{
	static const char tag[] = "<think>";
	size_t n = r->n;

	while (n && r->text[n - 1] == '\n')
		n--;
	return n >= sizeof(tag) - 1 &&
	       !memcmp(r->text + n - (sizeof(tag) - 1), tag, sizeof(tag) - 1);
}

/* Without a switch: only what the template does anyway can be asked for. */
static int check_thinking(const struct chat_template *c, const struct rendered *r,
			  enum chat_thinking thinking, struct err *err)
{
	if (thinking == CHAT_THINK_AS_USUAL || chat_template_caps(c)->thinking_switch)
		return 0;
	if (!opens_thought(r))
		return err_set(err, -ENOTSUP,
			       "the chat template of this model has no form for thinking, so it "
			       "cannot be switched on or off: leave out --think and --no-think");
	if (thinking == CHAT_NO_THINK)
		return err_set(err, -ENOTSUP,
			       "the chat template of this model always thinks: leave out "
			       "--no-think");
	return 0;
}

static int render(const struct chat_template *c, struct json_object *kwargs,
		  const struct chat_turn *turn, struct rendered *ret, struct err *err)
{
	struct template_error failed = { 0 };
	struct chat_input in = { .messages = json_object_new_array(),
				 .kwargs = make_kwargs(c, kwargs, turn->thinking),
				 .add_generation_prompt = true,
				 .raw = true };
	int rc = in.messages && in.kwargs ? 0 : -ENOMEM;

	if (!rc && turn->system)
		rc = add_message(in.messages, "system", turn->system, turn->system_len);
	if (!rc)
		rc = add_message(in.messages, "user", turn->user, turn->user_len);
	if (rc)
		err_set(err, rc, "out of memory for a chat");
	else
		rc = chat_render(c, &in, NULL, ret, &failed);
	if (rc && failed.err.text[0])
		rc = err_set(err, rc == -ENOMEM ? rc : -ENOTSUP, "the chat template refuses: %s",
			     failed.err.text);
	json_object_put(in.messages);
	json_object_put(in.kwargs);
	return rc;
}

ssize_t chat_turn_encode(const struct chat_template *c, struct json_object *kwargs,
			 const struct gguf *g, const struct tokenizer *t,
			 const struct chat_turn *turn, uint32_t **ret_ids, struct err *err)
{
	struct rendered r = { 0 };
	struct text_span all = { 0 };
	ssize_t n;

	if (!c || !is_utf8(turn->user, turn->user_len) ||
	    (turn->system && !is_utf8(turn->system, turn->system_len)))
		return chat_encode(g, t, turn, ret_ids, err);
	n = render(c, kwargs, turn, &r, err);
	if (!n)
		n = check_thinking(c, &r, turn->thinking, err);
	all.end = r.n;
	if (!n && turn->special)
		n = tokenizer_encode_spans(t, r.text, r.n, &all, 1, ret_ids);
	else if (!n)
		n = tokenizer_encode_spans(t, r.text, r.n, r.trusted, r.n_trusted, ret_ids);
	rendered_done(&r);
	return n;
}
