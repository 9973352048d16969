/* SPDX-License-Identifier: MIT */
/*
 * base/divide.h: how a budget of bytes becomes slots of several sizes.
 *
 * Layers whose experts differ in size need slots of different sizes (classes). The one rule for
 * dividing a budget among them, for the daemon (store/residency), the plan and the simulator. Pure
 * arithmetic without overflow: sums that do not fit count as UINT64_MAX. Any thread.
 */
#ifndef SLUICE_BASE_DIVIDE_H
#define SLUICE_BASE_DIVIDE_H

#include <stdint.h>

#include "base/err.h"

/* What slots of one size are asked for, and how many there are. */
struct slot_share {
	uint64_t slot_bytes; /* at least 1: a budget in slots of equal worth has 1 everywhere */
	uint64_t experts;    /* that would fill the class: never more slots than this */
	uint64_t least;	     /* slots without which the class cannot work, <= experts */
	uint64_t slots;	     /* the answer */
};

/* Bytes of the least slots of all classes, and of a slot for every expert. */
uint64_t divide_least_bytes(const struct slot_share *shares, uint32_t n);
uint64_t divide_all_bytes(const struct slot_share *shares, uint32_t n);

/*
 * Sets slots: the least for every class, the rest of @budget in proportion to the bytes that are
 * still outside, what rounding leaves to the first classes. *ret_bytes gets what the slots take. 0,
 * or -ENOSPC and "need at least N bytes".
 */
int divide_budget(struct slot_share *shares, uint32_t n, uint64_t budget, uint64_t *ret_bytes,
		  struct err *err);

#endif
