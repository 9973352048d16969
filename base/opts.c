/* SPDX-License-Identifier: MIT */
/* base/opts.c: see opts.h. */
#include "base/opts.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
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

	if (end == text || *end || !isfinite(value) || outside(o, (double)value))
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

/* Takes argv[*i] and, where it wants one, its value. */
static int parse_one(const struct opt *table, size_t n, int argc, char **argv, int *i, void *dst,
		     struct err *err)
{
	const char *word = argv[*i], *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word);
	const struct opt *o = find(table, n, word, len);
	const char *value = equals ? equals + 1 : NULL;

	if (!o)
		return err_set(err, -EINVAL, "unknown option %.*s", (int)len, word);
	if (o->type == OPT_FLAG && value)
		return err_set(err, -EINVAL, "%s takes no value", o->name);
	if (o->type != OPT_FLAG && !value) {
		if (*i + 1 >= argc)
			return err_set(err, -EINVAL, "%s needs a value (%s)", o->name, o->arg);
		value = argv[++*i];
	}
	return parse_value(o, value, dst, err);
}

int opts_parse(const struct opt *table, size_t n, int argc, char **argv, void *dst,
	       int *ret_n_words, struct err *err)
{
	bool only_words = false;
	int n_words = 0, rc;

	for (size_t i = 0; i < n; i++) {
		rc = table[i].def ? parse_value(&table[i], table[i].def, dst, err) : 0;
		if (rc)
			return rc;
	}
	for (int i = 1; i < argc; i++) {
		if (!only_words && !strcmp(argv[i], "--")) {
			only_words = true;
		} else if (!only_words && argv[i][0] == '-' && argv[i][1]) {
			rc = parse_one(table, n, argc, argv, &i, dst, err);
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
	return 0;
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

void opts_help(FILE *out, const struct opt *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct opt *o = &table[i];
		const char *arg = o->type == OPT_CHOICE ? o->choices : o->arg;
		char text[512];
		int column;

		column = fprintf(out, "  %s%s%s", o->alias ? o->alias : "", o->alias ? ", " : "",
				 o->name);
		if (arg)
			column += fprintf(out, " %s", arg);
		snprintf(text, sizeof(text), "%s%s%s%s", o->help, o->def ? " (default " : "",
			 o->def ? o->def : "", o->def ? ")" : "");
		wrap(out, text, column);
	}
}
