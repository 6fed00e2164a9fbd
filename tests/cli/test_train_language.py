"""``dataprune train --task causal-lm``: prompts with responses, conversations and texts, from files to files."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_parts import run_cli, train_words, write_rows
from decoder_parts import SUMS, TEMPLATE, byte_level_tokenizer, save_decoder
from transformers import AutoModelForCausalLM

from dataprune.data.reading import read_file
from dataprune.data.tasks import load_task
from dataprune.models import build_model, load_tokenizer
from dataprune.training.evaluation import evaluate

ROWS = {
    "pair": [{"prompt": prompt, "response": response} for prompt, response in SUMS],
    "turns": [
        {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]}
        for prompt, response in SUMS
    ],
    "text": [{"text": f"{prompt} {response}"} for prompt, response in SUMS],
}


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    return {
        template: save_decoder(tmp_path_factory.mktemp("decoder"), byte_level_tokenizer(template))
        for template in (None, TEMPLATE)
    }


def write_splits(folder, kind):
    for split, rows in (("train", ROWS[kind][:24]), ("valid", ROWS[kind][24:30]), ("test", ROWS[kind][30:])):
        write_rows(folder / f"{split}.jsonl", rows)
    return folder


def train(folder, kind, model, *more):
    data = write_splits(folder / "data", kind)
    words = ["--max-length-tokens", 64, "--n-epochs", 2, "--json", *more]
    done = run_cli(*train_words(data, model, folder / "run", *words))
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("kind", "template"), [("pair", None), ("turns", TEMPLATE), ("text", None)])
def test_a_run_is_written_and_predicts_the_same_when_loaded_again(tmp_path, decoders, kind, template):
    more = ["--task", "causal-lm"] if kind == "text" else []  # the others are guessed
    result = train(tmp_path, kind, decoders[template], *more)
    measured = result["metrics"]["test"]
    assert list(measured) == ["inverse_perplexity", "token_accuracy", "perplexity"]
    assert measured["perplexity"] == pytest.approx(1 / measured["inverse_perplexity"])
    assert "scorer=EL2N(reduction='mean')" in result["pruner"]
    scores = pq.read_table(tmp_path / "run" / "kept.parquet")["score"].to_numpy()
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 12
    folder = tmp_path / "run" / "model"
    task = load_task(json.loads((folder / "task.json").read_text()))
    tokenizer = load_tokenizer(folder, add_prefix_space=task.add_prefix_space)
    encoded = task.encode(read_file(tmp_path / "data" / "test.jsonl"), tokenizer)
    for model in (build_model(task, folder), AutoModelForCausalLM.from_pretrained(folder)):
        again = evaluate(encoded, model, metrics=task.metrics, collate_fn=task.collator(tokenizer), batch_size=8)
        assert again == pytest.approx(measured, rel=1e-5)


def test_it_learns_the_answers_and_not_the_prompts(tmp_path, decoders):
    result = train(tmp_path, "pair", decoders[None], "--n-epochs", 8, "--keep-fraction", 0.5)
    assert result["metrics"]["test"]["token_accuracy"] > 0.5  # "It is", the end
    assert result["examples_trained"] < 8 * 24


@pytest.mark.parametrize("words", [["--scorer", "loss"], ["--selector", "clustered-k"], ["--recipe", "scdp"]])
def test_other_methods_work_on_it(tmp_path, decoders, words):
    result = train(tmp_path, "pair", decoders[None], *words)
    assert result["examples_trained"] < 2 * 24 + (words[0] != "--recipe")


@pytest.mark.parametrize("kind", ["pair", "turns"])
def test_a_run_is_shown_on_a_page_with_prompts_and_responses(tmp_path, decoders, kind):
    train(tmp_path, kind, decoders[None])
    done = run_cli("report", tmp_path / "run", "-o", tmp_path / "page.html")
    assert done.exit_code == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert re.search(r"What is \d plus \d\?\s+It is \d", page)
    assert "inverse perplexity" in page.replace("_", " ")


def test_an_encoder_is_refused_with_a_sentence(tmp_path, tiny_encoder_dir):
    data = write_splits(tmp_path / "data", "pair")
    done = run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "run"))
    assert done.exit_code == 1
    assert "must be a causal language model (such as GPT-2, Llama, SmolLM2), got an encoder of type" in done.stderr


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("seq2seq", "An encoder-decoder is not supported. Name the columns prompt and response, and train a decoder"),
        ("question-answering", "Spans of answers are not supported. Put passage and question into a column prompt"),
        ("odd", "--task must be one of 'joint-nlu', 'classification',"),
    ],
)
def test_a_task_that_is_not_there_says_what_to_do(tmp_path, tiny_encoder_dir, task, sentence):
    done = run_cli(*train_words(tmp_path, tiny_encoder_dir, tmp_path / "run", "--task", task))
    assert done.exit_code == 2
    assert sentence in " ".join(done.stderr.split())
