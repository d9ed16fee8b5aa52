"""The page in a real browser: it opens from disk, says no errors, asks for nothing, and can be used by pointer and keyboard."""

from __future__ import annotations

import shutil
import tarfile
import warnings
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from flowrl.paths import ExperimentPaths
from flowrl.records import state_file
from flowrl.records.scheduler_state import SchedulerState
from flowrl.report.page import writing
from tests.experiment.fakes import until
from tests.report.experiments import a_finished_experiment, an_experiment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ("--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
         "--disable-sync").split()  # fmt: skip
PATIENCE_MS = 60_000
AXE = Path(__file__).resolve().parents[2] / ".axe-core"

if CHROMIUM is None:
    why = "Chromium is not installed, so the report's page is not tested in a browser: apt-get install chromium"
    warnings.warn(why, stacklevel=1)
    pytest.skip(why, allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return writing.write(an_experiment(tmp_path_factory.mktemp("real") / "exp"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return writing.write(a_finished_experiment(tmp_path_factory.mktemp("finished") / "exp"))


class Visit:
    """One page in a tab of its own, with all that it complained of and asked for."""

    def __init__(self, browser, path, width=1440, dark=False, anchor=""):
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
        )
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"file://{path}{anchor}")
        self.drawn(f"curve-{anchor.removeprefix('#skill-')}" if anchor else "graph")

    def drawn(self, chart: str) -> None:
        self.holds(f"document.querySelector('[data-chart=\"{chart}\"]')?.childElementCount > 0")

    def holds(self, condition: str) -> None:
        """Waits for it. The browser's own way evaluates strings in the page, which the page's policy forbids."""
        until(lambda: self.page.evaluate(condition), condition)

    def is_fine(self) -> bool:
        """No complaint, and nothing asked for but the page itself."""
        assert self.complaints == [] and len(self.requests) == 1, (self.complaints, self.requests)
        return True


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1440])
def test_it_opens_from_disk_and_nothing_is_wider_than_the_window(browser, real, width, dark):
    visit = Visit(browser, real, width, dark)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")
    assert visit.is_fine()
    visit.page.close()


def test_charts_are_drawn_when_they_come_into_view_and_take_the_colours_of_the_theme(browser, real):
    visit = Visit(browser, real)
    page = visit.page
    page.locator("#skill-Collect_Wood > summary").click()
    visit.drawn("curve-Collect_Wood")
    colour = "Bokeh.documents[0].get_model_by_name('label').glyph.text_color.value"
    assert page.evaluate(colour) == "#1c2024"
    page.emulate_media(color_scheme="dark")
    visit.holds(f"{colour} === '#e6e9ec'")
    assert visit.is_fine()
    page.close()


def test_a_tap_on_a_skill_shows_its_section_and_so_does_an_address(browser, real):
    visit = Visit(browser, real)
    page = visit.page
    assert not page.locator("#skill-Eat_Cow").evaluate("section => section.open")
    page.evaluate("Bokeh.documents[0].get_model_by_name('skills').selected.indices = [1]")
    visit.holds("document.getElementById('skill-Eat_Cow').open")
    assert page.evaluate("location.hash") == "#skill-Eat_Cow"
    assert page.locator("#skill-Eat_Cow .error").inner_text() == "the training ended without a result; see its log"
    page.close()
    again = Visit(browser, real, anchor="#skill-Collect_Wood")
    assert again.page.locator("#skill-Collect_Wood").evaluate("section => section.open") and again.is_fine()
    again.page.close()


def test_a_real_click_on_a_node_is_such_a_tap(browser, real):
    visit = Visit(browser, real)
    page = visit.page
    spot = page.evaluate(
        """() => {
          const plot = [...Bokeh.index.roots].find((view) => view.model.document.get_model_by_name("skills"));
          const source = plot.model.document.get_model_by_name("skills");
          const row = source.data.name.indexOf("Place_Table");
          const frame = plot.frame, box = plot.canvas_view.el.getBoundingClientRect();
          return [box.x + frame.x_scale.compute(source.data.x[row]), box.y + frame.y_scale.compute(source.data.y[row])];
        }"""
    )
    page.mouse.click(*spot)
    visit.holds("document.getElementById('skill-Place_Table').open")
    page.close()


