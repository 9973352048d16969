/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/native.c: see native.h. Packets in and what they ask; events out are in native_events.c. The
 * handshake is the wire's own business; all else goes to the session.
 */
#include "serve/native.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/num.h"
#include "base/version.h"
#include "engine/batch.h"
#include "serve/message.h"
#include "serve/native_events.h"
#include "serve/payload.h"
#include "serve/prompt.h"
#include "serve/private.h"

#define BREAKERS_MAX 16 /* texts: each goes through the vocabulary on the main thread */
#define MAX_FDS	     4	/* room in a control message: to see that there are too many */

static_assert((int)SLUICE_SPEC_MTP == (int)SPEC_MTP, "uapi");
static_assert(SLUICE_DRAFT_LENGTH_MAX == DRAFT_MAX, "uapi");

struct native {
	struct conn conn;
	bool greeted;
};

static struct native *native_of(struct conn *c)
{
	return (struct native *)c;
}

/* ---- what a message asks ---- */

static void on_hello(struct conn *c, const struct message *m)
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
	};

	if (native_of(c)->greeted) {
		native_fail(c, 0, SLUICE_E_MALFORMED, "HELLO came twice");
		return;
	}
	if (!version) {
		struct err err = { 0 };

		err_set(&err, 0, "the client speaks protocol %u to %u, this daemon %u to %u",
			m->u.hello.version_min, m->u.hello.version_max, SLUICE_PROTO_VERSION_MIN,
			SLUICE_PROTO_VERSION);
		native_fail(c, 0, SLUICE_E_VERSION, err.text);
		return;
	}
	native_of(c)->greeted = true;
	snprintf(w.server, sizeof(w.server), "sluiced %s", sluice_version);
	native_send(c, SLUICE_WELCOME, 0, &w, NULL, 0, -1);
}

static void take_flags(struct ask *ask, uint32_t flags)
{
	ask->is_ids = flags & SLUICE_TOKENS_IN;
	ask->chat = flags & SLUICE_CHAT;
	ask->special = flags & SLUICE_SPECIAL;
	ask->thinking = flags & SLUICE_THINK	  ? CHAT_THINK
			: flags & SLUICE_NO_THINK ? CHAT_NO_THINK
						  : CHAT_THINK_AS_USUAL;
	ask->ignore_eog = flags & SLUICE_IGNORE_EOG;
	ask->raw = flags & SLUICE_RAW;
	ask->no_reuse = flags & SLUICE_NO_REUSE;
	ask->want_progress = flags & SLUICE_PROGRESS_OUT;
	ask->want_logits = flags & SLUICE_LOGITS_OUT;
	ask->want_logprobs = flags & SLUICE_LOGPROBS_OUT;
}

static void take_generate(struct ask *ask, const struct sluice_ask_generate *g)
{
	ask->kind = ASK_GENERATE;
	take_flags(ask, g->flags);
	ask->system_bytes = g->system_bytes;
	ask->max_tokens = g->max_tokens;
	ask->n_untimed = g->n_untimed;
	ask->sampling = (struct sampling){ .temperature = g->temperature,
					   .top_k = g->top_k,
					   .top_p = g->top_p,
					   .min_p = g->min_p,
					   .seed = g->seed,
					   .repeat_penalty = g->repeat_penalty,
					   .frequency_penalty = g->frequency_penalty,
					   .presence_penalty = g->presence_penalty,
					   .penalty_last_n = g->penalty_last_n,
					   .min_tokens = g->min_tokens,
					   .typical_p = g->typical_p,
					   .top_n_sigma = g->top_n_sigma,
					   .xtc_probability = g->xtc_probability,
					   .xtc_threshold = g->xtc_threshold,
					   .dry_multiplier = g->dry_multiplier,
					   .dry_base = g->dry_base,
					   .dry_allowed_length = g->dry_allowed_length,
					   .dry_last_n = g->dry_last_n };
	ask->spec = (enum spec_mode)g->spec;
	ask->draft_length = g->draft_length;
	ask->n_draft = g->n_draft;
	ask->n_logprobs = g->n_logprobs;
	ask->form = g->form == SLUICE_FORM_NONE	   ? FORM_FREE
		    : g->form == SLUICE_FORM_GBNF  ? FORM_GBNF
		    : g->form == SLUICE_FORM_REGEX ? FORM_REGEX
						   : FORM_SCHEMA;
	ask->form_strict = g->form == SLUICE_FORM_SCHEMA;
	ask->form_bytes = g->form_bytes;
}

/* A checked message that is none of the wire's own, without its payload. */
static struct ask ask_of(const struct message *m)
{
	struct ask ask = { .id = m->id };

