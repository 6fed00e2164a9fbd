"""Images: found in folders and arrays, read from any kind, brought to one shape, refused with a sentence."""

import io
import pickle

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from dataprune.data.images import ImageClassificationTask, resized, to_array
from dataprune.data.loading import load_data
from dataprune.data.reading import read_splits
from dataprune.data.roles import find_columns
from dataprune.data.tasks import guess_task, load_task
from dataprune.errors import DataError, InvalidValueError

RED = np.zeros((4, 6, 3), np.uint8)
RED[..., 0] = 200
GREY = np.arange(24, dtype=np.uint8).reshape(4, 6)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return str(path)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize(
    ("layout", "splits"),
    [
        (["train/cat/1.png", "train/dog/2.PNG", "val.txt", "test/dog/3.jpg"], {"train": 2, "test": 1}),
        (["train/cat/a/1.png", "train/dog/2.png", "dev/cat/3.png"], {"train": 2, "valid": 1}),
        (["cat/1.png", "dog/2.png", "dog/deeper/3.png", "dog/notes.txt"], {"train": 3}),
    ],
)
def test_a_folder_of_images_has_a_subfolder_per_class(tmp_path, layout, splits):
    for name in layout:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("") if path.suffix == ".txt" else Image.fromarray(GREY).save(path)
    found = read_splits(tmp_path)
    assert {split: len(rows) for split, (_, rows) in found.items()} == splits
    rows = found["train"][1]
    assert set(rows["label"][:]) == {"cat", "dog"}
    assert all(label in path for path, label in zip(rows["image"][:], rows["label"][:], strict=True))
    assert guess_task(find_columns(rows)) == "image-classification"


@pytest.mark.parametrize("names", [("images", "labels"), ("x_train", "y_train"), ("X", "Y")])
def test_arrays_come_under_any_usual_name(tmp_path, names):
    np.savez(tmp_path / "a.npz", **{names[0]: np.stack([GREY] * 20), names[1]: [0, 1] * 10})
    data = load_data(tmp_path / "a.npz")
    assert data.splits.num_rows == {"train": 18, "valid": 2}
    task = ImageClassificationTask(columns=data.columns).fit(data.splits["train"])
    assert (task.shape_, task.labels_) == ([1, 4, 6], {"": ["0", "1"]})
    assert task.mean_ == pytest.approx([GREY.mean()])
    assert task.std_ == pytest.approx([GREY.std()])


def test_one_file_of_arrays_may_hold_all_splits(tmp_path):
    arrays = {f"x_{split}": np.stack([RED] * n) for split, n in (("train", 4), ("val", 2), ("test", 3))}
    arrays |= {f"y_{split}": np.array([["a"], ["b"]] * 2)[: len(arrays[f"x_{split}"])] for split in ("train", "test")}
    np.savez(tmp_path / "a.npz", **arrays, y_validation=["a", "b"], x_validation=arrays["x_val"])
    found = read_splits(tmp_path / "a.npz")
    assert {split: len(rows) for split, (_, rows) in found.items()} == {"train": 4, "valid": 2, "test": 3}


@pytest.mark.parametrize(
    "image",
    [RED, RED.tolist(), RED.transpose(2, 0, 1), Image.fromarray(RED), {"bytes": png(RED), "path": None}],
    ids=["array", "list", "channels first", "pillow", "bytes"],
)
def test_an_image_of_any_kind_is_the_same_pixels(image):
    np.testing.assert_array_equal(to_array(image), RED.transpose(2, 0, 1))


def test_a_path_is_opened_and_transparency_left_out(tmp_path):
    with_alpha = np.dstack([RED, np.full((4, 6), 7, np.uint8)])
    np.testing.assert_array_equal(to_array(with_alpha), RED.transpose(2, 0, 1))
    path = save(tmp_path / "a.png", with_alpha)
    np.testing.assert_array_equal(to_array(path), RED.transpose(2, 0, 1))
    np.testing.assert_array_equal(to_array({"bytes": None, "path": path}), RED.transpose(2, 0, 1))


def test_floats_stay_floats():
    assert to_array(GREY / 255).dtype == np.float32
    assert to_array(GREY).dtype == np.uint8


def test_grey_and_colour_of_several_sizes_come_to_one_shape(tmp_path):
    paths = [save(tmp_path / "a.png", RED), save(tmp_path / "b.png", np.full((9, 3), 50, np.uint8))]
    rows = Dataset.from_dict({"image": paths, "label": ["red", "grey"]})
    task = ImageClassificationTask(image_size=5).fit(rows)
    assert task.shape_ == [3, 5, 5]
    encoded = task.encode(rows)
    pixels = np.stack(encoded["pixel_values"][:]).reshape(2, 3, 25)
    assert pixels[0].max(1).tolist() == pixels[0].min(1).tolist() == [200, 0, 0]
    assert np.unique(pixels[1]).tolist() == [50]
    assert ImageClassificationTask().fit(rows).shape_ == [3, 64, 64]
    assert encoded["length"][:].tolist() == [1, 1]


