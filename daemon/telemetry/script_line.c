/* SPDX-License-Identifier: MIT */
/* daemon/telemetry/script_line.c: see script_line.h. */
#include "telemetry/script_line.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/num.h"

char *script_word(char **at)
{
	char *word = *at + strspn(*at, " \t");

	*at = word + strcspn(word, " \t");
	if (**at)
		*(*at)++ = '\0';
	return word;
}

enum field_type { F_U64, F_U32, F_INT, F_BOOL, F_ANSWER, F_KIND, F_DISTANCE };

struct field {
	const char *name;
	enum field_type type;
	size_t offset;
};

#define NODE(name, type, member)                                    \
	{                                                           \
		name, type, offsetof(struct telemetry_node, member) \
	}
#define HUGE(name, member)                                           \
	{                                                            \
		name, F_U64, offsetof(struct telemetry_huge, member) \
	}
#define COUNTER(name, type, member)                                    \
	{                                                              \
		name, type, offsetof(struct telemetry_counter, member) \
	}
#define PCI(name, type, member)                                    \
	{                                                          \
		name, type, offsetof(struct telemetry_pci, member) \
	}
#define DISK(name, type, member)                                    \
	{                                                           \
		name, type, offsetof(struct telemetry_disk, member) \
	}
#define GPU(name, member)                                           \
	{                                                           \
		name, F_U64, offsetof(struct telemetry_gpu, member) \
	}
#define STALL(name, member)                                           \
	{                                                             \
		name, F_U64, offsetof(struct telemetry_stall, member) \
	}

static const struct field node_fields[] = {
	NODE("total", F_U64, total_bytes),
	NODE("free", F_U64, free_bytes),
	NODE("file", F_U64, file_bytes),
	NODE("anon", F_U64, anon_bytes),
	NODE("socket", F_INT, socket),
	NODE("cpus", F_U32, n_cpus),
	NODE("distance", F_DISTANCE, distance),
	NODE("peak", F_U64, peak_bytes_per_s),
	NODE("hit", F_U64, numa_hit),
	NODE("miss", F_U64, numa_miss),
	NODE("other", F_U64, other_node),
	NODE("read_rate", F_U64, rate.read_bytes_per_s),
	NODE("write_rate", F_U64, rate.write_bytes_per_s),
	NODE("total_rate", F_U64, rate.total_bytes_per_s),
	{ 0 },
};

static const struct field huge_fields[] = {
	HUGE("total", total),
	HUGE("free", free),
	HUGE("surplus", surplus),
	{ 0 },
};

static const struct field counter_fields[] = {
	COUNTER("kind", F_KIND, kind),
	COUNTER("socket", F_INT, socket),
	COUNTER("bytes", F_U64, bytes_per_count),
	COUNTER("count", F_U64, count),
	COUNTER("enabled", F_U64, enabled_ns),
	COUNTER("running", F_U64, running_ns),
	COUNTER("generation", F_U32, generation),
	COUNTER("lost", F_BOOL, lost),
	{ 0 },
};

static const struct field pci_fields[] = {
	PCI("node", F_INT, node),
	PCI("class", F_U32, class_code),
	PCI("speed", F_U64, speed_mts),
	PCI("width", F_U64, width),
	PCI("max_speed", F_U64, max_speed_mts),
	PCI("max_width", F_U64, max_width),
	PCI("bandwidth", F_U64, bandwidth_bytes_per_s),
	PCI("max_bandwidth", F_U64, max_bandwidth_bytes_per_s),
	PCI("asleep", F_ANSWER, asleep),
	{ 0 },
};

static const struct field disk_fields[] = {
	DISK("node", F_INT, node),
	DISK("read", F_U64, read_bytes),
	DISK("inflight", F_U64, inflight),
	{ 0 },
};

static const struct field gpu_fields[] = {
	GPU("memory_total", memory_total_bytes),
	GPU("memory_free", memory_free_bytes),
	GPU("gen", link_gen),
	GPU("width", link_width),
	GPU("max_gen", max_link_gen),
	GPU("max_width", max_link_width),
	GPU("rx", rx_bytes_per_s),
	GPU("tx", tx_bytes_per_s),
	GPU("busy", busy_percent),
	GPU("throttle", throttle_bits),
	{ 0 },
};

