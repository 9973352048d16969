/* SPDX-License-Identifier: MIT */
/* Description: XXH64: values that its authors and others published, pieces of every length, chains. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/hash.h"
#include "base/num.h"

static void test_published(void **state)
{
	static const struct {
		const char *text;
		uint64_t hash;
	} all[] = {
		{ "", 0xef46db3751d8e999u },
		{ "a", 0xd24ec4f1a98c6e5bu },
		{ "abc", 0x44bc2cf5ad770999u },
		{ "Nobody inspects the spammish repetition", 0xfbcea83c8a378bf1u },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		assert_int_equal(hash64(all[i].text, strlen(all[i].text), 0), all[i].hash);
}

/* Each byte and the length count, and so does the seed. */
static void test_every_byte(void **state)
{
	uint8_t data[100] = { 0 };

	for (size_t n = 0; n < sizeof(data); n++) {
		uint64_t h = hash64(data, n, 7);

		assert_int_not_equal(h, hash64(data, n + 1, 7));
		assert_int_not_equal(h, hash64(data, n, 8));
		for (size_t i = 0; i < n; i++) {
			data[i] ^= 0x10;
			assert_int_not_equal(hash64(data, n, 7), h);
			data[i] ^= 0x10;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_published),
		cmocka_unit_test(test_every_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
