/* SPDX-License-Identifier: MIT */
/* tools/http_client.c: see http_client.h. */
#include "tools/http_client.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/jsonc.h"
#include "tools/json_input.h"
#include "tools/shown.h"
#include "tools/verbs.h"

#define CONNECT_SECONDS 10
#define LOOK_MS		200 /* between two looks at a daemon that is not ready */

/* ---- where ---- */

static int parse_unix(const char *path, struct http_target *t, struct err *err)
{
	if (!*path || strlen(path) >= sizeof(t->path))
		return err_set(err, -EINVAL, "--http: a socket path has 1 to %zu bytes",
			       sizeof(t->path) - 1);
	t->kind = HTTP_UNIX;
	memcpy(t->path, path, strlen(path) + 1);
	return 0;
}

/* "host:port", "[::1]:port", "host" */
static int parse_host(const char *text, size_t n, struct http_target *t)
{
	const char *end = text + n, *colon = memrchr(text, ':', n), *close = memchr(text, ']', n);
	size_t len = n;

	if (*text == '[' && !close)
		return -EINVAL;
	if (colon && (*text != '[' || colon > close)) {
		len = (size_t)(colon - text);
		if ((size_t)(end - colon) > sizeof(t->port) - 1 || end == colon + 1 ||
		    strspn(colon + 1, "0123456789") < (size_t)(end - colon) - 1)
			return -EINVAL;
		memcpy(t->port, colon + 1, (size_t)(end - colon) - 1);
	} else {
		memcpy(t->port, "80", 3);
	}
	if (*text == '[') {
		if (close != text + len - 1)
			return -EINVAL;
		text++;
		len -= 2;
	}
	if (!len || len >= sizeof(t->host))
		return -EINVAL;
	memcpy(t->host, text, len);
	return 0;
}

int http_target_parse(const char *text, struct http_target *t, struct err *err)
{
	const char *host = text;
	size_t n, prefix;

	*t = (struct http_target){ .kind = HTTP_TCP };
	snprintf(t->name, sizeof(t->name), "%s", text);
	if (!strncmp(text, "unix:", 5))
		return parse_unix(text + 5, t, err);
	if (!strncasecmp(text, "https:", 6))
		return err_set(err, -EINVAL, "--http %s: TLS is not spoken here", text);
	if (!strncasecmp(text, "http://", 7))
		host += 7;
	n = strcspn(host, "/");
	prefix = strlen(host + n);
	while (prefix && host[n + prefix - 1] == '/')
		prefix--;
	if (prefix >= sizeof(t->prefix) || strpbrk(host, " \r\n\t?#@") || parse_host(host, n, t))
		return err_set(err, -EINVAL,
			       "--http %s: an address is http://HOST:PORT, with a path where the "
			       "daemon has one, or unix:PATH",
			       text);
	memcpy(t->prefix, host + n, prefix);
	return 0;
}

