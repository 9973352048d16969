/* SPDX-License-Identifier: MIT */
/* base/near.c: see near.h. The distance is that of Damerau and Levenshtein, restricted to neighbours. */
#include "base/near.h"

#include <string.h>

#include "base/num.h"

#define LONGEST 40 /* bytes of a word that are looked at */

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static unsigned edits(const char *a, size_t n, const char *b, size_t m)
{
	unsigned rows[LONGEST + 1][LONGEST + 1];

	for (size_t i = 0; i <= n; i++)
		for (size_t j = 0; j <= m; j++) {
			unsigned *at = &rows[i][j];

			if (!i || !j) {
				*at = (unsigned)(i + j);
				continue;
			}
			*at = least(rows[i - 1][j], rows[i][j - 1]) + 1;
			*at = least(*at, rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				*at = least(*at, rows[i - 2][j - 2] + 1);
		}
	return rows[n][m];
}

unsigned near_distance(const char *word, size_t len, const char *known)
{
	size_t n = strlen(known), dashes = strspn(known, "-"), same = len < n ? len : n;
	unsigned distance;

	if (len > LONGEST || n > LONGEST || len <= dashes || n <= dashes)
		return NEAR_NOT;
	if (!memcmp(word, known, same) &&
	    (len > n ? word[n] == '-' : len >= dashes + 3 && known[len] != '-'))
		return len == n ? 0 : 3; /* behind what is spelt almost alike */
	distance = edits(word, len, known, n);
	return distance <= (n - dashes < 5 ? 1u : 2u) && distance < len - dashes ? distance
										 : NEAR_NOT;
}
