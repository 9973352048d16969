/* SPDX-License-Identifier: MIT */
/* daemon/engine/rope.c: see rope.h. */
#include "engine/rope.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

int rope_init(struct rope *r, const struct rope_spec *spec)
{
	r->half = spec->n_rot / 2;
	r->frequency = calloc(r->half + 1, sizeof(*r->frequency));
	if (!r->frequency)
		return -ENOMEM;
	for (uint32_t j = 0; j < r->half; j++)
		r->frequency[j] =
			(double)spec->scale * pow((double)spec->base, -2.0 * j / spec->n_rot);
	return 0;
}

void rope_fini(struct rope *r)
{
	free(r->frequency);
	r->frequency = NULL;
}

void rope_angles(const struct rope *r, uint32_t position, float *cosine, float *sine)
{
	for (uint32_t j = 0; j < r->half; j++) {
		double angle = position * r->frequency[j];

		cosine[j] = (float)cos(angle);
		sine[j] = (float)sin(angle);
	}
}
