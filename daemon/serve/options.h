/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/options.h: sluiced's options. One table drives parsing, checks, --help and the
 * manual page's list; main() reads the struct. Main thread.
 */
#ifndef SLUICE_SERVE_OPTIONS_H
#define SLUICE_SERVE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "serve/http.h"

struct budget_option {
	uint64_t bytes;	  /* 0: by percent, or automatic where that is 0 too */
	uint32_t percent; /* 1..100 */
};

struct options {
	const char *draft_model;
	const char *model, *socket, *policy, *trace, *cpu, *peaks;
	const char *chat_template, *chat_template_kwargs;
	struct budget_option host_budget;
	uint32_t threads, ctx, parallel, batch;
	uint64_t prefix_cache; /* bytes, 0: the default; PREFIX_CACHE_OFF */
	bool prefix_share;
	uint64_t kv_budget;		       /* bytes, 0: all sequences may be full */
	uint32_t itl_target;		       /* ms, 0: twice the plain step */
	uint32_t request_tokens, request_time; /* time in s; 0: no bound */
	uint32_t kv_type, io;		       /* enum kv_type, enum reader_kind */
	uint32_t spec;			       /* enum spec_mode - SPEC_AUTO */
	uint32_t io_depth;
	uint64_t io_request;
	const char *device; /* struct engine_config.device */
	int numa;	    /* struct engine_config.numa */
	uint32_t log_level; /* index in "error|warn|notice|info|debug" */
	uint64_t fill_rate; /* bytes per second, 0: no bound */
	struct http_config http;
	bool overwrite, no_fill, help, version;
};

/*
 * 0 or -EINVAL and a sentence. With --help or --version nothing else is required; otherwise --model
 * is. Without --socket the socket is NULL: main() then asks sluice_socket_path().
 */
int options_parse(int argc, char **argv, struct options *ret, struct err *err);

void options_help(FILE *out);

/* "8G" or "50%" -> *ret; 0 or -EINVAL and a sentence. */
int options_budget(const char *text, struct budget_option *ret, struct err *err);

#endif
