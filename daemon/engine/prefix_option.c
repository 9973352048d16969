/* SPDX-License-Identifier: MIT */
/* daemon/engine/prefix_option.c: what --prefix-cache says, for the daemon and for `sluice plan`. See memory.h. */
#include <errno.h>
#include <string.h>

#include "base/size.h"
#include "engine/engine.h"
#include "engine/memory.h"

int prefix_cache_parse(const char *text, uint64_t *ret, struct err *err)
{
	uint64_t bytes = 0;

	if (!strcmp(text, "auto")) {
		*ret = 0;
		return 0;
	}
	if (strcmp(text, "off") != 0 && size_parse(text, &bytes))
		return err_set(err, -EINVAL, "a size such as 2G, auto or off");
	*ret = bytes ? bytes : PREFIX_CACHE_OFF;
	return 0;
}
