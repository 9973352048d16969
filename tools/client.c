/* SPDX-License-Identifier: MIT */
/* tools/client.c: see client.h. */
#include "tools/client.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/size.h"
#include "tools/shown.h"
#include "tools/verbs.h"

#define BAR_WIDTH 30
#define POLL_MS	  100

/* A bar appears only where reading takes long, then often; a line in a log comes rarely. */
#define BAR_AFTER_NS 1000000000ull
#define BAR_NS	     100000000ull
#define LINE_NS	     10000000000ull

static void nap_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* Nobody listens there yet, or who did is just ending: waiting may help. */
static bool absent(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -ENOTDIR || error == -EPIPE;
}

/* Of llama.cpp's programs -s is the seed: a path that is a number was most likely meant as one. */
static bool is_seed(const char *socket)
{
	return socket && *socket && !socket[strspn(socket, "0123456789")];
}

static bool has_seed(const char *verb)
{
	return !strcmp(verb, "generate") || !strcmp(verb, "bench");
}

static int fail_connect(const char *verb, const struct client_args *args,
			const struct sluice_fault *fault)
{
	const char *advice = "";

	if (absent(fault->error) && is_seed(args->socket)) {
		fprintf(stderr, "sluice %s: no daemon: there is no socket %s", verb, args->socket);
		if (has_seed(verb))
			fprintf(stderr, "; did you mean --seed %s?", args->socket);
		fprintf(stderr, " (-s is --socket)\n");
		return EXIT_UNREACHABLE;
	}
	if (absent(fault->error))
		advice = args->socket
				 ? "; is it running? sluiced --model FILE --socket PATH starts it"
				 : "; is it running? sluiced --model FILE starts it";
	else if (fault->error == -EACCES)
		advice = "; the socket is for its owner and the owner's group";
	else if (fault->error == -EPROTOTYPE || fault->error == -EPROTONOSUPPORT)
		advice = "; is that sluiced's socket, and of this version?";
	fprintf(stderr, "sluice %s: no daemon: %s%s\n", verb, fault->text, advice);
	return EXIT_UNREACHABLE;
}

int client_open(const char *verb, const struct client_args *args, struct sluice **ret)
{
	uint32_t wait = is_seed(args->socket) && !args->wait_given ? 0 : args->wait_seconds;
	uint64_t end = now_ns() + wait * 1000000000ull;
	struct sluice_fault fault;
	bool said = false;

	while (sluice_connect(args->socket, ret, &fault)) {
		if (client_interrupted())
			return EXIT_INTERRUPTED;
		shown_clean(fault.text);
		/* -ETIMEDOUT: a manager listens for a daemon that is being started */
		if ((!absent(fault.error) && fault.error != -ETIMEDOUT) || now_ns() >= end)
			return fail_connect(verb, args, &fault);
		if (!said)
			fprintf(stderr,
				"sluice %s: no daemon yet: %s; waiting up to %u s for one "
				"(--wait 0 does not)\n",
				verb, fault.text, args->wait_seconds);
		said = true;
		nap_ms(POLL_MS);
	}
	return 0;
}

/* "reading [####......]  42 %  12 of 30 tokens", over what the line held before. */
static void draw_bar(const char *what, double share, const char *text)
{
	char bar[BAR_WIDTH + 1];
	int full = (int)(share * BAR_WIDTH);

	memset(bar, '.', BAR_WIDTH);
	memset(bar, '#', full > BAR_WIDTH ? BAR_WIDTH : (size_t)full);
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, "\r%s [%s] %3.0f %%  %s \033[K", what, bar, share * 100, text);
}

static void clear_bar(void)
{
	fputs("\r\033[K", stderr);
}

/* A bar on a terminal, else a line when @next_ns has come; that is set anew. */
static void show_loading(const char *verb, const struct sluice_status_info *s, bool terminal,
			 uint64_t *next_ns)
{
	char done[32], all[32], text[80];
	double share = s->load_bytes_total ? (double)s->load_bytes / (double)s->load_bytes_total
					   : 0;

	if (!terminal && now_ns() < *next_ns)
		return;
	*next_ns = now_ns() + LINE_NS;
	snprintf(text, sizeof(text), "%s of %s", size_format(done, sizeof(done), s->load_bytes),
		 size_format(all, sizeof(all), s->load_bytes_total));
	if (terminal)
		draw_bar("loading", share, text);
	else
		fprintf(stderr, "sluice %s: the daemon loads its model: %s\n", verb, text);
}

