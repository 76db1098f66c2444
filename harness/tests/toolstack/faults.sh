# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
guest m cap=20
guest a
guest b
guest c
for name in m a b c; do labctl run "create_$name" xl create $name.cfg; done

# Killed half way, at many places.
for place in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
	nemesis add m a b c &
	tool=$!
	usleep $((place * 20000))
	kill -9 $tool
	wait $tool
	labctl run "killed_$place" nemesis --json list
	nemesis destroy m
done
labctl run whole nemesis add m a b c
labctl run whole_same ./same 1
labctl run whole_end xl scheddom-destroy m

# Two at once.
(for _ in 1 2 3 4 5 6; do nemesis add m a b && nemesis remove m a b; done) >/run/one 2>&1 &
one=$!
(for _ in 1 2 3 4 5 6; do xl scheddom-add m b a && xl scheddom-destroy m; done) >/run/two 2>&1 &
two=$!
wait $one $two
labctl run at_once_left nemesis --json list
nemesis destroy m
labctl run at_once nemesis add m a b
labctl run at_once_shares ./shares 2
labctl run at_once_end nemesis destroy m

# One dies meanwhile.
(while nemesis add m c && nemesis remove m c; do :; done) >/run/dies 2>&1 &
dies=$!
xl destroy c
wait $dies
labctl run dies tail -n 1 /run/dies

labctl run nobody_nemesis ./nobody nemesis list
labctl run nobody_xl ./nobody xl scheddom-list
for name in m a b; do labctl run "end_$name" xl destroy $name; done
nothing_left
