/* SPDX-License-Identifier: MIT */
/* daemon/serve/ask.c: see ask.h. */
#include "serve/ask.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/num.h"

static const struct {
	int code;
	const char *text;
} errors[] = {
#define SLUICE_X(name, value, err, closes, text) { value, text },
	SLUICE_ERRORS(SLUICE_X)
#undef SLUICE_X
};

const char *ask_error_text(int code)
{
	for (size_t i = 0; i < ARRAY_LEN(errors); i++)
		if (errors[i].code == code)
			return errors[i].text;
	return "unknown error";
}

void event_fini(struct event *e)
{
	free(e->owned);
	e->owned = NULL;
	if (e->kind == EVENT_LOGITS && e->u.logits.fd >= 0) {
		close(e->u.logits.fd);
		e->u.logits.fd = -1;
	}
}

void event_refuse(struct event *e, uint64_t id, int code, const struct err *why)
{
	*e = (struct event){ .kind = EVENT_REFUSED, .id = id, .u.refused.code = code };
	err_set(&e->u.refused.why, 0, "%s", why && why->text[0] ? why->text : ask_error_text(code));
}
