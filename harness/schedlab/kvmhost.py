# SPDX-License-Identifier: GPL-2.0-only
"""``lab kvm-host COMMAND…``: a command of the lab on a Linux host with KVM, where there is none.

QEMU emulates an AMD processor whose SVM Linux's own KVM drives; the file system is this machine's,
under an overlay in memory, and its user the caller.  So what the lab does in real time is done for
real: the probe, the machine, the clocks, the statistics.  Its figures are of no worth: an exit of a
guest, microseconds on a processor, is emulated, too.

    this machine ─ QEMU, TCG ─ Linux, KVM ─ QEMU, KVM ─ Xen ─ dom0, guests
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from schedlab import kvm, qemu, report
from schedlab.build.kvmhost import KvmHost
from schedlab.core.command import dry_run
from schedlab.core.errors import LabError
from schedlab.qemu import QemuBuild

CPUS, MEMORY_MIB = 2, 4096
BOOT_LIMIT_S = 300.0
# Of the command's, where it has one and is not told another: all is slow there.
WATCHDOG_S = 600.0
_KERNEL_ARGS = "console=ttyS0 mitigations=off tsc=reliable panic=-1"
_CONSOLE_FILE = "console.log"
_POLL_S = 0.1
# Of this process's environment, what the command is to have, too.
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "CCACHE_DIR", "XEN", "NO_CACHE")


def command(host: KvmHost, qemu_build: QemuBuild, exchange: Path, keep: Path) -> list[str]:
    """QEMU's.  exchange: what init and we share; keep: a folder that may be written to."""

    def share(tag: str, path: Path, options: str = "") -> tuple[str, str]:
        quoted = str(path).replace(",", ",,")
        return "-virtfs", f"local,path={quoted},mount_tag={tag},security_model=none{options}"

    return [
        *(str(qemu_build.argv0), *qemu_build.data_args),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-accel", "tcg,thread=multi", "-machine", "pc", "-cpu", "max"),
        *("-smp", str(CPUS), "-m", str(MEMORY_MIB)),
        *("-kernel", str(host.kernel), "-initrd", str(host.initramfs)),
        *("-append", _KERNEL_ARGS),
        *("-serial", f"file:{exchange / _CONSOLE_FILE}"),
        *("-chardev", "stdio,id=out,signal=off", "-serial", "chardev:out"),
        *share("root", Path("/"), ",readonly=on,multidevs=remap"),
        *(*share("exchange", exchange), *share("keep", keep)),
    ]


def script(words: Sequence[str], env: Mapping[str, str], cwd: Path) -> str:
    """What is run there: the command, as the user who runs this one."""
    names = [n for n in env if n in _PASSED or n.startswith("NEMESIS_")]
    said = "".join(f"export {name}={shlex.quote(env[name])}\n" for name in sorted(names))
    line = shlex.join([*_as_user(), *words])
    return f"{said}cd {shlex.quote(str(cwd))} || exit 2\nexec {line}\n"


def _as_user() -> list[str]:
    """There the command begins as root."""
    who = ["--reuid", str(os.getuid()), "--regid", str(os.getgid()), "--clear-groups"]
    return ["setpriv", *who]


def run(host: KvmHost, qemu_build: QemuBuild, words: Sequence[str], keep: Path, logs: Path) -> int:
    """Run the command there, its output going to our stdout; its exit status.

    keep: the one folder in which what it writes stays.  LabError, with the kernel's messages copied
    to ``logs``, where the host does not come up, or ends before the command has.
    """
    version = qemu_build.version
    env = {
        **os.environ,
        kvm.EMULATED: f"emulated by QEMU {version}",
        report.MAKER: str(os.getpid()),
    }
    with tempfile.TemporaryDirectory(prefix="nemesis-") as name:
        exchange = Path(name)
        argv = command(host, qemu_build, exchange, keep)
        text = script(words, env, Path.cwd())
        if dry_run():
            print(f"# exchange/keep: {keep}\n# exchange/command.sh:\n{text}{shlex.join(argv)}")
            return 0
        keep.mkdir(parents=True, exist_ok=True)
        (exchange / "keep").write_text(str(keep))
        (exchange / "command.sh").write_text(text)
        print(f"  a host with KVM (kernel {host.version}, emulated) …", file=sys.stderr, flush=True)
        try:
            _wait(argv, {**os.environ, **qemu_build.env}, exchange)
        finally:
            report.clean_leftovers(keep, os.getpid())
        try:
            return int((exchange / "status").read_text())
        except (FileNotFoundError, ValueError):
            said = " / ".join(qemu.tail(exchange / _CONSOLE_FILE, 3)) or "nothing"
            logs.mkdir(parents=True, exist_ok=True)
            log = logs / "kvm-host.log"
            if (exchange / _CONSOLE_FILE).exists():
                log.write_bytes((exchange / _CONSOLE_FILE).read_bytes())
            raise LabError(
                f"the emulated host ended before the command did; its last words: {said}",
                "see its console",
                log,
            ) from None


def _wait(argv: Sequence[str], env: Mapping[str, str], exchange: Path) -> None:
    """Until QEMU is gone; it is ended where Linux does not come up, and with us."""
    guard = ["setpriv", "--pdeathsig", "KILL", "--"]
    deadline = time.monotonic() + BOOT_LIMIT_S
    try:
        process = subprocess.Popen([*guard, *argv], env=env, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise LabError(f"cannot start QEMU: {error}", "run make setup") from error
    try:
        while process.poll() is None:
            started = (exchange / "started").exists()
            if not started and time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
    finally:
        process.kill()
        process.wait()
