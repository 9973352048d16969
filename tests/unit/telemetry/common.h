/* SPDX-License-Identifier: MIT */
/* tests/unit/telemetry/common.h: a stepped clock and short ways to read a tree. */
#ifndef SLUICE_TESTS_TELEMETRY_COMMON_H
#define SLUICE_TESTS_TELEMETRY_COMMON_H

#include "../tree.h"

#include "telemetry/telemetry.h"

#define UNKNOWN TELEMETRY_UNKNOWN
#define MS	1000000ull
#define SECOND	1000000000ull

static uint64_t test_clock_ns = 1000 * SECOND;

static inline uint64_t test_clock(void *arg)
{
	return test_clock_ns;
}

static inline struct telemetry_config tree_config(const struct tree *t)
{
	return (struct telemetry_config){ .root = t->root, .clock = test_clock };
}

static inline struct telemetry *open_tree(const struct telemetry_config *config)
{
	struct telemetry *t;
	struct err err = { { 0 } };

	if (telemetry_create(config, &t, &err))
		fail_msg("%s", err.text);
	return t;
}

static inline const struct telemetry_node *node_of(const struct telemetry_snapshot *s, int id)
{
	const struct telemetry_node *n = telemetry_find_node(s, id);

	if (!n)
		fail_msg("no node %d", id);
	return n;
}

static inline const struct telemetry_pci *pci_of(const struct telemetry_snapshot *s,
						 const char *bdf)
{
	for (uint32_t i = 0; i < s->n_pci; i++)
		if (!strcmp(s->pci[i].bdf, bdf))
			return &s->pci[i];
	fail_msg("no function %s", bdf);
	return NULL;
}

static inline const struct telemetry_disk *disk_of(const struct telemetry_snapshot *s,
						   const char *name)
{
	for (uint32_t i = 0; i < s->n_disks; i++)
		if (!strcmp(s->disks[i].name, name))
			return &s->disks[i];
	fail_msg("no disk %s", name);
	return NULL;
}

static inline bool has_note(const struct telemetry *t, const char *part)
{
	for (unsigned i = 0; telemetry_note(t, i); i++)
		if (strstr(telemetry_note(t, i), part))
			return true;
	return false;
}

#endif
