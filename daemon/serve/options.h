/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/options.h: sluiced's options. One table drives parsing, checks, --help, the
 * configuration file and the manual page's list; main() reads the struct. Main thread.
 */
#ifndef SLUICE_SERVE_OPTIONS_H
#define SLUICE_SERVE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/opts.h"
#include "policy/predict.h"
#include "serve/http.h"
#include "serve/settings.h"

struct budget_option {
	uint64_t bytes;	  /* 0: by percent, or automatic where that is 0 too */
	uint32_t percent; /* 1..100 */
};

struct options {
	const char *draft_model;
	const char *model, *socket, *policy, *trace, *cpu, *cpus, *peaks;
	const char *chat_template, *chat_template_kwargs;
	struct budget_option host_budget;
	uint32_t threads, ctx, parallel, batch;
	uint64_t prefix_cache; /* bytes, 0: the default; PREFIX_CACHE_OFF */
	bool prefix_share;
	const char *save_path;		       /* of sequences, NULL: none */
	uint64_t kv_budget;		       /* bytes, 0: all sequences may be full */
	uint32_t itl_target;		       /* ms, 0: twice the plain step */
	uint32_t request_tokens, request_time; /* time in s; 0: no bound */
	uint32_t kv_type, io;		       /* enum kv_type, enum reader_kind */
	uint32_t warm_restart;		       /* index in "auto|off|on" */
	uint32_t spec;			       /* enum spec_mode - SPEC_AUTO */
	uint32_t io_depth;
	uint64_t io_request;
	const char *device, *device_policy; /* as in struct engine_config */
	uint64_t device_budget, device_fill_rate;
	int numa;	    /* struct engine_config.numa */
	uint32_t log_level; /* index in "error|warn|notice|info|debug" */
	uint64_t fill_rate; /* bytes per second, 0: no bound */
	struct predict_choice predict;
	struct http_config http;
	bool overwrite, no_fill, help, version;
	const char *config; /* the file that was read, NULL: none */
	bool check_config, dump_config;
	/* where the values come from; the texts above point there too */
	struct settings *settings;
	struct opts_said said[OPTS_MAX];
	char *reloaded[OPTS_MAX]; /* values that a reload brought, owned */
};

/*
 * The arguments, then what they leave open from the configuration file: that of --config; without it
 * and without --model SETTINGS_FILE where there is one. 0, or -errno and a sentence, which names file
 * and line. With --help, --version or --dump-config nothing is required; otherwise --model is. Without
 * --socket the socket is NULL: main() then asks sluice_socket_path(). options_free() takes *ret in
 * either case; argv must outlive it.
 */
int options_parse(int argc, char **argv, struct options *ret, struct err *err);
void options_free(struct options *o);

/* For arguments that were refused: where an option of llama-server is among them, @err is about the first of these. */
void options_other(int argc, char **argv, struct err *err);

/*
 * What `--check-config` looks at beside: whether model, draft model, chat template, keys and peaks can be read by this
 * process's user, and whether addresses that other machines reach have keys. Nothing is loaded. 0, or -errno and a sentence that begins with the option.
 */
int options_check_files(const struct options *o, struct err *err);

/* An option whose value in the configuration is another than the running one. */
struct options_change {
	const char *name, *from, *to; /* "--queue", and both values as written, "" for none */
	bool taken;		      /* it is marked reloadable */
};

/*
 * Reads the configuration again and calls @tell for every difference; the values of reloadable options
 * (numbers only) then stand in @o. 0, or -errno and a sentence: @o is then as before and @tell was not
 * called.
 */
int options_reload(struct options *o, int argc, char **argv,
		   void (*tell)(void *arg, const struct options_change *c), void *arg,
		   struct err *err);

/* All options as a configuration file, see opts_dump(). */
void options_dump(FILE *out, const struct options *o);

void options_help(FILE *out);

#endif
