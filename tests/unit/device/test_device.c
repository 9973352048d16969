/* SPDX-License-Identifier: MIT */
/*
 * Description: names of devices, which models a device can compute, and that a build without kernels says
 * so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "device/device.h"
#include "device/device_private.h"

static void test_names(void **state)
{
	static const char *const good[] = { "none", "cuda", "cuda:0", "cuda:63" };
	static const char *const bad[] = {
		"",	   "cud", "cuda:", "cuda:x",  "cuda:64",
		"cuda:1x", "gpu", "None",  "cuda:-1", "cuda:99999999999999999999"
	};
	struct err err = { { 0 } };

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(device_check_name(good[i], &err), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		err_clear(&err);
		assert_int_equal(device_check_name(bad[i], &err), -EINVAL);
		assert_non_null(strstr(err.text, "no device"));
	}
	assert_true(device_is_none(NULL) && device_is_none("none") && !device_is_none("cuda"));
}

static int supports(const char *path, struct err *err)
{
	struct model *m = NULL;
	int rc;

	err_clear(err);
	assert_int_equal(model_open(path, &m, err), 0);
	rc = device_supports(m, err);
	model_destroy(m);
	return rc;
}

static void test_models(void **state)
{
	static const char *const not_here[] = { "tests/data/gpt-oss/gpt-oss-mxfp4.gguf",
						"tests/data/gemma4/gemma4-q4_k_m.gguf",
						"tests/data/deepseek2/deepseek2-q4_k_m.gguf" };
	struct err err;

	assert_int_equal(supports("models/demo-moe-q4_k_m.gguf", &err), 0);
	assert_int_equal(supports("tests/data/dense/dense-q4_k_m.gguf", &err), 0);
	assert_int_equal(supports("tests/data/qwen3moe/qwen3moe-q2_k.gguf", &err), 0);
	for (size_t i = 0; i < ARRAY_LEN(not_here); i++) {
		assert_int_equal(supports(not_here[i], &err), -ENOTSUP);
		assert_non_null(strstr(err.text, "device"));
	}
}

/* Each thing that is refused, one at a time. */
static void test_sizes(void **state)
{
	struct model *m = NULL;
	struct err err = { { 0 } };
	struct layer *l;

	assert_int_equal(model_open("tests/data/qwen3moe/qwen3moe-q2_k.gguf", &m, &err), 0);
	l = &m->layers[0];
#define REFUSED(field, value)                                         \
	do {                                                          \
		const __typeof__(field) kept = field;                 \
                                                                      \
		field = value;                                        \
		err_clear(&err);                                      \
		assert_int_equal(device_supports(m, &err), -ENOTSUP); \
		assert_true(err.text[0] != 0);                        \
		field = kept;                                         \
	} while (0)
	REFUSED(m->n_embd, 48);
	REFUSED(m->n_embd, 16416);
	REFUSED(m->n_expert, 2048);
	REFUSED(m->n_expert_used, 33);
	REFUSED(m->logit_softcap, 30.0f);
	REFUSED(m->activation, ACTIVATION_CLAMPED);
	REFUSED(m->router.n_groups, 4);
	REFUSED(l->attention.head_dim, 96);
	REFUSED(l->attention.window, 128);
	REFUSED(l->attention.rope.yarn_factor, 4.0f);
	REFUSED(l->attention.rope.kind, ROPE_PAIRS);
	REFUSED(l->w[ROLE_ROUTER].type, 1);
	REFUSED(l->blocks[0].open, true);
	assert_int_equal(device_supports(m, &err), 0);
	model_destroy(m);
}

static int count_take(void *ctx, struct err *err)
{
	return 0;
}

static int count_map(void *ctx, uint32_t at, struct err *err)
{
	return 0;
}

