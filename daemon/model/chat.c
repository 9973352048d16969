/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/chat.c: one user turn in a family's form, as the file's own template would write it.
 *
 * These are fixed forms (chat_form.h), not a template engine; which ones a family has says model/arch.
 * Two things are read off the template's text where a form varies: whether it trims what people
 * write, and how it begins an answer with and without a thought; a default system prompt that a
 * template may carry is not added. Control tokens in what people write stay text unless asked
 * for. Called by serve. Any thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/utf8.h"
#include "model/arch/arch.h"
#include "model/chat_form.h"
#include "model/gguf.h"
#include "model/tokenizer_impl.h"

struct chat {
	const struct tokenizer *t;
	const struct chat_form *form;
	bool trims;
	const char *thought, *no_thought; /* as in the form, or read off the template */
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

/* What the file's template says of a form that varies. */
static void read_template(const struct gguf *g, struct chat *c)
{
	struct gguf_str text = { "", 0 }, part;
	bool opens;

	c->trims = c->form->trims;
	c->thought = c->form->thought;
	c->no_thought = c->form->no_thought;
	if (!c->form->by_template || gguf_bytes(g, "tokenizer.chat_template", &text, NULL))
		return;
	/* some templates trim only what tools say and write the message itself as it is */
	c->trims = holds_closed(text, "|trim") &&
		   !holds_closed(text, "+message.content+'<|im_end|>");
	part = generation_part(text);
	opens = opens_thought(part);
	if (holds(text, "<think>\\n\\n</think>") || holds(text, "<think>\n\n</think>")) {
		c->no_thought = "<think>\n\n</think>\n\n";
		c->thought = opens ? "<think>\n" : ""; /* or the model writes the tag itself */
	} else if (opens) {
		c->thought = "<think>\n";
		c->no_thought = holds(part, "</think>") ? "<think>\n</think>" : NULL;
	} else if (holds(part, "'<think>'") && holds(part, "'<think></think>'")) {
		c->thought = "<think>";
		c->no_thought = "<think></think>";
	}
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

static int add_frame(struct chat *c, const char *text)
{
	return *text ? add_text(c, text, strlen(text), true) : 0;
}

/*
 * What somebody says with what the form puts around it. Label, text and tail are encoded as one:
 * where a template does not trim, white space at the start of the text joins the line break.
 */
static int add_turn(struct chat *c, const struct chat_around *around, const char *before,
		    const char *text, size_t len, const char *after, bool special)
{
	size_t n_label = strlen(around->label), n_tail = strlen(around->tail);
	char *whole;
	int rc;

	if (len > TEXT_MAX_BYTES)
		return -EFBIG;
	if (c->trims)
		trim(&text, &len);
	whole = malloc(n_label + len + n_tail + 1);
	if (!whole)
		return -ENOMEM;
	memcpy(whole, around->label, n_label);
	if (len)
		memcpy(whole + n_label, text, len);
	memcpy(whole + n_label + len, around->tail, n_tail);
	len += n_tail;
	rc = add_frame(c, around->open);
	if (!rc && *before) { /* control tokens between the label and the text */
		rc = add_frame(c, around->label);
		if (!rc)
			rc = add_frame(c, before);
		if (!rc && len)
			rc = add_text(c, whole + n_label, len, special);
	} else if (!rc && n_label + len) {
		rc = add_text(c, whole, n_label + len, special);
	}
	free(whole);
	if (!rc)
		rc = add_frame(c, after);
	return rc ? rc : add_frame(c, around->close);
}

/* What the answer begins with, or NULL and a sentence. */
static const char *begin_answer(const struct chat *c, enum chat_thinking thinking, struct err *err)
{
	if (thinking == CHAT_THINK_AS_USUAL)
		return c->no_thought ? c->no_thought : c->thought ? c->thought : "";
	if (!c->thought && !c->no_thought)
		err_set(err, 0,
			"the chat template of this model has no form for thinking, so it cannot be "
			"switched on or off: leave out --think and --no-think");
	else if (thinking == CHAT_NO_THINK && !c->no_thought)
		err_set(err, 0,
			"the chat template of this model always thinks: leave out --no-think");
	return thinking == CHAT_THINK ? c->thought : c->no_thought;
}

static bool has_form(const struct tokenizer *t, const struct chat_form *form)
{
	for (unsigned i = 0; i < ARRAY_LEN(form->needs) && form->needs[i]; i++)
		if (tokenizer_special_id(t, form->needs[i]) < 0)
			return false;
	return true;
}

/* The first of the family's forms, then of ChatML, whose control tokens the vocabulary has. */
static const struct chat_form *find_form(const struct gguf *g, const struct tokenizer *t)
{
	const struct arch *a = arch_of(g);

	for (unsigned i = 0; a && i < ARRAY_LEN(a->chat) && a->chat[i]; i++)
		if (has_form(t, a->chat[i]))
			return a->chat[i];
	return has_form(t, &chat_chatml) ? &chat_chatml : NULL;
}

bool chat_possible(const struct gguf *g, const struct tokenizer *t)
{
	return find_form(g, t) != NULL;
}

/* The turns and the beginning of an answer. */
static int add_all(struct chat *c, const struct chat_turn *turn, const char *begin)
{
	const struct chat_form *form = c->form;
	bool thinks = begin == c->thought && turn->thinking == CHAT_THINK;
	const char *in_system = thinks && form->think_system ? form->think_system : "";
	const char *after = "";
	char answer[128];
	int rc = add_frame(c, form->begin);

	if (turn->thinking == CHAT_NO_THINK && form->no_think_user)
		after = form->no_think_user;
	if (!rc && (turn->system || *in_system))
		rc = add_turn(c, &form->system, in_system, turn->system, turn->system_len, "",
			      turn->special);
	if (!rc)
		rc = add_turn(c, &form->user, "", turn->user, turn->user_len, after, turn->special);
	snprintf(answer, sizeof(answer), "%s%s", form->answer, begin);
	if (!rc)
		rc = add_frame(c, answer);
	return rc ? rc : tokenizer_frame(c->t, &c->ids);
}

ssize_t chat_encode(const struct gguf *g, const struct tokenizer *t, const struct chat_turn *turn,
		    uint32_t **ret_ids, struct err *err)
{
	struct chat c = { .t = t, .form = find_form(g, t) };
	const char *begin;
	int rc;

	if (!c.form)
		return err_set(err, -ENOTSUP,
			       "%.300s: the vocabulary has no <|im_start|> and <|im_end|>, so the "
			       "model has no ChatML form, nor has it the tokens of its family's "
			       "own; send raw text instead",
			       gguf_file(g, 0)->path);
	read_template(g, &c);
	begin = begin_answer(&c, turn->thinking, err);
	if (!begin)
		return -ENOTSUP;
	rc = add_all(&c, turn, begin);
	if (rc) {
		free(c.ids.data);
		return err_set(err, rc, "the chat cannot be encoded: %s", strerror(-rc));
	}
	*ret_ids = c.ids.data;
	return (ssize_t)c.ids.n;
}
