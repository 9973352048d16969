/* SPDX-License-Identifier: MIT */
/*
 * tests/fuzz/fuzz_calls.c: daemon/chat/calls*.c on any text.
 *
 * Input: a byte for the form and flags, a byte for the size of pieces, then the text. Fed whole and
 * in pieces it must give the same, arguments must be JSON objects, and where there are no tools and
 * no reasoning everything comes out again. tests/fuzz/seeds/calls are written by calls_seeds.py.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "chat/calls.h"
#include "chat/calls_json.h"

#define FLAG_THINK 0x80
#define FLAG_TOOLS 0x40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct all { /* deltas as bytes; pieces of a kind joined */
	char *p;
	size_t n, text;
	int last;
};

static void put(struct all *a, const void *p, size_t n)
{
	a->p = realloc(a->p, a->n + n + 1);
	if (n)
		memcpy(a->p + a->n, p, n);
	a->n += n;
}

static void take(struct all *a, const struct calls_delta *d)
{
	char kind = (char)('0' + d->kind);

	if (a->last != (int)d->kind)
		put(a, &kind, 1);
	a->last = (int)d->kind;
	if (d->kind == CALLS_BEGIN) {
		assert(d->name[d->name_n] == '\0');
		put(a, d->id, strlen(d->id));
		put(a, d->name, d->name_n);
	} else if (d->kind != CALLS_END) {
		put(a, d->text, d->n);
		a->text += d->n;
	}
	if (d->kind == CALLS_ARGUMENTS)
		assert(json_kind_of(d->text, d->n) == JSON_OBJECT);
}

static struct all parse(const struct calls_options *o, const char *text, size_t n, size_t step)
{
	struct all a = { .last = -1 };
	const struct calls_delta *d;
	struct calls *c;
	size_t n_d;

	if (calls_create(o, &c, NULL))
		abort();
	for (size_t at = 0, len; at < n; at += len) {
		len = n - at < step ? n - at : step;
		if (calls_feed(c, text + at, len, &d, &n_d))
			abort();
		for (size_t i = 0; i < n_d; i++)
			take(&a, &d[i]);
	}
	if (calls_finish(c, &d, &n_d))
		abort();
	for (size_t i = 0; i < n_d; i++)
		take(&a, &d[i]);
	calls_destroy(c);
	return a;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct json_object *tools;
	struct calls_options o = { .id_seed = 1 };
	const char *text = (const char *)data + 2;
	struct all whole, cut;

	if (size < 2)
		return 0;
	if (!tools)
		tools = json_tokener_parse(
			"[{\"function\": {\"name\": \"f\", \"parameters\": {\"properties\": {"
			"\"a\": {\"type\": \"string\"}, \"b\": {\"type\": \"integer\"}, "
			"\"c\": {\"$ref\": \"#/properties/b\"}, "
			"\"d\": {\"enum\": [true, null, 1.5]}}}}}]");
	o.format = (enum calls_format)((data[0] & 0x3f) % CALLS_FORMATS);
	o.tools = data[0] & FLAG_TOOLS ? tools : NULL;
	o.thinking_start = data[0] & FLAG_THINK;
	size -= 2;
	whole = parse(&o, text, size, size ? size : 1);
	cut = parse(&o, text, size, 1 + data[1] % 16);
	assert(whole.n == cut.n && (!whole.n || !memcmp(whole.p, cut.p, whole.n)));
	if (!o.tools && !o.thinking_start && o.format != CALLS_HARMONY &&
	    !memmem(text, size, "<think>", 7))
		assert(whole.text == size && (!size || !memcmp(whole.p + 1, text, size)));
	free(whole.p);
	free(cut.p);
	return 0;
}
