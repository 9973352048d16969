# SPDX-License-Identifier: MIT
# completion.awk: a shell completion file from the option tables of one program.
#
#	PROGRAM --list-options | awk -v program=PROGRAM -v shell=bash|zsh -f packaging/completion.awk
#
# Reads the rows that opts_help_as_rows() writes; a program without verbs has its options under "".
# A value is completed by its form: "a|b" are words, FILE, PATH and DIR are files, others are free.
BEGIN { FS = "\t"; verb = ""; n_verbs = 0 }

$1 == "verb" {
	verb = $2
	verbs[++n_verbs] = verb
	about[verb] = $3
}

$1 == "option" {
	i = ++count[verb]
	name[verb, i] = $2
	alias[verb, i] = $3
	form[verb, i] = $4
	help[verb, i] = $5
}

# The words of "a|b|c", those in capitals (placeholders) left out.
function words_of(f, n, part, k, out) {
	n = split(f, part, "|")
	for (k = 1; k <= n; k++)
		if (part[k] !~ /[A-Z%]/)
			out = out (out == "" ? "" : " ") part[k]
	return out
}

function is_words(f) { return f ~ /\|/ && words_of(f) != "" }
function is_file(f) { return f ~ /FILE|PATH|DIR|\.npy/ }

# ---- bash ----

function bash_values(v, i, pattern, action) {
	for (i = 1; i <= count[v]; i++) {
		if (form[v, i] == "")
			continue
		pattern = "\"" v " " name[v, i] "\""
		if (alias[v, i] != "")
			pattern = pattern " | \"" v " " alias[v, i] "\""
		if (is_words(form[v, i]))
			action = "words='" words_of(form[v, i]) "'"
		else if (is_file(form[v, i]))
			action = "words=/"
		else
			action = "return"
		print "\t" pattern ") " action " ;;"
	}
}

function bash_options(v, i, out) {
	for (i = 1; i <= count[v]; i++)
		out = out " " name[v, i] (alias[v, i] == "" ? "" : " " alias[v, i])
	return substr(out, 2)
}

function bash(k, list) {
	for (k = 1; k <= n_verbs; k++)
		list = list " " verbs[k]
	print "# bash completion for " program ", made from its option tables by packaging/completion.awk"
	print "_" program "()"
	print "{"
	print "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb= words="
	print "\tCOMPREPLY=()"
	print "\t[[ $cur != '=' ]] || cur= # --name=value is three words here"
	print "\t[[ $prev != '=' ]] || prev=${COMP_WORDS[COMP_CWORD - 2]}"
	if (n_verbs) {
		print "\tif ((COMP_CWORD == 1)) || [[ ${COMP_WORDS[1]} == help ]]; then"
		print "\t\tmapfile -t COMPREPLY < <(compgen -W '" substr(list, 2) "' -- \"$cur\")"
		print "\t\treturn"
		print "\tfi"
		print "\tverb=${COMP_WORDS[1]}"
	}
	print "\tcase \"$verb $prev\" in"
	for (k = n_verbs ? 1 : 0; k <= n_verbs; k++)
		bash_values(n_verbs ? verbs[k] : "")
	print "\tesac"
	print "\tif [[ -z $words && $cur == -* ]]; then"
	print "\t\tcase $verb in"
	for (k = n_verbs ? 1 : 0; k <= n_verbs; k++)
		print "\t\t'" (n_verbs ? verbs[k] : "") "') words='" bash_options(n_verbs ? verbs[k] : "") "' ;;"
	print "\t\tesac"
	print "\tfi"
	print "\tif [[ -n $words && $words != / ]]; then"
	print "\t\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")"
	print "\telse"
	print "\t\tcompopt -o filenames 2>/dev/null"
	print "\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")"
	print "\tfi"
	print "}"
	print "complete -F _" program " " program
}

# ---- zsh ----

# Inside a single-quoted specification of _arguments.
function quoted(text) {
	gsub(/\\/, "\\\\", text)
	gsub(/\[/, "\\[", text)
	gsub(/\]/, "\\]", text)
	gsub(/:/, "\\:", text)
	gsub(/'/, "'\\''", text)
	return text
}

function zsh_arguments(v, indent, i, f, spec, action) {
	printf "%s_arguments -S", indent
	for (i = 1; i <= count[v]; i++) {
		f = form[v, i]
		spec = name[v, i] (f == "" ? "" : "=")
		if (alias[v, i] != "")
			spec = "'(" name[v, i] " " alias[v, i] ")'{" alias[v, i] (f == "" ? "" : "+") "," spec "}'"
		else
			spec = "'" spec
		if (f == "")
			action = ""
		else if (is_words(f))
			action = ":value:(" quoted(words_of(f)) ")"
		else
			action = ":" quoted(f) ":" (is_file(f) ? "_files" : " ")
		printf " \\\n%s\t%s[%s]%s'", indent, spec, quoted(help[v, i]), action
	}
	printf " \\\n%s\t'*:file:_files'\n", indent
}

function zsh(k) {
	print "#compdef " program
	print "# zsh completion for " program ", made from its option tables by packaging/completion.awk"
	print "_" program "() {"
	if (!n_verbs) {
		zsh_arguments("", "\t")
	} else {
		print "\tlocal -a verbs=("
		for (k = 1; k <= n_verbs; k++)
			print "\t\t'" verbs[k] ":" quoted(about[verbs[k]]) "'"
		print "\t)"
		print "\tif (( CURRENT == 2 )) || [[ $words[2] == help ]]; then"
		print "\t\t_describe verb verbs"
		print "\t\treturn"
		print "\tfi"
		print "\tlocal verb=$words[2]"
		print "\tshift words"
		print "\t(( CURRENT-- ))"
		print "\tcase $verb in"
		for (k = 1; k <= n_verbs; k++) {
			if (!count[verbs[k]])
				continue
			print "\t" verbs[k] ")"
			zsh_arguments(verbs[k], "\t\t")
			print "\t\t;;"
		}
		print "\tesac"
	}
	print "}"
	print "_" program " \"$@\""
}

END {
	if (shell == "zsh")
		zsh()
	else
		bash()
}
