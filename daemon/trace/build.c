/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/build.c: see build.h. Growing arrays, checked numbers, lines of text.
 */
#include "trace/build.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_USED 1024 /* experts of one token in one layer */

char *trace_text_line(struct trace_text *text)
{
	char *line = text->at, *nl;

	if (line == text->end)
		return NULL;
	nl = memchr(line, '\n', (size_t)(text->end - line));
	text->at = nl ? nl + 1 : text->end;
	if (!nl)
		nl = text->end;
	*nl = '\0';
	if (nl > line && nl[-1] == '\r')
		nl[-1] = '\0';
	text->line++;
	return line;
}

int trace_take_number(char **at, uint64_t max, uint64_t *ret)
{
	char *p = *at + strspn(*at, " ");
	uint64_t n = 0;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		unsigned digit = (unsigned)(*p - '0');

		if (n > (UINT64_MAX - digit) / 10)
			return -EINVAL;
		n = n * 10 + digit;
	}
	if (n > max)
		return -EINVAL;
	*at = p;
	*ret = n;
	return 0;
}

int trace_take_fraction(char **at, float *ret)
{
	size_t len = strspn(*at, "+-.0123456789eE");
	char *end;
	float f;

	if (!len || len > 40)
		return -EINVAL;
	f = strtof(*at, &end);
	if (end != *at + len || !isfinite(f))
		return -EINVAL;
	*at = end;
	*ret = f;
	return 0;
}

int trace_set_geometry(struct route_trace *t, uint64_t layers, uint64_t experts, uint64_t used,
		       struct err *err)
{
	if (t->layers)
		return err_set(err, -EINVAL, "the geometry is given twice");
	if (!layers || layers > TRACE_MAX_LAYERS || !experts || experts > TRACE_MAX_EXPERTS ||
	    !used || used > experts || used > MAX_USED)
		return err_set(err, -EINVAL, "%llu layers of %llu experts, %llu used, cannot be",
			       (unsigned long long)layers, (unsigned long long)experts,
			       (unsigned long long)used);
	t->layers = calloc(layers, sizeof(*t->layers));
	if (!t->layers)
		return -ENOMEM;
	t->n_layers = (uint32_t)layers;
	t->n_expert = (uint32_t)experts;
	t->n_expert_used = (uint32_t)used;
	return 0;
}

/* Room for one more of @n elements of @size. The memory at *items moves. */
static int grow(void **items, size_t *cap, size_t n, size_t size)
{
	size_t more = *cap ? *cap * 2 : 4096;
	void *p;

	if (n < *cap)
		return 0;
	p = reallocarray(*items, more, size);
	if (!p)
		return -ENOMEM;
	*items = p;
	*cap = more;
	return 0;
}

int trace_add_row(struct route_trace *t, const struct trace_row *row, struct err *err)
{
	if (!t->layers)
		return err_set(err, -EINVAL, "a row comes before the geometry");
	if (row->layer >= t->n_layers)
		return err_set(err, -EINVAL, "layer %u of %u", row->layer, t->n_layers);
	if (t->n_rows && row->step < t->rows[t->n_rows - 1].step)
		return err_set(err, -EINVAL, "step %llu comes after step %llu",
			       (unsigned long long)row->step,
			       (unsigned long long)t->rows[t->n_rows - 1].step);
	if (grow((void **)&t->rows, &t->cap_rows, t->n_rows, sizeof(*t->rows)))
		return -ENOMEM;
	t->rows[t->n_rows] = *row;
	t->rows[t->n_rows].first = t->n_uses;
	t->rows[t->n_rows++].n = 0;
	return 0;
}

int trace_add_use(struct route_trace *t, const struct trace_use *use, struct err *err)
{
	struct trace_row *row = &t->rows[t->n_rows - 1];

	if (use->expert >= t->n_expert)
		return err_set(err, -EINVAL, "expert %u of %u", use->expert, t->n_expert);
	if (row->n == t->n_expert_used)
		return err_set(err, -EINVAL, "more than %u experts for one token",
			       t->n_expert_used);
	for (uint32_t i = 0; i < row->n; i++)
		if (t->uses[row->first + i].expert == use->expert)
			return err_set(err, -EINVAL, "expert %u twice for one token", use->expert);
	if (grow((void **)&t->uses, &t->cap_uses, t->n_uses, sizeof(*t->uses)))
		return -ENOMEM;
	t->uses[t->n_uses++] = *use;
	row->n++;
	return 0;
}

int trace_add_frequency(struct route_trace *t, const struct trace_frequency *f, struct err *err)
{
	if (!t->layers || f->layer >= t->n_layers || f->expert >= t->n_expert)
		return err_set(err, -EINVAL, "layer %u expert %u is outside the geometry", f->layer,
			       f->expert);
	if (!(f->uses_per_token >= 0))
		return err_set(err, -EINVAL, "a frequency below zero");
	if (grow((void **)&t->frequencies, &t->cap_frequencies, t->n_frequencies,
		 sizeof(*t->frequencies)))
		return -ENOMEM;
	t->frequencies[t->n_frequencies++] = *f;
	return 0;
}
