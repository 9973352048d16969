/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/warm_name.c: the names of kept memory, see warm.h. Apart, so that who hands it on (serve/) needs no
 * more of the store.
 */
#include <string.h>

#include "store/warm.h"

static const char *const names[WARM_NR] = { "sluice-table", "sluice-experts", "sluice-dense" };

const char *warm_name(enum warm_memory m)
{
	return names[m];
}

enum warm_memory warm_named(const char *name)
{
	int m = 0;

	while (m < WARM_NR && strcmp(names[m], name) != 0)
		m++;
	return (enum warm_memory)m;
}
