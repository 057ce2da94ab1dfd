"""Fetching from a site that is made here: sound, breaking off, forgetful, wrong or hostile.

One file, because every test needs the same site.
"""

import hashlib
import io
import itertools
import json
import shutil
import tarfile
import threading
import zipfile
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from brodmann.core import BrodmannError, DataError, OutputError, RecipeError
from brodmann.datasets import download as downloading
from brodmann.datasets import fetch as fetching
from brodmann.datasets.download import download
from brodmann.datasets.fetch import fetch
from brodmann.datasets.remote import as_folder
from brodmann.datasets.unpack import safe_name, unpack

FILES = {
    "images/a.tif": bytes(range(256)) * 4000,
    "labels/a.tif": b"labels" * 50,
    "regions.csv": b"id\n",
}


def sha(content):
    return hashlib.sha256(content).hexdigest()


class Site(SimpleHTTPRequestHandler):
    """Serves `folder`. `faults`: path -> a status or some in turn, an address to lead to, what
    is left of a body (a callable), "no length", "chunked" or "half chunked"."""

    def __init__(self, *args):
        super().__init__(*args, directory=str(self.folder))

    def do_GET(self):
        path = self.path.lstrip("/")
        wanted = self.headers.get("Range")
        self.asked.append((path, wanted))
        fault, file = self.faults.get(path), self.folder / path
        if isinstance(fault, list):
            fault = fault.pop(0) if fault else None
        if isinstance(fault, int):
            self.send_error(fault)
        elif isinstance(fault, str) and fault.startswith(("http", "f")):
            self.send_response(302)
            self.send_header("Location", fault)
            self.end_headers()
        elif not file.is_file():
            super().do_GET()
        else:
            self.send_file(file.read_bytes(), wanted, fault)

    def send_file(self, body, wanted, fault):
        tag, begin = f'"{sha(body)[:16]}"', 0
        if wanted and self.ranges and self.headers.get("If-Range", tag) == tag:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if self.tagged:
            self.send_header("ETag", tag)
        rest = body[begin:]
        if str(fault).endswith("chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            rest = b"%x\r\n%s\r\n" % (len(rest), rest) + b"0\r\n\r\n"
            rest = rest[: len(rest) // 2] if fault == "half chunked" else rest
        elif fault != "no length":
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(rest[: fault(len(rest))] if callable(fault) else rest)

    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "WAIT_S", 0.002)
    monkeypatch.setenv("no_proxy", "*")
    own = {"folder": tmp_path / "site", "faults": {}, "asked": [], "ranges": True, "tagged": True}
    handler = type("Here", (Site,), own)
    handler.folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True)
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}/"
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def put(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def contents(folder):
    files = (file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in files
        if file.name != "fetched.json"
    }


def sums(files):
    return "".join(f"{sha(content)}  {name}\n" for name, content in files.items()).encode()


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


class TestOneFile:
    body = bytes(range(256)) * 20_000  # 5 MB, several blocks

    @pytest.fixture(autouse=True)
    def file(self, site):
        put(site.folder, {"a.zip": self.body})

    def test_whole(self, site, tmp_path):
        seen = []
        found = download(site.url + "a.zip", tmp_path / "a", tick=lambda *n: seen.append(n))
        assert found == sha(self.body)
        assert (tmp_path / "a").read_bytes() == self.body
        assert seen[-1] == (len(self.body), len(self.body))
        assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "site"]

    def test_goes_on_by_range_where_it_broke_off(self, site, tmp_path):
        site.faults["a.zip"] = lambda left: min(left, 2_000_000)
        assert download(site.url + "a.zip", tmp_path / "a") == sha(self.body)
        ranges = [wanted for _, wanted in site.asked]
        assert ranges == [None, "bytes=2000000-", "bytes=4000000-"]

    def test_a_site_without_ranges_is_asked_again_from_the_beginning(self, site, tmp_path):
        site.ranges, tries = False, itertools.count()
        site.faults["a.zip"] = lambda left: left if next(tries) == 2 else 1_000_000
        assert download(site.url + "a.zip", tmp_path / "a") == sha(self.body)
        assert (tmp_path / "a").read_bytes() == self.body

    def test_half_an_answer_is_never_kept_as_whole_and_the_next_call_goes_on(self, site, tmp_path):
        broken = itertools.chain([3_000_000], itertools.repeat(0))
        site.faults["a.zip"] = lambda left: next(broken)
        with pytest.raises(DataError, match=r"keeps breaking off.*3,000,000 of 5,120,000") as e:
            download(site.url + "a.zip", tmp_path / "a")
        assert "goes on from here" in one_line(e)
        assert not (tmp_path / "a").exists()
        site.faults.clear()
        site.asked.clear()
        assert download(site.url + "a.zip", tmp_path / "a") == sha(self.body)
        assert site.asked == [("a.zip", "bytes=3000000-")]

    @pytest.mark.parametrize("tagged", [True, False])
    def test_a_part_of_another_version_is_not_gone_on_with(self, site, tmp_path, tagged):
        site.tagged = tagged
        broken = itertools.chain([3_000_000], itertools.repeat(0))
        site.faults["a.zip"] = lambda left: next(broken)
        with pytest.raises(DataError):
            download(site.url + "a.zip", tmp_path / "a")
        site.faults.clear()
        new = self.body[::-1]
        put(site.folder, {"a.zip": new})
        # Without a tag only the checksum can tell; with one the site does.
        assert download(site.url + "a.zip", tmp_path / "a", sha(new)) == sha(new)
        assert (tmp_path / "a").read_bytes() == new

    def test_wrong_checksum(self, site, tmp_path):
        with pytest.raises(DataError, match=f"wrong checksum.*{sha(self.body)}") as error:
            download(site.url + "a.zip", tmp_path / "a", "0" * 64)
        one_line(error)
        assert [file.name for file in tmp_path.iterdir()] == ["site"]

    def test_a_busy_site_is_asked_again(self, site, tmp_path):
        site.faults["a.zip"] = [503, 429, 500]
        assert download(site.url + "a.zip", tmp_path / "a") == sha(self.body)
        assert len(site.asked) == 4

    @pytest.mark.parametrize("status", [403, 404])
    def test_a_refusal_is_final(self, site, tmp_path, status):
        site.faults["a.zip"] = status
        with pytest.raises(DataError, match=f"HTTP {status}"):
            download(site.url + "a.zip", tmp_path / "a")
        assert len(site.asked) == 1

    def test_an_answer_of_unknown_length_is_refused(self, site, tmp_path):
        site.faults["a.zip"] = "no length"
        with pytest.raises(DataError, match="how long"):
            download(site.url + "a.zip", tmp_path / "a")

    def test_an_answer_in_chunks(self, site, tmp_path):
        site.ranges = False
        site.faults["a.zip"] = "chunked"
        assert download(site.url + "a.zip", tmp_path / "a") == sha(self.body)
        site.faults["a.zip"] = "half chunked"
        with pytest.raises(DataError, match="keeps breaking off"):
            download(site.url + "a.zip", tmp_path / "b")
        assert not (tmp_path / "b").exists()

    def test_redirects_lead_to_http_only(self, site, tmp_path):
        site.faults["b.zip"] = site.url + "a.zip"
        assert download(site.url + "b.zip", tmp_path / "b") == sha(self.body)
        for elsewhere in ("file:///etc/passwd", "ftp://127.0.0.1/a.zip"):
            site.faults["c.zip"] = elsewhere
            with pytest.raises(DataError, match=r"not safe|not allowed"):
                download(site.url + "c.zip", tmp_path / "c")

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b", "a.zip", "http://"])
    def test_other_addresses_are_refused(self, url, tmp_path):
        with pytest.raises(DataError, match="address"):
            download(url, tmp_path / "a")

    def test_a_full_disk_is_told_before(self, site, tmp_path, monkeypatch):
        usage = shutil.disk_usage(tmp_path)._replace(free=2**26 + 1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(OutputError, match="too full"):
            download(site.url + "a.zip", tmp_path / "a")


def test_unreachable(monkeypatch, out):
    monkeypatch.setattr(downloading, "WAIT_S", 0.002)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DataError, match="cannot get an answer") as error:
        fetch("dmbm", out, "http://127.0.0.1:9/")
    one_line(error)


