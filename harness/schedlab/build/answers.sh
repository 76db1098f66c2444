#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The compiler, for a source that is built again and again.  Each time Xen's make asks it some 140 times what it understands, by
# compiling a line to nowhere.  Its answers are kept in ANSWERS, by the question; all else goes to COMPILER as it is.
set -u

question() {
    last=
    for last in "$@"; do :; done
    case " $* " in
    *" -o /dev/null "*) [ "$last" = - ] ;;
    *) false ;;
    esac
}

# COMPILER may be two words: ccache and who it calls.
# shellcheck disable=SC2086
question "$@" || exec $COMPILER "$@"

source=$(cat)
key=$(printf '%s\n' "$*" "$source" | md5sum)
known=$ANSWERS/${key%% *}
if [ ! -f "$known" ]; then
    # shellcheck disable=SC2086
    said=$(printf '%s\n' "$source" | $COMPILER "$@" 2>&1)
    printf '%s\n' "$?" "$said" >"$known.$$"
    mv "$known.$$" "$known"
fi
{
    read -r status
    # What it said is empty or not: an empty line would be an answer, too.
    while read -r line; do [ -z "$line" ] || printf '%s\n' "$line"; done >&2
} <"$known"
exit "$status"
