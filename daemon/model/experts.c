/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/experts.c: where the bytes of each expert of a layer are.
 *
 * The tensors of a layer keep their own types: gate, up and down may differ, and so may layers.
 * An expert is a slice of two tensors (gate_up merged: gate rows first; or, by the activation, no
 * gate at all) or of three. Refuses
 * tensors whose number of experts is not the file's own expert_count. Called while a model is
 * opened, by its thread.
 */
#include <errno.h>

#include "kernels/quant.h"
#include "model/model_impl.h"

/* One more tensor that experts have a slice of. */
static int add_part(struct build *b, struct expert_layout *x, const struct gguf_tensor *t,
		    uint64_t n_in, uint64_t n_out)
{
	int rc = build_check(b, t, n_in, n_out, b->m->n_expert);

	if (rc)
		return rc;
	x->part[x->n_parts++] = (struct expert_part){
		.file = t->file,
		.offset = t->offset,
		.bytes = t->bytes / b->m->n_expert,
	};
	x->bytes += t->bytes / b->m->n_expert;
	return 0;
}

/* Matrix @which lies in the part added last, @offset bytes into it. */
static void place_matrix(struct expert_layout *x, enum expert_matrix which,
			 const struct gguf_tensor *t, uint64_t n_out, uint64_t offset)
{
	x->matrix[which].part = x->n_parts - 1;
	x->matrix[which].offset = offset;
	x->matrix[which].type = t->type;
	x->matrix[which].n_in = t->ne[0];
	x->matrix[which].n_out = n_out;
	x->matrix[which].row_bytes = quant_row_bytes(t->type, t->ne[0]);
}

static int expert_matrix(struct build *b, uint32_t i, const char *suffix, enum expert_matrix which,
			 uint64_t n_in, uint64_t n_out)
{
	struct expert_layout *x = &b->m->layers[i].experts;
	const struct gguf_tensor *t = NULL;
	int rc = build_need(b, i, suffix, &t);

	if (!rc)
		rc = add_part(b, x, t, n_in, n_out);
	if (!rc)
		place_matrix(x, which, t, n_out, 0);
	return rc;
}

int build_experts(struct build *b, uint32_t i)
{
	bool gated = activation_is_gated(b->m->activation);
	const struct gguf_tensor *merged = gated ? build_find(b, i, "ffn_gate_up_exps.weight")
						 : NULL;
	struct expert_layout *x = &b->m->layers[i].experts;
	uint64_t d = b->m->n_embd, f = b->m->n_ff_expert;
	int rc = 0;

	if (merged) {
		rc = add_part(b, x, merged, d, 2 * f);
		if (rc)
			return rc;
		place_matrix(x, EXPERT_GATE, merged, f, 0);
		place_matrix(x, EXPERT_UP, merged, f, f * x->matrix[EXPERT_GATE].row_bytes);
	} else {
		if (gated)
			rc = expert_matrix(b, i, "ffn_gate_exps.weight", EXPERT_GATE, d, f);
		if (!rc)
			rc = expert_matrix(b, i, "ffn_up_exps.weight", EXPERT_UP, d, f);
		if (rc)
			return rc;
	}
	return expert_matrix(b, i, "ffn_down_exps.weight", EXPERT_DOWN, f, d);
}
