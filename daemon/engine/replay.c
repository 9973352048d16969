/* SPDX-License-Identifier: MIT */
/* daemon/engine/replay.c: see replay.h. */
#include "engine/replay.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/num.h"
#include "engine/block/block.h"

struct replay {
	size_t floats; /* of a sequence */
	size_t bytes;
	float *base; /* MAP_FAILED, or the range */
};

/* Of one sequence, in whole pages. */
static uint64_t floats_of(const struct model *m)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < m->n_layers; i++)
		for (uint32_t k = 0; k < m->layers[i].n_blocks; k++) {
			const struct block_ops *b = block_table[m->layers[i].blocks[k].kind];

			n += b->draft_floats ? DRAFT_MAX * b->draft_floats(m) : 0;
		}
	return align_up(n, 4096 / sizeof(float));
}

uint64_t replay_bytes(const struct model *m, uint32_t n)
{
	return floats_of(m) * sizeof(float) * n;
}

int replay_create(const struct model *m, uint32_t n, struct replay **ret)
{
	struct replay *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->floats = floats_of(m);
	r->bytes = replay_bytes(m, n);
	r->base = MAP_FAILED;
	if (r->bytes)
		r->base = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r->bytes && r->base == MAP_FAILED) {
		free(r);
		return -ENOMEM;
	}
	*ret = r;
	return 0;
}

void replay_destroy(struct replay *r)
{
	if (!r)
		return;
	if (r->base != MAP_FAILED)
		munmap(r->base, r->bytes);
	free(r);
}

float *replay_store(const struct replay *r, uint32_t i)
{
	return r->bytes ? r->base + i * r->floats : NULL;
}
