/* SPDX-License-Identifier: MIT */
/*
 * Description: attention, gated and not, with windows, sinks, biases and norms of every kind, against
 * softmax attention in double; the same bits for
 * any cut of the prompt, number of threads and company, in contexts of several segments.
 */
#include "mixer_rig.h"

enum { EMBD = 64, HEADS = 4, KV_HEADS = 2, DIM = 64, ROT = 16, VALUES = 96 };

/* Values of another length than keys, for some runs. */
static size_t vdim(const struct rig *r)
{
	return r->layer.attention.value_dim;
}

static const uint32_t whole[] = { 1024, 0 };

/* What the layers of some families have beside queries, keys and values. */
static void add_extras(struct rig *r, uint32_t window)
{
	size_t dims = HEADS * DIM, dims_kv = KV_HEADS * DIM;

	r->layer.attention.window = window;
	r->layer.attention.qk_norm = QK_NORM_ROW;
	r->layer.attention.v_norm = true;
	rig_floats(r, ROLE_Q_NORM, dims, 1.5f, 0.5f);
	rig_floats(r, ROLE_K_NORM, dims_kv, 1.5f, 0.5f);
	rig_floats(r, ROLE_SINKS, HEADS, 1.0f, 2.0f);
	rig_floats(r, ROLE_WQ_BIAS, dims, 0.0f, 0.5f);
	rig_floats(r, ROLE_WK_BIAS, dims_kv, 0.0f, 0.5f);
	rig_floats(r, ROLE_WV_BIAS, KV_HEADS * vdim(r), 0.0f, 0.5f);
	rig_floats(r, ROLE_WO_BIAS, EMBD, 0.0f, 0.5f);
}

static void make_rig(struct rig *r, bool gated, uint32_t type, uint32_t n_rot, uint32_t value_dim)
{
	size_t dims = HEADS * DIM, dims_kv = KV_HEADS * DIM;

	memset(r, 0, sizeof(*r));
	rig_state = 7;
	r->model.n_embd = EMBD;
	r->model.rms_eps = 1e-6f;
	r->model.attention = (struct attention_spec){
		.n_head = HEADS,
		.n_head_kv = KV_HEADS,
		.head_dim = DIM,
		.value_dim = value_dim,
		.scale = 0.125f,
		.qk_norm = QK_NORM_HEAD,
		.gated = gated,
		.rope = { .n_rot = n_rot, .base = 10000.0f, .scale = 1.0f },
	};
	r->layer.n_blocks = 1;
	r->layer.blocks[0].kind = BLOCK_ATTENTION;
	r->layer.attention = r->model.attention;
	rig_matrix(r, ROLE_WQ, type, EMBD, dims * (gated ? 2 : 1), 0.3f);
	rig_matrix(r, ROLE_WK, QUANT_F32, EMBD, dims_kv, 0.3f);
	rig_matrix(r, ROLE_WV, QUANT_F32, EMBD, KV_HEADS * value_dim, 0.3f);
	rig_matrix(r, ROLE_WO, type, HEADS * value_dim, EMBD, 0.3f);
	/* large norms: peaked scores, so that positions matter */
	rig_floats(r, ROLE_Q_NORM, DIM, 1.5f, 0.5f);
	rig_floats(r, ROLE_K_NORM, DIM, 1.5f, 0.5f);
}

static float *make_input(size_t n)
{
	float *x = malloc(n * EMBD * sizeof(*x));

	for (size_t i = 0; i < n * EMBD; i++)
		x[i] = rig_random();
	return x;
}

static void reference_rope(const struct rig *r, double *x, uint32_t position)
{
	uint32_t half = r->layer.attention.rope.n_rot / 2;

	for (uint32_t j = 0; j < half; j++) {
		double angle = position * pow(10000.0, -2.0 * j / r->layer.attention.rope.n_rot);
		double a = x[j], b = x[j + half];

		x[j] = a * cos(angle) - b * sin(angle);
		x[j + half] = a * sin(angle) + b * cos(angle);
	}
}

