/* SPDX-License-Identifier: MIT */
/*
 * Description: every supported format dequantises to the fixture's values bit for bit on every
 * level, formats that are refused are known by name, and halves convert exactly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/cpu.h"
#include "kernels/quant.h"
#include "tests/unit/data.h"

#define ROWS	64
#define COLUMNS 256

static const uint32_t supported[] = { QUANT_Q4_0,    QUANT_Q4_1,    QUANT_Q5_0,	  QUANT_Q5_1,
				      QUANT_Q8_0,    QUANT_Q2_K,    QUANT_Q3_K,	  QUANT_Q4_K,
				      QUANT_Q5_K,    QUANT_Q6_K,    QUANT_IQ4_NL, QUANT_IQ4_XS,
				      QUANT_MXFP4,   QUANT_IQ2_XXS, QUANT_IQ2_XS, QUANT_IQ2_S,
				      QUANT_IQ3_XXS, QUANT_IQ3_S,   QUANT_IQ1_S,  QUANT_IQ1_M,
				      QUANT_TQ1_0,   QUANT_TQ2_0 };

/* The whole fixture file. */
static void *load(const char *name, const char *ending, size_t *ret_bytes)
{
	char below[64], path[DATA_PATH];
	void *data;
	long n;
	FILE *f;

	snprintf(below, sizeof(below), "quants/%s%s", name, ending);
	f = fopen(fixture(below, path), "rb");
	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	data = malloc((size_t)n);
	assert_int_equal(fread(data, 1, (size_t)n, f), n);
	fclose(f);
	*ret_bytes = (size_t)n;
	return data;
}

static void test_fixture_values(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_LEN(supported); k++) {
		const char *name = quant_name(supported[k]);
		size_t row = quant_row_bytes(supported[k], COLUMNS), n_blocks, n_floats;
		uint8_t *blocks = load(name, ".blocks", &n_blocks);
		float *want = load(name, ".f32", &n_floats), got[COLUMNS];

		assert_int_equal(n_blocks, ROWS * row);
		assert_int_equal(n_floats, ROWS * COLUMNS * sizeof(float));
		for (int level = 0; level < CPU_LEVEL_NR; level++) {
			const struct cpu_ops *ops = cpu_ops_get((enum cpu_level)level);

			for (int r = 0; r < ROWS && ops; r++) {
				ops->dequantize(supported[k], blocks + r * row, got, COLUMNS);
				if (memcmp(got, want + r * COLUMNS, sizeof(got)))
					fail_msg("%s on %s: row %d differs", name, ops->name, r);
			}
		}
		free(blocks);
		free(want);
	}
}

static void test_unknown_formats(void **state)
{
	(void)state;
	assert_null(quant_format(4)); /* removed from ggml */
	assert_null(quant_format(1000));
	assert_string_equal(quant_name(1000), "unknown");
	assert_int_equal(quant_row_bytes(QUANT_Q4_K, 255), 0);
}

/* Known, refused, and in no fixture: type ids 9, 15, 24..28 and 40..42. */
static void test_other_names(void **state)
{
	static const struct {
		uint32_t id;
		const char *name;
		uint64_t bytes; /* of 256 weights */
	} others[] = {
		{ 9, "Q8_1", 288 },  { 15, "Q8_K", 292 }, { 24, "I8", 256 },   { 25, "I16", 512 },
		{ 26, "I32", 1024 }, { 27, "I64", 2048 }, { 28, "F64", 2048 }, { 40, "NVFP4", 144 },
		{ 41, "Q1_0", 36 },  { 42, "Q2_0", 72 },
	};

	(void)state;
	for (size_t k = 0; k < ARRAY_LEN(others); k++) {
		assert_string_equal(quant_name(others[k].id), others[k].name);
		assert_int_equal(quant_format(others[k].id)->act, ACT_NONE);
		assert_int_equal(quant_row_bytes(others[k].id, COLUMNS), others[k].bytes);
	}
	for (size_t k = 0; k < ARRAY_LEN(supported); k++)
		assert_int_not_equal(quant_format(supported[k])->act, ACT_NONE);
}

/* All 65536 halves: out and back is the same; the float is what arithmetic says. */
static void test_halves(void **state)
{
	(void)state;
	for (uint32_t h = 0; h < 65536; h++) {
		float f = f32_from_f16((uint16_t)h);
		int exponent = (int)(h >> 10) & 31, mantissa = (int)h & 1023;
		double want = exponent ? ldexp(1024 + mantissa, exponent - 25)
				       : ldexp(mantissa, -24);

		if (exponent == 31) {
			assert_true(mantissa ? isnan(f) : isinf(f));
		} else {
			assert_true((double)f == (h & 0x8000 ? -want : want));
			assert_int_equal(f16_from_f32(f), h);
		}
	}
	/* halfway cases go to even, overflow to infinity */
	assert_int_equal(f16_from_f32(1.0f + 0x1p-11f), 0x3c00);
	assert_int_equal(f16_from_f32(1.0f + 3 * 0x1p-11f), 0x3c02);
	assert_int_equal(f16_from_f32(65519.0f), 0x7bff);
	assert_int_equal(f16_from_f32(65520.0f), 0x7c00);
	assert_int_equal(f16_from_f32(0x1p-25f), 0);
	assert_int_equal(f16_from_f32(0x1.8p-25f), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixture_values),
		cmocka_unit_test(test_unknown_formats),
		cmocka_unit_test(test_other_names),
		cmocka_unit_test(test_halves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
