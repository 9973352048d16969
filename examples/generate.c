/* SPDX-License-Identifier: MIT */
/*
 * examples/generate.c: a whole client of sluiced: asks one question, prints the answer as it comes.
 *
 *	make build/example_generate
 *	build/example_generate [SOCKET] 'What is the capital of France?'
 *
 * Against an installed library: cc generate.c -o generate $(pkg-config --cflags --libs sluice)
 */
#include <stdio.h>
#include <string.h>

#include <sluice/sluice.h>

/* Called for each token; the text may be empty until a character is complete. */
static int print_token(void *arg, const struct sluice_piece *piece)
{
	fwrite(piece->text, 1, piece->bytes, stdout);
	fflush(stdout);
	return 0; /* anything else would cancel */
}

int main(int argc, char **argv)
{
	struct sluice_prompt prompt = { .struct_size = sizeof(prompt), .flags = SLUICE_CHAT };
	struct sluice_settings settings = { .struct_size = sizeof(settings), .max_tokens = 256 };
	struct sluice_done done = { .struct_size = sizeof(done) };
	struct sluice_fault fault;
	struct sluice *s;

	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: %s [SOCKET] QUESTION\n", argv[0]);
		return 2;
	}
	/* NULL: the socket where sluiced listens unless told otherwise */
	if (sluice_connect(argc == 3 ? argv[1] : NULL, &s, &fault)) {
		fprintf(stderr, "%s\n", fault.text);
		return 1;
	}
	prompt.text = argv[argc - 1];
	prompt.text_bytes = strlen(prompt.text);
	if (sluice_generate(s, &prompt, &settings, print_token, NULL, &done, &fault)) {
		fprintf(stderr, "\n%s\n", fault.text);
		sluice_close(s);
		return 1;
	}
	printf("\n(%u tokens, %s)\n", done.n_generated, sluice_stop_name(done.stop));
	sluice_close(s);
	return 0;
}
