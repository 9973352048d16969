/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/pages.h: which pages of the KV memory are taken, and by how many.
 *
 * A page is the room of KV_BLOCK positions of all layers and heads; parts of a saved recurrent state
 * take pages too. Pages are numbers here: the memory is seq.c's. A page is written by the one
 * sequence that took it, at positions that nobody else reads yet; every other holder only reads.
 * Refuses nothing but what is not there: PAGE_NONE. Engine thread. All memory is taken at the start.
 */
#ifndef SLUICE_ENGINE_PAGES_H
#define SLUICE_ENGINE_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_NONE UINT32_MAX

struct pages {
	uint32_t n, n_free;
	uint32_t *refs; /* of each page, 0: free */
	uint32_t *free; /* a stack of n_free numbers: what was given back last is taken first */
};

/* @n pages, all free. 0 or -ENOMEM; then nothing is held. */
int pages_init(struct pages *p, uint32_t n);
void pages_fini(struct pages *p); /* a zeroed struct is fine */

/* A free page, held once, or PAGE_NONE. */
uint32_t page_take(struct pages *p);
void page_hold(struct pages *p, uint32_t page);
/* One holder less; true where it was the last: the page is free. */
bool page_drop(struct pages *p, uint32_t page);
/* Holders. */
uint32_t page_holders(const struct pages *p, uint32_t page);

#endif
