# SPDX-License-Identifier: GPL-2.0-only
"""Fetching: sources derived from the machine, alternates, files that are not what was locked."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from schedlab.build import apt, fetch
from schedlab.build.layout import Layout
from schedlab.build.lock import Choice, Item, LockedFile
from schedlab.core.errors import LabError

DEB822 = """\
Types: deb
# a comment inside
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/archive.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
# deb http://off.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian/ bookworm main non-free # the mirror
deb-src http://mirror.example/debian/ bookworm main
deb http://security.example/debian-security bookworm-security main
deb http://foreign.example/apt bookworm stable
"""


def test_deb822() -> None:
    """Comments and disabled paragraphs are skipped, options are kept."""
    first, second = apt.parse_deb822(DEB822)
    assert first.uris == ("http://mirror.example/debian",)
    assert first.suites == ("bookworm", "bookworm-updates")
    assert first.options == (("signed-by", "/usr/share/keyrings/archive.gpg"),)
    assert second.suites == ("bookworm-security",)


def test_deb822_with_an_inline_key() -> None:
    """A folded Signed-By goes through as it is."""
    source = apt.parse_deb822(
        "Types: deb\nURIs: u\nSuites: trixie\nComponents: main\nSigned-By:\n -----BEGIN\n .\n abc\n"
    )[0]
    assert source.options == (("signed-by", "\n -----BEGIN\n .\n abc"),)


def test_one_line() -> None:
    """[options] are kept, except those that choose architectures."""
    sources = apt.parse_one_line(ONE_LINE)
    assert len(sources) == 4
    assert sources[0].uris == ("http://mirror.example/debian/",)
    assert sources[0].components == ("main", "non-free")
    assert sources[0].options == (("signed-by", "/k.gpg"),)


@pytest.mark.parametrize("sources", [apt.parse_deb822(DEB822), apt.parse_one_line(ONE_LINE)])
def test_derived_sources(sources: list[apt.Source]) -> None:
    """The machine's mirror and key, the lock file's suites; security's from its own archive."""
    mirrors = apt.find_mirrors(sources)
    text = apt.render_sources(mirrors, "deb-src", ("bookworm", "bookworm-security", "trixie"))
    main, security, trixie = text.split("\n\n")
    assert "Types: deb-src" in main and "mirror.example/debian" in main and "Signed-By: /" in main
    assert "Suites: bookworm-security" in security and "debian-security" in security
    assert "Suites: trixie" in trixie and "mirror.example/debian" in trixie
    assert apt.parse_deb822(text)[0].suites == ("bookworm",)


def test_debian_is_told_from_others() -> None:
    """A foreign archive that uses Debian's names comes second, whatever its place."""
    foreign = apt.Source(("http://foreign.example/apt",), ("bookworm",), ("main",), ())
    sources = [foreign, *apt.parse_one_line(ONE_LINE)]
    assert apt.find_mirrors(sources).main.uris == ("http://mirror.example/debian/",)
    with pytest.raises(LabError, match="no Debian archive"):
        apt.find_mirrors([apt.Source(("http://x.example",), ("nodistro",), ("main",), ())])


def test_no_security_archive() -> None:
    """Without one, its suites are left out."""
    mirrors = apt.find_mirrors(apt.parse_one_line("deb http://m.example/debian stable main"))
    assert "security" not in apt.render_sources(mirrors, "deb", ("bookworm", "bookworm-security"))


# --- choosing among versions, with an apt that offers what the test says ---


CONTENT = b"the very bytes"


def choice(version: str) -> Choice:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Choice(version, (LockedFile("thing", version, f"thing_{version}.deb", digest),))


ITEM = Item("thing", "deb", ("bookworm",), (choice("1"), choice("2")))


