/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_private.h: the insides of the HTTP server, shared by its files.
 *
 *	http_listen.c	sockets
 *	http_peers.c	connections: who may have one, deadlines, who vanished
 *	http.c		the server in the loop
 *	http_request.c	a request's life, as libmicrohttpd calls for it
 *	http_guard.c	what is refused before a body is read: Host, Origin, key, length
 *	http_reply.c	answers and errors, with their headers
 *	http_work.c	the thread that reads bodies
 *	http_read.c	fields of a JSON request, sampling parameters
 *	http_form.c	the form that an answer is held to
 *	http_run.c	a generation's way: sessions, choices, streams
 *	http_*.c	one file for each kind of question: completion, chat, info, ...
 *
 * A request belongs to the main thread; its call is the worker's from http_work_put() until it comes
 * back. What the worker reads beside it (struct http) is constant after http_create().
 */
#ifndef SLUICE_SERVE_HTTP_PRIVATE_H
#define SLUICE_SERVE_HTTP_PRIVATE_H

#include <microhttpd.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "base/jsonc.h"
#include "chat/calls.h"
#include "chat/template.h"
#include "serve/buf.h"
#include "serve/http.h"
#include "serve/private.h"

enum {
	HTTP_MAX_PEERS = 1024,
	HTTP_MAX_PEERS_PER_CLIENT = 256, /* the longest idle one gives way */
	HTTP_ACCEPTS_AT_ONCE = 64,
	HTTP_POOL_BYTES = 48 << 10,  /* of libmicrohttpd, for one connection's headers */
	HTTP_MAX_HEADERS = 24 << 10, /* 431 beyond */
	HTTP_MAX_BODY = 32 << 20,    /* 413 beyond */
	HTTP_ALL_BODIES = 256 << 20, /* of all requests: the largest unfinished one goes */
	HTTP_FEW_VALUES = 1 << 16,   /* that take no time to speak of, whatever is done with them */
	HTTP_MAX_VALUES = 1 << 20,   /* of a body's JSON, which takes some 100 bytes for each */
	HTTP_MAX_ECHOED = 1 << 20,   /* log-probabilities of an answer's prompts */
	HTTP_MAX_CHOICES = SERVE_MAX_REQUESTS,
	HTTP_HEADER_MS = 10000, /* from connect to the end of the first headers */
	HTTP_BODY_MS = 60000,	/* for the body */
	HTTP_IDLE_MS = 75000,	/* between two requests of a connection */
	HTTP_HALF_MS = 1000,	/* for what a client sent before it closed its side */
	HTTP_STALL_MS = 30000,	/* a reader that takes nothing */
	HTTP_YIELD_MS = 2000,	/* the same, where another client needs the place */
	HTTP_WORK_MS = 30000,	/* until the worker must have read a body */
	HTTP_SEND_BYTES =
		64 << 10, /* the kernel's share of what a client has not taken; it doubles it */
	HTTP_OUT_HIGH =
		64 << 10, /* unread bytes of a stream after which nothing more is rendered */
	HTTP_MAX_KEYS = 256,
};

struct calls_delta;
struct choice;
struct http_saved;
struct http_call;
struct http_request;

/* Why a request is refused; status 0: it is not. */
struct fault {
	int status;
	const char *type, *code; /* constant texts; code NULL: null */
	char param[64];
	const char *allow; /* of a 405: the header's value, a constant text */
	struct err err;
	uint32_t n_prompt_tokens, n_ctx; /* where the prompt is too long */
};

