"""Pictures of a report for the README: ``python -m tests.benchmarks.screenshots FOLDER``; needs Chromium."""

import shutil
import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

SHOTS: Final = (("light", 1280, 1250), ("dark", 1280, 1250), ("phone", 390, 844))
"""Name, width and height in pixels."""


def main(folder: Path) -> None:
    """Write ``<name>.png`` of the upper part of the page into its folder."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, width, height in SHOTS:
            scheme = "dark" if name == "dark" else "light"
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto((folder / "index.html").resolve().as_uri())
            if name == "dark":
                page.locator("#explorer").scroll_into_view_if_needed()
            page.wait_for_timeout(500)
            page.screenshot(path=folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
