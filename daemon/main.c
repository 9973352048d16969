/* SPDX-License-Identifier: MIT */
/*
 * daemon/main.c: the table of contents. Builds the rooms in order, runs, tears down in reverse.
 *
 * Exit status: 0 after SIGTERM or SIGINT, 1 where something failed (one line on stderr says what),
 * 2 for a usage error.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "base/log.h"
#include "base/size.h"
#include "engine/engine.h"
#include "kernels/cpu/cpu.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "serve/options.h"
#include "serve/serve.h"

struct rooms {
	struct model *model;
	struct tokenizer *tokenizer;
	struct engine *engine;
	struct serve *serve;
};

/* Signals go to the serve loop alone: blocked before any thread is started. */
static void prepare_process(void)
{
	struct rlimit files;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a trace that reaches its limit ends, we do not */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files); /* fewer clients otherwise, no fault */
	}
}

static int create_engine(const struct options *o, const struct cpu_ops *ops, struct rooms *r,
			 struct err *err)
{
	struct engine_config config = {
		.host_budget = o->host_budget.bytes,
		.budget_percent = o->host_budget.percent,
		.threads = o->threads,
		.n_ctx = o->ctx,
		.n_parallel = o->parallel,
		.n_batch = o->batch,
		.kv_type = (enum kv_type)o->kv_type,
		.io = (enum reader_kind)o->io,
		.io_depth = o->io_depth,
		.io_request_bytes = (uint32_t)o->io_request,
		.ops = ops,
		.policy = o->policy,
		.trace_path = o->trace,
		.no_fill = o->no_fill,
		.numa = o->numa,
	};

	return engine_create(&config, r->model, r->tokenizer, &r->engine, err);
}

/* One block that says what we run on and with. */
static void say_hello(const struct options *o, const struct rooms *r)
{
	struct engine_status e;
	struct utsname system;
	char budget[32], experts[32], dense[32];

	if (uname(&system))
		system.release[0] = '\0';
	engine_get_status(r->engine, &e);
	size_format(budget, sizeof(budget), e.budget_bytes);
	size_format(experts, sizeof(experts), r->model->expert_bytes_total);
	size_format(dense, sizeof(dense), r->model->dense_bytes);
	log_line(LOG_NOTICE, "sluiced", "version=%s kernel=%s cpu=%s threads=%u", SLUICE_VERSION,
		 system.release, e.cpu, e.threads);
	log_line(LOG_NOTICE, "model", "file=\"%s\" arch=%s name=\"%s\" layers=%u experts=%llu",
		 o->model, r->model->arch_name, r->model->name, r->model->n_layers,
		 (unsigned long long)e.experts_total);
	log_line(LOG_NOTICE, "memory",
		 "budget=\"%s\" all_experts=\"%s\" dense=\"%s\" arena=%s ctx=%u parallel=%u kv=%s",
		 budget, experts, dense, e.arena, e.n_ctx, e.n_parallel, e.kv);
	log_line(LOG_NOTICE, "disk", "io=%s policy=%s", e.io, e.policy);
	for (unsigned i = 0; i < ENGINE_FALLBACKS && e.fallbacks[i]; i++)
		log_line(LOG_NOTICE, "fallback", "cause=\"%s\"", e.fallbacks[i]);
}

static int build(const struct options *o, struct rooms *r, struct err *err)
{
	struct serve_config serve = { .socket_path = o->socket,
				      .model_path = o->model,
				      .signals = true };
	const struct cpu_ops *ops;
	int rc = cpu_ops_parse(o->cpu, &ops);

	if (rc)
		return err_set(err, rc, "--cpu %s: %s", o->cpu,
			       rc == -ENOTSUP ? "this processor cannot run it"
					      : "not one of auto, scalar, avx2, avx512");
	rc = model_open(o->model, &r->model, err);
	if (!rc)
		rc = tokenizer_create(r->model->gguf, NULL, &r->tokenizer, err);
	if (!rc)
		rc = create_engine(o, ops, r, err);
	if (rc)
		return rc;
	say_hello(o, r);
	serve.model = r->model;
	serve.tokenizer = r->tokenizer;
	serve.engine = r->engine;
	rc = serve_create(&serve, &r->serve, err);
	if (!rc)
		rc = engine_start(r->engine);
	return rc ? err_set(err, rc, "cannot start the engine") : 0;
}

/* The engine first: its end ends every request, which serve then reports to its clients. */
static void tear_down(struct rooms *r)
{
	engine_destroy(r->engine);
	serve_destroy(r->serve);
	tokenizer_destroy(r->tokenizer);
	model_destroy(r->model);
}

int main(int argc, char **argv)
{
	struct rooms rooms = { 0 };
	struct err err = { 0 };
	struct options o;
	int rc;

	if (options_parse(argc, argv, &o, &err)) {
		fprintf(stderr, "sluiced: %s\nsluiced --help lists the options\n", err.text);
		return 2;
	}
	if (o.help || o.version) {
		if (o.help)
			options_help(stdout);
		else
			puts("sluiced " SLUICE_VERSION);
		return 0;
	}
	log_init((enum log_level)(LOG_ERROR + o.log_level));
	prepare_process();
	rc = build(&o, &rooms, &err);
	if (!rc)
		rc = serve_run(rooms.serve, &err);
	if (rc)
		log_line(LOG_ERROR, err.text, NULL);
	tear_down(&rooms);
	if (!rc)
		log_line(LOG_NOTICE, "stopped", NULL);
	return rc ? 1 : 0;
}