/* Returns false, for `return fault_set(...)`. */
bool fault_set(struct fault *f, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same for a field: 400. */
bool fault_param(struct fault *f, const char *param, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Of an enum sluice_error_code. */
void fault_of_code(struct fault *f, int code, const char *sentence);

/* ---- the server ---- */

struct peer {			 /* a connection */
	struct source_fd source; /* watches for its end */
	struct http *http;
	struct peer *next;
	int fd;
	uint8_t client[20]; /* who: family and address, or uid */
	uint64_t owner;	    /* came over the native socket: its tenant there; 0: did not */
	struct MHD_Connection *c;
	struct http_request *request; /* the open one */
	uint64_t since_ns;	      /* connected, or its last request ended */
	bool served;		      /* had a request */
	uint64_t half_ns;	      /* closed its sending side; 0: has not */
	bool vanished;		      /* or thrown out: the socket is shut down */
	bool put_away;		      /* the library was told to look at it */
};

struct http_listener {
	struct source_fd source;
	struct http *http;
	int fd;
	char path[108]; /* the Unix socket that we made; empty: none */
	uint64_t dev, ino;
};

struct http_work {
	pthread_t thread;
	bool running;
	pthread_mutex_t lock;
	pthread_cond_t come;
	struct http_call *first, **last; /* to do */
	struct http_call *done;		 /* newest first */
	bool stop;
};

struct http_keys {
	char text[HTTP_MAX_KEYS][128];	/* padded with zeros */
	uint64_t tenant[HTTP_MAX_KEYS]; /* never 0; a key's own, wherever it stands in its file */
	unsigned n;
};

struct http {
	struct attachment attachment;
	struct serve *serve;
	struct http_config config;
	struct http_listener listeners[HTTP_ADDRESSES];
	unsigned n_listeners;
	struct MHD_Daemon *mhd;
	struct source_fd mhd_source;
	struct peer *peers;
	unsigned n_peers;
	struct http_request *requests;
	struct http_work work;
	struct http_saved *saved; /* sequences on their way to files and back */
	bool quiet, resumed;
	char *model; /* what we call it */
	struct http_keys keys;
	struct sampling defaults; /* the file's own, else those of llama.cpp's server */
	int64_t started;	  /* seconds since 1970 */
	uint64_t body_bytes;	  /* received and not yet made into something else */
	uint64_t n_requests, n_refused;
};

/* ---- requests ---- */

enum http_state {
	HTTP_BODY,  /* is being received */
	HTTP_WORK,  /* the worker has it; suspended */
	HTTP_READY, /* what to do next is known: answer, or refusal */
	HTTP_RUN,   /* the engine has it; suspended until the whole answer is there */
	HTTP_STREAM /* the answer was begun, or is whole in libmicrohttpd's hands */
};

struct http_prompt {
	uint32_t *ids, n;
	char *text; /* where the answer repeats it (echo): @bytes of it */
	size_t bytes;
};

/* The form that the answer is to have; texts and objects are the body's. */
struct form_wish {
	enum form form;
	const char *param; /* the field that asks for it */
	struct json_object *schema;
	const char *text; /* a grammar or an expression, @n bytes */
	size_t n;
	bool strict;
	bool force;	  /* a call has to be made */
	const char *only; /* of this tool; NULL: of any */
};

/* What the worker makes of a body that asks for text. */
struct generation {
	struct http_prompt prompts[HTTP_MAX_CHOICES];
	unsigned n_prompts, n; /* choices of each */
	struct ask ask;	       /* what all have in common; its constraint is held */
	struct form_wish wish;
	struct stop_text stops[STOPS_MAX];
	bool stream, include_usage, timings_per_token, return_progress, echo, native;
	bool return_tokens;
	/* as ask.n_logprobs, which is the larger: what the answer says of its tokens, and of the prompt's */
	uint32_t n_logprobs, n_prompt_logprobs;
	bool counting;		 /* the prompt is only counted: it may be longer than the context */
	struct logit_bias *bias; /* owned, as is dry_breaks: what ask.sampling points to */
	uint8_t *dry_breaks;
	/* chats */
	bool chat;
	enum calls_format calls_format;
	struct json_object *tools; /* what calls are looked for; owned, NULL: none */
	bool one_call;		   /* parallel_tool_calls false: the first one counts */
	char *rendered;		   /* the prompt's text, where it is known or wanted */
	size_t rendered_bytes;
	bool thinking_open;		      /* chat: the prompt ends within a thought */
	struct prompt_mark marks[CHAT_MARKS]; /* chat: where a next prompt may begin to differ */
};

struct http_call {
	struct http_call *next;
	struct http_request *owner; /* main thread; NULL: nobody waits for it any more */
	const struct http *http;
	const struct http_route *route;
	struct buf body;
	uint64_t tenant; /* of the API key, 0: none */
	uint64_t since_ns;
	size_t held;	       /* bytes of the body that http.body_bytes counts; main thread */
	_Atomic bool unwanted; /* nobody waits for it any more: not worth the worker's time */
	_Atomic bool
		cut; /* its form is not to be compiled to the end: unwanted, or the daemon stops */
	/* what came of it */
	struct fault fault;	  /* status 0: none */
	struct buf answer;	  /* a whole answer; empty: @gen is to be run */
	struct json_object *json; /* the body */
	size_t values;		  /* of JSON that was read for it, at most */
	bool over;		  /* nobody wants it any more: the worker frees it */
	struct generation gen;
	/* POST /slots/ID?action=... */
	uint32_t slot;
	enum { SLOT_NOTHING, SLOT_SAVE, SLOT_RESTORE, SLOT_ERASE } slot_action;
};

/*
 * read_...(), form_..., talk_... and ..._work(), of a call: the worker's thread. False: c->fault says why, or
 * there is no memory where its status is 0. What they keep of the body lives as long as the call. All
 * that has a request, put_...() included: main thread.
 */

/* http_sampling.c */
void sampling_defaults(const struct gguf *g, struct sampling *ret);  /* of the file; at start */
bool read_sampling(struct http_call *c);			     /* -> gen.ask.sampling */
void put_sampling(struct buf *b, const struct sampling *s);	     /* members, without braces */
void put_sampling_defaults(struct buf *b, const struct sampling *s); /* ... of who says nothing */

/* http_logprobs.c: what a request wants, and a token's as the form of its API has them. */
bool read_logprobs(struct http_call *c);	/* -> gen.n_logprobs, gen.ask.n_logprobs */
bool read_prompt_logprobs(struct http_call *c); /* vLLM's, after those: -> gen.n_prompt_logprobs */
/* ... and echo's, when the prompts are known: how many these are */
bool check_prompt_logprobs(struct http_call *c);
void take_logprobs(struct http_request *r, struct choice *c, const struct event *e);
void take_prompt_logprobs(struct http_request *r, struct choice *c, const struct event *e);
void put_logprobs(struct http_request *r, struct choice *c); /* those that were not sent yet */
void put_prompt_logprobs(struct http_request *r, struct choice *c); /* a member, or nothing */

void http_call_destroy(struct http_call *c); /* NULL is fine */

enum finish { FINISH_STOP, FINISH_LENGTH, FINISH_TOOLS };

/* A stretch of a chat's answer of one kind, in the order in which they were written. */
struct block {
	enum calls_kind kind; /* CALLS_REASONING, CALLS_CONTENT or CALLS_BEGIN: a call */
	bool closed;
	char *id, *name; /* of a call */
	struct buf text; /* of a call: its arguments */
};

struct choice {
	unsigned index;
	uint32_t n_prompt, n_tokens, n_read;
	uint32_t n_reasoning; /* of n_tokens: those that thoughts came with */
	bool begun, done;
	enum finish finish;
	bool eog;
	const char *stop_string; /* NULL: none met */
	struct buf stop_copy;
	struct request_result figures; /* where it is done */
	struct job_times times;	       /* before that */
	uint64_t progress_ns;
	struct buf text;	    /* what came, where the answer is given whole */
	struct buf ids;		    /* "1,2,3": tokens, where wanted */
	struct buf logprobs;	    /* entries with commas, JSON, that were not sent yet */
	struct buf prompt_logprobs; /* the list without brackets */
	struct buf legacy[4];	    /* of /v1/completions: tokens, values, likeliest, offsets */
	size_t n_chars;
	/* chat: the text taken apart, as far as it came */
	struct calls *calls;
	struct block *blocks;
	unsigned n_blocks, n_calls;
};

struct http_request {
	struct http_request *next;
	struct http *http;
	struct peer *peer;
	struct MHD_Connection *c;
	enum http_state state;
	const struct http_route *route;
	char id[72];	  /* X-Request-Id */
	char name[48];	  /* of the answer: "chatcmpl-..." */
	char origin[128]; /* that may read the answer; empty: none was said */
	int64_t created;
	bool head, suspended, close, page;
	int64_t drop; /* bytes of a refused body that may still come */
	struct fault fault;
	struct http_call *call; /* NULL while the worker has it: @working */
	struct http_call *working;
	struct buf body;
	uint64_t tenant;
	uint32_t slot;		  /* of /slots/ID */
	struct http_saved *saved; /* what runs of its action; NULL: nothing */
	struct session session;
	struct choice *choices;
	unsigned n_choices, n_done;
	struct buf out;	   /* of a stream */
	size_t out_at;	   /* taken so far */
	bool ended;	   /* nothing comes behind @out */
	unsigned sequence; /* of Responses' events */
	uint64_t since_ns, put_ns, taken_ns;
};

/* How an API words answers. All on the main thread. */
struct http_form {
	const char *prefix;		       /* of the answer's name */
	void (*begin)(struct http_request *r); /* a stream: before anything else; NULL: nothing */
	void (*progress)(struct http_request *r, struct choice *c); /* NULL: nothing */
	void (*echo)(struct http_request *r,
		     struct choice *c); /* a stream: log-probabilities of its prompt are there */
	/* A piece of text (may be empty), with the token that brought it or EVENT_NO_TOKEN. */
	void (*piece)(struct http_request *r, struct choice *c, const char *text, size_t n,
		      uint32_t token);
	/* A stream of a chat; the choice's last block has it already. NULL: not wanted. */
	void (*open)(struct http_request *r, struct choice *c, struct block *b);
	void (*delta)(struct http_request *r, struct choice *c, const struct calls_delta *d);
	void (*close)(struct http_request *r, struct choice *c, struct block *b);
	void (*finish)(struct http_request *r, struct choice *c); /* one choice is through */
	void (*end)(struct http_request *r); /* all are: the last chunks, or the whole answer */
	void (*late)(struct http_request *r, const struct fault *f); /* a stream breaks off */
};

enum http_envelope { ENVELOPE_OPENAI, ENVELOPE_ANTHROPIC };

struct http_route {
	const char *method, *path;
	void (*answer)(struct http_request *r); /* GET: at once */
	bool (*work)(struct http_call *c);	/* POST: on the worker; false: c->fault */
	const struct http_form *form;
	bool open;  /* needs no key */
	bool bare;  /* POST may come without a body */
	bool named; /* of every path that begins so and goes on: with a model's name */
	enum http_envelope envelope;
};

/* http_routes.c; NULL: none. *ret_allow: "GET, POST", where only the method is wrong. */
const struct http_route *http_route_find(const char *method, const char *path,
					 const char **ret_allow);

/* http_listen.c. Opens what --http names, and takes what the service manager handed over: 0, or -errno and a sentence. */
int http_listen_open(struct http *h, struct err *err);
void http_listen_close(struct http *h); /* nobody new; who is connected stays */
bool http_loopback_only(const struct http *h);

/* http_peers.c */
/* A connection that came in from @addr; @fd is taken over. */
void http_peer_accept(struct http *h, int fd, const struct sockaddr_storage *addr, socklen_t len);
/* struct attachment's adopt() */
int http_adopt(struct attachment *a, int fd, uid_t uid, struct err *err);
void http_peer_refuse(int fd);	     /* closes it; its client is told that there is no room */
void http_peer_drop(struct peer *p); /* the library sees its end next */
void http_peers_yield(
	struct http *h); /* one of whoever is missed least is dropped, if anybody may go */
int http_peers_timeout_ms(const struct http *h); /* until the next deadline; -1: there is none */
void http_peers_expire(struct http *h);		 /* drops those whose deadline has come */

/* http_guard.c. The keys' file into h->keys, at start and on a reload: 0, or -errno, a sentence and the keys of before. */
int http_keys_load(struct http *h, struct err *err);
/* Before a body is read. False: r->fault says why; or there is no route, of which the caller tells. */
bool http_guard(struct http_request *r, const char *method);
bool http_origin_allowed(const struct http *h, const char *origin);

/* http_reply.c: answers go to the library, which sends them; state becomes HTTP_STREAM. @body is taken over. */
enum MHD_Result http_reply(struct http_request *r, int status, const char *type, struct buf *body);
enum MHD_Result http_reply_json(struct http_request *r, struct buf *body);
enum MHD_Result http_reply_fault(struct http_request *r, const struct fault *f);
enum MHD_Result http_reply_stream(struct http_request *r, MHD_ContentReaderCallback read);
enum MHD_Result http_reply_options(struct http_request *r);
void http_fault_body(struct buf *b, const struct fault *f, enum http_envelope envelope);

/* http_request.c. MHD_AccessHandlerCallback and MHD_RequestCompletedCallback; their argument is the server. */
enum MHD_Result http_request_access(void *arg, struct MHD_Connection *c, const char *url,
				    const char *method, const char *version, const char *data,
				    size_t *n, void **slot);
void http_request_completed(void *arg, struct MHD_Connection *c, void **slot,
			    enum MHD_RequestTerminationCode why);
/* What was counted of the call's body is there no more; NULL is fine. */
void http_let_go(struct http *h, struct http_call *c);
/* Nobody waits for what the worker makes of the request's body. */
void http_abandon(struct http_request *r);
void http_resume(struct http_request *r); /* nothing where it is not suspended */
void http_request_name(struct http_request *r, const char *prefix); /* a new r->name */

/* http_work.c: a call is the worker's from put() until take() has it in its list, done, NULL: none. Main thread. */
int http_work_start(struct http *h, struct err *err);
void http_work_stop(struct http *h); /* frees the calls that it has */
void http_work_put(struct http *h, struct http_call *c);
struct http_call *http_work_take(struct http *h);
/* Frees @c (NULL is fine), or its JSON alone: on the worker where that takes long. Main thread. */
void http_work_free(struct http *h, struct http_call *c);
void http_work_free_json(struct http *h, struct http_call *c);

/* http_read.c: fields of the object @o; absent and null leave *ret. False: fault. */
bool read_bool(struct json_object *o, const char *key, bool *ret, struct fault *f);
bool read_int(struct json_object *o, const char *key, int64_t min, int64_t max, int64_t *ret,
	      struct fault *f);
bool read_float(struct json_object *o, const char *key, double min, double max, float *ret,
		struct fault *f);
bool read_text(struct json_object *o, const char *key, const char **ret, struct fault *f);
bool read_json(struct http_call *c); /* body -> json, an object */
/* The @n bytes of @text, behind which is a zero, to an object, the caller's whatever comes of it; faults call it @what. */
bool read_json_text(struct http_call *c, const char *text, size_t n, const char *what,
		    struct json_object **ret);
bool read_generation(struct http_call *c); /* what all APIs that generate have in common */
struct json_object *get(struct json_object *o, const char *key); /* NULL: absent or null */
bool read_prompts(struct http_call *c);				 /* the field prompt */
/* Refuses a prompt of @n tokens as longer than the context. */
bool read_too_long(struct http_call *c, uint32_t n);
/* Ids (malloc'd, taken over) as prompt. */
bool read_prompt_ids(struct http_call *c, uint32_t *ids, uint32_t n);
/* Text to prompt @c->gen.n_prompts++. */
bool read_prompt_text(struct http_call *c, const char *text, size_t n, bool special);

/* http_run.c */
void http_run_start(struct http_request *r); /* call is there: state becomes RUN, STREAM or READY */
void http_run_pump(struct http_request *r); /* what its session has to tell, as far as it is read */
void http_run_ready(struct http_request *r); /* its answer, or its fault, can be given now */
void http_run_end(struct http_request *r);   /* frees its choices */
enum MHD_Result http_run_answer(struct http_request *r); /* of one that is HTTP_READY */
/* Members of a JSON object, without braces. */
void put_timings(struct buf *b, const struct choice *c);
void put_progress(struct buf *b, const struct http_request *r, const struct choice *c);
uint32_t choice_cached(const struct choice *c); /* tokens of its prompt that were known */
/* "data: ...\n\n" around what is written between; @event NULL: none. */
void sse_open(struct http_request *r, const char *event);
void sse_close(struct http_request *r);

/* http_openai.c: what chat completions and completions word alike. Main thread. */
void openai_open(struct http_request *r, const char *object); /* up to the first choice */
void openai_usage(struct http_request *r);
void openai_close(struct http_request *r); /* behind the last choice: usage and timings */
void openai_late(struct http_request *r, const struct fault *f);

/* http_talk.c: conversations, in the shapes of OpenAI's chat completions. Worker. */
struct talk {
	struct json_object *messages, *tools; /* borrowed */
	const char *field;		      /* of the body that @messages come from, for faults */
	struct json_object *request;	      /* where kwargs are read; NULL: none */
	bool no_calls;			      /* tool_choice none: tools are told, calls are text */
	bool no_prompt, continue_final; /* add_generation_prompt false; the last one goes on */
};

bool talk_render(struct http_call *c, const struct talk *t); /* -> gen.rendered, a prompt */
/* A message without content at the end of @messages, which owns it. */
struct json_object *talk_message(struct json_object *messages, const char *role);
/* One more at the end of @tools; takes @function, an object with name and parameters, over. */
void talk_add_tool(struct json_object *tools, struct json_object *function);
struct json_object *talk_some(struct json_object *list); /* NULL, and freed, where it is empty */
/* Tools as they came, of whatever API: a list, or NULL. False: fault. Worker. */
bool talk_is_list(struct http_call *c, struct json_object *tools);
/* A list of functions with names, or NULL: what is looked for in an answer. False: fault. */
bool talk_tools(struct http_call *c, struct json_object *tools);
/* tool_choice: auto, none, required, or a tool by name, which come into gen.wish. */
bool talk_choice(struct http_call *c, struct json_object *choice, bool *ret_none);

/* http_form.c: fields of the body; then, with the prompt, what holds the answer to it. @go_on: the prompt
 * ends within an answer. Worker. */
bool form_read(struct http_call *c);
bool form_read_format(struct http_call *c, struct json_object *format, const char *param);
bool form_build(struct http_call *c, bool go_on);

/* http_sink.c: text -> the choice's blocks, and a stream's form. Main thread. */
bool sink_start(struct http_request *r, struct choice *c); /* false: no memory */
/* The next @n bytes; then that no more come. No memory: r->fault. */
void sink_piece(struct http_request *r, struct choice *c, const char *text, size_t n);
void sink_finish(struct http_request *r, struct choice *c);
void sink_done(struct choice *c); /* frees */
/* The texts of all blocks of a kind, one after the other. */
void sink_join(const struct choice *c, enum calls_kind kind, struct buf *ret);

/* http_slots.c: sequences to files and back (engine/saved.h). */
bool http_slots_path(const char *path, uint32_t *ret_slot); /* "/slots/3"? */
void http_slots_ask(struct http_request *r,
		    struct http_call *call);   /* the action, from the query */
void http_slots_start(struct http_request *r); /* the body was read */
void http_slots_pump(struct http *h);	       /* what has ended */
void http_slots_leave(struct http_request *r); /* it ends */
bool slots_work(struct http_call *c);

/* What routes name: http_info.c answers at once, the others are work for a form, or for an answer of their own. */
extern const struct http_form completion_form, native_form, chat_form, messages_form,
	responses_form;
bool chat_work(struct http_call *c);
bool apply_template_work(struct http_call *c);
bool tokenize_work(struct http_call *c);
bool detokenize_work(struct http_call *c);
bool messages_work(struct http_call *c);
bool count_tokens_work(struct http_call *c);
bool responses_work(struct http_call *c);
/* The tokens of such a request's prompt, which may be longer than the context; nothing is generated. */
bool count_chat_work(struct http_call *c);
bool count_responses_work(struct http_call *c);
void put_input_tokens(struct http_call *c); /* the answer to both */
bool completion_work(struct http_call *c);
bool native_work(struct http_call *c);
void page_answer(struct http_request *r);
void info_health(struct http_request *r);
void info_models(struct http_request *r);
void info_one_model(struct http_request *r); /* the one that info_model_is() knows */
/* Whether @id, without its percent-encoding, is what we call the model; false: a 404 that names it. */
bool info_model_is(const struct http *h, const char *id, struct fault *f);
void info_props(struct http_request *r);
void info_slots(struct http_request *r);
void info_experts(struct http_request *r);
void info_metrics(struct http_request *r);
bool infill_work(struct http_call *c);
bool absent_work(struct http_call *c);

#endif
