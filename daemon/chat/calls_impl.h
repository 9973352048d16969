/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls_impl.h: what calls*.c share: the text held back, the machine that reads one call,
 * and where deltas are gathered. Private to them.
 */
#ifndef SLUICE_CHAT_CALLS_IMPL_H
#define SLUICE_CHAT_CALLS_IMPL_H

#include <string.h>

#include "chat/calls.h"
#include "chat/calls_json.h"
#include "chat/calls_types.h"

#define CALLS_NAME_MAX 512 /* bytes of a name between markers; more is no name */

enum match { MATCH_NO, MATCH_MORE, MATCH_YES };

/* Whether @word is at @at of @text; MATCH_MORE: the text ends before that is known. */
static inline enum match match(const char *text, size_t n, size_t at, const char *word)
{
	size_t len = strlen(word), here = n - at < len ? n - at : len;

	if (memcmp(text + at, word, here))
		return MATCH_NO;
	return here == len ? MATCH_YES : MATCH_MORE;
}

static inline size_t skip_space(const char *text, size_t n, size_t at)
{
	while (at < n && json_space(text[at]))
		at++;
	return at;
}

struct span {
	size_t at, n;
};

/* Without the white space at both ends, as Python's strip() has it. */
static inline struct span trimmed(const char *text, struct span s)
{
	while (s.n && (json_space(text[s.at]) || text[s.at] == '\f' || text[s.at] == '\v')) {
		s.at++;
		s.n--;
	}
	while (s.n && (json_space(text[s.at + s.n - 1]) || text[s.at + s.n - 1] == '\f' ||
		       text[s.at + s.n - 1] == '\v'))
		s.n--;
	return s;
}

/*
 * Which places were tried and are known to lead to no call, as bits for each byte of the text. A
 * value ends at the first end tag that is followed rightly, so two attempts that are inside of the
 * same value go the same way from there on: where the first one failed, the second need not read it
 * again. That keeps the time linear however many markers a text holds.
 */
#define DEAD_VALUE 1
#define DEAD_KEY   2
#define DEAD_START 4 /* a chain of calls from here does not reach the end of the text */

/* The text from the first byte that is still needed. */
struct held {
	char *text;
	uint8_t *dead; /* NULL until something is marked; @cap of them */
	size_t n, cap;
};

/* Both 0 or -ENOMEM; there is memory for some text from the start on. */
int held_add(struct held *h, const char *text, size_t n);
int held_mark(struct held *h, size_t at, size_t n, uint8_t bit);
void held_drop(struct held *h, size_t n); /* the first @n bytes */
static inline bool held_is_dead(const struct held *h, size_t at, uint8_t bit)
{
	return h->dead && at < h->n && (h->dead[at] & bit);
}

/* ---- one call, or a block of them (calls_scan.c) ---- */

enum scan_result {
	SCAN_MORE, /* nothing is known before more text comes */
	SCAN_CALL, /* a call is whole: its parts are in the scan; go on with it */
	SCAN_END,  /* no more calls here; @end is behind the last */
	SCAN_NO,   /* no call */
	SCAN_NO_MEMORY,
};

struct scan {
	enum calls_format format;
	const struct toolbox *tools;
	unsigned state;
	bool bare; /* <function= without <tool_call>: a listed name, and one call */
	unsigned n_calls;
	size_t pos;   /* what is before it is read */
	size_t q;     /* how far a name or value was looked through, from @begin */
	size_t begin; /* of the name, key, value or object being read */
	size_t end;   /* behind the last whole call */
	struct json_scan json;
	/* the call: its name, and either an object's text or pairs */
	struct span name, object;
	struct span *pairs;	   /* key, value, key, ... */
	size_t n_pairs, cap_pairs; /* of spans */
};

/* Ready to read what follows a marker; @at is behind it (bare: at it). Keeps its memory. */
void scan_begin(struct scan *s, const struct toolbox *tools, enum calls_format format, bool bare,
		size_t at);
void scan_done(struct scan *s);
/* @final: no text comes after the @n bytes; never SCAN_MORE then. */
enum scan_result scan_run(struct scan *s, struct held *h, size_t n, bool final);
/* Marks the values of the call at hand as dead. 0 or -ENOMEM. */
int scan_mark(const struct scan *s, struct held *h);

/* ---- what the call says (calls_said.c) ---- */

/* The JSON of the call's arguments, appended. 0 or -ENOMEM. */
int scan_arguments(const struct scan *s, const struct held *h, struct bytes *ret);
/* Its name, and for kimi_k2 what stands for id (else @id->n is 0). Name is decoded into @name. */
int scan_name(const struct scan *s, const struct held *h, struct bytes *name, struct span *id);

