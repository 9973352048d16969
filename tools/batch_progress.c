/* SPDX-License-Identifier: MIT */
/* tools/batch_progress.c: see batch.h. Pure. */
#include <string.h>

#include "tools/batch.h"

#define BAR_MAX 30
#define BAR_MIN 10

/* The rate is that of bytes: documents differ in length more than answers do. */
double batch_seconds_left(const struct batch_progress *p, const struct batch *b, uint64_t now_ns)
{
	double spent = now_ns > p->began_ns ? (double)(now_ns - p->began_ns) / 1e9 : 0;
	uint64_t here = b->bytes_done - p->bytes_before;

	if (b->bytes_done >= b->bytes)
		return 0;
	if (!here || spent <= 0)
		return -1;
	return spent * (double)(b->bytes - b->bytes_done) / (double)here;
}

char *batch_duration(double seconds, char *buf, size_t room)
{
	unsigned long long s = seconds < 0	? 0
			       : seconds > 1e12 ? 1000000000000ull
						: (unsigned long long)(seconds + 0.5);

	if (s < 60)
		snprintf(buf, room, "%llu s", s);
	else if (s < 3600)
		snprintf(buf, room, "%llu min", (s + 30) / 60);
	else
		snprintf(buf, room, "%llu h %02llu min", s / 3600, s % 3600 / 60);
	return buf;
}

void batch_progress_text(const struct batch_progress *p, const struct batch *b, uint64_t now_ns,
			 bool bar, unsigned columns, char *buf, size_t room)
{
	double share = b->bytes ? (double)b->bytes_done / (double)b->bytes : 0;
	double left = batch_seconds_left(p, b, now_ns);
	char text[160], failed[32] = "", time[32], rest[48] = "";
	int width;

	if (b->n_failed)
		snprintf(failed, sizeof(failed), ", %zu failed", b->n_failed);
	if (left > 0)
		snprintf(rest, sizeof(rest), ", %s left", batch_duration(left, time, sizeof(time)));
	snprintf(text, sizeof(text), "%3.0f %%  %zu of %zu lines%s%s", share * 100, b->n_done,
		 b->n_lines, failed, rest);
	width = (int)columns - (int)strlen(text) - 3;
	width = width > BAR_MAX ? BAR_MAX : width;
	if (bar && width >= BAR_MIN) {
		char full[] = "##############################",
		     none[] = "..............................";
		int n = (int)(share * width);

		snprintf(buf, room, "[%.*s%.*s] %s", n, full, width - n, none, text);
	} else {
		snprintf(buf, room, "%.*s", (int)columns, text + strspn(text, " "));
	}
}
