/* SPDX-License-Identifier: MIT */
/*
 * tools/chat.c: `sluice chat`: a conversation of many turns. Each turn asks the daemon with all that was
 * said (it knows the beginning from the turn before and reads on from there) and shows the answer as it
 * comes. Ctrl-C ends an answer, not the program: its connection is closed, and the daemon then cancels.
 * One thread.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/opts.h"
#include "base/utf8.h"
#include "tools/chat.h"
#include "tools/http_client.h"
#include "tools/input.h"
#include "tools/shown.h"
#include "tools/verbs.h"

#define LOOK_MS	    200		 /* the longest time without a look at Ctrl-C */
#define READING_NS  700000000ull /* a prompt that takes longer shows how far it is */
#define DIM	    "\033[2m"
#define PLAIN	    "\033[0m"
#define CLEAR_LINE  "\r\033[K"
#define MAX_SETTING 16

struct settings {
	const char *text[MAX_SETTING];
	unsigned n;
};

struct args {
	struct client_args client;
	struct http_args http;
	const char *system, *load;
	struct settings set;
	bool think, no_think, quiet, help;
};

static int collect(const char *text, void *field, struct err *err)
{
	struct settings *s = field;

	if (s->n == MAX_SETTING)
		return err_set(err, -EINVAL, "at most %d settings", MAX_SETTING);
	s->text[s->n++] = text;
	return 0;
}

static const struct opt options[] = {
	{ "--system", NULL, OPT_TEXT, offsetof(struct args, system), "TEXT",
	  .help = "What the model is told beforehand." },
	{ "--set", NULL, OPT_CUSTOM, offsetof(struct args, set), "NAME=VALUE", .parse = collect,
	  .repeat = true,
	  .help = "A parameter of sampling, as /params sets it; may be given several times." },
	{ "--think", NULL, OPT_FLAG, offsetof(struct args, think), .excludes = "--no-think",
	  .help = "The model thinks before it answers, if it can." },
	{ "--no-think", NULL, OPT_FLAG, offsetof(struct args, no_think),
	  .help = "It does not. Neither: as it does by itself." },
	{ "--load", NULL, OPT_TEXT, offsetof(struct args, load), "FILE",
	  .help = "Goes on with a conversation that /save wrote." },
	{ "--quiet", "-q", OPT_FLAG, offsetof(struct args, quiet),
	  .help = "The answers alone, no figures." },
	CLIENT_OPTIONS(struct args, "30"),
	HTTP_OPTIONS(struct args),
	{ "--help", "-h", OPT_FLAG, offsetof(struct args, help), .help = "This text." },
};

struct chat {
	const struct args *args;
	struct http_target target;
	struct http_conn conn;
	struct talk talk;
	bool in_tty, out_tty, err_tty;
	bool colours;
	/* the answer that comes */
	struct shown shown;
	struct bytes content, reasoning;
	struct stream_figures figures;
	uint64_t asked_ns, first_ns, shown_ns;
	bool dim, drawn, failed;
};

static volatile sig_atomic_t cancelled;

static void on_cancel(int number)
{
	cancelled = 1;
}

static void handle_interrupt(void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler };

	sigaction(SIGINT, &action, NULL);
}

/* ---- the terminal ---- */

static struct termios saved;
static volatile sig_atomic_t is_saved;

/* What ends the program ends it with the terminal as it was, unless that is another program's now. */
static void on_end(int number)
{
	if (is_saved && tcgetpgrp(STDIN_FILENO) == getpgrp())
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	signal(number, SIG_DFL);
	raise(number);
}

