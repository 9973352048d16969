/* SPDX-License-Identifier: MIT */
/*
 * Description: plan_make() on machines of any size: nothing known, too small, small, huge, several
 * nodes. The sum of its parts fits the machine, the largest context is the largest that it accepts,
 * a class of slots is what residency cuts, and the scratch is what the decoder and its samplers take
 * from the allocator.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "engine/sampler.h"
#include "engine/step.h"
#include "engine/team.h"
#include "kernels/cpu/fops.h"
#include "plan/plan.h"
#include "tests/unit/data.h"

#define DEMO "models/demo-moe-q4_k_m.gguf"
#define MIB  (1ull << 20)
#define GIB  (1ull << 30)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_ALLOCATOR 0 /* mallinfo2() knows nothing of the sanitizer's */
#else
#define OWN_ALLOCATOR 1
#endif

static struct model *model;

static int open_model(void **state)
{
	struct err err = { { 0 } };

	(void)state;
	if (model_open(DEMO, &model, &err))
		fail_msg("%s", err.text);
	return 0;
}

static int close_model(void **state)
{
	(void)state;
	model_destroy(model);
	return 0;
}

static struct plan_machine of_room(uint64_t room)
{
	struct plan_machine m = { .cores = 4, .align = 4096 };

	m.limits = (struct limits){ .machine_bytes = room,
				    .available_bytes = room,
				    .limit_bytes = room,
				    .room_bytes = room,
				    .huge_room_bytes = LIMITS_UNKNOWN,
				    .cpus = 4 };
	snprintf(m.limits.memory_from, sizeof(m.limits.memory_from), "machine");
	return m;
}

static struct plan_options defaults(void)
{
	return (struct plan_options){ .ops = &cpu_ops_scalar };
}

static struct plan make(const struct plan_options *o, const struct plan_machine *m)
{
	struct err err = { { 0 } };
	struct plan p;

	if (plan_make(model, o, m, &p, &err))
		fail_msg("refused: %s", err.text);
	return p;
}

