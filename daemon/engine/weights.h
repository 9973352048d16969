/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/weights.h: the dense weights of a model, loaded once into memory of their own.
 *
 * Everything but the routed experts: read with the store's reader straight to where it is computed
 * from; those that their role says (ROLE_FLOATS: norms, biases, taps) widened to float. Loaded by the engine
 * thread; constant afterwards.
 */
#ifndef SLUICE_ENGINE_WEIGHTS_H
#define SLUICE_ENGINE_WEIGHTS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/linear.h"
#include "model/model.h"
#include "store/arena.h"
#include "store/reader.h"

struct weights {
	struct layer_weights model; /* those outside the layers */
	struct layer_weights *layers;

	uint64_t bytes_total;	       /* of the file, to be read */
	_Atomic uint64_t bytes_loaded; /* progress */
	_Atomic uint64_t bytes_kept;   /* of them: not read, since they were there */

	/* private */
	struct arena *arena;
	struct warm *warm; /* marks of what is whole, NULL: memory ends with this process */
	uint32_t n_parts;
	const struct team *team; /* whose nodes rows are bound to; NULL: not bound */
	float *vectors;
	struct weights_load *load;
};

struct warm;

/* Bytes of memory that the dense weights will take. @align: the reader's. */
uint64_t weights_memory_bytes(const struct model *m, uint32_t align);

/*
 * The bytes of the arena in which they lie, and how: a hash of where each is, and their number (the marks of
 * warm.h are in the order of the walk). 0 or -ENOMEM.
 */
struct weights_layout {
	uint64_t bytes, hash;
	uint32_t n_parts;
};
int weights_get_layout(const struct model *m, uint32_t align, struct weights_layout *ret);

/*
 * Takes the memory: @arena, of weights_get_layout()'s bytes, which is the weights' from then on in any case,
 * or, where that is NULL, its own. With @local on a machine of several NUMA nodes, the rows of a matrix that a
 * thread of @team multiplies (linear()) are bound to that thread's node, as far as pages allow; else
 * pages come as they come. 0 or -errno and a sentence.
 */
int weights_create(const struct model *m, uint32_t align, const struct team *team, bool local,
		   struct arena *arena, struct weights **ret, struct err *err);

/* Marks are @warm's (borrowed): what they say is whole is not read. Once, before weights_load(). */
void weights_keep(struct weights *w, struct warm *warm);
void weights_destroy(struct weights *w); /* NULL is fine */

/*
 * Reads everything, again if it was called before; blocks. -ECANCELED when *cancel becomes true. 0 or -errno and a sentence that names
 * file, offset and tensor.
 */
int weights_load(struct weights *w, const struct model *m, struct reader *reader,
		 const struct cpu_ops *ops, const _Atomic bool *cancel, struct err *err);

/*
 * Matrices in F32 whose values are all BF16's (converters write the routers of checkpoints in BF16 so) become BF16
 * where they lie: products read half of the bytes and give the same bits, for both formats sum alike (quant.h). The
 * memory stays taken. Such a matrix is no longer marked as whole, so the next process reads it from its file. Nothing
 * is done where rows are bound to several nodes. After a weights_load() that went well, before the first product;
 * engine thread. Returns the bytes by which a pass over the weights has become less.
 */
uint64_t weights_narrow(struct weights *w, const struct model *m);

/*
 * Lets go of the matrices that nobody reads here any more: all but the embedding's rows (and the output
 * matrix where that is the same); vectors stay. After weights_load(). Returns the bytes given back.
 */
uint64_t weights_drop(struct weights *w, const struct model *m);

#endif
