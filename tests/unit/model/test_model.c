/* SPDX-License-Identifier: MIT */
/*
 * Description: models: fixtures give the right numbers, the published models' shapes (headers
 * written here, weights a hole) give the published sums, packed tensors become the right rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>

#include "model/model.h"
#include "tests/unit/data.h"
#include "tests/unit/model/gguf_build.h"

/* docs/models.md section 3; bytes at Q4_K_M, 0 where the document has none. */
struct published {
	const char *name, *arch;
	uint32_t layers, d, heads, kv, head_dim, experts, used, f, fs, hk, hv, vocab, rot;
	bool tied;
	double billions;
	uint64_t expert_bytes, routed_bytes;
};

static const struct published published[] = {
	{ "Qwen3.5-397B-A17B", "qwen35moe", 60, 4096, 32, 2, 256, 512, 10, 1024, 1024, 16, 64,
	  248320, 64, false, 396.346, 234042163200, 4571136000 },
	{ "Qwen3.5-122B-A10B", "qwen35moe", 48, 3072, 32, 2, 256, 256, 8, 1024, 1024, 16, 64,
	  248320, 64, false, 122.112, 70212648960, 2194145280 },
	{ "Qwen3.5-35B-A3B", "qwen35moe", 40, 2048, 16, 2, 256, 256, 8, 512, 512, 16, 32, 248320,
	  64, false, 34.661, 19503513600, 609484800 },
	{ "Qwen3.5-27B", "qwen35", 64, 5120, 24, 4, 256, 0, 0, 17408, 0, 16, 48, 248320, 64, false,
	  26.896, 0, 0 },
	{ "Qwen3.5-9B", "qwen35", 32, 4096, 16, 4, 256, 0, 0, 12288, 0, 16, 32, 248320, 64, false,
	  8.954, 0, 0 },
	{ "Qwen3.5-4B", "qwen35", 32, 2560, 16, 4, 256, 0, 0, 9216, 0, 16, 32, 248320, 64, true,
	  4.206, 0, 0 },
	{ "Qwen3.5-2B", "qwen35", 24, 2048, 8, 2, 256, 0, 0, 6144, 0, 16, 16, 248320, 64, true,
	  1.882, 0, 0 },
	{ "Qwen3.5-0.8B", "qwen35", 24, 1024, 8, 2, 256, 0, 0, 3584, 0, 16, 16, 248320, 64, true,
	  0.752, 0, 0 },
	{ "Qwen3-Next-80B-A3B", "qwen3next", 48, 2048, 16, 2, 256, 512, 10, 512, 512, 16, 32,
	  151936, 64, false, 79.674, 46808432640, 914227200 },
	{ "Qwen3-30B-A3B", "qwen3moe", 48, 2048, 32, 4, 128, 128, 8, 768, 0, 0, 0, 151936, 128,
	  false, 30.532, 17553162240, 1097072640 },
	{ "Qwen3-235B-A22B", "qwen3moe", 94, 4096, 64, 4, 128, 128, 8, 1536, 0, 0, 0, 151936, 128,
	  false, 235.094, 137292152832, 8580759552 },
};

struct form {
	uint32_t n_mtp;
	bool merged, fused, legacy, dt_short, kv_array, vision;
	bool mtp_unmarked; /* the prediction blocks lack their nextn tensors */
};

static void key(struct gguf_build *b, const struct published *p, const char *suffix, uint32_t v)
{
	char name[96];

	snprintf(name, sizeof(name), "%s.%s", p->arch, suffix);
	add_u32(b, name, v);
}

static void keyf(struct gguf_build *b, const struct published *p, const char *suffix, float v)
{
	char name[96];

	snprintf(name, sizeof(name), "%s.%s", p->arch, suffix);
	add_f32(b, name, v);
}

static void tensor(struct gguf_build *b, uint32_t layer, const char *suffix, uint32_t type,
		   uint64_t ne0, uint64_t ne1, uint64_t ne2)
{
	char name[96];

	snprintf(name, sizeof(name), "blk.%u.%s", layer, suffix);
	add_tensor(b, name, type, ne0, ne1, ne2);
}

