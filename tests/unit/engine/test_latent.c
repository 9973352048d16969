/* SPDX-License-Identifier: MIT */
/*
 * Description: latent attention against attention with keys and values of every head made from the
 * short vector, in double, with queries of one product and of two; the same bits for any cut of
 * the prompt, number of threads and company, also in contexts of several segments.
 */
#include "mixer_rig.h"

#include <errno.h>

enum { EMBD = 64, HEADS = 3, Q_RANK = 32, RANK = 64, PLAIN = 32, ROT = 16, OUT = 32 };
enum { WIDTH = PLAIN + ROT, KEY = RANK + ROT };

static const uint32_t whole[] = { 1024, 0 };

static void make_rig(struct rig *r, uint32_t type, bool two_products)
{
	memset(r, 0, sizeof(*r));
	rig_state = 23;
	r->model.n_embd = EMBD;
	r->model.rms_eps = 1e-6f;
	r->model.latent = (struct latent_spec){
		.q_rank = two_products ? Q_RANK : 0,
		.kv_rank = RANK,
		.plain_dim = PLAIN,
		.out_dim = OUT,
	};
	r->model.attention = (struct attention_spec){
		.n_head = HEADS,
		.n_head_kv = 1,
		.head_dim = KEY,
		.value_dim = RANK,
		.scale = 0.3f,
		.rope = { .kind = ROPE_PAIRS, .n_rot = ROT, .base = 10000.0f, .scale = 1.0f },
	};
	r->layer.n_blocks = 1;
	r->layer.blocks[0].kind = BLOCK_LATENT;
	r->layer.attention = r->model.attention;
	if (two_products) {
		rig_matrix(r, ROLE_LATENT_Q_A, type, EMBD, Q_RANK, 0.3f);
		rig_floats(r, ROLE_LATENT_Q_A_NORM, Q_RANK, 1.5f, 0.5f);
		rig_matrix(r, ROLE_LATENT_Q_B, QUANT_F32, Q_RANK, HEADS * WIDTH, 0.5f);
	} else {
		rig_matrix(r, ROLE_LATENT_Q, type, EMBD, HEADS * WIDTH, 0.5f);
	}
	rig_matrix(r, ROLE_LATENT_KV_A, QUANT_F32, EMBD, KEY, 0.3f);
	rig_floats(r, ROLE_LATENT_KV_A_NORM, RANK, 1.0f, 0.5f);
	rig_matrix(r, ROLE_LATENT_K_B, type, PLAIN, HEADS * RANK, 0.3f);
	rig_matrix(r, ROLE_LATENT_V_B, type, RANK, HEADS * OUT, 0.3f);
	rig_matrix(r, ROLE_LATENT_O, type, HEADS * OUT, EMBD, 0.3f);
}

static float *make_input(size_t n)
{
	float *x = malloc(n * EMBD * sizeof(*x));

	for (size_t i = 0; i < n * EMBD; i++)
		x[i] = rig_random();
	return x;
}

static void rotate(double *x, uint32_t position)
{
	for (unsigned j = 0; j < ROT / 2; j++) {
		double angle = position * pow(10000.0, -2.0 * j / ROT), a = x[2 * j];

		x[2 * j] = a * cos(angle) - x[2 * j + 1] * sin(angle);
		x[2 * j + 1] = a * sin(angle) + x[2 * j + 1] * cos(angle);
	}
}

/* What a token leaves: every head's plain key and value, and the rotated part of all keys. */
struct past {
	double key[HEADS][PLAIN], rotated[ROT], value[HEADS][OUT];
};

static void remember(const struct rig *r, const double *in, uint32_t t, struct past *p)
{
	const float *k_b = (const float *)r->weights.w[ROLE_LATENT_K_B].data;
	double kv[KEY], values[HEADS * OUT];

	rig_product(&r->weights.w[ROLE_LATENT_KV_A], in, kv);
	rig_rmsnorm(kv, layer_floats(&r->weights, ROLE_LATENT_KV_A_NORM), RANK, 1e-6);
	memcpy(p->rotated, kv + RANK, sizeof(p->rotated));
	rotate(p->rotated, t);
	rig_product(&r->weights.w[ROLE_LATENT_V_B], kv, values);
	memcpy(p->value, values, sizeof(values));
	memset(p->key, 0, sizeof(p->key));
	for (unsigned h = 0; h < HEADS; h++)
		for (unsigned i = 0; i < RANK; i++)
			for (unsigned d = 0; d < PLAIN; d++)
				p->key[h][d] += k_b[(h * RANK + i) * PLAIN + d] * kv[i];
}

