/* SPDX-License-Identifier: MIT */
/* Description: sluice heat: the map of experts, its width, counts that make no sense. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/heat.h"

static const char *drawn(const struct heat *h, unsigned columns)
{
	static char text[4096];
	FILE *out = fmemopen(text, sizeof(text), "w");

	heat_draw(h, columns, out);
	fclose(out);
	return text;
}

static int parse(const char *text, struct heat *h)
{
	struct err err = { 0 };
	int rc = heat_parse(text, strlen(text), h, &err);

	assert_true(!rc || err.text[0]);
	return rc;
}

static void a_map(void **state)
{
	struct heat h;
	const char *text;

	assert_int_equal(
		parse("{\"n_expert\":4,\"n_expert_used\":2,\"layers\":[{\"layer\":1,\"uses\":[0,1,50,100]},"
		      "{\"layer\":2,\"uses\":[0,0,0,0]}]}",
		      &h),
		0);
	assert_float_equal(heat_top_share(&h, &h.layers[0]), 100.0 / 151, 1e-9);
	text = drawn(&h, 80);
	assert_string_equal(text, "layer          uses top 10% 4 experts, 2 used at a time\n"
				  "    1           151  66.2 %  .=@\n"
				  "    2             0   0.0 %     \n");
	heat_done(&h);
}

static void every_width(void **state)
{
	static char json[8192];
	struct heat h;
	size_t n = (size_t)sprintf(
		json,
		"{\"n_expert\":512,\"n_expert_used\":10,\"layers\":[{\"layer\":93,\"uses\":[");

	for (unsigned i = 0; i < 512; i++)
		n += (size_t)sprintf(json + n, i ? ",%u" : "%u", i * 3000000);
	strcpy(json + n, "]}]}");
	assert_int_equal(parse(json, &h), 0);
	for (unsigned columns = 40; columns < 600; columns += 7) {
		const char *text = drawn(&h, columns), *line = text;

		for (const char *end; (end = strchr(line, '\n')); line = end + 1)
			assert_true((unsigned)(end - line) <= (columns < 80 ? 80 : columns));
		assert_true(strlen(strchr(text, '\n') + 1) - 1 <= columns);
		assert_true(text[strlen(text) - 2] == '@');
	}
	heat_done(&h);
}

static void hostile(void **state)
{
	static const char *const all[] = {
		"",
		"[]",
		"{}",
		"{\"n_expert\":-1,\"n_expert_used\":1,\"layers\":[]}",
		"{\"n_expert\":99999999,\"n_expert_used\":1,\"layers\":[]}",
		"{\"n_expert\":2,\"n_expert_used\":1,\"layers\":{}}",
		"{\"n_expert\":2,\"n_expert_used\":1,\"layers\":[7]}",
		"{\"n_expert\":2,\"n_expert_used\":1,\"layers\":[{\"layer\":0,\"uses\":[1]}]}",
		"{\"n_expert\":2,\"n_expert_used\":1,\"layers\":[{\"layer\":0,\"uses\":[1,-2]}]}",
		"{\"n_expert\":2,\"n_expert_used\":1,\"layers\":[{\"layer\":0,\"uses\":[1,\"2\"]}]}",
		"{\"n_expert\":0,\"n_expert_used\":0,\"layers\":[{\"layer\":0,\"uses\":[]}]}",
	};
	struct heat h;
	const char *text;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		assert_int_equal(parse(all[i], &h), -EINVAL);
	assert_int_equal(parse("{\"n_expert\":0,\"n_expert_used\":0,\"layers\":[]}", &h), 0);
	text = drawn(&h, 80);
	assert_string_equal(text, "this model has no experts\n");
	heat_done(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_map), cmocka_unit_test(every_width),
					    cmocka_unit_test(hostile) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
