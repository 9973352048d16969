/* SPDX-License-Identifier: MIT */
/* Description: every way in which a client's message can be malformed is refused with its code. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "serve/ask.h"
#include "serve/message.h"

static _Alignas(8) uint8_t packet[SLUICE_MSG_MAX + 64];

/* Builds a message and says what message_parse() thinks of it. */
static int parse_built(uint16_t type, uint64_t id, const void *fixed, const void *payload,
		       uint64_t bytes, bool in_fd)
{
	struct message m;
	size_t len = message_build(packet, sizeof(packet), type, id, fixed, payload, bytes, in_fd);

	assert_true(len > 0);
	return message_parse(packet, len, in_fd, &m, NULL);
}

static struct sluice_ask_generate good_generate(uint64_t bytes)
{
	return (struct sluice_ask_generate){ .struct_size = sizeof(struct sluice_ask_generate),
					     .payload_bytes = bytes,
					     .max_tokens = 4 };
}

static struct sluice_hello good_hello(void)
{
	return (struct sluice_hello){ .struct_size = sizeof(struct sluice_hello),
				      .magic = SLUICE_PROTO_MAGIC,
				      .version_min = 1,
				      .version_max = 3 };
}

static void good_messages(void **state)
{
	struct sluice_ask_generate g = good_generate(5);
	struct sluice_hello h = good_hello();
	struct sluice_ask_cancel c = { .struct_size = sizeof(c) };
	struct sluice_query q = { .struct_size = sizeof(q) };
	struct sluice_ask_score sc = { .struct_size = sizeof(sc),
				       .flags = SLUICE_TOKENS_IN | SLUICE_LOGITS_OUT,
				       .payload_bytes = 8 };
	struct sluice_convert t = { .struct_size = sizeof(t) };

	assert_int_equal(parse_built(SLUICE_HELLO, 0, &h, NULL, 0, false), 0);
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, "Hello", 5, false), 0);
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, NULL, 5, true), 0);
	assert_int_equal(parse_built(SLUICE_SCORE, 2, &sc, "12345678", 8, false), 0);
	assert_int_equal(parse_built(SLUICE_CANCEL, 1, &c, NULL, 0, false), 0);
	assert_int_equal(parse_built(SLUICE_STATUS, 3, &q, NULL, 0, false), 0);
	assert_int_equal(parse_built(SLUICE_MODEL_INFO, 4, &q, NULL, 0, false), 0);
	assert_int_equal(parse_built(SLUICE_TOKENIZE, 5, &t, NULL, 0, false), 0);
	assert_int_equal(parse_built(SLUICE_DETOKENIZE, 5, &t, NULL, 0, false), 0);
}

/* What TOKENIZE and DETOKENIZE may say of a system text. */
static void converts(void **state)
{
	struct sluice_convert t = { .struct_size = sizeof(t),
				    .flags = SLUICE_CHAT,
				    .payload_bytes = 5,
				    .system_bytes = 5 };

	assert_int_equal(parse_built(SLUICE_TOKENIZE, 5, &t, "Hello", 5, false), 0);
	t.system_bytes = 6;
	assert_int_equal(parse_built(SLUICE_TOKENIZE, 5, &t, "Hello", 5, false), SLUICE_E_INVALID);
	t.system_bytes = 2;
	t.flags = SLUICE_SPECIAL;
	assert_int_equal(parse_built(SLUICE_TOKENIZE, 5, &t, "Hello", 5, false), SLUICE_E_INVALID);
	t.flags = 0;
	t.payload_bytes = 4;
	assert_int_equal(parse_built(SLUICE_DETOKENIZE, 5, &t, "\0\0\0", 4, false),
			 SLUICE_E_INVALID);
	t.system_bytes = 0;
	assert_int_equal(parse_built(SLUICE_DETOKENIZE, 5, &t, "\0\0\0", 4, false), 0);
	t.reserved = 1;
	assert_int_equal(parse_built(SLUICE_DETOKENIZE, 5, &t, "\0\0\0", 4, false),
			 SLUICE_E_INVALID);
	t.reserved = 0;
	t.struct_size = 16; /* of clients that know no system text there */
	assert_int_equal(parse_built(SLUICE_DETOKENIZE, 5, &t, "\0\0\0", 4, false), 0);
}

