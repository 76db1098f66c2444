# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# The burner knows nothing of being suspended: what a guest's kernel does when it is asked is done for it here.
cat >suspend_for_it <<'PYTHON'
#!/usr/bin/python3
import sys, time
from xen.lowlevel.xc import xc
from xen.lowlevel.xs import xs
store, path, suspend = xs(), "/local/domain/%s/control/shutdown" % sys.argv[1], 2
while store.read("", path) != b"suspend":
    time.sleep(0.05)
store.write("", path, "")
xc().domain_shutdown(int(sys.argv[1]), suspend)
PYTHON
chmod +x suspend_for_it
guest m cap=20
cat >p.cfg <<'CONFIG'
name="p"
type="pvh"
kernel="/guests/burner-pvh"
memory=8
vcpus=1
CONFIG
labctl run create_m xl create m.cfg
labctl run create_p xl create p.cfg
labctl run join nemesis add m p
labctl run before ./shares 1

# save NAME FILE
save() {
	./suspend_for_it "$(xl domid "$1")" &
	labctl run "save_$2" xl save "$1" "$2"
}
save p member
labctl run dissolved nemesis --json list
labctl run restore_member xl restore member
rm member # dom0's memory is all the disk there is
labctl run joined nemesis --json show m
labctl run after ./shares 1
labctl run destroy_m xl destroy m
save p orphan
labctl run no_master xl restore orphan
labctl run no_master_left xl list
labctl run recreate_m xl create m.cfg
labctl run restore_orphan xl restore orphan
labctl run joined_again nemesis --json show m
xl destroy p
xl destroy m
nothing_left
