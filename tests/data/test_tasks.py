from __future__ import annotations

import json
import pickle

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from dataprune.data.tasks import TASKS, ClassificationTask, JointNLUTask, TextTask, guess_task, load_task
from dataprune.errors import DataError, InvalidTypeError, InvalidValueError, NotFittedError

TOPICS = Dataset.from_dict({"text": ["war film", "dull", "film"], "labels": [["war", "film"], [], ["film"]]})
RATINGS = Dataset.from_dict({"text": ["fine", "dull", "odd"], "number": [4.5, 1.0, 2.0]})


def signals_of(encoded, task, tokenizer, batch_size=7):
    """What a model that is always right would return, batch by batch."""
    collate = task.collator(tokenizer)
    for start in range(0, len(encoded), batch_size):
        batch = collate([encoded[i] for i in range(start, min(start + batch_size, len(encoded)))])
        signals = {}
        for head in task.heads:
            prefix = f"{head}_" if head else ""
            labels = batch[f"{prefix}labels"]
            one_hot = torch.nn.functional.one_hot(labels.clamp(min=0), len(task.labels_[head])).float()
            signals |= {f"{prefix}labels": labels, f"{prefix}logits": one_hot}
        yield signals


def joint(tokens, intent, slots, **columns):
    return Dataset.from_dict({"tokens": tokens, "intent": intent, "slots": slots, **columns})


def test_only_the_first_subword_of_a_word_is_labelled(joint_dataset, tokenizer):
    task = JointNLUTask().fit(joint_dataset)
    encoded = task.encode(joint_dataset, tokenizer)
    for row, source in zip(encoded, joint_dataset, strict=True):
        words = tokenizer(source["tokens"], is_split_into_words=True).word_ids()
        expected = [
            task.labels_["slot"].index(source["slots"][word])
            if word is not None and words.index(word) == position
            else -100
            for position, word in enumerate(words)
        ]
        assert row["slot_labels"] == expected
        assert row["intent_labels"] == task.labels_["intent"].index(source["intent"])
        assert row["length"] == len(row["input_ids"]) == len(row["slot_labels"]) == len(row["attention_mask"])
    assert any(tokenizer.tokenize(word) != [word] for word in ["dallas", "francisco"])  # the test meets sub-words


def test_label_maps_are_sorted_and_do_not_depend_on_the_order_of_the_rows(joint_dataset):
    task = JointNLUTask().fit(joint_dataset)
    assert task.labels_ == {"intent": ["fare", "flight", "greet"], "slot": ["B-city", "B-day", "I-city", "O"]}
    assert JointNLUTask().fit(joint_dataset.shuffle(seed=1)).labels_ == task.labels_


@pytest.mark.parametrize(
    ("values", "feature", "expected"),
    [
        ([10, 9, 10, -1], Value("int64"), ["-1", "9", "10"]),
        (["10", "9", "b", "9"], Value("string"), ["10", "9", "b"]),
        ([2, 0, 2, 0], ClassLabel(names=["zebra", "unused", "ant"]), ["zebra", "ant"]),
        ([True, False, True, True], Value("bool"), ["False", "True"]),
    ],
)
def test_labels_may_be_numbers_texts_or_class_labels(values, feature, expected, tokenizer):
    features = Features({"text": Value("string"), "label": feature})
    dataset = Dataset.from_dict({"text": list("abcd"), "label": values}, features=features)
    task = ClassificationTask().fit(dataset)
    assert task.labels_ == {"": expected}
    names = [feature.names[v] if isinstance(feature, ClassLabel) else str(v) for v in values]
    assert [expected[i] for i in task.encode(dataset, tokenizer)["labels"]] == names


def test_slots_may_be_class_labels(joint_dataset, tokenizer):
    names = ["O", "B-city", "I-city", "B-day"]
    features = Features({**joint_dataset.features, "slots": List(ClassLabel(names=names))})
    ids = joint_dataset.map(lambda row: {"slots": [names.index(s) for s in row["slots"]]}, features=features)
    task = JointNLUTask().fit(ids)
    assert task.labels_["slot"] == names
    words = joint_dataset[0]["slots"]
    assert [names[i] for i in task.encode(ids, tokenizer)[0]["slot_labels"] if i >= 0] == words


