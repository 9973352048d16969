/* SPDX-License-Identifier: MIT */
/* tools/json_input.c: see json_input.h. */
#include "tools/json_input.h"

#include <errno.h>
#include <stdint.h>

#define DEPTH 1000 /* of arrays and objects within each other */

int input_json_object(const char *text, size_t n, struct json_object **ret, struct err *err)
{
	struct json_tokener *t = json_tokener_new_ex(DEPTH);
	struct json_object *o;
	enum json_tokener_error e;
	size_t at;

	if (!t || n >= INT32_MAX) {
		if (t)
			json_tokener_free(t);
		return err_set(err, -ENOMEM, "out of memory");
	}
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(t, text, (int)n + 1);
	e = json_tokener_get_error(t);
	at = json_tokener_get_parse_end(t);
	json_tokener_free(t);
	if (json_object_is_type(o, json_type_object)) {
		*ret = o;
		return 0;
	}
	json_object_put(o);
	if (e == json_tokener_success)
		return err_set(err, -EINVAL, "no JSON object");
	return err_set(err, -EINVAL, "no valid JSON: %s, near byte %zu", json_tokener_error_desc(e),
		       at);
}