static void add_keys(struct gguf_build *b, const struct published *p, const struct form *f)
{
	char name[96];

	add_text(b, "general.architecture", p->arch);
	add_text(b, "general.name", p->name);
	key(b, p, "block_count", p->layers + f->n_mtp);
	key(b, p, "context_length", 262144);
	key(b, p, "embedding_length", p->d);
	key(b, p, "attention.head_count", p->heads);
	key(b, p, "attention.key_length", p->head_dim);
	key(b, p, "attention.value_length", p->head_dim);
	key(b, p, "rope.dimension_count", p->rot);
	keyf(b, p, "rope.freq_base", 1e7f);
	keyf(b, p, "attention.layer_norm_rms_epsilon", 1e-6f);
	if (f->n_mtp)
		key(b, p, "nextn_predict_layers", f->n_mtp);
	snprintf(name, sizeof(name), "%s.attention.head_count_kv", p->arch);
	if (!f->kv_array)
		add_u32(b, name, p->kv);
	else
		add_array(b, name, GGUF_I32, p->layers);
	for (uint32_t i = 0; f->kv_array && i < p->layers; i++)
		put_u32(&b->keys, (i + 1) % 4 ? 0 : p->kv);
	if (p->hv) {
		key(b, p, "ssm.conv_kernel", 4);
		key(b, p, "ssm.state_size", 128);
		key(b, p, "ssm.group_count", p->hk);
		key(b, p, "ssm.time_step_rank", p->hv);
		key(b, p, "ssm.inner_size", p->hv * 128);
	}
	if (!p->experts) {
		key(b, p, "feed_forward_length", p->f);
		return;
	}
	key(b, p, "expert_count", p->experts);
	key(b, p, "expert_used_count", p->used);
	key(b, p, "expert_feed_forward_length", p->f);
	if (p->fs)
		key(b, p, "expert_shared_feed_forward_length", p->fs);
}

static void add_attention(struct gguf_build *b, const struct published *p, const struct form *f,
			  uint32_t i)
{
	uint64_t heads = (uint64_t)p->heads * p->head_dim, kv = (uint64_t)p->kv * p->head_dim;
	uint64_t q = p->hv ? 2 * heads : heads;

	if (f->fused) {
		tensor(b, i, "attn_qkv.weight", QUANT_Q4_K, p->d, q + 2 * kv, 1);
	} else {
		tensor(b, i, "attn_q.weight", QUANT_Q4_K, p->d, q, 1);
		tensor(b, i, "attn_k.weight", QUANT_Q4_K, p->d, kv, 1);
		tensor(b, i, "attn_v.weight", QUANT_Q6_K, p->d, kv, 1);
	}
	tensor(b, i, "attn_output.weight", QUANT_Q4_K, heads, p->d, 1);
	tensor(b, i, "attn_q_norm.weight", QUANT_F32, p->head_dim, 1, 1);
	tensor(b, i, "attn_k_norm.weight", QUANT_F32, p->head_dim, 1, 1);
}

static void add_deltanet(struct gguf_build *b, const struct published *p, const struct form *f,
			 uint32_t i)
{
	uint64_t v = (uint64_t)p->hv * 128, channels = v + 2 * (uint64_t)p->hk * 128;

	if (f->legacy) {
		tensor(b, i, "ssm_in.weight", QUANT_Q4_K, p->d, channels + v, 1);
	} else {
		tensor(b, i, "attn_qkv.weight", QUANT_Q5_K, p->d, channels, 1);
		tensor(b, i, "attn_gate.weight", QUANT_Q4_K, p->d, v, 1);
	}
	if (!strcmp(p->arch, "qwen3next")) {
		tensor(b, i, "ssm_ba.weight", QUANT_Q4_K, p->d, 2 * (uint64_t)p->hv, 1);
	} else {
		tensor(b, i, "ssm_alpha.weight", QUANT_Q4_K, p->d, p->hv, 1);
		tensor(b, i, "ssm_beta.weight", QUANT_Q4_K, p->d, p->hv, 1);
	}
	tensor(b, i, "ssm_conv1d.weight", QUANT_F32, 4, channels, 1);
	tensor(b, i, f->dt_short ? "ssm_dt" : "ssm_dt.bias", QUANT_F32, p->hv, 1, 1);
	tensor(b, i, "ssm_a", QUANT_F32, p->hv, 1, 1);
	tensor(b, i, "ssm_norm.weight", QUANT_F32, 128, 1, 1);
	tensor(b, i, "ssm_out.weight", QUANT_Q4_K, v, p->d, 1);
}

