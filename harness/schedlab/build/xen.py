# SPDX-License-Identifier: GPL-2.0-only
"""Xen: the source with our series on it as git commits, the hypervisor, libxenctrl and libxenguest.

The source is a git repository: tarball = tag `base`, then one commit a patch.  Names and dates are
fixed, so the commit
ids are a function of tarball and series.  The hypervisor is built in a work tree that is kept, so
an edit of one file
compiles one file; a stamp tells a build that did not end well, and then everything is compiled
again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from schedlab.build import fetch
from schedlab.build.kconfig import check_fragment
from schedlab.build.layout import Layout
from schedlab.build.toolchain import EPOCH, compiler, compiler_environment, toolchain
from schedlab.core.command import dry_run, query, run
from schedlab.core.errors import LabError
from schedlab.core.store import exclusive, key_of, sha256_file

VARIANTS = ("patched", "stock")

# The static libraries a controller needs, in build order.  Each is
# tools/libs/<name>/libxen<name>.a.
LIBRARIES = (
    "toolcore",
    "toollog",
    "call",
    "evtchn",
    "gnttab",
    "foreignmemory",
    "devicemodel",
    "ctrl",
    "guest",
    "store",
)

# configure asks for much that nothing of ours needs, and uses what the machine happens to have.
CONFIGURE_TOOLS = (
    "--disable-werror",
    "--disable-monitors",
    "--disable-ocamltools",
    "--disable-xsmpolicy",
    "--disable-golang",
    "--disable-seabios",
    "--disable-rombios",
    "--disable-ipxe",
    "--disable-pvshim",
    "--disable-9pfs",
    "--disable-qemu-traditional",
    "--with-system-qemu=/bin/true",
    "PKG_CONFIG=/bin/false",
    "glib_CFLAGS= ",
    "glib_LIBS= ",
    "pixman_CFLAGS= ",
    "pixman_LIBS= ",
    "ac_cv_header_bzlib_h=no",
    "ac_cv_header_lzma_h=no",
    "ac_cv_header_lzo_lzo1x_h=no",
)

# What libxenguest and below do not depend on: an edit of the scheduler must not rebuild them, and
# all after them.
_NOT_FOR_LIBRARIES = re.compile(
    r"xen/common/(sched/|[^/]*\.c$)|xen/(drivers|xsm|tools|test)/|docs/|stubdom/|CHANGELOG\.md$"
    r"|tools/(xl|python|golang|ocaml|libs/light|libs/util)/|tools/include/libxl[^/]*\.h$"
)
# What the toolstack (toolstack.py) does not depend on.
_NOT_FOR_TOOLSTACK = re.compile(
    r"xen/common/(sched/|[^/]*\.c$)|xen/(drivers|xsm|tools|test)/|docs/|stubdom/|CHANGELOG\.md$"
)

_NO_CONFIGURATION = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
_IDENTITY = {
    **_NO_CONFIGURATION,
    "GIT_AUTHOR_NAME": "nemesis",
    "GIT_AUTHOR_EMAIL": "nemesis@invalid",
    "GIT_AUTHOR_DATE": f"{EPOCH} +0000",
    "GIT_COMMITTER_NAME": "nemesis",
    "GIT_COMMITTER_EMAIL": "nemesis@invalid",
    "GIT_COMMITTER_DATE": f"{EPOCH} +0000",
    "TZ": "UTC",
}


def git(*words: str | Path, cwd: Path | None = None, log: Path | None = None) -> None:
    """git with nobody's configuration, and with fixed identity and dates where it commits."""
    environment = _IDENTITY if words[0] in ("commit", "am") else _NO_CONFIGURATION
    run(["git", *words], cwd=cwd, env=environment, log=log)


def ask_git(*words: str | Path, cwd: Path) -> str:
    """What git answers to a question, without the final newline."""
    environment = _IDENTITY if words[0] == "commit-tree" else _NO_CONFIGURATION
    return query(["git", *words], cwd=cwd, env=environment).rstrip("\n")


