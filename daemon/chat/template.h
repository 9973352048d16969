/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/template.h: chat templates: what a conversation is as one text.
 *
 * A template is Jinja as transformers sets it up (sandboxed and immutable, trim_blocks and
 * lstrip_blocks, loop controls, {% generation %}), run by an interpreter that bounds steps, depth
 * and memory. It sees JSON; nothing of the process. Each byte of the result has an origin: written
 * by the template or a token of the file (trusted), or by whoever sent the messages. Control tokens
 * are only parsed in trusted bytes (tokenizer_encode_spans()).
 *
 * A struct template or struct chat_template is constant after it was made: any thread may render
 * with it, several at once. Rendering takes time in proportion to its steps: off the event loop.
 * Rules of the language and of the normaliser: docs/templates.md.
 */
#ifndef SLUICE_CHAT_TEMPLATE_H
#define SLUICE_CHAT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "model/tokenizer.h"

struct gguf;
struct json_object;
struct template;
struct chat_template;

/* ---- any template ---- */

struct template_limits {
	uint64_t steps; /* nodes evaluated and items gone through; 0: 20 million */
	size_t bytes;	/* memory of one rendering; 0: 256 MiB */
	unsigned depth; /* calls, loops and values within each other; 0: 200 */
};

struct template_options {
	struct template_limits limits;
	const struct tm *now; /* the clock of strftime_now(); NULL: local time */
	const char *const
		*trusted; /* names of variables whose text is trusted, up to NULL; or NULL */
};

struct template_error {
	struct err err;
	bool raised; /* the template itself refused the input (raise_exception): @err is its sentence */
};

struct rendered {
	char *text; /* NUL-terminated behind its @n bytes, which may hold NULs; valid UTF-8 */
	size_t n;
	struct text_span *trusted; /* in order, not touching; bytes of text that are trusted */
	size_t n_trusted;
};

void rendered_done(struct rendered *r); /* frees what it holds and clears it */

/* @source: @len bytes of UTF-8. 0, or -EINVAL and a sentence with the line, -ENOMEM, -EFBIG. */
int template_compile(const char *source, size_t len, struct template **ret, struct err *err);
void template_destroy(struct template *t); /* NULL is fine */

/*
 * Renders with the members of the object @vars (borrowed; NULL: none) as variables, exactly as
 * Jinja2 would. @o may be NULL. 0, or -EINVAL (what the template did is an error; see
 * @err->raised), -E2BIG (a limit), -ENOMEM.
 */
int template_render(const struct template *t, struct json_object *vars,
		    const struct template_options *o, struct rendered *ret,
		    struct template_error *err);

/* ---- a model's chat template ---- */

/* What a template can do, found by rendering small conversations with it. */
struct chat_caps {
	bool system;		  /* a system message is shown */
	bool tools;		  /* descriptions of tools are shown */
	bool tool_calls;	  /* calls in the history are shown */
	bool parallel_tool_calls; /* two calls of one message are */
	bool tool_responses;	  /* messages of role tool are shown */
	bool string_content;	  /* content may be a string */
	bool typed_content;	  /* content may be a list of parts */
	bool object_arguments; /* arguments of calls want to be objects, as the normaliser makes them */
	bool thinking_switch;  /* enable_thinking (or thinking) changes the prompt */
	bool reasoning_effort; /* reasoning_effort changes it */
	bool preserve_reasoning; /* reasoning of earlier turns is shown, or is with preserve_thinking */
};

/*
 * What a model file says: its template (tokenizer.chat_template) and the texts of its bos and eos
 * tokens. @source, if not NULL, stands in for the file's template, @len bytes. 0, or -ENOENT (the
 * file has none), -EINVAL and a sentence.
 */
int chat_template_load(const struct gguf *g, const struct tokenizer *t, const char *source,
		       size_t len, struct chat_template **ret, struct err *err);
