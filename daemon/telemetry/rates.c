/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/rates.c: what happened between two samples, in bytes per second.
 *
 * Counters of memory controllers are added up per socket; a node gets its socket's rate where it
 * is the socket's only one. A sum with a hole would look like an idle machine, so one counter that
 * cannot be trusted (went back, began anew, was lost, never ran, changed source) makes the sum
 * unknown. Pure, any thread.
 */
#include <string.h>

#include "base/num.h"
#include "telemetry/telemetry.h"

#define NS_PER_S	   1000000000u
/* No machine moves this much: what is above it comes from a broken counter. */
#define ABSURD_BYTES_PER_S 1e15

struct sum {
	double per_s;
	bool any, hole;
};

/* One socket's, by enum telemetry_kind. */
struct sums {
	struct sum kind[TELEMETRY_TOTAL + 1];
	enum telemetry_source source;
	uint64_t updated_ns;
};

static const struct telemetry_counter *find_before(const struct telemetry_sample *before,
						   const struct telemetry_counter *c,
						   uint32_t guess)
{
	if (!before)
		return NULL;
	if (guess < before->n_counters && before->counters[guess].key == c->key &&
	    before->counters[guess].source == c->source)
		return &before->counters[guess]; /* the usual case: nothing was added or lost */
	for (uint32_t i = 0; i < before->n_counters; i++)
		if (before->counters[i].key == c->key && before->counters[i].source == c->source)
			return &before->counters[i];
	return NULL;
}

/* False where the two readings say nothing about the time between them. */
static bool counter_rate(const struct telemetry_counter *a, const struct telemetry_counter *b,
			 double *ret_per_s)
{
	double ran;

	if (!a || a->lost || b->lost || a->generation != b->generation ||
	    a->bytes_per_count != b->bytes_per_count || b->updated_ns <= a->updated_ns ||
	    b->count < a->count || b->enabled_ns <= a->enabled_ns || b->running_ns <= a->running_ns)
		return false;
	/*
	 * Bytes are count * enabled / running, and the time they took is enabled: the kernel takes
	 * it at the very reading, while updated_ns is the sample's, some counters earlier. What is
	 * left is the time that the counter ran.
	 */
	ran = (double)(b->running_ns - a->running_ns) / NS_PER_S;
	*ret_per_s = (double)(b->count - a->count) * (double)b->bytes_per_count / ran;
	return *ret_per_s < ABSURD_BYTES_PER_S;
}

static void add_counter(struct sums *socket, const struct telemetry_sample *before,
			const struct telemetry_counter *c, uint32_t index)
{
	struct sum *sum = &socket->kind[c->kind];
	double per_s;

	sum->any = true;
	if (counter_rate(find_before(before, c, index), c, &per_s))
		sum->per_s += per_s;
	else
		sum->hole = true;
	if (socket->source == TELEMETRY_NONE || c->source < socket->source)
		socket->source = c->source;
	if (!socket->updated_ns || c->updated_ns < socket->updated_ns)
		socket->updated_ns = c->updated_ns; /* a sum is as old as its oldest part */
}

static uint64_t sum_value(const struct sum *s)
{
	return s->any && !s->hole ? (uint64_t)(s->per_s + 0.5) : TELEMETRY_UNKNOWN;
}

static void set_rate(struct telemetry_rate *rate, const struct sums *socket)
{
	const struct sum *both = &socket->kind[TELEMETRY_TOTAL];

	rate->read_bytes_per_s = sum_value(&socket->kind[TELEMETRY_READ]);
	rate->write_bytes_per_s = sum_value(&socket->kind[TELEMETRY_WRITE]);
	rate->total_bytes_per_s = sum_value(both);
	if (!both->any && rate->read_bytes_per_s != TELEMETRY_UNKNOWN &&
	    rate->write_bytes_per_s != TELEMETRY_UNKNOWN)
		rate->total_bytes_per_s = rate->read_bytes_per_s + rate->write_bytes_per_s;
	if (rate->read_bytes_per_s != TELEMETRY_UNKNOWN ||
	    rate->write_bytes_per_s != TELEMETRY_UNKNOWN ||
	    rate->total_bytes_per_s != TELEMETRY_UNKNOWN)
		rate->origin = (struct telemetry_origin){ socket->source, socket->updated_ns };
}

