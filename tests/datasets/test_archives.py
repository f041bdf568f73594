"""Archives that anybody may have made are unpacked within their folder and limits, or refused."""

import io
import random
import stat
import struct
import tracemalloc
import zipfile

import pytest

from datasets import archives
from dcrl_jax.errors import InputError


def write(path, members, mode=0):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, mode << 16
            archive.writestr(member, content)
    return path


def test_files_and_folders_are_unpacked_in_place_of_what_was_there(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    archive = write(tmp_path / "a.zip", {"top/": b"", "top/a.txt": b"a", "top/b/..c": b"c"}, stat.S_IFREG | 0o644)
    archives.unpack(archive, tmp_path / "out")
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {"top/a.txt", "top/b/..c"}


@pytest.mark.parametrize(
    ("names", "mode", "message"),
    [
        (["a", "../b"], 0, r"the member '\.\./b' leaves the folder"),
        (["a", "b/../../c"], 0, r"the member 'b/\.\./\.\./c' leaves the folder"),
        (["/etc/cron.d/a"], 0, "the member '/etc/cron.d/a' leaves the folder"),
        ([r"..\b"], 0, r"the member '\.\.\\\\b' leaves the folder"),
        (["a"], stat.S_IFLNK | 0o777, "the member 'a' is a link or a device"),
        (["a"], stat.S_IFCHR | 0o666, "the member 'a' is a link or a device"),
        ([str(index) for index in range(9)], 0, "9 members; expected at most 8"),
        (["a.txt", "A.txt"], 0, "the member 'a.txt' is there twice"),
        (["a", "a/"], 0, "the member 'a' is there twice"),
    ],
    ids=["parent", "parent within", "absolute", "backslash", "link", "device", "members", "case", "file and folder"],
)
def test_archive_that_leaves_its_folder_is_refused(tmp_path, monkeypatch, names, mode, message):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 8)
    (tmp_path / "in").mkdir()
    archive = write(tmp_path / "in" / "a.zip", dict.fromkeys(names, b"x"), mode)
    with pytest.raises(InputError, match=rf"^{archive}: {message}.*\. Nothing was unpacked; "):
        archives.unpack(archive, tmp_path / "in" / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.zip"]


def test_bomb_is_refused_before_a_byte_is_unpacked(tmp_path):
    archive = write(tmp_path / "a.zip", {str(index): bytes(2**22) for index in range(8)})
    assert archive.stat().st_size < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(
            InputError, match=r"bytes that become 33,554,432; expected at most 8,589,934,592, and 50 times"
        ):
            archives.unpack(archive, tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "out").exists()


def test_member_that_is_larger_than_stated_ends_there_and_leaves_nothing(tmp_path):
    content = bytearray(write(tmp_path / "a.zip", {"a": bytes(2**22)}).read_bytes())
    directory = content.index(b"PK\1\2")
    content[directory + 24 : directory + 28] = struct.pack("<I", 1000)  # the size of the file
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.zip is not a zip archive, or damaged \(Bad CRC"):
        archives.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_and_cut_off_files_are_no_archives(tmp_path):
    whole = write(tmp_path / "a.zip", {"a": b"some text " * 9}).read_bytes()
    for content in (b"", b"<html>", whole[:-30], whole.replace(b"PK\3\4", b"PK\3\5", 1)):
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(InputError, match=r"is not a zip archive, or damaged \(.*\)\. Delete it and retry\.$"):
            archives.unpack(tmp_path / "a.zip", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert zipfile.is_zipfile(io.BytesIO(whole))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_every_damage_is_named_with_the_archive(tmp_path, method):
    path, out = tmp_path / "a.zip", tmp_path / "out"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("\u00e4bc", b"some text " * 99)
        archive.writestr("c" * 300, b"")
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(3):
            content[rng.randrange(len(content))] = rng.choice([0, 255, rng.randrange(256)])
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"^{path}"):
            archives.unpack(path, out)
        assert not out.exists()
