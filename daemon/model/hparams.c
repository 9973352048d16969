/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/hparams.c: hyper-parameters from the keys of a file, checked against each other.
 *
 * Every count is bounded before anything is sized by it; what the arithmetic cannot do (a router
 * function without a number here, rope scaling other than linear and YaRN, KV heads that differ
 * between layers where the family does not say so) is refused by name rather than computed
 * wrongly. The kinds of layers are in schedule.c. Called while a model is opened, by its thread.
 * Keys: docs/models.md 2.0.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model/arch/arch.h"
#include "model/model_impl.h"

char *build_key(const struct build *b, char buf[BUILD_KEY_BYTES], const char *suffix)
{
	snprintf(buf, BUILD_KEY_BYTES, "%s.%s", b->arch->name, suffix);
	return buf;
}

int build_bad_key(const struct build *b, const char *suffix, const char *fmt, ...)
{
	char reason[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	return err_set(b->err, -EINVAL, "%s: key %s.%s: %s", gguf_label(b->g, 0), b->arch->name,
		       suffix, reason);
}

/* A key that may be missing: @ret then keeps what it has. */
int build_optional_u32(struct build *b, const char *suffix, uint32_t min, uint32_t max,
		       uint32_t *ret)
{
	char key[BUILD_KEY_BYTES];
	uint64_t v = 0;
	int rc = gguf_u64(b->g, build_key(b, key, suffix), &v, b->err);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	if (v < min || v > max)
		return build_bad_key(b, suffix, "%llu is not between %u and %u",
				     (unsigned long long)v, min, max);
	*ret = (uint32_t)v;
	return 0;
}

int build_need_u32(struct build *b, const char *suffix, uint32_t min, uint32_t max, uint32_t *ret)
{
	char key[BUILD_KEY_BYTES];

	if (!gguf_has(b->g, build_key(b, key, suffix)))
		return build_bad_key(b, suffix, "it is missing");
	return build_optional_u32(b, suffix, min, max, ret);
}

/* A positive number; a missing key leaves @ret alone. */
int build_optional_f32(struct build *b, const char *suffix, float *ret)
{
	char key[BUILD_KEY_BYTES];
	float v = 0;
	int rc = gguf_f32(b->g, build_key(b, key, suffix), &v, b->err);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	if (!(v > 0))
		return build_bad_key(b, suffix, "%g is not greater than 0", (double)v);
	*ret = v;
	return 0;
}

int build_optional_bool(struct build *b, const char *suffix, bool *ret)
{
	char key[BUILD_KEY_BYTES];
	int rc = gguf_bool(b->g, build_key(b, key, suffix), ret, b->err);

	return rc == -ENOENT ? 0 : rc;
}

/* The width of the dense layers, where there are any. */
static int read_dense_width(struct build *b)
{
	bool moe = arch_has(b->arch, ROLE_ROUTER);
	int rc = 0;

	if (moe)
		rc = build_optional_u32(b, "leading_dense_block_count", 0, b->m->n_layers - 1,
					&b->n_dense_lead);
	if (rc || (moe && !b->n_dense_lead))
		return rc;
	if (!arch_has(b->arch, ROLE_FFN_UP))
		return build_bad_key(b, "leading_dense_block_count",
				     "%s has no dense layers before those with experts",
				     b->arch->name);
	return build_need_u32(b, "feed_forward_length", 1, MODEL_MAX_DIM, &b->m->n_ff);
}

static int read_sizes(struct build *b)
{
	struct model *m = b->m;
	uint32_t n_mtp = 0;
	int rc;

	rc = build_need_u32(b, "block_count", 1, MODEL_MAX_LAYERS, &b->n_blocks);
	if (!rc)
		rc = build_optional_u32(b, "nextn_predict_layers", 0, MODEL_MAX_LAYERS, &n_mtp);
	if (rc)
		return rc;
	if (n_mtp >= b->n_blocks)
		return build_bad_key(b, "nextn_predict_layers",
				     "%u prediction blocks leave no main layer of %u", n_mtp,
				     b->n_blocks);
	m->n_layers = b->n_blocks - n_mtp;
	rc = build_need_u32(b, "embedding_length", 1, MODEL_MAX_DIM, &m->n_embd);
	if (!rc)
		rc = build_need_u32(b, "context_length", 1, INT32_MAX, &m->n_ctx_train);
	if (!rc)
		rc = read_dense_width(b);
	m->rms_eps = 0;
	if (!rc)
		rc = build_optional_f32(b, "attention.layer_norm_rms_epsilon", &m->rms_eps);
	if (!rc && !(m->rms_eps > 0 && m->rms_eps < 1))
		rc = build_bad_key(b, "attention.layer_norm_rms_epsilon",
				   "it is missing or not between 0 and 1");
	return rc;
}

static int read_heads(struct build *b)
{
	struct attention_spec *a = &b->m->attention;
	uint32_t n_embd = b->m->n_embd;
	int rc;

	a->gated = b->arch->gated;
	a->qk_norm = b->arch->qk_norm;
	rc = build_head_count(b, "attention.head_count", &a->n_head);
	a->n_head_kv = a->n_head;
	if (!rc)
		rc = build_head_count(b, "attention.head_count_kv", &a->n_head_kv);
	if (rc)
		return rc;
	if (!a->n_head)
		return build_bad_key(b, "attention.head_count", "it is missing");
	if (a->n_head % a->n_head_kv)
		return build_bad_key(b, "attention.head_count_kv", "%u does not divide %u heads",
				     a->n_head_kv, a->n_head);
	a->head_dim = n_embd % a->n_head ? 0 : n_embd / a->n_head;
	rc = build_optional_u32(b, "attention.key_length", 1, MODEL_MAX_HEADDIM, &a->head_dim);
	if (rc)
		return rc;
	if (a->head_dim == 0 || a->head_dim > MODEL_MAX_HEADDIM)
		return build_bad_key(b, "attention.key_length",
				     "it is missing and %u / %u heads is no head size", n_embd,
				     a->n_head);
	a->value_dim = a->head_dim;
	rc = build_optional_u32(b, "attention.value_length", 1, MODEL_MAX_HEADDIM, &a->value_dim);
	if (!rc && a->gated && a->value_dim != a->head_dim)
		rc = build_bad_key(b, "attention.value_length",
				   "%u differs from the key length %u, but values have a gate of "
				   "that length",
				   a->value_dim, a->head_dim);
	a->scale = 1.0f / sqrtf((float)a->head_dim);
	return rc ? rc : build_optional_f32(b, "attention.scale", &a->scale);
}

static bool is_text(struct gguf_str s, const char *text)
{
	return s.len == strlen(text) && !memcmp(s.data, text, s.len);
}

/* YaRN: positions beyond the first training's are interpolated, the fast pairs are left alone. */
static int read_yarn(struct build *b, struct rope_spec *r)
{
	float factor = 0, attn_factor = 1;
	int rc = build_optional_f32(b, "rope.scaling.factor", &factor);

	if (!rc && factor < 1)
		rc = build_bad_key(b, "rope.scaling.factor",
				   "YaRN needs a factor of at least 1 (%g)", (double)factor);
	r->yarn_context = b->m->n_ctx_train;
	if (!rc)
		rc = build_optional_u32(b, "rope.scaling.original_context_length", 1, INT32_MAX,
					&r->yarn_context);
	r->yarn_fast = 32;
	r->yarn_slow = 1;
	r->yarn_exact = b->arch->yarn_exact;
	if (!rc)
		rc = build_optional_f32(b, "rope.scaling.yarn_beta_fast", &r->yarn_fast);
	if (!rc)
		rc = build_optional_f32(b, "rope.scaling.yarn_beta_slow", &r->yarn_slow);
	if (!rc)
		rc = build_optional_f32(b, "rope.scaling.attn_factor", &attn_factor);
	if (!rc)
		rc = build_optional_f32(b, "rope.scaling.yarn_attn_factor", &attn_factor);
	r->yarn_factor = factor;
	r->yarn_magnitude = attn_factor * (0.1f * logf(factor) + 1.0f);
	return rc;
}

/* A file that names no type but has a factor means linear. */
static int read_rope_scaling(struct build *b, struct rope_spec *r)
{
	struct gguf_str type = { "linear", 6 };
	char key[BUILD_KEY_BYTES];
	float factor = 1, attn_factor = 1;
	int rc = gguf_str(b->g, build_key(b, key, "rope.scaling.type"), &type, b->err);

	if (rc && rc != -ENOENT)
		return rc;
	r->scale = 1;
	if (is_text(type, "none") || is_text(type, "default"))
		return 0;
	if (is_text(type, "yarn"))
		return read_yarn(b, r);
	if (!is_text(type, "linear"))
		return build_bad_key(b, "rope.scaling.type",
				     "rope scaling \"%.*s\" is not supported (linear and yarn are)",
				     (int)(type.len < 32 ? type.len : 32), type.data);
	rc = build_optional_f32(b, "rope.scaling.factor", &factor);
	if (!rc)
		rc = build_optional_f32(b, "rope.scaling.attn_factor", &attn_factor);
	if (!rc && attn_factor != 1)
		rc = build_bad_key(b, "rope.scaling.attn_factor", "%g is not supported (1 is)",
				   (double)attn_factor);
	r->scale = 1 / factor;
	return rc;
}

/*
 * Text has one position for all sections, so they say nothing about the arithmetic; they must
 * still be what they claim, and not more than the rotated pairs.
 */
static int check_rope_sections(struct build *b, const char *suffix)
{
	char key[BUILD_KEY_BYTES];
	enum gguf_type type;
	int64_t section = 0, sum = 0;
	uint64_t n = 0;
	int rc = gguf_array(b->g, build_key(b, key, suffix), &type, &n, b->err);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	if (n < 1 || n > 4)
		return build_bad_key(b, suffix, "%llu sections, 1 to 4 are possible",
				     (unsigned long long)n);
	for (uint64_t i = 0; i < n; i++) {
		if (type == GGUF_BOOL || gguf_array_i64(b->g, key, i, &section))
			return build_bad_key(b, suffix, "an array of integers is expected");
		if (section < 0 || section > b->m->attention.rope.n_rot / 2)
			return build_bad_key(b, suffix, "section %lld of %u pairs",
					     (long long)section, b->m->attention.rope.n_rot / 2);
		sum += section;
	}
	if (sum > b->m->attention.rope.n_rot / 2)
		return build_bad_key(b, suffix, "its sum %lld is more than the %u rotated pairs",
				     (long long)sum, b->m->attention.rope.n_rot / 2);
	return 0;
}

static int read_rope(struct build *b)
{
	struct attention_spec *a = &b->m->attention;
	int rc;

	a->rope = (struct rope_spec){ .kind = b->arch->rope, .n_rot = a->head_dim, .base = 10000 };
	rc = build_optional_u32(b, "rope.dimension_count", 2, MODEL_MAX_HEADDIM, &a->rope.n_rot);
	if (rc)
		return rc;
	if (a->rope.n_rot % 2 || a->rope.n_rot > a->head_dim)
		return build_bad_key(b, "rope.dimension_count",
				     "%u is odd or more than the head's %u", a->rope.n_rot,
				     a->head_dim);
	rc = build_optional_f32(b, "rope.freq_base", &a->rope.base);
	if (!rc)
		rc = read_rope_scaling(b, &a->rope);
	if (!rc)
		rc = check_rope_sections(b, "rope.dimension_sections");
	if (!rc)
		rc = check_rope_sections(b, "rope.mrope_section");
	if (!rc)
		rc = check_rope_sections(b, "mrope_sections");
	return rc;
}

static int read_deltanet(struct build *b)
{
	struct model *m = b->m;
	uint32_t inner = 0;
	int rc;

	rc = build_need_u32(b, "ssm.conv_kernel", 2, MODEL_MAX_CONV, &m->ssm_conv_kernel);
	if (!rc)
		rc = build_need_u32(b, "ssm.state_size", 1, MODEL_MAX_HEADDIM, &m->ssm_head_dim);
	if (!rc)
		rc = build_need_u32(b, "ssm.group_count", 1, MODEL_MAX_HEADS, &m->ssm_k_heads);
	if (!rc)
		rc = build_need_u32(b, "ssm.time_step_rank", 1, MODEL_MAX_HEADS, &m->ssm_v_heads);
	if (!rc)
		rc = build_need_u32(b, "ssm.inner_size", 1, MODEL_MAX_DIM, &inner);
	if (rc)
		return rc;
	if (m->ssm_v_heads % m->ssm_k_heads)
		return build_bad_key(b, "ssm.time_step_rank",
				     "%u value heads are no multiple of %u key heads",
				     m->ssm_v_heads, m->ssm_k_heads);
	if (inner != (uint64_t)m->ssm_v_heads * m->ssm_head_dim)
		return build_bad_key(b, "ssm.inner_size", "%u is not %u value heads of %u", inner,
				     m->ssm_v_heads, m->ssm_head_dim);
	m->ssm_v_tiled = b->arch->v_tiled;
	return build_optional_bool(b, "ssm.v_head_reordered", &m->ssm_v_tiled);
}

/* Groups of neighbouring experts, of which a token uses some. */
static int read_groups(struct build *b)
{
	struct router_spec *r = &b->m->router;
	uint32_t n_expert = b->m->n_expert, groups = 1, used = 1;
	int rc = build_optional_u32(b, "expert_group_count", 0, n_expert, &groups);

	if (!rc)
		rc = build_optional_u32(b, "expert_group_used_count", 0, n_expert, &used);
	r->n_groups = r->n_groups_used = 1;
	if (rc || groups <= 1)
		return rc;
	if (n_expert % groups || n_expert / groups < 2)
		return build_bad_key(b, "expert_group_count",
				     "%u experts do not make %u groups of at least two", n_expert,
				     groups);
	if (used < 1 || used > groups)
		return build_bad_key(b, "expert_group_used_count", "%u of %u groups", used, groups);
	if (b->m->n_expert_used > used * (n_expert / groups))
		return build_bad_key(b, "expert_group_used_count",
				     "%u groups hold fewer than the %u experts of a token", used,
				     b->m->n_expert_used);
	r->n_groups = groups;
	r->n_groups_used = used;
	return 0;
}

/* The width of the shared experts: a key of its own, or a number of experts' widths. */
static int read_shared(struct build *b)
{
	struct model *m = b->m;
	uint32_t count = 1;
	int rc = build_optional_u32(b, "expert_shared_count", 1, MODEL_MAX_EXPERTS, &count);

	if (rc)
		return rc;
	if ((uint64_t)count * m->n_ff_expert > MODEL_MAX_DIM)
		return build_bad_key(b, "expert_shared_count", "%u shared experts of %u", count,
				     m->n_ff_expert);
	m->n_ff_shared = count * m->n_ff_expert;
	return build_optional_u32(b, "expert_shared_feed_forward_length", 1, MODEL_MAX_DIM,
				  &m->n_ff_shared);
}

/* What the router does where it differs from the family's usual way. */
static int read_router(struct build *b)
{
	struct router_spec *r = &b->m->router;
	uint32_t gating;
	char key[BUILD_KEY_BYTES];
	float scale = 0;
	int rc;

	*r = b->arch->router;
	gating = r->gating;
	rc = build_optional_u32(b, "expert_gating_func", 0, UINT32_MAX, &gating);
	if (!rc && gating >= GATING_NR)
		rc = build_bad_key(b, "expert_gating_func",
				   "router function %u is not supported (1 softmax, 2 sigmoid and "
				   "3 softmax over the chosen are)",
				   gating);
	if (!rc && gating) /* writers put 0 for none */
		r->gating = gating;
	if (!rc)
		rc = read_groups(b);
	if (!rc)
		rc = build_optional_bool(b, "norm_top_k_prob", &r->renorm); /* Ollama's name */
	if (!rc)
		rc = build_optional_bool(b, "expert_weights_norm", &r->renorm);
	if (rc)
		return rc;
	rc = gguf_f32(b->g, build_key(b, key, "expert_weights_scale"), &scale, b->err);
	if (rc && rc != -ENOENT)
		return rc;
	if (scale < 0)
		return build_bad_key(b, "expert_weights_scale", "%g is negative", (double)scale);
	if (scale > 0) /* writers put 0 for none */
		r->scale = scale;
	return 0;
}

static int read_experts(struct build *b)
{
	struct model *m = b->m;
	int rc;

	if (!arch_has(b->arch, ROLE_ROUTER)) {
		uint32_t none = 0;

		rc = build_optional_u32(b, "expert_count", 0, UINT32_MAX, &none);
		if (!rc && none)
			rc = build_bad_key(b, "expert_count", "%u experts in a dense architecture",
					   none);
		return rc;
	}
	rc = build_need_u32(b, "expert_count", 1, MODEL_MAX_EXPERTS, &m->n_expert);
	if (!rc)
		rc = build_need_u32(b, "expert_used_count", 1, m->n_expert, &m->n_expert_used);
	if (!rc)
		rc = build_need_u32(b, "expert_feed_forward_length", 1, MODEL_MAX_DIM,
				    &m->n_ff_expert);
	if (rc)
		return rc;
	if (arch_has(b->arch, ROLE_SHARED_UP))
		rc = read_shared(b);
	return rc ? rc : read_router(b);
}

int build_hparams(struct build *b)
{
	int rc = read_sizes(b);

	b->m->embd_scale = 1;
	b->m->activation = b->arch->activation;
	if (!rc)
		rc = read_heads(b);
	if (!rc)
		rc = read_rope(b);
	if (!rc && arch_has(b->arch, ROLE_SSM_OUT))
		rc = read_deltanet(b);
	if (!rc)
		rc = read_experts(b);
	if (!rc && b->arch->hparams)
		rc = b->arch->hparams(b);
	return rc;
}
