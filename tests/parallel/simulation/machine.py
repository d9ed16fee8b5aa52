"""Random histories of a simulated experiment: hypothesis picks what happens next."""

from __future__ import annotations

import sys
from datetime import timedelta

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.parallel.simulation.experiment import Experiment, Parts
from tests.parallel.simulation.world import World

MOST_SKILLS = 7
STEPS = 36
NUMBER = st.integers(0, 2**20)


def histories(
    count: int, parts: Parts = Parts(), number: int = 0, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)
) -> list[int]:
    """Runs at least ``count`` histories, the same for the same ``number``; returns the number of events of each.

    Raises:
        Broken: an invariant does not hold, with the shortest history found in which it does not.
    """
    machine = seed(number)(type("Histories", (Histories,), {"parts": parts, "lengths": []}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=count + count // 20,  # a few turn out to be repeated, or empty
            stateful_step_count=STEPS, database=None, deadline=None, phases=phases, print_blob=False,
            suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
        ),
    )  # fmt: skip
    return machine.lengths


class Histories(RuleBasedStateMachine):
    """One history: at most ``STEPS`` events in any order, and then nothing more goes wrong.

    ``lengths``: the events of each history so far.
    """

    parts = Parts()
    lengths: list[int] = []

    def __init__(self):
        super().__init__()
        self.events = 0

    @initialize(number=NUMBER)
    def begin(self, number):
        on_cluster = bool(number // 9 % 2) if self.parts.on_cluster is None else self.parts.on_cluster
        world = self.parts.cluster if on_cluster else World
        self.world = world(max_parallel=1 + number % 3, max_retries=number // 3 % 3)
        self.experiment = Experiment(self.parts, self.world)
        self.experiment.start()
        self._add(number)

    def teardown(self):
        if self.events and sys.exc_info()[0] is None:
            self.lengths.append(self.events)
            self.experiment.run_to_the_end()

    # What the scheduler does.

    @rule(number=NUMBER)
    def propose(self, number):
        self._happened(number, lambda: self._add(number))

    @rule(number=NUMBER)
    def goes_on(self, number):
        self.events += 1
        self.experiment.step(None if number % 3 else 1)
        self._look_after_the_scheduler()

    @rule(number=NUMBER)
    def time_passes(self, number):
        self._happened(number, lambda: self.world.wait((1, 5, 400)[number % 3]))

    @rule(number=NUMBER)
    def the_scheduler_is_restarted(self, number):
        """After a kill at rest, an orderly end, or a kill within one; now and then the newest state is torn."""
        self.events += 1
        if number % 4 == 0:
            self.world.effects_left = number // 24 % 6 if number % 3 == 0 else self.world.effects_left
            self.experiment.leave(and_end_trainings=number % 8 == 0)
        self.experiment.kill()
        self.experiment.start(retry_failed=number % 5 == 0, from_previous=number % 7 == 0)
        self._look_after_the_scheduler()

    @rule(number=NUMBER)
    def the_scheduler_will_be_killed(self, number):
        """At one of the next points at which it can be: between any two deeds, and within a merge."""
        self.events += 1
        self.world.effects_left = number % 6
        if number // 6 % 2:
            self._add(number)  # so that there is something to launch
        self.experiment.step()
        self.experiment.step()
        self._look_after_the_scheduler(from_previous=number % 5 == 0)

    @precondition(lambda self: self._some_train())
    @rule(number=NUMBER)
    def the_scheduler_is_killed_as_it_ends_its_trainings(self, number):
        """Before, between or after them; some have just died, and nobody has seen it."""
        self.events += 1
        if number % 2:
            self.world.kill(self._process(number))
        self.world.effects_left = 3 + number // 2 % 5
        self.experiment.leave(and_end_trainings=True)
        self.experiment.start(from_previous=number % 7 == 0)
        self._look_after_the_scheduler()

    @rule(number=NUMBER)
    def pause(self, number):
        self._happened(number, lambda: self.experiment.pause(number % 4 == 0))

    # What the trainings do, and what is done to them.

    def _some_train(self):
        return bool(self.world.processes)

    @precondition(_some_train)
    @rule(number=NUMBER)
    def trainings_train(self, number):
        def train():
            for process in self.world.processes:
                self.world.train(process, 1 + number % 7)
            if number % 2:
                self.world.checkpoint(self._process(number))

        self._happened(number, train)

    @precondition(_some_train)
    @rule(number=NUMBER)
    def a_training_completes(self, number):
        self._happened(number, lambda: self.world.finish(self._process(number), "completed"))

    @precondition(_some_train)
    @rule(number=NUMBER)
    def a_training_fails(self, number):
        reason = (None, "out_of_memory", "no_progress", "out_of_memory")[number % 4]
        self._happened(number, lambda: self.world.finish(self._process(number), "failed", reason))

    @precondition(_some_train)
    @rule(number=NUMBER)
    def a_person_cancels_a_training(self, number):
        self._happened(number, lambda: self.world.finish(self._process(number), "cancelled"))

    @precondition(_some_train)
    @rule(number=NUMBER)
    def a_training_is_killed(self, number):
        self._happened(number, lambda: self.world.kill(self._process(number), for_memory=number % 3 == 0))

    @precondition(_some_train)
    @rule(number=NUMBER)
    def a_training_hangs(self, number):
        def hang():
            process = self._process(number)
            process.silent = process.hung
            process.hung = True

        self._happened(number, hang)

    @precondition(_some_train)
    @rule(number=NUMBER)
    def sessions_are_ended(self, number):
        """One, or the whole server."""

        def end():
            for process in self.world.processes if number % 3 == 0 else [self._process(number)]:
                process.session = False

        self._happened(number, end)

    @precondition(_some_train)
    @rule(number=NUMBER)
    def a_lock_is_removed(self, number):
        self._happened(number, lambda: setattr(self._process(number).folder, "lock_file", False))

    # What a cluster does.

    def _is_cluster(self):
        return self.world.is_cluster

    def _some_wait(self):
        return self.world.is_cluster and any(job.state == "pending" for job in self.world.jobs)

    def _some_run(self):
        return self.world.is_cluster and any(job.state == "running" for job in self.world.jobs)

    def _some_are_lost(self):
        return self.world.is_cluster and bool(self.world.lost)

    def _job(self, number, state):
        jobs = [job for job in self.world.jobs if job.state == state]
        return jobs[number // 5 % len(jobs)]

    @precondition(_some_wait)
    @rule(number=NUMBER)
    def a_job_starts(self, number):
        self._happened(number, lambda: self.world.begin(self._job(number, "pending")))

    @precondition(_some_wait)
    @rule(number=NUMBER)
    def jobs_start(self, number):
        self._happened(number, self._start_all)

    def _start_all(self):
        for job in [job for job in self.world.jobs if job.state == "pending"]:
            self.world.begin(job)

    @precondition(_some_wait)
    @rule(number=NUMBER)
    def a_submission_arrives_when_the_next_attempt_has_begun(self, number):
        """The first job never began: its trainings were ended, and the experiment goes on."""
        self.events += 1
        job = self._job(number, "pending")
        self.experiment.leave(and_end_trainings=True)
        self.experiment.start()
        self._look_after_the_scheduler()
        self.experiment.step()
        self._start_all()
        self.world.jobs.append(type(job)(job.folder, job.attempt))
        self._start_all()
        self._look_after_the_scheduler()

    @precondition(_some_run)
    @rule(number=NUMBER)
    def a_job_runs_out_of_time(self, number):
        self._happened(number, lambda: self.world.run_out_of_time(self._job(number, "running")))

    @precondition(_some_run)
    @rule(number=NUMBER)
    def a_node_is_lost(self, number):
        """Some clusters forget a job as soon as it is over."""

        def lose():
            self.world.lose_node(self._job(number, "running"))
            if number % 3 == 0:
                self.world.forget_jobs()

        self._happened(number, lose)

    @precondition(_some_run)
    @rule(number=NUMBER)
    def a_node_is_lost_and_its_process_writes_when_the_next_attempt_has_begun(self, number):
        self.events += 1
        job = self._job(number, "running")
        self.world.train(job.process, 5)
        self.world.checkpoint(job.process)
        self.world.lose_node(job)
        for _ in range(3):
            self.experiment.step()
            self._look_after_the_scheduler()
        self._start_all()
        for process in [process for process in self.world.lost if process.folder is job.folder]:
            self.world.lost_writes(process, slips=True, ends=number % 2 == 0)
        self._look_after_the_scheduler()

    @precondition(_some_are_lost)
    @rule(number=NUMBER)
    def a_lost_process_writes(self, number):
        def write():
            process = self.world.lost[number // 5 % len(self.world.lost)]
            self.world.lost_writes(process, slips=number % 2 == 0, ends=number % 3 == 0)

        self._happened(number, write)

    @precondition(_some_are_lost)
    @rule(number=NUMBER)
    def a_lost_node_is_back(self, number):
        self._happened(number, lambda: self.world.node_is_back(self.world.lost[number // 5 % len(self.world.lost)]))

    @precondition(_some_run)
    @rule(number=NUMBER)
    def a_job_is_requeued(self, number):
        self._happened(number, lambda: self.world.requeue(self._job(number, "running")))

    @precondition(_is_cluster)
    @rule(number=NUMBER)
    def an_answer_is_lost_or_a_submission_arrives_twice(self, number):
        def lose():
            self.world.answers_lost = number % 3
            if self.world.jobs and number % 2:
                copied = self.world.jobs[number // 5 % len(self.world.jobs)]
                self.world.jobs.append(type(copied)(copied.folder, copied.attempt))

        self._happened(number, lose)

    @precondition(_is_cluster)
    @rule(number=NUMBER)
    def old_jobs_are_forgotten(self, number):
        self._happened(number, self.world.forget_jobs)

    # What else goes wrong.

    @rule(number=NUMBER)
    def the_engine_falls_silent_or_answers(self, number):
        self._happened(number, lambda: setattr(self.world, "engine_answers", bool(number % 3)))

    @rule(number=NUMBER)
    def deeds_will_be_refused(self, number):
        def refuse():
            self.world.launch_refusals, self.world.merge_refusals = number % 3, number // 3 % 3
            self.world.damages = number // 9 % 2

        self._happened(number, refuse)

    @rule(number=NUMBER)
    def merges_will_take_long(self, number):
        """Another process holds the library for a while, or its disk is slow."""

        def delay():
            self.world.slow_steps, self.world.library_held_for = number % 7, number // 7 % 3 * 2

        self._happened(number, delay)

    @rule(number=NUMBER)
    def a_report_comes_again(self, number):
        self._happened(number, lambda: self.experiment.tell_again(number // 5))

    @rule(number=NUMBER)
    def the_clock_jumps(self, number):
        days = (-400, -1, 1, 400)[number % 4]
        self._happened(number, lambda: setattr(self.world, "now", self.world.now + timedelta(days=days)))

    def _happened(self, number, event):
        """Something happens; in most cases the scheduler looks before the next thing does."""
        self.events += 1
        event()
        if number % 5:
            self.experiment.step()
        else:
            self._look_after_the_scheduler()
        self._look_after_the_scheduler()

    def _look_after_the_scheduler(self, from_previous=False):
        while self.experiment.dispatcher is None:  # it may be killed as it starts, once
            self.experiment.start(from_previous=from_previous)
        self.experiment.check()

    def _add(self, number):
        known = list(self.experiment.dispatcher.core.entries)
        if len(known) < MOST_SKILLS:
            wanted = {known[number // 7**place % len(known)] for place in range(number % 3) if known}
            self.experiment.add(f"S{len(known)}", tuple(sorted(wanted)))

    def _process(self, number):
        return self.world.processes[number // 5 % len(self.world.processes)]
