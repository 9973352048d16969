/* SPDX-License-Identifier: MIT */
/* daemon/chat/rendered.c: the life of what a template wrote. See template.h. */
#include <stdlib.h>

#include "chat/template.h"

void rendered_done(struct rendered *r)
{
	free(r->text);
	free(r->trusted);
	*r = (struct rendered){ 0 };
}
