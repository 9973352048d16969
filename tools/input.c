/* SPDX-License-Identifier: MIT */
/* tools/input.c: see input.h. */
#include "tools/input.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/verbs.h"

#define FILE_MAX (1u << 30) /* bytes: more is surely not meant */

static int read_all(int fd, const char *path, char **ret, size_t *ret_bytes, struct err *err)
{
	size_t room = 65536, used = 0;
	char *text = malloc(room + 1);

	while (text) {
		ssize_t n = read(fd, text + used, room - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			err_set(err, 0, "%s: %s", path, strerror(errno));
			free(text);
			return -EIO;
		}
		if (!n) {
			text[used] = '\0';
			*ret = text;
			*ret_bytes = used;
			return 0;
		}
		used += (size_t)n;
		if (used == room) {
			char *bigger = room < FILE_MAX ? realloc(text, room * 2 + 1) : NULL;

			if (!bigger)
				break;
			text = bigger;
			room *= 2;
		}
	}
	free(text);
	return err_set(err, -EFBIG, "%s: too large", path);
}

int input_file(const char *path, char **ret, size_t *ret_bytes, struct err *err)
{
	bool from_stdin = !strcmp(path, "-");
	int fd = from_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	rc = read_all(fd, path, ret, ret_bytes, err);
	if (!from_stdin)
		close(fd);
	return rc;
}

int input_text(const char *text, char **ret, size_t *ret_bytes, struct err *err)
{
	if (!strcmp(text, "-"))
		return input_file(text, ret, ret_bytes, err);
	*ret = strdup(text);
	if (!*ret)
		return err_set(err, -ENOMEM, "out of memory");
	*ret_bytes = strlen(text);
	return 0;
}

int input_tokens(const char *json, size_t bytes, const char *what, uint32_t **ret, size_t *ret_n,
		 struct err *err)
{
	json_error_t where;
	json_t *array = json_loadb(json, bytes, 0, &where);
	uint32_t *ids = NULL;
	size_t n = json_array_size(array);
	int rc = -EINVAL;

	if (!array)
		return err_set(err, rc, "%s: line %d: %s", what, where.line, where.text);
	if (!json_is_array(array)) {
		err_set(err, rc, "%s: not a JSON array of token ids such as [1, 2, 3]", what);
		goto out;
	}
	ids = malloc((n + 1) * sizeof(*ids));
	if (!ids) {
		rc = err_set(err, -ENOMEM, "%s: out of memory", what);
		goto out;
	}
	for (size_t i = 0; i < n; i++) {
		json_t *v = json_array_get(array, i);
		json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;

		if (id < 0 || id > UINT32_MAX) {
			err_set(err, rc, "%s: entry %zu is not a token id", what, i);
			goto out;
		}
		ids[i] = (uint32_t)id;
	}
	*ret = ids;
	*ret_n = n;
	ids = NULL;
	rc = 0;
out:
	free(ids);
	json_decref(array);
	return rc;
}

int input_list(const char *text, uint32_t most, uint32_t *ret, size_t room, struct err *err)
{
	int n = 0;

	for (const char *p = text;; p++) {
		char *end;
		unsigned long long value;

		if (*p < '0' || *p > '9')
			return err_set(err, -EINVAL, "%s is not a list such as 512,2048", text);
		value = strtoull(p, &end, 10);
		if (value > most || (size_t)n == room || (*end && *end != ','))
			return err_set(err, -EINVAL,
				       "%s is not a list of up to %zu numbers from 0 to %u", text,
				       room, most);
		ret[n++] = (uint32_t)value;
		if (!*end)
			return n;
		p = end;
	}
}

/* Bytes of the UTF-8 character at @p, 0 where there is none. */
static size_t utf8_length(const unsigned char *p, size_t room)
{
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

	if (p[0] > 0xf4 || n > room)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if (n == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)))
		return 0;
	if (n == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)))
		return 0;
	return n;
}

json_t *input_json_text(const char *text, size_t bytes)
{
	json_t *value = json_stringn(text, bytes);
	size_t used = 0;
	char *clean;

	if (value)
		return value;
	clean = malloc(bytes * 3 + 1);
	if (!clean)
		return NULL;
	for (size_t i = 0; i < bytes;) {
		size_t n = utf8_length((const unsigned char *)text + i, bytes - i);

		memcpy(clean + used, n ? text + i : "\xef\xbf\xbd", n ? n : 3);
		used += n ? n : 3;
		i += n ? n : 1;
	}
	value = json_stringn(clean, used);
	free(clean);
	return value;
}

void input_put_text(json_t *o, const char *name, const char *text)
{
	json_object_set_new(o, name, input_json_text(text, strlen(text)));
}

bool input_is_special(const char *path)
{
	struct stat st;

	return !stat(path, &st) && !S_ISREG(st.st_mode);
}

int input_print_json(json_t *object, bool lines)
{
	int rc = object ? json_dumpf(object, stdout, lines ? JSON_INDENT(2) : 0) : -1;

	json_decref(object);
	putchar('\n');
	if (input_flush())
		return -EIO;
	if (!rc)
		return 0;
	fprintf(stderr, "sluice: no memory for the JSON\n");
	return -ENOMEM;
}

/* Why stdout failed first: later calls no longer know. */
static int output_error;

void input_output_failed(int error)
{
	if (!output_error)
		output_error = error;
}

int input_flush(void)
{
	errno = 0;
	if (!fflush(stdout) && !ferror(stdout))
		return 0;
	input_output_failed(errno);
	return -EIO;
}

int input_finish(const char *verb, int rc)
{
	bool failed = input_flush() != 0;

	errno = 0;
	if (fclose(stdout) && !failed) { /* some file systems say it only here */
		output_error = errno;
		failed = true;
	}
	if (!failed)
		return rc;
	fprintf(stderr, "sluice %s: cannot write to standard output%s%s\n", verb,
		output_error ? ": " : "", output_error ? strerror(output_error) : "");
	return rc == EXIT_OK ? EXIT_FAILED : rc;
}

static int one_word(int n, char **argv, const char **ret, struct err *err)
{
	*ret = n ? argv[1] : NULL;
	if (n < 2)
		return 0;
	return err_set(err, -EINVAL, "unexpected argument %s (a text of several words is quoted)",
		       argv[2]);
}

int input_args(const char *usage, const struct opt *table, size_t n, int argc, char **argv,
	       void *args, const bool *help, const char **ret_word)
{
	struct err err = { 0 };
	int n_words = 0;
	int rc = opts_parse(table, n, argc, argv, args, ret_word ? &n_words : NULL, &err);

	if (!rc && ret_word && !*help)
		rc = one_word(n_words, argv, ret_word, &err);
	if (rc) {
		fprintf(stderr, "sluice %s: %s\nsluice help %s lists the options\n", argv[0],
			err.text, argv[0]);
		return EXIT_USAGE;
	}
	if (!*help)
		return -1;
	printf("usage: sluice %s %s\n\n", argv[0], usage);
	opts_help(stdout, table, n);
	return EXIT_OK;
}
