/* SPDX-License-Identifier: MIT */
/*
 * tools/heat.c: `sluice heat`: which experts the daemon has used since its start, by layer. What it
 * prints as JSON is the daemon's own (GET /experts). One thread.
 */
#include "tools/heat.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/num.h"
#include "base/opts.h"
#include "tools/http_client.h"
#include "tools/input.h"
#include "tools/verbs.h"

struct args {
	struct client_args client;
	struct http_args http;
	bool json, help;
};

static const struct opt options[] = {
	{ "--json", NULL, OPT_FLAG, offsetof(struct args, json),
	  .help = "The counts themselves: n_expert, n_expert_used, layers with layer and uses." },
	CLIENT_OPTIONS(struct args, "0"),
	HTTP_OPTIONS(struct args),
	{ "--help", "-h", OPT_FLAG, offsetof(struct args, help), .help = "This text." },
};

static unsigned columns(void)
{
	struct winsize size;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || size.ws_col < 40 ? 80 : size.ws_col;
}

static int show(const struct args *args, const struct http_reply *reply)
{
	struct err err = { 0 };
	struct heat heat;
	int rc = 0;

	if (reply->status != 200)
		http_reply_error(reply, &err);
	else if (!heat_parse(reply->body.data, reply->body.n, &heat, &err)) {
		if (args->json)
			printf("%s\n", reply->body.data);
		else
			heat_draw(&heat, columns(), stdout);
		heat_done(&heat);
	}
	if (!err.text[0])
		return rc;
	fprintf(stderr, "sluice heat: %s\n", err.text);
	return EXIT_FAILED;
}

int verb_heat(int argc, char **argv)
{
	struct args args = { 0 };
	struct err err = { 0 };
	struct http_target target;
	struct http_conn conn;
	int rc = input_args("[options]", options, ARRAY_LEN(options), argc, argv, &args, &args.help,
			    NULL);

	if (rc >= 0)
		return rc;
	rc = http_target_open("heat", &args.client, &args.http, &target);
	if (rc)
		return rc;
	client_note_interrupt();
	http_conn_init(&conn, &target);
	rc = http_conn_get(&conn, "/experts", NULL, 0, &err);
	if (!rc) {
		rc = show(&args, &conn.reply);
	} else {
		if (rc != -EINTR)
			fprintf(stderr, "sluice heat: %s\n", err.text);
		rc = rc == -EINTR ? EXIT_INTERRUPTED : EXIT_FAILED;
	}
	http_conn_done(&conn);
	http_target_close(&target);
	return rc;
}
