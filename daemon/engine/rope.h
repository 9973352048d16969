/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/rope.h: angles of the rotary position embedding.
 *
 * theta_j = position * scale * base^(-2j / n_rot) for pair j < n_rot / 2 (docs/models.md 2.4).
 * Angles, sines and cosines are computed in double and rounded once: the same bits wherever and
 * whenever a position is computed, and exact at long contexts, where angles in f32 are off by
 * hundredths of a radian.
 */
#ifndef SLUICE_ENGINE_ROPE_H
#define SLUICE_ENGINE_ROPE_H

#include <stdint.h>

#include "model/model.h"

struct rope {
	uint32_t half;	   /* pairs: n_rot / 2 */
	double *frequency; /* per pair, radians per position; owned */
};

/* 0 or -ENOMEM. n_rot may be 0: nothing is rotated. */
int rope_init(struct rope *r, const struct rope_spec *spec);
void rope_fini(struct rope *r);

/* half cosines and half sines of @position. Any thread. */
void rope_angles(const struct rope *r, uint32_t position, float *cosine, float *sine);

#endif
