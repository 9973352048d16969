/* SPDX-License-Identifier: MIT */
/*
 * tools/npy.h: writes a float32 matrix as NumPy's .npy (format 1.0), row after row. The file appears
 * under its name when it is complete. One thread.
 */
#ifndef SLUICE_TOOLS_NPY_H
#define SLUICE_TOOLS_NPY_H

#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct npy {
	FILE *file;
	char path[4096], part[4104]; /* part: the name while it is written */
	uint64_t rows;
	uint32_t columns;
};

/* 0 or -errno and a sentence. */
int npy_open(struct npy *f, const char *path, uint32_t columns, struct err *err);
int npy_append(struct npy *f, const float *rows, uint64_t n, struct err *err);
/* Writes the shape, renames. After npy_open() exactly one of close and abandon is called. */
int npy_close(struct npy *f, struct err *err);
void npy_abandon(struct npy *f);

#endif