/* One line of printable characters, as a header may have them. */
static int take_key(const char *text, const char *from, struct http_target *t, struct err *err)
{
	size_t n = strcspn(text, "\r\n");

	while (n && (text[n - 1] == ' ' || text[n - 1] == '\t'))
		n--;
	for (size_t i = 0; i < n; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return err_set(err, -EINVAL, "%s: holds no key", from);
	if (!n || n >= sizeof(t->key))
		return err_set(err, -EINVAL, "%s: holds no key", from);
	memcpy(t->key, text, n);
	return 0;
}

static int read_key(const struct http_args *args, struct http_target *t, struct err *err)
{
	const char *key = getenv("SLUICE_API_KEY");
	char line[512] = "";
	FILE *f;

	if (!args->key_file)
		return key && *key ? take_key(key, "SLUICE_API_KEY", t, err) : 0;
	f = fopen(args->key_file, "re");
	if (!f)
		return err_set(err, -errno, "%s: %s", args->key_file, strerror(errno));
	do /* as the daemon reads it: empty lines and those with # are no keys */
		if (!fgets(line, sizeof(line), f))
			line[0] = '\0';
	while (*line && (*line == '#' || *line == '\n'));
	fclose(f);
	return take_key(line, args->key_file, t, err);
}

/* Nobody is there yet, or who was is just ending: is waiting worth it? */
static bool absent(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -ECONNRESET ||
	       error == -EPIPE;
}

/* Waits until /health says 200. 0 or the exit status after a sentence. */
static int wait_ready(const char *verb, const struct client_args *client, struct http_target *t)
{
	uint64_t end = now_ns() + client->wait_seconds * 1000000000ull;
	struct http_conn c;
	bool said = false;
	int rc;

	http_conn_init(&c, t);
	for (;;) {
		struct err err = { 0 };

		rc = http_conn_get(&c, "/health", NULL, 0, &err);
		if (rc == -EINTR || (rc && (!absent(rc) || now_ns() >= end))) {
			if (rc != -EINTR)
				fprintf(stderr, "sluice %s: no daemon: %s\n", verb, err.text);
			rc = rc == -EINTR ? EXIT_INTERRUPTED : EXIT_UNREACHABLE;
			break;
		}
		if (!rc && c.reply.status != 503)
			break;
		if (!said)
			fprintf(stderr, "sluice %s: %s; waiting\n", verb,
				rc ? err.text : "the daemon loads its model");
		said = true;
		poll(NULL, 0, LOOK_MS);
		if (client_interrupted()) {
			rc = EXIT_INTERRUPTED;
			break;
		}
	}
	http_conn_done(&c);
	return rc;
}

int http_target_open(const char *verb, const struct client_args *client,
		     const struct http_args *args, struct http_target *ret)
{
	struct err err = { 0 };
	int rc = 0;

	*ret = (struct http_target){ .kind = HTTP_NATIVE, .name = "the native socket" };
	if (args->address)
		rc = http_target_parse(args->address, ret, &err);
	if (!rc)
		rc = read_key(args, ret, &err);
	if (rc) {
		fprintf(stderr, "sluice %s: %s\n", verb, err.text);
		return rc == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
	}
	return http_target_wait(verb, client, ret);
}

int http_target_wait(const char *verb, const struct client_args *client, struct http_target *t)
{
	int rc;

	if (t->kind != HTTP_NATIVE)
		return wait_ready(verb, client, t);
	http_target_close(t);
	rc = client_open(verb, client, &t->native);
	if (rc)
		return rc;
	rc = client_ready(verb, t->native);
	if (rc)
		http_target_close(t);
	return rc;
}

void http_target_close(struct http_target *t)
{
	sluice_close(t->native);
	t->native = NULL;
}

/* ---- a connection ---- */

void http_conn_init(struct http_conn *c, const struct http_target *t)
{
	*c = (struct http_conn){ .target = t, .fd = -1 };
}

void http_conn_close(struct http_conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->used = false;
}

void http_conn_done(struct http_conn *c)
{
	http_conn_close(c);
	http_reply_done(&c->reply);
	bytes_done(&c->out);
}

static int connect_to(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct timeval t = { .tv_sec = CONNECT_SECONDS };

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
	return connect(fd, addr, len) ? (errno == EINPROGRESS ? -ETIMEDOUT : -errno) : 0;
}

static int open_unix(const struct http_target *t, int *ret_fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return -errno;
	memcpy(addr.sun_path, t->path, sizeof(addr.sun_path));
	rc = connect_to(fd, (const struct sockaddr *)&addr, sizeof(addr));
	if (rc)
		close(fd);
	*ret_fd = fd;
	return rc;
}

static int open_tcp(const struct http_target *t, int *ret_fd, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all;
	int rc = getaddrinfo(t->host, t->port, &hints, &all), fd = -1;

	if (rc)
		return err_set(err, -EHOSTUNREACH, "%s: %s", t->name, gai_strerror(rc));
	rc = -EADDRNOTAVAIL;
	for (const struct addrinfo *a = all; a && rc; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		rc = fd < 0 ? -errno : connect_to(fd, a->ai_addr, a->ai_addrlen);
		if (rc && fd >= 0)
			close(fd);
	}
	freeaddrinfo(all);
	*ret_fd = fd;
	return rc;
}

static int open_conn(struct http_conn *c, struct err *err)
{
	const struct http_target *t = c->target;
	struct sluice_fault fault = { 0 };
	int fd = -1, rc;

	if (t->kind == HTTP_NATIVE) {
		rc = sluice_open_http(t->native, &fd, &fault);
		shown_clean(fault.text);
		if (rc)
			return err_set(err, rc, "%s%s", fault.text,
				       rc == -EOPNOTSUPP ? ": this daemon gives no HTTP over its "
							   "native socket; name its --http address"
							 : "");
	} else {
		rc = t->kind == HTTP_UNIX ? open_unix(t, &fd) : open_tcp(t, &fd, err);
		if (rc)
			return err_set(err, rc, "%s: cannot connect: %s", t->name, strerror(-rc));
	}
	if (fcntl(fd, F_SETFL, O_NONBLOCK)) {
		rc = err_set(err, -errno, "%s: %s", t->name, strerror(errno));
		close(fd);
		return rc;
	}
	c->fd = fd;
	c->used = false;
	return 0;
}

static int put_head(struct http_conn *c, const char *path, const char *body, size_t n)
{
	const struct http_target *t = c->target;
	bool v6 = t->kind == HTTP_TCP && strchr(t->host, ':');
	char head[1536], host[300] = "localhost", length[96] = "";
	int len;

	if (t->kind == HTTP_TCP)
		snprintf(host, sizeof(host), "%s%s%s:%s", v6 ? "[" : "", t->host, v6 ? "]" : "",
			 t->port);
	if (body)
		snprintf(length, sizeof(length),
			 "Content-Type: application/json\r\nContent-Length: %zu\r\n", n);
	len = snprintf(head, sizeof(head),
		       "%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: sluice\r\n%s%s%s%s\r\n",
		       body ? "POST" : "GET", t->prefix, path, host, length,
		       t->key[0] ? "Authorization: Bearer " : "", t->key, t->key[0] ? "\r\n" : "");
	if (len < 0 || (size_t)len >= sizeof(head))
		return -EINVAL;
	return bytes_put(&c->out, head, (size_t)len);
}

int http_conn_ask(struct http_conn *c, const char *path, const char *body, size_t n,
		  struct err *err)
{
	int rc;

	c->out.n = c->sent = 0;
	http_reply_begin(&c->reply);
	rc = put_head(c, path, body, n);
	if (!rc && body)
		rc = bytes_put(&c->out, body, n);
	if (rc)
		return err_set(err, rc, "the request cannot be written: %s", strerror(-rc));
	return c->fd < 0 ? open_conn(c, err) : 0;
}

short http_conn_events(const struct http_conn *c)
{
	return (short)(POLLIN | (c->sent < c->out.n ? POLLOUT : 0));
}

/* The other end was gone before it heard of this request: once more, on a new connection. */
static int again(struct http_conn *c, int rc, struct err *err)
{
	bool stale = c->used && !c->reply.any;

	http_conn_close(c);
	if (!stale)
		return rc;
	err_clear(err);
	c->sent = 0;
	http_reply_begin(&c->reply);
	return open_conn(c, err);
}

static int send_more(struct http_conn *c)
{
	while (c->sent < c->out.n) {
		ssize_t n = send(c->fd, c->out.data + c->sent, c->out.n - c->sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			/* what ended the connection may be said in what can be read */
			return errno == EAGAIN || errno == EPIPE ? 0 : -errno;
		c->sent += (size_t)n;
	}
	return 0;
}

/* 1: the answer is whole; 0: nothing more now. */
static int receive_more(struct http_conn *c, struct err *err)
{
	char data[16384];
	size_t used;

	while (!c->reply.whole) {
		ssize_t n = recv(c->fd, data, sizeof(data), MSG_DONTWAIT);
		int rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return err_set(err, -errno, "%s: %s", c->target->name, strerror(errno));
		rc = n ? http_reply_feed(&c->reply, data, (size_t)n, &used, err)
		       : http_reply_eof(&c->reply, err);
		if (rc)
			return rc;
		if (n && used < (size_t)n) /* nobody asked for more */
			c->reply.closes = true;
	}
	return 1;
}

int http_conn_step(struct http_conn *c, struct err *err)
{
	int rc = send_more(c);

	if (rc)
		err_set(err, rc, "%s: %s", c->target->name, strerror(-rc));
	else
		rc = receive_more(c, err);
	if (rc < 0)
		return again(c, rc, err);
	if (rc && c->reply.closes)
		http_conn_close(c);
	else if (rc)
		c->used = true;
	return rc;
}

int http_conn_get(struct http_conn *c, const char *path, const char *body, size_t n,
		  struct err *err)
{
	int rc = http_conn_ask(c, path, body, n, err);

	while (!rc) {
		struct pollfd p = { .fd = c->fd, .events = http_conn_events(c) };

		poll(&p, 1, LOOK_MS); /* not for ever: a signal may come just before */
		rc = client_interrupted() ? -EINTR : http_conn_step(c, err);
	}
	if (rc < 0)
		http_conn_close(c);
	return rc > 0 ? 0 : rc;
}

void http_reply_error(const struct http_reply *r, struct err *err)
{
	struct json_object *o = NULL;
	struct err ignored = { 0 };
	const char *text = NULL;

	if (r->body.n && !input_json_object(r->body.data, r->body.n, &o, &ignored))
		text = json_object_get_string(jsonc_member(jsonc_member(o, "error"), "message"));
	if (text)
		err_set(err, 0, "%s", text);
	else
		err_set(err, 0, "the daemon answered with status %u", r->status);
	shown_clean(err->text);
	json_object_put(o);
}
