"""Review files: written, edited by a person, read back, and applied to the data they were made of."""

import dataclasses
import errno
import json

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from suspects_parts import read_csv, write_csv

from dataprune import ReviewLine, apply_review, read_review, write_review
from dataprune.errors import DataError, InvalidValueError, OutputError

TEXTS = ["play jazz", 'say "hi", then\nstop', "prix à 5 €", "line\u2028separator", " ; semi;colon"]
LINES = [ReviewLine(i, "label", "", "a", "b", text, "why, so", 1.5 - i) for i, text in enumerate(TEXTS)]
JOINT = {
    "tokens": [["fly", "to", "new", "york"], ["play", "jazz"]],
    "intent": ["fly", "play"],
    "slots": [["O", "O", "B-city", "I-city"], ["O", "B-genre"]],
}


def line(**changes):
    return dataclasses.replace(ReviewLine(0, "label", "", "good", "bad", "fine", "", 1.0), **changes)


def slot(**changes):
    return dataclasses.replace(
        ReviewLine(0, "slots", "2-3: new york", "B-city I-city", "B-genre I-genre", "fly to new york", "", 1.0),
        **changes,
    )


@pytest.fixture
def texts():
    return Dataset.from_dict({"id": [7, 8, 9], "text": ["fine", "dull", "dull"], "label": ["good", "bad", "bad"]})


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_what_is_written_is_read_back(ending, tmp_path):
    write_review(tmp_path / f"review.{ending}", LINES)
    assert read_review(tmp_path / f"review.{ending}") == LINES


def test_a_full_disk_leaves_the_review_that_was_there(tmp_path, monkeypatch):
    write_review(tmp_path / "review.csv", LINES)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"review.csv could not be written: No space left on device"):
        write_review(tmp_path / "review.csv", LINES[:1])
    assert read_review(tmp_path / "review.csv") == LINES
    assert [path.name for path in tmp_path.iterdir()] == ["review.csv"]


def test_a_spreadsheet_with_semicolons_and_decimal_commas_is_understood(tmp_path):
    write_review(tmp_path / "review.csv", LINES)
    rows = [{**row, "score": row["score"].replace(".", ",")} for row in read_csv(tmp_path / "review.csv")]
    write_csv(tmp_path / "edited.csv", rows, delimiter=";")
    assert read_review(tmp_path / "edited.csv") == LINES


