/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/rope.h: angles of the rotary position embedding.
 *
 * theta_j = position * scale * base^(-2j / n_rot) for pair j < n_rot / 2, changed by YaRN or divided
 * by a table where the model says so (docs/models.md 2.4). Angles, sines and cosines are computed in
 * double and rounded once: the same bits wherever and whenever a position is computed, and exact at
 * long contexts, where angles in f32 are off by hundredths of a radian. Pure functions, any thread.
 */
#ifndef SLUICE_ENGINE_ROPE_H
#define SLUICE_ENGINE_ROPE_H

#include <stddef.h>
#include <stdint.h>

#include "model/model.h"

/* Radians per position of each of the n_rot / 2 pairs (n_rot 0: nothing is rotated). */
void rope_frequencies(const struct rope_spec *s, double *ret);

/*
 * n_rot / 2 cosines and sines of @position, times YaRN's magnitude. @frequency: as above; @table:
 * what divides it, NULL: nothing.
 */
void rope_angles(const struct rope_spec *s, const double *frequency, const float *table,
		 uint32_t position, float *cosine, float *sine);

/* Rotates neighbours (x[2j], x[2j + 1]) for j < half. */
void rope_pairs(float *x, const float *cosine, const float *sine, size_t half);

#endif
