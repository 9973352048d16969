/* SPDX-License-Identifier: MIT */
/* daemon/store/warm.c: see warm.h. */
#include "store/warm.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/num.h"
#include "base/size.h"
#include "model/gguf.h"
#include "store/arena_impl.h"

#define HEAD_BYTES 4096
#define MAGIC	   "SLUWARM"

struct head {
	char magic[8];
	uint32_t version, head_bytes;
	struct warm_shape shape;
	/* of the memory, by enum warm_memory; zeros for none */
	uint64_t inode[WARM_NR], device[WARM_NR];
	uint64_t made_ns;  /* so that no two tables have the same checksum */
	uint64_t checksum; /* of all before it */
	/* not in the checksum */
	_Atomic uint64_t starts;
};

static_assert(sizeof(struct head) <= HEAD_BYTES, "the marks begin behind the head");
static_assert(sizeof(_Atomic uint64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2,
	      "a mark is one store, whenever the process is killed");

struct warm {
	int fd;
	uint64_t bytes;
	struct head *head;
	_Atomic uint64_t *slots, *parts; /* marks */
	uint32_t n_slots, n_parts;
	uint64_t key; /* of the marks' checks */
};

uint64_t warm_files(const struct gguf *g)
{
	uint64_t h = 0;

	for (uint32_t i = 0; i < gguf_n_files(g); i++) {
		const struct gguf_file *f = gguf_file(g, i);
		const uint64_t of[] = { f->bytes, f->device, f->inode, (uint64_t)f->mtime_ns };

		h = hash64(of, sizeof(of), h);
	}
	return h;
}

static uint64_t table_bytes(const struct warm_shape *s)
{
	return align_up(HEAD_BYTES + 8 * ((uint64_t)s->n_slots + s->n_parts), HEAD_BYTES);
}

static uint64_t head_checksum(const struct head *h)
{
	return hash64(h, offsetof(struct head, checksum), 0);
}

uint64_t warm_held_bytes(int fd, bool *ret_huge)
{
	uint64_t bytes;
	struct stat st;

	if (fd < 0 || arena_check_file(fd, 0, &bytes, ret_huge, NULL) || fstat(fd, &st))
		return 0;
	return (uint64_t)st.st_blocks * 512;
}

/* The head of a table that may be anything. */
static int read_head(int fd, struct head *ret, struct err *err)
{
	uint64_t bytes;
	bool huge;
	int rc = arena_check_file(fd, 0, &bytes, &huge, err);

	if (rc)
		return rc;
	if (bytes < HEAD_BYTES || pread(fd, ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret))
		return err_set(err, -EINVAL, "it is too short for a table: %llu bytes",
			       (unsigned long long)bytes);
	if (memcmp(ret->magic, MAGIC, sizeof(ret->magic)) != 0)
		return err_set(err, -EINVAL, "it is no table of sluiced");
	if (ret->version != WARM_VERSION || ret->head_bytes != sizeof(*ret))
		return err_set(err, -ESTALE, "it is of version %u of the layout, this is %d",
			       ret->version, WARM_VERSION);
	if (ret->checksum != head_checksum(ret))
		return err_set(err, -EBADMSG, "its head is damaged");
	if (bytes != table_bytes(&ret->shape))
		return err_set(err, -EINVAL, "it has %llu bytes instead of %llu",
			       (unsigned long long)bytes,
			       (unsigned long long)table_bytes(&ret->shape));
	return 0;
}

int warm_peek(int fd, struct warm_shape *ret, struct err *err)
{
	struct head h;
	int rc = read_head(fd, &h, err);

	if (!rc)
		*ret = h.shape;
	return rc;
}

int warm_compare(const struct warm_shape *was, const struct warm_shape *is, struct err *err)
{
	char a[32], b[32];

	if (was->model != is->model)
		return err_set(err, -ESTALE, "it is of another model");
	if (was->files != is->files)
		return err_set(err, -ESTALE, "the model's files were written or replaced since");
	if (was->n_nodes != is->n_nodes)
		return err_set(err, -ESTALE, "experts were cut for %u NUMA nodes, now for %u",
			       was->n_nodes, is->n_nodes);
	if (was->align != is->align)
		return err_set(err, -ESTALE, "reads were aligned to %u bytes, now to %u",
			       was->align, is->align);
	if (was->budget_bytes != is->budget_bytes)
		return err_set(err, -ESTALE, "the budget of experts was %s and is %s",
			       size_format(a, sizeof(a), was->budget_bytes),
			       size_format(b, sizeof(b), is->budget_bytes));
	if (was->layout != is->layout || was->n_slots != is->n_slots ||
	    was->n_parts != is->n_parts || was->experts_bytes != is->experts_bytes ||
	    was->dense_bytes != is->dense_bytes)
		return err_set(err, -ESTALE, "experts or dense weights lie in other places now");
	return 0;
}

/* The lock ends with the process; descriptors that others hold have no part in it. */
static int take_lock(int fd, struct err *err)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int error;

	if (!fcntl(fd, F_SETLK, &lock))
		return 0;
	error = errno;
	if (error != EAGAIN && error != EACCES)
		return err_set(err, -error, "it cannot be locked: %s", strerror(error));
	if (fcntl(fd, F_GETLK, &lock) || lock.l_type == F_UNLCK)
		lock.l_pid = 0;
	return err_set(err, -EBUSY, "process %d uses it still", (int)lock.l_pid);
}

