/* SPDX-License-Identifier: MIT */
/* daemon/trace/policy_input.c: see input.h. */
#include "trace/policy_input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace/read.h"

/* What a file turned into; owns what struct policy_input borrows. */
struct input {
	struct policy_input in;
	uint32_t *ids;
	struct policy_call *calls;
};

/* One line: 1 and *ret_id where it names an expert, 0 where it is empty, or -EINVAL. */
static int parse_line(const struct policy_geometry *g, char *line, uint32_t *ret_id)
{
	unsigned layer, expert;
	int end = 0;

	line[strcspn(line, "#\r\n")] = '\0';
	line += strspn(line, " \t");
	if (!*line)
		return 0;
	if (strspn(line, "0123456789 \t") != strlen(line) || strlen(line) > 40)
		return -EINVAL;
	if (sscanf(line, "%9u %9u %n", &layer, &expert, &end) != 2 || line[end] ||
	    layer >= g->n_layers || expert >= g->n_expert)
		return -EINVAL;
	*ret_id = layer * g->n_expert + expert;
	return 1;
}

static int take_line(struct input *to, const struct policy_geometry *g, bool *listed, char *line,
		     const char *path, uint32_t line_number, struct err *err)
{
	uint32_t id = 0;
	int rc = strlen(line) == 255 ? -EINVAL : parse_line(g, line, &id);

	if (rc < 0)
		return err_set(
			err, rc,
			"policy static: %s line %u is not `layer expert` within %u layers of %u",
			path, line_number, g->n_layers, g->n_expert);
	if (rc == 0)
		return 0;
	if (listed[id])
		return err_set(err, -EINVAL, "policy static: %s line %u repeats layer %u expert %u",
			       path, line_number, id / g->n_expert, id % g->n_expert);
	listed[id] = true;
	to->ids[to->in.n_ids++] = id;
	return 0;
}

static int read_list(struct input *to, const struct policy_geometry *g, const char *path,
		     struct err *err)
{
	size_t n = (size_t)g->n_layers * g->n_expert;
	bool *listed = calloc(n + 1, sizeof(*listed));
	uint32_t line_number = 0;
	char line[256];
	int rc = 0;
	FILE *f = fopen(path, "re");

	to->ids = calloc(n + 1, sizeof(*to->ids));
	if (!f)
		rc = err_set(err, -errno, "policy static: cannot open %s: %s", path,
			     strerror(errno));
	else if (!listed || !to->ids)
		rc = -ENOMEM;
	while (!rc && fgets(line, sizeof(line), f))
		rc = take_line(to, g, listed, line, path, ++line_number, err);
	if (!rc && ferror(f))
		rc = err_set(err, -EIO, "policy static: cannot read %s", path);
	if (f)
		fclose(f);
	free(listed);
	return rc;
}

/* Rows of one step and layer stand together in a trace: one call of used(). */
static int gather_calls(struct input *to, const struct route_trace *t)
{
	struct policy_call *c = NULL;

	to->ids = calloc(t->n_uses + 1, sizeof(*to->ids));
	to->calls = calloc(t->n_rows + 1, sizeof(*to->calls));
	if (!to->ids || !to->calls)
		return -ENOMEM;
	for (size_t i = 0; i < t->n_rows; i++) {
		const struct trace_row *row = &t->rows[i];

		if (!i || row->step != t->rows[i - 1].step || row->layer != t->rows[i - 1].layer) {
			c = &to->calls[to->in.n_calls++];
			*c = (struct policy_call){ .layer = row->layer, .first = to->in.n_ids };
		}
		for (uint32_t k = 0; k < row->n; k++, c->n++)
			to->ids[to->in.n_ids++] =
				row->layer * t->n_expert + t->uses[row->first + k].expert;
	}
	return 0;
}

static int read_uses(struct input *to, const struct policy_geometry *g, const char *path,
		     struct err *err)
{
	struct route_trace *t;
	int rc = trace_read(path, &t, err);

	if (rc)
		return rc;
	if (t->n_layers != g->n_layers || t->n_expert != g->n_expert)
		rc = err_set(
			err, -EINVAL,
			"policy belady: %s is of %u layers of %u experts, the model has %u of %u",
			path, t->n_layers, t->n_expert, g->n_layers, g->n_expert);
	else
		rc = gather_calls(to, t);
	route_trace_destroy(t);
	return rc;
}

int policy_open(const char *spec, const struct policy_geometry *geometry,
		const struct policy_ops **ret_ops, struct policy **ret, struct err *err)
{
	const struct policy_ops *ops;
	struct input input = { 0 };
	const char *arg;
	int rc = policy_find(spec, &ops, &arg, err);

	if (rc)
		return rc;
	if (ops->wants == POLICY_WANTS_LIST)
		rc = read_list(&input, geometry, arg, err);
	else if (ops->wants == POLICY_WANTS_USES)
		rc = read_uses(&input, geometry, arg, err);
	else if (ops->wants == POLICY_WANTS_SEED)
		input.in.seed = arg ? strtoull(arg, NULL, 10) : 0;
	input.in.ids = input.ids;
	input.in.calls = input.calls;
	if (!rc)
		rc = ops->create(geometry, &input.in, ret, err);
	free(input.ids);
	free(input.calls);
	if (rc == -ENOMEM)
		return err_set(err, rc, "policy %s: out of memory", ops->name);
	if (!rc)
		*ret_ops = ops;
	return rc;
}
