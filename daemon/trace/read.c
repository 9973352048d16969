/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/read.c: `route_trace v1` (docs/trace.md) from and to text.
 *
 * The reader takes what it knows and refuses what it does not, except header keys that it has never
 * heard of: those are for newer writers. A last line without a line end is what a full disk or a
 * killed daemon leaves behind; it is dropped.
 */
#include "trace/read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "trace/build.h"

#define MAX_FILE_BYTES ((uint64_t)4 << 30)

/* The file's bytes with a NUL behind them. The caller frees. */
static int read_file(const char *path, char **ret, size_t *ret_len, struct err *err)
{
	size_t len = 0, cap = 0;
	char *buf = NULL;
	int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
	for (;;) {
		ssize_t n;

		if (len + 1 >= cap) {
			char *more = realloc(buf, cap = cap ? cap * 2 : 1 << 16);

			if (!more || cap > 2 * MAX_FILE_BYTES) {
				free(more ? more : buf);
				buf = NULL;
				rc = err_set(err, -EFBIG, "%s is too large to hold in memory",
					     path);
				break;
			}
			buf = more;
		}
		n = read(fd, buf + len, cap - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = err_set(err, -errno, "cannot read %s: %s", path, strerror(errno));
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	close(fd);
	if (rc) {
		free(buf);
		return rc;
	}
	buf[len] = '\0';
	*ret = buf;
	*ret_len = len;
	return 0;
}

/* "KEY VALUE" -> VALUE where @line starts with KEY and a space, else NULL. */
static char *value_of(char *line, const char *key)
{
	size_t len = strlen(key);

	return strncmp(line, key, len) == 0 && line[len] == ' ' ? line + len + 1 : NULL;
}

static void copy_text(char *to, size_t len, const char *from)
{
	size_t n = strnlen(from, len - 1);

	memcpy(to, from, n);
	to[n] = '\0';
}

struct byte_field {
	const char *name; /* with "=" */
	uint64_t *to;
};

/* " A=N B=N" up to the end of the line, out of @n fields. */
static int take_bytes(char *at, const struct byte_field *fields, size_t n)
{
	while (*at) {
		uint64_t *to = NULL;

		at += strspn(at, " ");
		for (size_t i = 0; i < n && !to; i++)
			if (strncmp(at, fields[i].name, strlen(fields[i].name)) == 0) {
				to = fields[i].to;
				at += strlen(fields[i].name);
			}
		if (!to || trace_take_number(&at, UINT64_MAX, to) || (*at && *at != ' '))
			return -EINVAL;
	}
	return 0;
}

/* layer N expert_bytes=N dense_bytes=N slot_bytes=N slot_class=N */
static int header_layer(struct route_trace *t, char *at, struct err *err)
{
	struct trace_layer_bytes b = { 0 };
	const struct byte_field fields[] = { { "expert_bytes=", &b.expert_bytes },
					     { "dense_bytes=", &b.dense_bytes },
					     { "slot_bytes=", &b.slot_bytes },
					     { "slot_class=", &b.slot_class } };
	uint64_t layer;

	if (!t->layers || trace_take_number(&at, t->n_layers - 1, &layer))
		return err_set(err, -EINVAL, "no such layer");
	if (take_bytes(at, fields, ARRAY_LEN(fields)))
		return err_set(err, -EINVAL, "layer's bytes cannot be read");
	t->layers[layer] = b;
	return 0;
}

/* outside dense_bytes=N token_bytes=N */
static int header_outside(struct route_trace *t, char *at, struct err *err)
{
	struct trace_outside_bytes b = { 0 };
	const struct byte_field fields[] = { { "dense_bytes=", &b.dense_bytes },
					     { "token_bytes=", &b.token_bytes } };

	if (take_bytes(at, fields, ARRAY_LEN(fields)))
		return err_set(err, -EINVAL, "the bytes outside the layers cannot be read");
	t->outside = b;
	return 0;
}

static int header_geometry(struct route_trace *t, char *at, struct err *err)
{
	uint64_t layers, experts, used;

	if (trace_take_number(&at, UINT32_MAX, &layers) ||
	    trace_take_number(&at, UINT32_MAX, &experts) ||
	    trace_take_number(&at, UINT32_MAX, &used) || *at)
		return err_set(err, -EINVAL, "geometry is not `LAYERS EXPERTS USED`");
	return trace_set_geometry(t, layers, experts, used, err);
}

static int header_line(struct route_trace *t, char *line, struct err *err)
{
	char *v;

	if ((v = value_of(line, "model")))
		copy_text(t->model, sizeof(t->model), v);
	else if ((v = value_of(line, "arch")))
		copy_text(t->arch, sizeof(t->arch), v);
	else if ((v = value_of(line, "geometry")))
		return header_geometry(t, v, err);
	else if ((v = value_of(line, "layer")))
		return header_layer(t, v, err);
	else if ((v = value_of(line, "outside")))
		return header_outside(t, v, err);
	else if ((v = value_of(line, "order")))
		t->by_rank = strcmp(v, "rank") == 0;
	return 0;
}

/* EXPERT[:WEIGHT[:PRESENT:BYTES]] */
static int take_use(struct route_trace *t, char **at, struct err *err)
{
	struct trace_use use = { 0 };
	uint64_t n;

	if (trace_take_number(at, UINT32_MAX, &n))
		return err_set(err, -EINVAL, "an expert's number is missing");
	use.expert = (uint32_t)n;
	if (**at == ':') {
		++*at;
		if (trace_take_fraction(at, &use.weight))
			return err_set(err, -EINVAL, "a weight cannot be read");
		t->has_weights = true;
	}
	if (**at == ':') {
		++*at;
		if (trace_take_number(at, 1, &n) || **at != ':')
			return err_set(err, -EINVAL, "after a weight comes 0 or 1, then bytes");
		use.was_present = n;
		++*at;
		if (trace_take_number(at, UINT32_MAX, &n))
			return err_set(err, -EINVAL, "the bytes of a read are missing");
		use.read_bytes = (uint32_t)n;
		t->has_reads = true;
	}
	if (**at && **at != ' ')
		return err_set(err, -EINVAL, "`%.20s` cannot be read", *at);
	return trace_add_use(t, &use, err);
}

/* p|d LAYER SEQ POS USE... */
static int row_line(struct route_trace *t, char *at, uint64_t step, enum trace_phase phase,
		    struct err *err)
{
	struct trace_row row = { .step = step, .phase = phase };
	uint64_t layer, seq, pos;
	int rc;

	if (trace_take_number(&at, UINT16_MAX, &layer) ||
	    trace_take_number(&at, UINT32_MAX, &seq) || trace_take_number(&at, UINT32_MAX, &pos))
		return err_set(err, -EINVAL, "a row starts with layer, sequence and position");
	row.layer = (uint16_t)layer;
	row.seq = (uint32_t)seq;
	row.pos = (uint32_t)pos;
	rc = trace_add_row(t, &row, err);
	while (!rc && *at)
		rc = take_use(t, &at, err);
	return rc;
}

/* f LAYER EXPERT USES_PER_TOKEN */
static int frequency_line(struct route_trace *t, char *at, struct err *err)
{
	struct trace_frequency f;
	uint64_t layer, expert;

	if (trace_take_number(&at, UINT32_MAX, &layer) ||
	    trace_take_number(&at, UINT32_MAX, &expert) || *at++ != ' ' ||
	    trace_take_fraction(&at, &f.uses_per_token) || *at)
		return err_set(err, -EINVAL, "a frequency is `f LAYER EXPERT NUMBER`");
	f.layer = (uint32_t)layer;
	f.expert = (uint32_t)expert;
	return trace_add_frequency(t, &f, err);
}

static int body_line(struct route_trace *t, char *line, uint64_t *step, struct err *err)
{
	char *v;
	uint64_t n;

	if (line[0] == 'p' && line[1] == ' ')
		return row_line(t, line + 2, *step, TRACE_PREFILL, err);
	if (line[0] == 'd' && line[1] == ' ')
		return row_line(t, line + 2, *step, TRACE_DECODE, err);
	if (line[0] == 'f' && line[1] == ' ')
		return frequency_line(t, line + 2, err);
	if ((v = value_of(line, "step")) && !trace_take_number(&v, UINT64_MAX, step) && !*v)
		return 0;
	if ((v = value_of(line, "lost")) && !trace_take_number(&v, UINT32_MAX, &n) && !*v) {
		t->lost += n;
		return 0;
	}
	return err_set(err, -EINVAL, "`%.20s` starts no line of " TRACE_MAGIC, line);
}

static int read_own(struct route_trace *t, struct trace_text *text, struct err *err)
{
	bool body = false;
	uint64_t step = 0;
	char *line;
	int rc = 0;

	/* what follows the last line end is half a line */
	while (text->end > text->at && text->end[-1] != '\n')
		text->end--;
	while (!rc && (line = trace_text_line(text))) {
		if (!*line || *line == '#' || text->line == 1)
			continue;
		if (body)
			rc = body_line(t, line, &step, err);
		else if (strcmp(line, "data") == 0)
			body = true;
		else
			rc = header_line(t, line, err);
	}
	if (!rc && (!t->layers || !body))
		rc = err_set(err, -EINVAL, "the header is not complete");
	return rc;
}

static int read_any(struct route_trace *t, char *bytes, size_t len, const char *path,
		    struct err *err)
{
	struct trace_text text = { .at = bytes, .end = bytes + len };
	int rc;

	if (trace_is_freq(bytes, len)) {
		rc = trace_read_freq(t, bytes, len, err);
		return rc ? err_prefix(err, rc, "%s", path) : 0;
	}
	if (strncmp(bytes, TRACE_MAGIC "\n", strlen(TRACE_MAGIC) + 1) == 0)
		rc = read_own(t, &text, err);
	else if (trace_is_csv(bytes))
		rc = trace_read_csv(t, &text, err);
	else if (trace_is_jsonl(bytes))
		rc = trace_read_jsonl(t, &text, err);
	else
		return err_set(err, -EINVAL,
			       "%s is no routing trace: it starts like none of `" TRACE_MAGIC
			       "`, a .route.csv, a .jsonl with layers, a .freq table",
			       path);
	return rc ? err_prefix(err, rc, "%s line %zu", path, text.line) : 0;
}

int trace_read(const char *path, struct route_trace **ret, struct err *err)
{
	struct route_trace *t;
	char *bytes = NULL;
	size_t len = 0;
	int rc = read_file(path, &bytes, &len, err);

	if (rc)
		return rc;
	rc = -ENOMEM;
	t = calloc(1, sizeof(*t));
	if (!t)
		goto out_bytes;
	rc = read_any(t, bytes, len, path, err);
	if (rc) {
		if (rc == -ENOMEM)
			err_set(err, rc, "%s: out of memory", path);
		route_trace_destroy(t);
		goto out_bytes;
	}
	*ret = t;
out_bytes:
	free(bytes);
	return rc;
}

void route_trace_destroy(struct route_trace *t)
{
	if (!t)
		return;
	free(t->layers);
	free(t->rows);
	free(t->uses);
	free(t->frequencies);
	free(t);
}

static void write_row(const struct route_trace *t, const struct trace_row *row, FILE *f)
{
	fprintf(f, "%c %u %u %u", row->phase == TRACE_PREFILL ? 'p' : 'd', row->layer, row->seq,
		row->pos);
	for (uint32_t i = 0; i < row->n; i++) {
		const struct trace_use *u = &t->uses[row->first + i];

		fprintf(f, " %u", u->expert);
		if (t->has_weights || t->has_reads)
			fprintf(f, ":%.6g", (double)u->weight);
		if (t->has_reads)
			fprintf(f, ":%d:%u", u->was_present, u->read_bytes);
	}
	fputc('\n', f);
}

static void write_layer(const struct route_trace *t, uint32_t l, FILE *f)
{
	const struct trace_layer_bytes *b = &t->layers[l];

	if (!b->expert_bytes && !b->dense_bytes && !b->slot_bytes)
		return;
	fprintf(f, "layer %u expert_bytes=%llu dense_bytes=%llu", l,
		(unsigned long long)b->expert_bytes, (unsigned long long)b->dense_bytes);
	if (b->slot_bytes)
		fprintf(f, " slot_bytes=%llu slot_class=%llu", (unsigned long long)b->slot_bytes,
			(unsigned long long)b->slot_class);
	fputc('\n', f);
}

int trace_write(const struct route_trace *t, FILE *f)
{
	fprintf(f, TRACE_MAGIC "\n");
	if (*t->model)
		fprintf(f, "model %s\n", t->model);
	if (*t->arch)
		fprintf(f, "arch %s\n", t->arch);
	fprintf(f, "geometry %u %u %u\n", t->n_layers, t->n_expert, t->n_expert_used);
	fprintf(f, "order %s\n", t->by_rank ? "rank" : "none");
	for (uint32_t l = 0; l < t->n_layers; l++)
		write_layer(t, l, f);
	if (t->outside.dense_bytes || t->outside.token_bytes)
		fprintf(f, "outside dense_bytes=%llu token_bytes=%llu\n",
			(unsigned long long)t->outside.dense_bytes,
			(unsigned long long)t->outside.token_bytes);
	fprintf(f, "data\n");
	for (size_t i = 0; i < t->n_rows; i++) {
		if (!i || t->rows[i].step != t->rows[i - 1].step)
			fprintf(f, "step %llu\n", (unsigned long long)t->rows[i].step);
		write_row(t, &t->rows[i], f);
	}
	for (size_t i = 0; i < t->n_frequencies; i++)
		fprintf(f, "f %u %u %.9g\n", t->frequencies[i].layer, t->frequencies[i].expert,
			(double)t->frequencies[i].uses_per_token);
	if (t->lost)
		fprintf(f, "lost %llu\n", (unsigned long long)t->lost);
	if (fflush(f) || ferror(f))
		return errno ? -errno : -EIO;
	return 0;
}
