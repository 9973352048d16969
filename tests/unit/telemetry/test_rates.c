/* SPDX-License-Identifier: MIT */
/*
 * Description: rates from two samples of counters: multiplexing, counters that go back, begin anew,
 * are lost or never ran; sockets of one and of several nodes; sources that do not mix.
 */
#include "common.h"

static struct telemetry_sample before, now;
static struct telemetry_snapshot snap;

/* Nodes 0 and 1, a socket each, and one second between the samples. */
static void begin(void)
{
	telemetry_sample_init(&before);
	telemetry_sample_init(&now);
	for (int id = 0; id < 2; id++) {
		telemetry_node_at(&before.state, id)->socket = id;
		telemetry_node_at(&now.state, id)->socket = id;
	}
	before.state.updated_ns = 10 * SECOND;
	now.state.updated_ns = 11 * SECOND;
}

/* A counter of 64 bytes a count that counted @counts in the second, of which it ran @running. */
static struct telemetry_counter *count(uint64_t key, enum telemetry_kind kind, int socket,
				       uint64_t counts, uint64_t running)
{
	struct telemetry_counter *c = telemetry_counter_add(&before);

	*c = (struct telemetry_counter){ .key = key,
					 .source = TELEMETRY_PERF,
					 .kind = kind,
					 .socket = socket,
					 .bytes_per_count = 64,
					 .count = 1000,
					 .enabled_ns = 5 * SECOND,
					 .running_ns = 3 * SECOND,
					 .updated_ns = 10 * SECOND };
	c = telemetry_counter_add(&now);
	*c = before.counters[before.n_counters - 1];
	c->count += counts;
	c->enabled_ns += SECOND;
	c->running_ns += running;
	c->updated_ns += SECOND;
	return c;
}

static void test_sums(void **state)
{
	begin();
	count(0, TELEMETRY_READ, 0, 1000000, SECOND);
	count(1, TELEMETRY_READ, 0, 500000, SECOND);
	count(2, TELEMETRY_WRITE, 0, 250000, SECOND);
	count(3, TELEMETRY_READ, 1, 7, SECOND);
	telemetry_rates(&before, &now, &snap);
	assert_int_equal(snap.nodes[0].rate.read_bytes_per_s, 1500000 * 64);
	assert_int_equal(snap.nodes[0].rate.write_bytes_per_s, 250000 * 64);
	assert_int_equal(snap.nodes[0].rate.total_bytes_per_s, 1750000 * 64);
	assert_int_equal(snap.nodes[0].rate.origin.source, TELEMETRY_PERF);
	assert_int_equal(snap.nodes[0].rate.origin.updated_ns, 11 * SECOND);
	assert_int_equal(snap.nodes[1].rate.read_bytes_per_s, 7 * 64);
	/* reads alone do not make a total */
	assert_int_equal(snap.nodes[1].rate.write_bytes_per_s, UNKNOWN);
	assert_int_equal(snap.nodes[1].rate.total_bytes_per_s, UNKNOWN);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_BANDWIDTH].source, TELEMETRY_PERF);
	assert_int_equal(snap.interval_ns, SECOND);
	assert_int_equal(snap.n_sockets, 2);
	assert_int_equal(snap.sockets[0].rate.total_bytes_per_s, 1750000 * 64);
}

static void test_multiplexed(void **state)
{
	begin();
	count(0, TELEMETRY_TOTAL, 0, 250000, SECOND / 4); /* ran a quarter of the time */
	count(1, TELEMETRY_TOTAL, 1, 0, SECOND);	  /* idle, which is known */
	telemetry_rates(&before, &now, &snap);
	assert_int_equal(snap.nodes[0].rate.total_bytes_per_s, 4 * 250000 * 64);
	assert_int_equal(snap.nodes[0].rate.read_bytes_per_s, UNKNOWN);
	assert_int_equal(snap.nodes[1].rate.total_bytes_per_s, 0);
}

static void test_interval(void **state)
{
	begin();
	count(0, TELEMETRY_TOTAL, 0, 1000, SECOND / 10);
	now.counters[0].enabled_ns = before.counters[0].enabled_ns + SECOND / 10;
	now.counters[0].updated_ns = before.counters[0].updated_ns + SECOND / 10;
	telemetry_rates(&before, &now, &snap);
	assert_int_equal(snap.nodes[0].rate.total_bytes_per_s, 10 * 1000 * 64);
}