/* A state has its layers' windows of convolutions with it, so places that nobody has take no memory for either. */
static void test_states(void **state)
{
	struct model *m = NULL;
	struct device_config c = {
		.name = "cuda", .n_seq = 1, .n_ctx = 512, .max_tokens = 16, .max_logits = 16
	};
	struct device_plan one, many;
	size_t window, bytes;
	uint64_t sum = 0;

	assert_int_equal(model_open("models/demo-moe-q4_k_m.gguf", &m, NULL), 0);
	c.model = m;
	for (uint32_t i = 0; i < m->n_layers; i++) {
		bytes = device_state_bytes(&c, i, &window);
		if (bytes)
			assert_true(window >= 3u * (2 * m->ssm_k_heads + m->ssm_v_heads) *
						      m->ssm_head_dim * sizeof(float));
		assert_int_equal(bytes - window, bytes ? (size_t)m->ssm_v_heads * m->ssm_head_dim *
								 m->ssm_head_dim * sizeof(float)
						       : 0);
		sum += bytes;
	}
	assert_int_equal(device_plan_make(&c, 64 << 20, &one, NULL), 0);
	c.n_seq = 64;
	assert_int_equal(device_plan_make(&c, 64 << 20, &many, NULL), 0);
	assert_true(sum && one.one_state == sum && many.one_state == sum);
	/* its blocks, and one more where it lies across them */
	assert_in_range(one.state_bytes, sum, sum + one.block_bytes);
	assert_in_range(many.state_bytes, sum, sum + 2 * many.block_bytes);
	device_plan_fini(&one);
	device_plan_fini(&many);
	model_destroy(m);
}

/* Whoever is alone takes nothing from slots: whichever place it has, and whatever blocks its state lies across. */
static void test_alone(void **state)
{
	static const struct blocks_ops ops = { .take = count_take,
					       .map = count_map,
					       .unmap = count_map };
	struct model *m = NULL;
	struct device_config c = {
		.name = "cuda", .n_seq = 5, .n_ctx = 512, .max_tokens = 16, .max_logits = 16
	};
	unsigned across = 0;

	assert_int_equal(model_open("models/demo-moe-q4_k_m.gguf", &m, NULL), 0);
	c.model = m;
	for (c.block_least = 4096; c.block_least <= 1 << 20; c.block_least *= 2) {
		struct device_plan p;
		struct blocks b;

		assert_int_equal(device_plan_make(&c, 64 << 20, &p, NULL), 0);
		assert_true(p.block_bytes >= c.block_least && p.one_state);
		assert_int_equal(device_blocks_init(&c, &p, &ops, NULL, &b), 0);
		blocks_limit(&b, p.kept_blocks + 1); /* as good as no slots */
		while (blocks_grow(&b, 0) != BLOCKS_NONE)
			;
		assert_int_equal(blocks_of_slots(&b), 1);
		for (uint32_t seq = 0; seq < c.n_seq; seq++) {
			assert_int_equal(blocks_hold(&b, DEVICE_REGION_STATES, seq, NULL), 0);
			across += blocks_room(&b) <
				  p.kept_blocks - div_ceil(p.one_state, p.block_bytes);
			for (uint32_t i = 0; i < p.n_pages; i++)
				assert_int_equal(blocks_hold(&b, DEVICE_REGION_PAGES, i, NULL), 0);
			for (uint32_t i = 0; i < p.n_pages; i++)
				blocks_let(&b, DEVICE_REGION_PAGES, i, 1);
			blocks_let(&b, DEVICE_REGION_STATES, seq, 1);
		}
		blocks_fini(&b);
		device_plan_fini(&p);
	}
	assert_true(across); /* else nothing was tried */
	model_destroy(m);
}

static void test_without_kernels(void **state)
{
	const struct device_config c = { .name = "cuda" };
	struct device *d = NULL;
	struct err err = { { 0 } };

	assert_int_equal(device_open(&c, &d, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "without CUDA"));
	assert_null(d);
	device_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names), cmocka_unit_test(test_models),
		cmocka_unit_test(test_sizes), cmocka_unit_test(test_states),
		cmocka_unit_test(test_alone), cmocka_unit_test(test_without_kernels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
