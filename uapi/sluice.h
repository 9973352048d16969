/* SPDX-License-Identifier: MIT */
/*
 * uapi/sluice.h: libsluice, the C client of sluiced. Needs libc alone.
 *
 *	struct sluice_fault fault;
 *	struct sluice *s;
 *
 *	if (sluice_connect(NULL, &s, &fault))
 *		die(fault.text);
 *	struct sluice_prompt p = { .struct_size = sizeof(p), .flags = SLUICE_CHAT,
 *				   .text = "Hello", .text_bytes = 5 };
 *	struct sluice_settings how = { .struct_size = sizeof(how), .max_tokens = 64 };
 *	if (sluice_generate(s, &p, &how, print_token, NULL, NULL, &fault))
 *		die(fault.text);
 *	sluice_close(s);
 *
 * (A whole program: examples/generate.c.) Functions return 0 or -errno and then a sentence in
 * *fault, which may be NULL. One request at a time per connection: calls on one struct sluice must
 * not overlap, except sluice_cancel(). Connections are independent of each other. Text is UTF-8.
 * After an error of the connection itself (-EPIPE, -EPROTO) only sluice_close() makes sense.
 *
 * Structs that the caller allocates start with struct_size, which the caller sets to sizeof of the
 * struct (results too, before the call) and the library never changes; struct sluice_fault has
 * reserved room instead. Structs only grow at their end, so programs and libraries of different
 * ages work together:
 *
 *	program older than the library	what it does not know is 0 where the library reads, and not
 *					written where the library answers
 *	program newer than the library	what the library cannot answer reads 0; a field that it
 *					does not know and that is not 0 is refused with -E2BIG
 *
 * A struct that the library only reads (prompt, settings) may leave struct_size 0: it then counts
 * as the first version of the struct, in which later fields do not exist. Another struct_size that no version had
 * is refused with -EINVAL, unknown bits in flags with
 * -EOPNOTSUPP. Reserved fields are 0.
 */
#ifndef SLUICE_H
#define SLUICE_H

#include <stddef.h>
#include <stdint.h>

#include "sluice_proto.h"
#include "sluice_status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sluice;

/* Only written: needs no initial value. */
struct sluice_fault {
	int32_t error; /* -errno, as returned */
	uint32_t code; /* enum sluice_error_code where the daemon refused, else 0 */
	uint64_t reserved[7];
	char text[512]; /* a sentence, NUL-terminated */
};

/* Where a daemon that root started listens when nobody says otherwise. */
#define SLUICE_SYSTEM_SOCKET "/run/sluiced/sluice.sock"

/* flags of sluice_socket_path() */
#define SLUICE_MAKE_DIRECTORY 0x01u /* make the socket's directory: for who wants to listen */

/*
 * Where this user's daemon listens when nobody says otherwise: the variable SLUICE_SOCKET; else as
 * root SLUICE_SYSTEM_SOCKET; else sluice.sock in XDG_RUNTIME_DIR; without that variable
 * /tmp/sluice-UID/sluice.sock, whose directory must be this user's alone (-EPERM). *ret gets a
 * path of less than @len bytes, its NUL included (-ENAMETOOLONG). Any thread, as far as getenv().
 */
int sluice_socket_path(uint32_t flags, char *ret, size_t len, struct sluice_fault *fault);

/*
 * Connects and shakes hands. @path NULL: where sluice_socket_path() says, and where nobody listens
 * there and SLUICE_SOCKET is not set, at SLUICE_SYSTEM_SOCKET. -ENOENT or -ECONNREFUSED: nobody
 * listens; -EACCES: not allowed; -EPROTONOSUPPORT: no common protocol version; -ETIMEDOUT: no
 * answer within ten seconds.
 */
int sluice_connect(const char *path, struct sluice **ret, struct sluice_fault *fault);
void sluice_close(struct sluice *s); /* cancels what runs; NULL is fine */

/* What the daemon said at the handshake: "sluiced 0.1.0", bounds. Valid as long as @s. */
const struct sluice_welcome *sluice_daemon(const struct sluice *s);

