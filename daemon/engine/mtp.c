/* SPDX-License-Identifier: MIT */
/* daemon/engine/mtp.c: see mtp.h. */
#include "engine/mtp.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/num.h"
#include "engine/engine_private.h"
#include "engine/mtp_budget.h"
#include "kernels/cpu/fops.h"
#include "trace/policy_input.h"

#define BATCH	   MTP_BATCH
#define SURE	   0.4f	 /* guesses go on while all of them are right with this probability */
#define VALUE_NEW  0.06f /* weight of the newest step in what the head is worth */
#define FIRST_REST 64	 /* tokens */
#define LAST_REST  4096
#define FILLS	   16 /* of its experts at a time, before anybody is served */

struct place {
	struct seq *seq;
	uint32_t n; /* guesses for the next step */
	struct draft_guess guess[DRAFT_MAX];

	float value; /* tokens won by a step, less what it cost, in plain steps */
	uint32_t steps, rest, next_rest;

	/* the step that was: columns of it to be read, and the position of the first */
	uint32_t column, left, pos;
	uint32_t
		read_to; /* columns before this position were dealt with while the prompt was read */
	bool guesses;	 /* it goes on guessing */
	uint32_t most;	 /* so many */
	float sure;	 /* of all guesses so far */
	uint32_t row;	 /* its column in the head's last step */
};

struct mtp {
	struct model model; /* the head, with fewer rows of output */
	struct reader *reader;
	struct weights *weights;
	struct arena *arena; /* NULL for a dense head, as are the next four */
	struct residency *residency;
	const struct policy_ops *policy_ops;
	struct policy *policy;
	struct supply *supply;
	struct seq_pool *seqs;
	struct decoder *decoder;
	uint64_t step;
	uint32_t n;
	struct place *places;
	struct mtp_budget budget;

	/* a step of the head */
	struct batch batch;
	struct batch_run *runs;
	uint32_t *owner; /* place of a run */
	uint32_t tokens[BATCH], run_of[BATCH];
	const float *hidden[BATCH];
	bool want[BATCH];
	int error[BATCH];
};

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
					.max_tokens = BATCH,
					.max_logits = BATCH,
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
	struct reader_config reader = { .kind = c->io,
					.depth = c->io_depth,
					.request_bytes = c->io_request_bytes,
					.ops = c->reader_ops,
					.ops_arg = c->reader_ops_arg };
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
		m->places[i].next_rest = FIRST_REST;
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

	borrow(m, e->weights, ROLE_TOKEN_EMBD);
	borrow(m, e->weights, ROLE_OUTPUT);
	borrow(m, e->weights, ROLE_OUTPUT_NORM);
	m->weights->model.w[ROLE_OUTPUT].n_out = m->model.n_vocab;
	if (!rc)
		load_experts(m, e);
	return rc;
}

void *mtp_source(struct mtp *m, uint32_t i)
{
	return &m->places[i];
}

void mtp_forget(struct mtp *m, uint32_t i)
{
	struct place *p = &m->places[i];

	seq_cut(p->seq, 0);
	p->n = p->left = 0;
}

/* decoder_logits_fn: the best token of each row, and how sure the head is of it. */
static void on_logits(void *arg, const uint32_t *columns, uint32_t n, const float *logits,
		      size_t ld)
{
	struct mtp *m = arg;

	for (uint32_t i = 0; i < n; i++) {
		struct place *p = &m->places[m->owner[m->run_of[columns[i]]]];
		const float *row = logits + i * ld;
		uint32_t best = 0;
		double sure;

		for (uint32_t k = 1; k < m->model.n_vocab; k++)
			best = row[k] > row[best] ? k : best;
		sure = exp(log_softmax_at(row, m->model.n_vocab, best));
		p->guesses = isfinite(sure);
		if (!p->guesses)
			continue;
		p->sure *= (float)sure;
		p->guess[p->n++] = (struct draft_guess){
			.id = best, .class = (uint32_t)fmin(sure * DRAFT_CLASSES, DRAFT_CLASSES - 1)
		};
		p->row = columns[i];
	}
}

static void clear_batch(struct mtp *m)
{
	m->batch = (struct batch){
		.tokens = m->tokens, .runs = m->runs, .want_logits = m->want, .hidden = m->hidden
	};
}

