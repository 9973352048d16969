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
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cpus.h"
#include "base/jsonc.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/num.h"
#include "base/opts.h"
#include "base/size.h"
#include "base/stdfd.h"
#include "base/version.h"
#include "chat/template.h"
#include "engine/engine.h"
#include "kernels/cpu/cpu.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "plan/plan.h"
#include "serve/handed.h"
#include "serve/hello.h"
#include "serve/http.h"
#include "serve/notify.h"
#include "serve/options.h"
#include "serve/serve.h"
#include "telemetry/peaks.h"
#include "telemetry/sampler.h"
#include "uapi/sluice.h"

#define KWARGS_DEPTH 128 /* as in requests */

struct rooms {
	struct telemetry_peak peaks[NODES_KNOWN];
	struct telemetry_sampler *sampler;   /* NULL: telemetry could not be had, said once */
	struct telemetry_snapshot *snapshot; /* the engine's copy of the latest */
	struct model *model, *draft; /* draft: a file with a head alone; NULL: none was named */
	struct tokenizer *tokenizer;
	struct chat_template *chat; /* NULL: none, chat_why says why where that is worth saying */
	struct err chat_why;
	struct json_object *chat_kwargs;
	struct engine *engine;
	struct serve *serve;
	struct http *http; /* without --http for clients of the native socket alone */
	struct options *options;
	int argc; /* as main() had them: the configuration is read again with them */
	char **argv;
};

/* @wait: the serve loop alone takes them, those too that come before it runs. No thread is started yet. */
static void signals_wait(bool wait)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(wait ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static void prepare_process(void)
{
	struct rlimit files;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a trace that reaches its limit ends, we do not */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files); /* fewer clients otherwise, no fault */
	}
}

/* 0, or a sentence about a peaks file that is no good: the daemon runs without all else. */
static int create_sampler(const struct options *o, struct rooms *r, struct err *err)
{
	struct telemetry_sampler_config config = { .period_ms = SAMPLER_PERIOD_MS };
	struct err why = { { 0 } };
	int n = 0;

	if (o->peaks)
		n = telemetry_load_peaks(o->peaks, r->peaks, NODES_KNOWN, err);
	if (n < 0)
		return err_prefix(err, n, "--peaks");
	config.telemetry.peaks = r->peaks;
	config.telemetry.n_peaks = (uint32_t)n;
	r->snapshot = malloc(sizeof(*r->snapshot));
	if (!r->snapshot)
		return err_set(err, -ENOMEM, "no memory for telemetry");
	if (telemetry_sampler_create(&config, &r->sampler, &why))
		log_line(LOG_WARN, "telemetry", "cause=\"%s\" then=ignored", why.text);
	for (unsigned i = 0; r->sampler && telemetry_sampler_note(r->sampler, i); i++)
		log_line(LOG_INF, "telemetry", "note=\"%s\"",
			 telemetry_sampler_note(r->sampler, i));
	return 0;
}

/* The engine's view of the nodes' memory: at its creation and then on its thread. */
static uint32_t bandwidth_now(void *arg, struct bandwidth_node *ret, uint32_t max)
{
	struct rooms *r = arg;

	if (telemetry_sampler_get(r->sampler, r->snapshot))
		return 0;
	return plan_nodes(r->snapshot, ret, max);
}

static bool link_now(void *arg, const char *bdf, double *ret_capacity, double *ret_in_use)
{
	struct rooms *r = arg;

	return !telemetry_sampler_get(r->sampler, r->snapshot) &&
	       plan_link(r->snapshot, bdf, ret_capacity, ret_in_use);
}

/* Memory that outlives us, and what the service manager kept of a process before. */
static struct engine_keep keep_of(const struct options *o)
{
	static const enum arena_keep modes[] = { ARENA_KEEP_IF_FAST, ARENA_OWN, ARENA_KEEP };
	struct engine_keep k = { .keep = modes[o->warm_restart], .let_go = notify_forget };

	k.handed = handed_memory(k.fd, &k.wrong);
	if (k.keep == ARENA_KEEP_IF_FAST && !notify_store_offered() && !k.handed)
		k.keep = ARENA_OWN;
	if (k.keep == ARENA_KEEP && !getenv("NOTIFY_SOCKET")) {
		log_line(LOG_WARN, "warm restart",
			 "cause=\"there is no service manager to keep memory\"");
		k.keep = ARENA_OWN;
	}
	return k;
}

