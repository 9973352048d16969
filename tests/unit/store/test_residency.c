/* SPDX-License-Identifier: MIT */
/*
 * Description: residency keeps its books: states, pins, slots by class, the least budget; loads land
 * where the view says with the right bytes, and a failed part fails its expert alone. The model is
 * made here, the disk is memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <numa.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/futex.h"
#include "base/num.h"
#include "model/model.h"
#include "store/arena.h"
#include "store/reader_memory.h"
#include "store/residency.h"

#define N_LAYERS      6
#define N_EXPERT      16
#define N_USED	      3
#define CONTENT_BYTES (4u << 20)
#define ROW_BYTES     50 /* so that matrices have 66, 102 and 182 rows */

struct rig {
	struct model model;
	struct layer layers[N_LAYERS];
	struct reader_memory disk;
	struct reader_memory_file files[2];
	uint8_t *content[2];
	struct reader *reader;
	struct arena *arena;
	struct residency *r;
	struct node_split split;
};

/* @part of expert 0 at @offset of file @file; strides are no multiples of any alignment. */
static void set_part(struct expert_layout *l, uint32_t part, uint32_t file, uint64_t offset,
		     uint64_t bytes)
{
	l->part[part] = (struct expert_part){ .file = file, .offset = offset, .bytes = bytes };
	l->bytes += bytes;
	if (part >= l->n_parts)
		l->n_parts = part + 1;
}

static void set_matrix(struct expert_layout *l, enum expert_matrix k, uint32_t part,
		       uint64_t offset, uint64_t bytes)
{
	l->matrix[k].part = part;
	l->matrix[k].offset = offset;
	l->matrix[k].row_bytes = ROW_BYTES;
	l->matrix[k].n_out = bytes / ROW_BYTES;
}

/*
 * Layers 0, 2 and 4: three tensors; 1 and 3 the same with a larger down matrix; 5: gate and up
 * merged in one tensor. Misaligned in every way; the last one ends with its file.
 */
static void make_model(struct rig *rig)
{
	uint64_t at = 17;

	memset(&rig->model, 0, sizeof(rig->model));
	memset(rig->layers, 0, sizeof(rig->layers));
	rig->model.layers = rig->layers;
	rig->model.n_layers = N_LAYERS;
	rig->model.n_expert = N_EXPERT;
	rig->model.n_expert_used = N_USED;
	for (uint32_t i = 0; i < N_LAYERS; i++) {
		struct expert_layout *l = &rig->layers[i].experts;
		uint64_t down = i % 2 ? 9100 : 5100, up = 3300;
		uint32_t file = i % 2;

		if (i == N_LAYERS - 1) {
			set_part(l, 0, file, at, 2 * up);
			set_part(l, 1, file, CONTENT_BYTES - N_EXPERT * down, down);
			set_matrix(l, EXPERT_GATE, 0, 0, up);
			set_matrix(l, EXPERT_UP, 0, up, up);
			set_matrix(l, EXPERT_DOWN, 1, 0, down);
			break;
		}
		set_part(l, 0, file, at, up);
		set_part(l, 1, file, at += N_EXPERT * up + 33, up);
		set_part(l, 2, file, at += N_EXPERT * up + 1, down);
		at += N_EXPERT * down + 7;
		set_matrix(l, EXPERT_GATE, 0, 0, up);
		set_matrix(l, EXPERT_UP, 1, 0, up);
		set_matrix(l, EXPERT_DOWN, 2, 0, down);
	}
}

static void make_disk(struct rig *rig)
{
	struct reader_config c = { .ops = &reader_memory,
				   .ops_arg = &rig->disk,
				   .depth = 4,
				   .request_bytes = 4096,
				   .least_align = 512 };
	struct gguf_file list[2];

	srand(3);
	for (int f = 0; f < 2; f++) {
		rig->content[f] = malloc(CONTENT_BYTES);
		assert_non_null(rig->content[f]);
		for (uint32_t i = 0; i < CONTENT_BYTES; i++)
			rig->content[f][i] = (uint8_t)(rand() >> 7);
		rig->files[f].content = rig->content[f];
		atomic_store(&rig->files[f].bytes, CONTENT_BYTES);
	}
	rig->disk.files = rig->files;
	rig->disk.n_files = 2;
	reader_memory_describe(&rig->disk, list);
	assert_int_equal(reader_create_files(list, 2, &c, &rig->reader, NULL), 0);
}

