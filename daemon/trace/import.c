/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/import.c: traces that others have published, as ours.
 *
 *	.route.csv  BigMoeOnEdge: # comments with the geometry, then one line per token, layer, slot
 *	.jsonl	    warp: {"tok": N, "layers": [[expert, ...], ...]} per token, experts by number
 *	.freq	    fomoe: 4 x u32 (magic, version, layers, count), then {u16 layer, u16 expert, f32}
 *
 * docs/trace.md says what of them goes where. What a format does not say (experts in the model, the
 * order of the router) stays unsaid or is the least that fits.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trace/build.h"

#define FREQ_MAGIC "QERF"

bool trace_is_csv(const char *text)
{
	return strncmp(text, "# " TRACE_MAGIC, strlen(TRACE_MAGIC) + 2) == 0 ||
	       strncmp(text, "turn,phase,step,layer,", 22) == 0;
}

bool trace_is_jsonl(const char *text)
{
	return text[0] == '{' && strstr(text, "\"layers\"");
}

bool trace_is_freq(const char *bytes, size_t len)
{
	return len >= 16 && memcmp(bytes, FREQ_MAGIC, 4) == 0;
}

/* The number behind " key=" in a comment. 0 or -EINVAL. */
static int comment_number(char *line, const char *key, uint64_t *ret)
{
	char *at = strstr(line, key);

	if (!at)
		return -EINVAL;
	at += strlen(key);
	return trace_take_number(&at, UINT64_MAX, ret);
}

static void comment_word(char *line, const char *key, char *to, size_t len)
{
	char *at = strstr(line, key);
	size_t n;

	if (!at)
		return;
	at += strlen(key);
	n = strcspn(at, " ");
	n = n < len ? n : len - 1;
	memcpy(to, at, n);
	to[n] = '\0';
}

static int csv_comment(struct route_trace *t, char *line, struct err *err)
{
	uint64_t layer, bytes, dense, layers, experts, used;

	if (!comment_number(line, " n_layer=", &layers) &&
	    !comment_number(line, " n_expert=", &experts) &&
	    !comment_number(line, " n_expert_used=", &used)) {
		comment_word(line, " model=", t->model, sizeof(t->model));
		comment_word(line, " arch=", t->arch, sizeof(t->arch));
		return trace_set_geometry(t, layers, experts, used, err);
	}
	if (!comment_number(line, " layer=", &layer)) {
		if (!t->layers || layer >= t->n_layers ||
		    comment_number(line, " expert_bytes=", &bytes) ||
		    comment_number(line, " dense_bytes=", &dense))
			return err_set(err, -EINVAL, "the layer's bytes cannot be read");
		t->layers[layer] =
			(struct trace_layer_bytes){ .expert_bytes = bytes, .dense_bytes = dense };
	}
	return 0;
}

/* turn,phase,step,layer,slot,expert,weight,residency,expert_bytes */
static int csv_row(struct route_trace *t, char *at, struct err *err)
{
	enum { TURN, PHASE, TOKEN, LAYER, SLOT, EXPERT, N_INTEGERS };
	struct trace_row row = { 0 }, *last = t->n_rows ? &t->rows[t->n_rows - 1] : NULL;
	struct trace_use use = { 0 };
	uint64_t v[N_INTEGERS], present, bytes;
	int rc;

	for (int i = 0; i < N_INTEGERS; i++)
		if (trace_take_number(&at, UINT32_MAX, &v[i]) || *at++ != ',')
			return err_set(err, -EINVAL, "column %d is not a number", i + 1);
	if (trace_take_fraction(&at, &use.weight) || *at++ != ',' ||
	    trace_take_number(&at, 1, &present) || *at++ != ',' ||
	    trace_take_number(&at, UINT32_MAX, &bytes) || *at || v[PHASE] > 1 ||
	    v[LAYER] > UINT16_MAX)
		return err_set(err, -EINVAL, "the columns are not those of a .route.csv");
	row.phase = v[PHASE] ? TRACE_DECODE : TRACE_PREFILL;
	row.seq = (uint32_t)v[TURN];
	row.pos = (uint32_t)v[TOKEN];
	row.layer = (uint16_t)v[LAYER];
	row.step = last ? last->step : 1;
	/* a pass over the layers ends where the phase changes or the layers start again */
	if (last && (last->seq != row.seq || last->phase != row.phase || last->layer > row.layer))
		row.step++;
	if (!last || row.step != last->step || last->layer != row.layer || last->pos != row.pos) {
		rc = trace_add_row(t, &row, err);
		if (rc)
			return rc;
	}
	if (v[SLOT] != t->rows[t->n_rows - 1].n)
		return err_set(err, -EINVAL, "slot %u is out of order", (unsigned)v[SLOT]);
	use.expert = (uint32_t)v[EXPERT];
	use.was_present = present;
	use.read_bytes = (uint32_t)bytes;
	return trace_add_use(t, &use, err);
}

