"""Pairs, several labels, numbers, and tags alone: encoded, measured, and refused with a sentence."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score

from dataprune.data.loading import load_data
from dataprune.data.tasks import ClassificationTask, MultiLabelTask, RegressionTask, TokenClassificationTask, guess_task
from dataprune.errors import DataError
from dataprune.models import build_model, load_tokenizer

PAIRS = {"text_a": ["fly to boston", "taxi"], "text_b": ["to dallas", "monday"]}
PAIR_COLUMNS = {"text": "text_a", "text_pair": "text_b"}


def write_jsonl(path, rows):
    Dataset.from_list(rows).to_json(path)
    return path


def test_a_pair_is_encoded_as_the_tokenizer_does_it(tokenizer):
    rows = Dataset.from_dict({**PAIRS, "label": ["yes", "no"]})
    task = ClassificationTask(columns={**PAIR_COLUMNS, "label": "label"}).fit(rows)
    encoded = task.encode(rows, tokenizer)
    for row, source in zip(encoded, rows, strict=True):
        assert row["input_ids"] == tokenizer(source["text_a"], source["text_b"])["input_ids"]
        assert row["length"] == len(row["input_ids"])
    single = ClassificationTask(columns={"text": "text_a", "label": "label"}).fit(rows).encode(rows, tokenizer)
    assert single[0]["input_ids"] == tokenizer("fly to boston")["input_ids"]


def test_a_pair_that_is_too_long_is_cut_and_counted(tokenizer):
    rows = Dataset.from_dict({"text": ["fly " * 9, "a"], "text_pair": ["to " * 9, "b"], "label": [0, 1]})
    task = ClassificationTask(columns={"text": "text", "text_pair": "text_pair", "label": "label"}, max_length_tokens=9)
    encoded = task.fit(rows).encode(rows, tokenizer)
    assert encoded[0]["length"] == 9
    assert task.n_cut_rows_ == 1


@pytest.mark.parametrize(
    ("row", "roles", "task"),
    [
        ({"sentence1": "a", "sentence2": "b", "label": 1}, {"text", "text_pair", "label"}, "classification"),
        ({"premise": "a", "hypothesis": "b", "label": "no"}, {"text", "text_pair", "label"}, "classification"),
        ({"text_a": "a", "text_b": "b", "label": 3.5}, {"text", "text_pair", "number"}, "regression"),
        ({"text": "a", "score": 2}, {"text", "number"}, "regression"),
        ({"text": "a", "label": "x", "score": 0.3}, {"text", "label", "number"}, "classification"),
        ({"text": "a", "labels": ["x", "y"]}, {"text", "labels"}, "multi-label"),
        ({"tokens": ["a"], "ner_tags": ["O"]}, {"tokens", "slots"}, "token-classification"),
    ],
)
def test_columns_and_task_are_guessed(tmp_path, row, roles, task):
    rows = [{**row, "label": i % 2} if isinstance(row.get("label"), int) else row for i in range(20)]
    rows = [{**row, "label": f"{i % 2}"} if isinstance(row.get("label"), str) else row for i, row in enumerate(rows)]
    columns = load_data(write_jsonl(tmp_path / "train.jsonl", rows)).columns
    assert set(columns) == roles
    assert guess_task(columns) == task


def test_several_labels_are_ones_in_the_order_of_the_names(tokenizer):
    names = ["war", "film"]
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "labels": [["war", "film"], [], ["film"]]})
    task = MultiLabelTask().fit(rows)
    assert task.labels_ == {"": ["film", "war"]}
    assert task.encode(rows, tokenizer)["labels"][:] == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    ids = Features({"text": Value("string"), "labels": List(ClassLabel(names=names))})
    same = Dataset.from_dict({"text": ["a", "b", "c"], "labels": [[0, 1], [], [1]]}, features=ids)
    assert MultiLabelTask().fit(same).encode(same, tokenizer)["labels"][:] == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    other = Dataset.from_dict({"text": ["d"], "labels": [["film", "opera"]]})
    assert task.encode(other, tokenizer)["labels"][:] == [[1.0, 0.0]]
    assert task.unseen_report() == ["Labels that the train set lacks are left out: 1 of column 'labels' (opera)."]


def batches(task, encoded, tokenizer, logits, size=3):
    collate = task.collator(tokenizer)
    for start in range(0, len(encoded), size):
        rows = range(start, min(start + size, len(encoded)))
        yield {"labels": collate([encoded[i] for i in rows])["labels"], "logits": logits[start : start + size]}


@settings(deadline=None)  # scikit-learn on a busy machine
@given(data=st.data(), n=st.integers(1, 9))
def test_the_metrics_of_several_labels_are_scikit_learns(tokenizer, data, n):
    gold = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=n, max_size=n)))
    logits = torch.tensor(
        data.draw(st.lists(st.lists(st.floats(-3, 3), min_size=3, max_size=3), min_size=n, max_size=n))
    )
    rows = Dataset.from_dict(
        {"text": ["a"] * n, "labels": [[c for c, there in zip("abc", row, strict=True) if there] for row in gold]}
    )
    task = MultiLabelTask()
    task.labels_, task.unseen_labels_, task.n_cut_rows_ = {"": ["a", "b", "c"]}, {"": []}, 0
    found = task.metrics(batches(task, task.encode(rows, tokenizer), tokenizer, logits))
    predicted = logits.numpy() > 0
    assert found["micro_f1"] == f1_score(gold, predicted, average="micro", zero_division=0)
    assert found["macro_f1"] == f1_score(gold, predicted, average="macro", zero_division=0)
    assert found["exact_match"] == np.mean([(a == b).all() for a, b in zip(gold, predicted, strict=True)])


def test_numbers_stay_as_they_are_and_are_correlated(tokenizer):
    rows = Dataset.from_dict(
        {**PAIRS, "score": [3.5, 1]} | {"text_a": ["a"] * 8, "text_b": ["b"] * 8, "score": [*range(8)]}
    )
    task = RegressionTask(columns={**PAIR_COLUMNS, "number": "score"}).fit(rows)
    encoded = task.encode(rows, tokenizer)
    assert encoded["labels"][:] == [float(i) for i in range(8)]
    logits = torch.tensor([0.1, 3, 2, 5, 4, 9, 7, 8])[:, None]
    found = task.metrics(batches(task, encoded, tokenizer, logits))
    x, y = logits[:, 0].numpy(), np.arange(8)
    assert found["pearson"] == pytest.approx(pearsonr(x, y).statistic)
    assert found["spearman"] == pytest.approx(spearmanr(x, y).statistic)
    assert task.metrics(batches(task, encoded, tokenizer, torch.ones(8, 1))) == {"pearson": 0.0, "spearman": 0.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "three", None])
def test_a_target_that_is_no_number_is_named(value):
    task = RegressionTask()
    with pytest.raises(DataError, match=r"'number' must hold finite numbers, got .* in row 7"):
        task.read_labels("", [1.0, value], None, rows={}, row_names=[6, 7])


def test_tags_alone_are_measured_by_spans_and_tokens(tokenizer):
    rows = Dataset.from_dict(
        {"tokens": [["fly", "to", "san", "francisco"], ["hi"]], "slots": [["O", "O", "B-city", "I-city"], ["O"]]}
    )
    task = TokenClassificationTask().fit(rows)
    encoded = task.encode(rows, tokenizer)
    labels = task.collator(tokenizer)([encoded[0], encoded[1]])["labels"]
    right = torch.nn.functional.one_hot(labels.clamp(min=0), 3).float()
    assert task.metrics([{"labels": labels, "logits": right}]) == {"span_f1": 1.0, "token_accuracy": 1.0}
    cut = right.clone()
    word = (labels[0] == task.labels_[""].index("I-city")).nonzero()[0, 0]
    cut[0, word] = torch.tensor([0.0, 0.0, 1.0])  # O: the span ends too early
    assert task.metrics([{"labels": labels, "logits": cut}]) == {"span_f1": 0.0, "token_accuracy": 0.8}


def test_parts_of_speech_are_spans_of_their_own(tokenizer):
    rows = Dataset.from_dict({"tokens": [["fly", "to", "dallas"]], "slots": [["VERB", "ADP", "NOUN"]]})
    task = TokenClassificationTask().fit(rows)
    labels = task.collator(tokenizer)([task.encode(rows, tokenizer)[0]])["labels"]
    logits = torch.zeros(1, labels.shape[1], 3)  # always the first tag, ADP
    found = task.metrics([{"labels": labels, "logits": logits}])
    assert found["token_accuracy"] == pytest.approx(1 / 3)
    assert found["span_f1"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("task", "row", "n_outputs"),
    [
        (MultiLabelTask(max_length_tokens=16), {"labels": [["a"], ["b", "c"]]}, 3),
        (RegressionTask(max_length_tokens=16), {"number": [0.5, 2.0]}, 1),
        (ClassificationTask(max_length_tokens=16), {"label": ["x", "y"]}, 2),
    ],
)
def test_each_task_has_its_head(task, row, n_outputs, tiny_encoder_dir, tmp_path):
    rows = Dataset.from_dict({"text": ["fly", "taxi"], **row})
    model, tokenizer = build_model(task.fit(rows), tiny_encoder_dir), load_tokenizer(tiny_encoder_dir)
    encoded = task.encode(rows, tokenizer)
    batch = task.collator(tokenizer)([encoded[0], encoded[1]])
    outputs = model(**batch)
    assert outputs.logits.shape == (2, n_outputs)
    assert torch.isfinite(outputs.loss)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(build_model(task, tmp_path)(**batch).logits, outputs.logits)