/* The text of a template's file, malloc'd. 0 or -errno and a sentence (none, too large). */
int chat_template_read(const char *path, char **ret, size_t *ret_len, struct err *err);
/* One without a model: bos and eos may be NULL. */
int chat_template_make(const char *source, size_t len, const char *bos, const char *eos,
		       struct chat_template **ret, struct err *err);
void chat_template_destroy(struct chat_template *c); /* NULL is fine */

const struct chat_caps *chat_template_caps(const struct chat_template *c);
/* The template's text, NUL-terminated, and its length. */
const char *chat_template_source(const struct chat_template *c, size_t *ret_len);

/* A conversation, in the shapes of OpenAI's chat completions; all borrowed and left unchanged. */
struct chat_input {
	struct json_object *messages; /* an array of objects */
	struct json_object *tools;    /* an array, or NULL */
	struct json_object *kwargs;   /* an object of further variables, or NULL */
	bool add_generation_prompt;
	bool continue_final; /* the last message is left open: the text ends with its content */
	bool raw;	     /* without the normaliser, as transformers does it */
};

/*
 * Renders @in: normalised (chat_normalise()) unless raw. @o may be NULL. Same return values as
 * template_render(); what the normaliser refuses is -EINVAL with @err->raised, as it too is the
 * client's to mend.
 */
int chat_render(const struct chat_template *c, const struct chat_input *in,
		const struct template_options *o, struct rendered *ret, struct template_error *err);

enum chat_mark_kind {
	CHAT_MARK_SYSTEM, /* behind system text and tools */
	CHAT_MARK_USER,	  /* the end of one of the latest messages of the user */
	CHAT_MARK_PROMPT, /* before the beginning of the answer */
};

struct chat_mark {
	size_t at; /* bytes of the text */
	enum chat_mark_kind kind;
};

#define CHAT_MARKS 8

/*
 * The places of @r, which chat_render() made of the same @in, at which a later conversation may begin
 * to differ, ascending; where two fall together the first kind stays. Renders beginnings of the
 * conversation, at most five times. Returns how many there are; none where that fails.
 */
size_t chat_marks(const struct chat_template *c, const struct chat_input *in,
		  const struct template_options *o, const struct rendered *r,
		  struct chat_mark ret[CHAT_MARKS]);

/*
 * The tokens of one user turn, as chat_encode() gives them but by the file's own template: with
 * @turn->thinking through the variables that switch it, where the template has such. @kwargs: further
 * variables, or NULL. chat_encode()'s fixed forms where @c is NULL or a text is no UTF-8. Returns the
 * number of ids, or -ENOTSUP and a sentence where there is no form or the template refuses.
 */
ssize_t chat_turn_encode(const struct chat_template *c, struct json_object *kwargs,
			 const struct gguf *g, const struct tokenizer *t,
			 const struct chat_turn *turn, uint32_t **ret_ids, struct err *err);

/* ---- before a template ---- */

/*
 * Messages and tools as templates expect them: leading system and developer messages merged into
 * one, later ones a marked user turn in their place, parts of text joined, arguments of calls that
 * are JSON text parsed (others stay text), reasoning under the names reasoning_content and thinking,
 * members that are null dropped, Claude Code's changing mark in its system text made constant.
 * @tools may be NULL or JSON null. New objects in *ret_messages and *ret_tools (NULL where there are
 * none), which the caller puts. -EINVAL and a sentence that names the message and what is wrong.
 */
int chat_normalise(struct json_object *messages, struct json_object *tools,
		   struct json_object **ret_messages, struct json_object **ret_tools,
		   struct err *err);

/*
 * The kwargs of a request: the daemon's (@base, or NULL), then those of @request's
 * chat_template_kwargs, then its enable_thinking, preserve_thinking and reasoning_effort. A new
 * object in *ret. -EINVAL and a sentence where the request wants to set messages, tools,
 * add_generation_prompt or a template (chat_template), or where a value has the wrong type: then, and
 * with every other error, *ret_field (NULL is fine) is the field at fault, a constant text; NULL: none is.
 */
int chat_kwargs(struct json_object *base, struct json_object *request, struct json_object **ret,
		const char **ret_field, struct err *err);

#endif