static void test_huge(void **state)
{
	struct plan_machine m = of_room(4096 * GIB);
	struct plan_options o = defaults();
	struct plan p = make(&o, &m);

	(void)state;
	assert_int_equal(p.memory.budget_bytes, p.memory.budget_all_bytes);
	assert_int_equal(p.memory.n_ctx, 16384);
	assert_int_equal(p.memory.n_parallel, 4);
	assert_int_equal(p.memory.threads, 4);
	assert_int_equal(p.n_contexts, 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(p.contexts[i].n_ctx, PLAN_MOST_CTX);
	assert_int_equal(p.tiers[PLAN_DISK].bytes_per_token, 0);
	assert_true(p.tokens_per_s == 0); /* no rate is known */
	plan_fini(&p);
	m.memory_bytes_per_s = 1e9;
	p = make(&o, &m);
	assert_true(p.tokens_per_s > 1e9 / (double)p.tiers[PLAN_HOST].bytes_per_token * 0.999);
	plan_fini(&p);
}

/* Every size that is accepted holds what was planned for it; the rest is refused with both numbers. */
static void test_any_size(void **state)
{
	unsigned accepted = 0, refused = 0;

	(void)state;
	for (uint64_t room = MIB; room < 200 * MIB; room += 3 * MIB) {
		struct plan_machine m = of_room(room);
		struct plan_options o = defaults();
		struct err err = { { 0 } };
		struct plan p;

		if (plan_make(model, &o, &m, &p, &err)) {
			refused++;
			assert_non_null(strstr(err.text, "this process may take"));
			assert_non_null(strstr(err.text, "but"));
			continue;
		}
		accepted++;
		assert_true(p.tiers[PLAN_HOST].bytes + p.memory.margin_bytes <= room);
		assert_true(p.memory.budget_bytes >= p.memory.budget_least_bytes);
		assert_true(p.memory.n_reasons > 0);
		plan_fini(&p);
	}
	assert_true(accepted > 10 && refused > 5);
}

static void test_unknown(void **state)
{
	struct plan_machine m = of_room(LIMITS_UNKNOWN);
	struct plan_options o = defaults();
	struct plan p = make(&o, &m);

	(void)state;
	assert_int_equal(p.memory.room_bytes, LIMITS_ASSUME_MOST);
	assert_int_equal(p.n_contexts, 0);
	assert_non_null(strstr(p.memory.reasons[p.memory.n_reasons - 1], "is unknown"));
	plan_fini(&p);
}

/* The largest context is accepted, with the slack of advice gone as well; one block more then is not. */
static void test_largest_context(void **state)
{
	struct plan_machine m = of_room(128 * MIB), less = of_room(124 * MIB);
	struct plan_options o = defaults();
	struct err err = { { 0 } };
	struct plan p = make(&o, &m), q;

	(void)state;
	for (uint32_t i = 0; i < p.n_contexts; i++) {
		o.n_parallel = i + 1;
		o.n_ctx = p.contexts[i].n_ctx;
		assert_true(o.n_ctx > 0 && o.n_ctx < PLAN_MOST_CTX);
		q = make(&o, &m);
		assert_int_equal(q.memory.n_ctx, o.n_ctx);
		plan_fini(&q);
		q = make(&o, &less);
		assert_int_equal(q.memory.n_ctx, o.n_ctx);
		plan_fini(&q);
		o.n_ctx += KV_BLOCK;
		assert_int_equal(plan_make(model, &o, &less, &q, &err), -ENOSPC);
	}
	plan_fini(&p);
}

static void test_budgets(void **state)
{
	struct plan_machine m = of_room(8 * GIB);
	struct plan_options o = defaults();
	struct plan p = make(&o, &m);
	uint64_t least = p.memory.budget_least_bytes, all = p.memory.budget_all_bytes;
	uint64_t routed = model->routed_bytes_per_token;
	struct err err = { { 0 } };

	(void)state;
	plan_fini(&p);
	for (unsigned percent = 10; percent <= 100; percent += 10) {
		o.budget_percent = percent;
		p = make(&o, &m);
		assert_true(p.memory.budget_bytes <= all / 100.0 * percent + 1);
		assert_true(p.memory.budget_bytes > all / 100.0 * percent - 200000);
		assert_true(p.tiers[PLAN_DISK].bytes_per_token <=
			    routed - routed * 0.99 * percent / 100 + routed * 0.05);
		plan_fini(&p);
	}
	o.budget_percent = 0;
	o.host_budget = least;
	p = make(&o, &m);
	assert_int_equal(p.memory.budget_bytes, least);
	for (uint32_t i = 0; i < p.memory.n_classes; i++)
		assert_int_equal(p.memory.classes[i].slots, p.memory.classes[i].least);
	plan_fini(&p);
	o.host_budget = least - 1;
	assert_int_equal(plan_make(model, &o, &m, &p, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "--host-budget"));
}

static void test_nodes(void **state)
{
	struct plan_machine m = of_room(8 * GIB);
	struct plan_options o = defaults();
	uint32_t rows = 0;
	struct plan p;

	(void)state;
	for (int i = 0; i < 2; i++)
		m.nodes[m.n_nodes++] =
			(struct plan_node){ .cpus = 2,
					    .memory = { .id = i,
							.free_bytes = 4 * GIB,
							.peak_bytes_per_s = i ? 50e9 : 150e9,
							.in_use = -1 } };
	p = make(&o, &m);
	assert_int_equal(p.memory.split.n, 2);
	for (uint32_t i = 0; i < 2; i++)
		rows += p.memory.split.share[i];
	assert_int_equal(rows, NODES_SHARE);
	assert_true(p.memory.split.share[0] > 2 * p.memory.split.share[1]);
	plan_fini(&p);
	o.numa = -1;
	p = make(&o, &m);
	assert_int_equal(p.memory.split.n, 1);
	plan_fini(&p);
	o.numa = 0;
	o.threads = 100; /* more than CPUs: pinned nowhere */
	p = make(&o, &m);
	plan_fini(&p);
}

/* Bytes that the allocator has given out. */
static uint64_t allocated(void)
{
	struct mallinfo2 i = mallinfo2();

	return i.uordblks + i.hblkhd;
}

/* Of the scratch what is not the threads' stacks, against what is really taken. */
static void check_scratch(const char *path, unsigned threads, uint32_t n_batch, uint32_t n_parallel)
{
	struct plan_machine m = of_room(64 * GIB);
	struct plan_options o = { .threads = threads,
				  .n_batch = n_batch,
				  .n_parallel = n_parallel,
				  .ops = &cpu_ops_scalar };
	struct decoder_config d = { .ops = o.ops, .fops = float_ops_get(o.ops->level) };
	struct sampler samplers[8];
	uint32_t *ids[8];
	struct decoder *decoder;
	struct err err = { { 0 } };
	struct model *own;
	uint64_t before, taken, planned;
	struct team *team;
	struct plan p;

	assert_int_equal(model_open(path, &own, &err), 0);
	assert_int_equal(plan_make(own, &o, &m, &p, &err), 0);
	assert_int_equal(team_create(threads, false, &team, NULL), 0);
	d.model = own;
	d.team = team;
	d.split = p.memory.split;
	d.max_tokens = p.memory.n_batch;
	d.max_logits = p.memory.max_logits;
	before = allocated();
	assert_int_equal(decoder_create(&d, &decoder, &err), 0);
	for (uint32_t i = 0; i < n_parallel; i++) {
		assert_int_equal(sampler_init(&samplers[i], own->n_vocab), 0);
		ids[i] = malloc(align_up(p.memory.n_ctx, KV_BLOCK) * sizeof(*ids[i]));
		assert_non_null(ids[i]);
	}
	taken = allocated() - before;
	assert_int_equal(p.memory.form_bytes, 64 * MIB);
	planned = p.memory.scratch_bytes - p.memory.spec_bytes - p.memory.form_bytes -
		  threads * (2 * MIB);
	/* beside the buffers: their alignment, the allocator's pages and the structs that point there */
	if (OWN_ALLOCATOR && (taken < planned || taken > planned + (64 << 10)))
		fail_msg("%s: %llu bytes are taken, planned are %llu", path,
			 (unsigned long long)taken, (unsigned long long)planned);
	for (uint32_t i = 0; i < n_parallel; i++) {
		sampler_fini(&samplers[i]);
		free(ids[i]);
	}
	decoder_destroy(decoder);
	team_destroy(team);
	plan_fini(&p);
	model_destroy(own);
}

/* A GPU's memory and link out of a snapshot: the largest one's, and that of the one that is asked for. */
static void test_gpus(void **state)
{
	static struct telemetry_sample s;
	struct plan_machine machine;
	double capacity, in_use;
	struct telemetry_gpu *g;
	struct telemetry_pci *p;

	(void)state;
	telemetry_sample_init(&s);
	assert_false(plan_link(&s.state, "0000:01:00.0", &capacity, &in_use));
	for (unsigned i = 0; i < 2; i++) {
		g = telemetry_gpu_add(&s.state);
		snprintf(g->bdf, sizeof(g->bdf), "0000:0%u:00.0", i + 1);
		g->memory_total_bytes = (uint64_t)(24 + 8 * i) << 30;
	}
	assert_false(
		plan_link(&s.state, "0000:01:00.0", &capacity, &in_use)); /* what goes over it? */
	s.state.gpus[0].rx_bytes_per_s = 5000000000;
	assert_true(plan_link(&s.state, "0000:01:00.0", &capacity, &in_use));
	assert_true(in_use == 5e9 && capacity == 0);
	p = telemetry_pci_at(&s.state, "0000:01:00.0");
	p->bandwidth_bytes_per_s = 31500000000;
	assert_true(plan_link(&s.state, "0000:01:00.0", &capacity, &in_use));
	assert_true(in_use == 5e9 && capacity == 31.5e9);
	assert_false(plan_link(&s.state, "0000:02:00.0", &capacity, &in_use));
	plan_machine_nodes(&s.state, &machine);
	assert_int_equal(machine.vram_bytes, (uint64_t)32 << 30);
}

static void test_scratch(void **state)
{
	static const char *const families[] = { "qwen3moe/qwen3moe-q2_k.gguf",
						"deepseek2/deepseek2-q4_k_m.gguf",
						"gemma4/gemma4-q4_k_m.gguf",
						"gpt-oss/gpt-oss-mxfp4.gguf" };
	char path[DATA_PATH];

	(void)state;
	check_scratch(DEMO, 1, 512, 4);
	check_scratch(DEMO, 3, 64, 1);
	check_scratch(DEMO, 2, 2048, 8);
	for (unsigned i = 0; i < ARRAY_LEN(families); i++)
		if (data_find(families[i], path))
			check_scratch(path, 2, 256, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_huge),	cmocka_unit_test(test_any_size),
		cmocka_unit_test(test_unknown), cmocka_unit_test(test_largest_context),
		cmocka_unit_test(test_budgets), cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_gpus),	cmocka_unit_test(test_scratch),
	};

	return cmocka_run_group_tests(tests, open_model, close_model);
}