/* Which down matrices Q4_K_M keeps at six bits. */
static bool more_bits(uint32_t i, uint32_t n)
{
	return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static void add_ffn(struct gguf_build *b, const struct published *p, const struct form *f,
		    uint32_t i)
{
	uint32_t down = more_bits(i, p->layers) ? QUANT_Q6_K : QUANT_Q4_K;

	if (!p->experts) {
		tensor(b, i, "ffn_gate.weight", QUANT_Q4_K, p->d, p->f, 1);
		tensor(b, i, "ffn_up.weight", QUANT_Q4_K, p->d, p->f, 1);
		tensor(b, i, "ffn_down.weight", down, p->f, p->d, 1);
		return;
	}
	tensor(b, i, "ffn_gate_inp.weight", QUANT_F32, p->d, p->experts, 1);
	if (f->merged) {
		tensor(b, i, "ffn_gate_up_exps.weight", QUANT_Q4_K, p->d, 2 * p->f, p->experts);
	} else {
		tensor(b, i, "ffn_gate_exps.weight", QUANT_Q4_K, p->d, p->f, p->experts);
		tensor(b, i, "ffn_up_exps.weight", QUANT_Q4_K, p->d, p->f, p->experts);
	}
	tensor(b, i, "ffn_down_exps.weight", down, p->f, p->d, p->experts);
	if (!p->fs)
		return;
	tensor(b, i, "ffn_gate_inp_shexp.weight", QUANT_F32, p->d, 1, 1);
	tensor(b, i, "ffn_gate_shexp.weight", QUANT_Q4_K, p->d, p->fs, 1);
	tensor(b, i, "ffn_up_shexp.weight", QUANT_Q4_K, p->d, p->fs, 1);
	tensor(b, i, "ffn_down_shexp.weight", down, p->fs, p->d, 1);
}

static void build_model(struct gguf_build *b, const struct published *p, const struct form *f)
{
	add_keys(b, p, f);
	add_tensor(b, "token_embd.weight", p->tied ? QUANT_Q6_K : QUANT_Q4_K, p->d, p->vocab, 1);
	add_tensor(b, "output_norm.weight", QUANT_F32, p->d, 1, 1);
	if (!p->tied)
		add_tensor(b, "output.weight", QUANT_Q6_K, p->d, p->vocab, 1);
	if (f->vision)
		add_tensor(b, "v.blk.0.attn_qkv.weight", QUANT_F16, 64, 64, 1);
	for (uint32_t i = 0; i < p->layers + f->n_mtp; i++) {
		tensor(b, i, "attn_norm.weight", QUANT_F32, p->d, 1, 1);
		tensor(b, i, p->hv ? "post_attention_norm.weight" : "ffn_norm.weight", QUANT_F32,
		       p->d, 1, 1);
		if (p->hv && (i + 1) % 4 && i < p->layers)
			add_deltanet(b, p, f, i);
		else
			add_attention(b, p, f, i);
		add_ffn(b, p, f, i);
		if (i >= p->layers && !f->mtp_unmarked)
			tensor(b, i, "nextn.eh_proj.weight", QUANT_Q4_K, 2 * p->d, p->d, 1);
	}
	save(b);
}

static struct model *open_model(const char *path)
{
	struct model *m = NULL;
	struct err err = { 0 };

	if (model_open(path, &m, &err))
		fail_msg("%s", err.text);
	return m;
}

static void check_places(const struct model *m, const struct weight *w)
{
	uint64_t rows = 0;

	for (uint32_t i = 0; i < w->n_runs; i++) {
		const struct weight_run *r = &w->runs[i];

		rows += r->rows;
		assert_true(r->offset + r->rows * w->row_bytes <=
			    gguf_file(m->gguf, r->file)->bytes);
	}
	assert_int_equal(rows, w->n_out);
	assert_int_equal(w->row_bytes, quant_row_bytes(w->type, w->n_in));
}

static void check_published(const struct published *p, const struct form *f)
{
	struct gguf_build b = { 0 };
	struct model *m;

	build_model(&b, p, f);
	m = open_model(b.path);
	assert_string_equal(m->arch_name, p->arch);
	assert_string_equal(m->name, p->name);
	assert_int_equal(m->n_layers, p->layers);
	assert_int_equal(m->n_expert, p->experts);
	assert_int_equal(m->n_vocab, p->vocab);
	assert_int_equal(m->attention.rope.n_rot, p->rot);
	assert_true(fabs((double)m->n_params / 1e9 - p->billions) < 6e-4);
	assert_int_equal(m->expert_bytes_total, p->expert_bytes);
	assert_int_equal(m->routed_bytes_per_token, p->routed_bytes);
	assert_true(fabsf(m->attention.scale - 1 / sqrtf((float)p->head_dim)) < 1e-7f);
	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct layer *l = &m->layers[i];

		assert_int_equal(layer_has(l, BLOCK_DELTANET), p->hv && (i + 1) % 4);
		assert_int_equal(layer_has(l, BLOCK_ATTENTION), !p->hv || (i + 1) % 4 == 0);
		assert_int_equal(l->experts.n_parts, p->experts ? (f->merged ? 2 : 3) : 0);
		assert_int_equal(l->w[ROLE_SHARED_GATE].n_runs, p->fs ? 1 : 0);
		if (layer_has(l, BLOCK_ATTENTION)) {
			assert_int_equal(l->attention.gated, p->hv != 0);
			check_places(m, &l->w[ROLE_WV]);
		} else {
			check_places(m, &l->w[ROLE_SSM_QKV]);
			check_places(m, &l->w[ROLE_SSM_Z]);
			check_places(m, &l->w[ROLE_SSM_ALPHA]);
		}
	}
	model_destroy(m);
	build_fini(&b);
}

