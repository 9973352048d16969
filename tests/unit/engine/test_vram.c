/* SPDX-License-Identifier: MIT */
/*
 * Description: what lies in a device's slots: the daemon's own code under a scripted clock and link counts exactly
 * what the simulator counts on the same trace: hits, fills, their bytes, stops, gain and time; over a link that
 * was measured far too slow a token still brings an expert.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "device/device_private.h"
#include "engine/vram.h"
#include "tests/unit/engine/engine_rig.h"
#include "tests/unit/engine/supply_rig.h"
#include "trace/sim.h"

#define EXPERTS 512

/* ---- a device that is a link and a clock ---- */

static struct script {
	struct device base;
	double now_ns, free_ns; /* the clock; when the link has carried all so far */
	double link;		/* bytes per second */
	uint64_t at_ns[DEVICE_FILLS], asked, done, bytes;
} script;

static int script_fill(struct device *d, const struct device_fill *fill, struct err *err)
{
	const uint64_t bytes = d->c.model->layers[fill->layer].experts.bytes;
	uint64_t carried = 0;

	for (uint32_t i = 0; i < fill->n; i++)
		carried += fill->piece[i].bytes;
	assert_int_equal(carried, bytes);
	script.free_ns = script.free_ns < script.now_ns ? script.now_ns : script.free_ns;
	script.free_ns += (double)bytes / script.link * 1e9;
	script.at_ns[script.asked++ % DEVICE_FILLS] = (uint64_t)script.free_ns;
	script.bytes += bytes;
	return 0;
}

static int script_fills_done(struct device *d, uint64_t *ret_n, struct err *err)
{
	while (script.done < script.asked &&
	       (double)script.at_ns[script.done % DEVICE_FILLS] <= script.now_ns)
		script.done++;
	*ret_n = script.done;
	return 0;
}

static int script_publish(struct device *d, struct err *err)
{
	return 0;
}

static const struct device_ops script_ops = { .fill = script_fill,
					      .fills_done = script_fills_done,
					      .publish = script_publish };

/* ---- the daemon's side ---- */

static struct engine_rig all; /* model and disk; no engine */
static struct supply_rig host;
static struct vram *vram;

/* Slots as the simulator divided them; layers whose experts have one size share them. */
static void open_device(const struct sim_result *r)
{
	struct device_plan *p = &script.base.plan;
	const struct model *m = all.model;

	memset(&script, 0, sizeof(script));
	script.base.ops = &script_ops;
	script.base.c.model = m;
	script.base.fills = DEVICE_FILLS;
	script.now_ns = 1;
	p->classes = calloc(m->n_layers, sizeof(*p->classes));
	p->class_of_layer = calloc(m->n_layers, sizeof(*p->class_of_layer));
	for (uint32_t i = 0; i < m->n_layers; i++) {
		uint32_t k = 0, first = 0;

		while (first < i && m->layers[first].experts.bytes != m->layers[i].experts.bytes)
			first++;
		k = first < i ? p->class_of_layer[first] : p->n_classes++;
		p->class_of_layer[i] = k;
		p->classes[k].slots = r->classes[k].slots;
		p->classes[k].experts += m->n_expert;
		p->classes[k].slot_bytes = align_up(m->layers[i].experts.bytes, 256);
	}
	assert_int_equal(p->n_classes, r->n_classes);
	script.base.table = device_new_table(m);
}

static void load_host(void)
{
	const uint32_t n = all.model->n_layers * all.model->n_expert;

	for (uint32_t id = 0; id < n; id++) {
		assert_int_equal(residency_load(host.residency, id, READ_DEMAND), 0);
		while (!residency_landed(host.residency, id))
			usleep(20);
		residency_settle(host.residency);
		residency_unpin(host.residency, TIER_HOST, id);
	}
}

static void open_daemon(const struct sim_options *o, const struct sim_result *r, bool had_more)
{
	struct vram_config c = { .model = all.model,
				 .device = &script.base,
				 .split = node_split_one(),
				 .policy = "vram",
				 .bytes_per_s = o->device_rate,
				 .experts_per_layer = o->device_fills };

	memset(&host, 0, sizeof(host));
	supply_open(&host, all.model, &all.disk, 1, 4, NULL);
	open_device(r);
	for (uint32_t k = 0; k < r->n_classes; k++)
		script.base.plan.classes[k].slots += had_more ? 5 : 0;
	script.link = o->device.link;
	c.residency = host.residency;
	assert_int_equal(vram_create(&c, &vram, NULL), 0);
	for (uint32_t k = 0; k < r->n_classes && had_more; k++) {
		assert_int_equal(vram_withdraw(vram, k, (uint32_t)r->classes[k].slots), 0);
		script.base.plan.classes[k].slots = r->classes[k].slots;
	}
	vram_set_rates(vram, &o->device);
	load_host();
}

