/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/static.c: a list of experts that stay, made once from a trace or a frequency table.
 *
 * The file has one expert a line, `layer expert`, in order of worth; # starts a comment. A listed
 * expert is worth more than any that is not listed; the others use the remaining slots by least
 * recent use. Fill goes down the list, then layer by layer. The file is untrusted: numbers outside
 * the model, repetitions and anything else on a line are refused with the line's number.
 * The file is read in create() only. See policy.h for the calls; the engine's thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policies.h"
#include "policy/ranking.h"

#define LISTED 0x1p60 /* above any count of uses, and exact together with a place in the list */

struct policy {
	struct ranking *ranking;
	uint64_t now;
	bool *listed;
};

static void static_destroy(struct policy *p)
{
	if (!p)
		return;
	ranking_destroy(p->ranking);
	free(p->listed);
	free(p);
}

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

static int read_list(struct policy *p, const struct policy_geometry *g, const char *path,
		     struct err *err)
{
	uint32_t id = 0, n = 0, line_number = 0;
	char line[256];
	int rc = 0;
	FILE *f = fopen(path, "re");

	if (!f)
		return err_set(err, -errno, "policy static: cannot open %s: %s", path,
			       strerror(errno));
	while (!rc && fgets(line, sizeof(line), f)) {
		line_number++;
		rc = strlen(line) + 1 == sizeof(line) ? -EINVAL : parse_line(g, line, &id);
		if (rc < 0)
			err_set(err, rc,
				"policy static: %s line %u is not `layer expert` within %u layers of %u",
				path, line_number, g->n_layers, g->n_expert);
		if (rc <= 0)
			continue;
		rc = 0;
		if (p->listed[id]) {
			rc = err_set(err, -EINVAL,
				     "policy static: %s line %u repeats layer %u expert %u", path,
				     line_number, id / g->n_expert, id % g->n_expert);
			continue;
		}
		p->listed[id] = true;
		/* 2^60 has steps of 256 */
		ranking_set(p->ranking, id, LISTED - 256.0 * n++);
	}
	if (!rc && ferror(f))
		rc = err_set(err, -EIO, "policy static: cannot read %s", path);
	fclose(f);
	return rc;
}

static int static_create(const struct policy_geometry *g, const char *arg, struct policy **ret,
			 struct err *err)
{
	struct policy *p;
	int rc;

	if (!arg || !*arg)
		return err_set(err, -EINVAL, "policy static needs a file: static:FILE");
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	rc = ranking_create(g, TIES_BY_LAYER, &p->ranking, err);
	if (rc)
		goto out_destroy;
	p->listed = calloc(ranking_size(p->ranking), sizeof(*p->listed));
	rc = p->listed ? read_list(p, g, arg, err) : -ENOMEM;
	if (rc)
		goto out_destroy;
	*ret = p;
	return 0;

out_destroy:
	static_destroy(p);
	return rc;
}

static void static_used(struct policy *p, uint64_t step, uint32_t layer, const uint32_t *ids,
			const uint32_t *counts, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		p->now++;
		if (!p->listed[ids[i]])
			ranking_set(p->ranking, ids[i], (double)p->now);
	}
}

static void static_inserted(struct policy *p, uint32_t id)
{
	ranking_place(p->ranking, id, true);
}

static void static_removed(struct policy *p, uint32_t id)
{
	ranking_place(p->ranking, id, false);
}

static uint32_t static_victim(struct policy *p, uint32_t cls, policy_evictable_fn evictable,
			      void *ctx)
{
	return ranking_least(p->ranking, cls, evictable, ctx);
}

static uint32_t static_next_fill(struct policy *p, uint32_t cls)
{
	return ranking_best_absent(p->ranking, cls);
}

const struct policy_ops policy_static = {
	.name = "static",
	.help = "static:FILE keeps the listed experts (`layer expert` lines), the rest as lru",
	.create = static_create,
	.destroy = static_destroy,
	.used = static_used,
	.inserted = static_inserted,
	.removed = static_removed,
	.victim = static_victim,
	.next_fill = static_next_fill,
};
