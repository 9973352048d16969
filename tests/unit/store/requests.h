/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/store/requests.h: requests that know how they ended, for tests of the reader. Include
 * after cmocka.h. Everything is used by the test's thread but request_done(), a reader's.
 */
#ifndef SLUICE_TESTS_REQUESTS_H
#define SLUICE_TESTS_REQUESTS_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "store/reader.h"

#define FILLER 0xa5

struct tracked {
	struct reader_request request; /* first */
	uint8_t *room;
	uint64_t room_bytes;
	int result;
	_Atomic int ended; /* how often done() was called */
};

static inline void request_done(struct reader_request *r, int result)
{
	struct tracked *t = (struct tracked *)r;

	t->result = result;
	atomic_fetch_add(&t->ended, 1);
}

/* A request with exactly the room that it may use, and filler around it. */
static inline void prepare_request(struct reader *r, struct tracked *t, uint32_t file,
				   uint64_t offset, uint64_t bytes)
{
	uint32_t align = reader_align(r);

	memset(t, 0, sizeof(*t));
	t->room_bytes = reader_room(offset, bytes, align);
	t->room = aligned_alloc(align, t->room_bytes + 2 * (uint64_t)align);
	assert_non_null(t->room);
	memset(t->room, FILLER, t->room_bytes + 2 * (uint64_t)align);
	t->request.file = file;
	t->request.offset = offset;
	t->request.bytes = bytes;
	t->request.dest = t->room + align + offset % align;
	t->request.done = request_done;
}

static inline void wait_request(struct tracked *t)
{
	for (int i = 0; i < 60000 && !atomic_load(&t->ended); i++)
		usleep(500);
	assert_int_equal(atomic_load(&t->ended), 1);
}

/* The bytes are those of @content, nothing outside of the room was touched; frees the room. */
static inline void check_request(struct reader *r, struct tracked *t, const uint8_t *content)
{
	uint32_t align = reader_align(r);

	assert_int_equal(t->result, 0);
	assert_memory_equal(t->request.dest, content + t->request.offset, t->request.bytes);
	for (uint32_t i = 0; i < align; i++) {
		assert_int_equal(t->room[i], FILLER);
		assert_int_equal(t->room[align + t->room_bytes + i], FILLER);
	}
	free(t->room);
}

/* @n requests of random extents, every 8th to the very end of the file, submitted in two halves. */
static inline void read_many(struct reader *r, const uint8_t *content, uint64_t content_bytes,
			     unsigned n)
{
	struct reader_request **list = calloc(n, sizeof(*list));
	struct tracked *t = calloc(n, sizeof(*t));

	assert_true(list && t);
	for (unsigned i = 0; i < n; i++) {
		uint64_t bytes = 1 + (uint64_t)rand() % (i % 4 ? 5000 : 1500000);
		uint64_t offset = (uint64_t)rand() % (content_bytes - bytes);

		if (i % 8 == 7)
			offset = content_bytes - bytes;
		prepare_request(r, &t[i], 0, offset, bytes);
		list[i] = &t[i].request;
	}
	reader_submit(r, list, n / 2);
	reader_submit(r, list + n / 2, n - n / 2);
	for (unsigned i = 0; i < n; i++) {
		wait_request(&t[i]);
		check_request(r, &t[i], content);
	}
	free(list);
	free(t);
}

#endif
