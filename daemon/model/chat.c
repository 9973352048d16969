/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/chat.c: one user turn in ChatML, as the file's own template would write it.
 *
 * This is the fixed form of the qwen families, not a template engine. Two things are read off the
 * template's text: whether it trims what people write, and how it begins an answer with and without
 * a thought; a default system prompt that a template may carry is not added. Control tokens in what
 * people write stay text unless asked for. Called by serve. Any thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "model/gguf.h"
#include "model/tokenizer_impl.h"
#include "model/tokenizer_utf8.h"

#define ANSWER "assistant\n"

/* What stands between ANSWER and the model's first token; NULL: the template has no such form. */
struct form {
	bool trims;
	const char *thought, *no_thought;
};

struct chat {
	const struct tokenizer *t;
	struct form form;
	uint32_t start, end; /* <|im_start|>, <|im_end|> */
	struct id_list ids;
};

/* Finds @what in the template, white space of the template ignored. @what has none. */
static bool holds_closed(struct gguf_str text, const char *what)
{
	size_t n = strlen(what), k;

	for (uint64_t i = 0; i < text.len; i++) {
		uint64_t at = i;

		for (k = 0; k < n && at < text.len; at++) {
			if (text.data[at] == ' ' && k)
				continue;
			if (text.data[at] != what[k])
				break;
			k++;
		}
		if (k == n)
			return true;
	}
	return false;
}

static bool holds(struct gguf_str text, const char *what)
{
	return text.len && memmem(text.data, text.len, what, strlen(what)) != NULL;
}

/* What the template adds for generation: from the last time that it asks for that to its end. */
static struct gguf_str generation_part(struct gguf_str text)
{
	static const char asks[] = "add_generation_prompt";
	const char *at = NULL, *next = text.data, *end = text.data + text.len;

	while (next && (next = memmem(next, (size_t)(end - next), asks, sizeof(asks) - 1)))
		at = next++;
	return at ? (struct gguf_str){ at, (uint64_t)(end - at) } : (struct gguf_str){ "", 0 };
}

/* Length of a line break at @p as a template writes it: itself, or backslash and n. */
static size_t line_break(const char *p, const char *end)
{
	if (p < end && *p == '\n')
		return 1;
	return end - p >= 2 && p[0] == '\\' && p[1] == 'n' ? 2 : 0;
}

/* True where @part begins a thought and leaves the rest of it to the model. */
static bool opens_thought(struct gguf_str part)
{
	static const char tag[] = "<think>";
	const char *p = part.data, *end = part.data + part.len;

	while ((p = memmem(p, (size_t)(end - p), tag, sizeof(tag) - 1))) {
		size_t n;

		p += sizeof(tag) - 1;
		n = line_break(p, end);
		if (n && !line_break(p + n, end))
			return true;
	}
	return false;
}

static struct form read_form(const struct gguf *g)
{
	struct gguf_str text = { "", 0 }, part;
	struct form form = { 0 };
	bool opens;

	if (gguf_bytes(g, "tokenizer.chat_template", &text, NULL))
		return form;
	/* some templates trim only what tools say and write the message itself as it is */
	form.trims = holds_closed(text, "|trim") &&
		     !holds_closed(text, "+message.content+'<|im_end|>");
	part = generation_part(text);
	opens = opens_thought(part);
	if (holds(text, "<think>\\n\\n</think>") || holds(text, "<think>\n\n</think>")) {
		form.no_thought = "<think>\n\n</think>\n\n";
		form.thought = opens ? "<think>\n" : ""; /* or the model writes the tag itself */
	} else if (opens) {
		form.thought = "<think>\n";
		form.no_thought = holds(part, "</think>") ? "<think>\n</think>" : NULL;
	}
	return form;
}

