/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/mtp.c: what the head reads of a step, and what it guesses of the next. What it is made of is
 * mtp_make.c's. See mtp.h.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "engine/engine_private.h"
#include "engine/logprobs.h"
#include "engine/mtp_private.h"
#include "kernels/cpu/fops.h"

#define SURE	  0.4f	/* guesses go on while all of them are right with this probability */
#define VALUE_NEW 0.06f /* weight of the newest step in what the head is worth */
#define LAST_REST 4096

void *mtp_source(struct mtp *m, uint32_t i)
{
	return &m->places[i];
}

/* guess_on() looks at all places, those without a run in the step too: none goes on from a guess that is gone. */
static void forget(struct mtp_place *p)
{
	seq_cut(p->seq, 0);
	p->n = p->left = 0;
	p->guesses = false;
}

void mtp_forget(struct mtp *m, uint32_t i)
{
	forget(&m->places[i]);
}

/* decoder_logits_fn: the best token of each row, and how sure the head is of it. */
static void on_logits(void *arg, const uint32_t *columns, uint32_t n, const float *logits,
		      size_t ld)
{
	struct mtp *m = arg;

	for (uint32_t i = 0; i < n; i++) {
		struct mtp_place *p = &m->places[m->owner[m->run_of[columns[i]]]];
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
	for (uint32_t i = 0; i < m->n && m->batch.n_tokens < MTP_BATCH; i++) {
		struct mtp_place *p = &m->places[i];
		const struct active *a = &e->active[i];
		uint32_t n = (uint32_t)u64_min(p->left, MTP_BATCH - m->batch.n_tokens), first;

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
	const float *from[MTP_BATCH];

	clear_batch(m);
	for (uint32_t i = 0; i < m->n && m->batch.n_tokens < MTP_BATCH; i++) {
		struct mtp_place *p = &m->places[i];
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
	struct mtp_place *p = &m->places[at];
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
		struct mtp_place *p = &m->places[at];
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
	struct mtp_place *p = &m->places[i];

	if (p->rest) {
		p->rest -= p->rest < kept ? p->rest : kept;
		return;
	}
	p->value += VALUE_NEW * ((float)(kept - cost) - p->value);
	if (++p->steps < MTP_FIRST_REST / 2 || p->value > 0)
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
	struct mtp_place *p = d;

	forget(p);
	p->rest = p->steps = 0;
	p->next_rest = MTP_FIRST_REST;
	p->value = 0;
}

static void no_add(void *d, const uint32_t *ids, uint32_t n)
{
}

static uint32_t guess(void *d, uint32_t most, struct draft_guess *ret)
{
	const struct mtp_place *p = d;
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
