/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/device.h: a GPU that computes the dense part of a model, as the engine sees it.
 *
 * The device owns its copy of the dense weights, the KV cache and recurrent state of every sequence and
 * the residual stream of the step that runs. The engine puts a step in (device_step_begin), asks layer by
 * layer which experts the tokens chose (device_route), computes those itself and hands the sum back
 * (device_misses_done), and takes logits (device_step_end). Dense layers need nothing of the engine.
 * A sequence has the number of its place, its recurrent state is zeroed where a run begins at position 0; a
 * run elsewhere goes on where the device left the sequence, or is refused (-EINVAL).
 *
 * What a token gets does not depend on how a prompt is cut, on company or on the budget: products of block
 * formats and the experts follow the law of kernels/quant.h, everything else depends on its own row alone.
 * It differs in the last bits from what the CPU alone computes.
 *
 * One device is one kind of runtime: "cuda" over NVIDIA's, or over the fake one of tests/gpu/emu in a build
 * for tests; a build without either refuses by name. Every call is made by the engine's thread. Calls return
 * 0 or -errno and a sentence; -EIO: the device failed, and the step with it.
 */
#ifndef SLUICE_DEVICE_DEVICE_H
#define SLUICE_DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/model.h"

struct device;

struct device_config {
	const struct model *model; /* outlives the device */
	const char *name;	   /* "cuda" or "cuda:N" */
	bool kv_q8;		   /* KV cache as q8_0 instead of f16 */
	uint32_t n_seq, n_ctx;	   /* places of sequences, positions of each */
	uint32_t max_tokens;	   /* of a step */
	uint32_t max_logits;	   /* rows of a device_step_end() */
	/* frequency of each rotated pair of dimensions, NULL without attention; n_rot / 2 */
	const double *rope;
};

struct device_info {
	char name[128];
	uint64_t memory_bytes; /* taken of the device */
	uint64_t dense_bytes;  /* of it the weights loaded so far */
	uint64_t steps, launches;
};

/* A weight in the host's memory, as the file has it (ROLE_FLOATS: floats). */
struct device_matrix {
	uint32_t type;
	size_t n_in, n_out, row_bytes;
	const void *data;
};

#define DEVICE_NO_LAYER UINT32_MAX

/*
 * "none" | "cuda[:N]": 0; -EINVAL and a sentence for anything else.
 */
int device_check_name(const char *name, struct err *err);
static inline bool device_is_none(const char *name)
{
	return !name || (name[0] == 'n' && name[1] == 'o');
}

/* 0, or -ENOTSUP and a sentence: what of the model the device cannot compute. Reads the model alone. */
int device_supports(const struct model *m, struct err *err);

/*
 * Takes the device and the memory for everything but the weights. -ENODEV, -ENOTSUP, -ENOMEM (with the
 * number of bytes) and a sentence.
 */
int device_open(const struct device_config *config, struct device **ret, struct err *err);
void device_close(struct device *d); /* NULL is fine */

/* Constant but for the counters. Any thread. */
void device_get_info(const struct device *d, struct device_info *ret);

/* Copies a weight of @layer (or DEVICE_NO_LAYER) to the device; what the device does not use is left. */
int device_load(struct device *d, uint32_t layer, enum role role, const struct device_matrix *w,
		struct err *err);

/* Consecutive tokens of one sequence. */
struct device_run {
	uint32_t seq;	/* < n_seq */
	uint32_t first; /* row of its first token */
	uint32_t count, pos;
};

/* Where the step's embeddings are put before device_step_begin(): [max_tokens][n_embd], the host's. */
float *device_input(struct device *d);
int device_step_begin(struct device *d, const struct device_run *runs, uint32_t n_runs,
		      uint32_t n_tokens, struct err *err);

/* What a layer's router chose. ids NULL: the layer has no experts. */
struct device_route {
	const uint32_t *ids;  /* [n_tokens][n_expert_used] */
	const float *weights; /* the same */
	const float *x;	      /* [n_tokens][n_embd] the experts' input */
	float *sum;	      /* [n_tokens][n_embd] where the weighted sum of the experts is put */
};

/*
 * Layer @layer up to its experts; layers come in order. Waits until @ret is there; it stays valid until
 * the next call.
 */
int device_route(struct device *d, uint32_t layer, struct device_route *ret, struct err *err);
/* The sum of the experts of @layer is in place. */
int device_misses_done(struct device *d, uint32_t layer, struct err *err);

/*
 * Logits of @n <= max_logits rows of the step: *ret_logits [n][n_vocab], valid until the next call. May be
 * called several times; n 0: only waits until the step is done.
 */
int device_step_end(struct device *d, const uint32_t *rows, uint32_t n, const float **ret_logits,
		    struct err *err);

#endif