@dataclass(frozen=True)
class Source:
    """A Xen source: bare repository with tag base, its head commit, the tree id of that."""

    repository: Path
    commit: str
    tree: str
    version: str


def item_name(xen: str) -> str:
    """The lock file's name for a base."""
    return "xen-" + xen.replace(".", "_")


def patches(layout: Layout, xen: str) -> list[Path]:
    """The series of a base, in order."""
    return sorted(layout.series(xen).glob("*.patch"))


def source(layout: Layout, xen: str, variant: str) -> Source:
    """The source of a base: "stock" is the tarball, "patched" has the series on top."""
    if variant not in VARIANTS:
        raise LabError(f'variant "{variant}" is unknown', f"variants are {', '.join(VARIANTS)}")
    fetched = fetch.fetch(layout, item_name(xen))
    base_inputs: dict[str, object] = {"recipe": "1", "tarball": fetched.choice.inputs}
    log = layout.log(f"xen-source-{xen}")

    def make_base(folder: Path) -> None:
        tree = folder / "tree"
        if not dry_run():
            tree.mkdir()
        run(["tar", "-xf", fetched.files[0], "-C", tree, "--strip-components=1"], log=log)
        git("init", "-q", "-b", "main", cwd=tree)
        git("config", "core.autocrlf", "false", cwd=tree)
        git("add", "-A", "-f", ".", cwd=tree)
        git("commit", "-q", "--no-verify", "-m", f"Xen {fetched.choice.version}", cwd=tree)
        git("tag", "base", cwd=tree)
        _finish(tree, folder, log)

    base = layout.store.get("xen-source", base_inputs, make_base, title=f"xen source {xen} stock")
    if variant == "stock":
        return _source(base, fetched.choice.version)

    series = patches(layout, xen)
    if not series:
        raise LabError(
            f"no patches in {layout.series(xen)}",
            "is XEN right?  The bases are the folders of hypervisor/",
        )

    def make_patched(folder: Path) -> None:
        tree = folder / "tree"
        git("clone", "-q", "--no-hardlinks", base / "xen.git", tree, log=log)
        for patch in series:
            apply(patch, tree, log)
        _finish(tree, folder, log)

    inputs: dict[str, object] = {
        **base_inputs,
        "series": {patch.name: sha256_file(patch) for patch in series},
    }
    entry = layout.store.get("xen-source", inputs, make_patched, title=f"xen source {xen} patched")
    return _source(entry, fetched.choice.version)


def origin(layout: Layout, xen: str, variant: str, config: str) -> dict[str, str]:
    """What a hypervisor is made of and with, in a word each."""
    fetched = fetch.fetch(layout, item_name(xen))
    series = patches(layout, xen) if variant == "patched" else []
    return {
        "series": key_of({patch.name: sha256_file(patch) for patch in series}),
        "tarball": fetched.choice.version,
        "configuration": key_of({p.name: sha256_file(p) for p in fragments(layout, config)}),
        "toolchain": toolchain(),
    }


def apply(patch: Path, tree: Path, log: Path) -> None:
    """Put one patch on a tree as a commit; LabError names the patch that does not apply."""
    try:
        git("am", "-q", "--keep-cr", "--committer-date-is-author-date", patch, cwd=tree, log=log)
    except LabError as error:
        raise LabError(
            f"patch {patch.parent.name}/{patch.name} does not apply",
            "rebase it: `make xen-tree` gives a tree with the patches before it, `make "
            "patches` writes the series back",
            log,
        ) from error


def _finish(tree: Path, folder: Path, log: Path) -> None:
    """Turn a work tree into the entry: xen.git (one pack) and source.json."""
    git("repack", "-a", "-d", "-q", cwd=tree, log=log)
    if dry_run():
        return
    said = {
        name: ask_git("rev-parse", what, cwd=tree)
        for name, what in (("commit", "HEAD"), ("tree", "HEAD^{tree}"))
    }
    git("config", "core.bare", "true", cwd=tree)
    for name in ("hooks", "logs", "index", "ORIG_HEAD", "COMMIT_EDITMSG"):
        path = tree / ".git" / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (tree / ".git").rename(folder / "xen.git")
    (folder / "source.json").write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(tree)


