/* SPDX-License-Identifier: MIT */
/*
 * uapi/sluice_proto.h: the native protocol between sluiced and its clients.
 *
 * Transport: a Unix socket of type SOCK_SEQPACKET; one packet is one message. Both ends run on one
 * machine, so numbers are in host order. docs/protocol.md tells the conversation; in short:
 *
 *	client                         daemon
 *	HELLO            ->
 *	                 <-            WELCOME            (or ERROR and close)
 *	GENERATE id=1    ->
 *	                 <-            ACCEPTED id=1      (or ERROR id=1)
 *	                 <-            PROGRESS id=1 ...  (where asked for)
 *	                 <-            TOKEN id=1 ...
 *	CANCEL id=1      ->                               (at any time)
 *	                 <-            DONE id=1          (always the last of its id)
 *
 * Message: struct sluice_msg, then a fixed part that starts with its own size (struct_size), then
 * the payload. Fixed parts only grow at their end. A receiver takes a shorter one than it knows
 * (missing fields are zero) and a longer one if the bytes it does not know are zero; else it
 * answers SLUICE_E_TOO_NEW. Reserved fields and unknown flag bits must be zero.
 *
 * Payload: directly after the fixed part, payload_bytes long, up to SLUICE_INLINE_MAX bytes; longer
 * ones travel in a memfd attached to the message (SCM_RIGHTS, exactly one, SLUICE_MSG_FD set) that is
 * sealed with SLUICE_SEALS and exactly payload_bytes long. Either form is legal for short ones.
 *
 * What the daemon tells of itself (STATUS_REPLY) is in sluice_status.h.
 */
#ifndef SLUICE_PROTO_H
#define SLUICE_PROTO_H

#include <stdint.h>

/* Checks a layout wherever this is compiled: C99 has no word of its own for that. */
#if defined(__cplusplus)
#define SLUICE_LAYOUT(is_so, what) static_assert(is_so, what)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define SLUICE_LAYOUT(is_so, what) _Static_assert(is_so, what)
#else
#define SLUICE_LAYOUT(is_so, what) extern char sluice_layout_is[(is_so) ? 1 : -1]
#endif

#define SLUICE_PROTO_MAGIC	 0x43554c53u /* "SLUC" */
#define SLUICE_PROTO_VERSION	 2u	     /* what this header describes */
#define SLUICE_PROTO_VERSION_MIN 1u	     /* the oldest that this version still speaks */

#define SLUICE_INLINE_MAX  65536u		       /* payload bytes inside a message */
#define SLUICE_MSG_MAX	   (SLUICE_INLINE_MAX + 4096u) /* bytes of a whole message */
#define SLUICE_PAYLOAD_MAX (16u << 20)		       /* bytes of a payload to the daemon */

/* F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE of <linux/fcntl.h> */
#define SLUICE_SEALS (0x0002 | 0x0004 | 0x0008)

struct sluice_msg {
	uint32_t size;	/* of the whole message, this header included: the packet's length */
	uint16_t type;	/* enum sluice_type */
	uint16_t flags; /* SLUICE_MSG_FD, SLUICE_MSG_SOCKET or 0 */
	/*
	 * Chosen by the client, not in use by another open request of the same connection; replies
	 * carry it back. 0 only in HELLO, WELCOME and errors of the connection itself.
	 */
	uint64_t id;
};
SLUICE_LAYOUT(sizeof(struct sluice_msg) == 16, "wire");

#define SLUICE_MSG_FD	  1u /* the payload is in the attached memfd */
#define SLUICE_MSG_SOCKET 2u /* HTTP_SOCKET: a connected stream socket is attached */

enum sluice_type {
	/* client -> daemon */
	SLUICE_HELLO = 1,
	SLUICE_GENERATE = 2,
	SLUICE_CANCEL = 3,
	SLUICE_SCORE = 4,
	SLUICE_MODEL_INFO = 5,
	SLUICE_STATUS = 6,
	SLUICE_TOKENIZE = 7,
	SLUICE_DETOKENIZE = 8,
	SLUICE_HTTP = 9, /* a connection on which HTTP is spoken; answer: HTTP_SOCKET */
	/* daemon -> client */
	SLUICE_WELCOME = 0x101,
	SLUICE_ACCEPTED = 0x102,
	SLUICE_TOKEN = 0x103,
	SLUICE_DONE = 0x104,
	SLUICE_LOGITS = 0x105,
	SLUICE_LOGPROBS = 0x106,
	SLUICE_MODEL = 0x107,
	SLUICE_STATUS_REPLY = 0x108,
	SLUICE_TOKENS = 0x109,
	SLUICE_TEXT = 0x10a,
	SLUICE_PROGRESS = 0x10b, /* since version 2 */
	SLUICE_HTTP_SOCKET = 0x10c,
	SLUICE_ERROR = 0x1ff,
};

