/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_impl.h: what the files of the float tables share. Not for other rooms.
 */
#ifndef SLUICE_KERNELS_CPU_FLOAT_IMPL_H
#define SLUICE_KERNELS_CPU_FLOAT_IMPL_H

#include "kernels/cpu/fops.h"

#if defined(__x86_64__)
extern const struct float_ops float_ops_avx2;
extern const struct float_ops float_ops_avx512;
#endif

#endif