def _source(entry: Path, version: str) -> Source:
    try:
        said = json.loads((entry / "source.json").read_text())
    except FileNotFoundError:
        if not dry_run():
            raise
        said = {"commit": "COMMIT", "tree": "TREE"}
    return Source(entry / "xen.git", said["commit"], said["tree"], version)


def check_out(source_: Source, tree: Path, log: Path) -> None:
    """Bring a kept work tree to a commit, touching only the files that differ."""
    if not (tree / ".git").is_dir():
        git("init", "-q", "-b", "work", tree, log=log)
    git("fetch", "-q", source_.repository, "main", cwd=tree, log=log)
    git(
        "-c", "advice.detachedHead=false", "checkout", "-q", "-f", source_.commit, cwd=tree, log=log
    )


def work_tree(layout: Layout, xen: str, variant: str) -> Path:
    """Where a hypervisor is built, and where the unit tests find the scheduler's source."""
    return layout.trees / f"xen-{xen}-{variant}"


def source_tree(layout: Layout, xen: str, variant: str = "patched") -> Path:
    """A checked-out source, for those who only read it."""
    found = source(layout, xen, variant)
    tree = work_tree(layout, xen, variant)
    with exclusive(layout.trees / f"{tree.name}.lock", f"a build of {tree.name}"):
        check_out(found, tree, layout.log(f"xen-{xen}-{variant}"))
    return tree


def fragments(layout: Layout, config: str) -> list[Path]:
    """The Kconfig fragments that make a configuration: release.config, and the one named on top of
    it.
    """
    names = ["release"] if config == "release" else ["release", config]
    paths = [layout.root / "hypervisor" / "config" / f"{name}.config" for name in names]
    for path in paths:
        if not path.is_file():
            known = sorted(found.stem for found in path.parent.glob("*.config"))
            raise LabError(f"{path} is not there", f"the configurations are {', '.join(known)}")
    return paths


def policies(parts: list[Path]) -> list[Path]:
    """The modules of Xen's example policy that belong to fragments: <config>.te."""
    return [path for part in parts if (path := part.with_suffix(".te")).is_file()]


def config_inputs(parts: list[Path]) -> dict[str, str]:
    """The SHA-256 of all that makes a configuration, by name."""
    return {path.name: sha256_file(path) for path in [*parts, *policies(parts)]}


def build_environment() -> dict[str, str]:
    """What would differ from one build to the next, fixed."""
    return {
        "XEN_BUILD_DATE": "Thu Jan  1 00:00:00 UTC 2026",
        "XEN_BUILD_TIME": "00:00:00",
        "XEN_BUILD_HOST": "lab",
        "XEN_WHOAMI": "nemesis",
        "XEN_DOMAIN": "lab",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PYTHON": "/usr/bin/python3",
    }


def hypervisor(layout: Layout, xen: str, variant: str, config: str = "release") -> Path:
    """Build the hypervisor; the entry has xen (ELF32, multiboot), xen-syms and .config."""
    return hypervisor_of(layout, xen, variant, source(layout, xen, variant), config)


def hypervisor_of(
    layout: Layout, xen: str, name: str, found: Source, config: str, *, often: bool = False
) -> Path:
    """The same of a source; ``name`` is of the work tree that is kept for it."""
    parts = fragments(layout, config)
    title = f"xen {xen} {name}" + ("" if config == "release" else f" {config}")
    log = layout.log(title.replace(" ", "-"))
    inputs = {
        "recipe": "1",
        "tree": found.tree,
        "config": config_inputs(parts),
        "toolchain": toolchain(),
    }

    def make(folder: Path) -> None:
        tree = work_tree(layout, xen, name if config == "release" else f"{name}-{config}")
        tree_lock = exclusive(layout.trees / f"{tree.name}.lock", f"a build of {tree.name}")
        with exclusive(layout.trees / "lock", "a build"), tree_lock:
            compile_hypervisor(layout, found, tree, parts, log, often=often)
            for file in ("xen", "xen-syms", ".config"):
                run(["cp", tree / "xen" / file, folder / file.replace(".config", "config")])

    return layout.store.get("xen", inputs, make, title=title)


