/* SPDX-License-Identifier: MIT */
/* base/divide.c: see divide.h. */
#include "base/divide.h"

#include <errno.h>

#include "base/num.h"

static uint64_t times(uint64_t a, uint64_t b)
{
	uint64_t product;

	return u64_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return u64_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

uint64_t divide_least_bytes(const struct slot_share *shares, uint32_t n)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum = plus(sum, times(shares[i].least, shares[i].slot_bytes));
	return sum;
}

uint64_t divide_all_bytes(const struct slot_share *shares, uint32_t n)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum = plus(sum, times(shares[i].experts, shares[i].slot_bytes));
	return sum;
}

int divide_budget(struct slot_share *shares, uint32_t n, uint64_t budget, uint64_t *ret_bytes,
		  struct err *err)
{
	uint64_t least = divide_least_bytes(shares, n), all = divide_all_bytes(shares, n);
	uint64_t outside = all - least, left, taken = 0;

	if (budget < least)
		return err_set(
			err, -ENOSPC,
			"the expert budget of %llu bytes is too small: need at least %llu bytes",
			(unsigned long long)budget, (unsigned long long)least);
	left = u64_min(budget - least, outside);
	for (uint32_t i = 0; i < n; i++) {
		struct slot_share *s = &shares[i];
		uint64_t missing = s->experts - s->least;
		unsigned __int128 more = outside ? (unsigned __int128)left * missing / outside : 0;

		s->slots = s->least + (uint64_t)(more < missing ? more : missing);
		taken += s->slots * s->slot_bytes; /* <= least + left <= budget */
	}
	for (uint32_t i = 0; i < n; i++) { /* what rounding left over */
		struct slot_share *s = &shares[i];
		uint64_t more = u64_min(s->experts - s->slots, (budget - taken) / s->slot_bytes);

		s->slots += more;
		taken += more * s->slot_bytes;
	}
	*ret_bytes = taken;
	return 0;
}
