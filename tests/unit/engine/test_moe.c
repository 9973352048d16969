/* SPDX-License-Identifier: MIT */
/*
 * Description: dense triples, experts and shared experts, with a gate and without (squared ReLU), against a
 * plain reference in double on every CPU level; the same bits for every budget, cut, split and number of
 * threads, in whatever order experts land; an expert that cannot be read fails its tokens alone.
 *
 * No family has squared ReLU yet. The model is a made GGUF file (F32 or Q8_0 weights) that build_layer()
 * reads by a row of this file, as a family's would be; only general.architecture is not looked up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>

#include "model/arch/arch.h"
#include "tests/unit/engine/decoder_rig.h"
#include "tests/unit/model/gguf_build.h"

enum {
	EMBD = 64,
	VOCAB = 48,
	LAYERS = 3,
	EXPERTS = 8,
	USED = 2,
	FF = 96,
	FF_EXPERT = 64,
	FF_SHARED = 32
};
enum { TOKENS = 40 }; /* as many entries as make whole experts worth a thread each */

static const struct arch_weight with_gate[] = {
	NEED(TOKEN_EMBD),
	NEED(OUTPUT_NORM),
	NEED(OUTPUT),
	NEED(FFN_NORM),
	NEED_DENSE,
	NEED(ROUTER),
	NEED_SHARED,
	NEED(SHARED_GATE_INP),
	END,
};
static const struct arch_weight without_gate[] = {
	NEED(TOKEN_EMBD), NEED(OUTPUT_NORM), NEED(OUTPUT),    NEED(FFN_NORM),	 NEED(FFN_UP),
	NEED(FFN_DOWN),	  NEED(ROUTER),	     NEED(SHARED_UP), NEED(SHARED_DOWN), END,
};

/* One block a layer: a dense triple, then experts. */
static int one_block(struct build *b, uint32_t i)
{
	struct layer *l = &b->m->layers[i];

	l->n_blocks = 1;
	l->blocks[0] = (struct layer_block){ .kind = i ? BLOCK_MOE : BLOCK_DENSE,
					     .norm = ROLE_FFN_NORM,
					     .post_norm = ROLE_NONE,
					     .sum_norm = ROLE_NONE };
	return 0;
}

static const struct arch rows[2] = {
	{ .name = "gateless",
	  .weights = without_gate,
	  .activation = ACTIVATION_RELU2,
	  .layer = one_block },
	{ .name = "gated",
	  .weights = with_gate,
	  .activation = ACTIVATION_SILU,
	  .layer = one_block },
};

/* A model with its file in memory. */
struct made {
	struct gguf_build file;
	uint8_t *content;
	struct reader_memory_file memory;
	struct reader_memory disk;
	struct model *model;
};

static uint64_t random_state;

/* Uniform in [-1, 1). */
static float uniform(void)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(random_state >> 40) * 0x1p-23 - 1.0);
}

static void fill_tensor(uint8_t *at, uint32_t type, uint64_t n, bool norm)
{
	uint16_t scale = f16_from_f32(0.25f / 127.0f);
	float v;

	for (uint64_t i = 0; type == QUANT_F32 && i < n; i++) {
		v = norm ? 1.0f + 0.25f * uniform() : 0.25f * uniform();
		memcpy(at + i * sizeof(v), &v, sizeof(v));
	}
	for (uint64_t i = 0; type == QUANT_Q8_0 && i < n / 32; i++, at += 34) {
		memcpy(at, &scale, sizeof(scale));
		for (unsigned k = 0; k < 32; k++)
			at[2 + k] = (uint8_t)(int8_t)(uniform() * 127.0f);
	}
}

