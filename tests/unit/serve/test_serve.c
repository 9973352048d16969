/* SPDX-License-Identifier: MIT */
/* Description: clients of the real serve loop with a fake engine: answers, cancels, limits. */
#include "serve_rig.h"

/* ---- what clients are for ---- */

struct heard {
	char text[65536];
	size_t len;
	uint32_t n_tokens, last;
	uint32_t stop_after;
	struct sluice *cancel;
};

static int hear(void *arg, const struct sluice_piece *piece)
{
	size_t bytes = piece->bytes;
	struct heard *h = arg;

	if (h->len + bytes < sizeof(h->text)) {
		memcpy(h->text + h->len, piece->text, bytes);
		h->len += bytes;
		h->text[h->len] = '\0';
	}
	h->n_tokens++;
	h->last = piece->token;
	if (h->cancel)
		sluice_cancel(h->cancel);
	return h->stop_after && h->n_tokens >= h->stop_after;
}

static struct heard heard;

static struct sluice_prompt text_prompt(const char *text, uint32_t flags)
{
	return (struct sluice_prompt){ .struct_size = sizeof(struct sluice_prompt),
				       .flags = flags,
				       .text = text,
				       .text_bytes = strlen(text) };
}

static int generate(struct sluice *s, const char *text, uint32_t flags, uint32_t max_tokens,
		    struct sluice_done *done)
{
	struct sluice_prompt p = text_prompt(text, flags);
	struct sluice_settings how = { .struct_size = sizeof(how), .max_tokens = max_tokens };

	memset(&heard, 0, sizeof(heard));
	return sluice_generate(s, &p, &how, hear, &heard, done, NULL);
}

static void echo(void **state)
{
	struct sluice *s = client();
	struct sluice_done done = { .struct_size = sizeof(done) };

	assert_int_equal(sluice_daemon(s)->version, SLUICE_PROTO_VERSION);
	assert_int_equal(sluice_daemon(s)->max_requests, SERVE_MAX_REQUESTS);
	assert_int_equal(generate(s, "Hello", 0, 7, &done), 0);
	assert_string_equal(heard.text, "HelloHe");
	assert_int_equal(done.stop, SLUICE_STOP_LENGTH);
	assert_int_equal(done.n_prompt, 5);
	assert_int_equal(done.n_generated, 7);
	assert_int_equal(done.hits, 30);
	assert_int_equal(done.bytes_read, 4096);
	/* a special token in the text is parsed only where asked; it ends the answer */
	assert_int_equal(generate(s, "ab$c", 0, 6, &done), 0);
	assert_string_equal(heard.text, "ab$cab");
	assert_int_equal(generate(s, "ab$c", SLUICE_SPECIAL, 6, &done), 0);
	assert_string_equal(heard.text, "ab");
	assert_int_equal(heard.last, FAKE_EOG);
	assert_int_equal(done.stop, SLUICE_STOP_EOG);
	assert_int_equal(done.n_generated, 3);
	/* chat puts its frame around it */
	assert_int_equal(generate(s, "x", SLUICE_CHAT, 2, &done), 0);
	assert_int_equal(done.n_prompt, 2);
	/* only reading the prompt in */
	assert_int_equal(generate(s, "Hello", 0, 0, &done), 0);
	assert_int_equal(done.n_generated, 0);
	sluice_close(s);
}

static void settings(void **state)
{
	struct sluice *s = client();
	uint32_t ids[] = { 'a', FAKE_EOG, 'b' }, bad[] = { 'a', FAKE_VOCAB };
	struct sluice_prompt p = { .struct_size = sizeof(p), .tokens = ids, .n_tokens = 3 };
	struct sluice_settings how = { .struct_size = sizeof(how),
				       .max_tokens = 3,
				       .flags = SLUICE_IGNORE_EOG | SLUICE_RAW };
	struct sluice_fault fault;
	struct sluice_done done = { .struct_size = sizeof(done) };

	memset(&heard, 0, sizeof(heard));
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), 0);
	assert_string_equal(heard.text, "a<|im_end|>b");
	how.temperature = -1;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EINVAL);
	assert_int_equal(fault.code, SLUICE_E_INVALID);
	how.temperature = 0;
	how.n_untimed = 4;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EINVAL);
	how.n_untimed = 3;
	p.tokens = bad;
	p.n_tokens = 2;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EINVAL);
	assert_string_equal(fault.text, "token 300 at position 1: the vocabulary has 300");
	p.n_tokens = 0;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EINVAL);
	sluice_close(s);
}