/* The manager keeps what is new; says how we start where anything was kept. */
static void say_warm(const struct engine *engine)
{
	char experts[32], dense[32];
	struct engine_status e;
	int fd[WARM_NR], rc;

	engine_get_status(engine, &e);
	if (e.warm.warm)
		log_line(LOG_NOTICE, "warm start", "experts=%llu bytes=\"%s\" starts=%llu",
			 (unsigned long long)e.warm.experts,
			 size_format(experts, sizeof(experts), e.warm.expert_bytes),
			 (unsigned long long)e.warm.starts);
	else if (e.warm.handed)
		log_line(LOG_NOTICE, "cold start", "cause=\"what was kept is of no use: %s\"",
			 e.warm.why);
	if (!engine_get_kept(engine, fd))
		return;
	rc = notify_keep(fd);
	size_format(dense, sizeof(dense), e.dense_bytes);
	if (rc)
		log_line(LOG_WARN, "warm restart",
			 "cause=\"the service manager keeps no memory: %s\"", strerror(-rc));
	else
		log_line(LOG_NOTICE, "warm restart",
			 "budget=\"%s\" dense=\"%s\" pages=%s note=\"kept by the service manager\"",
			 size_format(experts, sizeof(experts), e.budget_bytes), dense, e.arena);
}

static int create_engine(const struct options *o, const struct cpu_ops *ops, struct rooms *r,
			 struct err *err)
{
	const struct engine_keep keep = keep_of(o);
	struct limits limits;
	struct engine_config config = {
		.host_budget = o->host_budget.bytes,
		.budget_percent = o->host_budget.percent,
		.threads = o->threads,
		.n_ctx = o->ctx,
		.n_parallel = o->parallel,
		.n_batch = o->batch,
		.kv_type = (enum kv_type)o->kv_type,
		.kv_budget = o->kv_budget,
		.prefix_cache = o->prefix_cache,
		.prefix_share = o->prefix_share,
		.save_path = o->save_path,
		.itl_target_ns = (uint64_t)o->itl_target * 1000000,
		.io = (enum reader_kind)o->io,
		.io_depth = o->io_depth,
		.io_request_bytes = (uint32_t)o->io_request,
		.ops = ops,
		.policy = o->policy,
		.trace_path = o->trace,
		.trace_overwrite = o->overwrite,
		.no_fill = o->no_fill,
		.spec = (enum spec_mode)(SPEC_AUTO + o->spec),
		.head = r->draft ? r->draft->head : NULL,
		.fill_bytes_per_s = o->fill_rate,
		.predict = o->predict,
		.numa = o->numa,
		.device = o->device,
		.device_budget = o->device_budget,
		.device_policy = o->device_policy,
		.device_fill_rate = o->device_fill_rate,
		.bandwidth = r->sampler ? bandwidth_now : NULL,
		.bandwidth_arg = r,
		.link = r->sampler ? link_now : NULL,
		.limits = &limits,
		.keep = &keep,
	};

	limits_read(NULL, &limits); /* now: the model's index and vocabulary are counted */
	return engine_create(&config, r->model, r->tokenizer, &r->engine, err);
}

/* --chat-template-kwargs, checked as a request's would be. */
static int read_kwargs(const char *text, struct json_object **ret, struct err *err)
{
	struct json_object *given = NULL;
	const char *why;
	size_t at;
	int rc = jsonc_parse(text, strlen(text), KWARGS_DEPTH, &given, &at, &why);

	if (rc)
		return err_set(err, rc, "--chat-template-kwargs: no valid JSON: %s, near byte %zu",
			       why, at);
	if (!json_object_is_type(given, json_type_object)) {
		json_object_put(given);
		return err_set(err, -EINVAL, "--chat-template-kwargs: no JSON object");
	}
	rc = chat_kwargs(given, NULL, ret, NULL, err);
	json_object_put(given);
	return rc ? err_prefix(err, rc, "--chat-template-kwargs") : 0;
}

/* llama-server's option of this name takes names, too. */
static int read_template(const char *path, char **ret, size_t *ret_n, struct err *err)
{
	struct err why = { 0 };
	int rc = chat_template_read(path, ret, ret_n, &why);

	return rc ? err_set(err, rc, "--chat-template %s%s", why.text,
			    rc == -ENOENT ? ": a file is meant; built-in names are not there" : "")
		  : 0;
}