static void close_daemon(void)
{
	script.now_ns = 1e18; /* whatever is under way has ended */
	assert_true(vram_drain(vram, 0));
	vram_destroy(vram);
	free(script.base.table);
	device_plan_fini(&script.base.plan);
	supply_close(&host);
}

/* The rows from @at on that are one layer's of one step. */
struct group {
	uint32_t ids[EXPERTS], counts[EXPERTS], n, tokens;
	size_t end;
};

static void gather(const struct route_trace *t, size_t at, struct group *ret)
{
	const struct trace_row *first = &t->rows[at];

	ret->n = ret->tokens = 0;
	for (;
	     at < t->n_rows && t->rows[at].step == first->step && t->rows[at].layer == first->layer;
	     at++, ret->tokens++)
		for (uint32_t k = 0; k < t->rows[at].n; k++) {
			const uint32_t id =
				first->layer * t->n_expert + t->uses[t->rows[at].first + k].expert;
			uint32_t i = 0;

			while (i < ret->n && ret->ids[i] != id)
				i++;
			ret->ids[i] = id;
			ret->counts[i] = i < ret->n ? ret->counts[i] + 1 : 1;
			ret->n += i == ret->n;
		}
	ret->end = at;
}

struct seen {
	uint64_t hits, misses;
	double decode_ns;
};

/* A layer as step.c and supply have it: the policy is told, what is in slots is a hit, time passes. */
static void run_layer(const struct group *g, const struct trace_row *row, double fills,
		      bool decodes, const struct layer_rates *rates, struct seen *seen)
{
	const double bytes = (double)all.model->layers[row->layer].experts.bytes;
	struct layer_load load = { .fills = fills };
	double ns;

	for (uint32_t i = 0; i < g->n; i++) {
		const bool hit = residency_state(host.residency, TIER_DEVICE, g->ids[i]) ==
				 COPY_PRESENT;

		assert_int_equal(hit, script.base.table[g->ids[i]] != DEVICE_NO_SLOT);
		load.hits += hit ? bytes : 0;
		load.misses += hit ? 0 : bytes;
		seen->hits += hit;
		seen->misses += !hit;
	}
	vram_policy_ops(vram)->used(vram_policy(vram), row->step + 1, row->layer, g->ids, g->counts,
				    g->n);
	ns = layer_time_ns(rates, &load);
	script.now_ns += ns;
	seen->decode_ns += decodes ? ns : 0;
}

static void run_daemon(const struct route_trace *t, const struct sim_options *o, struct seen *seen)
{
	struct group g;
	double fills = 0;
	bool decodes = false;

	memset(seen, 0, sizeof(*seen));
	for (size_t at = 0; at < t->n_rows; at = g.end) {
		const bool begins = !at || t->rows[at].step != t->rows[at - 1].step;
		const uint64_t before = script.bytes;

		gather(t, at, &g);
		if (begins) {
			assert_int_equal(
				vram_boundary(vram, g.tokens, (uint64_t)script.now_ns, NULL), 0);
			vram_issue_all(vram);
			fills = (double)(script.bytes - before) / all.model->n_layers;
			decodes = g.tokens <= POLICY_DECODE_TOKENS;
		}
		run_layer(&g, &t->rows[at], fills, decodes, &o->device, seen);
	}
}

/* ---- traces ---- */

static uint32_t random_state;

static uint32_t below(uint32_t n)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)random_state * n >> 32);
}

/* Experts of one token: a few are liked, others @seldom in 16 of the time; who is liked changes. */
static void write_row(FILE *f, char phase, uint32_t layer, uint32_t pos, uint32_t turn,
		      uint32_t seldom)
{
	const uint32_t n = all.model->n_expert, n_used = all.model->n_expert_used;
	uint8_t used[EXPERTS] = { 0 };

	fprintf(f, "%c %u 0 %u", phase, layer, pos);
	for (uint32_t i = 0; i < n_used;) {
		const uint32_t a = below(n), b = below(a + 1);
		const uint32_t e = below(16) < seldom ? a : (b * 5 + layer * 7 + turn) % n;

		if (used[e])
			continue;
		used[e] = 1;
		fprintf(f, " %u", e);
		i++;
	}
	fputc('\n', f);
}

