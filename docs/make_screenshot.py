"""Make docs/review.png: the report of a result of clean in a real browser, with a few decisions.

    noisyctl clean clothing --out clothing-clean
    python docs/make_screenshot.py clothing-clean

The committed picture shows 713 photos of clothes, which are in the public domain (CC0).
"""

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


def picture(folder: Path, title: str) -> bytes:
    """The report after four decisions, as PNG with a palette."""
    with tempfile.TemporaryDirectory() as place, browser.opened() as chromium:
        page_file = Path(place) / "report.html"
        report.write(result.read(folder), page_file, title=title)
        page = chromium.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, color_scheme="light")
        page.goto(page_file.as_uri())
        page.locator("nav [data-go=review]").click()
        for key in "akkk":
            page.keyboard.press(key)
        page.wait_for_function("document.querySelector('.big img').complete")
        page.wait_for_timeout(300)
        shot = Image.open(io.BytesIO(page.screenshot()))
    out = io.BytesIO()
    shot.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    folder = Path(sys.argv[1])
    content = picture(folder, sys.argv[2] if len(sys.argv) > 2 else "")
    if len(content) > MOST_BYTES:
        sys.exit(f"{len(content):,} bytes, more than {MOST_BYTES:,}; lower COLORS or SIZE")
    PICTURE.write_bytes(content)
    print(f"{PICTURE}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
