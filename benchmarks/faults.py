"""Real faults on real trainings: ``python benchmarks/faults.py --runs 100 --seed 0``.

Each run is an experiment of three skills, trained with real PPO on a tiny game by the real scheduler in real tmux. A
killer strikes at random; whenever the scheduler is gone the same command is given again, until all is done. Then the
library is compared with the result of an undisturbed run. Each run appends a line to the results; runs that are already
there are not repeated. With ``--launcher slurm`` the trainings are jobs on a cluster of two nodes that is started here
(``scripts/slurm_here.sh``), and its controller, its nodes and its jobs are struck too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from fault_scheduler import SETTINGS, SKILLS, TRAINER, digest

from flowrl import pickles
from flowrl.errors import INTERRUPTED
from flowrl.files import append_line, read_json
from flowrl.parallel.processes import of_runs_below, retry_until
from flowrl.paths import ExperimentPaths, RunPaths

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "faults.jsonl"
MOST_STRIKES = 6
MEAN_PAUSE_S = 3.0
LIMIT_S = 400.0
"""Seconds after which a run counts as stuck: many times what one takes."""
LEAVE_S = 20.0
SILENCE = "the cluster does not answer"
"""What a scheduler says that is started while the controller is down."""
NODES = ("node1", "node2")
AFTER_REPAIR_S = 5.0
"""Seconds after a repair in which the controller may not answer yet."""
NODES_LOOK_S = 2.0
"""Seconds between looks for nodes that the cluster has drained."""
COMPLETING_S = 180.0
"""Seconds that Slurm may take to clear a job that is over from a node that was lost."""
NODE_TIMEOUT_S = 10
"""Seconds after which a node that does not answer is given up."""


@dataclass
class Field:
    """One run's environment: its own tmux server, its own folder, and the scheduler's process."""

    root: Path
    tmux: Path
    cluster: Path | None = None
    """The folder of the cluster, if the trainings are its jobs."""
    scheduler: subprocess.Popen | None = None
    most_strikes: int = MOST_STRIKES
    starts: int = 0
    strikes: list[str] = field(default_factory=list)
    repairs: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    """What is put in order again, and when."""
    repaired_s: float = float("-inf")
    looked_s: float = float("-inf")
    resumed: int = 0
    """How often a drained node was put back into service."""

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "TMUX_TMPDIR": str(self.tmux), "JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "FLOWRL_CACHE_DIR": str(Path(tempfile.gettempdir()) / "flowrl_cache_faults"),
        } | (cluster_environment(self.cluster) if self.cluster else {})  # fmt: skip

    def start(self) -> None:
        """Starts the command, for the first time or again."""
        self.starts += 1
        with open(self.root / "scheduler.log", "a") as log:
            self.scheduler = subprocess.Popen(
                [sys.executable, str(HERE / "fault_scheduler.py"), str(self.root), *(["slurm"] if self.cluster else [])],
                env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def run_tmux(self, *arguments: str) -> str:
        done = subprocess.run(["tmux", *arguments], env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout

    def processes(self) -> list[psutil.Process]:
        """All processes that carry the mark of one of the runs."""
        return of_runs_below(self.root)

    def keepers(self) -> list[int]:
        return [process.pid for process in self.processes() if "flowrl.parallel.keeper" in _command(process)]

    def trainings(self, working: bool = False) -> list[int]:
        """Trainings; with ``working``, only those whose heartbeat says so, so that a hang would soon be noticed."""
        found = [process for process in self.processes() if _command(process)[1:2] == [TRAINER[1]]]
        return [process.pid for process in found if not working or _works(process)]

    def call(self, *command: str) -> list[str] | None:
        """The words of a command's answer; None if it failed."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout.split() if done.returncode == 0 else None

    def running_jobs(self) -> list[str]:
        return self.call("squeue", "-h", "-t", "RUNNING", "-o", "%i") or []

    def repair(self, everything: bool = False) -> None:
        """Puts in order again what is due."""
        due = [repair for at_s, repair in self.repairs if everything or at_s < time.monotonic()]
        self.repairs = [] if everything else [(at_s, repair) for at_s, repair in self.repairs if at_s >= time.monotonic()]
        for repair in due:
            repair()
            self.repaired_s = time.monotonic()
        if self.cluster and not self.repairs and time.monotonic() - self.looked_s > NODES_LOOK_S:
            self._resume_nodes()

    def _resume_nodes(self) -> None:
        """What an administrator does with a drained node: a controller that was killed has given job numbers twice."""
        self.looked_s = time.monotonic()
        for node in self.call("sinfo", "-h", "-N", "-t", "drain", "-o", "%N") or []:
            self.resumed += self.call("scontrol", "update", f"nodename={node}", "state=resume") is not None

    def may_be_silent(self) -> bool:
        """Whether the controller is down, or was down a moment ago."""
        return bool(self.repairs) or time.monotonic() - self.repaired_s < AFTER_REPAIR_S

    def sessions(self) -> list[str]:
        return self.run_tmux("list-sessions", "-F", "#{session_name}").split()