	switch (m->type) {
	case SLUICE_GENERATE:
		take_generate(&ask, &m->u.generate);
		break;
	case SLUICE_SCORE:
		ask.kind = ASK_SCORE;
		take_flags(&ask, m->u.score.flags);
		break;
	case SLUICE_CANCEL:
		ask.kind = ASK_CANCEL;
		break;
	case SLUICE_MODEL_INFO:
		ask.kind = ASK_MODEL;
		break;
	case SLUICE_TOKENIZE:
		ask.kind = ASK_TOKENIZE;
		take_flags(&ask, m->u.convert.flags);
		ask.system_bytes = m->u.convert.system_bytes;
		break;
	case SLUICE_DETOKENIZE:
		ask.kind = ASK_DETOKENIZE;
		take_flags(&ask, m->u.convert.flags);
		ask.is_ids = true;
		break;
	default:
		ask.kind = ASK_STATUS;
	}
	return ask;
}

/* The payload wherever it came: inline it stays in the packet, else it is copied to *ret_owned. */
static int take_payload(const struct conn *c, const struct message *m, int fd, struct ask *ask,
			uint8_t **ret_owned, struct err *err)
{
	bool opens = ask->kind == ASK_GENERATE || ask->kind == ASK_SCORE;
	int code = opens ? session_check(&c->session, ask->id, err) : 0;

	ask->client = (uintptr_t)c;
	ask->tenant = (uint64_t)c->uid + 1;
	ask->data = m->payload;
	ask->bytes = m->payload_bytes;
	if (!code && m->in_fd) {
		code = payload_read(fd, m->payload_bytes, ret_owned, err);
		ask->data = *ret_owned;
	}
	if (code || m->type != SLUICE_GENERATE)
		return code;
	ask->bytes -= message_tail_bytes(&m->u.generate); /* message.c saw that it has so many */
	ask->draft = ask->data + ask->bytes;
	return 0;
}

/* What a request's sampling points to, as long as it is asked. */
struct pointed {
	struct logit_bias bias[SLUICE_BIAS_MAX];
	uint8_t *breaks; /* owned */
};

/* Of a token's biases the last counts. */
static int take_biases(const struct conn *c, const uint8_t *from, uint32_t n, struct ask *ask,
		       struct pointed *p, struct err *err)
{
	uint32_t n_vocab = c->serve->config.model->n_vocab, used = 0, k;

	for (uint32_t i = 0; i < n; i++) {
		struct sluice_bias b;

		memcpy(&b, from + i * sizeof(b), sizeof(b));
		if (b.token >= n_vocab || isnan(b.bias) || b.bias > 1000 ||
		    (b.bias < -1000 && !isinf(b.bias)))
			return err_set(err, SLUICE_E_INVALID,
				       "bias %u: token %u of %u, or a bias beyond 1000", i, b.token,
				       n_vocab);
		for (k = 0; k < used && p->bias[k].id != b.token; k++)
			continue;
		p->bias[k] = (struct logit_bias){ b.token, b.bias };
		used += k == used;
	}
	ask->sampling.bias = used ? p->bias : NULL;
	ask->sampling.n_bias = used;
	return 0;
}

static int take_breakers(const struct conn *c, const char *from, uint32_t bytes, struct ask *ask,
			 struct pointed *p, struct err *err)
{
	const char *texts[BREAKERS_MAX];
	size_t n = 0, len;
	int code = 0;

	for (const char *at = from; at < from + bytes; at += len + 1) {
		len = strnlen(at, (size_t)(from + bytes - at));
		if (at + len == from + bytes || (len && n == BREAKERS_MAX))
			return err_set(err, SLUICE_E_INVALID,
				       "DRY's texts: at most %d, a NUL behind each", BREAKERS_MAX);
		if (len)
			texts[n++] = at;
	}
	if (n)
		code = prompt_breaks(c->serve, texts, n, &p->breaks);
	ask->sampling.dry_breaks = p->breaks;
	return code;
}

static int take_pointed(const struct conn *c, const struct message *m, struct ask *ask,
			struct pointed *p, struct err *err)
{
	const struct sluice_ask_generate *g = &m->u.generate;
	const uint8_t *at = ask->draft;
	int code;

	if (m->type != SLUICE_GENERATE)
		return 0;
	ask->form_text = at + message_tail_bytes(g) - align_up(g->form_bytes, 4);
	if (!g->n_bias && !g->breaker_bytes)
		return 0;
	at += g->n_draft * sizeof(uint32_t);
	code = take_biases(c, at, g->n_bias, ask, p, err);
	at += g->n_bias * sizeof(struct sluice_bias);
	return code ? code : take_breakers(c, (const char *)at, g->breaker_bytes, ask, p, err);
}

