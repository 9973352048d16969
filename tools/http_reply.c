/* SPDX-License-Identifier: MIT */
/* tools/http_reply.c: see http_reply.h. */
#include "tools/http_reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LINE_MAX_BYTES 4096 /* of a chunk's size, or a trailer */
#define UNTIL_EOF      UINT64_MAX

int bytes_put(struct bytes *b, const void *data, size_t n)
{
	size_t room = b->room ? b->room : 1024;

	if (b->n + n + 1 > b->room) {
		char *bigger;

		while (room < b->n + n + 1)
			room *= 2;
		bigger = realloc(b->data, room);
		if (!bigger)
			return -ENOMEM;
		b->data = bigger;
		b->room = room;
	}
	if (n)
		memcpy(b->data + b->n, data, n);
	b->n += n;
	b->data[b->n] = '\0';
	return 0;
}

void bytes_drop(struct bytes *b, size_t n)
{
	if (!n)
		return;
	memmove(b->data, b->data + n, b->n - n + 1);
	b->n -= n;
}

void bytes_done(struct bytes *b)
{
	free(b->data);
	*b = (struct bytes){ 0 };
}

void http_reply_begin(struct http_reply *r)
{
	struct bytes body = r->body, line = r->line;

	body.n = line.n = 0;
	*r = (struct http_reply){ .body = body, .line = line };
}

void http_reply_done(struct http_reply *r)
{
	bytes_done(&r->body);
	bytes_done(&r->line);
}

/* ---- the head ---- */

/* Digits of @text up to its end as a number, or -EPROTO. */
static int number(const char *text, int base, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, base);
	if (errno || end == text || *text == '-' || *text == '+' || *text == ' ')
		return -EPROTO;
	end += strspn(end, " \t");
	return *end && *end != ';' ? -EPROTO : 0;
}

/* "Name: value" */
static int header(struct http_reply *r, char *line, bool *chunked, bool *sized)
{
	char *value = strchr(line, ':');
	uint64_t n;

	if (!value)
		return -EPROTO;
	*value++ = '\0';
	value += strspn(value, " \t");
	if (!strcasecmp(line, "Content-Length")) {
		if (number(value, 10, &n) || (*sized && n != r->left))
			return -EPROTO;
		*sized = true;
		r->left = n;
	} else if (!strcasecmp(line, "Transfer-Encoding")) {
		if (strcasecmp(value, "chunked") != 0)
			return -EPROTO;
		*chunked = true;
	} else if (!strcasecmp(line, "Connection")) {
		r->closes |= !strcasecmp(value, "close");
	} else if (!strcasecmp(line, "X-Request-Id")) {
		snprintf(r->request_id, sizeof(r->request_id), "%s", value);
	} else if (!strcasecmp(line, "Retry-After")) {
		r->retry_after_s = number(value, 10, &n) || n > 86400 ? 0 : (unsigned)n;
	} else if (!strcasecmp(line, "Content-Type")) {
		r->is_stream = !strncasecmp(value, "text/event-stream", 17);
	}
	return 0;
}

/* The head is in r->line, the empty line that ends it too. */
static int parse_head(struct http_reply *r)
{
	bool chunked = false, sized = false;
	char *line = r->line.data, *next;
	unsigned minor;

	if (strlen(line) != r->line.n || sscanf(line, "HTTP/1.%1u %3u", &minor, &r->status) != 2 ||
	    r->status < 100)
		return -EPROTO;
	r->closes = !minor;
	line = strchr(line, '\n') + 1;
	for (; (next = strchr(line, '\n')) != NULL; line = next + 1) {
		*next = '\0';
		if (next > line && next[-1] == '\r')
			next[-1] = '\0';
		if (*line && header(r, line, &chunked, &sized))
			return -EPROTO;
	}
	r->line.n = 0;
	if (r->status < 200) { /* another head follows */
		r->status = 0;
		return 0;
	}
	if (r->status == 204 || r->status == 304)
		r->left = 0;
	else if (!sized && !chunked)
		r->left = UNTIL_EOF;
	r->closes |= !chunked && r->left == UNTIL_EOF;
	r->at = chunked ? REPLY_CHUNK : REPLY_LENGTH;
	r->whole = !chunked && !r->left;
	return 0;
}

