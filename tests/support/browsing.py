"""Driving headless Chromium over a rendered report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from theria_lint.report import ReportView, render
from theria_lint.result import LintReport

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1300,900",
)  # fmt: skip


def chromium(browser: str, driver: str, profile: Path) -> Any:
    """A session with a new, empty profile that keeps its console and its requests."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


class Page:
    """The page of one report at a time."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver = driver
        self._folder = folder
        self.file = folder / "report.html"

    def open(self, report: LintReport, *, scheme: str = "light", scripts: bool = True, width: int = 1300) -> None:
        """Render a report to a file and open it from there, in a reader's colour scheme and width."""
        self.file.write_text(render(report, "html", ReportView()), encoding="utf-8")
        self.driver.get("about:blank")
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.command("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(self.file.as_uri())
        if scripts:
            self.wait("return document.readyState === 'complete'")

    def command(self, name: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str) -> None:
        """Until a script returns true: following a link takes the browser a moment."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 10, 0.02).until(lambda _: self.run(script), script)

    def console(self) -> list[str]:
        """What the page has made the browser complain of."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened, the embedded ones left out."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def visible(self, selector: str) -> list[str]:
        """The ids of the elements that can be seen."""
        script = "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility()).map(e => e.id)"
        return list(self.run(script, selector))

    def focused(self) -> str:
        """The id of the entry that has the focus, or of the element itself."""
        return str(self.run("const e = document.activeElement; return (e.closest('.item') || e).id"))