static const struct field stall_fields[] = {
	STALL("some", some_avg10),
	STALL("full", full_avg10),
	STALL("some_us", some_total_us),
	STALL("full_us", full_total_us),
	{ 0 },
};

/* What one line is read into. */
struct reading {
	struct telemetry_sample *sample;
	uint64_t at;
	char *words;
};

static int set_distance(uint8_t *row, char *text)
{
	for (unsigned i = 0; *text; i++) {
		char *next = text + strcspn(text, ",");
		uint64_t value;

		if (*next)
			*next++ = '\0';
		if (i == NODES_KNOWN || !text_u64(text, &value) || value > 255)
			return -EINVAL;
		row[i] = (uint8_t)value;
		text = next;
	}
	return 0;
}

static int set_kind(enum telemetry_kind *ret, const char *text)
{
	static const char *const names[] = { "read", "write", "total" };

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(text, names[i])) {
			*ret = (enum telemetry_kind)i;
			return 0;
		}
	return -EINVAL;
}

static int set_field(const struct field *f, void *object, char *text)
{
	void *to = (char *)object + f->offset;
	uint64_t value;

	if (f->type == F_DISTANCE)
		return set_distance(to, text);
	if (f->type == F_KIND)
		return set_kind(to, text);
	if (!strcmp(text, "?"))
		return 0; /* as it was made: unknown */
	if (!text_u64(text, &value))
		return -EINVAL;
	if (f->type == F_U64)
		*(uint64_t *)to = value;
	else if (f->type == F_U32 && value <= UINT32_MAX)
		*(uint32_t *)to = (uint32_t)value;
	else if (f->type == F_INT && value <= INT32_MAX)
		*(int *)to = (int)value;
	else if (f->type == F_BOOL && value <= 1)
		*(bool *)to = value;
	else if (f->type == F_ANSWER && value <= 1)
		*(enum telemetry_answer *)to = value ? TELEMETRY_YES : TELEMETRY_NO;
	else
		return -EINVAL;
	return 0;
}

static int set_fields(const struct field *table, void *object, struct reading *r)
{
	for (char *word = script_word(&r->words); *word; word = script_word(&r->words)) {
		char *equals = strchr(word, '=');
		const struct field *f = table;

		if (!equals)
			return -EINVAL;
		*equals = '\0';
		while (f->name && strcmp(f->name, word))
			f++;
		if (!f->name || set_field(f, object, equals + 1))
			return -EINVAL;
	}
	return 0;
}

static int line_node(struct reading *r)
{
	struct telemetry_snapshot *s = &r->sample->state;
	const struct telemetry_origin origin = { TELEMETRY_SCRIPT, r->at };
	struct telemetry_node *n;
	uint64_t id;
	int rc;

	if (!text_u64(script_word(&r->words), &id) || id >= NODES_KNOWN)
		return -EINVAL;
	n = telemetry_node_at(s, (int)id);
	rc = n ? set_fields(node_fields, n, r) : -EINVAL;
	if (rc)
		return rc;
	n->memory = origin;
	if (n->distance[n->id])
		n->distances = origin;
	if (n->numa_hit != TELEMETRY_UNKNOWN)
		n->numastat = origin;
	if (n->peak_bytes_per_s != TELEMETRY_UNKNOWN)
		n->peak = origin;
	if (n->rate.total_bytes_per_s == TELEMETRY_UNKNOWN &&
	    n->rate.read_bytes_per_s != TELEMETRY_UNKNOWN &&
	    n->rate.write_bytes_per_s != TELEMETRY_UNKNOWN)
		n->rate.total_bytes_per_s = n->rate.read_bytes_per_s + n->rate.write_bytes_per_s;
	if (n->rate.read_bytes_per_s != TELEMETRY_UNKNOWN ||
	    n->rate.write_bytes_per_s != TELEMETRY_UNKNOWN ||
	    n->rate.total_bytes_per_s != TELEMETRY_UNKNOWN)
		n->rate.origin = origin;
	return 0;
}

