/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/native.h: the native protocol (docs/protocol.md) as a transport: packets of a
 * SOCK_SEQPACKET socket to asks, events to packets. Main thread.
 */
#ifndef SLUICE_SERVE_NATIVE_H
#define SLUICE_SERVE_NATIVE_H

#include "serve/conn.h"

extern const struct transport native_transport;

#endif
