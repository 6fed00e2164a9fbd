"""Files, folders and saved data sets become splits with known columns; what is wrong is named with file and row."""

import csv
import gzip
import json
import os
import random
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprune.data import reading
from dataprune.data.loading import load_data, stratified_cut
from dataprune.data.tasks import guess_task
from dataprune.errors import DataError, DataPruneError


def sentences(n=20, n_classes=2):
    return [{"text": f"sentence, number {row}", "label": f"class {row % n_classes}"} for row in range(n)]


def frames(n=20):
    return [
        {"tokens": ["to", "new", "york", f"w{row}"], "intent": "ab"[row % 2], "slots": ["O", "B-city", "I-city", "O"]}
        for row in range(n)
    ]


def write(path, rows):
    """Write rows in the format that the file's name asks for."""
    if path.name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.name.endswith(".jsonl.gz"):
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def refused(match, source, **options):
    with pytest.raises(DataError, match=match):
        load_data(source, **options)


class TestSources:
    @pytest.mark.parametrize("ending", reading.FORMATS)
    def test_every_format_gives_the_same_rows(self, tmp_path, ending):
        for split in ("train", "dev", "test"):
            write(tmp_path / f"{split}{ending}", sentences())
        data = load_data(tmp_path)
        assert list(data.splits) == ["train", "valid", "test"]
        assert data.columns == {"text": "text", "label": "label"}
        assert data.notes == []
        for split in data.splits.values():
            expected = [{**row, "source_row": number} for number, row in enumerate(sentences())]
            assert split.to_list() == expected
            assert split.features["source_row"] == datasets.Value("int64")

    @pytest.mark.parametrize("name", ["valid", "validation", "dev"])
    def test_all_names_of_the_valid_split_are_known(self, tmp_path, name):
        write(tmp_path / "train.jsonl", sentences())
        write(tmp_path / f"{name}.csv", sentences(4))
        assert load_data(str(tmp_path)).splits.num_rows == {"train": 20, "valid": 4}

    def test_a_single_file_becomes_train_and_its_neighbours_are_left_alone(self, tmp_path):
        write(tmp_path / "test.jsonl", sentences())
        file = write(tmp_path / "anything.jsonl", sentences(30))
        assert load_data(file).splits.num_rows == {"train": 27, "valid": 3}

    def test_other_files_in_the_folder_do_not_matter(self, tmp_path):
        write(tmp_path / "train.jsonl", sentences())
        write(tmp_path / "oos_train.jsonl", sentences(5))
        (tmp_path / "README.md").write_text("hello")
        assert load_data(tmp_path).splits.num_rows == {"train": 18, "valid": 2}

    def test_a_saved_dataset_dict_is_loaded(self, tmp_path):
        rows = datasets.Dataset.from_list(sentences())
        datasets.DatasetDict(train=rows, validation=rows, extra=rows).save_to_disk(tmp_path / "saved")
        data = load_data(tmp_path / "saved")
        assert data.splits.num_rows == {"train": 20, "valid": 20}
        assert data.splits["valid"]["source_row"][:] == list(range(20))

    def test_a_saved_dataset_becomes_train_and_keeps_its_class_names(self, tmp_path):
        rows = datasets.Dataset.from_list(sentences()).class_encode_column("label")
        rows.save_to_disk(tmp_path / "saved")
        data = load_data(tmp_path / "saved")
        assert data.splits.num_rows == {"train": 18, "valid": 2}
        assert data.splits["valid"].features["label"].names == ["class 0", "class 1"]

    def test_the_format_of_a_saved_dataset_hides_no_column(self, tmp_path):
        rows = datasets.Dataset.from_list(sentences()).with_format("numpy", columns=["label"])
        rows.save_to_disk(tmp_path / "saved")
        train = load_data(tmp_path / "saved").splits["train"]
        assert train[0] == {**sentences()[train[0]["source_row"]], "source_row": train[0]["source_row"]}

    def test_a_name_goes_to_the_hub_and_a_path_does_not(self, tmp_path, monkeypatch):
        asked = []

        def load_dataset(name):
            asked.append(name)
            return datasets.DatasetDict(train=datasets.Dataset.from_list(sentences()))

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "data").mkdir()
        assert load_data("someone/some-set").splits.num_rows == {"train": 18, "valid": 2}
        for missing in ("train.jsonl", "data/missing", "./missing", "/no/where", "a/b/c", Path("imdb")):
            refused(rf"^{missing} does not exist\. Pass a folder", missing)
        assert asked == ["someone/some-set"]

    def test_a_hub_that_cannot_answer_is_one_sentence(self, monkeypatch):
        def load_dataset(name):
            raise ConnectionError("Couldn't reach the hub.\nlong story")

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        refused("'imdb' is neither a file or folder here nor .*: Couldn't reach the hub\\.$", "imdb")

    def test_nothing_is_left_behind_and_nothing_printed(self, tmp_path, capfd, monkeypatch):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
        folder = tmp_path / "data"
        folder.mkdir()
        write(folder / "train.csv", sentences(2000))
        before = sorted(tmp_path.rglob("*"))
        load_data(folder)
        assert sorted(tmp_path.rglob("*")) == before
        assert capfd.readouterr() == ("", "")

    def test_blank_lines_a_byte_order_mark_and_odd_line_separators_do_no_harm(self, tmp_path):
        file = tmp_path / "train.jsonl"
        lines = [json.dumps(row, ensure_ascii=False) for row in sentences()]
        lines[1] = '{"text": "a\u2028b\x85c", "label": "class 1"}'
        file.write_text("\ufeff" + "\n\n".join(lines) + "\n\n", encoding="utf-8")
        data = load_data(tmp_path)
        assert sorted(data.splits["train"]["source_row"][:] + data.splits["valid"]["source_row"][:]) == list(range(20))

    def test_csv_fields_may_hold_commas_quotes_and_newlines(self, tmp_path):
        texts = ['a, "b"', "two\nlines", "NA", "null", ""] * 4
        write(tmp_path / "train.csv", [{"text": t, "label": i % 2} for i, t in enumerate(texts)])
        write(tmp_path / "valid.csv", sentences())
        assert load_data(tmp_path).splits["train"]["text"][:] == texts


