/* SPDX-License-Identifier: MIT */
/* daemon/serve/hello.c: see hello.h. */
#include "serve/hello.h"

#include <string.h>
#include <sys/utsname.h>

#include "base/log.h"
#include "base/num.h"
#include "base/size.h"
#include "base/version.h"
#include "engine/memory.h"

static const char *tell_bytes(char *buf, size_t len, uint64_t bytes)
{
	return bytes == LIMITS_UNKNOWN ? "unknown" : size_format(buf, len, bytes);
}

/* What the file or an option asks for that the operator should know is not as usual. */
static void say_notes(const struct model *model, const struct tokenizer *tokenizer,
		      const struct engine_status *e)
{
	for (unsigned i = 0; tokenizer_note(tokenizer, i); i++)
		log_line(LOG_WARN, "tokenizer", "note=\"%s\"", tokenizer_note(tokenizer, i));
	if (model->head_note[0])
		log_line(LOG_WARN, "draft", "note=\"%s\"", model->head_note);
	if (e->n_ctx > model->n_ctx_train)
		log_line(LOG_WARN, "context",
			 "ctx=%u trained=%u note=\"" MEMORY_BEYOND_TRAINING "\"", e->n_ctx,
			 model->n_ctx_train);
}

/* Options of experts that were given for a model without any. */
static void say_unused(const struct options *o, const struct model *model)
{
	const struct {
		bool given;
		const char *name;
	} all[] = {
		{ o->host_budget.bytes || o->host_budget.percent, "--host-budget" },
		{ strcmp(o->policy, "lfu") != 0, "--policy" },
		{ o->no_fill, "--no-fill" },
		{ o->fill_rate != 0, "--fill-rate" },
		{ o->predict.mode != PREDICT_AUTO, "--predict" },
	};

	for (size_t i = 0; i < ARRAY_LEN(all) && !model->n_expert; i++)
		if (all[i].given)
			log_line(LOG_WARN, "option",
				 "option=%s note=\"the model has no experts: it has no effect\"",
				 all[i].name);
}

void hello_say(const struct options *o, const struct model *model,
	       const struct tokenizer *tokenizer, const struct engine *engine)
{
	struct engine_status e;
	struct utsname system;
	char budget[32], experts[32], dense[32], limit[32], room[32];

	if (uname(&system))
		system.release[0] = '\0';
	engine_get_status(engine, &e);
	size_format(budget, sizeof(budget), e.budget_bytes);
	size_format(experts, sizeof(experts), model->expert_bytes_total);
	size_format(dense, sizeof(dense), model->dense_bytes);
	log_line(LOG_NOTICE, "sluiced", "version=%s kernel=%s cpu=%s threads=%u", sluice_version,
		 system.release, e.cpu, e.threads);
	if (o->config)
		log_line(LOG_NOTICE, "configuration", "file=\"%s\"", o->config);
	log_line(LOG_NOTICE, "model", "file=\"%s\" arch=%s name=\"%s\" layers=%u experts=%llu",
		 o->model, model->arch_name, model->name, model->n_layers,
		 (unsigned long long)e.experts_total);
	log_line(LOG_NOTICE, "limits",
		 "memory=\"%s\" free=\"%s\" memory_from=\"%s\" cpus=%u cpus_from=\"%s\"",
		 tell_bytes(limit, sizeof(limit), e.memory_limit_bytes),
		 tell_bytes(room, sizeof(room), e.memory_room_bytes), e.memory_from, e.cpus,
		 e.cpus_from);
	log_line(LOG_NOTICE, "memory",
		 "budget=\"%s\" all_experts=\"%s\" dense=\"%s\" arena=%s ctx=%u parallel=%u kv=%s",
		 budget, experts, dense, e.arena, e.n_ctx, e.n_parallel, e.kv);
	log_line(LOG_NOTICE, "disk", "io=%s policy=%s", e.io, e.policy);
	if (e.device_note)
		log_line(LOG_NOTICE, "device", "use=none cause=\"%s\"", e.device_note);
	say_notes(model, tokenizer, &e);
	say_unused(o, model);
	for (unsigned i = 0; i < ENGINE_FALLBACKS && e.fallbacks[i]; i++)
		log_line(LOG_NOTICE, "fallback", "cause=\"%s\"", e.fallbacks[i]);
}
