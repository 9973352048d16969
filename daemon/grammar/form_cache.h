/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/form_cache.h: what requests of the same form share: the form compiled, and matchers
 * that requests before them have used, with the states, transitions and masks that they found. So a
 * schema that comes again is not compiled again, and its masks are there.
 *
 * Forms are the same where every byte that they were asked for with is, for the same vocabulary and
 * the same tenant: no tenant can tell by the time that a form takes whether another used it. A tenant
 * is a key or a user of the native socket; without keys all clients over HTTP are one (ask.h).
 * A bound of bytes holds for keys, programs and what idle matchers have touched of their memory. Where
 * it is passed the tenant that holds the most gives what it used longest ago; what would take more
 * than a share of the bound is not kept. Matchers in use are their requests', not the cache's.
 *
 * Any thread; a lock of its own, under which nothing is compiled, matched or
 * unmapped.
 */
#ifndef SLUICE_GRAMMAR_FORM_CACHE_H
#define SLUICE_GRAMMAR_FORM_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "grammar/constraint.h"

struct form_cache;

/* Idle matchers of one form that are kept: as many requests of it are warm at once. */
#define FORM_CACHE_IDLE 32

/* Forms that are kept at most. */
#define FORM_CACHE_FORMS 256

/* One part in so many of the bytes: the largest form, or idle matcher, that is kept. */
#define FORM_CACHE_SHARE 8

/* 0 or -ENOMEM. */
int form_cache_create(size_t max_bytes, struct form_cache **ret);
/* NULL is fine. Constraints that others hold live on. */
void form_cache_destroy(struct form_cache *f);

/*
 * The constraint of @ask, which the caller holds: one that is kept, else as constraint_create() makes
 * it, whose errors these are; it is kept then, where it fits. @tenant: ask.h has it.
 */
int form_cache_get(struct form_cache *f, uint64_t tenant, const struct constraint_ask *ask,
		   struct vocab *v, struct constraint **ret, struct err *err);

/* As constraint_matcher(): one that was used before where there is one. */
int form_cache_matcher(struct form_cache *f, const struct constraint *c, struct matcher **ret);
/* The request of @c is through with it. @m NULL is fine. */
void form_cache_give_back(struct form_cache *f, const struct constraint *c, struct matcher *m);

struct form_cache_counts {
	uint64_t compiled,
		found; /* forms that were asked for; those that were refused in neither */
	uint64_t masks, masks_cached; /* of matchers that were given back */
	uint64_t bytes;		      /* kept now */
	uint32_t forms, matchers;
};
void form_cache_get_counts(struct form_cache *f, struct form_cache_counts *ret);

#endif
