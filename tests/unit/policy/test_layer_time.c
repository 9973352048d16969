/* SPDX-License-Identifier: MIT */
/*
 * Description: the model of a layer's time with a device: the numbers of the reference box, what is free, who
 * bounds it; fills are stopped where they do not pay, tried again, and go on where they do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/fill_control.h"

/* A layer of a model of 397B parameters: 10 experts of 7.62 MB, an EPYC 7532 and a 4090 on PCIe 4. */
#define EXPERT 7.62e6
static const struct layer_rates box = {
	.fixed_ns = 160e3, .cpu = 120e9, .memory = 150e9, .link = 25e9, .device = 900e9
};

static double us(double hit, double fills)
{
	const struct layer_load l = { hit * 10 * EXPERT, (1 - hit) * 10 * EXPERT, fills * EXPERT };

	return layer_time_ns(&box, &l) / 1e3;
}

static void test_box(void **state)
{
	assert_true(us(0.43, 0) > 515 && us(0.43, 0) < 525); /* 145 + 15 + 362 */
	assert_true(layer_free_fills(&box) > 0.5 * EXPERT &&
		    layer_free_fills(&box) < 0.55 * EXPERT);
	assert_true(us(0.43, 0.5) == us(0.43, 0)); /* half an expert a layer is free */
	assert_true(us(0.43, 3) > us(0.43, 0));
	assert_true(us(0.43, 40) > 160 + 39 * EXPERT / 25e9 * 1e6); /* the link bounds it */
	assert_true(us(1, 0) > 160 + 84 && us(1, 0) < 160 + 86);    /* the device does */
	for (double h = 0; h < 0.85; h += 0.01)
		assert_true(us(h + 0.01, 0) < us(h, 0));
}

static void test_unknown(void **state)
{
	const struct layer_rates none = { 0 }, cpu = { .cpu = 1e9 };
	const struct layer_load l = { 1e6, 1e6, 1e6 };

	assert_true(layer_time_ns(&none, &l) == 0 && layer_free_fills(&none) == 0);
	assert_true(layer_time_ns(&cpu, &l) == 1e6);
}

/* ---- fills that pay, and not ---- */

static bool inside[8];

static bool resident(void *ctx, uint32_t id)
{
	return inside[id];
}

static void test_link(void **state)
{
	assert_true(layer_link_left(0, 0, 5e9, 0) == 0); /* nothing is known */
	assert_true(layer_link_left(20e9, 0, 0, 0) == 20e9);
	assert_true(layer_link_left(0, 25e9, 0, 0) == 25e9);
	/* what goes over it is our own */
	assert_true(layer_link_left(20e9, 25e9, 6e9, 6e9) == 20e9);
	assert_true(layer_link_left(20e9, 25e9, 6e9, 7e9) == 20e9);
	/* others fit beside what was measured, then no more, then they have it all */
	assert_true(layer_link_left(20e9, 25e9, 10e9, 6e9) == 20e9);
	assert_true(layer_link_left(20e9, 25e9, 16e9, 6e9) == 15e9);
	assert_true(layer_link_left(20e9, 25e9, 40e9, 6e9) == 2e9);
	/* without a capacity it is what was measured */
	assert_true(layer_link_left(20e9, 0, 10e9, 6e9) == 16e9);
}

/* @n tokens that each use expert @id, one layer; @fill bytes come before each. Returns tokens with fills on. */
static uint32_t decode(struct fill_control *c, uint32_t n, uint32_t id, uint64_t fill,
		       const struct layer_rates *r)
{
	uint32_t on = 0;

	for (uint32_t i = 0; i < n; i++) {
		on += fill_control_step(c, 1, 1, c->on ? fill : 0, r, resident, NULL);
		fill_control_used(c, id, EXPERT, inside[id]);
	}
	return on;
}

static void test_pays(void **state)
{
	struct fill_control c;

	memset(inside, 0, sizeof(inside));
	assert_int_equal(fill_control_init(&c, 8), 0);
	decode(&c, 8, 1, 1000, &box);
	inside[1] = true; /* it came: from here on all are hits that were none */
	assert_int_equal(decode(&c, 400, 1, 0, &box), 400);
	assert_true(c.judged && c.gain > 0.2 && !c.stops);
	fill_control_fini(&c);
}

static void test_stops(void **state)
{
	struct fill_control c;

	memset(inside, 0, sizeof(inside));
	assert_int_equal(fill_control_init(&c, 8), 0);
	/* what comes is never used: off after a window, on for one after 256, 512 ... 4096 tokens */
	assert_int_equal(decode(&c, FILL_WINDOW + 1 + 255, 1, 1000, &box), FILL_WINDOW);
	assert_false(c.on);
	assert_int_equal(c.stops, 1);
	assert_true(c.gain < FILL_GAIN);
	decode(&c, FILL_WINDOW + 2, 1, 1000, &box);
	assert_int_equal(c.stops, 2);
	assert_in_range(decode(&c, 100000, 1, 1000, &box), 20 * FILL_WINDOW, 28 * FILL_WINDOW);
	/* nobody fills: nothing to stop */
	fill_control_prompt(&c);
	assert_int_equal(decode(&c, 500, 1, 0, &box), 500);
	/* prompts are not judged, their end is a trial */
	decode(&c, 2 * FILL_WINDOW + 2, 1, 1000, &box);
	assert_false(c.on);
	assert_false(fill_control_step(&c, 100, 1, 0, &box, resident, NULL));
	fill_control_prompt(&c);
	assert_true(fill_control_step(&c, 1, 1, 0, &box, resident, NULL));
	fill_control_fini(&c);
}

/* More hits, and yet a longer layer: the link is busy for longer than the misses saved. */
static void test_costs(void **state)
{
	const struct layer_rates slow = { .fixed_ns = 1e4, .cpu = 120e9, .link = 1e9 };
	struct fill_control c;

	memset(inside, 0, sizeof(inside));
	assert_int_equal(fill_control_init(&c, 8), 0);
	decode(&c, 30, 1, 20 * 1000 * 1000, &slow);
	inside[1] = true;
	decode(&c, FILL_WINDOW - 28, 1, 20 * 1000 * 1000, &slow);
	assert_true(c.judged && c.gain < 0 && !c.on);
	fill_control_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_box),   cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_pays),  cmocka_unit_test(test_stops),
		cmocka_unit_test(test_costs), cmocka_unit_test(test_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
