/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/policy.c: the table of policies and the spelling "name[:FILE]".
 */
#include "policy/policy.h"

#include <errno.h>
#include <string.h>

#include "policy/policies.h"

const struct policy_ops *const policy_table[] = {
	&policy_lfu, &policy_lru, &policy_static, &policy_belady, NULL,
};

static const char *const wanted[] = {
	[POLICY_WANTS_LIST] = "a file with a list of experts",
	[POLICY_WANTS_USES] = "a recorded trace",
};

int policy_find(const char *spec, const struct policy_ops **ret_ops, const char **ret_arg,
		struct err *err)
{
	const char *colon = strchr(spec, ':');
	size_t len = colon ? (size_t)(colon - spec) : strlen(spec);

	for (const struct policy_ops *const *ops = policy_table; *ops; ops++) {
		if (strlen((*ops)->name) != len || memcmp((*ops)->name, spec, len) != 0)
			continue;
		if ((*ops)->wants == POLICY_WANTS_NOTHING && colon)
			return err_set(err, -EINVAL, "policy %s takes no argument, not '%s'",
				       (*ops)->name, colon + 1);
		if ((*ops)->wants != POLICY_WANTS_NOTHING && (!colon || !colon[1]))
			return err_set(err, -EINVAL, "policy %s needs %s: %s:FILE", (*ops)->name,
				       wanted[(*ops)->wants], (*ops)->name);
		*ret_ops = *ops;
		*ret_arg = colon ? colon + 1 : NULL;
		return 0;
	}
	return err_set(err, -EINVAL,
		       "no policy is called '%s': there are lfu, lru, static:FILE and belady:FILE",
		       spec);
}
