/* SPDX-License-Identifier: MIT */
/*
 * Description: the logits of a whole dense model through these kernels, against the fixture's reference.
 *
 * dense/dense-q4_k_m.gguf has both mixers. Its first tokens (with --all, all that have a reference) go through
 * the forms of prefill, the last ones through those of decode, with f16 pages and with q8_0 pages.
 * The bounds of the mean and the median divergence are the fixture's (fixtures/README.md). Each
 * form must stay within them by itself.
 */
#include "tests/gpu/fixture.h"
#include "tests/gpu/model/rig.h"

#include <algorithm>
#include <string>

#define MODEL "dense/dense-q4_k_m"

static std::string read_file(const std::string &path)
{
	FILE *f = fopen(path.c_str(), "rbe");
	std::string s;
	char piece[4096];
	size_t n;

	if (!f) {
		fprintf(stderr, "%s: cannot be read\n", path.c_str());
		exit(1);
	}
	while ((n = fread(piece, 1, sizeof(piece), f)) > 0)
		s.append(piece, n);
	fclose(f);
	return s;
}

/* The number after "key": of the fixture's flat JSON */
static double json_number(const std::string &json, const char *key)
{
	const size_t at = json.find("\"" + std::string(key) + "\":");

	if (at == std::string::npos) {
		fprintf(stderr, "no %s in the fixture\n", key);
		exit(1);
	}
	return strtod(json.c_str() + json.find(':', at) + 1, NULL);
}

static std::vector<uint32_t> json_tokens(const std::string &json)
{
	const size_t at = json.find('[', json.find("\"tokens\""));
	const char *p = json.c_str() + at + 1;
	std::vector<uint32_t> ids;
	char *end;

	for (;;) {
		ids.push_back((uint32_t)strtoul(p, &end, 10));
		while (*end == ' ' || *end == '\n')
			end++;
		if (*end != ',')
			return ids;
		p = end + 1;
	}
}

/* Rows of float32 of an .npy file, @width each */
static std::vector<float> npy_rows(const std::string &file, size_t width)
{
	const size_t head = 10 + (uint8_t)file[8] + 256u * (uint8_t)file[9];
	std::vector<float> v((file.size() - head) / 4);

	if (file.find("'<f4'") == std::string::npos || v.size() % width) {
		fprintf(stderr, "the reference is not float32 in rows of %zu\n", width);
		exit(1);
	}
	memcpy(v.data(), file.data() + head, v.size() * 4);
	return v;
}

/* Divergence of our log-probabilities from the reference's logits */
static double divergence(const float *want, const float *got, size_t n)
{
	double big = -INFINITY, sum = 0, kl = 0;

	for (size_t i = 0; i < n; i++)
		big = fmax(big, want[i]);
	for (size_t i = 0; i < n; i++)
		sum += exp(want[i] - big);
	for (size_t i = 0; i < n; i++) {
		const double log_p = want[i] - big - log(sum);

		kl += exp(log_p) * (log_p - got[i]);
	}
	return kl;
}

struct reference {
	std::vector<uint32_t> tokens;
	std::vector<float> logits;
	double mean, median;
};

static void check_form(const char *what, const struct reference &ref, std::vector<double> kl)
{
	const size_t n = kl.size();
	double sum = 0, median;

	for (double k : kl)
		sum += k;
	std::sort(kl.begin(), kl.end());
	median = n % 2 ? kl[n / 2] : (kl[n / 2 - 1] + kl[n / 2]) / 2;
	printf("%s, %zu positions: mean %.3g (bound %.3g), median %.3g (bound %.3g)\n", what, n,
	       sum / (double)n, ref.mean, median, ref.median);
	check_near(what, 0, sum / (double)n, 0, ref.mean);
	check_near(what, 1, median, 0, ref.median);
}

/* The first @prefill tokens in chunks of @chunk, then @decode more one by one */
static void check_model(const struct reference &ref, enum cuda_kv kv, size_t prefill, size_t chunk,
			size_t decode)
{
	struct rig rig(gpu_fixture(MODEL ".gguf").c_str(), prefill + decode, kv);
	const size_t vocab = rig.m->n_vocab;
	std::vector<double> first, second;

	for (size_t at = 0; at < prefill + decode;) {
		const size_t n = at >= prefill ? 1 : std::min(chunk, prefill - at);
		const std::vector<float> got =
			rig.run(std::vector<uint32_t>(ref.tokens.begin() + (long)at,
						      ref.tokens.begin() + (long)(at + n)),
				at);

		for (size_t i = 0; i < n; i++)
			(at < prefill ? first : second)
				.push_back(divergence(&ref.logits[(at + i) * vocab],
						      &got[i * vocab], vocab));
		at += n;
	}
	check_form(kv == CUDA_KV_F16 ? "prefill, f16 pages" : "prefill, q8_0 pages", ref, first);
	check_form(kv == CUDA_KV_F16 ? "decode, f16 pages" : "decode, q8_0 pages", ref, second);
}

int main(int argc, char **argv)
{
	const bool all = option_all(argc, argv);
	const std::string json = read_file(gpu_fixture(MODEL ".json", all));
	struct reference ref;
	size_t rows, decode;

	ref.tokens = json_tokens(json);
	ref.logits = npy_rows(read_file(gpu_fixture(MODEL ".npy", all)), 2048);
	ref.mean = json_number(json, "bound_mean_kl");
	ref.median = json_number(json, "bound_median_kl");
	rows = ref.logits.size() / 2048; /* of the first tokens: 384 in SHARED, 64 in tests/data */
	if (rows < 64 || rows > ref.tokens.size()) {
		fprintf(stderr, "%zu rows of logits for %zu tokens\n", rows, ref.tokens.size());
		return 1;
	}
	if (all) {
		decode = rows / 6;
		printf("%zu positions\n", rows);
		check_model(ref, CUDA_KV_F16, rows - decode, 150, decode);
		check_model(ref, CUDA_KV_Q8_0, rows - decode, rows - decode, decode);
	} else {
		check_model(ref, CUDA_KV_F16, 24, 14, 6);
	}
	return values_report("dense_model");
}
