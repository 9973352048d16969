/* SPDX-License-Identifier: MIT */
/* daemon/serve/handle.c: what each checked message does. One function per type, one table. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "serve/payload.h"
#include "serve/private.h"

/* The payload wherever it came: inline it stays in the packet, else it is copied to @owned. */
struct payload {
	const uint8_t *data;
	uint64_t bytes;
	uint8_t *owned;
};

static int take_payload(const struct message *m, int fd, struct payload *ret, struct err *err)
{
	*ret = (struct payload){ .data = m->payload, .bytes = m->payload_bytes };
	if (m->in_fd) {
		int code = payload_read(fd, m->payload_bytes, &ret->owned, err);

		if (code)
			return code;
		ret->data = ret->owned;
	}
	return 0;
}

static void refuse(struct conn *c, const struct message *m, int code, const struct err *err)
{
	conn_fail(c, m->id, code, err->text[0] ? err->text : message_error_text(code));
}

static void on_hello(struct conn *c, const struct message *m, int fd)
{
	uint32_t version = message_version(&m->u.hello);
	struct sluice_welcome w = {
		.struct_size = sizeof(w),
		.magic = SLUICE_PROTO_MAGIC,
		.version = version,
		.version_min = SLUICE_PROTO_VERSION_MIN,
		.version_max = SLUICE_PROTO_VERSION,
		.max_requests = SERVE_MAX_REQUESTS,
		.payload_max = SLUICE_PAYLOAD_MAX,
		.stall_seconds = c->serve->config.stall_ms / 1000,
		.server = "sluiced " SLUICE_VERSION,
	};

	if (c->greeted) {
		conn_fail(c, 0, SLUICE_E_MALFORMED, "HELLO came twice");
		return;
	}
	if (!version) {
		struct err err = { 0 };

		err_set(&err, 0, "the client speaks protocol %u to %u, this daemon %u to %u",
			m->u.hello.version_min, m->u.hello.version_max, SLUICE_PROTO_VERSION_MIN,
			SLUICE_PROTO_VERSION);
		conn_fail(c, 0, SLUICE_E_VERSION, err.text);
		return;
	}
	c->greeted = true;
	conn_send(c, SLUICE_WELCOME, 0, &w, NULL, 0, -1);
}

/* ---- prompts ---- */

/* A text that cannot fit however well it compresses is not worth the main thread's time. */
static int check_text(const struct serve *s, uint64_t bytes, struct err *err)
{
	uint32_t n_ctx = engine_n_ctx(s->config.engine);
	uint64_t most;

	if (u64_mul_overflow(n_ctx, detok_bound(s->config.tokenizer), &most) || bytes <= most)
		return 0;
	return err_set(err, SLUICE_E_TOO_LONG,
		       "a text of %llu bytes cannot fit the context of %u tokens (sluiced --ctx)",
		       (unsigned long long)bytes, n_ctx);
}

static ssize_t encode_chat(const struct serve *s, const struct payload *p, uint32_t flags,
			   uint32_t system_bytes, uint32_t **ret, struct err *err)
{
	const char *text = (const char *)p->data;
	const struct chat_turn turn = {
		.system = system_bytes ? text : NULL,
		.system_len = system_bytes,
		.user = text + system_bytes,
		.user_len = p->bytes - system_bytes,
		.special = flags & SLUICE_SPECIAL,
		.thinking = flags & SLUICE_THINK      ? CHAT_THINK
			    : flags & SLUICE_NO_THINK ? CHAT_NO_THINK
						      : CHAT_THINK_AS_USUAL,
	};

	return chat_encode(s->config.model->gguf, s->config.tokenizer, &turn, ret, err);
}

