/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/weight.c: from a tensor of the file to the rows the engine multiplies with.
 *
 * Checks shape and type against what the hyper-parameters ask for; the container has already
 * checked that the bytes are there. Where a file interleaves what we keep apart, a weight gets
 * several runs of whole rows. Refuses formats without arithmetic by tensor and type. Called while
 * a model is opened, by its thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/quant.h"
#include "model/model_impl.h"

const struct gguf_tensor *build_find(struct build *b, uint32_t layer, const char *suffix)
{
	const struct gguf_tensor *t = NULL;
	char name[96];

	if (layer == GLOBAL_TENSOR)
		snprintf(name, sizeof(name), "%s", suffix);
	else
		snprintf(name, sizeof(name), "blk.%u.%s", layer, suffix);
	t = gguf_find(b->g, name);
	if (t)
		b->used[gguf_tensor_index(b->g, t)] = true;
	return t;
}

int build_need(struct build *b, uint32_t layer, const char *suffix, const struct gguf_tensor **ret)
{
	const struct gguf_tensor *t = build_find(b, layer, suffix);
	const char *file = gguf_label(b->g, 0);

	if (!t && layer == GLOBAL_TENSOR)
		return err_set(b->err, -EINVAL, "%s: tensor %s is missing", file, suffix);
	if (!t)
		return err_set(b->err, -EINVAL, "%s: tensor blk.%u.%s is missing (%s layer %u)",
			       file, layer, suffix,
			       b->recurrent && layer < b->m->n_layers && b->recurrent[layer]
				       ? "recurrent"
				       : "attention",
			       layer);
	*ret = t;
	return 0;
}

int build_check(const struct build *b, const struct gguf_tensor *t, uint64_t ne0, uint64_t ne1,
		uint64_t ne2)
{
	const struct quant_format *f = quant_format(t->type);

	if (t->ne[0] != ne0 || t->ne[1] != ne1 || t->ne[2] != ne2 || t->ne[3] != 1)
		return build_bad_tensor(b, t,
					"its shape is {%llu, %llu, %llu, %llu}, the "
					"hyper-parameters ask for {%llu, %llu, %llu, 1}",
					(unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
					(unsigned long long)t->ne[2], (unsigned long long)t->ne[3],
					(unsigned long long)ne0, (unsigned long long)ne1,
					(unsigned long long)ne2);
	if (!f || f->act == ACT_NONE)
		return build_bad_tensor(b, t, "its type %s is not supported", quant_name(t->type));
	return 0;
}

int build_rows(struct build *b, const struct gguf_tensor *t, uint64_t first, uint64_t rows,
	       uint64_t stride, uint64_t groups, struct weight *w)
{
	uint64_t row_bytes = quant_row_bytes(t->type, t->ne[0]);
	struct weight_run *runs;

	runs = realloc(w->runs, (w->n_runs + groups) * sizeof(*runs));
	if (!runs)
		return err_set(b->err, -ENOMEM, "out of memory");
	w->runs = runs;
	w->type = t->type;
	w->n_in = t->ne[0];
	w->row_bytes = row_bytes;
	w->name = t->name;
	for (uint64_t i = 0; i < groups; i++) {
		uint64_t offset = t->offset + (first + i * stride) * row_bytes;
		struct weight_run *last = w->n_runs ? &runs[w->n_runs - 1] : NULL;

		if (last && last->offset + last->rows * row_bytes == offset)
			last->rows += rows;
		else
			runs[w->n_runs++] = (struct weight_run){ t->file, offset, rows };
		w->n_out += rows;
	}
	return 0;
}

int build_matrix(struct build *b, uint32_t layer, const char *suffix, uint64_t n_in, uint64_t n_out,
		 struct weight *w)
{
	const struct gguf_tensor *t = NULL;
	int rc = build_need(b, layer, suffix, &t);

	if (!rc)
		rc = build_check(b, t, n_in, n_out, 1);
	return rc ? rc : build_rows(b, t, 0, n_out, 0, 1, w);
}
