/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/delta_fixture.h: real activations of a model's first DeltaNet layer, and what the CPU
 * kernels make of them, for test_delta_fixture.cu. Written in C beside the daemon's own headers.
 */
#ifndef SLUICE_TESTS_GPU_DELTA_FIXTURE_H
#define SLUICE_TESTS_GPU_DELTA_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct delta_fixture {
	size_t k_heads, v_heads, dim, channels, tokens;
	bool grouped;
	float eps;
	/* the layer's projections of the tokens, before anything was done to them */
	float *u;	     /* [tokens][channels] */
	float *z;	     /* [tokens][v_heads * dim] */
	float *alpha, *beta; /* [tokens][v_heads] */
	float *conv, *a, *dt, *norm;
	/* the CPU's: convolved; q and k normed; gates; recurrence from an empty state; output */
	float *convolved, *prepared; /* [tokens][channels] */
	float *gate, *decay, *write; /* log of decay, decay, beta: [tokens][v_heads] */
	float *o, *out;		     /* [tokens][v_heads * dim] */
	float *state;		     /* [v_heads][dim][dim], as in ops.h */
};

/*
 * Layer 0 of the model at @path for the first @n ids of @tokens, by the best kernels that this CPU
 * has. 0 and *ret (free it with the function below), or -errno after a sentence on stderr.
 */
int delta_fixture_make(const char *path, const uint32_t *tokens, size_t n,
		       struct delta_fixture **ret);
void delta_fixture_free(struct delta_fixture *f);

#ifdef __cplusplus
}
#endif
#endif
