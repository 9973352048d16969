/* SPDX-License-Identifier: MIT */
/*
 * Description: the kernel module's page, read from a file in its place that is written through the
 * same header: values, slots, generations, staleness, pages of other versions and of no sense. The
 * ioctls and the real device are proved in tests/kmod.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "common.h"
#include "uapi/sluice_telemetry.h"

#define PAGE_BYTES 32768
#define DEVICE	   "dev/sluice"

static struct telemetry_snapshot snap;

union page {
	struct sluice_page head;
	uint64_t words[PAGE_BYTES / 8];
	unsigned char bytes[PAGE_BYTES];
};

static union page page;

static struct sluice_node *node_entry(unsigned i)
{
	return (void *)&page.bytes[page.head.node_offset + i * page.head.node_stride];
}

static struct sluice_pci *pci_entry(unsigned i)
{
	return (void *)&page.bytes[page.head.pci_offset + i * page.head.pci_stride];
}

static struct sluice_pmu *pmu_entry(unsigned i)
{
	return (void *)&page.bytes[page.head.pmu_offset + i * page.head.pmu_stride];
}

/* Strides of a later version: every entry has grown by @more bytes. */
static void make_page(unsigned more)
{
	struct sluice_page *h = &page.head;

	memset(&page, 0, sizeof(page));
	h->magic = SLUICE_PAGE_MAGIC;
	h->abi_version = SLUICE_ABI_VERSION;
	h->page_bytes = PAGE_BYTES;
	h->head_bytes = sizeof(*h);
	h->node_offset = 1024;
	h->node_stride = sizeof(struct sluice_node) + more;
	h->node_nr = 4;
	h->pci_offset = h->node_offset + h->node_stride * h->node_nr;
	h->pci_stride = sizeof(struct sluice_pci) + more;
	h->pci_nr = SLUICE_MAX_PCI;
	h->pmu_offset = h->pci_offset + h->pci_stride * h->pci_nr;
	h->pmu_stride = sizeof(struct sluice_pmu) + more;
	h->pmu_nr = SLUICE_MAX_PMU;
	assert_true(h->pmu_offset + h->pmu_stride * h->pmu_nr <= PAGE_BYTES);
	h->flags = SLUICE_PAGE_NODES | SLUICE_PAGE_PCI | SLUICE_PAGE_PMU;
	h->period_ns = 100 * MS;
	h->updated_ns = test_clock_ns;
	for (unsigned i = 0; i < h->node_nr; i++) {
		struct sluice_node *n = node_entry(i);

		n->node = i;
		if (i > 1)
			continue; /* possible, not online */
		n->flags = SLUICE_NODE_ONLINE | SLUICE_NODE_HAS_CPU | SLUICE_NODE_HAS_MEMORY;
		n->updated_ns = test_clock_ns;
		n->total_bytes = 1000000 + i;
		n->free_bytes = 900000 + i;
		n->distance[i] = 10;
		n->distance[1 - i] = 31;
	}
}

static void put_page(const struct tree *tree)
{
	tree_write(tree, DEVICE, &page, sizeof(page));
}

/* Overwrites in place: the mapping sees it, as it sees the module's writes. */
static void update_page(const struct tree *tree)
{
	char path[128];
	FILE *f;

	page.head.seq += 2;
	page.head.updated_ns = test_clock_ns;
	snprintf(path, sizeof(path), "%s/" DEVICE, tree->root);
	f = fopen(path, "r+");
	assert_non_null(f);
	assert_int_equal(fwrite(&page, 1, sizeof(page), f), sizeof(page));
	fclose(f);
}

static struct telemetry *open_page(const struct tree *tree)
{
	struct telemetry_config config = tree_config(tree);

	put_page(tree);
	config.no_perf = true;
	return open_tree(&config);
}

