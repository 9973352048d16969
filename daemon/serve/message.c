/* SPDX-License-Identifier: MIT */
/* daemon/serve/message.c: see message.h. One row per message type says what is legal in it. */
#include "serve/message.h"

#include <math.h>
#include <string.h>

#include "base/num.h"

struct kind {
	uint16_t type;
	const char *name;
	uint32_t min_size; /* of the fixed part in protocol version 1 */
	uint32_t size;	   /* in this version */
	uint32_t flags;	   /* legal bits of the fixed part's flags, which lie at offset 4 */
	bool payload;	   /* has payload_bytes, at offset 8 */
};

#define THINKING (SLUICE_THINK | SLUICE_NO_THINK)

static const struct kind kinds[] = {
	{ SLUICE_HELLO, "HELLO", 48, sizeof(struct sluice_hello), 0, false },
	{ SLUICE_GENERATE, "GENERATE", 56, sizeof(struct sluice_ask_generate),
	  SLUICE_TOKENS_IN | SLUICE_CHAT | SLUICE_SPECIAL | THINKING | SLUICE_IGNORE_EOG |
		  SLUICE_RAW | SLUICE_PROGRESS_OUT | SLUICE_NO_REUSE,
	  true },
	{ SLUICE_CANCEL, "CANCEL", 8, sizeof(struct sluice_ask_cancel), 0, false },
	{ SLUICE_SCORE, "SCORE", 16, sizeof(struct sluice_ask_score),
	  SLUICE_TOKENS_IN | SLUICE_SPECIAL | SLUICE_LOGITS_OUT | SLUICE_LOGPROBS_OUT |
		  SLUICE_PROGRESS_OUT,
	  true },
	{ SLUICE_MODEL_INFO, "MODEL_INFO", 8, sizeof(struct sluice_query), 0, false },
	{ SLUICE_STATUS, "STATUS", 8, sizeof(struct sluice_query), 0, false },
	{ SLUICE_HTTP, "HTTP", 8, sizeof(struct sluice_query), 0, false },
	{ SLUICE_TOKENIZE, "TOKENIZE", 16, sizeof(struct sluice_convert),
	  SLUICE_CHAT | SLUICE_SPECIAL | THINKING, true },
	{ SLUICE_DETOKENIZE, "DETOKENIZE", 16, sizeof(struct sluice_convert),
	  SLUICE_TOKENS_IN | SLUICE_RAW, true },
};

static const struct {
	int code;
	bool closes;
} errors[] = {
#define SLUICE_X(name, value, err, closes, text) { value, closes },
	SLUICE_ERRORS(SLUICE_X)
#undef SLUICE_X
};

bool message_error_closes(int code)
{
	for (size_t i = 0; i < ARRAY_LEN(errors); i++)
		if (errors[i].code == code)
			return errors[i].closes;
	return true;
}

uint32_t message_version(const struct sluice_hello *hello)
{
	uint32_t version = hello->version_max < SLUICE_PROTO_VERSION ? hello->version_max
								     : SLUICE_PROTO_VERSION;

	return version >= hello->version_min && version >= SLUICE_PROTO_VERSION_MIN ? version : 0;
}

static const struct kind *find_kind(uint16_t type)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (kinds[i].type == type)
			return &kinds[i];
	return NULL;
}

static int malformed(struct err *err, const char *what)
{
	return err_set(err, SLUICE_E_MALFORMED, "malformed message: %s", what);
}

static int check_hello(const struct message *m, struct err *err)
{
	const struct sluice_hello *h = &m->u.hello;

	if (m->id)
		return malformed(err, "HELLO has no request id");
	if (h->magic != SLUICE_PROTO_MAGIC)
		return malformed(err, "wrong magic in HELLO");
	if (!h->version_min || h->version_min > h->version_max)
		return malformed(err, "impossible version range in HELLO");
	return 0;
}

uint64_t message_tail_bytes(const struct sluice_ask_generate *g)
{
	return (uint64_t)g->n_draft * sizeof(uint32_t) +
	       (uint64_t)g->n_bias * sizeof(struct sluice_bias) + g->breaker_bytes +
	       align_up(g->form_bytes, 4);
}

static bool within(float value, float low, float high)
{
	return isfinite(value) && value >= low && value <= high;
}

