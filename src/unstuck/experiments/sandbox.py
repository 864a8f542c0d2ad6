"""A second copy of the script's folder to run it in, and what keeps it from writing anywhere else.

The copy stands at the same place below a scratch folder (`/tmp/x/tree/home/me/project`), so that relative paths, `__file__`
and the working directory mean the same thing there. What lies beside the copied folders (`../data`) is linked. A hard-coded
absolute path into the copied folders is translated where it is written down: in the arguments, in environment variables and
in the copied source and configuration files. That is one replacement of text per arm and everything that follows agrees
with itself, including programs the script starts; redirecting `open`, `mkdir`, `stat`, `listdir`, ... one by one would
leave gaps between them. A path that is put together at run time from elsewhere (`Path.home() / "project"`) is refused.

Two walls. A Python audit hook sees every open, mkdir, rename, ... of the process and its forks and names the path. The
kernel's own wall (Landlock, Linux 5.13) also holds for native writers and started programs, which no hook sees; where there
is none, files that native libraries write in place are copied instead of linked. Nothing is ever hard-linked: a hard link
opened for writing in place is the user's own file.

Standard library only: this is used in the process of the script.
"""

from __future__ import annotations

import builtins
import ctypes
import io
import os
import re
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

MOST_BYTES = 200 << 20  # copied per arm
MOST_FILES = 5_000
LINK_FROM = 5 << 20  # bytes; larger files are linked
MOST_SIBLINGS = 300  # entries beside a copied folder that are linked, so that ../data is found
LEVELS = 2  # how many folders up that is done
WALK_SECONDS = 10.0
# Folders that no training changes and that may be huge.
LINKED = {
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", ".unstuck", ".tox", ".nox", ".cache", ".mypy_cache", ".pytest_cache",
    ".ruff_cache", ".hypothesis", ".ipynb_checkpoints", "__pycache__", "site-packages",
}  # fmt: skip
# Written in place by libraries that do not ask Python to open the file.
NATIVE = {
    ".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".onnx", ".keras", ".h5", ".hdf5", ".nc", ".db", ".sqlite", ".sqlite3", ".mdb",
    ".parquet", ".feather", ".arrow",
}  # fmt: skip
# Texts that are rewritten where they name the copied folder. Not .txt or .csv: those are data, and reading may stay as it is.
WRITTEN_BY_HAND = {".py", ".yaml", ".yml", ".toml", ".json", ".ini", ".cfg", ".conf", ".env", ".sh"}
LONGEST_TEXT = 1 << 20
SAYS = "unstuck verify: "


class CannotCopy(Exception):
    """The folder cannot be copied; the message is the reason."""


class Refused(PermissionError):
    """The script wanted something an arm may not do. A PermissionError, which libraries are prepared to meet."""


# ---------------------------------------------------------------------- the copy


def folders(cwd: str, script: str | None) -> list[str]:
    """The folders an arm needs copies of: the working directory and the script's own, none inside another. Absolute."""
    wanted = {os.path.abspath(cwd)}
    if script is not None:
        path = os.path.join(cwd, script)
        wanted |= {os.path.abspath(path)} if os.path.isdir(path) else {os.path.dirname(os.path.abspath(path))}
        wanted.add(os.path.dirname(os.path.realpath(path)))
    return sorted(w for w in wanted if not any(below(w, other) for other in wanted if other != w))


