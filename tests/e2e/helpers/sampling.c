/* SPDX-License-Identifier: MIT */
/*
 * sampling SOCKET TEXT N [--logprobs N] [--bias ID X]... [--dry X TEXT...]: greedy answers through libsluice with
 * what `sluice generate` has no options for. Prints a line for each token: id, log-probability, and the
 * likeliest with theirs; an error's number alone where there is one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uapi/sluice.h"

static int print(void *arg, const struct sluice_piece *p)
{
	if (p->token == SLUICE_NO_TOKEN)
		return 0;
	printf("%u %.6f %zu", p->token, (double)p->logprob, p->bytes);
	for (uint32_t i = 0; i < p->n_likeliest; i++)
		printf(" %u:%.6f", p->likeliest[i].token, (double)p->likeliest[i].logprob);
	printf("\n");
	return 0;
}

int main(int argc, char **argv)
{
	static struct sluice_bias bias[2048];
	static char texts[4096];
	struct sluice_prompt prompt = { .struct_size = sizeof(prompt),
					.text = argv[2],
					.text_bytes = strlen(argv[2]) };
	struct sluice_settings how = { .struct_size = sizeof(how),
				       .max_tokens = (uint32_t)atoi(argv[3]),
				       .flags = SLUICE_IGNORE_EOG,
				       .bias = bias,
				       .dry_breakers = texts };
	struct sluice_fault fault;
	struct sluice *s;
	int rc;

	for (int i = 4; i < argc; i++) {
		if (!strcmp(argv[i], "--logprobs")) {
			how.n_logprobs = (uint32_t)atoi(argv[++i]) + 1;
		} else if (!strcmp(argv[i], "--bias")) {
			bias[how.n_bias].token = (uint32_t)strtoul(argv[i + 1], NULL, 10);
			bias[how.n_bias++].bias = strtof(argv[i + 2], NULL);
			i += 2;
		} else if (!strcmp(argv[i], "--dry")) {
			how.dry_multiplier = strtof(argv[++i], NULL);
		} else {
			strcpy(texts + how.dry_breakers_bytes, argv[i]);
			how.dry_breakers_bytes += strlen(argv[i]) + 1;
		}
	}
	rc = sluice_connect(argv[1], &s, &fault);
	if (!rc)
		rc = sluice_generate(s, &prompt, &how, print, NULL, NULL, &fault);
	if (rc)
		printf("%d %s\n", rc, fault.text);
	return 0;
}
