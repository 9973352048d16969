/* SPDX-License-Identifier: MIT */
/*
 * tools/top.c: `sluice top`: what the daemon does, again and again: on a terminal one screen that is
 * drawn anew, elsewhere one block a look. One thread.
 */
#include "tools/top.h"

#include <poll.h>
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

static unsigned columns_of(int fd)
{
	struct winsize size;

	if (ioctl(fd, TIOCGWINSZ, &size) || size.ws_col < 40)
		return 80;
	return size.ws_col;
}

/* Waits; true where the user wants to end. */
static bool wait_or_quit(double seconds)
{
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
	struct pollfd keys = { .fd = is_saved ? STDIN_FILENO : -1, .events = POLLIN };

	while (!client_interrupted()) {
		uint64_t now = now_ns();
		char key;

		if (now >= end)
			return false;
		if (poll(&keys, 1, (int)((end - now) / 1000000) + 1) > 0 &&
		    (read(STDIN_FILENO, &key, 1) < 1 || key == 'q' || key == 'Q'))
			return true;
	}
	return true;
}

/* One screen in one write, so that it does not flicker. */
static int show(const struct top *t, bool terminal)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int rc = EXIT_OK;

	if (!out)
		return EXIT_FAILED;
	if (terminal)
		fputs("\033[H\033[J", out);
	top_draw(t, columns_of(STDOUT_FILENO), out);
	fputs(terminal ? "\nq ends\n" : "\n", out);
	fclose(out);
	fwrite(text, 1, size, stdout);
	if (input_flush())
		rc = EXIT_FAILED;
	free(text);
	return rc;
}

static int run(const struct args *args, struct sluice *s)
{
	static struct top top;
	struct sluice_status_info status = { .struct_size = sizeof(status) };
	char fallbacks[4096];
	struct sluice_fault fault = { 0 };
	bool terminal = isatty(STDOUT_FILENO);
	int rc = 0;

	for (uint32_t n = 0; !rc; n++) {
		if (sluice_get_status(s, &status, fallbacks, sizeof(fallbacks), &fault))
			return client_fail("top", &fault);
		top_take(&top, &status, fallbacks, now_ns());
		rc = show(&top, terminal);
		if (rc || (args->count && n + 1 == args->count) ||
		    wait_or_quit((double)args->interval))
			break;
	}
	return rc;
}

int verb_top(int argc, char **argv)
{
	struct args args = { 0 };
	struct sluice *s;
	int rc = input_args("", options, ARRAY_LEN(options), argc, argv, &args, &args.help, NULL);

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