static void test_published(void **state)
{
	const struct form plain = { 0 }, mtp = { .n_mtp = 1, .vision = true };
	const struct form ollama = { .dt_short = true, .kv_array = true };

	for (unsigned i = 0; i < ARRAY_LEN(published); i++) {
		check_published(&published[i], &plain);
		check_published(&published[i], &mtp);
		if (published[i].hv)
			check_published(&published[i], &ollama);
	}
}

static void test_merged_and_fused(void **state)
{
	const struct form f = { .merged = true, .fused = true };
	const struct published *p = &published[2];
	const struct expert_layout *x;
	const struct layer *l;
	struct gguf_build b = { 0 };
	struct model *m;

	check_published(&published[9], &(struct form){ .merged = true });
	build_model(&b, p, &f);
	m = open_model(b.path);
	x = &m->layers[0].experts;
	assert_int_equal(x->n_parts, 2);
	assert_int_equal(x->matrix[EXPERT_GATE].part, 0);
	assert_int_equal(x->matrix[EXPERT_UP].part, 0);
	assert_int_equal(x->matrix[EXPERT_DOWN].part, 1);
	assert_int_equal(x->matrix[EXPERT_GATE].offset, 0);
	assert_int_equal(x->matrix[EXPERT_UP].offset, 589824);
	assert_int_equal(x->part[0].bytes, 2 * 589824);
	assert_int_equal(x->part[1].bytes, 860160);
	assert_int_equal(x->bytes, 2039808);
	l = &m->layers[3];
	assert_int_equal(l->w[ROLE_WQ].n_out, 2 * 16 * 256);
	assert_int_equal(l->w[ROLE_WK].runs[0].offset - l->w[ROLE_WQ].runs[0].offset,
			 2 * 16 * 256 * 1152);
	assert_int_equal(l->w[ROLE_WV].runs[0].offset - l->w[ROLE_WK].runs[0].offset,
			 2 * 256 * 1152);
	model_destroy(m);
	build_fini(&b);
}