/* @path (room for @len bytes, may be NULL) gets the model's path as the daemon was given it. */
int sluice_get_model(struct sluice *s, struct sluice_model_info *ret, char *path, size_t len,
		     struct sluice_fault *fault);

/* @fallbacks (may be NULL) gets what the daemon could not have, one sentence a line. */
int sluice_get_status(struct sluice *s, struct sluice_status_info *ret, char *fallbacks, size_t len,
		      struct sluice_fault *fault);

/*
 * What a request reads. Either tokens, or text with flags out of SLUICE_CHAT (one user turn in the
 * model's chat form), SLUICE_SPECIAL (control tokens in the text are parsed) and, for a chat,
 * SLUICE_THINK or SLUICE_NO_THINK (-ENOTSUP where the model's template has no such form; neither:
 * no thought where the template can leave it out). Tokens and text at once, or what is a chat's
 * without SLUICE_CHAT, is refused with -EINVAL. Borrowed during the call.
 */
struct sluice_prompt {
	uint32_t struct_size;
	uint32_t flags;
	const uint32_t *tokens; /* NULL: text */
	size_t n_tokens;
	const char *text;
	size_t text_bytes;
	const char *system; /* SLUICE_CHAT: system text, NUL-terminated, or NULL */
};

/* How to answer; zero everywhere but struct_size and max_tokens is greedy. */
struct sluice_settings {
	uint32_t struct_size;
	uint32_t flags;	     /* SLUICE_IGNORE_EOG, SLUICE_RAW, SLUICE_NO_REUSE */
	uint32_t max_tokens; /* cut to what the context holds */
	uint32_t n_untimed;  /* this number of prompt tokens, from the first, is not timed */
	float temperature;   /* 0: greedy */
	uint32_t top_k;	     /* 0: off */
	float top_p;	     /* 0 or 1: off */
	float min_p;	     /* 0: off */
	uint64_t seed;
	/* No token depends on these. */
	uint32_t spec;	       /* enum sluice_spec; 0: as the daemon was started */
	uint32_t draft_length; /* 0: as it pays; else so many drafts in every step (studies) */
	const uint32_t *draft; /* a draft of the whole answer, for studies; NULL: none. Borrowed */
	size_t n_draft;
	/* Order and formulas: docs/protocol.md. 0: off, or the value that is named. */
	float repeat_penalty; /* 1: off too */
	float frequency_penalty, presence_penalty;
	int32_t penalty_last_n; /* tokens that the penalties look at; 0: 64, -1: all */
	uint32_t min_tokens;	/* before so many none that ends the answer */
	float typical_p;	/* 1: off too */
	float top_n_sigma;
	float xtc_probability, xtc_threshold; /* a threshold over 0.5: off too */
	float dry_multiplier, dry_base;	      /* base 0: 1.75 */
	uint32_t dry_allowed_length;	      /* 0: 2 */
	int32_t dry_last_n;		      /* tokens that it looks at; 0 or -1: all */
	uint32_t n_logprobs; /* 0: none; else 1 + how many likeliest tokens beside each, up to 20 */
	const struct sluice_bias *bias; /* of different tokens, up to SLUICE_BIAS_MAX. Borrowed */
	size_t n_bias;
	const char *dry_breakers;  /* texts that end a repetition, a NUL behind each. Borrowed */
	size_t dry_breakers_bytes; /* up to SLUICE_BREAKERS_MAX - 3; 0: nothing ends one */
	/* What the answer is held to: enum sluice_form and its text. Borrowed; NULL: nothing. -EINVAL:
	 * it is no such form, -ENOTSUP: what it says cannot be held, -EFBIG: it is too large. */
	const char *form_text;
	size_t form_bytes;
	uint32_t form;
	uint32_t reserved;
};

/*
 * A generated token and the text that became complete with it (@bytes may be 0; not
 * NUL-terminated). The last one may have SLUICE_NO_TOKEN and a rest of text. The library's: valid
 * during the call. A field beyond struct_size is one that the library does not know yet.
 */
