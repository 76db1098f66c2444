# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# An HVM guest with a disk, and the stub domain that emulates it, created by libxl as any such pair is: it takes what is
# said here for firmware, for the stub's kernel and for the stub's console model.
#
# libxl waits for that last one's word in xenstore, too; the stub has nothing to say on its consoles.
cat >console_model <<'MODEL'
#!/bin/sh
while [ "$1" != -d ]; do shift; done
xenstore-write "/local/domain/0/device-model/$2/state" running
exec sleep 1000000
MODEL
chmod +x console_model

# hvm NAME [LINE...]
hvm() {
	name=$1
	shift
	cat >"$name.cfg" <<-CONFIG
		name="$name"
		type="hvm"
		memory=16
		vcpus=1
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
