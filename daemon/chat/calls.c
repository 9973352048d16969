/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls.c: see calls.h: reasoning, content and where attempts at calls begin and end.
 *
 * The text lies in `held` from the first byte that is still needed. Modes follow each other as the
 * text does; each works on what there is and returns when it needs more. Harmony, which is made of
 * messages with headers, is in calls_harmony.c; what is given out is gathered in calls_out.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/jsonc.h"
#include "base/num.h"
#include "chat/calls_impl.h"

#define THINK	  "<think>"
#define THINK_END "</think>"

const struct calls_marks calls_marks[] = {
	[CALLS_HERMES] = { { "<tool_call>" }, { "</tool_call>" } },
	[CALLS_QWEN3_XML] = { { "<tool_call>", "<function=" }, { "</tool_call>", "</function>" } },
	[CALLS_GLM] = { { "<tool_call>" }, { "</tool_call>" } },
	[CALLS_MINIMAX_M2] = { { "<minimax:tool_call>" }, { "</minimax:tool_call>", "</invoke>" } },
	[CALLS_DEEPSEEK_V31] = { { "<｜tool▁calls▁begin｜>" },
				 { "<｜tool▁calls▁end｜>", "<｜tool▁call▁end｜>" } },
	[CALLS_KIMI_K2] = { { "<|tool_calls_section_begin|>" },
			    { "<|tool_calls_section_end|>", "<|tool_call_end|>" } },
	[CALLS_HARMONY] = { { NULL }, { NULL } },
};

/* ---- text held back ---- */

int held_add(struct held *h, const char *text, size_t n)
{
	size_t cap = h->cap;
	char *p;

	if (h->n + n > h->cap) {
		while (cap < h->n + n)
			cap *= 2;
		p = realloc(h->text, cap);
		if (!p)
			return -ENOMEM;
		h->text = p;
		if (h->dead) {
			uint8_t *dead = realloc(h->dead, cap);

			if (!dead)
				return -ENOMEM;
			memset(dead + h->cap, 0, cap - h->cap);
			h->dead = dead;
		}
		h->cap = cap;
	}
	if (n)
		memcpy(h->text + h->n, text, n);
	h->n += n;
	return 0;
}

int held_mark(struct held *h, size_t at, size_t n, uint8_t bit)
{
	if (!h->dead)
		h->dead = calloc(h->cap, 1);
	if (!h->dead)
		return -ENOMEM;
	for (size_t i = at; i < at + n && i < h->cap; i++)
		h->dead[i] |= bit;
	return 0;
}

void held_drop(struct held *h, size_t n)
{
	memmove(h->text, h->text + n, h->n - n);
	if (h->dead) {
		memmove(h->dead, h->dead + n, h->cap - n);
		memset(h->dead + h->cap - n, 0, n);
	}
	h->n -= n;
}

size_t calls_whole(const char *text, size_t at, size_t n)
{
	size_t back = 0;
	unsigned char c;

	while (back < 3 && n - back > at && ((unsigned char)text[n - 1 - back] & 0xc0) == 0x80)
		back++;
	if (n - back == at)
		return n;
	c = (unsigned char)text[n - 1 - back];
	if (c >= 0xc2 && c < 0xf5 && back < (c >= 0xf0 ? 3u : c >= 0xe0 ? 2u : 1u))
		return n - 1 - back;
	return n;
}

/* ---- the call at hand ---- */

/* The call of the scan as texts in @b. */
int calls_read(struct calls *c, struct bytes *b, struct call *ret)
{
	struct span id;
	int rc;

	ret->name.at = b->n;
	rc = scan_name(&c->scan, &c->held, b, &id);
	ret->name.n = b->n - ret->name.at;
	ret->id = (struct span){ b->n, id.n };
	rc = rc ? rc : bytes_add(b, c->held.text + id.at, id.n);
	ret->arguments.at = b->n;
	rc = rc ? rc : scan_arguments(&c->scan, &c->held, b);
	ret->arguments.n = b->n - ret->arguments.at;
	return rc;
}

int calls_give(struct calls *c, const struct bytes *b, const struct call *k)
{
	return calls_put_call(c, b->p + k->name.at, k->name.n, b->p + k->id.at, k->id.n,
			      b->p + k->arguments.at, k->arguments.n);
}

enum scan_result calls_attempt(struct calls *c, bool final)
{
	bool too_long = c->held.n - c->at > CALLS_HELD_MAX;

	return scan_run(&c->scan, &c->held, too_long ? c->at + CALLS_HELD_MAX : c->held.n,
			final || too_long);
}

void calls_begin_attempt(struct calls *c, size_t at, const char *marker)
{
	bool bare = c->format == CALLS_QWEN3_XML && marker[1] == 'f';

	scan_begin(&c->scan, &c->tools, c->format, bare, bare ? at : at + strlen(marker));
}