def compile_hypervisor(
    layout: Layout,
    found: Source,
    tree: Path,
    parts: list[Path],
    log: Path,
    *,
    keep_edits: bool = False,
    often: bool = False,
) -> None:
    """Build in a work tree, anew when the last build there did not end well or had other tools.

    keep_edits: the tree has been checked out, and edited, by the caller.  often: what the compiler
    answers to make's questions is kept, which is a third of a build of one file.
    """
    stamp = tree / ".nemesis-built"
    if not dry_run():
        tree.mkdir(parents=True, exist_ok=True)
    if not keep_edits:
        check_out(found, tree, log)
    modules = policies(parts)
    built_by = "\n".join((toolchain(), *(part.read_text() for part in [*parts, *modules])))
    if not stamp.is_file() or stamp.read_text() != built_by:
        git("clean", "-q", "-x", "-f", "-d", cwd=tree, log=log)
    if not dry_run():
        _add_policies(tree, modules)
    environment = {**build_environment(), **compiler_environment(layout)}
    cc = compiler()
    if often:
        answers = layout.trees / f"answers-{hashlib.sha256(toolchain().encode()).hexdigest()[:16]}"
        run(["mkdir", "-p", answers])
        environment |= {"ANSWERS": str(answers), "COMPILER": cc}
        cc = str(Path(__file__).with_name("answers.sh"))
    make: list[str | Path] = ["make", "-C", tree / "xen", f"-j{layout.jobs}", f"CC={cc}"]
    # No xen.efi: half of the link, and nobody boots it.
    make += ["XEN_BUILD_PE=n", f"EXTRA_CFLAGS_XEN_CORE=-ffile-prefix-map={tree}=."]
    fresh = not (tree / "xen" / ".config").is_file()
    if not dry_run():
        stamp.unlink(missing_ok=True)
        (tree / ".scmversion").write_text(f"tree:{found.tree[:12]}\n")
    if fresh:
        run([*make, "defconfig"], env=environment, log=log, label="xen defconfig")
        run(
            [
                "sh",
                "-c",
                'out=$1; shift; cat "$@" >> "$out"',
                "sh",
                tree / "xen" / ".config",
                *parts,
            ],
            log=log,
        )
        run([*make, "olddefconfig"], env=environment, log=log, label="xen olddefconfig")
    if not dry_run():
        for part in parts:
            check_fragment(part, tree / "xen" / ".config", parts[parts.index(part) + 1 :])
    try:
        run(make, env=environment, log=log, label="building the hypervisor")
    except LabError:
        # make ended by itself, so what it has made is whole: an error in one file costs that file.
        if often and not dry_run():
            stamp.write_text(built_by)
        raise
    if not dry_run():
        stamp.write_text(built_by)


def _add_policies(tree: Path, modules: list[Path]) -> None:
    folder = tree / "tools" / "flask" / "policy" / "modules"
    for module in modules:
        shutil.copyfile(module, folder / module.name)
        line = f"{module.stem} = on\n"
        text = (folder / "modules.conf").read_text()
        if line not in text:
            (folder / "modules.conf").write_text(f"{text}\n{line}")


