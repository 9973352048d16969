/* SPDX-License-Identifier: MIT */
/* base/opts.c: see opts.h. */
#include "base/opts.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

#define HELP_COLUMN 34
#define HELP_WIDTH  96

int opts_choice(const char *choices, const char *text)
{
	size_t len = strlen(text);
	int i = 0;

	while (*choices) {
		size_t n = strcspn(choices, "|");

		if (n == len && !memcmp(choices, text, n))
			return i;
		choices += n + (choices[n] == '|');
		i++;
	}
	return -EINVAL;
}

char *opts_choice_text(const char *choices, uint32_t i, char *buf, size_t size)
{
	while (i-- && *choices) {
		choices += strcspn(choices, "|");
		choices += *choices == '|';
	}
	snprintf(buf, size, "%.*s", (int)strcspn(choices, "|"), choices);
	return buf;
}

static bool outside(const struct opt *o, double value)
{
	return o->min != o->max && (value < o->min || value > o->max);
}

static int bad_value(const struct opt *o, const char *text, struct err *err)
{
	if (o->type == OPT_CHOICE)
		return err_set(err, -EINVAL, "%s: %s is not one of %s", o->name, text, o->choices);
	if (o->min != o->max)
		return err_set(err, -EINVAL, "%s: %s is not a %s from %.15g to %.15g", o->name,
			       text, o->type == OPT_SIZE ? "size" : "number", o->min, o->max);
	return err_set(err, -EINVAL, "%s: %s is not a %s", o->name, text,
		       o->type == OPT_SIZE ? "size such as 8G or 512MiB" : "number");
}

static int parse_integer(const struct opt *o, const char *text, uint64_t limit, uint64_t *ret,
			 struct err *err)
{
	char *end;
	unsigned long long value;

	if (*text < '0' || *text > '9')
		return bad_value(o, text, err);
	errno = 0;
	value = strtoull(text, &end, 10);
	if (*end || errno || value > limit || outside(o, (double)value))
		return bad_value(o, text, err);
	*ret = value;
	return 0;
}

static int parse_float(const struct opt *o, const char *text, float *ret, struct err *err)
{
	char *end;
	float value = strtof(text, &end);

	/* bounds as floats too: 0.02 is within 0.02 to 60 */
	if (end == text || *end || !isfinite(value) ||
	    (o->min != o->max && (value < (float)o->min || value > (float)o->max)))
		return bad_value(o, text, err);
	*ret = value;
	return 0;
}

static int parse_value(const struct opt *o, const char *text, void *dst, struct err *err)
{
	void *field = (char *)dst + o->offset;
	uint64_t value;
	int rc;

	switch (o->type) {
	case OPT_FLAG:
		*(bool *)field = true;
		return 0;
	case OPT_TEXT:
		*(const char **)field = text;
		return 0;
	case OPT_U32:
		rc = parse_integer(o, text, UINT32_MAX, &value, err);
		if (!rc)
			*(uint32_t *)field = (uint32_t)value;
		return rc;
	case OPT_U64:
		return parse_integer(o, text, UINT64_MAX, field, err);
	case OPT_FLOAT:
		return parse_float(o, text, field, err);
	case OPT_SIZE:
		if (size_parse(text, &value) || outside(o, (double)value))
			return bad_value(o, text, err);
		*(uint64_t *)field = value;
		return 0;
	case OPT_CHOICE:
		rc = opts_choice(o->choices, text);
		if (rc < 0)
			return bad_value(o, text, err);
		*(uint32_t *)field = (uint32_t)rc;
		return 0;
	case OPT_CUSTOM:
		rc = o->parse(text, field, err);
		return rc ? err_prefix(err, rc, "%s", o->name) : 0;
	}
	return -EINVAL;
}

static const struct opt *find(const struct opt *table, size_t n, const char *word, size_t len)
{
	for (size_t i = 0; i < n; i++) {
		const struct opt *o = &table[i];

		if (strlen(o->name) == len && !memcmp(o->name, word, len))
			return o;
		if (o->alias && strlen(o->alias) == len && !memcmp(o->alias, word, len))
			return o;
	}
	return NULL;
}

/* argv[*i] while it is parsed: which option it is and where its value starts. */
struct hit {
	const struct opt *o;
	const char *value; /* NULL: the next argument */
	size_t len;	   /* of the name as it was written */
};

/* "--name", "--name=value", "-n", "-n=value", or "-nvalue" where -n takes one. */
static struct hit look_up(const struct opt *table, size_t n, const char *word)
{
	const char *equals = strchr(word, '=');
	struct hit h = { .len = equals ? (size_t)(equals - word) : strlen(word) };

	h.o = find(table, n, word, h.len);
	if (h.o) {
		h.value = equals ? equals + 1 : NULL;
		return h;
	}
	if (word[1] == '-')
		return h;
	h.o = find(table, n, word, 2);
	if (h.o && h.o->type == OPT_FLAG)
		h.o = NULL;
	if (h.o)
		h.value = word + 2;
	return h;
}

