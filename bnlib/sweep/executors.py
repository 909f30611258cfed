"""The engines that carry runs to processors, each behind `concurrent.futures.Executor`."""

import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bnlib.config import ConfigError
from bnlib.sweep import worker
from bnlib.train.device import STREAMS

ENGINES = ("local", "submitit", "dask")
DEVICES = ("cpu", "cuda", "auto")
MEMORY = 8 * 2**30  # bytes of a GPU that one run is given: ResNet-110 at batch 128 in fp32, its graphs and room to spare
# The order of summation depends on the threads: a run sets its own for the network, and everything else has one.
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@contextmanager
def engine(name: str, workers: int, address: str | None, folder: Path, device: str) -> Iterator[Executor]:
    """An executor for `workers` runs at a time. Raises ConfigError for one that is unknown, not installed or not there.

    local      processes on this machine; on a GPU, threads of this one
    submitit   jobs of a SLURM cluster; `address` may name another of submitit's clusters, such as local; `folder` takes its logs
    dask       the dask cluster whose scheduler is at `address`, or one on this machine
    """
    check(name, address, device)
    with ExitStack() as stack:
        before = {key: os.environ.get(key) for key in _THREADS}
        os.environ.update(_THREADS)
        try:
            yield _START[name](workers, address, folder, device, stack)
        finally:
            for key, value in before.items():
                os.environ.pop(key) if value is None else os.environ.update({key: value})


def check(name: str, address: str | None, device: str) -> None:
    """Raise ConfigError for an executor, an address or a device that cannot be, before anything is started."""
    if name not in ENGINES:
        raise ConfigError(f"there is no executor {name!r}; there are {', '.join(ENGINES)}")
    if name == "local" and address is not None:
        raise ConfigError(f"--address {address}: the local executor has none; choose submitit or dask")
    if device not in DEVICES:
        raise ConfigError(f"there is no device {device!r}; there are {', '.join(DEVICES)}")
    if name == "local":
        worker.resolve(device)


def at_a_time(device: str, per_gpu: str = "1") -> int:
    """How many runs to do at a time on this machine: `per_gpu` on a GPU, else one a core.

    "auto" is as many as the GPU's free memory holds, at most eight: one alone cannot fill it. Raises ConfigError.
    """
    if per_gpu != "auto" and not (per_gpu.isdecimal() and int(per_gpu)):
        raise ConfigError(f"--per-gpu {per_gpu}: give a number of runs above zero, or auto")
    if worker.resolve(device) == "cuda":
        return max(1, min(8, torch.cuda.mem_get_info()[0] // MEMORY)) if per_gpu == "auto" else int(per_gpu)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def without_interrupt() -> Iterator[None]:
    """Ctrl-C waits: a process or thread that is started in here never sees it. It is the sweep that tells a worker to stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _local(workers: int, address: str | None, folder: Path, device: str, stack: ExitStack) -> Executor:
    if worker.resolve(device) == "cuda":  # runs share a GPU as threads with a stream each; processes would take turns
        if workers > STREAMS:
            raise ConfigError(f"a GPU has streams for {STREAMS} runs at once, not {workers}: ask for fewer with --workers or --per-gpu")
        threads = ThreadPoolExecutor(workers)
        stack.push(lambda kind, *_: threads.shutdown(wait=kind is not KeyboardInterrupt, cancel_futures=True))
        return threads
    # Spawned, for a forked process can use neither CUDA nor OpenMP safely.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, worker.watch_parent)
    stack.push(lambda kind, *_: pool.shutdown(wait=kind is not KeyboardInterrupt, cancel_futures=True))
    return pool


def _dask(workers: int, address: str | None, folder: Path, device: str, stack: ExitStack) -> Executor:
    distributed = _optional("distributed", "dask")
    with without_interrupt():
        if address is None:
            cluster = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR")
            address = stack.enter_context(cluster).scheduler_address
        try:
            client = stack.enter_context(distributed.Client(address, timeout="20s"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"--address {address}: no dask scheduler answers there ({error or type(error).__name__})") from None
    return _Followed(partial(client.submit, pure=False))


def _submitit(workers: int, address: str | None, folder: Path, device: str, stack: ExitStack) -> Executor:
    submitit = _optional("submitit", "submitit")
    try:
        executor = submitit.AutoExecutor(folder, cluster=address or "slurm")
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"submitit: {error}") from None
    executor.update_parameters(name="bnlib", timeout_min=24 * 60, cpus_per_task=1)
    if device == "cuda":
        executor.update_parameters(gpus_per_node=1)
    return _Jobs(executor.submit)


class _Followed(Executor):
    """An engine whose own handles have a `result`: a thread waits for each."""

    def __init__(self, submit: Callable[..., Any]) -> None:
        self.begin = submit

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future for what `fn` returns."""
        future: Future[Any] = Future()
        handle = self.begin(fn, *args, **kwargs)
        threading.Thread(target=self._follow, args=(handle, future), daemon=True).start()
        return future

    def queues(self, handle: Any) -> bool:
        """Whether it has not begun, so that it may be dropped."""
        return False

    def ended(self, handle: Any) -> None:
        """Tidy up after one that ended well."""

    def _follow(self, handle: Any, future: Future[Any]) -> None:
        with suppress(Exception):  # what cannot say whether it queues is asked for its result, and fails there if it is lost
            while self.queues(handle) and not future.cancelled():
                time.sleep(0.5)
        if not future.set_running_or_notify_cancel():
            handle.cancel()
            return
        try:
            result = handle.result()
            self.ended(handle)
            future.set_result(result)
        except Exception as error:
            future.set_exception(error)


class _Jobs(_Followed):
    """submitit's jobs. Their logs are kept where they failed."""

    def queues(self, handle: Any) -> bool:
        return bool(handle.state == "PENDING" and not handle.done())

    def ended(self, handle: Any) -> None:
        for log in handle.paths.folder.glob(f"{handle.job_id}_*"):
            log.unlink(missing_ok=True)


_START: dict[str, Callable[[int, str | None, Path, str, ExitStack], Executor]] = {"local": _local, "submitit": _submitit, "dask": _dask}


def _optional(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"the executor {name} is not installed: pip install 'bnlib[cluster]'") from None
