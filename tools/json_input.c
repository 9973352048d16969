/* SPDX-License-Identifier: MIT */
/* tools/json_input.c: see json_input.h. */
#include "tools/json_input.h"

#include <errno.h>
#include <stdint.h>

#define DEPTH 1000 /* of arrays and objects within each other */

int input_json_object(const char *text, size_t n, struct json_object **ret, struct err *err)
{
	struct json_object *o;
	const char *why;
	size_t at;
	int rc;

	if (n >= INT32_MAX)
		return err_set(err, -ENOMEM, "out of memory");
	rc = jsonc_parse(text, n, DEPTH, &o, &at, &why);
	if (rc)
		return err_set(err, rc, "no valid JSON: %s, near byte %zu", why, at);
	if (json_object_is_type(o, json_type_object)) {
		*ret = o;
		return 0;
	}
	json_object_put(o);
	return err_set(err, -EINVAL, "no JSON object");
}
