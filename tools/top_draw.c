/* SPDX-License-Identifier: MIT */
/* tools/top_draw.c: see top.h. */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/histogram.h"
#include "base/num.h"
#include "base/size.h"
#include "tools/drafts.h"
#include "tools/top.h"

#define LINE  512
#define LABEL "%-10s"
#define BAR   30

void top_take(struct top *t, const struct sluice_status_info *status, const char *fallbacks,
	      uint64_t ns)
{
	double seconds;

	t->before = t->now;
	t->now.status = *status;
	snprintf(t->now.fallbacks, sizeof(t->now.fallbacks), "%s", fallbacks);
	t->now.ns = ns;
	if (!t->before.ns)
		return;
	if (t->before.status.uptime_ns > status->uptime_ns) { /* another daemon */
		t->before = (struct top_look){ 0 };
		t->n_decoded = 0;
		return;
	}
	seconds = (double)(ns - t->before.ns) / 1e9;
	if (t->n_decoded == TOP_HISTORY)
		memmove(t->decoded, t->decoded + 1, sizeof(t->decoded) - sizeof(*t->decoded));
	else
		t->n_decoded++;
	t->decoded[t->n_decoded - 1] =
		(double)(status->tokens_generated - t->before.status.tokens_generated) / seconds;
}

uint64_t top_quantile(const struct sluice_histogram *from, const struct sluice_histogram *to,
		      double q)
{
	uint64_t all = 0, below = 0;

	for (unsigned i = 0; i < SLUICE_BUCKETS; i++)
		all += to->counts[i] - from->counts[i];
	for (unsigned i = 0; all && i < HISTOGRAM_BOUNDS; i++) {
		below += to->counts[i] - from->counts[i];
		if ((double)below >= q * (double)all)
			return histogram_bounds[i];
	}
	return all ? UINT64_MAX : 0;
}

/* ---- lines ---- */

