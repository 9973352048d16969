/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/reader_memory.h: a disk that is memory, with faults on demand. For tests and the
 * simulator; the daemon's programs do not link it.
 *
 *	struct reader_memory disk = { .files = files, .n_files = 1 };
 *	struct reader_config c = { .ops = &reader_memory, .ops_arg = &disk };
 *	struct gguf_file list[1];
 *
 *	reader_memory_describe(&disk, list);
 *	reader_create_files(list, 1, &c, &reader, &err);
 *
 * Reads run on the thread pool of pread.c. Like a disk it refuses a direct read whose offset, length
 * or address is not aligned, with -EINVAL, and cuts short what crosses the end of a file; with
 * reader_config.buffered reads are not direct. Every fault may be set at any time, by any thread.
 */
#ifndef SLUICE_STORE_READER_MEMORY_H
#define SLUICE_STORE_READER_MEMORY_H

#include <stdatomic.h>
#include <stdint.h>

#include "model/gguf.h"
#include "store/reader_backend.h"

struct reader_memory_file {
	const uint8_t *content;
	_Atomic uint64_t bytes; /* may shrink: a truncation */
};

struct reader_memory {
	struct reader_memory_file *files;
	uint32_t n_files;

	/* The next so many reads fail with this; counts down, in this order. */
	_Atomic int eintr, eagain, errors;
	_Atomic int error_code;		   /* for errors; 0: -EIO */
	_Atomic uint64_t bad_from, bad_to; /* reads that touch this range of file bad_file... */
	_Atomic uint32_t bad_file,
		bad_times;	     /* ...fail with -EIO so many times; UINT32_MAX: ever */
	_Atomic uint64_t most_bytes; /* that one read gives; 0: no bound */
	_Atomic uint32_t latency_us; /* of each read */
	_Atomic uint32_t no_direct;  /* 1: direct reads are refused with -EINVAL */
	_Atomic uint32_t held;	     /* 1: reads wait; see reader_memory_hold() */

	_Atomic uint64_t reads; /* how many were executed */
};

extern const struct reader_ops reader_memory;

/* The files as reader_create_files() wants them: @ret has room for disk->n_files. Not kept. */
void reader_memory_describe(const struct reader_memory *disk, struct gguf_file *ret);

/* Makes reads wait before they do anything, and lets them go; the end of the reader does too. Any thread. */
void reader_memory_hold(struct reader_memory *disk);
void reader_memory_release(struct reader_memory *disk);

#endif