Strike = Callable[[Field, random.Random], bool]


def strikes() -> dict[str, Strike]:
    """What the killer can do; each returns whether it had a target."""

    def signal_one(number: int, find: Callable[[Field], list[int]]) -> Strike:
        def strike(arena: Field, chance: random.Random) -> bool:
            pids = find(arena)
            return bool(pids) and _send(chance.choice(pids), number)

        return strike

    def to_scheduler(number: int) -> Strike:
        return lambda arena, chance: _send(arena.scheduler.pid, number)

    def end_session(arena: Field, chance: random.Random) -> bool:
        names = arena.sessions()
        return bool(names) and arena.run_tmux("kill-session", "-t", f"={chance.choice(names)}") == ""

    def end_server(arena: Field, chance: random.Random) -> bool:
        return bool(arena.sessions()) and arena.run_tmux("kill-server") == ""

    return {
        "scheduler killed": to_scheduler(signal.SIGKILL),
        "scheduler terminated": to_scheduler(signal.SIGTERM),
        "training killed": signal_one(signal.SIGKILL, Field.trainings),
        "training terminated": signal_one(signal.SIGTERM, Field.trainings),
        "training stopped, as a hang": signal_one(signal.SIGSTOP, lambda arena: arena.trainings(working=True)),
        "keeper killed": signal_one(signal.SIGKILL, Field.keepers),
        "session killed": end_session,
        "tmux server killed": end_server,
    }


def cluster_strikes() -> dict[str, Strike]:
    """What the killer can do besides, to a cluster. A part of it that is killed is started again a little later."""

    def job(*command: str) -> Strike:
        def strike(arena: Field, chance: random.Random) -> bool:
            jobs = arena.running_jobs()
            return bool(jobs) and arena.call(*command, chance.choice(jobs)) is not None

        return strike

    def daemon(name: str, back_s: float, *start: str) -> Strike:
        def strike(arena: Field, chance: random.Random) -> bool:
            if arena.repairs:  # one at a time
                return False
            part = name.format(chance.choice(NODES))
            back = [part.removeprefix("slurmd.") if word == "NODE" else word for word in start]
            pid_file = arena.cluster / f"{part}.pid"
            arena.repairs.append((time.monotonic() + back_s, lambda: slurm_here(arena.cluster, *back)))
            return pid_file.exists() and _send(int(pid_file.read_text()), signal.SIGKILL)

        return strike

    return {
        "job cancelled": job("scancel"),
        "job told that its time is over": job("scancel", "--batch", "--signal=TERM"),
        "controller killed": daemon("slurmctld", 4.0, "start-controller"),
        "node's daemon killed": daemon("slurmd.{}", 3.0, "start-node", "NODE"),
        "node lost": daemon("slurmd.{}", NODE_TIMEOUT_S + 8.0, "start-node", "NODE"),
    }


def cluster_environment(folder: Path) -> dict[str, str]:
    return {
        "FLOWRL_SLURM_DIR": str(folder), "SLURM_CONF": str(folder / "slurm.conf"),
        "FLOWRL_SLURM_NODE_TIMEOUT_S": str(NODE_TIMEOUT_S),
    }  # fmt: skip


def slurm_here(folder: Path, *arguments: str) -> None:
    """Calls the script that runs a cluster on this machine."""
    command, environment = (
        [str(HERE.parent / "scripts" / "slurm_here.sh"), *arguments],
        os.environ | cluster_environment(folder),
    )
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")


def fight(arena: Field, chance: random.Random) -> list[str]:
    """Strikes and starts again until the experiment is done; returns what went wrong."""
    possible, deadline = strikes() | (cluster_strikes() if arena.cluster else {}), time.monotonic() + LIMIT_S
    left, next_strike_s = arena.most_strikes, time.monotonic() + chance.expovariate(1 / MEAN_PAUSE_S)
    arena.start()
    while time.monotonic() < deadline:
        arena.repair()
        code = arena.scheduler.poll()
        if code == 0:
            return []
        if code is not None:
            if arena.may_be_silent() and SILENCE in _last_line(arena.root / "scheduler.log"):  # it says: try again later
                time.sleep(0.5)
                arena.start()
                continue
            if code not in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, INTERRUPTED):
                return [f"the scheduler ended with code {code}: {_last_line(arena.root / 'scheduler.log')}"]
            arena.start()
        if left and time.monotonic() > next_strike_s:
            name = chance.choice([*possible, "scheduler killed", "training killed"])
            if possible[name](arena, chance):
                arena.strikes.append(name)
                left -= 1
            next_strike_s = time.monotonic() + chance.expovariate(1 / MEAN_PAUSE_S)
        time.sleep(0.05)
    return [f"not done after {LIMIT_S:g} s: {_statuses(arena.root)}"]