/* Takes argv[*i] and, where it wants one, its value. Sets the option's bit in *given. */
static int parse_one(const struct opt *table, size_t n, int argc, char **argv, int *i, void *dst,
		     uint64_t *given, struct err *err)
{
	const char *word = argv[*i];
	struct hit h = look_up(table, n, word);

	if (!h.o)
		return err_set(err, -EINVAL, "unknown option %.*s", (int)h.len, word);
	if (h.o->type == OPT_FLAG && h.value)
		return err_set(err, -EINVAL, "%s takes no value", h.o->name);
	if (h.o->type != OPT_FLAG && !h.value) {
		if (*i + 1 >= argc)
			return err_set(err, -EINVAL, "%s needs a value (%s)", h.o->name,
				       h.o->arg ? h.o->arg : h.o->choices);
		h.value = argv[++*i];
	}
	*given |= 1ull << (h.o - table);
	if (h.o->given)
		*(bool *)((char *)dst + h.o->given) = true;
	return parse_value(h.o, h.value, dst, err);
}

/* The first option of the list @names ("--a|--b") that was given, or NULL. */
static const struct opt *first_given(const struct opt *table, size_t n, const char *names,
				     uint64_t given)
{
	for (size_t i = 0; i < n; i++)
		if (given >> i & 1 && opts_choice(names, table[i].name) >= 0)
			return &table[i];
	return NULL;
}

/* Options that would do nothing beside (or without) others; who asks for help gets that. */
static int check_pairs(const struct opt *table, size_t n, uint64_t given, struct err *err)
{
	if (first_given(table, n, "--help|--version", given))
		return 0;
	for (size_t i = 0; i < n; i++) {
		const struct opt *o = &table[i], *other;

		if (!(given >> i & 1))
			continue;
		if (o->needs && !first_given(table, n, o->needs, given))
			return err_set(err, -EINVAL, "%s has no effect without %s", o->name,
				       o->needs);
		other = o->excludes ? first_given(table, n, o->excludes, given) : NULL;
		if (other)
			return err_set(err, -EINVAL, "%s and %s exclude each other", o->name,
				       other->name);
	}
	return 0;
}

int opts_parse(const struct opt *table, size_t n, int argc, char **argv, void *dst,
	       int *ret_n_words, struct err *err)
{
	bool only_words = false;
	int n_words = 0, rc;
	uint64_t given = 0;

	assert(n <= OPTS_MAX);
	for (size_t i = 0; i < n; i++) {
		rc = table[i].def ? parse_value(&table[i], table[i].def, dst, err) : 0;
		if (rc)
			return rc;
	}
	for (int i = 1; i < argc; i++) {
		if (!only_words && !strcmp(argv[i], "--")) {
			only_words = true;
		} else if (!only_words && argv[i][0] == '-' && argv[i][1]) {
			rc = parse_one(table, n, argc, argv, &i, dst, &given, err);
			if (rc)
				return rc;
		} else if (!ret_n_words) {
			return err_set(err, -EINVAL, "unexpected argument %s", argv[i]);
		} else {
			argv[1 + n_words++] = argv[i];
		}
	}
	if (ret_n_words)
		*ret_n_words = n_words;
	return check_pairs(table, n, given, err);
}

/* Words of @text from column HELP_COLUMN on, the cursor being at @column. */
static void wrap(FILE *out, const char *text, int column)
{
	if (column >= HELP_COLUMN) {
		fputc('\n', out);
		column = 0;
	}
	fprintf(out, "%*s", HELP_COLUMN - column, "");
	column = HELP_COLUMN;
	for (bool first = true; *text; first = false) {
		int len = (int)strcspn(text, " ");

		if (!first && column + 1 + len > HELP_WIDTH) {
			fprintf(out, "\n%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
			first = true;
		}
		column += fprintf(out, "%s%.*s", first ? "" : " ", len, text);
		text += len + (text[len] == ' ');
	}
	fputc('\n', out);
}

static bool rows;

void opts_help_as_rows(void)
{
	rows = true;
}

void opts_help(FILE *out, const struct opt *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct opt *o = &table[i];
		const char *arg = o->type == OPT_CHOICE ? o->choices : o->arg;
		char text[512];
		int column;

		if (rows) {
			fprintf(out, "option\t%s\t%s\t%s\t%s\n", o->name, o->alias ? o->alias : "",
				arg ? arg : "", o->help);
			continue;
		}
		column = fprintf(out, "  %s%s%s", o->alias ? o->alias : "", o->alias ? ", " : "",
				 o->name);
		if (arg)
			column += fprintf(out, " %s", arg);
		snprintf(text, sizeof(text), "%s%s%s%s", o->help, o->def ? " (default " : "",
			 o->def ? o->def : "", o->def ? ")" : "");
		wrap(out, text, column);
	}
}