def test_columns_may_have_other_names(joint_dataset, tokenizer):
    renamed = joint_dataset.rename_columns({"tokens": "words", "slots": "ner_tags"})
    task = JointNLUTask(columns={"tokens": "words", "slots": "ner_tags", "intent": "intent"}).fit(renamed)
    expected = JointNLUTask().fit(joint_dataset).encode(joint_dataset, tokenizer)
    assert task.encode(renamed, tokenizer).to_list() == expected.to_list()


def test_source_rows_stay_beside_the_encoded_rows(joint_dataset, tokenizer):
    cut = joint_dataset.add_column("source_row", list(range(30))).select([7, 3])
    assert JointNLUTask().fit(joint_dataset).encode(cut, tokenizer)["source_row"][:] == [7, 3]


def test_encoding_many_batches_equals_encoding_rows_one_by_one(joint_dataset, tokenizer, monkeypatch):
    monkeypatch.setattr("dataprune.data.base.ROWS_PER_BATCH", 4)
    task = JointNLUTask().fit(joint_dataset)
    whole = task.encode(joint_dataset, tokenizer).to_list()
    assert whole == [task.encode(joint_dataset.select([i]), tokenizer)[0] for i in range(30)]


def test_encoding_leaves_the_data_set_as_it_was_and_prints_nothing(joint_dataset, tokenizer, capfd):
    before = joint_dataset.to_list()
    JointNLUTask().fit(joint_dataset).encode(joint_dataset, tokenizer)
    assert joint_dataset.to_list() == before
    assert capfd.readouterr() == ("", "")


def test_the_collator_pads_to_the_longest_and_leaves_out_what_models_do_not_take(joint_dataset, tokenizer):
    task = JointNLUTask().fit(joint_dataset)
    encoded = task.encode(joint_dataset.add_column("source_row", list(range(30))), tokenizer)
    rows = [encoded[i] for i in (2, 4)]
    batch = pickle.loads(pickle.dumps(task.collator(tokenizer)))(rows)  # noqa: S301 - our own object
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "intent_labels", "slot_labels"}
    assert all(value.dtype == torch.int64 for value in batch.values())
    longest = max(row["length"] for row in rows)
    for key, pad in [("input_ids", tokenizer.pad_token_id), ("attention_mask", 0), ("slot_labels", -100)]:
        assert batch[key].shape == (2, longest)
        for row, padded in zip(rows, batch[key].tolist(), strict=True):
            assert padded == row[key] + [pad] * (longest - row["length"])


def test_a_model_that_is_always_right_scores_one(joint_dataset, text_dataset, tokenizer):
    for task, dataset in [(JointNLUTask(), joint_dataset), (ClassificationTask(), text_dataset)]:
        encoded = task.fit(dataset).encode(dataset, tokenizer)
        scores = task.metrics(signals_of(encoded, task, tokenizer))
        assert set(scores.values()) == {1.0}
        assert next(iter(scores)) == task.main_metric


