/* SPDX-License-Identifier: MIT */
/*
 * uapi/libsluice.c: see sluice.h. One struct per connection, one request at a time on it: a call
 * sends its request and hands on the replies until the last. Bytes and descriptors are the business
 * of libsluice_wire.c.
 */
#include "sluice.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "libsluice_structs.h"
#include "libsluice_wire.h"

#define CONNECT_SECONDS 10

const char *sluice_stop_name(uint32_t stop)
{
	static const char *const names[] = { "stop", "length", "cancelled", "error" };

	return stop < sizeof(names) / sizeof(names[0]) ? names[stop] : "error";
}

void sluice_cancel(struct sluice *s)
{
	uint64_t id = atomic_load_explicit(&s->open_id, memory_order_acquire);
	struct {
		struct sluice_msg head;
		struct sluice_ask_cancel cancel;
	} packet = {
		.head = { .size = sizeof(packet), .type = SLUICE_CANCEL, .id = id },
		.cancel = { .struct_size = sizeof(packet.cancel) },
	};
	int saved = errno;

	/* One packet, one call: safe beside a thread that receives, and in a signal handler. */
	if (id && send(s->fd, &packet, sizeof(packet), MSG_NOSIGNAL) < 0)
		errno = saved; /* the daemon is gone: the receiver will see that */
	errno = saved;
}

/* One question, one answer of @type. The caller drops the reply. */
static int expect(struct sluice *s, uint16_t type, struct sluice__reply *r,
		  struct sluice_fault *fault)
{
	int rc = sluice__next_reply(s, s->last_id, r, fault);

	if (rc || r->head.type == type)
		return rc;
	sluice__drop_reply(r);
	return sluice__fail_protocol(fault);
}

/* ---- connecting ---- */

/* How long connecting may take; afterwards an answer may take as long as a model needs. */
static void set_patience(struct sluice *s, unsigned seconds)
{
	struct timeval t = { .tv_sec = seconds };

	setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
	setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
}

static int shake_hands(struct sluice *s, struct sluice_fault *fault)
{
	struct sluice_hello hello = { .struct_size = sizeof(hello),
				      .magic = SLUICE_PROTO_MAGIC,
				      .version_min = SLUICE_PROTO_VERSION_MIN,
				      .version_max = SLUICE_PROTO_VERSION,
				      .client = "libsluice" };
	struct sluice__reply r;
	int rc = sluice__send_request(s, SLUICE_HELLO, &hello, NULL, 0, NULL, 0, fault);

	if (!rc)
		rc = sluice__next_reply(s, 0, &r, fault);
	if (rc)
		return rc;
	sluice__copy_fixed(&r, &s->welcome, sizeof(s->welcome));
	s->welcome.server[sizeof(s->welcome.server) - 1] = '\0';
	sluice__drop_reply(&r);
	if (r.head.type != SLUICE_WELCOME || s->welcome.magic != SLUICE_PROTO_MAGIC ||
	    s->welcome.version < SLUICE_PROTO_VERSION_MIN ||
	    s->welcome.version > SLUICE_PROTO_VERSION)
		return sluice__fail(
			fault, -EPROTONOSUPPORT,
			"what listens there does not speak this version of the protocol");
	return 0;
}

static int connect_at(const char *path, struct sluice **ret, struct sluice_fault *fault)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct sluice *s;
	int rc;

	if (strlen(path) >= sizeof(addr.sun_path))
		return sluice__fail(fault, -ENAMETOOLONG, "%s: a socket path has at most %zu bytes",
				    path, sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	s = calloc(1, sizeof(*s));
	if (!s)
		return sluice__fail(fault, -ENOMEM, "out of memory");
	s->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s->fd < 0) {
		rc = sluice__fail(fault, -errno, "cannot make a socket: %s", strerror(errno));
		goto out;
	}
	set_patience(s, CONNECT_SECONDS);
	do
		rc = connect(s->fd, (struct sockaddr *)&addr, sizeof(addr)) ? -errno : 0;
	while (rc == -EINTR);
	if (rc == -EAGAIN)
		rc = sluice__fail(fault, -ETIMEDOUT, "%s: the daemon does not answer", path);
	else if (rc)
		sluice__fail(fault, rc, "%s: cannot connect: %s", path, strerror(-rc));
	else
		rc = shake_hands(s, fault);
	if (rc)
		goto out;
	set_patience(s, 0);
	*ret = s;
	return 0;
