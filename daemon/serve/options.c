/* SPDX-License-Identifier: MIT */
/* daemon/serve/options.c: see options.h. */
#include "serve/options.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cpus.h"
#include "base/num.h"
#include "base/opts.h"
#include "base/size.h"
#include "device/device.h"
#include "engine/engine.h"
#include "engine/memory.h"
#include "engine/numa.h"
#include "kernels/cpu/cpu.h"
#include "policy/policy.h"
#include "serve/http_address.h"

#define AT(field) offsetof(struct options, field)

static int parse_budget(const char *text, void *field, struct err *err)
{
	struct budget_option *b = field;

	return size_parse_share(text, &b->bytes, &b->percent, err);
}

static int parse_numa(const char *text, void *field, struct err *err)
{
	return nodes_parse(text, field, err);
}

static int parse_http(const char *text, void *field, struct err *err)
{
	struct http_addresses *a = field;

	if (a->n == HTTP_ADDRESSES)
		return err_set(err, -EINVAL, "at most %d addresses", HTTP_ADDRESSES);
	a->text[a->n++] = text;
	return http_address_parse(text, NULL, err);
}

static int parse_policy(const char *text, void *field, struct err *err)
{
	const struct policy_ops *ops;
	const char *argument;
	int rc = policy_find(text, &ops, &argument, err);

	if (!rc)
		*(const char **)field = text;
	return rc;
}

static int parse_cpu(const char *text, void *field, struct err *err)
{
	const struct cpu_ops *ops;
	int rc = cpu_ops_parse(text, &ops);

	if (rc)
		return err_set(err, rc, "%s is %s", text,
			       rc == -ENOTSUP ? "nothing that this processor can run"
					      : "not one of auto|scalar|avx2|avx512");
	*(const char **)field = text;
	return 0;
}

static int parse_device(const char *text, void *field, struct err *err)
{
	int rc = device_check_name(text, err);

	if (!rc)
		*(const char **)field = text;
	return rc;
}

static int parse_cpus(const char *text, void *field, struct err *err)
{
	cpu_set_t set;
	int rc = cpus_parse(text, &set, err);

	if (!rc)
		*(const char **)field = text;
	return rc;
}

/* "off" or 0: none; a size; "auto". */
static int parse_prefix(const char *text, void *field, struct err *err)
{
	return prefix_cache_parse(text, field, err);
}

static int parse_predict(const char *text, void *field, struct err *err)
{
	int rc = predict_parse(text, field, err);
	const struct predict_choice *c = field;

	if (!rc && c->mode == PREDICT_ORACLE && !c->path)
		return err_set(err, -EINVAL, "an oracle needs a trace: oracle:R:FILE");
	return rc;
}