class TestColumns:
    @pytest.mark.parametrize(
        ("names", "columns"),
        [
            (["Sentence", "Category", "id"], {"text": "Sentence", "label": "Category"}),
            (["utterance", "target"], {"text": "utterance", "label": "target"}),
            (["text", "query", "label", "class"], {"text": "text", "label": "label"}),
            (["text", "intent"], {"text": "text", "label": "intent"}),
            (["id", "other"], {}),
        ],
    )
    def test_common_names_are_recognised(self, tmp_path, names, columns):
        rows = [dict.fromkeys(names, "ab"[row % 2]) for row in range(20)]
        assert load_data(write(tmp_path / "train.jsonl", rows)).columns == columns

    def test_joint_data_are_recognised(self, tmp_path):
        rows = [{"words": r["tokens"], "intents": r["intent"], "slot_labels": r["slots"]} for r in frames()]
        columns = load_data(write(tmp_path / "train.jsonl", rows)).columns
        assert columns == {"tokens": "words", "intent": "intents", "slots": "slot_labels"}
        assert guess_task(columns) == "joint-nlu"

    def test_named_columns_win_and_the_rest_is_still_recognised(self, tmp_path):
        rows = [{**row, "comment": "c", "stars": i % 3} for i, row in enumerate(sentences())]
        file = write(tmp_path / "train.jsonl", rows)
        assert load_data(file, columns={"text": "comment"}).columns == {"text": "comment", "label": "label"}
        assert load_data(file, columns={"label": "stars"}).columns == {"label": "stars", "text": "text"}

    def test_two_candidates_are_a_question_not_a_guess(self, tmp_path):
        rows = [{"question": "q", "sentence": "s", "label": row % 2} for row in range(20)]
        file = write(tmp_path / "train.jsonl", rows)
        refused(r"Columns 'question', 'sentence' of .*train.jsonl could each be the text\. Choose", file)
        assert load_data(file, columns={"text": "question"}).columns["text"] == "question"

    def test_joint_data_with_several_texts_need_no_choice(self, tmp_path):
        rows = [{**row, "query": "q", "utterance": "u"} for row in frames()]
        assert "text" not in load_data(write(tmp_path / "train.jsonl", rows)).columns

    def test_a_type_that_does_not_fit_is_not_recognised(self, tmp_path):
        rows = [{"tokens": ["a"], "labels": ["O"], "text": 5} for _ in range(20)]
        assert load_data(write(tmp_path / "train.jsonl", rows)).columns == {"tokens": "tokens", "labels": "labels"}

    def test_plain_texts_in_list_columns_are_split_at_white_space(self, tmp_path):
        rows = [{"tokens": " to  boston", "slots": "O B-city ", "intent": f"{row % 2}"} for row in range(20)]
        data = load_data(write(tmp_path / "train.csv", rows))
        assert data.splits["train"][0]["tokens"] == ["to", "boston"]
        assert data.splits["train"][0]["slots"] == ["O", "B-city"]

    def test_an_unknown_column_is_named_with_those_there(self, tmp_path):
        file = write(tmp_path / "train.jsonl", sentences())
        refused(
            r"train.jsonl must have the column 'utt' \(text\), got 'text', 'label'\.", file, columns={"text": "utt"}
        )

    def test_a_column_that_a_later_split_lacks_is_named_with_its_file(self, tmp_path):
        write(tmp_path / "train.jsonl", sentences())
        write(tmp_path / "test.jsonl", [{"text": "a"}])
        refused(r"test.jsonl must have the column 'label' \(label\), got 'text'", tmp_path)

    def test_an_unknown_role_is_a_value_error_with_the_choices(self, tmp_path):
        file = write(tmp_path / "train.jsonl", sentences())
        with pytest.raises(ValueError, match=r"load_data\.columns must be one of .*'text', .*, got 'txt'\.") as caught:
            load_data(file, columns={"txt": "text"})
        assert isinstance(caught.value, DataPruneError)

    @pytest.mark.parametrize(
        ("role", "rule"), [("text", "texts"), ("tokens", "lists of words"), ("slots", "lists of tags")]
    )
    def test_a_named_column_of_another_type_is_refused(self, tmp_path, role, rule):
        rows = [{**row, "number": 5} for row in sentences()]
        file = write(tmp_path / "train.jsonl", rows)
        refused(rf"'number' of .* must hold {rule} \({role}\), got int64\.", file, columns={role: "number"})

    def test_a_source_row_column_of_the_file_is_replaced_and_said_so(self, tmp_path):
        rows = [{**row, "source_row": 99} for row in sentences()]
        data = load_data(write(tmp_path / "train.jsonl", rows))
        assert data.splits["train"]["source_row"][:3] == [0, 1, 2]
        assert data.notes[0].startswith("Column 'source_row' of ")