static void questions(void **state)
{
	struct sluice *s = client();
	struct sluice_model_info model = { .struct_size = sizeof(model) };
	struct sluice_status_info status = { .struct_size = sizeof(status) };
	struct sluice_prompt p = text_prompt("ab", 0);
	char text[256], *back;
	uint32_t *ids;
	size_t n;

	assert_int_equal(sluice_get_model(s, &model, text, sizeof(text), NULL), 0);
	assert_string_equal(model.arch, "fakemoe");
	assert_string_equal(text, "/models/echo.gguf");
	assert_int_equal(model.n_ctx, FAKE_CTX);
	assert_true(model.flags & SLUICE_MODEL_HAS_CHAT);
	assert_int_equal(model.file_type, UINT32_MAX);
	assert_int_equal(sluice_get_status(s, &status, text, sizeof(text), NULL), 0);
	assert_string_equal(text, "no hugepages\nno io_uring");
	assert_string_equal(status.io, "uring");
	assert_int_equal(status.state, SLUICE_STATE_READY);
	assert_int_equal(status.experts_resident, 32);
	assert_int_equal(status.connections, 1);
	assert_int_equal(sluice_tokenize(s, &p, &ids, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_int_equal(ids[1], 'b');
	assert_int_equal(sluice_detokenize(s, ids, n, 0, &back, &n, NULL), 0);
	assert_string_equal(back, "ab");
	free(ids);
	free(back);
	sluice_close(s);
}

/* Thinking is the chat form's, one way or the other, and where it cannot be had the sentence says so. */
static void thinking(void **state)
{
	struct sluice_prompt p = { .struct_size = sizeof(p), .text = "Hi", .text_bytes = 2 };
	struct sluice *s = client();
	struct sluice_fault fault;
	uint32_t *ids;
	size_t n;

	p.flags = SLUICE_CHAT | SLUICE_THINK;
	assert_int_equal(sluice_tokenize(s, &p, &ids, &n, &fault), 0);
	assert_int_equal(ids[0], '?'); /* see fake_rooms.c */
	free(ids);
	p.flags = SLUICE_CHAT | SLUICE_NO_THINK;
	assert_int_equal(sluice_tokenize(s, &p, &ids, &n, &fault), -ENOTSUP);
	assert_string_equal(fault.text, "the fake always thinks");
	assert_int_equal(fault.code, SLUICE_E_UNSUPPORTED);
	p.flags = SLUICE_CHAT | SLUICE_THINK | SLUICE_NO_THINK;
	assert_int_equal(sluice_tokenize(s, &p, &ids, &n, &fault), -EINVAL);
	assert_int_equal(fault.code, SLUICE_E_INVALID);
	p.flags = SLUICE_THINK;
	assert_int_equal(sluice_tokenize(s, &p, &ids, &n, &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "chat"));
	sluice_close(s);
}

/* The ids of a prompt are those that generating reads, and nothing of it is left out. */
static void whole_prompts(void **state)
{
	struct sluice_settings how = { .struct_size = sizeof(how), .max_tokens = 1 };
	struct sluice_prompt p = { .struct_size = sizeof(p),
				   .flags = SLUICE_CHAT,
				   .text = "Hello",
				   .text_bytes = 5,
				   .system = "Be brief." };
	struct sluice_done done = { .struct_size = sizeof(done) };
	struct sluice *s = client();
	struct sluice_fault fault;
	uint32_t one = 'x', *ids;
	size_t n;

	assert_int_equal(sluice_tokenize(s, &p, &ids, &n, &fault), 0);
	assert_int_equal(n, 6);
	assert_int_equal(ids[0], 'B'); /* of the system text: see fake_rooms.c */
	assert_int_equal(ids[5], 'o');
	free(ids);
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, &fault), 0);
	assert_int_equal(done.n_prompt, n);
	p.flags = 0;
	assert_int_equal(sluice_tokenize(s, &p, &ids, &n, &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "SLUICE_CHAT"));
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, &fault), -EINVAL);
	assert_int_equal(sluice_score(s, &p, NULL, NULL, NULL, NULL, &fault), -EINVAL);
	p.tokens = &one;
	p.n_tokens = 1;
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "tokens or text"));
	p.text = p.system = NULL;
	assert_int_equal(sluice_tokenize(s, &p, &ids, &n, &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "takes text"));
	sluice_close(s);
}

