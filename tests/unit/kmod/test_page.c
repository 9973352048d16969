/* SPDX-License-Identifier: MIT */
/*
 * Description: no reader takes half of a sample: the module's writer against the reader of the ABI
 * header. The writer is kmod/page.h, compiled here as the module compiles it. Every word behind
 * seq holds the number of its sample, so a copy with two numbers in it is torn. 10^7 samples on a
 * short page (1 KiB, where the odd window is short and the reader most often succeeds), fewer on a
 * whole one. A writer without seq shows that the test would see torn copies.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kmod/page.h"

#define SHORT_BYTES 1024u
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHORT_SAMPLES 1000000u
#define WHOLE_SAMPLES 20000u
#else
#define SHORT_SAMPLES 10000000u
#define WHOLE_SAMPLES 200000u
#endif
#define BROKEN_SAMPLES 20000000u

struct rig {
	struct sluice_page *page, *shadow, *copy;
	uint32_t bytes, samples;
	int broken; /* the writer leaves seq alone */
	int done;
};

/* Words behind the constant head: seq and flags share the first. */
static uint64_t *body(struct sluice_page *page)
{
	return (uint64_t *)(void *)((char *)page + offsetof(struct sluice_page, period_ns));
}

static uint32_t body_words(const struct rig *rig)
{
	return (rig->bytes - offsetof(struct sluice_page, period_ns)) / 8;
}

static void rig_init(struct rig *rig, uint32_t bytes, uint32_t samples)
{
	struct sluice_page head = { 0 };

	memset(rig, 0, sizeof(*rig));
	page_layout(&head, 4, 4096);
	assert_true(bytes <= head.page_bytes);
	if (bytes)
		head.page_bytes = bytes; /* a page cut short: nobody looks at its arrays here */
	rig->bytes = head.page_bytes;
	rig->samples = samples;
	rig->page = aligned_alloc(64, rig->bytes);
	rig->shadow = aligned_alloc(64, rig->bytes);
	rig->copy = aligned_alloc(64, rig->bytes);
	assert_non_null(rig->page);
	assert_non_null(rig->shadow);
	assert_non_null(rig->copy);
	memset(rig->page, 0, rig->bytes);
	memset(rig->shadow, 0, rig->bytes);
	*rig->page = head;
	*rig->shadow = head;
}

static void rig_fini(struct rig *rig)
{
	free(rig->page);
	free(rig->shadow);
	free(rig->copy);
}

static void fill(struct rig *rig, uint32_t nr)
{
	uint64_t *words = body(rig->shadow);
	uint32_t i, count = body_words(rig);

	rig->shadow->flags = nr;
	for (i = 0; i < count; i++)
		words[i] = nr;
}

/* The same stores in the same order, but a reader is not told. */
static void publish_broken(struct rig *rig)
{
	uint64_t *to = body(rig->page), *from = body(rig->shadow);
	uint32_t i, count = body_words(rig);

	page_store_release(&rig->page->flags, rig->shadow->flags);
	for (i = 0; i < count; i++)
		page_store_release(&to[i], from[i]);
}