static void watch_gpu(unsigned slot)
{
	*pci_entry(slot) = (struct sluice_pci){
		.state = SLUICE_SLOT_OK,
		.generation = 1,
		.updated_ns = test_clock_ns,
		.bus = 0x17,
		.flags = SLUICE_PCI_EXPRESS,
		.node = 1,
		.class_code = 0x030200,
		.cur_speed_mts = 8000,
		.cur_width = 8,
		.max_speed_mts = 8000,
		.max_width = 16,
		.limit_mbps = 63000,
		.limit_bus = 0x17,
	};
}

static void test_values(void **state)
{
	struct tree tree = tree_make("xeon");
	const struct telemetry_pci *p;
	struct telemetry *t;

	make_page(0);
	watch_gpu(3);
	t = open_page(&tree);
	assert_int_equal(telemetry_read(t, &snap), 0);
	assert_int_equal(snap.n_nodes, 2); /* the offline ones are left out */
	assert_int_equal(node_of(&snap, 0)->total_bytes, 1000000);
	assert_int_equal(node_of(&snap, 1)->free_bytes, 900001);
	assert_int_equal(node_of(&snap, 0)->memory.source, TELEMETRY_MODULE);
	assert_int_equal(node_of(&snap, 0)->distance[1], 31);
	assert_int_equal(node_of(&snap, 0)->distances.source, TELEMETRY_MODULE);
	/* what the page lacks comes from sysfs, and says so */
	assert_int_equal(node_of(&snap, 0)->huge[0].free, 9400);
	assert_int_equal(node_of(&snap, 0)->hugepages.source, TELEMETRY_SYSFS);
	assert_int_equal(node_of(&snap, 0)->peak_bytes_per_s, 204800ull << 20);
	assert_int_equal(node_of(&snap, 0)->n_cpus, 8);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_MEMORY].source, TELEMETRY_MODULE);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_HUGEPAGES].source, TELEMETRY_SYSFS);
	p = pci_of(&snap, "0000:17:00.0");
	assert_int_equal(p->origin.source, TELEMETRY_MODULE);
	assert_int_equal(p->width, 8);
	assert_int_equal(p->max_width, 16);
	assert_int_equal(p->degraded, TELEMETRY_YES);
	assert_int_equal(p->node, 1);
	assert_int_equal(p->bandwidth_bytes_per_s, 63000ull * 125000);
	assert_string_equal(p->limit_bdf, "0000:17:00.0");
	assert_int_equal(p->asleep, TELEMETRY_NO);
	/* known to sysfs alone */
	assert_int_equal(p->max_bandwidth_bytes_per_s, telemetry_link_bytes_per_s(8000, 16));
	assert_false(has_note(t, "sluice.ko"));
	/* the next sample; the same link by its upper end */
	test_clock_ns += 100 * MS;
	pci_entry(3)->limit_bus = 0x16;
	update_page(&tree);
	telemetry_read(t, &snap);
	assert_string_equal(pci_of(&snap, "0000:17:00.0")->limit_bdf, "0000:17:00.0");
	node_entry(0)->free_bytes = 5;
	node_entry(0)->updated_ns = test_clock_ns;
	pci_entry(3)->state = SLUICE_SLOT_GONE; /* then sysfs is asked */
	update_page(&tree);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->free_bytes, 5);
	assert_int_equal(telemetry_age_ns(&snap, &node_of(&snap, 0)->memory), 0);
	assert_int_equal(telemetry_age_ns(&snap, &node_of(&snap, 1)->memory), 100 * MS);
	assert_int_equal(pci_of(&snap, "0000:17:00.0")->origin.source, TELEMETRY_SYSFS);
	assert_int_equal(pci_of(&snap, "0000:17:00.0")->width, 16);
	telemetry_destroy(t);
	tree_remove(&tree);
}