def compare(root: Path) -> tuple[list[str], int, int]:
    """The library compared with an undisturbed run's: differences, experts lost, frames counted twice."""
    paths, faults, lost, twice = ExperimentPaths(root), [], 0, 0
    entries = read_json(paths.state)["skills"]
    if {entry["skill_name"]: entry["status"] for entry in entries} != dict.fromkeys(SKILLS, "completed"):
        faults.append(f"statuses {_statuses(root)}")
    if sorted(entry["expert_idx"] for entry in entries) != sorted(paths.library()) or len(paths.library()) != len(SKILLS):
        faults.append(f"indices {[entry['expert_idx'] for entry in entries]}, library {paths.library()}")
    lines = map(json.loads, (root / "ledger.jsonl").read_text().splitlines())
    merged = {(line["skill"], line["attempt"]): line for line in lines}
    runs = {skill: line for (skill, _), line in merged.items()}
    twice += SETTINGS["total_timesteps"] * (len(merged) - len(runs))
    if len(merged) > len(runs):
        faults.append(f"merged more than once: {sorted(merged)}")
    for line in runs.values():
        surplus = line["frames"] - SETTINGS["total_timesteps"]
        if surplus or line["checkpoint_frames"] != line["frames"] or sum(line["acted_frames"].values()) != line["frames"]:
            faults.append(f"frames of {line['skill']}: {line}")
            twice += max(0, surplus)
    for index, name in paths.library().items():
        try:
            expert = pickles.load(paths.expert_params(index, name))
        except Exception as error:
            faults.append(f"expert {index}: {error}")
            lost += 1
            continue
        problem, surplus = _lineage(expert, index, runs)
        faults += [problem] if problem else []
        lost += bool(problem)
        twice += surplus
    return faults, lost + max(0, len(SKILLS) - len(paths.library())), twice


def _lineage(expert: dict, index: int, runs: dict[str, dict]) -> tuple[str | None, int]:
    """Whether an expert comes from one of its runs, and has the total frames of the runs that led to it."""
    of_expert = [(line, line["versions"][str(index)]) for line in runs.values() if str(index) in line["versions"]]
    total = expert["metadata"]["total_frames"]
    matching = [(line, version) for line, version in of_expert if version["digest"] == digest(expert["params"])]
    if not matching:
        return f"expert {index} is in no checkpoint that a result names", 0
    line, version = matching[0]
    ages = {0} | {version["start"] + line["frames"] for line, version in of_expert}
    oldest = max(v["start"] + r["frames"] for r, v in of_expert if r["acted_frames"].get(str(index), 0))
    if total != version["start"] + line["frames"] or version["start"] not in ages or total != oldest:
        surplus = max(0, total - version["start"] - line["frames"])
        return f"expert {index} has {total} frames: {version['start']} + {line['frames']}, oldest version {oldest}", surplus
    return None, 0


def leftovers(arena: Field) -> list[str]:
    """What must not be left when all is done."""
    found = [f"process {process.pid} {_command(process)}" for process in arena.processes()]
    found += [f"session {name}" for name in arena.sessions()]
    if arena.cluster:
        jobs = arena.call("squeue", "-h", "-o", "%i:%T:%j")
        found += ["jobs unknown: squeue does not answer"] if jobs is None else [f"job {job}" for job in jobs]
    paths = arena.root.rglob("*")
    unfinished = [path for path in paths if path.name.endswith(".tmp") or path.name.startswith((".merged_", ".new_"))]
    return found + [f"file {path.relative_to(arena.root)}" for path in unfinished]


def one_run(seed: int, number: int, most_strikes: int = MOST_STRIKES, keep: bool = False, cluster: Path | None = None) -> dict:
    """A run and its comparison, as a line of the results; its folder stays if something is wrong, or with ``keep``."""
    base = Path(tempfile.mkdtemp(prefix="flowrl-faults-")).resolve()
    arena = Field(base / "exp", base / "tmux", cluster, most_strikes=most_strikes)
    arena.root.mkdir(), arena.tmux.mkdir()
    began_s = time.monotonic()
    faults, lost, twice, attempts = [], 0, 0, []
    try:
        faults = fight(arena, random.Random(f"{seed}/{number}"))
        if not faults:
            attempts = [entry["attempt"] for entry in read_json(arena.root / "scheduler_state.json")["skills"]]
            faults, lost, twice = compare(arena.root)
            arena.repair(everything=True)
            retry_until(lambda: not leftovers(arena), LEAVE_S)  # a process of a lost node ends at its next update
            if all(":COMPLETING:" in one for one in leftovers(arena)):
                retry_until(lambda: not leftovers(arena), COMPLETING_S)
            faults += leftovers(arena)
    finally:
        arena.repair(everything=True)
        _clear(arena)
    if not faults and not keep:
        shutil.rmtree(base, ignore_errors=True)
    return {
        "seed": seed, "run": number, "launcher": "slurm" if cluster else "tmux",
        "seconds": round(time.monotonic() - began_s, 1), "starts": arena.starts,
        "attempts": attempts, "strikes": dict(Counter(arena.strikes)), "nodes_resumed": arena.resumed,
        "experts_lost": lost, "frames_twice": twice,
        "faults": faults, "folder": str(base) if base.exists() else None,
    }  # fmt: skip