/* Prompts and answers in turn; the last part is drawn by lot, so that fills do not pay. */
static struct route_trace *make_trace(void)
{
	const struct model *m = all.model;
	char path[] = "/tmp/sluice-test-XXXXXX";
	FILE *f = fdopen(mkstemp(path), "w");
	struct route_trace *t;
	uint32_t pos = 0;

	assert_non_null(f);
	assert_true(m->n_expert <= EXPERTS);
	random_state = 11;
	fprintf(f, "route_trace v1\ngeometry %u %u %u\n", m->n_layers, m->n_expert,
		m->n_expert_used);
	for (uint32_t i = 0; i < m->n_layers; i++)
		fprintf(f, "layer %u expert_bytes=%llu\n", i,
			(unsigned long long)m->layers[i].experts.bytes);
	fprintf(f, "data\n");
	for (uint32_t step = 0; step < 900; step++) {
		const bool prompt = step % 150 == 0;
		const uint32_t tokens = prompt ? 24 : 1, seldom = step < 450 ? 3 : 16;

		fprintf(f, "step %u\n", step);
		for (uint32_t layer = 0; layer < m->n_layers; layer++)
			for (uint32_t i = 0; i < tokens; i++)
				write_row(f, prompt ? 'p' : 'd', layer, pos + i, step / 150,
					  seldom);
		pos += tokens;
	}
	fclose(f);
	assert_int_equal(trace_read(path, &t, NULL), 0);
	unlink(path);
	return t;
}

/* ---- tests ---- */

static int setup(void **state)
{
	rig_open(&all);
	return 0;
}

static int teardown(void **state)
{
	rig_close(&all);
	return 0;
}

/* @had_more: the device began with more slots, which went to sequences. */
static void compare(const struct route_trace *t, const struct sim_options *o, bool had_more,
		    struct sim_result *ret)
{
	const struct vram_counters *c;
	struct err err = { { 0 } };
	struct seen seen;

	if (sim_run(t, o, ret, &err))
		fail_msg("%s", err.text);
	open_daemon(o, ret, had_more);
	run_daemon(t, o, &seen);
	c = vram_counters(vram);
	print_message("%u slots, %g a layer: hit rate %.2f %%, %llu fills, %llu stops, gain %.4f\n",
		      ret->slots, o->device_fills, 100 * sim_hit_rate(&ret->all),
		      (unsigned long long)ret->fills, (unsigned long long)ret->stops,
		      ret->fill_gain);
	assert_int_equal(seen.hits, ret->all.hits);
	assert_int_equal(seen.misses, ret->all.misses);
	assert_int_equal(script.asked, ret->fills);
	assert_int_equal(script.bytes, ret->fill_bytes);
	assert_int_equal(atomic_load(&c->stops), ret->stops);
	assert_int_equal(atomic_load(&c->stopped), !ret->fills_on);
	assert_int_equal(atomic_load(&c->gain_ppm), (int64_t)(ret->fill_gain * 1e6));
	assert_true(seen.decode_ns == ret->decode_ns);
	close_daemon();
}

/* Every counter, for three sizes and three budgets, over links that keep up and that do not. */
static void test_exact(void **state)
{
	static const double shares[] = { 0.07, 0.1, 0.25 }, fills[] = { 0.25, 0.5, 1 };
	const struct layer_rates rates[] = {
		{ .fixed_ns = 160e3, .cpu = 2e9, .memory = 3e9, .link = 25e9 },
		{ .fixed_ns = 20e3, .cpu = 1e9, .link = 2e8 },
	};
	struct route_trace *t = make_trace();
	uint64_t stops = 0;

	for (int i = 0; i < 18; i++) {
		struct sim_options o = { .policy = "vram",
					 .slots = (uint32_t)(shares[i / 6] * t->n_layers *
							     t->n_expert),
					 .device_fills = fills[i / 2 % 3],
					 .device = rates[i % 2],
					 .device_rate = i % 3 ? 0 : 200000000,
					 .device_control = true };
		struct sim_result r;

		compare(t, &o, i % 4 == 1, &r);
		assert_true(r.fills > r.slots && r.all.hits);
		stops += r.stops;
	}
	assert_true(stops); /* so that they were compared */
	route_trace_destroy(t);
}