def test_an_own_label_needs_no_decision_and_capitals_do_not_matter(tmp_path):
    edited = [
        {**dataclasses.asdict(LINES[0]), "own_label": " c "},
        {**dataclasses.asdict(LINES[1]), "decision": "Accept"},
    ]
    write_csv(tmp_path / "edited.csv", edited)
    own, accepted = read_review(tmp_path / "edited.csv")
    assert (own.new_label, accepted.new_label, LINES[0].new_label) == ("c", "b", None)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"decision": "acept"}, "Line 2 of .* must have one of accept, keep, drop, own or nothing .*, got 'acept'"),
        ({"decision": "own"}, "has the decision 'own', but no 'own_label'"),
        ({"decision": "keep", "own_label": "b"}, "has the decision 'keep' and an 'own_label' as well"),
        ({"source_row": "first"}, "must have numbers as 'source_row' and 'score', got 'first'"),
        ({"text": None}, "has no 'text'. Keep the columns"),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused_with_its_line(change, sentence, tmp_path):
    row = {**dataclasses.asdict(LINES[0]), **change}
    (tmp_path / "edited.jsonl").write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=sentence):
        read_review(tmp_path / "edited.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", b"{", "Line 1 of .*a.jsonl is not valid JSON"),
        ("a.jsonl", b"[1]", "Line 1 of .*a.jsonl must be a JSON object"),
        ("a.csv", "é".encode("latin-1"), "is not in UTF-8. Save it as 'CSV UTF-8'"),
        ("a.csv", b"text,label\nhi,x\n", "Line 2 of .*a.csv has no 'source_row'"),
        ("a.txt", b"", "must end in .csv or .jsonl"),
    ],
)
def test_a_file_that_is_no_review_is_refused(name, content, sentence, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_review(tmp_path / name)


@pytest.mark.parametrize("name", ["review.xlsx", "missing/review.csv"])
def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(name, tmp_path):
    with pytest.raises(InvalidValueError):
        write_review(tmp_path / name, LINES)


def test_each_decision_does_what_it_says_and_the_other_columns_stay(texts):
    lines = [line(decision="accept"), line(source_row=1, text="dull", given_label="bad", decision="drop")]
    lines.append(line(source_row=2, text="dull", given_label="bad", suggested_label="good", decision="keep"))
    corrected, counts = apply_review(texts, lines)
    assert corrected.to_dict() == {"id": [7, 9], "text": ["fine", "dull"], "label": ["bad", "bad"]}
    assert counts == {"corrected": 1, "dropped": 1, "kept": 1}
    assert texts["label"][:] == ["good", "bad", "bad"]


def test_an_unedited_review_changes_nothing(texts):
    corrected, counts = apply_review(texts, [line()])
    assert corrected.to_dict() == texts.to_dict()
    assert counts == {"corrected": 0, "dropped": 0, "kept": 1}


@pytest.mark.parametrize(
    ("feature", "values", "given", "new", "expected"),
    [
        (Value("int64"), [3, 4], "3", "4", [4, 4]),
        (Value("bool"), [True, False], "True", "False", [False, False]),
        (ClassLabel(names=["bad", "good", "so-so"]), [1, 0], "good", "so-so", [2, 0]),
    ],
)
def test_labels_keep_the_type_of_their_column(feature, values, given, new, expected):
    features = Features({"label": feature, "text": Value("string")})
    rows = Dataset.from_dict({"label": values, "text": ["fine", "dull"]}, features=features)
    corrected, _ = apply_review(rows, [line(given_label=given, own_label=new)])
    assert corrected["label"][:] == expected
    assert corrected.features == rows.features


def test_the_words_of_a_span_are_corrected_and_no_others():
    corrected, _ = apply_review(Dataset.from_dict(JOINT), [slot(own_label="B-genre I-genre")])
    assert corrected["slots"][:] == [["O", "O", "B-genre", "I-genre"], ["O", "B-genre"]]
    assert corrected["intent"][:] == JOINT["intent"]


def test_tags_in_a_column_of_texts_stay_texts():
    rows = Dataset.from_dict({**JOINT, "slots": [" ".join(tags) for tags in JOINT["slots"]]})
    corrected, _ = apply_review(rows, [slot(decision="accept")])
    assert corrected["slots"][:] == ["O O B-genre I-genre", "O B-genre"]


def test_lists_of_class_ids_are_corrected_by_name():
    names = ["B-city", "B-genre", "I-city", "O"]
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))})
    rows = Dataset.from_dict({"tokens": JOINT["tokens"][1:], "ner_tags": [[3, 1]]}, features=features)
    change = slot(column="ner_tags", words="1: jazz", given_label="B-genre", text="play jazz", own_label="B-city")
    assert apply_review(rows, [change])[0]["ner_tags"][:] == [[3, 0]]


def test_a_pair_of_texts_is_recognised_by_both():
    rows = Dataset.from_dict({"text_a": ["fine"], "text_b": ["dull"], "label": ["good"]})
    assert apply_review(rows, [line(text="fine ||| dull", own_label="good")])[1]["corrected"] == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"text": "other"}, "Row 0 of the data has another text than the review: 'fine' there, 'other' here"),
        ({"given_label": "bad"}, "Row 0 of the data has the label 'good' in 'label', but 'bad' in the review"),
        ({"source_row": 3}, "has a row 3, but the data has 3 rows"),
        ({"column": "intent"}, "has a column 'intent', but the data has id, text, label"),
        ({"own_label": "god"}, "The new label of row 0 must be one of those in column 'label' .bad, good., got 'god'"),
    ],
)
def test_a_review_of_other_data_is_refused_with_the_row(changes, sentence, texts):
    with pytest.raises(DataError, match=sentence):
        apply_review(texts, [line(**changes)])


def test_lines_without_a_decision_have_to_fit_too(texts):
    with pytest.raises(DataError, match="Row 1 of the data has another text"):
        apply_review(texts, [line(decision="accept"), line(source_row=1)])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"own_label": "B-genre"}, "must have one tag for each word of '2-3: new york', got 'B-genre'"),
        ({"words": "2-7: new york"}, "that row of the data has 4 words"),
        ({"words": "new york"}, "must say which words of row 0"),
        ({"given_label": "O O"}, "has the label 'B-city I-city' in 'slots' for '2-3: new york', but 'O O'"),
    ],
)
def test_words_that_do_not_fit_are_refused(changes, sentence):
    with pytest.raises(DataError, match=sentence):
        apply_review(Dataset.from_dict(JOINT), [slot(**changes)])


def test_two_lines_that_change_the_same_word_are_refused():
    one = slot(words="3: york", given_label="I-city", own_label="O")
    with pytest.raises(DataError, match="changes 'slots' of row 0 twice"):
        apply_review(Dataset.from_dict(JOINT), [slot(decision="accept"), one])
