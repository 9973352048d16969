/* SPDX-License-Identifier: MIT */
/*
 * tools/slots.c: `sluice slots`: the daemon's places for sequences, and what the newest request of one
 * left: to a file of the daemon's directory (--slot-save-path), and back. What it prints as JSON is the
 * daemon's own (GET /slots, POST /slots/ID). One thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "base/num.h"
#include "base/opts.h"
#include "base/size.h"
#include "tools/http_client.h"
#include "tools/input.h"
#include "tools/json_input.h"
#include "tools/verbs.h"

#define NO_SLOT 1000000000u

struct args {
	struct client_args client;
	struct http_args http;
	uint32_t slot;
	bool json, help;
};

static const struct opt options[] = {
	{ "--slot", NULL, OPT_U32, offsetof(struct args, slot), "N", 0, NO_SLOT - 1,
	  .help = "The place, counted from 0 as sluice slots lists them." },
	{ "--json", NULL, OPT_FLAG, offsetof(struct args, json),
	  .help = "The daemon's answer as it is." },
	CLIENT_OPTIONS(struct args, "0"),
	HTTP_OPTIONS(struct args),
	{ "--help", "-h", OPT_FLAG, offsetof(struct args, help), .help = "This text." },
};

static const struct action {
	const char *name;
	const char *tokens, *bytes, *time; /* members of its answer; NULL: none */
	const char *done;
} actions[] = {
	{ "save", "n_saved", "n_written", "save_ms", "saved" },
	{ "restore", "n_restored", "n_read", "restore_ms", "restored" },
	{ "erase", "n_erased", NULL, NULL, "erased" },
};

static const struct action *find_action(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(actions); i++)
		if (name && !strcmp(name, actions[i].name))
			return &actions[i];
	return NULL;
}

static uint64_t count(struct json_object *o, const char *key)
{
	int64_t n = json_object_get_int64(jsonc_member(o, key));

	return n > 0 ? (uint64_t)n : 0;
}

/* ---- what is shown: members that an answer lacks are zeros ---- */

static void show_slot(struct json_object *o)
{
	struct json_object *next = jsonc_member(o, "next_token");
	bool busy = json_object_get_boolean(jsonc_member(o, "is_processing"));
	bool used = json_object_get_int64(jsonc_member(o, "id_task")) >= 0;

	if (json_object_is_type(next, json_type_array))
		next = json_object_array_get_idx(next, 0);
	printf("%4" PRIu64 "  %-7s  %8" PRIu64 " of prompt  %8" PRIu64 " generated  %8" PRIu64
	       " of context\n",
	       count(o, "id"),
	       json_object_get_boolean(jsonc_member(o, "is_paused")) ? "paused"
	       : busy						     ? "busy"
	       : used						     ? "idle"
								     : "unused",
	       count(o, "n_prompt_tokens"), count(next, "n_decoded"), count(o, "n_ctx"));
}

static void show_slots(struct json_object *list)
{
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++)
		show_slot(json_object_array_get_idx(list, i));
}

static void show_done(const struct action *a, const struct args *args, const char *name,
		      struct json_object *o)
{
	struct json_object *times = jsonc_member(o, "timings");
	char size[32];

	printf("slot %" PRIu32 ": %" PRIu64 " tokens %s", args->slot, count(o, a->tokens), a->done);
	if (a->bytes)
		printf(" %s %s, %s in %.1f ms", a == actions ? "to" : "from", name,
		       size_format(size, sizeof(size), count(o, a->bytes)),
		       json_object_get_double(jsonc_member(times, a->time)));
	printf("\n");
}

/* The answer as an object: a list becomes its member "slots". 0, or -errno and a sentence. */
static int read_answer(const struct http_reply *reply, bool list, struct json_object **ret,
		       struct err *err)
{
	size_t room = reply->body.n + 16;
	char *text = malloc(room);
	int rc, n;

	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	n = snprintf(text, room, list ? "{\"slots\":%s}" : "%s",
		     reply->body.data ? reply->body.data : "");
	rc = input_json_object(text, (size_t)n, ret, err);
	free(text);
	return rc;
}

static int show(const struct action *a, const struct args *args, const char *name,
		const struct http_reply *reply)
{
	struct err err = { 0 };
	struct json_object *o = NULL;
	int rc = 0;

	if (reply->status != 200)
		http_reply_error(reply, &err);
	else
		rc = read_answer(reply, !a, &o, &err);
	if (err.text[0] || rc) {
		fprintf(stderr, "sluice slots: %s\n", err.text);
		return EXIT_FAILED;
	}
	if (args->json)
		printf("%s\n", reply->body.data);
	else if (a)
		show_done(a, args, name, o);
	else
		show_slots(jsonc_member(o, "slots"));
	json_object_put(o);
	return 0;
}

/* ---- asking ---- */

static int ask(const struct action *a, const struct args *args, const char *name,
	       struct http_target *target)
{
	struct json_object *o = a && name ? json_object_new_object() : NULL;
	char path[64] = "/slots", *body = NULL;
	struct http_conn conn;
	struct err err = { 0 };
	int rc;

	if (a)
		snprintf(path, sizeof(path), "/slots/%" PRIu32 "?action=%s", args->slot, a->name);
	if (o) {
		json_object_object_add(o, "filename", json_object_new_string(name));
		body = jsonc_take_text(o);
	} else if (a) {
		body = strdup("{}");
	}
	http_conn_init(&conn, target);
	rc = a && !body ? err_set(&err, -ENOMEM, "out of memory")
			: http_conn_get(&conn, path, body, body ? strlen(body) : 0, &err);
	if (!rc) {
		rc = show(a, args, name, &conn.reply);
	} else {
		if (rc != -EINTR)
			fprintf(stderr, "sluice slots: %s\n", err.text);
		rc = rc == -EINTR ? EXIT_INTERRUPTED : EXIT_FAILED;
	}
	free(body);
	http_conn_done(&conn);
	return rc;
}

static int usage(const char *why)
{
	fprintf(stderr, "sluice slots: %s; sluice help slots\n", why);
	return EXIT_USAGE;
}

int verb_slots(int argc, char **argv)
{
	struct args args = { .slot = NO_SLOT };
	struct http_target target;
	const struct action *a = argc > 1 ? find_action(argv[1]) : NULL;
	const char *name = NULL;
	int rc;

	if (argc > 1 && argv[1][0] != '-' && !a)
		return usage("save, restore or erase, or nothing: a list");
	if (a)
		argv[1] = argv[0]; /* the verb's name, for messages */
	rc = input_args("[save NAME|restore NAME|erase --slot N] [options]", options,
			ARRAY_LEN(options), argc - !!a, argv + !!a, &args, &args.help, &name);
	if (rc >= 0)
		return rc;
	if (a && args.slot == NO_SLOT)
		return usage("--slot says which");
	if (a ? !a->bytes == !!name : name || args.slot != NO_SLOT)
		return usage(a && a->bytes ? "a file's name is needed"
					   : "no file's name is needed");
	rc = http_target_open("slots", &args.client, &args.http, &target);
	if (rc)
		return rc;
	client_note_interrupt();
	rc = ask(a, &args, name, &target);
	http_target_close(&target);
	return rc;
}
