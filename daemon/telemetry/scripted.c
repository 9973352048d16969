/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/scripted.c: samples from a text file, for tests and for trying a policy on a
 * machine that is not there. One thing a line, '#' begins a comment:
 *
 *	sample MS			begins a sample, MS milliseconds after the one before
 *	node ID [total= free= file= anon= socket= cpus= distance=10,21 peak= hit= miss= other=
 *		 read_rate= write_rate= total_rate=]	distance: to nodes 0, 1, ...
 *	huge NODE PAGE_BYTES [total= free= surplus=]
 *	counter KEY kind=read|write|total [socket= bytes= count= enabled= running= generation= lost=]
 *	pci BDF [node= class= speed= width= max_speed= max_width= bandwidth= max_bandwidth= asleep=]
 *	disk NAME [node= read= inflight=]
 *	gpu BDF [memory_total= memory_free= gen= width= max_gen= max_width= rx= tx= busy= throttle=]
 *	pressure cpu|memory|io [some= full= some_us= full_us=]
 *
 * Numbers are whole, decimal or 0x; sizes in bytes; '?' or leaving out: unknown. After the last
 * sample the last one stays. The whole file is checked when it is opened. One thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "telemetry/telemetry.h"

#define MAX_SCRIPT_BYTES (4u << 20)
#define MAX_LINE	 1024
#define NS_PER_MS	 1000000u

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

