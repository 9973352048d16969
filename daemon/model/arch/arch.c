/* SPDX-License-Identifier: MIT */
/* daemon/model/arch/arch.c: looking a family up in the table of arch.h. */
#include "model/arch/arch.h"

#include <stdio.h>
#include <string.h>

#include "base/num.h"

#define ROW(family) &arch_##family,
static const struct arch *const archs[] = { ARCHS(ROW) };
#undef ROW

bool arch_has(const struct arch *a, enum role role)
{
	for (const struct arch_weight *row = a->weights; row->role != ROLE_NR; row++)
		if (row->role == role)
			return true;
	return false;
}

const struct arch *arch_find(struct gguf_str name)
{
	for (unsigned i = 0; i < ARRAY_LEN(archs); i++)
		if (name.len == strlen(archs[i]->name) &&
		    !memcmp(name.data, archs[i]->name, name.len))
			return archs[i];
	return NULL;
}

const struct arch *arch_of(const struct gguf *g)
{
	struct gguf_str name = { "", 0 };

	return gguf_str(g, "general.architecture", &name, NULL) ? NULL : arch_find(name);
}

const char *arch_names(char *buf, size_t size)
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < ARRAY_LEN(archs) && at < size; i++) {
		const char *before = i == 0 ? "" : i + 1 < ARRAY_LEN(archs) ? ", " : " and ";

		at += (size_t)snprintf(buf + at, size - at, "%s%s", before, archs[i]->name);
	}
	return buf;
}
