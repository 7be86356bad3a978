"""The user document: what it is written as, and that nothing else is ever read as one."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import secrets
import zlib
from typing import Any

import msgspec
import pytest
from documents import DAY, MINUTE, NOW, with_sessions
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jwtguard.document import (
    MAX_BYTES,
    MAX_RETIRED,
    MAX_SESSIONS,
    MAX_TOMBSTONES,
    Document,
    Reason,
    Retired,
    SessionRecord,
    Tombstone,
    decode,
    document_key,
    encode,
    everyone_key,
)
from jwtguard.errors import DocumentDamaged, StoreUnavailable

times = st.integers(0, 2**50)
generations = st.integers(1, 10**9)
ids = st.binary(min_size=16, max_size=16)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
addresses = (
    texts | st.ip_addresses().map(str) | st.just("::ffff:192.0.2.1") | st.sampled_from(["2001:DB8::1", "1.2.3.04", "::\0"])
)
subjects = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)

sessions = st.builds(
    SessionRecord,
    id=ids,
    opened_at=times,
    authenticated_at=times,
    seen_at=times,
    expires_at=times,
    generation=generations,
    rotated_at=times,
    key_id=texts | st.just("keyid-01"),
    used=st.booleans(),
    retired=st.lists(st.builds(Retired, generations, times), max_size=MAX_RETIRED).map(tuple),
    scopes=st.lists(texts, max_size=4).map(tuple) | st.just(("read", "write")),
    device=texts,
    ip=addresses,
)
tombstones = st.builds(Tombstone, ids, st.sampled_from(Reason), times)
documents = st.builds(
    Document,
    format=st.just(1),
    subject=subjects,
    clock=times,
    not_before=times,
    sessions=st.lists(sessions, max_size=5).map(tuple),
    tombstones=st.lists(tombstones, max_size=MAX_TOMBSTONES).map(tuple),
)


def realistic(count: int = 3) -> Document:
    """A user's sessions as they are after some days of use."""
    found = []
    for index in range(count):
        opened = NOW + index * 5 * DAY
        session = SessionRecord(
            id=secrets.token_bytes(16),
            opened_at=opened,
            authenticated_at=opened,
            seen_at=opened + 2 * DAY,
            expires_at=opened + 32 * DAY,
            generation=57,
            rotated_at=opened + 2 * DAY - 10 * MINUTE,
            key_id="Zm9vYmFy",
            used=True,
            retired=(Retired(56, opened + 2 * DAY - 10 * MINUTE),),
            scopes=("read", "write"),
            device="Firefox on Windows",
            ip="203.0.113.177",
        )
        found.append(session)
    stones = (Tombstone(secrets.token_bytes(16), Reason.REVOKED, NOW + 30 * DAY),)
    return Document(1, "alice@example.com", NOW + 15 * DAY, NOW, tuple(found), stones)


def sealed(body: bytes) -> bytes:
    """What passes for a document as far as the checksum goes."""
    return body + zlib.crc32(body).to_bytes(4, "big")


def as_wire(document: Document, **fields: Any) -> bytes:
    """A document whose fields, as they are on the wire, are others."""
    names = ["format", "subject", "clock", "not_before", "sessions", "tombstones"]
    wire = dict(zip(names, msgspec.msgpack.decode(encode(document)[:-4]), strict=True)) | fields
    return sealed(msgspec.msgpack.encode(list(wire.values())))


# -- there and back --------------------------------------------------------------------------------------------------------


@given(documents)
def test_decode_gives_what_was_encoded(document: Document) -> None:
    assert decode(encode(document), document.subject) == document