/*
 * Errors: X(name, value, errno that libsluice gives, closes the connection, sentence).
 * Those that close say that the two ends no longer agree on what a message is, or that the peer
 * may not be here; the others leave the connection and its other requests as they were.
 */
#define SLUICE_ERRORS(X)                                                                      \
	X(MALFORMED, 1, EPROTO, 1, "the message is not well formed")                          \
	X(VERSION, 2, EPROTONOSUPPORT, 1, "no common protocol version")                       \
	X(DENIED, 3, EACCES, 1, "this user may not use the socket")                           \
	X(LIMIT, 4, EUSERS, 1, "too many connections")                                        \
	X(SLOW, 5, ETIMEDOUT, 1, "the client did not read or speak in time")                  \
	X(UNKNOWN_TYPE, 16, EOPNOTSUPP, 0, "unknown message type")                            \
	X(TOO_NEW, 17, E2BIG, 0, "the message uses fields that this daemon does not know")    \
	X(INVALID, 18, EINVAL, 0, "a value is out of range")                                  \
	X(TOO_LARGE, 19, EFBIG, 0, "the payload is too large")                                \
	X(BAD_FD, 20, EBADF, 0, "the attached descriptor is not a sealed memfd of that size") \
	X(TOO_LONG, 21, EMSGSIZE, 0, "longer than the context")                               \
	X(DUPLICATE_ID, 22, EEXIST, 0, "a request with this id is open")                      \
	X(BUSY, 23, EBUSY, 0, "too many requests")                                            \
	X(UNSUPPORTED, 24, ENOTSUP, 0, "this model cannot do that")                           \
	X(IO, 25, EIO, 0, "the model file could not be read")                                 \
	X(SHUTDOWN, 26, ESHUTDOWN, 0, "the daemon is stopping")                               \
	X(NO_MEMORY, 27, ENOMEM, 0, "out of memory")                                          \
	X(INTERNAL, 28, EREMOTEIO, 0, "the daemon failed")

enum sluice_error_code {
#define SLUICE_X(name, value, err, closes, text) SLUICE_E_##name = value,
	SLUICE_ERRORS(SLUICE_X)
#undef SLUICE_X
};

/* First message of a client, once. */
struct sluice_hello {
	uint32_t struct_size;
	uint32_t magic;	      /* SLUICE_PROTO_MAGIC */
	uint32_t version_min; /* oldest and newest protocol that the client speaks */
	uint32_t version_max;
	char client[32]; /* name and version for the daemon's log; NUL-padded */
};
SLUICE_LAYOUT(sizeof(struct sluice_hello) == 48, "wire");

/* Its answer: the version both speak from here on, and the bounds of this connection. */
struct sluice_welcome {
	uint32_t struct_size;
	uint32_t magic;
	uint32_t version;     /* chosen: the newest common one */
	uint32_t version_min; /* the daemon's own range */
	uint32_t version_max;
	uint32_t max_requests;	/* open at once on this connection */
	uint32_t payload_max;	/* bytes */
	uint32_t stall_seconds; /* a client that takes nothing for so long is dropped */
	char server[32];	/* "sluiced 0.1.0" */
};
SLUICE_LAYOUT(sizeof(struct sluice_welcome) == 64, "wire");