/* Puts @n columns of place @i into the step; tokens and hidden vectors are the caller's. */
static uint32_t add_run(struct mtp *m, uint32_t i, uint32_t n)
{
	struct batch *b = &m->batch;
	uint32_t first = b->n_tokens;

	if (seq_reserve(m->places[i].seq, n))
		return UINT32_MAX; /* does not happen: there are pages for all */
	m->runs[b->n_runs] = (struct batch_run){ .seq = m->places[i].seq,
						 .first = first,
						 .count = n,
						 .pos = seq_len(m->places[i].seq) };
	for (uint32_t k = first; k < first + n; k++) {
		m->run_of[k] = b->n_runs;
		m->want[k] = false;
	}
	m->owner[b->n_runs++] = i;
	b->n_tokens += n;
	return first;
}

/* False: the head gives nothing in this step; what it knew of the places in it is gone. */
static bool run(struct mtp *m)
{
	int rc = decoder_step(m->decoder, &m->batch, ++m->step, on_logits, m, m->error);

	for (uint32_t t = 0; t < m->batch.n_tokens && !rc; t++)
		rc = m->error[t];
	for (uint32_t i = 0; i < m->batch.n_runs && rc; i++)
		mtp_forget(m, m->owner[i]);
	return !rc;
}

/* The next columns of what stayed of the main step, as many as fit. */
static bool read_some(struct mtp *m, struct engine *e)
{
	clear_batch(m);
	for (uint32_t i = 0; i < m->n && m->batch.n_tokens < BATCH; i++) {
		struct place *p = &m->places[i];
		const struct active *a = &e->active[i];
		uint32_t n = (uint32_t)u64_min(p->left, BATCH - m->batch.n_tokens), first;

		if (!n)
			continue;
		first = add_run(m, i, n);
		if (first == UINT32_MAX)
			return false;
		for (uint32_t k = 0; k < n; k++) {
			m->tokens[first + k] = a->ids[p->pos + k + 1];
			m->hidden[first + k] = decoder_hidden(e->decoder, p->column + k);
		}
		p->left -= n;
		p->column += n;
		p->pos += n;
		m->want[first + n - 1] = !p->left && p->most;
	}
	return m->batch.n_tokens && run(m);
}

/* One more guess of each place that goes on. */
static bool guess_on(struct mtp *m)
{
	const float *from[BATCH];

	clear_batch(m);
	for (uint32_t i = 0; i < m->n && m->batch.n_tokens < BATCH; i++) {
		struct place *p = &m->places[i];
		uint32_t c;

		if (!p->guesses || p->n >= p->most || p->sure < SURE ||
		    seq_len(p->seq) == seq_ctx(p->seq))
			continue;
		c = add_run(m, i, 1);
		if (c == UINT32_MAX)
			break;
		p->guesses = false;
		m->tokens[c] = p->guess[p->n - 1].id;
		from[c] = decoder_hidden(m->decoder, p->row);
		m->want[c] = true;
	}
	/* the head's own vectors of its last step, which it takes in before it writes the next */
	memcpy(m->hidden, from, m->batch.n_tokens * sizeof(*from));
	return m->batch.n_tokens && run(m);
}

/* How many guesses @a has use for. */
static uint32_t wanted(const struct active *a)
{
	uint32_t left = a->request->max_tokens - a->n_generated;

	if (!engine_decoding(a))
		return 0;
	return (uint32_t)u64_min(a->request->draft_length ? a->request->draft_length : DRAFT_MAX,
				 left - 1);
}

/* Whoever decodes has to have the credit for what the head costs, and for a column it may lose. */
static bool may_cost(const struct active *a)
{
	return a->request->draft_length || !engine_decoding(a) || a->n_generated < 2 ||
	       spec_left(&a->spec.history) > 2 * (double)a->spec.source_cost;
}

/*
 * The columns of a prompt's piece whose next token is known. The last ones of them are read, as many as may
 * be; how many are given back.
 */
static uint32_t take_prompt(struct mtp *m, const struct active *a, uint32_t at,
			    const struct batch_run *run, uint32_t most)
{
	struct place *p = &m->places[at];
	uint32_t known = (uint32_t)u64_min(seq_len(a->seq), a->n_prompt - 1) - run->pos;
	uint32_t n = a->request->draft_length ? known : (uint32_t)u64_min(known, most);

	p->read_to = run->pos + known;
	n = (uint32_t)u64_min(n, seq_ctx(p->seq) - seq_len(p->seq));
	p->column = run->first + known - n;
	p->pos = p->read_to - n;
	p->left = n;
	return a->request->draft_length ? 0 : n;
}

