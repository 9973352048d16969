/* SPDX-License-Identifier: MIT */
/* daemon/engine/spec.c: see spec.h. */
#include "engine/spec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "engine/engine_private.h"
#include "engine/logprobs.h"
#include "engine/mtp.h"
#include "engine/replay.h"
#include "engine/routed.h"

const struct draft_ops *const draft_table[DRAFT_NR] = {
	[DRAFT_GIVEN] = &draft_given,
	[DRAFT_NGRAM] = &draft_ngram,
	[DRAFT_MTP] = &draft_mtp,
};

struct spec {
	struct mtp *mtp; /* NULL: no head */
	struct err mtp_note;
	struct replay *replay;
	struct routed *routed; /* NULL for dense models */
	struct spec_costs costs;
	struct spec_offer *offers;    /* n_parallel */
	uint32_t *kept;		      /* per run */
	uint64_t started_ns;	      /* the step */
	bool planned;		      /* it decodes alone */
	uint64_t routed_ns, n_routed; /* decoder_get_routed() when it began */

	struct {
		_Atomic uint64_t drafted[DRAFT_NR], accepted[DRAFT_NR];
		_Atomic uint64_t steps, columns, tokens, plain_ns, step_ns;
		struct {
			_Atomic uint64_t steps, step_ns, expert_ns, experts;
		} by_columns[ENGINE_COLUMNS]; /* see struct column_cost */
	} total;
};