struct script {
	char *text;
	size_t at;	   /* of the next sample's line */
	size_t last;	   /* of the last one that was given */
	uint64_t base_ns;  /* the clock at the first sample */
	uint64_t since_ns; /* script time of the sample given last */
	bool begun;
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

static char *next_word(char **at)
{
	char *word = *at + strspn(*at, " \t");

	*at = word + strcspn(word, " \t");
	if (**at)
		*(*at)++ = '\0';
	return word;
}

static int set_fields(const struct field *table, void *object, struct reading *r)
{
	for (char *word = next_word(&r->words); *word; word = next_word(&r->words)) {
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

	if (!text_u64(next_word(&r->words), &id) || id >= NODES_KNOWN)
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

	if (!text_u64(next_word(&r->words), &id) || id >= NODES_KNOWN ||
	    !text_u64(next_word(&r->words), &h.page_bytes))
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

	if (!c || !text_u64(next_word(&r->words), &c->key))
		return -EINVAL;
	c->source = TELEMETRY_SCRIPT;
	c->updated_ns = r->at;
	return set_fields(counter_fields, c, r);
}

static int line_pci(struct reading *r)
{
	const char *bdf = next_word(&r->words);
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
	const char *name = next_word(&r->words);
	struct telemetry_disk *d = *name ? telemetry_disk_at(&r->sample->state, name) : NULL;

	if (!d)
		return -EINVAL;
	d->origin = (struct telemetry_origin){ TELEMETRY_SCRIPT, r->at };
	return set_fields(disk_fields, d, r);
}

static int line_gpu(struct reading *r)
{
	const char *bdf = next_word(&r->words);
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
	const char *what = next_word(&r->words);
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

/* Copies the line at @at without its comment; returns where the next one begins, 0: too long. */
static size_t get_line(const char *text, size_t at, char line[MAX_LINE])
{
	size_t len = strcspn(text + at, "\n"), end = at + len;
	size_t keep = strcspn(text + at, "\n#");

	if (keep >= MAX_LINE)
		return 0;
	memcpy(line, text + at, keep);
	line[keep] = '\0';
	line[strcspn(line, "\r")] = '\0';
	return end + (text[end] == '\n');
}

/*
 * Reads the sample whose line begins at @at; *ret_end is where the next begins. 0, or -EINVAL with
 * *ret_end at the bad line.
 */
static int read_sample(const char *text, size_t at, uint64_t ns, struct telemetry_sample *sample,
		       size_t *ret_end)
{
	struct reading r = { sample, ns, NULL };
	bool first = true;
	char line[MAX_LINE];

	for (size_t next; text[at]; at = next, first = false) {
		char *words = line, *word;
		size_t i = 0;

		*ret_end = at;
		next = get_line(text, at, line);
		if (!next)
			return -EINVAL;
		word = next_word(&words);
		if (first || !*word)
			continue; /* "sample" itself was read by the caller */
		if (!strcmp(word, "sample"))
			return 0;
		while (i < ARRAY_LEN(lines) && strcmp(lines[i].word, word))
			i++;
		r.words = words;
		if (i == ARRAY_LEN(lines) || lines[i].read(&r))
			return -EINVAL;
	}
	*ret_end = at;
	return 0;
}

/* The next line that says something: its offset; *ret_ms of its "sample". -EINVAL if it is none. */
static int find_sample(const char *text, size_t *at, uint64_t *ret_ms)
{
	char line[MAX_LINE];

	while (text[*at]) {
		size_t next = get_line(text, *at, line);
		char *words = line, *word;

		if (!next)
			return -EINVAL;
		word = next_word(&words);
		if (!*word) {
			*at = next;
			continue;
		}
		if (strcmp(word, "sample") || !text_u64(next_word(&words), ret_ms) ||
		    *ret_ms > 86400000)
			return -EINVAL;
		return 0;
	}
	return -ENOENT;
}

static unsigned line_number(const char *text, size_t at)
{
	unsigned n = 1;

	for (size_t i = 0; i < at; i++)
		n += text[i] == '\n';
	return n;
}

static int check_script(const char *text, const char *path, struct err *err)
{
	struct telemetry_sample *scratch = malloc(sizeof(*scratch));
	size_t at = 0, n = 0;
	uint64_t ms;
	int rc = scratch ? 0 : -ENOMEM;

	while (!rc) {
		rc = find_sample(text, &at, &ms);
		if (rc)
			break;
		n++;
		telemetry_sample_init(scratch);
		rc = read_sample(text, at, 0, scratch, &at);
	}
	free(scratch);
	if (rc == -ENOENT && n)
		return 0;
	if (rc == -ENOENT)
		return err_set(err, -EINVAL, "%s: no sample in it", path);
	if (rc == -EINVAL)
		return err_set(err, rc, "%s:%u: not a line of a telemetry script", path,
			       line_number(text, at));
	return rc;
}

static void scripted_close(void *state)
{
	struct script *s = state;

	if (!s)
		return;
	free(s->text);
	free(s);
}

static int scripted_open(const struct telemetry_config *config, void **ret_state, struct err *err)
{
	struct script *s = calloc(1, sizeof(*s));
	struct fs here = { AT_FDCWD };
	ssize_t n;
	int rc;

	if (!s)
		return -ENOMEM;
	s->text = malloc(MAX_SCRIPT_BYTES);
	n = s->text ? fs_text(&here, s->text, MAX_SCRIPT_BYTES, "%s", config->script) : -ENOMEM;
	if (n < 0)
		rc = err_set(err, (int)n, "%s: %s", config->script, strerror((int)-n));
	else if (n == MAX_SCRIPT_BYTES - 1)
		rc = err_set(err, -EFBIG, "%s: too long for a telemetry script", config->script);
	else
		rc = check_script(s->text, config->script, err);
	if (rc) {
		scripted_close(s);
		return rc;
	}
	*ret_state = s;
	return 0;
}

static int scripted_sample(void *state, uint64_t now, struct telemetry_sample *sample)
{
	struct script *s = state;
	size_t at = s->at, end;
	uint64_t ms = 0;
	int rc;

	if (!s->begun)
		s->base_ns = now;
	if (find_sample(s->text, &at, &ms)) {
		at = s->last; /* past the end: the last one again, later */
		find_sample(s->text, &at, &ms);
	}
	s->since_ns += s->begun ? ms * NS_PER_MS : 0;
	s->begun = true;
	s->last = at;
	rc = read_sample(s->text, at, s->base_ns + s->since_ns, sample, &end);
	if (end > s->at)
		s->at = end;
	return rc;
}

const struct telemetry_ops telemetry_scripted_ops = {
	.source = TELEMETRY_SCRIPT,
	.open = scripted_open,
	.sample = scripted_sample,
	.close = scripted_close,
};
