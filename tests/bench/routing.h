/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/routing.h: weights that make a synthetic model route as a recorded trace says (make_model --routing).
 *
 * Token t of the trace has a code: a row of a Hadamard matrix, so codes of different tokens are orthogonal. The
 * embedding of a token is its code, blocks add little to it, and the router's row of an expert is the sum of the codes
 * of the tokens that the trace sent to it: its product with a token's stream is large for these tokens and near 0 for
 * all others. The output matrix has at t + 1 the code of t, so that greedy decoding walks through the trace, and
 * from its last token to its first. Program of one thread.
 */
#ifndef SLUICE_TESTS_BENCH_ROUTING_H
#define SLUICE_TESTS_BENCH_ROUTING_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#define ROUTING_TOKENS 1024 /* of a trace, at the most */

struct routing {
	uint32_t layers, experts, used, tokens;
	uint32_t *ids; /* [layers][tokens][used], by rank; UINT32_MAX: none */
};

#define ROUTING_LAYERS	200
#define ROUTING_EXPERTS 1024
#define ROUTING_USED	32

/* "EXPERT[:...] EXPERT[:...] ..." into @ids; false: no such row. */
static inline bool routing_uses(const struct routing *r, char *text, uint32_t *ids)
{
	uint32_t n = 0;

	for (char *word = strtok(text, " \n"); word; word = strtok(NULL, " \n")) {
		char *end;
		const unsigned long e = strtoul(word, &end, 10);

		if (end == word || (*end && *end != ':') || e >= r->experts || n == r->used)
			return false;
		ids[n++] = (uint32_t)e;
	}
	return n > 0;
}

/* "p|d LAYER SEQ POS USE...": the next token of its layer. */
static inline bool routing_row(struct routing *r, uint32_t *counts, char *line)
{
	unsigned layer, seq, pos;
	int at = 0;

	if (sscanf(line + 1, " %u %u %u %n", &layer, &seq, &pos, &at) < 3 || !at ||
	    layer >= r->layers)
		return false;
	if (counts[layer] == ROUTING_TOKENS)
		return true;
	return routing_uses(r, line + 1 + at,
			    r->ids + ((size_t)layer * ROUTING_TOKENS + counts[layer]++) * r->used);
}

static inline const char *routing_lines(FILE *f, struct routing *r, uint32_t *counts)
{
	char line[4096];
	bool data = false;

	if (!fgets(line, sizeof(line), f) || strcmp(line, "route_trace v1\n"))
		return "it is no route_trace v1 (sluice trace convert makes one)";
	while (fgets(line, sizeof(line), f)) {
		if (!strchr(line, '\n'))
			return "a line is too long or has no end";
		if (!data &&
		    sscanf(line, "geometry %u %u %u", &r->layers, &r->experts, &r->used) == 3) {
			if (!r->layers || r->layers > ROUTING_LAYERS || !r->experts ||
			    r->experts > ROUTING_EXPERTS || !r->used || r->used > ROUTING_USED ||
			    r->ids)
				return "its geometry is none that a model has";
			r->ids = malloc((size_t)r->layers * ROUTING_TOKENS * r->used *
					sizeof(*r->ids));
			if (!r->ids)
				return "out of memory";
			memset(r->ids, 0xff,
			       (size_t)r->layers * ROUTING_TOKENS * r->used * sizeof(*r->ids));
		} else if (!strcmp(line, "data\n")) {
			data = r->ids != NULL;
		} else if (data && (line[0] == 'd' || line[0] == 'p') && line[1] == ' ' &&
			   !routing_row(r, counts, line)) {
			return "a row is none of its geometry";
		}
	}
	return data ? NULL : "it has no geometry or no data";
}

/* Reads a trace "route_trace v1" (docs/trace.md). NULL, or a sentence about what is wrong with it. */
static inline const char *routing_read(const char *path, struct routing *ret)
{
	struct routing r = { 0 };
	uint32_t counts[ROUTING_LAYERS] = { 0 };
	const char *wrong = "it cannot be opened";
	FILE *f = fopen(path, "re");

	if (f) {
		wrong = routing_lines(f, &r, counts);
		fclose(f);
	}
	r.tokens = ROUTING_TOKENS;
	for (uint32_t i = 0; i < r.layers && !wrong; i++)
		r.tokens = counts[i] < r.tokens ? counts[i] : r.tokens;
	if (!wrong && r.tokens < 2)
		wrong = "a layer has fewer than two tokens";
	if (wrong)
		free(r.ids);
	else
		*ret = r;
	return wrong;
}

/* +1 or -1: entry @i of the code of token @t, among @d, a power of two above the tokens. */
static inline int routing_code(uint32_t t, uint64_t i)
{
	/* row 0 is all ones, which a norm might favour: the codes begin with row 1 */
	return __builtin_popcountll((t + 1) & i) % 2 ? -1 : 1;
}

/* Blocks of a code: -1 and 1, from scales and minima of 32; with @off all 0. */
static inline void routing_q4_k(uint8_t *p, uint32_t token, uint64_t at)
{
	const uint16_t d = f16_from_f32(2.0f / (32 * 15)), dmin = f16_from_f32(1.0f / 32);

	memcpy(p, &d, 2);
	memcpy(p + 2, &dmin, 2);
	/* eight scales and minima of 32, docs/models.md 1.4 */
	memset(p + 4, 0xa0, 8);
	memset(p + 12, 0, 4);
	memset(p + 16, 0, 128);
	for (uint64_t i = 0; i < 256; i++) /* of 64 weights the first 32 have the low halves */
		if (routing_code(token, at + i) > 0)
			p[16 + i / 64 * 32 + i % 32] |= i % 64 < 32 ? 0x0f : 0xf0;
}

static inline void routing_q6_k(uint8_t *p, uint32_t token, uint64_t at, bool off)
{
	const uint16_t d = f16_from_f32(off ? 0 : 1.0f / (64 * 16 * 16));

	memset(p, 0, 210);
	memset(p + 192, 16, 16);
	memcpy(p + 208, &d, 2);
	/* q of 48 and 16, less 32: the low four bits 0, the high two 3 or 1 */
	for (uint64_t i = 0; i < 256; i++)
		p[128 + i / 128 * 32 + i % 32] |=
			(uint8_t)((routing_code(token, at + i) > 0 ? 3 : 1) << i % 128 / 32 * 2);
}

/* The router's row of @expert in model layer @layer of @layers, into @row [d]. */
static inline void routing_router(const struct routing *r, uint32_t layer, uint32_t layers,
				  uint32_t expert, uint64_t d, float *row)
{
	const uint32_t from = layers > r->layers ? layer % r->layers : layer * r->layers / layers;

	memset(row, 0, d * sizeof(*row));
	for (uint32_t t = 0; t < r->tokens; t++) {
		const uint32_t *ids = r->ids + ((size_t)from * ROUTING_TOKENS + t) * r->used;

		for (uint32_t k = 0; k < r->used; k++) {
			/* logits 8 to 4, in the order of the ranks; 0 for all others */
			const float c = (8 - 4 * (float)k / (float)r->used) / (float)d;

			for (uint64_t i = 0; i < d && ids[k] == expert; i++)
				row[i] += c * (float)routing_code(t, i);
		}
	}
}

#endif
