/* SPDX-License-Identifier: MIT */
/*
 * Description: memory that outlives a process: what is no such memory is refused with a sentence; a table
 * counts for its own shape, memory and version alone; marks that are cut, moved or made up are never whole;
 * residency takes over what is whole, once, and puts new pages under what was being read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/num.h"
#include "model/model.h"
#include "store/arena.h"
#include "store/reader_memory.h"
#include "store/residency.h"
#include "store/warm.h"

#define MIB	 (1ull << 20)
#define N_LAYERS 3
#define N_EXPERT 8
#define N_USED	 2
#define EXPERT	 700000 /* bytes: slots share huge pages */
#define SEALS	 (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)
#define MARKS	 4096 /* where they begin in a table */

static const struct warm_shape usual = { .model = 1,
					 .files = 2,
					 .layout = 3,
					 .budget_bytes = 4,
					 .experts_bytes = 4 * MIB,
					 .dense_bytes = 2 * MIB,
					 .n_slots = 5,
					 .n_parts = 3,
					 .n_nodes = 1,
					 .align = 512 };

static struct arena *make(uint64_t bytes)
{
	struct arena_config c = { .bytes = bytes, .best = ARENA_4K, .keep = ARENA_KEEP };
	struct arena *a;

	assert_int_equal(arena_create(&c, &a, NULL), 0);
	assert_true(arena_fd(a) >= 0);
	return a;
}

static int take(int fd, uint64_t bytes, struct arena **ret, struct err *err)
{
	struct arena_config c = { .bytes = bytes, .best = ARENA_4K, .keep = ARENA_KEEP };

	memset(err, 0, sizeof(*err));
	return arena_take(&c, fd, ret, err);
}

static void refuse(int fd, uint64_t bytes, const char *why)
{
	struct arena *a = NULL;
	struct err err;

	assert_true(take(fd, bytes, &a, &err) < 0);
	assert_null(a);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" is not in \"%s\"", why, err.text);
	close(fd);
}

static int file_of(uint64_t bytes, int seals)
{
	int fd = memfd_create("x", MFD_ALLOW_SEALING);

	assert_true(fd >= 0 && !ftruncate(fd, (off_t)bytes));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void test_bytes_stay(void **state)
{
	struct arena_config big = { .bytes = 6 * MIB, .keep = ARENA_KEEP };
	struct arena *a, *b;
	struct err err;
	int fd;

	assert_int_equal(arena_create(&big, &a, NULL), 0);
	memset(arena_base(a), 7, 6 * MIB);
	fd = dup(arena_fd(a));
	arena_destroy(a);
	assert_int_equal(take(fd, 6 * MIB, &b, &err), 0);
	for (uint64_t i = 0; i < 6 * MIB; i += 997)
		assert_int_equal(((uint8_t *)arena_base(b))[i], 7);
	assert_int_equal((uintptr_t)arena_base(b) % (2 * MIB), 0);
	assert_int_equal(arena_prefault_start(b), 0);
	arena_prefault_wait(b);
	assert_int_equal(arena_prefaulted_bytes(b), 6 * MIB);
	assert_int_equal(arena_renew(b, 2 * MIB, 2 * MIB), 0);
	assert_int_equal(((uint8_t *)arena_base(b))[2 * MIB - 1], 7);
	assert_int_equal(((uint8_t *)arena_base(b))[2 * MIB], 0);
	assert_int_equal(((uint8_t *)arena_base(b))[4 * MIB], 7);
	assert_int_equal(arena_renew(b, 6 * MIB, 2 * MIB), -EINVAL);
	arena_destroy(b);
	/* memory of this process alone is nobody's */
	big.keep = ARENA_OWN;
	big.best = ARENA_4K;
	assert_int_equal(arena_create(&big, &a, NULL), 0);
	assert_int_equal(arena_fd(a), -1);
	assert_int_equal(arena_renew(a, 0, 2 * MIB), -EINVAL);
	arena_destroy(a);
}

static void test_no_memory(void **state)
{
	char path[] = "/tmp/sluice-warm-XXXXXX";
	int pipes[2], fd;
	char link[64];

	assert_int_equal(pipe(pipes), 0);
	refuse(pipes[0], 2 * MIB, "it is no memory file");
	refuse(pipes[1], 2 * MIB, "it is no memory file");
	refuse(open("/dev/null", O_RDWR), 2 * MIB, "it is no memory file");
	refuse(open("/tmp", O_RDONLY), 2 * MIB, "it is no memory file");
	fd = mkstemp(path);
	unlink(path);
	assert_int_equal(ftruncate(fd, 2 * MIB), 0);
	refuse(fd, 2 * MIB, "it "); /* no memory file, or on a tmpfs not sealed */
	refuse(file_of(2 * MIB, F_SEAL_GROW), 2 * MIB, "its size is not sealed");
	refuse(file_of(4 * MIB, SEALS), 2 * MIB, "it has 4194304 bytes instead of 2097152");
	refuse(file_of(0, SEALS), 2 * MIB, "it has 0 bytes");
	refuse(file_of(2 * MIB, SEALS | F_SEAL_WRITE), 2 * MIB, "it cannot be written");
	fd = file_of(2 * MIB, SEALS);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	refuse(open(link, O_RDONLY), 2 * MIB, "it cannot be written");
	if (!geteuid()) {
		assert_int_equal(fchown(fd, 12345, -1), 0);
		refuse(fd, 2 * MIB, "it is of user 12345, not of 0");
	} else {
		close(fd);
	}
	refuse(-1, 2 * MIB, "it is no memory file");
}

/* A table with both arenas, made new. */
static struct warm *table(struct arena **e, struct arena **d)
{
	struct warm *w;

	*e = make(usual.experts_bytes);
	*d = make(usual.dense_bytes);
	assert_int_equal(warm_create(&usual, *e, *d, &w, NULL), 0);
	return w;
}

static void refuse_table(int fd, const struct warm_shape *shape, const struct arena *e,
			 const struct arena *d, const char *why)
{
	struct err err = { { 0 } };
	struct warm *w = NULL;

	assert_true(warm_take(fd, shape, e, d, &w, &err) < 0);
	assert_null(w);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" is not in \"%s\"", why, err.text);
}

