/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/link.c: PCIe arithmetic: what a link of a speed and width carries, and whether it
 * runs below what both its ends can do. Pure, any thread.
 */
#include "telemetry/telemetry.h"

#define CLASS_DISPLAY	  0x03u
#define CLASS_ACCELERATOR 0x12u

/* Line codes: 8b/10b up to 5 GT/s, 128b/130b up to 32 GT/s, flits of 64 GT/s counted as they are. */
uint64_t telemetry_link_bytes_per_s(uint64_t speed_mts, uint64_t width)
{
	uint64_t bits = speed_mts; /* 10^6 per second and lane */

	if (!speed_mts || !width || speed_mts > 256000 || width > 32)
		return TELEMETRY_UNKNOWN; /* TELEMETRY_UNKNOWN itself, too */
	bits *= 1000000u;
	if (speed_mts <= 5000)
		bits = bits / 10 * 8;
	else if (speed_mts <= 32000)
		bits = bits / 130 * 128;
	return bits / 8 * width;
}

static enum telemetry_answer smaller(uint64_t now, uint64_t most)
{
	if (now == TELEMETRY_UNKNOWN || most == TELEMETRY_UNKNOWN)
		return TELEMETRY_MAYBE;
	return now < most ? TELEMETRY_YES : TELEMETRY_NO;
}

/*
 * A lost lane never comes back by itself, and storage keeps its speed: those are degraded. A GPU
 * lowers the speed of its link while it has nothing to do, so a low speed alone says nothing until
 * the link is looked at under load.
 */
void telemetry_judge_link(struct telemetry_pci *p)
{
	enum telemetry_answer speed = smaller(p->speed_mts, p->max_speed_mts);
	enum telemetry_answer width = smaller(p->width, p->max_width);
	unsigned base = p->class_code >> 16;
	bool gpu = base == CLASS_DISPLAY || base == CLASS_ACCELERATOR;

	if (speed == TELEMETRY_YES || width == TELEMETRY_YES)
		p->below = TELEMETRY_YES;
	else if (speed == TELEMETRY_MAYBE || width == TELEMETRY_MAYBE)
		p->below = TELEMETRY_MAYBE;
	else
		p->below = TELEMETRY_NO;
	if (p->below == TELEMETRY_YES && p->far_end_unknown)
		p->below = TELEMETRY_MAYBE; /* a x16 card may well sit in a x8 slot */
	p->may_idle = p->below;
	p->degraded = p->below;
	if (p->below != TELEMETRY_YES)
		return;
	p->may_idle = gpu && width == TELEMETRY_NO ? TELEMETRY_YES : TELEMETRY_NO;
	if (p->may_idle == TELEMETRY_YES)
		p->degraded = TELEMETRY_MAYBE;
}
