/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/uring.c: the reader over io_uring.
 *
 * One io thread owns the ring (so DEFER_TASKRUN and SINGLE_ISSUER apply where the kernel has them)
 * and sleeps in the kernel until a read completes or the eventfd says that there is new work; a
 * read of that eventfd is always in flight. Submitters write to it only when the io thread has said
 * that it is about to sleep.
 */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/futex.h"
#include "base/num.h"
#include "base/turns.h"
#include "store/reader_backend.h"

#define BUFFER_BYTES  (1ull << 30) /* most that one registered buffer may have */
#define WAKE_TAG      UINT64_MAX
#define IO_NICE	      (-10)
#define FREE_REFUSALS 16
#define PAUSE_US      100

enum { REGISTRATION_NONE, REGISTRATION_ASKED, REGISTRATION_ANSWERED };

struct uring {
	struct reader *r;
	struct io_uring ring; /* this and the next block: io thread */
	pthread_t thread;
	int event_fd;
	uint64_t event_value;
	bool event_armed, files_registered;
	_Atomic uint32_t sleeping; /* set by the io thread, taken back by it or a submitter */

	struct read_piece *pieces; /* depth */
	uint32_t *free_list, n_free;
	unsigned n_refused; /* submissions in a row that the kernel did not take */

	/* asked by another thread, which then waits; done by the io thread, a buffer per round */
	_Atomic uint32_t registration;
	uint8_t *asked_base;
	uint64_t asked_bytes;
	int registered_result;
	bool buffers_sparse;
	uint8_t *buffers_base; /* the first buffers_bytes from here, in steps of BUFFER_BYTES */
	uint64_t buffers_bytes;
};

static int setup_ring(struct uring *u, unsigned entries)
{
	static const unsigned flags[] = {
#ifdef IORING_SETUP_DEFER_TASKRUN
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
#endif
#ifdef IORING_SETUP_SINGLE_ISSUER
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
#endif
		IORING_SETUP_COOP_TASKRUN,
		0,
	};
	int rc = -ENOSYS;

	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		struct io_uring_params p = { .flags = flags[i] };

		rc = io_uring_queue_init_params(entries, &u->ring, &p);
		if (rc != -EINVAL)
			return rc;
	}
	return rc;
}

/* Descriptor 2 * file is the direct one (or -1), 2 * file + 1 the buffered one. */
static void register_files(struct uring *u)
{
	struct reader *r = u->r;
	int *fds = calloc(2 * r->n_files, sizeof(*fds));

	if (!fds)
		return;
	for (uint32_t i = 0; i < r->n_files; i++) {
		fds[2 * i] = r->files[i].fd_direct;
		fds[2 * i + 1] = r->files[i].fd_buffered;
	}
	u->files_registered = !io_uring_register_files(&u->ring, fds, 2 * r->n_files);
	free(fds);
}

/* All buffers in one call, for kernels before 5.19. Reads stall meanwhile. */
static int register_at_once(struct uring *u, uint64_t n)
{
	struct iovec *v = calloc(n, sizeof(*v));
	int rc;

	if (!v)
		return -ENOMEM;
	for (uint64_t i = 0; i < n; i++) {
		v[i].iov_base = u->asked_base + i * BUFFER_BYTES;
		v[i].iov_len = u64_min(BUFFER_BYTES, u->asked_bytes - i * BUFFER_BYTES);
	}
	rc = io_uring_register_buffers(&u->ring, v, (unsigned)n);
	if (!rc)
		u->buffers_bytes = u->asked_bytes;
	free(v);
	return rc;
}

/* The next buffer: pinning one takes milliseconds, so reads go on between them. */
static int register_next(struct uring *u)
{
	uint64_t n = div_ceil(u->asked_bytes, BUFFER_BYTES);
	struct iovec v;
	int rc;

	if (!u->buffers_sparse) {
		rc = io_uring_register_buffers_sparse(&u->ring, (unsigned)n);
		if (rc == -EINVAL)
			return register_at_once(u, n);
		if (rc)
			return rc;
		u->buffers_sparse = true;
	}
	v.iov_base = u->asked_base + u->buffers_bytes;
	v.iov_len = u64_min(BUFFER_BYTES, u->asked_bytes - u->buffers_bytes);
	rc = io_uring_register_buffers_update_tag(
		&u->ring, (unsigned)(u->buffers_bytes / BUFFER_BYTES), &v, NULL, 1);
	if (rc < 0)
		return rc;
	u->buffers_bytes += v.iov_len;
	return 0;
}

/* True: more of it is left for the next round. */
static bool go_on_registering(struct uring *u)
{
	/* acquire: sees asked_*, which were stored before the release in uring_register() */
	if (atomic_load_explicit(&u->registration, memory_order_acquire) != REGISTRATION_ASKED)
		return false;
	u->buffers_base = u->asked_base;
	u->registered_result = register_next(u);
	if (!u->registered_result && u->buffers_bytes < u->asked_bytes)
		return true;
	atomic_store_explicit(&u->registration, REGISTRATION_ANSWERED, memory_order_release);
	futex_wake_all(&u->registration);
	return false;
}

