/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/identity.h: a number by which a model's files are told from others: for what was computed with a
 * model and is of no use, or worse, with another. Not for an adversary.
 */
#ifndef SLUICE_MODEL_IDENTITY_H
#define SLUICE_MODEL_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct gguf;

/*
 * Over the keys with their whole values (the vocabulary is among them), each tensor's name, type, shape and size, and IDENTITY_BYTES from
 * the middle of its bytes: other weights in the same shapes are another model. Where the files lie and
 * how they are split does not matter. Reads a few MiB from the disk: 0 or -errno and a sentence. *stop
 * (any thread; or NULL), looked at before each tensor: -ESHUTDOWN. Any thread.
 */
int model_identity(const struct gguf *g, const _Atomic bool *stop, uint64_t *ret, struct err *err);

#define IDENTITY_BYTES 4096

#endif
