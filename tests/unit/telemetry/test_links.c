/* SPDX-License-Identifier: MIT */
/*
 * Description: PCIe links on recorded trees: what they carry, which one is the narrowest, and
 * whether a link is degraded, idle, asleep or simply made so. Both ends of a link count.
 */
#include "common.h"

static struct telemetry_snapshot snap;

static void test_bytes(void **state)
{
	assert_int_equal(telemetry_link_bytes_per_s(2500, 1), 250000000);
	assert_int_equal(telemetry_link_bytes_per_s(5000, 4), 2000000000);
	/* Gen3 x16: 15.75 GB/s, Gen4 x16: 31.5 GB/s */
	assert_in_range(telemetry_link_bytes_per_s(8000, 16), 15753000000, 15754000000);
	assert_in_range(telemetry_link_bytes_per_s(16000, 16), 31507000000, 31508000000);
	assert_int_equal(telemetry_link_bytes_per_s(64000, 16), 128000000000);
	assert_int_equal(telemetry_link_bytes_per_s(UNKNOWN, 16), UNKNOWN);
	assert_int_equal(telemetry_link_bytes_per_s(16000, UNKNOWN), UNKNOWN);
	assert_int_equal(telemetry_link_bytes_per_s(0, 16), UNKNOWN);
	assert_int_equal(telemetry_link_bytes_per_s(16000, 0), UNKNOWN);
	assert_int_equal(telemetry_link_bytes_per_s(16000, 255), UNKNOWN);
}

static void test_states(void **state)
{
	struct tree tree = tree_make("links");
	struct telemetry_config config = tree_config(&tree);
	struct telemetry *t = open_tree(&config);
	const struct telemetry_pci *p;

	telemetry_read(t, &snap);
	assert_int_equal(snap.n_pci, 9);   /* no bridge, no audio, no virtual function */
	p = pci_of(&snap, "0000:01:00.0"); /* half of its lanes */
	assert_int_equal(p->width, 8);
	assert_int_equal(p->max_width, 16);
	assert_int_equal(p->degraded, TELEMETRY_YES);
	assert_int_equal(p->may_idle, TELEMETRY_NO);
	assert_int_equal(p->bandwidth_bytes_per_s, telemetry_link_bytes_per_s(16000, 8));
	assert_int_equal(p->max_bandwidth_bytes_per_s, telemetry_link_bytes_per_s(16000, 16));
	p = pci_of(&snap, "0000:02:00.0"); /* Gen1, all lanes */
	assert_int_equal(p->speed_mts, 2500);
	assert_int_equal(p->max_speed_mts, 16000); /* its port's, not the Gen5 of the card */
	assert_int_equal(p->below, TELEMETRY_YES);
	assert_int_equal(p->may_idle, TELEMETRY_YES);
	assert_int_equal(p->degraded, TELEMETRY_MAYBE);
	p = pci_of(&snap, "0000:03:00.0"); /* x1 in x16 */
	assert_int_equal(p->max_width, 1);
	assert_int_equal(p->degraded, TELEMETRY_NO);
	p = pci_of(&snap, "0000:04:00.0"); /* a drive does not idle at a lower speed */
	assert_int_equal(p->degraded, TELEMETRY_YES);
	p = pci_of(&snap, "0000:07:00.0"); /* behind a narrow switch */
	assert_int_equal(p->degraded, TELEMETRY_NO);
	assert_int_equal(p->width, 16);
	assert_string_equal(p->limit_bdf, "0000:05:00.0");
	assert_int_equal(p->bandwidth_bytes_per_s, telemetry_link_bytes_per_s(8000, 4));
	assert_int_equal(p->max_bandwidth_bytes_per_s, telemetry_link_bytes_per_s(8000, 4));
	p = pci_of(&snap, "0000:08:00.0"); /* asleep */
	assert_int_equal(p->asleep, TELEMETRY_YES);
	assert_int_equal(p->speed_mts, UNKNOWN);
	assert_int_equal(p->max_width, 16);
	p = pci_of(&snap, "0000:00:07.0"); /* in a guest: the slot may have eight lanes */
	assert_true(p->far_end_unknown);
	assert_int_equal(p->degraded, TELEMETRY_MAYBE);
	assert_int_equal(pci_of(&snap, "0000:00:08.0")->degraded, TELEMETRY_NO);
	p = pci_of(&snap, "0000:09:00.0"); /* knows nothing */
	assert_int_equal(p->speed_mts, UNKNOWN);
	assert_int_equal(p->width, UNKNOWN);
	assert_int_equal(p->max_width, UNKNOWN);
	assert_int_equal(p->degraded, TELEMETRY_MAYBE);
	assert_int_equal(p->bandwidth_bytes_per_s, UNKNOWN);
	/* GPUs and accelerators come first */
	assert_int_equal(
		snap.pci[0].class_code >> 16 == 0x03 || snap.pci[0].class_code >> 16 == 0x12, 1);
	assert_int_equal(snap.pci[snap.n_pci - 1].class_code >> 16, 0x02);
	telemetry_destroy(t);
	tree_remove(&tree);
}

