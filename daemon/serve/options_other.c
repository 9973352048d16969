/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/options_other.c: options of llama-server that sluiced does not have, and what stands for them here; for
 * the sentence of whoever starts one with the other's command line. docs/from-llama-server.md has the same with
 * reasons, and tests/e2e/test_from_llama_server.py holds the two together. Any thread.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "serve/options.h"

static const struct {
	const char *names, *here;
} theirs[] = {
	{ "-a", "it is --alias NAME" },
	{ "--host|--port", "it is --http HOST:PORT" },
	{ "-ngl|--gpu-layers|--n-gpu-layers|-cmoe|--cpu-moe|-ncmoe|--n-cpu-moe|-ot|"
	  "--override-tensor|-sm|--split-mode|-ts|--tensor-split|-mg|--main-gpu",
	  "experts are placed one by one, by use: --host-budget SIZE says how much memory they may "
	  "take" },
	{ "--ctx-size", "it is --ctx N, of each sequence" },
	{ "-np", "it is --parallel N" },
	{ "-b|--batch-size|-ub|--ubatch-size", "it is --batch N" },
	{ "-tb|--threads-batch", "--threads N is for prompts too" },
	{ "-C|--cpu-mask|-Cr|--cpu-range", "it is --cpus LIST" },
	{ "--jinja|--no-jinja", "the model's template is always run" },
	{ "--chat-template-file", "it is --chat-template FILE" },
	{ "-rea|--reasoning|--reasoning-budget",
	  "it is --chat-template-kwargs '{\"enable_thinking\": false}', or a field of requests" },
	{ "--reasoning-effort|--reasoning-preserve",
	  "it is a field of requests (reasoning_effort, preserve_thinking)" },
	{ "--reasoning-format", "reasoning is always taken out of content" },
	{ "--temp|--temperature|--top-k|--top-p|--min-p|--seed|--repeat-penalty|--repeat-last-n|"
	  "--presence-penalty|--frequency-penalty|-l|--logit-bias|--typical|--typical-p|"
	  "--top-nsigma|--top-n-sigma|--xtc-probability|--xtc-threshold|--dry-multiplier|"
	  "--dry-base|--dry-allowed-length|--dry-penalty-last-n|--dry-sequence-breaker|-n|"
	  "--predict-tokens|--n-predict|--ignore-eos",
	  "it is a field of requests" },
	{ "--samplers|--sampler-seq|--sampling-seq|--mirostat|--mirostat-lr|--mirostat-ent|"
	  "--dynatemp-range|--dynatemp-exp|--adaptive-target|--adaptive-decay",
	  "there is nothing for it" },
	{ "-ctk|--cache-type-k|-ctv|--cache-type-v", "it is --kv-type f16|q8_0, for both" },
	{ "-fa|--flash-attn", "there is one attention" },
	{ "--metrics|--slots|--no-slots|--props", "it is always on" },
	{ "--api-key", "it is --api-key-file FILE: others can read a command line" },
	{ "--ssl-key-file|--ssl-cert-file", "a reverse proxy does that" },
	{ "-to|--timeout", "limits are fixed" },
	{ "-cram|--cache-ram", "it is --prefix-cache SIZE" },
	{ "--cache-reuse|--swa-full|-sps|--slot-prompt-similarity",
	  "prefixes are found by themselves" },
	{ "--context-shift|--no-context-shift", "nothing is ever shifted" },
	{ "--mmap|--no-mmap|--mlock", "weights stay where they are put, beside the page cache" },
	{ "--warmup|--no-warmup|-fit|--fit|-fitc|--fit-ctx",
	  "memory is planned at the start: sluice plan shows how" },
	{ "-md|--model-draft|--draft|--draft-n|--draft-max|--spec-type|--spec-draft-n-max",
	  "it is --spec KIND, --draft-model FILE" },
	{ "--grammar|--grammar-file|-j|--json-schema",
	  "it is a field of requests (grammar, json_schema, response_format)" },
	{ "--lora|--lora-scaled|--control-vector|-mm|--mmproj|--embedding|--embeddings|--rerank|"
	  "--reranking|--tools|--agent|--mcp-servers-config|--sleep-idle-seconds",
	  "there is nothing for it" },
	{ "--models-dir|--models-preset|--models-max", "a daemon has one model" },
	{ "--cors-origins", "it is --cors-origin LIST" },
	{ "--sse-ping-interval", "it is --sse-ping SECONDS" },
	{ "--webui|--no-webui", "the page at / is always there" },
	{ "-v|--verbose|-lv|--verbosity|--log-verbosity", "it is --log-level LEVEL" },
	{ "-hf|-hfr|--hf-repo", "hf download gets the file" },
};

void options_other(int argc, char **argv, struct err *err)
{
	char word[64];

	for (int i = 1; i < argc; i++) {
		snprintf(word, sizeof(word), "%.*s", (int)strcspn(argv[i], "="), argv[i]);
		for (size_t k = 0; word[0] == '-' && k < ARRAY_LEN(theirs); k++)
			if (opts_choice(theirs[k].names, word) >= 0) {
				err_clear(err);
				err_set(err, -EINVAL, "unknown option %s; here %s", word,
					theirs[k].here);
				return;
			}
	}
}
