/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_openai.c: what OpenAI's chat completions and completions word alike: the head of
 * an object, its usage, how a stream ends. Main thread.
 */
#include "serve/http_private.h"

void openai_open(struct http_request *r, const char *object)
{
	buf_text(&r->out, "{\"id\":");
	buf_json_text(&r->out, r->name);
	buf_fmt(&r->out, ",\"object\":\"%s\",\"created\":%lld,\"model\":", object,
		(long long)r->created);
	buf_json_text(&r->out, r->http->model);
	buf_text(&r->out, ",\"choices\":[");
}

/* A prompt counts once, however many answers it has. */
void openai_usage(struct http_request *r)
{
	uint64_t prompt = 0, answer = 0, cached = 0, thoughts = 0;

	for (unsigned i = 0; i < r->n_choices; i++) {
		answer += r->choices[i].n_tokens;
		thoughts += r->choices[i].n_reasoning;
		if (i % r->call->gen.n)
			continue;
		prompt += r->choices[i].n_prompt;
		cached += choice_cached(&r->choices[i]);
	}
	buf_fmt(&r->out,
		"\"usage\":{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,\"total_tokens\":%llu,"
		"\"prompt_tokens_details\":{\"cached_tokens\":%llu}",
		(unsigned long long)prompt, (unsigned long long)answer,
		(unsigned long long)(prompt + answer), (unsigned long long)cached);
	if (r->call->gen.chat)
		buf_fmt(&r->out, ",\"completion_tokens_details\":{\"reasoning_tokens\":%llu}",
			(unsigned long long)thoughts);
	buf_text(&r->out, "}");
}

void openai_close(struct http_request *r)
{
	buf_text(&r->out, "],");
	openai_usage(r);
	if (r->call->gen.chat)
		put_prompt_logprobs(r, &r->choices[0]);
	buf_text(&r->out, ",");
	put_timings(&r->out, &r->choices[0]);
	buf_text(&r->out, "}");
}

void openai_late(struct http_request *r, const struct fault *f)
{
	buf_text(&r->out, "data: ");
	http_fault_body(&r->out, f, r->route->envelope);
	buf_text(&r->out, "\n\ndata: [DONE]\n\n");
}