@given(batch_size=st.integers(1, 30), seed=st.integers(0, 5))
def test_joint_metrics_equal_a_slow_count_for_any_batch_size(batch_size, seed):
    """Random predictions against one loop over names, with padding that differs between batches."""
    generator = torch.Generator().manual_seed(seed)
    task = JointNLUTask.from_dict(
        {
            "columns": None,
            "max_length_tokens": 8,
            "labels": {"intent": ["a", "b"], "slot": ["B-x", "B-y", "I-x", "O"]},
            "unseen_labels": {"intent": ["c"], "slot": ["B-z", "I-z"]},
        }
    )
    n, longest = 30, 6
    intents = torch.tensor([0, 1, -101])[torch.randint(3, (n,), generator=generator)]
    slots = torch.tensor([0, 1, 2, 3, -101, -102, -100])[torch.randint(7, (n, longest), generator=generator)]
    intent_logits = torch.randn(n, 2, generator=generator)
    slot_logits = torch.randn(n, longest, 4, generator=generator)
    batches = []
    for start in range(0, n, batch_size):
        part = slice(start, start + batch_size)
        padding = start % 3
        batches.append(
            {
                "intent_logits": intent_logits[part],
                "intent_labels": intents[part],
                "slot_logits": torch.nn.functional.pad(slot_logits[part], (0, 0, 0, padding)),
                "slot_labels": torch.nn.functional.pad(slots[part], (0, padding), value=-100),
            }
        )
    names = {0: "B-x", 1: "B-y", 2: "I-x", 3: "O", -101: "B-z", -102: "I-z"}
    frames, right_intents, found, gold = [], [], [], []
    for i in range(n):
        positions = [t for t in range(longest) if slots[i, t] != -100]
        gold.append([names[int(slots[i, t])] for t in positions])
        found.append([names[int(slot_logits[i, t].argmax())] for t in positions])
        right_intents.append(int(intent_logits[i].argmax()) == int(intents[i]))
        frames.append(right_intents[-1] and gold[-1] == found[-1])
    spans = [{(i, *span) for i in range(n) for span in spans_of(side[i])} for side in (gold, found)]
    shared = len(spans[0] & spans[1])
    expected_f1 = 2 * shared / (len(spans[0]) + len(spans[1])) if spans[0] or spans[1] else 0.0
    scores = task.metrics(batches)
    assert scores["frame_accuracy"] == pytest.approx(sum(frames) / n)
    assert scores["intent_accuracy"] == pytest.approx(sum(right_intents) / n)
    assert scores["span_f1"] == pytest.approx(expected_f1)


def spans_of(tags):
    """(start, end, type) of each span; an I-x that does not follow x starts one."""
    spans, start = [], None
    for position, tag in enumerate([*tags, "O"]):
        kind = tag[2:]
        if start is not None and not (tag.startswith("I-") and kind == tags[start][2:]):
            spans.append((start, position, tags[start][2:]))
            start = None
        if start is None and tag != "O":
            start = position
    return spans


def test_labels_that_the_train_set_lacks_are_reported_and_count_as_errors(tokenizer):
    train = joint([["a"], ["b"], ["c"]], ["go", "stop", "go"], [["O"], ["B-x"], ["I-x"]])
    test = joint([["a", "b"], ["a", "b"], ["a", "b"]], ["go", "run", "go"], [["O", "B-new"], ["O", "O"], ["O", "O"]])
    task = JointNLUTask().fit(train)
    assert task.unseen_report() == []
    encoded = task.encode(test, tokenizer)
    assert task.unseen_labels_ == {"intent": ["run"], "slot": ["B-new"]}
    assert encoded["intent_labels"][:] == [0, -101, 0]
    assert [label for label in encoded[0]["slot_labels"] if label != -100] == [task.labels_["slot"].index("O"), -101]
    assert task.encode(test, tokenizer).to_list() == encoded.to_list()  # the same names keep their ids
    assert task.unseen_report() == [
        "Labels that the train set lacks count as errors: 1 of column 'intent' (run).",
        "Labels that the train set lacks count as errors: 1 of column 'slots' (B-new).",
    ]
    scores = task.metrics(signals_of(encoded, task, tokenizer))
    assert scores["frame_accuracy"] == pytest.approx(1 / 3)
    assert scores["intent_accuracy"] == pytest.approx(2 / 3)
    assert scores["span_f1"] == 0.0  # the one gold span is B-new, which no model can find


def test_a_class_that_the_train_set_lacks_counts_in_accuracy_and_macro_f1(tokenizer):
    train = Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    test = Dataset.from_dict({"text": ["a", "b", "c"], "label": ["x", "y", "z"]})
    task = ClassificationTask().fit(train)
    scores = task.metrics(signals_of(task.encode(test, tokenizer), task, tokenizer))
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)  # x is also predicted for z


def test_long_rows_are_cut_and_counted(joint_dataset, text_dataset, tokenizer):
    for task, dataset in [
        (JointNLUTask(max_length_tokens=4), joint_dataset),
        (ClassificationTask(max_length_tokens=4), text_dataset),
    ]:
        encoded = task.fit(dataset).encode(dataset, tokenizer)
        assert max(encoded["length"]) == 4
        assert task.n_cut_rows_ == 20  # "hello there" fits, the two other templates do not
        assert "Rows that lost words: 20" in task.cut_report()[0]
        assert task.fit(dataset).cut_report() == []


