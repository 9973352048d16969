/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/model_weights.h: the output of make_model.c alone, and what it writes as weights: random
 * ones, or such as follow a trace (routing.h). Any failure ends the program with a sentence.
 */
#ifndef SLUICE_TESTS_BENCH_MODEL_WEIGHTS_H
#define SLUICE_TESTS_BENCH_MODEL_WEIGHTS_H

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "tests/bench/routing.h"

#define ALIGNMENT 32
#define BUFFER	  (4u << 20)

enum type { F32 = 0, Q4_K = 12, Q6_K = 14 };
enum fill {
	FILL_MATRIX,
	FILL_NORM,
	FILL_ROUTER,
	FILL_CONV,
	FILL_DT,
	FILL_A,
	FILL_ONE,
	FILL_CODES,
	FILL_NEXT
};

struct tensor {
	char name[64];
	uint64_t ne[3];
	uint32_t n_dims;
	enum type type;
	enum fill fill;
	float gain; /* of the output against the input, FILL_MATRIX and FILL_ROUTER */
	uint64_t offset, bytes;
};

struct writer {
	const char *path;
	int fd;
	uint8_t *buffer;
	size_t used;
	uint64_t written;
	uint64_t random;
	struct tensor *tensors;
	uint32_t n_tensors;
	const struct routing *routing; /* NULL: random routers */
	bool bf16;		       /* vectors and routers have values of BF16 alone */
	uint32_t layers;
};

static void die(const char *what, const char *which)
{
	fprintf(stderr, "make_model: %s%s%s\n", what, which ? ": " : "", which ? which : "");
	exit(1);
}

/* ---- output ---- */

static void flush(struct writer *w)
{
	size_t done = 0;

	while (done < w->used) {
		ssize_t n = write(w->fd, w->buffer + done, w->used - done);

		if (n < 0 && errno != EINTR)
			die(w->path, strerror(errno));
		if (n > 0)
			done += (size_t)n;
	}
	w->written += w->used;
	w->used = 0;
}

/* Room for @len <= BUFFER bytes, to be filled by the caller. */
static uint8_t *reserve(struct writer *w, size_t len)
{
	uint8_t *p;

	if (w->used + len > BUFFER)
		flush(w);
	p = w->buffer + w->used;
	w->used += len;
	return p;
}

static void put(struct writer *w, const void *data, size_t len)
{
	memcpy(reserve(w, len), data, len);
}

static void put_u32(struct writer *w, uint32_t v)
{
	put(w, &v, sizeof(v)); /* little-endian machines only, as the file format */
}

static void put_u64(struct writer *w, uint64_t v)
{
	put(w, &v, sizeof(v));
}

static void put_string(struct writer *w, const char *s)
{
	put_u64(w, strlen(s));
	put(w, s, strlen(s));
}

static void pad(struct writer *w)
{
	static const uint8_t zeros[ALIGNMENT];
	uint64_t at = w->written + w->used;

	put(w, zeros, (size_t)(align_up(at, ALIGNMENT) - at));
}

/* ---- random numbers ---- */

static uint64_t next_random(struct writer *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random;
}

static float uniform(struct writer *w)
{
	return (float)(next_random(w) >> 40) * 0x1p-24f;
}

/* Four uniforms summed: near enough to a normal distribution of variance 1. */
static float normal(struct writer *w)
{
	return (uniform(w) + uniform(w) + uniform(w) + uniform(w) - 2) * 1.7320508f;
}

/* ---- weights ---- */

static void fill_random(struct writer *w, uint8_t *p, size_t words)
{
	for (size_t i = 0; i < words; i++) {
		uint64_t r = next_random(w);

		memcpy(p + i * 8, &r, 8);
	}
}

/*
 * w = d * sc * q - dmin * m with q uniform in 0..15: m = sc and dmin = 7.5 d make the mean 0.
 * Sub-block scales of 16..47 around 32 give a deviation of d * 32 * 4.61.
 */
