/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls.h: reasoning, content and tool calls in the text that a model writes.
 *
 * A model writes one text; a client wants it in three parts: the reasoning between <think> and
 * </think> (or on harmony's analysis channel), the content, and the calls of tools in the form that
 * the model was trained with. The text is fed as it comes, in pieces of any size; what became
 * certain comes out as deltas. The deltas of a kind joined are the same for every cutting of the
 * text. The rules are in docs/tool-calls.md.
 *
 *  - A call counts when it is complete: until then its text is held back, as it might turn out to be
 *    none. What is no call is content, byte for byte; nothing a model writes is an error.
 *  - The text is what follows the prompt, with control tokens written out (they are the markers:
 *    detok with special set) and without the token that ended the turn.
 *  - Texts of deltas end at whole UTF-8 characters. Bytes that are no UTF-8 pass through.
 *
 * Time is linear in the text; memory is that of the text held back, at most CALLS_HELD_MAX for one
 * call. A struct calls belongs to one thread at a time; two share nothing.
 */
#ifndef SLUICE_CHAT_CALLS_H
#define SLUICE_CHAT_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct json_object;
struct calls;

/* A call whose text is longer is content. */
#define CALLS_HELD_MAX (16u << 20)

enum calls_format {
	CALLS_HERMES,	    /* <tool_call>{"name": ..., "arguments": {...}}</tool_call> */
	CALLS_QWEN3_XML,    /* <tool_call><function=NAME><parameter=KEY>... */
	CALLS_GLM,	    /* <tool_call>NAME<arg_key>...</arg_key><arg_value>... */
	CALLS_MINIMAX_M2,   /* <minimax:tool_call><invoke name="NAME"><parameter name="KEY">... */
	CALLS_DEEPSEEK_V31, /* DeepSeek V3.1: calls between its own control tokens */
	CALLS_KIMI_K2,	    /* <|tool_calls_section_begin|><|tool_call_begin|>functions.NAME:0... */
	CALLS_HARMONY,	    /* gpt-oss: channels and recipients */
	CALLS_FORMATS,
};

#define CALLS_FORMAT_CHOICES "hermes|qwen3_xml|glm|minimax_m2|deepseek_v3.1|kimi_k2|harmony|auto"

/* "hermes", ...: as in CALLS_FORMAT_CHOICES. */
const char *calls_format_name(enum calls_format f);

/*
 * The form that a template writes calls in, found by the markers in its source (@source, @len bytes;
 * NULL: no template). *ret_told is false where the template has none that this file knows: the form
 * is then hermes, and the model has to be told so (calls_tell()).
 */
enum calls_format calls_format_of(const char *source, size_t len, bool *ret_told);

/*
 * For templates without a form of their own: the conversation with the tools described in its system
 * turn, once, in Hermes' words, and earlier calls and results of tools as text of their turns. The
 * template is then given the result, and no tools. @messages: an array; @tools: an array or NULL
 * (nothing is described, earlier calls are still made text). A new array in *ret, which the caller
 * puts. 0, -ENOMEM; -EINVAL and a sentence where @messages is no array of objects.
 */
int calls_tell(struct json_object *messages, struct json_object *tools, struct json_object **ret,
	       struct err *err);

/*
 * Whether the rendered prompt leaves the reasoning open: it ends, but for white space, with <think>
 * (of @n bytes). A prompt that ends inside of a thought already begun (continue_final_message) is
 * the caller's to know.
 */
bool calls_prompt_thinks(const char *prompt, size_t n);

struct calls_options {
	enum calls_format format;
	/*
	 * The request's tools: an array of {type, function: {name, parameters}} or of such functions
	 * bare. NULL or empty: there are no calls in the text (tool_choice none). Its schemas say
	 * which types the values of the xml forms have. Borrowed during calls_create() only.
	 */
	struct json_object *tools;
	/*
	 * The answer is held to calls (tool_choice required or named): no content is in it, and what
	 * its end cuts, were it the first byte of a marker, is of a call and left out.
	 */
	bool calls_only;
	/* It is one JSON text or calls: what begins as a call does and is cut is left out, as above. */
	bool json_or_calls;
	bool thinking_start; /* the prompt ended inside of <think> (harmony: of its analysis) */
	uint64_t id_seed; /* ids of calls are made from it and their number; 0: of random numbers */
};

/* 0, or -ENOMEM; -EINVAL and a sentence where the tools are not as above. */
int calls_create(const struct calls_options *o, struct calls **ret, struct err *err);
void calls_destroy(struct calls *c); /* NULL is fine */

enum calls_kind {
	CALLS_REASONING, /* text */
	CALLS_CONTENT,	 /* text */
	CALLS_BEGIN,	 /* call, id and name: once for each call, before its arguments */
	CALLS_ARGUMENTS, /* call, text: a piece of the arguments, which joined are one JSON object */
	CALLS_END,	 /* call: its arguments are whole */
};

struct calls_delta {
	enum calls_kind kind;
	unsigned call;	  /* counts from 0 */
	const char *text; /* @n bytes, not NUL-terminated */
	size_t n;
	const char *id;	  /* NUL-terminated */
	const char *name; /* NUL-terminated, @name_n bytes */
	size_t name_n;
};

/*
 * Takes the next @n bytes. *ret: what became certain, *ret_n deltas in order, often none; valid until
 * the next call on @c. 0 or -ENOMEM, after which only calls_destroy() makes sense.
 */
int calls_feed(struct calls *c, const char *text, size_t n, const struct calls_delta **ret,
	       size_t *ret_n);
/* The text ends here: the rest. Once; nothing is fed after it. */
int calls_finish(struct calls *c, const struct calls_delta **ret, size_t *ret_n);

#endif
