# SPDX-License-Identifier: GPL-2.0-only
"""A stretch of a timeline as a chart: pCPUs, domains, and what the group used of its budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from schedlab import timeline
from schedlab.page import plots, svg
from schedlab.page.document import Figure
from schedlab.page.svg import Chart, Exact, Names
from schedlab.run import Case
from schedlab.timeline import IDLE, Timeline

REFILL_NS = 10_000_000
# Of the stretch that is shown: before the event, and after it.
BEFORE_NS, AFTER_NS = 22_000_000, 78_000_000


def of_case(case: Case) -> Figure | None:
    """The stretch around the first join; None where nothing was traced or nobody joined."""
    found = case.timeline
    if found is None:
        return None
    # The master joins its own group, too.
    joins = [e for e in found.events if e.what == "join" and e.domid != e.master]
    if not joins:
        return None
    names = {c.domid: c.name for c in case.records.created} | {0: "dom0"}
    caps = {c.domid: c.cap_percent for c in case.records.created if c.cap_percent}
    masters = {e.master for e in joins}
    stretch = (joins[0].t_ns - BEFORE_NS, joins[0].t_ns + AFTER_NS)
    seen = {s.domid for s in found.slices if s.end_ns > stretch[0] and s.begin_ns < stretch[1]}
    shown = {domid: name for domid, name in names.items() if domid in seen}
    capped = {m: cap for m, cap in caps.items() if m in masters}
    machine = plots.machine({"dims": asdict(case.dims)})
    title = (
        f"{machine}: 100 ms of the hypervisor's own trace, as {names[joins[0].domid or 0]} joins"
    )
    drawn = chart(found, shown, capped, stretch, title).render()
    caption = (
        "Every switch. The lowest row is what the group ran from refill to refill, the dotted line "
        "its cap; behind it, when it was throttled. The whole timeline is "
        f"`{case.folder.name}/timeline.json`, for ui.perfetto.dev."
    )
    return Figure(f"timeline-{case.dims.name()}", drawn, caption, wide=True)


def chart(
    found: Timeline,
    names: Mapping[int, str],
    caps: Mapping[int, int],
    stretch_ns: tuple[float, float],
    title: str,
) -> Chart:
    """``names`` by domain id, in the order of the rows; ``caps``: percent of a pCPU, by master.

    Times on the axis are ms from the beginning of the stretch.
    """
    begin, end = stretch_ns
    inside = [s for s in found.slices if s.end_ns > begin and s.begin_ns < end and s.domid != IDLE]
    pcpus = sorted({s.pcpu for s in found.slices})
    rows = [f"pCPU {p}" for p in pcpus] + list(names.values())
    rows += [f"group of {names[m]}" for m in caps]
    place = {name: len(rows) - 1 - k for k, name in enumerate(rows)}
    span_ms = (end - begin) / 1e6
    time, tracks = Exact(0.0, span_ms, 12), Names(tuple(reversed(rows)))
    left = 24 + int(7 * max(map(len, rows)))
    made = Chart(title, time, tracks, "ms", "", 1080, 86 + 30 * len(rows), left)
    colours = {domid: k for k, domid in enumerate(names)}
    for domid, name in names.items():
        made.name(colours[domid], name)
    made.name(7, "what the group ran in each 10 ms", "hatch")
    made.name(7, "throttled", "shade")

    def ms(t_ns: float) -> float:
        return (min(max(t_ns, begin), end) - begin) / 1e6

    for since, until, master in timeline.throttled(found):
        if until > begin and since < end and master in caps:
            y = place[f"group of {names[master]}"]
            made.box((ms(since), ms(until)), (y - 0.4, y + 0.45), "shade", "throttled")
    for s in inside:
        where = (ms(s.begin_ns), ms(s.end_ns))
        name = names.get(s.domid, f"d{s.domid}")
        length = (s.end_ns - s.begin_ns) / 1e6
        says = f"{name}, {length:.3f} ms on pCPU {s.pcpu}"
        if s.delay_ns is not None:
            says += f", {s.delay_ns / 1e6:.3f} ms after its wake-up"
        classes = f"fill c{colours.get(s.domid, 7) % svg.COLOURS}"
        for row in (f"pCPU {s.pcpu}", name):
            if row in place:
                made.box(where, (place[row] - 0.38, place[row] + 0.38), classes, says)
    for master, cap in caps.items():
        y = place[f"group of {names[master]}"]
        whole = cap / 100 * REFILL_NS
        for until, ran in timeline.budget(found, master, REFILL_NS):
            since = until - REFILL_NS
            if until <= begin or since >= end:
                continue
            part = min(ran / whole, 1.15)
            says = f"the group ran {ran / 1e6:.3f} ms in these 10 ms; {whole / 1e6:g} is its cap"
            made.box((ms(since), ms(until)), (y - 0.4, y - 0.4 + 0.72 * part), "hatch", says)
        made.rule(y - 0.4 + 0.72)
    for event in found.events:
        if not begin <= event.t_ns <= end or event.domid == event.master:
            continue
        if event.what in ("join", "leave"):
            made.event(ms(event.t_ns), f"{names.get(event.domid or 0, '')} {event.what}s")
        elif event.what == "dissolve":
            made.event(ms(event.t_ns), "dissolved")
    return made
