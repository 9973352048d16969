/* SPDX-License-Identifier: MIT */
/* Description: what a row of logits says: those that are no numbers are counted, log-probabilities, the likeliest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>

#include "engine/logprobs.h"

enum { MAX_VOCAB = 600 };

/* Logits of the probabilities 0.4 0.3 0.2 0.1, not in order. */
static const float four[4] = { -1.60943791f, -0.91629073f, -2.30258509f, -1.20397280f };

/* Each kind of broken logit at each place of a vector and of the rest behind it is counted. */
static void test_broken(void **unused)
{
	static const float kinds[] = { NAN, -NAN, INFINITY, -INFINITY };
	float logits[11];

	for (uint32_t n = 0; n <= 11; n++) {
		for (uint32_t i = 0; i < 11; i++)
			logits[i] = i % 2 ? -FLT_MAX : FLT_TRUE_MIN;
		assert_int_equal(logits_broken(logits, n), 0);
		for (uint32_t i = 0; i < n; i++) {
			logits[i] = kinds[i % 4];
			assert_int_equal(logits_broken(logits, n), i + 1);
		}
	}
}

static void test_log_softmax(void **unused)
{
	float logits[MAX_VOCAB];
	double sum = 0;

	for (unsigned i = 0; i < MAX_VOCAB; i++)
		logits[i] = 30 * sinf((float)i) + 500;
	for (unsigned i = 0; i < MAX_VOCAB; i++)
		sum += exp((double)logits[i] - 500);
	for (unsigned n = 0; n < MAX_VOCAB; n += 97)
		assert_true(fabs(log_softmax_at(logits, MAX_VOCAB, n) -
				 ((double)logits[n] - 500 - log(sum))) < 1e-6);
	assert_true(fabs(log_softmax_at(four, 3, 1) - log(4.0 / 7)) < 1e-6);
	assert_true(log_softmax_at(four, 1, 0) == 0);
	logits[3] = -INFINITY;
	assert_true(log_softmax_at(logits, MAX_VOCAB, 3) == -INFINITY);
	logits[3] = NAN;
	assert_true(isnan(log_softmax_at(logits, MAX_VOCAB, 5)));
}

static void likeliest(void **state)
{
	static const float logits[6] = { 0, 2, 1, 2, -1, -INFINITY };
	struct token_logprobs l;
	double sum = log(1 + 2 * exp(2) + exp(1) + exp(-1));

	logits_logprobs(logits, 6, 4, 3, &l);
	assert_true(fabs((double)l.logprob - (-1 - sum)) < 1e-5);
	assert_int_equal(l.n, 3);
	assert_int_equal(l.rank, 5);
	assert_int_equal(l.ids[0], 1);
	assert_int_equal(l.ids[1], 3);
	assert_int_equal(l.ids[2], 2);
	assert_true(fabs((double)l.logprobs[2] - (1 - sum)) < 1e-5);
	logits_logprobs(logits, 6, 3, 0, &l);
	assert_int_equal(l.n, 0);
	assert_int_equal(l.rank, 1); /* equal ones share it */
	logits_logprobs(logits, 6, 1, LOGPROBS_MAX, &l);
	assert_int_equal(l.n, 6);
	assert_int_equal(l.ids[5], 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_log_softmax),
		cmocka_unit_test(likeliest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
