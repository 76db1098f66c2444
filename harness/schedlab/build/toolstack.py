# SPDX-License-Identifier: GPL-2.0-only
"""Xen's toolstack (C xenstored, libxl, xl, Python's xen.lowlevel), and the image in which it runs.

The image is one more initramfs for dom0's kernel: what Xen's `make install` installs, nemesis,
BusyBox for a shell, Debian's python3 with the modules that are wanted, and the libraries that all
these are linked to, from this machine.  Its /init is images/toolstack/init.
"""

from __future__ import annotations

import py_compile
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from schedlab.build import xen as xen_recipes
from schedlab.build.guests import guests
from schedlab.build.image import Member, cpio
from schedlab.build.layout import Layout
from schedlab.build.toolchain import compiler, compiler_environment, toolchain
from schedlab.core.command import dry_run, query, run
from schedlab.core.errors import LabError
from schedlab.core.store import exclusive, key_of, sha256_file

PYTHON = Path("/usr/bin/python3.11")
BUSYBOX = Path("/bin/busybox")
# What Python scripts in dom0 may import, with all that these import.
_PYTHON_MODULES = "json, os, sys, time, errno, subprocess"
# Loaded by name, by a thread that is cancelled, as xl's is.
_LIBGCC = Path("/usr/lib/x86_64-linux-gnu/libgcc_s.so.1")
# Below tools/, in build order; what an installation wants of them is installed.
_LIBRARIES = (*xen_recipes.LIBRARIES, "hypfs", "light", "util")
# The C xenstored and its clients: the first of 4.17, the next two of 4.20.
_PROGRAMS = ("xenstore", "xenstored", "xs-clients", "console", "xl", "helpers", "python")
_PARTS = (*(f"libs/{name}" for name in _LIBRARIES), *_PROGRAMS)
# In a tree that was built: the key of what it was built of.
_STAMP = ".nemesis-built"
_FOLDERS = (
    "dev proc sys run tmp root usr usr/bin usr/sbin usr/lib usr/lib64 guests etc etc/xen var "
    "usr/lib/python3.11/lib-dynload "
    "var/lib var/lib/xen var/lib/xenstored var/log var/log/xen run/lock run/xen run/xenstored"
).split()
_LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "var/run": "../run",
    "var/lock": "../run/lock",
    "usr/bin/python3": PYTHON.name,
}


def toolstack(layout: Layout, xen: str) -> Path:
    """Build it from the patched source; the entry has root/, as `make install` leaves it."""
    found = xen_recipes.source(layout, xen, "patched")
    inputs = _inputs(found)

    def make(folder: Path) -> None:
        with exclusive(layout.trees / "lock", "a build"):
            _compile(layout, found, _tree(layout, xen), folder / "root", inputs)

    return layout.store.get("toolstack", inputs, make, title=f"xl, xenstored {xen}")


def kept_tree(layout: Layout, xen: str) -> Path:
    """The source as it was built, with all objects; the caller has the lock of builds.

    Files may be edited, and compiled by install(); the next who asks gets the source as it was.
    """
    found = xen_recipes.source(layout, xen, "patched")
    tree = _tree(layout, xen)
    inputs = _inputs(found)
    stamp = tree / _STAMP
    if not stamp.is_file() or stamp.read_text() != key_of(inputs):
        with tempfile.TemporaryDirectory() as folder:
            _compile(layout, found, tree, Path(folder) / "root", inputs)
    xen_recipes.check_out(found, tree, layout.log(tree.name))
    return tree


def _inputs(found: xen_recipes.Source) -> dict[str, str]:
    return {
        "recipe": "2",
        "sources": xen_recipes.toolstack_sources(found),
        "toolchain": toolchain(),
    }


def _tree(layout: Layout, xen: str) -> Path:
    return layout.trees / f"toolstack-{xen}"