int trace_read_csv(struct route_trace *t, struct trace_text *text, struct err *err)
{
	char *line;
	int rc = 0;

	t->by_rank = t->has_weights = t->has_reads = true;
	while (!rc && (line = trace_text_line(text))) {
		if (*line == '#')
			rc = csv_comment(t, line, err);
		else if (*line && strncmp(line, "turn,", 5) != 0)
			rc = csv_row(t, line, err);
	}
	if (!rc && !t->n_rows)
		rc = err_set(err, -EINVAL, "there are no rows");
	return rc;
}

/* Moves *at behind the character @c and blanks around it. */
static bool take_char(char **at, char c)
{
	*at += strspn(*at, " \t");
	if (**at != c)
		return false;
	++*at;
	*at += strspn(*at, " \t");
	return true;
}

/* [[1, 2], [3, 4]]: one row per inner list. */
static int jsonl_layers(struct route_trace *t, char **at, struct trace_row *row, struct err *err)
{
	int rc = -EINVAL;

	if (!take_char(at, '['))
		return -EINVAL;
	do {
		if (!take_char(at, '['))
			return -EINVAL;
		rc = trace_add_row(t, row, err);
		if (rc)
			return rc;
		do {
			struct trace_use use = { 0 };
			uint64_t n;

			if (trace_take_number(at, TRACE_MAX_EXPERTS - 1, &n))
				return -EINVAL;
			use.expert = (uint32_t)n;
			rc = trace_add_use(t, &use, err);
			if (rc)
				return rc;
		} while (take_char(at, ','));
		if (!take_char(at, ']'))
			return -EINVAL;
		row->layer++;
	} while (take_char(at, ','));
	return take_char(at, ']') ? 0 : -EINVAL;
}

/* The lists of the first line tell the layers, the items of its first list the experts used. */
static int jsonl_geometry(struct route_trace *t, const char *line, struct err *err)
{
	uint64_t lists = 0, used = 1;
	const char *end = strchr(line, ']');

	for (const char *p = line; *p; p++) {
		lists += *p == '[';
		used += *p == ',' && lists == 2 && p < end;
	}
	return trace_set_geometry(t, lists ? lists - 1 : 0, TRACE_MAX_EXPERTS, used, err);
}

static int jsonl_line(struct route_trace *t, char *at, uint64_t step, struct err *err)
{
	struct trace_row row = { .step = step, .phase = TRACE_DECODE };
	uint64_t n;
	int rc = -EINVAL;

	if (!take_char(&at, '{') || strncmp(at, "\"tok\":", 6) != 0)
		goto out;
	at += 6;
	if (trace_take_number(&at, UINT32_MAX, &n) || !take_char(&at, ',') ||
	    strncmp(at, "\"layers\":", 9) != 0)
		goto out;
	at += 9;
	row.pos = (uint32_t)n;
	rc = jsonl_layers(t, &at, &row, err);
	if (!rc && (!take_char(&at, '}') || *at || row.layer != t->n_layers))
		rc = -EINVAL;
out:
	return rc ? err_set(err, rc, "this is not {\"tok\": N, \"layers\": [[expert, ...], ...]}")
		  : 0;
}

int trace_read_jsonl(struct route_trace *t, struct trace_text *text, struct err *err)
{
	uint32_t most = 0;
	uint64_t step = 0;
	char *line;
	int rc = 0;

	while (!rc && (line = trace_text_line(text))) {
		if (!*line)
			continue;
		if (!t->layers)
			rc = jsonl_geometry(t, line, err);
		if (!rc)
			rc = jsonl_line(t, line, ++step, err);
	}
	for (size_t i = 0; i < t->n_uses; i++)
		most = t->uses[i].expert > most ? t->uses[i].expert : most;
	t->n_expert = most + 1;
	return rc;
}

static uint32_t le_bytes(const char *p, int n)
{
	uint32_t v = 0;

	while (n-- > 0)
		v = v << 8 | (uint8_t)p[n];
	return v;
}

int trace_read_freq(struct route_trace *t, const char *bytes, size_t len, struct err *err)
{
	uint32_t version = le_bytes(bytes + 4, 4), layers = le_bytes(bytes + 8, 4);
	uint32_t count = le_bytes(bytes + 12, 4), most = 0;
	double sum = 0;
	int rc;

	if (version != 1 || (uint64_t)count * 8 + 16 != len)
		return err_set(err, -EINVAL,
			       "version %u with %u entries in %zu bytes is no table of ours",
			       version, count, len);
	rc = trace_set_geometry(t, layers, TRACE_MAX_EXPERTS, 1, err);
	for (uint32_t i = 0; i < count && !rc; i++) {
		const char *e = bytes + 16 + (size_t)i * 8;
		uint32_t bits = le_bytes(e + 4, 4);
		struct trace_frequency f = { le_bytes(e, 2), le_bytes(e + 2, 2), 0 };

		memcpy(&f.uses_per_token, &bits, sizeof(bits));
		most = f.expert > most ? f.expert : most;
		rc = trace_add_frequency(t, &f, err);
		sum += f.uses_per_token;
	}
	if (rc)
		return rc;
	/* a layer's frequencies add up to the experts that a token uses */
	t->n_expert = most + 1;
	t->n_expert_used = (uint32_t)fmin(fmax(1, rint(sum / layers)), t->n_expert);
	return 0;
}