/* qwen3next's packed tensors: rows of group g, in the order q | k | v | z and beta | alpha. */
static void test_packed_rows(void **state)
{
	const struct published *p = &published[8];
	const struct form f = { .legacy = true };
	uint64_t row = 2048 / 256 * 144, stride = (2 + 2 * 2) * 128;
	const struct gguf_tensor *in, *ba;
	struct gguf_build b = { 0 };
	const struct layer *l;
	struct model *m;

	build_model(&b, p, &f);
	m = open_model(b.path);
	assert_false(m->ssm_v_tiled);
	in = gguf_find(m->gguf, "blk.1.ssm_in.weight");
	ba = gguf_find(m->gguf, "blk.1.ssm_ba.weight");
	l = &m->layers[1];
	check_places(m, &l->w[ROLE_SSM_QKV]);
	check_places(m, &l->w[ROLE_SSM_Z]);
	check_places(m, &l->w[ROLE_SSM_BETA]);
	check_places(m, &l->w[ROLE_SSM_ALPHA]);
	assert_int_equal(l->w[ROLE_SSM_QKV].n_runs, 3 * 16);
	assert_int_equal(l->w[ROLE_SSM_QKV].n_out, 8192);
	for (unsigned g = 0; g < 16; g++) {
		uint64_t at = in->offset + g * stride * row;

		assert_int_equal(l->w[ROLE_SSM_QKV].runs[g].offset, at);
		assert_int_equal(l->w[ROLE_SSM_QKV].runs[g].rows, 128);
		assert_int_equal(l->w[ROLE_SSM_QKV].runs[16 + g].offset, at + 128 * row);
		assert_int_equal(l->w[ROLE_SSM_QKV].runs[32 + g].offset, at + 256 * row);
		assert_int_equal(l->w[ROLE_SSM_QKV].runs[32 + g].rows, 256);
		assert_int_equal(l->w[ROLE_SSM_Z].runs[g].offset, at + 512 * row);
		assert_int_equal(l->w[ROLE_SSM_BETA].runs[g].offset, ba->offset + g * 4 * row);
		assert_int_equal(l->w[ROLE_SSM_ALPHA].runs[g].offset,
				 ba->offset + (g * 4 + 2) * row);
	}
	model_destroy(m);
	build_fini(&b);
}

struct numbers {
	const char *name;
	uint32_t layers, experts, used;
	uint64_t dense, all_experts, routed;
	const char *schedule;
};

/* In tests/data */
static const struct numbers carried[] = {
	{ "moe/moe-q4_k_m.gguf", 4, 32, 4, 2508512, 15237120, 1904640, "rrrA" },
	{ "dense/dense-q4_k_m.gguf", 4, 0, 0, 2554592, 0, 0, "rrrA" },
	{ "qwen3moe/qwen3moe-q2_k.gguf", 3, 8, 2, 1043968, 1708032, 427008, "AAA" },
};

/* In SHARED alone */
static const struct numbers matrix[] = {
	{ "moe/moe-mtp-q4_k_m.gguf", 4, 32, 4, 2483168, 14696448, 1837056, "rrrA" },
	{ "dense/dense-f16.gguf", 4, 0, 0, 7937120, 0, 0, "rrrA" },
	{ "dense/split/dense-q4_k_m-00001-of-00003.gguf", 4, 0, 0, 2554592, 0, 0, "rrrA" },
	{ "qwen3moe/qwen3moe-f16.gguf", 3, 8, 2, 3310080, 9437184, 2359296, "AAA" },
	{ "qwen3moe/qwen3moe-q8_0.gguf", 3, 8, 2, 1774080, 5013504, 1253376, "AAA" },
	{ "qwen3moe/qwen3moe-q4_k_m.gguf", 3, 8, 2, 1212928, 2789376, 697344, "AAA" },
	{ "qwen3moe/qwen3moe-q3_k_m.gguf", 3, 8, 2, 1117184, 2236416, 559104, "AAA" },
	{ "qwen3moe/qwen3moe-q5_k_m.gguf", 3, 8, 2, 1303040, 3313664, 828416, "AAA" },
	{ "qwen3moe/qwen3moe-q6_k.gguf", 3, 8, 2, 1424896, 3870720, 967680, "AAA" },
	{ "qwen3moe/qwen3moe-iq4_xs.gguf", 3, 8, 2, 1190400, 2506752, 626688, "AAA" },
	{ "qwen3moe/qwen3moe-iq4_nl.gguf", 3, 8, 2, 1212928, 2654208, 663552, "AAA" },
	{ "qwen3moe/qwen3moe-q4_0.gguf", 3, 8, 2, 1188352, 2654208, 663552, "AAA" },
	{ "qwen3moe/qwen3moe-mxfp4.gguf", 3, 8, 2, 1774080, 2506752, 626688, "AAA" },
};