/* The ring has room for depth reads and the event, and each is in it at most once. */
static struct io_uring_sqe *get_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	assert(sqe);
	return sqe;
}

static void prepare(struct uring *u, uint32_t i)
{
	struct read_piece *p = &u->pieces[i];
	struct io_uring_sqe *sqe = get_sqe(u);
	int fd = reader_piece_fd(u->r, p);
	uint8_t *at = p->dest + p->done;
	unsigned n = (unsigned)(p->bytes - p->done);
	uint64_t inside = (uint64_t)(at - u->buffers_base);

	if (u->files_registered)
		fd = (int)(2 * p->file + !p->direct);
	if (u->buffers_bytes && at >= u->buffers_base && inside + n <= u->buffers_bytes &&
	    inside / BUFFER_BYTES == (inside + n - 1) / BUFFER_BYTES)
		io_uring_prep_read_fixed(sqe, fd, at, n, p->offset + p->done,
					 (int)(inside / BUFFER_BYTES));
	else
		io_uring_prep_read(sqe, fd, at, n, p->offset + p->done);
	if (u->files_registered)
		sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = i;
}

static void arm_event(struct uring *u)
{
	struct io_uring_sqe *sqe;

	if (u->event_armed)
		return;
	sqe = get_sqe(u);
	io_uring_prep_read(sqe, u->event_fd, &u->event_value, sizeof(u->event_value), 0);
	sqe->user_data = WAKE_TAG;
	u->event_armed = true;
}

/*
 * Each piece is handed to the kernel on its own. In one batch the block layer merges neighbours, the
 * merged reads end together and are merged again: fewer are in flight than the depth says, and large
 * extents are read at 60 % of the rate (measured, virtio disk). A call costs 1 us of some 500.
 */
static void take_pieces(struct uring *u)
{
	while (u->n_free) {
		uint32_t i = u->free_list[u->n_free - 1];
		struct read_piece *p = &u->pieces[i];
		uint64_t begin;

		if (!reader_take_piece(u->r, p))
			return;
		u->n_free--;
		begin = reader_fill_begin(p);
		prepare(u, i);
		io_uring_submit(&u->ring); /* refused: it goes with the next call */
		reader_fill_end(u->r, p, begin);
	}
}

static void take_completions(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&u->ring, head, cqe)
	{
		uint64_t tag = cqe->user_data;
		int result = cqe->res;

		n++;
		if (tag == WAKE_TAG) {
			u->event_armed = false;
			continue;
		}
		if (reader_book_piece(u->r, &u->pieces[tag], result))
			prepare(u, (uint32_t)tag);
		else
			u->free_list[u->n_free++] = (uint32_t)tag;
	}
	io_uring_cq_advance(&u->ring, n);
}

/*
 * The compute threads fill every core, and each completion has to be answered with the next read.
 * A higher priority where it is permitted, and an early turn for anyone.
 */
static void raise_priority(void)
{
	if (sched_getscheduler(0) != SCHED_OTHER)
		return;			       /* somebody has chosen */
	setpriority(PRIO_PROCESS, 0, IO_NICE); /* 0: this thread alone; refused: as it was */
	turns_short(true);
}

/* Is there a reason not to sleep? Else submitters are told to wake us, and only then. */
static bool stay_awake(struct uring *u)
{
	struct reader *r = u->r;

	if (!u->n_free)
		return false; /* nothing could be taken: a completion is what we wait for */
	atomic_store(&u->sleeping, 1);
	/* seq_cst with submit's push: it sees us asleep, or we see its request */
	if (atomic_load(&r->stop) || !reader_has_work(r))
		return false;
	atomic_store(&u->sleeping, 0);
	return true;
}

/* Hands the prepared reads to the kernel and sleeps until something completes. */
static void submit_and_wait(struct uring *u, bool wait)
{
	int rc = wait ? io_uring_submit_and_wait(&u->ring, 1)
		      : io_uring_submit_and_get_events(&u->ring);

	atomic_store(&u->sleeping, 0);
	if (rc >= 0 || rc == -EINTR) {
		u->n_refused = 0;
		return;
	}
	/* EAGAIN, EBUSY and what else may come: the entries stay in the ring and go with the next
	 * call. A while at full speed; then with pauses, as nothing will wake us. */
	if (++u->n_refused > FREE_REFUSALS && !io_uring_cq_ready(&u->ring))
		usleep(PAUSE_US);
}

/*
 * The kernel's workers, which do what a ring cannot do at once, run where the process's first thread may,
 * and not everywhere: some kernels start them without a look at who asks. They are the calling
 * thread's. Kernels before 5.14 refuse.
 */
