/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/residency_cut.h: how an expert is cut into pieces and a slot into their rooms.
 *
 * Pure arithmetic on the model, the reader's alignment and the node split; no state, any thread.
 * One node: a piece is a part of the file (a whole matrix, or gate and up merged). More nodes: a
 * piece is one node's rows of one matrix. A slot has one room per piece, those of a node side by
 * side, and the slots' rooms of a node lie in that node's region of the arena.
 * Each room suffices for the worst lead-in: an expert's stride need not be a multiple of the
 * alignment, so the experts of one tensor differ in it, and layers whose tensors start at different
 * misalignments share a class that way, for at most one alignment unit per piece.
 */
#ifndef SLUICE_STORE_RESIDENCY_CUT_H
#define SLUICE_STORE_RESIDENCY_CUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/divide.h"
#include "model/model.h"
#include "base/nodes.h"

#define MAX_PIECES (EXPERT_MATRIX_NR * NODES_SPLIT)

struct expert_piece {
	uint32_t part, node;	/* of the layout; index into the split */
	uint32_t matrix;	/* more nodes than one: whose rows it holds */
	uint64_t first_row;	/* likewise */
	uint64_t offset, bytes; /* in the part */
};

/* The pieces of an expert of this layout, none of them empty; returns their number. */
uint32_t cut_expert(const struct expert_layout *l, const struct node_split *split,
		    struct expert_piece ret[MAX_PIECES]);

/* A class of slots: experts whose pieces need the same rooms. */
struct slot_class {
	uint32_t n_pieces;
	uint32_t node[MAX_PIECES];	  /* of each piece */
	uint64_t at[MAX_PIECES];	  /* its room's place in its node's part of the slot */
	uint64_t node_bytes[NODES_SPLIT]; /* of a slot, by node */
	uint64_t slot_bytes;		  /* their sum */
	uint64_t n_experts;
	uint32_t n_slots;
};

/*
 * Fills classes (room for m->n_layers) and class_of_layer with the classes of the model's layers;
 * returns the number of classes. Layers without experts are left out.
 */
uint32_t cut_classes(const struct model *m, uint32_t align, const struct node_split *split,
		     struct slot_class *classes, uint32_t *class_of_layer);

/* What a class asks for when a budget is divided: at the least the experts of one token. */
struct slot_share cut_share(const struct model *m, const struct slot_class *c);

/*
 * Divides a budget among @n classes: their n_slots; *ret_bytes: of all slots. -ENOMEM, or -ENOSPC and a
 * sentence where not even the least fits.
 */
int cut_divide(const struct model *m, struct slot_class *classes, uint32_t n, uint64_t budget,
	       uint64_t *ret_bytes, struct err *err);

#endif