def _compile(
    layout: Layout, found: xen_recipes.Source, tree: Path, root: Path, inputs: dict[str, str]
) -> None:
    log = layout.log(tree.name)
    run(["rm", "-rf", tree], log=log)
    xen_recipes.git("clone", "-q", "--no-hardlinks", found.repository, tree, log=log)
    if not dry_run():
        (tree / ".scmversion").write_text(f"tree:{found.tree[:12]}\n")
    environment = {**xen_recipes.build_environment(), **compiler_environment(layout)}
    # The outer configure fixes the paths that are compiled in, and calls that of tools/.
    for folder in (tree, tree / "tools"):
        if not (folder / "configure").is_file():
            run(["autoconf"], cwd=folder, env=environment, log=log, label="generating configure")
    configure = ["./configure", "--prefix=/usr", "--libdir=/usr/lib", "--enable-tools"]
    configure += ["--disable-xen", "--disable-docs", "--disable-stubdom"]
    configure += [*xen_recipes.CONFIGURE_TOOLS, "ac_cv_path_IASL=/usr/bin/iasl"]
    run(configure, cwd=tree, env=environment, log=log, label="configuring Xen's tools")

    # Where .pc files are copied to: not made by whom we call.
    run(["mkdir", "-p", root / "usr/lib/pkgconfig"], log=log)
    headers = [*_make(layout, tree, root), "-C", tree / "tools" / "include"]
    run(headers, env=environment, log=log, label="Xen's headers")
    has = [name for name in _PARTS if (tree / "tools" / name / "Makefile").is_file()]
    install(layout, tree, root, _PARTS if dry_run() else has)
    if not dry_run():
        (tree / _STAMP).write_text(key_of(inputs))


def _make(layout: Layout, tree: Path, root: Path) -> list[str | Path]:
    # Debian's python3: configure leaves make the name alone, and another may be first in PATH.
    return [
        *("make", f"-j{layout.jobs}", f"CC={compiler()}", f"PYTHON={PYTHON}"),
        *(f"EXTRA_CFLAGS_XEN_TOOLS=-ffile-prefix-map={tree}=.", f"DESTDIR={root}"),
    ]


def install(layout: Layout, tree: Path, root: Path, parts: Sequence[str]) -> None:
    """Compile what has changed in some of the parts of a tree, and install these parts."""
    environment = {**xen_recipes.build_environment(), **compiler_environment(layout)}
    for part in parts:
        for target in ("all", "install"):
            run(
                [*_make(layout, tree, root), "-C", tree / "tools" / part, target],
                env=environment,
                log=layout.log(tree.name),
                label=f"tools/{part}: make {target}",
            )


def part_of(file: str) -> str:
    """The part of the toolstack in whose folder a file of the Xen tree is.  Raises LabError."""
    for part in _PARTS:
        if file.startswith(f"tools/{part}/"):
            return part
    raise LabError(f"{file} is in no folder of the toolstack", f"they are {', '.join(_PARTS)}")


def image(layout: Layout, xen: str, installed: Path | None = None) -> Path:
    """Write the archive, of the toolstack or of an entry like it; the entry has initramfs."""
    built = installed or toolstack(layout, xen)
    guests_built = guests(layout, xen)
    ours = layout.root / "images" / "toolstack"
    if dry_run():
        print(f"# write an initramfs of {built / 'root'}, {guests_built}, {ours}")
        return layout.store.path("toolstack-image", {})
    members = list(_members(built / "root", guests_built, ours))
    archive = cpio(members)

    def make(folder: Path) -> None:
        (folder / "initramfs").write_bytes(archive)

    # Many of the files are this machine's: so the archive itself is its identity.
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "initramfs"
        whole.write_bytes(archive)
        inputs = {"recipe": "1", "archive": sha256_file(whole)}
    return layout.store.get("toolstack-image", inputs, make, title="toolstack image")