/* ---- text with markers ---- */

const char *const *calls_starts(const struct calls *c)
{
	static const char *const none[2] = { NULL, NULL };

	return c->active ? calls_marks[c->format].starts : none;
}

/* Which of @words (NULL: none) is at @at; MATCH_MORE: one could be. */
enum match calls_match(const struct calls *c, size_t at, const char *const words[2],
		       const char **ret)
{
	enum match all = MATCH_NO;

	for (unsigned i = 0; i < 2 && words[i]; i++) {
		enum match m = match(c->held.text, c->held.n, at, words[i]);

		if (m == MATCH_YES) {
			*ret = words[i];
			return m;
		}
		if (m == MATCH_MORE)
			all = m;
	}
	return all;
}

/* Looks up to @upto and gives out what is not white space at its end. */
static int flush(struct calls *c, enum calls_kind kind, size_t upto)
{
	size_t solid = upto, stop = c->i > c->solid ? c->i : c->solid, end;
	int rc;

	while (solid > stop && json_space(c->held.text[solid - 1]))
		solid--;
	c->i = upto;
	if (solid > stop)
		c->solid = solid;
	if (c->solid <= c->emit)
		return 0;
	end = c->solid < c->held.n ? c->solid : calls_whole(c->held.text, c->emit, c->solid);
	rc = calls_put_text(c, kind, c->held.text + c->emit, end - c->emit);
	c->emit = end;
	return rc;
}

/* From here on nothing that lies before is given out. */
void calls_drop_to(struct calls *c, size_t at)
{
	c->i = c->emit = c->solid = at;
}

/*
 * The next marker from @i on: MATCH_YES: at @i, everything before given out but white space.
 * MATCH_MORE: more text is needed; MATCH_NO: no memory.
 */
static enum match find(struct calls *c, enum calls_kind kind, bool final, const char **ret)
{
	const char *text = c->held.text, *p;
	size_t from = c->i;

	while ((p = from < c->held.n ? memchr(text + from, '<', c->held.n - from) : NULL)) {
		size_t at = (size_t)(p - text);
		enum match m = calls_match(c, at, calls_starts(c), ret);

		if (m != MATCH_YES && kind == CALLS_REASONING) {
			enum match end = match(text, c->held.n, at, THINK_END);

			*ret = end == MATCH_YES ? THINK_END : *ret;
			m = end > m ? end : m;
		}
		if (m == MATCH_YES || (m == MATCH_MORE && !final))
			return flush(c, kind, at) ? MATCH_NO : m;
		from = at + 1;
	}
	return flush(c, kind, c->held.n) ? MATCH_NO : MATCH_MORE;
}

/* ---- modes: 0: the mode changed, 1: more text is needed, -ENOMEM ---- */

static int start(struct calls *c, bool final)
{
	enum match m;

	c->i = skip_space(c->held.text, c->held.n, c->i);
	m = match(c->held.text, c->held.n, c->i, THINK);
	if (m == MATCH_MORE && !final)
		return 1;
	if (m == MATCH_YES) {
		calls_drop_to(c, c->i + strlen(THINK));
		c->mode = M_THINK_SPACE;
	} else if (c->thinking_start) {
		calls_drop_to(c, c->i);
		c->mode = M_THINK_SPACE;
	} else {
		calls_drop_to(c, 0);
		c->mode = M_TEXT;
	}
	return 0;
}

static int space(struct calls *c, bool final, unsigned next)
{
	calls_drop_to(c, skip_space(c->held.text, c->held.n, c->i));
	if (c->i == c->held.n && !final)
		return 1;
	c->mode = next;
	return 0;
}

static int think(struct calls *c, bool final)
{
	const char *marker = NULL;
	enum match m = find(c, CALLS_REASONING, final, &marker);

	if (m != MATCH_YES)
		return m == MATCH_MORE ? 1 : -ENOMEM;
	if (*++marker != '/')
		return calls_begin_chain(c, marker - 1);
	calls_drop_to(c, c->i + strlen(THINK_END));
	c->mode = M_TEXT_SPACE;
	return 0;
}

static int text(struct calls *c, bool final)
{
	const char *marker = NULL;
	enum match m = find(c, CALLS_CONTENT, final, &marker);

	if (m != MATCH_YES)
		return m == MATCH_MORE ? 1 : -ENOMEM;
	c->at = c->i;
	c->marker_n = strlen(marker);
	calls_begin_attempt(c, c->at, marker);
	c->mode = M_CALL;
	return 0;
}