/* A chat's own: a system text at the beginning of the payload, and thinking. */
static int check_chat(uint32_t system_bytes, uint32_t flags, uint64_t payload_bytes,
		      struct err *err)
{
	if (flags & THINKING && !(flags & SLUICE_CHAT))
		return err_set(err, SLUICE_E_INVALID, "thinking is of the chat form");
	if ((flags & THINKING) == THINKING)
		return err_set(err, SLUICE_E_INVALID, "to think and not to think was asked for");
	if (system_bytes && !(flags & SLUICE_CHAT))
		return err_set(err, SLUICE_E_INVALID, "a system text needs the chat form");
	if (system_bytes > payload_bytes)
		return err_set(err, SLUICE_E_INVALID, "the system text is longer than the payload");
	return 0;
}

static int check_convert(const struct sluice_convert *q, struct err *err)
{
	if (q->reserved)
		return err_set(err, SLUICE_E_INVALID, "reserved field is not zero");
	return check_chat(q->system_bytes, q->flags, q->payload_bytes, err);
}

static int check_generate(const struct sluice_ask_generate *g, struct err *err)
{
	if (!within(g->temperature, 0, 100))
		return err_set(err, SLUICE_E_INVALID, "temperature is not within 0..100");
	if (!within(g->top_p, 0, 1) || !within(g->min_p, 0, 1))
		return err_set(err, SLUICE_E_INVALID, "top_p or min_p is not within 0..1");
	if (!within(g->repeat_penalty, 0, 100) || !within(g->frequency_penalty, -100, 100) ||
	    !within(g->presence_penalty, -100, 100))
		return err_set(err, SLUICE_E_INVALID, "a penalty is out of range");
	if (!within(g->typical_p, 0, 1) || !within(g->xtc_probability, 0, 1) ||
	    !within(g->xtc_threshold, 0, 1))
		return err_set(err, SLUICE_E_INVALID, "a probability is not within 0..1");
	if (!within(g->top_n_sigma, 0, 100) || !within(g->dry_multiplier, 0, 100) ||
	    !within(g->dry_base, 0, 100) || g->penalty_last_n < -1 || g->dry_last_n < -1)
		return err_set(err, SLUICE_E_INVALID, "a setting of sampling is out of range");
	if (g->n_bias > SLUICE_BIAS_MAX || g->breaker_bytes > SLUICE_BREAKERS_MAX ||
	    g->breaker_bytes % 4)
		return err_set(err, SLUICE_E_INVALID,
			       "at most %u biases, and %u bytes of DRY's texts, a multiple of 4",
			       SLUICE_BIAS_MAX, SLUICE_BREAKERS_MAX);
	if (g->n_logprobs > SLUICE_LOGPROBS_MAX + 1)
		return err_set(err, SLUICE_E_INVALID, "at most %u tokens beside each",
			       SLUICE_LOGPROBS_MAX);
	if (g->reserved || g->reserved2 || g->reserved3 || g->reserved4)
		return err_set(err, SLUICE_E_INVALID, "reserved field is not zero");
	if (g->form > SLUICE_FORM_REGEX)
		return err_set(err, SLUICE_E_INVALID, "unknown kind of form %u", g->form);
	if (!g->form != !g->form_bytes || g->form_bytes > SLUICE_FORM_MAX)
		return err_set(err, SLUICE_E_INVALID, "a form has a text of up to %u bytes",
			       SLUICE_FORM_MAX);
	if (g->spec > SLUICE_SPEC_MTP)
		return err_set(err, SLUICE_E_INVALID, "unknown kind of speculation %u", g->spec);
	if (g->draft_length > SLUICE_DRAFT_LENGTH_MAX)
		return err_set(err, SLUICE_E_INVALID, "a step may have %d drafts, not %u",
			       SLUICE_DRAFT_LENGTH_MAX, g->draft_length);
	if (message_tail_bytes(g) >= g->payload_bytes)
		return err_set(err, SLUICE_E_INVALID,
			       "the draft, the biases and the form leave no prompt in the payload");
	return check_chat(g->system_bytes, g->flags, g->payload_bytes - message_tail_bytes(g), err);
}

/* What all types that carry text or ids share. */
static int check_payload(const struct message *m, uint32_t flags, struct err *err)
{
	bool ids = flags & SLUICE_TOKENS_IN || m->type == SLUICE_DETOKENIZE;

	if (m->payload_bytes > SLUICE_PAYLOAD_MAX)
		return err_set(err, SLUICE_E_TOO_LARGE, "a payload may have %u bytes, not %llu",
			       SLUICE_PAYLOAD_MAX, (unsigned long long)m->payload_bytes);
	if (ids && m->payload_bytes % sizeof(uint32_t))
		return err_set(err, SLUICE_E_INVALID, "tokens are 4 bytes each");
	if (ids && flags & (SLUICE_CHAT | SLUICE_SPECIAL))
		return err_set(err, SLUICE_E_INVALID, "chat and special are for text, not tokens");
	if (!m->payload_bytes && (m->type == SLUICE_GENERATE || m->type == SLUICE_SCORE))
		return err_set(err, SLUICE_E_INVALID, "the prompt is empty");
	return 0;
}