/* All eight counters of the recorded Xeon, as somebody else may watch them. */
static void watch_all(void)
{
	for (unsigned i = 0; i < 8; i++)
		*pmu_entry(i + 5) = (struct sluice_pmu){
			.state = SLUICE_SLOT_OK,
			.generation = 1,
			.updated_ns = test_clock_ns,
			.type = 14 + i / 4,
			.cpu = i % 2 * 4,
			.node = (int)(i % 2),
			.kind = i / 2 % 2 ? SLUICE_PMU_WRITE : SLUICE_PMU_READ,
			.config = i / 2 % 2 ? 0x0c04 : 0x0304,
			.bytes_per_count = 64,
		};
}

static void count_all(uint64_t counts, uint64_t enabled, uint64_t running)
{
	for (unsigned i = 5; i < 13; i++) {
		pmu_entry(i)->count += counts;
		pmu_entry(i)->enabled_ns += enabled;
		pmu_entry(i)->running_ns += running;
		pmu_entry(i)->updated_ns = test_clock_ns;
	}
}

static void test_counters(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry *t;

	make_page(0);
	watch_all();
	t = open_page(&tree);
	telemetry_read(t, &snap);
	test_clock_ns += 100 * MS;
	count_all(1000, 100 * MS, 25 * MS);
	update_page(&tree);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, 2 * 4000 * 64 * 10);
	assert_int_equal(node_of(&snap, 1)->rate.total_bytes_per_s, 4 * 4000 * 64 * 10);
	assert_int_equal(node_of(&snap, 0)->rate.origin.source, TELEMETRY_MODULE);
	assert_int_equal(snap.groups[TELEMETRY_GROUP_BANDWIDTH].source, TELEMETRY_MODULE);
	/* a CPU went offline and came back: the counter began anew */
	test_clock_ns += 100 * MS;
	count_all(1000, 100 * MS, 100 * MS);
	pmu_entry(5)->generation++;
	pmu_entry(5)->count = 3;
	update_page(&tree);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, UNKNOWN);
	assert_int_equal(node_of(&snap, 0)->rate.write_bytes_per_s, 2 * 1000 * 64 * 10);
	test_clock_ns += 100 * MS;
	count_all(1000, 100 * MS, 100 * MS);
	update_page(&tree);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, 2 * 1000 * 64 * 10);
	/* lost: unknown, not smaller */
	test_clock_ns += 100 * MS;
	count_all(1000, 100 * MS, 100 * MS);
	pmu_entry(5)->state = SLUICE_SLOT_LOST;
	update_page(&tree);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->rate.read_bytes_per_s, UNKNOWN);
	assert_int_equal(node_of(&snap, 1)->rate.read_bytes_per_s, 2 * 1000 * 64 * 10);
	/* not watched any more: the socket is not counted at all */
	test_clock_ns += 100 * MS;
	count_all(1000, 100 * MS, 100 * MS);
	memset(pmu_entry(5), 0, sizeof(struct sluice_pmu));
	update_page(&tree);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->rate.write_bytes_per_s, UNKNOWN);
	assert_int_equal(node_of(&snap, 1)->rate.write_bytes_per_s, 2 * 1000 * 64 * 10);
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_stale(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry *t;

	make_page(0);
	t = open_page(&tree);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->memory.source, TELEMETRY_MODULE);
	test_clock_ns += 1900 * MS;
	telemetry_read(t, &snap); /* old, and said to be */
	assert_int_equal(node_of(&snap, 0)->memory.source, TELEMETRY_MODULE);
	assert_int_equal(telemetry_age_ns(&snap, &node_of(&snap, 0)->memory), 1900 * MS);
	test_clock_ns += 200 * MS;
	telemetry_read(t, &snap); /* it stands still: not believed */
	assert_int_equal(node_of(&snap, 0)->memory.source, TELEMETRY_SYSFS);
	assert_int_equal(node_of(&snap, 0)->total_bytes, 197000000ull * 1024);
	update_page(&tree);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->memory.source, TELEMETRY_MODULE);
	telemetry_destroy(t);
	tree_remove(&tree);
}

