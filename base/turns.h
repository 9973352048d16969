/* SPDX-License-Identifier: MIT */
/*
 * base/turns.h: how soon a thread that has slept has its turn on a processor that others keep busy.
 *
 * For threads with little to do that others wait for; nobody's share of the time changes. Any thread.
 */
#ifndef SLUICE_BASE_TURNS_H
#define SLUICE_BASE_TURNS_H

#include <stdbool.h>

/*
 * The calling thread wants time slices of 0.1 ms (@is_short), the least that the kernel takes, or those
 * that everybody has. Linux from 6.12 on (sched_setattr(2)) lets the shorter slice have its turn first,
 * also where another has not used its own up; no permission is needed. Best effort: older kernels
 * ignore it, and a thread whose scheduling policy is not the usual one stays as it is. Threads
 * inherit it. Leaves errno as it was.
 */
void turns_short(bool is_short);

#endif
