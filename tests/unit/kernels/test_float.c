/* SPDX-License-Identifier: MIT */
/*
 * Description: the float tables of every level against sums in double; the same bits for a row or
 * element whatever comes with it; the cache's bytes and the mixers' inner loops.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/fops.h"

#define MAX_N	 600
#define MAX_ROWS 19

static uint64_t state;

/* Uniform in [-1, 1). */
static float random_float(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(state >> 40) * 0x1p-23 - 1.0);
}

static void fill(float *x, size_t n, float scale)
{
	for (size_t i = 0; i < n; i++)
		x[i] = random_float() * scale;
}

static float *floats(size_t n)
{
	float *x = calloc(n, sizeof(*x));

	assert_non_null(x);
	return x;
}

/* Calls @test for each level that this machine has. */
static void each_level(void (*test)(const struct float_ops *f))
{
	unsigned n = 0;

	for (int level = 0; level < CPU_LEVEL_NR; level++) {
		const struct float_ops *f = float_ops_get((enum cpu_level)level);

		if (!f)
			continue;
		assert_int_equal(f->level, level);
		state = 12345;
		test(f);
		n++;
	}
	assert_true(n >= 1);
}

#define assert_close(a, b, tolerance)                                                             \
	do {                                                                                      \
		double got_ = (a), want_ = (b);                                                   \
                                                                                                  \
		if (!(fabs(got_ - want_) <= (tolerance)))                                         \
			fail_msg("%s:%d: %.9g instead of %.9g", __FILE__, __LINE__, got_, want_); \
	} while (0)

static void check_sums(const struct float_ops *f)
{
	float x[MAX_N], w[MAX_N], out[MAX_N];

	for (size_t n = 1; n < MAX_N; n += n < 70 ? 1 : 53) {
		double sum = 0, product = 0, size = 0, total = 0, max = -INFINITY;

		fill(x, n, 3.0f);
		fill(w, n, 2.0f);
		for (size_t i = 0; i < n; i++) {
			sum += (double)x[i] * x[i];
			product += (double)x[i] * w[i];
			size += fabs((double)x[i] * w[i]);
			max = fmax(max, x[i]);
		}
		for (size_t i = 0; i < n; i++)
			total += exp(x[i] - max);
		assert_close(f->dot(x, w, n), product, 1e-6 * size);
		f->rmsnorm(x, w, n, 1e-5f, out);
		for (size_t i = 0; i < n; i++)
			assert_close(out[i], x[i] / sqrt(sum / n + 1e-5) * w[i], 3e-6);
		f->l2norm(x, n, 1e-6f, 0.125f, out);
		for (size_t i = 0; i < n; i++)
			assert_close(out[i], x[i] * 0.125 / sqrt(sum + 1e-6), 1e-7);
		memcpy(out, x, sizeof(*x) * n);
		f->softmax(out, n);
		for (size_t i = 0; i < n; i++)
			assert_close(out[i], exp(x[i] - max) / total, 3e-7);
	}
}

static void test_sums(void **unused)
{
	each_level(check_sums);
}

static void check_elements(const struct float_ops *f)
{
	float x[MAX_N + 1], y[MAX_N + 1], out[MAX_N + 1], one;

	for (size_t n = 1; n < MAX_N; n += n < 70 ? 1 : 53) {
		fill(x, n, 8.0f);
		fill(y, n, 4.0f);
		out[n] = 77.0f; /* must stay */
		f->silu_mul(x, y, out, n);
		for (size_t i = 0; i < n; i++) {
			assert_close(out[i], x[i] / (1 + exp(-x[i])) * y[i], 4e-6);
			f->silu_mul(x + i, y + i, &one, 1);
			assert_memory_equal(&one, out + i, sizeof(one));
		}
		f->sigmoid_mul(y, x, out, n);
		for (size_t i = 0; i < n; i++)
			assert_close(out[i], y[i] / (1 + exp(-x[i])), 1e-6);
		f->scale(0.3f, x, out, n);
		for (size_t i = 0; i < n; i++)
			assert_true(out[i] == 0.3f * x[i]);
		memcpy(out, y, n * sizeof(*y));
		f->add(x, out, n);
		for (size_t i = 0; i < n; i++)
			assert_true(out[i] == y[i] + x[i]);
		memcpy(out, y, n * sizeof(*y));
		f->axpy(0.7f, x, out, n);
		for (size_t i = 0; i < n; i++)
			assert_true(out[i] == fmaf(0.7f, x[i], y[i]));
		assert_true(out[n] == 77.0f);
	}
}

