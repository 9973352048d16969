/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/serve/fake_rooms.c: stand-ins for the rooms below serve/: an engine that echoes its
 * prompt and a tokenizer whose tokens are bytes. Included by tests (and the protocol's fuzzer)
 * before they link, so that the real rooms are not pulled in.
 *
 * The engine: one thread, requests one after the other. GENERATE answers with the prompt's tokens
 * over and over; FAKE_EOG in them ends it. SCORE gives logits[i][v] = token i * 1000 + v and
 * log-probability -i. fake.* steers it: delay per token, prompts read in chunks, holding back,
 * failures.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "engine/engine.h"
#include "engine/saved.h"
#include "model/gguf.h"

#define FAKE_VOCAB 300
#define FAKE_EOG   256 /* <|im_end|> */
#define FAKE_START 257 /* <|im_start|> */
#define FAKE_CTX   65536

struct engine {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct request *head, **tail;
	bool stop, started;
	int state_fd;
	_Atomic uint32_t open;	  /* submitted and not done */
	_Atomic uint32_t touched; /* submitted, and done() may still be on its way out */
};

static struct {
	_Atomic enum engine_state state;
	_Atomic unsigned token_us; /* delay before each token */
	_Atomic unsigned chunk; /* > 0: prompts are read so many tokens at a time, with progress */
	_Atomic unsigned chunk_us; /* delay before each of them */
	_Atomic bool hold;	   /* requests wait until cancelled */
	_Atomic bool cut;	   /* engine_stop() ends what runs and waits */
	_Atomic int fail_after;	   /* > 0: STOP_ERROR with -EIO after so many tokens */
	_Atomic int refuse;	   /* engine_submit() gives this */
	_Atomic uint64_t tokens;
	_Atomic unsigned statuses, checks; /* calls of engine_get_status(), engine_check_files() */
	_Atomic bool changed;		   /* the model's files are others */
} fake = { .state = ENGINE_READY };

static void nap(unsigned us)
{
	struct timespec t = { .tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000 };

	if (us)
		nanosleep(&t, NULL);
}

static bool cancelled(struct request *r)
{
	return atomic_load(&r->cancel) || atomic_load(&fake.cut);
}

/* False where it was cancelled on the way. */
static bool fake_read(struct request *r, struct request_result *res)
{
	uint32_t chunk = atomic_load(&fake.chunk);

	res->n_prompt = chunk ? 0 : r->n_tokens;
	while (!cancelled(r) && res->n_prompt < r->n_tokens) {
		uint32_t left = r->n_tokens - res->n_prompt;

		nap(atomic_load(&fake.chunk_us));
		res->n_prompt += left < chunk ? left : chunk;
		if (r->want_progress)
			r->ops->progress(r, res->n_prompt, (double)res->n_prompt / r->n_tokens);
	}
	return !cancelled(r);
}

static void fake_generate(struct request *r, struct request_result *res)
{
	res->stop = STOP_LENGTH;
	for (uint32_t i = 0; i < r->max_tokens; i++) {
		uint32_t id = r->tokens[i % r->n_tokens];
		int after = atomic_load(&fake.fail_after);

		nap(atomic_load(&fake.token_us));
		if (cancelled(r)) {
			res->stop = STOP_CANCELLED;
			return;
		}
		if (after && i >= (uint32_t)after) {
			res->stop = STOP_ERROR;
			res->error = -EIO;
			err_set(&res->err, 0, "layer 3 expert 7: read failed");
			return;
		}
		r->ops->token(r, id);
		res->n_generated++;
		atomic_fetch_add(&fake.tokens, 1);
		if (id == FAKE_EOG && !r->ignore_eog) {
			res->stop = STOP_EOG;
			return;
		}
	}
}

static void fake_score(struct request *r, struct request_result *res)
{
	static float rows[64][FAKE_VOCAB];

	res->stop = STOP_LENGTH;
	for (uint32_t i = 0; i < r->n_tokens && !cancelled(r); i += 64) {
		uint32_t n = r->n_tokens - i < 64 ? r->n_tokens - i : 64;

		for (uint32_t j = 0; r->want_logits && j < n; j++)
			for (uint32_t v = 0; v < FAKE_VOCAB; v++)
				rows[j][v] = (float)(r->tokens[i + j] * 1000 + v);
		if (r->want_logits)
			r->ops->logits(r, i, n, rows[0], FAKE_VOCAB);
		for (uint32_t j = i ? i : 1; r->want_logprobs && j < i + n; j++)
			r->ops->logprob(r, j, -(double)j);
	}
	if (cancelled(r))
		res->stop = STOP_CANCELLED;
}

static void fake_run(struct engine *e, struct request *r)
{
	struct request_result res = {
		.hits = 30, .misses = 10, .bytes_read = 4096, .span_ns = 1000
	};

	while (atomic_load(&fake.hold) && !cancelled(r))
		nap(200);
	if (!fake_read(r, &res))
		res.stop = STOP_CANCELLED;
	else if (r->want_logits || r->want_logprobs)
		fake_score(r, &res);
	else
		fake_generate(r, &res);
	if (res.stop == STOP_CANCELLED && !atomic_load(&r->cancel)) {
		res.stop = STOP_ERROR; /* not its client's wish, as in the real one */
		res.error = err_set(&res.err, -ESHUTDOWN, "the daemon is stopping");
	}
	atomic_fetch_sub(&e->open, 1);
	r->ops->done(r, &res);
}

static void *fake_thread(void *arg)
{
	struct engine *e = arg;

	pthread_mutex_lock(&e->lock);
	for (;;) {
		struct request *r;

		while (!e->head && !e->stop)
			pthread_cond_wait(&e->wake, &e->lock);
		r = e->head;
		if (!r)
			break;
		e->head = r->next;
		if (!e->head)
			e->tail = &e->head;
		pthread_mutex_unlock(&e->lock);
		fake_run(e, r);
		atomic_fetch_sub(&e->touched, 1);
		pthread_mutex_lock(&e->lock);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

int engine_create(const struct engine_config *config, const struct model *model,
		  const struct tokenizer *tokenizer, struct engine **ret, struct err *err)
{
	struct engine *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->wake, NULL);
	e->tail = &e->head;
	e->state_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	*ret = e;
	return 0;
}

int engine_start(struct engine *e, struct err *err)
{
	e->started = !pthread_create(&e->thread, NULL, fake_thread, e);
	return e->started ? 0 : -EAGAIN;
}

void engine_stop(struct engine *e)
{
	enum engine_state loading = ENGINE_STARTING;
	uint64_t one = 1;

	if (atomic_compare_exchange_strong(&fake.state, &loading, ENGINE_FAILED) &&
	    write(e->state_fd, &one, sizeof(one)) < 0)
		abort();
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	atomic_store(&fake.cut, true);
	atomic_store(&fake.hold, false);
	pthread_cond_signal(&e->wake);
	pthread_mutex_unlock(&e->lock);
}

void engine_destroy(struct engine *e)
{
	if (!e)
		return;
	engine_stop(e);
	if (e->started)
		pthread_join(e->thread, NULL);
	atomic_store(&fake.cut, false);
	close(e->state_fd);
	free(e);
}

int engine_state_fd(const struct engine *e)
{
	return e->state_fd;
}

bool engine_get_uses(const struct engine *e, uint32_t layer, uint32_t *ret)
{
	return false;
}

void engine_get_place(const struct engine *e, uint32_t i, struct engine_place *ret)
{
	*ret = (struct engine_place){ 0 };
}

int engine_saved(struct engine *e, struct saved_ask *a, struct err *err)
{
	return err_set(err, -ENOTSUP, "nothing is saved here");
}

bool saved_name_ok(const char *name)
{
	return name[0] != '.';
}

uint32_t engine_n_ctx(const struct engine *e)
{
	return FAKE_CTX;
}

int engine_check_files(const struct engine *e, struct err *err)
{
	atomic_fetch_add(&fake.checks, 1);
	return atomic_load(&fake.changed) ? err_set(err, 0, "m.gguf is another file now") : 0;
}

uint64_t engine_progress(const struct engine *e)
{
	return 0;
}

void engine_get_status(const struct engine *e, struct engine_status *ret)
{
	atomic_fetch_add(&fake.statuses, 1);
	*ret = (struct engine_status){
		.state = atomic_load(&fake.state),
		.failure = "the disk is on fire",
		.load_bytes = 1,
		.load_bytes_total = 2,
		.budget_bytes = 1 << 20,
		.resident_bytes = 1 << 19,
		.experts_total = 64,
		.experts_resident = 32,
		.hits = 3,
		.misses = 1,
		.tokens_generated = atomic_load(&fake.tokens),
		.active = atomic_load(&e->open),
		.n_ctx = FAKE_CTX,
		.n_parallel = 4,
		.n_batch = 512,
		.threads = 1,
		.cpu = "fake",
		.io = "uring",
		.arena = "thp",
		.policy = "lfu",
		.kv = "f16",
		.fallbacks = { "no hugepages", "no io_uring" },
	};
}

int engine_submit(struct engine *e, struct request *r, struct err *err)
{
	if (atomic_load(&fake.refuse))
		return err_set(err, atomic_load(&fake.refuse), "refused by the test");
	if (!r->n_tokens)
		return err_set(err, -EINVAL, "empty prompt");
	atomic_fetch_add(&e->open, 1);
	atomic_fetch_add(&e->touched, 1);
	pthread_mutex_lock(&e->lock);
	r->next = NULL;
	*e->tail = r;
	e->tail = &r->next;
	pthread_cond_signal(&e->wake);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

/* ---- a tokenizer of bytes ---- */

struct tokenizer {
	int unused;
};

static struct tokenizer fake_tokenizer;
static struct model fake_model = { .arch_name = "fakemoe",
				   .name = "echo",
				   .n_layers = 2,
				   .n_vocab = FAKE_VOCAB,
				   .n_ctx_train = FAKE_CTX,
				   .n_expert = 32,
				   .n_expert_used = 4 };

uint32_t tokenizer_n_vocab(const struct tokenizer *t)
{
	return FAKE_EOG + 2;
}

ssize_t tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, bool special,
			 uint32_t **ret_ids)
{
	uint32_t *ids = malloc((len + 1) * sizeof(*ids));
	ssize_t n = 0;

	if (!ids)
		return -ENOMEM;
	for (size_t i = 0; i < len; i++)
		ids[n++] = special && text[i] == '$' ? FAKE_EOG : (unsigned char)text[i];
	*ret_ids = ids;
	return n;
}

ssize_t tokenizer_encode_prompt(const struct tokenizer *t, const char *text, size_t len,
				bool special, uint32_t **ret_ids)
{
	return tokenizer_encode(t, text, len, special, ret_ids);
}

ssize_t tokenizer_encode_spans(const struct tokenizer *t, const char *text, size_t len,
			       const struct text_span *trusted, size_t n, uint32_t **ret_ids)
{
	return tokenizer_encode(t, text, len, n > 0, ret_ids);
}

size_t tokenizer_piece(const struct tokenizer *t, uint32_t id, bool special, const char **ret_bytes)
{
	static char bytes[256];

	if (id >= 256) {
		*ret_bytes = special ? "<|im_end|>" : "";
		return strlen(*ret_bytes);
	}
	bytes[id] = (char)id;
	*ret_bytes = &bytes[id];
	return 1;
}

bool tokenizer_is_eog(const struct tokenizer *t, uint32_t id)
{
	return id == FAKE_EOG;
}

int64_t tokenizer_special_id(const struct tokenizer *t, const char *text)
{
	if (!strcmp(text, "<|im_end|>"))
		return FAKE_EOG;
	return !strcmp(text, "<|im_start|>") ? FAKE_START : -1;
}

void detok_init(struct detok *d, const struct tokenizer *t, bool special)
{
	memset(d, 0, sizeof(*d));
	d->t = t;
	d->special = special;
}

ssize_t detok_push(struct detok *d, uint32_t id, char *buf, size_t len)
{
	const char *bytes;
	size_t n = tokenizer_piece(d->t, id, d->special, &bytes);

	if (n > len)
		return -ENOSPC;
	memcpy(buf, bytes, n);
	return (ssize_t)n;
}

ssize_t detok_flush(struct detok *d, char *buf, size_t len)
{
	return 0;
}

size_t detok_bound(const struct tokenizer *t)
{
	return 64;
}

bool chat_possible(const struct gguf *g, const struct tokenizer *t)
{
	return true;
}

ssize_t chat_encode(const struct gguf *g, const struct tokenizer *t, const struct chat_turn *turn,
		    uint32_t **ret_ids, struct err *err)
{
	uint32_t *ids;
	ssize_t n;

	if (turn->thinking == CHAT_NO_THINK)
		return err_set(err, -ENOTSUP, "the fake always thinks");
	n = tokenizer_encode(t, turn->user, turn->user_len, turn->special, &ids);
	if (n < 0)
		return n;
	ids = realloc(ids, ((size_t)n + 2) * sizeof(*ids));
	memmove(ids + 1, ids, (size_t)n * sizeof(*ids));
	ids[0] = turn->system ? (unsigned char)turn->system[0] : FAKE_START;
	if (turn->thinking == CHAT_THINK)
		ids[0] = '?';
	*ret_ids = ids;
	return n + 1;
}

int gguf_u32(const struct gguf *g, const char *key, uint32_t *ret, struct err *err)
{
	return -ENOENT;
}