#define GPU "sys/devices/pci0000:00/0000:00:02.0/0000:02:00.0"

/* A link that was seen at its maximum is idle when it is slow, not degraded. */
static void test_seen_full(void **state)
{
	struct tree tree = tree_make("links");
	struct telemetry_config config = tree_config(&tree);
	struct telemetry *t = open_tree(&config);

	tree_text(&tree, GPU "/current_link_speed", "16.0 GT/s PCIe\n");
	telemetry_read(t, &snap);
	assert_int_equal(pci_of(&snap, "0000:02:00.0")->degraded, TELEMETRY_NO);
	tree_text(&tree, GPU "/current_link_speed", "2.5 GT/s PCIe\n");
	test_clock_ns += SECOND;
	telemetry_read(t, &snap);
	assert_int_equal(pci_of(&snap, "0000:02:00.0")->below, TELEMETRY_YES);
	assert_int_equal(pci_of(&snap, "0000:02:00.0")->may_idle, TELEMETRY_YES);
	assert_int_equal(pci_of(&snap, "0000:02:00.0")->degraded, TELEMETRY_NO);
	tree_text(&tree, GPU "/current_link_width", "8\n"); /* a lane is lost for good */
	test_clock_ns += SECOND;
	telemetry_read(t, &snap);
	assert_int_equal(pci_of(&snap, "0000:02:00.0")->degraded, TELEMETRY_YES);
	telemetry_destroy(t);
	tree_remove(&tree);
}

static uint64_t busy;

static int gpu_open(const struct telemetry_config *config, void **ret_state, struct err *err)
{
	*ret_state = NULL;
	return 0;
}

static int gpu_sample(void *state, uint64_t now, struct telemetry_sample *sample)
{
	struct telemetry_gpu *g = telemetry_gpu_add(&sample->state);

	snprintf(g->bdf, sizeof(g->bdf), "0000:02:00.0");
	g->busy_percent = busy;
	telemetry_mark(&sample->state, TELEMETRY_GROUP_GPU, &g->origin, TELEMETRY_NVML, now);
	return 0;
}

static void gpu_close(void *state)
{
}