static void add_layer(struct gguf_build *g, unsigned i, bool gated, uint32_t type)
{
	static const struct {
		const char *name;
		bool gate, moe;
		unsigned n_in, n_out, n;
	} tensors[] = {
		{ "ffn_gate", true, false, EMBD, FF, 1 },
		{ "ffn_up", false, false, EMBD, FF, 1 },
		{ "ffn_down", false, false, FF, EMBD, 1 },
		{ "ffn_gate_inp", false, true, EMBD, EXPERTS, 1 },
		{ "ffn_gate_exps", true, true, EMBD, FF_EXPERT, EXPERTS },
		{ "ffn_up_exps", false, true, EMBD, FF_EXPERT, EXPERTS },
		{ "ffn_down_exps", false, true, FF_EXPERT, EMBD, EXPERTS },
		{ "ffn_gate_inp_shexp", true, true, EMBD, 1, 1 },
		{ "ffn_gate_shexp", true, true, EMBD, FF_SHARED, 1 },
		{ "ffn_up_shexp", false, true, EMBD, FF_SHARED, 1 },
		{ "ffn_down_shexp", false, true, FF_SHARED, EMBD, 1 },
	};
	char name[64];

	snprintf(name, sizeof(name), "blk.%u.ffn_norm.weight", i);
	add_tensor(g, name, QUANT_F32, EMBD, 1, 1);
	for (unsigned k = 0; k < ARRAY_LEN(tensors); k++) {
		bool small = tensors[k].n_out <=
			     EXPERTS; /* the router and the gate of the shared expert */

		if (tensors[k].moe != (i > 0) || (tensors[k].gate && !gated))
			continue;
		snprintf(name, sizeof(name), "blk.%u.%s.weight", i, tensors[k].name);
		add_tensor(g, name, small ? QUANT_F32 : type, tensors[k].n_in, tensors[k].n_out,
			   tensors[k].n);
	}
}

static void write_file(struct made *f, bool gated, uint32_t type)
{
	struct gguf_build *g = &f->file;
	struct gguf *read;
	struct err err = { 0 };
	uint64_t bytes;

	add_text(g, "general.architecture", rows[gated].name);
	add_tensor(g, "token_embd.weight", QUANT_F32, EMBD, VOCAB, 1);
	add_tensor(g, "output_norm.weight", QUANT_F32, EMBD, 1, 1);
	add_tensor(g, "output.weight", QUANT_F32, EMBD, VOCAB, 1);
	for (unsigned i = 0; i < LAYERS; i++)
		add_layer(g, i, gated, type);
	save(g);
	if (gguf_open(g->path, &read, &err))
		fail_msg("%s", err.text);
	bytes = gguf_file(read, 0)->bytes;
	f->content = malloc(bytes);
	assert_int_equal(pread(g->fd, f->content, bytes, 0), bytes);
	for (uint64_t i = 0; i < gguf_n_tensors(read); i++) {
		const struct gguf_tensor *t = gguf_tensor(read, i);

		fill_tensor(f->content + t->offset, t->type, t->ne[0] * t->ne[1] * t->ne[2],
			    strstr(t->name, "norm") != NULL);
	}
	gguf_destroy(read);
	assert_int_equal(pwrite(g->fd, f->content, bytes, 0), bytes);
	f->memory.content = f->content;
	atomic_store(&f->memory.bytes, bytes);
	f->disk.files = &f->memory;
	f->disk.n_files = 1;
}

/* What model_open() does after it has the row and the keys. */
static int read_model(struct made *f, const struct arch *row, struct err *err)
{
	bool recurrent[LAYERS] = { false };
	struct model *m = calloc(1, sizeof(*m));
	struct build b = {
		.m = m, .arch = row, .err = err, .n_blocks = LAYERS, .recurrent = recurrent
	};
	int rc;

	f->model = m;
	assert_int_equal(gguf_open(f->file.path, &m->gguf, err), 0);
	b.g = m->gguf;
	b.used = calloc(gguf_n_tensors(b.g), sizeof(*b.used));
	m->n_layers = LAYERS;
	m->n_embd = EMBD;
	m->n_vocab = VOCAB;
	m->rms_eps = 1e-6f;
	m->embd_scale = 1;
	m->activation = row->activation;
	m->n_expert = EXPERTS;
	m->n_expert_used = USED;
	m->n_ff = FF;
	m->n_ff_expert = FF_EXPERT;
	m->n_ff_shared = FF_SHARED;
	m->router = (struct router_spec){ .gating = GATING_SOFTMAX,
					  .renorm = true,
					  .scale = 1.5f,
					  .n_groups = 1,
					  .n_groups_used = 1 };
	m->layers = calloc(LAYERS, sizeof(*m->layers));
	rc = build_globals(&b);
	for (uint32_t i = 0; i < LAYERS && !rc; i++)
		rc = build_layer(&b, i);
	for (uint64_t i = 0; i < gguf_n_tensors(b.g) && !rc; i++)
		assert_true(b.used[i]);
	free(b.used);
	return rc;
}

