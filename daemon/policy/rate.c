/* SPDX-License-Identifier: MIT */
/* daemon/policy/rate.c: see rate.h. A move may begin while the bucket is not empty. */
#include "policy/rate.h"

#define BURST_S 0.25

static double level(const struct byte_rate *b, uint64_t now_ns)
{
	double most = (double)b->bytes_per_s * BURST_S;
	double now;

	if (!b->last_ns)
		return most;
	now = b->bytes + (double)(now_ns - b->last_ns) * 1e-9 * (double)b->bytes_per_s;
	return now < most ? now : most;
}

bool rate_take(struct byte_rate *b, uint64_t now_ns, uint64_t bytes)
{
	double now;

	if (!b->bytes_per_s)
		return true;
	now = level(b, now_ns);
	if (now <= 0)
		return false;
	b->bytes = now - (double)bytes;
	b->last_ns = now_ns;
	return true;
}

uint64_t rate_wait_ns(const struct byte_rate *b, uint64_t now_ns)
{
	double missing;

	if (!b->bytes_per_s)
		return 0;
	missing = -level(b, now_ns);
	return missing < 0 ? 0 : (uint64_t)(missing / (double)b->bytes_per_s * 1e9) + 1;
}