/* One line, cut at @columns characters. */
static void line(FILE *out, unsigned columns, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void line(FILE *out, unsigned columns, const char *fmt, ...)
{
	char text[LINE];
	va_list ap;
	char *end = text;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (unsigned n = 0; *end; end++)
		if (((unsigned char)*end & 0xc0) != 0x80 && n++ == columns)
			break;
	*end = '\0';
	fprintf(out, "%s\n", text);
}

static const char *bar(char *buf, double share)
{
	unsigned full = share > 0 ? (unsigned)(share * BAR + 0.5) : 0;
	char *at = buf;

	for (unsigned i = 0; i < BAR; i++)
		at += sprintf(at, "%s", i < full ? "█" : "░");
	return buf;
}

/* The newest looks as one character each, the largest at full height. */
static const char *curve(const struct top *t, unsigned width, char *buf)
{
	static const char *const steps[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	unsigned from = t->n_decoded > width ? t->n_decoded - width : 0;
	double most = 0;
	char *at = buf;

	*buf = '\0';
	for (unsigned i = from; i < t->n_decoded; i++)
		most = t->decoded[i] > most ? t->decoded[i] : most;
	for (unsigned i = from; i < t->n_decoded; i++)
		at += sprintf(at, "%s",
			      steps[most > 0 ? (int)(t->decoded[i] / most * 8 + 0.5) : 0]);
	return buf;
}

static const char *duration(char *buf, size_t size, uint64_t ns)
{
	if (!ns)
		return "-";
	if (ns == UINT64_MAX)
		return "> 5 min";
	if (ns < 1000000000)
		snprintf(buf, size, "%" PRIu64 " ms", ns / 1000000);
	else
		snprintf(buf, size, "%g s", (double)ns / 1e9);
	return buf;
}

static const char *uptime(char *buf, size_t size, uint64_t ns)
{
	uint64_t s = ns / 1000000000;

	if (s < 3600)
		snprintf(buf, size, "%u min %u s", (unsigned)(s / 60), (unsigned)(s % 60));
	else if (s < 86400)
		snprintf(buf, size, "%u h %u min", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
	else
		snprintf(buf, size, "%u d %u h", (unsigned)(s / 86400), (unsigned)(s / 3600 % 24));
	return buf;
}

/* ---- parts of the screen ---- */

static void draw_head(const struct sluice_status_info *s, unsigned columns, FILE *out)
{
	static const char *const names[] = { "starting", "ready", "failed" };
	char up[48], a[32], b[32];

	line(out, columns, "%s  %s  up %s  sluiced %s", s->model, s->arch,
	     uptime(up, sizeof(up), s->uptime_ns), s->version);
	if (s->state == SLUICE_STATE_STARTING)
		line(out, columns, LABEL "loading, %s of %s", "state",
		     size_format(a, sizeof(a), s->load_bytes),
		     size_format(b, sizeof(b), s->load_bytes_total));
	else if (s->state == SLUICE_STATE_FAILED)
		line(out, columns, LABEL "failed: %s", "state", s->failure);
	else
		line(out, columns, LABEL "%s%s, %u thread%s, cpu %s, io %s", "state",
		     s->state < ARRAY_LEN(names) ? names[s->state] : "unknown",
		     s->filling ? ", filling" : "", s->threads, s->threads == 1 ? "" : "s", s->cpu,
		     s->io);
}

static void draw_speed(const struct top *t, double seconds, unsigned columns, FILE *out)
{
	const struct sluice_status_info *s = &t->now.status, *b = &t->before.status;
	char text[TOP_HISTORY * 4], at[32];
	unsigned used = 10 + 14, room = columns > used + 1 ? columns - used : 1;

	snprintf(at, sizeof(at), "%.1f tok/s", t->n_decoded ? t->decoded[t->n_decoded - 1] : 0);
	line(out, columns, LABEL "%-14s%s", "decode", at,
	     curve(t, room < TOP_HISTORY ? room : TOP_HISTORY, text));
	line(out, columns, LABEL "%.1f tok/s, %" PRIu64 " tokens of prompts were known", "prompts",
	     (double)(s->tokens_prefilled - b->tokens_prefilled) / seconds, s->tokens_reused);
	line(out, columns, LABEL "%u active, %u waiting, %u sequence%s, %u connection%s",
	     "requests", s->active, s->waiting, s->n_parallel, s->n_parallel == 1 ? "" : "s",
	     s->connections, s->connections == 1 ? "" : "s");
}

/* Over the time between the looks; where nothing happened in it, since the daemon started. */
static void draw_latency(const struct top *t, unsigned columns, FILE *out)
{
	static const struct sluice_histogram none;
	const struct sluice_histogram *now = t->now.status.latency, *was = t->before.status.latency;
	char text[4][32];
	uint64_t ns[4];

	for (unsigned i = 0; i < 4; i++) {
		enum sluice_latency l = i < 2 ? SLUICE_LATENCY_FIRST : SLUICE_LATENCY_TOKEN;

		ns[i] = top_quantile(&was[l], &now[l], i % 2 ? 0.99 : 0.5);
		if (!ns[i])
			ns[i] = top_quantile(&none, &now[l], i % 2 ? 0.99 : 0.5);
		snprintf(text[i], sizeof(text[i]), "%s", duration((char[32]){ 0 }, 32, ns[i]));
	}
	line(out, columns, LABEL "first token within %s (99 %%: %s), next %s (99 %%: %s)",
	     "latency", text[0], text[1], text[2], text[3]);
}

static void draw_tiers(const struct top *t, double seconds, unsigned columns, FILE *out)
{
	const struct sluice_status_info *s = &t->now.status, *b = &t->before.status;
	uint64_t hits = s->hits - b->hits, uses = hits + s->misses - b->misses;
	char blocks[BAR * 4], a[32], c[32], share[32] = "-";

	if (!s->experts_total) {
		line(out, columns, LABEL "none (a dense model)", "experts");
		return;
	}
	if (uses)
		snprintf(share, sizeof(share), "%.1f %%", 100.0 * (double)hits / (double)uses);
	line(out, columns, LABEL "%s %s of %s", "memory",
	     bar(blocks, s->budget_bytes ? (double)s->resident_bytes / (double)s->budget_bytes : 0),
	     size_format(a, sizeof(a), s->resident_bytes),
	     size_format(c, sizeof(c), s->budget_bytes));
	line(out, columns, LABEL "%" PRIu64 " of %" PRIu64 " in memory, hit rate %s (%.1f uses/s)",
	     "experts", s->experts_resident, s->experts_total, share, (double)uses / seconds);
	line(out, columns, LABEL "%s/s read, busy %.0f %%, computing waited %.0f %% of the time",
	     "disk",
	     size_format(a, sizeof(a),
			 (uint64_t)((double)(s->bytes_read - b->bytes_read) / seconds)),
	     100.0 * (double)(s->read_busy_ns - b->read_busy_ns) / 1e9 / seconds,
	     100.0 * (double)(s->stall_ns - b->stall_ns) / 1e9 / seconds);
}

static void draw_rest(const struct top *t, unsigned columns, FILE *out)
{
	const struct sluice_status_info *s = &t->now.status;
	uint64_t drafted = drafts_drafted(&s->spec);
	char a[32];

	if (drafted)
		line(out, columns, LABEL "%.0f %% of %" PRIu64 " were right, gain %.2f", "drafts",
		     100.0 * (double)drafts_accepted(&s->spec) / (double)drafted, drafted,
		     drafts_gain(&s->spec));
	for (uint32_t i = 0; i < s->n_nodes && i < SLUICE_STATUS_NODES; i++)
		line(out, columns, "node %-5d%.1f %% of every expert, %s, %u threads",
		     s->nodes[i].node, s->nodes[i].share_ppm / 1e4,
		     size_format(a, sizeof(a), s->nodes[i].arena_bytes), s->nodes[i].workers);
	for (const char *f = t->now.fallbacks; *f;) {
		size_t n = strcspn(f, "\n");

		line(out, columns, LABEL "%.*s", "fallback", (int)n, f);
		f += n + (f[n] == '\n');
	}
}

void top_draw(const struct top *t, unsigned columns, FILE *out)
{
	const struct top_look *b = &t->before;
	/* the first look tells of all the time before it */
	double seconds = b->ns ? (double)(t->now.ns - b->ns) / 1e9
			       : (double)t->now.status.uptime_ns / 1e9;

	seconds = seconds > 0.001 ? seconds : 0.001;
	draw_head(&t->now.status, columns, out);
	draw_speed(t, seconds, columns, out);
	draw_latency(t, columns, out);
	draw_tiers(t, seconds, columns, out);
	draw_rest(t, columns, out);
}
