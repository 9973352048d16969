/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_address.h: the addresses of --http as they are written. Nothing is opened here. Main thread.
 */
#ifndef SLUICE_SERVE_HTTP_ADDRESS_H
#define SLUICE_SERVE_HTTP_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/err.h"
#include "serve/http.h"

struct http_address {
	char host[256];	  /* of "[::1]:PORT" what stands between the brackets */
	const char *port; /* digits, in the text that was taken apart */
	bool any;	  /* "*:PORT" */
};

/*
 * "HOST:PORT", "[::1]:PORT", "*:PORT" into *ret; "unix:PATH" and "systemd" leave it alone. @ret NULL: the form
 * alone is looked at. 0, or -EINVAL and a sentence.
 */
int http_address_parse(const char *text, struct http_address *ret, struct err *err);

/* Do only programs of this machine reach @addr, of AF_INET or AF_INET6? */
bool http_address_loopback(const struct sockaddr *addr);

/* -EINVAL and the sentence for an address that others reach, without keys. */
int http_address_open(struct err *err);

/*
 * The same of all addresses of @config, opening none: those in digits that other machines reach must have keys.
 * Names are not resolved. 0, or -EINVAL and a sentence.
 */
int http_addresses_check(const struct http_config *config, struct err *err);

#endif