/* flags of GENERATE, SCORE, TOKENIZE and DETOKENIZE */
#define SLUICE_TOKENS_IN    0x01u  /* the payload is uint32_t ids, not text */
#define SLUICE_CHAT	    0x02u  /* text: one user turn in the model's chat form */
#define SLUICE_SPECIAL	    0x04u  /* text: parse control tokens written in it */
#define SLUICE_IGNORE_EOG   0x08u  /* GENERATE: go on after an end-of-generation token */
#define SLUICE_RAW	    0x10u  /* streamed text and TEXT show control tokens too */
#define SLUICE_LOGITS_OUT   0x20u  /* SCORE: send LOGITS */
#define SLUICE_LOGPROBS_OUT 0x40u  /* SCORE: send LOGPROBS */
#define SLUICE_PROGRESS_OUT 0x80u  /* GENERATE, SCORE: send PROGRESS; since version 2 */
#define SLUICE_THINK	    0x100u /* CHAT: the answer begins with a thought; since version 2 */
#define SLUICE_NO_THINK	    0x200u /* CHAT: it does not; since version 2 */
/* GENERATE: read the whole prompt, and keep nothing of it for others; since version 2 */
#define SLUICE_NO_REUSE	    0x400u

/* Speculation: drafts that are checked several in one step. No value of it changes any token. */
enum sluice_spec {
	SLUICE_SPEC_DEFAULT = 0, /* as the daemon was started (sluiced --spec) */
	SLUICE_SPEC_AUTO = 1,	 /* every source that there is */
	SLUICE_SPEC_OFF = 2,
	SLUICE_SPEC_NGRAM = 3, /* what occurred before in the sequence */
	SLUICE_SPEC_MTP = 4,   /* the model's prediction head; none: nothing is drafted */
};
#define SLUICE_DRAFT_LENGTH_MAX 7

/* What an answer is held to; docs/structured-output.md says what each can say. */
enum sluice_form {
	SLUICE_FORM_NONE = 0,
	SLUICE_FORM_SCHEMA = 1,	      /* a JSON schema; what cannot be held is refused */
	SLUICE_FORM_SCHEMA_LOOSE = 2, /* ... or left out */
	SLUICE_FORM_GBNF = 3,	      /* a grammar in llama.cpp's notation */
	SLUICE_FORM_REGEX = 4,	      /* a regular expression that the whole matches */
};
#define SLUICE_FORM_MAX (4u << 20) /* bytes of its text */

#define SLUICE_BIAS_MAX	    1024u
#define SLUICE_BREAKERS_MAX 1024u /* bytes */
#define SLUICE_LOGPROBS_MAX 20u

/* Added to a token's logit before anything else; -INFINITY: it is never chosen. */
struct sluice_bias {
	uint32_t token;
	float bias;
};
SLUICE_LAYOUT(sizeof(struct sluice_bias) == 8, "wire");

/*
 * Payload: the prompt; behind it n_draft uint32_t ids, a draft of the whole answer. Generates up to max_tokens;
 * 0 only reads the prompt in.
 */
struct sluice_ask_generate {
	uint32_t struct_size;
	uint32_t flags; /* TOKENS_IN, CHAT, SPECIAL, THINK, NO_THINK, IGNORE_EOG, RAW, PROGRESS_OUT,
		       * NO_REUSE */
	uint64_t payload_bytes;
	uint32_t max_tokens; /* cut to what the context holds: ACCEPTED says the number */
	uint32_t n_untimed;  /* the first so many prompt tokens do not count in the timings */
	float temperature;   /* 0: greedy; up to 100 */
	uint32_t top_k;	     /* 0: off */
	float top_p;	     /* 0 or 1: off */
	float min_p;	     /* 0: off */
	uint64_t seed;
	uint32_t system_bytes; /* CHAT: the first so many payload bytes are the system text */
	uint32_t reserved;
	uint32_t spec;	       /* enum sluice_spec */
	uint32_t draft_length; /* 0: as it pays; else so many drafts in every step (studies) */
	uint32_t n_draft; /* ids at the payload's end: drafts come from there alone (studies) */
	uint32_t reserved2;
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
	uint32_t reserved3;
	/* behind the draft, in this order: */
	uint32_t n_bias; /* struct sluice_bias each, at most SLUICE_BIAS_MAX */
	uint32_t
		breaker_bytes; /* texts that end a repetition for DRY, a NUL behind each, zeros up to
				 * a multiple of 4; at most SLUICE_BREAKERS_MAX */
	uint32_t n_logprobs;   /* with each token: 0: none, else 1 + how many likeliest, up to 20 */
	uint32_t reserved4;
	/*
	 * Behind them the form's text, and zeros up to a multiple of 4. ACCEPTED comes when it is compiled;
	 * INVALID, UNSUPPORTED or TOO_LARGE say what is wrong with it.
	 */
	uint32_t form, form_bytes; /* enum sluice_form; without the zeros, up to SLUICE_FORM_MAX */
};
SLUICE_LAYOUT(sizeof(struct sluice_ask_generate) == 152, "wire");