static const struct opt table[] = {
	{ "--model", "-m", OPT_TEXT, AT(model), "FILE",
	  .help = "The GGUF file to serve; of a split model its first part." },
	{ "--socket", "-s", OPT_TEXT, AT(socket), "PATH",
	  .help = "Where to listen: a Unix socket, made with mode 0660. Default: SLUICE_SOCKET; else "
		  "as root /run/sluiced/sluice.sock, else $XDG_RUNTIME_DIR/sluice.sock or "
		  "/tmp/sluice-UID/sluice.sock." },
	{ "--host-budget", NULL, OPT_CUSTOM, AT(host_budget), "SIZE|PERCENT%",
	  .parse = parse_budget,
	  .help = "Memory for experts, their padding included: 12G, 512MiB, or a percentage of all "
		  "experts. Default: what this process may still take of memory, less the rest." },
	{ "--threads", "-t", OPT_U32, AT(threads), "N", 0, 1024, .def = "0",
	  .help = "Compute threads; 0: one per core that may be used, within the CPU quota." },
	{ "--cpus", NULL, OPT_CUSTOM, AT(cpus), "all|LIST", .parse = parse_cpus, .def = "all",
	  .help = "CPUs that the daemon keeps to, of those that its affinity allows, such as 0-3,8. "
		  "Daemons beside each other want lists of their own: each takes the lowest cores." },
	{ "--ctx", "-c", OPT_U32, AT(ctx), "N", 0, 16777216, .def = "0",
	  .help = "Context of each sequence in tokens; 0: the model's, at most 16384, less where "
		  "memory is short." },
	{ "--parallel", NULL, OPT_U32, AT(parallel), "N", 0, 256, .def = "0",
	  .help = "Sequences decoded together; 0: 4, less where memory is short." },
	{ "--batch", NULL, OPT_U32, AT(batch), "N", 0, 65536, .def = "0",
	  .help = "Most tokens in one step while prompts are read in; 0: 512, with a GPU "
		  "2048, but no more than the context." },
	{ "--kv-type", NULL, OPT_CHOICE, AT(kv_type), "TYPE", .choices = "f16|q8_0", .def = "f16",
	  .help = "Precision of the KV cache." },
	{ "--kv-budget", NULL, OPT_SIZE, AT(kv_budget), "SIZE", 0, 0, .def = "0",
	  .help = "Memory for keys and values of all sequences; those that came last wait, and are "
		  "read again, where it is short. 0: every sequence may be full." },
	{ "--prefix-cache", NULL, OPT_CUSTOM, AT(prefix_cache), "SIZE|auto|off",
	  .parse = parse_prefix, .def = "auto",
	  .help = "Memory for what earlier requests have read, beside what sequences leave free: a "
		  "prompt that begins alike goes on from there. auto: some states, where the model "
		  "has such." },
	{ "--prefix-cache-shared", NULL, OPT_FLAG, AT(prefix_share),
	  .help = "Users share what was read; otherwise each has its own." },
	{ "--slot-save-path", NULL, OPT_TEXT, AT(save_path), "DIR",
	  .help = "A directory for sequences that clients save and restore: sluice slots, HTTP." },
	{ "--itl-target", NULL, OPT_U32, AT(itl_target), "MS", 0, 600000, .def = "0",
	  .reload = true,
	  .help = "How long steps take in the mean that read prompts while others decode; 0: twice what "
		  "a step takes that only decodes." },
	{ "--request-tokens", NULL, OPT_U32, AT(request_tokens), "N", 0, 16777216, .def = "0",
	  .reload = true,
	  .help = "Most tokens that one request may generate; 0: what the context holds." },
	{ "--request-time", NULL, OPT_U32, AT(request_time), "SECONDS", 0, 31536000, .def = "0",
	  .reload = true,
	  .help = "Most time that one request may take, waiting included; 0: no bound." },
	{ "--chat-template", NULL, OPT_TEXT, AT(chat_template), "FILE",
	  .help = "A text file whose Jinja template is used for chats instead of the model's own." },
	{ "--chat-template-kwargs", NULL, OPT_TEXT, AT(chat_template_kwargs), "JSON",
	  .help = "Variables of the chat template, an object: '{\"enable_thinking\": false}'. What a "
		  "request sets goes before." },
	{ "--io", NULL, OPT_CHOICE, AT(io), "KIND", .choices = "auto|uring|pread", .def = "auto",
	  .help = "How the disk is read. A kind that is named and cannot be had is an error." },
	{ "--io-depth", NULL, OPT_U32, AT(io_depth), "N", 0, 4096, .def = "0",
	  .help = "Reads in flight; 0: 32." },
	{ "--io-request", NULL, OPT_SIZE, AT(io_request), "SIZE", 0, 268435456, .def = "0",
	  .help = "Bytes of one read; 0: 1 MiB." },
	{ "--cpu", NULL, OPT_CUSTOM, AT(cpu), "auto|scalar|avx2|avx512", .parse = parse_cpu,
	  .def = "auto", .help = "Instruction set. One that is named and not there is an error." },
	{ "--numa", NULL, OPT_CUSTOM, AT(numa), "auto|off|split:N", .parse = parse_numa,
	  .def = "auto",
	  .help = "On several NUMA nodes: each expert's rows to all nodes and read by their own "
		  "threads, or pages interleaved. split:N cuts rows without nodes (experiments)." },
	{ "--device", NULL, OPT_CUSTOM, AT(device), "auto|none|cuda[:N]|emu:vram=SIZE,link=SIZE",
	  .parse = parse_device, .def = "auto",
	  .help = "A GPU that computes all but the experts that its memory does not hold, in a build with "
		  "CUDA kernels; or memory of this machine in its place, for studies: so much, filled "
		  "at so many bytes per second. One that is named and cannot be had is an error; auto: "
		  "cuda where there is one that can compute the model, else none." },
	{ "--device-budget", NULL, OPT_SIZE, AT(device_budget), "SIZE", 0, 0, .def = "0",
	  .reload = true,
	  .help = "Memory to take of the device; 0: what is free of it. What dense weights, KV cache "
		  "and buffers leave are slots for experts." },
	{ "--device-policy", NULL, OPT_TEXT, AT(device_policy), "vram|hit|cpu|fetch|POLICY",
	  .def = "vram",
	  .help = "Which experts lie in the device's slots. hit: they are filled once; cpu: none; "
		  "fetch: what was used last, whatever it costs; a POLICY of --policy." },
	{ "--device-fill-rate", NULL, OPT_SIZE, AT(device_fill_rate), "SIZE", 0, 0, .def = "0",
	  .help = "Most bytes per second that fills of the device's slots take; 0: no bound but half an "
		  "expert a layer for a token." },
	{ "--peaks", NULL, OPT_TEXT, AT(peaks), "FILE",
	  .help = "The nodes' read rates as sluice doctor measured them here: its JSON output." },
	{ "--policy", NULL, OPT_CUSTOM, AT(policy),
	  "lfu|lru|lfu-plain|static:FILE|vram|random|belady:FILE", .parse = parse_policy,
	  .def = "lfu",
	  .help = "Which experts stay in memory; those behind static are for studies." },
	{ "--no-fill", NULL, OPT_FLAG, AT(no_fill),
	  .help = "Do not bring experts in before they are asked for." },
	{ "--fill-rate", NULL, OPT_SIZE, AT(fill_rate), "SIZE", 0, 0, .excludes = "--no-fill",
	  .help = "Most bytes per second that this background filling reads; 0: no bound." },
	{ "--warm-restart", NULL, OPT_CHOICE, AT(warm_restart), "MODE", .choices = "auto|off|on",
	  .def = "auto",
	  .help = "Experts and dense weights in memory that the service manager keeps over a restart. "
		  "auto: where it offers to (FDSTORE in the environment) and that memory is as fast." },
	{ "--predict", NULL, OPT_CUSTOM, AT(predict), "auto|off|router|oracle:R:FILE",
	  .parse = parse_predict, .def = "auto",
	  .help = "Read experts that the next layer is likely to use before it asks for them, behind "
		  "all that is asked for; auto: while that is faster. oracle: of those that the same "
		  "requests use by a recorded trace the share R (studies)." },
	{ "--spec", NULL, OPT_CHOICE, AT(spec), "KIND", .choices = "auto|off|ngram|mtp",
	  .def = "auto",
	  .help = "What drafts tokens that are then checked several in one step; no answer depends "
		  "on it. auto: all that the model has, as far as it pays." },
	{ "--draft-model", NULL, OPT_TEXT, AT(draft_model), "FILE",
	  .help = "A prediction head of the model in a file of its own (mtp-*.gguf), in the place of "
		  "one that the model's file has." },
	{ "--trace", NULL, OPT_TEXT, AT(trace), "FILE",
	  .help = "Record which experts each token uses (docs/trace.md) in a new file." },
	{ "--overwrite", NULL, OPT_FLAG, AT(overwrite), .needs = "--trace",
	  .help = "Replace the file of --trace where there is one already." },
	{ "--log-level", NULL, OPT_CHOICE, AT(log_level), "LEVEL",
	  .choices = "error|warn|notice|info|debug", .def = "info", .reload = true,
	  .help = "Least urgent lines to log." },
	{ "--http", NULL, OPT_CUSTOM, AT(http.addresses), "HOST:PORT|unix:PATH|systemd",
	  .parse = parse_http, .repeat = true,
	  .help = "Serve HTTP there too (docs/http.md): OpenAI's API and others. May be given several "
		  "times. systemd: the sockets that the service manager hands over." },
	{ "--api-key-file", NULL, OPT_TEXT, AT(http.api_key_file), "FILE", .needs = "--http",
	  .help = "Keys that HTTP clients must have, one a line." },
	{ "--no-auth", NULL, OPT_FLAG, AT(http.no_auth), .needs = "--http",
	  .excludes = "--api-key-file",
	  .help = "Allow --http on addresses that other machines reach, without keys." },
	{ "--api-prefix", NULL, OPT_TEXT, AT(http.api_prefix), "/PATH", .needs = "--http",
	  .help = "A path before all of HTTP's, behind a reverse proxy." },
	{ "--alias", NULL, OPT_TEXT, AT(http.alias), "NAME", .needs = "--http",
	  .help = "The model's name for HTTP clients. Default: the file's." },
	{ "--cors-origin", NULL, OPT_TEXT, AT(http.cors_origins), "LIST", .needs = "--http",
	  .help = "Origins of web pages that may ask, with commas: https://chat.example.org; *: all." },
	{ "--allow-host", NULL, OPT_TEXT, AT(http.allowed_hosts), "LIST", .needs = "--http",
	  .help = "Names, with commas, by which HTTP clients may call this machine, beside localhost "
		  "and addresses in digits." },
	{ "--reasoning-field", NULL, OPT_CHOICE, AT(http.reasoning_field), "NAME",
	  .choices = "reasoning_content|reasoning|both", .def = "reasoning_content",
	  .help = "Where chat completions put a model's reasoning." },
	{ "--strip-images", NULL, OPT_FLAG, AT(http.strip_images), .needs = "--http",
	  .help = "Put a note in the place of images, audio and files instead of refusing them." },
	{ "--queue", NULL, OPT_U32, AT(http.queue), "N", 0, 100000, .def = "64", .reload = true,
	  .help = "HTTP requests that may wait for a sequence; more are refused with status 429." },
	{ "--sse-ping", NULL, OPT_U32, AT(http.sse_ping_s), "SECONDS", 0, 3600, .def = "5",
	  .reload = true,
	  .help = "A comment in streams in which nothing was said for so long; 0: none." },
	{ "--drain", NULL, OPT_U32, AT(http.drain_s), "SECONDS", 0, 3600, .def = "5",
	  .reload = true, .help = "How long HTTP requests may go on at SIGTERM." },
	{ "--config", NULL, OPT_TEXT, AT(config), "FILE", .only_argument = true,
	  .help = "Read options from FILE (sluiced.conf(5)) and conf.d/*.conf beside it; those of the "
		  "command line go before. Default: /etc/sluice/sluiced.conf where there is one and "
		  "--model is not given." },
	{ "--check-config", NULL, OPT_FLAG, AT(check_config), .only_argument = true,
	  .help = "Read the configuration and the command line, say what is wrong, and exit." },
	{ "--dump-config", NULL, OPT_FLAG, AT(dump_config), .only_argument = true,
	  .help = "Write all options with their help, defaults and values as a configuration file, and "
		  "exit." },
	{ "--help", "-h", OPT_FLAG, AT(help), .only_argument = true, .help = "This text." },
	{ "--version", NULL, OPT_FLAG, AT(version), .only_argument = true, .help = "The version." },
};