/* Text to ids. 0 and *ret, *ret_n; or an error code. */
static int encode(const struct serve *s, const struct payload *p, uint32_t flags,
		  uint32_t system_bytes, uint32_t **ret, uint32_t *ret_n, struct err *err)
{
	bool special = flags & SLUICE_SPECIAL;
	int code = check_text(s, p->bytes, err);
	ssize_t n;

	if (code)
		return code;
	if (flags & SLUICE_CHAT)
		n = encode_chat(s, p, flags, system_bytes, ret, err);
	else
		n = tokenizer_encode_prompt(s->config.tokenizer, (const char *)p->data, p->bytes,
					    special, ret);
	if (n == -ENOTSUP) /* which has its own sentence */
		return SLUICE_E_UNSUPPORTED;
	if (n < 0)
		return err_set(err, n == -ENOMEM ? SLUICE_E_NO_MEMORY : SLUICE_E_INVALID,
			       "the text cannot be tokenised: %s", strerror((int)-n));
	*ret_n = (uint32_t)n;
	return 0;
}

static int copy_ids(const struct serve *s, const struct payload *p, uint32_t **ret, uint32_t *ret_n,
		    struct err *err)
{
	uint32_t n = (uint32_t)(p->bytes / sizeof(uint32_t)), *ids = malloc(p->bytes + 1);

	if (!ids)
		return err_set(err, SLUICE_E_NO_MEMORY, "out of memory for a prompt");
	memcpy(ids, p->data, p->bytes);
	for (uint32_t i = 0; i < n; i++)
		if (ids[i] >= s->config.model->n_vocab) {
			err_set(err, 0, "token %u at position %u: the vocabulary has %u", ids[i], i,
				s->config.model->n_vocab);
			free(ids);
			return SLUICE_E_INVALID;
		}
	*ret = ids;
	*ret_n = n;
	return 0;
}

/* ---- GENERATE and SCORE ---- */

static int check_request(const struct conn *c, const struct message *m, struct err *err)
{
	for (const struct job *j = c->serve->jobs; j; j = j->next)
		if (j->conn == c && j->id == m->id)
			return err_set(err, SLUICE_E_DUPLICATE_ID, "request %llu is still open",
				       (unsigned long long)m->id);
	if (c->n_jobs >= SERVE_MAX_REQUESTS)
		return err_set(err, SLUICE_E_BUSY, "a connection may have %d open requests",
			       SERVE_MAX_REQUESTS);
	return 0;
}

static int start_job(struct conn *c, const struct message *m, int fd, struct err *err)
{
	bool score = m->type == SLUICE_SCORE;
	uint32_t flags = score ? m->u.score.flags : m->u.generate.flags;
	struct serve *s = c->serve;
	struct payload p;
	struct job *j;
	uint32_t *ids = NULL, n = 0;
	int code = check_request(c, m, err);

	if (!code)
		code = take_payload(m, fd, &p, err);
	if (code)
		return code;
	if (flags & SLUICE_TOKENS_IN)
		code = copy_ids(s, &p, &ids, &n, err);
	else
		code = encode(s, &p, flags, score ? 0 : m->u.generate.system_bytes, &ids, &n, err);
	free(p.owned);
	if (code)
		return code;
	code = job_create(s, c, m, ids, n, &j, err); /* takes ids over */
	if (code)
		return code;
	j->next = s->jobs;
	s->jobs = j;
	c->n_jobs++;
	return 0;
}

static void on_request(struct conn *c, const struct message *m, int fd)
{
	struct serve *s = c->serve;
	struct sluice_accepted a = { .struct_size = sizeof(a) };
	struct err err = { 0 };
	int code = start_job(c, m, fd, &err);

	if (code) {
		refuse(c, m, code, &err);
		return;
	}
	a.n_prompt = s->jobs->req.n_tokens;
	a.max_tokens = s->jobs->req.max_tokens;
	a.n_ctx = engine_n_ctx(s->config.engine);
	conn_send(c, SLUICE_ACCEPTED, m->id, &a, NULL, 0, -1);
	conn_pump(c); /* the wake may have come before the job was in the list */
}

static void on_cancel(struct conn *c, const struct message *m, int fd)
{
	for (struct job *j = c->serve->jobs; j; j = j->next)
		if (j->conn == c && j->id == m->id)
			atomic_store_explicit(&j->req.cancel, true, memory_order_relaxed);
}

/* ---- questions ---- */