def test_rows_are_cut_to_what_the_tokenizer_allows(joint_dataset, tiny_encoder_dir):
    short = AutoTokenizer.from_pretrained(tiny_encoder_dir, model_max_length=5)
    assert max(JointNLUTask().fit(joint_dataset).encode(joint_dataset, short)["length"]) == 5


def test_words_that_the_tokenizer_drops_are_counted(tokenizer):
    dataset = joint([["a", "\u0000", "b"], ["a"]], ["x", "y"], [["O", "B-c", "O"], ["O"]])
    task = JointNLUTask().fit(dataset)
    encoded = task.encode(dataset, tokenizer)
    assert task.n_cut_rows_ == 1
    assert [label for label in encoded[0]["slot_labels"] if label >= 0] == [1, 1]  # O and O, in place


@pytest.mark.parametrize("name", [name for name, kind in TASKS.items() if issubclass(kind, TextTask)])
def test_a_task_survives_json(name, joint_dataset, text_dataset, tokenizer):
    datasets_of = {"joint-nlu": joint_dataset, "token-classification": joint_dataset}
    datasets_of |= {"multi-label": TOPICS, "regression": RATINGS}
    dataset = datasets_of.get(name, text_dataset)
    task = TASKS[name](max_length_tokens=32).fit(dataset)
    for head in [*task.heads][:1]:
        task.unseen_labels_[head].append("new")
    copy = load_task(json.loads(json.dumps(task.to_dict())))
    assert type(copy) is type(task)
    assert copy.to_dict() == task.to_dict()
    assert copy.encode(dataset, tokenizer).to_list() == task.encode(dataset, tokenizer).to_list()


def test_a_task_prints_as_its_constructor_call():
    assert repr(JointNLUTask(max_length_tokens=5)) == "JointNLUTask(columns=None, max_length_tokens=5)"


def test_the_task_is_guessed_from_the_columns():
    assert guess_task({"tokens": "t", "intent": "i", "slots": "s"}) == "joint-nlu"
    assert guess_task(["text", "label"]) == guess_task(["text", "label", "number"]) == "classification"
    assert guess_task(["tokens", "slots"]) == "token-classification"
    assert guess_task(["text", "labels"]) == "multi-label"
    assert guess_task(["text_pair", "text", "number"]) == "regression"
    with pytest.raises(DataError, match=r"one of these tasks: tokens, intent, slots .* got 'text', 'intent'"):
        guess_task(["text", "intent"])


def test_an_unknown_task_name_is_refused_with_the_choices():
    with pytest.raises(InvalidValueError, match=r"must be one of 'joint-nlu', 'classification', .* got 'translation'"):
        load_task({"name": "translation"})


@pytest.mark.parametrize(
    ("tokens", "slots", "message"),
    [
        ([["a"], []], [["O"], []], r"'tokens' must hold a list of at least one text, got \[\] in row 1"),
        ([["a"], None], [["O"], []], "got None in row 1"),
        ([["a"], ["b", "c"]], [["O"], ["O"]], "one tag per token, got 1 tags for 2 tokens in row 1"),
        ([["a"], ["b"]], [["O"], None], "'slots' must hold a list of tags, got None in row 1"),
        ([["a"], ["b"]], [["O"], [None]], "'slots' must hold texts, whole numbers or class ids, got None in row 1"),
        ([["a"], ["b"]], [["O"], ["city"]], "must hold BIO tags .* got 'city'"),
        (["a", "b"], [["O"], ["O"]], "'tokens' must hold a list of at least one text, got 'a' in row 0"),
        ([["a"], ["b"]], ["O", "O"], "'slots' must hold a list of tags"),
    ],
)
def test_bad_rows_are_named(tokens, slots, message, tokenizer):
    dataset = joint(tokens, ["x", "y"], slots)
    with pytest.raises(DataError, match=message):
        JointNLUTask().fit(dataset).encode(dataset, tokenizer)