/* Requests look at no file and gather no status; who asks for the status hears of changed files. */
static void cheap_requests(void **state)
{
	struct sluice_status_info status = { .struct_size = sizeof(status) };
	struct sluice_done done = { .struct_size = sizeof(done) };
	struct sluice *s = client();
	unsigned statuses, checks;
	char text[256];

	/* the answer of this one says that the engine's state at the start has been looked at */
	assert_int_equal(sluice_get_status(s, &status, text, sizeof(text), NULL), 0);
	statuses = atomic_load(&fake.statuses);
	checks = atomic_load(&fake.checks);
	for (int i = 0; i < 3; i++)
		assert_int_equal(generate(s, "Hello", 0, 7, &done), 0);
	assert_int_equal(atomic_load(&fake.statuses), statuses);
	assert_int_equal(atomic_load(&fake.checks), checks);
	atomic_store(&fake.changed, true);
	assert_int_equal(sluice_get_status(s, &status, text, sizeof(text), NULL), 0);
	assert_string_equal(text, "no hugepages\nno io_uring\nm.gguf is another file now");
	assert_int_equal(atomic_load(&fake.checks), checks + 1);
	atomic_store(&fake.changed, false);
	sluice_close(s);
}

/* Payloads above 64 KiB in both directions. */
static void long_payloads(void **state)
{
	enum { N = 60000 };
	struct sluice *s = client();
	struct sluice_settings how = { .struct_size = sizeof(how), .max_tokens = 20 };
	struct sluice_prompt p = { .struct_size = sizeof(p) };
	struct sluice_done done = { .struct_size = sizeof(done) };
	struct sluice_fault fault;
	uint32_t *ids = malloc(N * sizeof(*ids)), *again;
	char *text = malloc(N), *back;
	size_t n;

	for (size_t i = 0; i < N; i++) {
		ids[i] = 'a' + i % 26;
		text[i] = (char)ids[i];
	}
	memset(&heard, 0, sizeof(heard));
	p.tokens = ids;
	p.n_tokens = N;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), 0);
	assert_int_equal(done.n_prompt, N);
	assert_string_equal(heard.text, "abcdefghijklmnopqrst");
	assert_int_equal(sluice_detokenize(s, ids, N, 0, &back, &n, &fault), 0);
	assert_int_equal(n, N);
	assert_memory_equal(back, text, N);
	p.tokens = NULL;
	p.text = text;
	p.text_bytes = N;
	assert_int_equal(sluice_tokenize(s, &p, &again, &n, &fault), 0);
	assert_int_equal(n, N);
	assert_memory_equal(again, ids, N * sizeof(*ids));
	free(again);
	free(back);
	p.text = NULL;
	p.tokens = ids;
	p.n_tokens = SLUICE_PAYLOAD_MAX;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EFBIG);
	free(ids);
	free(text);
	sluice_close(s);
}

struct rows {
	uint32_t n, next;
	bool bad;
};

