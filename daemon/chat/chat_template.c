/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/chat_template.c: a model's chat template: where it comes from, and a conversation
 * rendered with it. What it can do: caps.c. See template.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "chat/caps.h"

int chat_template_make(const char *source, size_t len, const char *bos, const char *eos,
		       struct chat_template **ret, struct err *err)
{
	struct chat_template *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_set(err, -ENOMEM, "out of memory for the chat template");
	rc = template_compile(source, len, &c->usual, err);
	c->source = malloc(len + 1);
	c->bos = bos ? strdup(bos) : NULL;
	c->eos = eos ? strdup(eos) : NULL;
	c->len = len;
	if (!rc && (!c->source || (bos && !c->bos) || (eos && !c->eos)))
		rc = err_set(err, -ENOMEM, "out of memory for the chat template");
	if (rc) {
		chat_template_destroy(c);
		return rc;
	}
	if (len)
		memcpy(c->source, source, len);
	c->source[len] = '\0';
	chat_caps_probe(c, &c->caps);
	*ret = c;
	return 0;
}

void chat_template_destroy(struct chat_template *c)
{
	if (!c)
		return;
	template_destroy(c->usual);
	template_destroy(c->tool_use);
	free(c->source);
	free(c->bos);
	free(c->eos);
	free(c);
}

const struct chat_caps *chat_template_caps(const struct chat_template *c)
{
	return &c->caps;
}

const char *chat_template_source(const struct chat_template *c, size_t *ret_len)
{
	*ret_len = c->len;
	return c->source;
}

/* ---- rendering ---- */

static int set(struct json_object *vars, const char *key, struct json_object *v)
{
	if (!json_object_object_add(vars, key, v))
		return 0;
	json_object_put(v);
	return -ENOMEM;
}

/* bos_token or eos_token, where kwargs do not say something else; *@trust then has its name. */
static int set_token(struct json_object *vars, struct json_object *kwargs, const char *key,
		     const char *text, const char ***trust)
{
	if (!text || (kwargs && json_object_object_get_ex(kwargs, key, NULL)))
		return 0;
	*(*trust)++ = key;
	return set(vars, key, json_object_new_string(text));
}

/* What the template sees. @trusted has room for three. */
static struct json_object *make_vars(const struct chat_template *c, const struct chat_input *in,
				     struct json_object *messages, struct json_object *tools,
				     const char **trusted)
{
	struct json_object *vars = json_object_new_object();
	int rc = vars ? 0 : -ENOMEM;

	memset(trusted, 0, 3 * sizeof(*trusted));
	if (!rc)
		rc = set_token(vars, in->kwargs, "bos_token", c->bos, &trusted);
	if (!rc)
		rc = set_token(vars, in->kwargs, "eos_token", c->eos, &trusted);
	if (!rc)
		rc = set(vars, "documents", NULL);
	if (!rc && in->kwargs) {
		json_object_object_foreach(in->kwargs, key, value)
		{
			if (!rc)
				rc = set(vars, key, json_object_get(value));
		}
	}
	if (!rc)
		rc = set(vars, "messages", json_object_get(messages));
	if (!rc)
		rc = set(vars, "tools", json_object_get(tools));
	if (!rc)
		rc = set(vars, "add_generation_prompt",
			 json_object_new_boolean(in->add_generation_prompt && !in->continue_final));
	if (!rc)
		return vars;
	json_object_put(vars);
	return NULL;
}

/* As transformers does before it renders: a thought under both names. New objects, or NULL. */
static struct json_object *raw_messages(struct json_object *messages)
{
	static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
	struct json_object *copy = NULL, *found, *m;

	if (!messages || json_object_deep_copy(messages, &copy, NULL))
		return NULL;
	if (!json_object_is_type(copy, json_type_array))
		return copy;
	for (size_t i = 0; i < json_object_array_length(copy); i++) {
		m = json_object_array_get_idx(copy, i);
		found = NULL;
		if (!json_object_is_type(m, json_type_object))
			continue;
		for (size_t k = 0; k < 3 && !found; k++)
			json_object_object_get_ex(m, names[k], &found);
		if (!found)
			continue;
		json_object_get(found);
		for (size_t k = 0; k < 2; k++)
			set(m, names[k], json_object_get(found));
		json_object_put(found);
	}
	return copy;
}

