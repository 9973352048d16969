/* SPDX-License-Identifier: MIT */
/* tools/heat_draw.c: see heat.h. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tools/heat.h"
#include "tools/json_input.h"

#define EXPERTS_MAX 65536
#define LAYERS_MAX  4096
#define HEAD	    28 /* characters before a layer's map */

static const char levels[] = " .:-=+*#%@";

static bool count_of(struct json_object *v, uint32_t most, uint32_t *ret)
{
	int64_t n = json_object_get_int64(v);

	*ret = (uint32_t)n;
	return json_object_is_type(v, json_type_int) && n >= 0 && n <= most;
}

static int take_layer(struct json_object *o, struct heat *h)
{
	struct heat_layer *l = &h->layers[h->n_layers];
	struct json_object *uses = jsonc_member(o, "uses");

	if (!count_of(jsonc_member(o, "layer"), UINT32_MAX, &l->layer) ||
	    !json_object_is_type(uses, json_type_array) ||
	    json_object_array_length(uses) != h->n_expert)
		return -EINVAL;
	l->uses = calloc(h->n_expert, sizeof(*l->uses));
	if (!l->uses)
		return -ENOMEM;
	h->n_layers++; /* owned from here on */
	for (uint32_t i = 0; i < h->n_expert; i++)
		if (!count_of(json_object_array_get_idx(uses, i), UINT32_MAX, &l->uses[i]))
			return -EINVAL;
	return 0;
}

static int take(struct json_object *o, struct heat *h)
{
	struct json_object *layers = jsonc_member(o, "layers");
	size_t n;
	int rc = 0;

	if (!count_of(jsonc_member(o, "n_expert"), EXPERTS_MAX, &h->n_expert) ||
	    !count_of(jsonc_member(o, "n_expert_used"), EXPERTS_MAX, &h->n_expert_used) ||
	    !json_object_is_type(layers, json_type_array))
		return -EINVAL;
	n = json_object_array_length(layers);
	if (n > LAYERS_MAX || (n && !h->n_expert))
		return -EINVAL;
	h->layers = calloc(n + 1, sizeof(*h->layers));
	if (!h->layers)
		return -ENOMEM;
	for (size_t i = 0; !rc && i < n; i++)
		rc = take_layer(json_object_array_get_idx(layers, i), h);
	return rc;
}

int heat_parse(const char *text, size_t n, struct heat *ret, struct err *err)
{
	struct json_object *o = NULL;
	int rc = n ? input_json_object(text, n, &o, err) : -EINVAL;

	*ret = (struct heat){ 0 };
	if (!rc)
		rc = take(o, ret);
	json_object_put(o);
	if (!rc)
		return 0;
	heat_done(ret);
	return err_set(err, rc, "the daemon's counts of experts make no sense");
}

void heat_done(struct heat *h)
{
	for (uint32_t i = 0; i < h->n_layers; i++)
		free(h->layers[i].uses);
	free(h->layers);
	*h = (struct heat){ 0 };
}

static uint64_t sum(const struct heat_layer *l, uint32_t from, uint32_t to)
{
	uint64_t n = 0;

	for (uint32_t i = from; i < to; i++)
		n += l->uses[i];
	return n;
}

static int descending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x < y) - (x > y);
}

double heat_top_share(const struct heat *h, const struct heat_layer *l)
{
	uint32_t *sorted = malloc((h->n_expert + 1) * sizeof(*sorted)), n = (h->n_expert + 9) / 10;
	uint64_t all = sum(l, 0, h->n_expert), top = 0;

	if (!sorted)
		return 0;
	memcpy(sorted, l->uses, h->n_expert * sizeof(*sorted));
	qsort(sorted, h->n_expert, sizeof(*sorted), descending);
	for (uint32_t i = 0; i < n; i++)
		top += sorted[i];
	free(sorted);
	return all ? (double)top / (double)all : 0;
}

/* The level of a group of experts, by its mean use against the busiest group's. */
static char level(double mean, double most)
{
	int i = most > 0 ? (int)(mean / most * (double)(sizeof(levels) - 2)) : 0;

	return mean > 0 && !i ? levels[1] : levels[i];
}

static void draw_layer(const struct heat *h, const struct heat_layer *l, uint32_t group, FILE *out)
{
	double most = 0, mean;

	fprintf(out, "%5u %13llu %5.1f %% ", l->layer, (unsigned long long)sum(l, 0, h->n_expert),
		heat_top_share(h, l) * 100);
	for (uint32_t i = 0; i < h->n_expert; i += group) {
		uint32_t end = i + group < h->n_expert ? i + group : h->n_expert;

		mean = (double)sum(l, i, end) / (end - i);
		most = mean > most ? mean : most;
	}
	for (uint32_t i = 0; i < h->n_expert; i += group) {
		uint32_t end = i + group < h->n_expert ? i + group : h->n_expert;

		mean = (double)sum(l, i, end) / (end - i);
		fputc(level(mean, most), out);
	}
	fputc('\n', out);
}

void heat_draw(const struct heat *h, unsigned columns, FILE *out)
{
	uint32_t room = columns - HEAD, group = (h->n_expert + room - 1) / room;

	if (!h->n_layers) {
		fputs("this model has no experts\n", out);
		return;
	}
	fprintf(out, "layer          uses top 10%% %u experts, %u used at a time", h->n_expert,
		h->n_expert_used);
	fprintf(out, group > 1 ? ", %u a character\n" : "\n", group);
	for (uint32_t i = 0; i < h->n_layers; i++)
		draw_layer(h, &h->layers[i], group, out);
}
