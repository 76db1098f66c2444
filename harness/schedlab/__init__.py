# SPDX-License-Identifier: GPL-2.0-only
"""The lab that proves scheduling domains: builds, boots, measures, judges, reports."""