/* A writer that never ends: the page is left out, and nothing waits for it. */
static void test_writing(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry *t;

	make_page(0);
	t = open_page(&tree);
	telemetry_read(t, &snap);
	page.head.seq |= 1;
	update_page(&tree);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->memory.source, TELEMETRY_SYSFS);
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void test_longer_entries(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry *t;

	make_page(64);
	watch_gpu(0);
	memset((char *)pci_entry(0) + sizeof(struct sluice_pci), 0xff, 64);
	t = open_page(&tree);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 1)->total_bytes, 1000001);
	assert_int_equal(pci_of(&snap, "0000:17:00.0")->origin.source, TELEMETRY_MODULE);
	telemetry_destroy(t);
	tree_remove(&tree);
}

/* A module older than this header: entries end before fields that we know. */
static void test_shorter_entries(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry *t;

	make_page(0);
	page.head.node_nr = 1;
	page.head.node_stride = offsetof(struct sluice_node, file_bytes);
	t = open_page(&tree);
	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->total_bytes, 1000000);
	assert_int_equal(node_of(&snap, 0)->distance[0], 0); /* not 10, which lies past its end */
	telemetry_destroy(t);
	tree_remove(&tree);
}

static void refuse(const struct tree *tree, const char *note)
{
	struct telemetry *t = open_page(tree);

	telemetry_read(t, &snap);
	assert_int_equal(node_of(&snap, 0)->memory.source, TELEMETRY_SYSFS);
	if (!has_note(t, note))
		fail_msg("no note about %s", note);
	telemetry_destroy(t);
}

static void test_refused(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry_config config = tree_config(&tree);
	struct telemetry *t;

	make_page(0);
	page.head.magic++;
	refuse(&tree, "not of a form we know");
	make_page(0);
	page.head.abi_version = 0;
	refuse(&tree, "not of a form we know");
	make_page(0);
	page.head.page_bytes = 1 << 30;
	refuse(&tree, "not believed");
	make_page(0);
	page.head.page_bytes = 4097;
	refuse(&tree, "not believed");
	make_page(0);
	page.head.page_bytes = 0;
	refuse(&tree, "not believed");
	make_page(0);
	page.head.head_bytes = 8;
	refuse(&tree, "not of a form we know");
	make_page(0);
	page.head.node_nr = UINT32_MAX;
	refuse(&tree, "not of a form we know");
	tree_text(&tree, DEVICE, "short");
	t = open_tree(&config);
	telemetry_read(t, &snap);
	assert_true(has_note(t, "is short"));
	telemetry_destroy(t);
	tree_remove(&tree);
}

/* Offsets and strides that lead out of the page: those entries do not exist. */
static void test_wild_offsets(void **state)
{
	static const uint32_t wild[] = { 0,	     1,		 4095,		 PAGE_BYTES - 8,
					 PAGE_BYTES, 0x7fffffff, UINT32_MAX - 3, UINT32_MAX };
	struct tree tree = tree_make("xeon");

	for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++)
		for (int field = 0; field < 6; field++) {
			uint32_t *fields[] = { &page.head.node_offset, &page.head.node_stride,
					       &page.head.pci_offset,  &page.head.pci_stride,
					       &page.head.pmu_offset,  &page.head.pmu_stride };
			struct telemetry *t;

			make_page(0);
			watch_gpu(0);
			watch_all();
			*fields[field] = wild[i];
			t = open_page(&tree);
			assert_int_equal(telemetry_read(t, &snap), 0);
			assert_true(snap.n_nodes >= 1 && snap.n_nodes <= NODES_KNOWN);
			telemetry_destroy(t);
		}
	tree_remove(&tree);
}

