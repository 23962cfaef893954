"""The report in a real Chromium: a reviewer's session by keyboard, and what must never happen."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser
import folders
import pytest

from noisyctl.review import apply, decisions, report, result

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(
    browser.chromium() is None, reason="no Chromium here; install it with `apt-get install chromium`"
)
MOST_NODES = 1_500  # of a page with 10,000 photos
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.opened() as opened:
        yield opened


@pytest.fixture
def open_page(chromium: Any, request: pytest.FixtureRequest) -> Open:
    """Open a file in a fresh context; the test fails where the page raises an error or asks for something of the network."""

    def opening(path: Path, *, width: int = 1280, height: int = 800, scheme: str = "light") -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
        )
        request.addfinalizer(context.close)
        page = context.new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
        page.on("request", lambda asked: asked.url.startswith("http") and page.complaints.append(asked.url))
        page.goto(path.absolute().as_uri())
        return page

    return opening


def write(folder: Path, number: int = 24) -> tuple[result.Result, Path]:
    made = folders.make(folder, number)
    report.write(made, made.folder / "report.html")
    return made, made.folder / "report.html"


def chosen(page: Any) -> str:
    return page.locator(".tile[aria-selected=true]").get_attribute("id").removeprefix("photo-")


def saved(page: Any) -> bytes:
    with page.expect_download() as download:
        page.locator("#download").focus()
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "decisions.csv"
    return Path(download.value.path()).read_bytes()


def review(page: Any, filters: bool = True) -> None:
    """From the overview to the list of suspicious photos, or of all, with the keyboard alone."""
    button = page.locator("[data-start]" if filters else "nav [data-go=review]")
    button.focus()
    page.keyboard.press("Enter")


def test_a_whole_session_with_the_keyboard(open_page: Open, tmp_path: Path) -> None:
    made, path = write(tmp_path)
    page = open_page(path)
    assert "About 6 of 24 labels look wrong" in page.locator("h2").first.inner_text()
    assert "95 % interval of 20.0 % to 31.0 %" in page.locator(".lead").inner_text()
    review(page)
    assert page.locator("#matches").inner_text() == "6 of 24"
    assert page.evaluate("document.activeElement.id") == "gallery"
    wrong = [row for row in made.rows if row.suspicious]
    page.keyboard.press("a")  # accept
    page.keyboard.press("k")  # keep
    page.keyboard.press("d")  # drop
    page.keyboard.press("c")  # another class, found by its name
    other = next(n for n in made.class_names if n not in (wrong[3].given, wrong[3].suggested))
    page.keyboard.type(other[:3])
    page.keyboard.press("Enter")
    assert chosen(page) == "4"
    page.keyboard.press("k")
    page.keyboard.press("u")  # undone, so it is not in the file
    assert chosen(page) == "4"
    page.keyboard.press("ArrowLeft")
    assert chosen(page) == "3"
    page.keyboard.press("n")
    page.keyboard.press("p")
    assert chosen(page) == "3"
    assert "Undone" not in page.locator("#progress").inner_text()
    expected = [
        (wrong[0], "relabel", wrong[0].suggested),
        (wrong[1], "keep", wrong[1].given),
        (wrong[2], "drop", ""),
        (wrong[3], "relabel", other),
    ]
    rows = [decisions.COLUMNS]
    rows += [(row.id, row.path, row.given, what, label, made.digest) for row, what, label in expected]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    content = saved(page)
    assert content == text.getvalue().encode()
    (tmp_path / "decisions.csv").write_bytes(content)
    about = apply.apply([tmp_path / "decisions.csv"], made, tmp_path / "cleaned")
    assert (about["relabeled"], about["kept"], about["dropped"], about["photos"]) == (2, 1, 1, 23)
    assert page.complaints == []


def test_a_reload_keeps_decisions_and_what_can_be_undone(open_page: Open, tmp_path: Path) -> None:
    _, path = write(tmp_path)
    page = open_page(path)
    review(page)
    page.keyboard.press("a")
    page.keyboard.press("d")
    before = saved(page)
    page.reload()
    assert "2 of 6" in page.locator("#progress").inner_text()
    assert saved(page) == before
    review(page)
    page.keyboard.press("Control+z")
    assert chosen(page) == "1"
    assert "1 of 6" in page.locator("#progress").inner_text()
    page.keyboard.press("u")
    page.keyboard.press("u")  # nothing is left to undo
    assert page.locator("#download").is_disabled()
    assert page.locator("#undo").is_disabled()
    assert page.complaints == []


def test_decisions_on_another_list_are_not_taken_over(open_page: Open, tmp_path: Path) -> None:
    made, path = write(tmp_path)
    page = open_page(path)
    review(page)
    page.keyboard.press("a")
    fewer = [replace(row, neighbors=()) for row in made.rows]
    again = result.read(folders.write(made.folder, made.root, fewer))
    report.write(again, path)
    page.reload()
    assert "0 of 6" in page.locator("#progress").inner_text()


NASTY = ("</script><script>window.hacked = 1</script>", "\"'><img src=x onerror=window.hacked=1>", "=1+1")


def test_names_from_the_data_inject_nothing(open_page: Open, tmp_path: Path) -> None:
    root = tmp_path / "<b onclick=x>photos & 'more'"
    classes = sorted(NASTY)
    rows = folders.rows(root, 12, classes)
    odd = "'\"><script>window.hacked=1<_script>\n,;= x#?%41.png"
    place = Path(rows[0].path).parent / odd
    (root / rows[0].path).rename(root / place)
    rows[0] = replace(rows[0], path=place.as_posix(), group="<u>group</u>")
    made = result.read(folders.write(tmp_path / "out", root, rows, classes))
    report.write(made, made.folder / "report.html")
    page = open_page(made.folder / "report.html")
    page.locator("nav [data-go=duplicates]").click()
    review(page, filters=False)
    assert page.locator(".change").inner_text().startswith(rows[0].given)
    page.wait_for_function(
        "document.querySelector('.big img').src.startsWith('file:')"
    )  # the photo itself was found
    for key in "akd":
        page.keyboard.press(key)
    page.keyboard.press("c")
    assert page.locator("#class-list li").all_inner_texts() == classes
    page.keyboard.press("Enter")
    content = saved(page)
    (tmp_path / "decisions.csv").write_bytes(content)
    said = decisions.read(tmp_path / "decisions.csv", made)
    assert [one.label for one in said.values()] == [rows[0].suggested, rows[1].given, "", classes[0]]
    assert content.decode() == decisions.as_csv(said.values(), made.digest)  # quoted as labels.csv is
    assert page.evaluate("window.hacked") is None
    assert page.locator("script").count() == 2
    assert page.locator("img[onerror], b, u").count() == 0
    assert page.complaints == []


def test_a_script_that_came_into_the_page_does_not_run(open_page: Open, tmp_path: Path) -> None:
    _, path = write(tmp_path)
    text = path.read_text(encoding="utf-8")
    bad = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
    path.write_text(text.replace("<main>", f"<main>{bad}"), encoding="utf-8")
    page = open_page(path)
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in said for said in page.complaints)


def test_ten_thousand_photos_take_few_nodes_and_scroll_without_stutter(
    open_page: Open, tmp_path: Path
) -> None:
    root = tmp_path / "photos"
    rows = folders.rows(root, 10_000, pictures=False)
    (root / rows[0].path).parent.mkdir(parents=True)
    for row in rows:
        row_path = root / row.path
        row_path.parent.mkdir(exist_ok=True)
    folders.photo(root / "one.png", (90, 90, 90), 1)
    rows = [replace(row, path="one.png") if row.rank <= 5 else row for row in rows]
    made = result.read(folders.write(tmp_path / "out", root, rows))
    written = report.write(made, made.folder / "report.html")
    assert (written.shown, written.unreadable) == (10_000, 9_995)
    assert len(list((made.folder / "report-photos").rglob("*.webp"))) == 5
    page = open_page(made.folder / "report.html")
    review(page, filters=False)
    assert (
        page.locator(".tile img").first.evaluate("image => image.decode().then(() => image.naturalWidth)")
        == 36
    )
    step = """async () => {
        const gallery = document.getElementById("gallery");
        let nodes = 0, longest = 0;
        for (let k = 1; k <= 60; k++) {
            const before = performance.now();
            gallery.scrollTop = gallery.scrollHeight * k / 60;
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            longest = Math.max(longest, performance.now() - before);
            nodes = Math.max(nodes, document.querySelectorAll("*").length);
        }
        return [nodes, longest];
    }"""
    nodes, longest = page.evaluate(step)
    assert nodes < MOST_NODES
    assert longest < 500  # milliseconds for a jump over 167 photos, on a machine that does other work
    page.locator("#gallery").focus()
    page.keyboard.press("End")
    assert chosen(page) == "9999"
    page.locator("#text").fill("00777.png")
    assert page.locator("#matches").inner_text() == "1 of 10,000"
    assert page.complaints == []


def test_filters_show_what_they_say(open_page: Open, tmp_path: Path) -> None:
    made, path = write(tmp_path)
    page = open_page(path)
    pair = page.locator(".heat").first
    count = int(pair.inner_text())
    pair.focus()
    page.keyboard.press("Enter")
    assert page.locator("#matches").inner_text() == f"{count} of 24"
    first = made.rows[int(chosen(page))]
    assert (first.given, first.suggested) == ("dress", "shirt")
    page.locator("#clear").click()
    page.locator("#opinions").select_option("disagree")
    assert page.locator("#matches").inner_text() == f"{sum(row.disputed for row in made.rows)} of 24"
    page.locator("#clear").click()
    page.keyboard.press("a")
    page.locator("#decided").select_option("no")
    assert page.locator("#matches").inner_text() == "23 of 24"
    page.locator("#text").fill("no such photo")
    assert page.locator("#nothing").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("a")  # decides nothing, for nothing is chosen
    assert "1 of 6" in page.locator("#progress").inner_text()
    assert page.complaints == []


def test_copies_with_different_labels_are_decided_side_by_side(open_page: Open, tmp_path: Path) -> None:
    made, path = write(tmp_path)
    first, second = made.rows[:2]
    assert second.duplicate_of == first.id
    assert first.given != second.given
    page = open_page(path)
    page.locator("nav [data-go=duplicates]").click()
    assert page.locator(".group strong").all_inner_texts() == [first.given, second.given]
    page.locator(".group .all button", has_text=second.given).click()
    lines = saved(page).decode().splitlines()
    assert lines[1].split(",")[3:5] == ["relabel", second.given]
    assert lines[2].split(",")[3:5] == ["keep", second.given]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_small_screen_is_enough(open_page: Open, tmp_path: Path, scheme: str) -> None:
    _, path = write(tmp_path)
    page = open_page(path, width=360, height=640, scheme=scheme)
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) == 360
    page.locator("[data-start]").click()
    assert page.evaluate(wide) == 360
    page.locator(".tile").nth(1).click()
    page.locator("#accept").click()
    assert page.locator("#detail").is_visible()  # the next photo
    page.locator("#back").click()
    assert page.locator("#detail").is_hidden()
    assert chosen(page) == "2"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(23, 23, 25)") == (scheme == "dark")
    assert page.complaints == []


def test_focus_is_visible_and_everything_has_a_name(open_page: Open, tmp_path: Path) -> None:
    _, path = write(tmp_path)
    page = open_page(path)
    for view in ("overview", "review", "duplicates"):
        page.locator(f"nav [data-go={view}]").click()
        nameless = """() => [...document.querySelectorAll("button, select, input, [role=listbox], [role=option], img")]
            .filter((one) => one.checkVisibility()
                && !(one.innerText || one.ariaLabel || one.closest("label") || one.getAttribute("alt") !== null))
            .map((one) => one.outerHTML)"""
        assert page.evaluate(nameless) == []
    page.locator("nav [data-go=overview]").click()
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        style = "(({outlineStyle, outlineWidth}) => outlineStyle + outlineWidth)(getComputedStyle(document.activeElement))"
        assert page.evaluate(style) == "solid2px"
        seen.add(page.evaluate("document.activeElement.outerHTML"))
    assert len(seen) == 12
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.locator("#shortcuts").uncheck()
    page.keyboard.press("Escape")
    review(page)
    page.keyboard.press("a")  # letters are no shortcuts any more
    assert "0 of 6" in page.locator("#progress").inner_text()


def test_an_audit_s_report_does_not_tell_what_the_list_says(open_page: Open, tmp_path: Path) -> None:
    made = folders.make(tmp_path)
    sample = [made.rows[k] for k in (7, 2, 11)]
    report.write_audit(made, tmp_path / "audit.html", tmp_path / "audit.html", sample)
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "relabel" not in text.split('id="data"')[1].split("</script>")[0]
    page = open_page(tmp_path / "audit.html")
    assert page.locator(".tile").count() == 3
    assert page.locator("#accept").count() == 0
    page.keyboard.press("k")
    page.keyboard.press("d")
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "audit.csv"
    lines = Path(download.value.path()).read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [sample[0].id, sample[1].id]
    assert page.complaints == []
