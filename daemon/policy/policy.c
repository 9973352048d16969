/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/policy.c: the table of policies and the spelling "name[:argument]".
 */
#include "policy/policy.h"

#include <errno.h>
#include <string.h>

#include "policy/policies.h"

const struct policy_ops *const policy_table[] = {
	&policy_lfu, &policy_lru, &policy_static, &policy_belady, NULL,
};

int policy_create(const char *spec, const struct policy_geometry *geometry,
		  const struct policy_ops **ret_ops, struct policy **ret, struct err *err)
{
	const char *colon = strchr(spec, ':');
	size_t len = colon ? (size_t)(colon - spec) : strlen(spec);
	int rc;

	for (const struct policy_ops *const *ops = policy_table; *ops; ops++) {
		if (strlen((*ops)->name) != len || memcmp((*ops)->name, spec, len) != 0)
			continue;
		rc = (*ops)->create(geometry, colon ? colon + 1 : NULL, ret, err);
		if (rc == -ENOMEM)
			return err_set(err, rc, "policy %s: out of memory", (*ops)->name);
		if (!rc)
			*ret_ops = *ops;
		return rc;
	}
	return err_set(err, -EINVAL,
		       "no policy is called '%s': there are lfu, lru, static:FILE and belady:FILE",
		       spec);
}
