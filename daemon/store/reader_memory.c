/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/reader_memory.c: see reader_memory.h. Called by the threads of pread.c's pool.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/futex.h"
#include "base/num.h"
#include "store/reader_memory.h"

static bool take(_Atomic int *n)
{
	int left = atomic_load(n);

	while (left > 0)
		if (atomic_compare_exchange_weak(n, &left, left - 1))
			return true;
	return false;
}

static bool in_bad_range(struct reader_memory *disk, uint32_t file, uint64_t offset, uint64_t bytes)
{
	uint32_t left = atomic_load(&disk->bad_times);

	if (file != atomic_load(&disk->bad_file) || offset >= atomic_load(&disk->bad_to) ||
	    offset + bytes <= atomic_load(&disk->bad_from))
		return false;
	while (left && left != UINT32_MAX)
		if (atomic_compare_exchange_weak(&disk->bad_times, &left, left - 1))
			return true;
	return left != 0;
}

/* Faults that concern no place in a file: 0 or -errno. */
static int passing_fault(struct reader_memory *disk)
{
	int code = atomic_load(&disk->error_code);

	if (take(&disk->eintr))
		return -EINTR;
	if (take(&disk->eagain))
		return -EAGAIN;
	if (take(&disk->errors))
		return code ? code : -EIO;
	return 0;
}

static ssize_t read_memory(struct reader *r, struct read_piece *p)
{
	struct reader_memory *disk = r->ops_arg;
	uint64_t offset = p->offset + p->done, bytes = p->bytes - p->done;
	uint64_t end = atomic_load(&disk->files[p->file].bytes);
	uint64_t most = atomic_load(&disk->most_bytes);
	uint8_t *to = p->dest + p->done;
	int fault;

	reader_piece_fd(r, p);
	while (atomic_load(&disk->held))
		futex_wait(&disk->held, 1, 0);
	if (atomic_load(&disk->latency_us))
		usleep(atomic_load(&disk->latency_us));
	atomic_fetch_add(&disk->reads, 1);
	fault = passing_fault(disk);
	if (fault)
		return fault;
	if (p->direct &&
	    (atomic_load(&disk->no_direct) || ((offset | bytes | (uintptr_t)to) & (r->align - 1))))
		return -EINVAL;
	if (in_bad_range(disk, p->file, offset, bytes))
		return -EIO;
	if (offset >= end)
		return 0;
	bytes = u64_min(bytes, end - offset);
	if (most)
		bytes = u64_min(bytes, most);
	memcpy(to, disk->files[p->file].content + offset, bytes);
	return (ssize_t)bytes;
}

void reader_memory_describe(const struct reader_memory *disk, struct gguf_file *ret)
{
	for (uint32_t i = 0; i < disk->n_files; i++)
		ret[i] = (struct gguf_file){ .path = "memory",
					     .fd = -1,
					     .bytes = atomic_load(&disk->files[i].bytes) };
}

void reader_memory_hold(struct reader_memory *disk)
{
	atomic_store(&disk->held, 1);
}

void reader_memory_release(struct reader_memory *disk)
{
	atomic_store(&disk->held, 0);
	futex_wake_all(&disk->held);
}

/* No read that is held may keep the reader from ending. */
static void stop_memory(struct reader *r, void *state)
{
	reader_memory_release(r->ops_arg);
	reader_pool_stop(r, state);
}

const struct reader_ops reader_memory = {
	.name = "memory",
	.start = reader_pool_start,
	.stop = stop_memory,
	.wake = reader_pool_wake,
	.read = read_memory,
};