static void make(struct made *f, bool gated, uint32_t type)
{
	struct err err = { 0 };

	memset(f, 0, sizeof(*f));
	random_state = 11;
	write_file(f, gated, type);
	if (read_model(f, &rows[gated], &err))
		fail_msg("%s", err.text);
}

static void unmake(struct made *f)
{
	model_destroy(f->model);
	free(f->content);
	build_fini(&f->file);
}

/* ---- the reference ---- */

/* y = rows of @type at @w times x. */
static void multiply(const uint8_t *w, uint32_t type, size_t n_in, size_t n_out, const double *x,
		     double *y)
{
	float row[128];

	for (size_t r = 0; r < n_out; r++) {
		cpu_ops_get(CPU_SCALAR)
			->dequantize(type, w + r * quant_row_bytes(type, n_in), row, n_in);
		y[r] = 0;
		for (size_t i = 0; i < n_in; i++)
			y[r] += (double)row[i] * x[i];
	}
}

/* A tensor by its name, and part @expert of it; false where the file has none. */
static bool product(const struct made *f, const char *stem, int layer, unsigned expert,
		    const double *x, double *y)
{
	const struct gguf_tensor *t;
	char name[64];

	snprintf(name, sizeof(name), "blk.%d.%s.weight", layer, stem);
	t = gguf_find(f->model->gguf, layer < 0 ? stem : name);
	if (t)
		multiply(f->content + t->offset + expert * (t->bytes / t->ne[2]), t->type, t->ne[0],
			 t->ne[1], x, y);
	return t != NULL;
}

static void norm(const struct made *f, const char *name, const double *x, double *y)
{
	const float *w = (const float *)(f->content + gguf_find(f->model->gguf, name)->offset);
	double sum = 0;

	for (int i = 0; i < EMBD; i++)
		sum += x[i] * x[i];
	for (int i = 0; i < EMBD; i++)
		y[i] = x[i] / sqrt(sum / EMBD + 1e-6) * (double)w[i];
}

/* y += weight * down f(...) of the tensors that end in @suffix. */
static void triple(const struct made *f, int layer, const char *suffix, unsigned expert,
		   size_t width, const double *x, double weight, double *y)
{
	double g[128], u[128], out[EMBD];
	char name[32];
	bool gated;

	snprintf(name, sizeof(name), "ffn_gate%s", suffix);
	gated = product(f, name, layer, expert, x, g);
	assert_int_equal(gated, f->model->activation == ACTIVATION_SILU);
	snprintf(name, sizeof(name), "ffn_up%s", suffix);
	assert_true(product(f, name, layer, expert, x, u));
	for (size_t i = 0; i < width; i++)
		u[i] = gated ? g[i] / (1 + exp(-g[i])) * u[i] : pow(fmax(u[i], 0), 2);
	snprintf(name, sizeof(name), "ffn_down%s", suffix);
	assert_true(product(f, name, layer, expert, u, out));
	for (int i = 0; i < EMBD; i++)
		y[i] += weight * out[i];
}

/* *gap: by how much the last of the chosen beats the first of the others. */
static void experts(const struct made *f, int layer, const double *x, double *y, double *gap)
{
	double p[EXPERTS], sum = 0, gate;
	int best[USED];

	product(f, "ffn_gate_inp", layer, 0, x, p);
	for (int r = 0; r < USED; r++) {
		best[r] = -1;
		for (int e = 0; e < EXPERTS; e++)
			if ((best[r] < 0 || p[e] > p[best[r]]) && (r == 0 || e != best[0]))
				best[r] = e;
		sum += exp(p[best[r]]);
	}
	for (int e = 0; e < EXPERTS; e++)
		if (e != best[0] && e != best[1])
			*gap = fmin(*gap, p[best[USED - 1]] - p[e]);
	for (int r = 0; r < USED; r++)
		triple(f, layer, "_exps", (unsigned)best[r], FF_EXPERT, x,
		       1.5 * exp(p[best[r]]) / sum, y);
	if (product(f, "ffn_gate_inp_shexp", layer, 0, x, &gate))
		gate = 1 / (1 + exp(-gate));
	else
		gate = 1;
	triple(f, layer, "_shexp", 0, FF_SHARED, x, gate, y);
}