/* The sockets that nodes with CPUs are on, ascending by first node. */
static void find_sockets(struct telemetry_snapshot *s)
{
	s->n_sockets = 0;
	for (uint32_t i = 0; i < s->n_nodes; i++) {
		uint32_t at = 0;

		if (s->nodes[i].socket < 0)
			continue;
		while (at < s->n_sockets && s->sockets[at].id != s->nodes[i].socket)
			at++;
		if (at == TELEMETRY_MAX_SOCKETS) {
			s->truncated = true;
			continue;
		}
		if (at == s->n_sockets) {
			s->sockets[s->n_sockets++] = (struct telemetry_socket){
				.id = s->nodes[i].socket,
				.rate = { TELEMETRY_UNKNOWN,
					  TELEMETRY_UNKNOWN,
					  TELEMETRY_UNKNOWN,
					  { TELEMETRY_NONE, 0 } },
			};
		}
		s->sockets[at].nodes |= (uint64_t)1 << s->nodes[i].id;
	}
}

static void memory_rates(const struct telemetry_sample *before, const struct telemetry_sample *now,
			 struct telemetry_snapshot *ret)
{
	struct sums sums[TELEMETRY_MAX_SOCKETS];

	memset(sums, 0, sizeof(sums));
	find_sockets(ret);
	for (uint32_t i = 0; i < now->n_counters; i++) {
		const struct telemetry_counter *c = &now->counters[i];

		for (uint32_t k = 0; k < ret->n_sockets && c->kind <= TELEMETRY_TOTAL; k++)
			if (ret->sockets[k].id == c->socket)
				add_counter(&sums[k], before, c, i);
	}
	for (uint32_t k = 0; k < ret->n_sockets; k++) {
		struct telemetry_socket *socket = &ret->sockets[k];

		set_rate(&socket->rate, &sums[k]);
		if (socket->rate.origin.source == TELEMETRY_NONE)
			continue;
		telemetry_mark(ret, TELEMETRY_GROUP_BANDWIDTH, NULL, socket->rate.origin.source,
			       socket->rate.origin.updated_ns);
		if (socket->nodes & (socket->nodes - 1))
			continue; /* several nodes share these controllers */
		for (uint32_t i = 0; i < ret->n_nodes; i++)
			if (ret->nodes[i].socket == socket->id &&
			    ret->nodes[i].rate.origin.source == TELEMETRY_NONE)
				ret->nodes[i].rate = socket->rate;
	}
}

static void disk_rates(const struct telemetry_sample *before, const struct telemetry_sample *now,
		       struct telemetry_snapshot *ret)
{
	for (uint32_t i = 0; i < ret->n_disks; i++) {
		struct telemetry_disk *d = &ret->disks[i];
		const struct telemetry_disk *old = NULL;
		double per_s;

		for (uint32_t k = 0; before && k < before->state.n_disks; k++)
			if (!strcmp(before->state.disks[k].name, d->name))
				old = &before->state.disks[k];
		if (!old || d->read_bytes_per_s != TELEMETRY_UNKNOWN ||
		    old->read_bytes == TELEMETRY_UNKNOWN || d->read_bytes == TELEMETRY_UNKNOWN ||
		    d->read_bytes < old->read_bytes || d->origin.source != old->origin.source ||
		    d->origin.updated_ns <= old->origin.updated_ns)
			continue;
		per_s = (double)(d->read_bytes - old->read_bytes) * NS_PER_S /
			(double)(d->origin.updated_ns - old->origin.updated_ns);
		if (per_s < ABSURD_BYTES_PER_S)
			d->read_bytes_per_s = (uint64_t)(per_s + 0.5);
	}
}

void telemetry_rates(const struct telemetry_sample *before, const struct telemetry_sample *now,
		     struct telemetry_snapshot *ret)
{
	*ret = now->state;
	if (before && now->state.updated_ns > before->state.updated_ns)
		ret->interval_ns = now->state.updated_ns - before->state.updated_ns;
	memory_rates(before, now, ret);
	disk_rates(before, now, ret);
}