static int setup(void **state)
{
	struct arena_config c = { .bytes = 8 << 20, .best = ARENA_4K };
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	make_model(rig);
	make_disk(rig);
	rig->split = node_split_one();
	assert_int_equal(arena_create(&c, &rig->arena, NULL), 0);
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	reader_destroy(rig->reader);
	residency_destroy(rig->r);
	arena_destroy(rig->arena);
	free(rig->content[0]);
	free(rig->content[1]);
	free(rig);
	return 0;
}

static struct residency_need need_of(const struct rig *rig)
{
	struct residency_need n;

	residency_need(&rig->model, reader_align(rig->reader), &rig->split, &n);
	return n;
}

static void create(struct rig *rig, uint64_t budget)
{
	struct err err = { { 0 } };

	residency_destroy(rig->r);
	rig->r = NULL;
	if (residency_create(&rig->model, rig->arena, budget, rig->reader, &rig->split, &rig->r,
			     &err))
		fail_msg("%s", err.text);
}

static void wait_landed(struct residency *r, expert_id_t id)
{
	_Atomic uint32_t *word = residency_event_word(r);

	for (;;) {
		uint32_t seen = atomic_load_explicit(word, memory_order_acquire);

		if (residency_landed(r, id))
			return;
		futex_wait(word, seen, 0);
	}
}

static void check_view(struct rig *rig, expert_id_t id)
{
	const struct expert_layout *l = &rig->layers[id / N_EXPERT].experts;
	struct expert_view v = residency_view(rig->r, id);

	for (int k = 0; k < EXPERT_MATRIX_NR; k++) {
		const struct expert_part *p = &l->part[l->matrix[k].part];
		const uint8_t *wanted = rig->content[p->file] + p->offset +
					id % N_EXPERT * p->bytes + l->matrix[k].offset;
		uint64_t row = 0, first, end;

		for (uint32_t i = 0; i < rig->split.n; i++) {
			node_split_rows(&rig->split, l->matrix[k].n_out, i, &first, &end);
			assert_int_equal(first, row);
			row = end;
			if (first < end)
				assert_memory_equal(v.at[k][i] + first * ROW_BYTES,
						    wanted + first * ROW_BYTES,
						    (end - first) * ROW_BYTES);
		}
		assert_int_equal(row, l->matrix[k].n_out);
	}
}

static void load_and_check(struct rig *rig, expert_id_t id)
{
	assert_int_equal(residency_load(rig->r, id, READ_DEMAND), 0);
	assert_int_equal(residency_state(rig->r, TIER_HOST, id), COPY_FILLING);
	wait_landed(rig->r, id);
	assert_int_equal(residency_landed(rig->r, id), 1);
	check_view(rig, id);
	residency_settle(rig->r);
	assert_int_equal(residency_state(rig->r, TIER_HOST, id), COPY_PRESENT);
}

