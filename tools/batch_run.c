/* SPDX-License-Identifier: MIT */
/*
 * tools/batch_run.c: a run of `sluice batch`: lines to connections, answers to the output, and what to do where
 * one fails. What a line gets does not depend on the others: the daemon promises that, and nothing of one goes
 * into another here. One thread, which polls its connections.
 */
#include "tools/batch_run.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "tools/verbs.h"

#define TURN_MS	   200 /* the longest time without a look at Ctrl-C and the clock */
#define SYNC_NS	   1000000000ull
#define BAR_NS	   250000000ull
#define LINE_NS	   10000000000ull
#define LOST_MAX   3 /* times that a line may take the connection with it */
/* so long a line is told to come again, then that is its result; and all go without connections */
#define REFUSED_NS 600000000000ull
#define FULL_NS	   1000000000ull /* between two looks for a connection where none is to be had */
#define WINDOW	   4 /* --ordered: results that wait for an earlier line, for each connection */

/* ---- results ---- */

static int write_result(struct batch_run *r, struct batch_line *l, const char *result, bool failed)
{
	int rc = batch_write(&r->batch, l, result, failed, &r->err);

	if (!rc && now_ns() - r->synced_ns > SYNC_NS) {
		rc = batch_sync(&r->batch, &r->err);
		r->synced_ns = now_ns();
	}
	return rc;
}

/* Takes @result (malloc'd) over; with --ordered what it kept waiting goes too. */
static int take_result(struct batch_run *r, struct batch_line *l, char *result, bool failed)
{
	struct batch *b = &r->batch;
	int rc = 0;

	l->running = false;
	if (!result)
		return err_set(&r->err, -ENOMEM, "out of memory");
	if (!r->ordered) {
		rc = write_result(r, l, result, failed);
		free(result);
		return rc;
	}
	l->result = result;
	l->failed = failed;
	for (; !rc && r->next_write < b->n_lines; r->next_write++) {
		l = &b->lines[r->next_write];
		if (l->done)
			continue;
		if (!l->result)
			break;
		rc = write_result(r, l, l->result, l->failed);
		free(l->result);
		l->result = NULL;
	}
	return rc;
}

/* ---- what is asked ---- */

static void try_again(struct batch_run *r, struct batch_line *l, uint64_t after_ns)
{
	l->not_before_ns = now_ns() + after_ns;
	r->again[r->n_again++] = l; /* room for all that can run */
}

/* A line that nobody works at; NULL: none now. */
static struct batch_line *next_line(struct batch_run *r)
{
	size_t most = r->batch.n_lines;
	uint64_t now = now_ns();

	for (size_t i = 0; i < r->n_again; i++)
		if (r->again[i]->not_before_ns <= now) {
			struct batch_line *l = r->again[i];

			r->again[i] = r->again[--r->n_again];
			return l;
		}
	if (r->n_again >= r->n_workers) /* the daemon has no room: no more of them */
		return NULL;
	if (r->ordered && r->next_write + (size_t)r->n_workers * WINDOW < most)
		most = r->next_write + (size_t)r->n_workers * WINDOW;
	while (r->next < most && r->batch.lines[r->next].done)
		r->next++;
	return r->next < most ? &r->batch.lines[r->next++] : NULL;
}

/* The connection went under a request: once is chance, again and again may be the line's doing. */
static int lose(struct batch_run *r, struct batch_worker *w, const struct err *err)
{
	struct batch_line *l = w->line;
	struct batch_fault f = { .code = "connection_lost" };

	http_conn_close(&w->conn);
	w->line = NULL;
	if (++l->lost < LOST_MAX) {
		try_again(r, l, 0);
		return 0;
	}
	err_set(&f.err, 0, "%s", err->text);
	return take_result(r, l, batch_result_fault(l, &f), true);
}

static bool is_running(const struct batch_run *r)
{
	for (unsigned i = 0; i < r->n_workers; i++)
		if (r->workers[i].line)
			return true;
	return false;
}

