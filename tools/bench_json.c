/* SPDX-License-Identifier: MIT */
/*
 * tools/bench_json.c: rows of `sluice bench` as JSON and, of the same fields, as CSV. Names and order follow
 * llama-bench where it has the field, so that its readers work; ours come behind. One thread.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "tools/bench.h"
#include "tools/bench_figures.h"
#include "tools/drafts.h"
#include "tools/input.h"

static json_t *samples(const struct bench_row *r, bool ns)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < r->n_samples; i++)
		json_array_append_new(array, ns ? json_integer((json_int_t)r->samples_ns[i])
						: json_real(bench_sample_ts(r, i)));
	return array;
}

static void put_int(json_t *o, const char *name, uint64_t value)
{
	json_object_set_new(o, name, json_integer((json_int_t)value));
}

static void put_real(json_t *o, const char *name, double value)
{
	json_object_set_new(o, name, json_real(value));
}

/* In every row, so that a table of them has one width; null where there is no such share. */
static void put_share(json_t *o, const char *name, double value, double peak)
{
	json_object_set_new(o, name, peak > 0 ? json_real(value / peak) : json_null());
}

static json_t *reals(const double *values, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, json_real(values[i]));
	return array;
}

/* In every row; null where no drafts were handed in. */
static void put_oracle(json_t *o, const struct bench_row *r)
{
	const struct bench_columns *c = r->columns;
	unsigned length = 0;
	double most = c ? bench_most(c, r->oracle, &length) : 1;

	json_object_set_new(o, "speedup", c ? json_real(bench_reached(r)) : json_null());
	json_object_set_new(o, "speedup_possible", c ? json_real(most) : json_null());
	json_object_set_new(o, "speedup_share",
			    c ? json_real(bench_reached(r) / most) : json_null());
	json_object_set_new(o, "best_length", c ? json_integer(length) : json_null());
	json_object_set_new(o, "routed_share", c ? json_real(c->routed_share) : json_null());
	json_object_set_new(o, "column_cost", reals(c ? c->cost : NULL, c ? SLUICE_COLUMNS : 0));
	json_object_set_new(o, "column_experts",
			    reals(c ? c->experts : NULL, c ? SLUICE_COLUMNS : 0));
}

/* Scalars, as CSV takes them too. */
static void put_spec(json_t *o, const struct bench_row *r)
{
	const struct sluice_spec_counts *c = &r->spec;

	json_object_set_new(o, "spec_oracle", r->oracle < 0 ? json_null() : json_real(r->oracle));
	put_int(o, "drafted", drafts_drafted(c));
	put_int(o, "accepted", drafts_accepted(c));
	put_real(o, "columns_per_step", c->steps ? (double)c->columns / (double)c->steps : 1);
	put_real(o, "tokens_per_step", c->steps ? (double)c->tokens / (double)c->steps : 1);
	put_real(o, "drafts_gain", drafts_gain(c));
	put_oracle(o, r);
}

/* Reads ahead of layers: null where no layer was guessed at. */
static void put_ahead(json_t *o, const struct bench_row *r)
{
	const struct sluice_predict_counts *p = &r->ahead;

	put_int(o, "predicted_reads", p->reads);
	put_int(o, "predicted_useful", p->useful);
	put_int(o, "predicted_late", p->late);
	put_int(o, "predicted_wasted", p->wasted);
	put_int(o, "predicted_wasted_bytes", p->wasted_bytes);
	json_object_set_new(o, "predicted_recall",
			    p->uses ? json_real((double)p->foreseen / (double)p->uses)
				    : json_null());
}

static void put_known(json_t *o, const char *name, double value)
{
	json_object_set_new(o, name, value >= 0 ? json_real(value) : json_null());
}

/* In every row; null where there is no device, or nothing to tell. */
static void put_device(json_t *o, const struct device_seen *d)
{
	const struct sluice_status_device *v = &d->device;
	const struct {
		const char *name;
		uint64_t value;
	} counts[] = {
		{ "device_vram_bytes", v->vram_bytes },	 { "device_slots", v->slots },
		{ "device_resident", v->resident },	 { "device_hits", v->hits },
		{ "device_misses", v->misses },		 { "device_fills", v->fills },
		{ "device_fill_bytes", v->fill_bytes },	 { "device_launches", v->launches },
		{ "device_fill_stops", d->fills.stops },
	};

	json_object_set_new(o, "device",
			    v->name[0] ? input_json_text(v->name, strlen(v->name)) : json_null());
	json_object_set_new(o, "device_state",
			    v->name[0] ? input_json_text(v->state, strlen(v->state)) : json_null());
	for (unsigned i = 0; i < ARRAY_LEN(counts); i++)
		json_object_set_new(o, counts[i].name,
				    v->name[0] ? json_integer((json_int_t)counts[i].value)
					       : json_null());
	put_known(o, "device_hit_rate", device_seen_hit_rate(d));
	put_known(o, "device_link_gbs", device_seen_link_gbs(d));
	put_known(o, "device_handoff_us", device_seen_handoff_us(d));
	put_known(o, "device_overlap", device_seen_overlap(d));
}