static void keep_workers(struct uring *u)
{
	cpu_set_t set;

	if (!sched_getaffinity(getpid(), sizeof(set), &set))
		io_uring_register_iowq_aff(&u->ring, sizeof(set), &set);
}

static void *io_main(struct uring *u)
{
	struct reader *r = u->r;

	pthread_setname_np(pthread_self(), "sluice-io");
	raise_priority();
	keep_workers(u);
	register_files(u);
	for (;;) {
		bool registering = go_on_registering(u);

		if (!atomic_load(&r->stop))
			take_pieces(u);
		else if (u->n_free == r->depth)
			return NULL;
		arm_event(u);
		if (!registering && stay_awake(u))
			continue;
		submit_and_wait(u, !registering);
		take_completions(u);
	}
}

static void write_event(struct uring *u)
{
	uint64_t one = 1;

	while (write(u->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		; /* EAGAIN cannot be: the counter never comes near its end */
}

static void uring_wake(struct reader *r, void *state)
{
	struct uring *u = state;

	if (atomic_load(&u->sleeping) && atomic_exchange(&u->sleeping, 0))
		write_event(u);
}

static int uring_register(struct reader *r, void *state, void *base, uint64_t bytes,
			  struct err *err)
{
	struct uring *u = state;

	if (!bytes || atomic_load(&u->registration) != REGISTRATION_NONE)
		return err_set(err, -EINVAL, "memory is registered with io_uring once");
	u->asked_base = base;
	u->asked_bytes = bytes;
	atomic_store_explicit(&u->registration, REGISTRATION_ASKED, memory_order_release);
	write_event(u);
	/* acquire: sees the result, stored before the release in go_on_registering() */
	while (atomic_load_explicit(&u->registration, memory_order_acquire) == REGISTRATION_ASKED)
		futex_wait(&u->registration, REGISTRATION_ASKED, 0);
	if (u->registered_result)
		return err_set(err, u->registered_result,
			       "%llu of %llu bytes are registered with io_uring: %s (the memlock "
			       "limit, ulimit -l, bounds them); reads go on without",
			       (unsigned long long)u->buffers_bytes, (unsigned long long)bytes,
			       strerror(-u->registered_result));
	return 0;
}

static void uring_free(struct uring *u)
{
	if (u->event_fd >= 0)
		close(u->event_fd);
	free(u->pieces);
	free(u->free_list);
	free(u);
}

struct start {
	struct uring *u;
	unsigned entries;
	_Atomic uint32_t answered;
	int rc;
};

/* The ring is made by the thread that will use it, as SINGLE_ISSUER wants. */
static void *io_start(void *arg)
{
	struct start *s = arg;
	struct uring *u = s->u;
	int rc = setup_ring(u, s->entries);

	s->rc = rc;
	atomic_store(&s->answered, 1);
	futex_wake_all(&s->answered); /* s is gone from here on */
	return rc ? NULL : io_main(u);
}

static void uring_stop(struct reader *r, void *state)
{
	struct uring *u = state;

	write_event(u);
	pthread_join(u->thread, NULL);
	io_uring_queue_exit(&u->ring);
	uring_free(u);
}

static int uring_start(struct reader *r, void *arg, void **ret_state, struct err *err)
{
	struct uring *u = calloc(1, sizeof(*u));
	struct start s = { .u = u, .entries = 8 };
	int rc;

	if (!u)
		return err_set(err, -ENOMEM, "no memory");
	u->r = r;
	u->event_fd = eventfd(0, EFD_CLOEXEC);
	u->pieces = calloc(r->depth, sizeof(*u->pieces));
	u->free_list = calloc(r->depth, sizeof(*u->free_list));
	if (u->event_fd < 0 || !u->pieces || !u->free_list) {
		uring_free(u);
		return err_set(err, -ENOMEM, "no memory for the reads in flight");
	}
	for (uint32_t i = 0; i < r->depth; i++)
		u->free_list[u->n_free++] = i;
	while (s.entries < r->depth + 2)
		s.entries *= 2;
	rc = pthread_create(&u->thread, NULL, io_start, &s);
	if (rc) {
		uring_free(u);
		return err_set(err, -rc, "no io thread: %s", strerror(rc));
	}
	while (!atomic_load(&s.answered))
		futex_wait(&s.answered, 0, 0);
	if (s.rc) {
		pthread_join(u->thread, NULL);
		uring_free(u);
		return err_set(err, s.rc, "io_uring is refused: %s", strerror(-s.rc));
	}
	*ret_state = u;
	return 0;
}

const struct reader_ops reader_uring = {
	.name = "uring",
	.start = uring_start,
	.stop = uring_stop,
	.wake = uring_wake,
	.register_memory = uring_register,
};
