/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/engine/engine_rig.h: the whole engine on the bundled model, its disk a copy in memory that
 * can be held, slowed and broken. Include after cmocka.h. Callbacks run on the engine thread and
 * only write to the asker's own struct ask; the test waits for them without looking at a clock.
 */
#ifndef SLUICE_TESTS_ENGINE_RIG_H
#define SLUICE_TESTS_ENGINE_RIG_H

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "model/gguf.h"
#include "store/reader_memory.h"
#include "store/residency.h"

#define RIG_MODEL  "models/demo-moe-q4_k_m.gguf"
#define RIG_TOKENS 64

struct engine_rig {
	struct model *model;
	struct tokenizer *tokenizer;
	struct reader_memory disk;
	struct reader_memory_file file;
	uint8_t *content;
	struct engine_config config;
	struct engine *engine;
};

/* A request with everything that came back. */
struct ask {
	struct request request; /* first */
	uint32_t prompt[1024];
	uint32_t tokens[RIG_TOKENS];
	_Atomic uint32_t n_tokens, n_read;
	float *logits; /* [n_tokens of the prompt][n_vocab]; NULL: not kept */
	struct request_result result;
	_Atomic int ended;
	_Atomic uint64_t *clock; /* counts tokens of all asks; may be NULL */
	uint64_t at[RIG_TOKENS]; /* the clock at each token */
};

static inline void rig_token(struct request *r, uint32_t id)
{
	struct ask *a = (struct ask *)r;
	uint32_t n = atomic_load(&a->n_tokens);

	if (a->clock)
		a->at[n % RIG_TOKENS] = atomic_fetch_add(a->clock, 1);
	a->tokens[n % RIG_TOKENS] = id;
	atomic_store(&a->n_tokens, n + 1);
}

static inline void rig_progress(struct request *r, uint32_t n_read, double done)
{
	atomic_store(&((struct ask *)r)->n_read, n_read);
}

static inline void rig_logits(struct request *r, uint32_t first, uint32_t n, const float *logits,
			      size_t ld)
{
	struct ask *a = (struct ask *)r;

	for (uint32_t i = 0; a->logits && i < n; i++)
		memcpy(a->logits + (first + i) * ld, logits + i * ld, ld * sizeof(float));
}

static inline void rig_done(struct request *r, const struct request_result *result)
{
	struct ask *a = (struct ask *)r;

	a->result = *result;
	atomic_store(&a->ended, 1);
}

static const struct request_ops rig_request_ops = {
	.progress = rig_progress,
	.token = rig_token,
	.logits = rig_logits,
	.done = rig_done,
};

static inline void rig_open(struct engine_rig *rig)
{
	struct err err = { { 0 } };
	FILE *f = fopen(RIG_MODEL, "rb");
	long bytes;

	memset(rig, 0, sizeof(*rig));
	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	bytes = ftell(f);
	rewind(f);
	rig->content = malloc((size_t)bytes);
	assert_int_equal(fread(rig->content, 1, (size_t)bytes, f), bytes);
	fclose(f);
	rig->file.content = rig->content;
	atomic_store(&rig->file.bytes, (uint64_t)bytes);
	rig->disk.files = &rig->file;
	rig->disk.n_files = 1;
	if (model_open(RIG_MODEL, &rig->model, &err) ||
	    tokenizer_create(rig->model->gguf, NULL, &rig->tokenizer, &err))
		fail_msg("%s", err.text);
	rig->config = (struct engine_config){ .threads = 2,
					      .n_ctx = 1024,
					      .n_parallel = 4,
					      .n_batch = 512,
					      .budget_percent = 100,
					      .io_depth = 4,
					      .ops = cpu_ops_best(),
					      .no_fill = true,
					      .reader_ops = &reader_memory,
					      .reader_ops_arg = &rig->disk };
}

static inline void rig_start(struct engine_rig *rig)
{
	struct engine_status status;
	struct err err = { { 0 } };

	if (engine_create(&rig->config, rig->model, rig->tokenizer, &rig->engine, &err) ||
	    engine_start(rig->engine, &err))
		fail_msg("%s", err.text);
	for (int i = 0; i < 60000; i++) {
		engine_get_status(rig->engine, &status);
		if (status.state != ENGINE_STARTING)
			break;
		usleep(1000);
	}
	assert_int_equal(status.state, ENGINE_READY);
}

static inline void rig_stop(struct engine_rig *rig)
{
	engine_destroy(rig->engine);
	rig->engine = NULL;
}

static inline void rig_close(struct engine_rig *rig)
{
	rig_stop(rig);
	tokenizer_destroy(rig->tokenizer);
	model_destroy(rig->model);
	free(rig->content);
}

/* The least budget: one layer's slots for one token. */
static inline void rig_least_budget(struct engine_rig *rig)
{
	struct residency_need need;

	residency_need(rig->model, 4096, NULL, &need);
	rig->config.budget_percent = 0;
	rig->config.host_budget = need.least_bytes;
}

/* A prompt of pseudo-random ids that depends on @seed alone. */
static inline void ask_prompt(struct ask *a, const struct engine_rig *rig, uint32_t n,
			      uint32_t max_tokens, unsigned seed)
{
	memset(a, 0, sizeof(*a));
	for (uint32_t i = 0; i < n; i++) {
		seed = seed * 1103515245u + 12345u;
		a->prompt[i] = (seed >> 8) % (rig->model->n_vocab - 100);
	}
	a->request.ops = &rig_request_ops;
	a->request.tokens = a->prompt;
	a->request.n_tokens = n;
	a->request.max_tokens = max_tokens;
	a->request.ignore_eog = true;
}

static inline void ask_submit(struct ask *a, struct engine_rig *rig)
{
	struct err err = { { 0 } };

	if (engine_submit(rig->engine, &a->request, &err))
		fail_msg("%s", err.text);
}

/* Until a step waits for the disk, which is held: reads were begun, and no more come. */
static inline void rig_wait_for_disk(const struct engine_rig *rig)
{
	struct engine_status s;

	for (uint64_t before = 0;; usleep(2000)) {
		engine_get_status(rig->engine, &s);
		if (s.reads_in_flight && s.misses && s.misses == before)
			return;
		before = s.misses;
	}
}

/* Until @a has ended; a test that hangs is ended by its runner. */
static inline void ask_wait(struct ask *a)
{
	while (!atomic_load(&a->ended))
		usleep(500);
}

#endif
