/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/engine/decoder_rig.h: a decoder over a model whose disk is memory, and running tokens
 * through it in any cut. Include after cmocka.h.
 */
#ifndef SLUICE_TESTS_DECODER_RIG_H
#define SLUICE_TESTS_DECODER_RIG_H

#include <string.h>

#include "engine/seq.h"
#include "engine/step.h"
#include "kernels/cpu/fops.h"
#include "tests/unit/engine/supply_rig.h"

#define DECODER_TOKENS 128 /* of a step, at the most */

struct decoder_rig {
	/* the caller's; 0 for what it does not care about */
	const struct model *model;
	struct reader_memory *disk;
	const struct cpu_ops *ops;
	unsigned threads;
	double share; /* of all experts */
	uint32_t depth;
	struct node_split split;
	bool (*given_up)(void *arg);
	decoder_layer_fn on_layer;
	void *arg;

	struct supply_rig supply;
	struct team *team;
	struct weights *weights;
	struct seq_pool *pool;
	struct decoder *decoder;
	uint64_t step;
};

static inline void decoder_open(struct decoder_rig *d)
{
	const _Atomic bool cancel = false;
	struct err err = { { 0 } };

	if (!d->split.n)
		d->split = node_split_one();
	memset(&d->supply, 0, sizeof(d->supply));
	d->supply.config.given_up = d->given_up;
	d->supply.config.given_up_arg = d->arg;
	supply_open(&d->supply, d->model, d->disk, d->share, d->depth ? d->depth : 4, &d->split);
	assert_int_equal(team_create(d->threads ? d->threads : 2, false, &d->team, &err), 0);
	if (weights_create(d->model, reader_align(d->supply.reader), d->team, false, NULL,
			   &d->weights, &err) ||
	    weights_load(d->weights, d->model, d->supply.reader, d->ops, &cancel, &err) ||
	    seq_pool_create(d->model, 4, 1024, 0, KV_F16, &d->pool, &err) ||
	    decoder_create(&(struct decoder_config){ .model = d->model,
						     .weights = d->weights,
						     .ops = d->ops,
						     .fops = float_ops_get(d->ops->level),
						     .team = d->team,
						     .supply = d->supply.supply,
						     .split = d->split,
						     .max_tokens = DECODER_TOKENS,
						     .max_logits = 4,
						     .given_up = d->given_up,
						     .on_layer = d->on_layer,
						     .arg = d->arg },
			   &d->decoder, &err))
		fail_msg("%s", err.text);
	d->step = 0;
}

static inline void decoder_close(struct decoder_rig *d)
{
	reader_memory_release(d->disk);
	decoder_destroy(d->decoder);
	seq_pool_destroy(d->pool);
	team_destroy(d->team);
	supply_close(&d->supply);
	weights_destroy(d->weights);
}

/* A stretch of one sequence's tokens in a step, and where their logits go. */
struct decoder_part {
	struct seq *seq;
	const uint32_t *tokens;
	uint32_t n;
	float *logits; /* [n][n_vocab]; NULL: not wanted */
};

struct decoder_call {
	const struct decoder_rig *rig;
	const struct batch *batch;
	const struct decoder_part *parts;
	uint32_t n_rows, last; /* rows given, the last one's token */
};

static inline void decoder_rows(void *arg, const uint32_t *columns, uint32_t n, const float *logits,
				size_t ld)
{
	struct decoder_call *c = arg;

	assert_in_range(n, 1, 4);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t run = 0, t = columns[i];

		assert_true(!c->n_rows++ || t > c->last);
		c->last = t;
		while (t >= c->batch->runs[run].first + c->batch->runs[run].count)
			run++;
		memcpy(c->parts[run].logits + (t - c->batch->runs[run].first) * ld, logits + i * ld,
		       ld * sizeof(*logits));
	}
}

/* One step with all @parts; @ret_errors (may be NULL) has room for DECODER_TOKENS. */
static inline int decoder_run(struct decoder_rig *d, const struct decoder_part *parts,
			      unsigned n_parts, int *ret_errors)
{
	uint32_t tokens[DECODER_TOKENS];
	bool want[DECODER_TOKENS];
	int errors[DECODER_TOKENS];
	struct batch_run runs[4];
	struct batch b = { .tokens = tokens, .runs = runs, .n_runs = n_parts, .want_logits = want };
	struct decoder_call call = { .rig = d, .batch = &b, .parts = parts };
	uint32_t wanted = 0;
	int rc;

	for (unsigned i = 0; i < n_parts; i++) {
		assert_int_equal(seq_reserve(parts[i].seq, parts[i].n), 0);
		runs[i] = (struct batch_run){ .seq = parts[i].seq,
					      .first = b.n_tokens,
					      .count = parts[i].n,
					      .pos = seq_len(parts[i].seq),
					      .number = i };
		for (uint32_t k = 0; k < parts[i].n; k++, b.n_tokens++) {
			tokens[b.n_tokens] = parts[i].tokens[k];
			want[b.n_tokens] = parts[i].logits != NULL;
			wanted += parts[i].logits != NULL;
		}
	}
	rc = decoder_step(d->decoder, &b, ++d->step, decoder_rows, &call,
			  ret_errors ? ret_errors : errors);
	assert_int_equal(call.n_rows, rc ? 0 : wanted);
	for (uint32_t t = 0; !ret_errors && t < b.n_tokens; t++)
		assert_int_equal(errors[t], 0);
	return rc;
}

/* All @n tokens of a new sequence in steps of @cut, each with its logits. */
static inline void decoder_sequence(struct decoder_rig *d, const uint32_t *tokens, uint32_t n,
				    uint32_t cut, float *logits)
{
	struct seq *s = seq_get(d->pool);

	for (uint32_t at = 0; at < n; at += cut) {
		struct decoder_part p = { s, tokens + at, (uint32_t)u64_min(cut, n - at),
					  logits + (size_t)at * d->model->n_vocab };

		assert_int_equal(decoder_run(d, &p, 1, NULL), 0);
		assert_int_equal(seq_len(s), at + p.n);
	}
	seq_put(d->pool, s);
}

#endif
