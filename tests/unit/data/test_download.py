"""Downloads from a server on loopback that cuts, changes, refuses and lies, and archives that mean harm."""

import concurrent.futures
import csv
import gzip
import hashlib
import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path, PurePosixPath

import pytest
import yaml

from gmsdi.data import archives
from gmsdi.data.archives import members
from gmsdi.data.download import REGISTRY, download_jamendo, download_slakh, find_entry, read_registry
from gmsdi.data.versions import JAMENDO_SHARDS, JAMENDO_TRACKS, SLAKH
from gmsdi.errors import UserError
from gmsdi.io import files as files_module
from gmsdi.io import transfer
from gmsdi.io.transfer import Entry, WrongContent
from tests.helpers import jamendo_shards
from tests.helpers.file_server import Cut, Stall, Status, serve

DATA = random.Random(0).randbytes(700_000)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetch(url, target, sha256=None, md5=None, mirrors=(), **options):
    digest = f"sha256:{sha256}" if sha256 else f"md5:{md5}" if md5 else None
    entry = url if isinstance(url, Entry) else Entry(target.name, url, digest, mirrors)
    return transfer.fetch(entry, target, **options)


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(transfer, "_BACKOFF", 0.001)
    monkeypatch.setattr(files_module, "_RESERVE", 0)
    with serve() as server:
        yield server


