# SPDX-License-Identifier: GPL-2.0-only
"""What everything else stands on: errors, commands, the store."""