static void add(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

static uint32_t hold_columns(uint32_t n_parallel)
{
	return n_parallel + DRAFT_STEP_MAX;
}

uint64_t spec_bytes(const struct memory_ask *ask, unsigned threads, uint32_t n_parallel,
		    uint32_t n_ctx)
{
	const struct draft_config config = { .n_ctx = n_ctx, .n_vocab = ask->model->n_vocab };
	uint64_t sources = 0;

	for (unsigned k = 0; k < DRAFT_NR; k++)
		sources += draft_table[k]->bytes(&config);
	return replay_bytes(ask->model, n_parallel) +
	       routed_bytes(ask->model, hold_columns(n_parallel)) + n_parallel * sources +
	       mtp_bytes(ask, threads, n_parallel, n_ctx);
}

const struct model *spec_head(const struct engine *e)
{
	if (!spec_wants_head(e->config.spec) || e->device_dense)
		return NULL;
	return e->config.head ? e->config.head : e->model->head;
}

bool spec_keeps_hidden(const struct engine *e)
{
	return e->spec->mtp != NULL;
}

void spec_load(struct engine *e)
{
	struct spec *s = e->spec;

	if (!s->mtp || !mtp_load(s->mtp, e, &s->mtp_note))
		return;
	engine_add_fallback(e, s->mtp_note.text);
	for (uint32_t i = 0; i < e->config.n_parallel; i++)
		e->active[i].spec.source[DRAFT_MTP] = NULL;
}

void spec_drain(struct engine *e)
{
	mtp_drain(e->spec->mtp);
}

/* A head that cannot be had is said once and left out: no token depends on it. */
static int create_head(struct engine *e)
{
	struct spec *s = e->spec;
	int rc = mtp_create(e, spec_head(e), &s->mtp, &s->mtp_note);

	if (!rc)
		return 0;
	engine_add_fallback(e, s->mtp_note.text);
	return rc == -ENOMEM ? rc : 0;
}

int spec_create(struct engine *e)
{
	const struct draft_config config = { .n_ctx = e->config.n_ctx,
					     .n_vocab = e->model->n_vocab };
	struct spec *s = calloc(1, sizeof(*s));
	uint32_t n = e->config.n_parallel;
	int rc;

	if (!s)
		return -ENOMEM;
	e->spec = s;
	spec_costs_init(&s->costs);
	s->offers = calloc(n, sizeof(*s->offers));
	s->kept = calloc(n, sizeof(*s->kept));
	if (!s->offers || !s->kept)
		return -ENOMEM;
	rc = replay_create(e->model, n, &s->replay);
	if (!rc && e->model->n_expert)
		rc = routed_create(e->model, hold_columns(n), &s->routed);
	if (!rc && spec_head(e))
		rc = create_head(e);
	for (uint32_t i = 0; i < n; i++) {
		void **source = e->active[i].spec.source;

		for (unsigned k = 0; k < DRAFT_NR && !rc; k++)
			rc = draft_table[k]->create(&config, &source[k]);
		if (!rc && s->mtp)
			source[DRAFT_MTP] = mtp_source(s->mtp, i);
		if (!rc)
			e->active[i].spec.store = replay_store(s->replay, i);
	}
	return rc;
}

void spec_destroy(struct engine *e)
{
	struct spec *s = e->spec;

	if (!s)
		return;
	for (uint32_t i = 0; e->active && i < e->config.n_parallel; i++)
		for (unsigned k = 0; k < DRAFT_NR; k++)
			draft_table[k]->destroy(e->active[i].spec.source[k]);
	mtp_destroy(s->mtp);
	replay_destroy(s->replay);
	routed_destroy(s->routed);
	free(s->offers);
	free(s->kept);
	free(s);
	e->spec = NULL;
}

struct routed *spec_routed(const struct engine *e)
{
	return e->spec->routed;
}

/* Does @a's request want the source asked? */
bool spec_wants(const struct active *a, enum draft_source from)
{
	if (!a->spec.source[from] || a->spec.mode == SPEC_OFF)
		return false;
	if (a->request->n_draft) /* whoever brings a draft wants it measured alone */
		return from == DRAFT_GIVEN;
	switch (from) {
	case DRAFT_NGRAM:
		return a->spec.mode == SPEC_AUTO || a->spec.mode == SPEC_NGRAM;
	case DRAFT_MTP:
		return a->spec.mode == SPEC_AUTO || a->spec.mode == SPEC_MTP;
	default:
		return false;
	}
}

void spec_begin(struct engine *e, struct active *a)
{
	const struct request *r = a->request;

	a->spec.mode = r->spec ? r->spec : e->config.spec ? e->config.spec : SPEC_AUTO;
	a->spec.replay = a->spec.n_draft = a->spec.n_picked = 0;
	a->spec.n_added = 0;
	a->spec.source_ns = 0;
	a->spec.source_cost = 0;
	memset(&a->spec.counts, 0, sizeof(a->spec.counts));
	spec_history_init(&a->spec.history);
	for (unsigned k = 0; k < DRAFT_NR; k++)
		if (r->max_tokens && spec_wants(a, k))
			draft_table[k]->begin(a->spec.source[k], r);
}

void spec_add(struct engine *e, struct active *a, uint32_t n)
{
	uint32_t from = a->spec.n_added;

	if (n <= from)
		return;
	for (unsigned k = 0; k < DRAFT_NR; k++)
		if (a->request->max_tokens && spec_wants(a, k))
			draft_table[k]->add(a->spec.source[k], a->ids + from, n - from);
	a->spec.n_added = n;
}

/* Most drafts that fit into @a's answer and context behind its last token. */
static uint32_t room(const struct active *a)
{
	uint32_t left = a->request->max_tokens - a->n_generated;
	uint32_t ctx = seq_ctx(a->seq) - seq_len(a->seq);

	return (uint32_t)u64_min(DRAFT_MAX, u64_min(left, ctx) - 1);
}

/* The guesses of the source that a step is expected to gain most by. */
static void offer(struct engine *e, struct active *a, struct spec_offer *ret)
{
	struct speculation *s = &a->spec;
	struct draft_guess guess[DRAFT_MAX];
	double best = -1;

	*ret = (struct spec_offer){ .history = &s->history, .guess = s->draft };
	for (unsigned k = 0; k < DRAFT_NR; k++) {
		uint32_t n;
		double worth;

		s->guessed[k] = false;
		if (!spec_wants(a, k))
			continue;
		n = draft_table[k]->guess(s->source[k], room(a), guess);
		s->guessed[k] = n > 0;
		if (n)
			s->first[k] = guess[0];
		worth = n ? spec_worth(&e->spec->costs, &s->history, k, guess, n) : -1;
		if (worth <= best)
			continue;
		best = worth;
		memcpy(s->draft, guess, n * sizeof(*guess));
		ret->from = s->from = k;
		ret->n = n;
	}
	s->offered = ret->n > 0;
}

static bool decodes(const struct active *a)
{
	return a->request && !a->paused && engine_decoding(a);
}

/* Requests that name a length get it, whatever it costs: experiments and tests. */
static void decide(struct engine *e, uint32_t n)
{
	struct spec *s = e->spec;
	uint32_t room = (uint32_t)u64_min(DRAFT_STEP_MAX, e->config.n_batch - n), at = 0;

	spec_decide(&s->costs, n, s->offers, n);
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		struct active *a = &e->active[i];
		struct spec_offer *o;

		if (!decodes(a))
			continue;
		o = &s->offers[at++];
		if (a->request->draft_length)
			o->take = (uint32_t)u64_min(o->n, a->request->draft_length);
		a->spec.n_draft = (uint32_t)u64_min(o->take, room);
		room -= a->spec.n_draft;
	}
}

