/* SPDX-License-Identifier: MIT */
/*
 * base/version.h: what this build calls itself: "0.1.0", or between releases with the commit behind
 * it (scripts/version.sh). Constant; any thread.
 */
#ifndef SLUICE_BASE_VERSION_H
#define SLUICE_BASE_VERSION_H

extern const char sluice_version[];

#endif