static void reference(const struct made *f, uint32_t token, double *logits, double *gap)
{
	const float *row = (const float *)(f->content +
					   gguf_find(f->model->gguf, "token_embd.weight")->offset);
	double x[EMBD], h[EMBD], y[EMBD];
	char name[64];

	for (int i = 0; i < EMBD; i++)
		x[i] = (double)row[token * EMBD + i];
	for (int layer = 0; layer < LAYERS; layer++) {
		snprintf(name, sizeof(name), "blk.%d.ffn_norm.weight", layer);
		norm(f, name, x, h);
		memset(y, 0, sizeof(y));
		if (layer == 0)
			triple(f, layer, "", 0, FF, h, 1, y);
		else
			experts(f, layer, h, y, gap);
		for (int i = 0; i < EMBD; i++)
			x[i] += y[i];
	}
	norm(f, "output_norm.weight", x, h);
	assert_true(product(f, "output.weight", -1, 0, h, logits));
}

/* ---- tests ---- */

static void some_tokens(uint32_t *tokens)
{
	for (uint32_t i = 0; i < TOKENS; i++)
		tokens[i] = i * 29 % VOCAB;
}

/* Of tokens whose choice of experts does not hang on the rounding of int8 activations: most of them. */
static double worst_difference(const struct made *f, const uint32_t *tokens, const float *logits,
			       double least_gap)
{
	double want[VOCAB], worst = 0, largest = 0;
	unsigned n = 0;

	for (uint32_t t = 0; t < TOKENS; t++) {
		double gap = INFINITY;

		reference(f, tokens[t], want, &gap);
		if (gap < least_gap)
			continue;
		n++;
		for (int i = 0; i < VOCAB; i++) {
			double difference = fabs((double)logits[t * VOCAB + i] - want[i]);

			if (!(difference <= worst))
				worst = isnan(difference) ? INFINITY : difference;
			largest = fmax(largest, fabs(want[i]));
		}
	}
	assert_true(n > TOKENS / 2);
	return worst / largest;
}

static void check(bool gated, uint32_t type, double bound, double gap)
{
	double off;

	static float logits[TOKENS * VOCAB];
	uint32_t tokens[TOKENS];
	struct made f;

	make(&f, gated, type);
	some_tokens(tokens);
	for (int level = 0; level < CPU_LEVEL_NR; level++) {
		struct decoder_rig d = { .model = f.model, .disk = &f.disk, .share = 1 };

		d.ops = cpu_ops_get((enum cpu_level)level);
		if (!d.ops)
			continue;
		decoder_open(&d);
		decoder_sequence(&d, tokens, TOKENS, TOKENS, logits);
		decoder_close(&d);
		off = worst_difference(&f, tokens, logits, gap);
		if (off > bound)
			fail_msg("type %u, level %d: off by %g", type, level, off);
	}
	unmake(&f);
}

static void test_gateless(void **state)
{
	check(false, QUANT_F32, 1e-5, 0);
	check(false, QUANT_Q8_0, 4e-2, 0.1);
}

static void test_gated(void **state)
{
	check(true, QUANT_F32, 1e-5, 0);
	check(true, QUANT_Q8_0, 4e-2, 0.1);
}

/* The file's extents: two matrices an expert, no byte for a gate, and nothing in its place. */
static void test_layout(void **state)
{
	struct made f;

	make(&f, false, QUANT_Q8_0);
	assert_int_equal(f.model->layers[0].experts.n_parts, 0);
	for (int i = 1; i < LAYERS; i++) {
		const struct expert_layout *x = &f.model->layers[i].experts;

		assert_int_equal(x->n_parts, 2);
		assert_int_equal(x->bytes, FF_EXPERT * quant_row_bytes(QUANT_Q8_0, EMBD) +
						   EMBD * quant_row_bytes(QUANT_Q8_0, FF_EXPERT));
		assert_int_equal(x->matrix[EXPERT_GATE].n_out, 0);
		assert_int_equal(x->matrix[EXPERT_UP].part, 0);
		assert_int_equal(x->matrix[EXPERT_DOWN].part, 1);
		assert_int_equal(f.model->layers[i].w[ROLE_SHARED_GATE].n_runs, 0);
		assert_int_equal(f.model->layers[i].w[ROLE_SHARED_UP].n_runs, 1);
	}
	unmake(&f);
	memset(&f, 0, sizeof(f)); /* the row asks for a gate that the file has not */
	write_file(&f, false, QUANT_F32);
	{
		struct err err = { 0 };

		assert_int_equal(read_model(&f, &rows[1], &err), -EINVAL);
		assert_non_null(strstr(err.text, "ffn_gate.weight is missing"));
	}
	unmake(&f);
}

