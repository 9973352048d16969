/* SPDX-License-Identifier: MIT */
/*
 * Description: the sampler: first sample at once, ten a second by its thread, whole snapshots for
 * readers in other threads, limits beside them, notes, an end without delay; without a thread, steps by a test's clock.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "common.h"
#include "telemetry/sampler.h"

static struct telemetry_snapshot snap;

static void test_steps(void **state)
{
	struct tree tree = tree_make("vm");
	struct telemetry_sampler_config config = { .telemetry = tree_config(&tree) };
	struct telemetry_sampler *s;
	struct err err = { { 0 } };
	uint64_t first = test_clock_ns;
	struct limits limits, own;

	assert_int_equal(telemetry_sampler_create(&config, &s, &err), 0);
	assert_int_equal(telemetry_sampler_count(s), 1);
	assert_int_equal(telemetry_sampler_get(s, &snap), 0);
	assert_int_equal(snap.updated_ns, first);
	assert_int_equal(snap.nodes[0].total_bytes, 24684096ull * 1024);
	assert_int_equal(snap.interval_ns, UNKNOWN);
	assert_int_equal(telemetry_sampler_limits(s, &limits), 0);
	limits_read(tree.root, &own);
	assert_int_equal(limits.machine_bytes, own.machine_bytes);
	assert_int_equal(limits.room_bytes, own.room_bytes);
	assert_string_equal(limits.memory_from, own.memory_from);
	test_clock_ns += 100 * MS;
	assert_int_equal(telemetry_sampler_get(s, &snap), 0);
	assert_int_equal(snap.updated_ns, first); /* nothing new yet */
	telemetry_sampler_step(s);
	assert_int_equal(telemetry_sampler_count(s), 2);
	assert_int_equal(telemetry_sampler_get(s, &snap), 0);
	assert_int_equal(snap.interval_ns, 100 * MS);
	assert_non_null(strstr(telemetry_sampler_note(s, 0), "sluice.ko is not loaded"));
	assert_non_null(telemetry_sampler_note(s, 1));
	assert_null(telemetry_sampler_note(s, 2)); /* said once, not once a sample */
	telemetry_sampler_destroy(s);
	tree_remove(&tree);
}

/* A source whose every value is the number of the sample: a torn copy shows. */
static int open_numbers(const struct telemetry_config *config, void **ret_state, struct err *err)
{
	static uint64_t n;

	n = 0;
	*ret_state = &n;
	return 0;
}

static int sample_numbers(void *state, uint64_t now, struct telemetry_sample *sample)
{
	uint64_t n = ++*(uint64_t *)state;

	for (int id = 0; id < NODES_KNOWN; id++) {
		struct telemetry_node *node = telemetry_node_at(&sample->state, id);

		node->total_bytes = node->free_bytes = node->numa_hit = n;
		telemetry_mark(&sample->state, TELEMETRY_GROUP_MEMORY, &node->memory,
			       TELEMETRY_NVML, now);
		telemetry_mark(&sample->state, TELEMETRY_GROUP_NUMASTAT, &node->numastat,
			       TELEMETRY_NVML, now);
	}
	return 0;
}

static void close_numbers(void *state)
{
}

static const struct telemetry_ops numbers = { TELEMETRY_NVML, open_numbers, sample_numbers,
					      close_numbers };
static const struct telemetry_ops *const extra[] = { &numbers };

static _Atomic bool stop;
static _Atomic unsigned copies, torn;

static void *read_all(void *arg)
{
	const struct telemetry_sampler *s = arg;
	struct telemetry_snapshot *mine = malloc(sizeof(*mine));
	uint64_t last = 0;

	while (mine && !atomic_load(&stop)) {
		if (telemetry_sampler_get(s, mine))
			continue;
		for (uint32_t i = 1; i < NODES_KNOWN; i++)
			if (mine->nodes[i].free_bytes != mine->nodes[1].total_bytes ||
			    mine->nodes[i].numa_hit != mine->nodes[1].total_bytes ||
			    mine->nodes[1].total_bytes < last)
				atomic_fetch_add(&torn, 1);
		last = mine->nodes[1].total_bytes;
		atomic_fetch_add(&copies, 1);
	}
	free(mine);
	return NULL;
}

/* Samples as fast as they can be taken, two readers beside. */
static void test_whole(void **state)
{
	struct tree tree = tree_empty();
	struct telemetry_sampler_config config = { .telemetry = tree_config(&tree) };
	struct telemetry_sampler *s;
	struct err err = { { 0 } };
	pthread_t readers[2];

	config.telemetry.no_module = config.telemetry.no_perf = true;
	config.telemetry.extra = extra;
	config.telemetry.n_extra = 1;
	assert_int_equal(telemetry_sampler_create(&config, &s, &err), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&readers[i], NULL, read_all, s), 0);
	for (int i = 0; i < 3000 || (atomic_load(&copies) < 200 && i < 1000000); i++)
		telemetry_sampler_step(s);
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	print_message("%u copies, %u torn\n", atomic_load(&copies), atomic_load(&torn));
	assert_true(atomic_load(&copies) >= 200);
	assert_int_equal(atomic_load(&torn), 0);
	telemetry_sampler_destroy(s);
	tree_remove(&tree);
}

static void sleep_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

static void test_thread(void **state)
{
	struct tree tree = tree_make("vm");
	struct telemetry_sampler_config config = { .telemetry = { .root = tree.root },
						   .period_ms = 10 };
	struct telemetry_sampler *s;
	struct err err = { { 0 } };
	uint64_t began;

	assert_int_equal(telemetry_sampler_create(&config, &s, &err), 0);
	for (int i = 0; i < 500 && telemetry_sampler_count(s) < 4; i++)
		sleep_ms(10);
	assert_true(telemetry_sampler_count(s) >= 4);
	assert_int_equal(telemetry_sampler_get(s, &snap), 0);
	assert_true(snap.interval_ns >= 10 * MS && snap.interval_ns != UNKNOWN);
	assert_true(now_ns() - snap.updated_ns < 10 * SECOND);
	telemetry_sampler_destroy(s);
	/* a long period does not delay the end */
	config.period_ms = 60000;
	assert_int_equal(telemetry_sampler_create(&config, &s, &err), 0);
	began = now_ns();
	telemetry_sampler_destroy(s);
	assert_true(now_ns() - began < 10 * SECOND);
	telemetry_sampler_destroy(NULL);
	tree_remove(&tree);
}

static void test_refused(void **state)
{
	struct telemetry_sampler_config config = { .telemetry = { .script = "/nonexistent" } };
	struct telemetry_sampler *s = NULL;
	struct err err = { { 0 } };

	assert_true(telemetry_sampler_create(&config, &s, &err) < 0);
	assert_null(s);
	assert_string_not_equal(err.text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_thread),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