/* A busy GPU does not lower its link: slow now is slow for good. */
static void test_busy_gpu(void **state)
{
	static const struct telemetry_ops gpu = { TELEMETRY_NVML, gpu_open, gpu_sample, gpu_close };
	static const struct telemetry_ops *const extra[] = { &gpu };
	struct tree tree = tree_make("links");
	struct telemetry_config config = tree_config(&tree);
	struct telemetry *t;

	config.extra = extra;
	config.n_extra = 1;
	busy = 3;
	t = open_tree(&config);
	telemetry_read(t, &snap);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_GPU].source, TELEMETRY_NVML);
	assert_int_equal(pci_of(&snap, "0000:02:00.0")->degraded, TELEMETRY_MAYBE);
	busy = 97;
	telemetry_read(t, &snap);
	assert_int_equal(pci_of(&snap, "0000:02:00.0")->degraded, TELEMETRY_YES);
	assert_int_equal(pci_of(&snap, "0000:02:00.0")->may_idle, TELEMETRY_NO);
	busy = UNKNOWN;
	telemetry_read(t, &snap);
	assert_int_equal(pci_of(&snap, "0000:02:00.0")->degraded, TELEMETRY_MAYBE);
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_errors_and_sleep(void **state)
{
	struct tree tree = tree_make("epyc");
	struct telemetry_config config = tree_config(&tree);
	struct telemetry *t = open_tree(&config);
	const struct telemetry_pci *p;

	telemetry_read(t, &snap);
	p = pci_of(&snap, "0000:41:00.0");
	assert_int_equal(p->aer_correctable, 7);
	assert_int_equal(p->aer_fatal, 0);
	assert_int_equal(p->aer_nonfatal, UNKNOWN);
	assert_int_equal(p->asleep, TELEMETRY_NO);
	assert_int_equal(p->degraded, TELEMETRY_NO);
	assert_int_equal(p->node, 0);
	assert_int_equal(pci_of(&snap, "0000:21:00.0")->max_speed_mts, 8000);
	assert_int_equal(pci_of(&snap, "0000:21:00.0")->degraded, TELEMETRY_NO);
	/* it falls asleep: its values stay, and grow old */
	tree_text(&tree, "sys/devices/pci0000:40/0000:40:01.1/0000:41:00.0/power/runtime_status",
		  "suspended\n");
	tree_text(&tree, "sys/devices/pci0000:40/0000:40:01.1/0000:41:00.0/current_link_width",
		  "1\n");
	test_clock_ns += SECOND;
	telemetry_read(t, &snap);
	p = pci_of(&snap, "0000:41:00.0");
	assert_int_equal(p->asleep, TELEMETRY_YES);
	assert_int_equal(p->width, 16);
	assert_int_equal(telemetry_age_ns(&snap, &p->origin), SECOND);
	telemetry_destroy(t);
	tree_remove(&tree);
}

/* A card is pulled and another one appears. */
static void test_removal(void **state)
{
	struct tree tree = tree_make("links");
	struct telemetry_config config = tree_config(&tree);
	struct telemetry *t = open_tree(&config);

	telemetry_read(t, &snap);
	tree_delete(&tree, "sys/bus/pci/devices/0000:01:00.0");
	test_clock_ns += 5 * SECOND;
	telemetry_read(t, &snap);
	assert_int_equal(snap.n_pci, 8);
	for (uint32_t i = 0; i < snap.n_pci; i++)
		assert_string_not_equal(snap.pci[i].bdf, "0000:01:00.0");
	assert_int_equal(pci_of(&snap, "0000:04:00.0")->degraded, TELEMETRY_YES);
	telemetry_destroy(t);
	tree_remove(&tree);
}

/* More functions than fit: the interesting ones stay, and it is said. */
static void test_many(void **state)
{
	struct tree tree = tree_make("links");
	struct telemetry_config config = tree_config(&tree);
	struct telemetry *t;

	for (int i = 0; i < 100; i++) {
		char path[128];

		snprintf(path, sizeof(path), "sys/bus/pci/devices/0000:f%x:%02x.0/class", i / 32,
			 i % 32);
		tree_text(&tree, path, "0x020000\n");
	}
	t = open_tree(&config);
	telemetry_read(t, &snap);
	assert_int_equal(snap.n_pci, TELEMETRY_MAX_PCI);
	assert_true(snap.truncated);
	pci_of(&snap, "0000:07:00.0");
	pci_of(&snap, "0000:04:00.0");
	telemetry_destroy(t);
	tree_remove(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_seen_full),
		cmocka_unit_test(test_busy_gpu),
		cmocka_unit_test(test_errors_and_sleep),
		cmocka_unit_test(test_removal),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