WRITTEN = Document(
    format=1,
    subject="alice",
    clock=NOW + 1000,
    not_before=NOW + 400,
    sessions=(
        SessionRecord(
            id=bytes(range(16)),
            opened_at=NOW,
            authenticated_at=NOW - 7,
            seen_at=NOW + 60,
            expires_at=NOW + 5000,
            generation=3,
            rotated_at=NOW + 50,
            key_id="key",
            used=True,
            retired=(Retired(2, NOW + 49),),
            scopes=("read",),
            device="curl",
            ip="::1",
        ),
        SessionRecord(
            id=bytes(range(1, 17)),
            opened_at=NOW + 100,
            authenticated_at=NOW + 100,
            seen_at=NOW + 100,
            expires_at=NOW + 5050,
            generation=1,
            rotated_at=NOW + 100,
            key_id="key",
            used=False,
            retired=(),
            scopes=("read",),
            device="",
            ip="",
        ),
    ),
    tombstones=(Tombstone(bytes(16), Reason.REUSED, NOW + 3000),),
)
WIRE = [
    *(
        1,
        "alice",
        NOW + 1000,
        600,
    ),  # times: to the clock, the opening, the rotation (twice), the opening; of the retired, to the rotation
    [
        [bytes(range(16)), 1000, -7, 10, 4950, 3, 50, "key", True, [1, 1], ["read"], "curl", [bytes(15) + b"\x01"]],
        [bytes(range(1, 17)), 900, 0, 0, None, 1, 0, None, False, [], None, "", ""],
    ],
    [[bytes(16), 4, 2000]],
]


def test_what_is_on_the_wire() -> None:
    """Changing this is a new format: documents outlive the release that wrote them."""
    assert encode(WRITTEN) == sealed(msgspec.msgpack.encode(WIRE))
    assert decode(sealed(msgspec.msgpack.encode(WIRE)), "alice") == WRITTEN
    assert {reason.name: reason.value for reason in Reason} == {
        "UNKNOWN": 0,
        "REVOKED": 1,
        "EVICTED": 2,
        "EXPIRED": 3,
        "REUSED": 4,
    }


@pytest.mark.parametrize("ip", ["203.0.113.7", "2001:db8::1", "::ffff:192.0.2.1", "255.255.255.255"])
def test_an_address_is_kept_in_few_bytes(ip: str) -> None:
    [session] = realistic(1).sessions
    without, with_it = (len(encode(replace(realistic(0), sessions=(replace(session, ip=text),)))) for text in ("", ip))
    assert with_it - without == (18 if ":" in ip else 4)


@pytest.mark.parametrize(
    "ip", ["203.0.113.007", "2001:DB8::1", "[::1]", "fe80::1%eth0", "unix:", "1.2.3", "::\0", "\0", "é"]
)
def test_what_is_no_address_in_its_usual_form_is_kept_as_it_is(ip: str) -> None:
    document = replace(realistic(1), sessions=(replace(realistic(1).sessions[0], ip=ip),))
    assert decode(encode(document), document.subject).sessions[0].ip == ip


def test_documents_are_never_changed_but_replaced() -> None:
    for record in (WRITTEN, WRITTEN.sessions[0], WRITTEN.sessions[0].retired[0], WRITTEN.tombstones[0]):
        with pytest.raises(AttributeError):
            setattr(record, record.__struct_fields__[0], None)


def test_the_bounds_are_those_that_the_guarantees_name() -> None:
    assert (MAX_BYTES, MAX_SESSIONS, MAX_TOMBSTONES, MAX_RETIRED) == (65_536, 1_000, 16, 4)


def test_nothing_stored_is_the_empty_document() -> None:
    document = decode(None, "alice")
    assert document == Document.empty("alice")
    assert (document.sessions, document.tombstones, document.clock, document.not_before) == ((), (), 0, 0)


def test_find_and_why_ended() -> None:
    document = realistic()
    assert document.find(document.sessions[1].id) is document.sessions[1]
    assert document.find(b"?" * 16) is None
    assert document.remembered_reason(document.tombstones[0].id) is Reason.REVOKED
    assert document.remembered_reason(b"?" * 16) is Reason.UNKNOWN


def test_reuse_is_revoked_to_everybody_who_does_not_ask_for_it() -> None:
    stone = Tombstone(b"s" * 16, Reason.REUSED, NOW)
    document = replace(Document.empty("alice"), tombstones=(stone,))
    assert document.remembered_reason(stone.id) is Reason.REVOKED
    assert document.was_reused(stone.id)
    assert not realistic().was_reused(stone.id)


def test_a_session_takes_less_than_a_hundred_bytes() -> None:
    three, none = len(encode(realistic(3))), len(encode(realistic(0)))
    assert (three - none) / 3 <= 80
    assert three <= 3 * 80 + 80


