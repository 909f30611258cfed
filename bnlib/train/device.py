"""What a device asks of the training loop: arithmetic, streams, and on a GPU whole updates replayed as one CUDA graph.

A CIFAR ResNet's update is a thousand small operations: launched one by one they cost more time than they compute.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from bnlib.config import ConfigError, TrainConfig
from bnlib.nets import ResNet

VERSIONS = 256  # of a block's code that may be compiled in one process
STREAMS = 32  # that CUDA gives to one process, and so runs at a time on a GPU
WARM_UP = 3  # updates before a graph is captured, in which cuDNN and the compiler settle


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ConfigError for arithmetic that `device` does not have."""
    if precision == "tf32" and device.type != "cuda":
        raise ConfigError("precision tf32 needs a GPU; choose fp32 or bf16")


class _Shared:
    """The process-wide switches of torch: runs side by side may share a setting, others wait until they are free."""

    def __init__(self) -> None:
        self.free = threading.Condition()
        self.held: tuple[int, bool] | None = None
        self.users = 0
        self.before = (torch.get_num_threads(), False, True, False, False)


_shared = _Shared()


@contextmanager
def arithmetic(setting: TrainConfig) -> Iterator[None]:
    """Threads and precision as the run asks for them, deterministic kernels, and afterwards all as it was."""
    wanted = (setting.threads, setting.precision == "tf32")
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    with _shared.free:
        _shared.free.wait_for(lambda: _shared.held in (None, wanted))
        if _shared.held is None:
            _shared.before = torch.get_num_threads(), cuda.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
            torch.set_num_threads(setting.threads)
            cuda.allow_tf32 = cudnn.allow_tf32 = wanted[1]
            cudnn.deterministic, cudnn.benchmark = True, False  # so that what runs beside does not choose the algorithm
        _shared.held, _shared.users = wanted, _shared.users + 1
    try:
        yield
    finally:
        with _shared.free:
            _shared.users -= 1
            if _shared.users == 0:
                threads, cuda.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = _shared.before
                torch.set_num_threads(threads)
                _shared.held = None
                _shared.free.notify_all()


def on_stream(device: torch.device | str) -> AbstractContextManager[object]:
    """A CUDA stream of the run's own, so that several runs fill one GPU; on a processor nothing."""
    if torch.device(device).type != "cuda":
        return nullcontext()
    return _own_stream(device)


_streams: set[int] = set()  # in use
_streams_lock = threading.Lock()


@contextmanager
def _own_stream(device: torch.device | str) -> Iterator[None]:
    """One that no other run has: CUDA hands out 32 in turn, and two runs on one would be captured into each other's graphs."""
    with _streams_lock:
        for _ in range(2 * STREAMS):
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            if stream.cuda_stream not in _streams:
                break
        else:
            raise ConfigError(f"a GPU has streams for {STREAMS} runs at once, and no more: ask for fewer with --per-gpu")
        _streams.add(stream.cuda_stream)
    try:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            yield
    finally:
        with _streams_lock:
            _streams.discard(stream.cuda_stream)


def compiled(net: ResNet) -> nn.Module:
    """`net` with its blocks compiled, weights shared: equal blocks share their code, which keeps the compilation short.

    What cannot be compiled is an error: left to itself torch would run it eagerly, and not say so.
    """
    # Five kinds of block in two sizes of mini-batch are ten versions of one function; torch gives up after eight.
    limits = torch._dynamo.config
    limits.cache_size_limit = max(limits.cache_size_limit, VERSIONS)
    fast = copy.copy(net)
    blocks: list[nn.Module] = [torch.compile(block, dynamic=False, fullgraph=True) for block in net.blocks]  # type: ignore[misc]
    fast._modules = {**net._modules, "blocks": nn.Sequential(*blocks)}
    return fast


class Alarm:
    """A flag on the device that the host can ask for without waiting: the answer may be one question old."""

    def __init__(self, device: torch.device) -> None:
        self.flag = torch.zeros((), dtype=torch.bool, device=device)
        self.copy = torch.zeros((), dtype=torch.bool, pin_memory=device.type == "cuda")
        self.copied: torch.cuda.Event | None = None

    def update(self, condition: Tensor) -> None:
        """Raise the flag where `condition` holds; it stays raised."""
        self.flag.logical_or_(condition)

    def raised(self) -> bool:
        """Whether the flag was up when last copied; begins a new copy where the last has arrived."""
        if self.copied is not None and not self.copied.query():  # type: ignore[no-untyped-call]
            return False
        answer = bool(self.copy)
        self.copy.copy_(self.flag, non_blocking=True)
        if self.flag.is_cuda:
            self.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.copied.record()
        return answer


class Graphs:
    """`update(count)` captured as a CUDA graph at its first call for each `count`, replayed at all others.

    Capturing takes a few updates to warm up; what they change, `changed()` lists, and it is put back.
    """

    _capturing = threading.Lock()  # one at a time, whatever the number of runs

    def __init__(self, update: Callable[[int], None], changed: Callable[[], list[Tensor]]) -> None:
        self.update, self.changed = update, changed
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def __call__(self, count: int) -> None:
        if count not in self.graphs:
            self.graphs[count] = self._capture(count)
        self.graphs[count].replay()

    def _capture(self, count: int) -> torch.cuda.CUDAGraph:
        stream = torch.cuda.current_stream()
        with self._capturing:
            kept = [tensor.detach().clone() for tensor in self.changed()]
            for _ in range(WARM_UP):
                self.update(count)
                with torch.no_grad():
                    for tensor, value in zip(self.changed(), kept, strict=True):
                        tensor.copy_(value)
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self.update(count)
        return graph