struct sluice_piece {
	uint32_t struct_size;
	uint32_t token;
	uint32_t index; /* counts from 0 */
	uint32_t reserved;
	const char *text;
	size_t bytes;
	const struct sluice_likely *likeliest; /* where asked for: likeliest first */
	uint32_t n_likeliest;
	float logprob; /* of @token, by the model alone; 0 where not asked for */
};

/* Returns 0 to go on; anything else cancels (and is not called again). */
typedef int (*sluice_token_fn)(void *arg, const struct sluice_piece *piece);

/*
 * How far the reading of a long prompt is; *p is valid during the call. Returns 0 to go on; anything
 * else cancels (and is not called again).
 */
typedef int (*sluice_progress_fn)(void *arg, const struct sluice_progress *p);

/*
 * From here on sluice_generate() and sluice_score() on @s report the progress of reading the prompt
 * to @fn, on the calling thread; NULL: no more. Not while one runs. A daemon that does not know
 * progress yet (protocol version 1) reports none.
 */
void sluice_on_progress(struct sluice *s, sluice_progress_fn fn, void *arg);

/*
 * Generates. 0 when it ended by itself or was cancelled (ret->stop says which); @ret and @on_token
 * may be NULL. Where the daemon reports an error in the middle (-ESHUTDOWN: it is stopping): -errno,
 * and @ret holds the counts so far.
 */
int sluice_generate(struct sluice *s, const struct sluice_prompt *prompt,
		    const struct sluice_settings *settings, sluice_token_fn on_token, void *arg,
		    struct sluice_done *ret, struct sluice_fault *fault);

/*
 * Ends the running sluice_generate() or sluice_score() soon. Any thread; safe in a signal handler.
 * Without one running it does nothing.
 */
void sluice_cancel(struct sluice *s);

/*
 * Rows of logits: floats [n_rows][n_vocab], row i for prompt position first + i. Valid during the
 * call. Returns 0 to go on; anything else cancels.
 */
typedef int (*sluice_logits_fn)(void *arg, uint32_t first, uint32_t n_rows, uint32_t n_vocab,
				const float *logits);

/*
 * Reads the prompt and reports what the model thought of it: logits of every position (@on_logits
 * not NULL) and, in *ret_logprobs (not NULL), a malloc'd array of ret->n_prompt - 1 natural
 * log-probabilities, entry i for token i + 1 given 0..i. free() it.
 */
int sluice_score(struct sluice *s, const struct sluice_prompt *prompt, sluice_logits_fn on_logits,
		 void *arg, double **ret_logprobs, struct sluice_done *ret,
		 struct sluice_fault *fault);

/*
 * Text -> ids: malloc'd, free() it. The ids that sluice_generate() reads for the same prompt, its
 * system text included.
 */
int sluice_tokenize(struct sluice *s, const struct sluice_prompt *prompt, uint32_t **ret,
		    size_t *ret_n, struct sluice_fault *fault);

/* Ids -> text: malloc'd with a NUL behind it. @flags: SLUICE_RAW shows control tokens. */
int sluice_detokenize(struct sluice *s, const uint32_t *tokens, size_t n, uint32_t flags,
		      char **ret, size_t *ret_bytes, struct sluice_fault *fault);

/*
 * A new connection on which the daemon answers HTTP/1.1 (docs/http.md), whether or not it serves HTTP
 * elsewhere: *ret_fd is a connected stream socket, the caller's to close, and independent of @s. Who may
 * use @s needs no API key there. -EOPNOTSUPP: an older daemon; -EBUSY, -EMFILE: no room for another one,
 * there or in this process.
 */
int sluice_open_http(struct sluice *s, int *ret_fd, struct sluice_fault *fault);

/* "stop", "length", "cancelled" or "error" for enum sluice_stop. */
const char *sluice_stop_name(uint32_t stop);

#ifdef __cplusplus
}
#endif

#endif