static void test_elements(void **unused)
{
	each_level(check_elements);
}

/* sigmoid(x) for x far below 0 is exp(x) (1 - exp(x)): shows the error of exp itself. */
static void check_exp(const struct float_ops *f)
{
	const float one = 1.0f;
	float out, x;

	for (x = -86.0f; x < -10.0f; x += 0.00731f) {
		double want = 1.0 / (1.0 + exp(-(double)x)), ulp;

		f->sigmoid_mul(&one, &x, &out, 1);
		ulp = (double)nextafterf((float)want, 1.0f) - (float)want;
		/* exp within 1.5 ulp, then one addition and one division */
		assert_close(out, want, 3.0 * ulp);
	}
	x = 3e38f; /* infinities and NaN: test_not_finite.c */
	f->sigmoid_mul(&one, &x, &out, 1);
	assert_true(out == 1.0f);
	x = -3e38f;
	f->sigmoid_mul(&one, &x, &out, 1);
	assert_true(out == 0.0f);
	x = -200.0f;
	f->silu_mul(&x, &one, &out, 1);
	assert_true(out == 0.0f);
}

static void test_exp(void **unused)
{
	each_level(check_exp);
}

static void check_softmax_edges(const struct float_ops *f)
{
	float x[20];

	for (unsigned i = 0; i < 20; i++)
		x[i] = i % 2 ? -INFINITY : 1000.0f;
	f->softmax(x, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_close(x[i], i % 2 ? 0.0 : 0.1, 1e-7);
	x[0] = -5.0f;
	f->softmax(x, 1);
	assert_true(x[0] == 1.0f);
}

static void test_softmax_edges(void **unused)
{
	each_level(check_softmax_edges);
}

static void check_rope(const struct float_ops *f)
{
	float x[200], before[200], c[100], s[100];

	for (size_t half = 0; half <= 64; half++) {
		fill(x, 2 * half + 3, 2.0f);
		memcpy(before, x, sizeof(x));
		for (size_t i = 0; i < half; i++) {
			c[i] = cosf((float)i);
			s[i] = sinf((float)i);
		}
		f->rope(x, c, s, half);
		for (size_t i = 0; i < half; i++) {
			double a = before[i], b = before[half + i];

			assert_close(x[i], a * c[i] - b * s[i], 1e-6);
			assert_close(x[half + i], a * s[i] + b * c[i], 1e-6);
		}
		assert_memory_equal(x + 2 * half, before + 2 * half, 3 * sizeof(*x));
	}
}

static void test_rope(void **unused)
{
	each_level(check_rope);
}

static void check_conv(const struct float_ops *f)
{
	enum { channels = 83 };
	float data[6][channels], w[channels * 6], out[channels], part[channels];
	const float *rows[6];

	for (unsigned taps = 1; taps <= 6; taps++) {
		for (unsigned m = 0; m < 6; m++) {
			fill(data[m], channels, 1.0f);
			rows[m] = data[m];
		}
		fill(w, channels * taps, 1.0f);
		f->conv_silu(rows, w, taps, 0, channels, out);
		for (unsigned ch = 0; ch < channels; ch++) {
			double sum = 0;

			for (unsigned m = 0; m < taps; m++)
				sum += (double)w[ch * taps + m] * data[m][ch];
			assert_close(out[ch], sum / (1 + exp(-sum)), 2e-6);
		}
		/* the same bits from any cut */
		memset(part, 0, sizeof(part));
		f->conv_silu(rows, w, taps, 0, 7, part);
		f->conv_silu(rows, w, taps, 7, 8, part);
		f->conv_silu(rows, w, taps, 8, channels, part);
		assert_memory_equal(part, out, sizeof(out));
	}
}

static void test_conv(void **unused)
{
	each_level(check_conv);
}

/* A block written position by position, its values as a reader of the cache sees them, in double. */
struct block {
	uint8_t *k, *v;
	double *keys, *values; /* [KV_BLOCK][head_dim] */
	size_t bytes;
};

static double half_of(float x)
{
	return f32_from_f16(f16_from_f32(x));
}

static void as_stored(enum kv_type type, const float *x, size_t n, double *out)
{
	for (size_t g = 0; g < n; g += KV_Q8) {
		double max = 0, d;

		if (type == KV_F16) {
			for (size_t i = g; i < g + KV_Q8 && i < n; i++)
				out[i] = half_of(x[i]);
			continue;
		}
		for (size_t i = g; i < g + KV_Q8; i++)
			max = fmax(max, fabs((double)x[i]));
		d = half_of((float)max / 127.0f);
		for (size_t i = g; i < g + KV_Q8; i++)
			out[i] = d * round((double)x[i] * (1.0f / ((float)max / 127.0f)));
	}
}

static struct block make_block(const struct float_ops *f, enum kv_type type, size_t dims,
			       unsigned n_valid)
{
	struct block b = { .bytes = kv_block_bytes(type, dims) };
	float *k = floats(dims), *v = floats(dims);

	b.k = malloc(b.bytes);
	b.v = malloc(b.bytes);
	b.keys = calloc(KV_BLOCK * dims, sizeof(double));
	b.values = calloc(KV_BLOCK * dims, sizeof(double));
	/* what is not written reads as NaN in both types, and must not matter */
	memset(b.k, 0x7e, b.bytes);
	memset(b.v, 0x7e, b.bytes);
	for (unsigned j = 0; j < n_valid; j++) {
		fill(k, dims, 1.5f);
		fill(v, dims, 2.0f);
		f->kv_store(type, dims, j, k, v, b.k, b.v);
		as_stored(type, k, dims, b.keys + j * dims);
		as_stored(type, v, dims, b.values + j * dims);
	}
	free(k);
	free(v);
	return b;
}

static void free_block(struct block *b)
{
	free(b->k);
	free(b->v);
	free(b->keys);
	free(b->values);
}

struct softmax_state {
	float m[MAX_ROWS], l[MAX_ROWS], *acc;
};

static void start(struct softmax_state *s, size_t dims)
{
	s->acc = floats(MAX_ROWS * dims);
	for (unsigned r = 0; r < MAX_ROWS; r++) {
		s->m[r] = -INFINITY;
		s->l[r] = 0;
	}
}

static void run_attend(const struct float_ops *f, enum kv_type type, size_t dims,
		       const struct block *b, unsigned n_valid, size_t first, size_t rows,
		       const float *q, struct softmax_state *s)
{
	const struct attend_args a = { .type = type,
				       .head_dim = dims,
				       .k = b->k,
				       .v = b->v,
				       .next_k = first % 2 ? b->k : NULL,
				       .n_valid = n_valid,
				       .rows = rows,
				       .q = q + first * dims,
				       .m = s->m + first,
				       .l = s->l + first,
				       .acc = s->acc + first * dims };

	f->attend(&a);
}

/*
 * What a level may be away from exact sums of what the cache holds. Vectors have whole numbers of 14
 * bits: nearer than the cache's halves are to the keys and values that were stored.
 */
static double score_error(const struct float_ops *f)
{
	return f->level != CPU_SCALAR ? 2e-4 : 2e-5;
}

static double value_error(const struct float_ops *f)
{
	return f->level != CPU_SCALAR ? 5e-4 : 1e-5;
}

/* Two blocks, the second of @n_valid positions, against softmax in double. */
static void attend_case(const struct float_ops *f, enum kv_type type, size_t dims, unsigned n_valid)
{
	struct block b[2] = { make_block(f, type, dims, KV_BLOCK),
			      make_block(f, type, dims, n_valid) };
	struct softmax_state s, alone;
	float *q = floats(MAX_ROWS * dims), *turned = floats(MAX_ROWS * dims);
	double p[2 * KV_BLOCK];

	fill(q, MAX_ROWS * dims, 0.3f);
	memcpy(turned, q, MAX_ROWS * dims * sizeof(*q));
	f->attend_query(turned, MAX_ROWS, dims);
	start(&s, dims);
	start(&alone, dims);
	run_attend(f, type, dims, &b[0], KV_BLOCK, 0, MAX_ROWS, turned, &s);
	run_attend(f, type, dims, &b[1], n_valid, 0, MAX_ROWS, turned, &s);
	for (unsigned r = 0; r < MAX_ROWS; r++) {
		double max = -INFINITY, sum = 0;

		/* the same bits one row at a time, and in groups of another size */
		run_attend(f, type, dims, &b[0], KV_BLOCK, r, 1, turned, &alone);
		run_attend(f, type, dims, &b[1], n_valid, r, 1, turned, &alone);
		for (unsigned j = 0; j < KV_BLOCK + n_valid; j++) {
			const double *key = b[j / KV_BLOCK].keys + j % KV_BLOCK * dims;

			p[j] = 0;
			for (size_t d = 0; d < dims; d++)
				p[j] += (double)q[r * dims + d] * key[d];
			max = fmax(max, p[j]);
		}
		for (unsigned j = 0; j < KV_BLOCK + n_valid; j++)
			sum += p[j] = exp(p[j] - max);
		assert_close(s.m[r], max, score_error(f));
		for (size_t d = 0; d < dims; d++) {
			double o = 0;

			for (unsigned j = 0; j < KV_BLOCK + n_valid; j++)
				o += p[j] * b[j / KV_BLOCK].values[j % KV_BLOCK * dims + d];
			assert_close(s.acc[r * dims + d] / s.l[r], o / sum, value_error(f));
		}
	}
	assert_memory_equal(s.m, alone.m, sizeof(s.m));
	assert_memory_equal(s.l, alone.l, sizeof(s.l));
	assert_memory_equal(s.acc, alone.acc, MAX_ROWS * dims * sizeof(float));
	free_block(&b[0]);
	free_block(&b[1]);
	free(s.acc);
	free(alone.acc);
	free(turned);
	free(q);
}

static void check_attend(const struct float_ops *f)
{
	static const size_t dims[] = { 16, 32, 64, 80, 96, 128, 256 };
	static const unsigned valid[] = { 1, 15, 16, 17, 40, 63, 64 };

	for (unsigned d = 0; d < ARRAY_LEN(dims); d++)
		for (unsigned v = 0; v < ARRAY_LEN(valid); v++) {
			attend_case(f, KV_F16, dims[d], valid[v]);
			if (dims[d] % KV_Q8 == 0)
				attend_case(f, KV_Q8_0, dims[d], valid[v]);
		}
}

static void test_attend(void **unused)
{
	each_level(check_attend);
}

/* Every group size gives a row the same bits. */
static void check_attend_groups(const struct float_ops *f)
{
	enum { dims = 64 };

	for (int type = KV_F16; type <= KV_Q8_0; type++) {
		struct block b = make_block(f, (enum kv_type)type, dims, 33);
		struct softmax_state all, parts;
		float *q = floats(MAX_ROWS * dims);

		fill(q, MAX_ROWS * dims, 0.5f);
		f->attend_query(q, MAX_ROWS, dims);
		start(&all, dims);
		run_attend(f, (enum kv_type)type, dims, &b, 33, 0, MAX_ROWS, q, &all);
		for (size_t group = 1; group < MAX_ROWS; group++) {
			start(&parts, dims);
			for (size_t r = 0; r < MAX_ROWS; r += group)
				run_attend(f, (enum kv_type)type, dims, &b, 33, r,
					   r + group < MAX_ROWS ? group : MAX_ROWS - r, q, &parts);
			assert_memory_equal(parts.acc, all.acc, MAX_ROWS * dims * sizeof(float));
			assert_memory_equal(parts.l, all.l, sizeof(all.l));
			free(parts.acc);
		}
		free(all.acc);
		free(q);
		free_block(&b);
	}
}

static void test_attend_groups(void **unused)
{
	each_level(check_attend_groups);
}

static void check_merge(const struct float_ops *f)
{
	enum { dims = 37 };
	float a[dims], b[dims], m = -INFINITY, l = 0;

	memset(a, 0, sizeof(a));
	fill(b, dims, 1.0f);
	f->attend_merge(&m, &l, a, 2.0f, 3.0f, b, dims);
	assert_true(m == 2.0f && l == 3.0f);
	assert_memory_equal(a, b, sizeof(a));
	f->attend_merge(&m, &l, a, 1.0f, 0.5f, b, dims);
	assert_true(m == 2.0f);
	assert_close(l, 3.0 + 0.5 * exp(-1), 1e-6);
	for (unsigned i = 0; i < dims; i++)
		assert_close(a[i], b[i] * (1 + exp(-1)), 1e-6);
}

static void test_merge(void **unused)
{
	each_level(check_merge);
}

/* Every level writes the same bytes, and only its own position's. */
static void test_cache_bytes(void **unused)
{
	enum { dims = 64 };
	const struct float_ops *scalar = float_ops_get(CPU_SCALAR);

	for (int level = CPU_SCALAR + 1; level < CPU_LEVEL_NR; level++) {
		const struct float_ops *f = float_ops_get((enum cpu_level)level);

		if (!f)
			continue;
		for (int type = KV_F16; type <= KV_Q8_0; type++) {
			struct block a, b;

			state = 99;
			a = make_block(scalar, (enum kv_type)type, dims, 50);
			state = 99;
			b = make_block(f, (enum kv_type)type, dims, 50);
			assert_memory_equal(a.k, b.k, a.bytes);
			assert_memory_equal(a.v, b.v, a.bytes);
			free_block(&a);
			free_block(&b);
		}
	}
}

/* Halves saturate; a group of zeros and one with a huge value stay finite. */
static void check_cache_edges(const struct float_ops *f)
{
	enum { dims = 32 };
	uint8_t k[KV_BLOCK * dims * 2], v[KV_BLOCK * dims * 2];
	float x[dims] = { 0 }, m = -INFINITY, l = 0, acc[dims] = { 0 }, q[dims] = { 0 };
	struct attend_args a = { .head_dim = dims, .k = k, .v = v, .n_valid = 1, .rows = 1 };

	a.q = q;
	a.m = &m;
	a.l = &l;
	a.acc = acc;
	x[3] = 1e30f;
	x[4] = -1e30f;
	for (int type = KV_F16; type <= KV_Q8_0; type++) {
		float top = type == KV_F16 ? 65504.0f : 65504.0f * 127.0f;

		a.type = (enum kv_type)type;
		memset(k, 0, sizeof(k));
		memset(v, 0, sizeof(v));
		memset(acc, 0, sizeof(acc));
		m = -INFINITY;
		l = 0;
		f->kv_store(a.type, dims, 0, q, x, k, v);
		f->attend(&a);
		assert_true(l == 1.0f && acc[0] == 0.0f);
		assert_close(acc[3] / top, 1, f->level != CPU_SCALAR ? 4e-5 : 0);
		assert_close(acc[4] / top, -1, f->level != CPU_SCALAR ? 4e-5 : 0);
	}
}

static void test_cache_edges(void **unused)
{
	each_level(check_cache_edges);
}

/* The recurrence of models.md 2.4 as it is written there, in double. */
static void delta_reference(double *s, size_t dim, const float *q, const float *k, const float *v,
			    double decay, double beta, double *o)
{
	for (unsigned j = 0; j < DELTA_LANES; j++) {
		double read = 0, change;

		for (size_t i = 0; i < dim; i++) {
			s[i * DELTA_LANES + j] *= decay;
			read += s[i * DELTA_LANES + j] * k[i];
		}
		change = beta * (v[j] - read);
		o[j] = 0;
		for (size_t i = 0; i < dim; i++) {
			s[i * DELTA_LANES + j] += k[i] * change;
			o[j] += s[i * DELTA_LANES + j] * q[i];
		}
	}
}

static void check_delta(const struct float_ops *f)
{
	enum { dim = 128, tokens = 23, ld = 2 * dim + DELTA_LANES };
	float *x = floats(tokens * ld), *o = floats(tokens * DELTA_LANES), *o2, *s, *s2;
	float gates[2][tokens], kq[tokens];
	double *reference = calloc(dim * DELTA_LANES, sizeof(*reference)), out[DELTA_LANES];
	struct delta_args a = { .dim = dim,
				.n_tokens = tokens,
				.q = x,
				.k = x + dim,
				.v = x + 2 * dim,
				.ld = ld,
				.decay = gates[0],
				.beta = gates[1],
				.ld_gate = 1,
				.kq = kq,
				.ld_kq = 1,
				.o = o,
				.ld_o = DELTA_LANES };

	s = floats(dim * DELTA_LANES);
	s2 = floats(dim * DELTA_LANES);
	o2 = floats(tokens * DELTA_LANES);
	fill(x, tokens * ld, 0.15f);
	for (unsigned t = 0; t < tokens; t++) {
		gates[0][t] = 0.5f + 0.5f * fabsf(random_float());
		gates[1][t] = fabsf(random_float());
		kq[t] = f->dot(x + t * ld, x + t * ld + dim, dim);
	}
	a.strip = s;
	f->delta(&a);
	for (unsigned t = 0; t < tokens; t++) {
		delta_reference(reference, dim, x + t * ld, x + t * ld + dim, x + t * ld + 2 * dim,
				gates[0][t], gates[1][t], out);
		for (unsigned j = 0; j < DELTA_LANES; j++)
			assert_close(o[t * DELTA_LANES + j], out[j], 1e-6);
	}
	for (unsigned i = 0; i < dim * DELTA_LANES; i++)
		assert_close(s[i], reference[i], 1e-6);
	/* in pieces: the same bits */
	for (unsigned t = 0, n = 1; t < tokens; t += n, n = n % 4 + 1) {
		struct delta_args part = a;

		part.strip = s2;
		part.next = s;
		part.n_tokens = t + n < tokens ? n : tokens - t;
		part.q += t * ld;
		part.k += t * ld;
		part.v += t * ld;
		part.decay += t;
		part.beta += t;
		part.kq += t;
		part.o = o2 + t * DELTA_LANES;
		f->delta(&part);
	}
	assert_memory_equal(s2, s, dim * DELTA_LANES * sizeof(*s));
	assert_memory_equal(o2, o, tokens * DELTA_LANES * sizeof(*o));
	free(x);
	free(o);
	free(o2);
	free(s);
	free(s2);
	free(reference);
}

static void test_delta(void **unused)
{
	each_level(check_delta);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sums),	    cmocka_unit_test(test_elements),
		cmocka_unit_test(test_exp),	    cmocka_unit_test(test_softmax_edges),
		cmocka_unit_test(test_rope),	    cmocka_unit_test(test_conv),
		cmocka_unit_test(test_attend),	    cmocka_unit_test(test_attend_groups),
		cmocka_unit_test(test_merge),	    cmocka_unit_test(test_cache_bytes),
		cmocka_unit_test(test_cache_edges), cmocka_unit_test(test_delta),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
