# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
guest m cap=20 'on_reboot="restart"'
guest a 'scheduling_domain="m"' 'on_reboot="restart"'
guest b 'scheduling_domain="m"'
labctl run too_early xl create a.cfg
labctl run left_early xl list
for name in m a b; do labctl run "create_$name" xl create $name.cfg; done
labctl run formed nemesis --json show m
labctl run shares ./shares 2

reboot a
labctl run member_rebooted nemesis --json show m
reboot m
labctl run master_rebooted nemesis --json show m
labctl run config xl list -l a

# What was taken out stays out, be it that the configuration file says otherwise.
labctl run out nemesis remove m a
reboot a
labctl run stays_out nemesis --json show m
labctl run destroy_m xl destroy m
labctl run dissolved nemesis --json list
labctl run recreate_m xl create m.cfg
labctl run again nemesis --json show m

# One that joins has not run yet.
guest c 'scheduling_domain="m"'
labctl run create_c xl create -p c.cfg
labctl run paused nemesis --json show m

# What xl took out, or dissolved, stays so when the master is back.
labctl run xl_out xl scheddom-remove m b
reboot m
labctl run stays_out_xl nemesis --json show m
labctl run xl_dissolve xl scheddom-destroy m
reboot m
labctl run stays_dissolved nemesis --json list
for name in m a b c; do labctl run "end_$name" xl destroy $name; done
nothing_left
