# SPDX-License-Identifier: GPL-2.0-only
"""Records as an ideal hypervisor would have them made: exact caps, even splits, no overhead.

Used as good records, and, distorted, as bad ones.  Also the inside of the fake QEMU, so it needs
the standard library only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Json = dict[str, Any]

HELLO: Json = {
    "r": "hello",
    "format": 1,
    "xen_version": "4.17.5",
    "xen_build": "00",
    "scheduler": "credit2",
    "pcpus": 4,
    "cpu_khz": 1000000,
    "total_kib": 524288,
}
REFILL_NS = 10_000_000
READY: Json = {"r": "ready", "t_ns": 1_000_000_000}


def records(scenario: Json) -> list[Json]:
    """The records (a list of dicts, no hello) of a compiled scenario (a dict)."""
    domains = {d["name"]: d for d in scenario["domains"]}
    domid = {"dom0": 0} | {name: i for i, name in enumerate(domains, 1)}
    out = [
        {
            "r": "domain",
            "name": d["name"],
            "domid": domid[d["name"]],
            "image": d["image"],
            "vcpus": d["vcpus"],
            "cap_percent": d["cap_percent"],
            "weight": d["weight"],
        }
        for d in domains.values()
    ]
    out.append({"r": "scenario", "name": scenario["name"], "t0_ns": 2_000_000_000})
    cpu = dict.fromkeys(domid, 0)
    caps = {name: d["cap_percent"] for name, d in domains.items()}
    master_of: dict[str, str] = {}
    usage: dict[str, int] = {}
    running: set[str] = set()
    now = 0
    for i, step in enumerate(scenario["timeline"]):
        for name in running:
            group = _group(master_of, name)
            cap = caps[group[0]] or 100 * len(group)
            active = [member for member in group if member in running]
            got = (step["t_ns"] - now) * cap // (100 * len(active))
            cpu[name] += got
            usage[group[0]] = usage.get(group[0], 0) + got
        now = step["t_ns"]
        op = step["op"]
        if op == "end":
            break
        if op == "sample":
            out.append(_sample(i, step, domid, cpu, master_of, caps, usage))
            continue
        if op in ("start", "unpause"):
            running.add(step["domain"])
        elif op in ("pause", "kill", "shutdown"):
            running.discard(step["domain"])
        elif op == "join":
            master_of[step["member"]] = step["master"]
        elif op == "leave":
            del master_of[step["member"]]
        elif op == "cap":
            caps[step["domain"]] = step["cap_percent"]
        done = {"r": "op", "i": i, "op": op, "t_ns": now, "done_ns": now, "errno": 0}
        out.append(done)
    out.append({"r": "end", "errors": 0})
    return out


def _group(master_of: dict[str, str], name: str) -> list[str]:
    master = master_of.get(name, name)
    return [master, *(m for m, of in master_of.items() if of == master)]


def _sample(
    i: int,
    step: Json,
    domid: dict[str, int],
    cpu: dict[str, int],
    master_of: dict[str, str],
    caps: dict[str, int],
    usage: dict[str, int],
) -> Json:
    refills = step["t_ns"] // REFILL_NS
    counts = {"nr_periods": refills, "nr_throttled": refills, "throttled_ns": step["t_ns"] // 2}
    groups = []
    for master in sorted(set(master_of.values())):
        names = _group(master_of, master)
        parts = [
            {"name": n, "domid": domid[n], "weight": 0, "usage_ns": cpu[n], **counts} for n in names
        ]
        groups.append(
            {
                "master": master,
                "now_ns": step["t_ns"],
                "cap_percent": caps[master],
                "weight": 256,
                "usage_ns": usage.get(master, 0),
                **counts,
                "domains": parts,
            }
        )
    uses = [
        {"name": n, "domid": domid[n], "cpu_ns": used, "state": "running", "guest": []}
        for n, used in cpu.items()
    ]
    return {
        "r": "sample",
        "i": i,
        "label": step["label"],
        "due_ns": step["t_ns"],
        "t_ns": step["t_ns"],
        "span_ns": 0,
        "domains": uses,
        "groups": groups,
    }


def lines(records_: list[Json]) -> str:
    """As the controller writes them."""
    return "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records_)


if __name__ == "__main__":
    sys.stdout.write(lines(records(json.loads(Path(sys.argv[1]).read_text()))))
