"""Make a picture of the report of a result of clean in a real browser: of its overview, or of a review with a few decisions.

    noisyctl clean clothing --out clothing-clean
    python docs/make_screenshot.py clothing-clean                                          # docs/review.png
    python docs/make_screenshot.py clothes-clean --view overview --out docs/tutorial-overview.png
    python docs/make_screenshot.py clothes-clean --keys aaaa --out docs/tutorial-review.png

The committed pictures show photos of clothes, which are in the public domain (CC0). docs/tutorial.md says how the folder of
its pictures is made.
"""

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "review.png"
MOST_BYTES = 300_000
SIZE = (1280, 800)
COLORS = 200  # of the palette; photos look the same, and the file is a third
sys.path.insert(0, str(ROOT / "tests" / "review"))

import browser  # noqa: E402 - the tests' browser

from noisyctl.review import report, result  # noqa: E402


def picture(folder: Path, title: str, view: str, keys: str) -> bytes:
    """The report as PNG with a palette; the review after the decisions of these keys."""
    with tempfile.TemporaryDirectory() as place, browser.opened() as chromium:
        page_file = Path(place) / "report.html"
        report.write(result.read(folder), page_file, title=title)
        page = chromium.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, color_scheme="light")
        page.goto(page_file.as_uri())
        page.locator(f"nav [data-go={view}]").click()
        if view == "review":
            for key in keys:
                page.keyboard.press(key)
            page.wait_for_function("document.querySelector('.big img').complete")
        page.wait_for_timeout(300)
        shot = Image.open(io.BytesIO(page.screenshot()))
    out = io.BytesIO()
    shot.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("result", type=Path, help="folder that clean wrote")
    parser.add_argument("--title", default="", help="of the page [name of the folder of the photos]")
    parser.add_argument("--view", choices=("overview", "review"), default="review")
    parser.add_argument("--keys", default="akkk", help="pressed in the review [akkk]")
    parser.add_argument("--out", type=Path, default=PICTURE)
    given = parser.parse_args()
    content = picture(given.result, given.title, given.view, given.keys)
    if len(content) > MOST_BYTES:
        sys.exit(f"{len(content):,} bytes, more than {MOST_BYTES:,}; lower COLORS or SIZE")
    given.out.write_bytes(content)
    print(f"{given.out}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
