/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/chat.c: one user turn in ChatML, as the file's own template would write it.
 *
 * This is the fixed form of the qwen families, not a template engine. Three things are read off
 * the template's text: whether it trims what people write, whether it can switch thinking off (it
 * then holds an empty think block, which we write), and nothing else; a default system prompt that
 * a template may carry is not added. Control tokens in what people write stay text unless asked
 * for. Called by serve. Any thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "model/gguf.h"
#include "model/tokenizer_impl.h"
#include "model/tokenizer_utf8.h"

#define ANSWER	      "assistant\n"
#define EMPTY_THOUGHT "<think>\n\n</think>\n\n"

struct form {
	bool trims;
	bool thinking_off; /* the template can write an empty think block */
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

static struct form read_form(const struct gguf *g)
{
	struct gguf_str text = { "", 0 };
	struct form form = { 0 };

	if (gguf_bytes(g, "tokenizer.chat_template", &text, NULL))
		return form;
	/* some templates trim only what tools say and write the message itself as it is */
	form.trims = holds_closed(text, "|trim") &&
		     !holds_closed(text, "+message.content+'<|im_end|>");
	form.thinking_off = holds(text, "<think>\\n\\n</think>") ||
			    holds(text, "<think>\n\n</think>");
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

static int add_answer(struct chat *c)
{
	const char *text = c->form.thinking_off ? ANSWER EMPTY_THOUGHT : ANSWER;
	int rc = add_id(c, c->start);

	return rc ? rc : add_text(c, text, strlen(text), true);
}

ssize_t chat_encode(const struct gguf *g, const struct tokenizer *t, const char *system,
		    size_t system_len, const char *user, size_t user_len, bool special,
		    uint32_t **ret_ids, struct err *err)
{
	int64_t start = tokenizer_special_id(t, "<|im_start|>");
	int64_t end = tokenizer_special_id(t, "<|im_end|>");
	struct chat c = { .t = t };
	int rc = 0;

	if (start < 0 || end < 0)
		return err_set(err, -ENOTSUP,
			       "%.300s: the vocabulary has no <|im_start|> and <|im_end|>, so the "
			       "model has no ChatML form; send raw text instead",
			       gguf_file(g, 0)->path);
	c.form = read_form(g);
	c.start = (uint32_t)start;
	c.end = (uint32_t)end;
	if (system)
		rc = add_turn(&c, "system", system, system_len, special);
	if (!rc)
		rc = add_turn(&c, "user", user, user_len, special);
	if (!rc)
		rc = add_answer(&c);
	if (!rc)
		rc = tokenizer_frame(t, &c.ids);
	if (rc) {
		free(c.ids.data);
		return err_set(err, rc, "the chat cannot be encoded: %s", strerror(-rc));
	}
	*ret_ids = c.ids.data;
	return (ssize_t)c.ids.n;
}
