/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls_scan.c: reads one call, or a block of them, from behind a marker.
 *
 * One machine with a few states for each form. It stops wherever the text does and goes on there,
 * so no byte is read twice by one attempt; what an end tag needs to be told from text is looked at
 * again, a few bytes. See docs/tool-calls.md for the forms.
 */
#include <errno.h>
#include <stdlib.h>

#include "chat/calls_impl.h"

enum state {
	/* xml forms */
	X_NEXT, /* the next function of the block, or its end */
	X_NAME,
	X_PART, /* a parameter, or the end of the function */
	X_KEY,
	X_UNTIL, /* text up to an end tag that is followed rightly */
	X_FOLLOW,
	G_NAME, /* glm: the name is text */
	/* json forms */
	J_NEXT, /* deepseek, kimi: the next call, or the block's end */
	J_NAME,
	J_SPACE, /* before the object */
	J_OBJECT,
	J_CLOSE, /* the call's end tag */
	DONE,	 /* the one call was given */
};

/* What the xml forms write. */
struct xml {
	const char *open, *name_end,
		*name_stop;	       /* of the function; no byte of @name_stop in names */
	const char *param, *param_end; /* before a key and before its value */
	const char *value_end, *close, *block_close;
	bool trims; /* names, and a newline at both ends of values */
};

static const struct xml qwen3 = {
	.open = "<function=",
	.name_end = ">",
	.name_stop = ">\n<",
	.param = "<parameter=",
	.value_end = "</parameter>",
	.close = "</function>",
	.block_close = "</tool_call>",
	.trims = true,
};

static const struct xml minimax = {
	.open = "<invoke name=\"",
	.name_end = "\">",
	.name_stop = "\"\n",
	.param = "<parameter name=\"",
	.value_end = "</parameter>",
	.close = "</invoke>",
	.block_close = "</minimax:tool_call>",
};

static const struct xml glm = {
	.name_stop = "\n<",
	.param = "<arg_key>",
	.param_end = "<arg_value>",
	.value_end = "</arg_value>",
	.close = "</tool_call>",
	.trims = true,
};

struct json_form {
	const char *open, *name_end, *close, *block_close;
};

static const struct json_form hermes = { .close = "</tool_call>" };
static const struct json_form deepseek = {
	"<｜tool▁call▁begin｜>",
	"<｜tool▁sep｜>",
	"<｜tool▁call▁end｜>",
	"<｜tool▁calls▁end｜>",
};
static const struct json_form kimi = {
	"<|tool_call_begin|>",
	"<|tool_call_argument_begin|>",
	"<|tool_call_end|>",
	"<|tool_calls_section_end|>",
};

static const struct xml *xml_of(const struct scan *s)
{
	return s->format == CALLS_GLM ? &glm : s->format == CALLS_QWEN3_XML ? &qwen3 : &minimax;
}

static const struct json_form *json_of(const struct scan *s)
{
	return s->format == CALLS_HERMES	 ? &hermes
	       : s->format == CALLS_DEEPSEEK_V31 ? &deepseek
						 : &kimi;
}

void scan_begin(struct scan *s, const struct toolbox *tools, enum calls_format format, bool bare,
		size_t at)
{
	static const uint8_t first[] = {
		[CALLS_HERMES] = J_SPACE,      [CALLS_QWEN3_XML] = X_NEXT,
		[CALLS_GLM] = G_NAME,	       [CALLS_MINIMAX_M2] = X_NEXT,
		[CALLS_DEEPSEEK_V31] = J_NEXT, [CALLS_KIMI_K2] = J_NEXT,
	};
	struct span *pairs = s->pairs;
	size_t cap = s->cap_pairs;

	*s = (struct scan){
		.format = format,
		.tools = tools,
		.state = first[format],
		.bare = bare,
		.pos = at,
		.begin = at,
		.q = at,
		.pairs = pairs,
		.cap_pairs = cap,
	};
}

void scan_done(struct scan *s)
{
	free(s->pairs);
	s->pairs = NULL;
}

