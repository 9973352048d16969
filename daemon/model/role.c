/* SPDX-License-Identifier: MIT */
/* daemon/model/role.c: the table of role.h. */
#include "model/role.h"

#define ROLE_ROW(role, kind, owner, name, n_in, n_out) \
	{ ROLE_##kind, OWNER_##owner, name, DIM_##n_in, DIM_##n_out },
const struct role_info role_info[ROLE_NR] = { WEIGHT_ROLES(ROLE_ROW) };
#undef ROLE_ROW
