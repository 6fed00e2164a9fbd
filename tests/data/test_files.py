"""Files are whole or absent, and nothing is unpickled."""

import json
import os
import pickle
import stat

import numpy as np
import pytest
from safetensors.numpy import save_file

from dataprune.data.files import read_json, read_tensors, write_atomically, write_json, write_tensors
from dataprune.errors import DataPruneError, StateError


def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(part):
        part.write_text("half of the ne")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    child = os.fork()
    if child == 0:  # the process ends between writing and moving, as under kill -9

        def die(part):
            part.write_text("new")
            os._exit(0)

        write_atomically(path, die)
    os.waitpid(child, 0)
    assert path.read_text() == "old"


def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with path.open() as reader:
        write_atomically(path, lambda part: part.write_text("new"))
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_a_new_file_can_be_read_by_whom_the_umask_allows(tmp_path):
    old = os.umask(0o022)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644


def test_json_comes_back(tmp_path):
    value = {"names": ["ä", "b"], "x": [1, 2.5, None, True]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "ä" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_a_value_that_is_no_json_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe"])
def test_damaged_json_is_one_sentence(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(StateError, match=r"a.json is damaged: .*\.$"):
        read_json(tmp_path / "a.json")
    with pytest.raises(StateError, match=r"b.json does not exist"):
        read_json(tmp_path / "b.json")


def test_arrays_and_settings_come_back(tmp_path):
    arrays = {
        "ints": np.array([2**62, -1]),
        "floats": np.array([np.nan, np.inf, -0.0, 5e-324]),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(7, np.int32),
        "turned": np.arange(6).reshape(2, 3).T,
        "every second": np.arange(10)[::2],
    }
    settings = {"epoch": 3, "names": ["a"], "value": 0.1, "nested": {"x": None}}
    write_tensors(tmp_path / "a", arrays, settings)
    loaded, loaded_settings = read_tensors(tmp_path / "a")
    assert loaded_settings == settings
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()


def test_a_file_cut_anywhere_is_one_sentence(tmp_path):
    write_tensors(tmp_path / "a", {"x": np.arange(50)}, {"epoch": 1})
    whole = (tmp_path / "a").read_bytes()
    for n_bytes in (0, 7, 8, 40, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:n_bytes])
        with pytest.raises(StateError, match="cut is damaged or was not written by dataprune"):
            read_tensors(tmp_path / "cut")


def test_files_of_others_are_refused(tmp_path):
    save_file({"x": np.zeros(1)}, tmp_path / "theirs")
    (tmp_path / "pickled").write_bytes(pickle.dumps({"x": 1}))
    (tmp_path / "text").write_text(json.dumps({"x": 1}))
    for name in ("theirs", "pickled", "text"):
        with pytest.raises(StateError, match="was not written by dataprune"):
            read_tensors(tmp_path / name)
    with pytest.raises(StateError, match="absent does not exist"):
        read_tensors(tmp_path / "absent")


def test_a_missing_folder_is_an_error_that_names_the_path(tmp_path):
    with pytest.raises((DataPruneError, OSError), match="missing"):
        write_tensors(tmp_path / "missing" / "a", {}, {})