def test_resizing_averages_what_it_shrinks():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    small = resized(image, [1, 2, 2])
    assert small.mean() == pytest.approx(image.mean())
    assert resized(image, [1, 4, 4]) is image
    np.testing.assert_array_equal(resized(RED.transpose(2, 0, 1), [1, 4, 6]), np.full((1, 4, 6), 66))


def test_batches_have_mean_zero_and_deviation_one_in_each_channel():
    rng = np.random.default_rng(0)
    rows = Dataset.from_dict({"image": list(rng.integers(0, 255, (40, 3, 3, 3))), "label": [0, 1] * 20})
    task = ImageClassificationTask().fit(rows)
    collate = pickle.loads(pickle.dumps(task.collator()))  # noqa: S301 - our own object
    encoded = task.encode(rows)
    x, y = collate([encoded[i] for i in range(40)])
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)
    assert (x.shape, y.tolist()) == ((40, 3, 3, 3), [0, 1] * 20)


def test_images_of_datasets_are_read_as_they_are_stored():
    features = Features({"img": ImageFeature(), "label": Value("string")})
    rows = Dataset.from_dict(
        {"img": [{"bytes": png(GREY), "path": None}] * 4, "label": list("abab")}, features=features
    )
    columns = find_columns(rows)
    task = ImageClassificationTask(columns=columns).fit(rows)
    assert (columns, task.shape_) == ({"label": "label", "image": "img"}, [1, 4, 6])
    np.testing.assert_array_equal(task.encode(rows)[0]["pixel_values"], GREY.reshape(-1))


def test_a_task_survives_json_and_labels_it_never_saw_count_as_errors(tmp_path):
    rows = Dataset.from_dict({"image": [GREY, GREY], "label": ["a", "b"]})
    task = load_task(ImageClassificationTask(image_size=3).fit(rows).to_dict())
    assert repr(task) == "ImageClassificationTask(columns=None, image_size=3)"
    assert task.shape_ == [1, 3, 3]
    other = Dataset.from_dict({"image": [GREY], "label": ["c"]})
    assert task.encode(other)["labels"][:].tolist() == [-101]
    assert "1 of column 'label' (c)" in task.unseen_report()[0]


def test_a_table_with_texts_has_no_images_to_find():
    rows = Dataset.from_dict({"text": ["a"], "label": ["x"], "image": [None]})
    assert find_columns(rows) == {"label": "label", "text": "text"}


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("no.png", "The image no.png does not exist"),
        ({"bytes": b"no image", "path": "a.png"}, "The image a.png cannot be read: cannot identify image file"),
        ([[[1, 2]], [[3, 4]]], r"must be \(height, width\) pixels, with 1, 3 or 4 channels or none, got \(2, 1, 2\)"),
    ],
)
def test_what_is_no_image_is_refused(image, sentence):
    with pytest.raises(DataError, match=sentence):
        to_array(image)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"pictures": GREY}, "must hold the arrays 'images' and 'labels' .* got 'pictures'"),
        ({"images": GREY, "labels": [0]}, r"must hold images \(n, height, width\) .* got \(4, 6\) and \(1,\)"),
        ({"images": np.stack([GREY] * 2), "labels": [0]}, r"labels \(n,\), got \(2, 4, 6\) and \(1,\)"),
        ({"images": np.stack([GREY] * 2), "labels": [0.5, 1.5]}, "labels that are whole numbers or texts, got float64"),
        (
            {"images": np.stack([GREY] * 2), "labels": [0, np.nan]},
            "labels that are whole numbers or texts, got float64",
        ),
        ({"images": np.stack([GREY] * 2), "labels": [b"a", b"b"]}, "whole numbers or texts, got .S1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, sentence):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=sentence):
        read_splits(tmp_path / "a.npz")


def test_a_damaged_file_of_arrays_is_told_and_pickles_are_not_opened(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match=r"a\.npz cannot be read as arrays"):
        read_splits(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=np.array([{}, {}], dtype=object), labels=[0, 1])
    with pytest.raises(DataError, match="cannot be read as arrays: Object arrays cannot be loaded"):
        read_splits(tmp_path / "b.npz")


def test_a_size_below_one_is_refused():
    rows = Dataset.from_dict({"image": [GREY, GREY], "label": ["a", "b"]})
    with pytest.raises(InvalidValueError, match="image_size must be at least 1, got 0"):
        ImageClassificationTask(image_size=0).fit(rows)


def test_files_without_pillow_say_how_to_install_it(monkeypatch, tmp_path):
    path = save(tmp_path / "a.png", GREY)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'dataprune\[vision\]'"):
        to_array(path)