static json_t *row_json(const struct bench_report *b, const struct bench_row *r)
{
	json_t *o = json_object();
	char type[96];

	snprintf(type, sizeof(type), "%s %s", b->model.arch, bench_file_type(b->model.file_type));
	input_put_text(o, "build_commit", b->status.version);
	input_put_text(o, "cpu_info", b->cpu);
	input_put_text(o, "backends", bench_backend(r));
	input_put_text(o, "model_filename", b->path);
	input_put_text(o, "model_type", type);
	put_int(o, "model_size", b->model.dense_bytes + b->model.expert_bytes_total);
	put_int(o, "model_n_params", b->model.n_params);
	put_int(o, "n_batch", b->status.n_batch);
	put_int(o, "n_threads", b->status.threads);
	input_put_text(o, "type_k", b->status.kv);
	input_put_text(o, "type_v", b->status.kv);
	put_int(o, "n_prompt", r->n_prompt);
	put_int(o, "n_gen", r->n_gen);
	put_int(o, "n_depth", r->n_depth);
	input_put_text(o, "test_time", r->test_time);
	put_int(o, "avg_ns", (uint64_t)bench_mean(r, true));
	put_int(o, "stddev_ns", (uint64_t)bench_deviation(r, true));
	put_real(o, "avg_ts", bench_mean(r, false));
	put_real(o, "stddev_ts", bench_deviation(r, false));
	json_object_set_new(o, "samples_ns", samples(r, true));
	json_object_set_new(o, "samples_ts", samples(r, false));
	input_put_text(o, "tokens", b->text ? "text" : "random");
	input_put_text(o, "cpu", b->status.cpu);
	input_put_text(o, "io", b->status.io);
	input_put_text(o, "arena", b->status.arena);
	input_put_text(o, "policy", b->status.policy);
	put_int(o, "budget_bytes", b->status.budget_bytes);
	put_real(o, "hit_ratio", bench_hit_ratio(r));
	put_real(o, "miss_bytes_per_token", bench_miss_bytes(r));
	put_real(o, "memory_bytes_per_token", (double)b->model.active_bytes_per_token);
	put_real(o, "stall_seconds", (double)r->stall_ns / 1e9);
	put_real(o, "read_gbs", bench_read_gbs(r));
	put_real(o, "memory_gbs", bench_memory_gbs(b, r));
	put_real(o, "sequence_bytes_per_token", bench_sequence_bytes(b, r));
	put_real(o, "gmadds", bench_gmadds(b, r));
	put_share(o, "gmadds_share_of_peak", bench_gmadds(b, r), b->peaks.gmadds);
	put_share(o, "read_share_of_peak", bench_read_gbs(r), b->peaks.disk_gbs);
	put_share(o, "memory_share_of_peak", bench_memory_gbs(b, r),
		  r->n_gen ? b->peaks.memory_gbs : 0);
	put_spec(o, r);
	put_ahead(o, r);
	put_device(o, &r->device);
	return o;
}

int bench_print_json(const struct bench_report *b)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < b->n_rows; i++)
		json_array_append_new(array, row_json(b, b->rows[i]));
	return input_print_json(array, true);
}

static void print_quoted(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		if (*text == '"')
			putchar('"');
		putchar(*text);
	}
	putchar('"');
}

/* The scalars of the JSON rows: one list of fields for both. */
int bench_print_csv(const struct bench_report *b)
{
	for (unsigned i = 0; i < b->n_rows; i++) {
		json_t *o = row_json(b, b->rows[i]), *v;
		const char *key, *comma = "";
		char number[64];

		if (!o)
			return -ENOMEM;
		for (int line = i ? 1 : 0; line < 2; line++, comma = "") {
			json_object_foreach(o, key, v)
			{
				if (json_is_array(v))
					continue;
				number[0] = '\0'; /* null: an empty cell */
				if (json_is_integer(v))
					snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
						 json_integer_value(v));
				else if (json_is_real(v))
					snprintf(number, sizeof(number), "%.9g",
						 json_real_value(v));
				fputs(comma, stdout);
				print_quoted(!line		 ? key
					     : json_is_string(v) ? json_string_value(v)
								 : number);
				comma = ",";
			}
			putchar('\n');
		}
		json_decref(o);
	}
	return 0;
}
