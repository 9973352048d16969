/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/runtime.h: what the files of the fake runtime share: the lock, faults and counts, and how much memory
 * the device has. Nobody else includes it. Any thread.
 */
#ifndef SLUICE_TESTS_GPU_EMU_RUNTIME_H
#define SLUICE_TESTS_GPU_EMU_RUNTIME_H

#include <cuda_runtime_api.h>

#include <mutex>
#include <stdint.h>

/* The one lock of the runtime. */
extern std::recursive_mutex emu_runtime_lock;

/* ---- faults.cpp: what is wished for, and what is counted; with the lock ---- */

/* The fault that call @name is to have now; *ret_stays: every call has it from now on. cudaSuccess: none. */
cudaError_t emu_fault(const char *name, bool *ret_stays);
/* The device has stopped for good: nothing of its streams runs any more. @next: one more operation is to. */
bool emu_hangs(bool next);

extern struct emu_counts {
	uint64_t alone, graphs, in_graphs, most; /* kernels but for graphs; most: of one graph */
} emu_launched;

/* One of a kernel's launches begins to run, @kernel by its name in CUDA_LAUNCH. With the lock or without it. */
void emu_ran(const char *kernel);

/* ---- runtime.cpp ---- */

/* What call @name returns before it does anything: cudaSuccess unless a fault is wished or stays. */
cudaError_t emu_runtime_enter(const char *name);

/* The order of streams from now on, as SLUICE_EMU_SEED; tests declare it themselves. */
void emu_runtime_seed(uint64_t seed);

/* Bytes that the device has, as it says. */
size_t emu_memory_all(void);
/* @bytes of the device's memory; false: there is less. And back. With the lock. */
bool emu_memory_take(size_t bytes);
void emu_memory_give(size_t bytes);

#endif
