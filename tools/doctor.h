/* SPDX-License-Identifier: MIT */
/*
 * tools/doctor.h: what `sluice doctor` found between who looks (doctor.c, doctor_machine.c) and who tells
 * (doctor_report.c).
 */
#ifndef SLUICE_TOOLS_DOCTOR_H
#define SLUICE_TOOLS_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "tools/diskread.h"
#include "tools/doctor_machine.h"
#include "tools/memread.h"
#include "tools/plan.h"

#define DOCTOR_MAX_ADVICE 16

/* What is the matter, what it costs, the command. */
struct doctor_advice {
	char problem[256], command[256];
};

struct doctor_fit {
	char name[128], arch[32];
	uint64_t active_bytes;
	struct plan plan;   /* with the daemon's defaults */
	struct err refused; /* why it would not start; where memory is short: sizes alone */
};

struct doctor_facts {
	char kernel[96], cpu[128], level[16], nodes[64], governor[32], thp[64], io_uring[128];
	unsigned cpus[MEMREAD_MAX_CORES], n_cores;
	struct limits limits; /* of a process such as this one */
	uint64_t room;	      /* limits.room_bytes, or what to go by where that is unknown */
	uint64_t memlock;
	bool uring_switched_off; /* by the sysctl */
	bool may_lock;		 /* CAP_IPC_LOCK: the limit does not count */
	double mem_gbs, gmadds;
	bool disk_measured, model_given;
	struct diskread disk;
	uint64_t read_align; /* of the model's disk or of the one measured, else LIMITS_UNKNOWN */
	struct doctor_fit fit;
	struct machine machine;
	struct plan_machine plan_machine; /* this machine, as it is planned for */
	struct doctor_advice advice[DOCTOR_MAX_ADVICE];
	unsigned n_advice;
};

/* On stdout, as text or as one JSON object; the latter 0 or -errno. */
void doctor_print(const struct doctor_facts *f);
int doctor_print_json(const struct doctor_facts *f);

#endif