static int add_span(struct scan *s, size_t at, size_t end)
{
	if (s->n_pairs == s->cap_pairs) {
		size_t cap = s->cap_pairs ? 2 * s->cap_pairs : 16;
		struct span *p = realloc(s->pairs, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		s->pairs = p;
		s->cap_pairs = cap;
	}
	s->pairs[s->n_pairs++] = (struct span){ at, end - at };
	return 0;
}

/* States answer this to go on at once with the next. */
#define GO ((enum scan_result)(SCAN_NO_MEMORY + 1))

static enum scan_result begin_at(struct scan *s, unsigned state, size_t at)
{
	s->state = state;
	s->begin = s->pos = s->q = at;
	return GO;
}

static enum scan_result whole_call(struct scan *s, size_t end, unsigned next)
{
	s->n_calls++;
	s->pos = s->end = end;
	s->state = next;
	return SCAN_CALL;
}

/* ---- xml forms ---- */

static enum scan_result x_next(struct scan *s, const char *text, size_t n)
{
	const struct xml *x = xml_of(s);
	enum match close = MATCH_NO, open;

	if (s->n_calls && s->bare)
		return SCAN_END;
	s->pos = skip_space(text, n, s->pos);
	if (s->n_calls)
		close = match(text, n, s->pos, x->block_close);
	if (close == MATCH_YES) {
		s->end = s->pos + strlen(x->block_close);
		return SCAN_END;
	}
	open = match(text, n, s->pos, x->open);
	if (open == MATCH_YES) {
		s->n_pairs = 0;
		return begin_at(s, X_NAME, s->pos + strlen(x->open));
	}
	return open == MATCH_MORE || close == MATCH_MORE ? SCAN_MORE : SCAN_NO;
}

/* A name from @begin to the form's stop: MATCH_YES: it ends at @q, and the end is complete. */
static enum match name_ends(struct scan *s, const char *text, size_t n, const struct xml *x)
{
	while (s->q < n && !(text[s->q] && strchr(x->name_stop, text[s->q]))) {
		if (s->q - s->begin >= CALLS_NAME_MAX)
			return MATCH_NO;
		s->q++;
	}
	if (s->q == n)
		return MATCH_MORE;
	if (s->q == s->begin)
		return MATCH_NO;
	return x->name_end ? match(text, n, s->q, x->name_end) : MATCH_YES;
}

static enum scan_result no_or_more(enum match m)
{
	return m == MATCH_MORE ? SCAN_MORE : SCAN_NO;
}

static enum scan_result x_name(struct scan *s, const char *text, size_t n)
{
	const struct xml *x = xml_of(s);
	enum match m = name_ends(s, text, n, x);

	if (m != MATCH_YES)
		return no_or_more(m);
	s->name = (struct span){ s->begin, s->q - s->begin };
	if (x->trims)
		s->name = trimmed(text, s->name);
	if (s->bare && !toolbox_find(s->tools, text + s->name.at, s->name.n))
		return SCAN_NO;
	return begin_at(s, X_PART, s->q + strlen(x->name_end));
}

static enum scan_result g_name(struct scan *s, const char *text, size_t n)
{
	enum match m;

	if (s->begin == s->q) {
		s->begin = s->pos = s->q = skip_space(text, n, s->pos);
		if (s->q < n && text[s->q] == '<')
			return SCAN_NO;
	}
	m = name_ends(s, text, n, &glm);
	if (m != MATCH_YES)
		return no_or_more(m);
	s->name = trimmed(text, (struct span){ s->begin, s->q - s->begin });
	return begin_at(s, X_PART, s->q);
}

static enum scan_result x_part(struct scan *s, const char *text, size_t n)
{
	const struct xml *x = xml_of(s);
	enum match close, param;

	s->pos = skip_space(text, n, s->pos);
	close = match(text, n, s->pos, x->close);
	if (close == MATCH_YES)
		return whole_call(s, s->pos + strlen(x->close),
				  s->format == CALLS_GLM ? DONE : X_NEXT);
	param = match(text, n, s->pos, x->param);
	if (param == MATCH_YES)
		return begin_at(s, s->format == CALLS_GLM ? X_UNTIL : X_KEY,
				s->pos + strlen(x->param));
	return close == MATCH_MORE || param == MATCH_MORE ? SCAN_MORE : SCAN_NO;
}

static enum scan_result x_key(struct scan *s, const char *text, size_t n)
{
	const struct xml *x = xml_of(s);
	enum match m = name_ends(s, text, n, x);
	struct span key;

	if (m != MATCH_YES)
		return no_or_more(m);
	key = (struct span){ s->begin, s->q - s->begin };
	if (x->trims)
		key = trimmed(text, key);
	if (add_span(s, key.at, key.at + key.n))
		return SCAN_NO_MEMORY;
	return begin_at(s, X_UNTIL, s->q + strlen(x->name_end));
}

/* glm's keys are read as values are: an odd number of spans is a key's turn over. */
static bool reads_key(const struct scan *s)
{
	return s->format == CALLS_GLM && !(s->n_pairs & 1);
}

static enum scan_result x_until(struct scan *s, const struct held *h, size_t n)
{
	const char *text = h->text, *end = reads_key(s) ? "</arg_key>" : xml_of(s)->value_end, *p;

	if (s->q == s->begin && held_is_dead(h, s->q, reads_key(s) ? DEAD_KEY : DEAD_VALUE))
		return SCAN_NO;
	while ((p = s->q < n ? memchr(text + s->q, '<', n - s->q) : NULL)) {
		enum match m;

		s->q = (size_t)(p - text);
		m = match(text, n, s->q, end);
		if (m == MATCH_MORE)
			return SCAN_MORE;
		if (m == MATCH_YES) {
			s->pos = s->q + strlen(end);
			s->state = X_FOLLOW;
			return GO;
		}
		s->q++;
	}
	s->q = n;
	return SCAN_MORE;
}

static enum scan_result x_follow(struct scan *s, const char *text, size_t n)
{
	const struct xml *x = xml_of(s);
	bool key = reads_key(s);
	enum match a, b;

	s->pos = skip_space(text, n, s->pos);
	a = match(text, n, s->pos, key ? x->param_end : x->param);
	b = key ? MATCH_NO : match(text, n, s->pos, x->close);
	if (a == MATCH_YES || b == MATCH_YES) {
		if (add_span(s, s->begin, s->q))
			return SCAN_NO_MEMORY;
		return key ? begin_at(s, X_UNTIL, s->pos + strlen(x->param_end))
			   : begin_at(s, X_PART, s->pos);
	}
	if (a == MATCH_MORE || b == MATCH_MORE)
		return SCAN_MORE;
	s->q++; /* this end tag is part of the text */
	s->state = X_UNTIL;
	return GO;
}

/* ---- json forms ---- */

static enum scan_result j_next(struct scan *s, const char *text, size_t n)
{
	const struct json_form *f = json_of(s);
	enum match close = MATCH_NO, open;

	s->pos = skip_space(text, n, s->pos);
	if (s->n_calls)
		close = match(text, n, s->pos, f->block_close);
	if (close == MATCH_YES) {
		s->end = s->pos + strlen(f->block_close);
		return SCAN_END;
	}
	open = match(text, n, s->pos, f->open);
	if (open == MATCH_YES)
		return begin_at(s, J_NAME, s->pos + strlen(f->open));
	return open == MATCH_MORE || close == MATCH_MORE ? SCAN_MORE : SCAN_NO;
}

static enum scan_result j_name(struct scan *s, const char *text, size_t n)
{
	const char *end = json_of(s)->name_end;
	enum match m = MATCH_NO;

	for (; s->q < n; s->q++) {
		if (s->q - s->begin >= CALLS_NAME_MAX)
			return SCAN_NO;
		m = match(text, n, s->q, end);
		if (m != MATCH_NO)
			break;
	}
	if (m != MATCH_YES)
		return SCAN_MORE;
	s->name = trimmed(text, (struct span){ s->begin, s->q - s->begin });
	if (!s->name.n || memchr(text + s->name.at, '\n', s->name.n))
		return SCAN_NO;
	return begin_at(s, J_SPACE, s->q + strlen(end));
}

static enum scan_result j_space(struct scan *s, const char *text, size_t n)
{
	s->pos = skip_space(text, n, s->pos);
	if (s->pos == n)
		return SCAN_MORE;
	if (text[s->pos] != '{')
		return SCAN_NO;
	s->json = (struct json_scan){ 0 };
	return begin_at(s, J_OBJECT, s->pos);
}

/* Whether the object of hermes is a call: a name, and arguments that are or hold an object. */
static int hermes_call(struct scan *s, const char *text)
{
	const char *o = text + s->begin;
	size_t n = s->pos - s->begin, at, len;
	enum json_kind k = JSON_NULL;
	const char *a;
	char *copy;
	size_t i;

	if (!json_member(o, n, "name", &at, &len) || o[at] != '"')
		return 0;
	s->name = (struct span){ s->begin + at, len };
	s->object = (struct span){ 0, 0 };
	if (!json_member(o, n, "arguments", &at, &len) || o[at] == 'n')
		return 1;
	s->object = (struct span){ s->begin + at, len };
	if (o[at] == '{')
		return 1;
	if (o[at] != '"')
		return 0;
	copy = malloc(len);
	if (!copy)
		return -ENOMEM;
	len = json_unescape(o + at, len, copy);
	i = skip_space(copy, len, 0);
	a = copy + i;
	while (len > i && json_space(copy[len - 1]))
		len--;
	k = json_kind_of(a, len - i);
	free(copy);
	return k == JSON_OBJECT || k == JSON_NULL;
}

static enum scan_result j_object(struct scan *s, const char *text, size_t n)
{
	enum json_result r = JSON_MORE;
	int is;

	while (s->pos < n && r == JSON_MORE)
		r = json_scan_byte(&s->json, (unsigned char)text[s->pos++]);
	if (r == JSON_MORE)
		return SCAN_MORE;
	if (r == JSON_BAD)
		return SCAN_NO;
	s->end = s->format == CALLS_HERMES ? s->pos : s->end;
	s->object = (struct span){ s->begin, s->pos - s->begin };
	is = s->format == CALLS_HERMES ? hermes_call(s, text) : 1;
	s->state = J_CLOSE;
	return is < 0 ? SCAN_NO_MEMORY : is ? GO : SCAN_NO;
}

static enum scan_result j_close(struct scan *s, const char *text, size_t n)
{
	const char *close = json_of(s)->close;
	enum match m;

	s->pos = skip_space(text, n, s->pos);
	m = match(text, n, s->pos, close);
	if (m == MATCH_YES)
		return whole_call(s, s->pos + strlen(close),
				  s->format == CALLS_HERMES ? DONE : J_NEXT);
	return no_or_more(m);
}

/* ---- the machine ---- */

static enum scan_result step(struct scan *s, struct held *h, size_t n)
{
	const char *text = h->text;

	switch ((enum state)s->state) {
	case X_NEXT:
		return x_next(s, text, n);
	case X_NAME:
		return x_name(s, text, n);
	case X_PART:
		return x_part(s, text, n);
	case X_KEY:
		return x_key(s, text, n);
	case X_UNTIL:
		return x_until(s, h, n);
	case X_FOLLOW:
		return x_follow(s, text, n);
	case G_NAME:
		return g_name(s, text, n);
	case J_NEXT:
		return j_next(s, text, n);
	case J_NAME:
		return j_name(s, text, n);
	case J_SPACE:
		return j_space(s, text, n);
	case J_OBJECT:
		return j_object(s, text, n);
	case J_CLOSE:
		return j_close(s, text, n);
	case DONE:
		break;
	}
	return SCAN_END;
}

int scan_mark(const struct scan *s, struct held *h)
{
	bool is_glm = s->format == CALLS_GLM;
	uint8_t bit = reads_key(s) ? DEAD_KEY : DEAD_VALUE;

	for (size_t i = 0; i < s->n_pairs; i++) {
		bool key = !(i & 1);

		if (key && !is_glm)
			continue;
		/* an empty value is a place too */
		if (held_mark(h, s->pairs[i].at, s->pairs[i].n ? s->pairs[i].n : 1,
			      key ? DEAD_KEY : DEAD_VALUE))
			return -ENOMEM;
	}
	/* where the attempt ended because its value is dead, the rest was marked by the one before */
	if ((s->state != X_UNTIL && s->state != X_FOLLOW) || held_is_dead(h, s->begin, bit))
		return 0;
	return held_mark(h, s->begin, h->n - s->begin, bit);
}

enum scan_result scan_run(struct scan *s, struct held *h, size_t n, bool final)
{
	enum scan_result r;

	do {
		r = step(s, h, n);
	} while (r == GO);
	if (r == SCAN_CALL || r == SCAN_END || r == SCAN_NO_MEMORY || (r == SCAN_MORE && !final))
		return r;
	/* hermes: the end tag may be missing or cut where the text ends */
	if (r == SCAN_MORE && s->format == CALLS_HERMES && s->state == J_CLOSE)
		return whole_call(s, s->end, DONE);
	if (scan_mark(s, h))
		return SCAN_NO_MEMORY;
	return s->n_calls ? SCAN_END : SCAN_NO;
}
