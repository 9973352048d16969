/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/scripted.c: samples from a text file, for tests and for trying a policy on a
 * machine that is not there. Its lines are those of script_line.h; '#' begins a comment, and
 *
 *	sample MS			begins a sample, MS milliseconds after the one before
 *
 * After the last sample the last one stays. The whole file is checked when it is opened. One thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "telemetry/script_line.h"
#include "telemetry/telemetry.h"

#define MAX_SCRIPT_BYTES (4u << 20)
#define MAX_LINE	 1024
#define NS_PER_MS	 1000000u

struct script {
	char *text;
	size_t at;	   /* of the next sample's line */
	size_t last;	   /* of the last one that was given */
	uint64_t base_ns;  /* the clock at the first sample */
	uint64_t since_ns; /* script time of the sample given last */
	bool begun;
};

/* Copies the line at @at without its comment; returns where the next one begins, 0: too long. */
static size_t get_line(const char *text, size_t at, char line[MAX_LINE])
{
	size_t len = strcspn(text + at, "\n"), end = at + len;
	size_t keep = strcspn(text + at, "\n#");

	if (keep >= MAX_LINE)
		return 0;
	memcpy(line, text + at, keep);
	line[keep] = '\0';
	line[strcspn(line, "\r")] = '\0';
	return end + (text[end] == '\n');
}

/*
 * Reads the sample whose line begins at @at; *ret_end is where the next begins. 0, or -EINVAL with
 * *ret_end at the bad line.
 */
static int read_sample(const char *text, size_t at, uint64_t ns, struct telemetry_sample *sample,
		       size_t *ret_end)
{
	bool first = true;
	char line[MAX_LINE];

	for (size_t next; text[at]; at = next, first = false) {
		char *words = line, *word;

		*ret_end = at;
		next = get_line(text, at, line);
		if (!next)
			return -EINVAL;
		word = script_word(&words);
		if (first || !*word)
			continue; /* "sample" itself was read by the caller */
		if (!strcmp(word, "sample"))
			return 0;
		if (script_line(word, words, ns, sample))
			return -EINVAL;
	}
	*ret_end = at;
	return 0;
}

/* The next line that says something: its offset; *ret_ms of its "sample". -EINVAL if it is none. */
static int find_sample(const char *text, size_t *at, uint64_t *ret_ms)
{
	char line[MAX_LINE];

	while (text[*at]) {
		size_t next = get_line(text, *at, line);
		char *words = line, *word;

		if (!next)
			return -EINVAL;
		word = script_word(&words);
		if (!*word) {
			*at = next;
			continue;
		}
		if (strcmp(word, "sample") || !text_u64(script_word(&words), ret_ms) ||
		    *ret_ms > 86400000)
			return -EINVAL;
		return 0;
	}
	return -ENOENT;
}

static unsigned line_number(const char *text, size_t at)
{
	unsigned n = 1;

	for (size_t i = 0; i < at; i++)
		n += text[i] == '\n';
	return n;
}

static int check_script(const char *text, const char *path, struct err *err)
{
	struct telemetry_sample *scratch = malloc(sizeof(*scratch));
	size_t at = 0, n = 0;
	uint64_t ms;
	int rc = scratch ? 0 : -ENOMEM;

	while (!rc) {
		rc = find_sample(text, &at, &ms);
		if (rc)
			break;
		n++;
		telemetry_sample_init(scratch);
		rc = read_sample(text, at, 0, scratch, &at);
	}
	free(scratch);
	if (rc == -ENOENT && n)
		return 0;
	if (rc == -ENOENT)
		return err_set(err, -EINVAL, "%s: no sample in it", path);
	if (rc == -EINVAL)
		return err_set(err, rc, "%s:%u: not a line of a telemetry script", path,
			       line_number(text, at));
	return rc;
}

static void scripted_close(void *state)
{
	struct script *s = state;

	if (!s)
		return;
	free(s->text);
	free(s);
}

static int scripted_open(const struct telemetry_config *config, void **ret_state, struct err *err)
{
	struct script *s = calloc(1, sizeof(*s));
	struct fs here = { AT_FDCWD };
	ssize_t n;
	int rc;

	if (!s)
		return -ENOMEM;
	s->text = malloc(MAX_SCRIPT_BYTES);
	n = s->text ? fs_text(&here, s->text, MAX_SCRIPT_BYTES, "%s", config->script) : -ENOMEM;
	if (n < 0)
		rc = err_set(err, (int)n, "%s: %s", config->script, strerror((int)-n));
	else if (n == MAX_SCRIPT_BYTES - 1)
		rc = err_set(err, -EFBIG, "%s: too long for a telemetry script", config->script);
	else
		rc = check_script(s->text, config->script, err);
	if (rc) {
		scripted_close(s);
		return rc;
	}
	*ret_state = s;
	return 0;
}

static int scripted_sample(void *state, uint64_t now, struct telemetry_sample *sample)
{
	struct script *s = state;
	size_t at = s->at, end;
	uint64_t ms = 0;
	int rc;

	if (!s->begun)
		s->base_ns = now;
	if (find_sample(s->text, &at, &ms)) {
		at = s->last; /* past the end: the last one again, later */
		find_sample(s->text, &at, &ms);
	}
	s->since_ns += s->begun ? ms * NS_PER_MS : 0;
	s->begun = true;
	s->last = at;
	rc = read_sample(s->text, at, s->base_ns + s->since_ns, sample, &end);
	if (end > s->at)
		s->at = end;
	return rc;
}

const struct telemetry_ops telemetry_scripted_ops = {
	.source = TELEMETRY_SCRIPT,
	.open = scripted_open,
	.sample = scripted_sample,
	.close = scripted_close,
};