static void check_numbers(const struct numbers *all, size_t n)
{
	char path[DATA_PATH];

	for (size_t k = 0; k < n; k++) {
		struct model *m = open_model(fixture(all[k].name, path));

		assert_int_equal(m->n_layers, all[k].layers);
		assert_int_equal(m->n_expert, all[k].experts);
		assert_int_equal(m->n_expert_used, all[k].used);
		assert_int_equal(m->dense_bytes, all[k].dense);
		assert_int_equal(m->expert_bytes_total, all[k].all_experts);
		assert_int_equal(m->routed_bytes_per_token, all[k].routed);
		assert_int_equal(m->n_embd, 256);
		assert_int_equal(m->n_vocab, 2048);
		assert_int_equal(m->attention.head_dim, 64);
		for (uint32_t i = 0; i < m->n_layers; i++)
			assert_true(layer_has(&m->layers[i], all[k].schedule[i] == 'r'
								     ? BLOCK_DELTANET
								     : BLOCK_ATTENTION));
		check_places(m, &m->w[ROLE_OUTPUT]);
		model_destroy(m);
	}
}

static void test_fixtures(void **state)
{
	check_numbers(carried, ARRAY_LEN(carried));
}

static void test_fixture_matrix(void **state)
{
	check_numbers(matrix, ARRAY_LEN(matrix));
}

static void test_details(void **state)
{
	char path[DATA_PATH];
	struct model *m = open_model(fixture("moe/moe-q4_k_m.gguf", path));

	assert_true(m->rms_eps == 1e-6f);
	assert_true(m->attention.rope.base == 1e7f);
	assert_true(m->attention.rope.scale == 1 && m->attention.scale == 0.125f);
	assert_int_equal(m->attention.rope.n_rot, 16);
	assert_int_equal(m->n_ctx_train, 32768);
	assert_int_equal(m->ssm_k_heads, 2);
	assert_int_equal(m->ssm_v_heads, 4);
	assert_int_equal(m->ssm_head_dim, 128);
	assert_int_equal(m->ssm_conv_kernel, 4);
	assert_true(m->ssm_v_tiled && m->router.renorm);
	assert_true(m->router.scale == 1);
	assert_int_equal(m->layers[3].experts.matrix[EXPERT_DOWN].type, QUANT_Q6_K);
	assert_int_equal(m->layers[0].experts.matrix[EXPERT_DOWN].type, QUANT_Q4_K);
	assert_int_equal(m->layers[0].w[ROLE_SSM_CONV].n_in, 4);
	assert_int_equal(m->layers[0].w[ROLE_SSM_CONV].n_out, 1024);
	model_destroy(m);
	m = open_model(fixture("dense/dense-q4_k_m.gguf", path));
	assert_int_equal(m->w[ROLE_OUTPUT].runs[0].offset, m->w[ROLE_TOKEN_EMBD].runs[0].offset);
	assert_int_equal(m->layers[0].w[ROLE_ROUTER].n_runs, 0);
	model_destroy(m);
}

/* One more key: how it changes the model, or the words of its refusal. */
static void with_key(const struct published *p, const char *suffix, uint32_t type,
		     const void *value, size_t len, const char *words, struct model **ret)
{
	const struct form plain = { 0 };
	struct gguf_build b = { 0 };
	struct model *m = NULL;
	struct err err = { 0 };
	char name[96];
	int rc;

	snprintf(name, sizeof(name), "%s.%s", p->arch, suffix);
	add_key(&b, name, type, value, len);
	if (!strcmp(suffix, "rope.scaling.type")) {
		snprintf(name, sizeof(name), "%s.rope.scaling.factor", p->arch);
		add_f32(&b, name, 4);
	}
	build_model(&b, p, &plain);
	rc = model_open(b.path, &m, &err);
	if (words) {
		assert_int_equal(rc, -EINVAL);
		if (!strstr(err.text, words))
			fail_msg("\"%s\" lacks \"%s\"", err.text, words);
	} else if (rc) {
		fail_msg("%s", err.text);
	}
	build_fini(&b);
	if (ret)
		*ret = m;
	else
		model_destroy(m);
}

