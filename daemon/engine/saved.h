/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/saved.h: sequences to files and back.
 *
 * What can be saved of a place is what its newest request left in the prefix tree: tokens, pages of
 * keys and values, the states on the way. What is restored is put there, and the next prompt that
 * begins so goes on from it, with the same bits as if it had been read here (reuse.h).
 *
 *	any thread             engine thread, between steps           the thread of files
 *	engine_saved()   ->    save: holds the pages           ->     writes them
 *	                       lets go of them, done()         <-
 *	                       restore: (the place is free)    ->     head and tokens
 *	                       takes pages                     ->     fills them
 *	                       adds them to the tree, done()   <-
 *
 * No step waits for a file: pages that are held are never written by anybody else. A place that
 * computes is waited for. One file at a time.
 */
#ifndef SLUICE_ENGINE_SAVED_H
#define SLUICE_ENGINE_SAVED_H

#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "engine/saved_file.h"

struct engine;

enum saved_kind {
	SAVED_SAVE,
	SAVED_RESTORE,
	SAVED_ERASE, /* the place's sequence is forgotten, as far as no other begins with it */
};

struct saved_ask {
	enum saved_kind kind;
	uint32_t place;
	uint64_t tenant; /* whose prefixes it sees, as in struct request */
	uint64_t owner;	 /* the same in files: it outlives the daemon */
	char name[SAVED_NAME_MAX + 1];
	/* Engine thread, or the one that ends the engine; the last touch. Never NULL. */
	void (*done)(struct saved_ask *a);
	void *arg;

	/* what came of it */
	int error; /* -errno; -EBUSY: others have the pages for now */
	struct err err;
	uint32_t n_tokens; /* saved, restored or erased */
	uint64_t bytes;	   /* of the file */
	uint64_t ns;

	/* private */
	struct saved_ask *next;
	uint64_t began_ns;
	unsigned stage;
	struct saved_file file;
	struct saved_text text; /* in the file's memory, or in: */
	uint32_t *ids;		/* owned, as are the next three */
	struct saved_point *points;
	uint32_t *pages; /* of the cache, then of the states, those of a point together */
	struct iovec *parts;
	uint32_t n_pages, n_held, n_parts; /* of the cache; held by it, from the first on */
	uint32_t n_counted;		   /* pages that count against what all may hold */
	uint32_t skipped; /* points for which there is no room, from the first on */
	void *tail; /* owned: a copy of a page that others go on to write; where skipped ones go */
};

/*
 * Any thread. 0, and then one done() comes; or -errno and a sentence (-ENOTSUP: no directory was
 * given, or nothing is kept; -EINVAL: no such place, or a name that is none; -EBUSY: 16 have not ended).
 */
int engine_saved(struct engine *e, struct saved_ask *a, struct err *err);

/* ---- for the engine ---- */

/* Where config.save_path names a directory. 0 or -errno and a sentence. */
int saved_create(struct engine *e, struct err *err);
void saved_destroy(struct engine *e);
/* Goes on with what waits. Engine thread, between steps. */
void saved_turn(struct engine *e);
/* Is there something for saved_turn()? Any thread. */
bool saved_wakes(const struct engine *e);
/* Ends all with -ESHUTDOWN. Engine thread, after the last step. */
void saved_end(struct engine *e);

#endif
