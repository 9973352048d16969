/* SPDX-License-Identifier: MIT */
/*
 * tests/fuzz/fuzz_http.c: libFuzzer against the HTTP server as it runs: the real serve code with
 * libmicrohttpd, templates and call parsers, over an engine that writes the prompt back (so that what
 * the input holds is also what a model writes). The loop is turned here, the worker and the engine
 * answer at once: one thread, the same every time.
 *
 * Input: a byte that chooses the chat template, then one
 *	0x00-0x7f	a POST to the path of that number, the rest is its body; the answer must be
 *			well formed: JSON, or a stream of JSON events to its end
 *	0x80-0xff	bytes for the connection as they are, which is closed when nothing comes back
 */
#define engine_submit fake_engine_submit /* which has a thread */
#include "../unit/serve/fake_rooms.c"
#undef engine_submit

#define http_work_put work_put_for_thread
#include "../../daemon/serve/http_work.c"
#undef http_work_put

#include "../../daemon/serve/serve.c"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/log.h"
#include "serve/http_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int gguf_f32(const struct gguf *g, const char *key, float *ret, struct err *err)
{
	return -ENOENT;
}

int engine_submit(struct engine *e, struct request *r, struct err *err);
void http_work_put(struct http *h, struct http_call *c);

int engine_submit(struct engine *e, struct request *r, struct err *err)
{
	if (!r->n_tokens)
		return err_set(err, -EINVAL, "empty prompt");
	atomic_fetch_add(&e->open, 1);
	fake_run(e, r);
	return 0;
}

void http_work_put(struct http *h, struct http_call *c)
{
	work(c);
	c->next = h->work.done;
	h->work.done = c;
	serve_wake(h->serve);
}

#define SERVERS	  3
#define IDLE	  8 /* turns in which nothing comes: then nothing will */
#define MAX_BYTES (8 << 20)

#define TURNS                                                                                          \
	"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if m.reasoning_content %}" \
	"<think>{{ m.reasoning_content }}</think>{% endif %}"

#define BEGIN "{% if add_generation_prompt %}<|im_start|>assistant\n"

/* Forms of calls are told by words of the template. */
static const char hermes[] =
	"{% if tools %}{{ tools | tojson }}{% endif %}" TURNS
	"{% for c in m.tool_calls %}<tool_call>{\"name\": {{ c.function.name | tojson }}, "
	"\"arguments\": {{ c.function.arguments | tojson }}}</tool_call>{% endfor %}<|im_end|>\n"
	"{% endfor %}" BEGIN "{% if enable_thinking %}<think>\n{% endif %}{% endif %}";
static const char xml[] = TURNS
	"{% for c in m.tool_calls %}<tool_call><function={{ c.function.name }}>"
	"{% for k, v in c.function.arguments | items %}<parameter={{ k }}>{{ v }}</parameter>"
	"{% endfor %}</function></tool_call>{% endfor %}<|im_end|>\n{% endfor %}" BEGIN
	"{% endif %}";
static const char harmony[] =
	"<|start|>{% for m in messages %}{{ m.role }}<|channel|>final<|message|>{{ m.content }}"
	"<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}";
static const char *const sources[SERVERS] = { hermes, xml, harmony };

static const struct {
	const char *path;
	const char *end; /* of a stream: the last event has this */
} paths[] = {
	{ "/v1/chat/completions", "[DONE]" },
	{ "/v1/responses", "\"type\":\"response." },
	{ "/v1/messages", "" },
	{ "/v1/messages/count_tokens", "" },
	{ "/v1/completions", "[DONE]" },
	{ "/completion", "" },
	{ "/apply-template", "" },
	{ "/tokenize", "" },
	{ "/detokenize", "" },
	{ "/infill", "" },
};

static struct serve *servers[SERVERS];
static struct http *https[SERVERS];
static struct sockaddr_un addresses[SERVERS];
static char got[MAX_BYTES + 1];