/* Each makes socket 0 unknown and leaves socket 1 alone. */
static void spoil(void (*how)(struct telemetry_counter *a, struct telemetry_counter *b))
{
	begin();
	count(0, TELEMETRY_READ, 0, 1000, SECOND);
	count(1, TELEMETRY_READ, 0, 1000, SECOND);
	count(2, TELEMETRY_READ, 1, 1000, SECOND);
	how(&before.counters[1], &now.counters[1]);
	telemetry_rates(&before, &now, &snap);
	assert_int_equal(snap.nodes[0].rate.read_bytes_per_s, UNKNOWN);
	assert_int_equal(snap.nodes[0].rate.origin.source, TELEMETRY_NONE);
	assert_int_equal(snap.nodes[1].rate.read_bytes_per_s, 64000);
}

static void backwards(struct telemetry_counter *a, struct telemetry_counter *b)
{
	b->count = a->count - 1;
}

static void enabled_back(struct telemetry_counter *a, struct telemetry_counter *b)
{
	b->enabled_ns = a->enabled_ns - 1;
}

static void never_ran(struct telemetry_counter *a, struct telemetry_counter *b)
{
	b->running_ns = a->running_ns;
}

static void anew(struct telemetry_counter *a, struct telemetry_counter *b)
{
	b->generation++;
}

static void lost_now(struct telemetry_counter *a, struct telemetry_counter *b)
{
	b->lost = true;
}

static void lost_before(struct telemetry_counter *a, struct telemetry_counter *b)
{
	a->lost = true;
}

static void other_source(struct telemetry_counter *a, struct telemetry_counter *b)
{
	a->source = TELEMETRY_MODULE;
}

static void other_key(struct telemetry_counter *a, struct telemetry_counter *b)
{
	a->key = 99;
}

static void not_updated(struct telemetry_counter *a, struct telemetry_counter *b)
{
	b->updated_ns = a->updated_ns;
}

static void absurd(struct telemetry_counter *a, struct telemetry_counter *b)
{
	b->count = UINT64_MAX / 2;
}

static void other_scale(struct telemetry_counter *a, struct telemetry_counter *b)
{
	b->bytes_per_count = 32;
}

static void test_spoilt(void **state)
{
	spoil(backwards);
	spoil(enabled_back);
	spoil(never_ran);
	spoil(anew);
	spoil(lost_now);
	spoil(lost_before);
	spoil(other_source);
	spoil(other_key);
	spoil(not_updated);
	spoil(absurd);
	spoil(other_scale);
}

static void test_first(void **state)
{
	begin();
	count(0, TELEMETRY_READ, 0, 1000, SECOND);
	telemetry_rates(NULL, &now, &snap);
	assert_int_equal(snap.nodes[0].rate.read_bytes_per_s, UNKNOWN);
	assert_int_equal(snap.interval_ns, UNKNOWN);
}

static void test_shared_socket(void **state)
{
	begin();
	now.state.nodes[1].socket = 0;
	count(0, TELEMETRY_TOTAL, 0, 1000, SECOND);
	telemetry_rates(&before, &now, &snap);
	assert_int_equal(snap.n_sockets, 1);
	assert_int_equal(snap.sockets[0].nodes, 3);
	assert_int_equal(snap.sockets[0].rate.total_bytes_per_s, 64000);
	assert_int_equal(snap.nodes[0].rate.total_bytes_per_s, UNKNOWN); /* whose, we cannot tell */
	assert_int_equal(snap.nodes[1].rate.total_bytes_per_s, UNKNOWN);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_BANDWIDTH].source, TELEMETRY_PERF);
}

/* Counters come in another order, and one of a socket that no node has. */
static void test_order(void **state)
{
	struct telemetry_counter swap;

	begin();
	count(0, TELEMETRY_TOTAL, 0, 10, SECOND);
	count(1, TELEMETRY_TOTAL, 1, 20, SECOND);
	count(2, TELEMETRY_TOTAL, 9, 30, SECOND);
	count(3, TELEMETRY_TOTAL, -1, 30, SECOND);
	swap = now.counters[0];
	now.counters[0] = now.counters[1];
	now.counters[1] = swap;
	telemetry_rates(&before, &now, &snap);
	assert_int_equal(snap.nodes[0].rate.total_bytes_per_s, 640);
	assert_int_equal(snap.nodes[1].rate.total_bytes_per_s, 1280);
}

