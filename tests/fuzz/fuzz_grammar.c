/* SPDX-License-Identifier: MIT */
/*
 * tests/fuzz/fuzz_grammar.c: daemon/grammar on any schema, GBNF grammar and regular expression.
 *
 * Input: a byte for the kind, then the grammar up to a NUL byte, then a text. What compiles is walked with
 * the text: each mask must agree with the bytes that the matcher then takes. tests/fuzz/seeds/grammar are
 * written by grammar_seeds.py.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "grammar/grammar.h"
#include "grammar/matcher.h"
#include "grammar/program.h"
#include "grammar/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WALK 64 /* bytes of the text */

static void get(void *arg, uint32_t id, struct vocab_token *ret)
{
	static const char *const more[] = { "\": ",
					    "\", \"",
					    "true",
					    "null",
					    "the",
					    "é",
					    "日本",
					    "0123456789012345678901234567890123456789",
					    "                                      " };
	static uint8_t bytes[256];

	if (id < 256) {
		bytes[id] = (uint8_t)id;
		*ret = (struct vocab_token){ &bytes[id], 1, false, false };
		return;
	}
	ret->bytes = (const uint8_t *)more[id - 256];
	ret->n = strlen(more[id - 256]);
}

static int compile(unsigned kind, const char *text, size_t n, struct program **ret)
{
	const struct schema_options o = { .strict = kind & 4 };
	struct json_tokener *t;
	struct json_object *schema;
	struct err err = { 0 };
	int rc = -1;

	switch (kind & 3) {
	case 0:
		rc = grammar_gbnf(text, n, ret, &err);
		break;
	case 1:
		rc = grammar_regex(text, n, ret, &err);
		break;
	default:
		t = json_tokener_new_ex(600);
		schema = json_tokener_parse_ex(t, text, (int)n);
		if (json_tokener_get_error(t) == json_tokener_success)
			rc = grammar_schema(schema, &o, ret, &err);
		else
			err.text[0] = 'x';
		json_tokener_free(t);
		json_object_put(schema);
	}
	assert(!rc || err.text[0]);
	return rc;
}

static void walk(struct matcher *m, const uint8_t *text, size_t n)
{
	const uint64_t *bits;

	for (size_t i = 0; i < n && i < WALK; i++) {
		bool allowed;
		long taken;

		if (matcher_mask(m, &bits))
			return;
		allowed = text[i] != VOCAB_CONTROL && (bits[text[i] / 64] >> text[i] % 64 & 1);
		taken = matcher_bytes(m, text + i, 1);
		if (taken < 0)
			return;
		assert(text[i] == VOCAB_CONTROL || allowed == (taken == 1));
		if (!taken)
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vocab *v;
	struct program *p = NULL;
	struct matcher *m;
	const uint8_t *end;
	char *text;
	size_t n;

	if (!v && vocab_create(265, get, NULL, NULL, &v))
		abort();
	if (size < 2)
		return 0;
	end = memchr(data + 1, 0, size - 1);
	n = end ? (size_t)(end - data) - 1 : size - 1;
	text = malloc(n + 1); /* so that a byte read behind it is seen */
	memcpy(text, data + 1, n);
	text[n] = '\0';
	if (!compile(data[0], text, n, &p) && !matcher_create(p, v, &m)) {
		if (end)
			walk(m, end + 1, size - n - 2);
		matcher_destroy(m);
	}
	program_destroy(p);
	free(text);
	return 0;
}
