# SPDX-License-Identifier: Apache-2.0
"""Draw the README's picture of the 3D view: a drawn hand waves, is tracked, and a headless browser takes a screenshot.

pip install '.[view]' playwright
python examples/make_view.py /usr/bin/chromium
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

from cmr_runtime import HandMeshTracker
from cmr_runtime.doctor import drawn_hand
from cmr_runtime.view3d import HandView

OUT = Path(__file__).parents[1] / "docs" / "view.png"
FRAMES, WIDTH, HEIGHT = 40, 1200, 620
#: Software rendering, for machines without a graphics card.
SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def main(browser: str) -> None:
    """Write ``docs/view.png``."""
    with HandMeshTracker() as tracker, HandView() as view:
        topology = tracker.bundle.topology
        for number in range(FRAMES):
            a = number / (FRAMES - 1)
            place = np.array([0.16 * (a - 1), 0.05 * np.cos(5 * a) - 0.02, 0.5 - 0.08 * a])
            turn, _ = cv2.Rodrigues(np.array([0.25, 0.55 - 0.25 * a, 0.2 * a - 0.15]))
            image, camera, _ = drawn_hand(topology, place, turn)
            view.show(image, tracker.track(image, camera, number / 30))
        screenshot(browser, view.url)


def screenshot(browser: str, url: str) -> None:
    """Open the page, wait for it to settle, put the panels away."""
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=SOFTWARE)
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(url)
        time.sleep(10)
        for button in page.query_selector_all("button.mantine-Notification-closeButton"):
            button.click()
        page.mouse.click(WIDTH - 39, 35)  # folds the panel
        page.mouse.move(WIDTH / 2, HEIGHT - 20)
        time.sleep(3)
        page.screenshot(path=OUT)
        chromium.close()


if __name__ == "__main__":
    main(sys.argv[1])
