/* SPDX-License-Identifier: MIT */
/* tools/drafts.c: see drafts.h. */
#include "tools/drafts.h"

#include "base/num.h"

static const char *const names[] = {
	[SLUICE_DRAFT_GIVEN] = "given", [SLUICE_DRAFT_NGRAM] = "ngram", [SLUICE_DRAFT_MTP] = "mtp"
};

uint64_t drafts_drafted(const struct sluice_spec_counts *c)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < SLUICE_DRAFTS; i++)
		n += c->drafted[i];
	return n;
}

uint64_t drafts_accepted(const struct sluice_spec_counts *c)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < SLUICE_DRAFTS; i++)
		n += c->accepted[i];
	return n;
}

double drafts_gain(const struct sluice_spec_counts *c)
{
	return c->step_ns && c->plain_ns ? (double)c->plain_ns / (double)c->step_ns : 1;
}

void drafts_add(struct sluice_spec_counts *sum, const struct sluice_spec_counts *c)
{
	sum->steps += c->steps;
	sum->columns += c->columns;
	sum->tokens += c->tokens;
	sum->plain_ns += c->plain_ns;
	sum->step_ns += c->step_ns;
	for (unsigned i = 0; i < SLUICE_DRAFTS; i++) {
		sum->drafted[i] += c->drafted[i];
		sum->accepted[i] += c->accepted[i];
	}
}

static json_t *per_step(uint64_t n, const struct sluice_spec_counts *c)
{
	return c->steps ? json_real((double)n / (double)c->steps) : json_null();
}

json_t *drafts_json(const struct sluice_spec_counts *c)
{
	json_t *by = json_object();

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		json_object_set_new(by, names[i],
				    json_pack("{s:I, s:I}", "drafted", (json_int_t)c->drafted[i],
					      "accepted", (json_int_t)c->accepted[i]));
	return json_pack("{s:I, s:I, s:o, s:I, s:o, s:o, s:o}", "drafted",
			 (json_int_t)drafts_drafted(c), "accepted", (json_int_t)drafts_accepted(c),
			 "by", by, "steps", (json_int_t)c->steps, "columns_per_step",
			 per_step(c->columns, c), "tokens_per_step", per_step(c->tokens, c), "gain",
			 c->step_ns ? json_real(drafts_gain(c)) : json_null());
}
