/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/mtp_make.c: what a prediction head is made of: its weights and experts, sequences and a decoder
 * of its own, from the memory that they take to their load. See mtp.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/num.h"
#include "engine/engine_private.h"
#include "engine/mtp_private.h"
#include "kernels/cpu/fops.h"
#include "trace/policy_input.h"

#define FILLS 16 /* of its experts at a time, before anybody is served */

static struct model narrow(const struct model *head)
{
	struct model m = *head;

	m.n_vocab = (uint32_t)u64_min(m.n_vocab, MTP_VOCAB);
	m.head = NULL;
	return m;
}

static struct decoder_config config_of(const struct model *m, const struct cpu_ops *ops)
{
	return (struct decoder_config){ .model = m,
					.ops = ops,
					.fops = float_ops_get(ops->level),
					.split = node_split_one(),
					.max_tokens = MTP_BATCH,
					.max_logits = MTP_BATCH,
					.keep_hidden = true };
}

/* Of its experts' slots: there is one for each. */
static uint64_t slot_bytes(const struct model *m, uint32_t align)
{
	struct residency_need need;

	if (!m->layers[0].experts.n_parts)
		return 0;
	residency_need(m, align, NULL, &need);
	return need.all_bytes;
}

uint64_t mtp_bytes(const struct memory_ask *ask, unsigned threads, uint32_t n_parallel,
		   uint32_t n_ctx)
{
	struct decoder_config d;
	struct model m;

	if (!ask->head)
		return 0;
	m = narrow(ask->head);
	d = config_of(&m, ask->ops);
	return weights_memory_bytes(&m, ask->align) + slot_bytes(&m, ask->align) +
	       decoder_scratch_bytes(&d, threads) +
	       seq_pool_bytes(&m, n_parallel, n_ctx, ask->kv_type);
}

static bool given_up(void *arg)
{
	const struct engine *e = arg;

	return atomic_load_explicit(&e->stop, memory_order_relaxed);
}

static int create_experts(struct mtp *m, struct engine *e, struct err *err)
{
	uint64_t budget = slot_bytes(&m->model, reader_align(m->reader));
	struct node_split one = node_split_one();
	struct arena_config arena = { .bytes = residency_arena_bytes(budget, &one),
				      .interleave = true };
	uint32_t class_of_layer = 0, slots;
	struct policy_geometry g = { .n_layers = 1,
				     .n_expert = m->model.n_expert,
				     .n_expert_used = m->model.n_expert_used,
				     .n_classes = 1,
				     .class_of_layer = &class_of_layer,
				     .class_slots = &slots };
	int rc = arena_create(&arena, &m->arena, err);

	if (!rc)
		rc = residency_create(&m->model, m->arena, budget, m->reader, &one, &m->residency,
				      err);
	if (rc)
		return rc;
	slots = residency_class_slots(m->residency, 0);
	rc = policy_open("lru", &g, &m->policy_ops, &m->policy, err);
	if (rc)
		return rc;
	return supply_create(&(struct supply_config){ .model = &m->model,
						      .residency = m->residency,
						      .tier[TIER_HOST] = { .ops = m->policy_ops,
									   .policy = m->policy },
						      .max_used = m->model.n_expert,
						      .given_up = given_up,
						      .given_up_arg = e },
			     &m->supply);
}

static int create(struct mtp *m, struct engine *e, struct err *err)
{
	const struct engine_config *c = &e->config;
	struct reader_config reader = engine_reader_config(c);
	struct decoder_config d;
	int rc = reader_create(m->model.gguf, &reader, &m->reader, err);

	if (!rc && m->model.layers[0].experts.n_parts)
		rc = create_experts(m, e, err);
	if (!rc)
		rc = weights_create(&m->model, reader_align(m->reader), e->team, false, NULL,
				    &m->weights, err);
	if (!rc)
		rc = seq_pool_create(&m->model, m->n, c->n_ctx, 0, c->kv_type, &m->seqs, err);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < m->n; i++) {
		m->places[i].seq = seq_get(m->seqs);
		m->places[i].next_rest = MTP_FIRST_REST;
	}
	d = config_of(&m->model, c->ops);
	d.weights = m->weights;
	d.team = e->team;
	d.supply = m->supply;
	d.given_up = given_up;
	d.arg = e;
	return decoder_create(&d, &m->decoder, err);
}

int mtp_create(struct engine *e, const struct model *head, struct mtp **ret, struct err *err)
{
	struct mtp *m = calloc(1, sizeof(*m));
	int rc = -ENOMEM;

	if (!m)
		return err_set(err, rc, "no memory for a prediction head");
	m->model = narrow(head);
	m->n = e->config.n_parallel;
	m->places = calloc(m->n, sizeof(*m->places));
	m->runs = calloc(m->n, sizeof(*m->runs));
	m->owner = calloc(m->n, sizeof(*m->owner));
	if (m->places && m->runs && m->owner)
		rc = create(m, e, err);
	if (rc) {
		mtp_destroy(m);
		return err_set(err, rc, "the prediction head: %s", strerror(-rc));
	}
	*ret = m;
	return 0;
}

void mtp_drain(struct mtp *m)
{
	if (!m)
		return;
	reader_cancel_queued(m->reader);
	if (m->supply)
		supply_drain(m->supply);
}

void mtp_destroy(struct mtp *m)
{
	if (!m)
		return;
	decoder_destroy(m->decoder);
	seq_pool_destroy(m->seqs);
	reader_destroy(m->reader);
	supply_destroy(m->supply);
	if (m->policy)
		m->policy_ops->destroy(m->policy);
	residency_destroy(m->residency);
	arena_destroy(m->arena);
	weights_destroy(m->weights);
	free(m->places);
	free(m->runs);
	free(m->owner);
	free(m);
}

/* What the head does not have of its own is the main model's. */
static void borrow(struct mtp *m, const struct weights *main, enum role role)
{
	struct wmat *own = m->weights->model.w;

	if (!own[role].data)
		own[role] = main->model.w[role];
}

/*
 * All of its experts. Read when the head asks for them they would come while a token is waited for, which no
 * draft makes up for. One that cannot be read is asked for again.
 */
static void load_experts(struct mtp *m, struct engine *e)
{
	_Atomic uint32_t *word = m->supply ? residency_event_word(m->residency) : NULL;

	while (word && !given_up(e)) {
		uint32_t seen = atomic_load_explicit(word, memory_order_acquire);

		if (!supply_fill(m->supply, FILLS, now_ns()))
			return;
		futex_wait(word, seen, 100000000);
	}
}

int mtp_load(struct mtp *m, struct engine *e, struct err *err)
{
	int rc = weights_load(m->weights, &m->model, m->reader, e->config.ops, &e->stop, err);

	if (!rc && !e->device_dense)
		weights_narrow(m->weights, &m->model);
	borrow(m, e->weights, ROLE_TOKEN_EMBD);
	borrow(m, e->weights, ROLE_OUTPUT);
	borrow(m, e->weights, ROLE_OUTPUT_NORM);
	m->weights->model.w[ROLE_OUTPUT].n_out = m->model.n_vocab;
	if (!rc)
		load_experts(m, e);
	return rc;
}