void mtp_read_prompts(struct mtp *m, struct engine *e, const struct batch *b, uint64_t step_ns)
{
	uint64_t start = now_ns();
	uint32_t n = 0, most = UINT32_MAX;

	for (uint32_t i = 0; i < m->n; i++)
		m->places[i].left = m->places[i].most = m->places[i].read_to = 0;
	for (uint32_t i = 0; i < b->n_runs; i++) {
		struct active *a = &e->active[e->run_owner[i]];

		if (a->n_done >= a->n_prompt || !spec_wants(a, DRAFT_MTP) ||
		    seq_len(a->seq) <= b->runs[i].pos)
			continue;
		if (most == UINT32_MAX)
			most = mtp_budget_columns(&m->budget, step_ns);
		n += take_prompt(m, a, e->run_owner[i], &b->runs[i], most - n);
	}
	while (read_some(m, e))
		;
	mtp_budget_learn(&m->budget, n, now_ns() - start);
}

static bool take_up(struct mtp *m, struct engine *e, const struct batch *b)
{
	bool any = false;

	for (uint32_t i = 0; i < m->n; i++)
		m->places[i].left = 0;
	for (uint32_t i = 0; i < b->n_runs; i++) {
		uint32_t at = e->run_owner[i];
		struct active *a = &e->active[at];
		struct place *p = &m->places[at];
		uint32_t pos = (uint32_t)u64_max(b->runs[i].pos, p->read_to);

		p->n = p->most = 0;
		p->guesses = false;
		if (!a->request || !spec_wants(a, DRAFT_MTP) || p->rest || seq_len(a->seq) <= pos ||
		    !may_cost(a))
			continue;
		p->column = b->runs[i].first + (pos - b->runs[i].pos);
		p->pos = pos;
		p->left = (uint32_t)u64_min(seq_len(a->seq), a->n_ids - 1) - pos;
		p->left = (uint32_t)u64_min(p->left, seq_ctx(p->seq) - seq_len(p->seq));
		p->most = wanted(a);
		p->sure = a->request->draft_length ? 1e30f : 1;
		any |= p->left > 0;
	}
	return any;
}

uint64_t mtp_after_step(struct mtp *m, struct engine *e, const struct batch *b)
{
	uint64_t start = now_ns();

	if (!take_up(m, e, b))
		return 0;
	while (read_some(m, e))
		;
	for (uint32_t i = 0; i < m->n; i++)
		m->places[i].column = seq_len(m->places[i].seq);
	while (guess_on(m))
		;
	for (uint32_t i = 0; i < m->n; i++) /* or to nothing, where it failed */
		seq_cut(m->places[i].seq,
			(uint32_t)u64_min(m->places[i].column, seq_len(m->places[i].seq)));
	return now_ns() - start;
}

void mtp_learn(struct mtp *m, uint32_t i, uint32_t kept, double cost)
{
	struct place *p = &m->places[i];

	if (p->rest) {
		p->rest -= p->rest < kept ? p->rest : kept;
		return;
	}
	p->value += VALUE_NEW * ((float)(kept - cost) - p->value);
	if (++p->steps < FIRST_REST / 2 || p->value > 0)
		return;
	p->rest = p->next_rest;
	p->next_rest = (uint32_t)u64_min(2 * p->next_rest, LAST_REST);
	p->steps = 0;
	p->value = 0;
}

/* ---- the source of drafts ---- */

static uint64_t bytes(const struct draft_config *c)
{
	return 0; /* mtp_bytes() */
}

static int no_create(const struct draft_config *c, void **ret)
{
	return 0; /* spec_create() gives it */
}

static void no_destroy(void *d)
{
}

static void begin(void *d, const struct request *r)
{
	struct place *p = d;

	seq_cut(p->seq, 0);
	p->n = p->left = p->rest = p->steps = 0;
	p->next_rest = FIRST_REST;
	p->value = 0;
}

static void no_add(void *d, const uint32_t *ids, uint32_t n)
{
}

static uint32_t guess(void *d, uint32_t most, struct draft_guess *ret)
{
	const struct place *p = d;
	uint32_t n = (uint32_t)u64_min(most, p->n);

	memcpy(ret, p->guess, n * sizeof(*ret));
	return n;
}

static float expect(uint32_t class)
{
	return ((float)class + 0.5f) / DRAFT_CLASSES;
}

const struct draft_ops draft_mtp = {
	.name = "mtp",
	.bytes = bytes,
	.create = no_create,
	.destroy = no_destroy,
	.begin = begin,
	.add = no_add,
	.guess = guess,
	.expect = expect,
};