def tools(layout: Layout, xen: str, found: Source | None = None) -> Path:
    """Build libxenctrl, libxenguest and below from a source (the patched one); the entry has
    include/ and lib/*.a.
    """
    of = found or source(layout, xen, "patched")
    log = layout.log(f"tools-{xen}")
    sources = _listed_sources(of, _NOT_FOR_LIBRARIES)
    inputs = {"recipe": "4", "sources": sources, "toolchain": toolchain()}

    def make(folder: Path) -> None:
        with exclusive(layout.trees / "lock", "a build"):
            tree = layout.trees / f"tools-{xen}"
            compile_tools(layout, of, tree, log)
            collect_tools(tree, folder)
            run(["rm", "-rf", tree])

    return layout.store.get("tools", inputs, make, title=f"libxenctrl, libxenguest {xen}")


def toolstack_sources(found: Source) -> str:
    """Identity of all that may end up in the toolstack."""
    return _listed_sources(found, _NOT_FOR_TOOLSTACK)


def _listed_sources(found: Source, without: re.Pattern[str]) -> str:
    """SHA-256 of git's list of the source's files, but those that match."""
    if dry_run() and not found.repository.exists():
        return "SOURCES"
    listed = ask_git("ls-tree", "-r", found.commit, cwd=found.repository).splitlines()
    kept = [line for line in listed if not without.match(line.split("\t", 1)[1])]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def compile_tools(layout: Layout, found: Source, tree: Path, log: Path) -> None:
    """Configure and build the libraries in a fresh tree.

    configure asks for much that these libraries do not need (glib, pixman, yajl, iasl) and would
    use what the machine
    happens to have (bzip2, lzma, zstd for kernels the lab does not have): both are answered for it.
    """
    run(["rm", "-rf", tree], log=log)
    git("clone", "-q", "--no-hardlinks", found.repository, tree, log=log)
    if not dry_run():
        (tree / ".scmversion").write_text(f"tree:{found.tree[:12]}\n")
    environment = {**build_environment(), **compiler_environment(layout)}
    run(
        ["autoconf"],
        cwd=tree / "tools",
        env=environment,
        log=log,
        label="generating tools/configure",
    )
    run(
        [
            "./configure",
            *CONFIGURE_TOOLS,
            "ac_cv_path_IASL=/bin/true",
            "ac_cv_lib_yajl_yajl_alloc=yes",
        ],
        cwd=tree / "tools",
        env=environment,
        log=log,
        label="configuring Xen's tools",
    )
    make: list[str | Path] = ["make", f"-j{layout.jobs}", f"CC={compiler()}"]
    make += [f"EXTRA_CFLAGS_XEN_TOOLS=-ffile-prefix-map={tree}=."]
    run([*make, "-C", tree / "tools" / "include"], env=environment, log=log, label="Xen's headers")
    for name in LIBRARIES:
        folder = tree / "tools" / "libs" / name
        run(
            [*make, "-C", folder, f"libxen{name}.a"],
            env=environment,
            log=log,
            label=f"building libxen{name}",
        )


def collect_tools(tree: Path, folder: Path) -> None:
    """Copy headers (links followed) and archives out of a built tree."""
    include = tree / "tools" / "include"
    run(["mkdir", "-p", folder / "include", folder / "lib"])
    headers: list[Path] = [include / "xen", include / "xen-tools"]
    headers += sorted(include.glob("xen*.h")) + sorted(tree.glob("tools/libs/*/include/xen*.h"))
    wanted = [path for path in headers if path.is_dir() or path.stem in _headers_wanted()]
    run(["cp", "-rL", *wanted, folder / "include"])
    # A generated header names the folder it was generated in.
    run(["sed", "-i", f"s|{tree}/||g", folder / "include/xen/lib/x86/cpuid-autogen.h"])
    run(
        [
            "cp",
            *(tree / "tools" / "libs" / name / f"libxen{name}.a" for name in LIBRARIES),
            folder / "lib",
        ]
    )


def _headers_wanted() -> set[str]:
    # xen-barrier: since 4.20, and included by xenctrl.h there.
    extra = {
        "xen-barrier",
        "xenstore_lib",
        "xenctrl_compat",
        "xentoolcore_internal",
        "xenguest",
        "xenctrl",
    }
    return extra | {f"xen{name}" for name in LIBRARIES}