/* White space as the template language strips it: Unicode's and the four separators. */
static bool is_space(uint32_t cp)
{
	return (cp >= 9 && cp <= 13) || (cp >= 0x1c && cp <= 0x20) || cp == 0x85 || cp == 0xa0 ||
	       cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
	       cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

static void trim(const char **text, size_t *len)
{
	const uint8_t *s = (const uint8_t *)*text;
	size_t n = *len, last;
	uint32_t cp;
	unsigned size;

	while (n && (size = utf8_decode(s, n, &cp)) && is_space(cp)) {
		s += size;
		n -= size;
	}
	while (n) {
		for (last = n - 1; last && n - last < 4 && (s[last] & 0xc0) == 0x80;)
			last--;
		if (utf8_decode(s + last, n - last, &cp) != n - last || !is_space(cp))
			break;
		n = last;
	}
	*text = (const char *)s;
	*len = n;
}

static int add_id(struct chat *c, uint32_t id)
{
	int rc = id_list_reserve(&c->ids, 1);

	if (!rc)
		c->ids.data[c->ids.n++] = id;
	return rc;
}

static int add_text(struct chat *c, const char *text, size_t len, bool special)
{
	uint32_t *ids = NULL;
	ssize_t n = tokenizer_encode(c->t, text, len, special, &ids);
	int rc = n < 0 ? (int)n : id_list_reserve(&c->ids, (size_t)n);

	if (!rc && n) {
		memcpy(c->ids.data + c->ids.n, ids, (size_t)n * sizeof(*ids));
		c->ids.n += (size_t)n;
	}
	free(ids);
	return rc;
}

/*
 * <|im_start|>role\ntext<|im_end|>\n. Role and text are encoded as one: where a template does not
 * trim, white space at the start of the text joins the line break.
 */
static int add_turn(struct chat *c, const char *role, const char *text, size_t len, bool special)
{
	size_t n_role = strlen(role);
	char *whole;
	int rc;

	if (len > TEXT_MAX_BYTES)
		return -EFBIG;
	if (c->form.trims)
		trim(&text, &len);
	whole = malloc(n_role + 1 + len);
	if (!whole)
		return -ENOMEM;
	memcpy(whole, role, n_role);
	whole[n_role] = '\n';
	if (len)
		memcpy(whole + n_role + 1, text, len);
	rc = add_id(c, c->start);
	if (!rc)
		rc = add_text(c, whole, n_role + 1 + len, special);
	if (!rc)
		rc = add_id(c, c->end);
	if (!rc)
		rc = add_text(c, "\n", 1, false);
	free(whole);
	return rc;
}

/* What the answer begins with, or NULL and a sentence. */
static const char *begin_answer(const struct form *form, enum chat_thinking thinking,
				struct err *err)
{
	if (thinking == CHAT_THINK_AS_USUAL)
		return form->no_thought ? form->no_thought : form->thought ? form->thought : "";
	if (!form->thought && !form->no_thought)
		err_set(err, 0,
			"the chat template of this model has no form for thinking, so it cannot be "
			"switched on or off: leave out --think and --no-think");
	else if (thinking == CHAT_NO_THINK && !form->no_thought)
		err_set(err, 0,
			"the chat template of this model always thinks: leave out --no-think");
	return thinking == CHAT_THINK ? form->thought : form->no_thought;
}

static int add_answer(struct chat *c, const char *begin)
{
	char text[64];
	int rc = add_id(c, c->start);

	snprintf(text, sizeof(text), ANSWER "%s", begin);
	return rc ? rc : add_text(c, text, strlen(text), true);
}

ssize_t chat_encode(const struct gguf *g, const struct tokenizer *t, const struct chat_turn *turn,
		    uint32_t **ret_ids, struct err *err)
{
	int64_t start = tokenizer_special_id(t, "<|im_start|>");
	int64_t end = tokenizer_special_id(t, "<|im_end|>");
	struct chat c = { .t = t, .form = read_form(g) };
	const char *begin;
	int rc = 0;

	if (start < 0 || end < 0)
		return err_set(err, -ENOTSUP,
			       "%.300s: the vocabulary has no <|im_start|> and <|im_end|>, so the "
			       "model has no ChatML form; send raw text instead",
			       gguf_file(g, 0)->path);
	begin = begin_answer(&c.form, turn->thinking, err);
	if (!begin)
		return -ENOTSUP;
	c.start = (uint32_t)start;
	c.end = (uint32_t)end;
	if (turn->system)
		rc = add_turn(&c, "system", turn->system, turn->system_len, turn->special);
	if (!rc)
		rc = add_turn(&c, "user", turn->user, turn->user_len, turn->special);
	if (!rc)
		rc = add_answer(&c, begin);
	if (!rc)
		rc = tokenizer_frame(t, &c.ids);
	if (rc) {
		free(c.ids.data);
		return err_set(err, rc, "the chat cannot be encoded: %s", strerror(-rc));
	}
	*ret_ids = c.ids.data;
	return (ssize_t)c.ids.n;
}
