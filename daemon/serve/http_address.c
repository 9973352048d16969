/* SPDX-License-Identifier: MIT */
/* daemon/serve/http_address.c: see http_address.h. */
#include "serve/http_address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

int http_address_parse(const char *text, struct http_address *ret, struct err *err)
{
	const size_t path_max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
	const char *colon = strrchr(text, ':'), *from = text;
	size_t len = colon ? (size_t)(colon - text) : 0;

	if (!strcmp(text, "systemd"))
		return 0;
	if (!strncmp(text, "unix:", 5))
		return text[5] && strlen(text + 5) <= path_max
			       ? 0
			       : err_set(err, -EINVAL, "%s: a socket path has 1 to %zu bytes", text,
					 path_max);
	if (strstr(text, "://"))
		return err_set(err, -EINVAL,
			       "%s is a URL: HOST:PORT alone is meant, such as "
			       "127.0.0.1:8080",
			       text);
	if (*text && strspn(text, "0123456789") == strlen(text))
		return err_set(err, -EINVAL, "%s is a port alone: 127.0.0.1:%s", text, text);
	if (!len || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
	    strtoul(colon + 1, NULL, 10) > 65535 || len >= sizeof(ret->host))
		return err_set(err, -EINVAL, "%s is not HOST:PORT, unix:PATH or systemd", text);
	if (!ret)
		return 0;
	if (*text == '[' && colon[-1] == ']') {
		from++;
		len -= 2;
	}
	memcpy(ret->host, from, len);
	ret->host[len] = '\0';
	ret->port = colon + 1;
	ret->any = !strcmp(ret->host, "*");
	return 0;
}

bool http_address_loopback(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> 24 == 127;
	return addr->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)addr)->sin6_addr);
}

int http_address_open(struct err *err)
{
	return err_set(
		err, -EINVAL,
		"--http: other machines can reach this address: give --api-key-file FILE, or "
		"--no-auth where that is meant");
}

/* Is it one that others reach, as far as its text says? */
static bool is_open(const struct http_address *at)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV },
			*all;
	bool open;

	if (at->any)
		return true;
	if (getaddrinfo(at->host, at->port, &hints, &all))
		return false;
	open = !http_address_loopback(all->ai_addr);
	freeaddrinfo(all);
	return open;
}

int http_addresses_check(const struct http_config *config, struct err *err)
{
	for (unsigned i = 0; i < config->addresses.n; i++) {
		struct http_address at = { .port = NULL };
		int rc = http_address_parse(config->addresses.text[i], &at, err);

		if (!rc && at.port && !config->api_key_file && !config->no_auth && is_open(&at))
			rc = http_address_open(err);
		if (rc)
			return rc;
	}
	return 0;
}
