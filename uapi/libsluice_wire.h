/* SPDX-License-Identifier: MIT */
/*
 * uapi/libsluice_wire.h: messages out and in, the lower half of libsluice. Not a public header: the
 * double underscore marks what other programs do not call.
 */
#ifndef SLUICE_LIBSLUICE_WIRE_H
#define SLUICE_LIBSLUICE_WIRE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "sluice.h"

struct sluice {
	int fd;
	uint64_t last_id;
	_Atomic uint64_t open_id; /* of the running request, 0: none */
	struct sluice_welcome welcome;
	sluice_progress_fn on_progress; /* NULL: not wanted */
	void *progress_arg;
	_Alignas(8) uint8_t in[SLUICE_MSG_MAX];
	_Alignas(8) uint8_t out[SLUICE_MSG_MAX];
};

/* A reply: fixed part and payload lie in the connection's buffer or in a mapping. */
struct sluice__reply {
	struct sluice_msg head;
	const uint8_t *fixed;
	uint32_t fixed_size;
	const uint8_t *payload;
	uint64_t payload_bytes;
	void *map;  /* NULL, or payload_bytes mapped */
	int socket; /* HTTP_SOCKET: the descriptor, for its taker to close; else -1 */
};

/* Fills @fault (may be NULL) and returns @error, a negative errno. */
int sluice__fail(struct sluice_fault *fault, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int sluice__fail_protocol(struct sluice_fault *fault);

/* The daemon's own error: its code and sentence. */
int sluice__fail_refused(struct sluice_fault *fault, uint32_t code, const uint8_t *text,
			 uint64_t bytes);

/*
 * Sends @type with a new id (s->last_id after it). The payload has two parts (system text and
 * prompt); it goes inline where it fits, else by memfd.
 */
int sluice__send_request(struct sluice *s, uint16_t type, const void *fixed, const void *a,
			 size_t a_bytes, const void *b, size_t b_bytes, struct sluice_fault *fault);

/*
 * Waits for the next message of the request @id. ERROR becomes this call's failure; messages of
 * requests that are over are passed by. Any other reply is the caller's to drop.
 */
int sluice__next_reply(struct sluice *s, uint64_t id, struct sluice__reply *r,
		       struct sluice_fault *fault);
void sluice__drop_reply(struct sluice__reply *r);

/* True where SLUICE_SOCKET says where the daemon is. */
bool sluice__socket_named(void);

/* Copies a fixed part of whatever age into a struct of ours. */
void sluice__copy_fixed(const struct sluice__reply *r, void *dst, size_t size);

/*
 * The prompt's last part (@prompt, @prompt_bytes) with what comes behind it, which @g then tells of: a copy
 * in *owned, to be freed. 0; -EINVAL: biases or texts, -EDOM: a form that cannot be sent; -ENOMEM.
 */
int sluice__join_tail(const struct sluice_settings *how, const void **prompt, size_t *prompt_bytes,
		      struct sluice_ask_generate *g, void **owned);

#endif