/* One head of one token over the keys and values so far, as far as its window reaches. */
static void reference_head(const struct rig *r, const double *q, const double *gate,
			   const double *sink, const double *k, const double *v, uint32_t n,
			   double *out)
{
	double *p = calloc(n, sizeof(*p)), max = sink ? *sink : -INFINITY, sum = 0;
	uint32_t window = r->layer.attention.window, from = window && n > window ? n - window : 0;

	for (uint32_t t = from; t < n; t++) {
		for (unsigned i = 0; i < DIM; i++)
			p[t] += q[i] * k[t * KV_HEADS * DIM + i];
		p[t] *= r->layer.attention.scale;
		max = fmax(max, p[t]);
	}
	for (uint32_t t = from; t < n; t++)
		sum += p[t] = exp(p[t] - max);
	sum += sink ? exp(*sink - max) : 0;
	for (unsigned i = 0; i < vdim(r); i++) {
		out[i] = 0;
		for (uint32_t t = from; t < n; t++)
			out[i] += p[t] / sum * v[t * KV_HEADS * vdim(r) + i];
		if (gate)
			out[i] /= 1 + exp(-gate[i]);
	}
	free(p);
}

static void add_bias(const struct rig *r, enum role role, double *y)
{
	const struct wmat *w = &r->weights.w[role];

	for (size_t i = 0; w->data && i < w->n_in; i++)
		y[i] += layer_floats(&r->weights, role)[i];
}

/* Norms of one token's queries or keys: n heads, @stride apart. */
static void reference_norm(const struct rig *r, enum role role, unsigned n, size_t stride,
			   double *x)
{
	if (r->layer.attention.qk_norm == QK_NORM_ROW) {
		rig_rmsnorm(x, layer_floats(&r->weights, role), n * stride, 1e-6);
		return;
	}
	for (unsigned h = 0; h < n; h++)
		rig_rmsnorm(x + h * stride, layer_floats(&r->weights, role), DIM, 1e-6);
}

static void reference_values(const struct rig *r, double *v)
{
	float ones[VALUES];

	for (unsigned i = 0; i < VALUES; i++)
		ones[i] = 1;
	for (unsigned h = 0; h < KV_HEADS && r->layer.attention.v_norm; h++)
		rig_rmsnorm(v + h * vdim(r), ones, vdim(r), 1e-6);
}

static void reference_token(const struct rig *r, const double *in, uint32_t t, double *k, double *v,
			    double *y)
{
	const float *sinks = layer_floats(&r->weights, ROLE_SINKS);
	size_t dims_kv = KV_HEADS * DIM, stride = DIM * (r->layer.attention.gated ? 2 : 1);
	double q[HEADS * DIM * 2], o[HEADS * VALUES];

	rig_product(&r->weights.w[ROLE_WQ], in, q);
	add_bias(r, ROLE_WQ_BIAS, q);
	rig_product(&r->weights.w[ROLE_WK], in, k + t * dims_kv);
	add_bias(r, ROLE_WK_BIAS, k + t * dims_kv);
	rig_product(&r->weights.w[ROLE_WV], in, v + t * KV_HEADS * vdim(r));
	add_bias(r, ROLE_WV_BIAS, v + t * KV_HEADS * vdim(r));
	reference_norm(r, ROLE_K_NORM, KV_HEADS, DIM, k + t * dims_kv);
	reference_norm(r, ROLE_Q_NORM, HEADS, stride, q);
	reference_values(r, v + t * KV_HEADS * vdim(r));
	for (unsigned h = 0; h < KV_HEADS; h++)
		reference_rope(r, k + t * dims_kv + h * DIM, t);
	for (unsigned h = 0; h < HEADS; h++) {
		double *query = q + h * stride, sink = sinks ? sinks[h] : 0;
		unsigned kv = h / (HEADS / KV_HEADS);

		reference_rope(r, query, t);
		reference_head(r, query, r->layer.attention.gated ? query + DIM : NULL,
			       sinks ? &sink : NULL, k + kv * DIM, v + kv * vdim(r), t + 1,
			       o + h * vdim(r));
	}
	rig_product(&r->weights.w[ROLE_WO], o, y);
	add_bias(r, ROLE_WO_BIAS, y);
}

static void reference(const struct rig *r, const float *x, uint32_t n, double *y)
{
	double *k = calloc((size_t)n * KV_HEADS * DIM, sizeof(*k));
	double *v = calloc((size_t)n * KV_HEADS * VALUES, sizeof(*v));
	double in[EMBD];

	for (uint32_t t = 0; t < n; t++) {
		for (unsigned i = 0; i < EMBD; i++)
			in[i] = x[t * EMBD + i];
		reference_token(r, in, t, k, v, y + t * EMBD);
	}
	free(k);
	free(v);
}

static void check_reference(bool gated, bool extras, uint32_t window, uint32_t value_dim,
			    enum kv_type type)
{
	enum { n = 530 };
	static double want[n * EMBD];
	static float got[n * EMBD];
	struct rig r;
	float *x;

