/* SPDX-License-Identifier: MIT */
/*
 * Description: gated DeltaNet against the recurrence in double, both orders of V heads; the same
 * bits for any cut of the prompt, number of threads and company; a snapshot continues the same;
 * drafts that do not stay leave no trace.
 */
#include "mixer_rig.h"

enum {
	EMBD = 64,
	K_HEADS = 2,
	V_HEADS = 4,
	DIM = 64,
	KEYS = K_HEADS * DIM,
	VALUES = V_HEADS * DIM
};
enum { CHANNELS = 2 * KEYS + VALUES, TOKENS = 150 };

static const uint32_t whole[] = { 1024, 0 };

static void make_rig(struct rig *r, bool tiled, uint32_t taps, uint32_t type)
{
	float *a, *dt;

	memset(r, 0, sizeof(*r));
	rig_state = 11;
	r->model.n_embd = EMBD;
	r->model.rms_eps = 1e-6f;
	r->model.ssm_k_heads = K_HEADS;
	r->model.ssm_v_heads = V_HEADS;
	r->model.ssm_head_dim = DIM;
	r->model.ssm_conv_kernel = taps;
	r->model.ssm_v_tiled = tiled;
	r->layer.n_blocks = 1;
	r->layer.blocks[0].kind = BLOCK_DELTANET;
	rig_matrix(r, ROLE_SSM_QKV, type, EMBD, CHANNELS, 0.3f);
	rig_matrix(r, ROLE_SSM_Z, QUANT_F32, EMBD, VALUES, 0.3f);
	rig_matrix(r, ROLE_SSM_BETA, QUANT_F32, EMBD, V_HEADS, 0.5f);
	rig_matrix(r, ROLE_SSM_ALPHA, type, EMBD, V_HEADS, 0.5f);
	rig_matrix(r, ROLE_SSM_OUT, type, VALUES, EMBD, 0.3f);
	rig_floats(r, ROLE_SSM_CONV, CHANNELS * taps, 0.0f, 1.0f);
	rig_floats(r, ROLE_SSM_NORM, DIM, 1.0f, 0.5f);
	dt = rig_floats(r, ROLE_SSM_DT, V_HEADS, 0.0f, 1.0f);
	/* one head that forgets slowly, one at once, one where softplus is the identity */
	a = rig_floats(r, ROLE_SSM_A, V_HEADS, -0.1f, 0.05f);
	a[1] = -30.0f;
	dt[2] = 25.0f;
	a[2] = -0.001f;
}

static float *make_input(size_t n)
{
	float *x = malloc(n * EMBD * sizeof(*x));

	for (size_t i = 0; i < n * EMBD; i++)
		x[i] = rig_random();
	return x;
}

static double silu(double x)
{
	return x / (1 + exp(-x));
}

static void reference_l2(double *x, double scale)
{
	double sum = 0;

	for (unsigned i = 0; i < DIM; i++)
		sum += x[i] * x[i];
	for (unsigned i = 0; i < DIM; i++)
		x[i] *= scale / sqrt(sum + 1e-6);
}

/* models.md 2.4 as written: decay, read, write, output; S[i][j], i key and j value dimension */
static void reference_head(double *s, const double *q, const double *k, const double *v,
			   double decay, double beta, double *o)
{
	for (unsigned j = 0; j < DIM; j++) {
		double read = 0;

		for (unsigned i = 0; i < DIM; i++) {
			s[i * DIM + j] *= decay;
			read += s[i * DIM + j] * k[i];
		}
		o[j] = 0;
		for (unsigned i = 0; i < DIM; i++) {
			s[i * DIM + j] += k[i] * beta * (v[j] - read);
			o[j] += s[i * DIM + j] * q[i];
		}
	}
}

struct history {
	double u[TOKENS][CHANNELS], s[V_HEADS][DIM * DIM];
};

