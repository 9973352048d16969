/* SPDX-License-Identifier: MIT */
/*
 * tools/doctor_machine.h: the part of `sluice doctor` that looks at nodes, links and placement.
 *
 * Reads telemetry (daemon/telemetry as a library) and, where a socket is given, asks a running
 * daemon where its memory is. Changes nothing. One thread.
 */
#ifndef SLUICE_TOOLS_DOCTOR_MACHINE_H
#define SLUICE_TOOLS_DOCTOR_MACHINE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "telemetry/telemetry.h"
#include "uapi/sluice_status.h"

struct machine {
	struct telemetry_snapshot now;
	double node_gbs[NODES_KNOWN];	      /* measured reads, by index into now.nodes; 0: not */
	char notes[TELEMETRY_MAX_NOTES][256]; /* what telemetry reads in a lesser way, and why */
	unsigned n_notes;
	unsigned n_governors; /* CPUs whose governor is not "performance" */
	char gpu_driver[32];  /* version of NVIDIA's kernel module; "": none is loaded */
	bool daemon_asked;
	struct sluice_status_info daemon;
};

/* @root: prefix of /sys and /proc (tests), NULL: none. 0 or -errno and a sentence. */
int machine_look(const char *root, struct machine *ret, struct err *err);

/*
 * Reads each node's memory with its own cores, one node at a time; only where there are several
 * nodes. The figures are what `sluiced --peaks` takes. 0 or -errno and a sentence.
 */
int machine_measure_nodes(struct machine *m, const unsigned *cpus, unsigned n_cpus, double seconds,
			  struct err *err);

typedef void (*machine_advise_fn)(void *arg, const char *command, const char *problem);

/* Says what should be changed, each with the command. @want_bytes: of huge pages for experts. */
void machine_advise(const struct machine *m, uint64_t want_bytes, machine_advise_fn advise,
		    void *arg);

void machine_print(const struct machine *m);

/* Adds "nodes", "pci", "gpus", telemetry's notes and, of a daemon, its device and placement to @o. */
void machine_json(const struct machine *m, json_t *o);

#endif