def _members(root: Path, built: Path, ours: Path) -> Iterator[Member]:
    files = {**_installed(root), **_python()}
    files["init"] = ours / "init"
    files |= {f"root/{path.name}": path for path in sorted(ours.glob("*.cfg"))}
    files["usr/lib/xen/bin/stub-console"] = ours / "stub-console"
    files["usr/bin/busybox"] = present(BUSYBOX, "busybox-static")
    for name in ("nemesis", "labctl"):
        files[f"usr/sbin/{name}"] = built / name
    files |= {f"guests/{path.name}": path for path in sorted((built / "guests").glob("*"))}
    files[str(_LIBGCC.relative_to("/"))] = present(_LIBGCC, "libgcc-s1")
    files |= _shared_libraries(files.values(), root)
    links = {**_LINKS, **_installed_links(root)}
    taken = {Path(name).name for name in (*files, *links)}
    applets = set(query([BUSYBOX, "--list"]).split()) - taken
    links |= {f"usr/bin/{applet}": "busybox" for applet in applets}
    modules = list(_python_modules())

    yield Member("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield Member("etc/xen/xl.conf", stat.S_IFREG | 0o644)
    for name, path in files.items():
        yield Member(name, stat.S_IFREG | _permissions(path), path.read_bytes())
    for name, target in links.items():
        yield Member(name, stat.S_IFLNK | 0o777, target.encode())
    yield from modules
    named = [*files, *links, *(module.name for module in modules)]
    folders = {str(parent) for name in named for parent in Path(name).parents} - {"."}
    for name in sorted(folders | set(_FOLDERS)):
        yield Member(name, stat.S_IFDIR | (0o1777 if name == "tmp" else 0o755))


def _permissions(path: Path) -> int:
    with path.open("rb") as file:
        return 0o755 if path.stat().st_mode & 0o111 or file.read(4) == b"\x7fELF" else 0o644


def present(path: Path, package: str) -> Path:
    if not path.is_file():
        raise LabError(f"{path} is not there", f"`make setup` installs {package}")
    return path


def _wanted(path: Path) -> bool:
    name = str(path)
    return not (
        "/include/" in name
        or "/pkgconfig/" in name
        or "/xen/migration/" in name
        or ".egg-info" in name
        or path.suffix == ".a"
    )


def _installed(root: Path) -> dict[str, Path]:
    found = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(root)): path for path in found if _wanted(path)}


def _installed_links(root: Path) -> dict[str, str]:
    found = [path for path in sorted(root.rglob("*")) if path.is_symlink() and _wanted(path)]
    return {str(path.relative_to(root)): str(path.readlink()) for path in found}


def _shared_libraries(files: Iterable[Path], root: Path) -> dict[str, Path]:
    """What the dynamic linker of this machine takes for them, at the same place."""
    found: dict[str, Path] = {}
    for path in files:
        with path.open("rb") as file:
            elf = file.read(4) == b"\x7fELF"
        if not elf or "(NEEDED)" not in query(["readelf", "-d", path]):
            continue
        listing = query(["ldd", path], env={"LD_LIBRARY_PATH": str(root / "usr/lib")})
        for line in listing.splitlines():
            words = line.split()
            if "not found" in line:
                raise LabError(f"{path.name} needs {words[0]}", "`make setup` installs it")
            where = [word for word in words if word.startswith("/")]
            if where and not where[0].startswith(str(root)):
                # Debian's /lib is /usr/lib, in the image as well.
                place = where[0].lstrip("/")
                place = place if place.startswith("usr/") else f"usr/{place}"
                found[place] = Path(where[0]).resolve()
    return found


def _python() -> dict[str, Path]:
    """The interpreter, and the modules of its library that are shared objects."""
    files = {str(PYTHON.relative_to("/")): present(PYTHON, "python3")}
    return files | {str(p.relative_to("/")): p for p in _modules() if p.suffix == ".so"}


def _modules() -> list[Path]:
    program = (
        f"import sys, {_PYTHON_MODULES}; print('\\n'.join(sorted({{m.__file__ for m in "
        "sys.modules.values() if getattr(m, '__file__', None)})))"
    )
    isolated = {"PYTHONPATH": "", "HOME": "/nonexistent"}
    found = [Path(line) for line in query([PYTHON, "-s", "-c", program], env=isolated).split()]
    return [path for path in found if str(path).startswith("/usr/lib/python3.11/")]


def _python_modules() -> Iterator[Member]:
    """Its other modules, compiled: dom0 has better things to do."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "module.pyc"
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        for module in _modules():
            if module.suffix == ".py":
                py_compile.compile(
                    str(module), str(compiled), str(module), True, invalidation_mode=mode
                )
                name = str(module.relative_to("/").with_suffix(".pyc"))
                yield Member(name, stat.S_IFREG | 0o644, compiled.read_bytes())
