"""Damaged files of every ECG and echo format, and shards, are read or refused in one sentence; nothing else happens."""

import warnings

import numpy as np
import pytest

from echogen.testing.fuzz import KINDS, corpus_module
from echogen.testing.fuzz.attempts import Audit, attempt
from echogen.testing.fuzz.damage import damaged


@pytest.fixture(scope="module", params=["ecg", "echo"])
def kind(request):
    """The module that makes and reads the files of a kind, the files, and what half of them are read with.

    Made here and, where they are at hand, real: small ones, so that many can be tried.
    """
    made = corpus_module(request.param)
    corpus = {name: files for name, files in made.corpus().items() if sum(map(len, files.values())) < 200_000}
    return made, corpus, KINDS[request.param].stated


def outcomes(folder, kind, first, last):
    """(index, name, outcome, said) of each file that is neither read nor refused, and how often each of these happened."""
    made, corpus, stated = kind
    strange, usual = [], {"read": 0, "refused": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index in range(first, last):
            name, files, arguments = damaged(corpus, 1, index, stated)
            outcome, said = attempt(folder, files, arguments, read=made.read)
            if outcome in usual:
                usual[outcome] += 1
            else:
                strange.append((index, name, outcome, said))
    return strange, usual


def test_every_undamaged_file_made_here_is_read(tmp_path, kind):
    made, corpus, stated = kind
    for name, files in corpus.items():
        if "/" not in name:
            needs = stated if name in ("NPY", "CSV", "Pickle") else {}
            assert attempt(tmp_path, files, needs, read=made.read) == ("read", ""), name


def test_damaged_files_are_read_or_refused(tmp_path, kind):
    strange, usual = outcomes(tmp_path, kind, 0, 400)
    assert not strange
    # The damage is neither harmless nor hopeless.
    assert min(usual.values()) > 40


@pytest.mark.slow
def test_many_damaged_files_are_read_or_refused(tmp_path, kind):
    strange, _ = outcomes(tmp_path, kind, 400, 20_000)
    assert not strange


def test_the_same_number_makes_the_same_file(kind):
    made, corpus, stated = kind
    again = made.corpus()
    assert {name: again[name] for name in corpus} == corpus
    assert damaged(corpus, 3, 17, stated) == damaged(corpus, 3, 17, stated)
    assert damaged(corpus, 4, 17, stated)[1] != damaged(corpus, 3, 17, stated)[1]


def test_the_drawn_ecg_among_them_is_found(tmp_path, kind):
    from echogen import read_study

    drawn = [files for name, files in kind[1].items() if name.startswith("Drawn ECG")]
    for files in drawn:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        assert read_study(tmp_path / next(iter(files))).ecg is not None


def test_the_audit_sees_what_is_written(tmp_path):
    audit = Audit()
    audit.on = True
    (tmp_path / "a").write_bytes(b"x")
    np.zeros(3).tofile(tmp_path / "b")
    (tmp_path / "a").unlink()
    (tmp_path / "b").read_bytes()
    audit.on = False
    assert [what.split()[0] for what in audit.seen] == ["open", "open", "os.remove"]
