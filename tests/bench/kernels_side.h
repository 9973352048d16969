/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/kernels_side.h: weights and vectors for the programs that time kernels (kernels.c, cycles.c),
 * and the kernels of another commit beside these.
 */
#ifndef SLUICE_TESTS_BENCH_KERNELS_SIDE_H
#define SLUICE_TESTS_BENCH_KERNELS_SIDE_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/cpu.h"
#include "kernels/quant.h"

#define COLS_MAX    512
#define THREADS_MAX 64

/* A level's functions with the vectors in its form. */
struct side {
	const struct cpu_ops *ops;
	const void *x[COLS_MAX];
	float *y[COLS_MAX];
	void *scratch[THREADS_MAX];
};

/* Formats that can be multiplied, by name; NULL: none of that name. */
static inline const struct quant_format *format_named(const char *name)
{
	for (uint32_t id = 0; id < 64; id++) {
		const struct quant_format *f = quant_format(id);

		if (f && f->act != ACT_NONE && !strcmp(f->name, name))
			return f;
	}
	return NULL;
}

/* The table of @ops's level in an object from dlopen(); NULL: none there. */
static inline const struct cpu_ops *ops_of_object(void *object, const struct cpu_ops *ops)
{
	char name[32];

	snprintf(name, sizeof(name), "cpu_ops_%s", ops->name);
	return object ? dlsym(object, name) : NULL;
}

static inline void side_fini(struct side *s)
{
	for (size_t c = 0; c < COLS_MAX; c++) {
		free((void *)(uintptr_t)s->x[c]);
		free(s->y[c]);
	}
	for (unsigned i = 0; i < THREADS_MAX; i++)
		free(s->scratch[i]);
	memset(s, 0, sizeof(*s));
}

/* @cols vectors of @n for @f, and scratch for @threads; -1: no memory, what is there is side_fini's. */
static inline int side_init(struct side *s, const struct cpu_ops *ops, const struct quant_format *f,
			    size_t n, size_t rows, size_t cols, unsigned threads)
{
	const size_t scratch = ops->matmul_scratch_bytes(n);
	float *x = aligned_alloc(64, align_up(n * sizeof(*x), 64));
	bool failed = !x;

	s->ops = ops;
	for (unsigned i = 0; i < threads; i++) {
		s->scratch[i] = aligned_alloc(64, align_up(scratch, 64));
		failed |= !s->scratch[i];
	}
	for (size_t c = 0; c < cols && !failed; c++) {
		void *act = aligned_alloc(64, ops->act_bytes(f->act, n));

		s->x[c] = act;
		s->y[c] = aligned_alloc(64, align_up(rows * sizeof(float), 64));
		failed = !act || !s->y[c];
		for (size_t i = 0; i < n && !failed; i++)
			x[i] = (float)((i * 2654435761u + c * 40503u) % 2001) * 1e-3f - 1;
		if (!failed)
			ops->act_quantize(f->act, x, n, act);
	}
	free(x);
	return failed ? -1 : 0;
}

/* Random weights with scales near one thousandth: no NaN, nothing subnormal. */
static inline void random_weights(const struct quant_format *f, uint8_t *weights, size_t bytes)
{
	uint64_t r = 88172645463325252u;
	const uint16_t one = 0x1400;

	for (size_t i = 0; i + 8 <= bytes; i += 8) {
		r ^= r << 13, r ^= r >> 7, r ^= r << 17;
		memcpy(weights + i, &r, 8);
	}
	for (size_t i = 0; i + f->bytes <= bytes; i += f->bytes) {
		uint8_t *b = weights + i;

		switch (f->id) {
		case QUANT_F32:
			b[3] = 0x3c;
			break;
		case QUANT_F16:
		case QUANT_BF16:
			b[1] = 0x3c;
			break;
		case QUANT_MXFP4:
			b[0] = 120;
			break;
		case QUANT_Q2_K:
			memcpy(b + 80, &one, 2);
			memcpy(b + 82, &one, 2);
			break;
		case QUANT_IQ1_M:
			for (int k = 0; k < 4; k++)
				b[49 + 2 * k] =
					(uint8_t)((b[49 + 2 * k] & 15) | (one >> 4 * k & 15) << 4);
			break;
		case QUANT_Q3_K:
		case QUANT_Q6_K:
		case QUANT_TQ1_0:
		case QUANT_TQ2_0:
			memcpy(b + f->bytes - 2, &one, 2);
			break;
		default:
			memcpy(b, &one, 2);
			memcpy(b + 2, &one, 2);
		}
	}
}

#endif