class FakeApt(apt.PrivateApt):
    """Offers some versions and delivers some bytes."""

    offers: set[tuple[str, str]] = set()
    delivers: bytes = CONTENT
    lost: frozenset[str] = frozenset()
    pooled: frozenset[str] = frozenset()

    def prepare(self) -> None:
        """Nothing to fetch."""

    def offered(self) -> set[tuple[str, str]]:
        return self.offers

    def download(self, choice: Choice, into: Path) -> None:
        if choice.version in self.lost:
            raise LabError("404 Not Found")
        for file in choice.files:
            (into / file.name).write_bytes(self.delivers)

    def download_from_pool(self, choice: Choice, into: Path) -> None:
        if choice.version not in self.pooled:
            raise LabError("404 Not Found")
        for file in choice.files:
            (into / file.name).write_bytes(self.delivers)


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A build folder of its own, and the fake apt."""
    monkeypatch.setattr(apt, "PrivateApt", FakeApt)
    monkeypatch.setattr(FakeApt, "offers", {("thing", "1"), ("thing", "2")})
    monkeypatch.setattr(FakeApt, "delivers", CONTENT)
    monkeypatch.setattr(FakeApt, "lost", frozenset())
    monkeypatch.setattr(FakeApt, "pooled", frozenset())
    return Layout(tmp_path, tmp_path / "build", tmp_path / "lock.toml", None, 1)


def test_first_choice(layout: Layout) -> None:
    """What is offered is fetched; then it is in the store and nobody is asked."""
    fetched = fetch.fetch_item(layout, ITEM)
    assert fetched.choice.version == "1"
    FakeApt.offers = set()
    assert fetch.fetch_item(layout, ITEM).folder == fetched.folder


def test_alternate_when_gone(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """A version that is gone is named, and the next one is taken."""
    FakeApt.offers = {("thing", "2"), ("thing", "3")}
    assert fetch.fetch_item(layout, ITEM).choice.version == "2"
    assert "thing 1 is gone from bookworm; apt offers 2, 3" in capsys.readouterr().err


def test_alternate_when_lost(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """So is one that is listed and cannot be had."""
    FakeApt.lost = frozenset({"1"})
    assert fetch.fetch_item(layout, ITEM).choice.version == "2"
    assert "could not fetch thing 1" in capsys.readouterr().err


def test_pool(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """What the indices list no more is taken from the pool while it is there, and is checked."""
    FakeApt.offers = {("thing", "2")}
    FakeApt.pooled = frozenset({"1"})
    pooled = replace(ITEM, pool="pool/main/t/thing")
    assert fetch.fetch_item(layout, pooled).choice.version == "1"
    FakeApt.pooled = frozenset()
    other = replace(layout, build=layout.build / "other")
    assert fetch.fetch_item(other, pooled).choice.version == "2"
    assert "thing 1 is gone" in capsys.readouterr().err


def test_all_gone(layout: Layout) -> None:
    """None left: the error says what apt offers, and what to do."""
    FakeApt.offers = {("thing", "3")}
    with pytest.raises(LabError, match="apt offers 3") as caught:
        fetch.fetch_item(layout, ITEM)
    assert "lock.toml" in caught.value.remedy


@pytest.mark.parametrize("delivered", [CONTENT[:-1], b"other bytes"])
def test_wrong_bytes(layout: Layout, delivered: bytes) -> None:
    """Truncated or changed: the error has name, expected and got; no alternate, no entry."""
    FakeApt.delivers = delivered
    with pytest.raises(LabError) as caught:
        fetch.fetch_item(layout, ITEM)
    assert "thing_1.deb" in caught.value.what
    assert hashlib.sha256(delivered).hexdigest() in caught.value.what
    assert hashlib.sha256(CONTENT).hexdigest() in caught.value.what
    assert caught.value.remedy
    assert layout.store.find("fetch-thing", {}) is None
    assert [path for path in layout.build.glob("store/*/*") if path.is_dir()] == []


def test_downloads_folder_comes_first(layout: Layout, tmp_path: Path) -> None:
    """A file that is at hand is taken without asking apt, and is checked like any other."""
    FakeApt.offers = set()
    at_hand = Layout(layout.root, layout.build, layout.lock_file, tmp_path, 1)
    (tmp_path / "thing_2.deb").write_bytes(CONTENT)
    assert fetch.fetch_item(at_hand, ITEM).choice.version == "2"
    (tmp_path / "thing_1.deb").write_bytes(CONTENT[:3])
    other = Layout(layout.root, tmp_path / "other", layout.lock_file, tmp_path, 1)
    with pytest.raises(LabError, match="3 bytes"):
        fetch.fetch_item(other, ITEM)