/* White space at the ends of @p, as ASCII has it. */
static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static void turn_round(char *to, const char *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = from[n - 1 - i];
}

/*
 * Where @word stands last in @text: by memmem(), whose time grows with both, turned round. A template may
 * show the last message otherwise and a client write it so that it matches everywhere but at its end.
 * 0, -ENOMEM, -ENOENT.
 */
static int find_last(const char *text, size_t n, const char *word, size_t len, size_t *ret)
{
	char *back = malloc(n + len + 1);
	const char *found;

	if (!back)
		return -ENOMEM;
	turn_round(back, text, n);
	turn_round(back + n, word, len);
	found = memmem(back, n, back + n, len);
	if (found)
		*ret = n - len - (size_t)(found - back);
	free(back);
	return found ? 0 : -ENOENT;
}

/* Leaves @r open behind the last message's content, as transformers' continue_final_message does. */
static int cut_behind_final(struct rendered *r, struct json_object *messages, struct err *err)
{
	size_t n = json_object_array_length(messages), len, from = 0, end;
	struct json_object *content = NULL, *last = json_object_array_get_idx(messages, n - 1);
	const char *text;
	int rc;

	json_object_object_get_ex(last, "content", &content);
	if (!json_object_is_type(content, json_type_string))
		return err_set(err, -EINVAL, "the last message has no content to go on with");
	text = json_object_get_string(content);
	len = (size_t)json_object_get_string_len(content);
	while (from < len && is_space(text[from]))
		from++;
	for (end = len; end > from && is_space(text[end - 1]);)
		end--;
	rc = find_last(r->text, r->n, text + from, end - from, &n);
	if (rc == -ENOMEM)
		return err_set(err, rc, "out of memory for the text of a chat");
	if (rc)
		return err_set(err, -EINVAL,
			       "the chat template does not show the last message as it is, so it "
			       "cannot be gone on with");
	if (len - from <= r->n - n && !memcmp(r->text + n, text + from, len - from))
		end = len; /* white space at its end is kept */
	r->n = n + end - from;
	r->text[r->n] = '\0';
	while (r->n_trusted && r->trusted[r->n_trusted - 1].begin >= r->n)
		r->n_trusted--;
	if (r->n_trusted && r->trusted[r->n_trusted - 1].end > r->n)
		r->trusted[r->n_trusted - 1].end = r->n;
	return 0;
}

static int render(const struct chat_template *c, const struct chat_input *in,
		  struct json_object *messages, struct json_object *tools,
		  const struct template_options *o, struct rendered *ret,
		  struct template_error *err)
{
	struct template_options mine = o ? *o : (struct template_options){ 0 };
	const char *trusted[3];
	struct json_object *vars = make_vars(c, in, messages, tools, trusted);
	int rc;

	if (!vars)
		return err_set(&err->err, -ENOMEM, "out of memory for the variables of a chat");
	mine.trusted = trusted;
	rc = template_render(c->tool_use && tools && json_object_array_length(tools) ? c->tool_use
										     : c->usual,
			     vars, &mine, ret, err);
	if (!rc && in->continue_final) {
		rc = cut_behind_final(ret, messages, &err->err);
		if (rc) {
			rendered_done(ret);
			err->raised = rc == -EINVAL;
		}
	}
	json_object_put(vars);
	return rc;
}

int chat_render(const struct chat_template *c, const struct chat_input *in,
		const struct template_options *o, struct rendered *ret, struct template_error *err)
{
	struct json_object *messages = NULL, *tools = NULL;
	int rc = 0;

	if (in->raw) {
		messages = raw_messages(in->messages);
		tools = json_object_get(in->tools);
	} else {
		rc = chat_normalise(in->messages, in->tools, &messages, &tools, &err->err);
		err->raised = rc == -EINVAL;
	}
	if (!rc && in->continue_final && !json_object_is_type(messages, json_type_array))
		rc = err_set(&err->err, -EINVAL, "messages: no list");
	if (!rc)
		rc = render(c, in, messages, tools, o, ret, err);
	json_object_put(messages);
	json_object_put(tools);
	return rc;
}