	make_rig(&r, gated, QUANT_F32, gated ? ROT : DIM, value_dim);
	if (extras)
		add_extras(&r, window);
	x = make_input(n);
	reference(&r, x, n, want);
	for (int level = 0; level < CPU_LEVEL_NR; level++) {
		if (!cpu_ops_get((enum cpu_level)level))
			continue;
		rig_start(&r, cpu_ops_get((enum cpu_level)level), 2, n, n, type);
		rig_sequence(&r, x, got, n, whole, NULL);
		/* what is left is the rounding of the cache: 2^-11, and 1/254 of a group's largest */
		assert_true(rig_difference(got, want, n * EMBD) < (type == KV_F16 ? 1e-3 : 2e-2));
		rig_stop(&r);
	}
	rig_free(&r);
	free(x);
}

static void test_reference(void **unused)
{
	check_reference(false, false, 0, DIM, KV_F16);
	check_reference(true, false, 0, DIM, KV_F16);
	check_reference(false, false, 0, DIM, KV_Q8_0);
	check_reference(true, false, 0, DIM, KV_Q8_0);
	check_reference(false, true, 0, DIM, KV_F16);
	check_reference(false, true, 16, DIM, KV_F16);
	check_reference(false, true, 16, 32, KV_F16);
	check_reference(false, false, 0, 96, KV_Q8_0);
	check_reference(false, true, 100, DIM, KV_Q8_0);
}

static void check_same_bits(const struct cpu_ops *ops)
{
	enum { n = 560 };
	static const uint32_t cuts[][8] = { { 1, 63, 7, 0 }, { 200, 1, 1, 0 }, { 560, 0 },
					    { 1, 0 },	     { 64, 0 },	       { 512, 0 } };
	/* the scalar level is slow, and two of its cuts show the rest */
	unsigned n_cuts = ops->level == CPU_SCALAR ? 2 : ARRAY_LEN(cuts);

	for (int kind = 0; kind < 4; kind++) {
		struct rig r;
		float *x, *company;

		make_rig(&r, kind == 0, QUANT_Q8_0, ROT, DIM);
		if (kind >= 2)
			add_extras(&r, kind == 2 ? 40 : 520);
		x = make_input(n);
		company = make_input(8);
		rig_same_bits(&r, ops, kind == 1 ? KV_Q8_0 : KV_F16, x, company, n, cuts, n_cuts);
		rig_free(&r);
		free(x);
		free(company);
	}
}

static void test_same_bits(void **unused)
{
	rig_each_level(check_same_bits);
}

/* Puts random keys and values before the position that a sequence then continues from. */
static void write_past(struct rig *r, struct seq *s, uint32_t n)
{
	const struct float_ops *f = float_ops_get(r->ops->level);
	float k[DIM], v[DIM];
	void *k_block, *v_block;

	assert_int_equal(seq_reserve(s, n), 0);
	for (uint32_t t = 0; t < n; t++)
		for (uint32_t h = 0; h < KV_HEADS; h++) {
			for (unsigned i = 0; i < DIM; i++) {
				k[i] = rig_random();
				v[i] = rig_random();
			}
			seq_kv(s, 0, h, t / KV_BLOCK, &k_block, &v_block);
			f->kv_store(seq_kv_type(s), DIM, t % KV_BLOCK, k, v, k_block, v_block);
		}
	seq_advance(s, n);
}

/* Five long contexts of different lengths decoded together: more parts than there are slots. */
static void decode_long(const struct cpu_ops *ops, unsigned threads, uint32_t window, float *y)
{
	static const uint32_t past[RIG_MAX_SEQS] = { 511, 512, 3000, 3600, 4095 };
	struct rig_part parts[RIG_MAX_SEQS];
	struct rig r;
	float *x;

	make_rig(&r, !window, QUANT_F32, ROT, DIM);
	if (window)
		add_extras(&r, window);
	x = make_input(RIG_MAX_SEQS);
	rig_start(&r, ops, threads, RIG_MAX_SEQS * 2, 4200, KV_F16);
	for (unsigned i = 0; i < RIG_MAX_SEQS; i++) {
		struct seq *s = seq_get(r.pool);

		write_past(&r, s, past[i]);
		parts[i] = (struct rig_part){ s, x + i * EMBD, y + i * EMBD, 1 };
	}
	assert_null(seq_get(r.pool));
	rig_step(&r, parts, RIG_MAX_SEQS);
	rig_stop(&r);
	rig_free(&r);
	free(x);
}

