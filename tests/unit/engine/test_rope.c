/* SPDX-License-Identifier: MIT */
/*
 * Description: rotary frequencies, YaRN's against the values that the reference implementation of
 * gpt-oss gives with the ends of the ramp as they are and rounded; angles, tables and pairs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "engine/rope.h"

enum { PAIRS = 32 };

/* theta 150000, factor 32, first training 4096, beta 32 and 1: computed by transformers in float */
static const double yarn[2][PAIRS] = {
	{
		1.0,
		0.6890442967414856,
		0.4747820496559143,
		0.32714587450027466,
		0.22541800141334534,
		0.15532298386096954,
		0.1070244237780571,
		0.07374456524848938,
		0.05081327259540558,
		0.031705696135759354,
		0.019334999844431877,
		0.011592049151659012,
		0.006794959306716919,
		0.0038603590801358223,
		0.002093792660161853,
		0.00105260219424963,
		0.0004564839182421565,
		0.00012931869423482567,
		3.830881178146228e-05,
		2.6396468456368893e-05,
		1.818833698052913e-05,
		1.253256959898863e-05,
		8.635495760245249e-06,
		5.95023948335438e-06,
		4.099978468730114e-06,
		2.8250667583051836e-06,
		1.9465962850517826e-06,
		1.3412909538601525e-06,
		9.242089618055616e-07,
		6.368209142237902e-07,
		4.38797854940276e-07,
		3.023511396804679e-07,
	},
	{
		1.0,
		0.6890442967414856,
		0.4747820496559143,
		0.32714587450027466,
		0.22541800141334534,
		0.15532298386096954,
		0.1070244237780571,
		0.07374456524848938,
		0.05081327259540558,
		0.031620752066373825,
		0.019450966268777847,
		0.011792191304266453,
		0.007015713956207037,
		0.0040695546194911,
		0.002277272054925561,
		0.0012061309535056353,
		0.0005809474969282746,
		0.0002279478358104825,
		3.830881178146228e-05,
		2.6396468456368893e-05,
		1.818833698052913e-05,
		1.253256959898863e-05,
		8.635495760245249e-06,
		5.95023948335438e-06,
		4.099978468730114e-06,
		2.8250667583051836e-06,
		1.9465962850517826e-06,
		1.3412909538601525e-06,
		9.242089618055616e-07,
		6.368209142237902e-07,
		4.38797854940276e-07,
		3.023511396804679e-07,
	},
};

static struct rope_spec published(bool exact)
{
	return (struct rope_spec){ .n_rot = 2 * PAIRS,
				   .base = 150000,
				   .scale = 1,
				   .yarn_factor = 32,
				   .yarn_context = 4096,
				   .yarn_fast = 32,
				   .yarn_slow = 1,
				   .yarn_exact = exact,
				   .yarn_magnitude = 0.1f * logf(32) + 1 };
}

static void test_yarn(void **unused)
{
	for (unsigned rounded = 0; rounded < 2; rounded++) {
		const struct rope_spec s = published(!rounded);
		float cosine[PAIRS], sine[PAIRS];
		double frequency[PAIRS];

		rope_frequencies(&s, frequency);
		for (unsigned j = 0; j < PAIRS; j++)
			assert_true(fabs(frequency[j] / yarn[rounded][j] - 1) < 2e-5);
		rope_angles(&s, frequency, NULL, 1000, cosine, sine);
		for (unsigned j = 0; j < PAIRS; j++) {
			double magnitude = 1.3465735902799727;

			assert_true(fabs(cosine[j] - magnitude * cos(1000 * frequency[j])) < 1e-6);
			assert_true(fabs(sine[j] - magnitude * sin(1000 * frequency[j])) < 1e-6);
		}
	}
}

static void test_plain(void **unused)
{
	const struct rope_spec s = { .n_rot = 8, .base = 10000, .scale = 0.25f };
	const float table[4] = { 1, 2, 1, 1e30f };
	float cosine[4], sine[4];
	double frequency[4];

	rope_frequencies(&s, frequency);
	for (unsigned j = 0; j < 4; j++)
		assert_true(fabs(frequency[j] - 0.25 * pow(10, -(double)j)) < 1e-12);
	rope_angles(&s, frequency, table, 7, cosine, sine);
	for (unsigned j = 0; j < 4; j++) {
		assert_true(cosine[j] == (float)cos(7 * frequency[j] / (double)table[j]));
		assert_true(sine[j] == (float)sin(7 * frequency[j] / (double)table[j]));
	}
}

static void test_pairs(void **unused)
{
	float x[6] = { 1, 2, 3, 4, 5, 6 };
	const float cosine[2] = { 0.5f, -1 }, sine[2] = { 0.25f, 2 };

	rope_pairs(x, cosine, sine, 2);
	assert_true(x[0] == 0.0f && x[1] == 1.25f && x[2] == -11 && x[3] == 2);
	assert_true(x[4] == 5 && x[5] == 6); /* not rotated */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_yarn),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_pairs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