/*
 * The template of --chat-template must be right; one of the model's that is not is said, and chats
 * then have the fixed form of the model's family.
 */
static int load_template(const struct options *o, struct rooms *r, struct err *err)
{
	char *text = NULL;
	size_t n = 0;
	int rc = 0;

	if (o->chat_template_kwargs)
		rc = read_kwargs(o->chat_template_kwargs, &r->chat_kwargs, err);
	if (!rc && o->chat_template)
		rc = read_template(o->chat_template, &text, &n, err);
	if (rc)
		return rc;
	rc = chat_template_load(r->model->gguf, r->tokenizer, text, n, &r->chat, &r->chat_why);
	free(text);
	if (rc && o->chat_template)
		return err_set(err, rc, "--chat-template %s: %s", o->chat_template,
			       r->chat_why.text);
	if (rc == -ENOENT)
		err_set(&r->chat_why, rc, "the model file has no chat template");
	else if (rc)
		log_line(LOG_WARN, "template", "cause=\"%s\" then=\"a fixed form\"",
			 r->chat_why.text);
	return 0;
}

/* Sockets for HTTP that the service manager hands over are served without an option too. */
static int serve_handed(struct http_addresses *a, struct err *err)
{
	if (!handed_count(HANDED_HTTP))
		return 0;
	for (unsigned i = 0; i < a->n; i++)
		if (!strcmp(a->text[i], "systemd"))
			return 0;
	if (a->n == HTTP_ADDRESSES)
		return err_set(
			err, -E2BIG,
			"--http: at most %d addresses, and the service manager hands one over",
			HTTP_ADDRESSES);
	a->text[a->n++] = "systemd";
	return 0;
}

/* The socket handed over; else where clients look when nobody says: the same function tells them. */
static int choose_sockets(struct options *o, struct err *err)
{
	static char path[4096];
	struct sluice_fault fault;
	int rc;

	rc = serve_handed(&o->http.addresses, err);
	if (rc)
		return rc;
	if (!o->socket)
		o->socket = handed_native_path();
	if (o->socket)
		return 0;
	rc = sluice_socket_path(SLUICE_MAKE_DIRECTORY, path, sizeof(path), &fault);
	if (rc)
		return err_set(err, rc, "%s", fault.text);
	o->socket = path;
	return 0;
}

static void say_change(void *arg, const struct options_change *c)
{
	if (c->taken)
		log_line(LOG_NOTICE, "reloaded", "option=%s from=\"%s\" to=\"%s\"", c->name,
			 c->from, c->to);
	else
		log_line(LOG_WARN, "not reloaded",
			 "option=%s from=\"%s\" to=\"%s\" note=\"it takes a restart\"", c->name,
			 c->from, c->to);
}

/* SIGHUP, on the serve loop. */
static void reload(void *arg)
{
	struct rooms *r = arg;
	struct options *o = r->options;
	struct err err = { 0 };
	int rc = options_reload(o, r->argc, r->argv, say_change, NULL, &err);
	const char *then = "as before";

	if (!rc) {
		then = "the keys are as before";
		log_init((enum log_level)(LOG_ERROR + o->log_level));
		engine_set_itl_target(r->engine, (uint64_t)o->itl_target * 1000000);
		engine_set_device_budget(r->engine, o->device_budget);
		serve_set_limits(r->serve, o->request_tokens,
				 (uint64_t)o->request_time * 1000000000);
		rc = r->http ? http_reload(r->http, &o->http, &err) : 0;
	}
	if (rc)
		log_line(LOG_WARN, "reload failed", "cause=\"%s\" then=\"%s\"", err.text, then);
	else
		log_line(LOG_NOTICE, "configuration read again", "file=\"%s\"",
			 o->config ? o->config : "none");
}

