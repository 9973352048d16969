/* SPDX-License-Identifier: MIT */
/* tools/bench_run.h: tests of `sluice bench`, one after the other on one connection. One thread. */
#ifndef SLUICE_TOOLS_BENCH_RUN_H
#define SLUICE_TOOLS_BENCH_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/bench.h"

#define BENCH_MAX_LIST	16
/* Tokens of text before tg, so that it starts in the middle of something. */
#define BENCH_TEXT_LEAD 32

struct bench {
	struct sluice *s;
	struct bench_report report;
	uint32_t *pool;	  /* tokens of the text, or random ones */
	uint32_t *prompt; /* of one run */
	size_t n_pool;
	uint64_t seed;
	uint32_t reps, spec, draft_length;
	bool no_warmup;
	double oracle[BENCH_MAX_LIST]; /* shares of right drafts */
	unsigned n_oracle;
	uint32_t *answer, *spoilt, room;  /* what was recorded, and with wrong tokens in it */
	struct sluice_status_info before; /* a timed run */
	/* of one run: where it records its answer, the draft it hands in; NULL: neither */
	uint32_t *record, n_record;
	uint64_t last_ns; /* what generating took in the last one */
	const uint32_t *draft;
	uint32_t forced; /* length of all its drafts; 0: as asked for */
	/* of each test of generation */
	struct bench_columns columns[BENCH_MAX_LIST * BENCH_MAX_LIST];
	unsigned n_columns;
};

static inline uint64_t bench_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u); /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/*
 * Runs a test of @n_prompt or @n_gen tokens behind @depth others and adds its rows to the report, which has room
 * for them, as b->answer and b->spoilt have for the answer. 0, or the exit status after a sentence.
 */
int bench_test(struct bench *b, uint32_t n_prompt, uint32_t n_gen, uint32_t depth);

#endif