static int take_rows(void *arg, uint32_t first, uint32_t n_rows, uint32_t n_vocab,
		     const float *logits)
{
	struct rows *r = arg;

	r->bad |= first != r->next || n_vocab != FAKE_VOCAB;
	for (uint32_t i = 0; i < n_rows; i++)
		for (uint32_t v = 0; v < n_vocab; v++)
			r->bad |= logits[i * n_vocab + v] !=
				  (float)(((first + i) % 251) * 1000 + v);
	r->next += n_rows;
	r->n += n_rows;
	return 0;
}

static void score(void **state)
{
	enum { N = 9000 }; /* several chunks; log-probabilities above 64 KiB */
	struct sluice *s = client();
	struct sluice_prompt p = { .struct_size = sizeof(p), .n_tokens = N };
	struct rows rows = { 0 };
	struct sluice_done done = { .struct_size = sizeof(done) };
	double *logprobs;
	uint32_t *ids = malloc(N * sizeof(*ids));

	for (uint32_t i = 0; i < N; i++)
		ids[i] = i % 251;
	p.tokens = ids;
	assert_int_equal(sluice_score(s, &p, take_rows, &rows, &logprobs, &done, NULL), 0);
	assert_int_equal(rows.n, N);
	assert_false(rows.bad);
	assert_int_equal(done.n_prompt, N);
	for (uint32_t i = 0; i + 1 < N; i++)
		assert_true(logprobs[i] == -(double)(i + 1));
	free(logprobs);
	/* one token: no loss to speak of, one row */
	p.n_tokens = 1;
	memset(&rows, 0, sizeof(rows));
	assert_int_equal(sluice_score(s, &p, take_rows, &rows, &logprobs, &done, NULL), 0);
	assert_int_equal(rows.n, 1);
	free(logprobs);
	free(ids);
	sluice_close(s);
}

static void too_long(void **state)
{
	struct sluice *s = client();
	uint32_t *ids = calloc(FAKE_CTX + 1, sizeof(*ids));
	struct sluice_prompt p = { .struct_size = sizeof(p),
				   .tokens = ids,
				   .n_tokens = FAKE_CTX + 1 };
	struct sluice_settings how = { .struct_size = sizeof(how), .max_tokens = 1 };
	struct sluice_fault fault;
	struct sluice_done done = { .struct_size = sizeof(done) };
	char *text;

	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, &fault), -EMSGSIZE);
	assert_int_equal(fault.code, SLUICE_E_TOO_LONG);
	p.n_tokens = FAKE_CTX; /* fits, but no answer does */
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, &fault), -EMSGSIZE);
	p.n_tokens = FAKE_CTX - 1; /* max_tokens is cut */
	how.max_tokens = 100;
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, &fault), 0);
	assert_int_equal(done.n_generated, 1);
	/* a text too long to be worth tokenising */
	text = malloc(FAKE_CTX * 64 + 1);
	memset(text, 'x', FAKE_CTX * 64 + 1);
	p = text_prompt("", 0);
	p.text = text;
	p.text_bytes = FAKE_CTX * 64 + 1;
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, &fault), -EMSGSIZE);
	free(text);
	free(ids);
	sluice_close(s);
}

static void cancels(void **state)
{
	struct sluice *s = client();
	struct sluice_prompt p = text_prompt("Hello", 0);
	struct sluice_settings how = { .struct_size = sizeof(how), .max_tokens = 50000 };
	struct sluice_done done = { .struct_size = sizeof(done) };

	atomic_store(&fake.token_us, 200);
	memset(&heard, 0, sizeof(heard));
	heard.stop_after = 3;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, NULL), 0);
	assert_int_equal(done.stop, SLUICE_STOP_CANCELLED);
	assert_int_equal(heard.n_tokens, 3);
	assert_true(done.n_generated < 50000);
	memset(&heard, 0, sizeof(heard));
	heard.cancel = s;
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, NULL), 0);
	assert_int_equal(done.stop, SLUICE_STOP_CANCELLED);
	sluice_cancel(s); /* nothing runs: no effect on the next */
	assert_int_equal(generate(s, "Hello", 0, 3, &done), 0);
	assert_int_equal(done.stop, SLUICE_STOP_LENGTH);
	sluice_close(s);
}