def test_C58_no_field_of_a_document_can_hold_a_token() -> None:
    """By its fields: ids, times, numbers, flags, the key's name, scopes and the device are all that there is."""
    assert SessionRecord.__struct_fields__ == (
        "id",
        "opened_at",
        "authenticated_at",
        "seen_at",
        "expires_at",
        "generation",
        "rotated_at",
        "key_id",
        "used",
        "retired",
        "scopes",
        "device",
        "ip",
    )
    assert Document.__struct_fields__ == ("format", "subject", "clock", "not_before", "sessions", "tombstones")
    assert Tombstone.__struct_fields__ == ("id", "reason", "until")
    assert Retired.__struct_fields__ == ("generation", "at")


# -- damage ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample() -> bytes:
    return encode(realistic())


def test_every_truncation_is_damage(sample: bytes) -> None:
    for length in range(len(sample)):
        with pytest.raises(DocumentDamaged):
            decode(sample[:length], "alice@example.com")
        with pytest.raises(DocumentDamaged):
            decode(sample[length + 1 :], "alice@example.com")


def test_every_changed_byte_is_damage(sample: bytes) -> None:
    for index in range(len(sample)):
        for flip in (0x01, 0x10, 0x80, 0xFF):
            damaged = bytearray(sample)
            damaged[index] ^= flip
            with pytest.raises(DocumentDamaged):
                decode(bytes(damaged), "alice@example.com")


def test_every_change_that_keeps_the_checksum_right_gives_a_document_or_is_damage(sample: bytes) -> None:
    """Whoever wrote it: what decoding lets through can be written again, and is this user's."""
    body = sample[:-4]
    for index in range(len(body)):
        for value in (0x00, 0x01, 0x7F, 0x80, 0x90, 0xA0, 0xC0, 0xC2, 0xCB, 0xCF, 0xD3, 0xDD, 0xDF, 0xFF):
            changed = body[:index] + bytes([value]) + body[index + 1 :]
            try:
                document = decode(sealed(changed), "alice@example.com")
            except DocumentDamaged:
                continue
            assert document.subject == "alice@example.com"
            assert decode(encode(document), document.subject) == document


@given(st.binary(max_size=200))
def test_noise_is_damage(noise: bytes) -> None:
    for data in (noise, sealed(noise)):
        with pytest.raises(DocumentDamaged):
            decode(data, "alice")


