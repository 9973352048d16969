/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls_harmony.c: the harmony form of gpt-oss: messages with a header each.
 *
 * <|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>BODY<|call|>
 * with nearly every part left out now and then, and the recipient in one of two places. The channel
 * analysis is reasoning, anything else content, unless it goes to a function. Text without a header
 * is content. Format: OpenAI's description of harmony and gpt-oss's own template.
 */
#include <errno.h>

#include "chat/calls_impl.h"

enum mode { M_HEAD, M_BODY, M_END };

#define HEAD_MAX 512
#define LOST_MAX (1u << 20)

static const char *const ends[] = { "<|end|>", "<|call|>", "<|return|>", "<|start|>" };

struct head {
	const char *text;
	size_t n, at;
	enum match so_far;
	struct span channel, to;
};

/* Takes @word if it is there; where it may be, nothing later is looked at. */
static bool take(struct head *h, const char *word)
{
	enum match m = h->so_far == MATCH_YES ? match(h->text, h->n, h->at, word) : MATCH_NO;

	if (m == MATCH_MORE)
		h->so_far = m;
	if (m == MATCH_YES)
		h->at += strlen(word);
	return m == MATCH_YES;
}

static bool is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '_' || (unsigned char)c >= 0x80;
}

/* One or more of the characters of a word, or of those that end neither word nor marker. */
static struct span take_run(struct head *h, bool word)
{
	struct span s = { h->at, 0 };

	while (h->at < h->n && (word ? is_word(h->text[h->at])
				     : !json_space(h->text[h->at]) && h->text[h->at] != '<'))
		h->at++;
	s.n = h->at - s.at;
	if (h->at == h->n)
		h->so_far = MATCH_MORE;
	else if (!s.n)
		h->so_far = MATCH_NO;
	return s;
}

static void space(struct head *h)
{
	if (h->so_far == MATCH_YES)
		h->at = skip_space(h->text, h->n, h->at);
}

/* Reads a header at @h->at; MATCH_YES: its body begins at @h->at. */
static enum match read_head(struct head *h)
{
	h->so_far = MATCH_YES;
	take(h, "<|start|>");
	take(h, "assistant");
	if (take(h, " to="))
		h->to = take_run(h, false);
	space(h);
	if (take(h, "<|channel|>")) {
		h->channel = take_run(h, true);
		if (h->so_far == MATCH_YES && take(h, " to="))
			h->to = take_run(h, false);
		space(h);
	}
	take(h, "<|constrain|>");
	if (!take(h, "json"))
		take(h, "code");
	space(h);
	if (h->so_far == MATCH_YES && !take(h, "<|message|>") && h->so_far == MATCH_YES)
		return MATCH_NO;
	return h->so_far;
}

static void begin_body(struct calls *c, size_t at, bool reasoning, bool is_call)
{
	c->body = c->i = c->emit = at;
	c->reasoning = reasoning;
	c->is_call = is_call;
	c->newline = c->any[reasoning ? CALLS_REASONING : CALLS_CONTENT];
	c->json = (struct json_scan){ 0 };
	c->object = OBJECT_MORE;
	c->json_at = at;
	c->mode = M_BODY;
}

static int head(struct calls *c, bool final)
{
	struct head h = { .text = c->held.text, .n = c->held.n, .at = c->i };
	bool marker = match(h.text, h.n, c->i, "<|") == MATCH_YES, call, more = false;
	enum match m;

	if (c->i == h.n)
		return 1;
	for (unsigned i = 0; i < 3; i++) { /* a message's end again */
		m = match(h.text, h.n, c->i, ends[i]);
		if (m == MATCH_YES) {
			c->i += strlen(ends[i]);
			c->emit = c->i;
			return 0;
		}
		more |= m == MATCH_MORE;
	}
	if (h.n - c->i > HEAD_MAX)
		h.n = c->i + HEAD_MAX;
	m = read_head(&h);
	if ((m == MATCH_MORE || more) && h.n == c->held.n) {
		if (!final)
			return 1;
		if (marker || more) { /* a header or an end that was cut off */
			c->i = c->emit = h.n;
			c->mode = M_END;
			return 1;
		}
	}
	if (m != MATCH_YES) { /* no header: text, of the analysis where the prompt began one */
		begin_body(c, c->i, c->thinking_start && !c->any[0] && !c->any[1] && !c->n_calls,
			   false);
		if (match(h.text, c->held.n, c->i, ends[3]) == MATCH_YES)
			c->i += strlen(ends[3]); /* part of the text: it did not begin a header */
		return 0;
	}
	c->recipient = h.to;
	call = c->active && h.to.n > 10 && !memcmp(h.text + h.to.at, "functions.", 10);
	begin_body(c, h.at, h.channel.n == 8 && !memcmp(h.text + h.channel.at, "analysis", 8),
		   call);
	if (call) /* the name is needed when the body is whole */
		c->emit = h.to.at;
	return 0;
}

/* Text of the body up to @end, behind a newline where an earlier message had text. */
static int give(struct calls *c, size_t end)
{
	enum calls_kind kind = c->reasoning ? CALLS_REASONING : CALLS_CONTENT;
	int rc = 0;

	if (end <= c->emit)
		return 0;
	if (c->newline)
		rc = calls_put_text(c, kind, "\n", 1);
	c->newline = false;
	rc = rc ? rc : calls_put_text(c, kind, c->held.text + c->emit, end - c->emit);
	c->emit = end;
	return rc;
}