class TestSet:
    def test_files_named_by_the_sites_checksums(self, site, out):
        put(site.folder, FILES | {"SHA256SUMS": sums(FILES), "other.tif": b"not listed"})
        got = fetch("dmbm", out, site.url)
        assert (got["checksums"], got["files"], got["fetched"]) == ("published", 3, 3)
        assert got["bytes"] == sum(map(len, FILES.values()))
        assert contents(out) == FILES

    def test_an_archive_that_a_page_links_to(self, site, out):
        page = (
            b'<a href="data/DMBM.zip">all</a> <a href="/up.zip">x</a> <a href="https://b.c">y</a>'
        )
        put(site.folder / "set", {"index.html": page, "data/DMBM.zip": zipped(FILES)})
        got = fetch("dmbm", out, site.url + "set")
        assert got["checksums"] == "recorded" and "gives no checksums" in got["vouched"]
        assert contents(out) == {f"data/{name}": content for name, content in FILES.items()}
        kept = json.loads((out / "fetched.json").read_text())
        assert kept["complete"] and list(kept["sources"]) == ["data/DMBM.zip"]

    def test_a_listing_with_folders(self, site, out):
        put(site.folder, FILES)
        assert fetch("dmbm", out, site.url)["checksums"] == "recorded"
        assert contents(out) == FILES

    def test_again_checks_and_fetches_only_what_is_missing(self, site, out):
        put(site.folder, FILES)
        fetch("dmbm", out, site.url)
        site.asked.clear()
        got = fetch("dmbm", out, site.url)
        assert (got["checksums"], got["fetched"], site.asked) == ("verified", 0, [])
        (out / "labels/a.tif").unlink()
        assert fetch("dmbm", out)["fetched"] == 1  # from where it came
        with pytest.raises(OutputError, match="another set"):
            fetch("dmbm", out, site.url + "elsewhere")
        assert contents(out) == FILES
        (out / "labels/a.tif").write_bytes(b"labelz" * 50)
        with pytest.raises(DataError, match=r"not as it was fetched .*labels/a\.tif"):
            fetch("dmbm", out, site.url)

    def test_what_is_fetched_again_must_be_what_it_was(self, site, out):
        put(site.folder, FILES)
        fetch("dmbm", out, site.url)
        (out / "regions.csv").unlink()
        put(site.folder, {"regions.csv": b"other\n"})
        with pytest.raises(DataError, match="wrong checksum"):
            fetch("dmbm", out, site.url)
        assert not (out / "regions.csv").exists()

    def test_stopped_work_goes_on(self, site, out):
        put(site.folder, FILES | {"SHA256SUMS": sums(FILES)})
        site.faults["regions.csv"] = 404
        with pytest.raises(DataError, match="HTTP 404"):
            fetch("dmbm", out, site.url)
        site.faults.clear()
        site.asked.clear()
        assert fetch("dmbm", out, site.url)["fetched"] == 1
        assert [path for path, _ in site.asked] == ["SHA256SUMS", "regions.csv"]
        assert contents(out) == FILES

    def test_an_archive_is_not_fetched_again_for_a_stop_while_unpacking(
        self, site, out, monkeypatch
    ):
        put(site.folder, {"a.zip": zipped(FILES)})

        def stop(*args, **options):
            unpack(*args, **options)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(fetching, "unpack", stop)
            fetch("dmbm", out, site.url)
        assert not (out / "images").exists()
        site.asked.clear()
        assert fetch("dmbm", out, site.url)["fetched"] == 1
        assert "a.zip" not in dict(site.asked)
        assert contents(out) == FILES

    def test_given_checksums(self, site, out, tmp_path):
        put(site.folder, {"DMBM.zip": zipped(FILES)})
        given = tmp_path / "sums"
        given.write_bytes(sums({"DMBM.zip": zipped(FILES)}))
        url = site.url + "DMBM.zip"
        assert fetch("dmbm", out, url, given)["checksums"] == "given"
        assert contents(out) == FILES
        assert fetch("dmbm", out, url, sha(zipped(FILES)))["fetched"] == 0
        with pytest.raises(DataError, match="not that of the file fetched before"):
            fetch("dmbm", out, url, "1" * 64)
        with pytest.raises(DataError, match="wrong checksum"):
            fetch("dmbm", tmp_path / "new", url, "1" * 64)
        assert contents(tmp_path / "new") == {}

    def test_faults_of_what_is_asked_for(self, site, out, tmp_path):
        put(site.folder, FILES)
        (tmp_path / "bad").write_text("what\n")
        faults = [
            ({"name": "dmbn"}, RecipeError, "did you mean 'dmbm'"),
            ({"sha256": "abc"}, RecipeError, "64 hexadecimal"),
            ({"sha256": "0" * 64}, RecipeError, "one checksum is for one file"),
            ({"sha256": tmp_path / "bad"}, DataError, "bad line 1"),
            ({"url": site.url + "none/"}, DataError, "no such page"),
        ]
        for options, kind, words in faults:
            with pytest.raises(kind, match=words) as error:
                fetch(**({"name": "dmbm", "out": out, "url": site.url} | options))
            one_line(error)
        assert contents(out) == {}

    def test_a_folder_of_other_files_is_left_alone(self, site, out):
        put(site.folder, FILES)
        put(out, {"mine.txt": b"mine"})
        with pytest.raises(OutputError, match=r"mine\.txt"):
            fetch("dmbm", out, site.url)
        assert contents(out) == {"mine.txt": b"mine"}

    def test_forbidden_stands_for_no_checksums(self, site, out):
        put(site.folder, FILES)
        site.faults["SHA256SUMS"] = 403
        assert fetch("dmbm", out, site.url)["checksums"] == "recorded"

    def test_a_page_that_links_elsewhere(self, site, out):
        put(site.folder, {"index.html": b'<a href="https://a.org/DMBM.zip">here</a>'})
        with pytest.raises(DataError, match=r"https://a\.org/DMBM\.zip.*--url"):
            fetch("dmbm", out, site.url)

    def test_a_damaged_archive_leaves_nothing(self, site, out):
        body = bytearray(zipped(FILES))
        body[60] ^= 255
        put(site.folder, {"a.zip": bytes(body)})
        with pytest.raises(DataError, match="damaged"):
            fetch("dmbm", out, site.url)
        assert not (out / "images").exists()

    def test_hostile_names_in_checksums_are_refused(self, site, out):
        put(site.folder, {"SHA256SUMS": b"0" * 64 + b"  ../../evil.tif\n"})
        with pytest.raises(DataError, match="not safe"):
            fetch("dmbm", out, site.url)

    def test_a_record_is_not_replaced_by_an_archive(self, site, out):
        put(site.folder, {"a.zip": zipped({"fetched.json": b"{}"})})
        with pytest.raises(DataError, match="other use"):
            fetch("dmbm", out, site.url)