BOMBS = {
    "empty": b"",
    "zeros": b"\0" * 64,
    "nil": sealed(b"\xc0"),
    "a map": sealed(b"\x80"),
    "fewer fields": sealed(b"\x92\x01\xa5alice"),
    "more fields": sealed(b"\x97\x01\xa5alice\x00\x00\x90\x90\x90"),
    "trailing bytes": sealed(b"\x96\x01\xa5alice\x00\x00\x90\x90\x00"),
    "nested arrays": sealed(b"\x96\x01\xa5alice\x00\x00" + b"\x91" * 1_000_000),
    "nested arrays from the start": sealed(b"\x91" * 1_000_000),
    "nested maps": sealed(b"\x81\x00" * 500_000),
    "an array of four thousand million": sealed(b"\x96\x01\xa5alice\x00\x00\xdd\xff\xff\xff\xff"),
    "a text of four thousand million bytes": sealed(b"\x96\x01\xdb\xff\xff\xff\xffalice"),
    "not UTF-8": sealed(b"\x96\x01\xa5alic\xff\x00\x00\x90\x90"),
    "a float for a clock": sealed(b"\x96\x01\xa5alice\xcb\x7f\xf0\0\0\0\0\0\0\x00\x90\x90"),
    "a clock beyond all years": sealed(b"\x96\x01\xa5alice\xcf" + b"\xff" * 8 + b"\x00\x90\x90"),
    "megabytes": b"\x96\x01\xa5alice\x00\x00\x90\x90" * 500_000,
    "text": b'{"sessions": []}',
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_what_is_no_document_is_damage(data: bytes) -> None:
    with pytest.raises(DocumentDamaged):
        decode(data, "alice")


def test_the_sample_of_the_bombs_is_itself_a_document() -> None:
    assert decode(sealed(b"\x96\x01\xa5alice\x00\x00\x90\x90"), "alice") == Document.empty("alice")


def test_another_users_document_is_damage(sample: bytes) -> None:
    for subject in ("bob", "", "alice@example.co", "Alice@example.com", "alice@example.com "):
        with pytest.raises(DocumentDamaged):
            decode(sample, subject)


def test_another_format_is_damage() -> None:
    with pytest.raises(DocumentDamaged):
        decode(as_wire(realistic(), format=2), "alice@example.com")


def test_more_of_anything_than_there_can_be_is_damage() -> None:
    document = realistic(1)
    _, _, _, _, [session], [stone] = msgspec.msgpack.decode(encode(document)[:-4])
    for fields in (
        {"sessions": [session] * (MAX_SESSIONS + 1)},
        {"tombstones": [stone] * (MAX_TOMBSTONES + 1)},
        {"sessions": [[*session[:9], [1, 0] * (MAX_RETIRED + 1), *session[10:]]]},
        {"sessions": [[*session, 0]]},
        {"sessions": [[*session[:9], [1, 0, 0], *session[10:]]]},
        {"tombstones": [[*stone, 0]]},
        {"sessions": [[b"short", *session[1:]]]},
        {"sessions": [[*session[:5], 0, *session[6:]]]},
        {"tombstones": [[stone[0], 9, stone[2]]]},
        {"not_before": 2**60},
        {"sessions": [[*session[:4], None, *session[5:]]]},
        {"sessions": [[*session[:7], None, *session[8:]]]},
        {"sessions": [[*session[:10], None, *session[11:]]]},
        {"sessions": [[*session[:12], 2**32]]},
        {"sessions": [[*session[:12], -1]]},
        {"sessions": [[*session[:12], []]]},
        {"sessions": [[*session[:12], [b"i" * 4]]]},
        {"sessions": [[*session[:12], [b"i" * 16] * 2]]},
    ):
        with pytest.raises(DocumentDamaged):
            decode(as_wire(document, **fields), "alice@example.com")
    assert decode(as_wire(document), "alice@example.com") == document


def test_damage_is_an_outage_and_never_an_absence() -> None:
    """So it is answered with 503, and the cause is for the log."""
    assert issubclass(DocumentDamaged, StoreUnavailable)
    with pytest.raises(DocumentDamaged) as caught:
        decode(sealed(b"\x96\x01\xa5alice"), "alice")
    assert isinstance(caught.value.__cause__, msgspec.MsgspecError)
    assert "alice" not in str(caught.value)


# -- keys ------------------------------------------------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: len(text.encode()) <= 255)
near = st.text("ab:{}%/\\*_e" + "u\x01\x02é", min_size=1, max_size=6)
pairs = st.tuples(names | near, names | near)


@given(pairs, pairs)
def test_C28_C29_keys_are_injective(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (document_key(*one) == document_key(*other)) == (one == other)


@given(pairs, names | near)
def test_no_users_key_is_that_of_everyone(user: tuple[str, str], issuer: str) -> None:
    assert document_key(*user) != everyone_key(issuer)
    assert len(document_key(*user)) <= 513


def test_keys_are_neither_folded_nor_normalised_nor_shifted() -> None:
    alike = [
        ("jwtguard", "alice"),
        ("jwtguard", "Alice"),
        ("jwtguarda", "lice"),
        ("jwtguar", "dalice"),
        ("jwtguard", "alice "),
        ("jwtguard", "é"),
        ("jwtguard", "e\u0301"),
        ("jwtguard", "{alice}"),
        ("jwtguard", "\u212a"),
        ("jwtguard", "K"),
        ("jwtguard", "k"),
    ]
    assert len({document_key(issuer, subject) for issuer, subject in alike}) == len(alike)


def test_the_longest_key_fits() -> None:
    assert len(document_key("i" * 255, "s" * 255)) == 512


def test_a_document_of_many_sessions_comes_back_whole() -> None:
    document = with_sessions(*range(1, 90), apart=1000)
    assert decode(encode(document), "alice") == document
