# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# An HVM guest with a stub domain, both burners, created by libxl as any such pair is: it takes what is said here for
# firmware, for the stub's kernel and for the stub's console model.
cat >console_model <<'MODEL'
#!/bin/sh
# libxl waits for a word in xenstore from the console model of the stub domain, and from the stub itself.
while [ $# -gt 0 ]; do
	if [ "$1" = -d ] || [ "$1" = -xen-domid ]; then stub=$2; fi
	shift
done
xenstore-write "/local/domain/0/device-model/$stub/state" running
guest=$(xenstore-read "/local/domain/$stub/target")
xenstore-write "/local/domain/$stub/device-model/$guest/state" running
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
		firmware_override="/guests/burner-pvh"
		device_model_stubdomain_override=1
		device_model_version="qemu-xen-traditional"
		device_model_override="/root/console_model"
		stubdomain_kernel="/guests/burner-pv"
		stubdomain_memory=16
		serial="none"
		vga="none"
		videoram=0
		vnc=0
		sdl=0
	CONFIG
	for line in "$@"; do echo "$line" >>"$name.cfg"; done
}