void spec_plan(struct engine *e, bool reads)
{
	struct spec *s = e->spec;
	uint32_t n = 0;

	s->planned = false;
	for (uint32_t i = 0; i < e->config.n_parallel; i++)
		e->active[i].spec.n_draft = 0;
	if (e->device_dense || reads) /* a device's recurrent state cannot be taken back */
		return;
	for (uint32_t i = 0; i < e->config.n_parallel; i++)
		if (decodes(&e->active[i]))
			offer(e, &e->active[i], &s->offers[n++]);
	if (!n)
		return;
	decide(e, n);
	decoder_get_routed(e->decoder, &s->routed_ns, &s->n_routed);
	s->planned = true;
	s->started_ns = now_ns();
}

void spec_put(struct engine *e, struct active *a, struct batch *b)
{
	struct batch_run *run = &e->runs[b->n_runs - 1];
	struct speculation *s = &a->spec;

	for (uint32_t k = 0; k < s->n_draft; k++) {
		e->tokens[b->n_tokens] = s->draft[k].id;
		e->token_run[b->n_tokens] = b->n_runs - 1;
		e->want[b->n_tokens++] = true;
	}
	b->n_drafted += s->n_draft;
	run->count += s->n_draft;
	run->drafted = s->n_draft;
	run->replay = s->replay;
	run->store = s->store;
	s->n_picked = 0;
	s->open = true;
}

void spec_row(struct engine *e, struct active *a, uint32_t k, const float *row, int error)
{
	struct speculation *s = &a->spec;
	uint32_t n_vocab = e->model->n_vocab, broken, id;

	if (error || (k && s->open && logits_broken(row, n_vocab)))
		s->open = false;
	if (!s->open)
		return;
	broken = k ? 0 : logits_broken(row, n_vocab);
	if (broken || engine_pick(e, a, row, &id)) {
		s->open = false;
		a->no_number = !k;
		a->n_broken = broken;
		return;
	}
	s->picked[s->n_picked++] = id;
	s->open = k < s->n_draft && s->draft[k].id == id;
}

/* Tokens of the run that stay: those whose pick is handed out. */
static uint32_t count_kept(const struct engine *e, const struct active *a)
{
	const struct speculation *s = &a->spec;

	for (uint32_t i = 0; i < s->n_picked; i++)
		if (!a->request->ignore_eog && tokenizer_is_eog(e->tokenizer, s->picked[i]))
			return i + 1;
	return s->n_picked ? s->n_picked : 1;
}

