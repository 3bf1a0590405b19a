# SPDX-License-Identifier: GPL-2.0
#
# The verbs of rust-dax. Each is one call of tools/harness, which installs missing
# packages and does the work; this file only lists them. `make help` is the
# reference.

.DEFAULT_GOAL := help

VERBS := run tour check coverage configs mutants crash soak abi bench conform guest shell build deb config lint doc report

# A variable reaches the harness through the environment, unchanged: CMD may hold
# any shell text, and only the guest's shell interprets it. In one given
# to make as an argument `$$` is one `$`, as everywhere in make, and a single `$`
# stands for itself; one from the environment is passed on untouched.
VARIABLES := VARIANT CMD COPY APPEND MEM CPUS PMEM CXL NVDIMMS TIMEOUT ALLOW_SPLAT ICOUNT ALL \
	     LIMIT JOBS ROWS QUICK PART GUP OUT FLAVOUR SYMBOLS SUITES FRESH FAILURES SEED \
	     KERNEL_SOURCE YES
define pass
ifeq ($$(origin $(1)),command line)
override $(1) := $$(subst $$$$$$$$,$$$$,$$(value $(1)))
export $(1)
endif
endef
$(foreach v,$(VARIABLES),$(eval $(call pass,$(v))))

# A name that is not in the list above would be ignored silently.
UNKNOWN := $(foreach v,$(filter-out $(VARIABLES) RUST_DAX_CACHE,$(.VARIABLES)), \
	     $(if $(filter command,$(origin $(v))),$(v)))
ifneq ($(strip $(UNKNOWN)),)
$(error there is no variable $(strip $(UNKNOWN)) here; make help lists them)
endif

.PHONY: help setup series tarball $(VERBS)
# One guest or one build at a time, also under -j.
.NOTPARALLEL:

$(VERBS):
	@tools/harness $@

series tarball:
	@tools/dist $@

setup:
	@tools/setup && echo "Nothing is missing."

help:
	@sed -n 's/^#: \{0,1\}//p' Makefile

#: make VERB [VARIABLE=value ...]
#:
#: Verbs:
#:   run      build the Rust kernel, boot it, and do direct I/O into a file
#:            mapped with 2 MiB DAX pages; prints a report
#:   tour     five minutes in a guest that show what the stack does, step by step;
#:            recorded as tour.svg, which browsers play
#:   check    formatting, lints, host tests, and all tests in the guest
#:   coverage  boot as check does, and report which lines and functions of the kernel's
#:            Rust ran, as a table and a page; takes PART and LIMIT
#:   configs  compile our files in other configurations of the kernel, and on other
#:            architectures, without building a kernel: some minutes
#:   mutants  break the kernel's Rust on purpose, one small fault at a time, and see
#:            whether the tests notice: hours for all; an interrupted run continues
#:   crash    kill the guest while it writes to DAX files, boot again and check
#:            the files, ten times (check does it a few times)
#:   soak     remove memory under random users, in two regions at once, for half an hour;
#:            VARIANT is debug here unless it is given; prints the seed that repeats it
#:   abi      compare the interfaces of the C and the Rust kernel: symbols, structs,
#:            modules, sysfs, trace events, errnos; fails on unintended differences
#:   bench    measure the C and the Rust kernel side by side: instructions per
#:            operation, as a table, a chart and a page
#:   conform  run the public suites on the C and on the Rust kernel and compare
#:            them by test name; fails if Rust does worse on any
#:   guest    boot a guest and run CMD in it; prints its output
#:   shell    boot a guest with a shell on this terminal
#:   build    build a kernel (the other verbs do so when something changed)
#:   deb      packages of a kernel for Debian: the image with its modules, headers for
#:            modules out of the tree, and with SYMBOLS=1 debugging symbols
#:   config   configure a kernel without building it; prints where its .config is
#:   lint     formatting and lints only: rustfmt, clippy, spelling, the floors of the
#:            modules (prints their graph), the language of comments and documents
#:   doc      build the documentation of the kernel crate and the .rst pages as HTML, and
#:            the manual pages of daxstat; prints where they are
#:   report   one page of what bench, conform, abi, mutants and coverage found last; runs
#:            nothing
#:   series   patches in the format of git for a kernel tree of your own, of this commit
#:   tarball  the overlay, the patches and ./apply, which puts them into a kernel tree
#:   setup    install missing packages (every verb does)
#:   help     this
#:
#: Variables:
#:   VARIANT=rust|c|debug|cdebug|distro  which kernel: the Rust pieces (the default),
#:            the C originals, either with KASAN, lockdep and the like, or Debian's own
#:            configuration for cloud guests, with the Rust pieces (a first build: 45 minutes)
#:   CMD='text'   what the guest's bash runs; any shell text ($$ is one $)
#:   COPY='file ...'  files and folders for the guest's /root, where daxstat is as well
#:   APPEND='word ...'  for the kernel's command line, such as preempt=full on distro
#:   MEM=4G CPUS=2    the guest's memory and virtual CPUs
#:   PMEM=5G      the size of each of its two NVDIMMs
#:   CXL=1        two CXL memory devices, one persistent and one volatile; needs QEMU 8.1
#:            or newer (Debian 13, or 12 with bookworm-backports), and is slow under TCG
#:   NVDIMMS=folder  keep their files in this folder for the next guest
#:   TIMEOUT=300  seconds until the guest is stopped, with status 124
#:   ALLOW_SPLAT=1  a kernel report (oops, WARN, KASAN, lockdep, hung task) does
#:            not turn the status into 99
#:   ICOUNT=1     one CPU that takes one guest nanosecond per instruction
#:   ALL=1        for check: all tests in full, also on a debug kernel, which otherwise
#:            runs some of each kind; many hours there (set TIMEOUT). QUICK=1: only
#:            KUnit and a test of each kind
#:   PART=3/8     for check: only KUnit and the third of eight parts of the guest tests
#:   LIMIT=3600   for check, configs and mutants: no test or row starts later than this number
#:            of seconds after the command; what did not start counts as skipped
#:   JOBS=2       for check: number of guests at a time; by default what CPUs and memory allow
#:   ROWS=regex   bench only the rows whose names match, GUP=1 those of GUP; the same for
#:            configs and mutants
#:   QUICK=1      bench with fewer rows, boots and repeats: within ten minutes;
#:            abi compares the builds and boots nothing; mutants tries those that need no
#:            kernel; for check see ALL
#:   OUT=folder   folder for what bench, coverage, deb, report, series, tarball and tour write
#:   FLAVOUR=cloud|amd64|small  for deb: Debian's own configuration for cloud guests (the
#:            default) or for all machines, or about that of VARIANT=rust; SYMBOLS=1 with symbols
#:   SUITES='mm stress'  for conform: any of stress, mm, nfit, ndctl, pmdk
#:   FRESH=1      for conform and mutants: discard existing results and run all again
#:   FAILURES=10  number of times that crash kills the guest; SEED=1 seeds data and moments
#:   MINUTES=30   how long soak goes on; SEED=n repeats the rounds of another soak
#:   KERNEL_SOURCE=file  another linux-source-6.12.tar.xz than Debian's package
#:   YES=1        install packages without asking
#:   RUST_DAX_CACHE=folder  folder of all build results (~/.cache/rust-dax)
#:
#: make itself ends with status 2 whenever a verb fails and names the verb's own
#: status ("Error 99"). For the status itself: CMD='...' tools/harness guest