static void *write_samples(void *arg)
{
	struct rig *rig = arg;
	uint32_t i;

	for (i = 1; i <= rig->samples && !__atomic_load_n(&rig->done, __ATOMIC_RELAXED); i++) {
		fill(rig, i);
		if (rig->broken)
			publish_broken(rig);
		else
			page_publish(rig->page, rig->shadow);
	}
	__atomic_store_n(&rig->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static int is_torn(const struct rig *rig)
{
	const uint64_t *words = body(rig->copy);
	uint32_t i, count = body_words(rig);

	for (i = 0; i < count; i++)
		if (words[i] != rig->copy->flags)
			return 1;
	return 0;
}

static void race(struct rig *rig, uint64_t *ret_copies, uint64_t *ret_torn)
{
	uint64_t copies = 0, torn = 0, last = 0;
	pthread_t writer;

	page_publish(rig->page, rig->shadow);
	assert_int_equal(pthread_create(&writer, NULL, write_samples, rig), 0);
	while (!__atomic_load_n(&rig->done, __ATOMIC_ACQUIRE)) {
		if (sluice_page_copy(rig->page, rig->copy, rig->bytes, 1000))
			continue;
		copies++;
		torn += is_torn(rig);
		if (!rig->broken)
			assert_true(rig->copy->flags >= last); /* never back in time */
		last = rig->copy->flags;
		if (rig->broken && torn)
			__atomic_store_n(&rig->done, 1, __ATOMIC_RELAXED);
	}
	pthread_join(writer, NULL);
	*ret_copies = copies;
	*ret_torn = torn;
}

static void run_race(uint32_t bytes, uint32_t samples)
{
	uint64_t copies, torn;
	struct rig rig;

	rig_init(&rig, bytes, samples);
	race(&rig, &copies, &torn);
	print_message("%u samples of %u bytes, %llu copies, %llu torn\n", samples, rig.bytes,
		      (unsigned long long)copies, (unsigned long long)torn);
	assert_int_equal(torn, 0);
	assert_true(copies > 10);
	/* after the last sample everything is there */
	assert_int_equal(sluice_page_copy(rig.page, rig.copy, rig.bytes, 1), 0);
	assert_int_equal(rig.copy->flags, samples);
	assert_int_equal(rig.copy->seq, 2 * (samples + 1));
	assert_int_equal(is_torn(&rig), 0);
	rig_fini(&rig);
}

static void test_no_torn_sample_short(void **state)
{
	run_race(SHORT_BYTES, SHORT_SAMPLES);
}

static void test_no_torn_sample_whole(void **state)
{
	run_race(0, WHOLE_SAMPLES);
}

static void test_a_writer_without_seq_is_caught(void **state)
{
	uint64_t copies, torn;
	struct rig rig;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		print_message("one CPU only: reader and writer never meet\n");
		skip();
	}
	rig_init(&rig, 0, BROKEN_SAMPLES);
	rig.broken = 1;
	race(&rig, &copies, &torn);
	assert_true(torn > 0);
	rig_fini(&rig);
}

static void test_reader_gives_up(void **state)
{
	struct rig rig;

	rig_init(&rig, 0, 0);
	rig.page->seq = 7; /* a writer that never ends */
	assert_int_equal(sluice_page_copy(rig.page, rig.copy, rig.bytes, 1000), -EAGAIN);
	rig.page->seq = 8;
	assert_int_equal(sluice_page_copy(rig.page, rig.copy, rig.bytes, 0), -EAGAIN);
	assert_int_equal(sluice_page_copy(rig.page, rig.copy, rig.bytes, 1), 0);
	assert_int_equal(sluice_page_copy(rig.page, rig.copy, rig.bytes - 1, 1), -EINVAL);
	assert_int_equal(sluice_page_copy(rig.page, rig.copy, 200, 1), -EINVAL);
	rig_fini(&rig);
}

static void test_layout(void **state)
{
	static const uint32_t counts[] = { 1, 2, 4, 63, SLUICE_MAX_NODES };
	static const uint32_t pages[] = { 4096, 16384, 65536 };
	size_t i, j;

	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		for (j = 0; j < sizeof(pages) / sizeof(pages[0]); j++) {
			struct sluice_page h = { 0 };

			page_layout(&h, counts[i], pages[j]);
			assert_int_equal(h.magic, SLUICE_PAGE_MAGIC);
			assert_memory_equal(&h.magic, "SLUICE1", 8);
			assert_int_equal(h.page_bytes % pages[j], 0);
			assert_true(h.pci_offset >= h.head_bytes);
			assert_true(h.pmu_offset >= h.pci_offset + h.pci_stride * h.pci_nr);
			assert_true(h.node_offset >= h.pmu_offset + h.pmu_stride * h.pmu_nr);
			assert_true(h.page_bytes >= h.node_offset + h.node_stride * h.node_nr);
			assert_int_equal(h.node_nr, counts[i]);
			assert_int_equal((h.pci_offset | h.pmu_offset | h.node_offset) % 64, 0);
		}
	}
}

static void test_entries_are_found_and_bounded(void **state)
{
	struct rig rig;

	rig_init(&rig, 0, 0);
	page_node(rig.shadow)[3].node = 7;
	page_pci(rig.shadow)[31].vendor = 0x10de;
	page_pmu(rig.shadow)[31].count = 42;
	page_publish(rig.page, rig.shadow);
	assert_int_equal(sluice_page_copy(rig.page, rig.copy, rig.bytes, 1), 0);
	assert_int_equal(sluice_page_node(rig.copy, 3)->node, 7);
	assert_int_equal(sluice_page_pci(rig.copy, 31)->vendor, 0x10de);
	assert_int_equal(sluice_page_pmu(rig.copy, 31)->count, 42);
	assert_null(sluice_page_node(rig.copy, 4));
	assert_null(sluice_page_pci(rig.copy, 32));
	assert_null(sluice_page_pmu(rig.copy, UINT32_MAX));
	/* a head that points outside its own page */
	rig.copy->node_offset = UINT32_MAX - 8;
	assert_null(sluice_page_node(rig.copy, 0));
	rig.copy->pci_stride = UINT32_MAX;
	assert_null(sluice_page_pci(rig.copy, 0));
	/* an entry that grew: an old reader goes by the stride */
	rig.copy->pmu_stride = 2 * sizeof(struct sluice_pmu);
	rig.copy->pmu_nr = 4;
	assert_ptr_equal((const char *)sluice_page_pmu(rig.copy, 2),
			 (char *)rig.copy + rig.copy->pmu_offset + 4 * sizeof(struct sluice_pmu));
	rig_fini(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_torn_sample_short),
		cmocka_unit_test(test_no_torn_sample_whole),
		cmocka_unit_test(test_a_writer_without_seq_is_caught),
		cmocka_unit_test(test_reader_gives_up),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_entries_are_found_and_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
