/* SPDX-License-Identifier: MIT */
/* daemon/serve/http_routes.c: the paths and who answers them (docs/http.md lists them). Constant. */
#include <stdio.h>
#include <string.h>

#include "serve/http_private.h"

#define GET(url, how)                                       \
	{                                                   \
		.method = "GET", .path = url, .answer = how \
	}
#define OPEN(url, how)                                                    \
	{                                                                 \
		.method = "GET", .path = url, .answer = how, .open = true \
	}
#define NAMED(url, how)                                                    \
	{                                                                  \
		.method = "GET", .path = url, .answer = how, .named = true \
	}
#define POST(url, how, words)                                             \
	{                                                                 \
		.method = "POST", .path = url, .work = how, .form = words \
	}
#define ANTHROPIC(url, how, words)                                         \
	{                                                                  \
		.method = "POST", .path = url, .work = how, .form = words, \
		.envelope = ENVELOPE_ANTHROPIC                             \
	}

static const struct http_route routes[] = {
	OPEN("/", page_answer),
	OPEN("/page.js", page_answer),
	OPEN("/page.css", page_answer),
	OPEN("/icon.svg", page_answer),
	OPEN("/health", info_health),
	OPEN("/v1/health", info_health),
	GET("/v1/models", info_models),
	GET("/models", info_models),
	NAMED("/v1/models/", info_one_model),
	NAMED("/models/", info_one_model),
	GET("/props", info_props),
	GET("/slots", info_slots),
	GET("/experts", info_experts),
	GET("/metrics", info_metrics),
	{ .method = "POST", .path = "/slots/", .work = slots_work, .bare = true },
	POST("/v1/chat/completions", chat_work, &chat_form),
	POST("/chat/completions", chat_work, &chat_form),
	POST("/v1/responses", responses_work, &responses_form),
	POST("/responses", responses_work, &responses_form),
	POST("/v1/chat/completions/input_tokens", count_chat_work, NULL),
	POST("/v1/responses/input_tokens", count_responses_work, NULL),
	ANTHROPIC("/v1/messages", messages_work, &messages_form),
	ANTHROPIC("/v1/messages/count_tokens", count_tokens_work, NULL),
	POST("/apply-template", apply_template_work, NULL),
	POST("/tokenize", tokenize_work, NULL),
	POST("/detokenize", detokenize_work, NULL),
	POST("/v1/completions", completion_work, &completion_form),
	POST("/completion", native_work, &native_form),
	POST("/completions", native_work, &native_form),
	POST("/infill", infill_work, &native_form),
	POST("/v1/embeddings", absent_work, NULL),
	POST("/embeddings", absent_work, NULL),
	POST("/embedding", absent_work, NULL),
	POST("/rerank", absent_work, NULL),
	POST("/v1/rerank", absent_work, NULL),
	POST("/reranking", absent_work, NULL),
	POST("/v1/reranking", absent_work, NULL),
};

static bool is_at(const struct http_route *route, const char *path)
{
	size_t n = strlen(route->path);

	if (route->named) /* names have slashes, too */
		return !strncmp(route->path, path, n) && path[n];
	return !strcmp(route->path, path);
}

const struct http_route *http_route_find(const char *method, const char *path,
					 const char **ret_allow)
{
	uint32_t slot;

	if (http_slots_path(path, &slot))
		path = "/slots/";
	else if (!strcmp(path, "/slots/"))
		return NULL;
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (!is_at(&routes[i], path))
			continue;
		if (!strcmp(routes[i].method, method))
			return &routes[i];
		*ret_allow = routes[i].method;
	}
	return NULL;
}

/* Paths of other servers for which there is nothing here. */
bool absent_work(struct http_call *c)
{
	if (strstr(c->route->path, "embed"))
		fault_set(&c->fault, 501,
			  "embeddings are not supported: Sluice generates text only");
	else
		fault_set(&c->fault, 501, "reranking is not supported: Sluice generates text only");
	return false;
}
