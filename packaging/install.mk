# SPDX-License-Identifier: MIT
# Installing, manual pages, shell completions and Debian packages. Included by the Makefile.
#
# make install [PREFIX=/usr/local] [DESTDIR=]   builds what is missing and installs it
# make uninstall [the same variables]           removes what that installed
# make man                                      manual pages in $(O)/man
# make deb                                      Debian packages sluice, libsluice0, libsluice-dev in $(O)/deb
# make deb-kmod                                 the package sluice-dkms, there too
# make completion                               bash and zsh completions in $(O)/completion
#
# BINDIR, LIBDIR, INCLUDEDIR, MANDIR, DOCDIR, DATADIR, BASHDIR, ZSHDIR, UNITDIR, SYSUSERSDIR, TMPFILESDIR, LIBEXECDIR
# and CONFDIR move a kind of file elsewhere. SETUP=no
# leaves out the look at which packages are there (for package builds, and systems without apt).

PREFIX ?= /usr/local
DESTDIR ?=
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/sluice
DATADIR ?= $(PREFIX)/share/sluice
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
LIBEXECDIR ?= $(PREFIX)/libexec/sluice
CONFDIR ?= /etc/sluice
SETUP ?= yes

# The name that programs ask for changes when a program of before would no longer work.
SONAME := libsluice.so.0
SO_FILE := libsluice.so.$(RELEASE)
HEADERS := sluice.h sluice_proto.h sluice_status.h sluice_telemetry.h
PAGES := $(patsubst man/%.scd,%,$(wildcard man/*.scd))
# Pages lie in docs/ there as here: README's links and what programs say of docs/NAME.md hold.
DOCS := README.md CHANGELOG.md LICENSE
DOC_PAGES := $(wildcard docs/*.md docs/*.png)
# What lay beside README before; gone with the rest.
OLD_DOCS := $(addsuffix .md,operation service protocol trace telemetry)
EXAMPLES := $(wildcard examples/*.c)
PROGRAMS := sluice sluiced
UNITS := $(notdir $(wildcard packaging/systemd/*.service packaging/systemd/*.socket))

# Dates in manual pages are the release's, so that two builds of one tree are alike.
DATE := $(shell date -u -d "$$(sed -n '/^ -- /{s/.*>  //p;q}' packaging/debian/changelog)" +%s)

.PHONY: man completion install uninstall
man: $(PAGES:%=$(O)/man/%)
	@:
$(O)/man/%: man/%.scd
	@mkdir -p $(@D)
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$(DATE)} scdoc <$< >$@.part
	@mv $@.part $@

completion: $(foreach p,$(PROGRAMS),$(O)/completion/$(p).bash $(O)/completion/$(p).zsh)
	@:
define completion_rule
$(O)/completion/%.$(1): $(O)/% packaging/completion.awk
	@mkdir -p $$(@D)
	@$$< --list-options >$$@.rows
	@LC_ALL=C awk -v program=$$* -v shell=$(1) -f packaging/completion.awk $$@.rows >$$@.part
	@rm $$@.rows
	@mv $$@.part $$@
endef
$(eval $(call completion_rule,bash))
$(eval $(call completion_rule,zsh))

# The annotated configuration, from the daemon's own table, and units with the places of this installation.
$(O)/sluiced.conf: $(O)/sluiced
	@$< --config /dev/null --dump-config >$@.part
	@mv $@.part $@
$(O)/units/%: packaging/systemd/% FORCE
	@mkdir -p $(@D)
	@sed -e 's|@BINDIR@|$(BINDIR)|' -e 's|@LIBEXECDIR@|$(LIBEXECDIR)|' -e 's|/etc/sluice/|$(CONFDIR)/|g' $< >$@.part
	@cmp -s $@.part $@ && rm $@.part || mv $@.part $@

.PHONY: units
units: $(UNITS:%=$(O)/units/%)

# Headers as an installation has them, for what builds here against <sluice/sluice.h>.
$(HEADERS:%=$(O)/include/sluice/%): $(O)/include/sluice/%.h: uapi/%.h
	@mkdir -p $(@D)
	@cp $< $@

$(O)/sluice.pc: packaging/sluice.pc.in VERSION FORCE
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(RELEASE)|' $< >$@.part
	@cmp -s $@.part $@ && rm $@.part || mv $@.part $@
.PHONY: FORCE
FORCE:

ifneq ($(SETUP),no)
install: setup-build+install
endif
install:
	@case '$(DESTDIR)$(PREFIX)' in *[[:space:]]*) echo "make $@: DESTDIR and PREFIX may have no white space" >&2; exit 1;; esac
	@$(MAKE) --no-print-directory -j$$(nproc) all man completion $(O)/sluice.pc $(O)/sluiced.conf $(UNITS:%=$(O)/units/%)
	@$(MAKE) --no-print-directory SETUP=no install-files

# The files alone, all of them built already. "section" is the digit behind a page's name.
section = $(lastword $(subst ., ,$(1)))
D = $(DESTDIR)
DIR_LIST = $(DOCDIR)/directories
.PHONY: install-files
install-files:
	@case '$(DESTDIR)$(PREFIX)' in *[[:space:]]*) echo "make $@: DESTDIR and PREFIX may have no white space" >&2; exit 1;; esac
	@packaging/dirs.sh make '$(D)' '$(DIR_LIST)' $(DOCDIR)/examples $(DOCDIR)/docs $(BINDIR) $(LIBDIR)/pkgconfig \
		$(INCLUDEDIR)/sluice $(BASHDIR) $(ZSHDIR) $(UNITDIR) $(SYSUSERSDIR) $(TMPFILESDIR) \
		$(LIBEXECDIR) $(CONFDIR)/conf.d $(DATADIR)/grafana $(foreach p,$(PAGES),$(MANDIR)/man$(call section,$(p)))
	@install -m 755 $(PROGRAMS:%=$(O)/%) $(D)$(BINDIR)/
	@install -m 644 $(O)/libsluice.a $(D)$(LIBDIR)/
	@install -m 644 $(O)/libsluice.so $(D)$(LIBDIR)/$(SO_FILE)
	@ln -sf $(SO_FILE) $(D)$(LIBDIR)/$(SONAME)
	@ln -sf $(SONAME) $(D)$(LIBDIR)/libsluice.so
	@install -m 644 $(O)/sluice.pc $(D)$(LIBDIR)/pkgconfig/
	@install -m 644 $(HEADERS:%=uapi/%) $(D)$(INCLUDEDIR)/sluice/
	@$(foreach p,$(PAGES),install -m 644 $(O)/man/$(p) $(D)$(MANDIR)/man$(call section,$(p))/ &&) true
	@$(foreach p,$(PROGRAMS),install -m 644 $(O)/completion/$(p).bash $(D)$(BASHDIR)/$(p) && \
		install -m 644 $(O)/completion/$(p).zsh $(D)$(ZSHDIR)/_$(p) &&) true
	@install -m 644 $(UNITS:%=$(O)/units/%) $(D)$(UNITDIR)/
	@install -m 755 packaging/systemd/reserve-hugepages $(D)$(LIBEXECDIR)/
	@install -m 644 packaging/sysusers.conf $(D)$(SYSUSERSDIR)/sluice.conf
	@install -m 644 packaging/tmpfiles.conf $(D)$(TMPFILESDIR)/sluice.conf
	@install -m 644 $(DOCS) $(O)/sluiced.conf $(D)$(DOCDIR)/
	@install -m 644 $(DOC_PAGES) $(D)$(DOCDIR)/docs/
	@[ -e $(D)$(CONFDIR)/sluiced.conf ] || install -m 644 $(O)/sluiced.conf $(D)$(CONFDIR)/
	@install -m 644 $(EXAMPLES) $(D)$(DOCDIR)/examples/
	@install -m 644 packaging/grafana/sluice.json $(D)$(DATADIR)/grafana/
	@packaging/ld-cache.sh '$(DESTDIR)' '$(LIBDIR)'
	@echo "installed in $(D)$(PREFIX); make uninstall$(if $(D), DESTDIR=$(D))$(if \
		$(filter-out /usr/local,$(PREFIX)), PREFIX=$(PREFIX)) removes it"

# Files by name, then the directories that installing made. Needs nothing to be built. A configuration that was
# changed stays.
uninstall:
	@case '$(DESTDIR)$(PREFIX)' in *[[:space:]]*) echo "make $@: DESTDIR and PREFIX may have no white space" >&2; exit 1;; esac
	@cmp -s $(D)$(DOCDIR)/sluiced.conf $(D)$(CONFDIR)/sluiced.conf && rm $(D)$(CONFDIR)/sluiced.conf || \
		[ ! -e $(D)$(CONFDIR)/sluiced.conf ] || echo "$(D)$(CONFDIR)/sluiced.conf was changed: it stays"
	@rm -f $(PROGRAMS:%=$(D)$(BINDIR)/%) $(HEADERS:%=$(D)$(INCLUDEDIR)/sluice/%) \
		$(D)$(LIBDIR)/libsluice.a $(D)$(LIBDIR)/libsluice.so $(D)$(LIBDIR)/$(SONAME) \
		$(D)$(LIBDIR)/libsluice.so.[0-9]*.[0-9]* $(D)$(LIBDIR)/pkgconfig/sluice.pc \
		$(foreach p,$(PAGES),$(D)$(MANDIR)/man$(call section,$(p))/$(p)) \
		$(foreach p,$(PROGRAMS),$(D)$(BASHDIR)/$(p) $(D)$(ZSHDIR)/_$(p)) \
		$(UNITS:%=$(D)$(UNITDIR)/%) $(D)$(LIBEXECDIR)/reserve-hugepages $(D)$(SYSUSERSDIR)/sluice.conf \
		$(D)$(TMPFILESDIR)/sluice.conf $(D)$(DOCDIR)/sluiced.conf \
		$(D)$(DATADIR)/grafana/sluice.json \
		$(addprefix $(D)$(DOCDIR)/,$(DOCS) $(OLD_DOCS) $(DOC_PAGES) $(EXAMPLES))
	@packaging/dirs.sh remove '$(D)' '$(DIR_LIST)'
	@packaging/ld-cache.sh '$(DESTDIR)' '$(LIBDIR)'

ifneq ($(SETUP),no)
deb: setup-build+install+deb
deb-kmod: setup-kmod-deb
endif
.PHONY: deb deb-kmod
deb:
	@packaging/build-deb.sh $(O)/deb programs
deb-kmod:
	@packaging/build-deb.sh $(O)/deb module

# ---- in clean systems, as root (tests/install/run.sh)
# make test-deb             the packages: lintian, built twice alike; installed, run and purged in a clean root
# make test-install-roots   make run, install, deb in clean roots of several releases; FULL=1: make test there too
INSTALL_ROOTS ?= bookworm trixie noble
ROOTS ?= build-roots
.PHONY: test-deb test-install-roots
test-deb: setup-deb-roots deb
	@OUT=$(O) ROOTS=$(ROOTS) tests/install/run.sh deb
test-install-roots: setup-deb-roots
	@OUT=$(O) ROOTS=$(ROOTS) FULL=$(FULL) tests/install/run.sh roots $(INSTALL_ROOTS)
