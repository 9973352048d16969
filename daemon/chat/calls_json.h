/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls_json.h: strict JSON (RFC 8259) in a text that is still being written.
 *
 * Only says whether and where a value ends; nothing is built, so numbers keep their digits. Private
 * to calls*.c. Any thread.
 */
#ifndef SLUICE_CHAT_CALLS_JSON_H
#define SLUICE_CHAT_CALLS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CALLS_JSON_DEPTH 256 /* arrays and objects within each other; more is no JSON here */

enum json_result { JSON_MORE, JSON_DONE, JSON_BAD };

/* A zeroed one expects a value. */
struct json_scan {
	uint8_t state;
	uint8_t left; /* hexadecimal digits to come */
	bool key;     /* the string is a key */
	uint16_t depth;
	const char *word;		       /* the rest of true, false, null */
	uint8_t objects[CALLS_JSON_DEPTH / 8]; /* a bit for each depth: an object */
};

/*
 * The next byte. JSON_DONE: it closed the value. A number outside of arrays and objects has no end of
 * its own and is never done.
 */
enum json_result json_scan_byte(struct json_scan *j, unsigned char byte);

enum json_kind {
	JSON_NULL = 1,
	JSON_BOOLEAN = 2,
	JSON_INTEGER = 4,
	JSON_NUMBER = 8, /* with a fraction or an exponent */
	JSON_OBJECT = 16,
	JSON_ARRAY = 32,
	JSON_STRING = 64,
	JSON_ANY = 127,
};

/* What the whole of @text is (no white space around it); 0: no JSON. */
enum json_kind json_kind_of(const char *text, size_t n);

/* Of JSON known to be sound: behind the value that begins at @at. */
size_t json_skip(const char *text, size_t n, size_t at);

/*
 * Of an object known to be sound, @n bytes: the value of the last member @name. False: none.
 */
bool json_member(const char *object, size_t n, const char *name, size_t *ret_at, size_t *ret_n);

/*
 * The text of a sound string, its quotes included in @n: into @ret (room for @n bytes), UTF-8, lone
 * surrogates as U+FFFD. Returns its length.
 */
size_t json_unescape(const char *string, size_t n, char *ret);

static inline bool json_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

#endif
