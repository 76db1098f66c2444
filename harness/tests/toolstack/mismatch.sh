# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
labctl run list nemesis list
labctl run add nemesis add 0 0
labctl run xl xl scheddom-list
