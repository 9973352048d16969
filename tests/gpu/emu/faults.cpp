/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/faults.cpp: faults of the fake runtime that the environment wishes for, and what it counts.
 *
 * SLUICE_EMU_FAIL=CALL:N fails the Nth call of that name (a launch is cudaLaunchKernelExC), CALL:N+ that and all
 * later ones, CALL:N! leaves a sticky error behind: every call after it fails until the process ends; hang:N stops
 * the device for good before the Nth operation of its streams: what waits for it waits for ever; several of them
 * with commas between. SLUICE_EMU_FAIL=@FILE: they are in FILE, which is read again whenever it is another one
 * (rename() a new one over it), and calls are counted from then on: a test says so between two requests what is to
 * fail in the next. SLUICE_EMU_COUNT=FILE: whether kernels would all be loaded at the first call (eager), what was
 * launched and called (late: with the wishes that hold at last), which kernels ran (in graphs too) and what failed by
 * wish, is written there when the process ends, words and a number a line. The runtime's lock is held, but for
 * emu_ran(), which has one of its own.
 */
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

struct emu_fault_wish {
	std::string call;
	uint64_t at = 0, calls = 0;
	char how = 0; /* 0, '+' or '!' */
};

struct emu_counts emu_launched;

static std::vector<struct emu_fault_wish> wishes;
static std::map<std::string, uint64_t> called, late, failed; /* late: since the wishes are these */
static std::map<std::string, uint64_t> ran; /* kernels, by the name in CUDA_LAUNCH */
static std::mutex ran_lock;
static uint64_t operations; /* of streams, since the wishes are these */
static const char *file;    /* of wishes */
static bool eager;	    /* the first call would load all kernels */
static struct stat read_last;

static void write_counts(void)
{
	FILE *f = fopen(getenv("SLUICE_EMU_COUNT"), "w");

	if (!f)
		return;
	fprintf(f, "eager %d\n", eager);
	fprintf(f, "alone %llu\ngraphs %llu\nin_graphs %llu\nmost_of_a_graph %llu\n",
		(unsigned long long)emu_launched.alone, (unsigned long long)emu_launched.graphs,
		(unsigned long long)emu_launched.in_graphs, (unsigned long long)emu_launched.most);
	for (const auto &c : called)
		fprintf(f, "called %s %llu\n", c.first.c_str(), (unsigned long long)c.second);
	for (const auto &c : late)
		fprintf(f, "late %s %llu\n", c.first.c_str(), (unsigned long long)c.second);
	const std::lock_guard<std::mutex> guard(ran_lock);
	for (const auto &c : ran)
		fprintf(f, "ran %s %llu\n", c.first.c_str(), (unsigned long long)c.second);
	for (const auto &c : failed)
		fprintf(f, "failed %s %llu\n", c.first.c_str(), (unsigned long long)c.second);
	fclose(f);
}

static void read_wishes(const char *text)
{
	const char *at;

	wishes.clear();
	late.clear();
	operations = 0;
	for (; text && (at = strchr(text, ':')); text = strchr(at, ',')) {
		struct emu_fault_wish f;
		char *end;

		text += *text == ',';
		f.call = std::string(text, (size_t)(at - text));
		f.at = strtoull(at + 1, &end, 10);
		f.how = *end == '+' || *end == '!' ? *end : 0;
		wishes.push_back(f);
	}
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* The file, if it is not the one that was read last. */
static void look_at_file(void)
{
	char text[1024];
	struct stat s;
	FILE *f;

	if (!file || stat(file, &s) || same(&s, &read_last) || !(f = fopen(file, "r")))
		return;
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fstat(fileno(f), &read_last);
	fclose(f);
	read_wishes(text);
}

static void look(void)
{
	static bool looked;
	const char *text = getenv("SLUICE_EMU_FAIL");

	if (!looked) {
		const char *loading = getenv("CUDA_MODULE_LOADING");

		eager = loading && !strcmp(loading, "EAGER");
		if (getenv("SLUICE_EMU_COUNT"))
			atexit(write_counts);
		if (text && *text == '@')
			file = text + 1;
		else
			read_wishes(text);
		looked = true;
	}
	look_at_file();
}

void emu_ran(const char *kernel)
{
	static const bool counts = getenv("SLUICE_EMU_COUNT");

	if (!counts)
		return;
	const std::lock_guard<std::mutex> guard(ran_lock);
	ran[kernel]++;
}

cudaError_t emu_fault(const char *name, bool *ret_stays)
{
	look();
	called[name]++;
	late[name]++;
	for (struct emu_fault_wish &f : wishes) {
		if (f.call != name)
			continue;
		f.calls++;
		if (f.calls != f.at && (f.how != '+' || f.calls < f.at))
			continue;
		failed[name]++;
		*ret_stays = f.how == '!';
		if (*ret_stays)
			return cudaErrorIllegalAddress;
		return f.call == "cudaMalloc" || f.call == "cuMemCreate" ? cudaErrorMemoryAllocation
									 : cudaErrorUnknown;
	}
	return cudaSuccess;
}

bool emu_hangs(bool next)
{
	look();
	for (const struct emu_fault_wish &f : wishes)
		if (f.call == "hang") {
			if (operations + 1 >= f.at)
				return true;
			operations += next;
		}
	return false;
}
