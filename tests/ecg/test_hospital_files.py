"""SCP-ECG, HL7 aECG, MUSE and Philips: what small writers write comes back to the last count, and real files agree."""

import base64

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echogen import InputError
from echogen.ecg import ecg_info, find_landmarks, read_ecg
from echogen.ecg.scp import stored_samples, undecimate
from echogen.ecg.scp_huffman import HuffmanTable, decode, default_codes
from echogen.testing import ecg_files as w

writes_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def read_bytes(folder, name, data, **arguments):
    path = folder / name
    path.write_bytes(data)
    return read_ecg(path, **arguments)


def refused(folder, name, data, *words):
    with pytest.raises(InputError) as caught:
        read_bytes(folder, name, data)
    message = str(caught.value)
    assert message.endswith(".")
    for word in words:
        assert word in message, message


def assert_counts(ecg, leads, mv_per_count):
    """Every lead holds these counts, to the last one."""
    assert set(leads) <= set(ecg.lead_names)
    for name, counts in leads.items():
        assert ecg.lead(name).size == counts.size
        np.testing.assert_array_equal(np.rint(ecg.lead(name) / mv_per_count), counts, err_msg=name)
        np.testing.assert_allclose(ecg.lead(name), counts * mv_per_count, rtol=1e-6, atol=1e-9)


# What is written comes back.


@writes_files
@given(seeds, st.integers(20, 700), st.integers(0, 2), st.sampled_from(["raw", "default", "tables"]), st.integers(1, 12))
def test_scp_comes_back(tmp_path, seed, samples, order, coding, count):
    leads = w.beats(w.TWELVE[:count], samples, seed)
    tables = {"raw": None, "default": (w.DEFAULT_CODES,), "tables": w.TWO_TABLES}[coding]
    data = w.scp(leads, order=order, tables=tables, switch_every=seed % 5, interval_us=1000, nanovolts=1250)
    ecg = read_bytes(tmp_path, "made.scp", data)
    assert ecg.rate_hz == 1000
    assert ecg.lead_names == w.TWELVE[:count]
    assert_counts(ecg, leads, 1.25e-3)


def test_scp_is_recognised_without_its_name_and_checksums(tmp_path):
    leads = w.beats(w.TWELVE, 600)
    data = w.scp(leads, checksums=False).replace(b"SCPECG", bytes(6))
    assert_counts(read_bytes(tmp_path, "old.ecg", data), leads, 2.5e-3)


def test_scp_leads_that_start_later_lie_on_one_clock(tmp_path):
    leads = w.beats(("I", "V1"), 500)
    ecg = read_bytes(tmp_path, "late.scp", w.scp(leads, starts={"I": 11, "V1": 61}), start_s=0.1, seconds=0.9)
    np.testing.assert_allclose(ecg.lead("I"), leads["I"][50:] * 2.5e-3, atol=1e-6)
    np.testing.assert_allclose(ecg.lead("V1"), leads["V1"][:450] * 2.5e-3, atol=1e-6)