static int build(const struct options *o, struct rooms *r, struct err *err)
{
	struct serve_config serve = { .socket_path = o->socket,
				      .model_path = o->model,
				      .request_tokens = o->request_tokens,
				      .request_ns = (uint64_t)o->request_time * 1000000000,
				      .signals = true,
				      .reload = reload,
				      .reload_arg = r };
	const struct cpu_ops *ops;
	int rc = cpu_ops_parse(o->cpu, &ops); /* options_parse() took it */

	if (rc)
		return err_set(err, rc, "--cpu %s: %s", o->cpu, strerror(-rc));
	rc = create_sampler(o, r, err);
	if (!rc)
		rc = model_open(o->model, &r->model, err);
	if (!rc && o->draft_model) {
		rc = model_open_head(o->draft_model, r->model, &r->draft, err);
		if (rc)
			return err_prefix(err, rc, "--draft-model");
	}
	if (!rc)
		rc = tokenizer_create(r->model->gguf, NULL, &r->tokenizer, err);
	if (!rc)
		rc = load_template(o, r, err);
	if (!rc)
		rc = create_engine(o, ops, r, err);
	if (rc)
		return rc;
	hello_say(o, r->model, r->tokenizer, r->engine);
	say_warm(r->engine);
	serve.model = r->model;
	serve.tokenizer = r->tokenizer;
	serve.chat = r->chat;
	serve.chat_why = r->chat_why.text;
	serve.chat_kwargs = r->chat_kwargs;
	serve.engine = r->engine;
	serve.sampler = r->sampler;
	rc = serve_create(&serve, &r->serve, err);
	if (!rc)
		rc = http_create(r->serve, &o->http, &r->http, err);
	if (!rc)
		rc = engine_start(r->engine, err);
	return rc;
}

/* The engine first: its end ends every request, which serve then reports to its clients. */
static void tear_down(struct rooms *r)
{
	engine_destroy(r->engine);
	http_destroy(r->http);
	serve_destroy(r->serve);
	chat_template_destroy(r->chat);
	json_object_put(r->chat_kwargs);
	tokenizer_destroy(r->tokenizer);
	model_destroy(r->draft);
	model_destroy(r->model);
	telemetry_sampler_destroy(r->sampler);
	free(r->snapshot);
}

/* What is asked for instead of running: printed. The exit status. */
static int tell(const struct options *o)
{
	if (o->help)
		options_help(stdout);
	else if (o->version)
		printf("sluiced %s\n", sluice_version);
	else if (o->dump_config)
		options_dump(stdout, o);
	else
		printf("%s: no fault found\n", o->config ? o->config : "the command line");
	if (!fflush(stdout) && !ferror(stdout))
		return 0;
	fprintf(stderr, "sluiced: cannot write to standard output: %s\n", strerror(errno));
	return 1;
}

/* A mistake in the options or the configuration, as any command says it; to the journal as a line. */
static int refuse(const char *why)
{
	log_init(LOG_INF);
	if (log_in_journal())
		log_line(LOG_ERROR, why, NULL);
	else
		fprintf(stderr, "sluiced: %s\nsluiced --help lists the options%s\n", why,
			strstr(why, "unknown option")
				? "; docs/from-llama-server.md has those of llama-server"
			: strstr(why, "unexpected argument")
				? "; a model is given with --model FILE"
				: "");
	return 2;
}

int main(int argc, char **argv)
{
	struct rooms rooms = { .argc = argc, .argv = argv };
	struct err err = { 0 };
	struct options o;
	int rc;

	signals_wait(true); /* first: a manager may send SIGHUP as soon as we are there */
	if (stdfd_open())   /* before anything is opened: nothing can be said where it fails */
		return 1;
	if (argc == 2 && !strcmp(argv[1], "--list-options")) { /* for completions and tests */
		signals_wait(false);
		opts_help_as_rows();
		options_help(stdout);
		return 0;
	}
	if (options_parse(argc, argv, &o, &err)) {
		options_free(&o);
		return refuse(err.text);
	}
	if (o.help || o.version || o.dump_config || o.check_config) {
		signals_wait(false);
		if (o.check_config && !o.help && !o.version && options_check_files(&o, &err)) {
			options_free(&o);
			return refuse(err.text);
		}
		rc = tell(&o);
		options_free(&o);
		return rc;
	}
	log_init((enum log_level)(LOG_ERROR + o.log_level));
	prepare_process();
	rooms.options = &o;
	rc = handed_open(&err); /* before other descriptors are opened */
	if (!rc)
		rc = choose_sockets(&o, &err);
	if (!rc)
		rc = cpus_keep_to(o.cpus, &err); /* before there are other threads */
	if (!rc)
		rc = build(&o, &rooms, &err);
	if (!rc)
		rc = serve_run(rooms.serve, &err);
	if (rc)
		log_line(LOG_ERROR, err.text, NULL);
	tear_down(&rooms);
	options_free(&o);
	if (!rc)
		log_line(LOG_NOTICE, "stopped", NULL);
	return rc ? 1 : 0;
}
