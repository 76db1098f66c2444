# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
guest m cap=20
guest a
guest b cap=50
for name in m a b; do labctl run "create_$name" xl create $name.cfg; done
labctl run alone ./shares 2

labctl run xl_add xl scheddom-add m a
labctl run nemesis_add nemesis add m b
labctl run same_all ./same 1
labctl run three ./shares 2
labctl run watch nemesis --json watch a --count 1 --interval 2
labctl run nemesis_set nemesis set m a 768
labctl run weighted ./shares 2
labctl run same_weighted ./same 1
labctl run python_remove ./group remove 1 2
labctl run xl_weigh xl scheddom-set m b 512
labctl run same_weighed ./same 1
labctl run xl_set xl scheddom-set m b 0
labctl run same_two ./same 1
labctl run two ./shares 2
labctl run nemesis_remove nemesis remove m b
labctl run free ./shares 2

labctl run python_add ./group add 1 2
labctl run python_set ./group set 1 2 100
labctl run same_python ./same 1
labctl run table nemesis show m
labctl run xl_table xl scheddom-list m
labctl run xl_destroy xl scheddom-destroy m
labctl run none nemesis list
labctl run python_add_again ./group add 1 3
labctl run nemesis_destroy nemesis destroy m

labctl run no_such xl scheddom-remove m a
labctl run no_such_python ./group remove 1 2
labctl run no_weight xl scheddom-set m a 70000
labctl run dom0 xl scheddom-add m Domain-0
labctl run dom0_nemesis nemesis add m Domain-0
labctl run dom0_forced xl scheddom-add --force m Domain-0
labctl run dom0_out xl scheddom-destroy m
labctl run half xl scheddom-add m a 0 b
labctl run after_half nemesis --json list
labctl run help xl help scheddom-add
for name in m a b; do labctl run "destroy_$name" xl destroy $name; done
nothing_left
