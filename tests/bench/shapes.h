/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/shapes.h: sizes of published models, and a vocabulary of any length, for make_model.c alone.
 */
#ifndef SLUICE_TESTS_BENCH_SHAPES_H
#define SLUICE_TESTS_BENCH_SHAPES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define N_SYMBOLS 95 /* that merges are made of: the space and 94 printable characters */

enum arch { QWEN3MOE, QWEN35MOE, QWEN35, QWEN3NEXT };
struct shape {
	const char *name;
	enum arch arch;
	uint32_t layers, d, heads, kv_heads, head_dim, experts, used, ff, ff_shared;
	uint32_t k_heads, v_heads; /* of the gated DeltaNet, 128 wide */
	uint32_t vocab, n_rot;
	float rope_base;
	uint32_t context;
	bool tied;
};

static const char *const arch_names[] = { "qwen3moe", "qwen35moe", "qwen35", "qwen3next" };

/* docs/models.md section 3; ff is an expert's, or the FFN's where there are no experts */
static const struct shape shapes[] = {
	{ "qwen3-30b-a3b", QWEN3MOE, 48, 2048, 32, 4, 128, 128, 8, 768, 0, 0, 0, 151936, 128, 1e6f,
	  40960, false },
	{ "qwen3-235b-a22b", QWEN3MOE, 94, 4096, 64, 4, 128, 128, 8, 1536, 0, 0, 0, 151936, 128,
	  1e6f, 40960, false },
	{ "qwen3.5-35b-a3b", QWEN35MOE, 40, 2048, 16, 2, 256, 256, 8, 512, 512, 16, 32, 248320, 64,
	  1e7f, 262144, false },
	{ "qwen3.5-122b-a10b", QWEN35MOE, 48, 3072, 32, 2, 256, 256, 8, 1024, 1024, 16, 64, 248320,
	  64, 1e7f, 262144, false },
	{ "qwen3.5-397b-a17b", QWEN35MOE, 60, 4096, 32, 2, 256, 512, 10, 1024, 1024, 16, 64, 248320,
	  64, 1e7f, 262144, false },
	{ "qwen3-next-80b-a3b", QWEN3NEXT, 48, 2048, 16, 2, 256, 512, 10, 512, 512, 16, 32, 151936,
	  64, 1e7f, 262144, false },
	{ "qwen3.5-27b", QWEN35, 64, 5120, 24, 4, 256, 0, 0, 17408, 0, 16, 48, 248320, 64, 1e7f,
	  262144, false },
	{ "qwen3.5-9b", QWEN35, 32, 4096, 16, 4, 256, 0, 0, 12288, 0, 16, 32, 248320, 64, 1e7f,
	  262144, false },
	{ "qwen3.5-4b", QWEN35, 32, 2560, 16, 4, 256, 0, 0, 9216, 0, 16, 32, 248320, 64, 1e7f,
	  262144, true },
};

/* GPT-2's letter for a byte, as UTF-8. */
static inline const char *byte_letter(unsigned byte, char out[4])
{
	unsigned code = byte, low = 0;

	if (!((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)) {
		for (unsigned b = 0; b < byte; b++)
			low += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
		code = 256 + low;
	}
	if (code < 128) {
		out[0] = (char)code;
		out[1] = '\0';
	} else {
		out[0] = (char)(0xc0 | code >> 6);
		out[1] = (char)(0x80 | (code & 63));
		out[2] = '\0';
	}
	return out;
}

/* Symbols of merges in this order: the common ones first, so that short vocabularies have them. */
static inline unsigned symbol_byte(unsigned i)
{
	static const char first[] = " etaoinshrdlucmfwygpbvkxqjz";
	unsigned n = sizeof(first) - 1;

	if (i < n)
		return (unsigned char)first[i];
	for (unsigned b = '!'; b <= '~'; b++) {
		if (memchr(first, (int)b, sizeof(first) - 1))
			continue;
		if (n++ == i)
			return b;
	}
	return 0;
}

/* Merge @i: first every pair of symbols, then every pair and one more symbol. */
static inline void merge_parts(uint32_t i, char left[8], char right[4])
{
	char a[4], b[4];

	if (i < N_SYMBOLS * N_SYMBOLS) {
		strcpy(left, byte_letter(symbol_byte(i / N_SYMBOLS), a));
	} else {
		uint32_t pair = i / N_SYMBOLS - N_SYMBOLS;

		snprintf(left, 8, "%s%s", byte_letter(symbol_byte(pair / N_SYMBOLS), a),
			 byte_letter(symbol_byte(pair % N_SYMBOLS), b));
	}
	byte_letter(symbol_byte(i % N_SYMBOLS), right);
}

#endif
