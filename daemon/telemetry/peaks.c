/* SPDX-License-Identifier: MIT */
/* daemon/telemetry/peaks.c: see peaks.h. */
#include "telemetry/peaks.h"

#include <errno.h>
#include <jansson.h>

#define MOST_BYTES_PER_S 1e14 /* beyond any memory: nonsense in the file */

/* A rate in @value, 0 where it is none. */
static uint64_t rate(const json_t *value, double unit)
{
	double v = json_is_number(value) ? json_number_value(value) * unit : 0;

	return v >= 1 && v <= MOST_BYTES_PER_S ? (uint64_t)v : 0;
}

int telemetry_load_peaks(const char *path, struct telemetry_peak *ret, unsigned max,
			 struct err *err)
{
	json_error_t why;
	json_t *o = json_load_file(path, JSON_REJECT_DUPLICATES, &why), *nodes, *node;
	unsigned n = 0, all = 0;
	size_t i;

	if (!o && why.line < 0) /* not opened: the text names the file */
		return err_set(err, -EINVAL, "%s", why.text);
	if (!o)
		return err_set(err, -EINVAL, "%s, line %d: %s", path, why.line, why.text);
	nodes = json_object_get(o, "nodes");
	json_array_foreach(nodes, i, node)
	{
		json_int_t id = json_integer_value(json_object_get(node, "id"));
		uint64_t bytes = rate(json_object_get(node, "read_bytes_per_s"), 1);

		all++;
		if (bytes && id >= 0 && id < NODES_KNOWN && n < max)
			ret[n++] = (struct telemetry_peak){ .node = (int)id, .bytes_per_s = bytes };
	}
	if (!n && all <= 1 && max) {
		uint64_t bytes = rate(json_object_get(o, "mem_read_gbs"), 1e9);

		node = json_array_get(nodes, 0);
		if (bytes)
			ret[n++] = (struct telemetry_peak){ .node = (int)json_integer_value(
								    json_object_get(node, "id")),
							    .bytes_per_s = bytes };
	}
	json_decref(o);
	if (!n)
		return err_set(err, -EINVAL,
			       "%s: no read rate of any node (sluice doctor --json prints them)",
			       path);
	return (int)n;
}