static int map(struct warm *w, int fd, const struct warm_shape *shape, struct err *err)
{
	uint8_t *base;

	w->bytes = table_bytes(shape);
	base = mmap(NULL, w->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return err_set(err, -errno, "it cannot be mapped: %s", strerror(errno));
	w->head = (struct head *)base;
	w->slots = (_Atomic uint64_t *)(base + HEAD_BYTES);
	w->parts = w->slots + shape->n_slots;
	w->n_slots = shape->n_slots;
	w->n_parts = shape->n_parts;
	return 0;
}

static void describe(struct head *h, enum warm_memory m, const struct arena *a)
{
	struct stat st;

	if (!a || fstat(arena_fd(a), &st))
		return;
	h->inode[m] = (uint64_t)st.st_ino;
	h->device[m] = (uint64_t)st.st_dev;
}

int warm_create(const struct warm_shape *shape, const struct arena *experts,
		const struct arena *dense, struct warm **ret, struct err *err)
{
	struct warm *w = calloc(1, sizeof(*w));
	struct head *h;
	int rc;

	if (!w)
		return err_set(err, -ENOMEM, "no memory");
	w->fd = arena_memory_file(table_bytes(shape), 0);
	rc = w->fd < 0 ? err_set(err, -errno, "no memory file: %s", strerror(errno)) : 0;
	if (!rc)
		rc = take_lock(w->fd, err);
	if (!rc)
		rc = map(w, w->fd, shape, err);
	if (rc) {
		warm_destroy(w);
		return rc;
	}
	h = w->head;
	memcpy(h->magic, MAGIC, sizeof(h->magic));
	h->version = WARM_VERSION;
	h->head_bytes = sizeof(*h);
	h->shape = *shape;
	describe(h, WARM_EXPERTS, experts);
	describe(h, WARM_DENSE, dense);
	h->made_ns = now_ns();
	h->checksum = head_checksum(h);
	atomic_store(&h->starts, 1);
	w->key = h->checksum;
	*ret = w;
	return 0;
}

/* Is it about the memory that came with it? */
static int check_memory(const struct head *h, const struct arena *experts,
			const struct arena *dense, struct err *err)
{
	struct head is;

	memset(&is, 0, sizeof(is));
	describe(&is, WARM_EXPERTS, experts);
	describe(&is, WARM_DENSE, dense);
	if (memcmp(is.inode, h->inode, sizeof(is.inode)) != 0 ||
	    memcmp(is.device, h->device, sizeof(is.device)) != 0)
		return err_set(err, -ESTALE, "it is about other memory");
	return 0;
}

int warm_take(int fd, const struct warm_shape *shape, const struct arena *experts,
	      const struct arena *dense, struct warm **ret, struct err *err)
{
	struct warm *w = calloc(1, sizeof(*w));
	struct head h;
	int rc;

	if (!w)
		return err_set(err, -ENOMEM, "no memory");
	w->fd = -1;
	rc = read_head(fd, &h, err);
	if (!rc)
		rc = warm_compare(&h.shape, shape, err);
	if (!rc)
		rc = check_memory(&h, experts, dense, err);
	if (!rc)
		rc = take_lock(fd, err);
	if (!rc)
		rc = map(w, fd, shape, err);
	if (rc) {
		warm_destroy(w);
		return rc;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	w->fd = fd;
	w->key = h.checksum;
	atomic_fetch_add(&w->head->starts, 1);
	*ret = w;
	return 0;
}

void warm_destroy(struct warm *w)
{
	if (!w)
		return;
	if (w->head)
		munmap(w->head, w->bytes);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}

int warm_fd(const struct warm *w)
{
	return w->fd;
}

uint64_t warm_starts(const struct warm *w)
{
	return atomic_load(&w->head->starts);
}

/* The word of a mark: what it says below, a check of that and of its place above. */
static uint64_t word_of(const struct warm *w, uint32_t place, enum warm_state state, uint32_t value)
{
	const uint32_t of[] = { place, (uint32_t)state, value };

	return hash64(of, sizeof(of), w->key) << 32 | 1ull << 63 | value; /* never 0 */
}

void warm_set(struct warm *w, uint32_t slot, enum warm_state state, uint32_t id)
{
	/* release: whole only after its bytes. Filling needs no more: reads are posted by calls that order. */
	atomic_store_explicit(&w->slots[slot],
			      state == WARM_EMPTY ? 0 : word_of(w, slot, state, id),
			      memory_order_release);
}

enum warm_state warm_get(const struct warm *w, uint32_t slot, uint32_t *ret_id)
{
	uint64_t word = atomic_load_explicit(&w->slots[slot], memory_order_acquire);

	if (!word)
		return WARM_EMPTY;
	if (word != word_of(w, slot, WARM_WHOLE, (uint32_t)word))
		return WARM_FILLING;
	*ret_id = (uint32_t)word;
	return WARM_WHOLE;
}

void warm_set_part(struct warm *w, uint32_t part, bool whole)
{
	atomic_store_explicit(&w->parts[part],
			      whole ? word_of(w, w->n_slots + part, WARM_WHOLE, part) : 0,
			      memory_order_release);
}

bool warm_part(const struct warm *w, uint32_t part)
{
	return atomic_load_explicit(&w->parts[part], memory_order_acquire) ==
	       word_of(w, w->n_slots + part, WARM_WHOLE, part);
}
