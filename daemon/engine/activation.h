/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/activation.h: what stands between the products of a feed-forward triple.
 *
 * Formulas: enum activation in model/model.h. Pure functions, any thread.
 */
#ifndef SLUICE_ENGINE_ACTIVATION_H
#define SLUICE_ENGINE_ACTIVATION_H

#include "kernels/cpu/fops.h"
#include "model/model.h"

/*
 * out = f(gate) up, n values; out may be gate or up. An element depends on its own inputs alone. gate
 * is not read where the activation has none.
 */
void activate(enum activation kind, const struct float_ops *fops, const float *gate,
	      const float *up, float *out, size_t n);

#endif
