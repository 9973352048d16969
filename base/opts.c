/* SPDX-License-Identifier: MIT */
/* base/opts.c: see opts.h. */
#include "base/opts.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/near.h"
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
	if (*text && !text[strspn(text, "0123456789")])
		return err_set(err, -EINVAL, "%s: %s is too large", o->name, text);
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

/* -EINVAL and a sentence; @skip: bytes of each name that @word has not, the dashes of a configuration's. */
static int unknown(const struct opt *table, size_t n, const char *word, size_t len, size_t skip,
		   struct err *err)
{
	unsigned best = NEAR_NOT, distance;
	const char *name = NULL;

	for (size_t i = 0; i < n; i++) {
		distance = near_distance(word, len, table[i].name + skip);
		if (distance < best && !(skip && table[i].only_argument)) {
			best = distance;
			name = table[i].name + skip;
		}
	}
	return name ? err_set(err, -EINVAL, "unknown option %.*s; there is %s", (int)len, word,
			      name)
		    : err_set(err, -EINVAL, "unknown option %.*s", (int)len, word);
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

/* Notes that @value was said of option @o. */
static int note(const struct opt *o, const char *value, struct opts_said *said, struct err *err)
{
	if (!o->repeat)
		said->n = 0;
	if (said->n == OPTS_REPEAT)
		return err_set(err, -EINVAL, "%s: at most %d of them", o->name, OPTS_REPEAT);
	said->value[said->n++] = value;
	return 0;
}

/* Takes argv[*i] and, where it wants one, its value. */
static int parse_one(const struct opt *table, size_t n, int argc, char **argv, int *i, void *dst,
		     struct opts_said *said, struct err *err)
{
	const char *word = argv[*i];
	struct hit h = look_up(table, n, word);
	int rc;

	if (!h.o)
		return unknown(table, n, word, h.len, 0, err);
	if (h.o->type == OPT_FLAG && h.value)
		return err_set(err, -EINVAL, "%s takes no value", h.o->name);
	if (h.o->type != OPT_FLAG && !h.value) {
		if (*i + 1 >= argc)
			return err_set(err, -EINVAL, "%s needs a value (%s)", h.o->name,
				       h.o->arg ? h.o->arg : h.o->choices);
		h.value = argv[++*i];
	}
	rc = note(h.o, h.value ? h.value : "yes", &said[h.o - table], err);
	if (rc)
		return rc;
	said[h.o - table].by = SAID_ARGUMENT;
	if (h.o->given)
		*(bool *)((char *)dst + h.o->given) = true;
	return parse_value(h.o, h.value, dst, err);
}

/* The first option of the list @names ("--a|--b") that was given, or NULL. */
static const struct opt *first_given(const struct opt *table, size_t n, const char *names,
				     const struct opts_said *said)
{
	for (size_t i = 0; i < n; i++)
		if (said[i].n && opts_choice(names, table[i].name) >= 0)
			return &table[i];
	return NULL;
}

/* Options that would do nothing beside (or without) others; who asks for help gets that. */
int opts_check(const struct opt *table, size_t n, const struct opts_said *said, struct err *err)
{
	if (first_given(table, n, "--help|--version", said))
		return 0;
	for (size_t i = 0; i < n; i++) {
		const struct opt *o = &table[i], *other;

		if (!said[i].n)
			continue;
		if (o->needs && !first_given(table, n, o->needs, said))
			return err_set(err, -EINVAL, "%s has no effect without %s", o->name,
				       o->needs);
		other = o->excludes ? first_given(table, n, o->excludes, said) : NULL;
		if (other)
			return err_set(err, -EINVAL, "%s and %s exclude each other", o->name,
				       other->name);
	}
	return 0;
}

int opts_arguments(const struct opt *table, size_t n, int argc, char **argv, void *dst,
		   struct opts_said *said, int *ret_n_words, struct err *err)
{
	bool only_words = false;
	int n_words = 0, rc;