def visible(folder: Path) -> dict[str, bytes]:
    """Files and their contents, but for the notes that a download keeps."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix(): (folder / path).read_bytes() for path in paths if not path.parts[0].startswith(".")}


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".*") if not path.name.endswith(".lock"))


# Transfers


def test_cut_connections_are_resumed_where_they_broke(site, tmp_path):
    url = site.add("a.bin", DATA, faults=[Cut(100_000), Cut(0), Cut(300_001), Cut(1)])
    seen = []
    file = fetch(url, tmp_path / "a.bin", sha256=sha256(DATA), progress=lambda *state: seen.append(state))
    assert file.read_bytes() == DATA
    assert [request.range for request in site.requests] == [
        None, "bytes=100000-", "bytes=100000-", "bytes=400001-", "bytes=400002-",
    ]  # fmt: skip
    assert sum(request.sent for request in site.requests) == len(DATA)
    assert seen[-1] == ("a.bin", len(DATA), len(DATA))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert hidden(tmp_path) == []
    fetch(url, tmp_path / "a.bin", sha256=sha256(DATA))
    assert len(site.requests) == 5  # it was there


@pytest.mark.parametrize("digest", [None, sha256(DATA[::-1])])
def test_versions_are_not_glued(site, tmp_path, digest):
    """The file changes while it is downloaded."""
    url = site.add("a.bin", DATA, faults=[Cut(300_000)])

    def change(name, done, total):
        site.files["/a.bin"].data = DATA[::-1]

    assert fetch(url, tmp_path / "a.bin", sha256=digest, progress=change).read_bytes() == DATA[::-1]
    resumed = ["bytes=300000-"] if digest else []
    assert [request.range for request in site.requests] == [None, *resumed, None]


@pytest.mark.parametrize(
    "options",
    [
        {"ranges": False},
        {"headers": {"Content-Encoding": "gzip"}},  # as some say of a .gz, which must stay one
    ],
)
def test_servers_with_ways_of_their_own(site, tmp_path, options):
    url = site.add("a.bin", DATA, faults=[Cut(300_000), Cut(600_000)], **options)
    assert fetch(url, tmp_path / "a.bin", sha256=sha256(DATA)).read_bytes() == DATA


def test_a_server_that_does_not_say_how_long_the_file_is(site, tmp_path):
    url = site.add("a.bin", DATA, length=False)
    assert fetch(url, tmp_path / "a.bin").read_bytes() == DATA
    entry = Entry("b.bin", url, f"md5:{hashlib.md5(DATA).hexdigest()}", size=len(DATA))
    site.files["/a.bin"].faults = [Cut(1000)]
    assert fetch(entry, tmp_path / "b.bin").read_bytes() == DATA


def test_a_silent_connection_is_given_up(site, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "_TIMEOUT", (5, 0.3))
    url = site.add("a.bin", DATA, faults=[Stall(300_000), Stall(0)])
    assert fetch(url, tmp_path / "a.bin", sha256=sha256(DATA)).read_bytes() == DATA
    assert len(site.requests) == 3


def test_redirects_are_followed_at_every_connection(site, tmp_path):
    url = site.add("b.bin", DATA, faults=[Cut(300_000)])
    entrance = site.add("a.bin", b"", faults=[Status(302, {"Location": url})] * 2)
    assert fetch(entrance, tmp_path / "a.bin", sha256=sha256(DATA)).read_bytes() == DATA
    assert site.requests[-1].range == "bytes=300000-"


def test_a_second_process_waits_for_the_first(site, tmp_path):
    url = site.add("a.bin", DATA, pace=0.01)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = [pool.submit(fetch, url, tmp_path / "a.bin", sha256=sha256(DATA)) for _ in range(3)]
    assert {job.result().read_bytes() for job in jobs} == {DATA}
    assert len(site.requests) == 1


def test_waits_as_long_as_the_server_asks(site, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", waits.append)
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    faults = [Status(429, {"Retry-After": "7"}), Cut(10), Status(503, {"Retry-After": date}), Status(500)]
    url = site.add("a.bin", DATA, faults=faults)
    fetch(url, tmp_path / "a.bin", sha256=sha256(DATA))
    waits = [wait for wait in waits if wait]
    assert waits[0] == 7
    assert 95 < waits[1] <= 100
    assert all(wait < 1 for wait in waits[2:])


def test_a_server_is_given_up_after_some_attempts(site, tmp_path):
    url = site.add("a.bin", DATA, faults=[Cut(10)] + [Status(503)] * 50)
    with pytest.raises(
        UserError,
        match=r"^a\.bin: cannot be downloaded \(.*/a\.bin: too many 503 error responses\); try again later, or",
    ):
        fetch(url, tmp_path / "a.bin", sha256=sha256(DATA))
    assert len(site.requests) == 2 + transfer._ATTEMPTS
    del site.files["/a.bin"].faults[:]
    assert fetch(url, tmp_path / "a.bin", sha256=sha256(DATA)).read_bytes() == DATA
    assert site.requests[-1].range == "bytes=10-"


def test_mirrors_are_asked_in_turn_and_go_on_with_what_there_is(site, tmp_path):
    urls = [
        "http://127.0.0.1:9/a.bin",
        site.add("gone.bin", b"")[:-3] + "x",
        site.add("breaks.bin", DATA, faults=[Cut(200_000)] + [Status(500)] * 50),
        site.add("short.bin", DATA[:-1]),
        site.add("good.bin", DATA),
    ]
    entry = Entry("a.bin", urls[0], f"sha256:{sha256(DATA)}", urls[1:], size=len(DATA))
    assert fetch(entry, tmp_path / "a.bin").read_bytes() == DATA
    assert site.requests[-1].range == "bytes=200000-"
    (tmp_path / "a.bin").unlink()
    with pytest.raises(UserError, match=r"refused; .*HTTP 404.*; .*: has 699999 bytes, not 700000\); try again"):
        fetch(Entry("a.bin", urls[0], entry.hash, [urls[1], urls[3]], len(DATA)), tmp_path / "a.bin")


def test_wrong_bytes_are_never_used(site, tmp_path):
    wrong, good = site.add("wrong.bin", DATA[::-1]), site.add("good.bin", DATA)
    file = fetch(wrong, tmp_path / "a.bin", sha256=sha256(DATA), mirrors=[good])
    assert file.read_bytes() == DATA
    file.unlink()
    with pytest.raises(UserError, match=rf"wrong\.bin: has the md5 {hashlib.md5(DATA[::-1]).hexdigest()}, not "):
        fetch(wrong, tmp_path / "a.bin", md5=hashlib.md5(DATA).hexdigest())
    assert not file.exists()
    assert hidden(tmp_path) == []
    file.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"a\.bin: has the sha256 .*; remove it, and it will be downloaded again"):
        fetch(good, file, sha256=sha256(DATA))


@pytest.mark.parametrize("size", [500_000, len(DATA)])
def test_a_damaged_partial_file_is_downloaded_again(site, tmp_path, size):
    url = site.add("a.bin", DATA, faults=[Cut(500_000)] + [Status(503)] * 50)
    with pytest.raises(UserError, match="503"):
        fetch(url, tmp_path / "a.bin", sha256=sha256(DATA))
    partial = tmp_path / ".a.bin.partial"
    assert partial.read_bytes() == DATA[:500_000]
    partial.write_bytes(bytes(size))
    del site.files["/a.bin"].faults[:]
    assert fetch(url, tmp_path / "a.bin", sha256=sha256(DATA)).read_bytes() == DATA
    assert site.requests[-1].range is None


def test_space_is_checked_before_anything_is_stored(site, tmp_path, monkeypatch):
    monkeypatch.setattr(files_module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 0, 600_000))
    url = site.add("a.bin", DATA)
    with pytest.raises(UserError, match=r"600 kB are free, and a\.bin needs .* [kM]B here; free space, choose"):
        fetch(Entry("a.bin", url, size=len(DATA)), tmp_path / "new" / "a.bin")
    assert site.requests == []
    assert list(tmp_path.rglob("*.partial")) == []


def test_the_registry_is_complete():
    registry = read_registry()
    shards = [registry[f"raw_30s_audio-low-{number:02d}.tar"] for number in range(JAMENDO_SHARDS)]
    assert {registry[name].licence for name in SLAKH.values()} == {"CC-BY-4.0"}
    assert len({shard.hash for shard in shards}) == JAMENDO_SHARDS
    assert len(registry) == JAMENDO_SHARDS + 3
    for name, entry in registry.items():
        assert all(url.startswith("https://") and name in url for url in (entry.url, *entry.mirrors))
        assert entry.licence
        assert entry.version
        assert entry.hash or name == JAMENDO_TRACKS


def test_mirrors_of_a_site_are_asked_first():
    name = SLAKH["redux"]
    published, entry = read_registry()[name], find_entry(name, mirrors=["http://a/slakh/", "http://b"])
    assert [entry.url, *entry.mirrors] == [
        *(f"http://a/slakh/{name}", f"http://b/{name}"),
        *(published.url, *published.mirrors),
    ]
    assert (entry.hash, entry.size) == (published.hash, published.size)
    with pytest.raises(UserError, match=rf"^{REGISTRY}: has no row nope; add one"):
        find_entry("nope")


# Archives


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, size, link
    return member.tobuf(tarfile.GNU_FORMAT)


def block(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


HOSTILE = {
    "absolute": header("/tmp/bad"),
    "parent": header("a/../../bad"),
    "symbolic link": header("a/bad", tarfile.SYMTYPE, link="/etc"),
    "hard link": header("a/bad", tarfile.LNKTYPE, link="../../x"),
    "device": header("a/bad", tarfile.CHRTYPE),
    "pipe": header("a/bad", tarfile.FIFOTYPE),
}


def unpack(data: bytes, folder: Path, wanted=lambda path: True) -> dict[str, bytes]:
    """What is written of an archive, whatever becomes of it."""
    folder.mkdir(exist_ok=True)
    place = lambda path: path if wanted(path) else None  # noqa: E731
    return {str(path): file.read_bytes() for path, file in members(io.BytesIO(data), folder, name="x.tar", place=place)}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_members_are_refused_and_named(tmp_path, kind, compressed):
    data = header("a/good", size=5) + block(b"hello") + HOSTILE[kind] + bytes(1024)
    with pytest.raises(
        UserError, match=r"^x\.tar: refused, since .*bad.*; get the archive from its publisher"
    ) as error:
        unpack(gzip.compress(data) if compressed else data, tmp_path / "root")
    assert "\n" not in str(error.value)
    assert visible(tmp_path) == {"root/a/good": b"hello"}
    assert unpack(data, tmp_path / "some", {PurePosixPath("a/good")}.__contains__) == {"a/good": b"hello"}


@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_or_damaged_archive_gives_nothing(tmp_path, compressed):
    data = b"".join(header(f"a/{i}", size=3000) + block(DATA[3000 * i :][:3000]) for i in range(9)) + bytes(1024)
    damaged = bytearray(data)
    damaged[3 * 3584 + 100] ^= 255  # in a header, which tarfile alone would take for the end
    pack = gzip.compress if compressed else bytes
    entry = Entry("x.tar", "", f"sha256:{sha256(pack(data))}")
    for content in (pack(data)[:9000], pack(data[:-1024]), pack(damaged), b"", b"<html>", pack(b"x" * 999)):
        (tmp_path / "x.tar").write_bytes(content)
        with transfer.Stream(entry, tmp_path / "x.tar") as stream, pytest.raises(WrongContent):  # noqa: PT012
            list(members(stream, tmp_path / "out", name="x.tar", place=lambda path: path))
            stream.finish()
    assert len(unpack(pack(data), tmp_path / "out")) == 9


# Slakh2100

CLASSES = ["Bass", "Drums"]


def slakh_files(seed: int, tracks: dict[int, str | None], size: int = 300) -> dict[str, bytes]:
    """A small data set: path below the root to content."""
    rng = random.Random(seed)
    files = {}
    for number, split in tracks.items():
        folder = "/".join(filter(None, (split, f"Track{number:05d}")))
        stems = {f"S{i:02d}": rng.choice(["Bass", "Drums", "Guitar", "Organ"]) for i in range(6)}
        entries = {stem: {"inst_class": name, "audio_rendered": True} for stem, name in stems.items()}
        entries["S99"] = {"inst_class": "Bass"}  # listed, without audio
        files[f"{folder}/metadata.yaml"] = yaml.safe_dump({"stems": entries}).encode()
        files[f"{folder}/all_src.mid"] = files[f"{folder}/mix.flac"] = rng.randbytes(size)
        for stem in stems:
            files[f"{folder}/MIDI/{stem}.mid"] = rng.randbytes(30)
            files[f"{folder}/stems/{stem}.flac"] = rng.randbytes(size)
    return files


def slakh_archive(files: dict[str, bytes], seed: int, name: str) -> bytes:
    """Members in no order, as in the published archives, with macOS's own among them."""
    members = [*files.items(), ("train/._Track00001", b"finder"), ("train/Track00001/._mix.flac", b"finder")]
    random.Random(seed).shuffle(members)
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w:gz", compresslevel=1) as tar:
        for path, content in members:
            member = tarfile.TarInfo(f"{name.partition('.')[0]}/{path}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return output.getvalue()


def chosen(files: dict[str, bytes], splits=None, tracks=None, classes=None) -> dict[str, bytes]:
    """The selection, made with everything at hand."""
    result = {}
    metadata = {
        path[: -len("/metadata.yaml")]: yaml.safe_load(content)["stems"]
        for path, content in files.items()
        if path.endswith("metadata.yaml")
    }
    for path, content in files.items():
        split, number = path.split("/")[0], int(re.search(r"Track(\d+)", path)[1])
        folder = path[: path.index("Track") + 10]
        keep = (splits is None or split in splits) and (tracks is None or number in tracks)
        if classes is not None and "/stems/" in path:
            keep = keep and metadata[folder][Path(path).stem]["inst_class"] in classes
        if keep:
            result[path] = content
    return result


TRACKS = {1: "train", 2: "train", 3: "omitted", 1501: "validation", 1876: "test", 1877: "test"}


@pytest.fixture
def slakh(site, tmp_path):
    """Files, and a registry with an archive of them on the server."""
    files = slakh_files(0, TRACKS, size=20_000)
    return files, publish(site, tmp_path, {SLAKH["redux"]: slakh_archive(files, 0, SLAKH["redux"])})


def publish(site, tmp_path: Path, contents: dict[str, bytes], **options) -> Path:
    registry = tmp_path / "registry.csv"
    fields = ["name", "version", "url", "mirrors", "hash", "size", "unpacked", "licence"]
    with registry.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fields, restval="")
        writer.writeheader()
        for name, data in contents.items():
            digest = None if name.endswith(".txt") else f"sha256:{sha256(data)}"
            writer.writerow({"name": name, "url": site.add(name, data, **options), "hash": digest, "size": len(data)})
    return registry


