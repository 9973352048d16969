/* SPDX-License-Identifier: MIT */
/* daemon/store/residency_cut.c: see residency_cut.h. */
#include "store/residency_cut.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "store/residency.h"

uint32_t cut_expert(const struct expert_layout *l, const struct node_split *split,
		    struct expert_piece ret[MAX_PIECES])
{
	uint32_t n = 0;

	if (split->n == 1) {
		for (uint32_t p = 0; p < l->n_parts; p++)
			ret[n++] = (struct expert_piece){ .part = p, .bytes = l->part[p].bytes };
		return n;
	}
	for (uint32_t k = 0; k < EXPERT_MATRIX_NR; k++)
		for (uint32_t i = 0; i < split->n; i++) {
			uint64_t row, end, row_bytes = l->matrix[k].row_bytes;

			node_split_rows(split, l->matrix[k].n_out, i, &row, &end);
			if (row == end)
				continue;
			ret[n++] = (struct expert_piece){ .part = l->matrix[k].part,
							  .node = i,
							  .matrix = k,
							  .first_row = row,
							  .offset = l->matrix[k].offset +
								    row * row_bytes,
							  .bytes = (end - row) * row_bytes };
		}
	return n;
}

static uint64_t piece_room(uint64_t bytes, uint32_t align)
{
	return align_up(bytes + align - 1, align);
}

static void describe_class(const struct expert_layout *l, uint32_t align,
			   const struct node_split *split, struct slot_class *c)
{
	struct expert_piece pieces[MAX_PIECES];

	memset(c, 0, sizeof(*c));
	c->n_pieces = cut_expert(l, split, pieces);
	for (uint32_t i = 0; i < c->n_pieces; i++) {
		uint64_t room = piece_room(pieces[i].bytes, align);

		c->node[i] = pieces[i].node;
		c->at[i] = c->node_bytes[c->node[i]];
		c->node_bytes[c->node[i]] += room;
		c->slot_bytes += room;
	}
}

static bool same_class(const struct slot_class *a, const struct slot_class *b)
{
	return a->n_pieces == b->n_pieces && !memcmp(a->node, b->node, sizeof(a->node)) &&
	       !memcmp(a->at, b->at, sizeof(a->at)) &&
	       !memcmp(a->node_bytes, b->node_bytes, sizeof(a->node_bytes));
}

uint32_t cut_classes(const struct model *m, uint32_t align, const struct node_split *split,
		     struct slot_class *classes, uint32_t *class_of_layer)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->n_layers; i++) {
		struct slot_class c;
		uint32_t k = 0;

		class_of_layer[i] = RESIDENCY_NO_CLASS;
		if (!m->layers[i].experts.n_parts)
			continue;
		describe_class(&m->layers[i].experts, align, split, &c);
		while (k < n && !same_class(&classes[k], &c))
			k++;
		if (k == n)
			classes[n++] = c;
		classes[k].n_experts += m->n_expert;
		class_of_layer[i] = k;
	}
	return n;
}

struct slot_share cut_share(const struct model *m, const struct slot_class *c)
{
	return (struct slot_share){ .slot_bytes = c->slot_bytes,
				    .experts = c->n_experts,
				    .least = u64_min(m->n_expert_used, c->n_experts) };
}

int cut_divide(const struct model *m, struct slot_class *classes, uint32_t n, uint64_t budget,
	       uint64_t *ret_bytes, struct err *err)
{
	struct slot_share *shares = calloc((size_t)n + 1, sizeof(*shares));
	int rc;

	if (!shares)
		return -ENOMEM;
	for (uint32_t k = 0; k < n; k++)
		shares[k] = cut_share(m, &classes[k]);
	rc = divide_budget(shares, n, budget, ret_bytes, err);
	for (uint32_t k = 0; k < n && !rc; k++)
		classes[k].n_slots = (uint32_t)shares[k].slots;
	free(shares);
	return rc;
}

uint32_t residency_shares(const struct model *m, uint32_t align, const struct node_split *split,
			  struct slot_share *shares, uint32_t *class_of_layer)
{
	struct slot_class *classes = calloc((size_t)m->n_layers + 1, sizeof(*classes));
	uint32_t *of = calloc((size_t)m->n_layers + 1, sizeof(*of));
	struct node_split one = node_split_one();
	uint32_t n = 0;

	if (classes && of)
		n = cut_classes(m, align, split ? split : &one, classes, of);
	for (uint32_t k = 0; k < n; k++)
		shares[k] = cut_share(m, &classes[k]);
	for (uint32_t i = 0; of && class_of_layer && i < m->n_layers; i++)
		class_of_layer[i] = classes ? of[i] : RESIDENCY_NO_CLASS;
	free(classes);
	free(of);
	return n;
}

void residency_need(const struct model *m, uint32_t align, const struct node_split *split,
		    struct residency_need *ret)
{
	struct slot_share *shares = calloc((size_t)m->n_layers + 1, sizeof(*shares));
	uint32_t n = shares ? residency_shares(m, align, split, shares, NULL) : 0;

	ret->least_bytes = divide_least_bytes(shares, n);
	ret->all_bytes = divide_all_bytes(shares, n);
	free(shares);
}
