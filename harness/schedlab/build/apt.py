# SPDX-License-Identifier: GPL-2.0-only
"""Fetching from the Debian archive through the machine's own apt set-up, without touching it.

Which mirror, which keys and which proxy are the machine's business, so they are read from its
configuration: its
sources (deb822 and one-line) tell the mirror, `apt-config dump` everything else.  From these a
private configuration is
derived in the build folder, with the suites that the lock file names.  apt verifies signatures;
what it delivers is then
checked against the lock file.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from schedlab.build.lock import Choice, Item
from schedlab.core.command import dry_run, query, run
from schedlab.core.errors import LabError
from schedlab.core.store import sha256_file

_DEBIAN_SUITE = re.compile(
    r"(?P<release>bookworm|trixie|forky|sid|stable|oldstable|oldoldstable|testing|unstable)"
    r"(?P<part>|-updates|-backports|-proposed-updates|-security|/updates)$"
)
APT_HELPER = "/usr/lib/apt/apt-helper"
_REMEDY_SOURCES = (
    "add Debian's archive to the machine's apt sources, or set DOWNLOADS in "
    "local.mk to a folder with the file"
)


@dataclass(frozen=True)
class Source:
    """One place packages come from, as deb822 fields."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...]  # Signed-By and the like


@dataclass(frozen=True)
class Mirrors:
    """Where the machine gets Debian from: the main archive, and the security archive if it uses
    one.
    """

    main: Source
    security: Source | None