static void test_states_and_pins(void **state)
{
	struct rig *rig = *state;
	expert_id_t id = 2 * N_EXPERT + 5;
	struct residency_stats s;

	create(rig, need_of(rig).all_bytes);
	assert_int_equal(residency_state(rig->r, TIER_HOST, id), COPY_ABSENT);
	assert_int_equal(residency_pin(rig->r, TIER_HOST, id), -ENOENT);
	assert_int_equal(residency_evict(rig->r, TIER_HOST, id), -ENOENT);
	reader_memory_hold(&rig->disk);
	assert_int_equal(residency_load(rig->r, id, READ_DEMAND), 0);
	assert_int_equal(residency_landed(rig->r, id), 0);
	assert_int_equal(residency_reading(rig->r), 1);
	assert_int_equal(residency_load(rig->r, id, READ_DEMAND), -EBUSY);
	assert_int_equal(residency_pin(rig->r, TIER_HOST, id),
			 0); /* a second user of what is on its way */
	assert_int_equal(residency_evict(rig->r, TIER_HOST, id), -EBUSY);
	residency_settle(rig->r);
	assert_int_equal(residency_state(rig->r, TIER_HOST, id), COPY_FILLING);
	reader_memory_release(&rig->disk);
	wait_landed(rig->r, id);
	assert_int_equal(residency_evict(rig->r, TIER_HOST, id), -EBUSY); /* not settled */
	residency_settle(rig->r);
	assert_int_equal(residency_state(rig->r, TIER_HOST, id), COPY_PRESENT);
	assert_int_equal(residency_reading(rig->r), 0);
	check_view(rig, id);
	residency_unpin(rig->r, TIER_HOST, id);
	assert_true(residency_pinned(rig->r, TIER_HOST, id));
	assert_int_equal(residency_evict(rig->r, TIER_HOST, id), -EBUSY);
	residency_unpin(rig->r, TIER_HOST, id);
	assert_false(residency_pinned(rig->r, TIER_HOST, id));
	residency_get_stats(rig->r, &s);
	assert_int_equal(s.experts_resident, 1);
	assert_int_equal(s.resident_bytes, rig->layers[2].experts.bytes);
	assert_int_equal(s.bytes_read, rig->layers[2].experts.bytes);
	assert_int_equal(residency_evict(rig->r, TIER_HOST, id), 0);
	assert_int_equal(residency_state(rig->r, TIER_HOST, id), COPY_ABSENT);
	residency_get_stats(rig->r, &s);
	assert_int_equal(s.experts_resident, 0);
	assert_int_equal(s.resident_bytes, 0);
	assert_int_equal(s.loads, 1);
	assert_int_equal(s.evictions, 1);
}

/* At 100 % every expert has a slot, none of which touches another. */
static void everything_at_once(struct rig *rig)
{
	struct residency_need need = need_of(rig);
	struct residency_stats s;

	create(rig, need.all_bytes);
	for (expert_id_t id = 0; id < N_LAYERS * N_EXPERT; id++)
		assert_int_equal(residency_load(rig->r, id, READ_DEMAND), 0);
	for (expert_id_t id = 0; id < N_LAYERS * N_EXPERT; id++)
		wait_landed(rig->r, id);
	residency_settle(rig->r);
	for (expert_id_t id = 0; id < N_LAYERS * N_EXPERT; id++)
		check_view(rig, id);
	residency_get_stats(rig->r, &s);
	assert_int_equal(s.slots, N_LAYERS * N_EXPERT);
	assert_int_equal(s.experts_total, N_LAYERS * N_EXPERT);
	assert_int_equal(s.experts_resident, N_LAYERS * N_EXPERT);
	assert_int_equal(s.slot_bytes_total, need.all_bytes);
	assert_int_equal(s.load_errors, 0);
	for (uint32_t c = 0; c < residency_n_classes(rig->r); c++)
		assert_int_equal(residency_free_slots(rig->r, TIER_HOST, c), 0);
}

static void test_everything_at_once(void **state)
{
	everything_at_once(*state);
}

/* Rows dealt out to 2, 3 and 8 nodes, evenly and not, a node without rows included. */
static void test_split_over_nodes(void **state)
{
	static const struct node_split splits[] = {
		{ .n = 2, .node = { -1, -1 }, .share = { 32768, 32768 } },
		{ .n = 3, .node = { -1, -1, -1 }, .share = { 40000, 0, 25536 } },
		{ .n = 4, .node = { -1, -1, -1, -1 }, .share = { 1, 65533, 1, 1 } },
		{ .n = 8,
		  .node = { -1, -1, -1, -1, -1, -1, -1, -1 },
		  .share = { 8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192 } },
	};
	struct rig *rig = *state;
	struct arena_config c = { .bytes = 32 << 20, .best = ARENA_4K };

	arena_destroy(rig->arena);
	assert_int_equal(arena_create(&c, &rig->arena, NULL), 0);
	for (size_t i = 0; i < sizeof(splits) / sizeof(splits[0]); i++) {
		rig->split = splits[i];
		everything_at_once(rig);
		create(rig, need_of(rig).least_bytes);
		for (expert_id_t id = 0; id < N_LAYERS * N_EXPERT; id += 7) {
			load_and_check(rig, id);
			residency_unpin(rig->r, TIER_HOST, id);
			assert_int_equal(residency_evict(rig->r, TIER_HOST, id), 0);
		}
	}
	rig->split = node_split_one();
}