/* ---- the whole (calls.c) ---- */

struct calls_marks {
	const char *starts[2], *ends[2]; /* up to NULL */
};

struct call { /* offsets into a struct bytes */
	struct span name, id, arguments;
};

struct out_delta {
	enum calls_kind kind;
	unsigned call;
	struct span text, id, name;
};

struct calls {
	enum calls_format format;
	bool thinking_start, active; /* @active: there are tools */
	bool calls_only, json_or_calls;
	uint64_t id_seed;
	struct toolbox tools;
	struct held held;
	struct scan scan;

	unsigned mode;	 /* of calls.c or calls_harmony.c */
	size_t i;	 /* what is before it was looked at */
	size_t emit;	 /* what is before it was given out or dropped */
	size_t solid;	 /* behind the last byte before @i that is no white space */
	size_t at;	 /* marker of the attempt, or of the chain's first call */
	size_t marker_n; /* its length */
	unsigned n_calls;
	bool any[2]; /* reasoning and content were given out */
	bool joint;  /* content goes on behind a call: a newline first */

	/* calls inside of reasoning, that count if nothing else follows */
	struct bytes chain_text;
	struct call *chain;
	struct out_delta *deltas;
	struct span *spans; /* their values; starts have n = 0 */
	size_t n_chain, cap_chain, n_deltas, cap_deltas, n_spans, cap_spans;

	/* harmony: the message being read */
	bool reasoning, is_call;
	bool newline; /* before its first text: an earlier message had some */
	struct span recipient;
	size_t body;
	struct json_scan json; /* of a call's body, read up to json_at */
	enum { OBJECT_MORE, OBJECT_WHOLE, OBJECT_NONE } object;
	size_t json_at;
	size_t json_lost; /* bytes behind an end that were read as JSON and turned out to be none */

	struct bytes out; /* texts of deltas */
	struct calls_delta *given;
	size_t cap_given;
};

/* Modes of all forms but harmony. */
enum calls_mode {
	M_START,       /* is there a <think>? */
	M_THINK_SPACE, /* before the reasoning */
	M_THINK,
	M_CHAIN,      /* in the reasoning: an attempt at calls up to the end of the text */
	M_CHAIN_NEXT, /* behind one of them */
	M_TEXT_SPACE, /* behind </think> */
	M_TEXT,
	M_CALL, /* an attempt at a call */
	M_TAIL, /* behind it: white space and repeated end tags go with it */
};

extern const struct calls_marks calls_marks[]; /* by format */

/* Markers that may begin a call: none where there are no tools. */
const char *const *calls_starts(const struct calls *c);
/* Which of @words is at @at: MATCH_YES and *ret; MATCH_MORE: one could be. */
enum match calls_match(const struct calls *c, size_t at, const char *const words[2],
		       const char **ret);
/* Nothing before @at is given out any more; looking goes on there. */
void calls_drop_to(struct calls *c, size_t at);
/* An attempt at what follows @marker, which is at @at. */
void calls_begin_attempt(struct calls *c, size_t at, const char *marker);
/* Goes on with it: scan_run(), within CALLS_HELD_MAX. */
enum scan_result calls_attempt(struct calls *c, bool final);
/* The call of the scan as texts in @b; and given out. 0 or -ENOMEM. */
int calls_read(struct calls *c, struct bytes *b, struct call *ret);
int calls_give(struct calls *c, const struct bytes *b, const struct call *k);

/* Modes of reasoning (calls_chain.c): 0: the mode changed, 1: more text is needed, -ENOMEM. */
int calls_begin_chain(struct calls *c, const char *marker);
int calls_chain(struct calls *c, bool final);
int calls_chain_next(struct calls *c, bool final);

/* ---- what is given out (calls_out.c) ---- */

/* Text of a kind given out as it is, with @joint's newline before content. 0 or -ENOMEM. */
int calls_put_text(struct calls *c, enum calls_kind kind, const char *text, size_t n);
/* A call given out. @id_n 0: one is made. */
int calls_put_call(struct calls *c, const char *name, size_t name_n, const char *id, size_t id_n,
		   const char *arguments, size_t arguments_n);
/* All that was put since n_deltas and out.n were set to 0, which stays until then. 0 or -ENOMEM. */
int calls_deltas(struct calls *c, const struct calls_delta **ret, size_t *ret_n);

/* Bytes of [at, n) that are whole characters, or are none at all. */
size_t calls_whole(const char *text, size_t at, size_t n);

int harmony_run(struct calls *c, bool final);

#endif