static void check_long(const struct cpu_ops *ops)
{
	static const uint32_t windows[] = { 0, 130, 600, 1500 };
	float want[RIG_MAX_SEQS * EMBD], got[RIG_MAX_SEQS * EMBD];

	for (unsigned w = 0; w < ARRAY_LEN(windows); w++) {
		decode_long(ops, 1, windows[w], want);
		for (size_t i = 0; i < ARRAY_LEN(want); i++)
			assert_true(isfinite(want[i]));
		for (unsigned threads = 2; threads <= 4; threads++) {
			memset(got, 0, sizeof(got));
			decode_long(ops, threads, windows[w], got);
			assert_memory_equal(got, want, sizeof(want));
		}
	}
}

static void test_long(void **unused)
{
	rig_each_level(check_long);
}

/* Nothing of a sequence that ended can be seen by the next in its place. */
static void test_reuse(void **unused)
{
	enum { n = 100 };
	static float first[n * EMBD], again[n * EMBD];
	struct rig r;
	float *x, *other;

	make_rig(&r, true, QUANT_F32, ROT, DIM);
	x = make_input(n);
	other = make_input(n);
	rig_start(&r, cpu_ops_best(), 2, n, n, KV_Q8_0);
	rig_sequence(&r, x, first, n, whole, NULL);
	rig_sequence(&r, other, again, n, whole, NULL);
	assert_memory_not_equal(first, again, sizeof(first));
	rig_sequence(&r, x, again, n, whole, NULL);
	assert_memory_equal(first, again, sizeof(first));
	rig_stop(&r);
	rig_free(&r);
	free(x);
	free(other);
}

/*
 * The same bits wherever the pages lie, and where a sequence goes on from another's positions: from
 * any of them, with whole pages shared and the last one copied, while the other goes on too.
 */
static void check_pages(const struct cpu_ops *ops)
{
	enum { n = 200 };
	static const uint32_t forks[] = { 1, 63, 64, 65, 128, 150, 199 };
	static float want[n * EMBD], got[n * EMBD], other[n * EMBD];

	for (int type = KV_F16; type <= KV_Q8_0; type++) {
		struct seq *a, *b, *c;
		uint32_t table[4];
		struct rig r;
		float *x, *y;

		make_rig(&r, true, QUANT_F32, ROT, DIM);
		x = make_input(n);
		y = make_input(n);
		rig_start(&r, ops, 2, n, n, (enum kv_type)type);
		rig_sequence(&r, x, want, n, whole, NULL);
		/* two that grow in turns, and end one after the other */
		a = seq_get(r.pool);
		b = seq_get(r.pool);
		for (uint32_t t = 0; t < n; t += 50) {
			rig_step(&r, &(struct rig_part){ b, y + t * EMBD, other, 50 }, 1);
			rig_step(&r, &(struct rig_part){ a, x + t * EMBD, got + t * EMBD, 50 }, 1);
		}
		assert_memory_equal(got, want, sizeof(want));
		assert_int_not_equal(seq_page(a, 1), seq_page(a, 0) + 1);
		for (uint32_t i = 0; i < 4; i++)
			table[i] = seq_page(a, i);
		for (unsigned f = 0; f < ARRAY_LEN(forks); f++) {
			uint32_t at = forks[f];

			c = seq_get(r.pool);
			assert_int_equal(seq_share(c, table, at), 0);
			/* another future for it first, and back */
			rig_step(&r, &(struct rig_part){ c, y, other, 1 }, 1);
			seq_cut(c, at);
			rig_step(&r, &(struct rig_part){ c, x + at * EMBD, got, n - at }, 1);
			assert_memory_equal(got, want + at * EMBD, (n - at) * EMBD * sizeof(*got));
			seq_put(r.pool, c);
		}
		/* the first owner's end changes nothing for who shares */
		c = seq_get(r.pool);
		assert_int_equal(seq_share(c, table, 130), 0);
		seq_put(r.pool, a);
		rig_sequence(&r, y, other, n, whole, NULL);
		rig_step(&r, &(struct rig_part){ c, x + 130 * EMBD, got, n - 130 }, 1);
		assert_memory_equal(got, want + 130 * EMBD, (n - 130) * EMBD * sizeof(*got));
		rig_stop(&r);
		rig_free(&r);
		free(x);
		free(y);
	}
}

static void test_pages(void **unused)
{
	rig_each_level(check_pages);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference), cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_long),	  cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