/* A line into r->line; true: it is whole, without its end. */
static int take_line(struct http_reply *r, const char *data, size_t n, size_t *used, bool *whole)
{
	const char *end = memchr(data, '\n', n);
	size_t len = end ? (size_t)(end - data) + 1 : n;

	*whole = end != NULL;
	*used += len;
	if (r->line.n + len > LINE_MAX_BYTES)
		return -EPROTO;
	if (bytes_put(&r->line, data, len))
		return -ENOMEM;
	while (*whole && r->line.n && strchr("\r\n", r->line.data[r->line.n - 1]))
		r->line.data[--r->line.n] = '\0';
	return 0;
}

/* Heads come byte by byte in the worst case: the end is looked for behind what was seen. */
static int take_head(struct http_reply *r, const char *data, size_t n, size_t *used)
{
	size_t at = *used;

	while (at < n) {
		size_t len = r->line.n;

		if (len >= HTTP_REPLY_HEAD_MAX)
			return -EFBIG;
		if (bytes_put(&r->line, data + at++, 1))
			return -ENOMEM;
		len = r->line.n;
		if (r->line.data[len - 1] != '\n' || len < 2)
			continue;
		if (r->line.data[len - 2] == '\n' ||
		    (len > 2 && r->line.data[len - 2] == '\r' && r->line.data[len - 3] == '\n')) {
			*used = at;
			return parse_head(r);
		}
	}
	*used = at;
	return 0;
}

/* ---- the body ---- */

static int take_data(struct http_reply *r, const char *data, size_t n, size_t *used)
{
	size_t room = n - *used, len = r->left < room ? (size_t)r->left : room;

	if (r->total + len > HTTP_REPLY_BODY_MAX)
		return -EFBIG;
	if (bytes_put(&r->body, data + *used, len))
		return -ENOMEM;
	*used += len;
	r->total += len;
	if (r->left != UNTIL_EOF)
		r->left -= len;
	if (r->left)
		return 0;
	r->whole = r->at == REPLY_LENGTH;
	if (r->at == REPLY_DATA)
		r->at = REPLY_CRLF;
	return 0;
}

/* What stands between chunks: the end of one, the size of the next, trailers. */
static int take_between(struct http_reply *r, const char *data, size_t n, size_t *used)
{
	bool whole;
	int rc = take_line(r, data + *used, n - *used, used, &whole);

	if (rc || !whole)
		return rc;
	if (r->at == REPLY_CRLF) {
		rc = r->line.n ? -EPROTO : 0;
		r->at = REPLY_CHUNK;
	} else if (r->at == REPLY_CHUNK) {
		rc = number(r->line.data, 16, &r->left);
		r->at = r->left ? REPLY_DATA : REPLY_TRAILER;
	} else if (!r->line.n) {
		r->whole = true;
	}
	r->line.n = 0;
	return rc;
}

int http_reply_feed(struct http_reply *r, const char *data, size_t n, size_t *ret_used,
		    struct err *err)
{
	size_t used = 0;
	int rc = 0;

	r->any |= n != 0;
	while (!rc && used < n && !r->whole) {
		if (r->at == REPLY_HEAD)
			rc = take_head(r, data, n, &used);
		else if (r->at == REPLY_LENGTH || r->at == REPLY_DATA)
			rc = take_data(r, data, n, &used);
		else
			rc = take_between(r, data, n, &used);
	}
	*ret_used = used;
	if (!rc)
		return 0;
	return err_set(err, rc, "%s",
		       rc == -ENOMEM  ? "out of memory"
		       : rc == -EFBIG ? "the answer is too large"
				      : "what came is no HTTP answer");
}

int http_reply_eof(struct http_reply *r, struct err *err)
{
	if (r->at == REPLY_LENGTH && r->left == UNTIL_EOF)
		r->whole = true;
	if (r->whole)
		return 0;
	return err_set(err, -EPIPE, "the connection ended %s",
		       r->any ? "within an answer" : "before an answer came");
}