/* id names the request to cancel: its DONE comes with SLUICE_STOP_CANCELLED. An id that is not open
 * (any more) is no error and gets no answer. */
struct sluice_ask_cancel {
	uint32_t struct_size;
	uint32_t reserved;
};
SLUICE_LAYOUT(sizeof(struct sluice_ask_cancel) == 8, "wire");

/* Payload: the text or tokens to score. */
struct sluice_ask_score {
	uint32_t struct_size;
	uint32_t flags; /* TOKENS_IN | SPECIAL | LOGITS_OUT | LOGPROBS_OUT | PROGRESS_OUT */
	uint64_t payload_bytes;
};
SLUICE_LAYOUT(sizeof(struct sluice_ask_score) == 16, "wire");

/* MODEL_INFO, STATUS, HTTP and HTTP_SOCKET carry nothing but their header's fixed part. */
struct sluice_query {
	uint32_t struct_size;
	uint32_t reserved;
};
SLUICE_LAYOUT(sizeof(struct sluice_query) == 8, "wire");

/* TOKENIZE (text -> TOKENS) and DETOKENIZE (ids -> TEXT). */
struct sluice_convert {
	uint32_t struct_size;
	uint32_t flags; /* TOKENIZE: CHAT, SPECIAL, THINK, NO_THINK; DETOKENIZE: RAW */
	uint64_t payload_bytes;
	uint32_t system_bytes; /* CHAT: the first so many payload bytes are the system text */
	uint32_t reserved;
};
SLUICE_LAYOUT(sizeof(struct sluice_convert) == 24, "wire");

/* ---- daemon -> client ---- */

struct sluice_accepted {
	uint32_t struct_size;
	uint32_t n_prompt;   /* tokens */
	uint32_t max_tokens; /* as it will be held */
	uint32_t n_ctx;
};
SLUICE_LAYOUT(sizeof(struct sluice_accepted) == 16, "wire");

/*
 * How far the reading of the prompt is, where PROGRESS_OUT asked for it: now and then while it is
 * read, before the first TOKEN. Values never fall; a client that reads slowly gets fewer of them.
 */
struct sluice_progress {
	uint32_t struct_size;
	uint32_t n_read;   /* prompt tokens that went through all layers */
	uint32_t n_prompt; /* of so many, as in ACCEPTED */
	uint32_t done_ppm; /* work done, parts per million: moves on within a step too */
};
SLUICE_LAYOUT(sizeof(struct sluice_progress) == 16, "wire");

#define SLUICE_NO_TOKEN UINT32_MAX

/*
 * One generated token, the end-of-generation token included. Payload: the text that became complete
 * with it, whole UTF-8 characters, often empty or more than one character. A last message with
 * SLUICE_NO_TOKEN carries what was left of an incomplete character.
 */
struct sluice_token {
	uint32_t struct_size;
	uint32_t token;
	uint32_t index; /* counts from 0 */
	uint32_t reserved;
	uint64_t payload_bytes;
	/* where asked for; the payload then ends with n_likeliest struct sluice_likely, unaligned */
	float logprob; /* natural, of the model itself */
	uint32_t n_likeliest;
};
SLUICE_LAYOUT(sizeof(struct sluice_token) == 32, "wire");

struct sluice_likely {
	uint32_t token;
	float logprob;
};
SLUICE_LAYOUT(sizeof(struct sluice_likely) == 8, "wire");

/* Where a draft came from. */
enum sluice_draft {
	SLUICE_DRAFT_GIVEN = 0, /* with the request */
	SLUICE_DRAFT_NGRAM = 1,
	SLUICE_DRAFT_MTP = 2,
	SLUICE_DRAFTS = 4 /* places in the arrays below */
};

/* Of the steps of a request, or of all, in which it decoded and nobody's prompt was read. */
struct sluice_spec_counts {
	uint64_t steps, columns, tokens; /* columns: the step's last token and its drafts */
	uint64_t plain_ns; /* what the tokens would have taken by steps without drafts */
	uint64_t step_ns;  /* what the steps took */
	uint64_t drafted[SLUICE_DRAFTS], accepted[SLUICE_DRAFTS]; /* tokens, by enum sluice_draft */
};
SLUICE_LAYOUT(sizeof(struct sluice_spec_counts) == 104, "wire");