/* A region bound to node 0 gets its pages there, whatever the number of nodes. */
static void test_bound_regions(void **state)
{
	struct rig *rig = *state;
	struct node_split split = { .n = 2, .node = { 0, 0 }, .share = { 32768, 32768 } };
	struct bitmask *mems = numa_get_mems_allowed();
	bool node_0 = mems && numa_bitmask_isbitset(mems, 0);
	uint64_t pages[NODES_SPLIT] = { 0 };
	int n;

	if (mems)
		numa_bitmask_free(mems);
	if (!node_0) {
		print_message("this process may use no memory of node 0\n");
		skip();
	}
	rig->split = split;
	create(rig, need_of(rig).least_bytes);
	assert_string_equal(arena_fallback(rig->arena), "");
	for (expert_id_t id = 0; id < N_USED; id++)
		load_and_check(rig, id);
	n = arena_where(rig->arena, 0, arena_bytes(rig->arena), 1000, pages, NODES_SPLIT);
	assert_true(n > 0);
	assert_int_equal(pages[0], n);
	assert_int_equal(arena_bind(rig->arena, 0, 4096, -1), -EINVAL);
	assert_int_equal(arena_bind(rig->arena, 0, arena_bytes(rig->arena) + 1, 0), -EINVAL);
	rig->split = node_split_one();
}

static void test_classes(void **state)
{
	struct rig *rig = *state;
	struct residency_need need = need_of(rig);
	static const uint32_t n_layers_of[] = { 3, 2, 1 };

	create(rig, need.least_bytes);
	assert_int_equal(residency_n_classes(rig->r), 3);
	for (uint32_t i = 0; i < N_LAYERS; i++)
		assert_int_equal(residency_class_of(rig->r, i), i == 5 ? 2 : i % 2);
	for (uint32_t c = 0; c < 3; c++)
		assert_int_equal(residency_class_slots(rig->r, c), N_USED);
	for (int percent = 10; percent <= 100; percent += 5) {
		uint64_t budget = need.all_bytes * (uint64_t)percent / 100;
		struct residency_stats s;

		if (budget < need.least_bytes)
			continue;
		create(rig, budget);
		residency_get_stats(rig->r, &s);
		assert_true(s.slot_bytes_total <= budget);
		assert_true(s.slot_bytes_total + 30000 > budget); /* no slot more would fit */
		for (uint32_t c = 0; c < 3; c++) {
			uint32_t n = residency_class_slots(rig->r, c);
			uint32_t all = n_layers_of[c] * N_EXPERT;

			assert_true(n >= N_USED && n <= all);
			assert_int_equal(residency_free_slots(rig->r, TIER_HOST, c), n);
			/* in proportion, but for the least and for rounding */
			if (percent >= 40)
				assert_in_range(100 * n / all, percent - 15, percent + 15);
		}
	}
	create(rig, UINT64_MAX); /* no more slots than experts */
	assert_int_equal(residency_class_slots(rig->r, 0), 3 * N_EXPERT);
}

