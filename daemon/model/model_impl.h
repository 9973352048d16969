/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/model_impl.h: what the files that build a struct model share; nobody else includes
 * it.
 *
 * model.c opens, sums and tears down; hparams.c and schedule.c read keys; weight.c turns tensors
 * into places of rows; layers.c and experts.c fill a layer by its family's table (arch/). A struct
 * build lives only during model_open(), owned by its thread.
 */
#ifndef SLUICE_MODEL_MODEL_IMPL_H
#define SLUICE_MODEL_MODEL_IMPL_H

#include "model/gguf.h"
#include "model/model.h"

#define MODEL_MAX_LAYERS  1024
#define MODEL_MAX_EXPERTS 4096
#define MODEL_MAX_DIM	  (1u << 24)
#define MODEL_MAX_HEADS	  4096
#define MODEL_MAX_HEADDIM 4096
#define MODEL_MAX_CONV	  16
#define BUILD_KEY_BYTES	  96
#define GLOBAL_TENSOR	  UINT32_MAX /* instead of a layer: a tensor outside the blocks */

struct arch;

struct build {
	struct model *m;
	const struct gguf *g;
	const struct arch *arch;
	struct err *err;
	uint32_t n_blocks;     /* main layers and MTP blocks */
	uint32_t n_dense_lead; /* layers without experts before those with them */
	bool *recurrent;       /* per main layer */
	bool *used;	       /* per tensor of the file */
};

/* hparams.c: everything that keys say but the schedule. 0 or -errno and a sentence. */
int build_hparams(struct build *b);

/*
 * A key "<arch>.<suffix>" within [min, max], greater than 0 or a truth value; a key that may be
 * missing leaves @ret alone. 0 or -errno and a sentence.
 */
int build_optional_u32(struct build *b, const char *suffix, uint32_t min, uint32_t max,
		       uint32_t *ret);
int build_need_u32(struct build *b, const char *suffix, uint32_t min, uint32_t max, uint32_t *ret);
int build_optional_f32(struct build *b, const char *suffix, float *ret);
int build_optional_bool(struct build *b, const char *suffix, bool *ret);

/* schedule.c: fills b->recurrent (allocated here). 0 or -errno and a sentence. */
int build_schedule(struct build *b);
/* A head count, one number or one per layer; *ret stays where the key is missing. */
int build_head_count(struct build *b, const char *suffix, uint32_t *ret);

/* What a key says of layer @i: one number for all, or one of at least as many as there are layers. */
int build_layer_number(struct build *b, const char *suffix, uint32_t i, uint32_t max,
		       uint32_t *ret);

/* "<arch>.<suffix>" in @buf, which is returned. */
char *build_key(const struct build *b, char buf[BUILD_KEY_BYTES], const char *suffix);

/* head.c: the prediction head of the file's first block behind the main layers, if it is whole: else
 * m->head_note says what is missing. 0 or -ENOMEM. */
int build_head(struct build *b);
/*
 * Of a file with a head alone: is it of @main's family, for layers and a width as it has them, and are its ids
 * the same texts? 0, or -EINVAL and a sentence.
 */
int build_head_family(const struct build *b, const struct model *main);
int build_head_sizes(const struct build *b, const struct model *main);
int build_head_tokens(const struct build *b, const struct model *main);

/* layers.c: the blocks and weights of layer @i; the weights outside the layers. */
int build_layer(struct build *b, uint32_t i);
int build_globals(struct build *b);
/* experts.c: where the bytes of the experts of layer @i are. */
int build_experts(struct build *b, uint32_t i);

/* "<file>: key <arch>.<suffix>: <reason>"; returns -EINVAL. */
int build_bad_key(const struct build *b, const char *suffix, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* "<file>: offset <of its description>: tensor <name>: <reason>"; returns -EINVAL. */
int build_bad_tensor(const struct build *b, const struct gguf_tensor *t, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * weight.c. @layer is a block or GLOBAL_TENSOR, @suffix the rest of the name. A tensor that is
 * looked at counts as used; model_open() refuses main blocks that hold others.
 */
const struct gguf_tensor *build_find(struct build *b, uint32_t layer, const char *suffix);
/* The same, or -EINVAL and a sentence that names the missing tensor. */
int build_need(struct build *b, uint32_t layer, const char *suffix, const struct gguf_tensor **ret);
/* Exactly this shape (missing dimensions are 1) and a type with arithmetic. */
int build_check(const struct build *b, const struct gguf_tensor *t, uint64_t ne0, uint64_t ne1,
		uint64_t ne2);
/* A whole matrix {n_in, n_out}; a vector has n_out 1. */
int build_matrix(struct build *b, uint32_t layer, const char *suffix, uint64_t n_in, uint64_t n_out,
		 struct weight *w);
/* Appends @groups runs of @rows rows of @t, the first at row @first, each @stride rows on. */
int build_rows(struct build *b, const struct gguf_tensor *t, uint64_t first, uint64_t rows,
	       uint64_t stride, uint64_t groups, struct weight *w);

#endif
