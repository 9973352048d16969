/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/message.h: packets from clients, checked; packets to clients, built.
 *
 * Pure functions on bytes: what a client sends is untrusted and nothing behind message_parse()
 * looks at the packet again. Errors are codes of the protocol (0: none) with a sentence.
 * Main thread, but without state.
 */
#ifndef SLUICE_SERVE_MESSAGE_H
#define SLUICE_SERVE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "uapi/sluice_proto.h"

struct message {
	uint16_t type;
	bool in_fd;		/* the payload is in the descriptor that came along */
	uint64_t id;		/* 0 where the packet was too short to have one */
	const uint8_t *payload; /* inline payload, in the packet, 8-byte aligned as the packet is */
	uint64_t payload_bytes;
	union {
		struct sluice_hello hello;
		struct sluice_ask_generate generate;
		struct sluice_ask_cancel cancel;
		struct sluice_ask_score score;
		struct sluice_query query;
		struct sluice_convert convert;
	} u; /* as this version knows it: missing fields zero */
};

/*
 * Checks everything that can be checked without knowing the connection: sizes, version of the
 * fixed part, payload, flags, reserved fields, ranges. @packet is 8-byte aligned, @n_fds
 * descriptors came with it. Returns 0 or an enum sluice_error_code and a sentence.
 */
int message_parse(const void *packet, size_t len, unsigned n_fds, struct message *ret,
		  struct err *err);

/* The newest version that @hello and we speak, or 0. */
uint32_t message_version(const struct sluice_hello *hello);

bool message_error_closes(int code);

/*
 * Writes header, fixed part (@fixed, whose first field is its size) and inline payload to @buf of
 * @room bytes; @payload may be NULL where it goes by memfd (@in_fd). Returns the length, or 0 where
 * it does not fit.
 */
size_t message_build(void *buf, size_t room, uint16_t type, uint64_t id, const void *fixed,
		     const void *payload, uint64_t payload_bytes, bool in_fd);

/* Bytes behind the prompt in the payload of a GENERATE: draft, biases, texts, form. */
uint64_t message_tail_bytes(const struct sluice_ask_generate *g);

#endif
