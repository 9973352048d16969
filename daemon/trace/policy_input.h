/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/policy_input.h: makes a policy from its spelling, and reads the file that it may name.
 *
 * Policies decide and open nothing; this is where "static:FILE" and "belady:FILE" meet the disk. Files
 * are untrusted: numbers outside the geometry, repetitions and anything else that does not fit are
 * refused with the number of the line. Called while engine or simulator are created. Any thread.
 */
#ifndef SLUICE_TRACE_POLICY_INPUT_H
#define SLUICE_TRACE_POLICY_INPUT_H

#include "base/err.h"
#include "policy/policy.h"

/*
 * @spec as policy_find() takes it. 0 and both set (the caller calls ops->destroy), or -errno and a
 * sentence. A list of experts has one a line, `layer expert`, worth most first; # starts a comment.
 */
int policy_open(const char *spec, const struct policy_geometry *geometry,
		const struct policy_ops **ret_ops, struct policy **ret, struct err *err);

#endif
