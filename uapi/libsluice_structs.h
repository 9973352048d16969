/* SPDX-License-Identifier: MIT */
/*
 * uapi/libsluice_structs.h: structs between a program and a libsluice of another age (the rule is at
 * the top of sluice.h). Not a public header. Any thread.
 */
#ifndef SLUICE_LIBSLUICE_STRUCTS_H
#define SLUICE_LIBSLUICE_STRUCTS_H

#include <stddef.h>
#include <stdint.h>

struct sluice_fault;

/* One kind of struct that callers allocate. */
struct sluice__kind {
	const char *name;
	uint32_t first; /* bytes of the first version, which no caller is below */
	uint32_t size;	/* bytes that this library knows */
};

extern const struct sluice__kind sluice__settings_kind, sluice__prompt_kind, sluice__done_kind,
	sluice__model_kind, sluice__status_kind;

/*
 * Copies the caller's struct @src into @dst, which has room for kind->size bytes; what an older
 * caller does not have becomes 0. -EINVAL: no version had that struct_size; -E2BIG: a newer caller
 * uses what this library does not know.
 */
int sluice__take(const struct sluice__kind *kind, void *dst, const void *src,
		 struct sluice_fault *fault);

/* 0 where sluice__give() may write to @dst, else -EINVAL. Asked before anything is sent. */
int sluice__check_room(const struct sluice__kind *kind, const void *dst,
		       struct sluice_fault *fault);

/*
 * Copies the answer @src of kind->size bytes into the caller's struct, as much as that has; what a
 * newer caller has beyond it becomes 0. The caller's struct_size stays. @dst passed
 * sluice__check_room().
 */
void sluice__give(const struct sluice__kind *kind, void *dst, const void *src);

/* -EOPNOTSUPP where @flags has bits out of those in @known. @what: "flags of struct x". */
int sluice__check_flags(uint32_t flags, uint32_t known, const char *what,
			struct sluice_fault *fault);

#endif
