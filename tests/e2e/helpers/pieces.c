/* SPDX-License-Identifier: MIT */
/*
 * tests/e2e/helpers/pieces.c: where the pre-tokenizer cuts texts, for test_pretok.py.
 *
 * usage: pieces KIND < records > records. A record in is a uint32_t length and that many bytes; the
 * record out is the number of pieces and the bytes of each, all uint32_t.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/pretok.h"

static int put(uint32_t v)
{
	return fwrite(&v, sizeof(v), 1, stdout) == 1;
}

static int cut(const struct pretok *p, const char *text, uint32_t len, uint32_t *pieces)
{
	uint32_t n = 0;

	for (uint32_t at = 0; at < len; at += pieces[n++])
		pieces[n] = (uint32_t)pretok_next(p, text + at, len - at);
	if (!put(n))
		return 0;
	for (uint32_t i = 0; i < n; i++)
		if (!put(pieces[i]))
			return 0;
	return 1;
}

int main(int argc, char **argv)
{
	struct pretok *p = NULL;
	uint32_t len;
	int ok = argc == 2 && !pretok_create(argv[1], &p);

	while (ok && fread(&len, sizeof(len), 1, stdin) == 1) {
		char *text = malloc((size_t)len + 1);
		uint32_t *pieces = malloc(((size_t)len + 1) * sizeof(*pieces));

		ok = text && pieces && fread(text, 1, len, stdin) == len &&
		     cut(p, text, len, pieces);
		free(text);
		free(pieces);
	}
	pretok_destroy(p);
	return ok && !fflush(stdout) ? 0 : 1;
}