/* What the table cannot say. */
static int check(const struct options *o, struct err *err)
{
	int rc = opts_check(table, ARRAY_LEN(table), o->said, err);

	if (rc)
		return rc;
	if (!o->model && !o->dump_config)
		return err_set(err, -EINVAL, "--model FILE is missing");
	if (o->socket && *o->socket && !o->socket[strspn(o->socket, "0123456789")])
		return err_set(err, -EINVAL,
			       "--socket %s: a path is wanted (-s is the socket; the seed is a "
			       "field of requests; a socket of that name is ./%s)",
			       o->socket, o->socket);
	if (o->http.api_prefix && (o->http.api_prefix[0] != '/' ||
				   o->http.api_prefix[strlen(o->http.api_prefix) - 1] == '/'))
		return err_set(err, -EINVAL, "--api-prefix begins with / and does not end with it");
	if (o->io_request % 4096)
		return err_set(err, -EINVAL, "--io-request must be a multiple of 4096");
	return 0;
}

int options_parse(int argc, char **argv, struct options *ret, struct err *err)
{
	const struct opts_setting *list;
	size_t n;
	int rc;

	memset(ret, 0, sizeof(*ret));
	rc = opts_arguments(table, ARRAY_LEN(table), argc, argv, ret, ret->said, NULL, err);
	if (rc)
		options_other(argc, argv, err);
	if (rc || ret->help || ret->version)
		return rc;
	if (!ret->config && !ret->model && !access(SETTINGS_FILE, F_OK))
		ret->config = SETTINGS_FILE;
	if (ret->config) {
		rc = settings_read(ret->config, &ret->settings, err);
		if (rc)
			return rc;
		list = settings_list(ret->settings, &n);
		rc = opts_settings(table, ARRAY_LEN(table), list, n, ret, ret->said, err);
	}
	return rc ? rc : check(ret, err);
}

