"""One headless Chromium for all tests of a session. It looks for no driver and no network; where it is missing, tests fail."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--disable-dev-shm-usage",
)  # fmt: skip


class Browser:
    """A page in Chromium: opened from a file, looked at, photographed."""

    def __init__(self, driver, folder: Path) -> None:
        self.driver = driver
        self.folder = folder
        self.pictures = Path(os.environ.get("UNSTUCK_ARTEFACTS") or folder)
        self.pictures.mkdir(parents=True, exist_ok=True)

    def screen(self, width: int = 1280, height: int = 900, *, dark: bool = False, calm: bool = False) -> None:
        """What the reader has: the size of the window in CSS pixels, and what they ask of every page."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        self.command("Emulation.setEmulatedMedia", media="", features=features)

    def open(self, text: str, name: str = "report.html") -> None:
        """Load a page from a file and wait for its script; what was logged before is forgotten."""
        file = self.folder / name
        file.write_text(text, encoding="utf-8")
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(file.as_uri())
        assert self.js("return document.documentElement.dataset.drawn") == "yes"

    def js(self, code: str, *arguments):
        return self.driver.execute_script(code, *arguments)

    def command(self, name: str, **arguments):
        return self.driver.execute_cdp_cmd(name, arguments)

    def requests(self) -> list[str]:
        """Every address that was asked for since the page was opened."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, violations of the security policy among them."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]

    def picture(self, name: str, scale: float = 1) -> Path:
        """The whole page as a PNG in the folder for artefacts."""
        width, height = self.js("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": scale}
        data = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        file = self.pictures / f"{name}.png"
        file.write_bytes(base64.b64decode(data))
        return file

    def wait(self, code: str) -> None:
        """Until this is true in the page; ten seconds at most."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 10, poll_frequency=0.05).until(lambda _: self.js(f"return {code}"))

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def point_at(self, element, x: float = 0.0, y: float = 0.0) -> None:
        """Move the mouse to the middle of an element, shifted by these pixels."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).move_to_element_with_offset(element, x, y).perform()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    from selenium import webdriver

    os.environ["SE_OFFLINE"] = "true"  # selenium would look for a driver on the network
    os.environ["SE_AVOID_STATS"] = "true"
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert browser and driver, "these tests need chromium and chromedriver on the PATH: make install-browser"
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    profile = tempfile.mkdtemp(prefix="unstuck-chromium-")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    running.set_page_load_timeout(60)
    yield Browser(running, tmp_path_factory.mktemp("pages"))
    running.quit()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def browser(chromium):
    """A clean window: default size, light, scripts on."""
    chromium.command("Emulation.setScriptExecutionDisabled", value=False)
    chromium.screen()
    return chromium