static void reference_token(const struct rig *r, struct history *h, uint32_t t, const double *in,
			    double *y)
{
	const struct layer_weights *w = &r->weights;
	uint32_t taps = r->model.ssm_conv_kernel;
	double c[CHANNELS], z[VALUES], beta[V_HEADS], alpha[V_HEADS], o[VALUES];

	rig_product(&w->w[ROLE_SSM_QKV], in, h->u[t]);
	rig_product(&w->w[ROLE_SSM_Z], in, z);
	rig_product(&w->w[ROLE_SSM_BETA], in, beta);
	rig_product(&w->w[ROLE_SSM_ALPHA], in, alpha);
	for (unsigned ch = 0; ch < CHANNELS; ch++) {
		c[ch] = 0;
		for (uint32_t m = 0; m < taps; m++)
			if (t + m + 1 >= taps)
				c[ch] += layer_floats(w, ROLE_SSM_CONV)[ch * taps + m] *
					 h->u[t + m + 1 - taps][ch];
		c[ch] = silu(c[ch]);
	}
	for (unsigned k = 0; k < K_HEADS; k++) {
		reference_l2(c + k * DIM, 1 / sqrt(DIM));
		reference_l2(c + KEYS + k * DIM, 1);
	}
	for (unsigned v = 0; v < V_HEADS; v++) {
		unsigned k = r->model.ssm_v_tiled ? v % K_HEADS : v / (V_HEADS / K_HEADS);
		double x = alpha[v] + layer_floats(w, ROLE_SSM_DT)[v],
		       g = layer_floats(w, ROLE_SSM_A)[v] * (x > 20 ? x : log1p(exp(x)));

		reference_head(h->s[v], c + k * DIM, c + KEYS + k * DIM, c + 2 * KEYS + v * DIM,
			       exp(g), 1 / (1 + exp(-beta[v])), o + v * DIM);
		rig_rmsnorm(o + v * DIM, layer_floats(w, ROLE_SSM_NORM), DIM, 1e-6);
		for (unsigned i = 0; i < DIM; i++)
			o[v * DIM + i] *= silu(z[v * DIM + i]);
	}
	rig_product(&w->w[ROLE_SSM_OUT], o, y);
}

static void check_reference(const struct cpu_ops *ops)
{
	static double want[TOKENS * EMBD];
	static float got[TOKENS * EMBD];

	for (unsigned kind = 0; kind < 4; kind++) {
		struct history *h = calloc(1, sizeof(*h));
		struct rig r;
		float *x;

		make_rig(&r, kind & 1, kind & 2 ? 4 : 3, QUANT_F32);
		x = make_input(TOKENS);
		rig_start(&r, ops, 2, TOKENS, TOKENS, KV_F16);
		rig_sequence(&r, x, got, TOKENS, whole, NULL);
		for (uint32_t t = 0; t < TOKENS; t++) {
			double in[EMBD];

			for (unsigned i = 0; i < EMBD; i++)
				in[i] = x[t * EMBD + i];
			reference_token(&r, h, t, in, want + t * EMBD);
		}
		assert_true(rig_difference(got, want, TOKENS * EMBD) < 2e-5);
		rig_stop(&r);
		rig_free(&r);
		free(x);
		free(h);
	}
}

static void test_reference(void **unused)
{
	rig_each_level(check_reference);
}

static void check_same_bits(const struct cpu_ops *ops)
{
	static const uint32_t cuts[][8] = { { 1, 0 },		{ 2, 0 },      { 64, 0 },
					    { 1, 63, 2, 7, 0 }, { 149, 1, 0 }, { 150, 0 } };
	struct rig r;
	float *x, *company;

	make_rig(&r, true, 4, QUANT_Q8_0);
	x = make_input(TOKENS);
	company = make_input(8);
	rig_same_bits(&r, ops, KV_F16, x, company, TOKENS, cuts, ARRAY_LEN(cuts));
	rig_free(&r);
	free(x);
	free(company);
}

static void test_same_bits(void **unused)
{
	rig_each_level(check_same_bits);
}

