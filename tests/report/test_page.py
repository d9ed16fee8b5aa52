"""``flowrl report``: what is read for the page, and that nothing from a model changes it."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowrl.commands import report as command
from flowrl.errors import BadInput
from flowrl.files import append_line, write_json
from flowrl.paths import ExperimentPaths
from flowrl.records import history, state_file
from flowrl.records.history import History, Moment
from flowrl.records.scheduler_state import SchedulerState, SkillEntry, Stage, Status
from flowrl.report.page import charts, curves, serving, writing
from flowrl.report.page.facts import gather
from flowrl.report.page.layout import layered
from flowrl.report.page.spans import Span, critical_path, spans_of, speed_up, waits
from flowrl.report.status.snapshot import Run
from tests.report.experiments import CODE, an_experiment, evaluation

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NASTY = '</script><script>alert("x")</script>\'"&\u202eright to left' + "a" * 10_000


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


@pytest.fixture
def paths(tmp_path) -> ExperimentPaths:
    return an_experiment(tmp_path / "exp")


# When each attempt ran.


def test_attempts_retries_and_merges_are_read_off_the_history():
    training, merging = Stage.TRAINING, Stage.MERGING
    moments = [
        Moment(at(0), "A", Status.WAITING, None, 0, None),
        Moment(at(1), "A", Status.RUNNING, Stage.LAUNCHING, 1, 0),
        Moment(at(2), "A", Status.RUNNING, training, 1, 0),
        Moment(at(3), "A", Status.WAITING, None, 1, None),
        Moment(at(4), "A", Status.RUNNING, training, 2, 1),
        Moment(at(6), "A", Status.RUNNING, merging, 2, 1),
        Moment(at(7), "A", Status.COMPLETED, None, 2, None),
        Moment(at(7), "B", Status.RUNNING, training, 1, 1),
    ]
    assert spans_of(moments, [], at(9)) == [
        Span("A", 1, 0, at(1), at(3), Status.WAITING, waiting_since=at(0)),
        Span("A", 2, 1, at(4), at(7), Status.COMPLETED, at(6), waiting_since=at(3)),
        Span("B", 1, 1, at(7), at(9), Status.RUNNING),
    ]


def test_an_experiment_without_a_history_has_the_newest_attempts_side_by_side():
    def run(name, start, end, status=Status.COMPLETED):
        return Run(skill_name=name, status=status, attempt=1, started_at=start and at(start), completed_at=end and at(end))

    runs = [run("A", 1, 5), run("B", 2, 3), run("C", 4, None, Status.RUNNING), run("D", None, None, Status.WAITING)]
    spans = spans_of([], runs, at(9))
    assert [(span.skill_name, span.slot, span.end) for span in spans] == [("A", 0, at(5)), ("B", 1, at(3)), ("C", 1, at(9))]


def test_the_critical_path_follows_what_was_waited_for():
    done = Status.COMPLETED
    wood, stone = Span("Wood", 1, 0, at(0), at(4), done), Span("Stone", 1, 1, at(0), at(2), done)
    coal, table = Span("Coal", 1, 1, at(2), at(5), done), Span("Table", 1, 0, at(4), at(9), done)
    needs = {"Table": ["Wood"], "Coal": []}
    assert critical_path([wood, stone, coal, table], needs) == [wood, table]
    late = Span("Late", 1, 1, at(9), at(12), done)
    assert critical_path([wood, stone, coal, table, late], {**needs, "Late": ["Table"]}) == [wood, table, late]
    assert critical_path([stone, coal], {}) == [stone, coal]  # it waited for the slot
    assert critical_path([], {}) == []


def test_each_attempt_that_waited_says_how_long_and_for_what():
    def runs(name, minute, attempt=1, slot=0, status=Status.RUNNING):
        return Moment(at(minute), name, status, Stage.TRAINING if status is Status.RUNNING else None, attempt, slot)

    history = [
        runs("Wood", 0, 0, None, Status.WAITING), runs("Wood", 0),
        runs("Table", 0, 0, None, Status.WAITING), runs("Cow", 1, 0, None, Status.WAITING),
        runs("Wood", 4, status=Status.COMPLETED), runs("Table", 4),
        runs("Table", 9, status=Status.WAITING), runs("Table", 10, attempt=2),  # a retry, after a pause
        runs("Steak", 11, 0, None, Status.WAITING), runs("Steak", 12, 0, None, Status.BLOCKED), runs("Steak", 13, slot=1),
        runs("Cow", 14, slot=2),
    ]  # fmt: skip
    spans = spans_of(history, [], at(20))
    found = waits(spans, {"Table": ["Wood"], "Cow": []})
    said = {(span.skill_name, span.attempt): charts.waited(span, found) for span in spans}
    assert said == {
        ("Wood", 1): "-", ("Table", 1): "4 min, for Wood", ("Table", 2): "1 min, to be tried again", ("Steak", 1): "-",
        ("Cow", 1): "13 min",
    }  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50), st.integers(0, 3)), min_size=1, max_size=12))
def test_the_speed_up_lies_between_one_and_the_number_of_runs(given_spans):
    spans = [Span(f"S{i}", 1, slot, at(start), at(start + length), Status.COMPLETED)
             for i, (start, length, slot) in enumerate(given_spans)]  # fmt: skip
    assert 1 - 1e-9 <= speed_up(spans) <= len(spans) + 1e-9
    assert len(critical_path(spans, {})) >= 1


def test_two_side_by_side_are_twice_as_fast_and_pauses_count_for_nobody():
    spans = [Span("A", 1, 0, at(0), at(2), Status.COMPLETED), Span("B", 1, 1, at(0), at(2), Status.COMPLETED)]
    assert speed_up(spans) == 2.0
    assert speed_up([*spans, Span("C", 1, 0, at(10), at(12), Status.COMPLETED)]) == 1.5
    assert speed_up([]) is None


# Learning curves.


def test_a_curve_has_its_tests_and_attempts_and_is_thinned(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for update in range(1, 1001):
        tested = 0.7 if update >= 500 else None
        line = {"frames": update * 10, "estimate": 0.5, "success_rate": None, "test_success_rate": tested, "entropy": 1.0,
                "attempt": 1 if update < 300 else 2}  # fmt: skip
        append_line(path, json.dumps(line))
    append_line(path, '{"frames": 99')
    curve = curves.read(path)
    assert len(curve.frames) <= curves.MOST_POINTS + 1 and (curve.frames[0], curve.frames[-1]) == (10, 10_000)
    assert curve.tests == [(5000, 0.7)] and curve.attempts == [(2, 3000)]
    assert len(curve.rows(20)) <= 20 and not curves.read(tmp_path / "none")


def test_what_an_expert_tries_is_a_line_a_row_and_a_column(paths):
    facts = gather(paths, NOW)
    wood, rehearsal = facts.facts_of("Collect_Wood"), facts.facts_of("rehearsal_1")
    shares = wood.curve.decisive_shares
    assert shares[0] is None and shares[-1] == 0.55 and rehearsal.curve.last_tried is None
    visible = without_scripts(writing.page(facts))
    assert (
        "<dt>tries</dt><dd>move 35%, use 55%, make 10%; DO, which succeeds, 55%<br>entropy of move 1.20, make 0.40</dd>"
        in visible
    )
    assert visible.count("<dt>tries</dt>") == 1 and visible.count('<th scope="col">decisive action</th>') == 1
    drawn, without = (json.dumps(charts.learning_curve(skill)) for skill in (wood, rehearsal))
    assert "decisive action tried" in drawn and "decisive action tried" not in without


@pytest.mark.parametrize("damaged", [3, {}, {"kinds": {"move": "often"}}, {"kinds": {}, "entropies": {}, "decisive": []}])
def test_what_is_no_record_of_tries_is_left_out(paths, damaged):
    path = paths.skill_folder(0, "Collect_Wood") / "metrics.jsonl"
    path.write_text(json.dumps({"frames": 10, "estimate": 0.5, "tried": damaged}) + "\n")
    facts = gather(paths, NOW)
    assert facts.facts_of("Collect_Wood").curve.tried == [None]
    assert "<dt>tries</dt>" not in without_scripts(writing.page(facts))


# The graph.


@given(st.integers(1, 12).flatmap(lambda size: st.lists(st.sets(st.integers(0, 11)), min_size=size, max_size=size)))
def test_a_skill_lies_deeper_than_what_it_needs_and_alone_in_its_place(drawn):
    needs = {f"S{i}": [f"S{j}" for j in others if j < i] for i, others in enumerate(drawn)}
    depths = {}
    for name, others in needs.items():
        depths[name] = max((depths[other] + 1 for other in others), default=0)
    places = layered(needs, depths)
    assert len(set(places.values())) == len(needs)
    assert all(places[name][0] > places[other][0] for name, others in needs.items() for other in others)


def test_lines_that_need_not_cross_do_not():
    needs = {"A": [], "B": [], "C": [], "X": ["C"], "Y": ["B"], "Z": ["A"]}
    places = layered(needs, {"A": 0, "B": 0, "C": 0, "X": 1, "Y": 1, "Z": 1})
    order = sorted("ABC", key=lambda name: places[name][1])
    assert [needs[name][0] for name in sorted("XYZ", key=lambda name: places[name][1])] == order


def test_each_skill_of_a_deep_or_wide_graph_has_room(tmp_path):
    facts = gather(an_experiment(tmp_path / "exp", more=60), NOW)
    plot = charts.graph(facts)["doc"]["roots"][0]["attributes"]
    assert plot["height"] >= 28 * 62
    assert "min-width: 18rem" in writing.page(facts)


def test_the_timeline_has_a_unit_that_suits_its_length():
    def label(minutes):
        plot = charts.timeline([Span("A", 1, 0, at(0), at(minutes), Status.COMPLETED)], [], {})["doc"]["roots"][0]["attributes"]
        return plot["below"][0]["attributes"]["axis_label"]

    lengths = {90: "minutes", 600: "hours", 20 * 24 * 60: "days", 400 * 24 * 60: "days"}
    assert {minutes: label(minutes) for minutes in lengths} == {
        minutes: f"{unit} since the first start" for minutes, unit in lengths.items()
    }


# The page.


def test_a_skill_of_which_nothing_is_known_is_not_said_to_require_nothing(paths):
    visible = without_scripts(writing.page(gather(paths, NOW)))
    assert visible.count("<dt>requires</dt>") == 1 and visible.count('class="skill"') > 2


def test_the_page_has_all_that_the_folder_has(paths):
    text = writing.page(gather(paths, NOW))
    visible = without_scripts(text)
    for needed in ("Collect_Wood", "Skill graph", "Timeline", "Evaluation", "15.61 (15.44 to 15.78)", "inventory",
                   "the training ended without a result", "declares no gain of stone", "--total_timesteps", "rehearsal_1",
                   "Hold n pieces of wood", "Collect_Wood: 0 &rarr; 0", "plain agent, small batches",
                   "the newest line of its log",
                   "Episodes ended by attack 70.0%, thirst 30.0%. Then acted Collect_Wood 60.0%,"):  # fmt: skip
        assert needed in visible, needed
    assert re.findall(r'data-chart="([^"]+)"', visible) == [
        "graph", "timeline", "achievements", "curve-rehearsal_1", "curve-Collect_Wood",
    ]  # fmt: skip
    assert set(re.findall(r'id="data-([^"]+)"', text)) >= set(re.findall(r'data-chart="([^"]+)"', visible))


def without_scripts(text: str) -> str:
    return re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.S)


def test_a_skill_says_what_its_proposal_cost_and_whether_it_is_as_declared(paths):
    state = state_file.read_state(paths.state)
    asked = {"name": "Collect_Wood", "proposal": 0, "calls": 2, "tokens": 3400, "cost_usd": 0.0123}
    state.proposer = {"kind": "llm", "mode": "live", "model": "gpt-5", "calls": 2,
                      "tokens": {"prompt": 3000, "completion": 400},
                      "cost_usd": 0.0123, "budget_usd": None, "skills": [asked], "refused": []}  # fmt: skip
    state_file.save(paths, state)
    visible = without_scripts(writing.page(gather(paths, NOW)))
    assert "<dt>proposal</dt><dd>2 calls, 3.4k tokens, $0.0123</dd>" in visible and visible.count("<dt>proposal</dt>") == 1
    assert "gpt-5: 2 calls, 3.4k tokens, $0.0123" in visible and "as declared" not in visible
    data = json.loads((paths.skill_folder(0, "Collect_Wood") / "skill.json").read_text())
    data["observed"]["differences"] = []
    write_json(paths.skill_folder(0, "Collect_Wood") / "skill.json", data)
    assert "<dd>as declared, in 5 successful episodes</dd>" in without_scripts(writing.page(gather(paths, NOW)))


def test_what_can_never_be_done_has_a_curve_of_its_reward(paths):
    state = state_file.read_state(paths.state)
    state.skills[0].never_done = True
    state_file.save(paths, state)
    path = paths.skill_folder(0, "Collect_Wood") / "metrics.jsonl"
    path.write_text(json.dumps({"frames": 10, "reward": 0.0214, "estimate": 0.0, "success_rate": 0.0, "entropy": 1.5}) + "\n")
    facts = gather(paths, NOW)
    wood = facts.facts_of("Collect_Wood")
    assert (wood.curve_shows, wood.curve.raw, wood.curve.cohorts) == ("reward a step", [0.0214], [None])
    visible = without_scripts(writing.page(facts))
    assert "0.021" in visible and '<th scope="col">reward a step</th>' in visible
    assert json.dumps(charts.learning_curve(wood)).count("whole cohorts") == 0


def test_of_one_slot_no_speed_up_is_said(paths):
    facts = gather(paths, NOW)
    spans = [Span("A", 1, 0, at(0), at(2), Status.COMPLETED), Span("B", 1, 1, at(0), at(2), Status.COMPLETED)]
    one, two = (dataclasses.replace(facts, spans=some, critical=[], waits={}) for some in (spans[:1], spans))
    assert "as fast as one at a time" not in writing.page(one) and "2.00&times;" in writing.page(two)


def test_an_evaluation_says_what_is_learned_and_without_one_the_trainings_do(paths):
    facts = gather(paths, NOW)
    unmeasured = [dataclasses.replace(it, measured=None) for it in facts.skills]
    assert dataclasses.replace(facts, skills=unmeasured).learned == facts.snapshot.learned
    rehearsed = [dataclasses.replace(it, measured={"is_learned": True}) for it in facts.skills]
    assert dataclasses.replace(facts, skills=rehearsed).learned == len(facts.skills)


def test_a_skill_is_shown_with_its_film_and_the_one_of_its_progress(paths):
    for of_progress, suffix in ((False, ".gif"), (False, ".mp4"), (True, ".webp")):
        film = paths.film("Collect_Wood", suffix, of_progress)
        film.parent.mkdir(parents=True, exist_ok=True)
        film.write_bytes(b"film")
    text = without_scripts(writing.page(gather(paths, NOW)))
    assert re.findall(r'src="(films/[^"]+)"', text) == ["films/Collect_Wood.mp4", "films/Collect_Wood_progress.webp"]
    assert "<figcaption>The same world at four moments of the training.</figcaption>" in text


def test_a_film_of_whole_episodes_has_a_section_of_its_own(paths):
    assert 'id="whole"' not in without_scripts(writing.page(gather(paths, NOW)))
    film = paths.film("whole", ".webp")
    film.parent.mkdir(parents=True, exist_ok=True)
    film.write_bytes(b"film")
    text = without_scripts(writing.page(gather(paths, NOW)))
    assert re.findall(r'src="(films/[^"]+)"', text) == ["films/whole.webp"] and 'href="#whole"' in text


def test_the_page_asks_no_other_place_for_anything(paths):
    visible = without_scripts(writing.page(gather(paths)))
    assert not re.search(r'(src|href)="(?!#|films/)', visible)
    assert "connect-src 'none'" in visible and "default-src 'none'" in visible


def test_fifty_skills_take_at_most_2_mb(tmp_path):
    paths = an_experiment(tmp_path / "exp", more=50, updates=2000)
    assert len(writing.page(gather(paths)).encode()) <= 2_000_000


def test_an_experiment_that_has_only_begun_has_a_page(tmp_path):
    paths = ExperimentPaths(tmp_path / "exp")
    paths.root.mkdir()
    state_file.save(paths, SchedulerState())
    visible = without_scripts(writing.page(gather(paths)))
    assert "There are no skills yet" in visible and "Nothing has run yet" in visible


def test_text_from_a_model_is_shown_and_changes_nothing(paths):
    plain_text = writing.page(gather(paths, NOW))
    data = json.loads((paths.skill_folder(0, "Collect_Wood") / "skill.json").read_text())
    data |= {"description": NASTY, "task_reward": CODE + f"    # {NASTY}\n", "gains": {NASTY[:60]: {"per": 1}}}
    write_json(paths.skill_folder(0, "Collect_Wood") / "skill.json", data)
    failed = SkillEntry(skill_name="Eat_Cow", status=Status.FAILED, error=NASTY, expert_idx=9)
    state = state_file.read_state(paths.state)
    state.skills[1] = failed
    state_file.save(paths, state)
    text = writing.page(gather(paths, NOW))
    assert "<script>alert" not in text and "alert(&#34;x&#34;)" in text
    tags = [re.findall(r"<(/?\w+)", without_scripts(page_text)) for page_text in (plain_text, text)]
    assert tags[1].count("script") == 0 and text.count("</script>") == plain_text.count("</script>")
    assert len(text) < len(plain_text) + 60_000


def test_what_cannot_be_read_is_said_and_the_rest_is_there(paths):
    for path in (paths.evaluation, paths.skill_folder(0, "Collect_Wood") / "run.json", paths.config):
        path.write_text("{")
    (paths.skill_folder(0, "Collect_Wood") / "result.json").write_text("[]")
    visible = without_scripts(writing.page(gather(paths)))
    assert visible.count('class="remark"') == 3 and "Collect_Wood" in visible and "Evaluation</h2>" not in visible
    write_json(paths.evaluation, {"whole": 3})
    assert "flowrl evaluate writes it anew" in writing.page(gather(paths))


def test_the_command_writes_it_and_says_where(paths, capsys):
    assert command.main([str(paths.root)]) == 0
    assert capsys.readouterr().out == f"Written: {paths.root}/report/index.html\n"
    assert (paths.root / "report/index.html").read_text().startswith("<!doctype html>")


def test_a_part_that_cannot_be_read_is_one_line_too_and_the_page_is_written(paths, capsys):
    paths.evaluation.write_text('{"whole": ')
    assert command.main([str(paths.root)]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("Written: ") and (paths.root / "report/index.html").exists()
    assert "evaluation.json is not valid JSON" in said.err and said.err.count("\n") == 1


def test_bad_input_is_one_line(paths, tmp_path, capsys):
    for arguments in (
        [str(tmp_path / "none")],
        [str(paths.root), "--port", "-1"],
        [str(paths.root), "--serve", "--port", "99999"],
    ):
        assert command.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith(("flowrl: ", "error")) and error.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_said(paths, monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(writing, "write_whole", refuse)
    assert command.main([str(paths.root)]) == 1
    assert "report cannot be written (Permission denied); make room or make it writable" in capsys.readouterr().err


# Served.


@pytest.fixture
def served(paths):
    with serving.server(paths, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


def fetched(address: str, host: str | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_served_page_follows_the_experiment(served):
    address, paths = served
    status, before = fetched(address)
    stamp = fetched(f"{address}/stamp")[1]
    assert status == 200 and b"data-live" in before and fetched(f"{address}/stamp")[1] == stamp
    state_file.save(paths, SchedulerState(skills=[SkillEntry(skill_name="Something_New")]))
    assert fetched(f"{address}/stamp")[1] != stamp
    assert b"Something_New" in fetched(address)[1] and b"Something_New" not in before


def test_only_the_page_and_its_films_are_served_and_only_to_this_machine(served):
    address, paths = served
    films = paths.report / "films"
    films.mkdir(parents=True)
    (films / "Collect_Wood.mp4").write_bytes(b"film")
    assert fetched(f"{address}/films/Collect_Wood.mp4") == (200, b"film")
    for other in ("films/../../config.json", "films/%2e%2e/config.json", "config.json", "films/none.mp4"):
        assert fetched(f"{address}/{other}")[0] == 404
    assert fetched(address, host="evil.example:80")[0] == 403


def test_a_folder_that_breaks_meanwhile_is_said_and_the_server_goes_on(served):
    address, paths = served
    text = paths.state.read_text()
    for path in (paths.state, paths.previous_state):
        path.write_text("{")
    status, body = fetched(address)
    assert status == 503 and b"not valid JSON" in body
    paths.state.write_text(text)
    assert fetched(address)[0] == 200


def test_a_taken_port_is_refused(paths):
    with serving.server(paths, 0) as server, pytest.raises(BadInput, match="choose another, or 0 for a free one"):
        serving.server(paths, server.server_port)


def test_the_history_is_what_the_timeline_shows(paths):
    kept = History(paths.history, {})
    kept.look([SkillEntry(skill_name="Collect_Wood", status=Status.RUNNING, stage=Stage.TRAINING, attempt=1, slot=3)], at(0))
    kept.look([SkillEntry(skill_name="Collect_Wood", status=Status.COMPLETED, attempt=1)], at(2))
    assert history.read(paths.history)
    assert Span("Collect_Wood", 1, 3, at(0), at(2), Status.COMPLETED) in gather(paths, at(10)).spans
    assert evaluation()["whole"]["achievements"]["value"] == 15.61