def below(path: str, folder: str) -> bool:
    """Is it the folder itself or anything inside of it? Both absolute."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


class Template:
    """The user's folders as they were when the first arm began: later arms are copies of it, whatever is edited meanwhile.

    Raises CannotCopy.
    """

    def __init__(self, roots: Iterable[str], place: str, *, sealed: bool) -> None:
        self.roots = [r for r in roots]
        self.place = place
        self.sealed = sealed  # the kernel keeps linked files from being written
        self.order: dict[str, list[str]] = {}  # original folder -> its names in the order the file system gives them
        self.named: list[str] = []  # copied texts that name a copied folder, as original paths
        self.links: dict[str, str] = {}  # original path -> where the link leads
        self.copied: list[str] = []  # original paths of files
        self._until = time.monotonic() + WALK_SECONDS
        self._pattern = _naming(self.roots)
        if "/" in self.roots:
            raise CannotCopy("the script ran in the root folder of the machine, which cannot be copied")
        for root in self.roots:
            self._plan(root)
        for root in self.roots:
            self._siblings(root)
        self._write()

    def _plan(self, root: str) -> None:
        """What of one folder is copied and what is linked. The largest parts are linked until the rest fits."""
        parts: list[tuple[str, _Part]] = []
        whole = _Part()
        for name in self._names(root):
            path = os.path.join(root, name)
            part = _Part()
            self._take(path, name, part)
            parts.append((path, part))
        needed = {r for r in (*self.roots, *(p for p in sys.path if p))}
        files = sum(len(p.files) for _, p in parts)
        size = sum(p.size for _, p in parts)
        for path, part in sorted(parts, key=lambda item: -max(len(item[1].files) / MOST_FILES, item[1].size / MOST_BYTES)):
            if files <= MOST_FILES and size <= MOST_BYTES:
                break
            if not os.path.isdir(path) or any(below(n, path) for n in needed) or part.code:
                continue
            files, size = files - len(part.files), size - part.size
            part.files, part.folders, part.links = [], {}, {path: path}
        if files > MOST_FILES or size > MOST_BYTES:
            limit = f"{files:,} files" if files > MOST_FILES else f"{size >> 20} MB"
            raise CannotCopy(f"the folder {root} is too large to be copied for each try (at least {limit})")
        for _, part in parts:
            whole.files += part.files
            whole.folders |= part.folders
            whole.links |= part.links
        self.copied += whole.files
        self.links |= whole.links
        self.order |= whole.folders

    def _names(self, folder: str) -> list[str]:
        try:
            names = os.listdir(folder)
        except OSError as error:
            raise CannotCopy(f"the folder {folder} cannot be read: {error.strerror}") from None
        self.order[folder] = names
        return names

    def _take(self, path: str, name: str, part: _Part) -> None:
        if path == os.path.dirname(self.place):
            return  # our own folder, where the script runs in the folder of temporary files
        if time.monotonic() > self._until:
            raise CannotCopy(f"the folder {os.path.dirname(path)} is too large to be copied for each try")
        try:
            about = os.lstat(path)
        except OSError:
            return  # gone meanwhile
        if stat.S_ISLNK(about.st_mode):
            leads = os.path.join(os.path.dirname(path), os.readlink(path))
            inside = any(below(os.path.realpath(leads), r) for r in self.roots)
            part.links[path] = os.readlink(path) if inside else os.path.realpath(leads)
        elif stat.S_ISDIR(about.st_mode):
            if name in LINKED or os.path.exists(os.path.join(path, "pyvenv.cfg")):
                part.links[path] = path
                return
            try:
                names = os.listdir(path)
            except OSError:
                return  # not readable for the script either
            part.folders[path] = names
            for each in names:
                if len(part.files) > 4 * MOST_FILES:
                    return  # too many whatever follows
                self._take(os.path.join(path, each), each, part)
        elif stat.S_ISREG(about.st_mode):
            ending = os.path.splitext(name)[1].lower()
            part.code = part.code or ending == ".py"
            if about.st_size > LINK_FROM and (self.sealed or ending not in NATIVE):
                part.links[path] = path
            else:
                part.files.append(path)
                part.size += about.st_size

    def _siblings(self, root: str) -> None:
        here = root
        for _ in range(LEVELS):
            here, child = os.path.dirname(here), here
            if here == "/" or here in self.order:
                break
            try:
                names = os.listdir(here)
            except OSError:
                break
            if len(names) > MOST_SIBLINGS:
                break
            self.order[here] = names
            for name in names:
                path = os.path.join(here, name)
                if path != child and not any(below(r, path) for r in self.roots):
                    self.links.setdefault(path, path)

    def _write(self) -> None:
        for folder in self.order:
            os.makedirs(self.place + folder, exist_ok=True)
        for path in list(self.copied):
            try:
                shutil.copy2(path, self.place + path)
            except OSError:  # not readable, or gone
                self.copied.remove(path)
                continue
            if os.path.splitext(path)[1].lower() in WRITTEN_BY_HAND and os.path.getsize(self.place + path) <= LONGEST_TEXT:
                with open(self.place + path, "rb") as file:
                    if self._pattern.search(file.read().decode("latin-1")):
                        self.named.append(path)

    def copy(self, place: str) -> Scratch:
        """One more copy, at `place`."""
        for folder in self.order:
            os.makedirs(place + folder, exist_ok=True)
        for path in self.copied:
            shutil.copy2(self.place + path, place + path)
        for path, leads in self.links.items():
            if not os.path.lexists(place + path):
                inside = os.path.isabs(leads) and any(below(leads, r) for r in self.roots) and path != leads
                os.symlink(place + leads if inside else leads, place + path)
        scratch = Scratch(self.roots, place, self.order)
        for path in self.named:
            with open(place + path, "rb") as file:
                text = file.read().decode("latin-1")
            with open(place + path, "wb") as file:
                file.write(scratch.text(text).encode("latin-1"))
        return scratch


class _Part:
    """One entry of a folder with all that is below it."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.size = 0
        self.links: dict[str, str] = {}
        self.folders: dict[str, list[str]] = {}
        self.code = False


