/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/timing.cu: the time of launches in a row: a graph of them, replayed, the median of its
 * replays by events.
 */
#include "tests/bench/gpu/bench.h"

#include <algorithm>

double time_launches(int count, const std::function<int(cuda_stream, int)> &launch)
{
	cudaStream_t stream;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	std::vector<double> us;
	std::vector<cudaEvent_t> events(2);

	must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
	must(launch(stream, 0), "a launch"); /* loads the module, sets attributes */
	must(cudaStreamSynchronize(stream), "a kernel");
	must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
	for (int i = 0; i < count; i++)
		must(launch(stream, i), "a launch");
	must(cudaStreamEndCapture(stream, &graph), "capture");
	must(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
	for (cudaEvent_t &e : events)
		must(cudaEventCreate(&e), "cudaEventCreate");
	for (double spent = 0.0; us.size() < 5 || (spent < 30e3 && us.size() < 40);) {
		float ms;

		must(cudaEventRecord(events[0], stream), "cudaEventRecord");
		must(cudaGraphLaunch(exec, stream), "cudaGraphLaunch");
		must(cudaEventRecord(events[1], stream), "cudaEventRecord");
		must(cudaEventSynchronize(events[1]), "a kernel");
		must(cudaEventElapsedTime(&ms, events[0], events[1]), "cudaEventElapsedTime");
		us.push_back(ms * 1e3);
		spent += ms * 1e3;
	}
	us.erase(us.begin()); /* the first replay uploads the graph */
	std::sort(us.begin(), us.end());
	for (cudaEvent_t e : events)
		cudaEventDestroy(e);
	cudaGraphExecDestroy(exec);
	cudaGraphDestroy(graph);
	cudaStreamDestroy(stream);
	return us[us.size() / 2] / count;
}
