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
#include "tools/verbs.h"

#define BAR_WIDTH 30
#define POLL_MS	  100

static void nap_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* Nobody listens there yet: waiting may help. */
static bool absent(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -ENOTDIR;
}

static int fail_connect(const char *verb, const struct client_args *args,
			const struct sluice_fault *fault)
{
	const char *advice = "";

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
	uint64_t end = now_ns() + args->wait_seconds * 1000000000ull;
	struct sluice_fault fault;
	bool said = false;

	while (sluice_connect(args->socket, ret, &fault)) {
		if (!absent(fault.error) || now_ns() >= end)
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

static void draw(const struct sluice_status_info *s)
{
	char now[32], all[32], bar[BAR_WIDTH + 1];
	double share = s->load_bytes_total ? (double)s->load_bytes / (double)s->load_bytes_total
					   : 0;
	int full = (int)(share * BAR_WIDTH);

	memset(bar, '.', BAR_WIDTH);
	memset(bar, '#', full > BAR_WIDTH ? BAR_WIDTH : (size_t)full);
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, "\rloading [%s] %3.0f %%  %s of %s ", bar, share * 100,
		size_format(now, sizeof(now), s->load_bytes),
		size_format(all, sizeof(all), s->load_bytes_total));
}

int client_ready(const char *verb, struct sluice *s)
{
	bool terminal = isatty(STDERR_FILENO), drawn = false;
	struct sluice_status_info status = { .struct_size = sizeof(status) };
	struct sluice_fault fault;
	int rc;

	for (;;) {
		rc = sluice_get_status(s, &status, NULL, 0, &fault);
		if (rc || status.state != SLUICE_STATE_STARTING)
			break;
		if (terminal)
			draw(&status);
		drawn = terminal;
		nap_ms(POLL_MS);
	}
	if (drawn)
		fprintf(stderr, "\r\033[K"); /* clears the line */
	if (rc)
		return client_fail(verb, &fault);
	if (status.state == SLUICE_STATE_READY)
		return 0;
	fprintf(stderr, "sluice %s: the daemon could not load its model: %s\n", verb,
		status.failure);
	return EXIT_FAILED;
}

int client_fail(const char *verb, const struct sluice_fault *fault)
{
	const char *advice = "";

	if (fault->code == SLUICE_E_BUSY)
		advice = "; try again when others are through";
	else if (fault->error == -EPIPE)
		advice = "; its log says why";
	fprintf(stderr, "sluice %s: %s%s\n", verb, fault->text, advice);
	return EXIT_FAILED;
}

static struct sluice *_Atomic interruptible;

static void on_interrupt(int signal_number)
{
	struct sluice *s = atomic_load(&interruptible);

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
