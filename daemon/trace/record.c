/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/record.c: see record.h.
 *
 * One producer (the engine thread), one consumer (the writer thread), a ring of rows of equal size.
 * The row given last is not published until the next one comes: only then is it known whether its
 * sequence had several tokens in this step (prefill) or one (decode).
 */
#include "trace/record.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/futex.h"
#include "trace/read.h"

#define RING_BYTES  (16u << 20) /* several prefill steps of the largest models */
#define TEXT_BYTES  (64u << 10)
#define WAKE_NS	    1000000000u
#define MAX_K	    1024
#define USE_CHARS   20 /* " 65535:0.12345" and room */
#define WRITER_NICE 10 /* the compute threads go first */

struct row {
	uint64_t step;
	uint32_t seq, pos;
	uint16_t layer, k;
	uint8_t prefill;
	struct {
		uint32_t expert;
		float weight;
	} use[];
};

struct trace {
	/* constant after trace_open() */
	const struct model *model;
	struct trace_slots slots; /* until the header is written */
	bool created;		  /* the file was not there before */
	FILE *file;
	int fd;
	char *path;
	uint32_t max_k;
	size_t row_bytes, n_slots;
	char *ring;

	/* producer's */
	bool pending; /* slot head holds a row that is not published */
	uint64_t last_step;

	/* Release by the one who moves it, acquire by the other. */
	_Atomic uint64_t head, tail;
	_Atomic uint64_t lost;
	_Atomic uint32_t wake; /* futex: changes where there is something new to write */
	_Atomic bool asleep, closing;

	/* writer's */
	pthread_t thread;
	bool started;
	char *text;
	size_t n_text;
	uint64_t written_step, written_lost, good_bytes;
	_Atomic int failed; /* -errno, set once */
	bool said;
};

static struct row *slot(const struct trace *t, uint64_t i)
{
	return (struct row *)(t->ring + (size_t)(i % t->n_slots) * t->row_bytes);
}

static void fail(struct trace *t, int rc)
{
	/* half a row helps nobody: the file ends after the last whole buffer */
	if (ftruncate(t->fd, (off_t)t->good_bytes))
		(void)0; /* a pipe or a device: what is written is written */
	atomic_store_explicit(&t->failed, rc, memory_order_release);
}

static void write_text(struct trace *t)
{
	size_t done = 0;

	while (done < t->n_text && !atomic_load_explicit(&t->failed, memory_order_relaxed)) {
		ssize_t n = write(t->fd, t->text + done, t->n_text - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			fail(t, -errno);
		else
			done += (size_t)n;
	}
	if (done == t->n_text)
		t->good_bytes += done;
	t->n_text = 0;
}

static char *put_number(char *p, uint64_t n)
{
	char digits[20];
	int len = 0;

	do
		digits[len++] = (char)('0' + n % 10);
	while (n /= 10);
	while (len)
		*p++ = digits[--len];
	return p;
}

/* Five decimals; weights are shares, and one above 1 (a scaled router) still fits. */
static char *put_weight(char *p, float weight)
{
	uint32_t n = weight > 0 && weight < 1000 ? (uint32_t)(weight * 1e5f + 0.5f) : 0;

	p = put_number(p, n / 100000);
	*p++ = '.';
	for (uint32_t unit = 10000; unit; unit /= 10)
		*p++ = (char)('0' + n / unit % 10);
	return p;
}

static void put_row(struct trace *t, const struct row *r)
{
	char *p;

	if (t->n_text + 128 + (size_t)r->k * USE_CHARS > TEXT_BYTES)
		write_text(t);
	p = t->text + t->n_text;
	if (r->step != t->written_step) {
		memcpy(p, "step ", 5);
		p = put_number(p + 5, r->step);
		*p++ = '\n';
		t->written_step = r->step;
	}
	*p++ = r->prefill ? 'p' : 'd';
	*p++ = ' ';
	p = put_number(p, r->layer);
	*p++ = ' ';
	p = put_number(p, r->seq);
	*p++ = ' ';
	p = put_number(p, r->pos);
	for (uint32_t i = 0; i < r->k; i++) {
		*p++ = ' ';
		p = put_number(p, r->use[i].expert);
		*p++ = ':';
		p = put_weight(p, r->use[i].weight);
	}
	*p++ = '\n';
	t->n_text = (size_t)(p - t->text);
}

/* Writes what has been published. */
static void drain(struct trace *t)
{
	uint64_t head = atomic_load_explicit(&t->head, memory_order_acquire);
	uint64_t tail = atomic_load_explicit(&t->tail, memory_order_relaxed);
	uint64_t lost = atomic_load_explicit(&t->lost, memory_order_relaxed);

	for (; tail < head; tail++) {
		if (!atomic_load_explicit(&t->failed, memory_order_relaxed))
			put_row(t, slot(t, tail));
		atomic_store_explicit(&t->tail, tail + 1, memory_order_release);
	}
	if (lost != t->written_lost) {
		if (t->n_text + 64 > TEXT_BYTES)
			write_text(t);
		t->n_text += (size_t)snprintf(t->text + t->n_text, 64, "lost %llu\n",
					      (unsigned long long)(lost - t->written_lost));
		t->written_lost = lost;
	}
	write_text(t);
}

static void *writer(void *arg)
{
	struct trace *t = arg;
	bool closing;

	pthread_setname_np(pthread_self(), "trace");
	setpriority(PRIO_PROCESS, 0, WRITER_NICE); /* of this thread, on Linux; best effort */
	do {
		uint32_t seen = atomic_load_explicit(&t->wake, memory_order_acquire);

		closing = atomic_load_explicit(&t->closing, memory_order_acquire);
		drain(t);
		if (closing)
			break;
		atomic_store_explicit(&t->asleep, true, memory_order_seq_cst);
		if (atomic_load_explicit(&t->wake, memory_order_seq_cst) == seen)
			futex_wait(&t->wake, seen, WAKE_NS);
		atomic_store_explicit(&t->asleep, false, memory_order_relaxed);
	} while (!closing);
	return NULL;
}

static void wake_writer(struct trace *t)
{
	atomic_fetch_add_explicit(&t->wake, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&t->asleep, memory_order_seq_cst))
		futex_wake_all(&t->wake);
}

