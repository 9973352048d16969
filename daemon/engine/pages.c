/* SPDX-License-Identifier: MIT */
/* daemon/engine/pages.c: see pages.h. */
#include "engine/pages.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int pages_init(struct pages *p, uint32_t n)
{
	*p = (struct pages){ .n = n, .n_free = n };
	p->refs = calloc((size_t)n + 1, sizeof(*p->refs));
	p->free = malloc(((size_t)n + 1) * sizeof(*p->free));
	if (!p->refs || !p->free) {
		pages_fini(p);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < n; i++) /* the first is taken first: memory grows from its start */
		p->free[i] = n - 1 - i;
	return 0;
}

void pages_fini(struct pages *p)
{
	free(p->refs);
	free(p->free);
	*p = (struct pages){ 0 };
}

uint32_t page_take(struct pages *p)
{
	uint32_t page;

	if (!p->n_free)
		return PAGE_NONE;
	page = p->free[--p->n_free];
	assert(!p->refs[page]);
	p->refs[page] = 1;
	return page;
}

void page_hold(struct pages *p, uint32_t page)
{
	assert(page < p->n && p->refs[page]);
	p->refs[page]++;
}

bool page_drop(struct pages *p, uint32_t page)
{
	assert(page < p->n && p->refs[page]);
	if (--p->refs[page])
		return false;
	p->free[p->n_free++] = page;
	return true;
}

uint32_t page_holders(const struct pages *p, uint32_t page)
{
	return p->refs[page];
}
