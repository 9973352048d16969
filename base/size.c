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

int size_parse_share(const char *text, uint64_t *ret_bytes, uint32_t *ret_percent, struct err *err)
{
	size_t len = strlen(text);
	unsigned long percent = 0;
	uint64_t bytes = 0;

	if (len && text[len - 1] == '%') {
		char *end;

		percent = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;
		if (percent < 1 || percent > 100 || end != text + len - 1)
			return err_set(err, -EINVAL, "%s is not 1%% to 100%%", text);
	} else if (size_parse(text, &bytes) || !bytes) {
		return err_set(err, -EINVAL, "%s is not a size such as 12G, or a percentage", text);
	}
	*ret_bytes = bytes;
	*ret_percent = (uint32_t)percent;
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
