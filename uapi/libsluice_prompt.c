/* SPDX-License-Identifier: MIT */
/* uapi/libsluice_prompt.c: see libsluice_prompt.h. */
#include "libsluice_prompt.h"

#include <errno.h>
#include <string.h>

#include "libsluice_structs.h"
#include "libsluice_wire.h"

int sluice__take_prompt(const struct sluice_prompt *prompt, struct sluice_prompt *ret,
			struct sluice_fault *fault)
{
	int rc = sluice__take(&sluice__prompt_kind, ret, prompt, fault);

	if (!rc)
		rc = sluice__check_flags(
			ret->flags, SLUICE_CHAT | SLUICE_SPECIAL | SLUICE_THINK | SLUICE_NO_THINK,
			"flags of struct sluice_prompt", fault);
	if (rc)
		return rc;
	if (ret->tokens && (ret->text || ret->system))
		return sluice__fail(fault, -EINVAL,
				    "a prompt is tokens or text, not both: tokens and %s are set",
				    ret->text ? "text" : "system");
	if (ret->system && *ret->system && !(ret->flags & SLUICE_CHAT))
		return sluice__fail(fault, -EINVAL,
				    "a system text is a part of a chat: it needs SLUICE_CHAT");
	return 0;
}

struct sluice__parts sluice__split_prompt(const struct sluice_prompt *p)
{
	struct sluice__parts parts = { .flags = p->flags };

	if (p->tokens) {
		parts.flags |= SLUICE_TOKENS_IN;
		parts.b = p->tokens;
		parts.b_bytes = p->n_tokens > SLUICE_PAYLOAD_MAX ? (size_t)SLUICE_PAYLOAD_MAX + 1
								 : p->n_tokens * sizeof(uint32_t);
		return parts;
	}
	if (p->system) {
		parts.a = p->system;
		parts.a_bytes = strlen(p->system);
	}
	parts.b = p->text;
	parts.b_bytes = p->text_bytes;
	return parts;
}