def parse_deb822(text: str) -> list[Source]:
    """The enabled sources of a *.sources file."""
    sources = []
    for paragraph in re.split(r"\n[ \t]*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line[:1] in (" ", "\t"):
                fields[name] += (
                    "\n" + line
                )  # a folded value, such as a key given inline, is kept as it is
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if "uris" not in fields or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        plain = ("types", "uris", "suites", "components", "enabled", "architectures")
        options = tuple((key, value) for key, value in fields.items() if key not in plain)
        sources.append(
            Source(
                tuple(fields["uris"].split()),
                tuple(fields.get("suites", "").split()),
                tuple(fields.get("components", "").split()),
                options,
            )
        )
    return sources


def parse_one_line(text: str) -> list[Source]:
    """The sources of a *.list file."""
    sources = []
    for line in text.splitlines():
        match = re.match(r"\s*deb(?:-src)?\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match is None:
            continue
        options = []
        for option in (match[1] or "").split():
            key, _, value = option.partition("=")
            if key.rstrip("+-") not in ("arch", "lang", "target"):
                options.append((key, value.replace(",", " ")))
        sources.append(Source((match[2],), (match[3],), tuple(match[4].split()), tuple(options)))
    return sources


def find_mirrors(sources: Iterable[Source]) -> Mirrors:
    """Tell Debian's own archives among the machine's sources: a Debian suite with component main.

    A foreign repository may use Debian's suite names too; one whose address ends in /debian
    (/debian-security) wins.
    """
    main: list[Source] = []
    security: list[Source] = []
    for source in sources:
        if "main" not in source.components:
            continue
        for suite in source.suites:
            match = _DEBIAN_SUITE.match(suite)
            if match is None:
                continue
            (security if match["part"] in ("-security", "/updates") else main).append(source)
    if not main:
        raise LabError(
            "no Debian archive (a Debian suite with component main) in apt's sources",
            _REMEDY_SOURCES,
        )
    security.sort(key=lambda source: not re.search(r"/debian-security(/|$)", source.uris[0]))
    main.sort(key=lambda source: not re.search(r"/debian(/|$)", source.uris[0]))
    return Mirrors(main[0], security[0] if security else None)


def render_sources(mirrors: Mirrors, kind: str, suites: Iterable[str]) -> str:
    """The private sources file (deb822): kind "deb" or "deb-src", the suites from the archive each
    belongs to.
    """
    paragraphs = []
    for suite in suites:
        source = mirrors.security if suite.endswith("-security") else mirrors.main
        if source is None:
            continue
        fields = [
            ("Types", kind),
            ("URIs", " ".join(source.uris)),
            ("Suites", suite),
            ("Components", "main"),
            *((key.title(), value) for key, value in source.options),
        ]
        paragraphs.append("".join(f"{key}: {value}\n" for key, value in fields))
    return "\n".join(paragraphs)


def read_machine_sources() -> list[Source]:
    """All sources the machine's apt uses."""
    shown = query(
        [
            "apt-config",
            "shell",
            "LIST",
            "Dir::Etc::sourcelist/f",
            "PARTS",
            "Dir::Etc::sourceparts/d",
        ]
    )
    places = dict(re.findall(r"(?m)^(\w+)='(.*)'$", shown))
    sources = []
    one_line = [Path(places.get("LIST", "/nonexistent"))]
    parts = Path(places.get("PARTS", "/nonexistent"))
    one_line += sorted(parts.glob("*.list"))
    for path in one_line:
        if path.is_file():
            sources += parse_one_line(path.read_text())
    for path in sorted(parts.glob("*.sources")):
        sources += parse_deb822(path.read_text())
    return sources


# Fetches the files of a choice into a folder.
Download = Callable[[Choice, Path], None]


class PrivateApt:
    """apt with lists, cache and sources of its own, for one item of the lock file."""

    def __init__(self, folder: Path, item: Item, log: Path) -> None:
        self.folder = folder
        self.item = item
        self.log = log
        self.env = {"APT_CONFIG": str(folder / "apt.conf")}

    def prepare(self) -> None:
        """Write the configuration and fetch the indices it needs."""
        kind = "deb-src" if self.item.kind == "tarball" else "deb"
        sources = render_sources(find_mirrors(read_machine_sources()), kind, self.item.suites)
        if not sources:
            raise LabError(
                f"apt's sources have no archive with {', '.join(self.item.suites)}", _REMEDY_SOURCES
            )
        if not dry_run():
            shutil.rmtree(self.folder, ignore_errors=True)
            for name in ("parts", "lists/partial", "cache/archives/partial"):
                (self.folder / name).mkdir(parents=True)
            (self.folder / "parts" / "nemesis.sources").write_text(sources)
            (self.folder / "apt.conf").write_text(self._configuration())
        run(["apt-get", "-q", "update"], env=self.env, log=self.log, label="apt-get update")

    def offered(self) -> set[tuple[str, str]]:
        """All (package, version) pairs of the item that the indices list."""
        packages = sorted({file.package for choice in self.item.choices for file in choice.files})
        offered = set()
        for line in query(["apt-cache", "madison", *packages], env=self.env).splitlines():
            package, version = (word.strip() for word in line.split("|")[:2])
            offered.add((package, version))
        return offered

    def download(self, choice: Choice, into: Path) -> None:
        """Fetch every file of a choice into a folder."""
        wanted = [f"{file.package}={file.version}" for file in choice.files]
        get: list[str] = ["apt-get", "-q"]
        if self.item.kind == "tarball":
            get += ["source", "--tar-only", "--download-only"]
        else:
            get += ["download"]
        run(
            [*get, *wanted],
            cwd=into,
            env=self.env,
            log=self.log,
            label=f"fetching {' '.join(wanted)}",
        )

    def download_from_pool(self, choice: Choice, into: Path) -> None:
        """The same for files that the indices list no more, by their place in the archive.

        Files stay there for a while, or in a cache on the way; apt checks them by the lock file.
        """
        (main, *_) = find_mirrors(read_machine_sources()).main.uris
        for file in choice.files:
            address = f"{main.rstrip('/')}/{self.item.pool}/{quote(file.name)}"
            run(
                [APT_HELPER, "download-file", address, into / file.name, f"SHA256:{file.sha256}"],
                cwd=into,
                env=self.env,
                log=self.log,
                label=f"fetching {file.name} from the archive's pool",
            )

    def _configuration(self) -> str:
        """The machine's settings, except where things are, what runs afterwards, and pins."""
        ours = ("Dir::Etc", "Dir::State::lists", "Dir::Cache", "DPkg", "APT::Update::P")
        kept = [
            line
            for line in query(["apt-config", "dump"]).splitlines()
            if not line.lower().startswith(tuple(name.lower() for name in ours))
            or line.lower().startswith(("dir::etc::trusted", "dir::etc::netrc", 'dir::etc "'))
        ]
        settings = {
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": f"{self.folder}/parts",
            "Dir::State::lists": f"{self.folder}/lists",
            "Dir::Cache": f"{self.folder}/cache",
            "Dir::Cache::archives": "archives/",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Sandbox::User": "root",
        }
        return "\n".join([*kept, *(f'{key} "{value}";' for key, value in settings.items())]) + "\n"


def fetch(choice: Choice, into: Path, downloads: Path | None, download: Download) -> None:
    """Put the files of a choice into a folder, each checked against the lock file.

    They are copied from ``downloads`` where that has them all, else ``download`` is called.
    """
    at_hand = downloads is not None and all(
        (downloads / file.name).is_file() for file in choice.files
    )
    if at_hand and downloads is not None:
        for file in choice.files:
            run(["cp", downloads / file.name, into / file.name])
    else:
        download(choice, into)
    if not dry_run():
        verify(choice, into)


def verify(choice: Choice, folder: Path) -> None:
    """Check every file's checksum; LabError names file, expected and got."""
    for file in choice.files:
        path = folder / file.name
        if not path.is_file():
            raise LabError(
                f"apt did not deliver {file.name}",
                "compare the name in the lock file with the archive's",
            )
        got = sha256_file(path)
        if got != file.sha256:
            raise LabError(
                f"{file.name}: SHA-256 is {got} ({path.stat().st_size} bytes), the lock file "
                f"says {file.sha256}",
                "truncated or not the file that was locked: run again to fetch it anew; if it "
                "stays, compare with"
                f" `apt-cache show {file.package}={file.version}` before changing the lock file",
            )
