/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda_graph.c: a layer of decode as one graph: recorded when it is first wanted for a number of
 * tokens, launched as one from then on. See cuda.h. Engine thread.
 *
 * What differs from step to step lies in memory at fixed places (positions, places, lengths, the tick of the
 * word) and is copied there at the begin of the step; so a recording holds for every step of as many sequences
 * with one token each. Attention is laid out for a power of two of parts; blocks beyond a sequence's end
 * leave at once. When the longest sequence outgrows that, its layers are recorded anew. A runtime that will not
 * record is no error: the layer is launched kernel by kernel, which has the same bits.
 */
#include "device/cuda.h"

#include <errno.h>

#include "base/num.h"

uint32_t cuda_most_len(const struct cuda_device *d)
{
	uint64_t parts = 1;

	while (parts * DEVICE_PART < d->max_len)
		parts *= 2;
	return (uint32_t)u64_min(parts * DEVICE_PART, d->pages * CUDA_KV_PAGE);
}

static void free_graph(struct cuda_graph *g)
{
	if (g->exec)
		cudaGraphExecDestroy(g->exec);
	g->exec = NULL;
}

void cuda_free_graphs(struct cuda_device *d)
{
	for (uint32_t i = 0; d->layers && i < d->base.c.model->n_layers; i++)
		for (int k = 0; k < CUDA_FEW; k++)
			free_graph(&d->layers[i].graph[k]);
}

/* One token each of a few sequences. */
static bool is_decode(const struct cuda_device *d)
{
	return d->n_tokens <= CUDA_FEW && d->n_runs == d->n_tokens && d->max_run == 1;
}

/* The launches of @layer into @g. 0; g->exec stays NULL where the runtime does not record. */
static int record(struct cuda_device *d, uint32_t layer, struct cuda_graph *g, struct err *err)
{
	const struct cuda_between before = d->between;
	const uint64_t launches = cuda_launches();
	cudaGraph_t graph = NULL;
	int rc;

	free_graph(g);
	if (cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal))
		return 0;
	rc = cuda_put_layer(d, layer, err);
	if (cudaStreamEndCapture(d->stream, &graph))
		graph = NULL;
	if (graph && !rc && cudaGraphInstantiate(&g->exec, graph, 0))
		g->exec = NULL;
	if (graph)
		cudaGraphDestroy(graph);
	g->kernels = cuda_launches() - launches;
	d->replayed -= (int64_t)g->kernels;
	g->most_len = cuda_most_len(d);
	g->after = d->between;
	d->between = before;
	return rc;
}

int cuda_launch_layer(struct cuda_device *d, uint32_t layer, struct err *err)
{
	struct cuda_graph *g;
	int rc = 0;

	if (d->no_graphs || !is_decode(d))
		return cuda_put_layer(d, layer, err);
	g = &d->layers[layer].graph[d->n_tokens - 1];
	if (!g->exec || g->most_len != cuda_most_len(d)) {
		rc = record(d, layer, g, err);
		d->no_graphs = !rc && !g->exec;
	}
	if (rc || d->no_graphs)
		return rc ? rc : cuda_put_layer(d, layer, err);
	rc = cuda_said(cudaGraphLaunch(g->exec, d->stream), "a layer", err);
	d->between = g->after;
	d->replayed += rc ? 0 : (int64_t)g->kernels;
	return rc;
}
