/* SPDX-License-Identifier: MIT */
/*
 * uapi/libsluice.c: see sluice.h. One struct per connection, and what is a question with one answer.
 * Requests that run are libsluice_request.c, bytes and descriptors the business of libsluice_wire.c.
 */
#include "sluice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "libsluice_prompt.h"
#include "libsluice_structs.h"
#include "libsluice_wire.h"

#define CONNECT_SECONDS 10

const char *sluice_stop_name(uint32_t stop)
{
	static const char *const names[] = { "stop", "length", "cancelled", "error" };

	return stop < sizeof(names) / sizeof(names[0]) ? names[stop] : "error";
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

/* ---- texts to tokens and back ---- */

/* Sends @p as @type and copies the answer's payload, with a NUL behind it. */
static int convert(struct sluice *s, uint16_t type, uint16_t reply_type,
		   const struct sluice__parts *p, void **ret, size_t *ret_bytes,
		   struct sluice_fault *fault)
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
	struct sluice__parts parts;
	size_t bytes = 0;
	void *ids = NULL;
	int rc = sluice__take_prompt(prompt, &p, fault);

	if (rc)
		return rc;
	if (p.tokens)
		return sluice__fail(fault, -EINVAL, "sluice_tokenize() takes text, not tokens");
	parts = sluice__split_prompt(&p);
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
	struct sluice__parts parts = { .flags = flags };
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
