#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The guest's side of `make tour`: what the Rust stack does, by programs that everybody has. Each step
# says what to look at, shows its commands as a user types them, and runs them. The tour ends with a
# status other than 0 as soon as a step does not show what it says.

set -u

bold=$'\e[1;36m' dim=$'\e[33m' green=$'\e[32m' plain=$'\e[0m'
number=0

step() {
	number=$((number + 1))
	printf '\n%s%d. %s%s\n' "$bold" $number "$1" "$plain"
	shift
	printf "$dim   %s$plain\n" "$@"
}

show() { printf '%s# %s%s\n' "$green" "$*" "$plain"; }

# Runs a command and shows it.
run() {
	show "$*"
	eval "$*" 2>&1
}

# Runs a command that must succeed.
must() { run "$@" || fail "this failed: $*"; }

fail() {
	printf '\ntour: step %d does not show what it says: %s\n' $number "$1"
	exit 1
}

# Waits until a command succeeds.
await() {
	local i
	for ((i = 0; i < 300; i++)); do
		eval "$1" && return
		sleep 0.1
	done
	fail "this did not happen within 30 s: $1"
}

debug=/sys/kernel/debug
dev=$(ndctl list -b ACPI.NFIT -R 2>/dev/null | jq -r 'flatten(1)[0].dev')
e820=$(ndctl list -b e820 -N 2>/dev/null | jq -r 'flatten(1)[0].dev')

step 'Which implementation is this?' 'Registry and fs/dax say so in debugfs.'
run uname -r
must "grep . $debug/dev_pagemap/implementation $debug/fs_dax/implementation"

step 'A namespace for filesystems' \
	'map=dev: its struct pages lie in the namespace itself. The registry lists the range.'
must "ndctl create-namespace -r $dev -m fsdax -M dev -s 1g | jq -c '{dev, mode, map, align, blockdev}'"
disk=/dev/$(ndctl list -r $dev -N | jq -r 'flatten(1)[0].blockdev')
space=$(ndctl list -r $dev -N | jq -r 'flatten(1)[0].dev')
must "cat $debug/dev_pagemap/ranges"
must "mkfs.ext4 -q -b 4096 -E nodiscard,stride=512,stripe_width=512 $disk"
must "mkdir -p /mnt/dax && mount -o dax $disk /mnt/dax"

step 'A huge mapping' \
	'fio stores to 64 MiB of a file, through a mapping and without a page cache: 32 faults, not 16384.'
must "fallocate -l 64m /mnt/dax/huge"
must "fio --name=store --ioengine=mmap --rw=write --bs=2m --size=64m --filename=/mnt/dax/huge \
--fallocate=none --minimal >/dev/null"
must "daxstat --once"
(($(daxstat --once | awk '$2 == "ext4" { print $4 }') >= 32)) || fail 'the faults were not of 2 MiB'

step 'One that is not huge, and why' \
	'A file of 256 blocks with holes between them. daxstat looks where its blocks are, and maps nothing.'
must "for i in {0..255}; do fallocate -o \$((i * 16))k -l 4k /mnt/dax/small; done"
run "daxstat --file /mnt/dax/small"

step 'Direct I/O into the huge mapping' \
	'The disk writes to persistent memory itself. nr_foll_pin_*: pages that the kernel pinned for it,' \
	'2 MiB at a time, and put again.'
must "grep foll_pin /proc/vmstat"
must "fio --name=read --ioengine=libaio --direct=1 --rw=read --bs=2m --size=32m --iodepth=4 \
--filename=/dev/vdb --iomem=mmapshared:/mnt/dax/huge --minimal >/dev/null"
must "grep foll_pin /proc/vmstat"

must "umount /mnt/dax && ndctl destroy-namespace -f $space"

step 'A long-term pin, and a device that goes' \
	'fio registers a buffer in device-dax memory with io_uring, as RDMA and SPDK do. With stock 6.12,' \
	'removing the device now oopses. Here the removal waits; log, debugfs and daxstat say for what.'
must "ndctl create-namespace -r $dev -m devdax -a 4k -s 256m | jq -c '{dev, mode, align}'"
space=$(ndctl list -r $dev -N | jq -r 'flatten(1)[0].dev')
node=/dev/$(ndctl list -r $dev -N -X | jq -r 'flatten(1)[0].daxregion.devices[0].chardev')
run "fio --name=ring --ioengine=io_uring --fixedbufs --direct=1 --rw=read --bs=1m --size=1m \
--filename=/dev/vdb --iomem=mmapshared:$node --rate_iops=2 --time_based --runtime=600 >/dev/null 2>&1 &"
await 'pgrep -x fio >/dev/null && grep -q "^nr_foll_pin_acquired [1-9]" /proc/vmstat && sleep 2'
must "daxstat holders $node"
run "ndctl disable-namespace $space >/tmp/disabled 2>&1 &"
await "grep -q dying $debug/dev_pagemap/ranges"
await 'dmesg | grep -q "memremap: .*waiting for"'
must "dmesg | grep 'memremap: ' | tail -n 2"
must "grep dying $debug/dev_pagemap/ranges"
must "pkill -x fio"
await "! grep -q dying $debug/dev_pagemap/ranges"
await '[[ -s /tmp/disabled ]]'
must "cat /tmp/disabled"

step 'Where did the filesystem go?' \
	'A namespace with an info block of another one: mount says "wrong fs type", the log says why.'
must "ndctl create-namespace -f -e $space -m fsdax -M dev | jq -c '{dev, mode, blockdev}'"
disk=/dev/$(ndctl list -n $space | jq -r 'flatten(1)[0].blockdev')
must "mkfs.ext4 -q -b 4096 $disk"
must "ndctl disable-namespace $space && ndctl write-infoblock -m fsdax -p $(</proc/sys/kernel/random/uuid) $space"
run "ndctl enable-namespace $space"
run "mount -o dax $disk /mnt/dax" && fail 'it was mounted'
must "dmesg | grep 'nd_pmem.*raw' | tail -n 1"
must "ndctl destroy-namespace -f $space"

step 'Bad memory, and its repair' \
	'A sector of a file is on the list of bad memory. A read fails, with the sector before it unharmed;' \
	'writing the whole page makes it good.'
must "ndctl create-namespace -f -e $e820 -m fsdax -M mem | jq -c '{dev, mode, blockdev}'"
disk=/dev/$(ndctl list -n $e820 | jq -r 'flatten(1)[0].blockdev')
list=/sys/block/${disk#/dev/}/badblocks
must "mkfs.ext4 -q -b 4096 $disk && mount -o dax $disk /mnt/dax"
must "head -c 64k /dev/zero >/mnt/dax/file && sync -f /mnt/dax && umount /mnt/dax && mount -o dax $disk /mnt/dax"
sector=$(filefrag -v -b512 /mnt/dax/file | awk '$1 == "0:" { print $4 + 32 }')
must "echo $sector 1 >$list"
run "dd if=/mnt/dax/file of=/dev/null bs=4k skip=4 count=1 status=none" && fail 'bad memory was read'
must "dd if=/dev/zero of=/mnt/dax/file bs=4k seek=4 count=1 conv=notrunc oflag=direct status=none"
must "dd if=/mnt/dax/file of=/dev/null bs=4k skip=4 count=1 status=none"
[[ -z $(<"$list") ]] || fail 'the sector is still on the list'
must "umount /mnt/dax && ndctl destroy-namespace -f $e820"

printf '\n%sThat was the tour: %d steps, and each showed what it says.%s\n' "$bold" $number "$plain"
