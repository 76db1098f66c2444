# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# Two pCPUs: one for a pool of its own.
labctl run pool_cpu xl cpupool-cpu-remove Pool-0 1
labctl run pool xl cpupool-create 'name="tenants"' 'cpus=["1"]' 'sched="credit"'
hvm off 'cap=20' 'stubdomain_scheduling_domain=0'
hvm pooled 'pool="tenants"' 'cap=20' 'on_reboot="restart"'
guest m 'cap=30' 'pool="tenants"' 'on_reboot="restart"'
hvm inner 'pool="tenants"' 'scheduling_domain="m"'
hvm demanding 'pool="flat"' 'stubdomain_scheduling_domain=1'
hvm modest 'pool="flat"'

labctl run off xl create off.cfg
labctl run off_group nemesis show off
labctl run off_pools xl list -c
labctl run off_end xl destroy off

labctl run pooled xl create pooled.cfg
labctl run pooled_group nemesis --json show pooled
labctl run pooled_pools xl list -c
labctl run pooled_shares ./shares 2
labctl run pooled_moved xl cpupool-migrate pooled Pool-0
reboot pooled
labctl run pooled_rebooted nemesis --json show pooled
labctl run pooled_end xl destroy pooled

labctl run inner_master xl create m.cfg
labctl run inner xl create inner.cfg
labctl run inner_group nemesis --json show m
labctl run inner_shares ./shares 2
reboot m
labctl run inner_again nemesis --json show m
labctl run inner_shares_again ./shares 2
labctl run inner_end xl destroy inner
labctl run inner_dissolved nemesis --json list
xl destroy m

# A pool whose scheduler has no groups.
xl cpupool-destroy tenants
labctl run flat xl cpupool-create 'name="flat"' 'cpus=["1"]' 'sched="null"'
labctl run demanding xl create demanding.cfg
labctl run demanding_left xl list
labctl run modest xl create modest.cfg
labctl run modest_list xl list -c
labctl run modest_add nemesis add modest modest-dm
xl destroy modest
xl cpupool-destroy flat
nothing_left
