/* SPDX-License-Identifier: MIT */
/* Description: the ranking against a plain search over all experts, through random changes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/num.h"
#include "policy/ranking.h"

#define LAYERS	6
#define EXPERTS 16
#define N	(LAYERS * EXPERTS)

static const uint32_t class_of_layer[LAYERS] = { 0, 1, 0, 1, 1, 2 };
static const uint32_t class_slots[3] = { 32, 48, 16 };
static const struct policy_geometry geometry = {
	.n_layers = LAYERS,
	.n_expert = EXPERTS,
	.n_expert_used = 2,
	.n_classes = 3,
	.class_of_layer = class_of_layer,
	.class_slots = class_slots,
};

struct shadow {
	double worth[N];
	bool resident[N], blocked[N];
	enum ranking_ties ties;
};

static uint32_t random_below(uint64_t *state, uint32_t n)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 33) % n;
}

static uint32_t tie_of(const struct shadow *s, uint32_t id)
{
	return s->ties == TIES_SPREAD ? id % EXPERTS * LAYERS + id / EXPERTS : id;
}

static bool less(const struct shadow *s, uint32_t a, uint32_t b)
{
	return s->worth[a] != s->worth[b] ? s->worth[a] < s->worth[b] : tie_of(s, a) > tie_of(s, b);
}

/* The least allowed resident of the class, or the greatest absent one; @all: blocked ones too. */
static uint32_t search(const struct shadow *s, uint32_t cls, bool resident, bool all)
{
	uint32_t best = POLICY_NONE;

	for (uint32_t id = 0; id < N; id++) {
		if (class_of_layer[id / EXPERTS] != cls || s->resident[id] != resident ||
		    (!all && s->blocked[id]))
			continue;
		if (best == POLICY_NONE || (resident ? less(s, id, best) : less(s, best, id)))
			best = id;
	}
	return best;
}

static bool allowed(void *ctx, uint32_t id)
{
	return !((struct shadow *)ctx)->blocked[id];
}

static void run(enum ranking_ties ties)
{
	struct shadow s = { .ties = ties };
	uint64_t state = 12345 + ties;
	struct ranking *r;

	assert_int_equal(ranking_create(&geometry, ties, &r, NULL), 0);
	assert_int_equal(ranking_size(r), N);
	for (int i = 0; i < 20000; i++) {
		uint32_t id = random_below(&state, N);

		switch (random_below(&state, 4)) {
		case 0:
			s.worth[id] = random_below(&state, 8); /* few values: many ties */
			ranking_set(r, id, s.worth[id]);
			break;
		case 1:
			s.resident[id] = random_below(&state, 2);
			ranking_place(r, id, s.resident[id]);
			break;
		case 2:
			s.blocked[id] = random_below(&state, 2);
			break;
		default:
			if (random_below(&state, 200))
				break;
			ranking_scale(r, 0.5);
			for (uint32_t k = 0; k < N; k++)
				s.worth[k] *= 0.5;
		}
		assert_true(ranking_resident(r, id) == s.resident[id]);
		assert_true(ranking_worth(r, id) == s.worth[id]);
		for (uint32_t c = 0; c < 3; c++) {
			assert_int_equal(ranking_least(r, c, allowed, &s),
					 search(&s, c, true, false));
			assert_int_equal(ranking_best_absent(r, c), search(&s, c, false, true));
			assert_int_equal(ranking_best(r, c, allowed, &s),
					 search(&s, c, false, false));
		}
	}
	ranking_destroy(r);
}

static void test_by_layer(void **state)
{
	run(TIES_BY_LAYER);
}

static void test_spread(void **state)
{
	run(TIES_SPREAD);
}

/* Scaling may make different worths equal: the order by rank must then hold. */
static void test_underflow(void **state)
{
	struct shadow s = { .ties = TIES_BY_LAYER };
	struct ranking *r;

	assert_int_equal(ranking_create(&geometry, TIES_BY_LAYER, &r, NULL), 0);
	for (uint32_t id = 0; id < N; id++) {
		ranking_set(r, id, (double)(N - id) * 0x1p-1000);
		ranking_place(r, id, true);
		s.resident[id] = true;
	}
	ranking_scale(r, 0x1p-1000);
	for (uint32_t id = 0; id < N; id++) {
		uint32_t least = ranking_least(r, class_of_layer[id / EXPERTS], allowed, &s);

		assert_int_equal(least, search(&s, class_of_layer[id / EXPERTS], true, false));
		ranking_place(r, least, false);
		s.resident[least] = false;
	}
	ranking_destroy(r);
}

static void test_refused(void **state)
{
	struct policy_geometry g = geometry;
	static const uint32_t bad_class[LAYERS] = { 0, 1, 0, 3, 1, 2 };
	struct ranking *r;
	struct err err = { 0 };

	g.n_expert = 0;
	assert_int_equal(ranking_create(&g, TIES_SPREAD, &r, NULL), -EINVAL);
	g.n_expert = UINT32_MAX / 2;
	assert_int_equal(ranking_create(&g, TIES_SPREAD, &r, NULL), -EINVAL);
	g = geometry;
	g.class_of_layer = bad_class;
	assert_int_equal(ranking_create(&g, TIES_SPREAD, &r, &err), -EINVAL);
	assert_string_equal(err.text, "policy: layer 3 is of class 3 of 3");
}

/* The ids of a layer without experts are neither victims nor filled, whatever they are worth. */
static void test_no_class(void **state)
{
	static const uint32_t dense_lead[LAYERS] = { POLICY_NO_CLASS, 1, 0, 1, 1, 2 };
	struct shadow s = { .ties = TIES_BY_LAYER };
	struct policy_geometry g = geometry;
	struct ranking *r;

	g.class_of_layer = dense_lead;
	assert_int_equal(ranking_create(&g, TIES_BY_LAYER, &r, NULL), 0);
	for (uint32_t id = 0; id < EXPERTS; id++)
		ranking_set(r, id, 100 + id);
	for (uint32_t c = 0, id; c < 3; c++) {
		while ((id = ranking_best_absent(r, c)) != POLICY_NONE) {
			assert_true(id >= EXPERTS);
			ranking_place(r, id, true);
			s.resident[id] = true;
		}
	}
	for (uint32_t id = EXPERTS; id < N; id++)
		assert_true(s.resident[id]);
	ranking_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_layer),  cmocka_unit_test(test_spread),
		cmocka_unit_test(test_underflow), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_no_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
