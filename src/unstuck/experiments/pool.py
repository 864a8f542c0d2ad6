"""Where arms run: in forks of one server process on this machine, or on the nodes of a Ray cluster.

Both pools have the same interface: `jobs` (arms at a time), `submit(spec)` -> `concurrent.futures.Future` of an ArmResult,
`stop(future)`, `as_completed(futures)`, `close()`; both are context managers.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent import futures
from concurrent.futures import Future
from typing import Any

import msgspec

from unstuck.errors import UsageError
from unstuck.experiments.arms import ArmResult, Spec, decode, encode, spec_line, temporary_base

STOPPED = "it was stopped"
ENDED = "the process that runs arms has ended"


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalPool:
    """A fork server in a process of its own, started with the first arm. Not to be shared between threads.

    Keras has one backend in a process, which is chosen when it is imported: arms of a Keras script have a server of their own,
    one for each backend.

    Arms are copies of the script's folder as it was when the pool ran its first arm from there: whoever edits the script
    while its fixes are tried changes nothing. A script that was edited is run anew by a new pool.

    process: a fork server that is there already and speaks the same protocol (the copy of a running script); it serves all.

    Raises UsageError where processes cannot be forked (Windows).
    """

    def __init__(self, jobs: int | None = None, process: Any = None) -> None:
        if not hasattr(os, "fork"):
            raise UsageError("experiments fork processes, which this operating system cannot")
        self.jobs = jobs or cores()
        self.folder = ""
        self._process = process
        self._servers: dict[tuple[str, bool], _Server] = {}  # by Keras' backend, and whether it is loaded before arms fork
        self._numbers = itertools.count(1)
        self._under_way: dict[int, tuple[Future[ArmResult], _Server]] = {}
        self._lock = threading.Lock()

    def submit(self, spec: Spec) -> Future[ArmResult]:
        server = self._start(spec)
        number = next(self._numbers)
        spec = msgspec.structs.replace(spec, number=number, folder=os.path.join(self.folder, str(number)))
        future: Future[ArmResult] = Future()
        with self._lock:
            if server.ended:  # its reader settles what was under way then, and nothing that comes later
                future.set_result(ArmResult(False, ENDED))
                return future
            self._under_way[number] = future, server
        if not server.tell(spec_line(spec)):
            self._settle(number, ArmResult(False, ENDED))
        return future

    def stop(self, future: Future[ArmResult]) -> None:
        """Kill the arm; its future's result says so. Returns at once."""
        with self._lock:
            found = next(((n, server) for n, (f, server) in self._under_way.items() if f is future), None)
        if found is not None:
            found[1].tell(b'{"stop": %d}\n' % found[0])  # where it has ended its arms have, too

    @staticmethod
    def as_completed(under_way: Iterable[Future[ArmResult]], timeout: float | None = None) -> Iterator[Future[ArmResult]]:
        return futures.as_completed(under_way, timeout)

    def close(self) -> None:
        """Kill what is under way, end the servers, remove their folders."""
        servers, self._servers = self._servers, {}
        for server in servers.values():
            server.close()

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self, spec: Spec) -> _Server:
        key = ("", False) if self._process is not None else (spec.keras, bool(spec.keras) and "keras" in spec.preload)
        if key not in self._servers:
            self._servers[key] = _Server(self, spec.keras, self._process)
        self.folder = self._servers[key].folder
        return self._servers[key]

    def _ended(self, server: _Server) -> None:
        """Nobody answers any more for what was under way there."""
        with self._lock:
            server.ended = True
            left = [n for n, (_, where) in self._under_way.items() if where is server]
        for number in left:
            self._settle(number, ArmResult(False, ENDED))

    def _settle(self, number: int, result: ArmResult | None) -> None:
        with self._lock:
            future, server = self._under_way.pop(number, (None, None))
        if future is None or server is None:
            return
        folder = os.path.join(server.folder, str(number))
        if result is None:
            try:
                with open(os.path.join(folder, "result"), "rb") as file:
                    result = decode(file.read())
            except (OSError, msgspec.MsgspecError):
                result = ArmResult(False, STOPPED)
        shutil.rmtree(folder, ignore_errors=True)
        if not future.cancelled():
            future.set_result(result)


