/* SPDX-License-Identifier: MIT */
/*
 * base/jsonc_escape.h: JSON text whose strings are ASCII, for json-c (jsonc.c). Pure, any thread.
 */
#ifndef SLUICE_BASE_JSONC_ESCAPE_H
#define SLUICE_BASE_JSONC_ESCAPE_H

#include <stddef.h>

/*
 * A copy of @text (@n bytes) in which characters of strings that are not ASCII are escapes (RFC 8259, section 7), *ret_n
 * bytes and a NUL; what is outside of strings stays. *ret_bad: the first byte in a string that is no UTF-8, for each of
 * which the copy has a question mark; SIZE_MAX: there is none. malloc'd; NULL: out of memory.
 */
char *jsonc_escape(const char *text, size_t n, size_t *ret_n, size_t *ret_bad);

/* The byte of @text (@n bytes) that byte @at of its copy stands for; @n at the copy's end. */
size_t jsonc_escaped_at(const char *text, size_t n, size_t at);

#endif
