/* SPDX-License-Identifier: MIT */
/*
 * base/err.h: one struct that carries the sentence a person will read.
 *
 * Leaf rooms return 0 or -errno and, where a cause is worth a sentence (a bad file, a refused
 * option), fill a caller-provided struct err. They never print. The edge (main, serve, tools)
 * prints it once. Any thread; no allocation.
 */
#ifndef SLUICE_BASE_ERR_H
#define SLUICE_BASE_ERR_H

struct err {
	char text[512]; /* NUL-terminated, no newline; empty = nothing was said */
};

/*
 * Formats the cause into @err (may be NULL) and returns @code, a negative errno, so that a caller
 * can write `return err_set(err, -EINVAL, ...)`. The first cause wins: a text already there stays.
 */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "<prefix>: " in front of a text already in @err; returns @code. */
int err_prefix(struct err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static inline void err_clear(struct err *err)
{
	if (err)
		err->text[0] = '\0';
}

#endif