static void on_model_info(struct conn *c, const struct message *m, int fd)
{
	const char *path = c->serve->config.model_path;
	struct sluice_model_info info;

	info_model(c->serve, &info);
	info.payload_bytes = strlen(path);
	conn_send(c, SLUICE_MODEL, m->id, &info, path, info.payload_bytes, -1);
}

static void on_status(struct conn *c, const struct message *m, int fd)
{
	struct sluice_status_info info;
	char fallbacks[4096];
	size_t bytes = info_status(c->serve, &info, fallbacks, sizeof(fallbacks));

	conn_send(c, SLUICE_STATUS_REPLY, m->id, &info, fallbacks, bytes, -1);
}

static void on_tokenize(struct conn *c, const struct message *m, int fd)
{
	struct sluice_converted r = { .struct_size = sizeof(r) };
	struct err err = { 0 };
	struct payload p;
	uint32_t *ids = NULL, n = 0;
	int code = take_payload(m, fd, &p, &err);

	if (!code) {
		code = encode(c->serve, &p, m->u.convert.flags, m->u.convert.system_bytes, &ids, &n,
			      &err);
		free(p.owned);
	}
	if (code) {
		refuse(c, m, code, &err);
		return;
	}
	r.payload_bytes = (uint64_t)n * sizeof(*ids);
	conn_send(c, SLUICE_TOKENS, m->id, &r, ids, r.payload_bytes, -1);
	free(ids);
}

/* Text of all ids in a buffer that grows by doubling, never beyond what the ids can give. */
static int decode(const struct serve *s, const uint32_t *ids, uint32_t n, bool raw, char **ret,
		  size_t *ret_bytes)
{
	size_t bound = detok_bound(s->config.tokenizer), room = bound + 4096, used = 0;
	char *text = malloc(room);
	struct detok d;

	detok_init(&d, s->config.tokenizer, raw);
	for (uint32_t i = 0; text && i <= n; i++) {
		ssize_t got;

		if (room - used < bound) {
			char *bigger = realloc(text, room * 2);

			if (!bigger)
				break;
			text = bigger;
			room *= 2;
		}
		got = i < n ? detok_push(&d, ids[i], text + used, room - used)
			    : detok_flush(&d, text + used, room - used);
		used += got > 0 ? (size_t)got : 0;
		if (i == n) {
			*ret = text;
			*ret_bytes = used;
			return 0;
		}
	}
	free(text);
	return SLUICE_E_NO_MEMORY;
}

static void on_detokenize(struct conn *c, const struct message *m, int fd)
{
	struct sluice_converted r = { .struct_size = sizeof(r) };
	struct err err = { 0 };
	struct payload p;
	uint32_t *ids = NULL, n = 0;
	char *text = NULL;
	size_t bytes = 0;
	int code = take_payload(m, fd, &p, &err);

	if (!code) {
		code = copy_ids(c->serve, &p, &ids, &n, &err);
		free(p.owned);
	}
	if (!code)
		code = decode(c->serve, ids, n, m->u.convert.flags & SLUICE_RAW, &text, &bytes);
	free(ids);
	if (code) {
		refuse(c, m, code, &err);
		return;
	}
	r.payload_bytes = bytes;
	conn_send(c, SLUICE_TEXT, m->id, &r, text, bytes, -1);
	free(text);
}

static const struct {
	uint16_t type;
	void (*handle)(struct conn *c, const struct message *m, int fd);
} handlers[] = {
	{ SLUICE_HELLO, on_hello },	      { SLUICE_GENERATE, on_request },
	{ SLUICE_CANCEL, on_cancel },	      { SLUICE_SCORE, on_request },
	{ SLUICE_MODEL_INFO, on_model_info }, { SLUICE_STATUS, on_status },
	{ SLUICE_TOKENIZE, on_tokenize },     { SLUICE_DETOKENIZE, on_detokenize },
};

void handle_message(struct conn *c, const struct message *m, int fd)
{
	for (size_t i = 0; i < ARRAY_LEN(handlers); i++)
		if (handlers[i].type == m->type) {
			handlers[i].handle(c, m, fd);
			return;
		}
}