static void test_marks(void **state)
{
	struct arena *e, *d;
	struct warm *w = table(&e, &d), *again;
	uint32_t id = 0;
	int fd = dup(warm_fd(w));

	for (uint32_t i = 0; i < usual.n_slots; i++)
		assert_int_equal(warm_get(w, i, &id), WARM_EMPTY);
	warm_set(w, 0, WARM_WHOLE, 0);
	warm_set(w, 1, WARM_FILLING, 9);
	warm_set(w, 4, WARM_WHOLE, 0xfffffffe);
	warm_set_part(w, 2, true);
	warm_destroy(w);
	assert_int_equal(warm_take(fd, &usual, e, d, &again, NULL), 0);
	assert_int_equal(warm_starts(again), 2);
	assert_int_equal(warm_get(again, 0, &id), WARM_WHOLE);
	assert_int_equal(id, 0);
	assert_int_equal(warm_get(again, 1, &id), WARM_FILLING);
	assert_int_equal(warm_get(again, 2, &id), WARM_EMPTY);
	assert_int_equal(warm_get(again, 4, &id), WARM_WHOLE);
	assert_int_equal(id, 0xfffffffe);
	assert_true(!warm_part(again, 0) && !warm_part(again, 1) && warm_part(again, 2));
	warm_set_part(again, 2, false);
	assert_false(warm_part(again, 2));
	warm_set(again, 4, WARM_EMPTY, 3);
	assert_int_equal(warm_get(again, 4, &id), WARM_EMPTY);
	warm_destroy(again);
	arena_destroy(e);
	arena_destroy(d);
}

/* Marks with any bit changed, of another place, or made up: filling, never whole. */
static void test_half_marks(void **state)
{
	struct arena *e, *d;
	struct warm *w = table(&e, &d);
	uint64_t whole, other, filling;
	uint32_t id;
	int fd = warm_fd(w);

	warm_set(w, 0, WARM_WHOLE, 7);
	warm_set(w, 1, WARM_WHOLE, 7);
	warm_set(w, 2, WARM_FILLING, 7);
	assert_int_equal(pread(fd, &whole, 8, MARKS), 8);
	assert_int_equal(pread(fd, &other, 8, MARKS + 8), 8);
	assert_int_equal(pread(fd, &filling, 8, MARKS + 16), 8);
	assert_true(whole != other && whole != filling);
	for (int bit = 0; bit < 64; bit++) {
		uint64_t word = whole ^ 1ull << bit;

		assert_int_equal(pwrite(fd, &word, 8, MARKS), 8);
		assert_int_equal(warm_get(w, 0, &id), WARM_FILLING);
	}
	assert_int_equal(pwrite(fd, &other, 8, MARKS), 8);
	assert_int_equal(warm_get(w, 0, &id), WARM_FILLING);
	assert_int_equal(pwrite(fd, &whole, 8, MARKS), 8);
	assert_int_equal(warm_get(w, 0, &id), WARM_WHOLE);
	warm_destroy(w);
	arena_destroy(e);
	arena_destroy(d);
}

