/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/include/integer.h: integer intrinsics for the CPU: dot products of bytes, byte
 * selection, SIMD in a register, bit counts, min and max of mixed types. Exact. Included by device.h.
 */
#ifndef SLUICE_EMU_INTEGER_H
#define SLUICE_EMU_INTEGER_H

static inline int emu_byte(int v, int i)
{
	return (int8_t)((unsigned)v >> (8 * i));
}
static inline unsigned emu_byte(unsigned v, int i)
{
	return v >> (8 * i) & 255;
}
/* c + the four products, modulo 2^32 */
static inline int __dp4a(int a, int b, int c)
{
	for (int i = 0; i < 4; i++)
		c = (int)((unsigned)c + (unsigned)(emu_byte(a, i) * emu_byte(b, i)));
	return c;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c)
{
	for (int i = 0; i < 4; i++)
		c += emu_byte(a, i) * emu_byte(b, i);
	return c;
}
static inline int __dp2a_lo(int a, int b, int c)
{
	return (int)((unsigned)c + (unsigned)((int16_t)a * emu_byte(b, 0)) +
		     (unsigned)((a >> 16) * emu_byte(b, 1)));
}
static inline int __dp2a_hi(int a, int b, int c)
{
	return __dp2a_lo(a, (int)((unsigned)b >> 16), c);
}

static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s)
{
	const uint64_t both = (uint64_t)y << 32 | x;
	unsigned r = 0;

	for (int i = 0; i < 4; i++) {
		const unsigned pick = s >> (4 * i) & 15;
		unsigned b = (unsigned)(both >> (8 * (pick & 7))) & 255;

		if (pick & 8)
			b = b & 128 ? 255 : 0;
		r |= b << (8 * i);
	}
	return r;
}

/* four bytes or two halves of a register at a time */
#define EMU_SIMD(name, type, lanes, expression)                                             \
	static inline unsigned name(unsigned a, unsigned b)                                 \
	{                                                                                   \
		const int bits = 32 / lanes;                                                \
		unsigned r = 0;                                                             \
                                                                                            \
		for (int i = 0; i < lanes; i++) {                                           \
			const int x = (type)(a >> (bits * i)), y = (type)(b >> (bits * i)); \
                                                                                            \
			r |= ((unsigned)(expression) & (0xffffffffu >> (32 - bits)))        \
			     << (bits * i);                                                 \
		}                                                                           \
		return r;                                                                   \
	}
#define EMU_CLAMP(v, low, high) ((v) < (low) ? (low) : (v) > (high) ? (high) : (v))
EMU_SIMD(__vadd4, uint8_t, 4, x + y)
EMU_SIMD(__vsub4, uint8_t, 4, x - y)
EMU_SIMD(__vaddss4, int8_t, 4, EMU_CLAMP(x + y, -128, 127))
EMU_SIMD(__vsubss4, int8_t, 4, EMU_CLAMP(x - y, -128, 127))
EMU_SIMD(__vaddus4, uint8_t, 4, EMU_CLAMP(x + y, 0, 255))
EMU_SIMD(__vsubus4, uint8_t, 4, EMU_CLAMP(x - y, 0, 255))
EMU_SIMD(__vmaxs4, int8_t, 4, x > y ? x : y)
EMU_SIMD(__vmins4, int8_t, 4, x < y ? x : y)
EMU_SIMD(__vmaxu4, uint8_t, 4, x > y ? x : y)
EMU_SIMD(__vminu4, uint8_t, 4, x < y ? x : y)
EMU_SIMD(__vabsdiffu4, uint8_t, 4, x > y ? x - y : y - x)
EMU_SIMD(__vcmpeq4, uint8_t, 4, x == y ? -1 : 0)
EMU_SIMD(__vcmpne4, uint8_t, 4, x != y ? -1 : 0)
EMU_SIMD(__vcmpgts4, int8_t, 4, x > y ? -1 : 0)
EMU_SIMD(__vcmpges4, int8_t, 4, x >= y ? -1 : 0)
EMU_SIMD(__vcmpgtu4, uint8_t, 4, x > y ? -1 : 0)
EMU_SIMD(__vcmpgeu4, uint8_t, 4, x >= y ? -1 : 0)
EMU_SIMD(__vadd2, uint16_t, 2, x + y)
EMU_SIMD(__vsub2, uint16_t, 2, x - y)
EMU_SIMD(__vmaxs2, int16_t, 2, x > y ? x : y)
EMU_SIMD(__vmins2, int16_t, 2, x < y ? x : y)
#undef EMU_SIMD
static inline unsigned __vabs4(unsigned a)
{
	return __vmaxs4(a, __vsub4(0, a));
}
static inline unsigned __vneg4(unsigned a)
{
	return __vsub4(0, a);
}

