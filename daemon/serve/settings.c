/* SPDX-License-Identifier: MIT */
/* daemon/serve/settings.c: see settings.h. */
#include "serve/settings.h"

#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct settings {
	struct opts_setting list[SETTINGS_MAX];
	size_t n;
	char **files; /* names, owned: settings point to them */
	size_t n_files;
};

/* One file while inih reads it. */
struct reading {
	struct settings *s;
	const char *file;
	FILE *f;
	unsigned line;
	size_t bytes;
	struct err *err;
	int rc;
};

#define NO_SETTING "neither \"name = value\" nor a comment"

static int fail(struct reading *r, const char *why)
{
	if (!r->rc)
		r->rc = err_set(r->err, -EINVAL, "%s:%u: %s", r->file, r->line, why);
	return r->rc;
}

/*
 * inih's fgets(): counts lines, which inih does not tell, and takes spaces from their beginning, which
 * inih would read as a continuation of the line before.
 */
static char *next_line(char *line, int size, void *stream)
{
	struct reading *r = stream;
	size_t n;

	if (r->rc || !fgets(line, size, r->f))
		return NULL;
	n = strlen(line);
	r->line++;
	r->bytes += n;
	if (r->bytes > SETTINGS_FILE_BYTES)
		fail(r, "the file is too long");
	else if (!n)
		fail(r, "a zero byte");
	else if (line[n - 1] != '\n' && !feof(r->f))
		fail(r, "the line is too long or holds a zero byte");
	if (r->rc)
		return NULL;
	memmove(line, line + strspn(line, " \t"), strlen(line + strspn(line, " \t")) + 1);
	return line;
}

/* 1 is fine, 0 is not: inih's way. */
static int take(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	struct opts_setting *s = &r->s->list[r->s->n];

	if (*section && strcmp(section, "sluiced") != 0)
		fail(r, "only the section [sluiced] is known");
	else if (!*name)
		fail(r, NO_SETTING);
	else if (r->s->n == SETTINGS_MAX)
		fail(r, "too many settings");
	if (r->rc)
		return 0;
	*s = (struct opts_setting){
		.name = strdup(name), .value = strdup(value), .file = r->file, .line = r->line
	};
	r->s->n++; /* settings_free() frees what there is */
	if (s->name && s->value)
		return 1;
	r->rc = err_set(r->err, -ENOMEM, "no memory for %s", r->file);
	return 0;
}

static int read_file(struct settings *s, const char *path, struct err *err)
{
	struct reading r = { .s = s, .err = err };
	char **files = realloc(s->files, (s->n_files + 1) * sizeof(*files));
	int bad;

	if (!files)
		return err_set(err, -ENOMEM, "no memory for %s", path);
	s->files = files;
	s->files[s->n_files] = strdup(path);
	r.file = s->files[s->n_files];
	if (!r.file)
		return err_set(err, -ENOMEM, "no memory for %s", path);
	s->n_files++;
	r.f = fopen(path, "re");
	if (!r.f)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	bad = ini_parse_stream(next_line, &r, take, &r);
	if (!r.rc && ferror(r.f))
		r.rc = err_set(err, -EIO, "%s: cannot be read", path);
	if (!r.rc && bad > 0) {
		r.line = (unsigned)bad;
		fail(&r, NO_SETTING);
	}
	fclose(r.f);
	return r.rc;
}

static int is_setting(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return d->d_name[0] != '.' && n > 5 && !strcmp(d->d_name + n - 5, ".conf");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* No conf.d is none. */
static int read_others(struct settings *s, const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	int length = slash ? (int)(slash - path) + 1 : 0, n, rc = 0;
	struct dirent **all = NULL;
	char name[4096];

	snprintf(name, sizeof(name), "%.*sconf.d", length, path);
	n = scandir(name, &all, is_setting, by_name);
	if (n < 0)
		return errno == ENOENT || errno == ENOTDIR
			       ? 0
			       : err_set(err, -errno, "%s: %s", name, strerror(errno));
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%.*sconf.d/%s", length, path, all[i]->d_name);
		rc = rc ? rc : read_file(s, name, err);
		free(all[i]);
	}
	free(all);
	return rc;
}

int settings_read(const char *path, struct settings **ret, struct err *err)
{
	struct settings *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(err, -ENOMEM, "no memory for %s", path);
	rc = read_file(s, path, err);
	if (!rc)
		rc = read_others(s, path, err);
	if (rc)
		settings_free(s);
	else
		*ret = s;
	return rc;
}

const struct opts_setting *settings_list(const struct settings *s, size_t *ret_n)
{
	*ret_n = s->n;
	return s->list;
}

void settings_free(struct settings *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++) {
		free((char *)s->list[i].name);
		free((char *)s->list[i].value);
	}
	for (size_t i = 0; i < s->n_files; i++)
		free(s->files[i]);
	free(s->files);
	free(s);
}
