/* SPDX-License-Identifier: MIT */
/* daemon/policy/fill_pace.c: see fill_pace.h. */
#include "policy/fill_pace.h"

#include "base/num.h"

bool fill_pace_may(struct fill_pace *p, uint64_t now_ns, uint64_t spent_ns)
{
	uint64_t rest = (spent_ns - p->spent_ns) * FILL_REST;

	p->spent_ns = spent_ns;
	p->until_ns = u64_min(p->until_ns + rest, now_ns + FILL_REST_MOST_NS);
	if (now_ns < p->until_ns)
		return false;
	p->until_ns = now_ns;
	return true;
}