static void test_optional_keys(void **state)
{
	const struct published *p = &published[2], *next = &published[8];
	const char linear[] = "\6\0\0\0\0\0\0\0linear", yarn[] = "\4\0\0\0\0\0\0\0yarn";
	const char longrope[] = "\10\0\0\0\0\0\0\0longrope";
	const uint8_t no = 0, yes = 1;
	const uint32_t two = 2, three = 3, four = 4;
	const float f = 0.5f;
	struct model *m;

	with_key(p, "rope.scaling.type", GGUF_STRING, linear, 14, NULL, &m);
	assert_true(m->attention.rope.scale == 0.25f);
	model_destroy(m);
	with_key(p, "rope.scaling.type", GGUF_STRING, yarn, 12, NULL, &m);
	assert_true(m->attention.rope.scale == 1 && m->attention.rope.yarn_factor == 4);
	assert_true(m->attention.rope.yarn_fast == 32 && m->attention.rope.yarn_slow == 1);
	assert_int_equal(m->attention.rope.yarn_context, m->n_ctx_train);
	assert_true(fabsf(m->attention.rope.yarn_magnitude - (1 + 0.1f * logf(4))) < 1e-6f);
	model_destroy(m);
	with_key(p, "rope.scaling.type", GGUF_STRING, longrope, 16, "\"longrope\" is not supported",
		 NULL);
	with_key(p, "attention.scale", GGUF_F32, &f, 4, NULL, &m);
	assert_true(m->attention.scale == 0.5f);
	model_destroy(m);
	with_key(p, "ssm.v_head_reordered", GGUF_BOOL, &no, 1, NULL, &m);
	assert_false(m->ssm_v_tiled);
	model_destroy(m);
	with_key(next, "ssm.v_head_reordered", GGUF_BOOL, &yes, 1, NULL, &m);
	assert_true(m->ssm_v_tiled);
	model_destroy(m);
	with_key(p, "expert_weights_norm", GGUF_BOOL, &no, 1, NULL, &m);
	assert_false(m->router.renorm);
	model_destroy(m);
	with_key(p, "expert_weights_scale", GGUF_F32, &f, 4, NULL, &m);
	assert_true(m->router.scale == 0.5f);
	model_destroy(m);
	with_key(p, "expert_gating_func", GGUF_U32, &two, 4, NULL, &m);
	assert_int_equal(m->router.gating, GATING_SIGMOID);
	model_destroy(m);
	with_key(p, "expert_gating_func", GGUF_U32, &four, 4, "function 4 is not supported", NULL);
	with_key(p, "expert_group_count", GGUF_U32, &three, 4, "do not make 3 groups", NULL);
	with_key(p, "full_attention_interval", GGUF_U32, &two, 4, "blk.1.attn_", NULL);
	with_key(p, "vocab_size", GGUF_F32, &f, 4, "not an integer", NULL);
}

/* A count that would take main layers out of the model is refused, for every family. */
static void test_hidden_layers(void **state)
{
	const struct form unmarked = { .n_mtp = 2, .mtp_unmarked = true };

	for (unsigned i = 0; i < ARRAY_LEN(published); i++) {
		struct gguf_build b = { 0 };
		struct model *m = NULL;
		struct err err = { 0 };
		char words[64];

		build_model(&b, &published[i], &unmarked);
		assert_int_equal(model_open(b.path, &m, &err), -EINVAL);
		snprintf(words, sizeof(words), "%s.nextn_predict_layers: it takes block %u",
			 published[i].arch, published[i].layers);
		if (!strstr(err.text, words))
			fail_msg("\"%s\" lacks \"%s\"", err.text, words);
		build_fini(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixtures),	 cmocka_unit_test(test_fixture_matrix),
		cmocka_unit_test(test_details),		 cmocka_unit_test(test_published),
		cmocka_unit_test(test_merged_and_fused), cmocka_unit_test(test_packed_rows),
		cmocka_unit_test(test_optional_keys),	 cmocka_unit_test(test_hidden_layers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
