/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/avx2_pair.h: few columns of super-blocks at the AVX2 level, two super-blocks at a time, a pair: how
 * rows are walked, and what becomes of their sums. Included by pair_k_avx2.c; any thread.
 *
 * Rows are read in file order. Where a row has an odd number of super-blocks its last one makes a pair with the
 * next row's first, if that lies behind it. Very wide rows are read in parts, so that scratch is bounded.
 * Activations are laid as the weights are, once a call. What a super-block adds up to waits in four lanes until
 * eight rows have theirs; then lanes are added across rows, and rows stand in the lanes.
 */
#ifndef SLUICE_KERNELS_CPU_AVX2_PAIR_H
#define SLUICE_KERNELS_CPU_AVX2_PAIR_H

#include "base/num.h"
#include "kernels/cpu/avx2_level.h"

/* A column's activations of two super-blocks; q[2j], q[2j + 1]: values 32j.. as mix() lays them. */
struct pair_act {
	__m256i q[16];
	union {
		__m256i sum32;	  /* the first's, the second's */
		__m256i sum16[2]; /* as by_parity() lays scales */
	};
};

/*
 * What two super-blocks add up to, quarters of the first and of the second in turn (min of PAIR_MIN32 in order), and
 * sixteen bytes of each with d and dmin.
 */
struct pair_sum {
	__m256i sum[PAIR_COLS], min[PAIR_COLS], head;
};

/* @a and @b times @cols columns, constant */
typedef void (*pair_fn)(const uint8_t *a, const uint8_t *b, const struct pair_act *const *x,
			int cols, struct pair_sum *to);

/*
 * An offset that makes weights signed: d is what head's halves end with. Or minima, of 16 or 32 weights each: d and
 * dmin are what they end with, or begin.
 */
enum pair_form { PAIR_OFFSET, PAIR_MIN16, PAIR_MIN32 };

/* constants where it is inlined */
struct pair_kind {
	enum pair_form form;
	size_t bytes;
	pair_fn multiply;
};

/* What the super-blocks of eight rows add up to, in file order: sixteen bytes each. */
struct slots {
	__m128i *head, *sum[PAIR_COLS], *min[PAIR_COLS];
};

#define PAIR_PART  64 /* super-blocks of a row that are read at once, at most */
#define PAIR_SLOTS (AVX2_ROWS * PAIR_PART + 2) /* an odd last one is stored, and loaded, as two */

/* eight bytes of @a, eight of @b, ... : v[0] has bytes 0 and 16 on, v[1] 8 and 24 on */
FORCE_INLINE void mix(const void *a, const void *b, __m256i v[2])
{
	__m256i first = load32(a), second = load32(b);

	/* loaded once each: the compiler would do it twice, and half of them cross lines */
	__asm__("" : "+x"(first), "+x"(second));
	v[0] = _mm256_unpacklo_epi64(first, second);
	v[1] = _mm256_unpackhi_epi64(first, second);
}

/* what lies so in halves again, the first's and the second's */
FORCE_INLINE __m256i apart(__m256i v)
{
	return _mm256_permute4x64_epi64(v, 0xd8);
}

FORCE_INLINE __m256i two16(const void *a, const void *b)
{
	return _mm256_inserti128_si256(_mm256_castsi128_si256(load16(a)), load16(b), 1);
}

/* sums of eight sixteens of each, even ones in the lower half */
FORCE_INLINE __m256i sums_by_parity(const int16_t *a, const int16_t *b)
{
	const __m256i parts = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));

	return apart(_mm256_shuffle_epi8(two16(a, b), parts));
}

/* @x, in pairs: of two rows where the number of super-blocks is odd */
FORCE_INLINE void pack(const struct act_super *x, size_t blocks, size_t pairs, bool by_32,
		       struct pair_act *to)
{
	const struct act_super *a = x, *end = x + blocks;

#pragma GCC unroll 1
	for (size_t p = 0; p < pairs; p++, to++) {
		const struct act_super *b = a + 1 < end ? a + 1 : x;

#pragma GCC unroll 8
		for (int j = 0; j < 8; j++)
			mix(a->q + 32 * j, b->q + 32 * j, to->q + 2 * j);
		if (by_32) {
			to->sum32 = two16(a->sum32, b->sum32);
		} else {
			to->sum16[0] = sums_by_parity(a->sum, b->sum);
			to->sum16[1] = sums_by_parity(a->sum + 8, b->sum + 8);
		}
		a = b + 1 < end ? b + 1 : x;
	}
}

