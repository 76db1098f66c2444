# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
hvm apart cap=20 stubdomain_scheduling_domain=0
hvm web cap=20 'on_reboot="restart"'

# accounts STEP NAME: CPU time of guest and stub domain, each by the group's account and by its own.
cat >look_up <<'PYTHON'
#!/usr/bin/python3
import json, sys
from xen.lowlevel.xc import xc
group = xc().scheddom_get(int(sys.argv[1]))
own = {d["domid"]: d["cpu_time"] for d in xc().domain_getinfo()}
print(json.dumps([[d["usage_ns"], own[d["domid"]]] for d in group["domains"]]))
PYTHON
chmod +x look_up
accounts() {
	xl pause "$2"
	xl pause "$2-dm"
	labctl run "$1" ./look_up "$(xl domid "$2")"
	xl unpause "$2-dm"
	xl unpause "$2"
}

# disk STEP NAME: what the guest says of its disk.
disk() { labctl run "$1" xenstore-read "/local/domain/$(xl domid "$2")/data/disk"; }

# wait_until COMMAND...: for it to succeed, for twenty seconds at most.
wait_until() {
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		"$@" && return
		sleep 1
	done
}
# serves NAME DOMID: whether its guest, another than that one, has a disk by its own account.
serves() { now=$(xl domid "$1") && [ "$now" != "$2" ] && xenstore-read "/local/domain/$now/data/disk"; } >/dev/null 2>&1
is_gone() { ! xl domid "$1" >/dev/null 2>&1; }

labctl run apart xl create apart.cfg
labctl run apart_group nemesis show apart
labctl run apart_shares ./shares 2
disk apart_disk apart
nemesis add apart apart-dm
accounts late_accounts apart
labctl run apart_off xl shutdown apart
wait_until is_gone apart
labctl run apart_left xl list

labctl run web xl create web.cfg
labctl run formed nemesis --json show web
labctl run formed_xl xl scheddom-list web
labctl run shares ./shares 2
disk disk web
accounts accounts web

# The guest does it itself, asked by xl.
was=$(xl domid web)
labctl run reboot xl reboot web
wait_until serves web "$was"
labctl run rebooted nemesis --json show web
labctl run shares_again ./shares 2
disk disk_again web
labctl run end xl destroy web
nothing_left
