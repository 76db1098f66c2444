# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# HVM guests like the image's web.cfg, whose disk a stub domain emulates.
web=$(cat web.cfg)

# hvm NAME [LINE...]
hvm() {
	name=$1
	shift
	{
		echo "$web"
		for line in "name=\"$name\"" "$@"; do echo "$line"; done
	} >"$name.cfg"
}