static void test_least_budget(void **state)
{
	struct rig *rig = *state;
	struct residency_need need = need_of(rig);
	struct err err = { { 0 } };
	struct residency *r = NULL;
	char wanted[64];

	assert_true(need.least_bytes > 0 && need.least_bytes < need.all_bytes);
	assert_int_equal(residency_create(&rig->model, rig->arena, need.least_bytes - 1,
					  rig->reader, &rig->split, &r, &err),
			 -ENOSPC);
	snprintf(wanted, sizeof(wanted), "need at least %llu bytes",
		 (unsigned long long)need.least_bytes);
	assert_non_null(strstr(err.text, wanted));
	assert_null(r);
	create(rig, need.least_bytes);
	rig->model.n_expert_used = N_EXPERT + 1; /* never more than there are */
	need = need_of(rig);
	create(rig, need.least_bytes);
	assert_int_equal(residency_class_slots(rig->r, 2), N_EXPERT);
	rig->model.n_expert_used = N_USED;
}

/* Many generations of the few slots of the least budget. */
static void test_eviction(void **state)
{
	struct rig *rig = *state;
	uint32_t cls;

	create(rig, need_of(rig).least_bytes);
	for (uint32_t round = 0; round < 3; round++)
		for (expert_id_t id = 0; id < N_LAYERS * N_EXPERT; id++) {
			cls = residency_class_of(rig->r, id / N_EXPERT);
			assert_true(residency_free_slots(rig->r, TIER_HOST, cls) > 0);
			load_and_check(rig, id);
			residency_unpin(rig->r, TIER_HOST, id);
			check_view(rig, id); /* HOST without a pin: the bytes stay */
			assert_int_equal(residency_evict(rig->r, TIER_HOST, id), 0);
		}
	cls = residency_class_of(rig->r, 0);
	for (expert_id_t id = 0; id < N_USED; id++)
		load_and_check(rig, id);
	assert_int_equal(residency_free_slots(rig->r, TIER_HOST, cls), 0);
	assert_int_equal(residency_load(rig->r, N_USED, READ_DEMAND), -ENOSPC);
	assert_int_equal(residency_state(rig->r, TIER_HOST, N_USED), COPY_ABSENT);
	load_and_check(rig, N_EXPERT); /* another class has its own */
	residency_unpin(rig->r, TIER_HOST, 1);
	assert_int_equal(residency_evict(rig->r, TIER_HOST, 1), 0);
	load_and_check(rig, N_USED);
	for (expert_id_t id = 0; id <= N_USED; id++)
		if (id != 1)
			check_view(rig, id);
}

/* One bad byte in the down matrix of one expert: that one fails, again and again, no other does. */
static void test_failure_of_one_part(void **state)
{
	struct rig *rig = *state;
	expert_id_t bad = 2 * N_EXPERT + 7;
	const struct expert_part *p = &rig->layers[2].experts.part[2];
	uint64_t place = p->offset + 7 * p->bytes + 2500; /* away from both neighbours */
	struct residency_stats s;

	create(rig, need_of(rig).all_bytes);
	atomic_store(&rig->disk.bad_file, p->file);
	atomic_store(&rig->disk.bad_from, place);
	atomic_store(&rig->disk.bad_to, place + 1);
	atomic_store(&rig->disk.bad_times, UINT32_MAX);
	for (int round = 0; round < 3; round++) {
		uint32_t cls = residency_class_of(rig->r, 2);
		uint32_t free_before = residency_free_slots(rig->r, TIER_HOST, cls);

		assert_int_equal(residency_load(rig->r, bad, READ_DEMAND), 0);
		assert_int_equal(residency_pin(rig->r, TIER_HOST, bad), 0);
		wait_landed(rig->r, bad);
		assert_int_equal(residency_landed(rig->r, bad), -EIO);
		residency_settle(rig->r);
		assert_int_equal(residency_state(rig->r, TIER_HOST, bad),
				 COPY_FILLING); /* pinned */
		residency_unpin(rig->r, TIER_HOST, bad);
		residency_settle(rig->r);
		assert_int_equal(residency_landed(rig->r, bad), -EIO);
		residency_unpin(rig->r, TIER_HOST, bad);
		residency_settle(rig->r);
		assert_int_equal(residency_state(rig->r, TIER_HOST, bad), COPY_ABSENT);
		assert_int_equal(residency_free_slots(rig->r, TIER_HOST, cls), free_before);
		assert_int_equal(residency_reading(rig->r), 0);
	}
	load_and_check(rig, bad - 1);
	load_and_check(rig, bad + 1);
	residency_get_stats(rig->r, &s);
	assert_int_equal(s.load_errors, 3);
	assert_int_equal(s.experts_resident, 2);
	atomic_store(&rig->disk.bad_times, 0); /* the disk recovers */
	load_and_check(rig, bad);
}

