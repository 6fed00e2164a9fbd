"""The page in a real browser: nothing on the console, no request, hover, keys, search, sort, dark, narrow, print."""

import base64
import json
import shutil

import pytest

from dataprune.reporting import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Chromium and ChromeDriver, such as Debian's chromium and chromium-driver"
)
FLAGS = (
    *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-dev-shm-usage"),
    *("disable-background-networking", "disable-component-update", "disable-sync", "hide-scrollbars"),
)


@pytest.fixture(scope="module")
def page_path(pruned_dir, full_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report([pruned_dir, full_dir], path)
    return path


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as browser:
        yield browser


@pytest.fixture
def browser(chromium, page_path):
    """The page, freshly opened at 1200 x 900 in a light system; the console must stay empty and the page alone."""
    resize(chromium, 1200, 900)
    set_system(chromium, "light")
    chromium.get("about:blank")  # what the browser's own first page asked for is none of ours
    for log in ("browser", "performance"):
        chromium.get_log(log)
    chromium.get(page_path.as_uri())
    chromium.execute_script("localStorage.clear(); window.scrollTo(0, 0)")
    chromium.refresh()
    yield chromium
    assert chromium.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    addresses = {event["params"]["request"]["url"] for event in sent if event["method"] == "Network.requestWillBeSent"}
    assert addresses == {page_path.as_uri()}
    assert chromium.execute_script("return window.broken") is None


def resize(browser, width, height):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def set_system(browser, theme, media=""):
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def find(browser, selector):
    return browser.find_element("css selector", selector)


def style(browser, selector, name):
    return find(browser, selector).value_of_css_property(name)


def lightness(color):
    """Return 0 (black) to 1 (white) of a CSS rgb() or rgba() colour, by the formula for contrast of WCAG 2."""
    parts = [float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one, other):
    low, high = sorted((lightness(one), lightness(other)))
    return (high + 0.05) / (low + 0.05)


def column(browser, table, number):
    rows = f"document.querySelectorAll('#{table} tbody tr:not([hidden])')"
    return browser.execute_script(f"return [...{rows}].map(row => row.cells[{number}].textContent)")


def point_at(browser, mark):
    from selenium.webdriver import ActionChains

    ActionChains(browser).move_to_element(mark).perform()  # scrolls there first
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


@pytest.mark.parametrize("kind", ["kept", "time", "scores", "classes", "compare"])
def test_a_mark_says_what_it_is_when_it_is_pointed_at(browser, kind):
    from selenium.webdriver import ActionChains

    assert not find(browser, "#tip").is_displayed()
    marks = browser.find_elements("css selector", f"#{kind} svg [data-tip]")
    mark = next(mark for mark in marks if mark.rect["height"] > 3)  # some bars are empty
    point_at(browser, mark)
    assert find(browser, "#tip").is_displayed()
    assert find(browser, "#tip").text == mark.get_attribute("data-tip")
    ActionChains(browser).move_to_element(find(browser, f"#{kind} h2")).perform()
    assert not find(browser, "#tip").is_displayed()


def test_a_point_of_the_map_says_its_text_and_markup_stays_text(browser):
    mark = find(browser, "#scores use[data-tip*='<script>']")
    browser.execute_script(
        "arguments[0].parentNode.parentNode.append(arguments[0].parentNode)", mark
    )  # other points may lie over it
    point_at(browser, mark)
    assert "<script>window.broken = 1</script>" in find(browser, "#tip").text
    assert browser.execute_script("return document.querySelectorAll('#tip *').length") == 0


def test_the_keys_step_through_the_marks_and_are_spoken(browser):
    from selenium.webdriver import Keys

    chart = find(browser, "#kept svg")
    chart.send_keys(Keys.ARROW_RIGHT)
    chart.send_keys(Keys.ARROW_RIGHT)
    assert find(browser, "#tip").text.startswith("Epoch 2: 60 of 120 examples (50%)")
    assert find(browser, "#spoken-tip").get_attribute("textContent") == find(browser, "#tip").text
    chart.send_keys(Keys.END)
    assert find(browser, "#tip").text.startswith("Epoch 4")
    chart.send_keys(Keys.HOME)
    assert find(browser, "#tip").text.startswith("Epoch 1")
    chart.send_keys(Keys.ESCAPE)
    assert not find(browser, "#tip").is_displayed()


def test_everything_of_use_is_reached_by_the_tab_key_in_the_order_of_the_page(browser):
    from selenium.webdriver import ActionChains, Keys

    position = "[...document.querySelectorAll('*')].indexOf(document.activeElement)"
    reached = []
    for _ in range(200):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.append(browser.execute_script(f"return {position}"))
        if len(reached) > 1 and reached[-1] < reached[-2]:  # round again
            reached.pop()
            break
    wanted = "[...document.querySelectorAll('*')].map((e, i) => e.matches('a, button, input, svg, .scroll') ? i : 0)"
    assert {*browser.execute_script(f"return {wanted}")} - {0} <= {*reached}
    assert reached == sorted(reached)


def test_the_search_hides_rows_and_says_how_many_are_left(browser):
    box, rows = find(browser, "#hardest input[type=search]"), column(browser, "hardest", 0)
    box.send_keys("MONDAY taxi")
    found = column(browser, "hardest", 0)
    assert found == [text for text in rows if "monday" in text and "taxi" in text]
    assert 0 < len(found) < len(rows)
    assert find(browser, "#hardest output").text == f"{len(found)} of {len(rows)} rows"
    assert column(browser, "never-pruned", 0)  # each table has its own
    box.clear()
    box.send_keys("no such word")
    assert column(browser, "hardest", 0) == []
    box.send_keys("\b" * 20)
    assert column(browser, "hardest", 0) == rows


def test_a_heading_sorts_numbers_as_numbers_and_texts_as_texts_up_and_down(browser):
    heads = browser.find_elements("css selector", "#hardest thead th")
    names = [head.text for head in heads]
    rows = names.index("source row")
    before = [int(cell) for cell in column(browser, "hardest", rows)]
    for turn, state in enumerate(("ascending", "descending")):
        heads[rows].find_element("tag name", "button").click()
        assert [int(cell) for cell in column(browser, "hardest", rows)] == sorted(before, reverse=bool(turn))
        assert heads[rows].get_attribute("aria-sort") == state
    heads[0].find_element("tag name", "button").click()
    texts = column(browser, "hardest", 0)
    assert heads[rows].get_attribute("aria-sort") is None
    assert texts == browser.execute_script("return arguments[0].toSorted((a, b) => a.localeCompare(b))", texts)


def test_a_dash_sorts_last_both_ways(browser):
    button = find(browser, "#methods thead th:nth-child(4) button")  # the deviation of one run
    button.click()
    button.click()
    assert column(browser, "methods", 3) == ["\N{EN DASH}"] * 2
    browser.execute_script("document.querySelector('#methods tbody tr td:nth-child(4)').dataset.value = 2")
    for _ in range(2):
        button.click()
        last = "return document.querySelector('#methods tbody tr:last-child td:nth-child(4)').dataset.value ?? null"
        assert browser.execute_script(last) is None


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_follows_the_system_and_the_switch_turns_it_round_and_is_remembered(browser, theme):
    set_system(browser, theme)
    is_dark = theme == "dark"
    assert (lightness(style(browser, "body", "background-color")) < 0.1) == is_dark
    assert find(browser, "#theme").get_attribute("aria-pressed") == str(is_dark).lower()
    find(browser, "#theme").click()
    assert (lightness(style(browser, "body", "background-color")) < 0.1) != is_dark
    browser.refresh()
    assert (lightness(style(browser, "body", "background-color")) < 0.1) != is_dark
    assert find(browser, "#theme").get_attribute("aria-pressed") == str(not is_dark).lower()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_and_marks_stand_out_from_the_paper(browser, theme):
    set_system(browser, theme)
    paper = style(browser, "body", "background-color")
    for selector in ("body", "figcaption", "nav a", ".kind", "svg text"):
        name = "fill" if selector.startswith("svg") else "color"
        assert contrast(style(browser, selector, name), paper) >= 4.5
    fill = "getComputedStyle(mark.querySelector('path') ?? mark).fill"
    marks = browser.execute_script(f"return [...document.querySelectorAll('[data-tip]')].map(mark => {fill})")
    assert all(contrast(color, paper) >= 3 for color in {*marks} if color.startswith("rgb("))


@pytest.mark.parametrize("width", [320, 390, 800, 1600])
def test_at_no_width_the_page_itself_scrolls_sideways(browser, width):
    resize(browser, width, 800)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    heights = "[...document.querySelectorAll('svg text')].map(text => text.getBoundingClientRect().height)"
    smallest = f"return Math.min(...{heights})"
    assert browser.execute_script(smallest) >= 9  # of a letter's box, turned labels included
    buttons = "return [...document.querySelectorAll('#theme, input')].map(e => e.getBoundingClientRect().height)"
    assert min(browser.execute_script(buttons)) >= 44  # a finger


def test_on_paper_it_is_light_without_controls_and_tables_are_cut(browser):
    find(browser, "#theme").click()
    set_system(browser, "dark", media="print")
    assert lightness(style(browser, "body", "background-color")) > 0.99
    assert not find(browser, "nav").is_displayed()
    assert not find(browser, "#theme").is_displayed()
    assert find(browser, "#hardest tbody tr:nth-child(20)").is_displayed()
    assert not find(browser, "#hardest tbody tr:nth-child(21)").is_displayed()
    assert "Printed are the first 20." in find(browser, "#hardest-note").text
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")


def test_without_javascript_everything_is_there_but_the_controls(browser, page_path):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page_path.as_uri())
        assert find(browser, "#hardest tbody tr:nth-child(100)").is_displayed()
        assert find(browser, "#kept svg").is_displayed()
        assert browser.find_elements("css selector", "button, input") == []
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
