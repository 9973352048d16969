/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/sampler.c: the sampler thread and its two published buffers. See sampler.h.
 *
 * The writer fills the buffer that is not the latest one, so a reader has a whole period (100 ms)
 * for its copy before the buffer it reads is touched; a sequence number per buffer (odd: being
 * written) tells the reader that was slower still. Words are copied by atomic accesses between the
 * two looks at the number.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "telemetry/sampler.h"

#define TRIES 100

#define LIMITS_EVERY 10 /* samples */

struct published {
	struct telemetry_snapshot snapshot;
	struct limits limits;
};

#define WORDS_OF(what) (sizeof(what) / sizeof(uint64_t))
#define WORDS	       WORDS_OF(struct published)
_Static_assert(sizeof(struct telemetry_snapshot) % sizeof(uint64_t) == 0, "copied by words");
_Static_assert(sizeof(struct limits) % sizeof(uint64_t) == 0, "copied by words");
_Static_assert(sizeof(struct published) == WORDS * sizeof(uint64_t), "copied by words");

struct buffer {
	_Atomic uint32_t seq;
	_Atomic uint64_t words[WORDS];
};

struct telemetry_sampler {
	struct telemetry *telemetry; /* sampler thread */
	struct published taken;	     /* sampler thread */
	const char *root;
	struct buffer buffers[2];   /* the latest: published % 2 */
	_Atomic uint64_t published; /* release: its buffer is whole */
	char notes[TELEMETRY_MAX_NOTES][sizeof(((struct err *)0)->text)];
	_Atomic unsigned n_notes; /* release: notes below it do not change */
	uint32_t period_ms;
	pthread_t thread;
	bool has_thread, stop; /* stop: guarded by lock */
	pthread_mutex_t lock;
	pthread_cond_t wake;
};

static void publish(struct telemetry_sampler *s)
{
	uint64_t next = atomic_load_explicit(&s->published, memory_order_relaxed) + 1;
	struct buffer *b = &s->buffers[next % 2];
	uint32_t seq = atomic_load_explicit(&b->seq, memory_order_relaxed);
	const char *from = (const char *)&s->taken;

	atomic_store_explicit(&b->seq, seq + 1, memory_order_relaxed);
	for (size_t i = 0; i < WORDS; i++) {
		uint64_t word;

		memcpy(&word, from + i * sizeof(word), sizeof(word));
		/* release: who sees this word sees the odd number, too */
		atomic_store_explicit(&b->words[i], word, memory_order_release);
	}
	atomic_store_explicit(&b->seq, seq + 2, memory_order_release);
	atomic_store_explicit(&s->published, next, memory_order_release);
}

static void copy_notes(struct telemetry_sampler *s)
{
	unsigned n = atomic_load_explicit(&s->n_notes, memory_order_relaxed);
	const char *text;

	for (; n < TELEMETRY_MAX_NOTES && (text = telemetry_note(s->telemetry, n)); n++) {
		snprintf(s->notes[n], sizeof(s->notes[n]), "%s", text);
		atomic_store_explicit(&s->n_notes, n + 1, memory_order_release);
	}
}

void telemetry_sampler_step(struct telemetry_sampler *s)
{
	/* A machine where nothing can be read is a snapshot of unknown values. */
	telemetry_read(s->telemetry, &s->taken.snapshot);
	/* some dozens of small files, which change slowly: seldom, and by who keeps nobody waiting */
	if (atomic_load_explicit(&s->published, memory_order_relaxed) % LIMITS_EVERY == 0)
		limits_read(s->root, &s->taken.limits);
	copy_notes(s);
	publish(s);
}

/* @n words of the latest from word @first on. */
static int copy(const struct telemetry_sampler *s, size_t first, size_t n_words, char *ret)
{
	for (unsigned tries = 0; tries < TRIES; tries++) {
		uint64_t n = atomic_load_explicit(&s->published, memory_order_acquire);
		const struct buffer *b = &s->buffers[n % 2];
		uint32_t seq = atomic_load_explicit(&b->seq, memory_order_acquire);

		if (seq & 1)
			continue;
		for (size_t i = 0; i < n_words; i++) {
			/* acquire: the second look at the number stays behind it */
			uint64_t word =
				atomic_load_explicit(&b->words[first + i], memory_order_acquire);

			memcpy(ret + i * sizeof(word), &word, sizeof(word));
		}
		if (atomic_load_explicit(&b->seq, memory_order_relaxed) == seq)
			return 0;
	}
	return -EAGAIN;
}

int telemetry_sampler_get(const struct telemetry_sampler *s, struct telemetry_snapshot *ret)
{
	return copy(s, 0, WORDS_OF(*ret), (char *)ret);
}

int telemetry_sampler_limits(const struct telemetry_sampler *s, struct limits *ret)
{
	return copy(s, offsetof(struct published, limits) / sizeof(uint64_t), WORDS_OF(*ret),
		    (char *)ret);
}

uint64_t telemetry_sampler_count(const struct telemetry_sampler *s)
{
	return atomic_load_explicit(&s->published, memory_order_acquire);
}

const char *telemetry_sampler_note(const struct telemetry_sampler *s, unsigned i)
{
	return i < atomic_load_explicit(&s->n_notes, memory_order_acquire) ? s->notes[i] : NULL;
}

static void add_ms(struct timespec *t, uint32_t ms)
{
	t->tv_sec += ms / 1000;
	t->tv_nsec += (long)(ms % 1000) * 1000000;
	if (t->tv_nsec >= 1000000000) {
		t->tv_nsec -= 1000000000;
		t->tv_sec++;
	}
}

static void *run(void *arg)
{
	struct telemetry_sampler *s = arg;
	struct timespec next;

	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		/* from the end of the last sample: a late one is not caught up with by one over no time */
		clock_gettime(CLOCK_MONOTONIC, &next);
		add_ms(&next, s->period_ms);
		while (!s->stop && pthread_cond_timedwait(&s->wake, &s->lock, &next) != ETIMEDOUT)
			;
		if (s->stop)
			break;
		pthread_mutex_unlock(&s->lock);
		telemetry_sampler_step(s);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static int start(struct telemetry_sampler *s)
{
	int rc = pthread_create(&s->thread, NULL, run, s);

	if (rc)
		return -rc;
	s->has_thread = true;
	pthread_setname_np(s->thread, "sampler");
	return 0;
}

int telemetry_sampler_create(const struct telemetry_sampler_config *config,
			     struct telemetry_sampler **ret, struct err *err)
{
	struct telemetry_sampler *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;
	int rc;

	if (!s)
		return err_set(err, -ENOMEM, "no memory for telemetry");
	s->period_ms = config->period_ms;
	s->root = config->telemetry.root;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	rc = telemetry_create(&config->telemetry, &s->telemetry, err);
	if (!rc) {
		telemetry_sampler_step(s);
		if (s->period_ms)
			rc = start(s);
		if (rc)
			err_set(err, rc, "cannot start the telemetry thread: %s", strerror(-rc));
	}
	if (rc) {
		telemetry_sampler_destroy(s);
		return rc;
	}
	*ret = s;
	return 0;
}

void telemetry_sampler_destroy(struct telemetry_sampler *s)
{
	if (!s)
		return;
	if (s->has_thread) {
		pthread_mutex_lock(&s->lock);
		s->stop = true;
		pthread_cond_signal(&s->wake);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	telemetry_destroy(s->telemetry);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