static int line_huge(struct reading *r)
{
	struct telemetry_node *n;
	struct telemetry_huge h = { 0, TELEMETRY_UNKNOWN, TELEMETRY_UNKNOWN, TELEMETRY_UNKNOWN };
	uint64_t id;

	if (!text_u64(script_word(&r->words), &id) || id >= NODES_KNOWN ||
	    !text_u64(script_word(&r->words), &h.page_bytes))
		return -EINVAL;
	n = telemetry_node_at(&r->sample->state, (int)id);
	if (!n || n->n_huge == TELEMETRY_MAX_HUGE_SIZES || set_fields(huge_fields, &h, r))
		return -EINVAL;
	n->huge[n->n_huge++] = h;
	n->hugepages = (struct telemetry_origin){ TELEMETRY_SCRIPT, r->at };
	return 0;
}

static int line_counter(struct reading *r)
{
	struct telemetry_counter *c = telemetry_counter_add(r->sample);

	if (!c || !text_u64(script_word(&r->words), &c->key))
		return -EINVAL;
	c->source = TELEMETRY_SCRIPT;
	c->updated_ns = r->at;
	return set_fields(counter_fields, c, r);
}

static int line_pci(struct reading *r)
{
	const char *bdf = script_word(&r->words);
	struct telemetry_pci *p =
		text_is_bdf(bdf, strlen(bdf)) ? telemetry_pci_at(&r->sample->state, bdf) : NULL;
	int rc = p ? set_fields(pci_fields, p, r) : -EINVAL;

	if (rc)
		return rc;
	if (p->bandwidth_bytes_per_s == TELEMETRY_UNKNOWN)
		p->bandwidth_bytes_per_s = telemetry_link_bytes_per_s(p->speed_mts, p->width);
	p->origin = (struct telemetry_origin){ TELEMETRY_SCRIPT, r->at };
	telemetry_judge_link(p);
	return 0;
}

static int line_disk(struct reading *r)
{
	const char *name = script_word(&r->words);
	struct telemetry_disk *d = *name ? telemetry_disk_at(&r->sample->state, name) : NULL;

	if (!d)
		return -EINVAL;
	d->origin = (struct telemetry_origin){ TELEMETRY_SCRIPT, r->at };
	return set_fields(disk_fields, d, r);
}

static int line_gpu(struct reading *r)
{
	const char *bdf = script_word(&r->words);
	struct telemetry_gpu *g =
		text_is_bdf(bdf, strlen(bdf)) ? telemetry_gpu_add(&r->sample->state) : NULL;

	if (!g)
		return -EINVAL;
	snprintf(g->bdf, sizeof(g->bdf), "%s", bdf);
	snprintf(g->name, sizeof(g->name), "scripted");
	g->origin = (struct telemetry_origin){ TELEMETRY_SCRIPT, r->at };
	return set_fields(gpu_fields, g, r);
}

static int line_pressure(struct reading *r)
{
	struct telemetry_pressure *p = &r->sample->state.pressure;
	const char *what = script_word(&r->words);
	struct telemetry_stall *stall = !strcmp(what, "cpu")	  ? &p->cpu
					: !strcmp(what, "memory") ? &p->memory
					: !strcmp(what, "io")	  ? &p->io
								  : NULL;

	if (!stall)
		return -EINVAL;
	r->sample->state.groups[TELEMETRY_GROUP_PRESSURE] =
		(struct telemetry_origin){ TELEMETRY_SCRIPT, r->at };
	return set_fields(stall_fields, stall, r);
}

static const struct {
	const char *word;
	int (*read)(struct reading *r);
} lines[] = {
	{ "node", line_node },	       { "huge", line_huge }, { "counter", line_counter },
	{ "pci", line_pci },	       { "disk", line_disk }, { "gpu", line_gpu },
	{ "pressure", line_pressure },
};

int script_line(const char *what, char *words, uint64_t at, struct telemetry_sample *sample)
{
	struct reading r = { sample, at, words };

	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		if (!strcmp(lines[i].word, what))
			return lines[i].read(&r);
	return -EINVAL;
}