/* Slots that sequences give back lie empty: fills that had stopped go on. */
static void test_back(void **state)
{
	const struct sim_options o = { .policy = "vram",
				       .slots = 32,
				       .device_fills = 0.5,
				       .device = { .fixed_ns = 20e3, .cpu = 1e9, .link = 2e8 },
				       .device_control = true };
	struct route_trace *t = make_trace();
	const struct vram_counters *c;
	struct sim_result r;
	struct seen seen;
	uint64_t asked;

	assert_int_equal(sim_run(t, &o, &r, NULL), 0);
	open_daemon(&o, &r, false);
	run_daemon(t, &o, &seen);
	c = vram_counters(vram);
	assert_true(atomic_load(&c->stopped));
	script.now_ns += 1e9;
	asked = script.asked;
	assert_int_equal(vram_boundary(vram, 1, (uint64_t)script.now_ns, NULL), 0);
	assert_int_equal(script.asked, asked);
	script.base.plan.classes[0].slots += 4;
	vram_grew(vram, 0);
	assert_int_equal(vram_boundary(vram, 1, (uint64_t)script.now_ns, NULL), 0);
	vram_issue_all(vram);
	assert_false(atomic_load(&c->stopped));
	assert_true(script.asked > asked);
	close_daemon();
	route_trace_destroy(t);
}

/* Of an expert whose rows several nodes share a piece for each, a slot's every row from the node that has it. */
static void test_pieces(void **state)
{
	static uint8_t nodes[NODES_SPLIT]; /* only where they are counts */
	const struct layer *l = &all.model->layers[0];
	struct device_slot slot;
	uint32_t most = 0;

	device_slot_layout(l, &slot);
	for (uint32_t n = 1; n <= NODES_SPLIT; n++) {
		struct node_split split = { .n = n };
		struct device_fill fill = { .n = 0 };
		struct expert_view view;
		uint64_t bytes = 0;
		uint32_t at = 0;

		for (uint32_t i = 0; i < n; i++)
			split.share[i] = NODES_SHARE / n;
		split.share[n - 1] += NODES_SHARE % n;
		/* as far from each other as they like: an address says which node and row it is */
		for (int k = 0; k < EXPERT_MATRIX_NR; k++)
			for (uint32_t i = 0; i < n; i++)
				view.at[k][i] = nodes + i;
		vram_pieces(l, &split, &view, &fill);
		for (int k = 0; k < EXPERT_MATRIX_NR; k++) {
			const uint64_t row = l->experts.matrix[k].row_bytes;
			const uint64_t whole = l->experts.matrix[k].n_out * row;
			uint64_t done = 0;

			for (; at < fill.n && done < whole; at++) {
				const ptrdiff_t off = (const uint8_t *)fill.piece[at].from - nodes;

				/* the same row there as here, of one node */
				assert_int_equal(fill.piece[at].at, slot.at[k] + done);
				assert_true((uint64_t)off - done < n);
				done += fill.piece[at].bytes;
			}
			assert_int_equal(done, whole);
			bytes += done;
		}
		assert_int_equal(at, fill.n);
		assert_int_equal(bytes, l->experts.bytes);
		most = fill.n > most ? fill.n : most;
	}
	assert_true(most > 2 * EXPERT_MATRIX_NR && most <= DEVICE_PIECES);
}

/* What was measured does not stop the measuring. */
static void test_floor(void **state)
{
	const uint64_t largest = all.model->layers[0].experts.bytes;
	const struct layer_rates slow = { .fixed_ns = 160e3, .cpu = 1e9, .link = 3e5 };
	const struct layer_rates none = { .fixed_ns = 160e3 };

	assert_true(layer_free_fills(&slow) * 4 < (double)largest);
	assert_int_equal(layer_token_fills(&slow, 4, 2 * largest, largest), largest);
	assert_int_equal(layer_token_fills(&none, 4, 2 * largest, largest), 2 * largest);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_exact),
					    cmocka_unit_test(test_back),
					    cmocka_unit_test(test_pieces),
					    cmocka_unit_test(test_floor) };

	return cmocka_run_group_tests(tests, setup, teardown);
}
