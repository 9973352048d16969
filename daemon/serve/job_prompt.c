/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/job_prompt.c: log-probabilities of a prompt's tokens, as echo and prompt_logprobs tell them. See
 * job.h.
 *
 * Of each token 2 + 2 n words, of the n likeliest that were asked for: 16 bytes for one of them, 168 for
 * twenty. The engine's thread writes them in order of tokens, all before it publishes the first token of the
 * answer or done; the main thread reads behind that.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "serve/job.h"
#include "serve/private.h"

static size_t likely_of(const struct request *r)
{
	return r->n_logprobs - 1 < LOGPROBS_MAX ? r->n_logprobs - 1 : LOGPROBS_MAX;
}

static size_t words_of(const struct request *r)
{
	return 2 + 2 * likely_of(r);
}

int job_prompt_room(struct job *j)
{
	j->prompt_logprobs =
		calloc(j->req.n_tokens, words_of(&j->req) * sizeof(*j->prompt_logprobs));
	return j->prompt_logprobs ? 0 : -ENOMEM;
}

void job_prompt_take(struct request *r, uint32_t i, const struct token_logprobs *l)
{
	struct job *j = r->arg;
	size_t n = likely_of(r);
	uint32_t *to = j->prompt_logprobs + i * words_of(r);

	memcpy(to, &l->logprob, sizeof(l->logprob));
	to[1] = l->rank;
	memcpy(to + 2, l->ids, l->n * sizeof(*l->ids));
	memcpy(to + 2 + n, l->logprobs, l->n * sizeof(*l->logprobs));
}

static const struct token_logprobs *unpack(struct job *j, uint32_t i)
{
	size_t n = likely_of(&j->req), n_vocab = j->serve->config.model->n_vocab;
	const uint32_t *from = j->prompt_logprobs + i * words_of(&j->req);
	struct token_logprobs *l = &j->unpacked;

	l->n = (uint32_t)(n < n_vocab ? n : n_vocab);
	memcpy(&l->logprob, from, sizeof(l->logprob));
	l->rank = from[1];
	memcpy(l->ids, from + 2, n * sizeof(*l->ids));
	memcpy(l->logprobs, from + 2 + n, n * sizeof(*l->logprobs));
	return l;
}

bool job_prompt_next(struct job *j, bool done, struct event *ret)
{
	uint32_t i = j->n_prompt_sent;
	bool read = done && (j->result.stop == STOP_EOG || j->result.stop == STOP_LENGTH);

	if (!j->prompt_logprobs || i == j->req.n_tokens)
		return false;
	/* pairs with the release in on_token() */
	if (!read && !atomic_load_explicit(&j->n_out, memory_order_acquire))
		return false;
	ret->kind = EVENT_PROMPT_TOKEN;
	ret->u.prompt_token.token = j->prompt[i];
	ret->u.prompt_token.logprobs = i ? unpack(j, i) : NULL;
	j->n_prompt_sent++;
	ret->u.prompt_token.last = j->n_prompt_sent == j->req.n_tokens;
	return true;
}
