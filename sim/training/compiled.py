"""C++ that is compiled by g++ when it is first needed, and kept in the user's cache folder."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-std=c++17", "-shared", "-fPIC", "-Wno-psabi")
WIDE = ("-mprefer-vector-width=512",)  # gcc halves the vectors of AVX-512 processors otherwise
X86 = ("x86_64", "AMD64", "i686")


class Unavailable(Exception):  # noqa: N818
    """The code cannot be compiled or loaded here; the message says why in one line."""


@functools.cache
def load(source: Path, **defined: int) -> ctypes.CDLL:
    """Return the library of a source, compiled for this processor with the macros `defined`.

    Safe in several processes at once: a library appears in the folder whole or not at all.

    Raises:
        Unavailable: g++ is missing or fails, or the cache folder is not the user's own.
    """
    command = ["g++", *FLAGS, *(WIDE if platform.machine() in X86 else ())]
    command += [f"-D{name}={value}" for name, value in sorted(defined.items())]
    told = "\n".join([*command, source.read_text(encoding="utf-8"), _processor()])
    library = _folder() / f"{source.stem}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.so"
    try:
        if not library.exists():
            _compile([*command, str(source)], library)
        _check_owner(library)
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise Unavailable(f"{library}: {error}") from None


def _compile(command: list[str], library: Path) -> None:
    if shutil.which("g++") is None:
        raise Unavailable("g++ is not installed")
    handle, name = tempfile.mkstemp(suffix=".partial", dir=library.parent)
    os.close(handle)
    try:
        done = subprocess.run([*command, "-o", name], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"g++ failed: {(done.stderr.strip().splitlines() or ['no message'])[0]}")
        Path(name).chmod(0o700)
        Path(name).replace(library)
    finally:
        Path(name).unlink(missing_ok=True)


def _folder() -> Path:
    """Return the user's cache folder for this project, made if need be; nobody else may write there."""
    home = Path.home()
    places = {"darwin": home / "Library" / "Caches", "win32": home / "AppData" / "Local"}
    given = os.environ.get("XDG_CACHE_HOME", "")
    place = Path(given) if Path(given).is_absolute() else places.get(sys.platform, home / ".cache")
    folder = place / "thumbscale"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"{folder}: cannot be made ({error.strerror}); XDG_CACHE_HOME names another place") from None
    _check_owner(folder)
    return folder


def _check_owner(path: Path) -> None:
    """Raise `Unavailable` if somebody else could have put code there."""
    if not hasattr(os, "getuid"):
        return
    found = path.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise Unavailable(f"{path}: others may write there, so nothing is loaded from it")


def _processor() -> str:
    """Return what tells this processor's instructions from another's: a home folder may serve many machines."""
    described = Path("/proc/cpuinfo")
    if not described.exists():
        return platform.processor()
    lines = described.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    return "\n".join(line for line in lines if line.split(":")[0].strip() in ("flags", "Features", "model name"))