/*
 * Guesses that were not drafted are measured as well, those of the other sources too: the first of them
 * against the pick. So whoever copies a text is found out to be surer than a head, and the other way round.
 */
static void learn(struct engine *e, struct active *a, uint32_t kept)
{
	struct speculation *s = &a->spec;
	struct spec *all = e->spec;
	uint32_t n = s->n_draft, right = kept - 1;

	if (!s->n_picked)
		return;
	if (!n && s->offered) {
		n = 1;
		right = s->draft[0].id == s->picked[0];
	}
	spec_learn(&all->costs, &s->history, s->from, s->draft, n, right);
	for (unsigned k = 0; k < DRAFT_NR; k++)
		if (s->guessed[k] && k != s->from)
			spec_learn(&all->costs, &s->history, k, &s->first[k], 1,
				   s->first[k].id == s->picked[0]);
}

static void count_run(struct engine *e, struct active *a, uint32_t kept, double plain_ns,
		      uint64_t step_ns)
{
	struct speculation *s = &a->spec;
	struct spec_counts *c = &s->counts;
	struct spec *all = e->spec;

	c->steps++;
	c->columns += 1 + s->n_draft;
	c->tokens += s->n_picked ? kept : 0;
	c->drafted[s->from] += s->n_draft;
	c->accepted[s->from] += kept - 1;
	c->plain_ns += (uint64_t)(plain_ns * kept);
	c->step_ns += step_ns;
	add(&all->total.steps, 1);
	add(&all->total.columns, 1 + s->n_draft);
	add(&all->total.tokens, s->n_picked ? kept : 0);
	add(&all->total.drafted[s->from], s->n_draft);
	add(&all->total.accepted[s->from], kept - 1);
	add(&all->total.plain_ns, (uint64_t)(plain_ns * kept));
	add(&all->total.step_ns, step_ns);
}

/* What the source's own work for this step cost, in plain steps. */
static double book_source(struct speculation *s, double plain)
{
	float cost = (float)((double)s->source_ns / plain);

	if (s->source_ns)
		s->source_cost += (s->source_cost > 0 ? 0.2f : 1.0f) * (cost - s->source_cost);
	return cost;
}

static void end_run(struct engine *e, const struct batch *b, uint32_t i, uint64_t step_ns)
{
	struct active *a = &e->active[e->run_owner[i]];
	const struct batch_run *run = &b->runs[i];
	struct spec *s = e->spec;
	uint32_t kept = count_kept(e, a);
	double cost = spec_cost_of(&s->costs, b->n_tokens, b->n_runs);
	double plain = spec_cost_ns(&s->costs, b->n_runs);

	s->kept[i] = kept;
	a->spec.replay = kept - 1;
	if (run->drafted)
		seq_cut(a->seq, run->pos + kept);
	learn(e, a, kept);
	/* the estimates, not the step's own time: what disturbs a machine is no loss of ours */
	cost = b->n_drafted && cost > 0 ? cost : 1;
	count_run(e, a, kept, (double)step_ns / cost, step_ns + a->spec.source_ns);
	if (plain > 0)
		cost += book_source(&a->spec, plain);
	spec_book(&a->spec.history, kept, cost);
	if (s->mtp && spec_wants(a, DRAFT_MTP) && !a->request->draft_length)
		mtp_learn(s->mtp, e->run_owner[i], kept, cost);
	a->spec.source_ns = 0;
}

/* What so many columns of one sequence cost, apart for experts and all else. */
static void count_columns(struct engine *e, const struct batch *b, uint64_t step_ns)
{
	struct spec *s = e->spec;
	uint64_t ns, experts;

	if (b->n_runs != 1 || b->n_tokens > ENGINE_COLUMNS)
		return;
	decoder_get_routed(e->decoder, &ns, &experts);
	add(&s->total.by_columns[b->n_tokens - 1].steps, 1);
	add(&s->total.by_columns[b->n_tokens - 1].step_ns, step_ns);
	add(&s->total.by_columns[b->n_tokens - 1].expert_ns, ns - s->routed_ns);
	add(&s->total.by_columns[b->n_tokens - 1].experts, experts - s->n_routed);
}