/* Each field of the header and the sizes behind it. */
static void bad_frames(void **state)
{
	struct sluice_ask_generate g = good_generate(5);
	struct message m;
	struct sluice_msg *head = (void *)packet;
	uint32_t *struct_size = (void *)(packet + sizeof(*head));
	size_t len;

#define REBUILD() \
	(len = message_build(packet, sizeof(packet), SLUICE_GENERATE, 7, &g, "Hello", 5, false))
#define REFUSED(code, n, fds)                                                  \
	do {                                                                   \
		struct err e = { 0 };                                          \
		assert_int_equal(message_parse(packet, n, fds, &m, &e), code); \
		assert_true(e.text[0]);                                        \
	} while (0)
	REBUILD();
	for (size_t n = 0; n < len; n++)
		REFUSED(SLUICE_E_MALFORMED, n, 0);
	REBUILD();
	head->size++;
	REFUSED(SLUICE_E_MALFORMED, len, 0);
	head->size = UINT32_MAX;
	REFUSED(SLUICE_E_MALFORMED, len, 0);
	REBUILD();
	head->flags = 2;
	REFUSED(SLUICE_E_MALFORMED, len, 0);
	REBUILD();
	REFUSED(SLUICE_E_MALFORMED, len, 1); /* a descriptor that is not announced */
	REFUSED(SLUICE_E_MALFORMED, len, 2);
	head->flags = SLUICE_MSG_FD;
	REFUSED(SLUICE_E_MALFORMED, len, 0); /* announced and not there */
	REFUSED(SLUICE_E_MALFORMED, len, 2);
	REFUSED(SLUICE_E_MALFORMED, len, 1); /* and an inline payload too */
	REBUILD();
	head->type = 99;
	REFUSED(SLUICE_E_UNKNOWN_TYPE, len, 0);
	head->type = SLUICE_TOKEN; /* a daemon's type */
	REFUSED(SLUICE_E_UNKNOWN_TYPE, len, 0);
	assert_int_equal(m.id, 7);
	for (uint32_t size = 0; size < 200; size++) {
		REBUILD();
		*struct_size = size;
		if (size != sizeof(g))
			REFUSED(SLUICE_E_MALFORMED, len, 0);
	}
	*struct_size = UINT32_MAX;
	REFUSED(SLUICE_E_MALFORMED, len, 0);
	REBUILD();
	head->id = 0;
	REFUSED(SLUICE_E_INVALID, len, 0);
}

static void payload_sizes(void **state)
{
	static const uint64_t sizes[] = {
		0, 4, 6, 5 + (1ull << 32), UINT64_MAX, 1ull << 63, (uint64_t)INT64_MAX
	};
	struct sluice_ask_generate g = good_generate(5);
	struct message m;
	size_t len;

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		g.payload_bytes = sizes[i];
		len = message_build(packet, sizeof(packet), SLUICE_GENERATE, 7, &g, "Hello", 5,
				    false);
		assert_int_equal(message_parse(packet, len, 0, &m, NULL), SLUICE_E_MALFORMED);
	}
	g.payload_bytes = (uint64_t)SLUICE_PAYLOAD_MAX + 1;
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, NULL, 0, true), SLUICE_E_TOO_LARGE);
	g.payload_bytes = UINT64_MAX;
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, NULL, 0, true), SLUICE_E_TOO_LARGE);
	g.payload_bytes = 0;
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, NULL, 0, false), SLUICE_E_INVALID);
	g.flags = SLUICE_TOKENS_IN;
	g.payload_bytes = 6;
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, "123456", 6, false), SLUICE_E_INVALID);
}

/* A longer fixed part than we know: fine when its tail is zero, else a newer client's wish. */
static void newer_fixed_part(void **state)
{
	struct {
		struct sluice_ask_cancel cancel;
		uint64_t tail[2];
	} c = { .cancel = { .struct_size = sizeof(c) } };

	assert_int_equal(parse_built(SLUICE_CANCEL, 1, &c, NULL, 0, false), 0);
	c.tail[1] = 1;
	assert_int_equal(parse_built(SLUICE_CANCEL, 1, &c, NULL, 0, false), SLUICE_E_TOO_NEW);
	c.cancel.struct_size = sizeof(c) - 4;
	assert_int_equal(parse_built(SLUICE_CANCEL, 1, &c, NULL, 0, false), SLUICE_E_MALFORMED);
}

static void bad_values(void **state)
{
	static const float no_temperature[] = { -1, 101, NAN, INFINITY, -INFINITY };
	static const float no_share[] = { -0.1f, 1.1f, NAN, INFINITY };
	struct sluice_ask_generate g;

#define INVALID() \
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, "Hello", 5, false), SLUICE_E_INVALID)
	for (size_t i = 0; i < ARRAY_LEN(no_temperature); i++) {
		g = good_generate(5);
		g.temperature = no_temperature[i];
		INVALID();
	}
	for (size_t i = 0; i < ARRAY_LEN(no_share); i++) {
		g = good_generate(5);
		g.top_p = no_share[i];
		INVALID();
		g = good_generate(5);
		g.min_p = no_share[i];
		INVALID();
	}
	g = good_generate(5);
	g.reserved = 1;
	INVALID();
	g = good_generate(5);
	g.flags = 1u << 31;
	INVALID();
	g.flags = SLUICE_LOGITS_OUT; /* known, but not here */
	INVALID();
	g = good_generate(5);
	g.system_bytes = 2; /* without SLUICE_CHAT */
	INVALID();
	g.flags = SLUICE_CHAT;
	g.system_bytes = 6;
	INVALID();
	g.flags = SLUICE_CHAT | SLUICE_TOKENS_IN;
	g.system_bytes = 0;
	INVALID();
}