	assert(n <= OPTS_MAX);
	memset(said, 0, n * sizeof(*said));
	for (size_t i = 0; i < n; i++) {
		rc = table[i].def ? parse_value(&table[i], table[i].def, dst, err) : 0;
		if (rc)
			return rc;
	}
	for (int i = 1; i < argc; i++) {
		if (!only_words && !strcmp(argv[i], "--")) {
			only_words = true;
		} else if (!only_words && argv[i][0] == '-' && argv[i][1]) {
			rc = parse_one(table, n, argc, argv, &i, dst, said, err);
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

int opts_parse(const struct opt *table, size_t n, int argc, char **argv, void *dst,
	       int *ret_n_words, struct err *err)
{
	struct opts_said said[OPTS_MAX];
	int rc = opts_arguments(table, n, argc, argv, dst, said, ret_n_words, err);

	return rc ? rc : opts_check(table, n, said, err);
}

/* ---- settings ---- */

static const struct opt *find_setting(const struct opt *table, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!table[i].only_argument && !strcmp(table[i].name + 2, name))
			return &table[i];
	return NULL;
}

/* Does a later setting of the same option take back what @k says? */
static bool taken_back(const struct opts_setting *settings, size_t n, size_t k)
{
	for (size_t i = k + 1; i < n; i++)
		if (!*settings[i].value && !strcmp(settings[i].name, settings[k].name))
			return true;
	return false;
}

/* A flag's "yes" or "no" as 1 and 0, or -EINVAL. */
static int flag_value(const char *text)
{
	int i = opts_choice("no|yes|false|true|off|on|0|1", text);

	return i < 0 ? -EINVAL : i & 1;
}

static int take_setting(const struct opt *o, const struct opts_setting *s, void *dst,
			struct opts_said *said, struct err *err)
{
	int on = o->type == OPT_FLAG ? flag_value(s->value) : 1;
	int rc;

	if (on < 0)
		return err_set(err, -EINVAL, "%s: %s is neither yes nor no", s->name, s->value);
	said->by = SAID_SETTING;
	said->setting = s;
	if (o->type == OPT_FLAG) {
		said->n = 0;
		*(bool *)((char *)dst + o->offset) = false;
		if (!on)
			return 0;
	}
	rc = note(o, s->value, said, err);
	if (rc)
		return rc;
	if (o->given)
		*(bool *)((char *)dst + o->given) = true;
	return parse_value(o, s->value, dst, err);
}

int opts_settings(const struct opt *table, size_t n, const struct opts_setting *settings,
		  size_t n_settings, void *dst, struct opts_said *said, struct err *err)
{
	for (size_t i = 0; i < n_settings; i++) {
		const struct opts_setting *s = &settings[i];
		const struct opt *o = find_setting(table, n, s->name);
		int rc = 0;

		if (!o)
			rc = unknown(table, n, s->name, strlen(s->name), 2, err);
		else if (said[o - table].by != SAID_ARGUMENT && *s->value &&
			 !taken_back(settings, n_settings, i))
			rc = take_setting(o, s, dst, &said[o - table], err);
		if (rc)
			return err_prefix(err, rc, "%s:%u", s->file, s->line);
	}
	return 0;
}

/* ---- texts ---- */

char *opts_said_text(const struct opts_said *said, char *buf, size_t size)
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < said->n && at < size; i++)
		at += (size_t)snprintf(buf + at, size - at, "%s%s", i ? ", " : "", said->value[i]);
	return buf;
}

/* Words of @text in lines that begin with @lead, the cursor being behind the first lead. */
static void wrap(FILE *out, const char *text, const char *lead)
{
	int column = (int)strlen(lead);

	for (bool first = true; *text; first = false) {
		int len = (int)strcspn(text, " ");

		if (!first && column + 1 + len > HELP_WIDTH) {
			fprintf(out, "\n%s", lead);
			column = (int)strlen(lead);
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

/* The help of an option with its default, in @buf. */
static const char *help_text(const struct opt *o, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s%s%s", o->help, o->def ? " (default " : "", o->def ? o->def : "",
		 o->def ? ")" : "");
	return buf;
}

static const char *arg_text(const struct opt *o)
{
	return o->type == OPT_CHOICE ? o->choices : o->arg;
}

void opts_help(FILE *out, const struct opt *table, size_t n)
{
	char lead[HELP_COLUMN + 1], text[512];

	memset(lead, ' ', HELP_COLUMN);
	lead[HELP_COLUMN] = '\0';
	for (size_t i = 0; i < n; i++) {
		const struct opt *o = &table[i];
		const char *arg = arg_text(o);
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
		if (column >= HELP_COLUMN)
			fprintf(out, "\n%s", lead);
		else
			fprintf(out, "%s", lead + column);
		wrap(out, help_text(o, text, sizeof(text)), lead);
	}
}

/* "# name = form" and the values that were said. */
static void dump_values(FILE *out, const struct opt *o, const struct opts_said *said)
{
	const char *name = o->name + 2, *arg = o->type == OPT_FLAG ? "yes|no" : arg_text(o);

	if (said->by == SAID_SETTING)
		fprintf(out, "# from %s, line %u\n", said->setting->file, said->setting->line);
	else if (said->by == SAID_ARGUMENT)
		fprintf(out, "# from the command line\n");
	if (said->by == SAID_NOT)
		fprintf(out, "#%s = %s\n", name,
			o->def		      ? o->def
			: o->type == OPT_FLAG ? "no"
			: arg		      ? arg
					      : "");
	else if (!said->n)
		fprintf(out, "%s = no\n", name);
	for (unsigned i = 0; i < said->n; i++)
		fprintf(out, "%s = %s\n", name, said->value[i]);
}

void opts_dump(FILE *out, const struct opt *table, size_t n, const struct opts_said *said)
{
	char text[512];

	for (size_t i = 0; i < n; i++) {
		const struct opt *o = &table[i];

		if (o->only_argument)
			continue;
		fprintf(out, "\n# %s: %s\n# ", o->name + 2,
			o->type == OPT_FLAG ? "yes|no"
			: arg_text(o)	    ? arg_text(o)
					    : "");
		wrap(out, help_text(o, text, sizeof(text)), "# ");
		if (o->repeat)
			fprintf(out, "# May stand several times.\n");
		if (o->reload)
			fprintf(out, "# SIGHUP reloads it.\n");
		dump_values(out, o, &said[i]);
	}
}
