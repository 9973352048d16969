/* SPDX-License-Identifier: MIT */
/* daemon/serve/notify.c: tells the service manager where we are, see sd_notify(3). */
#include "serve/private.h"

#if defined(__has_include) && __has_include(<systemd/sd-daemon.h>)
#include <systemd/sd-daemon.h>

void notify_manager(const char *state)
{
	sd_notify(0, state); /* no manager is no fault */
}
#else
void notify_manager(const char *state)
{
}
#endif