static inline int __popc(unsigned v)
{
	return __builtin_popcount(v);
}
static inline int __popcll(unsigned long long v)
{
	return __builtin_popcountll(v);
}
static inline int __ffs(int v)
{
	return __builtin_ffs(v);
}
static inline int __ffsll(long long v)
{
	return __builtin_ffsll(v);
}
static inline int __clz(int v)
{
	return v ? __builtin_clz((unsigned)v) : 32;
}
static inline int __clzll(long long v)
{
	return v ? __builtin_clzll((unsigned long long)v) : 64;
}
static inline unsigned __brev(unsigned v)
{
	unsigned r = 0;

	for (int i = 0; i < 32; i++)
		r |= (v >> i & 1) << (31 - i);
	return r;
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned by)
{
	return (unsigned)((((uint64_t)hi << 32 | lo) << (by & 31)) >> 32);
}
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned by)
{
	return (unsigned)(((uint64_t)hi << 32 | lo) >> (by & 31));
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
	return (unsigned)((uint64_t)a * b >> 32);
}
static inline int __mulhi(int a, int b)
{
	return (int)((int64_t)a * b >> 32);
}
static inline unsigned __umul24(unsigned a, unsigned b)
{
	return (a & 0xffffff) * (b & 0xffffff);
}
static inline unsigned __sad(int a, int b, unsigned c)
{
	return c + (a > b ? (unsigned)a - (unsigned)b : (unsigned)b - (unsigned)a);
}

/* min and max of two numbers, as their common type */
#define EMU_MINMAX(type)                       \
	static inline type min(type a, type b) \
	{                                      \
		return b < a ? b : a;          \
	}                                      \
	static inline type max(type a, type b) \
	{                                      \
		return a < b ? b : a;          \
	}
EMU_MINMAX(int)
EMU_MINMAX(unsigned)
EMU_MINMAX(long)
EMU_MINMAX(unsigned long)
EMU_MINMAX(long long)
EMU_MINMAX(unsigned long long)
#undef EMU_MINMAX
#define EMU_MIXED(a, b, type)                 \
	static inline type min(a x, b y)      \
	{                                     \
		return min((type)x, (type)y); \
	}                                     \
	static inline type max(a x, b y)      \
	{                                     \
		return max((type)x, (type)y); \
	}
EMU_MIXED(int, unsigned, unsigned)
EMU_MIXED(unsigned, int, unsigned)
EMU_MIXED(unsigned, unsigned long, unsigned long)
EMU_MIXED(unsigned long, unsigned, unsigned long)
EMU_MIXED(int, unsigned long, unsigned long)
EMU_MIXED(unsigned long, int, unsigned long)
#undef EMU_MIXED
static inline float min(float a, float b)
{
	return fminf(a, b);
}
static inline float max(float a, float b)
{
	return fmaxf(a, b);
}
static inline double min(double a, double b)
{
	return fmin(a, b);
}
static inline double max(double a, double b)
{
	return fmax(a, b);
}

#endif
