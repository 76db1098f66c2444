# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# What the scripts that run in dom0 begin with (test_toolstack.py puts it before each of them).

# guest NAME [LINE...]: NAME.cfg, a burner that wants all of a pCPU and obeys xl, with these lines in its configuration.
guest() {
	name=$1
	shift
	{
		echo "name=\"$name\""
		echo 'type="pv"'
		echo 'kernel="/guests/obedient-pv"'
		echo 'memory=8'
		for line in "$@"; do echo "$line"; done
	} >"$name.cfg"
}

# The shares of all domains in the next seconds, in percent of one pCPU, by Xen's accounting of each domain.
cat >shares <<'PYTHON'
#!/usr/bin/python3
import json, sys, time
from xen.lowlevel.xc import xc

def look():
    return time.monotonic_ns(), {d["domid"]: d["cpu_time"] for d in xc().domain_getinfo()}

before, then = look()
time.sleep(float(sys.argv[1]))
after, now = look()
print(json.dumps({d: 100 * (now[d] - then.get(d, 0)) / (after - before) for d in now}))
PYTHON

# The group of a domain by each tool, in one form: {"master":…,"cap":…,"weight":…,"domains":[[id, weight]…]}
cat >same <<'PYTHON'
#!/usr/bin/python3
import json, subprocess, sys
from xen.lowlevel.xc import xc

def form(group, cap, domid):
    domains = [[d[domid], d["weight"]] for d in group["domains"]]
    return {"master": group["master"], "cap": group[cap], "weight": group["weight"], "domains": domains}

def said(*words):
    return json.loads(subprocess.run(words, check=True, capture_output=True).stdout)

print(json.dumps({
    "nemesis": form(said("nemesis", "--json", "show", sys.argv[1])["groups"][0], "cap_percent", "id"),
    "xl": form(said("xl", "scheddom-list", "-j", sys.argv[1])[0], "cap", "domid"),
    "python": form(xc().scheddom_get(int(sys.argv[1])), "cap", "domid"),
}))
PYTHON

# Python's own, as the other tools are called: group METHOD DOMID...
cat >group <<'PYTHON'
#!/usr/bin/python3
import sys
from xen.lowlevel.xc import xc
getattr(xc(), "scheddom_" + sys.argv[1])(*map(int, sys.argv[2:]))
PYTHON

# As somebody who is not root.
cat >nobody <<'PYTHON'
#!/usr/bin/python3
import os, sys
os.setgid(65534)
os.setuid(65534)
os.execvp(sys.argv[1], sys.argv[1:])
PYTHON
chmod +x shares same group nobody

# The guest does as it is told; xl's daemon then creates it again.
reboot() {
	xl reboot "$1"
	sleep 6
}

# What a test may leave behind: nothing.
nothing_left() {
	labctl run left_domains xl list
	labctl run left_groups nemesis --json list
	labctl run left_store xenstore-ls /libxl
}