def test_addresses():
    assert as_folder("https://a.org/set/index.html#top") == "https://a.org/set/"


class TestUnpack:
    def archive(self, tmp_path, files, name="a.zip"):
        (tmp_path / name).write_bytes(zipped(files))
        return tmp_path / name

    def refused(self, archive, words, **options):
        target = archive.parent / "into"
        with pytest.raises(BrodmannError, match=words) as error:
            unpack(archive, target, **options)
        one_line(error)
        assert not target.exists()
        assert not (archive.parent / "evil").exists()

    @pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
    def test_both_kinds(self, tmp_path, kind):
        archive = self.archive(tmp_path, FILES | {"__MACOSX/._a": b"junk"})
        if kind != "zip":
            archive = tmp_path / f"a.{kind}"
            with tarfile.open(archive, "w:" + kind.partition(".")[2]) as tar:
                for name, content in FILES.items():
                    member = tarfile.TarInfo("./" + name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        kept = unpack(archive, tmp_path / "into")
        assert contents(tmp_path / "into") == FILES
        assert {name: one["sha256"] for name, one in kept.items()} == {
            name: sha(content) for name, content in FILES.items()
        }

    @pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "C:/evil", "a\\evil"])
    def test_names_that_lead_out(self, tmp_path, name):
        self.refused(self.archive(tmp_path, {"good.tif": b"1", name: b"2"}), "not safe")
        with pytest.raises(DataError, match="not safe"):
            safe_name(name, "here")

    def test_tar_names_and_links(self, tmp_path):
        for name, kind, words in (
            ("../evil", tarfile.REGTYPE, "not safe"),
            ("link", tarfile.SYMTYPE, "link or device"),
            ("hard", tarfile.LNKTYPE, "link or device"),
            ("pipe", tarfile.FIFOTYPE, "link or device"),
        ):
            with tarfile.open(tmp_path / "a.tar", "w") as tar:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, "/etc/passwd"
                tar.addfile(member, io.BytesIO())
            self.refused(tmp_path / "a.tar", words)

    def test_links_in_a_zip(self, tmp_path):
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(info, "/etc/passwd")
        self.refused(tmp_path / "a.zip", "link")

    def test_bounds(self, tmp_path, monkeypatch):
        bomb = self.archive(tmp_path, {"zeros": bytes(10**7)})
        assert bomb.stat().st_size < 20_000
        self.refused(bomb, "more than is allowed", max_bytes=10**6)
        usage = shutil.disk_usage(tmp_path)._replace(free=10**7)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        self.refused(bomb, "too full")

    def test_two_files_of_one_name(self, tmp_path):
        self.refused(self.archive(tmp_path, {"a.tif": b"1", "A.tif": b"2"}), "one name")

    @pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
    def test_no_archive_at_all(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"<html>sorry</html>")
        self.refused(tmp_path / name, "damaged")

    def test_cut_short(self, tmp_path):
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            member = tarfile.TarInfo("a")
            member.size = 10**6
            tar.addfile(member, io.BytesIO(bytes(10**6)))
        whole = (tmp_path / "a.tar").read_bytes()
        (tmp_path / "a.tar").write_bytes(whole[:500_000])
        self.refused(tmp_path / "a.tar", "damaged|shorter")

    @pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
    def test_a_flipped_bit(self, tmp_path, kind):
        archive = tmp_path / f"a.tar.{kind}"
        with tarfile.open(archive, f"w:{kind}") as tar:
            member = tarfile.TarInfo("a")
            body = bytes(itertools.islice(itertools.cycle(range(251)), 10**5))
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
        damaged = bytearray(archive.read_bytes())
        damaged[len(damaged) // 2] ^= 4
        archive.write_bytes(damaged)
        self.refused(archive, "damaged")