def test_bad_rows_are_named_by_their_row_in_the_file(tokenizer):
    train = joint([["a"], ["b"]], ["x", "y"], [["O"], ["O"]])
    bad = joint([["a"], []], ["x", "y"], [["O"], []], source_row=[40, 41])
    with pytest.raises(DataError, match="row 41"):
        JointNLUTask().fit(train).encode(bad, tokenizer)


def test_tags_of_another_split_must_be_bio_too(joint_dataset, tokenizer):
    bad = joint([["a"]], ["flight"], [["city"]])
    with pytest.raises(DataError, match="got 'city'"):
        JointNLUTask().fit(joint_dataset).encode(bad, tokenizer)


@pytest.mark.parametrize("labels", [[0.5, 1.0], ["x", None], ["x", ""], [["x"], ["y"]]])
def test_labels_of_another_kind_are_refused(labels):
    with pytest.raises(DataError, match="'label' must hold"):
        ClassificationTask().fit(Dataset.from_dict({"text": ["a", "b"], "label": labels}))


def test_a_missing_class_id_is_refused():
    features = Features({"text": Value("string"), "label": ClassLabel(names=["x", "y"])})
    dataset = Dataset.from_dict({"text": ["a", "b"], "label": [0, -1]}, features=features)
    with pytest.raises(DataError, match="got -1 in row 1"):
        ClassificationTask().fit(dataset)


def test_texts_of_another_kind_are_refused(tokenizer):
    dataset = Dataset.from_dict({"text": [1, 2], "label": ["x", "y"]})
    with pytest.raises(DataError, match="'text' must hold a text, got 1 in row 0"):
        ClassificationTask().fit(dataset).encode(dataset, tokenizer)


def test_one_class_only_is_refused(text_dataset):
    with pytest.raises(DataError, match="at least 2 classes in column 'label', got only"):
        ClassificationTask().fit(text_dataset.filter(lambda row: row["label"] == "greet"))


def test_a_missing_column_is_refused_with_the_columns_there(text_dataset, tokenizer):
    with pytest.raises(DataError, match=r"needs a column 'tokens' .* got only 'text', 'label'"):
        JointNLUTask().fit(text_dataset)
    task = ClassificationTask().fit(text_dataset)
    with pytest.raises(DataError, match="needs a column 'label'"):
        task.encode(text_dataset.remove_columns("label"), tokenizer)


def test_an_empty_split_is_refused(text_dataset):
    with pytest.raises(DataError, match="at least one row"):
        ClassificationTask().fit(text_dataset.select([]))


def test_a_task_without_label_maps_says_so(text_dataset, tokenizer):
    for call in [
        lambda task: task.encode(text_dataset, tokenizer),
        lambda task: task.unseen_report(),
        lambda task: task.cut_report(),
        lambda task: task.to_dict(),
    ]:
        with pytest.raises(NotFittedError, match=r"ClassificationTask\.\w+ needs label maps"):
            call(ClassificationTask())


def test_a_slow_tokenizer_is_refused(text_dataset):
    with pytest.raises(InvalidTypeError, match="needs a fast tokenizer"):
        ClassificationTask().fit(text_dataset).encode(text_dataset, object())


def test_a_tokenizer_without_padding_is_refused(text_dataset, tiny_encoder_dir):
    bare = AutoTokenizer.from_pretrained(tiny_encoder_dir)
    bare.pad_token = None
    with pytest.raises(InvalidValueError, match="must have a padding token"):
        ClassificationTask().fit(text_dataset).collator(bare)


@pytest.mark.parametrize("value", [2, "long"])
def test_a_bad_max_length_is_refused(value, text_dataset):
    with pytest.raises((InvalidValueError, InvalidTypeError), match="max_length_tokens must be"):
        ClassificationTask(max_length_tokens=value).fit(text_dataset)


def test_metrics_need_batches_and_their_signals(joint_dataset, text_dataset):
    for task in (JointNLUTask().fit(joint_dataset), ClassificationTask().fit(text_dataset)):
        with pytest.raises(InvalidValueError, match="at least one batch, got none"):
            task.metrics([])
        with pytest.raises(InvalidValueError, match=r"metrics need the signals .* got only 'loss'"):
            task.metrics([{"loss": torch.zeros(1)}])