@pytest.mark.parametrize("archive", ["buffer", "stream"])
@pytest.mark.parametrize("seed", range(3))
def test_slakh_has_what_is_wanted_whatever_the_order_of_the_archive(site, tmp_path, seed, archive):
    files = slakh_files(seed, TRACKS)
    data = slakh_archive(files, seed, SLAKH["redux"])
    registry = publish(site, tmp_path, {SLAKH["redux"]: data}, faults=[Cut(len(data) // 3), Cut(len(data) // 4)])
    selections = [
        {"splits": ["test"], "classes": CLASSES},
        {"tracks": range(1, 1876), "classes": ["Organ"]},
        {},
    ]
    for number, selection in enumerate(selections):
        root = tmp_path / str(number)
        assert download_slakh(root, registry=registry, archive=archive, **selection) == root
        assert visible(root) == chosen(files, **selection)
        assert hidden(root) == [f".{SLAKH['redux']}.json"]


def test_babyslakh_has_no_split_folders(site, tmp_path):
    files = slakh_files(5, {1: None, 2: None, 20: None})
    registry = publish(site, tmp_path, {SLAKH["babyslakh"]: slakh_archive(files, 5, SLAKH["babyslakh"])})
    options = {"variant": "babyslakh", "tracks": [2, 20], "classes": CLASSES}
    root = download_slakh(tmp_path / "baby", registry=registry, **options)
    assert visible(root) == chosen(files, tracks=[2, 20], classes=CLASSES)
    with pytest.raises(UserError, match="splits: BabySlakh has no folders"):
        download_slakh(tmp_path / "baby", variant="babyslakh", splits=["train"])


def test_what_is_complete_is_not_downloaded_twice(site, slakh, tmp_path):
    files, registry = slakh
    root = tmp_path / "root"
    download_slakh(root, registry=registry, splits=["train", "test"], classes=CLASSES)
    assert len(site.requests) == 1
    for splits, classes in ((["test"], CLASSES), (["train"], ["Bass"]), (["test", "train"], CLASSES)):
        download_slakh(root, registry=registry, splits=splits, tracks=[1, 1876], classes=classes)
    assert len(site.requests) == 1
    (root / "test" / "Track01876" / "mix.flac").unlink()
    download_slakh(root, registry=registry, splits=["test"], classes=CLASSES)
    assert len(site.requests) == 2
    assert visible(root) == chosen(files, splits=["train", "test"], classes=CLASSES)
    download_slakh(root, registry=registry)
    assert visible(root) == files


def test_a_kept_archive_and_one_at_hand_serve_other_selections(site, slakh, tmp_path):
    files, registry = slakh
    root, name = tmp_path / "root", SLAKH["redux"]
    download_slakh(root, registry=registry, splits=["test"], archive="keep")
    assert (root / name).read_bytes() == site.files[f"/{name}"].data
    download_slakh(root, registry=registry, splits=["train"], archive="keep")
    assert len(site.requests) == 1
    assert {**visible(root), name: b""} == {**chosen(files, splits=["train", "test"]), name: b""}
    other = tmp_path / "other"
    download_slakh(other, registry=registry, tracks=[3], source=root / name)
    assert visible(other) == chosen(files, tracks=[3])
    (root / name).write_bytes(b"\x1f\x8b damaged")
    with pytest.raises(UserError, match=r"redux\.tar\.gz: not a tar archive, .*; remove it, and it will be downloaded"):
        download_slakh(root, registry=registry)
    with pytest.raises(UserError, match=r"redux\.tar\.gz: not a tar archive, .*; name another copy, or none"):
        download_slakh(tmp_path / "third", registry=registry, source=root / name)
    assert len(site.requests) == 1


def test_a_folder_at_hand_is_used_as_it_is(tmp_path):
    folder = tmp_path / "data" / "slakh2100_flac_redux"
    for split, number in (("train", 1), ("test", 1876)):
        (folder / split / f"Track{number:05d}").mkdir(parents=True)
    assert download_slakh(tmp_path / "root", source=folder, splits=["test"]) == folder
    assert download_slakh(tmp_path / "root", source=folder.parent, tracks=[1, 1876]) == folder
    with pytest.raises(UserError, match=r"validation: holds no tracks"):
        download_slakh(tmp_path / "root", source=folder, splits=["validation"])
    with pytest.raises(UserError, match=r"redux: lacks Track00002"):
        download_slakh(tmp_path / "root", source=folder, tracks=[1, 2])
    with pytest.raises(UserError, match=r"holds no Track folders"):
        download_slakh(tmp_path / "root", source=tmp_path / "data" / "slakh2100_flac_redux" / "train" / "Track00001")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "original"}, "variant 'original': unknown"),
        ({"splits": ["dev"]}, "split 'dev': unknown"),
        ({"splits": "test"}, "splits 'test': expected a list"),
        ({"tracks": [2101]}, "track 2101: the tracks of this data set are 1 to 2100"),
        ({"classes": []}, "empty, so nothing is wanted"),
        ({"archive": "none"}, "archive 'none': unknown"),
        ({"source": "/nowhere.tar.gz"}, r"/nowhere\.tar\.gz: cannot be opened"),
    ],
)
def test_wishes_that_cannot_be_met(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        download_slakh(tmp_path, **options)


def test_a_hostile_archive_leaves_nothing(site, tmp_path):
    name = SLAKH["redux"]
    data = gzip.compress(
        header(f"{name[:-7]}/test/Track01876/stems/S00.flac", tarfile.SYMTYPE, link="/etc") + bytes(1024)
    )
    registry = publish(site, tmp_path, {name: data})
    with pytest.raises(UserError, match=r"refused, since .*Track01876/stems/S00\.flac in it is not a plain file"):
        download_slakh(tmp_path / "root", registry=registry)
    assert visible(tmp_path / "root") == {}
    assert hidden(tmp_path / "root") == [f".{name}.buffer"]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moves", [0, 1, 20, 60])
def test_an_end_while_files_move_to_their_places_costs_no_download(site, slakh, tmp_path, monkeypatch, moves):
    files, registry = slakh
    root, replace, count = tmp_path / "root", os.replace, 0

    def die(source, target):
        nonlocal count
        count += ".unpacking" in str(source)
        if count > moves:
            raise Killed
        replace(source, target)

    monkeypatch.setattr(archives.os, "replace", die)
    with pytest.raises(Killed):
        download_slakh(root, registry=registry, classes=CLASSES)
    monkeypatch.undo()
    site.files.clear()
    download_slakh(root, registry=registry, classes=CLASSES)
    assert visible(root) == chosen(files, classes=CLASSES)
    assert hidden(root) == [f".{SLAKH['redux']}.json"]


def test_kill_9_at_any_moment_and_start_again(site, tmp_path):
    name = SLAKH["redux"]
    files = slakh_files(0, TRACKS, size=150_000)
    data = slakh_archive(files, 0, name)
    registry = publish(site, tmp_path, {name: data}, pace=0.01)
    root = tmp_path / "root"
    program = (
        "import sys; from gmsdi.data.download import download_slakh;"
        "download_slakh(sys.argv[1], registry=sys.argv[2], classes=['Bass', 'Drums'])"
    )
    command = [sys.executable, "-c", program, str(root), str(registry)]
    partial = root / f".{name}.partial"
    stored = []
    for share in (0.3, 0.8):
        process = subprocess.Popen(command)
        while process.poll() is None and not (partial.exists() and partial.stat().st_size > share * len(data)):
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        stored.append(partial.stat().st_size)
        assert partial.read_bytes() == data[: stored[-1]]
        assert visible(root) == {}
    site.files[f"/{name}"].pace = 0
    subprocess.run(command, check=True)
    assert [request.range for request in site.requests] == [None] + [f"bytes={start}-" for start in stored]
    assert visible(root) == chosen(files, classes=CLASSES)
    assert hidden(root) == [f".{name}.json"]


# MTG-Jamendo


@pytest.fixture
def jamendo(site, tmp_path):
    """Tracks of two shards, and a registry with their archives and the list of digests on the server."""
    rng = random.Random(1)
    files = {f"{i % 100:02d}/{i}.low.mp3": rng.randbytes(60_000) for i in (1500, 200, 9100, 300, 7001, 801)}
    return files, publish(site, tmp_path, jamendo_shards.archives(files))


def test_jamendo_by_shard_track_and_number(site, jamendo, tmp_path, monkeypatch):
    files, registry = jamendo
    root = tmp_path / "root"
    site.files["/raw_30s_audio-low-01.tar"].faults = [Cut(70_000)]
    assert download_jamendo(root, [0, 1], registry=registry) == root
    assert visible(root) == {**files, JAMENDO_TRACKS: site.files[f"/{JAMENDO_TRACKS}"].data}
    count = len(site.requests)
    download_jamendo(root, [1], tracks=[801], registry=registry)
    assert len(site.requests) == count
    (root / "00" / "200.low.mp3").unlink()
    download_jamendo(root, [0, 1], registry=registry)
    assert (root / "00" / "200.low.mp3").read_bytes() == files["00/200.low.mp3"]
    assert len(site.requests) == count + 1

    some = tmp_path / "some"
    monkeypatch.setattr(archives, "_BLOCK", 8192)
    monkeypatch.setattr(transfer, "_BLOCK", 8192)
    read = []
    download_jamendo(some, [0], limit=1, registry=registry, progress=lambda *state: read.append(state))
    download_jamendo(some, [0, 1], tracks=[1500, 801], registry=registry)
    assert sorted(visible(some)) == ["00/1500.low.mp3", "00/200.low.mp3", "01/801.low.mp3", JAMENDO_TRACKS]
    assert 120_000 < read[-1][1] < 150_000 < read[-1][2]  # it stopped at the track it wanted
    assert hidden(some) == []


def test_jamendo_tracks_have_to_match_the_list(site, jamendo, tmp_path):
    files, registry = jamendo
    wrong = site.files[f"/{JAMENDO_TRACKS}"]
    wrong.data = wrong.data.replace(sha256(files["00/200.low.mp3"]).encode(), b"0" * 64)
    entries = registry.read_text().replace(str(len(wrong.data)), "", 1)
    registry.write_text(entries)
    with pytest.raises(UserError, match=r"the SHA-256 of 00/200\.low\.mp3 differs from the data set's list"):
        download_jamendo(tmp_path / "root", [0], registry=registry)
    assert list(visible(tmp_path / "root")) == [JAMENDO_TRACKS]
    for options, message in (
        ({"shards": [100]}, r"shards \[100\]: MTG-Jamendo has the shards 0 to 99"),
        ({"shards": [2]}, "shard 2: not in"),
        ({"shards": [0], "tracks": [801]}, r"track 801: not in the shards \[0\]"),
        ({"shards": [0], "limit": 0}, "limit 0"),
        ({"shards": [0], "source": tmp_path / "nowhere"}, "nowhere: no such folder"),
    ):
        with pytest.raises(UserError, match=message):
            download_jamendo(tmp_path / "root", registry=registry, **options)


def test_jamendo_at_hand(site, jamendo, tmp_path):
    files, registry = jamendo
    tars, tracks = tmp_path / "tars", tmp_path / "tracks"
    tars.mkdir()
    for path, served in site.files.items():
        (tars / path[1:]).write_bytes(served.data)
    root = download_jamendo(tmp_path / "root", [0], source=tars, registry=registry)
    assert visible(root) == {path: data for path, data in files.items() if path.startswith("00")}
    shutil.copytree(root, tracks)
    shutil.copy(tars / JAMENDO_TRACKS, tracks)
    assert download_jamendo(tmp_path / "none", [0], source=tracks, registry=registry) == tracks
    (tracks / "00" / "200.low.mp3").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"200\.low\.mp3: its SHA-256 is .*; replace it, or omit source"):
        download_jamendo(tmp_path / "none", [0], source=tracks, registry=registry)
    (tars / "raw_30s_audio-low-01.tar").unlink()
    with pytest.raises(UserError, match=r"raw_30s_audio-low-01\.tar: cannot be opened"):
        download_jamendo(root, [1], source=tars, registry=registry)
    assert site.requests == []