static void block_q4_k(struct writer *w, uint8_t *p, float sigma)
{
	uint16_t d = f16_from_f32(sigma / (32 * 4.61f));
	uint16_t dmin = f16_from_f32(7.5f * f32_from_f16(d));
	uint64_t r = next_random(w);
	uint8_t *s = p + 4;

	memcpy(p, &d, 2);
	memcpy(p + 2, &dmin, 2);
	for (int j = 0; j < 4; j++) {
		uint8_t low = (uint8_t)(16 + (r & 31)), high = (uint8_t)(16 + (r >> 5 & 31));

		r >>= 10;
		s[j] = s[j + 4] = (uint8_t)(low | (high >> 4) << 6);
		s[j + 8] = (uint8_t)((high & 15) | (high & 15) << 4);
	}
	fill_random(w, p + 16, 16);
}

/* w = d * sc * (q - 32), scales of either sign, so the mean is 0; 18.5 is q's deviation. */
static void block_q6_k(struct writer *w, uint8_t *p, float sigma)
{
	uint16_t d = f16_from_f32(sigma / (32 * 18.5f));
	uint64_t r = next_random(w);

	fill_random(w, p, 24);
	for (int j = 0; j < 16; j++) {
		int scale = 16 + (int)(r >> j & 31);

		p[192 + j] = (uint8_t)(int8_t)(r >> (j + 40) & 1 ? -scale : scale);
	}
	memcpy(p + 208, &d, 2);
}

/* A code a row: the embedding's is that of its own token, the output's that of the token before. */
static void write_codes(struct writer *w, const struct tensor *t)
{
	const uint32_t n = w->routing->tokens;

	for (uint64_t row = 0; row < t->ne[1]; row++)
		for (uint64_t at = 0; at < t->ne[0]; at += 256)
			if (t->type == Q4_K)
				routing_q4_k(reserve(w, 144), (uint32_t)(row % n), at);
			else
				routing_q6_k(reserve(w, 210),
					     (uint32_t)(t->fill == FILL_NEXT ? (row + n - 1) % n
									     : row % n),
					     at, t->fill == FILL_NEXT && row >= n);
}

static void write_routers(struct writer *w, const struct tensor *t)
{
	float *row = malloc(t->ne[0] * sizeof(*row));
	const uint32_t layer = (uint32_t)strtoul(t->name + 4, NULL, 10); /* blk.N. */

	for (uint32_t e = 0; e < t->ne[1] && row; e++) {
		routing_router(w->routing, layer, w->layers, e, t->ne[0], row);
		put(w, row, t->ne[0] * sizeof(*row));
	}
	if (!row)
		die("out of memory", NULL);
	free(row);
}

static void write_matrix(struct writer *w, const struct tensor *t)
{
	size_t block = t->type == Q4_K ? 144 : 210;
	float sigma = t->gain / sqrtf((float)t->ne[0]);

	for (uint64_t i = 0; i < t->bytes / block; i++) {
		uint8_t *p = reserve(w, block);

		if (t->type == Q4_K)
			block_q4_k(w, p, sigma);
		else
			block_q6_k(w, p, sigma);
	}
}

static float vector_value(struct writer *w, enum fill fill)
{
	switch (fill) {
	case FILL_NORM:
		return 0.9f + 0.2f * uniform(w);
	case FILL_CONV:
		return 0.5f * normal(w);
	case FILL_DT: /* softplus of it is 0.02 to 0.13 */
		return -4 + 2 * uniform(w);
	case FILL_A:
		return -(0.5f + 3.5f * uniform(w));
	case FILL_ONE:
		return 1;
	default:
		return 0;
	}
}

static void write_floats(struct writer *w, const struct tensor *t)
{
	uint64_t rows = t->ne[1] ? t->ne[1] : 1;
	float scale = t->gain / sqrtf((float)t->ne[0]);
	const uint32_t keep = w->bf16 ? 0xffff0000u : 0xffffffffu; /* cut off, not rounded */

	for (uint64_t r = 0; r < rows; r++) {
		/* a longer row is chosen more often: exp(0.25 z) is 0.6 to 1.6 for most */
		float length = scale * expf(0.25f * normal(w));

		for (uint64_t i = 0; i < t->ne[0]; i++) {
			float f = t->fill == FILL_ROUTER ? length * normal(w)
							 : vector_value(w, t->fill);
			uint32_t bits;

			memcpy(&bits, &f, sizeof(bits));
			put_u32(w, bits & keep);
		}
	}
}

#endif