static void on_message(struct conn *c, const struct message *m, int fd)
{
	struct ask ask = ask_of(m);
	uint8_t *owned = NULL;
	struct err err = { 0 };
	struct event answer;
	bool answered = true;
	struct pointed p = { .breaks = NULL };
	int code = take_payload(c, m, fd, &ask, &owned, &err);

	if (!code)
		code = take_pointed(c, m, &ask, &p, &err);

	if (code)
		event_refuse(&answer, ask.id, code, &err);
	else
		answered = session_ask(&c->session, &ask, &answer);
	free(owned);
	free(p.breaks);
	if (!answered)
		return;
	native_render(c, &answer);
	if (answer.kind == EVENT_ACCEPTED)
		conn_pump(c); /* the wake may have come before the request was in the list */
	event_fini(&answer);
}

/*
 * HTTP for who may use this socket: one end of a new connection goes to the client, the other to the
 * server beside us.
 */
static void on_http(struct conn *c, uint64_t id)
{
	const struct sluice_query q = { .struct_size = sizeof(q) };
	struct attachment *a = c->serve->attached;
	struct sluice_msg *head = (struct sluice_msg *)(void *)c->serve->built;
	struct err err = { 0 };
	int fd[2], code;
	size_t len;

	if (!a) {
		native_fail(c, id, SLUICE_E_UNSUPPORTED, "this daemon has no HTTP server");
		return;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd)) {
		native_fail(c, id, SLUICE_E_BUSY, "descriptors have run out");
		return;
	}
	code = a->adopt(a, fd[0], c->uid, &err);
	if (code) {
		close(fd[1]);
		native_fail(c, id, code, err.text);
		return;
	}
	len = message_build(c->serve->built, SLUICE_MSG_MAX, SLUICE_HTTP_SOCKET, id, &q, NULL, 0,
			    true);
	head->flags = SLUICE_MSG_SOCKET;
	conn_write(c, c->serve->built, len, fd[1]);
}

/* ---- packets in ---- */

/* Takes the descriptors out of @msg: their number (more than one means refusal), first in *ret. */
static unsigned take_fds(struct msghdr *msg, int *ret)
{
	unsigned n_fds = 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
		size_t n = h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS
				   ? (h->cmsg_len - CMSG_LEN(0)) / sizeof(int)
				   : 0;

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
			if (n_fds++)
				close(fd);
			else
				*ret = fd;
		}
	}
	return n_fds;
}

static void take_packet(struct conn *c, size_t len, unsigned n_fds, int fd)
{
	struct err err = { 0 };
	struct message m;
	int code = message_parse(c->serve->packet, len, n_fds, &m, &err);

	if (!code && !native_of(c)->greeted && m.type != SLUICE_HELLO)
		code = err_set(&err, SLUICE_E_MALFORMED, "the first message must be HELLO");
	if (code)
		native_fail(c, m.id, code, err.text);
	else if (m.type == SLUICE_HELLO)
		on_hello(c, &m);
	else if (m.type == SLUICE_HTTP)
		on_http(c, m.id);
	else
		on_message(c, &m, fd);
}

static bool receive(struct conn *c)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = c->serve->packet, .iov_len = SLUICE_MSG_MAX };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.room,
			      .msg_controllen = sizeof(control.room) };
	ssize_t n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	unsigned n_fds;
	int fd = -1;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) { /* an empty packet reads like the end; no message is empty */
		conn_drop(c);
		return false;
	}
	n_fds = take_fds(&msg, &fd);
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		native_fail(c, 0, SLUICE_E_MALFORMED,
			    "malformed message: larger than a message is");
	else
		take_packet(c, (size_t)n, n_fds, fd);
	if (fd >= 0)
		close(fd);
	return !c->dead;
}

static uint32_t patience_ms(const struct conn *c)
{
	return ((const struct native *)c)->greeted ? 0 : c->serve->config.hello_ms;
}

static void expire(struct conn *c)
{
	native_fail(c, 0, SLUICE_E_SLOW, c->out ? "the client does not read" : "no HELLO came");
}

/* What was to carry a descriptor is refused; of an open request nothing more comes. */
static void unsent(struct conn *c, const void *data, size_t len)
{
	struct sluice_msg head;

	memcpy(&head, data, sizeof(head));
	if (head.type == SLUICE_LOGITS || head.type == SLUICE_LOGPROBS || head.type == SLUICE_TOKEN)
		session_abandon(&c->session, head.id);
	native_fail(c, head.id, SLUICE_E_BUSY, "too many descriptors are on their way to clients");
}

const struct transport native_transport = {
	.conn_bytes = sizeof(struct native),
	.receive = receive,
	.render = native_render,
	.patience_ms = patience_ms,
	.expire = expire,
	.unsent = unsent,
};
