/* SPDX-License-Identifier: MIT */
/*
 * base/stdfd.h: descriptors 0, 1 and 2 belong to standard input, output and error.
 *
 * A program that is started with one of them closed (`sluice ... >&-`) would get the number for the
 * next thing that it opens, a socket or a model file, and then print into it. First call of main().
 */
#ifndef SLUICE_BASE_STDFD_H
#define SLUICE_BASE_STDFD_H

/* Opens /dev/null in the place of each of the three that is closed. 0 or -errno. */
int stdfd_open(void);

#endif