static void queries(const struct rig *r, const double *in, double *q)
{
	double low[Q_RANK];

	if (!r->model.latent.q_rank) {
		rig_product(&r->weights.w[ROLE_LATENT_Q], in, q);
		return;
	}
	rig_product(&r->weights.w[ROLE_LATENT_Q_A], in, low);
	rig_rmsnorm(low, layer_floats(&r->weights, ROLE_LATENT_Q_A_NORM), Q_RANK, 1e-6);
	rig_product(&r->weights.w[ROLE_LATENT_Q_B], low, q);
}

static void reference_head(const struct rig *r, unsigned h, double *q, uint32_t t,
			   const struct past *past, double *out)
{
	double *p = calloc(t + 1, sizeof(*p)), max = -INFINITY, sum = 0;

	rotate(q + PLAIN, t);
	for (uint32_t s = 0; s <= t; s++) {
		for (unsigned d = 0; d < PLAIN; d++)
			p[s] += q[d] * past[s].key[h][d];
		for (unsigned d = 0; d < ROT; d++)
			p[s] += q[PLAIN + d] * past[s].rotated[d];
		p[s] *= r->layer.attention.scale;
		max = fmax(max, p[s]);
	}
	for (uint32_t s = 0; s <= t; s++)
		sum += p[s] = exp(p[s] - max);
	memset(out, 0, OUT * sizeof(*out));
	for (uint32_t s = 0; s <= t; s++)
		for (unsigned d = 0; d < OUT; d++)
			out[d] += p[s] / sum * past[s].value[h][d];
	free(p);
}

static void reference(const struct rig *r, const float *x, uint32_t n, double *y)
{
	struct past *past = calloc(n, sizeof(*past));
	double in[EMBD], q[HEADS * WIDTH], o[HEADS * OUT];

	for (uint32_t t = 0; t < n; t++) {
		for (unsigned i = 0; i < EMBD; i++)
			in[i] = x[t * EMBD + i];
		remember(r, in, t, &past[t]);
		queries(r, in, q);
		for (unsigned h = 0; h < HEADS; h++)
			reference_head(r, h, q + h * WIDTH, t, past, o + h * OUT);
		rig_product(&r->weights.w[ROLE_LATENT_O], o, y + t * EMBD);
	}
	free(past);
}

static void check_reference(const struct cpu_ops *ops)
{
	enum { n = 530 };
	static double want[n * EMBD];
	static float got[n * EMBD];

	for (unsigned two = 0; two < 2; two++) {
		struct rig r;
		float *x;

		make_rig(&r, QUANT_F32, two);
		x = make_input(n);
		reference(&r, x, n, want);
		rig_start(&r, ops, 2, n, n, KV_F16);
		rig_sequence(&r, x, got, n, whole, NULL);
		assert_true(rig_difference(got, want, n * EMBD) < 2e-3);
		rig_stop(&r);
		rig_free(&r);
		free(x);
	}
}

static void test_reference(void **unused)
{
	rig_each_level(check_reference);
}

static void check_same_bits(const struct cpu_ops *ops)
{
	enum { n = 560 };
	static const uint32_t cuts[][8] = {
		{ 64, 0 }, { 1, 63, 7, 0 }, { 200, 1, 1, 0 }, { 1, 0 }
	};
	struct rig r;
	float *x, *company;

	make_rig(&r, QUANT_Q8_0, true);
	x = make_input(n);
	company = make_input(8);
	/* the scalar level is slow, and two of its cuts show the rest */
	rig_same_bits(&r, ops, KV_F16, x, company, n, cuts,
		      ops->level == CPU_SCALAR ? 2 : ARRAY_LEN(cuts));
	rig_free(&r);
	free(x);
	free(company);
}

static void test_same_bits(void **unused)
{
	rig_each_level(check_same_bits);
}

/* A key of 80 dimensions has no place in blocks of 32. */
static void test_refused(void **unused)
{
	struct seq_pool *pool = NULL;
	struct err err = { 0 };
	struct rig r;

	make_rig(&r, QUANT_F32, false);
	r.model.n_layers = 1;
	r.model.layers = &r.layer;
	assert_int_equal(seq_pool_create(&r.model, 1, 64, 0, KV_Q8_0, &pool, &err), -ENOTSUP);
	assert_non_null(
		strstr(err.text, "multiple of 32 up to 1024 dimensions, this model has 80"));
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
