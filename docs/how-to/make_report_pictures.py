"""Make the pictures on the page about reports: runs on built-in data, their report, and Chromium at three sizes.

Run: python docs/how-to/make_report_pictures.py     (writes docs/how-to/report-*.png; needs chromium and chromedriver)
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from selenium import webdriver
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from dataprune import make_classification
from dataprune.data.writing import write_rows
from dataprune.reporting import write_report
from dataprune.runs.config import RunConfig
from dataprune.runs.run import run

HERE = Path(__file__).resolve().parent
SIZES = {"wide": (1280, 1200, "light", ""), "tablet": (800, 1100, "dark", "#scores"), "phone": (390, 844, "light", "")}
METHODS = {"full": {"keep_fraction": 1.0}, "hard-half": {}, "random-half": {"selector": "random-k"}}


def make_runs() -> list[Path]:
    """Train the three methods on made-up sentences, one in twenty with a wrong label; return their folders."""
    train, valid, test = (make_classification(n, random_state=seed) for seed, n in enumerate((1500, 300, 600)))
    Path("data").mkdir()
    for name, part in {"train": train, "valid": valid, "test": test}.items():
        write_rows(f"data/{name}.jsonl", part.dataset)
    tokenizer = make_tokenizer(train.dataset["text"][:])
    tokenizer.save_pretrained("encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes)).save_pretrained("encoder")
    for name, settings in METHODS.items():
        training = {"n_epochs": 12, "n_warmup_epochs": 3, "learning_rate": 2e-3, "max_length_tokens": 64}
        run(RunConfig("data", "encoder", name, scorer="confidence", **{**training, **settings}))
    return [Path(name) for name in METHODS]


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer that knows every word: the same one each time, other than one trained to break words up."""
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    words = [*special.values(), *sorted({word for text in texts for word in text.split()})]
    backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def take_picture(page: Path, picture: Path, *, part: str, width: int, height: int, colours: str) -> None:
    """Open a page at one of its parts, on a screen of that size, and save what Chromium shows."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("mobileEmulation", {"deviceMetrics": {"width": width, "height": height}})
    with webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver")) as browser:
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": colours}]}
        )
        browser.get(page.absolute().as_uri() + part)
        browser.save_screenshot(picture)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_report(make_runs(), "report.html")
        for name, (width, height, colours, part) in SIZES.items():
            picture = HERE / f"report-{name}.png"
            take_picture(Path("report.html"), picture, part=part, width=width, height=height, colours=colours)
        os.chdir(HERE)
