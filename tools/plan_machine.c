/* SPDX-License-Identifier: MIT */
/*
 * tools/plan_machine.c: the machine of `sluice plan --machine FILE`: what `sluice doctor --json` wrote
 * there, or a few of its fields written by hand. Refuses values of the wrong kind with the field's
 * name; fields it does not know mean nothing. One thread.
 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "tools/input.h"
#include "tools/plan.h"

#define ALIGN_MOST (64u << 10)
#define PIECE_MOST (256u << 20)

struct file {
	const char *path;
	json_t *root;
	struct err *err;
	int rc; /* the first refusal */
};

static int refuse(struct file *f, const char *name, const char *what)
{
	if (!f->rc)
		f->rc = err_set(f->err, -EINVAL, "%s: %s must be %s", f->path, name, what);
	return f->rc;
}

/* Member @name of @o (may be NULL) as a whole number up to @most; @missing where it is not there. */
static uint64_t take(struct file *f, const json_t *o, const char *name, uint64_t most,
		     uint64_t missing)
{
	const json_t *v = json_object_get(o, name);

	if (!v || json_is_null(v))
		return missing;
	if (!json_is_integer(v) || json_integer_value(v) < 0 ||
	    (uint64_t)json_integer_value(v) > most)
		refuse(f, name, "a whole number that is not negative, in range, or null");
	return (uint64_t)json_integer_value(v);
}

static double take_rate(struct file *f, const json_t *o, const char *name, double unit)
{
	const json_t *v = json_object_get(o, name);
	double value = v ? json_number_value(v) : 0;

	if (!v || json_is_null(v))
		return 0;
	if (!json_is_number(v) || !(value >= 0) || !isfinite(value))
		refuse(f, name, "a number that is not negative, or null");
	return value * unit;
}

static const json_t *take_object(struct file *f, const char *name, bool list)
{
	const json_t *v = json_object_get(f->root, name);

	if (v && !json_is_null(v) && !(list ? json_is_array(v) : json_is_object(v)))
		refuse(f, name, list ? "a list" : "an object");
	return v;
}

static void take_limits(struct file *f, struct plan_machine *m)
{
	const json_t *o = take_object(f, "limits", false);
	const json_t *from = json_object_get(o, "memory_from");
	struct limits *l = &m->limits;
	uint64_t cpus;

	l->machine_bytes = take(f, f->root, "memory_bytes", INT64_MAX, LIMITS_UNKNOWN);
	l->available_bytes = take(f, f->root, "memory_free_bytes", INT64_MAX, l->machine_bytes);
	l->limit_bytes = take(f, o, "memory_bytes", INT64_MAX, l->machine_bytes);
	l->room_bytes = take(f, o, "memory_free_bytes", INT64_MAX, l->available_bytes);
	snprintf(l->memory_from, sizeof(l->memory_from), "%s",
		 json_is_string(from) ? json_string_value(from) : "machine");
	if (l->room_bytes == LIMITS_UNKNOWN)
		snprintf(l->memory_from, sizeof(l->memory_from), "unknown");
	l->huge_total = take(f, f->root, "hugepages_total", INT64_MAX / LIMITS_HUGE_PAGE, 0);
	l->huge_free = take(f, f->root, "hugepages_free", INT64_MAX / LIMITS_HUGE_PAGE, 0);
	l->huge_room_bytes = take(f, f->root, "hugepages_room_bytes", INT64_MAX, LIMITS_UNKNOWN);
	l->huge_pool = l->huge_total != 0;
	m->cores = (unsigned)take(f, f->root, "cores", 1024, 0);
	cpus = take(f, o, "cpus", 1 << 20, m->cores);
	l->cpus = (unsigned)u64_max(cpus, 1);
	if (!m->cores)
		m->cores = l->cpus;
}

static void take_nodes(struct file *f, struct plan_machine *m)
{
	const json_t *list = take_object(f, "nodes", true), *node;
	size_t i;

	m->n_nodes = 0;
	for (i = 0; i < json_array_size(list) && m->n_nodes < NODES_KNOWN && !f->rc; i++) {
		struct plan_node *n = &m->nodes[m->n_nodes];
		uint64_t free_bytes;

		node = json_array_get(list, i);
		if (!json_is_object(node)) {
			refuse(f, "nodes", "a list of objects");
			break;
		}
		if (!take(f, node, "total_bytes", INT64_MAX, 1))
			continue; /* CPUs without memory */
		free_bytes = take(f, node, "free_bytes", INT64_MAX, UINT64_MAX);
		*n = (struct plan_node){
			.cpus = (uint32_t)take(f, node, "cpus", 1 << 20, 0),
			.memory = { .id = (int32_t)take(f, node, "id", 1023, i),
				    .free_bytes =
					    take(f, node, "room_bytes", INT64_MAX, free_bytes),
				    .peak_bytes_per_s = take_rate(f, node, "read_bytes_per_s", 1),
				    .in_use = -1 },
		};
		m->n_nodes++;
	}
}

int plan_cpu_level(const char *name, const struct cpu_ops **ret_ops)
{
	const struct cpu_ops *const levels[] = {
		&cpu_ops_scalar,
#if defined(__x86_64__)
		&cpu_ops_avx2,
		&cpu_ops_avx512,
#endif
	};

	for (unsigned i = 0; i < ARRAY_LEN(levels); i++)
		if (name && !strcmp(name, levels[i]->name)) {
			*ret_ops = levels[i];
			return 0;
		}
	return -EINVAL;
}

static void take_level(struct file *f, const struct cpu_ops **ret_ops)
{
	const json_t *v = json_object_get(f->root, "cpu_level");

	if (v && !json_is_null(v) && plan_cpu_level(json_string_value(v), ret_ops))
		refuse(f, "cpu_level", "one of scalar, avx2 and avx512");
}

int plan_machine_file(const char *path, struct plan_machine *ret, const struct cpu_ops **ret_ops,
		      struct err *err)
{
	struct file f = { .path = path, .err = err };
	json_error_t why;
	size_t bytes;
	char *text;
	int rc = input_file(path, &text, &bytes, err);

	if (rc)
		return rc;
	f.root = json_loadb(text, bytes, 0, &why);
	free(text);
	if (!f.root)
		return err_set(err, -EINVAL, "%s is not a machine: line %d: %s", path, why.line,
			       why.text);
	if (!json_is_object(f.root)) {
		json_decref(f.root);
		return err_set(err, -EINVAL, "%s is not a machine: it holds no JSON object", path);
	}
	take_limits(&f, ret);
	take_nodes(&f, ret);
	take_level(&f, ret_ops);
	ret->vram_bytes = take(&f, f.root, "vram_bytes", INT64_MAX, 0);
	ret->vram_piece = take(&f, f.root, "vram_piece_bytes", PIECE_MOST, 0);
	if (!f.rc && ret->vram_piece && !is_pow2(ret->vram_piece))
		refuse(&f, "vram_piece_bytes", "a power of two");
	ret->align = (uint32_t)take(&f, f.root, "read_align_bytes", ALIGN_MOST, ret->align);
	if (!f.rc && !is_pow2(ret->align))
		refuse(&f, "read_align_bytes", "a power of two");
	ret->memory_bytes_per_s = take_rate(&f, f.root, "mem_read_gbs", 1e9);
	ret->disk_bytes_per_s = take_rate(&f, f.root, "disk_read_gbs", 1e9);
	json_decref(f.root);
	return f.rc;
}