class TestCut:
    def test_the_note_says_what_was_set_aside(self, tmp_path):
        data = load_data(write(tmp_path / "train.jsonl", frames(30)), valid_fraction=0.25, random_state=7)
        (note,) = data.notes
        assert note.startswith(f"No valid split in {tmp_path / 'train.jsonl'}: 8 of 30 train rows were set aside ")
        assert note.endswith("(seed 7, stratified by 'intent').")

    def test_every_row_lands_in_one_split_and_knows_where_it_came_from(self, tmp_path):
        data = load_data(write(tmp_path / "train.jsonl", sentences(50, 3)))
        rows = [row for split in data.splits.values() for row in split]
        assert sorted(row["source_row"] for row in rows) == list(range(50))
        assert all(row["text"] == f"sentence, number {row['source_row']}" for row in rows)

    def test_the_seed_decides_and_the_global_random_state_is_left_alone(self, tmp_path):
        file = write(tmp_path / "train.jsonl", sentences(100))
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 - the global state is what is watched
        states = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        rows = [load_data(file, random_state=seed).splits["valid"]["source_row"][:] for seed in (0, 0, 1)]
        assert rows[0] == rows[1] != rows[2]
        assert states == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002

    def test_decimal_labels_are_cut_at_random(self, tmp_path):
        rows = [{"text": "a", "label": row / 7} for row in range(20)]
        assert "(seed 0, at random)" in load_data(write(tmp_path / "train.jsonl", rows)).notes[0]

    def test_rows_without_labels_can_be_loaded(self, tmp_path):
        data = load_data(write(tmp_path / "train.jsonl", [{"text": f"t{row}"} for row in range(20)]))
        assert data.columns == {"text": "text"}
        assert data.splits.num_rows == {"train": 18, "valid": 2}

    def test_one_row_cannot_be_cut(self, tmp_path):
        refused("at least 2 rows to set a valid split aside", write(tmp_path / "train.jsonl", [{"text": "t"}]))

    @settings(deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
        fraction=st.floats(0.01, 0.9),
        seed=st.integers(0, 5),
    )
    def test_each_class_gives_its_share(self, sizes, fraction, seed):
        classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
        n_cut = int(fraction * len(classes))
        rows = stratified_cut(len(classes), n_cut, classes, random_state=seed)
        assert len(rows) == n_cut
        assert sorted({*rows.tolist()}) == rows.tolist()
        taken = Counter(classes[rows].tolist())
        if n_cut <= len(classes) - len(sizes):
            assert all(taken[c] < size for c, size in enumerate(sizes))
        # With many rows in each class, the share is met to within the rounding of every class.
        if min(sizes) >= 3 and fraction < 0.5:
            assert all(abs(taken[c] - n_cut * size / len(classes)) <= 1.5 for c, size in enumerate(sizes))

    @pytest.mark.parametrize("fraction", [0, 1, 1.5, -0.1, "half", True, float("nan")])
    def test_a_bad_valid_fraction_is_refused(self, tmp_path, fraction):
        with pytest.raises((ValueError, TypeError), match=r"load_data\.valid_fraction must be .*in \(0, 1"):
            load_data(tmp_path, valid_fraction=fraction)

    @pytest.mark.parametrize("seed", [-1, 0.5, None])
    def test_a_bad_seed_is_refused(self, tmp_path, seed):
        with pytest.raises((ValueError, TypeError), match=r"load_data\.random_state must be"):
            load_data(tmp_path, random_state=seed)


