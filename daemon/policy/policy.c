/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/policy.c: the table of policies, the spelling "name[:FILE]", and the answers that all
 * policies give by their ranking.
 */
#include "policy/policy.h"

#include <errno.h>
#include <string.h>

#include "policy/policies.h"

const struct policy_ops *const policy_table[] = {
	&policy_lfu,	&policy_plain,	&policy_lru,	&policy_vram,
	&policy_random, &policy_static, &policy_belady, NULL,
};

static const char *const wanted[] = {
	[POLICY_WANTS_LIST] = "a file with a list of experts",
	[POLICY_WANTS_USES] = "a recorded trace",
};

static size_t append(char *buf, size_t size, size_t used, const char *text)
{
	size_t n = strlen(text);

	if (n >= size - used)
		return used;
	memcpy(buf + used, text, n + 1);
	return used + n;
}

/* "a, b:FILE and c" of the table, in @buf, which is returned. */
static const char *table_names(char *buf, size_t size)
{
	size_t used = 0;

	for (const struct policy_ops *const *ops = policy_table; *ops; ops++) {
		if (used)
			used = append(buf, size, used, ops[1] ? ", " : " and ");
		used = append(buf, size, used, (*ops)->name);
		if ((*ops)->wants == POLICY_WANTS_SEED)
			used = append(buf, size, used, "[:SEED]");
		else if ((*ops)->wants != POLICY_WANTS_NOTHING)
			used = append(buf, size, used, ":FILE");
	}
	return buf;
}

int policy_find(const char *spec, const struct policy_ops **ret_ops, const char **ret_arg,
		struct err *err)
{
	const char *colon = strchr(spec, ':');
	size_t len = colon ? (size_t)(colon - spec) : strlen(spec);
	char names[128];

	for (const struct policy_ops *const *ops = policy_table; *ops; ops++) {
		if (strlen((*ops)->name) != len || memcmp((*ops)->name, spec, len) != 0)
			continue;
		if ((*ops)->wants == POLICY_WANTS_NOTHING && colon)
			return err_set(err, -EINVAL, "policy %s takes no argument, not '%s'",
				       (*ops)->name, colon + 1);
		if ((*ops)->wants == POLICY_WANTS_SEED) {
			if (colon && (!colon[1] || strlen(colon + 1) > 18 ||
				      colon[1 + strspn(colon + 1, "0123456789")]))
				return err_set(err, -EINVAL, "policy %s takes a number, not '%s'",
					       (*ops)->name, colon + 1);
		} else if ((*ops)->wants != POLICY_WANTS_NOTHING && (!colon || !colon[1]))
			return err_set(err, -EINVAL, "policy %s needs %s: %s:FILE", (*ops)->name,
				       wanted[(*ops)->wants], (*ops)->name);
		*ret_ops = *ops;
		*ret_arg = colon ? colon + 1 : NULL;
		return 0;
	}
	return err_set(err, -EINVAL, "no policy is called '%s': there are %s", spec,
		       table_names(names, sizeof(names)));
}

/* ---- by a ranking ---- */

static struct ranking *ranking_of(const struct policy *p)
{
	return *(struct ranking *const *)p;
}

void ranked_inserted(struct policy *p, uint32_t id)
{
	ranking_place(ranking_of(p), id, true);
}

void ranked_removed(struct policy *p, uint32_t id)
{
	ranking_place(ranking_of(p), id, false);
}

uint32_t ranked_victim(struct policy *p, uint32_t cls, policy_evictable_fn evictable, void *ctx)
{
	return ranking_least(ranking_of(p), cls, evictable, ctx);
}

bool ranked_admit(struct policy *p, uint32_t id, uint32_t victim)
{
	return ranking_worth(ranking_of(p), id) > ranking_worth(ranking_of(p), victim);
}

/* A use would make it the newest of all: worth it where that is likely, and a victim worth less always. */
bool ranked_expect(struct policy *p, uint32_t id, float chance, uint32_t victim)
{
	return chance >= 0.5f || ranked_admit(p, id, victim);
}

uint32_t ranked_next(struct policy *p, uint32_t cls)
{
	return ranking_best_absent(ranking_of(p), cls);
}

bool ranked_promote(struct policy *p, uint32_t cls, bool has_free,
		    const struct policy_filter *filter, struct policy_move *ret)
{
	return ranking_promote(ranking_of(p), cls, has_free, 1, filter, ret);
}