static int check_values(const struct message *m, const struct kind *k, struct err *err)
{
	uint32_t word = m->u.query.reserved; /* flags, or what is reserved where there are none */
	int rc;

	if (m->type == SLUICE_HELLO)
		return check_hello(m, err);
	if (!m->id)
		return err_set(err, SLUICE_E_INVALID, "a request needs an id other than 0");
	if (word & ~k->flags)
		return err_set(err, SLUICE_E_INVALID, "unknown flags %#x in %s", word & ~k->flags,
			       k->name);
	rc = k->payload ? check_payload(m, word, err) : 0;
	if (!rc && m->type == SLUICE_GENERATE)
		rc = check_generate(&m->u.generate, err);
	if (!rc && (m->type == SLUICE_TOKENIZE || m->type == SLUICE_DETOKENIZE))
		rc = check_convert(&m->u.convert, err);
	return rc;
}

/* Copies the fixed part and finds the payload behind it. */
static int take_fixed(const uint8_t *packet, size_t len, const struct kind *k, struct message *m,
		      struct err *err)
{
	const uint8_t *fixed = packet + sizeof(struct sluice_msg);
	size_t room = len - sizeof(struct sluice_msg);
	uint32_t size;

	if (room < sizeof(size))
		return malformed(err, "no fixed part");
	memcpy(&size, fixed, sizeof(size));
	if (size < k->min_size || size > room || size % 8)
		return malformed(err, "wrong struct_size");
	memcpy(&m->u, fixed, size < k->size ? size : k->size);
	for (size_t i = k->size; i < size; i++)
		if (fixed[i])
			return err_set(err, SLUICE_E_TOO_NEW,
				       "%s uses fields that this daemon does not know", k->name);
	room -= size;
	if (k->payload)
		memcpy(&m->payload_bytes, fixed + 8, sizeof(m->payload_bytes));
	if (m->in_fd && (!k->payload || room))
		return malformed(err, "a descriptor where the payload is not in one");
	if (!m->in_fd && m->payload_bytes != room)
		return malformed(err, "payload_bytes and the size of the message disagree");
	m->payload = m->in_fd ? NULL : fixed + size;
	return 0;
}

int message_parse(const void *packet, size_t len, unsigned n_fds, struct message *ret,
		  struct err *err)
{
	struct sluice_msg head;
	const struct kind *k;
	int rc;

	memset(ret, 0, sizeof(*ret));
	if (len < sizeof(head))
		return malformed(err, "shorter than a header");
	memcpy(&head, packet, sizeof(head));
	ret->id = head.id;
	ret->type = head.type;
	if (head.size != len)
		return malformed(err, "its size is not that of the packet");
	if (head.flags & ~SLUICE_MSG_FD)
		return malformed(err, "unknown header flags");
	if (n_fds > 1 || n_fds != (head.flags & SLUICE_MSG_FD ? 1 : 0))
		return malformed(err, "descriptors that the header does not announce, or none");
	ret->in_fd = head.flags & SLUICE_MSG_FD;
	k = find_kind(head.type);
	if (!k)
		return err_set(err, SLUICE_E_UNKNOWN_TYPE, "unknown message type %u", head.type);
	rc = take_fixed(packet, len, k, ret, err);
	return rc ? rc : check_values(ret, k, err);
}

size_t message_build(void *buf, size_t room, uint16_t type, uint64_t id, const void *fixed,
		     const void *payload, uint64_t payload_bytes, bool in_fd)
{
	struct sluice_msg head = { .type = type, .flags = in_fd ? SLUICE_MSG_FD : 0, .id = id };
	uint64_t inline_bytes = in_fd ? 0 : payload_bytes, len;
	uint8_t *out = buf;
	uint32_t size;

	memcpy(&size, fixed, sizeof(size));
	if (u64_add_overflow(sizeof(head) + size, inline_bytes, &len) || len > room)
		return 0;
	head.size = (uint32_t)len;
	memcpy(out, &head, sizeof(head));
	memcpy(out + sizeof(head), fixed, size);
	if (inline_bytes)
		memcpy(out + sizeof(head) + size, payload, inline_bytes);
	return len;
}