static void same_bits(bool gated)
{
	static const struct {
		double share;
		unsigned threads, cut, nodes;
		uint32_t depth, latency_us;
	} ways[] = {
		{ 0, 1, TOKENS, 1, 1, 0 }, { 0.5, 3, 7, 1, 4, 0 },    { 1, 2, 1, 1, 4, 0 },
		{ 0, 2, 13, 2, 4, 0 },	   { 1, 3, TOKENS, 3, 2, 0 }, { 0.5, 2, TOKENS, 1, 7, 300 },
	};
	static float first[TOKENS * VOCAB], other[TOKENS * VOCAB];
	uint32_t tokens[TOKENS];
	struct made f;

	make(&f, gated, QUANT_Q8_0);
	some_tokens(tokens);
	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		struct decoder_rig d = { .model = f.model,
					 .disk = &f.disk,
					 .ops = cpu_ops_best(),
					 .share = ways[i].share,
					 .threads = ways[i].threads,
					 .depth = ways[i].depth,
					 .split = { .n = ways[i].nodes } };

		for (unsigned k = 0; k < ways[i].nodes; k++) {
			d.split.node[k] = -1;
			d.split.share[k] = NODES_SHARE / ways[i].nodes;
		}
		atomic_store(&f.disk.latency_us, ways[i].latency_us);
		decoder_open(&d);
		decoder_sequence(&d, tokens, TOKENS, ways[i].cut, i ? other : first);
		decoder_close(&d);
		if (i)
			assert_memory_equal(first, other, sizeof(first));
	}
	unmake(&f);
}

static void test_same_bits(void **state)
{
	same_bits(false);
	same_bits(true);
}

/* Every expert in turn cannot be read: tokens that need it fail, the others have their bits. */
static void test_failed_expert(void **state)
{
	static float good[TOKENS * VOCAB], bad[TOKENS * VOCAB];
	struct decoder_rig d = { .share = 0, .ops = cpu_ops_best() };
	const struct expert_part *part;
	uint32_t tokens[TOKENS], n_failed = 0;
	int errors[DECODER_TOKENS];
	struct made f;

	make(&f, false, QUANT_F32);
	some_tokens(tokens);
	d.model = f.model;
	d.disk = &f.disk;
	decoder_open(&d);
	decoder_sequence(&d, tokens, TOKENS, TOKENS, good);
	part = &f.model->layers[LAYERS - 1].experts.part[1];
	for (uint32_t e = 0; e < EXPERTS; e++) {
		struct decoder_part p = { seq_get(d.pool), tokens, TOKENS, bad };
		uint32_t failed = 0;

		/* in the middle of it: reads are widened to what is beside them */
		atomic_store(&f.disk.bad_from, part->offset + e * part->bytes + part->bytes / 2);
		atomic_store(&f.disk.bad_to, part->offset + e * part->bytes + part->bytes / 2 + 1);
		atomic_store(&f.disk.bad_times, UINT32_MAX);
		assert_int_equal(decoder_run(&d, &p, 1, errors), 0);
		atomic_store(&f.disk.bad_times, 0);
		seq_put(d.pool, p.seq);
		for (uint32_t t = 0; t < TOKENS; t++) {
			failed += errors[t] != 0;
			if (errors[t])
				assert_int_equal(errors[t], -EIO);
			else
				assert_memory_equal(good + t * VOCAB, bad + t * VOCAB,
						    VOCAB * sizeof(*good));
		}
		n_failed += failed;
		assert_true(failed < TOKENS);
	}
	assert_int_equal(n_failed, TOKENS * USED); /* each token by each expert that it uses */
	decoder_sequence(&d, tokens, TOKENS, TOKENS, bad);
	assert_memory_equal(good, bad, sizeof(good));
	decoder_close(&d);
	unmake(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),	      cmocka_unit_test(test_gateless),
		cmocka_unit_test(test_gated),	      cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_failed_expert),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