void options_free(struct options *o)
{
	settings_free(o->settings);
	o->settings = NULL;
	for (size_t i = 0; i < OPTS_MAX; i++) {
		free(o->reloaded[i]);
		o->reloaded[i] = NULL;
	}
}

/* ---- reload ---- */

/* Numbers alone are marked: texts would point into a file that is gone. */
static void take_reloadable(struct options *o, const struct options *now)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (!table[i].reload)
			continue;
		assert(table[i].type == OPT_U32 || table[i].type == OPT_CHOICE ||
		       table[i].type == OPT_SIZE);
		memcpy((char *)o + table[i].offset, (const char *)now + table[i].offset,
		       table[i].type == OPT_SIZE ? sizeof(uint64_t) : sizeof(uint32_t));
	}
}

/* What the next reload compares with: the text of a value, which outlives the file's. */
static void keep_text(struct options *o, size_t i, const struct options *now)
{
	char *text = now->said[i].n ? strdup(now->said[i].value[0]) : NULL;

	free(o->reloaded[i]);
	o->reloaded[i] = text;
	o->said[i] =
		(struct opts_said){ .by = now->said[i].by, .value = { text }, .n = text != NULL };
}

int options_reload(struct options *o, int argc, char **argv,
		   void (*tell)(void *arg, const struct options_change *c), void *arg,
		   struct err *err)
{
	struct options *now = malloc(sizeof(*now));
	char from[512], to[512];
	int rc;

