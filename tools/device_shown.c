/* SPDX-License-Identifier: MIT */
/* tools/device_shown.c: see device_shown.h. */
#include "tools/device_shown.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "tools/input.h"

void device_seen_take(const struct sluice_status_info *s, struct device_seen *ret)
{
	*ret = (struct device_seen){ .device = s->device,
				     .fills = s->device_fills,
				     .use = s->device_use };
}

void device_seen_add(struct device_seen *sum, const struct sluice_status_info *before,
		     const struct sluice_status_info *now)
{
	struct device_seen was = *sum;

	device_seen_take(now, sum);
#define ADD(field, from) sum->field = was.field + (now->from - before->from)
	ADD(device.hits, device.hits);
	ADD(device.misses, device.misses);
	ADD(device.fills, device.fills);
	ADD(device.fill_bytes, device.fill_bytes);
	ADD(device.launches, device.launches);
	ADD(device.layers, device.layers);
	ADD(device.handoff_ns, device.handoff_ns);
	ADD(fills.link_ns, device_fills.link_ns);
	ADD(fills.link_bytes, device_fills.link_bytes);
	ADD(fills.stops, device_fills.stops);
	ADD(use.both_ns, device_use.both_ns);
	ADD(use.either_ns, device_use.either_ns);
#undef ADD
}

static double over(double a, double b)
{
	return b > 0 ? a / b : -1;
}

double device_seen_hit_rate(const struct device_seen *d)
{
	return over((double)d->device.hits, (double)d->device.hits + (double)d->device.misses);
}

double device_seen_link_gbs(const struct device_seen *d)
{
	return over((double)d->fills.link_bytes, (double)d->fills.link_ns);
}

double device_seen_handoff_us(const struct device_seen *d)
{
	return over((double)d->device.handoff_ns / 1e3, (double)d->device.layers);
}

double device_seen_overlap(const struct device_seen *d)
{
	return over((double)d->use.both_ns, (double)d->use.either_ns);
}

/* Rates that clients add up stay numbers. */
static double or_zero(double value)
{
	return value > 0 ? value : 0;
}

json_t *device_seen_json(const struct device_seen *d)
{
	const struct sluice_status_device *v = &d->device;
	const double overlap = device_seen_overlap(d);

	if (!v->name[0])
		return json_null();
	return json_pack(
		"{s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:o, s:o, s:I, "
		"s:f}",
		"name", input_json_text(v->name, strlen(v->name)), "state",
		input_json_text(v->state, strlen(v->state)), "vram_bytes",
		(json_int_t)v->vram_bytes, "slots", (json_int_t)v->slots, "resident",
		(json_int_t)v->resident, "hits", (json_int_t)v->hits, "misses",
		(json_int_t)v->misses, "fills", (json_int_t)v->fills, "fill_bytes",
		(json_int_t)v->fill_bytes, "launches", (json_int_t)v->launches, "handoff_us",
		or_zero(device_seen_handoff_us(d)), "hit_rate", or_zero(device_seen_hit_rate(d)),
		"link_gbs", or_zero(device_seen_link_gbs(d)), "link_free_gbs",
		d->use.link_free ? json_real((double)d->use.link_free / 1e9) : json_null(),
		"overlap", overlap < 0 ? json_null() : json_real(overlap), "fill_stops",
		(json_int_t)d->fills.stops, "fill_gain", (double)d->fills.gain_ppm / 1e6);
}

void device_seen_print(const char *label, const struct device_seen *d)
{
	const struct sluice_status_device *v = &d->device;
	char a[32], b[32];

	if (!v->name[0])
		return;
	printf("%-10s %s, %s: %s taken, %" PRIu64 " of %" PRIu64 " slots with experts\n", label,
	       v->name, v->state, size_format(a, sizeof(a), v->vram_bytes), v->resident, v->slots);
	printf("           %" PRIu64 " uses, hit rate %.2f %%, %" PRIu64 " fills of %s, %" PRIu64
	       " launches, %.1f us a hand-off\n",
	       v->hits + v->misses, 100 * or_zero(device_seen_hit_rate(d)), v->fills,
	       size_format(b, sizeof(b), v->fill_bytes), v->launches,
	       or_zero(device_seen_handoff_us(d)));
	printf("           fills at %.2f GB/s", or_zero(device_seen_link_gbs(d)));
	if (d->use.link_free)
		printf(" of %.2f that others leave", (double)d->use.link_free / 1e9);
	printf(", stopped %" PRIu64
	       " times for not paying (%+.1f %% of a layer's time when last judged)",
	       d->fills.stops, (double)d->fills.gain_ppm / 1e4);
	if (device_seen_overlap(d) >= 0)
		printf("; hits and misses run together for %.1f %% of their time",
		       100 * device_seen_overlap(d));
	putchar('\n');
}