static int call(struct calls *c, bool final)
{
	struct bytes b = { 0 };
	struct call k;
	int rc = 0;

	switch (calls_attempt(c, final)) {
	case SCAN_MORE:
		return 1;
	case SCAN_CALL:
		rc = calls_read(c, &b, &k);
		rc = rc ? rc : calls_give(c, &b, &k);
		free(b.p);
		calls_drop_to(c, c->scan.end);
		c->joint = c->any[CALLS_CONTENT];
		return rc;
	case SCAN_END:
		calls_drop_to(c, c->scan.end);
		c->mode = M_TAIL;
		return 0;
	case SCAN_NO: /* the marker is text, and what follows may begin another */
		c->i = c->solid = c->at + c->marker_n;
		c->mode = M_TEXT;
		return 0;
	default:
		return -ENOMEM;
	}
}

static int tail(struct calls *c, bool final)
{
	const char *end = NULL;
	enum match m;

	calls_drop_to(c, skip_space(c->held.text, c->held.n, c->i));
	m = calls_match(c, c->i, calls_marks[c->format].ends, &end);
	if (m == MATCH_YES) {
		calls_drop_to(c, c->i + strlen(end));
	} else if (m == MATCH_MORE && !final) {
		return 1;
	} else {
		if (m == MATCH_MORE)
			calls_drop_to(c, c->held.n);
		c->mode = M_TEXT;
	}
	return 0;
}

/* ---- the whole ---- */

static int step(struct calls *c, bool final)
{
	switch ((enum calls_mode)c->mode) {
	case M_START:
		return start(c, final);
	case M_THINK_SPACE:
		return space(c, final, M_THINK);
	case M_THINK:
		return think(c, final);
	case M_CHAIN:
		return calls_chain(c, final);
	case M_CHAIN_NEXT:
		return calls_chain_next(c, final);
	case M_TEXT_SPACE:
		return space(c, final, M_TEXT);
	case M_TEXT:
		return text(c, final);
	case M_CALL:
		return call(c, final);
	case M_TAIL:
		return tail(c, final);
	}
	return 1;
}

/* White space at the end of content is content; behind reasoning it is nothing. */
static int rest(struct calls *c)
{
	if (c->mode != M_TEXT || c->emit >= c->held.n)
		return 0;
	return calls_put_text(c, CALLS_CONTENT, c->held.text + c->emit, c->held.n - c->emit);
}

/* What was given out is dropped where nothing points into it but places that move along. */
static void forget(struct calls *c)
{
	size_t n = c->emit;

	if (c->format != CALLS_HARMONY && c->mode != M_TEXT && c->mode != M_THINK)
		return;
	if (n < 4096 || n < c->held.n / 2)
		return;
	held_drop(&c->held, n);
	c->i -= n;
	c->solid = c->solid > n ? c->solid - n : 0;
	c->body = c->body > n ? c->body - n : 0;
	c->json_at = c->json_at > n ? c->json_at - n : 0;
	c->recipient.at = c->recipient.at > n ? c->recipient.at - n : 0;
	c->emit = 0;
}

static int go(struct calls *c, bool final, const struct calls_delta **ret, size_t *ret_n)
{
	int rc;

	c->n_deltas = 0;
	c->out.n = 0;
	do {
		rc = c->format == CALLS_HARMONY ? harmony_run(c, final) : step(c, final);
	} while (!rc);
	if (rc > 0)
		rc = final && c->format != CALLS_HARMONY ? rest(c) : 0;
	if (rc)
		return rc;
	if (!final)
		forget(c);
	return calls_deltas(c, ret, ret_n);
}

int calls_feed(struct calls *c, const char *bytes, size_t n, const struct calls_delta **ret,
	       size_t *ret_n)
{
	int rc = held_add(&c->held, bytes, n);

	return rc ? rc : go(c, false, ret, ret_n);
}

int calls_finish(struct calls *c, const struct calls_delta **ret, size_t *ret_n)
{
	return go(c, true, ret, ret_n);
}

int calls_create(const struct calls_options *o, struct calls **ret, struct err *err)
{
	struct calls *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->format = o->format;
	c->thinking_start = o->thinking_start;
	c->calls_only = o->calls_only;
	c->json_or_calls = o->json_or_calls;
	c->id_seed = o->id_seed;
	rc = toolbox_make(o->tools, &c->tools, err);
	/* without random numbers ids are still unique within an answer */
	if (!rc && !c->id_seed && getrandom(&c->id_seed, sizeof(c->id_seed), GRND_NONBLOCK) < 0)
		c->id_seed = (uintptr_t)c;
	c->held.cap = 1024;
	c->held.text = malloc(c->held.cap);
	if (!c->held.text)
		rc = -ENOMEM;
	if (rc) {
		calls_destroy(c);
		return rc;
	}
	c->active = c->tools.n > 0;
	*ret = c;
	return 0;
}

void calls_destroy(struct calls *c)
{
	if (!c)
		return;
	toolbox_done(&c->tools);
	scan_done(&c->scan);
	free(c->held.text);
	free(c->held.dead);
	free(c->chain_text.p);
	free(c->chain);
	free(c->deltas);
	free(c->spans);
	free(c->out.p);
	free(c->given);
	free(c);
}