/* Biases, DRY's texts and log-probabilities: bounded, and a prompt is left. */
static void bad_tails(void **state)
{
	static const char all[] = "Hell12345678a\0\0";
	struct sluice_ask_generate g = good_generate(16);

	g.n_bias = 1;
	g.breaker_bytes = 4;
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, all, 16, false), 0);
	g.breaker_bytes = 3;
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, all, 16, false), SLUICE_E_INVALID);
	g.breaker_bytes = 8; /* nothing is left for the prompt */
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, all, 16, false), SLUICE_E_INVALID);
	g.breaker_bytes = SLUICE_BREAKERS_MAX + 4;
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, all, 16, false), SLUICE_E_INVALID);
	g.breaker_bytes = 0;
	g.n_bias = SLUICE_BIAS_MAX + 1;
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, all, 16, false), SLUICE_E_INVALID);
	g.n_bias = UINT32_MAX;
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, all, 16, false), SLUICE_E_INVALID);
	g.n_bias = 0;
	g.n_logprobs = SLUICE_LOGPROBS_MAX + 2;
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, all, 16, false), SLUICE_E_INVALID);
	g.n_logprobs = 0;
	g.reserved4 = 1;
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, all, 16, false), SLUICE_E_INVALID);
}

/* A draft leaves a prompt before it, and numbers that mean nothing are refused. */
static void bad_drafts(void **state)
{
	static const uint32_t none[] = { 2, 3, 1u << 30, 0x40000001u, UINT32_MAX };
	struct sluice_ask_generate g;

	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		g = good_generate(5);
		g.n_draft = none[i]; /* of 5 bytes 4 may be one, and one byte the prompt */
		INVALID();
	}
	g = good_generate(5);
	g.n_draft = 1;
	assert_int_equal(parse_built(SLUICE_GENERATE, 1, &g, "Hello", 5, false), 0);
	g.flags = SLUICE_CHAT;
	g.system_bytes = 2; /* of the one byte that is left */
	INVALID();
	g = good_generate(5);
	g.spec = SLUICE_SPEC_MTP + 1;
	INVALID();
	g = good_generate(5);
	g.draft_length = SLUICE_DRAFT_LENGTH_MAX + 1;
	INVALID();
	g = good_generate(5);
	g.reserved2 = 1;
	INVALID();
}

static void bad_hello(void **state)
{
	struct sluice_hello h = good_hello();

#define BAD_HELLO(id) \
	assert_int_equal(parse_built(SLUICE_HELLO, id, &h, NULL, 0, false), SLUICE_E_MALFORMED)
	BAD_HELLO(1);
	h.magic ^= 1;
	BAD_HELLO(0);
	h = good_hello();
	h.version_min = 0;
	BAD_HELLO(0);
	h = good_hello();
	h.version_min = 4;
	BAD_HELLO(0);
}

static void versions(void **state)
{
	struct sluice_hello h = good_hello();

	assert_int_equal(message_version(&h), SLUICE_PROTO_VERSION);
	h.version_min = SLUICE_PROTO_VERSION + 1;
	assert_int_equal(message_version(&h), 0);
	h.version_min = h.version_max = SLUICE_PROTO_VERSION;
	assert_int_equal(message_version(&h), SLUICE_PROTO_VERSION);
}

static void error_classes(void **state)
{
	assert_true(message_error_closes(SLUICE_E_MALFORMED));
	assert_true(message_error_closes(SLUICE_E_SLOW));
	assert_true(message_error_closes(12345));
	assert_false(message_error_closes(SLUICE_E_UNKNOWN_TYPE));
	assert_false(message_error_closes(SLUICE_E_BAD_FD));
	assert_string_equal(ask_error_text(SLUICE_E_BUSY), "too many requests");
}

static void build_bounds(void **state)
{
	struct sluice_token t = { .struct_size = sizeof(t), .payload_bytes = 10 };

	assert_int_equal(message_build(packet, 57, SLUICE_TOKEN, 1, &t, "0123456789", 10, false),
			 0);
	assert_int_equal(message_build(packet, 58, SLUICE_TOKEN, 1, &t, "0123456789", 10, false),
			 58);
	assert_int_equal(message_build(packet, 50, SLUICE_TOKEN, 1, &t, "", UINT64_MAX, false), 0);
	assert_int_equal(message_build(packet, 48, SLUICE_TOKEN, 1, &t, NULL, 10, true), 48);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_messages),    cmocka_unit_test(converts),
		cmocka_unit_test(bad_frames),	    cmocka_unit_test(payload_sizes),
		cmocka_unit_test(newer_fixed_part), cmocka_unit_test(bad_values),
		cmocka_unit_test(bad_drafts),	    cmocka_unit_test(bad_tails),
		cmocka_unit_test(bad_hello),	    cmocka_unit_test(versions),
		cmocka_unit_test(error_classes),    cmocka_unit_test(build_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
