/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/ptx_emu.cpp: tensor core products, matrix loads and asynchronous copies on the CPU.
 *
 * Fragments are those of kernels/cuda/ptx.h. A product's last lane gathers the matrices of the warp
 * and computes for all. Copies stay in their thread's queue until it waits for them, the latest moment
 * that the hardware allows: whoever reads earlier reads what was there before.
 */
#include "block.h"
#include "kernels/cuda/ptx.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

struct mma_arg {
	enum emu_mma kind;
	void *d;
	const uint32_t *a, *b;
};

/* Columns lane / 4, rows lane / 4 and lane / 4 + 8 of registers that hold @per elements each. */
template <class T, class F>
static void gather(void *const *args, int regs, int per, T a[16][32], T b[8][32], F element)
{
	for (int lane = 0; lane < EMU_WARP; lane++) {
		const struct mma_arg *m = (const struct mma_arg *)args[lane];
		const int g = lane / 4, t = lane % 4;

		for (int r = 0; r < regs; r++)
			for (int i = 0; i < per; i++)
				a[g + r % 2 * 8][r / 2 * 4 * per + t * per + i] =
					element(m->a[r], i);
		for (int r = 0; r < regs / 2; r++)
			for (int i = 0; i < per; i++)
				b[g][r * 4 * per + t * per + i] = element(m->b[r], i);
	}
}

static void finish_integer(void *const *args, int k)
{
	static thread_local int a[16][32], b[8][32];

	gather(args, k / 8, 4, a, b, [](uint32_t v, int i) { return (int)(int8_t)(v >> 8 * i); });
	for (int lane = 0; lane < EMU_WARP; lane++) {
		int32_t *d = (int32_t *)((const struct mma_arg *)args[lane])->d;

		for (int i = 0; i < 4; i++) {
			const int *x = a[lane / 4 + i / 2 * 8], *y = b[lane % 4 * 2 + i % 2];
			int sum = 0;

			for (int j = 0; j < k; j++)
				sum += x[j] * y[j];
			d[i] = (int32_t)((uint32_t)d[i] + (uint32_t)sum);
		}
	}
}

static void finish_float(void *const *args, bool bf16)
{
	static thread_local float a[16][32], b[8][32];

	gather(args, 4, 2, a, b, [bf16](uint32_t v, int i) {
		const uint16_t h = (uint16_t)(v >> 16 * i);

		return bf16 ? emu_bits<float>((uint32_t)h << 16) : emu_half_to_float(h);
	});
	for (int lane = 0; lane < EMU_WARP; lane++) {
		float *d = (float *)((const struct mma_arg *)args[lane])->d;

		for (int i = 0; i < 4; i++) {
			const float *x = a[lane / 4 + i / 2 * 8], *y = b[lane % 4 * 2 + i % 2];
			double sum = d[i];

			for (int j = 0; j < 16; j++)
				sum += (double)x[j] * (double)y[j];
			d[i] = (float)sum;
		}
	}
}

static void finish_mma(void *const *args, uint32_t mask, unsigned lane)
{
	(void)mask;
	switch (((const struct mma_arg *)args[lane])->kind) {
	case EMU_MMA_S8:
		finish_integer(args, 32);
		break;
	case EMU_MMA_S8_K16:
		finish_integer(args, 16);
		break;
	case EMU_MMA_F16:
		finish_float(args, false);
		break;
	case EMU_MMA_BF16:
		finish_float(args, true);
		break;
	}
}

void emu_mma(enum emu_mma kind, void *d, const uint32_t *a, const uint32_t *b, const char *file,
	     int line)
{
	static const char *const names[] = { "mma.m16n8k32.s8", "mma.m16n8k16.s8",
					     "mma.m16n8k16.f16", "mma.m16n8k16.bf16" };
	struct mma_arg m = { kind, d, a, b };

	emu_collective(0xffffffffu, &m, finish_mma, false, names[kind], file, line);
}

struct ldmatrix_arg {
	uint32_t *r;
	const void *row;
	int matrices;
	bool trans;
};

static void finish_ldmatrix(void *const *args, uint32_t mask, unsigned last)
{
	const struct ldmatrix_arg *first = (const struct ldmatrix_arg *)args[last];
	uint16_t rows[8][8];

	(void)mask;
	for (int i = 0; i < first->matrices; i++) {
		for (int r = 0; r < 8; r++) {
			const void *from = ((const struct ldmatrix_arg *)args[8 * i + r])->row;

			if ((uintptr_t)from % 16)
				emu_fail(
					"misaligned access",
					"ldmatrix of lane %d reads a row at %p, not a multiple of 16",
					8 * i + r, from);
			emu_reads((unsigned)(8 * i + r), from, 16);
			memcpy(rows[r], from, 16);
		}
		for (int lane = 0; lane < EMU_WARP; lane++) {
			const int g = lane / 4, t = lane % 4;
			const uint16_t low = first->trans ? rows[2 * t][g] : rows[g][2 * t];
			const uint16_t high = first->trans ? rows[2 * t + 1][g]
							   : rows[g][2 * t + 1];

			((const struct ldmatrix_arg *)args[lane])->r[i] = low | (uint32_t)high
											<< 16;
		}
	}
}

void emu_ldmatrix(uint32_t *r, const void *row, int matrices, bool trans, const char *file,
		  int line)
{
	struct ldmatrix_arg a = { r, row, matrices, trans };

	emu_collective(0xffffffffu, &a, finish_ldmatrix, false,
		       trans ? "ldmatrix.trans" : "ldmatrix", file, line);
}

/* ---- cp.async ---- */

static struct emu_fiber *running(void)
{
	return emu_worker->now;
}

void emu_copy(void *to, const void *from, unsigned bytes, unsigned take)
{
	struct emu_fiber *f = running();

	if ((uintptr_t)to % bytes || (take && (uintptr_t)from % bytes))
		emu_fail("misaligned access", "cp.async of %u bytes from %p to %p", bytes, from,
			 to);
	if (take > bytes)
		emu_fail("cp.async", "takes %u bytes of %u", take, bytes);
	emu_shadow_access(emu_worker, f, to, bytes, EMU_COPY_START, __builtin_return_address(0));
	f->copies.push_back({ (uint8_t *)to, (const uint8_t *)from, bytes, take, f->groups });
}

void emu_copy_commit(void)
{
	running()->groups++;
}

void emu_copy_wait(unsigned groups)
{
	struct emu_fiber *f = running();

	while (!f->copies.empty() && f->copies.front().group + groups < f->groups) {
		const struct emu_pending c = f->copies.front();

		f->copies.pop_front();
		emu_shadow_access(emu_worker, f, c.to, c.bytes, EMU_COPY_END,
				  __builtin_return_address(0));
		if (c.take)
			memcpy(c.to, c.from, c.take);
		memset(c.to + c.take, 0, c.bytes - c.take);
	}
}

void ptx_release_system(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}
