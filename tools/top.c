/* SPDX-License-Identifier: MIT */
/*
 * tools/top.c: `sluice top`: what the daemon does, again and again: on a terminal one screen that is
 * drawn anew, elsewhere one block a look. One thread.
 */
#include "tools/top.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "tools/client.h"
#include "tools/input.h"
#include "tools/verbs.h"

struct args {
	struct client_args client;
	float interval;
	uint32_t count;
	bool help;
};

static const struct opt options[] = {
	CLIENT_OPTIONS(struct args, "0"),
	{ "--interval", "-i", OPT_FLOAT, offsetof(struct args, interval), "SECONDS", 0.1, 3600,
	  .def = "1", .help = "Between two looks." },
	{ "--count", "-n", OPT_U32, offsetof(struct args, count), "N", 0, 1e9, .def = "0",
	  .help = "End after N looks; 0: with q or Ctrl-C." },
	{ "--help", "-h", OPT_FLAG, offsetof(struct args, help), .help = "This text." },
};

static struct termios saved; /* what the terminal was set to */
static bool is_saved;

static void restore_terminal(void)
{
	if (is_saved)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	is_saved = false;
}

/* Keys arrive as they are pressed and are not shown. */
static void prepare_terminal(void)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved))
		return;
	raw = saved;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	is_saved = !tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	atexit(restore_terminal);
}

/* That the window has another size is noticed while we wait for keys, and only there. */
static void on_resize(int sig)
{
}

static void watch_size(sigset_t *ret_waiting)
{
	struct sigaction action = { .sa_handler = on_resize };
	sigset_t resize;

	sigemptyset(&resize);
	if (isatty(STDOUT_FILENO)) { /* elsewhere no size matters, and no wait ends early */
		sigaddset(&resize, SIGWINCH);
		sigaction(SIGWINCH, &action, NULL);
	}
	sigprocmask(SIG_BLOCK, &resize, ret_waiting);
	sigdelset(ret_waiting, SIGWINCH);
}

enum waited { WAITED, RESIZED, QUIT };

/* Waits until @end, for a key, or for another size of the window. */
static enum waited wait_or_quit(uint64_t end, const sigset_t *waiting)
{
	struct pollfd keys = { .fd = is_saved ? STDIN_FILENO : -1, .events = POLLIN };

	while (!client_interrupted()) {
		uint64_t now = now_ns();
		struct timespec left = { 0 };
		char key;
		int n;

		if (now >= end)
			return WAITED;
		left.tv_sec = (time_t)((end - now) / 1000000000);
		left.tv_nsec = (long)((end - now) % 1000000000);
		n = ppoll(&keys, 1, &left, waiting);
		if (n < 0 && !client_interrupted())
			return errno == EINTR ? RESIZED : QUIT;
		if (n > 0 && (read(STDIN_FILENO, &key, 1) < 1 || key == 'q' || key == 'Q'))
			return QUIT;
	}
	return QUIT;
}

/* The first lines of @text that a window of @rows takes; all of them where there is room for the hint too. */
static void put_screen(const char *text, unsigned rows)
{
	const char *end = text;
	unsigned lines = 0;

	for (const char *c = text; *c; c++)
		lines += *c == '\n';
	fputs("\033[H\033[J", stdout);
	if (!rows || lines + 2 < rows) {
		printf("%s\nq ends\n", text);
		return;
	}
	for (unsigned n = rows < lines ? rows : lines; n; n--)
		end = strchr(end, '\n') + 1;
	printf("%.*s", (int)(end - text) - 1, text); /* a line end below would move all of it up */
}

/* One screen in one write, so that it does not flicker. */
static int show(const struct top *t, bool terminal)
{
	struct winsize size = { 0 };
	char *text;
	size_t n;
	FILE *out = open_memstream(&text, &n);
	int rc = EXIT_OK;

	if (!out)
		return EXIT_FAILED;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
		size.ws_col = 80;
	top_draw(t, size.ws_col, out);
	fclose(out);
	if (terminal)
		put_screen(text, size.ws_row);
	else
		printf("%s\n", text);
	if (input_flush())
		rc = EXIT_FAILED;
	free(text);
	return rc;
}

/* Shows @t, again where the window changes, until the next look is due. True: the user ends it. */
static bool show_and_wait(const struct top *t, bool last, double seconds, const sigset_t *waiting,
			  int *ret)
{
	bool terminal = isatty(STDOUT_FILENO);
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
	enum waited w;

	do {
		*ret = show(t, terminal);
		if (*ret || last)
			return true;
		w = wait_or_quit(end, waiting);
	} while (w == RESIZED && terminal);
	return w == QUIT;
}

static int run(const struct args *args, struct sluice *s)
{
	static char screen[65536]; /* or a terminal has each line in a write of its own */
	static struct top top;
	struct sluice_status_info status = { .struct_size = sizeof(status) };
	char fallbacks[4096];
	struct sluice_fault fault = { 0 };
	sigset_t waiting;
	int rc = 0;

	setvbuf(stdout, screen, _IOFBF, sizeof(screen));
	watch_size(&waiting);
	for (uint32_t n = 1;; n++) {
		if (sluice_get_status(s, &status, fallbacks, sizeof(fallbacks), &fault))
			return client_fail("top", &fault);
		top_take(&top, &status, fallbacks, now_ns());
		if (show_and_wait(&top, n == args->count, (double)args->interval, &waiting, &rc))
			return rc;
	}
}

int verb_top(int argc, char **argv)
{
	struct args args = { 0 };
	struct sluice *s;
	int rc = input_args("[options]", options, ARRAY_LEN(options), argc, argv, &args, &args.help,
			    NULL);

	if (rc >= 0)
		return rc;
	rc = client_open("top", &args.client, &s);
	if (rc)
		return rc;
	prepare_terminal();
	client_on_interrupt(s);
	rc = run(&args, s);
	client_on_interrupt(NULL);
	restore_terminal();
	sluice_close(s);
	return rc;
}
