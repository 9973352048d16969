/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/launch.cu: what launches returned, thread by thread, and how many there were in all.
 *
 * An operation may launch several kernels through helpers that return nothing; the first error is
 * kept until CUDA_LAUNCHED takes it.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"

#include <atomic>

static thread_local int first_error;
static std::atomic<uint64_t> count;

void launch_note(int error)
{
	count.fetch_add(1, std::memory_order_relaxed);
	if (error && !first_error)
		first_error = error;
}

int launch_done(void)
{
	const int error = first_error;

	first_error = 0;
	return error ? -EIO : 0;
}

extern "C" uint64_t cuda_launches(void)
{
	return count.load(std::memory_order_relaxed);
}
