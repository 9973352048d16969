/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/warm.h: what makes memory that outlives a process of use to the next one: a table, itself a sealed
 * memfd, that says of which model and in which places the bytes are, and which of them are whole.
 *
 *   head    magic, version, what must be the same (struct warm_shape), which memory it is about, a checksum
 *   marks   one word for each expert slot, then one for each dense weight ("part")
 *
 * A mark of a slot says which expert it has and whether it is whole. It is "filling" from before the first
 * read into the slot is posted until the last byte of the last one has landed, and "whole" is stored with
 * release order after that. So a process that is killed leaves no slot that looks whole and is not; and one
 * that was being filled is told apart from one that is empty, since the kernel may still be writing to it.
 * A mark that is neither, by its check, counts as filling.
 *
 * All that was handed over is hostile until warm_take() has taken it. The table's owner holds a lock on it, so
 * that two processes never share the memory.
 *
 * Threads: creating, taking, destroying: one thread. A slot's mark is written by whoever fills the slot, a
 * part's by whoever read it.
 */
#ifndef SLUICE_STORE_WARM_H
#define SLUICE_STORE_WARM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Of the table and of what it says of memory; another one is not understood. */
#define WARM_VERSION 1

enum warm_memory { WARM_TABLE, WARM_EXPERTS, WARM_DENSE, WARM_NR };

struct arena;
struct gguf;
struct warm;

/* What must be the same for bytes to be of use. */
struct warm_shape {
	uint64_t model;			     /* model/identity.h */
	uint64_t files;			     /* warm_files() */
	uint64_t layout;		     /* a hash of where everything lies */
	uint64_t budget_bytes;		     /* of all slots */
	uint64_t experts_bytes, dense_bytes; /* of memory; 0: the model has none */
	uint32_t n_slots, n_parts;
	uint32_t n_nodes, align;
};

/* A hash of the files' sizes, times and inodes: one that was written to is another model. */
uint64_t warm_files(const struct gguf *g);

/* "sluice-table", "sluice-experts", "sluice-dense": the names by which the service manager keeps them. */
const char *warm_name(enum warm_memory m);
/* WARM_NR where @name is none of them. */
enum warm_memory warm_named(const char *name);

/*
 * What a table says that was handed over, before anything is known of this process's own shape. 0, or -errno
 * and a sentence that begins with "it": @fd is no such table, of another version, or damaged.
 */
int warm_peek(int fd, struct warm_shape *ret, struct err *err);

/* Bytes of memory behind a descriptor that are there; 0 where it is none. *ret_huge: from the hugetlb pool. */
uint64_t warm_held_bytes(int fd, bool *ret_huge);

/*
 * In what @was is not @is, as a sentence: 0 where they are the same, -ESTALE otherwise.
 */
int warm_compare(const struct warm_shape *was, const struct warm_shape *is, struct err *err);

/*
 * A new table for these arenas (borrowed; NULL where there is none), with empty marks. 0 or -errno and a
 * sentence.
 */
int warm_create(const struct warm_shape *shape, const struct arena *experts,
		const struct arena *dense, struct warm **ret, struct err *err);

/*
 * The table @fd for arenas that arena_take() took: 0, and @fd is the table's; or -errno and a sentence: its
 * shape is not @shape, it is about other memory, or a process uses it still. Counts the start.
 */
int warm_take(int fd, const struct warm_shape *shape, const struct arena *experts,
	      const struct arena *dense, struct warm **ret, struct err *err);
void warm_destroy(struct warm *w); /* the memory lives on where others hold it; NULL is fine */

int warm_fd(const struct warm *w);	    /* the table's own */
uint64_t warm_starts(const struct warm *w); /* processes that used it, this one included */

enum warm_state { WARM_EMPTY, WARM_FILLING, WARM_WHOLE };

/* Sets a slot's mark; expert @id does not matter to WARM_EMPTY. See above for who may and when. */
void warm_set(struct warm *w, uint32_t slot, enum warm_state state, uint32_t id);
/* *ret_id only where WHOLE. */
enum warm_state warm_get(const struct warm *w, uint32_t slot, uint32_t *ret_id);

/* A dense weight is whole; or is not, from before its bytes are let go of. */
void warm_set_part(struct warm *w, uint32_t part, bool whole);
bool warm_part(const struct warm *w, uint32_t part);

#endif