def main(arguments: list[str]) -> int:
    """Returns 0 if no run has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of results, one line per run; appended to")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no further run after this many seconds")
    parser.add_argument("--strikes", type=int, default=MOST_STRIKES, help="most strikes in a run")
    parser.add_argument("--launcher", choices=("tmux", "slurm"), default="tmux", help="slurm: the trainings are jobs")
    parser.add_argument("--keep", action="store_true", help="keep the folder of each run")
    flags = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what a run has started is ended with us
    flags.results.parent.mkdir(parents=True, exist_ok=True)
    began_s = time.monotonic()
    wanted = range(flags.first, flags.first + flags.runs)
    with _cluster(flags.launcher) as cluster:
        _fight_all(flags, wanted, began_s, cluster)
    done = [line for line in _results(flags) if line["run"] in wanted]
    print(json.dumps(summary(done), indent=2))
    return int(any(line["faults"] for line in done))


@contextlib.contextmanager
def _cluster(launcher: str) -> Iterator[Path | None]:
    """A cluster for all runs, if they need one; its folder."""
    if launcher == "tmux":
        yield None
        return
    folder = Path(tempfile.gettempdir()) / f"flowrl_slurm_faults_{os.getpid()}"
    slurm_here(folder, "up")
    try:
        yield folder
    finally:
        slurm_here(folder, "down")


def _fight_all(flags: argparse.Namespace, wanted: range, began_s: float, cluster: Path | None) -> None:
    for number in wanted:
        if time.monotonic() - began_s > flags.seconds:
            break
        if number not in {line["run"] for line in _results(flags)}:
            line = one_run(flags.seed, number, flags.strikes, flags.keep, cluster)
            append_line(flags.results, json.dumps(line))
            print(f"run {number}: {line['seconds']} s, {line['strikes']}, faults {line['faults']}", flush=True)


def summary(lines: list[dict]) -> dict:
    """The figures of many runs."""
    return {
        "runs": len(lines),
        "strikes": dict(sum((Counter(line["strikes"]) for line in lines), Counter())),
        "starts_of_the_scheduler": sum(line["starts"] for line in lines),
        "nodes_resumed": sum(line.get("nodes_resumed", 0) for line in lines),
        "attempts_at_training": sum(sum(line["attempts"]) for line in lines),
        "experts_lost": sum(line["experts_lost"] for line in lines),
        "frames_counted_twice": sum(line["frames_twice"] for line in lines),
        "runs_with_a_fault": [line["run"] for line in lines if line["faults"]],
    }


def _results(flags: argparse.Namespace) -> list[dict]:
    if not flags.results.exists():
        return []
    lines = map(json.loads, flags.results.read_text().splitlines())
    wanted = flags.seed, flags.launcher
    return [line for line in lines if (line["seed"], line.get("launcher", "tmux")) == wanted]


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _works(process: psutil.Process) -> bool:
    try:
        run = RunPaths(Path(_command(process)[-1]))
        return json.loads(run.heartbeat.read_text())["phase"] == "training"
    except (OSError, ValueError, KeyError, IndexError):
        return False


def _statuses(root: Path) -> dict[str, str]:
    entries = read_json(root / "scheduler_state.json")["skills"] if (root / "scheduler_state.json").exists() else []
    return {entry["skill_name"]: f"{entry['status']} {entry['error'] or ''}"[:300] for entry in entries}


def _last_line(path: Path) -> str:
    return (path.read_text().splitlines() or [""])[-1]


def _clear(arena: Field) -> None:
    """Ends only what this run has started."""
    arena.scheduler.kill()
    arena.scheduler.wait()
    for process in arena.processes():
        _send(process.pid, signal.SIGKILL)
    arena.run_tmux("kill-server")
    if arena.cluster:
        arena.call("scancel", f"--user={os.getuid()}")
        retry_until(lambda: arena.call("squeue", "-h", "-o", "%i") == [], LEAVE_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
