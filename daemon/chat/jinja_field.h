/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/jinja_field.h: fields of formats, which the % operator (jinja_percent.c) and str.format()
 * (jinja_format.c) write alike: what a field asks for, values in it, and the walk over a format. What
 * fails ends the rendering. The thread of the interpreter.
 */
#ifndef SLUICE_CHAT_JINJA_FIELD_H
#define SLUICE_CHAT_JINJA_FIELD_H

#include "chat/jinja_run.h"

#define JFIELD_MAX_NUMBER 10000 /* a width or a precision; more is refused */

/* What a field asks for. */
struct jfield {
	uint32_t fill;		/* 0: not said */
	char align, sign, type; /* 0: not said */
	bool alternate, zero, comma;
	jint width, precision; /* -1: not said */
};

/*
 * @head (sign and base) and @text to the width asked for. A 0 before the width fills, and what is a
 * number, whose @usual side is '>', is then filled behind the head.
 */
void jfield_put(struct jbuf *b, const struct jfield *s, const char *head, struct jstr *text,
		char usual);
/* @type: d, or x, X, o, b: the base. */
void jfield_int(struct jinja *j, struct jbuf *b, const struct jfield *s, jint i, char type);
/* @type as in C's printf(), '%': a hundred times the number, 0: as str() has it. */
void jfield_float(struct jinja *j, struct jbuf *b, const struct jfield *s, double f, char type);
/* At most as many characters as the precision says. */
void jfield_text(struct jinja *j, struct jbuf *b, const struct jfield *s, struct jstr *text);
void jfield_char(struct jinja *j, struct jbuf *b, const struct jfield *s, jint cp);

/* A walk over a format. */
struct jwalk {
	struct jinja *j;
	const struct jstr *f;
	size_t at;
};

/* The next byte; 0 at the end. */
static inline char jwalk_peek(const struct jwalk *w)
{
	return w->at < w->f->n ? w->f->p[w->at] : '\0';
}

/* The number that is next, -1: there is none. */
jint jwalk_number(struct jwalk *w);

#endif