	if (!now)
		return err_set(err, -ENOMEM, "no memory for the options");
	rc = options_parse(argc, argv, now, err);
	for (size_t i = 0; !rc && i < ARRAY_LEN(table); i++) {
		struct options_change c = { .name = table[i].name,
					    .from = opts_said_text(&o->said[i], from, sizeof(from)),
					    .to = opts_said_text(&now->said[i], to, sizeof(to)),
					    .taken = table[i].reload };

		if (strcmp(c.from, c.to) != 0 && !table[i].only_argument)
			tell(arg, &c);
	}
	for (size_t i = 0; !rc && i < ARRAY_LEN(table); i++)
		if (table[i].reload)
			keep_text(o, i, now);
	if (!rc)
		take_reloadable(o, now);
	options_free(now);
	free(now);
	return rc;
}

void options_dump(FILE *out, const struct options *o)
{
	fprintf(out,
		"# Options of sluiced: sluiced.conf(5). sluiced --check-config reads this file and says "
		"what is wrong.\n"
		"# Sizes take K, M, G, T or KiB, MiB, GiB, TiB: powers of 1024.\n");
	opts_dump(out, table, ARRAY_LEN(table), o->said);
}

void options_help(FILE *out)
{
	fprintf(out, "usage: sluiced --model FILE [options]\n\n"
		     "Opens a mixture-of-experts model, keeps as many experts in memory as it may, "
		     "reads the\nothers from disk as they are needed, and serves clients on a Unix "
		     "socket.\n\n");
	opts_help(out, table, ARRAY_LEN(table));
	fprintf(out, "\nSizes take K, M, G, T or KiB, MiB, GiB, TiB: powers of 1024.\n"
		     "SIGTERM or SIGINT stops it. Try: sluice generate --chat 'Hello'\n");
}
