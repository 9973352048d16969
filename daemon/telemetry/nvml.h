/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/nvml.h: GPUs as the driver's management library sees them.
 *
 * The library is opened at run time (libnvidia-ml.so.1, or what SLUICE_NVML names), so that nothing
 * is linked and a machine without it pays one failed open. Read-only queries of the public NVML
 * interface; what a GPU does not support stays unknown. A library that reports itself lost (driver
 * unloaded, GPU fallen off the bus) is closed and not asked again. Sampler thread.
 */
#ifndef SLUICE_TELEMETRY_NVML_H
#define SLUICE_TELEMETRY_NVML_H

#include "telemetry/telemetry.h"

extern const struct telemetry_ops telemetry_nvml_ops;

#endif
