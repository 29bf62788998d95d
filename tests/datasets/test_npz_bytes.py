"""NPZ files in memory: what numpy reads, and nothing that is damaged."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from echogen.datasets.npz_bytes import arrays_of

kinds = st.sampled_from(["u1", "<f4", ">i2", "<f8", "?", "<U5", "S3"])
some = st.dictionaries(
    st.sampled_from(["frames", "times_s", "a.b"]),
    kinds.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0))),
)


def packed(arrays, compress):
    stream = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(stream, **arrays)
    return stream.getvalue()


@given(arrays=some, compress=st.booleans(), by_columns=st.booleans(), spare=st.integers(0, 7))
def test_arrays_are_those_that_numpy_reads(arrays, compress, by_columns, spare):
    content = packed({name: np.asfortranarray(array) if by_columns else array for name, array in arrays.items()}, compress)
    # Anywhere in memory that can be written to, as a shard is read.
    memory = np.frombuffer(bytes(spare) + content, np.uint8).copy().data[spare:]
    found = arrays_of(memory)
    with np.load(io.BytesIO(content)) as theirs:
        assert set(found) == set(theirs.files)
        for name, array in found.items():
            np.testing.assert_array_equal(array, theirs[name])
            assert (array.dtype, array.shape) == (theirs[name].dtype, theirs[name].shape)
            assert array.flags.aligned
            assert array.flags.writeable


@given(compress=st.booleans(), data=st.data())
def test_no_damage_is_taken_for_data(compress, data):
    frames = np.arange(3000, dtype=np.uint16).view(np.uint8) ** 2
    content = bytearray(packed({"frames": frames, "times_s": np.arange(5) / 25}, compress))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = arrays_of(content)
    except Exception:
        return
    np.testing.assert_array_equal(found.get("frames", frames), frames)
    np.testing.assert_array_equal(found.get("times_s", np.arange(5) / 25), np.arange(5) / 25)


def test_what_is_no_plain_array_is_refused():
    for array in (np.array([{}], dtype=object), np.array([(1, {})], dtype=[("a", "i4"), ("b", "O")])):
        with pytest.raises(ValueError, match="plain values"):
            arrays_of(packed({"a": array}, False))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", b"\x93NUMPY")
    with pytest.raises(ValueError, match="another way"):
        arrays_of(stream.getvalue())
    for content in (b"", b"PK", packed({"a": np.zeros(9)}, True)[:-30]):
        with pytest.raises(zipfile.BadZipFile):
            arrays_of(content)


def test_more_than_is_stated_is_not_unpacked():
    """A member that would unpack to 64 MB, stated as 100 bytes."""
    content = packed({"a": np.zeros(64 << 20, np.uint8)}, True)
    stated = (64 << 20) + 128
    for place in (where for where in range(len(content)) if content.startswith(stated.to_bytes(4, "little"), where)):
        content = content[:place] + (100).to_bytes(4, "little") + content[place + 4 :]
    with pytest.raises(ValueError, match=r"different|lvalue|damaged"):
        arrays_of(content)
