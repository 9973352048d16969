/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/residency_impl.h: the insides of residency, shared by residency.c (its life) and
 * residency_warm.c (what it takes over from a process before). Nobody else includes it.
 */
#ifndef SLUICE_STORE_RESIDENCY_IMPL_H
#define SLUICE_STORE_RESIDENCY_IMPL_H

#include "store/residency.h"
#include "store/residency_cut.h"

struct warm;
struct slot;

struct piece_request {
	struct reader_request request; /* first: done() gets its address */
	struct slot *slot;
};

struct slot {
	struct piece_request *piece; /* as many as its class has */
	struct residency *residency;
	uint32_t cls, index; /* index: in its class */
	expert_id_t id;	     /* of whom it is, or was last */
	uint32_t number;     /* in all */
	uint64_t expert_bytes;
	_Atomic uint32_t pieces_left;
	_Atomic int failure; /* first errno of a piece */
};

struct residency {
	const struct model *model;
	struct reader *reader;
	struct warm *warm; /* marks of the host's slots; NULL: its memory ends with this process */
	struct node_split split;
	uint32_t n_classes, n_slots, align;
	struct slot_class *classes;
	uint32_t *class_of_layer;
	struct slot *slots;
	struct piece_request *pieces; /* of all slots */
	uint8_t **class_base;	      /* [class][NODES_SPLIT]: where its slots start on each node */
	struct copies *tier[TIER_NR]; /* NULL: the disk, and tiers that are not here */
	uint32_t *device_class;	      /* by layer */
	_Atomic uint32_t event;

	uint64_t slot_bytes_total, n_experts;
	_Atomic uint64_t n_resident, resident_bytes, loads, bytes_read, load_errors, evictions;
};

/* Says where the bytes of expert @id lie in slot @at, and what would be read; returns the number of pieces. */
uint32_t residency_place(struct residency *r, expert_id_t id, uint32_t at);

/* One expert more (@sign 1) or less in host memory. */
void residency_add_resident(struct residency *r, expert_id_t id, int sign);

#endif