static void test_shapes(void **state)
{
	static const struct {
		size_t at;
		const char *why;
	} fields[] = {
		{ offsetof(struct warm_shape, model), "it is of another model" },
		{ offsetof(struct warm_shape, files), "the model's files were written" },
		{ offsetof(struct warm_shape, layout), "lie in other places" },
		{ offsetof(struct warm_shape, budget_bytes), "the budget of experts was 4 B" },
		{ offsetof(struct warm_shape, experts_bytes), "lie in other places" },
		{ offsetof(struct warm_shape, dense_bytes), "lie in other places" },
		{ offsetof(struct warm_shape, n_slots), "lie in other places" },
		{ offsetof(struct warm_shape, n_parts), "lie in other places" },
		{ offsetof(struct warm_shape, n_nodes), "cut for 1 NUMA nodes" },
		{ offsetof(struct warm_shape, align), "aligned to 512 bytes" },
	};
	struct arena *e, *d, *more = make(usual.experts_bytes);
	struct warm *w = table(&e, &d), *again;
	struct warm_shape peeked;
	int fd = dup(warm_fd(w));

	assert_int_equal(warm_peek(fd, &peeked, NULL), 0);
	assert_memory_equal(&peeked, &usual, sizeof(usual));
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		struct warm_shape s = usual;

		((uint8_t *)&s)[fields[i].at] ^= 0x10;
		refuse_table(fd, &s, e, d, fields[i].why);
	}
	refuse_table(fd, &usual, more, d, "it is about other memory");
	refuse_table(fd, &usual, d, e, "it is about other memory");
	refuse_table(fd, &usual, NULL, d, "it is about other memory");
	warm_destroy(w);
	assert_int_equal(warm_take(fd, &usual, e, d, &again, NULL), 0);
	warm_destroy(again);
	arena_destroy(e);
	arena_destroy(d);
	arena_destroy(more);
}

/* Every byte of the head changed in turn, and tables of any length. */
static void test_hostile_heads(void **state)
{
	struct arena *e, *d;
	struct warm *w = table(&e, &d);
	struct warm_shape shape;
	uint8_t head[256];
	int fd = warm_fd(w), n = 0;
	uint64_t lengths[] = { 0, 1, 100, 4095, 4096, 12288 };

	assert_int_equal(pread(fd, head, sizeof(head), 0), sizeof(head));
	for (size_t i = 0; i < sizeof(head); i++) {
		head[i] ^= 0x41;
		assert_int_equal(pwrite(fd, head, sizeof(head), 0), sizeof(head));
		n += warm_peek(fd, &shape, NULL) != 0;
		head[i] ^= 0x41;
	}
	/* the checksum is of all but the count of starts, which is behind it */
	assert_int_equal(n, 144);
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		int other = memfd_create("x", MFD_ALLOW_SEALING);
		size_t some = u64_min(lengths[i], sizeof(head));

		assert_int_equal(ftruncate(other, (off_t)lengths[i]), 0);
		assert_int_equal(pwrite(other, head, some, 0), some);
		assert_int_equal(fcntl(other, F_ADD_SEALS, SEALS), 0);
		assert_true(warm_peek(other, &shape, NULL) < 0);
		close(other);
	}
	assert_true(warm_peek(-1, &shape, NULL) < 0);
	warm_destroy(w);
	arena_destroy(e);
	arena_destroy(d);
}