static void handle_ends(void)
{
	static const int all[] = { SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction ours = { .sa_handler = on_end }, was;

	for (unsigned i = 0; i < ARRAY_LEN(all); i++)
		if (!sigaction(all[i], NULL, &was) && was.sa_handler == SIG_DFL)
			sigaction(all[i], &ours, NULL);
}

static void restore_terminal(void)
{
	if (is_saved)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	is_saved = 0;
}

/* What is typed while an answer comes is kept for the next line, and not shown in between. */
static void hide_typing(const struct chat *c)
{
	struct termios hidden;

	if (!c->in_tty || tcgetattr(STDIN_FILENO, &saved))
		return;
	hidden = saved;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	is_saved = 1;
	handle_ends();
	if (tcsetattr(STDIN_FILENO, TCSANOW, &hidden))
		is_saved = 0;
}

/* A sentence of ours or the daemon's, on a line of its own. */
static void note(struct chat *c, const char *text)
{
	struct shown s = { .raw = !c->err_tty };

	shown_put(&s, stderr, text, strlen(text));
	shown_end(&s, stderr);
	fputc('\n', stderr);
}

static void set_dim(struct chat *c, bool dim)
{
	if (c->dim == dim)
		return;
	c->dim = dim;
	if (c->colours)
		fputs(dim ? DIM : PLAIN, stdout);
}

static void clear_progress(struct chat *c)
{
	if (c->drawn)
		fputs(CLEAR_LINE, stderr);
	c->drawn = false;
}

/* ---- an answer ---- */

static void show_progress(struct chat *c, const struct stream_event *e)
{
	uint64_t now = now_ns();

	if (!c->err_tty || c->args->quiet || now - c->asked_ns < READING_NS || !e->n_prompt ||
	    now - c->shown_ns < READING_NS / 7)
		return;
	c->shown_ns = now;
	c->drawn = true;
	fprintf(stderr, CLEAR_LINE "reading %u of %u tokens", e->n_read, e->n_prompt);
}

static void keep(struct bytes *b, const char *text)
{
	if (bytes_put(b, text, strlen(text)))
		bytes_done(b); /* without it the conversation is poorer, not wrong */
}

/* Thoughts are for people: only terminals get them. */
static void show_text(struct chat *c, const struct stream_event *e)
{
	bool thought = e->kind == STREAM_REASONING;

	if (!c->first_ns)
		c->first_ns = now_ns();
	clear_progress(c);
	keep(thought ? &c->reasoning : &c->content, e->text);
	if (thought && !c->out_tty)
		return;
	if (c->dim && !thought) {
		set_dim(c, false);
		fputs(c->shown.last == '\n' ? "\n" : "\n\n", stdout);
	} else {
		set_dim(c, thought);
	}
	shown_put(&c->shown, stdout, e->text, strlen(e->text));
}

static void on_event(void *arg, const struct stream_event *e)
{
	struct chat *c = arg;

	switch (e->kind) {
	case STREAM_REASONING:
	case STREAM_CONTENT:
	case STREAM_CALL:
		show_text(c, e);
		break;
	case STREAM_PROGRESS:
		show_progress(c, e);
		break;
	case STREAM_ERROR:
		c->failed = true;
		clear_progress(c);
		set_dim(c, false);
		fflush(stdout);
		note(c, e->text);
		break;
	case STREAM_END:
		break;
	}
}

/* Reads the stream: 0; -EINTR after Ctrl-C; -errno and a sentence. */
static int take_answer(struct chat *c, struct err *err)
{
	bool ended = false;
	int rc = 0;

	while (!rc) { /* to the end of the answer: the next one follows on the same connection */
		struct pollfd p = { .fd = c->conn.fd, .events = http_conn_events(&c->conn) };

		poll(&p, 1, LOOK_MS);
		if (cancelled)
			return -EINTR;
		rc = http_conn_step(&c->conn, err);
		if (rc >= 0 && c->conn.reply.is_stream) {
			ended |= stream_take(&c->conn.reply.body, &c->figures, on_event, c);
			if (input_flush()) /* main() says what failed */
				return -EIO;
		}
	}
	if (rc > 0 && !c->conn.reply.is_stream) {
		http_reply_error(&c->conn.reply, err);
		return -EREMOTEIO;
	}
	if (rc > 0 && !ended)
		return err_set(err, -EPIPE, "the connection ended within the answer");
	return rc < 0 ? rc : 0;
}

static void print_figures(struct chat *c)
{
	const struct stream_figures *f = &c->figures;
	double first = c->first_ns ? (double)(c->first_ns - c->asked_ns) / 1e6 : 0;
	char known[32] = "";

	if (c->args->quiet || !f->n_prompt)
		return;
	if (f->n_cached)
		snprintf(known, sizeof(known), ", %u of them known", f->n_cached);
	fprintf(stderr, "%s%.1f tok/s (%u tokens), prompt %u tokens%s, first token %.0f ms%s%s\n",
		c->err_tty && c->colours ? DIM : "", f->rate, f->n_answer, f->n_prompt, known,
		first, !strcmp(f->finish, "length") ? "; cut: no more tokens were allowed" : "",
		c->err_tty && c->colours ? PLAIN : "");
	if (c->in_tty) /* turns stand apart */
		fputc('\n', stderr);
}

/* What was said becomes part of the conversation; nothing: the question goes too. */
static void remember(struct chat *c)
{
	if (c->content.n || c->reasoning.n)
		talk_add(&c->talk, "assistant", c->content.n ? c->content.data : "",
			 c->reasoning.n ? c->reasoning.data : NULL);
	else
		talk_drop_last(&c->talk);
	c->content.n = c->reasoning.n = 0;
}

static void begin_answer(struct chat *c)
{
	c->shown = (struct shown){ .raw = !c->out_tty };
	c->figures = (struct stream_figures){ 0 };
	c->content.n = c->reasoning.n = 0;
	c->asked_ns = now_ns();
	c->first_ns = c->shown_ns = 0;
	c->failed = false;
	cancelled = 0;
	handle_interrupt(on_cancel);
	hide_typing(c);
}

static void end_answer(struct chat *c, int rc, const struct err *err)
{
	shown_end(&c->shown, stdout);
	clear_progress(c);
	set_dim(c, false);
	if (c->shown.last && c->shown.last != '\n')
		putchar('\n');
	fflush(stdout);
	if (rc == -EINTR)
		note(c, "cancelled");
	else if (rc && err->text[0])
		note(c, err->text);
	restore_terminal();
	/* on a terminal another Ctrl-C, before the next line is edited, ends nothing */
	handle_interrupt(c->in_tty ? on_cancel : SIG_DFL);
}

/* 0: there is or was an answer; -errno: there is none, and perhaps no daemon. */
static int answer(struct chat *c, const char *message)
{
	char *body;
	struct err err = { 0 };
	int rc;

	talk_add(&c->talk, "user", message, NULL);
	body = talk_request(&c->talk);
	begin_answer(c);
	rc = body ? http_conn_ask(&c->conn, "/v1/chat/completions", body, strlen(body), &err)
		  : err_set(&err, -ENOMEM, "out of memory");
	if (!rc)
		rc = take_answer(c, &err);
	if (rc) /* the daemon hears that nobody waits */
		http_conn_close(&c->conn);
	end_answer(c, rc, &err);
	remember(c);
	if (!rc && !c->failed)
		print_figures(c);
	free(body);
	return rc == -EINTR ? 0 : rc ? rc : c->failed ? -EREMOTEIO : 0;
}

/* ---- the conversation ---- */

/* The connection went, perhaps with the daemon: the next message finds another one. */
static int reconnect(struct chat *c)
{
	int rc;

	http_conn_close(&c->conn);
	client_note_interrupt(); /* Ctrl-C ends the waiting, and the program with it */
	rc = http_target_wait("chat", &c->args->client, &c->target);
	handle_interrupt(on_cancel);
	return rc;
}

static bool is_gone(int rc)
{
	return rc == -EPIPE || rc == -ECONNRESET || rc == -ECONNREFUSED || rc == -ENOENT;
}

/* What is no UTF-8 (a terminal or a file in another encoding) cannot be told to a model. */
static bool is_text(struct chat *c, const char *line)
{
	size_t n = strlen(line), valid = utf8_valid(line, n);
	char text[80];

	if (valid == n)
		return true;
	snprintf(text, sizeof(text), "the line is not valid UTF-8, at byte %zu", valid);
	note(c, text);
	return false;
}

/* On a terminal it goes on after every failure; elsewhere the first one ends it. */
static int converse(struct chat *c, struct line_reader *lines)
{
	int rc = 0;

	while (!rc) {
		const char *message;
		bool given_up;
		char *line = line_read(lines, &given_up);
		enum command_result what = COMMAND_DONE;

		if (!line && given_up) {
			fputs("(/quit or Ctrl-D ends)\n", stderr);
			continue;
		}
		if (!line)
			break;
		if (!is_text(c, line))
			rc = c->in_tty ? 0 : EXIT_FAILED;
		else if (line[strspn(line, " \t\n")])
			what = command_run(&c->talk, line, c->in_tty ? stdout : stderr, &message);
		if (what == COMMAND_NONE) {
			rc = answer(c, message);
			if (cancelled && !c->in_tty)
				rc = EXIT_INTERRUPTED;
			else if (is_gone(rc) && c->in_tty)
				rc = reconnect(c);
			else if (rc)
				rc = c->in_tty ? 0 : EXIT_FAILED;
		}
		free(line);
		if (what == COMMAND_QUIT)
			break;
	}
	return rc < 0 ? EXIT_FAILED : rc;
}

static int apply(struct chat *c)
{
	const struct args *args = c->args;
	struct err err = { 0 };
	int rc = talk_init(&c->talk);

	if (!rc && args->load)
		rc = talk_load(&c->talk, args->load, &err);
	if (!rc && args->system &&
	    utf8_valid(args->system, strlen(args->system)) < strlen(args->system))
		rc = err_set(&err, -EINVAL, "--system: it is not valid UTF-8");
	if (!rc && args->system)
		rc = talk_set_system(&c->talk, args->system);
	for (unsigned i = 0; !rc && i < args->set.n; i++)
		rc = talk_set_param(&c->talk, args->set.text[i], &err);
	if (args->think || args->no_think)
		c->talk.thinking = args->think ? TALK_THINK : TALK_NO_THINK;
	if (!rc)
		return 0;
	fprintf(stderr, "sluice chat: %s\n", err.text[0] ? err.text : "out of memory");
	return args->load && rc != -EINVAL ? EXIT_FAILED : EXIT_USAGE;
}

static void greet(struct chat *c)
{
	struct sluice_model_info m = { .struct_size = sizeof(m) };
	struct sluice_fault fault;

	if (!c->in_tty || c->args->quiet)
		return;
	if (c->target.native && !sluice_get_model(c->target.native, &m, NULL, 0, &fault))
		note(c, m.name[0] ? m.name : m.arch);
	note(c, "/help lists commands; Ctrl-C cancels an answer, Ctrl-D ends");
}

static int run(struct chat *c)
{
	struct line_reader *lines;
	int rc = apply(c);

	if (!rc)
		rc = http_target_open("chat", &c->args->client, &c->args->http, &c->target);
	if (rc)
		return rc;
	http_conn_init(&c->conn, &c->target);
	greet(c);
	lines = line_open(c->in_tty && c->out_tty);
	if (lines) {
		rc = converse(c, lines);
	} else {
		fprintf(stderr, "sluice chat: this terminal cannot be used\n");
		rc = EXIT_FAILED;
	}
	line_close(lines);
	return rc;
}

int verb_chat(int argc, char **argv)
{
	struct args args = { 0 };
	const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
	struct chat c = { .args = &args,
			  .in_tty = isatty(STDIN_FILENO),
			  .out_tty = isatty(STDOUT_FILENO),
			  .err_tty = isatty(STDERR_FILENO),
			  .conn = { .fd = -1 } };
	int rc = input_args("[options]", options, ARRAY_LEN(options), argc, argv, &args, &args.help,
			    NULL);

	if (rc >= 0)
		return rc;
	c.colours = c.out_tty && term && strcmp(term, "dumb") != 0 && !(no_color && *no_color);
	atexit(restore_terminal);
	rc = run(&c);
	bytes_done(&c.content);
	bytes_done(&c.reasoning);
	talk_done(&c.talk);
	http_conn_done(&c.conn);
	http_target_close(&c.target);
	return rc;
}
