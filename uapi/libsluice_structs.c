/* SPDX-License-Identifier: MIT */
/* uapi/libsluice_structs.c: see libsluice_structs.h. */
#include "libsluice_structs.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "libsluice_wire.h"

/*
 * Above this a struct_size is no size but memory that nobody set. Far above what structs may grow
 * to, and far below what a stack has.
 */
#define SIZE_MOST 65536u

/* The first sizes never change: programs compiled then are still about. */
const struct sluice__kind sluice__settings_kind = { "struct sluice_settings", 40,
						    sizeof(struct sluice_settings) },
			  sluice__prompt_kind = { "struct sluice_prompt", 8 + 5 * sizeof(void *),
						  sizeof(struct sluice_prompt) },
			  sluice__done_kind = { "struct sluice_done", 96,
						sizeof(struct sluice_done) },
			  sluice__model_kind = { "struct sluice_model_info", 264,
						 sizeof(struct sluice_model_info) },
			  sluice__status_kind = { "struct sluice_status_info", 1232,
						  sizeof(struct sluice_status_info) };

/* The caller's struct_size, or 0 after a sentence. 0 where it is only read: the first version. */
static uint32_t caller_size(const struct sluice__kind *kind, const void *p, bool read_only,
			    struct sluice_fault *fault)
{
	uint32_t size;

	if (!p) {
		sluice__fail(fault, -EINVAL, "%s is needed, not NULL", kind->name);
		return 0;
	}
	memcpy(&size, p, sizeof(size));
	if (!size && read_only)
		return kind->first;
	if (size >= kind->first && size <= SIZE_MOST && !(size % sizeof(uint32_t)))
		return size;
	sluice__fail(fault, -EINVAL,
		     "struct_size of %s is %u, which no version of it has: set it to sizeof(%s)",
		     kind->name, size, kind->name);
	return 0;
}

int sluice__take(const struct sluice__kind *kind, void *dst, const void *src,
		 struct sluice_fault *fault)
{
	uint32_t size = caller_size(kind, src, true, fault);
	const uint8_t *p = src;

	if (!size)
		return -EINVAL;
	for (uint32_t i = kind->size; i < size; i++)
		if (p[i])
			return sluice__fail(
				fault, -E2BIG,
				"this program sets a field of %s at byte %u that the installed "
				"libsluice does not know (it knows %u bytes): install the "
				"libsluice that the program was compiled with, or a newer one",
				kind->name, i, kind->size);
	memset(dst, 0, kind->size);
	memcpy(dst, src, size < kind->size ? size : kind->size);
	return 0;
}

int sluice__check_room(const struct sluice__kind *kind, const void *dst, struct sluice_fault *fault)
{
	return caller_size(kind, dst, false, fault) ? 0 : -EINVAL;
}

void sluice__give(const struct sluice__kind *kind, void *dst, const void *src)
{
	uint32_t size;

	memcpy(&size, dst, sizeof(size));
	memset(dst, 0, size);
	memcpy(dst, src, size < kind->size ? size : kind->size);
	memcpy(dst, &size, sizeof(size));
}

int sluice__check_flags(uint32_t flags, uint32_t known, const char *what,
			struct sluice_fault *fault)
{
	if (!(flags & ~known))
		return 0;
	return sluice__fail(fault, -EOPNOTSUPP, "%s: 0x%x has no meaning there", what,
			    flags & ~known);
}
