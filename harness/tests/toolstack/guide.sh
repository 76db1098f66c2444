# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
hvm web
hvm alone stubdomain_scheduling_domain=0
labctl run busy_before ./shares 1
