"""Weights by name: from a server on this machine, that breaks, lies or is not there."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from vitjax.weights.errors import WeightsError
from vitjax.weights.fetch import connection, download, fetching
from vitjax.weights.formats import files

CONTENT = np.random.default_rng(0).bytes(300_000)
BUCKETS = {"augreg": "/vit_models/augreg", "bit": "/bit_models"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, server):
    monkeypatch.setenv("VITJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VITJAX_STORAGE", server.url)
    monkeypatch.setattr(download, "_PAUSE", 0)
    return tmp_path


@pytest.fixture
def said():
    return []


@pytest.fixture
def local(said):
    def local(source, **keywords):
        return fetching.local(source, say=said.append, progress=False, **keywords)

    return local


@pytest.fixture
def refused(local):
    def refused(source, *words, **keywords):
        with pytest.raises(WeightsError) as caught:
            local(source, **keywords)
        for word in words:
            assert word in str(caught.value)

    return refused


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def left(folder: Path) -> list[str]:
    """The files in ``folder``, but for locks."""
    return sorted(
        item.name
        for item in folder.rglob("*")
        if item.is_file() and not item.name.endswith(".lock")
    )


# ----------------------------------------------------------------------------------- what is meant


def test_a_path_is_itself(local, here, monkeypatch):
    assert local("some/where.npz") == Path("some/where.npz")
    assert local("/a:b/c") == Path("/a:b/c")
    monkeypatch.setenv("HOME", str(here))
    assert local("~/w.npz") == here / "w.npz"
    monkeypatch.chdir(here)
    Path("bit:odd").touch()
    assert local("bit:odd") == Path("bit:odd")


def test_an_unknown_place_is_named_with_its_near_match(refused):
    refused("augregs:S_16", "unknown scheme 'augregs'; did you mean 'augreg'?", "gs:")
    refused("hf:vit", "hf:owner/name")
    refused("https://", "no address of a file")
    refused("https://example.org/../../etc/passwd", "no address of a file")
    refused("http://example.org/%2e%2e/x", "no address of a file")


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("bit:BiT-M-R50x1", "/bit_models/BiT-M-R50x1.npz"),
        ("bit:BiT-M-R50x1.npz", "/bit_models/BiT-M-R50x1.npz"),
        ("augreg:S_16-i21k-300ep", "/vit_models/augreg/S_16-i21k-300ep.npz"),
        ("gs://vit_models/imagenet21k/ViT-B_16.npz", "/vit_models/imagenet21k/ViT-B_16.npz"),
    ],
)
def test_names_of_googles_storage(source, path, server, local, here):
    server.serve(path, CONTENT, {"x-goog-hash": f"crc32c=AAAAAA==,md5={md5(CONTENT)}"})
    found = local(source)
    assert found == here / "cache" / "storage.googleapis.com" / path[1:]
    assert found.read_bytes() == CONTENT
    assert local(source) == found
    assert server.gets() == [(path, None)]


def test_of_what_is_fetched_the_weights_can_be_read(server, local, here):
    files.write(here / "w.npz", {"a": np.arange(3)})
    server.serve("/w.npz", (here / "w.npz").read_bytes())
    np.testing.assert_array_equal(files.read(local(f"{server.url}/w.npz"))["a"], np.arange(3))


def test_addresses_that_differ_by_a_query_are_kept_apart(server, local):
    for number in (1, 2):
        server.serve(f"/get?id={number}", str(number).encode())
    found = [local(f"{server.url}/get?id={number}") for number in (1, 2)]
    assert [path.read_bytes() for path in found] == [b"1", b"2"]


def test_an_address_that_leads_elsewhere_is_followed(server, local):
    server.serve("/latest", b"", {"Location": f"{server.url}/v2"}, 302)
    server.serve("/v2", CONTENT)
    assert local(f"{server.url}/latest").read_bytes() == CONTENT


def test_an_address_that_leads_out_of_encryption_is_not_followed():
    follow = connection._Redirect().redirect_request
    asked = urllib.request.Request("https://example.org/w.npz")
    with pytest.raises(WeightsError, match="not encrypted"):
        follow(asked, None, 302, "Found", {}, "http://example.org/w.npz")
    assert follow(asked, None, 302, "Found", {}, "https://example.com/w.npz").type == "https"


def test_what_is_no_address_is_refused_at_once(server, refused):
    refused(f"{server.url}/a b.npz", "is no valid address")
    assert not server.requests


INDEX = """name,ds,filename,adapt_filename,final_val
S/16,i21k,S_16-i21k-30ep-lr_0.001,S_16-i21k-30ep-lr_0.001--cifar100-res_224,0.5
S/16,i21k,S_16-i21k-300ep-lr_0.001,S_16-i21k-300ep-lr_0.001--cifar100-res_384,0.6
"""


def test_the_beginning_of_an_augreg_name_is_enough_where_it_is_the_only_one(
    server, local, refused, said
):
    folder = BUCKETS["augreg"]
    full = "S_16-i21k-30ep-lr_0.001--cifar100-res_224"
    server.serve(f"{folder}/index.csv", INDEX.encode())
    server.serve(f"{folder}/{full}.npz", CONTENT)
    found = local("augreg:S_16-i21k-30ep-lr_0.001--")
    assert found.name == f"{full}.npz"
    assert any("begins with it" in line for line in said)
    refused(
        "augreg:S_16-i21k-300ep", "2 names begin with it", "\n  S_16-i21k-300ep-lr_0.001--cifar100"
    )
    refused("augreg:S16-i21k", "no name begins with it; did you mean 'S_16'?", "index.csv")
    # All of it was kept, and serves without a network.
    assert local("augreg:S_16-i21k-30ep-lr_0.001--", offline=True) == found
    assert local(f"augreg:{full}", offline=True) == found
    refused("augreg:S_16-i21k-300ep", "2 names begin with it", offline=True)


def test_a_wrong_augreg_name_is_named_where_there_is_no_list(refused, server):
    refused(
        "augreg:S_16", f"{server.url}/vit_models/augreg/S_16.npz: the server does not have the file"
    )


def test_a_full_augreg_name_that_begins_others_is_itself(server, local):
    folder = BUCKETS["augreg"]
    server.serve(f"{folder}/index.csv", INDEX.encode())
    server.serve(f"{folder}/S_16-i21k-300ep-lr_0.001.npz", CONTENT)
    assert local("augreg:S_16-i21k-300ep-lr_0.001").read_bytes() == CONTENT
    assert local("augreg:S_16-i21k-300ep-lr_0.001", offline=True).read_bytes() == CONTENT


# ------------------------------------------------------------------------- networks as they are


@pytest.mark.parametrize("etag", ['"v1"', None])
def test_a_connection_that_breaks_is_taken_up_again(etag, server, local):
    headers = {"ETag": etag} if etag else {}
    server.serve("/w.npz", CONTENT, headers, breaks=[100_000, 50_000])
    assert local(f"{server.url}/w.npz").read_bytes() == CONTENT
    ranges = [part for _, part in server.gets()]
    # Without a version, nobody knows whether the rest is of the same file.
    assert ranges == ([None, "bytes=100000-", "bytes=150000-"] if etag else [None] * 3)


def test_a_later_call_goes_on_where_an_earlier_one_ended(server, local, refused, monkeypatch, here):
    server.serve("/w.npz", CONTENT, {"ETag": '"v1"'}, breaks=[1000, 0])
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    refused(
        f"{server.url}/w.npz",
        "the connection broke after 1,000 of 300,000 bytes",
        f"download {server.url}/w.npz elsewhere and copy it to {here}/cache/http+127.0.0.1_",
    )
    assert left(here) == [".w.npz.part", ".w.npz.version"]
    path = local(f"{server.url}/w.npz")
    assert path.read_bytes() == CONTENT
    assert server.gets()[-1] == ("/w.npz", "bytes=1000-")
    assert left(here) == ["w.npz"]


def test_the_beginning_of_another_version_is_not_gone_on_with(server, local, refused, monkeypatch):
    server.serve("/w.npz", b"old" * 1000, {"ETag": '"v1"'}, breaks=[2000, 0])
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    refused(f"{server.url}/w.npz", "the connection broke")
    server.serve("/w.npz", CONTENT, {"ETag": '"v2"'})
    assert local(f"{server.url}/w.npz").read_bytes() == CONTENT


def test_a_beginning_that_is_longer_than_the_file_is_dropped(server, local):
    url = f"{server.url}/w.npz"
    path = fetching._Fetcher(url, fetching.default_cache(), False, print, False).place(url)
    path.parent.mkdir(parents=True)
    (path.parent / ".w.npz.part").write_bytes(CONTENT + b"more")
    (path.parent / ".w.npz.version").write_text('"v1"')
    server.serve("/w.npz", CONTENT, {"ETag": '"v1"'})
    assert local(url).read_bytes() == CONTENT


def test_a_server_out_of_order_is_asked_again_and_then_given_up(server, local, refused):
    server.serve("/w.npz", status=503)
    refused(f"{server.url}/w.npz", "cannot be downloaded (503 Service Unavailable)", "elsewhere")
    assert len(server.requests) == download._ATTEMPTS


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "requires a login (404"), (403, "requires a login (403"), (401, "refuses (401")],
)
def test_what_the_server_does_not_give_is_asked_for_once(status, words, server, refused, here):
    server.serve("/w.npz", b"<html>", status=status)
    refused(f"{server.url}/w.npz", f"{server.url}/w.npz: the server", words)
    assert len(server.requests) == 1
    assert left(here) == []


def test_without_a_network_the_message_says_which_file_to_put_where(refused, local, here):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/w.npz"
        place = here / "cache" / f"http+{url[7:]}".replace(":", "_", 1)
        refused(url, "cannot be reached", f"download {url} elsewhere and copy it to {place}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(CONTENT)
        assert local(url) == place


def test_offline_nothing_is_asked_of_anyone(server, refused, local, here):
    place = here / "kept" / "storage.googleapis.com" / "bit_models" / "BiT-S-R50x1.npz"
    words = (
        "offline",
        "download https://storage.googleapis.com/bit_models/BiT-S-R50x1.npz elsewhere",
    )
    refused("bit:BiT-S-R50x1", *words, f"copy it to {place}", cache=here / "kept", offline=True)
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert local("bit:BiT-S-R50x1", cache=here / "kept", offline=True) == place
    assert server.requests == []


def test_a_page_in_a_files_place_is_refused_and_not_kept(server, refused, here):
    server.serve("/w.npz", b"\n<!DOCTYPE html><html>Sign in</html>")
    refused(f"{server.url}/w.npz", "answers with a web page")
    assert left(here) == []


def test_a_cache_that_cannot_be_written_is_named(server, refused, here):
    (here / "cache").write_text("a file, not a folder")
    server.serve("/w.npz", CONTENT)
    refused(f"{server.url}/w.npz", "w.npz: cannot be written: Not a directory")


# ----------------------------------------------------------------------------------- checksums


SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


@pytest.mark.parametrize(
    ("name", "fragment", "headers", "algorithm"),
    [
        ("w.npz", f"#sha256={OTHER}", {}, "sha256"),
        ("w.npz", f"#md5={OTHER[:32]}", {}, "md5"),
        (f"resnet18-{OTHER[:8]}.pth", "", {}, "sha256"),
        ("w.npz", "", {"x-goog-hash": f"crc32c=AAAAAA==,md5={md5(b'other')}"}, "md5"),
    ],
)
def test_a_file_that_its_checksum_contradicts_is_not_kept(
    name, fragment, headers, algorithm, server, refused, here
):
    server.serve(f"/{name}", CONTENT, headers)
    found = hashlib.new(algorithm, CONTENT).hexdigest()
    words = ("is not the expected file", f"its {algorithm} is {found}, and should be")
    refused(f"{server.url}/{name}{fragment}", *words)
    assert left(here) == []


def test_a_file_with_the_right_checksums_is_kept(server, local):
    name = f"resnet18-{SHA256[:8]}.pth"
    server.serve(f"/{name}", CONTENT, {"x-goog-hash": f"md5={md5(CONTENT)}"})
    assert local(f"{server.url}/{name}#sha256={SHA256.upper()}").read_bytes() == CONTENT


def test_a_day_in_a_name_is_no_checksum(server, local):
    server.serve("/vit-20230517.pth", CONTENT)
    assert local(f"{server.url}/vit-20230517.pth").read_bytes() == CONTENT


def test_a_checksum_that_is_given_is_compared_with_a_kept_file_too(server, local, refused):
    server.serve("/w.npz", CONTENT)
    path = local(f"{server.url}/w.npz")
    refused(f"{server.url}/w.npz#sha256={OTHER}", f"{path} (from the cache)", "its sha256 is")
    assert local(f"{server.url}/w.npz#sha256={SHA256}") == path
    refused(f"{server.url}/w.npz#crc=12", "must be sha256=... or md5=...")
    refused(f"{server.url}/w.npz#sha256=xyz", "must be sha256=... or md5=...")


# ------------------------------------------------------------------------------------ at once


def test_of_many_who_ask_at_once_one_fetches(server, said):
    server.serve("/w.npz", CONTENT, {"ETag": '"v1"'}, breaks=[200_000])
    found = []

    def ask():
        found.append(fetching.local(f"{server.url}/w.npz", say=said.append, progress=False))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in found] == [CONTENT] * 4
    assert len(server.gets()) == 2  # the broken one, and the rest


def test_who_waits_for_another_is_told(server, here, said):
    url = f"{server.url}/w.npz"
    server.serve("/w.npz", CONTENT)
    path = fetching._Fetcher(url, here / "cache", False, print, False).place(url)
    lock = download._lock(path, here / "cache" / ".locks")
    lock.parent.mkdir(parents=True)
    with download._alone(lock, print):
        thread = threading.Thread(
            target=fetching.local, args=(url,), kwargs={"say": said.append, "progress": False}
        )
        thread.start()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        assert said == ["Another process is downloading the same file; waiting for it"]
        assert server.requests == []
    thread.join()
    assert path.read_bytes() == CONTENT


def test_a_file_is_on_the_disk_before_it_has_its_name(server, local, monkeypatch):
    order = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: order.append("fsync") or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *paths: order.append("replace") or rename(*paths))
    server.serve("/w.npz", CONTENT)
    assert local(f"{server.url}/w.npz").read_bytes() == CONTENT
    assert order[-2:] == ["fsync", "replace"]


def test_the_bar_counts_what_came(server, capsys, monkeypatch):
    server.serve("/w.npz", CONTENT)
    shown = []
    real = download.tqdm

    def watched(**keywords):
        shown.append(keywords)
        return real(**{**keywords, "disable": False})

    monkeypatch.setattr(download, "tqdm", watched)
    fetching.local(f"{server.url}/w.npz", say=print)
    assert (shown[0]["total"], shown[0]["desc"], shown[0]["disable"]) == (300_000, "w.npz", None)
    out, err = capsys.readouterr()
    assert "w.npz: 100%" in err
    assert out.startswith(f"Downloading {server.url}/w.npz to ")


# ------------------------------------------------------------------------------- Hugging Face


class Hub:
    """Repositories of one revision, served as Hugging Face does."""

    commit = "c" * 40

    def __init__(self, server):
        self.server = server

    def add(
        self,
        repo: str,
        repo_files: dict[str, bytes],
        digests: dict | None = None,
        sizes: dict | None = None,
    ) -> None:
        listed = []
        for name, content in repo_files.items():
            digest = (digests or {}).get(name, hashlib.sha256(content).hexdigest())
            headers = {"X-Repo-Commit": self.commit, "ETag": f'"{digest}"'}
            listed.append({"rfilename": name, "size": (sizes or {}).get(name, len(content))})
            for revision in ("main", self.commit):
                self.server.serve(f"/{repo}/resolve/{revision}/{name}", content, headers)
        told = {"id": repo, "sha": self.commit, "siblings": listed}
        for path in (f"/api/models/{repo}", f"/api/models/{repo}/revision/{self.commit}"):
            headers = {"Content-Type": "application/json"}
            self.server.serve(path, json.dumps(told).encode(), headers)


@pytest.fixture
def hub(server, here, monkeypatch):
    library = pytest.importorskip("huggingface_hub")
    pytest.importorskip("huggingface_hub.constants")
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(library.constants, "ENDPOINT", server.url)
    monkeypatch.setattr(library.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(library.constants, "HF_HUB_CACHE", str(here / "hub"))
    return Hub(server)


def test_of_a_repository_the_best_file_is_taken_and_kept(hub, local, server):
    hub.add("a/b", {"pytorch_model.bin": b"old", "model.safetensors": CONTENT, "config.json": b""})
    path = local("hf:a/b")
    assert (path.name, path.read_bytes()) == ("model.safetensors", CONTENT)
    assert not [r for r in server.requests if r[1].endswith("pytorch_model.bin")]
    server.requests.clear()
    assert local("hf:a/b", offline=True) == path
    assert server.requests == []


def test_a_file_of_a_repository_may_be_too_large(hub, refused, local, monkeypatch, server):
    hub.add("a/b", {"model.safetensors": CONTENT}, sizes={"model.safetensors": 10**12})
    refused("hf:a/b", "hf:a/b:model.safetensors: has more than 100 GB", "VITJAX_DOWNLOAD_GB")
    assert not [path for path, _ in server.gets() if "resolve" in path]
    monkeypatch.setenv("VITJAX_DOWNLOAD_GB", "2000")
    assert local("hf:a/b").read_bytes() == CONTENT


def test_what_lies_beside_the_weights_comes_with_them(hub, local, server):
    card = {"config.json": b'{"model_type": "vit"}', "preprocessor_config.json": b"{}"}
    hub.add("a/b", {"model.safetensors": CONTENT, "vocabulary.json": b"", **card})
    path = local("hf:a/b")
    assert {name: (path.parent / name).read_bytes() for name in card} == card
    assert not (path.parent / "vocabulary.json").exists()


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({"a": "../x"}, "lists files that are not beside it"),
        ({"a": ""}, "lists files that are not beside it"),
        ({"a": 1}, "no index of weights"),
        ({"a": "", "b": 2}, "no index of weights"),
        ([], "no index of weights"),
    ],
)
def test_an_index_that_lists_no_files_beside_it_is_refused(hub, refused, places, words):
    name = "model.safetensors.index.json"
    hub.add("a/b", {name: json.dumps({"weight_map": places}).encode()})
    refused("hf:a/b", words)


def test_a_repository_is_kept_where_the_argument_says(hub, local, here):
    hub.add("a/b", {"model.safetensors": CONTENT})
    path = local("hf:a/b", cache=here / "other")
    assert path.is_relative_to(here / "other" / "huggingface")
    assert not (here / "hub").exists()


def test_a_file_of_a_repository_can_be_named_and_a_revision(hub, local, refused):
    hub.add("a/b", {"x/one.npz": b"1", "two.npz": b"2", "notes.txt": b""})
    refused("hf:a/b", "has 2 files of weights", "hf:a/b:FILE: two.npz, x/one.npz")
    assert local("hf:a/b:x/one.npz").read_bytes() == b"1"
    assert local(f"hf:a/b@{hub.commit}:two.npz").read_bytes() == b"2"
    refused("hf:a/b:two.npy", "has no file 'two.npy'; did you mean 'two.npz'?")


def test_the_only_file_of_weights_is_taken_whatever_its_name(hub, local, refused):
    hub.add("a/b", {"odd.pth": b"1", "readme.md": b""})
    assert local("hf:a/b").name == "odd.pth"
    hub.add("a/c", {"readme.md": b"", "flax_model.msgpack": b""})
    refused("hf:a/c", "has no file of weights (it has readme.md, flax_model.msgpack)")


@pytest.mark.parametrize("folder", ["", "part/"])
def test_a_repository_of_several_files_is_fetched_whole(folder, hub, local, here):
    arrays = {name: np.full(2, number) for number, name in enumerate("abc")}
    repo_files = {}
    for name, array in arrays.items():
        files.write(here / "shard.safetensors", {name: array})
        repo_files[f"{folder}model-{name}.safetensors"] = (here / "shard.safetensors").read_bytes()
    index = {"weight_map": {name: f"model-{name}.safetensors" for name in arrays}}
    repo_files[f"{folder}model.safetensors.index.json"] = json.dumps(index).encode()
    hub.add("a/b", repo_files)
    for offline in (False, True):
        named = f":{folder}model.safetensors.index.json" if folder else ""
        found = files.read(local(f"hf:a/b{named}", offline=offline))
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in arrays.items()
        }


def test_a_file_whose_name_in_the_cache_its_content_contradicts_is_not_kept(hub, refused, here):
    hub.add("a/b", {"model.safetensors": CONTENT}, {"model.safetensors": OTHER})
    refused("hf:a/b", "hf:a/b:model.safetensors: is not the expected file", SHA256, OTHER)
    assert not [name for name in left(here / "hub") if name in (OTHER, "model.safetensors")]


def test_what_the_hub_does_not_have_is_told_in_words(hub, server, refused):
    missing = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
    server.serve("/api/models/a/none", headers=missing, status=404)
    refused("hf:a/none", "hf:a/none: the repository does not exist", "HF_TOKEN")
    missing = {"X-Error-Code": "RevisionNotFound"}
    server.serve("/api/models/a/b/revision/v9", headers=missing, status=404)
    refused("hf:a/b@v9", "hf:a/b@v9: has no revision 'v9'")


def test_without_a_network_the_cache_serves_or_the_message_says_how_to_fill_it(
    hub, local, refused, server, said, here, monkeypatch
):
    hub.add("a/b", {"model.safetensors": CONTENT})
    path = local("hf:a/b")
    server.pages.clear()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        library = pytest.importorskip("huggingface_hub")
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setattr(library.constants, "ENDPOINT", gone)
        assert local("hf:a/b") == path
        assert "cannot be reached" in said[-1]
        folder = here / "hub" / "models--c--d"
        refused("hf:c/d", "is not on this machine", "/c/d/resolve/main/model.safetensors elsewhere")
        refused("hf:c/d", "offline", f"copy the folder {folder}", offline=True)
        refused("hf:a/b:other.npz", "other.npz elsewhere", offline=True)
        monkeypatch.setattr(library.constants, "HF_HUB_OFFLINE", True)
        assert local("hf:a/b") == path


def test_without_the_library_the_message_says_what_to_install(refused, monkeypatch):
    from vitjax.weights.fetch import hub

    monkeypatch.setattr(hub, "huggingface_hub", None)
    refused("hf:a/b", "requires the library huggingface_hub: pip install 'vitjax[hub]'")
