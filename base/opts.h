/* SPDX-License-Identifier: MIT */
/*
 * base/opts.h: command-line options from a table.
 *
 * One const table per program or verb says name, type, default, range and help; parsing, checking,
 * --help and configuration files all come from it. Values land in a struct of the caller at the
 * offsets in the table. Texts point into argv or into the settings. Prints only where asked to
 * (opts_help, opts_dump). Any thread.
 */
#ifndef SLUICE_BASE_OPTS_H
#define SLUICE_BASE_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum opt_type {
	OPT_FLAG,   /* bool, no value */
	OPT_TEXT,   /* const char *, borrowed from argv */
	OPT_U32,    /* uint32_t within [min, max] */
	OPT_U64,    /* uint64_t within [min, max] */
	OPT_FLOAT,  /* float within [min, max], finite */
	OPT_SIZE,   /* uint64_t bytes within [min, max], as size_parse() reads them */
	OPT_CHOICE, /* uint32_t: index in the list choices, "a|b|c" */
	OPT_CUSTOM, /* parse() */
};

struct opt {
	const char *name;  /* "--model" */
	const char *alias; /* "-m", or NULL */
	enum opt_type type;
	size_t offset;
	const char *arg;     /* how help shows the value: "FILE" */
	double min, max;     /* numbers; min == max: no bounds */
	const char *choices; /* OPT_CHOICE */
	const char *def;     /* parsed before the arguments; NULL: what the struct holds */
	const char *help;    /* a sentence or more, wrapped by opts_help() */
	int (*parse)(const char *text, void *field, struct err *err); /* OPT_CUSTOM */
	/* Names of the same table, "--a|--b": what would be ignored is refused instead. */
	const char *needs;    /* refused unless one of these is given too */
	const char *excludes; /* refused beside any of these (one of the pair says it) */
	size_t given;	      /* offset of a bool that tells whether it was given; 0: none */
	bool repeat;	      /* every value counts (OPT_CUSTOM that collects), not only the last */
	bool reload;	      /* may change while the program runs */
	bool only_argument;   /* makes no sense in a configuration file: --help */
};

#define OPTS_MAX    64 /* rows of a table */
#define OPTS_REPEAT 8  /* values of a repeated option */

/* A value from elsewhere than the arguments: "threads" = "4" in line 7 of a file. */
struct opts_setting {
	const char *name, *value; /* the option's name without its dashes */
	const char *file;
	unsigned line;
};

/* What was said of one option, and where; texts are borrowed from argv, the settings or the table. */
struct opts_said {
	enum { SAID_NOT, SAID_SETTING, SAID_ARGUMENT } by;
	const struct opts_setting *setting; /* of the last value; SAID_SETTING only */
	const char *value[OPTS_REPEAT];	    /* the last alone unless it is repeated */
	unsigned n;			    /* 0 of a flag that a file turns off */
};

/*
 * Fills @dst with the defaults and then the arguments argv[1..]. "--name value", "--name=value",
 * "-n value" and "-nvalue" are alike; a later one wins. Returns 0 or -EINVAL and a sentence: unknown
 * option, missing or bad value, options that do not go together, or a word that is no option while
 * @ret_n_words is NULL. Otherwise words are moved to the front (argv[1..*ret_n_words]).
 */
int opts_parse(const struct opt *table, size_t n, int argc, char **argv, void *dst,
	       int *ret_n_words, struct err *err);

/*
 * The steps of opts_parse(), for programs that have configuration files too; @said has @n elements.
 * opts_arguments() begins: defaults, then the arguments. opts_settings() adds what the arguments do not
 * say; there a flag is yes or no, later values win, and an empty one takes back what settings before
 * it said. opts_check() ends it: what does not go together. 0 or -EINVAL and a sentence, which names
 * file and line of a setting.
 */
int opts_arguments(const struct opt *table, size_t n, int argc, char **argv, void *dst,
		   struct opts_said *said, int *ret_n_words, struct err *err);
int opts_settings(const struct opt *table, size_t n, const struct opts_setting *settings,
		  size_t n_settings, void *dst, struct opts_said *said, struct err *err);
int opts_check(const struct opt *table, size_t n, const struct opts_said *said, struct err *err);

/*
 * The table as a configuration file that opts_settings() would read: every option with its help, its
 * default and whether it can be reloaded, as comments; those that were said (@said) with their values
 * and where these come from.
 */
void opts_dump(FILE *out, const struct opt *table, size_t n, const struct opts_said *said);

/* All values of an option in one text, as opts_dump() and messages show them; "" for none. @buf is
 * returned; cut where it does not fit. */
char *opts_said_text(const struct opts_said *said, char *buf, size_t size);

/* The table as text: two columns, with defaults. */
void opts_help(FILE *out, const struct opt *table, size_t n);

/*
 * From here on opts_help() writes one row an option for programs that read it (shell completions,
 * tests): "option", name, alias, form of the value (empty: none) and help, with tabs between.
 * Called once, before any other thread.
 */
void opts_help_as_rows(void);

/* The index of @text in "a|b|c", or -EINVAL. */
int opts_choice(const char *choices, const char *text);

/* The text of index @i of "a|b|c", in @buf, which is returned; cut where it does not fit. */
char *opts_choice_text(const char *choices, uint32_t i, char *buf, size_t size);

#endif