def _naming(roots: list[str]) -> re.Pattern[str]:
    """One of the folders as a whole path in a text; latin-1, so that any bytes survive."""
    longest = sorted({r.encode(errors="surrogateescape").decode("latin-1") for r in roots}, key=len, reverse=True)
    return re.compile(r"(?<![\w./~-])(?:" + "|".join(map(re.escape, longest)) + r")(?![\w.-])")


class Scratch:
    """A copy of the folders that an arm runs in."""

    def __init__(self, roots: list[str], place: str, order: Mapping[str, list[str]]) -> None:
        self.roots = roots
        self.place = place
        self.order = order
        self._pattern = _naming(roots)

    def there(self, path: str) -> str:
        """Where an absolute path of the user's lies in the copy; itself where it is not copied."""
        return self.place + path if any(below(path, r) for r in self.roots) else path

    def text(self, text: str) -> str:
        """A text with the copied folders named by the copy's path."""
        return self._pattern.sub(lambda found: self.place + found[0], text)

    def original(self, path: str) -> str:
        """The user's path for one of the copy: what messages name."""
        return path[len(self.place) :] if below(path, self.place) else path

    def list_in_the_old_order(self) -> None:
        """A copy lists its files in an order of its own; a script that takes them as they come would see other batches."""
        rank: dict[str, dict[str, int]] = {}
        listdir, scandir, place, order = os.listdir, os.scandir, self.place + os.sep, self.order

        def ranks(path: Any) -> dict[str, int] | None:
            if not isinstance(path, (str, os.PathLike)):
                return None
            path = os.path.abspath(path)
            if not isinstance(path, str) or not path.startswith(place):
                return None
            original = path[len(place) - 1 :]
            if original in order and original not in rank:
                rank[original] = {name: i for i, name in enumerate(order[original])}
            return rank.get(original)

        def old_listdir(path: Any = ".") -> list[Any]:
            names, known = listdir(path), ranks(path)
            return names if known is None else sorted(names, key=lambda n: known.get(n, len(known)))

        def old_scandir(path: Any = ".") -> Any:
            entries, known = scandir(path), ranks(path)
            return entries if known is None else _Entries(entries, known)

        os.listdir, os.scandir = old_listdir, old_scandir  # type: ignore[assignment]


class _Entries:
    """os.scandir in the old order."""

    def __init__(self, entries: Any, known: dict[str, int]) -> None:
        self._entries = entries
        self._sorted: Iterator[Any] = iter(sorted(entries, key=lambda e: known.get(e.name, len(known))))

    def __iter__(self) -> _Entries:
        return self

    def __next__(self) -> Any:
        return next(self._sorted)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()

    def close(self) -> None:
        self._entries.close()