static void test_in_use(void **state)
{
	struct arena *e, *d;
	struct warm *w = table(&e, &d), *again;
	int fd = dup(warm_fd(w)), status;
	pid_t child = fork();

	if (!child) {
		struct err err = { { 0 } };

		_exit(warm_take(fd, &usual, e, d, &again, &err) == -EBUSY &&
				      strstr(err.text, "uses it still")
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(fd);
	warm_destroy(w);
	arena_destroy(e);
	arena_destroy(d);
}

/* ---- residency ---- */

struct rig {
	struct model model;
	struct layer layers[N_LAYERS];
	struct reader_memory disk;
	struct reader_memory_file file;
	struct reader *reader;
	struct arena *arena;
	struct warm *warm;
	struct residency *r;
	struct residency_need need;
	int fd, table;
};

static uint8_t *content;
static const uint64_t content_bytes = 100 + (uint64_t)N_LAYERS * N_EXPERT * EXPERT;

static void make_model(struct rig *rig)
{
	rig->model.layers = rig->layers;
	rig->model.n_layers = N_LAYERS;
	rig->model.n_expert = N_EXPERT;
	rig->model.n_expert_used = N_USED;
	for (uint32_t i = 0; i < N_LAYERS; i++) {
		struct expert_layout *l = &rig->layers[i].experts;

		l->part[0] = (struct expert_part){ .offset = 100 + (uint64_t)i * N_EXPERT * EXPERT,
						   .bytes = EXPERT };
		l->n_parts = 1;
		l->bytes = EXPERT;
		l->matrix[EXPERT_DOWN].n_out = 100;
		l->matrix[EXPERT_DOWN].row_bytes = EXPERT / 100;
	}
}

/* @before: another process's rig, of which memory and table are taken. */
static void open_rig(struct rig *rig, const struct rig *before)
{
	struct reader_config c = { .ops = &reader_memory,
				   .ops_arg = &rig->disk,
				   .least_align = 512 };
	struct warm_shape shape = { .n_nodes = 1, .align = 512, .model = 5 };
	struct residency_layout layout;
	struct gguf_file list[1];

	memset(rig, 0, sizeof(*rig));
	make_model(rig);
	rig->file.content = content;
	atomic_store(&rig->file.bytes, content_bytes);
	rig->disk.files = &rig->file;
	rig->disk.n_files = 1;
	reader_memory_describe(&rig->disk, list);
	assert_int_equal(reader_create_files(list, 1, &c, &rig->reader, NULL), 0);
	residency_need(&rig->model, 512, NULL, &rig->need);
	assert_int_equal(
		residency_layout(&rig->model, 512, rig->need.all_bytes, NULL, &layout, NULL), 0);
	assert_int_equal(layout.slot_bytes_total, rig->need.all_bytes);
	shape.layout = layout.hash;
	shape.n_slots = layout.n_slots;
	shape.experts_bytes = rig->need.all_bytes;
	if (before) {
		struct err err;

		assert_int_equal(take(before->fd, shape.experts_bytes, &rig->arena, &err), 0);
		assert_int_equal(
			warm_take(before->table, &shape, rig->arena, NULL, &rig->warm, NULL), 0);
	} else {
		rig->arena = make(shape.experts_bytes);
		assert_int_equal(warm_create(&shape, rig->arena, NULL, &rig->warm, NULL), 0);
	}
	assert_int_equal(residency_create(&rig->model, rig->arena, rig->need.all_bytes, rig->reader,
					  NULL, &rig->r, NULL),
			 0);
	assert_int_equal(residency_keep(rig->r, rig->warm, rig->arena, before != NULL, NULL), 0);
	rig->fd = dup(arena_fd(rig->arena));
	rig->table = dup(warm_fd(rig->warm));
}

static void close_rig(struct rig *rig)
{
	reader_destroy(rig->reader);
	residency_destroy(rig->r);
	warm_destroy(rig->warm);
	arena_destroy(rig->arena);
}

static void load(struct rig *rig, expert_id_t id)
{
	assert_int_equal(residency_load(rig->r, id, READ_DEMAND), 0);
	while (!residency_landed(rig->r, id))
		usleep(100);
	assert_int_equal(residency_landed(rig->r, id), 1);
	residency_unpin(rig->r, TIER_HOST, id);
	residency_settle(rig->r);
}

static bool present(const struct rig *rig, expert_id_t id)
{
	return residency_state(rig->r, TIER_HOST, id) == COPY_PRESENT;
}

static void check_bytes(struct rig *rig, expert_id_t id)
{
	assert_int_equal(residency_pin(rig->r, TIER_HOST, id), 0);
	assert_memory_equal(residency_view(rig->r, id).at[EXPERT_DOWN][0],
			    content + 100 + (uint64_t)id * EXPERT, EXPERT);
	residency_unpin(rig->r, TIER_HOST, id);
}

static void test_taken_over(void **state)
{
	struct residency_stats stats;
	struct rig a, b;

	open_rig(&a, NULL);
	for (expert_id_t id = 0; id < N_LAYERS * N_EXPERT; id += 2)
		load(&a, id);
	/* evicted, and read again elsewhere: its first bytes are whole still, and count once */
	assert_int_equal(residency_evict(a.r, TIER_HOST, 4), 0);
	load(&a, 5);
	load(&a, 4);
	close_rig(&a);
	open_rig(&b, &a);
	residency_get_stats(b.r, &stats);
	assert_int_equal(stats.experts_resident, 13);
	assert_int_equal(stats.resident_bytes, 13 * EXPERT);
	for (expert_id_t id = 0; id < N_LAYERS * N_EXPERT; id++) {
		assert_int_equal(present(&b, id), id % 2 == 0 || id == 5);
		if (present(&b, id))
			check_bytes(&b, id);
	}
	for (expert_id_t id = 0; id < N_LAYERS * N_EXPERT; id++) {
		if (!present(&b, id))
			load(&b, id);
		check_bytes(&b, id);
	}
	assert_int_equal(residency_free_slots(b.r, TIER_HOST, 0), 0);
	residency_get_stats(b.r, &stats);
	assert_int_equal(stats.loads, 11);
	close_rig(&b);
	close(b.fd);
	close(b.table);
}

/*
 * A read that was under way when its process died goes on into the old page: here by a mapping of it that is
 * held. The slot, and those that share its huge pages, are given up; nothing written later to the old page is seen.
 */
static void test_cut_reads(void **state)
{
	uint64_t word = 0x123456789abcdef0, room = align_up(EXPERT + 511, 512);
	struct residency_stats stats;
	struct rig a, b;
	uint32_t slot = 10, lost = 0;
	uint64_t first = slot * room / ARENA_RENEW * ARENA_RENEW;
	uint64_t end = align_up((slot + 1) * room, ARENA_RENEW);

	open_rig(&a, NULL);
	for (expert_id_t id = 0; id < N_LAYERS * N_EXPERT; id++)
		load(&a, id);
	close_rig(&a);
	assert_int_equal(pwrite(a.table, &word, 8, MARKS + 8 * slot), 8);
	open_rig(&b, &a);
	for (uint32_t i = 0; i < N_LAYERS * N_EXPERT; i++) {
		bool shares = i * room < end && (i + 1) * room > first;

		lost += shares;
		assert_int_equal(present(&b, i), !shares);
		if (!shares)
			check_bytes(&b, i);
	}
	assert_true(lost >= 2 && lost < 10);
	residency_get_stats(b.r, &stats);
	assert_int_equal(stats.experts_resident, N_LAYERS * N_EXPERT - lost);
	assert_int_equal(pread(b.table, &word, 8, MARKS + 8 * slot), 8);
	assert_int_equal(word, 0);
	for (uint8_t *at = (uint8_t *)arena_base(b.arena) + first,
		     *stop = (uint8_t *)arena_base(b.arena) + u64_min(end, arena_bytes(b.arena));
	     at < stop; at += 4096)
		assert_int_equal(*at, 0);
	close_rig(&b);
	close(b.fd);
	close(b.table);
}

/* A mark that is right by its check and of an expert that is none, or of none of this class. */
static void test_wrong_experts(void **state)
{
	struct rig a, b;

	open_rig(&a, NULL);
	load(&a, 3);
	warm_set(a.warm, 1, WARM_WHOLE, N_LAYERS * N_EXPERT);
	warm_set(a.warm, 2, WARM_WHOLE, UINT32_MAX);
	close_rig(&a);
	open_rig(&b, &a);
	assert_true(present(&b, 3));
	assert_int_equal(residency_free_slots(b.r, TIER_HOST, 0), N_LAYERS * N_EXPERT - 1);
	close_rig(&b);
	close(b.fd);
	close(b.table);
}

/* Failed and withdrawn reads leave an empty slot. */
static void test_failed_read(void **state)
{
	struct rig a;
	uint32_t id;

	open_rig(&a, NULL);
	atomic_store(&a.file.bytes, 5 * EXPERT); /* the file was cut */
	assert_int_equal(residency_load(a.r, 20, READ_DEMAND), 0);
	while (!residency_landed(a.r, 20))
		usleep(100);
	assert_true(residency_landed(a.r, 20) < 0);
	assert_int_equal(warm_get(a.warm, 0, &id), WARM_EMPTY);
	residency_unpin(a.r, TIER_HOST, 20);
	residency_settle(a.r);
	close_rig(&a);
	close(a.fd);
	close(a.table);
}

static int fill_content(void **state)
{
	content = malloc(content_bytes);
	assert_non_null(content);
	srand(5);
	for (uint64_t i = 0; i < content_bytes; i++)
		content[i] = (uint8_t)(rand() >> 5 | 1);
	return 0;
}

static int free_content(void **state)
{
	free(content);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_stay),  cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_marks),	    cmocka_unit_test(test_half_marks),
		cmocka_unit_test(test_shapes),	    cmocka_unit_test(test_hostile_heads),
		cmocka_unit_test(test_in_use),	    cmocka_unit_test(test_taken_over),
		cmocka_unit_test(test_cut_reads),   cmocka_unit_test(test_wrong_experts),
		cmocka_unit_test(test_failed_read),
	};

	return cmocka_run_group_tests(tests, fill_content, free_content);
}
