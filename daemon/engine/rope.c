/* SPDX-License-Identifier: MIT */
/* daemon/engine/rope.c: see rope.h. */
#include "engine/rope.h"

#include <math.h>

/* The pair (a real number) that turns @turns times over the context of the first training. */
static double pair_of(const struct rope_spec *s, double turns)
{
	return s->n_rot * log(s->yarn_context / (turns * 2 * M_PI)) / (2 * log((double)s->base));
}

/*
 * Fast pairs keep their frequency, slow ones are slowed by the factor, a ramp between: the paper's
 * (Peng et al. 2023) with the ends rounded outwards to whole pairs unless the model says not to.
 */
static double yarn_frequency(const struct rope_spec *s, uint32_t j, double frequency)
{
	double low = pair_of(s, (double)s->yarn_fast), high = pair_of(s, (double)s->yarn_slow);
	double ramp;

	if (!s->yarn_exact) {
		low = floor(low);
		high = ceil(high);
	}
	low = fmax(low, 0);
	high = fmin(high, s->n_rot - 1.0);
	ramp = (j - low) / (high - low > 0.001 ? high - low : 0.001);
	ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
	return frequency * (1 - ramp) + frequency / (double)s->yarn_factor * ramp;
}

void rope_frequencies(const struct rope_spec *s, double *ret)
{
	for (uint32_t j = 0; j < s->n_rot / 2; j++) {
		ret[j] = (double)s->scale * pow((double)s->base, -2.0 * j / s->n_rot);
		if (s->yarn_factor > 0)
			ret[j] = yarn_frequency(s, j, ret[j]);
	}
}

void rope_angles(const struct rope_spec *s, const double *frequency, const float *table,
		 uint32_t position, float *cosine, float *sine)
{
	double magnitude = s->yarn_factor > 0 ? (double)s->yarn_magnitude : 1.0;

	for (uint32_t j = 0; j < s->n_rot / 2; j++) {
		double angle = position * (table ? frequency[j] / (double)table[j] : frequency[j]);

		cosine[j] = (float)(magnitude * cos(angle));
		sine[j] = (float)(magnitude * sin(angle));
	}
}

void rope_pairs(float *x, const float *cosine, const float *sine, size_t half)
{
	for (size_t j = 0; j < half; j++) {
		float a = x[2 * j], b = x[2 * j + 1];

		x[2 * j] = a * cosine[j] - b * sine[j];
		x[2 * j + 1] = a * sine[j] + b * cosine[j];
	}
}