/* v[i]: two super-blocks of row i, four lanes each -> v[0], v[1]: of one super-block each, rows in the lanes */
FORCE_INLINE void add_rows(__m256i v[8])
{
	const __m256i low = sum_four(sum_pair(v[0], v[1]), sum_pair(v[2], v[3]));
	const __m256i high = sum_four(sum_pair(v[4], v[5]), sum_pair(v[6], v[7]));

	v[0] = _mm256_permute2x128_si256(low, high, 0x20);
	v[1] = _mm256_permute2x128_si256(low, high, 0x31);
}

FORCE_INLINE void two_floats(__m256i halves, __m256 to[2])
{
	to[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
	to[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
}

/* h[i]: heads of two super-blocks of row i -> their d and dmin, rows in the lanes; offsets: d[] alone */
FORCE_INLINE void head_rows(const __m256i h[8], enum pair_form form, __m256 d[2], __m256 dmin[2])
{
	const bool last = form != PAIR_MIN32;
	__m256i v[4], low, high;

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		v[i] = last ? _mm256_unpackhi_epi16(h[2 * i], h[2 * i + 1])
			    : _mm256_unpacklo_epi16(h[2 * i], h[2 * i + 1]);
	low = last ? _mm256_unpackhi_epi32(v[0], v[1]) : _mm256_unpacklo_epi32(v[0], v[1]);
	high = last ? _mm256_unpackhi_epi32(v[2], v[3]) : _mm256_unpacklo_epi32(v[2], v[3]);
	two_floats(_mm256_unpackhi_epi64(low, high), dmin);
	if (form == PAIR_OFFSET) {
		/* d alone is the last half */
		d[0] = dmin[0];
		d[1] = dmin[1];
	} else {
		two_floats(_mm256_unpacklo_epi64(low, high), d);
	}
}

FORCE_INLINE void load_rows(const __m128i *from, size_t stride, __m256i v[8])
{
#pragma GCC unroll 8
	for (size_t r = 0; r < 8; r++)
		v[r] = load32(from + r * stride);
}

/* y[c]: eight rows times column c; @stride: slots from row to row */
FORCE_INLINE void finish(const struct slots *s, size_t blocks, size_t stride,
			 const struct pair_kind *k, const struct act_super *const *x, int cols,
			 __m256 *y)
{
#pragma GCC unroll 1
	for (size_t b = 0; b < blocks; b += 2) {
		__m256i sum[8], min[8], head[8];
		__m256 d[2], dmin[2];

		load_rows(s->head + b, stride, head);
		head_rows(head, k->form, d, dmin);
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			load_rows(s->sum[c] + b, stride, sum);
			add_rows(sum);
			if (k->form != PAIR_OFFSET) {
				load_rows(s->min[c] + b, stride, min);
				add_rows(min);
			}
#pragma GCC unroll 2
			for (size_t i = 0; i < 2; i++) {
				if (b + i == blocks)
					break;
				y[c] = add_scaled(y[c], d[i], x[c][b + i].d,
						  _mm256_cvtepi32_ps(sum[i]));
				if (k->form != PAIR_OFFSET)
					y[c] = take_scaled(y[c], dmin[i], x[c][b + i].d,
							   _mm256_cvtepi32_ps(min[i]));
			}
		}
	}
}

/* Where memory is asked for: from the end of the rows on in what comes next. */
struct ahead {
	const uint8_t *at, *end, *next;
};

FORCE_INLINE void ask(struct ahead *a, size_t bytes)
{
	prefetch_from(a->at, bytes);
	a->at += bytes;
	if (a->at >= a->end && a->next) {
		a->at = a->next + (a->at - a->end);
		a->next = NULL;
	}
}

/* @count super-blocks from @w on, which lie behind each other, to slots from @slot on */
FORCE_INLINE void multiply(const uint8_t *w, size_t count, const struct pair_act *const *x,
			   size_t pairs, const struct pair_kind *k, int cols, struct ahead *ahead,
			   const struct slots *s, size_t slot)
{
	size_t p = 0;

#pragma GCC unroll 1
	for (size_t i = 0; i < count; i += 2, w += 2 * k->bytes) {
		const struct pair_act *at[PAIR_COLS];
		struct pair_sum t;

		ask(ahead, 2 * k->bytes);
		for (int c = 0; c < cols; c++)
			at[c] = x[c] + p;
		k->multiply(w, i + 1 < count ? w + k->bytes : w, at, cols, &t);
		_mm256_storeu_si256((__m256i *)(s->head + slot + i), t.head);
#pragma GCC unroll 4
		for (int c = 0; c < cols; c++) {
			_mm256_storeu_si256((__m256i *)(s->sum[c] + slot + i), apart(t.sum[c]));
			if (k->form == PAIR_OFFSET)
				continue;
			_mm256_storeu_si256((__m256i *)(s->min[c] + slot + i),
					    k->form == PAIR_MIN32 ? t.min[c] : apart(t.min[c]));
		}
		p = p + 1 < pairs ? p + 1 : 0;
	}
}

/* A product with @cols columns, packed in pairs: a part of PAIR_PART super-blocks of each of eight rows at a time. */
struct walk {
	const struct act_super *x[PAIR_COLS];
	const struct pair_act *packed[PAIR_COLS];
	size_t blocks, pairs;
	size_t stride; /* slots from row to row */
	bool close;    /* a row's super-blocks are one part, and the next row's lie behind them */
	struct slots slots;
	struct ahead ahead;
};

FORCE_INLINE void walk_init(struct walk *k, const struct matmul *m, size_t row, size_t col,
			    int cols, const struct pair_kind *kind)
{
	const size_t blocks = m->n / 256;
	const uint8_t *w = m->w;
	struct pair_act *to = m->scratch;

	k->blocks = blocks;
	k->close = blocks <= PAIR_PART && m->row_bytes == blocks * kind->bytes;
	k->pairs = k->close && blocks % 2 ? blocks : (blocks + 1) / 2;
	k->stride = k->close ? blocks : PAIR_PART;
	k->ahead.at = w + row * m->row_bytes + u64_max(m->row_bytes, PREFETCH_AHEAD);
	k->ahead.end = w + m->row1 * m->row_bytes;
	k->ahead.next = m->next;
	k->slots.head = (__m128i *)(to + (size_t)cols * k->pairs);
	for (int c = 0; c < cols; c++, to += k->pairs) {
		k->x[c] = m->x[col + (size_t)c];
		k->packed[c] = to;
		pack(k->x[c], blocks, k->pairs, kind->form == PAIR_MIN32, to);
		k->slots.sum[c] = k->slots.head + (1 + 2 * (size_t)c) * PAIR_SLOTS;
		k->slots.min[c] = k->slots.sum[c] + PAIR_SLOTS;
	}
}

/* y[c] += super-blocks [b, b + count) of @n <= AVX2_ROWS rows from @w on */
FORCE_INLINE void part(struct walk *k, const struct matmul *m, const uint8_t *w, size_t n, size_t b,
		       size_t count, int cols, const struct pair_kind *kind, __m256 *y)
{
	const size_t run = k->close ? n : 1; /* rows that are multiplied as one */
	const struct pair_act *packed[PAIR_COLS];
	const struct act_super *x[PAIR_COLS];

	for (int c = 0; c < cols; c++) {
		packed[c] = k->packed[c] + b / 2;
		x[c] = k->x[c] + b;
	}
	for (size_t r = 0; r < n; r += run)
		multiply(w + r * m->row_bytes + b * kind->bytes, run * count, packed, k->pairs,
			 kind, cols, &k->ahead, &k->slots, r * k->stride);
	finish(&k->slots, count, k->stride, kind, x, cols, y);
}

/* columns [col, col + cols), a constant number of them */
FORCE_INLINE void pair_rows(const struct matmul *m, size_t row, size_t rows, size_t col, int cols,
			    struct pair_kind kind)
{
	const uint8_t *w = (const uint8_t *)m->w + row * m->row_bytes;
	const size_t end = row + rows;
	struct walk k;

	walk_init(&k, m, row, col, cols, &kind);
	for (; row < end; row += AVX2_ROWS, w += AVX2_ROWS * m->row_bytes) {
		const size_t n = u64_min(AVX2_ROWS, end - row);
		__m256 y[PAIR_COLS];

		for (int c = 0; c < cols; c++)
			y[c] = _mm256_setzero_ps();
		for (size_t b = 0; b < k.blocks; b += PAIR_PART)
			part(&k, m, w, n, b, u64_min(PAIR_PART, k.blocks - b), cols, &kind, y);
		for (int c = 0; c < cols; c++)
			store_rows(m->y[col + (size_t)c] + row, y[c], n);
	}
}

#define PAIR(T, t, form)                                                                          \
	void avx2_pair_##t(const struct matmul *m, size_t row, size_t rows, size_t col, int cols) \
	{                                                                                         \
		const struct pair_kind k = { form, QUANT_##T##_BYTES, pair_##t };                 \
                                                                                                  \
		if (cols == 1)                                                                    \
			pair_rows(m, row, rows, col, 1, k);                                       \
		else if (cols == 2)                                                               \
			pair_rows(m, row, rows, col, 2, k);                                       \
		else if (cols == 3)                                                               \
			pair_rows(m, row, rows, col, 3, k);                                       \
		else                                                                              \
			pair_rows(m, row, rows, col, 4, k);                                       \
	}

#endif
