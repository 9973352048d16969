/* SPDX-License-Identifier: MIT */
/* base/jsonc.c: see jsonc.h. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/jsonc.h"

typedef struct json_object *hold_fn(struct json_object *o);

struct json_object *jsonc_hold(struct json_object *o)
{
	static _Atomic(uintptr_t) found;
	uintptr_t hold = atomic_load_explicit(&found, memory_order_relaxed);

	if (!hold) {
		hold = (uintptr_t)dlvsym(RTLD_DEFAULT, "json_object_get", "JSONC_0.14");
		if (!hold) { /* another json-c than those that we know: nothing can be right then */
			fputs("this libjson-c has no json_object_get of version JSONC_0.14\n",
			      stderr);
			abort();
		}
		atomic_store_explicit(&found, hold, memory_order_relaxed);
	}
	return ((hold_fn *)hold)(o);
}

struct json_object *jsonc_member(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (json_object_is_type(o, json_type_object))
		json_object_object_get_ex(o, key, &v);
	return v;
}