/* The file ends too early while all are on their way: those beyond the end fail. */
static void test_truncated_while_reading(void **state)
{
	struct rig *rig = *state;
	uint64_t end = rig->layers[5].experts.part[1].offset + 10 * 9100;
	expert_id_t first = 5 * N_EXPERT;

	create(rig, need_of(rig).all_bytes);
	reader_memory_hold(&rig->disk);
	for (uint32_t e = 0; e < N_EXPERT; e++)
		assert_int_equal(residency_load(rig->r, first + e, READ_DEMAND), 0);
	atomic_store(&rig->files[1].bytes, end);
	reader_memory_release(&rig->disk);
	for (uint32_t e = 0; e < N_EXPERT; e++) {
		wait_landed(rig->r, first + e);
		assert_int_equal(residency_landed(rig->r, first + e), e < 10 ? 1 : -ENODATA);
		if (e < 10)
			check_view(rig, first + e);
	}
	atomic_store(&rig->files[1].bytes, CONTENT_BYTES);
}

struct watcher {
	struct rig *rig;
	expert_id_t id;
	pthread_t thread;
};

/* As a worker does: waits for a pinned expert and reads its bytes. */
static void *watch(void *arg)
{
	struct watcher *w = arg;

	wait_landed(w->rig->r, w->id);
	check_view(w->rig, w->id);
	return NULL;
}

static void test_other_threads_see_the_bytes(void **state)
{
	struct rig *rig = *state;
	struct watcher w[8];

	create(rig, need_of(rig).all_bytes);
	for (int round = 0; round < 10; round++) {
		for (uint32_t i = 0; i < 8; i++) {
			w[i].rig = rig;
			w[i].id = (i + (uint32_t)round * 8) % (N_LAYERS * N_EXPERT);
			assert_int_equal(residency_load(rig->r, w[i].id, READ_DEMAND), 0);
			assert_int_equal(pthread_create(&w[i].thread, NULL, watch, &w[i]), 0);
		}
		for (int i = 0; i < 8; i++)
			pthread_join(w[i].thread, NULL);
		residency_settle(rig->r);
		for (int i = 0; i < 8; i++)
			residency_unpin(rig->r, TIER_HOST, w[i].id);
		for (int i = 0; i < 8; i++)
			assert_int_equal(residency_evict(rig->r, TIER_HOST, w[i].id), 0);
	}
}

static void test_dense_model(void **state)
{
	struct rig *rig = *state;
	struct model dense = { .n_layers = 2, .layers = calloc(2, sizeof(struct layer)) };
	struct residency_need need;
	struct residency_stats s;
	struct residency *r;

	residency_need(&dense, 4096, NULL, &need);
	assert_int_equal(need.least_bytes, 0);
	assert_int_equal(need.all_bytes, 0);
	assert_int_equal(residency_create(&dense, rig->arena, 0, rig->reader, NULL, &r, NULL), 0);
	assert_int_equal(residency_n_classes(r), 0);
	residency_settle(r);
	residency_get_stats(r, &s);
	assert_int_equal(s.experts_total, 0);
	assert_int_equal(s.slots, 0);
	residency_destroy(r);
	residency_destroy(NULL);
	free(dense.layers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states_and_pins),
		cmocka_unit_test(test_everything_at_once),
		cmocka_unit_test(test_split_over_nodes),
		cmocka_unit_test(test_bound_regions),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_least_budget),
		cmocka_unit_test(test_eviction),
		cmocka_unit_test(test_failure_of_one_part),
		cmocka_unit_test(test_truncated_while_reading),
		cmocka_unit_test(test_other_threads_see_the_bytes),
		cmocka_unit_test(test_dense_model),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
