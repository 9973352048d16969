/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_guard.c: what is refused by its headers alone, before a byte of the body is kept.
 *
 * Host and Origin against pages of other sites (a browser of this machine can reach us; a name that
 * an attacker's DNS points here is not ours), two lengths or a length beside an encoding against
 * smuggling through proxies, keys, sizes. Main thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/hash.h"
#include "serve/http_private.h"

/* ---- keys ---- */

/* Tells keys apart in our own books, protects nothing. */
static uint64_t tenant_of(const char *key)
{
	uint64_t hash = hash64(key, strlen(key), 0);

	return hash ? hash : 1;
}

/* One key a line; empty lines and those that begin with # are none. */
static int read_keys(const char *path, FILE *f, struct http_keys *ret, struct err *err)
{
	char line[512];

	while (fgets(line, sizeof(line), f)) {
		size_t n = strcspn(line, "\r\n");

		while (n && (line[n - 1] == ' ' || line[n - 1] == '\t'))
			n--;
		line[n] = '\0';
		if (!n || line[0] == '#')
			continue;
		if (n >= sizeof(ret->text[0]) || ret->n == HTTP_MAX_KEYS)
			return err_set(err, -EINVAL,
				       "--api-key-file %s: at most %d keys of at most %zu bytes",
				       path, HTTP_MAX_KEYS, sizeof(ret->text[0]) - 1);
		ret->tenant[ret->n] = tenant_of(line);
		memcpy(ret->text[ret->n++], line, n + 1);
	}
	if (ferror(f))
		return err_set(err, -EIO, "--api-key-file %s: cannot be read", path);
	return ret->n ? 0 : err_set(err, -EINVAL, "--api-key-file %s: holds no key", path);
}

int http_keys_load(struct http *h, struct err *err)
{
	const char *path = h->config.api_key_file;
	struct http_keys *keys;
	FILE *f;
	int rc;

	if (!path)
		return 0;
	keys = calloc(1, sizeof(*keys));
	if (!keys)
		return err_set(err, -ENOMEM, "no memory for %s", path);
	f = fopen(path, "re");
	rc = f ? read_keys(path, f, keys, err)
	       : err_set(err, -errno, "--api-key-file %s: %s", path, strerror(errno));
	if (f)
		fclose(f);
	if (!rc)
		h->keys = *keys;
	explicit_bzero(keys, sizeof(*keys));
	free(keys);
	return rc;
}

/* The key's tenant; 0: it is none. Takes the same time for every key that is none. */
static uint64_t find_key(const struct http_keys *keys, const char *text)
{
	char padded[sizeof(keys->text[0])] = { 0 };
	uint64_t found = 0;
	size_t n = strlen(text);

	if (n >= sizeof(padded))
		return 0;
	memcpy(padded, text, n);
	for (unsigned i = 0; i < keys->n; i++) {
		unsigned differ = 0;

		for (size_t k = 0; k < sizeof(padded); k++)
			differ |= (unsigned)(padded[k] ^ keys->text[i][k]);
		found |= keys->tenant[i] & ((uint64_t)(differ != 0) - 1);
	}
	return found;
}

static const char *header(const struct http_request *r, const char *name)
{
	return MHD_lookup_connection_value(r->c, MHD_HEADER_KIND, name);
}

static bool check_key(struct http_request *r)
{
	const char *auth = header(r, "Authorization"), *plain = header(r, "x-api-key");

	if (!r->http->keys.n) {
		r->tenant = r->peer->owner;
		return true;
	}
	if (auth && !strncasecmp(auth, "Bearer ", 7))
		r->tenant = find_key(&r->http->keys, auth + 7 + strspn(auth + 7, " "));
	if (!r->tenant && plain)
		r->tenant = find_key(&r->http->keys, plain);
	/* who may use the native socket needs no key there either */
	if (!r->tenant)
		r->tenant = r->peer->owner;
	if (r->tenant || r->route->open)
		return true;
	fault_set(&r->fault, 401, "%s",
		  auth || plain ? "this API key is not known here"
				: "an API key is needed: Authorization: Bearer KEY");
	r->fault.code = "invalid_api_key";
	return false;
}

/* ---- names ---- */

/* Is @text (@n bytes) one of a list with commas? Case does not count. */
static bool in_list(const char *list, const char *text, size_t n)
{
	while (list && *list) {
		size_t len;

		list += strspn(list, ", ");
		len = strcspn(list, ", ");
		if (len == n && !strncasecmp(list, text, n))
			return true;
		list += len;
	}
	return false;
}

/* The name in "name:port" or "[::1]:port". */
static size_t host_length(const char *host)
{
	const char *colon;

	if (*host == '[')
		return strcspn(host, "]") + (strchr(host, ']') != NULL);
	colon = strchr(host, ':');
	return colon ? (size_t)(colon - host) : strlen(host);
}

/* An address in digits cannot be pointed elsewhere by a name server. */
static bool is_address(const char *host, size_t n)
{
	char text[64];
	uint8_t bytes[16];

	if (host[0] == '[' && n > 2) {
		host++;
		n -= 2;
	}
	if (n >= sizeof(text))
		return false;
	memcpy(text, host, n);
	text[n] = '\0';
	return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static bool check_host(struct http_request *r)
{
	const char *host = header(r, "Host");
	size_t n = host ? host_length(host) : 0;

	if (!host || r->peer->client[0] == AF_UNIX)
		return true;
	if (n == 9 && !strncasecmp(host, "localhost", 9))
		return true;
	if (n > 10 && !strncasecmp(host + n - 10, ".localhost", 10))
		return true;
	if (is_address(host, n) || in_list(r->http->config.allowed_hosts, host, n))
		return true;
	fault_set(&r->fault, 403,
		  "Host %.*s is not served here (sluiced --allow-host NAME allows it)",
		  (int)(n < 100 ? n : 100), host);
	r->fault.code = "host_not_allowed";
	return false;
}

bool http_origin_allowed(const struct http *h, const char *origin)
{
	return h->config.cors_origins && (in_list(h->config.cors_origins, origin, strlen(origin)) ||
					  in_list(h->config.cors_origins, "*", 1));
}

/* A page of our own, or of a site that is allowed. */
static bool check_origin(struct http_request *r)
{
	const char *origin = header(r, "Origin"), *host = header(r, "Host"), *at;

	if (!origin)
		return true;
	if (http_origin_allowed(r->http, origin)) {
		snprintf(r->origin, sizeof(r->origin), "%s", origin);
		return strlen(origin) < sizeof(r->origin) ||
		       fault_set(&r->fault, 403, "the Origin is too long");
	}
	at = strstr(origin, "://");
	if (at && host && !strcasecmp(at + 3, host))
		return true;
	fault_set(&r->fault, 403,
		  "pages of %.100s may not ask here (sluiced --cors-origin ORIGIN allows it)",
		  origin);
	r->fault.code = "origin_not_allowed";
	return false;
}

/* ---- lengths, and what may be there once ---- */

struct seen {
	unsigned lengths, encodings, hosts;
	size_t bytes;
	uint64_t length;
	bool bad_length, bad_encoding, bad_name;
};

/* Letters, digits and marks: "Content-Length " is another header here, and the same for who was asked before us. */
static bool is_name(const char *key)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

	return *key && !key[strspn(key, token)];
}

static enum MHD_Result see(void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct seen *s = arg;
	char *end;

	s->bad_name |= !is_name(key);
	s->bytes += strlen(key) + (value ? strlen(value) : 0) + 4;
	if (!strcasecmp(key, "Content-Length") && value) {
		s->lengths++;
		errno = 0;
		s->length = strtoull(value, &end, 10);
		s->bad_length |= errno || *end || end == value || *value == '-' || *value == '+';
	}
	s->hosts += !strcasecmp(key, "Host");
	if (!strcasecmp(key, "Transfer-Encoding")) {
		s->encodings++;
		s->bad_encoding |= !value || strcasecmp(value, "chunked") != 0;
	}
	return MHD_YES;
}

static bool check_headers(struct http_request *r)
{
	struct seen s = { 0 };

	MHD_get_connection_values(r->c, MHD_HEADER_KIND, see, &s);
	r->drop = (int64_t)s.length;
	if (s.bytes > HTTP_MAX_HEADERS) {
		r->close = true;
		return fault_set(&r->fault, 431, "the headers have more than %d bytes",
				 HTTP_MAX_HEADERS);
	}
	if (s.bad_name) {
		r->close = true;
		return fault_set(&r->fault, 400, "a header has a name that is none");
	}
	if (s.lengths + s.encodings > 1 || s.bad_length) {
		r->close = true;
		return fault_set(&r->fault, 400,
				 "a request says its length once: one Content-Length, or "
				 "Transfer-Encoding alone");
	}
	if (s.bad_encoding) { /* the library would wait for an end that is never said */
		r->close = true;
		return fault_set(&r->fault, 400, "the only Transfer-Encoding is chunked");
	}
	if (s.hosts > 1) { /* who looked at the last one before us would have let another pass */
		r->close = true;
		return fault_set(&r->fault, 400, "a request has one Host");
	}
	if (s.encodings)
		r->drop = -1; /* not known */
	if (s.length > HTTP_MAX_BODY) {
		r->close = true;
		return fault_set(&r->fault, 413, "the body may have %d MiB", HTTP_MAX_BODY >> 20);
	}
	return true;
}

static bool check_type(struct http_request *r)
{
	const char *type = header(r, "Content-Type"), *packed = header(r, "Content-Encoding");
	size_t n = type ? strcspn(type, "; ") : 0;

	if (packed && *packed && strcasecmp(packed, "identity") != 0)
		return fault_set(&r->fault, 415,
				 "bodies are read as they are: no Content-Encoding (%.30s)",
				 packed);
	if (!type && r->route->bare && !r->drop)
		return true;
	if (n == 16 && !strncasecmp(type, "application/json", 16))
		return true;
	return fault_set(&r->fault, 415, "the body must be JSON: Content-Type: application/json");
}

bool http_guard(struct http_request *r, const char *method)
{
	bool options = !strcmp(method, "OPTIONS");

	if (!check_headers(r) || !check_host(r) || !check_origin(r))
		return false;
	if (options) /* a browser's question, without a key */
		return true;
	if (!r->route)
		return false;
	return check_key(r) && (strcmp(method, "POST") || check_type(r));
}
