/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/pick.c: from a place's row of logits to its next token: what the sampler is told of
 * the place, and the log-probabilities that go with the token. Engine thread; engine_find_ends() at
 * start.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/engine_private.h"
#include "engine/logprobs.h"
#include "grammar/matcher.h"

int engine_find_ends(struct engine *e)
{
	uint32_t n_vocab = tokenizer_n_vocab(e->tokenizer);

	for (uint32_t pass = 0, n = 0; pass < 2; pass++, n = 0) {
		for (uint32_t id = 0; id < n_vocab; id++)
			if (tokenizer_is_eog(e->tokenizer, id)) {
				if (pass)
					e->ends[n] = id;
				n++;
			}
		if (!pass) {
			e->ends = calloc(n + 1, sizeof(*e->ends));
			if (!e->ends)
				return -ENOMEM;
		}
		e->n_ends = n;
	}
	for (uint32_t i = 0; i < e->config.n_parallel; i++)
		sampler_ends(&e->active[i].sampler, e->ends, e->n_ends);
	return 0;
}

/* What the form allows next. 0, or -errno where it cannot be told. */
static int allowed(struct engine *e, const struct request *r, struct sampler_past *past)
{
	past->n_allowed = tokenizer_n_vocab(e->tokenizer);
	if (matcher_ended(r->form)) /* nothing but the end, however short the answer */
		past->n_generated = UINT32_MAX;
	return matcher_mask(r->form, &past->allowed);
}

int engine_pick(struct engine *e, struct active *a, const float *row, uint32_t *ret_id)
{
	const struct request *r = a->request;
	struct speculation *s = &a->spec;
	struct sampler_past past = {
		.ids = a->ids,
		.n_ids = a->n_ids,
		.more = s->picked,
		.n_more = s->n_picked,
		.n_generated = a->n_generated + s->n_picked,
	};
	uint32_t n_vocab = e->model->n_vocab;
	int rc = r->form ? allowed(e, r, &past) : 0;

	if (!rc)
		rc = sampler_pick_after(&a->sampler, row, n_vocab, &past, ret_id);
	if (!rc && r->form && matcher_token(r->form, *ret_id) < 0)
		rc = -EDOM;
	if (!rc && r->n_logprobs)
		logits_logprobs(row, n_vocab, *ret_id, engine_n_likely(r),
				&a->logprobs[s->n_picked]);
	return rc;
}

void engine_observe_token(struct engine *e, const struct active *a, uint64_t now)
{
	if (a->n_generated)
		histogram_observe(&e->latency[LATENCY_TOKEN], now - a->last_token_ns);
	else
		histogram_observe(&e->latency[LATENCY_FIRST], now - a->request->submitted_ns);
}
