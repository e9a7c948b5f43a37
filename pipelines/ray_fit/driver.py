"""The driver: Ray's TorchTrainer in a thread, while the main one shows how far it is and hears Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from pfgdata.errors import ConfigError, PfgError, RunError
from pfgdata.records import Progress
from pfgtrain.checkpoint import is_run
from pipelines.ray_fit.group import Group
from pipelines.ray_fit.worker import Job, Voice, train

__all__ = ["fit_on_ray", "processes"]

_LOOK = 0.3  # seconds between two looks at what was told
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # an actor more, for spot machines that say when they go
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


def fit_on_ray(
    job: Job, group: Group, *, resume: bool, progress: Progress, stop: Callable[[], bool]
) -> dict[str, Any]:
    """The report of a fit of `job` by `group`, as the first process gives it.

    Raises RunError where the folder holds a run and `resume` is not said, or the reverse, and where the group
    died more often than it may; what a process said, where a user can fix that; ConfigError without Ray.
    """
    if is_run(job.run_dir) != resume:
        held = "holds no run to go on with" if resume else "holds a run; go on with --resume"
        raise RunError(f"{job.run_dir}: {held}, or name another folder with --out")
    ray = _ray(group)
    try:
        voice = ray.remote(num_cpus=0)(Voice).remote()
        return _watched(ray, _trainer(ray, job, group, voice), voice, progress=progress, stop=stop)
    finally:
        ray.shutdown()


def _ray(group: Group) -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if group.address not in (None, "auto"):
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # else the token is not read for an explicit address
    try:
        import ray
        import ray.train.torch
    except ImportError as problem:
        raise ConfigError(f"pipelines.ray_fit: pip install 'ray[train]' ({problem})") from None
    hears = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    words: dict[str, Any] = (
        {"address": group.address} if group.address else {"address": "local", "include_dashboard": False}
    )
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **words)
    except (ConnectionError, RuntimeError, ValueError) as problem:
        said = " ".join(str(problem).split())[:200]
        raise ConfigError(f"--address {group.address}: no Ray could be joined there ({said})") from None
    finally:
        for number, handler in handlers.items() if hears else ():
            signal.signal(number, handler)  # Ray puts its own there, which end the process
    return ray


def _trainer(ray: Any, job: Job, group: Group, voice: Any) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpus = int(ray.cluster_resources().get("GPU", 0))
    cores = int(ray.cluster_resources().get("CPU", 0))
    workers = processes(group, gpus=gpus, cores=cores)
    return TorchTrainer(
        train,
        train_loop_config={"job": job, "voice": voice},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": group.cores, **({"GPU": 1} if gpus else {})},
        ),
        run_config=RunConfig(
            name=job.run_dir.name,
            storage_path=str(job.run_dir.parent / ".ray"),  # its notes: no weights
            failure_config=FailureConfig(max_failures=group.retries),
        ),
    )


def processes(group: Group, *, gpus: int, cores: int) -> int:
    """How many processes a cluster of `gpus` and `cores` has for `group`.

    Raises ConfigError where it has too few of either: Ray would wait for more without end.
    """
    asked = group.workers or gpus or 1
    if 0 < gpus < asked or asked * group.cores > cores:
        of = f" of {group.cores} cores" if group.cores > 1 else ""
        raise ConfigError(f"{asked} processes{of}: the cluster has {gpus} GPUs and {cores} cores; ask fewer")
    return asked


def _watched(
    ray: Any, trainer: Any, voice: Any, *, progress: Progress, stop: Callable[[], bool]
) -> dict[str, Any]:
    """Run `trainer`, handing on what is told meanwhile, and a stop."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(trainer.fit().return_value)
        except Exception as problem:
            found.append(problem)

    thread = threading.Thread(target=run, name="ray-train", daemon=True)
    thread.start()
    asked = False
    while thread.is_alive():
        thread.join(_LOOK)
        _hand_on(ray.get(voice.take.remote()), progress)
        if stop() and not asked:
            voice.stop.remote()
            asked = True
    _hand_on(ray.get(voice.take.remote()), progress)
    (result,) = found
    if isinstance(result, Exception):
        raise _told(result, trainer.run_config.failure_config.max_failures) from None
    report: dict[str, Any] = result
    return report


def _hand_on(calls: list[Any], progress: Progress) -> None:
    for name, words, named in calls:
        getattr(progress, name)(*words, **named)


def _told(problem: Exception, retries: int) -> Exception:
    """What a process itself said, where a user can fix it; else one line of what Ray says."""
    failures = getattr(problem, "worker_failures", {})
    for one in failures.values():
        cause = getattr(one, "cause", one)
        if isinstance(cause, PfgError) and "another process has stopped" not in str(cause):
            return cause
    lines = [line for one in failures.values() for line in str(one).splitlines() if line.strip()]
    said = lines[0] if lines else next(iter(str(problem).splitlines()), type(problem).__name__)
    return RunError(
        f"the processes died {retries + 1} times, the last by: {said[:300]}; what is saved is kept: go on"
        " with --resume"
    )
