/* SPDX-License-Identifier: MIT */
/*
 * base/version.c: see version.h. The one file that is compiled with the text, so that a new commit
 * compiles this file and links, no more. Not in the room's archive: programs link it by name.
 */
#include "base/version.h"

const char sluice_version[] = SLUICE_VERSION;