static void publish(struct trace *t)
{
	uint64_t head = atomic_load_explicit(&t->head, memory_order_relaxed);

	atomic_store_explicit(&t->head, head + 1, memory_order_release);
	t->pending = false;
}

static void put(struct trace *t, uint64_t step, uint32_t seq, uint32_t pos, uint32_t layer,
		const uint32_t *ids, const float *weights, uint32_t k, bool decoded)
{
	uint64_t head = atomic_load_explicit(&t->head, memory_order_relaxed);
	bool follows = false;
	struct row *r;

	assert(k <= t->max_k && layer <= UINT16_MAX);
	if (t->pending) {
		r = slot(t, head);
		follows = !decoded && r->step == step && r->layer == layer && r->seq == seq &&
			  r->pos + 1 == pos;
		r->prefill |= follows;
		publish(t);
		head++;
	}
	if (step != t->last_step) {
		wake_writer(t); /* once a step: most of them cost one atomic add */
		t->last_step = step;
	}
	if (head - atomic_load_explicit(&t->tail, memory_order_acquire) >= t->n_slots) {
		atomic_fetch_add_explicit(&t->lost, 1, memory_order_relaxed);
		return;
	}
	r = slot(t, head);
	r->step = step;
	r->seq = seq;
	r->pos = pos;
	r->layer = (uint16_t)layer;
	r->k = (uint16_t)k;
	r->prefill = follows;
	for (uint32_t i = 0; i < k; i++) {
		r->use[i].expert = ids[i];
		r->use[i].weight = weights[i];
	}
	t->pending = true;
}

void trace_layer(struct trace *t, uint64_t step, uint32_t seq, uint32_t pos, uint32_t layer,
		 const uint32_t *ids, const float *weights, uint32_t k)
{
	put(t, step, seq, pos, layer, ids, weights, k, false);
}

void trace_decoded(struct trace *t, uint64_t step, uint32_t seq, uint32_t pos, uint32_t layer,
		   const uint32_t *ids, const float *weights, uint32_t k)
{
	put(t, step, seq, pos, layer, ids, weights, k, true);
}

/* The header, by the function that converts write theirs with. */
static int write_header(struct trace *t, const struct model *m)
{
	struct route_trace head = {
		.n_layers = m->n_layers,
		.n_expert = m->n_expert,
		.n_expert_used = m->n_expert_used,
		.by_rank = true,
	};
	uint64_t in_layers = 0;
	int rc;

	snprintf(head.model, sizeof(head.model), "%s", m->name ? m->name : "");
	snprintf(head.arch, sizeof(head.arch), "%s", m->arch_name ? m->arch_name : "");
	for (char *p = head.model; *p; p++) /* the name comes out of an untrusted file */
		if ((unsigned char)*p < ' ')
			*p = ' ';
	head.layers = calloc(m->n_layers, sizeof(*head.layers));
	if (!head.layers)
		return -ENOMEM;
	for (uint32_t l = 0; l < m->n_layers; l++) {
		uint32_t k = t->slots.n_classes ? t->slots.class_of_layer[l] : 0;

		if (k < t->slots.n_classes) {
			head.layers[l].slot_bytes = t->slots.classes[k].slot_bytes;
			head.layers[l].slot_class = k;
		}
		head.layers[l].expert_bytes = m->layers[l].experts.bytes;
		head.layers[l].dense_bytes = model_layer_dense_bytes(m, l);
		in_layers += head.layers[l].dense_bytes;
	}
	head.outside.dense_bytes = m->dense_bytes - in_layers;
	head.outside.token_bytes = model_dense_bytes_per_token(m) - in_layers;
	rc = trace_write(&head, t->file);
	free(head.layers);
	t->good_bytes = (uint64_t)ftello(t->file);
	return rc;
}

