/* SPDX-License-Identifier: MIT */
/*
 * base/near.h: which known word was meant by one that is not known. Any thread.
 */
#ifndef SLUICE_BASE_NEAR_H
#define SLUICE_BASE_NEAR_H

#include <stddef.h>

#define NEAR_NOT 100u /* of words that have nothing to do with each other */

/*
 * How far the @len bytes of @word are from @known: letters that are wrong, missing, too many, or exchanged with
 * their neighbour, two at most (one in words of fewer than five letters); or NEAR_NOT. A beginning of @known of
 * at least three letters, but not of whole words, counts as near, and so does @known with "-something" behind it.
 */
unsigned near_distance(const char *word, size_t len, const char *known);

#endif