out:
	sluice_close(s);
	return rc;
}

int sluice_connect(const char *path, struct sluice **ret, struct sluice_fault *fault)
{
	struct sluice_fault second;
	char own[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int rc, rc2;

	if (path)
		return connect_at(path, ret, fault);
	rc = sluice_socket_path(0, own, sizeof(own), fault);
	if (rc)
		return rc;
	rc = connect_at(own, ret, fault);
	if ((rc != -ENOENT && rc != -ECONNREFUSED) || sluice__socket_named() ||
	    !strcmp(own, SLUICE_SYSTEM_SOCKET))
		return rc;
	rc2 = connect_at(SLUICE_SYSTEM_SOCKET, ret, &second);
	if (!rc2)
		return 0;
	if (rc2 == -ENOENT || rc2 == -ECONNREFUSED)
		return sluice__fail(fault, rc, "%s: cannot connect: %s (and nobody listens at %s)",
				    own, strerror(-rc), SLUICE_SYSTEM_SOCKET);
	if (fault)
		*fault = second;
	return rc2;
}

void sluice_close(struct sluice *s)
{
	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

const struct sluice_welcome *sluice_daemon(const struct sluice *s)
{
	return &s->welcome;
}

/* ---- questions ---- */

static void copy_text(char *dst, size_t room, const struct sluice__reply *r)
{
	size_t n = r->payload_bytes;

	if (!dst || !room)
		return;
	if (n >= room)
		n = room - 1;
	memcpy(dst, r->payload, n);
	dst[n] = '\0';
}

/* @answer has room for what this library knows of the reply: kind->size bytes. */
static int ask(struct sluice *s, uint16_t type, uint16_t reply_type, void *answer,
	       const struct sluice__kind *kind, char *text, size_t room, struct sluice_fault *fault)
{
	struct sluice_query q = { .struct_size = sizeof(q) };
	struct sluice__reply r;
	int rc = sluice__send_request(s, type, &q, NULL, 0, NULL, 0, fault);

	if (!rc)
		rc = expect(s, reply_type, &r, fault);
	if (rc)
		return rc;
	sluice__copy_fixed(&r, answer, kind->size);
	copy_text(text, room, &r);
	sluice__drop_reply(&r);
	return 0;
}

#define END_TEXT(field) ((field)[sizeof(field) - 1] = '\0')

int sluice_get_model(struct sluice *s, struct sluice_model_info *ret, char *path, size_t len,
		     struct sluice_fault *fault)
{
	struct sluice_model_info m;
	int rc = sluice__check_room(&sluice__model_kind, ret, fault);

	if (!rc)
		rc = ask(s, SLUICE_MODEL_INFO, SLUICE_MODEL, &m, &sluice__model_kind, path, len,
			 fault);
	if (rc)
		return rc;
	END_TEXT(m.arch);
	END_TEXT(m.name);
	sluice__give(&sluice__model_kind, ret, &m);
	return 0;
}

int sluice_get_status(struct sluice *s, struct sluice_status_info *ret, char *fallbacks, size_t len,
		      struct sluice_fault *fault)
{
	struct sluice_status_info i;
	int rc = sluice__check_room(&sluice__status_kind, ret, fault);

	if (!rc)
		rc = ask(s, SLUICE_STATUS, SLUICE_STATUS_REPLY, &i, &sluice__status_kind, fallbacks,
			 len, fault);
	if (rc)
		return rc;
	END_TEXT(i.arch);
	END_TEXT(i.cpu);
	END_TEXT(i.io);
	END_TEXT(i.arena);
	END_TEXT(i.kv);
	END_TEXT(i.policy);
	END_TEXT(i.version);
	END_TEXT(i.model);
	END_TEXT(i.failure);
	END_TEXT(i.telemetry);
	END_TEXT(i.memory_from);
	END_TEXT(i.cpus_from);
	END_TEXT(i.reasons);
	END_TEXT(i.device.name);
	END_TEXT(i.device.state);
	END_TEXT(i.warm.why);
	sluice__give(&sluice__status_kind, ret, &i);
	return 0;
}

/* ---- requests ---- */

/* The caller's prompt as a struct of this library. */
static int take_prompt(const struct sluice_prompt *prompt, struct sluice_prompt *ret,
		       struct sluice_fault *fault)
{
	int rc = sluice__take(&sluice__prompt_kind, ret, prompt, fault);

	if (!rc)
		rc = sluice__check_flags(
			ret->flags, SLUICE_CHAT | SLUICE_SPECIAL | SLUICE_THINK | SLUICE_NO_THINK,
			"flags of struct sluice_prompt", fault);
	if (rc)
		return rc;
	if (ret->tokens && (ret->text || ret->system))
		return sluice__fail(fault, -EINVAL,
				    "a prompt is tokens or text, not both: tokens and %s are set",
				    ret->text ? "text" : "system");
	if (ret->system && *ret->system && !(ret->flags & SLUICE_CHAT))
		return sluice__fail(fault, -EINVAL,
				    "a system text is a part of a chat: it needs SLUICE_CHAT");
	return 0;
}

/* The two parts of a prompt's payload. */
struct parts {
	const void *a, *b;
	size_t a_bytes, b_bytes;
	uint32_t flags;
};

static struct parts split_prompt(const struct sluice_prompt *p)
{
	struct parts parts = { .flags = p->flags };

	if (p->tokens) {
		parts.flags |= SLUICE_TOKENS_IN;
		parts.b = p->tokens;
		parts.b_bytes = p->n_tokens > SLUICE_PAYLOAD_MAX ? (size_t)SLUICE_PAYLOAD_MAX + 1
								 : p->n_tokens * sizeof(uint32_t);
		return parts;
	}
	if (p->system) {
		parts.a = p->system;
		parts.a_bytes = strlen(p->system);
	}
	parts.b = p->text;
	parts.b_bytes = p->text_bytes;
	return parts;
}

/* What a running request hands its messages to. */
struct sinks {
	sluice_token_fn on_token;
	sluice_logits_fn on_logits;
	sluice_progress_fn on_progress;
	void *arg, *progress_arg;
	double **ret_logprobs;
	size_t n_logprobs; /* in it */
};

/* -EPROTO where what comes behind the text does not fit, else what the callback says. */
static int sink_token(struct sinks *k, const struct sluice__reply *r)
{
	struct sluice_likely likeliest[SLUICE_LOGPROBS_MAX];
	struct sluice_piece piece = { .struct_size = sizeof(piece),
				      .text = (const char *)r->payload,
				      .bytes = r->payload_bytes };
	struct sluice_token t;

	sluice__copy_fixed(r, &t, sizeof(t));
	piece.token = t.token;
	piece.index = t.index;
	piece.logprob = t.logprob;
	if (t.n_likeliest) {
		size_t bytes = t.n_likeliest * sizeof(likeliest[0]);

		if (t.n_likeliest > SLUICE_LOGPROBS_MAX || bytes > piece.bytes)
			return -EPROTO;
		piece.bytes -= bytes;
		memcpy(likeliest, piece.text + piece.bytes, bytes);
		piece.likeliest = likeliest;
		piece.n_likeliest = t.n_likeliest;
	}
	return k->on_token && k->on_token(k->arg, &piece) ? 1 : 0;
}

/* -EPROTO where the rows do not fit their payload, else what the callback says. */
static int sink_logits(struct sinks *k, const struct sluice__reply *r)
{
	struct sluice_logits l;

	sluice__copy_fixed(r, &l, sizeof(l));
	if ((uint64_t)l.n_rows * l.n_vocab > UINT64_MAX / sizeof(float) ||
	    (uint64_t)l.n_rows * l.n_vocab * sizeof(float) != r->payload_bytes)
		return -EPROTO;
	return k->on_logits ? k->on_logits(k->arg, l.first, l.n_rows, l.n_vocab,
					   (const float *)(const void *)r->payload) != 0
			    : 0;
}

static int sink_progress(struct sinks *k, const struct sluice__reply *r)
{
	struct sluice_progress p;

	sluice__copy_fixed(r, &p, sizeof(p));
	p.struct_size = sizeof(p); /* as much as there is here, whatever came */
	return k->on_progress ? k->on_progress(k->progress_arg, &p) : 0;
}

void sluice_on_progress(struct sluice *s, sluice_progress_fn fn, void *arg)
{
	s->on_progress = fn;
	s->progress_arg = arg;
}

/* The flag that asks for progress, where somebody wants it and the daemon knows it. */
static uint32_t want_progress(const struct sluice *s, struct sinks *k)
{
	k->on_progress = s->on_progress;
	k->progress_arg = s->progress_arg;
	return s->on_progress && s->welcome.version >= 2 ? SLUICE_PROGRESS_OUT : 0;
}

static int sink_logprobs(struct sinks *k, const struct sluice__reply *r)
{
	if (!k->ret_logprobs || *k->ret_logprobs)
		return 0;
	*k->ret_logprobs = malloc(r->payload_bytes + 1);
	if (!*k->ret_logprobs)
		return -ENOMEM;
	memcpy(*k->ret_logprobs, r->payload, r->payload_bytes);
	k->n_logprobs = r->payload_bytes / sizeof(double);
	return 0;
}

static int finish(const struct sluice__reply *r, struct sluice_done *ret,
		  struct sluice_fault *fault)
{
	sluice__copy_fixed(r, ret, sizeof(*ret));
	if (ret->stop != SLUICE_STOP_ERROR)
		return 0;
	return sluice__fail_refused(fault, ret->code, r->payload, r->payload_bytes);
}

/* Hands on replies until DONE. A callback that wants no more is not called again. */
static int run_request(struct sluice *s, struct sinks *k, struct sluice_done *ret,
		       struct sluice_fault *fault)
{
	bool stopped = false, done = false;
	uint64_t id = s->last_id;
	int rc = 0;

	atomic_store_explicit(&s->open_id, id, memory_order_release);
	while (!rc && !done) {
		struct sluice__reply r;
		int wish = 0;

		rc = sluice__next_reply(s, id, &r, fault);
		if (rc)
			break;
		if (r.head.type == SLUICE_DONE) {
			rc = finish(&r, ret, fault);
			done = true;
		} else if (r.head.type == SLUICE_TOKEN && !stopped) {
			wish = sink_token(k, &r);
		} else if (r.head.type == SLUICE_LOGITS && !stopped) {
			wish = sink_logits(k, &r);
		} else if (r.head.type == SLUICE_PROGRESS && !stopped) {
			wish = sink_progress(k, &r) != 0;
		} else if (r.head.type == SLUICE_LOGPROBS) {
			wish = sink_logprobs(k, &r);
		}
		sluice__drop_reply(&r);
		if (wish == -EPROTO)
			rc = sluice__fail_protocol(fault);
		else if (wish == -ENOMEM && r.head.type == SLUICE_LOGPROBS)
			rc = sluice__fail(fault, -ENOMEM, "out of memory");
		if (wish && !stopped) {
			stopped = true;
			sluice_cancel(s);
		}
	}
	atomic_store_explicit(&s->open_id, 0, memory_order_release);
	return rc;
}

/* Sends @how for @p and hands on what comes. *done is set to the counts, to 0 where none came. */
static int generate(struct sluice *s, const struct sluice_prompt *prompt,
		    const struct sluice_settings *how, struct sinks *k, struct sluice_done *done,
		    struct sluice_fault *fault)
{
	struct parts p = split_prompt(prompt);
	struct sluice_ask_generate g = {
		.struct_size = sizeof(g),
		.flags = p.flags | how->flags,
		.payload_bytes = p.a_bytes + p.b_bytes,
		.max_tokens = how->max_tokens,
		.n_untimed = how->n_untimed,
		.temperature = how->temperature,
		.top_k = how->top_k,
		.top_p = how->top_p,
		.min_p = how->min_p,
		.seed = how->seed,
		.system_bytes = (uint32_t)p.a_bytes,
		.spec = how->spec,
		.draft_length = how->draft_length,
		.repeat_penalty = how->repeat_penalty,
		.frequency_penalty = how->frequency_penalty,
		.presence_penalty = how->presence_penalty,
		.penalty_last_n = how->penalty_last_n,
		.min_tokens = how->min_tokens,
		.typical_p = how->typical_p,
		.top_n_sigma = how->top_n_sigma,
		.xtc_probability = how->xtc_probability,
		.xtc_threshold = how->xtc_threshold,
		.dry_multiplier = how->dry_multiplier,
		.dry_base = how->dry_base,
		.dry_allowed_length = how->dry_allowed_length,
		.dry_last_n = how->dry_last_n,
		.n_logprobs = how->n_logprobs,
	};
	void *joined = NULL;
	int rc = sluice__join_tail(how, &p.b, &p.b_bytes, &g, &joined);

	if (rc == -EINVAL)
		return sluice__fail(
			fault, rc,
			"too many biases, or DRY's texts are too long or without a NUL at "
			"their end");
	if (rc == -EDOM)
		return sluice__fail(fault, -EINVAL,
				    "a form needs its kind and a text of 1 to %u bytes",
				    SLUICE_FORM_MAX);
	if (rc)
		return sluice__fail(fault, rc, "no memory for what comes behind the prompt");
	g.flags |= want_progress(s, k);
	if (s->welcome.version < 2) /* which reuses nothing */
		g.flags &= ~SLUICE_NO_REUSE;
	rc = sluice__send_request(s, SLUICE_GENERATE, &g, p.a, p.a_bytes, p.b, p.b_bytes, fault);
	free(joined);
	return rc ? rc : run_request(s, k, done, fault);
}

int sluice_generate(struct sluice *s, const struct sluice_prompt *prompt,
		    const struct sluice_settings *settings, sluice_token_fn on_token, void *arg,
		    struct sluice_done *ret, struct sluice_fault *fault)
{
	struct sinks k = { .on_token = on_token, .arg = arg };
	struct sluice_settings how;
	struct sluice_prompt p;
	struct sluice_done done = { 0 };
	int rc = ret ? sluice__check_room(&sluice__done_kind, ret, fault) : 0;

	if (rc)
		return rc;
	rc = take_prompt(prompt, &p, fault);
	if (!rc)
		rc = sluice__take(&sluice__settings_kind, &how, settings, fault);
	if (!rc)
		rc = sluice__check_flags(how.flags,
					 SLUICE_IGNORE_EOG | SLUICE_RAW | SLUICE_NO_REUSE,
					 "flags of struct sluice_settings", fault);
	if (!rc)
		rc = generate(s, &p, &how, &k, &done, fault);
	if (ret)
		sluice__give(&sluice__done_kind, ret, &done);
	return rc;
}

/* As generate(), for the question @q, whose flags say what to send back. */
static int score(struct sluice *s, const struct sluice_prompt *prompt, uint32_t flags,
		 struct sinks *k, struct sluice_done *done, struct sluice_fault *fault)
{
	struct parts p = split_prompt(prompt);
	struct sluice_ask_score q = { .struct_size = sizeof(q),
				      .flags = p.flags | flags,
				      .payload_bytes = p.a_bytes + p.b_bytes };
	int rc;

	q.flags |= want_progress(s, k);
	rc = sluice__send_request(s, SLUICE_SCORE, &q, p.a, p.a_bytes, p.b, p.b_bytes, fault);
	return rc ? rc : run_request(s, k, done, fault);
}

int sluice_score(struct sluice *s, const struct sluice_prompt *prompt, sluice_logits_fn on_logits,
		 void *arg, double **ret_logprobs, struct sluice_done *ret,
		 struct sluice_fault *fault)
{
	double *logprobs = NULL;
	struct sinks k = { .on_logits = on_logits,
			   .arg = arg,
			   .ret_logprobs = ret_logprobs ? &logprobs : NULL };
	struct sluice_done done = { 0 };
	struct sluice_prompt p;
	int rc = ret ? sluice__check_room(&sluice__done_kind, ret, fault) : 0;

	if (rc)
		return rc;
	rc = take_prompt(prompt, &p, fault);
	if (!rc)
		rc = score(s, &p,
			   (on_logits ? SLUICE_LOGITS_OUT : 0) |
				   (ret_logprobs ? SLUICE_LOGPROBS_OUT : 0),
			   &k, &done, fault);
	/* callers go by n_prompt */
	if (!rc && ret_logprobs && done.stop != SLUICE_STOP_CANCELLED &&
	    (!logprobs || k.n_logprobs + 1 != done.n_prompt))
		rc = sluice__fail_protocol(fault);
	if (ret)
		sluice__give(&sluice__done_kind, ret, &done);
	if (rc || !ret_logprobs) {
		free(logprobs);
		return rc;
	}
	*ret_logprobs = logprobs;
	return 0;
}

/* Sends @p as @type and copies the answer's payload, with a NUL behind it. */
static int convert(struct sluice *s, uint16_t type, uint16_t reply_type, const struct parts *p,
		   void **ret, size_t *ret_bytes, struct sluice_fault *fault)
{
	struct sluice_convert q = { .struct_size = sizeof(q),
				    .flags = p->flags,
				    .payload_bytes = p->a_bytes + p->b_bytes,
				    .system_bytes = (uint32_t)p->a_bytes };
	struct sluice__reply r;
	uint8_t *copy;
	int rc = sluice__send_request(s, type, &q, p->a, p->a_bytes, p->b, p->b_bytes, fault);

	if (!rc)
		rc = expect(s, reply_type, &r, fault);
	if (rc)
		return rc;
	copy = malloc(r.payload_bytes + 1);
	if (copy) {
		memcpy(copy, r.payload, r.payload_bytes);
		copy[r.payload_bytes] = '\0';
		*ret = copy;
		*ret_bytes = r.payload_bytes;
	}
	sluice__drop_reply(&r);
	return copy ? 0 : sluice__fail(fault, -ENOMEM, "out of memory");
}

int sluice_tokenize(struct sluice *s, const struct sluice_prompt *prompt, uint32_t **ret,
		    size_t *ret_n, struct sluice_fault *fault)
{
	struct sluice_prompt p;
	struct parts parts;
	size_t bytes = 0;
	void *ids = NULL;
	int rc = take_prompt(prompt, &p, fault);

	if (rc)
		return rc;
	if (p.tokens)
		return sluice__fail(fault, -EINVAL, "sluice_tokenize() takes text, not tokens");
	parts = split_prompt(&p);
	rc = convert(s, SLUICE_TOKENIZE, SLUICE_TOKENS, &parts, &ids, &bytes, fault);
	if (rc)
		return rc;
	*ret = ids;
	*ret_n = bytes / sizeof(uint32_t);
	return 0;
}

int sluice_detokenize(struct sluice *s, const uint32_t *tokens, size_t n, uint32_t flags,
		      char **ret, size_t *ret_bytes, struct sluice_fault *fault)
{
	struct parts parts = { .flags = flags };
	void *text = NULL;
	int rc = sluice__check_flags(flags, SLUICE_RAW, "flags of sluice_detokenize()", fault);

	if (rc)
		return rc;
	if (n > SLUICE_PAYLOAD_MAX / sizeof(uint32_t))
		return sluice__fail(fault, -EFBIG, "too many tokens at once");
	parts.b = tokens;
	parts.b_bytes = n * sizeof(uint32_t);
	rc = convert(s, SLUICE_DETOKENIZE, SLUICE_TEXT, &parts, &text, ret_bytes, fault);
	if (!rc)
		*ret = text;
	return rc;
}

int sluice_open_http(struct sluice *s, int *ret_fd, struct sluice_fault *fault)
{
	struct sluice_query q = { .struct_size = sizeof(q) };
	struct sluice__reply r;
	int rc = sluice__send_request(s, SLUICE_HTTP, &q, NULL, 0, NULL, 0, fault);

	if (!rc)
		rc = expect(s, SLUICE_HTTP_SOCKET, &r, fault);
	if (rc)
		return rc;
	*ret_fd = r.socket;
	r.socket = -1;
	sluice__drop_reply(&r);
	return 0;
}