def environment(scratch: Scratch, temporary: str, before: Mapping[str, str]) -> dict[str, str]:
    """The variables an arm runs with: trackers and hubs are kept off the network, temporary files in the scratch."""
    kept = {"PATH", "VIRTUAL_ENV", "HOME", "LD_LIBRARY_PATH", "PYTHONHOME"}
    after = {k: v if k in kept else scratch.text(v) for k, v in before.items()}
    after |= {
        "TMPDIR": temporary,
        "WANDB_MODE": "disabled",
        "MLFLOW_TRACKING_URI": f"file://{temporary}/mlruns",
        "COMET_MODE": "disabled",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "UNSTUCK_ARM": "1",
        "OMP_NUM_THREADS": before.get("OMP_NUM_THREADS", "1"),
    }
    return after


# ---------------------------------------------------------------------- the wall


class Guard:
    """Refuses writes outside `allowed`, other hosts and standard input in this process; keeps what it refused."""

    def __init__(self, scratch: Scratch, allowed: Iterable[str]) -> None:
        self.scratch = scratch
        self.allowed = [os.path.realpath(a) for a in allowed]
        self.refused: list[str] = []
        self.here = {"", "localhost", "ip6-localhost", "0.0.0.0", "::", "::1", socket.gethostname().lower()}
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self.caches = [os.path.realpath(c) for c in (cache, os.environ.get("HF_HOME")) if c]
        path, tail, both = self._path, self._entry, self._two
        self._checks: dict[str, Callable[[tuple[Any, ...]], None]] = {
            "open": self._open,
            "os.truncate": lambda a: path(a[0]),
            "os.chmod": lambda a: path(a[0], a[2]),
            "os.chown": lambda a: path(a[0], a[3]),
            "os.utime": lambda a: path(a[0], a[3]),
            "os.setxattr": lambda a: path(a[0]),
            "os.removexattr": lambda a: path(a[0]),
            "os.mkdir": lambda a: tail(a[0], a[2], makes=True),
            "os.remove": lambda a: tail(a[0], a[1]),
            "os.rmdir": lambda a: tail(a[0], a[1]),
            "os.rename": lambda a: both(a),
            "os.link": lambda a: both(a),
            "os.symlink": lambda a: tail(a[1], a[2], makes=True),
            "sqlite3.connect": self._database,
            "socket.connect": lambda a: self._host(a[1]),
            "socket.sendto": lambda a: self._host(a[1]),
            "socket.getaddrinfo": lambda a: self._host((a[0],)),
            "socket.gethostbyname": lambda a: self._host((a[0],)),
            "builtins.input": lambda a: self.no_input(),
        }

    def install(self) -> None:
        """For good: an audit hook cannot be taken out again."""
        checks = self._checks

        def hook(event: str, args: tuple[Any, ...]) -> None:
            check = checks.get(event)
            if check is not None:
                check(args)

        sys.addaudithook(hook)
        sys.stdin = _NoInput(self)  # type: ignore[assignment]
        builtins.input = self._input

    def check(self, path: Any) -> None:
        """Raises Refused where this path may not be written: for writers that do not ask Python to open the file."""
        if isinstance(path, (str, bytes, os.PathLike)):
            self._path(path)

    def refuse(self, what: str) -> NoReturn:
        self.refused.append(what)
        raise Refused(SAYS + what)

    def no_input(self) -> NoReturn:
        self.refuse("the script reads standard input")

    def _input(self, prompt: object = "") -> str:
        self.refuse("the script reads standard input" + (f" (it asks {str(prompt).strip()[:80]!r})" if str(prompt).strip() else ""))

    def _open(self, args: tuple[Any, ...]) -> None:
        path, mode, flags = args
        if mode is None:
            writes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
        else:
            writes = any(c in "wax+" for c in mode)
        if writes and not isinstance(path, int):
            self._path(path)

    def _path(self, path: Any, folder: Any = None) -> None:
        """The file that a path leads to is changed."""
        if not isinstance(path, int) and path is not None:
            self._inside(os.path.realpath(_absolute(path, folder)))

    def _entry(self, path: Any, folder: Any = None, makes: bool = False) -> None:
        """The entry itself is made or removed; a link is not followed. What fails anyway fails as it always does."""
        if isinstance(path, int) or path is None:
            return
        full = _absolute(path, folder)
        full = os.path.join(os.path.realpath(os.path.dirname(full.rstrip(os.sep) or os.sep)), os.path.basename(full.rstrip(os.sep)))
        if os.path.lexists(full) != makes:
            self._inside(full)

    def _two(self, args: tuple[Any, ...]) -> None:
        """Rename, and hard link: a hard link to a file of the user's would be a way to write to it."""
        self._entry(args[0], args[2])
        target = _absolute(args[1], args[3])
        self._inside(os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target)))

    def _inside(self, path: str) -> None:
        if any(below(path, a) for a in self.allowed):
            return
        if below(path, "/dev") and not any(below(path, r) for r in self.scratch.roots):
            return  # /dev/null, shared memory
        if path.endswith(".lock") and any(below(path, c) for c in self.caches):
            return  # a cache that is only read is locked all the same
        self.refuse(f"the script writes to {path} outside its own folder")

    def _database(self, args: tuple[Any, ...]) -> None:
        name = os.fsdecode(args[0]) if isinstance(args[0], (str, bytes, os.PathLike)) else ""
        if name in {"", ":memory:"}:
            return
        if name.startswith("file:"):
            if "mode=memory" in name or "mode=ro" in name or "immutable=1" in name:
                return
            name = name[5:].partition("?")[0]
            name = re.sub("^//(?=/)", "", name)
        self._path(name)

    def _host(self, address: Any) -> None:
        if not isinstance(address, tuple) or not address:
            return  # a socket of the file system
        host = address[0].decode(errors="replace") if isinstance(address[0], bytes) else address[0]
        if host is None or not isinstance(host, str) or host.lower() in self.here or host.startswith("127."):
            return
        self.refuse(f"the script connects to {host}; a re-run does not use the network")


