/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/saved_file.h: a sequence as a file: its tokens, the pages of its KV cache, and its recurrent
 * state at some of its positions.
 *
 *	struct saved_head | tokens (u32) | points | pages | states | hash64 of pages and states
 *
 * Numbers are in the machine's order. Written under another name and renamed when it is whole and on
 * the disk, so that a name is a whole file or none. Read with distrust: head, tokens and points have a
 * hash of their own, looked at before any number of them is used; a file of another model, CPU level,
 * program, KV type or owner is refused by a sentence. What pages and states hold are numbers only, of
 * which none is used as a place. Any thread; nothing is kept between calls but struct saved_file.
 */
#ifndef SLUICE_ENGINE_SAVED_FILE_H
#define SLUICE_ENGINE_SAVED_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

#define SAVED_NAME_MAX 128

/* What a file must be of to be of use here. */
struct saved_shape {
	uint64_t model;	      /* model/identity.h */
	uint64_t owner;	      /* whose sequence it is; 0: of whoever has no name */
	uint64_t page_bytes;  /* of a page of the cache, 0: the model has none */
	uint64_t state_bytes; /* of one state; 0: the model has none */
	uint32_t kv_type;
	uint32_t n_ctx, n_vocab; /* most tokens, and their bound */
	const char *level;	 /* whose arithmetic it is: the CPU level's name */
	const char *program;	 /* the version */
};

#define SAVED_POINTS_MAX 64

/* A state: behind the first @at tokens, kept for this reason (enum prefix_kind). */
struct saved_point {
	uint32_t at, kind;
};

/* What a file tells before its pages and states. Models with a state have one at the end at least. */
struct saved_text {
	const uint32_t *ids;
	const struct saved_point *points; /* ascending */
	uint32_t n, n_points;
};

/* Letters, digits and . _ - only, none of them a dot at the beginning; at most SAVED_NAME_MAX. */
bool saved_name_ok(const char *name);

/*
 * Writes @text and @parts, which are the pages and the states one after the other, cut in the same way
 * each time, as @name in the directory @dir. *stop (any thread): give up.
 * 0 and *ret_bytes, or -errno and a sentence; then no file has that name that had not before. -EACCES:
 * another owner's file has it, or one that is no saved sequence.
 */
int saved_write(int dir, const char *name, const struct saved_shape *shape,
		const struct saved_text *text, const struct iovec *parts, uint32_t n_parts,
		const _Atomic bool *stop, uint64_t *ret_bytes, struct err *err);

struct saved_file {
	const char *name; /* borrowed from saved_open()'s caller */
	int fd;
	struct saved_text text; /* lies in what is owned */
	void *owned;
	uint64_t data; /* where pages begin */
	uint64_t data_bytes;
};

/* Looks at all but pages and states. 0 or -errno and a sentence (-ENOENT: no such file). */
int saved_open(int dir, const char *name, const struct saved_shape *shape, struct saved_file *ret,
	       struct err *err);
/* Pages and states into @parts, which have data_bytes in all. -EBADMSG: they are not what was written. */
int saved_read(const struct saved_file *f, const struct iovec *parts, uint32_t n_parts,
	       const _Atomic bool *stop, struct err *err);
void saved_close(struct saved_file *f);

#endif