void spec_after_step(struct engine *e, const struct batch *b)
{
	struct spec *s = e->spec;
	uint64_t step_ns = now_ns() - s->started_ns;

	if (!s->planned) { /* prompts beside: what decodes had one token each */
		for (uint32_t i = 0; i < b->n_runs; i++)
			e->active[e->run_owner[i]].spec.replay = 0;
		return;
	}
	count_columns(e, b, step_ns);
	spec_cost(&s->costs, b->n_tokens, step_ns);
	for (uint32_t i = 0; i < b->n_runs; i++)
		end_run(e, b, i, step_ns);
	if (b->n_drafted && s->routed)
		routed_commit(s->routed, b, e->step, s->kept, e->trace, e->supply);
}

void spec_step_given_up(struct engine *e, const struct batch *b)
{
	struct spec *s = e->spec;

	if (!b->n_drafted || !s->routed)
		return;
	for (uint32_t i = 0; i < b->n_runs; i++) /* uses of these were counted as layers began */
		s->kept[i] = b->runs[i].count - b->runs[i].drafted;
	routed_commit(s->routed, b, e->step, s->kept, e->trace, e->supply);
}

void spec_read_prompts(struct engine *e, const struct batch *b, uint64_t step_ns)
{
	if (e->spec->mtp && b->n_tokens > e->n_decoding + b->n_drafted)
		mtp_read_prompts(e->spec->mtp, e, b, step_ns);
}

void spec_guess(struct engine *e, const struct batch *b)
{
	struct spec *s = e->spec;
	uint64_t ns;

	if (!s->mtp)
		return;
	ns = mtp_after_step(s->mtp, e, b);
	for (uint32_t i = 0; i < e->config.n_parallel; i++) /* all wait for it */
		e->active[i].spec.source_ns += decodes(&e->active[i]) ? ns : 0;
}

void spec_forget(struct engine *e, struct active *a)
{
	a->spec.replay = 0;
	if (e->spec->mtp)
		mtp_forget(e->spec->mtp, (uint32_t)(a - e->active));
}

void spec_settle(struct engine *e, struct active *a)
{
	struct batch_run run = { .seq = a->seq,
				 .pos = seq_len(a->seq),
				 .replay = a->spec.replay,
				 .store = a->spec.store };

	decoder_replay(e->decoder, &run);
	a->spec.replay = 0;
}

void spec_get_counts(const struct engine *e, struct spec_counts *ret)
{
	const struct spec *s = e->spec;

	for (unsigned k = 0; k < DRAFT_NR; k++) {
		ret->drafted[k] = atomic_load(&s->total.drafted[k]);
		ret->accepted[k] = atomic_load(&s->total.accepted[k]);
	}
	ret->steps = atomic_load(&s->total.steps);
	ret->columns = atomic_load(&s->total.columns);
	ret->tokens = atomic_load(&s->total.tokens);
	ret->plain_ns = atomic_load(&s->total.plain_ns);
	ret->step_ns = atomic_load(&s->total.step_ns);
}

void spec_get_columns(const struct engine *e, struct column_cost ret[ENGINE_COLUMNS])
{
	const struct spec *s = e->spec;

	for (unsigned i = 0; i < ENGINE_COLUMNS; i++)
		ret[i] = (struct column_cost){
			.steps = atomic_load(&s->total.by_columns[i].steps),
			.step_ns = atomic_load(&s->total.by_columns[i].step_ns),
			.expert_ns = atomic_load(&s->total.by_columns[i].expert_ns),
			.experts = atomic_load(&s->total.by_columns[i].experts),
		};
}