static int on_progress(void *arg, const struct sluice_progress *p)
{
	bool terminal = isatty(STDERR_FILENO);
	struct client_progress *c = arg;
	uint64_t now = now_ns();
	char text[64];

	c->n_prompt = p->n_prompt;
	if (now < c->next_ns)
		return 0;
	c->next_ns = now + (terminal ? BAR_NS : LINE_NS);
	snprintf(text, sizeof(text), "%u of %u tokens", p->n_read, p->n_prompt);
	if (terminal)
		draw_bar("reading", p->done_ppm / 1e6, text);
	else
		fprintf(stderr, "sluice %s: %.0f %% of the prompt is read, %s\n", c->verb,
			p->done_ppm / 1e4, text);
	c->drawn = terminal;
	return 0;
}

void client_show_progress(struct client_progress *p, const char *verb, struct sluice *s)
{
	bool terminal = isatty(STDERR_FILENO);

	*p = (struct client_progress){ .verb = verb,
				       .next_ns = now_ns() + (terminal ? BAR_AFTER_NS : LINE_NS) };
	sluice_on_progress(s, on_progress, p);
}

void client_clear_progress(struct client_progress *p)
{
	if (p->drawn)
		clear_bar();
	p->drawn = false;
}

int client_ready(const char *verb, struct sluice *s)
{
	bool terminal = isatty(STDERR_FILENO), drawn = false;
	struct sluice_status_info status = { .struct_size = sizeof(status) };
	uint64_t next_ns = now_ns() + LINE_NS;
	struct sluice_fault fault;
	int rc;

	for (;;) {
		rc = sluice_get_status(s, &status, NULL, 0, &fault);
		if (rc || status.state != SLUICE_STATE_STARTING)
			break;
		show_loading(verb, &status, terminal, &next_ns);
		drawn = terminal;
		nap_ms(POLL_MS);
	}
	if (drawn)
		clear_bar();
	if (rc)
		return client_fail(verb, &fault);
	if (status.state == SLUICE_STATE_READY)
		return 0;
	shown_clean(status.failure);
	fprintf(stderr, "sluice %s: the daemon could not load its model: %s\n", verb,
		status.failure);
	return EXIT_FAILED;
}

int client_fail(const char *verb, const struct sluice_fault *fault)
{
	struct sluice_fault shown = *fault;
	const char *advice = "";

	shown_clean(shown.text);
	if (fault->code == SLUICE_E_BUSY)
		advice = "; try again when others are through";
	else if (fault->error == -EPIPE)
		advice = "; its log says why";
	fprintf(stderr, "sluice %s: %s%s\n", verb, shown.text, advice);
	return EXIT_FAILED;
}

static struct sluice *_Atomic interruptible;
static atomic_bool interrupted;

static void on_interrupt(int signal_number)
{
	struct sluice *s = atomic_load(&interruptible);

	atomic_store(&interrupted, true);
	if (s)
		sluice_cancel(s);
}

void client_on_interrupt(struct sluice *s)
{
	struct sigaction action = { .sa_handler = s ? on_interrupt : SIG_DFL };

	/* The second Ctrl-C ends the program, should the daemon not answer the first. */
	action.sa_flags = SA_RESTART | (int)SA_RESETHAND;
	atomic_store(&interruptible, s);
	sigaction(SIGINT, &action, NULL);
}

void client_note_interrupt(void)
{
	struct sigaction action = { .sa_handler = on_interrupt };

	action.sa_flags = (int)SA_RESETHAND;
	sigaction(SIGINT, &action, NULL);
}

bool client_interrupted(void)
{
	return atomic_load(&interrupted);
}

int client_ending(const char *verb, const struct sluice_done *done)
{
	if (done->stop != SLUICE_STOP_CANCELLED)
		return 0;
	if (client_interrupted())
		return EXIT_INTERRUPTED;
	fprintf(stderr, "sluice %s: the daemon ended the request before it was complete\n", verb);
	return EXIT_FAILED;
}
