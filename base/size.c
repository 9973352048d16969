/* SPDX-License-Identifier: MIT */
/* base/size.c: see size.h. */
#include "base/size.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char units[] = "KMGT";

int size_parse(const char *text, uint64_t *ret_bytes)
{
	char *end;
	double value, scale = 1;

	if (!text || !((*text >= '0' && *text <= '9') || *text == '.'))
		return -EINVAL;
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		return -EINVAL;
	if (text[strspn(text, "0123456789")] == '\0') { /* whole bytes keep all 64 bits */
		unsigned long long whole;

		errno = 0;
		whole = strtoull(text, &end, 10);
		if (errno)
			return -ERANGE;
		*ret_bytes = whole;
		return 0;
	}
	value = strtod(text, &end);
	while (*end == ' ')
		end++;
	if (*end) {
		const char *unit = strchr(units, *end & ~32);

		if (unit && *unit) {
			scale = ldexp(1, 10 * (int)(unit - units + 1));
			end++;
			if (!strcasecmp(end, "ib") || !strcasecmp(end, "b"))
				end += strlen(end);
		} else if (!strcasecmp(end, "b")) {
			end++;
		}
	}
	if (*end)
		return -EINVAL;
	if (!(value * scale < 0x1p64))
		return -ERANGE;
	*ret_bytes = (uint64_t)(value * scale);
	return 0;
}

char *size_format(char *buf, size_t len, uint64_t bytes)
{
	double value = (double)bytes;
	int unit = -1;

	while (value >= 1024 && unit < 3)
		value /= 1024, unit++;
	if (unit < 0)
		snprintf(buf, len, "%llu B", (unsigned long long)bytes);
	else
		snprintf(buf, len, "%.2f %ciB", value, units[unit]);
	return buf;
}