enum sluice_stop {
	SLUICE_STOP_EOG = 0,	   /* "stop": an end-of-generation token */
	SLUICE_STOP_LENGTH = 1,	   /* "length": max_tokens reached */
	SLUICE_STOP_CANCELLED = 2, /* "cancelled": by its client */
	SLUICE_STOP_ERROR = 3,	   /* "error": code and the payload say which; a stopping daemon's
				    * is SLUICE_E_SHUTDOWN */
};

/* The last message of a GENERATE or SCORE. Payload: the error's sentence, empty without error. */
struct sluice_done {
	uint32_t struct_size;
	uint32_t stop;	      /* enum sluice_stop */
	uint32_t code;	      /* enum sluice_error_code where stop is ERROR, else 0 */
	uint32_t n_prompt;    /* prompt tokens that were read: all, or those until it was ended */
	uint32_t n_generated; /* tokens that were sent */
	uint32_t n_cached;    /* of n_prompt: taken from earlier requests instead of being read */
	uint64_t prompt_ns;   /* the timed part of the prompt */
	uint64_t predict_ns;  /* from the first generated token to the last */
	uint64_t ttft_ns;     /* from the request to its first token */
	/* the engine's counters over the timed part, all requests together */
	uint64_t hits;	     /* uses of experts that were in memory */
	uint64_t misses;     /* uses that had to wait for the disk or come from it */
	uint64_t bytes_read; /* expert bytes from disk */
	uint64_t stall_ns;   /* compute had nothing but waiting to do */
	uint64_t span_ns;    /* length of the timed part */
	uint64_t payload_bytes;
	struct sluice_spec_counts spec;
};
SLUICE_LAYOUT(sizeof(struct sluice_done) == 200, "wire");

/*
 * Rows of logits, in order, always in a memfd: n_rows * n_vocab floats, row i for prompt position
 * first + i (the distribution after that token).
 */
struct sluice_logits {
	uint32_t struct_size;
	uint32_t first;
	uint32_t n_rows;
	uint32_t n_vocab;
	uint64_t payload_bytes;
};
SLUICE_LAYOUT(sizeof(struct sluice_logits) == 24, "wire");

/* Payload: doubles; entry i is the natural log-probability of prompt token i + 1 given 0..i. */
struct sluice_logprobs {
	uint32_t struct_size;
	uint32_t count;
	uint64_t payload_bytes;
};
SLUICE_LAYOUT(sizeof(struct sluice_logprobs) == 16, "wire");

/* TOKENS: uint32_t ids. TEXT: bytes. */
struct sluice_converted {
	uint32_t struct_size;
	uint32_t reserved;
	uint64_t payload_bytes;
};
SLUICE_LAYOUT(sizeof(struct sluice_converted) == 16, "wire");

#define SLUICE_MODEL_HAS_CHAT 1u /* SLUICE_CHAT works */

/* Payload: the path that the daemon was given. Texts are UTF-8, NUL-terminated. */
struct sluice_model_info {
	uint32_t struct_size;
	uint32_t flags;
	uint32_t n_layers, n_embd, n_vocab;
	uint32_t n_ctx_train, n_ctx; /* trained for; per sequence of this daemon */
	uint32_t n_expert, n_expert_used, n_expert_layers; /* 0 for dense models */
	uint32_t n_tokens;	     /* entries of the vocabulary, <= n_vocab as a rule */
	uint32_t file_type;	     /* general.file_type, UINT32_MAX: not said */
	uint64_t expert_bytes_total; /* without padding */
	uint64_t dense_bytes;
	uint64_t routed_bytes_per_token;
	uint64_t active_bytes_per_token; /* routed and dense weights that a token reads */
	uint64_t n_params;
	uint64_t file_bytes;
	uint64_t payload_bytes;
	char arch[32];
	char name[128];
};
SLUICE_LAYOUT(sizeof(struct sluice_model_info) == 264, "wire");

/* STATUS_REPLY: sluice_status.h */

/* id: of the request refused, or 0 where the connection itself is meant. Payload: a sentence. */
struct sluice_error {
	uint32_t struct_size;
	uint32_t code; /* enum sluice_error_code */
	uint64_t payload_bytes;
};
SLUICE_LAYOUT(sizeof(struct sluice_error) == 16, "wire");

#endif