static void test_load(void **state)
{
	begin();
	count(0, TELEMETRY_TOTAL, 0, 1000, SECOND);
	count(1, TELEMETRY_TOTAL, 1, 1000, SECOND);
	now.state.nodes[0].peak_bytes_per_s = 128000;
	telemetry_rates(&before, &now, &snap);
	assert_int_equal(telemetry_node_load(&snap, 0), 500);
	assert_int_equal(telemetry_node_load(&snap, 1), UNKNOWN); /* no peak */
	assert_int_equal(telemetry_node_load(&snap, 7), UNKNOWN); /* no such node */
	snap.nodes[1].peak_bytes_per_s = 0;
	assert_int_equal(telemetry_node_load(&snap, 1), UNKNOWN);
}

/* Perf's counters are not added to those of a socket that the module counts. */
static void test_merge(void **state)
{
	static struct telemetry_sample perf;

	begin();
	count(0, TELEMETRY_TOTAL, 0, 10, SECOND);
	now.counters[0].source = TELEMETRY_MODULE;
	telemetry_sample_init(&perf);
	for (int i = 0; i < 4; i++) {
		struct telemetry_counter *c = telemetry_counter_add(&perf);

		c->source = TELEMETRY_PERF;
		c->socket = i / 2;
	}
	telemetry_node_at(&perf.state, 5);
	telemetry_node_at(&perf.state, 0)->total_bytes = 77;
	perf.state.nodes[0].memory = (struct telemetry_origin){ TELEMETRY_SYSFS, 3 };
	telemetry_merge(&now, &perf);
	assert_int_equal(now.n_counters, 3); /* the module's, and both of socket 1 */
	assert_int_equal(now.counters[1].socket, 1);
	assert_int_equal(now.counters[2].socket, 1);
	assert_int_equal(now.state.n_nodes, 3);
	assert_int_equal(now.state.nodes[0].total_bytes, 77);
	assert_int_equal(now.state.nodes[0].memory.updated_ns, 3);
	/* what is known stays */
	perf.state.nodes[0].total_bytes = 78;
	perf.state.nodes[0].memory.source = TELEMETRY_SCRIPT;
	telemetry_merge(&now, &perf);
	assert_int_equal(now.state.nodes[0].total_bytes, 77);
	assert_int_equal(now.state.nodes[0].memory.source, TELEMETRY_SYSFS);
}

static void test_bounds(void **state)
{
	telemetry_sample_init(&now);
	for (int i = 0; i < TELEMETRY_MAX_COUNTERS; i++)
		assert_non_null(telemetry_counter_add(&now));
	assert_null(telemetry_counter_add(&now));
	assert_true(now.state.truncated);
	now.state.truncated = false;
	for (int i = NODES_KNOWN - 1; i >= 0; i--)
		assert_int_equal(telemetry_node_at(&now.state, i)->id, i);
	for (int i = 0; i < NODES_KNOWN; i++)
		assert_int_equal(now.state.nodes[i].id, i);
	assert_false(now.state.truncated);
	assert_null(telemetry_node_at(&now.state, NODES_KNOWN));
	assert_null(telemetry_node_at(&now.state, -1));
	assert_true(now.state.truncated);
	assert_null(telemetry_pci_at(&now.state, "0000:00:00.0 and much more"));
	assert_null(telemetry_disk_at(&now.state, "a name that is far too long for any disk"));
	for (int i = 0; i < TELEMETRY_MAX_GPUS; i++)
		assert_non_null(telemetry_gpu_add(&now.state));
	assert_null(telemetry_gpu_add(&now.state));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sums),	 cmocka_unit_test(test_multiplexed),
		cmocka_unit_test(test_interval), cmocka_unit_test(test_spoilt),
		cmocka_unit_test(test_first),	 cmocka_unit_test(test_shared_socket),
		cmocka_unit_test(test_order),	 cmocka_unit_test(test_load),
		cmocka_unit_test(test_merge),	 cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