/* The state copied to another sequence at a turn's end continues with the same bits. */
static void test_snapshot(void **unused)
{
	enum { turn = 50 };
	static float want[TOKENS * EMBD], got[TOKENS * EMBD];
	struct rig r;
	struct seq *s, *copy;
	void *from, *to;
	size_t bytes, same;
	float *x;

	make_rig(&r, true, 4, QUANT_F32);
	x = make_input(TOKENS);
	rig_start(&r, cpu_ops_best(), 2, TOKENS, TOKENS, KV_F16);
	rig_sequence(&r, x, want, TOKENS, whole, NULL);
	s = seq_get(r.pool);
	rig_step(&r, &(struct rig_part){ s, x, got, turn }, 1);
	copy = seq_get(r.pool);
	from = seq_state(s, &bytes);
	to = seq_state(copy, &same);
	assert_int_equal(bytes, same);
	memcpy(to, from, bytes);
	seq_advance(copy, turn);
	rig_step(&r, &(struct rig_part){ copy, x + turn * EMBD, got + turn * EMBD, TOKENS - turn },
		 1);
	assert_memory_equal(got, want, sizeof(want));
	rig_stop(&r);
	rig_free(&r);
	free(x);
}

static void spmd_replay(void *arg, unsigned tid)
{
	const struct rig_call *c = arg;

	block_replay(c->rig->blocks, BLOCK_DELTANET, &c->args, tid);
}

/* Brings the state of @s up to date by itself. */
static void settle(struct rig *r, struct seq *s, uint32_t replay, float *store)
{
	struct batch_run run = { .seq = s, .pos = seq_len(s), .replay = replay, .store = store };
	struct batch batch = { .runs = &run, .n_runs = 1 };

	team_run(r->team, spmd_replay, &(struct rig_call){ r, { .batch = &batch } });
}

/*
 * Drafts of every length, of which all, some or none stay and the others are broken numbers: the same
 * outputs, and at the end the same state, as without them.
 */
static void check_drafts(const struct cpu_ops *ops)
{
	static float want[TOKENS * EMBD], got[TOKENS * EMBD], in[8 * EMBD], out[8 * EMBD];
	struct seq *plain, *s;
	uint32_t replay = 0;
	float *x, *store;
	void *from, *to;
	size_t bytes;
	struct rig r;

	make_rig(&r, true, 4, QUANT_Q8_0);
	x = make_input(TOKENS);
	rig_start(&r, ops, 2, TOKENS, TOKENS, KV_F16);
	r.store = store = calloc(DRAFT_MAX * block_deltanet.draft_floats(&r.model), sizeof(*store));
	plain = seq_get(r.pool);
	s = seq_get(r.pool);
	rig_step(&r, &(struct rig_part){ plain, x, want, TOKENS }, 1);
	rig_step(&r, &(struct rig_part){ s, x, got, 2 }, 1);
	assert_non_null(store);
	for (uint32_t t = 2, i = 0; t < TOKENS; i++) {
		uint32_t draft = i * 5 % (DRAFT_MAX + 1), kept = 1 + i * 3 % (draft + 1);

		draft = (uint32_t)u64_min(draft, TOKENS - t - 1);
		kept = (uint32_t)u64_min(kept, draft + 1);
		for (uint32_t k = 0; k <= draft; k++)
			for (uint32_t c = 0; c < EMBD; c++)
				in[k * EMBD + c] = k < kept ? x[(t + k) * EMBD + c] : NAN;
		r.drafted = draft;
		r.replay = replay;
		rig_step(&r, &(struct rig_part){ s, in, out, 1 + draft }, 1);
		memcpy(got + t * EMBD, out, kept * EMBD * sizeof(*out));
		replay = kept - 1;
		t += kept;
		seq_cut(s, t);
		if (i % 4 == 3) {
			settle(&r, s, replay, store);
			replay = 0;
		}
	}
	settle(&r, s, replay, store);
	assert_memory_equal(got, want, sizeof(want));
	from = seq_state(plain, &bytes);
	to = seq_state(s, &bytes);
	assert_memory_equal(from, to, bytes);
	rig_stop(&r);
	rig_free(&r);
	free(store);
	free(x);
}

static void test_drafts(void **unused)
{
	rig_each_level(check_drafts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_drafts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
