"""Planted label errors are found, and corrected data are the clean ones."""

import dataclasses

import numpy as np
import pytest
from datasets import Dataset
from sklearn.metrics import roc_auc_score
from suspects_parts import SETTINGS, save_encoder

from dataprune import (
    ClassificationTask,
    DynamicPruner,
    JointNLUTask,
    RegressionTask,
    TokenClassificationTask,
    apply_review,
    find_suspects,
    make_classification,
    make_joint_nlu,
)
from dataprune.errors import DataError, InvalidValueError, MissingPackageError
from dataprune.runs.suspects import METHODS

N = 400


@pytest.fixture(scope="module")
def noisy():
    """Rows with 40 wrong intents and 20 rows with a wrong slot type, and the clean ones."""
    clean = make_joint_nlu(N, redundant_fraction=0.9, noise_fraction=0.0, random_state=1).dataset
    rng = np.random.default_rng(0)
    intents, slots = list(clean["intent"]), [list(tags) for tags in clean["slots"]]
    names = sorted(set(intents))
    for row in rng.permutation(N)[: N // 10]:
        intents[row] = names[(names.index(intents[row]) + int(rng.integers(1, len(names)))) % len(names)]
    types = sorted({tag[2:] for tags in slots for tag in tags if tag != "O"})
    for row in rng.permutation([row for row in range(N) if any(tag != "O" for tag in slots[row])])[: N // 20]:
        old = next(tag[2:] for tag in slots[row] if tag != "O")
        new = types[(types.index(old) + 3) % len(types)]
        slots[row] = [tag.replace(f"-{old}", f"-{new}") for tag in slots[row]]
    return Dataset.from_dict({"tokens": clean["tokens"][:], "intent": intents, "slots": slots}), clean


@pytest.fixture(scope="module")
def encoder(noisy, tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoder"), noisy[0]["tokens"][:])


@pytest.fixture(scope="module", params=METHODS)
def found(request, noisy, encoder):
    more = {"n_folds": 3} if request.param == "confident-learning" else {}
    task = JointNLUTask(max_length_tokens=64)
    # Models that have learned the task, so that the figures do not hang on a processor's rounding.
    return find_suspects(noisy[0], task, model=encoder, method=request.param, **more, **{**SETTINGS, "n_epochs": 16})


def wrong(noisy, column):
    """Say of each label whether it differs from the clean one."""
    given, right = (
        [label for row in rows[column] for label in (row if isinstance(row, list) else [row])] for rows in noisy
    )
    return np.array(given) != np.array(right)


@pytest.mark.parametrize(("head", "column", "at_least"), [("intent", "intent", 0.5), ("slot", "slots", 0.2)])
def test_planted_errors_are_found_far_above_chance(found, noisy, head, column, at_least):
    planted, errors = wrong(noisy, column), found.errors[head]
    assert len(found.labels[head].labels) == len(planted)
    assert roc_auc_score(planted, errors.scores) > 0.85
    assert planted[errors.worst(planted.sum())].mean() > max(at_least, 4 * planted.mean())
    assert errors.is_suspect[planted].mean() > 0.6
    assert planted[errors.is_suspect].mean() > 3 * planted.mean()


def test_right_decisions_give_back_the_clean_labels_of_all_that_was_found(found, noisy):
    rows, clean = noisy
    lines = []
    for line in found.lines:
        right = clean[line.column][line.source_row]
        if line.words:
            first, _, last = line.words.partition(":")[0].partition("-")
            right = " ".join(right[int(first) : int(last or first) + 1])
        if right == line.given_label:
            change = {"decision": "keep"}
        elif right == line.suggested_label:
            change = {"decision": "accept"}
        else:
            change = {"own_label": right}
        lines.append(dataclasses.replace(line, **change))
    corrected, counts = apply_review(rows, lines)
    left = sum(wrong((corrected, clean), column).sum() for column in ("intent", "slots"))
    planted = sum(wrong(noisy, column).sum() for column in ("intent", "slots"))
    assert left < 0.4 * planted
    assert counts["corrected"] > 0
    assert counts["corrected"] + counts["kept"] == len(lines)
    # The errors that are left are those that no line was about.
    touched = {(line.source_row, line.column) for line in lines if not line.words}
    still = np.flatnonzero(np.array(corrected["intent"][:]) != np.array(clean["intent"][:]))
    assert touched.isdisjoint((row, "intent") for row in still.tolist())


def test_suggestions_are_mostly_the_right_intent(found, noisy):
    planted = wrong(noisy, "intent")
    lines = [line for line in found.lines if line.column == "intent" and planted[line.source_row]]
    right = [line.suggested_label == noisy[1]["intent"][line.source_row] for line in lines]
    assert np.mean(right) > 0.5  # an eighth by chance


def test_lines_stand_in_the_order_of_their_scores_and_tell_why(found):
    scores = [line.score for line in found.lines]
    assert scores == sorted(scores, reverse=True)
    assert all("probability of" in line.why for line in found.lines)
    assert all(line.given_label != line.suggested_label for line in found.lines)


def test_suggested_tags_make_whole_spans(found, noisy):
    for line in found.lines:
        if line.words:
            tags = [*noisy[0]["slots"][line.source_row]]
            first, _, last = line.words.partition(":")[0].partition("-")
            tags[int(first) : int(last or first) + 1] = line.suggested_label.split()
            for before, tag in zip(["O", *tags], tags, strict=False):
                assert not tag.startswith("I-") or before[2:] == tag[2:], (line, tags)


def test_the_noise_of_the_built_in_data_is_found(encoder):
    made = make_classification(N, redundant_fraction=0.8, noise_fraction=0.1, random_state=1)
    task = ClassificationTask(max_length_tokens=64)
    errors = find_suspects(made.dataset, task, model=encoder, **{**SETTINGS, "n_epochs": 16}).errors[""]
    planted = made.is_mislabelled
    assert roc_auc_score(planted, errors.scores) > 0.85
    assert planted[errors.worst(planted.sum())].mean() > 5 * planted.mean()


@pytest.mark.parametrize("method", METHODS)
def test_sentences_and_tags_alone_are_judged_as_well(method, noisy, encoder):
    rows = noisy[0].select(range(200))
    texts = Dataset.from_dict({"text": [" ".join(t) for t in rows["tokens"]], "label": rows["intent"][:]})
    settings = {**SETTINGS, "n_epochs": 3, "method": method, "n_folds": 2, "model": encoder}
    by_text = find_suspects(texts, ClassificationTask(max_length_tokens=64), **settings)
    assert by_text.count_by_column()["label"]["n_labels"] == 200
    assert {line.column for line in by_text.lines} == {"label"}
    by_word = find_suspects(rows, TokenClassificationTask(max_length_tokens=64), **settings)
    assert by_word.count_by_column()["slots"]["n_labels"] == sum(map(len, rows["slots"]))
    assert all(line.words for line in by_word.lines)


def test_pairs_of_texts_are_judged(noisy, encoder):
    rows = noisy[0].select(range(120))
    words = rows["tokens"][:]
    pairs = {"a": [" ".join(t[:2]) for t in words], "b": [" ".join(t[2:]) for t in words], "label": rows["intent"][:]}
    task = ClassificationTask(columns={"text": "a", "text_pair": "b", "label": "label"}, max_length_tokens=64)
    found = find_suspects(Dataset.from_dict(pairs), task, model=encoder, **{**SETTINGS, "n_epochs": 2})
    assert found.lines
    assert all(" ||| " in line.text for line in found.lines)


def test_the_same_seed_finds_the_same(noisy, encoder):
    rows = noisy[0].select(range(100))
    one, other = (
        find_suspects(rows, JointNLUTask(max_length_tokens=64), model=encoder, **{**SETTINGS, "n_epochs": 2})
        for _ in range(2)
    )
    assert one.lines == other.lines


def test_words_that_are_cut_off_are_not_judged_and_the_others_keep_their_places(noisy, encoder):
    rows = Dataset.from_dict({**noisy[0].select(range(60)).to_dict()})
    task = JointNLUTask(max_length_tokens=6)
    found = find_suspects(rows, task, model=encoder, **{**SETTINGS, "n_epochs": 2})
    units = found.labels["slot"]
    assert len(units.labels) < sum(map(len, rows["slots"]))
    given = [rows["slots"][int(row)][int(word)] for row, word in zip(units.rows, units.words, strict=True)]
    assert given == [units.names[label] for label in units.labels]
    assert any("lost words" in note for note in found.notes)


def test_few_threshold_examples_are_told_of(noisy, encoder):
    rows = noisy[0].select(range(60))
    found = find_suspects(rows, JointNLUTask(max_length_tokens=64), model=encoder, **{**SETTINGS, "n_epochs": 1})
    assert any("Only 6 threshold examples" in note for note in found.notes)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"method": "guess"}, "suspects.method must be one of 'aum', 'confident-learning', got 'guess'"),
        ({"percentile": 101.0}, r"suspects.percentile must be in \[0, 100\], got 101"),
        ({"n_folds": 1}, "suspects.n_folds must be at least 2, got 1"),
        ({"n_epochs": 0}, "suspects.n_epochs must be at least 1, got 0"),
        ({"learning_rate": 0}, "suspects.learning_rate must be a finite number above 0, got 0"),
        ({"method": "confident-learning", "n_folds": 999}, "n_folds must be at most the number of rows, 30, got 999"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, sentence, joint_dataset, tiny_encoder_dir):
    with pytest.raises(InvalidValueError, match=sentence):
        find_suspects(joint_dataset, JointNLUTask(max_length_tokens=64), model=tiny_encoder_dir, **settings)


def test_a_task_without_classes_is_refused(text_dataset, tiny_encoder_dir):
    with pytest.raises(InvalidValueError, match="classes, one per text or one per word, got the task 'regression'"):
        find_suspects(text_dataset, RegressionTask(), model=tiny_encoder_dir)


def test_fewer_rows_than_classes_are_refused(joint_dataset, tiny_encoder_dir):
    with pytest.raises(InvalidValueError, match="needs at least 4 examples, got 3"):
        find_suspects(joint_dataset.select(range(3)), JointNLUTask(max_length_tokens=64), model=tiny_encoder_dir)


def test_tags_with_spaces_are_refused(tiny_encoder_dir):
    rows = {"tokens": [["fly", "monday"], ["hello"]] * 20, "slots": [["O", "B-day of week"], ["O"]] * 20}
    with pytest.raises(DataError, match="must have no spaces in them to be reviewed, got 'B-day of week'"):
        find_suspects(
            Dataset.from_dict(rows), TokenClassificationTask(max_length_tokens=64), model=tiny_encoder_dir, n_epochs=1
        )


def test_without_cleanlab_the_command_that_installs_it_is_told_before_any_training(monkeypatch, joint_dataset):
    monkeypatch.setattr("dataprune.scoring.label_errors.find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'dataprune\[suspects\]'"):
        find_suspects(joint_dataset, JointNLUTask(), model="no/model", method="confident-learning")


@pytest.mark.parametrize("method", METHODS)
def test_what_was_trained_once_is_judged_again_with_another_cut_off(noisy, encoder, tmp_path, monkeypatch, method):
    def search(**more):
        settings = {**SETTINGS, "n_epochs": 2, "n_folds": 2, "method": method}
        return find_suspects(noisy[0], JointNLUTask(max_length_tokens=64), model=encoder, **settings, **more)

    first = search(checkpoint_dir=tmp_path / "work")
    fresh = search(percentile=80.0, n_suspects=7)
    monkeypatch.setattr(DynamicPruner, "observe", lambda *_, **__: pytest.fail("it trains"))
    again = search(percentile=80.0, n_suspects=7, checkpoint_dir=tmp_path / "work", resume=True)
    for head, errors in again.errors.items():
        for name, value in dataclasses.asdict(errors).items():
            np.testing.assert_array_equal(value, getattr(fresh.errors[head], name))
        np.testing.assert_array_equal(errors.scores, first.errors[head].scores)
    assert again.lines == fresh.lines


def test_resuming_needs_a_folder(noisy, encoder):
    with pytest.raises(InvalidValueError, match=r"find_suspects\(\) needs checkpoint_dir=... to resume"):
        find_suspects(noisy[0], JointNLUTask(), model=encoder, resume=True)
