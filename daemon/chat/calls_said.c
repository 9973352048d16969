/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls_said.c: what a call says that calls_scan.c has read: its name, and its arguments as
 * one JSON object. See docs/tool-calls.md for the forms.
 */
#include <errno.h>
#include <stdlib.h>

#include "chat/calls_impl.h"

int scan_name(const struct scan *s, const struct held *h, struct bytes *name, struct span *id)
{
	const char *text = h->text + s->name.at;
	size_t n = s->name.n, digits = 0;

	*id = (struct span){ 0, 0 };
	if (s->format == CALLS_HERMES) {
		if (bytes_room(name, n))
			return -ENOMEM;
		name->n += json_unescape(text, n, name->p + name->n);
		return 0;
	}
	if (s->format == CALLS_KIMI_K2) { /* functions.NAME:INDEX */
		*id = s->name;
		if (n > 10 && !memcmp(text, "functions.", 10)) {
			text += 10;
			n -= 10;
		}
		while (digits < n && text[n - 1 - digits] >= '0' && text[n - 1 - digits] <= '9')
			digits++;
		if (digits && n > digits + 1 && text[n - 1 - digits] == ':')
			n -= digits + 1;
	}
	return bytes_add(name, text, n);
}

struct named {
	const char *text; /* all keys' */
	struct span key;
	size_t pair;
};

static int by_name(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	size_t n = x->key.n < y->key.n ? x->key.n : y->key.n;
	int c = memcmp(x->text + x->key.at, y->text + y->key.at, n);

	c = c ? c : (x->key.n > y->key.n) - (x->key.n < y->key.n);
	return c ? c : (x->pair > y->pair) - (x->pair < y->pair);
}

static bool same_name(const struct named *x, const struct named *y)
{
	return x->key.n == y->key.n && !memcmp(x->text + x->key.at, y->text + y->key.at, x->key.n);
}

/* For each pair the one whose value counts: of a name the last, in the place of the first. */
static int values_that_count(const struct scan *s, const char *text, size_t *ret)
{
	size_t n = s->n_pairs / 2;
	struct named *all = calloc(n, sizeof(*all));

	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		all[i] = (struct named){ .text = text, .key = s->pairs[2 * i], .pair = i };
		if (s->format == CALLS_GLM)
			all[i].key = trimmed(text, all[i].key);
	}
	qsort(all, n, sizeof(*all), by_name);
	for (size_t i = 0, j; i < n; i = j) {
		for (j = i; j < n && same_name(&all[i], &all[j]); j++)
			ret[all[j].pair] = SIZE_MAX;
		ret[all[i].pair] = all[j - 1].pair;
	}
	free(all);
	return 0;
}

static struct span value_of(const struct scan *s, const char *text, struct span v)
{
	if (s->format != CALLS_QWEN3_XML)
		return v;
	if (v.n && text[v.at] == '\n') {
		v.at++;
		v.n--;
	}
	v.n -= v.n && text[v.at + v.n - 1] == '\n';
	return v;
}

static int pairs_json(const struct scan *s, const char *text, struct bytes *ret)
{
	const struct tool *tool = toolbox_find(s->tools, text + s->name.at, s->name.n);
	size_t n = s->n_pairs / 2, *which = calloc(n + 1, sizeof(*which));
	bool any = false;
	int rc = !which ? -ENOMEM : n ? values_that_count(s, text, which) : 0;

	rc = rc ? rc : bytes_add(ret, "{", 1);
	for (size_t i = 0; i < n && !rc; i++) {
		struct span key = s->pairs[2 * i], v;

		if (which[i] == SIZE_MAX)
			continue;
		v = value_of(s, text, s->pairs[2 * which[i] + 1]);
		if (s->format == CALLS_GLM)
			key = trimmed(text, key);
		rc = any ? bytes_add(ret, ", ", 2) : 0;
		rc = rc ? rc : string_json(ret, text + key.at, key.n);
		rc = rc ? rc : bytes_add(ret, ": ", 2);
		rc = rc ? rc : value_json(ret, tool, text + key.at, key.n, text + v.at, v.n);
		any = true;
	}
	free(which);
	return rc ? rc : bytes_add(ret, "}", 1);
}

int scan_arguments(const struct scan *s, const struct held *h, struct bytes *ret)
{
	const char *o = h->text + s->object.at;
	size_t n = s->object.n, at = ret->n, lead;

	if (s->format == CALLS_QWEN3_XML || s->format == CALLS_GLM || s->format == CALLS_MINIMAX_M2)
		return pairs_json(s, h->text, ret);
	if (!n)
		return bytes_add(ret, "{}", 2);
	if (*o == '{')
		return bytes_add(ret, o, n);
	if (bytes_room(ret, n + 2)) /* a string that holds an object, or null */
		return -ENOMEM;
	n = json_unescape(o, n, ret->p + at);
	lead = skip_space(ret->p + at, n, 0);
	n -= lead;
	memmove(ret->p + at, ret->p + at + lead, n);
	while (n && json_space(ret->p[at + n - 1]))
		n--;
	if (ret->p[at] != '{') {
		memcpy(ret->p + at, "{}", 2);
		n = 2;
	}
	ret->n = at + n;
	return 0;
}