class TestBrokenData:
    def test_a_folder_without_train_lists_what_it_has(self, tmp_path):
        write(tmp_path / "valid.jsonl", sentences())
        refused(r"must hold a train split, found valid\.jsonl\. Files are called train", tmp_path)

    def test_an_empty_folder_holds_nothing(self, tmp_path):
        refused("must hold a train split, found nothing", tmp_path)

    @pytest.mark.parametrize(("first", "second"), [("train.csv", "train.jsonl"), ("dev.jsonl", "valid.jsonl")])
    def test_two_files_for_one_split_are_refused(self, tmp_path, first, second):
        write(tmp_path / "train.jsonl", sentences())
        for name in (first, second):
            write(tmp_path / name, sentences())
        refused(f"has both '{first}' and '{second}' as (train|valid) split", tmp_path)

    def test_an_unknown_ending_lists_the_known_ones(self, tmp_path):
        (tmp_path / "train.xlsx").touch()
        refused(r"train\.xlsx must end in one of \.jsonl, ", tmp_path / "train.xlsx")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("train.jsonl", ""),
            ("train.jsonl", "\n\n"),
            ("train.json", "[]"),
            ("train.csv", ""),
            ("train.csv", "text,label\n"),
        ],
    )
    def test_an_empty_split_is_named(self, tmp_path, name, content):
        (tmp_path / name).write_text(content)
        refused(f"The train split must have rows, got none in .*{name}", tmp_path)

    def test_an_empty_test_split_is_named_too(self, tmp_path):
        write(tmp_path / "train.jsonl", sentences())
        (tmp_path / "test.jsonl").touch()
        refused("The test split must have rows", tmp_path)

    @pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "train.json"])
    def test_a_broken_line_is_named(self, tmp_path, name):
        opener = gzip.open if name.endswith(".gz") else open
        with opener(tmp_path / name, "wt") as file:
            file.write('{"text": "a", "label": 1}\n\n{"text": "b", "label": }\n')
        refused(rf"Line 3 of .*{name} is not valid JSON \(Expecting value, column 24\)", tmp_path)

    def test_a_broken_list_of_objects_is_named_by_its_line(self, tmp_path):
        (tmp_path / "train.json").write_text('[{"text": "a"},\n {"text": "b"\n]')
        refused(r"train\.json is not valid JSON \(.*, line 3\)", tmp_path)

    @pytest.mark.parametrize(("name", "content"), [("train.jsonl", "{}\n5"), ("train.json", "[{}, 5]")])
    def test_a_value_that_is_no_object_is_named(self, tmp_path, name, content):
        (tmp_path / name).write_text(content)
        refused(r"(Line 2|Item 1) of .* must be a JSON object, got 5\.", tmp_path)

    def test_mixed_types_name_the_column(self, tmp_path):
        rows = [*sentences(), {"text": 5, "label": "a"}]
        refused("Column 'text' of .*train.jsonl must hold values of one type", write(tmp_path / "train.jsonl", rows))

    @pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "train.csv", "train.parquet"])
    def test_bytes_of_another_kind_are_one_sentence(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00 nonsense,\x9d\n1,2\n")
        refused(rf"{name} cannot be read: [^\n]*\.$", tmp_path)

    @pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
    @pytest.mark.parametrize("content", ["text,label\ncafé,a\ntea,b\n", "thé,label\nx,a\ny,b\n"])
    def test_a_table_in_another_encoding_than_utf8_is_told_so(self, tmp_path, content, encoding):
        path = tmp_path / "train.csv"
        path.write_text(content, encoding=encoding)
        refused(r"train\.csv cannot be read: it is not in UTF-8\. Save it so", tmp_path)
        with pytest.raises(DataError, match="it is not in UTF-8"):
            reading.map_file(path, tmp_path)

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ('text;label\n"a, b; c";x\nd;y\n', "a, b; c"),  # as spreadsheets write it where the comma is in numbers
            ('"text";"label, of mine"\na;x\nb;y\n', "a"),
            ("text\tlabel\na, b\tx\nc\ty\n", "a, b"),
            ('text,"label; or none"\n"a; b",x\nc,y\n', "a; b"),
            ('\ufeff\n"text, the\nticket";label\na;x\nb;y\n', "a"),  # a mark, an empty line, a line break in a name
            ("text\tlabel, mine\na, b\tx\nc\ty\n", "a, b"),
        ],
    )
    def test_a_table_may_have_semicolons_or_tabs_in_the_place_of_commas(self, tmp_path, content, text):
        path = tmp_path / "train.csv"
        path.write_text(content)
        for rows in (reading.read_file(path), reading.map_file(path, tmp_path)):
            assert len(rows.column_names) == 2
            assert rows[0][rows.column_names[0]] == text

    def test_with_semicolons_decimals_may_have_a_comma(self, tmp_path):
        path = tmp_path / "train.csv"
        path.write_text("number;text\n0,5;1,5\n-2;so 2,5\n")
        for rows in (reading.read_file(path), reading.map_file(path, tmp_path)):
            assert rows["number"][:] == [0.5, -2.0]
            assert rows["text"][:] == ["1,5", "so 2,5"]

    def test_what_a_number_would_change_stays_a_text(self, tmp_path):
        header = "postcode,phone,id,hex,rate,n,sign,nanoseconds,text,code,small\n"
        rows = [
            "01234,+4930123456,12345678901234567890,0x10,0.5,10,+1.5,1700000000000000000,007,12e4,1e-05",
            "98765,110,7,16,1.50,0,-0.5,1,the 0815 one,3450,2.5e+20",
            ",,,,,,,,,,",
        ]
        path = tmp_path / "train.csv"
        path.write_text(header + "\n".join(rows))
        for data in (reading.read_file(path), reading.map_file(path, tmp_path)):
            assert data["postcode"][:] == ["01234", "98765", ""]
            assert data["phone"][:2] == ["+4930123456", "110"]
            assert data["id"][0] == "12345678901234567890"
            assert data["hex"][0] == "0x10"
            assert data["nanoseconds"][0] == 1_700_000_000_000_000_000
            assert data["rate"][:] == [0.5, 1.5, None]
            assert data["n"][:] == [10, 0, None]
            assert data["sign"][:2] == [1.5, -0.5]
            assert data["text"][0] == "007"
            assert data["code"][:2] == ["12e4", "3450"]
            assert data["small"][:2] == [1e-05, 2.5e20]

    def test_leading_zeros_far_down_a_file_count(self, tmp_path, monkeypatch):
        monkeypatch.setattr(reading, "BYTES_PER_BLOCK", 64)
        path = tmp_path / "train.csv"
        path.write_text("code,text\n" + "".join(f"{10 + i},abc\n" for i in range(50)) + "007,abc\n")
        for data in (reading.read_file(path), reading.map_file(path, tmp_path)):
            assert data["code"][0] == "10"
            assert data["code"][-1] == "007"

    def test_numbers_beyond_64_bits_are_told_so(self, tmp_path):
        rows = [*sentences(), {"text": "a", "label": "b", "id": 2**64}]
        refused("Column 'id' of .* at most 64 bits. Write larger ones as texts", write(tmp_path / "train.jsonl", rows))

    def test_a_truncated_gzip_file_is_one_sentence(self, tmp_path):
        whole = write(tmp_path / "whole.jsonl.gz", sentences(500)).read_bytes()
        (tmp_path / "train.jsonl.gz").write_bytes(whole[: len(whole) // 2])
        refused(r"train\.jsonl\.gz cannot be read: ", tmp_path)

    def test_a_ragged_csv_file_names_the_row(self, tmp_path):
        (tmp_path / "train.csv").write_text("text,label\na,1\nb\n")
        refused(r"train\.csv cannot be read: CSV parse error: Row #3", tmp_path)

    def test_a_column_that_is_there_twice_is_refused(self, tmp_path):
        (tmp_path / "train.csv").write_text("text,text\na,1\n")
        refused(r"train\.csv has more than one column 'text'", tmp_path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
    def test_an_unreadable_file_is_one_sentence(self, tmp_path):
        write(tmp_path / "train.jsonl", sentences()).chmod(0)
        refused(r"train\.jsonl cannot be read: .*Permission denied", tmp_path)

    def test_a_damaged_saved_folder_is_one_sentence(self, tmp_path):
        datasets.Dataset.from_list(sentences()).save_to_disk(tmp_path / "saved")
        (tmp_path / "saved" / "state.json").write_text("{")
        refused("saved cannot be loaded by datasets: ", tmp_path / "saved")

    @pytest.mark.parametrize("row", [{"text": "a"}, {"text": "a", "label": None}])
    def test_a_row_without_a_value_is_named(self, tmp_path, row):
        rows = sentences()
        rows[17] = row
        refused(r"Row 17 of .*train\.jsonl has no 'label'\.", write(tmp_path / "train.jsonl", rows))

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_a_row_with_more_tokens_than_tags_is_named(self, tmp_path, split):
        write(tmp_path / "train.jsonl", frames())
        rows = frames()
        rows[13]["slots"].pop()
        write(tmp_path / f"{split}.jsonl", rows)
        refused(
            rf"Row 13 of .*{split}\.jsonl must have one tag per token, got 4 in 'tokens' and 3 in 'slots'", tmp_path
        )

    @pytest.mark.parametrize("make_rows", [lambda: sentences(n_classes=1), lambda: frames()[::2]])
    def test_one_class_only_is_refused(self, tmp_path, make_rows):
        file = write(tmp_path / "train.jsonl", make_rows())
        refused(r"must have at least 2 classes, got only '(class 0|a)'\. There is nothing to learn", file)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n_rows", "task"),
    [
        ("atis", {"train": 4478, "valid": 500, "test": 893}, "joint-nlu"),
        ("snips", {"train": 13084, "valid": 700, "test": 700}, "joint-nlu"),
        ("sst2", {"train": 67349, "valid": 872, "test": 1821}, "classification"),
        ("clinc150", {"train": 15000, "valid": 3000, "test": 4500}, "classification"),
    ],
)
def test_real_data_load(name, n_rows, task):
    folder = os.environ.get("DATAPRUNE_DATA")
    if not folder:
        pytest.skip("DATAPRUNE_DATA is not set")
    data = load_data(Path(folder, name))
    assert data.splits.num_rows == n_rows
    assert guess_task(data.columns) == task
    assert data.notes == []