@writes_files
@given(seeds, st.integers(0, 2), st.booleans(), st.integers(1, 60))
def test_reference_beats_are_added_again(tmp_path, seed, order, coded, fiducial):
    """Beats lie partly outside the recording, too; the reference has another amplitude multiplier."""
    whole = w.beats(w.TWELVE, 900, seed)
    reference = w.beats(w.TWELVE, 120, seed + 1, top=300)
    # First sample, trigger and last sample of each beat, from 1.
    rows = [(0, 1, fiducial // 2 + 1, 100), (1, 150, 160, 170), (0, 301, 300 + fiducial, 420), (0, 801, 800 + fiducial, 900)]
    residual = {name: 2 * values for name, values in whole.items()}
    for kind, first, trigger, last in rows:
        for sample in range(first, last + 1):
            place = sample - trigger + fiducial - 1
            if kind == 0 and 0 <= place < 120:
                for name in residual:
                    residual[name][sample - 1] -= reference[name][place]
    data = w.scp(
        residual,
        order=order,
        tables=(w.DEFAULT_CODES,) if coded else None,
        nanovolts=1250,
        reference=reference,
        reference_nanovolts=1250,
        beat_ms=240,
        fiducial=fiducial,
        subtracted=rows,
        protected=[(1, 40), (150, 170), (301, 340), (801, 840)],
    )
    assert_counts(read_bytes(tmp_path, "beats.scp", data), whole, 2.5e-3)


@writes_files
@given(seeds, st.lists(st.integers(0, 40), min_size=1, max_size=8), st.sampled_from([2, 4]), st.booleans())
def test_bimodal_recordings_keep_protected_zones_and_group_means(tmp_path, seed, gaps, decimation, subtract):
    """Between protected zones a signal that is straight comes back; within them every sample does."""
    zones, at = [], 0
    for gap in gaps:
        zones.append((at + decimation * gap + 1, at + decimation * gap + 30))
        at = zones[-1][1]
    samples = at + 8 * decimation
    leads = w.beats(("I", "II"), samples, seed, top=400)
    inside = np.zeros(samples, dtype=bool)
    for first, last in zones:
        inside[first - 1 : last] = True
    stored = {}
    for name, values in leads.items():
        values[~inside] = 40
        kept, place = [], 0
        while place < samples:
            step = 1 if inside[place] else decimation
            kept.append(round(np.mean(values[place : place + step])))
            place += step
        stored[name] = np.array(kept)
    rows = [(0, first, first, last) for first, last in zones] if subtract else []
    data = w.scp(
        stored,
        interval_us=2000 * decimation,
        bimodal=True,
        protected=zones,
        subtracted=rows,
        beat_ms=40,
        fiducial=1,
        lasts=dict.fromkeys(stored, samples),
    )
    ecg = read_bytes(tmp_path, "bimodal.scp", data)
    assert ecg.rate_hz == 500
    assert_counts(ecg, leads, 2.5e-3)


def test_undecimation_draws_lines_between_the_middles_of_groups():
    ramp = np.arange(20.0)
    zones = [(8, 12)]
    stored = np.concatenate([ramp[:8].reshape(2, 4).mean(axis=1), ramp[8:12], ramp[12:].reshape(2, 4).mean(axis=1)])
    assert len(stored) == stored_samples(20, zones, 4)
    back = undecimate(stored, 20, zones, 4)
    np.testing.assert_allclose(back[[2, 3, 4, 5, 8, 9, 10, 11, 14, 15, 16]], ramp[[2, 3, 4, 5, 8, 9, 10, 11, 14, 15, 16]])
    np.testing.assert_allclose(back[:2], 1.5)


@given(st.lists(st.integers(-32768, 32767), max_size=300))
def test_the_default_huffman_table_codes_every_16_bit_value(values):
    table = HuffmanTable(default_codes(), "The file")
    data = w.huffman(values, (w.DEFAULT_CODES,))
    assert decode(data, len(values), [table], "The file").tolist() == values


@writes_files
@given(
    seeds,
    st.integers(5, 600),
    st.sampled_from([("0.002", "s"), ("2", "ms"), ("2000", "us")]),
    st.sampled_from(["20021122091000.000", "20021122", "", "ticks"]),
    st.sampled_from(["", "hl7"]),
    st.sampled_from(["utf-8", "utf-16", "iso-8859-1"]),
    st.integers(-200, 200),
)
def test_aecg_comes_back(tmp_path, seed, samples, increment, head, prefix, encoding, origin):
    leads = w.beats(w.TWELVE, samples, seed)
    made = w.aecg_set(
        leads,
        increment=increment[0],
        increment_unit=increment[1],
        head="" if head == "ticks" else head,
        ticks=head == "ticks",
        origin=str(origin * 2.5),
    )
    beat = w.aecg_set(w.beats(w.TWELVE, 2 * samples, seed))
    ecg = read_bytes(tmp_path, "made.xml", w.aecg(made, derived=beat, prefix=prefix, encoding=encoding))
    assert ecg.rate_hz == 500
    assert ecg.lead_names == w.TWELVE
    assert_counts(ecg, {name: counts + origin for name, counts in leads.items()}, 2.5e-3)


def test_aecg_sequence_sets_are_joined_by_their_times(tmp_path):
    leads = w.beats(w.TWELVE, 1000)
    halves = [
        w.aecg_set({name: counts[:500] for name, counts in leads.items()}, head="20240229235959.500"),
        w.aecg_set({name: counts[500:] for name, counts in leads.items()}, head="20240301000000.500+0100"),
    ]
    assert_counts(read_bytes(tmp_path, "halves.xml", w.aecg(*halves)), leads, 2.5e-3)


def test_aecg_in_millivolts_and_eight_leads(tmp_path):
    leads = w.beats(w.EIGHT, 500)
    ecg = read_bytes(tmp_path, "mv.xml", w.aecg(w.aecg_set(leads, scale="0.001", unit="mV", increment="0.001")))
    assert (ecg.rate_hz, ecg.lead_names) == (1000, w.TWELVE)
    assert_counts(ecg, leads, 1e-3)


@writes_files
@given(seeds, st.integers(2, 700), st.sampled_from([(250, 0), (5, 2), (5000, -1)]), st.sampled_from([2, 4]), st.booleans())
def test_muse_comes_back_and_limb_leads_are_derived(tmp_path, seed, samples, rate, size, comma):
    leads = w.beats(w.EIGHT, samples, seed)
    data = w.muse(
        leads,
        median=w.beats(w.EIGHT, 2 * samples, seed),
        base=rate[0],
        exponent=rate[1],
        per_bit="4,88" if comma else "4.88",
        size=size,
    )
    ecg = read_bytes(tmp_path, "made.xml", data)
    assert ecg.lead_names == w.TWELVE
    assert ecg.rate_hz == pytest.approx(rate[0] * 10.0 ** rate[1])
    assert_counts(ecg, leads, 4.88e-3)
    one, two = leads["I"] * 4.88e-3, leads["II"] * 4.88e-3
    for name, derived in {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}.items():
        np.testing.assert_allclose(ecg.lead(name), derived, atol=1e-6)


@writes_files
@given(
    seeds,
    st.integers(3, 700),
    st.sampled_from(["1.03", "1.04"]),
    st.sampled_from([("Base64", "XLI"), ("Hex", "XLI"), ("Base64", ""), ("Hex", ""), ("Plain", "")]),
    st.sampled_from(["utf-8", "utf-16"]),
    st.sampled_from([0, 4, -300]),
    st.booleans(),
)
def test_philips_comes_back(tmp_path, seed, samples, version, stored, charset, offset, single):
    leads = w.beats(w.TWELVE, samples, seed)
    encoding, compression = stored
    data = w.philips(
        leads,
        version=version,
        encoding=encoding,
        compression="" if single else compression,
        charset=charset,
        offset=offset,
        spare_channels=4,
        single=single and version == "1.04",
        resolution="2.5",
    )
    ecg = read_bytes(tmp_path, "made.xml", data)
    assert (ecg.rate_hz, ecg.lead_names) == (500, w.TWELVE)
    assert_counts(ecg, leads, 2.5e-3)


def test_xli_holds_every_16_bit_value(tmp_path):
    random = np.random.default_rng(0)
    leads = {name: random.integers(-32768, 32768, 4000) for name in ("V1", "V2")}
    data = w.philips(leads | {"V3": np.zeros(4000, np.int64)}, resolution="0.05", compression="")
    packed = base64.b64encode(w.xli([*leads.values(), np.zeros(4000, np.int64)])).decode().encode()
    plain = base64.b64encode(np.concatenate([*leads.values(), np.zeros(4000)]).astype("<i2").tobytes())
    ecg = read_bytes(
        tmp_path, "wild.xml", data.replace(plain, packed).replace(b"numberofleads", b'compression="XLI" numberofleads')
    )
    assert_counts(ecg, leads, 5e-5)


def test_the_calibration_mark_of_philips_is_no_beat(tmp_path):
    leads = w.beats(w.TWELVE, 2000)
    for counts in leads.values():
        counts[1800:] = 0
        counts[1850:1950] = 200
    ecg = read_bytes(tmp_path, "mark.xml", w.philips(leads))
    for name, counts in leads.items():
        np.testing.assert_allclose(ecg.lead(name)[:1800], counts[:1800] * 5e-3, atol=1e-6)
        np.testing.assert_allclose(ecg.lead(name)[1800:], counts[1799] * 5e-3, atol=1e-6)


# The user's rate and unit go before the file's.


@pytest.mark.parametrize("kind", ["scp", "aecg", "muse", "philips"])
def test_stated_rate_and_unit_win(tmp_path, kind):
    leads = w.beats(w.TWELVE, 600)
    write = {"scp": w.scp, "muse": w.muse, "philips": w.philips, "aecg": lambda made: w.aecg(w.aecg_set(made))}[kind]
    plain = read_bytes(tmp_path, "file", write(leads))
    path = tmp_path / "file"
    assert read_ecg(path, rate_hz=250.0).rate_hz == 250.0
    # SCP-ECG counts in nV, the others in uV.
    if kind == "scp":
        with pytest.raises(InputError, match="beyond an ECG"):
            read_ecg(path, unit="uV")
    else:
        np.testing.assert_allclose(read_ecg(path, unit="uV").signal_mv, plain.signal_mv, rtol=1e-6)


# What cannot be used is refused in one sentence.


def test_damaged_scp_files(tmp_path):
    leads = w.beats(w.TWELVE, 500)
    data = w.scp(leads)
    refused(tmp_path, "cut.scp", data[:-100], "cut short")
    wrong = bytearray(data)
    wrong[-50] ^= 1
    refused(tmp_path, "flip.scp", bytes(wrong), "checksum of section 6")
    refused(tmp_path, "short.scp", w.scp(leads, lasts=dict.fromkeys(leads, 5000)), "cut short", "5000")
    refused(tmp_path, "long.scp", w.scp(leads, lasts=dict.fromkeys(leads, 2**32 - 1)), "too long")
    refused(tmp_path, "none.scp", w.scp({}), "list of leads")
    refused(tmp_path, "rate.scp", w.scp(leads, bimodal=True, interval_us=3000, protected=[(1, 30)], beat_ms=40), "do not fit")
    overlapping = [(1, 1, 1, 0, 0), (2, 18, 1, 0, 0)]
    refused(tmp_path, "tables.scp", w.scp(leads, tables=(overlapping, w.DEFAULT_CODES)), "Huffman tables")


def test_damaged_xml_files(tmp_path):
    leads = w.beats(w.EIGHT, 300)
    muse = w.muse(leads)
    refused(tmp_path, "cut.xml", muse[: len(muse) // 2], "XML is cut short")
    refused(tmp_path, "crc.xml", muse.replace(b"<LeadDataCRC32>", b"<LeadDataCRC32>1"), "checksum of lead I")
    refused(tmp_path, "median.xml", w.muse({}, median=leads), "no rhythm waveform")
    refused(tmp_path, "unit.xml", w.muse(leads, unit="LITRES"), "no voltage")
    refused(tmp_path, "base.xml", muse.replace(b"<WaveFormData>\n", b"<WaveFormData>\n*"), "Base64")
    aecg = w.aecg(w.aecg_set(leads))
    refused(tmp_path, "digits.xml", aecg.replace(b"<digits>", b"<digits>x "), "damaged")
    refused(tmp_path, "time.xml", aecg.replace(b"0.002", b"fast"), "increment", "fast")
    refused(tmp_path, "beat.xml", w.aecg(derived=w.aecg_set(leads)), "no rhythm series")
    twelve = w.beats(w.TWELVE, 300)
    refused(tmp_path, "lzw.xml", w.philips(twelve, compression="ZIP"), "packed as 'ZIP'")
    refused(tmp_path, "few.xml", w.philips(twelve).replace(b'durationperchannel="600"', b'durationperchannel="900"'), "cut short")
    refused(tmp_path, "link.xml", w.philips(twelve).replace(b"parsedwaveforms", b"unparsedwaveforms"), "holds no waveform")


@pytest.mark.parametrize("kind", ["muse", "aecg", "philips"])
def test_entities_and_endless_xml_are_refused(tmp_path, kind):
    leads = w.beats(w.TWELVE, 100)
    data = {"muse": w.muse(leads), "aecg": w.aecg(w.aecg_set(leads)), "philips": w.philips(leads)}[kind]
    root = {"muse": b"RestingECG", "aecg": b"AnnotatedECG", "philips": b"restingecgdata"}[kind]
    body = data[data.index(b"<" + root) :]
    laughs = b"".join(b'<!ENTITY a%d "%s">' % (n + 1, b"&a%d;" % n * 10) for n in range(9))
    bomb = b'<!DOCTYPE x [<!ENTITY a0 "ha">' + laughs + b"]>" + body.replace(b"</" + root, b"&a9;</" + root)
    refused(tmp_path, "bomb.xml", bomb, "entities")
    secret = b'<!DOCTYPE x [<!ENTITY s SYSTEM "file:///etc/passwd">]>' + body.replace(b"</" + root, b"&s;</" + root)
    refused(tmp_path, "secret.xml", secret, "entities")
    refused(
        tmp_path, "deep.xml", body.replace(b"</" + root, b"<a>" * 5000 + b"</a>" * 5000 + b"</" + root), "too many XML elements"
    )
    refused(tmp_path, "wide.xml", body.replace(b"</" + root, b"<a/>" * 600_000 + b"</" + root), "too many XML elements")


# Real files.


def test_the_same_recording_as_aecg_and_scp(test_data):
    aecg = read_ecg(test_data / "ecg_aecg" / "fda_hl7_Example_aECG.xml")
    scp = read_ecg(test_data / "ecg_scp" / "Example.scp")
    assert aecg.rate_hz == scp.rate_hz == 500
    assert aecg.lead_names == scp.lead_names
    for name in ("I", "II", "III", "V1", "V2", "V3", "V4", "V5", "V6"):
        np.testing.assert_allclose(aecg.lead(name), scp.lead(name), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("file", "format_name", "rate", "seconds", "bpm"),
    [
        ("ecg_aecg/fda_hl7_Example_aECG.xml", "HL7 aECG", 500, 10, 71.3),
        ("ecg_aecg/liryc_hl7aecg_example.xml", "HL7 aECG", 100, 10, None),
        ("ecg_scp/Example.scp", "SCP-ECG", 500, 10, 71.3),
        ("ecg_muse/braveheart_example1.xml", "MUSE XML", 500, 10, 48.2),
        ("ecg_muse/braveheart_example2.xml", "MUSE XML", 500, 10, 62.1),
        ("ecg_philips/129DYPRG.XML", "Philips XML", 500, 11, 40.6),
        ("ecg_philips/2020-5-18_15-48-11.xml", "Philips XML", 500, 11, 63.4),
    ],
)
def test_real_files(test_data, file, format_name, rate, seconds, bpm):
    info = ecg_info(test_data / file)
    assert (info.format, info.rate_hz, info.duration_s) == (format_name, rate, seconds)
    assert set(info.lead_names) == set(w.TWELVE)
    ecg = read_ecg(test_data / file)
    part = read_ecg(test_data / file, start_s=3.0, seconds=2.0)
    np.testing.assert_array_equal(part.signal_mv, ecg.between(3.0, 5.0).signal_mv)
    if bpm is None:
        with pytest.raises(InputError, match="QRS"):
            find_landmarks(ecg)
    else:
        np.testing.assert_allclose(ecg.lead("III"), ecg.lead("II") - ecg.lead("I"), atol=0.016)
        r_s = find_landmarks(ecg).r_s
        assert 60 / np.median(np.diff(r_s)) == pytest.approx(bpm, rel=0.02)