/* The body of a call is whole: a call where it is an object or nothing, else content. */
static int end_call(struct calls *c, size_t end, bool cut)
{
	const char *text = c->held.text;
	size_t at = skip_space(text, end, c->body), stop = end;
	const char *name = text + c->recipient.at + 10;
	size_t name_n = c->recipient.n - 10;

	while (stop > at && json_space(text[stop - 1]))
		stop--;
	c->emit = c->body;
	if (at == stop) {
		c->emit = end;
		return cut ? 0 : calls_put_call(c, name, name_n, NULL, 0, "{}", 2);
	}
	if (text[at] == '{' && json_kind_of(text + at, stop - at) == JSON_OBJECT) {
		c->emit = end;
		return calls_put_call(c, name, name_n, NULL, 0, text + at, stop - at);
	}
	if (cut && c->json_or_calls) {
		c->emit = end;
		return 0;
	}
	c->reasoning = false;
	c->newline = c->any[CALLS_CONTENT];
	return give(c, end);
}

/* Where the body ends: a marker, what could be one, or the end of the text. */
static size_t find_end(struct calls *c, const char **ret_word, bool *ret_more)
{
	const char *text = c->held.text, *p;
	size_t from = c->i, n = c->held.n;

	*ret_word = NULL;
	*ret_more = false;
	while ((p = from < n ? memchr(text + from, '<', n - from) : NULL)) {
		from = (size_t)(p - text);
		for (unsigned i = 0; i < 4; i++) {
			enum match m = match(text, n, from, ends[i]);

			if (m == MATCH_YES)
				*ret_word = ends[i];
			*ret_more |= m == MATCH_MORE;
		}
		if (*ret_word || *ret_more)
			return from;
		from++;
	}
	return n;
}

/* Is there an end, or the end of the text, behind white space? */
static enum match ends_at(const struct calls *c, size_t at, bool final)
{
	const char *text = c->held.text;
	enum match all = MATCH_NO;

	at = skip_space(text, c->held.n, at);
	if (at == c->held.n)
		return final ? MATCH_YES : MATCH_MORE;
	for (unsigned i = 0; i < 4; i++) {
		enum match m = match(text, c->held.n, at, ends[i]);

		all = m > all ? m : all;
	}
	return all == MATCH_MORE && final ? MATCH_YES : all;
}

/*
 * Whether the body of a call is an object and then an end: what looks like an end within the object's
 * strings is text. MATCH_YES: the object ends at json_at. A body that is none ends at the first end.
 * What such bodies have beyond that is read again, so there is a bound to it.
 */
static enum match object_ends(struct calls *c, bool final)
{
	const char *text = c->held.text, *word;
	size_t first;
	bool more;

	if (c->object == OBJECT_NONE || c->json_lost > LOST_MAX)
		return MATCH_NO;
	while (c->object == OBJECT_MORE && c->json_at < c->held.n) {
		unsigned char byte = (unsigned char)text[c->json_at++];
		enum json_result r = !c->json.depth && byte != '{' && !json_space((char)byte)
					     ? JSON_BAD
					     : json_scan_byte(&c->json, byte);

		if (r != JSON_MORE)
			c->object = r == JSON_DONE ? OBJECT_WHOLE : OBJECT_NONE;
	}
	if (c->object == OBJECT_WHOLE) {
		enum match m = ends_at(c, c->json_at, final);

		if (m != MATCH_NO)
			return m;
	} else if (c->object == OBJECT_MORE && !final && c->json_at - c->body <= CALLS_HELD_MAX) {
		return MATCH_MORE;
	}
	c->object = OBJECT_NONE;
	c->i = c->body;
	first = find_end(c, &word, &more);
	c->json_lost += c->json_at > first ? c->json_at - first : 0;
	return MATCH_NO;
}

static int body(struct calls *c, bool final)
{
	const char *word;
	bool more;
	size_t end;
	int rc = 0;

	if (c->is_call && c->object != OBJECT_NONE) {
		enum match m = object_ends(c, final);

		if (m == MATCH_MORE)
			return 1;
		c->i = m == MATCH_YES ? c->json_at : c->body;
	}
	end = find_end(c, &word, &more);
	if (!word && final)
		end = c->held.n;
	/* the end of a body that is too long for a call is not waited for: it is content */
	if (c->is_call && end - c->body > CALLS_HELD_MAX) {
		c->is_call = c->reasoning = false;
		c->emit = c->body;
		c->newline = c->any[CALLS_CONTENT];
	}
	c->i = end;
	if (c->is_call)
		rc = word || final ? end_call(c, end, !word) : 0;
	else
		rc = give(c, word || final || end < c->held.n
				     ? end
				     : calls_whole(c->held.text, c->emit, end));
	if (rc)
		return rc;
	if (!word) {
		c->mode = final ? M_END : M_BODY;
		return 1;
	}
	c->i = c->emit = strcmp(word, "<|start|>") ? end + strlen(word) : end;
	c->mode = M_HEAD;
	return 0;
}

int harmony_run(struct calls *c, bool final)
{
	if (c->mode == M_HEAD)
		return head(c, final);
	return c->mode == M_BODY ? body(c, final) : 1;
}