def _absolute(path: Any, folder: Any) -> str:
    path = os.fsdecode(path)
    if os.path.isabs(path):
        return path
    base = os.getcwd()
    if isinstance(folder, int) and folder >= 0:
        try:
            base = os.readlink(f"/proc/self/fd/{folder}")
        except OSError:
            pass  # no /proc: taken as relative to the working directory
    return os.path.join(base, path)


class _NoInput(io.TextIOBase):
    """Standard input of an arm: nobody answers."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def readable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return 0

    def read(self, *args: Any) -> str:
        self._guard.no_input()

    def readline(self, *args: Any) -> str:  # type: ignore[override]
        self._guard.no_input()

    @property
    def buffer(self) -> Any:
        self._guard.no_input()


# Landlock: rights as bits, in the order in which the kernel learned them.
_WRITE_FILE, _REMOVE_DIR, _REMOVE_FILE = 1 << 1, 1 << 4, 1 << 5
_MAKE = sum(1 << n for n in range(6, 13))  # character device, folder, file, socket, fifo, block device, link
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446


def can_seal() -> bool:
    """Does this kernel have Landlock?"""
    return _landlock() > 0


def _landlock() -> int:
    if not sys.platform.startswith("linux"):
        return 0
    try:
        return int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1))
    except (OSError, AttributeError):
        return 0


def seal(allowed: Iterable[str]) -> bool:
    """From here on the kernel refuses this process and all it starts every change outside of `allowed`. For good.

    False where the kernel cannot; then only the audit hook stands.
    """
    version = _landlock()
    if version <= 0:
        return False
    rights = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE
    if version >= 2:
        rights |= _REFER  # otherwise every rename between folders is refused, inside of the scratch as well
    if version >= 3:
        rights |= _TRUNCATE
    libc = ctypes.CDLL(None, use_errno=True)
    handled = ctypes.c_uint64(rights)
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    try:
        for path in allowed:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                continue  # it does not exist: nothing to allow
            rule = (ctypes.c_char * 12)()
            ctypes.memmove(rule, rights.to_bytes(8, sys.byteorder) + fd.to_bytes(4, sys.byteorder), 12)
            libc.syscall(_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0)
            os.close(fd)
        no_new_privileges = 38
        if libc.prctl(no_new_privileges, 1, 0, 0, 0):
            return False
        return libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)