static void engine_errors(void **state)
{
	struct sluice *s = client();
	struct sluice_prompt p = text_prompt("Hello", 0);
	struct sluice_settings how = { .struct_size = sizeof(how), .max_tokens = 10 };
	struct sluice_fault fault;
	struct sluice_done done = { .struct_size = sizeof(done) };

	atomic_store(&fake.fail_after, 4);
	memset(&heard, 0, sizeof(heard));
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EIO);
	assert_string_equal(fault.text, "layer 3 expert 7: read failed");
	assert_int_equal(done.stop, SLUICE_STOP_ERROR);
	assert_int_equal(done.n_generated, 4);
	atomic_store(&fake.fail_after, 0);
	assert_int_equal(generate(s, "Hello", 0, 3, &done), 0); /* others go on */
	atomic_store(&fake.refuse, -EBUSY);
	assert_int_equal(sluice_generate(s, &p, &how, hear, &heard, &done, &fault), -EBUSY);
	assert_int_equal(fault.code, SLUICE_E_BUSY);
	sluice_close(s);
}

static void engine_fails(void **state)
{
	uint64_t one = 1;

	atomic_store(&fake.state, ENGINE_FAILED);
	assert_int_equal(write(engine->state_fd, &one, sizeof(one)), sizeof(one));
	pthread_join(loop, NULL);
	assert_int_equal(loop_result, -EIO);
	assert_string_equal(loop_err.text, "the disk is on fire");
	assert_int_equal(pthread_create(&loop, NULL, run_loop, NULL), 0); /* for stop() */
}

/* Several requests of one connection at once; ids and limits. */
static void many_requests(void **state)
{
	int fd = raw_connect();
	uint32_t code, accepted = 0, done = 0;

	hello(fd);
	atomic_store(&fake.hold, true);
	for (uint64_t id = 1; id <= SERVE_MAX_REQUESTS; id++)
		raw_generate(fd, id, 2);
	raw_generate(fd, 3, 2);
	raw_generate(fd, 99, 2);
	for (int i = 0; i < SERVE_MAX_REQUESTS; i++)
		accepted += raw_receive(fd, &code) == SLUICE_ACCEPTED;
	assert_int_equal(accepted, SERVE_MAX_REQUESTS);
	expect_error(fd, SLUICE_E_DUPLICATE_ID);
	expect_error(fd, SLUICE_E_BUSY);
	atomic_store(&fake.hold, false);
	while (done < SERVE_MAX_REQUESTS) {
		uint16_t type = raw_receive(fd, &code);

		assert_true(type == SLUICE_TOKEN || type == SLUICE_DONE);
		done += type == SLUICE_DONE;
	}
	raw_generate(fd, 3, 1); /* the id is free again */
	assert_int_equal(raw_receive(fd, &code), SLUICE_ACCEPTED);
	close(fd);
}

static void no_daemon(void **state)
{
	struct sluice_fault fault;
	struct sluice *s;

	assert_int_equal(sluice_connect("/nonexistent/s", &s, &fault), -ENOENT);
	assert_true(fault.text[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DAEMON(echo),	    WITH_DAEMON(settings),
		WITH_DAEMON(questions),	    WITH_DAEMON(thinking),
		WITH_DAEMON(whole_prompts), WITH_DAEMON(cheap_requests),
		WITH_DAEMON(long_payloads), WITH_DAEMON(score),
		WITH_DAEMON(too_long),	    WITH_DAEMON(cancels),
		WITH_DAEMON(engine_errors), WITH_DAEMON(engine_fails),
		WITH_DAEMON(many_requests), cmocka_unit_test(no_daemon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