/* Every word of the page at random, many times: no crash, no value out of range. */
static void test_noise(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry *t;
	uint64_t random = 88172645463325252ull;

	make_page(0);
	t = open_page(&tree);
	for (int round = 0; round < 300; round++) {
		size_t keep = round % 3 ? sizeof(struct sluice_page) : 16;

		make_page(0);
		for (size_t i = keep / 8; i < PAGE_BYTES / 8; i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			page.words[i] = random % 5 ? random : UINT64_MAX;
		}
		update_page(&tree);
		page.head.seq = 0;
		assert_int_equal(telemetry_read(t, &snap), 0);
		for (uint32_t i = 0; i < snap.n_nodes; i++) {
			assert_in_range(snap.nodes[i].id, 0, NODES_KNOWN - 1);
			if (snap.nodes[i].total_bytes != UNKNOWN)
				assert_true(snap.nodes[i].free_bytes <= snap.nodes[i].total_bytes);
		}
		test_clock_ns += 100 * MS;
	}
	telemetry_destroy(t);
	tree_remove(&tree);
}

/* What is no device is not believed on a real machine. */
static void test_no_device(void **state)
{
	struct tree tree = tree_make("xeon");
	struct telemetry_config config = tree_config(&tree);
	struct telemetry *t;
	char path[128];

	snprintf(path, sizeof(path), "%s/dev", tree.root);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/" DEVICE, tree.root);
	assert_int_equal(mkdir(path, 0755), 0);
	t = open_tree(&config);
	telemetry_read(t, &snap);
	assert_true(has_note(t, "is not a device"));
	telemetry_destroy(t);
	tree_remove(&tree);
}

/* The header's reader beside a writer of the same form, here without a kernel. */

#ifdef __SANITIZE_THREAD__
#define TORN_WRITES 300000 /* each store costs some hundred times as much */
#else
#define TORN_WRITES 10000000
#endif
#define TORN_COPIES 100

static _Atomic bool done;
static _Atomic uint64_t written; /* samples */

static void *write_samples(void *arg)
{
	uint64_t *words = arg;
	uint32_t *seq = (uint32_t *)((char *)words + offsetof(struct sluice_page, seq));
	size_t first = page.head.node_offset / 8;

	for (uint64_t n = 1; !atomic_load_explicit(&done, memory_order_relaxed); n++) {
		__atomic_store_n(seq, *seq + 1, __ATOMIC_RELAXED);
		for (size_t i = first; i < first + 64; i++)
			__atomic_store_n(&words[i], n, __ATOMIC_RELEASE);
		__atomic_store_n(seq, *seq + 1, __ATOMIC_RELEASE);
		atomic_store_explicit(&written, n, memory_order_relaxed);
	}
	return NULL;
}

static void test_torn(void **state)
{
	uint64_t *shared = aligned_alloc(64, PAGE_BYTES), *copy = aligned_alloc(64, PAGE_BYTES);
	size_t first, copies = 0;
	pthread_t writer;

	make_page(0);
	for (size_t i = page.head.node_offset / 8; i < page.head.node_offset / 8 + 64; i++)
		page.words[i] = 0;
	memcpy(shared, &page, PAGE_BYTES);
	first = page.head.node_offset / 8;
	assert_int_equal(pthread_create(&writer, NULL, write_samples, shared), 0);
	/* until there were enough of both: on a busy machine either may stand still for long */
	while (atomic_load(&written) < TORN_WRITES || copies < TORN_COPIES) {
		if (sluice_page_copy(shared, copy, page.head.node_offset + 512, 1000))
			continue;
		copies++;
		for (size_t i = first; i < first + 64; i++)
			if (copy[i] != copy[first])
				fail_msg("torn: %llu beside %llu", (unsigned long long)copy[i],
					 (unsigned long long)copy[first]);
	}
	atomic_store(&done, true);
	pthread_join(writer, NULL);
	print_message("%zu copies beside %llu writes\n", copies, (unsigned long long)written);
	free(shared);
	free(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),	       cmocka_unit_test(test_counters),
		cmocka_unit_test(test_stale),	       cmocka_unit_test(test_writing),
		cmocka_unit_test(test_longer_entries), cmocka_unit_test(test_shorter_entries),
		cmocka_unit_test(test_refused),	       cmocka_unit_test(test_wild_offsets),
		cmocka_unit_test(test_noise),	       cmocka_unit_test(test_no_device),
		cmocka_unit_test(test_torn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