static void start(unsigned i)
{
	static char socket_path[SERVERS][64], http_path[SERVERS][64];
	struct http_config http = { .queue = 64,
				    .sse_ping_s = 1,
				    .allowed_hosts = "a.example",
				    .addresses.n = 1,
				    .reasoning_field = HTTP_REASONING_BOTH,
				    .strip_images = i == 1 };
	struct serve_config config = { .model_path = "/m.gguf",
				       .model = &fake_model,
				       .tokenizer = &fake_tokenizer,
				       .request_tokens = 300 };
	struct chat_template *chat;
	struct err err = { 0 };

	snprintf(socket_path[i], sizeof(socket_path[i]), "/tmp/fuzz-http-%d-%u.s", getpid(), i);
	snprintf(http_path[i], sizeof(http_path[i]), "unix:/tmp/fuzz-http-%d-%u.h", getpid(), i);
	addresses[i].sun_family = AF_UNIX;
	strcpy(addresses[i].sun_path, http_path[i] + 5);
	http.addresses.text[0] = http_path[i];
	config.socket_path = socket_path[i];
	if (engine_create(NULL, NULL, NULL, &config.engine, NULL) ||
	    engine_start(config.engine, NULL) ||
	    chat_template_make(sources[i], strlen(sources[i]), NULL, "<|im_end|>", &chat, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	config.chat = chat;
	if (serve_create(&config, &servers[i], &err) ||
	    http_create(servers[i], &http, &https[i], &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

static void clean_up(void)
{
	for (unsigned i = 0; i < SERVERS; i++) {
		unlink(addresses[i].sun_path);
		addresses[i].sun_path[strlen(addresses[i].sun_path) - 1] = 's';
		unlink(addresses[i].sun_path);
	}
}

static void setup(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	log_init((enum log_level)0);
	for (unsigned i = 0; i < SERVERS; i++)
		start(i);
	atexit(clean_up);
}

static void turn_once(unsigned i)
{
	struct err err = { 0 };

	if (turn(servers[i], 0, &err))
		abort();
}

static int connect_to(unsigned i)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&addresses[i], sizeof(addresses[i])) ||
	    fcntl(fd, F_SETFL, O_NONBLOCK))
		abort();
	turn_once(i);
	return fd;
}

/* Sends, and turns the loop until the end or until nothing comes any more; *ret_ended: the former. */
static size_t talk(unsigned i, int fd, const char *data, size_t left, bool *ret_ended)
{
	unsigned idle = 0;
	size_t n = 0;

	*ret_ended = false;
	while (idle < IDLE) {
		ssize_t sent = left ? send(fd, data, left, MSG_NOSIGNAL) : 0, k;

		if (sent > 0) {
			data += sent;
			left -= (size_t)sent;
		}
		turn_once(i);
		k = recv(fd, got + n, MAX_BYTES - n, 0);
		if (!k || (k < 0 && errno != EAGAIN)) {
			*ret_ended = true;
			break;
		}
		idle = k > 0 || sent > 0 ? 0 : idle + 1;
		n += k > 0 ? (size_t)k : 0;
		if (n == MAX_BYTES)
			abort();
	}
	got[n] = '\0';
	return n;
}

/* The daemon must let go of a connection that has ended, and of its memory. */
static void hang_up(unsigned i, int fd)
{
	close(fd);
	for (int k = 0; https[i]->n_peers; k++) {
		turn_once(i);
		if (k == 1000)
			abort();
	}
	if (https[i]->requests || https[i]->body_bytes)
		abort();
}

/* False where these bytes are no JSON. */
static bool is_json(const char *text, size_t n)
{
	struct json_tokener *t = json_tokener_new_ex(200);
	struct json_object *o;
	bool ok;

	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(t, text, (int)n);
	ok = o && json_tokener_get_error(t) == json_tokener_success &&
	     json_tokener_get_parse_end(t) == n;
	json_object_put(o);
	json_tokener_free(t);
	return ok;
}

/* The chunks of a chunked body, one behind the other, in place; its length. */
static size_t join_chunks(char *body)
{
	char *from = body, *to = body, *end;

	for (;;) {
		size_t n = strtoul(from, &end, 16);

		if (end == from || strncmp(end, "\r\n", 2))
			abort();
		if (!n)
			break;
		memmove(to, end + 2, n);
		to += n;
		from = end + 2 + n + 2;
	}
	*to = '\0';
	return (size_t)(to - body);
}

static void check_stream(char *body, const char *end)
{
	char *last = NULL;

	for (char *at = body, *next; *at; at = next) {
		next = strstr(at, "\n\n");
		if (!next) /* every event is whole */
			abort();
		*next = '\0';
		next += 2;
		if (*at == ':')
			continue;
		if (!strncmp(at, "event: ", 7))
			at = strchr(at, '\n') + 1;
		if (strncmp(at, "data: ", 6))
			abort();
		last = at + 6;
		if (strcmp(last, "[DONE]") != 0 && !is_json(last, strlen(last)))
			abort();
	}
	if (!last || !strstr(last, end))
		abort();
}

static void check_answer(size_t n, const char *end)
{
	char *body = strstr(got, "\r\n\r\n");

	if (n < 12 || strncmp(got, "HTTP/1.1 ", 9) || !body)
		abort();
	*body = '\0';
	body += 4;
	if (strstr(got, "Transfer-Encoding: chunked"))
		n = join_chunks(body);
	else
		n -= (size_t)(body - got);
	if (strstr(got, "text/event-stream"))
		check_stream(body, end);
	else if (!is_json(body, n))
		abort();
}

static void ask(unsigned server, unsigned which, const uint8_t *body, size_t n)
{
	static char request[1 << 20];
	int fd = connect_to(server), head;
	bool ended;

	n = n < sizeof(request) / 2 ? n : sizeof(request) / 2;
	head = snprintf(request, sizeof(request),
			"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
			"Connection: close\r\nContent-Length: %zu\r\n\r\n",
			paths[which].path, n);
	memcpy(request + head, body, n);
	n = talk(server, fd, request, (size_t)head + n, &ended);
	if (!ended)
		abort();
	check_answer(n, paths[which].end);
	hang_up(server, fd);
}

static void say(unsigned server, const uint8_t *data, size_t n)
{
	int fd = connect_to(server);
	bool ended;

	talk(server, fd, (const char *)data, n, &ended);
	hang_up(server, fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned server;

	setup();
	if (size < 2)
		return 0;
	server = data[0] % SERVERS;
	if (data[1] < 0x80)
		ask(server, data[1] % (sizeof(paths) / sizeof(paths[0])), data + 2, size - 2);
	else
		say(server, data + 2, size - 2);
	return 0;
}
