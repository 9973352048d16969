/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/script_line.h: what a line of a telemetry script says of a sample. One thing a line:
 *
 *	node ID [total= free= file= anon= socket= cpus= distance=10,21 peak= hit= miss= other=
 *		 read_rate= write_rate= total_rate=]	distance: to nodes 0, 1, ...
 *	huge NODE PAGE_BYTES [total= free= surplus=]
 *	counter KEY kind=read|write|total [socket= bytes= count= enabled= running= generation= lost=]
 *	pci BDF [node= class= speed= width= max_speed= max_width= bandwidth= max_bandwidth= asleep=]
 *	disk NAME [node= read= inflight=]
 *	gpu BDF [memory_total= memory_free= gen= width= max_gen= max_width= rx= tx= busy= throttle=]
 *	pressure cpu|memory|io [some= full= some_us= full_us=]
 *
 * Numbers are whole, decimal or 0x; sizes in bytes; '?' or leaving out: unknown. One thread.
 */
#ifndef SLUICE_TELEMETRY_SCRIPT_LINE_H
#define SLUICE_TELEMETRY_SCRIPT_LINE_H

#include <stdint.h>

#include "telemetry/telemetry.h"

/* The next word from *at on, which is moved behind it and its space; "" at the end. Writes to the text. */
char *script_word(char **at);

/*
 * Adds what the line that begins with @what says in @words, which are written to, to @sample, as of @at on the
 * monotonic clock. 0, or -EINVAL: it is no such line, or there is no room for it.
 */
int script_line(const char *what, char *words, uint64_t at, struct telemetry_sample *sample);

#endif