class _Server:
    """The process that forks arms, and the thread that hears which are done."""

    def __init__(self, pool: LocalPool, keras: str, process: Any = None) -> None:
        self.pool = pool
        self.folder, self.ended = temporary_base(), False
        self.process = process if process is not None else self._launched(keras)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _launched(self, keras: str) -> subprocess.Popen[bytes]:
        # One thread per process: arms share the cores, and threads that spin against each other make them ten times
        # slower. A hash seed, because sets of strings are iterated in its order.
        threads = {n: "1" for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        variables = threads | {"PYTHONHASHSEED": "0", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"} | os.environ
        variables |= {"TMPDIR": self.folder}  # libraries make folders there when they are imported
        if keras:
            variables |= {"KERAS_BACKEND": keras}  # as recorded, whatever is set today
        return subprocess.Popen(
            [sys.executable, "-m", "unstuck.experiments.arm", self.folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=self.folder,
            env=variables, start_new_session=True,  # Ctrl-C is for us; we tell it
        )  # fmt: skip

    def tell(self, line: bytes) -> bool:
        """False where it has ended."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        except (OSError, ValueError):
            return False
        return True

    def close(self) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(6.0)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)  # supervisors; their arms die with them
            self.process.wait()
        self._reader.join(2.0)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                word, _, number = line.partition(b" ")
                if word == b"done":
                    self.pool._settle(int(number), None)
        self.pool._ended(self)


class _Node:
    """A Ray actor: one fork server on its node. Called by several threads at a time."""

    def __init__(self, jobs: int) -> None:
        self.pool = LocalPool(jobs)
        self.lock = threading.Lock()
        self.under_way: dict[str, Future[ArmResult]] = {}

    def run(self, key: str, spec: bytes) -> bytes:
        with self.lock:
            future = self.pool.submit(msgspec.json.decode(spec, type=Spec))
            self.under_way[key] = future
        try:
            return encode(future.result())
        finally:
            self.under_way.pop(key, None)

    def stop(self, key: str) -> None:
        with self.lock:
            future = self.under_way.get(key)
            if future is not None:
                self.pool.stop(future)

    def close(self) -> None:
        self.pool.close()


class RayPool:
    """The nodes of a Ray cluster (extra `ray`). The script's folder must be there under the same path on every node.

    address: as `ray.init` takes it; None starts Ray on this machine, "auto" finds a running cluster. Raises UsageError where
    ray is not installed or no cluster is found.
    """

    def __init__(self, address: str | None = None, jobs: int | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise UsageError("a Ray pool needs ray: pip install 'unstuck[ray]'") from None
        self._ray: Any = ray
        self._own = not ray.is_initialized()
        if self._own:
            options: dict[str, Any] = {"include_dashboard": False, "num_cpus": cores()} if address is None else {"address": address}
            try:
                ray.init(log_to_driver=False, logging_level="ERROR", **options)
            except (ConnectionError, ValueError) as error:
                raise UsageError(f"no Ray cluster at {address}: {error}".splitlines()[0]) from None
        self._numbers = itertools.count(1)
        self._where: dict[Future[ArmResult], tuple[int, str]] = {}
        self._nodes: list[Any] = []
        self._room: list[int] = []
        self._free: list[int] = []
        for node in ray.nodes():
            room = int(node["Resources"].get("CPU", 0))
            if node["Alive"] and room:
                self._add(node, room)
        if not self._nodes:
            self.close()
            raise UsageError("the Ray cluster has no node with a free core")
        self.jobs = min(jobs or sum(self._room), sum(self._room))

    def _add(self, node: dict[str, Any], room: int) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # The whole node belongs to the actor: arms are its grandchildren, which Ray does not count.
        options = {
            "num_cpus": room, "num_gpus": node["Resources"].get("GPU", 0), "max_concurrency": 2 * room + 2,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        }  # fmt: skip
        self._nodes.append(self._ray.remote(_Node).options(**options).remote(room))
        self._room.append(room)
        self._free.append(room)

    def submit(self, spec: Spec) -> Future[ArmResult]:
        index = max(range(len(self._nodes)), key=lambda i: self._free[i])
        self._free[index] -= 1
        # The script's variables are the driver's: a node has its own, of whoever started Ray there.
        spec = msgspec.structs.replace(spec, environment=dict(os.environ))
        key = str(next(self._numbers))
        future: Future[ArmResult] = Future()
        self._where[future] = (index, key)
        sent = self._nodes[index].run.remote(key, msgspec.json.encode(spec)).future()

        def arrived(answer: Future[bytes]) -> None:
            self._free[index] += 1
            self._where.pop(future, None)
            if future.cancelled():
                return
            error = answer.exception()
            if error is None:
                future.set_result(decode(answer.result()))
            else:
                future.set_result(ArmResult(False, f"the Ray node failed: {str(error).strip().splitlines()[0]}"))

        sent.add_done_callback(arrived)
        return future

    def stop(self, future: Future[ArmResult]) -> None:
        """Kill the arm, wherever it runs. Returns at once."""
        where = self._where.get(future)
        if where is not None:
            self._nodes[where[0]].stop.remote(where[1])

    @staticmethod
    def as_completed(under_way: Iterable[Future[ArmResult]], timeout: float | None = None) -> Iterator[Future[ArmResult]]:
        return futures.as_completed(under_way, timeout)

    def close(self) -> None:
        """Kill what is under way, end the servers; Ray itself where this pool started it."""
        nodes, self._nodes = self._nodes, []
        for node in nodes:
            try:
                self._ray.get(node.close.remote(), timeout=10.0)
            except Exception:
                pass  # a node that is gone has nothing left to close
            self._ray.kill(node)
        if self._own:
            self._own = False
            self._ray.shutdown()

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
