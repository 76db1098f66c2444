# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# An HVM guest with a disk, and the stub domain that emulates it, created by libxl from the guest's configuration alone.
#
# What libxl wants beyond the two is a program that serves the stub's consoles; the stub has nothing to say there.
cat >console_model <<'MODEL'
#!/bin/sh
while [ "$1" != -xen-domid ] && [ "$1" != -d ]; do shift; done
xenstore-write "/local/domain/0/device-model/$2/state" running
exec sleep 1000000
MODEL
chmod +x console_model

# tenant NAME [LINE...]
tenant() {
	name=$1
	shift
	cat >"$name.cfg" <<-CONFIG
		name="$name"
		type="hvm"
		memory=16
		vcpus=1
		cap=20
		on_reboot="restart"
		firmware_override="/guests/tenant-pvh"
		device_model_stubdomain_override=1
		device_model_version="qemu-xen-traditional"
		device_model_override="/root/console_model"
		stubdomain_kernel="/guests/stub_domain-pv"
		stubdomain_cmdline="cost_ns=400000"
		stubdomain_memory=16
		serial="none"
		vga="none"
		videoram=0
		vnc=0
		sdl=0
	CONFIG
	for line in "$@"; do echo "$line" >>"$name.cfg"; done
}

# What the guest itself says of its disk.
disk() { labctl run "$1" xenstore-read "/local/domain/$(xl domid "$2")/data/disk"; }

tenant web
tenant apart stubdomain_scheduling_domain=0

labctl run apart xl create apart.cfg
labctl run apart_group nemesis show apart
labctl run apart_shares ./shares 2
disk apart_disk apart
labctl run apart_end xl destroy apart

labctl run web xl create web.cfg
labctl run formed nemesis --json show web
labctl run formed_xl xl scheddom-list web
labctl run shares ./shares 2
disk before web

# The guest does it itself, when xl has asked it to.
first=$(xl domid web)
labctl run reboot xl reboot web
for _ in 1 2 3 4 5 6 7 8 9 10; do
	sleep 1
	again=$(xl domid web) && [ "$again" != "$first" ] && break
done
sleep 2
labctl run ids xl list
labctl run rebooted nemesis --json show web
labctl run shares_again ./shares 2
disk after web
labctl run end xl destroy web
nothing_left
