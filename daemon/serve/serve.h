/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/serve.h: clients. The socket, its connections and their requests.
 *
 * One epoll loop on the main thread owns everything here: sockets, signals, deadlines. The engine
 * thread touches only a request's own buffers (job.h) and an eventfd. A client is untrusted input:
 * what it can make us hold is bounded (limits below), it cannot make us wait, and when it dies or
 * stops reading its requests are cancelled.
 */
#ifndef SLUICE_SERVE_SERVE_H
#define SLUICE_SERVE_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct engine;
struct telemetry_sampler;
struct model;
struct serve;
struct tokenizer;
struct chat_template;
struct json_object;

enum {
	SERVE_MAX_CONNS = 128, /* connections */
	SERVE_MAX_CONNS_PER_UID = 64,
	SERVE_MAX_REQUESTS = 8, /* open generate and score requests of a connection */
	SERVE_STALL_MS = 10000, /* a full socket from which the client takes nothing */
	SERVE_HELLO_MS = 10000, /* a connection that does not say HELLO */
};

#define SERVE_LOGITS_PENDING ((uint64_t)1 << 30) /* bytes computed and not yet sent, all requests */

struct serve_config {
	const char *socket_path;
	const char *model_path; /* as given, shown to clients */
	const struct model *model;
	const struct tokenizer *tokenizer;
	const struct chat_template
		*chat; /* NULL: the file has none, or chat_why says what is wrong */
	const char *chat_why;
	struct json_object *chat_kwargs; /* variables of every chat, or NULL */
	struct engine *engine;
	const struct telemetry_sampler *sampler; /* for the status; NULL: none */
	bool signals; /* stop at SIGTERM, SIGINT; reload at SIGHUP (all blocked by the caller) */
	void (*reload)(void *arg); /* at SIGHUP, on the serve loop; NULL: nothing can be reloaded */
	void *reload_arg;
	uint32_t stall_ms, hello_ms; /* 0: as above; tests shorten them */
	uint32_t request_tokens;     /* most that a request generates, 0: what the context holds */
	uint64_t request_ns;	     /* most time that it takes, 0: no bound */
	uint64_t logits_pending;     /* the same for SERVE_LOGITS_PENDING */
};

/*
 * Binds the socket (a stale file is replaced, a live one refused with -EADDRINUSE) and listens. The
 * config's texts and rooms must outlive it. 0 or -errno and a sentence.
 */
int serve_create(const struct serve_config *config, struct serve **ret, struct err *err);

/*
 * Serves until a signal or serve_stop(): 0; or until the engine fails: -errno and its sentence.
 * Logs once when ready and tells the service manager.
 */
int serve_run(struct serve *s, struct err *err);

/* New bounds for requests that begin from now on. Main thread. */
void serve_set_limits(struct serve *s, uint32_t request_tokens, uint64_t request_ns);

/* Makes serve_run() return. Any thread, any time between create and destroy. */
void serve_stop(struct serve *s);

/*
 * After engine_destroy(), which ends every request: sends what is left without waiting, closes,
 * removes the socket file. NULL is fine.
 */
void serve_destroy(struct serve *s);

#endif