/* The daemon has no room for a connection, or this program no descriptor: there will be one. */
static bool is_full(int error)
{
	return error == -EBUSY || error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

/* There is no connection for it, in which the line has no part. */
static void put_back(struct batch_run *r, struct batch_worker *w, int error, const struct err *err)
{
	uint64_t now = now_ns();

	try_again(r, w->line, 0);
	w->line = NULL;
	if (is_full(error)) {
		w->not_before_ns = now + FULL_NS;
		if (is_running(r))
			r->full_ns = 0;
		else if (!r->full_ns)
			r->full_ns = now;
		if (!r->full_ns || now - r->full_ns < REFUSED_NS)
			return;
	}
	snprintf(r->lost_why, sizeof(r->lost_why), "%s", err->text);
	r->lost = true;
}

/* Sends a line; one that cannot be asked has its result at once. */
static int start(struct batch_run *r, struct batch_worker *w, struct batch_line *l)
{
	bool too_long = l->bytes > BATCH_LINE_MAX;
	struct batch_fault f;
	struct batch_ask ask;
	struct err err = { 0 };
	char *text = NULL;
	int rc = too_long ? 0 : batch_text(&r->batch, l, &text, &r->err);

	if (rc)
		return rc;
	l->running = true;
	if (batch_ask_parse(text, l->bytes, &ask, &f)) {
		w->line = l;
		rc = http_conn_ask(&w->conn, ask.url, ask.body, strlen(ask.body), &err);
		if (rc)
			put_back(r, w, rc, &err);
		else
			r->full_ns = 0;
		rc = 0;
	} else {
		rc = take_result(r, l, batch_result_fault(l, &f), true);
	}
	json_object_put(ask.object);
	free(text);
	return rc;
}

/* ---- what is answered ---- */

/* Come again later: the daemon has too much to do, loads its model or stops. */
static bool is_later(const struct http_reply *reply)
{
	return reply->status == 429 || reply->status == 503;
}

static int finish(struct batch_run *r, struct batch_worker *w)
{
	const struct http_reply *reply = &w->conn.reply;
	struct batch_line *l = w->line;
	uint64_t now = now_ns();
	unsigned wait_s = reply->retry_after_s ? reply->retry_after_s : 1;
	bool failed;
	char *result;

	r->n_lost = 0;
	w->line = NULL;
	if (is_later(reply)) {
		if (!l->refused_ns)
			l->refused_ns = now;
		if (now - l->refused_ns < REFUSED_NS) {
			try_again(r, l, (wait_s > 60 ? 60 : wait_s) * 1000000000ull);
			return 0;
		}
	}
	result = batch_result_answer(l, reply, r->tokens, &failed);
	return take_result(r, l, result, failed);
}

static int step(struct batch_run *r, struct batch_worker *w)
{
	struct err err = { 0 };
	int rc = http_conn_step(&w->conn, &err);

	if (!rc)
		return 0;
	if (rc != -ENOMEM &&
	    is_full(rc)) { /* the connection had ended unused, and there is no other */
		put_back(r, w, rc, &err);
		return 0;
	}
	return rc > 0 ? finish(r, w) : lose(r, w, &err);
}

/* ---- the loop ---- */

static unsigned columns(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col < 40 ? 80 : size.ws_col;
}

void batch_clear(struct batch_run *r)
{
	if (r->drawn)
		fputs("\r\033[K", stderr);
	r->drawn = false;
}

static void show(struct batch_run *r)
{
	uint64_t now = now_ns();
	char text[320];

	if (r->quiet || now - r->shown_ns < (r->terminal ? BAR_NS : LINE_NS))
		return;
	r->shown_ns = now;
	batch_progress_text(&r->progress, &r->batch, now, r->terminal, columns() - 1, text,
			    sizeof(text));
	fprintf(stderr, r->terminal ? "\r%s\033[K" : "sluice batch: %s\n", text);
	r->drawn = r->terminal;
}

static bool is_idle(const struct batch_worker *w)
{
	return !w->line && w->not_before_ns <= now_ns();
}

/* Hands lines to those who are idle. */
static int fill(struct batch_run *r)
{
	int rc = 0;

	for (unsigned i = 0; !rc && !r->lost && i < r->n_workers; i++)
		while (!rc && !r->lost && is_idle(&r->workers[i]) && !client_interrupted()) {
			struct batch_line *l = next_line(r);

			if (!l)
				return 0;
			rc = start(r, &r->workers[i], l);
			show(r);
		}
	return rc;
}

static int turn(struct batch_run *r)
{
	struct pollfd fds[BATCH_MAX_PARALLEL] = { 0 };
	struct batch_worker *who[BATCH_MAX_PARALLEL];
	nfds_t n = 0;
	int rc = 0;

	for (unsigned i = 0; i < r->n_workers; i++) {
		struct batch_worker *w = &r->workers[i];

		if (!w->line)
			continue;
		who[n] = w;
		fds[n].fd = w->conn.fd;
		fds[n++].events = http_conn_events(&w->conn);
	}
	if (poll(fds, n, TURN_MS) < 0)
		return 0; /* a signal */
	for (nfds_t i = 0; !rc && i < n; i++)
		if (fds[i].revents)
			rc = step(r, who[i]);
	show(r);
	return rc;
}

/*
 * The daemon went. Those who still wait for an answer of it hear so in their turn; then the next one is
 * waited for. 0, or the exit status.
 */
static int find_daemon(struct batch_run *r)
{
	for (unsigned i = 0; i < r->n_workers; i++) {
		struct batch_worker *w = &r->workers[i];

		if (w->line) { /* not its fault */
			try_again(r, w->line, 0);
			w->line = NULL;
		}
		http_conn_close(&w->conn);
	}
	r->lost = false;
	batch_clear(r);
	fprintf(stderr, "sluice batch: %s\n", r->lost_why);
	if (++r->n_lost > LOST_MAX)
		return EXIT_UNREACHABLE;
	return http_target_wait("batch", r->client, &r->target);
}

int batch_work(struct batch_run *r)
{
	int rc = 0;

	while (r->batch.n_done < r->batch.n_lines && !client_interrupted()) {
		if (r->lost) {
			rc = find_daemon(r);
			if (rc)
				return rc;
		}
		rc = fill(r);
		if (!rc && r->batch.n_done < r->batch.n_lines && !r->lost)
			rc = turn(r);
		if (rc) {
			batch_clear(r);
			fprintf(stderr, "sluice batch: %s\n", r->err.text);
			return EXIT_FAILED;
		}
	}
	return 0;
}