def test_names_in_the_timeline_end_where_their_bars_do(browser, finished):
    visit = Visit(browser, finished, width=390)
    page = visit.page
    source = "[...Bokeh.documents].map((made) => made.get_model_by_name('bar names')).find(Boolean)"
    visit.holds(f"{source}?.data.shown.some(Boolean)")
    names, shown = (page.evaluate(f"[...{source}.data.{column}]") for column in ("name", "shown"))
    assert all(not text or name.startswith(text.removesuffix("…")) for name, text in zip(names, shown))
    by_attempt = dict(zip(zip(names, page.evaluate(f"[...{source}.data.attempt]")), shown))
    assert by_attempt["Make_Wood_Pickaxe", 1] == "" and by_attempt["Collect_Stone", 1].startswith("Collect_")
    page.set_viewport_size({"width": 1440, "height": 900})
    visit.holds(f"{source}.data.shown[0] === 'Collect_Wood' && {source}.data.shown.every(Boolean)")
    assert visit.is_fine()
    page.close()


def test_it_can_be_used_by_keyboard_alone(browser, real):
    visit = Visit(browser, real)
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the skills"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('[id]')?.id"))
        if page.evaluate("document.activeElement.matches('#skill-Collect_Wood > summary')"):
            page.keyboard.press("Enter")
            break
    visit.holds("document.getElementById('skill-Collect_Wood').open")
    assert {"timeline", "evaluation", "skills"} <= reached
    page.close()


def test_an_empty_one_and_one_with_200_skills_open_too(browser, tmp_path):
    empty = ExperimentPaths(tmp_path / "empty")
    empty.root.mkdir()
    state_file.save(empty, SchedulerState())
    page = browser.new_page()
    page.goto(f"file://{writing.write(empty)}")
    assert "There are no skills yet" in page.locator("#graph").inner_text()
    page.close()
    many = Visit(browser, writing.write(an_experiment(tmp_path / "many", more=200)), width=390)
    assert many.page.locator("details.skill").count() == 206
    assert many.page.evaluate("document.documentElement.scrollWidth") <= 390 and many.is_fine()
    many.page.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, which `make test` fetches."""
    fetched = sorted(AXE.glob("axe-core-*.tgz"))
    if not fetched:
        why = "axe-core is not there, so it does not look at the report's page: run scripts/prepare_tests.sh, which fetches it"
        warnings.warn(why, stacklevel=1)
        pytest.skip(why)
    with tarfile.open(fetched[-1]) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


def faults(visit: Visit, axe: str) -> list[str]:
    """What axe-core calls serious or critical in the page with all its sections open: rule, remedy, and where."""
    page = visit.page
    page.evaluate("document.querySelectorAll('details').forEach(section => section.open = true)")
    for place in page.locator("[data-chart]").all():
        place.scroll_into_view_if_needed()
        visit.drawn(place.get_attribute("data-chart"))
    page.evaluate(axe)
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    assert len(found["passes"]) > 10, "axe-core has looked at hardly anything"
    return [
        f"{rule['id']} ({rule['impact']}): {rule['help']}\n  {node['html'][:200]}\n  {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("experiment", ["real", "finished"])
def test_axe_finds_nothing_that_keeps_people_from_using_it(browser, request, axe, experiment, dark):
    """In a narrow window, where the most has to scroll."""
    visit = Visit(browser, request.getfixturevalue(experiment), width=390, dark=dark)
    found = faults(visit, axe)
    assert not found, "\n\n".join([f"{len(found)} faults", *found])
    visit.page.close()