static void destroy(struct trace *t)
{
	if (t->file)
		fclose(t->file);
	if (t->created && !t->started)
		unlink(t->path);
	free(t->path);
	free(t->ring);
	free(t->text);
	free(t);
}

/*
 * A new file, or one that may be written over. Nothing is lost by a pipe or a device. O_EXCL first:
 * between a look and an open another program could have made the file.
 */
static int open_file(struct trace *t, bool overwrite, struct err *err)
{
	struct stat st;

	t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	t->created = t->fd >= 0;
	if (t->fd < 0 && errno == EEXIST)
		t->fd = open(t->path, O_WRONLY | O_CLOEXEC);
	if (t->fd < 0 || fstat(t->fd, &st))
		return err_set(err, -errno, "cannot create the trace %s: %s", t->path,
			       strerror(errno));
	if (!t->created && S_ISREG(st.st_mode) && !overwrite)
		return err_set(err, -EEXIST,
			       "the trace %s exists: name another file, or have it replaced with "
			       "--overwrite",
			       t->path);
	t->file = fdopen(t->fd, "w"); /* which empties nothing */
	return t->file ? 0 : -ENOMEM;
}

static int create(struct trace *t, const char *path, const struct model *m)
{
	t->model = m;
	t->fd = -1;
	t->max_k = m->n_expert_used;
	t->row_bytes = sizeof(struct row) + (size_t)t->max_k * sizeof(((struct row *)0)->use[0]);
	t->row_bytes = (t->row_bytes + 7) / 8 * 8;
	t->n_slots = RING_BYTES / t->row_bytes;
	t->path = strdup(path);
	t->ring = calloc(t->n_slots, t->row_bytes);
	t->text = malloc(TEXT_BYTES);
	return t->path && t->ring && t->text ? 0 : -ENOMEM;
}

int trace_open(const char *path, bool overwrite, const struct model *m,
	       const struct trace_slots *slots, struct trace **ret, struct err *err)
{
	struct trace *t;
	int rc;

	if (!m->n_expert || m->n_expert_used > MAX_K || m->n_layers > TRACE_MAX_LAYERS ||
	    m->n_expert > TRACE_MAX_EXPERTS)
		return err_set(err, -EINVAL, "a routing trace needs a model with experts");
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	if (slots)
		t->slots = *slots;
	rc = create(t, path, m);
	if (!rc)
		rc = open_file(t, overwrite, err);
	if (rc) {
		if (!t->file && t->fd >= 0)
			close(t->fd);
		destroy(t);
		return rc;
	}
	*ret = t;
	return 0;
}

int trace_start(struct trace *t, struct err *err)
{
	int rc;

	if (ftruncate(t->fd, 0) && errno != EINVAL) /* EINVAL: a pipe or a device */
		return err_set(err, -errno, "cannot empty the trace %s: %s", t->path,
			       strerror(errno));
	rc = write_header(t, t->model);
	if (rc)
		return err_set(err, rc, "cannot write the trace %s: %s", t->path, strerror(-rc));
	rc = -pthread_create(&t->thread, NULL, writer, t);
	if (rc)
		return err_set(err, rc, "cannot start the trace's thread: %s", strerror(-rc));
	t->started = true;
	return 0;
}

void trace_close(struct trace *t)
{
	if (!t)
		return;
	if (t->started) {
		if (t->pending)
			publish(t);
		atomic_store_explicit(&t->closing, true, memory_order_release);
		wake_writer(t);
		pthread_join(t->thread, NULL);
	}
	destroy(t);
}

int trace_error(struct trace *t, struct err *err)
{
	int rc = t ? atomic_load_explicit(&t->failed, memory_order_acquire) : 0;

	if (!rc || t->said)
		return 0;
	t->said = true;
	return err_set(err, rc, "the trace %s ends here: %s", t->path, strerror(-rc));
}
