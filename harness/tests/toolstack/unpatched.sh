# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
guest m
guest a
guest b 'scheduling_domain="m"'
labctl run create_m xl create m.cfg
labctl run create_a xl create a.cfg
labctl run create_b xl create b.cfg
labctl run nemesis_list nemesis list
labctl run nemesis_add nemesis add m a
labctl run nemesis_dry nemesis --dry-run add m a
labctl run xl_list xl scheddom-list
labctl run xl_add xl scheddom-add m a
labctl run python ./group add 1 2
labctl run config xl list -l a
xl destroy m
xl destroy a
labctl run left_domains xl list
